/* routing.h - which experts the tokens of a text go to, and which of them are used together. */
#ifndef CRL_EVAL_ROUTING_H
#define CRL_EVAL_ROUTING_H

#include "eval/text.h"

#define CRL_ROUTING_GROUP 16       /* consecutive tokens that count as used together */
#define CRL_ROUTING_EXPERTS 1024   /* most experts per layer for which pairs are counted */

/* Counts over all positions fed, the begin-of-text token of each window included. A layer is its number among those with
 * experts; e, f are experts. */
struct crl_routing {
    uint32_t n_moe, n_expert, n_used;
    uint64_t n_tok;
    uint64_t n_group;   /* groups of CRL_ROUTING_GROUP tokens of one window */
    uint64_t *count;    /* [n_moe][e] tokens */
    uint64_t *next;     /* [n_moe - 1][e][f] tokens with e here and f in the next layer with experts */
    uint64_t *together; /* [n_moe][e][f] groups in which both e and f got a token; [e][e]: groups with e */
};

/* Run the text through the model. CRL_EUNSUPPORTED for a model without experts. The result has metrics effective.mean
 * (experts that would give the same entropy), share.max, distinct.mean (experts per group) and a table "layers"; the
 * counts stand in the table "counts". *counts (may be NULL) is a document for files, see crl_routing_json. */
enum crl_status crl_eval_routing(struct crl_result **out, json_t **counts, struct crl_engine *engine,
                                 const struct crl_text_options *o, struct crl_err *err);

/* {"config_hash", "data_hash", "tokens", "experts", "used", "group", "groups", "counts": [per layer: [per expert] or null
 * for a layer without], "next": [per layer with experts but the last: [[...]]], "together": [per layer with experts:
 * [[...]]]}. NULL on exhaustion. */
json_t *crl_routing_json(const struct crl_routing *r, const struct crl_config *cfg);

#endif
