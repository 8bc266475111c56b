/* work.h - the buffers of a forward pass and the steps that share them. Internal to src/model.
 *
 * Rows of activations are float [m][pad] with pad = dimension rounded up to 32 and zeros behind it, and beside them,
 * where a matrix is quantised, the same rows as int8 (quant/act.h). Outputs of matrices are rounded up to whole panels. */
#ifndef CRL_MODEL_WORK_H
#define CRL_MODEL_WORK_H

#include "model/forward.h"

#include <stdatomic.h>

#define CRL_ROW_BYTES ((size_t)512 << 10) /* of activations at a time, see crl_row_block */
#define CRL_ATTN_ROWS 16 /* tokens of one attention unit */
#define CRL_SLICE 512    /* keys that are summed apart, so that a head's keys can be dealt out to several members */
#define CRL_SLICES 64    /* most slices of a head: beyond that they grow (attention.c) */

/* Rows that multiply weights: floats for bf16 matrices, codes for q8 (fine) and q4 (coarse). Codes are made only in
 * the forms that the matrices at hand need (enum crl_need). */
struct crl_rows {
    float *x; /* [m][stride] */
    size_t stride;
    struct crl_act fine, coarse;
};

/* Softmax sums of some queries over some keys. */
struct crl_sums {
    float *max; /* [queries] largest score so far */
    float *sum; /* [queries] sum of weights so far */
    float *acc; /* [queries][d_out] weighted values so far */
};

/* One attention unit: up to CRL_ATTN_ROWS tokens times the query heads of one kv head, "queries" below. */
struct crl_attn {
    size_t d_in;  /* d_head rounded up to 32 */
    size_t d_out; /* d_head rounded up to 16 */
    float scale;  /* of scores: 1 / sqrt(d_head) */
    float *q;     /* [queries][d_in] with their positions */
    struct crl_act q_codes, p_codes; /* int8 cache: the queries, and the weights of one block, as codes */
    float *score; /* [queries][CRL_KV_BLOCK] scores, then weights, of the keys of one block */
    float *part;  /* [queries][d_out] weighted values of one block */
    float *keep;  /* [queries] what the sums so far are multiplied by */
    float *gain;  /* [queries] what the sums to be added are */
    struct crl_sums total, slice; /* of all slices so far, and of the one at hand */
};

/* Where a token of the batch belongs. */
struct crl_token {
    struct crl_segment *segment;
    size_t pos;
};

/* Rows of one feed-forward block: the shared (or dense) one, or a routed expert with the rows sent to it. */
struct crl_group {
    uint32_t expert; /* of group 0: none */
    size_t first; /* row in the gathered input and in the intermediate */
    size_t n;     /* rows */
};

/* What the members of a node do of a group: units [lo, hi) of gate-up or panels of down, from this memory. */
struct crl_lot {
    const struct crl_group *group;
    const struct crl_mat *mat;
    size_t lo, hi;
};

/* Which expert works on what. Every member draws up the same plan for itself: it is small, and waiting is dear. */
struct crl_plan {
    uint32_t *route; /* [m][n_expert_used]; shared by all members unless m is 1 */
    float *weight;   /* [m][n_expert_used] sigmoid of the router logit; likewise */
    size_t *order;   /* [m * n_expert_used] routed rows sorted by expert: token * used + choice */
    size_t *count;   /* [n_expert + 1] */
    struct crl_group *group; /* [1 + n_expert] blocks that have rows, the shared or dense one first */
    size_t n_group;
    struct crl_lot *piece; /* [n_expert + cuts of two sides] this node's work of the step at hand */
    size_t n_piece;
    double cut; /* part of the shared block that side 0 computes; the rest is side 1's */
    struct crl_rows mid; /* the intermediate, laid out for this layer's width */
};

/* Private memory of one team member. */
struct crl_scratch {
    struct crl_plan plan;
    uint32_t *own_route;     /* [n_expert_used] of a single token */
    float *own_weight;       /* [n_expert_used] */
    struct crl_rows in;      /* one row [d_model]: the normed token when the batch is one token */
    struct crl_rows routed;  /* [n_expert_used] rows: the same scaled per expert; codes are those of `in` */
    struct crl_rows attn_in; /* codes of the single token's attention row; the floats are those of `attn` */
    struct crl_rows mid_in;  /* codes of the single token's 1 + n_expert_used rows; the floats are those of `mid` */
    float *tile;             /* [batch_max * (1 + used)][64]: one unit of gate-up, or of down, of a group */
    struct crl_attn attn;
    float *route;            /* [n_expert rounded up to 16] router logits of one token */
    uint64_t weight_bytes;   /* of weights this member has read in all passes */
};

struct crl_forward {
    const struct crl_model *model;
    const struct crl_kernels *kern;
    struct crl_team *team;
    size_t batch_max;
    unsigned char *memory; /* the arena everything below points into */

    /* of the running pass */
    const struct crl_batch *batch;
    size_t m;                   /* tokens */
    size_t n_logits;            /* rows of logits */
    struct crl_token *token;    /* [batch_max] */
    size_t *logit_row;          /* [batch_max] token of each row of logits */
    float *h;                   /* [batch_max][d_model] residual stream */
    float *angle;               /* [batch_max][d_head] cos and sin per pair */
    struct crl_rows normed;     /* [batch_max] rows of d_model: input of QKV, router, gate-up, head */
    float *q, *k, *v;           /* [batch_max][rounded up heads * d_head] */
    size_t q_stride, kv_stride; /* floats */
    struct crl_rows attn;       /* [batch_max] rows of n_head * d_head: input of o */
    struct crl_sums slices;     /* [n_kv_head][CRL_SLICES] x queries of one token */
    atomic_size_t *done;        /* [n_kv_head] slices of the token that are summed; 0 between layers */
    float *out;                 /* [batch_max][d_model rounded up to 16] output of o */
    uint32_t *route;            /* [batch_max][n_expert_used] */
    float *weight;              /* [batch_max][n_expert_used] sigmoid of the router logit */
    struct crl_rows gathered;   /* [batch_max * n_expert_used] routed inputs, sorted by expert */
    struct crl_rows mid;        /* [batch_max * (1 + n_expert_used)] rows of the widest d_ff: up * silu(gate) */
    float *part;                /* [batch_max * n_expert_used][d_model rounded up to 16] down of routed rows, when layers
                                   are summed apart; the shared block's are in `out` */
    float *logits;              /* [batch_max][vocab rounded up to 16], when the caller's rows do not fit panels */
    struct crl_scratch *scratch; /* [team size] */
};

/* Rows of k codes that are multiplied with all weights at hand before the next ones come: as many as stay in the
 * second-level cache of a core. The weights are read again for each such block of rows, which costs next to nothing
 * beside the products. A multiple of the rows of a kernel's tile. */
static inline size_t crl_row_block(size_t k)
{
    size_t n = CRL_ROW_BYTES / (k ? k : 1) / 6 * 6;

    return n < 48 ? 48 : n;
}

/* y[i][0 .. 16 * panels) for rows first .. first + m of x and panels [lo, hi) of w. */
void crl_rows_gemm(const struct crl_forward *f, float *y, size_t y_stride, const struct crl_rows *x, size_t first,
                   size_t m, const struct crl_mat *w, size_t lo, size_t hi);

/* Quantise row i of x (k values) in the forms of `need`. */
void crl_rows_quantise(const struct crl_forward *f, const struct crl_rows *x, size_t i, size_t k, unsigned need);

/* The same memory for rows of k values, k no more than what was planned. */
void crl_rows_reshape(struct crl_rows *x, size_t k);

/* The layer as this member's node sees it. */
static inline const struct crl_layer *crl_layer_of(const struct crl_forward *f, const struct crl_member *me,
                                                   uint32_t layer)
{
    return &f->model->view[me->node].layer[layer];
}

/* This member's share of its node's panels of a matrix. */
static inline void crl_stripe_range(const struct crl_member *me, const struct crl_stripe *p, size_t *lo, size_t *hi)
{
    crl_part(p->hi - p->lo, me->node_id, me->node_n, lo, hi);
    *lo += p->lo;
    *hi += p->lo;
}

/* Note that this member read `n` panels. */
static inline void crl_count_read(struct crl_forward *f, const struct crl_member *me, const struct crl_mat *w, size_t n)
{
    f->scratch[me->id].weight_bytes += n * w->panel_bytes;
}

/* A phase ends here for this member: the first one writes down how long it took. */
void crl_phase_note(const struct crl_forward *f, enum crl_phase phase);
static inline void crl_phase_done(const struct crl_forward *f, const struct crl_member *me, enum crl_phase phase)
{
    if (f->batch->profile && me->id == 0) crl_phase_note(f, phase);
}

/* Show rows first .. first + n of x to whoever asked for the inputs of matrices. */
static inline void crl_show_inputs(const struct crl_forward *f, const struct crl_member *me, enum crl_kind kind,
                                   uint32_t layer, int32_t expert, const struct crl_rows *x, size_t first, size_t n)
{
    if (f->batch->tap_inputs)
        f->batch->tap_inputs(f->batch->inputs_ctx, me, kind, layer, expert, x->x + first * x->stride, x->stride, n);
}

/* Steps of one layer; every member calls them at the same time. */
void crl_attention(struct crl_forward *f, const struct crl_member *me, uint32_t layer);
void crl_feed_forward(struct crl_forward *f, const struct crl_member *me, uint32_t layer);

/* Norm the stream with `weight` into rows for the next matrix: all of `normed` together with a barrier, or, for a
 * batch of one token, every member for itself without one. Returns the rows to read. */
const struct crl_rows *crl_norm_stream(struct crl_forward *f, const struct crl_member *me, const float *weight,
                                       unsigned need);

#endif
