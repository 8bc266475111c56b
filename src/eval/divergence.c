/* divergence.c - a model against a reference file. */
#include "eval/divergence.h"

#include "base/mem.h"
#include "eval/about.h"
#include "eval/stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What is kept of a row. */
struct outcome {
    struct crl_divergence d;
    float tail;     /* of the reference */
    float top_p;    /* the reference's probability of its best token */
    double ref_nll;
};

struct work {
    const struct crl_reference *ref;
    const struct crl_reference_head *head;
    const struct crl_kernels *kern;
    struct crl_compact_scratch *scratch; /* [threads] */
    unsigned threads;
    struct outcome *row; /* [n_row] */
    uint8_t *same_route; /* [n_row][n_moe] 1: the same set of experts */
    const struct crl_text *text;
    uint32_t *cluster;   /* [n_row] */
    uint8_t *kind;       /* [n_row] enum kind of the token that came; NULL without a tokenizer */
    struct crl_boot *boot;
};

static bool same_set(const struct work *w, const struct crl_compact *c, const uint16_t *route, size_t layer)
{
    size_t used = w->head->n_used, found = 0;

    for (size_t i = 0; i < used; i++)
        for (size_t j = 0; j < used; j++)
            found += crl_compact_route(&w->head->params, c, layer * used + i) == route[layer * used + j];
    return found == used;
}

static void on_row(void *ctx, unsigned member, const struct crl_scored *row)
{
    struct work *w = ctx;
    struct outcome *o = &w->row[row->index];
    struct crl_compact c;
    double log_p;

    crl_reference_row(w->ref, row->index, &c);
    for (size_t l = 0; l < w->head->n_moe; l++)
        w->same_route[row->index * w->head->n_moe + l] = same_set(w, &c, row->route, l);
    crl_compact_entry(&w->head->params, c.entry, 0, &log_p);
    o->tail = c.tail;
    o->top_p = (float)exp(log_p);
    o->ref_nll = -(double)c.target;
    crl_compact_compare(&o->d, &w->head->params, &c, w->kern, row->logits, row->target, &w->scratch[member]);
}

/* --- figures ----------------------------------------------------------------------------------------------------- */

/* One number of a row. */
typedef double value_fn(const struct work *w, size_t row, size_t arg);

static double kl_of(const struct work *w, size_t row, size_t arg)
{
    (void)arg;
    return w->row[row].d.kl;
}

static double tail_of(const struct work *w, size_t row, size_t arg) /* what the draws added */
{
    (void)arg;
    return w->row[row].d.kl - w->row[row].d.coarse;
}

static double bound_of(const struct work *w, size_t row, size_t arg)
{
    (void)arg;
    return (double)w->row[row].tail * CRL_COMPACT_RANGE * CRL_COMPACT_RANGE / 8;
}

static double beyond_of(const struct work *w, size_t row, size_t arg)
{
    (void)arg;
    return w->row[row].d.range > CRL_COMPACT_RANGE;
}

static double same_top_of(const struct work *w, size_t row, size_t arg)
{
    (void)arg;
    return w->row[row].d.same_top;
}

static double shift2_of(const struct work *w, size_t row, size_t arg)
{
    (void)arg;
    return w->row[row].d.p_shift * w->row[row].d.p_shift;
}

static double ref_nll_of(const struct work *w, size_t row, size_t arg)
{
    (void)arg;
    return w->row[row].ref_nll;
}

static double delta_of(const struct work *w, size_t row, size_t arg)
{
    (void)arg;
    return w->row[row].d.nll - w->row[row].ref_nll;
}

static double route_of(const struct work *w, size_t row, size_t layer)
{
    return w->same_route[row * w->head->n_moe + layer];
}

static double routes_of(const struct work *w, size_t row, size_t arg) /* share of layers */
{
    double sum = 0;

    (void)arg;
    for (size_t l = 0; l < w->head->n_moe; l++) sum += route_of(w, row, l);
    return sum / w->head->n_moe;
}

struct figure {
    double value;
    struct crl_spread spread;
    uint64_t n;
};

/* Which rows belong to a class; NULL: all. */
typedef bool class_fn(const struct work *w, size_t row, size_t class);

/* Mean (or root of the mean) of a number over the rows of a class, with its spread. */
static enum crl_status mean(struct figure *f, const struct work *w, value_fn *fn, size_t arg, class_fn *in,
                            size_t class, bool root, struct crl_err *err)
{
    size_t n = w->text->n_cluster;
    double *x = crl_alloc(n, 2 * sizeof *x), *weight, sum = 0;

    if (!x) return crl_fail(err, CRL_ENOMEM, "no memory for sums");
    weight = x + n;
    f->n = 0;
    for (size_t i = 0; i < w->text->windows.n_row; i++) {
        if (in && !in(w, i, class)) continue;
        x[w->cluster[i]] += fn(w, i, arg);
        weight[w->cluster[i]]++;
        f->n++;
    }
    for (size_t c = 0; c < n; c++) sum += x[c];
    f->value = root ? sqrt(sum / (double)f->n) : sum / (double)f->n;
    f->spread = root ? crl_boot_root(w->boot, x, weight) : crl_boot_ratio(w->boot, x, weight);
    crl_free(x);
    return CRL_OK;
}

static enum crl_status put(struct crl_result *r, const char *name, const char *unit, const struct figure *f,
                           enum crl_better better, struct crl_err *err)
{
    struct crl_metric *m;
    enum crl_status st = crl_result_metric(r, &m, name, f->value, f->n, err);

    if (st) return st;
    m->se = f->spread.se;
    m->low = f->spread.low;
    m->high = f->spread.high;
    m->better = better;
    snprintf(m->unit, sizeof m->unit, "%s", unit);
    return CRL_OK;
}

static enum crl_status put_mean(struct crl_result *r, const struct work *w, const char *name, const char *unit,
                                value_fn *fn, size_t arg, bool root, enum crl_better better, struct crl_err *err)
{
    struct figure f;
    enum crl_status st = mean(&f, w, fn, arg, NULL, 0, root, err);

    return st ? st : put(r, name, unit, &f, better, err);
}

static enum crl_status put_quantiles(struct crl_result *r, const struct work *w, struct crl_err *err)
{
    static const double q[] = { 0.5, 0.9, 0.99, 1 };
    static const char *const name[] = { "kl.median", "kl.p90", "kl.p99", "kl.max" };
    size_t n = w->text->windows.n_row;
    double *x = crl_alloc(n, sizeof *x), value[4];
    uint32_t *cluster = crl_alloc(n, sizeof *cluster);
    struct crl_spread spread[4];
    enum crl_status st = x && cluster ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for quantiles");

    for (size_t i = 0; !st && i < n; i++) {
        x[i] = w->row[i].d.kl;
        cluster[i] = w->cluster[i];
    }
    if (!st) st = crl_boot_quantiles(w->boot, x, cluster, n, q, 4, value, spread, err);
    for (size_t j = 0; !st && j < 4; j++) {
        struct figure f = { value[j], spread[j], n };
        if (q[j] == 1) f.spread = (struct crl_spread){ NAN, NAN, NAN }; /* resampling says nothing of a maximum */
        st = put(r, name[j], "nats", &f, CRL_BETTER_LOW, err);
    }
    crl_free(x);
    crl_free(cluster);
    return st;
}

static enum crl_status put_ratio(struct crl_result *r, struct crl_err *err)
{
    const struct crl_metric *d = crl_result_find(r, "nll.delta");
    struct figure f = { exp(d->value), { exp(d->value) * d->se, exp(d->low), exp(d->high) }, d->n };

    return put(r, "perplexity.ratio", "", &f, CRL_BETTER_LOW, err);
}

static enum crl_status put_routes(struct crl_result *r, const struct work *w, const struct crl_config *cfg,
                                  struct crl_err *err)
{
    char name[CRL_METRIC_NAME];
    size_t l = 0;
    enum crl_status st = put_mean(r, w, "router.same", "", routes_of, 0, false, CRL_BETTER_HIGH, err);

    for (uint32_t layer = 0; !st && layer < cfg->n_layer; layer++) {
        if (!cfg->is_moe[layer]) continue;
        snprintf(name, sizeof name, "router.layer%02u", layer);
        st = put_mean(r, w, name, "", route_of, l++, false, CRL_BETTER_HIGH, err);
    }
    return st;
}

/* --- classes ----------------------------------------------------------------------------------------------------- */

static const char *const confidence_name[] = { "p < 0.1", "0.1 - 0.5", "0.5 - 0.9", "0.9 - 0.99", "p >= 0.99" };
#define N_CONFIDENCE 5

static bool in_confidence(const struct work *w, size_t row, size_t class)
{
    static const double edge[] = { 0, 0.1, 0.5, 0.9, 0.99, 2 };

    return (double)w->row[row].top_p >= edge[class] && (double)w->row[row].top_p < edge[class + 1];
}

enum kind { WORD_START, WORD_PART, NUMBER, PUNCTUATION, SPACE, CONTROL, N_KIND };
static const char *const kind_name[] = { "word start", "word part", "number", "punctuation", "space", "control" };

static bool in_kind(const struct work *w, size_t row, size_t class)
{
    return w->kind[row] == class;
}

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static enum kind kind_of(const struct crl_tok *tok, int32_t id)
{
    size_t n, at = 0;
    const unsigned char *b = crl_tok_bytes(tok, id, &n);

    if (!n || crl_tok_is_special(tok, id)) return CONTROL;
    while (at < n && (b[at] == ' ' || b[at] == '\n' || b[at] == '\t' || b[at] == '\r')) at++;
    if (at == n) return SPACE;
    if (is_letter(b[at])) return at ? WORD_START : WORD_PART;
    return b[at] >= '0' && b[at] <= '9' ? NUMBER : PUNCTUATION;
}

/* A table with a line per class that has rows. */
static enum crl_status put_classes(struct crl_result *r, const struct work *w, const char *table, class_fn *in,
                                   const char *const *name, size_t n, struct crl_err *err)
{
    json_t *rows = json_array();
    enum crl_status st = CRL_OK;

    for (size_t c = 0; !st && c < n; c++) {
        struct figure kl = { 0 }, same = { 0 }, shift = { 0 }, delta = { 0 };
        st = mean(&kl, w, kl_of, 0, in, c, false, err);
        if (!st) st = mean(&same, w, same_top_of, 0, in, c, false, err);
        if (!st) st = mean(&shift, w, shift2_of, 0, in, c, true, err);
        if (!st) st = mean(&delta, w, delta_of, 0, in, c, false, err);
        if (st || !kl.n) continue;
        json_array_append_new(rows, json_pack("[s, I, o, o, o, o, o, o]", name[c], (json_int_t)kl.n,
                                              crl_real_json(kl.value), crl_real_json(kl.spread.low),
                                              crl_real_json(kl.spread.high), crl_real_json(same.value),
                                              crl_real_json(shift.value), crl_real_json(delta.value)));
    }
    if (st) {
        json_decref(rows);
        return st;
    }
    return crl_result_table(r, table,
                            json_pack("[s, s, s, s, s, s, s, s]", table, "tokens", "kl.mean", "low", "high",
                                      "top.same", "shift.rms", "nll.delta"),
                            rows, err);
}

static enum crl_status put_router_table(struct crl_result *r, const struct crl_config *cfg, struct crl_err *err)
{
    json_t *rows = json_array();
    char name[CRL_METRIC_NAME];

    for (uint32_t layer = 0; layer < cfg->n_layer; layer++) {
        const struct crl_metric *m;
        if (!cfg->is_moe[layer]) continue;
        snprintf(name, sizeof name, "router.layer%02u", layer);
        m = crl_result_find(r, name);
        json_array_append_new(rows, json_pack("[I, o, o, o]", (json_int_t)layer, crl_real_json(m->value),
                                              crl_real_json(m->low), crl_real_json(m->high)));
    }
    return crl_result_table(r, "router", json_pack("[s, s, s, s]", "layer", "same", "low", "high"), rows, err);
}

/* --- running ----------------------------------------------------------------------------------------------------- */

static enum crl_status put_items(struct crl_result *r, const struct work *w, struct crl_err *err)
{
    const struct crl_text *t = w->text;
    enum crl_status st = CRL_OK;
    double sum = 0, n = 0;
    char id[24];

    for (size_t i = 0; !st && i < t->windows.n; i++) {
        const struct crl_window *win = &t->windows.v[i];
        for (size_t j = 0; j < win->n - win->skip; j++) sum += w->row[win->row + j].d.kl;
        n += (double)(win->n - win->skip);
        if (i + 1 < t->windows.n && t->windows.v[i + 1].doc == win->doc) continue;
        snprintf(id, sizeof id, "%zu", win->doc);
        st = crl_result_item(r, id, sum, n, NULL, err);
        sum = n = 0;
    }
    return st;
}

static enum crl_status fill(struct crl_result *r, const struct work *w, const struct crl_engine *engine,
                            struct crl_err *err)
{
    static const struct {
        const char *name, *unit;
        value_fn *fn;
        bool root;
        enum crl_better better;
    } figure[] = {
        { "kl.mean", "nats", kl_of, false, CRL_BETTER_LOW },
        { "kl.tail", "nats", tail_of, false, CRL_BETTER_NONE },
        { "kl.bound", "nats", bound_of, false, CRL_BETTER_NONE },
        { "tail.beyond", "", beyond_of, false, CRL_BETTER_NONE },
        { "top.same", "", same_top_of, false, CRL_BETTER_HIGH },
        { "shift.rms", "", shift2_of, true, CRL_BETTER_LOW },
        { "nll.reference", "nats/token", ref_nll_of, false, CRL_BETTER_NONE },
        { "nll.delta", "nats/token", delta_of, false, CRL_BETTER_LOW },
    };
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    enum crl_status st = put_quantiles(r, w, err);

    for (size_t i = 0; !st && i < sizeof figure / sizeof figure[0]; i++)
        st = put_mean(r, w, figure[i].name, figure[i].unit, figure[i].fn, 0, figure[i].root, figure[i].better, err);
    if (!st) st = put_ratio(r, err);
    if (!st && w->head->n_moe) st = put_routes(r, w, cfg, err);
    if (!st && w->head->n_moe) st = put_router_table(r, cfg, err);
    if (!st) st = put_classes(r, w, "confidence", in_confidence, confidence_name, N_CONFIDENCE, err);
    if (!st && w->kind) st = put_classes(r, w, "token", in_kind, kind_name, N_KIND, err);
    return st ? st : put_items(r, w, err);
}

/* The likelihood metrics of the model itself, under their own names. */
static enum crl_status add_likelihood(struct crl_result *r, const struct work *w, struct crl_err *err)
{
    size_t n = w->text->windows.n_row;
    double *nll = crl_alloc(n, sizeof *nll);
    struct crl_result *own = NULL;
    enum crl_status st = nll ? crl_result_new(&own, "perplexity", err) : crl_fail(err, CRL_ENOMEM, "no memory for sums");

    for (size_t i = 0; !st && i < n; i++) nll[i] = w->row[i].d.nll;
    if (!st) st = crl_text_likelihood(own, w->text, nll, err);
    for (size_t i = 0; !st && i < own->n_metric; i++) {
        struct crl_metric *m;
        st = crl_result_metric(r, &m, own->metric[i].name, 0, 0, err);
        if (!st) *m = own->metric[i];
    }
    crl_result_free(own);
    crl_free(nll);
    return st;
}

static void finish(struct work *w)
{
    for (unsigned i = 0; w->scratch && i < w->threads; i++) crl_free(w->scratch[i].weight);
    crl_free(w->scratch);
    crl_free(w->row);
    crl_free(w->same_route);
    crl_free(w->cluster);
    crl_free(w->kind);
    crl_boot_free(w->boot);
}

/* What is known of every row before the model speaks: its cluster, the kind of its token. */
static void label_rows(struct work *w, const struct crl_tok *tok)
{
    const struct crl_text *t = w->text;

    for (size_t i = 0; i < t->windows.n; i++) {
        const struct crl_window *win = &t->windows.v[i];
        for (size_t j = win->skip; j < win->n; j++) {
            size_t row = win->row + j - win->skip;
            w->cluster[row] = (uint32_t)crl_text_cluster(t, i);
            if (w->kind) w->kind[row] = (uint8_t)kind_of(tok, crl_window_target(&t->corpus, win, j));
        }
    }
}

static enum crl_status begin(struct work *w, const struct crl_engine *engine, uint64_t seed, struct crl_err *err)
{
    size_t n = w->text->windows.n_row, n_route;
    const struct crl_tok *tok = crl_engine_tok(engine);
    bool good = true;

    if (n != crl_reference_rows(w->ref))
        return crl_fail(err, CRL_EFORMAT, "has %zu rows, its texts %zu", crl_reference_rows(w->ref), n);
    w->kern = crl_engine_kernels(engine);
    w->threads = crl_team_size(crl_engine_team(engine));
    w->scratch = crl_alloc(w->threads, sizeof *w->scratch);
    for (unsigned i = 0; w->scratch && i < w->threads; i++)
        good &= (w->scratch[i].weight = crl_alloc(w->head->params.vocab, sizeof(float))) != NULL;
    w->row = crl_alloc(n, sizeof *w->row);
    if (crl_mul_size(n, w->head->n_moe, &n_route)) w->same_route = crl_alloc(n_route, 1);
    w->cluster = crl_alloc(n, sizeof *w->cluster);
    if (tok) good &= (w->kind = crl_alloc(n, 1)) != NULL;
    if (!good || !w->scratch || !w->row || !w->same_route || !w->cluster)
        return crl_fail(err, CRL_ENOMEM, "no memory for the outcomes of %zu tokens", n);
    label_rows(w, tok);
    return crl_boot_new(&w->boot, w->text->n_cluster, 0, seed, err);
}

static enum crl_status put_facts(struct crl_result *r, const struct work *w, uint64_t seed, struct crl_err *err)
{
    enum crl_status st = crl_text_facts(r, w->text, err);

    if (!st) st = crl_result_fact(r, "reference_recipe", json_string(w->head->recipe), err);
    if (!st) st = crl_result_fact(r, "reference_weights", crl_hash_json(w->head->weights_hash), err);
    if (!st) st = crl_result_fact(r, "tail_target", json_real((double)w->head->params.tail), err);
    if (!st) st = crl_result_fact(r, "entries_most", json_integer(w->head->params.k_max), err);
    if (!st) st = crl_result_fact(r, "draws", json_integer(w->head->params.n_draw), err);
    if (!st) st = crl_result_fact(r, "resamples", json_integer((json_int_t)crl_boot_size(w->boot)), err);
    return st ? st : crl_result_fact(r, "seed", json_integer((json_int_t)seed), err);
}

static enum crl_status compare(struct crl_result **out, struct work *w, struct crl_engine *engine,
                               const struct crl_text_options *o, struct crl_err *err)
{
    uint64_t seed = o->seed ? o->seed : CRL_BOOT_SEED;
    struct crl_sweep s = { .engine = engine, .corpus = &w->text->corpus, .windows = &w->text->windows,
                           .want_routes = w->head->n_moe > 0, .row = on_row, .ctx = w, .progress = o->progress,
                           .progress_ctx = o->progress_ctx };
    double start;
    enum crl_status st = begin(w, engine, seed, err);

    if (!st) st = crl_result_new(out, "divergence", err);
    start = crl_eval_clock();
    if (!st) st = crl_sweep_run(&s, err);
    if (!st) st = crl_about_speed(*out, w->text->windows.n_fed, crl_eval_clock() - start, err);
    if (!st) st = crl_about_model(*out, engine, err);
    if (!st) st = put_facts(*out, w, seed, err);
    if (!st) st = add_likelihood(*out, w, err);
    return st ? st : fill(*out, w, engine, err);
}

enum crl_status crl_eval_divergence(struct crl_result **out, struct crl_engine *engine, const char *reference,
                                    const struct crl_text_options *o, struct crl_err *err)
{
    struct crl_reference *ref;
    struct crl_corpus corpus;
    struct crl_text text;
    struct work w = { 0 };
    enum crl_status st = crl_reference_open(&ref, reference, err);

    *out = NULL;
    if (st) return st;
    st = crl_reference_match(ref, engine, err);
    if (st) crl_err_prefix(err, "%s", reference);
    w.ref = ref;
    w.head = crl_reference_head(ref);
    w.text = &text;
    if (!st) st = crl_reference_corpus(ref, &corpus, err);
    if (!st) {
        st = crl_text_from(&text, engine, &corpus, w.head->window, w.head->stride, err);
        if (!st) {
            st = compare(out, &w, engine, o, err);
            crl_text_close(&text);
        }
    }
    finish(&w);
    crl_reference_close(ref);
    if (st) {
        crl_result_free(*out);
        *out = NULL;
    }
    return st;
}
