noinst_LTLIBRARIES += %D%/libconvert.la
CORRAL_LIBS += %D%/libconvert.la
%C%_libconvert_la_SOURCES = %D%/checkpoint.c %D%/checkpoint.h %D%/hfconfig.c %D%/hfconfig.h \
    %D%/safetensors.c %D%/safetensors.h
