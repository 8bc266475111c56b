noinst_LTLIBRARIES += %D%/libbench.la
CORRAL_LIBS += %D%/libbench.la
%C%_libbench_la_SOURCES = %D%/bench.c %D%/bench.h %D%/kernels.c %D%/kernels.h %D%/machine.c %D%/machine.h \
    %D%/series.c %D%/series.h %D%/synthetic.c %D%/synthetic.h %D%/vision.c %D%/vision.h
