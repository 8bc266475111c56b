/* model.c - options about the model, and opening it. */
#define _GNU_SOURCE
#include "cli/model.h"

#include "base/file.h"
#include "base/mem.h"
#include "cli/progress.h"
#include "convert/convert.h"
#include "text/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = CRL_MODEL_OPTION, ISA, CTX, KV, QUANTIZE, NUMA, TOPOLOGY, MAPPED, NO_VERIFY, QUIET };

const struct crl_option crl_model_options[] = {
    { "threads", "N", "threads (default: one per usable core)", THREADS },
    { "isa", "LEVEL",
      "use no kernels above this level: scalar; avx2, avx512, avx512vnni, avx512bf16, amx; neon, dotprod, i8mm", ISA },
    { "ctx", "N", "positions to make room for (default: the model's own, at most 32768)", CTX },
    { "kv", "TYPE", "key/value cache: bf16 (default), int8 (half of it), f32 (default with recipe bf16)", KV },
    { "quantize", "RECIPE", "formats when MODEL is a checkpoint, packed in memory: bf16 (default), q8, q4,\nbalanced",
      QUANTIZE },
    { "numa", "MODE", "where weights lie: experts, rows, interleave, off, or auto (default), the fastest that fits", NUMA },
    { "topology", "T", "a machine to pretend: a file in hwloc's XML, or a synthetic description", TOPOLOGY },
    { "mmap", NULL, "low memory: leave the weights in the file, pages come as they are touched", MAPPED },
    { "no-verify", NULL, "do not check the hashes of the weights while loading", NO_VERIFY },
    { "quiet", NULL, "no progress and no notes", QUIET },
    { 0 },
};

bool crl_model_option(struct crl_model_args *a, const struct crl_cli *c, int id)
{
    struct crl_recipe recipe;
    struct crl_err err = { "" };
    unsigned long long n;
    enum crl_numa mode;

    switch (id) {
    case THREADS:
        if (!crl_cli_number(c, "threads", 1, CRL_TEAM_MAX, &n)) return false;
        a->engine.threads = (unsigned)n;
        return true;
    case ISA:
        a->engine.isa = c->value;
        return true;
    case CTX:
        if (!crl_cli_number(c, "ctx", 1, UINT32_MAX, &n)) return false;
        a->ctx = (size_t)n;
        return true;
    case KV: return crl_cli_kv(c, &a->engine.kv);
    case QUANTIZE:
        if (crl_recipe_parse(&recipe, c->value, NULL, 0, &err)) {
            crl_cli_misused(c->usage, "option --quantize: %s", err.text);
            return false;
        }
        a->quantize = c->value;
        return true;
    case NUMA:
        if (!crl_numa_parse(c->value, &mode)) {
            crl_cli_misused(c->usage, "option --numa: \"%s\" is none of auto, experts, rows, interleave, off", c->value);
            return false;
        }
        a->engine.numa = c->value;
        return true;
    case TOPOLOGY:
        a->engine.topology = c->value;
        return true;
    case MAPPED:
        a->engine.mapped = true;
        return true;
    case NO_VERIFY:
        a->engine.no_verify = true;
        return true;
    case QUIET:
        a->quiet = true;
        return true;
    }
    return true;
}

bool crl_cli_real(const struct crl_cli *c, const char *name, double lo, double hi, float *out)
{
    char *end;
    double v;

    errno = 0;
    v = strtod(c->value, &end);
    if (end != c->value && !*end && !errno && v >= lo && v <= hi) {
        *out = (float)v;
        return true;
    }
    crl_cli_misused(c->usage, "option --%s: \"%s\" is not a number from %g to %g", name, c->value, lo, hi);
    return false;
}

bool crl_cli_kv(const struct crl_cli *c, enum crl_kv_choice *out)
{
    static const struct {
        const char *name;
        enum crl_kv_choice choice;
    } type[] = { { "f32", CRL_KV_CHOOSE_F32 }, { "bf16", CRL_KV_CHOOSE_BF16 }, { "int8", CRL_KV_CHOOSE_INT8 } };

    for (size_t i = 0; i < sizeof type / sizeof *type; i++) {
        if (strcmp(c->value, type[i].name)) continue;
        *out = type[i].choice;
        return true;
    }
    crl_cli_misused(c->usage, "option --kv: \"%s\" is none of f32, bf16, int8", c->value);
    return false;
}

/* --- opening -------------------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

bool crl_model_is_checkpoint(const char *path)
{
    return crl_file_is_dir(path) || ends_with(path, ".safetensors") || ends_with(path, ".pth") ||
           ends_with(path, ".safetensors.index.json");
}

struct watch {
    struct crl_progress progress;
    const struct crl_schema *schema;
};

static bool on_progress(void *ctx, uint64_t done, uint64_t total, size_t weight)
{
    struct watch *w = ctx;
    char name[CRL_NAME_MAX];

    if (crl_progress_due(&w->progress)) {
        crl_weight_name(&w->schema->weight[weight], name);
        crl_progress_show(&w->progress, done, total, name);
    }
    return !crl_cli_interrupted();
}

/* A checkpoint becomes a packed file in memory. */
static enum crl_status pack_checkpoint(struct crl_pack **pack, const struct crl_usage *u,
                                       const struct crl_model_args *a, struct crl_err *err)
{
    struct crl_convert_options opt = { .jobs = a->engine.threads, .progress = on_progress };
    struct watch watch = { .schema = NULL };
    struct crl_recipe recipe;
    struct crl_ckpt *ck = NULL;
    enum crl_status st = crl_recipe_parse(&recipe, a->quantize ? a->quantize : "bf16", NULL, 0, err);

    if (!st) st = crl_ckpt_open(&ck, a->path, err);
    if (!st) st = crl_recipe_check(&recipe, crl_ckpt_schema(ck), err);
    if (!st) {
        const struct crl_notes *n = crl_ckpt_notes(ck);
        for (unsigned i = 0; i < n->n && !a->quiet; i++) crl_cli_note(u, "%s", n->text[i]);
        watch.schema = crl_ckpt_schema(ck);
        opt.ctx = &watch;
        crl_progress_init(&watch.progress, "weights", a->quiet);
        st = crl_convert(ck, &recipe, NULL, pack, &opt, NULL, err);
        crl_progress_end(&watch.progress);
    }
    crl_ckpt_close(ck);
    return st;
}

static bool on_load(void *ctx, uint64_t done, uint64_t total)
{
    crl_progress_show(ctx, done, total, "loading");
    return !crl_cli_interrupted();
}

static void show_notes(const struct crl_usage *u, const struct crl_engine *e)
{
    const struct crl_load_stats *s = crl_weights_stats(crl_engine_weights(e));
    const struct crl_placement *p = crl_weights_plan(crl_engine_weights(e));

    for (unsigned i = 0; i < p->n_note; i++) crl_cli_note(u, "%s", p->note[i]);
    for (unsigned i = 0; i < s->n_note; i++) crl_cli_note(u, "%s", s->note[i]);
}

enum crl_status crl_model_load(struct crl_engine **engine, const struct crl_usage *u, struct crl_pack *pack,
                               const struct crl_engine_options *options, bool quiet, struct crl_err *err)
{
    struct crl_engine_options o = *options;
    struct crl_progress progress;
    enum crl_status st;

    crl_progress_init(&progress, "B", quiet);
    o.progress = on_load;
    o.progress_ctx = &progress;
    st = crl_engine_from_pack(engine, pack, &o, err);
    crl_progress_end(&progress);
    if (!st && !quiet) show_notes(u, *engine);
    return st;
}

enum crl_status crl_model_open(struct crl_engine **engine, const struct crl_usage *u,
                               const struct crl_model_args *a, struct crl_err *err)
{
    struct crl_pack *pack = NULL;
    enum crl_status st;

    *engine = NULL;
    if (!crl_model_is_checkpoint(a->path)) {
        if (a->quantize)
            return crl_fail(err, CRL_ERANGE,
                            "%s: --quantize is for checkpoints; the formats of a packed file are fixed",
                            a->path);
        st = crl_pack_open(&pack, a->path, err);
    } else if (a->engine.mapped) {
        return crl_fail(err, CRL_ERANGE, "%s: --mmap is for packed files; a checkpoint is packed in memory", a->path);
    } else {
        st = pack_checkpoint(&pack, u, a, err);
    }
    return st ? st : crl_model_load(engine, u, pack, &a->engine, a->quiet, err);
}

bool crl_model_chats(const struct crl_engine *engine)
{
    static const char *const needed[] = { "<|begin_of_text|>", "<|header_start|>", "<|header_end|>",
                                          "<|eot|>" };
    const struct crl_tok *tok = crl_engine_tok(engine);
    size_t len;

    if (!tok) return false;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (crl_tok_special_id(tok, needed[i]) < 0) return false;
    return crl_pack_section(crl_engine_pack(engine), CRL_SECTION_CHAT_TEMPLATE, &len) ||
           crl_engine_is_stop(engine, crl_tok_special_id(tok, "<|eot|>"));
}

/* --- texts and ids -------------------------------------------------------------------------------------- */

enum crl_status crl_ids_parse(struct crl_ids *ids, const char *text, size_t len, const char *what,
                              struct crl_err *err)
{
    const char *p = text, *end = text + len;
    enum crl_status st = CRL_OK;

    while (!st) {
        uint64_t v = 0;
        const char *from;
        while (p < end && (*p == ',' || *p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) p++;
        if (p == end) break;
        for (from = p; p < end && *p >= '0' && *p <= '9' && v <= INT32_MAX; p++)
            v = 10 * v + (uint64_t)(*p - '0');
        if (p == from)
            return crl_fail(err, CRL_EFORMAT, "%s: id %zu is not a number (byte %zu)", what, ids->n,
                            (size_t)(p - text));
        if (v > INT32_MAX)
            return crl_fail(err, CRL_ERANGE, "%s: id %zu is above %d", what, ids->n, INT32_MAX);
        st = crl_ids_add(ids, (int32_t)v, err);
    }
    return st;
}

enum crl_status crl_stdin_read(struct crl_str *out, struct crl_err *err)
{
    char buf[65536];
    enum crl_status st = CRL_OK;

    while (!st) {
        ssize_t n = read(STDIN_FILENO, buf, sizeof buf);
        if (n < 0 && errno == EINTR) {
            if (crl_cli_interrupted()) return crl_fail(err, CRL_EINTR, "interrupted");
            continue;
        }
        if (n < 0) return crl_fail(err, CRL_EIO, "standard input: %s", strerror(errno));
        if (n == 0) break;
        st = crl_str_add(out, buf, (size_t)n, err);
    }
    return st;
}

enum crl_status crl_text_read(struct crl_str *out, const char *path, struct crl_err *err)
{
    char *data;
    size_t len;
    enum crl_status st;

    if (strcmp(path, "-") == 0) return crl_stdin_read(out, err);
    st = crl_file_read(&data, &len, path, CRL_TOK_TEXT_MAX, err);
    if (st) return st;
    st = crl_str_add(out, data, len, err);
    crl_free(data);
    return st;
}

enum crl_status crl_text_check(const char *text, size_t len, const char *what, struct crl_err *err)
{
    size_t used;

    for (size_t at = 0; at < len; at += used)
        if (crl_utf8_step((const unsigned char *)text + at, len - at, &used) != CRL_UTF8_OK)
            return crl_fail(err, CRL_EFORMAT, "%s is not UTF-8 (byte %zu)", what, at);
    return CRL_OK;
}
