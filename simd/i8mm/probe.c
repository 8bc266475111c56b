/* probe.c - the limit of i8mm: smmla. */
#ifndef __ARM_FEATURE_MATMUL_INT8
#error "compile with the I8MM flags"
#endif
#include "simd/arm.h"
#include "simd/probe.h"

crl_probe_int8_fn crl_probe_int8_i8mm;

#define SUMS 16 /* independent chains: enough to hide the latency of an operation */

uint64_t crl_probe_int8_i8mm(size_t rounds, uint64_t *value)
{
    int8x16_t w = vdupq_n_s8(0x35), x = vdupq_n_s8(0x5b);
    int32x4_t sum[SUMS], all = vdupq_n_s32(0);

    CRL_UNROLL for (int j = 0; j < SUMS; j++) sum[j] = vdupq_n_s32(j);
    for (size_t r = 0; r < rounds; r++) {
        CRL_UNROLL for (int j = 0; j < SUMS; j++) sum[j] = vmmlaq_s32(sum[j], w, x);
    }
    CRL_UNROLL for (int j = 0; j < SUMS; j++) all = veorq_s32(all, sum[j]);
    *value = (uint64_t)vaddvq_s32(all);
    return (uint64_t)rounds * SUMS * 32 * 2;
}
