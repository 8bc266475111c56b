/* cmd_info.c - corral info: what a packed file or a checkpoint is. */
#include "cli/commands.h"

#include "base/file.h"
#include "cli/show.h"
#include "convert/info.h"

#include <string.h>

enum { TENSORS = 1, AS_JSON };

static const struct crl_option options[] = {
    { "tensors", NULL, "list every tensor", TENSORS },
    { "json", NULL, "print one JSON object", AS_JSON },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "info",
    .operands = "MODEL.crl|CHECKPOINT",
    .about = "Say what a model is: architecture, weights in total and per token, sizes, and how each class "
             "of tensors is\n"
             "kept. Nothing but headers is read.",
    .option = options,
};

struct args {
    const char *model;
    bool tensors, json;
};

/* --- packed files
 * ----------------------------------------------------------------------------------------------- */

static json_t *pack_tensors_json(const struct crl_pack *pack)
{
    const struct crl_schema *s = crl_pack_schema(pack);
    json_t *list = json_array();

    for (size_t i = 0; i < s->n_weight; i++) {
        const struct crl_weight *w = &s->weight[i];
        char name[CRL_NAME_MAX];
        crl_weight_name(w, name);
        json_array_append_new(list, json_pack("{s:s, s:[I, I], s:s, s:I, s:I}", "tensor", name, "shape",
                                              (json_int_t)w->n_real, (json_int_t)w->k, "format",
                                              crl_format_name(crl_pack_format(pack, i)), "offset",
                                              (json_int_t)(crl_pack_extent(pack, w->extent)->offset +
                                                           crl_pack_weight_offset(pack, i)),
                                              "bytes", (json_int_t)crl_pack_weight_bytes(pack, i)));
    }
    return list;
}

static json_t *sections_json(const struct crl_pack *pack)
{
    json_t *o = json_object();

    for (int k = 1; k < CRL_SECTION_END; k++) {
        size_t len;
        if (crl_pack_section(pack, (enum crl_section)k, &len))
            json_object_set_new(o, crl_section_name((enum crl_section)k), json_integer((json_int_t)len));
    }
    return o;
}

static void print_pack_tensors(const struct crl_pack *pack)
{
    const struct crl_schema *s = crl_pack_schema(pack);

    printf("\n%-70s %-16s %-6s %14s %12s\n", "tensor", "shape", "format", "offset", "bytes");
    for (size_t i = 0; i < s->n_weight; i++) {
        const struct crl_weight *w = &s->weight[i];
        char name[CRL_NAME_MAX], shape[32];
        crl_weight_name(w, name);
        snprintf(shape, sizeof shape, "[%u, %u]", w->n_real, w->k);
        printf(
            "%-70s %-16s %-6s %14llu %12llu\n", name, shape, crl_format_name(crl_pack_format(pack, i)),
            (unsigned long long)(crl_pack_extent(pack, w->extent)->offset + crl_pack_weight_offset(pack, i)),
            (unsigned long long)crl_pack_weight_bytes(pack, i));
    }
}

static int print_pack(const struct args *a, const struct crl_pack *pack, const struct crl_info *info)
{
    char t[3][CRL_CLI_TEXT];

    printf("%s: packed file, recipe %s, %s\n\n", a->model, crl_pack_recipe(pack),
           crl_cli_bytes(t[0], (double)crl_pack_size(pack)));
    crl_show_config(crl_pack_config(pack));
    printf("weights       %s in all, %s active per token\n", crl_cli_count(t[0], (double)info->totals.params),
           crl_cli_count(t[1], (double)info->totals.params_active));
    printf("per token     %s of weights read, %.3g bits each\n",
           crl_cli_bytes(t[0], (double)info->totals.bytes_read),
           8.0 * (double)info->totals.bytes_read /
               (double)(info->totals.params_read ? info->totals.params_read : 1));
    printf("sections     ");
    for (int k = 1; k < CRL_SECTION_END; k++) {
        size_t len;
        if (crl_pack_section(pack, (enum crl_section)k, &len))
            printf(" %s", crl_section_name((enum crl_section)k));
    }
    printf("\n\n");
    crl_show_classes(info, false);
    if (a->tensors) print_pack_tensors(pack);
    return CRL_EXIT_DONE;
}

static int info_pack(const struct args *a, const struct crl_pack *pack)
{
    struct crl_info info;
    struct crl_err err = { "" };
    json_t *doc;
    enum crl_status st = crl_info_pack(&info, pack, NULL, &err);

    if (st) return crl_cli_fail(&usage, st, &err);
    if (!a->json) return print_pack(a, pack, &info);
    doc = json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:o}", "model", a->model, "kind", "packed", "recipe",
                    crl_pack_recipe(pack), "file_bytes", (json_int_t)crl_pack_size(pack), "config",
                    crl_show_config_json(crl_pack_config(pack)), "totals", crl_show_totals_json(&info.totals),
                    "sections", sections_json(pack), "classes", crl_show_classes_json(&info, false));
    if (a->tensors) json_object_set_new(doc, "tensors", pack_tensors_json(pack));
    return crl_cli_json(&usage, doc);
}

/* --- checkpoints
 * ------------------------------------------------------------------------------------------------ */

static json_t *ckpt_tensors_json(const struct crl_ckpt *ck, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        const char *file;
        const struct crl_st_tensor *t = crl_ckpt_tensor(ck, i, &file);
        json_t *shape = json_array();
        for (size_t d = 0; d < t->n_dim && d < CRL_ST_DIMS; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->dim[d]));
        json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:s, s:I, s:I}", "tensor", t->name, "shape",
                                              shape, "type", t->type_name, "file", file, "offset",
                                              (json_int_t)t->offset, "bytes", (json_int_t)t->bytes));
    }
    return list;
}

static void print_ckpt_tensors(const struct crl_ckpt *ck, size_t n)
{
    printf("\n%-70s %-20s %-8s %12s\n", "tensor", "shape", "type", "bytes");
    for (size_t i = 0; i < n; i++) {
        const struct crl_st_tensor *t = crl_ckpt_tensor(ck, i, NULL);
        char shape[CRL_ST_SHAPE_TEXT];
        printf("%-70s %-20s %-8s %12llu\n", t->name, crl_st_shape_text(shape, sizeof shape, t->n_dim, t->dim),
               t->type_name, (unsigned long long)t->bytes);
    }
}

static void print_ckpt(const struct args *a, const struct crl_ckpt *ck, const struct crl_ckpt_facts *f,
                       const struct crl_totals *totals)
{
    static const char *const type[] = { "other types", "BF16", "F16", "F32", "F8_E4M3", "I8", "I32", "I64" };
    const struct crl_notes *notes = crl_ckpt_notes(ck);
    char t[2][CRL_CLI_TEXT];

    printf("%s: checkpoint of %zu file%s, %s\n\n", a->model, f->n_file, f->n_file == 1 ? "" : "s",
           crl_cli_bytes(t[0], (double)f->bytes));
    crl_show_config(crl_ckpt_config(ck));
    printf("weights       %s in all, %s active per token\n", crl_cli_count(t[0], (double)totals->params),
           crl_cli_count(t[1], (double)totals->params_active));
    printf("tensors       %zu", f->n_tensor);
    for (size_t i = 0; i < sizeof type / sizeof type[0]; i++)
        if (f->type_bytes[i]) printf(", %s in %s", crl_cli_bytes(t[0], (double)f->type_bytes[i]), type[i]);
    if (f->n_vision)
        printf("; %zu of the vision tower (%s)", f->n_vision, crl_cli_bytes(t[0], (double)f->vision_bytes));
    putchar('\n');
    for (unsigned i = 0; i < notes->n; i++) printf("note          %s\n", notes->text[i]);
    if (a->tensors) print_ckpt_tensors(ck, f->n_tensor);
}

static int info_ckpt(const struct args *a, const struct crl_ckpt *ck)
{
    const struct crl_notes *n = crl_ckpt_notes(ck);
    struct crl_totals totals;
    struct crl_ckpt_facts f;
    struct crl_err err = { "" };
    json_t *doc, *notes;
    enum crl_status st = crl_schema_totals(crl_ckpt_schema(ck), NULL, &totals, &err);

    if (st) return crl_cli_fail(&usage, st, &err);
    crl_ckpt_facts(ck, &f);
    if (!a->json) {
        print_ckpt(a, ck, &f, &totals);
        return CRL_EXIT_DONE;
    }
    notes = json_array();
    for (unsigned i = 0; i < n->n; i++) json_array_append_new(notes, json_string(n->text[i]));
    doc = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:{s:I, s:I, s:I, s:I}, s:o}", "model", a->model,
                    "kind", "checkpoint", "files", (json_int_t)f.n_file, "file_bytes", (json_int_t)f.bytes,
                    "tensor_count", (json_int_t)f.n_tensor, "vision_bytes", (json_int_t)f.vision_bytes,
                    "config", crl_show_config_json(crl_ckpt_config(ck)), "totals", "weights",
                    (json_int_t)totals.params, "weights_active", (json_int_t)totals.params_active,
                    "weights_read", (json_int_t)totals.params_read, "weights_routed",
                    (json_int_t)totals.params_routed, "notes", notes);
    if (a->tensors) json_object_set_new(doc, "tensors", ckpt_tensors_json(ck, f.n_tensor));
    return crl_cli_json(&usage, doc);
}

/* A folder, a weight file or an index is a checkpoint; whatever else there is should be a packed file. */
static bool is_checkpoint(const char *path)
{
    size_t n = strlen(path);

    return crl_file_is_dir(path) || (n > 4 && strcmp(path + n - 4, ".pth") == 0) ||
           (n > 12 && strcmp(path + n - 12, ".safetensors") == 0) ||
           (n > 11 && strcmp(path + n - 11, ".index.json") == 0);
}

static int run(int argc, char **argv)
{
    struct args a = { 0 };
    struct crl_cli c;
    struct crl_pack *pack = NULL;
    struct crl_ckpt *ck = NULL;
    struct crl_err err = { "" };
    enum crl_status st;
    int id, code;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        if (id == TENSORS) a.tensors = true;
        if (id == AS_JSON) a.json = true;
    }
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (c.n_operand != 1) return crl_cli_misused(&usage, "one packed file or checkpoint is needed");
    a.model = c.operand[0];
    if (is_checkpoint(a.model)) st = crl_ckpt_open(&ck, a.model, &err);
    else st = crl_pack_open(&pack, a.model, &err);
    if (st) code = crl_cli_fail(&usage, st, &err);
    else code = ck ? info_ckpt(&a, ck) : info_pack(&a, pack);
    crl_ckpt_close(ck);
    crl_pack_close(pack);
    return code;
}

const struct crl_command crl_cmd_info = { "info", "say what a .crl file or checkpoint is", run };
