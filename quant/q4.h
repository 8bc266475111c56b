/* q4.h - 4-bit panels: 16 levels per matrix, an int8 scale per 32 weights, a float scale per row (docs/format.md,
 * "Panels"): the scalar specification. */
#ifndef CRL_QUANT_Q4_H
#define CRL_QUANT_Q4_H

#include "quant/act.h"
#include "quant/mat.h"

/* Bytes of row scales and block scales before the codes of a panel. */
static inline size_t crl_q4_scale_bytes(size_t k_pad)
{
    return CRL_PANEL_ROWS * sizeof(float) + crl_round_up(k_pad / CRL_BLOCK * CRL_PANEL_ROWS, CRL_ALIGN);
}

/* What is known about the inputs of a matrix, for packing it so that its outputs suffer least (docs/quality.md,
 * "Calibration"). The caller keeps the arrays; all are of k_pad entries along k, 0 from k on.
 *
 * importance: what a squared error of weight j costs, 0 or between 2^-20 and 2^20. feed: while a row is packed from
 * left to right, the error of weight j is made up for by the weights behind it in its span of `span` inputs: weight i
 * of the span loses error * feed[j * span + i], i counted from the start of the span, for i after j. */
struct crl_q4_guide {
    const float *importance; /* [k_pad]; NULL: all 1 */
    const float *feed;       /* [k_pad][span]; NULL: errors are left where they are */
    size_t span;             /* a multiple of CRL_BLOCK, at most CRL_Q4_FEED_MAX; ignored without feed */
};
#define CRL_Q4_FEED_MAX 256
#define CRL_Q4_MARGIN 1.05f /* room of a row's scale for weights that errors are added to */

/* See crl_panel_pack and crl_mat_row in mat.h. For every block the scale, of either sign since the levels are not
 * symmetric, is searched that leaves the least squared error under the guide's importance (guide NULL: plain); the row
 * scale makes the largest block scale 127, and codes are chosen again under the scales as stored. With feed the search
 * is repeated for weights as the errors before them left them, and codes are chosen one by one. The levels ascend. All
 * sums run in the order crl_sum32 fixes, so that every implementation gives the same bytes. */
size_t crl_q4_pack(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16],
                   const struct crl_q4_guide *guide);

/* The candidates of the search: to which level the weight of largest magnitude in a block is taken, in the order they
 * are tried. Blocks whose largest magnitude is not above CRL_Q4_LEAST are zeros: below it products underflow. */
#define CRL_Q4_TRIES 18
#define CRL_Q4_LEAST 1e-30f
void crl_q4_ends(float end[CRL_Q4_TRIES], const int8_t level[16]);

void crl_q4_row(const unsigned char *panel, size_t row, size_t k, const int8_t level[16], float *out);

/* y[i * y_stride + r] = x[i] . w[r] for rows i < m of x and the panels [lo, hi) of w, r from 16 lo to 16 hi - 1.
 * x has span 128. Within a block of 32 the integer sum is exact. Blocks of a span are added by increasing k under
 * their block scales, part = sum * scale, then part = fma(sum, scale, part); spans under the activations' scales,
 * acc = fma(part, x scale, acc); the row scale multiplies the end result. */
void crl_gemm_q4_scalar(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                        size_t lo, size_t hi);

#endif
