# One convenience library per level: the level's flags reach its files and no others.
noinst_LTLIBRARIES += %D%/libsimd.la
CORRAL_LIBS += %D%/libsimd.la
%C%_libsimd_la_SOURCES = %D%/act_row.h %D%/arm.h %D%/exp.h %D%/gelu.h %D%/kernels.def %D%/kernels.h %D%/probe.c %D%/probe.h \
    %D%/scalar/float.c %D%/select.c %D%/x86.h
%C%_libsimd_la_LIBADD =
EXTRA_DIST += %D%/avx2/rows.h %D%/avx2/tile.h %D%/avx512/rows.h %D%/avx512vnni/product.h %D%/avx512vnni/tile.h
EXTRA_DIST += %D%/dotprod/tile.h %D%/i8mm/tile.h %D%/neon/int8.h %D%/neon/mull.h %D%/neon/tile.h

if HAVE_AVX2
noinst_LTLIBRARIES += %D%/libavx2.la
%C%_libsimd_la_LIBADD += %D%/libavx2.la
%C%_libavx2_la_SOURCES = %D%/avx2/act.c %D%/avx2/float.c %D%/avx2/gemm_bf16.c %D%/avx2/gemm_q4.c %D%/avx2/gemm_q8.c \
    %D%/avx2/pack_q4.c %D%/avx2/pack_q8.c %D%/avx2/probe.c
%C%_libavx2_la_CFLAGS = $(AM_CFLAGS) $(AVX2_CFLAGS)
endif

if HAVE_AVX512
noinst_LTLIBRARIES += %D%/libavx512.la
%C%_libsimd_la_LIBADD += %D%/libavx512.la
%C%_libavx512_la_SOURCES = %D%/avx512/act.c %D%/avx512/float.c %D%/avx512/gemm_bf16.c %D%/avx512/pack_q4.c \
    %D%/avx512/pack_q8.c %D%/avx512/probe.c
%C%_libavx512_la_CFLAGS = $(AM_CFLAGS) $(AVX512_CFLAGS)
endif

if HAVE_AVX512_VNNI
noinst_LTLIBRARIES += %D%/libavx512vnni.la
%C%_libsimd_la_LIBADD += %D%/libavx512vnni.la
%C%_libavx512vnni_la_SOURCES = %D%/avx512vnni/gemm_q4.c %D%/avx512vnni/gemm_q8.c %D%/avx512vnni/probe.c
%C%_libavx512vnni_la_CFLAGS = $(AM_CFLAGS) $(AVX512_VNNI_CFLAGS)
endif

if HAVE_AVX512_BF16
noinst_LTLIBRARIES += %D%/libavx512bf16.la
%C%_libsimd_la_LIBADD += %D%/libavx512bf16.la
%C%_libavx512bf16_la_SOURCES = %D%/avx512bf16/cache_bf16.c %D%/avx512bf16/probe.c
%C%_libavx512bf16_la_CFLAGS = $(AM_CFLAGS) $(AVX512_BF16_CFLAGS)
endif

if HAVE_AMX
noinst_LTLIBRARIES += %D%/libamx.la
%C%_libsimd_la_LIBADD += %D%/libamx.la
%C%_libamx_la_SOURCES = %D%/amx/gemm.c %D%/amx/ops.h %D%/amx/probe.c
%C%_libamx_la_CFLAGS = $(AM_CFLAGS) $(AMX_CFLAGS)
endif

if HAVE_NEON
noinst_LTLIBRARIES += %D%/libneon.la
%C%_libsimd_la_LIBADD += %D%/libneon.la
%C%_libneon_la_SOURCES = %D%/neon/act.c %D%/neon/float.c %D%/neon/gemm_bf16.c %D%/neon/gemm_f32.c %D%/neon/gemm_q4.c \
    %D%/neon/gemm_q8.c %D%/neon/probe.c
%C%_libneon_la_CFLAGS = $(AM_CFLAGS) $(NEON_CFLAGS)
endif

if HAVE_DOTPROD
noinst_LTLIBRARIES += %D%/libdotprod.la
%C%_libsimd_la_LIBADD += %D%/libdotprod.la
%C%_libdotprod_la_SOURCES = %D%/dotprod/gemm_q4.c %D%/dotprod/gemm_q8.c %D%/dotprod/probe.c
%C%_libdotprod_la_CFLAGS = $(AM_CFLAGS) $(DOTPROD_CFLAGS)
endif

if HAVE_I8MM
noinst_LTLIBRARIES += %D%/libi8mm.la
%C%_libsimd_la_LIBADD += %D%/libi8mm.la
%C%_libi8mm_la_SOURCES = %D%/i8mm/gemm_q4.c %D%/i8mm/gemm_q8.c %D%/i8mm/probe.c
%C%_libi8mm_la_CFLAGS = $(AM_CFLAGS) $(I8MM_CFLAGS)
endif
