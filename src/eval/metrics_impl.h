/* metrics_impl.h - what metrics.c and extract.c share: the compiled patterns. */
#ifndef CRL_EVAL_METRICS_IMPL_H
#define CRL_EVAL_METRICS_IMPL_H

#include "eval/metrics.h"
#include "text/regex.h"

enum crl_pattern {
    CRL_PAT_ARTICLE,
    CRL_PAT_SPACE,
    CRL_PAT_TEXT_UNIT,
    CRL_PAT_HASHES,
    CRL_PAT_ANSWER_IS,
    CRL_PAT_NUMBER,
    CRL_PAT_FINAL,
    CRL_PAT_LETTER_IS,
    CRL_PAT_LETTER_COLON,
    CRL_PAT_LETTER_FIRST,
    CRL_PAT_LETTER_LAST,
    CRL_PAT_FENCE,
    CRL_PAT_BEGIN,
    CRL_PATTERN_COUNT
};

#define CRL_MATH_RULES 16

struct crl_scorer {
    struct crl_regex *math[CRL_MATH_RULES];
    struct crl_regex *pat[CRL_PATTERN_COUNT];
    struct crl_regex *user; /* NULL: none */
};

#endif
