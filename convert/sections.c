/* sections.c - reading the small files beside the weights. */
#include "convert/sections.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/tok.h"

#include <string.h>

#define SIDE_MOST ((size_t)16 << 20)

static void own(struct crl_side_files *f, enum crl_section kind, void *data, size_t len)
{
    f->data[kind] = data;
    f->sections.data[kind] = data;
    f->sections.len[kind] = len;
}

/* The file's bytes, NULL when there is none. */
static enum crl_status read_if_there(char **text, size_t *len, const char *dir, const char *name,
                                     struct crl_err *err)
{
    char *path = crl_path_join(dir, name);
    enum crl_status st = CRL_OK;

    *text = NULL;
    *len = 0;
    if (!path) return crl_fail(err, CRL_ENOMEM, "%s: no memory", dir);
    if (crl_file_exists(path)) st = crl_file_read(text, len, path, SIDE_MOST, err);
    crl_free(path);
    return st;
}

static enum crl_status read_json(struct crl_side_files *f, enum crl_section kind, const char *dir,
                                 const char *name, struct crl_err *err)
{
    char *text;
    size_t len;
    json_t *doc;
    enum crl_status st = read_if_there(&text, &len, dir, name, err);

    if (st || !text) return st;
    st = crl_json_parse(&doc, text, len, name, err);
    if (st) {
        crl_free(text);
        return st;
    }
    json_decref(doc);
    own(f, kind, text, len);
    return CRL_OK;
}

/* chat_template in a JSON file: the text itself, or a list of named ones with a "default" among them. */
static const char *template_in(const json_t *doc)
{
    const json_t *t = json_object_get(doc, "chat_template");

    if (json_is_string(t)) return json_string_value(t);
    for (size_t i = 0; i < json_array_size(t); i++) {
        const json_t *e = json_array_get(t, i);
        const char *name = json_string_value(json_object_get(e, "name"));
        if (name && strcmp(name, "default") == 0) return json_string_value(json_object_get(e, "template"));
    }
    return NULL;
}

static enum crl_status template_from_json(struct crl_side_files *f, const char *dir, const char *name,
                                          struct crl_err *err)
{
    char *text, *copy;
    const char *found;
    size_t len;
    json_t *doc;
    enum crl_status st = read_if_there(&text, &len, dir, name, err);

    if (st || !text) return st;
    st = crl_json_parse(&doc, text, len, name, err);
    crl_free(text);
    if (st) return st;
    found = template_in(doc);
    if (found) {
        copy = crl_strdup(found);
        if (copy) own(f, CRL_SECTION_CHAT_TEMPLATE, copy, strlen(copy));
        else st = crl_fail(err, CRL_ENOMEM, "%s: no memory", name);
    }
    json_decref(doc);
    return st;
}

/* The newest place first: a file of its own, then two JSON files that may carry it. */
static enum crl_status read_template(struct crl_side_files *f, const char *dir, struct crl_err *err)
{
    char *text;
    size_t len;
    enum crl_status st = read_if_there(&text, &len, dir, "chat_template.jinja", err);

    if (st) return st;
    if (text) {
        own(f, CRL_SECTION_CHAT_TEMPLATE, text, len);
        return CRL_OK;
    }
    st = template_from_json(f, dir, "chat_template.json", err);
    if (!st && !f->data[CRL_SECTION_CHAT_TEMPLATE])
        st = template_from_json(f, dir, "tokenizer_config.json", err);
    return st;
}

static bool has_file(const char *dir, const char *name)
{
    char *path = crl_path_join(dir, name);
    bool there = path && crl_file_exists(path);

    crl_free(path);
    return there;
}

static enum crl_status read_tokenizer(struct crl_side_files *f, const char *dir, struct crl_err *err)
{
    unsigned char *bytes = NULL;
    struct crl_tok *tok;
    size_t len = 0;
    enum crl_status st;

    if (!has_file(dir, "tokenizer.json") && !has_file(dir, "tokenizer.model")) return CRL_OK;
    st = crl_tok_open(&tok, dir, err);
    if (st) return st;
    st = crl_tok_save(tok, &bytes, &len, err);
    crl_tok_close(tok);
    if (!st) own(f, CRL_SECTION_TOKENIZER, bytes, len);
    return st;
}

enum crl_status crl_side_files_read(struct crl_side_files *f, const char *dir, struct crl_err *err)
{
    enum crl_status st;

    memset(f, 0, sizeof *f);
    st = read_json(f, CRL_SECTION_GENERATION, dir, "generation_config.json", err);
    if (!st) st = read_json(f, CRL_SECTION_PREPROCESSING, dir, "preprocessor_config.json", err);
    if (!st && !f->data[CRL_SECTION_PREPROCESSING]) /* newer writers keep the settings in here */
        st = read_json(f, CRL_SECTION_PREPROCESSING, dir, "processor_config.json", err);
    if (!st) st = read_template(f, dir, err);
    if (st) crl_err_prefix(err, "%s", dir);
    else st = read_tokenizer(f, dir, err);
    if (st) { crl_side_files_free(f); }
    return st;
}

void crl_side_files_free(struct crl_side_files *f)
{
    for (size_t i = 0; i < CRL_SECTION_END; i++) crl_free(f->data[i]);
    memset(f, 0, sizeof *f);
}
