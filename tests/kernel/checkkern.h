/* checkkern.h - what the parts of checkkern share: buffers that end at a guard page, fills, the report of a failure.
 *
 * A check runs one row of simd/kernels.def over shapes and fills and returns false after it has printed the first
 * difference. Everything is derived from the seed, the operation, the shape and the fill, so narrowing a run by --op or
 * --isa does not change what is computed. */
#ifndef CRL_TESTS_CHECKKERN_H
#define CRL_TESTS_CHECKKERN_H

#include "simd/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fill {
    FILL_RANDOM,
    FILL_EXTREME,   /* every value at plus or minus the largest: pair sums saturate where they can */
    FILL_ALTERNATE, /* signs change with every k */
    FILL_ZERO,
    FILL_DENORMAL,
    FILL_HUGE,    /* magnitudes near both ends of the range of float, and far apart */
    FILL_SPECIAL, /* NaN and infinities among random values */
    FILL_CODES,   /* weights: random bytes where codes and scales are, as a hostile file may hold them */
    FILL_END
};
extern const char *const fill_name[FILL_END];

/* What is being checked; a failure and a fault at a guard page print it. */
struct place {
    const struct crl_kernel_row *row;
    uint64_t seed;
    size_t m, n, k;
    enum fill fill;
};
extern struct place at;

extern const size_t check_k[], check_n[];
extern const size_t n_check_k, n_check_n;
#define CHECK_M 13 /* twice the tallest tile and one */

/* Print the place, what differs, the index and both values; returns false. */
bool differs(const char *what, size_t index, double got, double want, double bound);

/* Anonymous memory, as large as the biggest shape needs, with a PROT_NONE page behind it. The buffer made for `slot`
 * holds `bytes`, is aligned to `align`, and ends where the page begins if bytes is a multiple of align. Its bytes, and
 * those before it, are set to CANARY. */
enum slot { SLOT_W, SLOT_ROWS, SLOT_X, SLOT_Q, SLOT_SCALE, SLOT_BIAS, SLOT_Y, SLOT_END };
#define CANARY 0xa5
void *guarded(enum slot slot, size_t bytes, size_t align);
bool before_is_untouched(const void *p); /* the bytes before a guarded buffer still hold CANARY */

/* Uniform 64 bits; uniform in [-1, 1); roughly normal with variance 1. */
uint64_t rnd(uint64_t *state);
float rnd_unit(uint64_t *state);
float rnd_normal(uint64_t *state);
uint64_t place_seed(void); /* start of the sequence for `at` */

/* Row `row` of a matrix, k values. */
void fill_row(float *out, size_t k, size_t row, enum fill fill, uint64_t *state);

bool check_act(const struct crl_kernel_row *row);
bool check_gemm(const struct crl_kernel_row *row, enum crl_format format);
bool check_float(const struct crl_kernel_row *row, enum crl_format format);
bool check_pack(const struct crl_kernel_row *row, enum crl_format format);

/* Processor seconds of this thread: what others do on the machine counts less. */
double cpu_s(void);

/* Time one row and print it: products with n = 1024, k = 5120 for m = 1, 6, 48, 512; rows and panels of k = 5120. */
void bench_act(const struct crl_kernel_row *row);
void bench_gemm(const struct crl_kernel_row *row, enum crl_format format);
void bench_float(const struct crl_kernel_row *row, enum crl_format format);
void bench_pack(const struct crl_kernel_row *row, enum crl_format format);

#endif
