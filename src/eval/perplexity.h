/* perplexity.h - how well a model predicts a text: mean negative log likelihood per token, its exponential, and bits per
 * byte. docs/quality.md, "Perplexity". */
#ifndef CRL_EVAL_PERPLEXITY_H
#define CRL_EVAL_PERPLEXITY_H

#include "eval/text.h"

/* Metrics nll, perplexity, bits_per_byte; items are documents. The result does not depend on threads or batch size. */
enum crl_status crl_eval_perplexity(struct crl_result **out, struct crl_engine *engine,
                                    const struct crl_text_options *o, struct crl_err *err);

#endif
