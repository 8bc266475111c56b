/* main.c - corral <command> [options]. */
#define _GNU_SOURCE
#include "config.h"

#include "cli/commands.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* In the order in which a user meets them. */
static const struct crl_command *const commands[] = {
    &crl_cmd_convert,
    &crl_cmd_calibrate,
    &crl_cmd_verify,
    &crl_cmd_export,
    &crl_cmd_info,
    &crl_cmd_run,
    &crl_cmd_chat,
    &crl_cmd_tokenize,
    &crl_cmd_logits,
    &crl_cmd_eval,
    &crl_cmd_report,
    &crl_cmd_bench,
    &crl_cmd_plan,
    &crl_cmd_doctor,
};
#define N_COMMAND (sizeof commands / sizeof commands[0])

static const struct crl_command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMAND; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static void print_overview(FILE *f)
{
    fputs("usage: corral <command> [options]\n\ncommands:\n", f);
    for (size_t i = 0; i < N_COMMAND; i++)
        fprintf(f, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs("  help       describe a command: corral help <command>\n\n"
          "  --version  print the version and exit\n",
          f);
}

static int unknown(const char *name)
{
    fprintf(stderr, "corral: unknown command \"%s\"; `corral help` lists them\n", name);
    return CRL_EXIT_MISUSED;
}

/* `sub` is the second word of "help eval perplexity", or NULL. */
static int help(const char *name, char *sub)
{
    const struct crl_command *c = name ? find(name) : NULL;
    char *argv[] = { (char *)"", sub ? sub : (char *)"--help", (char *)"--help", NULL };

    if (!name || strcmp(name, "help") == 0) {
        print_overview(stdout);
        return CRL_EXIT_DONE;
    }
    if (!c) return unknown(name);
    return c->run(sub ? 3 : 2, argv);
}

static int dispatch(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    const struct crl_command *c;

    if (!name) {
        print_overview(stderr);
        return CRL_EXIT_MISUSED;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL);
    if (strcmp(name, "--version") == 0) {
        puts(PACKAGE_STRING);
        return CRL_EXIT_DONE;
    }
    c = find(name);
    return c ? c->run(argc - 1, argv + 1) : unknown(name);
}

int main(int argc, char **argv)
{
    signal(SIGXFSZ,
           SIG_IGN); /* a file at its limit is an error of write() that names the file, not a death */
    return crl_cli_finish(argc > 1 ? argv[1] : "help", dispatch(argc, argv));
}
