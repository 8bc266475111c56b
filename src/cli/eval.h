/* eval.h - the subcommands of `corral eval`, each defined in its eval_<name>.c, and what they share: showing a result.
 * cmd_eval.c lists them. A subcommand's usage names it with its parent: .command = "eval perplexity". */
#ifndef CRL_CLI_EVAL_H
#define CRL_CLI_EVAL_H

#include "cli/cli.h"
#include "eval/result.h"

extern const struct crl_command crl_eval_cmd_choice;
extern const struct crl_command crl_eval_cmd_compare;
extern const struct crl_command crl_eval_cmd_generate;
extern const struct crl_command crl_eval_cmd_divergence;
extern const struct crl_command crl_eval_cmd_perplexity;
extern const struct crl_command crl_eval_cmd_suite;
extern const struct crl_command crl_eval_cmd_reference;
extern const struct crl_command crl_eval_cmd_routing;

/* How a result is to be shown; every evaluator takes these options. */
struct crl_eval_show {
    bool json;  /* one JSON object on stdout in place of text */
    bool items; /* the outcome of every item too (JSON) */
};

#define CRL_EVAL_OPTION 0x3000
enum crl_eval_id { CRL_EVAL_JSON = CRL_EVAL_OPTION, CRL_EVAL_ITEMS };

/* Rows for a table of options. */
/* clang-format off */
#define CRL_EVAL_OPTIONS \
    { "json", NULL, "print the result as one JSON object", CRL_EVAL_JSON }, \
    { "items", NULL, "with --json: the outcome of every item as well", CRL_EVAL_ITEMS }
/* clang-format on */

/* True when the id is one of the rows. */
bool crl_eval_option(struct crl_eval_show *a, int id);

/* Print a result: facts, metrics with their uncertainty, tables; or JSON. Exit code. A metric that is not finite
 * fails after the printing. */
int crl_eval_print(const struct crl_usage *u, const struct crl_eval_show *a, const struct crl_result *r);

#endif
