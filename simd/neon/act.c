/* act.c - int8 activations with NEON: the same bits as quant/act.c. */
#ifndef __aarch64__
#error "compile for 64-bit ARM"
#endif
#include "simd/act_row.h"
#include "simd/arm.h"
#include "simd/kernels.h"

crl_act_row_fn crl_act_row_neon;

/* Largest magnitude of 32 values, NaN if there is one. */
static float max_abs(const float *x)
{
    float32x4_t m = vdupq_n_f32(0);
    float big;

    for (int j = 0; j < 32; j += 4) m = vmaxq_f32(m, vabsq_f32(vld1q_f32(x + j))); /* fmax keeps a NaN */
    big = vmaxvq_f32(m);
    return isnan(big) ? NAN : big;
}

/* 32 codes and their sum. */
static int32_t codes(int8_t *q, const float *x, float inv)
{
    int16x8_t c[4];

    for (int j = 0; j < 4; j++) {
        int32x4_t lo = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 8 * j), inv));
        int32x4_t hi = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 8 * j + 4), inv));
        c[j] = vcombine_s16(vqmovn_s32(lo), vqmovn_s32(hi));
    }
    vst1q_s8(q, vcombine_s8(vqmovn_s16(c[0]), vqmovn_s16(c[1])));
    vst1q_s8(q + 16, vcombine_s8(vqmovn_s16(c[2]), vqmovn_s16(c[3])));
    return vaddlvq_s16(vaddq_s16(vaddq_s16(c[0], c[1]), vaddq_s16(c[2], c[3])));
}

void crl_act_row_neon(const struct crl_act *a, size_t i, const float *x, size_t k)
{
    crl_act_row_of(a, i, x, k, max_abs, codes);
}
