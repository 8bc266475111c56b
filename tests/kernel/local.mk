# checkkern: every kernel this machine can run against the scalar one (docs/kernels.md).
check_PROGRAMS += %D%/checkkern
TESTS += %D%/checkkern
%C%_checkkern_SOURCES = %D%/checkkern.c %D%/checkkern.h %D%/check_act.c %D%/check_float.c %D%/check_gemm.c \
    %D%/check_pack.c
%C%_checkkern_LDADD = $(AMX_MODEL) simd/libsimd.la quant/libquant.la src/base/libbase.la $(LIBRARIES_USED)

# The AMX kernels on a C model of the tiles: run wherever AVX-512 VNNI is, tiles or not.
AMX_MODEL =
if HAVE_AMX
AMX_MODEL += %D%/libamx_model.la
check_LTLIBRARIES += %D%/libamx_model.la
%C%_libamx_model_la_SOURCES = %D%/amx_model.c
%C%_libamx_model_la_CFLAGS = $(AM_CFLAGS) $(AVX512_VNNI_CFLAGS)
endif
