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

CRL_INLINE __m512 fold(__m512 s[16])
{
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) s[j] = _mm512_add_ps(s[j], s[j + half]);
    return s[0];
}

/* Sums over the block for one candidate: a = sum of x * value in the order of crl_sum32, b = sum of value^2, whose
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
    *a = fold(s);
    *b = _mm512_add_ps(q0, q1);
}

/* The same where errors cost differently: x comes multiplied by the cost, b = sum of cost * value^2 in that order. */
CRL_INLINE void sums_under(__m512 *a, __m512 *b, const __m512 w[CRL_BLOCK], const __m512 x[CRL_BLOCK], __m512 inv,
                           const float cost[CRL_BLOCK], const struct tables *t)
{
    __m512 s[16], q[16];

    for (int j = 0; j < 16; j++) {
        __m512 v0 = _mm512_permutexvar_ps(nearest(_mm512_mul_ps(w[j], inv), t), t->level);
        __m512 v1 = _mm512_permutexvar_ps(nearest(_mm512_mul_ps(w[j + 16], inv), t), t->level);
        q[j] = _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(cost[j]), v0), v0),
                             _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(cost[j + 16]), v1), v1));
        s[j] = _mm512_add_ps(_mm512_mul_ps(x[j], v0), _mm512_mul_ps(x[j + 16], v1));
    }
    *a = fold(s);
    *b = fold(q);
}

/* cost: [32], or NULL where errors all cost the same. */
CRL_INLINE __m512 search(const __m512 w[CRL_BLOCK], const float *cost, const struct tables *t,
                         const float end[CRL_Q4_TRIES])
{
    __m512 big = _mm512_setzero_ps(), best = big, best_gain = big, x[CRL_BLOCK];
    __mmask16 some;

    for (int j = 0; j < CRL_BLOCK; j++)
        big = _mm512_mask_mov_ps(big, _mm512_cmp_ps_mask(_mm512_abs_ps(w[j]), _mm512_abs_ps(big), _CMP_GT_OQ), w[j]);
    some = _mm512_cmp_ps_mask(_mm512_abs_ps(big), _mm512_set1_ps(CRL_Q4_LEAST), _CMP_GT_OQ);
    if (!some) return _mm512_setzero_ps();
    big = _mm512_mask_mov_ps(_mm512_set1_ps(1), some, big);
    for (int j = 0; j < CRL_BLOCK; j++) {
        x[j] = _mm512_div_ps(w[j], big);
        if (cost) x[j] = _mm512_mul_ps(x[j], _mm512_set1_ps(cost[j]));
    }
    for (int i = 0; i < CRL_Q4_TRIES; i++) {
        __m512 a, b, aa, inv = _mm512_div_ps(_mm512_set1_ps(end[i]), big);
        __mmask16 better;

        if (cost) sums_under(&a, &b, w, x, inv, cost, t);
        else sums(&a, &b, w, x, inv, t);
        aa = _mm512_mul_ps(a, a);
        better = _mm512_cmp_ps_mask(b, _mm512_setzero_ps(), _CMP_GT_OQ) &
                 _mm512_cmp_ps_mask(aa, _mm512_mul_ps(best_gain, b), _CMP_GT_OQ);
        best_gain = _mm512_mask_div_ps(best_gain, better, aa, b);
        best = _mm512_mask_div_ps(best, better, a, b);
    }
    return _mm512_maskz_mul_ps(some, best, big);
}

struct job {
    struct tables t;
    float end[CRL_Q4_TRIES];
    const float *importance; /* [k_pad] or NULL */
    const struct crl_q4_guide *feed; /* NULL without */
};

static __m512 scale_of(const struct job *o, const __m512 w[CRL_BLOCK], size_t b)
{
    return o->importance ? search(w, o->importance + b * CRL_BLOCK, &o->t, o->end) : search(w, NULL, &o->t, o->end);
}

/* What a block is packed under: rows whose unit is 0 get zeros. */
struct under {
    __mmask16 live;
    __m512 unit, scale, inv; /* scale: the integer as stored */
};

static struct under round_scale(unsigned char *scales, __m512 scale, __m512 unit)
{
    struct under u = { .live = _mm512_cmp_ps_mask(unit, _mm512_setzero_ps(), _CMP_GT_OQ), .unit = unit };
    __m512i s = _mm512_maskz_cvtps_epi32(u.live, _mm512_maskz_div_ps(u.live, scale, unit));

    s = _mm512_max_epi32(_mm512_min_epi32(s, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
    u.scale = _mm512_cvtepi32_ps(s);
    u.inv = _mm512_maskz_div_ps(_mm512_test_epi32_mask(s, s), _mm512_set1_ps(1), _mm512_mul_ps(u.scale, unit));
    _mm_storeu_si128((__m128i *)scales, _mm512_cvtepi32_epi8(s));
    return u;
}

static void put_block(unsigned char *codes, const __m512 w[CRL_BLOCK], const struct under *u, const struct tables *t)
{
    __m512i four[2][4];

    for (int v = 0; v < 4; v++) {
        for (int j = 0; j < 8; j++)
            four[j / 4][j % 4] = _mm512_maskz_mov_epi32(u->live, nearest(_mm512_mul_ps(w[v * 8 + j], u->inv), t));
        _mm512_storeu_si512(codes + v * 64, _mm512_or_si512(join4(four[0]), _mm512_slli_epi32(join4(four[1]), 4)));
    }
}

/* Codes of block b one by one; w holds the span that starts at column `first`. */
static void feed_block(unsigned char *codes, __m512 *w, const struct under *u, const struct job *o, size_t b,
                       size_t first)
{
    const struct crl_q4_guide *g = o->feed;
    __m512i four[2][4];

    for (size_t j = 0; j < CRL_BLOCK; j++) {
        size_t at = b * CRL_BLOCK + j - first;
        const float *share = g->feed + (b * CRL_BLOCK + j) * g->span;
        __m512i c = _mm512_maskz_mov_epi32(u->live, nearest(_mm512_mul_ps(w[at], u->inv), &o->t));
        __m512 value = _mm512_mul_ps(u->unit, _mm512_mul_ps(u->scale, _mm512_permutexvar_ps(c, o->t.level)));
        __m512 error = _mm512_maskz_sub_ps(u->live, w[at], value);

        four[j / 4 % 2][j % 4] = c;
        for (size_t i = at + 1; i < g->span; i++)
            w[i] = _mm512_sub_ps(w[i], _mm512_mul_ps(error, _mm512_set1_ps(share[i])));
        if (j % 8 == 7)
            _mm512_storeu_si512(codes + j / 8 * 64,
                                _mm512_or_si512(join4(four[0]), _mm512_slli_epi32(join4(four[1]), 4)));
    }
}

static void pack_fed(unsigned char *scales, unsigned char *codes, const float *const rows[CRL_PANEL_ROWS], size_t k,
                     __m512 unit, const struct job *o)
{
    size_t nb = crl_k_pad(k) / CRL_BLOCK, per_span = o->feed->span / CRL_BLOCK;
    __m512 w[CRL_Q4_FEED_MAX];

    for (size_t b = 0; b < nb; b++) {
        size_t in_span = b % per_span;
        struct under u;

        for (size_t i = 0; in_span == 0 && i < per_span; i++) load_block(w + i * CRL_BLOCK, rows, b + i, k);
        u = round_scale(scales + b * 16, scale_of(o, w + in_span * CRL_BLOCK, b), unit);
        feed_block(codes + b * 256, w, &u, o, b, (b - in_span) * CRL_BLOCK);
    }
}

size_t crl_pack_q4_avx512(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16],
                          const struct crl_q4_guide *guide)
{
    size_t kp = crl_k_pad(k), nb = kp / CRL_BLOCK, bad = 0;
    unsigned char *scales = (unsigned char *)panel + 64, *codes = (unsigned char *)panel + crl_q4_scale_bytes(kp);
    struct job o = { .importance = guide ? guide->importance : NULL, .feed = guide && guide->feed ? guide : NULL };
    __m512 w[CRL_BLOCK], most = _mm512_setzero_ps(), unit;

    o.t = make_tables(level);
    crl_q4_ends(o.end, level);
    for (size_t b = 0; b < nb; b++) { /* the scales found wait where the codes of their block will be */
        __m512 scale;
        bad += load_block(w, rows, b, k);
        scale = scale_of(&o, w, b);
        most = _mm512_max_ps(most, _mm512_abs_ps(scale));
        _mm512_storeu_ps(codes + b * 256, scale);
    }
    if (o.feed) most = _mm512_mul_ps(most, _mm512_set1_ps(CRL_Q4_MARGIN));
    unit = _mm512_div_ps(most, _mm512_set1_ps(127));
    _mm512_storeu_ps(panel, unit);
    if (o.feed) pack_fed(scales, codes, rows, k, unit, &o);
    for (size_t b = 0; !o.feed && b < nb; b++) {
        struct under u = round_scale(scales + b * 16, _mm512_loadu_ps(codes + b * 256), unit);
        load_block(w, rows, b, k);
        put_block(codes + b * 256, w, &u, &o.t);
    }
    memset(scales + nb * 16, 0, (size_t)(codes - scales) - nb * 16);
    return bad;
}
