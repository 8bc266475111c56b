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

CRL_INLINE __m256 fold(__m256 s[16])
{
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) s[j] = _mm256_add_ps(s[j], s[j + half]);
    return s[0];
}

/* Sums over the block for one candidate: a = sum of x * value in the order of crl_sum32, b = sum of value^2, whose
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
    *a = fold(s);
    *b = q;
}

/* The same where errors cost differently: x comes multiplied by the cost, b = sum of cost * value^2 in that order. */
CRL_INLINE void sums_under(__m256 *a, __m256 *b, const __m256 w[CRL_BLOCK], const __m256 x[CRL_BLOCK], __m256 inv,
                           const float cost[CRL_BLOCK], const struct tables *t)
{
    __m256 s[16], q[16];

    for (int j = 0; j < 16; j++) {
        __m256 v0 = value_of(_mm256_mul_ps(w[j], inv), t), v1 = value_of(_mm256_mul_ps(w[j + 16], inv), t);
        q[j] = _mm256_add_ps(_mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(cost[j]), v0), v0),
                             _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(cost[j + 16]), v1), v1));
        s[j] = _mm256_add_ps(_mm256_mul_ps(x[j], v0), _mm256_mul_ps(x[j + 16], v1));
    }
    *a = fold(s);
    *b = fold(q);
}

/* cost: [32], or NULL where errors all cost the same. */
CRL_INLINE __m256 best_scale(const __m256 w[CRL_BLOCK], const float *cost, const struct tables *t,
                             const float end[CRL_Q4_TRIES])
{
    const __m256 zero = _mm256_setzero_ps();
    __m256 big = zero, best = zero, best_gain = zero, some, x[CRL_BLOCK];

    for (int j = 0; j < CRL_BLOCK; j++) big = _mm256_blendv_ps(big, w[j], above(abs8(w[j]), abs8(big)));
    some = above(abs8(big), _mm256_set1_ps(CRL_Q4_LEAST));
    if (!_mm256_movemask_ps(some)) return zero;
    big = _mm256_blendv_ps(_mm256_set1_ps(1), big, some);
    for (int j = 0; j < CRL_BLOCK; j++) {
        x[j] = _mm256_div_ps(w[j], big);
        if (cost) x[j] = _mm256_mul_ps(x[j], _mm256_set1_ps(cost[j]));
    }
    for (int i = 0; i < CRL_Q4_TRIES; i++) {
        __m256 a, b, aa, better, inv = _mm256_div_ps(_mm256_set1_ps(end[i]), big);

        if (cost) sums_under(&a, &b, w, x, inv, cost, t);
        else sums(&a, &b, w, x, inv, t);
        aa = _mm256_mul_ps(a, a);
        better = _mm256_and_ps(above(b, zero), above(aa, _mm256_mul_ps(best_gain, b)));
        best_gain = _mm256_blendv_ps(best_gain, _mm256_div_ps(aa, b), better);
        best = _mm256_blendv_ps(best, _mm256_div_ps(a, b), better);
    }
    return _mm256_and_ps(some, _mm256_mul_ps(best, big));
}

struct job {
    struct tables t;
    float end[CRL_Q4_TRIES];
    const float *importance;         /* [k_pad] or NULL */
    const struct crl_q4_guide *feed; /* NULL without */
};

static __m256 scale_of(const struct job *o, const __m256 w[CRL_BLOCK], size_t b)
{
    return o->importance ? best_scale(w, o->importance + b * CRL_BLOCK, &o->t, o->end)
                         : best_scale(w, NULL, &o->t, o->end);
}

/* What a block is packed under: rows whose unit is 0 get zeros. */
struct under {
    __m256 live, unit, scale, inv; /* scale: the integer as stored */
};

static struct under round_scale(unsigned char *scales, __m256 scale, __m256 unit)
{
    const __m256 zero = _mm256_setzero_ps();
    struct under u = { .live = above(unit, zero), .unit = unit };
    __m256i s = clamp127(_mm256_cvtps_epi32(_mm256_and_ps(u.live, _mm256_div_ps(scale, unit))));
    __m128i s16 = _mm_packs_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));

    u.scale = _mm256_cvtepi32_ps(s);
    u.inv = _mm256_div_ps(_mm256_set1_ps(1), _mm256_mul_ps(u.scale, unit));
    u.inv = _mm256_and_ps(_mm256_cmp_ps(u.scale, zero, _CMP_NEQ_OQ), u.inv);
    _mm_storel_epi64((__m128i *)scales, _mm_packs_epi16(s16, s16));
    return u;
}

CRL_INLINE __m256i code_of(__m256 v, const struct tables *t)
{
    __m256 last;
    __m256i c = search(&last, v, t);

    return _mm256_sub_epi32(_mm256_add_epi32(c, c), _mm256_castps_si256(last));
}

CRL_INLINE void put_codes(unsigned char *codes, const __m256i four[2][4])
{
    _mm256_storeu_si256((__m256i *)codes, _mm256_or_si256(join4(four[0]), _mm256_slli_epi32(join4(four[1]), 4)));
}

static void put_block(unsigned char *codes, const __m256 w[CRL_BLOCK], const struct under *u, const struct tables *t)
{
    __m256i four[2][4];

    for (int v = 0; v < 4; v++) {
        for (int j = 0; j < 8; j++)
            four[j / 4][j % 4] = _mm256_and_si256(code_of(_mm256_mul_ps(w[v * 8 + j], u->inv), t),
                                                  _mm256_castps_si256(u->live));
        put_codes(codes + v * 64, (const __m256i(*)[4])four);
    }
}

/* Codes of block b one by one; w holds the span that starts at column `first`. */
static void feed_block(unsigned char *codes, __m256 *w, const struct under *u, const struct job *o, size_t b,
                       size_t first)
{
    const struct crl_q4_guide *g = o->feed;
    __m256i four[2][4];

    for (size_t j = 0; j < CRL_BLOCK; j++) {
        size_t at = b * CRL_BLOCK + j - first;
        const float *share = g->feed + (b * CRL_BLOCK + j) * g->span;
        __m256 scaled = _mm256_mul_ps(w[at], u->inv);
        __m256 value = _mm256_mul_ps(u->unit, _mm256_mul_ps(u->scale, value_of(scaled, &o->t)));
        __m256 error = _mm256_and_ps(u->live, _mm256_sub_ps(w[at], value));

        four[j / 4 % 2][j % 4] = _mm256_and_si256(code_of(scaled, &o->t), _mm256_castps_si256(u->live));
        for (size_t i = at + 1; i < g->span; i++)
            w[i] = _mm256_sub_ps(w[i], _mm256_mul_ps(error, _mm256_set1_ps(share[i])));
        if (j % 8 == 7) put_codes(codes + j / 8 * 64, (const __m256i(*)[4])four);
    }
}

static void pack_fed(unsigned char *scales, unsigned char *codes, const float *const rows[LANES], size_t k, __m256 unit,
                     const struct job *o)
{
    size_t nb = crl_k_pad(k) / CRL_BLOCK, per_span = o->feed->span / CRL_BLOCK;
    __m256 w[CRL_Q4_FEED_MAX];

    for (size_t b = 0; b < nb; b++) {
        size_t in_span = b % per_span;
        struct under u;

        for (size_t i = 0; in_span == 0 && i < per_span; i++) load_block(w + i * CRL_BLOCK, rows, b + i, k);
        u = round_scale(scales + b * 16, scale_of(o, w + in_span * CRL_BLOCK, b), unit);
        feed_block(codes + b * 256, w, &u, o, b, (b - in_span) * CRL_BLOCK);
    }
}

/* Rows 8 h .. 8 h + 7. */
static size_t pack_half(unsigned char *panel, const float *const rows[LANES], size_t h, size_t k, const struct job *o)
{
    size_t kp = crl_k_pad(k), nb = kp / CRL_BLOCK, bad = 0;
    unsigned char *scales = panel + 64 + h * 8, *codes = panel + crl_q4_scale_bytes(kp) + h * 32;
    __m256 w[CRL_BLOCK], most = _mm256_setzero_ps(), unit;

    for (size_t b = 0; b < nb; b++) { /* the scales found wait where the codes of their block will be */
        __m256 scale;
        bad += load_block(w, rows, b, k);
        scale = scale_of(o, w, b);
        most = _mm256_max_ps(most, abs8(scale));
        _mm256_storeu_ps((float *)(void *)(codes + b * 256), scale);
    }
    if (o->feed) most = _mm256_mul_ps(most, _mm256_set1_ps(CRL_Q4_MARGIN));
    unit = _mm256_div_ps(most, _mm256_set1_ps(127));
    _mm256_storeu_ps((float *)(void *)(panel + h * 32), unit);
    if (o->feed) pack_fed(scales, codes, rows, k, unit, o);
    for (size_t b = 0; !o->feed && b < nb; b++) {
        __m256 scale = _mm256_loadu_ps((const float *)(const void *)(codes + b * 256));
        struct under u = round_scale(scales + b * 16, scale, unit);
        load_block(w, rows, b, k);
        put_block(codes + b * 256, w, &u, &o->t);
    }
    return bad;
}

size_t crl_pack_q4_avx2(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16],
                        const struct crl_q4_guide *guide)
{
    size_t kp = crl_k_pad(k), used = 64 + kp / CRL_BLOCK * CRL_PANEL_ROWS;
    struct job o = { .importance = guide ? guide->importance : NULL, .feed = guide && guide->feed ? guide : NULL };

    o.t = make_tables(level);
    crl_q4_ends(o.end, level);
    memset((unsigned char *)panel + used, 0, crl_q4_scale_bytes(kp) - used);
    return pack_half(panel, rows, 0, k, &o) + pack_half(panel, rows + LANES, 1, k, &o);
}
