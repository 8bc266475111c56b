/* series.c - median and spread. */
#include "bench/series.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void crl_series_add(struct crl_series *s, double v)
{
    if (s->n < CRL_SERIES_MAX) s->v[s->n++] = v;
}

static int by_value(const void *a, const void *b)
{
    double x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

struct crl_stat crl_series_stat(const struct crl_series *s)
{
    struct crl_stat st = { 0 };
    struct crl_series sorted = *s;

    if (!s->n) return st;
    qsort(sorted.v, sorted.n, sizeof *sorted.v, by_value);
    st.n = s->n;
    st.low = sorted.v[0];
    st.high = sorted.v[s->n - 1];
    st.median = (sorted.v[(s->n - 1) / 2] + sorted.v[s->n / 2]) / 2;
    if (st.median > 0) st.spread = (st.high - st.low) / st.median;
    return st;
}

double crl_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
