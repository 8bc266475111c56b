/* show.c - tables and JSON. */
#include "cli/show.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

json_t *crl_show_real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static bool is_small(enum crl_kind k)
{
    return !crl_kind_takes(k, CRL_BF16);
}

void crl_show_classes(const struct crl_info *info, bool measured)
{
    char params[CRL_CLI_TEXT], bytes[CRL_CLI_TEXT], formats[CRL_CLASS_TEXT];

    printf("%-20s %9s %10s  %-9s %10s  %5s%s\n", "class", "matrices", "weights", "format", "size", "bits",
           measured ? "  rel. error  max error" : "");
    for (size_t k = 1; k < CRL_KIND_END; k++) {
        const struct crl_class *c = &info->kind[k];
        if (!c->n || is_small((enum crl_kind)k)) continue; /* norms and biases: too small to matter here */
        printf("%-20s %9llu %10s  %-9s %10s  %5.2f", crl_kind_name((enum crl_kind)k), (unsigned long long)c->n,
               crl_cli_count(params, (double)c->params), crl_class_formats(c, formats),
               crl_cli_bytes(bytes, (double)c->bytes), 8 * (double)c->bytes / (double)c->params);
        if (measured) printf("  %10.3g  %9.3g", crl_misfit_rms(&c->misfit), (double)c->misfit.most);
        putchar('\n');
    }
}

json_t *crl_show_classes_json(const struct crl_info *info, bool measured)
{
    json_t *list = json_array();
    char formats[CRL_CLASS_TEXT];

    for (size_t k = 1; k < CRL_KIND_END && list; k++) {
        const struct crl_class *c = &info->kind[k];
        json_t *o;
        if (!c->n) continue;
        o = json_pack("{s:s, s:I, s:I, s:s, s:I, s:o}", "class", crl_kind_name((enum crl_kind)k), "matrices",
                      (json_int_t)c->n, "weights", (json_int_t)c->params, "format",
                      crl_class_formats(c, formats), "bytes", (json_int_t)c->bytes, "bits_per_weight",
                      crl_show_real(8 * (double)c->bytes / (double)c->params));
        if (measured) {
            json_object_set_new(o, "relative_rms", crl_show_real(crl_misfit_rms(&c->misfit)));
            json_object_set_new(o, "max_error", crl_show_real(c->misfit.most));
        }
        json_array_append_new(list, o);
    }
    return list;
}

json_t *crl_show_totals_json(const struct crl_totals *t)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)t->params, "weights_active",
                     (json_int_t)t->params_active, "weights_read", (json_int_t)t->params_read,
                     "weights_routed", (json_int_t)t->params_routed, "bytes", (json_int_t)t->bytes,
                     "bytes_read", (json_int_t)t->bytes_read);
}

static unsigned count(const uint8_t *flag, uint32_t n, bool value)
{
    unsigned sum = 0;

    for (uint32_t i = 0; i < n; i++) sum += (flag[i] != 0) == value;
    return sum;
}

json_t *crl_show_config_json(const struct crl_config *cfg)
{
    char *text = crl_config_to_json(cfg);
    json_t *doc = NULL;

    if (text) crl_json_parse(&doc, text, strlen(text), "config", NULL);
    crl_free(text);
    return doc;
}

void crl_show_config(const struct crl_config *c)
{
    unsigned moe = count(c->is_moe, c->n_layer, true), nope = count(c->uses_rope, c->n_layer, false);

    printf("layers        %u (%u mixtures of experts, %u dense)\n", c->n_layer, moe, c->n_layer - moe);
    printf("width         %u; vocabulary %u%s\n", c->d_model, c->vocab,
           c->tied ? ", head tied to the embedding" : "");
    printf("attention     %u heads of %u, %u key/value heads%s%s\n", c->n_head, c->d_head, c->n_kv_head,
           c->qk_norm ? ", qk norm" : "", c->attention_bias ? ", biases" : "");
    if (moe)
        printf("experts       %u per layer and one shared, width %u, %u per token\n", c->n_expert, c->d_ff,
               c->n_expert_used);
    if (moe < c->n_layer) printf("dense blocks  width %u\n", c->d_ff_dense);
    printf("positions     rotary in %u layers, none in %u", c->n_layer - nope, nope);
    if (c->chunk) printf("; chunks of %u", c->chunk);
    if (c->rope_type == CRL_ROPE_LLAMA3)
        printf("; scaling %g (%g, %g, %u)", c->rope_factor, c->rope_low, c->rope_high, c->rope_old_ctx);
    printf("\ncontext       %u tokens\n", c->n_ctx);
    if (c->multimodal)
        printf("vision        %u layers of width %u, %u heads; tiles of %u pixels become %u tokens\n", c->vision.n_layer,
               c->vision.d_model, c->vision.n_head, c->vision.image, crl_vision_tokens(c));
}

void crl_show_worst(const struct crl_schema *s, const struct crl_report *r, size_t n)
{
    size_t worst[CRL_SHOW_WORST_MAX],
        have = crl_report_worst(r, worst, n < CRL_SHOW_WORST_MAX ? n : CRL_SHOW_WORST_MAX);

    for (size_t i = 0; i < have; i++) {
        const struct crl_misfit *m = &r->row[worst[i]].misfit;
        char name[CRL_NAME_MAX];
        crl_weight_name(&s->weight[worst[i]], name);
        printf("%s%-70s %10.3g  %9.3g\n", i ? "" : "\nlargest relative errors (relative, max)\n", name,
               crl_misfit_rms(m), (double)m->most);
    }
}

json_t *crl_show_worst_json(const struct crl_schema *s, const struct crl_report *r, size_t n)
{
    size_t worst[CRL_SHOW_WORST_MAX],
        have = crl_report_worst(r, worst, n < CRL_SHOW_WORST_MAX ? n : CRL_SHOW_WORST_MAX);
    json_t *list = json_array();

    for (size_t i = 0; i < have; i++) {
        char name[CRL_NAME_MAX];
        crl_weight_name(&s->weight[worst[i]], name);
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "tensor", name, "relative_rms",
                                              crl_show_real(crl_misfit_rms(&r->row[worst[i]].misfit)),
                                              "max_error", crl_show_real(r->row[worst[i]].misfit.most)));
    }
    return list;
}
