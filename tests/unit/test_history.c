/* test_history.c - histories, comparisons and gates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "eval/gate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[96];

static int set_up(void **unused)
{
    (void)unused;
    strcpy(folder, "test_history.XXXXXX");
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/h.sqlite", folder);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    unlink(path);
    return rmdir(folder);
}

static struct crl_run_key key(const char *weights)
{
    return (struct crl_run_key){ .suite = "s",
                                 .model = "m.crl",
                                 .suite_hash = 7,
                                 .config_hash = "c",
                                 .weights_hash = weights,
                                 .recipe = "q4",
                                 .isa = "scalar",
                                 .corral = "0",
                                 .weights = 10,
                                 .bytes = 5,
                                 .threads = 1 };
}

/* A result with n items, the i-th of score x[i], and their mean as metric "accuracy". */
static struct crl_result *result(const double *x, size_t n, enum crl_better better)
{
    struct crl_result *r;
    struct crl_metric *m;
    double sum = 0;

    assert_int_equal(crl_result_new(&r, "generate", NULL), CRL_OK);
    for (size_t i = 0; i < n; i++) {
        char id[16];
        snprintf(id, sizeof id, "%zu", i);
        assert_int_equal(crl_result_item(r, id, x[i], 1, NULL, NULL), CRL_OK);
        sum += x[i];
    }
    assert_int_equal(crl_result_metric(r, &m, "kl.mean", sum / (double)n, n, NULL), CRL_OK);
    m->better = better;
    m->se = 0.25;
    assert_int_equal(crl_result_fact(r, "shots", json_integer(1), NULL), CRL_OK);
    return r;
}

static int64_t store(struct crl_history *h, const char *weights, const double *x, size_t n,
                     enum crl_better better, enum crl_verdict verdict)
{
    struct crl_run_key k = key(weights);
    struct crl_result *r = result(x, n, better);
    struct crl_err err = { "" };
    int64_t run;
    bool resumed;

    if (crl_history_begin(h, &k, true, &run, &resumed, &err)) fail_msg("%s", err.text);
    assert_false(resumed);
    if (crl_history_add(h, run, "div-1", 1, r, &err)) fail_msg("%s", err.text);
    assert_int_equal(crl_history_finish(h, run, verdict, &err), CRL_OK);
    crl_result_free(r);
    return run;
}

static void results_come_back_as_stored(void **unused)
{
    static const double x[] = { 1, 0, 1 };
    struct crl_history *h;
    struct crl_run *run;
    struct crl_evaluation *e;
    int64_t id;

    (void)unused;
    assert_int_equal(crl_history_open(&h, path, true, NULL), CRL_OK);
    id = store(h, "w", x, 3, CRL_BETTER_HIGH, CRL_VERDICT_GOOD);
    assert_int_equal(crl_history_gate(h, id, "a > 1", true, "2 > 1", NULL), CRL_OK);
    crl_history_close(h);
    assert_int_equal(crl_history_open(&h, path, false, NULL), CRL_OK);
    assert_int_equal(crl_history_load(h, id, &run, NULL), CRL_OK);
    assert_string_equal(run->recipe, "q4");
    assert_int_equal(run->verdict, CRL_VERDICT_GOOD);
    assert_true(run->finished >= run->started && run->started > 0);
    assert_int_equal(run->n_gate, 1);
    assert_true(run->gate[0].failed);
    e = crl_run_find(run, "div-1");
    assert_non_null(e);
    assert_string_equal(e->result->metric[0].name, "kl.mean");
    assert_true(e->result->metric[0].se == 0.25 && isnan(e->result->metric[0].low));
    assert_int_equal(e->result->n_item, 0);
    assert_int_equal(crl_history_items(h, e, NULL), CRL_OK);
    assert_int_equal(e->result->n_item, 3);
    assert_true(e->result->item[1].score == 0);
    assert_int_equal(json_integer_value(json_object_get(e->result->facts, "shots")), 1);
    crl_run_free(run);
    crl_history_close(h);
}

static void runs_are_found_by_number_and_word(void **unused)
{
    static const double x[] = { 1 };
    struct crl_history *h;
    struct crl_run *run;
    int64_t good, bad, id;

    (void)unused;
    assert_int_equal(crl_history_open(&h, path, true, NULL), CRL_OK);
    assert_int_equal(crl_history_find(h, "good", NULL, &id, NULL), CRL_ENOENT);
    good = store(h, "w", x, 1, CRL_BETTER_HIGH, CRL_VERDICT_GOOD);
    bad = store(h, "v", x, 1, CRL_BETTER_HIGH, CRL_VERDICT_REGRESSED);
    assert_int_equal(crl_history_find(h, "last", NULL, &id, NULL), CRL_OK);
    assert_int_equal(id, bad);
    assert_int_equal(crl_history_load(h, bad, &run, NULL), CRL_OK);
    assert_int_equal(crl_history_find(h, "good", run, &id, NULL), CRL_OK);
    assert_int_equal(id, good);
    assert_int_equal(crl_history_find(h, "2", NULL, &id, NULL), CRL_OK);
    assert_int_equal(id, 2);
    assert_int_equal(crl_history_find(h, "3", NULL, &id, NULL), CRL_ENOENT);
    assert_int_equal(crl_history_find(h, "best", NULL, &id, NULL), CRL_ERANGE);
    crl_run_free(run);
    crl_history_close(h);
}

static void metric_that_is_not_finite_is_refused(void **unused)
{
    static const double x[] = { NAN };
    struct crl_run_key k = key("w");
    struct crl_result *r = result(x, 1, CRL_BETTER_LOW);
    struct crl_history *h;
    struct crl_err err = { "" };
    int64_t run;
    bool resumed, found;

    (void)unused;
    assert_int_equal(crl_history_open(&h, path, true, NULL), CRL_OK);
    assert_int_equal(crl_history_begin(h, &k, true, &run, &resumed, NULL), CRL_OK);
    assert_int_equal(crl_history_add(h, run, "x", 1, r, &err), CRL_ERANGE);
    assert_non_null(strstr(err.text, "kl.mean"));
    assert_int_equal(crl_history_has(h, run, "x", 1, &found, NULL), CRL_OK);
    assert_false(found);
    crl_result_free(r);
    crl_history_close(h);
}

/* A process that stores one result and is gone before the end; afterwards its run is taken up, while a living
 * owner's is not. */
static void interrupted_runs_are_taken_up(void **unused)
{
    static const double x[] = { 1, 0 };
    struct crl_run_key k = key("w");
    struct crl_history *h;
    int64_t run, other;
    bool resumed, found;
    int status;
    pid_t pid = fork();

    (void)unused;
    if (pid == 0) {
        struct crl_result *r = result(x, 2, CRL_BETTER_HIGH);
        enum crl_status st = crl_history_open(&h, path, true, NULL);
        if (!st) st = crl_history_begin(h, &k, true, &run, &resumed, NULL);
        if (!st) st = crl_history_add(h, run, "one", 5, r, NULL);
        _exit(st);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(crl_history_open(&h, path, true, NULL), CRL_OK);
    assert_int_equal(crl_history_begin(h, &k, true, &run, &resumed, NULL), CRL_OK);
    assert_true(resumed);
    assert_int_equal(crl_history_has(h, run, "one", 5, &found, NULL), CRL_OK);
    assert_true(found);
    assert_int_equal(crl_history_has(h, run, "one", 6, &found, NULL), CRL_OK);
    assert_false(found);
    assert_int_equal(crl_history_begin(h, &k, true, &other, &resumed, NULL), CRL_OK);
    assert_false(resumed);
    assert_int_not_equal(other, run);
    crl_history_close(h);
}

/* Four processes with ten results each lose none. */
static void processes_share_a_history(void **unused)
{
    static const double x[] = { 1, 0 };
    struct crl_history *h;
    int64_t *ids;
    size_t n;
    int status;

    (void)unused;
    for (int p = 0; p < 4; p++)
        if (fork() == 0) {
            struct crl_result *r = result(x, 2, CRL_BETTER_HIGH);
            struct crl_run_key k = key("w");
            enum crl_status st = crl_history_open(&h, path, true, NULL);
            for (int i = 0; i < 10 && !st; i++) {
                int64_t run;
                bool resumed;
                st = crl_history_begin(h, &k, false, &run, &resumed, NULL);
                if (!st) st = crl_history_add(h, run, "one", 1, r, NULL);
                if (!st) st = crl_history_finish(h, run, CRL_VERDICT_GOOD, NULL);
            }
            _exit(st);
        }
    for (int p = 0; p < 4; p++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(crl_history_open(&h, path, false, NULL), CRL_OK);
    assert_int_equal(crl_history_runs(h, 1000, &ids, &n, NULL), CRL_OK);
    assert_int_equal(n, 40);
    crl_free(ids);
    crl_history_close(h);
}

static void old_version_is_migrated_and_later_one_refused(void **unused)
{
    static const double x[] = { 1 };
    struct crl_history *h;
    struct crl_err err = { "" };
    struct crl_run *run;
    unsigned char version[4] = { 0, 0, 0, 99 };
    FILE *f;

    (void)unused;
    assert_int_equal(crl_history_open_version(&h, path, 1, NULL), CRL_OK);
    crl_history_close(h);
    assert_int_equal(crl_history_open(&h, path, false, &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "version 1"));
    assert_int_equal(crl_history_open(&h, path, true, NULL), CRL_OK);
    store(h, "w", x, 1, CRL_BETTER_HIGH, CRL_VERDICT_GOOD);
    assert_int_equal(crl_history_load(h, 1, &run, NULL), CRL_OK);
    assert_int_equal(run->verdict, CRL_VERDICT_GOOD);
    crl_run_free(run);
    crl_history_close(h);
    f = fopen(path, "r+b"); /* user_version is at byte 60 of the file, big-endian */
    assert_non_null(f);
    assert_int_equal(fseek(f, 60, SEEK_SET), 0);
    assert_int_equal(fwrite(version, 1, 4, f), 4);
    assert_int_equal(fclose(f), 0);
    err.text[0] = 0;
    assert_int_equal(crl_history_open(&h, path, true, &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "version 99"));
}

/* What a version 1 file holds survives. */
static void migration_keeps_what_was_there(void **unused)
{
    struct crl_history *h;
    struct crl_run_key k = key("w");
    struct crl_run *run;
    int64_t id;
    bool resumed;

    (void)unused;
    assert_int_equal(crl_history_open_version(&h, path, 1, NULL), CRL_OK);
    assert_int_equal(crl_history_begin(h, &k, false, &id, &resumed, NULL), CRL_OK);
    assert_int_equal(crl_history_load(h, id, &run, NULL), CRL_EIO); /* version 1 has no verdicts */
    crl_history_close(h);
    assert_int_equal(crl_history_open(&h, path, true, NULL), CRL_OK);
    crl_history_close(h);
    assert_int_equal(crl_history_open(&h, path, false, NULL), CRL_OK);
    assert_int_equal(crl_history_load(h, id, &run, NULL), CRL_OK);
    assert_int_equal(run->verdict, CRL_VERDICT_NONE);
    assert_string_equal(run->weights_hash, "w");
    crl_run_free(run);
    crl_history_close(h);
}

static void damaged_files_are_refused_with_a_sentence(void **unused)
{
    static const char text[] =
        "This is no database, though it is longer than the header of one would be, as it goes on.....";
    static const double x[] = { 1 };
    struct crl_history *h;
    struct crl_err err = { "" };
    struct crl_run *run = NULL;
    char junk[1024];
    enum crl_status st;
    FILE *f;

    (void)unused;
    assert_int_equal(crl_history_open(&h, path, false, &err), CRL_ENOENT);
    assert_int_equal(crl_file_write(path, text, sizeof text, NULL), CRL_OK);
    err.text[0] = 0;
    assert_int_equal(crl_history_open(&h, path, true, &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "is damaged or no history"));
    unlink(path);
    assert_int_equal(crl_history_open(&h, path, true, NULL), CRL_OK);
    store(h, "w", x, 1, CRL_BETTER_HIGH, CRL_VERDICT_GOOD);
    crl_history_close(h);
    f = fopen(path, "r+b");
    memset(junk, 0x5a, sizeof junk);
    assert_int_equal(fseek(f, 4096, SEEK_SET), 0);
    for (int i = 0; i < 60; i++) fwrite(junk, 1, sizeof junk, f);
    fclose(f);
    err.text[0] = 0;
    st = crl_history_open(&h, path, true, &err);
    if (!st) {
        st = crl_history_load(h, 1, &run, &err);
        crl_history_close(h);
    }
    assert_int_equal(st, CRL_EFORMAT);
    assert_null(run);
}

/* --- comparing ------------------------------------------------------------------------------------------ */

static void mcnemar_is_the_exact_binomial(void **unused)
{
    (void)unused;
    assert_true(crl_mcnemar(0, 0) == 1 && crl_mcnemar(4, 4) == 1);
    assert_true(fabs(crl_mcnemar(0, 5) - 2.0 / 32) < 1e-12);
    assert_true(fabs(crl_mcnemar(1, 5) - 2 * 7.0 / 64) < 1e-12);
    assert_true(fabs(crl_mcnemar(10, 2) - 2 * 79.0 / 4096) < 1e-12); /* 1 + 12 + 66 of 2^12 */
    assert_true(crl_mcnemar(0, 2000) < 1e-300 || crl_mcnemar(0, 2000) == 0);
}

struct pair {
    struct crl_history *h;
    struct crl_run *a, *b;
    struct crl_comparison *c;
};

static struct pair compare(const double *x, const double *y, size_t n, enum crl_better better)
{
    struct pair p;
    struct crl_err err = { "" };
    int64_t a, b;

    unlink(path);
    assert_int_equal(crl_history_open(&p.h, path, true, NULL), CRL_OK);
    a = store(p.h, "w", x, n, better, CRL_VERDICT_GOOD);
    b = store(p.h, "v", y, n, better, CRL_VERDICT_GOOD);
    assert_int_equal(crl_history_load(p.h, a, &p.a, NULL), CRL_OK);
    assert_int_equal(crl_history_load(p.h, b, &p.b, NULL), CRL_OK);
    if (crl_compare(&p.c, p.h, p.a, p.h, p.b, 0, &err)) fail_msg("%s", err.text);
    return p;
}

static void pair_free(struct pair *p)
{
    crl_comparison_free(p->c);
    crl_run_free(p->a);
    crl_run_free(p->b);
    crl_history_close(p->h);
}

static void equal_runs_differ_in_nothing(void **unused)
{
    static const double x[] = { 1, 0, 1, 1, 0, 0.5 };
    struct pair p = compare(x, x, 6, CRL_BETTER_HIGH);

    (void)unused;
    assert_int_equal(p.c->n, 1);
    assert_true(p.c->v[0].p == 1 && !p.c->v[0].significant && p.c->v[0].diff == 0);
    assert_int_equal(crl_comparison_regressions(p.c), 0);
    pair_free(&p);
}

static void worse_answers_are_seen(void **unused)
{
    double x[40], y[40];
    struct pair p;

    (void)unused;
    for (int i = 0; i < 40; i++) {
        x[i] = i < 30;
        y[i] = i < 15;
    }
    p = compare(x, y, 40, CRL_BETTER_HIGH); /* 15 of 15 changes for the worse: p = 2 / 2^15 */
    assert_string_equal(p.c->v[0].test, "McNemar");
    assert_true(fabs(p.c->v[0].p - 2 / 32768.0) < 1e-12);
    assert_true(p.c->v[0].significant && p.c->v[0].worse);
    assert_int_equal(p.c->v[0].n_worse, 15);
    assert_int_equal(crl_comparison_regressions(p.c), 1);
    assert_true(p.c->v[0].low < -0.375 && p.c->v[0].high > -0.375 && p.c->v[0].high < 0);
    pair_free(&p);
    p = compare(y, x, 40, CRL_BETTER_HIGH); /* better is no regression */
    assert_true(p.c->v[0].significant && !p.c->v[0].worse);
    assert_int_equal(crl_comparison_regressions(p.c), 0);
    pair_free(&p);
}

/* A small shift of every item is seen though the items differ much among themselves. */
static void small_paired_shifts_are_seen(void **unused)
{
    double x[50], y[50];
    struct pair p;

    (void)unused;
    for (int i = 0; i < 50; i++) {
        x[i] = i * 0.1;
        y[i] = x[i] + 0.001 + (i % 3) * 0.0005;
    }
    p = compare(x, y, 50, CRL_BETTER_LOW);
    assert_string_equal(p.c->v[0].test, "paired z");
    assert_true(p.c->v[0].p < 1e-6 && p.c->v[0].worse && p.c->v[0].significant);
    pair_free(&p);
}

/* --- gates ---------------------------------------------------------------------------------------------- */

static void ask(const struct pair *p, bool with_base, const char *condition, enum crl_gate want)
{
    enum crl_gate got;
    struct crl_err err = { "" };
    char *what;

    if (crl_gate_ask(condition, p->b, with_base ? p->a : NULL, with_base ? p->c : NULL, &got, &what, &err))
        fail_msg("%s: %s", condition, err.text);
    if (got != want) fail_msg("%s: %s", condition, what);
    crl_free(what);
}

static void conditions_are_evaluated(void **unused)
{
    static const double x[] = { 1, 1, 1, 0 }, y[] = { 1, 1, 0, 0 }; /* 0.75, then 0.5 */
    struct pair p = compare(x, y, 4, CRL_BETTER_HIGH);

    (void)unused;
    ask(&p, true, "div-1.kl.mean < baseline", CRL_GATE_HOLDS);
    ask(&p, true, "div-1.mean < 0.95 * baseline", CRL_GATE_HOLDS);
    ask(&p, true, "div-1.kl.mean < baseline - 0.25", CRL_GATE_PASSES);
    ask(&p, true, "div-1.kl.mean <= baseline(div-1.kl.mean) - 1/4", CRL_GATE_HOLDS);
    ask(&p, true, "div-1.kl.mean == 0.5", CRL_GATE_HOLDS);
    ask(&p, true, "div-1.kl.mean != .5", CRL_GATE_PASSES);
    ask(&p, true, "-(1 + 2) * 2 >= -6", CRL_GATE_HOLDS);
    ask(&p, true, "2 + 3 * 4 == 14", CRL_GATE_HOLDS);
    ask(&p, true, "8 / 2 / 2 == 2", CRL_GATE_HOLDS);
    ask(&p, true, "7 - 2 - 1 == 4", CRL_GATE_HOLDS);
    ask(&p, true, "1e-3 < 0.002", CRL_GATE_HOLDS);
    ask(&p, true, "baseline - div-1.kl.mean > 0.9 * se(div-1.kl.mean)", CRL_GATE_HOLDS);
    ask(&p, false, "div-1.kl.mean < baseline", CRL_GATE_SKIPPED);
    ask(&p, false, "div-1.kl.mean < 0.6", CRL_GATE_HOLDS);
    ask(&p, true, "regression", CRL_GATE_PASSES); /* one change says nothing */
    ask(&p, false, "regression", CRL_GATE_SKIPPED);
    pair_free(&p);
}

static void wrong_conditions_are_named(void **unused)
{
    static const char *const wrong[] = {
        "",
        "a.b",
        "a.b >",
        "> 1",
        "a.b > 1 1",
        "a.b > (1",
        "a.b = 1",
        "ab > 1",
        "baseline > 1",
        "a.b > baseline * c.d",
        "se a.b > 1",
        "1 < 2 < 3",
        "a.b > 1 and c.d > 2",
        "((((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))))) > 0"
    };
    static const double x[] = { 1 };
    struct pair p = compare(x, x, 1, CRL_BETTER_HIGH);
    struct crl_err err = { "" };
    enum crl_gate outcome;
    char *what;

    (void)unused;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        err.text[0] = 0;
        if (crl_gate_check(wrong[i], &err) != CRL_EFORMAT) fail_msg("\"%s\" was accepted", wrong[i]);
        assert_non_null(strstr(err.text, "byte"));
    }
    assert_int_equal(crl_gate_ask("div-1.nothing > 1", p.b, p.a, p.c, &outcome, &what, &err), CRL_ENOENT);
    assert_int_equal(crl_gate_ask("div-1.mean > 1 / 0", p.b, p.a, p.c, &outcome, &what, &err), CRL_ERANGE);
    assert_int_equal(crl_gate_ask("low(div-1.mean) > 1", p.b, p.a, p.c, &outcome, &what, &err), CRL_ERANGE);
    pair_free(&p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(results_come_back_as_stored),
        T(runs_are_found_by_number_and_word),
        T(metric_that_is_not_finite_is_refused),
        T(interrupted_runs_are_taken_up),
        T(processes_share_a_history),
        T(old_version_is_migrated_and_later_one_refused),
        T(migration_keeps_what_was_there),
        T(damaged_files_are_refused_with_a_sentence),
        cmocka_unit_test(mcnemar_is_the_exact_binomial),
        T(equal_runs_differ_in_nothing),
        T(worse_answers_are_seen),
        T(small_paired_shifts_are_seen),
        T(conditions_are_evaluated),
        T(wrong_conditions_are_named),
    };

    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
