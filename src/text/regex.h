/* regex.h - patterns of this program and of its users on PCRE2: searching with groups, replacing, lower case.
 * (The tokenizer's split pattern has rules of its own: pretok.h.)
 *
 * Patterns and texts are UTF-8 and classes such as \s, \d and \b mean Unicode's. A text that is not UTF-8 is
 * CRL_EFORMAT. A compiled pattern never changes: any number of threads may use it. */
#ifndef CRL_TEXT_REGEX_H
#define CRL_TEXT_REGEX_H

#include "base/status.h"
#include "text/str.h"

#define CRL_REGEX_PATTERN_MAX 4096 /* bytes */
#define CRL_REGEX_GROUPS 8         /* the whole match and seven groups */

struct crl_regex;

enum crl_regex_flags {
    CRL_REGEX_PLAIN = 0,
    CRL_REGEX_CASELESS = 1,
    CRL_REGEX_DOTALL = 2 /* a dot also matches a line feed */
};

/* CRL_EFORMAT with PCRE2's reason when the pattern does not compile; CRL_ERANGE for too many groups. */
enum crl_status crl_regex_new(struct crl_regex **out, const char *pattern, unsigned flags,
                              struct crl_err *err);
void crl_regex_free(struct crl_regex *r);

/* Bytes of the text from `from` to before `to`; a group that took no part is empty at 0. */
struct crl_span {
    size_t from, to;
};

/* The first match that begins at or after byte `at`; *found false when there is none, groups are then all
 * empty. CRL_ERANGE when the search takes far more steps than the text has bytes. */
enum crl_status crl_regex_find(const struct crl_regex *r, const char *text, size_t len, size_t at,
                               struct crl_span group[CRL_REGEX_GROUPS], bool *found, struct crl_err *err);

/* The last of the matches that lie one behind the other. */
enum crl_status crl_regex_last(const struct crl_regex *r, const char *text, size_t len,
                               struct crl_span group[CRL_REGEX_GROUPS], bool *found, struct crl_err *err);

/* Append the text with every match replaced by `by`, in which $1 to $7 are the groups and $$ is a dollar. */
enum crl_status crl_regex_replace(const struct crl_regex *r, const char *text, size_t len, const char *by,
                                  struct crl_str *out, struct crl_err *err);

/* Append the text in lower case, character by character as Unicode's simple mapping has it. */
enum crl_status crl_text_lower(const char *text, size_t len, struct crl_str *out, struct crl_err *err);

#endif
