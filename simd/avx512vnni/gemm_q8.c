/* gemm_q8.c - q8 weights with vpdpbusd. Contract: simd/kernels.h and quant/q8.h. */
#ifndef __AVX512VNNI__
#error "compile with the AVX512_VNNI flags"
#endif
#include "quant/q8.h"
#include "simd/avx512vnni/tile.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q8_avx512vnni;

/* 16 bf16 scales as float. */
CRL_INLINE __m512 scales_at(const unsigned char *panel, size_t b)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)(panel + b * 32));

    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* M rows of x against one panel, straight from the packed bytes. For so few rows the memory is the limit. */
CRL_INLINE void direct(float *y, size_t y_stride, const struct crl_act *x, size_t i, const unsigned char *panel,
                       size_t nb, const int M)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    const struct x_rows rows = x_rows_at(x, i, 0, 1);
    const unsigned char *codes = panel + crl_q8_scale_bytes(nb * CRL_BLOCK);
    __m512 acc[TILE_M];

    CRL_UNROLL for (int r = 0; r < M; r++) acc[r] = _mm512_setzero_ps();
    for (size_t b = 0; b < nb; b++, codes += 512) {
        __m512i even[TILE_M], odd[TILE_M];
        __m512 ws = scales_at(panel, b);

        CRL_UNROLL for (int r = 0; r < M; r++) {
            even[r] = _mm512_set1_epi32(rows.bias[(size_t)r * rows.bias_stride + b]);
            odd[r] = _mm512_setzero_si512();
        }
        CRL_UNROLL for (int g = 0; g < 8; g += 2) {
            __m512i low = _mm512_xor_si512(_mm512_load_si512(codes + g * 64), flip);
            __m512i high = _mm512_xor_si512(_mm512_load_si512(codes + g * 64 + 64), flip);

            _mm_prefetch((const char *)codes + g * 64 + 4096, _MM_HINT_T0);
            _mm_prefetch((const char *)codes + g * 64 + 4160, _MM_HINT_T0);
            CRL_UNROLL for (int r = 0; r < M; r++) {
                const int8_t *q = rows.q + (size_t)r * rows.q_stride + b * CRL_BLOCK + (size_t)g * 4;
                even[r] = _mm512_dpbusd_epi32(even[r], low, four_of(q));
                odd[r] = _mm512_dpbusd_epi32(odd[r], high, four_of(q + 4));
            }
        }
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m512 scale = _mm512_mul_ps(_mm512_set1_ps(rows.scale[(size_t)r * rows.scale_stride + b]), ws);
            acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even[r], odd[r])), scale, acc[r]);
        }
    }
    CRL_UNROLL for (int r = 0; r < M; r++) _mm512_storeu_ps(y + (size_t)r * y_stride, acc[r]);
}

static void few_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                     size_t hi)
{
    size_t nb = x->k_pad / CRL_BLOCK;

    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        FEW_ROWS(direct, m, y + p * 16, y_stride, x, 0, panel, nb);
    }
}

/* Blocks b0 .. b0 + nb of a panel; `next` is the panel that takes its place afterwards. */
static void unpack(struct slab *s, int p, const unsigned char *panel, const unsigned char *next, size_t kp, size_t b0,
                   size_t nb)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    const unsigned char *codes = panel + crl_q8_scale_bytes(kp) + b0 * 512;

    s->next[p] = b0 + nb < kp / CRL_BLOCK ? codes + nb * 512 : next;
    s->next_bytes = nb * 512;
    for (size_t b = 0; b < nb; b++) _mm512_store_ps(s->scale[p] + b * 16, scales_at(panel, b0 + b));
    for (size_t v = 0; v < nb * 8; v++)
        _mm512_store_si512(s->u[p] + v * 64, _mm512_xor_si512(_mm512_load_si512(codes + v * 64), flip));
}

void crl_gemm_q8_avx512vnni(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w,
                            size_t lo, size_t hi)
{
    size_t kp = x->k_pad, n_block = kp / CRL_BLOCK;
    _Alignas(64) struct slab s;

    if (m <= TILE_M) {
        few_rows(y, y_stride, x, m, w, lo, hi);
        return;
    }
    for (size_t p = lo; p < hi; p += TILE_P) {
        int n = hi - p >= TILE_P ? TILE_P : 1;
        for (size_t b0 = 0; b0 < n_block; b0 += SLAB_BLOCKS) {
            size_t nb = n_block - b0 < SLAB_BLOCKS ? n_block - b0 : SLAB_BLOCKS;
            for (int j = 0; j < n; j++) {
                const unsigned char *panel = w->panel + (p + (size_t)j) * w->panel_bytes;
                unpack(&s, j, panel, panel + TILE_P * w->panel_bytes, kp, b0, nb);
            }
            if (n == 2) SLAB_ROWS(tile_fine, y + p * 16, y_stride, x, m, &s, b0, nb, 2);
            else SLAB_ROWS(tile_fine, y + p * 16, y_stride, x, m, &s, b0, nb, 1);
        }
    }
}
