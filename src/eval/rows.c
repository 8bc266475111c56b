/* rows.c - JSON lines, JSON documents, CSV and TSV as rows. */
#define _GNU_SOURCE
#include "eval/rows.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "eval/items.h"
#include "text/str.h"
#include "text/utf8.h"

#include <string.h>

#define COLUMNS_MAX 256

enum shape { JSON_LINES, JSON_DOCUMENT, CSV, TSV };

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static enum shape shape_of(const char *path, const char *text, size_t len)
{
    size_t i = 0;

    if (ends_with(path, ".csv")) return CSV;
    if (ends_with(path, ".tsv")) return TSV;
    if (ends_with(path, ".jsonl")) return JSON_LINES;
    if (ends_with(path, ".json")) return JSON_DOCUMENT;
    while (i < len && strchr(" \t\r\n", text[i])) i++;
    if (i < len && text[i] == '[') return JSON_DOCUMENT;
    if (i < len && text[i] == '{') return JSON_LINES;
    return memchr(text, '\t', len) ? TSV : CSV;
}

/* Takes the fields over, also on failure. */
static enum crl_status add(struct crl_data_rows *rows, json_t *fields, size_t line, struct crl_err *err)
{
    enum crl_status st =
        fields ? crl_grow((void **)&rows->v, &rows->cap, rows->n + 1, sizeof *rows->v, CRL_QUESTIONS_MAX, err)
               : crl_fail(err, CRL_ENOMEM, "no memory for a row");

    if (st) {
        json_decref(fields);
        return st;
    }
    rows->v[rows->n++] = (struct crl_data_row){ fields, line };
    return CRL_OK;
}

/* --- JSON ----------------------------------------------------------------------------------------------- */

static enum crl_status json_lines(struct crl_data_rows *rows, const char *path, const char *text, size_t len,
                                  struct crl_err *err)
{
    size_t line = 0, at = 0;

    while (at < len) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - text) - at : len - at, from = at;
        json_t *doc = NULL;
        char what[256];
        enum crl_status st;

        line++;
        at += n + 1;
        while (n && strchr(" \t\r", text[from])) from++, n--;
        if (!n) continue;
        snprintf(what, sizeof what, "%.200s: line %zu", path, line);
        st = crl_json_parse(&doc, text + from, n, what, err);
        if (!st && !json_is_object(doc)) {
            st = crl_fail(err, CRL_EFORMAT, "%s: is not a JSON object", what);
            json_decref(doc);
        }
        if (!st) st = add(rows, doc, line, err);
        if (st) return st;
    }
    return CRL_OK;
}

static enum crl_status add_all(struct crl_data_rows *rows, const char *path, json_t *list,
                               struct crl_err *err)
{
    size_t i;
    json_t *v;

    json_array_foreach(list, i, v)
    {
        enum crl_status st;
        if (!json_is_object(v))
            return crl_fail(err, CRL_EFORMAT, "%s: item %zu is not a JSON object", path, rows->n + 1);
        st = add(rows, json_incref(v), rows->n + 1, err);
        if (st) return st;
    }
    return CRL_OK;
}

/* SQuAD's nesting: every question with its paragraph's context. */
static enum crl_status add_squad(struct crl_data_rows *rows, json_t *data, struct crl_err *err)
{
    size_t i, j, k;
    json_t *article, *paragraph, *qa;

    json_array_foreach(data, i, article)
        json_array_foreach(json_object_get(article, "paragraphs"), j, paragraph)
            json_array_foreach(json_object_get(paragraph, "qas"), k, qa)
    {
        json_t *row = json_is_object(qa) ? json_copy(qa) : NULL,
               *context = json_object_get(paragraph, "context");
        enum crl_status st = add(rows, row, rows->n + 1, err);
        if (!st && context && json_object_set(row, "context", context))
            st = crl_fail(err, CRL_ENOMEM, "no memory for a row");
        if (st) return st;
    }
    return CRL_OK;
}

static enum crl_status document(struct crl_data_rows *rows, const char *path, const char *text, size_t len,
                                struct crl_err *err)
{
    json_t *doc, *data, *v;
    const char *key;
    enum crl_status st = crl_json_parse(&doc, text, len, path, err);
    bool all = true;

    if (st) return st;
    rows->document = true;
    data = json_object_get(doc, "data");
    if (json_is_array(doc)) st = add_all(rows, path, doc, err);
    else if (json_is_array(data) && json_object_get(json_array_get(data, 0), "paragraphs"))
        st = add_squad(rows, data, err);
    else if (json_is_array(data)) st = add_all(rows, path, data, err);
    else if (json_is_object(doc)) {
        json_object_foreach(doc, key, v) all &= json_is_object(v);
        if (!all) st = add(rows, json_incref(doc), 1, err);
        else json_object_foreach(doc, key, v)
            {
                st = add(rows, json_incref(v), rows->n + 1, err);
                if (st) break;
            }
    } else st = crl_fail(err, CRL_EFORMAT, "%s: is neither a list nor an object", path);
    json_decref(doc);
    return st;
}

/* --- CSV and TSV ---------------------------------------------------------------------------------------- */

struct table {
    const char *path, *text;
    size_t len, at, line; /* the next byte, and the line it is on */
    char separator;       /* a tab: quotes mean nothing */
    struct crl_err *err;
};

/* The next cell; *last when the record ends with it. */
static enum crl_status cell(struct table *t, struct crl_str *out, bool *last)
{
    size_t opened = t->line, n;
    enum crl_status st = CRL_OK;

    out->len = 0;
    if (t->separator == ',' && t->at < t->len && t->text[t->at] == '"') {
        for (t->at++;; t->at++) {
            const char *quote = memchr(t->text + t->at, '"', t->len - t->at);
            if (!quote)
                return crl_fail(t->err, CRL_EFORMAT, "%s: line %zu: a quoted field is never closed", t->path,
                                opened);
            n = (size_t)(quote - t->text) - t->at;
            for (size_t i = 0; i < n; i++) t->line += t->text[t->at + i] == '\n';
            st = crl_str_add(out, t->text + t->at, n, t->err);
            t->at += n + 1;
            if (st || t->at == t->len || t->text[t->at] != '"') break;
            st = crl_str_add(out, "\"", 1, t->err); /* a doubled quote is one */
            if (st) break;
        }
        if (!st && t->at < t->len && !strchr(",\r\n", t->text[t->at]))
            return crl_fail(t->err, CRL_EFORMAT, "%s: line %zu: text behind the closing quote of a field",
                            t->path, t->line);
    } else {
        for (n = 0; t->at + n < t->len && t->text[t->at + n] != t->separator && t->text[t->at + n] != '\n';)
            n++;
        if (n && (t->at + n == t->len || t->text[t->at + n] == '\n') && t->text[t->at + n - 1] == '\r') n--;
        st = crl_str_add(out, t->text + t->at, n, t->err);
        t->at += n;
    }
    *last = true;
    if (st || t->at == t->len) return st;
    if (t->text[t->at] == '\r' && t->at + 1 < t->len && t->text[t->at + 1] == '\n') t->at++;
    if (t->text[t->at] == t->separator) *last = false;
    else t->line++;
    t->at++;
    return CRL_OK;
}

struct header {
    char *name[COLUMNS_MAX];
    size_t n;
};

static void header_fini(struct header *h)
{
    for (size_t i = 0; i < h->n; i++) crl_free(h->name[i]);
    h->n = 0;
}

static enum crl_status header_add(struct header *h, const char *name, const struct table *t)
{
    if (h->n == COLUMNS_MAX)
        return crl_fail(t->err, CRL_EFORMAT, "%s: more than %d columns", t->path, COLUMNS_MAX);
    h->name[h->n] = crl_strdup(name);
    return h->name[h->n++] ? CRL_OK : crl_fail(t->err, CRL_ENOMEM, "no memory for a header");
}

static enum crl_status read_header(struct header *h, struct table *t)
{
    struct crl_str s = { NULL, 0, 0 };
    enum crl_status st = CRL_OK;
    bool last = false;

    while (!st && !last) {
        st = cell(t, &s, &last);
        if (!st) st = header_add(h, s.s ? s.s : "", t);
    }
    crl_str_fini(&s);
    return st;
}

static enum crl_status read_record(struct crl_data_rows *rows, const struct header *h, struct table *t)
{
    struct crl_str s = { NULL, 0, 0 };
    json_t *row = json_object();
    size_t n = 0, line = t->line;
    enum crl_status st = row ? CRL_OK : crl_fail(t->err, CRL_ENOMEM, "no memory for a row");
    bool last = false;

    for (; !st && !last; n++) {
        st = cell(t, &s, &last);
        if (st || n >= h->n) continue;
        if (json_object_set_new(row, h->name[n], json_stringn(s.s ? s.s : "", s.len)))
            st = crl_fail(t->err, CRL_ENOMEM, "no memory for a row");
    }
    if (!st && n == 1 && !s.len && h->n > 1) { /* a blank line */
        json_decref(row);
        row = NULL;
    } else if (!st && n != h->n) {
        st = crl_fail(t->err, CRL_EFORMAT, "%s: line %zu has %zu fields where %zu are expected", t->path,
                      line, n, h->n);
    }
    crl_str_fini(&s);
    if (!st && row) return add(rows, row, line, t->err);
    json_decref(row);
    return st;
}

static enum crl_status table(struct crl_data_rows *rows, const char *path, const char *text, size_t len,
                             char separator, const char *const *columns, struct crl_err *err)
{
    struct table t = { path, text, len, 0, 1, separator, err };
    struct header h = { .n = 0 };
    enum crl_status st = CRL_OK;

    for (; columns && *columns && !st; columns++) st = header_add(&h, *columns, &t);
    if (!st && !h.n) st = read_header(&h, &t);
    while (!st && t.at < t.len) st = read_record(rows, &h, &t);
    header_fini(&h);
    return st;
}

/* --- files ---------------------------------------------------------------------------------------------- */

static enum crl_status check_utf8(const char *path, const char *text, size_t len, struct crl_err *err)
{
    size_t used, line = 1;

    for (size_t at = 0; at < len; at += used) {
        if (crl_utf8_step((const unsigned char *)text + at, len - at, &used) != CRL_UTF8_OK)
            return crl_fail(err, CRL_EFORMAT, "%s: line %zu is not UTF-8 (byte %zu)", path, line, at);
        if (!text[at]) return crl_fail(err, CRL_EFORMAT, "%s: line %zu holds a zero byte", path, line);
        line += text[at] == '\n';
    }
    return CRL_OK;
}

/* The file without a byte order mark. */
static enum crl_status load(const char *path, char **data, const char **text, size_t *len,
                            struct crl_err *err)
{
    enum crl_status st = crl_file_read(data, len, path, CRL_DATA_MAX, err);

    if (st) return st;
    *text = *data;
    if (*len >= 3 && memcmp(*data, "\xef\xbb\xbf", 3) == 0) {
        *text += 3;
        *len -= 3;
    }
    return check_utf8(path, *text, *len, err);
}

enum crl_status crl_rows_read(struct crl_data_rows *out, const char *path, const char *const *columns,
                              struct crl_err *err)
{
    char *data = NULL;
    const char *text = NULL;
    size_t len = 0;
    enum crl_status st = load(path, &data, &text, &len, err);

    memset(out, 0, sizeof *out);
    if (!st) {
        out->hash = crl_hash(data, (size_t)(text - data) + len);
        switch (shape_of(path, text, len)) {
        case JSON_LINES:
            st = json_lines(out, path, text, len, err);
            break;
        case JSON_DOCUMENT:
            st = document(out, path, text, len, err);
            break;
        case CSV:
            st = table(out, path, text, len, ',', columns, err);
            break;
        case TSV:
            st = table(out, path, text, len, '\t', columns, err);
            break;
        }
    }
    if (!st && !out->n) st = crl_fail(err, CRL_EFORMAT, "%s: holds no items", path);
    crl_free(data);
    if (st) crl_rows_fini(out);
    return st;
}

void crl_rows_fini(struct crl_data_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++) json_decref(rows->v[i].fields);
    crl_free(rows->v);
    memset(rows, 0, sizeof *rows);
}

enum crl_status crl_rows_peek(const char *path, size_t *n_field, char **first, char **last,
                              struct crl_err *err)
{
    struct table t = { .path = path, .line = 1, .err = err };
    struct header h = { .n = 0 };
    char *data = NULL;
    enum crl_status st = load(path, &data, &t.text, &t.len, err);
    enum shape shape;

    *n_field = 0;
    *first = *last = NULL;
    if (!st) {
        shape = shape_of(path, t.text, t.len);
        t.separator = shape == CSV ? ',' : '\t';
        if (t.len && (shape == CSV || shape == TSV)) st = read_header(&h, &t);
    }
    if (!st && h.n) {
        *n_field = h.n;
        *first = crl_strdup(h.name[0]);
        *last = crl_strdup(h.name[h.n - 1]);
        if (!*first || !*last) st = crl_fail(err, CRL_ENOMEM, "no memory for a header");
    }
    header_fini(&h);
    crl_free(data);
    return st;
}
