/* pth.c - archive and table of tensors put together. */
#include "convert/pth.h"

#include "base/mem.h"
#include "convert/pickle.h"
#include "convert/zip.h"

#include <stdio.h>
#include <string.h>

struct crl_pth {
    struct crl_in *in; /* NULL when the bytes are borrowed */
    struct crl_zip *zip;
    struct crl_pickle *pickle;
    size_t n;
    struct crl_st_tensor *tensor; /* [n] */
};

typedef unsigned long long ull;

#define TABLE "data.pkl"

/* The entry FOLDER/data.pkl; its folder is the archive's own name. */
static const struct crl_zip_entry *find_table(const struct crl_zip *z, size_t *folder)
{
    for (size_t i = 0; i < crl_zip_count(z); i++) {
        const struct crl_zip_entry *e = crl_zip_at(z, i);
        const char *slash = strchr(e->name, '/');
        if (!slash || strcmp(slash + 1, TABLE)) continue;
        *folder = (size_t)(slash - e->name);
        return e;
    }
    return NULL;
}

static enum crl_status check_order(const struct crl_zip *z, const struct crl_bytes *from, const char *folder,
                                   size_t n, const char *what, struct crl_err *err)
{
    char name[300], text[6];
    const struct crl_zip_entry *e;
    enum crl_status st;

    snprintf(name, sizeof name, "%.*s/byteorder", (int)n, folder);
    e = crl_zip_find(z, name);
    if (!e) return CRL_OK; /* older writers do not say; they wrote on little-endian machines */
    if (e->size != sizeof text) return crl_fail(err, CRL_EUNSUPPORTED, "%s: not little-endian", what);
    st = crl_bytes_read(from, e->offset, text, sizeof text, err);
    if (!st && memcmp(text, "little", sizeof text))
        st = crl_fail(err, CRL_EUNSUPPORTED, "%s: not little-endian", what);
    return st;
}

/* Where a tensor of the table lies in the archive. */
static enum crl_status place(struct crl_st_tensor *t, const struct crl_pickle_tensor *p,
                             const struct crl_zip *z, const char *folder, size_t n, const char *what,
                             struct crl_err *err)
{
    size_t size = crl_st_type_bytes(p->type);
    uint64_t count = 1, room;
    const struct crl_zip_entry *e;
    char name[600];

    snprintf(name, sizeof name, "%.*s/data/%s", (int)n, folder, p->storage);
    e = crl_zip_find(z, name);
    if (!e)
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: its data (%s) are not there", what, p->name, name);
    t->name = p->name;
    t->type = p->type;
    snprintf(t->type_name, sizeof t->type_name, "%s", p->type_name);
    t->n_dim = p->n_dim;
    memcpy(t->dim, p->dim, sizeof t->dim);
    for (size_t i = 0; i < p->n_dim; i++)
        if (!crl_mul_u64(count, p->dim[i], &count))
            return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: its shape has more than 2^64 values", what,
                            p->name);
    if (!size) size = 1; /* never read */
    room = e->size / size;
    if (p->offset > room || count > room - p->offset)
        return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: %llu values from value %llu on, its data have %llu",
                        what, p->name, (ull)count, (ull)p->offset, (ull)room);
    t->bytes = count * size;
    t->offset = e->offset + p->offset * size;
    return CRL_OK;
}

static enum crl_status read_table(struct crl_pth *h, const struct crl_bytes *from, const char *what,
                                  struct crl_err *err)
{
    const struct crl_zip_entry *table;
    unsigned char *data;
    size_t folder = 0;
    enum crl_status st;

    table = find_table(h->zip, &folder);
    if (!table) return crl_fail(err, CRL_EFORMAT, "%s: no table of tensors (%s) in it", what, TABLE);
    if (folder > 200) return crl_fail(err, CRL_EFORMAT, "%s: a name of %zu bytes", what, folder);
    if (table->size > CRL_PICKLE_MAX)
        return crl_fail(err, CRL_EFORMAT, "%s: a table of %llu bytes, at most %zu are allowed", what,
                        (ull)table->size, CRL_PICKLE_MAX);
    st = check_order(h->zip, from, table->name, folder, what, err);
    if (st) return st;
    data = crl_alloc((size_t)table->size, 1);
    if (!data) return crl_fail(err, CRL_ENOMEM, "%s: no memory", what);
    st = crl_bytes_read(from, table->offset, data, (size_t)table->size, err);
    if (!st) st = crl_pickle_parse(&h->pickle, data, (size_t)table->size, what, err);
    crl_free(data);
    if (st) return st;
    h->n = crl_pickle_count(h->pickle);
    h->tensor = crl_alloc(h->n, sizeof *h->tensor);
    if (!h->tensor) return crl_fail(err, CRL_ENOMEM, "%s: no memory", what);
    for (size_t i = 0; i < h->n && !st; i++)
        st = place(&h->tensor[i], crl_pickle_at(h->pickle, i), h->zip, table->name, folder, what, err);
    return st;
}

static enum crl_status read_all(struct crl_pth *h, const struct crl_bytes *from, const char *what,
                                struct crl_err *err)
{
    unsigned char start[64];
    size_t n = from->size < sizeof start ? (size_t)from->size : sizeof start;
    enum crl_status st = crl_bytes_read(from, 0, start, n, err);
    const char *other = st ? NULL : crl_st_impostor(start, n);

    if (!st && other && memcmp(start, "PK", 2))
        st = crl_fail(err, CRL_EFORMAT, "%s: this is %s", what, other);
    if (!st) st = crl_zip_open(&h->zip, from, what, err);
    return st ? st : read_table(h, from, what, err);
}

enum crl_status crl_pth_open(struct crl_pth **out, const char *path, struct crl_err *err)
{
    struct crl_pth *h = crl_alloc(1, sizeof *h);
    struct crl_bytes from = { 0 };
    enum crl_status st =
        h ? crl_in_open(&h->in, path, err) : crl_fail(err, CRL_ENOMEM, "%s: no memory", path);

    if (!st) {
        from.in = h->in;
        from.size = crl_in_size(h->in);
        st = read_all(h, &from, path, err);
    }
    if (st) {
        crl_pth_close(h);
        h = NULL;
    }
    *out = h;
    return st;
}

enum crl_status crl_pth_parse(struct crl_pth **out, const void *data, uint64_t size, const char *what,
                              struct crl_err *err)
{
    struct crl_pth *h = crl_alloc(1, sizeof *h);
    struct crl_bytes from = { NULL, data, size };
    enum crl_status st = h ? read_all(h, &from, what, err) : crl_fail(err, CRL_ENOMEM, "%s: no memory", what);

    if (st) {
        crl_pth_close(h);
        h = NULL;
    }
    *out = h;
    return st;
}

void crl_pth_close(struct crl_pth *h)
{
    if (!h) return;
    crl_free(h->tensor);
    crl_pickle_free(h->pickle);
    crl_zip_close(h->zip);
    crl_in_close(h->in);
    crl_free(h);
}

const struct crl_in *crl_pth_in(const struct crl_pth *h)
{
    return h->in;
}

uint64_t crl_pth_header_hash(const struct crl_pth *h)
{
    return crl_zip_directory_hash(h->zip);
}

size_t crl_pth_count(const struct crl_pth *h)
{
    return h->n;
}

const struct crl_st_tensor *crl_pth_at(const struct crl_pth *h, size_t i)
{
    return &h->tensor[i];
}
