/* crew.h - threads that go through all slabs of a checkpoint and leave a record of each: the common part of
 * converting and verifying. Internal to convert/.
 *
 * The one who uses a crew embeds it as the first member of his own structure and gives the work as a
 * function. Rows are read ahead by threads of their own (feed.h) and are there when it is called. Records are
 * kept per slab and added up in order at the end, for sums of floats depend on their order and results must
 * not depend on the number of threads. */
#ifndef CRL_CONVERT_CREW_H
#define CRL_CONVERT_CREW_H

#include "base/team.h"
#include "convert/convert.h"
#include "convert/guide.h"
#include "convert/feed.h"

#include <stdatomic.h>

/* One thread's own memory. */
struct crl_crew_bench {
    float *rows;          /* of the slab, float32 */
    unsigned char *bytes; /* room for its packed bytes */
    float *scratch;       /* one row */
    float *cost;          /* of errors by input, a row padded */
};

struct crl_crew_record {
    struct crl_misfit misfit;
    uint64_t nonfinite;
};

struct crl_crew;
typedef void crl_crew_fn(struct crl_crew *crew, uint64_t slab, const struct crl_slab *b,
                         struct crl_crew_bench *m);

struct crl_crew {
    const struct crl_ckpt *ck;
    const struct crl_schema *schema;
    const struct crl_convert_options *opt;
    crl_crew_fn *fn;
    struct crl_team *team;
    struct crl_slabs slabs;
    struct crl_feed *feed;
    struct crl_guides *guides;
    struct crl_feed_plan reading;
    const bool *skip;               /* [n_extent] done before, may be NULL: their records are given */
    uint64_t skipped;               /* weights in them */
    struct crl_crew_record *record; /* [slabs.n] */
    struct crl_crew_bench *bench;   /* [members of the team] */
    atomic_uint_least64_t *left;    /* [n_extent] slabs not done yet */
    atomic_uint_least64_t done;     /* weights */
    uint64_t total;
    atomic_uint_least64_t stop_at; /* slabs from here on are not begun */
    atomic_flag failed;            /* set by the first failure, which then owns the next two */
    enum crl_status status;
    struct crl_err err;
    double start;
};

/* fini accepts a zeroed crew. schema must have been built from the configuration of ck. */
enum crl_status crl_crew_init(struct crl_crew *c, const struct crl_ckpt *ck, const struct crl_schema *schema,
                              const struct crl_convert_options *opt, crl_crew_fn *fn, struct crl_err *err);
void crl_crew_fini(struct crl_crew *c);

/* All slabs; then the report's rows, whether or not the work came to its end. */
enum crl_status crl_crew_run(struct crl_crew *c, struct crl_report *report, struct crl_err *err);

/* Inside fn: end the work with this failure; or let nothing after the extent of `weight` be begun. */
void crl_crew_fail(struct crl_crew *c, enum crl_status st, const struct crl_err *err);
void crl_crew_stop_after(struct crl_crew *c, size_t weight);

/* Inside fn: crl_slab_pack of the slab in format f, into m->bytes, by the statistics of the options if there are any. */
enum crl_status crl_crew_pack(struct crl_crew *c, const struct crl_slab *b, enum crl_format f,
                              struct crl_crew_bench *m, uint64_t *nonfinite, struct crl_err *err);

/* Inside fn: this slab is done; true for the last one of its extent. */
bool crl_crew_last_of_extent(struct crl_crew *c, const struct crl_slab *b);

double crl_crew_now(void); /* seconds */

/* What the threads hold together: number of threads and reading ahead as options and memory allow. CRL_ERANGE
 * when max_memory is too little for one thread. */
struct crl_crew_plan {
    unsigned jobs;
    uint64_t bytes;
    struct crl_feed_plan reading;
};
enum crl_status crl_crew_plan(struct crl_crew_plan *p, const struct crl_ckpt *ck,
                              const struct crl_slabs *slabs, const struct crl_convert_options *opt,
                              struct crl_err *err);

#endif
