/* tok.c - making, checking and asking a tokenizer. */
#include "text/tok.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "text/tok_impl.h"
#include "text/utf8.h"

#include <stdlib.h>

#define FILE_MAX ((size_t)256 << 20) /* bytes; the largest tokenizer.json seen is 28 MB */

void crl_tok_parts_fini(struct crl_tok_parts *p)
{
    crl_free(p->kind);
    crl_free(p->off);
    crl_free(p->blob);
    crl_free(p->merges);
    crl_free(p->pattern);
    memset(p, 0, sizeof *p);
}

void crl_tok_close(struct crl_tok *t)
{
    if (!t) return;
    crl_pretok_free(t->pretok);
    crl_free(t->strs);
    crl_free(t->pairs);
    crl_free(t->added);
    crl_tok_parts_fini(&t->p);
    crl_free(t);
}

uint32_t crl_tok_find(const struct crl_tok *t, const void *bytes, size_t len)
{
    uint64_t h;
    size_t i;

    if (len == 0 || len > t->len_max) return TOK_NONE;
    h = crl_hash(bytes, len);
    for (i = h & t->str_mask; t->strs[i].id != TOK_NONE; i = (i + 1) & t->str_mask) {
        size_t n;
        const unsigned char *b;

        if (t->strs[i].tag != (uint32_t)(h >> 32)) continue;
        b = tok_bytes(t, t->strs[i].id, &n);
        if (n == len && memcmp(b, bytes, n) == 0) return t->strs[i].id;
    }
    return TOK_NONE;
}

/* Slots for n entries, at most half full. */
static size_t slots_for(size_t n)
{
    size_t slots = 512;

    while (slots < 2 * n) slots *= 2;
    return slots;
}

static enum crl_status check_kinds(struct crl_tok *t, size_t *n_ordinary, struct crl_err *err)
{
    uint32_t id;

    for (id = 0; id < t->p.n_vocab; id++) {
        unsigned kind = tok_kind(t, id);
        size_t len;
        const unsigned char *b = tok_bytes(t, id, &len);

        if (kind > TOK_ADDED || (kind < TOK_SPECIAL && (t->p.kind[id] & TOK_LATE)))
            return crl_fail(err, CRL_EFORMAT, "token %u has the unknown kind %u", id, t->p.kind[id]);
        if ((len == 0) != (kind == TOK_HOLE) || len > TOK_BYTES_MAX)
            return crl_fail(err, CRL_EFORMAT, "token %u has %zu bytes", id, len);
        if (kind >= TOK_SPECIAL && (!crl_utf8_valid(b, len) || memchr(b, 0, len)))
            return crl_fail(err, CRL_EFORMAT, "the name of token %u is no text", id);
        *n_ordinary += kind == TOK_ORDINARY;
        t->n_added += kind >= TOK_SPECIAL;
        t->any_late |= (t->p.kind[id] & TOK_LATE) != 0;
        t->any_added |= kind == TOK_ADDED;
        if (kind == TOK_ORDINARY && len > t->len_max) t->len_max = len;
    }
    return CRL_OK;
}

static enum crl_status index_ordinary(struct crl_tok *t, size_t n_ordinary, struct crl_err *err)
{
    size_t slots = slots_for(n_ordinary), i;
    uint32_t id;

    t->strs = crl_alloc(slots, sizeof *t->strs);
    if (!t->strs) return crl_fail(err, CRL_ENOMEM, "no memory for %zu tokens", n_ordinary);
    memset(t->strs, 0xff, slots * sizeof *t->strs);
    t->str_mask = slots - 1;
    for (id = 0; id < t->p.n_vocab; id++) {
        size_t len, n;
        const unsigned char *b = tok_bytes(t, id, &len);
        uint64_t h;

        if (tok_kind(t, id) != TOK_ORDINARY) continue;
        h = crl_hash(b, len);
        for (i = h & t->str_mask; t->strs[i].id != TOK_NONE; i = (i + 1) & t->str_mask)
            if (t->strs[i].tag == (uint32_t)(h >> 32)) {
                const unsigned char *other = tok_bytes(t, t->strs[i].id, &n);

                if (n == len && memcmp(b, other, n) == 0)
                    return crl_fail(err, CRL_EFORMAT, "tokens %u and %u have the same bytes", t->strs[i].id,
                                    id);
            }
        t->strs[i].tag = (uint32_t)(h >> 32);
        t->strs[i].id = id;
    }
    for (i = 0; i < 256; i++) {
        unsigned char c = (unsigned char)i;

        t->byte_id[i] = crl_tok_find(t, &c, 1);
        if (t->byte_id[i] == TOK_NONE)
            return crl_fail(err, CRL_EFORMAT, "no token stands for the single byte 0x%02x", c);
    }
    return CRL_OK;
}

/* One merge into the table; `cat` has room for two tokens. */
static enum crl_status index_merge(struct crl_tok *t, uint32_t rank, unsigned char *cat, struct crl_err *err)
{
    struct tok_merge m = t->p.merges[rank];
    const unsigned char *a, *b;
    size_t na, nb, i;
    uint32_t id;

    if (m.left >= t->p.n_vocab || m.right >= t->p.n_vocab || tok_kind(t, m.left) != TOK_ORDINARY ||
        tok_kind(t, m.right) != TOK_ORDINARY)
        return crl_fail(err, CRL_EFORMAT, "merge %u joins %u and %u, which are not both ordinary tokens", rank,
                        m.left, m.right);
    a = tok_bytes(t, m.left, &na);
    b = tok_bytes(t, m.right, &nb);
    memcpy(cat, a, na);
    memcpy(cat + na, b, nb);
    id = crl_tok_find(t, cat, na + nb);
    if (id == TOK_NONE)
        return crl_fail(err, CRL_EFORMAT, "merge %u joins %u and %u to bytes that are no token", rank, m.left,
                        m.right);
    for (i = crl_tok_pair_hash(m.left, m.right) >> t->pair_shift; t->pairs[i].left != TOK_NONE;
         i = (i + 1) & t->pair_mask)
        if (t->pairs[i].left == m.left && t->pairs[i].right == m.right)
            return crl_fail(err, CRL_EFORMAT, "merges %u and %u are the same", t->pairs[i].rank, rank);
    t->pairs[i] = (struct pair_slot){ m.left, m.right, rank, id };
    return CRL_OK;
}

static enum crl_status index_merges(struct crl_tok *t, struct crl_err *err)
{
    size_t slots = slots_for(t->p.n_merge);
    enum crl_status st = CRL_OK;
    unsigned char *cat;
    uint32_t rank;

    if (t->p.flags & TOK_RANKED)
        return t->p.n_merge ? crl_fail(err, CRL_EFORMAT, "a ranked vocabulary with %u merges", t->p.n_merge)
                            : CRL_OK;
    t->pairs = crl_alloc(slots, sizeof *t->pairs);
    cat = crl_alloc(t->len_max, 2);
    if (!t->pairs || !cat) {
        crl_free(cat);
        return crl_fail(err, CRL_ENOMEM, "no memory for %u merges", t->p.n_merge);
    }
    memset(t->pairs, 0xff, slots * sizeof *t->pairs);
    t->pair_mask = slots - 1;
    for (t->pair_shift = 64; slots > 1; slots /= 2) t->pair_shift--;
    for (rank = 0; rank < t->p.n_merge && !st; rank++) st = index_merge(t, rank, cat, err);
    crl_free(cat);
    return st;
}

struct named {
    const unsigned char *b;
    uint32_t len, id;
};

static int by_bytes(const void *x, const void *y)
{
    const struct named *a = x, *b = y;
    int c = memcmp(a->b, b->b, a->len < b->len ? a->len : b->len);

    return c ? c : (a->len > b->len) - (a->len < b->len);
}

static enum crl_status index_added(struct crl_tok *t, struct crl_err *err)
{
    struct named *list = crl_alloc(t->n_added, sizeof *list);
    size_t n = 0, i, len;
    uint32_t id;

    t->added = crl_alloc(t->n_added, sizeof *t->added);
    if (!list || !t->added) {
        crl_free(list);
        return crl_fail(err, CRL_ENOMEM, "no memory for %zu special tokens", t->n_added);
    }
    for (id = 0; id < t->p.n_vocab; id++)
        if (tok_kind(t, id) >= TOK_SPECIAL) {
            const unsigned char *b = tok_bytes(t, id, &len);

            list[n++] = (struct named){ b, (uint32_t)len, id };
            t->added_first[b[0]] = 1;
        }
    qsort(list, n, sizeof *list, by_bytes);
    for (i = 0; i < n; i++) {
        t->added[i] = list[i].id;
        if (i && by_bytes(&list[i - 1], &list[i]) == 0) {
            uint32_t one = list[i - 1].id;

            id = list[i].id;
            crl_free(list);
            return crl_fail(err, CRL_EFORMAT, "special tokens %u and %u have the same name",
                            one < id ? one : id, one < id ? id : one);
        }
    }
    crl_free(list);
    return CRL_OK;
}

enum crl_status crl_tok_build(struct crl_tok **tok, struct crl_tok_parts *parts, struct crl_err *err)
{
    struct crl_tok *t = crl_alloc(1, sizeof *t);
    enum crl_status st = CRL_OK;
    size_t n_ordinary = 0;

    *tok = NULL;
    if (!t) {
        crl_tok_parts_fini(parts);
        return crl_fail(err, CRL_ENOMEM, "no memory for a tokenizer");
    }
    t->p = *parts;
    memset(parts, 0, sizeof *parts);
    if (t->p.n_vocab < 256 || t->p.n_vocab > TOK_VOCAB_MAX)
        st = crl_fail(err, CRL_EFORMAT, "a vocabulary of %u tokens, 256 to %u are accepted", t->p.n_vocab,
                      TOK_VOCAB_MAX);
    if (!st && (t->p.flags & ~(unsigned)(TOK_WHOLE | TOK_RANKED)))
        st = crl_fail(err, CRL_EFORMAT, "unknown tokenizer flags 0x%x", t->p.flags);
    if (!st) st = check_kinds(t, &n_ordinary, err);
    if (!st) st = index_ordinary(t, n_ordinary, err);
    if (!st) st = index_merges(t, err);
    if (!st) st = index_added(t, err);
    if (!st && t->p.bos != TOK_NONE && (t->p.bos >= t->p.n_vocab || tok_kind(t, t->p.bos) == TOK_HOLE))
        st = crl_fail(err, CRL_EFORMAT, "the begin-of-text token %u does not exist", t->p.bos);
    if (!st && memchr(t->p.pattern, 0, t->p.len_pattern))
        st = crl_fail(err, CRL_EFORMAT, "the split pattern holds a zero byte");
    if (!st) st = crl_pretok_new(&t->pretok, t->p.pattern, t->p.len_pattern, err);
    if (st) {
        crl_tok_close(t);
        return st;
    }
    *tok = t;
    return CRL_OK;
}

enum crl_status crl_tok_parse(struct crl_tok **tok, const void *bytes, size_t len, const char *what,
                              struct crl_err *err)
{
    const char *text = bytes;
    enum crl_status st;
    size_t i = 0;

    *tok = NULL;
    if (len >= 8 && memcmp(text, TOK_MAGIC, 8) == 0) {
        st = crl_tok_load(tok, bytes, len, err);
        if (st) crl_err_prefix(err, "%s", what);
        return st;
    }
    while (i < len && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n')) i++;
    if (i < len && text[i] == '{') return crl_tok_parse_json(tok, text, len, what, err);
    st = crl_tok_parse_ranks(tok, text, len, err);
    if (st) crl_err_prefix(err, "%s", what);
    return st;
}

enum crl_status crl_tok_open(struct crl_tok **tok, const char *path, struct crl_err *err)
{
    char *data, *inside = NULL;
    enum crl_status st;
    size_t len;

    *tok = NULL;
    if (crl_file_is_dir(path)) {
        inside = crl_path_join(path, "tokenizer.json");
        if (inside && !crl_file_exists(inside)) {
            crl_free(inside);
            inside = crl_path_join(path, "tokenizer.model");
        }
        if (!inside) return crl_fail(err, CRL_ENOMEM, "no memory for a path");
        if (!crl_file_exists(inside)) {
            crl_free(inside);
            return crl_fail(err, CRL_ENOENT, "%s: there is neither a tokenizer.json nor a tokenizer.model",
                            path);
        }
        path = inside;
    }
    st = crl_file_read(&data, &len, path, FILE_MAX, err);
    if (!st) {
        st = crl_tok_parse(tok, data, len, path, err);
        crl_free(data);
    }
    crl_free(inside);
    return st;
}

uint32_t crl_tok_vocab(const struct crl_tok *t)
{
    return t->p.n_vocab;
}

const unsigned char *crl_tok_bytes(const struct crl_tok *t, int32_t id, size_t *len)
{
    *len = 0;
    if (id < 0 || (uint32_t)id >= t->p.n_vocab || tok_kind(t, (uint32_t)id) == TOK_HOLE) return NULL;
    return tok_bytes(t, (uint32_t)id, len);
}

bool crl_tok_is_special(const struct crl_tok *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->p.n_vocab && tok_kind(t, (uint32_t)id) == TOK_SPECIAL;
}

int32_t crl_tok_special_id(const struct crl_tok *t, const char *name)
{
    size_t lo = 0, hi = t->n_added, len = strlen(name);

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2, n;
        const unsigned char *b = tok_bytes(t, t->added[mid], &n);
        int c = memcmp(name, b, len < n ? len : n);

        if (c == 0) c = (len > n) - (len < n);
        if (c == 0) return (int32_t)t->added[mid];
        if (c < 0) hi = mid;
        else lo = mid + 1;
    }
    return -1;
}

int32_t crl_tok_bos(const struct crl_tok *t)
{
    return t->p.bos == TOK_NONE ? -1 : (int32_t)t->p.bos;
}
