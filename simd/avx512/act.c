/* act.c - int8 activations with AVX-512: the same bits as quant/act.c. */
#ifndef __AVX512BW__
#error "compile with the AVX512 flags"
#endif
#include "simd/kernels.h"
#include "simd/x86.h"

#include <math.h>
#include <string.h>

crl_act_row_fn crl_act_row_avx512;

/* 16 values, zero beyond n. */
CRL_INLINE __m512 load16(const float *x, size_t n)
{
    return _mm512_maskz_loadu_ps(n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1), x);
}

/* Largest magnitude of n values, NaN if there is one. */
CRL_INLINE float max_abs(const float *x, size_t n)
{
    __m512 big = _mm512_setzero_ps();
    __mmask16 nan = 0;

    for (size_t j = 0; j < n; j += 16) {
        __m512 v = load16(x + j, n - j);
        big = _mm512_max_ps(big, _mm512_abs_ps(v));
        nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    }
    return nan ? NAN : _mm512_reduce_max_ps(big);
}

/* 32 codes of n values, zero beyond, and -128 times their sum. */
CRL_INLINE int32_t codes(int8_t *q, const float *x, size_t n, float inv)
{
    __m512i lo = _mm512_cvtps_epi32(_mm512_mul_ps(load16(x, n), _mm512_set1_ps(inv)));
    __m512i hi = n > 16 ? _mm512_cvtps_epi32(_mm512_mul_ps(load16(x + 16, n - 16), _mm512_set1_ps(inv)))
                        : _mm512_setzero_si512();

    _mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(lo));
    _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(hi));
    return -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(lo, hi));
}

void crl_act_row_avx512(const struct crl_act *a, size_t i, const float *x, size_t k)
{
    int8_t *q = a->q + i * a->k_pad;
    float *scale = a->scale + i * a->n_span;
    int32_t *bias = a->bias + i * (a->k_pad / CRL_BLOCK);

    for (size_t s = 0; s < a->n_span; s++) {
        size_t at = s * a->span, end = at + a->span < a->k_pad ? at + a->span : a->k_pad, n = k > at ? k - at : 0;
        float big = max_abs(x + at, n < a->span ? n : a->span), inv;

        scale[s] = big / 127;
        inv = scale[s] > 0 && scale[s] < INFINITY ? 127 / big : 0;
        if (!(inv > 0 && inv < INFINITY)) {
            memset(q + at, 0, end - at);
            for (; at < end; at += CRL_BLOCK) bias[at / CRL_BLOCK] = 0;
            continue;
        }
        for (; at < end; at += CRL_BLOCK)
            bias[at / CRL_BLOCK] = k > at ? codes(q + at, x + at, k - at < CRL_BLOCK ? k - at : CRL_BLOCK, inv)
                                          : codes(q + at, x, 0, inv);
    }
}
