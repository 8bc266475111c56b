/* result.c - metrics, items, facts and tables of one evaluation. */
#include "eval/result.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

enum crl_status crl_result_new(struct crl_result **out, const char *kind, struct crl_err *err)
{
    struct crl_result *r = crl_alloc(1, sizeof *r);

    *out = NULL;
    if (r) {
        r->kind = crl_strdup(kind);
        r->facts = json_object();
        r->model = json_object();
        r->run = json_object();
        r->tables = json_object();
    }
    if (!r || !r->kind || !r->facts || !r->model || !r->run || !r->tables) {
        crl_result_free(r);
        return crl_fail(err, CRL_ENOMEM, "no memory for a result");
    }
    *out = r;
    return CRL_OK;
}

void crl_result_free(struct crl_result *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->n_item; i++) {
        crl_free(r->item[i].id);
        json_decref(r->item[i].detail);
    }
    crl_free(r->item);
    crl_free(r->metric);
    crl_free(r->kind);
    json_decref(r->facts);
    json_decref(r->model);
    json_decref(r->run);
    json_decref(r->tables);
    crl_free(r);
}

const struct crl_metric *crl_result_find(const struct crl_result *r, const char *name)
{
    for (size_t i = 0; i < r->n_metric; i++)
        if (strcmp(r->metric[i].name, name) == 0) return &r->metric[i];
    return NULL;
}

enum crl_status crl_result_metric(struct crl_result *r, struct crl_metric **m, const char *name, double value,
                                  uint64_t n, struct crl_err *err)
{
    size_t len = strlen(name);
    enum crl_status st;

    if (!len || len >= CRL_METRIC_NAME)
        return crl_fail(err, CRL_ERANGE, "metric \"%s\": a name has 1 to %d characters", name, CRL_METRIC_NAME - 1);
    if (crl_result_find(r, name)) return crl_fail(err, CRL_ERANGE, "metric \"%s\" is there twice", name);
    st = crl_grow((void **)&r->metric, &r->cap_metric, r->n_metric + 1, sizeof *r->metric, CRL_METRIC_MAX, err);
    if (st) return st;
    *m = &r->metric[r->n_metric++];
    **m = (struct crl_metric){ .value = value, .se = NAN, .low = NAN, .high = NAN, .n = n };
    memcpy((*m)->name, name, len + 1);
    return CRL_OK;
}

enum crl_status crl_result_item(struct crl_result *r, const char *id, double score, double weight, json_t *detail,
                                struct crl_err *err)
{
    enum crl_status st =
        crl_grow((void **)&r->item, &r->cap_item, r->n_item + 1, sizeof *r->item, CRL_ITEM_MAX, err);
    char *copy = st ? NULL : crl_strdup(id);

    if (!st && !copy) st = crl_fail(err, CRL_ENOMEM, "no memory for an item");
    if (st) {
        json_decref(detail);
        return st;
    }
    r->item[r->n_item++] = (struct crl_item){ copy, score, weight, detail };
    return CRL_OK;
}

enum crl_status crl_result_fact(struct crl_result *r, const char *name, json_t *value, struct crl_err *err)
{
    if (json_object_set_new(r->facts, name, value) == 0) return CRL_OK;
    return crl_fail(err, CRL_ENOMEM, "no memory for the fact \"%s\"", name);
}

enum crl_status crl_result_table(struct crl_result *r, const char *name, json_t *columns, json_t *rows,
                                 struct crl_err *err)
{
    json_t *table = json_pack("{s:o, s:o}", "columns", columns, "rows", rows); /* takes both over, also on failure */

    if (json_object_set_new(r->tables, name, table) == 0) return CRL_OK;
    return crl_fail(err, CRL_ENOMEM, "no memory for the table \"%s\"", name);
}

enum crl_status crl_result_check(const struct crl_result *r, struct crl_err *err)
{
    for (size_t i = 0; i < r->n_metric; i++)
        if (!isfinite(r->metric[i].value))
            return crl_fail(err, CRL_ERANGE, "%s: metric \"%s\" is not finite", r->kind, r->metric[i].name);
    return CRL_OK;
}

json_t *crl_real_json(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *metric_json(const struct crl_metric *m)
{
    static const char *const better[] = { "low", "none", "high" };
    json_t *o = json_pack("{s:o, s:I}", "value", crl_real_json(m->value), "n", (json_int_t)m->n);
    int bad = o == NULL;

    if (isfinite(m->se)) bad |= json_object_set_new(o, "se", json_real(m->se));
    if (isfinite(m->low)) bad |= json_object_set_new(o, "low", json_real(m->low));
    if (isfinite(m->high)) bad |= json_object_set_new(o, "high", json_real(m->high));
    if (m->unit[0]) bad |= json_object_set_new(o, "unit", json_string(m->unit));
    if (m->better) bad |= json_object_set_new(o, "better", json_string(better[m->better + 1]));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

static json_t *item_json(const struct crl_item *t)
{
    json_t *o = json_pack("{s:s, s:o, s:o}", "id", t->id, "score", crl_real_json(t->score), "weight",
                          crl_real_json(t->weight));

    if (!t->detail || json_object_set(o, "detail", t->detail) == 0) return o;
    json_decref(o);
    return NULL;
}

json_t *crl_result_json(const struct crl_result *r, bool items)
{
    json_t *metrics = json_object(), *list = items ? json_array() : NULL;
    json_t *doc = json_pack("{s:s, s:O, s:O, s:O, s:o, s:O}", "eval", r->kind, "facts", r->facts, "model", r->model,
                            "run", r->run, "metrics", metrics, "tables", r->tables);
    int bad = doc == NULL;

    for (size_t i = 0; !bad && i < r->n_metric; i++)
        bad |= json_object_set_new(metrics, r->metric[i].name, metric_json(&r->metric[i]));
    if (items) bad |= json_object_set_new(doc, "items", list);
    for (size_t i = 0; !bad && items && i < r->n_item; i++) bad |= json_array_append_new(list, item_json(&r->item[i]));
    if (!bad) return doc;
    json_decref(doc);
    return NULL;
}
