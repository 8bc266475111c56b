/* gemm_q8.c - q8 weights with AVX2. Contract: simd/kernels.h and quant/q8.h. */
#ifndef __AVX2__
#error "compile with the AVX2 flags"
#endif
#include "quant/q8.h"
#include "simd/avx2/tile.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q8_avx2;

#define TILE_M 2 /* rows of x that share a weight register */

/* 8 bf16 scales as float. */
CRL_INLINE __m256 scales_at(const unsigned char *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}

CRL_INLINE void tile(float *y, size_t y_stride, const struct crl_act *x, size_t i, const unsigned char *panel,
                     const int M)
{
    size_t nb = x->k_pad / CRL_BLOCK;
    const unsigned char *codes = panel + crl_q8_scale_bytes(x->k_pad);
    __m256 acc[TILE_M][2];

    CRL_UNROLL for (int r = 0; r < M; r++) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    for (size_t b = 0; b < nb; b++, codes += 512) {
        __m256 ws[2] = { scales_at(panel + b * 32), scales_at(panel + b * 32 + 16) };
        __m256i sum[TILE_M][2];

        CRL_UNROLL for (int r = 0; r < M; r++) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        CRL_UNROLL for (int g = 0; g < 8; g++) {
            __m256i w0 = _mm256_load_si256((const __m256i *)(codes + g * 64));
            __m256i w1 = _mm256_load_si256((const __m256i *)(codes + g * 64 + 32));
            _mm_prefetch((const char *)codes + g * 64 + 4096, _MM_HINT_T0);
            CRL_UNROLL for (int r = 0; r < M; r++) {
                __m256i q = four_at(x->q + (i + (size_t)r) * x->k_pad + b * CRL_BLOCK + (size_t)g * 4);
                sum[r][0] = dot4(sum[r][0], w0, q);
                sum[r][1] = dot4(sum[r][1], w1, q);
            }
        }
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m256 xs = _mm256_set1_ps(x->scale[(i + (size_t)r) * x->n_span + b]);
            CRL_UNROLL for (int h = 0; h < 2; h++)
                acc[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][h]), _mm256_mul_ps(xs, ws[h]), acc[r][h]);
        }
    }
    CRL_UNROLL for (int r = 0; r < M; r++) {
        _mm256_storeu_ps(y + (size_t)r * y_stride, acc[r][0]);
        _mm256_storeu_ps(y + (size_t)r * y_stride + 8, acc[r][1]);
    }
}

void crl_gemm_q8_avx2(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                      size_t hi)
{
    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        size_t i = 0;

        for (; i + TILE_M <= m; i += TILE_M) tile(y + i * y_stride + p * 16, y_stride, x, i, panel, TILE_M);
        for (; i < m; i++) tile(y + i * y_stride + p * 16, y_stride, x, i, panel, 1);
    }
}
