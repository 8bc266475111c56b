bin_PROGRAMS += corral
corral_SOURCES = %D%/main.c %D%/cli.c %D%/cli.h %D%/commands.h %D%/progress.c %D%/progress.h %D%/show.c %D%/show.h \
    %D%/cmd_convert.c %D%/cmd_info.c %D%/cmd_verify.c
corral_LDADD = $(CORRAL_LIBS) $(LIBRARIES_USED)
