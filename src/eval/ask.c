/* ask.c - prompts. */
#include "eval/ask.h"

#include "base/mem.h"

#include <string.h>

#define SPOTS_MAX ((size_t)1 << 16) /* pictures of a prompt */

/* What stands behind a data set's question in chat, and the layout without. CHOICES appears where options are
 * shown. */
struct form {
    const char *chat, *text;
};

static const struct form plain_form = { "{context}{question}", "{context}Question: {question}\nAnswer:" };
static const struct form letter_form = { "{context}{question}\n{choices}\nAnswer:",
                                         "{context}{question}\n{choices}\nAnswer:" };
/* A macro, since a constant struct is no constant expression in C11. */
#define SHORT_FORM                                                             \
    {                                                                          \
        "{context}{question}\nAnswer with a number, a word or a short phrase.", \
            "{context}Question: {question}\nAnswer:"                           \
    }

static const struct {
    struct crl_ask_rule rule;
    struct form form; /* NULL: plain_form */
} table[CRL_DATA_COUNT] = {
    [CRL_DATA_GENERIC] = { { CRL_EXTRACT_ALL, CRL_SCORE_EXACT, 256, { "\nQuestion:" } }, { NULL, NULL } },
    [CRL_DATA_MMLU] = { { CRL_EXTRACT_LETTER, CRL_SCORE_EXACT, 1024, { "\n\n" } }, { NULL, NULL } },
    [CRL_DATA_MMLU_PRO] = { { CRL_EXTRACT_LETTER, CRL_SCORE_EXACT, 2048, { "\nQuestion:" } },
                            { NULL, NULL } },
    [CRL_DATA_GPQA] = { { CRL_EXTRACT_LETTER, CRL_SCORE_EXACT, 2048, { "\nQuestion:" } }, { NULL, NULL } },
    [CRL_DATA_GSM8K] = { { CRL_EXTRACT_HASHES, CRL_SCORE_NUMBER, 1024, { "\nQuestion:" } },
                         { "{question}\n\nWork it out step by step. The last line is #### and then the "
                           "number alone.",
                           "Question: {question}\nAnswer:" } },
    [CRL_DATA_MGSM] = { { CRL_EXTRACT_NUMBER, CRL_SCORE_NUMBER, 1024, { "\nQuestion:" } },
                        { "{question}\n\nWork it out step by step. The last line is \"The answer is\" and "
                          "the number.",
                          "Question: {question}\nAnswer:" } },
    [CRL_DATA_MATH] = { { CRL_EXTRACT_BOXED, CRL_SCORE_MATH, 2048, { "\nProblem:" } },
                        { "{question}\n\nWork it out step by step and put the result into \\boxed{}.",
                          "Problem: {question}\nSolution:" } },
    [CRL_DATA_MBPP] = { { CRL_EXTRACT_CODE, CRL_SCORE_CODE, 1024, { "[DONE]" } },
                        { "{question}\nThe code must pass these tests:\n{tests}\n\nReply with Python code "
                          "alone, in one "
                          "fenced block.",
                          "Task: {question}\nTests:\n{tests}\n[BEGIN]\n" } },
    [CRL_DATA_TYDIQA] = { { CRL_EXTRACT_LINE, CRL_SCORE_F1, 64, { "\n" } },
                          { "{context}{question}\nAnswer with words of the passage alone.",
                            "{context}Question: {question}\nAnswer:" } },
    [CRL_DATA_CHARTQA] = { { CRL_EXTRACT_LINE, CRL_SCORE_RELAXED, 64, { "\n" } }, SHORT_FORM },
    [CRL_DATA_DOCVQA] = { { CRL_EXTRACT_LINE, CRL_SCORE_ANLS, 64, { "\n" } }, SHORT_FORM },
    [CRL_DATA_MMMU] = { { CRL_EXTRACT_LINE, CRL_SCORE_EXACT, 1024, { "\n\n" } }, SHORT_FORM },
    [CRL_DATA_MATHVISTA] = { { CRL_EXTRACT_LINE, CRL_SCORE_NUMBER, 1024, { "\n\n" } }, SHORT_FORM },
};

const struct crl_ask_rule *crl_ask_rule(enum crl_data_format format)
{
    return &table[format].rule;
}

/* --- templates ------------------------------------------------------------------------------------------ */

static const char *template_of(const struct crl_asker *a, const struct crl_question *q)
{
    const struct form *f = &table[a->format].form;

    if (a->template) return a->template;
    if (a->ask == CRL_ASK_LETTER || (a->ask == CRL_ASK_REPLY && q->n_choice)) f = &letter_form;
    else if (a->ask == CRL_ASK_OPTION || !f->chat) f = &plain_form;
    return a->chat ? f->chat : f->text;
}

static enum crl_status put_choices(const struct crl_question *q, struct crl_str *out, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < q->n_choice && !st; i++) {
        char mark[] = "\nA. ";
        mark[1] = (char)('A' + i);
        st = crl_str_puts(out, i ? mark : mark + 1, err);
        if (!st) st = crl_str_puts(out, q->choice[i], err);
    }
    return st;
}

/* The value of a name in braces; *known says whether there is one of that name. */
static enum crl_status put_field(const char *name, size_t len, const struct crl_question *q,
                                 struct crl_str *out, bool *known, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    *known = true;
    if (len == 8 && !memcmp(name, "question", 8)) return crl_str_puts(out, q->text, err);
    if (len == 7 && !memcmp(name, "choices", 7)) return put_choices(q, out, err);
    if (len == 5 && !memcmp(name, "tests", 5)) return crl_str_puts(out, q->tests ? q->tests : "", err);
    if (len == 7 && !memcmp(name, "context", 7)) {
        if (q->context) st = crl_str_puts(out, q->context, err);
        return q->context && !st ? crl_str_puts(out, "\n\n", err) : st;
    }
    *known = false;
    return CRL_OK;
}

static enum crl_status fill(const char *t, const struct crl_question *q, struct crl_str *out,
                            struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    while (*t && !st) {
        size_t n = strcspn(t, "{"), name;
        bool known = false;
        st = crl_str_add(out, t, n, err);
        t += n;
        if (st || !*t) break;
        name = strspn(t + 1, "abcdefghijklmnopqrstuvwxyz");
        if (t[1 + name] == '}') st = put_field(t + 1, name, q, out, &known, err);
        if (!st && !known) st = crl_str_add(out, t, 1, err);
        t += known ? name + 2 : 1;
    }
    return st;
}

enum crl_status crl_ask_check(const struct crl_asker *a, struct crl_err *err)
{
    const struct crl_question none = { .text = (char *)"" };
    struct crl_str out = { NULL, 0, 0 };
    enum crl_status st = CRL_OK;
    bool known;

    if (!a->template) return CRL_OK;
    if (!strstr(a->template, "{question}"))
        return crl_fail(err, CRL_ERANGE, "the template has no {question}");
    for (const char *p = a->template; (p = strchr(p, '{')) && !st; p++) {
        size_t name = strspn(p + 1, "abcdefghijklmnopqrstuvwxyz");
        if (!name || p[1 + name] != '}') continue;
        st = put_field(p + 1, name, &none, &out, &known, err);
        if (!st && !known)
            st = crl_fail(err, CRL_ERANGE,
                          "the template asks for {%.*s}; there are {question} {context} {choices} {tests}",
                          (int)(name < 40 ? name : 40), p + 1);
    }
    crl_str_fini(&out);
    return st;
}

/* --- prompts -------------------------------------------------------------------------------------------- */

/* The answer that an example shows. */
static const char *shown_answer(const struct crl_asker *a, const struct crl_question *q)
{
    if (a->ask == CRL_ASK_OPTION && q->right >= 0) return q->choice[q->right];
    if (a->ask == CRL_ASK_REPLY && q->solution && *q->solution) return q->solution;
    return q->n_gold ? q->gold[0] : "";
}

/* Text with pictures in it. */
struct scene {
    struct crl_str text;
    struct spot {
        size_t at;        /* before this byte */
        const char *file; /* of a question */
    } *spot;
    size_t n_spot, cap_spot;
};

static void scene_fini(struct scene *s)
{
    crl_str_fini(&s->text);
    crl_free(s->spot);
}

static enum crl_status add_spot(struct scene *s, const char *file, struct crl_err *err)
{
    enum crl_status st =
        crl_grow((void **)&s->spot, &s->cap_spot, s->n_spot + 1, sizeof *s->spot, SPOTS_MAX, err);

    if (!st) s->spot[s->n_spot++] = (struct spot){ s->text.len, file };
    return st;
}

/* The length of a mark at the start of the text, 0: there is none. *number: of "<image N>", 0 for "<image>". */
static size_t read_mark(const char *p, size_t *number)
{
    size_t n = strlen("<image");

    *number = 0;
    if (strncmp(p, "<image", n)) return 0;
    if (p[n] == '>') return n + 1;
    if (p[n] != ' ' || p[n + 1] < '1' || p[n + 1] > '9') return 0;
    for (n++; p[n] >= '0' && p[n] <= '9' && *number < 1000; n++) *number = *number * 10 + (size_t)(p[n] - '0');
    return p[n] == '>' ? n + 1 : 0;
}

/* Append a question's text with its pictures where its marks say, those without a mark before it. */
static enum crl_status place_marks(const struct crl_question *q, const char *text, struct scene *s,
                                   struct crl_err *err)
{
    bool named[CRL_IMAGES_MAX] = { false };
    size_t left, plain = 0, next = 0, number, mark;
    enum crl_status st = CRL_OK;

    for (const char *p = text; (p = strchr(p, '<')); p++) {
        mark = read_mark(p, &number);
        if (number > q->n_image)
            return crl_fail(err, CRL_EFORMAT, "<image %zu> stands in it, but it has %zu picture%s", number,
                            q->n_image, q->n_image == 1 ? "" : "s");
        if (mark && number) named[number - 1] = true;
        else if (mark) plain++;
    }
    left = q->n_image;
    for (size_t i = 0; i < q->n_image; i++) left -= named[i];
    if (plain > left)
        return crl_fail(err, CRL_EFORMAT, "<image> stands in it %zu time%s, but %zu of its pictures %s left for that",
                        plain, plain == 1 ? "" : "s", left, left == 1 ? "is" : "are");
    /* With both kinds of marks the first pictures without a number go to the plain ones. */
    for (size_t i = 0, seen = 0; i < q->n_image && !st; i++)
        if (!named[i] && seen++ >= plain) st = add_spot(s, q->image[i], err);
    while (*text && !st) {
        size_t n = strcspn(text, "<");
        st = crl_str_add(&s->text, text, n, err);
        text += n;
        if (st || !*text) break;
        mark = read_mark(text, &number);
        if (mark && !number) {
            while (named[next]) next++;
            number = ++next;
        }
        if (mark) st = add_spot(s, q->image[number - 1], err);
        else st = crl_str_add(&s->text, text, 1, err);
        text += mark ? mark : 1;
    }
    return st;
}

/* Append a question by its template. */
static enum crl_status put_question(const struct crl_asker *a, const struct crl_question *q, struct scene *s,
                                    struct crl_err *err)
{
    struct crl_str text = { NULL, 0, 0 };
    enum crl_status st;

    if (a->blind || !q->n_image) return fill(template_of(a, q), q, &s->text, err);
    st = fill(template_of(a, q), q, &text, err);
    if (!st) st = place_marks(q, text.s ? text.s : "", s, err);
    if (st == CRL_EFORMAT) crl_err_prefix(err, "item %s (line %zu)", q->id, q->line);
    crl_str_fini(&text);
    return st;
}

static enum crl_status note_file(struct crl_asked *out, size_t n, const char *file, struct crl_err *err)
{
    enum crl_status st =
        crl_grow((void **)&out->image, &out->cap_image, n + 1, sizeof *out->image, SPOTS_MAX, err);

    if (!st) out->image[n] = file;
    return st;
}

/* The scene as parts of the chat's last message; *n pictures were there before. */
static enum crl_status put_parts(struct crl_chat *chat, const struct scene *s, struct crl_asked *out, size_t *n,
                                 struct crl_err *err)
{
    const char *text = s->text.s ? s->text.s : "";
    size_t at = 0;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < s->n_spot && !st; i++) {
        const struct spot *p = &s->spot[i];
        if (p->at > at) st = crl_chat_add_text(chat, text + at, p->at - at, err);
        if (!st) st = crl_chat_add_image(chat, p->file, err);
        if (!st) st = note_file(out, (*n)++, p->file, err);
        at = p->at;
    }
    if (!st && (s->text.len > at || !s->n_spot)) st = crl_chat_add_text(chat, text + at, s->text.len - at, err);
    return st;
}

static enum crl_status chat_prompt(const struct crl_asker *a, const struct crl_question *q,
                                   struct crl_asked *out, struct crl_err *err)
{
    struct crl_chat chat = { .open_reply = true };
    struct scene scene = { .n_spot = 0 };
    size_t n_image = 0;
    enum crl_status st = CRL_OK;

    if (a->system) st = crl_chat_add(&chat, "system", err);
    if (a->system && !st) st = crl_chat_add_text(&chat, a->system, strlen(a->system), err);
    for (size_t i = 0; i <= a->n_shot && !st; i++) {
        const struct crl_question *one = i < a->n_shot ? &a->shots->v[i] : q;
        const char *answer = shown_answer(a, one);
        scene.text.len = scene.n_spot = 0;
        st = put_question(a, one, &scene, err);
        if (!st) st = crl_chat_add(&chat, "user", err);
        if (!st) st = put_parts(&chat, &scene, out, &n_image, err);
        if (st || i == a->n_shot) break;
        st = crl_chat_add(&chat, "assistant", err);
        if (!st) st = crl_chat_add_text(&chat, answer, strlen(answer), err);
    }
    if (!st) st = crl_chat_ids(&chat, a->tok, &out->prompt, err);
    crl_chat_fini(&chat);
    scene_fini(&scene);
    return st;
}

static bool ends_in_space(const struct crl_str *s)
{
    return !s->len || s->s[s->len - 1] == ' ' || s->s[s->len - 1] == '\n';
}

/* The ids of text[at..to); the first of a prompt have the begin-of-text token before them. */
static enum crl_status encode_part(const struct crl_asker *a, const struct scene *s, size_t at, size_t to,
                                   struct crl_ids *ids, struct crl_err *err)
{
    unsigned flags = at == 0 && crl_tok_bos(a->tok) >= 0 && !ids->n ? CRL_TOK_BOS : CRL_TOK_PLAIN;

    if (to == at && (ids->n || flags == CRL_TOK_PLAIN)) return CRL_OK;
    return crl_tok_encode(a->tok, s->text.s ? s->text.s + at : "", to - at, flags, ids, err);
}

/* Text between two pictures is encoded by itself. */
static enum crl_status encode_scene(const struct crl_asker *a, const struct scene *s, struct crl_asked *out,
                                    struct crl_err *err)
{
    struct crl_prompt *p = &out->prompt;
    size_t at = 0;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < s->n_spot && !st; i++) {
        st = encode_part(a, s, at, s->spot[i].at, &p->ids, err);
        at = s->spot[i].at;
        if (!st)
            st = crl_grow((void **)&p->images, &p->cap_image, p->n_image + 1, sizeof *p->images, SPOTS_MAX, err);
        if (!st) st = note_file(out, p->n_image, s->spot[i].file, err);
        if (st) break;
        p->images[p->n_image++] = (struct crl_image_at){ p->ids.n, 0, i };
        st = crl_ids_add(&p->ids, 0, err); /* a picture's tokens come here, whatever the id */
    }
    return st ? st : encode_part(a, s, at, s->text.len, &p->ids, err);
}

static enum crl_status text_prompt(const struct crl_asker *a, const struct crl_question *q,
                                   struct crl_asked *out, struct crl_err *err)
{
    struct scene scene = { .n_spot = 0 };
    struct crl_str *text = &scene.text;
    enum crl_status st = CRL_OK;

    if (a->system) {
        st = crl_str_puts(text, a->system, err);
        if (!st) st = crl_str_puts(text, "\n\n", err);
    }
    for (size_t i = 0; i <= a->n_shot && !st; i++) {
        const struct crl_question *one = i < a->n_shot ? &a->shots->v[i] : q;
        st = put_question(a, one, &scene, err);
        if (st || i == a->n_shot) break;
        if (!ends_in_space(text)) st = crl_str_puts(text, " ", err);
        if (!st) st = crl_str_puts(text, shown_answer(a, one), err);
        if (!st && a->format == CRL_DATA_MBPP) st = crl_str_puts(text, "\n[DONE]", err);
        if (!st) st = crl_str_puts(text, "\n\n", err);
    }
    if (!st) st = encode_scene(a, &scene, out, err);
    scene_fini(&scene);
    return st;
}

enum crl_status crl_ask_prompt(const struct crl_asker *a, const struct crl_question *q, struct crl_asked *out,
                               struct crl_err *err)
{
    return a->chat ? chat_prompt(a, q, out, err) : text_prompt(a, q, out, err);
}

void crl_asked_fini(struct crl_asked *p)
{
    crl_prompt_fini(&p->prompt);
    crl_free(p->image);
    memset(p, 0, sizeof *p);
}

enum crl_status crl_ask_option(const struct crl_asker *a, const char *text, struct crl_ids *out,
                               struct crl_err *err)
{
    struct crl_str s = { NULL, 0, 0 };
    enum crl_status st = a->chat ? CRL_OK : crl_str_puts(&s, " ", err);

    if (!st) st = crl_str_puts(&s, text, err);
    if (!st) st = crl_tok_encode(a->tok, s.s ? s.s : "", s.len, CRL_TOK_PLAIN, out, err);
    crl_str_fini(&s);
    return st;
}
