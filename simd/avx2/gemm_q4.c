/* gemm_q4.c - q4 weights with AVX2. Contract: simd/kernels.h and quant/q4.h. */
#ifndef __AVX2__
#error "compile with the AVX2 flags"
#endif
#include "quant/q4.h"
#include "simd/avx2/tile.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q4_avx2;

#define TILE_M 2 /* rows of x that share a weight register */

/* 8 int8 block scales as float. */
CRL_INLINE __m256 scales_at(const unsigned char *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

CRL_INLINE void tile(float *y, size_t y_stride, const struct crl_act *x, size_t i, const unsigned char *panel,
                     __m256i table, const int M)
{
    const __m256i low = _mm256_set1_epi8(15);
    size_t nb = x->k_pad / CRL_BLOCK;
    const unsigned char *scales = panel + 64, *codes = panel + crl_q4_scale_bytes(x->k_pad);
    __m256 acc[TILE_M][2], part[TILE_M][2];

    CRL_UNROLL for (int r = 0; r < M; r++)
        acc[r][0] = acc[r][1] = part[r][0] = part[r][1] = _mm256_setzero_ps();
    for (size_t b = 0; b < nb; b++, codes += 256) {
        const size_t per_span = CRL_Q4_SPAN / CRL_BLOCK;
        __m256 ws[2] = { scales_at(scales + b * 16), scales_at(scales + b * 16 + 8) };
        __m256i sum[TILE_M][2];

        CRL_UNROLL for (int r = 0; r < M; r++) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        CRL_UNROLL for (int v = 0; v < 4; v++) {
            __m256i c0 = _mm256_load_si256((const __m256i *)(codes + v * 64));
            __m256i c1 = _mm256_load_si256((const __m256i *)(codes + v * 64 + 32));
            _mm_prefetch((const char *)codes + v * 64 + 4096, _MM_HINT_T0);
            CRL_UNROLL for (int odd = 0; odd < 2; odd++) {
                __m256i n0 = odd ? _mm256_srli_epi16(c0, 4) : c0, n1 = odd ? _mm256_srli_epi16(c1, 4) : c1;
                __m256i w0 = _mm256_shuffle_epi8(table, _mm256_and_si256(n0, low));
                __m256i w1 = _mm256_shuffle_epi8(table, _mm256_and_si256(n1, low));
                CRL_UNROLL for (int r = 0; r < M; r++) {
                    __m256i q = four_at(x->q + (i + (size_t)r) * x->k_pad + b * CRL_BLOCK + (size_t)(v * 8 + odd * 4));
                    sum[r][0] = dot4(sum[r][0], w0, q);
                    sum[r][1] = dot4(sum[r][1], w1, q);
                }
            }
        }
        CRL_UNROLL for (int r = 0; r < M; r++) {
            CRL_UNROLL for (int h = 0; h < 2; h++)
                part[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][h]), ws[h], part[r][h]);
        }
        if (b % per_span != per_span - 1 && b + 1 != nb) continue;
        CRL_UNROLL for (int r = 0; r < M; r++) {
            __m256 xs = _mm256_set1_ps(x->scale[(i + (size_t)r) * x->n_span + b / per_span]);
            CRL_UNROLL for (int h = 0; h < 2; h++) {
                acc[r][h] = _mm256_fmadd_ps(part[r][h], xs, acc[r][h]);
                part[r][h] = _mm256_setzero_ps();
            }
        }
    }
    CRL_UNROLL for (int r = 0; r < M; r++) {
        CRL_UNROLL for (int h = 0; h < 2; h++)
            _mm256_storeu_ps(y + (size_t)r * y_stride + 8 * h,
                             _mm256_mul_ps(acc[r][h], _mm256_load_ps((const float *)(const void *)panel + 8 * h)));
    }
}

void crl_gemm_q4_avx2(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                      size_t hi)
{
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)w->level));

    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        size_t i = 0;

        for (; i + TILE_M <= m; i += TILE_M) tile(y + i * y_stride + p * 16, y_stride, x, i, panel, table, TILE_M);
        for (; i < m; i++) tile(y + i * y_stride + p * 16, y_stride, x, i, panel, table, 1);
    }
}
