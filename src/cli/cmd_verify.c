/* cmd_verify.c - corral verify: is a packed file whole, and is it what its checkpoint gives? */
#include "cli/commands.h"

#include "cli/progress.h"
#include "cli/show.h"
#include "convert/verify.h"

#include <string.h>

enum { AGAINST = 1, CALIBRATION, JOBS, TENSORS, AS_JSON, QUIET };

static const struct crl_option options[] = {
    { "against", "CHECKPOINT",
      "derive every tensor again and compare; without it the file's own hashes\nare checked", AGAINST },
    { "calibration", "STATS.crs", "with --against: the statistics the file was packed by", CALIBRATION },
    { "tensors", NULL, "with --against: error of every tensor, not only of the worst", TENSORS },
    { "jobs", "N", "threads (default: one per usable core)", JOBS },
    { "json", NULL, "print the result as one JSON object", AS_JSON },
    { "quiet", NULL, "no progress", QUIET },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "verify",
    .operands = "MODEL.crl",
    .about = "Read a packed file completely and compare its hashes; or compare it with the checkpoint it "
             "came from.\n"
             "The exit code is 0 when all is equal and 3 when there is a difference.",
    .option = options,
};

struct args {
    const char *model, *against, *calibration;
    unsigned jobs;
    bool tensors, json, quiet;
    struct crl_progress progress;
    const struct crl_schema *schema;
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
        case AGAINST:
            a->against = c.value;
            break;
        case CALIBRATION:
            a->calibration = c.value;
            break;
        case JOBS:
            if (!crl_cli_number(&c, "jobs", 1, CRL_TEAM_MAX, &n)) return false;
            a->jobs = (unsigned)n;
            break;
        case TENSORS:
            a->tensors = true;
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
    if (c.n_operand == 1) {
        a->model = c.operand[0];
        return true;
    }
    *code = crl_cli_misused(&usage, "one packed file is needed");
    return false;
}

/* --- hashes
 * ----------------------------------------------------------------------------------------------------- */

static bool on_bytes(void *ctx, uint64_t done, uint64_t total)
{
    struct args *a = ctx;

    crl_progress_show(&a->progress, done, total, NULL);
    return !crl_cli_interrupted();
}

static int verify_hashes(struct args *a, const struct crl_pack *pack)
{
    struct crl_team *team = NULL;
    struct crl_err err = { "" };
    char t[CRL_CLI_TEXT];
    enum crl_status st = crl_team_new(&team, a->jobs, false, &err);
    int code = CRL_EXIT_DONE;

    crl_progress_init(&a->progress, "B", a->quiet);
    if (!st) st = crl_pack_verify(pack, team, on_bytes, a, &err);
    crl_progress_end(&a->progress);
    crl_team_free(team);
    if (st) code = crl_cli_fail(&usage, st, &err);
    if (a->json && (!st || st == CRL_EDIFFER)) {
        int printed = crl_cli_json(&usage, json_pack("{s:s, s:I, s:b, s:s}", "model", a->model, "file_bytes",
                                                     (json_int_t)crl_pack_size(pack), "whole", !st, "message",
                                                     err.text));
        return printed ? printed : code;
    }
    if (!st)
        printf("%s: %s, all hashes are right\n", a->model, crl_cli_bytes(t, (double)crl_pack_size(pack)));
    return code;
}

/* --- against a checkpoint
 * --------------------------------------------------------------------------------------- */

static bool on_weights(void *ctx, uint64_t done, uint64_t total, size_t weight)
{
    struct args *a = ctx;
    char name[CRL_NAME_MAX];

    if (crl_progress_due(&a->progress)) {
        crl_weight_name(&a->schema->weight[weight], name);
        crl_progress_show(&a->progress, done, total, name);
    }
    return !crl_cli_interrupted();
}

static json_t *tensors_json(const struct crl_pack *pack, const struct crl_report *r, bool all)
{
    json_t *list = json_array();

    for (size_t i = 0; i < r->n_weight; i++) {
        char name[CRL_NAME_MAX];
        if (!all && !r->row[i].differs) continue;
        crl_weight_name(&crl_pack_schema(pack)->weight[i], name);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:o, s:o, s:b}", "tensor", name, "format",
                                        crl_format_name(crl_pack_format(pack, i)), "relative_rms",
                                        crl_show_real(crl_misfit_rms(&r->row[i].misfit)), "max_error",
                                        crl_show_real(r->row[i].misfit.most), "equal", !r->row[i].differs));
    }
    return list;
}

static json_t *sections_json(const struct crl_verify_report *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < CRL_SECTION_END; i++)
        if (r->section_differs[i])
            json_array_append_new(list, json_string(crl_section_name((enum crl_section)i)));
    return list;
}

static void print_tensors(const struct crl_pack *pack, const struct crl_report *r, bool all)
{
    bool titled = false;

    for (size_t i = 0; i < r->n_weight; i++) {
        char name[CRL_NAME_MAX];
        if (!all && !r->row[i].differs) continue;
        if (!titled) printf("\n%-70s %-6s %10s  %9s\n", "tensor", "format", "rel. error", "max error");
        titled = true;
        crl_weight_name(&crl_pack_schema(pack)->weight[i], name);
        printf("%-70s %-6s %10.3g  %9.3g%s\n", name, crl_format_name(crl_pack_format(pack, i)),
               crl_misfit_rms(&r->row[i].misfit), (double)r->row[i].misfit.most,
               r->row[i].differs ? "  differs" : "");
    }
}

static int show_against(const struct args *a, const struct crl_pack *pack, const struct crl_verify_report *r,
                        const struct crl_err *err)
{
    struct crl_info info;
    struct crl_err e = { "" };
    enum crl_status st = crl_info_pack(&info, pack, &r->report, &e);

    if (st) return crl_cli_fail(&usage, st, &e);
    if (a->json)
        return crl_cli_json(&usage,
                            json_pack("{s:s, s:s, s:b, s:s, s:I, s:I, s:f, s:o, s:o, s:o, s:o}", "model",
                                      a->model, "checkpoint", a->against, "equal", !err->text[0], "message",
                                      err->text, "tensors_compared", (json_int_t)r->report.n_weight,
                                      "tensors_different", (json_int_t)r->n_differ, "seconds",
                                      r->report.seconds, "classes", crl_show_classes_json(&info, true),
                                      "worst", crl_show_worst_json(crl_pack_schema(pack), &r->report, 10),
                                      "tensors", tensors_json(pack, &r->report, a->tensors),
                                      "sections_different", sections_json(r)));
    crl_show_classes(&info, true);
    if (!a->tensors) crl_show_worst(crl_pack_schema(pack), &r->report, 5);
    print_tensors(pack, &r->report, a->tensors);
    if (!err->text[0]) printf("\n%s: every byte is that of a fresh conversion of %s\n", a->model, a->against);
    return CRL_EXIT_DONE;
}

static int verify_against(struct args *a, const struct crl_pack *pack)
{
    struct crl_convert_options opt = { .jobs = a->jobs, .progress = on_weights, .ctx = a };
    struct crl_verify_report report;
    struct crl_ckpt *ck = NULL;
    struct crl_calib *calib = NULL;
    struct crl_err err = { "" };
    enum crl_status st = crl_ckpt_open(&ck, a->against, &err);
    int code = CRL_EXIT_DONE, shown = CRL_EXIT_DONE;

    memset(&report, 0, sizeof report);
    a->schema = crl_pack_schema(pack);
    crl_progress_init(&a->progress, "weights", a->quiet);
    if (!st && a->calibration) st = crl_convert_calibration(&calib, ck, a->calibration, &err);
    opt.calib = calib;
    if (!st) st = crl_verify_against(pack, ck, &opt, &report, &err);
    crl_progress_end(&a->progress);
    if (report.report.row && (!st || st == CRL_EDIFFER)) shown = show_against(a, pack, &report, &err);
    if (st) code = crl_cli_fail(&usage, st, &err);
    crl_verify_report_free(&report);
    crl_calib_close(calib);
    crl_ckpt_close(ck);
    return code ? code : shown;
}

static int run(int argc, char **argv)
{
    struct args a = { 0 };
    struct crl_pack *pack;
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    crl_cli_catch_interrupt();
    st = crl_pack_open(&pack, a.model, &err);
    if (st) return crl_cli_fail(&usage, st, &err);
    code = a.against ? verify_against(&a, pack) : verify_hashes(&a, pack);
    crl_pack_close(pack);
    return code;
}

const struct crl_command crl_cmd_verify = { "verify", "check a .crl file, or compare it with its checkpoint",
                                            run };
