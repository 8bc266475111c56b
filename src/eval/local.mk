noinst_LTLIBRARIES += %D%/libeval.la
CORRAL_LIBS += %D%/libeval.la
%C%_libeval_la_SOURCES = %D%/result.c %D%/result.h
