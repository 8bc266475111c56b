/* items.c - what the rows of each data set mean. */
#define _GNU_SOURCE
#include "eval/items.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "eval/rows.h"
#include "text/regex.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row at hand. Readers stop at the first failure; its sentence names the place. */
struct row {
    const char *path;
    const struct crl_data_rows *rows;
    const struct crl_data_row *row;
    struct crl_err *err;
};

static enum crl_status wrong(const struct row *r, const char *key, const char *what)
{
    return crl_fail(r->err, CRL_EFORMAT, "%s: %s %zu: field \"%s\" %s", r->path,
                    r->rows->document ? "item" : "line", r->row->line, key, what);
}

static enum crl_status no_memory(const struct row *r)
{
    return crl_fail(r->err, CRL_ENOMEM, "%s: no memory for its items", r->path);
}

static const json_t *look(const struct row *r, const char *key)
{
    const json_t *v = json_object_get(r->row->fields, key);

    return json_is_null(v) ? NULL : v;
}

/* --- values --------------------------------------------------------------------------------------------- */

/* A string, or a number as its digits, in fresh memory. */
static enum crl_status to_text(const struct row *r, const char *key, const json_t *v, char **out)
{
    char number[64];

    if (json_is_string(v)) {
        if (strlen(json_string_value(v)) != json_string_length(v)) return wrong(r, key, "holds a zero byte");
        *out = crl_strdup(json_string_value(v));
    } else if (json_is_integer(v)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        *out = crl_strdup(number);
    } else if (json_is_real(v)) {
        snprintf(number, sizeof number, "%.15g", json_real_value(v));
        *out = crl_strdup(number);
    } else if (json_is_boolean(v)) {
        *out = crl_strdup(json_is_true(v) ? "true" : "false");
    } else {
        return wrong(r, key, "is neither a string nor a number");
    }
    return *out ? CRL_OK : no_memory(r);
}

/* A field's text; absent: *out stays NULL. */
static enum crl_status may(const struct row *r, const char *key, char **out)
{
    const json_t *v = look(r, key);

    if (!v || *out) return CRL_OK;
    return to_text(r, key, v, out);
}

static enum crl_status must(const struct row *r, const char *key, char **out)
{
    enum crl_status st = may(r, key, out);

    if (st) return st;
    if (!*out) return wrong(r, key, "is missing");
    return **out ? CRL_OK : wrong(r, key, "is empty");
}

/* Append to a list of strings; takes text over, also on failure. */
static enum crl_status list_add(const struct row *r, const char *key, char ***list, size_t *n, size_t most,
                                char *text)
{
    char **grown;

    if (*n == most) {
        crl_free(text);
        return wrong(r, key, "has too many entries");
    }
    grown = crl_alloc(*n + 1, sizeof *grown);
    if (!grown || !text) {
        crl_free(grown);
        crl_free(text);
        return no_memory(r);
    }
    if (*n) memcpy(grown, *list, *n * sizeof *grown);
    grown[(*n)++] = text;
    crl_free(*list);
    *list = grown;
    return CRL_OK;
}

/* A list of texts, or one text. */
static enum crl_status texts(const struct row *r, const char *key, const json_t *v, char ***list, size_t *n,
                             size_t most)
{
    bool many = json_is_array(v);
    size_t len = many ? json_array_size(v) : 1;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < len && !st; i++) {
        char *text = NULL;
        st = to_text(r, key, many ? json_array_get(v, i) : v, &text);
        if (!st) st = list_add(r, key, list, n, most, text);
    }
    return st;
}

static enum crl_status may_list(const struct row *r, const char *key, char ***list, size_t *n, size_t most)
{
    const json_t *v = look(r, key);

    return v ? texts(r, key, v, list, n, most) : CRL_OK;
}

static enum crl_status must_list(const struct row *r, const char *key, char ***list, size_t *n, size_t most)
{
    enum crl_status st = may_list(r, key, list, n, most);

    if (st) return st;
    return *n ? CRL_OK : wrong(r, key, look(r, key) ? "is empty" : "is missing");
}

/* The files of images: names, or objects that name them under "path" as published tables have it. */
static enum crl_status may_image(const struct row *r, const char *key, struct crl_question *q)
{
    const json_t *v = look(r, key);
    bool many = json_is_array(v);
    size_t n = many ? json_array_size(v) : v ? 1 : 0;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < n && !st; i++) {
        const json_t *one = many ? json_array_get(v, i) : v;
        if (json_is_object(one)) one = json_object_get(one, "path");
        if (!json_is_string(one) || !json_string_length(one)) return wrong(r, key, "names no file");
        st = texts(r, key, one, &q->image, &q->n_image, CRL_IMAGES_MAX);
    }
    return st;
}

static enum crl_status must_image(const struct row *r, const char *key, struct crl_question *q)
{
    enum crl_status st = may_image(r, key, q);

    if (st) return st;
    return q->n_image ? CRL_OK : wrong(r, key, look(r, key) ? "is empty" : "is missing");
}

/* A list as Python prints it: "['4', \"it's\"]". MMMU holds its options so. */
static enum crl_status python_list(const struct row *r, const char *key, char ***list, size_t *n)
{
    const json_t *v = look(r, key);
    const char *p;
    enum crl_status st = CRL_OK;

    if (!json_is_string(v)) return must_list(r, key, list, n, CRL_CHOICES_MAX);
    p = json_string_value(v);
    while (*p == ' ') p++;
    if (*p++ != '[') return wrong(r, key, "is no list");
    while (!st) {
        struct crl_str s = { NULL, 0, 0 };
        char quote;
        while (*p == ' ' || *p == ',' || *p == '\n') p++;
        if (*p == ']') return CRL_OK;
        quote = *p++;
        if (quote != '\'' && quote != '"') return wrong(r, key, "is no list of quoted texts");
        for (; *p && *p != quote && !st; p++) {
            char c = *p;
            if (c == '\\' && p[1]) {
                c = *++p;
                if (c == 'n') c = '\n';
                else if (c == 't') c = '\t';
                else if (c != '\\' && c != '\'' && c != '"') st = crl_str_add(&s, "\\", 1, r->err);
            }
            if (!st) st = crl_str_add(&s, &c, 1, r->err);
        }
        if (!st && *p++ != quote) st = wrong(r, key, "is a list that never ends");
        if (!st) st = list_add(r, key, list, n, CRL_CHOICES_MAX, crl_strdup(s.s ? s.s : ""));
        crl_str_fini(&s);
    }
    return st;
}

/* The index of the right option, given as a letter, as a number from 0, or as the option's own text. */
static enum crl_status right_option(const struct row *r, const char *key, struct crl_question *q)
{
    const json_t *v = look(r, key);
    const char *s = json_string_value(v);
    char letter[2] = "A";

    q->right = -1;
    if (!v) return wrong(r, key, "is missing");
    if (json_is_integer(v) && json_integer_value(v) >= 0 && (uint64_t)json_integer_value(v) < q->n_choice)
        q->right = (int)json_integer_value(v);
    for (size_t i = 0; s && i < q->n_choice && q->right < 0; i++)
        if (strcmp(q->choice[i], s) == 0) q->right = (int)i;
    if (q->right < 0 && s && s[0] && !s[1] && (unsigned)(s[0] - 'A') < q->n_choice) q->right = s[0] - 'A';
    if (q->right < 0 && s && s[0] && !s[1] && (unsigned)(s[0] - '0') < q->n_choice) q->right = s[0] - '0';
    if (q->right < 0) return wrong(r, key, "names none of the options");
    letter[0] = (char)('A' + q->right);
    return list_add(r, key, &q->gold, &q->n_gold, CRL_ANSWERS_MAX, crl_strdup(letter));
}

/* --- the data sets -------------------------------------------------------------------------------------- */

static enum crl_status read_generic(const struct row *r, struct crl_question *q)
{
    static const char *const accepted[] = { "answer", "answers", "target", "label" };
    enum crl_status st = may(r, "id", &q->id);
    const char *key = NULL;

    if (!st) st = may(r, "group", &q->group);
    if (!st) st = may(r, "task", &q->group);
    if (!st) st = may(r, "prompt", &q->text);
    if (!st) st = q->text ? CRL_OK : must(r, "question", &q->text);
    if (!st) st = may(r, "context", &q->context);
    if (!st) st = may(r, "solution", &q->solution);
    if (!st) st = may(r, "tests", &q->tests);
    if (!st) st = may(r, "setup", &q->setup);
    if (!st) st = may_image(r, "images", q);
    if (!st) st = may_image(r, "image", q);
    if (!st) st = may_list(r, "choices", &q->choice, &q->n_choice, CRL_CHOICES_MAX);
    for (char c = 'A'; !st && c <= 'J'; c++) { /* columns of a table */
        char column[2] = { c, 0 };
        const json_t *v = look(r, column);
        if (!v || (json_is_string(v) && !json_string_length(v))) break;
        st = texts(r, column, v, &q->choice, &q->n_choice, CRL_CHOICES_MAX);
    }
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0] && !key; i++)
        if (look(r, accepted[i])) key = accepted[i];
    if (st || (!key && q->tests)) return st;
    if (!key) return wrong(r, "answer", "is missing");
    if (q->n_choice) return right_option(r, key, q);
    return must_list(r, key, &q->gold, &q->n_gold, CRL_ANSWERS_MAX);
}

static enum crl_status read_mmlu(const struct row *r, struct crl_question *q)
{
    enum crl_status st = must(r, "question", &q->text);

    if (!st) st = may(r, "subject", &q->group);
    if (!st && look(r, "choices")) st = must_list(r, "choices", &q->choice, &q->n_choice, CRL_CHOICES_MAX);
    for (char c = 'A'; !st && c <= 'D' && !look(r, "choices"); c++) {
        char column[2] = { c, 0 }, *text = NULL;
        st = must(r, column, &text);
        if (!st) st = list_add(r, column, &q->choice, &q->n_choice, CRL_CHOICES_MAX, text);
        else crl_free(text);
    }
    return st ? st : right_option(r, "answer", q);
}

static enum crl_status read_mmlu_pro(const struct row *r, struct crl_question *q)
{
    enum crl_status st = may(r, "question_id", &q->id);

    if (!st) st = must(r, "question", &q->text);
    if (!st) st = may(r, "category", &q->group);
    if (!st) st = may(r, "cot_content", &q->solution);
    if (!st) st = must_list(r, "options", &q->choice, &q->n_choice, CRL_CHOICES_MAX);
    return st ? st : right_option(r, look(r, "answer_index") ? "answer_index" : "answer", q);
}

/* The right answer stands apart, so the order of the options is ours: drawn by the hash of the question, the
 * same in every run. */
static enum crl_status read_gpqa(const struct row *r, struct crl_question *q)
{
    static const char *const field[] = { "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2",
                                         "Incorrect Answer 3" };
    unsigned order[4] = { 0, 1, 2, 3 };
    enum crl_status st = must(r, "Question", &q->text);
    uint64_t draw = st ? 0 : crl_hash(q->text, strlen(q->text));
    char letter[2] = "A";

    if (!st) st = may(r, "Record ID", &q->id);
    if (!st) st = may(r, "High-level domain", &q->group);
    if (!st) st = may(r, "Explanation", &q->solution);
    for (unsigned i = 4; i > 1; i--) {
        unsigned j = (unsigned)(draw % i), keep = order[i - 1];
        draw /= i;
        order[i - 1] = order[j];
        order[j] = keep;
    }
    for (unsigned i = 0; i < 4 && !st; i++) {
        char *text = NULL;
        st = must(r, field[order[i]], &text);
        if (!st) st = list_add(r, field[order[i]], &q->choice, &q->n_choice, CRL_CHOICES_MAX, text);
        else crl_free(text);
        if (order[i] == 0) q->right = (int)i;
    }
    letter[0] = (char)('A' + q->right);
    return st ? st : list_add(r, "Correct Answer", &q->gold, &q->n_gold, CRL_ANSWERS_MAX, crl_strdup(letter));
}

/* Add text[from..] without blanks and thousands' commas as the accepted answer. */
static enum crl_status gold_number(const struct row *r, const char *key, struct crl_question *q,
                                   const char *text)
{
    char *copy = crl_strdup(text);
    size_t n = 0;

    if (!copy) return no_memory(r);
    for (size_t i = 0; copy[i]; i++)
        if (!strchr(", \t\r\n", copy[i])) copy[n++] = copy[i];
    copy[n] = 0;
    if (n) return list_add(r, key, &q->gold, &q->n_gold, CRL_ANSWERS_MAX, copy);
    crl_free(copy);
    return wrong(r, key, "holds no answer");
}

static enum crl_status read_gsm8k(const struct row *r, struct crl_question *q)
{
    enum crl_status st = must(r, "question", &q->text);
    const char *at;

    if (!st) st = must(r, "answer", &q->solution);
    if (st) return st;
    at = strstr(q->solution, "####");
    return at ? gold_number(r, "answer", q, at + 4) : wrong(r, "answer", "has no \"####\" before the result");
}

static enum crl_status read_mgsm(const struct row *r, struct crl_question *q)
{
    enum crl_status st = must(r, "question", &q->text);
    const char *key = look(r, "answer_number") ? "answer_number" : "answer";
    char *number = NULL;

    if (!st && strcmp(key, "answer")) st = may(r, "answer", &q->solution);
    if (!st) st = must(r, key, &number);
    if (!st) st = gold_number(r, key, q, number);
    crl_free(number);
    return st;
}

static const char *last_in(const char *text, const char *name)
{
    const char *at = NULL;

    for (const char *p = text; (p = strstr(p, name)); p++) at = p + strlen(name);
    return at;
}

/* What stands in the last \boxed{} of a solution, or in \fbox{}, in fresh memory; NULL when there is none. */
static char *boxed_answer(const char *text)
{
    const char *at = last_in(text, "\\boxed");
    size_t depth = 0;

    if (!at) at = last_in(text, "\\fbox");
    if (!at) return NULL;
    if (*at == ' ') return crl_memdup0(at + 1, strcspn(at + 1, "$\n")); /* "\boxed 5$" */
    for (size_t n = 0; at[n] && (n || *at == '{'); n++) {
        if (at[n] == '{') depth++;
        if (at[n] == '}' && --depth == 0) return crl_memdup0(at + 1, n - 1);
    }
    return NULL;
}

static enum crl_status read_math(const struct row *r, struct crl_question *q)
{
    enum crl_status st = must(r, "problem", &q->text);
    char *answer = NULL;

    if (!st) st = must(r, "solution", &q->solution);
    if (!st) st = may(r, "unique_id", &q->id);
    if (!st) st = may(r, "type", &q->group);
    if (!st) st = may(r, "subject", &q->group);
    if (!st) st = may(r, "answer", &answer);
    if (st) return st;
    if (!answer) answer = boxed_answer(q->solution);
    if (!answer) return wrong(r, "solution", "has no \\boxed{} answer");
    return list_add(r, "answer", &q->gold, &q->n_gold, CRL_ANSWERS_MAX, answer);
}

/* Lines of a list as one text. */
static enum crl_status lines(const struct row *r, const char *key, char **out)
{
    struct crl_str s = { NULL, 0, 0 };
    char **list = NULL;
    size_t n = 0;
    enum crl_status st = may_list(r, key, &list, &n, 4096);

    for (size_t i = 0; i < n; i++) {
        if (!st && (s.len || i)) st = crl_str_puts(&s, "\n", r->err);
        if (!st) st = crl_str_puts(&s, list[i], r->err);
        crl_free(list[i]);
    }
    crl_free(list);
    if (!st && s.len && !(*out = crl_strdup(s.s))) st = no_memory(r);
    crl_str_fini(&s);
    return st;
}

static enum crl_status read_mbpp(const struct row *r, struct crl_question *q)
{
    enum crl_status st = may(r, "task_id", &q->id);

    if (!st) st = may(r, "text", &q->text);
    if (!st && !q->text) st = must(r, "prompt", &q->text); /* the sanitised edition */
    if (!st) st = must(r, "code", &q->solution);
    if (!st) st = lines(r, "test_list", &q->tests);
    if (!st && !q->tests) st = wrong(r, "test_list", look(r, "test_list") ? "is empty" : "is missing");
    if (!st) st = lines(r, "test_imports", &q->setup);
    if (!st) st = may(r, "test_setup_code", &q->setup);
    return st;
}

static enum crl_status read_tydiqa(const struct row *r, struct crl_question *q)
{
    enum crl_status st = may(r, "id", &q->id);
    const json_t *answers = look(r, "answers");
    const char *dash;
    size_t i;
    json_t *a;

    if (!st) st = must(r, "question", &q->text);
    if (!st) st = must(r, "context", &q->context);
    if (st) return st;
    if (!answers) return wrong(r, "answers", "is missing");
    if (json_is_object(answers))
        st = texts(r, "answers", json_object_get(answers, "text"), &q->gold, &q->n_gold, CRL_ANSWERS_MAX);
    else json_array_foreach(answers, i, a)
        {
            st = texts(r, "answers", json_object_get(a, "text"), &q->gold, &q->n_gold, CRL_ANSWERS_MAX);
            if (st) return st;
        }
    if (!st && !q->n_gold) st = wrong(r, "answers", "is empty");
    dash = q->id ? strchr(q->id, '-') : NULL; /* "arabic-2387335860751143628-1" */
    if (!st && dash && dash != q->id && !(q->group = crl_memdup0(q->id, (size_t)(dash - q->id))))
        st = no_memory(r);
    return st;
}

static enum crl_status read_chartqa(const struct row *r, struct crl_question *q)
{
    enum crl_status st = must(r, "query", &q->text);

    if (!st) st = must_list(r, "label", &q->gold, &q->n_gold, CRL_ANSWERS_MAX);
    if (!st)
        st = must_image(r, look(r, "imgname") ? "imgname" : "image", q);
    if (!st && json_is_string(look(r, "type"))) st = may(r, "type", &q->group);
    return st;
}

static enum crl_status read_docvqa(const struct row *r, struct crl_question *q)
{
    enum crl_status st = may(r, "questionId", &q->id);

    if (!st) st = must(r, "question", &q->text);
    if (!st) st = must_list(r, "answers", &q->gold, &q->n_gold, CRL_ANSWERS_MAX);
    return st ? st : must_image(r, "image", q);
}

static enum crl_status read_mmmu(const struct row *r, struct crl_question *q)
{
    enum crl_status st = must(r, "id", &q->id);
    const char *kind = json_string_value(look(r, "question_type"));

    if (!st) st = must(r, "question", &q->text);
    if (!st) st = may(r, "subfield", &q->group);
    for (char c = '1'; c <= '7' && !st; c++) {
        char key[] = "image_1";
        key[6] = c;
        if (look(r, key) && q->n_image != (size_t)(c - '1')) st = wrong(r, key, "comes without those before it");
        if (!st) st = may_image(r, key, q);
    }
    if (st) return st;
    if (kind && strcmp(kind, "open") == 0) {
        const json_t *v = look(r, "answer");
        if (!json_is_string(v) || json_string_value(v)[0] != '[')
            return must_list(r, "answer", &q->gold, &q->n_gold, CRL_ANSWERS_MAX);
        return python_list(r, "answer", &q->gold, &q->n_gold);
    }
    st = python_list(r, "options", &q->choice, &q->n_choice);
    return st ? st : right_option(r, "answer", q);
}

static enum crl_status read_mathvista(const struct row *r, struct crl_question *q)
{
    enum crl_status st = may(r, "pid", &q->id);

    if (!st) st = must(r, "question", &q->text);
    if (!st) st = may(r, "answer_type", &q->group);
    if (!st) st = may_list(r, "choices", &q->choice, &q->n_choice, CRL_CHOICES_MAX);
    if (!st) st = must_image(r, "image", q);
    if (st || q->n_choice) return st ? st : right_option(r, "answer", q);
    return must_list(r, "answer", &q->gold, &q->n_gold, CRL_ANSWERS_MAX);
}

/* --- finding out ---------------------------------------------------------------------------------------- */

static const struct format {
    const char *name;
    enum crl_status (*read)(const struct row *, struct crl_question *);
    const char *fields[4];  /* a first row with all of them is of this format; NULL: never guessed */
    const char *columns[8]; /* of files without a header, NULL: they have one */
} formats[CRL_DATA_COUNT] = {
    [CRL_DATA_AUTO] = { "auto", NULL, { NULL }, { NULL } },
    [CRL_DATA_GENERIC] = { "generic", read_generic, { NULL }, { NULL } },
    [CRL_DATA_MMLU] = { "mmlu",
                        read_mmlu,
                        { "question", "choices", "subject" },
                        { "question", "A", "B", "C", "D", "answer" } },
    [CRL_DATA_MMLU_PRO] = { "mmlu-pro", read_mmlu_pro, { "question", "options", "answer_index" }, { NULL } },
    [CRL_DATA_GPQA] = { "gpqa", read_gpqa, { "Question", "Correct Answer" }, { NULL } },
    [CRL_DATA_GSM8K] = { "gsm8k", read_gsm8k, { NULL }, { NULL } },
    [CRL_DATA_MGSM] = { "mgsm", read_mgsm, { "question", "answer_number" }, { "question", "answer" } },
    [CRL_DATA_MATH] = { "math", read_math, { "problem", "solution" }, { NULL } },
    [CRL_DATA_MBPP] = { "mbpp", read_mbpp, { "code", "test_list" }, { NULL } },
    [CRL_DATA_TYDIQA] = { "tydiqa", read_tydiqa, { "question", "context", "answers" }, { NULL } },
    [CRL_DATA_CHARTQA] = { "chartqa", read_chartqa, { "query", "label" }, { NULL } },
    [CRL_DATA_DOCVQA] = { "docvqa", read_docvqa, { "questionId", "image" }, { NULL } },
    [CRL_DATA_MMMU] = { "mmmu", read_mmmu, { "question", "options", "question_type" }, { NULL } },
    [CRL_DATA_MATHVISTA] = { "mathvista", read_mathvista, { "pid", "question_type", "image" }, { NULL } },
};

const char *crl_data_name(enum crl_data_format f)
{
    return formats[f].name;
}

bool crl_data_parse(enum crl_data_format *out, const char *name)
{
    for (unsigned i = 0; i < CRL_DATA_COUNT; i++)
        if (strcmp(formats[i].name, name) == 0) {
            *out = (enum crl_data_format)i;
            return true;
        }
    return false;
}

static bool holds_objects(const json_t *v)
{
    return json_is_object(v) || json_is_object(json_array_get(v, 0));
}

/* By the fields of the first row. GSM8K has a generic file's fields; its answers give it away. */
static enum crl_data_format guess(const json_t *row)
{
    const char *answer = json_string_value(json_object_get(row, "answer"));

    for (unsigned i = 0; i < CRL_DATA_COUNT; i++) {
        const char *const *f = formats[i].fields;
        while (*f && json_object_get(row, *f)) f++;
        if (i == CRL_DATA_TYDIQA && !holds_objects(json_object_get(row, "answers"))) continue;
        if (f != formats[i].fields && !*f) return (enum crl_data_format)i;
    }
    if (answer && strstr(answer, "\n####") && json_object_get(row, "question")) return CRL_DATA_GSM8K;
    return CRL_DATA_GENERIC;
}

/* MMLU's CSV and MGSM's TSV have no header: six cells the last of which is a letter, or a text and a number.
 */
static enum crl_status guess_columns(const char *path, enum crl_data_format *format,
                                     const char *const **columns, struct crl_err *err)
{
    char *first, *last;
    size_t n;
    enum crl_status st = crl_rows_peek(path, &n, &first, &last, err);
    bool letter = !st && n == 6 && strlen(last) == 1 && *last >= 'A' && *last <= 'D';
    bool number =
        !st && n == 2 && *last && strspn(last, "-0123456789.,") == strlen(last) && strcmp(first, "question");

    *columns = NULL;
    if (letter && (*format == CRL_DATA_AUTO || *format == CRL_DATA_MMLU)) *format = CRL_DATA_MMLU;
    else if (number && (*format == CRL_DATA_AUTO || *format == CRL_DATA_MGSM)) *format = CRL_DATA_MGSM;
    else letter = number = false;
    if (letter || number) *columns = formats[*format].columns;
    crl_free(first);
    crl_free(last);
    return st;
}

static void question_fini(struct crl_question *q)
{
    for (size_t i = 0; i < q->n_choice; i++) crl_free(q->choice[i]);
    for (size_t i = 0; i < q->n_gold; i++) crl_free(q->gold[i]);
    for (size_t i = 0; i < q->n_image; i++) crl_free(q->image[i]);
    crl_free(q->choice);
    crl_free(q->gold);
    crl_free(q->image);
    crl_free(q->id);
    crl_free(q->group);
    crl_free(q->text);
    crl_free(q->context);
    crl_free(q->solution);
    crl_free(q->tests);
    crl_free(q->setup);
    memset(q, 0, sizeof *q);
}

static enum crl_status read_row(struct crl_questions *qs, const struct row *r)
{
    enum crl_status st =
        crl_grow((void **)&qs->v, &qs->cap, qs->n + 1, sizeof *qs->v, CRL_QUESTIONS_MAX, r->err);
    struct crl_question *q;
    char number[32];

    if (st) return st;
    q = &qs->v[qs->n++];
    q->right = -1;
    q->line = r->row->line;
    st = formats[qs->format].read(r, q);
    if (st || q->id) return st;
    snprintf(number, sizeof number, "%zu", qs->n);
    q->id = crl_strdup(number);
    return q->id ? CRL_OK : no_memory(r);
}

enum crl_status crl_questions_read(struct crl_questions **out, const char *path, enum crl_data_format format,
                                   struct crl_err *err)
{
    struct crl_questions *q = crl_alloc(1, sizeof *q);
    struct crl_data_rows rows = { .n = 0 };
    const char *const *columns = NULL;
    enum crl_status st =
        q ? guess_columns(path, &format, &columns, err) : crl_fail(err, CRL_ENOMEM, "no memory for items");

    *out = NULL;
    if (!st) st = crl_rows_read(&rows, path, columns, err);
    if (!st) {
        q->format = format != CRL_DATA_AUTO ? format : guess(rows.v[0].fields);
        q->hash = rows.hash;
    }
    for (size_t i = 0; i < rows.n && !st; i++)
        st = read_row(q, &(struct row){ path, &rows, &rows.v[i], err });
    crl_rows_fini(&rows);
    if (st) {
        crl_questions_free(q);
        return st;
    }
    *out = q;
    return CRL_OK;
}

void crl_questions_free(struct crl_questions *q)
{
    if (!q) return;
    for (size_t i = 0; i < q->n; i++) question_fini(&q->v[i]);
    crl_free(q->v);
    crl_free(q);
}

/* --- changing the list ---------------------------------------------------------------------------------- */

/* Cut the lettered lines off one question; it stays as it is when they do not begin with A and follow one
 * another. */
static enum crl_status split_choices(const struct crl_regex *line, struct crl_question *q,
                                     struct crl_err *err)
{
    const struct row r = { .path = "choices",
                           .rows = &(struct crl_data_rows){ .document = true },
                           .row = &(struct crl_data_row){ NULL, q->line },
                           .err = err };
    size_t len = strlen(q->text), at = 0, end = len;
    struct crl_span g[CRL_REGEX_GROUPS];
    enum crl_status st = CRL_OK;
    bool found = true;

    if (q->n_choice || q->n_gold != 1 || strlen(q->gold[0]) != 1) return CRL_OK;
    while (!st) {
        st = crl_regex_find(line, q->text, len, at, g, &found, err);
        if (st || !found || q->text[g[1].from] != (char)('A' + q->n_choice) || q->n_choice == CRL_CHOICES_MAX)
            break;
        if (!q->n_choice) end = g[0].from;
        st = list_add(&r, "choices", &q->choice, &q->n_choice, CRL_CHOICES_MAX,
                      crl_memdup0(q->text + g[2].from, g[2].to - g[2].from));
        at = g[0].to;
    }
    if (st) return st;
    q->right = q->gold[0][0] - 'A';
    if (q->n_choice >= 2 && q->right >= 0 && (size_t)q->right < q->n_choice) {
        q->text[end] = 0;
        return CRL_OK;
    }
    for (size_t i = 0; i < q->n_choice; i++) crl_free(q->choice[i]);
    crl_free(q->choice);
    q->choice = NULL;
    q->n_choice = 0;
    q->right = -1;
    return CRL_OK;
}

enum crl_status crl_questions_split_choices(struct crl_questions *q, struct crl_err *err)
{
    struct crl_regex *line;
    enum crl_status st = crl_regex_new(&line, "\\n([A-Z])[.)] +([^\\n]*[^\\s])", 0, err);

    for (size_t i = 0; i < q->n && !st; i++) st = split_choices(line, &q->v[i], err);
    crl_regex_free(line);
    return st;
}

enum crl_status crl_questions_select(struct crl_questions *q, const char *glob, size_t most,
                                     struct crl_err *err)
{
    size_t n = 0, all = q->n, kept;

    for (size_t i = 0; i < all; i++) {
        const char *group = q->v[i].group ? q->v[i].group : "";
        if (glob && fnmatch(glob, group, 0)) question_fini(&q->v[i]);
        else if (n++ != i) {
            q->v[n - 1] = q->v[i];
            memset(&q->v[i], 0, sizeof q->v[i]);
        }
    }
    q->n = kept = n;
    if (!n) return crl_fail(err, CRL_ENOENT, "none of %zu items is in a group like \"%s\"", all, glob);
    for (size_t i = 0; most && most < kept && i < kept; i++) {
        size_t turn = i * most / kept, next = (i + 1) * most / kept; /* i is taken where the quotient steps */
        if (next == turn) question_fini(&q->v[i]);
        else if (turn != i) {
            q->v[turn] = q->v[i];
            memset(&q->v[i], 0, sizeof q->v[i]);
        }
    }
    if (most && most < kept) q->n = most;
    return CRL_OK;
}

/* --- images --------------------------------------------------------------------------------------------- */

enum crl_status crl_questions_find_images(struct crl_questions *q, const char *path, const char *folder,
                                          struct crl_err *err)
{
    const char *slash = strrchr(path, '/');
    char *own = folder || !slash ? NULL : crl_memdup0(path, slash == path ? 1 : (size_t)(slash - path));

    if (!folder && !slash) return CRL_OK;
    if (!folder && !own) return crl_fail(err, CRL_ENOMEM, "%s: no memory for its folder", path);
    for (size_t i = 0; i < q->n; i++)
        for (size_t k = 0; k < q->v[i].n_image; k++) {
            char **image = &q->v[i].image[k], *joined;
            if (**image == '/') continue;
            joined = crl_path_join(own ? own : folder, *image);
            if (!joined) {
                crl_free(own);
                return crl_fail(err, CRL_ENOMEM, "%s: no memory for its images", path);
            }
            crl_free(*image);
            *image = joined;
        }
    crl_free(own);
    return CRL_OK;
}
