/* choice.h - multiple choice by likelihood: which option, or which letter, the model finds most likely as the
 * reply. */
#ifndef CRL_EVAL_CHOICE_H
#define CRL_EVAL_CHOICE_H

#include "eval/quiz.h"

enum crl_choice_by {
    CRL_CHOICE_LETTER, /* options are listed, their letters compared */
    CRL_CHOICE_OPTION  /* options are not shown, their texts compared */
};

/* What a log likelihood is divided by, or compared with, before options are compared. */
enum crl_choice_norm {
    CRL_CHOICE_NONE,
    CRL_CHOICE_BYTES,         /* of the option */
    CRL_CHOICE_TOKENS,        /* of the option */
    CRL_CHOICE_UNCONDITIONAL, /* less the log likelihood after an empty question */
    CRL_CHOICE_NORMS
};
const char *crl_choice_norm_name(enum crl_choice_norm n); /* "none", "bytes", "tokens", "unconditional" */
bool crl_choice_norm_parse(enum crl_choice_norm *out, const char *name);

struct crl_choice_options {
    struct crl_quiz_options quiz;
    enum crl_choice_by by;
    enum crl_choice_norm norm;
};

/* Metrics: accuracy by the normalisation asked for, nll.right (mean of -log of the right option's share among
 * the options), and by option accuracy.none, accuracy.bytes, accuracy.tokens (accuracy.unconditional). Ties
 * go to the first option. The result does not depend on threads, batch size or the number of questions at a
 * time. */
enum crl_status crl_eval_choice(struct crl_result **out, struct crl_engine *engine,
                                const struct crl_choice_options *o, struct crl_err *err);

#endif
