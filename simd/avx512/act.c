/* act.c - int8 activations with AVX-512: the same bits as quant/act.c. */
#ifndef __AVX512BW__
#error "compile with the AVX512 flags"
#endif
#include "simd/kernels.h"
#include "simd/x86.h"

#include <math.h>
#include <string.h>

crl_act_row_fn crl_act_row_avx512;

/* 32 values as two registers, zero beyond n. */
CRL_INLINE void load32(__m512 v[2], const float *x, size_t n)
{
    __mmask16 m0 = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
    __mmask16 m1 = n >= 32 ? 0xffff : n > 16 ? (__mmask16)((1u << (n - 16)) - 1) : 0;

    v[0] = _mm512_maskz_loadu_ps(m0, x);
    v[1] = _mm512_maskz_loadu_ps(m1, x + (n > 16 ? 16 : 0));
}

void crl_act_row_avx512(const struct crl_act *a, size_t i, const float *x, size_t k)
{
    int8_t *q = a->q + i * a->k_pad;
    float *scale = a->scale + i * a->n_span;
    int32_t *bias = a->bias + i * (a->k_pad / CRL_BLOCK);

    _Static_assert(CRL_ACT_SPAN == 32, "one span is two registers");
    for (size_t b = 0; b < a->k_pad / CRL_BLOCK; b++) {
        size_t left = k > b * CRL_BLOCK ? k - b * CRL_BLOCK : 0;
        __m512 v[2];
        __m512i lo, hi;
        float big, inv;

        load32(v, x + (left ? b * CRL_BLOCK : 0), left);
        big = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v[0]), _mm512_abs_ps(v[1])));
        if (_mm512_cmp_ps_mask(v[0], v[1], _CMP_UNORD_Q)) big = NAN;
        scale[b] = big / 127;
        inv = scale[b] > 0 && scale[b] < INFINITY ? 127 / big : 0;
        if (!(inv > 0 && inv < INFINITY)) {
            memset(q + b * CRL_BLOCK, 0, CRL_BLOCK);
            bias[b] = 0;
            continue;
        }
        lo = _mm512_cvtps_epi32(_mm512_mul_ps(v[0], _mm512_set1_ps(inv)));
        hi = _mm512_cvtps_epi32(_mm512_mul_ps(v[1], _mm512_set1_ps(inv)));
        _mm_storeu_si128((__m128i *)(q + b * CRL_BLOCK), _mm512_cvtepi32_epi8(lo));
        _mm_storeu_si128((__m128i *)(q + b * CRL_BLOCK + 16), _mm512_cvtepi32_epi8(hi));
        bias[b] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(lo, hi));
    }
}
