/* routing.c - counting experts. */
#include "eval/routing.h"

#include "base/mem.h"
#include "eval/about.h"

#include <math.h>
#include <string.h>

struct work {
    struct crl_routing r;
    const struct crl_windows *windows;
    size_t window, at; /* where the next token belongs */
    size_t in_group;   /* tokens of the running group */
    uint8_t *used;     /* [n_moe][n_expert] by the running group */
};

static void count_group(struct work *w)
{
    struct crl_routing *r = &w->r;
    size_t n = r->n_expert;

    if (w->in_group == CRL_ROUTING_GROUP) {
        r->n_group++;
        for (size_t l = 0; l < r->n_moe; l++)
            for (size_t e = 0; e < n; e++)
                for (size_t f = 0; w->used[l * n + e] && f < n; f++)
                    r->together[(l * n + e) * n + f] += w->used[l * n + f];
    }
    memset(w->used, 0, r->n_moe * n);
    w->in_group = 0;
}

/* expert: [n_moe][n_tok][used]; token i of the pass. */
static void count_token(struct work *w, const uint16_t *expert, size_t n_tok, size_t i)
{
    struct crl_routing *r = &w->r;
    size_t n = r->n_expert, used = r->n_used;

    for (size_t l = 0; l < r->n_moe; l++) {
        const uint16_t *here = expert + (l * n_tok + i) * used, *next = here + n_tok * used;
        for (size_t u = 0; u < used; u++) {
            r->count[l * n + here[u]]++;
            w->used[l * n + here[u]] = 1;
            for (size_t v = 0; l + 1 < r->n_moe && v < used; v++) r->next[(l * n + here[u]) * n + next[v]]++;
        }
    }
    r->n_tok++;
    if (++w->in_group == CRL_ROUTING_GROUP) count_group(w);
}

/* Tokens come in the order of windows, which do not overlap. */
static void on_routes(void *ctx, const uint16_t *expert, size_t n_tok)
{
    struct work *w = ctx;

    for (size_t i = 0; i < n_tok; i++) {
        count_token(w, expert, n_tok, i);
        if (++w->at < w->windows->v[w->window].n) continue;
        w->at = 0;
        w->window++;
        count_group(w);
    }
}

/* --- documents --------------------------------------------------------------------------------------------------- */

static json_t *list(const uint64_t *v, size_t n)
{
    json_t *a = json_array();

    for (size_t i = 0; i < n; i++) json_array_append_new(a, json_integer((json_int_t)v[i]));
    return a;
}

static json_t *matrices(const uint64_t *v, size_t n_layer, size_t n)
{
    json_t *all = json_array();

    for (size_t l = 0; l < n_layer; l++) {
        json_t *m = json_array();
        for (size_t e = 0; e < n; e++) json_array_append_new(m, list(v + (l * n + e) * n, n));
        json_array_append_new(all, m);
    }
    return all;
}

json_t *crl_routing_json(const struct crl_routing *r, const struct crl_config *cfg)
{
    json_t *counts = json_array();
    size_t moe = 0;

    for (uint32_t l = 0; l < cfg->n_layer; l++)
        json_array_append_new(counts, cfg->is_moe[l] ? list(r->count + moe++ * r->n_expert, r->n_expert) : json_null());
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "tokens", (json_int_t)r->n_tok, "experts",
                     (json_int_t)r->n_expert, "used", (json_int_t)r->n_used, "group", (json_int_t)CRL_ROUTING_GROUP,
                     "groups", (json_int_t)r->n_group, "counts", counts, "next",
                     matrices(r->next, r->n_moe - 1, r->n_expert), "together",
                     matrices(r->together, r->n_moe, r->n_expert));
}

/* Nats of the distribution that counts make. */
static double entropy(const uint64_t *v, size_t n)
{
    double sum = 0, h = 0;

    for (size_t i = 0; i < n; i++) sum += (double)v[i];
    for (size_t i = 0; i < n; i++)
        if (v[i]) h -= (double)v[i] / sum * log((double)v[i] / sum);
    return h;
}

/* What the expert of a layer tells of the next layer's: mutual information in nats, from counts (biased upwards by about
 * (n - 1)^2 / (2 tokens)). */
static double information(const uint64_t *pair, size_t n, double tokens)
{
    uint64_t *to = crl_alloc(2 * n, sizeof *to);
    double mi;

    if (!to || tokens <= 0) {
        crl_free(to);
        return NAN;
    }
    for (size_t e = 0; e < n; e++)
        for (size_t f = 0; f < n; f++) {
            to[f] += pair[e * n + f];
            to[n + e] += pair[e * n + f];
        }
    mi = entropy(to, n) + entropy(to + n, n) - entropy(pair, n * n);
    crl_free(to);
    return mi;
}

struct layer {
    size_t most, least;
    double most_share, least_share, effective, distinct, next;
};

static struct layer describe(const struct crl_routing *r, size_t l)
{
    size_t n = r->n_expert;
    const uint64_t *v = r->count + l * n;
    struct layer d = { 0 };
    double all = (double)r->n_tok * r->n_used, sum = 0;

    for (size_t e = 1; e < n; e++) {
        if (v[e] > v[d.most]) d.most = e;
        if (v[e] < v[d.least]) d.least = e;
    }
    for (size_t e = 0; e < n; e++) sum += (double)r->together[(l * n + e) * n + e];
    d.most_share = (double)v[d.most] / all;
    d.least_share = (double)v[d.least] / all;
    d.effective = exp(entropy(v, n));
    d.distinct = r->n_group ? sum / (double)r->n_group : NAN;
    d.next = l + 1 < r->n_moe ? information(r->next + l * n * n, n, (double)r->n_tok) : NAN;
    return d;
}

static enum crl_status fill(struct crl_result *res, const struct crl_routing *r, const struct crl_config *cfg,
                            struct crl_err *err)
{
    json_t *rows = json_array(), *counts = json_array();
    double effective = 0, distinct = 0, most = 0;
    struct crl_metric *m;
    size_t moe = 0;
    enum crl_status st;

    for (uint32_t l = 0; l < cfg->n_layer; l++) {
        struct layer d;
        if (!cfg->is_moe[l]) continue;
        d = describe(r, moe);
        json_array_append_new(rows, json_pack("[I, I, o, I, o, o, o, o]", (json_int_t)l, (json_int_t)d.most,
                                              crl_real_json(d.most_share), (json_int_t)d.least,
                                              crl_real_json(d.least_share), crl_real_json(d.effective),
                                              crl_real_json(d.distinct), crl_real_json(d.next)));
        json_array_append_new(counts, json_pack("[I, o]", (json_int_t)l, list(r->count + moe++ * r->n_expert,
                                                                               r->n_expert)));
        effective += d.effective / r->n_moe;
        distinct += d.distinct / r->n_moe;
        most = fmax(most, d.most_share);
    }
    st = crl_result_table(res, "layers", json_pack("[s, s, s, s, s, s, s, s]", "layer", "most used", "share",
                                                   "least used", "share", "effective", "per group", "next (nats)"),
                          rows, err);
    if (st) json_decref(counts);
    else st = crl_result_table(res, "counts", json_pack("[s, s]", "layer", "tokens per expert"), counts, err);
    if (!st) st = crl_result_metric(res, &m, "effective.mean", effective, r->n_tok, err);
    if (!st) st = crl_result_metric(res, &m, "share.max", most, r->n_tok, err);
    if (!st && r->n_group) st = crl_result_metric(res, &m, "distinct.mean", distinct, r->n_group, err);
    return st;
}

/* --- running ----------------------------------------------------------------------------------------------------- */

static void finish(struct work *w)
{
    crl_free(w->r.count);
    crl_free(w->r.next);
    crl_free(w->r.together);
    crl_free(w->used);
}

static enum crl_status begin(struct work *w, const struct crl_engine *engine, struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    struct crl_routing *r = &w->r;
    size_t n, pairs;

    r->n_moe = crl_moe_layers(engine);
    r->n_expert = cfg->n_expert;
    r->n_used = cfg->n_expert_used;
    if (!r->n_moe) return crl_fail(err, CRL_EUNSUPPORTED, "the model has no layers with experts");
    if (r->n_expert > CRL_ROUTING_EXPERTS)
        return crl_fail(err, CRL_EUNSUPPORTED, "pairs of %u experts are not counted", r->n_expert);
    if (crl_mul_size(r->n_moe, r->n_expert, &n) && crl_mul_size(n, r->n_expert, &pairs)) {
        r->count = crl_alloc(n, sizeof *r->count);
        r->next = crl_alloc(pairs, sizeof *r->next);
        r->together = crl_alloc(pairs, sizeof *r->together);
        w->used = crl_alloc(n, 1);
    }
    if (r->count && r->next && r->together && w->used) return CRL_OK;
    return crl_fail(err, CRL_ENOMEM, "no memory to count the pairs of %u experts", r->n_expert);
}

static enum crl_status add_hashes(json_t **counts, const struct work *w, const struct crl_engine *engine,
                                  const struct crl_text *t, struct crl_err *err)
{
    uint64_t config = 0;
    enum crl_status st = crl_about_config_hash(engine, &config, err);

    if (st) return st;
    *counts = crl_routing_json(&w->r, crl_pack_config(crl_engine_pack(engine)));
    if (*counts && !json_object_set_new(*counts, "config_hash", crl_hash_json(config)) &&
        !json_object_set_new(*counts, "data_hash", crl_hash_json(t->corpus.hash)))
        return CRL_OK;
    return crl_fail(err, CRL_ENOMEM, "no memory for the counts");
}

enum crl_status crl_eval_routing(struct crl_result **out, json_t **counts, struct crl_engine *engine,
                                 const struct crl_text_options *o, struct crl_err *err)
{
    struct crl_text_options own = *o;
    struct crl_text t;
    struct work w = { .window = 0 };
    struct crl_sweep s = { .engine = engine, .want_routes = true, .routes = on_routes, .ctx = &w,
                           .progress = o->progress, .progress_ctx = o->progress_ctx };
    double start;
    enum crl_status st;

    *out = NULL;
    if (counts) *counts = NULL;
    own.stride = 0; /* every token once */
    st = crl_text_open(&t, engine, &own, err);
    if (st) return st;
    s.corpus = &t.corpus;
    s.windows = w.windows = &t.windows;
    st = begin(&w, engine, err);
    if (!st) st = crl_result_new(out, "routing", err);
    start = crl_eval_clock();
    if (!st) st = crl_sweep_run(&s, err);
    if (!st) st = crl_about_speed(*out, t.windows.n_fed, crl_eval_clock() - start, err);
    if (!st) st = crl_about_model(*out, engine, err);
    if (!st) st = crl_text_facts(*out, &t, err);
    if (!st) st = fill(*out, &w.r, crl_pack_config(crl_engine_pack(engine)), err);
    if (!st && counts) st = add_hashes(counts, &w, engine, &t, err);
    finish(&w);
    crl_text_close(&t);
    if (st) {
        crl_result_free(*out);
        *out = NULL;
        if (counts) {
            json_decref(*counts);
            *counts = NULL;
        }
    }
    return st;
}
