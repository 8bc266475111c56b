/* sweep.h - a model read over all windows of a corpus, in passes as large as the engine takes.
 *
 * Windows share passes: a pass is filled with the rest of one window and as many others as fit, each in a session of its
 * own. Rows (scored tokens) come in the order of the corpus; what they get does not depend on threads or batch size.
 * The head is computed at every scored position, which a benchmark of prefill does only at the last one. */
#ifndef CRL_EVAL_SWEEP_H
#define CRL_EVAL_SWEEP_H

#include "eval/corpus.h"

/* One scored token. */
struct crl_scored {
    size_t index;  /* over all windows */
    int32_t target; /* the token that came */
    float *logits; /* [vocab], may be written to */
    size_t vocab;
    const uint16_t *route; /* [layers with experts][n_expert_used], when asked for, else NULL */
};

struct crl_sweep {
    struct crl_engine *engine;
    const struct crl_corpus *corpus;
    const struct crl_windows *windows;
    bool want_routes;
    /* Called by the member-th thread of the team for each row; NULL: no logits are computed. */
    void (*row)(void *ctx, unsigned member, const struct crl_scored *row);
    /* After each pass, by one thread, when rows [first, first + n) have been seen. May be NULL. */
    enum crl_status (*pass)(void *ctx, size_t first, size_t n, struct crl_err *err);
    /* With want_routes, after each pass: experts of all tokens of the pass, [layers with experts][n_tok][used]. */
    void (*routes)(void *ctx, const uint16_t *expert, size_t n_tok);
    /* Positions fed so far, of windows->n_fed; false asks to stop (CRL_EINTR). May be NULL. */
    bool (*progress)(void *ctx, size_t done, size_t total);
    void *ctx, *progress_ctx;
};

enum crl_status crl_sweep_run(const struct crl_sweep *s, struct crl_err *err);

/* Layers with experts of a model. */
uint32_t crl_moe_layers(const struct crl_engine *engine);

#endif
