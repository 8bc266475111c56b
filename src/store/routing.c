/* routing.c - how often each expert was chosen, read from a statistics file. */
#include "store/plan.h"

#include "base/json.h"

#include <math.h>

/* One layer's list into to[n]; an empty list or null leaves zeros: nothing is known. */
static enum crl_status read_layer(const json_t *list, uint32_t layer, double *to, uint32_t n, struct crl_err *err)
{
    if (json_is_null(list) || (json_is_array(list) && !json_array_size(list))) return CRL_OK;
    if (!json_is_array(list) || json_array_size(list) != n)
        return crl_fail(err, CRL_EFORMAT, "counts of layer %u are no list of %u numbers", layer, n);
    for (uint32_t e = 0; e < n; e++) {
        const json_t *v = json_array_get(list, e);
        to[e] = json_is_number(v) ? json_number_value(v) : -1;
        if (!(to[e] >= 0) || isinf(to[e]))
            return crl_fail(err, CRL_EFORMAT, "the count of expert %u in layer %u is no number from 0 on", e, layer);
    }
    return CRL_OK;
}

enum crl_status crl_routing_read(double **out, const char *path, const struct crl_config *cfg, struct crl_err *err)
{
    json_t *doc = NULL, *counts;
    double *table = NULL;
    enum crl_status st = crl_json_read(&doc, path, err);

    *out = NULL;
    if (st) return st;
    counts = json_object_get(doc, "counts");
    if (!json_is_array(counts) || json_array_size(counts) != cfg->n_layer)
        st = crl_fail(err, CRL_EFORMAT, "%s: \"counts\" is no list of %u layers, which the model has", path,
                      cfg->n_layer);
    if (!st && !(table = crl_alloc((size_t)cfg->n_layer * cfg->n_expert, sizeof *table)))
        st = crl_fail(err, CRL_ENOMEM, "no memory for routing counts");
    for (uint32_t l = 0; !st && l < cfg->n_layer; l++) {
        if (!cfg->is_moe[l]) continue;
        st = read_layer(json_array_get(counts, l), l, table + (size_t)l * cfg->n_expert, cfg->n_expert, err);
        if (st) crl_err_prefix(err, "%s", path);
    }
    json_decref(doc);
    if (st) crl_free(table);
    else *out = table;
    return st;
}
