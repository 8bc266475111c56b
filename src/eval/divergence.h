/* divergence.h - how far a model's predictions are from those of a reference run: Kullback-Leibler divergence, agreement
 * of the best token, shift of probabilities, agreement of routers. docs/quality.md, "Divergence". */
#ifndef CRL_EVAL_DIVERGENCE_H
#define CRL_EVAL_DIVERGENCE_H

#include "eval/reference.h"

/* Metrics: kl.mean, kl.median, kl.p99, kl.max, kl.bound, kl.tail, top.same, shift.rms, router.same and router.layerNN,
 * nll, perplexity, bits_per_byte, nll.reference, nll.delta, perplexity.ratio. Intervals are of a bootstrap over documents
 * (or windows) that keeps the two models' figures paired. Tables: "router", "confidence" (by the reference's probability
 * of its best token) and, with a tokenizer, "token" (by the kind of the token that came). Items are documents: score is
 * the sum of kl. */
enum crl_status crl_eval_divergence(struct crl_result **out, struct crl_engine *engine, const char *reference,
                                    const struct crl_text_options *o, struct crl_err *err);

#endif
