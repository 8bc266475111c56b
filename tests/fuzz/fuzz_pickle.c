/* Property: whatever the bytes are, the pickle reader returns a status, and what it accepts is a table of differently
 * named tensors; nothing is executed, so there is nothing else it could do. */
#include "convert/pickle.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crl_pickle *p;
    struct crl_err err = { "" };

    if (crl_pickle_parse(&p, data, size, "fuzz", &err)) {
        if (!err.text[0] || p) abort();
        return 0;
    }
    for (size_t i = 0; i < crl_pickle_count(p); i++) {
        const struct crl_pickle_tensor *t = crl_pickle_at(p, i);
        if (t->n_dim > CRL_ST_DIMS || strlen(t->storage) > 64) abort();
        for (size_t j = 0; j < i; j++)
            if (strcmp(crl_pickle_at(p, j)->name, t->name) == 0) abort();
    }
    crl_pickle_free(p);
    return 0;
}
