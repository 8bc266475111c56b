/* eval_suite.c - corral eval suite: a list of evaluations, its history, and whether it got worse. */
#include "config.h"

#include "cli/eval.h"
#include "cli/eval_verdict.h"
#include "cli/model.h"
#include "cli/progress.h"
#include "eval/about.h"
#include "eval/suite.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HISTORY = 1, BASELINE, FAIL_IF, ALPHA, JUNIT, SANDBOX, BATCH, JSON, FRESH };

static const struct crl_option options[] = {
    { "history", "FILE", "SQLite file that keeps the results, made when it is not there", HISTORY },
    { "baseline", "RUN", "a run's number, last, or good (default: the last good one of this suite and model)",
      BASELINE },
    { "fail-if", "CONDITION",
      "exit with 3 when it holds: 'divergence.kl.mean > 1.05 * baseline', or regression\n"
      "(something is significantly worse); may be repeated",
      FAIL_IF },
    { "alpha", "P", "chance of a false alarm of `regression` (default 0.01)", ALPHA },
    { "junit", "FILE", "write the outcome as JUnit XML", JUNIT },
    { "sandbox", "COMMAND", "run this on generated programs, as in `corral eval generate`", SANDBOX },
    { "batch", "N", "tokens computed at once (default 512); results do not depend on it", BATCH },
    { "json", NULL, "print the outcome as one JSON object", JSON },
    { "fresh", NULL, "do not go on with an interrupted run, start anew", FRESH },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "eval suite",
    .operands = "SUITE.json MODEL",
    .about = "Run the evaluations that a file lists, keep the results in a history, compare them with the "
             "last good run\n"
             "item by item, and exit with 3 when a condition says that the model got worse.",
    .option = options,
    .more = crl_model_options,
};

struct args {
    struct crl_model_args model;
    const char *suite, *history, *baseline, *junit, *sandbox;
    const char *gate[CRL_VERDICT_GATES_MAX];
    size_t n_gate;
    float alpha;
    bool json, fresh;
};

/* A suite at work. */
struct work {
    struct args a;
    struct crl_suite *suite;
    struct crl_engine *engine;
    struct crl_history *history;
    struct crl_progress progress;
    const char *at; /* the evaluation at hand */
    int64_t run;
    char **failed; /* [2 * n_failed] name and reason */
    size_t n_failed;
};

static bool take(struct args *a, const struct crl_cli *c, int id)
{
    struct crl_err err = { "" };
    unsigned long long n;

    if (id >= CRL_MODEL_OPTION) return crl_model_option(&a->model, c, id);
    switch (id) {
    case HISTORY:
        a->history = c->value;
        return true;
    case BASELINE:
        a->baseline = c->value;
        return true;
    case FAIL_IF:
        if (a->n_gate == CRL_SUITE_GATES_MAX || crl_gate_check(c->value, &err)) {
            crl_cli_misused(c->usage, "option --fail-if: %s", err.text[0] ? err.text : "too many conditions");
            return false;
        }
        a->gate[a->n_gate++] = c->value;
        return true;
    case ALPHA:
        return crl_cli_real(c, "alpha", 1e-9, 0.5, &a->alpha);
    case JUNIT:
        a->junit = c->value;
        return true;
    case SANDBOX:
        a->sandbox = c->value;
        return true;
    case BATCH:
        if (!crl_cli_number(c, "batch", 1, 65536, &n)) return false;
        a->model.engine.batch_max = (size_t)n;
        return true;
    case JSON:
        return a->json = true;
    default:
        return a->fresh = true;
    }
}

static bool on_progress(void *ctx, size_t done, size_t total)
{
    struct work *w = ctx;

    crl_progress_show(&w->progress, done, total, w->at);
    return !crl_cli_interrupted();
}

static enum crl_status begin(struct work *w, struct crl_err *err)
{
    struct crl_engine_info info;
    struct crl_run_key key = { .suite = w->suite->name, .model = w->a.model.path, .corral = PACKAGE_VERSION };
    char config[17], weights[17];
    uint64_t hash;
    bool resumed;
    enum crl_status st = crl_about_config_hash(w->engine, &hash, err);

    if (st) return st;
    crl_engine_info(w->engine, &info);
    snprintf(config, sizeof config, "%016llx", (unsigned long long)hash);
    snprintf(weights, sizeof weights, "%016llx", (unsigned long long)crl_about_weights_hash(w->engine));
    key.suite_hash = w->suite->hash;
    key.config_hash = config;
    key.weights_hash = weights;
    key.recipe = info.recipe;
    key.isa = info.isa;
    key.threads = info.threads;
    key.weights = info.params;
    key.bytes = info.bytes;
    st = crl_history_begin(w->history, &key, !w->a.fresh, &w->run, &resumed, err);
    if (!st && resumed && !w->a.model.quiet)
        crl_cli_note(&usage, "going on with run %lld", (long long)w->run);
    return st;
}

static enum crl_status note_failure(struct work *w, const char *name, const struct crl_err *why,
                                    struct crl_err *err)
{
    char **grown = crl_alloc(2 * (w->n_failed + 1), sizeof *grown);

    if (!grown) return crl_fail(err, CRL_ENOMEM, "no memory for a failure");
    if (w->n_failed) memcpy(grown, w->failed, 2 * w->n_failed * sizeof *grown);
    crl_free(w->failed);
    w->failed = grown;
    grown[2 * w->n_failed] = crl_strdup(name);
    grown[2 * w->n_failed + 1] = crl_strdup(why->text);
    w->n_failed++;
    return grown[2 * w->n_failed - 2] && grown[2 * w->n_failed - 1]
               ? CRL_OK
               : crl_fail(err, CRL_ENOMEM, "no memory for a failure");
}

/* An evaluation that fails does not keep the others from running; what fails is remembered. */
static enum crl_status evaluate(struct work *w, const struct crl_suite_entry *e, struct crl_err *err)
{
    const struct crl_suite_options o = { crl_model_chats(w->engine), w->a.sandbox, on_progress, w };
    struct crl_result *r = NULL;
    struct crl_err why = { "" };
    uint64_t spec = 0;
    bool there = false;
    enum crl_status st = crl_suite_spec_hash(w->suite, e, &spec, &why), stored;

    if (!st) {
        stored = crl_history_has(w->history, w->run, e->name, spec, &there, err);
        if (stored || there) return stored;
        w->at = e->name;
        crl_progress_init(&w->progress, e->kind[0] == 'c' || e->kind[0] == 'g' ? "items" : "tokens",
                          w->a.model.quiet);
        st = crl_suite_run(&r, w->suite, e, w->engine, &o, &why);
        crl_progress_end(&w->progress);
    }
    if (st == CRL_EINTR) return crl_fail(err, st, "interrupted; the same command goes on with it");
    if (!st) st = crl_result_check(r, &why);
    stored =
        st ? note_failure(w, e->name, &why, err) : crl_history_add(w->history, w->run, e->name, spec, r, err);
    crl_result_free(r);
    return stored;
}

/* --- showing -------------------------------------------------------------------------------------------- */

static void print_run(const struct crl_run *run, const struct crl_run *base)
{
    char bytes[CRL_CLI_TEXT];

    printf("run %lld of suite %s: %s, recipe %s, %s, weights %s\n", (long long)run->id, run->suite,
           run->model, run->recipe, crl_cli_bytes(bytes, (double)run->bytes), run->weights_hash);
    if (base)
        printf("baseline: run %lld, recipe %s, weights %s\n", (long long)base->id, base->recipe,
               base->weights_hash);
    printf("\n%-34s %14s %27s %9s\n", "metric", "value", "95% interval", "n");
    for (size_t i = 0; i < run->n_eval; i++)
        for (size_t k = 0; k < run->eval[i].result->n_metric; k++) {
            const struct crl_metric *m = &run->eval[i].result->metric[k];
            char name[160], interval[64] = "";
            snprintf(name, sizeof name, "%s.%s", run->eval[i].name, m->name);
            if (isfinite(m->low) && isfinite(m->high))
                snprintf(interval, sizeof interval, "%.6g .. %.6g", m->low, m->high);
            printf("%-34s %14.7g %27s %9llu%s%s\n", name, m->value, interval, (unsigned long long)m->n,
                   m->unit[0] ? "  " : "", m->unit);
        }
}

static json_t *run_json(const struct crl_run *run)
{
    json_t *list = json_array(), *doc;
    int bad = !list;

    for (size_t i = 0; i < run->n_eval && !bad; i++) {
        json_t *one = crl_result_json(run->eval[i].result, false);
        bad |= !one || json_object_set_new(one, "name", json_string(run->eval[i].name)) ||
               json_object_set_new(one, "seconds", crl_real_json(run->eval[i].seconds)) ||
               json_array_append(list, one);
        json_decref(one);
    }
    doc =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:o}", "suite", run->suite, "model", run->model,
                  "recipe", run->recipe, "weights_hash", run->weights_hash, "config_hash", run->config_hash,
                  "isa", run->isa, "threads", (int)run->threads, "corral", run->corral, "evaluations", list);
    if (!bad) return doc;
    json_decref(doc);
    return NULL;
}

static int show(const struct work *w, const struct crl_verdict_report *v, enum crl_verdict verdict)
{
    if (w->a.json) {
        json_t *doc = run_json(v->now);
        if (!crl_verdict_json(doc, v) ||
            json_object_set_new(doc, "verdict", json_string(crl_verdict_name(verdict)))) {
            json_decref(doc);
            doc = NULL;
        }
        return crl_cli_json(&usage, doc);
    }
    print_run(v->now, v->base);
    crl_verdict_print(v);
    printf("\nverdict: %s\n", crl_verdict_name(verdict));
    return CRL_EXIT_DONE;
}

/* --- the verdict ---------------------------------------------------------------------------------------- */

static enum crl_status find_baseline(struct work *w, const struct crl_run *now, struct crl_run **base,
                                     struct crl_err *err)
{
    struct crl_err none = { "" };
    int64_t id;
    enum crl_status st =
        crl_history_find(w->history, w->a.baseline ? w->a.baseline : "good", now, &id, &none);

    *base = NULL;
    if (st == CRL_ENOENT &&
        (!w->a.baseline || !strcmp(w->a.baseline, "good") || !strcmp(w->a.baseline, "last")))
        return CRL_OK; /* the first run has none */
    if (st) return crl_fail(err, st, "--baseline: %s", none.text);
    return crl_history_load(w->history, id, base, err);
}

static enum crl_status ask_gates(struct work *w, struct crl_verdict_report *v, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < w->suite->n_gate + w->a.n_gate && !st; i++) {
        const char *condition = i < w->suite->n_gate ? w->suite->gate[i] : w->a.gate[i - w->suite->n_gate];
        struct crl_err why = { "" };
        st = crl_verdict_ask(v, condition, &why);
        if (st == CRL_ENOENT && w->n_failed)
            st = CRL_OK; /* what it names failed, which is reported already */
        else if (st) crl_fail(err, st, "%s", why.text);
        else
            st = crl_history_gate(w->history, w->run, condition,
                                  v->gate[v->n_gate - 1].outcome == CRL_GATE_HOLDS,
                                  v->gate[v->n_gate - 1].what, err);
    }
    return st;
}

static enum crl_status conclude(struct work *w, int *code, struct crl_err *err)
{
    struct crl_verdict_report v = { .failed = (const char *const *)w->failed, .n_failed = w->n_failed };
    struct crl_run *now = NULL, *base = NULL;
    struct crl_comparison *compare = NULL;
    enum crl_verdict verdict = CRL_VERDICT_GOOD;
    enum crl_status st = crl_history_load(w->history, w->run, &now, err);

    if (!st) st = find_baseline(w, now, &base, err);
    if (!st && base) st = crl_compare(&compare, w->history, base, w->history, now, (double)w->a.alpha, err);
    v.now = now;
    v.base = base;
    v.compare = compare;
    if (!st) st = ask_gates(w, &v, err);
    if (!st) {
        if (crl_verdict_held(&v)) verdict = CRL_VERDICT_REGRESSED;
        if (w->n_failed) verdict = CRL_VERDICT_FAILED;
        st = crl_history_finish(w->history, w->run, verdict, err);
    }
    if (!st && w->a.junit) st = crl_verdict_junit(&v, w->a.junit, err);
    if (!st) *code = show(w, &v, verdict);
    for (size_t i = 0; i < w->n_failed && !st; i++) crl_cli_note(&usage, "%s", w->failed[2 * i + 1]);
    if (!st && *code == CRL_EXIT_DONE && verdict == CRL_VERDICT_FAILED) *code = CRL_EXIT_FAILED;
    if (!st && *code == CRL_EXIT_DONE && verdict == CRL_VERDICT_REGRESSED) *code = CRL_EXIT_DIFFERENT;
    crl_verdict_fini(&v);
    crl_comparison_free(compare);
    crl_run_free(now);
    crl_run_free(base);
    return st;
}

static bool parse(struct args *a, int argc, char **argv, int *code)
{
    struct crl_cli c;
    int id;

    crl_cli_init(&c, &usage, argc, argv);
    *code = CRL_EXIT_MISUSED;
    while ((id = crl_cli_next(&c)) > 0)
        if (!take(a, &c, id)) return false;
    if (id == CRL_CLI_STOP) *code = c.exit_code;
    else if (c.n_operand != 2) crl_cli_misused(&usage, "a suite and a model are needed");
    else if (a->baseline && !a->history) crl_cli_misused(&usage, "--baseline needs --history");
    else {
        a->suite = c.operand[0];
        a->model.path = c.operand[1];
        return true;
    }
    return false;
}

static int run(int argc, char **argv)
{
    struct work w = { .n_failed = 0 };
    struct crl_err err = { "" };
    enum crl_status st;
    int code = CRL_EXIT_DONE;

    if (!parse(&w.a, argc, argv, &code)) return code;
    crl_cli_catch_interrupt();
    st = crl_suite_read(&w.suite, w.a.suite, &err);
    if (!st) st = crl_history_open(&w.history, w.a.history ? w.a.history : ":memory:", true, &err);
    if (!st) st = crl_model_open(&w.engine, &usage, &w.a.model, &err);
    if (!st) st = begin(&w, &err);
    for (size_t i = 0; !st && i < w.suite->n_entry; i++) st = evaluate(&w, &w.suite->entry[i], &err);
    if (!st) st = conclude(&w, &code, &err);
    if (st) code = crl_cli_fail(&usage, st, &err);
    for (size_t i = 0; i < 2 * w.n_failed; i++) crl_free(w.failed[i]);
    crl_free(w.failed);
    crl_suite_free(w.suite);
    crl_history_close(w.history);
    crl_engine_close(w.engine);
    return code;
}

const struct crl_command crl_eval_cmd_suite = { "suite", "a list of evaluations, its history and its gates",
                                                run };
