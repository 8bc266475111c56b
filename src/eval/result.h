/* result.h - what an evaluation found: named metrics with their uncertainty, facts about the run, tables, and the
 * outcome of every item. All evaluators of `corral eval` fill this one structure; printing, JSON, the history and the
 * comparison of runs read it.
 *
 * A result owns everything in it. Names are lower case with dots and underscores ("kl.mean", "router.layer03"): they
 * are keys of the history, so a name never changes its meaning. */
#ifndef CRL_EVAL_RESULT_H
#define CRL_EVAL_RESULT_H

#include "base/json.h"

#include <stdint.h>

#define CRL_METRIC_NAME 48 /* bytes, the zero included */
#define CRL_METRIC_UNIT 16
#define CRL_METRIC_MAX 4096
#define CRL_ITEM_MAX ((size_t)1 << 26)

/* Which way is better, for gates and colours. */
enum crl_better { CRL_BETTER_NONE = 0, CRL_BETTER_LOW = -1, CRL_BETTER_HIGH = 1 };

/* What is not known is NaN. */
struct crl_metric {
    char name[CRL_METRIC_NAME];
    char unit[CRL_METRIC_UNIT]; /* "nats", "" for a plain number or a rate in [0, 1] */
    double value;
    double se;        /* standard error */
    double low, high; /* 95% confidence interval */
    uint64_t n;       /* observations behind it */
    enum crl_better better;
};

/* One thing that was asked or scored: a document, a question. Two runs on the same data have the same ids in the same
 * order, which is what paired comparisons rest on. */
struct crl_item {
    char *id;
    double score;   /* correctness in [0, 1], or the item's sum (of nats, say) when weight is not 1 */
    double weight;  /* what score / weight is a mean of: tokens; 1 for a question */
    json_t *detail; /* object with whatever explains it (prediction, expected answer), or NULL */
};

struct crl_result {
    char *kind; /* "perplexity" */
    struct crl_metric *metric;
    size_t n_metric, cap_metric;
    struct crl_item *item;
    size_t n_item, cap_item;
    json_t *facts;  /* object: data and settings, everything that must be equal for runs to be comparable */
    json_t *model;  /* object: what was measured: recipe, hashes (eval/about.h) */
    json_t *run;    /* object: what may differ between runs of the same: instruction set, threads, speed */
    json_t *tables; /* object: name -> {"columns": [names], "rows": [[values]]}, in order of insertion */
};

enum crl_status crl_result_new(struct crl_result **out, const char *kind, struct crl_err *err);
void crl_result_free(struct crl_result *r);

/* Append a metric with value, n and everything else unknown; the caller fills in the rest through *m, which is valid
 * until the next metric is added. CRL_ERANGE for a name that is too long, empty or taken. */
enum crl_status crl_result_metric(struct crl_result *r, struct crl_metric **m, const char *name, double value,
                                  uint64_t n, struct crl_err *err);

/* NULL when there is none of that name. */
const struct crl_metric *crl_result_find(const struct crl_result *r, const char *name);

/* Append an item. The id is copied; detail (may be NULL) is taken over, also on failure. */
enum crl_status crl_result_item(struct crl_result *r, const char *id, double score, double weight, json_t *detail,
                                struct crl_err *err);

/* Set a fact or a table; the value is taken over, also on failure. NULL (exhaustion while it was built) fails. */
enum crl_status crl_result_fact(struct crl_result *r, const char *name, json_t *value, struct crl_err *err);
enum crl_status crl_result_table(struct crl_result *r, const char *name, json_t *columns, json_t *rows,
                                 struct crl_err *err);

/* CRL_ERANGE naming the first metric whose value is not finite; such a result must not enter a history. */
enum crl_status crl_result_check(const struct crl_result *r, struct crl_err *err);

/* {"eval", "facts", "model", "run", "metrics": {name: {"value", "se", "low", "high", "n", "unit", "better"}}, "tables"}
 * and, with `items`, "items": [{"id", "score", "weight", "detail"}]. Unknown numbers are null, unknown se and intervals absent.
 * NULL on exhaustion. */
json_t *crl_result_json(const struct crl_result *r, bool items);

/* A number for JSON: null when it is not finite. */
json_t *crl_real_json(double x);

#endif
