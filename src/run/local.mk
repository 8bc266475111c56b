noinst_LTLIBRARIES += %D%/librun.la
CORRAL_LIBS += %D%/librun.la
%C%_librun_la_SOURCES = %D%/corral.h %D%/engine.c %D%/engine.h %D%/generate.c %D%/generate.h \
    %D%/picture.c %D%/picture.h %D%/routes.c %D%/routes.h %D%/sampler.c
