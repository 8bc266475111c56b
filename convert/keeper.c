/* keeper.c - the journal, and the thread that writes it. */
#include "convert/keeper.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "convert/stage.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define HEADER 24
#define MAGIC "CRLJRNL1"
#define ROW 32
#define REST_MOST 2.0 /* seconds between two syncs at most */

struct crl_keeper {
    struct crl_out *out;
    const struct crl_schema *schema;
    uint64_t end; /* bytes of the journal that stand */
    struct crl_crew *crew;
    struct crl_packer *packer;
    bool consume;
    struct crl_crew_record *sum; /* [n_weight] of the extents handed over */
    uint32_t *list;              /* [n_extent] extents in the order they came */
    size_t n;                    /* in the list */
    unsigned char *record;       /* room for the longest */
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t thread;
    bool running, stop;
    bool found; /* the journal was one to go on from */
    unsigned char header[HEADER];
};

static size_t record_bytes(uint32_t n)
{
    return 16 + (size_t)n * ROW + 8;
}

static void put_f64(unsigned char *p, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    crl_put_le64(p, bits);
}

static double get_f64(const unsigned char *p)
{
    uint64_t bits = crl_le64(p);
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* --- reading ----------------------------------------------------------------------------------------- */

static void take_record(const struct crl_schema *s, const unsigned char *p, bool *done, uint64_t *hash,
                        struct crl_crew_record *sum)
{
    uint32_t extent = crl_le32(p), n = crl_le32(p + 4);

    done[extent] = true;
    hash[extent] = crl_le64(p + 8);
    for (uint32_t i = 0; i < n; i++) {
        const unsigned char *row = p + 16 + i * ROW;
        sum[s->extent[extent].first + i] = (struct crl_crew_record){
            { get_f64(row), get_f64(row + 8), crl_f32_from_bits(crl_le32(row + 24)) }, crl_le64(row + 16)
        };
    }
}

/* Records up to the first that is not whole. */
static enum crl_status read_records(struct crl_keeper *k, uint64_t size, bool *done, uint64_t *hash,
                                    struct crl_crew_record *sum, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    while (size - k->end >= 16) {
        unsigned char *p = k->record;
        uint32_t extent, n;
        st = crl_out_read(k->out, k->end, p, 16, err);
        if (st) break;
        extent = crl_le32(p);
        n = crl_le32(p + 4);
        if (extent >= k->schema->n_extent || n != k->schema->extent[extent].n) break;
        if (size - k->end < record_bytes(n)) break;
        st = crl_out_read(k->out, k->end + 16, p + 16, record_bytes(n) - 16, err);
        if (st || crl_le64(p + record_bytes(n) - 8) != crl_hash(p, record_bytes(n) - 8)) break;
        take_record(k->schema, p, done, hash, sum);
        k->end += record_bytes(n);
    }
    return st;
}

static enum crl_status read_journal(struct crl_keeper *k, uint64_t identity, bool keep_old, bool *done,
                                    uint64_t *hash, struct crl_crew_record *sum, bool *found,
                                    struct crl_err *err)
{
    unsigned char head[HEADER], want[HEADER];
    uint64_t size = crl_out_size(k->out);
    enum crl_status st = CRL_OK;

    memcpy(want, MAGIC, 8);
    crl_put_le64(want + 8, identity);
    crl_put_le64(want + 16, crl_hash(want, 16));
    memcpy(k->header, want, HEADER);
    k->end = HEADER;
    if (keep_old && size >= HEADER) st = crl_out_read(k->out, 0, head, HEADER, err);
    *found = !st && keep_old && size >= HEADER && memcmp(head, want, HEADER) == 0;
    k->found = *found;
    return st || !*found ? st : read_records(k, size, done, hash, sum, err);
}

enum crl_status crl_keeper_open(struct crl_keeper **out, const char *path, uint64_t identity, bool keep_old,
                                const struct crl_schema *schema, bool *done, uint64_t *hash,
                                struct crl_crew_record *sum, bool *found, struct crl_err *err)
{
    struct crl_keeper *k = crl_alloc(1, sizeof *k);
    size_t len = strlen(path) + 16;
    char *name = crl_alloc(len, 1);
    uint32_t most = 0;
    enum crl_status st = CRL_OK;

    *out = NULL;
    for (size_t i = 0; i < schema->n_extent; i++)
        if (schema->extent[i].n > most) most = schema->extent[i].n;
    if (k) {
        pthread_mutex_init(&k->lock, NULL);
        pthread_cond_init(&k->more, NULL);
        k->schema = schema;
        k->sum = crl_alloc(schema->n_weight, sizeof *k->sum);
        k->list = crl_alloc(schema->n_extent, sizeof *k->list);
        k->record = crl_alloc(record_bytes(most), 1);
    }
    if (!k || !name || !k->sum || !k->list || !k->record)
        st = crl_fail(err, CRL_ENOMEM, "%s: no memory for a journal", path);
    if (!st) {
        snprintf(name, len, "%s.journal", path);
        st = crl_out_open_partial(&k->out, name, keep_old, err);
    }
    if (!st) st = read_journal(k, identity, keep_old, done, hash, sum, found, err);
    crl_free(name);
    if (st) {
        crl_keeper_close(k, true);
        k = NULL;
    }
    *out = k;
    return st;
}

/* --- writing ----------------------------------------------------------------------------------------- */

static enum crl_status write_record(struct crl_keeper *k, uint32_t extent, struct crl_err *err)
{
    const struct crl_extent *e = &k->schema->extent[extent];
    unsigned char *p = k->record;
    size_t len = record_bytes(e->n);
    enum crl_status st;

    memset(p, 0, len);
    crl_put_le32(p, extent);
    crl_put_le32(p + 4, e->n);
    crl_put_le64(p + 8, crl_packer_extent_hash(k->packer, extent));
    for (uint32_t i = 0; i < e->n; i++) {
        const struct crl_crew_record *r = &k->sum[e->first + i];
        unsigned char *row = p + 16 + i * ROW;
        put_f64(row, r->misfit.err2);
        put_f64(row + 8, r->misfit.ref2);
        crl_put_le64(row + 16, r->nonfinite);
        crl_put_le32(row + 24, crl_f32_bits(r->misfit.most));
    }
    crl_put_le64(p + len - 8, crl_hash(p, len - 8));
    st = crl_out_write(k->out, k->end, p, len, err);
    if (!st) k->end += len;
    return st;
}

static enum crl_status give_up_sources(struct crl_keeper *k, uint32_t extent, struct crl_err *err)
{
    const struct crl_extent *e = &k->schema->extent[extent];
    enum crl_status st = CRL_OK;

    for (uint32_t i = 0; i < e->n && !st; i++) st = crl_ckpt_consume(k->crew->ck, e->first + i, err);
    if (st != CRL_EUNSUPPORTED) return st;
    k->consume = false; /* the files go at the end instead */
    memset(err, 0, sizeof *err);
    return CRL_OK;
}

/* The extents list[from .. to) are complete in the partial file. */
static enum crl_status keep(struct crl_keeper *k, size_t from, size_t to, struct crl_err *err)
{
    enum crl_status st = crl_packer_sync(k->packer, err);

    for (size_t i = from; i < to && !st; i++) st = write_record(k, k->list[i], err);
    if (!st) st = crl_out_sync(k->out, err);
    for (size_t i = from; i < to && !st && k->consume; i++) st = give_up_sources(k, k->list[i], err);
    return st;
}

/* Rest as long as the last sync took, so that the disk is never busy with nothing but syncs. */
static void rest(struct crl_keeper *k, double seconds)
{
    struct timespec until;
    long ns;

    if (seconds > REST_MOST) seconds = REST_MOST;
    clock_gettime(CLOCK_REALTIME, &until);
    ns = until.tv_nsec + (long)((seconds - (double)(time_t)seconds) * 1e9);
    until.tv_sec += (time_t)seconds + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (!k->stop && pthread_cond_timedwait(&k->more, &k->lock, &until) == 0) continue;
}

static void *write_on(void *arg)
{
    struct crl_keeper *k = arg;
    enum crl_status st = CRL_OK;
    size_t kept = 0;

    pthread_mutex_lock(&k->lock);
    while (!st) {
        struct crl_err err = { "" };
        double start;
        size_t to;
        while (!k->stop && kept == k->n) pthread_cond_wait(&k->more, &k->lock);
        if (kept == k->n) break;
        to = k->n;
        pthread_mutex_unlock(&k->lock);
        start = crl_crew_now();
        st = keep(k, kept, to, &err);
        if (st) crl_crew_fail(k->crew, st, &err);
        kept = to;
        pthread_mutex_lock(&k->lock);
        if (!st) rest(k, crl_crew_now() - start);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

enum crl_status crl_keeper_start(struct crl_keeper *k, struct crl_crew *crew, struct crl_packer *packer,
                                 bool consume, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    k->crew = crew;
    k->packer = packer;
    k->consume = consume;
    if (!k->found) st = crl_out_resize(k->out, 0, err);
    if (!st && !k->found) st = crl_out_write(k->out, 0, k->header, HEADER, err);
    if (!st && !k->found && consume) st = crl_out_sync(k->out, err);
    if (st) return st;
    if (pthread_create(&k->thread, NULL, write_on, k))
        return crl_fail(err, CRL_ENOMEM, "no thread for the journal");
    k->running = true;
    return CRL_OK;
}

void crl_keeper_add(struct crl_keeper *k, size_t extent, const struct crl_crew_record *sum)
{
    const struct crl_extent *e = &k->schema->extent[extent];

    pthread_mutex_lock(&k->lock);
    memcpy(k->sum + e->first, sum, e->n * sizeof *sum);
    k->list[k->n++] = (uint32_t)extent;
    pthread_cond_signal(&k->more);
    pthread_mutex_unlock(&k->lock);
}

void crl_keeper_stop(struct crl_keeper *k)
{
    if (!k || !k->running) return;
    pthread_mutex_lock(&k->lock);
    k->stop = true;
    pthread_cond_signal(&k->more);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    k->running = false;
}

void crl_keeper_close(struct crl_keeper *k, bool keep_it)
{
    if (!k) return;
    crl_keeper_stop(k);
    if (keep_it && k->out) crl_out_keep(k->out);
    crl_out_close(k->out);
    crl_free(k->record);
    crl_free(k->list);
    crl_free(k->sum);
    pthread_cond_destroy(&k->more);
    pthread_mutex_destroy(&k->lock);
    crl_free(k);
}
