/* kv.h - key/value cache of one session. Layers with rotary embedding keep the current attention chunk, the others
 * everything, each kv head apart: [kv head][slot][d_head], so that the threads of a head read straight on.
 *
 * Keys are stored after rotation and head norm. The memory is one region, mapped at once and touched as positions
 * are filled. n_pos counts the positions that all layers hold. */
#ifndef CRL_MODEL_KV_H
#define CRL_MODEL_KV_H

#include "base/mem.h"
#include "store/config.h"

#include <stdint.h>

enum crl_kv_type { CRL_KV_F32 = 0, CRL_KV_BF16 = 1 };

struct crl_kv {
    enum crl_kv_type type;
    size_t n_pos;     /* positions filled */
    size_t n_ctx;     /* positions there is room for */
    uint32_t n_layer, n_kv_head, d_head;
    uint32_t chunk;   /* 0: nothing is chunked */
    size_t *offset;   /* [n_layer] bytes from the region's start to the layer's keys; its values follow them */
    size_t *slots;    /* [n_layer] positions a layer holds at once */
    uint8_t *chunked; /* [n_layer] 1: slot = position modulo chunk */
    struct crl_region region;
};

/* Bytes the cache of n_ctx positions maps; false on overflow. */
bool crl_kv_bytes(const struct crl_config *cfg, size_t n_ctx, enum crl_kv_type type, size_t *bytes);

enum crl_status crl_kv_new(struct crl_kv **out, const struct crl_config *cfg, size_t n_ctx, enum crl_kv_type type,
                           struct crl_err *err);
void crl_kv_free(struct crl_kv *kv);

/* Positions that may be appended in one piece from n_pos on without crossing the end of the current chunk (a chunked
 * layer would overwrite keys that earlier tokens of the piece still need). 0 when the cache is full. */
size_t crl_kv_room(const struct crl_kv *kv);

/* First position that a token at `pos` of this layer attends to. */
static inline size_t crl_kv_first(const struct crl_kv *kv, uint32_t layer, size_t pos)
{
    return kv->chunked[layer] ? pos - pos % kv->chunk : 0;
}

/* Store k and v, each [d_head], of one head at a position. */
void crl_kv_put(struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, const float *k, const float *v);

/* Keys (or values) of one head for n consecutive positions from `pos` on, inside one chunk, as float [n][d_head]:
 * a pointer into the cache, or `buf` filled. */
const float *crl_kv_keys(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, size_t n, float *buf);
const float *crl_kv_values(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, size_t n, float *buf);

/* Forget all positions from n_pos on. CRL_ERANGE when chunked layers no longer hold what would be needed, that is
 * when n_pos lies before the start of the chunk the cache is in and is not a chunk start itself. */
enum crl_status crl_kv_truncate(struct crl_kv *kv, size_t n_pos, struct crl_err *err);

#endif
