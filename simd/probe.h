/* probe.h - loops that do nothing but what bounds the kernels: read memory, multiply bytes, multiply floats. What they
 * reach is the limit the benchmark holds the kernels against.
 *
 * A probe is single-threaded, allocates nothing and cannot fail; the caller runs it on all threads at once and reads
 * the clock. The levels are those of the kernels, so that a kernel of one level is held against that level's limit. */
#ifndef CRL_SIMD_PROBE_H
#define CRL_SIMD_PROBE_H

#include "simd/kernels.h"

#include <stdint.h>

/* Read every byte of p[bytes] once; bytes is a multiple of 512 and p 64-byte aligned. The value keeps the compiler from
 * leaving reads out; it means nothing. `read` goes straight on, as anybody would measure the memory; `pull` reads two
 * halves at once and asks for lines ahead, by which some machines give a quarter more. */
#define CRL_PROBE_AHEAD 2048
typedef uint64_t crl_probe_read_fn(const void *p, size_t bytes);

/* Run a chain of independent multiply-adds `rounds` times, all operands in registers (scalar: in the first level
 * cache); returns how many operations that were, a multiply-add being two. *value means nothing. */
typedef uint64_t crl_probe_int8_fn(size_t rounds, uint64_t *value); /* int8 products summed in int32 */
typedef uint64_t crl_probe_f32_fn(size_t rounds, uint64_t *value);  /* fused multiply-adds of floats */
typedef uint64_t crl_probe_bf16_fn(size_t rounds, uint64_t *value); /* products of bf16 pairs summed in float */

struct crl_probe {
    crl_probe_read_fn *read, *pull;
    crl_probe_int8_fn *int8;
    crl_probe_f32_fn *f32;
    crl_probe_bf16_fn *bf16; /* NULL: no level multiplies bf16 pairs */
    enum crl_level read_level, pull_level, int8_level, f32_level, bf16_level;
};

/* The best probes of the levels in `mask` that this machine has. */
void crl_probe_select(struct crl_probe *p, unsigned mask);

#endif
