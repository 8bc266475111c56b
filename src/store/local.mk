noinst_LTLIBRARIES += %D%/libstore.la
CORRAL_LIBS += %D%/libstore.la
%C%_libstore_la_SOURCES = %D%/config.c %D%/config.h %D%/layout.c %D%/layout.h %D%/pack.c %D%/pack.h %D%/packer.c \
    %D%/plan.h %D%/recipe.c %D%/schema.c %D%/schema.h
