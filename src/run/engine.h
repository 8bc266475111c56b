/* engine.h - what programs in this tree may do with an engine beyond the public interface (run/corral.h). */
#ifndef CRL_RUN_ENGINE_H
#define CRL_RUN_ENGINE_H

#include "model/forward.h"
#include "run/corral.h"
#include "text/tok.h"

/* An engine over a pack that the engine closes; for weights packed in memory. Takes the pack over, also on failure. */
enum crl_status crl_engine_from_pack(struct crl_engine **engine, struct crl_pack *pack,
                                     const struct crl_engine_options *options, struct crl_err *err);

const struct crl_pack *crl_engine_pack(const struct crl_engine *engine);

/* The weights, with the plan they were placed by and what loading them took. */
const struct crl_weights *crl_engine_weights(const struct crl_engine *engine);

/* Bytes of weights that the threads of each node read for one token, [nodes]: the mean of all passes of a single token so
 * far (crl_forward_bytes); 0 without any. */
void crl_engine_token_bytes(const struct crl_engine *engine, double *bytes);

/* The tokenizer, NULL when the file has none. */
const struct crl_tok *crl_engine_tok(const struct crl_engine *engine);

/* Tokens that end a generation (generation defaults of the file, else its configuration). */
bool crl_engine_is_stop(const struct crl_engine *engine, int32_t id);

/* Observers for every pass from now on (see struct crl_batch); NULL switches off. */
void crl_engine_tap(struct crl_engine *engine, void (*tap)(void *, uint32_t, const float *, size_t),
                    void (*tap_routes)(void *, uint32_t, const uint32_t *, size_t), void *ctx);

/* Observer of the inputs of all matrices (model/forward.h); NULL switches off. */
void crl_engine_tap_inputs(struct crl_engine *engine, crl_inputs_fn *tap, void *ctx);

/* Add up the time per phase of every pass from now on into *profile; NULL switches off. */
void crl_engine_profile(struct crl_engine *engine, struct crl_profile *profile);

/* The engine's own threads, to be used between passes. */
struct crl_team *crl_engine_team(const struct crl_engine *engine);

/* The engine's eyes (run/picture.h), NULL when the model has no vision tower. */
struct crl_eyes;
struct crl_eyes *crl_engine_eyes(const struct crl_engine *engine);

struct crl_engine *crl_session_engine(const struct crl_session *session);

/* crl_session_feed (or, with all, _feed_all) with rows[i] [d_model] in place of the embedding of ids[i] where it is not
 * NULL; rows NULL: nowhere. */
enum crl_status crl_session_feed_rows(struct crl_session *session, const int32_t *ids, const float *const *rows,
                                      size_t n, float *logits, bool all, struct crl_err *err);

/* The cache of a session. Whoever fills positions by hand (measurements) also advances n_pos. */
struct crl_kv *crl_session_kv(const struct crl_session *session);

/* A share of a pass: the next n tokens (at least one) of a session. Every piece has a session of its own. */
struct crl_piece {
    struct crl_session *session;
    const int32_t *ids;
    size_t n;
    size_t from; /* logits of tokens ids[from .. n); n: of none */
    const float *const *rows; /* [n] as of crl_session_feed_rows; NULL: nowhere */
};

/* All pieces in one pass, together at most crl_engine_batch_max tokens and each no longer than crl_session_room. The
 * logits go to `take` block by block, rows in the order of pieces and tokens: at most 64 MiB of them exist at a time (16
 * rows if that is more). Results are those of crl_session_feed_all. All or nothing, errors as there. */
enum crl_status crl_engine_pass(struct crl_engine *engine, const struct crl_piece *piece, size_t n, crl_logits_fn *take,
                                void *ctx, struct crl_err *err);

/* Most tokens of one pass. */
size_t crl_engine_batch_max(const struct crl_engine *engine);

/* Tokens that one piece may have now: up to the end of the attention chunk or of the context. */
size_t crl_session_room(const struct crl_session *session);

/* The kernels the engine computes with. */
const struct crl_kernels *crl_engine_kernels(const struct crl_engine *engine);

#endif
