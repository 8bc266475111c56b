/* test_convert.c - the bytes of a conversion depend on checkpoint and recipe alone; what fails leaves nothing
 * behind; verifying finds every difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "convert/info.h"
#include "convert/verify.h"
#include "tests/unit/stage.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct crl_ckpt *open_ok(const char *path)
{
    struct crl_ckpt *ck;
    struct crl_err err = { "" };

    if (crl_ckpt_open(&ck, path, &err)) fail_msg("%s: %s", path, err.text);
    return ck;
}

static struct crl_recipe recipe_of(const char *name)
{
    struct crl_recipe r;

    assert_int_equal(crl_recipe_parse(&r, name, NULL, 0, NULL), CRL_OK);
    return r;
}

static struct crl_pack *convert_to_memory(const char *folder, const char *recipe, unsigned jobs,
                                          struct crl_report *report)
{
    struct crl_convert_options opt = { .jobs = jobs, .measure = report != NULL };
    struct crl_recipe r = recipe_of(recipe);
    struct crl_ckpt *ck = open_ok(folder);
    struct crl_pack *pack;
    struct crl_err err = { "" };

    if (crl_convert(ck, &r, NULL, &pack, &opt, report, &err)) fail_msg("%s %s: %s", folder, recipe, err.text);
    crl_ckpt_close(ck);
    return pack;
}

static void bytes_do_not_depend_on_threads_or_the_day(void **state)
{
    static const char *const cases[] = { "A", "C", "M", "N", "R" }, *const recipes[] = { "bf16", "q8", "q4" };

    (void)state;
    for (size_t c = 0; c < 5; c++)
        for (size_t r = 0; r < 3; r++) {
            char *folder = stage_case(cases[c]);
            struct crl_report report;
            struct crl_pack *first = convert_to_memory(folder, recipes[r], 1, &report);
            for (unsigned jobs = 1; jobs <= 3; jobs++) {
                struct crl_report again;
                struct crl_pack *p = convert_to_memory(folder, recipes[r], jobs, &again);
                assert_int_equal(crl_pack_size(p), crl_pack_size(first));
                assert_memory_equal(crl_pack_data(p), crl_pack_data(first), crl_pack_size(p));
                assert_int_equal(again.jobs, jobs);
                for (size_t i = 0; i < report.n_weight; i++)
                    assert_memory_equal(&again.row[i].misfit, &report.row[i].misfit,
                                        sizeof report.row[i].misfit);
                crl_report_free(&again);
                crl_pack_close(p);
            }
            crl_report_free(&report);
            crl_pack_close(first);
            stage_remove(folder);
        }
}

static void file_and_memory_are_the_same(void **state)
{
    struct crl_convert_options opt = { .jobs = 2 };
    char *folder = stage_case("A"), *data;
    struct crl_ckpt *ck = open_ok(folder);
    struct crl_recipe r = recipe_of("q4");
    struct crl_pack *pack = convert_to_memory(folder, "q4", 1, NULL);
    struct crl_convert_plan plan;
    size_t len;

    (void)state;
    for (int turn = 0; turn < 2; turn++) { /* the second replaces the first */
        assert_int_equal(crl_convert(ck, &r, "convert_same.crl", NULL, &opt, NULL, NULL), CRL_OK);
        assert_int_equal(crl_file_read(&data, &len, "convert_same.crl", 1 << 26, NULL), CRL_OK);
        assert_int_equal(len, crl_pack_size(pack));
        assert_memory_equal(data, crl_pack_data(pack), len);
        crl_free(data);
    }
    assert_int_equal(crl_convert_estimate(ck, &r, "convert_same.crl", &opt, &plan, NULL), CRL_OK);
    assert_true(plan.file_bytes <= len && plan.file_bytes + 65536 > len);
    assert_true(plan.disk_free > 0 && plan.weights > 0 && plan.seconds > 0);
    unlink("convert_same.crl");
    crl_pack_close(pack);
    crl_ckpt_close(ck);
    stage_remove(folder);
}

static void memory_limit_bounds_reading_and_threads(void **state)
{
    struct crl_convert_options opt = { .jobs = 3 };
    char *folder = stage_case("A");
    struct crl_ckpt *ck = open_ok(folder);
    struct crl_recipe r = recipe_of("q4");
    struct crl_convert_plan plan;
    struct crl_report report;
    struct crl_pack *pack;
    struct crl_err err = { "" };
    uint64_t all;

    (void)state;
    assert_int_equal(crl_convert_estimate(ck, &r, NULL, &opt, &plan, NULL), CRL_OK);
    assert_int_equal(plan.jobs, 3);
    all = plan.memory_bytes;
    for (unsigned turn = 0; turn < 3; turn++) { /* less memory: less read ahead, then fewer threads */
        opt.max_memory = all - 1;
        assert_int_equal(crl_convert_estimate(ck, &r, NULL, &opt, &plan, NULL), CRL_OK);
        assert_true(plan.memory_bytes < all);
        all = plan.memory_bytes;
        assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, &report, NULL), CRL_OK);
        assert_int_equal(report.jobs, plan.jobs);
        crl_report_free(&report);
        crl_pack_close(pack);
    }
    assert_true(plan.jobs < 3);
    opt.max_memory = 1000;
    assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, NULL, &err), CRL_ERANGE);
    assert_non_null(strstr(err.text, "1000 are allowed"));
    crl_ckpt_close(ck);
    stage_remove(folder);
}

static void every_golden_case_converts_and_verifies(void **state)
{
    static const char *const names[] = { "A", "B", "C",  "D",  "E1", "E2", "F",  "G", "H",
                                         "I", "J", "K1", "K2", "L1", "L2", "L3", "M", "N",
                                         "O", "P", "Q",  "R",  "U1", "U2", "U3", "U4" };
    static const struct {
        const char *recipe;
        double rms; /* no tensor is further from the original */
    } recipes[] = { { "bf16", 0.003 }, { "q8", 0.02 }, { "q4", 0.15 } };
    struct crl_convert_options opt = { .jobs = 2 };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (size_t r = 0; r < 3; r++) {
            char *folder = stage_case(names[i]);
            struct crl_pack *pack = convert_to_memory(folder, recipes[r].recipe, 2, NULL);
            struct crl_ckpt *ck = open_ok(folder);
            struct crl_verify_report v;
            struct crl_err err = { "" };
            if (crl_verify_against(pack, ck, &opt, &v, &err)) fail_msg("%s: %s", names[i], err.text);
            assert_int_equal(v.n_differ, 0);
            for (size_t w = 0; w < v.report.n_weight; w++) {
                double rms = crl_misfit_rms(&v.report.row[w].misfit);
                if (!(rms < recipes[r].rms))
                    fail_msg("%s %s: matrix %zu is off by %g", names[i], recipes[r].recipe, w, rms);
            }
            crl_verify_report_free(&v);
            crl_ckpt_close(ck);
            crl_pack_close(pack);
            stage_remove(folder);
        }
}

static void difference_from_the_checkpoint_is_found(void **state)
{
    static const char name[] = "language_model.model.layers.2.feed_forward.experts.down_proj";
    static const unsigned char big[2] = { 0x00, 0x41 }; /* 8.0 */
    char *folder = stage_case("A");
    struct crl_pack *pack = convert_to_memory(folder, "q8", 1, NULL);
    struct crl_convert_options opt = { .jobs = 2 };
    struct crl_verify_report v;
    struct crl_ckpt *ck;
    struct crl_err err = { "" };
    size_t at;

    (void)state;
    stage_poke(folder, name, (48 * 64 + 5) * 2, big, 2); /* expert 1, input 0, output 5 */
    ck = open_ok(folder);
    assert_int_equal(crl_verify_against(pack, ck, &opt, &v, &err), CRL_EDIFFER);
    at = crl_schema_find(crl_pack_schema(pack), CRL_KIND_EXPERT_DOWN, 2, 1);
    assert_int_equal(v.n_differ, 1);
    assert_true(v.report.row[at].differs);
    assert_true(v.report.row[at].misfit.most > 5);
    assert_non_null(strstr(err.text, "1 of"));
    assert_non_null(strstr(err.text, "model.layers.2.feed_forward.experts.1.down_proj.weight"));
    crl_verify_report_free(&v);
    crl_ckpt_close(ck);

    stage_write(folder, "chat_template.jinja", "hello", 5);
    stage_poke(folder, name, 0, big, 0);
    ck = open_ok(folder);
    assert_int_equal(crl_verify_against(pack, ck, &opt, &v, NULL), CRL_EDIFFER);
    assert_true(v.section_differs[CRL_SECTION_CHAT_TEMPLATE]);
    crl_verify_report_free(&v);
    crl_ckpt_close(ck);

    stage_config(folder, "rope_theta", "20000.0");
    ck = open_ok(folder);
    err.text[0] = 0;
    assert_int_equal(crl_verify_against(pack, ck, &opt, &v, &err), CRL_EDIFFER);
    assert_non_null(strstr(err.text, "configuration"));
    crl_verify_report_free(&v);
    crl_ckpt_close(ck);
    crl_pack_close(pack);
    stage_remove(folder);
}

/* --- weights that are not finite
 * --------------------------------------------------------------------------------- */

static const unsigned char bf16_nan[2] = { 0xc0, 0x7f }, bf16_inf[2] = { 0x80, 0xff };
static const char gate_up[] = "language_model.model.layers.1.feed_forward.experts.gate_up_proj";

static void nonfinite_weights_end_the_conversion(void **state)
{
    for (unsigned jobs = 1; jobs <= 3; jobs++) {
        struct crl_convert_options opt = { .jobs = jobs };
        struct crl_recipe r = recipe_of("q4");
        char *folder = stage_case("A");
        struct crl_report report;
        struct crl_ckpt *ck;
        struct crl_err err = { "" };
        char partial[100];
        size_t at;
        (void)state;
        stage_poke(folder, gate_up, (2 * 64 * 96 + 7) * 2, bf16_nan, 2);      /* expert 2, gate row 7 */
        stage_poke(folder, gate_up, (2 * 64 * 96 + 96 + 7) * 2, bf16_inf, 2); /* the same, next input */
        stage_poke(folder, "language_model.model.norm.weight", 0, bf16_nan, 2);
        ck = open_ok(folder);
        assert_int_equal(crl_convert(ck, &r, "convert_nan.crl", NULL, &opt, &report, &err), CRL_EFORMAT);
        assert_non_null(strstr(err.text, gate_up));
        assert_non_null(strstr(err.text, "2 weights are NaN or infinite"));
        at = crl_schema_find(crl_ckpt_schema(ck), CRL_KIND_EXPERT_GATE_UP, 1, 2);
        assert_int_equal(report.row[at].nonfinite, 2);
        assert_false(crl_file_exists("convert_nan.crl"));
        snprintf(partial, sizeof partial, "convert_nan.crl.partial-%ld", (long)getpid());
        assert_false(crl_file_exists(partial));
        crl_report_free(&report);
        crl_ckpt_close(ck);
        stage_remove(folder);
    }
}

static void nonfinite_weights_become_zero_when_allowed(void **state)
{
    struct crl_convert_options opt = { .jobs = 2, .allow_nonfinite = true };
    struct crl_recipe r = recipe_of("bf16");
    char *folder = stage_case("A");
    struct crl_report report;
    struct crl_pack *pack;
    struct crl_ckpt *ck;
    struct crl_mat m;
    float row[64];
    size_t at;

    (void)state;
    stage_poke(folder, gate_up, (2 * 64 * 96 + 48 + 20) * 2, bf16_nan, 2); /* expert 2, up row 20, input 0 */
    ck = open_ok(folder);
    assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, &report, NULL), CRL_OK);
    at = crl_schema_find(crl_pack_schema(pack), CRL_KIND_EXPERT_GATE_UP, 1, 2);
    for (size_t i = 0; i < report.n_weight; i++) assert_int_equal(report.row[i].nonfinite, i == at);
    crl_pack_mat(pack, at, &m);
    crl_mat_row(&m, crl_up_row(20), row);
    assert_true(row[0] == 0 && row[1] != 0);
    crl_report_free(&report);
    crl_pack_close(pack);
    crl_ckpt_close(ck);
    stage_remove(folder);
}

/* --- ends before the end
 * ----------------------------------------------------------------------------------------- */

static bool stop_at_half(void *ctx, uint64_t done, uint64_t total, size_t weight)
{
    (void)ctx;
    (void)weight;
    return done < total / 2;
}

static void stopped_conversion_leaves_the_old_file(void **state)
{
    struct crl_convert_options opt = { .jobs = 1, .progress = stop_at_half };
    struct crl_recipe r = recipe_of("q4");
    char *folder = stage_case("A"), *data;
    struct crl_ckpt *ck = open_ok(folder);
    size_t len;

    (void)state;
    assert_int_equal(crl_file_write("convert_stop.crl", "old", 3, NULL), CRL_OK);
    assert_int_equal(crl_convert(ck, &r, "convert_stop.crl", NULL, &opt, NULL, NULL), CRL_EINTR);
    assert_int_equal(crl_file_read(&data, &len, "convert_stop.crl", 100, NULL), CRL_OK);
    assert_string_equal(data, "old");
    crl_free(data);
    unlink("convert_stop.crl");
    crl_ckpt_close(ck);
    stage_remove(folder);
}

static void full_disk_is_reported(void **state)
{
    struct crl_convert_options opt = { .jobs = 2 };
    struct crl_recipe r = recipe_of("bf16");
    char *folder = stage_case("A");
    struct crl_ckpt *ck = open_ok(folder);
    struct rlimit old, small;
    struct crl_err err = { "" };

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(crl_convert(ck, &r, "convert_full.crl", NULL, &opt, NULL, &err), CRL_EFULL);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_non_null(strstr(err.text, "convert_full.crl"));
    assert_false(crl_file_exists("convert_full.crl"));
    crl_ckpt_close(ck);
    stage_remove(folder);
}

static void allocation_failures_are_reported(void **state)
{
    struct crl_convert_options opt = { .jobs = 1 };
    struct crl_recipe r = recipe_of("q4");
    char *folder = stage_case("E2");
    struct crl_ckpt *ck = open_ok(folder);
    struct crl_pack *pack;
    size_t n;

    (void)state;
    crl_alloc_fail_after(0);
    assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, NULL, NULL), CRL_OK);
    crl_pack_close(pack);
    n = crl_alloc_fail_after(0);
    for (size_t i = 1; i <= n; i++) {
        struct crl_err err = { "" };
        crl_alloc_fail_after(i);
        assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, NULL, &err), CRL_ENOMEM);
        assert_null(pack);
        assert_true(err.text[0]);
    }
    crl_alloc_fail_after(0);
    crl_ckpt_close(ck);
    stage_remove(folder);
}

/* Whatever call fails, the file under the final name is the old one and nothing else is left. */
static void every_failed_call_leaves_the_old_file(void **state)
{
    struct crl_convert_options opt = { .jobs = 1 };
    struct crl_recipe r = recipe_of("q4");
    char *folder = stage_case("E2"), *data;
    size_t n, len, n_failed = 0;

    (void)state;
    for (int resume = 0; resume < 2; resume++) {
        opt.resume = resume;
        crl_file_fail_after(0);
        for (size_t i = 0;; i++) {
            struct crl_ckpt *ck = NULL;
            struct crl_err err = { "" };
            enum crl_status st;
            assert_int_equal(crl_file_write("convert_fault.crl", "old", 3, NULL), CRL_OK);
            crl_file_fail_after(i);
            st = crl_ckpt_open(&ck, folder, &err);
            if (!st) st = crl_convert(ck, &r, "convert_fault.crl", NULL, &opt, NULL, &err);
            crl_ckpt_close(ck);
            n = crl_file_fail_after(0);
            if (i == 0) {
                assert_int_equal(st, CRL_OK);
                continue;
            }
            if (!st) break; /* the fault lies behind the last call */
            if (st != CRL_EIO && st != CRL_EFULL && st != CRL_ENOMEM) fail_msg("call %zu: %s", i, err.text);
            assert_true(err.text[0]);
            n_failed++;
            assert_int_equal(crl_file_read(&data, &len, "convert_fault.crl", 1 << 26, NULL), CRL_OK);
            assert_int_equal(len, 3);
            crl_free(data);
            if (!resume) assert_false(crl_file_exists("convert_fault.crl.partial"));
            if (!resume) assert_false(crl_file_exists("convert_fault.crl.journal.partial"));
            assert_true(i < 100000 && n > 0);
        }
        assert_false(crl_file_exists("convert_fault.crl.partial"));
        assert_false(crl_file_exists("convert_fault.crl.journal.partial"));
    }
    assert_true(n_failed > 100);
    unlink("convert_fault.crl");
    stage_remove(folder);
}

static void checkpoint_that_changes_is_noticed(void **state)
{
    struct crl_convert_options opt = { .jobs = 1 };
    struct crl_recipe r = recipe_of("q8");
    char *folder = stage_case("A"), *data;
    struct crl_ckpt *ck = open_ok(folder);
    struct crl_pack *pack;
    struct crl_err err = { "" };
    size_t len;

    (void)state;
    assert_int_equal(crl_file_read(&data, &len, stage_path(folder, "model.safetensors"), 1 << 26, NULL), CRL_OK);
    stage_write(folder, "model.safetensors", data, len); /* the same bytes, but written again */
    assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, NULL, &err), CRL_EIO);
    assert_non_null(strstr(err.text, "changed while it was being read"));
    crl_ckpt_close(ck);
    ck = open_ok(folder);
    stage_write(folder, "model.safetensors", data, len / 2);
    memset(&err, 0, sizeof err);
    assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, NULL, &err), CRL_EIO);
    assert_true(strstr(err.text, "shrank") || strstr(err.text, "changed"));
    crl_free(data);
    crl_ckpt_close(ck);
    stage_remove(folder);
}

/* A scale that is 0, negative, infinite or no number makes its weights no numbers. */
static void useless_scales_end_the_work(void **state)
{
    static const char w[] = "language_model.model.layers.1.feed_forward.experts.2.up_proj.weight_scale";
    static const float bad[] = { 0, -1, INFINITY, NAN };
    struct crl_convert_options opt = { .jobs = 2 };
    struct crl_recipe r = recipe_of("q4");

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *folder = stage_case("N");
        unsigned char raw[4];
        struct crl_ckpt *ck;
        struct crl_pack *pack;
        struct crl_err err = { "" };
        crl_put_le32(raw, crl_f32_bits(bad[i]));
        stage_poke(folder, w, 12, raw, sizeof raw);
        ck = open_ok(folder);
        assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, NULL, &err), CRL_EFORMAT);
        if (!strstr(err.text, w) || !strstr(err.text, "scale 3 is")) fail_msg("said: %s", err.text);
        opt.allow_nonfinite = true;
        assert_int_equal(crl_convert(ck, &r, NULL, &pack, &opt, NULL, NULL), CRL_OK);
        opt.allow_nonfinite = false;
        crl_pack_close(pack);
        crl_ckpt_close(ck);
        stage_remove(folder);
    }
}

/* --- sections
 * ---------------------------------------------------------------------------------------------------- */

static void expect_template(const char *folder, const char *want)
{
    struct crl_pack *pack = convert_to_memory(folder, "q4", 1, NULL);
    size_t len;
    const unsigned char *text = crl_pack_section(pack, CRL_SECTION_CHAT_TEMPLATE, &len);

    assert_int_equal(len, strlen(want));
    assert_memory_equal(text, want, len);
    crl_pack_close(pack);
}

static void chat_template_is_found_in_its_three_places(void **state)
{
    static const char config[] = "{\"chat_template\": [{\"name\": \"tool\", \"template\": \"no\"}, "
                                 "{\"name\": \"default\", \"template\": \"from the config\"}]}";
    static const char json[] = "{\"chat_template\": \"from json\"}", gen[] = "{\"temperature\": 0.5}";
    char *folder = stage_case("E2");
    struct crl_pack *pack;
    size_t len;

    (void)state;
    stage_write(folder, "tokenizer_config.json", config, sizeof config - 1);
    stage_write(folder, "generation_config.json", gen, sizeof gen - 1);
    expect_template(folder, "from the config");
    stage_write(folder, "chat_template.json", json, sizeof json - 1);
    expect_template(folder, "from json");
    stage_write(folder, "chat_template.jinja", "from jinja", 10);
    expect_template(folder, "from jinja");
    pack = convert_to_memory(folder, "q4", 1, NULL);
    assert_memory_equal(crl_pack_section(pack, CRL_SECTION_GENERATION, &len), gen, sizeof gen - 1);
    assert_null(crl_pack_section(pack, CRL_SECTION_TOKENIZER, &len));
    crl_pack_close(pack);
    stage_remove(folder);
}

static void broken_side_file_is_named(void **state)
{
    static const char *const names[] = { "tokenizer.json", "preprocessor_config.json",
                                         "tokenizer_config.json" };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct crl_convert_options opt = { .jobs = 1 };
        struct crl_recipe r = recipe_of("q4");
        char *folder = stage_case("E2");
        struct crl_ckpt *ck = open_ok(folder);
        struct crl_err err = { "" };
        stage_write(folder, names[i], "{\"a\": ", 6);
        assert_int_equal(crl_convert(ck, &r, "convert_side.crl", NULL, &opt, NULL, &err), CRL_EFORMAT);
        if (!strstr(err.text, names[i]) || !strstr(err.text, folder)) fail_msg("%s: %s", names[i], err.text);
        assert_false(crl_file_exists("convert_side.crl"));
        crl_ckpt_close(ck);
        stage_remove(folder);
    }
}

static void worst_matrices_come_first(void **state)
{
    struct crl_report_row row[5] = { { .misfit = { 1, 4, 0 } },
                                     { .misfit = { 0, 4, 0 } },
                                     { .misfit = { 9, 4, 0 } },
                                     { .misfit = { 4, 4, 0 } },
                                     { .misfit = { 2, 4, 0 } } };
    struct crl_report r = { .n_weight = 5, .row = row };
    size_t worst[5];

    (void)state;
    assert_int_equal(crl_report_worst(&r, worst, 5), 4);
    assert_true(worst[0] == 2 && worst[1] == 3 && worst[2] == 4 && worst[3] == 0);
    assert_int_equal(crl_report_worst(&r, worst, 2), 2);
    assert_true(worst[0] == 2 && worst[1] == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_do_not_depend_on_threads_or_the_day),
        cmocka_unit_test(file_and_memory_are_the_same),
        cmocka_unit_test(memory_limit_bounds_reading_and_threads),
        cmocka_unit_test(every_golden_case_converts_and_verifies),
        cmocka_unit_test(difference_from_the_checkpoint_is_found),
        cmocka_unit_test(nonfinite_weights_end_the_conversion),
        cmocka_unit_test(nonfinite_weights_become_zero_when_allowed),
        cmocka_unit_test(stopped_conversion_leaves_the_old_file),
        cmocka_unit_test(full_disk_is_reported),
        cmocka_unit_test(allocation_failures_are_reported),
        cmocka_unit_test(every_failed_call_leaves_the_old_file),
        cmocka_unit_test(checkpoint_that_changes_is_noticed),
        cmocka_unit_test(useless_scales_end_the_work),
        cmocka_unit_test(chat_template_is_found_in_its_three_places),
        cmocka_unit_test(broken_side_file_is_named),
        cmocka_unit_test(worst_matrices_come_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
