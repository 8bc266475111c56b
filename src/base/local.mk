noinst_LTLIBRARIES += %D%/libbase.la
CORRAL_LIBS += %D%/libbase.la
%C%_libbase_la_SOURCES = %D%/bytes.h \
    %D%/cgroup.c %D%/cgroup.h %D%/file.c %D%/file.h %D%/hash.c %D%/hash.h %D%/json.c %D%/json.h %D%/mem.c %D%/mem.h \
    %D%/status.c %D%/status.h %D%/team.c %D%/team.h %D%/topo.c %D%/topo.h
