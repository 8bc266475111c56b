/* attention.c - QKV, positions, cache, attention over the visible keys, output projection and residual.
 * docs/model.md, "Attention". */
#include "model/work.h"

#include "model/rope.h"

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

/* q, k and v as one list of panels, cut evenly. */
static void project_qkv(struct crl_forward *f, const struct crl_member *me, const struct crl_layer *l,
                        const struct crl_rows *x)
{
    size_t nq = crl_n_panel(l->q.n), nkv = crl_n_panel(l->k.n), lo, hi, a, b;

    crl_team_range(me, nq + 2 * nkv, &lo, &hi);
    overlap(lo, hi, 0, nq, &a, &b);
    project(f, f->q, f->q_stride, x, &l->q, l->q_bias, a, b);
    overlap(lo, hi, nq, nkv, &a, &b);
    project(f, f->k, f->kv_stride, x, &l->k, l->k_bias, a, b);
    overlap(lo, hi, nq + nkv, nkv, &a, &b);
    project(f, f->v, f->kv_stride, x, &l->v, l->v_bias, a, b);
}

/* Positions for kv head g and its query heads of token i; key and value go to the cache. */
static void place_token(struct crl_forward *f, uint32_t layer, size_t i, size_t g)
{
    const struct crl_config *cfg = &f->model->cfg;
    const struct crl_token *t = &f->token[i];
    size_t d = cfg->d_head, per_kv = cfg->n_head / cfg->n_kv_head;
    float *k = f->k + i * f->kv_stride + g * d, *q = f->q + i * f->q_stride + g * per_kv * d;
    const float *angle = f->angle + i * d;

    if (f->model->layer[layer].rope) {
        crl_rope_rotate(k, angle, d / 2);
        if (cfg->qk_norm) f->kern->rms_norm(k, k, NULL, d, cfg->norm_eps);
        for (size_t j = 0; j < per_kv; j++) {
            crl_rope_rotate(q + j * d, angle, d / 2);
            if (cfg->qk_norm) f->kern->rms_norm(q + j * d, q + j * d, NULL, d, cfg->norm_eps);
        }
    } else {
        float scale = crl_query_scale(cfg, t->pos);
        for (size_t j = 0; j < per_kv * d; j++) q[j] *= scale;
    }
    crl_kv_put(t->segment->kv, layer, (uint32_t)g, t->pos, k, f->v + i * f->kv_stride + g * d);
}

/* Scores of a block of keys, and sums of a block of values, by the kernel of the cache's type. */
static void multiply(const struct crl_forward *f, float *y, size_t y_stride, const float *x, size_t x_stride, size_t m,
                     const struct crl_mat *w)
{
    crl_gemm_f_fn *gemm = w->format == CRL_F32 ? f->kern->gemm_f32 : f->kern->gemm_bf16;

    gemm(y, y_stride, x, x_stride, m, w, 0, crl_n_panel(w->n));
}

/* Softmax weights of one query over a block of which it sees the first `see` keys, and its sums of earlier blocks
 * brought to the same maximum. */
static void weigh(const struct crl_forward *f, struct crl_attn *a, size_t n, size_t see, float scale)
{
    float *p = a->score + n * CRL_KV_BLOCK, *acc = a->acc + n * a->d_out, shrink = 1;

    if (see) shrink = f->kern->softmax(p, see, scale, &a->max[n], &a->sum[n]);
    memset(p + see, 0, (CRL_KV_BLOCK - see) * sizeof *p);
    if (shrink != 1)
        for (size_t j = 0; j < a->d_out; j++) acc[j] *= shrink;
}

static void begin(struct crl_forward *f, struct crl_attn *a, size_t i0, size_t g, size_t n_query)
{
    const struct crl_config *cfg = &f->model->cfg;
    size_t d = cfg->d_head, per_kv = cfg->n_head / cfg->n_kv_head;

    for (size_t n = 0; n < n_query; n++) {
        memcpy(a->q + n * a->d_in, f->q + (i0 + n / per_kv) * f->q_stride + (g * per_kv + n % per_kv) * d,
               d * sizeof *a->q); /* what lies behind stays 0 */
        a->max[n] = -INFINITY;
        a->sum[n] = 0;
    }
    memset(a->acc, 0, n_query * a->d_out * sizeof *a->acc);
}

/* Query heads of kv head g for tokens [i0, i1) of one segment. Every query meets its keys in blocks that start at the
 * first key it sees, whatever the batch: the result does not depend on how a prompt was cut. */
static void attend(struct crl_forward *f, const struct crl_member *me, uint32_t layer, size_t i0, size_t i1, size_t g)
{
    const struct crl_config *cfg = &f->model->cfg;
    struct crl_attn *a = &f->scratch[me->id].attn;
    const struct crl_kv *kv = f->token[i0].segment->kv;
    size_t d = cfg->d_head, per_kv = cfg->n_head / cfg->n_kv_head, n_query = (i1 - i0) * per_kv;
    size_t last = crl_kv_slot(kv, layer, f->token[i1 - 1].pos);
    float scale = 1 / sqrtf((float)d);

    begin(f, a, i0, g, n_query);
    for (size_t block = 0; block <= last / CRL_KV_BLOCK; block++) {
        struct crl_mat keys, values;

        crl_kv_keys(kv, layer, (uint32_t)g, block, &keys);
        crl_kv_values(kv, layer, (uint32_t)g, block, &values);
        multiply(f, a->score, CRL_KV_BLOCK, a->q, a->d_in, n_query, &keys);
        for (size_t n = 0; n < n_query; n++) {
            size_t slot = crl_kv_slot(kv, layer, f->token[i0 + n / per_kv].pos), at = block * CRL_KV_BLOCK;
            size_t see = slot < at ? 0 : slot - at + 1;
            weigh(f, a, n, see < CRL_KV_BLOCK ? see : CRL_KV_BLOCK, scale);
        }
        multiply(f, a->part, a->d_out, a->score, CRL_KV_BLOCK, n_query, &values);
        for (size_t j = 0; j < n_query * a->d_out; j++) a->acc[j] += a->part[j];
    }
    for (size_t n = 0; n < n_query; n++) {
        float *to = f->attn.x + (i0 + n / per_kv) * f->attn.stride + (g * per_kv + n % per_kv) * d;
        for (size_t j = 0; j < d; j++) to[j] = a->acc[n * a->d_out + j] / a->sum[n];
    }
}

/* End of the attention unit that starts at token i: same segment, same chunk, at most CRL_ATTN_ROWS. */
static size_t unit_end(const struct crl_forward *f, size_t i)
{
    size_t e = i + 1;

    while (e < f->m && e - i < CRL_ATTN_ROWS && f->token[e].segment == f->token[i].segment) e++;
    return e;
}

static void place_and_attend(struct crl_forward *f, const struct crl_member *me, uint32_t layer)
{
    size_t n_head = f->model->cfg.n_kv_head, lo, hi, unit = 0;

    if (f->m == 1) { /* whoever places a head's key is the one to read it: no join between */
        crl_team_range(me, n_head, &lo, &hi);
        for (size_t g = lo; g < hi; g++) {
            place_token(f, layer, 0, g);
            attend(f, me, layer, 0, 1, g);
        }
        return;
    }
    crl_team_range(me, f->m, &lo, &hi);
    for (size_t i = lo; i < hi; i++)
        for (size_t g = 0; g < n_head; g++) place_token(f, layer, i, g);
    crl_team_barrier(me);
    for (size_t i = 0, e; i < f->m; i = e) { /* dealt out in turn: later tokens see more keys */
        e = unit_end(f, i);
        for (size_t g = 0; g < n_head; g++)
            if (unit++ % me->n == me->id) attend(f, me, layer, i, e, g);
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
    const struct crl_layer *l = &f->model->layer[layer];
    size_t d = f->model->cfg.d_model, stride = crl_round_up(d, CRL_PANEL_ROWS), lo, hi, end;
    const struct crl_rows *x = crl_norm_stream(f, me, l->attn_norm, l->need_qkv);

    project_qkv(f, me, l, x);
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_QKV);
    place_and_attend(f, me, layer);
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_ATTENTION);
    x = output_rows(f, me, l->need_o);
    crl_team_range(me, crl_n_panel(d), &lo, &hi);
    project(f, f->out, stride, x, &l->o, l->o_bias, lo, hi);
    end = hi * CRL_PANEL_ROWS < d ? hi * CRL_PANEL_ROWS : d;
    for (size_t i = 0; i < f->m; i++)
        for (size_t j = lo * CRL_PANEL_ROWS; j < end; j++) f->h[i * d + j] += f->out[i * stride + j];
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_OUTPUT);
}
