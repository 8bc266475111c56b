/* kernels.h - the operations that have kernels per instruction set, their contracts, and the choice between them.
 *
 * A kernel is single-threaded, allocates nothing and cannot fail. Entry 0 of every operation is the scalar C of
 * quant/, which is the specification. simd/kernels.def has one row per kernel; docs/kernels.md tells how to add one.
 *
 * crl_simd_select picks, once, the last row of each operation that is built in, that the processor has and the
 * operating system allows, and that the mask lets through. The table is const and passed on. */
#ifndef CRL_SIMD_KERNELS_H
#define CRL_SIMD_KERNELS_H

#include "quant/act.h"
#include "quant/mat.h"
#include "quant/q4.h"

/* Named bundles of instructions, weakest first within an architecture. A level includes what its kernels need, nothing
 * is implied by order. All architectures share the enum, so that a name means the same everywhere; a machine never has
 * levels of two, so a mask of "this and everything weaker" may hold bits of the other without effect. */
enum crl_level {
    CRL_SCALAR,
    CRL_AVX2,        /* AVX2, FMA, F16C */
    CRL_AVX512,      /* AVX-512 F, BW, DQ, VL */
    CRL_AVX512_VNNI, /* and VNNI */
    CRL_AVX512_BF16, /* and BF16: products of bf16 pairs */
    CRL_AMX,         /* and AMX tiles of int8, with the kernel's permission to use them */
    CRL_NEON,        /* Advanced SIMD, which every 64-bit ARM with an operating system has */
    CRL_DOTPROD,     /* and FEAT_DotProd: sdot */
    CRL_I8MM,        /* and FEAT_I8MM: smmla */
    CRL_LEVEL_END
};

/* Quantise row x[k] into row i of a, with a's span: crl_act_row_scalar bit for bit. */
typedef void crl_act_row_fn(const struct crl_act *a, size_t i, const float *x, size_t k);

/* y[i * y_stride + r] = x[i] . w[r] for the m rows of x and panels [lo, hi) of w; all 16 rows of each panel are
 * written, so y_stride >= 16 * hi. For one kernel the result of a row does not depend on m, lo or hi. */
typedef void crl_gemm_q_fn(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                           size_t lo, size_t hi);

/* The same for float x, readable and 0 up to k_pad: gemm_bf16 with bf16 panels, gemm_f32 with panels of float,
 * [k_pad][16] each (the float32 key/value cache). */
typedef void crl_gemm_f_fn(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m,
                           const struct crl_mat *w, size_t lo, size_t hi);

/* Quantise one panel: crl_q4_pack and crl_q8_pack byte for byte, the count of non-finite weights too. */
typedef size_t crl_pack_q4_fn(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16],
                              const struct crl_q4_guide *guide);
typedef size_t crl_pack_q8_fn(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k);

/* out[i] = x[i] / sqrt(mean of x^2 + eps) * weight[i]; weight NULL: without. out may be x. Squares are summed in 16
 * lanes, x[i] in lane i % 16, fused, and the lanes folded by halves. */
typedef void crl_rms_norm_fn(float *out, const float *x, const float *weight, size_t n, float eps);

/* 32 values up * silu(gate) of a tile of 64: gate 0 .. 15, up 0 .. 15, gate 16 .. 31, up 16 .. 31. */
typedef void crl_swiglu_fn(float *out, const float *tile);

/* gemm_bf16 for a block of the bf16 cache. The numbers in x are bf16 numbers too, so a level may multiply pairs of them;
 * denormal numbers, and results below 2^-126, may count as 0. */
typedef crl_gemm_f_fn crl_cache_bf16_fn;

/* Rotate n_pair pairs (x[2j], x[2j + 1]) by the angles whose cosine and sine are cs[2j] and cs[2j + 1]:
 * x[2j] = fma(a, c, -(b * s)), x[2j + 1] = fma(b, c, a * s). */
typedef void crl_rotate_fn(float *x, const float *cs, size_t n_pair);
/* out[i] = (x[i] - mean) / sqrt(mean of (x - mean)^2 + eps) * weight[i] + bias[i], the last product fused; out may be x.
 * Sums as in rms_norm, those of x unfused. */
typedef void crl_layer_norm_fn(float *out, const float *x, const float *weight, const float *bias, size_t n, float eps);

/* x[i] = gelu(x[i] + bias[i]), the exact form; bias NULL: without. simd/gelu.h. */
typedef void crl_gelu_fn(float *x, const float *bias, size_t n);

/* One step of an online softmax over n scores: *max becomes the larger of *max and all scale * s; s becomes
 * exp(scale * s - *max), rounded to bf16 if `bf16`; their sum is added to *sum, which is first multiplied by the factor
 * that is returned: exp(old *max - *max), or 0 at the first step (*sum 0). Sums in 16 lanes folded by halves.
 * simd/exp.h. */
typedef float crl_softmax_fn(float *s, size_t n, float scale, bool bf16, float *max, float *sum);

/* y[i][j] = fma(y[i][j], keep[i], x[i][j] * gain[i]) for m rows of n, a multiple of 16; gain NULL: all 1. */
typedef void crl_blend_fn(float *y, const float *x, const float *keep, const float *gain, size_t m, size_t n);

/* operation, type of its function */
#define CRL_SIMD_OPS(OP)              \
    OP(act_row, crl_act_row_fn)       \
    OP(gemm_q8, crl_gemm_q_fn)        \
    OP(gemm_q4, crl_gemm_q_fn)        \
    OP(gemm_bf16, crl_gemm_f_fn)      \
    OP(gemm_f32, crl_gemm_f_fn)       \
    OP(cache_bf16, crl_cache_bf16_fn) \
    OP(rms_norm, crl_rms_norm_fn)     \
    OP(swiglu, crl_swiglu_fn)         \
    OP(rotate, crl_rotate_fn)         \
    OP(softmax, crl_softmax_fn)       \
    OP(blend, crl_blend_fn)           \
    OP(layer_norm, crl_layer_norm_fn) \
    OP(gelu, crl_gelu_fn)             \
    OP(pack_q8, crl_pack_q8_fn)       \
    OP(pack_q4, crl_pack_q4_fn)

/* How a kernel is held against entry 0: the same bits, or an error bounded by the magnitudes summed. */
enum crl_tolerance { CRL_EXACT, CRL_DOT };

struct crl_kernels {
#define OP(op, type)          \
    type *op;                 \
    enum crl_level op##_level; /* the level this kernel is of */
    CRL_SIMD_OPS(OP)
#undef OP
};

#define CRL_LEVEL_ALL ((1u << CRL_LEVEL_END) - 1)

/* Bits of the levels this process may use (1u << level). The scalar level is always there. */
unsigned crl_simd_have(void);

/* Fill the table from levels in `mask` and crl_simd_have(). */
void crl_simd_select(struct crl_kernels *k, unsigned mask);

/* crl_panel_pack with the kernels of the table: the same bytes, sooner. guide: for Q4, else ignored; may be NULL. */
size_t crl_simd_panel_pack(const struct crl_kernels *kernels, enum crl_format f, void *panel,
                           const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16],
                           const struct crl_q4_guide *guide);

/* "scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx", "neon", "dotprod", "i8mm". */
const char *crl_level_name(enum crl_level level);

/* The mask for --isa NAME: NAME and everything weaker. CRL_EUNSUPPORTED when this machine has not got it, a level of
 * another architecture included; CRL_ERANGE when NAME is no level. The message lists what would do. */
enum crl_status crl_simd_mask(unsigned *mask, const char *name, struct crl_err *err);

/* The rows of kernels.def that are built in, for tests and listings. */
struct crl_kernel_row {
    const char *op;
    const char *name;
    enum crl_level level;
    enum crl_tolerance tolerance;
    void (*fn)(void); /* cast back to the operation's type */
};
const struct crl_kernel_row *crl_simd_rows(size_t *n);

#endif
