/* float.c - operations on float rows with AVX2: the same bits as simd/scalar/float.c, the product apart. */
#ifndef __AVX2__
#error "compile with the AVX2 flags"
#endif
#include "base/bytes.h"
#include "simd/gelu.h"
#include "simd/kernels.h"
#include "simd/x86.h"

crl_rms_norm_fn crl_rms_norm_avx2;
crl_swiglu_fn crl_swiglu_avx2;
crl_rotate_fn crl_rotate_avx2;
crl_softmax_fn crl_softmax_avx2;
crl_blend_fn crl_blend_avx2;
crl_layer_norm_fn crl_layer_norm_avx2;
crl_gelu_fn crl_gelu_avx2;
crl_gemm_f_fn crl_gemm_f32_avx2;

/* crl_exp of 8 values; n stays within -126 .. 127, so 2^n is built from its exponent. */
CRL_INLINE __m256 exp8(__m256 x)
{
    __m256 n, r, p;

    x = _mm256_min_ps(_mm256_set1_ps(CRL_EXP_HI), _mm256_max_ps(_mm256_set1_ps(CRL_EXP_LO), x));
    n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(CRL_LOG2E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-CRL_LN2_HI), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-CRL_LN2_LO), r);
    p = _mm256_fmadd_ps(_mm256_set1_ps(CRL_EXP_C7), r, _mm256_set1_ps(CRL_EXP_C6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CRL_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CRL_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CRL_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(CRL_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(
                                _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23)));
}

/* Lanes 0-7 in a, 8-15 in b, folded by halves. */
CRL_INLINE float fold(__m256 a, __m256 b)
{
    __m256 v = _mm256_add_ps(a, b);
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

void crl_rms_norm_avx2(float *out, const float *x, const float *weight, size_t n, float eps)
{
    __m256 a = _mm256_setzero_ps(), b = a;
    float lane[16], r;
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        __m256 u = _mm256_loadu_ps(x + i), v = _mm256_loadu_ps(x + i + 8);
        a = _mm256_fmadd_ps(u, u, a);
        b = _mm256_fmadd_ps(v, v, b);
    }
    _mm256_storeu_ps(lane, a);
    _mm256_storeu_ps(lane + 8, b);
    for (size_t j = i; j < n; j++) lane[j - i] = fmaf(x[j], x[j], lane[j - i]);
    r = 1 / __builtin_sqrtf(fold(_mm256_loadu_ps(lane), _mm256_loadu_ps(lane + 8)) / (float)n + eps);
    for (i = 0; i + 8 <= n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(r));
        _mm256_storeu_ps(out + i, weight ? _mm256_mul_ps(v, _mm256_loadu_ps(weight + i)) : v);
    }
    for (; i < n; i++) out[i] = weight ? x[i] * r * weight[i] : x[i] * r;
}

void crl_swiglu_avx2(float *out, const float *tile)
{
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);

    CRL_UNROLL for (int q = 0; q < 4; q++) {
        const float *g = tile + q / 2 * 32 + q % 2 * 8;
        __m256 gate = _mm256_loadu_ps(g), up = _mm256_loadu_ps(g + 16);
        __m256 e = exp8(_mm256_xor_ps(gate, sign));
        _mm256_storeu_ps(out + 8 * q, _mm256_mul_ps(up, _mm256_div_ps(gate, _mm256_add_ps(one, e))));
    }
}

void crl_rotate_avx2(float *x, const float *cs, size_t n_pair)
{
    size_t j = 0;

    for (; j + 8 <= 2 * n_pair; j += 8) {
        __m256 v = _mm256_loadu_ps(x + j), a = _mm256_loadu_ps(cs + j);
        __m256 other = _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), _mm256_movehdup_ps(a)); /* b s, a s */
        _mm256_storeu_ps(x + j, _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(a), other));
    }
    for (; j < 2 * n_pair; j += 2) {
        float a = x[j], b = x[j + 1], c = cs[j], s = cs[j + 1];
        x[j] = fmaf(a, c, -(b * s));
        x[j + 1] = fmaf(b, c, a * s);
    }
}

/* The nearest bf16 numbers, NaN as it is. */
CRL_INLINE __m256 round_bf16(__m256 v)
{
    __m256i u = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);

    r = _mm256_and_si256(r, _mm256_set1_epi32((int)0xffff0000));
    return _mm256_blendv_ps(_mm256_castsi256_ps(r), v, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
}

/* Sum of f(x) over n values in 16 lanes: x itself, or the square of x less mean. */
CRL_INLINE float lane_sum(const float *x, size_t n, bool square, float mean)
{
    __m256 a = _mm256_setzero_ps(), b = a, c = _mm256_set1_ps(mean);
    float lane[16];
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        __m256 u = _mm256_loadu_ps(x + i), v = _mm256_loadu_ps(x + i + 8);
        if (square) {
            u = _mm256_sub_ps(u, c);
            v = _mm256_sub_ps(v, c);
        }
        a = square ? _mm256_fmadd_ps(u, u, a) : _mm256_add_ps(a, u);
        b = square ? _mm256_fmadd_ps(v, v, b) : _mm256_add_ps(b, v);
    }
    _mm256_storeu_ps(lane, a);
    _mm256_storeu_ps(lane + 8, b);
    for (size_t j = i; j < n; j++) {
        float *l = &lane[j - i];
        *l = square ? fmaf(x[j] - mean, x[j] - mean, *l) : *l + x[j];
    }
    return fold(_mm256_loadu_ps(lane), _mm256_loadu_ps(lane + 8));
}

void crl_layer_norm_avx2(float *out, const float *x, const float *weight, const float *bias, size_t n, float eps)
{
    float mean = lane_sum(x, n, false, 0) / (float)n;
    float r = 1 / __builtin_sqrtf(lane_sum(x, n, true, mean) / (float)n + eps);
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(mean)), _mm256_set1_ps(r));
        _mm256_storeu_ps(out + i, _mm256_fmadd_ps(v, _mm256_loadu_ps(weight + i), _mm256_loadu_ps(bias + i)));
    }
    for (; i < n; i++) out[i] = fmaf((x[i] - mean) * r, weight[i], bias[i]);
}

/* crl_gelu of 8 values. */
CRL_INLINE __m256 gelu8(__m256 x)
{
    static const float c[CRL_GELU_TERMS] = CRL_GELU_P;
    __m256 t = _mm256_min_ps(_mm256_set1_ps(CRL_GELU_MOST), _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x));
    __m256 p = _mm256_set1_ps(c[0]), tail;

    CRL_UNROLL for (int i = 1; i < CRL_GELU_TERMS; i++) p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(c[i]));
    tail = _mm256_mul_ps(_mm256_set1_ps(0.5f), exp8(_mm256_mul_ps(p, t)));
    p = _mm256_sub_ps(_mm256_set1_ps(1.0f), tail);
    return _mm256_mul_ps(x, _mm256_blendv_ps(p, tail, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ)));
}

void crl_gelu_avx2(float *x, const float *bias, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        if (bias) v = _mm256_add_ps(v, _mm256_loadu_ps(bias + i));
        _mm256_storeu_ps(x + i, gelu8(v));
    }
    for (; i < n; i++) x[i] = crl_gelu(bias ? x[i] + bias[i] : x[i]);
}

float crl_softmax_avx2(float *s, size_t n, float scale, bool bf16, float *max, float *sum)
{
    float lane[16], best = *max, shrink;
    __m256 a, b, top;
    size_t j = 0;

    for (; j < n; j++) { /* short and seldom the bottleneck: the compiler may have it */
        s[j] *= scale;
        if (s[j] > best) best = s[j];
    }
    shrink = *sum > 0 ? crl_exp(*max - best) : 0;
    top = _mm256_set1_ps(best);
    a = b = _mm256_setzero_ps();
    for (j = 0; j + 16 <= n; j += 16) {
        __m256 u = exp8(_mm256_sub_ps(_mm256_loadu_ps(s + j), top));
        __m256 v = exp8(_mm256_sub_ps(_mm256_loadu_ps(s + j + 8), top));
        if (bf16) {
            u = round_bf16(u);
            v = round_bf16(v);
        }
        _mm256_storeu_ps(s + j, u);
        _mm256_storeu_ps(s + j + 8, v);
        a = _mm256_add_ps(a, u);
        b = _mm256_add_ps(b, v);
    }
    _mm256_storeu_ps(lane, a);
    _mm256_storeu_ps(lane + 8, b);
    for (size_t t = j; t < n; t++) {
        s[t] = crl_exp(s[t] - best);
        if (bf16) s[t] = crl_bf16_round(s[t]);
        lane[t - j] += s[t];
    }
    *sum = *sum * shrink + fold(_mm256_loadu_ps(lane), _mm256_loadu_ps(lane + 8));
    *max = best;
    return shrink;
}

void crl_blend_avx2(float *y, const float *x, const float *keep, const float *gain, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++, y += n, x += n) {
        __m256 k = _mm256_set1_ps(keep[i]), g = _mm256_set1_ps(gain ? gain[i] : 1); /* times 1 changes nothing */
        for (size_t j = 0; j < n; j += 8)
            _mm256_storeu_ps(y + j, _mm256_fmadd_ps(_mm256_loadu_ps(y + j), k, _mm256_mul_ps(_mm256_loadu_ps(x + j), g)));
    }
}

/* One row of x against 8 rows of a panel; four sums, k modulo 4. */
static void half(float *y, const float *x, const float *panel, size_t kp)
{
    __m256 s[4] = { _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps() };

    for (size_t k = 0; k < kp; k += 4, panel += 64) {
        CRL_UNROLL for (int j = 0; j < 4; j++)
            s[j] = _mm256_fmadd_ps(_mm256_set1_ps(x[k + (size_t)j]), _mm256_load_ps(panel + 16 * j), s[j]);
    }
    _mm256_storeu_ps(y, _mm256_add_ps(_mm256_add_ps(s[0], s[2]), _mm256_add_ps(s[1], s[3])));
}

void crl_gemm_f32_avx2(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m, const struct crl_mat *w,
                       size_t lo, size_t hi)
{
    size_t kp = crl_k_pad(w->k);

    for (size_t p = lo; p < hi; p++) {
        const float *panel = (const float *)(const void *)(w->panel + p * w->panel_bytes);
        for (size_t i = 0; i < m; i++) {
            half(y + i * y_stride + p * CRL_PANEL_ROWS, x + i * x_stride, panel, kp);
            half(y + i * y_stride + p * CRL_PANEL_ROWS + 8, x + i * x_stride, panel + 8, kp);
        }
    }
}
