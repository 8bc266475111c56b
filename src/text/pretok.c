/* pretok.c - the split pattern on PCRE2, with its JIT compiler where the machine has one. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pretok.h"

#include "base/mem.h"
#include "text/str.h"

#include <pcre2.h>
#include <stdbool.h>
#include <stdint.h>

struct crl_pretok {
    pcre2_code *code;
    bool jit;
};

struct crl_scan {
    const struct crl_pretok *pretok;
    pcre2_match_data *match;
    pcre2_match_context *ctx;
    pcre2_jit_stack *stack; /* made when 32 KiB of the thread's own stack are not enough */
    const char *text;
    size_t len, pos;
    size_t from, to; /* the match after pos that is already known; from == to: none is */
};

#define JIT_STACK_MAX ((size_t)16 << 20) /* bytes */
#define WHITE                                                                                                \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"                      \
    "\\x{202f}\\x{205f}\\x{3000}"

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

/* Spell \s and \S out (see the header). In PCRE2 a "]" right after "[" or "[^" is a plain character. */
static enum crl_status spell_white(struct crl_str *out, const char *p, size_t n, struct crl_err *err)
{
    enum crl_status st = CRL_OK;
    bool in = false; /* between brackets */
    size_t i, k;

    for (i = 0; i < n && !st; i += k) {
        k = 1;
        if (p[i] == '\\' && i + 1 < n) {
            k = 2;
            if (p[i + 1] == 'Q') return crl_fail(err, CRL_EUNSUPPORTED, "the split pattern uses \\Q");
            if (p[i + 1] == 's') st = crl_str_puts(out, in ? WHITE : "[" WHITE "]", err);
            else if (p[i + 1] == 'S' && !in) st = crl_str_puts(out, "[^" WHITE "]", err);
            else st = crl_str_add(out, p + i, 2, err);
            continue;
        }
        if (!in && p[i] == '[') {
            in = true;
            if (i + k < n && p[i + k] == '^') k++;
            if (i + k < n && p[i + k] == ']') k++;
        } else if (in && p[i] == ']') {
            in = false;
        } else if (in && (p[i] == '[' || (p[i] == '&' && i + 1 < n && p[i + 1] == '&'))) {
            return crl_fail(err, CRL_EUNSUPPORTED, "the split pattern uses sets within brackets");
        }
        st = crl_str_add(out, p + i, k, err);
    }
    return st;
}

static enum crl_status compile(struct crl_pretok *p, const char *pattern, size_t len, struct crl_err *err)
{
    pcre2_general_context *gc = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    pcre2_compile_context *cc = gc ? pcre2_compile_context_create(gc) : NULL;
    enum crl_status st = CRL_OK;
    PCRE2_SIZE at = 0;
    uint32_t empty = 0;
    int code = 0;

    if (cc)
        p->code = pcre2_compile((PCRE2_SPTR)pattern, len, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                                &code, &at, cc);
    if (!cc || (!p->code && code == PCRE2_ERROR_HEAP_FAILED)) {
        st = crl_fail(err, CRL_ENOMEM, "no memory for the split pattern");
    } else if (!p->code) {
        char why[128] = "";

        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        st = crl_fail(err, CRL_EFORMAT, "split pattern, byte %zu: %s", (size_t)at, why);
    } else {
        pcre2_pattern_info(p->code, PCRE2_INFO_MATCHEMPTY, &empty);
        if (empty) st = crl_fail(err, CRL_EUNSUPPORTED, "the split pattern can match the empty string");
        else p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    }
    pcre2_compile_context_free(cc);
    pcre2_general_context_free(gc);
    return st;
}

enum crl_status crl_pretok_new(struct crl_pretok **out, const char *pattern, size_t len, struct crl_err *err)
{
    struct crl_str spelled = { NULL, 0, 0 };
    struct crl_pretok *p;
    enum crl_status st;

    *out = NULL;
    if (len == 0 || len > CRL_PRETOK_PATTERN_MAX)
        return crl_fail(err, CRL_ERANGE, "a split pattern of %zu bytes, 1 to %d are accepted", len,
                        CRL_PRETOK_PATTERN_MAX);
    p = crl_alloc(1, sizeof *p);
    if (!p) return crl_fail(err, CRL_ENOMEM, "no memory for the split pattern");
    st = spell_white(&spelled, pattern, len, err);
    if (!st) st = compile(p, spelled.s, spelled.len, err);
    crl_str_fini(&spelled);
    if (st) {
        crl_pretok_free(p);
        return st;
    }
    *out = p;
    return CRL_OK;
}

void crl_pretok_free(struct crl_pretok *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    crl_free(p);
}

enum crl_status crl_scan_new(struct crl_scan **out, const struct crl_pretok *p, struct crl_err *err)
{
    pcre2_general_context *gc = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    struct crl_scan *s = crl_alloc(1, sizeof *s);

    *out = NULL;
    if (s && gc) {
        s->pretok = p;
        s->match = pcre2_match_data_create(1, gc); /* only the whole match is wanted */
        s->ctx = pcre2_match_context_create(gc);
    }
    pcre2_general_context_free(gc);
    if (!s || !s->match || !s->ctx) {
        crl_scan_free(s);
        return crl_fail(err, CRL_ENOMEM, "no memory to split text");
    }
    *out = s;
    return CRL_OK;
}

void crl_scan_free(struct crl_scan *s)
{
    if (!s) return;
    pcre2_jit_stack_free(s->stack);
    pcre2_match_context_free(s->ctx);
    pcre2_match_data_free(s->match);
    crl_free(s);
}

void crl_scan_set(struct crl_scan *s, const char *text, size_t len)
{
    uint32_t steps = len < (UINT32_MAX >> 7) ? (uint32_t)(16384 + 64 * len) : UINT32_MAX;

    s->text = text;
    s->len = len;
    s->pos = s->from = s->to = 0;
    /* A pattern of the usual kind takes a few steps for each character, even when a run of a million must be
     * given back; this bound stops only patterns whose work grows faster than the text. */
    pcre2_set_match_limit(s->ctx, steps);
    pcre2_set_depth_limit(s->ctx, UINT32_MAX);
    pcre2_set_heap_limit(s->ctx, (uint32_t)(65536 + len / 4)); /* KiB: 64 MiB and 256 bytes for each byte */
}

static int match_at(struct crl_scan *s)
{
    const pcre2_code *code = s->pretok->code;
    PCRE2_SPTR text = (PCRE2_SPTR)s->text;
    int rc;

    if (!s->pretok->jit) return pcre2_match(code, text, s->len, s->pos, PCRE2_NO_UTF_CHECK, s->match, s->ctx);
    rc = pcre2_jit_match(code, text, s->len, s->pos, 0, s->match, s->ctx);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !s->stack) {
        s->stack = pcre2_jit_stack_create((size_t)64 << 10, JIT_STACK_MAX, NULL);
        if (s->stack) {
            pcre2_jit_stack_assign(s->ctx, NULL, s->stack);
            rc = pcre2_jit_match(code, text, s->len, s->pos, 0, s->match, s->ctx);
        }
    }
    /* The interpreter keeps its stack on the heap. */
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, text, s->len, s->pos, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match, s->ctx);
    return rc;
}

static enum crl_status find(struct crl_scan *s, struct crl_err *err)
{
    int rc = match_at(s);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->match);

    if (rc >= 0 && at[1] > at[0] && at[0] >= s->pos) {
        s->from = at[0];
        s->to = at[1];
        return CRL_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
        s->from = s->to = s->len;
        return CRL_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY) return crl_fail(err, CRL_ENOMEM, "no memory to split text");
    if (rc >= 0)
        return crl_fail(err, CRL_EUNSUPPORTED, "the split pattern matched nothing at byte %zu", s->pos);
    {
        char why[128] = "";

        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return crl_fail(err, CRL_ERANGE, "splitting text of %zu bytes at byte %zu: %s", s->len, s->pos, why);
    }
}

enum crl_status crl_scan_next(struct crl_scan *s, const char **piece, size_t *len, struct crl_err *err)
{
    enum crl_status st;
    size_t end;

    *piece = NULL;
    *len = 0;
    if (s->pos == s->len) return CRL_OK;
    if (s->from == s->to) {
        st = find(s, err);
        if (st) return st;
    }
    end = s->from > s->pos ? s->from : s->to; /* the stretch before the match, or the match itself */
    *piece = s->text + s->pos;
    *len = end - s->pos;
    s->pos = end;
    if (end == s->to) s->from = s->to = 0;
    return CRL_OK;
}
