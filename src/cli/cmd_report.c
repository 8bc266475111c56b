/* cmd_report.c - corral report: a history as a page. */
#include "cli/commands.h"

#include "base/file.h"
#include "eval/report.h"

#include <stdlib.h>

enum { OUTPUT = 1, SUITE, RUNS, WORST };

static const struct crl_option options[] = {
    { "output", "FILE.html", "where to write the page", OUTPUT },
    { "suite", "NAME", "runs of this suite (default: that of the last run)", SUITE },
    { "runs", "N", "most runs shown, the last ones (default 60)", RUNS },
    { "worst", "N", "items listed per evaluation (default 10)", WORST },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "report",
    .operands = "HISTORY.sqlite",
    .about = "Write the history of evaluations as one HTML page that needs no scripts and no other files: "
             "the verdict on\n"
             "the last run, its figures beside the baseline's, trends with intervals, speed, experts, the "
             "worst items.",
    .option = options,
};

static int run(int argc, char **argv)
{
    struct crl_report_options o = { .runs = 0 };
    struct crl_str page = { NULL, 0, 0 };
    struct crl_history *h = NULL;
    struct crl_err err = { "" };
    const char *output = NULL;
    unsigned long long n;
    enum crl_status st;
    struct crl_cli c;
    int id;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        if (id == OUTPUT) output = c.value;
        else if (id == SUITE) o.suite = c.value;
        else if (!crl_cli_number(&c, id == RUNS ? "runs" : "worst", 1, 1000, &n)) return CRL_EXIT_MISUSED;
        else if (id == RUNS) o.runs = (size_t)n;
        else o.worst = (size_t)n;
    }
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (c.n_operand != 1) return crl_cli_misused(&usage, "one history is needed");
    if (!output) return crl_cli_misused(&usage, "--output FILE.html is needed");
    st = crl_history_open(&h, c.operand[0], false, &err);
    if (!st) st = crl_report_html(h, &o, &page, &err);
    if (!st) st = crl_file_write(output, page.s, page.len, &err);
    crl_str_fini(&page);
    crl_history_close(h);
    return st ? crl_cli_fail(&usage, st, &err) : CRL_EXIT_DONE;
}

const struct crl_command crl_cmd_report = { "report", "write a history of evaluations as a page", run };
