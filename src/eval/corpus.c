/* corpus.c - reading texts, cutting windows. */
#include "eval/corpus.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/utf8.h"

#include <string.h>

#define WINDOW_MAX ((size_t)1 << 32)

void crl_corpus_fini(struct crl_corpus *c)
{
    crl_ids_fini(&c->ids);
    crl_free(c->doc);
    memset(c, 0, sizeof *c);
}

enum crl_status crl_corpus_note(struct crl_corpus *c, size_t first, uint64_t bytes, struct crl_err *err)
{
    enum crl_status st =
        crl_grow((void **)&c->doc, &c->cap_doc, c->n_doc + 1, sizeof *c->doc, CRL_CORPUS_DOC_MAX, err);

    if (!st) c->doc[c->n_doc++] = (struct crl_doc){ first, c->ids.n - first, bytes };
    return st;
}

enum crl_status crl_corpus_seal(struct crl_corpus *c, struct crl_err *err)
{
    struct crl_hasher *h = crl_hasher_new();
    unsigned char b[8];

    if (!h) return crl_fail(err, CRL_ENOMEM, "no memory for a hash");
    crl_put_le32(b, (uint32_t)c->bos);
    crl_hasher_add(h, b, 4);
    for (size_t d = 0; d < c->n_doc; d++) {
        crl_put_le64(b, c->doc[d].n);
        crl_hasher_add(h, b, 8);
        for (size_t i = 0; i < c->doc[d].n; i++) {
            crl_put_le32(b, (uint32_t)c->ids.v[c->doc[d].first + i]);
            crl_hasher_add(h, b, 4);
        }
    }
    c->hash = crl_hasher_value(h);
    crl_hasher_free(h);
    return CRL_OK;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static enum crl_status add_text(struct crl_corpus *c, const struct crl_engine *engine, const char *text, size_t len,
                                struct crl_err *err)
{
    size_t first = c->ids.n, unscored = 0;
    const struct crl_tok *tok = crl_engine_tok(engine);
    enum crl_status st;

    if (!tok) return crl_fail(err, CRL_ENOENT, "the model has no tokenizer: give documents as \"ids\"");
    st = crl_tok_encode(tok, text, len, CRL_TOK_PLAIN, &c->ids, err);
    if (!st && c->ids.n == first) return crl_fail(err, CRL_EFORMAT, "the text is empty");
    if (!st && c->bos < 0) crl_tok_bytes(tok, c->ids.v[first], &unscored);
    return st ? st : crl_corpus_note(c, first, len > unscored ? len - unscored : 0, err);
}

static enum crl_status add_id_list(struct crl_corpus *c, const json_t *list, uint32_t vocab, struct crl_err *err)
{
    size_t first = c->ids.n;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= (json_int_t)vocab)
            return crl_fail(err, CRL_EFORMAT, "field \"ids\": entry %zu is no id below %u", i, vocab);
        st = crl_ids_add(&c->ids, (int32_t)id, err);
    }
    if (!st && c->ids.n == first) return crl_fail(err, CRL_EFORMAT, "field \"ids\" is empty");
    return st ? st : crl_corpus_note(c, first, 0, err);
}

static enum crl_status check_utf8(const char *text, size_t len, struct crl_err *err)
{
    size_t used;

    for (size_t at = 0; at < len; at += used)
        if (crl_utf8_step((const unsigned char *)text + at, len - at, &used) != CRL_UTF8_OK)
            return crl_fail(err, CRL_EFORMAT, "is not UTF-8 (byte %zu)", at);
    return CRL_OK;
}

static const char *type_name(const json_t *v)
{
    static const char *const name[] = { "an object", "a list", "a string", "a number", "a number",
                                        "true",      "false",  "null" };

    return v ? name[json_typeof(v)] : "nothing";
}

static enum crl_status add_line(struct crl_corpus *c, const struct crl_engine *engine, const json_t *doc,
                                const char *field, uint32_t vocab, struct crl_err *err)
{
    const json_t *text = json_object_get(doc, field), *ids = json_object_get(doc, "ids");

    if (!json_is_object(doc)) return crl_fail(err, CRL_EFORMAT, "an object was expected, %s found", type_name(doc));
    if (!text && ids && !json_is_array(ids))
        return crl_fail(err, CRL_EFORMAT, "field \"ids\": a list was expected, %s found", type_name(ids));
    if (!text && ids) return add_id_list(c, ids, vocab, err);
    if (!json_is_string(text))
        return crl_fail(err, CRL_EFORMAT, "field \"%s\": a string was expected, %s found", field, type_name(text));
    if (!json_string_length(text)) return crl_fail(err, CRL_EFORMAT, "field \"%s\" is empty", field);
    return add_text(c, engine, json_string_value(text), json_string_length(text), err);
}

/* The parser counts lines within what it gets, one: the column is what helps. */
static enum crl_status parse_line(json_t **doc, const char *text, size_t len, struct crl_err *err)
{
    struct crl_err own = { "" };
    enum crl_status st = crl_json_parse(doc, text, len, "line", &own);
    const char *column = strstr(own.text, "column ");

    return st ? crl_fail(err, st, "%s", column ? column : own.text) : CRL_OK;
}

static bool is_blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

/* All documents are given in the same way, so bos goes before all of them or none. */
static enum crl_status check_kinds(struct crl_corpus *c, size_t n_ids, struct crl_err *err)
{
    if (n_ids && n_ids < c->n_doc)
        return crl_fail(err, CRL_EFORMAT, "some lines hold texts, others ids: one kind per file");
    if (n_ids) c->bos = -1;
    return CRL_OK;
}

static enum crl_status parse_lines(struct crl_corpus *c, const struct crl_engine *engine, const char *text, size_t len,
                                   const struct crl_corpus_options *o, uint32_t vocab, struct crl_err *err)
{
    const char *field = o->field ? o->field : "text", *p = text, *end = text + len;
    size_t n_ids = 0;
    enum crl_status st = CRL_OK;

    for (size_t line = 1; !st && p < end && (!o->limit || c->n_doc < o->limit); line++) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((eol ? eol : end) - p);
        json_t *doc = NULL;

        if (!is_blank(p, n)) {
            st = parse_line(&doc, p, n, err);
            if (!st) st = add_line(c, engine, doc, field, vocab, err);
            if (st) crl_err_prefix(err, "line %zu", line);
            if (!st) n_ids += !json_object_get(doc, field);
            json_decref(doc);
        }
        p += n + (eol != NULL);
    }
    return st ? st : check_kinds(c, n_ids, err);
}

enum crl_status crl_corpus_parse(struct crl_corpus *c, const struct crl_engine *engine, const char *text, size_t len,
                                 bool jsonl, const char *what, const struct crl_corpus_options *o, struct crl_err *err)
{
    struct crl_engine_info info;
    enum crl_status st;

    memset(c, 0, sizeof *c);
    crl_engine_info(engine, &info);
    c->bos = o->no_bos ? -1 : info.bos;
    if (!jsonl && (st = check_utf8(text, len, err))) {
        crl_err_prefix(err, "%s", what);
        return st;
    }
    if (jsonl) st = parse_lines(c, engine, text, len, o, info.vocab, err);
    else st = len ? add_text(c, engine, text, len, err) : CRL_OK;
    if (!st && !c->n_doc) st = crl_fail(err, CRL_EFORMAT, "holds no text");
    if (!st) st = crl_corpus_seal(c, err);
    if (!st) return CRL_OK;
    crl_err_prefix(err, "%s", what);
    crl_corpus_fini(c);
    return st;
}

enum crl_status crl_corpus_read(struct crl_corpus *c, const struct crl_engine *engine, const char *path,
                                const struct crl_corpus_options *o, struct crl_err *err)
{
    size_t len, n = strlen(path);
    char *data;
    enum crl_status st;

    memset(c, 0, sizeof *c);
    st = crl_file_read(&data, &len, path, CRL_TOK_TEXT_MAX, err);
    if (st) return st;
    st = crl_corpus_parse(c, engine, data, len, n >= 6 && !strcmp(path + n - 6, ".jsonl"), path, o, err);
    crl_free(data);
    return st;
}

/* --- windows ----------------------------------------------------------------------------------------------------- */

static size_t n_prefix(const struct crl_corpus *c)
{
    return c->bos >= 0;
}

static enum crl_status cut_doc(struct crl_windows *w, const struct crl_corpus *c, size_t doc, size_t window,
                               size_t stride, struct crl_err *err)
{
    size_t lead = n_prefix(c), len = c->doc[doc].n, scored = 1 - lead; /* tokens [1 - lead, scored) are done */
    enum crl_status st = CRL_OK;

    for (size_t at = 0; !st && scored < len; at += stride) {
        size_t target = at + 1 - lead, n = len - target < window ? len - target : window;

        st = crl_grow((void **)&w->v, &w->cap, w->n + 1, sizeof *w->v, WINDOW_MAX, err);
        if (st) return st;
        w->v[w->n++] = (struct crl_window){ doc, at, n, scored - target, w->n_row };
        w->n_row += target + n - scored;
        w->n_fed += n;
        if (n > w->longest) w->longest = n;
        scored = target + n;
    }
    return st;
}

enum crl_status crl_windows_cut(struct crl_windows *w, const struct crl_corpus *c, size_t window, size_t stride,
                                struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    memset(w, 0, sizeof *w);
    if (!window || !stride || stride > window)
        return crl_fail(err, CRL_ERANGE, "a stride of %zu with windows of %zu leaves tokens unscored", stride, window);
    for (size_t d = 0; !st && d < c->n_doc; d++) st = cut_doc(w, c, d, window, stride, err);
    if (!st && !w->n_row) st = crl_fail(err, CRL_ERANGE, "no token to score: every document is a single token");
    if (st) crl_windows_fini(w);
    return st;
}

void crl_windows_fini(struct crl_windows *w)
{
    crl_free(w->v);
    memset(w, 0, sizeof *w);
}

void crl_window_ids(const struct crl_corpus *c, const struct crl_window *w, int32_t *out)
{
    size_t lead = n_prefix(c);

    if (lead) out[0] = c->bos;
    memcpy(out + lead, c->ids.v + c->doc[w->doc].first + w->first, (w->n - lead) * sizeof *out);
}

int32_t crl_window_target(const struct crl_corpus *c, const struct crl_window *w, size_t j)
{
    return c->ids.v[c->doc[w->doc].first + w->first + j + 1 - n_prefix(c)];
}
