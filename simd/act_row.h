/* act_row.h - what the act_row kernels of all levels share: spans, tails, and rows without a usable scale. A level
 * brings the two steps on 32 values; they are inlined, so each file compiles them with its own flags. */
#ifndef CRL_SIMD_ACT_ROW_H
#define CRL_SIMD_ACT_ROW_H

#include "quant/act.h"

#include <math.h>
#include <string.h>

/* Largest magnitude of 32 values; the default NaN if there is one among them. */
typedef float crl_max_abs_fn(const float *x);

/* 32 codes round(x * inv) into q; returns their sum. */
typedef int32_t crl_codes_fn(int8_t *q, const float *x, float inv);

/* Block `at` of a row of k values: a pointer to its 32 values, or `tail` filled up with zeros. */
static inline const float *crl_act_block(const float *x, size_t k, size_t at, float tail[CRL_BLOCK])
{
    if (at + CRL_BLOCK <= k) return x + at;
    memset(tail, 0, CRL_BLOCK * sizeof *tail);
    if (k > at) memcpy(tail, x + at, (k - at) * sizeof *tail);
    return tail;
}

static inline __attribute__((always_inline)) void crl_act_row_of(const struct crl_act *a, size_t i, const float *x,
                                                                 size_t k, crl_max_abs_fn *max_abs,
                                                                 crl_codes_fn *codes)
{
    int8_t *q = a->q + i * a->k_pad;
    float *scale = a->scale + i * a->n_span, tail[CRL_BLOCK];
    int32_t *bias = a->bias + i * (a->k_pad / CRL_BLOCK);

    for (size_t s = 0; s < a->n_span; s++) {
        size_t from = s * a->span, end = from + a->span < a->k_pad ? from + a->span : a->k_pad;
        float big = 0, inv;

        for (size_t at = from; at < end && !isnan(big); at += CRL_BLOCK) {
            float one = max_abs(crl_act_block(x, k, at, tail));
            big = one > big || isnan(one) ? one : big;
        }
        scale[s] = big / 127;
        inv = scale[s] > 0 && scale[s] < INFINITY ? 127 / big : 0;
        if (!(inv > 0 && inv < INFINITY)) {
            memset(q + from, 0, end - from);
            memset(bias + from / CRL_BLOCK, 0, (end - from) / CRL_BLOCK * sizeof *bias);
            continue;
        }
        for (size_t at = from; at < end; at += CRL_BLOCK)
            bias[at / CRL_BLOCK] = -128 * codes(q + at, crl_act_block(x, k, at, tail), inv);
    }
}

#endif
