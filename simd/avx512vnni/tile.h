/* tile.h - the int8 inner loop shared by the q8 and q4 kernels of this level.
 *
 * A slab is a piece of a panel along k, unpacked into unsigned weights u = w + 128 (vpdpbusd multiplies unsigned by
 * signed) with its block scales as float. Rows of x bring bias = -128 * sum(x) per block, the start of each integer
 * sum, so that the offset costs nothing.
 *
 * A tile is M rows of x times P panels. Its sums live in y between slabs: a slab adds to what y holds, the first one
 * starts from 0, so a row's result is one chain of additions by increasing k, whatever the tile. */
#ifndef CRL_SIMD_AVX512VNNI_TILE_H
#define CRL_SIMD_AVX512VNNI_TILE_H

#include "quant/act.h"
#include "simd/x86.h"

#define SLAB_BLOCKS 16 /* 512 of k: 8 KiB of weights per panel; two panels and the rows of x stay in L1 */
#define TILE_M 6       /* rows of x per tile: 2 panels x 6 rows x (integer + float sum) fill 24 registers */
#define TILE_P 2       /* panels per tile */

struct slab {
    unsigned char u[TILE_P][SLAB_BLOCKS * 512]; /* [block][8 k-groups][64] */
    float scale[TILE_P][SLAB_BLOCKS * 16];      /* [block][16] */
    const unsigned char *next[TILE_P];          /* packed codes of the slab after this one */
    size_t next_bytes;                          /* of each panel */
};

#define AHEAD 2048 /* bytes asked for before each tile: the next slab arrives while few rows are computed */

/* Ask for a part of the next slab. Reaches past the last panel at the end; a prefetch of what is not there is void. */
CRL_INLINE void fetch_ahead(const struct slab *s, size_t tile, const int P)
{
    size_t per_panel = (s->next_bytes + AHEAD - 1) / AHEAD, p = tile / per_panel, at = tile % per_panel * AHEAD;

    if (p >= (size_t)P) return;
    for (size_t end = at + AHEAD < s->next_bytes ? at + AHEAD : s->next_bytes; at < end; at += 64)
        _mm_prefetch((const char *)s->next[p] + at, _MM_HINT_T1);
}

/* M rows of x from row i on, seen from block b0. */
struct x_rows {
    const int8_t *q;
    const float *scale;
    const int32_t *bias;
    size_t q_stride, scale_stride, bias_stride;
};

CRL_INLINE struct x_rows x_rows_at(const struct crl_act *x, size_t i, size_t b0, size_t blocks_per_span)
{
    size_t n_block = x->k_pad / CRL_BLOCK;

    return (struct x_rows){ x->q + i * x->k_pad + b0 * CRL_BLOCK, x->scale + i * x->n_span + b0 / blocks_per_span,
                            x->bias + i * n_block + b0, x->k_pad, x->n_span, n_block };
}

/* Four codes of x in every lane. */
CRL_INLINE __m512i four_of(const int8_t *q)
{
    int32_t four;

    __builtin_memcpy(&four, q, 4);
    return _mm512_set1_epi32(four);
}

/* fn(..., M) with M the constant m, 1 to TILE_M. */
#define FEW_ROWS(fn, m, ...)                \
    switch (m) {                            \
    case 6: fn(__VA_ARGS__, 6); break;      \
    case 5: fn(__VA_ARGS__, 5); break;      \
    case 4: fn(__VA_ARGS__, 4); break;      \
    case 3: fn(__VA_ARGS__, 3); break;      \
    case 2: fn(__VA_ARGS__, 2); break;      \
    default: fn(__VA_ARGS__, 1); break;     \
    }

/* Integer sums of block b of the slab. */
CRL_INLINE void block_sums(__m512i sum[TILE_M][TILE_P], const struct slab *s, const struct x_rows *x, size_t b,
                           const int M, const int P)
{
    CRL_UNROLL for (int r = 0; r < M; r++) {
        __m512i start = _mm512_set1_epi32(x->bias[(size_t)r * x->bias_stride + b]);
        CRL_UNROLL for (int p = 0; p < P; p++) sum[r][p] = start;
    }
    CRL_UNROLL for (int g = 0; g < 8; g++) {
        __m512i u[TILE_P];
        CRL_UNROLL for (int p = 0; p < P; p++) u[p] = _mm512_load_si512(s->u[p] + b * 512 + (size_t)g * 64);
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m512i four = four_of(x->q + (size_t)r * x->q_stride + b * CRL_BLOCK + (size_t)g * 4);
            CRL_UNROLL for (int p = 0; p < P; p++) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], u[p], four);
        }
    }
}

/* A scale of x for every block (q8): acc = fma(sum, x scale * w scale, acc). */
CRL_INLINE void tile_fine(float *y, size_t y_stride, const struct crl_act *act, size_t i, const struct slab *s,
                          size_t b0, size_t nb, const int M, const int P)
{
    const struct x_rows x = x_rows_at(act, i, b0, 1);
    __m512 acc[TILE_M][TILE_P];

    CRL_UNROLL for (int r = 0; r < M; r++) {
        CRL_UNROLL for (int p = 0; p < P; p++)
            acc[r][p] = b0 ? _mm512_loadu_ps(y + (size_t)r * y_stride + 16 * p) : _mm512_setzero_ps();
    }
    for (size_t b = 0; b < nb; b++) {
        __m512i sum[TILE_M][TILE_P];
        __m512 ws[TILE_P];

        block_sums(sum, s, &x, b, M, P);
        CRL_UNROLL for (int p = 0; p < P; p++) ws[p] = _mm512_load_ps(s->scale[p] + b * 16);
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m512 one = _mm512_set1_ps(x.scale[(size_t)r * x.scale_stride + b]);
            CRL_UNROLL for (int p = 0; p < P; p++)
                acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][p]), _mm512_mul_ps(one, ws[p]), acc[r][p]);
        }
    }
    CRL_UNROLL for (int r = 0; r < M; r++) {
        CRL_UNROLL for (int p = 0; p < P; p++) _mm512_storeu_ps(y + (size_t)r * y_stride + 16 * p, acc[r][p]);
    }
}

/* A scale of x for four blocks (q4): part = sum * w scale + part; at the end of the span y = fma(part, x scale, y).
 * y stays in memory: it is touched once for 32 multiplications of integers. */
CRL_INLINE void tile_coarse(float *y, size_t y_stride, const struct crl_act *act, size_t i, const struct slab *s,
                            size_t b0, size_t nb, const int M, const int P)
{
    const size_t per_span = CRL_Q4_SPAN / CRL_BLOCK;
    const struct x_rows x = x_rows_at(act, i, b0, per_span);

    for (size_t b = 0; b < nb;) {
        size_t first = b, end = b + per_span < nb ? b + per_span : nb;
        __m512 part[TILE_M][TILE_P];

        CRL_UNROLL for (int r = 0; r < M; r++) {
            CRL_UNROLL for (int p = 0; p < P; p++) part[r][p] = _mm512_setzero_ps();
        }
        for (; b < end; b++) {
            __m512i sum[TILE_M][TILE_P];
            __m512 ws[TILE_P];

            block_sums(sum, s, &x, b, M, P);
            CRL_UNROLL for (int p = 0; p < P; p++) ws[p] = _mm512_load_ps(s->scale[p] + b * 16);
            CRL_UNROLL for (int r = 0; r < M; r++) {
                CRL_UNROLL for (int p = 0; p < P; p++)
                    part[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][p]), ws[p], part[r][p]);
            }
        }
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m512 one = _mm512_set1_ps(x.scale[(size_t)r * x.scale_stride + first / per_span]);
            CRL_UNROLL for (int p = 0; p < P; p++) {
                float *to = y + (size_t)r * y_stride + 16 * p;
                __m512 acc = b0 + first ? _mm512_loadu_ps(to) : _mm512_setzero_ps();
                _mm512_storeu_ps(to, _mm512_fmadd_ps(part[r][p], one, acc));
            }
        }
    }
}

/* Rows of tile t when m rows are cut into the fewest tiles, as even as they go: a tile of one or two rows has too few
 * chains to hide the latency of an operation. */
CRL_INLINE size_t tile_rows(size_t m, size_t n_tile, size_t t)
{
    return m / n_tile + (t < m % n_tile);
}

/* All m rows of x against P panels of a slab, with the tile of the format. */
#define SLAB_ROWS(tile, y, y_stride, x, m, s, b0, nb, P)                                              \
    do {                                                                                              \
        size_t n_tile_ = ((m) + TILE_M - 1) / TILE_M;                                                 \
        for (size_t t_ = 0, i_ = 0; t_ < n_tile_; i_ += tile_rows(m, n_tile_, t_), t_++) {            \
            fetch_ahead(s, t_, P);                                                                    \
            switch (tile_rows(m, n_tile_, t_)) { /* more than TILE_M rows: none has fewer than 3 */ \
            case 6: tile((y) + i_ * (y_stride), y_stride, x, i_, s, b0, nb, 6, P); break;             \
            case 5: tile((y) + i_ * (y_stride), y_stride, x, i_, s, b0, nb, 5, P); break;             \
            case 4: tile((y) + i_ * (y_stride), y_stride, x, i_, s, b0, nb, 4, P); break;             \
            default: tile((y) + i_ * (y_stride), y_stride, x, i_, s, b0, nb, 3, P); break;            \
            }                                                                                         \
        }                                                                                             \
    } while (0)

#endif
