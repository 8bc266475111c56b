/* tower.h - the vision tower, adapter and projector: tiles of pixels in, rows for the text model out. The equations and
 * their sources are in docs/vision.md.
 *
 * A tower belongs to one engine and is used by one caller at a time. Tiles know nothing of each other, so a picture is
 * encoded a few tiles at a time in buffers sized once, whatever the number of its tiles. Results do not depend on the
 * number of threads or on which tiles are encoded together. */
#ifndef CRL_VISION_TOWER_H
#define CRL_VISION_TOWER_H

#include "base/team.h"
#include "simd/kernels.h"
#include "store/load.h"
#include "vision/tiles.h"

/* Where the time goes, in nanoseconds of the team's first member. */
struct crl_tower_profile {
    uint64_t linear_ns;    /* matrix products, quantising their inputs included */
    uint64_t attention_ns; /* rotation, scores, values */
    uint64_t other_ns;     /* patches cut, norms, gelu */
};

struct crl_tower;

/* The pack of weights must be multimodal; weights, kernels and team outlive the tower. The team has a group per memory node
 * of the weights' plan, or the plan has one node. group: most tiles computed together, 0 for a
 * choice by the number of threads. */
enum crl_status crl_tower_new(struct crl_tower **out, const struct crl_weights *weights,
                              const struct crl_kernels *kernels, struct crl_team *team, size_t group,
                              struct crl_err *err);
void crl_tower_free(struct crl_tower *t);

/* Bytes of the tower's buffers, and tiles that they are for: a caller who wants to stop in between encodes so many at a
 * time. */
size_t crl_tower_bytes(const struct crl_tower *t);
size_t crl_tower_group(const struct crl_tower *t);

/* Operations (a multiply-add is two) of the matrix products of one tile: with q8 or q4 weights, and with bf16 ones. */
void crl_tower_work(const struct crl_tower *t, double *int8_ops, double *f32_ops);

/* Encode tiles [first, first + n) into rows[n * tokens per tile][d_model of the text model]; the rows of a tile follow
 * each other, row-major over its squares. profile may be NULL; it is added to. Cannot fail. */
void crl_tower_encode(struct crl_tower *t, const struct crl_tiles *tiles, const struct crl_preprocess *p, size_t first,
                      size_t n, float *rows, struct crl_tower_profile *profile);

#endif
