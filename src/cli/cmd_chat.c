/* cmd_chat.c - corral chat: a conversation on the terminal, or through a pipe.
 *
 * The conversation is one list of ids, `all`; the session's cache holds a beginning of it. A turn appends the
 * user's message, feeds what the cache lacks and appends what was chosen, so nothing is computed twice and
 * the last chosen token, which generation leaves unfed, simply goes in with the next turn. */
#define _GNU_SOURCE
#include "cli/commands.h"

#include "base/file.h"
#include "base/mem.h"
#include "cli/picture.h"
#include "cli/write.h"
#include "text/chat.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SYSTEM = 1 };

static const struct crl_option options[] = {
    { "system", "TEXT", "a system message before the conversation", SYSTEM },
    CRL_PICTURE_OPTIONS,
    CRL_WRITE_OPTIONS,
    { 0 },
};

static const struct crl_usage usage = {
    .command = "chat",
    .operands = "MODEL",
    .about = "Talk with a model. MODEL is a .crl file or a checkpoint folder. Ctrl-C stops an answer, Ctrl-D "
             "or /quit\n"
             "leaves, /help lists the commands. Standard input may be a pipe: one message per line.",
    .option = options,
    .more = crl_model_options,
};

struct talk {
    struct crl_model_args model;
    struct crl_write_args write;
    struct crl_str system; /* len 0: none */
    bool terminal;         /* standard input is one */

    struct crl_engine *engine;
    struct crl_session *session;
    struct crl_sampler *sampler;
    struct crl_sampler_options sampling;
    struct crl_routes *routes; /* with --stats */
    struct crl_ids all;
    struct crl_picture_args picture; /* how pictures are opened */
    struct crl_pictures shown;       /* of the conversation in the order of their tokens, then those for the next message */
    size_t n_sent;                   /* of them in the conversation */
    size_t at[CRL_PICTURES_MAX];     /* where their tokens begin in all */
    char *name[CRL_PICTURES_MAX];    /* their files */
    struct crl_chat said;      /* the messages, for /save */
    struct crl_generated last; /* the latest answer */
};

/* --- interrupts ----------------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupt; /* the one thing that the handler can reach */

static void on_interrupt(int sig)
{
    (void)sig;
    interrupt = 1;
}

/* While a line is read, an interrupt ends the reading; while an answer is written it must not disturb the
 * output. */
static void catch (bool reading)
{
    struct sigaction a = { 0 };

    a.sa_handler = on_interrupt;
    a.sa_flags = reading ? 0 : SA_RESTART;
    sigaction(SIGINT, &a, NULL);
}

static bool stopped(void *ctx)
{
    (void)ctx;
    return interrupt || ferror(stdout);
}

/* --- the conversation ----------------------------------------------------------------------------------- */

/* Drop the pictures from number n on. */
static void forget_pictures(struct talk *t, size_t n)
{
    while (t->shown.n > n) {
        crl_picture_free(t->shown.v[--t->shown.n]);
        crl_free(t->name[t->shown.n]);
    }
    if (t->n_sent > n) t->n_sent = n;
}

static enum crl_status start_over(struct talk *t, struct crl_err *err)
{
    struct crl_engine_info info;
    enum crl_status st;

    crl_engine_info(t->engine, &info);
    crl_chat_fini(&t->said);
    t->all.n = 0;
    forget_pictures(t, 0);
    crl_sampler_free(t->sampler);
    t->sampler = NULL;
    st = crl_sampler_new(&t->sampler, &t->sampling, info.vocab, err);
    if (!st && t->session) st = crl_session_truncate(t->session, 0, err);
    if (!st && t->system.len) st = crl_chat_add(&t->said, "system", err);
    if (!st && t->system.len) st = crl_chat_add_text(&t->said, t->system.s, t->system.len, err);
    return st;
}

/* The turn before may have ended without the token that closes it, or with another one. */
static enum crl_status close_turn(struct talk *t, struct crl_err *err)
{
    int32_t eot = crl_tok_special_id(crl_engine_tok(t->engine), "<|eot|>");

    if (!t->all.n || t->all.v[t->all.n - 1] == eot) return CRL_OK;
    if (crl_engine_is_stop(t->engine, t->all.v[t->all.n - 1])) {
        t->all.v[t->all.n - 1] = eot;
        return CRL_OK;
    }
    return crl_ids_add(&t->all, eot, err);
}

/* Append the user's message and the head of the reply. */
static enum crl_status add_message(struct talk *t, const struct crl_str *text, struct crl_err *err)
{
    bool first = t->all.n == 0;
    struct crl_chat chat = { .open_reply = true };
    struct crl_prompt prompt = { 0 };
    enum crl_status st = close_turn(t, err);

    if (!st && first && t->system.len) {
        st = crl_chat_add(&chat, "system", err);
        if (!st) st = crl_chat_add_text(&chat, t->system.s, t->system.len, err);
    }
    if (!st) st = crl_chat_add(&chat, "user", err);
    if (!st) st = crl_chat_add_marked(&chat, text->s, text->len, t->shown.n - t->n_sent, err);
    if (!st) st = crl_chat_ids(&chat, crl_engine_tok(t->engine), &prompt, err);
    /* A message looks the same wherever it stands; only the begin-of-text token, the first id, is not
     * repeated. */
    for (size_t i = first ? 0 : 1, next = 0; i < prompt.ids.n && !st; i++) {
        if (next == prompt.n_image || prompt.images[next].pos != i) {
            st = crl_ids_add(&t->all, prompt.ids.v[i], err);
            continue;
        }
        t->at[t->n_sent + next] = t->all.n;
        st = crl_picture_append(t->shown.v[t->n_sent + next++], &t->all, err);
    }
    if (!st) t->n_sent = t->shown.n;
    crl_prompt_fini(&prompt);
    crl_chat_fini(&chat);
    return st;
}

static void print_text(void *ctx, const char *text, size_t len)
{
    (void)ctx;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
}

/* The turn did not come about: the conversation is as it was after `n` ids and `n_sent` pictures; those of the message
 * wait for the next one. */
static void take_back(struct talk *t, size_t n, size_t n_sent)
{
    t->all.n = n;
    t->n_sent = n_sent;
    if (crl_session_pos(t->session) > n && crl_session_truncate(t->session, n, NULL))
        crl_session_truncate(t->session, 0,
                             NULL); /* too far back for a chunked layer: the next turn feeds it all */
}

/* The message with its pictures, those from n_sent on, and the answer. */
static enum crl_status note_turn(struct talk *t, const struct crl_str *text, size_t n_sent, struct crl_err *err)
{
    const struct crl_generated *g = &t->last;
    enum crl_status st = crl_chat_add(&t->said, "user", err);

    for (size_t i = n_sent; !st && i < t->n_sent; i++) st = crl_chat_add_image(&t->said, t->name[i], err);
    if (!st) st = crl_chat_add_text(&t->said, text->s, text->len, err);
    if (!st) st = crl_chat_add(&t->said, "assistant", err);
    if (!st) st = crl_chat_add_text(&t->said, g->text.s ? g->text.s : "", g->text.len, err);
    for (size_t i = 0; i < g->ids.n && !st; i++) st = crl_ids_add(&t->all, g->ids.v[i], err);
    return st;
}

static void show_end(const struct talk *t)
{
    const struct crl_generated *g = &t->last;

    if (g->text.len && g->text.s[g->text.len - 1] != '\n') putchar('\n');
    if (t->terminal) putchar('\n');
    fflush(stdout);
    if (t->write.stats) crl_write_stats(t->engine, g, t->routes, &t->sampling);
    if (g->end == CRL_END_CONTEXT && !t->model.quiet)
        crl_cli_note(&usage, "the context is full; /reset starts a new conversation");
    if (g->end == CRL_END_LENGTH && t->terminal && !t->model.quiet)
        crl_cli_note(&usage, "stopped at --max-tokens");
}

static enum crl_status answer(struct talk *t, const struct crl_str *text, struct crl_err *err)
{
    struct crl_generate_options opt = { .max_tokens = t->write.max_tokens,
                                        .stop = t->write.stop,
                                        .n_stop = t->write.n_stop,
                                        .text = print_text,
                                        .interrupted = stopped };
    size_t before = t->all.n, n_sent = t->n_sent, pos, old = 0;
    enum crl_status st = crl_text_check(text->s, text->len, "the message", err);

    if (!st) st = add_message(t, text, err);
    pos = crl_session_pos(t->session);
    while (old < t->n_sent && t->at[old] < pos) old++; /* what the cache holds needs no picture any more */
    opt.picture = t->shown.v + old;
    opt.n_picture = t->n_sent - old;
    crl_generated_fini(&t->last);
    catch (false);
    if (!st)
        st = crl_generate(t->engine, t->session, t->sampler, t->all.v + pos, t->all.n - pos, &opt, &t->last,
                          err);
    if (st || (t->last.end == CRL_END_INTERRUPTED && !t->last.ids.n)) {
        take_back(t, before, n_sent);
        if (!st && t->terminal) fputs("\n", stderr);
        return st;
    }
    st = note_turn(t, text, n_sent, err);
    show_end(t);
    return st;
}

/* --- commands of the conversation ----------------------------------------------------------------------- */

static enum crl_status cmd_help(struct talk *t, const char *arg, struct crl_err *err)
{
    (void)t;
    (void)arg;
    (void)err;
    fputs("/help          this list\n"
          "/reset         forget the conversation\n"
          "/system TEXT   forget it and begin with this system message; without TEXT, with none\n"
          "/image FILE    show a picture with the next message, before it or where it says <image>\n"
          "/save FILE     write the conversation as JSON messages\n"
          "/stats         speed, bytes and experts of the last answer\n"
          "/quit          leave; so does Ctrl-D\n"
          "A message of several lines: end lines with \\, or put it between two lines of \"\"\".\n"
          "A message that begins with / is written with //. Ctrl-C stops an answer.\n",
          stderr);
    return CRL_OK;
}

static enum crl_status cmd_reset(struct talk *t, const char *arg, struct crl_err *err)
{
    (void)arg;
    return start_over(t, err);
}

static enum crl_status cmd_system(struct talk *t, const char *arg, struct crl_err *err)
{
    enum crl_status st = crl_text_check(arg, strlen(arg), "the system message", err);

    if (st) return st;
    t->system.len = 0;
    st = crl_str_puts(&t->system, arg, err);
    return st ? st : start_over(t, err);
}

static enum crl_status cmd_image(struct talk *t, const char *arg, struct crl_err *err)
{
    char *name = crl_strdup(arg);
    enum crl_status st = !*arg ? crl_fail(err, CRL_ERANGE, "/image needs the name of a file")
                         : !name ? crl_fail(err, CRL_ENOMEM, "no memory for a name")
                                 : crl_pictures_add(&t->shown, t->engine, arg, &t->picture.options, err);

    if (st) crl_free(name);
    else t->name[t->shown.n - 1] = name;
    if (!st && t->terminal && !t->model.quiet)
        fprintf(stderr, "%s: %zu tiles, %zu tokens\n", arg, crl_picture_tiles(t->shown.v[t->shown.n - 1]),
                crl_picture_tokens(t->shown.v[t->shown.n - 1]));
    return st;
}

/* The content of a message: its text, or a list of parts when there are pictures. */
static json_t *content_json(const struct crl_msg *m)
{
    json_t *list;

    if (m->n_part == 1) return json_stringn(m->parts[0].text, m->parts[0].len);
    list = json_array();
    for (size_t i = 0; i < m->n_part; i++) {
        const struct crl_part *p = &m->parts[i];
        json_array_append_new(list, p->kind == CRL_PART_IMAGE
                                        ? json_pack("{s:s, s:{s:s}}", "type", "image_url", "image_url", "url", p->text)
                                        : json_pack("{s:s, s:s%}", "type", "text", "text", p->text, p->len));
    }
    return list;
}

static enum crl_status cmd_save(struct talk *t, const char *arg, struct crl_err *err)
{
    json_t *list = json_array(), *doc;
    char *text;
    enum crl_status st;

    for (size_t i = 0; i < t->said.n_msg; i++) {
        const struct crl_msg *m = &t->said.msgs[i];
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "role", m->role, "content", content_json(m)));
    }
    doc = json_pack("{s:o}", "messages", list);
    text = doc ? json_dumps(doc, JSON_INDENT(2)) : NULL;
    json_decref(doc);
    if (!*arg) st = crl_fail(err, CRL_ERANGE, "/save needs the name of a file");
    else if (!text) st = crl_fail(err, CRL_ENOMEM, "no memory to save the conversation");
    else st = crl_file_write(arg, text, strlen(text), err);
    free(text);
    return st;
}

static enum crl_status cmd_stats(struct talk *t, const char *arg, struct crl_err *err)
{
    (void)arg;
    (void)err;
    crl_write_stats(t->engine, &t->last, t->routes, &t->sampling);
    return CRL_OK;
}

static const struct {
    const char *name;
    enum crl_status (*run)(struct talk *t, const char *arg, struct crl_err *err); /* NULL: leave */
} commands[] = {
    { "help", cmd_help },   { "reset", cmd_reset }, { "system", cmd_system }, { "save", cmd_save },
    { "image", cmd_image },
    { "stats", cmd_stats }, { "quit", NULL },       { "exit", NULL },
};

/* line is "/name argument". False: leave. */
static bool command(struct talk *t, const char *line, enum crl_status *st, struct crl_err *err)
{
    size_t len = strcspn(line + 1, " \t");
    const char *arg = line + 1 + len + strspn(line + 1 + len, " \t");

    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strlen(commands[i].name) != len || strncmp(commands[i].name, line + 1, len)) continue;
        if (!commands[i].run) return false;
        *st = commands[i].run(t, arg, err);
        return true;
    }
    *st = crl_fail(err, CRL_ERANGE, "no command %.*s; /help lists them", (int)len + 1, line);
    return true;
}

/* --- input ---------------------------------------------------------------------------------------------- */

enum input { INPUT_TEXT, INPUT_END, INPUT_INTERRUPTED };

/* One line without its line feed, appended to *to. */
static enum input read_line(const struct talk *t, const char *prompt, struct crl_str *to)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    bool taken;

    if (t->terminal) {
        fputs(prompt, stderr);
        fflush(stderr);
    }
    n = interrupt ? -1 : getline(&line, &cap, stdin);
    if (n > 0 && line[n - 1] == '\n') n--;
    taken = n >= 0 && !crl_str_add(to, line, (size_t)n, NULL);
    free(line);
    if (taken) return INPUT_TEXT;
    if (interrupt) {
        clearerr(stdin);
        return INPUT_INTERRUPTED;
    }
    return INPUT_END;
}

static bool ends_with_backslash(const struct crl_str *s)
{
    return s->len && s->s[s->len - 1] == '\\';
}

/* A message: a line, lines joined by \ at their ends, or lines between two of """. */
static enum input read_message(const struct talk *t, struct crl_str *text)
{
    struct crl_str line = { NULL, 0, 0 };
    enum input in;

    text->len = 0;
    catch (true);
    in = read_line(t, "> ", text);
    if (in == INPUT_TEXT && text->len == 3 && memcmp(text->s, "\"\"\"", 3) == 0) {
        text->len = 0;
        while ((in = read_line(t, ". ", &line)) == INPUT_TEXT) {
            if (line.len == 3 && memcmp(line.s, "\"\"\"", 3) == 0) break;
            if (text->len) crl_str_puts(text, "\n", NULL);
            if (line.len) crl_str_add(text, line.s, line.len, NULL);
            line.len = 0;
        }
    } else {
        while (in == INPUT_TEXT && ends_with_backslash(text)) {
            text->s[text->len - 1] = '\n';
            in = read_line(t, ". ", text);
        }
    }
    if (in == INPUT_END && text->len) in = INPUT_TEXT; /* the last line, or block, was not closed */
    if (text->len && !text->s[text->len - 1]) text->len--;
    crl_str_fini(&line);
    return in;
}

/* --- the loop ------------------------------------------------------------------------------------------- */

static int converse(struct talk *t)
{
    struct crl_str text = { NULL, 0, 0 };
    int code = CRL_EXIT_DONE;

    interrupt = crl_cli_interrupted();
    if (t->terminal && !t->model.quiet) fputs("/help lists the commands, Ctrl-D leaves.\n", stderr);
    for (;;) {
        enum input in = read_message(t, &text);
        enum crl_status st = CRL_OK;
        struct crl_err err = { "" };
        if (in == INPUT_END) break;
        if (in == INPUT_INTERRUPTED && t->terminal) {
            interrupt = 0;
            fputs("\n/quit or Ctrl-D leaves.\n", stderr);
            continue;
        }
        if (in == INPUT_INTERRUPTED) {
            code = CRL_EXIT_INTERRUPTED;
            break;
        }
        if (!text.len) continue;
        if (text.s[0] == '/' && !(text.len > 1 && text.s[1] == '/')) {
            if (!command(t, text.s, &st, &err)) break;
        } else {
            if (text.s[0] == '/') memmove(text.s, text.s + 1, text.len--); /* with the closing zero */
            st = answer(t, &text, &err);
        }
        if (st) code = crl_cli_fail(&usage, st, &err);
        if (ferror(stdout)) break;
        if (interrupt && !t->terminal) {
            code = CRL_EXIT_INTERRUPTED;
            break;
        }
        interrupt = 0;
        if (t->terminal) code = CRL_EXIT_DONE; /* whoever is there has read the message */
    }
    if (t->terminal) fputc('\n', stderr);
    crl_str_fini(&text);
    return code;
}

static enum crl_status set_up(struct talk *t, struct crl_err *err)
{
    enum crl_status st = crl_text_check(t->system.s ? t->system.s : "", t->system.len, "--system", err);

    if (!st) {
        crl_cli_catch_interrupt();
        st = crl_model_open(&t->engine, &usage, &t->model, err);
    }
    if (!st && !crl_model_chats(t->engine))
        st = crl_fail(err, CRL_EUNSUPPORTED, "%s has no chat format; `corral run --raw` continues texts",
                      t->model.path);
    if (st) return st;
    crl_write_sampling(&t->write, t->engine, &t->sampling);
    st = crl_session_new(&t->session, t->engine, t->model.ctx, err);
    if (!st) st = crl_routes_new(&t->routes, t->engine, err);
    if (!st) crl_routes_watch(t->routes, t->engine);
    return st ? st : start_over(t, err);
}

static void talk_fini(struct talk *t)
{
    crl_generated_fini(&t->last);
    crl_chat_fini(&t->said);
    forget_pictures(t, 0);
    crl_pictures_fini(&t->shown);
    crl_ids_fini(&t->all);
    crl_routes_free(t->routes);
    crl_sampler_free(t->sampler);
    crl_session_free(t->session);
    crl_engine_close(t->engine);
    crl_str_fini(&t->system);
}

/* False: return *code. */
static bool parse(struct talk *t, int argc, char **argv, int *code)
{
    struct crl_cli c;
    int id;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        bool good = true;
        *code = CRL_EXIT_MISUSED;
        if (id >= CRL_PICTURE_OPTION) good = crl_picture_option(&t->picture, &c, id);
        else if (id >= CRL_WRITE_OPTION) good = crl_write_option(&t->write, &c, id);
        else if (id >= CRL_MODEL_OPTION) good = crl_model_option(&t->model, &c, id);
        else {
            t->system.len = 0;
            good = !crl_str_puts(&t->system, c.value, NULL);
        }
        if (!good) return false;
    }
    *code = c.exit_code;
    if (id == CRL_CLI_STOP) return false;
    if (c.n_operand == 1) {
        t->model.path = c.operand[0];
        return true;
    }
    *code = crl_cli_misused(&usage, "one model is needed");
    return false;
}

static int run(int argc, char **argv)
{
    struct talk t = { .terminal = isatty(STDIN_FILENO) };
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    if (parse(&t, argc, argv, &code)) {
        st = set_up(&t, &err);
        code = st ? crl_cli_fail(&usage, st, &err) : converse(&t);
    }
    talk_fini(&t);
    return code;
}

const struct crl_command crl_cmd_chat = { "chat", "talk with a model", run };
