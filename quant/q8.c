/* q8.c - int8 panels. */
#include "quant/q8.h"

#include "base/bytes.h"

#include <math.h>
#include <string.h>

/* Byte of (row, k) after the scales: N16K4. */
static size_t at(size_t row, size_t k)
{
    return k / 4 * 64 + row * 4 + k % 4;
}

/* Smallest bf16 that is not below x >= 0. */
static uint16_t bf16_up(float x)
{
    uint32_t u = crl_f32_bits(x);

    return (uint16_t)((u + 0xffff) >> 16);
}

/* 1 / scale, or 0 where that is no number to multiply with. */
static float inverse(uint16_t scale)
{
    float s = crl_bf16_to_f32(scale);

    return s > 0 && 1 / s < INFINITY ? 1 / s : 0;
}

/* Codes of a block as floats; returns their squared error in units of scale / unit. */
static float encode(float code[CRL_BLOCK], const float w[CRL_BLOCK], uint16_t scale, float unit)
{
    float inv = inverse(scale), ratio = crl_bf16_to_f32(scale) * unit, e[CRL_BLOCK];

    for (int j = 0; j < CRL_BLOCK; j++) {
        float c = rintf(w[j] * inv);
        code[j] = c < -127 ? -127 : c > 127 ? 127 : c;
        e[j] = (w[j] * inv - code[j]) * ratio;
        e[j] *= e[j];
    }
    return crl_sum32(e);
}

/* The scale that leaves the least error among those next to max|w| / 127, the first of them on ties. */
static size_t pack_block(unsigned char *codes, unsigned char *scale, const float *w, size_t row, size_t k0, size_t n)
{
    static const int step[CRL_Q8_TRIES] = CRL_Q8_STEPS;
    float big = 0, block[CRL_BLOCK] = { 0 }, code[CRL_BLOCK], best_error = 0;
    uint16_t base, best;
    size_t bad = 0;

    for (size_t j = 0; j < n; j++) {
        if (!isfinite(w[j])) bad++;
        else block[j] = w[j];
        if (fabsf(block[j]) > big) big = fabsf(block[j]);
    }
    best = base = bf16_up(big / 127);
    if (inverse(base) > 0)
        for (int t = 0; t < CRL_Q8_TRIES; t++) {
            uint16_t s = (uint16_t)(base + step[t]);
            float error = encode(code, block, s, inverse(base));
            if (t && !(inverse(s) > 0 && error < best_error)) continue;
            best_error = error;
            best = s;
        }
    crl_put_le16(scale, best);
    encode(code, block, best, 0);
    for (size_t j = 0; j < n; j++) codes[at(row, k0 + j)] = (unsigned char)(int8_t)code[j];
    return bad;
}

size_t crl_q8_put_row(void *panel, size_t row, const float *w, size_t k)
{
    unsigned char *scales = panel, *codes = scales + crl_q8_scale_bytes(crl_k_pad(k));
    size_t bad = 0;

    for (size_t b = 0; b * CRL_BLOCK < k; b++) {
        size_t k0 = b * CRL_BLOCK, n = k - k0 < CRL_BLOCK ? k - k0 : CRL_BLOCK;
        bad += pack_block(codes, scales + (b * CRL_PANEL_ROWS + row) * 2, w + k0, row, k0, n);
    }
    return bad;
}

size_t crl_q8_pack(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k)
{
    size_t bad = 0;

    memset(panel, 0, crl_panel_bytes(CRL_Q8, k));
    for (size_t r = 0; r < CRL_PANEL_ROWS; r++)
        if (rows[r]) bad += crl_q8_put_row(panel, r, rows[r], k);
    return bad;
}

static float block_scale(const unsigned char *panel, size_t row, size_t b)
{
    return crl_bf16_to_f32(crl_le16(panel + (b * CRL_PANEL_ROWS + row) * 2));
}

void crl_q8_row(const unsigned char *panel, size_t row, size_t k, float *out)
{
    const unsigned char *codes = panel + crl_q8_scale_bytes(crl_k_pad(k));

    float scale = 0;

    for (size_t j = 0; j < k; j++) {
        if (j % CRL_BLOCK == 0) scale = block_scale(panel, row, j / CRL_BLOCK);
        out[j] = scale * (float)(int8_t)codes[at(row, j)];
    }
}

static float dot_row(const unsigned char *panel, const struct crl_act *x, size_t i, size_t row, size_t kp)
{
    const unsigned char *codes = panel + crl_q8_scale_bytes(kp);
    const int8_t *q = x->q + i * x->k_pad;
    float acc = 0;

    for (size_t b = 0; b < kp / CRL_BLOCK; b++) {
        int32_t sum = 0;
        for (size_t j = b * CRL_BLOCK; j < (b + 1) * CRL_BLOCK; j++) sum += q[j] * (int8_t)codes[at(row, j)];
        acc = fmaf((float)sum, x->scale[i * x->n_span + b] * block_scale(panel, row, b),
                   acc);
    }
    return acc;
}

void crl_gemm_q8_scalar(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                        size_t lo, size_t hi)
{
    for (size_t p = lo; p < hi; p++)
        for (size_t i = 0; i < m; i++)
            for (size_t r = 0; r < CRL_PANEL_ROWS; r++)
                y[i * y_stride + p * CRL_PANEL_ROWS + r] =
                    dot_row(w->panel + p * w->panel_bytes, x, i, r, crl_k_pad(w->k));
}
