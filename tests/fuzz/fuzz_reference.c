/* Property: whatever the bytes are, opening a reference file returns a status and a sentence; when it accepts them, every
 * row lies inside, its ids are in the vocabulary, and comparing it with other logits gives no negative divergence.
 *
 * So that inputs get behind the hashes, these are computed anew first, and the size is set. */
#include "base/bytes.h"
#include "base/hash.h"
#include "eval/reference.h"

#include <stdlib.h>
#include <string.h>

#define WORK_MOST ((size_t)1 << 20) /* logits computed per input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The hash of the texts as docs/format-reference.md defines it, when documents and ids lie inside. */
static void repair_texts(unsigned char *f, size_t size)
{
    uint64_t n_doc = crl_le32(f + 100), at = CRL_REFERENCE_HEADER, ids = at + 12 * n_doc;
    struct crl_hasher *h = crl_hasher_new();
    unsigned char b[8] = { 0 };

    crl_hasher_add(h, f + 80, 4);
    for (uint64_t d = 0; d < n_doc && at + 12 <= size; d++, at += 12) {
        uint64_t n = crl_le32(f + at);
        if (ids > size || n > (size - ids) / 4) break;
        memcpy(b, f + at, 4);
        crl_hasher_add(h, b, 8);
        crl_hasher_add(h, f + ids, 4 * n);
        ids += 4 * n;
    }
    crl_put_le64(f + 56, crl_hasher_value(h));
    crl_hasher_free(h);
}

static void repair(unsigned char *f, size_t size)
{
    if (size < CRL_REFERENCE_HEADER) return;
    crl_put_le64(f + 16, size);
    crl_put_le64(f + 24, crl_hash(f + CRL_REFERENCE_HEADER, size - CRL_REFERENCE_HEADER));
    repair_texts(f, size);
    crl_put_le64(f + 152, crl_hash(f, 152));
}

static void walk(const struct crl_reference *r, const unsigned char *file, size_t size)
{
    const struct crl_compact_params *p = &crl_reference_head(r)->params;
    struct crl_compact_scratch s = { calloc(p->vocab, sizeof(float)), NULL };
    float *logits = calloc(p->vocab, sizeof *logits);
    struct crl_kernels kern;
    struct crl_compact c;
    struct crl_divergence d;
    double log_p;

    crl_simd_select(&kern, 0);
    for (size_t i = 0; i < crl_reference_rows(r) && i * p->vocab < WORK_MOST; i++) {
        crl_reference_row(r, i, &c);
        if (c.route < file || c.bytes > size || c.draw + c.n_draw * (crl_compact_id_bytes(p) + 3) > file + size) abort();
        for (size_t k = 0; k < c.k; k++)
            if (crl_compact_entry(p, c.entry, k, &log_p) >= p->vocab || log_p > 0) abort();
        for (uint32_t v = 0; v < p->vocab; v++) logits[v] = (float)(v % 7);
        crl_compact_compare(&d, p, &c, &kern, logits, 0, &s);
        if (!(d.coarse >= 0) || !(d.kl >= d.coarse)) abort();
    }
    free(logits);
    free(s.weight);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *file = malloc(size ? size : 1); /* exactly `size` bytes: reads past them show */
    struct crl_err err = { "" };
    struct crl_reference *r;
    struct crl_corpus c;

    if (size) memcpy(file, data, size);
    repair(file, size);
    if (crl_reference_open_mem(&r, file, size, "fuzz", &err)) {
        if (r || strncmp(err.text, "fuzz: ", 6)) abort();
    } else {
        walk(r, file, size);
        if (crl_reference_corpus(r, &c, &err)) abort();
        crl_corpus_fini(&c);
        crl_reference_close(r);
    }
    free(file);
    return 0;
}
