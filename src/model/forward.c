/* forward.c - the forward pass from token ids to logits, and the planning of its buffers. */
#include "model/work.h"

#include "model/rope.h"

#include <string.h>
#include <time.h>

static const char *const phase_name[CRL_PHASE_END] = {
    "embed", "qkv", "attention", "output", "router", "gate_up", "down", "head"
};

const char *crl_phase_name(enum crl_phase phase)
{
    return (unsigned)phase < CRL_PHASE_END ? phase_name[phase] : "none";
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void crl_phase_note(const struct crl_forward *f, enum crl_phase phase)
{
    struct crl_profile *p = f->batch->profile;
    uint64_t now = now_ns();

    p->t_ns[phase] += now - p->mark_ns;
    p->mark_ns = now;
}

static size_t round16(size_t n)
{
    return crl_round_up(n, CRL_PANEL_ROWS);
}

static void take_codes(struct crl_rows *r, struct crl_arena *a, size_t m, size_t k)
{
    crl_act_place(&r->fine, a, CRL_Q8_SPAN, m, k);
    crl_act_place(&r->coarse, a, CRL_Q4_SPAN, m, k);
}

static void take_rows(struct crl_rows *r, struct crl_arena *a, size_t m, size_t k)
{
    r->stride = crl_k_pad(k);
    r->x = crl_arena_take(a, m, r->stride * sizeof *r->x);
    take_codes(r, a, m, k);
}

static void take_sums(struct crl_sums *s, struct crl_arena *a, size_t n_query, size_t d_out)
{
    s->max = crl_arena_take(a, n_query, sizeof *s->max);
    s->sum = crl_arena_take(a, n_query, sizeof *s->sum);
    s->acc = crl_arena_take(a, n_query, d_out * sizeof *s->acc);
}

static void take_attn(struct crl_attn *t, struct crl_arena *a, const struct crl_config *cfg)
{
    size_t n = CRL_ATTN_ROWS * (cfg->n_head / cfg->n_kv_head);

    t->d_in = crl_k_pad(cfg->d_head);
    t->d_out = round16(cfg->d_head);
    t->q = crl_arena_take(a, n, t->d_in * sizeof(float));
    crl_act_place(&t->q_codes, a, CRL_Q8_SPAN, n, cfg->d_head);
    crl_act_place(&t->p_codes, a, CRL_Q8_SPAN, n, CRL_KV_BLOCK);
    t->score = crl_arena_take(a, n, CRL_KV_BLOCK * sizeof(float));
    t->part = crl_arena_take(a, n, t->d_out * sizeof(float));
    t->keep = crl_arena_take(a, n, sizeof(float));
    t->gain = crl_arena_take(a, n, sizeof(float));
    take_sums(&t->total, a, n, t->d_out);
    take_sums(&t->slice, a, n, t->d_out);
}

/* Width of the widest feed-forward block. */
static size_t widest(const struct crl_config *cfg)
{
    return cfg->d_ff > cfg->d_ff_dense ? cfg->d_ff : cfg->d_ff_dense;
}

static void take_scratch(struct crl_scratch *s, struct crl_arena *a, const struct crl_config *cfg, size_t batch_max,
                         unsigned n_node)
{
    size_t used = cfg->n_expert_used ? cfg->n_expert_used : 1;

    s->plan.order = crl_arena_take(a, batch_max, used * sizeof *s->plan.order);
    s->plan.count = crl_arena_take(a, (size_t)cfg->n_expert + 1, sizeof *s->plan.count);
    s->plan.group = crl_arena_take(a, (size_t)cfg->n_expert + 1, sizeof *s->plan.group);
    s->plan.piece = crl_arena_take(a, (size_t)cfg->n_expert + 4 * ((size_t)n_node + 1), sizeof *s->plan.piece);
    s->own_route = crl_arena_take(a, used, sizeof *s->own_route);
    s->own_weight = crl_arena_take(a, used, sizeof *s->own_weight);
    take_rows(&s->in, a, 1, cfg->d_model);
    take_rows(&s->routed, a, used, cfg->d_model);
    s->attn_in.stride = crl_k_pad((size_t)cfg->n_head * cfg->d_head);
    take_codes(&s->attn_in, a, 1, (size_t)cfg->n_head * cfg->d_head);
    take_codes(&s->mid_in, a, 1 + used, widest(cfg));
    s->tile = crl_arena_take(a, batch_max * (1 + used), 64 * sizeof(float));
    take_attn(&s->attn, a, cfg);
    s->route = crl_arena_take(a, round16(cfg->n_expert), sizeof(float));
}

/* Carve all buffers; called once to learn the size and once to place them. */
static void lay_out(struct crl_forward *f, struct crl_arena *a)
{
    const struct crl_config *cfg = &f->model->cfg;
    size_t b = f->batch_max, used = cfg->n_expert_used ? cfg->n_expert_used : 1, d_q, d_kv;

    d_q = (size_t)cfg->n_head * cfg->d_head;
    d_kv = (size_t)cfg->n_kv_head * cfg->d_head;
    f->q_stride = round16(d_q);
    f->kv_stride = round16(d_kv);
    f->token = crl_arena_take(a, b, sizeof *f->token);
    f->logit_row = crl_arena_take(a, b, sizeof *f->logit_row);
    f->h = crl_arena_take(a, b, cfg->d_model * sizeof(float));
    f->angle = crl_arena_take(a, b, cfg->d_head * sizeof(float));
    take_rows(&f->normed, a, b, cfg->d_model);
    f->q = crl_arena_take(a, b, f->q_stride * sizeof(float));
    f->k = crl_arena_take(a, b, f->kv_stride * sizeof(float));
    f->v = crl_arena_take(a, b, f->kv_stride * sizeof(float));
    take_rows(&f->attn, a, b, d_q);
    take_sums(&f->slices, a, (size_t)cfg->n_head * CRL_SLICES, round16(cfg->d_head));
    f->done = crl_arena_take(a, cfg->n_kv_head, sizeof *f->done);
    f->out = crl_arena_take(a, b, round16(cfg->d_model) * sizeof(float));
    f->route = crl_arena_take(a, b, used * sizeof *f->route);
    f->weight = crl_arena_take(a, b, used * sizeof *f->weight);
    take_rows(&f->gathered, a, b * used, cfg->d_model);
    take_rows(&f->mid, a, b * (1 + used), widest(cfg));
    f->part = f->model->apart ? crl_arena_take(a, b * used, round16(cfg->d_model) * sizeof(float)) : NULL;
    f->logits = cfg->vocab % CRL_PANEL_ROWS ? crl_arena_take(a, b, round16(cfg->vocab) * sizeof(float)) : NULL;
    f->scratch = crl_arena_take(a, crl_team_size(f->team), sizeof *f->scratch);
    for (unsigned i = 0; i < crl_team_size(f->team); i++) {
        struct crl_scratch plan;
        take_scratch(f->scratch ? &f->scratch[i] : &plan, a, cfg, b, f->model->n_node);
    }
}

enum crl_status crl_forward_new(struct crl_forward **out, const struct crl_model *model,
                                const struct crl_kernels *kernels, struct crl_team *team, size_t batch_max,
                                struct crl_err *err)
{
    struct crl_forward *f = crl_alloc(1, sizeof *f);
    struct crl_arena a = { NULL, 0, 0, false };

    *out = NULL;
    if (!f) return crl_fail(err, CRL_ENOMEM, "no memory for a forward pass");
    f->model = model;
    f->kern = kernels;
    f->team = team;
    f->batch_max = batch_max ? batch_max : 1;
    lay_out(f, &a);
    f->memory = a.overflow ? NULL : crl_alloc(a.used, 1);
    if (!f->memory) {
        crl_free(f);
        return crl_fail(err, CRL_ENOMEM, "no memory for the buffers of %zu tokens at a time (%zu bytes)", batch_max,
                        a.used);
    }
    a = (struct crl_arena){ f->memory, 0, a.used, false };
    lay_out(f, &a);
    *out = f;
    return CRL_OK;
}

void crl_forward_free(struct crl_forward *f)
{
    if (!f) return;
    crl_free(f->memory);
    crl_free(f);
}

size_t crl_forward_batch_max(const struct crl_forward *f)
{
    return f->batch_max;
}

void crl_rows_gemm(const struct crl_forward *f, float *y, size_t y_stride, const struct crl_rows *x, size_t first,
                   size_t m, const struct crl_mat *w, size_t lo, size_t hi)
{
    struct crl_act a = w->format == CRL_Q8 ? x->fine : x->coarse;
    size_t block = crl_row_block(x->stride);

    if (!m || lo >= hi) return;
    for (; m > block; m -= block, first += block, y += block * y_stride)
        crl_rows_gemm(f, y, y_stride, x, first, block, w, lo, hi);
    if (w->format == CRL_BF16) {
        f->kern->gemm_bf16(y, y_stride, x->x + first * x->stride, x->stride, m, w, lo, hi);
        return;
    }
    a.q += first * a.k_pad;
    a.scale += first * a.n_span;
    a.bias += first * (a.k_pad / CRL_BLOCK);
    (w->format == CRL_Q8 ? f->kern->gemm_q8 : f->kern->gemm_q4)(y, y_stride, &a, m, w, lo, hi);
}

void crl_rows_quantise(const struct crl_forward *f, const struct crl_rows *x, size_t i, size_t k, unsigned need)
{
    if (need & CRL_NEED_FINE) f->kern->act_row(&x->fine, i, x->x + i * x->stride, k);
    if (need & CRL_NEED_COARSE) f->kern->act_row(&x->coarse, i, x->x + i * x->stride, k);
}

void crl_rows_reshape(struct crl_rows *x, size_t k)
{
    x->stride = crl_k_pad(k);
    crl_act_shape(&x->fine, x->fine.span, k);
    crl_act_shape(&x->coarse, x->coarse.span, k);
}

const struct crl_rows *crl_norm_stream(struct crl_forward *f, const struct crl_member *me, const float *weight,
                                       unsigned need)
{
    const struct crl_config *cfg = &f->model->cfg;
    size_t d = cfg->d_model, lo, hi;

    if (f->m == 1) {
        struct crl_rows *own = &f->scratch[me->id].in;
        f->kern->rms_norm(own->x, f->h, weight, d, cfg->norm_eps);
        crl_rows_quantise(f, own, 0, d, need);
        return own;
    }
    crl_team_range(me, f->m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        f->kern->rms_norm(f->normed.x + i * f->normed.stride, f->h + i * d, weight, d, cfg->norm_eps);
        crl_rows_quantise(f, &f->normed, i, d, need);
    }
    crl_team_barrier(me);
    return &f->normed;
}

/* Embedding rows and rotation angles of this member's tokens. */
static void embed(struct crl_forward *f, const struct crl_member *me)
{
    const struct crl_config *cfg = &f->model->cfg;
    size_t lo, hi;

    crl_team_range(me, f->m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        const struct crl_token *t = &f->token[i];
        size_t at = t->pos - t->segment->kv->n_pos;
        int32_t id = t->segment->id[at];

        if (t->segment->feature && t->segment->feature[at])
            memcpy(f->h + i * cfg->d_model, t->segment->feature[at], cfg->d_model * sizeof(float));
        else crl_model_embed(f->model, me->node, (size_t)id, f->h + i * cfg->d_model);
        crl_rope_angles(f->angle + i * cfg->d_head, f->model->inv_freq, cfg->d_head / 2, t->pos);
    }
}

static void call_tap(const struct crl_forward *f, const struct crl_member *me, uint32_t layer)
{
    if (!f->batch->tap) return;
    if (me->id == 0) f->batch->tap(f->batch->tap_ctx, layer, f->h, f->m);
    crl_team_barrier(me);
}

/* Logits of the normed rows, block by block: what they are for is done before the next block takes their place. */
static void head_blocks(struct crl_forward *f, const struct crl_member *me)
{
    const struct crl_batch *b = f->batch;
    const struct crl_stripe *w = &f->model->view[me->node].head;
    size_t stride = round16(f->model->cfg.vocab), lo, hi;

    crl_stripe_range(me, w, &lo, &hi);
    for (size_t first = 0, n; first < f->n_logits; first += n) {
        n = f->n_logits - first < b->block_rows ? f->n_logits - first : b->block_rows;
        crl_rows_gemm(f, b->block, stride, &f->normed, first, n, &w->mat, lo, hi);
        crl_count_read(f, me, &w->mat, hi - lo);
        crl_team_barrier(me);
        b->take(b->take_ctx, me, first, b->block, stride, n);
        crl_team_barrier(me);
    }
}

/* Final norm and head, only for the tokens whose logits are wanted. */
static void head(struct crl_forward *f, const struct crl_member *me)
{
    const struct crl_config *cfg = &f->model->cfg;
    const struct crl_view *v = &f->model->view[me->node];
    size_t d = cfg->d_model, lo, hi, stride = round16(cfg->vocab);
    float *to = f->logits ? f->logits : f->batch->logits;

    if (!f->n_logits) return;
    crl_team_range(me, f->n_logits, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        f->kern->rms_norm(f->normed.x + i * f->normed.stride, f->h + f->logit_row[i] * d, v->final_norm, d,
                          cfg->norm_eps);
        crl_rows_quantise(f, &f->normed, i, d, f->model->need_head);
    }
    crl_team_barrier(me);
    crl_show_inputs(f, me, CRL_KIND_HEAD, 0, -1, &f->normed, 0, f->n_logits);
    if (f->batch->take) {
        head_blocks(f, me);
        return;
    }
    crl_stripe_range(me, &v->head, &lo, &hi);
    crl_rows_gemm(f, to, stride, &f->normed, 0, f->n_logits, &v->head.mat, lo, hi);
    crl_count_read(f, me, &v->head.mat, hi - lo);
    if (!f->logits) return;
    crl_team_barrier(me);
    crl_team_range(me, f->n_logits, &lo, &hi);
    for (size_t i = lo; i < hi; i++)
        memcpy(f->batch->logits + i * cfg->vocab, to + i * stride, cfg->vocab * sizeof(float));
}

static void run_member(const struct crl_member *me, void *ctx)
{
    struct crl_forward *f = ctx;

    if (f->batch->profile && me->id == 0) f->batch->profile->mark_ns = now_ns();
    embed(f, me);
    crl_team_barrier(me);
    crl_phase_done(f, me, CRL_PHASE_EMBED);
    call_tap(f, me, 0);
    for (uint32_t l = 0; l < f->model->cfg.n_layer; l++) {
        crl_attention(f, me, l);
        crl_feed_forward(f, me, l);
        call_tap(f, me, l + 1);
    }
    head(f, me);
    if (f->batch->profile) crl_team_barrier(me); /* all members' share of the head, not the first one's alone */
    crl_phase_done(f, me, CRL_PHASE_HEAD);
}

static void list_tokens(struct crl_forward *f, const struct crl_batch *batch)
{
    f->m = 0;
    f->n_logits = 0;
    for (size_t s = 0; s < batch->n_segment; s++) {
        struct crl_segment *seg = &batch->segment[s];
        for (size_t i = 0; i < seg->n_tok; i++) {
            f->token[f->m] = (struct crl_token){ seg, seg->kv->n_pos + i };
            bool wanted = seg->all_logits ? i >= seg->logits_from : i + 1 == seg->n_tok;
            if (wanted && !seg->no_logits) f->logit_row[f->n_logits++] = f->m;
            f->m++;
        }
    }
}

uint64_t crl_forward_bytes(const struct crl_forward *f, unsigned node)
{
    uint64_t bytes = 0;
    size_t id = 0;

    for (unsigned i = 0; i < node; i++) id += crl_team_node_size(f->team, i);
    for (unsigned i = 0; i < crl_team_node_size(f->team, node); i++) bytes += f->scratch[id + i].weight_bytes;
    return bytes;
}

void crl_forward_run(struct crl_forward *f, const struct crl_batch *batch)
{
    f->batch = batch;
    list_tokens(f, batch);
    crl_team_run(f->team, run_member, f);
    for (size_t s = 0; s < batch->n_segment; s++) batch->segment[s].kv->n_pos += batch->segment[s].n_tok;
}
