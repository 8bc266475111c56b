/* reference.h - the file of a reference run (.crr): the texts as ids, and for every scored token a compact distribution
 * (eval/compact.h) with the experts that were chosen. docs/format-reference.md specifies it.
 *
 * Reading checks everything: hashes, every count and size, every record; afterwards any row is at hand. Nothing is
 * allocated that the size of the file does not justify. The bytes of a file depend on model, text and parameters alone. */
#ifndef CRL_EVAL_REFERENCE_H
#define CRL_EVAL_REFERENCE_H

#include "eval/compact.h"
#include "eval/text.h"

#define CRL_REFERENCE_HEADER 160 /* bytes */
#define CRL_REFERENCE_RECIPE 16  /* bytes, the zero included */

/* What the header says besides sizes. */
struct crl_reference_head {
    uint64_t config_hash, tokenizer_hash, weights_hash, data_hash;
    struct crl_compact_params params;
    uint32_t n_moe, n_used; /* params.n_route = n_moe * n_used */
    int32_t bos;
    uint32_t window, stride;
    char recipe[CRL_REFERENCE_RECIPE];
};

/* --- reading ----------------------------------------------------------------------------------------------------- */

struct crl_reference;

enum crl_status crl_reference_open(struct crl_reference **out, const char *path, struct crl_err *err);
/* The same over memory that the caller keeps until close. `name` stands for the path in messages. */
enum crl_status crl_reference_open_mem(struct crl_reference **out, const void *data, uint64_t size, const char *name,
                                       struct crl_err *err);
void crl_reference_close(struct crl_reference *r);

const struct crl_reference_head *crl_reference_head(const struct crl_reference *r);
uint64_t crl_reference_size(const struct crl_reference *r); /* bytes */
size_t crl_reference_rows(const struct crl_reference *r);
void crl_reference_row(const struct crl_reference *r, size_t row, struct crl_compact *c);

/* A copy of the texts, sealed. */
enum crl_status crl_reference_corpus(const struct crl_reference *r, struct crl_corpus *c, struct crl_err *err);

/* CRL_ERANGE when the engine's model has another configuration or tokenizer than the one the reference was made with. */
enum crl_status crl_reference_match(const struct crl_reference *r, const struct crl_engine *engine,
                                    struct crl_err *err);

/* --- writing ----------------------------------------------------------------------------------------------------- */

struct crl_reference_writer;

/* The file appears at `path` on commit. The head is copied, the text written at once. */
enum crl_status crl_reference_create(struct crl_reference_writer **out, const char *path,
                                     const struct crl_reference_head *head, const struct crl_text *text,
                                     struct crl_err *err);
/* Append the records of n_row rows. */
enum crl_status crl_reference_append(struct crl_reference_writer *w, const void *records, size_t bytes, size_t n_row,
                                     struct crl_err *err);
/* CRL_ERANGE when rows are missing. */
enum crl_status crl_reference_commit(struct crl_reference_writer *w, uint64_t *bytes, struct crl_err *err);
void crl_reference_abandon(struct crl_reference_writer *w); /* also after commit; accepts NULL */

/* --- evaluating -------------------------------------------------------------------------------------------------- */

struct crl_reference_options {
    struct crl_text_options text;
    const char *output;
    double bound;    /* of the error of a divergence taken from the coarse distribution, nats; 0: CRL_REFERENCE_BOUND */
    uint32_t k_max;  /* 0: CRL_REFERENCE_K */
    uint32_t n_draw; /* draws per position, at most 255 */
};

#define CRL_REFERENCE_BOUND 5e-4
#define CRL_REFERENCE_K 1024
#define CRL_REFERENCE_DRAWS 16

/* Run the model over the text and write its reference. Metrics: nll, perplexity, bits_per_byte, and about the file:
 * kept.mean, tail.mean, bound.mean, capped, bytes, bytes.share (of float32 logits). */
enum crl_status crl_eval_reference(struct crl_result **out, struct crl_engine *engine,
                                   const struct crl_reference_options *o, struct crl_err *err);

#endif
