/* eval_text.h - options and running of the evaluators over running text: perplexity, reference, divergence, routing. */
#ifndef CRL_CLI_EVAL_TEXT_H
#define CRL_CLI_EVAL_TEXT_H

#include "cli/eval.h"
#include "cli/model.h"
#include "cli/progress.h"
#include "eval/text.h"

#define CRL_EVAL_TEXT_OPTION 0x3100
enum crl_eval_text_id {
    CRL_EVAL_TEXT = CRL_EVAL_TEXT_OPTION,
    CRL_EVAL_FIELD,
    CRL_EVAL_WINDOW,
    CRL_EVAL_STRIDE,
    CRL_EVAL_LIMIT,
    CRL_EVAL_NO_BOS,
    CRL_EVAL_BATCH
};

/* Rows for a table of options. */
/* clang-format off */
#define CRL_EVAL_BATCH_OPTION \
    { "batch", "N", "tokens computed at once (default 512); the result does not depend on it", CRL_EVAL_BATCH }
#define CRL_EVAL_TEXT_OPTIONS \
    { "text", "FILE", "the text; FILE.jsonl: one document per line, in the member \"text\" or \"ids\"", \
      CRL_EVAL_TEXT }, \
    { "field", "NAME", "member of a line that holds the text (default: text)", CRL_EVAL_FIELD }, \
    { "window", "N", "most positions the model sees at once (default: 2048, or its context if less)", \
      CRL_EVAL_WINDOW }, \
    { "stride", "N", "tokens from one window's start to the next (default: the window)", CRL_EVAL_STRIDE }, \
    { "limit", "N", "take only the first N documents", CRL_EVAL_LIMIT }, \
    { "no-bos", NULL, "begin windows without the begin-of-text token", CRL_EVAL_NO_BOS }, \
    CRL_EVAL_BATCH_OPTION
/* clang-format on */

struct crl_eval_text_args {
    struct crl_model_args model;
    struct crl_eval_show show;
    struct crl_text_options text;
    struct crl_progress progress;
};

/* Take an option of the rows, of the model or of the showing. False after a message on misuse. */
bool crl_eval_text_option(struct crl_eval_text_args *a, const struct crl_cli *c, int id);

/* After the last option: one model, and with `text` a text, is needed. Sets up progress and interrupts. False after a
 * message. */
bool crl_eval_text_ready(struct crl_eval_text_args *a, const struct crl_cli *c, bool text);

/* Show a result or report the failure; releases the result. Exit code. */
int crl_eval_text_end(struct crl_eval_text_args *a, const struct crl_usage *u, struct crl_result *r,
                      enum crl_status st, const struct crl_err *err);

#endif
