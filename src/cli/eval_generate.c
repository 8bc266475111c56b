/* eval_generate.c - corral eval generate. */
#include "cli/eval_quiz.h"

#include "cli/write.h"
#include "eval/replies.h"

#include <string.h>

enum {
    EXTRACT = 1,
    PATTERN,
    METRIC,
    MAX_TOKENS,
    TEMPERATURE,
    TOP_P,
    SEED,
    SAMPLES,
    PASS_AT,
    PROGRAMS,
    SANDBOX,
    SANDBOX_S,
    STOP
};

static const struct crl_option options[] = {
    CRL_EVAL_QUIZ_OPTIONS,
    { "metric", "NAME",
      "exact, number, math, em, f1, chrf, anls, relaxed, code (default: the data set's own)", METRIC },
    { "extract", "HOW",
      "the answer in a reply: all, line, hashes, number, boxed, letter, code\n"
      "(default: the data set's own)",
      EXTRACT },
    { "pattern", "REGEX", "the answer is the first group of its last match", PATTERN },
    { "max-tokens", "N", "most tokens of a reply (default: the data set's own, 64 to 2048)", MAX_TOKENS },
    { "stop", "STRING", "end replies before this string; may be repeated", STOP },
    { "temperature", "T", "0 (default) takes the most likely token", TEMPERATURE },
    { "top-p", "P", "choose among the most likely tokens that make up probability P; 1 is off", TOP_P },
    { "seed", "S", "the same seed gives the same replies (default 0)", SEED },
    { "samples", "N", "replies to each question (default 1)", SAMPLES },
    { "pass-at", "K", "also the share solved by one of K samples", PASS_AT },
    { "programs", "FOLDER", "write generated programs with their tests there", PROGRAMS },
    { "sandbox", "COMMAND", "run this on every program, exit code 0 passes; without it nothing is executed",
      SANDBOX },
    { "sandbox-seconds", "N", "a program that takes longer fails (default 30)", SANDBOX_S },
    CRL_EVAL_OPTIONS,
    { 0 },
};

static const struct crl_usage usage = {
    .command = "eval generate",
    .operands = "MODEL --data FILE",
    .about =
        "Ask questions, take the answers out of the generated replies and compare them with the right ones.\n"
        "Generated programs are written out, and executed only by the command of --sandbox.",
    .option = options,
    .more = crl_model_options,
};

struct args {
    struct crl_eval_quiz_args quiz;
    struct crl_reply_options reply;
    const char *stop[CRL_STOP_MAX];
};

static bool take_number(const struct crl_cli *c, const char *name, unsigned long long lo,
                        unsigned long long hi, unsigned *out)
{
    unsigned long long n;

    if (!crl_cli_number(c, name, lo, hi, &n)) return false;
    *out = (unsigned)n;
    return true;
}

static bool take_stop(struct args *a, const struct crl_cli *c)
{
    size_t len = strlen(c->value);

    if (!len || len > CRL_STOP_LEN_MAX || a->reply.n_stop == CRL_STOP_MAX - 3) {
        crl_cli_misused(c->usage, "option --stop: at most %d strings of 1 to %d bytes", CRL_STOP_MAX - 3,
                        CRL_STOP_LEN_MAX);
        return false;
    }
    a->stop[a->reply.n_stop++] = c->value;
    a->reply.stop = a->stop;
    return true;
}

static bool take(struct args *a, const struct crl_cli *c, int id)
{
    struct crl_reply_options *r = &a->reply;
    unsigned long long n;
    unsigned small;

    switch (id) {
    case METRIC:
        r->has_score = crl_score_parse(&r->score, c->value);
        if (!r->has_score) crl_cli_misused(c->usage, "option --metric: there is no metric \"%s\"", c->value);
        return r->has_score;
    case EXTRACT:
        r->has_extract = crl_extract_parse(&r->extract, c->value) && r->extract != CRL_EXTRACT_PATTERN;
        if (!r->has_extract) crl_cli_misused(c->usage, "option --extract: there is no way \"%s\"", c->value);
        return r->has_extract;
    case PATTERN:
        r->pattern = c->value;
        r->extract = CRL_EXTRACT_PATTERN;
        return r->has_extract = true;
    case MAX_TOKENS:
        if (!take_number(c, "max-tokens", 1, 1u << 20, &small)) return false;
        r->max_tokens = small;
        return true;
    case STOP:
        return take_stop(a, c);
    case TEMPERATURE:
        return crl_cli_real(c, "temperature", 0, 1000, &r->sampling.temperature);
    case TOP_P:
        return crl_cli_real(c, "top-p", 0, 1, &r->sampling.top_p);
    case SEED:
        if (!crl_cli_number(c, "seed", 0, INT64_MAX, &n)) return false;
        r->sampling.seed = n;
        return true;
    case SAMPLES:
        return take_number(c, "samples", 1, CRL_SAMPLES_MAX, &r->samples);
    case PASS_AT:
        return take_number(c, "pass-at", 1, CRL_SAMPLES_MAX, &r->k);
    case PROGRAMS:
        r->programs = c->value;
        return true;
    case SANDBOX:
        r->sandbox = c->value;
        return true;
    case SANDBOX_S:
        return take_number(c, "sandbox-seconds", 1, 86400, &r->sandbox_s);
    }
    return crl_eval_quiz_option(&a->quiz, &r->quiz, c, id);
}

static int run(int argc, char **argv)
{
    struct args a = { .reply = { .letters = false } };
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
    if (!crl_eval_quiz_ready(&a.quiz, &a.reply.quiz, &c)) return CRL_EXIT_MISUSED;
    st = crl_eval_quiz_open(&a.quiz, &a.reply.quiz, &usage, &e, &err);
    if (!st) st = crl_eval_replies(&r, e, &a.reply, &err);
    code = crl_eval_quiz_end(&a.quiz, &usage, r, st, &err);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_eval_cmd_generate = { "generate", "questions answered by writing", run };
