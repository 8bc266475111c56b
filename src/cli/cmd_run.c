/* cmd_run.c - corral run: a prompt in, text out. */
#define _GNU_SOURCE
#include "cli/commands.h"

#include "cli/picture.h"
#include "cli/write.h"
#include "text/chat.h"

#include <string.h>
#include <unistd.h>

enum { PROMPT = 1, PROMPT_FILE, RAW, SYSTEM, AS_JSON, STREAM };

static const struct crl_option options[] = {
    { "prompt", "TEXT", "the prompt (default: standard input, when that is no terminal)", PROMPT },
    { "prompt-file", "FILE", "read the prompt from a file; - is standard input", PROMPT_FILE },
    { "raw", NULL, "continue the text as it is, without the chat format", RAW },
    { "system", "TEXT", "a system message before the prompt", SYSTEM },
    CRL_PICTURE_IMAGE_OPTION,
    CRL_PICTURE_OPTIONS,
    CRL_WRITE_OPTIONS,
    { "json", NULL, "print one JSON object with the text and the facts", AS_JSON },
    { "stream", NULL, "with --json: an object per piece of text first, one per line", STREAM },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "run",
    .operands = "MODEL",
    .about = "Answer a prompt. MODEL is a .crl file or a checkpoint folder. Models with a chat format get "
             "the prompt as\n"
             "a user's message, others continue it. Pictures come before the prompt, or where it says <image>, in\n"
             "their order.",
    .option = options,
    .more = crl_model_options,
};

struct args {
    struct crl_model_args model;
    struct crl_write_args write;
    const char *prompt, *prompt_file, *system;
    struct crl_picture_args picture;
    bool raw, json, stream;
};

static bool take(struct args *a, const struct crl_cli *c, int id)
{
    if (id >= CRL_PICTURE_OPTION) return crl_picture_option(&a->picture, c, id);
    if (id >= CRL_WRITE_OPTION) return crl_write_option(&a->write, c, id);
    if (id >= CRL_MODEL_OPTION) return crl_model_option(&a->model, c, id);
    switch (id) {
    case PROMPT:
        a->prompt = c->value;
        break;
    case PROMPT_FILE:
        a->prompt_file = c->value;
        break;
    case RAW:
        a->raw = true;
        break;
    case SYSTEM:
        a->system = c->value;
        break;
    case AS_JSON:
        a->json = true;
        break;
    case STREAM:
        a->stream = true;
        break;
    }
    return true;
}

/* False: return *code. */
static bool parse(struct args *a, int argc, char **argv, int *code)
{
    struct crl_cli c;
    int id;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        *code = CRL_EXIT_MISUSED;
        if (!take(a, &c, id)) return false;
    }
    *code = c.exit_code;
    if (id == CRL_CLI_STOP) return false;
    *code = CRL_EXIT_MISUSED;
    if (c.n_operand != 1) crl_cli_misused(&usage, "one model is needed");
    else if (a->prompt && a->prompt_file)
        crl_cli_misused(&usage, "--prompt and --prompt-file exclude each other");
    else if (a->raw && a->system) crl_cli_misused(&usage, "--system has no place in a --raw prompt");
    else if (a->stream && !a->json) crl_cli_misused(&usage, "--stream goes with --json; text streams anyway");
    else if (!a->prompt && !a->prompt_file && isatty(STDIN_FILENO))
        crl_cli_misused(&usage, "a prompt is needed: --prompt, --prompt-file or standard input");
    else {
        a->model.path = c.operand[0];
        return true;
    }
    return false;
}

/* --- the prompt ----------------------------------------------------------------------------------------- */

/* One line feed at the end of standard input belongs to the program that wrote it. */
static enum crl_status read_prompt(const struct args *a, struct crl_str *text, struct crl_err *err)
{
    const char *what = a->prompt ? "--prompt" : a->prompt_file ? a->prompt_file : "standard input";
    enum crl_status st;

    if (a->prompt) st = crl_str_puts(text, a->prompt, err);
    else if (a->prompt_file) st = crl_text_read(text, a->prompt_file, err);
    else st = crl_stdin_read(text, err);
    if (!st && !a->prompt && !a->prompt_file && text->len && text->s[text->len - 1] == '\n') text->len--;
    if (!st && !text->len) st = crl_fail(err, CRL_ERANGE, "the prompt is empty");
    if (!st) st = crl_text_check(text->s, text->len, what, err);
    if (!st && a->system) st = crl_text_check(a->system, strlen(a->system), "--system", err);
    return st;
}

/* A user's message with its pictures. */
static enum crl_status chat_ids(const struct args *a, const struct crl_engine *e, const struct crl_str *text,
                                const struct crl_pictures *pictures, struct crl_ids *ids, struct crl_err *err)
{
    struct crl_chat chat = { .open_reply = true };
    struct crl_prompt prompt = { 0 };
    enum crl_status st = CRL_OK;

    if (a->system) {
        st = crl_chat_add(&chat, "system", err);
        if (!st) st = crl_chat_add_text(&chat, a->system, strlen(a->system), err);
    }
    if (!st) st = crl_chat_add(&chat, "user", err);
    if (!st) st = crl_chat_add_marked(&chat, text->s, text->len, pictures->n, err);
    if (!st) st = crl_chat_ids(&chat, crl_engine_tok(e), &prompt, err);
    if (!st) st = crl_pictures_expand(&prompt, pictures->v, pictures->n, ids, err);
    crl_chat_fini(&chat);
    crl_prompt_fini(&prompt);
    return st;
}

/* Text without a chat format: its pieces and pictures one behind the other. */
static enum crl_status raw_ids(const struct crl_tok *tok, const struct crl_str *text,
                               const struct crl_pictures *pictures, struct crl_ids *ids, struct crl_err *err)
{
    struct crl_chat chat = { .n_msg = 0 };
    unsigned flags = crl_tok_bos(tok) >= 0 ? CRL_TOK_BOS : CRL_TOK_PLAIN;
    size_t next = 0;
    enum crl_status st;

    if (!pictures->n) return crl_tok_encode(tok, text->s, text->len, flags, ids, err);
    st = crl_chat_add(&chat, "text", err);
    if (!st) st = crl_chat_add_marked(&chat, text->s, text->len, pictures->n, err);
    if (!st && flags == CRL_TOK_BOS) st = crl_ids_add(ids, crl_tok_bos(tok), err);
    for (size_t i = 0; !st && i < chat.msgs[0].n_part; i++) {
        const struct crl_part *p = &chat.msgs[0].parts[i];
        if (p->kind == CRL_PART_TEXT) st = crl_tok_encode(tok, p->text, p->len, CRL_TOK_PLAIN, ids, err);
        else st = crl_picture_append(pictures->v[next++], ids, err);
    }
    crl_chat_fini(&chat);
    return st;
}

static enum crl_status prompt_ids(const struct args *a, const struct crl_engine *e, const struct crl_str *text,
                                  const struct crl_pictures *pictures, struct crl_ids *ids, struct crl_err *err)
{
    const struct crl_tok *tok = crl_engine_tok(e);

    if (!tok) return crl_fail(err, CRL_ENOENT, "%s has no tokenizer", a->model.path);
    if (!a->raw && crl_model_chats(e)) return chat_ids(a, e, text, pictures, ids, err);
    if (a->system)
        return crl_fail(err, CRL_EUNSUPPORTED, "%s has no chat format, so no system message", a->model.path);
    if (!a->raw && !a->model.quiet)
        crl_cli_note(&usage, "%s has no chat format: the text is continued", a->model.path);
    return raw_ids(tok, text, pictures, ids, err);
}

/* --- output --------------------------------------------------------------------------------------------- */

static void print_text(void *ctx, const char *text, size_t len)
{
    const struct args *a = ctx;

    if (a->json) {
        json_t *doc = a->stream ? json_pack("{s:s%}", "piece", text, len) : NULL;
        if (doc && json_dumpf(doc, stdout, JSON_COMPACT) == 0) putchar('\n');
        json_decref(doc);
    } else {
        fwrite(text, 1, len, stdout);
    }
    fflush(stdout);
}

/* Nobody reads on: stop as well. */
static bool stopped(void *ctx)
{
    (void)ctx;
    return crl_cli_interrupted() || ferror(stdout);
}

static int report(const struct args *a, const struct crl_engine *e, const struct crl_generated *g,
                  const struct crl_routes *routes, const struct crl_sampler_options *sampling)
{
    int code = g->end == CRL_END_INTERRUPTED ? CRL_EXIT_INTERRUPTED : CRL_EXIT_DONE;

    if (a->json) {
        const char *stop = g->end == CRL_END_STRING ? a->write.stop[g->stop_string] : NULL;
        int said = crl_cli_json(&usage, crl_write_json(e, g, routes, sampling, stop));
        if (said) code = said;
    } else if (g->text.len && g->text.s[g->text.len - 1] != '\n') {
        putchar('\n');
    }
    if (a->write.stats) crl_write_stats(e, g, routes, sampling);
    else if (g->end == CRL_END_CONTEXT && !a->model.quiet) crl_cli_note(&usage, "the context is full");
    return code;
}

static int answer(const struct args *a, struct crl_engine *e, const struct crl_ids *ids,
                  const struct crl_pictures *pictures)
{
    struct crl_generate_options opt = { .max_tokens = a->write.max_tokens,
                                        .stop = a->write.stop,
                                        .n_stop = a->write.n_stop,
                                        .picture = pictures->v,
                                        .n_picture = pictures->n,
                                        .text = print_text,
                                        .interrupted = stopped,
                                        .ctx = (void *)a };
    struct crl_generated g = { 0 };
    struct crl_sampler_options sampling;
    struct crl_sampler *sampler = NULL;
    struct crl_session *session = NULL;
    struct crl_routes *routes = NULL;
    struct crl_engine_info info;
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    crl_engine_info(e, &info);
    crl_write_sampling(&a->write, e, &sampling);
    st = crl_sampler_new(&sampler, &sampling, info.vocab, &err);
    if (!st) st = crl_session_new(&session, e, a->model.ctx, &err);
    if (!st && (a->write.stats || a->json)) st = crl_routes_new(&routes, e, &err);
    if (!st && routes) crl_routes_watch(routes, e);
    if (!st) st = crl_generate(e, session, sampler, ids->v, ids->n, &opt, &g, &err);
    code = st ? crl_cli_fail(&usage, st, &err) : report(a, e, &g, routes, &sampling);
    crl_routes_unwatch(e);
    crl_routes_free(routes);
    crl_generated_fini(&g);
    crl_session_free(session);
    crl_sampler_free(sampler);
    return code;
}

static int run(int argc, char **argv)
{
    struct args a = { .raw = false };
    struct crl_engine *e = NULL;
    struct crl_str text = { NULL, 0, 0 };
    struct crl_ids ids = { NULL, 0, 0 };
    struct crl_pictures pictures = { NULL, 0, 0 };
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    st = read_prompt(&a, &text, &err);
    if (!st) {
        crl_cli_catch_interrupt();
        st = crl_model_open(&e, &usage, &a.model, &err);
    }
    if (!st) st = crl_pictures_open(&pictures, e, &a.picture, &err);
    if (!st) st = prompt_ids(&a, e, &text, &pictures, &ids, &err);
    code = st ? crl_cli_fail(&usage, st, &err) : answer(&a, e, &ids, &pictures);
    crl_ids_fini(&ids);
    crl_pictures_fini(&pictures);
    crl_str_fini(&text);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_cmd_run = { "run", "answer a prompt", run };
