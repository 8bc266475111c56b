noinst_LTLIBRARIES += %D%/libstore.la
CORRAL_LIBS += %D%/libstore.la
%C%_libstore_la_SOURCES = %D%/config.c %D%/config.h %D%/cost.c %D%/layout.c %D%/layout.h %D%/load.c %D%/load.h \
    %D%/pack.c %D%/pack.h %D%/packer.c %D%/plan.c %D%/plan.h %D%/plan_impl.h %D%/recipe.c %D%/routing.c \
    %D%/schema.c %D%/schema.h
%C%_libstore_la_SOURCES += %D%/calib.c %D%/calib.h
