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
        if (cfg->qk_norm) crl_head_norm(k, d, cfg->norm_eps);
        for (size_t j = 0; j < per_kv; j++) {
            crl_rope_rotate(q + j * d, angle, d / 2);
            if (cfg->qk_norm) crl_head_norm(q + j * d, d, cfg->norm_eps);
        }
    } else {
        float scale = crl_query_scale(cfg, t->pos);
        for (size_t j = 0; j < per_kv * d; j++) q[j] *= scale;
    }
    crl_kv_put(t->segment->kv, layer, (uint32_t)g, t->pos, k, f->v + i * f->kv_stride + g * d);
}

/* One query's running softmax: largest score, sum of exponentials, weighted sum of values. */
struct query {
    float *acc;   /* [d_head] */
    float *score; /* [CRL_ATTN_KEYS] */
    float max, sum;
};

static float dot(const float *a, const float *b, size_t n)
{
    float s[8] = { 0 };
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++) s[j] += a[i + j] * b[i + j];
    for (; i < n; i++) s[0] += a[i] * b[i];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

/* Take n keys and values into a query (online softmax). */
static void absorb(struct query *s, const float *q, const float *keys, const float *values, size_t n, size_t d,
                   float scale)
{
    float max = s->max, shrink;

    for (size_t j = 0; j < n; j++) {
        s->score[j] = dot(q, keys + j * d, d) * scale;
        if (s->score[j] > max || isnan(s->score[j])) max = s->score[j];
    }
    shrink = s->sum > 0 ? expf(s->max - max) : 0;
    s->sum *= shrink;
    for (size_t i = 0; i < d; i++) s->acc[i] *= shrink;
    for (size_t j = 0; j < n; j++) {
        float p = expf(s->score[j] - max);
        s->sum += p;
        for (size_t i = 0; i < d; i++) s->acc[i] += p * values[j * d + i];
    }
    s->max = max;
}

/* Query heads of kv head g for tokens [i0, i1) of one segment. Each query meets its keys in blocks that start at the
 * first key it sees, whatever the batch: the result does not depend on how a prompt was cut. */
static void attend(struct crl_forward *f, const struct crl_member *me, uint32_t layer, size_t i0, size_t i1, size_t g)
{
    const struct crl_config *cfg = &f->model->cfg;
    struct crl_scratch *s = &f->scratch[me->id];
    const struct crl_kv *kv = f->token[i0].segment->kv;
    size_t d = cfg->d_head, per_kv = cfg->n_head / cfg->n_kv_head, n_query = (i1 - i0) * per_kv;
    size_t first = crl_kv_first(kv, layer, f->token[i0].pos), last = f->token[i1 - 1].pos;
    float scale = 1 / sqrtf((float)d);
    float *acc = s->attn, *score = acc + CRL_ATTN_ROWS * per_kv * d, *max = score + CRL_ATTN_KEYS;
    float *sum = max + CRL_ATTN_ROWS * per_kv;

    for (size_t n = 0; n < n_query; n++) {
        memset(acc + n * d, 0, d * sizeof *acc);
        max[n] = -INFINITY;
        sum[n] = 0;
    }
    for (size_t at = first; at <= last; at += CRL_ATTN_KEYS) {
        size_t n_key = last + 1 - at < CRL_ATTN_KEYS ? last + 1 - at : CRL_ATTN_KEYS;
        const float *keys = crl_kv_keys(kv, layer, (uint32_t)g, at, n_key, s->keys);
        const float *values = crl_kv_values(kv, layer, (uint32_t)g, at, n_key, s->values);

        for (size_t n = 0; n < n_query; n++) {
            size_t i = i0 + n / per_kv, pos = f->token[i].pos, see = pos < at ? 0 : pos - at + 1;
            struct query one = { acc + n * d, score, max[n], sum[n] };

            if (!see) continue;
            absorb(&one, f->q + i * f->q_stride + (g * per_kv + n % per_kv) * d, keys, values,
                   see < n_key ? see : n_key, d, scale);
            max[n] = one.max;
            sum[n] = one.sum;
        }
    }
    for (size_t n = 0; n < n_query; n++) {
        float *to = f->attn.x + (i0 + n / per_kv) * f->attn.stride + (g * per_kv + n % per_kv) * d;
        for (size_t j = 0; j < d; j++) to[j] = acc[n * d + j] / sum[n];
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
static const struct crl_rows *output_rows(struct crl_forward *f, const struct crl_member *me)
{
    size_t d_q = (size_t)f->model->cfg.n_head * f->model->cfg.d_head, lo, hi;

    if (f->m == 1) {
        struct crl_rows *own = &f->scratch[me->id].attn_in;
        own->x = f->attn.x;
        crl_rows_quantise(f, own, 0, d_q);
        return own;
    }
    crl_team_range(me, f->m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) crl_rows_quantise(f, &f->attn, i, d_q);
    crl_team_barrier(me);
    return &f->attn;
}

void crl_attention(struct crl_forward *f, const struct crl_member *me, uint32_t layer)
{
    const struct crl_layer *l = &f->model->layer[layer];
    size_t d = f->model->cfg.d_model, stride = crl_round_up(d, CRL_PANEL_ROWS), lo, hi, end;
    const struct crl_rows *x = crl_norm_stream(f, me, l->attn_norm);

    project_qkv(f, me, l, x);
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_QKV);
    place_and_attend(f, me, layer);
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_ATTENTION);
    x = output_rows(f, me);
    crl_team_range(me, crl_n_panel(d), &lo, &hi);
    project(f, f->out, stride, x, &l->o, l->o_bias, lo, hi);
    end = hi * CRL_PANEL_ROWS < d ? hi * CRL_PANEL_ROWS : d;
    for (size_t i = 0; i < f->m; i++)
        for (size_t j = lo * CRL_PANEL_ROWS; j < end; j++) f->h[i * d + j] += f->out[i * stride + j];
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_OUTPUT);
}
