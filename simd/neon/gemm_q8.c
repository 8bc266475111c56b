/* gemm_q8.c - q8 weights with NEON. Contract: simd/kernels.h and quant/q8.h. */
#ifndef __aarch64__
#error "compile for 64-bit ARM"
#endif
#include "simd/kernels.h"
#include "simd/neon/mull.h"

crl_gemm_q_fn crl_gemm_q8_neon;

void crl_gemm_q8_neon(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                      size_t hi)
{
    panels(y, y_stride, x, m, w, lo, hi, fill_q8, mull_rows, Q8_SPAN);
}
