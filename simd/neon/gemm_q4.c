/* gemm_q4.c - q4 weights with NEON, a byte table as look-up. Contract: simd/kernels.h and quant/q4.h. */
#ifndef __aarch64__
#error "compile for 64-bit ARM"
#endif
#include "simd/kernels.h"
#include "simd/neon/mull.h"

crl_gemm_q_fn crl_gemm_q4_neon;

void crl_gemm_q4_neon(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                      size_t hi)
{
    panels(y, y_stride, x, m, w, lo, hi, fill_q4, mull_rows, Q4_SPAN);
}
