/* feed.h - reading ahead: threads of their own bring the checkpoint into memory stage by stage, in the order
 * of the slabs, while others take rows out of the stages that are there.
 *
 * A few slots of equal size hold stages; one is free again when the last slab of its stage was given back.
 * Who takes slabs in rising order is never kept waiting for one that cannot come. Internal to convert/. */
#ifndef CRL_CONVERT_FEED_H
#define CRL_CONVERT_FEED_H

#include "convert/slab.h"
#include "convert/stage.h"

/* How the slots are cut. Stages are runs of slabs of one matrix; experts stored input-major become one stage
 * each where memory allows, for only then is their tensor read in one go. */
struct crl_feed_plan {
    size_t goal; /* bytes that a stage aims at */
    size_t most; /* bytes of the largest one: size of a slot */
    unsigned n_slot;
    uint64_t bytes; /* of all slots */
};

/* The best plan that stays below `budget` bytes, or the smallest there is when none does: compare `bytes`. */
void crl_feed_plan(struct crl_feed_plan *p, const struct crl_ckpt *ck, const struct crl_slabs *slabs,
                   uint64_t budget);

struct crl_feed;

/* skip[extent], may be NULL: extents whose slabs will not be asked for. Reading begins at once. */
enum crl_status crl_feed_new(struct crl_feed **f, const struct crl_ckpt *ck, const struct crl_slabs *slabs,
                             const struct crl_feed_plan *plan, const bool *skip, struct crl_err *err);
/* Waits for reads that are under way. */
void crl_feed_free(struct crl_feed *f);

/* Rows of a slab as float32, once its stage is there. A failed read is the failure of all slabs from there
 * on. */
enum crl_status crl_feed_rows(struct crl_feed *f, uint64_t slab, const struct crl_slab *b, float *rows,
                              struct crl_err *err);

/* Nothing more is read; whoever waits is told CRL_EINTR. */
void crl_feed_stop(struct crl_feed *f);

#endif
