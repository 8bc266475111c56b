/* probe.c - limits of NEON: 16-byte reads, smull with smlal and sadalp, fmla. */
#ifndef __aarch64__
#error "compile for 64-bit ARM"
#endif
#include "simd/arm.h"
#include "simd/probe.h"

crl_probe_read_fn crl_probe_read_neon;
crl_probe_int8_fn crl_probe_int8_neon;
crl_probe_f32_fn crl_probe_f32_neon;

uint64_t crl_probe_read_neon(const void *p, size_t bytes)
{
    const uint8_t *at = p, *end = at + bytes;
    uint8x16_t a[4] = { vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0) };

    for (; at < end; at += 128) {
        CRL_UNROLL for (int j = 0; j < 8; j++) a[j % 4] = veorq_u8(a[j % 4], vld1q_u8(at + 16 * j));
    }
    return vaddlvq_u8(veorq_u8(veorq_u8(a[0], a[1]), veorq_u8(a[2], a[3])));
}

#define SUMS 8 /* independent chains: enough to hide the latency of the sums */

/* The kernel's mix: two products of 8 bytes for each addition of pairs. */
uint64_t crl_probe_int8_neon(size_t rounds, uint64_t *value)
{
    int8x8_t w = vdup_n_s8(0x35), x = vdup_n_s8(0x5b);
    int32x4_t sum[SUMS], all = vdupq_n_s32(0);

    CRL_UNROLL for (int j = 0; j < SUMS; j++) sum[j] = vdupq_n_s32(j);
    for (size_t r = 0; r < rounds; r++) {
        CRL_UNROLL for (int j = 0; j < SUMS; j++) {
            __asm__("" : "+w"(w)); /* to the compiler another operand each time: nothing can be shared */
            sum[j] = vpadalq_s16(sum[j], vmlal_s8(vmull_s8(w, x), w, x));
        }
    }
    CRL_UNROLL for (int j = 0; j < SUMS; j++) all = veorq_s32(all, sum[j]);
    *value = (uint64_t)vaddvq_s32(all);
    return (uint64_t)rounds * SUMS * 16 * 2;
}

#define FLOAT_SUMS 16

uint64_t crl_probe_f32_neon(size_t rounds, uint64_t *value)
{
    float32x4_t a = vdupq_n_f32(0.5f), b = vdupq_n_f32(0.75f), sum[FLOAT_SUMS], all = vdupq_n_f32(0);

    CRL_UNROLL for (int j = 0; j < FLOAT_SUMS; j++) sum[j] = vdupq_n_f32((float)j);
    for (size_t r = 0; r < rounds; r++) {
        CRL_UNROLL for (int j = 0; j < FLOAT_SUMS; j++) {
            sum[j] = vfmaq_f32(sum[j], a, b); /* grows by 0.375 a round: never denormal, never infinite */
        }
    }
    CRL_UNROLL for (int j = 0; j < FLOAT_SUMS; j++) all = vaddq_f32(all, sum[j]);
    *value = vgetq_lane_u32(vreinterpretq_u32_f32(all), 0);
    return (uint64_t)rounds * FLOAT_SUMS * 4 * 2;
}
