/* eval_text.c - options that evaluators over text share. */
#include "cli/eval_text.h"

static bool number(const struct crl_cli *c, const char *name, size_t *out)
{
    unsigned long long n;

    if (!crl_cli_number(c, name, 1, UINT32_MAX, &n)) return false;
    *out = (size_t)n;
    return true;
}

bool crl_eval_text_option(struct crl_eval_text_args *a, const struct crl_cli *c, int id)
{
    unsigned long long n;

    switch (id) {
    case CRL_EVAL_TEXT: a->text.path = c->value; return true;
    case CRL_EVAL_FIELD: a->text.corpus.field = c->value; return true;
    case CRL_EVAL_NO_BOS: a->text.corpus.no_bos = true; return true;
    case CRL_EVAL_WINDOW: return number(c, "window", &a->text.window);
    case CRL_EVAL_STRIDE: return number(c, "stride", &a->text.stride);
    case CRL_EVAL_LIMIT: return number(c, "limit", &a->text.corpus.limit);
    case CRL_EVAL_BATCH:
        if (!crl_cli_number(c, "batch", 1, 65536, &n)) return false;
        a->model.engine.batch_max = (size_t)n;
        return true;
    }
    if (crl_eval_option(&a->show, id)) return true;
    return crl_model_option(&a->model, c, id);
}

static bool on_progress(void *ctx, size_t done, size_t total)
{
    crl_progress_show(ctx, done, total, NULL);
    return !crl_cli_interrupted();
}

bool crl_eval_text_ready(struct crl_eval_text_args *a, const struct crl_cli *c, bool text)
{
    if (c->n_operand != 1) crl_cli_misused(c->usage, "one model is needed");
    else if (text && !a->text.path) crl_cli_misused(c->usage, "--text FILE is needed");
    else if (a->text.window && a->text.stride > a->text.window)
        crl_cli_misused(c->usage, "option --stride: windows of %zu would leave out tokens", a->text.window);
    else {
        a->model.path = c->operand[0];
        a->text.progress = on_progress;
        a->text.progress_ctx = &a->progress;
        crl_progress_init(&a->progress, "tokens", a->model.quiet);
        crl_cli_catch_interrupt();
        return true;
    }
    return false;
}

int crl_eval_text_end(struct crl_eval_text_args *a, const struct crl_usage *u, struct crl_result *r,
                      enum crl_status st, const struct crl_err *err)
{
    int code;

    crl_progress_end(&a->progress);
    code = st ? crl_cli_fail(u, st, err) : crl_eval_print(u, &a->show, r);
    crl_result_free(r);
    return code;
}
