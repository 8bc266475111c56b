/* act.c - int8 activations: the scalar specification. */
#include "quant/act.h"

#include <math.h>
#include <string.h>

void crl_act_shape(struct crl_act *a, size_t span, size_t k)
{
    a->span = span;
    a->k_pad = crl_k_pad(k);
    a->n_span = (a->k_pad + span - 1) / span;
}

void crl_act_place(struct crl_act *a, struct crl_arena *arena, size_t span, size_t m, size_t k)
{
    crl_act_shape(a, span, k);
    a->q = crl_arena_take(arena, m, a->k_pad);
    a->scale = crl_arena_take(arena, m, a->n_span * sizeof *a->scale);
    a->bias = crl_arena_take(arena, m, a->k_pad / CRL_BLOCK * sizeof *a->bias);
}

static void quantise_span(int8_t *q, float *scale, const float *x, size_t n)
{
    float big = 0, inv;

    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            big = NAN; /* whatever bits the NaN of x has */
            break;
        }
        big = fmaxf(big, fabsf(x[i]));
    }
    *scale = big / 127;
    inv = *scale > 0 && *scale < INFINITY ? 127 / big : 0;
    for (size_t i = 0; i < n; i++) q[i] = (int8_t)lrintf(inv > 0 && inv < INFINITY ? x[i] * inv : 0);
}

void crl_act_row_scalar(const struct crl_act *a, size_t i, const float *x, size_t k)
{
    int8_t *q = a->q + i * a->k_pad;
    int32_t *bias = a->bias + i * (a->k_pad / CRL_BLOCK);

    memset(q, 0, a->k_pad);
    for (size_t s = 0; s < a->n_span; s++) {
        size_t lo = s * a->span, n = k > lo ? k - lo : 0;
        quantise_span(q + lo, a->scale + i * a->n_span + s, x + lo, n < a->span ? n : a->span);
    }
    for (size_t b = 0; b < a->k_pad / CRL_BLOCK; b++) {
        int32_t sum = 0;
        for (size_t j = 0; j < CRL_BLOCK; j++) sum += q[b * CRL_BLOCK + j];
        bias[b] = -128 * sum;
    }
}
