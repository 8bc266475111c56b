/* model.h - the weights of one model, bound by name and shape, ready for the forward pass.
 *
 * The threads of a node compute with the slices of matrices that the plan gives them (store/plan.h), so every node has
 * its own view: the same layers, with that node's part of each matrix, in memory of its own. With one node the part is
 * the whole. A model borrows the weights' memory and is immutable. Shapes have been checked against the configuration by
 * the store; nothing here can disagree. */
#ifndef CRL_MODEL_MODEL_H
#define CRL_MODEL_MODEL_H

#include "quant/mat.h"
#include "store/load.h"

/* What a node computes of a matrix: panels [lo, hi). mat.panel is where panel 0 lies or would lie. */
struct crl_stripe {
    struct crl_mat mat;
    size_t lo, hi;
};

/* A feed-forward block: gate-up [2 ff][d_model], gate and up panels alternating (store/schema.h), and down. */
struct crl_ffn {
    struct crl_stripe gate_up;
    struct crl_stripe down;
};

/* Where the cuts of both copies of a shared expert lie, together: ascending, first 0, last the whole. Between two edges
 * one node of each side holds the rows. */
struct crl_edges {
    uint32_t *at; /* [n] */
    size_t n;
};

/* In which forms the input of a matrix is wanted besides float: int8 codes of either span. */
enum crl_need { CRL_NEED_FINE = 1, CRL_NEED_COARSE = 2 };

struct crl_layer {
    bool rope; /* rotary embedding, chunked attention, qk norm if the model has it; else NoPE and everything seen */
    bool moe;
    size_t d_ff;            /* width of `always` */
    const float *attn_norm; /* [d_model] */
    const float *ffn_norm;  /* [d_model] */
    struct crl_stripe q, k, v, o;
    const float *q_bias, *k_bias, *v_bias, *o_bias; /* NULL without attention_bias */
    unsigned n_side;         /* copies of the shared expert: 1, or 2 when experts have a home side */
    struct crl_ffn always[2]; /* the shared expert, a copy per side, or the dense block */
    struct crl_mat router;   /* [n_expert][d_model], bf16; only with moe */
    struct crl_ffn *expert;  /* [n_expert]; NULL without moe */
    uint8_t *home;           /* [n_expert] side */
    struct crl_edges edge_up, edge_down; /* units of gate-up, panels of down; with two sides */
    bool apart; /* nodes compute different rows of down for different blocks: the sum needs a step of its own */
    unsigned need_qkv, need_o, need_gate_up, need_down; /* CRL_NEED_... of the matrices that read the same rows */
};

/* The model as one node's threads see it. */
struct crl_view {
    struct crl_layer *layer; /* [n_layer] */
    struct crl_stripe head;    /* [vocab][d_model]; embed again when tied */
    const float *final_norm; /* [d_model] */
    size_t first_kv_head, n_kv_head; /* whose cache and attention are this node's */
};

struct crl_model {
    struct crl_config cfg;
    const struct crl_weights *weights;
    struct crl_view *view;   /* [n_node] */
    unsigned n_node;
    size_t embed;            /* the weight [vocab][d_model] */
    float *inv_freq;         /* [d_head / 2], see model/rope.h */
    unsigned need_head;
    bool apart;              /* some layer is */
    bool mapped;             /* experts are asked from the disk before use (crl_weights_want) */
};

/* Bind to loaded weights, which must outlive the model. */
enum crl_status crl_model_new(struct crl_model **out, const struct crl_weights *weights, struct crl_err *err);
void crl_model_free(struct crl_model *m);

/* Embedding of a token into h[d_model]. */
void crl_model_embed(const struct crl_model *m, unsigned node, size_t id, float *h);

#endif
