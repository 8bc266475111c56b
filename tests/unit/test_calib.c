/* test_calib.c - activation statistics: what they say of a model, which files are refused, and that packing by them
 * does what it is for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "convert/guide.h"
#include "convert/verify.h"
#include "eval/calibrate.h"
#include "quant/q4.h"
#include "tests/unit/stage.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME "calib_test.crs"

static void must(enum crl_status st, const struct crl_err *err)
{
    if (st) fail_msg("%s", err->text);
}

/* A corpus of ids without any tokenizer, and the statistics over it. */
static void calibrate(const char *folder, uint32_t span, unsigned threads, const char *path,
                      struct crl_calibrate_report *report)
{
    struct crl_engine_options eo = { .threads = threads };
    struct crl_calibrate_options o = { .span = span };
    struct crl_convert_options co = { .jobs = 1 };
    struct crl_corpus corpus;
    struct crl_windows windows;
    struct crl_corpus_options no_bos = { .no_bos = true };
    struct crl_recipe r;
    struct crl_ckpt *ck;
    struct crl_pack *pack;
    struct crl_engine *e;
    struct crl_err err = { "" };
    char text[4096] = "";

    for (int doc = 0, at = 0; doc < 3; doc++) {
        at += snprintf(text + at, sizeof text - (size_t)at, "{\"ids\":[%d", doc);
        for (int i = 1; i < 40 + doc; i++)
            at += snprintf(text + at, sizeof text - (size_t)at, ",%d", (i * 7 + doc * 13) % 64);
        at += snprintf(text + at, sizeof text - (size_t)at, "]}\n");
    }
    must(crl_recipe_parse(&r, "bf16", NULL, 0, &err), &err);
    must(crl_ckpt_open(&ck, folder, &err), &err);
    must(crl_convert(ck, &r, NULL, &pack, &co, NULL, &err), &err);
    must(crl_engine_from_pack(&e, pack, &eo, &err), &err);
    must(crl_corpus_parse(&corpus, e, text, strlen(text), true, "text", &no_bos, &err), &err);
    must(crl_windows_cut(&windows, &corpus, 16, 16, &err), &err);
    must(crl_calibrate(e, &corpus, &windows, &o, path, report, &err), &err);
    crl_windows_fini(&windows);
    crl_corpus_fini(&corpus);
    crl_engine_close(e);
    crl_ckpt_close(ck);
}

static struct crl_calib *open_for(const char *folder, enum crl_status *st, struct crl_err *err)
{
    struct crl_ckpt *ck;
    struct crl_calib *c;

    must(crl_ckpt_open(&ck, folder, err), err);
    *st = crl_convert_calibration(&c, ck, FILE_NAME, err);
    crl_ckpt_close(ck);
    return c;
}

static void statistics_count_every_row_once(void **state)
{
    char *folder = stage_case("A");
    struct crl_calibrate_report report;
    struct crl_err err = { "" };
    enum crl_status st;
    struct crl_calib *c;
    const struct crl_calib_layout *l;
    size_t moe = 0;

    (void)state;
    calibrate(folder, 32, 1, FILE_NAME, &report);
    c = open_for(folder, &st, &err);
    must(st, &err);
    l = crl_calib_layout_of(c);
    assert_int_equal(crl_calib_tokens(c), report.tokens);
    assert_int_equal(report.bytes, l->bytes);
    for (uint32_t layer = 0; layer < l->n_layer; layer++) {
        size_t q = crl_calib_find(l, CRL_KIND_V, (int32_t)layer, -1);
        uint64_t routed = 0, down = 0;

        assert_int_equal(crl_calib_count(c, q), report.tokens);
        for (int32_t e = 0; crl_calib_find(l, CRL_KIND_EXPERT_GATE_UP, (int32_t)layer, e) != CRL_NO_WEIGHT; e++) {
            routed += crl_calib_count(c, crl_calib_find(l, CRL_KIND_EXPERT_GATE_UP, (int32_t)layer, e));
            down += crl_calib_count(c, crl_calib_find(l, CRL_KIND_EXPERT_DOWN, (int32_t)layer, e));
            moe++;
        }
        assert_int_equal(routed, down);
        assert_true(routed % report.tokens == 0);
    }
    assert_int_equal(moe, report.n_expert);
    assert_true(moe > 0 && report.n_poor == moe); /* 120 tokens are few for any */
    crl_calib_close(c);
    crl_calibrate_report_free(&report);
    unlink(FILE_NAME);
    stage_remove(folder);
}

/* Products stay inside what the sums allow, and some inputs do go together. */
static void sums_and_products_are_those_of_the_inputs(void **state)
{
    char *folder = stage_case("A");
    struct crl_calibrate_report report;
    struct crl_err err = { "" };
    enum crl_status st;
    struct crl_calib *c;
    float sum[4096], product[256 * 256];
    const struct crl_calib_layout *l;

    (void)state;
    calibrate(folder, 32, 1, FILE_NAME, &report);
    c = open_for(folder, &st, &err);
    must(st, &err);
    l = crl_calib_layout_of(c);
    for (size_t i = 0; i < l->n; i++) {
        const struct crl_calib_record *r = &l->record[i];
        double most = 0;

        if (!r->sums || !r->products) continue;
        crl_calib_sums(c, i, sum);
        for (uint32_t first = 0; first < r->k; first += 32) {
            uint32_t width = r->k - first < 32 ? r->k - first : 32;
            crl_calib_products(c, i, first, product);
            for (uint32_t a = 1, at = 0; a < width; a++)
                for (uint32_t b = 0; b < a; b++, at++) { /* Cauchy and Schwarz */
                    double bound = sqrt((double)sum[first + a] * sum[first + b]);
                    assert_true(fabs(product[at]) <= bound * 1.0001 + 1e-12);
                    most = fmax(most, fabs(product[at]) / (bound + 1e-30));
                }
        }
        assert_true(most > 0.1);
    }
    crl_calib_close(c);
    crl_calibrate_report_free(&report);
    unlink(FILE_NAME);
    stage_remove(folder);
}

static void statistics_do_not_depend_on_threads(void **state)
{
    char *folder = stage_case("A"), *data[3];
    size_t len[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct crl_calibrate_report report;
        struct crl_err err = { "" };
        calibrate(folder, 64, i + 1, FILE_NAME, &report);
        must(crl_file_read(&data[i], &len[i], FILE_NAME, 1 << 24, &err), &err);
        crl_calibrate_report_free(&report);
        assert_int_equal(len[i], len[0]);
        assert_memory_equal(data[i], data[0], len[0]);
    }
    for (unsigned i = 0; i < 3; i++) crl_free(data[i]);
    unlink(FILE_NAME);
    stage_remove(folder);
}

static void seal(unsigned char *p, size_t len)
{
    memset(p + 24, 0, 8);
    crl_put_le64(p + 24, crl_hash(p, len));
}

/* Every byte is under the hash; what is changed under a right hash is found where it matters. */
static void damaged_statistics_are_refused(void **state)
{
    char *folder = stage_case("A"), *data;
    struct crl_calibrate_report report;
    struct crl_err err = { "" };
    struct crl_calib *c;
    struct crl_ckpt *ck;
    const struct crl_config *cfg;
    unsigned char *p;
    uint64_t id;
    size_t len;

    (void)state;
    calibrate(folder, 32, 1, FILE_NAME, &report);
    must(crl_file_read(&data, &len, FILE_NAME, 1 << 24, &err), &err);
    must(crl_ckpt_open(&ck, folder, &err), &err);
    cfg = crl_ckpt_config(ck);
    p = (unsigned char *)data;
    id = crl_le64(p + 32);
    must(crl_calib_open_mem(&c, p, len, "m", cfg, id, &err), &err);
    crl_calib_close(c);
    for (size_t i = 0; i < len; i += i < 64 ? 1 : 37) {
        p[i] ^= 4;
        assert_int_not_equal(crl_calib_open_mem(&c, p, len, "m", cfg, id, NULL), CRL_OK);
        assert_null(c);
        p[i] ^= 4;
    }
    for (size_t n = 0; n < len; n += 61) assert_int_not_equal(crl_calib_open_mem(&c, p, n, "m", cfg, id, NULL), CRL_OK);
    assert_int_equal(crl_calib_open_mem(&c, p, len, "m", cfg, id + 1, NULL), CRL_EDIFFER);
    static const struct {
        size_t at;
        uint32_t value;
    } wrong[] = { { 8, 2 }, { 12, 33 }, { 12, 64 }, { 12, 288 }, { 12, 0 }, { 16, 64 }, { 48, 1 }, { 52, 1 },
                  { 56, 1 }, { 64, 0 }, { 72, 0x7fc00000 }, { 72, 0xbf800000 }, { 76, 0x7f800000 } };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint32_t was = crl_le32(p + wrong[i].at);
        crl_put_le32(p + wrong[i].at, wrong[i].value);
        seal(p, len);
        if (crl_calib_open_mem(&c, p, len, "m", cfg, id, NULL) == CRL_OK)
            fail_msg("value %u at %zu was taken", wrong[i].value, wrong[i].at);
        crl_put_le32(p + wrong[i].at, was);
    }
    seal(p, len);
    must(crl_calib_open_mem(&c, p, len, "m", cfg, id, &err), &err);
    crl_calib_close(c);
    crl_ckpt_close(ck);
    crl_free(data);
    crl_calibrate_report_free(&report);
    unlink(FILE_NAME);
    stage_remove(folder);
}

static void statistics_of_another_model_are_refused(void **state)
{
    static const unsigned char half[2] = { 0x00, 0x3f };
    char *folder = stage_case("A"), *other = stage_case("A");
    struct crl_calibrate_report report;
    struct crl_err err = { "" };
    enum crl_status st;

    (void)state;
    calibrate(folder, 0, 1, FILE_NAME, &report);
    stage_poke(other, "language_model.model.norm.weight", 0, half, 2);
    assert_null(open_for(other, &st, &err));
    assert_int_equal(st, CRL_EDIFFER);
    assert_non_null(strstr(err.text, "another model"));
    crl_calibrate_report_free(&report);
    unlink(FILE_NAME);
    stage_remove(folder);
    stage_remove(other);
}

static struct crl_pack *convert_by(const char *folder, struct crl_calib *calib, unsigned jobs)
{
    struct crl_convert_options opt = { .jobs = jobs, .calib = calib };
    struct crl_recipe r;
    struct crl_ckpt *ck;
    struct crl_pack *pack;
    struct crl_err err = { "" };

    must(crl_recipe_parse(&r, "q4", NULL, 0, &err), &err);
    r.calibration = calib ? crl_calib_hash(calib) : 0;
    must(crl_ckpt_open(&ck, folder, &err), &err);
    must(crl_convert(ck, &r, NULL, &pack, &opt, NULL, &err), &err);
    crl_ckpt_close(ck);
    return pack;
}

static void conversion_by_statistics_is_deterministic_and_verified(void **state)
{
    static const uint32_t spans[] = { 0, 32, 256 };
    char *folder = stage_case("A");

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct crl_convert_options opt = { .jobs = 2 };
        struct crl_calibrate_report report;
        struct crl_err err = { "" };
        enum crl_status st;
        struct crl_calib *c;
        struct crl_pack *one, *three, *plain;
        struct crl_ckpt *ck;

        calibrate(folder, spans[i], 2, FILE_NAME, &report);
        c = open_for(folder, &st, &err);
        must(st, &err);
        one = convert_by(folder, c, 1);
        three = convert_by(folder, c, 3);
        plain = convert_by(folder, NULL, 1);
        assert_int_equal(crl_pack_size(one), crl_pack_size(three));
        assert_memory_equal(crl_pack_data(one), crl_pack_data(three), crl_pack_size(one));
        assert_int_equal(crl_pack_calibration(one), crl_calib_hash(c));
        assert_int_equal(crl_pack_calibration(plain), 0);
        assert_int_equal(crl_pack_size(one), crl_pack_size(plain));
        assert_true(memcmp(crl_pack_data(one) + crl_pack_extent(one, 2)->offset,
                           crl_pack_data(plain) + crl_pack_extent(plain, 2)->offset, 4096) != 0);
        must(crl_ckpt_open(&ck, folder, &err), &err);
        assert_int_equal(crl_verify_against(one, ck, &opt, NULL, &err), CRL_ERANGE);
        opt.calib = c;
        err.text[0] = 0;
        must(crl_verify_against(one, ck, &opt, NULL, &err), &err);
        assert_int_equal(crl_verify_against(plain, ck, &opt, NULL, NULL), CRL_ERANGE);
        crl_ckpt_close(ck);
        crl_pack_close(one);
        crl_pack_close(three);
        crl_pack_close(plain);
        crl_calib_close(c);
        crl_calibrate_report_free(&report);
    }
    unlink(FILE_NAME);
    stage_remove(folder);
}

/* --- what the guides do -------------------------------------------------------------------------------------------- */

static uint64_t seed = 1;

static float normal(void)
{
    float s = 0;

    for (int i = 0; i < 12; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        s += (float)(seed >> 40) * 0x1p-24f;
    }
    return s - 6;
}

/* share of weight i per error of weight 0 is -(R_FF^-1 R_F0)_i over the others F: solved here by hand for three. */
static void shares_are_those_of_least_squares(void **state)
{
    double r[9] = { 1, 0, 0, 0.6, 1, 0, -0.3, 0.2, 1 }, work[18], damp = 0.05, d = 1 + damp;
    double det = d * d - 0.2 * 0.2, x1 = (0.6 * d - 0.2 * -0.3) / det, x2 = (-0.3 * d - 0.2 * 0.6) / det;
    float share[9] = { 0 };

    (void)state;
    assert_true(crl_guide_shares(share, 3, r, 3, damp, work));
    assert_float_equal(share[1], -x1, 1e-6);
    assert_float_equal(share[2], -x2, 1e-6);
    assert_float_equal(share[3 + 2], -0.2 / d, 1e-6);
    r[3] = r[6] = 1;
    r[7] = -1;
    assert_false(crl_guide_shares(share, 3, r, 3, 0.01, work)); /* no correlation of anything */
}

#define K 256

/* Mean squared error of the row's product with inputs size_j * (u_j + mix * v), all u_j and v independent and normed. */
static double output_error(const float *w, const float *q, const float *size, float mix)
{
    double own = 0, common = 0;

    for (int j = 0; j < K; j++) {
        double d = (double)(w[j] - q[j]) * size[j];
        own += d * d;
        common += d;
    }
    return own + mix * mix * common * common;
}

static void pack_row(float *out, const float *w, const struct crl_q4_guide *g)
{
    const float *rows[CRL_PANEL_ROWS] = { w };
    unsigned char *panel = crl_alloc(crl_panel_bytes(CRL_Q4, K), 1);

    crl_q4_pack(panel, rows, K, crl_q4_level_default, g);
    crl_q4_row(panel, 0, K, crl_q4_level_default, out);
    crl_free(panel);
}

/* Least weighted error of a block over a fine grid of scales, codes being the nearest. */
static double brute_force(const float *w, const float *cost)
{
    double least = INFINITY;
    float big = 0;

    for (int j = 0; j < 32; j++) big = fmaxf(big, fabsf(w[j]));
    for (int t = -4000; t <= 4000; t++) {
        float d = big / 127 * 2 * (float)t / 4000;
        double err = 0;
        for (int j = 0; j < 32; j++) {
            double one = INFINITY;
            for (int c = 0; c < 16; c++)
                one = fmin(one, pow((double)w[j] - (double)d * crl_q4_level_default[c], 2));
            err += cost[j] * one;
        }
        least = fmin(least, err);
    }
    return least;
}

static void weighted_search_is_near_brute_force(void **state)
{
    float w[K], cost[K], q[K], plain[K];
    struct crl_q4_guide g = { .importance = cost };
    double got = 0, without = 0, least = 0;

    (void)state;
    for (int j = 0; j < K; j++) {
        w[j] = normal();
        cost[j] = expf(1.5f * normal());
    }
    pack_row(q, w, &g);
    pack_row(plain, w, NULL);
    for (int j = 0; j < K; j++) {
        got += cost[j] * pow((double)w[j] - q[j], 2);
        without += cost[j] * pow((double)w[j] - plain[j], 2);
    }
    for (int b = 0; b < K; b += 32) least += brute_force(w + b, cost + b);
    assert_true(got < 0.95 * without);
    assert_true(got >= least * 0.999 && got < 1.08 * least);
}

/* Inputs that go together: errors fed along make the outputs better although single weights get worse. */
static void fed_errors_cancel_in_the_output(void **state)
{
    const float mix = 1.0f;
    float w[K], size[K], q[K], plain[K], *feed = crl_alloc((size_t)K * 64, sizeof *feed), importance[K];
    double *r = crl_alloc(3 * 64 * 64, sizeof *r), with = 0, without = 0;
    struct crl_q4_guide g = { importance, feed, 64 };

    (void)state;
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < i; j++) r[i * 64 + j] = mix * mix / (1 + mix * mix);
    for (int j = 0; j < K; j++) {
        size[j] = j % 5 ? 1 : 2;
        importance[j] = size[j] * size[j];
    }
    for (int first = 0; first < K; first += 64)
        assert_true(crl_guide_shares(feed + (size_t)first * 64, 64, r, 64, 0.01, r + 64 * 64));
    for (int j = 0; j < K; j++)
        for (int i = j % 64 + 1; i < 64; i++) feed[j * 64 + i] *= size[j] / size[j / 64 * 64 + i];
    for (int row = 0; row < 64; row++) { /* what one row gains is luck */
        for (int j = 0; j < K; j++) w[j] = normal();
        pack_row(q, w, &g);
        pack_row(plain, w, NULL);
        with += output_error(w, q, size, mix);
        without += output_error(w, plain, size, mix);
    }
    if (!(with < 0.8 * without)) fail_msg("error %g with, %g without", with, without);
    crl_free(feed);
    crl_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_count_every_row_once),
        cmocka_unit_test(sums_and_products_are_those_of_the_inputs),
        cmocka_unit_test(statistics_do_not_depend_on_threads),
        cmocka_unit_test(damaged_statistics_are_refused),
        cmocka_unit_test(statistics_of_another_model_are_refused),
        cmocka_unit_test(conversion_by_statistics_is_deterministic_and_verified),
        cmocka_unit_test(shares_are_those_of_least_squares),
        cmocka_unit_test(weighted_search_is_near_brute_force),
        cmocka_unit_test(fed_errors_cancel_in_the_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
