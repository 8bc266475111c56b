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

static void put_block(unsigned char *scales, unsigned char *codes, const __m256 w[CRL_BLOCK])
{
    __m256 big = _mm256_setzero_ps(), inv;
    __m256i s, high, four[4];

    for (int j = 0; j < CRL_BLOCK; j++) big = _mm256_max_ps(big, abs8(w[j]));
    s = bf16_up(_mm256_div_ps(big, _mm256_set1_ps(127)));
    inv = _mm256_div_ps(_mm256_set1_ps(1), _mm256_castsi256_ps(s)); /* infinite for 0 too */
    inv = _mm256_and_ps(inv, above(_mm256_set1_ps(INFINITY), inv));
    high = _mm256_srli_epi32(s, 16);
    _mm_storeu_si128((__m128i *)scales,
                     _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
    for (int j = 0; j < CRL_BLOCK; j++) {
        four[j % 4] = clamp127(_mm256_cvtps_epi32(_mm256_mul_ps(w[j], inv)));
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
