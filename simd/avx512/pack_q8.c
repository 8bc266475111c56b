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

static void put_block(unsigned char *scales, unsigned char *codes, const __m512 w[CRL_BLOCK])
{
    __m512 big = _mm512_setzero_ps(), inv;
    __m512i s, four[4];
    __mmask16 fine;

    for (int j = 0; j < CRL_BLOCK; j++) big = _mm512_max_ps(big, _mm512_abs_ps(w[j]));
    s = bf16_up(_mm512_div_ps(big, _mm512_set1_ps(127)));
    fine = _mm512_cmp_ps_mask(_mm512_castsi512_ps(s), _mm512_setzero_ps(), _CMP_GT_OQ);
    inv = _mm512_maskz_div_ps(fine, _mm512_set1_ps(1), _mm512_castsi512_ps(s));
    fine = _mm512_cmp_ps_mask(inv, _mm512_set1_ps(INFINITY), _CMP_LT_OQ);
    inv = _mm512_maskz_mov_ps(fine, inv);
    _mm256_storeu_si256((__m256i *)scales, _mm512_cvtepi32_epi16(_mm512_srli_epi32(s, 16)));
    for (int j = 0; j < CRL_BLOCK; j++) {
        __m512i c = _mm512_cvtps_epi32(_mm512_mul_ps(w[j], inv));
        four[j % 4] = _mm512_max_epi32(_mm512_min_epi32(c, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
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
