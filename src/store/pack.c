/* pack.c - reading a packed file. Everything docs/format.md, section 9, lists is checked here, in that order;
 * the functions after open trust it. */
#define _GNU_SOURCE
#include "store/pack.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "store/layout.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct crl_pack {
    struct crl_map map;       /* file opened by path */
    int fd;                   /* of that file, else -1 */
    struct crl_region region; /* image taken over from a packer */
    const unsigned char *data;
    uint64_t size;
    char *name;
    char recipe[16];
    uint64_t calibration;
    struct crl_schema *schema;
    struct crl_layout *layout;
};

/* The header's numbers, and the sections, before there is a schema to make a layout from. */
struct directory {
    uint32_t n_section, n_extent, n_matrix;
    uint64_t bytes;
    struct crl_place section[CRL_SECTION_END];
    const unsigned char *section_record, *extent_record, *matrix_record;
};

typedef unsigned long long ull; /* what printf wants for uint64_t */

const char *crl_section_name(enum crl_section kind)
{
    static const char *const name[CRL_SECTION_END] = {
        [CRL_SECTION_CONFIG] = "config",
        [CRL_SECTION_TOKENIZER] = "tokenizer",
        [CRL_SECTION_GENERATION] = "generation",
        [CRL_SECTION_CHAT_TEMPLATE] = "chat template",
        [CRL_SECTION_PREPROCESSING] = "preprocessing",
        [CRL_SECTION_PROVENANCE] = "provenance",
    };

    return (unsigned)kind < CRL_SECTION_END && name[kind] ? name[kind] : "?";
}

/* --- the directory ------------------------------------------------------------------------------------ */

static bool all_zero(const unsigned char *p, uint64_t n)
{
    return n == 0 || (p[0] == 0 && !memcmp(p, p + 1, (size_t)n - 1));
}

static enum crl_status read_header(const struct crl_pack *p, struct directory *d, struct crl_err *err)
{
    const unsigned char *h = p->data;
    uint64_t want;

    if (p->size < CRL_HEADER_BYTES)
        return crl_fail(err, CRL_EFORMAT, "%llu bytes long, too short for a packed file", (ull)p->size);
    if (memcmp(h, CRL_PACK_MAGIC, 8)) return crl_fail(err, CRL_EFORMAT, "not a packed file (wrong magic)");
    if (!crl_le32(h + 8) || crl_le32(h + 8) > CRL_PACK_VERSION)
        return crl_fail(err, CRL_EUNSUPPORTED, "version %u of the packed file, this program reads versions 1 to %d",
                        crl_le32(h + 8), CRL_PACK_VERSION);
    if (!all_zero(h + 12, 4) || !all_zero(h + 52, 12))
        return crl_fail(err, CRL_EFORMAT, "a reserved field of the header is not zero");
    if (crl_le64(h + 16) != p->size)
        return crl_fail(err, CRL_EFORMAT, "%llu bytes long, its header says %llu; truncated or damaged",
                        (ull)p->size, (ull)crl_le64(h + 16));
    d->bytes = crl_le64(h + 24);
    d->n_section = crl_le32(h + 40);
    d->n_extent = crl_le32(h + 44);
    d->n_matrix = crl_le32(h + 48);
    if (d->n_section < 2 || d->n_section >= CRL_SECTION_END)
        return crl_fail(err, CRL_EFORMAT, "%u sections, outside 2 to %d", d->n_section, CRL_SECTION_END - 1);
    want = crl_dir_bytes(d->n_section, d->n_extent, d->n_matrix);
    if (d->bytes != want)
        return crl_fail(err, CRL_EFORMAT,
                        "the directory has %llu bytes; %u sections, %u extents and %u matrices need %llu",
                        (ull)d->bytes, d->n_section, d->n_extent, d->n_matrix, (ull)want);
    if (d->bytes > p->size)
        return crl_fail(err, CRL_EFORMAT, "the directory has %llu bytes, the file only %llu", (ull)d->bytes,
                        (ull)p->size);
    if (!crl_dir_hash(h, d->bytes, &want)) return crl_fail(err, CRL_ENOMEM, "no memory for a hash");
    if (want != crl_le64(h + 32))
        return crl_fail(err, CRL_EFORMAT, "the directory is damaged: hash %016llx, expected %016llx",
                        (ull)want, (ull)crl_le64(h + 32));
    d->section_record = h + CRL_HEADER_BYTES;
    d->extent_record = d->section_record + CRL_SECTION_RECORD * (size_t)d->n_section;
    d->matrix_record = d->extent_record + CRL_EXTENT_RECORD * (size_t)d->n_extent;
    return CRL_OK;
}

/* Kinds and sizes of the section table into d->section. */
static enum crl_status read_section_sizes(struct directory *d, struct crl_err *err)
{
    uint32_t last = 0;

    for (uint32_t i = 0; i < d->n_section; i++) {
        const unsigned char *r = d->section_record + CRL_SECTION_RECORD * (size_t)i;
        uint32_t kind = crl_le32(r);
        uint64_t size = crl_le64(r + 16);
        size_t most;

        if (kind <= last || kind >= CRL_SECTION_END)
            return crl_fail(err, CRL_EFORMAT, "section %u has kind %u, expected %u to %d", i, kind, last + 1,
                            CRL_SECTION_END - 1);
        if (crl_le32(r + 4))
            return crl_fail(err, CRL_EFORMAT, "section %u: its reserved field is not zero", i);
        most = kind == CRL_SECTION_CONFIG || kind == CRL_SECTION_PROVENANCE ? CRL_SECTION_OWN_MAX
                                                                           : CRL_SECTION_MAX;
        if (!size || size > most)
            return crl_fail(err, CRL_EFORMAT, "section %s has %llu bytes, outside 1 to %zu",
                            crl_section_name(kind), (ull)size, most);
        d->section[kind].size = size;
        last = kind;
    }
    if (!d->section[CRL_SECTION_CONFIG].size || !d->section[CRL_SECTION_PROVENANCE].size)
        return crl_fail(err, CRL_EFORMAT, "section %s is missing",
                        crl_section_name(d->section[CRL_SECTION_CONFIG].size ? CRL_SECTION_PROVENANCE
                                                                             : CRL_SECTION_CONFIG));
    return CRL_OK;
}

static enum crl_status check_section(const struct crl_pack *p, const struct crl_place *s,
                                     enum crl_section kind, const unsigned char *record, uint64_t pos,
                                     struct crl_err *err)
{
    const char *name = crl_section_name(kind);
    uint64_t hash;

    if (crl_le64(record + 8) != s->offset)
        return crl_fail(err, CRL_EFORMAT, "section %s is at %llu, expected %llu", name,
                        (ull)crl_le64(record + 8), (ull)s->offset);
    if (s->offset > p->size || s->size > p->size - s->offset)
        return crl_fail(err, CRL_EFORMAT, "section %s ends beyond the file", name);
    if (!all_zero(p->data + pos, s->offset - pos))
        return crl_fail(err, CRL_EFORMAT, "the padding before section %s is not zero", name);
    hash = crl_hash(p->data + s->offset, (size_t)s->size);
    if (hash != s->hash)
        return crl_fail(err, CRL_EFORMAT, "section %s is damaged: hash %016llx, expected %016llx", name,
                        (ull)hash, (ull)s->hash);
    return CRL_OK;
}

static enum crl_status read_sections(const struct crl_pack *p, struct directory *d, struct crl_err *err)
{
    const unsigned char *r = d->section_record;
    uint64_t pos = d->bytes;
    enum crl_status st = read_section_sizes(d, err);

    if (st) return st;
    crl_layout_sections(d->section, d->bytes);
    for (int kind = 1; !st && kind < CRL_SECTION_END; kind++) {
        struct crl_place *s = &d->section[kind];
        if (!s->size) continue;
        s->hash = crl_le64(r + 24);
        st = check_section(p, s, kind, r, pos, err);
        pos = s->offset + s->size;
        r += CRL_SECTION_RECORD;
    }
    return st;
}

/* --- config and provenance ---------------------------------------------------------------------------- */

static enum crl_status check_override_list(const json_t *list, struct crl_err *err)
{
    if (!list) return CRL_OK;
    if (!json_is_array(list)) return crl_fail(err, CRL_EFORMAT, "provenance: overrides is not a list");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_string(json_array_get(list, i)))
            return crl_fail(err, CRL_EFORMAT, "provenance: overrides[%zu] is not a string", i);
    return CRL_OK;
}

/* The hash as 16 digits, never 0. */
static enum crl_status read_calibration(struct crl_pack *p, const json_t *v, struct crl_err *err)
{
    const char *text = json_string_value(v);

    if (!v) return CRL_OK;
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16 ||
        !(p->calibration = strtoull(text, NULL, 16)))
        return crl_fail(err, CRL_EFORMAT, "provenance: calibration is no hash of 16 lower-case digits");
    return CRL_OK;
}

static enum crl_status check_provenance(struct crl_pack *p, json_t *doc, struct crl_err *err)
{
    const char *recipe = json_string_value(json_object_get(doc, "recipe")), *key;
    enum crl_status st = CRL_OK;
    json_t *v;

    if (!json_is_object(doc)) return crl_fail(err, CRL_EFORMAT, "provenance: not a JSON object");
    json_object_foreach(doc, key, v)
        if (strcmp(key, "recipe") && strcmp(key, "overrides") && strcmp(key, "calibration"))
            return crl_fail(err, CRL_EFORMAT, "provenance: unknown key \"%.64s\"", key);
    if (!recipe || !*recipe || strlen(recipe) >= sizeof p->recipe)
        return crl_fail(err, CRL_EFORMAT, "provenance: recipe is not a name of 1 to %zu bytes",
                        sizeof p->recipe - 1);
    memcpy(p->recipe, recipe, strlen(recipe) + 1);
    if (!st) st = read_calibration(p, json_object_get(doc, "calibration"), err);
    return st ? st : check_override_list(json_object_get(doc, "overrides"), err);
}

static enum crl_status read_provenance(struct crl_pack *p, const struct crl_place *s, struct crl_err *err)
{
    json_t *doc;
    enum crl_status st =
        crl_json_parse(&doc, (const char *)p->data + s->offset, (size_t)s->size, "provenance", err);

    if (!st) st = check_provenance(p, doc, err);
    json_decref(doc);
    return st;
}

/* The configuration decides how many matrices and extents there must be; only then is memory taken. */
static enum crl_status read_config(struct crl_pack *p, const struct directory *d, struct crl_err *err)
{
    const struct crl_place *s = &d->section[CRL_SECTION_CONFIG];
    struct crl_config cfg;
    size_t n_weight, n_extent;
    enum crl_status st = crl_config_from_json(&cfg, (const char *)p->data + s->offset, (size_t)s->size, err);

    if (!st) st = crl_schema_count(&cfg, &n_weight, &n_extent, err);
    if (!st && n_weight != d->n_matrix)
        st = crl_fail(err, CRL_EFORMAT, "%u matrices, the configuration has %zu", d->n_matrix, n_weight);
    if (!st && n_extent != d->n_extent)
        st = crl_fail(err, CRL_EFORMAT, "%u extents, the configuration has %zu", d->n_extent, n_extent);
    if (!st && crl_le32(p->data + 8) != crl_pack_version(&cfg))
        st = crl_fail(err, CRL_EFORMAT, "version %u of the packed file, its configuration belongs to version %u",
                      crl_le32(p->data + 8), crl_pack_version(&cfg));
    if (!st) st = crl_schema_build(&p->schema, &cfg, err);
    if (!st) st = crl_layout_new(&p->layout, p->schema, err);
    return st;
}

/* --- tables ------------------------------------------------------------------------------------------- */

/* "matrix 7 (NAME): ..." for what is wrong with a record. */
static enum crl_status matrix_fails(const struct crl_pack *p, size_t i, const char *what, uint64_t found,
                                    uint64_t want, struct crl_err *err)
{
    char name[CRL_NAME_MAX];

    crl_weight_name(&p->schema->weight[i], name);
    return crl_fail(err, CRL_EFORMAT, "matrix %zu (%s): %s is %llu, expected %llu", i, name, what, (ull)found,
                    (ull)want);
}

static enum crl_status read_matrix(struct crl_pack *p, const unsigned char *r, size_t i, struct crl_err *err)
{
    const struct crl_weight *w = &p->schema->weight[i];
    const struct {
        const char *what;
        uint64_t found, want;
    } check[] = {
        { "kind", crl_le16(r), w->kind },
        { "layer", crl_le32(r + 4), (uint32_t)w->layer },
        { "expert", crl_le32(r + 8), (uint32_t)w->expert },
        { "number of rows", crl_le64(r + 16), w->n },
        { "number of inputs", crl_le64(r + 24), w->k },
        { "a reserved field", r[3] | crl_le32(r + 12), 0 },
    };
    char name[CRL_NAME_MAX];

    for (size_t c = 0; c < sizeof check / sizeof *check; c++)
        if (check[c].found != check[c].want)
            return matrix_fails(p, i, check[c].what, check[c].found, check[c].want, err);
    if (!crl_kind_takes(w->kind, r[2])) {
        crl_weight_name(w, name);
        return crl_fail(err, CRL_EFORMAT, "matrix %zu (%s): format %u is none this kind of matrix is kept in",
                        i, name, r[2]);
    }
    p->layout->format[i] = r[2];
    return CRL_OK;
}

static enum crl_status check_extent(const struct crl_pack *p, const unsigned char *r, size_t e,
                                    struct crl_err *err)
{
    const struct crl_extent *x = &p->schema->extent[e];
    const struct crl_place *place = &p->layout->extent[e];
    const struct {
        const char *what;
        uint64_t found, want;
    } check[] = {
        { "first matrix", crl_le32(r + 24), x->first },
        { "number of matrices", crl_le32(r + 28), x->n },
        { "size", crl_le64(r + 8), place->size },
        { "offset", crl_le64(r), place->offset },
    };
    char name[CRL_NAME_MAX];

    crl_weight_name(&p->schema->weight[x->first], name);
    for (size_t c = 0; c < sizeof check / sizeof *check; c++)
        if (check[c].found != check[c].want)
            return crl_fail(err, CRL_EFORMAT, "extent %zu (from %s): %s is %llu, expected %llu", e, name,
                            check[c].what, (ull)check[c].found, (ull)check[c].want);
    if (place->offset > p->size || place->size > p->size - place->offset)
        return crl_fail(err, CRL_EFORMAT, "extent %zu (from %s) ends at %llu, beyond the file of %llu bytes",
                        e, name, (ull)(place->offset + place->size), (ull)p->size);
    return CRL_OK;
}

static enum crl_status read_tables(struct crl_pack *p, const struct directory *d, struct crl_err *err)
{
    struct crl_layout *l = p->layout;
    enum crl_status st = CRL_OK;

    memcpy(l->section, d->section, sizeof l->section);
    for (size_t i = 0; !st && i < d->n_matrix; i++)
        st = read_matrix(p, d->matrix_record + CRL_MATRIX_RECORD * i, i, err);
    if (!st) st = crl_layout_compute(l, err);
    for (size_t i = 0; !st && i < d->n_matrix; i++) {
        const unsigned char *r = d->matrix_record + CRL_MATRIX_RECORD * i;
        if (crl_le64(r + 32) != l->offset[i])
            st = matrix_fails(p, i, "offset", crl_le64(r + 32), l->offset[i], err);
        else if (crl_le64(r + 40) != l->bytes[i])
            st = matrix_fails(p, i, "size", crl_le64(r + 40), l->bytes[i], err);
    }
    for (size_t e = 0; !st && e < d->n_extent; e++) {
        const unsigned char *r = d->extent_record + CRL_EXTENT_RECORD * e;
        st = check_extent(p, r, e, err);
        l->extent[e].hash = crl_le64(r + 16);
    }
    if (!st && l->file_bytes != p->size)
        st = crl_fail(err, CRL_EFORMAT, "%llu bytes long, its last extent ends at %llu", (ull)p->size,
                      (ull)l->file_bytes);
    return st;
}

/* --- open and close ----------------------------------------------------------------------------------- */

static enum crl_status read_all(struct crl_pack *p, struct crl_err *err)
{
    struct directory d = { 0 };
    enum crl_status st = read_header(p, &d, err);

    if (!st) st = read_sections(p, &d, err);
    if (!st) st = read_config(p, &d, err);
    if (!st) st = read_provenance(p, &d.section[CRL_SECTION_PROVENANCE], err);
    if (!st) st = read_tables(p, &d, err);
    if (st) crl_err_prefix(err, "%s", p->name);
    return st;
}

static enum crl_status pack_new(struct crl_pack **out, const char *name, struct crl_err *err)
{
    struct crl_pack *p = crl_alloc(1, sizeof *p);

    if (p) p->fd = -1;
    if (p) p->name = crl_strdup(name);
    if (!p || !p->name) {
        crl_pack_close(p);
        return crl_fail(err, CRL_ENOMEM, "%s: no memory", name);
    }
    *out = p;
    return CRL_OK;
}

enum crl_status crl_pack_open(struct crl_pack **out, const char *path, struct crl_err *err)
{
    struct crl_pack *p = NULL;
    enum crl_status st = pack_new(&p, path, err);

    if (!st) st = crl_map_open_keep(&p->map, &p->fd, path, err);
    if (!st) {
        p->data = p->map.data;
        p->size = p->map.size;
        st = read_all(p, err);
    }
    if (st) {
        crl_pack_close(p);
        p = NULL;
    }
    *out = p;
    return st;
}

enum crl_status crl_pack_open_mem(struct crl_pack **out, const void *data, uint64_t size, const char *name,
                                  struct crl_err *err)
{
    struct crl_pack *p = NULL;
    enum crl_status st = pack_new(&p, name, err);

    if (!st && (uintptr_t)data % CRL_ALIGN)
        st = crl_fail(err, CRL_ERANGE, "%s: the image is not aligned to %d bytes", name, CRL_ALIGN);
    if (!st) {
        p->data = data;
        p->size = size;
        st = read_all(p, err);
    }
    if (st) {
        crl_pack_close(p);
        p = NULL;
    }
    *out = p;
    return st;
}

void crl_pack_own(struct crl_pack *p, struct crl_region *region)
{
    p->region = *region;
    memset(region, 0, sizeof *region);
}

void crl_pack_close(struct crl_pack *p)
{
    if (!p) return;
    crl_layout_free(p->layout);
    crl_schema_free(p->schema);
    crl_map_close(&p->map);
    if (p->fd >= 0) close(p->fd);
    crl_region_free(&p->region);
    crl_free(p->name);
    crl_free(p);
}

/* --- looking ------------------------------------------------------------------------------------------ */

const char *crl_pack_name(const struct crl_pack *p)
{
    return p->name;
}

const struct crl_config *crl_pack_config(const struct crl_pack *p)
{
    return &p->schema->cfg;
}

const struct crl_schema *crl_pack_schema(const struct crl_pack *p)
{
    return p->schema;
}

const char *crl_pack_recipe(const struct crl_pack *p)
{
    return p->recipe;
}

uint64_t crl_pack_calibration(const struct crl_pack *p)
{
    return p->calibration;
}

const unsigned char *crl_pack_data(const struct crl_pack *p)
{
    return p->data;
}

uint64_t crl_pack_size(const struct crl_pack *p)
{
    return p->size;
}

int crl_pack_fd(const struct crl_pack *p)
{
    return p->fd;
}

void crl_pack_drop(struct crl_pack *p, size_t extent)
{
    const struct crl_place *x = &p->layout->extent[extent];

    if (p->region.base) madvise(p->region.base + x->offset, (size_t)x->size, MADV_DONTNEED);
}

const unsigned char *crl_pack_section(const struct crl_pack *p, enum crl_section kind, size_t *len)
{
    bool there = (unsigned)kind < CRL_SECTION_END && p->layout->section[kind].size;

    *len = there ? (size_t)p->layout->section[kind].size : 0;
    return there ? p->data + p->layout->section[kind].offset : NULL;
}

const struct crl_place *crl_pack_extent(const struct crl_pack *p, size_t extent)
{
    return &p->layout->extent[extent];
}

enum crl_format crl_pack_format(const struct crl_pack *p, size_t weight)
{
    return p->layout->format[weight];
}

const enum crl_format *crl_pack_formats(const struct crl_pack *p)
{
    return p->layout->format;
}

uint64_t crl_pack_weight_offset(const struct crl_pack *p, size_t weight)
{
    return p->layout->offset[weight];
}

uint64_t crl_pack_weight_bytes(const struct crl_pack *p, size_t weight)
{
    return p->layout->bytes[weight];
}

void crl_pack_mat_at(const struct crl_pack *p, size_t weight, const void *extent, struct crl_mat *m)
{
    const struct crl_weight *w = &p->schema->weight[weight];

    crl_mat_bind(m, p->layout->format[weight], w->n, w->k,
                 (const unsigned char *)extent + p->layout->offset[weight]);
}

void crl_pack_mat(const struct crl_pack *p, size_t weight, struct crl_mat *m)
{
    crl_pack_mat_at(p, weight, p->data + p->layout->extent[p->schema->weight[weight].extent].offset, m);
}

enum crl_status crl_pack_mat_named(const struct crl_pack *p, const char *name, struct crl_mat *m,
                                   struct crl_err *err)
{
    size_t i = crl_schema_find_name(p->schema, name);

    if (i == CRL_NO_WEIGHT) return crl_fail(err, CRL_ENOENT, "%s: no tensor %s", p->name, name);
    crl_pack_mat(p, i, m);
    return CRL_OK;
}

enum crl_status crl_pack_totals(const struct crl_pack *p, struct crl_totals *t, struct crl_err *err)
{
    return crl_schema_totals(p->schema, p->layout->format, t, err);
}

/* --- verifying ---------------------------------------------------------------------------------------- */

struct verify {
    const struct crl_pack *p;
    crl_progress_fn *progress;
    void *ctx;
    uint64_t total;
    atomic_uint_fast64_t done;
    atomic_size_t first_bad; /* lowest extent found damaged */
    atomic_size_t n_bad;
    atomic_bool stop;
};

static uint64_t end_before(const struct crl_pack *p, size_t extent)
{
    uint64_t end = p->layout->dir_bytes;

    if (extent) return p->layout->extent[extent - 1].offset + p->layout->extent[extent - 1].size;
    for (int kind = 1; kind < CRL_SECTION_END; kind++)
        if (p->layout->section[kind].size)
            end = p->layout->section[kind].offset + p->layout->section[kind].size;
    return end;
}

static bool gap_is_zero(const struct crl_pack *p, size_t extent)
{
    uint64_t from = end_before(p, extent);

    return all_zero(p->data + from, p->layout->extent[extent].offset - from);
}

static bool hash_is_right(const struct crl_pack *p, size_t extent)
{
    const struct crl_place *x = &p->layout->extent[extent];

    return crl_hash(p->data + x->offset, (size_t)x->size) == x->hash;
}

static void verify_extent(size_t e, unsigned member, void *arg)
{
    struct verify *v = arg;
    uint64_t done;

    if (atomic_load(&v->stop)) return;
    if (!gap_is_zero(v->p, e) || !hash_is_right(v->p, e)) {
        size_t first = atomic_load(&v->first_bad);
        atomic_fetch_add(&v->n_bad, 1);
        while (e < first && !atomic_compare_exchange_weak(&v->first_bad, &first, e)) continue;
    }
    done = atomic_fetch_add(&v->done, v->p->layout->extent[e].size) + v->p->layout->extent[e].size;
    if (member == 0 && v->progress && !v->progress(v->ctx, done, v->total)) atomic_store(&v->stop, true);
}

static enum crl_status report_bad(const struct crl_pack *p, size_t e, size_t n_bad, struct crl_err *err)
{
    const struct crl_extent *x = &p->schema->extent[e];
    char first[CRL_NAME_MAX], last[CRL_NAME_MAX], more[64] = "";

    crl_weight_name(&p->schema->weight[x->first], first);
    crl_weight_name(&p->schema->weight[x->first + x->n - 1], last);
    if (n_bad > 1) snprintf(more, sizeof more, "; %zu extents are damaged in all", n_bad);
    return crl_fail(err, CRL_EDIFFER, "%s: extent %zu is damaged (%s, bytes %llu to %llu, %s%s%s)%s", p->name,
                    e, gap_is_zero(p, e) ? "wrong hash" : "the padding before it is not zero",
                    (ull)p->layout->extent[e].offset,
                    (ull)(p->layout->extent[e].offset + p->layout->extent[e].size), first,
                    x->n > 1 ? " to " : "", x->n > 1 ? last : "", more);
}

enum crl_status crl_pack_verify(const struct crl_pack *p, struct crl_team *team, crl_progress_fn *progress,
                                void *ctx, struct crl_err *err)
{
    size_t n = p->schema->n_extent;
    struct verify v = { .p = p, .progress = progress, .ctx = ctx };

    for (size_t e = 0; e < n; e++) v.total += p->layout->extent[e].size;
    atomic_init(&v.first_bad, n);
    if (team) crl_team_each(team, n, verify_extent, &v);
    else for (size_t e = 0; e < n; e++) verify_extent(e, 0, &v);
    if (atomic_load(&v.stop)) return crl_fail(err, CRL_EINTR, "%s: verification was stopped", p->name);
    if (atomic_load(&v.n_bad)) return report_bad(p, atomic_load(&v.first_bad), atomic_load(&v.n_bad), err);
    return CRL_OK;
}
