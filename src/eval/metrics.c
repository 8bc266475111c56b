/* metrics.c - comparing answers. Taking them out of replies: extract.c. */
#include "eval/metrics_impl.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static const char *const score_names[] = { "exact", "number", "math",    "em",  "f1",
                                           "chrf",  "anls",   "relaxed", "code" };

const char *crl_score_name(enum crl_score m)
{
    return score_names[m];
}

bool crl_score_parse(enum crl_score *out, const char *name)
{
    for (unsigned i = 0; i < CRL_SCORE_COUNT; i++)
        if (strcmp(score_names[i], name) == 0) {
            *out = (enum crl_score)i;
            return true;
        }
    return false;
}

/* --- the object ----------------------------------------------------------------------------------------- */

/* The normalisation of MATH (Hendrycks et al. 2021), rule by rule in its order, but that white space goes
 * first. */
static const struct {
    const char *pattern, *by;
} math_rules[CRL_MATH_RULES] = {
    { "\\s+", "" },
    { "\\\\!", "" },
    { "\\\\\\\\", "\\" },
    { "\\\\[td]frac", "\\frac" },
    { "\\\\left|\\\\right", "" },
    { "\\^\\{\\\\circ\\}|\\^\\\\circ", "" },
    { "\\\\\\$", "" },
    { "\\\\%", "" },
    { "\\{\\.", "{0." },
    { "^\\.", "0." },
    { "^[^=]{0,2}=([^=]*)$", "$1" },
    { "\\\\sqrt([^{])", "\\sqrt{$1}" },
    { "\\\\frac([^{])([^{])", "\\frac{$1}{$2}" },
    { "\\\\frac([^{])\\{", "\\frac{$1}{" },
    { "^0\\.5$", "\\frac{1}{2}" },
    { "^(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)$", "\\frac{$1}{$2}" },
};

/* Phrases that MGSM's instructions ask replies to end with, and common English ones. */
#define ANSWER_IS                                                                                            \
    "(?:the |final )?answer(?: is|:)|####|die antwort(?: lautet| ist)?:?|antwort:"                           \
    "|la réponse est|réponse ?:|la respuesta es|respuesta:|ответ(?: —|:)"                           \
    "|答えは|答え:|答案(?:是|:)|คำตอบคือ|คำตอบ:"                           \
    "|సమాధానం|jibu ni|উত্তর হল|উত্তর:|উত্তর"

#define NUMBER "[-\\x{2212}]?(?:\\p{Nd}[\\p{Nd},]*(?:\\.\\p{Nd}+)?|\\.\\p{Nd}+)"

static const struct {
    const char *pattern;
    unsigned flags;
} patterns[CRL_PATTERN_COUNT] = {
    [CRL_PAT_ARTICLE] = { "\\b(?:a|an|the)\\b", 0 },
    [CRL_PAT_SPACE] = { "\\s+", 0 },
    [CRL_PAT_TEXT_UNIT] = { "\\\\text\\{ .*", CRL_REGEX_DOTALL },
    [CRL_PAT_HASHES] = { "####\\s*\\$?(-?[0-9][0-9.,]*|-?\\.[0-9]+)", 0 },
    [CRL_PAT_ANSWER_IS] = { ANSWER_IS, CRL_REGEX_CASELESS },
    [CRL_PAT_NUMBER] = { NUMBER, 0 },
    [CRL_PAT_FINAL] = { "final answer is:?\\s*\\$?(.*?)\\$?(?:\\.\\s*I hope it is correct|\\.?\\s*$)",
                        CRL_REGEX_CASELESS | CRL_REGEX_DOTALL },
    [CRL_PAT_LETTER_IS] = { "answer is:?\\s*\\**\\(?([A-Z])\\b", CRL_REGEX_CASELESS },
    [CRL_PAT_LETTER_COLON] = { "answer:\\**\\s*\\**\\(?([A-Z])\\b", CRL_REGEX_CASELESS },
    [CRL_PAT_LETTER_FIRST] = { "^[\\s*(\\[]*([A-Z])(?:[).:,\\]*]|\\s*$|\\s*\\n)", 0 },
    [CRL_PAT_LETTER_LAST] = { "\\b([A-Z])\\b", 0 },
    [CRL_PAT_FENCE] = { "```[A-Za-z0-9_+-]*[ \\t]*\\r?\\n(.*?)(?:```|$(?![\\r\\n]))", CRL_REGEX_DOTALL },
    [CRL_PAT_BEGIN] = { "^(?:.*?\\[BEGIN\\])?(.*?)\\[DONE\\]", CRL_REGEX_DOTALL },
};

enum crl_status crl_scorer_new(struct crl_scorer **out, const char *extract, struct crl_err *err)
{
    struct crl_scorer *m = crl_alloc(1, sizeof *m);
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!m) return crl_fail(err, CRL_ENOMEM, "no memory for metrics");
    for (unsigned i = 0; i < CRL_MATH_RULES && !st; i++)
        st = crl_regex_new(&m->math[i], math_rules[i].pattern, CRL_REGEX_DOTALL, err);
    for (unsigned i = 0; i < CRL_PATTERN_COUNT && !st; i++)
        st = crl_regex_new(&m->pat[i], patterns[i].pattern, patterns[i].flags, err);
    if (!st && extract) st = crl_regex_new(&m->user, extract, CRL_REGEX_PLAIN, err);
    if (st) {
        crl_scorer_free(m);
        return st;
    }
    *out = m;
    return CRL_OK;
}

void crl_scorer_free(struct crl_scorer *m)
{
    if (!m) return;
    for (unsigned i = 0; i < CRL_MATH_RULES; i++) crl_regex_free(m->math[i]);
    for (unsigned i = 0; i < CRL_PATTERN_COUNT; i++) crl_regex_free(m->pat[i]);
    crl_regex_free(m->user);
    crl_free(m);
}

/* --- normal forms --------------------------------------------------------------------------------------- */

/* *s becomes itself with every match replaced. */
static enum crl_status replace(const struct crl_regex *r, const char *by, struct crl_str *s,
                               struct crl_err *err)
{
    struct crl_str next = { NULL, 0, 0 };
    enum crl_status st = crl_regex_replace(r, s->s, s->len, by, &next, err);

    if (st) crl_str_fini(&next);
    if (st) return st;
    crl_str_fini(s);
    *s = next;
    return CRL_OK;
}

static void trim(struct crl_str *s)
{
    size_t from = 0;

    while (s->len && strchr(" \t\r\n\v\f", s->s[s->len - 1])) s->len--;
    while (from < s->len && strchr(" \t\r\n\v\f", s->s[from])) from++;
    if (!s->s) return;
    memmove(s->s, s->s + from, s->len - from);
    s->len -= from;
    s->s[s->len] = 0;
}

static enum crl_status trimmed(const char *text, struct crl_str *out, struct crl_err *err)
{
    enum crl_status st = crl_str_puts(out, text, err);

    if (!st) trim(out);
    return st;
}

static void drop_ascii_punctuation(struct crl_str *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->len; i++)
        if (!strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", s->s[i])) s->s[n++] = s->s[i];
    s->len = n;
    if (s->s) s->s[n] = 0;
}

enum crl_status crl_squad_normalise(const struct crl_scorer *m, const char *text, struct crl_str *out,
                                    struct crl_err *err)
{
    struct crl_str s = { NULL, 0, 0 };
    enum crl_status st = crl_text_lower(text, strlen(text), &s, err);

    if (!st) drop_ascii_punctuation(&s);
    if (!st) st = replace(m->pat[CRL_PAT_ARTICLE], " ", &s, err);
    if (!st) st = replace(m->pat[CRL_PAT_SPACE], " ", &s, err);
    if (!st) {
        trim(&s);
        st = crl_str_add(out, s.s ? s.s : "", s.len, err);
    }
    crl_str_fini(&s);
    return st;
}

enum crl_status crl_math_normalise(const struct crl_scorer *m, const char *text, struct crl_str *out,
                                   struct crl_err *err)
{
    struct crl_str s = { NULL, 0, 0 };
    enum crl_status st = crl_str_puts(&s, text, err);

    if (!st) st = replace(m->pat[CRL_PAT_TEXT_UNIT], "", &s, err); /* "5\text{ cm}": needs its blank */
    for (unsigned i = 0; i < CRL_MATH_RULES && !st; i++) st = replace(m->math[i], math_rules[i].by, &s, err);
    if (!st) st = crl_str_add(out, s.s ? s.s : "", s.len, err);
    crl_str_fini(&s);
    return st;
}

/* --- numbers -------------------------------------------------------------------------------------------- */

bool crl_number_parse(const char *text, double *out)
{
    char digits[64], *end;
    size_t n = 0;
    bool percent = false;
    double v;

    while (*text == ' ' || *text == '\t' || *text == '\n') text++;
    if (strncmp(text, "\xe2\x88\x92", 3) == 0) { /* the minus sign of typesetters */
        digits[n++] = '-';
        text += 3;
    } else if (*text == '-' || *text == '+') {
        digits[n++] = *text++;
    }
    if (*text == '$') text++;
    if (!n && *text == '-') digits[n++] = *text++;
    if (!((*text >= '0' && *text <= '9') || (*text == '.' && text[1] >= '0' && text[1] <= '9'))) return false;
    for (; (*text >= '0' && *text <= '9') || *text == ',' || *text == '.'; text++) {
        if (*text == ',') continue;
        if (n == sizeof digits - 1) return false;
        digits[n++] = *text;
    }
    if (n && digits[n - 1] == '.') n--; /* the end of a sentence */
    digits[n] = 0;
    if (*text == '%') {
        percent = true;
        text++;
    }
    while (*text == ' ' || *text == '\t' || *text == '\n' || *text == '.') text++;
    if (*text) return false;
    v = strtod(digits, &end);
    if (*end) return false;
    *out = percent ? v / 100 : v;
    return true;
}

static bool same_number(const char *a, const char *b)
{
    double x, y;

    if (!crl_number_parse(a, &x) || !crl_number_parse(b, &y)) return false;
    return fabs(x - y) <= 1e-9 * fmax(fabs(x), fabs(y));
}

/* --- characters and words ------------------------------------------------------------------------------- */

/* Code points of UTF-8 that is known to be right, in fresh memory. */
static enum crl_status code_points(const char *text, size_t len, uint32_t **out, size_t *n,
                                   struct crl_err *err)
{
    uint32_t *v = crl_alloc(len + 1, sizeof *v);

    *out = v;
    *n = 0;
    if (!v) return crl_fail(err, CRL_ENOMEM, "no memory to compare texts");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c & 0xc0) != 0x80) v[(*n)++] = c < 0x80 ? c : c < 0xe0 ? c & 31 : c < 0xf0 ? c & 15 : c & 7;
        else if (*n) v[*n - 1] = v[*n - 1] << 6 | (c & 63);
    }
    return CRL_OK;
}

struct word {
    const char *s;
    size_t len;
};

static int by_text(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    int c = memcmp(x->s, y->s, x->len < y->len ? x->len : y->len);

    return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

/* Words of a text with single blanks, sorted, in fresh memory. */
static enum crl_status sorted_words(const struct crl_str *s, struct word **out, size_t *n,
                                    struct crl_err *err)
{
    const char *p = s->s, *end = s->s + s->len;
    struct word *w = crl_alloc(s->len / 2 + 1, sizeof *w);

    *out = w;
    *n = 0;
    if (!w) return crl_fail(err, CRL_ENOMEM, "no memory to compare texts");
    while (p && p < end) {
        const char *q = memchr(p, ' ', (size_t)(end - p));
        if (!q) q = end;
        w[(*n)++] = (struct word){ p, (size_t)(q - p) };
        p = q + 1;
    }
    qsort(w, *n, sizeof *w, by_text);
    return CRL_OK;
}

/* How many elements two sorted lists share, counted as often as they occur in both. */
static size_t shared(const void *a, size_t n, const void *b, size_t m, size_t size,
                     int (*cmp)(const void *, const void *))
{
    const char *x = a, *y = b;
    size_t i = 0, j = 0, both = 0;

    while (i < n && j < m) {
        int c = cmp(x + i * size, y + j * size);
        both += c == 0;
        i += c <= 0;
        j += c >= 0;
    }
    return both;
}

static enum crl_status squad(const struct crl_scorer *m, bool f1, const char *got, const char *gold,
                             double *score, struct crl_err *err)
{
    struct crl_str a = { NULL, 0, 0 }, b = { NULL, 0, 0 };
    struct word *x = NULL, *y = NULL;
    size_t n = 0, k = 0, both;
    enum crl_status st = crl_squad_normalise(m, got, &a, err);

    if (!st) st = crl_squad_normalise(m, gold, &b, err);
    if (!st && f1) st = sorted_words(&a, &x, &n, err);
    if (!st && f1) st = sorted_words(&b, &y, &k, err);
    if (!st) {
        *score = a.len == b.len && (!a.len || !memcmp(a.s, b.s, a.len));
        if (f1 && n && k) {
            both = shared(x, n, y, k, sizeof *x, by_text);
            *score = 2 * (double)both / (double)(n + k);
        }
    }
    crl_free(x);
    crl_free(y);
    crl_str_fini(&a);
    crl_str_fini(&b);
    return st;
}

/* --- chrF (Popovic 2015) -------------------------------------------------------------------------------- */

struct gram {
    uint32_t c[CRL_CHRF_ORDER]; /* zeros behind the last character */
};

static int by_gram(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct gram));
}

static size_t grams(struct gram *g, const uint32_t *c, size_t n_char, unsigned order)
{
    size_t n = n_char >= order ? n_char - order + 1 : 0;

    memset(g, 0, n * sizeof *g);
    for (size_t i = 0; i < n; i++) memcpy(g[i].c, c + i, order * sizeof *c);
    qsort(g, n, sizeof *g, by_gram);
    return n;
}

/* Code points but white space: n-grams reach over words. */
static enum crl_status letters(const char *text, uint32_t **out, size_t *n, struct crl_err *err)
{
    enum crl_status st = code_points(text, strlen(text), out, n, err);
    size_t k = 0;

    for (size_t i = 0; i < *n && !st; i++) {
        uint32_t c = (*out)[i];
        bool white = (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
                     (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
                     c == 0x205f || c == 0x3000;
        if (!white) (*out)[k++] = c;
    }
    *n = k;
    return st;
}

enum crl_status crl_chrf_add(struct crl_chrf *c, const char *hyp, const char *ref, struct crl_err *err)
{
    uint32_t *h = NULL, *r = NULL;
    size_t n_h = 0, n_r = 0;
    struct gram *gh = NULL, *gr = NULL;
    enum crl_status st = letters(hyp, &h, &n_h, err);

    if (!st) st = letters(ref, &r, &n_r, err);
    if (!st) {
        gh = crl_alloc(n_h + 1, sizeof *gh);
        gr = crl_alloc(n_r + 1, sizeof *gr);
        if (!gh || !gr) st = crl_fail(err, CRL_ENOMEM, "no memory to compare texts");
    }
    for (unsigned i = 0; i < CRL_CHRF_ORDER && !st; i++) {
        size_t a = grams(gh, h, n_h, i + 1), b = grams(gr, r, n_r, i + 1);
        c->hyp[i] += a;
        c->ref[i] += b;
        c->match[i] += shared(gh, a, gr, b, sizeof *gh, by_gram);
    }
    crl_free(h);
    crl_free(r);
    crl_free(gh);
    crl_free(gr);
    return st;
}

double crl_chrf_score(const struct crl_chrf *c)
{
    double precision = 0, recall = 0;
    unsigned n = 0;

    for (unsigned i = 0; i < CRL_CHRF_ORDER; i++) { /* orders which one side is too short for do not count */
        if (!c->hyp[i] || !c->ref[i]) continue;
        precision += (double)c->match[i] / (double)c->hyp[i];
        recall += (double)c->match[i] / (double)c->ref[i];
        n++;
    }
    if (precision + recall == 0) return 0;
    precision /= n;
    recall /= n;
    return 5 * precision * recall / (4 * precision + recall); /* beta 2 */
}

/* --- edit distance -------------------------------------------------------------------------------------- */

static size_t edit_distance(const uint32_t *a, size_t n, const uint32_t *b, size_t m, size_t *row)
{
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[m];
}

/* Lower case, white space single and none around. */
static enum crl_status plain(const struct crl_scorer *m, const char *text, struct crl_str *out,
                             struct crl_err *err)
{
    struct crl_str low = { NULL, 0, 0 };
    enum crl_status st = crl_text_lower(text, strlen(text), &low, err);

    if (!st) st = crl_regex_replace(m->pat[CRL_PAT_SPACE], low.s, low.len, " ", out, err);
    if (!st) trim(out);
    crl_str_fini(&low);
    return st;
}

/* Biten et al. 2019: 1 - NL when NL < 0.5, else 0; NL is the edit distance over the longer length. */
static enum crl_status anls(const struct crl_scorer *m, const char *got, const char *gold, double *score,
                            struct crl_err *err)
{
    struct crl_str a = { NULL, 0, 0 }, b = { NULL, 0, 0 };
    uint32_t *x = NULL, *y = NULL;
    size_t n = 0, k = 0, longer, shorter, *row = NULL;
    enum crl_status st = plain(m, got, &a, err);

    if (!st) st = plain(m, gold, &b, err);
    if (!st) st = code_points(a.s ? a.s : "", a.len, &x, &n, err);
    if (!st) st = code_points(b.s ? b.s : "", b.len, &y, &k, err);
    longer = n > k ? n : k;
    shorter = n > k ? k : n;
    *score = longer == 0;
    if (!st && longer &&
        longer - shorter < (longer + 1) / 2) { /* else the distance is half the length already */
        if (longer > CRL_SCORE_EDIT_MAX)
            st = crl_fail(err, CRL_ERANGE,
                          "an answer of %zu characters, at most %d are compared by edit distance", longer,
                          CRL_SCORE_EDIT_MAX);
        else if (!(row = crl_alloc(k + 1, sizeof *row)))
            st = crl_fail(err, CRL_ENOMEM, "no memory to compare texts");
        else {
            double nl = (double)edit_distance(x, n, y, k, row) / (double)longer;
            *score = nl < 0.5 ? 1 - nl : 0;
        }
    }
    crl_free(row);
    crl_free(x);
    crl_free(y);
    crl_str_fini(&a);
    crl_str_fini(&b);
    return st;
}

/* --- ChartQA -------------------------------------------------------------------------------------------- */

/* Numbers within 5 % of the right one; a right answer of 0, or one that is no number, is compared as text. */
static enum crl_status relaxed(const char *got, const char *gold, double *score, struct crl_err *err)
{
    struct crl_str a = { NULL, 0, 0 }, b = { NULL, 0, 0 };
    enum crl_status st;
    double x, y;

    if (crl_number_parse(got, &x) && crl_number_parse(gold, &y) && y != 0) {
        *score = fabs(x - y) <= 0.05 * fabs(y);
        return CRL_OK;
    }
    st = crl_text_lower(got, strlen(got), &a, err);
    if (!st) st = crl_text_lower(gold, strlen(gold), &b, err);
    if (!st) {
        trim(&a);
        trim(&b);
        *score = a.len == b.len && (!a.len || !memcmp(a.s, b.s, a.len));
    }
    crl_str_fini(&a);
    crl_str_fini(&b);
    return st;
}

/* --- all of them ---------------------------------------------------------------------------------------- */

static enum crl_status same_after(enum crl_status (*form)(const struct crl_scorer *, const char *,
                                                          struct crl_str *, struct crl_err *),
                                  const struct crl_scorer *m, const char *got, const char *gold,
                                  double *score, struct crl_err *err)
{
    struct crl_str a = { NULL, 0, 0 }, b = { NULL, 0, 0 };
    enum crl_status st = form(m, got, &a, err);

    if (!st) st = form(m, gold, &b, err);
    if (!st) *score = a.len == b.len && (!a.len || !memcmp(a.s, b.s, a.len));
    crl_str_fini(&a);
    crl_str_fini(&b);
    return st;
}

static enum crl_status without_space(const struct crl_scorer *m, const char *text, struct crl_str *out,
                                     struct crl_err *err)
{
    (void)m;
    return trimmed(text, out, err);
}

static enum crl_status one(const struct crl_scorer *m, enum crl_score how, const char *got, const char *gold,
                           double *score, struct crl_err *err)
{
    struct crl_chrf counts = { { 0 }, { 0 }, { 0 } };
    enum crl_status st = CRL_OK;

    switch (how) {
    case CRL_SCORE_NUMBER:
        if (same_number(got, gold)) *score = 1;
        else st = same_after(without_space, m, got, gold, score, err);
        return st;
    case CRL_SCORE_MATH:
        return same_after(crl_math_normalise, m, got, gold, score, err);
    case CRL_SCORE_EM:
    case CRL_SCORE_F1:
        return squad(m, how == CRL_SCORE_F1, got, gold, score, err);
    case CRL_SCORE_CHRF:
        st = crl_chrf_add(&counts, got, gold, err);
        *score = crl_chrf_score(&counts);
        return st;
    case CRL_SCORE_ANLS:
        return anls(m, got, gold, score, err);
    case CRL_SCORE_RELAXED:
        return relaxed(got, gold, score, err);
    default:
        return same_after(without_space, m, got, gold, score, err);
    }
}

enum crl_status crl_score_answer(const struct crl_scorer *m, enum crl_score how, const char *got,
                                 const char *const *gold, size_t n_gold, double *score, struct crl_err *err)
{
    double best = 0;

    if (strlen(got) > CRL_SCORE_TEXT_MAX)
        return crl_fail(err, CRL_ERANGE, "an answer of %zu bytes, at most %zu are compared", strlen(got),
                        CRL_SCORE_TEXT_MAX);
    for (size_t i = 0; i < n_gold; i++) {
        double s = 0;
        enum crl_status st;
        if (strlen(gold[i]) > CRL_SCORE_TEXT_MAX)
            return crl_fail(err, CRL_ERANGE, "a right answer of %zu bytes, at most %zu are compared",
                            strlen(gold[i]), CRL_SCORE_TEXT_MAX);
        st = one(m, how, got, gold[i], &s, err);
        if (st) return st;
        if (s > best) best = s;
    }
    *score = best;
    return CRL_OK;
}

double crl_pass_at_k(unsigned n, unsigned c, unsigned k)
{
    double miss = 1;

    assert(k && k <= n && c <= n);
    if (n - c < k) return 1;
    for (unsigned i = n - c + 1; i <= n; i++) miss *= 1 - (double)k / i; /* C(n-c,k)/C(n,k) as a product */
    return 1 - miss;
}
