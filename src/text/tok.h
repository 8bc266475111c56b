/* tok.h - text to token ids and back: byte-level BPE as Llama 4 uses it.
 *
 * A tokenizer is read once, from Hugging Face's tokenizer.json, from Meta's tokenizer.model or from the
 * binary form of docs/format-tokenizer.md, and never changes afterwards: any number of threads may use one at
 * the same time.
 *
 * Text is cut into pieces by the tokenizer's own pattern and each piece is merged by rank. Special tokens
 * come from text only when the caller says CRL_TOK_SPECIAL; otherwise "<|eot|>" is six ordinary characters
 * and more, so that what a user types cannot end a turn. Bytes that are no UTF-8 become U+FFFD, one for each
 * maximal invalid part. */
#ifndef CRL_TEXT_TOK_H
#define CRL_TEXT_TOK_H

#include "base/status.h"
#include "text/str.h"

#include <stdint.h>

#define CRL_TOK_TEXT_MAX ((size_t)1 << 30) /* bytes in one call of crl_tok_encode */

struct crl_tok;

/* A growing list of ids. Zeroed storage is the empty list; crl_ids_fini releases and empties it. */
struct crl_ids {
    int32_t *v;
    size_t n;
    size_t cap;
};

enum crl_status crl_ids_add(struct crl_ids *ids, int32_t id, struct crl_err *err);
void crl_ids_fini(struct crl_ids *ids);

/* Read a tokenizer from a file, whatever its content: tokenizer.json, tokenizer.model or the binary form. For
 * a folder its tokenizer.json is read, or tokenizer.model when there is none. CRL_EFORMAT: the file breaks
 * its format; CRL_EUNSUPPORTED: it asks for a model, normalizer or split this program does not implement; the
 * sentence says which. */
enum crl_status crl_tok_open(struct crl_tok **tok, const char *path, struct crl_err *err);

/* The same from memory, which is borrowed for the call; `what` names it in messages. */
enum crl_status crl_tok_parse(struct crl_tok **tok, const void *bytes, size_t len, const char *what,
                              struct crl_err *err);

/* The binary form in fresh memory (crl_free), and back. Load checks everything the document lists. */
enum crl_status crl_tok_save(const struct crl_tok *tok, unsigned char **bytes, size_t *len,
                             struct crl_err *err);
enum crl_status crl_tok_load(struct crl_tok **tok, const void *bytes, size_t len, struct crl_err *err);

void crl_tok_close(struct crl_tok *tok);

enum crl_tok_flags {
    CRL_TOK_PLAIN = 0,
    CRL_TOK_BOS = 1,    /* put the begin-of-text token first */
    CRL_TOK_SPECIAL = 2 /* special tokens written by name in the text become that token (longest match) */
};

/* Append the ids of text[0..len) to *out; on failure *out is as it was. CRL_ENOENT: CRL_TOK_BOS for a
 * tokenizer without such a token. Time grows as len log len at worst. */
enum crl_status crl_tok_encode(const struct crl_tok *tok, const char *text, size_t len, unsigned flags,
                               struct crl_ids *out, struct crl_err *err);

/* Ids run from 0 to this number - 1; some may be holes. */
uint32_t crl_tok_vocab(const struct crl_tok *tok);

/* The bytes of a token, not zero-terminated, borrowed from the tokenizer; they need not be UTF-8. NULL and 0
 * for an id that is a hole or outside the vocabulary. A special token's bytes are its name. */
const unsigned char *crl_tok_bytes(const struct crl_tok *tok, int32_t id, size_t *len);

bool crl_tok_is_special(const struct crl_tok *tok, int32_t id);

/* The id of a special (or other added) token by its whole name, "<|eot|>"; -1 if there is none. */
int32_t crl_tok_special_id(const struct crl_tok *tok, const char *name);

/* The begin-of-text token, -1 if there is none. */
int32_t crl_tok_bos(const struct crl_tok *tok);

/* Ids to text, piece by piece. What is appended is always whole UTF-8: the first bytes of a character wait
 * until the rest arrives; what can never become a character turns into U+FFFD. Lives in the caller's storage,
 * needs no fini, borrows the tokenizer. */
enum crl_detok_flags {
    CRL_DETOK_SKIP = 0, /* special tokens print nothing; what waits before them is given up first */
    CRL_DETOK_NAMES = 1 /* special tokens print their name */
};

struct crl_detok {
    const struct crl_tok *tok;
    unsigned flags;
    unsigned n_held;       /* bytes waiting, 0 to 3 */
    unsigned char held[4]; /* the start of a character */
};

void crl_detok_init(struct crl_detok *d, const struct crl_tok *tok, unsigned flags);

/* Append the text that this id completes. An id without a token (hole, outside) prints U+FFFD. */
enum crl_status crl_detok_push(struct crl_detok *d, int32_t id, struct crl_str *out, struct crl_err *err);

/* The end of the output: what still waits becomes one U+FFFD. The object may be used again. */
enum crl_status crl_detok_end(struct crl_detok *d, struct crl_str *out, struct crl_err *err);

/* All of it at once: append the text of ids[0..n). */
enum crl_status crl_tok_decode(const struct crl_tok *tok, const int32_t *ids, size_t n, unsigned flags,
                               struct crl_str *out, struct crl_err *err);

#endif
