/* ffn.c - feed-forward blocks: routing, the shared (or dense) block and the routed experts, as one list of work.
 * docs/model.md, "Mixture of experts".
 *
 * Rows: the m tokens of the shared block come first, then the routed rows sorted by expert. A unit of gate-up is 64
 * rows of the matrix, 32 values of the intermediate. In down every member owns columns of the stream for all blocks, so
 * the sum over experts needs no join and has a fixed order: shared first, experts by number.
 *
 * Members work on what lies on their node (model/model.h). Where experts have a home side (docs/numa.md), the members of
 * that side compute the expert and those of the other side meanwhile the shared block; then no member owns columns of all
 * blocks, each block's rows of down are kept apart, and one more step adds them, in the same order. */
#include "model/work.h"

#include <math.h>
#include <string.h>

#define UNIT 32       /* intermediate values per unit */
#define UNIT_PANELS 4 /* of gate-up */

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

    p->group[0] = (struct crl_group){ 0, 0, f->m };
    p->n_group = 1;
    memset(p->count, 0, (n_expert + 1) * sizeof *p->count);
    for (size_t i = 0; i < n; i++) p->count[p->route[i] + 1]++;
    for (size_t e = 0; e < n_expert; e++) {
        size_t rows = p->count[e + 1];
        p->count[e + 1] += p->count[e];
        if (rows) p->group[p->n_group++] = (struct crl_group){ (uint32_t)e, p->count[e], rows };
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

/* What a unit costs in multiples of one row: its rows, and the pass over its weights. */
static size_t unit_cost(const struct crl_group *g)
{
    return g->n + 3;
}

/* --- who does what ---------------------------------------------------------------------------------------------- */

static size_t n_units(const struct crl_layer *l)
{
    return (l->d_ff + UNIT - 1) / UNIT;
}

/* Two sides: the part of the shared block for side 0, so that both have the same to do. */
static double cut_shared(const struct crl_plan *p, const struct crl_layer *l)
{
    double cost[2] = { 0, 0 }, n = (double)n_units(l);

    if (l->n_side == 1) return 1;
    for (size_t i = 1; i < p->n_group; i++) cost[l->home[p->group[i].expert]] += n * (double)unit_cost(&p->group[i]);
    return (double)crl_placement_shared_cut(cost, n * (double)unit_cost(p->group), n_units(l)) / n;
}

static void add_piece(struct crl_plan *p, const struct crl_group *g, const struct crl_mat *m, size_t lo, size_t hi)
{
    struct crl_lot *last = p->n_piece ? &p->piece[p->n_piece - 1] : NULL;

    if (lo >= hi) return;
    if (last && last->group == g && last->mat == m && last->hi == lo) last->hi = hi;
    else p->piece[p->n_piece++] = (struct crl_lot){ g, m, lo, hi };
}

/* Of each stretch between two edges, where one node of each side has the rows, side 0 computes the first part and side 1
 * the rest: so every node of a side gives up the same share. */
static void add_shared(struct crl_plan *p, const struct crl_edges *e, unsigned side, const struct crl_mat *m, size_t lo,
                       size_t hi)
{
    for (size_t i = 0; i + 1 < e->n; i++) {
        size_t from = e->at[i], to = e->at[i + 1], mid = from + (size_t)((double)(to - from) * p->cut + 0.5);

        if (side == 0) to = mid;
        else from = mid;
        add_piece(p, p->group, m, from > lo ? from : lo, to < hi ? to : hi);
    }
}

static void end_in_units(const struct crl_stripe *part, size_t unit, size_t *lo, size_t *hi)
{
    *lo = part->lo / unit;
    *hi = (part->hi + unit - 1) / unit;
}

/* This node's work in gate-up (units of four panels) or in down (panels). */
static void list_pieces(struct crl_plan *p, const struct crl_layer *l, bool down)
{
    size_t unit = down ? 1 : UNIT_PANELS, lo, hi;

    p->n_piece = 0;
    for (unsigned side = 0; side < l->n_side; side++) {
        const struct crl_stripe *part = down ? &l->always[side].down : &l->always[side].gate_up;
        end_in_units(part, unit, &lo, &hi);
        if (l->n_side == 1) add_piece(p, p->group, &part->mat, lo, hi);
        else add_shared(p, down ? &l->edge_down : &l->edge_up, side, &part->mat, lo, hi);
    }
    for (size_t i = 1; i < p->n_group; i++) {
        const struct crl_ffn *ffn = &l->expert[p->group[i].expert];
        const struct crl_stripe *part = down ? &ffn->down : &ffn->gate_up;
        end_in_units(part, unit, &lo, &hi);
        add_piece(p, &p->group[i], &part->mat, lo, hi);
    }
}

typedef void work_fn(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                     const struct crl_lot *piece, size_t lo, size_t hi, void *ctx);

/* All pieces as one list, cut among the node's members where the work is even. */
static void share_out(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p, work_fn *work,
                      void *ctx)
{
    size_t total = 0, at = 0, lo, hi;

    for (size_t i = 0; i < p->n_piece; i++) total += unit_cost(p->piece[i].group) * (p->piece[i].hi - p->piece[i].lo);
    crl_part(total, me->node_id, me->node_n, &lo, &hi);
    for (size_t i = 0; i < p->n_piece; i++) {
        const struct crl_lot *piece = &p->piece[i];
        size_t n = piece->hi - piece->lo, cost = unit_cost(piece->group), a, b;

        /* the unit a boundary falls into goes to the member before it; both neighbours round the same way */
        a = lo > at ? (lo - at + cost - 1) / cost : 0;
        b = hi > at ? (hi - at + cost - 1) / cost : 0;
        if (a > n) a = n;
        if (b > n) b = n;
        if (a < b) work(f, me, p, piece, piece->lo + a, piece->lo + b, ctx);
        at += cost * n;
    }
}

/* --- gate and up ------------------------------------------------------------------------------------------------ */

struct inputs {
    const struct crl_rows *x, *routed;
    size_t d_ff;
};

static void gate_up(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                    const struct crl_lot *piece, size_t lo, size_t hi, void *ctx)
{
    const struct inputs *in = ctx;
    const struct crl_group *g = piece->group;
    const struct crl_rows *x = g == p->group ? in->x : in->routed;
    float *tile = f->scratch[me->id].tile;
    size_t n_panel = crl_n_panel(piece->mat->n), block = crl_row_block(x->stride);
    struct crl_mat all = *piece->mat;

    _Static_assert(UNIT == UNIT_PANELS / 2 * CRL_PANEL_ROWS && UNIT == CRL_BLOCK,
                   "a unit is two pairs of panels and pads to a block");
    crl_mat_late(&all);
    for (size_t i = 0, rows; i < g->n; i += rows) {
        rows = g->n - i < block ? g->n - i : block;
        for (size_t u = lo; u < hi; u++) {
            struct crl_mat w = all;
            size_t n = n_panel - UNIT_PANELS * u < UNIT_PANELS ? n_panel - UNIT_PANELS * u : UNIT_PANELS;

            w.panel += UNIT_PANELS * u * w.panel_bytes; /* so that the unit begins at column 0 of the tile */
            crl_rows_gemm(f, tile, 64, x, g->first + i, rows, &w, 0, n);
            for (size_t r = 0; r < rows; r++)
                finish_unit(f, &p->mid, mid_row(f, p, g) + i + r, u, in->d_ff, tile + r * 64);
        }
    }
    crl_count_read(f, me, &all, (UNIT_PANELS * hi < n_panel ? UNIT_PANELS * hi : n_panel) - UNIT_PANELS * lo);
}

static void gate_up_all(struct crl_forward *f, const struct crl_member *me, struct crl_plan *p,
                        const struct crl_layer *l, const struct crl_rows *x, const struct crl_rows *routed)
{
    struct inputs in = { x, routed, l->d_ff };

    list_pieces(p, l, false);
    share_out(f, me, p, gate_up, &in);
}

/* Nobody needs another node's rows of the intermediate: with one token, and a side that is one node (no cut but the ends),
 * each block is computed wholly by one of two nodes. */
static bool node_is_alone(const struct crl_forward *f, const struct crl_plan *p, const struct crl_layer *l)
{
    return f->m == 1 && l->n_side == 2 && f->model->n_node == 2 && l->edge_up.n == 2 && l->edge_down.n == 2 &&
           (p->cut == 0 || p->cut == 1);
}

/* --- down ------------------------------------------------------------------------------------------------------- */

/* This node computes something of the block that row i of the intermediate belongs to. */
static bool row_is_ours(const struct crl_forward *f, const struct crl_plan *p, size_t i)
{
    for (size_t j = 0; j < p->n_piece; j++) {
        size_t from = mid_row(f, p, p->piece[j].group);
        if (i >= from && i < from + p->piece[j].group->n) return true;
    }
    return false;
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
    for (size_t i = lo; i < hi; i++)
        if (f->m > 1 || row_is_ours(f, p, i))
            crl_rows_quantise(f, f->m == 1 ? own : &p->mid, i, l->d_ff, l->need_down);
    if (f->m == 1) return own;
    crl_team_barrier(me);
    return &p->mid;
}

/* Columns of the stream that this member owns: down of every group, added to the rows' tokens. */
static void down_all(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                     const struct crl_layer *l, const struct crl_rows *mid)
{
    size_t d = f->model->cfg.d_model, used = f->model->cfg.n_expert_used, lo, hi;
    float *tile = f->scratch[me->id].tile;
    size_t block = crl_row_block(mid->stride);

    crl_stripe_range(me, &l->always[0].down, &lo, &hi);
    for (size_t i = 0; i < p->n_group; i++) {
        const struct crl_group *g = &p->group[i];
        struct crl_mat all = i ? l->expert[g->expert].down.mat : l->always[0].down.mat;

        crl_mat_late(&all);
        crl_count_read(f, me, &all, hi - lo);
        for (size_t first = 0; first < g->n; first += block) {
            size_t rows = g->n - first < block ? g->n - first : block;

            for (size_t panel = lo; panel < hi; panel += 4) {
                size_t n = hi - panel < 4 ? hi - panel : 4, col = panel * CRL_PANEL_ROWS;
                size_t width = d - col < n * CRL_PANEL_ROWS ? d - col : n * CRL_PANEL_ROWS;
                struct crl_mat w = all;

                w.panel += panel * w.panel_bytes;
                crl_rows_gemm(f, tile, 64, mid, mid_row(f, p, g) + first, rows, &w, 0, n);
                for (size_t r = first; r < first + rows; r++) {
                    float *to = f->h + (i ? p->order[g->first + r] / used : r) * d + col;
                    for (size_t j = 0; j < width; j++) to[j] += tile[(r - first) * 64 + j];
                }
            }
        }
    }
}

/* Rows of down of a group, kept apart: the shared block's by token, the others in the order of the groups. */
static float *apart_rows(const struct crl_forward *f, const struct crl_plan *p, const struct crl_group *g)
{
    size_t stride = crl_round_up(f->model->cfg.d_model, CRL_PANEL_ROWS);

    return g == p->group ? f->out : f->part + g->first * stride;
}

static void down_piece(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                       const struct crl_lot *piece, size_t lo, size_t hi, void *ctx)
{
    const struct crl_group *g = piece->group;
    size_t stride = crl_round_up(f->model->cfg.d_model, CRL_PANEL_ROWS);
    struct crl_mat w = *piece->mat;

    crl_mat_late(&w);
    crl_rows_gemm(f, apart_rows(f, p, g), stride, ctx, mid_row(f, p, g), g->n, &w, lo, hi);
    crl_count_read(f, me, &w, hi - lo);
}

/* The sum over blocks, in the order of down_all. */
static void add_apart(struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p)
{
    size_t d = f->model->cfg.d_model, used = f->model->cfg.n_expert_used, stride = crl_round_up(d, CRL_PANEL_ROWS);
    size_t lo, hi, end;

    crl_team_range(me, crl_n_panel(d), &lo, &hi);
    end = hi * CRL_PANEL_ROWS < d ? hi * CRL_PANEL_ROWS : d;
    for (size_t i = 0; i < p->n_group; i++) {
        const struct crl_group *g = &p->group[i];
        const float *from = apart_rows(f, p, g);

        for (size_t r = 0; r < g->n; r++) {
            float *to = f->h + (i ? p->order[g->first + r] / used : r) * d;
            for (size_t j = lo * CRL_PANEL_ROWS; j < end; j++) to[j] += from[r * stride + j];
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

/* Mapped weights: the chosen experts are asked from the disk at once, each by several members. */
static void ask_for(const struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p, uint32_t layer)
{
    const struct crl_schema *s = crl_pack_schema(crl_weights_pack(f->model->weights));
    unsigned of = me->n < 8 ? me->n : 8;

    for (size_t i = 1; i < p->n_group && me->id < of; i++)
        crl_weights_want(f->model->weights, crl_schema_find(s, CRL_KIND_EXPERT_DOWN, layer, p->group[i].expert), me->id,
                         of);
}

/* The inputs of gate-up (down false) or down of all blocks: those of the shared or dense one, and of the experts. */
static void show_inputs(const struct crl_forward *f, const struct crl_member *me, const struct crl_plan *p,
                        const struct crl_layer *l, uint32_t layer, const struct crl_rows *x,
                        const struct crl_rows *routed, bool down)
{
    if (!f->batch->tap_inputs) return;
    crl_show_inputs(f, me,
                    l->moe ? (down ? CRL_KIND_SHARED_DOWN : CRL_KIND_SHARED_GATE_UP)
                           : (down ? CRL_KIND_DENSE_DOWN : CRL_KIND_DENSE_GATE_UP),
                    layer, -1, x, 0, f->m);
    for (size_t i = 1; i < p->n_group; i++) {
        const struct crl_group *g = &p->group[i];
        crl_show_inputs(f, me, down ? CRL_KIND_EXPERT_DOWN : CRL_KIND_EXPERT_GATE_UP, layer, (int32_t)g->expert,
                        down ? x : routed, down ? mid_row(f, p, g) : g->first, g->n);
    }
}

void crl_feed_forward(struct crl_forward *f, const struct crl_member *me, uint32_t layer)
{
    const struct crl_layer *l = crl_layer_of(f, me, layer);
    const struct crl_rows *x = crl_norm_stream(f, me, l->ffn_norm, l->need_gate_up), *routed = NULL;
    struct crl_plan *p = begin_plan(f, me, l);

    if (l->moe) route_rows(f, me, p, l, x);
    list_groups(f, p, l);
    if (f->model->mapped) ask_for(f, me, p, layer);
    if (l->moe) routed = gather(f, me, p, x, l->need_gate_up);
    if (l->moe && me->id == 0 && f->batch->tap_routes) f->batch->tap_routes(f->batch->tap_ctx, layer, p->route, f->m);
    show_inputs(f, me, p, l, layer, x, routed, false);
    p->cut = cut_shared(p, l);
    crl_phase_done(f, me, CRL_PHASE_ROUTER);
    gate_up_all(f, me, p, l, x, routed);
    if (node_is_alone(f, p, l) && !f->batch->tap_inputs) crl_team_barrier_node(me);
    else crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_GATE_UP);
    list_pieces(p, l, true);
    x = down_rows(f, me, p, l);
    show_inputs(f, me, p, l, layer, x, NULL, true);
    if (l->apart) {
        share_out(f, me, p, down_piece, (void *)x);
        crl_team_barrier(me);
        add_apart(f, me, p);
    } else {
        down_all(f, me, p, l, x);
    }
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_DOWN);
}
