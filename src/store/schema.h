/* schema.h - the one list of what a configuration consists of: which weight matrices there are, their shapes,
 * their order, and which of them lie together in one extent of the packed file. The converter writes by it,
 * the reader refuses files that hold anything else, the engine finds its weights in it.
 *
 * A recipe says in which format each matrix is kept. Names and order are those of docs/format.md, "Matrices".
 *
 * A schema is built once, never changed and freed by crl_schema_free; a recipe is plain data. */
#ifndef CRL_STORE_SCHEMA_H
#define CRL_STORE_SCHEMA_H

#include "quant/mat.h"
#include "store/config.h"

/* What a matrix is for. The numbers are those of the packed file. */
enum crl_kind {
    CRL_KIND_EMBED = 1,           /* [vocab][d_model]; the head too when the model is tied */
    CRL_KIND_HEAD = 2,            /* [vocab][d_model]; absent when tied */
    CRL_KIND_FINAL_NORM = 3,      /* [1][d_model] */
    CRL_KIND_ATTN_NORM = 4,       /* [1][d_model] */
    CRL_KIND_FFN_NORM = 5,        /* [1][d_model] */
    CRL_KIND_Q_BIAS = 6,          /* [1][n_head * d_head]; biases only with attention_bias */
    CRL_KIND_K_BIAS = 7,          /* [1][n_kv_head * d_head] */
    CRL_KIND_V_BIAS = 8,          /* [1][n_kv_head * d_head] */
    CRL_KIND_O_BIAS = 9,          /* [1][d_model] */
    CRL_KIND_ROUTER = 10,         /* [n_expert][d_model] */
    CRL_KIND_Q = 11,              /* [n_head * d_head][d_model] */
    CRL_KIND_K = 12,              /* [n_kv_head * d_head][d_model] */
    CRL_KIND_V = 13,              /* [n_kv_head * d_head][d_model] */
    CRL_KIND_O = 14,              /* [d_model][n_head * d_head] */
    CRL_KIND_SHARED_GATE_UP = 15, /* [2 * round_up(d_ff, 16)][d_model], see crl_gate_row */
    CRL_KIND_SHARED_DOWN = 16,    /* [d_model][d_ff] */
    CRL_KIND_EXPERT_GATE_UP = 17, /* as the shared expert, once per expert */
    CRL_KIND_EXPERT_DOWN = 18,
    CRL_KIND_DENSE_GATE_UP = 19, /* as the shared expert, with d_ff_dense */
    CRL_KIND_DENSE_DOWN = 20,

    /* The vision tower, only with multimodal; d, ff, out are those of struct crl_vision_config. */
    CRL_KIND_V_CLASS = 21,     /* [1][d] */
    CRL_KIND_V_POSITION = 22,  /* [patches + 1][d] */
    CRL_KIND_V_PRE_NORM = 23,  /* [1][d], norms as weight and bias */
    CRL_KIND_V_PRE_BIAS = 24,
    CRL_KIND_V_POST_NORM = 25,
    CRL_KIND_V_POST_BIAS = 26,
    CRL_KIND_V_PATCH = 27,     /* [d][3 * patch * patch] */
    CRL_KIND_V_ATTN_NORM = 28, /* [1][d], from here per layer */
    CRL_KIND_V_ATTN_NORM_BIAS = 29,
    CRL_KIND_V_FFN_NORM = 30,
    CRL_KIND_V_FFN_NORM_BIAS = 31,
    CRL_KIND_V_Q_BIAS = 32,    /* [1][d] */
    CRL_KIND_V_K_BIAS = 33,
    CRL_KIND_V_V_BIAS = 34,
    CRL_KIND_V_O_BIAS = 35,
    CRL_KIND_V_FC1_BIAS = 36,  /* [1][ff] */
    CRL_KIND_V_FC2_BIAS = 37,  /* [1][d] */
    CRL_KIND_V_Q = 38,         /* [d][d] */
    CRL_KIND_V_K = 39,
    CRL_KIND_V_V = 40,
    CRL_KIND_V_O = 41,
    CRL_KIND_V_FC1 = 42,       /* [ff][d] */
    CRL_KIND_V_FC2 = 43,       /* [d][ff] */
    CRL_KIND_V_ADAPTER_1 = 44, /* [out][ff] */
    CRL_KIND_V_ADAPTER_2 = 45, /* [out][out] */
    CRL_KIND_V_PROJECTOR = 46  /* [d_model of the text model][out] */
};
#define CRL_KIND_END 47

static inline bool crl_kind_is_vision(enum crl_kind kind)
{
    return kind >= CRL_KIND_V_CLASS;
}

/* Fixed name for tables and messages ("expert gate-up"), "?" for none. */
const char *crl_kind_name(enum crl_kind kind);

/* Gate and up share one matrix, panel by panel: panel 2i holds gate rows 16i .. 16i+15, panel 2i+1 the up
 * rows of the same numbers. Rows past d_ff are zero. Row of the matrix that holds gate row i; its up row is
 * 16 further. */
static inline size_t crl_gate_row(size_t i)
{
    return i / CRL_PANEL_ROWS * 2 * CRL_PANEL_ROWS + i % CRL_PANEL_ROWS;
}

static inline size_t crl_up_row(size_t i)
{
    return crl_gate_row(i) + CRL_PANEL_ROWS;
}

/* One matrix of the list. */
struct crl_weight {
    enum crl_kind kind;
    int32_t layer;   /* -1: belongs to none */
    int32_t expert;  /* -1: is no routed expert's */
    uint32_t n;      /* rows as packed */
    uint32_t k;      /* inputs */
    uint32_t n_real; /* rows that are weights: 2 * d_ff for gate-up, else n */
    uint32_t extent; /* the extent it lies in */
};

/* Matrices that lie together: one expert, one attention block, the small tensors of a layer ... */
struct crl_extent {
    uint32_t first; /* index of its first matrix */
    uint32_t n;     /* matrices, at least 1 */
};

struct crl_schema {
    struct crl_config cfg;
    size_t n_weight;
    size_t n_extent;
    struct crl_weight *weight; /* [n_weight] in the order of the file */
    struct crl_extent *extent; /* [n_extent] */
    uint32_t *layer_first;     /* [n_layer] index of the layer's attention norm */
    size_t n_text;             /* matrices before those of the vision tower */
};

/* Counts without building anything; CRL_ERANGE when they exceed what a file can hold (2^31). cfg has been
 * checked. */
enum crl_status crl_schema_count(const struct crl_config *cfg, size_t *n_weight, size_t *n_extent,
                                 struct crl_err *err);

enum crl_status crl_schema_build(struct crl_schema **out, const struct crl_config *cfg, struct crl_err *err);
void crl_schema_free(struct crl_schema *s);

/* Index of a matrix, CRL_NO_WEIGHT when the configuration has none such (the head of a tied model, the router
 * of a dense layer ...). layer and expert are ignored where the kind has none. Constant time. */
#define CRL_NO_WEIGHT SIZE_MAX
size_t crl_schema_find(const struct crl_schema *s, enum crl_kind kind, uint32_t layer, uint32_t expert);

/* The same by packed name, linear. */
size_t crl_schema_find_name(const struct crl_schema *s, const char *name);

/* Packed name, e.g. "model.layers.3.feed_forward.experts.7.down_proj.weight". */
#define CRL_NAME_MAX 96
void crl_weight_name(const struct crl_weight *w, char name[CRL_NAME_MAX]);

/* --- recipes ------------------------------------------------------------------------------------------ */

#define CRL_RECIPE_OVERRIDES 64
#define CRL_GLOB_MAX 128

struct crl_recipe {
    char name[16];                              /* "bf16", "q8", "q4", "balanced" */
    enum crl_format format[CRL_KIND_END];       /* by kind */
    size_t n_override;
    struct crl_override {
        char glob[CRL_GLOB_MAX];
        enum crl_format format;
    } override[CRL_RECIPE_OVERRIDES];           /* the last one that matches decides */
    uint64_t calibration; /* hash of the statistics that q4 is packed by (crl_calib_hash); 0: without */
};

/* override[i] reads GLOB=FORMAT with FORMAT one of bf16, q8, q4. A glob is matched (as fnmatch, '*' crosses
 * dots) against the packed name and against the names the same weights have in checkpoints:
 * "experts.gate_up_proj" and "experts.down_proj" for the experts of a layer, "gate_proj.weight" and
 * "up_proj.weight" for a gate-up matrix, each also with the prefix "language_model.". Gate and up share a
 * matrix and thus a format. CRL_ERANGE for an unknown recipe, a malformed override, or too many. */
enum crl_status crl_recipe_parse(struct crl_recipe *r, const char *name, const char *const *override,
                                 size_t n, struct crl_err *err);

/* Every override must decide something: CRL_ERANGE names the one whose glob matches nothing, or nothing but
 * tensors with a fixed format (router BF16, norms and biases F32). */
enum crl_status crl_recipe_check(const struct crl_recipe *r, const struct crl_schema *s, struct crl_err *err);

/* Format of one matrix. Fixed formats are never overridden, whatever a glob matches. */
enum crl_format crl_recipe_format(const struct crl_recipe *r, const struct crl_weight *w);

/* True when a matrix of this kind may be stored in this format at all. */
bool crl_kind_takes(enum crl_kind kind, enum crl_format f);

/* --- totals ------------------------------------------------------------------------------------------- */

struct crl_totals {
    uint64_t params;        /* weights of the model, vision tower included; the padding of the layout is not counted */
    uint64_t params_active; /* that may act on one token: all but the experts not chosen; embedding table
                               counted */
    uint64_t params_read;   /* multiplied per decoded token: active without the embedding table (with it when
                               tied) */
    uint64_t params_routed; /* of all routed experts */
    uint64_t bytes;         /* packed matrices, headers and padding of panels included */
    uint64_t params_vision; /* of the vision tower, adapter and projector; not active in a text token */
    uint64_t bytes_vision;
    uint64_t bytes_read; /* read per decoded token: one embedding row, n_expert_used experts, all the rest */
};

/* format[i] is that of weight i; NULL: only the params are computed. CRL_ERANGE if a total does not fit 64
 * bits. */
enum crl_status crl_schema_totals(const struct crl_schema *s, const enum crl_format *format,
                                  struct crl_totals *t, struct crl_err *err);

/* The same for what a recipe would give. */
enum crl_status crl_recipe_totals(const struct crl_recipe *r, const struct crl_schema *s,
                                  struct crl_totals *t, struct crl_err *err);

#endif
