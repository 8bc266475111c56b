/* recipe.c - which format each matrix is kept in. */
#include "store/schema.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#define N(a) (sizeof(a) / sizeof *(a))

/* The embedding table of q4 stays in 8 bits: one row of it is read per token, so it costs no speed, and when
 * the model is tied it is the head as well, the matrix whose errors show most directly. Of `balanced`, 8 bits
 * have the classes whose 4-bit errors did most harm per weight (docs/quality.md, "Sensitivity"). */
static const struct {
    const char *name;
    enum crl_format general, embed, sensitive, vision;
} recipes[] = {
    { "bf16", CRL_BF16, CRL_BF16, CRL_BF16, CRL_BF16 },
    { "q8", CRL_Q8, CRL_Q8, CRL_Q8, CRL_Q8 },
    { "q4", CRL_Q4, CRL_Q8, CRL_Q4, CRL_Q8 },
    { "balanced", CRL_Q4, CRL_Q8, CRL_Q8, CRL_Q8 },
};

static bool is_sensitive(enum crl_kind kind)
{
    return kind == CRL_KIND_HEAD || kind == CRL_KIND_Q || kind == CRL_KIND_K || kind == CRL_KIND_V ||
           kind == CRL_KIND_O || kind == CRL_KIND_SHARED_DOWN || kind == CRL_KIND_DENSE_DOWN;
}

/* The vision tower is 0.8% of Scout and is not read for text, so 8 bits are its least by default; the patches, whose
 * inputs are pixels, stay as they are. */
static enum crl_format choose(size_t recipe, enum crl_kind kind)
{
    if (kind == CRL_KIND_V_PATCH) return CRL_BF16;
    if (crl_kind_is_vision(kind)) return recipes[recipe].vision;
    if (is_sensitive(kind)) return recipes[recipe].sensitive;
    return kind == CRL_KIND_EMBED ? recipes[recipe].embed : recipes[recipe].general;
}

static enum crl_status start(struct crl_recipe *r, const char *name, struct crl_err *err)
{
    size_t i = 0;

    while (i < N(recipes) && strcmp(name, recipes[i].name)) i++;
    if (i == N(recipes)) return crl_fail(err, CRL_ERANGE, "recipe \"%.64s\" is none of bf16, q8, q4, balanced", name);
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", name);
    for (int kind = 1; kind < CRL_KIND_END; kind++) {
        enum crl_format f = choose(i, kind);
        if (!crl_kind_takes(kind, f)) f = crl_kind_takes(kind, CRL_F32) ? CRL_F32 : CRL_BF16;
        r->format[kind] = f;
    }
    return CRL_OK;
}

static enum crl_status add_override(struct crl_recipe *r, const char *text, struct crl_err *err)
{
    const char *eq = strrchr(text, '=');
    struct crl_override *o = &r->override[r->n_override];
    enum crl_format f;

    if (r->n_override == N(r->override))
        return crl_fail(err, CRL_ERANGE, "override \"%.160s\" is one too many, at most %zu are kept", text,
                        N(r->override));
    if (!eq || eq == text)
        return crl_fail(err, CRL_ERANGE, "override \"%.160s\" does not read GLOB=FORMAT", text);
    if ((size_t)(eq - text) >= sizeof o->glob)
        return crl_fail(err, CRL_ERANGE, "override \"%.160s\": the pattern is longer than %zu bytes", text,
                        sizeof o->glob - 1);
    if (!crl_format_parse(eq + 1, &f) || f == CRL_F32)
        return crl_fail(err, CRL_ERANGE, "override \"%.160s\": the format is none of bf16, q8, q4", text);
    memcpy(o->glob, text, (size_t)(eq - text));
    o->glob[eq - text] = 0;
    o->format = f;
    r->n_override++;
    return CRL_OK;
}

enum crl_status crl_recipe_parse(struct crl_recipe *r, const char *name, const char *const *override,
                                 size_t n, struct crl_err *err)
{
    struct crl_recipe made;
    enum crl_status st = start(&made, name, err);

    for (size_t i = 0; !st && i < n; i++) st = add_override(&made, override[i], err);
    if (!st) *r = made;
    return st;
}

static bool glob_is(const char *glob, const char *name)
{
    char prefixed[CRL_NAME_MAX + 64];

    if (!fnmatch(glob, name, 0)) return true;
    snprintf(prefixed, sizeof prefixed, "language_model.%s", name);
    return !fnmatch(glob, prefixed, 0);
}

/* Does the glob name this matrix, by its packed name or one that its weights have in checkpoints? */
static bool glob_matches(const char *glob, const struct crl_weight *w)
{
    static const char tail[] = "gate_up_proj.weight";
    char name[CRL_NAME_MAX], alias[CRL_NAME_MAX + 32];
    size_t len, stem;

    crl_weight_name(w, name);
    if (glob_is(glob, name)) return true;
    if (w->expert >= 0) {
        snprintf(alias, sizeof alias, "model.layers.%d.feed_forward.experts.%s", (int)w->layer,
                 w->kind == CRL_KIND_EXPERT_DOWN ? "down_proj" : "gate_up_proj");
        if (glob_is(glob, alias)) return true;
    }
    len = strlen(name);
    if (len < sizeof tail || strcmp(name + len - (sizeof tail - 1), tail)) return false;
    stem = len - (sizeof tail - 1);
    snprintf(alias, sizeof alias, "%.*sgate_proj.weight", (int)stem, name);
    if (glob_is(glob, alias)) return true;
    snprintf(alias, sizeof alias, "%.*sup_proj.weight", (int)stem, name);
    return glob_is(glob, alias);
}

static bool is_free(enum crl_kind kind)
{
    return crl_kind_takes(kind, CRL_Q8);
}

enum crl_status crl_recipe_check(const struct crl_recipe *r, const struct crl_schema *s, struct crl_err *err)
{
    char name[CRL_NAME_MAX];

    for (size_t i = 0; i < r->n_override; i++) {
        const struct crl_override *o = &r->override[i];
        const struct crl_weight *fixed = NULL;
        bool decides = false;

        for (size_t j = 0; !decides && j < s->n_weight; j++) {
            if (!glob_matches(o->glob, &s->weight[j])) continue;
            if (is_free(s->weight[j].kind)) decides = true;
            else if (!fixed) fixed = &s->weight[j];
        }
        if (decides) continue;
        if (!fixed)
            return crl_fail(err, CRL_ERANGE, "override \"%s=%s\" matches no tensor of this model", o->glob,
                            crl_format_name(o->format));
        crl_weight_name(fixed, name);
        return crl_fail(err, CRL_ERANGE,
                        "override \"%s=%s\" matches %s, which is always kept in %s, and nothing else",
                        o->glob, crl_format_name(o->format), name, crl_format_name(r->format[fixed->kind]));
    }
    return CRL_OK;
}

enum crl_format crl_recipe_format(const struct crl_recipe *r, const struct crl_weight *w)
{
    if (is_free(w->kind))
        for (size_t i = r->n_override; i-- > 0;)
            if (glob_matches(r->override[i].glob, w)) return r->override[i].format;
    return r->format[w->kind];
}

enum crl_status crl_recipe_totals(const struct crl_recipe *r, const struct crl_schema *s,
                                  struct crl_totals *t, struct crl_err *err)
{
    enum crl_format *format = crl_alloc(s->n_weight, sizeof *format);
    enum crl_status st;

    if (!format) return crl_fail(err, CRL_ENOMEM, "no memory for %zu formats", s->n_weight);
    for (size_t i = 0; i < s->n_weight; i++) format[i] = crl_recipe_format(r, &s->weight[i]);
    st = crl_schema_totals(s, format, t, err);
    crl_free(format);
    return st;
}
