/* act.h - activations quantised to int8 on the fly, the right-hand operand of q8 and q4 matrices.
 *
 * A row of k floats becomes k_pad int8 codes in -127 .. 127 (k_pad = k rounded up to 32, padding 0), with one scale per
 * span of values: x ~ scale * code, scale = max|x| / 127, code = round to nearest even. The span belongs to the weight
 * format: 32 beside q8, whose own error is as small; 128 beside q4, where it saves a multiplication in four and its
 * error vanishes behind that of the weights (docs/quality.md, "Activations"). For every block of 32
 * the sum of its codes times -128 is kept beside them: kernels whose multiplier wants unsigned weights add 128 to each
 * weight and start their sums from this number instead of 0. */
#ifndef CRL_QUANT_ACT_H
#define CRL_QUANT_ACT_H

#include "quant/mat.h"

#include <stdint.h>

#define CRL_Q8_SPAN 32 /* activations that share a scale beside q8 weights, */
#define CRL_Q4_SPAN 128 /* and beside q4 weights */

/* The span that a format's kernels read; 0: they read floats. */
static inline size_t crl_format_span(enum crl_format f)
{
    return f == CRL_Q8 ? CRL_Q8_SPAN : f == CRL_Q4 ? CRL_Q4_SPAN : 0;
}

/* m rows in caller's memory. */
struct crl_act {
    int8_t *q;      /* [m][k_pad] */
    float *scale;   /* [m][n_span], n_span = k_pad / span rounded up */
    int32_t *bias;  /* [m][k_pad / 32]: -128 * sum of the codes of the block */
    size_t span; /* a multiple of CRL_BLOCK, at most CRL_Q4_SPAN */
    size_t k_pad;
    size_t n_span;
};

/* Set span, k_pad and n_span for rows of k. */
void crl_act_shape(struct crl_act *a, size_t span, size_t k);

/* The same, and take room for m rows from an arena (also while planning, see crl_arena_take). */
void crl_act_place(struct crl_act *a, struct crl_arena *arena, size_t span, size_t m, size_t k);

/* Quantise one row x[k] into row i. NaN codes are 0 with a NaN scale, so that a NaN comes out of the product. */
void crl_act_row_scalar(const struct crl_act *a, size_t i, const float *x, size_t k);

#endif
