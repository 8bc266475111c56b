/* str.h - a byte string that grows. Zeroed storage is the empty string; crl_str_fini releases and empties it.
 * The bytes may hold zeros; one zero byte always follows the last. A failed append leaves the string as it
 * was. */
#ifndef CRL_TEXT_STR_H
#define CRL_TEXT_STR_H

#include "base/status.h"

#include <string.h>

#define CRL_STR_MAX ((size_t)1 << 31) /* bytes any one string may hold */

struct crl_str {
    char *s;    /* NULL while nothing was appended */
    size_t len; /* bytes without the closing zero */
    size_t cap;
};

enum crl_status crl_str_add(struct crl_str *str, const void *bytes, size_t len, struct crl_err *err);
void crl_str_fini(struct crl_str *str);

static inline enum crl_status crl_str_puts(struct crl_str *str, const char *s, struct crl_err *err)
{
    return crl_str_add(str, s, strlen(s), err);
}

#endif
