/* generate.h - let a session write: feed the prompt, choose tokens until a reason to stop, hand out text as
 * it comes.
 *
 * The text handed out is whole UTF-8. It stays behind the tokens as long as a stop string may still be
 * forming, also across tokens, and ends before the stop string. Special tokens print nothing.
 *
 * The last token chosen is never fed: what it would have led to is not wanted. So the session holds the
 * prompt and all chosen ids but the last, and a conversation that goes on starts its next prompt with that
 * one. */
#ifndef CRL_RUN_GENERATE_H
#define CRL_RUN_GENERATE_H

#include "run/engine.h"

#define CRL_STOP_MAX 64       /* stop strings */
#define CRL_STOP_LEN_MAX 4096 /* bytes of one */

struct crl_generate_options {
    size_t max_tokens;       /* most tokens chosen; 0: as many as the context has room for */
    const char *const *stop; /* [n_stop] strings that end the output, not empty */
    size_t n_stop;
    const int32_t *stop_ids; /* [n_stop_id] tokens that end it, besides those of the model */
    size_t n_stop_id;
    struct crl_picture *const *picture; /* [n_picture] of the prompt, in order; looked at first where they were not */
    size_t n_picture;
    /* Text as it becomes sure, and whether to stop; both may be NULL. interrupted is asked between passes. */
    void (*text)(void *ctx, const char *text, size_t len);
    bool (*interrupted)(void *ctx);
    void *ctx;
};

enum crl_end {
    CRL_END_TOKEN,   /* a stop token was chosen */
    CRL_END_STRING,  /* a stop string appeared */
    CRL_END_LENGTH,  /* max_tokens are there */
    CRL_END_CONTEXT, /* the session has no room for a further token */
    CRL_END_INTERRUPTED
};
/* "stop_token", "stop_string", "length", "context", "interrupted" */
const char *crl_end_name(enum crl_end end);

/* What was generated. Zeroed storage is empty; crl_generated_fini releases and empties it. */
struct crl_generated {
    struct crl_ids ids;  /* chosen tokens, a stop token included */
    struct crl_str text; /* everything handed out */
    enum crl_end end;
    size_t stop_string;         /* with CRL_END_STRING: which one */
    size_t n_prompt;            /* tokens fed as prompt */
    size_t n_decoded;           /* tokens fed one by one afterwards */
    size_t n_tile;              /* tiles of pictures that were encoded for this */
    double look_s;              /* spent on that */
    double prefill_s, decode_s; /* spent on these; decoding includes choosing */
};
void crl_generated_fini(struct crl_generated *g);

/* Tokens per second; 0 when there were none. */
double crl_generated_prefill_rate(const struct crl_generated *g);
double crl_generated_decode_rate(const struct crl_generated *g);

/* Feed ids[0..n), n > 0, and generate. The prompt's tokens count as seen for the sampler's penalties. *out
 * must be empty; on failure it holds what was there so far. CRL_EFULL: the prompt does not fit; CRL_ERANGE:
 * an id or option is outside its range; the session is then unchanged. CRL_ENOENT: the model has no
 * tokenizer. CRL_EFORMAT: the model gave logits that are no numbers. */
enum crl_status crl_generate(struct crl_engine *engine, struct crl_session *session,
                             struct crl_sampler *sampler, const int32_t *ids, size_t n,
                             const struct crl_generate_options *options, struct crl_generated *out,
                             struct crl_err *err);

/* Looks for stop strings in text that arrives in pieces. Used by crl_generate; apart for tests and for
 * streams of other kinds. Zeroed storage with stop and n_stop set is ready; text waits in `held`. */
struct crl_stopper {
    const char *const *stop; /* [n_stop] borrowed, not empty */
    size_t n_stop;
    struct crl_str held;
};

/* Take more text, append to *sure what can no longer become part of a stop string. *found: index of the stop
 * string that has appeared (the earliest in the text), else n_stop; *sure then ends before it and nothing is
 * held. */
enum crl_status crl_stopper_push(struct crl_stopper *s, const char *text, size_t len, struct crl_str *sure,
                                 size_t *found, struct crl_err *err);

/* The end of the text: what still waits is sure now. */
enum crl_status crl_stopper_end(struct crl_stopper *s, struct crl_str *sure, struct crl_err *err);
void crl_stopper_fini(struct crl_stopper *s);

#endif
