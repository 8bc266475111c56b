/* check_act.c - quantised activations: the same bits as crl_act_row_scalar, padding and bias included. */
#include "tests/kernel/checkkern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 3 /* the middle one is written; its neighbours must stay as they are */

static bool same(const char *what, const void *got, const void *want, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char *g = (const unsigned char *)got + i * size, *w = (const unsigned char *)want + i * size;
        float gf, wf;
        int32_t gi, wi;

        if (!memcmp(g, w, size)) continue;
        if (!strcmp(what, "scale")) {
            memcpy(&gf, g, 4);
            memcpy(&wf, w, 4);
            return differs(what, i, gf, wf, 0);
        }
        memcpy(&gi, g, size == 4 ? 4 : 1); /* shown as bytes when the codes differ */
        memcpy(&wi, w, size == 4 ? 4 : 1);
        return differs(what, i, size == 4 ? gi : (int8_t)*g, size == 4 ? wi : (int8_t)*w, 0);
    }
    return true;
}

static bool check_one(crl_act_row_fn *fn, const float *x, size_t k, size_t k_pad, size_t span)
{
    struct crl_act got = { .span = span, .k_pad = k_pad, .n_span = (k_pad + span - 1) / span }, want = got;
    size_t nb = k_pad / CRL_BLOCK;
    size_t bytes[] = { ROWS * k_pad, ROWS * got.n_span * sizeof(float), ROWS * nb * sizeof(int32_t) };
    bool ok;

    want.q = malloc(bytes[0]);
    want.scale = malloc(bytes[1]);
    want.bias = malloc(bytes[2]);
    memset(want.q, CANARY, bytes[0]);
    memset(want.scale, CANARY, bytes[1]);
    memset(want.bias, CANARY, bytes[2]);
    got.q = guarded(SLOT_Q, bytes[0], 1);
    got.scale = guarded(SLOT_SCALE, bytes[1], 4);
    got.bias = guarded(SLOT_BIAS, bytes[2], 4);
    for (size_t i = 1; i < ROWS; i++) { /* the last row ends at the guard pages */
        crl_act_row_scalar(&want, i, x, k);
        fn(&got, i, x, k);
    }
    ok = same("code", got.q, want.q, bytes[0], 1) && same("scale", got.scale, want.scale, ROWS * got.n_span, 4) &&
         same("bias", got.bias, want.bias, ROWS * nb, 4);
    if (ok && !(before_is_untouched(got.q) && before_is_untouched(got.scale) && before_is_untouched(got.bias)))
        ok = differs("byte before a buffer", 0, 1, 0, 0);
    free(want.q);
    free(want.scale);
    free(want.bias);
    return ok;
}

bool check_act(const struct crl_kernel_row *row)
{
    crl_act_row_fn *fn = (crl_act_row_fn *)row->fn;

    at.m = at.n = 1;
    for (size_t ik = 0; ik < n_check_k; ik++)
        for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
            uint64_t state;

            at.k = check_k[ik];
            state = place_seed();
            for (size_t r = 0; r < 6; r++) {
                /* ending at the guard page, and one float before it: both alignments for every k */
                size_t back = r % 2;
                float *x = guarded(SLOT_X, (at.k + back) * sizeof(float), sizeof(float));

                fill_row(x, at.k, r, at.fill, &state);
                if (!check_one(fn, x, at.k, crl_k_pad(at.k) + (r == 5 ? 64 : 0),
                               r / 2 % 2 ? CRL_Q4_SPAN : CRL_Q8_SPAN)) return false;
            }
        }
    return true;
}

void bench_act(const struct crl_kernel_row *row)
{
    crl_act_row_fn *fn = (crl_act_row_fn *)row->fn;
    size_t k = 5120, done = 0;
    struct crl_act a = { .span = CRL_Q4_SPAN, .k_pad = k, .n_span = k / CRL_Q4_SPAN };
    float *x = crl_alloc(k, sizeof *x);
    uint64_t state = at.seed;
    double t0, t;

    a.q = crl_alloc(k, 1);
    a.scale = crl_alloc(a.n_span, sizeof *a.scale);
    a.bias = crl_alloc(k / CRL_BLOCK, sizeof *a.bias);
    fill_row(x, k, 0, FILL_RANDOM, &state);
    for (t0 = cpu_s(); (t = cpu_s() - t0) < 0.1; done += k) fn(&a, 0, x, k);
    printf("%-28s %8.2f G values/s\n", row->name, (double)done / t * 1e-9);
    crl_free(x);
    crl_free(a.q);
    crl_free(a.scale);
    crl_free(a.bias);
}
