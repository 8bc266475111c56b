/* compare.h - two runs against each other, item by item.
 *
 * Runs of the same suite ask the same things, so that the difference of one item is not blurred by how hard
 * the item is. A series is what is compared: the mean of an evaluation's items, which is one
 * of its metrics, and for choice also nll.right. */
#ifndef CRL_EVAL_COMPARE_H
#define CRL_EVAL_COMPARE_H

#include "eval/history.h"

#define CRL_COMPARE_ALPHA 0.01 /* chance of one false alarm or more among all series of a comparison */

struct crl_difference {
    char *evaluation;
    char metric[CRL_METRIC_NAME];
    enum crl_better better;
    double base, now;            /* the means */
    double diff;                 /* now - base */
    double low, high;            /* 95 % interval of diff: bootstrap over items, CRL_BOOT_SEED */
    double p;                    /* two-sided; 1 when nothing differs */
    const char *test;            /* "McNemar" (exact) for right or wrong, else "paired z" */
    size_t n, n_worse, n_better; /* items */
    bool significant;            /* after Holm's correction over all series of the comparison */
    bool worse;                  /* in the direction of `better`; false when nothing differs */
};

struct crl_comparison {
    double alpha;
    struct crl_difference *v; /* [n] */
    size_t n, cap;
    char **left_out; /* [n_left_out] a sentence each: evaluations that cannot be compared */
    size_t n_left_out, cap_left_out;
};

/* base against now; items are loaded into the runs. alpha 0: CRL_COMPARE_ALPHA. */
enum crl_status crl_compare(struct crl_comparison **out, struct crl_history *hb, struct crl_run *base,
                            struct crl_history *hn, struct crl_run *now, double alpha, struct crl_err *err);
void crl_comparison_free(struct crl_comparison *c);

/* Significantly worse series. */
size_t crl_comparison_regressions(const struct crl_comparison *c);

/* The two-sided exact test of McNemar: chance of a split at least as uneven as b of b + c under even odds. */
double crl_mcnemar(size_t b, size_t c);

/* Facts of two evaluations that say what was asked are equal. */
bool crl_comparable(const struct crl_evaluation *a, const struct crl_evaluation *b);

json_t *crl_comparison_json(const struct crl_comparison *c);

#endif
