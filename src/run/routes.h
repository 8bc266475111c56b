/* routes.h - counts which experts the tokens of an engine go to: a tap (run/engine.h) that keeps a table. */
#ifndef CRL_RUN_ROUTES_H
#define CRL_RUN_ROUTES_H

#include "run/engine.h"

struct crl_routes {
    uint32_t n_layer, n_expert, n_used;
    uint64_t *count; /* [n_layer][n_expert] tokens sent there */
    bool *moe;       /* [n_layer] the layer has experts */
};

/* A zeroed table for this engine. */
enum crl_status crl_routes_new(struct crl_routes **routes, const struct crl_engine *engine,
                               struct crl_err *err);
void crl_routes_free(struct crl_routes *r);

/* Count every pass of the engine from now on; the table must outlive that, or be unwatched before. */
void crl_routes_watch(struct crl_routes *r, struct crl_engine *engine);
void crl_routes_unwatch(struct crl_engine *engine);

/* Different experts of a layer that got a token. */
uint32_t crl_routes_touched(const struct crl_routes *r, uint32_t layer);

#endif
