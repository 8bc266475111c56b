/* eval_verdict.c - comparisons and gates for people and for CI systems. */
#include "cli/eval_verdict.h"

#include "base/file.h"
#include "base/mem.h"
#include "text/str.h"

#include <math.h>
#include <stdlib.h>

enum crl_status crl_verdict_ask(struct crl_verdict_report *v, const char *condition, struct crl_err *err)
{
    struct crl_verdict_gate *g = &v->gate[v->n_gate];
    enum crl_status st;

    if (v->n_gate == CRL_VERDICT_GATES_MAX)
        return crl_fail(err, CRL_ERANGE, "more than %d conditions", CRL_VERDICT_GATES_MAX);
    st = crl_gate_ask(condition, v->now, v->base, v->compare, &g->outcome, &g->what, err);
    if (st) return st;
    g->condition = condition;
    v->n_gate++;
    return CRL_OK;
}

void crl_verdict_fini(struct crl_verdict_report *v)
{
    for (size_t i = 0; i < v->n_gate; i++) crl_free(v->gate[i].what);
    v->n_gate = 0;
}

size_t crl_verdict_held(const struct crl_verdict_report *v)
{
    size_t n = 0;

    for (size_t i = 0; i < v->n_gate; i++) n += v->gate[i].outcome == CRL_GATE_HOLDS;
    return n;
}

/* --- text ----------------------------------------------------------------------------------------------- */

static const char *judgement(const struct crl_difference *x)
{
    if (x->diff == 0 && !x->n_worse && !x->n_better) return "same";
    if (!x->significant) return "not significant";
    return x->worse ? "WORSE" : "better";
}

static void print_differences(const struct crl_comparison *c)
{
    printf("\n%-34s %12s %12s %12s %25s %9s %s\n", "paired with the baseline", "baseline", "now",
           "difference", "95% interval", "p", "");
    for (size_t i = 0; i < c->n; i++) {
        const struct crl_difference *x = &c->v[i];
        char name[128], interval[64] = "";
        snprintf(name, sizeof name, "%s.%s", x->evaluation, x->metric);
        if (isfinite(x->low)) snprintf(interval, sizeof interval, "%+.4g .. %+.4g", x->low, x->high);
        printf("%-34s %12.6g %12.6g %+12.4g %25s %9.2g %s\n", name, x->base, x->now, x->diff, interval, x->p,
               judgement(x));
    }
    printf("significant: %s test per series, Holm's correction over %zu series at %g\n",
           c->n ? "McNemar's or a paired z" : "no", c->n, c->alpha);
    for (size_t i = 0; i < c->n_left_out; i++) printf("not compared: %s\n", c->left_out[i]);
}

void crl_verdict_print(const struct crl_verdict_report *v)
{
    static const char *const outcome[] = { "REGRESSION", "passes", "skipped" };

    if (v->compare) print_differences(v->compare);
    for (size_t i = 0; i < v->n_gate; i++)
        printf("%s%-10s  %s: %s\n", i ? "" : "\n", outcome[v->gate[i].outcome], v->gate[i].condition,
               v->gate[i].what);
}

/* --- JSON ----------------------------------------------------------------------------------------------- */

bool crl_verdict_json(json_t *doc, const struct crl_verdict_report *v)
{
    static const char *const outcome[] = { "regression", "passes", "skipped" };
    json_t *gates = json_array(), *failed = json_array();
    int bad = !doc || !gates || !failed;

    for (size_t i = 0; i < v->n_gate && !bad; i++)
        bad = json_array_append_new(gates,
                                    json_pack("{s:s, s:s, s:s}", "condition", v->gate[i].condition, "outcome",
                                              outcome[v->gate[i].outcome], "what", v->gate[i].what));
    for (size_t i = 0; i < v->n_failed && !bad; i++)
        bad = json_array_append_new(
            failed, json_pack("{s:s, s:s}", "evaluation", v->failed[2 * i], "why", v->failed[2 * i + 1]));
    if (!bad && v->now) bad |= json_object_set_new(doc, "run", json_integer(v->now->id));
    if (!bad) bad |= json_object_set_new(doc, "baseline", v->base ? json_integer(v->base->id) : json_null());
    if (!bad && v->compare) bad |= json_object_set_new(doc, "comparison", crl_comparison_json(v->compare));
    if (!bad) bad |= json_object_set(doc, "gates", gates);
    if (!bad) bad |= json_object_set(doc, "failed", failed);
    json_decref(gates);
    json_decref(failed);
    return !bad;
}

/* --- JUnit ---------------------------------------------------------------------------------------------- */

static enum crl_status puts_xml(struct crl_str *out, const char *s, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (; *s && !st; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '&') st = crl_str_puts(out, "&amp;", err);
        else if (c == '<') st = crl_str_puts(out, "&lt;", err);
        else if (c == '>') st = crl_str_puts(out, "&gt;", err);
        else if (c == '"') st = crl_str_puts(out, "&quot;", err);
        else if (c < 0x20 || c == 0x7f)
            st = crl_str_puts(out, "?", err); /* XML has no way to write most of them */
        else st = crl_str_add(out, s, 1, err);
    }
    return st;
}

/* A test case; element NULL: it passed. */
static enum crl_status test_case(struct crl_str *out, const char *class, const char *name, double seconds,
                                 const char *element, const char *message, struct crl_err *err)
{
    char time[64] = "";
    enum crl_status st = crl_str_puts(out, "  <testcase classname=\"", err);

    if (isfinite(seconds)) snprintf(time, sizeof time, "\" time=\"%.3f", seconds);
    if (!st) st = puts_xml(out, class, err);
    if (!st) st = crl_str_puts(out, "\" name=\"", err);
    if (!st) st = puts_xml(out, name, err);
    if (!st) st = crl_str_puts(out, time, err);
    if (!st) st = crl_str_puts(out, element ? "\">\n    <" : "\"/>\n", err);
    if (st || !element) return st;
    st = crl_str_puts(out, element, err);
    if (!st) st = crl_str_puts(out, " message=\"", err);
    if (!st) st = puts_xml(out, message, err);
    return st ? st : crl_str_puts(out, "\"/>\n  </testcase>\n", err);
}

static enum crl_status body(struct crl_str *out, const struct crl_verdict_report *v, struct crl_err *err)
{
    static const char *const element[] = { "failure", NULL, "skipped" };
    enum crl_status st = CRL_OK;

    for (size_t i = 0; v->now && i < v->now->n_eval && !st; i++)
        st = test_case(out, "corral.evaluation", v->now->eval[i].name, v->now->eval[i].seconds, NULL, NULL,
                       err);
    for (size_t i = 0; i < v->n_failed && !st; i++)
        st = test_case(out, "corral.evaluation", v->failed[2 * i], NAN, "error", v->failed[2 * i + 1], err);
    for (size_t i = 0; i < v->n_gate && !st; i++)
        st = test_case(out, "corral.gate", v->gate[i].condition, NAN, element[v->gate[i].outcome],
                       v->gate[i].what, err);
    return st;
}

enum crl_status crl_verdict_junit(const struct crl_verdict_report *v, const char *path, struct crl_err *err)
{
    size_t skipped = 0, evaluations = v->now ? v->now->n_eval : 0;
    struct crl_str out = { NULL, 0, 0 };
    char numbers[160];
    enum crl_status st =
        crl_str_puts(&out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"", err);

    for (size_t i = 0; i < v->n_gate; i++) skipped += v->gate[i].outcome == CRL_GATE_SKIPPED;
    snprintf(numbers, sizeof numbers, "\" tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" skipped=\"%zu\">\n",
             evaluations + v->n_failed + v->n_gate, crl_verdict_held(v), v->n_failed, skipped);
    if (!st) st = puts_xml(&out, v->now ? v->now->suite : "corral", err);
    if (!st) st = crl_str_puts(&out, numbers, err);
    if (!st) st = body(&out, v, err);
    if (!st) st = crl_str_puts(&out, "</testsuite>\n", err);
    if (!st) st = crl_file_write(path, out.s, out.len, err);
    crl_str_fini(&out);
    return st;
}
