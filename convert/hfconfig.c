/* hfconfig.c - from the keys of config.json to struct crl_config. */
#include "convert/hfconfig.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void crl_note(struct crl_notes *notes, const char *fmt, ...)
{
    va_list ap;

    if (!notes || notes->n == sizeof notes->text / sizeof notes->text[0]) return;
    va_start(ap, fmt);
    vsnprintf(notes->text[notes->n], sizeof notes->text[0], fmt, ap);
    va_end(ap);
    notes->n++;
}

static bool is_null(const json_t *obj, const char *key) /* written as null, not merely absent */
{
    return json_is_null(json_object_get(obj, key));
}

static enum crl_status get_f32(const json_t *obj, const char *key, double lo, double hi, float *out,
                               struct crl_err *err)
{
    double d = *out;
    enum crl_status st = crl_json_get_f64(obj, key, lo, hi, &d, err);

    if (!st && json_object_get(obj, key)) *out = (float)d;
    return st;
}

/* A count that some writers store as 8192.0. */
static enum crl_status get_count(const json_t *obj, const char *key, uint32_t lo, uint32_t hi, uint32_t *out,
                                 struct crl_err *err)
{
    const json_t *v = json_object_get(obj, key);
    double d;

    if (!json_is_real(v)) return crl_json_get_u32(obj, key, lo, hi, out, err);
    d = json_real_value(v);
    if (!(d >= lo && d <= hi) || d != floor(d))
        return crl_fail(err, CRL_EFORMAT, "%s is %g, not a whole number from %u to %u", key, d, lo, hi);
    *out = (uint32_t)d;
    return CRL_OK;
}

/* The sizes: those of the library's defaults when absent. Ranges are wide here, crl_config_check relates the
 * fields. */
static enum crl_status read_sizes(struct crl_config *c, const json_t *t, struct crl_err *err)
{
    const struct {
        const char *key;
        uint32_t *field, lo, hi, absent;
    } rows[] = {
        { "num_hidden_layers", &c->n_layer, 1, CRL_MAX_LAYER, 48 },
        { "num_attention_heads", &c->n_head, 1, 65536, 40 },
        { "num_key_value_heads", &c->n_kv_head, 1, 65536, 8 },
        { "head_dim", &c->d_head, 2, 65536, 128 },
        { "hidden_size", &c->d_model, 1, 1 << 24, 5120 },
        { "intermediate_size", &c->d_ff, 1, 1 << 24, 8192 },
        { "intermediate_size_mlp", &c->d_ff_dense, 1, 1 << 24, 16384 },
        { "vocab_size", &c->vocab, 1, INT32_MAX, 202048 },
        { "num_local_experts", &c->n_expert, 0, 65536, 16 },
        { "num_experts_per_tok", &c->n_expert_used, 0, 65536, 1 },
        { "max_position_embeddings", &c->n_ctx, 1, INT32_MAX, 131072 },
        { "attention_chunk_size", &c->chunk, 1, INT32_MAX, 8192 },
        { "floor_scale", &c->floor_scale, 1, INT32_MAX, 8192 },
    };
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !st; i++) {
        *rows[i].field = rows[i].absent;
        st = get_count(t, rows[i].key, rows[i].lo, rows[i].hi, rows[i].field, err);
    }
    if (st) return st;
    if (is_null(t, "num_key_value_heads")) c->n_kv_head = c->n_head;
    if (is_null(t, "head_dim")) c->d_head = c->d_model / c->n_head;
    if (is_null(t, "attention_chunk_size")) c->chunk = 0; /* no layer is chunked */
    return CRL_OK;
}

static enum crl_status read_numbers(struct crl_config *c, const json_t *t, struct crl_err *err)
{
    const char *act = "silu";
    enum crl_status st;

    c->norm_eps = 1e-5f;
    c->attn_scale = 0.1f;
    c->qk_norm = c->temperature_tuning = true;
    st = get_f32(t, "rms_norm_eps", 0, 1, &c->norm_eps, err);
    if (!st) st = get_f32(t, "attn_scale", -1e6, 1e6, &c->attn_scale, err);
    if (!st) st = crl_json_get_bool(t, "use_qk_norm", &c->qk_norm, err);
    if (!st) st = crl_json_get_bool(t, "attn_temperature_tuning", &c->temperature_tuning, err);
    if (!st) st = crl_json_get_bool(t, "attention_bias", &c->attention_bias, err);
    if (!st) st = crl_json_get_str(t, "hidden_act", &act, err);
    if (!st && strcmp(act, "silu"))
        st = crl_fail(err, CRL_EUNSUPPORTED, "hidden_act is \"%s\", only \"silu\" is supported", act);
    return st;
}

/* One number that llama3 scaling cannot do without. */
static enum crl_status need_f32(const json_t *obj, const char *key, double lo, double hi, float *out,
                                struct crl_err *err)
{
    if (!json_is_number(json_object_get(obj, key)))
        return crl_fail(err, CRL_EFORMAT, "rope scaling \"llama3\" without a number %s", key);
    return get_f32(obj, key, lo, hi, out, err);
}

static enum crl_status read_llama3(struct crl_config *c, const json_t *r, struct crl_err *err)
{
    enum crl_status st = need_f32(r, "factor", 1e-3, 1e6, &c->rope_factor, err);

    c->rope_type = CRL_ROPE_LLAMA3;
    if (!st) st = need_f32(r, "low_freq_factor", 1e-6, 1e6, &c->rope_low, err);
    if (!st) st = need_f32(r, "high_freq_factor", 1e-6, 1e6, &c->rope_high, err);
    if (!st && !json_is_number(json_object_get(r, "original_max_position_embeddings")))
        st = crl_fail(err, CRL_EFORMAT, "rope scaling \"llama3\" without original_max_position_embeddings");
    if (!st) st = get_count(r, "original_max_position_embeddings", 1, INT32_MAX, &c->rope_old_ctx, err);
    return st;
}

/* rope_parameters (newer files) holds rope_theta too; rope_scaling (older ones) leaves it beside itself. */
static enum crl_status read_rope(struct crl_config *c, const json_t *t, struct crl_err *err)
{
    const json_t *r = json_object_get(t, "rope_parameters");
    const char *type = NULL;
    enum crl_status st;

    if (!r || json_is_null(r)) r = json_object_get(t, "rope_scaling");
    c->rope_theta = 500000.0f;
    st = get_f32(t, "rope_theta", 1e-3, 1e30, &c->rope_theta, err);
    if (st || !r || json_is_null(r)) return st;
    if (!json_is_object(r))
        return crl_fail(err, CRL_EFORMAT, "rope_scaling or rope_parameters is not an object");
    st = get_f32(r, "rope_theta", 1e-3, 1e30, &c->rope_theta, err);
    if (!st) st = crl_json_get_str(r, "type", &type, err);
    if (!st) st = crl_json_get_str(r, "rope_type", &type, err); /* the newer key wins */
    if (st || !type || strcmp(type, "default") == 0) return st;
    if (strcmp(type, "llama3"))
        return crl_fail(err, CRL_EUNSUPPORTED,
                        "rope type \"%s\": only \"default\" and \"llama3\" are supported", type);
    return read_llama3(c, r, err);
}

/* A list that is there and not null; NULL and CRL_OK otherwise. */
static enum crl_status get_list(const json_t *obj, const char *key, const json_t **out, struct crl_err *err)
{
    const json_t *v = json_object_get(obj, key);

    *out = NULL;
    if (!v || json_is_null(v)) return CRL_OK;
    if (!json_is_array(v)) return crl_fail(err, CRL_EFORMAT, "%s is not a list", key);
    *out = v;
    return CRL_OK;
}

/* In no_rope_layers a 1 means that the layer HAS rotary embedding; an empty list stands for none given. */
static enum crl_status read_rope_layers(struct crl_config *c, const json_t *t, struct crl_err *err)
{
    const json_t *list;
    uint32_t interval = 4;
    enum crl_status st = get_list(t, "no_rope_layers", &list, err);

    if (!st) st = get_count(t, "no_rope_layer_interval", 1, INT32_MAX, &interval, err);
    if (st) return st;
    for (uint32_t i = 0; i < c->n_layer; i++) c->uses_rope[i] = (i + 1) % interval != 0;
    if (!list || json_array_size(list) == 0) return CRL_OK;
    if (json_array_size(list) != c->n_layer)
        return crl_fail(err, CRL_EFORMAT, "no_rope_layers has %zu entries for %u layers",
                        json_array_size(list), c->n_layer);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const json_t *v = json_array_get(list, i);
        bool one = json_is_true(v) || (json_is_integer(v) && json_integer_value(v) == 1);
        bool zero = json_is_false(v) || (json_is_integer(v) && json_integer_value(v) == 0);
        if (!one && !zero) return crl_fail(err, CRL_EFORMAT, "no_rope_layers[%u] is neither 0 nor 1", i);
        c->uses_rope[i] = one;
    }
    return CRL_OK;
}

/* moe_layers absent or null: every step-th layer; an empty list means that no layer is a mixture. */
static enum crl_status read_moe_layers(struct crl_config *c, const json_t *t, struct crl_err *err)
{
    const json_t *list;
    uint32_t step = 1;
    enum crl_status st = get_list(t, "moe_layers", &list, err);

    if (!st) st = get_count(t, "interleave_moe_layer_step", 1, INT32_MAX, &step, err);
    if (st) return st;
    for (uint32_t i = 0; i < c->n_layer; i++) c->is_moe[i] = !list && (i + 1) % step == 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= c->n_layer)
            return crl_fail(err, CRL_EFORMAT, "moe_layers[%zu] is not a layer from 0 to %u", i,
                            c->n_layer - 1);
        c->is_moe[json_integer_value(v)] = 1;
    }
    return CRL_OK;
}

/* layer_types says which layers are chunked; here that is the same as having rotary embedding, unless no
 * layer is chunked at all. Anything else is a model nobody has released. */
static enum crl_status read_layer_types(struct crl_config *c, const json_t *t, struct crl_err *err)
{
    const json_t *list;
    uint32_t n_chunked = 0;
    enum crl_status st = get_list(t, "layer_types", &list, err);

    if (st || json_array_size(list) == 0) return st;
    if (json_array_size(list) != c->n_layer)
        return crl_fail(err, CRL_EFORMAT, "layer_types has %zu entries for %u layers", json_array_size(list),
                        c->n_layer);
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (!s || (strcmp(s, "chunked_attention") && strcmp(s, "full_attention")))
            return crl_fail(err, CRL_EUNSUPPORTED,
                            "layer_types[%u] is neither \"chunked_attention\" nor "
                            "\"full_attention\"",
                            i);
        n_chunked += s[0] == 'c';
    }
    if (n_chunked == 0) c->chunk = 0;
    for (uint32_t i = 0; i < c->n_layer && c->chunk; i++) {
        bool chunked = json_string_value(json_array_get(list, i))[0] == 'c';
        if (chunked != (c->uses_rope[i] != 0))
            return crl_fail(err, CRL_EUNSUPPORTED,
                            "layer_types[%u] is \"%s\" where no_rope_layers says %d: layers must "
                            "be chunked where they have rotary embedding",
                            i, chunked ? "chunked_attention" : "full_attention", c->uses_rope[i]);
    }
    return CRL_OK;
}

/* A token id: absent leaves *out, null and negative numbers mean none. */
static enum crl_status read_id(const json_t *obj, const char *key, int32_t *out, struct crl_err *err)
{
    const json_t *v = json_object_get(obj, key);

    if (!v) return CRL_OK;
    if (json_is_array(v) && json_array_size(v) == 1) v = json_array_get(v, 0);
    if (json_is_null(v)) {
        *out = -1;
        return CRL_OK;
    }
    if (!json_is_integer(v) || json_integer_value(v) > INT32_MAX)
        return crl_fail(err, CRL_EFORMAT, "%s is not a token id", key);
    *out = json_integer_value(v) < 0 ? -1 : (int32_t)json_integer_value(v);
    return CRL_OK;
}

/* One id or a list of them. */
static enum crl_status read_eos(struct crl_config *c, const json_t *obj, struct crl_err *err)
{
    const json_t *v = json_object_get(obj, "eos_token_id");
    size_t n = json_is_array(v) ? json_array_size(v) : 1, most = sizeof c->eos / sizeof c->eos[0];

    if (!v) return CRL_OK;
    c->n_eos = 0;
    if (json_is_null(v)) return CRL_OK;
    if (n > most)
        return crl_fail(err, CRL_EUNSUPPORTED, "eos_token_id has %zu entries, at most %zu are kept", n, most);
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(e) || json_integer_value(e) < 0 || json_integer_value(e) > INT32_MAX)
            return crl_fail(err, CRL_EFORMAT, "eos_token_id is not a token id");
        c->eos[c->n_eos++] = (int32_t)json_integer_value(e);
    }
    return CRL_OK;
}

static enum crl_status read_ids(struct crl_config *c, const json_t *obj, struct crl_err *err)
{
    enum crl_status st = read_id(obj, "bos_token_id", &c->bos, err);

    if (!st) st = read_id(obj, "pad_token_id", &c->pad, err);
    if (!st) st = read_eos(c, obj, err);
    return st;
}

/* The ids of the library's defaults mean nothing in a vocabulary too small for them. */
static void drop_default_ids(struct crl_config *c)
{
    if (c->bos >= 0 && (uint32_t)c->bos >= c->vocab) c->bos = -1;
    if (c->n_eos && (uint32_t)c->eos[0] >= c->vocab) c->n_eos = 0;
}

static enum crl_status check_kind(const json_t *doc, const json_t *text, struct crl_err *err)
{
    const char *type = NULL, *inner = NULL, *first;
    enum crl_status st = crl_json_get_str(doc, "model_type", &type, err);

    if (!st && text != doc) st = crl_json_get_str(text, "model_type", &inner, err);
    if (st) return st;
    if (type && strcmp(type, "llama4") && strcmp(type, "llama4_text"))
        return crl_fail(err, CRL_EUNSUPPORTED, "model_type is \"%s\", only Llama 4 is supported", type);
    if (inner && strcmp(inner, "llama4_text"))
        return crl_fail(err, CRL_EUNSUPPORTED,
                        "text_config.model_type is \"%s\", only \"llama4_text\" is supported", inner);
    if (type) return CRL_OK;
    first = json_string_value(json_array_get(json_object_get(doc, "architectures"), 0));
    if (first && strncmp(first, "Llama4", 6) == 0) return CRL_OK;
    return crl_fail(err, CRL_EFORMAT, "neither model_type nor architectures says that this is Llama 4");
}

/* Values that early uploads carry and that were corrected later. They are followed, with a word to the user.
 */
static void remark(const struct crl_config *c, struct crl_notes *notes)
{
    if (c->rope_type == CRL_ROPE_LLAMA3 && c->rope_factor == 8 && c->rope_high == 4 && c->n_expert == 16)
        crl_note(
            notes,
            "rope scaling 8/4 is that of the first uploads of Scout; the corrected values are factor 16, "
            "high_freq_factor 1");
    if (c->norm_eps > 0.9e-6f && c->norm_eps < 1.1e-6f)
        crl_note(notes, "rms_norm_eps 1e-6 is that of early uploads; the released models have 1e-5");
}

static enum crl_status read_config(struct crl_config *c, const json_t *doc, char quant[32],
                                   struct crl_notes *notes, struct crl_err *err)
{
    const json_t *t = json_object_get(doc, "text_config"), *q = json_object_get(doc, "quantization_config");
    const char *method = "";
    bool tied_text = false;
    enum crl_status st;

    if (!json_is_object(doc)) return crl_fail(err, CRL_EFORMAT, "not an object");
    if (!t || json_is_null(t)) t = doc;
    if (!json_is_object(t)) return crl_fail(err, CRL_EFORMAT, "text_config is not an object");
    if (!json_is_object(q)) q = json_object_get(t, "quantization_config");
    c->bos = 1;
    c->eos[0] = 2;
    c->n_eos = 1;
    c->pad = -1;
    c->image_token = json_is_object(json_object_get(doc, "vision_config")) ? 200092 : -1;
    st = check_kind(doc, t, err);
    if (!st) st = read_sizes(c, t, err);
    if (!st) st = read_numbers(c, t, err);
    if (!st) st = read_rope(c, t, err);
    if (!st) st = read_rope_layers(c, t, err);
    if (!st) st = read_moe_layers(c, t, err);
    if (!st) st = read_layer_types(c, t, err);
    drop_default_ids(c);
    if (!st) st = read_ids(c, doc, err);
    if (!st && t != doc) st = read_ids(c, t, err);
    if (!st) st = read_id(doc, "image_token_index", &c->image_token, err);
    /* A multimodal file says it at the top; its text part says it too, or stays at the default. */
    if (!st) st = crl_json_get_bool(doc, "tie_word_embeddings", &c->tied, err);
    if (!st) st = crl_json_get_bool(t, "tie_word_embeddings", &tied_text, err);
    c->tied |= tied_text;
    if (!st && json_is_object(q)) st = crl_json_get_str(q, "quant_method", &method, err);
    if (quant) snprintf(quant, 32, "%s", method);
    if (!st) st = crl_config_check(c, err);
    if (!st) remark(c, notes);
    return st;
}

enum crl_status crl_hfconfig_parse(struct crl_config *cfg, const char *text, size_t len, const char *what,
                                   char quant[32], struct crl_notes *notes, struct crl_err *err)
{
    json_t *doc;
    enum crl_status st;

    memset(cfg, 0, sizeof *cfg);
    st = crl_json_parse(&doc, text, len, what, err);
    if (st) return st;
    st = read_config(cfg, doc, quant, notes, err);
    json_decref(doc);
    if (st) crl_err_prefix(err, "%s", what);
    return st;
}

/* --- the vision tower ------------------------------------------------------------------------------------------ */

/* A size of pixels, or a list of two equal ones. */
static enum crl_status get_square(const json_t *obj, const char *key, uint32_t hi, uint32_t *out, struct crl_err *err)
{
    const json_t *v = json_object_get(obj, key);
    json_int_t a = json_integer_value(json_array_get(v, 0)), b = json_integer_value(json_array_get(v, 1));

    if (!json_is_array(v)) return get_count(obj, key, 1, hi, out, err);
    if (json_array_size(v) != 2 || a != b || a < 1 || a > (json_int_t)hi)
        return crl_fail(err, CRL_EUNSUPPORTED, "%s is not one size from 1 to %u for both directions", key, hi);
    *out = (uint32_t)a;
    return CRL_OK;
}

static enum crl_status read_vision_rope(struct crl_vision_config *v, const json_t *t, struct crl_err *err)
{
    const json_t *r = json_object_get(t, "rope_parameters");
    enum crl_status st = get_f32(t, "rope_theta", 1e-3, 1e30, &v->rope_theta, err);

    if (!st && json_is_object(r)) st = get_f32(r, "rope_theta", 1e-3, 1e30, &v->rope_theta, err);
    return st;
}

/* norm_eps, hidden_act and the feature selection are not read: the reference ignores them as well. */
static enum crl_status read_vision(struct crl_config *c, const json_t *t, struct crl_err *err)
{
    struct crl_vision_config *v = &c->vision;
    uint32_t channels = 3, in = 4096, last = 7680;
    const struct {
        const char *key;
        uint32_t *field, absent;
    } rows[] = {
        { "hidden_size", &v->d_model, 768 },           { "num_hidden_layers", &v->n_layer, 34 },
        { "num_attention_heads", &v->n_head, 16 },     { "intermediate_size", &v->d_ff, 5632 },
        { "num_channels", &channels, 3 },              { "projector_input_dim", &in, 4096 },
        { "projector_output_dim", &v->d_out, 4096 },   { "vision_output_dim", &last, 7680 },
    };
    float ratio = 0.5f;
    enum crl_status st = CRL_OK;

    v->image = 448;
    v->patch = 14;
    v->rope_theta = 10000;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !st; i++) {
        *rows[i].field = rows[i].absent;
        st = get_count(t, rows[i].key, 1, 1 << 20, rows[i].field, err);
    }
    if (!st) st = get_square(t, "image_size", 4096, &v->image, err);
    if (!st) st = get_square(t, "patch_size", 256, &v->patch, err);
    if (!st) st = get_f32(t, "pixel_shuffle_ratio", 1.0 / 64, 1, &ratio, err);
    if (!st) st = read_vision_rope(v, t, err);
    if (st) return st;
    v->shuffle = (uint32_t)lroundf(1 / ratio);
    if (ratio * (float)v->shuffle != 1)
        return crl_fail(err, CRL_EUNSUPPORTED, "pixel_shuffle_ratio is %g, not one over a whole number", ratio);
    if (channels != 3) return crl_fail(err, CRL_EUNSUPPORTED, "num_channels is %u, only 3 are supported", channels);
    if (in != v->d_out || last != v->d_out)
        return crl_fail(err, CRL_EFORMAT,
                        "projector_input_dim %u, projector_output_dim %u and vision_output_dim %u must be equal", in,
                        v->d_out, last);
    return CRL_OK;
}

enum crl_status crl_hfconfig_vision(struct crl_config *cfg, const char *text, size_t len, const char *what, bool *found,
                                    struct crl_err *err)
{
    struct crl_config c = *cfg;
    const json_t *t;
    json_t *doc;
    enum crl_status st = crl_json_parse(&doc, text, len, what, err);

    *found = false;
    if (st) return st;
    t = json_object_get(doc, "vision_config");
    if (json_is_object(t)) {
        *found = c.multimodal = true;
        st = read_vision(&c, t, err);
        if (st) crl_err_prefix(err, "vision_config");
        if (!st) st = crl_config_check(&c, err);
    }
    json_decref(doc);
    if (st) crl_err_prefix(err, "%s", what);
    else *cfg = c;
    return st;
}

enum crl_status crl_hfgeneration_parse(struct crl_config *cfg, const char *text, size_t len, const char *what,
                                       struct crl_err *err)
{
    struct crl_config c = *cfg;
    json_t *doc;
    enum crl_status st = crl_json_parse(&doc, text, len, what, err);

    if (st) return st;
    if (!json_is_object(doc)) st = crl_fail(err, CRL_EFORMAT, "not an object");
    if (!st) st = read_ids(&c, doc, err);
    if (!st) st = crl_config_check(&c, err);
    json_decref(doc);
    if (st) crl_err_prefix(err, "%s", what);
    else *cfg = c;
    return st;
}
