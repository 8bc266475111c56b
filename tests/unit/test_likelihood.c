/* test_likelihood.c - evaluations over text: windows, statistics, compact distributions, and the whole way from a
 * checkpoint to likelihood and divergence, held against the reference's logits (tests/golden) and full computations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "convert/convert.h"
#include "eval/compact.h"
#include "eval/divergence.h"
#include "eval/logsum.h"
#include "eval/perplexity.h"
#include "eval/routing.h"
#include "eval/stats.h"
#include "tests/unit/stage.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- windows ----------------------------------------------------------------------------------------------------- */

static void fill_corpus(struct crl_corpus *c, int32_t bos, size_t n_doc, const size_t *len)
{
    memset(c, 0, sizeof *c);
    c->bos = bos;
    for (size_t d = 0; d < n_doc; d++) {
        size_t first = c->ids.n;
        for (size_t i = 0; i < len[d]; i++) assert_int_equal(crl_ids_add(&c->ids, (int32_t)(100 * d + i), NULL), 0);
        assert_int_equal(crl_corpus_note(c, first, 0, NULL), 0);
    }
    assert_int_equal(crl_corpus_seal(c, NULL), 0);
}

/* Every token once, in order, predicted from the tokens right before it, with as much context as the rules promise. */
static void check_windows(const struct crl_corpus *c, size_t window, size_t stride)
{
    struct crl_windows w;
    int32_t ids[64];
    size_t row = 0, doc = 0, token = c->bos < 0;

    assert_int_equal(crl_windows_cut(&w, c, window, stride, NULL), 0);
    for (size_t i = 0; i < w.n; i++) {
        assert_true(w.v[i].n <= window && w.v[i].skip < w.v[i].n);
        assert_int_equal(w.v[i].row, row);
        crl_window_ids(c, &w.v[i], ids);
        if (c->bos >= 0) assert_int_equal(ids[0], c->bos);
        for (size_t j = 0; j < w.v[i].n; j++) {
            int32_t target = crl_window_target(c, &w.v[i], j);
            if (j + 1 < w.v[i].n) assert_int_equal(ids[j + 1], target);
            if (j < w.v[i].skip) continue;
            while (token >= c->doc[doc].n) {
                doc++;
                token = c->bos < 0;
            }
            assert_int_equal(w.v[i].doc, doc);
            assert_int_equal(target, c->ids.v[c->doc[doc].first + token]);
            token++;
            row++;
        }
    }
    assert_int_equal(row, w.n_row);
    assert_int_equal(row, c->ids.n - (c->bos < 0 ? c->n_doc : 0));
    crl_windows_fini(&w);
}

static void windows_score_every_token_once(void **state)
{
    static const size_t len[] = { 1, 7, 20, 8, 9 };
    struct crl_corpus c;

    (void)state;
    for (int32_t bos = -1; bos < 1; bos++) {
        fill_corpus(&c, bos, 5, len);
        for (size_t window = 1; window <= 22; window++)
            for (size_t stride = 1; stride <= window; stride++) check_windows(&c, window, stride);
        crl_corpus_fini(&c);
    }
}

static void windows_of_single_tokens_without_bos_are_refused(void **state)
{
    static const size_t len[] = { 1, 1 };
    struct crl_corpus c;
    struct crl_windows w;

    (void)state;
    fill_corpus(&c, -1, 2, len);
    assert_int_equal(crl_windows_cut(&w, &c, 8, 8, NULL), CRL_ERANGE);
    assert_int_equal(crl_windows_cut(&w, &c, 8, 9, NULL), CRL_ERANGE);
    crl_corpus_fini(&c);
}

/* --- statistics -------------------------------------------------------------------------------------------------- */

static void ratio_has_the_error_worked_out_by_hand(void **state)
{
    /* r = 10 / 5 = 2; residuals 1 - 2, 3 - 2, 6 - 6: 1 + 1 + 0; sqrt(3 / 2 * 2) / 5 */
    static const double x[] = { 1, 3, 6 }, w[] = { 1, 1, 3 };
    double se, low, high;

    (void)state;
    assert_float_equal(crl_ratio(x, w, 3, &se), 2, 1e-12);
    assert_float_equal(se, sqrt(3) / 5, 1e-12);
    assert_float_equal(crl_ratio(x, w, 1, &se), 1, 1e-12);
    assert_true(isnan(se));
    crl_wilson(8, 10, &low, &high); /* the published example: 0.49 to 0.94 */
    assert_float_equal(low, 0.4901625, 1e-6);
    assert_float_equal(high, 0.9433178, 1e-6);
}

/* For a mean of n equal weights the bootstrap's error is that of the formula, up to its own noise. */
static void bootstrap_agrees_with_the_formula(void **state)
{
    enum { N = 400 };
    double x[N], w[N], se;
    struct crl_boot *b, *again;
    struct crl_spread s, t;

    (void)state;
    for (int i = 0; i < N; i++) {
        x[i] = (i * 7919 % 1000) / 100.0;
        w[i] = 1;
    }
    assert_int_equal(crl_boot_new(&b, N, 2000, 1, NULL), 0);
    assert_int_equal(crl_boot_new(&again, N, 2000, 1, NULL), 0);
    crl_ratio(x, w, N, &se);
    s = crl_boot_ratio(b, x, w);
    t = crl_boot_ratio(again, x, w);
    assert_float_equal(s.se / se, 1, 0.06);
    assert_float_equal((s.high - s.low) / se, 2 * 1.96, 0.3);
    assert_true(s.se == t.se && s.low == t.low && s.high == t.high);
    crl_boot_free(b);
    crl_boot_free(again);
    assert_int_equal(crl_boot_new(&b, 0, 10, 1, NULL), CRL_ERANGE);
}

static void quantiles_are_order_statistics(void **state)
{
    static const double q[] = { 0, 0.5, 0.99, 1 };
    double x[100], value[4];
    uint32_t cluster[100];
    struct crl_spread s[4];
    struct crl_boot *b;

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        x[i] = (i * 37) % 100 + 1;
        cluster[i] = i / 10;
    }
    assert_int_equal(crl_boot_new(&b, 10, 500, 3, NULL), 0);
    assert_int_equal(crl_boot_quantiles(b, x, cluster, 100, q, 4, value, s, NULL), 0);
    assert_true(value[0] == 1 && value[1] == 50 && value[2] == 99 && value[3] == 100);
    assert_true(s[1].low < 50 && s[1].high > 50 && s[1].low > 20 && s[1].high < 80);
    crl_boot_free(b);
}

/* --- compact distributions --------------------------------------------------------------------------------------- */

#define TARGET 1 /* the token that came */

struct pair {
    uint32_t vocab;
    float *p, *q, *work; /* logits */
    struct crl_kernels kern;
    struct crl_compact_scratch scratch;
    uint32_t *stamp;
    unsigned char *record;
};

static double uniform(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) * 0x1p-24;
}

static double normal(uint32_t *state)
{
    return sqrt(-2 * log(1 - uniform(state))) * cos(6.283185307179586 * uniform(state));
}

static void pair_init(struct pair *t, uint32_t vocab, double spread, double noise, uint32_t seed)
{
    t->vocab = vocab;
    t->p = malloc(vocab * sizeof(float));
    t->q = malloc(vocab * sizeof(float));
    t->work = malloc(vocab * sizeof(float));
    t->scratch.weight = malloc(vocab * sizeof(float));
    t->scratch.order = malloc(vocab * sizeof(uint32_t));
    t->stamp = calloc(vocab, sizeof(uint32_t));
    t->record = malloc(64 + (size_t)(vocab < 65535 ? vocab : 65535) * 6 + 256 * 6);
    crl_simd_select(&t->kern, CRL_LEVEL_ALL);
    for (uint32_t i = 0; i < vocab; i++) {
        t->p[i] = (float)(spread * normal(&seed));
        t->q[i] = t->p[i] + (float)(noise * normal(&seed)) + 3;
    }
}

static void pair_fini(struct pair *t)
{
    free(t->p);
    free(t->q);
    free(t->work);
    free(t->scratch.weight);
    free(t->scratch.order);
    free(t->stamp);
    free(t->record);
}

static double log_sum(const float *x, uint32_t n)
{
    double max = (double)x[0], sum = 0;

    for (uint32_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

static double full_kl(const struct pair *t)
{
    double zp = log_sum(t->p, t->vocab), zq = log_sum(t->q, t->vocab), kl = 0;

    for (uint32_t i = 0; i < t->vocab; i++) {
        double lp = (double)t->p[i] - zp;
        kl += exp(lp) * (lp - ((double)t->q[i] - zq));
    }
    return kl;
}

static void compare_pair(struct pair *t, const struct crl_compact_params *p, uint64_t seed, struct crl_compact *c,
                         struct crl_divergence *d)
{
    struct crl_err err = { "" };
    size_t n = crl_compact_make(t->record, p, &t->kern, t->p, TARGET, NULL, seed, &t->scratch);

    memset(t->stamp, 0, t->vocab * sizeof *t->stamp);
    assert_true(n <= crl_compact_most(p));
    if (crl_compact_read(c, p, t->record, n, t->stamp, 1, &err)) fail_msg("%s", err.text);
    assert_int_equal(c->bytes, n);
    memcpy(t->work, t->q, t->vocab * sizeof(float));
    crl_compact_compare(d, p, c, &t->kern, t->work, TARGET, &t->scratch);
}

/* Range of log(q / p) over the tail: an entry has its stamp. */
static double tail_range(const struct pair *t)
{
    double lo = INFINITY, hi = -INFINITY;

    for (uint32_t i = 0; i < t->vocab; i++) {
        double x = (double)t->q[i] - (double)t->p[i];
        if (t->stamp[i]) continue;
        lo = fmin(lo, x);
        hi = fmax(hi, x);
    }
    return hi > lo ? hi - lo : 0;
}

static void divergence_stays_within_its_bound(void **state)
{
    static const uint32_t vocab[] = { 2, 17, 500, 4096, 70000 };
    static const double noise[] = { 0, 0.001, 0.05, 0.5, 3 };

    (void)state;
    for (size_t v = 0; v < 5; v++)
        for (size_t s = 0; s < 5; s++)
            for (uint32_t k = 1; k <= 1000; k *= 10) {
                struct crl_compact_params p = { vocab[v], k, 16, 1e-3f, 0, 0 };
                struct pair t;
                struct crl_compact c;
                struct crl_divergence d;
                double full, range, slack;

                pair_init(&t, vocab[v], 3, noise[s], (uint32_t)(v * 100 + s * 10 + k));
                compare_pair(&t, &p, 1, &c, &d);
                full = full_kl(&t);
                range = tail_range(&t);
                slack = 2e-7 + 4e-6 * sqrt(full); /* floats, and 2^-20 of every log probability */
                if (full < d.coarse - slack || full > d.coarse + (double)c.tail * range * range / 8 + slack)
                    fail_msg("vocabulary %u, noise %g, %u entries: %g outside [%g, + %g]", vocab[v], noise[s], c.k,
                             full, d.coarse, (double)c.tail * range * range / 8);
                assert_true(d.kl >= d.coarse);
                assert_float_equal(d.nll, log_sum(t.q, vocab[v]) - (double)t.q[TARGET], 1e-5);
                pair_fini(&t);
            }
}

static void draws_make_the_estimate_unbiased(void **state)
{
    struct crl_compact_params p = { 3000, 20, 16, 0, 0, 0 };
    struct pair t;
    struct crl_compact c;
    struct crl_divergence d;
    double sum = 0, sum2 = 0, full, se;
    enum { N = 400 };

    (void)state;
    pair_init(&t, 3000, 2, 0.3, 9);
    full = full_kl(&t);
    for (uint64_t seed = 0; seed < N; seed++) {
        compare_pair(&t, &p, seed * 0x9e3779b97f4a7c15u, &c, &d);
        sum += d.kl;
        sum2 += d.kl * d.kl;
    }
    se = sqrt((sum2 / N - sum / N * sum / N) / N);
    assert_true(full - d.coarse > 20 * se); /* there is something to estimate */
    if (fabs(sum / N - full) > 4 * se) fail_msg("mean %g, not %g, standard error %g", sum / N, full, se);
    pair_fini(&t);
}

static void as_few_entries_are_kept_as_the_tail_allows(void **state)
{
    struct pair t;
    struct crl_compact c;
    struct crl_divergence d;
    double log_p = 0;

    (void)state;
    pair_init(&t, 4096, 3, 0.1, 4);
    for (float tail = 0.3f; tail > 1e-4f; tail /= 3) {
        struct crl_compact_params p = { 4096, 4096, 0, tail, 0, 0 };
        compare_pair(&t, &p, 1, &c, &d);
        assert_true(c.tail <= tail);
        crl_compact_entry(&p, c.entry, c.k - 1, &log_p);
        assert_true((double)c.tail + exp(log_p) > (double)tail * 0.9999);
    }
    pair_fini(&t);
}

static void best_token_ties_go_to_the_lowest_id(void **state)
{
    struct crl_compact_params p = { 40, 3, 2, 0, 0, 0 };
    struct pair t;
    struct crl_compact c;
    struct crl_divergence d;

    (void)state;
    pair_init(&t, 40, 1, 0, 5);
    t.p[20] = t.p[30] = 9;
    t.q[20] = 12;
    t.q[30] = 11;
    compare_pair(&t, &p, 1, &c, &d);
    assert_true(d.same_top);
    t.q[30] = 12;
    compare_pair(&t, &p, 1, &c, &d);
    assert_true(d.same_top); /* 20 comes first */
    t.q[39] = 12;
    compare_pair(&t, &p, 1, &c, &d);
    assert_true(d.same_top);
    t.q[3] = 12; /* a tie with a token of the tail */
    compare_pair(&t, &p, 1, &c, &d);
    assert_false(d.same_top);
    t.q[3] = 12.5f;
    compare_pair(&t, &p, 1, &c, &d);
    assert_false(d.same_top);
    pair_fini(&t);
}

static void record_of_nan_is_refused(void **state)
{
    struct crl_compact_params p = { 40, 3, 2, 0, 0, 0 };
    struct pair t;
    struct crl_compact c;
    size_t n;

    (void)state;
    pair_init(&t, 40, 1, 0, 5);
    t.p[7] = NAN;
    n = crl_compact_make(t.record, &p, &t.kern, t.p, TARGET, NULL, 1, &t.scratch);
    assert_int_equal(crl_compact_read(&c, &p, t.record, n, t.stamp, 1, NULL), CRL_EFORMAT);
    assert_true(isnan(crl_log_sum_exp(&t.kern, t.p, 40, NULL)));
    pair_fini(&t);
}

/* --- the whole way ----------------------------------------------------------------------------------------------- */

static struct crl_engine *engine_of(const char *dir, const char *recipe, unsigned threads, size_t batch)
{
    struct crl_convert_options convert = { .jobs = 1 };
    struct crl_engine_options options = { .threads = threads, .batch_max = batch, .no_pin = true };
    struct crl_err err = { "" };
    struct crl_recipe r;
    struct crl_ckpt *ck = NULL;
    struct crl_pack *pack = NULL;
    struct crl_engine *e = NULL;
    enum crl_status st = crl_recipe_parse(&r, recipe, NULL, 0, &err);

    if (!st) st = crl_ckpt_open(&ck, dir, &err);
    if (!st) st = crl_convert(ck, &r, NULL, &pack, &convert, NULL, &err);
    if (!st) st = crl_engine_from_pack(&e, pack, &options, &err);
    if (st) fail_msg("%s", err.text);
    crl_ckpt_close(ck);
    return e;
}

static void *read_golden(const char *name, const char *file, size_t *len)
{
    char path[512];
    char *data;
    struct crl_err err = { "" };

    snprintf(path, sizeof path, "%s/model/%s/%s", stage_golden(), name, file);
    if (crl_file_read(&data, len, path, (size_t)1 << 24, &err)) fail_msg("%s", err.text);
    return data;
}

/* The case's ids as a JSON line in a file of the folder. */
static const char *write_ids(const char *dir, const char *name, int32_t *ids, size_t *n)
{
    size_t len;
    char *text = read_golden(name, "ids.txt", &len), line[4096] = "{\"ids\": [", *p = text;

    for (*n = 0;; p++) {
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p) break;
        ids[(*n)++] = (int32_t)v;
        snprintf(line + strlen(line), sizeof line - strlen(line), *n > 1 ? ", %ld" : "%ld", v);
        p = end;
        if (!*p) break;
    }
    snprintf(line + strlen(line), sizeof line - strlen(line), "]}\n");
    stage_write(dir, "ids.jsonl", line, strlen(line));
    crl_free(text);
    return stage_path(dir, "ids.jsonl");
}

static double value_of(const struct crl_result *r, const char *name)
{
    const struct crl_metric *m = crl_result_find(r, name);

    if (!m) fail_msg("no metric %s", name);
    return m->value;
}

static void likelihood_is_that_of_the_reference(void **state)
{
    static const char *const name[] = { "A", "C", "D", "H" };

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        char *dir = stage_case(name[i]);
        struct crl_engine *e = engine_of(dir, "bf16", 2, 7);
        struct crl_text_options o = { .path = NULL };
        struct crl_result *r;
        struct crl_err err = { "" };
        struct crl_engine_info info;
        int32_t ids[256];
        size_t n, len;
        float *want = read_golden(name[i], "logits.f32", &len);
        double nll = 0;

        crl_engine_info(e, &info);
        o.path = write_ids(dir, name[i], ids, &n);
        assert_int_equal(len, n * info.vocab * sizeof(float));
        for (size_t t = 0; t + 1 < n; t++)
            nll += log_sum(want + t * info.vocab, info.vocab) - (double)want[t * info.vocab + (size_t)ids[t + 1]];
        if (crl_eval_perplexity(&r, e, &o, &err)) fail_msg("%s", err.text);
        assert_float_equal(value_of(r, "nll"), nll / (double)(n - 1), 1e-5);
        assert_float_equal(value_of(r, "perplexity"), exp(nll / (double)(n - 1)), 1e-2);
        assert_int_equal(r->n_item, 1);
        assert_float_equal(r->item[0].score, nll, 1e-3);
        assert_true(r->item[0].weight == (double)(n - 1));
        crl_result_free(r);
        crl_engine_close(e);
        crl_free(want);
        stage_remove(dir);
    }
}

static float *all_logits(struct crl_engine *e, const int32_t *ids, size_t n, size_t vocab)
{
    float *logits = malloc(n * vocab * sizeof *logits);
    struct crl_session *s;

    assert_int_equal(crl_session_new(&s, e, n, NULL), 0);
    assert_int_equal(crl_session_feed_all(s, ids, n, logits, NULL), 0);
    crl_session_free(s);
    return logits;
}

static void divergence_is_that_of_full_logits(void **state)
{
    char *dir = stage_case("A");
    struct crl_engine *a = engine_of(dir, "bf16", 2, 64), *b = engine_of(dir, "q4", 2, 64);
    struct crl_reference_options o = { .bound = 0.01, .k_max = 60, .n_draw = 16 };
    struct crl_text_options run = { .path = NULL };
    struct crl_result *r, *d;
    struct crl_err err = { "" };
    int32_t ids[256];
    size_t n;
    double kl = 0, same = 0;
    char crr[512];
    float *p, *q;

    (void)state;
    o.text.path = write_ids(dir, "A", ids, &n);
    snprintf(crr, sizeof crr, "%s", stage_path(dir, "a.crr"));
    o.output = crr;
    if (crl_eval_reference(&r, a, &o, &err)) fail_msg("%s", err.text);
    if (crl_eval_divergence(&d, b, crr, &run, &err)) fail_msg("%s", err.text);
    p = all_logits(a, ids, n - 1, 128);
    q = all_logits(b, ids, n - 1, 128);
    for (size_t t = 0; t + 1 < n; t++) {
        struct pair one = { .vocab = 128, .p = p + t * 128, .q = q + t * 128 };
        size_t i = 0, j = 0;
        kl += full_kl(&one) / (double)(n - 1);
        for (size_t v = 1; v < 128; v++) {
            if (one.p[v] > one.p[i]) i = v;
            if (one.q[v] > one.q[j]) j = v;
        }
        same += (double)(i == j) / (double)(n - 1);
    }
    assert_true(kl > 1e-3);
    assert_true(fabs(value_of(d, "kl.mean") - kl) <= value_of(d, "kl.bound") + 1e-6);
    assert_float_equal(value_of(d, "kl.mean"), kl, 0.02 * kl);
    assert_float_equal(value_of(d, "top.same"), same, 1e-9);
    assert_float_equal(value_of(d, "nll.reference"), value_of(r, "nll"), 1e-6);
    assert_float_equal(value_of(d, "nll.delta"), value_of(d, "nll") - value_of(r, "nll"), 1e-6);
    crl_result_free(d);
    if (crl_eval_divergence(&d, a, crr, &run, &err)) fail_msg("%s", err.text);
    assert_true(value_of(d, "kl.max") < 1e-9 && value_of(d, "top.same") == 1 && value_of(d, "router.same") == 1);
    crl_result_free(d);
    crl_result_free(r);
    free(p);
    free(q);
    crl_engine_close(a);
    crl_engine_close(b);
    stage_remove(dir);
}

static void reference_that_is_damaged_or_foreign_is_refused(void **state)
{
    char *dir = stage_case("A"), *other = stage_case("C");
    struct crl_engine *a = engine_of(dir, "bf16", 1, 64), *c = engine_of(other, "bf16", 1, 64);
    struct crl_reference_options o = { .k_max = 5, .n_draw = 2 };
    struct crl_text_options run = { .path = NULL };
    struct crl_result *r;
    struct crl_reference *ref;
    struct crl_err err = { "" };
    int32_t ids[256];
    size_t n, len;
    char *data;

    (void)state;
    o.text.path = write_ids(dir, "A", ids, &n);
    o.output = stage_path(dir, "a.crr");
    if (crl_eval_reference(&r, a, &o, &err)) fail_msg("%s", err.text);
    crl_result_free(r);
    assert_int_equal(crl_eval_divergence(&r, c, o.output, &run, &err), CRL_ERANGE);
    assert_non_null(strstr(err.text, "another model"));
    assert_int_equal(crl_file_read(&data, &len, o.output, (size_t)1 << 20, NULL), 0);
    for (size_t at = 0; at < len; at += at < 200 ? 1 : 13) {
        data[at] ^= 0x10;
        assert_true(crl_reference_open_mem(&ref, data, len, "x", NULL) != CRL_OK);
        data[at] ^= 0x10;
    }
    for (size_t cut = 0; cut < len; cut += 17)
        assert_true(crl_reference_open_mem(&ref, data, cut, "x", NULL) != CRL_OK);
    assert_int_equal(crl_reference_open_mem(&ref, data, len, "x", NULL), CRL_OK);
    crl_reference_close(ref);
    crl_free(data);
    crl_engine_close(a);
    crl_engine_close(c);
    stage_remove(dir);
    stage_remove(other);
}

static void routing_counts_what_the_reference_chose(void **state)
{
    char *dir = stage_case("A");
    struct crl_engine *e = engine_of(dir, "bf16", 2, 5);
    struct crl_text_options o = { .path = NULL };
    struct crl_result *r;
    struct crl_err err = { "" };
    json_t *counts;
    int32_t ids[256];
    size_t n, len, want[5][4] = { { 0 } };
    char *routes = read_golden("A", "routes.txt", &len), *p = routes;

    (void)state;
    o.path = write_ids(dir, "A", ids, &n);
    if (crl_eval_routing(&r, &counts, e, &o, &err)) fail_msg("%s", err.text);
    for (unsigned layer, token, expert; sscanf(p, "%u %u %u", &layer, &token, &expert) == 3; p = strchr(p, '\n') + 1)
        if (token + 1 < n) want[layer][expert]++; /* the last token is not fed */
    for (size_t l = 0; l < 5; l++)
        for (size_t x = 0; x < 4; x++)
            assert_int_equal(json_integer_value(json_array_get(
                                 json_array_get(json_object_get(counts, "counts"), l), x)), want[l][x]);
    json_decref(counts);
    crl_result_free(r);
    crl_free(routes);
    crl_engine_close(e);
    stage_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_score_every_token_once),
        cmocka_unit_test(windows_of_single_tokens_without_bos_are_refused),
        cmocka_unit_test(ratio_has_the_error_worked_out_by_hand),
        cmocka_unit_test(bootstrap_agrees_with_the_formula),
        cmocka_unit_test(quantiles_are_order_statistics),
        cmocka_unit_test(divergence_stays_within_its_bound),
        cmocka_unit_test(draws_make_the_estimate_unbiased),
        cmocka_unit_test(as_few_entries_are_kept_as_the_tail_allows),
        cmocka_unit_test(best_token_ties_go_to_the_lowest_id),
        cmocka_unit_test(record_of_nan_is_refused),
        cmocka_unit_test(likelihood_is_that_of_the_reference),
        cmocka_unit_test(divergence_is_that_of_full_logits),
        cmocka_unit_test(reference_that_is_damaged_or_foreign_is_refused),
        cmocka_unit_test(routing_counts_what_the_reference_chose),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
