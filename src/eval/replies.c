/* replies.c - generating replies side by side, and scoring them. */
#define _GNU_SOURCE
#include "eval/replies.h"

#include "base/file.h"
#include "base/mem.h"
#include "eval/about.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SHOWN 2000 /* bytes of a reply that an item's detail keeps */

/* One reply, as it ended. Samples of a question follow one another. */
struct reply {
    char *text, *answer; /* answer NULL: none was found */
    size_t n_tok;
    bool ended; /* by itself */
    double score;
};

/* A reply being written. */
struct seat {
    bool busy;
    size_t task; /* question * samples + sample */
    struct crl_sampler *sampler;
    struct crl_ids ids; /* prompt and what was chosen */
    struct crl_quiz_sight sight;
    size_t n_tok;       /* chosen */
    int32_t next;       /* by the last pass */
    struct crl_detok detok;
    struct crl_stopper stopper;
    struct crl_str text, piece;
};

struct work {
    const struct crl_reply_options *o;
    struct crl_quiz quiz;
    struct crl_scorer *scorer;
    enum crl_extract extract;
    enum crl_score score;
    size_t max_tokens;
    unsigned samples;
    const char *stop[CRL_STOP_MAX];
    size_t n_stop;
    struct seat *seat;     /* [n_lane] */
    struct crl_feed *feed; /* [n_lane] */
    struct seat **at;      /* [n_lane] the seat of a request */
    struct reply *reply;   /* [quiz.n * samples] */
    size_t n_task, next, done;
    struct crl_chrf chrf;
};

/* --- writing -------------------------------------------------------------------------------------------- */

static void on_row(void *ctx, size_t request, size_t token, float *logits, size_t vocab)
{
    struct work *w = ctx;

    (void)token;
    (void)vocab;
    w->at[request]->next = crl_sampler_pick(w->at[request]->sampler, logits);
}

/* Seeds differ by question and sample, not by when they are asked. */
static enum crl_status sit_down(struct work *w, struct seat *s, struct crl_err *err)
{
    const struct crl_ids *prompt;
    struct crl_sampler_options sampling = w->o->sampling;
    struct crl_engine_info info;
    enum crl_status st;

    s->task = w->next++;
    prompt = &w->quiz.prompt[s->task / w->samples];
    crl_engine_info(w->quiz.engine, &info);
    sampling.seed += 0x9e3779b97f4a7c15u * (s->task + 1);
    crl_sampler_free(s->sampler);
    s->sampler = NULL;
    crl_quiz_look_away(&s->sight);
    st = crl_quiz_look(&w->quiz, s->task / w->samples, &s->sight, err);
    if (!st) st = crl_sampler_new(&s->sampler, &sampling, info.vocab, err);
    s->ids.n = s->n_tok = s->text.len = s->piece.len = s->stopper.held.len = 0;
    s->stopper.stop = w->stop;
    s->stopper.n_stop = w->n_stop;
    crl_detok_init(&s->detok, w->quiz.asker.tok, CRL_DETOK_SKIP);
    for (size_t i = 0; i < prompt->n && !st; i++) {
        st = crl_ids_add(&s->ids, prompt->v[i], err);
        if (!st) st = crl_sampler_accept(s->sampler, prompt->v[i], err);
    }
    s->busy = !st;
    return st;
}

static enum crl_status flush(struct seat *s, bool end, size_t *found, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    *found = s->stopper.n_stop;
    if (s->piece.len) st = crl_stopper_push(&s->stopper, s->piece.s, s->piece.len, &s->text, found, err);
    s->piece.len = 0;
    if (!st && end && *found == s->stopper.n_stop) st = crl_stopper_end(&s->stopper, &s->text, err);
    return st;
}

/* Take the chosen token in. *more: the reply goes on. */
static enum crl_status take_token(struct work *w, struct seat *s, bool *more, bool *ended,
                                  struct crl_err *err)
{
    bool stop = crl_engine_is_stop(w->quiz.engine, s->next);
    enum crl_status st = CRL_OK;
    size_t found;

    if (s->next < 0) return crl_fail(err, CRL_EFORMAT, "the model gives no numbers: all logits are NaN");
    s->n_tok++;
    if (!stop) st = crl_detok_push(&s->detok, s->next, &s->piece, err);
    if (!st && stop) st = crl_detok_end(&s->detok, &s->piece, err);
    if (!st) st = flush(s, stop, &found, err);
    if (st) return st;
    *ended = stop || found < s->stopper.n_stop;
    *more = !*ended && s->n_tok < w->max_tokens;
    if (*more) return crl_ids_add(&s->ids, s->next, err);
    if (*ended) return CRL_OK;
    st = crl_detok_end(&s->detok, &s->piece, err);
    return st ? st : flush(s, true, &found, err);
}

/* --- scoring -------------------------------------------------------------------------------------------- */

/* A name that is safe as a file's. */
static void file_name(char *out, size_t size, const char *id, unsigned sample, unsigned samples)
{
    size_t n = 0;

    for (; *id && n + 24 < size; id++) {
        bool good = (*id >= '0' && *id <= '9') || (*id >= 'A' && *id <= 'Z') || (*id >= 'a' && *id <= 'z') ||
                    *id == '-' || *id == '_' || (*id == '.' && n);
        out[n++] = good ? *id : '_';
    }
    if (samples > 1) snprintf(out + n, size - n, "-%u.py", sample + 1);
    else snprintf(out + n, size - n, ".py");
}

/* Setup, code and tests as one file; with a sandbox it is also run. */
static enum crl_status try_program(const struct work *w, const struct crl_question *q, struct reply *r,
                                   unsigned sample, struct crl_err *err)
{
    const char *const part[] = { q->setup, r->answer ? r->answer : "", q->tests };
    struct crl_str text = { NULL, 0, 0 };
    char name[160], *path;
    enum crl_status st = CRL_OK;
    bool passed = false;

    if (!w->o->programs) return CRL_OK;
    for (size_t i = 0; i < 3 && !st; i++) {
        if (!part[i] || !part[i][0]) continue;
        st = crl_str_puts(&text, part[i], err);
        if (!st) st = crl_str_puts(&text, i == 1 ? "\n\n" : "\n", err);
    }
    file_name(name, sizeof name, q->id, sample, w->samples);
    path = crl_path_join(w->o->programs, name);
    if (!path) st = crl_fail(err, CRL_ENOMEM, "no memory for a path");
    if (!st) st = crl_file_write(path, text.s ? text.s : "", text.len, err);
    if (!st && w->o->sandbox && r->answer)
        st = crl_sandbox_run(w->o->sandbox, path, w->o->sandbox_s ? w->o->sandbox_s : 30, &passed, err);
    r->score = passed;
    crl_free(path);
    crl_str_fini(&text);
    return st;
}

/* chrF of a corpus takes, text by text, the reference that fits best. */
static enum crl_status add_chrf(struct work *w, const struct crl_question *q, const char *answer,
                                struct crl_err *err)
{
    struct crl_chrf most = { { 0 }, { 0 }, { 0 } };
    double score = -1;

    for (size_t i = 0; i < q->n_gold; i++) {
        struct crl_chrf one = { { 0 }, { 0 }, { 0 } };
        enum crl_status st = crl_chrf_add(&one, answer, q->gold[i], err);
        if (st) return st;
        if (crl_chrf_score(&one) <= score) continue;
        score = crl_chrf_score(&one);
        most = one;
    }
    for (size_t i = 0; i < CRL_CHRF_ORDER; i++) {
        w->chrf.hyp[i] += most.hyp[i];
        w->chrf.ref[i] += most.ref[i];
        w->chrf.match[i] += most.match[i];
    }
    return CRL_OK;
}

static enum crl_status judge(struct work *w, const struct seat *s, bool ended, struct crl_err *err)
{
    const struct crl_question *q = w->quiz.q[s->task / w->samples];
    bool letters = q->n_choice && (!w->o->has_extract);
    enum crl_extract how = letters ? CRL_EXTRACT_LETTER : w->extract;
    struct reply *r = &w->reply[s->task];
    struct crl_str answer = { NULL, 0, 0 };
    bool found;
    enum crl_status st = crl_answer_extract(w->scorer, how, s->text.s, s->text.len,
                                            q->n_choice ? (unsigned)q->n_choice : 26, &answer, &found, err);

    r->n_tok = s->n_tok;
    r->ended = ended;
    r->text = crl_memdup0(s->text.s ? s->text.s : "", s->text.len);
    if (found) r->answer = crl_memdup0(answer.s, answer.len);
    crl_str_fini(&answer);
    if (!st && (!r->text || (found && !r->answer))) st = crl_fail(err, CRL_ENOMEM, "no memory for a reply");
    if (!st && w->score == CRL_SCORE_CHRF) st = add_chrf(w, q, found ? r->answer : "", err);
    if (!st && w->score == CRL_SCORE_CODE) st = try_program(w, q, r, (unsigned)(s->task % w->samples), err);
    else if (!st && found)
        st = crl_score_answer(w->scorer, letters ? CRL_SCORE_EXACT : w->score, r->answer,
                              (const char *const *)q->gold, q->n_gold, &r->score, err);
    if (st) crl_err_prefix(err, "item %s", q->id);
    return st;
}

/* --- the loop ------------------------------------------------------------------------------------------- */

static enum crl_status step(struct work *w, struct crl_err *err)
{
    enum crl_status st = CRL_OK;
    size_t n = 0;

    for (size_t i = 0; i < w->quiz.n_lane && !st; i++) {
        struct seat *s = &w->seat[i];
        if (!s->busy && w->next < w->n_task) st = sit_down(w, s, err);
        if (!s->busy) continue;
        w->at[n] = s;
        w->feed[n++] = (struct crl_feed){ &w->quiz.lane[i], s->ids.v, s->ids.n, s->ids.n - 1, s->sight.feed,
                                        0 };
    }
    if (!st) st = crl_feed_run(w->quiz.engine, w->feed, n, on_row, w, err);
    for (size_t i = 0; i < n && !st; i++) {
        bool more = false, ended = false;
        st = take_token(w, w->at[i], &more, &ended, err);
        if (st || more) continue;
        st = judge(w, w->at[i], ended, err);
        w->at[i]->busy = false;
        w->done++;
    }
    return st ? st : crl_quiz_progress(&w->quiz, w->done / w->samples, err);
}

static json_t *shortened(const char *text)
{
    size_t n = strlen(text);

    if (n <= SHOWN) return json_string(text);
    for (n = SHOWN; ((unsigned char)text[n] & 0xc0) == 0x80;) n--;
    return json_stringn(text, n);
}

static enum crl_status add_item(const struct work *w, struct crl_result *r, size_t index, double score,
                                struct crl_err *err)
{
    const struct crl_question *q = w->quiz.q[index];
    const struct reply *a = &w->reply[index * w->samples];
    json_t *detail = json_object();
    int bad = !detail;

    bad |= json_object_set_new(detail, "question", shortened(q->text));
    if (q->n_gold) bad |= json_object_set_new(detail, "expected", shortened(q->gold[0]));
    bad |= json_object_set_new(detail, "got", a->answer ? shortened(a->answer) : json_null());
    if (!a->answer || strcmp(a->answer, a->text))
        bad |= json_object_set_new(detail, "reply", shortened(a->text));
    if (bad) {
        json_decref(detail);
        return crl_fail(err, CRL_ENOMEM, "no memory for an item");
    }
    return crl_result_item(r, q->id, score, 1, detail, err);
}

/* What a mean of scores is called; two of them for CRL_SCORE_F1. */
static const char *metric_name(enum crl_score s)
{
    static const char *const name[] = { "accuracy",  "accuracy", "accuracy",         "exact_match", "f1",
                                        "chrf.mean", "anls",     "relaxed_accuracy", "pass@1" };

    return name[s];
}

static enum crl_status pass_at_k(const struct work *w, struct crl_result *r, double *x, struct crl_err *err)
{
    char name[CRL_METRIC_NAME];

    for (size_t i = 0; i < w->quiz.n; i++) {
        unsigned right = 0;
        for (unsigned k = 0; k < w->samples; k++) right += w->reply[i * w->samples + k].score == 1;
        x[i] = crl_pass_at_k(w->samples, right, w->o->k);
    }
    snprintf(name, sizeof name, "pass@%u", w->o->k);
    return crl_quiz_share(r, name, x, w->quiz.n, err);
}

static enum crl_status exact_match(const struct work *w, struct crl_result *r, double *x, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (size_t i = 0; i < w->quiz.n && !st; i++) {
        const struct crl_question *q = w->quiz.q[i];
        x[i] = 0;
        for (unsigned k = 0; k < w->samples && !st; k++) {
            const struct reply *a = &w->reply[i * w->samples + k];
            double one = 0;
            if (a->answer)
                st = crl_score_answer(w->scorer, CRL_SCORE_EM, a->answer, (const char *const *)q->gold,
                                      q->n_gold, &one, err);
            x[i] += one / w->samples;
        }
    }
    return st ? st : crl_quiz_share(r, "exact_match", x, w->quiz.n, err);
}

/* Shares over all replies: answered, ended; and their length. */
static enum crl_status add_manners(const struct work *w, struct crl_result *r, double *x, struct crl_err *err)
{
    enum crl_status st;

    for (size_t i = 0; i < w->n_task; i++) x[i] = w->reply[i].answer != NULL;
    st = crl_quiz_share(r, "answered", x, w->n_task, err);
    for (size_t i = 0; i < w->n_task; i++) x[i] = w->reply[i].ended;
    if (!st) st = crl_quiz_share(r, "ended", x, w->n_task, err);
    for (size_t i = 0; i < w->n_task; i++) x[i] = (double)w->reply[i].n_tok;
    return st ? st : crl_quiz_mean(r, "reply_tokens", "tokens", CRL_BETTER_NONE, x, w->n_task, err);
}

static enum crl_status summarise(const struct work *w, struct crl_result *r, double seconds,
                                 struct crl_err *err)
{
    double *score = crl_alloc(w->quiz.n, sizeof *score), *x = crl_alloc(w->n_task, sizeof *x);
    bool judged = w->score != CRL_SCORE_CODE || (w->o->sandbox && w->o->programs);
    struct crl_metric *m;
    enum crl_status st = score && x ? crl_quiz_facts(r, &w->quiz, seconds, err)
                                    : crl_fail(err, CRL_ENOMEM, "no memory for the figures");

    for (size_t i = 0; i < w->quiz.n && !st; i++) {
        for (unsigned k = 0; k < w->samples; k++) score[i] += w->reply[i * w->samples + k].score / w->samples;
        st = add_item(w, r, i, score[i], err);
    }
    if (!st) st = crl_result_fact(r, "extract", json_string(crl_extract_name(w->extract)), err);
    if (!st) st = crl_result_fact(r, "score", json_string(crl_score_name(w->score)), err);
    if (!st && w->o->pattern) st = crl_result_fact(r, "pattern", json_string(w->o->pattern), err);
    if (!st) st = crl_result_fact(r, "max_tokens", json_integer((json_int_t)w->max_tokens), err);
    if (!st) st = crl_result_fact(r, "temperature", json_real((double)w->o->sampling.temperature), err);
    if (!st && w->samples > 1) st = crl_result_fact(r, "samples", json_integer(w->samples), err);
    if (!st && judged) st = crl_quiz_share(r, metric_name(w->score), score, w->quiz.n, err);
    if (!st && w->score == CRL_SCORE_CHRF)
        st = crl_result_metric(r, &m, "chrf", crl_chrf_score(&w->chrf), w->n_task, err);
    if (!st && w->score == CRL_SCORE_CHRF) m->better = CRL_BETTER_HIGH;
    if (!st && w->score == CRL_SCORE_F1) st = exact_match(w, r, x, err);
    if (!st && judged && w->o->k > 1) st = pass_at_k(w, r, x, err);
    if (!st) st = add_manners(w, r, x, err);
    if (!st && judged) st = crl_quiz_groups(r, &w->quiz, score, err);
    crl_free(score);
    crl_free(x);
    return st;
}

/* --- setting up ----------------------------------------------------------------------------------------- */

/* The data set's own way where the user did not say another. The format is known only when the file was read,
 * so this reads it once more than necessary when it is to be guessed. */
static enum crl_status settle(struct work *w, struct crl_err *err)
{
    const struct crl_reply_options *o = w->o;
    enum crl_data_format format = o->quiz.format;
    const struct crl_ask_rule *rule;
    struct crl_questions *q;
    enum crl_status st = CRL_OK;

    if (format == CRL_DATA_AUTO) {
        st = crl_questions_read(&q, o->quiz.path, format, err);
        if (st) return st;
        format = q->format;
        crl_questions_free(q);
    }
    rule = crl_ask_rule(format);
    w->extract = o->has_extract ? o->extract : o->letters ? CRL_EXTRACT_LETTER : rule->extract;
    w->score = o->has_score ? o->score : o->letters ? CRL_SCORE_EXACT : rule->score;
    w->max_tokens = o->max_tokens ? o->max_tokens : rule->max_tokens;
    w->samples = o->samples ? o->samples : 1;
    for (size_t i = 0; i < o->n_stop && w->n_stop < CRL_STOP_MAX; i++) w->stop[w->n_stop++] = o->stop[i];
    for (size_t i = 0; i < 3 && !o->quiz.chat && rule->stop[i] && w->n_stop < CRL_STOP_MAX; i++)
        w->stop[w->n_stop++] = rule->stop[i];
    if (w->samples > CRL_SAMPLES_MAX)
        return crl_fail(err, CRL_ERANGE, "%u samples, at most %d are supported", w->samples, CRL_SAMPLES_MAX);
    if (o->k > w->samples)
        return crl_fail(err, CRL_ERANGE, "pass@%u needs as many samples, there are %u", o->k, w->samples);
    if (o->sandbox && !o->programs)
        return crl_fail(err, CRL_ERANGE, "a sandbox needs a folder for the programs");
    if (o->programs && mkdir(o->programs, 0777) && errno != EEXIST)
        return crl_fail(err, CRL_EIO, "%s: cannot be made: %s", o->programs, strerror(errno));
    return crl_scorer_new(&w->scorer, o->pattern, err);
}

static enum crl_status check_answers(const struct work *w, struct crl_err *err)
{
    for (size_t i = 0; i < w->quiz.n; i++) {
        const struct crl_question *q = w->quiz.q[i];
        if (w->score != CRL_SCORE_CODE && !q->n_gold)
            return crl_fail(err, CRL_EFORMAT, "%s: item %s (line %zu) has no answer to compare with",
                            w->quiz.o->path, q->id, q->line);
    }
    return CRL_OK;
}

static enum crl_status set_up(struct work *w, struct crl_err *err)
{
    const struct crl_reply_options *o = w->o;
    enum crl_status st = settle(w, err);

    if (!st)
        st = crl_quiz_open(&w->quiz, w->quiz.engine, &o->quiz, o->letters ? CRL_ASK_LETTER : CRL_ASK_REPLY,
                           o->letters, w->max_tokens, err);
    if (!st) st = check_answers(w, err);
    if (st) return st;
    w->n_task = w->quiz.n * w->samples;
    w->seat = crl_alloc(w->quiz.n_lane, sizeof *w->seat);
    w->feed = crl_alloc(w->quiz.n_lane, sizeof *w->feed);
    w->at = crl_alloc(w->quiz.n_lane, sizeof *w->at);
    w->reply = crl_alloc(w->n_task, sizeof *w->reply);
    if (!w->seat || !w->feed || !w->at || !w->reply)
        return crl_fail(err, CRL_ENOMEM, "no memory for %zu replies", w->n_task);
    return CRL_OK;
}

static void tear_down(struct work *w)
{
    for (size_t i = 0; i < w->quiz.n_lane && w->seat; i++) {
        crl_sampler_free(w->seat[i].sampler);
        crl_ids_fini(&w->seat[i].ids);
        crl_quiz_look_away(&w->seat[i].sight);
        crl_stopper_fini(&w->seat[i].stopper);
        crl_str_fini(&w->seat[i].text);
        crl_str_fini(&w->seat[i].piece);
    }
    for (size_t i = 0; i < w->n_task && w->reply; i++) {
        crl_free(w->reply[i].text);
        crl_free(w->reply[i].answer);
    }
    crl_free(w->seat);
    crl_free(w->feed);
    crl_free(w->at);
    crl_free(w->reply);
    crl_scorer_free(w->scorer);
    crl_quiz_close(&w->quiz);
}

enum crl_status crl_eval_replies(struct crl_result **out, struct crl_engine *engine,
                                 const struct crl_reply_options *o, struct crl_err *err)
{
    struct work w = { .o = o, .quiz = { .engine = engine } };
    struct crl_result *r = NULL;
    enum crl_status st = set_up(&w, err);
    double start = crl_eval_clock();

    *out = NULL;
    if (!st) st = crl_result_new(&r, "generate", err);
    while (!st && w.done < w.n_task) st = step(&w, err);
    if (!st) st = summarise(&w, r, crl_eval_clock() - start, err);
    tear_down(&w);
    if (st) {
        crl_result_free(r);
        return st;
    }
    *out = r;
    return CRL_OK;
}
