/* cache_bf16.c - blocks of the bf16 cache with vdpbf16ps: two products of bf16 numbers per lane and step. Contract:
 * simd/kernels.h. */
#ifndef __AVX512BF16__
#error "compile with the AVX512_BF16 flags"
#endif
#include "simd/kernels.h"
#include "simd/x86.h"

crl_cache_bf16_fn crl_cache_bf16_avx512bf16;

#define TILE_M 6   /* rows of x per tile: 6 x 4 sums, 4 panels and a pair of x fill 29 registers */
#define TILE_P 4   /* panels per tile: 64 keys, or 64 values of d_head */
#define CHUNK 128  /* k whose pairs are made at once; their bf16 stay in L1 */

/* Pairs of x as bf16, which loses nothing. */
CRL_INLINE void narrow(uint16_t to[TILE_M][CHUNK], const float *x, size_t x_stride, size_t n, const int M)
{
    CRL_UNROLL for (int i = 0; i < M; i++) {
        const float *from = x + (size_t)i * x_stride;
        for (size_t k = 0; k < n; k += 32)
            _mm512_store_si512(to[i] + k, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + k + 16),
                                                                       _mm512_loadu_ps(from + k)));
    }
}

/* What a tile asks for of the block after this one, which lies `ahead` bytes behind: the lines of k in [lo, hi). Every
 * tile takes its share, so that memory works all the time. */
struct fetch {
    size_t ahead, lo, hi;
};

/* M rows of x against P panels. */
CRL_INLINE void tile(float *y, size_t y_stride, const float *x, size_t x_stride, const unsigned char *panel,
                     size_t panel_bytes, size_t kp, const struct fetch *f, const int M, const int P)
{
    _Alignas(64) uint16_t pair[TILE_M][CHUNK];
    __m512 s[TILE_M][TILE_P];

    CRL_UNROLL for (int i = 0; i < M; i++) {
        CRL_UNROLL for (int p = 0; p < P; p++) s[i][p] = _mm512_setzero_ps();
    }
    for (size_t k0 = 0; k0 < kp; k0 += CHUNK) {
        size_t n = kp - k0 < CHUNK ? kp - k0 : CHUNK;

        narrow(pair, x + k0, x_stride, n, M);
        for (size_t k = 0; k < n; k += 2) {
            const unsigned char *at = panel + (k0 + k) * 32;
            __m512bh w[TILE_P];

            CRL_UNROLL for (int p = 0; p < P; p++)
                w[p] = (__m512bh)_mm512_load_si512(at + (size_t)p * panel_bytes);
            if (k0 + k >= f->lo && k0 + k < f->hi) {
                CRL_UNROLL for (int p = 0; p < P; p++)
                    _mm_prefetch((const char *)at + (size_t)p * panel_bytes + f->ahead, _MM_HINT_T1);
            }
            CRL_UNROLL for (int i = 0; i < M; i++) {
                int32_t two;
                __builtin_memcpy(&two, pair[i] + k, 4);
                CRL_UNROLL for (int p = 0; p < P; p++)
                    s[i][p] = _mm512_dpbf16_ps(s[i][p], (__m512bh)_mm512_set1_epi32(two), w[p]);
            }
        }
    }
    CRL_UNROLL for (int i = 0; i < M; i++) {
        CRL_UNROLL for (int p = 0; p < P; p++) _mm512_storeu_ps(y + (size_t)i * y_stride + 16 * p, s[i][p]);
    }
}

/* All m rows in the fewest tiles, as even as they go. */
CRL_INLINE void all_rows(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m, const unsigned char *panel,
                         size_t panel_bytes, size_t kp, size_t ahead, const int P)
{
    size_t n_tile = (m + TILE_M - 1) / TILE_M;

    for (size_t t = 0; t < n_tile; t++) {
        size_t rows = m / n_tile + (t < m % n_tile);
        struct fetch f = { ahead, ahead ? kp * t / n_tile : 0, ahead ? kp * (t + 1) / n_tile : 0 };

        switch (rows) {
        case 6: tile(y, y_stride, x, x_stride, panel, panel_bytes, kp, &f, 6, P); break;
        case 5: tile(y, y_stride, x, x_stride, panel, panel_bytes, kp, &f, 5, P); break;
        case 4: tile(y, y_stride, x, x_stride, panel, panel_bytes, kp, &f, 4, P); break;
        case 3: tile(y, y_stride, x, x_stride, panel, panel_bytes, kp, &f, 3, P); break;
        case 2: tile(y, y_stride, x, x_stride, panel, panel_bytes, kp, &f, 2, P); break;
        default: tile(y, y_stride, x, x_stride, panel, panel_bytes, kp, &f, 1, P); break;
        }
        y += rows * y_stride;
        x += rows * x_stride;
    }
}

void crl_cache_bf16_avx512bf16(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m,
                               const struct crl_mat *w, size_t lo, size_t hi)
{
    size_t kp = crl_k_pad(w->k), p = lo, size = w->panel_bytes, ahead = w->ahead;

    for (; p + TILE_P <= hi; p += TILE_P)
        all_rows(y + p * CRL_PANEL_ROWS, y_stride, x, x_stride, m, w->panel + p * size, size, kp, ahead, TILE_P);
    for (; p < hi; p++)
        all_rows(y + p * CRL_PANEL_ROWS, y_stride, x, x_stride, m, w->panel + p * size, size, kp, ahead, 1);
}
