/* forward.h - the forward pass: tokens of one or several sessions through all layers, logits out.
 *
 * A forward object belongs to one engine and is used by one caller at a time. It owns every buffer the pass needs,
 * sized once for batch_max tokens: a pass allocates nothing. The equations and their sources are in docs/model.md;
 * the functions of this folder follow them step by step.
 *
 * Every output is computed by exactly one thread in an order that depends on nothing but the shapes, so results are
 * the same for every thread count, batch composition and piece size. */
#ifndef CRL_MODEL_FORWARD_H
#define CRL_MODEL_FORWARD_H

#include "base/team.h"
#include "model/kv.h"
#include "model/model.h"
#include "simd/kernels.h"

/* Consecutive tokens of one session. The piece must fit: n_tok <= crl_kv_room(kv). */
struct crl_segment {
    struct crl_kv *kv;  /* n_pos is advanced by the pass */
    const int32_t *id;  /* [n_tok], each below vocab */
    size_t n_tok;
    const float *const *feature; /* [n_tok] a row [d_model] in place of the embedding, or NULL; NULL: none at all */
    bool all_logits; /* logits of every token, else of the last one alone */
    bool no_logits;  /* none at all: more pieces of the prompt follow */
    size_t logits_from; /* with all_logits: tokens of the piece before this one have none */
};

/* Takes n rows of logits from row `first` of the pass on, logits[n][stride]. Every member of the team is called with the
 * same block at the same time and they share the rows out (crl_team_range); the block may be written to. */
typedef void crl_logits_fn(void *ctx, const struct crl_member *me, size_t first, float *logits, size_t stride,
                           size_t n);

/* Where the time of a pass goes, for measurements. */
enum crl_phase {
    CRL_PHASE_EMBED,     /* embedding rows, rotation angles */
    CRL_PHASE_QKV,       /* norm and projections */
    CRL_PHASE_ATTENTION, /* positions, cache, scores and values */
    CRL_PHASE_OUTPUT,    /* projection and residual */
    CRL_PHASE_ROUTER,    /* norm, router, gathering of the experts' rows */
    CRL_PHASE_GATE_UP,
    CRL_PHASE_DOWN,
    CRL_PHASE_HEAD, /* final norm and logits */
    CRL_PHASE_END
};

/* "gate_up" and the like. */
const char *crl_phase_name(enum crl_phase phase);

/* Nanoseconds per phase, added up over passes: the time line of the team's first member, waiting at joins included. */
struct crl_profile {
    uint64_t t_ns[CRL_PHASE_END];
    uint64_t mark_ns; /* when the phase now running began */
};

/* Rows [n] of `stride` floats that are the inputs of all matrices of a kind: of the head, or of a layer's q (then of k
 * and v too), o, gate-up, down; of one routed expert's, else expert is -1. Called by every member of the team at the same
 * time; the rows may be read until it returns. */
typedef void crl_inputs_fn(void *ctx, const struct crl_member *me, enum crl_kind kind, uint32_t layer, int32_t expert,
                           const float *x, size_t stride, size_t n);

struct crl_batch {
    struct crl_segment *segment;
    size_t n_segment;
    float *logits; /* [rows asked for][vocab], in order of segments and tokens */
    /* When not NULL, called by one thread with the stream h [n_tok][d_model] of all tokens of the batch: layer 0 is the
     * embedding, layer l + 1 the stream after layer l. For tests and calibration. */
    void (*tap)(void *ctx, uint32_t layer, const float *h, size_t n_tok);
    /* When not NULL, called by one thread with the experts of each token of a layer, [n_tok][n_expert_used]. */
    void (*tap_routes)(void *ctx, uint32_t layer, const uint32_t *expert, size_t n_tok);
    void *tap_ctx;
    struct crl_profile *profile; /* NULL: no clock is read */
    /* When not NULL, the logits go there in blocks of at most block_rows rows, however many rows were asked for, and
     * `logits` is not used. block: [block_rows][vocab rounded up to 16]. */
    crl_logits_fn *take;
    void *take_ctx;
    float *block;
    size_t block_rows;
    crl_inputs_fn *tap_inputs; /* NULL: nobody asks */
    void *inputs_ctx;
};

struct crl_forward;

/* model, kernels and team are borrowed; the team has a group per node of the model. batch_max: most tokens in one pass,
 * over all segments. */
enum crl_status crl_forward_new(struct crl_forward **out, const struct crl_model *model,
                                const struct crl_kernels *kernels, struct crl_team *team, size_t batch_max,
                                struct crl_err *err);
void crl_forward_free(struct crl_forward *f);

size_t crl_forward_batch_max(const struct crl_forward *f);

/* Bytes of weights read by the threads of a node in all passes so far; between passes. Rows of the embedding, norms and
 * routers, which every thread reads for itself, are not counted. */
uint64_t crl_forward_bytes(const struct crl_forward *f, unsigned node);

/* Run the batch: at least one token, at most batch_max. Cannot fail. */
void crl_forward_run(struct crl_forward *f, const struct crl_batch *batch);

#endif
