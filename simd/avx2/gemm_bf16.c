/* gemm_bf16.c - bf16 weights times float activations with AVX2. */
#ifndef __AVX2__
#error "compile with the AVX2 flags"
#endif
#include "simd/kernels.h"
#include "simd/x86.h"

crl_gemm_f_fn crl_gemm_bf16_avx2;

/* One row of x against 8 rows of a panel; four sums, k modulo 4. */
static void half(float *y, const float *x, const unsigned char *panel, size_t kp)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    __m256 s[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };

    for (size_t k = 0; k < kp; k += 4, panel += 128) {
        __m256i a = _mm256_load_si256((const __m256i *)panel), b = _mm256_load_si256((const __m256i *)(panel + 64));

        s[0] = _mm256_fmadd_ps(_mm256_set1_ps(x[k]), _mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), s[0]);
        s[1] = _mm256_fmadd_ps(_mm256_set1_ps(x[k + 1]), _mm256_castsi256_ps(_mm256_and_si256(a, high)), s[1]);
        s[2] = _mm256_fmadd_ps(_mm256_set1_ps(x[k + 2]), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)), s[2]);
        s[3] = _mm256_fmadd_ps(_mm256_set1_ps(x[k + 3]), _mm256_castsi256_ps(_mm256_and_si256(b, high)), s[3]);
    }
    _mm256_storeu_ps(y, _mm256_add_ps(_mm256_add_ps(s[0], s[2]), _mm256_add_ps(s[1], s[3])));
}

void crl_gemm_bf16_avx2(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m, const struct crl_mat *w,
                        size_t lo, size_t hi)
{
    size_t kp = crl_k_pad(w->k);

    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        for (size_t i = 0; i < m; i++) {
            half(y + i * y_stride + p * CRL_PANEL_ROWS, x + i * x_stride, panel, kp);
            half(y + i * y_stride + p * CRL_PANEL_ROWS + 8, x + i * x_stride, panel + 32, kp);
        }
    }
}
