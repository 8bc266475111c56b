/* tile.h - the int8 inner loop shared by the q8 and q4 kernels of this level.
 *
 * A slab is a piece of a panel along k, unpacked into unsigned weights u = w + 128 (vpdpbusd multiplies unsigned by
 * signed) with its block scales as float. Rows of x bring bias = -128 * sum(x) per block, the start of each integer
 * sum, so that the offset costs nothing. */
#ifndef CRL_SIMD_AVX512VNNI_TILE_H
#define CRL_SIMD_AVX512VNNI_TILE_H

#include "quant/act.h"
#include "simd/x86.h"

#define SLAB_BLOCKS 16 /* 512 of k: 8 KiB of weights per panel, two panels and the rows of x stay in L1 */
#define TILE_M 6       /* rows of x per tile: 2 panels x 6 rows x (integer + float sum) fill 24 registers */
#define TILE_P 2       /* panels per tile */

struct slab {
    unsigned char u[TILE_P][SLAB_BLOCKS * 512]; /* [block][8 k-groups][64] */
    float scale[TILE_P][SLAB_BLOCKS * 16];      /* [block][16] */
};

/* Add the products of M rows of x (from row i) and P unpacked panels over blocks b0 .. b0 + nb to y; the sums start
 * from 0 if b0 is 0, else from what y holds. */
CRL_INLINE void slab_tile(float *y, size_t y_stride, const struct crl_act *x, size_t i, const struct slab *s, size_t b0,
                          size_t nb, const int M, const int P)
{
    const size_t n_block = x->k_pad / CRL_BLOCK;
    const int8_t *q = x->q + i * x->k_pad + b0 * CRL_BLOCK;
    const float *xs = x->scale + i * x->n_span + b0;
    const int32_t *bias = x->bias + i * n_block + b0;
    __m512 acc[TILE_M][TILE_P];

    CRL_UNROLL for (int r = 0; r < M; r++) {
        CRL_UNROLL for (int p = 0; p < P; p++)
            acc[r][p] = b0 ? _mm512_loadu_ps(y + (size_t)r * y_stride + 16 * p) : _mm512_setzero_ps();
    }
    for (size_t b = 0; b < nb; b++) {
        __m512i sum[TILE_M][TILE_P];
        __m512 ws[TILE_P];

        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m512i start = _mm512_set1_epi32(bias[(size_t)r * n_block + b]);
            CRL_UNROLL for (int p = 0; p < P; p++) sum[r][p] = start;
        }
        CRL_UNROLL for (int g = 0; g < 8; g++) {
            __m512i u[TILE_P];
            CRL_UNROLL for (int p = 0; p < P; p++) u[p] = _mm512_load_si512(s->u[p] + b * 512 + (size_t)g * 64);
            CRL_UNROLL for (int r = 0; r < M; r++) {
                int32_t four;
                __builtin_memcpy(&four, q + (size_t)r * x->k_pad + b * CRL_BLOCK + (size_t)g * 4, 4);
                CRL_UNROLL for (int p = 0; p < P; p++)
                    sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], u[p], _mm512_set1_epi32(four));
            }
        }
        CRL_UNROLL for (int p = 0; p < P; p++) ws[p] = _mm512_load_ps(s->scale[p] + b * 16);
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m512 one = _mm512_set1_ps(xs[(size_t)r * x->n_span + b]);
            CRL_UNROLL for (int p = 0; p < P; p++)
                acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][p]), _mm512_mul_ps(one, ws[p]), acc[r][p]);
        }
    }
    CRL_UNROLL for (int r = 0; r < M; r++) {
        CRL_UNROLL for (int p = 0; p < P; p++) _mm512_storeu_ps(y + (size_t)r * y_stride + 16 * p, acc[r][p]);
    }
}

/* All m rows of x against P panels of a slab. */
CRL_INLINE void slab_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct slab *s, size_t b0,
                          size_t nb, const int P)
{
    size_t i = 0;

    for (; i + TILE_M <= m; i += TILE_M) slab_tile(y + i * y_stride, y_stride, x, i, s, b0, nb, TILE_M, P);
    switch (m - i) {
    case 5: slab_tile(y + i * y_stride, y_stride, x, i, s, b0, nb, 5, P); break;
    case 4: slab_tile(y + i * y_stride, y_stride, x, i, s, b0, nb, 4, P); break;
    case 3: slab_tile(y + i * y_stride, y_stride, x, i, s, b0, nb, 3, P); break;
    case 2: slab_tile(y + i * y_stride, y_stride, x, i, s, b0, nb, 2, P); break;
    case 1: slab_tile(y + i * y_stride, y_stride, x, i, s, b0, nb, 1, P); break;
    default: break;
    }
}

#endif
