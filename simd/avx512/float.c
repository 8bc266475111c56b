/* float.c - operations on float rows with AVX-512: the same bits as simd/scalar/float.c, the product apart. */
#ifndef __AVX512BW__
#error "compile with the AVX512 flags"
#endif
#include "simd/gelu.h"
#include "simd/kernels.h"
#include "simd/x86.h"

crl_rms_norm_fn crl_rms_norm_avx512;
crl_swiglu_fn crl_swiglu_avx512;
crl_rotate_fn crl_rotate_avx512;
crl_softmax_fn crl_softmax_avx512;
crl_blend_fn crl_blend_avx512;
crl_layer_norm_fn crl_layer_norm_avx512;
crl_gelu_fn crl_gelu_avx512;
crl_gemm_f_fn crl_gemm_f32_avx512;

/* crl_exp of 16 values. The constant comes first in min and max: they return their second operand for NaN. */
CRL_INLINE __m512 exp16(__m512 x)
{
    __m512 n, r, p;

    x = _mm512_min_ps(_mm512_set1_ps(CRL_EXP_HI), _mm512_max_ps(_mm512_set1_ps(CRL_EXP_LO), x));
    n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(CRL_LOG2E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-CRL_LN2_HI), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-CRL_LN2_LO), r);
    p = _mm512_fmadd_ps(_mm512_set1_ps(CRL_EXP_C7), r, _mm512_set1_ps(CRL_EXP_C6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CRL_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CRL_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CRL_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(CRL_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

CRL_INLINE __mmask16 first(size_t n)
{
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

/* Fold by halves, as the specification does. */
CRL_INLINE float fold(__m512 v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

void crl_rms_norm_avx512(float *out, const float *x, const float *weight, size_t n, float eps)
{
    __m512 sum = _mm512_setzero_ps(), r;

    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(first(n - i), x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    r = _mm512_set1_ps(1 / __builtin_sqrtf(fold(sum) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), r);
        if (weight) v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, weight + i));
        _mm512_mask_storeu_ps(out + i, m, v);
    }
}

void crl_swiglu_avx512(float *out, const float *tile)
{
    const __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);

    CRL_UNROLL for (int h = 0; h < 2; h++) {
        __m512 gate = _mm512_loadu_ps(tile + 32 * h), up = _mm512_loadu_ps(tile + 32 * h + 16);
        __m512 e = exp16(_mm512_xor_ps(gate, sign));
        _mm512_storeu_ps(out + 16 * h, _mm512_mul_ps(up, _mm512_div_ps(gate, _mm512_add_ps(one, e))));
    }
}

void crl_layer_norm_avx512(float *out, const float *x, const float *weight, const float *bias, size_t n, float eps)
{
    __m512 sum = _mm512_setzero_ps(), mean, r;

    for (size_t i = 0; i < n; i += 16) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(first(n - i), x + i));
    mean = _mm512_set1_ps(fold(sum) / (float)n);
    sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first(n - i);
        __m512 v = _mm512_maskz_sub_ps(m, _mm512_maskz_loadu_ps(m, x + i), mean);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    r = _mm512_set1_ps(1 / __builtin_sqrtf(fold(sum) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first(n - i);
        __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), mean), r);
        _mm512_mask_storeu_ps(out + i, m, _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, weight + i),
                                                          _mm512_maskz_loadu_ps(m, bias + i)));
    }
}

/* crl_gelu of 16 values. */
CRL_INLINE __m512 gelu16(__m512 x)
{
    static const float c[CRL_GELU_TERMS] = CRL_GELU_P;
    __m512 t = _mm512_min_ps(_mm512_set1_ps(CRL_GELU_MOST), _mm512_abs_ps(x)), p = _mm512_set1_ps(c[0]), tail;

    CRL_UNROLL for (int i = 1; i < CRL_GELU_TERMS; i++) p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(c[i]));
    tail = _mm512_mul_ps(_mm512_set1_ps(0.5f), exp16(_mm512_mul_ps(p, t)));
    p = _mm512_sub_ps(_mm512_set1_ps(1.0f), tail);
    return _mm512_mul_ps(x, _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), p, tail));
}

void crl_gelu_avx512(float *x, const float *bias, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        if (bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, bias + i));
        _mm512_mask_storeu_ps(x + i, m, gelu16(v));
    }
}

/* The larger of the maximum `top` of s and `old`; of zeros, which are equal and yet have signs, the first. */
static float first_max(const float *s, size_t n, float top, float old)
{
    if (!(top > old)) return old;
    for (size_t j = 0; top == 0 && j < n; j++)
        if (s[j] == 0) return s[j];
    return top;
}

void crl_rotate_avx512(float *x, const float *cs, size_t n_pair)
{
    for (size_t j = 0; j < 2 * n_pair; j += 16) {
        __mmask16 m = first(2 * n_pair - j);
        __m512 v = _mm512_maskz_loadu_ps(m, x + j), a = _mm512_maskz_loadu_ps(m, cs + j);
        __m512 other = _mm512_mul_ps(_mm512_permute_ps(v, 0xb1), _mm512_movehdup_ps(a)); /* b s, a s */
        _mm512_mask_storeu_ps(x + j, m, _mm512_fmaddsub_ps(v, _mm512_moveldup_ps(a), other));
    }
}

/* The nearest bf16 numbers, NaN as it is. */
CRL_INLINE __m512 round_bf16(__m512 v)
{
    __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);

    return _mm512_mask_and_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), _mm512_castsi512_ps(r),
                              _mm512_castsi512_ps(_mm512_set1_epi32((int)0xffff0000)));
}

float crl_softmax_avx512(float *s, size_t n, float scale, bool bf16, float *max, float *sum)
{
    __m512 best = _mm512_set1_ps(*max), lane = _mm512_setzero_ps();
    float old = *max, shrink, top;

    for (size_t j = 0; j < n; j += 16) {
        __mmask16 m = first(n - j);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, s + j), _mm512_set1_ps(scale));
        _mm512_mask_storeu_ps(s + j, m, v);
        best = _mm512_mask_max_ps(best, m, v, best); /* NaN in v: the second operand, best, stays */
    }
    top = first_max(s, n, _mm512_reduce_max_ps(best), old);
    shrink = *sum > 0 ? crl_exp(old - top) : 0;
    for (size_t j = 0; j < n; j += 16) {
        __mmask16 m = first(n - j);
        __m512 v = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, s + j), _mm512_set1_ps(top)));
        if (bf16) v = round_bf16(v);
        _mm512_mask_storeu_ps(s + j, m, v);
        lane = _mm512_mask_add_ps(lane, m, lane, v);
    }
    *sum = *sum * shrink + fold(lane);
    *max = top;
    return shrink;
}

void crl_blend_avx512(float *y, const float *x, const float *keep, const float *gain, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++, y += n, x += n) {
        __m512 k = _mm512_set1_ps(keep[i]), g = _mm512_set1_ps(gain ? gain[i] : 1); /* times 1 changes nothing */
        for (size_t j = 0; j < n; j += 16)
            _mm512_storeu_ps(y + j, _mm512_fmadd_ps(_mm512_loadu_ps(y + j), k, _mm512_mul_ps(_mm512_loadu_ps(x + j), g)));
    }
}

#define TILE_M 6

/* M rows of x against one panel; four sums per row, k modulo 4. */
CRL_INLINE void tile(float *y, size_t y_stride, const float *x, size_t x_stride, const float *panel, size_t kp,
                     const int M)
{
    __m512 s[TILE_M][4];

    CRL_UNROLL for (int i = 0; i < M; i++) s[i][0] = s[i][1] = s[i][2] = s[i][3] = _mm512_setzero_ps();
    for (size_t k = 0; k < kp; k += 4, panel += 64) {
        CRL_UNROLL for (int j = 0; j < 4; j++) {
            __m512 w = _mm512_load_ps(panel + 16 * j);
            CRL_UNROLL for (int i = 0; i < M; i++)
                s[i][j] = _mm512_fmadd_ps(_mm512_set1_ps(x[(size_t)i * x_stride + k + (size_t)j]), w, s[i][j]);
        }
    }
    CRL_UNROLL for (int i = 0; i < M; i++)
        _mm512_storeu_ps(y + (size_t)i * y_stride,
                         _mm512_add_ps(_mm512_add_ps(s[i][0], s[i][2]), _mm512_add_ps(s[i][1], s[i][3])));
}

void crl_gemm_f32_avx512(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m, const struct crl_mat *w,
                         size_t lo, size_t hi)
{
    size_t kp = crl_k_pad(w->k);

    for (size_t p = lo; p < hi; p++) {
        const float *panel = (const float *)(const void *)(w->panel + p * w->panel_bytes);
        float *yp = y + p * CRL_PANEL_ROWS;
        size_t i = 0;

        for (; i + TILE_M <= m; i += TILE_M) tile(yp + i * y_stride, y_stride, x + i * x_stride, x_stride, panel, kp, TILE_M);
        for (; i < m; i++) tile(yp + i * y_stride, y_stride, x + i * x_stride, x_stride, panel, kp, 1);
    }
}
