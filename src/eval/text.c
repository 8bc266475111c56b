/* text.c - corpus, clusters and likelihood metrics. */
#include "eval/text.h"

#include "base/mem.h"
#include "eval/about.h"
#include "eval/stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NORMAL_975 1.959963984540054
#define LN2 0.693147180559945309

enum crl_status crl_text_from(struct crl_text *t, const struct crl_engine *engine, struct crl_corpus *corpus,
                              size_t window, size_t stride, struct crl_err *err)
{
    struct crl_engine_info info;
    enum crl_status st;

    memset(t, 0, sizeof *t);
    crl_engine_info(engine, &info);
    t->corpus = *corpus;
    memset(corpus, 0, sizeof *corpus);
    if (!window) window = info.n_ctx < CRL_WINDOW_DEFAULT ? info.n_ctx : CRL_WINDOW_DEFAULT;
    t->window = window;
    t->stride = stride ? stride : window;
    if (window > info.n_ctx)
        st = crl_fail(err, CRL_ERANGE, "a window of %zu positions does not fit into the model's context of %u", window,
                      info.n_ctx);
    else st = crl_windows_cut(&t->windows, &t->corpus, t->window, t->stride, err);
    t->by_doc = t->corpus.n_doc >= CRL_TEXT_DOCUMENTS;
    t->n_cluster = t->by_doc ? t->corpus.n_doc : t->windows.n;
    if (st) crl_text_close(t);
    return st;
}

enum crl_status crl_text_open(struct crl_text *t, const struct crl_engine *engine, const struct crl_text_options *o,
                              struct crl_err *err)
{
    struct crl_corpus corpus;
    enum crl_status st = crl_corpus_read(&corpus, engine, o->path, &o->corpus, err);

    memset(t, 0, sizeof *t);
    return st ? st : crl_text_from(t, engine, &corpus, o->window, o->stride, err);
}

void crl_text_close(struct crl_text *t)
{
    crl_windows_fini(&t->windows);
    crl_corpus_fini(&t->corpus);
}

size_t crl_text_cluster(const struct crl_text *t, size_t window)
{
    return t->by_doc ? t->windows.v[window].doc : window;
}

enum crl_status crl_text_facts(struct crl_result *r, const struct crl_text *t, struct crl_err *err)
{
    enum crl_status st = crl_result_fact(r, "data_hash", crl_hash_json(t->corpus.hash), err);

    if (!st) st = crl_result_fact(r, "documents", json_integer((json_int_t)t->corpus.n_doc), err);
    if (!st) st = crl_result_fact(r, "window", json_integer((json_int_t)t->window), err);
    if (!st) st = crl_result_fact(r, "stride", json_integer((json_int_t)t->stride), err);
    if (!st) st = crl_result_fact(r, "bos", json_boolean(t->corpus.bos >= 0), err);
    if (!st) st = crl_result_fact(r, "positions", json_integer((json_int_t)t->windows.n_fed), err);
    if (!st) st = crl_result_fact(r, "unit", json_string(t->by_doc ? "document" : "window"), err);
    return st;
}

/* Sums of one kind of cluster; x, w [n]. */
static void sum_rows(const struct crl_text *t, const double *nll, bool by_doc, double *x, double *w)
{
    for (size_t i = 0; i < t->windows.n; i++) {
        const struct crl_window *win = &t->windows.v[i];
        size_t c = by_doc ? win->doc : i;
        for (size_t j = 0; j < win->n - win->skip; j++) x[c] += nll[win->row + j];
        w[c] += (double)(win->n - win->skip);
    }
}

static enum crl_status add_metric(struct crl_result *r, const char *name, const char *unit, double v, double se,
                                  double low, double high, uint64_t n, struct crl_err *err)
{
    struct crl_metric *m;
    enum crl_status st = crl_result_metric(r, &m, name, v, n, err);

    if (st) return st;
    m->se = se;
    m->low = low;
    m->high = high;
    m->better = CRL_BETTER_LOW;
    snprintf(m->unit, sizeof m->unit, "%s", unit);
    return CRL_OK;
}

/* x: sums per document. Bytes must be known of all. */
static enum crl_status add_bits(struct crl_result *r, const struct crl_text *t, const double *x, double nll_se,
                                struct crl_err *err)
{
    double *bytes = crl_alloc(t->corpus.n_doc, sizeof *bytes), total = 0, se, bits;
    size_t known = 0;
    enum crl_status st = CRL_OK;

    if (!bytes) return crl_fail(err, CRL_ENOMEM, "no memory for sums");
    for (size_t d = 0; d < t->corpus.n_doc; d++) {
        known += t->corpus.doc[d].bytes > 0;
        total += bytes[d] = (double)t->corpus.doc[d].bytes;
    }
    bits = crl_ratio(x, bytes, t->corpus.n_doc, &se) / LN2;
    se = t->by_doc ? se / LN2 : nll_se * (double)t->windows.n_row / total / LN2;
    if (known == t->corpus.n_doc)
        st = add_metric(r, "bits_per_byte", "bits", bits, se, bits - NORMAL_975 * se, bits + NORMAL_975 * se,
                        (uint64_t)total, err);
    crl_free(bytes);
    return st;
}

static enum crl_status add_items(struct crl_result *r, const double *x, const double *w, size_t n, struct crl_err *err)
{
    enum crl_status st = CRL_OK;
    char id[24];

    for (size_t d = 0; !st && d < n; d++) {
        snprintf(id, sizeof id, "%zu", d);
        st = crl_result_item(r, id, x[d], w[d], NULL, err);
    }
    return st;
}

enum crl_status crl_text_likelihood(struct crl_result *r, const struct crl_text *t, const double *nll,
                                    struct crl_err *err)
{
    size_t n = t->n_cluster > t->corpus.n_doc ? t->n_cluster : t->corpus.n_doc;
    double *x = crl_alloc(n, 4 * sizeof *x), *w, *doc_x, *doc_w, mean, se, p;
    uint64_t tokens = t->windows.n_row;
    enum crl_status st;

    if (!x) return crl_fail(err, CRL_ENOMEM, "no memory for sums");
    w = x + n;
    doc_x = w + n;
    doc_w = doc_x + n;
    sum_rows(t, nll, t->by_doc, x, w);
    sum_rows(t, nll, true, doc_x, doc_w);
    mean = crl_ratio(x, w, t->n_cluster, &se);
    p = exp(mean);
    st = add_metric(r, "nll", "nats/token", mean, se, mean - NORMAL_975 * se, mean + NORMAL_975 * se, tokens, err);
    if (!st) /* the error of exp(x) is exp(x) times that of x */
        st = add_metric(r, "perplexity", "", p, p * se, exp(mean - NORMAL_975 * se), exp(mean + NORMAL_975 * se), tokens,
                        err);
    if (!st) st = add_bits(r, t, doc_x, se, err);
    if (!st) st = add_items(r, doc_x, doc_w, t->corpus.n_doc, err);
    crl_free(x);
    return st;
}
