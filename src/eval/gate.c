/* gate.c - reading and evaluating conditions in one descent. */
#include "eval/gate.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32
#define NAME_MAX_LEN 256

/* What a condition is read with: now NULL only checks the grammar. */
struct reader {
    const char *text, *at;
    const struct crl_run *now, *base;
    struct crl_err *err;
    enum crl_status st;
    unsigned depth;
    bool no_base;            /* something of the baseline was wanted and is not there */
    char name[NAME_MAX_LEN]; /* the first metric named */
    bool several;            /* more than one */
    bool bare;               /* "baseline" alone occurred */
};

static double fail(struct reader *r, const char *what)
{
    if (!r->st)
        r->st = crl_fail(r->err, CRL_EFORMAT, "condition \"%.200s\", byte %zu: %s", r->text,
                         (size_t)(r->at - r->text), what);
    return NAN;
}

static void blanks(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\t') r->at++;
}

static bool take(struct reader *r, const char *what)
{
    blanks(r);
    if (strncmp(r->at, what, strlen(what))) return false;
    r->at += strlen(what);
    return true;
}

static bool word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '@';
}

/* A word, with '-' inside names of evaluations only when both neighbours belong to it: "a-b.c" is one name,
 * "a - b" two. */
static size_t word(const struct reader *r)
{
    size_t n = 0;

    while (word_char(r->at[n]) || (n && r->at[n] == '-' && word_char(r->at[n + 1]))) n++;
    return n;
}

enum part { VALUE, SE, LOW, HIGH };

static const struct crl_metric *find_metric(const struct crl_result *r, const char *name)
{
    const struct crl_metric *exact = crl_result_find(r, name), *found = NULL;
    size_t len = strlen(name);

    if (exact) return exact;
    for (size_t i = 0; i < r->n_metric; i++) {
        const char *full = r->metric[i].name;
        size_t n = strlen(full);
        if (n <= len || full[n - len - 1] != '.' || strcmp(full + n - len, name)) continue;
        if (found) return NULL;
        found = &r->metric[i];
    }
    return found;
}

/* The longest name of an evaluation that begins `name` and is followed by a dot. */
static const struct crl_metric *look(const struct crl_run *run, const char *name)
{
    const struct crl_evaluation *best = NULL;
    size_t most = 0;

    for (size_t i = 0; i < run->n_eval; i++) {
        size_t n = strlen(run->eval[i].name);
        if (strncmp(run->eval[i].name, name, n) || name[n] != '.' || (best && n <= most)) continue;
        best = &run->eval[i];
        most = n;
    }
    return best ? find_metric(best->result, name + most + 1) : NULL;
}

static double part_of(const struct crl_metric *m, enum part part)
{
    return part == SE ? m->se : part == LOW ? m->low : part == HIGH ? m->high : m->value;
}

static double metric(struct reader *r, const char *name, enum part part, bool of_base)
{
    const struct crl_metric *m;

    if (!r->now || r->st) return 1;
    m = look(r->now, name);
    if (!m) {
        r->st =
            crl_fail(r->err, CRL_ENOENT, "condition \"%.200s\": there is no metric \"%s\"", r->text, name);
        return NAN;
    }
    if (!of_base) return part_of(m, part);
    m = r->base ? look(r->base, name) : NULL;
    if (!m) r->no_base = true;
    return m ? part_of(m, part) : 1;
}

static bool read_name(struct reader *r, char name[NAME_MAX_LEN])
{
    size_t n;

    blanks(r);
    n = word(r);
    if (!n || n >= NAME_MAX_LEN || !memchr(r->at, '.', n)) {
        fail(r, "a name like evaluation.metric is expected");
        return false;
    }
    memcpy(name, r->at, n);
    name[n] = 0;
    r->at += n;
    return true;
}

static void note_name(struct reader *r, const char *name)
{
    if (!r->name[0]) strcpy(r->name, name);
    else if (strcmp(r->name, name)) r->several = true;
}

static double in_brackets(struct reader *r, enum part part, bool of_base)
{
    char name[NAME_MAX_LEN];

    if (!take(r, "(")) return fail(r, "\"(\" is expected");
    if (!read_name(r, name)) return NAN;
    note_name(r, name);
    if (!take(r, ")")) return fail(r, "\")\" is expected");
    return metric(r, name, part, of_base);
}

static bool is_word(const char *at, size_t n, const char *what)
{
    return n == strlen(what) && memcmp(at, what, n) == 0;
}

static double sum(struct reader *r);

/* `baseline` alone means the metric that the condition names; the first reading has found out which. */
static double bare_baseline(struct reader *r)
{
    r->bare = true;
    if (!r->now) return 1;
    return metric(r, r->name, VALUE, true);
}

static double factor(struct reader *r)
{
    char name[NAME_MAX_LEN], *end;
    double v;
    size_t n;

    blanks(r);
    if (r->st) return NAN;
    if (++r->depth > DEPTH_MAX) return fail(r, "brackets are nested too deeply");
    if (take(r, "-")) v = -factor(r);
    else if (take(r, "(")) {
        v = sum(r);
        if (!take(r, ")")) fail(r, "\")\" is expected");
    } else if ((*r->at >= '0' && *r->at <= '9') || *r->at == '.') {
        v = strtod(r->at, &end);
        if (end == r->at) return fail(r, "a number is expected");
        r->at = end;
    } else {
        n = word(r);
        if (is_word(r->at, n, "baseline")) {
            r->at += n;
            blanks(r);
            v = *r->at == '(' ? in_brackets(r, VALUE, true) : bare_baseline(r);
        } else if (is_word(r->at, n, "se") || is_word(r->at, n, "low") || is_word(r->at, n, "high")) {
            enum part part = *r->at == 's' ? SE : *r->at == 'l' ? LOW : HIGH;
            r->at += n;
            v = in_brackets(r, part, false);
        } else {
            if (!read_name(r, name)) return NAN;
            note_name(r, name);
            v = metric(r, name, VALUE, false);
        }
    }
    r->depth--;
    return v;
}

static double product(struct reader *r)
{
    double v = factor(r);

    while (!r->st) {
        if (take(r, "*")) v *= factor(r);
        else if (take(r, "/")) v /= factor(r);
        else break;
    }
    return v;
}

static double sum(struct reader *r)
{
    double v = product(r);

    while (!r->st) {
        if (take(r, "+")) v += product(r);
        else if (take(r, "-")) v -= product(r);
        else break;
    }
    return v;
}

enum relation { LE, GE, EQ, NE, LT, GT, RELATIONS };
static const char *const relation_names[RELATIONS] = { "<=", ">=", "==", "!=", "<", ">" };

static bool holds(enum relation rel, double a, double b)
{
    switch (rel) {
    case LE:
        return a <= b;
    case GE:
        return a >= b;
    case EQ:
        return a == b;
    case NE:
        return a != b;
    case LT:
        return a < b;
    default:
        return a > b;
    }
}

/* sum relation sum */
static enum crl_status read_condition(struct reader *r, double *left, enum relation *rel, double *right)
{
    unsigned k = 0;

    r->at = r->text;
    *left = sum(r);
    while (!r->st && k < RELATIONS && !take(r, relation_names[k])) k++;
    if (!r->st && k == RELATIONS) fail(r, "one of < <= > >= == != is expected");
    *rel = k < RELATIONS ? (enum relation)k : EQ;
    *right = r->st ? NAN : sum(r);
    blanks(r);
    if (!r->st && *r->at) fail(r, "something follows the condition");
    if (!r->st && r->bare && (r->several || !r->name[0]))
        fail(r, "\"baseline\" alone needs exactly one metric in the condition; say baseline(NAME)");
    return r->st;
}

static bool is_regression(const char *condition)
{
    return strcmp(condition, "regression") == 0;
}

enum crl_status crl_gate_check(const char *condition, struct crl_err *err)
{
    struct reader r = { .text = condition, .err = err };
    enum relation rel;
    double left, right;

    if (strlen(condition) > CRL_GATE_LEN_MAX)
        return crl_fail(err, CRL_ERANGE, "a condition of %zu bytes, at most %d are accepted",
                        strlen(condition), CRL_GATE_LEN_MAX);
    return is_regression(condition) ? CRL_OK : read_condition(&r, &left, &rel, &right);
}

static char *sentence(const char *fmt, ...)
{
    char text[CRL_GATE_LEN_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return crl_strdup(text);
}

static enum crl_status ask_regression(const struct crl_comparison *c, enum crl_gate *outcome, char **what,
                                      struct crl_err *err)
{
    size_t n = c ? crl_comparison_regressions(c) : 0, used = 0;
    char names[CRL_GATE_LEN_MAX / 2] = "";

    *outcome = !c ? CRL_GATE_SKIPPED : n ? CRL_GATE_HOLDS : CRL_GATE_PASSES;
    for (size_t i = 0; c && i < c->n; i++) {
        const struct crl_difference *x = &c->v[i];
        if (!x->significant || !x->worse || used >= sizeof names) continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s.%s from %.6g to %.6g (p = %.2g)",
                                 used ? "; " : "", x->evaluation, x->metric, x->base, x->now, x->p);
    }
    *what = !c  ? sentence("there is no baseline")
            : n ? sentence("%zu of %zu series significantly worse: %s", n, c->n, names)
                : sentence("none of %zu series is significantly worse", c->n);
    return *what ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a gate");
}

enum crl_status crl_gate_ask(const char *condition, const struct crl_run *now, const struct crl_run *base,
                             const struct crl_comparison *comparison, enum crl_gate *outcome, char **what,
                             struct crl_err *err)
{
    struct reader r = { .text = condition, .err = err };
    enum relation rel;
    double left, right;
    enum crl_status st = crl_gate_check(condition, err);

    *what = NULL;
    if (st) return st;
    if (is_regression(condition)) return ask_regression(comparison, outcome, what, err);
    st = read_condition(&r, &left, &rel, &right); /* finds the name that `baseline` stands for */
    r.now = now;
    r.base = base;
    if (!st) st = read_condition(&r, &left, &rel, &right);
    if (st) return st;
    if (r.no_base) {
        *outcome = CRL_GATE_SKIPPED;
        *what = sentence("there is no baseline");
    } else {
        if (!isfinite(left) || !isfinite(right))
            return crl_fail(err, CRL_ERANGE, "condition \"%.200s\": %g %s %g are not both finite", condition,
                            left, relation_names[rel], right);
        *outcome = holds(rel, left, right) ? CRL_GATE_HOLDS : CRL_GATE_PASSES;
        *what = sentence("%.9g %s %.9g is %s", left, relation_names[rel], right,
                         *outcome == CRL_GATE_HOLDS ? "true" : "false");
    }
    return *what ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a gate");
}
