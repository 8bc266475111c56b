/* metrics.h - how an answer is taken out of a reply and compared with the right one (docs/eval.md,
 * "Metrics").
 *
 * An object holds compiled patterns and never changes after it was made: any number of threads may use one.
 * Texts are UTF-8 and scores lie in [0, 1], whatever scale a paper prints. Published rules are followed where
 * there are some; the document says where not. */
#ifndef CRL_EVAL_METRICS_H
#define CRL_EVAL_METRICS_H

#include "text/str.h"

#include <stdint.h>

struct crl_scorer;

/* extract: a pattern of the user's for CRL_EXTRACT_PATTERN, NULL for none. */
enum crl_status crl_scorer_new(struct crl_scorer **out, const char *extract, struct crl_err *err);
void crl_scorer_free(struct crl_scorer *m);

/* --- from reply to answer ------------------------------------------------------------------------------- */

enum crl_extract {
    CRL_EXTRACT_ALL,     /* the reply without white space around it */
    CRL_EXTRACT_LINE,    /* its first line that is not blank */
    CRL_EXTRACT_HASHES,  /* the number after "####", as GSM8K writes solutions */
    CRL_EXTRACT_NUMBER,  /* the last number, after the last phrase like "The answer is" if there is one */
    CRL_EXTRACT_BOXED,   /* inside the last \boxed{} or \fbox{}, else after "final answer is" */
    CRL_EXTRACT_LETTER,  /* the letter of a choice */
    CRL_EXTRACT_CODE,    /* the first fenced block, or between [BEGIN] and [DONE], else all */
    CRL_EXTRACT_PATTERN, /* first group of the last match of the user's pattern, the match when it has no
                            group */
    CRL_EXTRACT_COUNT
};
const char *crl_extract_name(enum crl_extract e); /* "all", "line", "hashes", ... */
bool crl_extract_parse(enum crl_extract *out, const char *name);

/* Append the answer in a reply to *out. *found: there is one; otherwise nothing was appended. n_choice: how
 * many letters count, for CRL_EXTRACT_LETTER. */
enum crl_status crl_answer_extract(const struct crl_scorer *m, enum crl_extract how, const char *reply,
                                   size_t len, unsigned n_choice, struct crl_str *out, bool *found,
                                   struct crl_err *err);

/* --- comparing ------------------------------------------------------------------------------------------ */

enum crl_score {
    CRL_SCORE_EXACT,   /* the same text after white space around it is taken away */
    CRL_SCORE_NUMBER,  /* the same number: 1,234 is 1234.0 and $5 is 5 */
    CRL_SCORE_MATH,    /* the same formula after the MATH data set's normalisation */
    CRL_SCORE_EM,      /* SQuAD's exact match: case, punctuation, articles, white space do not count */
    CRL_SCORE_F1,      /* SQuAD's F1 of words after the same normalisation */
    CRL_SCORE_CHRF,    /* chrF of one text: characters, n = 1 to 6, beta 2 */
    CRL_SCORE_ANLS,    /* DocVQA: 1 - edit distance over the longer length, below 0.5 it is 0 */
    CRL_SCORE_RELAXED, /* ChartQA: numbers within 5 %, otherwise equal but for case */
    CRL_SCORE_CODE,    /* nothing is compared: code is written out and run elsewhere */
    CRL_SCORE_COUNT
};
const char *crl_score_name(enum crl_score m); /* "exact", "number", ... */
bool crl_score_parse(enum crl_score *out, const char *name);

/* The score of `got` against gold[0..n_gold), the best of them. CRL_ERANGE for texts over CRL_SCORE_TEXT_MAX
 * bytes. */
#define CRL_SCORE_TEXT_MAX ((size_t)1 << 20)
#define CRL_SCORE_EDIT_MAX 8192 /* characters of the texts that edit distance compares */
enum crl_status crl_score_answer(const struct crl_scorer *m, enum crl_score how, const char *got,
                                 const char *const *gold, size_t n_gold, double *score, struct crl_err *err);

/* The number a text consists of; false when it is none. */
bool crl_number_parse(const char *text, double *out);

/* --- parts with a name of their own --------------------------------------------------------------------- */

/* chrF's counts for n-grams of n = i + 1. Corpus chrF adds the counts of its texts up and then takes the
 * score. */
#define CRL_CHRF_ORDER 6
struct crl_chrf {
    uint64_t hyp[CRL_CHRF_ORDER], ref[CRL_CHRF_ORDER], match[CRL_CHRF_ORDER];
};
enum crl_status crl_chrf_add(struct crl_chrf *c, const char *hyp, const char *ref, struct crl_err *err);
double crl_chrf_score(const struct crl_chrf *c);

/* The unbiased estimate of pass@k from c right ones among n samples: 1 - C(n-c, k) / C(n, k); k <= n. */
double crl_pass_at_k(unsigned n, unsigned c, unsigned k);

/* Append the text as SQuAD compares it, and the formula as MATH compares it. */
enum crl_status crl_squad_normalise(const struct crl_scorer *m, const char *text, struct crl_str *out,
                                    struct crl_err *err);
enum crl_status crl_math_normalise(const struct crl_scorer *m, const char *text, struct crl_str *out,
                                   struct crl_err *err);

#endif
