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

/* One row of x against one panel, straight from the packed bytes. */
static void gemv_panel(float *y, const struct crl_act *x, size_t i, const unsigned char *panel, size_t nb)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    const unsigned char *codes = panel + crl_q8_scale_bytes(nb * CRL_BLOCK);
    const int8_t *q = x->q + i * x->k_pad;
    __m512 acc = _mm512_setzero_ps();

    for (size_t b = 0; b < nb; b++, codes += 512, q += CRL_BLOCK) {
        __m512i even = _mm512_set1_epi32(x->bias[i * nb + b]), odd = _mm512_setzero_si512();
        __m512 scale = _mm512_mul_ps(_mm512_set1_ps(x->scale[i * x->n_span + b]), scales_at(panel, b));

        CRL_UNROLL for (int g = 0; g < 8; g += 2) {
            int32_t a, c;
            __builtin_memcpy(&a, q + g * 4, 4);
            __builtin_memcpy(&c, q + g * 4 + 4, 4);
            _mm_prefetch((const char *)codes + g * 64 + 4096, _MM_HINT_T0);
            _mm_prefetch((const char *)codes + g * 64 + 4160, _MM_HINT_T0);
            even = _mm512_dpbusd_epi32(even, _mm512_xor_si512(_mm512_load_si512(codes + g * 64), flip),
                                       _mm512_set1_epi32(a));
            odd = _mm512_dpbusd_epi32(odd, _mm512_xor_si512(_mm512_load_si512(codes + g * 64 + 64), flip),
                                      _mm512_set1_epi32(c));
        }
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)), scale, acc);
    }
    _mm512_storeu_ps(y, acc);
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

    if (m == 1) {
        for (size_t p = lo; p < hi; p++) gemv_panel(y + p * 16, x, 0, w->panel + p * w->panel_bytes, n_block);
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
