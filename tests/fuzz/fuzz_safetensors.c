/* Property: whatever the bytes are, the reader returns a status; when it accepts them, every tensor's bytes
 * lie inside them and together they cover the data exactly. */
#include "convert/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crl_st *st;
    struct crl_err err = { "" };
    uint64_t sum = 0;
    volatile unsigned char last = 0;

    if (crl_st_parse(&st, data, size, "fuzz", &err)) {
        if (!err.text[0] || st) abort();
        return 0;
    }
    for (size_t i = 0; i < crl_st_count(st); i++) {
        const struct crl_st_tensor *t = crl_st_at(st, i);
        if (t->bytes && (t->data < data || t->bytes > size || t->data + t->bytes > data + size)) abort();
        if (t->bytes) last = t->data[t->bytes - 1];
        if (crl_st_find(st, t->name) != t) abort();
        sum += t->bytes;
    }
    (void)last;
    if (crl_st_count(st) && sum > size) abort();
    crl_st_close(st);
    return 0;
}
