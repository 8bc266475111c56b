/* gemm_q4.c - q4 weights with a byte table as look-up and sdot. Contract: simd/kernels.h and quant/q4.h. */
#ifndef __ARM_FEATURE_DOTPROD
#error "compile with the DOTPROD flags"
#endif
#include "simd/dotprod/tile.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q4_dotprod;

/* One row of x against one panel, straight from the packed bytes, with eight independent sums. */
static void gemv_panel(float *y, const struct crl_act *x, const unsigned char *panel, int8x16_t table)
{
    size_t nb = x->k_pad / CRL_BLOCK;
    const unsigned char *codes = panel + crl_q4_scale_bytes(x->k_pad);
    const int8_t *q = x->q;
    const float32x4_t zero = vdupq_n_f32(0);
    float32x4_t acc[4] = { zero, zero, zero, zero }, part[4] = { zero, zero, zero, zero };

    for (size_t b = 0; b < nb; b++, codes += 256, q += CRL_BLOCK) {
        int32x4_t even[4], odd[4];
        float32x4_t scale[4];

        CRL_UNROLL for (int c = 0; c < 4; c++) even[c] = odd[c] = vdupq_n_s32(0);
        CRL_UNROLL for (int v = 0; v < 4; v++) { /* k-group 2 v in the low, 2 v + 1 in the high nibbles */
            int8x16_t low[4], high[4], xv = vld1q_s8(q + v / 2 * 16);
            CRL_UNROLL for (int c = 0; c < 4; c++) {
                uint8x16_t two = vld1q_u8(codes + v * 64 + 16 * c);
                low[c] = low_codes(two, table);
                high[c] = high_codes(two, table);
            }
            dot4(even, low, xv, v % 2 * 2);
            dot4(odd, high, xv, v % 2 * 2 + 1);
        }
        scales_q4(scale, panel, b);
        CRL_UNROLL for (int c = 0; c < 4; c++)
            part[c] = vfmaq_f32(part[c], vcvtq_f32_s32(vaddq_s32(even[c], odd[c])), scale[c]);
        if ((b + 1) % Q4_SPAN && b + 1 != nb) continue;
        CRL_UNROLL for (int c = 0; c < 4; c++) {
            acc[c] = vfmaq_n_f32(acc[c], part[c], x->scale[b / Q4_SPAN]);
            part[c] = zero;
        }
    }
    CRL_UNROLL for (int c = 0; c < 4; c++)
        vst1q_f32(y + 4 * c, vmulq_f32(acc[c], vld1q_f32((const float *)(const void *)panel + 4 * c)));
}

void crl_gemm_q4_dotprod(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                         size_t lo, size_t hi)
{
    int8x16_t table = level_table(w);

    if (m != 1) {
        panels(y, y_stride, x, m, w, lo, hi, fill_q4, dot_rows, Q4_SPAN);
        return;
    }
    for (size_t p = lo; p < hi; p++) gemv_panel(y + p * CRL_PANEL_ROWS, x, w->panel + p * w->panel_bytes, table);
}
