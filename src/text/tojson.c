/* tojson.c - Python's spelling of JSON. */
#include "text/tojson.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum crl_status crl_tojson_string(struct crl_str *out, const char *s, size_t len, struct crl_err *err)
{
    static const char plain[] = "\"\\\n\r\t\b\f", letter[] = "\"\\nrtbf";
    enum crl_status st = crl_str_puts(out, "\"", err);
    size_t from = 0, i;

    for (i = 0; i < len && !st; i++) {
        const char *known = s[i] ? strchr(plain, s[i]) : NULL;
        char esc[8];

        if (!known && (unsigned char)s[i] >= 0x20) continue;
        if (known) snprintf(esc, sizeof esc, "\\%c", letter[known - plain]);
        else snprintf(esc, sizeof esc, "\\u%04x", (unsigned)(unsigned char)s[i]);
        st = crl_str_add(out, s + from, i - from, err);
        if (!st) st = crl_str_puts(out, esc, err);
        from = i + 1;
    }
    if (!st) st = crl_str_add(out, s + from, len - from, err);
    return st ? st : crl_str_puts(out, "\"", err);
}

/* repr(float): the fewest digits that read back equal; an exponent below 1e-4 and from 1e16 on. */
static enum crl_status put_real(struct crl_str *out, double v, struct crl_err *err)
{
    char sci[40], digits[20], text[64];
    int prec, exp, n, i, w = 0;
    const char *p;

    for (prec = 0; prec < 17; prec++) {
        snprintf(sci, sizeof sci, "%.*e", prec, v);
        if (strtod(sci, NULL) == v) break;
    }
    exp = atoi(strchr(sci, 'e') + 1);
    for (p = sci, n = 0; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0') n--;
    if (*sci == '-') text[w++] = '-';
    if (exp < -4 || exp >= 16) {
        text[w++] = digits[0];
        if (n > 1) text[w++] = '.';
        for (i = 1; i < n; i++) text[w++] = digits[i];
        snprintf(text + w, sizeof text - (size_t)w, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
    } else {
        for (i = exp < 0 ? exp : 0; i < n || i <= exp + 1; i++) {
            if (i == exp + 1 && i > 0) text[w++] = '.';
            if (i < 0) {
                text[w++] = '0';
                if (i == exp) text[w++] = '.';
            } else {
                text[w++] = i < n ? digits[i] : '0';
            }
        }
        text[w] = '\0';
    }
    return crl_str_puts(out, text, err);
}

static enum crl_status put_break(struct crl_str *out, unsigned indent, unsigned depth, struct crl_err *err)
{
    enum crl_status st = indent ? crl_str_puts(out, "\n", err) : CRL_OK;
    unsigned i;

    for (i = 0; i < indent * depth && !st; i++) st = crl_str_puts(out, " ", err);
    return st;
}

static enum crl_status put_value(struct crl_str *out, const json_t *v, unsigned indent, unsigned depth,
                                 struct crl_err *err);

static enum crl_status put_array(struct crl_str *out, const json_t *v, unsigned indent, unsigned depth,
                                 struct crl_err *err)
{
    enum crl_status st = crl_str_puts(out, "[", err);
    size_t n = json_array_size(v), i;

    for (i = 0; i < n && !st; i++) {
        if (i) st = crl_str_puts(out, indent ? "," : ", ", err);
        if (!st) st = put_break(out, indent, depth + 1, err);
        if (!st) st = put_value(out, json_array_get(v, i), indent, depth + 1, err);
    }
    if (!st && n) st = put_break(out, indent, depth, err);
    return st ? st : crl_str_puts(out, "]", err);
}

static enum crl_status put_object(struct crl_str *out, const json_t *v, unsigned indent, unsigned depth,
                                  struct crl_err *err)
{
    json_t *obj = (json_t *)(uintptr_t)v, *member; /* jansson iterates non-const objects only */
    enum crl_status st = crl_str_puts(out, "{", err);
    bool first = true;
    const char *key;

    json_object_foreach(obj, key, member)
    {
        if (!st && !first) st = crl_str_puts(out, indent ? "," : ", ", err);
        first = false;
        if (!st) st = put_break(out, indent, depth + 1, err);
        if (!st) st = crl_tojson_string(out, key, strlen(key), err);
        if (!st) st = crl_str_puts(out, ": ", err);
        if (!st) st = put_value(out, member, indent, depth + 1, err);
        if (st) return st;
    }
    if (!st && !first) st = put_break(out, indent, depth, err);
    return st ? st : crl_str_puts(out, "}", err);
}

static enum crl_status put_value(struct crl_str *out, const json_t *v, unsigned indent, unsigned depth,
                                 struct crl_err *err)
{
    char number[32];

    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return put_object(out, v, indent, depth, err);
    case JSON_ARRAY:
        return put_array(out, v, indent, depth, err);
    case JSON_STRING:
        return crl_tojson_string(out, json_string_value(v), json_string_length(v), err);
    case JSON_REAL:
        return put_real(out, json_real_value(v), err);
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        return crl_str_puts(out, number, err);
    case JSON_TRUE:
        return crl_str_puts(out, "true", err);
    case JSON_FALSE:
        return crl_str_puts(out, "false", err);
    default:
        return crl_str_puts(out, "null", err);
    }
}

enum crl_status crl_tojson(struct crl_str *out, const json_t *doc, unsigned indent, struct crl_err *err)
{
    return put_value(out, doc, indent, 0, err);
}
