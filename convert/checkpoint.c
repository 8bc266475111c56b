/* checkpoint.c - folders of weight files, and the search for every matrix in them. */

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "convert/ckpt_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JSON_MOST ((size_t)64 << 20)
#define SHARDS_MOST 100000

/* --- files
 * ------------------------------------------------------------------------------------------------------ */

static int entry_by_name(const void *a, const void *b)
{
    const struct crl_entry *x = a, *y = b;
    int order = strcmp(x->t->name, y->t->name);

    return order ? order : x->shard < y->shard ? -1 : x->shard > y->shard;
}

struct crl_entry *crl_ckpt_find(const struct crl_ckpt *ck, const char *name)
{
    struct crl_st_tensor t = { .name = name };
    struct crl_entry key = { .t = &t }; /* the first shard */

    return bsearch(&key, ck->entry, ck->n_entry, sizeof key, entry_by_name);
}

static enum crl_status open_single(struct crl_ckpt *ck, const char *path, struct crl_err *err)
{
    enum crl_status st;

    ck->file = crl_alloc(1, sizeof *ck->file);
    if (!ck->file) return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    st = crl_st_open(&ck->file[0].st, path, err);
    if (st) return st;
    ck->n_file = 1;
    ck->n_entry = crl_st_count(ck->file[0].st);
    ck->entry = crl_alloc(ck->n_entry, sizeof *ck->entry);
    if (!ck->entry) return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    for (size_t i = 0; i < ck->n_entry; i++)
        ck->entry[i] =
            (struct crl_entry){ crl_st_at(ck->file[0].st, i), crl_st_in(ck->file[0].st), 0, false };
    qsort(ck->entry, ck->n_entry, sizeof *ck->entry, entry_by_name);
    return CRL_OK;
}

/* Shards lie beside their index: a name that leads elsewhere is a mistake or an attack. */
static bool plain_name(const char *name)
{
    return name[0] && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/') && !strchr(name, '\\');
}

/* Downloads in progress leave their name with something behind it. */
static const char *unfinished(const char *path)
{
    static const char *const ends[] = {
        ".incomplete", ".part", ".crdownload", ".aria2", ".tmp", ".download"
    };
    char name[4096];

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        if (crl_file_exists(name)) return ": its download is not complete";
    }
    return "";
}

static enum crl_status open_shard(struct crl_ckpt *ck, const char *name, size_t *cap,
                                  const struct crl_st **out, const char *index, struct crl_err *err)
{
    char *path = crl_path_join(ck->dir, name);
    void *list = ck->file;
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!path) return crl_fail(err, CRL_ENOMEM, "%s: no memory", index);
    for (size_t i = 0; i < ck->n_file && !*out; i++)
        if (strcmp(crl_st_path(ck->file[i].st), path) == 0) *out = ck->file[i].st;
    if (!*out) {
        if (!crl_file_exists(path))
            st =
                crl_fail(err, CRL_ENOENT, "%s names %s, which is not there%s", index, name, unfinished(path));
        if (!st) st = crl_grow(&list, cap, ck->n_file + 1, sizeof *ck->file, SHARDS_MOST, err);
        ck->file = list;
        if (!st) st = crl_st_open(&ck->file[ck->n_file].st, path, err);
        if (!st) *out = ck->file[ck->n_file++].st;
    }
    crl_free(path);
    return st;
}

static enum crl_status open_index(struct crl_ckpt *ck, const char *path, struct crl_err *err)
{
    size_t cap = 0;
    const struct crl_st *last = NULL;
    const char *name, *last_name = "";
    json_t *doc, *map, *value;
    enum crl_status st = crl_json_read(&doc, path, err);

    if (st) return st;
    map = json_object_get(doc, "weight_map");
    if (json_object_size(map) == 0)
        st = crl_fail(err, CRL_EFORMAT, "%s: weight_map is missing or empty", path);
    if (!st) {
        ck->entry = crl_alloc(json_object_size(map), sizeof *ck->entry);
        if (!ck->entry) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    }
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        const struct crl_st_tensor *t;
        if (st) break;
        if (!file || strlen(file) != json_string_length(value) || !plain_name(file)) {
            st = crl_fail(err, CRL_EFORMAT, "%s: tensor %s: \"%s\" is not the name of a file in this folder",
                          path, name, file ? file : "(not a string)");
            break;
        }
        if (strcmp(file, last_name)) st = open_shard(ck, file, &cap, &last, path, err);
        if (st) break;
        last_name = file;
        t = crl_st_find(last, name);
        if (!t) st = crl_fail(err, CRL_ENOENT, "%s: tensor %s is not in %s", path, name, crl_st_path(last));
        else ck->entry[ck->n_entry++] = (struct crl_entry){ t, crl_st_in(last), 0, false };
    }
    json_decref(doc);
    if (!st) qsort(ck->entry, ck->n_entry, sizeof *ck->entry, entry_by_name);
    return st;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static enum crl_status nothing_here(const struct crl_ckpt *ck, struct crl_err *err)
{
    char *one = crl_path_join(ck->dir, "model.safetensors");
    const char *why = one ? unfinished(one) : "";

    crl_free(one);
    return crl_fail(
        err, CRL_ENOENT,
        "%s: neither model.safetensors nor model.safetensors.index.json nor consolidated.00.pth is there%s",
        ck->dir, why);
}

/* consolidated.00.pth, .01 and so on: as many as there are. */
static enum crl_status open_pth(struct crl_ckpt *ck, struct crl_err *err)
{
    size_t cap = 0, cap_entry = 0, n = 0;
    enum crl_status st = CRL_OK;
    char name[40];

    while (!st) {
        void *list = ck->file, *entries = ck->entry;
        struct crl_pth *p;
        char *path;
        snprintf(name, sizeof name, "consolidated.%02zu.pth", n);
        path = crl_path_join(ck->dir, name);
        if (!path) return crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);
        if (!crl_file_exists(path)) {
            const char *why = unfinished(path);
            if (why[0]) st = crl_fail(err, CRL_ENOENT, "%s is not there%s", path, why);
            crl_free(path);
            break;
        }
        st = crl_grow(&list, &cap, ck->n_file + 1, sizeof *ck->file, 1024, err);
        ck->file = list;
        if (!st) st = crl_pth_open(&ck->file[ck->n_file].pth, path, err);
        crl_free(path);
        if (st) break;
        p = ck->file[ck->n_file++].pth;
        st = crl_grow(&entries, &cap_entry, ck->n_entry + crl_pth_count(p), sizeof *ck->entry,
                      (size_t)1 << 24, err);
        ck->entry = entries;
        for (size_t i = 0; i < crl_pth_count(p) && !st; i++)
            ck->entry[ck->n_entry++] =
                (struct crl_entry){ crl_pth_at(p, i), crl_pth_in(p), (unsigned)n, false };
        n++;
    }
    if (!st) qsort(ck->entry, ck->n_entry, sizeof *ck->entry, entry_by_name);
    return st;
}

/* A folder is searched as the library that wrote it does: the single file first. */
static enum crl_status open_files(struct crl_ckpt *ck, const char *path, bool is_dir, struct crl_err *err)
{
    char *one = is_dir ? crl_path_join(path, "model.safetensors") : crl_strdup(path);
    char *index = is_dir ? crl_path_join(path, "model.safetensors.index.json") : crl_strdup(path);
    enum crl_status st;

    if (ck->meta) st = open_pth(ck, err);
    else if (!one || !index) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    else if (ends_with(one, ".safetensors") && crl_file_exists(one)) st = open_single(ck, one, err);
    else if (ends_with(index, ".json") && crl_file_exists(index)) st = open_index(ck, index, err);
    else st = nothing_here(ck, err);
    crl_free(one);
    crl_free(index);
    return st;
}

static enum crl_status read_params(struct crl_ckpt *ck, struct crl_err *err)
{
    char *path = crl_path_join(ck->dir, "params.json"), *text = NULL;
    size_t len;
    enum crl_status st;

    if (!path) return crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);
    st = crl_file_read(&text, &len, path, JSON_MOST, err);
    if (!st) st = crl_meta_params(&ck->cfg, text, len, path, &ck->notes, err);
    crl_free(text);
    crl_free(path);
    return st;
}

static enum crl_status read_configs(struct crl_ckpt *ck, struct crl_err *err)
{
    char *path = crl_path_join(ck->dir, "config.json"),
         *gen = crl_path_join(ck->dir, "generation_config.json");
    char *text = NULL;
    size_t len;
    enum crl_status st;

    if (!path || !gen) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);
    else st = crl_file_read(&text, &len, path, JSON_MOST, err);
    if (!st) st = crl_hfconfig_parse(&ck->cfg, text, len, path, ck->quant, &ck->notes, err);
    crl_free(text);
    text = NULL;
    if (!st && crl_file_exists(gen)) {
        st = crl_file_read(&text, &len, gen, JSON_MOST, err);
        if (!st) st = crl_hfgeneration_parse(&ck->cfg, text, len, gen, err);
        crl_free(text);
    }
    crl_free(path);
    crl_free(gen);
    return st;
}

/* --- the object --------------------------------------------------------------------------------------- */

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash) return crl_strdup(".");
    return crl_memdup0(path, slash == path ? 1 : (size_t)(slash - path));
}

/* The mark that crl_ckpt_consume_begin left. */
#define MARK "weights-given-up"

static enum crl_status read_mark(struct crl_ckpt *ck, struct crl_err *err)
{
    char *path = crl_path_join(ck->dir, MARK);
    size_t len;
    enum crl_status st = CRL_OK;

    if (!path) return crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);
    if (crl_file_exists(path)) st = crl_file_read(&ck->consumed, &len, path, 65536, err);
    crl_free(path);
    return st;
}

/* Both layouts may lie in one folder: the one in Hugging Face layout is the one that was meant for others. */
static bool is_meta_folder(const char *dir)
{
    char *pth = crl_path_join(dir, "consolidated.00.pth"), *config = crl_path_join(dir, "config.json");
    bool meta = pth && config && crl_file_exists(pth) && !crl_file_exists(config);

    crl_free(pth);
    crl_free(config);
    return meta;
}

enum crl_status crl_ckpt_open(struct crl_ckpt **out, const char *path, struct crl_err *err)
{
    struct crl_ckpt *ck = crl_alloc(1, sizeof *ck);
    bool is_dir = crl_file_is_dir(path);
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!ck) return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    for (unsigned i = 0; i < 256; i++) ck->e4m3[i] = crl_e4m3_to_f32((uint8_t)i);
    ck->dir = is_dir ? crl_strdup(path) : folder_of(path);
    if (!ck->dir) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    if (!st && !is_dir && !crl_file_exists(path))
        st = crl_fail(err, CRL_ENOENT, "%s: no such file or folder", path);
    if (!st && !is_dir && !ends_with(path, ".safetensors") && !ends_with(path, ".index.json") &&
        !ends_with(path, ".pth"))
        st = crl_fail(err, CRL_EUNSUPPORTED,
                      "%s: neither a checkpoint folder nor a .safetensors or .pth file", path);
    if (!st) st = read_mark(ck, err);
    if (!st) ck->meta = is_dir ? is_meta_folder(ck->dir) : ends_with(path, ".pth");
    if (!st) st = ck->meta ? read_params(ck, err) : read_configs(ck, err);
    if (!st) st = open_files(ck, path, is_dir, err);
    if (!st) st = ck->meta ? crl_meta_bind(ck, err) : crl_ckpt_bind(ck, err);
    if (st) {
        crl_ckpt_close(ck);
        ck = NULL;
    }
    *out = ck;
    return st;
}

void crl_ckpt_close(struct crl_ckpt *ck)
{
    if (!ck) return;
    crl_free(ck->origin);
    crl_schema_free(ck->schema);
    crl_free(ck->entry);
    for (size_t i = 0; i < ck->n_file; i++) {
        crl_st_close(ck->file[i].st);
        crl_pth_close(ck->file[i].pth);
    }
    crl_free(ck->file);
    crl_free(ck->consumed);
    crl_free(ck->dir);
    crl_free(ck);
}

const char *crl_ckpt_dir(const struct crl_ckpt *ck)
{
    return ck->dir;
}

const struct crl_config *crl_ckpt_config(const struct crl_ckpt *ck)
{
    return &ck->cfg;
}

const struct crl_schema *crl_ckpt_schema(const struct crl_ckpt *ck)
{
    return ck->schema;
}

const struct crl_notes *crl_ckpt_notes(const struct crl_ckpt *ck)
{
    return &ck->notes;
}

void crl_ckpt_facts(const struct crl_ckpt *ck, struct crl_ckpt_facts *f)
{
    memset(f, 0, sizeof *f);
    f->n_file = ck->n_file;
    f->n_tensor = ck->n_entry;
    for (size_t i = 0; i < ck->n_entry; i++) {
        const struct crl_st_tensor *t = ck->entry[i].t;
        f->bytes += t->bytes;
        if (crl_ckpt_is_vision(t->name)) {
            f->n_vision++;
            f->vision_bytes += t->bytes;
        } else {
            f->type_bytes[t->type] += t->bytes;
        }
    }
}

const struct crl_st_tensor *crl_ckpt_tensor(const struct crl_ckpt *ck, size_t i, const char **file)
{
    if (file) *file = crl_in_path(ck->entry[i].in);
    return ck->entry[i].t;
}

const struct crl_st_tensor *crl_ckpt_origin(const struct crl_ckpt *ck, size_t weight, unsigned half,
                                            const char **file)
{
    const struct crl_part *p = &ck->origin[weight].part[half];

    if (file) *file = crl_in_path(p->e->in);
    return p->e->t;
}

/* --- identity ---------------------------------------------------------------------------------------- */

static const struct crl_in *file_in(const struct crl_ckpt *ck, size_t i)
{
    return ck->file[i].st ? crl_st_in(ck->file[i].st) : crl_pth_in(ck->file[i].pth);
}

enum crl_status crl_ckpt_check(const struct crl_ckpt *ck, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < ck->n_file && !st; i++) st = crl_in_check(file_in(ck, i), err);
    return st;
}

uint64_t crl_ckpt_identity(const struct crl_ckpt *ck)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < ck->n_file; i++) {
        unsigned char b[32];
        crl_put_le64(b, sum);
        crl_put_le64(b + 8, crl_in_size(file_in(ck, i)));
        crl_put_le64(b + 16, (uint64_t)crl_in_mtime(file_in(ck, i)));
        crl_put_le64(b + 24, ck->file[i].st ? crl_st_header_hash(ck->file[i].st)
                                            : crl_pth_header_hash(ck->file[i].pth));
        sum = crl_hash(b, sizeof b);
    }
    return sum;
}

/* --- giving it up ------------------------------------------------------------------------------------ */

const char *crl_ckpt_consumed(const struct crl_ckpt *ck)
{
    return ck->consumed;
}

static int entry_by_place(const void *a, const void *b)
{
    const struct crl_entry *x = a, *y = b;

    if (x->in != y->in) return x->in < y->in ? -1 : 1;
    return x->t->offset < y->t->offset ? -1 : x->t->offset > y->t->offset;
}

static enum crl_status check_apart(const struct crl_ckpt *ck, struct crl_err *err)
{
    struct crl_entry *e = crl_alloc(ck->n_entry, sizeof *e);
    enum crl_status st = CRL_OK;

    if (!e) return crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);
    memcpy(e, ck->entry, ck->n_entry * sizeof *e);
    qsort(e, ck->n_entry, sizeof *e, entry_by_place);
    for (size_t i = 1; i < ck->n_entry && !st; i++)
        if (e[i].in == e[i - 1].in && e[i].t->offset < e[i - 1].t->offset + e[i - 1].t->bytes)
            st = crl_fail(err, CRL_EUNSUPPORTED, "%s: tensors %s and %s share their bytes", crl_in_path(e[i].in),
                          e[i - 1].t->name, e[i].t->name);
    crl_free(e);
    return st;
}

enum crl_status crl_ckpt_consume_begin(struct crl_ckpt *ck, const char *target, struct crl_err *err)
{
    char *path = crl_path_join(ck->dir, MARK);
    enum crl_status st = path ? check_apart(ck, err) : crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);

    if (!st) st = crl_file_write(path, target, strlen(target), err);
    if (!st && !ck->consumed && !(ck->consumed = crl_strdup(target)))
        st = crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);
    crl_free(path);
    return st;
}

enum crl_status crl_ckpt_remove(struct crl_ckpt *ck, struct crl_err *err)
{
    char *mark = crl_path_join(ck->dir, MARK);
    enum crl_status st = mark ? CRL_OK : crl_fail(err, CRL_ENOMEM, "%s: no memory", ck->dir);

    for (size_t i = 0; i < ck->n_file && !st; i++)
        if (unlink(crl_in_path(file_in(ck, i))))
            st = crl_fail(err, CRL_EIO, "%s: %s", crl_in_path(file_in(ck, i)), strerror(errno));
    if (!st) unlink(mark);
    crl_free(mark);
    return st;
}
