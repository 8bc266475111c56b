/* toolcall.c - tolerant readers for the forms of a tool call; each takes the whole reply or gives up. */
#include "text/toolcall.h"

#include "text/str.h"
#include "text/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define DEPTH_MAX 64  /* of nested lists, dictionaries and parentheses */
#define NUMBER_MAX 64 /* characters of a number */

/* Reading stops at the first thing that does not fit; `ok` then stays false. */
struct cursor {
    const char *p, *end;
    unsigned depth;
    bool ok;
    bool no_memory;
};

static bool refuse(struct cursor *c)
{
    c->ok = false;
    return false;
}

static void skip_blanks(struct cursor *c)
{
    while (c->p < c->end && strchr(" \t\r\n", *c->p) && *c->p) c->p++;
}

static bool at(const struct cursor *c, char ch)
{
    return c->p < c->end && *c->p == ch;
}

static bool take(struct cursor *c, char ch)
{
    if (!at(c, ch)) return false;
    c->p++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0) return false;
    c->p += n;
    return true;
}

static bool is_name(char ch, bool first)
{
    unsigned char u = (unsigned char)ch;

    if ((u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || u == '_' || u >= 0x80) return true;
    return !first && ((u >= '0' && u <= '9') || u == '.' || u == '-');
}

/* A name with its dots; 0 when there is none. */
static size_t take_name(struct cursor *c, const char **name)
{
    *name = c->p;
    if (c->p < c->end && is_name(*c->p, true))
        while (c->p < c->end && is_name(*c->p, false)) c->p++;
    return (size_t)(c->p - *name);
}

/* ---- literals of Python; those of JSON are nearly all among them ---- */

static json_t *value(struct cursor *c);

static int hex(char ch)
{
    if (ch >= '0' && ch <= '9') return ch - '0';
    if (ch >= 'a' && ch <= 'f') return ch - 'a' + 10;
    return ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

static bool take_hex(struct cursor *c, int n, uint32_t *code)
{
    for (*code = 0; n > 0; n--, c->p++) {
        if (c->p == c->end || hex(*c->p) < 0) return refuse(c);
        *code = *code << 4 | (uint32_t)hex(*c->p);
    }
    return true;
}

static bool add(struct cursor *c, struct crl_str *out, const char *s, size_t n)
{
    if (!crl_str_add(out, s, n, NULL)) return true;
    c->no_memory = true;
    return refuse(c);
}

static bool add_code(struct cursor *c, struct crl_str *out, uint32_t code)
{
    unsigned char utf8[4];

    /* JSON spells characters beyond the first plane as a surrogate pair */
    if (code >= 0xd800 && code < 0xdc00 && take_word(c, "\\u")) {
        uint32_t low;

        if (!take_hex(c, 4, &low) || low < 0xdc00 || low > 0xdfff) return refuse(c);
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return refuse(c);
    return add(c, out, (const char *)utf8, crl_utf8_put(utf8, code));
}

/* After the backslash. */
static bool escape(struct cursor *c, struct crl_str *out)
{
    static const char from[] = "\\'\"abfnrtv/", to[] = "\\'\"\a\b\f\n\r\t\v/";
    const char *known;
    uint32_t code = 0;
    char ch;
    int n;

    if (c->p == c->end) return refuse(c);
    ch = *c->p++;
    if (ch == '\n') return true; /* the line goes on */
    if (ch == 'x') return take_hex(c, 2, &code) && add_code(c, out, code);
    if (ch == 'u') return take_hex(c, 4, &code) && add_code(c, out, code);
    if (ch == 'U') return take_hex(c, 8, &code) && add_code(c, out, code);
    if (ch >= '0' && ch <= '7') {
        code = (uint32_t)(ch - '0');
        for (n = 1; n < 3 && c->p < c->end && *c->p >= '0' && *c->p <= '7'; n++, c->p++)
            code = code << 3 | (uint32_t)(*c->p - '0');
        return add_code(c, out, code);
    }
    if (ch == 'N') return refuse(c); /* names of characters would need their table */
    known = ch ? strchr(from, ch) : NULL;
    if (known) return add(c, out, to + (known - from), 1);
    return add(c, out, (const char[]){ '\\', ch }, 2); /* Python keeps the backslash of unknown escapes */
}

/* One string literal, at its prefix or quote. Line ends are let through in all of them: models write them. */
static bool string_part(struct cursor *c, struct crl_str *out)
{
    bool raw = false, triple;
    char quote;

    if (at(c, 'r') || at(c, 'R')) raw = true;
    if (raw || at(c, 'u') || at(c, 'U')) c->p++;
    if (!at(c, '"') && !at(c, '\'')) return refuse(c);
    quote = *c->p++;
    triple = c->end - c->p >= 2 && c->p[0] == quote && c->p[1] == quote;
    if (triple) c->p += 2;
    for (;;) {
        const char *from = c->p;

        while (c->p < c->end && *c->p != quote && *c->p != '\\') c->p++;
        if (!add(c, out, from, (size_t)(c->p - from))) return false;
        if (c->p == c->end) return refuse(c);
        if (*c->p == quote) {
            if (!triple || (c->end - c->p >= 3 && c->p[1] == quote && c->p[2] == quote)) {
                c->p += triple ? 3 : 1;
                return true;
            }
            if (!add(c, out, c->p++, 1)) return false;
        } else if (raw) {
            if (c->end - c->p < 2) return refuse(c);
            if (!add(c, out, c->p, 2)) return false;
            c->p += 2;
        } else {
            c->p++;
            if (!escape(c, out)) return false;
        }
    }
}

static bool at_string(const struct cursor *c)
{
    const char *q = c->p;

    if (q < c->end && strchr("rRuU", *q) && *q) q++;
    return q < c->end && (*q == '"' || *q == '\'');
}

/* Neighbouring literals are one string. */
static json_t *string(struct cursor *c)
{
    struct crl_str s = { NULL, 0, 0 };
    json_t *v = NULL;

    do {
        if (!string_part(c, &s)) break;
        skip_blanks(c);
    } while (at_string(c));
    if (c->ok && crl_utf8_valid(s.s ? s.s : "", s.len)) {
        v = json_stringn(s.s ? s.s : "", s.len);
        c->no_memory |= v == NULL;
    }
    crl_str_fini(&s);
    c->ok &= v != NULL;
    return v;
}

static json_t *made(struct cursor *c, json_t *v)
{
    if (!v) {
        c->no_memory = true;
        c->ok = false;
    }
    return v;
}

/* A whole number in base 2, 8 or 16, after its prefix. */
static json_t *based(struct cursor *c, int base)
{
    uint64_t v = 0;
    int n = 0;

    for (; c->p < c->end && (hex(*c->p) >= 0 || *c->p == '_'); c->p++) {
        if (*c->p == '_') continue;
        if (hex(*c->p) >= base || v > ((uint64_t)INT64_MAX - 15) / (uint64_t)base) {
            refuse(c);
            return NULL;
        }
        v = v * (uint64_t)base + (uint64_t)hex(*c->p);
        n++;
    }
    if (n == 0) refuse(c);
    return n ? made(c, json_integer((json_int_t)v)) : NULL;
}

static json_t *number(struct cursor *c)
{
    char text[NUMBER_MAX + 1];
    bool real = false;
    size_t n = 0;
    char *stop;
    double d;

    if (c->end - c->p > 2 && *c->p == '0' && strchr("xXoObB", c->p[1]) && c->p[1]) {
        char kind = (char)(c->p[1] | 0x20);

        c->p += 2;
        return based(c, kind == 'x' ? 16 : kind == 'o' ? 8 : 2);
    }
    for (; c->p < c->end && n < NUMBER_MAX; c->p++) {
        char ch = *c->p;
        bool digit = ch >= '0' && ch <= '9',
             sign = (ch == '-' || ch == '+') && n && strchr("eE", text[n - 1]);

        if (ch == '_' && n && text[n - 1] >= '0' && text[n - 1] <= '9') continue;
        if (!digit && !sign && ch != '.' && ch != 'e' && ch != 'E') break;
        real |= !digit;
        text[n++] = ch;
    }
    text[n] = '\0';
    if (n == 0 || n == NUMBER_MAX || (n > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9')) {
        refuse(c);
        return NULL;
    }
    if (!real) {
        long long i;

        errno = 0;
        i = strtoll(text, NULL, 10);
        if (!errno) return made(c, json_integer(i));
    }
    d = strtod(text, &stop);
    if (*stop || !isfinite(d)) {
        refuse(c);
        return NULL;
    }
    return made(c, json_real(d));
}

static json_t *negative(struct cursor *c)
{
    json_t *v;
    bool minus = false;

    while (at(c, '-') || at(c, '+')) minus ^= *c->p++ == '-';
    v = number(c);
    if (!v || !minus) return v;
    if (json_is_integer(v)) json_integer_set(v, -json_integer_value(v));
    else json_real_set(v, -json_real_value(v));
    return v;
}

/* Members up to the closing bracket, of a list or tuple. A tuple of one needs its comma, else it is the
 * member. */
static json_t *list(struct cursor *c, char close)
{
    json_t *v = made(c, json_array()), *one;
    bool comma = false;

    while (c->ok) {
        skip_blanks(c);
        if (take(c, close)) break;
        if (json_array_size(v) && !comma) {
            refuse(c);
            break;
        }
        one = value(c);
        if (one && json_array_append_new(v, one)) made(c, NULL);
        skip_blanks(c);
        comma = take(c, ',');
    }
    if (c->ok && close == ')' && json_array_size(v) == 1 && !comma) {
        one = json_incref(json_array_get(v, 0));
        json_decref(v);
        return one;
    }
    if (!c->ok) {
        json_decref(v);
        return NULL;
    }
    return v;
}

static json_t *dictionary(struct cursor *c)
{
    json_t *v = made(c, json_object()), *one, *key = NULL;
    bool comma = true;

    while (c->ok) {
        skip_blanks(c);
        if (take(c, '}')) break;
        key = comma && at_string(c) ? string(c) : NULL;
        if (!key || memchr(json_string_value(key), 0, json_string_length(key)) || !take(c, ':')) refuse(c);
        one = c->ok ? value(c) : NULL;
        if (one && json_object_set_new(v, json_string_value(key), one)) made(c, NULL);
        json_decref(key);
        key = NULL;
        skip_blanks(c);
        comma = take(c, ',');
    }
    if (!c->ok) {
        json_decref(v);
        return NULL;
    }
    return v;
}

static json_t *constant(struct cursor *c)
{
    const char *name;
    size_t n = take_name(c, &name);

    if ((n == 4 && memcmp(name, "True", 4) == 0) || (n == 4 && memcmp(name, "true", 4) == 0))
        return json_true();
    if ((n == 5 && memcmp(name, "False", 5) == 0) || (n == 5 && memcmp(name, "false", 5) == 0))
        return json_false();
    if (n == 4 && (memcmp(name, "None", 4) == 0 || memcmp(name, "null", 4) == 0)) return json_null();
    refuse(c);
    return NULL;
}

static json_t *value(struct cursor *c)
{
    json_t *v;

    skip_blanks(c);
    if (c->p == c->end || c->depth == DEPTH_MAX) {
        refuse(c);
        return NULL;
    }
    if (at_string(c)) return string(c);
    if (strchr("+-.0123456789", *c->p) && *c->p) return negative(c);
    c->depth++;
    if (take(c, '[')) v = list(c, ']');
    else if (take(c, '(')) v = list(c, ')');
    else if (take(c, '{')) v = dictionary(c);
    else v = constant(c);
    c->depth--;
    return v;
}

/* ---- calls ---- */

/* Takes over `arguments`. A JSON text stands for the object it holds. */
static bool add_call(struct cursor *c, json_t *calls, const char *name, size_t len, json_t *arguments)
{
    json_t *one, *v;
    size_t i;

    for (i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20) len = 0; /* no tool is called that */
    if (json_is_string(arguments)) {
        v = json_loadb(json_string_value(arguments), json_string_length(arguments), JSON_ALLOW_NUL, NULL);
        json_decref(arguments);
        arguments = v;
    }
    if (len == 0 || !json_is_object(arguments) || !crl_utf8_valid(name, len)) {
        json_decref(arguments);
        return refuse(c);
    }
    one = json_object();
    v = json_stringn(name, len);
    if (!one || !v || json_object_set(one, "name", v) || json_object_set(one, "arguments", arguments) ||
        json_array_append(calls, one))
        made(c, NULL);
    json_decref(one);
    json_decref(v);
    json_decref(arguments);
    return c->ok;
}

/* {"name": ..., "parameters" or "arguments": ...}, bare or as the "function" of an object. */
static bool call_of_object(struct cursor *c, json_t *calls, const json_t *obj)
{
    const json_t *inner = json_object_get(obj, "function"), *name, *args;
    const char *type = json_string_value(json_object_get(obj, "type"));
    bool says_so = type && strcmp(type, "function") == 0;

    if (json_is_object(inner)) obj = inner;
    name = json_object_get(obj, "name");
    if (!name && json_is_string(inner)) name = inner;
    args = json_object_get(obj, "parameters");
    if (!args) args = json_object_get(obj, "arguments");
    /* an object with a name and nothing else is an answer about something that has a name */
    if (!json_is_string(name) || (!args && !says_so)) return refuse(c);
    return add_call(c, calls, json_string_value(name), json_string_length(name),
                    !args || json_is_null(args) ? made(c, json_object())
                                                : json_incref((json_t *)(uintptr_t)args));
}

/* A JSON value at the cursor, or the same with Python's spellings. */
static json_t *object_or_list(struct cursor *c)
{
    json_error_t je;
    json_t *v = json_loadb(c->p, (size_t)(c->end - c->p), JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &je);

    if (!v) return value(c);
    c->p += je.position;
    return v;
}

static bool read_objects(struct cursor *c, json_t *calls)
{
    for (;;) {
        json_t *v;
        size_t i;

        while (c->p < c->end && strchr(" \t\r\n;,", *c->p) && *c->p) c->p++;
        if (c->p == c->end) return true;
        if (!at(c, '{') && !at(c, '[')) return refuse(c);
        v = object_or_list(c);
        if (!v) return refuse(c);
        if (json_is_object(v)) call_of_object(c, calls, v);
        else if (json_array_size(v) == 0) refuse(c);
        for (i = 0; i < json_array_size(v) && c->ok; i++) call_of_object(c, calls, json_array_get(v, i));
        json_decref(v);
        if (!c->ok) return false;
    }
}

/* KEY=VALUE, ...) after the opening parenthesis; a lone dictionary stands for all arguments. */
static json_t *read_arguments(struct cursor *c)
{
    json_t *args = made(c, json_object()), *v;
    bool comma = true;

    skip_blanks(c);
    if (c->ok && at(c, '{')) {
        json_decref(args);
        args = value(c);
        skip_blanks(c);
        take(c, ',');
        skip_blanks(c);
        if (args && !take(c, ')')) refuse(c);
    } else {
        while (c->ok) {
            const char *name;
            char key[256];
            size_t n;

            skip_blanks(c);
            if (take(c, ')')) break;
            n = comma ? take_name(c, &name) : 0;
            skip_blanks(c);
            if (n == 0 || n >= sizeof key || !take(c, '=')) {
                refuse(c);
                break;
            }
            memcpy(key, name, n);
            key[n] = '\0';
            if (json_object_get(args, key) || !crl_utf8_valid(key, n)) refuse(c);
            v = c->ok ? value(c) : NULL;
            if (v && json_object_set_new(args, key, v)) made(c, NULL);
            skip_blanks(c);
            comma = take(c, ',');
        }
    }
    if (!c->ok) {
        json_decref(args);
        return NULL;
    }
    return args;
}

/* NAME(KEY=VALUE, ...) */
static bool read_call(struct cursor *c, json_t *calls, const char *suffix)
{
    const char *name;
    size_t n = take_name(c, &name), cut = strlen(suffix);
    json_t *args;

    skip_blanks(c);
    if (n <= cut || memcmp(name + n - cut, suffix, cut) != 0 || !take(c, '(')) return refuse(c);
    args = read_arguments(c);
    return args && add_call(c, calls, name, n - cut, args);
}

/* [NAME(...), NAME(...)] */
static bool read_python(struct cursor *c, json_t *calls)
{
    bool comma = true;

    if (!take(c, '[')) return refuse(c);
    for (;;) {
        skip_blanks(c);
        if (take(c, ']')) break;
        if (!comma || !read_call(c, calls, "")) return refuse(c);
        skip_blanks(c);
        comma = take(c, ',');
    }
    skip_blanks(c);
    return c->p == c->end ? true : refuse(c);
}

/* NAME.call(...), as the built-in tools are written. */
static bool read_builtin(struct cursor *c, json_t *calls)
{
    if (!read_call(c, calls, ".call")) return false;
    skip_blanks(c);
    return c->p == c->end ? true : refuse(c);
}

/* <function=NAME>{...}</function>, one or several; the last closing tag may be missing. */
static bool read_tags(struct cursor *c, json_t *calls)
{
    while (take_word(c, "<function=")) {
        const char *name = c->p;
        size_t n;
        json_t *args;

        while (c->p < c->end && *c->p != '>' && *c->p != '<' && !strchr(" \t\r\n", *c->p)) c->p++;
        n = (size_t)(c->p - name);
        if (!take(c, '>')) return refuse(c);
        skip_blanks(c);
        args = at(c, '{') ? object_or_list(c) : made(c, json_object());
        if (!args || !add_call(c, calls, name, n, args)) return refuse(c);
        skip_blanks(c);
        if (!take_word(c, "</function>") && c->p != c->end) return refuse(c);
        while (c->p < c->end && strchr(" \t\r\n;,", *c->p) && *c->p) c->p++;
    }
    return c->p == c->end ? true : refuse(c);
}

/* ---- the reply as a whole ---- */

typedef bool reader_fn(struct cursor *c, json_t *calls);

static enum crl_status try_all(json_t **calls, const char *text, size_t len, struct crl_err *err)
{
    static reader_fn *const readers[] = { read_objects, read_python, read_tags, read_builtin };
    size_t i;

    for (i = 0; i < sizeof readers / sizeof *readers; i++) {
        struct cursor c = { text, text + len, 0, true, false };
        json_t *found = made(&c, json_array());

        skip_blanks(&c);
        while (c.end > c.p && strchr(" \t\r\n", c.end[-1]) && c.end[-1]) c.end--;
        if (c.ok && readers[i](&c, found) && json_array_size(found)) {
            *calls = found;
            return CRL_OK;
        }
        json_decref(found);
        if (c.no_memory) return crl_fail(err, CRL_ENOMEM, "no memory to read a tool call");
    }
    return CRL_OK;
}

/* The text without these markers; *tail: where the last python_end stood in it. */
static enum crl_status strip_markers(struct crl_str *out, size_t *tail, const char *text, size_t len,
                                     struct crl_err *err)
{
    static const char *const markers[] = { "<|python_start|>", "<|python_end|>", "<|eot|>", "<|eom|>" };
    enum crl_status st = CRL_OK;
    struct cursor c = { text, text + len, 0, true, false };
    const char *from = text;
    size_t i;

    while (c.p < c.end && !st) {
        const char *stop = c.p;

        for (i = 0; i < 4 && *c.p == '<'; i++)
            if (take_word(&c, markers[i])) break;
        if (c.p == stop) {
            c.p++;
            continue;
        }
        st = crl_str_add(out, from, (size_t)(stop - from), err);
        from = c.p;
        if (i == 1) *tail = out->len;
    }
    return st ? st : crl_str_add(out, from, (size_t)(c.end - from), err);
}

enum crl_status crl_toolcall_parse(json_t **calls, const char *text, size_t len, struct crl_err *err)
{
    struct crl_str s = { NULL, 0, 0 };
    enum crl_status st;
    size_t tail = 0;

    *calls = NULL;
    st = strip_markers(&s, &tail, text, len, err);
    if (!st && s.len) st = try_all(calls, s.s, s.len, err);
    /* the template's own form: words between the markers, then the calls */
    if (!st && !*calls && tail && tail < s.len) st = try_all(calls, s.s + tail, s.len - tail, err);
    crl_str_fini(&s);
    return st;
}
