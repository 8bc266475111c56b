/* utf8.h - one step through bytes that may or may not be UTF-8 (internal to src/text).
 *
 * Errors are cut as the Unicode standard recommends (section 3.9, "maximal subpart"): a sequence is given up
 * at the first byte that cannot continue it, and each part given up counts as one U+FFFD. */
#ifndef CRL_TEXT_UTF8_H
#define CRL_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRL_UTF8_BAD "\xef\xbf\xbd" /* U+FFFD */

enum crl_utf8 {
    CRL_UTF8_OK,   /* a whole character */
    CRL_UTF8_ERR,  /* a maximal invalid subpart */
    CRL_UTF8_SHORT /* the start of a character, cut off by the end of the bytes */
};

/* Look at p[0..n), n > 0. *used: bytes of the character, subpart or start, 1 to 4. */
static inline enum crl_utf8 crl_utf8_step(const unsigned char *p, size_t n, size_t *used)
{
    unsigned char c = p[0], lo = 0x80, hi = 0xbf; /* bounds of the second byte, table 3-7 of the standard */
    size_t want, i;

    *used = 1;
    if (c < 0x80) return CRL_UTF8_OK;
    if (c < 0xc2 || c > 0xf4) return CRL_UTF8_ERR;
    want = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (c == 0xe0) lo = 0xa0;
    if (c == 0xed) hi = 0x9f;
    if (c == 0xf0) lo = 0x90;
    if (c == 0xf4) hi = 0x8f;
    for (i = 1; i < want; i++) {
        if (i == n) return CRL_UTF8_SHORT;
        if (p[i] < lo || p[i] > hi) return CRL_UTF8_ERR;
        lo = 0x80;
        hi = 0xbf;
        *used = i + 1;
    }
    return CRL_UTF8_OK;
}

/* The code point of a whole character of `used` bytes. */
static inline uint32_t crl_utf8_code(const unsigned char *p, size_t used)
{
    if (used == 1) return p[0];
    if (used == 2) return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    if (used == 3) return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    return (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
           (p[3] & 0x3f);
}

/* Writes 1 to 4 bytes; code is at most 0x10ffff and no surrogate. */
static inline size_t crl_utf8_put(unsigned char out[4], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (unsigned char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (unsigned char)(0xc0 | code >> 6);
        out[1] = (unsigned char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (unsigned char)(0xe0 | code >> 12);
        out[1] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (unsigned char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (unsigned char)(0xf0 | code >> 18);
    out[1] = (unsigned char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (unsigned char)(0x80 | (code & 0x3f));
    return 4;
}

static inline bool crl_utf8_valid(const void *text, size_t len)
{
    const unsigned char *p = text;
    size_t used;

    for (; len; p += used, len -= used)
        if (crl_utf8_step(p, len, &used) != CRL_UTF8_OK) return false;
    return true;
}

#endif
