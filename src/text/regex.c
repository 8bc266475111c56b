/* regex.c - searching and replacing on PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include "base/mem.h"

#include <pcre2.h>
#include <stdint.h>

struct crl_regex {
    pcre2_code *code;
};

static void *pcre_malloc(size_t n, void *unused)
{
    (void)unused;
    return crl_alloc(n, 1);
}

static void pcre_free(void *p, void *unused)
{
    (void)unused;
    crl_free(p);
}

/* PCRE2's reason as a sentence about a text. */
static enum crl_status say(int rc, size_t len, struct crl_err *err)
{
    char why[128] = "";

    if (rc == PCRE2_ERROR_NOMEMORY) return crl_fail(err, CRL_ENOMEM, "no memory to search text");
    pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
    if (rc <= PCRE2_ERROR_UTF8_ERR1 && rc >= PCRE2_ERROR_UTF8_ERR21)
        return crl_fail(err, CRL_EFORMAT, "text is not UTF-8: %s", why);
    return crl_fail(err, CRL_ERANGE, "searching text of %zu bytes: %s", len, why);
}

static enum crl_status compile(pcre2_code **out, const char *pattern, uint32_t options, struct crl_err *err)
{
    pcre2_general_context *gc = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    pcre2_compile_context *cc = gc ? pcre2_compile_context_create(gc) : NULL;
    PCRE2_SIZE at = 0;
    int code = 0;

    *out = NULL;
    if (cc)
        *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                             options | PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, cc);
    pcre2_compile_context_free(cc);
    pcre2_general_context_free(gc);
    if (*out) return CRL_OK;
    if (!cc || code == PCRE2_ERROR_HEAP_FAILED) return crl_fail(err, CRL_ENOMEM, "no memory for a pattern");
    {
        char why[128] = "";

        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return crl_fail(err, CRL_EFORMAT, "pattern \"%.80s\", byte %zu: %s", pattern, (size_t)at, why);
    }
}

enum crl_status crl_regex_new(struct crl_regex **out, const char *pattern, unsigned flags,
                              struct crl_err *err)
{
    uint32_t options =
        (flags & CRL_REGEX_CASELESS ? PCRE2_CASELESS : 0) | (flags & CRL_REGEX_DOTALL ? PCRE2_DOTALL : 0);
    struct crl_regex *r;
    uint32_t groups = 0;
    enum crl_status st;

    *out = NULL;
    if (strlen(pattern) > CRL_REGEX_PATTERN_MAX)
        return crl_fail(err, CRL_ERANGE, "a pattern of %zu bytes, at most %d are accepted", strlen(pattern),
                        CRL_REGEX_PATTERN_MAX);
    r = crl_alloc(1, sizeof *r);
    if (!r) return crl_fail(err, CRL_ENOMEM, "no memory for a pattern");
    st = compile(&r->code, pattern, options, err);
    if (!st) {
        pcre2_pattern_info(r->code, PCRE2_INFO_CAPTURECOUNT, &groups);
        if (groups >= CRL_REGEX_GROUPS)
            st = crl_fail(err, CRL_ERANGE, "pattern \"%.80s\" has %u groups, at most %d are supported",
                          pattern, groups, CRL_REGEX_GROUPS - 1);
        else pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* where there is none the interpreter does it */
    }
    if (st) {
        crl_regex_free(r);
        return st;
    }
    *out = r;
    return CRL_OK;
}

void crl_regex_free(struct crl_regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    crl_free(r);
}

/* What one search needs, for as long as it lasts. */
struct search {
    pcre2_match_data *match;
    pcre2_match_context *ctx;
};

static void search_end(struct search *s)
{
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->ctx);
}

static enum crl_status search_begin(struct search *s, size_t len, struct crl_err *err)
{
    pcre2_general_context *gc = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);

    s->match = gc ? pcre2_match_data_create(CRL_REGEX_GROUPS, gc) : NULL;
    s->ctx = gc ? pcre2_match_context_create(gc) : NULL;
    pcre2_general_context_free(gc);
    if (!s->match || !s->ctx) {
        search_end(s);
        return crl_fail(err, CRL_ENOMEM, "no memory to search text");
    }
    pcre2_set_match_limit(s->ctx, len < UINT32_MAX >> 9 ? (uint32_t)(100000 + 256 * len) : UINT32_MAX);
    return CRL_OK;
}

enum crl_status crl_regex_find(const struct crl_regex *r, const char *text, size_t len, size_t at,
                               struct crl_span group[CRL_REGEX_GROUPS], bool *found, struct crl_err *err)
{
    struct search s;
    enum crl_status st = search_begin(&s, len, err);
    const PCRE2_SIZE *v;
    int rc;

    *found = false;
    memset(group, 0, CRL_REGEX_GROUPS * sizeof *group);
    if (st) return st;
    rc = pcre2_match(r->code, (PCRE2_SPTR)(text ? text : ""), len, at, 0, s.match, s.ctx);
    v = pcre2_get_ovector_pointer(s.match);
    *found = rc > 0;
    for (int i = 0; i < rc && i < CRL_REGEX_GROUPS; i++)
        if (v[2 * i] != PCRE2_UNSET) group[i] = (struct crl_span){ v[2 * i], v[2 * i + 1] };
    search_end(&s);
    return rc >= 0 || rc == PCRE2_ERROR_NOMATCH ? CRL_OK : say(rc, len, err);
}

enum crl_status crl_regex_last(const struct crl_regex *r, const char *text, size_t len,
                               struct crl_span group[CRL_REGEX_GROUPS], bool *found, struct crl_err *err)
{
    struct crl_span g[CRL_REGEX_GROUPS];
    size_t at = 0;
    bool more = true;

    *found = false;
    memset(group, 0, CRL_REGEX_GROUPS * sizeof *group);
    while (more && at <= len) {
        enum crl_status st = crl_regex_find(r, text, len, at, g, &more, err);
        if (st) return st;
        if (!more) break;
        *found = true;
        memcpy(group, g, sizeof g);
        at = g[0].to;
        if (g[0].to != g[0].from) continue;
        do at++; /* an empty match: go on behind the next character */
        while (at < len && ((unsigned char)text[at] & 0xc0) == 0x80);
    }
    return CRL_OK;
}

static enum crl_status substitute(const pcre2_code *code, const char *text, size_t len, const char *by,
                                  uint32_t options, struct crl_str *out, struct crl_err *err)
{
    PCRE2_SIZE size = len + 64, room = size;
    PCRE2_SPTR from = (PCRE2_SPTR)(text ? text : "");
    char *buffer = crl_alloc(size, 1);
    struct search s;
    enum crl_status st = search_begin(&s, len, err);
    int rc;

    if (st || !buffer) {
        if (!st) search_end(&s);
        crl_free(buffer);
        return st ? st : crl_fail(err, CRL_ENOMEM, "no memory to search text");
    }
    options |= PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_OVERFLOW_LENGTH;
    rc = pcre2_substitute(code, from, len, 0, options, s.match, s.ctx, (PCRE2_SPTR)by, PCRE2_ZERO_TERMINATED,
                          (PCRE2_UCHAR *)buffer, &size);
    if (rc == PCRE2_ERROR_NOMEMORY && size > room) { /* size now says what is needed */
        crl_free(buffer);
        buffer = size <= CRL_STR_MAX ? crl_alloc(size, 1) : NULL;
        if (buffer)
            rc = pcre2_substitute(code, from, len, 0, options, s.match, s.ctx, (PCRE2_SPTR)by,
                                  PCRE2_ZERO_TERMINATED, (PCRE2_UCHAR *)buffer, &size);
    }
    st = rc < 0 ? say(rc, len, err) : crl_str_add(out, buffer, size, err);
    search_end(&s);
    crl_free(buffer);
    return st;
}

enum crl_status crl_regex_replace(const struct crl_regex *r, const char *text, size_t len, const char *by,
                                  struct crl_str *out, struct crl_err *err)
{
    return substitute(r->code, text, len, by, 0, out, err);
}

enum crl_status crl_text_lower(const char *text, size_t len, struct crl_str *out, struct crl_err *err)
{
    pcre2_code *code;
    enum crl_status st = compile(&code, "[\\p{Lu}\\p{Lt}]+", 0, err);

    if (st) return st;
    st = substitute(code, text, len, "\\L$0", PCRE2_SUBSTITUTE_EXTENDED, out, err);
    pcre2_code_free(code);
    return st;
}
