/* tower.c - the encoder layers, then pixel shuffle, adapter and projector. docs/vision.md has the equations in this
 * order. */
#include "vision/tower.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define NORM_EPS 1e-5f /* fixed in the reference, whatever norm_eps says */
#define QUERY_ROWS 64  /* queries of one attention step */
#define GROUP_MOST 4
#define BLOCK_BYTES ((size_t)256 << 10) /* of the codes of rows that pass all panels together */
#define BLOCK_LEAST 32                  /* such rows */

/* A matrix as one memory node sees it: the panels [lo, hi) are the node's own to compute. */
struct stripe {
    struct crl_mat mat;
    size_t lo, hi;
};

struct layer {
    const float *attn_norm, *attn_norm_bias, *ffn_norm, *ffn_norm_bias;
    const float *q_bias, *k_bias, *v_bias, *o_bias, *fc1_bias, *fc2_bias;
    struct stripe q, k, v, o, fc1, fc2;
};

/* All weights from one memory node's side. */
struct view {
    const float *class_row, *position, *pre_norm, *pre_bias, *post_norm, *post_bias;
    struct stripe patch, adapter_1, adapter_2, projector;
    struct layer *layer; /* [n_layer] */
};

/* Rows that multiply weights: floats for bf16 matrices, codes for q8 (fine) and q4 (coarse). */
struct rows {
    float *x; /* [m][stride], zeros from the width to stride */
    size_t stride;
    struct crl_act fine, coarse;
};

/* One head of one tile, private to a team member. Keys and values are matrices in panels of float. */
struct head {
    float *q;      /* [QUERY_ROWS][d_in] */
    float *keys;   /* panels of w[tokens][d_head] */
    float *values; /* panels of w[d_head][tokens] */
    float *score;  /* [QUERY_ROWS][score_stride] */
    float *out;    /* [QUERY_ROWS][d_out] */
};

struct crl_tower {
    const struct crl_kernels *kern;
    struct crl_team *team;
    struct crl_vision_config cfg;
    size_t d_text;   /* of the rows that come out */
    size_t side;     /* patches of a tile's side */
    size_t n_patch;  /* side * side */
    size_t n_tok;    /* n_patch + 1: the class token is the last */
    size_t n_out;    /* tokens that leave a tile */
    size_t d_head;
    size_t group;    /* tiles at once */
    struct view *view;     /* [n_node] */
    unsigned n_node;
    float *angle;          /* [n_tok][d_head]: cos and sin of every pair */
    unsigned char *memory; /* the arena of what follows */
    size_t bytes;
    float *h;              /* [group * n_tok][d_model] stream */
    struct rows in;        /* [group * n_tok] rows of d_model: normed stream, then what the heads found */
    float *q, *k, *v;      /* [group * n_tok][wide]; v also takes outputs of o and fc2 */
    size_t wide;           /* d_model rounded up to panels */
    struct rows mid;       /* [group * n_tok] rows of d_ff; patches before the layers, shuffled patches after them */
    size_t mid_wide;       /* inputs that its memory is for */
    float *y;              /* [group * n_out][y_wide] products of adapter and projector */
    size_t y_wide;
    struct head *head;     /* [team size] */

    /* of the running call */
    const struct crl_tiles *tiles;
    const struct crl_preprocess *pre;
    size_t first, n; /* tiles */
    float *rows;     /* out */
    struct crl_tower_profile *profile;
    uint64_t mark_ns;
};

static size_t round16(size_t n)
{
    return crl_round_up(n, CRL_PANEL_ROWS);
}

/* --- building ------------------------------------------------------------------------------------------------ */

struct binder {
    const struct crl_weights *w;
    unsigned node;
};

static size_t find(const struct binder *b, enum crl_kind kind, uint32_t layer)
{
    return crl_schema_find(crl_pack_schema(crl_weights_pack(b->w)), kind, layer, 0);
}

static void bind(const struct binder *b, enum crl_kind kind, uint32_t layer, struct stripe *s)
{
    const struct crl_pack *pack = crl_weights_pack(b->w);
    size_t weight = find(b, kind, layer);

    if (crl_weights_mat(b->w, weight, 0, b->node, &s->mat, &s->lo, &s->hi)) return;
    s->mat.format = crl_pack_format(pack, weight); /* nothing to compute, but everybody knows the shape */
    s->mat.n = crl_pack_schema(pack)->weight[weight].n;
    s->mat.k = crl_pack_schema(pack)->weight[weight].k;
}

static const float *bind_vector(const struct binder *b, enum crl_kind kind, uint32_t layer)
{
    struct crl_mat m;

    crl_weights_panel(b->w, find(b, kind, layer), b->node, 0, &m);
    return (const float *)(const void *)m.panel;
}

static void bind_layer(const struct binder *b, struct layer *l, uint32_t i)
{
    l->attn_norm = bind_vector(b, CRL_KIND_V_ATTN_NORM, i);
    l->attn_norm_bias = bind_vector(b, CRL_KIND_V_ATTN_NORM_BIAS, i);
    l->ffn_norm = bind_vector(b, CRL_KIND_V_FFN_NORM, i);
    l->ffn_norm_bias = bind_vector(b, CRL_KIND_V_FFN_NORM_BIAS, i);
    l->q_bias = bind_vector(b, CRL_KIND_V_Q_BIAS, i);
    l->k_bias = bind_vector(b, CRL_KIND_V_K_BIAS, i);
    l->v_bias = bind_vector(b, CRL_KIND_V_V_BIAS, i);
    l->o_bias = bind_vector(b, CRL_KIND_V_O_BIAS, i);
    l->fc1_bias = bind_vector(b, CRL_KIND_V_FC1_BIAS, i);
    l->fc2_bias = bind_vector(b, CRL_KIND_V_FC2_BIAS, i);
    bind(b, CRL_KIND_V_Q, i, &l->q);
    bind(b, CRL_KIND_V_K, i, &l->k);
    bind(b, CRL_KIND_V_V, i, &l->v);
    bind(b, CRL_KIND_V_O, i, &l->o);
    bind(b, CRL_KIND_V_FC1, i, &l->fc1);
    bind(b, CRL_KIND_V_FC2, i, &l->fc2);
}

static enum crl_status bind_view(const struct binder *b, struct view *v, uint32_t n_layer, struct crl_err *err)
{
    v->layer = crl_alloc(n_layer, sizeof *v->layer);
    if (!v->layer) return crl_fail(err, CRL_ENOMEM, "no memory for %u layers of a vision tower", n_layer);
    v->class_row = bind_vector(b, CRL_KIND_V_CLASS, 0);
    v->position = bind_vector(b, CRL_KIND_V_POSITION, 0);
    v->pre_norm = bind_vector(b, CRL_KIND_V_PRE_NORM, 0);
    v->pre_bias = bind_vector(b, CRL_KIND_V_PRE_BIAS, 0);
    v->post_norm = bind_vector(b, CRL_KIND_V_POST_NORM, 0);
    v->post_bias = bind_vector(b, CRL_KIND_V_POST_BIAS, 0);
    bind(b, CRL_KIND_V_PATCH, 0, &v->patch);
    bind(b, CRL_KIND_V_ADAPTER_1, 0, &v->adapter_1);
    bind(b, CRL_KIND_V_ADAPTER_2, 0, &v->adapter_2);
    bind(b, CRL_KIND_V_PROJECTOR, 0, &v->projector);
    for (uint32_t i = 0; i < n_layer; i++) bind_layer(b, &v->layer[i], i);
    return CRL_OK;
}

static enum crl_status bind_all(struct crl_tower *t, const struct crl_weights *w, struct crl_err *err)
{
    struct binder b = { w, 0 };
    enum crl_status st = CRL_OK;

    t->n_node = crl_weights_plan(w)->n_node;
    t->view = crl_alloc(t->n_node, sizeof *t->view);
    if (!t->view) return crl_fail(err, CRL_ENOMEM, "no memory for a vision tower");
    for (; !st && b.node < t->n_node; b.node++) st = bind_view(&b, &t->view[b.node], t->cfg.n_layer, err);
    return st;
}

/* Angles of all tokens: the first half of a head's pairs turn by the column, the second by the row, both counted from 1;
 * the class token does not turn. The product is one of floats, as in the reference. */
static void fill_angles(struct crl_tower *t)
{
    size_t pairs = t->d_head / 2, half = pairs / 2;

    for (size_t tok = 0; tok < t->n_tok; tok++)
        for (size_t j = 0; j < pairs; j++) {
            float freq = 1.0f / powf(t->cfg.rope_theta, (float)(2 * (j % half)) / (float)pairs);
            size_t at = j < half ? tok % t->side : tok / t->side;
            float angle = tok < t->n_patch ? (float)(at + 1) * freq : 0;
            t->angle[tok * t->d_head + 2 * j] = (float)cos((double)angle);
            t->angle[tok * t->d_head + 2 * j + 1] = (float)sin((double)angle);
        }
}

static void take_rows(struct rows *r, struct crl_arena *a, size_t m, size_t k)
{
    r->stride = crl_k_pad(k);
    r->x = crl_arena_take(a, m, r->stride * sizeof *r->x);
    crl_act_place(&r->fine, a, CRL_Q8_SPAN, m, k);
    crl_act_place(&r->coarse, a, CRL_Q4_SPAN, m, k);
}

static void take_head(const struct crl_tower *t, struct head *h, struct crl_arena *a)
{
    h->q = crl_arena_take(a, QUERY_ROWS, crl_k_pad(t->d_head) * sizeof *h->q);
    h->keys = crl_arena_take(a, round16(t->n_tok), crl_k_pad(t->d_head) * sizeof *h->keys);
    h->values = crl_arena_take(a, round16(t->d_head), crl_k_pad(t->n_tok) * sizeof *h->values);
    h->score = crl_arena_take(a, QUERY_ROWS, crl_k_pad(t->n_tok) * sizeof *h->score);
    h->out = crl_arena_take(a, QUERY_ROWS, round16(t->d_head) * sizeof *h->out);
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void lay_out(struct crl_tower *t, struct crl_arena *a)
{
    const struct crl_vision_config *v = &t->cfg;
    size_t m = t->group * t->n_tok, patch = (size_t)3 * v->patch * v->patch;

    t->wide = round16(v->d_model);
    /* The output of fc1 becomes an input where it lies: a padded row has room for its last panel. */
    t->mid_wide = most(crl_k_pad(v->d_ff), most(crl_k_pad(patch), crl_k_pad(v->d_out)));
    t->h = crl_arena_take(a, m, v->d_model * sizeof *t->h);
    take_rows(&t->in, a, m, v->d_model);
    t->q = crl_arena_take(a, m, t->wide * sizeof *t->q);
    t->k = crl_arena_take(a, m, t->wide * sizeof *t->k);
    t->v = crl_arena_take(a, m, t->wide * sizeof *t->v);
    take_rows(&t->mid, a, m, t->mid_wide);
    t->y_wide = most(round16(v->d_out), round16(t->d_text));
    t->y = crl_arena_take(a, t->group * t->n_out, t->y_wide * sizeof *t->y);
    t->head = crl_arena_take(a, crl_team_size(t->team), sizeof *t->head);
    for (unsigned i = 0; i < crl_team_size(t->team); i++) {
        struct head plan;
        take_head(t, t->head ? &t->head[i] : &plan, a);
    }
}

enum crl_status crl_tower_new(struct crl_tower **out, const struct crl_weights *weights,
                              const struct crl_kernels *kernels, struct crl_team *team, size_t group,
                              struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(crl_weights_pack(weights));
    struct crl_tower *t = crl_alloc(1, sizeof *t);
    struct crl_arena a = { NULL, 0, 0, false };
    enum crl_status st;

    *out = NULL;
    if (!t) return crl_fail(err, CRL_ENOMEM, "no memory for a vision tower");
    t->kern = kernels;
    t->team = team;
    t->cfg = cfg->vision;
    t->d_text = cfg->d_model;
    t->side = cfg->vision.image / cfg->vision.patch;
    t->n_patch = crl_vision_patches(cfg);
    t->n_tok = t->n_patch + 1;
    t->n_out = crl_vision_tokens(cfg);
    t->d_head = cfg->vision.d_model / cfg->vision.n_head;
    /* A tile's rows keep a few cores busy for long; many cores share more of them between two barriers. */
    t->group = group ? group : crl_team_size(team) / 8;
    t->group = t->group < 1 ? 1 : t->group > GROUP_MOST ? GROUP_MOST : t->group;
    lay_out(t, &a);
    t->bytes = a.used;
    st = bind_all(t, weights, err);
    t->angle = crl_alloc(t->n_tok, t->d_head * sizeof *t->angle);
    t->memory = a.overflow ? NULL : crl_alloc(a.used, 1);
    if (!st && (!t->angle || !t->memory))
        st = crl_fail(err, CRL_ENOMEM, "no memory for the buffers of a vision tower (%zu bytes)", a.used);
    if (st) {
        crl_tower_free(t);
        return st;
    }
    a = (struct crl_arena){ t->memory, 0, a.used, false };
    lay_out(t, &a);
    fill_angles(t);
    *out = t;
    return CRL_OK;
}

void crl_tower_free(struct crl_tower *t)
{
    if (!t) return;
    for (unsigned i = 0; t->view && i < t->n_node; i++) crl_free(t->view[i].layer);
    crl_free(t->view);
    crl_free(t->angle);
    crl_free(t->memory);
    crl_free(t);
}

size_t crl_tower_bytes(const struct crl_tower *t)
{
    return t->bytes;
}

size_t crl_tower_group(const struct crl_tower *t)
{
    return t->group;
}

/* --- clock and products -------------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

enum phase { LINEAR, ATTENTION, OTHER };

/* A join of all members; the time since the last one belongs to `phase`. */
static void join(struct crl_tower *t, const struct crl_member *me, enum phase phase)
{
    struct crl_tower_profile *p = t->profile;
    uint64_t now, spent;

    crl_team_barrier(me);
    if (!p || me->id) return;
    now = now_ns();
    spent = now - t->mark_ns;
    t->mark_ns = now;
    *(phase == LINEAR ? &p->linear_ns : phase == ATTENTION ? &p->attention_ns : &p->other_ns) += spent;
}

/* Codes of row i in the form that w reads. */
static void quantise(const struct crl_tower *t, const struct rows *x, size_t i, size_t k, const struct stripe *w)
{
    if (w->mat.format == CRL_Q8) t->kern->act_row(&x->fine, i, x->x + i * x->stride, k);
    if (w->mat.format == CRL_Q4) t->kern->act_row(&x->coarse, i, x->x + i * x->stride, k);
}

/* y[i][..] = x[i] . w for rows i from `first` to first + m and the panels [lo, hi) of w. */
static void multiply(const struct crl_tower *t, float *y, size_t y_stride, const struct rows *x, size_t first, size_t m,
                     const struct crl_mat *w, size_t lo, size_t hi)
{
    struct crl_act a = w->format == CRL_Q8 ? x->fine : x->coarse;

    if (lo >= hi) return;
    y += first * y_stride;
    if (w->format == CRL_BF16) {
        t->kern->gemm_bf16(y, y_stride, x->x + first * x->stride, x->stride, m, w, lo, hi);
        return;
    }
    a.q += first * a.k_pad;
    a.scale += first * a.n_span;
    a.bias += first * (a.k_pad / CRL_BLOCK);
    (w->format == CRL_Q8 ? t->kern->gemm_q8 : t->kern->gemm_q4)(y, y_stride, &a, m, w, lo, hi);
}

/* Rows of a block: its codes stay in the second level cache while all panels pass, and so does what the panels made
 * until the bias is added. */
static size_t block_rows(const struct rows *x)
{
    size_t n = BLOCK_BYTES / (x->stride * sizeof(int8_t));

    return n < BLOCK_LEAST ? BLOCK_LEAST : n;
}

/* Rows of x become rows of k inputs. */
static void reshape(struct rows *x, size_t k)
{
    x->stride = crl_k_pad(k);
    crl_act_shape(&x->fine, CRL_Q8_SPAN, k);
    crl_act_shape(&x->coarse, CRL_Q4_SPAN, k);
}

/* The panels of w that are this member's, and the columns they make. */
static void own_panels(const struct crl_member *me, const struct stripe *w, size_t *lo, size_t *hi, size_t *first,
                       size_t *end)
{
    crl_part(w->hi - w->lo, me->node_id, me->node_n, lo, hi);
    *lo += w->lo;
    *hi += w->lo;
    *first = *lo * CRL_PANEL_ROWS;
    *end = *hi * CRL_PANEL_ROWS < w->mat.n ? *hi * CRL_PANEL_ROWS : w->mat.n;
}

/* y = x . w + bias for the panels of this member. */
static void linear(struct crl_tower *t, const struct crl_member *me, float *y, size_t y_stride, const struct rows *x,
                   size_t m, const struct stripe *w, const float *bias)
{
    size_t lo, hi, first, end;

    own_panels(me, w, &lo, &hi, &first, &end);
    for (size_t r = 0, n, each = block_rows(x); r < m; r += n) {
        n = m - r < each ? m - r : each;
        multiply(t, y, y_stride, x, r, n, &w->mat, lo, hi);
        for (size_t i = r; bias && i < r + n; i++)
            for (size_t j = first; j < end; j++) y[i * y_stride + j] += bias[j];
    }
}

/* h += x . w + bias */
static void add_linear(struct crl_tower *t, const struct crl_member *me, const struct rows *x, const struct stripe *w,
                       const float *bias)
{
    size_t d = t->cfg.d_model, m = t->n * t->n_tok, lo, hi, first, end;

    own_panels(me, w, &lo, &hi, &first, &end);
    for (size_t r = 0, n, each = block_rows(x); r < m; r += n) {
        n = m - r < each ? m - r : each;
        multiply(t, t->v, t->wide, x, r, n, &w->mat, lo, hi);
        for (size_t i = r; i < r + n; i++)
            for (size_t j = first; j < end; j++) t->h[i * d + j] += t->v[i * t->wide + j] + bias[j];
    }
    join(t, me, LINEAR);
}

/* --- patches and the norm before the layers ------------------------------------------------------------------- */

/* The pixels of patch (py, px) of a tile by channel, row and column. */
static void cut_patch(const struct crl_tower *t, const uint8_t *tile, size_t patch, float *out)
{
    size_t p = t->cfg.patch, image = t->cfg.image, y0 = patch / t->side * p, x0 = patch % t->side * p;

    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < p; y++) {
            const uint8_t *from = tile + ((y0 + y) * image + x0) * 3 + c;
            for (size_t x = 0; x < p; x++) *out++ = t->pre->value[c][from[3 * x]];
        }
}

/* h = LN(patches . w + positions), the class token last. mid holds the patches: its rows are their inputs now. */
static void embed(struct crl_tower *t, const struct crl_member *me)
{
    size_t d = t->cfg.d_model, k = (size_t)3 * t->cfg.patch * t->cfg.patch, m = t->n * t->n_patch, lo, hi;
    size_t tile_bytes = crl_tile_bytes(t->tiles);
    const struct view *v = &t->view[me->node];
    struct rows in = t->mid;

    reshape(&in, k);
    crl_team_range(me, m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        float *x = in.x + i * in.stride;
        cut_patch(t, t->tiles->rgb + (t->first + i / t->n_patch) * tile_bytes, i % t->n_patch, x);
        memset(x + k, 0, (in.stride - k) * sizeof *x);
        quantise(t, &in, i, k, &v->patch);
    }
    join(t, me, OTHER);
    linear(t, me, t->v, t->wide, &in, m, &v->patch, NULL);
    join(t, me, LINEAR);
    crl_team_range(me, t->n * t->n_tok, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        size_t tok = i % t->n_tok;
        const float *from = tok < t->n_patch ? t->v + (i / t->n_tok * t->n_patch + tok) * t->wide : v->class_row;
        float *h = t->h + i * d;
        for (size_t j = 0; j < d; j++) h[j] = from[j] + v->position[tok * d + j];
        t->kern->layer_norm(h, h, v->pre_norm, v->pre_bias, d, NORM_EPS);
    }
    join(t, me, OTHER);
}

/* --- attention ----------------------------------------------------------------------------------------------- */

/* Keys, rotated, and values of head `at` of a tile whose first token is row `row`, as panels. */
static void load_head(const struct crl_tower *t, struct head *h, size_t row, size_t at)
{
    size_t d = t->d_head, k_in = crl_k_pad(d), k_tok = crl_k_pad(t->n_tok);

    for (size_t i = 0; i < t->n_tok; i++) { /* what fills up panels was zero from the start and stays so */
        float *k = t->k + (row + i) * t->wide + at * d;
        const float *v = t->v + (row + i) * t->wide + at * d;
        float *to = h->keys + i / CRL_PANEL_ROWS * CRL_PANEL_ROWS * k_in + i % CRL_PANEL_ROWS;
        t->kern->rotate(k, t->angle + i * d, d / 2);
        for (size_t j = 0; j < d; j++) to[j * CRL_PANEL_ROWS] = k[j];
        for (size_t j = 0; j < d; j++)
            h->values[j / CRL_PANEL_ROWS * CRL_PANEL_ROWS * k_tok + i * CRL_PANEL_ROWS + j % CRL_PANEL_ROWS] = v[j];
    }
}

static struct crl_mat float_panels(const float *p, size_t n, size_t k)
{
    struct crl_mat m = { .format = CRL_F32, .n = n, .k = k, .panel = (const unsigned char *)p };

    m.panel_bytes = CRL_PANEL_ROWS * crl_k_pad(k) * sizeof *p;
    return m;
}

/* Every token of the tile sees every other: softmax(q . k / sqrt(d)) . v of one head, into the rows of `in`. */
static void attend(struct crl_tower *t, struct head *h, size_t tile, size_t at)
{
    size_t d = t->d_head, k_in = crl_k_pad(d), d_out = round16(d), row = tile * t->n_tok, stride = crl_k_pad(t->n_tok);
    struct crl_mat keys = float_panels(h->keys, t->n_tok, d), values = float_panels(h->values, d, t->n_tok);
    float scale = 1 / sqrtf((float)d);

    load_head(t, h, row, at);
    for (size_t q0 = 0; q0 < t->n_tok; q0 += QUERY_ROWS) {
        size_t n = t->n_tok - q0 < QUERY_ROWS ? t->n_tok - q0 : QUERY_ROWS;
        float sum[QUERY_ROWS];

        for (size_t i = 0; i < n; i++) {
            float *q = h->q + i * k_in; /* what lies behind the head's width stays 0 */
            memcpy(q, t->q + (row + q0 + i) * t->wide + at * d, d * sizeof *q);
            t->kern->rotate(q, t->angle + (q0 + i) * d, d / 2);
        }
        t->kern->gemm_f32(h->score, stride, h->q, k_in, n, &keys, 0, crl_n_panel(t->n_tok));
        for (size_t i = 0; i < n; i++) {
            float *p = h->score + i * stride, max = -INFINITY;
            sum[i] = 0;
            t->kern->softmax(p, t->n_tok, scale, false, &max, &sum[i]);
            memset(p + t->n_tok, 0, (stride - t->n_tok) * sizeof *p);
        }
        t->kern->gemm_f32(h->out, d_out, h->score, stride, n, &values, 0, crl_n_panel(d));
        for (size_t i = 0; i < n; i++) {
            float *to = t->in.x + (row + q0 + i) * t->in.stride + at * d;
            for (size_t j = 0; j < d; j++) to[j] = h->out[i * d_out + j] / sum[i];
        }
    }
}

/* --- one layer ----------------------------------------------------------------------------------------------- */

/* in = LN(h), with the codes that w wants; a and b besides. */
static void norm(struct crl_tower *t, const struct crl_member *me, const float *weight, const float *bias,
                 const struct stripe *w, const struct stripe *a, const struct stripe *b)
{
    size_t d = t->cfg.d_model, lo, hi;

    crl_team_range(me, t->n * t->n_tok, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        t->kern->layer_norm(t->in.x + i * t->in.stride, t->h + i * d, weight, bias, d, NORM_EPS);
        quantise(t, &t->in, i, d, w);
        if (a && a->mat.format != w->mat.format) quantise(t, &t->in, i, d, a);
        if (b && b->mat.format != w->mat.format && b->mat.format != a->mat.format) quantise(t, &t->in, i, d, b);
    }
    join(t, me, OTHER);
}

static void self_attention(struct crl_tower *t, const struct crl_member *me, const struct layer *l)
{
    size_t m = t->n * t->n_tok, d = t->cfg.d_model, lo, hi;

    norm(t, me, l->attn_norm, l->attn_norm_bias, &l->q, &l->k, &l->v);
    linear(t, me, t->q, t->wide, &t->in, m, &l->q, l->q_bias);
    linear(t, me, t->k, t->wide, &t->in, m, &l->k, l->k_bias);
    linear(t, me, t->v, t->wide, &t->in, m, &l->v, l->v_bias);
    join(t, me, LINEAR);
    crl_team_range(me, t->n * t->cfg.n_head, &lo, &hi);
    for (size_t i = lo; i < hi; i++) attend(t, &t->head[me->id], i / t->cfg.n_head, i % t->cfg.n_head);
    join(t, me, ATTENTION);
    crl_team_range(me, m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) quantise(t, &t->in, i, d, &l->o);
    join(t, me, LINEAR);
    add_linear(t, me, &t->in, &l->o, l->o_bias);
}

/* Rows of mid through gelu, with the codes that `next` wants. */
static void activate(struct crl_tower *t, const struct crl_member *me, size_t m, size_t n, const float *bias,
                     const struct stripe *next)
{
    size_t lo, hi;

    crl_team_range(me, m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        float *x = t->mid.x + i * t->mid.stride;
        t->kern->gelu(x, bias, n);
        memset(x + n, 0, (t->mid.stride - n) * sizeof *x); /* a last panel may have written there */
        quantise(t, &t->mid, i, n, next);
    }
    join(t, me, OTHER);
}

static void feed_forward(struct crl_tower *t, const struct crl_member *me, const struct layer *l)
{
    size_t m = t->n * t->n_tok;

    norm(t, me, l->ffn_norm, l->ffn_norm_bias, &l->fc1, NULL, NULL);
    linear(t, me, t->mid.x, t->mid.stride, &t->in, m, &l->fc1, NULL);
    join(t, me, LINEAR);
    activate(t, me, m, t->cfg.d_ff, l->fc1_bias, &l->fc2);
    add_linear(t, me, &t->mid, &l->fc2, l->fc2_bias);
}

/* --- after the layers ---------------------------------------------------------------------------------------- */

/* Norm of all patches, the class token dropped; each square of shuffle x shuffle patches becomes one row, its patches
 * row by row. */
static void shuffle(struct crl_tower *t, const struct crl_member *me)
{
    const struct view *v = &t->view[me->node];
    size_t d = t->cfg.d_model, s = t->cfg.shuffle, side = t->side / s, lo, hi;

    crl_team_range(me, t->n * t->n_out, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        size_t y0 = i % t->n_out / side * s, x0 = i % side * s;
        float *to = t->mid.x + i * t->mid.stride;
        for (size_t j = 0; j < s * s; j++) {
            size_t tok = (y0 + j / s) * t->side + x0 + j % s;
            t->kern->layer_norm(to + j * d, t->h + (i / t->n_out * t->n_tok + tok) * d, v->post_norm, v->post_bias, d,
                                NORM_EPS);
        }
        quantise(t, &t->mid, i, t->cfg.d_ff, &v->adapter_1);
    }
    join(t, me, OTHER);
}

/* Products in y become the rows of mid, through gelu. */
static void take_product(struct crl_tower *t, const struct crl_member *me, size_t m, const struct stripe *next)
{
    size_t d = t->cfg.d_out, lo, hi;

    crl_team_range(me, m, &lo, &hi);
    for (size_t i = lo; i < hi; i++) memcpy(t->mid.x + i * t->mid.stride, t->y + i * t->y_wide, d * sizeof *t->y);
    activate(t, me, m, d, NULL, next);
}

/* Two linears, gelu after both, then the projector into the rows that leave. */
static void adapt(struct crl_tower *t, const struct crl_member *me)
{
    const struct view *v = &t->view[me->node];
    size_t m = t->n * t->n_out, lo, hi;

    linear(t, me, t->y, t->y_wide, &t->mid, m, &v->adapter_1, NULL);
    join(t, me, LINEAR);
    if (!me->id) reshape(&t->mid, t->cfg.d_out);
    join(t, me, OTHER);
    take_product(t, me, m, &v->adapter_2);
    linear(t, me, t->y, t->y_wide, &t->mid, m, &v->adapter_2, NULL);
    join(t, me, LINEAR);
    take_product(t, me, m, &v->projector);
    linear(t, me, t->y, t->y_wide, &t->mid, m, &v->projector, NULL);
    join(t, me, LINEAR);
    crl_team_range(me, m, &lo, &hi);
    for (size_t i = lo; i < hi; i++)
        memcpy(t->rows + i * t->d_text, t->y + i * t->y_wide, t->d_text * sizeof *t->rows);
    join(t, me, OTHER);
}

static void run_member(const struct crl_member *me, void *ctx)
{
    struct crl_tower *t = ctx;

    embed(t, me);
    for (uint32_t i = 0; i < t->cfg.n_layer; i++) {
        self_attention(t, me, &t->view[me->node].layer[i]);
        feed_forward(t, me, &t->view[me->node].layer[i]);
    }
    shuffle(t, me);
    adapt(t, me);
}

void crl_tower_encode(struct crl_tower *t, const struct crl_tiles *tiles, const struct crl_preprocess *p, size_t first,
                      size_t n, float *rows, struct crl_tower_profile *profile)
{
    t->tiles = tiles;
    t->pre = p;
    t->profile = profile;
    for (size_t at = 0; at < n; at += t->n) {
        t->first = first + at;
        t->n = n - at < t->group ? n - at : t->group;
        t->rows = rows + at * t->n_out * t->d_text;
        t->mark_ns = profile ? now_ns() : 0;
        reshape(&t->mid, t->cfg.d_ff);
        crl_team_run(t->team, run_member, t);
    }
}

static void add_work(const struct stripe *w, double rows, double *int8_ops, double *f32_ops)
{
    *(w->mat.format == CRL_BF16 ? f32_ops : int8_ops) += 2 * rows * (double)w->mat.n * (double)w->mat.k;
}

void crl_tower_work(const struct crl_tower *t, double *int8_ops, double *f32_ops)
{
    const struct view *v = &t->view[0];
    double tok = (double)t->n_tok, out = (double)t->n_out;

    *int8_ops = *f32_ops = 0;
    add_work(&v->patch, (double)t->n_patch, int8_ops, f32_ops);
    for (uint32_t i = 0; i < t->cfg.n_layer; i++) {
        const struct layer *l = &v->layer[i];
        const struct stripe *w[] = { &l->q, &l->k, &l->v, &l->o, &l->fc1, &l->fc2 };
        for (size_t j = 0; j < sizeof w / sizeof *w; j++) add_work(w[j], tok, int8_ops, f32_ops);
    }
    add_work(&v->adapter_1, out, int8_ops, f32_ops);
    add_work(&v->adapter_2, out, int8_ops, f32_ops);
    add_work(&v->projector, out, int8_ops, f32_ops);
}
