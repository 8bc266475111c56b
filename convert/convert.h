/* convert.h - from a checkpoint to a packed file, one piece at a time.
 *
 * The checkpoint is streamed: a few stages of it are in memory, read ahead while others are worked on, and
 * each thread holds one slab of float32 rows and its packed bytes; together less than max_memory, whatever
 * the size of the model. The bytes written depend on checkpoint and recipe alone, not on the number of
 * threads. A conversion that fails or is stopped leaves nothing under the final name. */
#ifndef CRL_CONVERT_CONVERT_H
#define CRL_CONVERT_CONVERT_H

#include "convert/checkpoint.h"
#include "convert/slab.h"
#include "store/calib.h"
#include "store/pack.h"

/* Called now and then by the calling thread, with weights done of weights in all and the matrix at hand (an
 * index of the schema). False asks to stop: the work then ends with CRL_EINTR. */
typedef bool crl_convert_progress_fn(void *ctx, uint64_t done, uint64_t total, size_t weight);

struct crl_convert_options {
    unsigned jobs;        /* threads; 0: one per usable core */
    uint64_t max_memory;  /* bytes held together, at the cost of reading ahead and of threads; 0: 2 GiB */
    bool allow_nonfinite; /* weights that are NaN or infinite become 0 instead of ending the work */
    bool resume; /* go on from what an earlier run left of the same conversion; leave the partial file when
                    this one ends early */
    bool delete_source; /* give the checkpoint's disk blocks back as their extents become durable, and remove
                           its weight files at the end; implies that a partial file is left when the work ends
                           early */
    const struct crl_calib *calib; /* activation statistics to pack q4 by; NULL: none. See crl_recipe.calibration */
    bool measure;       /* fill in the misfit of every matrix, at some cost in time */
    crl_convert_progress_fn *progress; /* may be NULL */
    void *ctx;
};

/* What became of one matrix. */
struct crl_report_row {
    struct crl_misfit misfit; /* of the packed weights against the original ones, when measured */
    uint64_t nonfinite;       /* weights that were NaN or infinite */
    bool differs;             /* verify only: the bytes are not those of a fresh conversion */
};

struct crl_report {
    size_t n_weight;
    struct crl_report_row *row; /* [n_weight] in the order of the schema */
    uint64_t weights;           /* processed */
    uint64_t resumed;           /* of them taken over from an earlier run */
    bool kept;                  /* the work ended early, and a partial file is there to go on from */
    uint64_t bytes;             /* of the finished file */
    double seconds;
    unsigned jobs;
};
void crl_report_free(struct crl_report *r);

/* Convert to the file `path`, or to memory when path is NULL: then *out (else may be NULL) is an open pack
 * under the name of the checkpoint. report may be NULL; it is filled on failure too, as far as the work went:
 * on weights that are not finite the work stops after the extent with the first of them. */
enum crl_status crl_convert(struct crl_ckpt *ck, const struct crl_recipe *recipe, const char *path,
                            struct crl_pack **out, const struct crl_convert_options *opt,
                            struct crl_report *report, struct crl_err *err);

/* Open activation statistics for the model of this checkpoint; CRL_EDIFFER when they are of another. */
enum crl_status crl_convert_calibration(struct crl_calib **calib, const struct crl_ckpt *ck, const char *path,
                                        struct crl_err *err);

/* What a conversion will take. */
struct crl_convert_plan {
    uint64_t weights;
    uint64_t file_bytes;   /* of the result, up to a few KiB of directory */
    uint64_t memory_bytes; /* held by the threads; pages of mapped files not counted */
    uint64_t disk_free;    /* bytes where the result will lie; 0: unknown */
    double seconds;        /* computing alone, from a short trial on the largest matrix */
    unsigned jobs;
};

/* path may be NULL. */
enum crl_status crl_convert_estimate(const struct crl_ckpt *ck, const struct crl_recipe *recipe,
                                     const char *path, const struct crl_convert_options *opt,
                                     struct crl_convert_plan *plan, struct crl_err *err);

#endif
