noinst_LTLIBRARIES += %D%/libeval.la
CORRAL_LIBS += %D%/libeval.la
%C%_libeval_la_SOURCES = %D%/extract.c %D%/items.c %D%/items.h %D%/metrics.c %D%/metrics.h %D%/metrics_impl.h %D%/rows.c %D%/rows.h %D%/result.c %D%/result.h
