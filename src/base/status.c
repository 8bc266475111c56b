/* status.c - names of statuses and the one sentence of an error. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

const char *crl_status_name(enum crl_status st)
{
    static const char *const name[] = {
        [CRL_OK] = "ok",
        [CRL_ENOMEM] = "out of memory",
        [CRL_EIO] = "input/output error",
        [CRL_ENOENT] = "not found",
        [CRL_EFORMAT] = "malformed",
        [CRL_EUNSUPPORTED] = "unsupported",
        [CRL_ERANGE] = "out of range",
        [CRL_EFULL] = "full",
        [CRL_EDIFFER] = "different",
        [CRL_EINTR] = "interrupted",
    };

    return (size_t)st < sizeof name / sizeof *name ? name[st] : "unknown status";
}

enum crl_status crl_fail(struct crl_err *err, enum crl_status st, const char *fmt, ...)
{
    va_list ap;

    if (err && !err->text[0]) {
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return st;
}

void crl_err_prefix(struct crl_err *err, const char *fmt, ...)
{
    char old[sizeof err->text];
    va_list ap;
    int n;

    if (!err || !err->text[0]) return;
    memcpy(old, err->text, sizeof old);
    va_start(ap, fmt);
    n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n < 0) n = 0;
    if ((size_t)n >= sizeof err->text) return;
    snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", old);
}
