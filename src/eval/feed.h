/* feed.h - several sessions fed side by side: pieces of all of them share passes, which are as large as the
 * engine takes. What is in a session already is kept: a prompt that begins as the last one did is computed
 * from where they part. */
#ifndef CRL_EVAL_FEED_H
#define CRL_EVAL_FEED_H

#include "run/engine.h"

/* What stands in the place of a prompt's first n tokens: pictures. Zeroed: nothing does. */
struct crl_feed_sight {
    const float *const *rows; /* [n] as of crl_session_feed_rows */
    const uint64_t *hash;     /* [n] of the picture that a token belongs to, 0: of none */
    size_t n;
};

/* A session and the ids in it. Zeroed storage with session set is an empty one. */
struct crl_lane {
    struct crl_session *session;
    struct crl_ids held;  /* what the session holds */
    uint64_t *hash;       /* [held.n] of pictures: equal ids may stand for different ones */
    size_t cap_hash;
    uint64_t n_fed;       /* tokens computed so far */
};

/* n sessions of n_ctx positions each; crl_lanes_free releases them. */
enum crl_status crl_lanes_new(struct crl_lane **lanes, size_t n, struct crl_engine *engine, size_t n_ctx,
                              struct crl_err *err);
void crl_lanes_free(struct crl_lane *lanes, size_t n);

/* One request: the session is to hold exactly ids[0..n), n > 0, and logits are wanted after tokens [from, n).
 * What it holds already is kept up to the first difference of ids or pictures, or `from`. */
struct crl_feed {
    struct crl_lane *lane;
    const int32_t *ids;
    size_t n, from;
    struct crl_feed_sight sight; /* borrowed */
    size_t at; /* for the runner: tokens in the session */
};

/* The logits after token `token` of a request; called by several threads, each row once. logits [vocab] may
 * be written to. */
typedef void crl_feed_fn(void *ctx, size_t request, size_t token, float *logits, size_t vocab);

/* Every lane occurs once. A failure leaves the lanes empty. */
enum crl_status crl_feed_run(struct crl_engine *engine, struct crl_feed *f, size_t n, crl_feed_fn *row,
                             void *ctx, struct crl_err *err);

#endif
