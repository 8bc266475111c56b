/* hfconfig.h - config.json and generation_config.json of a Hugging Face checkpoint, in all the spellings in
 * circulation, brought to one struct crl_config.
 *
 * Spellings: text fields at the top level or in text_config; rope_scaling beside rope_theta, or
 * rope_parameters; `type` for `rope_type`; attn_temperature_tuning as a number; lists absent, null or empty.
 * Absent keys have the values that the library which wrote the file gives them, not those of the released
 * models. docs/model.md, "Configuration". */
#ifndef CRL_CONVERT_HFCONFIG_H
#define CRL_CONVERT_HFCONFIG_H

#include "base/status.h"
#include "store/config.h"

/* Things worth telling the user that are no errors. Full: later ones are dropped. */
struct crl_notes {
    unsigned n;
    char text[16][240];
};

void crl_note(struct crl_notes *notes, const char *fmt, ...) CRL_PRINTF(2, 3);

/* Parse the text of config.json; `what` names it in messages. The result has passed crl_config_check.
 * cfg->multimodal is false: crl_hfconfig_vision is for those who found a tower's weights; cfg->tied is what the file
 * says. quant: name of the
 * quantisation method the file declares, "" for none (may be NULL; else 32 bytes). */
enum crl_status crl_hfconfig_parse(struct crl_config *cfg, const char *text, size_t len, const char *what,
                                   char quant[32], struct crl_notes *notes, struct crl_err *err);

/* Fill cfg->vision from vision_config and set cfg->multimodal. *found: false when the file has no vision_config, and
 * nothing is changed. CRL_EUNSUPPORTED or CRL_EFORMAT for a tower that this program does not compute. */
enum crl_status crl_hfconfig_vision(struct crl_config *cfg, const char *text, size_t len, const char *what, bool *found,
                                    struct crl_err *err);

/* Let the bos, pad and eos ids of generation_config.json stand in place of those of config.json, as
 * generation does. */
enum crl_status crl_hfgeneration_parse(struct crl_config *cfg, const char *text, size_t len, const char *what,
                                       struct crl_err *err);

#endif
