/* pack_q4.c - q4 panels with AVX-512: the same bytes as crl_q4_pack, 16 rows at a time. */
#ifndef __AVX512BW__
#error "compile with the AVX512 flags"
#endif
#include "quant/q4.h"
#include "simd/avx512/rows.h"
#include "simd/kernels.h"

#include <string.h>

crl_pack_q4_fn crl_pack_q4_avx512;

/* Levels and the midpoints between them, laid out for a search by halves: after n steps lane c, of the codes c still
 * possible, holds the midpoint to compare with next. */
struct tables {
    __m512 level, mid7, mid3, mid1, mid0;
};

static struct tables make_tables(const int8_t level[16])
{
    float l[16], mid[16 + 3] = { 0 };
    struct tables t;

    for (int c = 0; c < 16; c++) l[c] = level[c];
    for (int c = 0; c < 15; c++) mid[c] = (l[c] + l[c + 1]) / 2;
    t.level = _mm512_loadu_ps(l);
    t.mid7 = _mm512_set1_ps(mid[7]);
    t.mid3 = _mm512_loadu_ps(mid + 3);
    t.mid1 = _mm512_loadu_ps(mid + 1);
    t.mid0 = _mm512_loadu_ps(mid);
    return t;
}

/* How many midpoints lie below v. */
CRL_INLINE __m512i nearest(__m512 v, const struct tables *t)
{
    __m512i c = _mm512_maskz_set1_epi32(_mm512_cmp_ps_mask(v, t->mid7, _CMP_GT_OQ), 8);

    c = _mm512_mask_add_epi32(c, _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(c, t->mid3), _CMP_GT_OQ), c,
                              _mm512_set1_epi32(4));
    c = _mm512_mask_add_epi32(c, _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(c, t->mid1), _CMP_GT_OQ), c,
                              _mm512_set1_epi32(2));
    return _mm512_mask_add_epi32(c, _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(c, t->mid0), _CMP_GT_OQ), c,
                                 _mm512_set1_epi32(1));
}

/* Sums over the block for one candidate: a = sum of x * value in the order of crl_q4_sum32, b = sum of value^2, whose
 * terms are whole numbers and exact in any order. */
CRL_INLINE void sums(__m512 *a, __m512 *b, const __m512 w[CRL_BLOCK], const __m512 x[CRL_BLOCK], __m512 inv,
                     const struct tables *t)
{
    __m512 s[16], q0 = _mm512_setzero_ps(), q1 = _mm512_setzero_ps();

    for (int j = 0; j < 16; j++) {
        __m512 v0 = _mm512_permutexvar_ps(nearest(_mm512_mul_ps(w[j], inv), t), t->level);
        __m512 v1 = _mm512_permutexvar_ps(nearest(_mm512_mul_ps(w[j + 16], inv), t), t->level);
        q0 = _mm512_fmadd_ps(v0, v0, q0);
        q1 = _mm512_fmadd_ps(v1, v1, q1);
        s[j] = _mm512_add_ps(_mm512_mul_ps(x[j], v0), _mm512_mul_ps(x[j + 16], v1));
    }
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) s[j] = _mm512_add_ps(s[j], s[j + half]);
    *a = s[0];
    *b = _mm512_add_ps(q0, q1);
}

static __m512 best_scale(const __m512 w[CRL_BLOCK], const struct tables *t, const float end[CRL_Q4_TRIES])
{
    __m512 big = _mm512_setzero_ps(), best = big, best_gain = big, x[CRL_BLOCK];
    __mmask16 some;

    for (int j = 0; j < CRL_BLOCK; j++)
        big = _mm512_mask_mov_ps(big, _mm512_cmp_ps_mask(_mm512_abs_ps(w[j]), _mm512_abs_ps(big), _CMP_GT_OQ), w[j]);
    some = _mm512_cmp_ps_mask(_mm512_abs_ps(big), _mm512_set1_ps(CRL_Q4_LEAST), _CMP_GT_OQ);
    if (!some) return _mm512_setzero_ps();
    big = _mm512_mask_mov_ps(_mm512_set1_ps(1), some, big);
    for (int j = 0; j < CRL_BLOCK; j++) x[j] = _mm512_div_ps(w[j], big);
    for (int i = 0; i < CRL_Q4_TRIES; i++) {
        __m512 a, b, aa;
        __mmask16 better;

        sums(&a, &b, w, x, _mm512_div_ps(_mm512_set1_ps(end[i]), big), t);
        aa = _mm512_mul_ps(a, a);
        better = _mm512_cmp_ps_mask(b, _mm512_setzero_ps(), _CMP_GT_OQ) &
                 _mm512_cmp_ps_mask(aa, _mm512_mul_ps(best_gain, b), _CMP_GT_OQ);
        best_gain = _mm512_mask_div_ps(best_gain, better, aa, b);
        best = _mm512_mask_div_ps(best, better, a, b);
    }
    return _mm512_maskz_mul_ps(some, best, big);
}

/* Scales and codes of a block under the scales as stored; rows whose unit is 0 get zeros. */
static void put_block(unsigned char *scales, unsigned char *codes, const __m512 w[CRL_BLOCK], __m512 scale, __m512 unit,
                      const struct tables *t)
{
    __mmask16 live = _mm512_cmp_ps_mask(unit, _mm512_setzero_ps(), _CMP_GT_OQ), some;
    __m512i s = _mm512_maskz_cvtps_epi32(live, _mm512_maskz_div_ps(live, scale, unit)), four[2][4];
    __m512 inv;

    s = _mm512_max_epi32(_mm512_min_epi32(s, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
    some = _mm512_test_epi32_mask(s, s);
    inv = _mm512_maskz_div_ps(some, _mm512_set1_ps(1), _mm512_mul_ps(_mm512_cvtepi32_ps(s), unit));
    _mm_storeu_si128((__m128i *)scales, _mm512_cvtepi32_epi8(s));
    for (int v = 0; v < 4; v++) {
        for (int j = 0; j < 8; j++)
            four[j / 4][j % 4] = _mm512_maskz_mov_epi32(live, nearest(_mm512_mul_ps(w[v * 8 + j], inv), t));
        _mm512_storeu_si512(codes + v * 64, _mm512_or_si512(join4(four[0]), _mm512_slli_epi32(join4(four[1]), 4)));
    }
}

size_t crl_pack_q4_avx512(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16])
{
    size_t kp = crl_k_pad(k), nb = kp / CRL_BLOCK, bad = 0;
    unsigned char *scales = (unsigned char *)panel + 64, *codes = (unsigned char *)panel + crl_q4_scale_bytes(kp);
    struct tables t = make_tables(level);
    __m512 w[CRL_BLOCK], most = _mm512_setzero_ps(), unit;
    float end[CRL_Q4_TRIES];

    crl_q4_ends(end, level);
    for (size_t b = 0; b < nb; b++) { /* the scales found wait where the codes of their block will be */
        __m512 scale;
        bad += load_block(w, rows, b, k);
        scale = best_scale(w, &t, end);
        most = _mm512_max_ps(most, _mm512_abs_ps(scale));
        _mm512_storeu_ps(codes + b * 256, scale);
    }
    unit = _mm512_div_ps(most, _mm512_set1_ps(127));
    _mm512_storeu_ps(panel, unit);
    for (size_t b = 0; b < nb; b++) {
        load_block(w, rows, b, k);
        put_block(scales + b * 16, codes + b * 256, w, _mm512_loadu_ps(codes + b * 256), unit, &t);
    }
    memset(scales + nb * 16, 0, (size_t)(codes - scales) - nb * 16);
    return bad;
}
