/* corral.h - the public interface of libcorral: open a packed Llama 4 model, feed tokens, get logits or text.
 *
 * An engine is a model in memory, immutable after opening; a session is one conversation, its cache and position. An
 * engine has any number of sessions; one thread at a time may run an engine, and a session belongs to one thread at a
 * time. A packed file (.crl) comes from `corral convert`.
 *
 *     struct crl_engine *engine;  struct crl_session *session;  struct crl_err err = { "" };
 *     if (crl_engine_open(&engine, "scout.crl", NULL, &err)) ... err.text says why ...
 *     crl_session_new(&session, engine, 0, &err);
 *     crl_session_feed(session, ids, n, logits, &err);      logits of the last token, float [vocab]
 *
 * Errors: base/status.h. Strings are UTF-8. */
#ifndef CORRAL_H
#define CORRAL_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CRL_API __attribute__((visibility("default")))

struct crl_engine;
struct crl_session;
struct crl_sampler;
struct crl_picture;

/* Zeroed options (or NULL) mean the defaults. */
struct crl_engine_options {
    unsigned threads;  /* 0: one per core this process may use */
    const char *isa;   /* weakest sufficient level by name ("avx2"); NULL: the best this machine has */
    size_t batch_max;  /* most tokens computed at once; 0: 512 */
    enum crl_kv_choice {
        CRL_KV_AUTO, /* float32 for models packed with recipe bf16, else bf16 */
        CRL_KV_CHOOSE_F32,
        CRL_KV_CHOOSE_BF16,
        CRL_KV_CHOOSE_INT8 /* half the memory of bf16; docs/quality.md says what it costs */
    } kv;
    bool no_pin; /* let threads wander between cores */
    /* Where weights lie on a machine with several memory nodes: "experts", "rows", "interleave", "off"; NULL or "auto":
     * what is predicted to be fastest. The results are the same. */
    const char *numa;
    /* Plan for another machine: a file of hwloc's XML, or a synthetic description. Nothing is bound then. NULL: this one. */
    const char *topology;
    bool mapped;    /* low memory: leave the weights in the file, pages come as they are touched */
    bool no_verify; /* do not check the hashes of the weights while loading them */
    /* Called while weights are loaded, from the calling thread; false stops with CRL_EINTR. May be NULL. */
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_ctx;
    size_t picture_cache; /* bytes kept of pictures seen; 0: 512 MiB */
};

CRL_API enum crl_status crl_engine_open(struct crl_engine **engine, const char *path,
                                        const struct crl_engine_options *options, struct crl_err *err);
CRL_API void crl_engine_close(struct crl_engine *engine);

/* Facts of an open engine; strings live as long as it does. */
struct crl_engine_info {
    uint32_t vocab, n_layer, n_expert, n_expert_used, d_model;
    uint32_t n_ctx;              /* positions the model was trained for */
    const char *recipe;          /* "q4" */
    const char *isa;             /* level of the kernels in use */
    unsigned threads;
    uint64_t params, params_active;
    uint64_t bytes;              /* of all weights */
    uint64_t bytes_per_token;    /* of weights read for one decoded token */
    bool sees;                   /* there is a vision tower: pictures may be fed */
    int32_t image_token;         /* the id whose embedding pictures replace; -1: none */
    int32_t bos, eos[8];         /* -1: none */
    uint32_t n_eos;
    const char *numa;            /* "rows" */
    unsigned nodes;              /* memory nodes whose cores compute */
    bool pretended;              /* the topology is not this machine's */
};
CRL_API void crl_engine_info(const struct crl_engine *engine, struct crl_engine_info *info);

/* Text to ids in fresh memory (crl_release). special: tokens written by name ("<|eot|>") become that token; bos: put
 * the begin-of-text token first. */
CRL_API enum crl_status crl_engine_tokenize(const struct crl_engine *engine, const char *text, size_t len, bool bos,
                                            bool special, int32_t **ids, size_t *n, struct crl_err *err);
/* Ids to text in fresh memory, zero-terminated (crl_release); special tokens print nothing. */
CRL_API enum crl_status crl_engine_detokenize(const struct crl_engine *engine, const int32_t *ids, size_t n,
                                              char **text, struct crl_err *err);
CRL_API void crl_release(void *p);

/* n_ctx: positions there is room for; 0 means the model's own, at most 32768. */
CRL_API enum crl_status crl_session_new(struct crl_session **session, struct crl_engine *engine, size_t n_ctx,
                                        struct crl_err *err);
CRL_API void crl_session_free(struct crl_session *session);

/* Tokens fed so far, and those that still fit. */
CRL_API size_t crl_session_pos(const struct crl_session *session);
CRL_API size_t crl_session_left(const struct crl_session *session);

/* Append n tokens. logits: float [vocab] of the last one, or NULL. Feeding a text in pieces or at once gives the same.
 * CRL_ERANGE for an id outside the vocabulary, CRL_EFULL when n tokens do not fit: the session is then unchanged. */
CRL_API enum crl_status crl_session_feed(struct crl_session *session, const int32_t *ids, size_t n, float *logits,
                                         struct crl_err *err);

/* The same with the logits of every token, float [n][vocab]. */
CRL_API enum crl_status crl_session_feed_all(struct crl_session *session, const int32_t *ids, size_t n, float *logits,
                                             struct crl_err *err);

/* Pictures, for engines that see. A picture is a file (PNG, JPEG or BMP) decoded, cut into tiles and later, when it is
 * first fed, encoded; the same pixels are encoded once as long as the engine's cache holds them. In a prompt a picture is
 * a block of crl_picture_tokens ids, which crl_picture_ids writes. Free every picture before its engine is closed. */
struct crl_picture_options {
    uint32_t max_tiles; /* fewer tiles than the model's own limit: less detail, less time; 0: the model's limit */
    bool as_stored;     /* do not turn it as its EXIF orientation says */
};
CRL_API enum crl_status crl_picture_open(struct crl_picture **picture, struct crl_engine *engine, const char *path,
                                         const struct crl_picture_options *options, struct crl_err *err);
/* The same from a file in memory; name stands for it in messages, NULL for "picture". */
CRL_API enum crl_status crl_picture_read(struct crl_picture **picture, struct crl_engine *engine, const void *data,
                                         size_t len, const char *name, const struct crl_picture_options *options,
                                         struct crl_err *err);
CRL_API void crl_picture_free(struct crl_picture *picture);
CRL_API size_t crl_picture_tokens(const struct crl_picture *picture);
CRL_API size_t crl_picture_tiles(const struct crl_picture *picture);
CRL_API uint64_t crl_picture_hash(const struct crl_picture *picture); /* of its pixels */
/* ids[crl_picture_tokens]. CRL_ENOENT when the model's tokenizer has no tokens for pictures. */
CRL_API enum crl_status crl_picture_ids(const struct crl_picture *picture, int32_t *ids, struct crl_err *err);

/* crl_session_feed of ids that hold blocks of pictures, in the order of the pictures; CRL_ERANGE when the number of image
 * tokens is not what the pictures need. Pictures are encoded first where they were not. */
CRL_API enum crl_status crl_session_feed_pictures(struct crl_session *session, const int32_t *ids, size_t n,
                                                  struct crl_picture *const *pictures, size_t n_picture, float *logits,
                                                  struct crl_err *err);

/* One token for each of n different sessions of one engine in a single pass: weights are read once for all.
 * logits: float [n][vocab]. All or nothing, as above. */
CRL_API enum crl_status crl_engine_step(struct crl_engine *engine, struct crl_session *const *sessions,
                                        const int32_t *ids, size_t n, float *logits, struct crl_err *err);

/* Forget the tokens from position n on. CRL_ERANGE when a chunked attention layer no longer keeps what lies there
 * (n before the current chunk and not the start of one). */
CRL_API enum crl_status crl_session_truncate(struct crl_session *session, size_t n, struct crl_err *err);

/* How to choose the next token. Zeroed: greedy. Filters apply in the order of the fields. */
struct crl_sampler_options {
    float repetition_penalty; /* of logits of tokens seen: divided if positive, multiplied if negative; 0 or 1: off */
    float presence_penalty;   /* subtracted once from tokens seen; 0: off */
    float frequency_penalty;  /* subtracted per occurrence; 0: off */
    size_t penalty_window;    /* how many last tokens count as seen; 0: all */
    float temperature;        /* 0: greedy, the lowest id on ties */
    uint32_t top_k;           /* 0: off */
    float top_p;              /* 0 or 1: off; the entry that crosses the sum stays */
    float min_p;              /* least probability relative to the best; 0: off */
    uint64_t seed;            /* the same seed gives the same choices */
};

/* Defaults of the model's own generation settings (temperature, top_p, top_k, repetition_penalty). */
CRL_API void crl_engine_sampling(const struct crl_engine *engine, struct crl_sampler_options *options);

CRL_API enum crl_status crl_sampler_new(struct crl_sampler **sampler, const struct crl_sampler_options *options,
                                        uint32_t vocab, struct crl_err *err);
CRL_API void crl_sampler_free(struct crl_sampler *sampler);

/* The next token for logits [vocab], which are changed; the choice is also noted as seen. -1 when every logit is NaN. */
CRL_API int32_t crl_sampler_pick(struct crl_sampler *sampler, float *logits);

/* Note a token of the prompt as seen, for the penalties. */
CRL_API enum crl_status crl_sampler_accept(struct crl_sampler *sampler, int32_t id, struct crl_err *err);

#ifdef __cplusplus
}
#endif

#endif
