/* refer.c - running a model over a text and keeping what it says as a reference file. */
#include "eval/reference.h"

#include "base/mem.h"
#include "eval/about.h"
#include "eval/logsum.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct work {
    const struct crl_kernels *kern;
    struct crl_reference_writer *writer;
    struct crl_compact_params params;
    struct crl_compact_scratch *scratch; /* [threads] */
    unsigned threads;
    size_t batch, most;     /* rows of a pass, bytes of a record */
    unsigned char *record;  /* [batch][most] */
    size_t *bytes;          /* [batch] */
    double *nll;            /* [n_row] */
    uint64_t seed;
    double sum_kept, sum_tail;
    size_t n_capped;
};

/* Rows of one pass have different places, since a pass has at most `batch` of them. */
static void on_row(void *ctx, unsigned member, const struct crl_scored *row)
{
    struct work *w = ctx;
    double logit = (double)row->logits[row->target];
    size_t slot = row->index % w->batch;

    w->bytes[slot] = crl_compact_make(w->record + slot * w->most, &w->params, w->kern, row->logits, row->target,
                                      row->route, w->seed + row->index * 0x9e3779b97f4a7c15u, &w->scratch[member]);
    w->nll[row->index] = crl_log_sum_exp(w->kern, row->logits, row->vocab, NULL) - logit;
}

static void count(struct work *w, const unsigned char *record)
{
    uint32_t k = (uint32_t)record[0] | (uint32_t)record[1] << 8, bits = 0;
    float tail;

    for (int i = 3; i >= 0; i--) bits = bits << 8 | record[6 + i];
    memcpy(&tail, &bits, sizeof tail);
    w->sum_kept += k;
    w->sum_tail += (double)tail;
    w->n_capped += tail > w->params.tail * 1.0001f;
}

static enum crl_status on_pass(void *ctx, size_t first, size_t n, struct crl_err *err)
{
    struct work *w = ctx;
    enum crl_status st = CRL_OK;

    for (size_t i = first; !st && i < first + n; i++) {
        size_t slot = i % w->batch;
        if (!isfinite(w->nll[i]))
            return crl_fail(err, CRL_ERANGE, "the model's logits for token %zu are not finite", i);
        count(w, w->record + slot * w->most);
        st = crl_reference_append(w->writer, w->record + slot * w->most, w->bytes[slot], 1, err);
    }
    return st;
}

static void finish(struct work *w)
{
    for (unsigned i = 0; w->scratch && i < w->threads; i++) {
        crl_free(w->scratch[i].weight);
        crl_free(w->scratch[i].order);
    }
    crl_free(w->scratch);
    crl_free(w->record);
    crl_free(w->bytes);
    crl_free(w->nll);
    crl_reference_abandon(w->writer);
}

static enum crl_status begin(struct work *w, const struct crl_engine *engine, const struct crl_text *t,
                             struct crl_err *err)
{
    bool good = true;

    w->kern = crl_engine_kernels(engine);
    w->threads = crl_team_size(crl_engine_team(engine));
    w->batch = crl_engine_batch_max(engine);
    w->most = crl_compact_most(&w->params);
    w->scratch = crl_alloc(w->threads, sizeof *w->scratch);
    for (unsigned i = 0; w->scratch && i < w->threads; i++) {
        w->scratch[i].weight = crl_alloc(w->params.vocab, sizeof(float));
        w->scratch[i].order = crl_alloc(w->params.vocab, sizeof(uint32_t));
        good &= w->scratch[i].weight && w->scratch[i].order;
    }
    w->record = crl_alloc(w->batch, w->most);
    w->bytes = crl_alloc(w->batch, sizeof *w->bytes);
    w->nll = crl_alloc(t->windows.n_row, sizeof *w->nll);
    if (good && w->scratch && w->record && w->bytes && w->nll) return CRL_OK;
    return crl_fail(err, CRL_ENOMEM, "no memory for a reference of %zu tokens", t->windows.n_row);
}

static enum crl_status head_of(struct crl_reference_head *h, const struct crl_engine *engine,
                               const struct crl_reference_options *o, struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    double bound = o->bound > 0 ? o->bound : CRL_REFERENCE_BOUND;

    memset(h, 0, sizeof *h);
    h->n_moe = crl_moe_layers(engine);
    h->n_used = h->n_moe ? cfg->n_expert_used : 0;
    h->params = (struct crl_compact_params){ .vocab = cfg->vocab,
                                             .k_max = o->k_max ? o->k_max : CRL_REFERENCE_K,
                                             .n_draw = o->n_draw,
                                             .tail = (float)(8 * bound / (CRL_COMPACT_RANGE * CRL_COMPACT_RANGE)),
                                             .n_route = h->n_moe * h->n_used,
                                             .n_expert = cfg->n_expert };
    h->tokenizer_hash = crl_about_tokenizer_hash(engine);
    h->weights_hash = crl_about_weights_hash(engine);
    snprintf(h->recipe, sizeof h->recipe, "%s", crl_pack_recipe(crl_engine_pack(engine)));
    if (!(h->params.tail < 1) || h->params.k_max > 65535 || h->params.n_draw > 255)
        return crl_fail(err, CRL_ERANGE, "a reference with bound %g, %u entries and %u draws cannot be made", bound,
                        h->params.k_max, h->params.n_draw);
    return crl_about_config_hash(engine, &h->config_hash, err);
}

static enum crl_status add(struct crl_result *r, const char *name, const char *unit, double value, uint64_t n,
                           struct crl_err *err)
{
    struct crl_metric *m;
    enum crl_status st = crl_result_metric(r, &m, name, value, n, err);

    if (!st) snprintf(m->unit, sizeof m->unit, "%s", unit);
    return st;
}

static enum crl_status fill(struct crl_result *r, const struct work *w, const struct crl_engine *engine,
                            const struct crl_text *t, uint64_t bytes, struct crl_err *err)
{
    uint64_t n = t->windows.n_row;
    double rows = (double)n, full = rows * w->params.vocab * sizeof(float);
    enum crl_status st = crl_about_model(r, engine, err);

    if (!st) st = crl_text_facts(r, t, err);
    if (!st) st = crl_result_fact(r, "tail_target", json_real((double)w->params.tail), err);
    if (!st) st = crl_result_fact(r, "entries_most", json_integer(w->params.k_max), err);
    if (!st) st = crl_result_fact(r, "draws", json_integer(w->params.n_draw), err);
    if (!st) st = crl_text_likelihood(r, t, w->nll, err);
    if (!st) st = add(r, "kept.mean", "tokens", w->sum_kept / rows, n, err);
    if (!st) st = add(r, "tail.mean", "", w->sum_tail / rows, n, err);
    if (!st)
        st = add(r, "bound.mean", "nats", w->sum_tail / rows * CRL_COMPACT_RANGE * CRL_COMPACT_RANGE / 8, n, err);
    if (!st) st = add(r, "capped", "", (double)w->n_capped / rows, n, err);
    if (!st) st = add(r, "bytes", "B", (double)bytes, n, err);
    if (!st) st = add(r, "bytes.share", "", (double)bytes / full, n, err);
    return st;
}

enum crl_status crl_eval_reference(struct crl_result **out, struct crl_engine *engine,
                                   const struct crl_reference_options *o, struct crl_err *err)
{
    struct crl_text t;
    struct crl_reference_head head;
    struct work w = { .seed = o->text.seed };
    struct crl_sweep s = { .engine = engine, .want_routes = true, .row = on_row, .pass = on_pass, .ctx = &w };
    uint64_t bytes = 0;
    double start;
    enum crl_status st = crl_text_open(&t, engine, &o->text, err);

    *out = NULL;
    if (st) return st;
    s.corpus = &t.corpus;
    s.windows = &t.windows;
    s.progress = o->text.progress;
    s.progress_ctx = o->text.progress_ctx;
    st = head_of(&head, engine, o, err);
    w.params = head.params;
    if (!st) st = begin(&w, engine, &t, err);
    if (!st) st = crl_result_new(out, "reference", err);
    if (!st) st = crl_reference_create(&w.writer, o->output, &head, &t, err);
    start = crl_eval_clock();
    if (!st) st = crl_sweep_run(&s, err);
    if (!st) st = crl_reference_commit(w.writer, &bytes, err);
    if (!st) st = fill(*out, &w, engine, &t, bytes, err);
    if (!st) st = crl_about_speed(*out, t.windows.n_fed, crl_eval_clock() - start, err);
    finish(&w);
    crl_text_close(&t);
    if (st) {
        crl_result_free(*out);
        *out = NULL;
    }
    return st;
}
