/* json.h - JSON documents from files and memory, with readers that name what they did not like. The door to jansson.
 *
 * Parsing rejects duplicate keys, limits the size of the text and the depth (jansson's own bound, 2048), and reports
 * line and column. Getters look a key up in an object: an absent or null key leaves *out alone and returns CRL_OK, a
 * value of the wrong type or outside [lo, hi] is CRL_EFORMAT with the key's name. */
#ifndef CRL_BASE_JSON_H
#define CRL_BASE_JSON_H

#include "base/status.h"

#include <jansson.h>
#include <stdint.h>

#define CRL_JSON_MAX ((size_t)256 << 20) /* bytes of text accepted by default */

/* `what` names the document in messages. The result is released with json_decref. */
enum crl_status crl_json_parse(json_t **out, const char *text, size_t len, const char *what, struct crl_err *err);
enum crl_status crl_json_read(json_t **out, const char *path, struct crl_err *err);

enum crl_status crl_json_get_u32(const json_t *obj, const char *key, uint32_t lo, uint32_t hi, uint32_t *out,
                                 struct crl_err *err);
enum crl_status crl_json_get_f64(const json_t *obj, const char *key, double lo, double hi, double *out,
                                 struct crl_err *err);
enum crl_status crl_json_get_bool(const json_t *obj, const char *key, bool *out, struct crl_err *err);
/* *out is borrowed from the document. */
enum crl_status crl_json_get_str(const json_t *obj, const char *key, const char **out, struct crl_err *err);

/* Compact text with the keys in the order of insertion, in fresh memory (crl_free); NULL on exhaustion. */
char *crl_json_text(const json_t *doc);

#endif
