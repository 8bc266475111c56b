/* guide.h - what activation statistics (store/calib.h) say about packing each matrix in q4 (quant/q4.h, "guide").
 * Internal to convert/.
 *
 * A guide is made when the first slab of its matrix asks for it and freed when the last one is done, so that as many are
 * held as matrices are worked on. All functions may be called by many threads at once. What a guide holds depends on the
 * statistics alone. */
#ifndef CRL_CONVERT_GUIDE_H
#define CRL_CONVERT_GUIDE_H

#include "convert/slab.h"
#include "store/calib.h"

struct crl_guides;

/* calib NULL: there are no guides. calib and slabs must outlive the object. */
enum crl_status crl_guides_new(struct crl_guides **g, const struct crl_calib *calib, const struct crl_slabs *slabs,
                               struct crl_err *err);
void crl_guides_free(struct crl_guides *g);

/* The guide of a matrix for one of its slabs; NULL with CRL_OK when nothing is known of its inputs. */
enum crl_status crl_guides_take(struct crl_guides *g, size_t weight, const struct crl_q4_guide **guide,
                                struct crl_err *err);
/* A slab of the matrix is done, whether or not it took the guide. */
void crl_guides_leave(struct crl_guides *g, size_t weight);

/* Bytes held while n threads work. */
uint64_t crl_guides_bytes(const struct crl_calib *calib, const struct crl_schema *schema, unsigned n);

/* How inputs of a span go together and what follows from it: r[i][j] for j < i < n are correlations (rows of n), damped by
 * `damp` on the diagonal; share[j * stride + i] for i > j receives what weight i gives up per error of weight j, inputs
 * being of equal size. work: 2 n^2 doubles. False when r is no correlation even when damped. */
bool crl_guide_shares(float *share, size_t stride, const double *r, size_t n, double damp, double *work);

#endif
