/* act.c - int8 activations with AVX2: the same bits as quant/act.c. */
#ifndef __AVX2__
#error "compile with the AVX2 flags"
#endif
#include "simd/act_row.h"
#include "simd/kernels.h"
#include "simd/x86.h"

crl_act_row_fn crl_act_row_avx2;

/* Largest magnitude of 32 values, NaN if there is one. */
static float max_abs(const float *x)
{
    const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 m = _mm256_setzero_ps(), nan = _mm256_setzero_ps();
    float lane[8], big = 0;

    for (int j = 0; j < 32; j += 8) {
        __m256 v = _mm256_loadu_ps(x + j);
        m = _mm256_max_ps(m, _mm256_and_ps(v, mask));
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    }
    if (_mm256_movemask_ps(nan)) return NAN;
    _mm256_storeu_ps(lane, m);
    for (int j = 0; j < 8; j++) big = lane[j] > big ? lane[j] : big;
    return big;
}

/* 32 codes and their sum. */
static int32_t codes(int8_t *q, const float *x, float inv)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i c[4], sum;
    int32_t lane[8], total = 0;

    for (int j = 0; j < 4; j++)
        c[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), _mm256_set1_ps(inv)));
    sum = _mm256_add_epi32(_mm256_add_epi32(c[0], c[1]), _mm256_add_epi32(c[2], c[3]));
    _mm256_storeu_si256((__m256i *)lane, sum);
    for (int j = 0; j < 8; j++) total += lane[j];
    c[0] = _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3]));
    _mm256_storeu_si256((__m256i *)q, _mm256_permutevar8x32_epi32(c[0], order));
    return total;
}

void crl_act_row_avx2(const struct crl_act *a, size_t i, const float *x, size_t k)
{
    crl_act_row_of(a, i, x, k, max_abs, codes);
}
