/* layout.c - offsets and records of the packed file. */
#include "store/layout.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <string.h>

#define PAGE 4096u
#define HUGE_PAGE (2u << 20)
#define HUGE_FROM (32u << 20) /* extents from here on begin at a huge page */
#define FILE_MAX ((uint64_t)1 << 62)

enum crl_status crl_layout_new(struct crl_layout **out, const struct crl_schema *schema, struct crl_err *err)
{
    struct crl_layout *l = crl_alloc(1, sizeof *l);

    *out = NULL;
    if (l) {
        l->schema = schema;
        l->extent = crl_alloc(schema->n_extent, sizeof *l->extent);
        l->format = crl_alloc(schema->n_weight, sizeof *l->format);
        l->offset = crl_alloc(schema->n_weight, sizeof *l->offset);
        l->bytes = crl_alloc(schema->n_weight, sizeof *l->bytes);
    }
    if (!l || !l->extent || !l->format || !l->offset || !l->bytes) {
        crl_layout_free(l);
        return crl_fail(err, CRL_ENOMEM, "no memory for the layout of %zu matrices", schema->n_weight);
    }
    *out = l;
    return CRL_OK;
}

void crl_layout_free(struct crl_layout *l)
{
    if (!l) return;
    crl_free(l->extent);
    crl_free(l->format);
    crl_free(l->offset);
    crl_free(l->bytes);
    crl_free(l);
}

uint64_t crl_dir_bytes(uint64_t n_section, uint64_t n_extent, uint64_t n_matrix)
{
    return CRL_HEADER_BYTES + CRL_SECTION_RECORD * n_section + CRL_EXTENT_RECORD * n_extent +
           CRL_MATRIX_RECORD * n_matrix;
}

static uint64_t round_up64(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

uint64_t crl_layout_sections(struct crl_place section[CRL_SECTION_END], uint64_t dir_bytes)
{
    uint64_t pos = dir_bytes;

    for (int kind = 1; kind < CRL_SECTION_END; kind++) {
        if (!section[kind].size) continue;
        section[kind].offset = round_up64(pos, CRL_ALIGN);
        pos = section[kind].offset + section[kind].size;
    }
    return pos;
}

/* Sizes and offsets inside extent e; false when it grows beyond all files. */
static bool compute_extent(struct crl_layout *l, size_t e)
{
    const struct crl_extent *x = &l->schema->extent[e];
    uint64_t at = 0;

    for (size_t i = x->first; i < (size_t)x->first + x->n; i++) {
        const struct crl_weight *w = &l->schema->weight[i];
        if (!crl_mat_bytes(l->format[i], w->n, w->k, &l->bytes[i]) || l->bytes[i] > FILE_MAX) return false;
        l->offset[i] = round_up64(at, CRL_ALIGN);
        at = l->offset[i] + l->bytes[i];
        if (at > FILE_MAX) return false;
    }
    l->extent[e].size = round_up64(at, PAGE);
    return true;
}

enum crl_status crl_layout_compute(struct crl_layout *l, struct crl_err *err)
{
    uint64_t n_section = 0, pos;

    for (int kind = 1; kind < CRL_SECTION_END; kind++) n_section += l->section[kind].size > 0;
    l->dir_bytes = crl_dir_bytes(n_section, l->schema->n_extent, l->schema->n_weight);
    pos = crl_layout_sections(l->section, l->dir_bytes);
    for (size_t e = 0; e < l->schema->n_extent; e++) {
        struct crl_place *x = &l->extent[e];
        if (!compute_extent(l, e)) pos = UINT64_MAX;
        if (pos > FILE_MAX)
            return crl_fail(err, CRL_ERANGE, "the packed file would be larger than 2^62 bytes");
        x->offset = round_up64(pos, x->size >= HUGE_FROM ? HUGE_PAGE : PAGE);
        pos = x->offset + x->size;
    }
    l->file_bytes = pos;
    return CRL_OK;
}

static unsigned char *write_sections(const struct crl_layout *l, unsigned char *p)
{
    for (uint32_t kind = 1; kind < CRL_SECTION_END; kind++) {
        if (!l->section[kind].size) continue;
        crl_put_le32(p, kind);
        crl_put_le64(p + 8, l->section[kind].offset);
        crl_put_le64(p + 16, l->section[kind].size);
        crl_put_le64(p + 24, l->section[kind].hash);
        p += CRL_SECTION_RECORD;
    }
    return p;
}

static unsigned char *write_extents(const struct crl_layout *l, unsigned char *p)
{
    for (size_t e = 0; e < l->schema->n_extent; e++, p += CRL_EXTENT_RECORD) {
        crl_put_le64(p, l->extent[e].offset);
        crl_put_le64(p + 8, l->extent[e].size);
        crl_put_le64(p + 16, l->extent[e].hash);
        crl_put_le32(p + 24, l->schema->extent[e].first);
        crl_put_le32(p + 28, l->schema->extent[e].n);
    }
    return p;
}

static unsigned char *write_matrices(const struct crl_layout *l, unsigned char *p)
{
    for (size_t i = 0; i < l->schema->n_weight; i++, p += CRL_MATRIX_RECORD) {
        const struct crl_weight *w = &l->schema->weight[i];
        crl_put_le16(p, (uint16_t)w->kind);
        p[2] = (unsigned char)l->format[i];
        crl_put_le32(p + 4, (uint32_t)w->layer); /* -1 becomes CRL_NONE_U32 */
        crl_put_le32(p + 8, (uint32_t)w->expert);
        crl_put_le64(p + 16, w->n);
        crl_put_le64(p + 24, w->k);
        crl_put_le64(p + 32, l->offset[i]);
        crl_put_le64(p + 40, l->bytes[i]);
    }
    return p;
}

void crl_layout_write(const struct crl_layout *l, unsigned char *dir)
{
    unsigned char *p;

    memset(dir, 0, (size_t)l->dir_bytes);
    p = write_sections(l, dir + CRL_HEADER_BYTES);
    memcpy(dir, CRL_PACK_MAGIC, 8);
    crl_put_le32(dir + 8, crl_pack_version(&l->schema->cfg));
    crl_put_le64(dir + 16, l->file_bytes);
    crl_put_le64(dir + 24, l->dir_bytes);
    crl_put_le32(dir + 40, (uint32_t)((p - dir - CRL_HEADER_BYTES) / CRL_SECTION_RECORD));
    crl_put_le32(dir + 44, (uint32_t)l->schema->n_extent);
    crl_put_le32(dir + 48, (uint32_t)l->schema->n_weight);
    p = write_extents(l, p);
    write_matrices(l, p);
    crl_put_le64(dir + 32, crl_hash(dir, (size_t)l->dir_bytes)); /* the field is still zero */
}

bool crl_dir_hash(const unsigned char *dir, uint64_t dir_bytes, uint64_t *hash)
{
    static const unsigned char zero[8];
    struct crl_hasher *h = crl_hasher_new();

    if (!h) return false;
    crl_hasher_add(h, dir, 32);
    crl_hasher_add(h, zero, sizeof zero);
    crl_hasher_add(h, dir + 40, (size_t)dir_bytes - 40);
    *hash = crl_hasher_value(h);
    crl_hasher_free(h);
    return true;
}
