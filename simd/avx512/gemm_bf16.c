/* gemm_bf16.c - bf16 weights times float activations with AVX-512: weights are widened, products stay float. */
#ifndef __AVX512BW__
#error "compile with the AVX512 flags"
#endif
#include "simd/kernels.h"
#include "simd/x86.h"

crl_gemm_f_fn crl_gemm_bf16_avx512;

#define TILE_M 6

/* M rows of x against one panel; four sums per row, k modulo 4. */
CRL_INLINE void tile(float *y, size_t y_stride, const float *x, size_t x_stride, const unsigned char *panel, size_t kp,
                     const int M)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    __m512 s[TILE_M][4];

    CRL_UNROLL for (int i = 0; i < M; i++) s[i][0] = s[i][1] = s[i][2] = s[i][3] = _mm512_setzero_ps();
    for (size_t k = 0; k < kp; k += 4, panel += 128) {
        __m512i a = _mm512_load_si512(panel), b = _mm512_load_si512(panel + 64);
        __m512 w[4] = { _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_and_si512(a, high)),
                        _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), _mm512_castsi512_ps(_mm512_and_si512(b, high)) };

        _mm_prefetch((const char *)panel + 2048, _MM_HINT_T0);
        _mm_prefetch((const char *)panel + 2112, _MM_HINT_T0);
        CRL_UNROLL for (int i = 0; i < M; i++) {
            CRL_UNROLL for (int j = 0; j < 4; j++)
                s[i][j] = _mm512_fmadd_ps(_mm512_set1_ps(x[(size_t)i * x_stride + k + (size_t)j]), w[j], s[i][j]);
        }
    }
    CRL_UNROLL for (int i = 0; i < M; i++)
        _mm512_storeu_ps(y + (size_t)i * y_stride,
                         _mm512_add_ps(_mm512_add_ps(s[i][0], s[i][2]), _mm512_add_ps(s[i][1], s[i][3])));
}

void crl_gemm_bf16_avx512(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m,
                          const struct crl_mat *w, size_t lo, size_t hi)
{
    size_t kp = crl_k_pad(w->k);

    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        float *yp = y + p * CRL_PANEL_ROWS;
        size_t i = 0;

        for (; i + TILE_M <= m; i += TILE_M) tile(yp + i * y_stride, y_stride, x + i * x_stride, x_stride, panel, kp, TILE_M);
        yp += i * y_stride;
        switch (m - i) { /* the five queries of a kv head are one tile: keys are widened once for all */
        case 5: tile(yp, y_stride, x + i * x_stride, x_stride, panel, kp, 5); break;
        case 4: tile(yp, y_stride, x + i * x_stride, x_stride, panel, kp, 4); break;
        case 3: tile(yp, y_stride, x + i * x_stride, x_stride, panel, kp, 3); break;
        case 2: tile(yp, y_stride, x + i * x_stride, x_stride, panel, kp, 2); break;
        case 1: tile(yp, y_stride, x + i * x_stride, x_stride, panel, kp, 1); break;
        default: break;
        }
    }
}
