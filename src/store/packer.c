/* packer.c - writing a packed file, to disk or to memory, in any order. */
#include "store/pack.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "store/layout.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#define SLICE ((size_t)1 << 20) /* bytes read back at a time for a hash */

struct crl_packer {
    struct crl_out *out;   /* target file, or NULL */
    struct crl_region mem; /* target memory, when out is NULL */
    struct crl_schema *schema;
    struct crl_layout *layout;
    struct extent_state {
        atomic_uint_fast64_t put; /* bytes of matrices that have arrived */
        atomic_bool done;         /* the hash stands */
    } *extent;                    /* [n_extent] */
    char *name;                   /* path of the target, for messages too */
    char *config, *made_by;       /* sections of its own */
    struct crl_sections sections; /* all, until they are written */
    bool committed;
};

typedef unsigned long long ull; /* what printf wants for uint64_t */

/* --- sections ----------------------------------------------------------------------------------------- */

static json_t *override_list(const struct crl_recipe *r)
{
    json_t *list = json_array();
    char text[CRL_GLOB_MAX + 8];

    for (size_t i = 0; list && i < r->n_override; i++) {
        size_t len = strlen(r->override[i].glob);
        memcpy(text, r->override[i].glob, len);
        text[len] = '=';
        strcpy(text + len + 1, crl_format_name(r->override[i].format)); /* at most "bf16" */
        if (json_array_append_new(list, json_string(text))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* {"recipe":NAME,"overrides":[...],"calibration":HASH}; fresh memory, NULL on exhaustion or a glob that is not UTF-8. */
static char *provenance(const struct crl_recipe *r)
{
    json_t *doc = json_object(), *list = override_list(r);
    char *text = NULL, hash[17];
    bool good = doc && list && !json_object_set_new(doc, "recipe", json_string(r->name));

    if (good && r->n_override) good = !json_object_set(doc, "overrides", list);
    if (good && r->calibration) {
        snprintf(hash, sizeof hash, "%016" PRIx64, r->calibration);
        good = !json_object_set_new(doc, "calibration", json_string(hash));
    }
    if (good) text = crl_json_text(doc);
    json_decref(list);
    json_decref(doc);
    return text;
}

/* Write len bytes at a file offset of either target. */
static enum crl_status write_at(struct crl_packer *pk, uint64_t offset, const void *data, size_t len,
                                struct crl_err *err)
{
    if (pk->out) return crl_out_write(pk->out, offset, data, len, err);
    memcpy(pk->mem.base + offset, data, len);
    return CRL_OK;
}

static enum crl_status check_sections(const struct crl_sections *s, struct crl_err *err)
{
    for (int kind = 1; kind < CRL_SECTION_END; kind++)
        if (s->len[kind] > CRL_SECTION_MAX)
            return crl_fail(err, CRL_ERANGE, "section %s has %zu bytes, at most %zu are possible",
                            crl_section_name(kind), s->len[kind], CRL_SECTION_MAX);
    return CRL_OK;
}

static enum crl_status write_sections(struct crl_packer *pk, const struct crl_sections *s,
                                      struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (int kind = 1; !st && kind < CRL_SECTION_END; kind++) {
        const struct crl_place *place = &pk->layout->section[kind];
        if (!place->size) continue;
        st = write_at(pk, place->offset, s->data[kind], s->len[kind], err);
    }
    return st;
}

/* --- new and close ------------------------------------------------------------------------------------ */

static enum crl_status plan(struct crl_packer *pk, const struct crl_config *cfg,
                            const struct crl_recipe *recipe, const struct crl_sections *s,
                            struct crl_err *err)
{
    enum crl_status st = crl_config_check(cfg, err);

    if (!st) st = check_sections(s, err);
    if (!st) st = crl_schema_build(&pk->schema, cfg, err);
    if (!st) st = crl_recipe_check(recipe, pk->schema, err);
    if (!st) st = crl_layout_new(&pk->layout, pk->schema, err);
    if (st) return st;
    for (size_t i = 0; i < pk->schema->n_weight; i++)
        pk->layout->format[i] = crl_recipe_format(recipe, &pk->schema->weight[i]);
    for (int kind = 1; kind < CRL_SECTION_END; kind++) {
        pk->layout->section[kind].size = s->len[kind];
        if (s->len[kind]) pk->layout->section[kind].hash = crl_hash(s->data[kind], s->len[kind]);
    }
    pk->extent = crl_alloc(pk->schema->n_extent, sizeof *pk->extent);
    if (!pk->extent) return crl_fail(err, CRL_ENOMEM, "no memory for %zu extents", pk->schema->n_extent);
    return crl_layout_compute(pk->layout, err);
}

static enum crl_status open_target(struct crl_packer *pk, const char *path, struct crl_err *err)
{
    enum crl_status st;

    if (!path)
        return crl_region_new(&pk->mem, (size_t)pk->layout->file_bytes, CRL_NODE_ANY, CRL_HUGE_TRY, err);
    st = crl_out_open(&pk->out, path, err);
    if (!st) st = crl_out_resize(pk->out, pk->layout->file_bytes, err);
    return st;
}

enum crl_status crl_packer_plan(struct crl_packer **out, const char *path, const struct crl_config *cfg,
                                const struct crl_recipe *recipe, const struct crl_sections *sections,
                                struct crl_err *err)
{
    struct crl_packer *pk = crl_alloc(1, sizeof *pk);
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (pk) {
        pk->name = crl_strdup(path ? path : "memory");
        pk->config = crl_config_to_json(cfg);
        pk->made_by = provenance(recipe);
    }
    if (!pk || !pk->name || !pk->config || !pk->made_by) st = crl_fail(err, CRL_ENOMEM, "no memory for a packer");
    if (!st) {
        struct crl_sections *all = &pk->sections;
        if (sections) *all = *sections;
        all->data[CRL_SECTION_CONFIG] = pk->config;
        all->len[CRL_SECTION_CONFIG] = strlen(pk->config);
        all->data[CRL_SECTION_PROVENANCE] = pk->made_by;
        all->len[CRL_SECTION_PROVENANCE] = strlen(pk->made_by);
        for (int kind = 1; kind < CRL_SECTION_END; kind++)
            if (!all->data[kind]) all->len[kind] = 0;
        st = plan(pk, cfg, recipe, all, err);
    }
    if (st) {
        crl_packer_close(pk);
        return st;
    }
    *out = pk;
    return CRL_OK;
}

enum crl_status crl_packer_open_partial(struct crl_packer *pk, bool keep_old, struct crl_err *err)
{
    enum crl_status st = crl_out_open_partial(&pk->out, pk->name, keep_old, err);

    if (!st) st = crl_out_resize(pk->out, pk->layout->file_bytes, err);
    return st ? st : write_sections(pk, &pk->sections, err);
}

enum crl_status crl_packer_new(struct crl_packer **out, const char *path, const struct crl_config *cfg,
                               const struct crl_recipe *recipe, const struct crl_sections *sections,
                               struct crl_err *err)
{
    enum crl_status st = crl_packer_plan(out, path, cfg, recipe, sections, err);

    if (!st) st = open_target(*out, path, err);
    if (!st) st = write_sections(*out, &(*out)->sections, err);
    if (st) {
        crl_packer_close(*out);
        *out = NULL;
    }
    return st;
}

void crl_packer_keep(struct crl_packer *pk)
{
    if (pk && pk->out) crl_out_keep(pk->out);
}

uint64_t crl_packer_allocated(const struct crl_packer *pk)
{
    return pk->out ? crl_out_allocated(pk->out) : 0;
}

void crl_packer_close(struct crl_packer *pk)
{
    if (!pk) return;
    crl_out_close(pk->out);
    crl_region_free(&pk->mem);
    crl_layout_free(pk->layout);
    crl_schema_free(pk->schema);
    crl_free(pk->extent);
    crl_free(pk->config);
    crl_free(pk->made_by);
    crl_free(pk->name);
    crl_free(pk);
}

/* --- looking ------------------------------------------------------------------------------------------ */

const struct crl_schema *crl_packer_schema(const struct crl_packer *pk)
{
    return pk->schema;
}

uint64_t crl_packer_size(const struct crl_packer *pk)
{
    return pk->layout->file_bytes;
}

enum crl_format crl_packer_format(const struct crl_packer *pk, size_t weight)
{
    return pk->layout->format[weight];
}

uint64_t crl_packer_weight_bytes(const struct crl_packer *pk, size_t weight)
{
    return pk->layout->bytes[weight];
}

uint64_t crl_packer_weight_offset(const struct crl_packer *pk, size_t weight)
{
    return pk->layout->offset[weight];
}

uint64_t crl_packer_extent_bytes(const struct crl_packer *pk, size_t extent)
{
    return pk->layout->extent[extent].size;
}

/* --- data --------------------------------------------------------------------------------------------- */

/* "PATH: TENSOR: found, expected" for a caller that lost count. */
static enum crl_status weight_fails(const struct crl_packer *pk, size_t weight, uint64_t found, uint64_t want,
                                    struct crl_err *err)
{
    char name[CRL_NAME_MAX];

    crl_weight_name(&pk->schema->weight[weight], name);
    return crl_fail(err, CRL_ERANGE, "%s: %s: %llu bytes were written, expected %llu", pk->name, name,
                    (ull)found, (ull)want);
}

enum crl_status crl_packer_put(struct crl_packer *pk, size_t weight, uint64_t offset, const void *data,
                               size_t len, struct crl_err *err)
{
    uint64_t bytes = pk->layout->bytes[weight];
    size_t extent = pk->schema->weight[weight].extent;
    enum crl_status st;

    if (offset > bytes || len > bytes - offset) return weight_fails(pk, weight, offset + len, bytes, err);
    offset += pk->layout->extent[extent].offset + pk->layout->offset[weight];
    st = write_at(pk, offset, data, len, err);
    if (!st) atomic_fetch_add(&pk->extent[extent].put, len);
    return st;
}

static void finish_extent(struct crl_packer *pk, size_t extent, uint64_t hash)
{
    pk->layout->extent[extent].hash = hash;
    atomic_store(&pk->extent[extent].done, true);
}

static enum crl_status hash_back(struct crl_packer *pk, const struct crl_place *x, uint64_t *hash,
                                 struct crl_err *err)
{
    size_t slice = x->size < SLICE ? (size_t)x->size : SLICE;
    unsigned char *buf = crl_alloc(slice, 1);
    struct crl_hasher *h = crl_hasher_new();
    enum crl_status st = buf && h ? CRL_OK : crl_fail(err, CRL_ENOMEM, "%s: no memory for a hash", pk->name);

    for (uint64_t at = 0; !st && at < x->size; at += slice) {
        size_t n = x->size - at < slice ? (size_t)(x->size - at) : slice;
        st = crl_out_read(pk->out, x->offset + at, buf, n, err);
        if (!st) crl_hasher_add(h, buf, n);
    }
    if (!st) *hash = crl_hasher_value(h);
    crl_hasher_free(h);
    crl_free(buf);
    return st;
}

enum crl_status crl_packer_extent_done(struct crl_packer *pk, size_t extent, struct crl_err *err)
{
    const struct crl_extent *x = &pk->schema->extent[extent];
    const struct crl_place *place = &pk->layout->extent[extent];
    uint64_t want = 0, put = atomic_load(&pk->extent[extent].put), hash = 0;
    enum crl_status st = CRL_OK;

    for (size_t i = x->first; i < (size_t)x->first + x->n; i++) want += pk->layout->bytes[i];
    if (put != want) return weight_fails(pk, x->first, put, want, err);
    if (pk->out) st = hash_back(pk, place, &hash, err);
    else hash = crl_hash(pk->mem.base + place->offset, (size_t)place->size);
    if (!st) finish_extent(pk, extent, hash);
    return st;
}

bool crl_packer_restore(struct crl_packer *pk, size_t extent, uint64_t hash)
{
    uint64_t found = 0;

    if (!pk->out || hash_back(pk, &pk->layout->extent[extent], &found, NULL) || found != hash) return false;
    finish_extent(pk, extent, hash);
    return true;
}

uint64_t crl_packer_extent_hash(const struct crl_packer *pk, size_t extent)
{
    return pk->layout->extent[extent].hash;
}

enum crl_status crl_packer_sync(struct crl_packer *pk, struct crl_err *err)
{
    return pk->out ? crl_out_sync(pk->out, err) : CRL_OK;
}

uint64_t crl_packer_identity(const struct crl_packer *pk)
{
    const struct crl_layout *l = pk->layout;
    struct crl_hasher *h = crl_hasher_new();
    uint64_t id = 0;

    if (!h) return 0;
    crl_hasher_add(h, &l->file_bytes, sizeof l->file_bytes);
    crl_hasher_add(h, l->section, sizeof l->section);
    for (size_t i = 0; i < pk->schema->n_weight; i++) {
        unsigned char f = (unsigned char)l->format[i];
        crl_hasher_add(h, &f, 1);
    }
    id = crl_hasher_value(h);
    crl_hasher_free(h);
    return id;
}

enum crl_status crl_packer_put_extent(struct crl_packer *pk, size_t extent, const void *data,
                                      struct crl_err *err)
{
    const struct crl_place *place = &pk->layout->extent[extent];
    enum crl_status st = write_at(pk, place->offset, data, (size_t)place->size, err);

    if (!st) finish_extent(pk, extent, crl_hash(data, (size_t)place->size));
    return st;
}

/* --- the end ------------------------------------------------------------------------------------------ */

static enum crl_status check_done(const struct crl_packer *pk, struct crl_err *err)
{
    char name[CRL_NAME_MAX];

    for (size_t e = 0; e < pk->schema->n_extent; e++) {
        if (atomic_load(&pk->extent[e].done)) continue;
        crl_weight_name(&pk->schema->weight[pk->schema->extent[e].first], name);
        return crl_fail(err, CRL_ERANGE, "%s: extent %zu (from %s) was never finished", pk->name, e, name);
    }
    return CRL_OK;
}

enum crl_status crl_packer_commit(struct crl_packer *pk, struct crl_err *err)
{
    unsigned char *dir;
    enum crl_status st = check_done(pk, err);

    if (st) return st;
    dir = crl_alloc((size_t)pk->layout->dir_bytes, 1);
    if (!dir) return crl_fail(err, CRL_ENOMEM, "%s: no memory for the directory", pk->name);
    crl_layout_write(pk->layout, dir);
    st = write_at(pk, 0, dir, (size_t)pk->layout->dir_bytes, err);
    crl_free(dir);
    if (!st && pk->out) st = crl_out_commit(pk->out, err);
    pk->committed = !st;
    return st;
}

enum crl_status crl_packer_take(struct crl_packer *pk, struct crl_pack **out, const char *name,
                                struct crl_err *err)
{
    enum crl_status st;

    *out = NULL;
    if (!pk->committed || !pk->mem.base)
        return crl_fail(err, CRL_ERANGE, "%s: nothing was committed to memory", pk->name);
    st = crl_pack_open_mem(out, pk->mem.base, pk->layout->file_bytes, name, err);
    if (!st) crl_pack_own(*out, &pk->mem);
    return st;
}
