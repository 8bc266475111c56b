/* slab.h - the work of converting and comparing, cut into pieces that any thread may take.
 *
 * A slab is a run of panels of one matrix, about a megabyte of float32: it stays in the cache of the core
 * that works on it, and there are enough of them for many threads. Slabs follow the order of the file. What a
 * slab's bytes are depends on the checkpoint, the format and the levels alone, never on who packs it.
 */
#ifndef CRL_CONVERT_SLAB_H
#define CRL_CONVERT_SLAB_H

#include "convert/checkpoint.h"
#include "simd/kernels.h"

struct crl_slab {
    size_t weight; /* index in the schema */
    size_t panel;  /* first panel */
    size_t n_panel;
};

struct crl_slabs {
    const struct crl_schema *schema;
    struct crl_kernels kern; /* the fastest packers of this machine; the bytes are the same with any */
    uint64_t *first;         /* [n_weight + 1] number of the first slab of each matrix */
    uint64_t n;              /* slabs in all */
    size_t most_rows;        /* float32 values of the largest slab */
    size_t most_bytes;       /* packed bytes of the largest slab, in any format */
};

/* The schema must outlive the object. */
enum crl_status crl_slabs_new(struct crl_slabs *s, const struct crl_schema *schema, struct crl_err *err);
void crl_slabs_free(struct crl_slabs *s);

struct crl_slab crl_slabs_at(const struct crl_slabs *s, uint64_t i);

/* Where a slab lies in its matrix. */
uint64_t crl_slab_offset(const struct crl_slab *b, const struct crl_weight *w, enum crl_format f);
uint64_t crl_slab_bytes(const struct crl_slab *b, const struct crl_weight *w, enum crl_format f);

/* Pack rows (crl_ckpt_read of the same panels) into bytes with the packers of kern. guide: for Q4, may be
 * NULL. Values that are not finite are taken as 0, in rows too, and counted in the result. */
uint64_t crl_slab_pack(const struct crl_kernels *kern, const struct crl_slab *b, const struct crl_weight *w,
                       enum crl_format f, const int8_t level[16], const struct crl_q4_guide *guide, float *rows,
                       unsigned char *bytes);

/* What errors cost when nothing is known of the inputs, for the guide of a slab in Q4: the root mean square of each
 * input's weights in units of their mean. Inputs that matter tend to have larger weights (docs/quality.md). cost[k_pad].
 * False when all weights are 0. */
bool crl_slab_costs(const struct crl_slab *b, const struct crl_weight *w, const float *rows, float *cost);

/* How far packed weights are from the original ones: sums that can be added up. */
struct crl_misfit {
    double err2; /* sum of squared differences */
    double ref2; /* sum of squares of the original */
    float most;  /* largest difference */
};

/* Compare packed bytes with rows; scratch holds one row, k floats. */
void crl_slab_misfit(const struct crl_slab *b, const struct crl_weight *w, enum crl_format f,
                     const int8_t level[16], const float *rows, const unsigned char *bytes, float *scratch,
                     struct crl_misfit *m);

/* sqrt(err2 / ref2): 0 when both are 0. */
double crl_misfit_rms(const struct crl_misfit *m);
void crl_misfit_add(struct crl_misfit *sum, const struct crl_misfit *m);

#endif
