/* info.c - adding up. */
#include "convert/info.h"

#include <stdio.h>
#include <string.h>

static void add(struct crl_info *info, const struct crl_weight *w, enum crl_format f, uint64_t bytes,
                const struct crl_misfit *m)
{
    struct crl_class *c = &info->kind[w->kind];

    c->n++;
    c->params += (uint64_t)w->n_real * w->k;
    c->bytes += bytes;
    c->n_format[f]++;
    if (m) crl_misfit_add(&c->misfit, m);
}

enum crl_status crl_info_pack(struct crl_info *info, const struct crl_pack *pack,
                              const struct crl_report *report, struct crl_err *err)
{
    const struct crl_schema *s = crl_pack_schema(pack);

    memset(info, 0, sizeof *info);
    for (size_t i = 0; i < s->n_weight; i++)
        add(info, &s->weight[i], crl_pack_format(pack, i), crl_pack_weight_bytes(pack, i),
            report ? &report->row[i].misfit : NULL);
    return crl_pack_totals(pack, &info->totals, err);
}

enum crl_status crl_info_recipe(struct crl_info *info, const struct crl_schema *schema,
                                const struct crl_recipe *recipe, const struct crl_report *report,
                                struct crl_err *err)
{
    memset(info, 0, sizeof *info);
    for (size_t i = 0; i < schema->n_weight; i++) {
        const struct crl_weight *w = &schema->weight[i];
        enum crl_format f = crl_recipe_format(recipe, w);
        uint64_t bytes = 0;
        if (!crl_mat_bytes(f, w->n, w->k, &bytes))
            return crl_fail(err, CRL_ERANGE, "matrix %zu is too large", i);
        add(info, w, f, bytes, report ? &report->row[i].misfit : NULL);
    }
    return crl_recipe_totals(recipe, schema, &info->totals, err);
}

const char *crl_class_formats(const struct crl_class *c, char text[CRL_CLASS_TEXT])
{
    bool done[CRL_FORMAT_END] = { false };
    size_t used = 0;

    text[0] = 0;
    for (size_t turn = 1; turn < CRL_FORMAT_END; turn++) {
        size_t best = 0;
        for (size_t f = 1; f < CRL_FORMAT_END; f++)
            if (!done[f] && c->n_format[f] && (!best || c->n_format[f] > c->n_format[best])) best = f;
        if (!best) break;
        done[best] = true;
        used += (size_t)snprintf(text + used, CRL_CLASS_TEXT - used, "%s%s", used ? " " : "",
                                 crl_format_name((enum crl_format)best));
        if (used >= CRL_CLASS_TEXT) break;
    }
    return text;
}

size_t crl_report_worst(const struct crl_report *r, size_t *worst, size_t n)
{
    size_t have = 0;

    for (size_t i = 0; i < r->n_weight; i++) {
        double rms = crl_misfit_rms(&r->row[i].misfit);
        size_t at = have;
        if (rms == 0) continue;
        while (at && rms > crl_misfit_rms(&r->row[worst[at - 1]].misfit)) at--;
        if (at == n) continue;
        if (have < n) have++;
        memmove(worst + at + 1, worst + at, (have - 1 - at) * sizeof *worst);
        worst[at] = i;
    }
    return have;
}
