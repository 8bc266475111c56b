/* corpus.h - the texts of an evaluation as token ids, and the windows in which a model sees them.
 *
 * A file is plain text (one document) or, when its name ends in .jsonl, a JSON object per line: the member "text" (or
 * another name) is a document, or the member "ids" is one as a list of token ids. Control tokens written in a text stay
 * plain text.
 *
 * A long document is cut into windows of at most `window` positions that begin every `stride` tokens. Each window
 * starts afresh with the begin-of-text token, when there is one, so that every token of a document is predicted; without
 * one (and for documents given as ids, which are fed as they are) the first token of a document only serves as context.
 * Where windows overlap a token is scored in the first window that holds it. So every token is scored exactly once. */
#ifndef CRL_EVAL_CORPUS_H
#define CRL_EVAL_CORPUS_H

#include "run/engine.h"

#define CRL_CORPUS_DOC_MAX ((size_t)1 << 24)

struct crl_doc {
    size_t first;   /* of the corpus' ids */
    size_t n;       /* tokens, at least 1 */
    uint64_t bytes; /* of the text that is scored; 0 for ids whose text is not known */
};

struct crl_corpus {
    struct crl_ids ids;
    struct crl_doc *doc;
    size_t n_doc, cap_doc;
    int32_t bos;   /* begins every window; -1: none */
    uint64_t hash; /* XXH3 of the documents' lengths and ids and of bos: equal for equal work */
};

struct crl_corpus_options {
    const char *field; /* member of a JSON line; NULL: "text" */
    bool no_bos;       /* windows begin without the begin-of-text token */
    size_t limit;      /* take only so many documents; 0: all */
};

/* Read and tokenise. CRL_EFORMAT names line and field; CRL_ENOENT: a text, but the model has no tokenizer. */
enum crl_status crl_corpus_read(struct crl_corpus *c, const struct crl_engine *engine, const char *path,
                                const struct crl_corpus_options *options, struct crl_err *err);
/* The same from memory; `what` names it. jsonl: lines of JSON, else one text. */
enum crl_status crl_corpus_parse(struct crl_corpus *c, const struct crl_engine *engine, const char *text, size_t len,
                                 bool jsonl, const char *what, const struct crl_corpus_options *options,
                                 struct crl_err *err);
void crl_corpus_fini(struct crl_corpus *c);

/* The ids from `first` to the last one are a further document. */
enum crl_status crl_corpus_note(struct crl_corpus *c, size_t first, uint64_t bytes, struct crl_err *err);
/* Set the hash once all documents are there. */
enum crl_status crl_corpus_seal(struct crl_corpus *c, struct crl_err *err);

/* Positions [0, n) of a window hold bos (if any) and tokens from `first` on; the token after position j is scored for
 * j >= skip. */
struct crl_window {
    size_t doc;
    size_t first; /* token of the document */
    size_t n;     /* positions fed, at least 1 */
    size_t skip;  /* below n */
    size_t row;   /* number of the first scored token, counted over all windows */
};

struct crl_windows {
    struct crl_window *v;
    size_t n, cap;
    size_t n_row;   /* tokens scored */
    size_t n_fed;   /* positions in all */
    size_t longest; /* positions of the longest window */
};

#define CRL_WINDOW_DEFAULT 2048

/* 1 <= stride <= window. CRL_ERANGE when nothing can be scored. */
enum crl_status crl_windows_cut(struct crl_windows *w, const struct crl_corpus *c, size_t window, size_t stride,
                                struct crl_err *err);
void crl_windows_fini(struct crl_windows *w);

/* Put the n ids of a window to `out`, and the token scored at position j. */
void crl_window_ids(const struct crl_corpus *c, const struct crl_window *w, int32_t *out);
int32_t crl_window_target(const struct crl_corpus *c, const struct crl_window *w, size_t j);

#endif
