/* checkkern.c - every kernel this machine can run against the scalar specification. docs/kernels.md.
 *
 * usage: checkkern [--op NAME] [--isa LEVEL] [--seed N] [--list] [--bench]
 * Exit status: 0 all equal, 1 a difference or a fault, 2 misused. */
#include "config.h"

#include "tests/kernel/checkkern.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

const char *const fill_name[FILL_END] = { "random", "extreme", "alternate", "zero",
                                          "denormal", "huge", "special", "codes" };
/* One k, tails on both sides of a block, one and two slabs of 512 with a rest, a prime. */
const size_t check_k[] = { 1, 4, 31, 32, 33, 64, 96, 131, 512, 544, 1056 };
const size_t check_n[] = { 1, 16, 17, 32, 49 };
const size_t n_check_k = sizeof check_k / sizeof *check_k, n_check_n = sizeof check_n / sizeof *check_n;

struct place at;

static void print_place(FILE *f)
{
    fprintf(f, "checkkern: %s: seed %" PRIu64 ", m %zu, n %zu, k %zu, fill %s", at.row ? at.row->name : "?", at.seed,
            at.m, at.n, at.k, fill_name[at.fill]);
}

bool differs(const char *what, size_t index, double got, double want, double bound)
{
    print_place(stdout);
    printf(": %s[%zu] is %.9g, expected %.9g (off by %.3g, allowed %.3g)\n", what, index, got, want, fabs(got - want),
           bound);
    return false;
}

static void on_fault(int sig)
{
    print_place(stderr); /* the process ends here, whatever state stdio is in */
    fprintf(stderr, ": %s: access outside the shapes given\n", sig == SIGBUS ? "SIGBUS" : "SIGSEGV");
    _exit(1);
}

#define SLOT_BYTES ((size_t)1 << 20)

static unsigned char *slot_base(enum slot slot)
{
    static unsigned char *base[SLOT_END];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (base[slot]) return base[slot];
    base[slot] = mmap(NULL, SLOT_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base[slot] == MAP_FAILED || mprotect(base[slot] + SLOT_BYTES, page, PROT_NONE)) {
        fprintf(stderr, "checkkern: no memory for a guarded buffer: %s\n", strerror(errno));
        exit(1);
    }
    return base[slot];
}

#define BEFORE 256 /* canary bytes in front of a buffer */

void *guarded(enum slot slot, size_t bytes, size_t align)
{
    unsigned char *end = slot_base(slot) + SLOT_BYTES, *p = end - (bytes + align - 1) / align * align;

    if (bytes + align + BEFORE > SLOT_BYTES) {
        fprintf(stderr, "checkkern: a buffer of %zu bytes is larger than its slot\n", bytes);
        exit(1);
    }
    memset(p - BEFORE, CANARY, (size_t)(end - p) + BEFORE);
    return p;
}

bool before_is_untouched(const void *p)
{
    const unsigned char *c = p;

    for (size_t i = 1; i <= BEFORE; i++)
        if (*(c - i) != CANARY) return false;
    return true;
}

uint64_t rnd(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

float rnd_unit(uint64_t *state)
{
    return (float)(rnd(state) >> 40) * 0x1p-23f - 1;
}

float rnd_normal(uint64_t *state)
{
    float s = 0;

    for (int i = 0; i < 6; i++) s += rnd_unit(state);
    return s * 0.70710678f; /* six of variance 1/3 */
}

uint64_t place_seed(void)
{
    uint64_t s = at.seed * 0x100000001b3u ^ (at.n << 40 ^ at.k << 8 ^ at.fill);

    for (const char *c = at.row->op; *c; c++) s = (s ^ (unsigned char)*c) * 0x100000001b3u;
    return s;
}

void fill_row(float *out, size_t k, size_t row, enum fill fill, uint64_t *state)
{
    /* NaN quiet, of other bits, and negative */
    static const uint32_t special[] = { 0x7fc00000, 0x7f800000, 0xff800000, 0x7fe12345, 0xffc00001 };

    for (size_t j = 0; j < k; j++) {
        switch (fill) {
        case FILL_EXTREME: /* rows all +, all -, of random signs, of signs that change by pairs */
            out[j] = row % 4 == 0 ? 3 : row % 4 == 1 ? -3 : row % 4 == 2 ? (rnd(state) & 1 ? 3 : -3) : j & 2 ? 3 : -3;
            break;
        case FILL_ALTERNATE: out[j] = (j & 1 ? -1.0f : 1.0f) * (float)(row + 1) * (row & 1 ? 1 : rnd_unit(state)); break;
        case FILL_ZERO: out[j] = row % 3 == 2 ? -0.0f : 0.0f; break;
        case FILL_DENORMAL: out[j] = rnd_normal(state) * (row % 3 == 2 ? 1e-30f : 1e-40f); break;
        case FILL_HUGE: /* 10^37, 10^-30 and 10^30 by rows of three; blocks of 32 far apart in every fourth row */
            out[j] = rnd_normal(state) * (row % 3 == 0 ? 1e37f : row % 3 == 1 ? 1e-30f : 1e30f);
            if (row % 4 == 3 && j / 32 % 2) out[j] *= 1e-7f;
            break;
        default: out[j] = rnd_normal(state);
        }
    }
    if (fill == FILL_SPECIAL && row % 4 != 3) {
        out[rnd(state) % k] = crl_f32_from_bits(special[row % 5]);
        if (row % 2) out[rnd(state) % k] = crl_f32_from_bits(special[row / 4 % 5]);
    }
    if (fill == FILL_RANDOM && row % 5 == 4) out[rnd(state) % k] = 50; /* an outlier */
}

double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool check_act_of(const struct crl_kernel_row *row, enum crl_format format)
{
    (void)format;
    return check_act(row);
}

static void bench_act_of(const struct crl_kernel_row *row, enum crl_format format)
{
    (void)format;
    bench_act(row);
}

/* Which check belongs to an operation. */
static const struct {
    const char *op;
    enum crl_format format;
    bool (*check)(const struct crl_kernel_row *row, enum crl_format format);
    void (*bench)(const struct crl_kernel_row *row, enum crl_format format);
} operation[] = {
    { "act_row", CRL_F32, check_act_of, bench_act_of },
    { "gemm_q8", CRL_Q8, check_gemm, bench_gemm },
    { "gemm_q4", CRL_Q4, check_gemm, bench_gemm },
    { "gemm_bf16", CRL_BF16, check_gemm, bench_gemm },
    { "gemm_f32", CRL_F32, check_float, bench_float },
    { "cache_bf16", CRL_BF16, check_gemm, bench_gemm },
    { "rms_norm", CRL_F32, check_float, bench_float },
    { "swiglu", CRL_F32, check_float, bench_float },
    { "rotate", CRL_F32, check_float, bench_float },
    { "softmax", CRL_F32, check_float, bench_float },
    { "blend", CRL_F32, check_float, bench_float },
    { "layer_norm", CRL_F32, check_float, bench_float },
    { "gelu", CRL_F32, check_float, bench_float },
    { "pack_q8", CRL_Q8, check_pack, bench_pack },
    { "pack_q4", CRL_Q4, check_pack, bench_pack },
};

static bool check_row(const struct crl_kernel_row *row, bool bench)
{
    at.row = row;
    for (size_t i = 0; i < sizeof operation / sizeof *operation; i++) {
        if (strcmp(row->op, operation[i].op)) continue;
        if (!bench) return operation[i].check(row, operation[i].format);
        operation[i].bench(row, operation[i].format);
        return true;
    }
    printf("checkkern: %s: no check knows the operation %s\n", row->name, row->op);
    return false;
}

static const char *const tolerance_name[] = { [CRL_EXACT] = "exact", [CRL_DOT] = "dot" };

static int usage(const char *why, const char *what)
{
    fprintf(stderr, "checkkern: %s%s\nusage: checkkern [--op NAME] [--isa LEVEL] [--seed N] [--list] [--bench]\n", why, what);
    return 2;
}

#if HAVE_AMX
crl_gemm_q_fn crl_gemm_q8_amx_model, crl_gemm_q4_amx_model;

/* Kernels built for the test alone: AMX on a C model of its tiles (amx_model.c), which needs AVX-512 VNNI around it. */
static const struct crl_kernel_row modelled[] = {
    { "gemm_q8", "crl_gemm_q8_amx_model", CRL_AVX512_VNNI, CRL_DOT, (void (*)(void))crl_gemm_q8_amx_model },
    { "gemm_q4", "crl_gemm_q4_amx_model", CRL_AVX512_VNNI, CRL_DOT, (void (*)(void))crl_gemm_q4_amx_model },
};
#define N_MODELLED (sizeof modelled / sizeof *modelled)
#else
static const struct crl_kernel_row modelled[1];
#define N_MODELLED 0
#endif

int main(int argc, char **argv)
{
    const char *op = NULL, *isa = NULL;
    bool list = false, bench = false, ok = true;
    size_t n_row, n_run = 0;
    const struct crl_kernel_row *row = crl_simd_rows(&n_row);

    at.seed = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--list")) list = true;
        else if (!strcmp(argv[i], "--bench")) bench = true;
        else if (i + 1 == argc) return usage("unknown option, or one without its value: ", argv[i]);
        else if (!strcmp(argv[i], "--op")) op = argv[++i];
        else if (!strcmp(argv[i], "--isa")) isa = argv[++i];
        else if (!strcmp(argv[i], "--seed")) at.seed = strtoull(argv[++i], NULL, 0);
        else return usage("unknown option ", argv[i]);
    }
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    for (size_t i = 0; i < n_row + (bench ? 0 : N_MODELLED); i++) {
        const struct crl_kernel_row *r = i < n_row ? &row[i] : &modelled[i - n_row];
        bool have = crl_simd_have() & 1u << r->level;
        if ((op && strcmp(op, r->op)) || (isa && strcmp(isa, crl_level_name(r->level)))) continue;
        if (list || !have)
            printf("%-10s %-12s %-28s %-6s%s\n", r->op, crl_level_name(r->level), r->name,
                   tolerance_name[r->tolerance], have ? "" : " (not on this machine)");
        n_run++;
        if (list || !have) continue;
        if (!check_row(r, bench)) ok = false;
        else if (!bench) printf("%s: ok\n", r->name);
        fflush(stdout);
    }
    if (!n_run) return usage("no kernel matches", "");
    return ok ? 0 : 1;
}
