/* eval_choice.c - corral eval choice. */
#include "cli/eval_quiz.h"

#include "eval/choice.h"
#include "eval/replies.h"

#include <string.h>

enum { BY = 1, NORM };

static const struct crl_option options[] = {
    CRL_EVAL_QUIZ_OPTIONS,
    { "by", "WAY",
      "letter (default): options are listed, the likeliest letter counts;\n"
      "option: the likeliest text of an option; generate: the letter in a generated reply",
      BY },
    { "normalise", "HOW", "with --by option: none, bytes (default), tokens, unconditional", NORM },
    CRL_EVAL_OPTIONS,
    { 0 },
};

static const struct crl_usage usage = {
    .command = "eval choice",
    .operands = "MODEL --data FILE",
    .about = "Ask multiple-choice questions and count the right answers, by the likelihood that the model "
             "gives to the\n"
             "options or by what it writes.",
    .option = options,
    .more = crl_model_options,
};

struct args {
    struct crl_eval_quiz_args quiz;
    struct crl_choice_options choice;
    bool generate, has_norm;
};

static bool take_by(struct args *a, const struct crl_cli *c)
{
    a->generate = strcmp(c->value, "generate") == 0;
    a->choice.by = strcmp(c->value, "option") == 0 ? CRL_CHOICE_OPTION : CRL_CHOICE_LETTER;
    if (a->generate || a->choice.by == CRL_CHOICE_OPTION || strcmp(c->value, "letter") == 0) return true;
    crl_cli_misused(c->usage, "option --by: \"%s\" is none of letter, option, generate", c->value);
    return false;
}

static bool take(struct args *a, const struct crl_cli *c, int id)
{
    if (id == BY) return take_by(a, c);
    if (id != NORM) return crl_eval_quiz_option(&a->quiz, &a->choice.quiz, c, id);
    a->has_norm = true;
    if (crl_choice_norm_parse(&a->choice.norm, c->value)) return true;
    crl_cli_misused(c->usage, "option --normalise: \"%s\" is none of none, bytes, tokens, unconditional",
                    c->value);
    return false;
}

static int run(int argc, char **argv)
{
    struct args a = { .generate = false };
    struct crl_reply_options reply = { .letters = true };
    struct crl_engine *e = NULL;
    struct crl_result *r = NULL;
    struct crl_err err = { "" };
    enum crl_status st;
    struct crl_cli c;
    int id, code;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0)
        if (!take(&a, &c, id)) return CRL_EXIT_MISUSED;
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (!crl_eval_quiz_ready(&a.quiz, &a.choice.quiz, &c)) return CRL_EXIT_MISUSED;
    if (a.has_norm && a.choice.by != CRL_CHOICE_OPTION)
        return crl_cli_misused(&usage, "--normalise is for --by option: letters are compared as they are");
    if (!a.has_norm && a.choice.by == CRL_CHOICE_OPTION) a.choice.norm = CRL_CHOICE_BYTES;
    st = crl_eval_quiz_open(&a.quiz, &a.choice.quiz, &usage, &e, &err);
    reply.quiz = a.choice.quiz;
    if (!st)
        st = a.generate ? crl_eval_replies(&r, e, &reply, &err) : crl_eval_choice(&r, e, &a.choice, &err);
    code = crl_eval_quiz_end(&a.quiz, &usage, r, st, &err);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_eval_cmd_choice = { "choice", "multiple-choice questions", run };
