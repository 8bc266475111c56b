/* select.c - which levels this process may use, and the table made of them. */
#include "config.h"

#include "simd/kernels.h"

#include "quant/bf16.h"
#include "quant/q4.h"
#include "quant/q8.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A typed prototype per row: a kernel that disagrees with its operation does not compile. */
#define TYPE_act_row crl_act_row_fn
#define TYPE_gemm_q8 crl_gemm_q_fn
#define TYPE_gemm_q4 crl_gemm_q_fn
#define TYPE_gemm_bf16 crl_gemm_f_fn
#define TYPE_gemm_f32 crl_gemm_f_fn
#define TYPE_cache_bf16 crl_cache_bf16_fn
#define TYPE_rms_norm crl_rms_norm_fn
#define TYPE_swiglu crl_swiglu_fn
#define TYPE_rotate crl_rotate_fn
#define TYPE_softmax crl_softmax_fn
#define TYPE_blend crl_blend_fn
#define TYPE_layer_norm crl_layer_norm_fn
#define TYPE_gelu crl_gelu_fn
#define TYPE_pack_q8 crl_pack_q8_fn
#define TYPE_pack_q4 crl_pack_q4_fn
#define K(op, level, fn, tolerance) extern TYPE_##op fn;
#include "simd/kernels.def"
#undef K

static const struct crl_kernel_row row[] = {
#define K(op, level, fn, tolerance) { #op, #fn, level, tolerance, (void (*)(void))fn },
#include "simd/kernels.def"
#undef K
};

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Register state the operating system saves: XCR0. */
static uint64_t xcr0(void)
{
    uint32_t lo, hi;

    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Tiles are 8 KiB of registers that a process must ask for (Linux, arch_prctl(2): ARCH_REQ_XCOMP_PERM); the answer
 * holds for all its threads. Asking again does no harm. */
static bool tiles_permitted(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

unsigned crl_simd_have(void)
{
    unsigned a, b, c, d, have = 1u << CRL_SCALAR, leaf1_b, leaf1_c, leaf1_d;
    uint64_t os;

    if (!__get_cpuid(1, &a, &b, &leaf1_c, &d) || !(leaf1_c & 1u << 27)) return have; /* no OSXSAVE */
    os = xcr0();
    if ((os & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return have;
    if (!(b & 1u << 5) || !(leaf1_c & 1u << 12) || !(leaf1_c & 1u << 29)) return have; /* AVX2, FMA, F16C */
    have |= 1u << CRL_AVX2;
    if ((os & 0xe6) != 0xe6) return have; /* opmask and upper halves not saved */
    if (!(b & 1u << 16) || !(b & 1u << 30) || !(b & 1u << 17) || !(b & 1u << 31)) return have; /* F, BW, DQ, VL */
    have |= 1u << CRL_AVX512;
    if (!(c & 1u << 11)) return have;
    have |= 1u << CRL_AVX512_VNNI;
    if (__get_cpuid_count(7, 1, &a, &leaf1_b, &leaf1_c, &leaf1_d) && (a & 1u << 5)) have |= 1u << CRL_AVX512_BF16;
    if ((d & 1u << 24) && (d & 1u << 25) && (os & 3u << 17) == 3u << 17 && tiles_permitted()) have |= 1u << CRL_AMX;
    return have;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* Bits of the kernel's contract (arch/arm64/include/uapi/asm/hwcap.h), which older C libraries do not name. The kernel
 * sets them when it saves the registers, so this is the operating system's consent too. */
#define CAP_ASIMD (1ul << 1)
#define CAP_ASIMDDP (1ul << 20)
#define CAP2_I8MM (1ul << 13)

unsigned crl_simd_have(void)
{
    unsigned have = 1u << CRL_SCALAR;
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);

    if (!(cap & CAP_ASIMD)) return have;
    have |= 1u << CRL_NEON;
    if (!(cap & CAP_ASIMDDP)) return have;
    have |= 1u << CRL_DOTPROD;
    if (cap2 & CAP2_I8MM) have |= 1u << CRL_I8MM;
    return have;
}
#else
unsigned crl_simd_have(void)
{
    return 1u << CRL_SCALAR;
}
#endif

void crl_simd_select(struct crl_kernels *k, unsigned mask)
{
    unsigned allow = (mask & crl_simd_have()) | 1u << CRL_SCALAR;

    memset(k, 0, sizeof *k);
#define K(op_, level_, fn, tolerance)  \
    if (allow & 1u << level_) {        \
        k->op_ = fn;                   \
        k->op_##_level = level_;       \
    }
#include "simd/kernels.def"
#undef K
}

size_t crl_simd_panel_pack(const struct crl_kernels *kernels, enum crl_format f, void *panel,
                           const float *const rows[CRL_PANEL_ROWS], size_t k, const int8_t level[16],
                           const struct crl_q4_guide *guide)
{
    switch (f) {
    case CRL_Q8: return kernels->pack_q8(panel, rows, k);
    case CRL_Q4: return kernels->pack_q4(panel, rows, k, level, guide);
    default: return crl_panel_pack(f, panel, rows, k, level);
    }
}

static const char *const level_name[CRL_LEVEL_END] = {
    [CRL_SCALAR] = "scalar", [CRL_AVX2] = "avx2", [CRL_AVX512] = "avx512", [CRL_AVX512_VNNI] = "avx512vnni",
    [CRL_AVX512_BF16] = "avx512bf16", [CRL_AMX] = "amx", [CRL_NEON] = "neon", [CRL_DOTPROD] = "dotprod",
    [CRL_I8MM] = "i8mm"
};

const char *crl_level_name(enum crl_level level)
{
    return (unsigned)level < CRL_LEVEL_END ? level_name[level] : "none";
}

/* The names of the levels in `mask`, "a, b, c". */
static const char *names_of(unsigned mask, char *text, size_t size)
{
    size_t at = 0;

    for (unsigned l = 0; l < CRL_LEVEL_END && at < size; l++)
        if (mask & 1u << l) at += (size_t)snprintf(text + at, size - at, "%s%s", at ? ", " : "", level_name[l]);
    return text;
}

enum crl_status crl_simd_mask(unsigned *mask, const char *name, struct crl_err *err)
{
    char names[128];

    for (unsigned l = 0; l < CRL_LEVEL_END; l++) {
        if (strcmp(name, level_name[l])) continue;
        if (!(crl_simd_have() & 1u << l))
            return crl_fail(err, CRL_EUNSUPPORTED, "this machine has no %s (it has %s)", name,
                            names_of(crl_simd_have(), names, sizeof names));
        *mask = (2u << l) - 1;
        return CRL_OK;
    }
    return crl_fail(err, CRL_ERANGE, "%s is no instruction set level (%s)", name,
                    names_of(CRL_LEVEL_ALL, names, sizeof names));
}

const struct crl_kernel_row *crl_simd_rows(size_t *n)
{
    *n = sizeof row / sizeof *row;
    return row;
}
