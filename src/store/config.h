/* config.h - what a Llama 4 model is: the numbers of config.json after defaults, spellings and derived lists have
 * been settled. Plain data, checked once by crl_config_check; everything behind the store trusts it.
 *
 * The field names are the vocabulary of the whole tree. Sources: docs/model.md, "Configuration". */
#ifndef CRL_STORE_CONFIG_H
#define CRL_STORE_CONFIG_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define CRL_MAX_LAYER 1024

enum crl_rope_type { CRL_ROPE_PLAIN = 0, CRL_ROPE_LLAMA3 = 1 };

/* The vision tower with its adapter and projector; docs/vision.md. All zero in a text-only model. */
struct crl_vision_config {
    uint32_t n_layer;
    uint32_t n_head;
    uint32_t d_model; /* a multiple of 4 * n_head */
    uint32_t d_ff;    /* d_model * shuffle^2: width of the blocks and input of the adapter alike */
    uint32_t d_out;   /* width of the adapter, input of the projector */
    uint32_t image;   /* pixels of a tile's side */
    uint32_t patch;   /* pixels of a patch's side; divides image */
    uint32_t shuffle; /* patches of a square's side that become one token; divides image / patch */
    float rope_theta;
};

struct crl_config {
    uint32_t n_layer;
    uint32_t n_head;
    uint32_t n_kv_head; /* divides n_head */
    uint32_t d_head;    /* even */
    uint32_t d_model;
    uint32_t d_ff;       /* width of a routed expert and of the shared expert */
    uint32_t d_ff_dense; /* width of the feed-forward block of dense layers */
    uint32_t vocab;
    uint32_t n_expert;      /* 0 only when no layer is a mixture */
    uint32_t n_expert_used; /* top-k, 1 in all releases */
    uint32_t n_ctx;         /* max_position_embeddings */
    uint32_t chunk;         /* attention_chunk_size; 0: layers with rotary embedding see everything */
    uint32_t floor_scale;   /* temperature tuning: log(floor((p+1)/floor_scale)+1)*attn_scale+1 */
    float attn_scale;
    float norm_eps;
    float rope_theta;
    enum crl_rope_type rope_type;
    float rope_factor; /* llama3 scaling; see crl_rope_freqs */
    float rope_low;
    float rope_high;
    uint32_t rope_old_ctx;
    bool qk_norm;
    bool temperature_tuning;
    bool attention_bias;
    bool tied;       /* the head is the embedding table */
    bool multimodal; /* there is a vision tower */

    int32_t bos; /* -1: none */
    int32_t pad; /* -1: none */
    uint32_t n_eos;
    int32_t eos[8];
    int32_t image_token; /* image_token_index, 200092 in the releases; -1: none */

    struct crl_vision_config vision; /* with multimodal */

    uint8_t uses_rope[CRL_MAX_LAYER]; /* 1: rotary embedding and chunked attention; 0: NoPE, full attention */
    uint8_t is_moe[CRL_MAX_LAYER];    /* 1: routed and shared experts; 0: dense block of d_ff_dense */
};

/* Patches of a tile, and the tokens it becomes. Only with multimodal. */
static inline uint32_t crl_vision_patches(const struct crl_config *cfg)
{
    return cfg->vision.image / cfg->vision.patch * (cfg->vision.image / cfg->vision.patch);
}

static inline uint32_t crl_vision_tokens(const struct crl_config *cfg)
{
    return crl_vision_patches(cfg) / (cfg->vision.shuffle * cfg->vision.shuffle);
}

/* Every range and relation the forward pass relies on; CRL_EFORMAT names the field. */
enum crl_status crl_config_check(const struct crl_config *cfg, struct crl_err *err);

/* Canonical JSON for the packed file, and back. The text is deterministic; unknown keys are refused on reading.
 * crl_config_to_json gives fresh memory (crl_free), NULL on exhaustion. crl_config_from_json checks too. */
char *crl_config_to_json(const struct crl_config *cfg);
enum crl_status crl_config_from_json(struct crl_config *cfg, const char *text, size_t len, struct crl_err *err);

#endif
