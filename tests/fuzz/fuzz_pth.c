/* Property: whatever the bytes are, the reader of torch archives returns a status; when it accepts them, every tensor
 * lies inside them, names differ, and none has more bytes than its shape and type say. */
#include "convert/pth.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crl_pth *pth;
    struct crl_err err = { "" };

    if (crl_pth_parse(&pth, data, size, "fuzz", &err)) {
        if (!err.text[0] || pth) abort();
        return 0;
    }
    for (size_t i = 0; i < crl_pth_count(pth); i++) {
        const struct crl_st_tensor *t = crl_pth_at(pth, i);
        uint64_t n = crl_st_type_bytes(t->type) ? crl_st_type_bytes(t->type) : 1;
        if (t->offset > size || t->bytes > size - t->offset || t->n_dim > CRL_ST_DIMS) abort();
        for (size_t d = 0; d < t->n_dim; d++) n *= t->dim[d];
        if (n != t->bytes) abort();
        for (size_t j = 0; j < i; j++)
            if (strcmp(crl_pth_at(pth, j)->name, t->name) == 0) abort();
    }
    crl_pth_close(pth);
    return 0;
}
