/* probe.c - limits of AVX2: 32-byte reads, vpmaddubsw with vpmaddwd, vfmadd. */
#ifndef __AVX2__
#error "this file is built with the flags of its level"
#endif

#include "simd/probe.h"
#include "simd/x86.h"

crl_probe_read_fn crl_probe_read_avx2, crl_probe_pull_avx2;
crl_probe_int8_fn crl_probe_int8_avx2;
crl_probe_f32_fn crl_probe_f32_avx2;

static uint64_t fold(__m256i v)
{
    return (uint64_t)_mm256_extract_epi64(v, 0) ^ (uint64_t)_mm256_extract_epi64(v, 1) ^
           (uint64_t)_mm256_extract_epi64(v, 2) ^ (uint64_t)_mm256_extract_epi64(v, 3);
}

uint64_t crl_probe_read_avx2(const void *p, size_t bytes)
{
    const __m256i *at = p, *end = at + bytes / sizeof *at;
    __m256i a[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256() };

    for (; at < end; at += 8) {
        CRL_UNROLL for (int j = 0; j < 8; j++) a[j % 4] = _mm256_xor_si256(a[j % 4], _mm256_load_si256(at + j));
    }
    return fold(_mm256_xor_si256(_mm256_xor_si256(a[0], a[1]), _mm256_xor_si256(a[2], a[3])));
}

uint64_t crl_probe_pull_avx2(const void *p, size_t bytes)
{
    const __m256i *at = p, *second = at + bytes / 1024 * 16, *end = at + bytes / sizeof *at;
    __m256i a[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256() };

    for (const __m256i *half = second; at < half; at += 8, second += 8) {
        CRL_UNROLL for (int j = 0; j < 8; j += 2) {
            _mm_prefetch((const char *)(at + j) + CRL_PROBE_AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)(second + j) + CRL_PROBE_AHEAD, _MM_HINT_T0);
        }
        CRL_UNROLL for (int j = 0; j < 8; j++) {
            a[j % 4] = _mm256_xor_si256(a[j % 4], _mm256_load_si256(at + j));
            a[j % 4] = _mm256_xor_si256(a[j % 4], _mm256_load_si256(second + j));
        }
    }
    for (; second < end; second++) a[0] = _mm256_xor_si256(a[0], _mm256_load_si256(second));
    return fold(_mm256_xor_si256(_mm256_xor_si256(a[0], a[1]), _mm256_xor_si256(a[2], a[3])));
}

#define SUMS 8 /* independent chains: enough to hide the latency of the sums */

uint64_t crl_probe_int8_avx2(size_t rounds, uint64_t *value)
{
    __m256i w = _mm256_set1_epi8(0x35), x = _mm256_set1_epi8(0x5b), one = _mm256_set1_epi16(1);
    __m256i sum[SUMS], all = _mm256_setzero_si256();

    CRL_UNROLL for (int j = 0; j < SUMS; j++) sum[j] = _mm256_set1_epi32(j);
    for (size_t r = 0; r < rounds; r++) {
        CRL_UNROLL for (int j = 0; j < SUMS; j++) {
            __asm__("" : "+x"(w)); /* to the compiler another operand each time: nothing can be shared */
            sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), one));
        }
    }
    CRL_UNROLL for (int j = 0; j < SUMS; j++) all = _mm256_xor_si256(all, sum[j]);
    *value = fold(all);
    return (uint64_t)rounds * SUMS * 32 * 2;
}

#define FLOAT_SUMS 12

uint64_t crl_probe_f32_avx2(size_t rounds, uint64_t *value)
{
    __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.75f), sum[FLOAT_SUMS], all = _mm256_setzero_ps();

    CRL_UNROLL for (int j = 0; j < FLOAT_SUMS; j++) sum[j] = _mm256_set1_ps((float)j);
    for (size_t r = 0; r < rounds; r++) {
        CRL_UNROLL for (int j = 0; j < FLOAT_SUMS; j++) {
            sum[j] = _mm256_fmadd_ps(sum[j], a, b); /* converges to 1.5: never denormal, never infinite */
        }
    }
    CRL_UNROLL for (int j = 0; j < FLOAT_SUMS; j++) all = _mm256_add_ps(all, sum[j]);
    *value = fold(_mm256_castps_si256(all));
    return (uint64_t)rounds * FLOAT_SUMS * 8 * 2;
}
