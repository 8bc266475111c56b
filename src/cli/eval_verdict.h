/* eval_verdict.h - a run against its baseline: comparison and gates, as text, JSON and JUnit XML. What `eval
 * suite` and `eval compare` share. */
#ifndef CRL_CLI_EVAL_VERDICT_H
#define CRL_CLI_EVAL_VERDICT_H

#include "cli/cli.h"
#include "eval/gate.h"

#define CRL_VERDICT_GATES_MAX 200

/* A condition and what came of it. */
struct crl_verdict_gate {
    const char *condition;
    enum crl_gate outcome;
    char *what;
};

struct crl_verdict_report {
    const struct crl_run *now, *base;     /* base NULL: there is none */
    const struct crl_comparison *compare; /* NULL with it */
    struct crl_verdict_gate gate[CRL_VERDICT_GATES_MAX];
    size_t n_gate;
    const char *const *failed; /* [n_failed] pairs: the evaluation's name and why */
    size_t n_failed;
};

/* Ask a condition and keep the answer. */
enum crl_status crl_verdict_ask(struct crl_verdict_report *v, const char *condition, struct crl_err *err);
void crl_verdict_fini(struct crl_verdict_report *v);
size_t crl_verdict_held(const struct crl_verdict_report *v);

/* Differences and gates on stdout. */
void crl_verdict_print(const struct crl_verdict_report *v);

/* {"run", "baseline", "comparison", "gates", "failed"} added to a document. False when memory ran out. */
bool crl_verdict_json(json_t *doc, const struct crl_verdict_report *v);

/* JUnit XML: a test case per evaluation and per condition. */
enum crl_status crl_verdict_junit(const struct crl_verdict_report *v, const char *path, struct crl_err *err);

#endif
