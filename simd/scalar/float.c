/* float.c - the scalar specification of the operations on float rows. Contracts: simd/kernels.h. */
#include "simd/kernels.h"

#include "base/bytes.h"
#include "simd/gelu.h"

#include <math.h>
#include <string.h>

crl_rms_norm_fn crl_rms_norm_scalar;
crl_swiglu_fn crl_swiglu_scalar;
crl_rotate_fn crl_rotate_scalar;
crl_softmax_fn crl_softmax_scalar;
crl_blend_fn crl_blend_scalar;
crl_layer_norm_fn crl_layer_norm_scalar;
crl_gelu_fn crl_gelu_scalar;
crl_gemm_f_fn crl_gemm_f32_scalar;

/* Fold 16 lanes by halves. */
static float fold(float lane[16])
{
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

void crl_rms_norm_scalar(float *out, const float *x, const float *weight, size_t n, float eps)
{
    float lane[16] = { 0 }, r;

    for (size_t i = 0; i < n; i++) lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    r = 1 / sqrtf(fold(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) out[i] = weight ? x[i] * r * weight[i] : x[i] * r;
}

void crl_swiglu_scalar(float *out, const float *tile)
{
    for (int j = 0; j < 32; j++) {
        float gate = tile[j / 16 * 32 + j % 16], up = tile[j / 16 * 32 + 16 + j % 16];
        out[j] = up * (gate / (1 + crl_exp(-gate)));
    }
}

void crl_rotate_scalar(float *x, const float *cs, size_t n_pair)
{
    for (size_t j = 0; j < n_pair; j++) {
        float a = x[2 * j], b = x[2 * j + 1], c = cs[2 * j], s = cs[2 * j + 1];
        x[2 * j] = fmaf(a, c, -(b * s));
        x[2 * j + 1] = fmaf(b, c, a * s);
    }
}

void crl_layer_norm_scalar(float *out, const float *x, const float *weight, const float *bias, size_t n, float eps)
{
    float lane[16] = { 0 }, mean, r;

    for (size_t i = 0; i < n; i++) lane[i % 16] += x[i];
    mean = fold(lane) / (float)n;
    memset(lane, 0, sizeof lane);
    for (size_t i = 0; i < n; i++) lane[i % 16] = fmaf(x[i] - mean, x[i] - mean, lane[i % 16]);
    r = 1 / sqrtf(fold(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) out[i] = fmaf((x[i] - mean) * r, weight[i], bias[i]);
}

void crl_gelu_scalar(float *x, const float *bias, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = crl_gelu(bias ? x[i] + bias[i] : x[i]);
}

float crl_softmax_scalar(float *s, size_t n, float scale, bool bf16, float *max, float *sum)
{
    float lane[16] = { 0 }, best = *max, shrink;

    for (size_t j = 0; j < n; j++) {
        s[j] *= scale;
        if (s[j] > best) best = s[j];
    }
    shrink = *sum > 0 ? crl_exp(*max - best) : 0;
    for (size_t j = 0; j < n; j++) {
        s[j] = crl_exp(s[j] - best);
        if (bf16) s[j] = crl_bf16_round(s[j]);
        lane[j % 16] += s[j];
    }
    *sum = *sum * shrink + fold(lane);
    *max = best;
    return shrink;
}

void crl_blend_scalar(float *y, const float *x, const float *keep, const float *gain, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = i * n; j < (i + 1) * n; j++) y[j] = fmaf(y[j], keep[i], gain ? x[j] * gain[i] : x[j]);
}

void crl_gemm_f32_scalar(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m, const struct crl_mat *w,
                         size_t lo, size_t hi)
{
    size_t kp = crl_k_pad(w->k);

    for (size_t p = lo; p < hi; p++) {
        const float *panel = (const float *)(const void *)(w->panel + p * w->panel_bytes);
        for (size_t i = 0; i < m; i++)
            for (size_t r = 0; r < CRL_PANEL_ROWS; r++) {
                float s[4] = { 0, 0, 0, 0 };
                for (size_t j = 0; j < kp; j++) s[j % 4] += x[i * x_stride + j] * panel[j * CRL_PANEL_ROWS + r];
                y[i * y_stride + p * CRL_PANEL_ROWS + r] = (s[0] + s[2]) + (s[1] + s[3]);
            }
    }
}
