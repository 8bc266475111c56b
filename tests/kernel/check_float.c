/* check_float.c - operations on float rows: the same bits as simd/scalar/float.c, products of float panels within the
 * bound of rounding. */
#include "tests/kernel/checkkern.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

crl_rms_norm_fn crl_rms_norm_scalar;
crl_swiglu_fn crl_swiglu_scalar;
crl_rotate_fn crl_rotate_scalar;
crl_softmax_fn crl_softmax_scalar;
crl_blend_fn crl_blend_scalar;
crl_layer_norm_fn crl_layer_norm_scalar;
crl_gelu_fn crl_gelu_scalar;
crl_gemm_f_fn crl_gemm_f32_scalar;

/* Equal bits, any NaN equal to any other. */
static bool equal(const char *what, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof *got) && !(isnan(got[i]) && isnan(want[i])))
            return differs(what, i, got[i], want[i], 0);
    return true;
}

static bool norm_once(crl_rms_norm_fn *fn, const float *x, const float *weight, size_t k)
{
    float *got = guarded(SLOT_Y, k * sizeof *got, sizeof *got), *want = malloc(k * sizeof *want);
    bool ok;

    fn(got, x, weight, k, 1e-5f);
    crl_rms_norm_scalar(want, x, weight, k, 1e-5f);
    ok = equal("normed value", got, want, k) && before_is_untouched(got);
    if (ok) { /* in place */
        memcpy(got, x, k * sizeof *got);
        fn(got, got, weight, k, 1e-5f);
        ok = equal("value normed in place", got, want, k);
    }
    free(want);
    return ok;
}

static bool check_norm(const struct crl_kernel_row *row)
{
    for (size_t i = 0; i < n_check_k; i++)
        for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
            uint64_t state;
            float *x, *weight;

            at.k = check_k[i];
            state = place_seed();
            x = guarded(SLOT_X, at.k * sizeof *x, sizeof *x);
            weight = guarded(SLOT_ROWS, at.k * sizeof *weight, sizeof *weight);
            for (size_t r = 0; r < 5; r++) {
                fill_row(x, at.k, r, at.fill, &state);
                fill_row(weight, at.k, r, FILL_RANDOM, &state);
                if (!norm_once((crl_rms_norm_fn *)row->fn, x, r % 2 ? weight : NULL, at.k)) return false;
            }
        }
    return true;
}

static bool check_swiglu(const struct crl_kernel_row *row)
{
    at.k = 64;
    for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
        uint64_t state = place_seed();
        float want[32], *tile = guarded(SLOT_X, 64 * sizeof *tile, sizeof *tile);

        for (size_t r = 0; r < 40; r++) {
            float *got = guarded(SLOT_Y, sizeof want, sizeof *got);
            fill_row(tile, 64, r, at.fill, &state);
            for (size_t j = 0; j < 64; j++) tile[j] *= (float)(1 + r * 4); /* far into both ends of the sigmoid */
            ((crl_swiglu_fn *)row->fn)(got, tile);
            crl_swiglu_scalar(want, tile);
            if (!equal("gated value", got, want, 32) || !before_is_untouched(got)) return false;
        }
    }
    return true;
}

static bool check_rotate(const struct crl_kernel_row *row)
{
    for (at.k = 1; at.k <= 67; at.k++)
        for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
            uint64_t state = place_seed();
            float *x = guarded(SLOT_X, 2 * at.k * sizeof *x, sizeof *x), *want = malloc(2 * at.k * sizeof *want);
            float *cs = guarded(SLOT_ROWS, 2 * at.k * sizeof *cs, sizeof *cs);
            bool ok;

            fill_row(x, 2 * at.k, 0, at.fill, &state);
            for (size_t j = 0; j < 2 * at.k; j++) cs[j] = rnd_normal(&state);
            memcpy(want, x, 2 * at.k * sizeof *want);
            crl_rotate_scalar(want, cs, at.k);
            ((crl_rotate_fn *)row->fn)(x, cs, at.k);
            ok = equal("rotated value", x, want, 2 * at.k) && before_is_untouched(x);
            free(want);
            if (!ok) return false;
        }
    return true;
}

static bool check_blend(const struct crl_kernel_row *row)
{
    for (at.m = 1; at.m <= CHECK_M; at.m++)
        for (at.k = 16; at.k <= 144; at.k += 16)
            for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
                size_t n = at.m * at.k;
                uint64_t state = place_seed();
                float *x = guarded(SLOT_X, n * sizeof *x, sizeof *x), *y = guarded(SLOT_Y, n * sizeof *y, sizeof *y);
                float *want = malloc(n * sizeof *want), keep[CHECK_M], gain[CHECK_M];
                bool ok = true;

                for (size_t i = 0; i < at.m; i++) {
                    fill_row(x + i * at.k, at.k, i, at.fill, &state);
                    keep[i] = rnd_normal(&state);
                    gain[i] = rnd_normal(&state);
                }
                for (size_t i = 0; i < n; i++) y[i] = want[i] = rnd_normal(&state);
                for (int gains = 0; ok && gains < 2; gains++) {
                    crl_blend_scalar(want, x, keep, gains ? gain : NULL, at.m, at.k);
                    ((crl_blend_fn *)row->fn)(y, x, keep, gains ? gain : NULL, at.m, at.k);
                    ok = equal("blended value", y, want, n) && before_is_untouched(y);
                }
                free(want);
                if (!ok) return false;
            }
    return true;
}

/* Three steps in a row, so that the running maximum moves and stays. */
static bool softmax_once(crl_softmax_fn *fn, const float *s, size_t k, bool bf16)
{
    float *got = guarded(SLOT_Y, k * sizeof *got, sizeof *got), *want = malloc(k * sizeof *want);
    float max[2] = { -INFINITY, -INFINITY }, sum[2] = { 0, 0 }, shrink[2];
    bool ok = true;

    for (int step = 0; ok && step < 3; step++) {
        for (size_t j = 0; j < k; j++) got[j] = want[j] = s[j] * (float)(step == 1 ? 0.25 : 1 + step);
        shrink[0] = fn(got, k, 0.125f, bf16, &max[0], &sum[0]);
        shrink[1] = crl_softmax_scalar(want, k, 0.125f, bf16, &max[1], &sum[1]);
        ok = equal("weight", got, want, k) && equal("factor", &shrink[0], &shrink[1], 1) &&
             equal("maximum", &max[0], &max[1], 1) && equal("sum", &sum[0], &sum[1], 1);
    }
    free(want);
    return ok;
}

static bool check_softmax(const struct crl_kernel_row *row)
{
    for (at.k = 1; at.k <= 67; at.k++)
        for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
            uint64_t state = place_seed();
            float *s = guarded(SLOT_X, at.k * sizeof *s, sizeof *s);

            for (size_t r = 0; r < 5; r++) {
                fill_row(s, at.k, r, at.fill, &state);
                for (size_t j = 0; at.fill == FILL_ZERO && r == 4 && j < at.k; j++)
                    s[j] = j % 3 ? 0.0f : -0.0f; /* the maximum is the first of equals, and these two differ */
                for (int bf16 = 0; bf16 < 2; bf16++)
                    if (!softmax_once((crl_softmax_fn *)row->fn, s, at.k, bf16)) return false;
            }
        }
    return true;
}

static bool layer_norm_once(crl_layer_norm_fn *fn, const float *x, const float *weight, const float *bias, size_t k)
{
    float *got = guarded(SLOT_Y, k * sizeof *got, sizeof *got), *want = malloc(k * sizeof *want);
    bool ok;

    fn(got, x, weight, bias, k, 1e-5f);
    crl_layer_norm_scalar(want, x, weight, bias, k, 1e-5f);
    ok = equal("normed value", got, want, k) && before_is_untouched(got);
    if (ok) { /* in place */
        memcpy(got, x, k * sizeof *got);
        fn(got, got, weight, bias, k, 1e-5f);
        ok = equal("value normed in place", got, want, k);
    }
    free(want);
    return ok;
}

static bool check_layer_norm(const struct crl_kernel_row *row)
{
    for (size_t i = 0; i < n_check_k; i++)
        for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
            uint64_t state;
            float *x, *weight, *bias;

            at.k = check_k[i];
            state = place_seed();
            x = guarded(SLOT_X, at.k * sizeof *x, sizeof *x);
            weight = guarded(SLOT_ROWS, at.k * sizeof *weight, sizeof *weight);
            bias = guarded(SLOT_W, at.k * sizeof *bias, sizeof *bias);
            for (size_t r = 0; r < 5; r++) {
                fill_row(x, at.k, r, at.fill, &state);
                fill_row(weight, at.k, r, FILL_RANDOM, &state);
                fill_row(bias, at.k, r + 1, FILL_RANDOM, &state);
                if (!layer_norm_once((crl_layer_norm_fn *)row->fn, x, weight, bias, at.k)) return false;
            }
        }
    return true;
}

/* The specification itself against the error function of the C library, over the range where it is neither 0 nor x. */
static bool gelu_is_exact(void)
{
    for (int i = -120000; i <= 120000; i++) {
        float x = (float)i * 1e-4f, got = x;
        double want = 0.5 * (double)x * erfc(-(double)x / sqrt(2));

        crl_gelu_scalar(&got, NULL, 1);
        if (fabs(got - want) > 1e-7 + 1.5e-7 * fabs(want)) return differs("gelu", (size_t)(i + 120000), got, want, 1e-7);
    }
    return true;
}

static bool check_gelu(const struct crl_kernel_row *row)
{
    for (at.k = 1; at.k <= 67; at.k++)
        for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
            uint64_t state = place_seed();
            float *x = guarded(SLOT_X, at.k * sizeof *x, sizeof *x), *want = malloc(at.k * sizeof *want);
            float *bias = guarded(SLOT_ROWS, at.k * sizeof *bias, sizeof *bias);
            bool ok = true;

            for (size_t r = 0; ok && r < 5; r++) {
                fill_row(bias, at.k, r, FILL_RANDOM, &state);
                fill_row(x, at.k, r, at.fill, &state);
                if (r == 4 && at.k > 2) x[at.k / 2] = at.fill % 2 ? NAN : -INFINITY;
                for (size_t j = 0; j < at.k; j++) want[j] = x[j] *= (float)(1 + r); /* into both tails */
                ((crl_gelu_fn *)row->fn)(x, r % 2 ? bias : NULL, at.k);
                crl_gelu_scalar(want, r % 2 ? bias : NULL, at.k);
                ok = equal("gelu", x, want, at.k) && before_is_untouched(x);
            }
            free(want);
            if (!ok) return false;
        }
    return gelu_is_exact();
}

/* y of m rows against float panels, whole and row by row. */
static bool product_once(crl_gemm_f_fn *fn, const float *x, size_t m, const struct crl_mat *w)
{
    size_t kp = crl_k_pad(w->k), np = crl_n_panel(w->n), stride = np * CRL_PANEL_ROWS;
    float *got = guarded(SLOT_Y, m * stride * sizeof *got, sizeof *got), *want = malloc(m * stride * sizeof *want);
    bool ok = true;

    crl_gemm_f32_scalar(want, stride, x, kp, m, w, 0, np);
    fn(got, stride, x, kp, m, w, 0, np);
    for (size_t i = 0; ok && i < m * stride; i++) {
        const float *panel = (const float *)(const void *)(w->panel + i % stride / 16 * w->panel_bytes) + i % 16;
        double sum = 0;
        for (size_t j = 0; j < kp; j++) sum += fabs((double)x[i / stride * kp + j] * panel[16 * j]);
        sum *= (double)(w->k + 8) * FLT_EPSILON / 2;
        if (fabs((double)got[i] - want[i]) > sum + FLT_MIN) ok = differs("y", i, got[i], want[i], sum);
    }
    for (size_t i = 0; ok && i < m; i++)
        for (size_t p = 0; p < np; p++) fn(want + i * stride, stride, x + i * kp, kp, 1, w, p, p + 1);
    ok = ok && equal("y of a row alone", got, want, m * stride);
    free(want);
    return ok;
}

static bool check_product(const struct crl_kernel_row *row)
{
    for (size_t i = 0; i < n_check_k; i++)
        for (at.m = 1; at.m <= CHECK_M; at.m++) {
            size_t n_panel = 1 + at.m % 3, kp = crl_k_pad(check_k[i]);
            uint64_t state;
            float *x, *w;
            struct crl_mat mat = { .format = CRL_F32, .k = check_k[i] };

            at.k = check_k[i];
            at.n = n_panel * CRL_PANEL_ROWS;
            at.fill = FILL_RANDOM;
            state = place_seed();
            x = guarded(SLOT_X, at.m * kp * sizeof *x, sizeof *x);
            w = guarded(SLOT_W, at.n * kp * sizeof *w, CRL_ALIGN);
            for (size_t j = 0; j < at.m * kp; j++) x[j] = j % kp < at.k ? rnd_normal(&state) : 0;
            for (size_t j = 0; j < at.n * kp; j++) w[j] = rnd_normal(&state);
            mat.n = at.n;
            mat.panel = (const unsigned char *)w;
            mat.panel_bytes = CRL_PANEL_ROWS * kp * sizeof *w;
            if (!product_once((crl_gemm_f_fn *)row->fn, x, at.m, &mat)) return false;
        }
    return true;
}

bool check_float(const struct crl_kernel_row *row, enum crl_format format)
{
    (void)format;
    at.m = at.n = 1;
    if (!strcmp(row->op, "rms_norm")) return check_norm(row);
    if (!strcmp(row->op, "swiglu")) return check_swiglu(row);
    if (!strcmp(row->op, "rotate")) return check_rotate(row);
    if (!strcmp(row->op, "softmax")) return check_softmax(row);
    if (!strcmp(row->op, "blend")) return check_blend(row);
    if (!strcmp(row->op, "layer_norm")) return check_layer_norm(row);
    if (!strcmp(row->op, "gelu")) return check_gelu(row);
    return check_product(row);
}

void bench_float(const struct crl_kernel_row *row, enum crl_format format)
{
    static float x[5120], y[5120];
    float max = -INFINITY, sum = 0;
    size_t done = 0;
    double t0 = cpu_s(), t;

    (void)format;
    for (size_t j = 0; j < 5120; j++) x[j] = (float)(j % 97) * 0.01f;
    for (; (t = cpu_s() - t0) < 0.1; done += 5120) {
        if (!strcmp(row->op, "rms_norm")) ((crl_rms_norm_fn *)row->fn)(y, x, x, 5120, 1e-5f);
        else if (!strcmp(row->op, "rotate")) ((crl_rotate_fn *)row->fn)(x, y, 2560);
        else if (!strcmp(row->op, "blend")) ((crl_blend_fn *)row->fn)(y, x, x, NULL, 40, 128);
        else if (!strcmp(row->op, "swiglu"))
            for (size_t j = 0; j < 80; j++) ((crl_swiglu_fn *)row->fn)(y + 32 * j, x + 64 * j);
        else if (!strcmp(row->op, "softmax"))
            for (size_t j = 0; j < 80; j++) ((crl_softmax_fn *)row->fn)(x + 64 * j, 64, 1, true, &max, &sum);
        else if (!strcmp(row->op, "layer_norm")) ((crl_layer_norm_fn *)row->fn)(y, x, x, x, 5120, 1e-5f);
        else if (!strcmp(row->op, "gelu")) ((crl_gelu_fn *)row->fn)(x, NULL, 5120);
        else return; /* the product of float panels serves tests and the bf16 recipe: its speed is nobody's limit */
    }
    printf("%-28s %8.2f G values/s\n", row->name, (double)done / t * 1e-9);
}
