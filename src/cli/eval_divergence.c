/* eval_divergence.c - corral eval divergence. */
#include "cli/eval_text.h"

#include "eval/divergence.h"

enum { REFERENCE = 1, SEED };

static const struct crl_option options[] = {
    { "reference", "FILE.crr", "what `corral eval reference` wrote; text and windows are in it", REFERENCE },
    CRL_EVAL_BATCH_OPTION,
    { "seed", "S", "of the bootstrap (default 20260101)", SEED },
    CRL_EVAL_OPTIONS,
    { 0 },
};

static const struct crl_usage usage = {
    .command = "eval divergence",
    .operands = "MODEL --reference FILE.crr",
    .about = "Compare what a model predicts with a reference run of the same model in another form: divergence of\n"
             "the next-token distributions, agreement of best tokens and of routers, with confidence intervals.",
    .option = options,
    .more = crl_model_options,
};

static int run(int argc, char **argv)
{
    struct crl_eval_text_args a = { .model = { 0 } };
    const char *reference = NULL;
    struct crl_engine *e = NULL;
    struct crl_result *r = NULL;
    struct crl_err err = { "" };
    enum crl_status st;
    struct crl_cli c;
    unsigned long long n;
    int id, code;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        if (id == REFERENCE) reference = c.value;
        else if (id != SEED) {
            if (!crl_eval_text_option(&a, &c, id)) return CRL_EXIT_MISUSED;
        } else {
            if (!crl_cli_number(&c, "seed", 1, INT64_MAX, &n)) return CRL_EXIT_MISUSED;
            a.text.seed = n;
        }
    }
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (!reference) return crl_cli_misused(&usage, "--reference FILE.crr is needed");
    if (!crl_eval_text_ready(&a, &c, false)) return CRL_EXIT_MISUSED;
    st = crl_model_open(&e, &usage, &a.model, &err);
    if (!st) st = crl_eval_divergence(&r, e, reference, &a.text, &err);
    code = crl_eval_text_end(&a, &usage, r, st, &err);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_eval_cmd_divergence = { "divergence", "how far a model is from a reference run", run };
