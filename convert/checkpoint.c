/* checkpoint.c - folders of weight files, and the search for every matrix in them. */
#include "convert/checkpoint.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_MOST ((size_t)64 << 20)
#define SHARDS_MOST 100000

/* A tensor of the checkpoint and the file it is in. */
struct entry {
    const struct crl_st_tensor *t;
    const struct crl_st *file;
    bool used;
};

/* Where part of a matrix comes from: all of it, or its gate or up rows. Row r, input i is element
 * at + r * stride + i of the tensor, or at + i * stride + r when it is stored input-major. */
struct part {
    const struct crl_st_tensor *t;
    const struct crl_st *file;
    const struct crl_st_tensor *scale; /* NULL, one value, or one per row */
    uint64_t at, stride;
    uint32_t n; /* rows */
    bool input_major;
};

struct source {
    struct part part[2]; /* the second only for gate-up matrices */
};

struct crl_ckpt {
    char *dir;
    struct crl_config cfg;
    struct crl_notes notes;
    char quant[32]; /* quantisation method that config.json declares */
    size_t n_file;
    struct crl_st **file;
    size_t n_entry;
    struct entry *entry; /* by name */
    struct crl_schema *schema;
    struct source *source; /* [schema->n_weight] */
    char prefix[48];       /* what stands before "layers.0." in this checkpoint's names */
    float e4m3[256];       /* the values of F8_E4M3 */
};

/* --- files
 * ------------------------------------------------------------------------------------------------------ */

static int entry_by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    return strcmp(x->t->name, y->t->name);
}

static struct entry *find(const struct crl_ckpt *ck, const char *name)
{
    struct crl_st_tensor t = { .name = name };
    struct entry key = { .t = &t };

    return bsearch(&key, ck->entry, ck->n_entry, sizeof key, entry_by_name);
}

static enum crl_status open_single(struct crl_ckpt *ck, const char *path, struct crl_err *err)
{
    enum crl_status st;

    ck->file = crl_alloc(1, sizeof *ck->file);
    if (!ck->file) return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    st = crl_st_open(&ck->file[0], path, err);
    if (st) return st;
    ck->n_file = 1;
    ck->n_entry = crl_st_count(ck->file[0]);
    ck->entry = crl_alloc(ck->n_entry, sizeof *ck->entry);
    if (!ck->entry) return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    for (size_t i = 0; i < ck->n_entry; i++)
        ck->entry[i] = (struct entry){ crl_st_at(ck->file[0], i), ck->file[0], false };
    qsort(ck->entry, ck->n_entry, sizeof *ck->entry, entry_by_name);
    return CRL_OK;
}

/* Shards lie beside their index: a name that leads elsewhere is a mistake or an attack. */
static bool plain_name(const char *name)
{
    return name[0] && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/') && !strchr(name, '\\');
}

static enum crl_status open_shard(struct crl_ckpt *ck, const char *name, size_t *cap,
                                  const struct crl_st **out, const char *index, struct crl_err *err)
{
    char *path = crl_path_join(ck->dir, name);
    void *list = ck->file;
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!path) return crl_fail(err, CRL_ENOMEM, "%s: no memory", index);
    for (size_t i = 0; i < ck->n_file && !*out; i++)
        if (strcmp(crl_st_path(ck->file[i]), path) == 0) *out = ck->file[i];
    if (!*out) {
        if (!crl_file_exists(path))
            st = crl_fail(err, CRL_ENOENT, "%s names %s, which is not there", index, name);
        if (!st) st = crl_grow(&list, cap, ck->n_file + 1, sizeof *ck->file, SHARDS_MOST, err);
        ck->file = list;
        if (!st) st = crl_st_open(&ck->file[ck->n_file], path, err);
        if (!st) *out = ck->file[ck->n_file++];
    }
    crl_free(path);
    return st;
}

static enum crl_status open_index(struct crl_ckpt *ck, const char *path, struct crl_err *err)
{
    size_t cap = 0;
    const struct crl_st *last = NULL;
    const char *name, *last_name = "";
    json_t *doc, *map, *value;
    enum crl_status st = crl_json_read(&doc, path, err);

    if (st) return st;
    map = json_object_get(doc, "weight_map");
    if (json_object_size(map) == 0)
        st = crl_fail(err, CRL_EFORMAT, "%s: weight_map is missing or empty", path);
    if (!st) {
        ck->entry = crl_alloc(json_object_size(map), sizeof *ck->entry);
        if (!ck->entry) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    }
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        const struct crl_st_tensor *t;
        if (st) break;
        if (!file || strlen(file) != json_string_length(value) || !plain_name(file)) {
            st = crl_fail(err, CRL_EFORMAT, "%s: tensor %s: \"%s\" is not the name of a file in this folder",
                          path, name, file ? file : "(not a string)");
            break;
        }
        if (strcmp(file, last_name)) st = open_shard(ck, file, &cap, &last, path, err);
        if (st) break;
        last_name = file;
        t = crl_st_find(last, name);
        if (!t) st = crl_fail(err, CRL_ENOENT, "%s: tensor %s is not in %s", path, name, crl_st_path(last));
        else ck->entry[ck->n_entry++] = (struct entry){ t, last, false };
    }
    json_decref(doc);
    if (!st) qsort(ck->entry, ck->n_entry, sizeof *ck->entry, entry_by_name);
    return st;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static enum crl_status nothing_here(const struct crl_ckpt *ck, struct crl_err *err)
{
    char *meta = crl_path_join(ck->dir, "consolidated.00.pth");
    bool is_meta = meta && crl_file_exists(meta);

    crl_free(meta);
    if (is_meta)
        return crl_fail(err, CRL_EUNSUPPORTED,
                        "%s: Meta's own format (consolidated.00.pth) is not read yet; a checkpoint "
                        "in Hugging Face layout is needed",
                        ck->dir);
    return crl_fail(err, CRL_ENOENT,
                    "%s: neither model.safetensors nor model.safetensors.index.json is there", ck->dir);
}

/* A folder is searched as the library that wrote it does: the single file first. */
static enum crl_status open_files(struct crl_ckpt *ck, const char *path, bool is_dir, struct crl_err *err)
{
    char *one = is_dir ? crl_path_join(path, "model.safetensors") : crl_strdup(path);
    char *index = is_dir ? crl_path_join(path, "model.safetensors.index.json") : crl_strdup(path);
    enum crl_status st;

    if (!one || !index) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    else if (ends_with(one, ".safetensors") && crl_file_exists(one)) st = open_single(ck, one, err);
    else if (ends_with(index, ".json") && crl_file_exists(index)) st = open_index(ck, index, err);
    else st = nothing_here(ck, err);
    crl_free(one);
    crl_free(index);
    return st;
}

static enum crl_status read_configs(struct crl_ckpt *ck, struct crl_err *err)
{
    char *path = crl_path_join(ck->dir, "config.json"),
         *gen = crl_path_join(ck->dir, "generation_config.json");
    char *text = NULL;
    size_t len;
    enum crl_status st;

    if (!path || !gen) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);
    else st = crl_file_read(&text, &len, path, JSON_MOST, err);
    if (!st) st = crl_hfconfig_parse(&ck->cfg, text, len, path, ck->quant, &ck->notes, err);
    crl_free(text);
    text = NULL;
    if (!st && crl_file_exists(gen)) {
        st = crl_file_read(&text, &len, gen, JSON_MOST, err);
        if (!st) st = crl_hfgeneration_parse(&ck->cfg, text, len, gen, err);
        crl_free(text);
    }
    crl_free(path);
    crl_free(gen);
    return st;
}

/* --- names
 * ------------------------------------------------------------------------------------------------------ */

static const char *const prefixes[] = { "language_model.model.", "model.", "model.language_model.", "" };

static bool is_vision(const char *name)
{
    static const char *const starts[] = { "vision_model.", "multi_modal_projector.", "model.vision_model.",
                                          "model.multi_modal_projector." };

    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0) return true;
    return false;
}

/* Tensors that some writers leave in and no text run needs. */
static bool is_idle(const char *name)
{
    return ends_with(name, ".rotary_emb.inv_freq") || ends_with(name, ".input_scale") ||
           ends_with(name, "._extra_state");
}

static enum crl_status find_prefix(struct crl_ckpt *ck, struct crl_err *err)
{
    char name[96];

    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        snprintf(name, sizeof name, "%sembed_tokens.weight", prefixes[i]);
        if (!find(ck, name)) continue;
        snprintf(ck->prefix, sizeof ck->prefix, "%s", prefixes[i]);
        return CRL_OK;
    }
    return crl_fail(err, CRL_ENOENT,
                    "%s: tensor %sembed_tokens.weight is missing, also under the other prefixes of "
                    "Llama 4 checkpoints",
                    ck->dir, prefixes[0]);
}

/* The part's tensor by full name; the sentence about a missing one mentions what may be the reason. */
static enum crl_status take(struct crl_ckpt *ck, struct part *p, const char *name, struct crl_err *err)
{
    struct entry *e = find(ck, name);

    if (!e)
        return crl_fail(err, CRL_ENOENT, "%s: tensor %s is missing%s%s%s", ck->dir, name,
                        ck->quant[0] ? " (config.json says it is quantised by " : "", ck->quant,
                        ck->quant[0] ? ")" : "");
    e->used = true;
    p->t = e->t;
    p->file = e->file;
    return CRL_OK;
}

static enum crl_status check_shape(const struct part *p, size_t n_dim, const uint64_t *dim,
                                   struct crl_err *err)
{
    char found[CRL_ST_SHAPE_TEXT], want[CRL_ST_SHAPE_TEXT];

    if (p->t->n_dim == n_dim && memcmp(p->t->dim, dim, n_dim * sizeof *dim) == 0) return CRL_OK;
    return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: shape %s, but the configuration asks for %s",
                    crl_st_path(p->file), p->t->name,
                    crl_st_shape_text(found, sizeof found, p->t->n_dim, p->t->dim),
                    crl_st_shape_text(want, sizeof want, n_dim, dim));
}

/* F8 tensors need "weight_scale" beside "weight": one value per row, as [n], [n][1], or one for all. */
static enum crl_status take_scale(struct crl_ckpt *ck, struct part *p, struct crl_err *err)
{
    char name[512], shape[CRL_ST_SHAPE_TEXT];
    struct part s = { 0 };
    enum crl_status st;
    uint64_t count = 1;

    if (p->t->type != CRL_ST_F8_E4M3) return CRL_OK;
    snprintf(name, sizeof name, "%s_scale", p->t->name);
    st = take(ck, &s, name, err);
    if (st) return st;
    if (s.t->type == CRL_ST_OTHER || s.t->type == CRL_ST_F8_E4M3)
        return crl_fail(err, CRL_EUNSUPPORTED, "%s: tensor %s: scales of type %s are not read",
                        crl_st_path(s.file), name, s.t->type_name);
    for (size_t i = 0; i < s.t->n_dim && i < CRL_ST_DIMS; i++) count *= s.t->dim[i] <= p->n ? s.t->dim[i] : 0;
    if (count == 1 || (s.t->n_dim <= 2 && s.t->n_dim && s.t->dim[0] == p->n && count == p->n)) {
        p->scale = s.t;
        return CRL_OK;
    }
    return crl_fail(err, CRL_EUNSUPPORTED,
                    "%s: tensor %s: shape %s, only one scale per row ([%u, 1]) is read", crl_st_path(s.file),
                    name, crl_st_shape_text(shape, sizeof shape, s.t->n_dim, s.t->dim), p->n);
}

static enum crl_status check_type(const struct part *p, struct crl_err *err)
{
    if (p->t->type != CRL_ST_OTHER) return CRL_OK;
    return crl_fail(err, CRL_EUNSUPPORTED,
                    "%s: tensor %s: type %s is not read (BF16, F16, F32 and F8_E4M3 are)",
                    crl_st_path(p->file), p->t->name, p->t->type_name);
}

/* An ordinary linear: [n][k], the whole tensor. */
static enum crl_status take_linear(struct crl_ckpt *ck, struct part *p, uint32_t n, uint32_t k,
                                   const char *name, struct crl_err *err)
{
    const uint64_t dim[2] = { n, k };
    enum crl_status st = take(ck, p, name, err);

    p->n = n;
    p->stride = k;
    if (!st) st = check_type(p, err);
    if (!st) st = check_shape(p, 2, dim, err);
    if (!st) st = take_scale(ck, p, err);
    return st;
}

static enum crl_status take_vector(struct crl_ckpt *ck, struct part *p, uint32_t k, const char *name,
                                   struct crl_err *err)
{
    const uint64_t dim[1] = { k };
    enum crl_status st = take(ck, p, name, err);

    p->n = 1;
    p->stride = k;
    if (!st && p->t->type == CRL_ST_F8_E4M3)
        st = crl_fail(err, CRL_EUNSUPPORTED, "%s: tensor %s: type F8_E4M3 is read for matrices only",
                      crl_st_path(p->file), name);
    if (!st) st = check_type(p, err);
    if (!st) st = check_shape(p, 1, dim, err);
    return st;
}

/* One expert's slice of a stacked tensor [n_expert][a][b]. */
static enum crl_status take_slice(struct crl_ckpt *ck, struct part *p, const struct crl_weight *w, uint64_t a,
                                  uint64_t b, const char *name, struct crl_err *err)
{
    const uint64_t dim[3] = { ck->cfg.n_expert, a, b };
    enum crl_status st = take(ck, p, name, err);

    p->at = (uint64_t)w->expert * a * b; /* below the tensor's size once the shape is right */
    p->stride = b;
    if (!st) st = check_type(p, err);
    if (!st) st = check_shape(p, 3, dim, err);
    if (!st && p->t->type == CRL_ST_F8_E4M3)
        st = crl_fail(err, CRL_EUNSUPPORTED, "%s: tensor %s: F8_E4M3 is read from one tensor per expert only",
                      crl_st_path(p->file), name);
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

    return find(ck, layer_name(ck, name, layer, rest)) != NULL;
}

static enum crl_status take_layer_linear(struct crl_ckpt *ck, struct part *p, const struct crl_weight *w,
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
    if (has(ck, layer, "feed_forward.experts.0.gate_proj.weight")) return PER_EXPERT;
    if (has(ck, layer, "feed_forward.experts.gate_projs.0.weight")) return PLURAL;
    if (has(ck, layer, "feed_forward.experts.gate_proj.weight")) return STACKED;
    return FUSED; /* the ordinary form is the one to miss */
}

/* One projection of a routed expert: which = "gate", "up" or "down", n rows of k inputs. */
static enum crl_status take_expert(struct crl_ckpt *ck, struct part *p, const struct crl_weight *w,
                                   const char *which, uint32_t n, uint32_t k, struct crl_err *err)
{
    char rest[128], name[NAME_SIZE];
    enum crl_status st;

    p->n = n;
    switch (expert_form(ck, w->layer)) {
    case PER_EXPERT:
        snprintf(rest, sizeof rest, "feed_forward.experts.%d.%s_proj.weight", w->expert, which);
        return take_layer_linear(ck, p, w, n, k, rest, err);
    case PLURAL:
        snprintf(rest, sizeof rest, "feed_forward.experts.%s_projs.%d.weight", which, w->expert);
        return take_layer_linear(ck, p, w, n, k, rest, err);
    case STACKED:
        snprintf(rest, sizeof rest, "feed_forward.experts.%s_proj.weight", which);
        return take_slice(ck, p, w, n, k, layer_name(ck, name, w->layer, rest), err);
    case FUSED:
        break;
    }
    p->input_major = true;
    if (which[0] == 'd')
        return take_slice(ck, p, w, k, n, layer_name(ck, name, w->layer, "feed_forward.experts.down_proj"),
                          err);
    st = take_slice(ck, p, w, k, 2 * (uint64_t)n,
                    layer_name(ck, name, w->layer, "feed_forward.experts.gate_up_proj"), err);
    if (which[0] == 'u') p->at += n; /* the first half of the columns is gate, the second up */
    return st;
}

static enum crl_status take_head(struct crl_ckpt *ck, struct part *p, const struct crl_weight *w,
                                 struct crl_err *err)
{
    static const char *const names[] = { "language_model.lm_head.weight", "lm_head.weight",
                                         "model.lm_head.weight", "model.language_model.lm_head.weight" };
    size_t first = strncmp(ck->prefix, "language_model.", 15) == 0 ? 0 : 1;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (find(ck, names[i])) return take_linear(ck, p, w->n, w->k, names[i], err);
    return crl_fail(err, CRL_ENOENT, "%s: tensor %s is missing, and tie_word_embeddings is not true", ck->dir,
                    names[first]);
}

static enum crl_status take_top(struct crl_ckpt *ck, struct part *p, const struct crl_weight *w,
                                const char *rest, struct crl_err *err)
{
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%s%s", ck->prefix, rest);
    return w->kind == CRL_KIND_EMBED ? take_linear(ck, p, w->n, w->k, name, err)
                                     : take_vector(ck, p, w->k, name, err);
}

static enum crl_status take_gate_up(struct crl_ckpt *ck, struct source *s, const struct crl_weight *w,
                                    const char *gate, const char *up, struct crl_err *err)
{
    uint32_t half = w->n_real / 2;
    enum crl_status st = take_layer_linear(ck, &s->part[0], w, half, w->k, gate, err);

    if (!st) st = take_layer_linear(ck, &s->part[1], w, half, w->k, up, err);
    return st;
}

static enum crl_status bind(struct crl_ckpt *ck, struct source *s, const struct crl_weight *w,
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
    struct part *p = &s->part[0];
    char name[NAME_SIZE];
    enum crl_status st;

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
    }
    return crl_fail(err, CRL_EUNSUPPORTED, "%s: no tensor is known for a matrix of kind %d", ck->dir,
                    (int)w->kind);
}

/* What no matrix asked for. A head beside tie_word_embeddings is a copy of the table, as the library that
 * ties takes it to be. */
static enum crl_status check_rest(struct crl_ckpt *ck, struct crl_err *err)
{
    bool vision = false;

    for (size_t i = 0; i < ck->n_entry; i++) {
        const char *name = ck->entry[i].t->name;
        vision |= is_vision(name);
        if (ck->entry[i].used || is_vision(name) || is_idle(name)) continue;
        if (ck->cfg.tied && ends_with(name, "lm_head.weight")) {
            crl_note(&ck->notes, "tensor %s is passed over: tie_word_embeddings is true", name);
            continue;
        }
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s has no place in this configuration",
                        crl_st_path(ck->entry[i].file), name);
    }
    ck->cfg.multimodal &= vision;
    ck->schema->cfg.multimodal = ck->cfg.multimodal;
    return CRL_OK;
}

/* A configuration may claim more layers and experts than memory has room to list. Every layer has tensors of
 * its own and every mixture a router with a row per expert, so the files bound both. */
static enum crl_status check_claims(struct crl_ckpt *ck, struct crl_err *err)
{
    struct part p = { 0 };
    struct crl_weight w = { .kind = CRL_KIND_ROUTER };
    enum crl_status st = CRL_OK;

    for (uint32_t i = 0; i < ck->cfg.n_layer && !st; i++) {
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

static enum crl_status bind_all(struct crl_ckpt *ck, struct crl_err *err)
{
    enum crl_status st = check_claims(ck, err);

    if (st) return st;
    st = crl_schema_build(&ck->schema, &ck->cfg, err);
    if (st) return st;
    ck->source = crl_alloc(ck->schema->n_weight, sizeof *ck->source);
    if (!ck->source)
        return crl_fail(err, CRL_ENOMEM, "%s: no memory for %zu matrices", ck->dir, ck->schema->n_weight);
    for (size_t i = 0; i < ck->schema->n_weight && !st; i++)
        st = bind(ck, &ck->source[i], &ck->schema->weight[i], err);
    return st ? st : check_rest(ck, err);
}

/* --- the object
 * ------------------------------------------------------------------------------------------------- */

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash) return crl_strdup(".");
    return crl_memdup0(path, slash == path ? 1 : (size_t)(slash - path));
}

enum crl_status crl_ckpt_open(struct crl_ckpt **out, const char *path, struct crl_err *err)
{
    struct crl_ckpt *ck = crl_alloc(1, sizeof *ck);
    bool is_dir = crl_file_is_dir(path);
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!ck) return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    for (unsigned i = 0; i < 256; i++) ck->e4m3[i] = crl_e4m3_to_f32((uint8_t)i);
    ck->dir = is_dir ? crl_strdup(path) : folder_of(path);
    if (!ck->dir) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    if (!st && !is_dir && !crl_file_exists(path))
        st = crl_fail(err, CRL_ENOENT, "%s: no such file or folder", path);
    if (!st && !is_dir && !ends_with(path, ".safetensors") && !ends_with(path, ".index.json"))
        st = crl_fail(err, CRL_EUNSUPPORTED, "%s: neither a checkpoint folder nor a .safetensors file", path);
    if (!st) st = read_configs(ck, err);
    if (!st) st = open_files(ck, path, is_dir, err);
    if (!st) st = find_prefix(ck, err);
    if (!st) st = bind_all(ck, err);
    if (st) {
        crl_ckpt_close(ck);
        ck = NULL;
    }
    *out = ck;
    return st;
}

void crl_ckpt_close(struct crl_ckpt *ck)
{
    if (!ck) return;
    crl_free(ck->source);
    crl_schema_free(ck->schema);
    crl_free(ck->entry);
    for (size_t i = 0; i < ck->n_file; i++) crl_st_close(ck->file[i]);
    crl_free(ck->file);
    crl_free(ck->dir);
    crl_free(ck);
}

const char *crl_ckpt_dir(const struct crl_ckpt *ck)
{
    return ck->dir;
}

const struct crl_config *crl_ckpt_config(const struct crl_ckpt *ck)
{
    return &ck->cfg;
}

const struct crl_schema *crl_ckpt_schema(const struct crl_ckpt *ck)
{
    return ck->schema;
}

const struct crl_notes *crl_ckpt_notes(const struct crl_ckpt *ck)
{
    return &ck->notes;
}

void crl_ckpt_facts(const struct crl_ckpt *ck, struct crl_ckpt_facts *f)
{
    memset(f, 0, sizeof *f);
    f->n_file = ck->n_file;
    f->n_tensor = ck->n_entry;
    for (size_t i = 0; i < ck->n_entry; i++) {
        const struct crl_st_tensor *t = ck->entry[i].t;
        f->bytes += t->bytes;
        if (is_vision(t->name)) {
            f->n_vision++;
            f->vision_bytes += t->bytes;
        } else {
            f->type_bytes[t->type] += t->bytes;
        }
    }
}

const struct crl_st_tensor *crl_ckpt_tensor(const struct crl_ckpt *ck, size_t i, const char **file)
{
    if (file) *file = crl_st_path(ck->entry[i].file);
    return ck->entry[i].t;
}

const struct crl_st_tensor *crl_ckpt_origin(const struct crl_ckpt *ck, size_t weight, unsigned half,
                                            const char **file)
{
    const struct part *p = &ck->source[weight].part[half];

    if (file) *file = crl_st_path(p->file);
    return p->t;
}

/* --- rows
 * ------------------------------------------------------------------------------------------------------- */

bool crl_weight_is_gate_up(const struct crl_weight *w)
{
    return w->kind == CRL_KIND_EXPERT_GATE_UP || w->kind == CRL_KIND_SHARED_GATE_UP ||
           w->kind == CRL_KIND_DENSE_GATE_UP;
}

bool crl_weight_has_row(const struct crl_weight *w, size_t row)
{
    size_t panel = row / CRL_PANEL_ROWS;

    if (!crl_weight_is_gate_up(w)) return row < w->n_real;
    return panel / 2 * CRL_PANEL_ROWS + row % CRL_PANEL_ROWS < w->n_real / 2;
}

static void widen(const struct crl_ckpt *ck, float *out, const unsigned char *p, size_t n,
                  enum crl_st_type type)
{
    switch (type) {
    case CRL_ST_BF16:
        for (size_t i = 0; i < n; i++) out[i] = crl_bf16_to_f32(crl_le16(p + 2 * i));
        break;
    case CRL_ST_F16:
        for (size_t i = 0; i < n; i++) out[i] = crl_f16_to_f32(crl_le16(p + 2 * i));
        break;
    case CRL_ST_F32:
        for (size_t i = 0; i < n; i++) out[i] = crl_f32_from_bits(crl_le32(p + 4 * i));
        break;
    case CRL_ST_F8_E4M3:
        for (size_t i = 0; i < n; i++) out[i] = ck->e4m3[p[i]];
        break;
    case CRL_ST_OTHER:
        break; /* refused at open */
    }
}

static float scale_of(const struct crl_ckpt *ck, const struct part *p, uint64_t row)
{
    size_t size = crl_st_type_bytes(p->scale->type);
    float s = 0;

    widen(ck, &s, p->scale->data + (p->scale->bytes == size ? 0 : row * size), 1, p->scale->type);
    return s;
}

/* Rows [lo, hi) of a part; row r goes to out + place(r) * k, where panels of the part are `spread` panels
 * apart. */
static size_t place(size_t r, size_t lo, size_t spread)
{
    size_t panel = r / CRL_PANEL_ROWS - lo / CRL_PANEL_ROWS;

    return panel * spread * CRL_PANEL_ROWS + r % CRL_PANEL_ROWS;
}

static void read_rows(const struct crl_ckpt *ck, const struct part *p, size_t lo, size_t hi, size_t k,
                      size_t spread, float *out)
{
    size_t size = crl_st_type_bytes(p->t->type);

    for (size_t r = lo; r < hi; r++) {
        float *to = out + place(r, lo, spread) * k;
        widen(ck, to, p->t->data + (p->at + r * p->stride) * size, k, p->t->type);
        if (p->scale) {
            float s = scale_of(ck, p, r);
            for (size_t i = 0; i < k; i++) to[i] *= s;
        }
    }
}

/* Input-major: the rows wanted are columns there. Tiles of 16 inputs by 64 rows are widened into a small
 * buffer and leave it row by row, so that both sides are touched in whole cache lines. */
#define TILE_INPUTS 16
#define TILE_ROWS 64

static void read_columns(const struct crl_ckpt *ck, const struct part *p, size_t lo, size_t hi, size_t k,
                         size_t spread, float *out)
{
    size_t size = crl_st_type_bytes(p->t->type);
    float tile[TILE_INPUTS][TILE_ROWS];

    for (size_t r = lo; r < hi; r += TILE_ROWS) {
        size_t n = hi - r < TILE_ROWS ? hi - r : TILE_ROWS;
        for (size_t i = 0; i < k; i += TILE_INPUTS) {
            size_t m = k - i < TILE_INPUTS ? k - i : TILE_INPUTS;
            for (size_t a = 0; a < m; a++)
                widen(ck, tile[a], p->t->data + (p->at + (i + a) * p->stride + r) * size, n, p->t->type);
            for (size_t b = 0; b < n; b++) {
                float *to = out + place(r + b, lo, spread) * k + i;
                for (size_t a = 0; a < m; a++) to[a] = tile[a][b];
            }
        }
    }
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

void crl_ckpt_read(const struct crl_ckpt *ck, size_t weight, size_t panel, size_t n_panel, float *rows)
{
    const struct crl_weight *w = &ck->schema->weight[weight];
    const struct source *s = &ck->source[weight];
    size_t spread = crl_weight_is_gate_up(w) ? 2 : 1, k = w->k;

    for (size_t r = 0; r < n_panel * CRL_PANEL_ROWS; r++)
        if (!crl_weight_has_row(w, panel * CRL_PANEL_ROWS + r)) memset(rows + r * k, 0, k * sizeof *rows);
    for (size_t part = 0; part < spread; part++) {
        const struct part *p = &s->part[part];
        size_t lo = least(panel / spread * CRL_PANEL_ROWS, p->n);
        size_t hi = least((panel + n_panel) / spread * CRL_PANEL_ROWS, p->n);
        float *out = rows + part * CRL_PANEL_ROWS * k;
        if (p->input_major) read_columns(ck, p, lo, hi, k, spread, out);
        else read_rows(ck, p, lo, hi, k, spread, out);
    }
}

void crl_ckpt_forget(const struct crl_ckpt *ck, size_t weight)
{
    const struct crl_weight *w = &ck->schema->weight[weight];

    for (size_t i = 0; i < 2; i++) {
        const struct part *p = &ck->source[weight].part[i];
        size_t size;
        if (!p->t || !p->t->data) continue;
        size = crl_st_type_bytes(p->t->type);
        crl_st_forget(p->t->data + p->at * size, ((p->input_major ? w->k : p->n) - 1) * p->stride * size);
    }
}
