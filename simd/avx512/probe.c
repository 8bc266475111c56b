/* probe.c - limits of AVX-512: 64-byte reads, vfmadd. */
#ifndef __AVX512F__
#error "this file is built with the flags of its level"
#endif

#include "simd/probe.h"
#include "simd/x86.h"

crl_probe_read_fn crl_probe_read_avx512, crl_probe_pull_avx512;
crl_probe_f32_fn crl_probe_f32_avx512;

uint64_t crl_probe_read_avx512(const void *p, size_t bytes)
{
    const __m512i *at = p, *end = at + bytes / sizeof *at;
    __m512i a[4] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };

    for (; at < end; at += 8) {
        CRL_UNROLL for (int j = 0; j < 8; j++) a[j % 4] = _mm512_xor_si512(a[j % 4], _mm512_load_si512(at + j));
    }
    a[0] = _mm512_xor_si512(_mm512_xor_si512(a[0], a[1]), _mm512_xor_si512(a[2], a[3]));
    return (uint64_t)_mm512_reduce_add_epi64(a[0]);
}

uint64_t crl_probe_pull_avx512(const void *p, size_t bytes)
{
    const __m512i *at = p, *second = at + bytes / 1024 * 8, *end = at + bytes / sizeof *at;
    __m512i a[4] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };

    for (const __m512i *half = second; at < half; at += 8, second += 8) {
        CRL_UNROLL for (int j = 0; j < 8; j++) {
            _mm_prefetch((const char *)(at + j) + CRL_PROBE_AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)(second + j) + CRL_PROBE_AHEAD, _MM_HINT_T0);
        }
        CRL_UNROLL for (int j = 0; j < 8; j++) {
            a[j % 4] = _mm512_xor_si512(a[j % 4], _mm512_load_si512(at + j));
            a[j % 4] = _mm512_xor_si512(a[j % 4], _mm512_load_si512(second + j));
        }
    }
    for (; second < end; second++) a[0] = _mm512_xor_si512(a[0], _mm512_load_si512(second));
    a[0] = _mm512_xor_si512(_mm512_xor_si512(a[0], a[1]), _mm512_xor_si512(a[2], a[3]));
    return (uint64_t)_mm512_reduce_add_epi64(a[0]);
}

#define SUMS 16 /* independent chains: enough to hide the latency of an operation */

uint64_t crl_probe_f32_avx512(size_t rounds, uint64_t *value)
{
    __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.75f), sum[SUMS], all = _mm512_setzero_ps();

    CRL_UNROLL for (int j = 0; j < SUMS; j++) sum[j] = _mm512_set1_ps((float)j);
    for (size_t r = 0; r < rounds; r++) {
        CRL_UNROLL for (int j = 0; j < SUMS; j++) {
            sum[j] = _mm512_fmadd_ps(sum[j], a, b); /* converges to 1.5: never denormal, never infinite */
        }
    }
    CRL_UNROLL for (int j = 0; j < SUMS; j++) all = _mm512_add_ps(all, sum[j]);
    *value = (uint64_t)_mm512_reduce_add_ps(all);
    return (uint64_t)rounds * SUMS * 16 * 2;
}
