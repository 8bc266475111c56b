/* history.h - results of evaluations over time, in one SQLite file. The door to SQLite.
 * docs/format-history.md is the schema and its versions.
 *
 * Several processes may use one history: whoever finds it locked waits up to ten seconds. Every result is
 * stored by one transaction, so that an interrupted run leaves whole results, and whoever runs the same suite
 * on the same model again goes on with it. */
#ifndef CRL_EVAL_HISTORY_H
#define CRL_EVAL_HISTORY_H

#include "eval/result.h"

#define CRL_HISTORY_VERSION 2

struct crl_history;

/* create: make the file when there is none, and bring an older version up to date; else the file must be
 * there, and an older one is refused. CRL_EFORMAT: no history, a damaged one, or one of a later version. */
enum crl_status crl_history_open(struct crl_history **out, const char *path, bool create,
                                 struct crl_err *err);
void crl_history_close(struct crl_history *h);

/* For tests: open a file at an older version, made when it is not there. */
enum crl_status crl_history_open_version(struct crl_history **out, const char *path, int version,
                                         struct crl_err *err);

/* What is run. Strings are borrowed. */
struct crl_run_key {
    const char *suite, *model; /* names, for people */
    uint64_t suite_hash;
    const char *config_hash, *weights_hash, *recipe, *isa, *corral;
    uint64_t weights, bytes;
    unsigned threads;
};

enum crl_verdict {
    CRL_VERDICT_NONE,      /* not finished, or nothing was asked */
    CRL_VERDICT_GOOD,      /* finished and no gate failed */
    CRL_VERDICT_REGRESSED, /* a gate failed */
    CRL_VERDICT_FAILED     /* an evaluation failed */
};
const char *crl_verdict_name(enum crl_verdict v); /* "", "good", "regressed", "failed" */

/* Start a run; with `resume` go on with one of the same key that is not finished and whose process is gone.
 */
enum crl_status crl_history_begin(struct crl_history *h, const struct crl_run_key *key, bool resume,
                                  int64_t *run, bool *resumed, struct crl_err *err);
/* A result of this name made from the same specification is there already. */
enum crl_status crl_history_has(struct crl_history *h, int64_t run, const char *name, uint64_t spec_hash,
                                bool *found, struct crl_err *err);
/* Store a result; one of the same name is replaced. CRL_ERANGE when a metric is not finite. */
enum crl_status crl_history_add(struct crl_history *h, int64_t run, const char *name, uint64_t spec_hash,
                                const struct crl_result *r, struct crl_err *err);
/* Note a gate and what came of it: a sentence. */
enum crl_status crl_history_gate(struct crl_history *h, int64_t run, const char *expression, bool failed,
                                 const char *what, struct crl_err *err);
enum crl_status crl_history_finish(struct crl_history *h, int64_t run, enum crl_verdict verdict,
                                   struct crl_err *err);

/* --- reading back --------------------------------------------------------------------------------------- */

struct crl_evaluation {
    int64_t id;
    char *name;
    struct crl_result *result;    /* with items only after crl_history_items */
    double seconds, tokens_per_s; /* NaN: not known */
};

struct crl_gate_note {
    char *expression, *what;
    bool failed;
};

struct crl_run {
    int64_t id, started, finished; /* seconds since 1970; 0: not finished */
    char *suite, *model, *config_hash, *weights_hash, *recipe, *isa, *corral;
    uint64_t weights, bytes;
    unsigned threads;
    enum crl_verdict verdict;
    struct crl_evaluation *eval; /* [n_eval] in the order they were made */
    size_t n_eval, cap_eval;
    struct crl_gate_note *gate; /* [n_gate] */
    size_t n_gate, cap_gate;
};

/* Which run is meant: a number; "last" (the last finished one); "good" (the last that was good). With `like`
 * it must be of the same suite and of a model of the same configuration, and come before it. CRL_ENOENT:
 * there is none. */
enum crl_status crl_history_find(struct crl_history *h, const char *which, const struct crl_run *like,
                                 int64_t *run, struct crl_err *err);
/* A run with its results but without items. */
enum crl_status crl_history_load(struct crl_history *h, int64_t id, struct crl_run **run,
                                 struct crl_err *err);
/* The items of one of its evaluations, into its result. Does nothing when they are there. */
enum crl_status crl_history_items(struct crl_history *h, struct crl_evaluation *e, struct crl_err *err);
void crl_run_free(struct crl_run *run);

/* NULL when there is none of that name. */
struct crl_evaluation *crl_run_find(const struct crl_run *run, const char *name);

/* Ids of all finished runs, oldest first, at most the `most` last ones; fresh memory (crl_free). */
enum crl_status crl_history_runs(struct crl_history *h, size_t most, int64_t **ids, size_t *n,
                                 struct crl_err *err);

#endif
