/* model.c - binding weights to a packed file. */
#include "model/model.h"

#include "model/rope.h"

static void bind(const struct crl_pack *pack, enum crl_kind kind, uint32_t layer, uint32_t expert, struct crl_mat *m)
{
    crl_pack_mat(pack, crl_schema_find(crl_pack_schema(pack), kind, layer, expert), m);
}

/* Norms and biases are plain floats; NULL when the configuration has none such. */
static const float *bind_vector(const struct crl_pack *pack, enum crl_kind kind, uint32_t layer)
{
    size_t w = crl_schema_find(crl_pack_schema(pack), kind, layer, 0);
    struct crl_mat m;

    if (w == CRL_NO_WEIGHT) return NULL;
    crl_pack_mat(pack, w, &m);
    return (const float *)(const void *)m.panel;
}

static unsigned need_of(const struct crl_mat *m)
{
    return m->format == CRL_Q8 ? CRL_NEED_FINE : m->format == CRL_Q4 ? CRL_NEED_COARSE : 0;
}

static void note_needs(struct crl_layer *l, uint32_t n_expert)
{
    l->need_qkv = need_of(&l->q) | need_of(&l->k) | need_of(&l->v);
    l->need_o = need_of(&l->o);
    l->need_gate_up = need_of(&l->always.gate_up);
    l->need_down = need_of(&l->always.down);
    for (uint32_t e = 0; l->expert && e < n_expert; e++) { /* overrides may tell experts apart */
        l->need_gate_up |= need_of(&l->expert[e].gate_up);
        l->need_down |= need_of(&l->expert[e].down);
    }
}

static enum crl_status bind_experts(struct crl_layer *l, const struct crl_pack *pack, uint32_t i, uint32_t n,
                                    struct crl_err *err)
{
    bind(pack, CRL_KIND_ROUTER, i, 0, &l->router);
    bind(pack, CRL_KIND_SHARED_GATE_UP, i, 0, &l->always.gate_up);
    bind(pack, CRL_KIND_SHARED_DOWN, i, 0, &l->always.down);
    l->expert = crl_alloc(n, sizeof *l->expert);
    if (!l->expert) return crl_fail(err, CRL_ENOMEM, "no memory for the experts of layer %u", i);
    for (uint32_t e = 0; e < n; e++) {
        bind(pack, CRL_KIND_EXPERT_GATE_UP, i, e, &l->expert[e].gate_up);
        bind(pack, CRL_KIND_EXPERT_DOWN, i, e, &l->expert[e].down);
    }
    return CRL_OK;
}

static enum crl_status bind_layer(struct crl_model *m, const struct crl_pack *pack, uint32_t i, struct crl_err *err)
{
    struct crl_layer *l = &m->layer[i];

    l->rope = m->cfg.uses_rope[i];
    l->moe = m->cfg.is_moe[i];
    l->d_ff = l->moe ? m->cfg.d_ff : m->cfg.d_ff_dense;
    l->attn_norm = bind_vector(pack, CRL_KIND_ATTN_NORM, i);
    l->ffn_norm = bind_vector(pack, CRL_KIND_FFN_NORM, i);
    bind(pack, CRL_KIND_Q, i, 0, &l->q);
    bind(pack, CRL_KIND_K, i, 0, &l->k);
    bind(pack, CRL_KIND_V, i, 0, &l->v);
    bind(pack, CRL_KIND_O, i, 0, &l->o);
    l->q_bias = bind_vector(pack, CRL_KIND_Q_BIAS, i);
    l->k_bias = bind_vector(pack, CRL_KIND_K_BIAS, i);
    l->v_bias = bind_vector(pack, CRL_KIND_V_BIAS, i);
    l->o_bias = bind_vector(pack, CRL_KIND_O_BIAS, i);
    if (l->moe) {
        enum crl_status st = bind_experts(l, pack, i, m->cfg.n_expert, err);
        if (st) return st;
    } else {
        bind(pack, CRL_KIND_DENSE_GATE_UP, i, 0, &l->always.gate_up);
        bind(pack, CRL_KIND_DENSE_DOWN, i, 0, &l->always.down);
    }
    note_needs(l, m->cfg.n_expert);
    return CRL_OK;
}

enum crl_status crl_model_new(struct crl_model **out, const struct crl_pack *pack, struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(pack);
    struct crl_model *m = crl_alloc(1, sizeof *m);
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!m) return crl_fail(err, CRL_ENOMEM, "no memory for a model");
    m->cfg = *cfg;
    m->layer = crl_alloc(cfg->n_layer, sizeof *m->layer);
    m->inv_freq = crl_alloc(cfg->d_head / 2, sizeof *m->inv_freq);
    if (!m->layer || !m->inv_freq) st = crl_fail(err, CRL_ENOMEM, "no memory for %u layers", cfg->n_layer);
    for (uint32_t i = 0; !st && i < cfg->n_layer; i++) st = bind_layer(m, pack, i, err);
    if (st) {
        crl_model_free(m);
        return st;
    }
    bind(pack, CRL_KIND_EMBED, 0, 0, &m->embed);
    bind(pack, cfg->tied ? CRL_KIND_EMBED : CRL_KIND_HEAD, 0, 0, &m->head);
    m->need_head = need_of(&m->head);
    m->final_norm = bind_vector(pack, CRL_KIND_FINAL_NORM, 0);
    crl_rope_freqs(m->inv_freq, cfg);
    *out = m;
    return CRL_OK;
}

void crl_model_free(struct crl_model *m)
{
    if (!m) return;
    for (uint32_t i = 0; m->layer && i < m->cfg.n_layer; i++) crl_free(m->layer[i].expert);
    crl_free(m->layer);
    crl_free(m->inv_freq);
    crl_free(m);
}
