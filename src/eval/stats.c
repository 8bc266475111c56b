/* stats.c - ratios, intervals, bootstrap. */
#include "eval/stats.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NORMAL_975 1.959963984540054 /* 97.5th percentile of the normal distribution */
#define MEMORY_MOST ((size_t)1 << 28) /* draws that are kept */

double crl_ratio(const double *x, const double *w, size_t n, double *se)
{
    double sx = 0, sw = 0, sum = 0, r;

    for (size_t i = 0; i < n; i++) {
        sx += x[i];
        sw += w[i];
    }
    r = sx / sw;
    for (size_t i = 0; i < n; i++) sum += (x[i] - r * w[i]) * (x[i] - r * w[i]);
    *se = n < 2 ? NAN : sqrt((double)n / (double)(n - 1) * sum) / sw;
    return r;
}

void crl_wilson(double k, double n, double *low, double *high)
{
    double z = NORMAL_975, p = k / n, mid = (p + z * z / (2 * n)) / (1 + z * z / n);
    double half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));

    *low = n > 0 ? fmax(0, mid - half) : NAN;
    *high = n > 0 ? fmin(1, mid + half) : NAN;
}

/* --- bootstrap --------------------------------------------------------------------------------------------------- */

struct crl_boot {
    size_t n_cluster, n;
    uint16_t *times; /* [n][n_cluster] how often each cluster was drawn */
};

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Uniform below n (n < 2^32) by the high half of a product; the bias is below n / 2^32. */
static size_t draw(uint64_t *state, size_t n)
{
    return (size_t)((next_random(state) >> 32) * (uint64_t)n >> 32);
}

enum crl_status crl_boot_new(struct crl_boot **out, size_t n_cluster, size_t n, uint64_t seed, struct crl_err *err)
{
    struct crl_boot *b;
    size_t all;

    *out = NULL;
    if (!n) n = CRL_BOOT_REPLICATES;
    if (!n_cluster || n_cluster >= UINT32_MAX) return crl_fail(err, CRL_ERANGE, "no observations to resample");
    while (n > 100 && n * n_cluster > MEMORY_MOST) n /= 2;
    b = crl_alloc(1, sizeof *b);
    if (b && crl_mul_size(n, n_cluster, &all)) b->times = crl_alloc(all, sizeof *b->times);
    if (!b || !b->times) {
        crl_boot_free(b);
        return crl_fail(err, CRL_ENOMEM, "no memory for %zu resamples of %zu clusters", n, n_cluster);
    }
    b->n = n;
    b->n_cluster = n_cluster;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < n_cluster; i++) b->times[r * n_cluster + draw(&seed, n_cluster)]++;
    *out = b;
    return CRL_OK;
}

size_t crl_boot_size(const struct crl_boot *b)
{
    return b->n;
}

void crl_boot_free(struct crl_boot *b)
{
    if (!b) return;
    crl_free(b->times);
    crl_free(b);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts v. Resamples without any weight gave NaN and are left out. */
static struct crl_spread summarise(double *v, size_t n, size_t n_cluster)
{
    struct crl_spread s = { NAN, NAN, NAN };
    double mean = 0, sum = 0;
    size_t m = 0;

    for (size_t i = 0; i < n; i++)
        if (!isnan(v[i])) v[m++] = v[i];
    if (n_cluster < 2 || m < 2) return s;
    qsort(v, m, sizeof *v, by_value);
    for (size_t i = 0; i < m; i++) mean += v[i] / (double)m;
    for (size_t i = 0; i < m; i++) sum += (v[i] - mean) * (v[i] - mean);
    s.se = sqrt(sum / (double)(m - 1));
    s.low = v[(size_t)(0.025 * (double)(m - 1))];
    s.high = v[(size_t)ceil(0.975 * (double)(m - 1))];
    return s;
}

static struct crl_spread ratio(const struct crl_boot *b, const double *x, const double *w, bool root)
{
    double *v = crl_alloc(b->n, sizeof *v);
    struct crl_spread s = { NAN, NAN, NAN };

    if (!v) return s;
    for (size_t r = 0; r < b->n; r++) {
        const uint16_t *t = b->times + r * b->n_cluster;
        double sx = 0, sw = 0;
        for (size_t i = 0; i < b->n_cluster; i++) {
            sx += t[i] * x[i];
            sw += t[i] * w[i];
        }
        v[r] = root ? sqrt(sx / sw) : sx / sw;
    }
    s = summarise(v, b->n, b->n_cluster);
    crl_free(v);
    return s;
}

struct crl_spread crl_boot_ratio(const struct crl_boot *b, const double *x, const double *w)
{
    return ratio(b, x, w, false);
}

struct crl_spread crl_boot_root(const struct crl_boot *b, const double *x, const double *w)
{
    return ratio(b, x, w, true);
}

struct pair {
    double x;
    uint32_t cluster;
};

static int by_pair(const void *a, const void *b)
{
    const struct pair *p = a, *q = b;

    if (p->x != q->x) return p->x < q->x ? -1 : 1;
    return (p->cluster > q->cluster) - (p->cluster < q->cluster);
}

static enum crl_status sort_pairs(double *x, uint32_t *cluster, size_t n, struct crl_err *err)
{
    struct pair *p = crl_alloc(n, sizeof *p);

    if (!p) return crl_fail(err, CRL_ENOMEM, "no memory to sort %zu values", n);
    for (size_t i = 0; i < n; i++) p[i] = (struct pair){ x[i], cluster[i] };
    qsort(p, n, sizeof *p, by_pair);
    for (size_t i = 0; i < n; i++) {
        x[i] = p[i].x;
        cluster[i] = p[i].cluster;
    }
    crl_free(p);
    return CRL_OK;
}

/* One pass over the sorted values, each counted `times` its cluster (NULL: once). out[q * stride]. */
static void find_quantiles(const double *x, const uint32_t *cluster, size_t n, const uint16_t *times, const double *q,
                           size_t n_q, double *out, size_t stride)
{
    double total = 0, sum = 0;
    size_t at = 0;

    for (size_t i = 0; i < n; i++) total += times ? times[cluster[i]] : 1;
    for (size_t j = 0; j < n_q; j++) out[j * stride] = n ? x[n - 1] : NAN;
    for (size_t i = 0; i < n && at < n_q; i++) {
        sum += times ? times[cluster[i]] : 1;
        while (at < n_q && sum > 0 && sum >= q[at] * total) out[at++ * stride] = x[i];
    }
}

enum crl_status crl_boot_quantiles(const struct crl_boot *b, double *x, uint32_t *cluster, size_t n, const double *q,
                                   size_t n_q, double *value, struct crl_spread *spread, struct crl_err *err)
{
    double *v = crl_alloc(n_q, b->n * sizeof *v);
    enum crl_status st = v ? sort_pairs(x, cluster, n, err) : crl_fail(err, CRL_ENOMEM, "no memory for quantiles");

    for (size_t r = 0; !st && r < b->n; r++)
        find_quantiles(x, cluster, n, b->times + r * b->n_cluster, q, n_q, v + r, b->n);
    if (!st) find_quantiles(x, cluster, n, NULL, q, n_q, value, 1);
    for (size_t j = 0; !st && j < n_q; j++) spread[j] = summarise(v + j * b->n, b->n, b->n_cluster);
    crl_free(v);
    return st;
}
