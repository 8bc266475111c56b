noinst_LTLIBRARIES += %D%/libvision.la
CORRAL_LIBS += %D%/libvision.la
%C%_libvision_la_SOURCES = %D%/image.c %D%/image.h %D%/tiles.c %D%/tiles.h %D%/tower.c %D%/tower.h
