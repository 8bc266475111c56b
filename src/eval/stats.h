/* stats.h - means with their uncertainty, and the bootstrap.
 *
 * Neighbouring tokens are not independent observations; documents (or windows) are taken to be. Figures over tokens are
 * therefore ratios of sums over such clusters, and their uncertainty comes from the spread between clusters. */
#ifndef CRL_EVAL_STATS_H
#define CRL_EVAL_STATS_H

#include "base/status.h"

#include <stdint.h>

/* sum x / sum w over n clusters, and its standard error by linearisation (Cochran, Sampling Techniques, 1977, section
 * 6.4): sqrt(n / (n - 1) * sum (x_i - r w_i)^2) / sum w. *se is NaN for n < 2. */
double crl_ratio(const double *x, const double *w, size_t n, double *se);

/* Interval of Wilson (1927) at 95% for a share of successes / n. */
void crl_wilson(double successes, double n, double *low, double *high);

#define CRL_BOOT_REPLICATES 1000
#define CRL_BOOT_SEED 20260101u /* the default: the same data give the same intervals */

/* Resamples of clusters with replacement (Efron 1979), each drawn once from the seed and used for every figure: figures
 * of the same resample stay paired. Intervals are percentiles 2.5 and 97.5; errors are standard deviations. */
struct crl_boot;

/* CRL_ERANGE without clusters. n replicates, 0: CRL_BOOT_REPLICATES. */
enum crl_status crl_boot_new(struct crl_boot **out, size_t n_cluster, size_t n, uint64_t seed, struct crl_err *err);
void crl_boot_free(struct crl_boot *b);
size_t crl_boot_size(const struct crl_boot *b); /* resamples */

struct crl_spread {
    double se, low, high; /* NaN with fewer than two clusters */
};

/* The ratio sum x / sum w, x and w [n_cluster]. */
struct crl_spread crl_boot_ratio(const struct crl_boot *b, const double *x, const double *w);

/* sqrt(sum x / sum w), for root mean squares. */
struct crl_spread crl_boot_root(const struct crl_boot *b, const double *x, const double *w);

/* Quantiles q[n_q], ascending, of n values that fall into clusters; values are sorted by the call, cluster[] with them.
 * value[i] gets the quantile itself (the smallest value that at least q of all do not exceed). */
enum crl_status crl_boot_quantiles(const struct crl_boot *b, double *x, uint32_t *cluster, size_t n, const double *q,
                                   size_t n_q, double *value, struct crl_spread *spread, struct crl_err *err);

#endif
