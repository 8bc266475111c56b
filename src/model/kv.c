/* kv.c - the key/value cache. */
#include "model/kv.h"

#include "base/bytes.h"
#include "quant/q8.h"

#include <math.h>
#include <string.h>

#define VALUE_SCALES (CRL_KV_BLOCK * sizeof(float)) /* of a block of int8 values, behind its panels */

/* A panel of rows of k numbers. */
static size_t panel_bytes(enum crl_kv_type type, size_t k)
{
    if (type == CRL_KV_INT8) return crl_panel_bytes(CRL_Q8, k);
    return CRL_PANEL_ROWS * crl_k_pad(k) * (type == CRL_KV_F32 ? 4 : 2);
}

static size_t key_bytes(const struct crl_config *cfg, enum crl_kv_type type)
{
    return crl_n_panel(CRL_KV_BLOCK) * panel_bytes(type, cfg->d_head);
}

static size_t value_bytes(const struct crl_config *cfg, enum crl_kv_type type)
{
    return crl_n_panel(cfg->d_head) * panel_bytes(type, CRL_KV_BLOCK) + (type == CRL_KV_INT8 ? VALUE_SCALES : 0);
}

double crl_kv_number_bytes(enum crl_kv_type type, size_t d_head)
{
    size_t block = crl_n_panel(CRL_KV_BLOCK) * panel_bytes(type, d_head) +
                   crl_n_panel(d_head) * panel_bytes(type, CRL_KV_BLOCK) + (type == CRL_KV_INT8 ? VALUE_SCALES : 0);

    return (double)block / (double)(2 * CRL_KV_BLOCK * d_head);
}

static size_t layer_blocks(const struct crl_config *cfg, uint32_t layer, size_t n_ctx)
{
    size_t slots = cfg->uses_rope[layer] && cfg->chunk && cfg->chunk < n_ctx ? cfg->chunk : n_ctx;

    return slots / CRL_KV_BLOCK + (slots % CRL_KV_BLOCK > 0);
}

bool crl_kv_bytes(const struct crl_config *cfg, size_t n_ctx, enum crl_kv_type type, size_t *bytes)
{
    size_t total = 0, block = (key_bytes(cfg, type) + value_bytes(cfg, type)) * cfg->n_kv_head;

    for (uint32_t l = 0; l < cfg->n_layer; l++) {
        size_t one;
        if (!crl_mul_size(block, layer_blocks(cfg, l, n_ctx), &one) || !crl_add_size(total, one, &total)) return false;
    }
    *bytes = total;
    return true;
}

static enum crl_status lay_out(struct crl_kv *kv, const struct crl_config *cfg, struct crl_err *err)
{
    size_t at = 0;

    kv->offset = crl_alloc(cfg->n_layer, sizeof *kv->offset);
    kv->blocks = crl_alloc(cfg->n_layer, sizeof *kv->blocks);
    kv->chunked = crl_alloc(cfg->n_layer, 1);
    if (!kv->offset || !kv->blocks || !kv->chunked) return crl_fail(err, CRL_ENOMEM, "no memory for a key/value cache");
    for (uint32_t l = 0; l < cfg->n_layer; l++) {
        kv->chunked[l] = cfg->uses_rope[l] && cfg->chunk;
        kv->blocks[l] = layer_blocks(cfg, l, kv->n_ctx);
        kv->offset[l] = at;
        at += (kv->key_bytes + kv->value_bytes) * kv->blocks[l];
    }
    kv->head_bytes = at;
    return CRL_OK;
}

/* Where the system refuses to bind, the heads lie unbound: slower, not wrong; loading the weights has told so. */
static enum crl_status map_heads(struct crl_kv *kv, const struct crl_kv_home *home, size_t n_home, struct crl_err *err)
{
    const struct crl_kv_home all = { kv->n_kv_head, CRL_NODE_ANY };
    enum crl_status st = CRL_OK;
    size_t head = 0;

    if (!n_home) {
        home = &all;
        n_home = 1;
    }
    kv->region = crl_alloc(n_home, sizeof *kv->region);
    kv->head = crl_alloc(kv->n_kv_head, sizeof *kv->head);
    if (!kv->region || !kv->head) return crl_fail(err, CRL_ENOMEM, "no memory for a key/value cache");
    kv->n_region = n_home;
    for (size_t i = 0; !st && i < n_home; i++) {
        struct crl_region *r = &kv->region[i];
        size_t bytes = kv->head_bytes * home[i].n_head;

        if (!home[i].n_head) continue;
        st = crl_region_new(r, bytes, home[i].node, CRL_HUGE_TRY, NULL);
        if (st && home[i].node != CRL_NODE_ANY) st = crl_region_new(r, bytes, CRL_NODE_ANY, CRL_HUGE_TRY, NULL);
        if (st) return crl_fail(err, st, "no memory for a key/value cache of %zu bytes", kv->head_bytes * kv->n_kv_head);
        for (size_t j = 0; j < home[i].n_head; j++) kv->head[head++] = r->base + kv->head_bytes * j;
    }
    return CRL_OK;
}

enum crl_status crl_kv_new(struct crl_kv **out, const struct crl_config *cfg, size_t n_ctx, enum crl_kv_type type,
                           const struct crl_kv_home *home, size_t n_home, struct crl_err *err)
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
    kv->key_bytes = key_bytes(cfg, type);
    kv->value_bytes = value_bytes(cfg, type);
    st = lay_out(kv, cfg, err);
    if (!st) st = map_heads(kv, home, n_home, err);
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
    for (size_t i = 0; i < kv->n_region; i++) crl_region_free(&kv->region[i]);
    crl_free(kv->region);
    crl_free(kv->head);
    crl_free(kv->offset);
    crl_free(kv->blocks);
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

static unsigned char *key_block(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t block)
{
    return kv->head[head] + kv->offset[layer] + kv->key_bytes * block;
}

static unsigned char *value_block(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t block)
{
    return key_block(kv, layer, head, 0) + kv->key_bytes * kv->blocks[layer] + kv->value_bytes * block;
}

/* Key k[d] as row `row` of a block: d runs along k. */
static void put_key(const struct crl_kv *kv, unsigned char *block, size_t row, const float *k)
{
    size_t d = kv->d_head;
    unsigned char *panel = block + row / CRL_PANEL_ROWS * panel_bytes(kv->type, d), *to = panel + row % CRL_PANEL_ROWS * 4;

    switch (kv->type) {
    case CRL_KV_F32:
        for (size_t i = 0; i < d; i++) memcpy(to + i * 64, &k[i], 4);
        break;
    case CRL_KV_BF16:
        for (size_t i = 0; i < d; i++) crl_put_le16(to + i / 2 * 64 + i % 2 * 2, crl_bf16_from_f32(k[i]));
        break;
    case CRL_KV_INT8: crl_q8_put_row(panel, row % CRL_PANEL_ROWS, k, d); break;
    }
}

/* int8 values have a scale per position, so that a position can be added without touching the others; the scales that
 * the format wants along a row are all 1. The first position of a block writes those. */
static void put_value_int8(const struct crl_kv *kv, unsigned char *block, size_t col, const float *v)
{
    size_t bytes = panel_bytes(CRL_KV_INT8, CRL_KV_BLOCK), head = crl_q8_scale_bytes(CRL_KV_BLOCK), n = crl_n_panel(kv->d_head);
    float big = 0, scale, inv;

    for (size_t p = 0; col == 0 && p < n; p++)
        for (size_t i = 0; i < head; i += 2) crl_put_le16(block + p * bytes + i, crl_bf16_from_f32(1));
    for (size_t i = 0; i < kv->d_head; i++)
        if (fabsf(v[i]) > big) big = fabsf(v[i]);
    scale = big / 127;
    inv = scale > 0 && 1 / scale < INFINITY ? 1 / scale : 0;
    memcpy(block + n * bytes + col * sizeof scale, &scale, sizeof scale);
    for (size_t i = 0; i < kv->d_head; i++) {
        float c = rintf(v[i] * inv); /* at most 127 for numbers; what is none becomes 0 */
        block[i / CRL_PANEL_ROWS * bytes + head + col / 4 * 64 + i % CRL_PANEL_ROWS * 4 + col % 4] =
            (unsigned char)(int8_t)(c >= -127 && c <= 127 ? (int)c : 0);
    }
}

/* Value v[d] as column `col` of a block: d runs along the rows. */
static void put_value(const struct crl_kv *kv, unsigned char *block, size_t col, const float *v)
{
    size_t bytes = panel_bytes(kv->type, CRL_KV_BLOCK);

    if (kv->type == CRL_KV_INT8) {
        put_value_int8(kv, block, col, v);
        return;
    }
    for (size_t i = 0; i < kv->d_head; i++) {
        unsigned char *to = block + i / CRL_PANEL_ROWS * bytes + i % CRL_PANEL_ROWS * 4;
        if (kv->type == CRL_KV_F32) memcpy(to + col * 64, &v[i], 4);
        else crl_put_le16(to + col / 2 * 64 + col % 2 * 2, crl_bf16_from_f32(v[i]));
    }
}

void crl_kv_put(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, const float *k, const float *v)
{
    size_t slot = crl_kv_slot(kv, layer, pos);

    put_key(kv, key_block(kv, layer, head, slot / CRL_KV_BLOCK), slot % CRL_KV_BLOCK, k);
    put_value(kv, value_block(kv, layer, head, slot / CRL_KV_BLOCK), slot % CRL_KV_BLOCK, v);
}

/* The next block is worth asking for when it was ever written: memory that was not is not mapped, and looking for it
 * costs more than it brings. */
static void bind(const struct crl_kv *kv, struct crl_mat *m, size_t n, size_t k, const unsigned char *at, size_t block)
{
    memset(m, 0, sizeof *m);
    m->format = kv->type == CRL_KV_F32 ? CRL_F32 : kv->type == CRL_KV_BF16 ? CRL_BF16 : CRL_Q8;
    m->n = n;
    m->k = k;
    m->panel = at;
    m->panel_bytes = panel_bytes(kv->type, k);
    if (kv->n_pos > (block + 1) * CRL_KV_BLOCK) m->ahead = crl_n_panel(n) * m->panel_bytes;
}

void crl_kv_keys(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t block, struct crl_mat *m)
{
    bind(kv, m, CRL_KV_BLOCK, kv->d_head, key_block(kv, layer, head, block), block);
}

const float *crl_kv_values(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t block, struct crl_mat *m)
{
    const unsigned char *at = value_block(kv, layer, head, block);

    bind(kv, m, kv->d_head, CRL_KV_BLOCK, at, block);
    if (kv->type != CRL_KV_INT8) return NULL;
    return (const float *)(const void *)(at + kv->value_bytes - VALUE_SCALES); /* 64-byte aligned, as blocks are */
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
