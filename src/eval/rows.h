/* rows.h - the rows of a data file as JSON objects, whatever the file is written in. */
#ifndef CRL_EVAL_ROWS_H
#define CRL_EVAL_ROWS_H

#include "base/json.h"

#include <stdint.h>

struct crl_data_row {
    json_t *fields; /* an object */
    size_t line;    /* where it began, from 1; in a JSON document the number of the item */
};

struct crl_data_rows {
    bool document; /* one JSON document: rows have numbers, not lines */
    uint64_t hash; /* of the file's bytes */
    struct crl_data_row *v;
    size_t n, cap;
};

/* Names of the columns of files without a header: NULL reads the first row as the header. The fields of CSV
 * and TSV are all strings. A document may be a list of objects, an object with such a list under "data",
 * SQuAD's nesting (data, paragraphs, qas: the rows are the qas with the paragraph's context), an object of
 * objects, or one object. */
enum crl_status crl_rows_read(struct crl_data_rows *out, const char *path, const char *const *columns,
                              struct crl_err *err);
void crl_rows_fini(struct crl_data_rows *rows);

/* Split the first record of CSV or TSV text: how many fields it has, and the last one in fresh memory
 * (crl_free). For telling files without a header. */
enum crl_status crl_rows_peek(const char *path, size_t *n_field, char **first, char **last,
                              struct crl_err *err);

#endif
