/* safetensors.c - the strict reader. */
#include "convert/safetensors.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct crl_st {
    char *path;
    struct crl_in *in; /* NULL when the bytes are borrowed */
    uint64_t header_hash;
    size_t n;                       /* tensors */
    struct crl_st_tensor *tensor;   /* [n] by rising offset */
    struct crl_st_tensor **by_name; /* [n] */
    char *names;                    /* all names, each with its zero byte */
};

/* Bits per value of every type name in use, for the check of sizes; the sub-byte ones pack values tightly. */
static const struct type_row {
    const char *name;
    unsigned bits;
    enum crl_st_type type;
} types[] = {
    { "BF16", 16, CRL_ST_BF16 },
    { "F16", 16, CRL_ST_F16 },
    { "F32", 32, CRL_ST_F32 },
    { "F8_E4M3", 8, CRL_ST_F8_E4M3 },
    { "BOOL", 8, CRL_ST_OTHER },
    { "U8", 8, CRL_ST_OTHER },
    { "I8", 8, CRL_ST_I8 },
    { "F8_E5M2", 8, CRL_ST_OTHER },
    { "F8_E8M0", 8, CRL_ST_OTHER },
    { "F8_E4M3FNUZ", 8, CRL_ST_OTHER },
    { "F8_E5M2FNUZ", 8, CRL_ST_OTHER },
    { "I16", 16, CRL_ST_OTHER },
    { "U16", 16, CRL_ST_OTHER },
    { "I32", 32, CRL_ST_I32 },
    { "U32", 32, CRL_ST_OTHER },
    { "F64", 64, CRL_ST_OTHER },
    { "I64", 64, CRL_ST_I64 },
    { "U64", 64, CRL_ST_OTHER },
    { "C64", 64, CRL_ST_OTHER },
    { "F4", 4, CRL_ST_OTHER },
    { "F6_E2M3", 6, CRL_ST_OTHER },
    { "F6_E3M2", 6, CRL_ST_OTHER },
};

size_t crl_st_type_bytes(enum crl_st_type type)
{
    switch (type) {
    case CRL_ST_BF16:
    case CRL_ST_F16:
        return 2;
    case CRL_ST_F32:
    case CRL_ST_I32:
        return 4;
    case CRL_ST_I64:
        return 8;
    case CRL_ST_F8_E4M3:
    case CRL_ST_I8:
        return 1;
    case CRL_ST_OTHER:
    case CRL_ST_END:
        break;
    }
    return 0;
}

char *crl_st_shape_text(char *text, size_t size, size_t n_dim, const uint64_t *dim)
{
    size_t used = (size_t)snprintf(text, size, "["), shown = n_dim < CRL_ST_DIMS ? n_dim : CRL_ST_DIMS;

    for (size_t i = 0; i < shown && used < size; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%llu", i ? ", " : "", (unsigned long long)dim[i]);
    if (used < size) snprintf(text + used, size - used, n_dim > shown ? ", ...]" : "]");
    return text;
}

const char *crl_st_impostor(const void *start, size_t len)
{
    static const struct {
        const char *start, *what;
    } known[] = {
        { "version https://git-lfs", "a Git LFS pointer, not the weights: fetch them with `git lfs pull`" },
        { "# xet version", "a Xet pointer, not the weights: download the real file" },
        { "<!DOCTYPE", "a web page, not the weights" },
        { "<html", "a web page, not the weights" },
        { "PK\003\004", "a zip archive (PyTorch?), not a safetensors file" },
        { "\200\002", "a Python pickle, not a safetensors file" },
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t n = strlen(known[i].start);
        if (len >= n && memcmp(start, known[i].start, n) == 0) return known[i].what;
    }
    return NULL;
}

static enum crl_status read_shape(struct crl_st_tensor *t, const json_t *shape, uint64_t *count,
                                  const char *what, struct crl_err *err)
{
    bool zero = false;
    uint64_t n = 1;

    if (!json_is_array(shape))
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: shape is not a list", what, t->name);
    t->n_dim = json_array_size(shape);
    for (size_t i = 0; i < t->n_dim; i++) {
        const json_t *v = json_array_get(shape, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: dimension %zu is not a count", what, t->name,
                            i);
        if (i < CRL_ST_DIMS) t->dim[i] = (uint64_t)json_integer_value(v);
        zero |= json_integer_value(v) == 0;
    }
    for (size_t i = 0; i < t->n_dim && !zero; i++)
        if (!crl_mul_u64(n, (uint64_t)json_integer_value(json_array_get(shape, i)), &n))
            return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: shape has more than 2^64 values", what,
                            t->name);
    *count = zero ? 0 : n;
    return CRL_OK;
}

/* Bytes against shape and type. A type nobody has heard of has no size to hold it to, so it is refused at
 * once. */
static enum crl_status check_size(const struct crl_st_tensor *t, unsigned bits, uint64_t count,
                                  const char *what, struct crl_err *err)
{
    char shape[CRL_ST_SHAPE_TEXT];
    uint64_t n_bits = 0;

    if (!bits)
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: unknown type %s", what, t->name, t->type_name);
    if (crl_mul_u64(count, bits, &n_bits) && n_bits % 8 == 0 && n_bits / 8 == t->bytes) return CRL_OK;
    return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: %llu bytes, but %s %s needs another number", what,
                    t->name, (unsigned long long)t->bytes, t->type_name,
                    crl_st_shape_text(shape, sizeof shape, t->n_dim, t->dim));
}

static enum crl_status read_entry(struct crl_st_tensor *t, const json_t *entry, const unsigned char *data,
                                  uint64_t data_at, uint64_t data_bytes, const char *what,
                                  struct crl_err *err)
{
    const json_t *type = json_object_get(entry, "dtype"), *range = json_object_get(entry, "data_offsets");
    const json_t *lo = json_array_get(range, 0), *hi = json_array_get(range, 1);
    uint64_t count = 0, begin, end;
    unsigned bits = 0;
    enum crl_status st;

    if (!json_is_object(entry))
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: its entry is not an object", what, t->name);
    if (!json_is_string(type) || strlen(json_string_value(type)) != json_string_length(type))
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: dtype is missing or not a string", what, t->name);
    snprintf(t->type_name, sizeof t->type_name, "%s", json_string_value(type));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(json_string_value(type), types[i].name)) continue;
        t->type = types[i].type;
        bits = types[i].bits;
    }
    if (json_array_size(range) != 2 || !json_is_integer(lo) || !json_is_integer(hi) ||
        json_integer_value(lo) < 0 || json_integer_value(hi) < json_integer_value(lo))
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: data_offsets is not a rising pair", what, t->name);
    begin = (uint64_t)json_integer_value(lo);
    end = (uint64_t)json_integer_value(hi);
    st = read_shape(t, json_object_get(entry, "shape"), &count, what, err);
    if (st) return st;
    t->bytes = end - begin;
    st = check_size(t, bits, count, what, err);
    if (st) return st;
    if (end > data_bytes)
        return crl_fail(err, CRL_EFORMAT,
                        "%s: tensor %s ends at byte %llu of the data, the file has only %llu", what, t->name,
                        (unsigned long long)end, (unsigned long long)data_bytes);
    t->offset = data_at + begin;
    t->data = data && t->bytes ? data + begin : NULL;
    return CRL_OK;
}

static enum crl_status check_metadata(const json_t *meta, const char *what, struct crl_err *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(meta)) return crl_fail(err, CRL_EFORMAT, "%s: __metadata__ is not an object", what);
    json_object_foreach((json_t *)(uintptr_t)meta, key, value)
    {
        if (!json_is_string(value))
            return crl_fail(err, CRL_EFORMAT, "%s: __metadata__ entry %s is not a string", what, key);
    }
    return CRL_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct crl_st_tensor *x = a, *y = b;

    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty tensors first */
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    const struct crl_st_tensor *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* The sorted entries must follow each other from the first byte of the data to the last. */
static enum crl_status check_cover(const struct crl_st *s, uint64_t data_at, uint64_t data_bytes,
                                   const char *what, struct crl_err *err)
{
    uint64_t at = data_at;

    for (size_t i = 0; i < s->n; i++) {
        const struct crl_st_tensor *t = &s->tensor[i];
        if (t->offset < at)
            return crl_fail(err, CRL_EFORMAT, "%s: tensors %s and %s overlap", what, t[-1].name, t->name);
        if (t->offset > at)
            return crl_fail(err, CRL_EFORMAT, "%s: %llu bytes before tensor %s belong to no tensor", what,
                            (unsigned long long)(t->offset - at), t->name);
        at += t->bytes;
    }
    if (at != data_at + data_bytes)
        return crl_fail(err, CRL_EFORMAT, "%s: the last %llu bytes belong to no tensor", what,
                        (unsigned long long)(data_at + data_bytes - at));
    return CRL_OK;
}

static enum crl_status read_entries(struct crl_st *s, json_t *doc, const unsigned char *data,
                                    uint64_t data_at, uint64_t data_bytes, const char *what,
                                    struct crl_err *err)
{
    size_t names_bytes = 0, i = 0, used = 0;
    enum crl_status st = CRL_OK;
    const char *key;
    json_t *entry;

    json_object_foreach(doc, key, entry) names_bytes += strlen(key) + 1;
    s->tensor = crl_alloc(json_object_size(doc), sizeof *s->tensor);
    s->by_name = crl_alloc(json_object_size(doc), sizeof *s->by_name);
    s->names = crl_alloc(names_bytes, 1);
    if (!s->tensor || !s->by_name || !s->names)
        return crl_fail(err, CRL_ENOMEM, "%s: no memory for %zu entries", what, json_object_size(doc));
    json_object_foreach(doc, key, entry)
    {
        size_t len = strlen(key) + 1;
        if (strcmp(key, "__metadata__") == 0) {
            st = check_metadata(entry, what, err);
        } else {
            memcpy(s->names + used, key, len);
            s->tensor[i].name = s->names + used;
            used += len;
            st = read_entry(&s->tensor[i++], entry, data, data_at, data_bytes, what, err);
        }
        if (st) return st;
    }
    s->n = i;
    qsort(s->tensor, s->n, sizeof *s->tensor, by_offset);
    for (i = 0; i < s->n; i++) s->by_name[i] = &s->tensor[i];
    qsort(s->by_name, s->n, sizeof *s->by_name, by_name);
    return check_cover(s, data_at, data_bytes, what, err);
}

/* The length of the header: from the first bytes of the file, of which `have` are at p. */
static enum crl_status header_size(uint64_t *n, const unsigned char *p, size_t have, uint64_t size,
                                   const char *what, struct crl_err *err)
{
    const char *other = crl_st_impostor(p, have);

    if (other) return crl_fail(err, CRL_EFORMAT, "%s: this is %s", what, other);
    if (size < 8)
        return crl_fail(err, CRL_EFORMAT, "%s: %llu bytes are too few for a safetensors file", what,
                        (unsigned long long)size);
    *n = crl_le64(p);
    if (*n > CRL_ST_HEADER_MAX)
        return crl_fail(err, CRL_EFORMAT, "%s: header of %llu bytes, at most %u are allowed", what,
                        (unsigned long long)*n, CRL_ST_HEADER_MAX);
    if (*n > size - 8)
        return crl_fail(err, CRL_EFORMAT, "%s: header of %llu bytes in a file of %llu: truncated", what,
                        (unsigned long long)*n, (unsigned long long)size);
    if (*n == 0 || (have > 8 && p[8] != '{'))
        return crl_fail(err, CRL_EFORMAT, "%s: the header does not begin with {", what);
    return CRL_OK;
}

/* data: of all tensors, or NULL when they stay in the file. */
static enum crl_status read_header(struct crl_st *s, const char *text, uint64_t n, const unsigned char *data,
                                   uint64_t size, const char *what, struct crl_err *err)
{
    json_t *doc;
    enum crl_status st = crl_json_parse(&doc, text, (size_t)n, what, err);

    if (st) return st;
    s->header_hash = crl_hash(text, (size_t)n);
    if (!json_is_object(doc)) st = crl_fail(err, CRL_EFORMAT, "%s: the header is not an object", what);
    if (!st) st = read_entries(s, doc, data, 8 + n, size - 8 - n, what, err);
    json_decref(doc);
    return st;
}

static enum crl_status st_new(struct crl_st **out, const char *what, struct crl_err *err)
{
    struct crl_st *s = crl_alloc(1, sizeof *s);

    if (s) s->path = crl_strdup(what);
    if (s && s->path) {
        *out = s;
        return CRL_OK;
    }
    crl_st_close(s);
    return crl_fail(err, CRL_ENOMEM, "%s: no memory", what);
}

#define START 64 /* bytes that tell what a file is */

static enum crl_status read_file(struct crl_st *s, const char *path, struct crl_err *err)
{
    unsigned char start[START];
    uint64_t size, n = 0;
    char *text = NULL;
    size_t have;
    enum crl_status st = crl_in_open(&s->in, path, err);

    if (st) return st;
    size = crl_in_size(s->in);
    have = size < START ? (size_t)size : START;
    st = crl_in_read(s->in, 0, start, have, err);
    if (!st) st = header_size(&n, start, have, size, path, err);
    if (!st && !(text = crl_alloc((size_t)n, 1)))
        st = crl_fail(err, CRL_ENOMEM, "%s: no memory for a header of %llu bytes", path,
                      (unsigned long long)n);
    if (!st) st = crl_in_read(s->in, 8, text, (size_t)n, err);
    if (!st) st = read_header(s, text, n, NULL, size, path, err);
    crl_free(text);
    return st;
}

enum crl_status crl_st_open(struct crl_st **out, const char *path, struct crl_err *err)
{
    struct crl_st *s = NULL;
    enum crl_status st = st_new(&s, path, err);

    if (!st) st = read_file(s, path, err);
    if (st) {
        crl_st_close(s);
        s = NULL;
    }
    *out = s;
    return st;
}

enum crl_status crl_st_parse(struct crl_st **out, const void *data, uint64_t size, const char *what,
                             struct crl_err *err)
{
    const unsigned char *p = data;
    struct crl_st *s = NULL;
    uint64_t n = 0;
    enum crl_status st = st_new(&s, what, err);

    if (!st) st = header_size(&n, p, size < START ? (size_t)size : START, size, what, err);
    if (!st) st = read_header(s, (const char *)p + 8, n, p + 8 + n, size, what, err);
    if (st) {
        crl_st_close(s);
        s = NULL;
    }
    *out = s;
    return st;
}

void crl_st_close(struct crl_st *st)
{
    if (!st) return;
    crl_in_close(st->in);
    crl_free(st->names);
    crl_free(st->by_name);
    crl_free(st->tensor);
    crl_free(st->path);
    crl_free(st);
}

const char *crl_st_path(const struct crl_st *st)
{
    return st->path;
}

const struct crl_in *crl_st_in(const struct crl_st *st)
{
    return st->in;
}

uint64_t crl_st_header_hash(const struct crl_st *st)
{
    return st->header_hash;
}

size_t crl_st_count(const struct crl_st *st)
{
    return st->n;
}

const struct crl_st_tensor *crl_st_at(const struct crl_st *st, size_t i)
{
    return &st->tensor[i];
}

const struct crl_st_tensor *crl_st_find(const struct crl_st *st, const char *name)
{
    struct crl_st_tensor key = { .name = name }, *pkey = &key;
    struct crl_st_tensor **hit = bsearch(&pkey, st->by_name, st->n, sizeof *st->by_name, by_name);

    return hit ? *hit : NULL;
}
