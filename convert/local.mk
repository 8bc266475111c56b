noinst_LTLIBRARIES += %D%/libconvert.la
CORRAL_LIBS += %D%/libconvert.la
%C%_libconvert_la_SOURCES = %D%/bind.c %D%/checkpoint.c %D%/checkpoint.h %D%/ckpt_impl.h %D%/convert.c %D%/convert.h \
    %D%/crew.c %D%/crew.h %D%/export.c %D%/export.h %D%/feed.c %D%/feed.h %D%/guide.c %D%/guide.h %D%/hfconfig.c %D%/hfconfig.h %D%/info.c %D%/info.h %D%/keeper.c %D%/keeper.h %D%/meta.c %D%/pickle.c %D%/pickle.h \
    %D%/pth.c %D%/pth.h %D%/safetensors.c %D%/safetensors.h %D%/sections.c %D%/sections.h %D%/slab.c %D%/slab.h \
    %D%/stage.c %D%/stage.h %D%/verify.c %D%/verify.h %D%/zip.c %D%/zip.h
