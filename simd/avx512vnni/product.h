/* product.h - the walk over panels, pieces of k and tiles of rows, the same for both formats (FMT, as in tile.h). */
#ifndef CRL_SIMD_AVX512VNNI_PRODUCT_H
#define CRL_SIMD_AVX512VNNI_PRODUCT_H

#include "quant/q4.h"
#include "quant/q8.h"
#include "simd/avx512vnni/tile.h"

#include <string.h>

CRL_INLINE void bind_panel(struct piece *s, size_t p, const unsigned char *panel, const unsigned char *next, size_t k_pad,
                           const int FMT)
{
    size_t head = FMT == CRL_Q4 ? crl_q4_scale_bytes(k_pad) : crl_q8_scale_bytes(k_pad);

    s->panel[p] = panel;
    s->codes[p] = panel + head + s->b0 * BLOCK_BYTES(FMT);
    s->next[p] = s->b0 + s->nb == k_pad / CRL_BLOCK ? next + head : s->codes[p] + s->nb * BLOCK_BYTES(FMT);
}

/* Up to TILE_M rows of x, all of k at once: the memory is the limit. */
CRL_INLINE void few_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                         size_t hi, __m512i table, const int FMT)
{
    struct piece s = { .nb = x->k_pad / CRL_BLOCK, .table = table };

    for (size_t p = lo, n; p < hi; p += n) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        float *to = y + p * CRL_PANEL_ROWS;

        n = hi - p < TILE_P ? 1 : TILE_P;
        for (size_t j = 0; j < n; j++, panel += w->panel_bytes) {
            bind_panel(&s, j, panel, panel, x->k_pad, FMT);
            s.next[j] = panel + n * w->panel_bytes;
            /* the panel before has fetched FAR bytes of this one, this one's blocks fetch from FAR behind the scales on */
            for (const unsigned char *at = panel + FAR; at < s.codes[j] + FAR; at += 64)
                _mm_prefetch((const char *)at, _MM_HINT_T0);
        }
        if (n == 1) tile_of(to, y_stride, x, 0, m, &s, 0, FMT, 1, FETCH_AHEAD);
        else tile_of(to, y_stride, x, 0, m, &s, 0, FMT, TILE_P, FETCH_AHEAD);
    }
}

/* Rows of tile t when m rows are cut into the fewest tiles, as even as they go: a tile of one or two rows has too few
 * chains to hide the latency of an operation. */
CRL_INLINE size_t tile_rows(size_t m, size_t n_tile, size_t t)
{
    return m / n_tile + (t < m % n_tile);
}

/* All m rows against a piece; the first two tiles ask for the next piece, half each. */
CRL_INLINE void all_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct piece *s,
                         size_t n_panel, const int FMT)
{
    size_t n_tile = (m + TILE_M - 1) / TILE_M;

    for (size_t t = 0, i = 0, rows; t < n_tile; t++, i += rows, y += rows * y_stride) {
        rows = tile_rows(m, n_tile, t);
        if (n_panel < TILE_P) tile_of(y, y_stride, x, i, rows, s, t, FMT, 1, FETCH_NOTHING);
        else if (t < 2) tile_of(y, y_stride, x, i, rows, s, t, FMT, TILE_P, FETCH_NEXT);
        else tile_of(y, y_stride, x, i, rows, s, t, FMT, TILE_P, FETCH_NOTHING);
    }
}

CRL_INLINE void many_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                          size_t hi, __m512i table, const int FMT)
{
    size_t n_block = x->k_pad / CRL_BLOCK, piece = m < MANY_ROWS ? PIECE_LONG : PIECE_SHORT;
    struct piece s = { .table = table };

    for (size_t p = lo; p < hi; p += TILE_P) {
        size_t n = hi - p < TILE_P ? hi - p : TILE_P;

        for (s.b0 = 0; s.b0 < n_block; s.b0 += s.nb) {
            s.nb = n_block - s.b0 < piece ? n_block - s.b0 : piece;
            for (size_t j = 0; j < n; j++) {
                const unsigned char *panel = w->panel + (p + j) * w->panel_bytes;
                bind_panel(&s, j, panel, panel + TILE_P * w->panel_bytes, x->k_pad, FMT);
            }
            all_rows(y + p * CRL_PANEL_ROWS, y_stride, x, m, &s, n, FMT);
        }
    }
}

/* y = x . w^T for panels [lo, hi), less what a format multiplies at the end. */
CRL_INLINE void product(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                        size_t hi, __m512i table, const int FMT)
{
    for (size_t i = 0; i < m; i++)
        memset(y + i * y_stride + lo * CRL_PANEL_ROWS, 0, (hi - lo) * CRL_PANEL_ROWS * sizeof *y);
    if (m <= TILE_M) few_rows(y, y_stride, x, m, w, lo, hi, table, FMT);
    else many_rows(y, y_stride, x, m, w, lo, hi, table, FMT);
}

#endif
