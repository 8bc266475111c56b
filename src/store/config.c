/* config.c - what a valid configuration is, and its canonical JSON (docs/format.md, section 6). */
#include "store/config.h"

#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIM (1u << 20)
#define MAX_VOCAB (1u << 24)
#define MAX_EXPERT 65536u
#define MAX_INT 0x7fffffffu

/* One row per plain field, in the order of the file; lo and hi are checked whatever the other fields say. */
enum type { U32, F32, BOOL, ID };

struct field {
    const char *key;
    enum type type;
    size_t at; /* offset in struct crl_config */
    double lo, hi;
};

#define F(name, type, lo, hi) { #name, type, offsetof(struct crl_config, name), lo, hi }

static const struct field before_rope_type[] = {
    F(n_layer, U32, 1, CRL_MAX_LAYER),
    F(n_head, U32, 1, MAX_DIM),
    F(n_kv_head, U32, 1, MAX_DIM),
    F(d_head, U32, 2, MAX_DIM),
    F(d_model, U32, 1, MAX_DIM),
    F(d_ff, U32, 0, MAX_DIM),
    F(d_ff_dense, U32, 0, MAX_DIM),
    F(vocab, U32, 1, MAX_VOCAB),
    F(n_expert, U32, 0, MAX_EXPERT),
    F(n_expert_used, U32, 0, MAX_EXPERT),
    F(n_ctx, U32, 1, MAX_INT),
    F(chunk, U32, 0, MAX_INT),
    F(floor_scale, U32, 0, MAX_INT),
    F(attn_scale, F32, -1e9, 1e9),
    F(norm_eps, F32, 0, 1),
    F(rope_theta, F32, 1e-9, 1e30),
};

static const struct field after_rope_type[] = {
    F(rope_factor, F32, 0, 1e9),
    F(rope_low, F32, 0, 1e9),
    F(rope_high, F32, 0, 1e9),
    F(rope_old_ctx, U32, 0, MAX_INT),
    F(qk_norm, BOOL, 0, 1),
    F(temperature_tuning, BOOL, 0, 1),
    F(attention_bias, BOOL, 0, 1),
    F(tied, BOOL, 0, 1),
    F(multimodal, BOOL, 0, 1),
    F(bos, ID, -1, MAX_INT),
    F(pad, ID, -1, MAX_INT),
    F(image_token, ID, -1, MAX_INT),
};

/* Keys of a model with a vision tower, and of no other. */
static const struct field of_vision[] = {
    F(vision.n_layer, U32, 1, CRL_MAX_LAYER),
    F(vision.n_head, U32, 1, 65536),
    F(vision.d_model, U32, 1, 65536),
    F(vision.d_ff, U32, 1, MAX_DIM),
    F(vision.d_out, U32, 1, MAX_DIM),
    F(vision.image, U32, 1, 4096),
    F(vision.patch, U32, 1, 256),
    F(vision.shuffle, U32, 1, 64),
    F(vision.rope_theta, F32, 1e-9, 1e30),
};

#define N(a) (sizeof(a) / sizeof *(a))

static double value_of(const struct crl_config *cfg, const struct field *f)
{
    const unsigned char *p = (const unsigned char *)cfg + f->at;
    uint32_t u;
    int32_t i;
    float x;
    bool b;

    switch (f->type) {
    case U32: memcpy(&u, p, sizeof u); return u;
    case ID: memcpy(&i, p, sizeof i); return i;
    case F32: memcpy(&x, p, sizeof x); return x;
    default: memcpy(&b, p, sizeof b); return b;
    }
}

static void value_set(struct crl_config *cfg, const struct field *f, double v)
{
    unsigned char *p = (unsigned char *)cfg + f->at;
    uint32_t u = f->type == U32 ? (uint32_t)v : 0;
    int32_t i = f->type == ID ? (int32_t)v : 0;
    float x = (float)v;
    bool b = v != 0;

    switch (f->type) {
    case U32: memcpy(p, &u, sizeof u); break;
    case ID: memcpy(p, &i, sizeof i); break;
    case F32: memcpy(p, &x, sizeof x); break;
    default: memcpy(p, &b, sizeof b); break;
    }
}

/* --- checks ------------------------------------------------------------------------------------------- */

static enum crl_status check_ranges(const struct crl_config *cfg, const struct field *f, size_t n,
                                    struct crl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        double v = value_of(cfg, &f[i]);
        if (!(v >= f[i].lo && v <= f[i].hi)) /* a NaN fails too */
            return crl_fail(err, CRL_EFORMAT, "%s is %.9g, outside %.9g to %.9g", f[i].key, v, f[i].lo,
                            f[i].hi);
    }
    return CRL_OK;
}

static enum crl_status check_attention(const struct crl_config *cfg, struct crl_err *err)
{
    if (cfg->n_head % cfg->n_kv_head)
        return crl_fail(err, CRL_EFORMAT, "n_kv_head is %u, which does not divide n_head %u", cfg->n_kv_head,
                        cfg->n_head);
    if (cfg->d_head % 2) return crl_fail(err, CRL_EFORMAT, "d_head is %u, which is odd", cfg->d_head);
    if ((uint64_t)cfg->n_head * cfg->d_head > MAX_DIM)
        return crl_fail(err, CRL_EFORMAT, "n_head %u times d_head %u is more than %u", cfg->n_head,
                        cfg->d_head, MAX_DIM);
    if (cfg->temperature_tuning && !cfg->floor_scale)
        return crl_fail(err, CRL_EFORMAT, "floor_scale is 0 although temperature_tuning is on");
    return CRL_OK;
}

static enum crl_status check_rope(const struct crl_config *cfg, struct crl_err *err)
{
    if (cfg->rope_type == CRL_ROPE_PLAIN) return CRL_OK;
    if (cfg->rope_type != CRL_ROPE_LLAMA3)
        return crl_fail(err, CRL_EFORMAT, "rope_type is %d, neither plain nor llama3", (int)cfg->rope_type);
    if (!(cfg->rope_factor > 0))
        return crl_fail(err, CRL_EFORMAT, "rope_factor is %g, not positive", cfg->rope_factor);
    if (!(cfg->rope_low > 0))
        return crl_fail(err, CRL_EFORMAT, "rope_low is %g, not positive", cfg->rope_low);
    if (!(cfg->rope_high >= cfg->rope_low))
        return crl_fail(err, CRL_EFORMAT, "rope_high is %g, below rope_low %g", cfg->rope_high,
                        cfg->rope_low);
    if (!cfg->rope_old_ctx)
        return crl_fail(err, CRL_EFORMAT, "rope_old_ctx is 0 although rope_type is llama3");
    return CRL_OK;
}

static enum crl_status check_layers(const struct crl_config *cfg, struct crl_err *err)
{
    for (uint32_t l = 0; l < cfg->n_layer; l++) {
        if (cfg->uses_rope[l] > 1)
            return crl_fail(err, CRL_EFORMAT, "uses_rope[%u] is %u, neither 0 nor 1", l, cfg->uses_rope[l]);
        if (cfg->is_moe[l] > 1)
            return crl_fail(err, CRL_EFORMAT, "is_moe[%u] is %u, neither 0 nor 1", l, cfg->is_moe[l]);
        if (!cfg->is_moe[l] && !cfg->d_ff_dense)
            return crl_fail(err, CRL_EFORMAT, "d_ff_dense is 0 although layer %u is dense", l);
        if (!cfg->is_moe[l]) continue;
        if (!cfg->d_ff) return crl_fail(err, CRL_EFORMAT, "d_ff is 0 although layer %u is a mixture", l);
        if (!cfg->n_expert)
            return crl_fail(err, CRL_EFORMAT, "n_expert is 0 although layer %u is a mixture", l);
        if (!cfg->n_expert_used || cfg->n_expert_used > cfg->n_expert)
            return crl_fail(err, CRL_EFORMAT, "n_expert_used is %u, outside 1 to n_expert %u",
                            cfg->n_expert_used, cfg->n_expert);
    }
    return CRL_OK;
}

#define MAX_PATCH 65536u

static enum crl_status check_vision(const struct crl_config *cfg, struct crl_err *err)
{
    const struct crl_vision_config *v = &cfg->vision;
    enum crl_status st;

    if (!cfg->multimodal) return CRL_OK;
    st = check_ranges(cfg, of_vision, N(of_vision), err);
    if (st) return st;
    if (v->d_model % (4 * v->n_head))
        return crl_fail(err, CRL_EFORMAT, "vision.d_model is %u, not a multiple of 4 times vision.n_head %u", v->d_model,
                        v->n_head);
    if (v->image % v->patch || v->image / v->patch % v->shuffle)
        return crl_fail(err, CRL_EFORMAT, "vision.image is %u, not a multiple of vision.patch %u times vision.shuffle %u",
                        v->image, v->patch, v->shuffle);
    if (crl_vision_patches(cfg) > MAX_PATCH)
        return crl_fail(err, CRL_EFORMAT, "vision.image %u makes more than %u patches of %u", v->image, MAX_PATCH, v->patch);
    if (v->d_ff != (uint64_t)v->d_model * v->shuffle * v->shuffle)
        return crl_fail(err, CRL_EFORMAT, "vision.d_ff is %u, not vision.d_model %u times %u squared", v->d_ff, v->d_model,
                        v->shuffle);
    if (cfg->image_token < 0 || (uint32_t)cfg->image_token >= cfg->vocab)
        return crl_fail(err, CRL_EFORMAT, "image_token is %d, no token of %u, although there is a vision tower",
                        cfg->image_token, cfg->vocab);
    return CRL_OK;
}

static enum crl_status check_eos(const struct crl_config *cfg, struct crl_err *err)
{
    if (cfg->n_eos > N(cfg->eos))
        return crl_fail(err, CRL_EFORMAT, "%u end tokens, at most %zu are kept", cfg->n_eos, N(cfg->eos));
    for (uint32_t i = 0; i < cfg->n_eos; i++)
        if (cfg->eos[i] < 0) return crl_fail(err, CRL_EFORMAT, "eos[%u] is %d, not a token", i, cfg->eos[i]);
    return CRL_OK;
}

enum crl_status crl_config_check(const struct crl_config *cfg, struct crl_err *err)
{
    enum crl_status st = check_ranges(cfg, before_rope_type, N(before_rope_type), err);

    if (!st) st = check_ranges(cfg, after_rope_type, N(after_rope_type), err);
    if (!st) st = check_attention(cfg, err);
    if (!st) st = check_rope(cfg, err);
    if (!st) st = check_layers(cfg, err);
    if (!st) st = check_eos(cfg, err);
    if (!st) st = check_vision(cfg, err);
    return st;
}

/* --- writing ------------------------------------------------------------------------------------------ */

/* Text growing in a buffer that was sized for the longest configuration. */
struct text {
    char *at, *end;
};

#define TEXT_MAX (4096 + 2 * 2 * CRL_MAX_LAYER) /* 40 short fields; two lists of "d," */

static void put(struct text *t, const char *s)
{
    size_t n = strlen(s);

    if (n >= (size_t)(t->end - t->at)) return;
    memcpy(t->at, s, n + 1);
    t->at += n;
}

/* Shortest of 6 to 9 significant digits that reads back as the same float; the point whatever the locale
 * says. */
static void put_real(struct text *t, float x)
{
    char s[40];

    for (int digits = 6; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, (double)x);
        if (strtof(s, NULL) == x) break;
    }
    for (char *c = s; *c; c++)
        if (!strchr("+-0123456789e", *c)) *c = '.';
    put(t, s);
}

static void put_fields(struct text *t, const struct crl_config *cfg, const struct field *f, size_t n)
{
    char s[32];

    for (size_t i = 0; i < n; i++) {
        double v = value_of(cfg, &f[i]);
        put(t, t->at[-1] == '{' ? "\"" : ",\"");
        put(t, f[i].key);
        put(t, "\":");
        if (f[i].type == F32) put_real(t, (float)v);
        else if (f[i].type == BOOL) put(t, v != 0 ? "true" : "false");
        else {
            snprintf(s, sizeof s, "%lld", (long long)v);
            put(t, s);
        }
    }
}

static void put_flags(struct text *t, const char *key, const uint8_t *flag, uint32_t n)
{
    put(t, ",\"");
    put(t, key);
    put(t, "\":[");
    for (uint32_t i = 0; i < n; i++) {
        if (i) put(t, ",");
        put(t, flag[i] ? "1" : "0");
    }
    put(t, "]");
}

char *crl_config_to_json(const struct crl_config *cfg)
{
    char *buf = crl_alloc(TEXT_MAX, 1), s[32];
    struct text t = { buf, buf + TEXT_MAX };

    if (!buf) return NULL;
    put(&t, "{");
    put_fields(&t, cfg, before_rope_type, N(before_rope_type));
    put(&t, cfg->rope_type == CRL_ROPE_LLAMA3 ? ",\"rope_type\":\"llama3\"" : ",\"rope_type\":\"plain\"");
    put_fields(&t, cfg, after_rope_type, N(after_rope_type));
    put(&t, ",\"eos\":[");
    for (uint32_t i = 0; i < cfg->n_eos && i < N(cfg->eos); i++) {
        snprintf(s, sizeof s, i ? ",%d" : "%d", cfg->eos[i]);
        put(&t, s);
    }
    put(&t, "]");
    put_flags(&t, "uses_rope", cfg->uses_rope, cfg->n_layer);
    put_flags(&t, "is_moe", cfg->is_moe, cfg->n_layer);
    if (cfg->multimodal) put_fields(&t, cfg, of_vision, N(of_vision));
    put(&t, "}");
    return buf;
}

/* --- reading ------------------------------------------------------------------------------------------ */

static enum crl_status get_field(struct crl_config *cfg, const json_t *doc, const struct field *f,
                                 struct crl_err *err)
{
    const json_t *v = json_object_get(doc, f->key);
    double x = 0;

    if (!v) return crl_fail(err, CRL_EFORMAT, "%s is missing", f->key);
    if (f->type == BOOL && !json_is_boolean(v))
        return crl_fail(err, CRL_EFORMAT, "%s is neither true nor false", f->key);
    if ((f->type == U32 || f->type == ID) && !json_is_integer(v))
        return crl_fail(err, CRL_EFORMAT, "%s is not an integer", f->key);
    if (f->type == F32 && !json_is_number(v)) return crl_fail(err, CRL_EFORMAT, "%s is not a number", f->key);
    x = f->type == BOOL ? json_is_true(v) : json_number_value(v);
    if (!(x >= f->lo && x <= f->hi))
        return crl_fail(err, CRL_EFORMAT, "%s is %.9g, outside %.9g to %.9g", f->key, x, f->lo, f->hi);
    value_set(cfg, f, x);
    return CRL_OK;
}

static enum crl_status get_rope_type(struct crl_config *cfg, const json_t *doc, struct crl_err *err)
{
    const char *s = json_string_value(json_object_get(doc, "rope_type"));

    if (s && !strcmp(s, "plain")) cfg->rope_type = CRL_ROPE_PLAIN;
    else if (s && !strcmp(s, "llama3")) cfg->rope_type = CRL_ROPE_LLAMA3;
    else return crl_fail(err, CRL_EFORMAT, "rope_type is neither \"plain\" nor \"llama3\"");
    return CRL_OK;
}

static enum crl_status get_array(const json_t *doc, const char *key, const json_t **v, struct crl_err *err)
{
    *v = json_object_get(doc, key);
    return json_is_array(*v) ? CRL_OK : crl_fail(err, CRL_EFORMAT, "%s is missing or not a list", key);
}

static enum crl_status get_eos(struct crl_config *cfg, const json_t *doc, struct crl_err *err)
{
    const json_t *v;
    enum crl_status st = get_array(doc, "eos", &v, err);

    if (st) return st;
    if (json_array_size(v) > N(cfg->eos))
        return crl_fail(err, CRL_EFORMAT, "eos has %zu entries, at most %zu are kept", json_array_size(v),
                        N(cfg->eos));
    cfg->n_eos = (uint32_t)json_array_size(v);
    for (uint32_t i = 0; i < cfg->n_eos; i++) {
        const json_t *e = json_array_get(v, i);
        if (!json_is_integer(e) || json_integer_value(e) < 0 || json_integer_value(e) > (json_int_t)MAX_INT)
            return crl_fail(err, CRL_EFORMAT, "eos[%u] is not a token", i);
        cfg->eos[i] = (int32_t)json_integer_value(e);
    }
    return CRL_OK;
}

static enum crl_status get_flags(uint8_t *flag, uint32_t n, const json_t *doc, const char *key,
                                 struct crl_err *err)
{
    const json_t *v;
    enum crl_status st = get_array(doc, key, &v, err);

    if (st) return st;
    if (json_array_size(v) != n)
        return crl_fail(err, CRL_EFORMAT, "%s has %zu entries for %u layers", key, json_array_size(v), n);
    for (uint32_t i = 0; i < n; i++) {
        const json_t *e = json_array_get(v, i);
        if (!json_is_integer(e) || json_integer_value(e) < 0 || json_integer_value(e) > 1)
            return crl_fail(err, CRL_EFORMAT, "%s[%u] is neither 0 nor 1", key, i);
        flag[i] = (uint8_t)json_integer_value(e);
    }
    return CRL_OK;
}

static bool known_key(const char *key, bool vision)
{
    static const char *const other[] = { "rope_type", "eos", "uses_rope", "is_moe" };

    for (size_t i = 0; i < N(before_rope_type); i++)
        if (!strcmp(key, before_rope_type[i].key)) return true;
    for (size_t i = 0; i < N(after_rope_type); i++)
        if (!strcmp(key, after_rope_type[i].key)) return true;
    for (size_t i = 0; i < N(other); i++)
        if (!strcmp(key, other[i])) return true;
    for (size_t i = 0; vision && i < N(of_vision); i++)
        if (!strcmp(key, of_vision[i].key)) return true;
    return false;
}

static enum crl_status from_doc(struct crl_config *cfg, json_t *doc, struct crl_err *err)
{
    enum crl_status st = CRL_OK;
    const char *key;
    json_t *v;
    bool vision = json_is_true(json_object_get(doc, "multimodal")) && json_object_get(doc, of_vision[0].key);

    if (!json_is_object(doc)) return crl_fail(err, CRL_EFORMAT, "not a JSON object");
    json_object_foreach(doc, key, v)
        if (!known_key(key, vision)) return crl_fail(err, CRL_EFORMAT, "unknown key \"%.64s\"", key);
    for (size_t i = 0; !st && i < N(before_rope_type); i++)
        st = get_field(cfg, doc, &before_rope_type[i], err);
    if (!st) st = get_rope_type(cfg, doc, err);
    for (size_t i = 0; !st && i < N(after_rope_type); i++) st = get_field(cfg, doc, &after_rope_type[i], err);
    if (!st) st = get_eos(cfg, doc, err);
    if (!st) st = get_flags(cfg->uses_rope, cfg->n_layer, doc, "uses_rope", err);
    if (!st) st = get_flags(cfg->is_moe, cfg->n_layer, doc, "is_moe", err);
    cfg->multimodal = vision; /* version 1 said so of text-only files whose checkpoint had a tower */
    for (size_t i = 0; !st && vision && i < N(of_vision); i++) st = get_field(cfg, doc, &of_vision[i], err);
    if (!st) st = crl_config_check(cfg, err);
    return st;
}

enum crl_status crl_config_from_json(struct crl_config *cfg, const char *text, size_t len,
                                     struct crl_err *err)
{
    struct crl_config read;
    json_t *doc;
    enum crl_status st = crl_json_parse(&doc, text, len, "config", err);

    if (st) return st;
    memset(&read, 0, sizeof read);
    st = from_doc(&read, doc, err);
    json_decref(doc);
    if (st) {
        crl_err_prefix(err, "config");
        return st;
    }
    *cfg = read;
    return CRL_OK;
}
