noinst_LTLIBRARIES += %D%/libeval.la
CORRAL_LIBS += %D%/libeval.la
%C%_libeval_la_SOURCES = %D%/extract.c %D%/metrics.c %D%/metrics.h %D%/metrics_impl.h %D%/result.c %D%/result.h
