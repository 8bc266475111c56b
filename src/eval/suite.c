/* suite.c - reading a suite and running its entries. */
#define _GNU_SOURCE
#include "eval/suite.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "eval/about.h"
#include "eval/choice.h"
#include "eval/divergence.h"
#include "eval/gate.h"
#include "eval/perplexity.h"
#include "eval/replies.h"
#include "eval/routing.h"

#include <libgen.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PATHS_MAX 4

enum kind { PERPLEXITY = 1, DIVERGENCE = 2, ROUTING = 4, CHOICE = 8, GENERATE = 16 };
#define TEXTS (PERPLEXITY | DIVERGENCE | ROUTING)
#define QUIZZES (CHOICE | GENERATE)
#define ALL (TEXTS | QUIZZES)

static const struct {
    const char *name;
    enum kind kind;
} kinds[] = {
    { "perplexity", PERPLEXITY }, { "divergence", DIVERGENCE }, { "routing", ROUTING },
    { "choice", CHOICE },         { "generate", GENERATE },
};

/* What an entry says, of whatever kind it is. */
struct job {
    struct crl_text_options text;
    const char *reference;
    struct crl_quiz_options quiz;
    struct crl_choice_options choice;
    struct crl_reply_options reply;
    const char *format, *prompt, *by, *normalise, *metric, *extract;
    size_t samples, pass_at, seed, sandbox_s, limit, max_tiles;
    double temperature, top_p;
    char *path[PATHS_MAX]; /* joined with the folder, ours */
    size_t n_path;
};

enum type { NAME, PATH, TEXT, COUNT, REAL, SWITCH };

static const struct member {
    const char *name;
    unsigned kinds;
    enum type type;
    bool needed;
    size_t offset; /* in struct job; of NAME none */
} members[] = {
    { "name", ALL, NAME, true, 0 },
    { "kind", ALL, NAME, true, 0 },
    { "max_seconds", ALL, NAME, false, 0 },
    { "limit", ALL & ~(unsigned)DIVERGENCE, COUNT, false, offsetof(struct job, limit) },
    { "text", PERPLEXITY | ROUTING, PATH, true, offsetof(struct job, text.path) },
    { "field", PERPLEXITY | ROUTING, TEXT, false, offsetof(struct job, text.corpus.field) },
    { "window", PERPLEXITY | ROUTING, COUNT, false, offsetof(struct job, text.window) },
    { "stride", PERPLEXITY | ROUTING, COUNT, false, offsetof(struct job, text.stride) },
    { "no_bos", PERPLEXITY | ROUTING, SWITCH, false, offsetof(struct job, text.corpus.no_bos) },
    { "reference", DIVERGENCE, PATH, true, offsetof(struct job, reference) },
    { "data", QUIZZES, PATH, true, offsetof(struct job, quiz.path) },
    { "format", QUIZZES, TEXT, false, offsetof(struct job, format) },
    { "group", QUIZZES, TEXT, false, offsetof(struct job, quiz.group) },
    { "shots", QUIZZES, COUNT, false, offsetof(struct job, quiz.shots) },
    { "shots_from", QUIZZES, PATH, false, offsetof(struct job, quiz.shots_path) },
    { "system", QUIZZES, TEXT, false, offsetof(struct job, quiz.system) },
    { "template", QUIZZES, TEXT, false, offsetof(struct job, quiz.template) },
    { "prompt", QUIZZES, TEXT, false, offsetof(struct job, prompt) },
    { "without_images", QUIZZES, SWITCH, false, offsetof(struct job, quiz.without_images) },
    { "images", QUIZZES, PATH, false, offsetof(struct job, quiz.images) },
    { "max_tiles", QUIZZES, COUNT, false, offsetof(struct job, max_tiles) },
    { "skip_long", QUIZZES, SWITCH, false, offsetof(struct job, quiz.skip_long) },
    { "by", CHOICE, TEXT, false, offsetof(struct job, by) },
    { "normalise", CHOICE, TEXT, false, offsetof(struct job, normalise) },
    { "metric", GENERATE, TEXT, false, offsetof(struct job, metric) },
    { "extract", GENERATE, TEXT, false, offsetof(struct job, extract) },
    { "pattern", GENERATE, TEXT, false, offsetof(struct job, reply.pattern) },
    { "max_tokens", GENERATE, COUNT, false, offsetof(struct job, reply.max_tokens) },
    { "temperature", GENERATE, REAL, false, offsetof(struct job, temperature) },
    { "top_p", GENERATE, REAL, false, offsetof(struct job, top_p) },
    { "seed", GENERATE, COUNT, false, offsetof(struct job, seed) },
    { "samples", GENERATE, COUNT, false, offsetof(struct job, samples) },
    { "pass_at", GENERATE, COUNT, false, offsetof(struct job, pass_at) },
    { "programs", GENERATE, PATH, false, offsetof(struct job, reply.programs) },
    { "sandbox_seconds", GENERATE, COUNT, false, offsetof(struct job, sandbox_s) },
};
#define N_MEMBER (sizeof members / sizeof members[0])

static enum kind kind_of(const char *name)
{
    for (size_t i = 0; name && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0) return kinds[i].kind;
    return (enum kind)0;
}

static const struct member *find_member(const char *name, enum kind kind)
{
    for (size_t i = 0; i < N_MEMBER; i++)
        if (strcmp(members[i].name, name) == 0 && (members[i].kinds & kind)) return &members[i];
    return NULL;
}

/* --- one entry ------------------------------------------------------------------------------------------ */

static void job_fini(struct job *j)
{
    for (size_t i = 0; i < j->n_path; i++) crl_free(j->path[i]);
    j->n_path = 0;
}

static enum crl_status wrong(const struct crl_suite_entry *e, const char *member, const char *what,
                             struct crl_err *err)
{
    return crl_fail(err, CRL_EFORMAT, "evaluation \"%.100s\": \"%.100s\" %s", e->name, member, what);
}

static enum crl_status take_path(struct job *j, const struct crl_suite *s, const char *text, const char **out,
                                 struct crl_err *err)
{
    char *path = text[0] == '/' ? crl_strdup(text) : crl_path_join(s->folder, text);

    if (!path) return crl_fail(err, CRL_ENOMEM, "no memory for a path");
    j->path[j->n_path++] = path; /* no kind has more than PATHS_MAX */
    *out = path;
    return CRL_OK;
}

static enum crl_status take_member(struct job *j, const struct crl_suite *s, const struct crl_suite_entry *e,
                                   const struct member *m, const json_t *v, struct crl_err *err)
{
    void *to = (char *)j + m->offset;

    switch (m->type) {
    case NAME:
        return CRL_OK;
    case PATH:
    case TEXT:
        if (!json_is_string(v) || !json_string_length(v)) return wrong(e, m->name, "is no text", err);
        if (m->type == PATH) return take_path(j, s, json_string_value(v), to, err);
        *(const char **)to = json_string_value(v);
        return CRL_OK;
    case COUNT:
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
            return wrong(e, m->name, "is no number from 0 to 4294967295", err);
        *(size_t *)to = (size_t)json_integer_value(v);
        return CRL_OK;
    case REAL:
        if (!json_is_number(v) || !(json_number_value(v) >= 0 && json_number_value(v) <= 1000))
            return wrong(e, m->name, "is no number from 0 to 1000", err);
        *(double *)to = json_number_value(v);
        return CRL_OK;
    case SWITCH:
        if (!json_is_boolean(v)) return wrong(e, m->name, "is neither true nor false", err);
        *(bool *)to = json_is_true(v);
        return CRL_OK;
    }
    return CRL_OK;
}

/* Words with a meaning. */
static enum crl_status settle(struct job *j, const struct crl_suite_entry *e, struct crl_err *err)
{
    bool letter = !j->by || strcmp(j->by, "letter") == 0, option = j->by && strcmp(j->by, "option") == 0;

    j->quiz.limit = j->text.corpus.limit = j->limit;
    if (j->format && !crl_data_parse(&j->quiz.format, j->format))
        return wrong(e, "format", "is no format", err);
    if (j->prompt && strcmp(j->prompt, "chat") && strcmp(j->prompt, "text"))
        return wrong(e, "prompt", "is neither chat nor text", err);
    if (!letter && !option && strcmp(j->by, "generate"))
        return wrong(e, "by", "is none of letter, option, generate", err);
    j->choice.by = option ? CRL_CHOICE_OPTION : CRL_CHOICE_LETTER;
    j->choice.norm = option ? CRL_CHOICE_BYTES : CRL_CHOICE_NONE;
    if (j->normalise && !option) return wrong(e, "normalise", "is for \"by\": \"option\"", err);
    if (j->normalise && !crl_choice_norm_parse(&j->choice.norm, j->normalise))
        return wrong(e, "normalise", "is none of none, bytes, tokens, unconditional", err);
    j->reply.letters = j->by && !letter && !option;
    j->reply.has_score = j->metric != NULL;
    if (j->metric && !crl_score_parse(&j->reply.score, j->metric))
        return wrong(e, "metric", "is no metric", err);
    j->reply.has_extract = j->extract || j->reply.pattern;
    j->reply.extract = CRL_EXTRACT_PATTERN;
    if (j->extract && (j->reply.pattern || !crl_extract_parse(&j->reply.extract, j->extract) ||
                       j->reply.extract == CRL_EXTRACT_PATTERN))
        return wrong(e, "extract", "is no way to find an answer", err);
    if (j->samples > CRL_SAMPLES_MAX || j->pass_at > CRL_SAMPLES_MAX)
        return wrong(e, "samples", "is too large", err);
    if (j->max_tiles > CRL_TILES_MAX) return wrong(e, "max_tiles", "is too large", err);
    j->quiz.picture.max_tiles = (uint32_t)j->max_tiles;
    j->reply.samples = (unsigned)j->samples;
    j->reply.k = (unsigned)j->pass_at;
    j->reply.sandbox_s = (unsigned)j->sandbox_s;
    j->reply.sampling.temperature = (float)j->temperature;
    j->reply.sampling.top_p = (float)j->top_p;
    j->reply.sampling.seed = j->seed;
    if (j->text.window && j->text.stride > j->text.window)
        return wrong(e, "stride", "is larger than the window", err);
    return CRL_OK;
}

static enum crl_status read_entry(struct job *j, const struct crl_suite *s, const struct crl_suite_entry *e,
                                  struct crl_err *err)
{
    enum kind kind = kind_of(e->kind);
    enum crl_status st = CRL_OK;
    const char *key;
    json_t *v;

    memset(j, 0, sizeof *j);
    json_object_foreach((json_t *)e->spec, key, v)
    {
        const struct member *m = find_member(key, kind);
        if (!m) st = wrong(e, key, "means nothing to this kind of evaluation", err);
        else st = take_member(j, s, e, m, v, err);
        if (st) break;
    }
    for (size_t i = 0; i < N_MEMBER && !st; i++)
        if (members[i].needed && (members[i].kinds & kind) && !json_object_get(e->spec, members[i].name))
            st = wrong(e, members[i].name, "is missing", err);
    if (!st) st = settle(j, e, err);
    if (st) job_fini(j);
    return st;
}

/* --- the file ------------------------------------------------------------------------------------------- */

static enum crl_status check_name(const struct crl_suite *s, size_t at, struct crl_err *err)
{
    const char *name = s->entry[at].name;

    if (!name[0] || strlen(name) > 100 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != strlen(name))
        return crl_fail(err, CRL_EFORMAT,
                        "evaluation \"%.100s\": a name has 1 to 100 letters, digits, \"_\" and \"-\"", name);
    for (size_t i = 0; i < at; i++)
        if (strcmp(s->entry[i].name, name) == 0)
            return crl_fail(err, CRL_EFORMAT, "evaluation \"%.100s\" is there twice", name);
    return CRL_OK;
}

static enum crl_status add_entry(struct crl_suite *s, const json_t *spec, struct crl_err *err)
{
    struct crl_suite_entry *e = &s->entry[s->n_entry];
    const json_t *seconds = json_object_get(spec, "max_seconds");
    struct job j;
    enum crl_status st;

    e->spec = spec;
    e->kind = json_string_value(json_object_get(spec, "kind"));
    e->name = json_string_value(json_object_get(spec, "name"));
    if (!kind_of(e->kind))
        return crl_fail(
            err, CRL_EFORMAT,
            "evaluation %zu: \"kind\" is none of perplexity, divergence, routing, choice, generate",
            s->n_entry + 1);
    if (!e->name) return crl_fail(err, CRL_EFORMAT, "evaluation %zu has no \"name\"", s->n_entry + 1);
    e->max_seconds = json_number_value(seconds);
    if (seconds && !(json_is_number(seconds) && e->max_seconds > 0))
        return wrong(e, "max_seconds", "is no time", err);
    st = check_name(s, s->n_entry, err);
    if (!st) st = read_entry(&j, s, e, err);
    if (!st) job_fini(&j);
    s->n_entry++;
    return st;
}

static enum crl_status add_gates(struct crl_suite *s, const json_t *list, struct crl_err *err)
{
    size_t i;
    json_t *v;

    if (!list) return CRL_OK;
    if (!json_is_array(list) || json_array_size(list) > CRL_SUITE_GATES_MAX)
        return crl_fail(err, CRL_EFORMAT, "\"fail_if\" is no list of at most %d conditions",
                        CRL_SUITE_GATES_MAX);
    json_array_foreach(list, i, v)
    {
        enum crl_status st = json_is_string(v)
                                 ? crl_gate_check(json_string_value(v), err)
                                 : crl_fail(err, CRL_EFORMAT, "\"fail_if\": condition %zu is no text", i + 1);
        if (st) return st;
        s->gate[s->n_gate++] = json_string_value(v);
    }
    return CRL_OK;
}

static enum crl_status hash_json(const json_t *doc, uint64_t *hash, struct crl_err *err)
{
    char *text = json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS);

    if (!text) return crl_fail(err, CRL_ENOMEM, "no memory for a suite");
    *hash = crl_hash(text, strlen(text));
    free(text);
    return CRL_OK;
}

static enum crl_status fill(struct crl_suite *s, struct crl_err *err)
{
    json_t *list = json_object_get(s->doc, "evaluations"), *name = json_object_get(s->doc, "name"), *v;
    enum crl_status st = hash_json(s->doc, &s->hash, err);
    const char *key;
    size_t i;

    if (st) return st;
    json_object_foreach(s->doc, key,
                        v) if (strcmp(key, "name") && strcmp(key, "evaluations") &&
                               strcmp(key, "fail_if")) return crl_fail(err, CRL_EFORMAT,
                                                                       "\"%.100s\" means nothing in a suite: "
                                                                       "name, evaluations, fail_if",
                                                                       key);
    if (name && !json_is_string(name)) return crl_fail(err, CRL_EFORMAT, "\"name\" is no text");
    s->name = name ? json_string_value(name) : "suite";
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > CRL_SUITE_ENTRIES_MAX)
        return crl_fail(err, CRL_EFORMAT, "\"evaluations\" is no list of 1 to %d objects",
                        CRL_SUITE_ENTRIES_MAX);
    s->entry = crl_alloc(json_array_size(list), sizeof *s->entry);
    if (!s->entry) return crl_fail(err, CRL_ENOMEM, "no memory for a suite");
    json_array_foreach(list, i, v)
    {
        if (!json_is_object(v)) return crl_fail(err, CRL_EFORMAT, "evaluation %zu is no object", i + 1);
        st = add_entry(s, v, err);
        if (st) return st;
    }
    return add_gates(s, json_object_get(s->doc, "fail_if"), err);
}

enum crl_status crl_suite_read(struct crl_suite **out, const char *path, struct crl_err *err)
{
    struct crl_suite *s = crl_alloc(1, sizeof *s);
    char *copy = crl_strdup(path);
    enum crl_status st = s && copy ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a suite");

    *out = NULL;
    if (!st) st = crl_json_read(&s->doc, path, err);
    if (!st && !json_is_object(s->doc)) st = crl_fail(err, CRL_EFORMAT, "%s: is no JSON object", path);
    else if (!st) {
        s->folder = crl_strdup(dirname(copy));
        st = s->folder ? fill(s, err) : crl_fail(err, CRL_ENOMEM, "no memory for a suite");
        if (st) crl_err_prefix(err, "%s", path);
    }
    crl_free(copy);
    if (st) {
        crl_suite_free(s);
        return st;
    }
    *out = s;
    return CRL_OK;
}

void crl_suite_free(struct crl_suite *s)
{
    if (!s) return;
    json_decref(s->doc);
    crl_free(s->folder);
    crl_free(s->entry);
    crl_free(s);
}

enum crl_status crl_suite_spec_hash(const struct crl_suite *s, const struct crl_suite_entry *e,
                                    uint64_t *hash, struct crl_err *err)
{
    uint64_t part[PATHS_MAX + 1] = { 0 };
    struct job j;
    enum crl_status st = read_entry(&j, s, e, err);

    if (st) return st;
    st = hash_json(e->spec, &part[PATHS_MAX], err);
    for (size_t i = 0; i < j.n_path && !st; i++) {
        struct crl_map map;
        if (j.path[i] == j.reply.programs) continue; /* written, not read */
        if (j.path[i] == j.quiz.images) continue;    /* a folder */
        st = crl_map_open(&map, j.path[i], err);
        if (st) break;
        part[i] = crl_hash(map.data, map.size);
        crl_map_close(&map);
    }
    *hash = crl_hash(part, sizeof part);
    if (st) crl_err_prefix(err, "evaluation \"%s\"", e->name);
    job_fini(&j);
    return st;
}

/* --- running -------------------------------------------------------------------------------------------- */

/* Progress that also looks at the clock. */
struct watch {
    const struct crl_suite_options *o;
    double until; /* INFINITY: no limit */
    bool late;
};

static bool watch(void *ctx, size_t done, size_t total)
{
    struct watch *w = ctx;

    w->late = crl_eval_clock() > w->until;
    if (w->late) return false;
    return !w->o->progress || w->o->progress(w->o->progress_ctx, done, total);
}

static enum crl_status run_job(struct crl_result **out, struct job *j, enum kind kind,
                               struct crl_engine *engine, struct crl_err *err)
{
    j->choice.quiz = j->reply.quiz = j->quiz;
    switch (kind) {
    case PERPLEXITY:
        return crl_eval_perplexity(out, engine, &j->text, err);
    case DIVERGENCE:
        return crl_eval_divergence(out, engine, j->reference, &j->text, err);
    case ROUTING:
        return crl_eval_routing(out, NULL, engine, &j->text, err);
    case CHOICE:
        if (!j->reply.letters) return crl_eval_choice(out, engine, &j->choice, err);
        return crl_eval_replies(out, engine, &j->reply, err);
    default:
        return crl_eval_replies(out, engine, &j->reply, err);
    }
}

enum crl_status crl_suite_run(struct crl_result **out, const struct crl_suite *s,
                              const struct crl_suite_entry *e, struct crl_engine *engine,
                              const struct crl_suite_options *o, struct crl_err *err)
{
    struct watch w = { o, e->max_seconds > 0 ? crl_eval_clock() + e->max_seconds : INFINITY, false };
    struct crl_err why = { "" };
    struct job j;
    enum crl_status st = read_entry(&j, s, e, err);

    *out = NULL;
    if (st) return st;
    j.text.progress = j.quiz.progress = watch;
    j.text.progress_ctx = j.quiz.progress_ctx = &w;
    j.quiz.chat = j.prompt ? strcmp(j.prompt, "chat") == 0 : o->chat;
    j.reply.sandbox = j.reply.programs ? o->sandbox : NULL;
    st = run_job(out, &j, kind_of(e->kind), engine, &why);
    if (st == CRL_EINTR && w.late)
        st = crl_fail(err, CRL_EFULL, "evaluation \"%s\" took longer than its %g seconds", e->name,
                      e->max_seconds);
    else if (st) {
        crl_fail(err, st, "%s", why.text);
        if (st != CRL_EINTR) crl_err_prefix(err, "evaluation \"%s\"", e->name);
    }
    job_fini(&j);
    return st;
}
