/* gemm_q4.c - q4 weights with a byte shuffle as table look-up and vpdpbusd. Contract: simd/kernels.h, quant/q4.h. */
#ifndef __AVX512VNNI__
#error "compile with the AVX512_VNNI flags"
#endif
#include "quant/q4.h"
#include "simd/avx512vnni/tile.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q4_avx512vnni;

/* level + 128 in every 16-byte lane. */
CRL_INLINE __m512i level_table(const struct crl_mat *w)
{
    __m128i l = _mm_loadu_si128((const __m128i *)w->level);

    return _mm512_broadcast_i32x4(_mm_xor_si128(l, _mm_set1_epi8((char)0x80)));
}

CRL_INLINE __m512i low_codes(__m512i c, __m512i table)
{
    return _mm512_shuffle_epi8(table, _mm512_and_si512(c, _mm512_set1_epi8(15)));
}

CRL_INLINE __m512i high_codes(__m512i c, __m512i table)
{
    return _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(c, 4), _mm512_set1_epi8(15)));
}

/* 16 int8 block scales as float. */
CRL_INLINE __m512 scales_at(const unsigned char *panel, size_t b)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(panel + 64 + b * 16))));
}

/* M rows of x against one panel, straight from the packed bytes: what is looked up serves all rows and is not stored.
 * For so few rows the memory is the limit. */
CRL_INLINE void direct(float *y, size_t y_stride, const struct crl_act *x, size_t i, const unsigned char *panel,
                       size_t nb, __m512i table, const int M)
{
    const size_t per_span = CRL_Q4_SPAN / CRL_BLOCK;
    const struct x_rows rows = x_rows_at(x, i, 0, per_span);
    const unsigned char *codes = panel + crl_q4_scale_bytes(nb * CRL_BLOCK);
    const __m512 unit = _mm512_load_ps(panel);
    __m512 acc[TILE_M];

    CRL_UNROLL for (int r = 0; r < M; r++) acc[r] = _mm512_setzero_ps();
    for (size_t b = 0; b < nb;) {
        size_t span = b / per_span, end = b + per_span < nb ? b + per_span : nb;
        __m512 part[TILE_M];

        CRL_UNROLL for (int r = 0; r < M; r++) part[r] = _mm512_setzero_ps();
        for (; b < end; b++, codes += 256) {
            __m512i even[TILE_M], odd[TILE_M];
            __m512 ws = scales_at(panel, b);

            CRL_UNROLL for (int r = 0; r < M; r++) {
                even[r] = _mm512_set1_epi32(rows.bias[(size_t)r * rows.bias_stride + b]);
                odd[r] = _mm512_setzero_si512();
            }
            CRL_UNROLL for (int v = 0; v < 4; v++) {
                __m512i c = _mm512_load_si512(codes + v * 64);
                __m512i low = low_codes(c, table), high = high_codes(c, table);

                _mm_prefetch((const char *)codes + v * 64 + 4096, _MM_HINT_T0);
                CRL_UNROLL for (int r = 0; r < M; r++) {
                    const int8_t *q = rows.q + (size_t)r * rows.q_stride + b * CRL_BLOCK + (size_t)v * 8;
                    even[r] = _mm512_dpbusd_epi32(even[r], low, four_of(q));
                    odd[r] = _mm512_dpbusd_epi32(odd[r], high, four_of(q + 4));
                }
            }
            CRL_UNROLL for (int r = 0; r < M; r++)
                part[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even[r], odd[r])), ws, part[r]);
        }
        CRL_UNROLL for (int r = 0; r < M; r++)
            acc[r] = _mm512_fmadd_ps(part[r], _mm512_set1_ps(rows.scale[(size_t)r * rows.scale_stride + span]), acc[r]);
    }
    CRL_UNROLL for (int r = 0; r < M; r++)
        _mm512_storeu_ps(y + (size_t)r * y_stride, _mm512_mul_ps(acc[r], unit));
}

static void few_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                     size_t hi, __m512i table)
{
    size_t nb = x->k_pad / CRL_BLOCK;

    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        FEW_ROWS(direct, m, y + p * 16, y_stride, x, 0, panel, nb, table);
    }
}

/* Blocks b0 .. b0 + nb of a panel; `next` is the panel that takes its place afterwards. */
static void unpack(struct slab *s, int p, const unsigned char *panel, const unsigned char *next, size_t kp, size_t b0,
                   size_t nb, __m512i table)
{
    const unsigned char *codes = panel + crl_q4_scale_bytes(kp) + b0 * 256;

    s->next[p] = b0 + nb < kp / CRL_BLOCK ? codes + nb * 256 : next;
    s->next_bytes = nb * 256;
    for (size_t b = 0; b < nb; b++) _mm512_store_ps(s->scale[p] + b * 16, scales_at(panel, b0 + b));
    for (size_t v = 0; v < nb * 4; v++) {
        __m512i c = _mm512_load_si512(codes + v * 64);
        _mm512_store_si512(s->u[p] + v * 128, low_codes(c, table));
        _mm512_store_si512(s->u[p] + v * 128 + 64, high_codes(c, table));
    }
}

/* The row scales of one panel go over its 16 columns of y at the end. */
static void scale_rows(float *y, size_t y_stride, size_t m, const unsigned char *panel)
{
    __m512 unit = _mm512_load_ps(panel);

    for (size_t i = 0; i < m; i++)
        _mm512_storeu_ps(y + i * y_stride, _mm512_mul_ps(_mm512_loadu_ps(y + i * y_stride), unit));
}

void crl_gemm_q4_avx512vnni(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                            size_t lo, size_t hi)
{
    size_t kp = x->k_pad, n_block = kp / CRL_BLOCK;
    __m512i table = level_table(w);
    _Alignas(64) struct slab s;

    if (m <= TILE_M) {
        few_rows(y, y_stride, x, m, w, lo, hi, table);
        return;
    }
    for (size_t p = lo; p < hi; p += TILE_P) {
        int n = hi - p >= TILE_P ? TILE_P : 1;
        for (size_t b0 = 0; b0 < n_block; b0 += SLAB_BLOCKS) {
            size_t nb = n_block - b0 < SLAB_BLOCKS ? n_block - b0 : SLAB_BLOCKS;
            for (int j = 0; j < n; j++) {
                const unsigned char *panel = w->panel + (p + (size_t)j) * w->panel_bytes;
                unpack(&s, j, panel, panel + TILE_P * w->panel_bytes, kp, b0, nb, table);
            }
            if (n == 2) SLAB_ROWS(tile_coarse, y + p * 16, y_stride, x, m, &s, b0, nb, 2);
            else SLAB_ROWS(tile_coarse, y + p * 16, y_stride, x, m, &s, b0, nb, 1);
        }
        for (int j = 0; j < n; j++)
            scale_rows(y + (p + (size_t)j) * 16, y_stride, m, w->panel + (p + (size_t)j) * w->panel_bytes);
    }
}
