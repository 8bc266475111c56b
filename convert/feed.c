/* feed.c - slots, readers, and those who wait. */
#include "convert/feed.h"

#include "base/mem.h"

#include <pthread.h>
#include <string.h>

#define READERS 2
#define SLOTS_MOST 4
#define SLOTS_LEAST 2
#define GOAL ((size_t)32 << 20) /* bytes of an ordinary stage */
#define GOAL_LEAST ((size_t)256 << 10)

struct step {
    struct crl_stage stage;
    uint64_t first, n; /* slabs */
};

struct slot {
    struct crl_region mem;
    uint64_t step; /* the stage it holds, or is being filled with */
    uint64_t left; /* slabs of it not given back yet; 0: free */
    bool ready;
};

struct crl_feed {
    const struct crl_ckpt *ck;
    const struct crl_slabs *slabs;
    size_t n;
    struct step *step; /* [n] in the order of slabs */
    unsigned n_slot, n_reader;
    struct slot slot[SLOTS_MOST];
    pthread_mutex_t lock;
    pthread_cond_t ready, room;
    pthread_t reader[READERS];
    size_t next; /* stage to be read next */
    bool stop;
    enum crl_status status; /* of the first failed read */
    struct crl_err err;
};

/* --- cutting ----------------------------------------------------------------------------------------- */

/* How many slabs from i on, of the same matrix, make a stage of at most `goal` bytes (one at least). */
static uint64_t run_length(struct crl_stage *s, const struct crl_ckpt *ck, const struct crl_slabs *slabs,
                           uint64_t i, size_t goal)
{
    struct crl_slab b = crl_slabs_at(slabs, i);
    uint64_t all = slabs->first[b.weight + 1] - i, lo = 1, hi = all;
    size_t each = b.n_panel, end = crl_n_panel(slabs->schema->weight[b.weight].n);

    while (lo < hi) { /* bytes grow with the run: the longest that fits */
        uint64_t mid = hi - (hi - lo) / 2;
        size_t panels = mid == all ? end - b.panel : (size_t)mid * each;
        crl_stage_plan(s, ck, b.weight, b.panel, panels);
        if (s->bytes <= goal) lo = mid;
        else hi = mid - 1;
    }
    crl_stage_plan(s, ck, b.weight, b.panel, lo == all ? end - b.panel : (size_t)lo * each);
    return lo;
}

/* Bytes of the largest stage, and their number, when each aims at `goal`. */
static size_t largest(const struct crl_ckpt *ck, const struct crl_slabs *slabs, size_t goal, size_t *n)
{
    struct crl_stage s;
    size_t most = 0;

    *n = 0;
    for (uint64_t i = 0; i < slabs->n; ++*n) {
        i += run_length(&s, ck, slabs, i, goal);
        if (s.bytes > most) most = s.bytes;
    }
    return most;
}

/* A stage that holds the largest expert whole. */
static size_t whole_expert(const struct crl_ckpt *ck, const struct crl_slabs *slabs)
{
    size_t most = GOAL;

    for (size_t i = 0; i < slabs->schema->n_weight; i++) {
        const struct crl_weight *w = &slabs->schema->weight[i];
        struct crl_stage s;
        if (w->expert < 0) continue;
        crl_stage_plan(&s, ck, i, 0, crl_n_panel(w->n));
        if (s.bytes > most) most = s.bytes;
    }
    return most;
}

void crl_feed_plan(struct crl_feed_plan *p, const struct crl_ckpt *ck, const struct crl_slabs *slabs,
                   uint64_t budget)
{
    size_t goal = whole_expert(ck, slabs), n;

    for (;; goal = goal / 2 > GOAL_LEAST ? goal / 2 : GOAL_LEAST) {
        p->goal = goal;
        p->most = crl_round_up(largest(ck, slabs, goal, &n), 4096);
        for (p->n_slot = SLOTS_MOST; p->n_slot > SLOTS_LEAST; p->n_slot--)
            if ((uint64_t)p->n_slot * p->most + n * sizeof(struct step) <= budget) break;
        p->bytes = (uint64_t)p->n_slot * p->most + n * sizeof(struct step);
        if (p->bytes <= budget || goal <= GOAL_LEAST) return;
    }
}

/* --- reading ----------------------------------------------------------------------------------------- */

static struct slot *free_slot(struct crl_feed *f)
{
    for (unsigned i = 0; i < f->n_slot; i++)
        if (f->slot[i].left == 0) return &f->slot[i];
    return NULL;
}

static void *read_ahead(void *arg)
{
    struct crl_feed *f = arg;

    pthread_mutex_lock(&f->lock);
    for (;;) {
        struct crl_err err = { "" };
        enum crl_status st;
        struct slot *s = NULL;
        while (!f->stop && !f->status && f->next < f->n && !(s = free_slot(f)))
            pthread_cond_wait(&f->room, &f->lock);
        if (f->stop || f->status || f->next == f->n) break;
        s->step = f->next++;
        s->left = f->step[s->step].n;
        s->ready = false;
        pthread_mutex_unlock(&f->lock);
        st = crl_stage_load(&f->step[s->step].stage, f->ck, s->mem.base, &err);
        pthread_mutex_lock(&f->lock);
        s->ready = !st;
        if (st && !f->status) {
            f->status = st;
            f->err = err;
        }
        pthread_cond_broadcast(&f->ready);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* --- the object -------------------------------------------------------------------------------------- */

static enum crl_status make_steps(struct crl_feed *f, const struct crl_feed_plan *plan, const bool *skip,
                                  struct crl_err *err)
{
    size_t n;

    largest(f->ck, f->slabs, plan->goal, &n);
    f->step = crl_alloc(n, sizeof *f->step);
    if (!f->step) return crl_fail(err, CRL_ENOMEM, "no memory for the list of work");
    for (uint64_t i = 0; i < f->slabs->n;) {
        struct step *s = &f->step[f->n];
        s->first = i;
        s->n = run_length(&s->stage, f->ck, f->slabs, i, plan->goal);
        i += s->n;
        f->n += !skip || !skip[f->slabs->schema->weight[s->stage.weight].extent];
    }
    return CRL_OK;
}

enum crl_status crl_feed_new(struct crl_feed **out, const struct crl_ckpt *ck, const struct crl_slabs *slabs,
                             const struct crl_feed_plan *plan, const bool *skip, struct crl_err *err)
{
    struct crl_feed *f = crl_alloc(1, sizeof *f);
    enum crl_status st;

    *out = NULL;
    if (!f) return crl_fail(err, CRL_ENOMEM, "no memory for reading ahead");
    f->ck = ck;
    f->slabs = slabs;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->ready, NULL);
    pthread_cond_init(&f->room, NULL);
    st = make_steps(f, plan, skip, err);
    for (; !st && f->n_slot < plan->n_slot; f->n_slot += !st)
        st = crl_region_new(&f->slot[f->n_slot].mem, plan->most, CRL_NODE_ANY, CRL_REGION_PLAIN, err);
    for (; !st && f->n_reader < READERS; f->n_reader += !st)
        if (pthread_create(&f->reader[f->n_reader], NULL, read_ahead, f))
            st = crl_fail(err, CRL_ENOMEM, "no thread for reading");
    if (st) {
        crl_feed_free(f);
        return st;
    }
    *out = f;
    return CRL_OK;
}

void crl_feed_stop(struct crl_feed *f)
{
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->ready);
    pthread_cond_broadcast(&f->room);
    pthread_mutex_unlock(&f->lock);
}

void crl_feed_free(struct crl_feed *f)
{
    if (!f) return;
    crl_feed_stop(f);
    for (unsigned i = 0; i < f->n_reader; i++) pthread_join(f->reader[i], NULL);
    for (unsigned i = 0; i < f->n_slot; i++) crl_region_free(&f->slot[i].mem);
    pthread_cond_destroy(&f->room);
    pthread_cond_destroy(&f->ready);
    pthread_mutex_destroy(&f->lock);
    crl_free(f->step);
    crl_free(f);
}

/* The slot with this slab's stage, if it has been read. */
static struct slot *holder(struct crl_feed *f, uint64_t slab)
{
    for (unsigned i = 0; i < f->n_slot; i++) {
        struct slot *s = &f->slot[i];
        const struct step *t = &f->step[s->step];
        if (s->left && s->ready && slab >= t->first && slab - t->first < t->n) return s;
    }
    return NULL;
}

enum crl_status crl_feed_rows(struct crl_feed *f, uint64_t slab, const struct crl_slab *b, float *rows,
                              struct crl_err *err)
{
    struct slot *s = NULL;
    enum crl_status st = CRL_OK;

    pthread_mutex_lock(&f->lock);
    while (!f->stop && !(s = holder(f, slab)) && !f->status) pthread_cond_wait(&f->ready, &f->lock);
    if (!s)
        st = f->status ? crl_fail(err, f->status, "%s", f->err.text) : crl_fail(err, CRL_EINTR, "stopped");
    pthread_mutex_unlock(&f->lock);
    if (st) return st;
    crl_stage_rows(&f->step[s->step].stage, f->ck, s->mem.base, b->panel, b->n_panel, rows);
    pthread_mutex_lock(&f->lock);
    if (--s->left == 0) pthread_cond_signal(&f->room);
    pthread_mutex_unlock(&f->lock);
    return CRL_OK;
}
