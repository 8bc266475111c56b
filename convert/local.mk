noinst_LTLIBRARIES += %D%/libconvert.la
CORRAL_LIBS += %D%/libconvert.la
%C%_libconvert_la_SOURCES = %D%/checkpoint.c %D%/checkpoint.h %D%/convert.c %D%/convert.h %D%/crew.c %D%/crew.h \
    %D%/hfconfig.c %D%/hfconfig.h %D%/info.c %D%/info.h %D%/safetensors.c %D%/safetensors.h %D%/sections.c %D%/sections.h \
    %D%/slab.c %D%/slab.h %D%/verify.c %D%/verify.h
