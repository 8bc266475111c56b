/* calib.h - statistics of a model's activations, for packing its weights with less harm: the file that `corral
 * calibrate` writes and `corral convert --calibration` reads. docs/format-stats.md specifies it.
 *
 * For the inputs of every matrix that can be quantised the file holds sums of squares per input, and sums of products of
 * inputs that lie in the same span. The experts of a layer have their own sums of squares and counts, but share their
 * products: an expert that saw few tokens has no reliable ones. Matrices that read the same rows share a record.
 *
 * The order and size of the records follow from configuration and span (a layout); a file has no freedom. */
#ifndef CRL_STORE_CALIB_H
#define CRL_STORE_CALIB_H

#include "store/schema.h"

#define CRL_CALIB_SPAN_MAX 256 /* inputs; a span is 0 or a multiple of 32 up to this */
#define CRL_CALIB_SPAN_DEFAULT 128

/* What is known about the inputs of a matrix. q stands for q, k and v. */
struct crl_calib_record {
    enum crl_kind kind;
    int32_t layer;   /* -1: the head */
    int32_t expert;  /* -1: no routed expert, or all of the layer together */
    uint32_t k;
    bool sums;       /* a count of rows, then f32 [k] */
    bool products;   /* f32, for every span the products of inputs j < i, by rising i, then j */
    uint64_t offset; /* in the file, a multiple of 8 */
};

struct crl_calib_layout {
    uint32_t span;
    size_t n;
    struct crl_calib_record *record; /* [n] */
    uint32_t *layer_first;           /* [n_layer] index of the layer's first record */
    uint32_t n_layer;
    uint64_t bytes; /* of the file */
};

/* CRL_ERANGE for a span that is none. */
enum crl_status crl_calib_layout_new(struct crl_calib_layout **out, const struct crl_config *cfg, uint32_t span,
                                     struct crl_err *err);
void crl_calib_layout_free(struct crl_calib_layout *l);

/* Record of the inputs of a matrix; expert -1 with an expert's kind: the products of the layer's experts together.
 * CRL_NO_WEIGHT when there is none. */
size_t crl_calib_find(const struct crl_calib_layout *l, enum crl_kind kind, int32_t layer, int32_t expert);

/* Products in spans of at most `span` of k inputs. */
uint64_t crl_calib_n_product(uint32_t k, uint32_t span);

/* Which model: a hash of the configuration and of all norm weights, which every recipe keeps as they are. `norm` puts
 * the k values of one such matrix. */
typedef enum crl_status crl_calib_norm_fn(void *ctx, size_t weight, float *out, struct crl_err *err);
enum crl_status crl_calib_model_id(uint64_t *id, const struct crl_schema *s, crl_calib_norm_fn *norm, void *ctx,
                                   struct crl_err *err);

/* --- reading ------------------------------------------------------------------------------------------------- */

struct crl_calib;

/* Everything is checked: the file against its hash, its model against `id`, every number. A count of 0 comes with
 * sums of 0. CRL_EDIFFER when it was made with another model. */
enum crl_status crl_calib_open(struct crl_calib **out, const char *path, const struct crl_config *cfg, uint64_t id,
                               struct crl_err *err);
/* The same over memory that the caller keeps; `name` stands for the path in messages. */
enum crl_status crl_calib_open_mem(struct crl_calib **out, const void *data, uint64_t size, const char *name,
                                   const struct crl_config *cfg, uint64_t id, struct crl_err *err);
void crl_calib_close(struct crl_calib *c);

const struct crl_calib_layout *crl_calib_layout_of(const struct crl_calib *c);
uint64_t crl_calib_hash(const struct crl_calib *c); /* of the file */
uint64_t crl_calib_tokens(const struct crl_calib *c);

/* Rows seen, and sums of squares into out[k]; the record has sums. */
uint64_t crl_calib_count(const struct crl_calib *c, size_t record);
void crl_calib_sums(const struct crl_calib *c, size_t record, float *out);
/* Products of the span that begins at input `first`: out[i * (i - 1) / 2 + j] for j < i < inputs of the span. */
void crl_calib_products(const struct crl_calib *c, size_t record, uint32_t first, float *out);

/* --- writing ------------------------------------------------------------------------------------------------- */

/* image: the file in memory, l->bytes long, 64-byte aligned, with counts (uint64_t) and floats of this machine at their
 * offsets and zeros elsewhere. It is turned into the file's bytes and written. */
#define CRL_CALIB_COUNT_BYTES 8 /* before the sums of a record that has sums */
enum crl_status crl_calib_write(const char *path, const struct crl_calib_layout *l, unsigned char *image,
                                uint64_t tokens, uint64_t id, struct crl_err *err);

#endif
