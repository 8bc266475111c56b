/* kv.h - key/value cache of one session. Layers with rotary embedding keep the current attention chunk, the others
 * everything, each kv head apart, so that the threads of a head read straight on.
 *
 * Positions come in blocks of CRL_KV_BLOCK. A block of keys is a matrix [64 positions][d_head], a block of values one
 * [d_head][64 positions], both in the panel layout of weights (quant/mat.h: bf16, q8, or float panels [k][16]), so that
 * attention is two small matrix products on the kernels there are. Keys are stored after rotation and head norm.
 *
 * The memory is mapped at once and touched as positions are filled: one region, or one per node with the heads whose
 * attention that node's threads compute. n_pos counts the positions that all layers hold. */
#ifndef CRL_MODEL_KV_H
#define CRL_MODEL_KV_H

#include "base/mem.h"
#include "quant/mat.h"
#include "store/config.h"

#include <stdint.h>

#define CRL_KV_BLOCK 64

enum crl_kv_type {
    CRL_KV_F32 = 0,
    CRL_KV_BF16 = 1,
    CRL_KV_INT8 = 2 /* a scale per 32 numbers of a key, and per value */
};

struct crl_kv {
    enum crl_kv_type type;
    size_t n_pos; /* positions filled */
    size_t n_ctx; /* positions there is room for */
    uint32_t n_layer, n_kv_head, d_head;
    uint32_t chunk;     /* 0: nothing is chunked */
    size_t key_bytes;   /* of a block of keys of one head */
    size_t value_bytes; /* of a block of values of one head */
    size_t *offset;     /* [n_layer] bytes from the start of a head to its part in this layer */
    size_t *blocks;     /* [n_layer] blocks per head; a head's key blocks come first, then its value blocks */
    uint8_t *chunked;   /* [n_layer] 1: slot = position modulo chunk */
    size_t head_bytes;  /* of one head in all layers */
    unsigned char **head; /* [n_kv_head] where each begins */
    struct crl_region *region; /* [n_region] */
    size_t n_region;
};

/* Heads that lie together, and the system's number of the node they are bound to (CRL_NODE_ANY: none). */
struct crl_kv_home {
    size_t n_head;
    int node;
};

/* Bytes the cache of n_ctx positions maps; false on overflow. */
bool crl_kv_bytes(const struct crl_config *cfg, size_t n_ctx, enum crl_kv_type type, size_t *bytes);

/* home[n_home] covers all heads in order; NULL and 0: all together, unbound. */
enum crl_status crl_kv_new(struct crl_kv **out, const struct crl_config *cfg, size_t n_ctx, enum crl_kv_type type,
                           const struct crl_kv_home *home, size_t n_home, struct crl_err *err);
void crl_kv_free(struct crl_kv *kv);

/* Positions that may be appended in one piece from n_pos on without crossing the end of the current chunk (a chunked
 * layer would overwrite keys that earlier tokens of the piece still need). 0 when the cache is full. */
size_t crl_kv_room(const struct crl_kv *kv);

/* Where a position lies in a layer: slot 0 is the first one that a token there attends to. */
static inline size_t crl_kv_slot(const struct crl_kv *kv, uint32_t layer, size_t pos)
{
    return kv->chunked[layer] ? pos % kv->chunk : pos;
}

/* Store k and v, each [d_head], of one head at a position. */
void crl_kv_put(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t pos, const float *k, const float *v);

/* Bytes of memory per number of keys and values, padding included. */
double crl_kv_number_bytes(enum crl_kv_type type, size_t d_head);

/* Bind block `block` of a head: keys as w[64][d_head], values as w[d_head][64]. Slots that were never filled hold
 * zeros or what an earlier chunk left: finite numbers. int8 values come with a scale per position, [64], which is
 * returned; else NULL. */
void crl_kv_keys(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t block, struct crl_mat *m);
const float *crl_kv_values(const struct crl_kv *kv, uint32_t layer, uint32_t head, size_t block, struct crl_mat *m);

/* Forget all positions from n_pos on. CRL_ERANGE when chunked layers no longer hold what would be needed, that is
 * when n_pos lies before the start of the chunk the cache is in and is not a chunk start itself. */
enum crl_status crl_kv_truncate(struct crl_kv *kv, size_t n_pos, struct crl_err *err);

#endif
