/* eval_quiz.c - what the evaluators by questions share. */
#include "cli/eval_quiz.h"

#include <string.h>

static bool number(const struct crl_cli *c, const char *name, unsigned long long most, size_t *out)
{
    unsigned long long n;

    if (!crl_cli_number(c, name, 1, most, &n)) return false;
    *out = (size_t)n;
    return true;
}

static bool take_prompt(struct crl_eval_quiz_args *a, struct crl_quiz_options *q, const struct crl_cli *c)
{
    a->has_prompt = true;
    q->chat = strcmp(c->value, "chat") == 0;
    if (q->chat || strcmp(c->value, "text") == 0) return true;
    crl_cli_misused(c->usage, "option --prompt: \"%s\" is neither chat nor text", c->value);
    return false;
}

bool crl_eval_quiz_option(struct crl_eval_quiz_args *a, struct crl_quiz_options *q, const struct crl_cli *c,
                          int id)
{
    switch (id) {
    case CRL_EVAL_DATA:
        q->path = c->value;
        return true;
    case CRL_EVAL_FORMAT:
        if (crl_data_parse(&q->format, c->value)) return true;
        crl_cli_misused(c->usage, "option --format: there is no format \"%s\"", c->value);
        return false;
    case CRL_EVAL_GROUP:
        q->group = c->value;
        return true;
    case CRL_EVAL_QUIZ_LIMIT:
        return number(c, "limit", UINT32_MAX, &q->limit);
    case CRL_EVAL_SHOTS:
        return number(c, "shots", 1000, &q->shots);
    case CRL_EVAL_SHOTS_FROM:
        q->shots_path = c->value;
        return true;
    case CRL_EVAL_SYSTEM:
        q->system = c->value;
        return true;
    case CRL_EVAL_TEMPLATE:
        q->template = c->value;
        return true;
    case CRL_EVAL_PROMPT:
        return take_prompt(a, q, c);
    case CRL_EVAL_WITHOUT_IMAGES:
        q->without_images = true;
        return true;
    case CRL_EVAL_IMAGES:
        q->images = c->value;
        return true;
    case CRL_PICTURE_TILES:
    case CRL_PICTURE_STORED:
        if (!crl_picture_option(&a->picture, c, id)) return false;
        q->picture = a->picture.options;
        return true;
    case CRL_EVAL_SKIP_LONG:
        q->skip_long = true;
        return true;
    case CRL_EVAL_PARALLEL:
        return number(c, "parallel", 1024, &q->parallel);
    case CRL_EVAL_QUIZ_BATCH:
        return number(c, "batch", 65536, &a->model.engine.batch_max);
    }
    if (crl_eval_option(&a->show, id)) return true;
    return crl_model_option(&a->model, c, id);
}

static bool on_progress(void *ctx, size_t done, size_t total)
{
    crl_progress_show(ctx, done, total, NULL);
    return !crl_cli_interrupted();
}

bool crl_eval_quiz_ready(struct crl_eval_quiz_args *a, struct crl_quiz_options *q, const struct crl_cli *c)
{
    if (c->n_operand != 1) crl_cli_misused(c->usage, "one model is needed");
    else if (!q->path) crl_cli_misused(c->usage, "--data FILE is needed");
    else if (q->shots_path && !q->shots) crl_cli_misused(c->usage, "--shots-from needs --shots N");
    else {
        a->model.path = c->operand[0];
        q->ctx = a->model.ctx;
        q->progress = on_progress;
        q->progress_ctx = &a->progress;
        crl_progress_init(&a->progress, "items", a->model.quiet);
        crl_cli_catch_interrupt();
        return true;
    }
    return false;
}

enum crl_status crl_eval_quiz_open(struct crl_eval_quiz_args *a, struct crl_quiz_options *q,
                                   const struct crl_usage *u, struct crl_engine **engine, struct crl_err *err)
{
    enum crl_status st = crl_model_open(engine, u, &a->model, err);

    if (!st && !a->has_prompt) q->chat = crl_model_chats(*engine);
    return st;
}

int crl_eval_quiz_end(struct crl_eval_quiz_args *a, const struct crl_usage *u, struct crl_result *r,
                      enum crl_status st, const struct crl_err *err)
{
    int code;

    crl_progress_end(&a->progress);
    code = st ? crl_cli_fail(u, st, err) : crl_eval_print(u, &a->show, r);
    crl_result_free(r);
    return code;
}
