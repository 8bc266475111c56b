/* meta.c - the original checkpoints: params.json, and the tensors of consolidated.NN.pth, each cut over as
 * many files. Names and cuts: docs/model.md, "The original files". */
#include "base/json.h"
#include "base/mem.h"
#include "convert/ckpt_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- params.json ------------------------------------------------------------------------------------- */

#define WIDTH_MOST (1u << 20)

/* The widths of feed-forward blocks follow from ratios, with the roundings of the program that trained the
 * model. */
static uint32_t block_width(double h, double multiplier, double share, uint32_t multiple)
{
    uint64_t n = (uint64_t)h;

    n = (uint64_t)(2.0 * (double)n / 3.0);
    if (multiplier > 0) n = (uint64_t)(multiplier * (double)n);
    n = (uint64_t)((double)n / share);
    n = (n + multiple - 1) / multiple * multiple;
    return n > WIDTH_MOST ? WIDTH_MOST + 1 : (uint32_t)n;
}

static enum crl_status read_widths(struct crl_config *c, const json_t *doc, const json_t *moe,
                                   struct crl_err *err)
{
    double ffn_exp = 4, multiplier = 0, capacity = 1;
    uint32_t multiple = 256;
    bool scale = true;
    enum crl_status st = crl_json_get_f64(doc, "ffn_exp", 0, 1024, &ffn_exp, err);

    if (!st) st = crl_json_get_f64(doc, "ffn_dim_multiplier", 0, 1024, &multiplier, err);
    if (!st) st = crl_json_get_u32(doc, "multiple_of", 1, WIDTH_MOST, &multiple, err);
    if (!st && moe) st = crl_json_get_f64(moe, "capacity_factor", 0, 1024, &capacity, err);
    if (!st && moe) st = crl_json_get_bool(moe, "auto_scale_F", &scale, err);
    c->d_ff = block_width(ffn_exp * c->d_model, multiplier, scale ? capacity + 1 : 1, multiple);
    c->d_ff_dense = block_width(4.0 * c->d_model, multiplier, 1, multiple);
    return st;
}

static enum crl_status read_layers(struct crl_config *c, const json_t *doc, const json_t *moe,
                                   struct crl_err *err)
{
    uint32_t nope = 0, every = 1;
    enum crl_status st = crl_json_get_u32(doc, "nope_layer_interval", 1, CRL_MAX_LAYER, &nope, err);

    c->n_expert_used = 1;
    if (!st && moe) st = crl_json_get_u32(moe, "num_experts", 1, 65536, &c->n_expert, err);
    if (!st && moe) st = crl_json_get_u32(moe, "top_k", 1, 65536, &c->n_expert_used, err);
    if (!st && moe) st = crl_json_get_u32(moe, "interleave_moe_layer_step", 1, CRL_MAX_LAYER, &every, err);
    if (!st && moe && !c->n_expert) st = crl_fail(err, CRL_EFORMAT, "moe_args: num_experts is missing");
    for (uint32_t i = 0; i < c->n_layer && !st; i++) {
        c->uses_rope[i] = !nope || (i + 1) % nope != 0;
        c->is_moe[i] = moe && (i + 1) % every == 0;
    }
    return st;
}

static enum crl_status read_numbers(struct crl_config *c, const json_t *doc, struct crl_err *err)
{
    double eps = 1e-5, theta = 500000, scale = 0.1, factor = 16, high = 1;
    bool scaled = false;
    enum crl_status st = crl_json_get_f64(doc, "norm_eps", 0, 1, &eps, err);

    c->floor_scale = 8192;
    if (!st) st = crl_json_get_f64(doc, "rope_theta", 0, 1e12, &theta, err);
    if (!st) st = crl_json_get_bool(doc, "use_scaled_rope", &scaled, err);
    if (!st) st = crl_json_get_f64(doc, "rope_scaling_factor", 0, 1e6, &factor, err);
    if (!st) st = crl_json_get_f64(doc, "rope_high_freq_factor", 0, 1e6, &high, err);
    if (!st) st = crl_json_get_u32(doc, "attention_chunk_size", 1, INT32_MAX, &c->chunk, err);
    if (!st) st = crl_json_get_bool(doc, "use_qk_norm", &c->qk_norm, err);
    if (!st) st = crl_json_get_bool(doc, "attn_temperature_tuning", &c->temperature_tuning, err);
    if (!st) st = crl_json_get_u32(doc, "floor_scale", 1, INT32_MAX, &c->floor_scale, err);
    if (!st) st = crl_json_get_f64(doc, "attn_scale", 0, 1e6, &scale, err);
    c->norm_eps = (float)eps;
    c->rope_theta = (float)theta;
    c->attn_scale = (float)scale;
    if (scaled) {
        c->rope_type = CRL_ROPE_LLAMA3;
        c->rope_factor = (float)factor;
        c->rope_low = 1;
        c->rope_high = (float)high;
        c->rope_old_ctx = 8192;
    }
    return st;
}

static enum crl_status read_params(struct crl_config *c, const json_t *doc, struct crl_notes *notes,
                                   struct crl_err *err)
{
    static const int32_t ends[] = { 200001, 200007, 200008 };
    const json_t *moe = json_object_get(doc, "moe_args"), *vision = json_object_get(doc, "vision_args");
    enum crl_status st = crl_json_get_u32(doc, "dim", 1, WIDTH_MOST, &c->d_model, err);

    if (json_is_null(moe)) moe = NULL;
    if (moe && !json_is_object(moe)) st = crl_fail(err, CRL_EFORMAT, "moe_args is not an object");
    if (!st) st = crl_json_get_u32(doc, "n_layers", 1, CRL_MAX_LAYER, &c->n_layer, err);
    if (!st) st = crl_json_get_u32(doc, "n_heads", 1, WIDTH_MOST, &c->n_head, err);
    if (st) return st;
    if (!c->d_model || !c->n_layer || !c->n_head)
        return crl_fail(err, CRL_EFORMAT, "dim, n_layers or n_heads is missing");
    c->n_kv_head = c->n_head;
    c->d_head = c->d_model / c->n_head;
    c->vocab = 202048;
    st = crl_json_get_u32(doc, "n_kv_heads", 1, WIDTH_MOST, &c->n_kv_head, err);
    if (!st) st = crl_json_get_u32(doc, "head_dim", 1, WIDTH_MOST, &c->d_head, err);
    if (!st) st = crl_json_get_u32(doc, "vocab_size", 1, 1u << 24, &c->vocab, err);
    if (!st) st = read_numbers(c, doc, err);
    if (!st) st = read_layers(c, doc, moe, err);
    if (!st) st = read_widths(c, doc, moe, err);
    if (st) return st;
    /* What params.json does not say: the released tokenizer's ids, as far as the vocabulary has them, and a
     * context. */
    c->n_ctx = 262144;
    crl_note(notes, "params.json does not say how long a context the model was trained for; %u is assumed",
             c->n_ctx);
    c->bos = c->vocab > 200000 ? 200000 : -1;
    c->pad = c->vocab > 200018 ? 200018 : -1;
    c->image_token = json_is_object(vision) && c->vocab > 200092 ? 200092 : -1;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (c->vocab > (uint32_t)ends[i]) c->eos[c->n_eos++] = ends[i];
    return crl_config_check(c, err);
}

enum crl_status crl_meta_params(struct crl_config *cfg, const char *text, size_t len, const char *what,
                                struct crl_notes *notes, struct crl_err *err)
{
    json_t *doc;
    enum crl_status st = crl_json_parse(&doc, text, len, what, err);

    if (st) return st;
    memset(cfg, 0, sizeof *cfg);
    if (!json_is_object(doc)) st = crl_fail(err, CRL_EFORMAT, "not an object");
    if (!st) st = read_params(cfg, doc, notes, err);
    if (st) crl_err_prefix(err, "%s", what);
    json_decref(doc);
    return st;
}

/* --- tensors ----------------------------------------------------------------------------------------- */

enum cut { WHOLE, BY_ROW, BY_INPUT };

#define NAME_SIZE 128

/* All pieces of a tensor, with the shape each must have. */
static enum crl_status take(struct crl_ckpt *ck, struct crl_part *p, enum cut cut, const char *name,
                            size_t n_dim, const uint64_t dim[2], struct crl_err *err)
{
    char found[CRL_ST_SHAPE_TEXT], want[CRL_ST_SHAPE_TEXT];
    struct crl_entry *e = crl_ckpt_find(ck, name);
    size_t n = 0;

    if (!e) return crl_fail(err, CRL_ENOENT, "%s: tensor %s is missing", ck->dir, name);
    while (e + n < ck->entry + ck->n_entry && strcmp(e[n].t->name, name) == 0) {
        const struct crl_st_tensor *t = e[n].t;
        if (t->type != CRL_ST_BF16 && t->type != CRL_ST_F16 && t->type != CRL_ST_F32)
            return crl_fail(err, CRL_EUNSUPPORTED, "%s: tensor %s: type %s is not read", crl_in_path(e[n].in),
                            name, t->type_name);
        if (t->type != e->t->type || t->n_dim != n_dim || memcmp(t->dim, dim, n_dim * sizeof *dim))
            return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: %s %s, but %s %s was expected",
                            crl_in_path(e[n].in), name, t->type_name,
                            crl_st_shape_text(found, sizeof found, t->n_dim, t->dim), e->t->type_name,
                            crl_st_shape_text(want, sizeof want, n_dim, dim));
        e[n++].used = true;
    }
    if (n != ck->n_file)
        return crl_fail(err, CRL_ENOENT, "%s: tensor %s is in %zu of %zu files", ck->dir, name, n,
                        ck->n_file);
    p->e = e;
    p->n_piece = cut == WHOLE ? 1 : (uint32_t)n;
    p->by_input = cut == BY_INPUT;
    return CRL_OK;
}

/* Rows or inputs must come out even over the files. */
static enum crl_status share(const struct crl_ckpt *ck, uint32_t n, const char *name, uint32_t *each,
                             struct crl_err *err)
{
    *each = n / (uint32_t)ck->n_file;
    if (n % ck->n_file == 0 && *each) return CRL_OK;
    return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: %u cannot be cut over %zu files", ck->dir, name, n,
                    ck->n_file);
}

/* [rows][inputs] of a tensor whose pieces hold `of` rows, from row `first` of each piece on. */
static enum crl_status take_linear(struct crl_ckpt *ck, struct crl_part *p, enum cut cut, uint32_t n,
                                   uint32_t k, uint32_t of, uint32_t first, const char *name,
                                   struct crl_err *err)
{
    uint64_t dim[2] = { of, k };
    uint32_t each = k;
    enum crl_status st = cut == BY_INPUT ? share(ck, k, name, &each, err) : CRL_OK;

    dim[1] = each;
    if (!st) st = take(ck, p, cut, name, 2, dim, err);
    p->n = n;
    p->k = k;
    p->stride = each;
    p->at = (uint64_t)first * each;
    return st;
}

static enum crl_status take_vector(struct crl_ckpt *ck, struct crl_part *p, uint32_t k, const char *name,
                                   struct crl_err *err)
{
    const uint64_t dim[2] = { k, 0 };
    enum crl_status st = take(ck, p, WHOLE, name, 1, dim, err);

    p->n = 1;
    p->k = k;
    p->stride = k;
    return st;
}

/* One expert of a tensor [n_expert * inputs][rows], input-major, cut by rows or inputs. */
static enum crl_status take_expert(struct crl_ckpt *ck, struct crl_part *p, enum cut cut, int32_t expert,
                                   uint32_t n, uint32_t k, const char *name, struct crl_err *err)
{
    uint32_t rows = n, inputs = k;
    enum crl_status st = share(ck, cut == BY_ROW ? n : k, name, cut == BY_ROW ? &rows : &inputs, err);
    const uint64_t dim[2] = { (uint64_t)ck->cfg.n_expert * inputs, rows };

    if (!st) st = take(ck, p, cut, name, 2, dim, err);
    p->n = n;
    p->k = k;
    p->input_major = true;
    p->stride = rows;
    p->at = (uint64_t)expert * inputs * rows;
    return st;
}

/* The rows of q, k and v of each file follow each other in one tensor. */
static enum crl_status take_qkv(struct crl_ckpt *ck, struct crl_part *p, const struct crl_weight *w,
                                const char *name, struct crl_err *err)
{
    uint32_t q = ck->cfg.n_head * ck->cfg.d_head, kv = ck->cfg.n_kv_head * ck->cfg.d_head, q1, kv1;
    enum crl_status st = share(ck, q, name, &q1, err);

    if (!st) st = share(ck, kv, name, &kv1, err);
    if (st) return st;
    return take_linear(ck, p, BY_ROW, w->n, w->k, q1 + 2 * kv1,
                       w->kind == CRL_KIND_Q   ? 0
                       : w->kind == CRL_KIND_K ? q1
                                               : q1 + kv1,
                       name, err);
}

static enum crl_status take_rows(struct crl_ckpt *ck, struct crl_part *p, uint32_t n, uint32_t k,
                                 const char *name, struct crl_err *err)
{
    uint32_t each;
    enum crl_status st = share(ck, n, name, &each, err);

    return st ? st : take_linear(ck, p, BY_ROW, n, k, each, 0, name, err);
}

static enum crl_status take_router(struct crl_ckpt *ck, struct crl_part *p, const struct crl_weight *w,
                                   const char *name, struct crl_err *err)
{
    const uint64_t dim[2] = { w->k, w->n };
    enum crl_status st = take(ck, p, WHOLE, name, 2, dim, err);

    p->n = w->n;
    p->k = w->k;
    p->input_major = true;
    p->stride = w->n;
    return st;
}

static enum crl_status take_gate_up(struct crl_ckpt *ck, struct crl_origin *o, const struct crl_weight *w,
                                    const char *layer, struct crl_err *err)
{
    char gate[NAME_SIZE], up[NAME_SIZE];
    uint32_t n = w->n_real / 2, each;
    enum crl_status st;

    switch (w->kind) {
    case CRL_KIND_EXPERT_GATE_UP:
        snprintf(gate, sizeof gate, "%sfeed_forward.experts.moe_w_in_eD_F", layer);
        snprintf(up, sizeof up, "%sfeed_forward.experts.moe_w_swiglu_eD_F", layer);
        st = take_expert(ck, &o->part[0], BY_ROW, w->expert, n, w->k, gate, err);
        return st ? st : take_expert(ck, &o->part[1], BY_ROW, w->expert, n, w->k, up, err);
    case CRL_KIND_SHARED_GATE_UP:
        snprintf(gate, sizeof gate, "%sfeed_forward.w_in_shared_FD.weight", layer);
        snprintf(up, sizeof up, "%sfeed_forward.w_swiglu_FD.weight", layer);
        st = take_rows(ck, &o->part[0], n, w->k, gate, err);
        return st ? st : take_rows(ck, &o->part[1], n, w->k, up, err);
    default: /* dense: gate rows, then up rows, in each file */
        snprintf(gate, sizeof gate, "%sfeed_forward.mlp.fc1_weight", layer);
        st = share(ck, n, gate, &each, err);
        if (!st) st = take_linear(ck, &o->part[0], BY_ROW, n, w->k, 2 * each, 0, gate, err);
        return st ? st : take_linear(ck, &o->part[1], BY_ROW, n, w->k, 2 * each, each, gate, err);
    }
}

static enum crl_status bind(struct crl_ckpt *ck, struct crl_origin *o, const struct crl_weight *w,
                            struct crl_err *err)
{
    struct crl_part *p = &o->part[0];
    char layer[40] = "", name[NAME_SIZE];

    if (w->layer >= 0) snprintf(layer, sizeof layer, "layers.%d.", (int)w->layer);
#define NAME(rest) (snprintf(name, sizeof name, "%s%s", layer, rest), name)
    switch (w->kind) {
    case CRL_KIND_EMBED:
        return take_rows(ck, p, w->n, w->k, NAME("tok_embeddings.weight"), err);
    case CRL_KIND_HEAD:
        return take_rows(ck, p, w->n, w->k, NAME("output.weight"), err);
    case CRL_KIND_FINAL_NORM:
        return take_vector(ck, p, w->k, NAME("norm.weight"), err);
    case CRL_KIND_ATTN_NORM:
        return take_vector(ck, p, w->k, NAME("attention.wqkv.layer_norm_weight"), err);
    case CRL_KIND_FFN_NORM:
        return take_vector(ck, p, w->k,
                           ck->cfg.is_moe[w->layer] ? NAME("feed_forward.norm.weight")
                                                    : NAME("feed_forward.mlp.layer_norm_weight"),
                           err);
    case CRL_KIND_ROUTER:
        return take_router(ck, p, w, NAME("feed_forward.router_DE"), err);
    case CRL_KIND_Q:
    case CRL_KIND_K:
    case CRL_KIND_V:
        return take_qkv(ck, p, w, NAME("attention.wqkv.weight"), err);
    case CRL_KIND_O:
        return take_linear(ck, p, BY_INPUT, w->n, w->k, w->n, 0, NAME("attention.wo.weight"), err);
    case CRL_KIND_SHARED_DOWN:
        return take_linear(ck, p, BY_INPUT, w->n, w->k, w->n, 0, NAME("feed_forward.w_out_shared_DF.weight"),
                           err);
    case CRL_KIND_DENSE_DOWN:
        return take_linear(ck, p, BY_INPUT, w->n, w->k, w->n, 0, NAME("feed_forward.mlp.fc2_weight"), err);
    case CRL_KIND_EXPERT_DOWN:
        return take_expert(ck, p, BY_INPUT, w->expert, w->n, w->k,
                           NAME("feed_forward.experts.moe_w_out_eF_D"), err);
    case CRL_KIND_EXPERT_GATE_UP:
    case CRL_KIND_SHARED_GATE_UP:
    case CRL_KIND_DENSE_GATE_UP:
        return take_gate_up(ck, o, w, layer, err);
    default:
        break;
    }
#undef NAME
    return crl_fail(err, CRL_EUNSUPPORTED, "%s: no tensor is known for a matrix of kind %d", ck->dir,
                    (int)w->kind);
}

/* Tables and statistics of training that no run needs. */
static bool is_idle(const char *name)
{
    static const char *const ends[] = { "rope.freqs", "gate_stats_3E", "expert_activation_DE",
                                        "running_gate_stats_3E", "global_gate_stats_3E" };
    size_t n = strlen(name);

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t m = strlen(ends[i]);
        if (n >= m && strcmp(name + n - m, ends[i]) == 0) return true;
    }
    return false;
}

static enum crl_status check_rest(struct crl_ckpt *ck, struct crl_err *err)
{
    bool vision = false;

    for (size_t i = 0; i < ck->n_entry; i++) {
        const struct crl_entry *e = &ck->entry[i];
        vision |= crl_ckpt_is_vision(e->t->name);
        if (e->used || crl_ckpt_is_vision(e->t->name) || is_idle(e->t->name)) continue;
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s has no place in this configuration",
                        crl_in_path(e->in), e->t->name);
    }
    if (vision)
        crl_note(&ck->notes, "the vision tower of original files is passed over; it is read from checkpoints in Hugging "
                             "Face layout only");
    return CRL_OK;
}

/* As for the other layout: every layer has tensors of its own, so the files bound what a configuration may
 * claim. */
static enum crl_status check_claims(const struct crl_ckpt *ck, struct crl_err *err)
{
    char name[NAME_SIZE];

    for (uint32_t i = 0; i < ck->cfg.n_layer; i++) {
        const struct crl_entry *e;
        snprintf(name, sizeof name, "layers.%u.%s", i,
                 ck->cfg.is_moe[i] ? "feed_forward.router_DE" : "attention.wqkv.weight");
        e = crl_ckpt_find(ck, name);
        if (!e) return crl_fail(err, CRL_ENOENT, "%s: tensor %s is missing", ck->dir, name);
        if (ck->cfg.is_moe[i] && (e->t->n_dim != 2 || e->t->dim[1] != ck->cfg.n_expert))
            return crl_fail(err, CRL_EFORMAT, "%s: tensor %s is not for %u experts", ck->dir, name,
                            ck->cfg.n_expert);
    }
    return CRL_OK;
}

enum crl_status crl_meta_bind(struct crl_ckpt *ck, struct crl_err *err)
{
    enum crl_status st = check_claims(ck, err);

    if (!st) st = crl_schema_build(&ck->schema, &ck->cfg, err);
    if (st) return st;
    ck->origin = crl_alloc(ck->schema->n_weight, sizeof *ck->origin);
    if (!ck->origin)
        return crl_fail(err, CRL_ENOMEM, "%s: no memory for %zu matrices", ck->dir, ck->schema->n_weight);
    for (size_t i = 0; i < ck->schema->n_weight && !st; i++)
        st = bind(ck, &ck->origin[i], &ck->schema->weight[i], err);
    return st ? st : check_rest(ck, err);
}
