/* keeper.h - what is done of a conversion, kept where a kill or a power cut cannot take it: the journal
 * beside the partial file, and the thread that writes it.
 *
 * Extents that are complete are handed over; the thread syncs the partial file and only then writes their
 * records, so a record never speaks of bytes that are not on the disk. With a record come the hash of the
 * extent and the sums for the report. A journal belongs to one conversion: it begins with an identity made of
 * everything the bytes depend on. Internal to convert/.
 *
 *   offset 0    8 bytes "CRLJRNL1", u64 identity, u64 XXH3 of those 16 bytes
 *   offset 24   records: u32 extent, u32 n matrices, u64 hash of the extent, n times 32 bytes (f64 sum of
 * squared errors, f64 sum of squares, u64 weights not finite, f32 largest error, u32 0), u64 XXH3 of the
 * record so far. The first record that is cut short or damaged ends the journal. */
#ifndef CRL_CONVERT_KEEPER_H
#define CRL_CONVERT_KEEPER_H

#include "convert/crew.h"
#include "store/pack.h"

struct crl_keeper;

/* path: of the result; the journal is PATH.journal.partial. With keep_old the records of a journal of this
 * identity are read: done[n_extent] and sum[n_weight] (both zero before) tell what they say, hash[n_extent]
 * what to hold the bytes to. *found: there was such a journal. Nothing is changed
 * before crl_keeper_start. */
enum crl_status crl_keeper_open(struct crl_keeper **k, const char *path, uint64_t identity, bool keep_old,
                                const struct crl_schema *schema, bool *done, uint64_t *hash,
                                struct crl_crew_record *sum, bool *found, struct crl_err *err);

/* Begin to write records. consume: give the source of every extent up when its record stands. A failure ends
 * the work of the crew. */
enum crl_status crl_keeper_start(struct crl_keeper *k, struct crl_crew *crew, struct crl_packer *packer,
                                 bool consume, struct crl_err *err);

/* This extent is complete in the packer; sum[n] of its n matrices are copied. From any thread. */
void crl_keeper_add(struct crl_keeper *k, size_t extent, const struct crl_crew_record *sum);

/* All records that were handed over stand when this returns, or a failure was reported to the crew. */
void crl_keeper_stop(struct crl_keeper *k);

/* The journal is removed unless keep. */
void crl_keeper_close(struct crl_keeper *k, bool keep);

#endif
