/* tile.h - M rows of x against P panels over a piece of k, the same for both formats; FMT is the constant CRL_Q8 or
 * CRL_Q4, and every function here is inlined into where its constants are known.
 *
 * vpdpbusd multiplies unsigned by signed bytes. Rows of x bring bias = -128 * sum(x) per block, the start of each
 * integer sum, so that the offset of the weights costs nothing. 4-bit codes are looked up again for every tile: that
 * runs on ports which the multiplications leave idle, and the packed bytes take less of the cache than what they become.
 *
 * Sums live in y between pieces of k: a row's result is one chain of operations by increasing k, whatever the tile. */
#ifndef CRL_SIMD_AVX512VNNI_TILE_H
#define CRL_SIMD_AVX512VNNI_TILE_H

#include "quant/act.h"
#include "simd/x86.h"

#define TILE_M 6 /* rows of x per tile: 2 panels x 6 rows x (integer + float sum) fill 24 registers */
#define TILE_P 2 /* panels per tile */

/* Rows at which the piece of k becomes shorter, so that it stays in the second-level cache for all of them. */
#define MANY_ROWS 256
#define PIECE_LONG 32  /* blocks: 1 KiB per row of x */
#define PIECE_SHORT 16

/* What a tile asks the memory for. */
enum fetch {
    FETCH_NOTHING, /* a tile before it did */
    FETCH_NEXT,    /* half of the piece that comes next */
    FETCH_AHEAD    /* what lies FAR ahead, at the end of a panel in the next one */
};
#define FAR 4096

/* Packed codes of a block of 32 k of one panel. */
#define BLOCK_BYTES(FMT) ((size_t)((FMT) == CRL_Q4 ? 256 : 512))

/* Blocks [b0, b0 + nb) of P panels. */
struct piece {
    const unsigned char *panel[TILE_P]; /* for scales */
    const unsigned char *codes[TILE_P]; /* of block b0 */
    const unsigned char *next[TILE_P];  /* codes of the piece after this one; FETCH_AHEAD: start of the next panel */
    size_t b0, nb;
    __m512i table; /* q4: level + 128 in every 16-byte lane; q8: 128 in every byte */
};

/* k-group g, 0 to 7, of a block as unsigned bytes: w + 128 in N16K4. Of 4-bit codes two groups share 64 bytes, the even
 * one has the low half of each byte. */
CRL_INLINE __m512i weights(const unsigned char *codes, int g, __m512i table, const int FMT)
{
    __m512i c = _mm512_load_si512(codes + (FMT == CRL_Q4 ? g / 2 : g) * 64);

    if (FMT == CRL_Q8) return _mm512_xor_si512(c, table);
    if (g % 2) c = _mm512_srli_epi16(c, 4);
    return _mm512_shuffle_epi8(table, _mm512_and_si512(c, _mm512_set1_epi8(15)));
}

/* The 16 scales of block b: bf16 (q8), or int8 behind the panel's row scales, which come in at the end (q4). */
CRL_INLINE __m512 scales_at(const unsigned char *panel, size_t b, const int FMT)
{
    const __m128i *at = (const __m128i *)(panel + (FMT == CRL_Q4 ? 64 + b * 16 : b * 32));

    if (FMT == CRL_Q4) return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at)), 16));
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

/* Tile t of a piece asks for the lines that belong to its block b. */
CRL_INLINE void fetch_block(const struct piece *s, size_t t, size_t b, const int FMT, const int P,
                            const int F)
{
    const size_t lines = F == FETCH_NEXT ? BLOCK_BYTES(FMT) / 128 : F == FETCH_AHEAD ? BLOCK_BYTES(FMT) / 64 : 0;

    CRL_UNROLL for (int p = 0; p < P; p++) {
        size_t far = b * BLOCK_BYTES(FMT) + FAR, end = s->nb * BLOCK_BYTES(FMT);
        const unsigned char *at = F == FETCH_NEXT ? s->next[p] + (t * s->nb + b) * (BLOCK_BYTES(FMT) / 2)
                                  : far < end     ? s->codes[p] + far
                                                  : s->next[p] + (far - end);
        CRL_UNROLL for (size_t i = 0; i < lines; i++) _mm_prefetch((const char *)at + i * 64, _MM_HINT_T0);
    }
}

/* Integer sums of block b of the piece. */
CRL_INLINE void block_sums(__m512i sum[TILE_M][TILE_P], const struct piece *s, const struct x_rows *x, size_t b,
                           const int FMT, const int M, const int P)
{
    CRL_UNROLL for (int r = 0; r < M; r++) {
        __m512i start = _mm512_set1_epi32(x->bias[(size_t)r * x->bias_stride + b]);
        CRL_UNROLL for (int p = 0; p < P; p++) sum[r][p] = start;
    }
    CRL_UNROLL for (int g = 0; g < 8; g++) {
        __m512i u[TILE_P];
        CRL_UNROLL for (int p = 0; p < P; p++) u[p] = weights(s->codes[p] + b * BLOCK_BYTES(FMT), g, s->table, FMT);
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m512i four = four_of(x->q + (size_t)r * x->q_stride + b * CRL_BLOCK + (size_t)g * 4);
            CRL_UNROLL for (int p = 0; p < P; p++) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], u[p], four);
        }
    }
}

/* A scale of x for every block (q8): y = fma(sum, x scale * w scale, y). */
CRL_INLINE void tile_fine(float *y, size_t y_stride, const struct crl_act *act, size_t i, const struct piece *s,
                          size_t t, const int M, const int P, const int F)
{
    const struct x_rows x = x_rows_at(act, i, s->b0, 1);
    __m512 acc[TILE_M][TILE_P];

    CRL_UNROLL for (int r = 0; r < M; r++) {
        CRL_UNROLL for (int p = 0; p < P; p++) acc[r][p] = _mm512_loadu_ps(y + (size_t)r * y_stride + 16 * p);
    }
    for (size_t b = 0; b < s->nb; b++) {
        __m512i sum[TILE_M][TILE_P];
        __m512 ws[TILE_P];

        fetch_block(s, t, b, CRL_Q8, P, F);
        block_sums(sum, s, &x, b, CRL_Q8, M, P);
        CRL_UNROLL for (int p = 0; p < P; p++) ws[p] = scales_at(s->panel[p], s->b0 + b, CRL_Q8);
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
CRL_INLINE void tile_coarse(float *y, size_t y_stride, const struct crl_act *act, size_t i, const struct piece *s,
                            size_t t, const int M, const int P, const int F)
{
    const size_t per_span = CRL_Q4_SPAN / CRL_BLOCK;
    const struct x_rows x = x_rows_at(act, i, s->b0, per_span);

    for (size_t b = 0; b < s->nb;) {
        size_t first = b, end = b + per_span < s->nb ? b + per_span : s->nb;
        __m512 part[TILE_M][TILE_P];

        CRL_UNROLL for (int r = 0; r < M; r++) {
            CRL_UNROLL for (int p = 0; p < P; p++) part[r][p] = _mm512_setzero_ps();
        }
        for (; b < end; b++) {
            __m512i sum[TILE_M][TILE_P];
            __m512 ws[TILE_P];

            fetch_block(s, t, b, CRL_Q4, P, F);
            block_sums(sum, s, &x, b, CRL_Q4, M, P);
            CRL_UNROLL for (int p = 0; p < P; p++) ws[p] = scales_at(s->panel[p], s->b0 + b, CRL_Q4);
            CRL_UNROLL for (int r = 0; r < M; r++) {
                CRL_UNROLL for (int p = 0; p < P; p++)
                    part[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][p]), ws[p], part[r][p]);
            }
        }
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m512 one = _mm512_set1_ps(x.scale[(size_t)r * x.scale_stride + first / per_span]);
            CRL_UNROLL for (int p = 0; p < P; p++) {
                float *to = y + (size_t)r * y_stride + 16 * p;
                _mm512_storeu_ps(to, _mm512_fmadd_ps(part[r][p], one, _mm512_loadu_ps(to)));
            }
        }
    }
}

/* M rows of x from row i on, with the tile of the format. */
CRL_INLINE void tile(float *y, size_t y_stride, const struct crl_act *x, size_t i, const struct piece *s, size_t t,
                     const int FMT, const int M, const int P, const int F)
{
    if (FMT == CRL_Q4) tile_coarse(y, y_stride, x, i, s, t, M, P, F);
    else tile_fine(y, y_stride, x, i, s, t, M, P, F);
}

/* The same with M the constant m, 1 to TILE_M. */
CRL_INLINE void tile_of(float *y, size_t y_stride, const struct crl_act *x, size_t i, size_t m, const struct piece *s,
                        size_t t, const int FMT, const int P, const int F)
{
    switch (m) {
    case 6: tile(y, y_stride, x, i, s, t, FMT, 6, P, F); break;
    case 5: tile(y, y_stride, x, i, s, t, FMT, 5, P, F); break;
    case 4: tile(y, y_stride, x, i, s, t, FMT, 4, P, F); break;
    case 3: tile(y, y_stride, x, i, s, t, FMT, 3, P, F); break;
    case 2: tile(y, y_stride, x, i, s, t, FMT, 2, P, F); break;
    default: tile(y, y_stride, x, i, s, t, FMT, 1, P, F); break;
    }
}

#endif
