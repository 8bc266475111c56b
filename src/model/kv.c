/* kv.c - the key/value cache. */
#include "model/kv.h"

#include "base/bytes.h"

#include <string.h>

static size_t value_bytes(enum crl_kv_type type)
{
    return type == CRL_KV_F32 ? 4 : 2;
}

static size_t layer_slots(const struct crl_config *cfg, uint32_t layer, size_t n_ctx)
{
    return cfg->uses_rope[layer] && cfg->chunk && cfg->chunk < n_ctx ? cfg->chunk : n_ctx;
}

bool crl_kv_bytes(const struct crl_config *cfg, size_t n_ctx, enum crl_kv_type type, size_t *bytes)
{
    size_t total = 0, row = (size_t)cfg->n_kv_head * cfg->d_head * value_bytes(type) * 2;

    for (uint32_t l = 0; l < cfg->n_layer; l++) {
        size_t one;
        if (!crl_mul_size(row, layer_slots(cfg, l, n_ctx), &one) || one > SIZE_MAX - CRL_ALIGN ||
            !crl_add_size(total, crl_round_up(one, CRL_ALIGN), &total))
            return false;
    }
    *bytes = total;
    return true;
}

static enum crl_status lay_out(struct crl_kv *kv, const struct crl_config *cfg, struct crl_err *err)
{
    size_t row = (size_t)cfg->n_kv_head * cfg->d_head * value_bytes(kv->type) * 2, at = 0;

    kv->offset = crl_alloc(cfg->n_layer, sizeof *kv->offset);
    kv->slots = crl_alloc(cfg->n_layer, sizeof *kv->slots);
    kv->chunked = crl_alloc(cfg->n_layer, 1);
    if (!kv->offset || !kv->slots || !kv->chunked) return crl_fail(err, CRL_ENOMEM, "no memory for a key/value cache");
    for (uint32_t l = 0; l < cfg->n_layer; l++) {
        kv->chunked[l] = cfg->uses_rope[l] && cfg->chunk;
        kv->slots[l] = layer_slots(cfg, l, kv->n_ctx);
        kv->offset[l] = at;
        at += crl_round_up(row * kv->slots[l], CRL_ALIGN);
    }
    return CRL_OK;
}

enum crl_status crl_kv_new(struct crl_kv **out, const struct crl_config *cfg, size_t n_ctx, enum crl_kv_type type,
                           struct crl_err *err)
{
    struct crl_kv *kv;
    enum crl_status st;
    size_t bytes;

    *out = NULL;
    if (!n_ctx || !crl_kv_bytes(cfg, n_ctx, type, &bytes))
        return crl_fail(err, CRL_ERANGE, "a context of %zu positions is not possible", n_ctx);
    kv = crl_alloc(1, sizeof *kv);
    if (!kv) return crl_fail(err, CRL_ENOMEM, "no memory for a key/value cache");
    kv->type = type;
    kv->n_ctx = n_ctx;
    kv->n_layer = cfg->n_layer;
    kv->n_kv_head = cfg->n_kv_head;
    kv->d_head = cfg->d_head;
    kv->chunk = cfg->chunk;
    st = lay_out(kv, cfg, err);
    if (!st) st = crl_region_new(&kv->region, bytes, CRL_NODE_ANY, CRL_REGION_PLAIN, err);
    if (st) {
        crl_kv_free(kv);
        return st;
    }
    *out = kv;
    return CRL_OK;
}

void crl_kv_free(struct crl_kv *kv)
{
    if (!kv) return;
    crl_region_free(&kv->region);
    crl_free(kv->offset);
    crl_free(kv->slots);
    crl_free(kv->chunked);
    crl_free(kv);
}

size_t crl_kv_room(const struct crl_kv *kv)
{
    size_t room = kv->n_ctx - kv->n_pos, to_edge;

    if (!kv->chunk) return room;
    to_edge = kv->chunk - kv->n_pos % kv->chunk;
    return room < to_edge ? room : to_edge;
}

/* Address of a position's keys (which 0) or values (1). */
static unsigned char *at(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, unsigned which)
{
    size_t slot = kv->chunked[layer] ? pos % kv->chunk : pos;
    size_t row = ((size_t)which * kv->n_kv_head + head) * kv->slots[layer] + slot;

    return kv->region.base + kv->offset[layer] + row * kv->d_head * value_bytes(kv->type);
}

static void put(const struct crl_kv *kv, unsigned char *to, const float *x)
{
    if (kv->type == CRL_KV_F32) {
        memcpy(to, x, kv->d_head * sizeof *x);
        return;
    }
    for (size_t i = 0; i < kv->d_head; i++) crl_put_le16(to + 2 * i, crl_bf16_from_f32(x[i]));
}

void crl_kv_put(struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, const float *k, const float *v)
{
    put(kv, at(kv, layer, head, pos, 0), k);
    put(kv, at(kv, layer, head, pos, 1), v);
}

static const float *rows(const struct crl_kv *kv, const unsigned char *from, size_t n, float *buf)
{
    if (kv->type == CRL_KV_F32) return (const float *)(const void *)from;
    for (size_t i = 0; i < n * kv->d_head; i++) buf[i] = crl_bf16_to_f32(crl_le16(from + 2 * i));
    return buf;
}

const float *crl_kv_keys(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, size_t n, float *buf)
{
    return rows(kv, at(kv, layer, head, pos, 0), n, buf);
}

const float *crl_kv_values(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, size_t n, float *buf)
{
    return rows(kv, at(kv, layer, head, pos, 1), n, buf);
}

enum crl_status crl_kv_truncate(struct crl_kv *kv, size_t n_pos, struct crl_err *err)
{
    bool held = !kv->chunk || n_pos % kv->chunk == 0;

    if (n_pos >= kv->n_pos) return CRL_OK;
    /* n_pos lies in the same chunk as the last position: its start is still there. */
    if (!held) held = n_pos / kv->chunk == (kv->n_pos - 1) / kv->chunk;
    if (!held)
        return crl_fail(err, CRL_ERANGE, "position %zu lies in a chunk that is no longer kept", n_pos);
    kv->n_pos = n_pos;
    return CRL_OK;
}
