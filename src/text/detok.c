/* detok.c - ids to text, holding back characters that are not complete. */
#include "text/tok_impl.h"
#include "text/utf8.h"

void crl_detok_init(struct crl_detok *d, const struct crl_tok *tok, unsigned flags)
{
    memset(d, 0, sizeof *d);
    d->tok = tok;
    d->flags = flags;
}

enum crl_status crl_detok_end(struct crl_detok *d, struct crl_str *out, struct crl_err *err)
{
    bool held = d->n_held > 0;

    d->n_held = 0;
    return held ? crl_str_puts(out, CRL_UTF8_BAD, err) : CRL_OK;
}

/* Append bytes[0..len) as text. Runs of whole characters go out in one piece. */
static enum crl_status put_valid(struct crl_detok *d, const unsigned char *p, size_t len, struct crl_str *out,
                                 struct crl_err *err)
{
    const unsigned char *good = p, *end = p + len;
    enum crl_status st = CRL_OK;
    size_t used = 0;

    for (; p < end && !st; p += used) {
        enum crl_utf8 what = crl_utf8_step(p, (size_t)(end - p), &used);

        if (what == CRL_UTF8_OK) continue;
        st = crl_str_add(out, good, (size_t)(p - good), err);
        good = p + used;
        if (what == CRL_UTF8_SHORT) {
            memcpy(d->held, p, used);
            d->n_held = (unsigned)used;
        } else if (!st) {
            st = crl_str_puts(out, CRL_UTF8_BAD, err);
        }
    }
    return st ? st : crl_str_add(out, good, (size_t)(end - good), err);
}

static enum crl_status put_bytes(struct crl_detok *d, const unsigned char *p, size_t len, struct crl_str *out,
                                 struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    /* complete what waits, one byte at a time: it takes three at most */
    while (d->n_held && len) {
        unsigned char join[4];
        enum crl_utf8 what;
        size_t used;

        memcpy(join, d->held, d->n_held);
        join[d->n_held] = *p;
        what = crl_utf8_step(join, d->n_held + 1, &used);
        if (what == CRL_UTF8_ERR) { /* the new byte does not continue it and is looked at again on its own */
            st = crl_detok_end(d, out, err);
            if (st) return st;
            break;
        }
        d->held[d->n_held++] = *p++;
        len--;
        if (what == CRL_UTF8_OK) {
            used = d->n_held;
            d->n_held = 0;
            st = crl_str_add(out, join, used, err);
            if (st) return st;
        }
    }
    return len ? put_valid(d, p, len, out, err) : CRL_OK;
}

enum crl_status crl_detok_push(struct crl_detok *d, int32_t id, struct crl_str *out, struct crl_err *err)
{
    size_t len;
    const unsigned char *b = crl_tok_bytes(d->tok, id, &len);
    enum crl_status st;

    if (b && !crl_tok_is_special(d->tok, id)) return put_bytes(d, b, len, out, err);
    st = crl_detok_end(d, out, err);
    if (st) return st;
    if (!b) return crl_str_puts(out, CRL_UTF8_BAD, err);
    return d->flags & CRL_DETOK_NAMES ? crl_str_add(out, b, len, err) : CRL_OK;
}

enum crl_status crl_tok_decode(const struct crl_tok *tok, const int32_t *ids, size_t n, unsigned flags,
                               struct crl_str *out, struct crl_err *err)
{
    struct crl_detok d;
    enum crl_status st = CRL_OK;
    size_t i;

    crl_detok_init(&d, tok, flags);
    for (i = 0; i < n && !st; i++) st = crl_detok_push(&d, ids[i], out, err);
    return st ? st : crl_detok_end(&d, out, err);
}
