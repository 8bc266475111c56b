/* compare.c - paired differences and their significance. */
#include "eval/compare.h"

#include "base/mem.h"
#include "eval/stats.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERIES_MAX 65536

double crl_mcnemar(size_t b, size_t c)
{
    size_t n = b + c, less = b < c ? b : c;
    double tail = 0, log_half = (double)n * log(0.5);

    if (b == c) return 1;
    for (size_t i = 0; i <= less; i++) /* binomial(n, i) / 2^n through logarithms: n may be thousands */
        tail += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) + log_half);
    return fmin(1, 2 * tail);
}

bool crl_comparable(const struct crl_evaluation *a, const struct crl_evaluation *b)
{
    return strcmp(a->result->kind, b->result->kind) == 0 && json_equal(a->result->facts, b->result->facts);
}

static enum crl_status leave_out(struct crl_comparison *c, struct crl_err *err, const char *fmt, ...)
{
    enum crl_status st = crl_grow((void **)&c->left_out, &c->cap_left_out, c->n_left_out + 1,
                                  sizeof *c->left_out, SERIES_MAX, err);
    char text[512];
    va_list ap;

    if (st) return st;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->left_out[c->n_left_out] = crl_strdup(text);
    return c->left_out[c->n_left_out++] ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a comparison");
}

/* Values of one series in both runs and the weights they share. */
struct series {
    double *a, *b, *d, *w; /* [n] */
    size_t n;
};

static void series_fini(struct series *s)
{
    crl_free(s->a);
    crl_free(s->b);
    crl_free(s->d);
    crl_free(s->w);
}

static enum crl_status series_new(struct series *s, size_t n, struct crl_err *err)
{
    *s = (struct series){ crl_alloc(n, sizeof(double)), crl_alloc(n, sizeof(double)),
                          crl_alloc(n, sizeof(double)), crl_alloc(n, sizeof(double)), n };
    if (s->a && s->b && s->d && s->w) return CRL_OK;
    series_fini(s);
    return crl_fail(err, CRL_ENOMEM, "no memory to compare %zu items", n);
}

/* Every score is 0 or 1 of weight 1. */
static bool is_binary(const struct series *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->w[i] != 1 || (s->a[i] != 0 && s->a[i] != 1) || (s->b[i] != 0 && s->b[i] != 1)) return false;
    return true;
}

static double paired_z(const struct series *s, double se)
{
    double sum = 0, weight = 0;

    for (size_t i = 0; i < s->n; i++) {
        sum += s->d[i];
        weight += s->w[i];
    }
    if (sum == 0) return 1;
    if (!(se > 0)) return NAN;
    return erfc(fabs(sum / weight) / se / sqrt(2));
}

/* What a series of items says. s->d is filled in. */
static enum crl_status judge(struct crl_comparison *c, const char *evaluation, const struct crl_metric *m,
                             struct series *s, struct crl_err *err)
{
    struct crl_difference x = { .better = m->better, .n = s->n };
    struct crl_spread spread;
    struct crl_boot *boot;
    enum crl_status st = crl_grow((void **)&c->v, &c->cap, c->n + 1, sizeof *c->v, SERIES_MAX, err);
    double se, weight = 0;

    if (st) return st;
    memcpy(x.metric, m->name, sizeof x.metric);
    for (size_t i = 0; i < s->n; i++) {
        double gain = (s->b[i] - s->a[i]) * (m->better == CRL_BETTER_LOW ? -1 : 1);
        s->d[i] = s->b[i] - s->a[i];
        x.base += s->a[i];
        x.now += s->b[i];
        weight += s->w[i];
        x.n_better += gain > 0;
        x.n_worse += gain < 0;
    }
    x.base /= weight;
    x.now /= weight;
    x.diff = x.now - x.base;
    crl_ratio(s->d, s->w, s->n, &se);
    x.test = is_binary(s) ? "McNemar" : "paired z";
    x.p = is_binary(s) ? crl_mcnemar(x.n_worse, x.n_better) : paired_z(s, se);
    x.worse = m->better == CRL_BETTER_LOW ? x.diff > 0 : m->better == CRL_BETTER_HIGH && x.diff < 0;
    st = crl_boot_new(&boot, s->n, 0, CRL_BOOT_SEED, err);
    if (st) return st;
    spread = crl_boot_ratio(boot, s->d, s->w);
    crl_boot_free(boot);
    x.low = spread.low;
    x.high = spread.high;
    x.evaluation = crl_strdup(evaluation);
    if (!x.evaluation) return crl_fail(err, CRL_ENOMEM, "no memory for a comparison");
    c->v[c->n++] = x;
    return CRL_OK;
}

static bool same_items(const struct crl_result *a, const struct crl_result *b)
{
    if (a->n_item != b->n_item || !a->n_item) return false;
    for (size_t i = 0; i < a->n_item; i++)
        if (strcmp(a->item[i].id, b->item[i].id) || a->item[i].weight != b->item[i].weight) return false;
    return true;
}

static double mean_of_items(const struct crl_result *r)
{
    double sum = 0, weight = 0;

    for (size_t i = 0; i < r->n_item; i++) {
        sum += r->item[i].score;
        weight += r->item[i].weight;
    }
    return weight > 0 ? sum / weight : NAN;
}

static bool nearly(double a, double b)
{
    return fabs(a - b) <= 1e-9 + 1e-6 * fabs(b);
}

/* The metric that is the mean of the items in both runs; NULL: they explain none. */
static const struct crl_metric *explained(const struct crl_result *a, const struct crl_result *b)
{
    double mean_a = mean_of_items(a), mean_b = mean_of_items(b);

    for (size_t i = 0; i < b->n_metric; i++) {
        const struct crl_metric *m = &b->metric[i], *other = crl_result_find(a, m->name);
        if (m->better != CRL_BETTER_NONE && other && nearly(m->value, mean_b) && nearly(other->value, mean_a))
            return m;
    }
    return NULL;
}

static bool can_be_worse(const struct crl_result *r)
{
    for (size_t i = 0; i < r->n_metric; i++)
        if (r->metric[i].better != CRL_BETTER_NONE) return r->n_item > 0;
    return false;
}

static enum crl_status by_score(struct crl_comparison *c, const char *name, const struct crl_result *a,
                                const struct crl_result *b, const struct crl_metric *m, struct crl_err *err)
{
    struct series s;
    enum crl_status st = series_new(&s, a->n_item, err);

    if (st) return st;
    for (size_t i = 0; i < s.n; i++) {
        s.a[i] = a->item[i].score;
        s.b[i] = b->item[i].score;
        s.w[i] = a->item[i].weight;
    }
    st = judge(c, name, m, &s, err);
    series_fini(&s);
    return st;
}

/* The same for nll.right, which choice keeps in the detail of its items. */
static enum crl_status by_detail(struct crl_comparison *c, const char *name, const struct crl_result *a,
                                 const struct crl_result *b, struct crl_err *err)
{
    const struct crl_metric *m = crl_result_find(b, "nll.right");
    struct series s;
    enum crl_status st;
    bool all = true;

    if (!m || !crl_result_find(a, "nll.right")) return CRL_OK;
    st = series_new(&s, a->n_item, err);
    for (size_t i = 0; i < a->n_item && !st; i++) {
        const json_t *x = json_object_get(a->item[i].detail, "nll"),
                     *y = json_object_get(b->item[i].detail, "nll");
        all &= json_is_number(x) && json_is_number(y);
        s.a[i] = json_number_value(x);
        s.b[i] = json_number_value(y);
        s.w[i] = 1;
    }
    if (!st && all) st = judge(c, name, m, &s, err);
    if (!st) series_fini(&s);
    return st;
}

static enum crl_status one(struct crl_comparison *c, struct crl_history *hb, struct crl_run *base,
                           struct crl_history *hn, struct crl_evaluation *now, struct crl_err *err)
{
    struct crl_evaluation *before = crl_run_find(base, now->name);
    const struct crl_metric *m;
    enum crl_status st;

    if (!before)
        return leave_out(c, err, "%s: run %lld has none of this name", now->name, (long long)base->id);
    if (!crl_comparable(before, now))
        return leave_out(c, err, "%s: the runs did not ask the same (their facts differ)", now->name);
    st = crl_history_items(hb, before, err);
    if (!st) st = crl_history_items(hn, now, err);
    if (st) return st;
    if (!can_be_worse(now->result)) return CRL_OK;
    if (!same_items(before->result, now->result))
        return leave_out(c, err, "%s: the runs do not have the same items", now->name);
    m = explained(before->result, now->result);
    if (!m) return leave_out(c, err, "%s: its items add up to none of its metrics", now->name);
    st = by_score(c, now->name, before->result, now->result, m, err);
    return st ? st : by_detail(c, now->name, before->result, now->result, err);
}

static int by_p(const void *a, const void *b)
{
    const struct crl_difference *x = *(struct crl_difference *const *)a,
                                *y = *(struct crl_difference *const *)b;

    return x->p < y->p ? -1 : x->p > y->p;
}

/* Holm 1979: the smallest p against alpha / n, the next against alpha / (n - 1), and so on until one fails.
 */
static enum crl_status holm(struct crl_comparison *c, struct crl_err *err)
{
    struct crl_difference **order = crl_alloc(c->n, sizeof *order);
    size_t n = 0;

    if (!order) return crl_fail(err, CRL_ENOMEM, "no memory for a comparison");
    for (size_t i = 0; i < c->n; i++)
        if (isfinite(c->v[i].p)) order[n++] = &c->v[i];
    qsort(order, n, sizeof *order, by_p);
    for (size_t i = 0; i < n && order[i]->p <= c->alpha / (double)(n - i); i++) order[i]->significant = true;
    crl_free(order);
    return CRL_OK;
}

enum crl_status crl_compare(struct crl_comparison **out, struct crl_history *hb, struct crl_run *base,
                            struct crl_history *hn, struct crl_run *now, double alpha, struct crl_err *err)
{
    struct crl_comparison *c = crl_alloc(1, sizeof *c);
    enum crl_status st = c ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a comparison");

    *out = NULL;
    if (c) c->alpha = alpha > 0 ? alpha : CRL_COMPARE_ALPHA;
    for (size_t i = 0; i < now->n_eval && !st; i++) st = one(c, hb, base, hn, &now->eval[i], err);
    if (!st) st = holm(c, err);
    if (st) {
        crl_comparison_free(c);
        return st;
    }
    *out = c;
    return CRL_OK;
}

void crl_comparison_free(struct crl_comparison *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n; i++) crl_free(c->v[i].evaluation);
    for (size_t i = 0; i < c->n_left_out; i++) crl_free(c->left_out[i]);
    crl_free(c->v);
    crl_free(c->left_out);
    crl_free(c);
}

size_t crl_comparison_regressions(const struct crl_comparison *c)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++) n += c->v[i].significant && c->v[i].worse;
    return n;
}

json_t *crl_comparison_json(const struct crl_comparison *c)
{
    json_t *series = json_array(), *out = json_array();
    json_t *doc = json_pack("{s:f, s:I, s:o, s:o}", "alpha", c->alpha, "regressions",
                            (json_int_t)crl_comparison_regressions(c), "series", series, "left_out", out);
    int bad = !doc;

    for (size_t i = 0; i < c->n && !bad; i++) {
        const struct crl_difference *x = &c->v[i];
        bad = json_array_append_new(
            series, json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:I, s:I, s:I, s:b, s:b}",
                              "evaluation", x->evaluation, "metric", x->metric, "base",
                              crl_real_json(x->base), "now", crl_real_json(x->now), "difference",
                              crl_real_json(x->diff), "low", crl_real_json(x->low), "high",
                              crl_real_json(x->high), "p", crl_real_json(x->p), "test", x->test, "items",
                              (json_int_t)x->n, "items_worse", (json_int_t)x->n_worse, "items_better",
                              (json_int_t)x->n_better, "significant", x->significant, "worse", x->worse));
    }
    for (size_t i = 0; i < c->n_left_out && !bad; i++)
        bad = json_array_append_new(out, json_string(c->left_out[i]));
    if (!bad) return doc;
    json_decref(doc);
    return NULL;
}
