/* logsum.h - the normaliser of a row of logits. */
#ifndef CRL_EVAL_LOGSUM_H
#define CRL_EVAL_LOGSUM_H

#include "simd/kernels.h"

/* log(sum of exp(logits)): floats are added in blocks of 1024, blocks in double, in an order that n alone decides. The
 * row is used up. max: the largest logit; may be NULL. NaN when a logit is. */
double crl_log_sum_exp(const struct crl_kernels *k, float *logits, size_t n, float *max);

#endif
