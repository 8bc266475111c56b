/* kernels.h - the speed of every kernel alone, on one thread, with weights in the first cache levels and operands as
 * the model uses them. */
#ifndef CRL_BENCH_KERNELS_H
#define CRL_BENCH_KERNELS_H

#include "simd/kernels.h"

struct crl_kernel_speed {
    const struct crl_kernel_row *row;
    size_t m;               /* rows of activations at once; 0: this operation is not timed here */
    double bytes_per_s;     /* of weights read; for operations without weights, of floats read */
    double ops_per_s;       /* a multiply-add is two; 0 for operations without weights */
    double fraction;        /* of the same level's limit in a register loop; 0 where there is none */
};

/* Time every row of the table whose level is in `mask` and the machine has, each for one row of activations and for
 * many, packing for the 16 rows of a panel. *list is fresh (crl_free). The kernels run in the calling thread. */
enum crl_status crl_kernels_time(struct crl_kernel_speed **list, size_t *n, unsigned mask, struct crl_err *err);

#endif
