/* model.c - binding weights, a view per node. */
#include "model/model.h"

#include "model/rope.h"

/* Panels of gate-up that are computed together: 32 values of the intermediate. */
#define UNIT_PANELS 4

struct binder {
    const struct crl_weights *w;
    const struct crl_pack *pack;
    const struct crl_schema *schema;
    const struct crl_placement *plan;
    unsigned node;
};

static size_t find(const struct binder *b, enum crl_kind kind, uint32_t layer, uint32_t expert)
{
    return crl_schema_find(b->schema, kind, layer, expert);
}

static void bind_copy(const struct binder *b, size_t weight, unsigned copy, struct crl_stripe *p)
{
    if (!crl_weights_mat(b->w, weight, copy, b->node, &p->mat, &p->lo, &p->hi)) {
        p->mat.format = crl_pack_format(b->pack, weight); /* nothing to compute, but everybody knows the shape */
        p->mat.n = b->schema->weight[weight].n;
        p->mat.k = b->schema->weight[weight].k;
    }
}

static void bind(const struct binder *b, enum crl_kind kind, uint32_t layer, uint32_t expert, struct crl_stripe *p)
{
    bind_copy(b, find(b, kind, layer, expert), 0, p);
}

/* Norms and biases are plain floats; NULL when the configuration has none such. */
static const float *bind_vector(const struct binder *b, enum crl_kind kind, uint32_t layer)
{
    size_t w = find(b, kind, layer, 0);
    struct crl_mat m;

    if (w == CRL_NO_WEIGHT) return NULL;
    crl_weights_panel(b->w, w, b->node, 0, &m);
    return (const float *)(const void *)m.panel;
}

static unsigned need_of(const struct crl_stripe *p)
{
    return p->mat.format == CRL_Q8 ? CRL_NEED_FINE : p->mat.format == CRL_Q4 ? CRL_NEED_COARSE : 0;
}

static void note_needs(struct crl_layer *l, uint32_t n_expert)
{
    l->need_qkv = need_of(&l->q) | need_of(&l->k) | need_of(&l->v);
    l->need_o = need_of(&l->o);
    l->need_gate_up = need_of(&l->always[0].gate_up);
    l->need_down = need_of(&l->always[0].down);
    for (uint32_t e = 0; l->expert && e < n_expert; e++) { /* overrides may tell experts apart */
        l->need_gate_up |= need_of(&l->expert[e].gate_up);
        l->need_down |= need_of(&l->expert[e].down);
    }
}

/* --- cuts ------------------------------------------------------------------------------------------------------- */

static void insert(struct crl_edges *e, uint32_t at)
{
    size_t i = e->n;

    for (size_t j = 0; j < e->n; j++)
        if (e->at[j] == at) return;
    for (; i > 0 && e->at[i - 1] > at; i--) e->at[i] = e->at[i - 1];
    e->at[i] = at;
    e->n++;
}

/* The ends of all slices of both copies, in steps of `unit` panels. */
static enum crl_status find_edges(const struct binder *b, size_t weight, uint32_t unit, struct crl_edges *e,
                                  struct crl_err *err)
{
    const struct crl_weight_place *p = &b->plan->weight[weight];

    e->at = crl_alloc((size_t)p->n_slice + 1, sizeof *e->at);
    if (!e->at) return crl_fail(err, CRL_ENOMEM, "no memory for the cuts of a matrix");
    insert(e, 0);
    for (size_t i = p->first_slice; i < (size_t)p->first_slice + p->n_slice; i++)
        insert(e, (b->plan->slice[i].panel_hi + unit - 1) / unit);
    return CRL_OK;
}

/* Every node computes the same panels of both matrices. */
static bool same_cuts(const struct binder *b, size_t x, size_t y)
{
    for (unsigned i = 0; i < b->plan->n_node; i++) {
        const struct crl_slice *s = crl_placement_slice(b->plan, x, 0, i), *t = crl_placement_slice(b->plan, y, 0, i);
        if (!s != !t || (s && (s->panel_lo != t->panel_lo || s->panel_hi != t->panel_hi))) return false;
    }
    return true;
}

/* --- layers ----------------------------------------------------------------------------------------------------- */

static enum crl_status bind_sides(const struct binder *b, struct crl_layer *l, uint32_t i, struct crl_err *err)
{
    size_t up = find(b, CRL_KIND_SHARED_GATE_UP, i, 0), down = find(b, CRL_KIND_SHARED_DOWN, i, 0);
    enum crl_status st;

    l->n_side = b->plan->weight[up].share == CRL_SHARE_EACH_SIDE ? 2 : 1;
    for (unsigned s = 0; s < l->n_side; s++) {
        bind_copy(b, up, s, &l->always[s].gate_up);
        bind_copy(b, down, s, &l->always[s].down);
    }
    if (l->n_side == 1) return CRL_OK;
    l->apart = true;
    st = find_edges(b, up, UNIT_PANELS, &l->edge_up, err);
    return st ? st : find_edges(b, down, 1, &l->edge_down, err);
}

static enum crl_status bind_experts(const struct binder *b, struct crl_layer *l, uint32_t i, uint32_t n,
                                    struct crl_err *err)
{
    enum crl_status st = bind_sides(b, l, i, err);

    crl_weights_panel(b->w, find(b, CRL_KIND_ROUTER, i, 0), b->node, 0, &l->router);
    l->expert = crl_alloc(n, sizeof *l->expert);
    l->home = crl_alloc(n, sizeof *l->home);
    if (st) return st;
    if (!l->expert || !l->home) return crl_fail(err, CRL_ENOMEM, "no memory for the experts of layer %u", i);
    for (uint32_t e = 0; e < n; e++) {
        size_t down = find(b, CRL_KIND_EXPERT_DOWN, i, e);
        bind(b, CRL_KIND_EXPERT_GATE_UP, i, e, &l->expert[e].gate_up);
        bind(b, CRL_KIND_EXPERT_DOWN, i, e, &l->expert[e].down);
        l->home[e] = l->n_side == 2 ? (uint8_t)b->plan->weight[down].home : 0;
        l->apart |= !same_cuts(b, down, find(b, CRL_KIND_SHARED_DOWN, i, 0));
    }
    return CRL_OK;
}

static enum crl_status bind_layer(const struct binder *b, struct crl_model *m, uint32_t i, struct crl_err *err)
{
    struct crl_layer *l = &m->view[b->node].layer[i];

    l->rope = m->cfg.uses_rope[i];
    l->moe = m->cfg.is_moe[i];
    l->d_ff = l->moe ? m->cfg.d_ff : m->cfg.d_ff_dense;
    l->n_side = 1;
    l->attn_norm = bind_vector(b, CRL_KIND_ATTN_NORM, i);
    l->ffn_norm = bind_vector(b, CRL_KIND_FFN_NORM, i);
    bind(b, CRL_KIND_Q, i, 0, &l->q);
    bind(b, CRL_KIND_K, i, 0, &l->k);
    bind(b, CRL_KIND_V, i, 0, &l->v);
    bind(b, CRL_KIND_O, i, 0, &l->o);
    l->q_bias = bind_vector(b, CRL_KIND_Q_BIAS, i);
    l->k_bias = bind_vector(b, CRL_KIND_K_BIAS, i);
    l->v_bias = bind_vector(b, CRL_KIND_V_BIAS, i);
    l->o_bias = bind_vector(b, CRL_KIND_O_BIAS, i);
    if (l->moe) {
        enum crl_status st = bind_experts(b, l, i, m->cfg.n_expert, err);
        if (st) return st;
    } else {
        bind(b, CRL_KIND_DENSE_GATE_UP, i, 0, &l->always[0].gate_up);
        bind(b, CRL_KIND_DENSE_DOWN, i, 0, &l->always[0].down);
    }
    note_needs(l, m->cfg.n_expert);
    m->apart |= l->apart;
    return CRL_OK;
}

static enum crl_status bind_view(struct binder *b, struct crl_model *m, struct crl_err *err)
{
    struct crl_view *v = &m->view[b->node];
    enum crl_status st = CRL_OK;

    v->layer = crl_alloc(m->cfg.n_layer, sizeof *v->layer);
    if (!v->layer) return crl_fail(err, CRL_ENOMEM, "no memory for %u layers", m->cfg.n_layer);
    for (uint32_t i = 0; !st && i < m->cfg.n_layer; i++) st = bind_layer(b, m, i, err);
    bind(b, m->cfg.tied ? CRL_KIND_EMBED : CRL_KIND_HEAD, 0, 0, &v->head);
    v->final_norm = bind_vector(b, CRL_KIND_FINAL_NORM, 0);
    v->first_kv_head = b->plan->node[b->node].first_kv_head;
    v->n_kv_head = b->plan->node[b->node].n_kv_head;
    return st;
}

enum crl_status crl_model_new(struct crl_model **out, const struct crl_weights *weights, struct crl_err *err)
{
    struct binder b = { weights, crl_weights_pack(weights), NULL, crl_weights_plan(weights), 0 };
    const struct crl_config *cfg = crl_pack_config(b.pack);
    struct crl_model *m = crl_alloc(1, sizeof *m);
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!m) return crl_fail(err, CRL_ENOMEM, "no memory for a model");
    b.schema = crl_pack_schema(b.pack);
    m->cfg = *cfg;
    m->weights = weights;
    m->mapped = crl_weights_mapped(weights);
    m->n_node = b.plan->n_node;
    m->view = crl_alloc(m->n_node, sizeof *m->view);
    m->inv_freq = crl_alloc(cfg->d_head / 2, sizeof *m->inv_freq);
    if (!m->view || !m->inv_freq) st = crl_fail(err, CRL_ENOMEM, "no memory for a model");
    for (b.node = 0; !st && b.node < m->n_node; b.node++) st = bind_view(&b, m, err);
    if (st) {
        crl_model_free(m);
        return st;
    }
    m->embed = find(&b, CRL_KIND_EMBED, 0, 0);
    m->need_head = need_of(&m->view[0].head);
    crl_rope_freqs(m->inv_freq, cfg);
    *out = m;
    return CRL_OK;
}

static void free_layer(struct crl_layer *l)
{
    crl_free(l->expert);
    crl_free(l->home);
    crl_free(l->edge_up.at);
    crl_free(l->edge_down.at);
}

void crl_model_free(struct crl_model *m)
{
    if (!m) return;
    for (unsigned n = 0; m->view && n < m->n_node; n++) {
        for (uint32_t i = 0; m->view[n].layer && i < m->cfg.n_layer; i++) free_layer(&m->view[n].layer[i]);
        crl_free(m->view[n].layer);
    }
    crl_free(m->view);
    crl_free(m->inv_freq);
    crl_free(m);
}

void crl_model_embed(const struct crl_model *m, unsigned node, size_t id, float *h)
{
    struct crl_mat w;

    crl_weights_panel(m->weights, m->embed, node, id / CRL_PANEL_ROWS, &w);
    crl_mat_row(&w, id, h);
}
