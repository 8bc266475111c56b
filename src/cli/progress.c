/* progress.c - drawing the line. */
#define _GNU_SOURCE
#include "cli/progress.h"

#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define EVERY 0.1 /* seconds between drawings */
#define BAR 20    /* characters */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static unsigned columns(void)
{
    struct winsize w;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20) return w.ws_col;
    return 80;
}

void crl_progress_init(struct crl_progress *p, const char *unit, bool quiet)
{
    memset(p, 0, sizeof *p);
    p->on = !quiet && isatty(STDERR_FILENO);
    p->unit = unit;
    p->start = now();
}

bool crl_progress_due(const struct crl_progress *p)
{
    return p->on && now() - p->last >= EVERY;
}

void crl_progress_show(struct crl_progress *p, uint64_t done, uint64_t total, const char *what)
{
    char line[512], bar[BAR + 1], rate[CRL_CLI_TEXT], left[CRL_CLI_TEXT] = "";
    double t = now(), spent = t - p->start, part = total ? (double)done / (double)total : 1;
    unsigned width = columns();
    size_t n, full;

    if (!p->on || t - p->last < EVERY) return;
    p->last = t;
    p->shown = true;
    full = (size_t)(part * BAR);
    for (size_t i = 0; i < BAR; i++) bar[i] = i < full ? '#' : '.';
    bar[BAR] = 0;
    crl_cli_count(rate, spent > 0 ? (double)done / spent : 0);
    if (done && spent > 0.5) crl_cli_time(left, spent * (1 - part) / part);
    n = (size_t)snprintf(line, sizeof line, "%3.0f%% [%s] %s%s%s/s%s%s%s", 100 * part, bar, rate,
                         strchr(rate, ' ') && !p->unit[1] ? "" : " ", p->unit, left[0] ? ", " : "", left,
                         left[0] ? " left" : "");
    if (what && n < sizeof line) snprintf(line + n, sizeof line - n, "  %s", what);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    fprintf(stderr, "\r\033[K%.*s", (int)(width - 1 < sizeof line ? width - 1 : sizeof line - 1), line);
    fflush(stderr);
}

void crl_progress_end(struct crl_progress *p)
{
    if (!p->shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->shown = false;
}
