/* mull.h - the int8 product of processors without sdot.
 *
 * smull multiplies 8 bytes into int16, smlal adds a second product: 2 * 128 * 127 = 32512 does not overflow. sadalp
 * then adds neighbours into int32, so that a register holds two sums for each of two rows, joined at the end. */
#ifndef CRL_SIMD_NEON_MULL_H
#define CRL_SIMD_NEON_MULL_H

#include "simd/neon/int8.h"

#define MULL_M 2 /* rows of x that share the weights: 16 registers of sums */

CRL_INLINE int8x16_t four_at(const int8_t *q)
{
    int32_t four;

    __builtin_memcpy(&four, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

CRL_INLINE void mull_tile(float *y, size_t y_stride, const struct crl_act *x, size_t i, const int8_t *w,
                          const float *scale, size_t b0, size_t nb, const size_t span, const int M)
{
    const int8_t *q = x->q + i * x->k_pad + b0 * CRL_BLOCK;
    float32x4_t part[MULL_M][4] = { { vdupq_n_f32(0) } };

    for (size_t b = 0; b < nb; b++, w += 512, q += CRL_BLOCK) {
        int32x4_t two[MULL_M][8]; /* [j]: rows 2 j and 2 j + 1, two sums each */

        CRL_UNROLL for (int r = 0; r < M; r++) {
            CRL_UNROLL for (int j = 0; j < 8; j++) two[r][j] = vdupq_n_s32(0);
        }
        for (int g = 0; g < 8; g += 2) {
            int8x16_t even[MULL_M], odd[MULL_M];

            CRL_UNROLL for (int r = 0; r < M; r++) {
                even[r] = four_at(q + (size_t)r * x->k_pad + g * 4);
                odd[r] = four_at(q + (size_t)r * x->k_pad + g * 4 + 4);
            }
            CRL_UNROLL for (int c = 0; c < 4; c++) {
                int8x16_t a = vld1q_s8(w + g * 64 + 16 * c), d = vld1q_s8(w + g * 64 + 64 + 16 * c);
                CRL_UNROLL for (int r = 0; r < M; r++) {
                    int16x8_t lo = vmull_s8(vget_low_s8(a), vget_low_s8(even[r]));
                    int16x8_t hi = vmull_high_s8(a, even[r]);
                    lo = vmlal_s8(lo, vget_low_s8(d), vget_low_s8(odd[r]));
                    hi = vmlal_high_s8(hi, d, odd[r]);
                    two[r][2 * c] = vpadalq_s16(two[r][2 * c], lo);
                    two[r][2 * c + 1] = vpadalq_s16(two[r][2 * c + 1], hi);
                }
            }
        }
        CRL_UNROLL for (int r = 0; r < M; r++) {
            int32x4_t sum[4];
            CRL_UNROLL for (int c = 0; c < 4; c++) sum[c] = vpaddq_s32(two[r][2 * c], two[r][2 * c + 1]);
            add_block(y + (size_t)r * y_stride, part[r], sum, scale + b * 16, x->scale + (i + (size_t)r) * x->n_span, b0 + b,
                      b0 + nb, span);
        }
    }
}

CRL_INLINE void mull_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const int8_t *w,
                          const float *scale, size_t b0, size_t nb, const size_t span)
{
    size_t i = 0;

    for (; i + MULL_M <= m; i += MULL_M) mull_tile(y + i * y_stride, y_stride, x, i, w, scale, b0, nb, span, MULL_M);
    if (i < m) mull_tile(y + i * y_stride, y_stride, x, i, w, scale, b0, nb, span, 1);
}

#endif
