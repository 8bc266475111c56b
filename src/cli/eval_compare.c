/* eval_compare.c - corral eval compare: two runs of a history, item by item. */
#include "cli/eval.h"
#include "cli/eval_verdict.h"
#include "cli/model.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { HISTORY = 1, FAIL_IF, ALPHA, JUNIT, JSON };

static const struct crl_option options[] = {
    { "history", "FILE", "the history of runs that are given without a file", HISTORY },
    { "fail-if", "CONDITION", "exit with 3 when it holds (default: regression); may be repeated", FAIL_IF },
    { "alpha", "P", "chance of a false alarm (default 0.01)", ALPHA },
    { "junit", "FILE", "write the outcome as JUnit XML", JUNIT },
    { "json", NULL, "print the outcome as one JSON object", JSON },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "eval compare",
    .operands = "BASE NOW",
    .about = "Compare two runs of suites item by item and say which differences are significant; exit with 3 "
             "when the\n"
             "second is worse. A run is a number, last or good, with --history; or FILE@RUN; or FILE, its "
             "last run.",
    .option = options,
};

struct side {
    struct crl_history *history;
    struct crl_run *run;
};

static void side_close(struct side *s)
{
    crl_run_free(s->run);
    crl_history_close(s->history);
}

static enum crl_status side_open(struct side *s, const char *text, const char *history, struct crl_err *err)
{
    const char *at = strrchr(text, '@'), *which = text;
    char *path = at ? crl_memdup0(text, (size_t)(at - text)) : NULL;
    int64_t id;
    enum crl_status st;

    if (at && !path) return crl_fail(err, CRL_ENOMEM, "no memory for a path");
    if (at) which = at + 1;
    else if (!history) which = "last";
    st = crl_history_open(&s->history, path ? path : history ? history : text, false, err);
    if (!st) st = crl_history_find(s->history, which, NULL, &id, err);
    if (!st) st = crl_history_load(s->history, id, &s->run, err);
    crl_free(path);
    return st;
}

struct args {
    const char *history, *junit;
    const char *gate[CRL_VERDICT_GATES_MAX];
    size_t n_gate;
    float alpha;
    bool json;
    char **operand;
};

static bool take(struct args *a, const struct crl_cli *c, int id)
{
    struct crl_err err = { "" };

    switch (id) {
    case HISTORY:
        a->history = c->value;
        return true;
    case FAIL_IF:
        if (a->n_gate == CRL_VERDICT_GATES_MAX || crl_gate_check(c->value, &err)) {
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
    default:
        return a->json = true;
    }
}

static int show(const struct args *a, const struct crl_verdict_report *v)
{
    json_t *doc;

    if (a->json) {
        doc = json_object();
        if (!crl_verdict_json(doc, v)) {
            json_decref(doc);
            doc = NULL;
        }
        return crl_cli_json(&usage, doc);
    }
    printf("baseline  run %lld of suite %s: %s, recipe %s, weights %s\n", (long long)v->base->id,
           v->base->suite, v->base->model, v->base->recipe, v->base->weights_hash);
    printf("now       run %lld of suite %s: %s, recipe %s, weights %s\n", (long long)v->now->id,
           v->now->suite, v->now->model, v->now->recipe, v->now->weights_hash);
    crl_verdict_print(v);
    return CRL_EXIT_DONE;
}

static enum crl_status work(const struct args *a, int *code, struct crl_err *err)
{
    struct side base = { NULL, NULL }, now = { NULL, NULL };
    struct crl_verdict_report v = { .n_gate = 0 };
    struct crl_comparison *compare = NULL;
    enum crl_status st = side_open(&base, a->operand[0], a->history, err);

    if (!st) st = side_open(&now, a->operand[1], a->history, err);
    if (!st) st = crl_compare(&compare, base.history, base.run, now.history, now.run, (double)a->alpha, err);
    v.base = base.run;
    v.now = now.run;
    v.compare = compare;
    for (size_t i = 0; i < a->n_gate && !st; i++) st = crl_verdict_ask(&v, a->gate[i], err);
    if (!a->n_gate && !st) st = crl_verdict_ask(&v, "regression", err);
    if (!st && a->junit) st = crl_verdict_junit(&v, a->junit, err);
    if (!st) *code = show(a, &v);
    if (!st && *code == CRL_EXIT_DONE && crl_verdict_held(&v)) *code = CRL_EXIT_DIFFERENT;
    crl_verdict_fini(&v);
    crl_comparison_free(compare);
    side_close(&base);
    side_close(&now);
    return st;
}

static int run(int argc, char **argv)
{
    struct args a = { .n_gate = 0 };
    struct crl_err err = { "" };
    enum crl_status st;
    struct crl_cli c;
    int id, code = CRL_EXIT_DONE;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0)
        if (!take(&a, &c, id)) return CRL_EXIT_MISUSED;
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (c.n_operand != 2) return crl_cli_misused(&usage, "two runs are needed");
    a.operand = c.operand;
    st = work(&a, &code, &err);
    return st ? crl_cli_fail(&usage, st, &err) : code;
}

const struct crl_command crl_eval_cmd_compare = { "compare", "two runs, item by item", run };
