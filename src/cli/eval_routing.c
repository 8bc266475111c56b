/* eval_routing.c - corral eval routing. */
#include "cli/eval_text.h"

#include "base/file.h"
#include "base/mem.h"
#include "eval/routing.h"

#include <string.h>

enum { OUTPUT = 1 };

static const struct crl_option options[] = {
    { "output", "FILE.json", "write counts per expert, and of pairs, to a file", OUTPUT },
    CRL_EVAL_TEXT_OPTIONS,
    CRL_EVAL_OPTIONS,
    { 0 },
};

static const struct crl_usage usage = {
    .command = "eval routing",
    .operands = "MODEL --text FILE",
    .about = "Count which experts the tokens of a text go to, which experts follow one another in consecutive\n"
             "layers, and which are used together by 16 consecutive tokens.",
    .option = options,
    .more = crl_model_options,
};

static enum crl_status write_counts(const json_t *counts, const char *path, struct crl_err *err)
{
    char *text = crl_json_text(counts);
    enum crl_status st = text ? crl_file_write(path, text, strlen(text), err)
                              : crl_fail(err, CRL_ENOMEM, "no memory for the counts");

    crl_free(text);
    return st;
}

static int run(int argc, char **argv)
{
    struct crl_eval_text_args a = { .model = { 0 } };
    const char *output = NULL;
    struct crl_engine *e = NULL;
    struct crl_result *r = NULL;
    json_t *counts = NULL;
    struct crl_err err = { "" };
    enum crl_status st;
    struct crl_cli c;
    int id, code;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        if (id == OUTPUT) output = c.value;
        else if (!crl_eval_text_option(&a, &c, id)) return CRL_EXIT_MISUSED;
    }
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (a.text.stride) return crl_cli_misused(&usage, "--stride: every token is counted once");
    if (!crl_eval_text_ready(&a, &c, true)) return CRL_EXIT_MISUSED;
    st = crl_model_open(&e, &usage, &a.model, &err);
    if (!st) st = crl_eval_routing(&r, output ? &counts : NULL, e, &a.text, &err);
    if (!st && output) st = write_counts(counts, output, &err);
    json_decref(counts);
    code = crl_eval_text_end(&a, &usage, r, st, &err);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_eval_cmd_routing = { "routing", "which experts a text uses", run };
