/* hash.h - the one hash of the project, XXH3 with 64 bits and seed 0 (docs/format.md). The door to xxHash. */
#ifndef CRL_BASE_HASH_H
#define CRL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t crl_hash(const void *data, size_t len);

/* The same over pieces given in order. One hash costs about half a KiB; free accepts NULL. */
struct crl_hasher;
struct crl_hasher *crl_hasher_new(void); /* NULL on exhaustion */
void crl_hasher_add(struct crl_hasher *h, const void *data, size_t len);
uint64_t crl_hasher_value(const struct crl_hasher *h);
void crl_hasher_free(struct crl_hasher *h);

#endif
