/* cmd_logits.c - corral logits: the logits of every token of a list, as a NumPy file. */
#include "cli/commands.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/model.h"
#include "cli/picture.h"
#include "cli/progress.h"

#include <string.h>

#define PIECE 64 /* tokens at once: what logits they have stays below 64 MB for 200 k tokens of vocabulary   \
                  */

enum { IDS = 1, IDS_FILE, PIECE_SIZE, OUTPUT };

static const struct crl_option options[] = {
    { "ids", "LIST", "token ids, separated by commas or blanks", IDS },
    { "ids-file", "FILE", "read the ids from a file; - is standard input", IDS_FILE },
    { "piece", "N", "feed so many tokens at a time (default 64); the result does not depend on it",
      PIECE_SIZE },
    { "image", "FILE", "a picture that takes the image tokens among the ids; may be repeated", CRL_PICTURE_IMAGE },
    CRL_PICTURE_OPTIONS,
    { "output", "FILE.npy", "where to write: float32 [tokens, vocabulary], NumPy format 1.0", OUTPUT },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "logits",
    .operands = "MODEL",
    .about = "Compute the logits after each of the given tokens. MODEL is a .crl file or a checkpoint "
             "folder; it needs\n"
             "no tokenizer. The file appears under its name when it is complete.",
    .option = options,
    .more = crl_model_options,
};

struct args {
    struct crl_model_args model;
    struct crl_picture_args picture;
    const char *ids, *ids_file, *output;
    size_t piece;
};

static bool take(struct args *a, const struct crl_cli *c, int id)
{
    unsigned long long n;

    if (id >= CRL_PICTURE_OPTION) return crl_picture_option(&a->picture, c, id);
    if (id >= CRL_MODEL_OPTION) return crl_model_option(&a->model, c, id);
    switch (id) {
    case IDS:
        a->ids = c->value;
        break;
    case IDS_FILE:
        a->ids_file = c->value;
        break;
    case OUTPUT:
        a->output = c->value;
        break;
    case PIECE_SIZE:
        if (!crl_cli_number(c, "piece", 1, 65536, &n)) return false;
        a->piece = (size_t)n;
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
    else if (!a->ids == !a->ids_file) crl_cli_misused(&usage, "either --ids or --ids-file is needed");
    else if (!a->output) crl_cli_misused(&usage, "--output FILE.npy is needed");
    else {
        a->model.path = c.operand[0];
        return true;
    }
    return false;
}

static enum crl_status read_ids(const struct args *a, struct crl_ids *ids, struct crl_err *err)
{
    const char *what = a->ids ? "--ids" : a->ids_file;
    struct crl_str text = { NULL, 0, 0 };
    enum crl_status st = a->ids ? crl_str_puts(&text, a->ids, err) : crl_text_read(&text, a->ids_file, err);

    if (!st && text.len) st = crl_ids_parse(ids, text.s, text.len, what, err);
    if (!st && !ids->n) st = crl_fail(err, CRL_ERANGE, "%s: holds no ids", what);
    crl_str_fini(&text);
    return st;
}

static enum crl_status check_ids(const struct crl_ids *ids, uint32_t vocab, const struct crl_session *session,
                                 struct crl_err *err)
{
    size_t room = crl_session_left(session);

    for (size_t i = 0; i < ids->n; i++)
        if ((uint32_t)ids->v[i] >= vocab)
            return crl_fail(err, CRL_ERANGE, "id %zu is %d, outside the model's vocabulary of %u", i,
                            ids->v[i], vocab);
    if (ids->n > room)
        return crl_fail(err, CRL_EFULL, "%zu ids but the context has room for %zu", ids->n, room);
    return CRL_OK;
}

/* NumPy format 1.0: magic, version, length of the rest of the header, a Python dict padded by blanks to a
 * multiple of 64 bytes with a line feed at the end, then the data in C order. */
#define NPY_HEADER 128

static void npy_header(unsigned char head[NPY_HEADER], size_t rows, size_t columns)
{
    char dict[NPY_HEADER];
    int n = snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                     rows, columns);

    memset(head, ' ', NPY_HEADER);
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    crl_put_le16(head + 8, NPY_HEADER - 10);
    memcpy(head + 10, dict, (size_t)n); /* two numbers of at most 20 digits: 97 bytes at most */
    head[NPY_HEADER - 1] = '\n';
}

/* The bytes of floats as the file wants them, whatever this machine's order. */
static void to_little_endian(float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, sizeof bits);
        crl_put_le32(v + i, bits);
    }
}

static enum crl_status write_rows(const struct args *a, struct crl_session *session,
                                  const struct crl_ids *ids, const float *const *rows, uint32_t vocab,
                                  struct crl_out *out, struct crl_err *err)
{
    size_t piece = a->piece < ids->n ? a->piece : ids->n, n_float;
    unsigned char head[NPY_HEADER];
    struct crl_progress progress;
    float *logits = crl_mul_size(piece, vocab, &n_float) ? crl_alloc(n_float, sizeof *logits) : NULL;
    enum crl_status st;

    if (!logits) return crl_fail(err, CRL_ENOMEM, "no memory for the logits of %zu tokens", piece);
    crl_progress_init(&progress, "tokens", a->model.quiet);
    npy_header(head, ids->n, vocab);
    st = crl_out_write(out, 0, head, sizeof head, err);
    for (size_t at = 0, n; at < ids->n && !st; at += n) {
        n = ids->n - at < piece ? ids->n - at : piece;
        if (crl_cli_interrupted()) st = crl_fail(err, CRL_EINTR, "interrupted");
        if (!st) st = crl_session_feed_rows(session, ids->v + at, rows ? rows + at : NULL, n, logits, true, err);
        if (st) break;
        to_little_endian(logits, n * vocab);
        st = crl_out_write(out, sizeof head + (uint64_t)at * vocab * sizeof *logits, logits,
                           n * vocab * sizeof *logits, err);
        crl_progress_show(&progress, at + n, ids->n, NULL);
    }
    crl_progress_end(&progress);
    crl_free(logits);
    return st;
}

static bool goes_on(void *ctx)
{
    (void)ctx;
    return !crl_cli_interrupted();
}

/* Open and encode the pictures; *rows is NULL when there are none. */
static enum crl_status look(const struct args *a, struct crl_engine *e, const struct crl_ids *ids,
                            struct crl_pictures *p, const float *const **rows, struct crl_err *err)
{
    enum crl_status st = crl_pictures_open(p, e, &a->picture, err);

    *rows = NULL;
    for (size_t i = 0; !st && i < p->n; i++) st = crl_picture_look(p->v[i], goes_on, NULL, err);
    return st || !p->n ? st : crl_pictures_place(e, ids->v, ids->n, p->v, p->n, rows, err);
}

static enum crl_status work(const struct args *a, struct crl_engine *e, const struct crl_ids *ids,
                            struct crl_err *err)
{
    struct crl_session *session = NULL;
    struct crl_engine_info info;
    struct crl_pictures pictures = { NULL, 0, 0 };
    const float *const *rows = NULL;
    struct crl_out *out = NULL;
    enum crl_status st;

    crl_engine_info(e, &info);
    st = crl_session_new(&session, e, a->model.ctx, err);
    if (!st) st = check_ids(ids, info.vocab, session, err);
    if (!st) st = look(a, e, ids, &pictures, &rows, err);
    if (!st) st = crl_out_open(&out, a->output, err);
    if (!st) st = write_rows(a, session, ids, rows, info.vocab, out, err);
    if (!st) st = crl_out_commit(out, err);
    crl_out_close(out);
    crl_free((void *)(uintptr_t)rows);
    crl_pictures_fini(&pictures);
    crl_session_free(session);
    return st;
}

static int run(int argc, char **argv)
{
    struct args a = { .piece = PIECE };
    struct crl_engine *e = NULL;
    struct crl_ids ids = { NULL, 0, 0 };
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    st = read_ids(&a, &ids, &err);
    if (!st) {
        crl_cli_catch_interrupt();
        st = crl_model_open(&e, &usage, &a.model, &err);
    }
    if (!st) st = work(&a, e, &ids, &err);
    code = st ? crl_cli_fail(&usage, st, &err) : CRL_EXIT_DONE;
    crl_ids_fini(&ids);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_cmd_logits = { "logits", "write the logits of given tokens", run };
