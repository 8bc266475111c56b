/* ffn.c - feed-forward blocks: routing, the shared (or dense) block and the routed experts, as one list of work.
 * docs/model.md, "Mixture of experts".
 *
 * Rows: the m tokens of the shared block come first, then the routed rows sorted by expert. A unit of gate-up is 64
 * rows of the matrix, 32 values of the intermediate. In down every member owns columns of the stream for all blocks, so
 * the sum over experts needs no join and has a fixed order: shared first, experts by number. */
#include "model/work.h"

#include <math.h>
#include <string.h>

#define UNIT 32 /* intermediate values per unit */

/* Experts of token i by falling logit, lowest number first on ties, and their sigmoid. The score multiplies the
 * expert's input: an expert is not linear, so the place matters. */
static void choose(const struct crl_config *cfg, struct crl_plan *p, size_t i, float *logit)
{
    size_t used = cfg->n_expert_used;

    for (size_t c = 0; c < used; c++) {
        uint32_t best = 0;
        for (uint32_t e = 1; e < cfg->n_expert; e++)
            if (logit[e] > logit[best]) best = e;
        p->route[i * used + c] = best;
        p->weight[i * used + c] = 1 / (1 + expf(-logit[best]));
        logit[best] = -INFINITY;
    }
}

static void route_rows(struct crl_forward *f, const struct crl_member *me, struct crl_plan *p,
                       const struct crl_layer *l, const struct crl_rows *x)
{
    float *logit = f->scratch[me->id].route;
    size_t n = crl_n_panel(l->router.n), lo = 0, hi = 1;

    if (f->m > 1) crl_team_range(me, f->m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        crl_rows_gemm(f, logit, n * CRL_PANEL_ROWS, x, i, 1, &l->router, 0, n);
        choose(&f->model->cfg, p, i, logit);
    }
    if (f->m > 1) crl_team_barrier(me);
}

/* Sort the routed rows by expert (counting sort: tokens stay in order) and list the blocks that have rows. */
static void list_groups(const struct crl_forward *f, struct crl_plan *p, const struct crl_layer *l)
{
    size_t n = l->moe ? f->m * f->model->cfg.n_expert_used : 0, n_expert = l->moe ? f->model->cfg.n_expert : 0;

    p->group[0] = (struct crl_group){ &l->always, 0, f->m };
    p->n_group = 1;
    memset(p->count, 0, (n_expert + 1) * sizeof *p->count);
    for (size_t i = 0; i < n; i++) p->count[p->route[i] + 1]++;
    for (size_t e = 0; e < n_expert; e++) {
        size_t rows = p->count[e + 1];
        p->count[e + 1] += p->count[e];
        if (rows) p->group[p->n_group++] = (struct crl_group){ &l->expert[e], p->count[e], rows };
    }
    for (size_t i = 0; i < n; i++) p->order[p->count[p->route[i]]++] = i;
}

static void scale_codes(const struct crl_act *to, size_t r, const struct crl_act *x, size_t from, float weight)
{
    size_t nb = x->k_pad / CRL_BLOCK;

    memcpy(to->q + r * x->k_pad, x->q + from * x->k_pad, x->k_pad);
    memcpy(to->bias + r * nb, x->bias + from * nb, nb * sizeof *x->bias);
    for (size_t j = 0; j < x->n_span; j++) to->scale[r * x->n_span + j] = x->scale[from * x->n_span + j] * weight;
}

/* Routed row r of `to`: row `from` of x times its score. The codes stay, the scales take the factor. */
static void scale_row(const struct crl_rows *to, size_t r, const struct crl_rows *x, size_t from, float weight,
                      unsigned need)
{
    for (size_t j = 0; j < x->stride; j++) to->x[r * to->stride + j] = x->x[from * x->stride + j] * weight;
    if (need & CRL_NEED_FINE) scale_codes(&to->fine, r, &x->fine, from, weight);
    if (need & CRL_NEED_COARSE) scale_codes(&to->coarse, r, &x->coarse, from, weight);
}

/* Scaled inputs of the routed rows, in the order of the groups. */
static const struct crl_rows *gather(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                                     const struct crl_rows *x, unsigned need)
{
    size_t used = f->model->cfg.n_expert_used, n = f->m * used, lo, hi;

    if (f->m == 1) {
        struct crl_rows *own = &f->scratch[me->id].routed;
        for (size_t r = 0; r < n; r++) scale_row(own, r, x, 0, p->weight[p->order[r]], need);
        return own;
    }
    crl_team_range(me, n, &lo, &hi);
    for (size_t r = lo; r < hi; r++)
        scale_row(&f->gathered, r, x, p->order[r] / used, p->weight[p->order[r]], need);
    crl_team_barrier(me);
    return &f->gathered;
}

/* up * silu(gate) of one unit into 32 values of an intermediate row, zero beyond d_ff. */
static void finish_unit(const struct crl_forward *f, const struct crl_rows *mid, size_t row, size_t unit, size_t d_ff,
                        const float *tile)
{
    size_t left = d_ff - unit * UNIT < UNIT ? d_ff - unit * UNIT : UNIT;
    float *to = mid->x + row * mid->stride + unit * UNIT;

    f->kern->swiglu(to, tile);
    memset(to + left, 0, (UNIT - left) * sizeof *to);
}

/* Row of the intermediate where a group's rows begin: the shared block's come first. */
static size_t mid_row(const struct crl_forward *f, const struct crl_plan *p, const struct crl_group *g)
{
    return g == p->group ? 0 : f->m + g->first;
}

/* Units [lo, hi) of a group. */
static void gate_up(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                    const struct crl_group *g, const struct crl_rows *x, size_t d_ff, size_t lo, size_t hi)
{
    float *tile = f->scratch[me->id].tile;
    size_t n_panel = crl_n_panel(g->ffn->gate_up.n);

    _Static_assert(UNIT == 2 * CRL_PANEL_ROWS && UNIT == CRL_BLOCK, "a unit is two pairs of panels and pads to a block");
    for (size_t u = lo; u < hi; u++) {
        struct crl_mat w = g->ffn->gate_up;
        size_t n = n_panel - 4 * u < 4 ? n_panel - 4 * u : 4;

        w.panel += 4 * u * w.panel_bytes; /* so that the unit begins at column 0 of the tile */
        crl_rows_gemm(f, tile, 64, x, g->first, g->n, &w, 0, n);
        for (size_t r = 0; r < g->n; r++) finish_unit(f, &p->mid, mid_row(f, p, g) + r, u, d_ff, tile + r * 64);
    }
}

/* What a unit costs in multiples of one row: its rows, and the pass over its weights. */
static size_t unit_cost(const struct crl_group *g)
{
    return g->n + 3;
}

/* All groups' units as one list, cut where the work is even. */
static void gate_up_all(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                        const struct crl_layer *l, const struct crl_rows *x, const struct crl_rows *routed)
{
    size_t total = 0, at = 0, lo, hi;

    for (size_t i = 0; i < p->n_group; i++) total += unit_cost(&p->group[i]) * ((l->d_ff + UNIT - 1) / UNIT);
    crl_team_range(me, total, &lo, &hi);
    for (size_t i = 0; i < p->n_group; i++) {
        size_t n_unit = (l->d_ff + UNIT - 1) / UNIT, cost = unit_cost(&p->group[i]), a, b;

        /* the unit a boundary falls into goes to the member before it; both neighbours round the same way */
        a = lo > at ? (lo - at + cost - 1) / cost : 0;
        b = hi > at ? (hi - at + cost - 1) / cost : 0;
        if (a > n_unit) a = n_unit;
        if (b > n_unit) b = n_unit;
        gate_up(f, me, p, &p->group[i], i ? routed : x, l->d_ff, a, b);
        at += cost * n_unit;
    }
}

/* The intermediate rows as input of down: each member quantises those of a single token for itself, many are shared
 * out. */
static const struct crl_rows *down_rows(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                                        const struct crl_layer *l)
{
    size_t n = f->m * (l->moe ? 1 + f->model->cfg.n_expert_used : 1), lo = 0, hi = n;
    struct crl_rows *own = &f->scratch[me->id].mid_in;

    if (f->m > 1) crl_team_range(me, n, &lo, &hi);
    crl_rows_reshape(own, l->d_ff);
    own->x = p->mid.x;
    for (size_t i = lo; i < hi; i++) crl_rows_quantise(f, f->m == 1 ? own : &p->mid, i, l->d_ff, l->need_down);
    if (f->m == 1) return own;
    crl_team_barrier(me);
    return &p->mid;
}

/* Columns of the stream that this member owns: down of every group, added to the rows' tokens. */
static void down_all(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                     const struct crl_rows *mid)
{
    size_t d = f->model->cfg.d_model, used = f->model->cfg.n_expert_used, lo, hi;
    float *tile = f->scratch[me->id].tile;

    crl_team_range(me, crl_n_panel(d), &lo, &hi);
    for (size_t i = 0; i < p->n_group; i++) {
        const struct crl_group *g = &p->group[i];

        for (size_t panel = lo; panel < hi; panel += 4) {
            size_t n = hi - panel < 4 ? hi - panel : 4, col = panel * CRL_PANEL_ROWS;
            size_t width = d - col < n * CRL_PANEL_ROWS ? d - col : n * CRL_PANEL_ROWS;
            struct crl_mat w = g->ffn->down;

            w.panel += panel * w.panel_bytes;
            crl_rows_gemm(f, tile, 64, mid, mid_row(f, p, g), g->n, &w, 0, n);
            for (size_t r = 0; r < g->n; r++) {
                float *to = f->h + (i ? p->order[g->first + r] / used : r) * d + col;
                for (size_t j = 0; j < width; j++) to[j] += tile[r * 64 + j];
            }
        }
    }
}

/* A member's plan of this layer, all but the routes. */
static struct crl_plan *begin_plan(struct crl_forward *f, const struct crl_member *me, const struct crl_layer *l)
{
    struct crl_scratch *s = &f->scratch[me->id];
    struct crl_plan *p = &s->plan;

    p->route = f->m == 1 ? s->own_route : f->route;
    p->weight = f->m == 1 ? s->own_weight : f->weight;
    p->mid = f->mid; /* dense and expert layers differ in width */
    crl_rows_reshape(&p->mid, l->d_ff);
    return p;
}

void crl_feed_forward(struct crl_forward *f, const struct crl_member *me, uint32_t layer)
{
    const struct crl_layer *l = &f->model->layer[layer];
    const struct crl_rows *x = crl_norm_stream(f, me, l->ffn_norm, l->need_gate_up), *routed = NULL;
    struct crl_plan *p = begin_plan(f, me, l);

    if (l->moe) route_rows(f, me, p, l, x);
    list_groups(f, p, l);
    if (l->moe) routed = gather(f, me, p, x, l->need_gate_up);
    if (l->moe && me->id == 0 && f->batch->tap_routes) f->batch->tap_routes(f->batch->tap_ctx, layer, p->route, f->m);
    crl_phase_done(f, me, CRL_PHASE_ROUTER);
    gate_up_all(f, me, p, l, x, routed);
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_GATE_UP);
    down_all(f, me, p, down_rows(f, me, p, l));
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_DOWN);
}
