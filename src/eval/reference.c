/* reference.c - the .crr file: writing and checked reading. docs/format-reference.md. */
#include "eval/reference.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "eval/about.h"

#include <math.h>
#include <string.h>

#define VERSION 1
#define VOCAB_MOST (1u << 22)
#define DOC_BYTES 12
#define ID_BYTES 4

static const unsigned char magic[8] = { 0x89, 'C', 'R', 'R', '\r', '\n', 0x1a, '\n' };

/* Offsets in the header. */
enum {
    AT_VERSION = 8,
    AT_HEADER = 12,
    AT_SIZE = 16,
    AT_HASH = 24,
    AT_CONFIG = 32,
    AT_TOKENIZER = 40,
    AT_WEIGHTS = 48,
    AT_DATA = 56,
    AT_VOCAB = 64,
    AT_N_MOE = 68,
    AT_N_USED = 72,
    AT_N_EXPERT = 76,
    AT_BOS = 80,
    AT_DRAWS = 84,
    AT_K_MAX = 88,
    AT_WINDOW = 92,
    AT_STRIDE = 96,
    AT_N_DOC = 100,
    AT_N_ID = 104,
    AT_N_ROW = 112,
    AT_TAIL = 120,
    AT_ZERO = 124,
    AT_RECIPE = 128,
    AT_ZERO2 = 144,
    AT_HEAD_HASH = 152
};

struct crl_reference {
    struct crl_map map; /* data NULL when over the caller's memory */
    const unsigned char *data;
    uint64_t size;
    struct crl_reference_head head;
    uint32_t n_doc;
    uint64_t n_id, n_row;
    uint64_t *row; /* [n_row] offset of each record */
};

const struct crl_reference_head *crl_reference_head(const struct crl_reference *r)
{
    return &r->head;
}

uint64_t crl_reference_size(const struct crl_reference *r)
{
    return r->size;
}

size_t crl_reference_rows(const struct crl_reference *r)
{
    return (size_t)r->n_row;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static enum crl_status read_head(struct crl_reference *r, struct crl_err *err)
{
    const unsigned char *d = r->data;
    struct crl_reference_head *h = &r->head;

    if (r->size < CRL_REFERENCE_HEADER || memcmp(d, magic, sizeof magic))
        return crl_fail(err, CRL_EFORMAT, "is no reference file");
    if (crl_le32(d + AT_VERSION) != VERSION)
        return crl_fail(err, CRL_EUNSUPPORTED, "version %u, this program reads %d", crl_le32(d + AT_VERSION), VERSION);
    if (crl_le64(d + AT_HEAD_HASH) != crl_hash(d, AT_HEAD_HASH))
        return crl_fail(err, CRL_EFORMAT, "the header is damaged (its hash differs)");
    if (crl_le32(d + AT_HEADER) != CRL_REFERENCE_HEADER || crl_le64(d + AT_SIZE) != r->size)
        return crl_fail(err, CRL_EFORMAT, "the header gives %llu bytes, the file has %llu",
                        (unsigned long long)crl_le64(d + AT_SIZE), (unsigned long long)r->size);
    h->config_hash = crl_le64(d + AT_CONFIG);
    h->tokenizer_hash = crl_le64(d + AT_TOKENIZER);
    h->weights_hash = crl_le64(d + AT_WEIGHTS);
    h->data_hash = crl_le64(d + AT_DATA);
    h->params = (struct crl_compact_params){ crl_le32(d + AT_VOCAB), crl_le32(d + AT_K_MAX), crl_le32(d + AT_DRAWS),
                                             crl_f32_from_bits(crl_le32(d + AT_TAIL)), 0, crl_le32(d + AT_N_EXPERT) };
    h->n_moe = crl_le32(d + AT_N_MOE);
    h->n_used = crl_le32(d + AT_N_USED);
    h->bos = (int32_t)crl_le32(d + AT_BOS);
    h->window = crl_le32(d + AT_WINDOW);
    h->stride = crl_le32(d + AT_STRIDE);
    memcpy(h->recipe, d + AT_RECIPE, CRL_REFERENCE_RECIPE);
    r->n_doc = crl_le32(d + AT_N_DOC);
    r->n_id = crl_le64(d + AT_N_ID);
    r->n_row = crl_le64(d + AT_N_ROW);
    return CRL_OK;
}

static enum crl_status check_head(struct crl_reference *r, struct crl_err *err)
{
    struct crl_reference_head *h = &r->head;
    struct crl_compact_params *p = &h->params;

    if (!p->vocab || p->vocab > VOCAB_MOST || !p->k_max || p->k_max > 65535 || p->n_draw > 255 ||
        !(p->tail >= 0 && p->tail < 1) || p->n_expert > 65536)
        return crl_fail(err, CRL_EFORMAT, "vocabulary %u, %u entries, %u draws, %u experts or tail %g out of range",
                        p->vocab, p->k_max, p->n_draw, p->n_expert, (double)p->tail);
    if (h->n_moe > CRL_MAX_LAYER || (h->n_moe && (!h->n_used || h->n_used > p->n_expert)))
        return crl_fail(err, CRL_EFORMAT, "%u layers with %u of %u experts", h->n_moe, h->n_used, p->n_expert);
    if (h->bos < -1 || h->bos >= (int32_t)p->vocab || !h->window || !h->stride || h->stride > h->window)
        return crl_fail(err, CRL_EFORMAT, "begin-of-text token %d, window %u or stride %u out of range", h->bos,
                        h->window, h->stride);
    if (crl_le32(r->data + AT_ZERO) || crl_le64(r->data + AT_ZERO2) || h->recipe[CRL_REFERENCE_RECIPE - 1] ||
        !memchr(h->recipe, 0, CRL_REFERENCE_RECIPE))
        return crl_fail(err, CRL_EFORMAT, "reserved bytes of the header are not zero");
    p->n_route = h->n_moe * h->n_used;
    return CRL_OK;
}

/* Documents and ids: their places, and that every id is one. */
static enum crl_status check_text(struct crl_reference *r, struct crl_err *err)
{
    uint64_t left = r->size - CRL_REFERENCE_HEADER, sum = 0, docs = (uint64_t)r->n_doc * DOC_BYTES;
    const unsigned char *doc = r->data + CRL_REFERENCE_HEADER, *id = doc + docs;

    if (!r->n_doc || docs > left || r->n_id > (left - docs) / ID_BYTES)
        return crl_fail(err, CRL_EFORMAT, "%u documents with %llu ids do not lie inside the file", r->n_doc,
                        (unsigned long long)r->n_id);
    for (uint32_t i = 0; i < r->n_doc; i++) {
        uint32_t n = crl_le32(doc + (size_t)i * DOC_BYTES);
        if (!n) return crl_fail(err, CRL_EFORMAT, "document %u is empty", i);
        sum += n;
    }
    if (sum != r->n_id)
        return crl_fail(err, CRL_EFORMAT, "documents have %llu ids in all, the header says %llu",
                        (unsigned long long)sum, (unsigned long long)r->n_id);
    for (uint64_t i = 0; i < r->n_id; i++)
        if (crl_le32(id + i * ID_BYTES) >= r->head.params.vocab)
            return crl_fail(err, CRL_EFORMAT, "id %llu is outside the vocabulary", (unsigned long long)i);
    return CRL_OK;
}

/* How many rows windows over these documents have: cut, and compared. */
static enum crl_status check_rows(struct crl_reference *r, struct crl_err *err)
{
    struct crl_corpus corpus;
    struct crl_windows windows = { NULL, 0, 0, 0, 0, 0 };
    enum crl_status st = crl_reference_corpus(r, &corpus, err);

    if (st) return st;
    if (corpus.hash != r->head.data_hash) st = crl_fail(err, CRL_EFORMAT, "the texts' hash differs from the header's");
    if (!st) st = crl_windows_cut(&windows, &corpus, r->head.window, r->head.stride, err);
    if (!st && windows.n_row != r->n_row)
        st = crl_fail(err, CRL_EFORMAT, "%llu rows where the texts have %zu", (unsigned long long)r->n_row,
                      windows.n_row);
    crl_windows_fini(&windows);
    crl_corpus_fini(&corpus);
    return st;
}

static enum crl_status index_rows(struct crl_reference *r, struct crl_err *err)
{
    uint64_t at = CRL_REFERENCE_HEADER + (uint64_t)r->n_doc * DOC_BYTES + r->n_id * ID_BYTES;
    uint32_t *stamp = NULL;
    enum crl_status st = CRL_OK;

    if (r->n_row >= UINT32_MAX || r->n_row > (r->size - at) / CRL_COMPACT_FIXED)
        return crl_fail(err, CRL_EFORMAT, "%llu rows do not lie inside the file", (unsigned long long)r->n_row);
    r->row = crl_alloc((size_t)r->n_row, sizeof *r->row);
    stamp = crl_alloc(r->head.params.vocab, sizeof *stamp);
    if (!r->row || !stamp) st = crl_fail(err, CRL_ENOMEM, "no memory for the index of %zu rows", (size_t)r->n_row);
    for (uint32_t i = 0; !st && i < r->n_row; i++) {
        struct crl_compact c;
        st = crl_compact_read(&c, &r->head.params, r->data + at, r->size - at, stamp, i + 1, err);
        if (st) crl_err_prefix(err, "row %u", i);
        r->row[i] = at;
        if (!st) at += c.bytes;
    }
    crl_free(stamp);
    if (!st && at != r->size)
        st = crl_fail(err, CRL_EFORMAT, "%llu bytes after the last row", (unsigned long long)(r->size - at));
    return st;
}

static enum crl_status check(struct crl_reference *r, struct crl_err *err)
{
    enum crl_status st = read_head(r, err);

    if (!st) st = check_head(r, err);
    if (!st && crl_le64(r->data + AT_HASH) !=
                   crl_hash(r->data + CRL_REFERENCE_HEADER, (size_t)(r->size - CRL_REFERENCE_HEADER)))
        st = crl_fail(err, CRL_EFORMAT, "is damaged (its hash differs)");
    if (!st) st = check_text(r, err);
    if (!st) st = check_rows(r, err);
    return st ? st : index_rows(r, err);
}

enum crl_status crl_reference_open_mem(struct crl_reference **out, const void *data, uint64_t size, const char *name,
                                       struct crl_err *err)
{
    struct crl_reference *r = crl_alloc(1, sizeof *r);
    enum crl_status st;

    *out = NULL;
    if (!r) return crl_fail(err, CRL_ENOMEM, "no memory for a reference");
    r->data = data;
    r->size = size;
    st = check(r, err);
    if (st) {
        crl_err_prefix(err, "%s", name);
        crl_reference_close(r);
        return st;
    }
    *out = r;
    return CRL_OK;
}

enum crl_status crl_reference_open(struct crl_reference **out, const char *path, struct crl_err *err)
{
    struct crl_map map;
    enum crl_status st = crl_map_open(&map, path, err);

    *out = NULL;
    if (st) return st;
    st = crl_reference_open_mem(out, map.data, map.size, path, err);
    if (st) crl_map_close(&map);
    else (*out)->map = map;
    return st;
}

void crl_reference_close(struct crl_reference *r)
{
    if (!r) return;
    if (r->map.data) crl_map_close(&r->map);
    crl_free(r->row);
    crl_free(r);
}

/* The record was checked on opening; only its places are found again. */
void crl_reference_row(const struct crl_reference *r, size_t row, struct crl_compact *c)
{
    const struct crl_compact_params *p = &r->head.params;
    const unsigned char *at = r->data + r->row[row];
    size_t wide = crl_compact_id_bytes(p) + 3;

    c->k = crl_le16(at);
    c->target = crl_f32_from_bits(crl_le32(at + 2));
    c->tail = crl_f32_from_bits(crl_le32(at + 6));
    c->n_draw = c->tail > 0 ? p->n_draw : 0;
    c->route = at + CRL_COMPACT_FIXED;
    c->entry = c->route + p->n_route * crl_compact_route_bytes(p);
    c->draw = c->entry + c->k * wide;
    c->bytes = (size_t)(c->draw - at) + c->n_draw * wide;
}

enum crl_status crl_reference_corpus(const struct crl_reference *r, struct crl_corpus *c, struct crl_err *err)
{
    const unsigned char *doc = r->data + CRL_REFERENCE_HEADER, *id = doc + (uint64_t)r->n_doc * DOC_BYTES;
    enum crl_status st = CRL_OK;

    memset(c, 0, sizeof *c);
    c->bos = r->head.bos;
    for (uint32_t i = 0; !st && i < r->n_doc; i++, doc += DOC_BYTES) {
        size_t n = crl_le32(doc), first = c->ids.n;
        for (size_t j = 0; !st && j < n; j++, id += ID_BYTES) st = crl_ids_add(&c->ids, (int32_t)crl_le32(id), err);
        if (!st) st = crl_corpus_note(c, first, crl_le64(doc + 4), err);
    }
    if (!st) st = crl_corpus_seal(c, err);
    if (st) crl_corpus_fini(c);
    return st;
}

enum crl_status crl_reference_match(const struct crl_reference *r, const struct crl_engine *engine,
                                    struct crl_err *err)
{
    uint64_t config = 0, tok = crl_about_tokenizer_hash(engine);
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    enum crl_status st = crl_about_config_hash(engine, &config, err);

    if (st) return st;
    if (config != r->head.config_hash || cfg->vocab != r->head.params.vocab ||
        crl_moe_layers(engine) != r->head.n_moe || (r->head.n_moe && cfg->n_expert_used != r->head.n_used))
        return crl_fail(err, CRL_ERANGE, "was made with another model: configuration %016llx, this model has %016llx",
                        (unsigned long long)r->head.config_hash, (unsigned long long)config);
    if (tok != r->head.tokenizer_hash)
        return crl_fail(err, CRL_ERANGE, "was made with another tokenizer: %016llx, this model has %016llx",
                        (unsigned long long)r->head.tokenizer_hash, (unsigned long long)tok);
    return CRL_OK;
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

struct crl_reference_writer {
    struct crl_out *out;
    struct crl_hasher *hash; /* of everything after the header */
    uint64_t at, n_row, want;
    unsigned char head[CRL_REFERENCE_HEADER];
};

static enum crl_status put(struct crl_reference_writer *w, const void *data, size_t len, struct crl_err *err)
{
    enum crl_status st = crl_out_write(w->out, w->at, data, len, err);

    if (st) return st;
    crl_hasher_add(w->hash, data, len);
    w->at += len;
    return CRL_OK;
}

static void fill_head(unsigned char *d, const struct crl_reference_head *h, const struct crl_text *t)
{
    const struct crl_compact_params *p = &h->params;

    memcpy(d, magic, sizeof magic);
    crl_put_le32(d + AT_VERSION, VERSION);
    crl_put_le32(d + AT_HEADER, CRL_REFERENCE_HEADER);
    crl_put_le64(d + AT_CONFIG, h->config_hash);
    crl_put_le64(d + AT_TOKENIZER, h->tokenizer_hash);
    crl_put_le64(d + AT_WEIGHTS, h->weights_hash);
    crl_put_le64(d + AT_DATA, t->corpus.hash);
    crl_put_le32(d + AT_VOCAB, p->vocab);
    crl_put_le32(d + AT_N_MOE, h->n_moe);
    crl_put_le32(d + AT_N_USED, h->n_used);
    crl_put_le32(d + AT_N_EXPERT, p->n_expert);
    crl_put_le32(d + AT_BOS, (uint32_t)t->corpus.bos);
    crl_put_le32(d + AT_DRAWS, p->n_draw);
    crl_put_le32(d + AT_K_MAX, p->k_max);
    crl_put_le32(d + AT_WINDOW, (uint32_t)t->window);
    crl_put_le32(d + AT_STRIDE, (uint32_t)t->stride);
    crl_put_le32(d + AT_N_DOC, (uint32_t)t->corpus.n_doc);
    crl_put_le64(d + AT_N_ID, t->corpus.ids.n);
    crl_put_le64(d + AT_N_ROW, t->windows.n_row);
    crl_put_le32(d + AT_TAIL, crl_f32_bits(p->tail));
    memcpy(d + AT_RECIPE, h->recipe, CRL_REFERENCE_RECIPE);
}

static enum crl_status put_text(struct crl_reference_writer *w, const struct crl_corpus *c, struct crl_err *err)
{
    unsigned char b[1024 * ID_BYTES];
    size_t n = 0;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i < c->n_doc; i++) {
        if (c->doc[i].n > UINT32_MAX) return crl_fail(err, CRL_EFULL, "document %zu is too long for a reference", i);
        crl_put_le32(b, (uint32_t)c->doc[i].n);
        crl_put_le64(b + 4, c->doc[i].bytes);
        st = put(w, b, DOC_BYTES, err);
    }
    for (size_t i = 0; !st && i < c->ids.n; i++) {
        crl_put_le32(b + ID_BYTES * n++, (uint32_t)c->ids.v[i]);
        if (n < 1024 && i + 1 < c->ids.n) continue;
        st = put(w, b, n * ID_BYTES, err);
        n = 0;
    }
    return st;
}

enum crl_status crl_reference_create(struct crl_reference_writer **out, const char *path,
                                     const struct crl_reference_head *head, const struct crl_text *text,
                                     struct crl_err *err)
{
    struct crl_reference_writer *w = crl_alloc(1, sizeof *w);
    enum crl_status st = w ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory to write a reference");

    *out = NULL;
    if (!st && !(w->hash = crl_hasher_new())) st = crl_fail(err, CRL_ENOMEM, "no memory for a hash");
    if (!st) st = crl_out_open(&w->out, path, err);
    if (!st) {
        w->at = CRL_REFERENCE_HEADER;
        w->want = text->windows.n_row;
        fill_head(w->head, head, text);
        st = put_text(w, &text->corpus, err);
    }
    if (st) {
        crl_reference_abandon(w);
        return st;
    }
    *out = w;
    return CRL_OK;
}

enum crl_status crl_reference_append(struct crl_reference_writer *w, const void *records, size_t bytes, size_t n_row,
                                     struct crl_err *err)
{
    w->n_row += n_row;
    return put(w, records, bytes, err);
}

enum crl_status crl_reference_commit(struct crl_reference_writer *w, uint64_t *bytes, struct crl_err *err)
{
    enum crl_status st;

    if (w->n_row != w->want)
        return crl_fail(err, CRL_ERANGE, "%llu of %llu rows were written", (unsigned long long)w->n_row,
                        (unsigned long long)w->want);
    crl_put_le64(w->head + AT_SIZE, w->at);
    crl_put_le64(w->head + AT_HASH, crl_hasher_value(w->hash));
    crl_put_le64(w->head + AT_HEAD_HASH, crl_hash(w->head, AT_HEAD_HASH));
    st = crl_out_write(w->out, 0, w->head, sizeof w->head, err);
    if (!st) st = crl_out_commit(w->out, err);
    *bytes = w->at;
    return st;
}

void crl_reference_abandon(struct crl_reference_writer *w)
{
    if (!w) return;
    crl_out_close(w->out);
    crl_hasher_free(w->hash);
    crl_free(w);
}
