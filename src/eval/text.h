/* text.h - what the evaluations over running text share: their options, and the corpus cut into windows and clusters. */
#ifndef CRL_EVAL_TEXT_H
#define CRL_EVAL_TEXT_H

#include "eval/result.h"
#include "eval/sweep.h"

struct crl_text_options {
    const char *path;
    struct crl_corpus_options corpus;
    size_t window; /* positions; 0: CRL_WINDOW_DEFAULT or the model's context if that is less */
    size_t stride; /* 0: the window, so that nothing is computed twice */
    uint64_t seed; /* of the bootstrap */
    bool (*progress)(void *ctx, size_t done, size_t total); /* positions; false stops. May be NULL */
    void *progress_ctx;
};

/* Fewest documents that serve as the independent observations; else windows do. */
#define CRL_TEXT_DOCUMENTS 20

struct crl_text {
    struct crl_corpus corpus;
    struct crl_windows windows;
    size_t window, stride;
    bool by_doc; /* clusters are documents, else windows */
    size_t n_cluster;
};

/* Read, tokenise and cut. */
enum crl_status crl_text_open(struct crl_text *t, const struct crl_engine *engine, const struct crl_text_options *o,
                              struct crl_err *err);
/* Cut a corpus that is there already; takes it over, also on failure. */
enum crl_status crl_text_from(struct crl_text *t, const struct crl_engine *engine, struct crl_corpus *corpus,
                              size_t window, size_t stride, struct crl_err *err);
void crl_text_close(struct crl_text *t);

/* The cluster of a window. */
size_t crl_text_cluster(const struct crl_text *t, size_t window);

/* Facts "data_hash", "documents", "window", "stride", "bos", "positions", "unit" (of the clusters). */
enum crl_status crl_text_facts(struct crl_result *r, const struct crl_text *t, struct crl_err *err);

/* Metrics "nll" (mean over tokens, nats), "perplexity" and, where the bytes are known, "bits_per_byte" from the negative
 * log likelihood of every row; and an item per document with the sum and the number of its tokens. */
enum crl_status crl_text_likelihood(struct crl_result *r, const struct crl_text *t, const double *nll,
                                    struct crl_err *err);

#endif
