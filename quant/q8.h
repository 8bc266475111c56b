/* q8.h - int8 panels, a bf16 scale per 32 weights (docs/format.md, "Panels"): the scalar specification. */
#ifndef CRL_QUANT_Q8_H
#define CRL_QUANT_Q8_H

#include "quant/act.h"
#include "quant/mat.h"

/* Bytes of the block scales before the codes of a panel. */
static inline size_t crl_q8_scale_bytes(size_t k_pad)
{
    return crl_round_up(k_pad / CRL_BLOCK * CRL_PANEL_ROWS * 2, CRL_ALIGN);
}

/* See crl_panel_pack and crl_mat_row in mat.h. The scale of a block is max|w| / 127 rounded up to bf16, so that no
 * code leaves -127 .. 127, or one of the next bf16 numbers (CRL_Q8_STEPS, in this order) if that leaves a smaller squared
 * error: which weights a grid happens to meet is luck, and four draws do better than one. Codes are rounded to nearest
 * even. */
#define CRL_Q8_TRIES 4
#define CRL_Q8_STEPS { 0, 1, 2, 3 }
size_t crl_q8_pack(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k);

/* The same for one row, into a panel that has room for k inputs. */
size_t crl_q8_put_row(void *panel, size_t row, const float *w, size_t k);

void crl_q8_row(const unsigned char *panel, size_t row, size_t k, float *out);

/* y[i * y_stride + r] = x[i] . w[r] for rows i < m of x (span 32) and the panels [lo, hi) of w, r from 16 lo to 16 hi - 1.
 * Within a block of 32 the integer sum is exact; blocks are added by increasing k:
 * acc = fma(sum, (x scale * w scale), acc), product of scales rounded first. */
void crl_gemm_q8_scalar(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                        size_t lo, size_t hi);

#endif
