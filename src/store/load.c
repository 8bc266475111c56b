/* load.c - reading weights to their regions.
 *
 * Work comes in segments: a range of an extent that goes to one place. The segments of an extent form a chain, taken one
 * after the other, because its hash runs over all bytes in order; many extents are under way at once. Every node has a
 * queue of segments for its threads, who take from the others' queues only when their own is empty: the memory is bound,
 * so the bytes still land where they belong. Copies for further nodes are made from the first one when its hash is right.
 */
#define _GNU_SOURCE
#include "store/load.h"

#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((uint64_t)4096)
#define CHUNK_CACHED ((size_t)256 << 10) /* a piece that is still in the core's cache when it is hashed */
#define CHUNK_DIRECT ((size_t)4 << 20)   /* long enough that the disk has work while the processor looks */
#define LOOK ((size_t)1 << 20)           /* how often the page cache is asked, */
#define FAULTS_MANY 64                   /* of a pass over mapped weights */
#define SAMPLE 16                        /* and for how many pages: asking for each costs a tenth of the copy */

typedef unsigned long long ull; /* what printf wants for uint64_t */

struct crl_weights {
    struct crl_pack *pack;
    const struct crl_placement *plan;
    bool real;                 /* the regions are bound */
    struct crl_region *region; /* [plan->n_region]; NULL: the weights lie in the pack's own memory */
    unsigned *os_node;         /* [plan->n_node] the system's number of each node */
    int *os_region;            /* [plan->n_region] of the node that each is bound to, -1 for none */
    struct crl_load_stats stats;
    bool mapped;
    atomic_uchar *wanted;      /* [n_extent] of a mapped file: parts asked for, as bits modulo 8 */
    long major_faults;
};

/* --- binding ---------------------------------------------------------------------------------------------------- */

static const unsigned char *slice_memory(const struct crl_weights *w, const struct crl_slice *s)
{
    const struct crl_place *x = crl_pack_extent(w->pack, crl_pack_schema(w->pack)->weight[s->weight].extent);

    if (w->region) return w->region[s->region].base + s->at;
    return crl_pack_data(w->pack) + x->offset + s->offset;
}

static const struct crl_slice *first_slice(const struct crl_weights *w, size_t weight, unsigned copy)
{
    const struct crl_weight_place *p = &w->plan->weight[weight];
    const struct crl_slice *s = w->plan->slice + p->first_slice, *end = s + p->n_slice;

    while (s < end && s->copy != copy) s++;
    return s;
}

static void bind_slice(const struct crl_weights *w, const struct crl_slice *s, struct crl_mat *m)
{
    const struct crl_weight *x = &crl_pack_schema(w->pack)->weight[s->weight];
    enum crl_format f = crl_pack_format(w->pack, s->weight);
    const unsigned char *header = slice_memory(w, first_slice(w, s->weight, s->copy));
    uintptr_t panel = (uintptr_t)slice_memory(w, s); /* of the slice's first panel, or the header before panel 0 */

    if (s->panel_lo) panel -= s->panel_lo * crl_panel_bytes(f, x->k);
    else panel += crl_mat_header_bytes(f);
    crl_mat_bind_at(m, f, x->n, x->k, header, (const unsigned char *)panel, w->mapped && x->expert >= 0);
}

bool crl_weights_mat(const struct crl_weights *w, size_t weight, unsigned copy, unsigned node, struct crl_mat *m,
                     size_t *lo, size_t *hi)
{
    const struct crl_slice *s = crl_placement_slice(w->plan, weight, copy, node);

    memset(m, 0, sizeof *m);
    *lo = *hi = 0;
    if (!s) return false;
    bind_slice(w, s, m);
    *lo = s->panel_lo;
    *hi = s->panel_hi;
    return true;
}

void crl_weights_panel(const struct crl_weights *w, size_t weight, unsigned node, size_t panel, struct crl_mat *m)
{
    const struct crl_weight_place *p = &w->plan->weight[weight];
    unsigned copy = p->share == CRL_SHARE_EACH_NODE ? node : 0;
    const struct crl_slice *s = first_slice(w, weight, copy);

    while (panel >= s->panel_hi) s++;
    bind_slice(w, s, m);
}

/* --- chains ----------------------------------------------------------------------------------------------------- */

struct segment {
    uint64_t from, to; /* bytes of the extent */
    unsigned char *to_memory;
    uint16_t node;
    bool copy; /* made from what was read before */
};

struct chain {
    size_t first, n; /* segments: those to be read in order of the extent, then copies */
    size_t next;
    struct crl_hasher *hasher;
};

/* Extents that have a segment for this node, a ring; an extent is in one queue at a time. */
struct queue {
    size_t *extent; /* [n_extent] */
    size_t head, n;
};

struct load {
    struct crl_weights *w;
    const struct crl_load_options *o;
    struct segment *segment; /* [plan->n_slice] at most */
    struct chain *chain;     /* [n_extent] */
    size_t n_extent;
    struct queue *queue;     /* [n_queue] */
    unsigned n_queue;
    int fd, direct;          /* the file, buffered and past the page cache; -1: memory, not possible */
    pthread_mutex_t lock;    /* queues, left, status */
    pthread_cond_t more;
    size_t left;             /* extents that are not done */
    enum crl_status st;
    struct crl_err err;
    uint64_t total;
    atomic_uint_fast64_t done, done_direct;
    atomic_bool no_direct, no_nowait, stop;
};

/* A new segment, or a longer last one when the slice goes on where that ends, in the file and in memory. */
static void add_segment(struct load *l, struct chain *c, const struct crl_slice *s, bool copy)
{
    struct segment *last = c->n ? &l->segment[c->first + c->n - 1] : NULL;
    unsigned char *memory = (unsigned char *)(uintptr_t)slice_memory(l->w, s);

    if (!copy && last && last->to_memory + (s->offset - last->from) == memory) {
        last->to = s->offset + s->bytes;
        return;
    }
    if (!copy && last) last->to = s->offset; /* padding between matrices belongs to the one before: it is hashed too */
    l->segment[c->first + c->n++] = (struct segment){ s->offset, s->offset + s->bytes, memory, s->node, copy };
}

static void build_chain(struct load *l, size_t e, size_t first)
{
    const struct crl_extent *x = &crl_pack_schema(l->w->pack)->extent[e];
    struct chain *c = &l->chain[e];

    c->first = first;
    for (int copy = 0; copy < 2; copy++) {
        for (size_t i = x->first; i < (size_t)x->first + x->n; i++) {
            const struct crl_weight_place *p = &l->w->plan->weight[i];
            for (size_t j = p->first_slice; j < (size_t)p->first_slice + p->n_slice; j++) {
                const struct crl_slice *s = &l->w->plan->slice[j];
                if ((s->copy > 0) == copy) add_segment(l, c, s, copy);
            }
        }
        if (!copy) l->segment[c->first + c->n - 1].to = crl_pack_extent(l->w->pack, e)->size;
    }
}

static void push(struct queue *q, size_t most, size_t extent, bool front)
{
    if (front) q->head = (q->head + most - 1) % most;
    q->extent[front ? q->head : (q->head + q->n) % most] = extent;
    q->n++;
}

static unsigned queue_of(const struct load *l, size_t extent)
{
    const struct chain *c = &l->chain[extent];

    return l->segment[c->first + c->next].node % l->n_queue;
}

struct by_size {
    uint64_t size;
    size_t extent;
};

/* Longest first: a long chain begun late would be waited for. */
static int longer(const void *a, const void *b)
{
    const struct by_size *x = a, *y = b;

    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->extent < y->extent ? -1 : x->extent > y->extent;
}

static enum crl_status build(struct load *l, struct crl_err *err)
{
    struct by_size *order = crl_alloc(l->n_extent, sizeof *order);
    size_t first = 0;

    l->segment = crl_alloc(l->w->plan->n_slice, sizeof *l->segment);
    l->chain = crl_alloc(l->n_extent, sizeof *l->chain);
    l->queue = crl_alloc(l->n_queue, sizeof *l->queue);
    for (unsigned i = 0; l->queue && i < l->n_queue; i++) {
        l->queue[i].extent = crl_alloc(l->n_extent, sizeof *l->queue[i].extent);
        if (!l->queue[i].extent) first = SIZE_MAX;
    }
    if (!order || !l->segment || !l->chain || !l->queue || first) {
        crl_free(order);
        return crl_fail(err, CRL_ENOMEM, "%s: no memory to load %zu extents", crl_pack_name(l->w->pack), l->n_extent);
    }
    for (size_t e = 0; e < l->n_extent; e++) {
        build_chain(l, e, first);
        first += l->chain[e].n;
        order[e] = (struct by_size){ crl_pack_extent(l->w->pack, e)->size, e };
        l->total += order[e].size;
    }
    qsort(order, l->n_extent, sizeof *order, longer);
    for (size_t i = 0; i < l->n_extent; i++)
        push(&l->queue[queue_of(l, order[i].extent)], l->n_extent, order[i].extent, false);
    l->left = l->n_extent;
    crl_free(order);
    return CRL_OK;
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

static ssize_t read_some(struct load *l, int fd, unsigned char *to, size_t len, uint64_t offset)
{
    if (l->o->read) return (ssize_t)l->o->read(l->o->ctx, fd, to, len, offset);
    return pread(fd, to, len, (off_t)offset);
}

/* The page cache seems to hold what lies here: the first pages of it. Without the right to ask, the system says yes;
 * read_cached finds out. */
static bool is_cached(const struct load *l, uint64_t offset, uint64_t len)
{
    unsigned char page[SAMPLE];
    size_t n = len < SAMPLE * PAGE ? (size_t)(len / PAGE) : SAMPLE;

    if (l->direct < 0) return true; /* there is no other way */
    if (mincore((unsigned char *)(uintptr_t)crl_pack_data(l->w->pack) + offset, n * PAGE, page)) return false;
    for (size_t i = 0; i < n; i++)
        if (!(page[i] & 1)) return false;
    return true;
}

/* As much as the page cache holds, without waiting for the disk. */
static size_t read_cached(struct load *l, unsigned char *to, size_t len, uint64_t offset)
{
#ifdef RWF_NOWAIT
    struct iovec v = { to, len };
    ssize_t n;

    if (l->o->read || atomic_load_explicit(&l->no_nowait, memory_order_relaxed)) return 0;
    n = preadv2(l->fd, &v, 1, (off_t)offset, RWF_NOWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) atomic_store(&l->no_nowait, true);
    return n > 0 ? (size_t)n : 0;
#else
    (void)l, (void)to, (void)len, (void)offset;
    return 0;
#endif
}

static enum crl_status read_fails(const struct load *l, uint64_t offset, ssize_t n, struct crl_err *err)
{
    const char *name = crl_pack_name(l->w->pack);

    if (n < 0) return crl_fail(err, CRL_EIO, "%s: cannot read byte %llu: %s", name, (ull)offset, strerror(errno));
    return crl_fail(err, CRL_EIO, "%s: was cut off at byte %llu while being read, it had %llu", name, (ull)offset,
                    (ull)crl_pack_size(l->w->pack));
}

/* Whole blocks [offset, offset + len) to page aligned memory. */
static enum crl_status read_blocks(struct load *l, unsigned char *to, size_t len, uint64_t offset, bool cached,
                                   struct crl_err *err)
{
    bool direct = l->direct >= 0 && !atomic_load_explicit(&l->no_direct, memory_order_relaxed);
    size_t got = 0;

    if (direct && cached) {
        got = read_cached(l, to, len, offset);
        got -= got < len ? got % (size_t)PAGE : 0;
    }
    while (got < len) {
        ssize_t n = read_some(l, direct ? l->direct : l->fd, to + got, len - got, offset + got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && direct && (errno == EINVAL || errno == EOPNOTSUPP)) { /* this file system has other rules */
            atomic_store(&l->no_direct, true);
            direct = false;
            continue;
        }
        if (n <= 0) return read_fails(l, offset + got, n, err);
        if (direct) atomic_fetch_add(&l->done_direct, (uint64_t)n);
        got += (size_t)n;
        if (direct && got % (size_t)PAGE && got < len) direct = false; /* the rest of a block cannot be had directly */
    }
    return CRL_OK;
}

/* Bytes [from, to) of the extent from a pack in memory. */
static void copy_bytes(const struct load *l, size_t extent, const struct segment *s, uint64_t from, uint64_t to)
{
    memcpy(s->to_memory + (from - s->from), crl_pack_data(l->w->pack) + crl_pack_extent(l->w->pack, extent)->offset + from,
           (size_t)(to - from));
}

static bool go_on(struct load *l, const struct crl_member *me, uint64_t bytes)
{
    uint64_t done = atomic_fetch_add(&l->done, bytes) + bytes;

    if (me->id == 0 && l->o->progress && !l->o->progress(l->o->ctx, done, l->total)) atomic_store(&l->stop, true);
    return !atomic_load_explicit(&l->stop, memory_order_relaxed);
}

static enum crl_status read_segment(struct load *l, const struct crl_member *me, size_t extent, const struct segment *s,
                                    struct crl_hasher *h, struct crl_err *err)
{
    uint64_t start = crl_pack_extent(l->w->pack, extent)->offset, end = crl_round_up((size_t)s->to, (size_t)PAGE);
    enum crl_status st = CRL_OK;
    uint64_t asked = 0; /* what was found out holds up to here */
    bool cached = true;

    for (uint64_t at = s->from / PAGE * PAGE, next; !st && at < end; at = next) {
        uint64_t lo = at > s->from ? at : s->from, hi;
        size_t step;

        if (l->fd >= 0 && at >= asked) {
            cached = is_cached(l, start + at, end - at);
            asked = at + LOOK;
        }
        step = cached ? CHUNK_CACHED : CHUNK_DIRECT;
        next = end - at < step ? end : at + step;
        hi = next < s->to ? next : s->to;
        if (l->fd < 0) copy_bytes(l, extent, s, lo, hi);
        else st = read_blocks(l, s->to_memory - (s->from - at), (size_t)(next - at), start + at, cached, err);
        if (!st && h) crl_hasher_add(h, s->to_memory + (lo - s->from), (size_t)(hi - lo));
        if (!st && !go_on(l, me, hi - lo))
            st = crl_fail(err, CRL_EINTR, "%s: loading was stopped", crl_pack_name(l->w->pack));
    }
    return st;
}

/* From the segments of the chain that were read. */
static void copy_segment(const struct load *l, const struct chain *c, const struct segment *s)
{
    for (size_t i = c->first; i < c->first + c->n && !l->segment[i].copy; i++) {
        const struct segment *r = &l->segment[i];
        uint64_t lo = r->from > s->from ? r->from : s->from, hi = r->to < s->to ? r->to : s->to;
        if (lo < hi) memcpy(s->to_memory + (lo - s->from), r->to_memory + (lo - r->from), (size_t)(hi - lo));
    }
}

static enum crl_status check_hash(const struct load *l, size_t e, const struct crl_hasher *h, struct crl_err *err)
{
    const struct crl_pack *p = l->w->pack;
    const struct crl_place *x = crl_pack_extent(p, e);
    char name[CRL_NAME_MAX];

    if (crl_hasher_value(h) == x->hash) return CRL_OK;
    crl_weight_name(&crl_pack_schema(p)->weight[crl_pack_schema(p)->extent[e].first], name);
    return crl_fail(err, CRL_EFORMAT, "%s: extent %zu is damaged (wrong hash, bytes %llu to %llu, from %s)",
                    crl_pack_name(p), e, (ull)x->offset, (ull)(x->offset + x->size), name);
}

/* One segment of an extent, and the hash after the last one that is read. */
static enum crl_status do_segment(struct load *l, const struct crl_member *me, size_t e, struct crl_err *err)
{
    struct chain *c = &l->chain[e];
    const struct segment *s = &l->segment[c->first + c->next];
    bool last = c->next + 1 == c->n || s[1].copy;
    enum crl_status st;

    if (s->copy) {
        copy_segment(l, c, s);
        return CRL_OK;
    }
    if (!l->o->no_verify && !c->hasher && !(c->hasher = crl_hasher_new()))
        return crl_fail(err, CRL_ENOMEM, "%s: no memory for a hash", crl_pack_name(l->w->pack));
    st = read_segment(l, me, e, s, c->hasher, err);
    if (st || !last) return st;
    if (c->hasher) st = check_hash(l, e, c->hasher, err);
    crl_hasher_free(c->hasher);
    c->hasher = NULL;
    if (!st) crl_pack_drop(l->w->pack, e);
    return st;
}

/* The next extent for a thread of this queue; false when there will be none. Called with the lock held. */
static bool take(struct load *l, unsigned queue, size_t *extent)
{
    while (l->left && !l->st) {
        unsigned best = queue;
        for (unsigned i = 0; !l->queue[best].n && i < l->n_queue; i++)
            if (l->queue[i].n) best = i;
        if (l->queue[best].n) {
            struct queue *q = &l->queue[best];
            *extent = q->extent[q->head];
            q->head = (q->head + 1) % l->n_extent;
            q->n--;
            return true;
        }
        pthread_cond_wait(&l->more, &l->lock);
    }
    return false;
}

static void put_back(struct load *l, size_t e, enum crl_status st, const struct crl_err *err)
{
    struct chain *c = &l->chain[e];

    if (st && !l->st) {
        l->st = st;
        l->err = *err;
    }
    if (++c->next == c->n) l->left--;
    else if (!st) push(&l->queue[queue_of(l, e)], l->n_extent, e, true);
    pthread_cond_broadcast(&l->more);
}

static void load_member(const struct crl_member *me, void *ctx)
{
    struct load *l = ctx;
    size_t e;

    pthread_mutex_lock(&l->lock);
    while (take(l, me->node % l->n_queue, &e)) {
        struct crl_err err = { "" };
        enum crl_status st;

        pthread_mutex_unlock(&l->lock);
        st = do_segment(l, me, e, &err);
        pthread_mutex_lock(&l->lock);
        put_back(l, e, st, &err);
    }
    pthread_mutex_unlock(&l->lock);
}

/* --- regions ---------------------------------------------------------------------------------------------------- */

static void note(struct crl_load_stats *s, const char *text, const char *why)
{
    if (s->n_note < sizeof s->note / sizeof *s->note)
        snprintf(s->note[s->n_note++], sizeof s->note[0], "%s%.300s", text, why);
}

/* The pool of huge pages has room for the whole region on its node. */
static bool pool_has(const struct crl_topo *t, const struct crl_region_plan *r)
{
    if (!t->real || r->topo_node < 0) return false;
    for (unsigned i = 0; i < t->node[r->topo_node].n_huge; i++) {
        const struct crl_huge_pool *p = &t->node[r->topo_node].huge[i];
        if (p->page_bytes == (uint64_t)2 << 20) return p->free > r->bytes / p->page_bytes;
    }
    return false;
}

static enum crl_status map_region(struct crl_weights *w, const struct crl_topo *t, unsigned i, struct crl_err *err)
{
    const struct crl_region_plan *r = &w->plan->region[i];
    int node = t->real && w->os_region[i] >= 0 ? w->os_region[i] : CRL_NODE_ANY;
    unsigned flags = CRL_HUGE_TRY | (pool_has(t, r) ? CRL_HUGE_POOL : 0);
    struct crl_err why = { "" };
    enum crl_status st = crl_region_new(&w->region[i], (size_t)r->bytes, node, flags, &why);

    if (!st && t->real && r->interleave) {
        st = crl_bind_interleave(w->region[i].base, w->region[i].size, w->os_node, w->plan->n_node, &why);
        if (st) crl_region_free(&w->region[i]);
    }
    if (st == CRL_EUNSUPPORTED || st == CRL_ERANGE) { /* a container that forbids it, or a node we may not use */
        if (w->real) note(&w->stats, "weights are not bound to nodes: ", why.text);
        w->real = false;
        memset(&why, 0, sizeof why);
        st = crl_region_new(&w->region[i], (size_t)r->bytes, CRL_NODE_ANY, flags & CRL_HUGE_TRY, &why);
    }
    if (st)
        return crl_fail(err, st, "%s: no memory for %llu bytes of weights: %s", crl_pack_name(w->pack), (ull)r->bytes,
                        why.text);
    w->stats.region_bytes += w->region[i].size;
    return CRL_OK;
}

static enum crl_status map_regions(struct crl_weights *w, const struct crl_topo *t, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    w->region = crl_alloc(w->plan->n_region, sizeof *w->region);
    if (!w->region) return crl_fail(err, CRL_ENOMEM, "%s: no memory", crl_pack_name(w->pack));
    w->real = t->real;
    for (unsigned i = 0; !st && i < w->plan->n_region; i++) st = map_region(w, t, i, err);
    return st;
}

/* --- loading ---------------------------------------------------------------------------------------------------- */

/* The same file without the page cache in between; -1 where the file system has no such thing. */
static int open_direct(int fd)
{
#ifdef O_DIRECT
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
#else
    (void)fd;
    return -1;
#endif
}

static void end_load(struct load *l)
{
    for (size_t e = 0; l->chain && e < l->n_extent; e++) crl_hasher_free(l->chain[e].hasher);
    for (unsigned i = 0; l->queue && i < l->n_queue; i++) crl_free(l->queue[i].extent);
    if (l->direct >= 0) close(l->direct);
    crl_free(l->queue);
    crl_free(l->chain);
    crl_free(l->segment);
    pthread_cond_destroy(&l->more);
    pthread_mutex_destroy(&l->lock);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum crl_status load(struct crl_weights *w, struct crl_team *team, const struct crl_load_options *o,
                            struct crl_err *err)
{
    struct load l = { .w = w, .o = o, .direct = -1 };
    double start = seconds();
    enum crl_status st;

    l.n_extent = crl_pack_schema(w->pack)->n_extent;
    l.n_queue = crl_team_nodes(team);
    l.fd = crl_pack_fd(w->pack);
    if (l.fd >= 0 && !o->buffered) l.direct = open_direct(l.fd);
    pthread_mutex_init(&l.lock, NULL);
    pthread_cond_init(&l.more, NULL);
    st = build(&l, err);
    if (!st) {
        crl_team_run(team, load_member, &l);
        st = l.st ? crl_fail(err, l.st, "%s", l.err.text) : CRL_OK;
    }
    w->stats.bytes = atomic_load(&l.done);
    w->stats.direct_bytes = atomic_load(&l.done_direct);
    w->stats.seconds = seconds() - start;
    w->stats.verified = !o->no_verify;
    if (l.fd >= 0 && !o->buffered && (l.direct < 0 || atomic_load(&l.no_direct)))
        note(&w->stats, "the file system has no direct reads: the weights went through the page cache", "");
    end_load(&l);
    return st;
}

/* --- a file that stays mapped ----------------------------------------------------------------------------------- */

static void advise(const struct crl_pack *p, const struct crl_place *x, uint64_t from, uint64_t to, int advice)
{
    madvise((unsigned char *)(uintptr_t)crl_pack_data(p) + x->offset + from, (size_t)(to - from), advice);
}

enum use { EVERY_TOKEN, SOME_ROWS, WHEN_CHOSEN };

/* How much of an extent a token reads. */
static enum use use_of(const struct crl_pack *p, size_t e)
{
    const struct crl_schema *s = crl_pack_schema(p);
    const struct crl_weight *w = &s->weight[s->extent[e].first];

    if (w->expert >= 0) return WHEN_CHOSEN;
    return w->kind == CRL_KIND_EMBED && !s->cfg.tied ? SOME_ROWS : EVERY_TOKEN;
}

static void want_always(const struct crl_weights *w)
{
    for (size_t e = 0; e < crl_pack_schema(w->pack)->n_extent; e++) {
        const struct crl_place *x = crl_pack_extent(w->pack, e);
        if (use_of(w->pack, e) == EVERY_TOKEN) advise(w->pack, x, 0, x->size, MADV_WILLNEED);
    }
}

static long count_major_faults(void)
{
    struct rusage u;

    return getrusage(RUSAGE_SELF, &u) ? 0 : u.ru_majflt;
}

/* The system must not read beyond what is touched: behind a matrix that every token needs lies an expert that may not be,
 * and readahead does not stop at its edge. So there is none; what is needed is asked for by name. */
static enum crl_status stay_mapped(struct crl_weights *w, struct crl_err *err)
{
    size_t n = crl_pack_schema(w->pack)->n_extent;

    w->mapped = true;
    w->wanted = crl_alloc(n, sizeof *w->wanted);
    if (!w->wanted) return crl_fail(err, CRL_ENOMEM, "%s: no memory", crl_pack_name(w->pack));
    for (size_t e = 0; e < n; e++) {
        const struct crl_place *x = crl_pack_extent(w->pack, e);
        advise(w->pack, x, 0, x->size, MADV_RANDOM);
    }
    want_always(w);
    w->major_faults = count_major_faults();
    return CRL_OK;
}

void crl_weights_want(const struct crl_weights *w, size_t weight, unsigned part, unsigned of)
{
    size_t e = crl_pack_schema(w->pack)->weight[weight].extent;
    const struct crl_place *x = crl_pack_extent(w->pack, e);
    uint64_t pages = x->size / PAGE;
    unsigned char bit = (unsigned char)(1u << part % 8);

    if (!w->mapped || (of <= 8 && atomic_load_explicit(&w->wanted[e], memory_order_relaxed) & bit)) return;
    atomic_fetch_or(&w->wanted[e], bit);
    advise(w->pack, x, pages * part / of * PAGE, pages * (part + 1) / of * PAGE, MADV_WILLNEED);
}

/* Pages read one by one are a hundred times slower than those asked for, so a few of them are reason enough. */
void crl_weights_tick(struct crl_weights *w)
{
    long now;

    if (!w->mapped) return;
    now = count_major_faults();
    if (now - w->major_faults > FAULTS_MANY) {
        for (size_t e = 0; e < crl_pack_schema(w->pack)->n_extent; e++) atomic_store(&w->wanted[e], 0);
        want_always(w);
    }
    w->major_faults = now;
}

/* --- all of it -------------------------------------------------------------------------------------------------- */

enum crl_status crl_weights_load(struct crl_weights **out, struct crl_pack *pack, const struct crl_placement *plan,
                                 const struct crl_topo *topo, struct crl_team *team,
                                 const struct crl_load_options *options, struct crl_err *err)
{
    static const struct crl_load_options defaults;
    const struct crl_load_options *o = options ? options : &defaults;
    struct crl_weights *w = crl_alloc(1, sizeof *w);
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (w) w->os_node = crl_alloc(plan->n_node, sizeof *w->os_node);
    if (w) w->os_region = crl_alloc(plan->n_region, sizeof *w->os_region);
    if (!w || !w->os_node || !w->os_region) {
        crl_weights_free(w);
        return crl_fail(err, CRL_ENOMEM, "%s: no memory for weights", crl_pack_name(pack));
    }
    w->pack = pack;
    w->plan = plan;
    for (unsigned i = 0; i < plan->n_node; i++) w->os_node[i] = topo->node[plan->node[i].topo_node].os;
    for (unsigned i = 0; i < plan->n_region; i++)
        w->os_region[i] = plan->region[i].topo_node < 0 ? -1 : (int)topo->node[plan->region[i].topo_node].os;
    if (o->mapped && crl_pack_fd(pack) >= 0) st = stay_mapped(w, err);
    else if (crl_pack_fd(pack) >= 0 || plan->mode != CRL_NUMA_OFF) {
        st = map_regions(w, topo, err);
        if (!st) st = load(w, team, o, err);
    }
    if (st) {
        crl_weights_free(w);
        return st;
    }
    *out = w;
    return CRL_OK;
}

void crl_weights_free(struct crl_weights *w)
{
    if (!w) return;
    for (unsigned i = 0; w->region && i < w->plan->n_region; i++) crl_region_free(&w->region[i]);
    crl_free(w->region);
    crl_free(w->os_node);
    crl_free(w->os_region);
    crl_free(w->wanted);
    crl_free(w);
}

const struct crl_load_stats *crl_weights_stats(const struct crl_weights *w)
{
    return &w->stats;
}

const struct crl_placement *crl_weights_plan(const struct crl_weights *w)
{
    return w->plan;
}

const struct crl_pack *crl_weights_pack(const struct crl_weights *w)
{
    return w->pack;
}

bool crl_weights_mapped(const struct crl_weights *w)
{
    return w->mapped;
}

/* --- where they are --------------------------------------------------------------------------------------------- */

/* Of bytes [at, at + bytes), in pages that begin at multiples of PAGE, for a slice. */
static enum crl_status add_range(const struct crl_weights *w, const struct crl_slice *s, const unsigned char *at,
                                 uint64_t bytes, struct crl_where *where, struct crl_err *err)
{
    uint64_t count[CRL_NODE_MAX], elsewhere, absent, local = 0, all = 0;
    enum crl_status st = crl_memory_where(at, (size_t)bytes, count, CRL_NODE_MAX, &elsewhere, &absent, err);

    if (st) return st;
    for (unsigned i = 0; i < CRL_NODE_MAX; i++) all += count[i];
    if (w->os_region[s->region] < 0)
        for (unsigned i = 0; i < w->plan->n_node; i++) local += count[w->os_node[i]];
    else local = count[w->os_region[s->region]];
    where[s->node].local += local;
    where[s->node].remote += all - local + elsewhere;
    where[s->node].absent += absent;
    return CRL_OK;
}

/* Slices begin and end within pages, and only their own bytes of those count: where a page is, is asked by its start. */
static enum crl_status add_where(const struct crl_weights *w, const struct crl_slice *s, struct crl_where *where,
                                 struct crl_err *err)
{
    const unsigned char *at = slice_memory(w, s), *page = at - (uintptr_t)at % PAGE;
    uint64_t first = at == page ? 0 : PAGE - (uint64_t)(at - page);
    enum crl_status st = CRL_OK;

    if (first > s->bytes) first = s->bytes;
    if (first) st = add_range(w, s, page, first, where, err);
    if (!st && s->bytes > first) st = add_range(w, s, at + first, s->bytes - first, where, err);
    return st;
}

enum crl_status crl_weights_where(const struct crl_weights *w, struct crl_where *where, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    memset(where, 0, w->plan->n_node * sizeof *where);
    if (!w->region) return crl_fail(err, CRL_EUNSUPPORTED, "the weights were not placed");
    for (size_t i = 0; !st && i < w->plan->n_slice; i++) st = add_where(w, &w->plan->slice[i], where, err);
    return st;
}
