/* export.c - dequantised tensors written to shards. */
#define _GNU_SOURCE
#include "convert/export.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "convert/crew.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SHARD_DEFAULT ((uint64_t)5000000000)
#define SLICE ((size_t)32 << 20) /* bytes of a slice of rows; experts are written one by one */
#define NAME_SIZE 128

/* How rows of packed matrices make a tensor. */
enum form { VECTOR, LINEAR, GATE, UP, FUSED_GATE_UP, FUSED_DOWN };

struct tensor {
    char name[NAME_SIZE];
    enum form form;
    size_t weight; /* the matrix, of the first expert for fused ones */
    uint64_t dim[3];
    size_t n_dim;
    uint64_t bytes;
    size_t shard;
    uint64_t offset; /* in the data of its shard */
};

struct export
{
    const struct crl_pack *pack;
    const struct crl_export_options *opt;
    struct crl_team *team;
    size_t n, cap;
    struct tensor *tensor;
    size_t n_shard;
    uint64_t bytes, done;
    struct crl_out *out; /* the shard at hand */
    uint64_t data_at;    /* where its data begin */
    float **scratch;     /* [members][k] */
    unsigned char *buf;  /* one slice */
    /* what fill() works on */
    struct crl_mat mat;
    const struct tensor *t;
    size_t lo, hi; /* rows of the tensor (of the packed matrix for fused ones) */
};

/* --- the list ---------------------------------------------------------------------------------------- */

static enum crl_status add(struct export *x, enum form form, size_t weight, const char *name, size_t n_dim,
                           uint64_t a, uint64_t b, uint64_t c, struct crl_err *err)
{
    void *list = x->tensor;
    struct tensor *t;
    enum crl_status st = crl_grow(&list, &x->cap, x->n + 1, sizeof *x->tensor, (size_t)1 << 24, err);

    x->tensor = list;
    if (st) return st;
    t = &x->tensor[x->n++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->form = form;
    t->weight = weight;
    t->n_dim = n_dim;
    t->dim[0] = a;
    t->dim[1] = b;
    t->dim[2] = c;
    t->bytes = 2 * a * (n_dim > 1 ? b : 1) * (n_dim > 2 ? c : 1);
    x->bytes += t->bytes;
    return CRL_OK;
}

/* "...gate_up_proj.weight" holds two linears of the checkpoint. */
static enum crl_status add_gate_up(struct export *x, size_t i, const struct crl_weight *w, const char *packed,
                                   struct crl_err *err)
{
    int stem = (int)(strstr(packed, "gate_up_proj") - packed);
    char name[NAME_SIZE];
    enum crl_status st;

    snprintf(name, sizeof name, "%.*sgate_proj.weight", stem, packed);
    st = add(x, GATE, i, name, 2, w->n_real / 2, w->k, 0, err);
    snprintf(name, sizeof name, "%.*sup_proj.weight", stem, packed);
    return st ? st : add(x, UP, i, name, 2, w->n_real / 2, w->k, 0, err);
}

static enum crl_status add_weight(struct export *x, size_t i, const struct crl_weight *w, struct crl_err *err)
{
    uint32_t n_expert = crl_pack_config(x->pack)->n_expert;
    char packed[CRL_NAME_MAX], name[NAME_SIZE];

    crl_weight_name(w, packed);
    switch (w->kind) {
    case CRL_KIND_SHARED_GATE_UP:
    case CRL_KIND_DENSE_GATE_UP:
        return add_gate_up(x, i, w, packed, err);
    case CRL_KIND_EXPERT_GATE_UP:
        snprintf(name, sizeof name, "model.layers.%d.feed_forward.experts.gate_up_proj", (int)w->layer);
        return w->expert ? CRL_OK : add(x, FUSED_GATE_UP, i, name, 3, n_expert, w->k, w->n_real, err);
    case CRL_KIND_EXPERT_DOWN:
        snprintf(name, sizeof name, "model.layers.%d.feed_forward.experts.down_proj", (int)w->layer);
        return w->expert ? CRL_OK : add(x, FUSED_DOWN, i, name, 3, n_expert, w->k, w->n, err);
    default:
        if (crl_kind_takes(w->kind, CRL_F32)) return add(x, VECTOR, i, packed, 1, w->k, 0, 0, err);
        return add(x, LINEAR, i, packed, 2, w->n, w->k, 0, err);
    }
}

static enum crl_status make_list(struct export *x, bool *vision, struct crl_err *err)
{
    const struct crl_schema *s = crl_pack_schema(x->pack);
    uint64_t most = x->opt->shard_bytes ? x->opt->shard_bytes : SHARD_DEFAULT, at = 0;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < s->n_weight && !st; i++) {
        if (crl_kind_is_vision(s->weight[i].kind)) *vision = true;
        else st = add_weight(x, i, &s->weight[i], err);
    }
    for (size_t i = 0; i < x->n && !st; i++) {
        struct tensor *t = &x->tensor[i];
        if (at && (at > most || t->bytes > most - at)) {
            x->n_shard++;
            at = 0;
        }
        t->shard = x->n_shard;
        t->offset = at;
        at += t->bytes;
    }
    x->n_shard++;
    return st;
}

/* --- the data ---------------------------------------------------------------------------------------- */

static void put_row(unsigned char *to, const float *x, size_t n, size_t step)
{
    for (size_t i = 0; i < n; i++) crl_put_le16(to + i * step, crl_bf16_from_f32(x[i]));
}

/* Row of the packed matrix that holds row r of the tensor. */
static size_t packed_row(enum form form, size_t r)
{
    return form == GATE ? crl_gate_row(r) : form == UP ? crl_up_row(r) : r;
}

/* 16 rows at a time: beside each other in the slice, or as columns of an expert. */
static void fill(size_t i, unsigned member, void *ctx)
{
    struct export *x = ctx;
    const struct tensor *t = x->t;
    size_t k = x->mat.k, end = x->lo + (i + 1) * CRL_PANEL_ROWS;
    float *row = x->scratch[member];

    if (end > x->hi) end = x->hi;
    for (size_t r = x->lo + i * CRL_PANEL_ROWS; r < end; r++) {
        crl_mat_row(&x->mat,
                    t->form == FUSED_GATE_UP && r >= t->dim[2] / 2
                        ? crl_up_row(r - t->dim[2] / 2)
                        : packed_row(t->form == FUSED_GATE_UP ? GATE : t->form, r),
                    row);
        if (t->n_dim == 3) put_row(x->buf + 2 * r, row, k, 2 * (size_t)t->dim[2]);
        else put_row(x->buf + 2 * (r - x->lo) * k, row, k, 2);
    }
}

/* Rows [lo, hi) of the bound matrix to the file at `offset` of the tensor. */
static enum crl_status write_slice(struct export *x, const struct tensor *t, size_t lo, size_t hi,
                                   uint64_t offset, struct crl_err *err)
{
    size_t bytes = 2 * (hi - lo) * x->mat.k;
    enum crl_status st;

    x->t = t;
    x->lo = lo;
    x->hi = hi;
    crl_team_each(x->team, (hi - lo + CRL_PANEL_ROWS - 1) / CRL_PANEL_ROWS, fill, x);
    st = crl_out_write(x->out, x->data_at + t->offset + offset, x->buf, bytes, err);
    x->done += bytes;
    if (!st && x->opt->progress && !x->opt->progress(x->opt->ctx, x->done, x->bytes))
        st = crl_fail(err, CRL_EINTR, "stopped before the end");
    return st;
}

static enum crl_status write_tensor(struct export *x, const struct tensor *t, struct crl_err *err)
{
    const struct crl_schema *s = crl_pack_schema(x->pack);
    const struct crl_weight *w = &s->weight[t->weight];
    size_t rows = t->n_dim == 3 ? (size_t)t->dim[2] : t->n_dim == 2 ? (size_t)t->dim[0] : 1;
    size_t each = SLICE / (2 * (size_t)w->k) / CRL_PANEL_ROWS * CRL_PANEL_ROWS;
    enum crl_status st = CRL_OK;

    if (t->n_dim == 3) {
        for (uint32_t e = 0; e < t->dim[0] && !st; e++) {
            size_t i = crl_schema_find(s, w->kind, (uint32_t)w->layer, e);
            crl_pack_mat(x->pack, i, &x->mat);
            st = write_slice(x, t, 0, rows, 2 * (uint64_t)e * rows * w->k, err);
        }
        return st;
    }
    crl_pack_mat(x->pack, t->weight, &x->mat);
    if (!each) each = CRL_PANEL_ROWS;
    for (size_t r = 0; r < rows && !st; r += each)
        st = write_slice(x, t, r, rows - r < each ? rows : r + each, 2 * (uint64_t)r * w->k, err);
    return st;
}

static enum crl_status make_room(struct export *x, struct crl_err *err)
{
    size_t most = SLICE, row = 0;

    for (size_t i = 0; i < x->n; i++) {
        const struct tensor *t = &x->tensor[i];
        size_t k = crl_pack_schema(x->pack)->weight[t->weight].k;
        if (k > row) row = k;
        if (2 * k * CRL_PANEL_ROWS > most) most = 2 * k * CRL_PANEL_ROWS;
        if (t->n_dim == 3 && 2 * t->dim[1] * t->dim[2] > most) most = (size_t)(2 * t->dim[1] * t->dim[2]);
    }
    x->buf = crl_alloc(most, 1);
    x->scratch = crl_alloc(crl_team_size(x->team), sizeof *x->scratch);
    for (unsigned i = 0; x->scratch && i < crl_team_size(x->team); i++)
        if (!(x->scratch[i] = crl_alloc(row, sizeof(float))))
            return crl_fail(err, CRL_ENOMEM, "no memory for a row");
    return x->buf && x->scratch ? CRL_OK
                                : crl_fail(err, CRL_ENOMEM, "no memory for %zu bytes of a tensor", most);
}

/* --- files ------------------------------------------------------------------------------------------- */

static void shard_name(const struct export *x, size_t shard, char name[64])
{
    if (x->n_shard == 1) snprintf(name, 64, "model.safetensors");
    else snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", shard + 1, x->n_shard);
}

static char *header_text(const struct export *x, size_t shard)
{
    json_t *doc = json_object();
    char *text = NULL;
    bool good = doc && !json_object_set_new(doc, "__metadata__", json_pack("{s:s}", "format", "pt"));

    for (size_t i = 0; i < x->n && good; i++) {
        const struct tensor *t = &x->tensor[i];
        json_t *shape;
        if (t->shard != shard) continue;
        shape = json_array();
        for (size_t d = 0; d < t->n_dim && good; d++)
            good = !json_array_append_new(shape, json_integer((json_int_t)t->dim[d]));
        good = !json_object_set_new(doc, t->name,
                                    json_pack("{s:s, s:o, s:[I, I]}", "dtype", "BF16", "shape", shape,
                                              "data_offsets", (json_int_t)t->offset,
                                              (json_int_t)(t->offset + t->bytes))) &&
               good;
    }
    if (good) text = crl_json_text(doc);
    json_decref(doc);
    return text;
}

static enum crl_status write_shard(struct export *x, const char *folder, size_t shard, struct crl_err *err)
{
    char *text = header_text(x, shard), name[64], *path;
    size_t len = text ? strlen(text) : 0, padded = crl_round_up(len, 8);
    unsigned char start[8];
    enum crl_status st = CRL_OK;

    shard_name(x, shard, name);
    path = crl_path_join(folder, name);
    if (!text || !path) st = crl_fail(err, CRL_ENOMEM, "%s: no memory for a header", folder);
    if (!st) st = crl_out_open(&x->out, path, err);
    if (!st) {
        crl_put_le64(start, padded);
        x->data_at = 8 + padded;
        st = crl_out_write(x->out, 0, start, 8, err);
    }
    if (!st) st = crl_out_write(x->out, 8, text, len, err);
    if (!st) st = crl_out_write(x->out, 8 + len, "        ", padded - len, err);
    for (size_t i = 0; i < x->n && !st; i++)
        if (x->tensor[i].shard == shard) st = write_tensor(x, &x->tensor[i], err);
    if (!st) st = crl_out_commit(x->out, err);
    crl_out_close(x->out);
    x->out = NULL;
    crl_free(path);
    crl_free(text);
    return st;
}

static enum crl_status write_text(const char *folder, const char *name, const void *data, size_t len,
                                  struct crl_err *err)
{
    char *path = crl_path_join(folder, name);
    enum crl_status st =
        path ? crl_file_write(path, data, len, err) : crl_fail(err, CRL_ENOMEM, "%s: no memory", folder);

    crl_free(path);
    return st;
}

/* doc is released. */
static enum crl_status write_json(const char *folder, const char *name, json_t *doc, struct crl_err *err)
{
    char *text = doc ? crl_json_text(doc) : NULL;
    enum crl_status st = text ? write_text(folder, name, text, strlen(text), err)
                              : crl_fail(err, CRL_ENOMEM, "%s/%s: no memory", folder, name);

    crl_free(text);
    json_decref(doc);
    return st;
}

static enum crl_status write_index(const struct export *x, const char *folder, struct crl_err *err)
{
    json_t *map = json_object();
    char name[64];

    if (x->n_shard == 1) {
        json_decref(map);
        return CRL_OK;
    }
    for (size_t i = 0; i < x->n; i++) {
        shard_name(x, x->tensor[i].shard, name);
        json_object_set_new(map, x->tensor[i].name, json_string(name));
    }
    return write_json(
        folder, "model.safetensors.index.json",
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)x->bytes, "weight_map", map), err);
}

/* The shortest number that is the same float again. */
static json_t *real(float x)
{
    char text[32];

    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if ((float)strtod(text, NULL) == x) break;
    }
    return json_real(strtod(text, NULL));
}

static json_t *id(int32_t i)
{
    return i < 0 ? json_null() : json_integer(i);
}

static void set_lists(json_t *doc, const struct crl_config *c)
{
    json_t *rope = json_array(), *moe = json_array(), *types = json_array(), *eos = json_array();

    for (uint32_t i = 0; i < c->n_layer; i++) {
        json_array_append_new(rope, json_integer(c->uses_rope[i]));
        if (c->is_moe[i]) json_array_append_new(moe, json_integer(i));
        json_array_append_new(
            types, json_string(c->uses_rope[i] && c->chunk ? "chunked_attention" : "full_attention"));
    }
    for (uint32_t i = 0; i < c->n_eos; i++) json_array_append_new(eos, json_integer(c->eos[i]));
    json_object_set_new(doc, "no_rope_layers", rope);
    json_object_set_new(doc, "moe_layers", moe);
    json_object_set_new(doc, "layer_types", types);
    json_object_set_new(doc, "eos_token_id", c->n_eos ? eos : json_null());
    if (!c->n_eos) json_decref(eos);
}

static json_t *config_json(const struct crl_config *c)
{
    json_t *doc = json_pack("{s:[s], s:s, s:s, s:s}", "architectures", "Llama4ForCausalLM", "model_type",
                            "llama4_text", "torch_dtype", "bfloat16", "hidden_act", "silu");

    if (!doc) return NULL;
#define SET(key, value) json_object_set_new(doc, key, value)
    SET("vocab_size", json_integer(c->vocab));
    SET("hidden_size", json_integer(c->d_model));
    SET("intermediate_size", json_integer(c->d_ff ? c->d_ff : c->d_ff_dense));
    SET("intermediate_size_mlp", json_integer(c->d_ff_dense ? c->d_ff_dense : c->d_ff));
    SET("num_hidden_layers", json_integer(c->n_layer));
    SET("num_attention_heads", json_integer(c->n_head));
    SET("num_key_value_heads", json_integer(c->n_kv_head));
    SET("head_dim", json_integer(c->d_head));
    SET("num_local_experts", json_integer(c->n_expert ? c->n_expert : 1));
    SET("num_experts_per_tok", json_integer(c->n_expert_used ? c->n_expert_used : 1));
    SET("max_position_embeddings", json_integer(c->n_ctx));
    SET("rms_norm_eps", real(c->norm_eps));
    SET("rope_theta", real(c->rope_theta));
    SET("rope_scaling",
        c->rope_type != CRL_ROPE_LLAMA3
            ? json_null()
            : json_pack("{s:s, s:o, s:o, s:o, s:I}", "rope_type", "llama3", "factor", real(c->rope_factor),
                        "low_freq_factor", real(c->rope_low), "high_freq_factor", real(c->rope_high),
                        "original_max_position_embeddings", (json_int_t)c->rope_old_ctx));
    SET("attention_chunk_size", c->chunk ? json_integer(c->chunk) : json_null());
    SET("attn_temperature_tuning", json_boolean(c->temperature_tuning));
    SET("floor_scale", json_integer(c->floor_scale));
    SET("attn_scale", real(c->attn_scale));
    SET("use_qk_norm", json_boolean(c->qk_norm));
    SET("attention_bias", json_boolean(c->attention_bias));
    SET("tie_word_embeddings", json_boolean(c->tied));
    SET("bos_token_id", id(c->bos));
    SET("pad_token_id", id(c->pad));
#undef SET
    set_lists(doc, c);
    return doc;
}

/* config.json last: without it the folder is no checkpoint. */
static enum crl_status write_side_files(const struct export *x, const char *folder, struct crl_err *err)
{
    static const struct {
        enum crl_section kind;
        const char *name;
    } files[] = { { CRL_SECTION_GENERATION, "generation_config.json" },
                  { CRL_SECTION_CHAT_TEMPLATE, "chat_template.jinja" } };
    enum crl_status st = write_index(x, folder, err);

    for (size_t i = 0; i < sizeof files / sizeof *files && !st; i++) {
        size_t len;
        const unsigned char *data = crl_pack_section(x->pack, files[i].kind, &len);
        if (data) st = write_text(folder, files[i].name, data, len, err);
    }
    return st ? st : write_json(folder, "config.json", config_json(crl_pack_config(x->pack)), err);
}

static enum crl_status make_folder(const char *folder, struct crl_err *err)
{
    struct dirent *e;
    bool empty = true;
    DIR *d;

    if (mkdir(folder, 0777) == 0) return CRL_OK;
    if (errno != EEXIST) return crl_fail(err, CRL_EIO, "%s: %s", folder, strerror(errno));
    d = opendir(folder);
    if (!d) return crl_fail(err, CRL_EIO, "%s: %s", folder, strerror(errno));
    while ((e = readdir(d))) empty &= strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(d);
    return empty ? CRL_OK : crl_fail(err, CRL_ERANGE, "%s: this folder is not empty", folder);
}

static enum crl_status check_room(const char *folder, uint64_t need, struct crl_err *err)
{
    uint64_t have = crl_disk_free(folder);

    if (have == 0 || need <= have) return CRL_OK;
    return crl_fail(err, CRL_EFULL, "%s: %llu bytes are needed, the disk has %llu left", folder,
                    (unsigned long long)need, (unsigned long long)have);
}

enum crl_status crl_export(const struct crl_pack *pack, const char *folder,
                           const struct crl_export_options *opt, struct crl_export_report *r,
                           struct crl_err *err)
{
    struct export x = { .pack = pack, .opt = opt };
    double start = crl_crew_now();
    enum crl_status st;

    memset(r, 0, sizeof *r);
    st = make_list(&x, &r->left_out_vision, err);
    if (!st) st = crl_team_new(&x.team, opt->jobs, false, err);
    if (!st) st = make_room(&x, err);
    if (!st) st = make_folder(folder, err);
    if (!st) st = check_room(folder, x.bytes, err);
    for (size_t i = 0; i < x.n_shard && !st; i++) st = write_shard(&x, folder, i, err);
    if (!st) st = write_side_files(&x, folder, err);
    r->n_tensor = x.n;
    r->n_file = x.n_shard;
    r->bytes = x.bytes;
    r->seconds = crl_crew_now() - start;
    for (unsigned i = 0; x.scratch && i < crl_team_size(x.team); i++) crl_free(x.scratch[i]);
    crl_free(x.scratch);
    crl_free(x.buf);
    crl_free(x.tensor);
    crl_team_free(x.team);
    return st;
}
