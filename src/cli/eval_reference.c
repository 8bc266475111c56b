/* eval_reference.c - corral eval reference. */
#include "cli/eval_text.h"

#include "eval/reference.h"

enum { OUTPUT = 1, BOUND, ENTRIES, DRAWS, SEED };

static const struct crl_option options[] = {
    { "output", "FILE.crr", "where to write the reference", OUTPUT },
    CRL_EVAL_TEXT_OPTIONS,
    { "bound", "NATS", "error a divergence may have where nothing but the kept tokens is known (default 0.0005)", BOUND },
    { "entries", "K", "most tokens kept per position (default 1024)", ENTRIES },
    { "draws", "M", "tokens drawn from the others, to estimate what they add (default 16)", DRAWS },
    { "seed", "S", "of the draws (default 0)", SEED },
    CRL_EVAL_OPTIONS,
    { 0 },
};

static const struct crl_usage usage = {
    .command = "eval reference",
    .operands = "MODEL --text FILE --output FILE.crr",
    .about = "Run a model over a text and keep what it predicts in a compact file, for `corral eval divergence`\n"
             "of other conversions of the same model.",
    .option = options,
    .more = crl_model_options,
};

struct args {
    struct crl_eval_text_args common;
    struct crl_reference_options ref;
};

static bool take(struct args *a, const struct crl_cli *c, int id)
{
    unsigned long long n;
    float bound;

    switch (id) {
    case OUTPUT: a->ref.output = c->value; return true;
    case BOUND:
        if (!crl_cli_real(c, "bound", 1e-7, 0.1, &bound)) return false;
        a->ref.bound = (double)bound;
        return true;
    case ENTRIES:
        if (!crl_cli_number(c, "entries", 1, 65535, &n)) return false;
        a->ref.k_max = (uint32_t)n;
        return true;
    case DRAWS:
        if (!crl_cli_number(c, "draws", 0, 255, &n)) return false;
        a->ref.n_draw = (uint32_t)n;
        return true;
    case SEED:
        if (!crl_cli_number(c, "seed", 0, INT64_MAX, &n)) return false;
        a->common.text.seed = n;
        return true;
    }
    return crl_eval_text_option(&a->common, c, id);
}

static int run(int argc, char **argv)
{
    struct args a = { .ref = { .n_draw = CRL_REFERENCE_DRAWS } };
    struct crl_engine *e = NULL;
    struct crl_result *r = NULL;
    struct crl_err err = { "" };
    enum crl_status st;
    struct crl_cli c;
    int id, code;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0)
        if (!take(&a, &c, id)) return CRL_EXIT_MISUSED;
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (!a.ref.output) return crl_cli_misused(&usage, "--output FILE.crr is needed");
    if (!crl_eval_text_ready(&a.common, &c, true)) return CRL_EXIT_MISUSED;
    a.ref.text = a.common.text;
    st = crl_model_open(&e, &usage, &a.common.model, &err);
    if (!st) st = crl_eval_reference(&r, e, &a.ref, &err);
    code = crl_eval_text_end(&a.common, &usage, r, st, &err);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_eval_cmd_reference = { "reference", "keep a model's predictions for comparisons", run };
