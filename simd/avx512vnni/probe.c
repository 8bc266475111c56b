/* probe.c - the limit of AVX-512 VNNI: vpdpbusd. */
#ifndef __AVX512VNNI__
#error "this file is built with the flags of its level"
#endif

#include "simd/probe.h"
#include "simd/x86.h"

crl_probe_int8_fn crl_probe_int8_avx512vnni;

#define SUMS 16 /* independent chains: enough to hide the latency of an operation */

uint64_t crl_probe_int8_avx512vnni(size_t rounds, uint64_t *value)
{
    __m512i w = _mm512_set1_epi8(0x35), x = _mm512_set1_epi8(0x5b), sum[SUMS], all = _mm512_setzero_si512();

    CRL_UNROLL for (int j = 0; j < SUMS; j++) sum[j] = _mm512_set1_epi32(j);
    for (size_t r = 0; r < rounds; r++) {
        CRL_UNROLL for (int j = 0; j < SUMS; j++) sum[j] = _mm512_dpbusd_epi32(sum[j], w, x);
    }
    CRL_UNROLL for (int j = 0; j < SUMS; j++) all = _mm512_xor_si512(all, sum[j]);
    *value = (uint64_t)_mm512_reduce_add_epi64(all);
    return (uint64_t)rounds * SUMS * 64 * 2;
}
