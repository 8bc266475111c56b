/* hash.c - XXH3 through the packaged xxHash library, with the widest instructions it has for this processor. */
#include "config.h"

#include "base/hash.h"

#include "base/mem.h"

#include <xxhash.h>
#ifdef HAVE_XXHASH_DISPATCH
#include <xxh_x86dispatch.h> /* the same names from here on */
#endif

struct crl_hasher {
    XXH3_state_t *state;
};

uint64_t crl_hash(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

struct crl_hasher *crl_hasher_new(void)
{
    struct crl_hasher *h = crl_alloc(1, sizeof *h);

    if (!h) return NULL;
    h->state = XXH3_createState();
    if (!h->state || XXH3_64bits_reset(h->state) == XXH_ERROR) {
        crl_hasher_free(h);
        return NULL;
    }
    return h;
}

void crl_hasher_add(struct crl_hasher *h, const void *data, size_t len)
{
    XXH3_64bits_update(h->state, data, len);
}

uint64_t crl_hasher_value(const struct crl_hasher *h)
{
    return XXH3_64bits_digest(h->state);
}

void crl_hasher_free(struct crl_hasher *h)
{
    if (!h) return;
    XXH3_freeState(h->state);
    crl_free(h);
}
