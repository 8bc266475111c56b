/* eval_quiz.h - options and running of the evaluators by questions: choice, generate. */
#ifndef CRL_CLI_EVAL_QUIZ_H
#define CRL_CLI_EVAL_QUIZ_H

#include "cli/eval.h"
#include "cli/model.h"
#include "cli/picture.h"
#include "cli/progress.h"
#include "eval/quiz.h"

#define CRL_EVAL_QUIZ_OPTION 0x3200
enum crl_eval_quiz_id {
    CRL_EVAL_DATA = CRL_EVAL_QUIZ_OPTION,
    CRL_EVAL_FORMAT,
    CRL_EVAL_GROUP,
    CRL_EVAL_QUIZ_LIMIT,
    CRL_EVAL_SHOTS,
    CRL_EVAL_SHOTS_FROM,
    CRL_EVAL_SYSTEM,
    CRL_EVAL_TEMPLATE,
    CRL_EVAL_PROMPT,
    CRL_EVAL_WITHOUT_IMAGES,
    CRL_EVAL_IMAGES,
    CRL_EVAL_SKIP_LONG,
    CRL_EVAL_PARALLEL,
    CRL_EVAL_QUIZ_BATCH
};

/* Rows for a table of options. */
/* clang-format off */
#define CRL_EVAL_QUIZ_OPTIONS \
    { "data", "FILE", "the questions: JSONL, JSON, CSV or TSV", CRL_EVAL_DATA }, \
    { "format", "NAME", "mmlu, mmlu-pro, gpqa, gsm8k, mgsm, math, mbpp, tydiqa, chartqa, docvqa, mmmu, mathvista,\n" \
      "generic (default: found out from the fields)", CRL_EVAL_FORMAT }, \
    { "group", "GLOB", "only questions whose group (subject, task) matches", CRL_EVAL_GROUP }, \
    { "limit", "N", "at most N questions, spread over the file", CRL_EVAL_QUIZ_LIMIT }, \
    { "shots", "N", "examples in the prompt (default: none)", CRL_EVAL_SHOTS }, \
    { "shots-from", "FILE", "where they come from (default: the first questions of the data)", CRL_EVAL_SHOTS_FROM }, \
    { "system", "TEXT", "a system message before everything", CRL_EVAL_SYSTEM }, \
    { "template", "TEXT", "how a question is put: {question} {context} {choices} {tests} are filled in", \
      CRL_EVAL_TEMPLATE }, \
    { "prompt", "KIND", "chat or text (default: chat if the model was made for it)", CRL_EVAL_PROMPT }, \
    { "without-images", NULL, "ask questions that have images without them", CRL_EVAL_WITHOUT_IMAGES }, \
    { "images", "DIR", "where the files of images lie (default: in the folder of the data)", CRL_EVAL_IMAGES }, \
    CRL_PICTURE_OPTIONS, \
    { "skip-long", NULL, "leave out questions that do not fit into the context", CRL_EVAL_SKIP_LONG }, \
    { "parallel", "N", "questions at a time (default 16); results do not depend on it", CRL_EVAL_PARALLEL }, \
    { "batch", "N", "tokens computed at once (default 512); results do not depend on it", CRL_EVAL_QUIZ_BATCH }
/* clang-format on */

struct crl_eval_quiz_args {
    struct crl_model_args model;
    struct crl_eval_show show;
    bool has_prompt;
    struct crl_picture_args picture;
    struct crl_progress progress;
};

/* Take an option of the rows, of the model or of the showing. False after a message on misuse. */
bool crl_eval_quiz_option(struct crl_eval_quiz_args *a, struct crl_quiz_options *q, const struct crl_cli *c,
                          int id);

/* After the last option: one model and the data are needed. Sets up progress and interrupts. False after a
 * message. */
bool crl_eval_quiz_ready(struct crl_eval_quiz_args *a, struct crl_quiz_options *q, const struct crl_cli *c);

/* Open the model and settle what depends on it. */
enum crl_status crl_eval_quiz_open(struct crl_eval_quiz_args *a, struct crl_quiz_options *q,
                                   const struct crl_usage *u, struct crl_engine **engine,
                                   struct crl_err *err);

/* Show a result or report the failure; releases the result. Exit code. */
int crl_eval_quiz_end(struct crl_eval_quiz_args *a, const struct crl_usage *u, struct crl_result *r,
                      enum crl_status st, const struct crl_err *err);

#endif
