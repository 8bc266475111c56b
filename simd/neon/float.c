/* float.c - operations on float rows with NEON: the same bits as simd/scalar/float.c. */
#ifndef __aarch64__
#error "compile for 64-bit ARM"
#endif
#include "base/bytes.h"
#include "simd/arm.h"
#include "simd/gelu.h"
#include "simd/kernels.h"

crl_rms_norm_fn crl_rms_norm_neon;
crl_swiglu_fn crl_swiglu_neon;
crl_rotate_fn crl_rotate_neon;
crl_softmax_fn crl_softmax_neon;
crl_blend_fn crl_blend_neon;
crl_layer_norm_fn crl_layer_norm_neon;
crl_gelu_fn crl_gelu_neon;

/* crl_exp of 4 values; n stays within -126 .. 127, so 2^n is built from its exponent. fmin and fmax keep a NaN. */
CRL_INLINE float32x4_t exp4(float32x4_t x)
{
    float32x4_t n, r, p;

    x = vminq_f32(vdupq_n_f32(CRL_EXP_HI), vmaxq_f32(vdupq_n_f32(CRL_EXP_LO), x));
    n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(CRL_LOG2E)));
    r = vfmaq_f32(x, n, vdupq_n_f32(-CRL_LN2_HI));
    r = vfmaq_f32(r, n, vdupq_n_f32(-CRL_LN2_LO));
    p = vfmaq_f32(vdupq_n_f32(CRL_EXP_C6), vdupq_n_f32(CRL_EXP_C7), r);
    p = vfmaq_f32(vdupq_n_f32(CRL_EXP_C5), p, r);
    p = vfmaq_f32(vdupq_n_f32(CRL_EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(CRL_EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(CRL_EXP_C2), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    return vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23)));
}

/* Lanes 4 j .. 4 j + 3 in v[j], folded by halves. */
CRL_INLINE float fold(const float32x4_t v[4])
{
    float32x4_t s = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
    float32x2_t h = vadd_f32(vget_low_f32(s), vget_high_f32(s));

    return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
}

CRL_INLINE float fold_lanes(const float lane[16])
{
    float32x4_t v[4];

    CRL_UNROLL for (int j = 0; j < 4; j++) v[j] = vld1q_f32(lane + 4 * j);
    return fold(v);
}

void crl_rms_norm_neon(float *out, const float *x, const float *weight, size_t n, float eps)
{
    float32x4_t v[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
    float lane[16], r;
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        CRL_UNROLL for (int j = 0; j < 4; j++) {
            float32x4_t u = vld1q_f32(x + i + (size_t)j * 4);
            v[j] = vfmaq_f32(v[j], u, u);
        }
    }
    CRL_UNROLL for (int j = 0; j < 4; j++) vst1q_f32(lane + 4 * j, v[j]);
    for (size_t j = i; j < n; j++) lane[j - i] = __builtin_fmaf(x[j], x[j], lane[j - i]);
    r = 1 / __builtin_sqrtf(fold_lanes(lane) / (float)n + eps);
    for (i = 0; i + 4 <= n; i += 4) {
        float32x4_t u = vmulq_n_f32(vld1q_f32(x + i), r);
        vst1q_f32(out + i, weight ? vmulq_f32(u, vld1q_f32(weight + i)) : u);
    }
    for (; i < n; i++) out[i] = weight ? x[i] * r * weight[i] : x[i] * r;
}

void crl_swiglu_neon(float *out, const float *tile)
{
    CRL_UNROLL for (int q = 0; q < 8; q++) {
        const float *g = tile + q / 4 * 32 + q % 4 * 4;
        float32x4_t gate = vld1q_f32(g), up = vld1q_f32(g + 16);
        float32x4_t e = exp4(vnegq_f32(gate));
        vst1q_f32(out + 4 * q, vmulq_f32(up, vdivq_f32(gate, vaddq_f32(vdupq_n_f32(1.0f), e))));
    }
}

/* Sum of f(x) over n values in 16 lanes: x itself, or the square of x less mean. */
CRL_INLINE float lane_sum(const float *x, size_t n, bool square, float mean)
{
    float32x4_t v[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
    float lane[16];
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        CRL_UNROLL for (int j = 0; j < 4; j++) {
            float32x4_t u = vld1q_f32(x + i + (size_t)j * 4);
            if (square) u = vsubq_f32(u, vdupq_n_f32(mean));
            v[j] = square ? vfmaq_f32(v[j], u, u) : vaddq_f32(v[j], u);
        }
    CRL_UNROLL for (int j = 0; j < 4; j++) vst1q_f32(lane + 4 * j, v[j]);
    for (size_t j = i; j < n; j++) {
        float *l = &lane[j - i];
        *l = square ? __builtin_fmaf(x[j] - mean, x[j] - mean, *l) : *l + x[j];
    }
    return fold_lanes(lane);
}

void crl_layer_norm_neon(float *out, const float *x, const float *weight, const float *bias, size_t n, float eps)
{
    float mean = lane_sum(x, n, false, 0) / (float)n;
    float r = 1 / __builtin_sqrtf(lane_sum(x, n, true, mean) / (float)n + eps);
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        float32x4_t v = vmulq_n_f32(vsubq_f32(vld1q_f32(x + i), vdupq_n_f32(mean)), r);
        vst1q_f32(out + i, vfmaq_f32(vld1q_f32(bias + i), v, vld1q_f32(weight + i)));
    }
    for (; i < n; i++) out[i] = __builtin_fmaf((x[i] - mean) * r, weight[i], bias[i]);
}

/* crl_gelu of 4 values. */
CRL_INLINE float32x4_t gelu4(float32x4_t x)
{
    static const float c[CRL_GELU_TERMS] = CRL_GELU_P;
    float32x4_t t = vminq_f32(vdupq_n_f32(CRL_GELU_MOST), vabsq_f32(x)), p = vdupq_n_f32(c[0]), tail;

    CRL_UNROLL for (int i = 1; i < CRL_GELU_TERMS; i++) p = vfmaq_f32(vdupq_n_f32(c[i]), p, t);
    tail = vmulq_n_f32(exp4(vmulq_f32(p, t)), 0.5f);
    return vmulq_f32(x, vbslq_f32(vcltq_f32(x, vdupq_n_f32(0)), tail, vsubq_f32(vdupq_n_f32(1.0f), tail)));
}

void crl_gelu_neon(float *x, const float *bias, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        if (bias) v = vaddq_f32(v, vld1q_f32(bias + i));
        vst1q_f32(x + i, gelu4(v));
    }
    for (; i < n; i++) x[i] = crl_gelu(bias ? x[i] + bias[i] : x[i]);
}

/* Scale all scores and return the larger of `best` and the largest, the first of equals. Numbers win over NaN, as they
 * do when compared one by one; only the two zeros are equal and yet different. */
static float scale_and_max(float *s, size_t n, float scale, float best)
{
    float32x4_t top = vdupq_n_f32(best);
    float most;
    size_t j = 0;

    for (; j + 4 <= n; j += 4) {
        float32x4_t v = vmulq_n_f32(vld1q_f32(s + j), scale);
        vst1q_f32(s + j, v);
        top = vmaxnmq_f32(top, v);
    }
    most = vmaxnmvq_f32(top);
    for (; j < n; j++) {
        s[j] *= scale;
        if (s[j] > most) most = s[j];
    }
    if (!(most > best)) return best;
    for (j = 0; most == 0 && j < n; j++)
        if (s[j] == 0) return s[j];
    return most;
}

void crl_rotate_neon(float *x, const float *cs, size_t n_pair)
{
    size_t j = 0;

    for (; j + 4 <= n_pair; j += 4) {
        float32x4x2_t v = vld2q_f32(x + 2 * j), a = vld2q_f32(cs + 2 * j), r;
        r.val[0] = vfmaq_f32(vnegq_f32(vmulq_f32(v.val[1], a.val[1])), v.val[0], a.val[0]);
        r.val[1] = vfmaq_f32(vmulq_f32(v.val[0], a.val[1]), v.val[1], a.val[0]);
        vst2q_f32(x + 2 * j, r);
    }
    for (; j < n_pair; j++) {
        float a = x[2 * j], b = x[2 * j + 1], c = cs[2 * j], s = cs[2 * j + 1];
        x[2 * j] = fmaf(a, c, -(b * s));
        x[2 * j + 1] = fmaf(b, c, a * s);
    }
}

/* The nearest bf16 numbers, NaN as it is. */
CRL_INLINE float32x4_t round_bf16(float32x4_t v)
{
    uint32x4_t u = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t r = vandq_u32(vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd), vdupq_n_u32(0xffff0000));

    return vbslq_f32(vceqq_f32(v, v), vreinterpretq_f32_u32(r), v);
}

float crl_softmax_neon(float *s, size_t n, float scale, bool bf16, float *max, float *sum)
{
    float32x4_t v[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) }, top;
    float lane[16], best = scale_and_max(s, n, scale, *max), shrink = *sum > 0 ? crl_exp(*max - best) : 0;
    size_t j = 0;

    top = vdupq_n_f32(best);
    for (; j + 16 <= n; j += 16) {
        CRL_UNROLL for (int c = 0; c < 4; c++) {
            float32x4_t u = exp4(vsubq_f32(vld1q_f32(s + j + (size_t)c * 4), top));
            if (bf16) u = round_bf16(u);
            vst1q_f32(s + j + (size_t)c * 4, u);
            v[c] = vaddq_f32(v[c], u);
        }
    }
    CRL_UNROLL for (int c = 0; c < 4; c++) vst1q_f32(lane + 4 * c, v[c]);
    for (size_t t = j; t < n; t++) {
        s[t] = crl_exp(s[t] - best);
        if (bf16) s[t] = crl_bf16_round(s[t]);
        lane[t - j] += s[t];
    }
    *sum = *sum * shrink + fold_lanes(lane);
    *max = best;
    return shrink;
}

void crl_blend_neon(float *y, const float *x, const float *keep, const float *gain, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++, y += n, x += n) {
        float g = gain ? gain[i] : 1; /* times 1 changes nothing */
        for (size_t j = 0; j < n; j += 4)
            vst1q_f32(y + j, vfmaq_n_f32(vmulq_n_f32(vld1q_f32(x + j), g), vld1q_f32(y + j), keep[i]));
    }
}
