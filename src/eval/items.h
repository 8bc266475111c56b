/* items.h - questions read from the files data sets are published as, and from a generic form (docs/eval.md,
 * "Data").
 *
 * A file is JSON lines, JSON, CSV (RFC 4180) or TSV; its rows are read in their order. What a row means is
 * its format: given by name, or found out from the names of the fields of the first row. A row that breaks
 * its format is CRL_EFORMAT with the file, the line and the field. Everything belongs to the list. */
#ifndef CRL_EVAL_ITEMS_H
#define CRL_EVAL_ITEMS_H

#include "base/status.h"

#include <stdint.h>

#define CRL_QUESTIONS_MAX ((size_t)1 << 22)
#define CRL_DATA_MAX ((size_t)1 << 30) /* bytes of a file */
#define CRL_CHOICES_MAX 26             /* letters */
#define CRL_ANSWERS_MAX 64
#define CRL_IMAGES_MAX 16

enum crl_data_format {
    CRL_DATA_AUTO,
    CRL_DATA_GENERIC,
    CRL_DATA_MMLU,
    CRL_DATA_MMLU_PRO,
    CRL_DATA_GPQA,
    CRL_DATA_GSM8K,
    CRL_DATA_MGSM,
    CRL_DATA_MATH,
    CRL_DATA_MBPP,
    CRL_DATA_TYDIQA,
    CRL_DATA_CHARTQA,
    CRL_DATA_DOCVQA,
    CRL_DATA_MMMU,
    CRL_DATA_MATHVISTA,
    CRL_DATA_COUNT
};
const char *crl_data_name(enum crl_data_format f); /* "auto", "generic", "mmlu", "mmlu-pro", ... */
bool crl_data_parse(enum crl_data_format *out, const char *name);

/* Texts are UTF-8 and zero-terminated; what a data set does not have is NULL or none. */
struct crl_question {
    char *id;      /* the data set's own, else the number of the row; never NULL */
    char *group;   /* subject, task, language */
    char *text;    /* the question; never NULL */
    char *context; /* what it is about: a passage */
    char **choice; /* [n_choice] options */
    size_t n_choice;
    int right;   /* index of the right option, -1: none is known */
    char **gold; /* [n_gold] accepted answers; of a question with options the right option's letter */
    size_t n_gold;
    char *solution; /* an answer written out, for examples in prompts: reasoning, code */
    char *tests;    /* code that a program must pass, lines of assertions */
    char *setup;    /* code that goes before the tests */
    char **image;   /* [n_image] paths as the file gives them, until crl_questions_find_images */
    size_t n_image;
    size_t line; /* where the row began, from 1; of a JSON document the number of the item */
};

struct crl_questions {
    enum crl_data_format format; /* what was read, never AUTO */
    uint64_t hash;               /* of the file's bytes */
    struct crl_question *v;      /* [n] */
    size_t n, cap;
};

/* Read a file with at least one row. */
enum crl_status crl_questions_read(struct crl_questions **out, const char *path, enum crl_data_format format,
                                   struct crl_err *err);
void crl_questions_free(struct crl_questions *q);

/* Make the paths of images those of files: relative ones lie in `folder`, NULL: in the folder of `path`, the file that
 * was read. */
enum crl_status crl_questions_find_images(struct crl_questions *q, const char *path, const char *folder,
                                          struct crl_err *err);

/* Give questions without options the lettered lines that stand in their text ("A. wolf\nB. stone\n..."), when
 * the accepted answer is one of these letters; text then ends before the first of them. */
enum crl_status crl_questions_split_choices(struct crl_questions *q, struct crl_err *err);

/* Keep only questions whose group matches a glob, then at most `most` of them (0: all): every k-th, so that
 * all parts of the file are there. */
enum crl_status crl_questions_select(struct crl_questions *q, const char *glob, size_t most,
                                     struct crl_err *err);

#endif
