/* Property: whatever config.json or generation_config.json says, the reader returns a status; what it accepts
 * passes crl_config_check, and survives the way through its canonical text. */
#include "base/mem.h"
#include "convert/hfconfig.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crl_config c, again;
    struct crl_notes notes = { 0 };
    struct crl_err err = { "" };
    char *text, quant[32];
    bool vision;

    if (crl_hfconfig_parse(&c, (const char *)data, size, "fuzz", quant, &notes, &err)) {
        if (!err.text[0]) abort();
        return 0;
    }
    if (memchr(quant, 0, sizeof quant) == NULL) abort();
    err.text[0] = 0;
    if (crl_hfgeneration_parse(&c, (const char *)data, size, "fuzz", &err) && !err.text[0]) abort();
    if (crl_config_check(&c, NULL)) abort();
    err.text[0] = 0;
    if (crl_hfconfig_vision(&c, (const char *)data, size, "fuzz", &vision, &err) && !err.text[0]) abort();
    if (crl_config_check(&c, NULL)) abort();
    text = crl_config_to_json(&c);
    if (!text || crl_config_from_json(&again, text, strlen(text), NULL)) abort();
    if (memcmp(&c.eos, &again.eos, sizeof c.eos[0] * c.n_eos) || c.rope_theta != again.rope_theta ||
        memcmp(&c.vision, &again.vision, sizeof c.vision))
        abort();
    crl_free(text);
    return 0;
}
