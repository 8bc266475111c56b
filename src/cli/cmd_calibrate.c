/* cmd_calibrate.c - corral calibrate: activation statistics of a model over texts, for corral convert. */
#include "cli/commands.h"

#include "base/mem.h"
#include "cli/model.h"
#include "cli/progress.h"
#include "eval/calibrate.h"

#include <stdio.h>
#include <string.h>

enum { TEXT = 1, FIELD, OUTPUT, CONTEXT, TOKENS, SPAN, AS_JSON };

static const struct crl_option options[] = {
    { "text", "FILE", "a text; FILE.jsonl: one document per line, in the member \"text\" or \"ids\"; may be repeated",
      TEXT },
    { "field", "NAME", "member of a line that holds the text (default: text)", FIELD },
    { "output", "STATS.crs", "where to write the statistics", OUTPUT },
    { "context", "N", "most positions the model sees at once (default: 2048, or its context if less)", CONTEXT },
    { "tokens", "N", "stop after so many tokens (default: all)", TOKENS },
    { "span", "N", "inputs whose products are kept, for feeding errors on: 0 or a multiple of 32 up to 256\n"
                   "(default 128)", SPAN },
    { "json", NULL, "print the report as one JSON object", AS_JSON },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "calibrate",
    .operands = "MODEL --text FILE --output STATS.crs",
    .about = "Run texts through a model and write what its matrices get to see: sums of squares per input and\n"
             "expert, and sums of products of neighbouring inputs. `corral convert --calibration` packs by them.\n"
             "MODEL is best the checkpoint itself.",
    .option = options,
    .more = crl_model_options,
};

#define TEXTS_MAX 64

struct args {
    struct crl_model_args model;
    const char *text[TEXTS_MAX], *output;
    size_t n_text, context, tokens;
    struct crl_corpus_options corpus;
    struct crl_calibrate_options opt;
    bool json;
};

static bool take(struct args *a, const struct crl_cli *c, int id)
{
    unsigned long long n;

    if (id >= CRL_MODEL_OPTION) return crl_model_option(&a->model, c, id);
    switch (id) {
    case TEXT:
        if (a->n_text == TEXTS_MAX) {
            crl_cli_misused(&usage, "more than %d options --text", TEXTS_MAX);
            return false;
        }
        a->text[a->n_text++] = c->value;
        break;
    case FIELD: a->corpus.field = c->value; break;
    case OUTPUT: a->output = c->value; break;
    case CONTEXT:
        if (!crl_cli_number(c, "context", 2, UINT32_MAX, &n)) return false;
        a->context = (size_t)n;
        break;
    case TOKENS:
        if (!crl_cli_number(c, "tokens", 1, UINT32_MAX, &n)) return false;
        a->tokens = (size_t)n;
        break;
    case SPAN:
        if (!crl_cli_number(c, "span", 0, CRL_CALIB_SPAN_MAX, &n)) return false;
        if (n % CRL_BLOCK) {
            crl_cli_misused(&usage, "option --span: %llu is no multiple of %d", n, CRL_BLOCK);
            return false;
        }
        a->opt.span = (uint32_t)n;
        break;
    case AS_JSON: a->json = true; break;
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
    else if (!a->n_text) crl_cli_misused(&usage, "--text FILE is needed");
    else if (!a->output) crl_cli_misused(&usage, "--output STATS.crs is needed");
    else {
        a->model.path = c.operand[0];
        return true;
    }
    return false;
}

/* All texts as one corpus. */
static enum crl_status read_texts(const struct args *a, const struct crl_engine *e, struct crl_corpus *all,
                                  struct crl_err *err)
{
    enum crl_status st = crl_corpus_read(all, e, a->text[0], &a->corpus, err);

    for (size_t i = 1; !st && i < a->n_text; i++) {
        struct crl_corpus one;

        st = crl_corpus_read(&one, e, a->text[i], &a->corpus, err);
        if (!st && one.bos != all->bos)
            st = crl_fail(err, CRL_EUNSUPPORTED, "%s: texts and lists of ids cannot be mixed", a->text[i]);
        for (size_t d = 0; !st && d < one.n_doc; d++) {
            size_t first = all->ids.n;
            for (size_t j = 0; !st && j < one.doc[d].n; j++)
                st = crl_ids_add(&all->ids, one.ids.v[one.doc[d].first + j], err);
            if (!st) st = crl_corpus_note(all, first, one.doc[d].bytes, err);
        }
        crl_corpus_fini(&one);
    }
    if (!st && a->n_text > 1) st = crl_corpus_seal(all, err);
    return st;
}

/* Keep windows up to `most` tokens in all. */
static void limit_windows(struct crl_windows *w, size_t most)
{
    size_t n = 0, fed = 0;

    while (n < w->n && fed + w->v[n].n <= most) fed += w->v[n++].n;
    if (n == w->n || n == 0) return; /* a first window longer than that is taken as it is */
    w->n_row = w->v[n].row;
    w->n = n;
    w->n_fed = fed;
}

static bool on_progress(void *ctx, size_t done, size_t total)
{
    crl_progress_show(ctx, done, total, NULL);
    return !crl_cli_interrupted();
}

static int show(const struct args *a, const struct crl_calibrate_report *r)
{
    char bytes[CRL_CLI_TEXT];

    if (a->json) {
        json_t *poor = json_array();
        for (size_t i = 0; i < r->n_poor; i++)
            json_array_append_new(poor, json_pack("{s:i, s:i, s:I}", "layer", (int)r->poor[i].layer, "expert",
                                                  (int)r->poor[i].expert, "tokens", (json_int_t)r->poor[i].rows));
        return crl_cli_json(&usage, json_pack("{s:s, s:s, s:I, s:i, s:I, s:I, s:o}", "model", a->model.path, "output",
                                              a->output, "tokens", (json_int_t)r->tokens, "span", (int)a->opt.span,
                                              "bytes", (json_int_t)r->bytes, "experts", (json_int_t)r->n_expert,
                                              "experts_with_little", poor));
    }
    if (r->n_poor) {
        printf("experts that saw fewer than %d tokens, whose statistics lean on their layer's:\n", CRL_CALIBRATE_POOR);
        for (size_t i = 0; i < r->n_poor && i < 10; i++)
            printf("  layer %u, expert %u: %llu\n", r->poor[i].layer, r->poor[i].expert,
                   (unsigned long long)r->poor[i].rows);
        if (r->n_poor > 10) printf("  and %zu more\n", r->n_poor - 10);
    }
    printf("%s: %s, of %llu tokens\n", a->output, crl_cli_bytes(bytes, (double)r->bytes),
           (unsigned long long)r->tokens);
    return CRL_EXIT_DONE;
}

static enum crl_status work(struct args *a, struct crl_engine *e, struct crl_calibrate_report *r, struct crl_err *err)
{
    struct crl_corpus corpus;
    struct crl_windows windows;
    struct crl_engine_info info;
    struct crl_progress progress;
    enum crl_status st = read_texts(a, e, &corpus, err);

    crl_engine_info(e, &info);
    if (!a->context) a->context = info.n_ctx < CRL_WINDOW_DEFAULT ? info.n_ctx : CRL_WINDOW_DEFAULT;
    if (!st) {
        st = crl_windows_cut(&windows, &corpus, a->context, a->context, err);
        if (st) crl_corpus_fini(&corpus);
    }
    if (st) return st;
    if (a->tokens) limit_windows(&windows, a->tokens);
    crl_progress_init(&progress, "tokens", a->model.quiet);
    a->opt.progress = on_progress;
    a->opt.ctx = &progress;
    st = crl_calibrate(e, &corpus, &windows, &a->opt, a->output, r, err);
    crl_progress_end(&progress);
    crl_windows_fini(&windows);
    crl_corpus_fini(&corpus);
    return st;
}

static int run(int argc, char **argv)
{
    struct args a = { .opt.span = CRL_CALIB_SPAN_DEFAULT };
    struct crl_engine *e = NULL;
    struct crl_calibrate_report r = { 0 };
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    crl_cli_catch_interrupt();
    st = crl_model_open(&e, &usage, &a.model, &err);
    if (!st) st = work(&a, e, &r, &err);
    code = st ? crl_cli_fail(&usage, st, &err) : show(&a, &r);
    crl_calibrate_report_free(&r);
    crl_engine_close(e);
    return code;
}

const struct crl_command crl_cmd_calibrate = { "calibrate", "write activation statistics for convert", run };
