/* eval_perplexity.c - corral eval perplexity. */
#include "cli/eval_text.h"

#include "eval/perplexity.h"

static const struct crl_option options[] = {
    CRL_EVAL_TEXT_OPTIONS,
    CRL_EVAL_OPTIONS,
    { 0 },
};

static const struct crl_usage usage = {
    .command = "eval perplexity",
    .operands = "MODEL --text FILE",
    .about = "Measure how well a model predicts a text: negative log likelihood per token with its standard error,\n"
             "perplexity, bits per byte. Every token is scored once, after as much text as its window holds.",
    .option = options,
    .more = crl_model_options,
};

static int run(int argc, char **argv)
{
    struct crl_eval_text_args a = { .model = { 0 } };
    struct crl_engine *e = NULL;
    struct crl_result *r = NULL;
    struct crl_err err = { "" };
    enum crl_status st;
    struct crl_cli c;
    int id, code;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0)
        if (!crl_eval_text_option(&a, &c, id)) return CRL_EXIT_MISUSED;
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (!crl_eval_text_ready(&a, &c, true)) return CRL_EXIT_MISUSED;
    st = crl_model_open(&e, &usage, &a.model, &err);
    if (!st) st = crl_eval_perplexity(&r, e, &a.text, &err);
    code = crl_eval_text_end(&a, &usage, r, st, &err);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_eval_cmd_perplexity = { "perplexity", "likelihood of a text", run };
