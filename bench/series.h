/* series.h - repeated measurements of one thing, and what is said about them. Plain data, zeroed to begin with. */
#ifndef CRL_BENCH_SERIES_H
#define CRL_BENCH_SERIES_H

#include <stddef.h>

#define CRL_SERIES_MAX 512 /* measurements kept; further ones are dropped */

struct crl_series {
    size_t n;
    double v[CRL_SERIES_MAX];
};

void crl_series_add(struct crl_series *s, double v);

/* All zero for an empty series. */
struct crl_stat {
    size_t n;
    double median; /* of an even number: the mean of the middle two */
    double low, high;
    double spread; /* (high - low) / median */
};

struct crl_stat crl_series_stat(const struct crl_series *s);

/* Seconds of a clock that only goes forward. */
double crl_seconds(void);

#endif
