/* probe.c - the limit of AVX-512 BF16: vdpbf16ps. */
#ifndef __AVX512BF16__
#error "this file is built with the flags of its level"
#endif

#include "simd/probe.h"
#include "simd/x86.h"

crl_probe_bf16_fn crl_probe_bf16_avx512bf16;

#define SUMS 16 /* independent chains: enough to hide the latency of an operation */

uint64_t crl_probe_bf16_avx512bf16(size_t rounds, uint64_t *value)
{
    __m512bh w = (__m512bh)_mm512_set1_epi32(0x3f803f80), x = (__m512bh)_mm512_set1_epi32(0x3c003c00);
    __m512 sum[SUMS], all = _mm512_setzero_ps();

    CRL_UNROLL for (int j = 0; j < SUMS; j++) sum[j] = _mm512_set1_ps((float)j);
    for (size_t r = 0; r < rounds; r++) {
        CRL_UNROLL for (int j = 0; j < SUMS; j++) {
            sum[j] = _mm512_dpbf16_ps(sum[j], w, x);
            __asm__("" : "+v"(sum[j])); /* each step counts */
        }
    }
    CRL_UNROLL for (int j = 0; j < SUMS; j++) all = _mm512_add_ps(all, sum[j]);
    *value = (uint64_t)_mm512_reduce_add_ps(all);
    return (uint64_t)rounds * SUMS * 32 * 2;
}
