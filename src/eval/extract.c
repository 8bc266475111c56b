/* extract.c - taking the answer out of a reply. */
#include "eval/metrics_impl.h"

static const char *const names[] = {
    "all", "line", "hashes", "number", "boxed", "letter", "code", "pattern"
};

const char *crl_extract_name(enum crl_extract e)
{
    return names[e];
}

bool crl_extract_parse(enum crl_extract *out, const char *name)
{
    for (unsigned i = 0; i < CRL_EXTRACT_COUNT; i++)
        if (strcmp(names[i], name) == 0) {
            *out = (enum crl_extract)i;
            return true;
        }
    return false;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static enum crl_status add_trimmed(const char *text, struct crl_span s, struct crl_str *out, bool *found,
                                   struct crl_err *err)
{
    while (s.from < s.to && is_blank(text[s.from])) s.from++;
    while (s.to > s.from && is_blank(text[s.to - 1])) s.to--;
    *found = s.to > s.from;
    return *found ? crl_str_add(out, text + s.from, s.to - s.from, err) : CRL_OK;
}

static struct crl_span first_line(const char *text, size_t len)
{
    struct crl_span s = { 0, 0 };

    while (s.from < len && is_blank(text[s.from])) s.from++;
    for (s.to = s.from; s.to < len && text[s.to] != '\n';) s.to++;
    return s;
}

/* Digits of any script become ASCII: the value of a decimal digit is its distance from the zero of its run,
 * and the runs of Unicode are ten long and begin at multiples that these tables give. */
static int digit_value(const unsigned char *p, size_t *used)
{
    static const uint32_t zero[] = { 0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6,
                                     0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0de6, 0x0e50,
                                     0x0ed0, 0x0f20, 0x1040, 0x17e0, 0x1810, 0xff10 };
    uint32_t c;

    if (*p < 0x80) {
        *used = 1;
        return *p >= '0' && *p <= '9' ? *p - '0' : -1;
    }
    *used = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    if (*used == 4) return -1;
    c = *used == 2 ? (uint32_t)(p[0] & 31) << 6 | (p[1] & 63)
                   : (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 | (p[2] & 63);
    for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++)
        if (c >= zero[i] && c < zero[i] + 10) return (int)(c - zero[i]);
    return -1;
}

/* A number with plain digits and without commas. */
static enum crl_status add_number(const char *text, struct crl_span s, struct crl_str *out,
                                  struct crl_err *err)
{
    enum crl_status st = CRL_OK;
    size_t used;

    for (size_t at = s.from; at < s.to && !st; at += used) {
        const unsigned char *p = (const unsigned char *)text + at;
        int d = digit_value(p, &used);
        char c = d >= 0 ? (char)('0' + d) : *p == '.' ? '.' : *p == '-' || *p >= 0x80 ? '-' : 0;
        if (c) st = crl_str_add(out, &c, 1, err);
    }
    if (!st && out->len && out->s[out->len - 1] == '.') out->s[--out->len] = 0;
    return st;
}

static enum crl_status number(const struct crl_scorer *m, const char *text, size_t len, struct crl_str *out,
                              bool *found, struct crl_err *err)
{
    struct crl_span g[CRL_REGEX_GROUPS];
    bool phrase;
    size_t from = 0;
    enum crl_status st = crl_regex_last(m->pat[CRL_PAT_ANSWER_IS], text, len, g, &phrase, err);

    if (!st && phrase) {
        from = g[0].to;
        st = crl_regex_last(m->pat[CRL_PAT_NUMBER], text + from, len - from, g, found, err);
    }
    if (!st && (!phrase || !*found)) {
        from = 0;
        st = crl_regex_last(m->pat[CRL_PAT_NUMBER], text, len, g, found, err);
    }
    if (st || !*found) return st;
    return add_number(text + from, g[0], out, err);
}

/* The last occurrence of a name before byte `end`; false when there is none. */
static bool last_of(const char *text, size_t end, const char *name, size_t *at)
{
    size_t n = strlen(name);

    for (size_t i = end + 1; i-- > 0;)
        if (end - i >= n && memcmp(text + i, name, n) == 0) {
            *at = i;
            return true;
        }
    return false;
}

/* What stands in the braces that open at `at`; false when they never close. */
static bool braces(const char *text, size_t len, size_t at, struct crl_span *s)
{
    size_t depth = 0;

    s->from = at + 1;
    for (size_t i = at; i < len; i++) {
        if (text[i] == '{') depth++;
        if (text[i] == '}' && --depth == 0) {
            s->to = i;
            return true;
        }
    }
    return false;
}

static enum crl_status boxed(const struct crl_scorer *m, const char *text, size_t len, struct crl_str *out,
                             bool *found, struct crl_err *err)
{
    struct crl_span g[CRL_REGEX_GROUPS], s;
    size_t at = 0, other = 0;
    bool box = last_of(text, len, "\\boxed", &at), fbox = last_of(text, len, "\\fbox", &other);
    enum crl_status st;

    if (fbox && (!box || other > at)) at = other;
    if (box || fbox) {
        size_t open = at + 1;
        while (open < len && text[open] >= 'a' && text[open] <= 'z') open++;
        if (open < len && text[open] == '{' && braces(text, len, open, &s))
            return add_trimmed(text, s, out, found, err);
        if (open < len && text[open] == ' ') { /* "\boxed 5$" */
            for (s.from = s.to = open + 1; s.to < len && text[s.to] != '$' && text[s.to] != '\n';) s.to++;
            return add_trimmed(text, s, out, found, err);
        }
    }
    st = crl_regex_last(m->pat[CRL_PAT_FINAL], text, len, g, found, err);
    return st || !*found ? st : add_trimmed(text, g[1], out, found, err);
}

static enum crl_status letter(const struct crl_scorer *m, const char *text, size_t len, unsigned n_choice,
                              struct crl_str *out, bool *found, struct crl_err *err)
{
    static const enum crl_pattern order[] = { CRL_PAT_LETTER_FIRST, CRL_PAT_LETTER_IS, CRL_PAT_LETTER_COLON,
                                              CRL_PAT_LETTER_LAST };
    struct crl_span g[CRL_REGEX_GROUPS];
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < sizeof order / sizeof order[0] && !st; i++) {
        char c;
        st = crl_regex_last(m->pat[order[i]], text, len, g, found, err);
        if (st || !*found) continue;
        c = text[g[1].from];
        if (c >= 'a' && c <= 'z') c = (char)(c - 'a' + 'A');
        if ((unsigned)(c - 'A') < n_choice) return crl_str_add(out, &c, 1, err);
        *found = false;
    }
    return st;
}

static enum crl_status code(const struct crl_scorer *m, const char *text, size_t len, struct crl_str *out,
                            bool *found, struct crl_err *err)
{
    static const enum crl_pattern order[] = { CRL_PAT_FENCE, CRL_PAT_BEGIN };
    struct crl_span g[CRL_REGEX_GROUPS];
    enum crl_status st = CRL_OK;

    *found = false;
    for (size_t i = 0; i < sizeof order / sizeof order[0] && !st && !*found; i++)
        st = crl_regex_find(m->pat[order[i]], text, len, 0, g, found, err);
    if (st) return st;
    if (!*found) g[1] = (struct crl_span){ 0, len };
    while (g[1].from < g[1].to && (text[g[1].from] == '\n' || text[g[1].from] == '\r')) g[1].from++;
    while (g[1].to > g[1].from && is_blank(text[g[1].to - 1]))
        g[1].to--; /* blanks before code mean something */
    *found = g[1].to > g[1].from;
    return *found ? crl_str_add(out, text + g[1].from, g[1].to - g[1].from, err) : CRL_OK;
}

enum crl_status crl_answer_extract(const struct crl_scorer *m, enum crl_extract how, const char *reply,
                                   size_t len, unsigned n_choice, struct crl_str *out, bool *found,
                                   struct crl_err *err)
{
    struct crl_span g[CRL_REGEX_GROUPS];
    enum crl_status st;

    *found = false;
    if (!reply) reply = "";
    switch (how) {
    case CRL_EXTRACT_LINE:
        return add_trimmed(reply, first_line(reply, len), out, found, err);
    case CRL_EXTRACT_HASHES:
        st = crl_regex_last(m->pat[CRL_PAT_HASHES], reply, len, g, found, err);
        return st || !*found ? st : add_number(reply, g[1], out, err);
    case CRL_EXTRACT_NUMBER:
        return number(m, reply, len, out, found, err);
    case CRL_EXTRACT_BOXED:
        return boxed(m, reply, len, out, found, err);
    case CRL_EXTRACT_LETTER:
        return letter(m, reply, len, n_choice, out, found, err);
    case CRL_EXTRACT_CODE:
        return code(m, reply, len, out, found, err);
    case CRL_EXTRACT_PATTERN:
        if (!m->user) return crl_fail(err, CRL_ERANGE, "no pattern was given to find the answer with");
        st = crl_regex_last(m->user, reply, len, g, found, err);
        return st || !*found ? st : add_trimmed(reply, g[1].to > g[1].from ? g[1] : g[0], out, found, err);
    default:
        return add_trimmed(reply, (struct crl_span){ 0, len }, out, found, err);
    }
}
