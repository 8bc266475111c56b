/* pack_q4.c - q4 panels with AVX2: the same bytes as crl_q4_pack, 8 rows at a time. */
#ifndef __AVX2__
#error "compile with the AVX2 flags"
#endif
#include "quant/q4.h"
#include "simd/avx2/rows.h"
#include "simd/kernels.h"

#include <string.h>

crl_pack_q4_fn crl_pack_q4_avx2;

/* Levels and the midpoints between them, laid out for a search by halves. After n comparisons the n bits of the code
 * known so far index the midpoint to compare with next; the last bit chooses between levels of even and odd code. */
struct tables {
    __m256 mid[4], even, odd;
};

static struct tables make_tables(const int8_t level[16])
{
    float mid[15], next[8], even[8], odd[8];
    struct tables t;

    for (int c = 0; c < 15; c++) mid[c] = ((float)level[c] + (float)level[c + 1]) / 2;
    for (int n = 0; n < 4; n++) {
        int width = 16 >> n; /* codes still possible */
        for (int i = 0; i < 8; i++) next[i] = mid[(i & ((1 << n) - 1)) * width + width / 2 - 1];
        t.mid[n] = _mm256_loadu_ps(next);
    }
    for (int i = 0; i < 8; i++) {
        even[i] = level[2 * i];
        odd[i] = level[2 * i + 1];
    }
    t.even = _mm256_loadu_ps(even);
    t.odd = _mm256_loadu_ps(odd);
    return t;
}

/* How many midpoints lie below v: the upper three bits, and the last as a mask. */
CRL_INLINE __m256i search(__m256 *last, __m256 v, const struct tables *t)
{
    __m256i c = _mm256_castps_si256(above(v, t->mid[0]));

    c = _mm256_sub_epi32(_mm256_setzero_si256(), c);
    CRL_UNROLL for (int n = 1; n < 3; n++) {
        __m256i bit = _mm256_castps_si256(above(v, _mm256_permutevar8x32_ps(t->mid[n], c)));
        c = _mm256_sub_epi32(_mm256_add_epi32(c, c), bit);
    }
    *last = above(v, _mm256_permutevar8x32_ps(t->mid[3], c));
    return c;
}

CRL_INLINE __m256 value_of(__m256 v, const struct tables *t)
{
    __m256 last;
    __m256i c = search(&last, v, t);

    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t->even, c), _mm256_permutevar8x32_ps(t->odd, c), last);
}

/* Sums over the block for one candidate: a = sum of x * value in the order of crl_q4_sum32, b = sum of value^2, whose
 * terms are whole numbers and exact in any order. */
CRL_INLINE void sums(__m256 *a, __m256 *b, const __m256 w[CRL_BLOCK], const __m256 x[CRL_BLOCK], __m256 inv,
                     const struct tables *t)
{
    __m256 s[16], q = _mm256_setzero_ps();

    for (int j = 0; j < 16; j++) {
        __m256 v0 = value_of(_mm256_mul_ps(w[j], inv), t), v1 = value_of(_mm256_mul_ps(w[j + 16], inv), t);
        q = _mm256_fmadd_ps(v1, v1, _mm256_fmadd_ps(v0, v0, q));
        s[j] = _mm256_add_ps(_mm256_mul_ps(x[j], v0), _mm256_mul_ps(x[j + 16], v1));
    }
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) s[j] = _mm256_add_ps(s[j], s[j + half]);
    *a = s[0];
    *b = q;
}

static __m256 best_scale(const __m256 w[CRL_BLOCK], const struct tables *t, const float end[CRL_Q4_TRIES])
{
    const __m256 zero = _mm256_setzero_ps();
    __m256 big = zero, best = zero, best_gain = zero, some, x[CRL_BLOCK];

    for (int j = 0; j < CRL_BLOCK; j++) big = _mm256_blendv_ps(big, w[j], above(abs8(w[j]), abs8(big)));
    some = above(abs8(big), _mm256_set1_ps(CRL_Q4_LEAST));
    if (!_mm256_movemask_ps(some)) return zero;
    big = _mm256_blendv_ps(_mm256_set1_ps(1), big, some);
    for (int j = 0; j < CRL_BLOCK; j++) x[j] = _mm256_div_ps(w[j], big);
    for (int i = 0; i < CRL_Q4_TRIES; i++) {
        __m256 a, b, aa, better;

        sums(&a, &b, w, x, _mm256_div_ps(_mm256_set1_ps(end[i]), big), t);
        aa = _mm256_mul_ps(a, a);
        better = _mm256_and_ps(above(b, zero), above(aa, _mm256_mul_ps(best_gain, b)));
        best_gain = _mm256_blendv_ps(best_gain, _mm256_div_ps(aa, b), better);
        best = _mm256_blendv_ps(best, _mm256_div_ps(a, b), better);
    }
    return _mm256_and_ps(some, _mm256_mul_ps(best, big));
}

/* Scales and codes of a block under the scales as stored; rows whose unit is 0 get zeros. */
static void put_block(unsigned char *scales, unsigned char *codes, const __m256 w[CRL_BLOCK], __m256 scale, __m256 unit,
                      const struct tables *t)
{
    const __m256 zero = _mm256_setzero_ps(), live = above(unit, zero);
    __m256i s = _mm256_cvtps_epi32(_mm256_and_ps(live, _mm256_div_ps(scale, unit))), four[2][4];
    __m256 fs, inv;
    __m128i s16;

    s = clamp127(s);
    fs = _mm256_cvtepi32_ps(s);
    inv = _mm256_div_ps(_mm256_set1_ps(1), _mm256_mul_ps(fs, unit));
    inv = _mm256_and_ps(_mm256_cmp_ps(fs, zero, _CMP_NEQ_OQ), inv);
    s16 = _mm_packs_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    _mm_storel_epi64((__m128i *)scales, _mm_packs_epi16(s16, s16));
    for (int v = 0; v < 4; v++) {
        for (int j = 0; j < 8; j++) {
            __m256 last;
            __m256i c = search(&last, _mm256_mul_ps(w[v * 8 + j], inv), t);
            c = _mm256_sub_epi32(_mm256_add_epi32(c, c), _mm256_castps_si256(last));
            four[j / 4][j % 4] = _mm256_and_si256(c, _mm256_castps_si256(live));
        }
        _mm256_storeu_si256((__m256i *)(codes + v * 64),
                            _mm256_or_si256(join4(four[0]), _mm256_slli_epi32(join4(four[1]), 4)));
    }
}

/* Rows 8 h .. 8 h + 7. */
static size_t pack_half(unsigned char *panel, const float *const rows[LANES], size_t h, size_t k, const struct tables *t,
                        const float end[CRL_Q4_TRIES])
{
    size_t kp = crl_k_pad(k), nb = kp / CRL_BLOCK, bad = 0;
    unsigned char *scales = panel + 64 + h * 8, *codes = panel + crl_q4_scale_bytes(kp) + h * 32;
    __m256 w[CRL_BLOCK], most = _mm256_setzero_ps(), unit;

    for (size_t b = 0; b < nb; b++) { /* the scales found wait where the codes of their block will be */
        __m256 scale;
        bad += load_block(w, rows, b, k);
        scale = best_scale(w, t, end);
        most = _mm256_max_ps(most, abs8(scale));
        _mm256_storeu_ps((float *)(void *)(codes + b * 256), scale);
    }
    unit = _mm256_div_ps(most, _mm256_set1_ps(127));
    _mm256_storeu_ps((float *)(void *)(panel + h * 32), unit);
    for (size_t b = 0; b < nb; b++) {
        __m256 scale = _mm256_loadu_ps((const float *)(const void *)(codes + b * 256));
        load_block(w, rows, b, k);
        put_block(scales + b * 16, codes + b * 256, w, scale, unit, t);
    }
    return bad;
}

size_t crl_pack_q4_avx2(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16])
{
    size_t kp = crl_k_pad(k), used = 64 + kp / CRL_BLOCK * CRL_PANEL_ROWS;
    struct tables t = make_tables(level);
    float end[CRL_Q4_TRIES];

    crl_q4_ends(end, level);
    memset((unsigned char *)panel + used, 0, crl_q4_scale_bytes(kp) - used);
    return pack_half(panel, rows, 0, k, &t, end) + pack_half(panel, rows + LANES, 1, k, &t, end);
}
