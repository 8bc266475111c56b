/* sweep.c - filling passes with windows, handing out rows. */
#include "eval/sweep.h"

#include "base/mem.h"

#include <string.h>

#define SESSIONS 16 /* windows that may share a pass */

struct slot {
    struct crl_session *session;
    int32_t *ids; /* [longest] */
};

/* The rows of a piece that is in the running pass. */
struct share {
    const struct crl_window *window;
    size_t at;   /* position of the window where the piece begins */
    size_t from; /* first position of the piece with a row */
    size_t n;    /* positions */
    size_t row;  /* of the pass */
    size_t tok;  /* of the pass */
};

struct work {
    const struct crl_sweep *s;
    struct slot slot[SESSIONS];
    struct crl_piece piece[SESSIONS];
    struct share share[SESSIONS];
    size_t n_piece;
    size_t first_row; /* of the corpus, of this pass */
    size_t n_row, n_tok;
    size_t vocab;
    uint32_t n_moe, used;
    const uint8_t *is_moe;
    uint32_t moe_at;   /* layers with experts before the one that is reported next */
    uint16_t *expert;  /* [n_moe][batch_max][used] as reported */
    uint16_t *route;   /* [batch_max][n_moe][used] per row */
};

uint32_t crl_moe_layers(const struct crl_engine *engine)
{
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    uint32_t n = 0;

    for (uint32_t l = 0; l < cfg->n_layer; l++) n += cfg->is_moe[l];
    return n;
}

/* --- rows -------------------------------------------------------------------------------------------------------- */

/* Layers come in order; those without experts report nothing that counts. */
static void on_routes(void *ctx, uint32_t layer, const uint32_t *expert, size_t n_tok)
{
    struct work *w = ctx;
    uint16_t *to = w->expert + w->moe_at * w->n_tok * w->used;

    if (!w->is_moe[layer]) return;
    for (size_t i = 0; i < n_tok * w->used; i++) to[i] = (uint16_t)expert[i];
    w->moe_at++;
}

/* Which piece a row of the pass belongs to. */
static const struct share *share_of(const struct work *w, size_t row)
{
    const struct share *p = &w->share[w->n_piece - 1];

    while (row < p->row) p--;
    return p;
}

static void gather_route(struct work *w, size_t row, size_t tok)
{
    for (size_t l = 0; l < w->n_moe; l++)
        memcpy(w->route + (row * w->n_moe + l) * w->used, w->expert + (l * w->n_tok + tok) * w->used,
               w->used * sizeof *w->route);
}

static void on_logits(void *ctx, const struct crl_member *me, size_t first, float *logits, size_t stride, size_t n)
{
    struct work *w = ctx;
    size_t lo, hi;

    crl_team_range(me, n, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        const struct share *p = share_of(w, first + i);
        size_t j = p->from + (first + i - p->row);
        struct crl_scored row = { w->first_row + first + i, 0, logits + i * stride, w->vocab, NULL };

        row.target = crl_window_target(w->s->corpus, p->window, j);
        if (w->s->want_routes) {
            gather_route(w, first + i, p->tok + (j - p->at));
            row.route = w->route + (first + i) * w->n_moe * w->used;
        }
        w->s->row(w->s->ctx, me->id, &row);
    }
}

/* --- passes ------------------------------------------------------------------------------------------------------ */

static void finish(struct work *w)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        crl_session_free(w->slot[i].session);
        crl_free(w->slot[i].ids);
    }
    crl_free(w->expert);
    crl_free(w->route);
}

static enum crl_status begin(struct work *w, const struct crl_sweep *s, struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(s->engine));
    size_t n = s->windows->n < SESSIONS ? s->windows->n : SESSIONS, longest = s->windows->longest, n_route;
    enum crl_status st = CRL_OK;

    memset(w, 0, sizeof *w);
    w->s = s;
    w->vocab = cfg->vocab;
    w->is_moe = cfg->is_moe;
    w->n_moe = crl_moe_layers(s->engine);
    w->used = cfg->n_expert_used;
    if (longest > cfg->n_ctx)
        return crl_fail(err, CRL_ERANGE, "a window of %zu positions does not fit into the model's context of %u",
                        longest, cfg->n_ctx);
    if (cfg->n_expert > UINT16_MAX) return crl_fail(err, CRL_EUNSUPPORTED, "%u experts", cfg->n_expert);
    for (size_t i = 0; !st && i < n; i++) {
        st = crl_session_new(&w->slot[i].session, s->engine, longest, err);
        w->slot[i].ids = crl_alloc(longest, sizeof *w->slot[i].ids);
        if (!st && !w->slot[i].ids) st = crl_fail(err, CRL_ENOMEM, "no memory for the ids of a window");
    }
    if (st || !s->want_routes) return st;
    if (crl_mul_size(crl_engine_batch_max(s->engine), (size_t)w->n_moe * w->used, &n_route)) {
        w->expert = crl_alloc(n_route, sizeof *w->expert);
        w->route = crl_alloc(n_route, sizeof *w->route);
    }
    return w->expert && w->route ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for the routes of a pass");
}

/* Put the next positions of a window into the pass; how many. */
static size_t take_piece(struct work *w, size_t window, size_t at, size_t left)
{
    const struct crl_window *win = &w->s->windows->v[window];
    struct slot *slot = &w->slot[window % SESSIONS];
    size_t room, n = win->n - at;

    if (!at) {
        (void)crl_session_truncate(slot->session, 0, NULL); /* the start of the text is always a chunk's */
        crl_window_ids(w->s->corpus, win, slot->ids);
    }
    room = crl_session_room(slot->session);
    if (n > room) n = room;
    if (n > left) n = left;
    w->share[w->n_piece] =
        (struct share){ win, at, at > win->skip ? at : win->skip < at + n ? win->skip : at + n, n, w->n_row, w->n_tok };
    w->piece[w->n_piece] = (struct crl_piece){ slot->session, slot->ids + at, n,
                                               w->s->row ? w->share[w->n_piece].from - at : n, NULL };
    w->n_row += at + n - w->share[w->n_piece].from;
    w->n_tok += n;
    w->n_piece++;
    return n;
}

/* A pass from position *at of window *next on, and past it: windows that end in this pass make room for others. */
static void fill(struct work *w, size_t *next, size_t *at)
{
    size_t most = crl_engine_batch_max(w->s->engine);

    w->n_piece = w->n_row = w->n_tok = 0;
    w->moe_at = 0;
    while (*next < w->s->windows->n && w->n_piece < SESSIONS && w->n_tok < most) {
        *at += take_piece(w, *next, *at, most - w->n_tok);
        if (*at < w->s->windows->v[*next].n) return; /* the rest needs a further pass, and rows stay in order */
        *at = 0;
        ++*next;
    }
}

static enum crl_status run_pass(struct work *w, struct crl_err *err)
{
    const struct crl_sweep *s = w->s;
    enum crl_status st = crl_engine_pass(s->engine, w->piece, w->n_piece, on_logits, w, err);

    if (!st && s->routes) s->routes(s->ctx, w->expert, w->n_tok);
    if (!st && s->pass) st = s->pass(s->ctx, w->first_row, w->n_row, err);
    w->first_row += w->n_row;
    return st;
}

enum crl_status crl_sweep_run(const struct crl_sweep *s, struct crl_err *err)
{
    struct work w;
    size_t next = 0, at = 0, done = 0;
    enum crl_status st = begin(&w, s, err);

    if (!st && s->want_routes) crl_engine_tap(s->engine, NULL, on_routes, &w);
    while (!st && next < s->windows->n) {
        if (s->progress && !s->progress(s->progress_ctx, done, s->windows->n_fed))
            st = crl_fail(err, CRL_EINTR, "interrupted");
        if (st) break;
        fill(&w, &next, &at);
        st = run_pass(&w, err);
        done += w.n_tok;
    }
    crl_engine_tap(s->engine, NULL, NULL, NULL);
    finish(&w);
    return st;
}
