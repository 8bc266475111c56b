/* gemm_q8.c - q8 weights with sdot. Contract: simd/kernels.h and quant/q8.h. */
#ifndef __ARM_FEATURE_DOTPROD
#error "compile with the DOTPROD flags"
#endif
#include "simd/dotprod/tile.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q8_dotprod;

/* One row of x against one panel, straight from the packed bytes, with eight independent sums. */
static void gemv_panel(float *y, const struct crl_act *x, const unsigned char *panel)
{
    size_t nb = x->k_pad / CRL_BLOCK;
    const int8_t *codes = (const int8_t *)panel + crl_q8_scale_bytes(x->k_pad), *q = x->q;
    float32x4_t acc[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };

    for (size_t b = 0; b < nb; b++, codes += 512, q += CRL_BLOCK) {
        int32x4_t sum[2][4];
        float32x4_t scale[4];

        CRL_UNROLL for (int c = 0; c < 4; c++) sum[0][c] = sum[1][c] = vdupq_n_s32(0);
        CRL_UNROLL for (int g = 0; g < 8; g++) {
            int8x16_t w[4];
            CRL_UNROLL for (int c = 0; c < 4; c++) w[c] = vld1q_s8(codes + g * 64 + 16 * c);
            dot4(sum[g % 2], w, vld1q_s8(q + g / 4 * 16), g % 4);
        }
        scales_q8(scale, panel, b);
        CRL_UNROLL for (int c = 0; c < 4; c++)
            acc[c] = vfmaq_f32(acc[c], vcvtq_f32_s32(vaddq_s32(sum[0][c], sum[1][c])), vmulq_n_f32(scale[c], x->scale[b]));
    }
    CRL_UNROLL for (int c = 0; c < 4; c++) vst1q_f32(y + 4 * c, acc[c]);
}

void crl_gemm_q8_dotprod(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                         size_t lo, size_t hi)
{
    if (m != 1) {
        panels(y, y_stride, x, m, w, lo, hi, fill_q8, dot_rows, Q8_SPAN);
        return;
    }
    for (size_t p = lo; p < hi; p++) gemv_panel(y + p * CRL_PANEL_ROWS, x, w->panel + p * w->panel_bytes);
}
