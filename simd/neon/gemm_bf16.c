/* gemm_bf16.c - bf16 weights times float activations with NEON. */
#ifndef __aarch64__
#error "compile for 64-bit ARM"
#endif
#include "simd/kernels.h"
#include "simd/neon/tile.h"

crl_gemm_f_fn crl_gemm_bf16_neon;

CRL_INLINE void load2(float32x4_t w[2], const void *panel, int c)
{
    uint32x4_t v = vld1q_u32((const uint32_t *)panel + 4 * c);

    w[0] = vreinterpretq_f32_u32(vshlq_n_u32(v, 16));
    w[1] = vreinterpretq_f32_u32(vandq_u32(v, vdupq_n_u32(0xffff0000)));
}

void crl_gemm_bf16_neon(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m, const struct crl_mat *w,
                        size_t lo, size_t hi)
{
    float_rows(y, y_stride, x, x_stride, m, w, lo, hi, 64, load2);
}
