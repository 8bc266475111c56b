/* gemm_q8.c - q8 weights with vpdpbusd. Contract: simd/kernels.h and quant/q8.h. */
#ifndef __AVX512VNNI__
#error "compile with the AVX512_VNNI flags"
#endif
#include "simd/avx512vnni/product.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q8_avx512vnni;

void crl_gemm_q8_avx512vnni(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                            size_t lo, size_t hi)
{
    product(y, y_stride, x, m, w, lo, hi, _mm512_set1_epi8((char)0x80), CRL_Q8);
}
