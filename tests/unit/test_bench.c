/* test_bench.c - made-up models are sound and the same every time; what the benchmark counts is what the store counts. */
#include "bench/bench.h"
#include "bench/synthetic.h"
#include "run/engine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct crl_pack *build(const char *recipe, unsigned threads)
{
    static struct crl_config cfg;
    struct crl_recipe r;
    struct crl_team *team;
    struct crl_pack *pack;
    struct crl_err err = { "" };

    assert_int_equal(crl_synthetic_config(&cfg, "tiny", 0, &err), CRL_OK);
    assert_int_equal(crl_recipe_parse(&r, recipe, NULL, 0, &err), CRL_OK);
    assert_int_equal(crl_team_new(&team, threads, false, &err), CRL_OK);
    if (crl_synthetic_pack(&pack, &cfg, &r, team, &err)) fail_msg("%s", err.text);
    assert_int_equal(crl_pack_verify(pack, team, NULL, NULL, &err), CRL_OK);
    crl_team_free(team);
    return pack;
}

static void synthetic_pack_is_the_same_for_any_threads(void **state)
{
    const char *const recipe[] = { "q4", "q8", "bf16" };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct crl_pack *a = build(recipe[i], 1), *b = build(recipe[i], 3);
        assert_int_equal(crl_pack_size(a), crl_pack_size(b));
        assert_memory_equal(crl_pack_data(a), crl_pack_data(b), (size_t)crl_pack_size(a));
        crl_pack_close(a);
        crl_pack_close(b);
    }
}

struct routes {
    size_t count[4];
    size_t n;
    bool finite;
};

static void see_routes(void *ctx, uint32_t layer, const uint32_t *expert, size_t n_tok)
{
    struct routes *r = ctx;

    if (layer != 3) return;
    for (size_t i = 0; i < n_tok; i++) r->count[expert[i]]++;
    r->n += n_tok;
}

static void see_stream(void *ctx, uint32_t layer, const float *h, size_t n_tok)
{
    struct routes *r = ctx;

    (void)layer;
    for (size_t i = 0; i < n_tok * 64; i++)
        if (!isfinite(h[i]) || fabsf(h[i]) > 1e4f) r->finite = false;
}

static void synthetic_model_is_finite_and_uses_all_experts(void **state)
{
    const char *const recipe[] = { "q4", "q8", "bf16" };
    static float logits[1000];
    int32_t id[400];

    (void)state;
    for (size_t i = 0; i < 400; i++) id[i] = (int32_t)(i * 37 % 1000);
    for (size_t i = 0; i < 3; i++) {
        struct crl_engine_options o = { .threads = 2, .no_pin = true };
        struct crl_engine *engine;
        struct crl_session *session;
        struct crl_err err = { "" };
        struct routes seen = { .finite = true };

        assert_int_equal(crl_engine_from_pack(&engine, build(recipe[i], 2), &o, &err), CRL_OK);
        assert_int_equal(crl_session_new(&session, engine, 400, &err), CRL_OK);
        crl_engine_tap(engine, see_stream, see_routes, &seen);
        assert_int_equal(crl_session_feed(session, id, 400, logits, &err), CRL_OK);
        assert_true(seen.finite);
        assert_int_equal(seen.n, 400);
        for (size_t e = 0; e < 4; e++) assert_in_range(seen.count[e], 20, 250);
        for (size_t j = 0; j < 1000; j++) assert_true(isfinite(logits[j]));
        crl_session_free(session);
        crl_engine_close(engine);
    }
}

static void bench_counts_what_the_store_counts(void **state)
{
    struct crl_engine_options eo = { .threads = 2, .no_pin = true };
    struct crl_bench_options o = { .prefill = 8, .decode = 2, .repeat = 2, .in_memory = true };
    static struct crl_bench_result r;
    struct crl_engine *engine;
    struct crl_err err = { "" };
    struct crl_totals t;
    double bytes = 0, ops = 0;

    (void)state;
    assert_int_equal(crl_engine_from_pack(&engine, build("q4", 2), &eo, &err), CRL_OK);
    assert_int_equal(crl_pack_totals(crl_engine_pack(engine), &t, &err), CRL_OK);
    if (crl_bench_run(&r, engine, &o, &err)) fail_msg("%s", err.text);
    crl_engine_close(engine);
    for (int p = 0; p < CRL_PHASE_END; p++) {
        bytes += r.work.bytes[p];
        ops += r.work.int8_ops[p] + r.work.f32_ops[p];
    }
    assert_true(fabs(bytes - (double)t.bytes_read) < 0.5);
    /* every weight read is multiplied once, but the norms: two per layer and the final one */
    assert_true(fabs(ops / 2 - (double)t.params_read + 9 * 64) < 0.5);
    assert_int_equal(r.decode.tokens_per_s.n, 2);
    assert_int_equal(r.prefill.tokens_per_s.n, 2);
    assert_true(r.decode.fraction > 0 && r.prefill.fraction > 0 && r.read.median > 0 && r.int8.n >= 6);
    assert_true(fabs(crl_bench_extrapolate(&r, &r.decode, 4) / r.decode.tokens_per_s.median - 1) < 1e-9);
    assert_true(crl_bench_extrapolate(&r, &r.decode, 8) < r.decode.tokens_per_s.median);
}

static bool stop_at_once(void *ctx, const char *what, unsigned done, unsigned total)
{
    (void)ctx;
    (void)what;
    (void)total;
    return done < 2;
}

static void bench_told_to_stop_is_eintr(void **state)
{
    struct crl_engine_options eo = { .threads = 1, .no_pin = true };
    struct crl_bench_options o = { .decode = 2, .repeat = 5, .in_memory = true, .step = stop_at_once };
    static struct crl_bench_result r;
    struct crl_engine *engine;
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(crl_engine_from_pack(&engine, build("q4", 1), &eo, &err), CRL_OK);
    assert_int_equal(crl_bench_run(&r, engine, &o, &err), CRL_EINTR);
    crl_engine_close(engine);
}

static void series_of_odd_and_even_length(void **state)
{
    struct crl_series s = { 0 };
    struct crl_stat st = crl_series_stat(&s);

    (void)state;
    assert_int_equal(st.n, 0);
    crl_series_add(&s, 4);
    crl_series_add(&s, 1);
    crl_series_add(&s, 2);
    st = crl_series_stat(&s);
    assert_true(st.median == 2 && st.low == 1 && st.high == 4 && st.spread == 1.5);
    crl_series_add(&s, 3);
    assert_true(crl_series_stat(&s).median == 2.5);
}

static void synthetic_shapes_are_those_of_the_releases(void **state)
{
    static struct crl_config cfg;
    struct crl_schema *s;
    struct crl_totals t;
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(crl_synthetic_config(&cfg, "scout", 0, &err), CRL_OK);
    assert_int_equal(crl_schema_build(&s, &cfg, &err), CRL_OK);
    assert_int_equal(crl_schema_totals(s, NULL, &t, &err), CRL_OK);
    assert_in_range(t.params / 1000000, 106500, 108700); /* 107.8 G of text weights */
    crl_schema_free(s);
    assert_int_equal(crl_synthetic_config(&cfg, "maverick", 0, &err), CRL_OK);
    assert_int_equal(crl_schema_build(&s, &cfg, &err), CRL_OK);
    assert_int_equal(crl_schema_totals(s, NULL, &t, &err), CRL_OK);
    assert_in_range(t.params / 1000000, 398000, 402000);
    assert_in_range(t.params_read / 1000000, 15500, 16500); /* 16.1 G are read per token */
    crl_schema_free(s);
    assert_int_equal(crl_synthetic_config(&cfg, "behemoth", 0, &err), CRL_ERANGE);
    assert_int_equal(crl_synthetic_config(&cfg, "scout", CRL_MAX_LAYER + 1, &err), CRL_ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synthetic_pack_is_the_same_for_any_threads),
        cmocka_unit_test(synthetic_model_is_finite_and_uses_all_experts),
        cmocka_unit_test(bench_counts_what_the_store_counts),
        cmocka_unit_test(bench_told_to_stop_is_eintr),
        cmocka_unit_test(series_of_odd_and_even_length),
        cmocka_unit_test(synthetic_shapes_are_those_of_the_releases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
