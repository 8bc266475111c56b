/* pretok.h - cutting text into pieces by a regular expression. The door to PCRE2 (internal to src/text).
 *
 * Matches of the pattern are pieces, and so are the stretches between them (the "isolated" split). `\s` and
 * `\S` outside brackets and `\s` inside them mean Unicode White_Space, as in the engines of the reference
 * tokenizers; PCRE2's own `\s` also takes U+180E. The Unicode version is that of the PCRE2 library.
 *
 * The compiled pattern is immutable and shared; a scan belongs to one thread. */
#ifndef CRL_TEXT_PRETOK_H
#define CRL_TEXT_PRETOK_H

#include "base/status.h"

#define CRL_PRETOK_PATTERN_MAX 65536 /* bytes */

struct crl_pretok;

/* CRL_EFORMAT with PCRE2's reason when the pattern does not compile; CRL_EUNSUPPORTED when it can match the
 * empty string or uses set operations inside brackets, which PCRE2 reads differently. */
enum crl_status crl_pretok_new(struct crl_pretok **out, const char *pattern, size_t len, struct crl_err *err);
void crl_pretok_free(struct crl_pretok *p);

struct crl_scan;

enum crl_status crl_scan_new(struct crl_scan **out, const struct crl_pretok *p, struct crl_err *err);
void crl_scan_free(struct crl_scan *s);

/* Take a new subject, whole and valid UTF-8, borrowed until the next call. Nothing before it is looked at. */
void crl_scan_set(struct crl_scan *s, const char *text, size_t len);

/* The next piece, at least one byte; *piece is NULL after the last. CRL_ERANGE when the pattern needs more
 * steps than any sound split pattern does on a text of this length. */
enum crl_status crl_scan_next(struct crl_scan *s, const char **piece, size_t *len, struct crl_err *err);

#endif
