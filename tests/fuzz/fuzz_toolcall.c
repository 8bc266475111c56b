/* fuzz_toolcall.c - a reply is plain text, or a list of calls that printed as JSON reads back as itself. */
#include "text/toolcall.h"
#include "text/tojson.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crl_str text = { NULL, 0, 0 };
    json_t *calls, *again;
    size_t i;

    must(!crl_toolcall_parse(&calls, (const char *)data, size, NULL));
    if (!calls) return 0;
    must(json_array_size(calls) > 0);
    for (i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);

        must(json_is_string(json_object_get(call, "name")) &&
             json_is_object(json_object_get(call, "arguments")));
        must(!crl_tojson(&text, call, 0, NULL));
    }
    must(!crl_toolcall_parse(&again, text.s, text.len, NULL));
    must(json_equal(calls, again));
    json_decref(calls);
    json_decref(again);
    crl_str_fini(&text);
    return 0;
}
