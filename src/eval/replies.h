/* replies.h - questions answered by writing: replies are generated, answers taken out of them and compared.
 */
#ifndef CRL_EVAL_REPLIES_H
#define CRL_EVAL_REPLIES_H

#include "eval/quiz.h"
#include "run/generate.h"

#define CRL_SAMPLES_MAX 1024

struct crl_reply_options {
    struct crl_quiz_options quiz;
    bool letters;                /* list the options and take a letter, whatever the data set's own way is */
    bool has_extract, has_score; /* else the data set's own */
    enum crl_extract extract;
    enum crl_score score;
    const char *pattern;     /* for CRL_EXTRACT_PATTERN */
    size_t max_tokens;       /* 0: the data set's own */
    const char *const *stop; /* [n_stop] besides the data set's own */
    size_t n_stop;
    struct crl_sampler_options sampling; /* zeroed: greedy */
    unsigned samples;                    /* replies to each question, 0: 1 */
    unsigned k;                          /* pass@k besides pass@1; 0: none */
    const char *programs;                /* folder for the programs of CRL_SCORE_CODE, NULL: not written */
    const char *sandbox; /* shell command that is given a program's path; NULL: nothing is executed */
    unsigned sandbox_s;  /* seconds until it counts as failed; 0: 30 */
};

/* Metrics: by the score accuracy, exact_match, f1, chrf, anls, relaxed_accuracy or pass@1 (and pass@k);
 * answered (share of replies an answer was found in), ended (share that ended by themselves), reply_tokens.
 * Greedy results do not depend on threads, batch size or the number of questions at a time. */
enum crl_status crl_eval_replies(struct crl_result **out, struct crl_engine *engine,
                                 const struct crl_reply_options *o, struct crl_err *err);

/* Run a shell command with a path as its last argument, output thrown away. *passed: it exited with 0 in
 * time. */
enum crl_status crl_sandbox_run(const char *command, const char *path, unsigned seconds, bool *passed,
                                struct crl_err *err);

#endif
