/* cmd_export.c - corral export: a packed file becomes a checkpoint that other programs read. */
#include "cli/commands.h"

#include "cli/progress.h"
#include "convert/export.h"

#include <string.h>

enum { FORMAT = 1, SHARD_SIZE, JOBS, AS_JSON, QUIET };

static const struct crl_option options[] = {
    { "format", "NAME", "safetensors, the only one and the default", FORMAT },
    { "shard-size", "SIZE", "begin another file before one grows past this (default: 5G)", SHARD_SIZE },
    { "jobs", "N", "threads (default: one per usable core)", JOBS },
    { "json", NULL, "print the report as one JSON object", AS_JSON },
    { "quiet", NULL, "no progress and no notes", QUIET },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "export",
    .operands = "MODEL.crl FOLDER",
    .about = "Write the weights of a packed file as BF16 in Hugging Face layout, so that other programs can "
             "run or\n"
             "measure what the packing made of them. The text model alone, without the tokenizer's files.",
    .option = options,
};

struct args {
    struct crl_export_options opt;
    bool json, quiet;
    const char *model, *folder;
    struct crl_progress progress;
};

static bool parse(struct args *a, int argc, char **argv, int *code)
{
    struct crl_cli c;
    unsigned long long n = 0;
    int id;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        *code = CRL_EXIT_MISUSED;
        switch (id) {
        case FORMAT:
            if (strcmp(c.value, "safetensors") == 0) break;
            crl_cli_misused(&usage, "option --format: \"%s\" is not safetensors", c.value);
            return false;
        case SHARD_SIZE:
            if (!crl_cli_size(&c, "shard-size", &n)) return false;
            a->opt.shard_bytes = n;
            break;
        case JOBS:
            if (!crl_cli_number(&c, "jobs", 1, CRL_TEAM_MAX, &n)) return false;
            a->opt.jobs = (unsigned)n;
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
    if (c.n_operand == 2) {
        a->model = c.operand[0];
        a->folder = c.operand[1];
        return true;
    }
    *code = crl_cli_misused(&usage, "a packed file and a folder for the result are needed");
    return false;
}

static bool on_bytes(void *ctx, uint64_t done, uint64_t total)
{
    struct args *a = ctx;

    crl_progress_show(&a->progress, done, total, NULL);
    return !crl_cli_interrupted();
}

static int show(const struct args *a, const struct crl_export_report *r)
{
    char t[2][CRL_CLI_TEXT];

    if (a->json)
        return crl_cli_json(&usage, json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:b}", "model", a->model,
                                              "folder", a->folder, "tensors", (json_int_t)r->n_tensor,
                                              "files", (json_int_t)r->n_file, "bytes", (json_int_t)r->bytes,
                                              "seconds", r->seconds, "vision_left_out", r->left_out_vision));
    printf("%s: %zu tensors, %s in %zu file%s, in %s\n", a->folder, r->n_tensor,
           crl_cli_bytes(t[0], (double)r->bytes), r->n_file, r->n_file == 1 ? "" : "s",
           crl_cli_time(t[1], r->seconds));
    return CRL_EXIT_DONE;
}

static int run(int argc, char **argv)
{
    struct args a = { .opt = { .progress = on_bytes } };
    struct crl_export_report report;
    struct crl_pack *pack;
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    a.opt.ctx = &a;
    crl_cli_catch_interrupt();
    st = crl_pack_open(&pack, a.model, &err);
    if (st) return crl_cli_fail(&usage, st, &err);
    crl_progress_init(&a.progress, "B", a.quiet);
    st = crl_export(pack, a.folder, &a.opt, &report, &err);
    crl_progress_end(&a.progress);
    crl_pack_close(pack);
    if (!st && report.left_out_vision && !a.quiet) crl_cli_note(&usage, "the vision tower is left out");
    return st ? crl_cli_fail(&usage, st, &err) : show(&a, &report);
}

const struct crl_command crl_cmd_export = { "export", "write a .crl file as a BF16 checkpoint", run };
