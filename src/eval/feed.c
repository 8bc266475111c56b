/* feed.c - filling passes from several sessions. */
#include "eval/feed.h"

#include "base/mem.h"

#include <string.h>

enum crl_status crl_lanes_new(struct crl_lane **lanes, size_t n, struct crl_engine *engine, size_t n_ctx,
                              struct crl_err *err)
{
    struct crl_lane *l = crl_alloc(n, sizeof *l);
    enum crl_status st = l ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for %zu sessions", n);

    for (size_t i = 0; i < n && !st; i++) st = crl_session_new(&l[i].session, engine, n_ctx, err);
    if (st) {
        if (l) crl_lanes_free(l, n);
        return st;
    }
    *lanes = l;
    return CRL_OK;
}

void crl_lanes_free(struct crl_lane *lanes, size_t n)
{
    if (!lanes) return;
    for (size_t i = 0; i < n; i++) {
        crl_session_free(lanes[i].session);
        crl_ids_fini(&lanes[i].held);
        crl_free(lanes[i].hash);
    }
    crl_free(lanes);
}

static void empty(struct crl_lane *l)
{
    crl_session_truncate(l->session, 0, NULL); /* the start of a chunk: always possible */
    l->held.n = 0;
}

static uint64_t hash_at(const struct crl_feed *f, size_t i)
{
    return i < f->sight.n ? f->sight.hash[i] : 0;
}

/* Keep what the session and the request share, at most up to `from`; where the cache cannot go back there,
 * nothing. */
static void rewind_to(struct crl_feed *f)
{
    struct crl_lane *l = f->lane;
    size_t n = 0, most = l->held.n < f->from ? l->held.n : f->from;

    while (n < most && l->held.v[n] == f->ids[n] && l->hash[n] == hash_at(f, n)) n++;
    if (n < l->held.n && crl_session_truncate(l->session, n, NULL)) n = 0;
    if (n == 0) empty(l);
    l->held.n = f->at = n;
}

/* A pass on its way: which request the rows belong to. */
struct pass {
    const struct crl_feed *feed;
    struct crl_piece *piece; /* [n] */
    size_t *request;         /* [n] of the piece */
    size_t *start;           /* [n] the piece's first token within its request */
    size_t *first_row;       /* [n] of the pass */
    size_t n, n_tok, n_row;
    crl_feed_fn *row;
    void *ctx;
    size_t vocab;
};

static void take(void *ctx, const struct crl_member *me, size_t first, float *logits, size_t stride, size_t n)
{
    const struct pass *p = ctx;
    size_t lo, hi, k = 0;

    crl_team_range(me, n, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        size_t row = first + i;
        while (k + 1 < p->n && p->first_row[k + 1] <= row) k++;
        p->row(p->ctx, p->request[k], p->start[k] + p->piece[k].from + (row - p->first_row[k]),
               logits + i * stride, p->vocab);
    }
}

/* As many pieces as one pass takes, requests in turn. No piece reaches over the end of what is seen. */
static void plan(struct pass *p, const struct crl_engine *engine, struct crl_feed *f, size_t n)
{
    size_t left = crl_engine_batch_max(engine);

    p->n = p->n_tok = p->n_row = 0;
    for (size_t i = 0; i < n && left; i++) {
        size_t take_n = f[i].n - f[i].at, room = crl_session_room(f[i].lane->session);
        bool seen = f[i].at < f[i].sight.n;
        if (take_n > room) take_n = room;
        if (seen && take_n > f[i].sight.n - f[i].at) take_n = f[i].sight.n - f[i].at;
        if (take_n > left) take_n = left;
        if (!take_n) continue;
        p->piece[p->n] = (struct crl_piece){ f[i].lane->session, f[i].ids + f[i].at, take_n,
                                             f[i].from <= f[i].at           ? 0
                                             : f[i].from < f[i].at + take_n ? f[i].from - f[i].at
                                                                            : take_n,
                                             seen ? f[i].sight.rows + f[i].at : NULL };
        p->request[p->n] = i;
        p->start[p->n] = f[i].at;
        p->first_row[p->n] = p->n_row;
        p->n_row += take_n - p->piece[p->n].from;
        p->n_tok += take_n;
        left -= take_n;
        p->n++;
    }
}

static enum crl_status note_fed(const struct pass *p, struct crl_feed *f, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < p->n; i++) {
        struct crl_feed *one = &f[p->request[i]];
        struct crl_lane *l = one->lane;
        st = st ? st
                : crl_grow((void **)&l->hash, &l->cap_hash, l->held.n + p->piece[i].n, sizeof *l->hash,
                           (size_t)1 << 32, err);
        for (size_t t = 0; t < p->piece[i].n && !st; t++) {
            l->hash[l->held.n] = hash_at(one, one->at + t);
            st = crl_ids_add(&l->held, p->piece[i].ids[t], err);
        }
        one->at += p->piece[i].n;
        one->lane->n_fed += p->piece[i].n;
    }
    return st;
}

enum crl_status crl_feed_run(struct crl_engine *engine, struct crl_feed *f, size_t n, crl_feed_fn *row,
                             void *ctx, struct crl_err *err)
{
    struct pass p = { .feed = f, .row = row, .ctx = ctx };
    struct crl_engine_info info;
    enum crl_status st = CRL_OK;

    crl_engine_info(engine, &info);
    p.vocab = info.vocab;
    p.piece = crl_alloc(n, sizeof *p.piece);
    p.request = crl_alloc(n, sizeof *p.request);
    p.start = crl_alloc(n, sizeof *p.start);
    p.first_row = crl_alloc(n, sizeof *p.first_row);
    if (!p.piece || !p.request || !p.start || !p.first_row)
        st = crl_fail(err, CRL_ENOMEM, "no memory for a pass");
    for (size_t i = 0; i < n && !st; i++) {
        rewind_to(&f[i]);
        if (f[i].n - f[i].at > crl_session_left(f[i].lane->session))
            st = crl_fail(err, CRL_EFULL, "%zu tokens do not fit into a context of %zu", f[i].n,
                          f[i].at + crl_session_left(f[i].lane->session));
    }
    while (!st) {
        plan(&p, engine, f, n);
        if (!p.n) break;
        st = crl_engine_pass(engine, p.piece, p.n, take, &p, err);
        if (!st) st = note_fed(&p, f, err);
    }
    for (size_t i = 0; st && i < n; i++) empty(f[i].lane);
    crl_free(p.piece);
    crl_free(p.request);
    crl_free(p.start);
    crl_free(p.first_row);
    return st;
}
