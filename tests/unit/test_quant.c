/* test_quant.c - the weight formats and the activations: sizes, round trips, bounds of the error, odd values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "quant/act.h"
#include "quant/bf16.h"
#include "quant/mat.h"
#include "quant/q4.h"
#include "quant/q8.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define K 544 /* 17 blocks: the scales need padding to 64 bytes */

static uint64_t state = 1;

static float uniform(void) /* [0, 1) */
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(state >> 40) * 0x1p-24f;
}

static float normal(void)
{
    float r = sqrtf(-2 * logf(1 - uniform()));

    return r * cosf(6.2831853f * uniform());
}

/* A matrix of n rows of k, packed. */
struct packed {
    struct crl_mat mat;
    unsigned char *data;
    size_t bytes;
    size_t bad;
};

static struct packed pack(enum crl_format f, const float *w, size_t n, size_t k)
{
    struct packed p = { .bad = 0 };
    uint64_t bytes;

    assert_true(crl_mat_bytes(f, n, k, &bytes));
    p.bytes = (size_t)bytes;
    p.data = crl_alloc(p.bytes, 1);
    memset(p.data, 0xee, p.bytes); /* every byte must be written */
    crl_mat_header_put(f, p.data, crl_q4_level_default);
    crl_mat_bind(&p.mat, f, n, k, p.data);
    for (size_t i = 0; i < crl_n_panel(n); i++) {
        const float *rows[CRL_PANEL_ROWS];
        for (size_t r = 0; r < CRL_PANEL_ROWS; r++) rows[r] = i * 16 + r < n ? w + (i * 16 + r) * k : NULL;
        p.bad += crl_panel_pack(f, p.data + crl_mat_header_bytes(f) + i * p.mat.panel_bytes, rows, k,
                                crl_q4_level_default);
    }
    return p;
}

/* One row packed and unpacked. */
static size_t round_trip(enum crl_format f, const float *w, size_t k, float *out)
{
    struct packed p = pack(f, w, 1, k);

    crl_mat_row(&p.mat, 0, out);
    crl_free(p.data);
    return p.bad;
}

static double bits_per_weight(enum crl_format f, size_t n, size_t k)
{
    uint64_t bytes;

    assert_true(crl_mat_bytes(f, n, k, &bytes));
    return 8 * (double)bytes / ((double)n * (double)k);
}

static void sizes_are_what_the_formats_promise(void **unused)
{
    uint64_t bytes;

    (void)unused;
    assert_true(bits_per_weight(CRL_Q4, 5120, 5120) >= 4.25);
    assert_true(bits_per_weight(CRL_Q4, 5120, 5120) < 4.2566); /* and 4 bytes per row */
    assert_true(bits_per_weight(CRL_Q8, 5120, 5120) == 8.5);
    assert_true(bits_per_weight(CRL_BF16, 5120, 5120) == 16);
    assert_true(bits_per_weight(CRL_F32, 5120, 5120) == 32);
    for (unsigned f = CRL_BF16; f < CRL_FORMAT_END; f++)
        for (size_t k = 1; k < 200; k++) assert_int_equal(crl_panel_bytes((enum crl_format)f, k) % CRL_ALIGN, 0);
    assert_true(crl_mat_bytes(CRL_Q4, 17, 33, &bytes));
    assert_int_equal(bytes, 64 + 2 * (64 + 64 + 2 * 256));
    assert_true(crl_mat_bytes(CRL_Q8, 0, 33, &bytes));
    assert_int_equal(bytes, 0);
}

static void sizes_that_do_not_fit_are_refused(void **unused)
{
    uint64_t bytes = 7;

    (void)unused;
    assert_false(crl_mat_bytes(CRL_Q4, (uint64_t)1 << 41, 32, &bytes));
    assert_false(crl_mat_bytes(CRL_Q4, 32, ((uint64_t)1 << 31) + 1, &bytes));
    assert_false(crl_mat_bytes(CRL_F32, (uint64_t)1 << 40, (uint64_t)1 << 31, &bytes));
    assert_false(crl_mat_bytes(CRL_BF16, UINT64_MAX, UINT64_MAX, &bytes));
    assert_false(crl_mat_bytes((enum crl_format)0, 1, 1, &bytes));
    assert_false(crl_mat_bytes(CRL_FORMAT_END, 1, 1, &bytes));
    assert_int_equal(bytes, 7);
}

static void format_names_go_both_ways(void **unused)
{
    enum crl_format f;

    (void)unused;
    for (unsigned i = 1; i < CRL_FORMAT_END; i++) {
        assert_true(crl_format_parse(crl_format_name((enum crl_format)i), &f));
        assert_int_equal(f, i);
    }
    assert_null(crl_format_name((enum crl_format)0));
    assert_null(crl_format_name(CRL_FORMAT_END));
    assert_false(crl_format_parse("q5", &f));
    assert_false(crl_format_parse("", &f));
}

static void q4_levels_ascend_and_the_header_holds_them(void **unused)
{
    unsigned char head[64];
    struct crl_mat m;

    (void)unused;
    for (int c = 0; c < 15; c++) assert_true(crl_q4_level_default[c] < crl_q4_level_default[c + 1]);
    memset(head, 0xee, sizeof head);
    crl_mat_header_put(CRL_Q4, head, crl_q4_level_default);
    assert_memory_equal(head, crl_q4_level_default, 16);
    for (int i = 16; i < 64; i++) assert_int_equal(head[i], 0);
    crl_mat_bind(&m, CRL_Q4, 16, 32, head);
    assert_memory_equal(m.level, crl_q4_level_default, 16);
    assert_ptr_equal(m.panel, head + 64);
    head[0] = 0xee;
    crl_mat_header_put(CRL_Q8, head, NULL); /* has none */
    assert_int_equal(head[0], 0xee);
}

/* The documented place of every code, computed here from docs/format.md. */
static void codes_lie_where_the_format_says(void **unused)
{
    static float w[17 * 96];
    struct packed q8, q4, bf;
    const unsigned char *codes;

    (void)unused;
    for (size_t i = 0; i < 17 * 96; i++) w[i] = normal();
    q8 = pack(CRL_Q8, w, 17, 96);
    q4 = pack(CRL_Q4, w, 17, 96);
    bf = pack(CRL_BF16, w, 17, 96);
    for (size_t n = 0; n < 17; n++)
        for (size_t c = 0; c < 96; c++) {
            size_t r = n % 16, b = c / 32, g = c % 32 / 4;
            const unsigned char *p = q8.mat.panel + n / 16 * (128 + 3 * 512);
            float row[96], unit, want;

            crl_mat_row(&q8.mat, n, row);
            want = crl_bf16_to_f32(crl_le16(p + 32 * b + 2 * r)) * (int8_t)p[128 + 64 * (c / 4) + 4 * r + c % 4];
            assert_true(row[c] == want);
            p = q4.mat.panel + n / 16 * (64 + 64 + 3 * 256);
            codes = p + 64 + 64 + 256 * b + 64 * (g / 2);
            unit = crl_f32_from_bits(crl_le32(p + 4 * r));
            crl_mat_row(&q4.mat, n, row);
            want = unit * (float)((int8_t)p[64 + 16 * b + r] *
                                  crl_q4_level_default[codes[4 * r + c % 4] >> (g % 2 ? 4 : 0) & 15]);
            assert_true(row[c] == want);
            p = bf.mat.panel + n / 16 * (32 * 96);
            crl_mat_row(&bf.mat, n, row);
            assert_true(row[c] == crl_bf16_to_f32(crl_le16(p + 64 * (c / 2) + 4 * r + 2 * (c % 2))));
        }
    crl_free(q8.data);
    crl_free(q4.data);
    crl_free(bf.data);
}

static void bf16_values_survive_exactly(void **unused)
{
    float w[K], out[K];

    (void)unused;
    for (size_t j = 0; j < K; j++) w[j] = crl_bf16_to_f32(crl_bf16_from_f32(normal() * 1e10f));
    w[0] = crl_bf16_to_f32(0x0001); /* denormal */
    w[1] = crl_bf16_to_f32(0x7f7f); /* largest */
    w[2] = -0.0f;
    assert_int_equal(round_trip(CRL_BF16, w, K, out), 0);
    assert_memory_equal(w, out, sizeof w);
}

static void bf16_weights_at_the_end_of_float_stay_finite(void **unused)
{
    float w[3] = { FLT_MAX, -FLT_MAX, 3.38e38f }, out[3], most = crl_bf16_to_f32(0x7f7f);

    (void)unused;
    assert_int_equal(round_trip(CRL_BF16, w, 3, out), 0);
    assert_true(out[0] == most && out[1] == -most && fabsf(out[2] / 3.38e38f - 1) < 1.0f / 256);
}

static void q8_error_is_at_most_half_a_step(void **unused)
{
    static const float size[] = { 1, 1e-6f, 1e6f, 1e30f, 1e-30f };
    float w[K], out[K];

    (void)unused;
    for (size_t t = 0; t < sizeof size / sizeof *size; t++) {
        struct packed p;

        for (size_t j = 0; j < K; j++) w[j] = normal() * size[t];
        p = pack(CRL_Q8, w, 1, K);
        crl_mat_row(&p.mat, 0, out);
        for (size_t b = 0; b < K / 32; b++) {
            float big = 0, step = crl_bf16_to_f32(crl_le16(p.mat.panel + b * 32));
            for (size_t j = b * 32; j < b * 32 + 32; j++) big = fmaxf(big, fabsf(w[j]));
            assert_true(step >= big / 127 && step < big / 127 * (1 + 4.0f / 128)); /* one of the next four */
            for (size_t j = b * 32; j < b * 32 + 32; j++)
                assert_true(fabsf(w[j] - out[j]) <= step / 2 * (1 + 4 * FLT_EPSILON));
        }
        crl_free(p.data);
    }
}

static double misfit(enum crl_format f, const float *w, size_t k) /* squared error over squared weights */
{
    float *out = crl_alloc(k, sizeof *out);
    double err = 0, ref = 0;

    round_trip(f, w, k, out);
    for (size_t j = 0; j < k; j++) {
        err += ((double)w[j] - out[j]) * ((double)w[j] - out[j]);
        ref += (double)w[j] * w[j];
    }
    crl_free(out);
    return err / ref;
}

static void q4_error_on_normal_weights_is_small(void **unused)
{
    size_t k = 32768;
    float *w = crl_alloc(k, sizeof *w);
    double e;

    (void)unused;
    for (size_t j = 0; j < k; j++) w[j] = normal() * 0.02f;
    e = misfit(CRL_Q4, w, k);
    assert_true(e < 0.0056);
    assert_true(e > 0.004); /* 16 levels cannot do better: the test would be measuring something else */
    for (size_t j = 0; j < k; j++) w[j] = -w[j];
    e = misfit(CRL_Q4, w, k);
    assert_true(e < 0.0056); /* the levels are not symmetric, scales of either sign make up for it */
    e = misfit(CRL_Q8, w, k);
    assert_true(e < 5e-5);
    crl_free(w);
}

static void rows_of_zeros_stay_zeros(void **unused)
{
    float w[K] = { 0 }, out[K];

    (void)unused;
    for (unsigned f = CRL_BF16; f < CRL_FORMAT_END; f++) {
        struct packed p = pack((enum crl_format)f, w, 1, K);
        crl_mat_row(&p.mat, 0, out);
        for (size_t j = 0; j < K; j++) assert_true(out[j] == 0);
        for (size_t i = crl_mat_header_bytes((enum crl_format)f); i < p.bytes; i++) assert_int_equal(p.data[i], 0);
        crl_free(p.data);
    }
}

static void constant_rows_come_back(void **unused)
{
    static const float value[] = { 1, -1, 3.7e-5f, -2.5e12f };
    float w[K], out[K];

    (void)unused;
    for (size_t t = 0; t < sizeof value / sizeof *value; t++) {
        for (size_t j = 0; j < K; j++) w[j] = value[t];
        round_trip(CRL_Q4, w, K, out);
        for (size_t j = 0; j < K; j++) assert_true(fabsf(out[j] / value[t] - 1) < 1e-6f); /* scales are fitted */
        round_trip(CRL_Q8, w, K, out);
        for (size_t j = 0; j < K; j++) assert_true(fabsf(out[j] / value[t] - 1) < 1.0f / 254);
    }
}

static void one_outlier_is_kept_and_spares_other_blocks(void **unused)
{
    float w[K], out[K];
    double err = 0, ref = 0;

    (void)unused;
    for (size_t j = 0; j < K; j++) w[j] = normal();
    w[100] = 60;
    round_trip(CRL_Q4, w, K, out);
    assert_true(fabsf(out[100] - 60) < 60 * 0.03f);
    for (size_t j = 0; j < K; j++) {
        if (j / 32 == 100 / 32) continue;
        err += ((double)w[j] - out[j]) * ((double)w[j] - out[j]);
        ref += (double)w[j] * w[j];
    }
    assert_true(err / ref < 0.0075); /* block scales have few steps left under such a row scale, and that costs this */
    w[100] = 60000;
    round_trip(CRL_Q4, w, K, out);
    assert_true(fabsf(out[100] - 60000) < 60000 * 0.03f);
    for (size_t j = 0; j < K; j++) assert_true(isfinite(out[j]));
    round_trip(CRL_Q8, w, K, out);
    for (size_t j = 0; j < K; j++) /* q8 has a scale of its own for every block */
        assert_true(fabsf(w[j] - out[j]) <= (j / 32 == 100 / 32 ? 60000.0f : 6.0f) / 127 * 0.51f);
}

static void nonfinite_weights_are_counted_and_zeroed(void **unused)
{
    float w[K], clean[K], out[K], want[K];

    (void)unused;
    for (size_t j = 0; j < K; j++) w[j] = clean[j] = normal();
    w[0] = NAN;
    w[31] = INFINITY;
    w[32] = -INFINITY;
    w[K - 1] = -NAN;
    clean[0] = clean[31] = clean[32] = clean[K - 1] = 0;
    for (unsigned f = CRL_BF16; f < CRL_FORMAT_END; f++) {
        assert_int_equal(round_trip((enum crl_format)f, w, K, out), 4);
        assert_int_equal(round_trip((enum crl_format)f, clean, K, want), 0);
        assert_memory_equal(out, want, sizeof out);
    }
}

static void padding_is_zero(void **unused)
{
    float w[3 * 33];
    size_t k = 33;

    (void)unused;
    for (size_t i = 0; i < 3 * k; i++) w[i] = 1 + uniform();
    for (unsigned f = CRL_BF16; f < CRL_FORMAT_END; f++) {
        struct packed p = pack((enum crl_format)f, w, 3, k);
        struct crl_mat wide = p.mat;
        float row[64];

        wide.k = 64; /* the same panel, seen up to k_pad */
        for (size_t r = 3; r < 16; r++) {
            crl_mat_row(&wide, r, row);
            for (size_t j = 0; j < 64; j++) assert_true(row[j] == 0);
        }
        for (size_t r = 0; r < 3; r++) {
            crl_mat_row(&wide, r, row);
            for (size_t j = 0; j < k; j++) assert_true(row[j] != 0);
            /* q4 has no level 0: what zeros quantise to, which is the level nearest to it */
            for (size_t j = k; j < 64; j++) assert_true(f == CRL_Q4 ? fabsf(row[j]) < 0.05f : row[j] == 0);
        }
        crl_free(p.data);
    }
}

static void codes_are_never_minus_128(void **unused)
{
    float w[K];
    struct packed p;
    const int8_t *code;

    (void)unused;
    for (size_t j = 0; j < K; j++) /* maxima of either sign at every rounding of the scale */
        w[j] = (j & 1 ? -1.0f : 1.0f) * (j % 32 < 2 ? 1 : uniform()) * ldexpf(1 + uniform(), (int)(j / 32) - 8);
    p = pack(CRL_Q8, w, 1, K);
    code = (const int8_t *)p.mat.panel + crl_q8_scale_bytes(K);
    for (size_t i = 0; i < K * 16; i++) assert_true(code[i] >= -127);
    crl_free(p.data);
    p = pack(CRL_Q4, w, 1, K);
    for (size_t i = 64; i < crl_q4_scale_bytes(K); i++) assert_true((int8_t)p.mat.panel[i] >= -127);
    crl_free(p.data);
}

static void packing_depends_on_the_values_alone(void **unused)
{
    static float w[17 * K], shifted[17 * K + 1];

    (void)unused;
    for (size_t i = 0; i < 17 * K; i++) w[i] = shifted[i + 1] = normal();
    for (unsigned f = CRL_BF16; f < CRL_FORMAT_END; f++) {
        struct packed a = pack((enum crl_format)f, w, 17, K), b = pack((enum crl_format)f, shifted + 1, 17, K);
        struct packed last = pack((enum crl_format)f, w + 16 * K, 1, K);

        assert_memory_equal(a.data, b.data, a.bytes);
        /* the second panel is the same without the first */
        assert_memory_equal(a.mat.panel + a.mat.panel_bytes, last.mat.panel, last.mat.panel_bytes);
        crl_free(a.data);
        crl_free(b.data);
        crl_free(last.data);
    }
}

/* One row of activations of k <= K values. */
struct one_row {
    int8_t q[K];
    float scale[K / 32];
    int32_t bias[K / 32];
    struct crl_act act;
};

static void quantise(struct one_row *o, const float *x, size_t k, size_t span)
{
    memset(o, 0xee, sizeof *o);
    o->act = (struct crl_act){ .q = o->q, .scale = o->scale, .bias = o->bias };
    crl_act_shape(&o->act, span, k);
    crl_act_row_scalar(&o->act, 0, x, k);
}

static void check_span(const struct one_row *o, const float *x, size_t k, size_t s)
{
    size_t span = o->act.span, end = (s + 1) * span < o->act.k_pad ? (s + 1) * span : o->act.k_pad;
    float big = 0;

    for (size_t j = s * span; j < end && j < k; j++) big = fmaxf(big, fabsf(x[j]));
    assert_true(o->scale[s] == big / 127);
    for (size_t j = s * span; j < end; j++) {
        if (j < k) assert_true(fabsf(x[j] - o->scale[s] * o->q[j]) <= o->scale[s] * 0.50001f);
        else assert_int_equal(o->q[j], 0);
        assert_true(o->q[j] >= -127);
    }
}

static void activation_error_is_at_most_half_a_step(void **unused)
{
    static const size_t spans[] = { CRL_Q8_SPAN, CRL_Q4_SPAN };
    float x[K];
    struct one_row o;

    (void)unused;
    for (size_t j = 0; j < K; j++) x[j] = normal() * ldexpf(1, (int)(j / 32) * 8 - 64);
    x[40] = 0;
    for (size_t t = 0; t < 2; t++) {
        quantise(&o, x, 517, spans[t]);
        for (size_t s = 0; s < o.act.n_span; s++) check_span(&o, x, 517, s);
        for (size_t b = 0; b < o.act.k_pad / 32; b++) {
            int32_t sum = 0;
            for (size_t j = b * 32; j < b * 32 + 32; j++) sum += o.q[j];
            assert_int_equal(o.bias[b], -128 * sum);
        }
    }
}

static void activations_not_finite_come_out_of_the_product(void **unused)
{
    float w[K], x[K], y[16];
    struct one_row o;
    struct packed q8, q4;

    (void)unused;
    for (size_t j = 0; j < K; j++) w[j] = normal();
    q8 = pack(CRL_Q8, w, 1, K);
    q4 = pack(CRL_Q4, w, 1, K);
    for (int t = 0; t < 2; t++) {
        for (size_t j = 0; j < K; j++) x[j] = normal();
        x[77] = t ? NAN : INFINITY;
        quantise(&o, x, K, CRL_Q8_SPAN);
        for (size_t j = 64; j < 96; j++) assert_int_equal(o.q[j], 0);
        crl_gemm_q8_scalar(y, 16, &o.act, 1, &q8.mat, 0, 1);
        assert_true(isnan(y[0]));
        quantise(&o, x, K, CRL_Q4_SPAN);
        for (size_t j = 0; j < 128; j++) assert_int_equal(o.q[j], 0);
        crl_gemm_q4_scalar(y, 16, &o.act, 1, &q4.mat, 0, 1);
        assert_true(isnan(y[0]));
    }
    crl_free(q8.data);
    crl_free(q4.data);
}

/* The kernels' specification against plain sums in double. */
static void products_are_those_of_the_dequantised_operands(void **unused)
{
    static float w[17 * 100], x[128];
    struct one_row o;

    (void)unused;
    for (size_t i = 0; i < 17 * 100; i++) w[i] = normal();
    for (size_t j = 0; j < 100; j++) x[j] = normal(); /* the rest is padding for bf16 */
    for (unsigned f = CRL_BF16; f < CRL_FORMAT_END; f++) {
        struct packed p = pack((enum crl_format)f, w, 17, 100);
        float y[32], row[100];

        quantise(&o, x, 100, f == CRL_Q8 ? CRL_Q8_SPAN : CRL_Q4_SPAN);
        if (f == CRL_BF16) crl_gemm_bf16_scalar(y, 32, x, 128, 1, &p.mat, 0, 2);
        else (f == CRL_Q8 ? crl_gemm_q8_scalar : crl_gemm_q4_scalar)(y, 32, &o.act, 1, &p.mat, 0, 2);
        for (size_t n = 0; n < 17; n++) {
            double s = 0, a = 0;
            crl_mat_row(&p.mat, n, row);
            for (size_t j = 0; j < 100; j++) {
                double t = row[j] * (f == CRL_BF16 ? (double)x[j] : (double)o.scale[j / o.act.span] * o.q[j]);
                s += t;
                a += fabs(t);
            }
            assert_true(fabs(y[n] - s) <= 108 * FLT_EPSILON / 2 * a);
        }
        for (size_t n = 17; n < 32; n++) assert_true(y[n] == 0);
        crl_free(p.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_what_the_formats_promise),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(format_names_go_both_ways),
        cmocka_unit_test(q4_levels_ascend_and_the_header_holds_them),
        cmocka_unit_test(codes_lie_where_the_format_says),
        cmocka_unit_test(bf16_values_survive_exactly),
        cmocka_unit_test(bf16_weights_at_the_end_of_float_stay_finite),
        cmocka_unit_test(q8_error_is_at_most_half_a_step),
        cmocka_unit_test(q4_error_on_normal_weights_is_small),
        cmocka_unit_test(rows_of_zeros_stay_zeros),
        cmocka_unit_test(constant_rows_come_back),
        cmocka_unit_test(one_outlier_is_kept_and_spares_other_blocks),
        cmocka_unit_test(nonfinite_weights_are_counted_and_zeroed),
        cmocka_unit_test(padding_is_zero),
        cmocka_unit_test(codes_are_never_minus_128),
        cmocka_unit_test(packing_depends_on_the_values_alone),
        cmocka_unit_test(activation_error_is_at_most_half_a_step),
        cmocka_unit_test(activations_not_finite_come_out_of_the_product),
        cmocka_unit_test(products_are_those_of_the_dequantised_operands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
