/* zip.c - end record, central directory, local headers. */
#include "convert/zip.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define END_SIZE 22 /* the end record without its comment */
#define END64_SIZE 56
#define LOCATOR_SIZE 20
#define CENTRAL_SIZE 46
#define LOCAL_SIZE 30
#define COMMENT_MOST 65535

typedef unsigned long long ull; /* what printf wants for uint64_t */

struct crl_zip {
    size_t n;
    struct crl_zip_entry *entry; /* [n] by name */
    char *names;
    uint64_t hash;
};

/* Where the central directory is. */
struct ends {
    uint64_t n, size, offset;
};

enum crl_status crl_bytes_read(const struct crl_bytes *b, uint64_t offset, void *data, size_t len,
                               struct crl_err *err)
{
    if (b->in) return crl_in_read(b->in, offset, data, len, err);
    memcpy(data, b->data + offset, len);
    return CRL_OK;
}

/* The zip64 record, when the plain one says that its fields are too small. */
static enum crl_status read_end64(struct ends *e, const struct crl_bytes *from, uint64_t end_at,
                                  const char *what, struct crl_err *err)
{
    unsigned char loc[LOCATOR_SIZE], rec[END64_SIZE];
    uint64_t at;
    enum crl_status st;

    if (end_at < LOCATOR_SIZE) return crl_fail(err, CRL_EFORMAT, "%s: its zip64 record is missing", what);
    st = crl_bytes_read(from, end_at - LOCATOR_SIZE, loc, sizeof loc, err);
    if (st) return st;
    at = crl_le64(loc + 8);
    if (crl_le32(loc) != 0x07064b50 || crl_le32(loc + 4) || crl_le32(loc + 16) > 1)
        return crl_fail(err, CRL_EFORMAT, "%s: its zip64 record is missing", what);
    if (at > end_at || end_at - at < END64_SIZE)
        return crl_fail(err, CRL_EFORMAT, "%s: its zip64 record lies beyond its end", what);
    st = crl_bytes_read(from, at, rec, sizeof rec, err);
    if (st) return st;
    if (crl_le32(rec) != 0x06064b50 || crl_le32(rec + 16) || crl_le32(rec + 20) ||
        crl_le64(rec + 24) != crl_le64(rec + 32))
        return crl_fail(err, CRL_EFORMAT, "%s: its zip64 record is damaged", what);
    e->n = crl_le64(rec + 32);
    e->size = crl_le64(rec + 40);
    e->offset = crl_le64(rec + 48);
    return CRL_OK;
}

/* The end record is the last thing in the file but for a comment. */
static enum crl_status read_end(struct ends *e, const struct crl_bytes *from, const char *what,
                                struct crl_err *err)
{
    size_t len = from->size < END_SIZE + COMMENT_MOST ? (size_t)from->size : END_SIZE + COMMENT_MOST, at;
    unsigned char *tail;
    uint64_t end_at;
    enum crl_status st;

    if (from->size < END_SIZE)
        return crl_fail(err, CRL_EFORMAT, "%s: %llu bytes are too few for a zip archive", what,
                        (ull)from->size);
    tail = crl_alloc(len, 1);
    if (!tail) return crl_fail(err, CRL_ENOMEM, "%s: no memory", what);
    st = crl_bytes_read(from, from->size - len, tail, len, err);
    for (at = len - END_SIZE; !st; at--) {
        const unsigned char *p = tail + at;
        if (crl_le32(p) == 0x06054b50 && crl_le16(p + 20) == len - END_SIZE - at) break;
        if (at == 0)
            st =
                crl_fail(err, CRL_EFORMAT, "%s: no directory at its end: truncated, or no zip archive", what);
    }
    if (!st) {
        const unsigned char *p = tail + at;
        end_at = from->size - len + at;
        e->n = crl_le16(p + 10);
        e->size = crl_le32(p + 12);
        e->offset = crl_le32(p + 16);
        if (crl_le16(p + 4) || crl_le16(p + 6) || crl_le16(p + 8) != crl_le16(p + 10))
            st = crl_fail(err, CRL_EFORMAT, "%s: an archive over several files", what);
        else if (e->n == 0xffff || e->size == 0xffffffff || e->offset == 0xffffffff)
            st = read_end64(e, from, end_at, what, err);
        if (!st && (e->offset > end_at || e->size > end_at - e->offset))
            st = crl_fail(err, CRL_EFORMAT, "%s: its directory lies beyond its end", what);
    }
    crl_free(tail);
    return st;
}

/* The zip64 extra field holds, in this order, those of the three numbers whose plain field is all ones. */
static bool read_extra(const unsigned char *p, size_t len, uint64_t *size, uint64_t *packed, uint64_t *offset)
{
    bool need = *size == 0xffffffff || *packed == 0xffffffff || *offset == 0xffffffff;

    while (need && len >= 4) {
        size_t n = crl_le16(p + 2), at = 0;
        uint64_t *field[3] = { size, packed, offset };
        if (n > len - 4) return false;
        if (crl_le16(p) != 1) {
            p += 4 + n;
            len -= 4 + n;
            continue;
        }
        for (int i = 0; i < 3; i++) {
            if (*field[i] != 0xffffffff) continue;
            if (n - at < 8) return false;
            *field[i] = crl_le64(p + 4 + at);
            at += 8;
        }
        return true;
    }
    return !need;
}

/* e->offset becomes that of the data. */
static enum crl_status read_local(struct crl_zip_entry *e, const struct crl_bytes *from, uint64_t limit,
                                  const char *what, struct crl_err *err)
{
    unsigned char p[LOCAL_SIZE];
    size_t len = strlen(e->name), extra;
    char *name;
    enum crl_status st;

    if (e->offset > limit || limit - e->offset < LOCAL_SIZE)
        return crl_fail(err, CRL_EFORMAT, "%s: entry %s lies beyond the data", what, e->name);
    st = crl_bytes_read(from, e->offset, p, sizeof p, err);
    if (st) return st;
    extra = crl_le16(p + 28);
    if (crl_le32(p) != 0x04034b50 || crl_le16(p + 8) != 0 || crl_le16(p + 26) != len)
        return crl_fail(err, CRL_EFORMAT, "%s: entry %s: its header is not that of the directory", what,
                        e->name);
    e->offset += LOCAL_SIZE;
    if (len + extra > limit - e->offset || e->size > limit - e->offset - len - extra)
        return crl_fail(err, CRL_EFORMAT, "%s: entry %s of %llu bytes reaches beyond the data: truncated",
                        what, e->name, (ull)e->size);
    name = crl_alloc(len + 1, 1);
    if (!name) return crl_fail(err, CRL_ENOMEM, "%s: no memory", what);
    st = crl_bytes_read(from, e->offset, name, len, err);
    if (!st && memcmp(name, e->name, len))
        st = crl_fail(err, CRL_EFORMAT, "%s: entry %s: its header is not that of the directory", what,
                      e->name);
    crl_free(name);
    e->offset += len + extra;
    return st;
}

static int by_offset(const void *a, const void *b)
{
    const struct crl_zip_entry *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct crl_zip_entry *)a)->name, ((const struct crl_zip_entry *)b)->name);
}

/* Neither bytes nor a name twice. */
static enum crl_status check_entries(struct crl_zip *z, const char *what, struct crl_err *err)
{
    qsort(z->entry, z->n, sizeof *z->entry, by_offset);
    for (size_t i = 1; i < z->n; i++)
        if (z->entry[i].offset < z->entry[i - 1].offset + z->entry[i - 1].size ||
            (z->entry[i].offset == z->entry[i - 1].offset && z->entry[i].size))
            return crl_fail(err, CRL_EFORMAT, "%s: entries %s and %s overlap", what, z->entry[i - 1].name,
                            z->entry[i].name);
    qsort(z->entry, z->n, sizeof *z->entry, by_name);
    for (size_t i = 1; i < z->n; i++)
        if (strcmp(z->entry[i].name, z->entry[i - 1].name) == 0)
            return crl_fail(err, CRL_EFORMAT, "%s: two entries are called %s", what, z->entry[i].name);
    return CRL_OK;
}

static enum crl_status read_entry(struct crl_zip_entry *e, const unsigned char *p, const char *name,
                                  const struct crl_bytes *from, uint64_t limit, const char *what,
                                  struct crl_err *err)
{
    size_t n_name = crl_le16(p + 28), n_extra = crl_le16(p + 30);
    uint64_t packed = crl_le32(p + 20);

    e->name = name;
    e->size = crl_le32(p + 24);
    e->offset = crl_le32(p + 42);
    if (crl_le16(p + 10) != 0)
        return crl_fail(err, CRL_EFORMAT, "%s: entry %s is compressed; torch stores tensors as they are",
                        what, name);
    if (crl_le16(p + 8) & 1) return crl_fail(err, CRL_EFORMAT, "%s: entry %s is encrypted", what, name);
    if (crl_le16(p + 34) != 0 ||
        !read_extra(p + CENTRAL_SIZE + n_name, n_extra, &e->size, &packed, &e->offset) || packed != e->size)
        return crl_fail(err, CRL_EFORMAT, "%s: entry %s: its sizes do not agree", what, name);
    return read_local(e, from, limit, what, err);
}

static enum crl_status read_directory(struct crl_zip *z, const struct ends *e, const unsigned char *dir,
                                      const struct crl_bytes *from, const char *what, struct crl_err *err)
{
    size_t at = 0, used = 0;
    enum crl_status st = CRL_OK;

    for (z->n = 0; z->n < e->n && !st; z->n++) {
        const unsigned char *p = dir + at;
        size_t left = (size_t)e->size - at, n_name, rest;
        if (left < CENTRAL_SIZE || crl_le32(p) != 0x02014b50)
            return crl_fail(err, CRL_EFORMAT, "%s: entry %zu of its directory is damaged", what, z->n);
        n_name = crl_le16(p + 28);
        rest = n_name + crl_le16(p + 30) + crl_le16(p + 32);
        if (rest > left - CENTRAL_SIZE || memchr(p + CENTRAL_SIZE, 0, n_name))
            return crl_fail(err, CRL_EFORMAT, "%s: entry %zu of its directory is damaged", what, z->n);
        memcpy(z->names + used, p + CENTRAL_SIZE, n_name);
        st = read_entry(&z->entry[z->n], p, z->names + used, from, e->offset, what, err);
        used += n_name + 1;
        at += CENTRAL_SIZE + rest;
    }
    return st ? st : check_entries(z, what, err);
}

enum crl_status crl_zip_open(struct crl_zip **out, const struct crl_bytes *from, const char *what,
                             struct crl_err *err)
{
    struct crl_zip *z = NULL;
    unsigned char *dir = NULL;
    struct ends e = { 0 };
    enum crl_status st = read_end(&e, from, what, err);

    *out = NULL;
    if (!st && (e.size > CRL_ZIP_DIRECTORY_MAX || e.n > e.size / CENTRAL_SIZE))
        st = crl_fail(err, CRL_EFORMAT, "%s: a directory of %llu bytes for %llu entries", what, (ull)e.size,
                      (ull)e.n);
    if (!st) {
        z = crl_alloc(1, sizeof *z);
        dir = crl_alloc((size_t)e.size, 1);
        if (z) z->entry = crl_alloc((size_t)e.n, sizeof *z->entry);
        if (z)
            z->names = crl_alloc((size_t)e.size + 1, 1); /* each with its zero byte: less than the records */
        if (!z || !dir || !z->entry || !z->names) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", what);
    }
    if (!st) st = crl_bytes_read(from, e.offset, dir, (size_t)e.size, err);
    if (!st) st = read_directory(z, &e, dir, from, what, err);
    if (!st) z->hash = crl_hash(dir, (size_t)e.size);
    crl_free(dir);
    if (st) {
        crl_zip_close(z);
        z = NULL;
    }
    *out = z;
    return st;
}

void crl_zip_close(struct crl_zip *z)
{
    if (!z) return;
    crl_free(z->entry);
    crl_free(z->names);
    crl_free(z);
}

size_t crl_zip_count(const struct crl_zip *z)
{
    return z->n;
}

const struct crl_zip_entry *crl_zip_at(const struct crl_zip *z, size_t i)
{
    return &z->entry[i];
}

const struct crl_zip_entry *crl_zip_find(const struct crl_zip *z, const char *name)
{
    struct crl_zip_entry key = { .name = name };

    return bsearch(&key, z->entry, z->n, sizeof key, by_name);
}

uint64_t crl_zip_directory_hash(const struct crl_zip *z)
{
    return z->hash;
}
