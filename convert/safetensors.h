/* safetensors.h - one safetensors file, its header read and checked.
 *
 * Opening checks the whole header once: its length (at most CRL_ST_HEADER_MAX), that keys are unique, that
 * every entry's byte count is its shape times its type, and that the entries cover the data exactly, without
 * overlap or hole. Afterwards every tensor lies inside the file; its bytes are read by position. Types of the
 * format which this program does not read are kept by name: they are an error only for who uses them. Data
 * may lie at any alignment.
 *
 *   offset 0      u64 little-endian N
 *   offset 8      N bytes of JSON: name -> {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__"
 * -> strings offset 8 + N  the data that the offsets count from */
#ifndef CRL_CONVERT_SAFETENSORS_H
#define CRL_CONVERT_SAFETENSORS_H

#include "base/file.h"

#include <stddef.h>
#include <stdint.h>

#define CRL_ST_HEADER_MAX 100000000u /* bytes of JSON */
#define CRL_ST_DIMS 8                /* dimensions kept; a tensor may have more, then n_dim says so */

/* Types whose values can be read; CRL_ST_OTHER stands for all the rest. */
enum crl_st_type {
    CRL_ST_OTHER = 0,
    CRL_ST_BF16,
    CRL_ST_F16,
    CRL_ST_F32,
    CRL_ST_F8_E4M3,
    CRL_ST_I8,  /* codes with a scale */
    CRL_ST_I32, /* words of packed weights */
    CRL_ST_I64, /* shapes beside them */
    CRL_ST_END
};

struct crl_st_tensor {
    const char *name;
    char type_name[16]; /* as written in the file, cut to fit */
    enum crl_st_type type;
    size_t n_dim;
    uint64_t dim[CRL_ST_DIMS];
    const unsigned char *data; /* after crl_st_parse only; NULL when there are no bytes */
    uint64_t bytes;
    uint64_t offset; /* of the data, from the start of the file */
};

struct crl_st;

/* Open and check `path`. CRL_EFORMAT names the file and the entry. A pointer file left by Git LFS or Xet in
 * place of the weights is recognised and called so. */
enum crl_status crl_st_open(struct crl_st **st, const char *path, struct crl_err *err);
void crl_st_close(struct crl_st *st);

/* The same for bytes in memory, which must outlive the object; `what` names them in messages. */
enum crl_status crl_st_parse(struct crl_st **st, const void *data, uint64_t size, const char *what,
                             struct crl_err *err);

const char *crl_st_path(const struct crl_st *st);
const struct crl_in *crl_st_in(const struct crl_st *st); /* NULL after crl_st_parse */
/* Hash of the header: the same tensors at the same places. */
uint64_t crl_st_header_hash(const struct crl_st *st);

/* Files that stand where weights should be (pointers of Git LFS or Xet, web pages), by their first bytes:
 * what it is for a message, or NULL. */
const char *crl_st_impostor(const void *start, size_t len);

/* Tensors by rising offset; the pointers live as long as the object. */
size_t crl_st_count(const struct crl_st *st);
const struct crl_st_tensor *crl_st_at(const struct crl_st *st, size_t i);
/* NULL when there is none of that name. */
const struct crl_st_tensor *crl_st_find(const struct crl_st *st, const char *name);

/* Bytes per value, 0 for CRL_ST_OTHER. */
size_t crl_st_type_bytes(enum crl_st_type type);

/* "[2, 3]" for messages; at most `size` bytes with the final zero. Returns `text`. */
char *crl_st_shape_text(char *text, size_t size, size_t n_dim, const uint64_t *dim);
#define CRL_ST_SHAPE_TEXT 200

#endif
