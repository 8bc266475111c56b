/* tile.h - the product of float activations shared by the bf16 and float32 kernels of this level.
 *
 * Every sum is kept as two, of the even and of the odd k, which are added at the end: that makes eight independent
 * chains for a single row of x and the same order of additions for every M. */
#ifndef CRL_SIMD_NEON_TILE_H
#define CRL_SIMD_NEON_TILE_H

#include "quant/mat.h"
#include "simd/arm.h"

#define FLOAT_M 2 /* rows of x that share the weights of a panel */

/* Weights k and k + 1 of rows 4 c .. 4 c + 3 from where the panel has k (even). */
typedef void load2_fn(float32x4_t w[2], const void *panel, int c);

CRL_INLINE void float_tile(float *y, size_t y_stride, const float *x, size_t x_stride, const unsigned char *panel,
                           size_t kp, size_t pair_bytes, load2_fn *load2, const int M)
{
    float32x4_t sum[FLOAT_M][2][4];

    CRL_UNROLL for (int r = 0; r < M; r++) {
        CRL_UNROLL for (int c = 0; c < 4; c++) sum[r][0][c] = sum[r][1][c] = vdupq_n_f32(0);
    }
    for (size_t k = 0; k < kp; k += 2, panel += pair_bytes) {
        float32x2_t two[FLOAT_M];

        CRL_UNROLL for (int r = 0; r < M; r++) two[r] = vld1_f32(x + (size_t)r * x_stride + k);
        CRL_UNROLL for (int c = 0; c < 4; c++) {
            float32x4_t w[2];
            load2(w, panel, c);
            CRL_UNROLL for (int r = 0; r < M; r++) {
                sum[r][0][c] = vfmaq_lane_f32(sum[r][0][c], w[0], two[r], 0);
                sum[r][1][c] = vfmaq_lane_f32(sum[r][1][c], w[1], two[r], 1);
            }
        }
    }
    CRL_UNROLL for (int r = 0; r < M; r++) {
        CRL_UNROLL for (int c = 0; c < 4; c++)
            vst1q_f32(y + (size_t)r * y_stride + 4 * c, vaddq_f32(sum[r][0][c], sum[r][1][c]));
    }
}

/* All m rows of x against panels [lo, hi); a pair of k takes pair_bytes of a panel. */
CRL_INLINE void float_rows(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m, const struct crl_mat *w,
                           size_t lo, size_t hi, size_t pair_bytes, load2_fn *load2)
{
    size_t kp = crl_k_pad(w->k);

    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        float *out = y + p * CRL_PANEL_ROWS;
        size_t i = 0;

        for (; i + FLOAT_M <= m; i += FLOAT_M)
            float_tile(out + i * y_stride, y_stride, x + i * x_stride, x_stride, panel, kp, pair_bytes, load2, FLOAT_M);
        if (i < m) float_tile(out + i * y_stride, y_stride, x + i * x_stride, x_stride, panel, kp, pair_bytes, load2, 1);
    }
}

#endif
