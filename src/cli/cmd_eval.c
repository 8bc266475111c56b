/* cmd_eval.c - corral eval SUBCOMMAND: the table of evaluators. */
#include "cli/commands.h"

#include "cli/eval.h"

#include <string.h>

/* In the order of the help. One row per eval_<name>.c; ends with NULL. */
static const struct crl_command *const evaluators[] = {
    &crl_eval_cmd_perplexity,
    &crl_eval_cmd_reference,
    &crl_eval_cmd_divergence,
    &crl_eval_cmd_routing,
    &crl_eval_cmd_choice,
    &crl_eval_cmd_generate,
    &crl_eval_cmd_suite,
    &crl_eval_cmd_compare,
    NULL,
};

static const struct crl_usage usage = { .command = "eval" };

static void print_overview(FILE *f)
{
    fputs("usage: corral eval SUBCOMMAND [options] MODEL\n\n"
          "Measure the quality of a model, with the uncertainty of every figure.\n\nsubcommands:\n",
          f);
    for (size_t i = 0; evaluators[i]; i++) fprintf(f, "  %-12s %s\n", evaluators[i]->name, evaluators[i]->summary);
    fputs("\n`corral help eval SUBCOMMAND` describes one.\n", f);
}

static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (!name) {
        print_overview(stderr);
        return CRL_EXIT_MISUSED;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_overview(stdout);
        return CRL_EXIT_DONE;
    }
    for (size_t i = 0; evaluators[i]; i++)
        if (strcmp(evaluators[i]->name, name) == 0) return evaluators[i]->run(argc - 1, argv + 1);
    return crl_cli_misused(&usage, "unknown subcommand \"%s\"", name);
}

const struct crl_command crl_cmd_eval = { "eval", "measure the quality of a model", run };
