/* cmd_tokenize.c - corral tokenize: text to ids and back. */
#include "cli/commands.h"

#include "base/mem.h"
#include "cli/model.h"
#include "store/pack.h"

#include <string.h>
#include <unistd.h>

enum { TEXT = 1, TEXT_FILE, IDS, DECODE, SPECIAL, BOS, AS_JSON };

static const struct crl_option options[] = {
    { "text", "TEXT", "what to read (default: standard input)", TEXT },
    { "file", "FILE", "read from a file; - is standard input", TEXT_FILE },
    { "ids", NULL, "print only the ids, on one line, separated by commas", IDS },
    { "decode", NULL, "the reverse: read ids, print their text", DECODE },
    { "special", NULL,
      "names of special tokens in the text mean these tokens; with --decode, print their names", SPECIAL },
    { "bos", NULL, "put the begin-of-text token first", BOS },
    { "json", NULL, "print one JSON object", AS_JSON },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "tokenize",
    .operands = "MODEL",
    .about = "Turn text into token ids. MODEL is a .crl file, a checkpoint folder, a tokenizer.json or a\n"
             "tokenizer.model. Without --ids, each line is an id, a tab and the token, bytes outside plain "
             "text escaped.",
    .option = options,
};

struct args {
    const char *model, *text, *file;
    bool ids, decode, special, bos, json;
};

/* False: return *code. */
static bool parse(struct args *a, int argc, char **argv, int *code)
{
    struct crl_cli c;
    int id;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        switch (id) {
        case TEXT:
            a->text = c.value;
            break;
        case TEXT_FILE:
            a->file = c.value;
            break;
        case IDS:
            a->ids = true;
            break;
        case DECODE:
            a->decode = true;
            break;
        case SPECIAL:
            a->special = true;
            break;
        case BOS:
            a->bos = true;
            break;
        case AS_JSON:
            a->json = true;
            break;
        }
    }
    *code = c.exit_code;
    if (id == CRL_CLI_STOP) return false;
    *code = CRL_EXIT_MISUSED;
    if (c.n_operand != 1) crl_cli_misused(&usage, "one model or tokenizer is needed");
    else if (a->text && a->file) crl_cli_misused(&usage, "--text and --file exclude each other");
    else if (a->decode && (a->ids || a->bos))
        crl_cli_misused(&usage, "--ids and --bos have no place with --decode");
    else if (a->ids && a->json) crl_cli_misused(&usage, "--ids and --json exclude each other");
    else if (!a->text && !a->file && isatty(STDIN_FILENO))
        crl_cli_misused(&usage, "a text is needed: --text, --file or standard input");
    else {
        a->model = c.operand[0];
        return true;
    }
    return false;
}

static bool is_packed(const char *path)
{
    unsigned char head[4] = { 0 };
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;

    if (f) fclose(f);
    return n == sizeof head && memcmp(head,
                                      "\x89"
                                      "CRL",
                                      4) == 0;
}

static enum crl_status open_tok(struct crl_tok **tok, const char *path, struct crl_err *err)
{
    struct crl_pack *pack = NULL;
    const unsigned char *bytes;
    size_t len;
    enum crl_status st;

    if (!is_packed(path)) return crl_tok_open(tok, path, err);
    st = crl_pack_open(&pack, path, err);
    if (st) return st;
    bytes = crl_pack_section(pack, CRL_SECTION_TOKENIZER, &len);
    if (bytes) st = crl_tok_load(tok, bytes, len, err);
    else st = crl_fail(err, CRL_ENOENT, "has no tokenizer");
    if (st) crl_err_prefix(err, "%s", path);
    crl_pack_close(pack);
    return st;
}

/* --- output --------------------------------------------------------------------------------------------- */

/* The token as one line of plain text: \n \t \r \\ by name, other control bytes and what is no UTF-8 as \xNN.
 */
static void print_token(const struct crl_tok *tok, int32_t id)
{
    static const char names[] = "\n\t\r\\", letters[] = "ntr\\";
    size_t len;
    const unsigned char *s = crl_tok_bytes(tok, id, &len);
    bool text = s && !crl_text_check((const char *)s, len, "", NULL);

    printf("%d\t", (int)id);
    for (size_t i = 0; i < len; i++) {
        const char *name = s[i] ? strchr(names, s[i]) : NULL;
        if (name) printf("\\%c", letters[name - names]);
        else if (s[i] < 0x20 || s[i] == 0x7f || (s[i] >= 0x80 && !text)) printf("\\x%02x", s[i]);
        else putchar(s[i]);
    }
    putchar('\n');
}

static json_t *ids_json(const struct crl_ids *ids)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->n; i++) json_array_append_new(list, json_integer(ids->v[i]));
    return list;
}

/* Each token alone as text: what is only part of a character shows as U+FFFD. NULL when memory runs out. */
static json_t *tokens_json(const struct crl_tok *tok, const struct crl_ids *ids)
{
    json_t *list = json_array();
    struct crl_str s = { NULL, 0, 0 };

    for (size_t i = 0; i < ids->n; i++) {
        s.len = 0;
        if (crl_tok_decode(tok, ids->v + i, 1, CRL_DETOK_NAMES, &s, NULL)) break;
        json_array_append_new(list, json_stringn(s.s ? s.s : "", s.len));
    }
    crl_str_fini(&s);
    if (json_array_size(list) == ids->n) return list;
    json_decref(list);
    return NULL;
}

static int print_encoded(const struct args *a, const struct crl_tok *tok, const struct crl_ids *ids)
{
    if (a->json)
        return crl_cli_json(&usage, json_pack("{s:I, s:o, s:o}", "n", (json_int_t)ids->n, "ids",
                                              ids_json(ids), "tokens", tokens_json(tok, ids)));
    for (size_t i = 0; i < ids->n; i++) {
        if (a->ids) printf("%s%d", i ? "," : "", (int)ids->v[i]);
        else print_token(tok, ids->v[i]);
    }
    if (a->ids) putchar('\n');
    return CRL_EXIT_DONE;
}

static int print_decoded(const struct args *a, const struct crl_ids *ids, const struct crl_str *text)
{
    if (a->json)
        return crl_cli_json(&usage, json_pack("{s:I, s:o, s:s%}", "n", (json_int_t)ids->n, "ids",
                                              ids_json(ids), "text", text->s ? text->s : "", text->len));
    fwrite(text->s ? text->s : "", 1, text->len, stdout);
    return CRL_EXIT_DONE;
}

static enum crl_status check_ids(const struct crl_tok *tok, const struct crl_ids *ids, struct crl_err *err)
{
    for (size_t i = 0; i < ids->n; i++)
        if ((uint32_t)ids->v[i] >= crl_tok_vocab(tok))
            return crl_fail(err, CRL_ERANGE, "id %zu is %d, outside the tokenizer's vocabulary of %u", i,
                            ids->v[i], crl_tok_vocab(tok));
    return CRL_OK;
}

static int run(int argc, char **argv)
{
    struct args a = { .ids = false };
    struct crl_tok *tok = NULL;
    struct crl_str in = { NULL, 0, 0 }, out = { NULL, 0, 0 };
    struct crl_ids ids = { NULL, 0, 0 };
    struct crl_err err = { "" };
    const char *what;
    enum crl_status st;
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    what = a.text ? "--text" : a.file && strcmp(a.file, "-") ? a.file : "standard input";
    st = open_tok(&tok, a.model, &err);
    if (!st) st = a.text ? crl_str_puts(&in, a.text, &err) : crl_text_read(&in, a.file ? a.file : "-", &err);
    if (!st && a.decode) {
        st = crl_ids_parse(&ids, in.s ? in.s : "", in.len, what, &err);
        if (!st) st = check_ids(tok, &ids, &err);
        if (!st)
            st = crl_tok_decode(tok, ids.v, ids.n, a.special ? CRL_DETOK_NAMES : CRL_DETOK_SKIP, &out, &err);
    } else if (!st) {
        unsigned flags = (a.bos ? CRL_TOK_BOS : 0) | (a.special ? CRL_TOK_SPECIAL : 0);
        st = crl_text_check(in.s ? in.s : "", in.len, what, &err);
        if (!st) st = crl_tok_encode(tok, in.s ? in.s : "", in.len, flags, &ids, &err);
    }
    if (st) code = crl_cli_fail(&usage, st, &err);
    else code = a.decode ? print_decoded(&a, &ids, &out) : print_encoded(&a, tok, &ids);
    crl_ids_fini(&ids);
    crl_str_fini(&in);
    crl_str_fini(&out);
    crl_tok_close(tok);
    return code;
}

const struct crl_command crl_cmd_tokenize = { "tokenize", "turn text into token ids, or back", run };
