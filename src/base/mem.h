/* mem.h - sizes that cannot wrap, and the three owners of memory.
 *
 * Objects come from crl_alloc and friends and are freed by the partner of what made them. Arenas hold all buffers of
 * an engine or session: planned, carved once, 64-byte aligned. Regions hold weights and caches: page aligned, huge
 * pages when asked and granted, bound to a NUMA node before first touch when one is named. */
#ifndef CRL_BASE_MEM_H
#define CRL_BASE_MEM_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define CRL_ALIGN 64 /* bytes; a cache line and one AVX-512 register */

/* *out = a * b or a + b; false when the result does not fit, *out is then untouched. */
bool crl_mul_size(size_t a, size_t b, size_t *out);
bool crl_add_size(size_t a, size_t b, size_t *out);
bool crl_mul_u64(uint64_t a, uint64_t b, uint64_t *out);
bool crl_add_u64(uint64_t a, uint64_t b, uint64_t *out);

/* n rounded up to a multiple of `to` (to > 0); the caller guarantees that it fits. */
static inline size_t crl_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Zeroed memory for n objects of `size` bytes, 64-byte aligned. NULL on overflow or exhaustion. crl_free(NULL) is
 * fine. n * size == 0 yields a valid pointer. */
void *crl_alloc(size_t n, size_t size);
void crl_free(void *p);

/* Grow *p, an array of crl_alloc or NULL, from *cap to at least `need` objects (doubling). The old content is kept,
 * the rest is zero. `most` is the ceiling of objects this array may ever hold: CRL_EFULL beyond it. */
enum crl_status crl_grow(void **p, size_t *cap, size_t need, size_t size, size_t most, struct crl_err *err);

/* Copy of a string or of n bytes plus a zero byte; NULL on exhaustion. Freed with crl_free. */
char *crl_strdup(const char *s);
char *crl_memdup0(const void *p, size_t n);

/* Tests fail the n-th allocation from now on (1 = the next); 0 switches the fault off. Every allocation of this
 * module counts. Returns the number of allocations counted since the last call. */
size_t crl_alloc_fail_after(size_t n);

/* An arena is one allocation carved in order. First pass with base NULL sums sizes, second pass hands out memory. */
struct crl_arena {
    unsigned char *base; /* NULL while planning */
    size_t used;         /* bytes, a multiple of CRL_ALIGN */
    size_t size;         /* bytes available; unused while planning */
    bool overflow;       /* a size did not fit size_t */
};

/* Next n * size bytes, 64-byte aligned; NULL while planning. */
void *crl_arena_take(struct crl_arena *a, size_t n, size_t size);

enum crl_region_flags {
    CRL_REGION_PLAIN = 0,
    CRL_HUGE_TRY = 1, /* ask for huge pages, take small ones when refused */
    CRL_HUGE_POOL = 2 /* first from the system's pool of them: only when that is known to have enough on the node, for a
                         bound region whose pool runs dry is a fatal fault at first touch */
};

struct crl_region {
    unsigned char *base; /* page aligned, zero filled on first touch */
    size_t size;         /* bytes mapped */
    int node;            /* the system's number of the NUMA node it is bound to, -1 for none */
    bool huge;           /* huge pages were granted */
    bool pool;           /* from the pool */
};

#define CRL_NODE_ANY (-1)

/* Map `bytes` of anonymous memory without touching it, bound to the node with the system number `node` (or to none:
 * CRL_NODE_ANY). The region begins at a huge page when it is long enough for one. CRL_EUNSUPPORTED or CRL_ERANGE when the
 * system does not bind (base/topo.h). */
enum crl_status crl_region_new(struct crl_region *r, size_t bytes, int node, unsigned flags, struct crl_err *err);
void crl_region_free(struct crl_region *r);

#endif
