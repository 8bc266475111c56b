/* tojson.h - JSON text as Python's json.dumps(ensure_ascii=False) writes it, which is what chat templates
 * print: separators ", " and ": ", keys in their order, floats in the shortest form that reads back equal. */
#ifndef CRL_TEXT_TOJSON_H
#define CRL_TEXT_TOJSON_H

#include "base/json.h"
#include "text/str.h"

/* Append doc. indent 0: one line; otherwise each member on a line of its own, indented by that many blanks. */
enum crl_status crl_tojson(struct crl_str *out, const json_t *doc, unsigned indent, struct crl_err *err);

/* Append the bytes as a JSON string with its quotes. They must be UTF-8. */
enum crl_status crl_tojson_string(struct crl_str *out, const char *s, size_t len, struct crl_err *err);

#endif
