/* calib.c - layout, reading and writing of activation statistics. */
#include "store/calib.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

#define HEADER 64
#define MAGIC "\x89" "CRS\r\n\x1a\n"
#define VERSION 1

/* --- layout --------------------------------------------------------------------------------------------------- */

uint64_t crl_calib_n_product(uint32_t k, uint32_t span)
{
    uint64_t rest = span ? k % span : 0;

    if (!span) return 0;
    return (uint64_t)(k / span) * span * (span - 1) / 2 + (rest ? rest * (rest - 1) / 2 : 0);
}

/* Records of a layer: the inputs of q, o, gate-up and down; with experts, what they share and their own. */
static uint64_t n_of_layer(const struct crl_config *cfg, uint32_t layer, uint32_t span)
{
    return 4 + (cfg->is_moe[layer] ? (span ? 2 : 0) + 2 * (uint64_t)cfg->n_expert : 0);
}

static uint64_t record_bytes(const struct crl_calib_record *r, uint32_t span)
{
    uint64_t n = 0;

    if (r->sums) n += CRL_CALIB_COUNT_BYTES + sizeof(float) * (uint64_t)r->k;
    if (r->products) n += sizeof(float) * crl_calib_n_product(r->k, span);
    return (n + 7) / 8 * 8;
}

static void add(struct crl_calib_layout *l, enum crl_kind kind, int32_t layer, int32_t expert, uint32_t k, bool sums,
                bool products)
{
    struct crl_calib_record *r = &l->record[l->n++];

    *r = (struct crl_calib_record){ kind, layer, expert, k, sums, products && l->span, l->bytes };
    l->bytes += record_bytes(r, l->span); /* at most 2^28 records of 2^30 bytes */
}

static void add_layer(struct crl_calib_layout *l, const struct crl_config *cfg, int32_t i)
{
    bool moe = cfg->is_moe[i];
    uint32_t d_ff = moe ? cfg->d_ff : cfg->d_ff_dense;

    add(l, CRL_KIND_Q, i, -1, cfg->d_model, true, true);
    add(l, CRL_KIND_O, i, -1, cfg->n_head * cfg->d_head, true, true);
    add(l, moe ? CRL_KIND_SHARED_GATE_UP : CRL_KIND_DENSE_GATE_UP, i, -1, cfg->d_model, true, true);
    add(l, moe ? CRL_KIND_SHARED_DOWN : CRL_KIND_DENSE_DOWN, i, -1, d_ff, true, true);
    if (!moe) return;
    if (l->span) {
        add(l, CRL_KIND_EXPERT_GATE_UP, i, -1, cfg->d_model, false, true);
        add(l, CRL_KIND_EXPERT_DOWN, i, -1, d_ff, false, true);
    }
    for (uint32_t e = 0; e < cfg->n_expert; e++) {
        add(l, CRL_KIND_EXPERT_GATE_UP, i, (int32_t)e, cfg->d_model, true, false);
        add(l, CRL_KIND_EXPERT_DOWN, i, (int32_t)e, d_ff, true, false);
    }
}

static uint64_t count_records(const struct crl_config *cfg, uint32_t span)
{
    uint64_t n = 1;

    for (uint32_t i = 0; i < cfg->n_layer; i++) n += n_of_layer(cfg, i, span);
    return n;
}

static bool span_is_good(uint32_t span)
{
    return span <= CRL_CALIB_SPAN_MAX && span % CRL_BLOCK == 0;
}

enum crl_status crl_calib_layout_new(struct crl_calib_layout **out, const struct crl_config *cfg, uint32_t span,
                                     struct crl_err *err)
{
    struct crl_calib_layout *l = crl_alloc(1, sizeof *l);

    *out = NULL;
    if (!span_is_good(span)) {
        crl_free(l);
        return crl_fail(err, CRL_ERANGE, "a span of %u inputs, expected 0 or a multiple of %d up to %d", span,
                        CRL_BLOCK, CRL_CALIB_SPAN_MAX);
    }
    if (l) {
        l->span = span;
        l->n_layer = cfg->n_layer;
        l->record = crl_alloc((size_t)count_records(cfg, span), sizeof *l->record);
        l->layer_first = crl_alloc(cfg->n_layer, sizeof *l->layer_first);
    }
    if (!l || !l->record || !l->layer_first) {
        crl_calib_layout_free(l);
        return crl_fail(err, CRL_ENOMEM, "no memory for the list of statistics");
    }
    l->bytes = HEADER;
    for (uint32_t i = 0; i < cfg->n_layer; i++) {
        l->layer_first[i] = (uint32_t)l->n;
        add_layer(l, cfg, (int32_t)i);
    }
    add(l, CRL_KIND_HEAD, -1, -1, cfg->d_model, true, true);
    *out = l;
    return CRL_OK;
}

void crl_calib_layout_free(struct crl_calib_layout *l)
{
    if (!l) return;
    crl_free(l->record);
    crl_free(l->layer_first);
    crl_free(l);
}

size_t crl_calib_find(const struct crl_calib_layout *l, enum crl_kind kind, int32_t layer, int32_t expert)
{
    size_t from = l->n - 1, end = l->n;

    if (kind == CRL_KIND_K || kind == CRL_KIND_V) kind = CRL_KIND_Q;
    if (layer >= 0 && (uint32_t)layer < l->n_layer) {
        from = l->layer_first[layer];
        end = (uint32_t)layer + 1 < l->n_layer ? l->layer_first[layer + 1] : l->n - 1;
        if (expert >= 0) { /* two records per expert end the layer */
            const struct crl_calib_record *last = &l->record[end - 1];
            if (expert > last->expert) return CRL_NO_WEIGHT;
            from = end - 2 * (size_t)(last->expert - expert + 1);
            end = from + 2;
        }
    }
    for (size_t i = from; i < end; i++)
        if (l->record[i].kind == kind && l->record[i].expert == expert && l->record[i].layer == layer) return i;
    return CRL_NO_WEIGHT;
}

/* --- which model ------------------------------------------------------------------------------------------------ */

static bool is_norm(enum crl_kind kind)
{
    return kind == CRL_KIND_FINAL_NORM || kind == CRL_KIND_ATTN_NORM || kind == CRL_KIND_FFN_NORM;
}

static enum crl_status add_norms(struct crl_hasher *h, const struct crl_schema *s, crl_calib_norm_fn *norm, void *ctx,
                                 struct crl_err *err)
{
    float *row = crl_alloc(s->cfg.d_model, sizeof *row);
    enum crl_status st = row ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a norm");

    for (size_t i = 0; !st && i < s->n_weight; i++) {
        if (!is_norm(s->weight[i].kind)) continue;
        st = norm(ctx, i, row, err);
        for (uint32_t j = 0; j < s->weight[i].k; j++) {
            unsigned char b[4];
            crl_put_le32(b, crl_f32_bits(row[j]));
            memcpy(row + j, b, sizeof b);
        }
        crl_hasher_add(h, row, s->weight[i].k * sizeof *row);
    }
    crl_free(row);
    return st;
}

enum crl_status crl_calib_model_id(uint64_t *id, const struct crl_schema *s, crl_calib_norm_fn *norm, void *ctx,
                                   struct crl_err *err)
{
    struct crl_hasher *h = crl_hasher_new();
    char *config = crl_config_to_json(&s->cfg);
    enum crl_status st = h && config ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a hash");

    if (!st) {
        crl_hasher_add(h, config, strlen(config));
        st = add_norms(h, s, norm, ctx, err);
    }
    if (!st) *id = crl_hasher_value(h);
    crl_free(config);
    crl_hasher_free(h);
    return st;
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

struct crl_calib {
    struct crl_map map; /* of open; its data is NULL for open_mem */
    const unsigned char *data;
    uint64_t size;
    struct crl_calib_layout *layout;
};

/* The file's hash, the field itself taken as zero. */
static bool hash_of(const unsigned char *data, uint64_t size, uint64_t *hash)
{
    static const unsigned char zero[8];
    struct crl_hasher *h = crl_hasher_new();

    if (!h) return false;
    crl_hasher_add(h, data, 24);
    crl_hasher_add(h, zero, 8);
    crl_hasher_add(h, data + 32, (size_t)size - 32);
    *hash = crl_hasher_value(h);
    crl_hasher_free(h);
    return true;
}

static enum crl_status check_header(const struct crl_calib *c, const struct crl_config *cfg, uint64_t id,
                                    struct crl_err *err)
{
    const unsigned char *p = c->data;
    uint64_t hash, n;
    uint32_t span;

    if (c->size < HEADER)
        return crl_fail(err, CRL_EFORMAT, "%llu bytes, statistics have at least %d", (unsigned long long)c->size,
                        HEADER);
    if (memcmp(p, MAGIC, 8)) return crl_fail(err, CRL_EFORMAT, "this is no file of activation statistics");
    if (crl_le32(p + 8) != VERSION)
        return crl_fail(err, CRL_EUNSUPPORTED, "version %u of the statistics, version %d is known", crl_le32(p + 8),
                        VERSION);
    span = crl_le32(p + 12);
    if (!span_is_good(span))
        return crl_fail(err, CRL_EFORMAT, "a span of %u inputs, expected 0 or a multiple of %d up to %d", span,
                        CRL_BLOCK, CRL_CALIB_SPAN_MAX);
    if (crl_le64(p + 16) != c->size)
        return crl_fail(err, CRL_EFORMAT, "its header says %llu bytes, it has %llu", (unsigned long long)crl_le64(p + 16),
                        (unsigned long long)c->size);
    if (crl_le32(p + 52) || crl_le64(p + 56)) return crl_fail(err, CRL_EFORMAT, "reserved bytes are not zero");
    if (!hash_of(p, c->size, &hash)) return crl_fail(err, CRL_ENOMEM, "no memory for a hash");
    if (hash != crl_le64(p + 24)) return crl_fail(err, CRL_EFORMAT, "damaged: the hash of its bytes is another");
    if (crl_le64(p + 32) != id) return crl_fail(err, CRL_EDIFFER, "these statistics are of another model");
    n = count_records(cfg, span);
    if (crl_le32(p + 48) != n || n > c->size / 8)
        return crl_fail(err, CRL_EFORMAT, "%u records in %llu bytes, the configuration has %llu", crl_le32(p + 48),
                        (unsigned long long)c->size, (unsigned long long)n);
    return CRL_OK;
}

static float float_at(const struct crl_calib *c, uint64_t offset)
{
    return crl_f32_from_bits(crl_le32(c->data + offset));
}

static uint64_t products_at(const struct crl_calib_record *r)
{
    return r->offset + (r->sums ? CRL_CALIB_COUNT_BYTES + sizeof(float) * (uint64_t)r->k : 0);
}

static enum crl_status check_record(const struct crl_calib *c, size_t i, struct crl_err *err)
{
    const struct crl_calib_record *r = &c->layout->record[i];
    uint64_t n = crl_calib_n_product(r->k, r->products ? c->layout->span : 0), count = 1;
    uint64_t end = r->offset + record_bytes(r, c->layout->span), at = products_at(r);

    if (r->sums) {
        count = crl_le64(c->data + r->offset);
        for (uint32_t j = 0; j < r->k; j++) {
            float v = float_at(c, r->offset + CRL_CALIB_COUNT_BYTES + 4 * (uint64_t)j);
            if (!(v >= 0) || !isfinite(v) || (!count && v > 0))
                return crl_fail(err, CRL_EFORMAT, "record %zu: sum %u is %g over %llu rows", i, j, (double)v,
                                (unsigned long long)count);
        }
    }
    for (uint64_t j = 0; j < n; j++) {
        float v = float_at(c, at + 4 * j);
        if (!isfinite(v) || (!count && v != 0))
            return crl_fail(err, CRL_EFORMAT, "record %zu: product %llu is %g over %llu rows", i,
                            (unsigned long long)j, (double)v, (unsigned long long)count);
    }
    for (at += 4 * n; at < end; at++)
        if (c->data[at]) return crl_fail(err, CRL_EFORMAT, "record %zu: padding is not zero", i);
    return CRL_OK;
}

static enum crl_status check(struct crl_calib *c, const struct crl_config *cfg, uint64_t id, struct crl_err *err)
{
    enum crl_status st = check_header(c, cfg, id, err);

    if (!st) st = crl_calib_layout_new(&c->layout, cfg, crl_le32(c->data + 12), err);
    if (!st && c->layout->bytes != c->size)
        st = crl_fail(err, CRL_EFORMAT, "%llu bytes, this model's statistics have %llu", (unsigned long long)c->size,
                      (unsigned long long)c->layout->bytes);
    for (size_t i = 0; !st && i < c->layout->n; i++) st = check_record(c, i, err);
    return st;
}

/* Takes over the map of c. */
static enum crl_status open_checked(struct crl_calib **out, struct crl_calib *c, const char *name,
                                    const struct crl_config *cfg, uint64_t id, struct crl_err *err)
{
    enum crl_status st = check(c, cfg, id, err);

    if (st) {
        crl_err_prefix(err, "%s", name);
        crl_calib_close(c);
        return st;
    }
    *out = c;
    return CRL_OK;
}

enum crl_status crl_calib_open_mem(struct crl_calib **out, const void *data, uint64_t size, const char *name,
                                   const struct crl_config *cfg, uint64_t id, struct crl_err *err)
{
    struct crl_calib *c = crl_alloc(1, sizeof *c);

    *out = NULL;
    if (!c) return crl_fail(err, CRL_ENOMEM, "no memory for statistics");
    c->data = data;
    c->size = size;
    return open_checked(out, c, name, cfg, id, err);
}

enum crl_status crl_calib_open(struct crl_calib **out, const char *path, const struct crl_config *cfg, uint64_t id,
                               struct crl_err *err)
{
    struct crl_calib *c = crl_alloc(1, sizeof *c);
    enum crl_status st = c ? crl_map_open(&c->map, path, err) : crl_fail(err, CRL_ENOMEM, "no memory for statistics");

    *out = NULL;
    if (st) {
        crl_free(c);
        return st;
    }
    c->data = c->map.data;
    c->size = c->map.size;
    return open_checked(out, c, path, cfg, id, err);
}

void crl_calib_close(struct crl_calib *c)
{
    if (!c) return;
    crl_calib_layout_free(c->layout);
    crl_map_close(&c->map);
    crl_free(c);
}

const struct crl_calib_layout *crl_calib_layout_of(const struct crl_calib *c)
{
    return c->layout;
}

uint64_t crl_calib_hash(const struct crl_calib *c)
{
    return crl_le64(c->data + 24);
}

uint64_t crl_calib_tokens(const struct crl_calib *c)
{
    return crl_le64(c->data + 40);
}

uint64_t crl_calib_count(const struct crl_calib *c, size_t record)
{
    return crl_le64(c->data + c->layout->record[record].offset);
}

void crl_calib_sums(const struct crl_calib *c, size_t record, float *out)
{
    const struct crl_calib_record *r = &c->layout->record[record];

    for (uint32_t j = 0; j < r->k; j++) out[j] = float_at(c, r->offset + CRL_CALIB_COUNT_BYTES + 4 * (uint64_t)j);
}

void crl_calib_products(const struct crl_calib *c, size_t record, uint32_t first, float *out)
{
    const struct crl_calib_record *r = &c->layout->record[record];
    uint32_t span = c->layout->span, width = r->k - first < span ? r->k - first : span;
    uint64_t at = products_at(r) + 4 * crl_calib_n_product(first, span), n = crl_calib_n_product(width, width);

    for (uint64_t j = 0; j < n; j++) out[j] = float_at(c, at + 4 * j);
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

static void floats_to_file(unsigned char *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, p + 4 * i, sizeof v);
        crl_put_le32(p + 4 * i, crl_f32_bits(v));
    }
}

static void record_to_file(const struct crl_calib_layout *l, const struct crl_calib_record *r, unsigned char *image)
{
    if (r->sums) {
        uint64_t count;
        memcpy(&count, image + r->offset, sizeof count);
        crl_put_le64(image + r->offset, count);
        floats_to_file(image + r->offset + CRL_CALIB_COUNT_BYTES, r->k);
    }
    if (r->products) floats_to_file(image + products_at(r), crl_calib_n_product(r->k, l->span));
}

enum crl_status crl_calib_write(const char *path, const struct crl_calib_layout *l, unsigned char *image,
                                uint64_t tokens, uint64_t id, struct crl_err *err)
{
    uint64_t hash;

    for (size_t i = 0; i < l->n; i++) record_to_file(l, &l->record[i], image);
    memset(image, 0, HEADER);
    memcpy(image, MAGIC, 8);
    crl_put_le32(image + 8, VERSION);
    crl_put_le32(image + 12, l->span);
    crl_put_le64(image + 16, l->bytes);
    crl_put_le64(image + 32, id);
    crl_put_le64(image + 40, tokens);
    crl_put_le32(image + 48, (uint32_t)l->n);
    if (!hash_of(image, l->bytes, &hash)) return crl_fail(err, CRL_ENOMEM, "no memory for a hash");
    crl_put_le64(image + 24, hash);
    return crl_file_write(path, image, (size_t)l->bytes, err);
}
