/* eval_show.c - results of evaluations on stdout. */
#include "cli/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CELL 64

bool crl_eval_option(struct crl_eval_show *a, int id)
{
    if (id == CRL_EVAL_JSON) a->json = true;
    if (id == CRL_EVAL_ITEMS) a->items = true;
    return id == CRL_EVAL_JSON || id == CRL_EVAL_ITEMS;
}

/* A value as people read it; lists and objects as JSON. */
static const char *cell(char text[CELL], const json_t *v)
{
    char *dump;

    if (json_is_string(v)) snprintf(text, CELL, "%s", json_string_value(v));
    else if (json_is_integer(v)) snprintf(text, CELL, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v)) snprintf(text, CELL, "%.6g", json_real_value(v));
    else if (!v || json_is_null(v)) snprintf(text, CELL, "-");
    else {
        dump = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        snprintf(text, CELL, "%s", dump ? dump : "");
        free(dump);
    }
    return text;
}

static void print_facts(const json_t *facts)
{
    const char *name;
    json_t *v;
    char text[CELL];

    json_object_foreach((json_t *)facts, name, v) printf("%-22s %s\n", name, cell(text, v));
}

static void print_metrics(const struct crl_result *r)
{
    if (r->n_metric) printf("\n%-26s %14s %12s %27s %10s\n", "metric", "value", "se", "95% interval", "n");
    for (size_t i = 0; i < r->n_metric; i++) {
        const struct crl_metric *m = &r->metric[i];
        char se[CELL] = "", interval[CELL] = "";

        if (isfinite(m->se)) snprintf(se, sizeof se, "%.3g", m->se);
        if (isfinite(m->low) && isfinite(m->high)) snprintf(interval, sizeof interval, "%.6g .. %.6g", m->low, m->high);
        printf("%-26s %14.7g %12s %27s %10llu%s%s\n", m->name, m->value, se, interval, (unsigned long long)m->n,
               m->unit[0] ? "  " : "", m->unit);
    }
}

static void print_table(const char *name, const json_t *table)
{
    const json_t *columns = json_object_get(table, "columns"), *rows = json_object_get(table, "rows");
    size_t i, j;
    json_t *row, *v;
    char text[CELL];

    printf("\n%s\n", name);
    json_array_foreach((json_t *)columns, j, v) printf(j ? " %14s" : "%-20s", cell(text, v));
    putchar('\n');
    json_array_foreach((json_t *)rows, i, row) {
        json_array_foreach(row, j, v) printf(j ? " %14s" : "%-20s", cell(text, v));
        putchar('\n');
    }
}

int crl_eval_print(const struct crl_usage *u, const struct crl_eval_show *a, const struct crl_result *r)
{
    struct crl_err err = { "" };
    enum crl_status st = crl_result_check(r, &err);
    int code = CRL_EXIT_DONE;
    const char *name;
    json_t *table;

    if (a->json) {
        code = crl_cli_json(u, crl_result_json(r, a->items));
    } else {
        print_facts(r->model);
        print_facts(r->facts);
        print_facts(r->run);
        print_metrics(r);
        json_object_foreach(r->tables, name, table) print_table(name, table);
    }
    return st ? crl_cli_fail(u, st, &err) : code;
}
