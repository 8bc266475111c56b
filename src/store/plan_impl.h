/* plan_impl.h - what placing (plan.c) and predicting (cost.c) share. Nobody else includes it. */
#ifndef CRL_STORE_PLAN_IMPL_H
#define CRL_STORE_PLAN_IMPL_H

#include "store/layout.h"
#include "store/plan.h"

#define ALL_PACKAGES UINT32_MAX
#define ANY_SIDE UINT32_MAX

/* Fill p->speed and the nodes' token_bytes; the rest of p is complete. */
void crl_placement_predict(struct crl_placement *p, const struct crl_layout *l, const struct crl_topo *topo,
                           const struct crl_placement_options *o, const struct crl_cost *c);

#endif
