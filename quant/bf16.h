/* bf16.h - bfloat16 panels (docs/format.md, "Panels"): the scalar specification. */
#ifndef CRL_QUANT_BF16_H
#define CRL_QUANT_BF16_H

#include "quant/mat.h"

/* See crl_panel_pack and crl_mat_row in mat.h. Non-finite weights become 0 and are counted; finite ones stay finite. */
size_t crl_bf16_pack(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k);
void crl_bf16_row(const unsigned char *panel, size_t row, size_t k, float *out);

/* y[i * y_stride + r] = sum over k of x[i * x_stride + k] * w[r][k] for m rows of x and the panels [lo, hi) of w,
 * r from 16 lo to 16 hi - 1 (padding rows give 0). The products of k = 0, 4, 8 .., of k = 1, 5 .., of 2 and of 3 are
 * summed apart, by increasing k, then (s0 + s2) + (s1 + s3). x must be readable, and 0, up to k_pad. */
void crl_gemm_bf16_scalar(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m,
                          const struct crl_mat *w, size_t lo, size_t hi);

#endif
