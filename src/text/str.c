/* str.c - the growing byte string. */
#include "text/str.h"

#include "base/mem.h"

enum crl_status crl_str_add(struct crl_str *str, const void *bytes, size_t len, struct crl_err *err)
{
    enum crl_status st;

    if (len >= CRL_STR_MAX - str->len)
        return crl_fail(err, CRL_EFULL, "a text of more than %zu bytes", (size_t)CRL_STR_MAX);
    st = crl_grow((void **)&str->s, &str->cap, str->len + len + 1, 1, CRL_STR_MAX, err);
    if (st) return st;
    if (len) memcpy(str->s + str->len, bytes, len);
    str->len += len;
    str->s[str->len] = '\0';
    return CRL_OK;
}

void crl_str_fini(struct crl_str *str)
{
    crl_free(str->s);
    memset(str, 0, sizeof *str);
}
