/* model.h - the weights of one model, bound by name and shape, ready for the forward pass.
 *
 * A model borrows the packed file's memory (or copies of its extents) and is immutable. Shapes have been checked
 * against the configuration by the store; nothing here can disagree. */
#ifndef CRL_MODEL_MODEL_H
#define CRL_MODEL_MODEL_H

#include "quant/mat.h"
#include "store/pack.h"

/* A feed-forward block: gate-up [2 ff][d_model], gate and up panels alternating (store/schema.h), and down. */
struct crl_ffn {
    struct crl_mat gate_up;
    struct crl_mat down;
};

/* In which forms the input of a matrix is wanted besides float: int8 codes of either span. */
enum crl_need { CRL_NEED_FINE = 1, CRL_NEED_COARSE = 2 };

struct crl_layer {
    bool rope; /* rotary embedding, chunked attention, qk norm if the model has it; else NoPE and everything seen */
    bool moe;
    size_t d_ff;            /* width of `always` */
    const float *attn_norm; /* [d_model] */
    const float *ffn_norm;  /* [d_model] */
    struct crl_mat q, k, v, o;
    const float *q_bias, *k_bias, *v_bias, *o_bias; /* NULL without attention_bias */
    struct crl_ffn always;                          /* the shared expert, or the dense block */
    struct crl_mat router;                          /* [n_expert][d_model], bf16; only with moe */
    struct crl_ffn *expert;                         /* [n_expert]; NULL without moe */
    unsigned need_qkv, need_o, need_gate_up, need_down; /* CRL_NEED_... of the matrices that read the same rows */
};

struct crl_model {
    struct crl_config cfg;
    struct crl_mat embed;    /* [vocab][d_model] */
    struct crl_mat head;     /* [vocab][d_model]; embed again when tied */
    const float *final_norm; /* [d_model] */
    struct crl_layer *layer; /* [n_layer] */
    float *inv_freq;         /* [d_head / 2], see model/rope.h */
    unsigned need_head;
};

/* Bind to an open pack, which must outlive the model. */
enum crl_status crl_model_new(struct crl_model **out, const struct crl_pack *pack, struct crl_err *err);
void crl_model_free(struct crl_model *m);

#endif
