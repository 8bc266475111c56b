/* pack_q8.c - q8 panels with AVX-512: the same bytes as crl_q8_pack, 16 rows at a time. */
#ifndef __AVX512BW__
#error "compile with the AVX512 flags"
#endif
#include "quant/q8.h"
#include "simd/avx512/rows.h"
#include "simd/kernels.h"

#include <math.h>
#include <string.h>

crl_pack_q8_fn crl_pack_q8_avx512;

/* Smallest bf16 that are not below x >= 0, as the upper halves of floats. */
CRL_INLINE __m512i bf16_up(__m512 x)
{
    __m512i u = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0xffff));

    return _mm512_and_si512(u, _mm512_set1_epi32((int)0xffff0000));
}

/* 1 / scale, or 0 where that is no number to multiply with. */
CRL_INLINE __m512 inverse(__m512i scale)
{
    __m512 s = _mm512_castsi512_ps(scale), zero = _mm512_setzero_ps(), inv;

    inv = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(s, zero, _CMP_GT_OQ), _mm512_set1_ps(1), s);
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(inv, _mm512_set1_ps(INFINITY), _CMP_LT_OQ), inv);
}

CRL_INLINE __m512 code_of(__m512 v)
{
    v = _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_max_ps(_mm512_min_ps(v, _mm512_set1_ps(127)), _mm512_set1_ps(-127));
}

/* Squared error under a scale in units of scale / unit, in the order of crl_sum32. */
CRL_INLINE __m512 misfit(const __m512 w[CRL_BLOCK], __m512i scale, __m512 inv, __m512 unit)
{
    __m512 ratio = _mm512_mul_ps(_mm512_castsi512_ps(scale), unit), e[CRL_BLOCK];

    for (int j = 0; j < CRL_BLOCK; j++) {
        __m512 v = _mm512_mul_ps(w[j], inv);
        e[j] = _mm512_mul_ps(_mm512_sub_ps(v, code_of(v)), ratio);
        e[j] = _mm512_mul_ps(e[j], e[j]);
    }
    for (int half = 16; half; half /= 2)
        for (int j = 0; j < half; j++) e[j] = _mm512_add_ps(e[j], e[j + half]);
    return e[0];
}

CRL_INLINE __m512i best_scale(const __m512 w[CRL_BLOCK])
{
    static const int step[CRL_Q8_TRIES] = CRL_Q8_STEPS;
    __m512 big = _mm512_setzero_ps(), unit, least;
    __m512i base, best;

    for (int j = 0; j < CRL_BLOCK; j++) big = _mm512_max_ps(big, _mm512_abs_ps(w[j]));
    best = base = bf16_up(_mm512_div_ps(big, _mm512_set1_ps(127)));
    unit = inverse(base);
    least = misfit(w, base, unit, unit);
    for (int t = 1; t < CRL_Q8_TRIES; t++) {
        __m512i s = _mm512_add_epi32(base, _mm512_set1_epi32(step[t] * 65536));
        __m512 inv = inverse(s), e = misfit(w, s, inv, unit);
        __mmask16 better = _mm512_cmp_ps_mask(e, least, _CMP_LT_OQ) &
                           _mm512_cmp_ps_mask(inv, _mm512_setzero_ps(), _CMP_GT_OQ) &
                           _mm512_cmp_ps_mask(unit, _mm512_setzero_ps(), _CMP_GT_OQ);
        least = _mm512_mask_mov_ps(least, better, e);
        best = _mm512_mask_mov_epi32(best, better, s);
    }
    return best;
}

static void put_block(unsigned char *scales, unsigned char *codes, const __m512 w[CRL_BLOCK])
{
    __m512i s = best_scale(w), four[4];
    __m512 inv = inverse(s);

    _mm256_storeu_si256((__m256i *)scales, _mm512_cvtepi32_epi16(_mm512_srli_epi32(s, 16)));
    for (int j = 0; j < CRL_BLOCK; j++) {
        four[j % 4] = _mm512_cvtps_epi32(code_of(_mm512_mul_ps(w[j], inv)));
        if (j % 4 == 3) _mm512_storeu_si512(codes + j / 4 * 64, join4(four));
    }
}

size_t crl_pack_q8_avx512(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k)
{
    size_t kp = crl_k_pad(k), nb = kp / CRL_BLOCK, bad = 0;
    unsigned char *scales = panel, *codes = scales + crl_q8_scale_bytes(kp);
    __m512 w[CRL_BLOCK];

    for (size_t b = 0; b < nb; b++) {
        bad += load_block(w, rows, b, k);
        put_block(scales + b * 32, codes + b * 512, w);
    }
    memset(scales + nb * 32, 0, (size_t)(codes - scales) - nb * 32);
    return bad;
}
