/* suite.h - a list of evaluations in a JSON file (docs/eval.md, "Suites"), read and run one by one. */
#ifndef CRL_EVAL_SUITE_H
#define CRL_EVAL_SUITE_H

#include "eval/result.h"
#include "run/engine.h"

#define CRL_SUITE_ENTRIES_MAX 1000
#define CRL_SUITE_GATES_MAX 100

struct crl_suite_entry {
    const char *name, *kind; /* of the specification */
    const json_t *spec;      /* its members, checked */
    double max_seconds;      /* 0: no limit */
};

struct crl_suite {
    json_t *doc;
    char *folder;                  /* of the file: paths are relative to it */
    const char *name;              /* "suite" when the file gives none */
    uint64_t hash;                 /* of the specification, not of its layout */
    struct crl_suite_entry *entry; /* [n_entry] */
    size_t n_entry;
    const char *gate[CRL_SUITE_GATES_MAX]; /* conditions of the file */
    size_t n_gate;
};

/* Everything the file says is checked: kinds, members and their types, names, conditions. */
enum crl_status crl_suite_read(struct crl_suite **out, const char *path, struct crl_err *err);
void crl_suite_free(struct crl_suite *s);

/* Hash of an entry and of the bytes of the files that it reads: equal for equal work. */
enum crl_status crl_suite_spec_hash(const struct crl_suite *s, const struct crl_suite_entry *e,
                                    uint64_t *hash, struct crl_err *err);

struct crl_suite_options {
    bool chat;           /* how a model is asked that the entry does not say it of */
    const char *sandbox; /* for generated programs; NULL: they are not executed */
    bool (*progress)(void *ctx, size_t done, size_t total); /* false stops (CRL_EINTR). May be NULL */
    void *progress_ctx;
};

/* CRL_EFULL: it took longer than max_seconds. */
enum crl_status crl_suite_run(struct crl_result **out, const struct crl_suite *s,
                              const struct crl_suite_entry *e, struct crl_engine *engine,
                              const struct crl_suite_options *o, struct crl_err *err);

#endif
