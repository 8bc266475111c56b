/* cmd_convert.c - corral convert: a checkpoint becomes a packed file. */
#include "cli/commands.h"

#include "base/file.h"
#include "cli/progress.h"
#include "cli/show.h"
#include "convert/convert.h"

#include <string.h>

enum { RECIPE = 1, TENSOR, CALIBRATION, JOBS, MAX_MEMORY, ALLOW_NONFINITE, RESUME, DELETE_SOURCE, PLAN, AS_JSON, QUIET };

static const struct crl_option options[] = {
    { "recipe", "NAME", "formats of the weights: q4 (default), balanced, q8 or bf16", RECIPE },
    { "tensor", "GLOB=FORMAT", "format of the tensors whose name matches; may be repeated, the last one wins",
      TENSOR },
    { "calibration", "STATS.crs", "pack what becomes q4 by these statistics of `corral calibrate`", CALIBRATION },
    { "jobs", "N", "threads (default: one per usable core)", JOBS },
    { "max-memory", "SIZE",
      "hold no more than this in memory (500M; default 2Gi); less is read ahead then,\nand fewer "
      "threads run",
      MAX_MEMORY },
    { "resume", NULL,
      "go on from what an earlier run of the same conversion left, and leave what is done\nwhen this one "
      "ends early",
      RESUME },
    { "delete-source", NULL,
      "free the checkpoint's disk space as its weights become durable in the result,\nand remove "
      "its weight files at the end; implies --resume for what is left",
      DELETE_SOURCE },
    { "allow-nonfinite", NULL, "take weights that are NaN or infinite as 0 instead of refusing them",
      ALLOW_NONFINITE },
    { "plan", NULL, "only say what would come out and what it takes; OUT.crl may be left out", PLAN },
    { "json", NULL, "print the report as one JSON object", AS_JSON },
    { "quiet", NULL, "no progress and no notes", QUIET },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "convert",
    .operands = "CHECKPOINT OUT.crl",
    .about = "Repack a checkpoint (a folder in Hugging Face layout or with Meta's original files, or a "
             ".safetensors file) into one file that corral runs.\n"
             "The weights are streamed; the file appears under its name when it is complete.",
    .option = options,
};

struct args {
    const char *recipe;
    const char *override[CRL_RECIPE_OVERRIDES];
    size_t n_override;
    struct crl_convert_options opt;
    bool plan, json, quiet;
    const char *calibration; /* NULL: none */
    const char *from, *to; /* to: NULL if absent */
};

/* False: return *code. */
static bool parse(struct args *a, int argc, char **argv, int *code)
{
    struct crl_cli c;
    unsigned long long n = 0;
    int id;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        *code = CRL_EXIT_MISUSED;
        switch (id) {
        case RECIPE:
            a->recipe = c.value;
            break;
        case TENSOR:
            if (a->n_override == CRL_RECIPE_OVERRIDES) {
                crl_cli_misused(&usage, "more than %d options --tensor", CRL_RECIPE_OVERRIDES);
                return false;
            }
            a->override[a->n_override++] = c.value;
            break;
        case CALIBRATION:
            a->calibration = c.value;
            break;
        case JOBS:
            if (!crl_cli_number(&c, "jobs", 1, CRL_TEAM_MAX, &n)) return false;
            a->opt.jobs = (unsigned)n;
            break;
        case MAX_MEMORY:
            if (!crl_cli_size(&c, "max-memory", &n)) return false;
            a->opt.max_memory = n;
            break;
        case ALLOW_NONFINITE:
            a->opt.allow_nonfinite = true;
            break;
        case RESUME:
            a->opt.resume = true;
            break;
        case DELETE_SOURCE:
            a->opt.delete_source = true;
            break;
        case PLAN:
            a->plan = true;
            break;
        case AS_JSON:
            a->json = true;
            break;
        case QUIET:
            a->quiet = true;
            break;
        }
    }
    *code = c.exit_code;
    if (id == CRL_CLI_STOP) return false;
    if (c.n_operand == 2 || (a->plan && c.n_operand == 1)) {
        a->from = c.operand[0];
        a->to = c.n_operand == 2 ? c.operand[1] : NULL;
        return true;
    }
    *code = crl_cli_misused(&usage, "a checkpoint and a name for the result are needed");
    return false;
}

struct watch {
    struct crl_progress progress;
    const struct crl_schema *schema;
};

static bool on_progress(void *ctx, uint64_t done, uint64_t total, size_t weight)
{
    struct watch *w = ctx;
    char name[CRL_NAME_MAX];

    if (crl_progress_due(&w->progress)) {
        crl_weight_name(&w->schema->weight[weight], name);
        crl_progress_show(&w->progress, done, total, name);
    }
    return !crl_cli_interrupted();
}

static json_t *overrides_json(const struct args *a)
{
    json_t *list = json_array();

    for (size_t i = 0; i < a->n_override; i++) json_array_append_new(list, json_string(a->override[i]));
    return list;
}

static json_t *calibration_json(const struct args *a)
{
    return a->calibration ? json_string(a->calibration) : json_null();
}

static json_t *notes_json(const struct crl_ckpt *ck)
{
    const struct crl_notes *n = crl_ckpt_notes(ck);
    json_t *list = json_array();

    for (unsigned i = 0; i < n->n; i++) json_array_append_new(list, json_string(n->text[i]));
    return list;
}

/* --- --plan
 * ----------------------------------------------------------------------------------------------------- */

static int show_plan(const struct args *a, const struct crl_ckpt *ck, const struct crl_recipe *recipe)
{
    struct crl_convert_plan p;
    struct crl_info info;
    struct crl_err err = { "" };
    char t[4][CRL_CLI_TEXT];
    enum crl_status st = crl_convert_estimate(ck, recipe, a->to, &a->opt, &p, &err);

    if (!st) st = crl_info_recipe(&info, crl_ckpt_schema(ck), recipe, NULL, &err);
    if (st) return crl_cli_fail(&usage, st, &err);
    if (a->json)
        return crl_cli_json(&usage, json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:i, s:o, s:o, s:o}",
                                              "checkpoint", a->from, "recipe", recipe->name, "overrides",
                                              overrides_json(a), "calibration", calibration_json(a), "weights",
                                              (json_int_t)p.weights,
                                              "file_bytes", (json_int_t)p.file_bytes, "memory_bytes",
                                              (json_int_t)p.memory_bytes, "disk_free",
                                              a->to ? json_integer((json_int_t)p.disk_free) : json_null(),
                                              "seconds", crl_show_real(p.seconds), "jobs", (int)p.jobs,
                                              "totals", crl_show_totals_json(&info.totals), "classes",
                                              crl_show_classes_json(&info, false), "notes", notes_json(ck)));
    printf("%s, recipe %s\n\n", a->from, recipe->name);
    crl_show_classes(&info, false);
    printf("\nresult        about %s for %s weights (%.3g bits each), %s read per token\n",
           crl_cli_bytes(t[0], (double)p.file_bytes), crl_cli_count(t[1], (double)p.weights),
           8.0 * (double)p.file_bytes / (double)p.weights,
           crl_cli_bytes(t[2], (double)info.totals.bytes_read));
    printf("memory        %s for %u threads\n", crl_cli_bytes(t[0], (double)p.memory_bytes), p.jobs);
    printf("time          at least %s, the disks permitting\n", crl_cli_time(t[0], p.seconds));
    if (a->to)
        printf("disk          %s free, %s\n", crl_cli_bytes(t[0], (double)p.disk_free),
               p.disk_free >= p.file_bytes ? "enough" : "too little");
    return CRL_EXIT_DONE;
}

/* --- the work
 * --------------------------------------------------------------------------------------------------- */

static json_t *nonfinite_json(const struct crl_schema *s, const struct crl_report *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < r->n_weight; i++) {
        char name[CRL_NAME_MAX];
        if (!r->row[i].nonfinite) continue;
        crl_weight_name(&s->weight[i], name);
        json_array_append_new(
            list, json_pack("{s:s, s:I}", "tensor", name, "count", (json_int_t)r->row[i].nonfinite));
    }
    return list;
}

static void note_nonfinite(const struct crl_schema *s, const struct crl_report *r)
{
    for (size_t i = 0; i < r->n_weight; i++) {
        char name[CRL_NAME_MAX];
        if (!r->row[i].nonfinite) continue;
        crl_weight_name(&s->weight[i], name);
        crl_cli_note(&usage, "%s: %llu weights that are NaN or infinite were taken as 0", name,
                     (unsigned long long)r->row[i].nonfinite);
    }
}

static int show_report(const struct args *a, const struct crl_ckpt *ck, const struct crl_recipe *recipe,
                       const struct crl_report *r)
{
    const struct crl_schema *s = crl_ckpt_schema(ck);
    struct crl_info info;
    struct crl_err err = { "" };
    char t[4][CRL_CLI_TEXT];
    enum crl_status st = crl_info_recipe(&info, s, recipe, r, &err);

    if (st) return crl_cli_fail(&usage, st, &err);
    if (a->json)
        return crl_cli_json(
            &usage,
            json_pack("{s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:f, s:i, s:o, s:o, s:o, s:o, s:o}", "checkpoint",
                      a->from, "output", a->to, "recipe", recipe->name, "overrides", overrides_json(a),
                      "calibration", calibration_json(a), "weights", (json_int_t)info.totals.params,
                      "file_bytes", (json_int_t)r->bytes,
                      "weights_resumed", (json_int_t)r->resumed, "seconds", r->seconds, "jobs", (int)r->jobs,
                      "totals", crl_show_totals_json(&info.totals), "classes",
                      crl_show_classes_json(&info, true), "worst", crl_show_worst_json(s, r, 10), "nonfinite",
                      nonfinite_json(s, r), "notes", notes_json(ck)));
    crl_show_classes(&info, true);
    crl_show_worst(s, r, 5);
    printf("\n%s: %s, %s weights, recipe %s, in %s (%s weights/s, %u threads)\n", a->to,
           crl_cli_bytes(t[0], (double)r->bytes), crl_cli_count(t[1], (double)info.totals.params),
           recipe->name, crl_cli_time(t[2], r->seconds),
           crl_cli_count(t[3], (double)(r->weights - r->resumed) / (r->seconds > 0 ? r->seconds : 1)),
           r->jobs);
    return CRL_EXIT_DONE;
}

static int convert(struct args *a, struct crl_ckpt *ck, const struct crl_recipe *recipe)
{
    struct watch watch = { .schema = crl_ckpt_schema(ck) };
    struct crl_report report;
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    crl_progress_init(&watch.progress, "weights", a->quiet);
    a->opt.measure = true;
    a->opt.progress = on_progress;
    a->opt.ctx = &watch;
    crl_cli_catch_interrupt();
    st = crl_convert(ck, recipe, a->to, NULL, &a->opt, &report, &err);
    crl_progress_end(&watch.progress);
    if (!st && !a->quiet && report.resumed)
        crl_cli_note(&usage, "%.0f%% of the weights were taken over from an earlier run",
                     100.0 * (double)report.resumed / (double)report.weights);
    if (!st && !a->quiet) note_nonfinite(watch.schema, &report);
    code = st ? crl_cli_fail(&usage, st, &err) : show_report(a, ck, recipe, &report);
    if (report.kept)
        crl_cli_note(&usage, "what is done is kept in %s.partial; --resume goes on from there", a->to);
    if (st == CRL_EFORMAT && report.n_weight && !a->opt.allow_nonfinite)
        crl_cli_note(&usage, "--allow-nonfinite takes such weights as 0");
    crl_report_free(&report);
    return code;
}

static int run(int argc, char **argv)
{
    struct args a = { .recipe = "q4" };
    struct crl_recipe recipe;
    struct crl_ckpt *ck = NULL;
    struct crl_calib *calib = NULL;
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    st = crl_recipe_parse(&recipe, a.recipe, a.override, a.n_override, &err);
    if (st) return crl_cli_misused(&usage, "%s", err.text);
    if (a.to && !a.plan && crl_file_is_dir(a.to))
        return crl_cli_misused(&usage, "%s is a folder; the name of a file is needed", a.to);
    st = crl_ckpt_open(&ck, a.from, &err);
    if (!st) st = crl_recipe_check(&recipe, crl_ckpt_schema(ck), &err);
    if (!st && a.calibration) st = crl_convert_calibration(&calib, ck, a.calibration, &err);
    a.opt.calib = calib;
    recipe.calibration = calib ? crl_calib_hash(calib) : 0;
    if (st) {
        code = crl_cli_fail(&usage, st, &err);
    } else {
        const struct crl_notes *n = crl_ckpt_notes(ck);
        for (unsigned i = 0; i < n->n && !a.quiet; i++) crl_cli_note(&usage, "%s", n->text[i]);
        code = a.plan ? show_plan(&a, ck, &recipe) : convert(&a, ck, &recipe);
    }
    crl_calib_close(calib);
    crl_ckpt_close(ck);
    return code;
}

const struct crl_command crl_cmd_convert = { "convert", "repack a checkpoint into a .crl file", run };
