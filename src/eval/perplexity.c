/* perplexity.c - negative log likelihood of every token of a corpus. */
#include "eval/perplexity.h"

#include "base/mem.h"
#include "eval/about.h"
#include "eval/logsum.h"

struct work {
    const struct crl_kernels *kern;
    double *nll; /* [n_row] */
};

static void on_row(void *ctx, unsigned member, const struct crl_scored *row)
{
    struct work *w = ctx;
    double logit = (double)row->logits[row->target];

    (void)member;
    w->nll[row->index] = crl_log_sum_exp(w->kern, row->logits, row->vocab, NULL) - logit;
}

static enum crl_status fill(struct crl_result *r, const struct crl_engine *engine, const struct crl_text *t,
                            const double *nll, double seconds, struct crl_err *err)
{
    enum crl_status st = crl_about_model(r, engine, err);

    if (!st) st = crl_text_facts(r, t, err);
    if (!st) st = crl_text_likelihood(r, t, nll, err);
    if (!st) st = crl_about_speed(r, t->windows.n_fed, seconds, err);
    return st;
}

enum crl_status crl_eval_perplexity(struct crl_result **out, struct crl_engine *engine,
                                    const struct crl_text_options *o, struct crl_err *err)
{
    struct crl_text t;
    struct work w = { crl_engine_kernels(engine), NULL };
    struct crl_sweep s = { .engine = engine, .row = on_row, .ctx = &w };
    double start;
    enum crl_status st = crl_text_open(&t, engine, o, err);

    *out = NULL;
    if (st) return st;
    s.corpus = &t.corpus;
    s.windows = &t.windows;
    s.progress = o->progress;
    s.progress_ctx = o->progress_ctx;
    w.nll = crl_alloc(t.windows.n_row, sizeof *w.nll);
    if (!w.nll) st = crl_fail(err, CRL_ENOMEM, "no memory for %zu tokens", t.windows.n_row);
    if (!st) st = crl_result_new(out, "perplexity", err);
    start = crl_eval_clock();
    if (!st) st = crl_sweep_run(&s, err);
    if (!st) st = fill(*out, engine, &t, w.nll, crl_eval_clock() - start, err);
    crl_free(w.nll);
    crl_text_close(&t);
    if (st) {
        crl_result_free(*out);
        *out = NULL;
    }
    return st;
}
