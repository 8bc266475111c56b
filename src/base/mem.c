/* mem.c - checked sizes, objects, arenas and regions. */
#define _GNU_SOURCE
#include "base/mem.h"

#include "base/topo.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES ((size_t)2 << 20)

static atomic_size_t fail_at;  /* 0: no fault wanted; test hook, see crl_alloc_fail_after */
static atomic_size_t n_allocs; /* allocations since the hook was last set */

bool crl_mul_size(size_t a, size_t b, size_t *out)
{
    if (b && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool crl_add_size(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

bool crl_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b && a > UINT64_MAX / b) return false;
    *out = a * b;
    return true;
}

bool crl_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a > UINT64_MAX - b) return false;
    *out = a + b;
    return true;
}

size_t crl_alloc_fail_after(size_t n)
{
    size_t seen = atomic_exchange(&n_allocs, 0);

    atomic_store(&fail_at, n);
    return seen;
}

static bool refuse(void)
{
    size_t k = atomic_fetch_add(&n_allocs, 1) + 1;
    size_t at = atomic_load(&fail_at);

    return at && k >= at;
}

void *crl_alloc(size_t n, size_t size)
{
    size_t bytes;
    void *p;

    if (refuse() || !crl_mul_size(n, size, &bytes) || bytes > SIZE_MAX - CRL_ALIGN) return NULL;
    bytes = crl_round_up(bytes ? bytes : 1, CRL_ALIGN);
    p = aligned_alloc(CRL_ALIGN, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void crl_free(void *p)
{
    free(p);
}

enum crl_status crl_grow(void **p, size_t *cap, size_t need, size_t size, size_t most, struct crl_err *err)
{
    size_t want = *cap ? *cap : 16;
    void *bigger;

    if (need <= *cap) return CRL_OK;
    if (need > most) return crl_fail(err, CRL_EFULL, "%zu entries wanted, at most %zu are allowed", need, most);
    while (want < need) want = want > most / 2 ? most : want * 2;
    bigger = crl_alloc(want, size);
    if (!bigger) return crl_fail(err, CRL_ENOMEM, "no memory for %zu entries of %zu bytes", want, size);
    if (*p) memcpy(bigger, *p, *cap * size);
    crl_free(*p);
    *p = bigger;
    *cap = want;
    return CRL_OK;
}

char *crl_memdup0(const void *p, size_t n)
{
    char *copy = n < SIZE_MAX ? crl_alloc(n + 1, 1) : NULL;

    if (copy && n) memcpy(copy, p, n);
    return copy;
}

char *crl_strdup(const char *s)
{
    return crl_memdup0(s, strlen(s));
}

void *crl_arena_take(struct crl_arena *a, size_t n, size_t size)
{
    size_t bytes, end;
    unsigned char *p;

    if (!crl_mul_size(n, size, &bytes) || bytes > SIZE_MAX - CRL_ALIGN ||
        !crl_add_size(a->used, crl_round_up(bytes, CRL_ALIGN), &end)) {
        a->overflow = true;
        return NULL;
    }
    p = a->base && end <= a->size ? a->base + a->used : NULL;
    a->used = end;
    return p;
}

/* Mapped so that it begins at a multiple of `align`; what lies before and behind goes back. */
static unsigned char *map_aligned(size_t bytes, size_t align)
{
    size_t more = align > (size_t)sysconf(_SC_PAGESIZE) ? align : 0, before;
    unsigned char *p;

    if (bytes > SIZE_MAX - more) return NULL;
    p = mmap(NULL, bytes + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (!more) return p;
    before = (align - (uintptr_t)p % align) % align;
    if (before) munmap(p, before);
    munmap(p + before + bytes, more - before);
    return p + before;
}

/* Reserved at once, so that a pool too small is noticed here. */
static unsigned char *map_pool(size_t bytes)
{
#ifdef MAP_HUGETLB
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << 26, -1, 0);

    return p == MAP_FAILED ? NULL : p;
#else
    (void)bytes;
    return NULL;
#endif
}

enum crl_status crl_region_new(struct crl_region *r, size_t bytes, int node, unsigned flags, struct crl_err *err)
{
    bool want_huge = (flags & CRL_HUGE_TRY) && bytes >= HUGE_BYTES;
    size_t page = want_huge ? HUGE_BYTES : (size_t)sysconf(_SC_PAGESIZE), size;
    bool refused = refuse();
    enum crl_status st = CRL_OK;

    memset(r, 0, sizeof *r);
    r->node = CRL_NODE_ANY;
    if (bytes > SIZE_MAX - page) return crl_fail(err, CRL_ERANGE, "a region of %zu bytes cannot be mapped", bytes);
    size = crl_round_up(bytes ? bytes : 1, page);
    if (want_huge && (flags & CRL_HUGE_POOL) && !refused) r->base = map_pool(size);
    r->pool = r->huge = r->base != NULL;
    if (!r->base && !refused) r->base = map_aligned(size, page);
    if (!r->base) return crl_fail(err, CRL_ENOMEM, "no memory for a region of %zu bytes", size);
    r->size = size;
    if (want_huge && !r->pool) r->huge = madvise(r->base, r->size, MADV_HUGEPAGE) == 0;
    if (node == CRL_NODE_ANY) return CRL_OK;
    st = crl_bind_memory(r->base, r->size, (unsigned)node, err);
    if (st) crl_region_free(r);
    else r->node = node;
    return st;
}

void crl_region_free(struct crl_region *r)
{
    if (r && r->base) munmap(r->base, r->size);
    if (r) memset(r, 0, sizeof *r);
}
