/* routes.c - the table of experts used. */
#include "run/routes.h"

#include "base/mem.h"

enum crl_status crl_routes_new(struct crl_routes **routes, const struct crl_engine *engine,
                               struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    struct crl_routes *r = crl_alloc(1, sizeof *r);
    size_t n;

    if (r) {
        r->n_layer = cfg->n_layer;
        r->n_expert = cfg->n_expert;
        r->n_used = cfg->n_expert_used;
        if (crl_mul_size(cfg->n_layer, cfg->n_expert, &n)) r->count = crl_alloc(n, sizeof *r->count);
        r->moe = crl_alloc(cfg->n_layer, sizeof *r->moe);
    }
    if (!r || !r->count || !r->moe) {
        crl_routes_free(r);
        return crl_fail(err, CRL_ENOMEM, "no memory to count experts");
    }
    for (uint32_t i = 0; i < cfg->n_layer; i++) r->moe[i] = cfg->is_moe[i];
    *routes = r;
    return CRL_OK;
}

void crl_routes_free(struct crl_routes *r)
{
    if (!r) return;
    crl_free(r->count);
    crl_free(r->moe);
    crl_free(r);
}

static void note(void *ctx, uint32_t layer, const uint32_t *expert, size_t n_tok)
{
    struct crl_routes *r = ctx;

    for (size_t i = 0; i < n_tok * r->n_used; i++) r->count[(size_t)layer * r->n_expert + expert[i]]++;
}

void crl_routes_watch(struct crl_routes *r, struct crl_engine *engine)
{
    crl_engine_tap(engine, NULL, note, r);
}

void crl_routes_unwatch(struct crl_engine *engine)
{
    crl_engine_tap(engine, NULL, NULL, NULL);
}

uint32_t crl_routes_touched(const struct crl_routes *r, uint32_t layer)
{
    uint32_t n = 0;

    for (uint32_t e = 0; e < r->n_expert; e++) n += r->count[(size_t)layer * r->n_expert + e] > 0;
    return n;
}
