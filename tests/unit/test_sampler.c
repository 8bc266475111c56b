/* test_sampler.c - every filter, alone and with others, against a plain implementation in double precision
 * that sorts the whole vocabulary; the statistics of the draw; what the seed promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "run/corral.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define VOCAB 300

static uint64_t state = 1;

static uint64_t next(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 20;
}

static float bell(void)
{
    float sum = 0;

    for (int i = 0; i < 12; i++) sum += (float)(next() % 10000) / 10000;
    return sum - 6;
}

static struct crl_sampler *make(const struct crl_sampler_options *o, uint32_t vocab)
{
    struct crl_sampler *s = NULL;
    struct crl_err err = { "" };

    if (crl_sampler_new(&s, o, vocab, &err)) fail_msg("%s", err.text);
    return s;
}

/* --- the plain implementation --------------------------------------------------------------------------- */

struct plain {
    double logit;
    int id;
};

static int by_falling_logit(const void *a, const void *b)
{
    const struct plain *x = a, *y = b;

    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

/* p[id] of what may be drawn, over `seen` tokens; returns how many ids have a share. */
static size_t expect(const struct crl_sampler_options *o, const float *logits, int vocab, const int *seen,
                     int n_seen, double *p)
{
    struct plain *e = calloc((size_t)vocab, sizeof *e);
    int n = 0, kept;
    double sum = 0, passed = 0;

    for (int i = 0; i < vocab; i++) {
        double l = logits[i], rep = o->repetition_penalty != 0 ? o->repetition_penalty : 1;
        int times = 0,
            from = o->penalty_window && n_seen > (int)o->penalty_window ? n_seen - (int)o->penalty_window : 0;
        for (int j = from; j < n_seen; j++) times += seen[j] == i;
        if (times) {
            l = l > 0 ? l / rep : l * rep;
            l -= o->presence_penalty;
            l -= (double)o->frequency_penalty * times;
        }
        p[i] = 0;
        if (!isnan(l)) e[n++] = (struct plain){ l / o->temperature, i };
    }
    qsort(e, (size_t)n, sizeof *e, by_falling_logit);
    if (o->top_k && n > (int)o->top_k) n = (int)o->top_k;
    for (int i = 0; i < n; i++) sum += exp(e[i].logit - e[0].logit);
    kept = n;
    if (o->top_p > 0 && o->top_p < 1)
        for (kept = 0; kept < n && passed / sum <= (double)o->top_p; kept++)
            passed += exp(e[kept].logit - e[0].logit);
    n = kept;
    if (o->min_p > 0)
        while (n > 1 && exp(e[n - 1].logit - e[0].logit) < (double)o->min_p) n--;
    sum = 0;
    for (int i = 0; i < n; i++) sum += exp(e[i].logit - e[0].logit);
    for (int i = 0; i < n; i++) p[e[i].id] = exp(e[i].logit - e[0].logit) / sum;
    free(e);
    return (size_t)n;
}

/* Draw many times and compare with p: nothing outside its support, and chi-square within five standard
 * deviations. The sampler must not see its own choices, so penalties come from `seen` alone: a fresh one each
 * time would be slow, hence only settings without penalties draw more than once per sampler. */
static void check_draws(const struct crl_sampler_options *o, const float *logits, int vocab, const int *seen,
                        int n_seen, int draws)
{
    double p[VOCAB], chi = 0, rare_p = 0;
    int hits[VOCAB] = { 0 }, rare = 0;
    size_t support = expect(o, logits, vocab, seen, n_seen, p), cells = 0;
    struct crl_sampler_options opt = *o;
    struct crl_sampler *s = n_seen ? NULL : make(o, (uint32_t)vocab);

    for (int d = 0; d < draws; d++) {
        float copy[VOCAB];
        int32_t id;
        memcpy(copy, logits, (size_t)vocab * sizeof *copy);
        if (n_seen) {
            opt.seed = o->seed + (uint64_t)d;
            s = make(&opt, (uint32_t)vocab);
            for (int j = 0; j < n_seen; j++) assert_int_equal(crl_sampler_accept(s, seen[j], NULL), CRL_OK);
        }
        id = crl_sampler_pick(s, copy);
        if (id < 0 || id >= vocab || p[id] <= 0)
            fail_msg("drew %d, which the filters exclude (of %zu left)", (int)id, support);
        hits[id]++;
        if (n_seen) crl_sampler_free(s);
    }
    if (!n_seen) crl_sampler_free(s);
    for (int i = 0; i < vocab; i++) {
        double want = p[i] * draws;
        if (want < 8) {
            rare += hits[i];
            rare_p += p[i];
            continue;
        }
        chi += (hits[i] - want) * (hits[i] - want) / want;
        cells++;
    }
    if (rare_p * draws >= 8) {
        chi += (rare - rare_p * draws) * (rare - rare_p * draws) / (rare_p * draws);
        cells++;
    } else if (rare > 40) {
        fail_msg("%d draws of rare tokens, about %g expected", rare, rare_p * draws);
    }
    if (cells > 1 && chi > (double)(cells - 1) + 5 * sqrt(2.0 * (double)(cells - 1)))
        fail_msg("chi-square %g with %zu cells", chi, cells);
}

static void fill(float *logits, int n, float spread)
{
    for (int i = 0; i < n; i++) logits[i] = spread * bell();
}

/* --- tests ---------------------------------------------------------------------------------------------- */

static void greedy_takes_the_best_and_the_lowest_id_on_ties(void **unused)
{
    struct crl_sampler *s = make(NULL, 6);
    float a[6] = { 1, 3, 2, 3, 3, 0 }, b[6] = { NAN, -INFINITY, -5, NAN, -5, -6 }, c[6], d[6];

    (void)unused;
    for (int i = 0; i < 6; i++) c[i] = NAN, d[i] = -INFINITY;
    assert_int_equal(crl_sampler_pick(s, a), 1);
    assert_int_equal(crl_sampler_pick(s, b), 2);
    assert_int_equal(crl_sampler_pick(s, c), -1);
    assert_int_equal(crl_sampler_pick(s, d), 0);
    crl_sampler_free(s);
}

static void not_a_number_is_never_drawn(void **unused)
{
    struct crl_sampler_options with[] = { { .temperature = 1 },
                                          { .temperature = 1, .top_k = 4 },
                                          { .temperature = 1, .top_p = 0.9f },
                                          { .temperature = 1, .min_p = 0.01f } };
    float logits[6] = { NAN, 1, -INFINITY, 1, NAN, 0.5f }, nothing[6],
          above[6] = { 1, NAN, INFINITY, 2, INFINITY, 0 };

    (void)unused;
    for (size_t i = 0; i < sizeof with / sizeof with[0]; i++) {
        struct crl_sampler *s = make(&with[i], 6);
        for (int d = 0; d < 200; d++) {
            float copy[6];
            int32_t id;
            memcpy(copy, logits, sizeof copy);
            id = crl_sampler_pick(s, copy);
            assert_true(id == 1 || id == 3 || id == 5);
        }
        for (int j = 0; j < 6; j++) nothing[j] = NAN;
        assert_int_equal(crl_sampler_pick(s, nothing), -1);
        for (int j = 0; j < 6; j++) nothing[j] = -INFINITY;
        assert_int_equal(crl_sampler_pick(s, nothing), 0);
        assert_int_equal(crl_sampler_pick(s, above), 2);
        crl_sampler_free(s);
    }
}

static void each_filter_alone_draws_as_the_plain_one(void **unused)
{
    static const struct crl_sampler_options alone[] = {
        { .temperature = 1 },
        { .temperature = 0.6f },
        { .temperature = 3 },
        { .temperature = 1, .top_k = 1 },
        { .temperature = 1, .top_k = 7 },
        { .temperature = 1, .top_k = VOCAB },
        { .temperature = 1, .top_p = 1e-6f },
        { .temperature = 1, .top_p = 0.5f },
        { .temperature = 1, .top_p = 0.9f },
        { .temperature = 1, .top_p = 0.9999f },
        { .temperature = 1, .min_p = 0.05f },
        { .temperature = 1, .min_p = 1 },
    };
    float logits[VOCAB];

    (void)unused;
    for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
        fill(logits, VOCAB, 2);
        check_draws(&alone[i], logits, VOCAB, NULL, 0, 20000);
    }
}

static void random_combinations_draw_as_the_plain_one(void **unused)
{
    static const float ps[] = { 0, 0.3f, 0.8f, 0.95f, 1 }, ms[] = { 0, 0.001f, 0.1f, 0.5f };
    static const uint32_t ks[] = { 0, 1, 2, 5, 40, VOCAB, 100000 };
    float logits[VOCAB];

    (void)unused;
    for (int round = 0; round < 60; round++) {
        struct crl_sampler_options o = { .temperature = 0.2f + (float)(next() % 20) / 10, .seed = next() };
        o.top_k = ks[next() % 7];
        o.top_p = ps[next() % 5];
        o.min_p = ms[next() % 4];
        fill(logits, VOCAB, 0.5f + (float)(next() % 6));
        if (round % 3 == 0) /* many ties */
            for (int i = 0; i < VOCAB; i++) logits[i] = roundf(logits[i]);
        check_draws(&o, logits, VOCAB, NULL, 0, 3000);
    }
}

static void penalties_draw_as_the_plain_one(void **unused)
{
    int seen[64];
    float logits[40];

    (void)unused;
    for (int round = 0; round < 12; round++) {
        struct crl_sampler_options o = { .temperature = 1, .seed = next() };
        if (round % 4 == 0 || round % 4 == 3) o.repetition_penalty = 1.3f;
        if (round % 4 == 1 || round % 4 == 3) o.presence_penalty = 0.7f;
        if (round % 4 >= 2) o.frequency_penalty = 0.4f;
        if (round >= 4) o.penalty_window = 1 + next() % 30;
        if (round >= 8) o.top_p = 0.8f;
        for (int i = 0; i < 64; i++) seen[i] = (int)(next() % 12);
        fill(logits, 40, 2);
        check_draws(&o, logits, 40, seen, 64, 1500);
    }
}

static void choices_count_as_seen(void **unused)
{
    struct crl_sampler_options o = { .presence_penalty = 5 };
    struct crl_sampler *s = make(&o, 3);

    (void)unused;
    for (int turn = 0; turn < 3; turn++) {
        float logits[3] = { 3, 2, 1 };
        assert_int_equal(crl_sampler_pick(s, logits), turn);
    }
    crl_sampler_free(s);
    o.penalty_window = 1; /* only the last choice is avoided */
    s = make(&o, 3);
    for (int turn = 0; turn < 6; turn++) {
        float logits[3] = { 3, 2, 1 };
        assert_int_equal(crl_sampler_pick(s, logits), turn % 2);
    }
    crl_sampler_free(s);
}

/* The entry that crosses the sum stays: dropped is what has more than top_p before it. */
static void top_p_keeps_an_entry_whose_predecessors_sum_to_exactly_p(void **unused)
{
    struct crl_sampler_options o = { .temperature = 1, .top_p = 0.5f };
    float logits[4] = { 0, 0, 0, 0 }; /* a quarter each: before the third stands exactly a half */
    struct crl_sampler *s = make(&o, 4);
    int hits[4] = { 0 };

    (void)unused;
    for (int i = 0; i < 600; i++) {
        float copy[4];
        memcpy(copy, logits, sizeof copy);
        hits[crl_sampler_pick(s, copy)]++;
    }
    assert_true(hits[0] > 100 && hits[1] > 100 && hits[2] > 100);
    assert_int_equal(hits[3], 0);
    crl_sampler_free(s);
}

static void large_vocabulary_agrees_with_the_plain_order(void **unused)
{
    enum { LARGE = 202048 };
    float *logits = malloc(LARGE * sizeof *logits), *copy = malloc(LARGE * sizeof *copy);
    double *p = malloc(LARGE * sizeof *p);
    struct crl_sampler_options o[] = { { .temperature = 0.6f, .top_p = 0.9f },
                                       { .temperature = 1, .top_k = 50, .top_p = 0.95f },
                                       { .temperature = 1, .top_k = 2000, .min_p = 0.02f },
                                       { .temperature = 1, .top_p = 0.99f, .min_p = 1e-4f } };

    (void)unused;
    fill(logits, LARGE, 2.5f);
    for (size_t i = 0; i < sizeof o / sizeof o[0]; i++) {
        struct crl_sampler *s = make(&o[i], LARGE);
        expect(&o[i], logits, LARGE, NULL, 0, p);
        for (int d = 0; d < 30; d++) {
            int32_t id;
            memcpy(copy, logits, LARGE * sizeof *copy);
            id = crl_sampler_pick(s, copy);
            assert_true(id >= 0 && p[id] > 0);
        }
        crl_sampler_free(s);
    }
    free(logits);
    free(copy);
    free(p);
}

static void seed_decides_the_choices(void **unused)
{
    struct crl_sampler_options o = { .temperature = 1, .seed = 42 };
    /* floor(1000 u) for the first numbers u of the generator, computed apart from this program */
    static const int32_t recorded[16] = { 83,  378, 680, 924, 991, 769, 719, 850,
                                          761, 583, 682, 290, 801, 321, 711, 877 };
    int32_t first[64];
    float flat[1000] = { 0 };
    int same = 0;

    (void)unused;
    for (int run = 0; run < 3; run++) {
        struct crl_sampler *s;
        o.seed = run == 2 ? 43 : 42;
        s = make(&o, 1000);
        for (int i = 0; i < 64; i++) {
            int32_t id = crl_sampler_pick(s, flat);
            if (run == 0) first[i] = id;
            if (run == 1) assert_int_equal(id, first[i]);
            if (run == 2) same += id == first[i];
        }
        crl_sampler_free(s);
    }
    assert_true(same < 8);
    for (int i = 0; i < 16; i++) assert_int_equal(first[i], recorded[i]);
}

static void picking_allocates_nothing(void **unused)
{
    struct crl_sampler_options o = {
        .temperature = 1, .top_p = 0.9f, .min_p = 0.01f, .presence_penalty = 1, .penalty_window = 5
    };
    struct crl_sampler *s = make(&o, VOCAB);
    float logits[VOCAB];

    (void)unused;
    crl_alloc_fail_after(0);
    for (int i = 0; i < 50; i++) {
        fill(logits, VOCAB, 2);
        crl_sampler_pick(s, logits);
    }
    assert_int_equal(crl_alloc_fail_after(0), 0);
    crl_sampler_free(s);
}

static void memory_running_out_is_reported(void **unused)
{
    struct crl_sampler_options o = { .temperature = 1, .presence_penalty = 1, .penalty_window = 5 };

    (void)unused;
    for (size_t n = 1; n <= 5; n++) {
        struct crl_sampler *s = NULL;
        struct crl_err err = { "" };
        crl_alloc_fail_after(n);
        assert_int_equal(crl_sampler_new(&s, &o, VOCAB, &err), CRL_ENOMEM);
        crl_alloc_fail_after(0);
        assert_null(s);
        assert_true(err.text[0]);
    }
}

static void options_outside_their_range_are_refused(void **unused)
{
    static const struct crl_sampler_options bad[] = {
        { .temperature = -1 },
        { .temperature = NAN },
        { .temperature = INFINITY },
        { .top_p = -0.1f },
        { .top_p = 1.1f },
        { .top_p = NAN },
        { .min_p = 2 },
        { .min_p = NAN },
        { .repetition_penalty = -1 },
        { .repetition_penalty = 1e-9f },
        { .presence_penalty = NAN },
        { .frequency_penalty = INFINITY },
        { .penalty_window = SIZE_MAX },
    };
    struct crl_sampler_options fine = { .temperature = 0 };
    struct crl_sampler *s;

    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct crl_err err = { "" };
        s = NULL;
        assert_int_equal(crl_sampler_new(&s, &bad[i], 10, &err), CRL_ERANGE);
        assert_null(s);
        assert_true(err.text[0]);
    }
    assert_int_equal(crl_sampler_new(&s, &fine, 0, NULL), CRL_ERANGE);
    s = make(&fine, 10);
    assert_int_equal(crl_sampler_accept(s, 10, NULL), CRL_ERANGE);
    assert_int_equal(crl_sampler_accept(s, -1, NULL), CRL_ERANGE);
    assert_int_equal(crl_sampler_accept(s, 9, NULL), CRL_OK);
    crl_sampler_free(s);
    crl_sampler_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_best_and_the_lowest_id_on_ties),
        cmocka_unit_test(not_a_number_is_never_drawn),
        cmocka_unit_test(each_filter_alone_draws_as_the_plain_one),
        cmocka_unit_test(random_combinations_draw_as_the_plain_one),
        cmocka_unit_test(penalties_draw_as_the_plain_one),
        cmocka_unit_test(choices_count_as_seen),
        cmocka_unit_test(top_p_keeps_an_entry_whose_predecessors_sum_to_exactly_p),
        cmocka_unit_test(large_vocabulary_agrees_with_the_plain_order),
        cmocka_unit_test(seed_decides_the_choices),
        cmocka_unit_test(picking_allocates_nothing),
        cmocka_unit_test(memory_running_out_is_reported),
        cmocka_unit_test(options_outside_their_range_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
