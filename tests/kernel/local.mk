# checkkern: every kernel this machine can run against the scalar one (docs/kernels.md).
check_PROGRAMS += %D%/checkkern
TESTS += %D%/checkkern
%C%_checkkern_SOURCES = %D%/checkkern.c %D%/checkkern.h %D%/check_act.c %D%/check_float.c %D%/check_gemm.c \
    %D%/check_pack.c
%C%_checkkern_LDADD = simd/libsimd.la quant/libquant.la src/base/libbase.la $(LIBRARIES_USED)
