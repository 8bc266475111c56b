noinst_LTLIBRARIES += %D%/libmodel.la
CORRAL_LIBS += %D%/libmodel.la
%C%_libmodel_la_SOURCES = %D%/attention.c %D%/ffn.c %D%/forward.c %D%/forward.h %D%/kv.c %D%/kv.h %D%/model.c \
    %D%/model.h %D%/rope.c %D%/rope.h %D%/work.h
