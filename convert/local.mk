noinst_LTLIBRARIES += %D%/libconvert.la
CORRAL_LIBS += %D%/libconvert.la
%C%_libconvert_la_SOURCES = \
    %D%/safetensors.c %D%/safetensors.h
