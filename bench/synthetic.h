/* synthetic.h - models of the real shapes with made-up weights, built in memory in seconds: speed depends on shapes
 * and formats alone.
 *
 * Weights are random with a root mean square of about 0.02, so that activations stay finite through any number of
 * layers and experts are chosen about evenly. Panels are drawn from a pool of some MiB of random panels; routers and
 * other small matrices have panels of their own. The same configuration and recipe give the same bytes. */
#ifndef CRL_BENCH_SYNTHETIC_H
#define CRL_BENCH_SYNTHETIC_H

#include "base/team.h"
#include "store/pack.h"

/* "scout", "maverick", and "tiny" for tests. n_layer 0: as many as the real model. Shorter models keep the pattern of
 * layers from the start: every fourth without rotary embedding, in maverick every second a mixture. CRL_ERANGE for
 * another name or more than CRL_MAX_LAYER layers. */
enum crl_status crl_synthetic_config(struct crl_config *cfg, const char *name, uint32_t n_layer,
                                     struct crl_err *err);

/* Give it the released vision tower, or to a tiny model a tiny one. */
enum crl_status crl_synthetic_see(struct crl_config *cfg, struct crl_err *err);

/* Layers of the real model of that name. */
uint32_t crl_synthetic_layers(const char *name);

/* Bytes the packed model takes. */
enum crl_status crl_synthetic_bytes(const struct crl_config *cfg, const struct crl_recipe *recipe, uint64_t *bytes,
                                    struct crl_err *err);

/* The model, packed in memory; crl_pack_close frees it. */
enum crl_status crl_synthetic_pack(struct crl_pack **out, const struct crl_config *cfg,
                                   const struct crl_recipe *recipe, struct crl_team *team, struct crl_err *err);

/* Fill one panel of k inputs with valid random weights (not F32); *seed moves on. For timing kernels. */
void crl_synthetic_panel(enum crl_format f, unsigned char *panel, size_t k, uint64_t *seed);

#endif
