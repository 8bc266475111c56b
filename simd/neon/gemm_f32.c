/* gemm_f32.c - float panels times float activations with NEON. */
#ifndef __aarch64__
#error "compile for 64-bit ARM"
#endif
#include "simd/kernels.h"
#include "simd/neon/tile.h"

crl_gemm_f_fn crl_gemm_f32_neon;

CRL_INLINE void load2(float32x4_t w[2], const void *panel, int c)
{
    w[0] = vld1q_f32((const float *)panel + 4 * c);
    w[1] = vld1q_f32((const float *)panel + 16 + 4 * c);
}

void crl_gemm_f32_neon(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m, const struct crl_mat *w,
                       size_t lo, size_t hi)
{
    float_rows(y, y_stride, x, x_stride, m, w, lo, hi, 128, load2);
}
