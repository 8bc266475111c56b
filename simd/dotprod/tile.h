/* tile.h - the int8 product with sdot, shared by the q8 and q4 kernels of this level.
 *
 * A vector N16K4 is four registers of 4 rows x 4 k; sdot multiplies each row's four bytes with the four of one lane of
 * x and adds them to the row's int32. */
#ifndef CRL_SIMD_DOTPROD_TILE_H
#define CRL_SIMD_DOTPROD_TILE_H

#include "simd/neon/int8.h"

#define DOT_M 4 /* rows of x that share a weight register: 16 registers of sums, 4 of x, 4 of weights */

/* sum[c] += rows 4 c .. 4 c + 3 times bytes 4 lane .. 4 lane + 3 of x. The instruction wants the lane spelt out. */
CRL_INLINE void dot4(int32x4_t sum[4], const int8x16_t w[4], int8x16_t x, const int lane)
{
#define LANE(n)                                                                             \
    case n:                                                                                 \
        CRL_UNROLL for (int c = 0; c < 4; c++) sum[c] = vdotq_laneq_s32(sum[c], w[c], x, n); \
        break;
    switch (lane) {
        LANE(0)
        LANE(1)
        LANE(2)
        LANE(3)
    default: break;
    }
#undef LANE
}

CRL_INLINE void dot_tile(float *y, size_t y_stride, const struct crl_act *x, size_t i, const int8_t *w,
                         const float *scale, size_t b0, size_t nb, const size_t span, const int M)
{
    const int8_t *q = x->q + i * x->k_pad + b0 * CRL_BLOCK;
    float32x4_t part[DOT_M][4] = { { vdupq_n_f32(0) } };

    for (size_t b = 0; b < nb; b++, w += 512, q += CRL_BLOCK) {
        int32x4_t sum[DOT_M][4];

        CRL_UNROLL for (int r = 0; r < M; r++) {
            CRL_UNROLL for (int c = 0; c < 4; c++) sum[r][c] = vdupq_n_s32(0);
        }
        for (int h = 0; h < 2; h++) {
            int8x16_t xv[DOT_M];

            CRL_UNROLL for (int r = 0; r < M; r++) xv[r] = vld1q_s8(q + (size_t)r * x->k_pad + 16 * h);
            CRL_UNROLL for (int lane = 0; lane < 4; lane++) {
                int8x16_t v[4];
                CRL_UNROLL for (int c = 0; c < 4; c++) v[c] = vld1q_s8(w + (4 * h + lane) * 64 + 16 * c);
                CRL_UNROLL for (int r = 0; r < M; r++) dot4(sum[r], v, xv[r], lane);
            }
        }
        CRL_UNROLL for (int r = 0; r < M; r++)
            add_block(y + (size_t)r * y_stride, part[r], sum[r], scale + b * 16, x->scale + (i + (size_t)r) * x->n_span, b0 + b,
                      b0 + nb, span);
    }
}

CRL_INLINE void dot_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const int8_t *w,
                         const float *scale, size_t b0, size_t nb, const size_t span)
{
    size_t i = 0;

    for (; i + DOT_M <= m; i += DOT_M) dot_tile(y + i * y_stride, y_stride, x, i, w, scale, b0, nb, span, DOT_M);
    switch (m - i) {
    case 3: dot_tile(y + i * y_stride, y_stride, x, i, w, scale, b0, nb, span, 3); break;
    case 2: dot_tile(y + i * y_stride, y_stride, x, i, w, scale, b0, nb, span, 2); break;
    case 1: dot_tile(y + i * y_stride, y_stride, x, i, w, scale, b0, nb, span, 1); break;
    default: break;
    }
}

#endif
