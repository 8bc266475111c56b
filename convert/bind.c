/* bind.c - the tensors of a checkpoint in Hugging Face layout, found under all their names. */
#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "convert/ckpt_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MOST ((size_t)64 << 20)

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static const char *const prefixes[] = { "language_model.model.", "model.", "model.language_model.", "" };

bool crl_ckpt_is_vision(const char *name)
{
    static const char *const starts[] = { "vision_model.",       "multi_modal_projector.",
                                          "model.vision_model.", "model.multi_modal_projector.",
                                          "vision_embeddings.",  "vision_projection." };

    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0) return true;
    return false;
}

/* Tensors that some writers leave in and no text run needs. */
static bool is_idle(const char *name)
{
    return ends_with(name, ".rotary_emb.inv_freq") || ends_with(name, ".input_scale") ||
           ends_with(name, "._extra_state") || ends_with(name, ".k_scale") || ends_with(name, ".v_scale") ||
           ends_with(name, ".q_scale");
}

/* Is there a tower, and what stands before its names? */
static bool has_tower(const struct crl_ckpt *ck, const char **prefix)
{
    static const char first[] = "model.vision_model.patch_embedding.linear.weight";

    *prefix = crl_ckpt_find(ck, first) ? "model." : "";
    return **prefix || crl_ckpt_find(ck, first + strlen("model."));
}

/* The configuration of a tower that has weights here. */
static enum crl_status read_vision(struct crl_ckpt *ck, struct crl_err *err)
{
    const char *prefix;
    char *path, *text = NULL;
    size_t len;
    bool found = false;
    enum crl_status st;

    if (!has_tower(ck, &prefix)) return CRL_OK;
    path = crl_path_join(ck->dir, "config.json");
    if (!path) return crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);
    st = crl_file_read(&text, &len, path, CONFIG_MOST, err);
    if (!st) st = crl_hfconfig_vision(&ck->cfg, text, len, path, &found, err);
    if (!st && !found)
        crl_note(&ck->notes, "the tensors of a vision tower are passed over: config.json has no vision_config");
    crl_free(text);
    crl_free(path);
    return st;
}

static enum crl_status find_prefix(struct crl_ckpt *ck, struct crl_err *err)
{
    char name[96];

    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        snprintf(name, sizeof name, "%sembed_tokens.weight", prefixes[i]);
        if (!crl_ckpt_find(ck, name)) continue;
        snprintf(ck->prefix, sizeof ck->prefix, "%s", prefixes[i]);
        return CRL_OK;
    }
    return crl_fail(err, CRL_ENOENT,
                    "%s: tensor %sembed_tokens.weight is missing, also under the other prefixes of "
                    "Llama 4 checkpoints",
                    ck->dir, prefixes[0]);
}

/* The part's tensor by full name; the sentence about a missing one mentions what may be the reason. */
static enum crl_status take(struct crl_ckpt *ck, struct crl_part *p, const char *name, struct crl_err *err)
{
    struct crl_entry *e = crl_ckpt_find(ck, name);

    if (!e)
        return crl_fail(err, CRL_ENOENT, "%s: tensor %s is missing%s%s%s", ck->dir, name,
                        ck->quant[0] ? " (config.json says it is quantised by " : "", ck->quant,
                        ck->quant[0] ? ")" : "");
    e->used = true;
    p->e = e;
    p->n_piece = 1;
    return CRL_OK;
}

static enum crl_status check_shape(const struct crl_part *p, size_t n_dim, const uint64_t *dim,
                                   struct crl_err *err)
{
    char found[CRL_ST_SHAPE_TEXT], want[CRL_ST_SHAPE_TEXT];

    if (p->e->t->n_dim == n_dim && memcmp(p->e->t->dim, dim, n_dim * sizeof *dim) == 0) return CRL_OK;
    return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: shape %s, but the configuration asks for %s",
                    crl_in_path(p->e->in), p->e->t->name,
                    crl_st_shape_text(found, sizeof found, p->e->t->n_dim, p->e->t->dim),
                    crl_st_shape_text(want, sizeof want, n_dim, dim));
}

static bool is_float(enum crl_st_type t)
{
    return t == CRL_ST_BF16 || t == CRL_ST_F16 || t == CRL_ST_F32;
}

/* Codes that mean nothing without a scale. */
static bool needs_scale(const struct crl_part *p)
{
    return p->code != CRL_CODE_PLAIN || p->e->t->type == CRL_ST_F8_E4M3 || p->e->t->type == CRL_ST_I8;
}

/* The tensor of scales beside `name` (of the weights, or of their packed form), by any of the names in use.
 */
static enum crl_status find_scale(struct crl_ckpt *ck, const struct crl_entry **out, const char *name,
                                  struct crl_err *err)
{
    static const char *const ends[] = { "_scale", "_scale_inv", "_weight_scale", ".weight_scale" };
    char full[512];
    size_t len = strlen(name);
    struct crl_part p = { 0 };
    enum crl_status st;

    if (ends_with(name, "_packed")) len -= strlen("_packed");
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        snprintf(full, sizeof full, "%.*s%s", (int)len, name, ends[i]);
        if (crl_ckpt_find(ck, full)) break;
        if (i + 1 == sizeof ends / sizeof ends[0]) snprintf(full, sizeof full, "%.*s_scale", (int)len, name);
    }
    st = take(ck, &p, full, err);
    if (st) return st;
    if (!is_float(p.e->t->type))
        return crl_fail(err, CRL_EUNSUPPORTED, "%s: tensor %s: scales of type %s are not read",
                        crl_in_path(p.e->in), full, p.e->t->type_name);
    *out = p.e;
    return CRL_OK;
}

static uint32_t up_div(uint64_t a, uint64_t b)
{
    return (uint32_t)((a + b - 1) / b);
}

/* Weights along one side of a matrix that `have` scales serve: all, one each, blocks of 128, or an even
 * share. 0: none of these. */
static uint32_t share(uint64_t have, uint32_t all)
{
    if (have == 1) return all;
    if (have == all) return 1;
    if (have == up_div(all, 128)) return 128;
    for (uint32_t g = 16; g <= 256; g *= 2) /* groups whose last one is not full */
        if (have == up_div(all, g)) return g;
    return have && have < all && all % have == 0 ? (uint32_t)(all / have) : 0;
}

static enum crl_status scale_shape(const struct crl_part *p, const struct crl_entry *e, struct crl_err *err)
{
    char shape[CRL_ST_SHAPE_TEXT];

    return crl_fail(
        err, CRL_EFORMAT,
        "%s: tensor %s: shape %s; for %u rows of %u inputs there is one scale, one per row ([%u, 1]), per "
        "block of 128 x 128, or per row and group of inputs",
        crl_in_path(e->in), e->t->name, crl_st_shape_text(shape, sizeof shape, e->t->n_dim, e->t->dim), p->n,
        p->k, p->n);
}

/* Scales of a matrix of its own, decided by their shape: [], [1], [n], or [gn][gk]. */
static enum crl_status take_scale(struct crl_ckpt *ck, struct crl_part *p, struct crl_err *err)
{
    struct crl_scale *s = &p->scale;
    const struct crl_st_tensor *t;
    uint64_t gn, gk;
    enum crl_status st;

    if (!needs_scale(p)) return CRL_OK;
    st = find_scale(ck, &s->e, p->e->t->name, err);
    if (st) return st;
    t = s->e->t;
    if (t->n_dim > 2) return scale_shape(p, s->e, err);
    gn = t->n_dim ? t->dim[0] : 1;
    gk = t->n_dim == 2 ? t->dim[1] : 1;
    if (gn == 1 && gk != 1 && p->n > 128) return scale_shape(p, s->e, err);
    s->rows = gn == p->n                ? 1
              : gn == 1                 ? (gk == 1 || p->n <= 128 ? p->n : 0)
              : gn == up_div(p->n, 128) ? 128
                                        : 0;
    s->inputs = s->rows == 128 && gk > 1 ? (gk == up_div(p->k, 128) ? 128 : 0) : share(gk, p->k);
    if (s->rows > 1 && gk > 1 && gk != up_div(p->k, 128)) s->inputs = 0; /* blocks are square */
    s->stride = gk;
    return s->rows && s->inputs ? CRL_OK : scale_shape(p, s->e, err);
}

/* Scales of stacked experts, in the order of the tensor's own sides [n_expert][a][b]. */
static enum crl_status take_stack_scale(struct crl_ckpt *ck, struct crl_part *p, uint32_t expert,
                                        uint32_t rows_all, struct crl_err *err)
{
    struct crl_scale *s = &p->scale;
    const struct crl_st_tensor *t;
    uint64_t x, y;
    uint32_t first = p->input_major ? (uint32_t)(p->at % p->stride) : 0; /* up rows begin in the middle */
    enum crl_status st;

    if (!needs_scale(p)) return CRL_OK;
    st = find_scale(ck, &s->e, p->e->t->name, err);
    if (st) return st;
    t = s->e->t;
    s->rows = p->n;
    s->inputs = p->k;
    s->stride = 1;
    if (t->bytes == crl_st_type_bytes(t->type)) return CRL_OK; /* one for all */
    if (t->n_dim < 1 || t->n_dim > 3 || t->dim[0] != ck->cfg.n_expert) return scale_shape(p, s->e, err);
    x = t->n_dim == 3 ? t->dim[1] : 1;
    y = t->n_dim >= 2 ? t->dim[t->n_dim - 1] : 1;
    s->at = expert * x * y;
    if (x == 1 && y == 1) return CRL_OK;
    if ((x == 1 && y == rows_all) || (y == 1 && x == rows_all)) { /* one per row, either way it is written */
        s->rows = 1;
        s->at += first;
        return CRL_OK;
    }
    s->input_major = p->input_major;
    s->stride = y;
    s->rows = share(p->input_major ? y : x, rows_all);
    s->inputs = share(p->input_major ? x : y, p->k);
    if (s->rows == rows_all) { /* one for gate and up */
        s->rows = p->n;
        first = 0;
    }
    if (!s->rows || !s->inputs || first % s->rows) return scale_shape(p, s->e, err);
    s->at += first / s->rows * (s->input_major ? 1 : s->stride);
    return CRL_OK;
}

static enum crl_status check_type(const struct crl_part *p, struct crl_err *err)
{
    enum crl_st_type t = p->e->t->type;

    if (is_float(t) || needs_scale(p)) return CRL_OK;
    return crl_fail(
        err, CRL_EUNSUPPORTED,
        "%s: tensor %s: type %s is not read (BF16, F16, F32, F8_E4M3, I8 with scales and packed int4 are)",
        crl_in_path(p->e->in), p->e->t->name, p->e->t->type_name);
}

/* "weight_shape" beside packed weights says what they unpack to. */
static enum crl_status check_packed_shape(struct crl_ckpt *ck, const struct crl_part *p, const char *name,
                                          struct crl_err *err)
{
    char full[512];
    unsigned char raw[16];
    struct crl_part s = { 0 };
    uint64_t n, k;
    size_t size;
    enum crl_status st;

    snprintf(full, sizeof full, "%s_shape", name);
    if (!crl_ckpt_find(ck, full)) return CRL_OK;
    st = take(ck, &s, full, err);
    if (st) return st;
    size = crl_st_type_bytes(s.e->t->type);
    if ((s.e->t->type != CRL_ST_I64 && s.e->t->type != CRL_ST_I32) || s.e->t->bytes != 2 * size)
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: not two integers", crl_in_path(s.e->in), full);
    st = crl_in_read(s.e->in, s.e->t->offset, raw, 2 * size, err);
    if (st) return st;
    n = size == 8 ? crl_le64(raw) : crl_le32(raw);
    k = size == 8 ? crl_le64(raw + 8) : crl_le32(raw + 4);
    if (n == p->n && k == p->k) return CRL_OK;
    return crl_fail(err, CRL_EFORMAT,
                    "%s: tensor %s: shape [%llu, %llu], but the configuration asks for [%u, %u]",
                    crl_in_path(s.e->in), full, (unsigned long long)n, (unsigned long long)k, p->n, p->k);
}

/* Integers packed into words of 32 bits: "weight_packed" [n][words], with scales and a shape beside it. */
static enum crl_status take_packed(struct crl_ckpt *ck, struct crl_part *p, const char *name,
                                   struct crl_err *err)
{
    char full[512], shape[CRL_ST_SHAPE_TEXT];
    const struct crl_st_tensor *t;
    enum crl_status st;

    snprintf(full, sizeof full, "%s_packed", name);
    st = take(ck, p, full, err);
    if (st) return st;
    t = p->e->t;
    if (t->type == CRL_ST_I32 && t->n_dim == 2 && t->dim[0] == p->n && t->dim[1] == up_div(p->k, 8))
        p->code = CRL_CODE_INT4;
    else if (t->type == CRL_ST_I32 && t->n_dim == 2 && t->dim[0] == p->n && t->dim[1] == up_div(p->k, 4))
        p->code = CRL_CODE_INT8;
    else
        return crl_fail(
            err, CRL_EFORMAT, "%s: tensor %s: %s %s, but I32 [%u, %u] holds 4 bits for each of [%u, %u]",
            crl_in_path(p->e->in), full, t->type_name,
            crl_st_shape_text(shape, sizeof shape, t->n_dim, t->dim), p->n, up_div(p->k, 8), p->n, p->k);
    p->stride = t->dim[1];
    st = take_scale(ck, p, err);
    return st ? st : check_packed_shape(ck, p, name, err);
}

/* An ordinary linear: [n][k], the whole tensor. */
static enum crl_status take_linear(struct crl_ckpt *ck, struct crl_part *p, uint32_t n, uint32_t k,
                                   const char *name, struct crl_err *err)
{
    const uint64_t dim[2] = { n, k };
    char packed[512];
    enum crl_status st;

    p->n = n;
    p->k = k;
    p->stride = k;
    snprintf(packed, sizeof packed, "%s_packed", name);
    if (!crl_ckpt_find(ck, name) && crl_ckpt_find(ck, packed)) return take_packed(ck, p, name, err);
    st = take(ck, p, name, err);
    if (!st) st = check_type(p, err);
    if (!st) st = check_shape(p, 2, dim, err);
    if (!st) st = take_scale(ck, p, err);
    return st;
}

static enum crl_status take_vector(struct crl_ckpt *ck, struct crl_part *p, uint32_t k, const char *name,
                                   struct crl_err *err)
{
    const uint64_t dim[1] = { k };
    enum crl_status st = take(ck, p, name, err);

    p->n = 1;
    p->k = k;
    p->stride = k;
    if (!st && needs_scale(p))
        st = crl_fail(err, CRL_EUNSUPPORTED, "%s: tensor %s: type %s is read for matrices only",
                      crl_in_path(p->e->in), name, p->e->t->type_name);
    if (!st) st = check_type(p, err);
    if (!st) st = check_shape(p, 1, dim, err);
    return st;
}

/* One expert's slice of a stacked tensor [n_expert][a][b], from element `skip` of it on. */
static enum crl_status take_slice(struct crl_ckpt *ck, struct crl_part *p, const struct crl_weight *w,
                                  uint64_t a, uint64_t b, uint64_t skip, const char *name,
                                  struct crl_err *err)
{
    const uint64_t dim[3] = { ck->cfg.n_expert, a, b };
    enum crl_status st = take(ck, p, name, err);

    p->at = (uint64_t)w->expert * a * b + skip; /* below the tensor's size once the shape is right */
    p->stride = b;
    if (!st) st = check_type(p, err);
    if (!st) st = check_shape(p, 3, dim, err);
    if (!st) st = take_stack_scale(ck, p, (uint32_t)w->expert, (uint32_t)(p->input_major ? b : a), err);
    return st;
}

/* Names inside a layer. */
#define NAME_SIZE 256
static const char *layer_name(const struct crl_ckpt *ck, char *out, int32_t layer, const char *rest)
{
    snprintf(out, NAME_SIZE, "%slayers.%d.%s", ck->prefix, layer, rest);
    return out;
}

static bool has(const struct crl_ckpt *ck, int32_t layer, const char *rest)
{
    char name[NAME_SIZE];

    return crl_ckpt_find(ck, layer_name(ck, name, layer, rest)) != NULL;
}

static enum crl_status take_layer_linear(struct crl_ckpt *ck, struct crl_part *p, const struct crl_weight *w,
                                         uint32_t n, uint32_t k, const char *rest, struct crl_err *err)
{
    char name[NAME_SIZE];

    return take_linear(ck, p, n, k, layer_name(ck, name, w->layer, rest), err);
}

/* The ways in which experts are stored. Each is decided anew for every layer, by what is there. */
enum expert_form { FUSED, PER_EXPERT, PLURAL, STACKED };

static enum expert_form expert_form(const struct crl_ckpt *ck, int32_t layer)
{
    if (has(ck, layer, "feed_forward.experts.gate_up_proj")) return FUSED;
    if (has(ck, layer, "feed_forward.experts.0.gate_proj.weight") ||
        has(ck, layer, "feed_forward.experts.0.gate_proj.weight_packed"))
        return PER_EXPERT;
    if (has(ck, layer, "feed_forward.experts.gate_projs.0.weight")) return PLURAL;
    if (has(ck, layer, "feed_forward.experts.gate_proj.weight")) return STACKED;
    return FUSED; /* the ordinary form is the one to miss */
}

/* One projection of a routed expert: which = "gate", "up" or "down", n rows of k inputs. */
static enum crl_status take_expert(struct crl_ckpt *ck, struct crl_part *p, const struct crl_weight *w,
                                   const char *which, uint32_t n, uint32_t k, struct crl_err *err)
{
    char rest[128], name[NAME_SIZE];

    p->n = n;
    p->k = k;
    switch (expert_form(ck, w->layer)) {
    case PER_EXPERT:
        snprintf(rest, sizeof rest, "feed_forward.experts.%d.%s_proj.weight", w->expert, which);
        return take_layer_linear(ck, p, w, n, k, rest, err);
    case PLURAL:
        snprintf(rest, sizeof rest, "feed_forward.experts.%s_projs.%d.weight", which, w->expert);
        return take_layer_linear(ck, p, w, n, k, rest, err);
    case STACKED:
        snprintf(rest, sizeof rest, "feed_forward.experts.%s_proj.weight", which);
        return take_slice(ck, p, w, n, k, 0, layer_name(ck, name, w->layer, rest), err);
    case FUSED:
        break;
    }
    p->input_major = true;
    if (which[0] == 'd')
        return take_slice(ck, p, w, k, n, 0, layer_name(ck, name, w->layer, "feed_forward.experts.down_proj"),
                          err);
    /* the first half of the columns is gate, the second up */
    return take_slice(ck, p, w, k, 2 * (uint64_t)n, which[0] == 'u' ? n : 0,
                      layer_name(ck, name, w->layer, "feed_forward.experts.gate_up_proj"), err);
}

static enum crl_status take_head(struct crl_ckpt *ck, struct crl_part *p, const struct crl_weight *w,
                                 struct crl_err *err)
{
    static const char *const names[] = { "language_model.lm_head.weight", "lm_head.weight",
                                         "model.lm_head.weight", "model.language_model.lm_head.weight" };
    size_t first = strncmp(ck->prefix, "language_model.", 15) == 0 ? 0 : 1;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (crl_ckpt_find(ck, names[i])) return take_linear(ck, p, w->n, w->k, names[i], err);
    return crl_fail(err, CRL_ENOENT, "%s: tensor %s is missing, and tie_word_embeddings is not true", ck->dir,
                    names[first]);
}

static enum crl_status take_top(struct crl_ckpt *ck, struct crl_part *p, const struct crl_weight *w,
                                const char *rest, struct crl_err *err)
{
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%s%s", ck->prefix, rest);
    return w->kind == CRL_KIND_EMBED ? take_linear(ck, p, w->n, w->k, name, err)
                                     : take_vector(ck, p, w->k, name, err);
}

static enum crl_status take_gate_up(struct crl_ckpt *ck, struct crl_origin *s, const struct crl_weight *w,
                                    const char *gate, const char *up, struct crl_err *err)
{
    uint32_t half = w->n_real / 2;
    enum crl_status st = take_layer_linear(ck, &s->part[0], w, half, w->k, gate, err);

    if (!st) st = take_layer_linear(ck, &s->part[1], w, half, w->k, up, err);
    return st;
}

/* The tower's names in checkpoints are those of the packed file. */
static enum crl_status bind_vision(struct crl_ckpt *ck, struct crl_part *p, const struct crl_weight *w,
                                   struct crl_err *err)
{
    char packed[CRL_NAME_MAX], name[NAME_SIZE];
    const char *prefix;

    has_tower(ck, &prefix);
    crl_weight_name(w, packed);
    snprintf(name, sizeof name, "%s%s", prefix, packed);
    if (w->kind == CRL_KIND_V_POSITION || crl_kind_takes(w->kind, CRL_Q8))
        return take_linear(ck, p, w->n, w->k, name, err);
    return take_vector(ck, p, w->k, name, err);
}

static enum crl_status bind(struct crl_ckpt *ck, struct crl_origin *s, const struct crl_weight *w,
                            struct crl_err *err)
{
    static const char *const rest[CRL_KIND_END] = {
        [CRL_KIND_ATTN_NORM] = "input_layernorm.weight",
        [CRL_KIND_FFN_NORM] = "post_attention_layernorm.weight",
        [CRL_KIND_Q_BIAS] = "self_attn.q_proj.bias",
        [CRL_KIND_K_BIAS] = "self_attn.k_proj.bias",
        [CRL_KIND_V_BIAS] = "self_attn.v_proj.bias",
        [CRL_KIND_O_BIAS] = "self_attn.o_proj.bias",
        [CRL_KIND_ROUTER] = "feed_forward.router.weight",
        [CRL_KIND_Q] = "self_attn.q_proj.weight",
        [CRL_KIND_K] = "self_attn.k_proj.weight",
        [CRL_KIND_V] = "self_attn.v_proj.weight",
        [CRL_KIND_O] = "self_attn.o_proj.weight",
        [CRL_KIND_SHARED_DOWN] = "feed_forward.shared_expert.down_proj.weight",
        [CRL_KIND_DENSE_DOWN] = "feed_forward.down_proj.weight",
    };
    struct crl_part *p = &s->part[0];
    char name[NAME_SIZE];
    enum crl_status st;

    if (crl_kind_is_vision(w->kind)) return bind_vision(ck, p, w, err);
    switch (w->kind) {
    case CRL_KIND_EMBED:
        return take_top(ck, p, w, "embed_tokens.weight", err);
    case CRL_KIND_FINAL_NORM:
        return take_top(ck, p, w, "norm.weight", err);
    case CRL_KIND_HEAD:
        return take_head(ck, p, w, err);
    case CRL_KIND_ATTN_NORM:
    case CRL_KIND_FFN_NORM:
    case CRL_KIND_Q_BIAS:
    case CRL_KIND_K_BIAS:
    case CRL_KIND_V_BIAS:
    case CRL_KIND_O_BIAS:
        return take_vector(ck, p, w->k, layer_name(ck, name, w->layer, rest[w->kind]), err);
    case CRL_KIND_ROUTER:
    case CRL_KIND_Q:
    case CRL_KIND_K:
    case CRL_KIND_V:
    case CRL_KIND_O:
    case CRL_KIND_SHARED_DOWN:
    case CRL_KIND_DENSE_DOWN:
        return take_layer_linear(ck, p, w, w->n, w->k, rest[w->kind], err);
    case CRL_KIND_SHARED_GATE_UP:
        return take_gate_up(ck, s, w, "feed_forward.shared_expert.gate_proj.weight",
                            "feed_forward.shared_expert.up_proj.weight", err);
    case CRL_KIND_DENSE_GATE_UP:
        return take_gate_up(ck, s, w, "feed_forward.gate_proj.weight", "feed_forward.up_proj.weight", err);
    case CRL_KIND_EXPERT_DOWN:
        return take_expert(ck, p, w, "down", w->n, w->k, err);
    case CRL_KIND_EXPERT_GATE_UP:
        st = take_expert(ck, p, w, "gate", w->n_real / 2, w->k, err);
        return st ? st : take_expert(ck, &s->part[1], w, "up", w->n_real / 2, w->k, err);
    default:
        break;
    }
    return crl_fail(err, CRL_EUNSUPPORTED, "%s: no tensor is known for a matrix of kind %d", ck->dir,
                    (int)w->kind);
}

/* What no matrix asked for. A head beside tie_word_embeddings is a copy of the table, as the library that
 * ties takes it to be. */
static enum crl_status check_rest(struct crl_ckpt *ck, struct crl_err *err)
{
    for (size_t i = 0; i < ck->n_entry; i++) {
        const char *name = ck->entry[i].t->name;
        if (ck->entry[i].used || is_idle(name)) continue;
        if (crl_ckpt_is_vision(name) && !ck->cfg.multimodal) continue;
        if (ck->cfg.tied && ends_with(name, "lm_head.weight")) {
            crl_note(&ck->notes, "tensor %s is passed over: tie_word_embeddings is true", name);
            continue;
        }
        if (ends_with(name, "_zero_point") || ends_with(name, "_g_idx"))
            return crl_fail(err, CRL_EUNSUPPORTED,
                            "%s: tensor %s: zero points and reordered groups are not read, only symmetric "
                            "quantisation is",
                            crl_in_path(ck->entry[i].in), name);
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s has no place in this configuration",
                        crl_in_path(ck->entry[i].in), name);
    }
    return CRL_OK;
}

/* A configuration may claim more layers and experts than memory has room to list. Every layer has tensors of
 * its own and every mixture a router with a row per expert, so the files bound both. */
static enum crl_status check_claims(struct crl_ckpt *ck, struct crl_err *err)
{
    struct crl_weight w = { .kind = CRL_KIND_ROUTER };
    enum crl_status st = CRL_OK;

    for (uint32_t i = 0; i < ck->cfg.n_layer && !st; i++) {
        struct crl_part p = { 0 };
        w.layer = (int32_t)i;
        if (ck->cfg.is_moe[i])
            st = take_layer_linear(ck, &p, &w, ck->cfg.n_expert, ck->cfg.d_model,
                                   "feed_forward.router.weight", err);
        else
            st = take_layer_linear(ck, &p, &w, ck->cfg.d_ff_dense, ck->cfg.d_model,
                                   "feed_forward.gate_proj.weight", err);
    }
    return st;
}

enum crl_status crl_ckpt_bind(struct crl_ckpt *ck, struct crl_err *err)
{
    enum crl_status st = find_prefix(ck, err);

    if (!st) st = read_vision(ck, err);
    if (!st) st = check_claims(ck, err);
    if (st) return st;
    st = crl_schema_build(&ck->schema, &ck->cfg, err);
    if (st) return st;
    ck->origin = crl_alloc(ck->schema->n_weight, sizeof *ck->origin);
    if (!ck->origin)
        return crl_fail(err, CRL_ENOMEM, "%s: no memory for %zu matrices", ck->dir, ck->schema->n_weight);
    for (size_t i = 0; i < ck->schema->n_weight && !st; i++)
        st = bind(ck, &ck->origin[i], &ck->schema->weight[i], err);
    return st ? st : check_rest(ck, err);
}
