/* attention.c - QKV, positions, cache, attention over the visible keys, output projection and residual.
 * docs/model.md, "Attention". */
#include "model/work.h"

#include "base/bytes.h"
#include "model/rope.h"
#include "simd/exp.h"

#include <math.h>
#include <string.h>

static void add_bias(float *y, const float *bias, size_t lo, size_t hi)
{
    for (size_t i = lo; bias && i < hi; i++) y[i] += bias[i];
}

/* Rows of one projection that belong to panels [lo, hi), bias included. */
static void project(const struct crl_forward *f, float *y, size_t stride, const struct crl_rows *x,
                    const struct crl_mat *w, const float *bias, size_t lo, size_t hi)
{
    size_t end = hi * CRL_PANEL_ROWS < w->n ? hi * CRL_PANEL_ROWS : w->n;

    crl_rows_gemm(f, y, stride, x, 0, f->m, w, lo, hi);
    for (size_t i = 0; i < f->m; i++) add_bias(y + i * stride, bias, lo * CRL_PANEL_ROWS, end);
}

/* The part of [lo, hi) that falls on n units starting at `from`, relative to it. */
static void overlap(size_t lo, size_t hi, size_t from, size_t n, size_t *a, size_t *b)
{
    *a = lo > from ? lo - from : 0;
    *b = hi > from ? hi - from : 0;
    if (*a > n) *a = n;
    if (*b > n) *b = n;
}

/* The node's panels of q, k and v as one list, cut evenly among its members. */
static void project_qkv(struct crl_forward *f, const struct crl_member *me, const struct crl_layer *l,
                        const struct crl_rows *x)
{
    const struct crl_stripe *part[] = { &l->q, &l->k, &l->v };
    const float *bias[] = { l->q_bias, l->k_bias, l->v_bias };
    float *to[] = { f->q, f->k, f->v };
    size_t n = 0, at = 0, lo, hi, a, b;

    for (int i = 0; i < 3; i++) n += part[i]->hi - part[i]->lo;
    crl_part(n, me->node_id, me->node_n, &lo, &hi);
    for (int i = 0; i < 3; i++) {
        n = part[i]->hi - part[i]->lo;
        overlap(lo, hi, at, n, &a, &b);
        project(f, to[i], i ? f->kv_stride : f->q_stride, x, &part[i]->mat, bias[i], part[i]->lo + a, part[i]->lo + b);
        crl_count_read(f, me, &part[i]->mat, b - a);
        at += n;
    }
}

/* Position of token i in the key of kv head g, which goes to the cache with its value. */
static void place_key(struct crl_forward *f, uint32_t layer, size_t i, size_t g)
{
    const struct crl_config *cfg = &f->model->cfg;
    const struct crl_token *t = &f->token[i];
    size_t d = cfg->d_head;
    float *k = f->k + i * f->kv_stride + g * d;

    if (cfg->uses_rope[layer]) {
        f->kern->rotate(k, f->angle + i * d, d / 2);
        if (cfg->qk_norm) f->kern->rms_norm(k, k, NULL, d, cfg->norm_eps);
    }
    crl_kv_put(t->segment->kv, layer, (uint32_t)g, t->pos, k, f->v + i * f->kv_stride + g * d);
}

/* Query head `head` of token i with its position. */
static void place_query(const struct crl_forward *f, uint32_t layer, size_t i, size_t head, float *q)
{
    const struct crl_config *cfg = &f->model->cfg;
    size_t d = cfg->d_head;

    memcpy(q, f->q + i * f->q_stride + head * d, d * sizeof *q); /* what lies behind stays 0 */
    if (cfg->uses_rope[layer]) {
        f->kern->rotate(q, f->angle + i * d, d / 2);
        if (cfg->qk_norm) f->kern->rms_norm(q, q, NULL, d, cfg->norm_eps);
    } else {
        float scale = crl_query_scale(cfg, f->token[i].pos);
        for (size_t j = 0; j < d; j++) q[j] *= scale;
    }
}

/* Keys of a slice for the token whose own key lies in `slot`: CRL_SLICE, twice as many each time that the keys outgrow
 * CRL_SLICES slices. It depends on the position alone, so that sums are formed alike whoever forms them. */
static size_t slice_keys(size_t slot)
{
    size_t n = CRL_SLICE;

    while (slot / n >= CRL_SLICES) n *= 2;
    return n;
}

static void reset(struct crl_sums *s, size_t n_query, size_t d)
{
    for (size_t n = 0; n < n_query; n++) {
        s->max[n] = -INFINITY;
        s->sum[n] = 0;
    }
    memset(s->acc, 0, n_query * d * sizeof *s->acc);
}

/* What a unit of attention is: query heads of kv head g for tokens [i0, i1) of one segment. */
struct unit {
    uint32_t layer;
    size_t i0, i1, g;
    size_t n_query;
};

/* score = queries . keys, for the panels that hold the first `used` keys. */
static void multiply_keys(const struct crl_forward *f, struct crl_attn *a, const struct unit *u, const struct crl_mat *keys,
                          size_t used)
{
    size_t n = crl_n_panel(used);

    if (keys->format == CRL_Q8) f->kern->gemm_q8(a->score, CRL_KV_BLOCK, &a->q_codes, u->n_query, keys, 0, n);
    else if (keys->format == CRL_BF16)
        f->kern->cache_bf16(a->score, CRL_KV_BLOCK, a->q, a->d_in, u->n_query, keys, 0, n);
    else f->kern->gemm_f32(a->score, CRL_KV_BLOCK, a->q, a->d_in, u->n_query, keys, 0, n);
}

/* part = weights . values. The scales of int8 values, one per position, join the weights. */
static void multiply_values(const struct crl_forward *f, struct crl_attn *a, const struct unit *u,
                            const struct crl_mat *values, const float *scale)
{
    size_t n = crl_n_panel(values->n);

    for (size_t i = 0; scale && i < u->n_query; i++) {
        float *p = a->score + i * CRL_KV_BLOCK;
        for (size_t j = 0; j < CRL_KV_BLOCK; j++) p[j] *= scale[j];
        f->kern->act_row(&a->p_codes, i, p, CRL_KV_BLOCK);
    }
    if (scale) f->kern->gemm_q8(a->part, a->d_out, &a->p_codes, u->n_query, values, 0, n);
    else if (values->format == CRL_BF16)
        f->kern->cache_bf16(a->part, a->d_out, a->score, CRL_KV_BLOCK, u->n_query, values, 0, n);
    else f->kern->gemm_f32(a->part, a->d_out, a->score, CRL_KV_BLOCK, u->n_query, values, 0, n);
}

/* Add the keys and values of one block to the sums. Token by token only the keys up to its own position are seen. */
static void add_block(const struct crl_forward *f, struct crl_attn *a, const struct unit *u, struct crl_sums *s, size_t block)
{
    const struct crl_config *cfg = &f->model->cfg;
    const struct crl_kv *kv = f->token[u->i0].segment->kv;
    size_t per_kv = cfg->n_head / cfg->n_kv_head, at = block * CRL_KV_BLOCK;
    size_t last = crl_kv_slot(kv, u->layer, f->token[u->i1 - 1].pos), used = last - at + 1;
    bool bf16 = kv->type == CRL_KV_BF16;
    struct crl_mat keys, values;
    const float *scale;

    if (used > CRL_KV_BLOCK) used = CRL_KV_BLOCK;
    crl_kv_keys(kv, u->layer, (uint32_t)u->g, block, &keys);
    scale = crl_kv_values(kv, u->layer, (uint32_t)u->g, block, &values);
    if (!scale) values.k = used; /* the weights behind are 0 */
    multiply_keys(f, a, u, &keys, used);
    for (size_t n = 0; n < u->n_query; n++) {
        size_t slot = crl_kv_slot(kv, u->layer, f->token[u->i0 + n / per_kv].pos);
        size_t see = slot < at ? 0 : slot - at < CRL_KV_BLOCK ? slot - at + 1 : CRL_KV_BLOCK;
        float *p = a->score + n * CRL_KV_BLOCK;

        a->keep[n] = see ? f->kern->softmax(p, see, a->scale, bf16, &s->max[n], &s->sum[n]) : 1;
        memset(p + see, 0, (CRL_KV_BLOCK - see) * sizeof *p);
    }
    multiply_values(f, a, u, &values, scale);
    f->kern->blend(s->acc, a->part, a->keep, NULL, u->n_query, a->d_out);
}

/* Sums over the keys [first, first + n) of a slice; a->q holds the queries. */
static void sum_slice(const struct crl_forward *f, struct crl_attn *a, const struct unit *u, struct crl_sums *s,
                      size_t first, size_t n)
{
    size_t last = crl_kv_slot(f->token[u->i0].segment->kv, u->layer, f->token[u->i1 - 1].pos);

    reset(s, u->n_query, a->d_out);
    for (size_t at = first; at < first + n && at <= last; at += CRL_KV_BLOCK) add_block(f, a, u, s, at / CRL_KV_BLOCK);
}

/* Bring the sums of a later slice to the same maximum as `total` and add them. Tokens that saw none of it keep theirs. */
static void join(const struct crl_forward *f, struct crl_attn *a, struct crl_sums *total, const struct crl_sums *s,
                 size_t n_query)
{
    for (size_t n = 0; n < n_query; n++) {
        float most = s->max[n] > total->max[n] ? s->max[n] : total->max[n];

        a->keep[n] = 1;
        a->gain[n] = 0;
        if (s->sum[n] == 0) continue;
        a->keep[n] = crl_exp(total->max[n] - most);
        a->gain[n] = crl_exp(s->max[n] - most);
        total->max[n] = most;
        total->sum[n] = total->sum[n] * a->keep[n] + s->sum[n] * a->gain[n];
    }
    f->kern->blend(total->acc, s->acc, a->keep, a->gain, n_query, a->d_out);
}

/* The queries of a unit, as the products of the cache want them. */
static void place_queries(const struct crl_forward *f, struct crl_attn *a, const struct unit *u)
{
    const struct crl_config *cfg = &f->model->cfg;
    size_t per_kv = cfg->n_head / cfg->n_kv_head;
    enum crl_kv_type type = f->token[u->i0].segment->kv->type;

    a->scale = 1 / sqrtf((float)cfg->d_head);
    for (size_t n = 0; n < u->n_query; n++) {
        float *q = a->q + n * a->d_in;
        place_query(f, u->layer, u->i0 + n / per_kv, u->g * per_kv + n % per_kv, q);
        for (size_t j = 0; type == CRL_KV_BF16 && j < cfg->d_head; j++) q[j] = crl_bf16_round(q[j]);
        if (type == CRL_KV_INT8) f->kern->act_row(&a->q_codes, n, q, cfg->d_head);
    }
}

/* Weighted means of the values. */
static void write_out(struct crl_forward *f, const struct crl_attn *a, const struct unit *u, const struct crl_sums *s)
{
    const struct crl_config *cfg = &f->model->cfg;
    size_t d = cfg->d_head, per_kv = cfg->n_head / cfg->n_kv_head;

    for (size_t n = 0; n < u->n_query; n++) {
        float *to = f->attn.x + (u->i0 + n / per_kv) * f->attn.stride + (u->g * per_kv + n % per_kv) * d;
        float part = 1 / s->sum[n];
        for (size_t j = 0; j < d; j++) to[j] = s->acc[n * a->d_out + j] * part;
    }
}

/* All slices of a unit, one after the other. Every query meets its keys in the same blocks and slices, whatever the
 * batch: the result does not depend on how a prompt was cut. */
static void attend(struct crl_forward *f, const struct crl_member *me, const struct unit *u)
{
    struct crl_attn *a = &f->scratch[me->id].attn;
    size_t last = crl_kv_slot(f->token[u->i0].segment->kv, u->layer, f->token[u->i1 - 1].pos), n = slice_keys(last);

    place_queries(f, a, u);
    sum_slice(f, a, u, &a->total, 0, n);
    for (size_t first = n; first <= last; first += n) {
        sum_slice(f, a, u, &a->slice, first, n);
        join(f, a, &a->total, &a->slice, u->n_query);
    }
    write_out(f, a, u, &a->total);
}

/* Sums of slice i of kv head g, in the memory that all members share while one token is computed. */
static struct crl_sums shared_sums(const struct crl_forward *f, size_t g, size_t i)
{
    size_t per_kv = f->model->cfg.n_head / f->model->cfg.n_kv_head, at = (g * CRL_SLICES + i) * per_kv;

    return (struct crl_sums){ f->slices.max + at, f->slices.sum + at, f->slices.acc + at * f->scratch[0].attn.d_out };
}

/* One slice of one kv head for a single token. Whoever takes the last slice places the head's key, which lies in it, so
 * that no join is needed between; whoever is last to finish joins the slices, in their order. same_head: the queries are
 * those of the slice that this member did before. */
static void attend_slice(struct crl_forward *f, const struct crl_member *me, uint32_t layer, size_t g, size_t i,
                         size_t n_slice, size_t n, bool same_head)
{
    struct crl_attn *a = &f->scratch[me->id].attn;
    struct unit u = { layer, 0, 1, g, f->model->cfg.n_head / f->model->cfg.n_kv_head };
    struct crl_sums total = shared_sums(f, g, 0), s = shared_sums(f, g, i);

    if (i + 1 == n_slice) place_key(f, layer, 0, g);
    if (!same_head) place_queries(f, a, &u);
    sum_slice(f, a, &u, &s, i * n, n);
    if (atomic_fetch_add_explicit(&f->done[g], 1, memory_order_acq_rel) + 1 < n_slice) return;
    atomic_store_explicit(&f->done[g], 0, memory_order_relaxed); /* for the next layer: a join lies between */
    for (size_t j = 1; j < n_slice; j++) {
        s = shared_sums(f, g, j);
        join(f, a, &total, &s, u.n_query);
    }
    write_out(f, a, &u, &total);
}

/* End of the attention unit that starts at token i: same segment, slices of the same length, at most CRL_ATTN_ROWS. */
static size_t unit_end(const struct crl_forward *f, uint32_t layer, size_t i)
{
    const struct crl_kv *kv = f->token[i].segment->kv;
    size_t e = i + 1, n = slice_keys(crl_kv_slot(kv, layer, f->token[i].pos));

    while (e < f->m && e - i < CRL_ATTN_ROWS && f->token[e].segment == f->token[i].segment &&
           slice_keys(crl_kv_slot(kv, layer, f->token[e].pos)) == n)
        e++;
    return e;
}

static void place_and_attend(struct crl_forward *f, const struct crl_member *me, uint32_t layer)
{
    const struct crl_view *v = &f->model->view[me->node]; /* the heads whose cache lies on this node */
    size_t g0 = v->first_kv_head, g1 = g0 + v->n_kv_head, per_kv = f->model->cfg.n_head / f->model->cfg.n_kv_head;
    size_t lo, hi, unit = 0;

    if (f->m == 1) {
        size_t last = crl_kv_slot(f->token[0].segment->kv, layer, f->token[0].pos), n = slice_keys(last);
        size_t n_slice = last / n + 1;
        crl_part((g1 - g0) * n_slice, me->node_id, me->node_n, &lo, &hi);
        for (size_t i = lo; i < hi; i++)
            attend_slice(f, me, layer, g0 + i / n_slice, i % n_slice, n_slice, n, i > lo && i % n_slice);
        return;
    }
    crl_part(f->m, me->node_id, me->node_n, &lo, &hi);
    for (size_t i = lo; i < hi; i++)
        for (size_t g = g0; g < g1; g++) place_key(f, layer, i, g);
    crl_team_barrier_node(me); /* the node's heads are nobody else's */
    for (size_t i = 0, e; i < f->m; i = e) { /* dealt out in turn: later tokens see more keys */
        e = unit_end(f, layer, i);
        for (size_t g = g0; g < g1; g++)
            if (unit++ % me->node_n == me->node_id) attend(f, me, &(struct unit){ layer, i, e, g, (e - i) * per_kv });
    }
}

/* The attention rows as input of o: each member quantises a single token for itself, many are shared out. */
static const struct crl_rows *output_rows(struct crl_forward *f, const struct crl_member *me, unsigned need)
{
    size_t d_q = (size_t)f->model->cfg.n_head * f->model->cfg.d_head, lo, hi;

    if (f->m == 1) {
        struct crl_rows *own = &f->scratch[me->id].attn_in;
        own->x = f->attn.x;
        crl_rows_quantise(f, own, 0, d_q, need);
        return own;
    }
    crl_team_range(me, f->m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) crl_rows_quantise(f, &f->attn, i, d_q, need);
    crl_team_barrier(me);
    return &f->attn;
}

void crl_attention(struct crl_forward *f, const struct crl_member *me, uint32_t layer)
{
    const struct crl_layer *l = crl_layer_of(f, me, layer);
    size_t d = f->model->cfg.d_model, stride = crl_round_up(d, CRL_PANEL_ROWS), lo, hi, end;
    const struct crl_rows *x = crl_norm_stream(f, me, l->attn_norm, l->need_qkv);

    crl_show_inputs(f, me, CRL_KIND_Q, layer, -1, x, 0, f->m);
    project_qkv(f, me, l, x);
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_QKV);
    place_and_attend(f, me, layer);
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_ATTENTION);
    x = output_rows(f, me, l->need_o);
    crl_show_inputs(f, me, CRL_KIND_O, layer, -1, x, 0, f->m);
    crl_stripe_range(me, &l->o, &lo, &hi);
    project(f, f->out, stride, x, &l->o.mat, l->o_bias, lo, hi);
    crl_count_read(f, me, &l->o.mat, hi - lo);
    end = hi * CRL_PANEL_ROWS < d ? hi * CRL_PANEL_ROWS : d;
    for (size_t i = 0; i < f->m; i++)
        for (size_t j = lo * CRL_PANEL_ROWS; j < end; j++) f->h[i * d + j] += f->out[i * stride + j];
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_OUTPUT);
}
