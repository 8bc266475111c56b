/* tile.h - the int8 product with smmla, shared by the q8 and q4 kernels of this level.
 *
 * smmla multiplies 2 rows x 8 k by 2 rows x 8 k into 2 x 2 int32: twice the products of sdot. Its weights are two
 * neighbouring vectors N16K4 zipped by words: 4 rows x k 0 .. 3 and 4 rows x k 4 .. 7 become two registers of 2 rows
 * x 8 k. A slab is zipped once for all rows of x. A single row of x would leave half the products unused: that is the
 * dotprod kernel's. */
#ifndef CRL_SIMD_I8MM_TILE_H
#define CRL_SIMD_I8MM_TILE_H

#include "simd/neon/int8.h"

#define MM_P 2 /* pairs of rows of x that share a weight register: 16 registers of sums */

/* 4 rows x 8 k, as words of k 0 .. 3 (a) and 4 .. 7 (b), to two registers of 2 rows x 8 k. */
CRL_INLINE void put_zipped(int8_t *out, int8x16_t a, int8x16_t b)
{
    vst1q_s32((int32_t *)(void *)out, vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
    vst1q_s32((int32_t *)(void *)(out + 16), vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

/* The product of P pairs of rows from row i on and one slab. An odd last row is paired with itself. */
CRL_INLINE void mm_tile(float *y, size_t y_stride, const struct crl_act *x, size_t i, size_t m, const int8_t *w,
                        const float *scale, size_t b0, size_t nb, const size_t span, const int P)
{
    const int8_t *q[2 * MM_P];
    float32x4_t part[2 * MM_P][4] = { { vdupq_n_f32(0) } };

    CRL_UNROLL for (int r = 0; r < 2 * P; r++) {
        size_t row = i + (size_t)r < m ? i + (size_t)r : m - 1;
        q[r] = x->q + row * x->k_pad + b0 * CRL_BLOCK;
    }
    for (size_t b = 0; b < nb; b++, w += 512) {
        int32x4_t sum[MM_P][8]; /* [j]: x0 w0, x0 w1, x1 w0, x1 w1 of weight rows 2 j and 2 j + 1 */

        CRL_UNROLL for (int p = 0; p < P; p++) {
            CRL_UNROLL for (int j = 0; j < 8; j++) sum[p][j] = vdupq_n_s32(0);
        }
        for (size_t g = 0; g < 4; g++) { /* 8 of k */
            int8x16_t xv[MM_P];

            CRL_UNROLL for (int p = 0; p < P; p++) {
                size_t at = b * CRL_BLOCK + g * 8;
                xv[p] = vcombine_s8(vld1_s8(q[2 * p] + at), vld1_s8(q[2 * p + 1] + at));
            }
            CRL_UNROLL for (int j = 0; j < 8; j++) {
                int8x16_t v = vld1q_s8(w + g * 128 + 16 * j);
                CRL_UNROLL for (int p = 0; p < P; p++) sum[p][j] = vmmlaq_s32(sum[p][j], xv[p], v);
            }
        }
        CRL_UNROLL for (int r = 0; r < 2 * P; r++) {
            int32x4_t row[4];

            if (i + (size_t)r >= m) break;
            CRL_UNROLL for (int c = 0; c < 4; c++) {
                int64x2_t a = vreinterpretq_s64_s32(sum[r / 2][2 * c]), d = vreinterpretq_s64_s32(sum[r / 2][2 * c + 1]);
                row[c] = vreinterpretq_s32_s64(r % 2 ? vzip2q_s64(a, d) : vzip1q_s64(a, d));
            }
            add_block(y + (size_t)r * y_stride, part[r], row, scale + b * 16, x->scale + (i + (size_t)r) * x->n_span, b0 + b,
                      b0 + nb, span);
        }
    }
}

CRL_INLINE void mm_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const int8_t *w,
                        const float *scale, size_t b0, size_t nb, const size_t span)
{
    size_t i = 0;

    for (; i + 2 * MM_P <= m; i += 2 * MM_P) mm_tile(y + i * y_stride, y_stride, x, i, m, w, scale, b0, nb, span, MM_P);
    for (; i < m; i += 2) mm_tile(y + i * y_stride, y_stride, x, i, m, w, scale, b0, nb, span, 1);
}

#endif
