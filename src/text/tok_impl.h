/* tok_impl.h - inside of a tokenizer, shared by its readers, encoder and decoder (internal to src/text).
 *
 * A reader fills a struct crl_tok_parts; crl_tok_build checks it as docs/format-tokenizer.md lists and makes
 * the tables. So every source passes the same checks. */
#ifndef CRL_TEXT_TOK_IMPL_H
#define CRL_TEXT_TOK_IMPL_H

#include "text/pretok.h"
#include "text/tok.h"

#define TOK_MAGIC "CRLTOK\0\0"
#define TOK_VOCAB_MAX ((uint32_t)1 << 27)
#define TOK_BYTES_MAX 65535 /* of one token */
#define TOK_NONE UINT32_MAX

enum tok_flags { TOK_WHOLE = 1, TOK_RANKED = 2 };

enum tok_kind {
    TOK_HOLE,
    TOK_ORDINARY,
    TOK_SPECIAL,
    TOK_ADDED,
    TOK_LATE = 0x80 /* a bit */
};

struct tok_merge {
    uint32_t left, right;
};

/* What the binary form holds; arrays are owned. */
struct crl_tok_parts {
    uint32_t n_vocab, n_merge, flags, bos;
    unsigned char *kind;      /* [n_vocab] */
    uint32_t *off;            /* [n_vocab + 1] into blob */
    unsigned char *blob;      /* [off[n_vocab]] */
    struct tok_merge *merges; /* [n_merge], by rank */
    char *pattern;            /* zero-terminated */
    size_t len_pattern;
};

struct str_slot {
    uint32_t tag; /* upper half of the hash */
    uint32_t id;  /* TOK_NONE: free */
};

struct pair_slot {
    uint32_t left, right; /* left TOK_NONE: free */
    uint32_t rank, id;
};

struct crl_tok {
    struct crl_tok_parts p;
    struct crl_pretok *pretok;
    struct str_slot *strs;   /* ordinary tokens by bytes, open addressing */
    size_t str_mask;         /* slots - 1, a power of two less one */
    struct pair_slot *pairs; /* merges by pair; NULL when ranked */
    size_t pair_mask;
    unsigned pair_shift; /* 64 - log2(slots) */
    uint32_t *added;     /* ids of special and added tokens by bytes */
    size_t n_added;
    unsigned char added_first[256]; /* 1: some added token starts with this byte */
    bool any_late, any_added;       /* tokens with TOK_LATE; tokens that are not special */
    uint32_t byte_id[256];
    size_t len_max; /* bytes of the longest ordinary token */
};

/* The bytes [off[id], off[id + 1]) of the blob. */
static inline const unsigned char *tok_bytes(const struct crl_tok *t, uint32_t id, size_t *len)
{
    *len = t->p.off[id + 1] - t->p.off[id];
    return t->p.blob + t->p.off[id];
}

static inline unsigned tok_kind(const struct crl_tok *t, uint32_t id)
{
    return t->p.kind[id] & 0x7f;
}

/* The upper bits choose the slot; the lower ones of a product depend on too few bits of the ids. */
static inline uint64_t crl_tok_pair_hash(uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;

    key *= 0x9e3779b97f4a7c15;
    key ^= key >> 32;
    return key * 0xd6e8feb86659fd93;
}

/* The ordinary token with these bytes, TOK_NONE if there is none. */
uint32_t crl_tok_find(const struct crl_tok *t, const void *bytes, size_t len);

/* Takes the arrays of *parts over, also on failure. */
enum crl_status crl_tok_build(struct crl_tok **tok, struct crl_tok_parts *parts, struct crl_err *err);
void crl_tok_parts_fini(struct crl_tok_parts *parts);

enum crl_status crl_tok_parse_json(struct crl_tok **tok, const char *text, size_t len, const char *what,
                                   struct crl_err *err);
enum crl_status crl_tok_parse_ranks(struct crl_tok **tok, const char *text, size_t len, struct crl_err *err);

/* The pattern of Llama 4's tokenizer, which tokenizer.model implies and tokenizer.json spells out. */
extern const char crl_tok_llama4_pattern[];

#endif
