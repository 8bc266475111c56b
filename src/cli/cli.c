/* cli.c - options, messages, numbers for people. */
#define _GNU_SOURCE
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* --- messages
 * --------------------------------------------------------------------------------------------------- */

/* Names from files end up in messages: what would move a terminal's cursor is shown as \xNN. UTF-8 passes. */
static void print_safely(FILE *f, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f) fprintf(f, "\\x%02x", c);
        else fputc(c, f);
    }
}

static void say(const char *command, const char *kind, const char *fmt, va_list ap)
{
    char text[1024];

    vsnprintf(text, sizeof text, fmt, ap);
    fflush(stdout);
    fprintf(stderr, "corral: %s: %s", command, kind);
    print_safely(stderr, text);
    fputc('\n', stderr);
}

int crl_cli_misused(const struct crl_usage *u, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(u->command, "", fmt, ap);
    va_end(ap);
    fprintf(stderr, "corral: %s: see `corral help %s`\n", u->command, u->command);
    return CRL_EXIT_MISUSED;
}

void crl_cli_note(const struct crl_usage *u, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(u->command, "note: ", fmt, ap);
    va_end(ap);
}

int crl_cli_fail(const struct crl_usage *u, enum crl_status st, const struct crl_err *err)
{
    fflush(stdout);
    fprintf(stderr, "corral: %s: ", u->command);
    print_safely(stderr, err->text[0] ? err->text : crl_status_name(st));
    fputc('\n', stderr);
    if (st == CRL_EINTR) return CRL_EXIT_INTERRUPTED;
    return st == CRL_EDIFFER ? CRL_EXIT_DIFFERENT : CRL_EXIT_FAILED;
}

int crl_cli_json(const struct crl_usage *u, json_t *doc)
{
    struct crl_err err = { "" };
    bool done = doc && json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;

    json_decref(doc);
    if (!done) {
        crl_fail(&err, CRL_ENOMEM, "cannot write the JSON result");
        return crl_cli_fail(u, CRL_ENOMEM, &err);
    }
    putchar('\n');
    return CRL_EXIT_DONE;
}

int crl_cli_finish(const char *command, int code)
{
    if (!ferror(stdout) && fflush(stdout) == 0) return code;
    fprintf(stderr, "corral: %s: cannot write the result: %s\n", command, strerror(errno));
    return code == CRL_EXIT_DONE ? CRL_EXIT_FAILED : code;
}

/* --- options
 * ---------------------------------------------------------------------------------------------------- */

static void print_options(const struct crl_option *o)
{
    for (; o && o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        printf("  %-26s ", left);
        for (const char *p = o->help; *p; p++) {
            putchar(*p);
            if (*p == '\n') printf("%29s", "");
        }
        putchar('\n');
    }
}

static void print_help(const struct crl_usage *u)
{
    printf("usage: corral %s [options] %s\n\n%s\n\noptions:\n", u->command, u->operands, u->about);
    print_options(u->option);
    print_options(u->more);
    printf("  %-26s %s\n", "--help", "print this and exit");
}

void crl_cli_init(struct crl_cli *c, const struct crl_usage *usage, int argc, char **argv)
{
    memset(c, 0, sizeof *c);
    c->usage = usage;
    c->argc = argc;
    c->argv = argv;
    optind = 0; /* the parser starts anew */
    opterr = 0;
}

#define ID_HELP 0x10000

static size_t fill(struct option *to, size_t n, const struct crl_option *o)
{
    for (; o && o->name && n < CRL_CLI_OPTIONS_MAX; o++)
        to[n++] = (struct option){ o->name, o->value ? required_argument : no_argument, NULL, o->id };
    return n;
}

int crl_cli_next(struct crl_cli *c)
{
    struct option list[CRL_CLI_OPTIONS_MAX + 2];
    size_t n = fill(list, fill(list, 0, c->usage->option), c->usage->more);
    int id, at = optind ? optind : 1;

    list[n] = (struct option){ "help", no_argument, NULL, ID_HELP };
    list[n + 1] = (struct option){ 0 };
    id = getopt_long(c->argc, c->argv, ":h", list, NULL);
    c->value = optarg;
    if (id == -1) {
        c->operand = c->argv + optind;
        c->n_operand = c->argc - optind;
        return CRL_CLI_DONE;
    }
    if (id == ID_HELP || id == 'h') {
        print_help(c->usage);
        c->exit_code = CRL_EXIT_DONE;
        return CRL_CLI_STOP;
    }
    if (id != '?' && id != ':') return id;
    if (id == ':') c->exit_code = crl_cli_misused(c->usage, "option %s needs a value", c->argv[optind - 1]);
    else
        c->exit_code =
            crl_cli_misused(c->usage, "unknown or misused option %s", c->argv[optind > at ? optind - 1 : at]);
    return CRL_CLI_STOP;
}

bool crl_cli_number(const struct crl_cli *c, const char *name, unsigned long long lo, unsigned long long hi,
                    unsigned long long *out)
{
    char *end = NULL;
    unsigned long long v = 0;

    errno = 0;
    if (c->value[0] >= '0' && c->value[0] <= '9') v = strtoull(c->value, &end, 10);
    if (end && !*end && !errno && v >= lo && v <= hi) {
        *out = v;
        return true;
    }
    crl_cli_misused(c->usage, "option --%s: \"%s\" is not a number from %llu to %llu", name, c->value, lo,
                    hi);
    return false;
}

bool crl_cli_size(const struct crl_cli *c, const char *name, unsigned long long *out)
{
    static const char prefix[] = "kMGT";
    char *end = NULL;
    unsigned long long v = 0, unit = 1;

    errno = 0;
    if (c->value[0] >= '0' && c->value[0] <= '9') v = strtoull(c->value, &end, 10);
    if (end && *end && *end != 'B') {
        const char *at = strchr(prefix, *end == 'K' ? 'k' : *end);
        unsigned long long step = end[1] == 'i' ? 1024 : 1000;
        for (const char *p = prefix; at && p <= at; p++) unit *= step;
        end = at ? end + (step == 1024 ? 2 : 1) : NULL;
    }
    if (end && *end == 'B') end++;
    if (end && !*end && !errno && v && v <= ULLONG_MAX / unit) {
        *out = v * unit;
        return true;
    }
    crl_cli_misused(c->usage, "option --%s: \"%s\" is not a size like 500M or 2Gi", name, c->value);
    return false;
}

/* --- interrupts
 * ------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted; /* the one thing that a signal handler can reach */

static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

void crl_cli_catch_interrupt(void)
{
    struct sigaction a = { 0 };

    a.sa_handler = on_signal;
    a.sa_flags = SA_RESETHAND | SA_RESTART;
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

bool crl_cli_interrupted(void)
{
    return interrupted != 0;
}

/* --- numbers
 * ---------------------------------------------------------------------------------------------------- */

static const char *scaled(char *text, double n, const char *unit)
{
    static const char *const prefix[] = { "", "k", "M", "G", "T", "P", "E" };
    size_t i = 0;

    while (fabs(n) >= 999.5 && i + 1 < sizeof prefix / sizeof prefix[0]) {
        n /= 1000;
        i++;
    }
    snprintf(text, CRL_CLI_TEXT, "%.*f%s%s%s",
             i == 0 || n >= 99.95 ? 0
             : n >= 9.995         ? 1
                                  : 2,
             n, prefix[i][0] || unit[0] ? " " : "", prefix[i], unit);
    return text;
}

const char *crl_cli_bytes(char text[CRL_CLI_TEXT], double bytes)
{
    return scaled(text, bytes, "B");
}

const char *crl_cli_count(char text[CRL_CLI_TEXT], double n)
{
    return scaled(text, n, "");
}

const char *crl_cli_time(char text[CRL_CLI_TEXT], double seconds)
{
    unsigned long long s = seconds > 0 && seconds < 1e15 ? (unsigned long long)(seconds + 0.5) : 0;

    if (seconds < 9.95) snprintf(text, CRL_CLI_TEXT, "%.1f s", seconds);
    else if (s < 60) snprintf(text, CRL_CLI_TEXT, "%llu s", s);
    else if (s < 3600) snprintf(text, CRL_CLI_TEXT, "%llu min %llu s", s / 60, s % 60);
    else snprintf(text, CRL_CLI_TEXT, "%llu h %llu min", s / 3600, s / 60 % 60);
    return text;
}
