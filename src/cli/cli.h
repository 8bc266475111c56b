/* cli.h - what all commands share: the table they stand in, their options, and how they speak.
 *
 * stdout carries the result, stderr everything else. A command is a function from its arguments to an exit
 * code; it describes its options in a table, from which both the parser and the help text come. */
#ifndef CRL_CLI_CLI_H
#define CRL_CLI_CLI_H

#include "base/json.h"
#include "base/status.h"

#include <stdio.h>

enum crl_exit {
    CRL_EXIT_DONE = 0,
    CRL_EXIT_FAILED = 1,
    CRL_EXIT_MISUSED = 2,
    CRL_EXIT_DIFFERENT = 3,
    CRL_EXIT_INTERRUPTED = 130
};

/* One command; main.c lists them all. argv[0] is the command's name. */
struct crl_command {
    const char *name;
    const char *summary; /* one line for `corral help` */
    int (*run)(int argc, char **argv);
};

/* One long option. A table ends with name NULL. --help needs no row. */
struct crl_option {
    const char *name;  /* "jobs" */
    const char *value; /* "N", or NULL for a switch */
    const char *help;  /* what it does; '\n' starts a further line */
    int id;            /* given back by crl_cli_next; above 0 */
};

struct crl_usage {
    const char *command;  /* "convert" */
    const char *operands; /* "CHECKPOINT OUT.crl" */
    const char *about;    /* a paragraph */
    const struct crl_option *option;
    const struct crl_option *more; /* a second table shared by several commands, or NULL */
};

#define CRL_CLI_OPTIONS_MAX 64

/* Walks over the options of one command line. */
struct crl_cli {
    const struct crl_usage *usage;
    int argc;
    char **argv;
    int exit_code;     /* what to return when crl_cli_next says stop */
    const char *value; /* of the option just found, NULL for a switch */
    int n_operand;     /* after the last option */
    char **operand;
};

void crl_cli_init(struct crl_cli *c, const struct crl_usage *usage, int argc, char **argv);

/* The next option's id; CRL_CLI_DONE after the last one, operand is then set; CRL_CLI_STOP when help was
 * printed or a mistake reported: return exit_code. Options and operands may be mixed; "--" ends the options.
 */
#define CRL_CLI_DONE 0
#define CRL_CLI_STOP (-1)
int crl_cli_next(struct crl_cli *c);

/* "corral: convert: option --jobs: ..." on stderr; returns CRL_EXIT_MISUSED. */
int crl_cli_misused(const struct crl_usage *u, const char *fmt, ...) CRL_PRINTF(2, 3);

/* The option's value as a number in [lo, hi]; false after a message. `name` is the option's. */
bool crl_cli_number(const struct crl_cli *c, const char *name, unsigned long long lo, unsigned long long hi,
                    unsigned long long *out);

/* The same for a size in bytes: a number with k, M, G or T (powers of 1000) or Ki, Mi, Gi, Ti (of 1024)
 * behind it, and B if one likes. */
bool crl_cli_size(const struct crl_cli *c, const char *name, unsigned long long *out);

/* "corral: convert: SENTENCE" on stderr, control characters made visible; returns the exit code of the
 * status. */
int crl_cli_fail(const struct crl_usage *u, enum crl_status st, const struct crl_err *err);

/* A remark on stderr: "corral: convert: note: ..." */
void crl_cli_note(const struct crl_usage *u, const char *fmt, ...) CRL_PRINTF(2, 3);

/* Print a document as one line on stdout and release it. Exit code. NULL (memory ran out while it was built)
 * fails. */
int crl_cli_json(const struct crl_usage *u, json_t *doc);

/* stdout is flushed and was written completely; otherwise a message, and CRL_EXIT_FAILED in place of `code`.
 */
int crl_cli_finish(const char *command, int code);

/* From here on the first SIGINT or SIGTERM only sets what crl_cli_interrupted tells; a second one kills. */
void crl_cli_catch_interrupt(void);
bool crl_cli_interrupted(void);

/* "1.23 GB" and "1.23 G": three digits, powers of 1000. Return `text`. */
#define CRL_CLI_TEXT 32
const char *crl_cli_bytes(char text[CRL_CLI_TEXT], double bytes);
const char *crl_cli_count(char text[CRL_CLI_TEXT], double n);
/* "45 s", "3 min 20 s", "2 h 5 min" */
const char *crl_cli_time(char text[CRL_CLI_TEXT], double seconds);

#endif
