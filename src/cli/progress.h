/* progress.h - one line on stderr that says how far long work is: part done, rate, time left, what is at
 * hand. It appears only when stderr is a terminal and the user did not ask for quiet, at most ten times a
 * second, and is gone when the work is. */
#ifndef CRL_CLI_PROGRESS_H
#define CRL_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct crl_progress {
    bool on;
    bool shown;       /* there is a line to wipe away */
    const char *unit; /* "weights", "B" */
    double start;     /* seconds */
    double last;      /* when it was drawn */
};

void crl_progress_init(struct crl_progress *p, const char *unit, bool quiet);

/* `what` may be NULL; only printable text of it appears. */
void crl_progress_show(struct crl_progress *p, uint64_t done, uint64_t total, const char *what);

/* True when a line would be drawn now: lets the caller spare the making of `what`. */
bool crl_progress_due(const struct crl_progress *p);

/* Wipe the line. Call before anything else is printed. */
void crl_progress_end(struct crl_progress *p);

#endif
