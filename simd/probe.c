/* probe.c - probes in plain C, and the choice between the levels. */
#include "config.h"

#include "simd/probe.h"

#include <string.h>

#define N 1024 /* operands of the scalar chains: the first level cache holds them */

static uint64_t read_scalar(const void *p, size_t bytes)
{
    const unsigned char *at = p;
    uint64_t sum[8] = { 0 }, v[8];

    for (size_t i = 0; i + sizeof v <= bytes; i += sizeof v) {
        memcpy(v, at + i, sizeof v);
        for (size_t j = 0; j < 8; j++) sum[j] ^= v[j];
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

static uint64_t int8_scalar(size_t rounds, uint64_t *value)
{
    int8_t a[N], b[N];
    int32_t sum = 0;

    for (size_t i = 0; i < N; i++) {
        a[i] = (int8_t)(i * 7 % 255 - 127);
        b[i] = (int8_t)(i * 13 % 255 - 127);
    }
    for (size_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory"); /* the operands may have changed: compute again */
        for (size_t i = 0; i < N; i++) sum = (int32_t)((uint32_t)sum + (uint32_t)(a[i] * b[i]));
    }
    *value = (uint64_t)sum;
    return 2 * (uint64_t)N * rounds;
}

static uint64_t f32_scalar(size_t rounds, uint64_t *value)
{
    float a[N], sum[32] = { 0 }, b = 0.75f;
    uint32_t bits;

    for (size_t i = 0; i < N; i++) a[i] = ((float)(i % 64) - 31.5f) * 0x1p-10f; /* the sums stay small */
    for (size_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+m"(b) : "r"(a) : "memory");
        for (size_t i = 0; i < N; i += 32)
            for (size_t j = 0; j < 32; j++) sum[j] += a[i + j] * b;
    }
    memcpy(&bits, sum, sizeof bits);
    *value = bits;
    return 2 * (uint64_t)N * rounds;
}

#define TYPE_read crl_probe_read_fn
#define TYPE_pull crl_probe_read_fn
#define TYPE_int8 crl_probe_int8_fn
#define TYPE_f32 crl_probe_f32_fn
#define TYPE_bf16 crl_probe_bf16_fn

/* A typed prototype per probe: one that disagrees with its purpose does not compile. P(what, level, function) */
#if HAVE_AVX2
#define AVX2_PROBES(P)                     \
    P(read, CRL_AVX2, crl_probe_read_avx2) \
    P(pull, CRL_AVX2, crl_probe_pull_avx2) \
    P(int8, CRL_AVX2, crl_probe_int8_avx2) \
    P(f32, CRL_AVX2, crl_probe_f32_avx2)
#else
#define AVX2_PROBES(P)
#endif
#if HAVE_AVX512
#define AVX512_PROBES(P)                       \
    P(read, CRL_AVX512, crl_probe_read_avx512) \
    P(pull, CRL_AVX512, crl_probe_pull_avx512) \
    P(f32, CRL_AVX512, crl_probe_f32_avx512)
#else
#define AVX512_PROBES(P)
#endif
#if HAVE_AVX512_VNNI
#define VNNI_PROBES(P) P(int8, CRL_AVX512_VNNI, crl_probe_int8_avx512vnni)
#else
#define VNNI_PROBES(P)
#endif
#if HAVE_AVX512_BF16
#define BF16_PROBES(P) P(bf16, CRL_AVX512_BF16, crl_probe_bf16_avx512bf16)
#else
#define BF16_PROBES(P)
#endif
#if HAVE_AMX
#define AMX_PROBES(P) P(int8, CRL_AMX, crl_probe_int8_amx)
#else
#define AMX_PROBES(P)
#endif
#if HAVE_NEON
#define NEON_PROBES(P)                     \
    P(read, CRL_NEON, crl_probe_read_neon) \
    P(pull, CRL_NEON, crl_probe_read_neon) \
    P(int8, CRL_NEON, crl_probe_int8_neon) \
    P(f32, CRL_NEON, crl_probe_f32_neon)
#else
#define NEON_PROBES(P)
#endif
#if HAVE_DOTPROD
#define DOTPROD_PROBES(P) P(int8, CRL_DOTPROD, crl_probe_int8_dotprod)
#else
#define DOTPROD_PROBES(P)
#endif
#if HAVE_I8MM
#define I8MM_PROBES(P) P(int8, CRL_I8MM, crl_probe_int8_i8mm)
#else
#define I8MM_PROBES(P)
#endif
#define X86_PROBES(P) AVX2_PROBES(P) AVX512_PROBES(P) VNNI_PROBES(P) BF16_PROBES(P) AMX_PROBES(P) /* weakest first */
#define ARM_PROBES(P) NEON_PROBES(P) DOTPROD_PROBES(P) I8MM_PROBES(P)
#define PROBES(P) X86_PROBES(P) ARM_PROBES(P)

#define P(what, level, fn) extern TYPE_##what fn;
PROBES(P)
#undef P

void crl_probe_select(struct crl_probe *p, unsigned mask)
{
    unsigned allow = mask & crl_simd_have();

    *p = (struct crl_probe){ .read = read_scalar, .pull = read_scalar, .int8 = int8_scalar, .f32 = f32_scalar };
#define P(what, level, fn)       \
    if (allow & 1u << level) {   \
        p->what = fn;            \
        p->what##_level = level; \
    }
    PROBES(P)
#undef P
    (void)allow; /* a build without any level has no row above */
}
