/* schema.c - the list of matrices of a configuration, and what they add up to. */
#include "store/schema.h"

#include <stdio.h>
#include <string.h>

#define N(a) (sizeof(a) / sizeof *(a))

/* What a kind is called, and which formats it takes. The first %d of a name is the layer, the second the
 * expert. */
struct kind_info {
    const char *label;
    const char *name;
    enum { FIXED_F32, FIXED_BF16, FREE } formats;
};

#define LAYER "model.layers.%d."
#define FFN LAYER "feed_forward."
#define V_LAYER "vision_model.model.layers.%d."

static const struct kind_info kinds[CRL_KIND_END] = {
    [CRL_KIND_EMBED] = { "embedding", "model.embed_tokens.weight", FREE },
    [CRL_KIND_HEAD] = { "head", "lm_head.weight", FREE },
    [CRL_KIND_FINAL_NORM] = { "final norm", "model.norm.weight", FIXED_F32 },
    [CRL_KIND_ATTN_NORM] = { "attention norm", LAYER "input_layernorm.weight", FIXED_F32 },
    [CRL_KIND_FFN_NORM] = { "feed-forward norm", LAYER "post_attention_layernorm.weight", FIXED_F32 },
    [CRL_KIND_Q_BIAS] = { "q bias", LAYER "self_attn.q_proj.bias", FIXED_F32 },
    [CRL_KIND_K_BIAS] = { "k bias", LAYER "self_attn.k_proj.bias", FIXED_F32 },
    [CRL_KIND_V_BIAS] = { "v bias", LAYER "self_attn.v_proj.bias", FIXED_F32 },
    [CRL_KIND_O_BIAS] = { "o bias", LAYER "self_attn.o_proj.bias", FIXED_F32 },
    [CRL_KIND_ROUTER] = { "router", FFN "router.weight", FIXED_BF16 },
    [CRL_KIND_Q] = { "q", LAYER "self_attn.q_proj.weight", FREE },
    [CRL_KIND_K] = { "k", LAYER "self_attn.k_proj.weight", FREE },
    [CRL_KIND_V] = { "v", LAYER "self_attn.v_proj.weight", FREE },
    [CRL_KIND_O] = { "o", LAYER "self_attn.o_proj.weight", FREE },
    [CRL_KIND_SHARED_GATE_UP] = { "shared gate-up", FFN "shared_expert.gate_up_proj.weight", FREE },
    [CRL_KIND_SHARED_DOWN] = { "shared down", FFN "shared_expert.down_proj.weight", FREE },
    [CRL_KIND_EXPERT_GATE_UP] = { "expert gate-up", FFN "experts.%d.gate_up_proj.weight", FREE },
    [CRL_KIND_EXPERT_DOWN] = { "expert down", FFN "experts.%d.down_proj.weight", FREE },
    [CRL_KIND_DENSE_GATE_UP] = { "dense gate-up", FFN "gate_up_proj.weight", FREE },
    [CRL_KIND_DENSE_DOWN] = { "dense down", FFN "down_proj.weight", FREE },
    [CRL_KIND_V_CLASS] = { "vision class", "vision_model.class_embedding", FIXED_F32 },
    [CRL_KIND_V_POSITION] = { "vision positions", "vision_model.positional_embedding_vlm", FIXED_F32 },
    [CRL_KIND_V_PRE_NORM] = { "vision pre-norm", "vision_model.layernorm_pre.weight", FIXED_F32 },
    [CRL_KIND_V_PRE_BIAS] = { "vision pre-norm bias", "vision_model.layernorm_pre.bias", FIXED_F32 },
    [CRL_KIND_V_POST_NORM] = { "vision post-norm", "vision_model.layernorm_post.weight", FIXED_F32 },
    [CRL_KIND_V_POST_BIAS] = { "vision post-norm bias", "vision_model.layernorm_post.bias", FIXED_F32 },
    [CRL_KIND_V_PATCH] = { "vision patches", "vision_model.patch_embedding.linear.weight", FREE },
    [CRL_KIND_V_ATTN_NORM] = { "vision attention norm", V_LAYER "input_layernorm.weight", FIXED_F32 },
    [CRL_KIND_V_ATTN_NORM_BIAS] = { "vision attention norm bias", V_LAYER "input_layernorm.bias", FIXED_F32 },
    [CRL_KIND_V_FFN_NORM] = { "vision feed-forward norm", V_LAYER "post_attention_layernorm.weight", FIXED_F32 },
    [CRL_KIND_V_FFN_NORM_BIAS] = { "vision feed-forward norm bias", V_LAYER "post_attention_layernorm.bias", FIXED_F32 },
    [CRL_KIND_V_Q_BIAS] = { "vision q bias", V_LAYER "self_attn.q_proj.bias", FIXED_F32 },
    [CRL_KIND_V_K_BIAS] = { "vision k bias", V_LAYER "self_attn.k_proj.bias", FIXED_F32 },
    [CRL_KIND_V_V_BIAS] = { "vision v bias", V_LAYER "self_attn.v_proj.bias", FIXED_F32 },
    [CRL_KIND_V_O_BIAS] = { "vision o bias", V_LAYER "self_attn.o_proj.bias", FIXED_F32 },
    [CRL_KIND_V_FC1_BIAS] = { "vision fc1 bias", V_LAYER "mlp.fc1.bias", FIXED_F32 },
    [CRL_KIND_V_FC2_BIAS] = { "vision fc2 bias", V_LAYER "mlp.fc2.bias", FIXED_F32 },
    [CRL_KIND_V_Q] = { "vision q", V_LAYER "self_attn.q_proj.weight", FREE },
    [CRL_KIND_V_K] = { "vision k", V_LAYER "self_attn.k_proj.weight", FREE },
    [CRL_KIND_V_V] = { "vision v", V_LAYER "self_attn.v_proj.weight", FREE },
    [CRL_KIND_V_O] = { "vision o", V_LAYER "self_attn.o_proj.weight", FREE },
    [CRL_KIND_V_FC1] = { "vision fc1", V_LAYER "mlp.fc1.weight", FREE },
    [CRL_KIND_V_FC2] = { "vision fc2", V_LAYER "mlp.fc2.weight", FREE },
    [CRL_KIND_V_ADAPTER_1] = { "vision adapter 1", "vision_model.vision_adapter.mlp.fc1.weight", FREE },
    [CRL_KIND_V_ADAPTER_2] = { "vision adapter 2", "vision_model.vision_adapter.mlp.fc2.weight", FREE },
    [CRL_KIND_V_PROJECTOR] = { "projector", "multi_modal_projector.linear_1.weight", FREE },
};

const char *crl_kind_name(enum crl_kind kind)
{
    return (unsigned)kind < CRL_KIND_END && kinds[kind].label ? kinds[kind].label : "?";
}

bool crl_kind_takes(enum crl_kind kind, enum crl_format f)
{
    switch (kinds[kind].formats) {
    case FIXED_F32: return f == CRL_F32;
    case FIXED_BF16: return f == CRL_BF16;
    default: return f == CRL_BF16 || f == CRL_Q8 || f == CRL_Q4;
    }
}

void crl_weight_name(const struct crl_weight *w, char name[CRL_NAME_MAX])
{
    const char *from = kinds[w->kind].name;
    int number[2] = { (int)w->layer, (int)w->expert };
    size_t at = 0, i = 0;

    for (; *from; from++) { /* the names are ours and far shorter than CRL_NAME_MAX */
        if (*from != '%') name[at++] = *from;
        else {
            at += (size_t)snprintf(name + at, CRL_NAME_MAX - at, "%d", number[i++]);
            from++;
        }
    }
    name[at] = 0;
}

/* --- the list ----------------------------------------------------------------------------------------- */

/* Matrices of the vision tower before its layers, in each of them, and after them: kinds in their own order. */
#define V_TOP 7
#define V_PER_LAYER 16
#define V_END 3

/* Matrices in the first extent of a layer: the two norms, biases, router. */
static uint64_t n_small(const struct crl_config *cfg, uint32_t layer)
{
    return 2 + (cfg->attention_bias ? 4u : 0u) + cfg->is_moe[layer];
}

enum crl_status crl_schema_count(const struct crl_config *cfg, size_t *n_weight, size_t *n_extent,
                                 struct crl_err *err)
{
    uint64_t w = cfg->tied ? 2 : 3, e = w;

    for (uint32_t l = 0; l < cfg->n_layer; l++) { /* at most 1024 * 65536 * 2: cannot wrap */
        uint64_t routed = cfg->is_moe[l] ? cfg->n_expert : 0;
        w += n_small(cfg, l) + 4 + 2 + 2 * routed;
        e += 3 + routed;
    }
    if (cfg->multimodal) {
        w += V_TOP + (uint64_t)cfg->vision.n_layer * V_PER_LAYER + V_END;
        e += 3 + 3 * (uint64_t)cfg->vision.n_layer;
    }
    if (w > 0x7fffffff)
        return crl_fail(err, CRL_ERANGE, "the configuration has %llu matrices, at most 2^31 - 1 are possible",
                        (unsigned long long)w);
    *n_weight = (size_t)w;
    *n_extent = (size_t)e;
    return CRL_OK;
}

static void open_extent(struct crl_schema *s)
{
    s->extent[s->n_extent].first = (uint32_t)s->n_weight;
    s->n_extent++;
}

/* Append to the extent opened last; layer and expert stand in *at. */
static void add(struct crl_schema *s, const struct crl_weight *at, enum crl_kind kind, uint32_t n, uint32_t k)
{
    struct crl_weight *w = &s->weight[s->n_weight++];

    *w = *at;
    w->kind = kind;
    w->n = w->n_real = n;
    w->k = k;
    w->extent = (uint32_t)s->n_extent - 1;
    s->extent[s->n_extent - 1].n++;
}

static void add_ffn(struct crl_schema *s, const struct crl_weight *at, enum crl_kind gate_up,
                    enum crl_kind down, uint32_t d_ff)
{
    open_extent(s);
    add(s, at, gate_up, 2 * (uint32_t)crl_round_up(d_ff, CRL_PANEL_ROWS), s->cfg.d_model);
    s->weight[s->n_weight - 1].n_real = 2 * d_ff;
    add(s, at, down, s->cfg.d_model, d_ff);
}

static void add_single(struct crl_schema *s, enum crl_kind kind, uint32_t n)
{
    const struct crl_weight at = { .layer = -1, .expert = -1 };

    open_extent(s);
    add(s, &at, kind, n, s->cfg.d_model);
}

static void add_layer(struct crl_schema *s, uint32_t layer)
{
    const struct crl_config *c = &s->cfg;
    struct crl_weight at = { .layer = (int32_t)layer, .expert = -1 };
    uint32_t n_q = c->n_head * c->d_head, n_kv = c->n_kv_head * c->d_head;

    s->layer_first[layer] = (uint32_t)s->n_weight;
    open_extent(s);
    add(s, &at, CRL_KIND_ATTN_NORM, 1, c->d_model);
    add(s, &at, CRL_KIND_FFN_NORM, 1, c->d_model);
    if (c->attention_bias) {
        add(s, &at, CRL_KIND_Q_BIAS, 1, n_q);
        add(s, &at, CRL_KIND_K_BIAS, 1, n_kv);
        add(s, &at, CRL_KIND_V_BIAS, 1, n_kv);
        add(s, &at, CRL_KIND_O_BIAS, 1, c->d_model);
    }
    if (c->is_moe[layer]) add(s, &at, CRL_KIND_ROUTER, c->n_expert, c->d_model);

    open_extent(s);
    add(s, &at, CRL_KIND_Q, n_q, c->d_model);
    add(s, &at, CRL_KIND_K, n_kv, c->d_model);
    add(s, &at, CRL_KIND_V, n_kv, c->d_model);
    add(s, &at, CRL_KIND_O, c->d_model, n_q);

    if (!c->is_moe[layer]) {
        add_ffn(s, &at, CRL_KIND_DENSE_GATE_UP, CRL_KIND_DENSE_DOWN, c->d_ff_dense);
        return;
    }
    add_ffn(s, &at, CRL_KIND_SHARED_GATE_UP, CRL_KIND_SHARED_DOWN, c->d_ff);
    for (uint32_t e = 0; e < c->n_expert; e++) {
        at.expert = (int32_t)e;
        add_ffn(s, &at, CRL_KIND_EXPERT_GATE_UP, CRL_KIND_EXPERT_DOWN, c->d_ff);
    }
}

/* Kinds from `first` to `last` as [1][n] each. */
static void add_vectors(struct crl_schema *s, const struct crl_weight *at, enum crl_kind first, enum crl_kind last,
                        uint32_t n)
{
    for (int kind = first; kind <= (int)last; kind++) add(s, at, kind, 1, n);
}

static void add_vision_layer(struct crl_schema *s, uint32_t layer)
{
    const struct crl_vision_config *v = &s->cfg.vision;
    const struct crl_weight at = { .layer = (int32_t)layer, .expert = -1 };

    open_extent(s);
    add_vectors(s, &at, CRL_KIND_V_ATTN_NORM, CRL_KIND_V_O_BIAS, v->d_model);
    add(s, &at, CRL_KIND_V_FC1_BIAS, 1, v->d_ff);
    add(s, &at, CRL_KIND_V_FC2_BIAS, 1, v->d_model);
    open_extent(s);
    for (int kind = CRL_KIND_V_Q; kind <= CRL_KIND_V_O; kind++) add(s, &at, kind, v->d_model, v->d_model);
    open_extent(s);
    add(s, &at, CRL_KIND_V_FC1, v->d_ff, v->d_model);
    add(s, &at, CRL_KIND_V_FC2, v->d_model, v->d_ff);
}

static void add_vision(struct crl_schema *s)
{
    const struct crl_vision_config *v = &s->cfg.vision;
    const struct crl_weight at = { .layer = -1, .expert = -1 };

    open_extent(s);
    add(s, &at, CRL_KIND_V_CLASS, 1, v->d_model);
    add(s, &at, CRL_KIND_V_POSITION, crl_vision_patches(&s->cfg) + 1, v->d_model);
    add_vectors(s, &at, CRL_KIND_V_PRE_NORM, CRL_KIND_V_POST_BIAS, v->d_model);
    open_extent(s);
    add(s, &at, CRL_KIND_V_PATCH, v->d_model, 3 * v->patch * v->patch);
    for (uint32_t l = 0; l < v->n_layer; l++) add_vision_layer(s, l);
    open_extent(s);
    add(s, &at, CRL_KIND_V_ADAPTER_1, v->d_out, v->d_ff);
    add(s, &at, CRL_KIND_V_ADAPTER_2, v->d_out, v->d_out);
    add(s, &at, CRL_KIND_V_PROJECTOR, s->cfg.d_model, v->d_out);
}

enum crl_status crl_schema_build(struct crl_schema **out, const struct crl_config *cfg, struct crl_err *err)
{
    struct crl_schema *s;
    size_t n_weight, n_extent;
    enum crl_status st = crl_schema_count(cfg, &n_weight, &n_extent, err);

    *out = NULL;
    if (st) return st;
    s = crl_alloc(1, sizeof *s);
    if (s) {
        s->cfg = *cfg;
        s->weight = crl_alloc(n_weight, sizeof *s->weight);
        s->extent = crl_alloc(n_extent, sizeof *s->extent);
        s->layer_first = crl_alloc(cfg->n_layer, sizeof *s->layer_first);
    }
    if (!s || !s->weight || !s->extent || !s->layer_first) {
        crl_schema_free(s);
        return crl_fail(err, CRL_ENOMEM, "no memory for the list of %zu matrices", n_weight);
    }
    add_single(s, CRL_KIND_EMBED, cfg->vocab);
    for (uint32_t l = 0; l < cfg->n_layer; l++) add_layer(s, l);
    add_single(s, CRL_KIND_FINAL_NORM, 1);
    if (!cfg->tied) add_single(s, CRL_KIND_HEAD, cfg->vocab);
    s->n_text = s->n_weight;
    if (cfg->multimodal) add_vision(s);
    *out = s;
    return CRL_OK;
}

void crl_schema_free(struct crl_schema *s)
{
    if (!s) return;
    crl_free(s->weight);
    crl_free(s->extent);
    crl_free(s->layer_first);
    crl_free(s);
}

/* --- finding ------------------------------------------------------------------------------------------ */

static size_t find_in_layer(const struct crl_schema *s, enum crl_kind kind, uint32_t layer, uint32_t expert)
{
    const struct crl_config *c = &s->cfg;
    bool moe = c->is_moe[layer];
    size_t first = s->layer_first[layer], big = first + (size_t)n_small(c, layer), ffn = big + 4;

    switch (kind) {
    case CRL_KIND_ATTN_NORM: return first;
    case CRL_KIND_FFN_NORM: return first + 1;
    case CRL_KIND_Q_BIAS: case CRL_KIND_K_BIAS: case CRL_KIND_V_BIAS: case CRL_KIND_O_BIAS:
        return c->attention_bias ? first + 2 + (kind - CRL_KIND_Q_BIAS) : CRL_NO_WEIGHT;
    case CRL_KIND_ROUTER: return moe ? big - 1 : CRL_NO_WEIGHT;
    case CRL_KIND_Q: case CRL_KIND_K: case CRL_KIND_V: case CRL_KIND_O: return big + (kind - CRL_KIND_Q);
    case CRL_KIND_SHARED_GATE_UP: case CRL_KIND_SHARED_DOWN:
        return moe ? ffn + (kind - CRL_KIND_SHARED_GATE_UP) : CRL_NO_WEIGHT;
    case CRL_KIND_EXPERT_GATE_UP: case CRL_KIND_EXPERT_DOWN:
        return moe && expert < c->n_expert ? ffn + 2 + 2 * (size_t)expert + (kind - CRL_KIND_EXPERT_GATE_UP)
                                           : CRL_NO_WEIGHT;
    case CRL_KIND_DENSE_GATE_UP: case CRL_KIND_DENSE_DOWN:
        return moe ? CRL_NO_WEIGHT : ffn + (kind - CRL_KIND_DENSE_GATE_UP);
    default: return CRL_NO_WEIGHT;
    }
}

static size_t find_vision(const struct crl_schema *s, enum crl_kind kind, uint32_t layer)
{
    size_t first = s->n_text, layers = first + V_TOP;

    if (!s->cfg.multimodal) return CRL_NO_WEIGHT;
    if (kind < CRL_KIND_V_ATTN_NORM) return first + (kind - CRL_KIND_V_CLASS);
    if (kind >= CRL_KIND_V_ADAPTER_1)
        return layers + (size_t)s->cfg.vision.n_layer * V_PER_LAYER + (kind - CRL_KIND_V_ADAPTER_1);
    if (layer >= s->cfg.vision.n_layer) return CRL_NO_WEIGHT;
    return layers + (size_t)layer * V_PER_LAYER + (kind - CRL_KIND_V_ATTN_NORM);
}

size_t crl_schema_find(const struct crl_schema *s, enum crl_kind kind, uint32_t layer, uint32_t expert)
{
    if (crl_kind_is_vision(kind)) return kind < CRL_KIND_END ? find_vision(s, kind, layer) : CRL_NO_WEIGHT;
    switch (kind) {
    case CRL_KIND_EMBED: return 0;
    case CRL_KIND_HEAD: return s->cfg.tied ? CRL_NO_WEIGHT : s->n_text - 1;
    case CRL_KIND_FINAL_NORM: return s->n_text - (s->cfg.tied ? 1 : 2);
    default: return layer < s->cfg.n_layer ? find_in_layer(s, kind, layer, expert) : CRL_NO_WEIGHT;
    }
}

size_t crl_schema_find_name(const struct crl_schema *s, const char *name)
{
    char here[CRL_NAME_MAX];

    for (size_t i = 0; i < s->n_weight; i++) {
        crl_weight_name(&s->weight[i], here);
        if (!strcmp(here, name)) return i;
    }
    return CRL_NO_WEIGHT;
}

/* --- totals ------------------------------------------------------------------------------------------- */

/* *sum += a * b, or false. */
static bool add_product(uint64_t *sum, uint64_t a, uint64_t b)
{
    uint64_t p;

    return crl_mul_u64(a, b, &p) && crl_add_u64(*sum, p, sum);
}

static bool add_params(const struct crl_schema *s, const struct crl_weight *w, struct crl_totals *t)
{
    uint64_t n = (uint64_t)w->n_real * w->k;
    bool table = w->kind == CRL_KIND_EMBED && !s->cfg.tied; /* looked up, not multiplied */

    if (w->expert >= 0 && !crl_add_u64(t->params_routed, n, &t->params_routed)) return false;
    if (!crl_add_u64(t->params, n, &t->params)) return false;
    if (crl_kind_is_vision(w->kind)) return crl_add_u64(t->params_vision, n, &t->params_vision);
    /* Experts of a layer have equal shapes, so the chosen ones are counted as the first of them. */
    if (w->expert >= 0 && (uint32_t)w->expert >= s->cfg.n_expert_used) return true;
    return crl_add_u64(t->params_active, n, &t->params_active) &&
           (table || crl_add_u64(t->params_read, n, &t->params_read));
}

/* Bytes of a matrix that one decoded token reads. Formats may differ between experts, so those of a layer are
 * averaged: *routed collects them and is divided by the caller. */
static bool add_bytes(const struct crl_schema *s, const struct crl_weight *w, enum crl_format f,
                      uint64_t *routed, struct crl_totals *t)
{
    uint64_t bytes, row;

    if (!crl_mat_bytes(f, w->n, w->k, &bytes) || !crl_add_u64(t->bytes, bytes, &t->bytes)) return false;
    if (w->expert >= 0) return crl_add_u64(*routed, bytes, routed);
    if (crl_kind_is_vision(w->kind)) return crl_add_u64(t->bytes_vision, bytes, &t->bytes_vision);
    row = crl_panel_bytes(f, w->k) / CRL_PANEL_ROWS;
    if (w->kind == CRL_KIND_EMBED && !crl_add_u64(t->bytes_read, row, &t->bytes_read)) return false;
    if (w->kind == CRL_KIND_EMBED && !s->cfg.tied) return true;
    return crl_add_u64(t->bytes_read, bytes, &t->bytes_read);
}

enum crl_status crl_schema_totals(const struct crl_schema *s, const enum crl_format *format,
                                  struct crl_totals *t, struct crl_err *err)
{
    struct crl_totals sum = { 0 };
    uint64_t routed = 0;
    bool fits = true;

    for (size_t i = 0; fits && i < s->n_weight; i++) {
        fits = add_params(s, &s->weight[i], &sum);
        if (fits && format) fits = add_bytes(s, &s->weight[i], format[i], &routed, &sum);
    }
    /* n_expert_used of n_expert are read in every mixture layer; the quotient first would lose bytes, the
     * product first could wrap. */
    if (fits && routed)
        fits = add_product(&sum.bytes_read, routed / s->cfg.n_expert, s->cfg.n_expert_used) &&
               crl_add_u64(sum.bytes_read, routed % s->cfg.n_expert * s->cfg.n_expert_used / s->cfg.n_expert,
                           &sum.bytes_read);
    if (!fits) return crl_fail(err, CRL_ERANGE, "the model is larger than 2^64 bytes");
    *t = sum;
    return CRL_OK;
}
