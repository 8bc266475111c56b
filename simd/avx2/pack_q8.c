/* pack_q8.c - q8 panels with AVX2: the same bytes as crl_q8_pack, 8 rows at a time. */
#ifndef __AVX2__
#error "compile with the AVX2 flags"
#endif
#include "quant/q8.h"
#include "simd/avx2/rows.h"
#include "simd/kernels.h"

#include <math.h>
#include <string.h>

crl_pack_q8_fn crl_pack_q8_avx2;

/* Smallest bf16 that are not below x >= 0, as the upper halves of floats. */
CRL_INLINE __m256i bf16_up(__m256 x)
{
    __m256i u = _mm256_add_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(0xffff));

    return _mm256_and_si256(u, _mm256_set1_epi32((int)0xffff0000));
}

/* 1 / scale, or 0 where that is no number to multiply with. */
CRL_INLINE __m256 inverse(__m256i scale)
{
    __m256 s = _mm256_castsi256_ps(scale), zero = _mm256_setzero_ps();
    __m256 inv = _mm256_and_ps(_mm256_div_ps(_mm256_set1_ps(1), s), above(s, zero));

    return _mm256_and_ps(inv, above(_mm256_set1_ps(INFINITY), inv));
}

CRL_INLINE __m256 code_of(__m256 v)
{
    v = _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm256_max_ps(_mm256_min_ps(v, _mm256_set1_ps(127)), _mm256_set1_ps(-127));
}

/* Squared error under a scale in units of scale / unit, in the order of crl_sum32. */
CRL_INLINE __m256 misfit(const __m256 w[CRL_BLOCK], __m256i scale, __m256 inv, __m256 unit)
{
    __m256 ratio = _mm256_mul_ps(_mm256_castsi256_ps(scale), unit), e[CRL_BLOCK];

    for (int j = 0; j < CRL_BLOCK; j++) {
        __m256 v = _mm256_mul_ps(w[j], inv);
        e[j] = _mm256_mul_ps(_mm256_sub_ps(v, code_of(v)), ratio);
        e[j] = _mm256_mul_ps(e[j], e[j]);
    }
    for (int half = 16; half; half /= 2)
        for (int j = 0; j < half; j++) e[j] = _mm256_add_ps(e[j], e[j + half]);
    return e[0];
}

CRL_INLINE __m256i best_scale(const __m256 w[CRL_BLOCK])
{
    static const int step[CRL_Q8_TRIES] = CRL_Q8_STEPS;
    const __m256 zero = _mm256_setzero_ps();
    __m256 big = zero, unit, least;
    __m256i base, best;

    for (int j = 0; j < CRL_BLOCK; j++) big = _mm256_max_ps(big, abs8(w[j]));
    best = base = bf16_up(_mm256_div_ps(big, _mm256_set1_ps(127)));
    unit = inverse(base);
    least = misfit(w, base, unit, unit);
    for (int t = 1; t < CRL_Q8_TRIES; t++) {
        __m256i s = _mm256_add_epi32(base, _mm256_set1_epi32(step[t] * 65536));
        __m256 inv = inverse(s), e = misfit(w, s, inv, unit);
        __m256 better = _mm256_and_ps(above(least, e), _mm256_and_ps(above(inv, zero), above(unit, zero)));
        least = _mm256_blendv_ps(least, e, better);
        best = _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(best), _mm256_castsi256_ps(s), better));
    }
    return best;
}

static void put_block(unsigned char *scales, unsigned char *codes, const __m256 w[CRL_BLOCK])
{
    __m256i s = best_scale(w), high = _mm256_srli_epi32(s, 16), four[4];
    __m256 inv = inverse(s);

    _mm_storeu_si128((__m128i *)scales,
                     _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
    for (int j = 0; j < CRL_BLOCK; j++) {
        four[j % 4] = _mm256_cvtps_epi32(code_of(_mm256_mul_ps(w[j], inv)));
        if (j % 4 == 3) _mm256_storeu_si256((__m256i *)(codes + j / 4 * 64), join4(four));
    }
}

size_t crl_pack_q8_avx2(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k)
{
    size_t kp = crl_k_pad(k), nb = kp / CRL_BLOCK, bad = 0;
    unsigned char *scales = panel, *codes = scales + crl_q8_scale_bytes(kp);
    __m256 w[CRL_BLOCK];

    for (size_t b = 0; b < nb; b++)
        for (size_t h = 0; h < 2; h++) {
            bad += load_block(w, rows + h * LANES, b, k);
            put_block(scales + b * 32 + h * 16, codes + b * 512 + h * 32, w);
        }
    memset(scales + nb * 32, 0, (size_t)(codes - scales) - nb * 32);
    return bad;
}
