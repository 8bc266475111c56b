/* check_gemm.c - products of packed weights and activations.
 *
 * Three things are held for every kernel: its result lies within the bound of kernels.h of the scalar one; the scalar
 * one lies within it of a product in double of the dequantised operands, so that layout, packer and product agree; and
 * a row has the same bits whatever m, lo and hi it is computed with. */
#include "base/bytes.h"
#include "quant/bf16.h"
#include "quant/q4.h"
#include "quant/q8.h"
#include "tests/kernel/checkkern.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_MAX 64 /* check_n padded */
#define K_MAX 1056

struct operands {
    enum crl_format format;
    bool cache;                /* the operation is cache_bf16 */
    struct crl_mat w;
    struct crl_act x;          /* q8, q4 */
    const float *xf;           /* bf16 */
    size_t x_stride;
    size_t k_pad, n_pad;
};

static double ref[CHECK_M][N_MAX], mag[CHECK_M][N_MAX]; /* in double: result, sum of the terms' magnitudes */
static float scalar[CHECK_M][N_MAX], one[CHECK_M][N_MAX];
static double tiny[N_MAX]; /* absolute error of scales that are denormal */

static const int8_t level_even[16] = { -127, -110, -93, -76, -59, -42, -25, -8, 8, 25, 42, 59, 76, 93, 110, 127 };
static const int8_t level_full[16] = { -128, -127, -90, -60, -30, -10, -2, -1, 0, 0, 1, 3, 31, 77, 126, 127 };

static const int8_t *levels_of(enum fill fill)
{
    return fill == FILL_EXTREME ? level_even : fill == FILL_CODES ? level_full : crl_q4_level_default;
}

/* Random bytes for codes, and scales that are finite floats of any size a file may hold. */
static void random_panel(unsigned char *panel, enum crl_format format, size_t k_pad, uint64_t *state)
{
    size_t bytes = crl_panel_bytes(format, k_pad);

    for (size_t i = 0; i < bytes; i++) panel[i] = (unsigned char)(rnd(state) >> 32);
    for (size_t i = 0; format == CRL_Q4 && i < CRL_PANEL_ROWS; i++) {
        float unit = rnd_normal(state);
        memcpy(panel + i * 4, &unit, 4);
    }
    for (size_t i = 0; i < k_pad / CRL_BLOCK * CRL_PANEL_ROWS && format == CRL_Q8; i++) {
        panel[2 * i + 1] &= 0xbf; /* below 2 */
    }
    for (size_t i = 1; i < bytes && format == CRL_BF16; i += 2) panel[i] &= 0xbf;
}

/* cache_bf16 takes denormal numbers for 0 if it likes: leave them out. */
static void drop_denormals(unsigned char *panel, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 2)
        if (!(panel[i + 1] & 0x7f) && !(panel[i] & 0x80)) panel[i] = panel[i + 1] = 0;
}

static void make_weights(struct operands *o, uint64_t *state)
{
    static float row[CRL_PANEL_ROWS][K_MAX];
    const int8_t *level = levels_of(at.fill);
    size_t head = crl_mat_header_bytes(o->format), panel_bytes = crl_panel_bytes(o->format, at.k);
    struct crl_kernels kernels;
    unsigned char *data = guarded(SLOT_W, head + crl_n_panel(at.n) * panel_bytes, 64);

    crl_simd_select(&kernels, CRL_LEVEL_ALL); /* packers are checked apart; the scalar one takes its time */
    crl_mat_header_put(o->format, data, level);
    for (size_t p = 0; p < crl_n_panel(at.n); p++) {
        const float *rows[CRL_PANEL_ROWS] = { NULL };

        if (at.fill == FILL_CODES) {
            random_panel(data + head + p * panel_bytes, o->format, o->k_pad, state);
            continue;
        }
        for (size_t r = 0; r < CRL_PANEL_ROWS && p * CRL_PANEL_ROWS + r < at.n; r++) {
            fill_row(row[r], at.k, r, at.fill == FILL_SPECIAL ? FILL_RANDOM : at.fill, state);
            rows[r] = row[r];
        }
        crl_simd_panel_pack(&kernels, o->format, data + head + p * panel_bytes, rows, at.k, level, NULL);
    }
    if (o->cache) drop_denormals(data, crl_n_panel(at.n) * panel_bytes);
    crl_mat_bind(&o->w, o->format, at.n, at.k, data);
}

static void make_activations(struct operands *o, uint64_t *state)
{
    static float row[K_MAX];
    enum fill fill = at.fill == FILL_CODES ? FILL_EXTREME : at.fill;
    size_t kp = o->k_pad;

    if (o->format == CRL_BF16) { /* an odd stride: rows start at every alignment, the last ends at the guard page */
        float *x;
        o->x_stride = kp + 1;
        o->xf = x = guarded(SLOT_X, ((CHECK_M - 1) * o->x_stride + kp) * sizeof(float), sizeof(float));
        for (size_t i = 0; i < CHECK_M; i++) {
            fill_row(x + i * o->x_stride, at.k, i, fill, state);
            memset(x + i * o->x_stride + at.k, 0, (kp - at.k) * sizeof(float));
            for (size_t j = 0; o->cache && j < at.k; j++) {
                float *v = &x[i * o->x_stride + j];
                *v = crl_bf16_round(*v);
                if (fabsf(*v) < FLT_MIN) *v = 0;
            }
        }
        return;
    }
    crl_act_shape(&o->x, crl_format_span(o->format), at.k);
    o->x.q = guarded(SLOT_Q, CHECK_M * kp, 1);
    o->x.scale = guarded(SLOT_SCALE, CHECK_M * o->x.n_span * sizeof(float), sizeof(float));
    o->x.bias = guarded(SLOT_BIAS, CHECK_M * (kp / CRL_BLOCK) * sizeof(int32_t), sizeof(int32_t));
    for (size_t i = 0; i < CHECK_M; i++) {
        fill_row(row, at.k, i, fill, state);
        crl_act_row_scalar(&o->x, i, row, at.k);
    }
}

/* Rows i .. i + m of the activations. */
static void run(const struct crl_kernel_row *row, const struct operands *o, float *y, size_t y_stride, size_t i, size_t m,
                size_t lo, size_t hi)
{
    struct crl_act x = o->x;

    if (o->format == CRL_BF16) {
        ((crl_gemm_f_fn *)row->fn)(y, y_stride, o->xf + i * o->x_stride, o->x_stride, m, &o->w, lo, hi);
        return;
    }
    x.q += i * x.k_pad;
    x.scale += i * x.n_span;
    x.bias += i * (x.k_pad / CRL_BLOCK);
    ((crl_gemm_q_fn *)row->fn)(y, y_stride, &x, m, &o->w, lo, hi);
}

static double x_at(const struct operands *o, size_t i, size_t j)
{
    if (o->format == CRL_BF16) return o->xf[i * o->x_stride + j];
    return (double)o->x.q[i * o->x.k_pad + j] * o->x.scale[i * o->x.n_span + j / o->x.span];
}

/* A product of scales may fall below the normal range and lose up to half a step of 2^-149; the largest integer sum
 * of a block, and for q4 the row scale, multiply that. */
static double tiny_error(const struct operands *o, double unit)
{
    double step = o->cache ? FLT_MIN : 0x1p-150, blocks = (double)(o->k_pad / CRL_BLOCK);

    if (o->format == CRL_BF16) return step * (double)(o->k_pad + 8);
    return step * blocks * (32 * 128 * 127 + 8) * (unit > 1 ? unit : 1);
}

/* The row scale of q4, which multiplies the end result; 1 for other formats. */
static double unit_of(const struct operands *o, size_t r)
{
    float u = 1;

    if (o->format == CRL_Q4)
        memcpy(&u, o->w.panel + r / CRL_PANEL_ROWS * o->w.panel_bytes + r % CRL_PANEL_ROWS * 4, 4);
    return fabs((double)u);
}

static void reference(const struct operands *o)
{
    static float w[K_MAX];
    static double x[CHECK_M][K_MAX];

    for (size_t i = 0; i < CHECK_M; i++)
        for (size_t j = 0; j < at.k; j++) x[i][j] = x_at(o, i, j);
    for (size_t r = 0; r < o->n_pad; r++) {
        double unit = unit_of(o, r);

        tiny[r] = tiny_error(o, unit);
        crl_mat_row(&o->w, r, w); /* padding rows too: they are zeros, except in random bytes */
        for (size_t i = 0; i < CHECK_M; i++) {
            double s = 0, a = 0;
            for (size_t j = 0; j < at.k; j++) {
                s += x[i][j] * w[j];
                a += fabs(x[i][j] * w[j]);
            }
            ref[i][r] = s;
            mag[i][r] = a;
            if (unit > 0 && a / unit > FLT_MAX / 4 && isfinite(a)) mag[i][r] = FLT_MAX; /* the sum before it overflows */
        }
    }
}

static bool near(const char *what, size_t index, float got, double want, double magnitude, double least)
{
    double bound = ((double)at.k + 8) * (FLT_EPSILON / 2) * magnitude + least;

    if (got == want || (isnan(want) && isnan(got))) return true;
    if (magnitude > FLT_MAX / 4 && isfinite(magnitude)) return true; /* overflows in one order and not in another */
    return (isfinite(magnitude) && fabs(got - want) <= bound) || differs(what, index, got, want, bound);
}

static bool same_bits(float a, float b)
{
    return !memcmp(&a, &b, sizeof a) || (isnan(a) && isnan(b));
}

/* m rows and panels [lo, hi) at once: bits as one by one, and nothing else written. */
static bool check_tile(const struct crl_kernel_row *row, const struct operands *o, size_t m, size_t lo, size_t hi)
{
    size_t i0 = CHECK_M - m, y_stride = hi * CRL_PANEL_ROWS + (m % 3 ? 3 : 0); /* the rows that end at guard pages */
    size_t n_y = (m - 1) * y_stride + hi * CRL_PANEL_ROWS;
    float *y = guarded(SLOT_Y, n_y * sizeof *y, sizeof *y), canary;

    at.m = m;
    memset(&canary, CANARY, sizeof canary);
    run(row, o, y, y_stride, i0, m, lo, hi);
    for (size_t i = 0; i < n_y; i++) {
        size_t r = i % y_stride;
        bool written = r >= lo * CRL_PANEL_ROWS && r < hi * CRL_PANEL_ROWS;
        float want = written ? one[i0 + i / y_stride][r] : canary;
        if (!same_bits(y[i], want))
            return differs(written ? "y (against one row and panel at a time)" : "y (not to be written)", i, y[i], want, 0);
    }
    return before_is_untouched(y) || differs("byte before y", 0, 1, 0, 0);
}

static bool check_value(const struct crl_kernel_row *row, size_t index, float got, size_t i, size_t r)
{
    if (row->level == CRL_SCALAR) return near("y against double", index, got, ref[i][r], mag[i][r], tiny[r]);
    if (row->tolerance == CRL_EXACT)
        return same_bits(got, scalar[i][r]) || differs("y", index, got, scalar[i][r], 0);
    return near("y", index, got, scalar[i][r], mag[i][r], tiny[r]);
}

static bool check_case(const struct crl_kernel_row *row, enum crl_format format)
{
    size_t n_panel = crl_n_panel(at.n);
    struct operands o = { .format = format, .k_pad = crl_k_pad(at.k), .n_pad = n_panel * CRL_PANEL_ROWS };
    uint64_t state = place_seed();
    struct crl_kernel_row first = *row;

    o.cache = !strcmp(row->op, "cache_bf16");
    make_weights(&o, &state);
    make_activations(&o, &state);
    reference(&o);
    first.fn = format == CRL_BF16 ? (void (*)(void))crl_gemm_bf16_scalar :
               format == CRL_Q8   ? (void (*)(void))crl_gemm_q8_scalar :
                                    (void (*)(void))crl_gemm_q4_scalar;
    run(&first, &o, scalar[0], N_MAX, 0, CHECK_M, 0, n_panel);
    at.m = 1;
    for (size_t i = 0; i < CHECK_M; i++)
        for (size_t p = 0; p < n_panel; p++) {
            float *y = guarded(SLOT_Y, (p + 1) * CRL_PANEL_ROWS * sizeof *y, sizeof *y);
            run(row, &o, y, (p + 1) * CRL_PANEL_ROWS, i, 1, p, p + 1);
            memcpy(one[i] + p * CRL_PANEL_ROWS, y + p * CRL_PANEL_ROWS, CRL_PANEL_ROWS * sizeof *y);
        }
    for (size_t i = 0; i < CHECK_M; i++)
        for (size_t r = 0; r < o.n_pad; r++)
            if (!check_value(row, i * o.n_pad + r, one[i][r], i, r)) return false;
    for (size_t m = 1; m <= CHECK_M; m++) {
        if (!check_tile(row, &o, m, 0, n_panel)) return false;
        if (n_panel > 1 && !check_tile(row, &o, m, 1, n_panel)) return false;
        if (n_panel > 2 && !check_tile(row, &o, m, 1, n_panel - 1)) return false;
    }
    return true;
}

bool check_gemm(const struct crl_kernel_row *row, enum crl_format format)
{
    for (size_t ik = 0; ik < n_check_k; ik++)
        for (size_t in = 0; in < n_check_n; in++)
            for (at.fill = 0; at.fill < FILL_END; at.fill++) {
                at.k = check_k[ik];
                at.n = check_n[in];
                if (!check_case(row, format)) return false;
            }
    return true;
}

void bench_gemm(const struct crl_kernel_row *row, enum crl_format format)
{
    static const size_t count[] = { 1, 6, 48, 512 };
    size_t n = 1024, k = 5120, panel = crl_panel_bytes(format, k), head = crl_mat_header_bytes(format);
    unsigned char *data = crl_alloc(head + crl_n_panel(n) * panel, 1);
    float *x = crl_alloc(512 * k, sizeof *x), *y = crl_alloc(512 * n, sizeof *y);
    struct crl_arena plan = { NULL, 0, 0, false }, arena;
    struct operands o = { .format = format, .xf = x, .x_stride = k, .k_pad = k };
    uint64_t state = at.seed;

    crl_mat_header_put(format, data, crl_q4_level_default);
    for (size_t p = 0; p < crl_n_panel(n); p++) random_panel(data + head + p * panel, format, k, &state);
    crl_mat_bind(&o.w, format, n, k, data);
    crl_act_place(&o.x, &plan, crl_format_span(format), 512, k);
    arena = (struct crl_arena){ crl_alloc(plan.used, 1), 0, plan.used, false };
    crl_act_place(&o.x, &arena, crl_format_span(format), 512, k);
    for (size_t i = 0; i < 512; i++) {
        fill_row(x + i * k, k, 0, FILL_RANDOM, &state);
        crl_act_row_scalar(&o.x, i, x + i * k, k);
    }
    printf("%-28s", row->name);
    for (size_t c = 0; c < sizeof count / sizeof *count; c++) {
        size_t panels = row->level == CRL_SCALAR ? 1 : crl_n_panel(n), done = 0;
        double t0, t;

        if (row->level == CRL_SCALAR && count[c] > 6) continue; /* seconds, and nobody asks */
        for (t0 = cpu_s(); (t = cpu_s() - t0) < 0.1; done++) run(row, &o, y, n, 0, count[c], 0, panels);
        printf("  m=%zu %.2f GB/s %.1f GMAC/s", count[c], (double)done * (double)(panels * panel) / t * 1e-9,
               (double)done * (double)(panels * CRL_PANEL_ROWS * k * count[c]) / t * 1e-9);
    }
    printf("\n");
    crl_free(arena.base);
    crl_free(data);
    crl_free(x);
    crl_free(y);
}
