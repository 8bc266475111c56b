/* q4.c - 4-bit panels with fitted levels. */
#include "quant/q4.h"

#include "base/bytes.h"

#include <math.h>
#include <string.h>

/* Levels of least squared error for normally distributed weights when the scale of every block of 32 is searched as
 * below; found by alternating between best scales and centroids (docs/quality.md, "Levels"). */
const int8_t crl_q4_level_default[16] = { -127, -100, -79, -62, -47, -34, -21, -9, 2, 13, 25, 36, 50, 65, 83, 106 };

/* The weight of largest magnitude is tried at these multiples of either end of the levels. Above 1 it is clipped. */
static const float reach[] = { 0.80f, 0.85f, 0.90f, 0.95f, 1.0f, 1.05f, 1.10f, 1.15f, 1.20f };

_Static_assert(2 * sizeof reach / sizeof *reach == CRL_Q4_TRIES, "either end at every reach");

void crl_q4_ends(float end[CRL_Q4_TRIES], const int8_t level[16])
{
    for (int t = 0; t < CRL_Q4_TRIES; t++) end[t] = level[t % 2 ? 15 : 0] * reach[t / 2];
}

/* Where code c ends and c + 1 begins, in units of the levels. */
static void midpoints(float mid[15], const int8_t level[16])
{
    for (int c = 0; c < 15; c++) mid[c] = ((float)level[c] + (float)level[c + 1]) / 2;
}

/* Codes nearest to w * inv, as level values and as codes; halves go down. */
static void nearest(unsigned char code[CRL_BLOCK], float value[CRL_BLOCK], const float w[CRL_BLOCK], float inv,
                    const float mid[15], const int8_t level[16])
{
    for (int j = 0; j < CRL_BLOCK; j++) {
        float v = w[j] * inv;
        int c = 0;
        for (int i = 0; i < 15; i++) c += v > mid[i];
        code[j] = (unsigned char)c;
        value[j] = level[c];
    }
}

static const float all_one[CRL_BLOCK] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                          1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };

/* The scale that fits w best over the candidates, refitted to the codes it gives; 0 for a block of zeros. */
static float best_scale(const float w[CRL_BLOCK], const float cost[CRL_BLOCK], const float end[CRL_Q4_TRIES],
                        const float mid[15], const int8_t level[16])
{
    float big = 0, best = 0, best_gain = 0;

    for (int j = 0; j < CRL_BLOCK; j++)
        if (fabsf(w[j]) > fabsf(big)) big = w[j];
    if (!(fabsf(big) > CRL_Q4_LEAST)) return 0;
    for (int t = 0; t < CRL_Q4_TRIES; t++) {
        float value[CRL_BLOCK], wv[CRL_BLOCK], vv[CRL_BLOCK], a, b;
        unsigned char code[CRL_BLOCK];

        nearest(code, value, w, end[t] / big, mid, level);
        for (int j = 0; j < CRL_BLOCK; j++) {
            wv[j] = w[j] / big * cost[j] * value[j];
            vv[j] = cost[j] * value[j] * value[j];
        }
        a = crl_sum32(wv);
        b = crl_sum32(vv);
        if (b > 0 && a * a > best_gain * b) { /* squared error = sum w^2 - a^2 / b */
            best_gain = a * a / b;
            best = a / b;
        }
    }
    return best * big;
}

/* Block b of row w, padded with zeros; non-finite weights become 0 and are counted. */
static size_t load_block(float out[CRL_BLOCK], const float *w, size_t b, size_t k)
{
    size_t bad = 0;

    for (size_t j = 0; j < CRL_BLOCK; j++) {
        size_t at = b * CRL_BLOCK + j;
        out[j] = at < k ? w[at] : 0;
        if (!isfinite(out[j])) {
            out[j] = 0;
            bad++;
        }
    }
    return bad;
}

static void put_codes(unsigned char *codes, const unsigned char code[CRL_BLOCK], size_t row, size_t b)
{
    for (size_t g = 0; g < CRL_BLOCK / 4; g++) /* k-group g of 4 sits in vector g / 2, nibble g % 2 */
        for (size_t j = 0; j < 4; j++)
            codes[(b * 4 + g / 2) * 64 + row * 4 + j] |= (unsigned char)(code[g * 4 + j] << (g % 2 * 4));
}

/* A scale in units of the row's: an integer in -127 .. 127; NaN (of weights near the end of float's range) -127. */
static float round_scale(float scale, float unit)
{
    float s = rintf(scale / unit);

    return !(s > -127) ? -127 : s > 127 ? 127 : s;
}

struct search {
    float mid[15], end[CRL_Q4_TRIES];
    const int8_t *level;
    const float *importance; /* [k_pad] or NULL */
};

static float scale_of(const struct search *s, const float w[CRL_BLOCK], size_t b)
{
    return best_scale(w, s->importance ? s->importance + b * CRL_BLOCK : all_one, s->end, s->mid, s->level);
}

/* Codes of block b one by one; w holds the span the block lies in, from column `first` of the row on, and what the
 * error of each code leaves to the rest of the span. */
static void feed_block(unsigned char code[CRL_BLOCK], float *w, const struct crl_q4_guide *g, const struct search *s,
                       float scale, float unit, size_t b, size_t first)
{
    float inv = scale != 0 ? 1 / (scale * unit) : 0;

    for (size_t j = b * CRL_BLOCK; j < (b + 1) * CRL_BLOCK; j++) {
        const float *share = g->feed + j * g->span;
        float v = w[j - first] * inv, error;
        int c = 0;

        for (int i = 0; i < 15; i++) c += v > s->mid[i];
        code[j % CRL_BLOCK] = (unsigned char)c;
        error = w[j - first] - unit * (scale * s->level[c]);
        for (size_t i = j - first + 1; i < g->span; i++) w[i] -= error * share[i];
    }
}

/* Row r of the panel under the row scale `unit`. */
static void pack_row(unsigned char *panel, size_t r, const float *row, size_t k, const struct search *s,
                     const struct crl_q4_guide *g, float unit)
{
    size_t kp = crl_k_pad(k), per_span = g && g->feed ? g->span / CRL_BLOCK : 1, nb = kp / CRL_BLOCK;
    unsigned char *scales = panel + CRL_PANEL_ROWS * sizeof(float), *codes = panel + crl_q4_scale_bytes(kp);
    float w[CRL_Q4_FEED_MAX + CRL_BLOCK], value[CRL_BLOCK];
    unsigned char code[CRL_BLOCK];

    for (size_t b = 0; b < nb; b++) {
        size_t in_span = b % per_span;
        float *block = w + in_span * CRL_BLOCK, scale;

        for (size_t i = 0; in_span == 0 && i < per_span; i++) load_block(w + i * CRL_BLOCK, row, b + i, k);
        scale = round_scale(scale_of(s, block, b), unit);
        scales[b * CRL_PANEL_ROWS + r] = (unsigned char)(int8_t)scale;
        if (g && g->feed) feed_block(code, w, g, s, scale, unit, b, (b - in_span) * CRL_BLOCK);
        else nearest(code, value, block, scale != 0 ? 1 / (scale * unit) : 0, s->mid, s->level);
        put_codes(codes, code, r, b);
    }
}

size_t crl_q4_pack(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16],
                   const struct crl_q4_guide *guide)
{
    size_t nb = crl_k_pad(k) / CRL_BLOCK, bad = 0;
    struct search s = { .level = level, .importance = guide ? guide->importance : NULL };
    float w[CRL_BLOCK];

    memset(panel, 0, crl_panel_bytes(CRL_Q4, k));
    midpoints(s.mid, level);
    crl_q4_ends(s.end, level);
    for (size_t r = 0; r < CRL_PANEL_ROWS; r++) {
        float most = 0, unit;

        for (size_t b = 0; rows[r] && b < nb; b++) {
            bad += load_block(w, rows[r], b, k);
            most = fmaxf(most, fabsf(scale_of(&s, w, b)));
        }
        if (guide && guide->feed) most *= CRL_Q4_MARGIN;
        unit = most / 127;
        if (!(unit > 0)) continue;
        crl_put_le32((unsigned char *)panel + r * 4, crl_f32_bits(unit));
        pack_row(panel, r, rows[r], k, &s, guide, unit);
    }
    return bad;
}

static unsigned char code_at(const unsigned char *codes, size_t row, size_t k)
{
    size_t g = k / 4;
    unsigned char two = codes[g / 2 * 64 + row * 4 + k % 4];

    return g % 2 ? two >> 4 : two & 15;
}

static float row_unit(const unsigned char *panel, size_t row)
{
    return crl_f32_from_bits(crl_le32(panel + row * 4));
}

static float block_scale(const unsigned char *panel, size_t row, size_t b)
{
    return (float)(int8_t)panel[CRL_PANEL_ROWS * sizeof(float) + b * CRL_PANEL_ROWS + row];
}

void crl_q4_row(const unsigned char *panel, size_t row, size_t k, const int8_t level[16], float *out)
{
    const unsigned char *codes = panel + crl_q4_scale_bytes(crl_k_pad(k));
    float unit = row_unit(panel, row), value[16]; /* of the codes of a block */

    for (size_t j = 0; j < k; j++) {
        if (j % CRL_BLOCK == 0)
            for (size_t c = 0; c < 16; c++) value[c] = unit * (block_scale(panel, row, j / CRL_BLOCK) * level[c]);
        out[j] = value[code_at(codes, row, j)];
    }
}

static float dot_row(const struct crl_mat *w, const unsigned char *panel, const struct crl_act *x, size_t i, size_t row,
                     size_t kp)
{
    const unsigned char *codes = panel + crl_q4_scale_bytes(kp);
    const int8_t *q = x->q + i * x->k_pad;
    float acc = 0, part = 0;

    for (size_t b = 0; b < kp / CRL_BLOCK; b++) {
        const size_t per_span = CRL_Q4_SPAN / CRL_BLOCK;
        int32_t sum = 0;

        for (size_t j = b * CRL_BLOCK; j < (b + 1) * CRL_BLOCK; j++) sum += q[j] * w->level[code_at(codes, row, j)];
        part = fmaf((float)sum, block_scale(panel, row, b), b % per_span ? part : 0);
        if (b % per_span == per_span - 1 || b + 1 == kp / CRL_BLOCK)
            acc = fmaf(part, x->scale[i * x->n_span + b / per_span], acc);
    }
    return acc * row_unit(panel, row);
}

void crl_gemm_q4_scalar(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                        size_t lo, size_t hi)
{
    for (size_t p = lo; p < hi; p++)
        for (size_t i = 0; i < m; i++)
            for (size_t r = 0; r < CRL_PANEL_ROWS; r++)
                y[i * y_stride + p * CRL_PANEL_ROWS + r] =
                    dot_row(w, w->panel + p * w->panel_bytes, x, i, r, crl_k_pad(w->k));
}
