/* status.h - how library functions report success and failure.
 *
 * Rules common to the whole tree, stated once:
 *  - A function that can fail returns an enum crl_status; CRL_OK is 0.
 *  - On failure it leaves one sentence in the caller's struct crl_err: which file, which tensor, what was found,
 *    what was expected. The first message stands; outer layers may put a prefix before it.
 *  - `err` may be NULL when the caller does not care for the sentence.
 *  - Library code never prints, exits or aborts.
 *  - Output arguments are left NULL or untouched on failure.
 *  - close and free functions accept NULL and half-built objects. */
#ifndef CRL_BASE_STATUS_H
#define CRL_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(__GNUC__)
#define CRL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CRL_PRINTF(fmt, args)
#endif

enum crl_status {
    CRL_OK = 0,
    CRL_ENOMEM,       /* an allocation was refused */
    CRL_EIO,          /* the operating system failed a read, write, map or rename */
    CRL_ENOENT,       /* a file, tensor or key is not there */
    CRL_EFORMAT,      /* the content of a file breaks its format */
    CRL_EUNSUPPORTED, /* well formed, but nothing this program handles */
    CRL_ERANGE,       /* an argument or field is outside its range */
    CRL_EFULL,        /* a context, buffer or disk has no room left */
    CRL_EDIFFER,      /* a comparison found a difference */
    CRL_EINTR         /* the user asked to stop */
};

struct crl_err {
    char text[512]; /* empty: nothing reported yet */
};

/* Fixed English name of a status, never NULL. */
const char *crl_status_name(enum crl_status st);

/* Set the sentence unless one stands already; returns st, so that `return crl_fail(...)` reads well. */
enum crl_status crl_fail(struct crl_err *err, enum crl_status st, const char *fmt, ...) CRL_PRINTF(3, 4);

/* Put "prefix: " before a standing sentence; does nothing when there is none. */
void crl_err_prefix(struct crl_err *err, const char *fmt, ...) CRL_PRINTF(2, 3);

#endif
