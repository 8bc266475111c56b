/* choice.c - multiple choice by likelihood. */
#include "eval/choice.h"

#include "base/mem.h"
#include "eval/about.h"
#include "eval/logsum.h"

#include <math.h>
#include <string.h>

static const char *const norm_names[] = { "none", "bytes", "tokens", "unconditional" };

const char *crl_choice_norm_name(enum crl_choice_norm n)
{
    return norm_names[n];
}

bool crl_choice_norm_parse(enum crl_choice_norm *out, const char *name)
{
    for (unsigned i = 0; i < CRL_CHOICE_NORMS; i++)
        if (strcmp(norm_names[i], name) == 0) {
            *out = (enum crl_choice_norm)i;
            return true;
        }
    return false;
}

/* One question at work. */
struct seat {
    const struct crl_question *q;
    const struct crl_ids *prompt;
    struct crl_ids option[CRL_CHOICES_MAX];
    double *token_lp; /* of the option at hand, [its tokens] */
    size_t cap_token;
    double lp[CRL_CHOICES_MAX];   /* log likelihood of each option */
    double bare[CRL_CHOICES_MAX]; /* the same after an empty question */
    struct crl_ids ids;           /* prompt and option */
    struct crl_quiz_sight sight;
};

struct choice {
    const struct crl_choice_options *o;
    struct crl_quiz quiz;
    const struct crl_kernels *kern;
    struct seat *seat;               /* [n_lane] */
    struct crl_feed *feed;           /* [n_lane] */
    struct seat **at;                /* [n_lane] the seat of a request */
    struct crl_asked bare;           /* the prompt of an empty question */
    size_t option;                   /* which one is at hand */
    double *score[CRL_CHOICE_NORMS]; /* [n] right or not */
    double *nll;                     /* [n] */
};

/* After the prompt: the first tokens of all options. */
static void first_row(void *ctx, size_t request, size_t token, float *logits, size_t vocab)
{
    struct choice *c = ctx;
    struct seat *s = c->at[request];
    double lse;

    (void)token;
    for (size_t i = 0; i < s->q->n_choice; i++) s->lp[i] = (double)logits[s->option[i].v[0]];
    lse = crl_log_sum_exp(c->kern, logits, vocab, NULL);
    for (size_t i = 0; i < s->q->n_choice; i++) s->lp[i] -= lse;
}

/* After token `token` of prompt and option: the option's next. */
static void next_row(void *ctx, size_t request, size_t token, float *logits, size_t vocab)
{
    struct choice *c = ctx;
    struct seat *s = c->at[request];
    size_t next = token + 1 - s->prompt->n;
    double logit = (double)logits[s->option[c->option].v[next]];

    s->token_lp[next] = logit - crl_log_sum_exp(c->kern, logits, vocab, NULL);
}

static enum crl_status join(struct seat *s, const struct crl_ids *option, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    s->ids.n = 0;
    for (size_t i = 0; i < s->prompt->n && !st; i++) st = crl_ids_add(&s->ids, s->prompt->v[i], err);
    for (size_t i = 0; i + 1 < option->n && !st; i++) st = crl_ids_add(&s->ids, option->v[i], err);
    if (!st)
        st = crl_grow((void **)&s->token_lp, &s->cap_token, option->n, sizeof *s->token_lp, (size_t)1 << 24,
                      err);
    return st;
}

/* An empty question has no pictures. */
static struct crl_feed_sight seen(const struct choice *c, const struct seat *s)
{
    return s->prompt == &c->bare.prompt.ids ? (struct crl_feed_sight){ NULL, NULL, 0 } : s->sight.feed;
}

/* lp of all options of the first n seats, each after its prompt. */
static enum crl_status likelihoods(struct choice *c, size_t n, struct crl_err *err)
{
    enum crl_status st;
    size_t options = 0;

    for (size_t i = 0; i < n; i++) {
        struct seat *s = &c->seat[i];
        c->at[i] = s;
        c->feed[i] = (struct crl_feed){ &c->quiz.lane[i], s->prompt->v, s->prompt->n, s->prompt->n - 1,
                                        seen(c, s), 0 };
        if (s->q->n_choice > options) options = s->q->n_choice;
    }
    st = crl_feed_run(c->quiz.engine, c->feed, n, first_row, c, err);
    for (c->option = 0; c->option < options && !st; c->option++) {
        size_t k = 0;
        for (size_t i = 0; i < n && !st; i++) {
            struct seat *s = &c->seat[i];
            if (c->option >= s->q->n_choice || s->option[c->option].n < 2) continue;
            st = join(s, &s->option[c->option], err);
            c->at[k] = s;
            c->feed[k++] = (struct crl_feed){ &c->quiz.lane[i], s->ids.v, s->ids.n, s->prompt->n,
                                              seen(c, s), 0 };
        }
        if (!st && k) st = crl_feed_run(c->quiz.engine, c->feed, k, next_row, c, err);
        for (size_t i = 0; i < k && !st; i++)
            for (size_t t = 1; t < c->at[i]->option[c->option].n; t++)
                c->at[i]->lp[c->option] += c->at[i]->token_lp[t];
    }
    return st;
}

static enum crl_status seat_question(struct choice *c, struct seat *s, size_t index, struct crl_err *err)
{
    const struct crl_quiz *z = &c->quiz;
    enum crl_status st;

    crl_quiz_look_away(&s->sight);
    st = crl_quiz_look(&c->quiz, index, &s->sight, err);
    s->q = z->q[index];
    s->prompt = &z->prompt[index];
    for (size_t i = 0; i < s->q->n_choice && !st; i++) {
        char letter[2] = { (char)('A' + i), 0 };
        s->option[i].n = 0;
        st = crl_ask_option(&z->asker, c->o->by == CRL_CHOICE_LETTER ? letter : s->q->choice[i],
                            &s->option[i], err);
        if (!st && c->o->by == CRL_CHOICE_OPTION && s->sight.n && strstr(s->q->choice[i], "<image"))
            st = crl_fail(err, CRL_EUNSUPPORTED,
                          "%s: item %s (line %zu): option %zu is a picture, which has no likelihood; ask by letter",
                          z->o->path, s->q->id, s->q->line, i + 1);
        if (!st && !s->option[i].n)
            st = crl_fail(err, CRL_EFORMAT, "%s: item %s (line %zu): option %zu is empty", z->o->path,
                          s->q->id, s->q->line, i + 1);
    }
    return st;
}

static enum crl_status unconditional(struct choice *c, size_t n, struct crl_err *err)
{
    enum crl_status st;

    for (size_t i = 0; i < n; i++) {
        memcpy(c->seat[i].bare, c->seat[i].lp, sizeof c->seat[i].bare); /* kept here meanwhile */
        c->seat[i].prompt = &c->bare.prompt.ids;
    }
    st = likelihoods(c, n, err);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < CRL_CHOICES_MAX; k++) {
            double lp = c->seat[i].bare[k];
            c->seat[i].bare[k] = c->seat[i].lp[k];
            c->seat[i].lp[k] = lp;
        }
    return st;
}

static double normed(const struct seat *s, size_t i, enum crl_choice_norm norm)
{
    switch (norm) {
    case CRL_CHOICE_BYTES:
        return s->lp[i] / (double)(s->q->choice[i][0] ? strlen(s->q->choice[i]) : 1);
    case CRL_CHOICE_TOKENS:
        return s->lp[i] / (double)s->option[i].n;
    case CRL_CHOICE_UNCONDITIONAL:
        return s->lp[i] - s->bare[i];
    default:
        return s->lp[i];
    }
}

static size_t best(const struct seat *s, enum crl_choice_norm norm)
{
    size_t at = 0;

    for (size_t i = 1; i < s->q->n_choice; i++)
        if (normed(s, i, norm) > normed(s, at, norm)) at = i;
    return at;
}

/* -log of the right option's share among the options. */
static double nll_right(const struct seat *s, enum crl_choice_norm norm)
{
    double most = -INFINITY, sum = 0;

    for (size_t i = 0; i < s->q->n_choice; i++) most = fmax(most, normed(s, i, norm));
    for (size_t i = 0; i < s->q->n_choice; i++) sum += exp(normed(s, i, norm) - most);
    return log(sum) + most - normed(s, (size_t)s->q->right, norm);
}

static enum crl_status note(struct choice *c, struct crl_result *r, const struct seat *s, size_t index,
                            struct crl_err *err)
{
    char want[2] = { (char)('A' + s->q->right), 0 }, got[2] = { (char)('A' + best(s, c->o->norm)), 0 };
    json_t *lp = json_array(), *detail;

    for (unsigned k = 0; k < CRL_CHOICE_NORMS; k++)
        if (c->score[k]) c->score[k][index] = best(s, (enum crl_choice_norm)k) == (size_t)s->q->right;
    c->nll[index] = nll_right(s, c->o->norm);
    if (!isfinite(c->nll[index]))
        return crl_fail(err, CRL_EFORMAT, "item %s: the model gives no numbers", s->q->id);
    for (size_t i = 0; i < s->q->n_choice; i++)
        if (json_array_append_new(lp, json_real(s->lp[i]))) break;
    detail = json_pack("{s:s, s:s, s:o, s:f, s:s}", "expected", want, "got", got, "log_likelihood", lp, "nll",
                       c->nll[index], "question", s->q->text);
    if (!detail) return crl_fail(err, CRL_ENOMEM, "no memory for an item");
    return crl_result_item(r, s->q->id, c->score[c->o->norm][index], 1, detail, err);
}

static enum crl_status ask_all(struct choice *c, struct crl_result *r, struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (size_t at = 0, n; at < c->quiz.n && !st; at += n) {
        n = c->quiz.n - at < c->quiz.n_lane ? c->quiz.n - at : c->quiz.n_lane;
        for (size_t i = 0; i < n && !st; i++) st = seat_question(c, &c->seat[i], at + i, err);
        if (!st) st = likelihoods(c, n, err);
        if (!st && c->bare.prompt.ids.n) st = unconditional(c, n, err);
        for (size_t i = 0; i < n && !st; i++) st = note(c, r, &c->seat[i], at + i, err);
        if (!st) st = crl_quiz_progress(&c->quiz, at + n, err);
    }
    return st;
}

static enum crl_status summarise(const struct choice *c, struct crl_result *r, double seconds,
                                 struct crl_err *err)
{
    static const char *const by[] = { "letter", "option" };
    size_t n = c->quiz.n;
    enum crl_status st = crl_quiz_facts(r, &c->quiz, seconds, err);

    if (!st) st = crl_result_fact(r, "by", json_string(by[c->o->by]), err);
    if (!st) st = crl_result_fact(r, "normalised_by", json_string(norm_names[c->o->norm]), err);
    if (!st) st = crl_quiz_share(r, "accuracy", c->score[c->o->norm], n, err);
    if (!st) st = crl_quiz_mean(r, "nll.right", "nats", CRL_BETTER_LOW, c->nll, n, err);
    for (unsigned k = 0; k < CRL_CHOICE_NORMS && !st && c->o->by == CRL_CHOICE_OPTION; k++) {
        char name[CRL_METRIC_NAME] = "accuracy.";
        if (!c->score[k]) continue;
        strcat(name, norm_names[k]);
        st = crl_quiz_share(r, name, c->score[k], n, err);
    }
    return st ? st : crl_quiz_groups(r, &c->quiz, c->score[c->o->norm], err);
}

/* Longest option in tokens is at most its bytes and one. */
static enum crl_status option_room(const struct crl_choice_options *o, size_t *room, struct crl_err *err)
{
    struct crl_questions *q;
    enum crl_status st;

    *room = 8;
    if (o->by == CRL_CHOICE_LETTER) return CRL_OK;
    st = crl_questions_read(&q, o->quiz.path, o->quiz.format, err);
    if (!st) st = crl_questions_split_choices(q, err);
    for (size_t i = 0; i < (st ? 0 : q->n); i++)
        for (size_t k = 0; k < q->v[i].n_choice; k++)
            if (strlen(q->v[i].choice[k]) + 2 > *room) *room = strlen(q->v[i].choice[k]) + 2;
    if (!st) crl_questions_free(q);
    return st;
}

static enum crl_status set_up(struct choice *c, struct crl_err *err)
{
    const struct crl_question nothing = { .text = (char *)"", .right = -1 };
    size_t n = c->quiz.n, lanes = c->quiz.n_lane;
    bool bare = c->o->norm == CRL_CHOICE_UNCONDITIONAL;
    struct crl_asker alone = c->quiz.asker;

    c->kern = crl_engine_kernels(c->quiz.engine);
    c->seat = crl_alloc(lanes, sizeof *c->seat);
    c->feed = crl_alloc(lanes, sizeof *c->feed);
    c->at = crl_alloc(lanes, sizeof *c->at);
    c->nll = crl_alloc(n, sizeof *c->nll);
    if (!c->seat || !c->feed || !c->at || !c->nll)
        return crl_fail(err, CRL_ENOMEM, "no memory for %zu questions", n);
    for (unsigned k = 0; k < CRL_CHOICE_NORMS; k++) {
        if (k == CRL_CHOICE_UNCONDITIONAL && !bare) continue;
        c->score[k] = crl_alloc(n, sizeof *c->score[k]);
        if (!c->score[k]) return crl_fail(err, CRL_ENOMEM, "no memory for %zu questions", n);
    }
    alone.n_shot = 0;
    return bare ? crl_ask_prompt(&alone, &nothing, &c->bare, err) : CRL_OK;
}

static void tear_down(struct choice *c)
{
    for (size_t i = 0; i < c->quiz.n_lane && c->seat; i++) {
        for (size_t k = 0; k < CRL_CHOICES_MAX; k++) crl_ids_fini(&c->seat[i].option[k]);
        crl_ids_fini(&c->seat[i].ids);
        crl_quiz_look_away(&c->seat[i].sight);
        crl_free(c->seat[i].token_lp);
    }
    for (unsigned k = 0; k < CRL_CHOICE_NORMS; k++) crl_free(c->score[k]);
    crl_free(c->seat);
    crl_free(c->feed);
    crl_free(c->at);
    crl_free(c->nll);
    crl_asked_fini(&c->bare);
    crl_quiz_close(&c->quiz);
}

enum crl_status crl_eval_choice(struct crl_result **out, struct crl_engine *engine,
                                const struct crl_choice_options *o, struct crl_err *err)
{
    struct choice c = { .o = o };
    struct crl_result *r = NULL;
    size_t room;
    double start;
    enum crl_status st = option_room(o, &room, err);

    *out = NULL;
    if (!st)
        st = crl_quiz_open(&c.quiz, engine, &o->quiz,
                           o->by == CRL_CHOICE_LETTER ? CRL_ASK_LETTER : CRL_ASK_OPTION, true, room, err);
    if (!st) st = set_up(&c, err);
    if (!st) st = crl_result_new(&r, "choice", err);
    start = crl_eval_clock();
    if (!st) st = ask_all(&c, r, err);
    if (!st) st = summarise(&c, r, crl_eval_clock() - start, err);
    tear_down(&c);
    if (st) {
        crl_result_free(r);
        return st;
    }
    *out = r;
    return CRL_OK;
}
