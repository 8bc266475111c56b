/* json.c - parsing and checked look-up through jansson. */
#include "base/json.h"

#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

enum crl_status crl_json_parse(json_t **out, const char *text, size_t len, const char *what, struct crl_err *err)
{
    json_error_t je;

    *out = NULL;
    if (len > CRL_JSON_MAX)
        return crl_fail(err, CRL_ERANGE, "%s: %zu bytes of JSON, at most %zu are accepted", what, len, CRL_JSON_MAX);
    *out = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
    if (*out) return CRL_OK;
    return crl_fail(err, CRL_EFORMAT, "%s: line %d, column %d: %s", what, je.line, je.column, je.text);
}

enum crl_status crl_json_read(json_t **out, const char *path, struct crl_err *err)
{
    char *text;
    size_t len;
    enum crl_status st;

    *out = NULL;
    st = crl_file_read(&text, &len, path, CRL_JSON_MAX, err);
    if (st) return st;
    st = crl_json_parse(out, text, len, path, err);
    crl_free(text);
    return st;
}

static const json_t *look(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_null(v) ? NULL : v;
}

enum crl_status crl_json_get_u32(const json_t *obj, const char *key, uint32_t lo, uint32_t hi, uint32_t *out,
                                 struct crl_err *err)
{
    const json_t *v = look(obj, key);
    json_int_t i;

    if (!v) return CRL_OK;
    if (!json_is_integer(v)) return crl_fail(err, CRL_EFORMAT, "%s is not an integer", key);
    i = json_integer_value(v);
    if (i < (json_int_t)lo || i > (json_int_t)hi)
        return crl_fail(err, CRL_EFORMAT, "%s is %lld, outside %u to %u", key, (long long)i, lo, hi);
    *out = (uint32_t)i;
    return CRL_OK;
}

enum crl_status crl_json_get_f64(const json_t *obj, const char *key, double lo, double hi, double *out,
                                 struct crl_err *err)
{
    const json_t *v = look(obj, key);
    double d;

    if (!v) return CRL_OK;
    if (!json_is_number(v)) return crl_fail(err, CRL_EFORMAT, "%s is not a number", key);
    d = json_number_value(v);
    if (!(d >= lo && d <= hi)) return crl_fail(err, CRL_EFORMAT, "%s is %g, outside %g to %g", key, d, lo, hi);
    *out = d;
    return CRL_OK;
}

enum crl_status crl_json_get_bool(const json_t *obj, const char *key, bool *out, struct crl_err *err)
{
    const json_t *v = look(obj, key);

    if (!v) return CRL_OK;
    if (json_is_integer(v)) *out = json_integer_value(v) != 0; /* early files store attn_temperature_tuning as 4 */
    else if (json_is_boolean(v)) *out = json_is_true(v);
    else return crl_fail(err, CRL_EFORMAT, "%s is neither true nor false", key);
    return CRL_OK;
}

enum crl_status crl_json_get_str(const json_t *obj, const char *key, const char **out, struct crl_err *err)
{
    const json_t *v = look(obj, key);

    if (!v) return CRL_OK;
    if (!json_is_string(v)) return crl_fail(err, CRL_EFORMAT, "%s is not a string", key);
    *out = json_string_value(v);
    return CRL_OK;
}

char *crl_json_text(const json_t *doc)
{
    char *text = json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY), *copy;

    if (!text) return NULL;
    copy = crl_strdup(text); /* jansson's memory has jansson's owner */
    free(text);
    return copy;
}
