/* act.c - int8 activations with AVX-512: the same bits as quant/act.c. */
#ifndef __AVX512BW__
#error "compile with the AVX512 flags"
#endif
#include "simd/act_row.h"
#include "simd/kernels.h"
#include "simd/x86.h"

crl_act_row_fn crl_act_row_avx512;

static float max_abs(const float *x)
{
    __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);

    if (_mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q)) return NAN;
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
}

static int32_t codes(int8_t *q, const float *x, float inv)
{
    __m512i lo = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inv)));
    __m512i hi = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), _mm512_set1_ps(inv)));

    _mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(lo));
    _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(hi));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(lo, hi));
}

void crl_act_row_avx512(const struct crl_act *a, size_t i, const float *x, size_t k)
{
    crl_act_row_of(a, i, x, k, max_abs, codes);
}
