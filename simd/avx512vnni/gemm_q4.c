/* gemm_q4.c - q4 weights with a byte shuffle as table look-up and vpdpbusd. Contract: simd/kernels.h, quant/q4.h. */
#ifndef __AVX512VNNI__
#error "compile with the AVX512_VNNI flags"
#endif
#include "simd/avx512vnni/product.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q4_avx512vnni;

void crl_gemm_q4_avx512vnni(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                            size_t lo, size_t hi)
{
    __m128i level = _mm_xor_si128(_mm_loadu_si128((const __m128i *)w->level), _mm_set1_epi8((char)0x80));

    product(y, y_stride, x, m, w, lo, hi, _mm512_broadcast_i32x4(level), CRL_Q4);
    for (size_t p = lo; p < hi; p++) { /* row scales */
        __m512 unit = _mm512_load_ps(w->panel + p * w->panel_bytes);
        float *yp = y + p * CRL_PANEL_ROWS;

        for (size_t i = 0; i < m; i++)
            _mm512_storeu_ps(yp + i * y_stride, _mm512_mul_ps(_mm512_loadu_ps(yp + i * y_stride), unit));
    }
}
