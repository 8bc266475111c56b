/* gate.h - conditions under which a run counts as a regression: `divergence.kl.mean > 1.05 * baseline`.
 *
 *     condition  = sum ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum  |  "regression"
 *     sum        = product { ( "+" | "-" ) product }
 *     product    = factor { ( "*" | "/" ) factor }
 *     factor     = NUMBER | NAME | "baseline" [ "(" NAME ")" ] | ( "se" | "low" | "high" ) "(" NAME ")"
 *                | "-" factor | "(" sum ")"
 *     NAME       = evaluation "." metric
 *
 * A name is an evaluation of the suite and one of its metrics; of the metric the last part suffices when only
 * one metric ends so ("divergence.mean" is kl.mean). `baseline` alone is the value in the baseline run of the
 * one metric that the condition names. "regression" holds when any series of the comparison with the baseline
 * is significantly worse. */
#ifndef CRL_EVAL_GATE_H
#define CRL_EVAL_GATE_H

#include "eval/compare.h"

#define CRL_GATE_LEN_MAX 1024 /* bytes of a condition */

enum crl_gate {
    CRL_GATE_HOLDS, /* the condition is true: a regression */
    CRL_GATE_PASSES,
    CRL_GATE_SKIPPED /* it needs a baseline and there is none */
};

/* CRL_EFORMAT with the byte at which the condition stops making sense. */
enum crl_status crl_gate_check(const char *condition, struct crl_err *err);

/* base and comparison may be NULL: no baseline. *what: a sentence with both sides' values, fresh memory
 * (crl_free). CRL_ENOENT when a name is not there, CRL_ERANGE when a side is not finite. */
enum crl_status crl_gate_ask(const char *condition, const struct crl_run *now, const struct crl_run *base,
                             const struct crl_comparison *comparison, enum crl_gate *outcome, char **what,
                             struct crl_err *err);

#endif
