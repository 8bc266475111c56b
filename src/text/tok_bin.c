/* tok_bin.c - the binary form of a tokenizer, docs/format-tokenizer.md. */
#include "base/bytes.h"
#include "base/mem.h"
#include "text/tok_impl.h"

#include <limits.h>

#define HEADER 40
#define VERSION 1

enum crl_status crl_tok_save(const struct crl_tok *t, unsigned char **bytes, size_t *len, struct crl_err *err)
{
    const struct crl_tok_parts *p = &t->p;
    size_t n_blob = p->off[p->n_vocab], total, i;
    unsigned char *out, *w;

    *bytes = NULL;
    *len = 0;
    /* none of this can wrap: every part was in memory when the tokenizer was built */
    total = HEADER + p->len_pattern + (size_t)3 * p->n_vocab + (size_t)8 * p->n_merge + n_blob;
    out = crl_alloc(total, 1);
    if (!out) return crl_fail(err, CRL_ENOMEM, "no memory to save a tokenizer of %zu bytes", total);
    memcpy(out, TOK_MAGIC, 8);
    crl_put_le32(out + 8, VERSION);
    crl_put_le32(out + 12, p->flags);
    crl_put_le32(out + 16, p->n_vocab);
    crl_put_le32(out + 20, p->n_merge);
    crl_put_le32(out + 24, (uint32_t)p->len_pattern);
    crl_put_le32(out + 28, p->bos);
    crl_put_le64(out + 32, n_blob);
    w = out + HEADER;
    memcpy(w, p->pattern, p->len_pattern);
    w += p->len_pattern;
    memcpy(w, p->kind, p->n_vocab);
    w += p->n_vocab;
    for (i = 0; i < p->n_vocab; i++, w += 2) crl_put_le16(w, (uint16_t)(p->off[i + 1] - p->off[i]));
    for (i = 0; i < p->n_merge; i++, w += 8) {
        crl_put_le32(w, p->merges[i].left);
        crl_put_le32(w + 4, p->merges[i].right);
    }
    memcpy(w, p->blob, n_blob);
    *bytes = out;
    *len = total;
    return CRL_OK;
}

/* The header's counts against the length of the section; nothing has been allocated yet. */
static enum crl_status read_header(struct crl_tok_parts *p, uint64_t *n_blob, const unsigned char *b,
                                   size_t len, struct crl_err *err)
{
    uint64_t want;

    if (len < HEADER || memcmp(b, TOK_MAGIC, 8) != 0)
        return crl_fail(err, CRL_EFORMAT, "this is no tokenizer section");
    if (crl_le32(b + 8) != VERSION)
        return crl_fail(err, CRL_EUNSUPPORTED,
                        "tokenizer section of version %u, this program reads version %u", crl_le32(b + 8),
                        VERSION);
    p->flags = crl_le32(b + 12);
    p->n_vocab = crl_le32(b + 16);
    p->n_merge = crl_le32(b + 20);
    p->len_pattern = crl_le32(b + 24);
    p->bos = crl_le32(b + 28);
    *n_blob = crl_le64(b + 32);
    if (*n_blob > UINT32_MAX || p->len_pattern > CRL_PRETOK_PATTERN_MAX)
        return crl_fail(err, CRL_EFORMAT, "tokenizer section: a field of the header is out of range");
    want = HEADER + (uint64_t)p->len_pattern + 3 * (uint64_t)p->n_vocab + 8 * (uint64_t)p->n_merge + *n_blob;
    if (want != len)
        return crl_fail(err, CRL_EFORMAT, "tokenizer section: %zu bytes found, its header says %llu", len,
                        (unsigned long long)want);
    return CRL_OK;
}

enum crl_status crl_tok_load(struct crl_tok **tok, const void *bytes, size_t len, struct crl_err *err)
{
    const unsigned char *b = bytes;
    struct crl_tok_parts p = { 0 };
    enum crl_status st;
    uint64_t n_blob = 0, sum = 0;
    size_t i;

    *tok = NULL;
    st = read_header(&p, &n_blob, b, len, err);
    if (st) return st;
    p.pattern = crl_memdup0(b + HEADER, p.len_pattern);
    p.kind = crl_alloc(p.n_vocab, 1);
    p.off = crl_alloc((size_t)p.n_vocab + 1, sizeof *p.off);
    p.merges = crl_alloc(p.n_merge, sizeof *p.merges);
    p.blob = crl_alloc((size_t)n_blob, 1);
    if (!p.pattern || !p.kind || !p.off || !p.merges || !p.blob) {
        crl_tok_parts_fini(&p);
        return crl_fail(err, CRL_ENOMEM, "no memory for a tokenizer section of %zu bytes", len);
    }
    b += HEADER + p.len_pattern;
    if (p.n_vocab) memcpy(p.kind, b, p.n_vocab);
    b += p.n_vocab;
    for (i = 0; i < p.n_vocab; i++, b += 2) {
        sum += crl_le16(b);
        p.off[i + 1] = (uint32_t)(sum <= n_blob ? sum : n_blob);
    }
    for (i = 0; i < p.n_merge; i++, b += 8) p.merges[i] = (struct tok_merge){ crl_le32(b), crl_le32(b + 4) };
    if (n_blob) memcpy(p.blob, b, (size_t)n_blob);
    if (sum != n_blob) {
        crl_tok_parts_fini(&p);
        return crl_fail(err, CRL_EFORMAT, "tokenizer section: tokens of %llu bytes, %llu are there",
                        (unsigned long long)sum, (unsigned long long)n_blob);
    }
    return crl_tok_build(tok, &p, err);
}
