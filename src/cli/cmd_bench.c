/* cmd_bench.c - corral bench: the speed of a model, made up or packed, against the limits of the machine. */
#include "cli/commands.h"

#include "bench/bench.h"
#include "bench/kernels.h"
#include "bench/synthetic.h"
#include "bench/vision.h"
#include "cli/model.h"
#include "cli/progress.h"
#include "cli/show.h"

#include <stdlib.h>
#include <string.h>

enum { SYNTHETIC = 1, LAYERS, RECIPE, TENSOR, PREFILL, DECODE, DECODE_AT, KV, REPEAT, KERNELS, VISION, IMAGE, THREADS,
    ISA, NUMA, TOPOLOGY, AS_JSON, QUIET };

static const struct crl_option options[] = {
    { "synthetic", "NAME", "made-up weights of the real shapes: scout, maverick, or tiny", SYNTHETIC },
    { "layers", "N[,N...]", "layers of a synthetic model (default 4); several: a table of how time grows", LAYERS },
    { "recipe", "R", "formats of a synthetic model: q4 (default), balanced, q8 or bf16", RECIPE },
    { "tensor", "GLOB=FORMAT", "another format for the tensors that match (repeatable, last wins)", TENSOR },
    { "prefill", "N", "tokens of a prompt taken in at once (default 512, 0: none)", PREFILL },
    { "decode", "N", "tokens decoded one by one from an empty cache (default 32, 0: none)", DECODE },
    { "decode-at", "P", "decode as many once more with P positions in the cache", DECODE_AT },
    { "repeat", "R", "repetitions of each run (default 5)", REPEAT },
    { "kv", "TYPE", "key/value cache: f32, bf16 or int8 (default: as the recipe has it)", KV },
    { "kernels", NULL, "list the speed of every kernel alone, on one thread", KERNELS },
    { "vision", "N", "instead: the vision tower on N tiles (1 is usual, 17 a large picture)", VISION },
    { "image", "FILE", "instead: these pictures in one prompt (repeatable)", IMAGE },
    { "threads", "N", "threads (default: one per usable core)", THREADS },
    { "isa", "LEVEL",
      "no instructions above this level: scalar; avx2, avx512, avx512vnni, avx512bf16, amx; neon, dotprod, i8mm", ISA },
    { "numa", "MODE", "where weights lie: experts, rows, interleave, off, or auto (default), the fastest that fits", NUMA },
    { "topology", "T", "a machine to pretend: a file in hwloc's XML, or a synthetic description", TOPOLOGY },
    { "json", NULL, "print the result as one JSON object", AS_JSON },
    { "quiet", NULL, "no progress, no warnings", QUIET },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "bench",
    .operands = "[MODEL.crl | --synthetic NAME | --kernels]",
    .about = "Measure decoding and prefill, and in the same process, with the same threads, what the machine can do\n"
             "at most: read memory and multiply. A synthetic model needs no file; it is built in seconds.",
    .option = options,
};

#define IMAGES_MOST 16
#define LAYERS_MOST 16 /* entries of --layers */
#define TOKENS_MOST 1048576
#define REPEAT_MOST 100
#define LOAD_QUIET 0.5    /* load average before the start that goes without a warning */
#define SPREAD_QUIET 0.10 /* of repetitions */

struct args {
    const char *model, *synthetic, *recipe, *isa, *numa, *topology;
    const char *tensor[CRL_RECIPE_OVERRIDES];
    const char *image[IMAGES_MOST];
    size_t n_image, tiles; /* tiles 0: the text model is measured */
    size_t n_tensor;
    uint32_t layers[LAYERS_MOST];
    size_t n_layers;
    unsigned threads;
    enum crl_kv_choice kv;
    bool kernels, json, quiet;
    struct crl_bench_options bench;
    struct crl_progress progress;
};

/* --- arguments --------------------------------------------------------------------------------------------------- */

static bool parse_layers(struct args *a, const char *text)
{
    for (a->n_layers = 0; a->n_layers < LAYERS_MOST; text++) {
        char *end;
        unsigned long v = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
        if (v < 1 || v > CRL_MAX_LAYER) break;
        a->layers[a->n_layers++] = (uint32_t)v;
        if (!*end) return true;
        if (*end != ',') break;
        text = end;
    }
    crl_cli_misused(&usage, "option --layers: not 1 to %d numbers from 1 to %d with commas between", LAYERS_MOST,
                    CRL_MAX_LAYER);
    return false;
}

static bool parse_isa(struct args *a, const char *name, int *code)
{
    struct crl_err err = { "" };
    unsigned mask;
    enum crl_status st = crl_simd_mask(&mask, name, &err);

    a->isa = name;
    if (!st) return true;
    *code = st == CRL_ERANGE ? crl_cli_misused(&usage, "option --isa: %s", err.text) : crl_cli_fail(&usage, st, &err);
    return false;
}

static bool number(const struct crl_cli *c, const char *name, unsigned long long lo, unsigned long long hi, size_t *out)
{
    unsigned long long n;

    if (!crl_cli_number(c, name, lo, hi, &n)) return false;
    *out = (size_t)n;
    return true;
}

static bool parse_option(struct args *a, const struct crl_cli *c, int id, int *code)
{
    enum crl_numa mode;
    size_t n = 0;

    switch (id) {
    case SYNTHETIC: a->synthetic = c->value; return true;
    case RECIPE: a->recipe = c->value; return true;
    case LAYERS: return parse_layers(a, c->value);
    case TENSOR:
        if (a->n_tensor == CRL_RECIPE_OVERRIDES) {
            crl_cli_misused(&usage, "more than %d options --tensor", CRL_RECIPE_OVERRIDES);
            return false;
        }
        a->tensor[a->n_tensor++] = c->value;
        return true;
    case PREFILL: return number(c, "prefill", 0, TOKENS_MOST, &a->bench.prefill);
    case DECODE: return number(c, "decode", 0, TOKENS_MOST, &a->bench.decode);
    case DECODE_AT: return number(c, "decode-at", 1, TOKENS_MOST, &a->bench.decode_at);
    case REPEAT:
        if (!number(c, "repeat", 1, REPEAT_MOST, &n)) return false;
        a->bench.repeat = (unsigned)n;
        return true;
    case THREADS:
        if (!number(c, "threads", 1, CRL_TEAM_MAX, &n)) return false;
        a->threads = (unsigned)n;
        return true;
    case ISA: return parse_isa(a, c->value, code);
    case NUMA:
        a->numa = c->value;
        if (!crl_numa_parse(a->numa, &mode))
            crl_cli_misused(&usage, "option --numa: \"%s\" is none of auto, experts, rows, interleave, off", a->numa);
        else return true;
        return false;
    case TOPOLOGY: a->topology = c->value; return true;
    case KV: return crl_cli_kv(c, &a->kv);
    case KERNELS: a->kernels = true; return true;
    case VISION: return number(c, "vision", 1, CRL_TILES_MAX, &a->tiles);
    case IMAGE:
        if (a->n_image == IMAGES_MOST) {
            crl_cli_misused(&usage, "more than %d options --image", IMAGES_MOST);
            return false;
        }
        a->image[a->n_image++] = c->value;
        return true;
    case AS_JSON: a->json = true; return true;
    default: a->quiet = true; return true;
    }
}

/* Exactly one thing to measure, and options that belong to it. */
static bool check(const struct args *a, const struct crl_cli *c, bool shaped)
{
    if (c->n_operand + !!a->synthetic + a->kernels != 1)
        crl_cli_misused(&usage, "one packed file, --synthetic NAME or --kernels is needed");
    else if (shaped && !a->synthetic)
        crl_cli_misused(&usage, "--layers, --recipe and --tensor belong to --synthetic");
    else if (!a->kernels && !a->bench.decode && !a->bench.decode_at && !a->bench.prefill)
        crl_cli_misused(&usage, "nothing to measure: --decode 0 and --prefill 0");
    else return true;
    return false;
}

static bool check_names(const struct args *a)
{
    struct crl_recipe recipe;
    struct crl_err err = { "" };

    if (!a->synthetic) return true;
    if (!crl_synthetic_layers(a->synthetic))
        crl_cli_misused(&usage, "option --synthetic: \"%s\" is none of scout, maverick, tiny", a->synthetic);
    else if (crl_recipe_parse(&recipe, a->recipe, a->tensor, a->n_tensor, &err))
        crl_cli_misused(&usage, "%s", err.text);
    else return true;
    return false;
}

static bool parse(struct args *a, int argc, char **argv, int *code)
{
    struct crl_cli c;
    int id;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        *code = CRL_EXIT_MISUSED;
        if (!parse_option(a, &c, id, code)) return false;
    }
    *code = c.exit_code;
    if (id == CRL_CLI_STOP) return false;
    *code = CRL_EXIT_MISUSED;
    if (!check(a, &c, a->n_layers || a->n_tensor || a->recipe)) return false;
    if (c.n_operand) a->model = c.operand[0];
    if (!a->recipe) a->recipe = "q4";
    if (!check_names(a)) return false;
    if (!a->n_layers) a->layers[a->n_layers++] = 4;
    a->bench.isa = a->isa;
    a->bench.in_memory = a->synthetic;
    return true;
}

/* --- results ----------------------------------------------------------------------------------------------------- */

static json_t *phases_json(const struct crl_bench_speed *s)
{
    json_t *o = json_object();

    for (int p = 0; p < CRL_PHASE_END; p++) json_object_set_new(o, crl_phase_name(p), crl_show_real(s->phase_s[p]));
    return o;
}

/* Everything both kinds of runs have; seconds are those of a run of `tokens`. */
static json_t *speed_json(const struct crl_bench_result *r, const struct crl_bench_speed *s, const char *fraction,
                          uint32_t full)
{
    json_t *o = json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "tokens", (json_int_t)s->tokens, "tokens_per_s",
                          crl_show_real(s->tokens_per_s.median), "tokens_per_s_low", crl_show_real(s->tokens_per_s.low),
                          "tokens_per_s_high", crl_show_real(s->tokens_per_s.high), "spread",
                          crl_show_real(s->tokens_per_s.spread), fraction, crl_show_real(s->fraction), "phases",
                          phases_json(s));

    if (o && full)
        json_object_set_new(o, "extrapolated",
                            json_pack("{s:I, s:o}", "layers", (json_int_t)full, "tokens_per_s",
                                      crl_show_real(crl_bench_extrapolate(r, s, full))));
    return o;
}

static json_t *decode_json(const struct crl_bench_result *r, const struct crl_bench_speed *s, uint32_t full)
{
    json_t *o = speed_json(r, s, "fraction_of_bandwidth", full);

    if (!o) return NULL;
    json_object_set_new(o, "fraction_of_pulled_bandwidth", crl_show_real(s->fraction * r->read.median / r->pull.median));
    json_object_set_new(o, "bytes_per_token", json_integer((json_int_t)r->info.bytes_per_token));
    json_object_set_new(o, "cache_bytes_per_token", crl_show_real(s->cache_bytes));
    return o;
}

/* Attention with a filled cache against the time it takes to read that cache. */
static double over_cache_read(const struct crl_bench_result *r)
{
    const struct crl_bench_speed *s = &r->decode_at;

    return s->phase_s[CRL_PHASE_ATTENTION] / (s->cache_bytes * (double)s->tokens / r->read.median);
}

/* What bounds the products of attention: bytes, pairs of bf16 where the machine multiplies them, else floats. */
static const char *attention_peak(const struct crl_bench_result *r, double *ops_per_s)
{
    if (r->kv == CRL_KV_INT8) *ops_per_s = r->int8.median;
    else if (r->kv == CRL_KV_BF16 && r->bf16.median > 0) *ops_per_s = r->bf16.median;
    else *ops_per_s = r->f32.median;
    return r->kv == CRL_KV_INT8 ? "int8" : *ops_per_s == r->f32.median ? "f32" : "bf16";
}

static double attention_ops(const struct crl_bench_result *r)
{
    return r->prefill.attention_ops / r->prefill.phase_s[CRL_PHASE_ATTENTION];
}

/* Weights read per decoded token on each node. */
static json_t *nodes_json(const struct crl_bench_result *r)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < r->info.nodes; i++) json_array_append_new(list, crl_show_real(r->node_bytes[i]));
    return list;
}

static json_t *result_json(const struct args *a, const struct crl_bench_result *r, double load, uint32_t full)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:f, s:I, s:I, s:I}", "model",
                          a->synthetic ? a->synthetic : a->model, "recipe", r->info.recipe, "layers",
                          (json_int_t)r->info.n_layer, "isa", r->info.isa, "threads", (json_int_t)r->info.threads,
                          "repeat", (json_int_t)a->bench.repeat, "load_average", load, "weights",
                          (json_int_t)r->info.params, "bytes", (json_int_t)r->info.bytes, "huge_page_bytes",
                          (json_int_t)r->huge_bytes);

    if (!o) return NULL;
    json_object_set_new(o, "numa", json_string(r->info.numa));
    json_object_set_new(o, "node_bytes_per_token", nodes_json(r));
    json_object_set_new(o, "read_bandwidth_gbs", crl_show_real(1e-9 * r->read.median));
    json_object_set_new(o, "read_bandwidth_best_gbs", crl_show_real(1e-9 * r->read.high));
    json_object_set_new(o, "read_bandwidth_spread", crl_show_real(r->read.spread));
    json_object_set_new(o, "pulled_bandwidth_gbs", crl_show_real(1e-9 * r->pull.median));
    json_object_set_new(o, "int8_peak_tops", crl_show_real(1e-12 * r->int8.median));
    json_object_set_new(o, "int8_peak_spread", crl_show_real(r->int8.spread));
    json_object_set_new(o, "int8_peak_isa", json_string(r->int8_isa));
    json_object_set_new(o, "f32_peak_tflops", crl_show_real(1e-12 * r->f32.median));
    if (r->bf16.median > 0) json_object_set_new(o, "bf16_peak_tflops", crl_show_real(1e-12 * r->bf16.median));
    if (r->decode.tokens) json_object_set_new(o, "decode", decode_json(r, &r->decode, full));
    if (r->decode_at.tokens) {
        json_t *at = decode_json(r, &r->decode_at, full);
        json_object_set_new(at, "position", json_integer((json_int_t)r->decode_at_pos));
        json_object_set_new(at, "attention_over_cache_read", crl_show_real(over_cache_read(r)));
        json_object_set_new(o, "decode_at", at);
    }
    if (r->prefill.tokens) {
        json_t *pre = speed_json(r, &r->prefill, "fraction_of_peak", full);
        double peak;
        json_object_set_new(pre, "attention_peak", json_string(attention_peak(r, &peak)));
        json_object_set_new(pre, "attention_fraction_of_peak", crl_show_real(attention_ops(r) / peak));
        json_object_set_new(pre, "attention_fraction_of_f32_peak", crl_show_real(attention_ops(r) / r->f32.median));
        json_object_set_new(o, "prefill", pre);
    }
    return o;
}

static void print_speed(const char *what, const struct crl_bench_result *r, const struct crl_bench_speed *s,
                        const char *of, uint32_t full)
{
    if (!s->tokens) return;
    printf("%-12s %9.2f tokens/s   spread %4.1f%%   %5.1f%% of %s", what, s->tokens_per_s.median,
           100 * s->tokens_per_s.spread, 100 * s->fraction, of);
    if (full) printf("   %u layers: %.2f tokens/s", full, crl_bench_extrapolate(r, s, full));
    putchar('\n');
}

static void print_phases(const struct crl_bench_result *r)
{
    const struct crl_bench_speed *d = r->decode.tokens ? &r->decode : &r->decode_at, *p = &r->prefill;

    printf("\n%-12s", "phase");
    if (d->tokens) printf(" %12s %9s", "decode ms", "GB/s");
    if (p->tokens) printf(" %12s %9s", "prefill ms", "TOPS");
    putchar('\n');
    for (int i = 0; i < CRL_PHASE_END; i++) {
        printf("%-12s", crl_phase_name(i));
        if (d->tokens) { /* per token */
            double s = d->phase_s[i] / (double)d->tokens;
            printf(" %12.3f %9.2f", 1e3 * s, s > 0 ? 1e-9 * r->work.bytes[i] / s : 0);
        }
        if (p->tokens) {
            double n = i == CRL_PHASE_HEAD ? 1 : (double)p->tokens;
            double ops = n * (r->work.int8_ops[i] + r->work.f32_ops[i]);
            if (i == CRL_PHASE_ATTENTION) ops = p->attention_ops;
            printf(" %12.3f %9.3f", 1e3 * p->phase_s[i], p->phase_s[i] > 0 ? 1e-12 * ops / p->phase_s[i] : 0);
        }
        putchar('\n');
    }
}

static void print_result(const struct args *a, const struct crl_bench_result *r, uint32_t full)
{
    char t[CRL_CLI_TEXT], u[CRL_CLI_TEXT], what[48];

    printf("%s, %u layers, %s: %s, %s read per token\n", a->synthetic ? a->synthetic : a->model, r->info.n_layer,
           r->info.recipe, crl_cli_bytes(t, (double)r->info.bytes), crl_cli_bytes(u, (double)r->info.bytes_per_token));
    printf("%s, %u threads, %s on huge pages\n", r->info.isa, r->info.threads, crl_cli_bytes(t, (double)r->huge_bytes));
    if (r->info.nodes > 1) {
        printf("numa %s, %u nodes%s, weights read per token on each:", r->info.numa, r->info.nodes,
               r->info.pretended ? " (pretended)" : "");
        for (unsigned i = 0; i < r->info.nodes; i++) printf(" %s", crl_cli_bytes(t, r->node_bytes[i]));
        putchar('\n');
    }
    printf("read %.2f GB/s (best %.2f, spread %.1f%%; %.2f with requests ahead), int8 %.3f TOPS (%s, spread %.1f%%), "
           "float %.3f TFLOPS",
           1e-9 * r->read.median, 1e-9 * r->read.high, 100 * r->read.spread, 1e-9 * r->pull.median,
           1e-12 * r->int8.median, r->int8_isa, 100 * r->int8.spread, 1e-12 * r->f32.median);
    if (r->bf16.median > 0) printf(", bf16 %.3f TFLOPS", 1e-12 * r->bf16.median);
    printf("\n\n");
    print_speed("decode", r, &r->decode, "bandwidth", full);
    snprintf(what, sizeof what, "at %zu", r->decode_at_pos);
    print_speed(what, r, &r->decode_at, "bandwidth", full);
    if (r->decode_at.tokens)
        printf("%-12s attention takes %.2f times what reading the cache takes\n", "", over_cache_read(r));
    snprintf(what, sizeof what, "prefill %zu", r->prefill.tokens);
    print_speed(what, r, &r->prefill, "peak", full);
    if (r->prefill.tokens) {
        double peak;
        const char *name = attention_peak(r, &peak);
        printf("%-12s attention at %.1f%% of the %s peak\n", "", 100 * attention_ops(r) / peak, name);
    }
    print_phases(r);
}

/* --- running ----------------------------------------------------------------------------------------------------- */

static bool on_step(void *ctx, const char *what, unsigned done, unsigned total)
{
    struct args *a = ctx;

    crl_progress_show(&a->progress, done, total, what);
    return !crl_cli_interrupted();
}

/* Weights, buffers and cache must fit what there is: afterwards nobody could say so. */
static enum crl_status check_memory(const struct args *a, const struct crl_config *cfg, const struct crl_recipe *recipe,
                                    unsigned threads, struct crl_err *err)
{
    uint64_t bytes, have = crl_machine_memory();
    char need[CRL_CLI_TEXT], there[CRL_CLI_TEXT];
    enum crl_status st = crl_synthetic_bytes(cfg, recipe, &bytes, err);

    if (st) return st;
    bytes += crl_bench_extra_bytes(cfg, &a->bench, threads);
    if (bytes <= have) return CRL_OK;
    return crl_fail(err, CRL_ENOMEM, "%s with %u layers in %s needs %s of memory, %s are available", a->synthetic,
                    cfg->n_layer, recipe->name, crl_cli_bytes(need, (double)bytes), crl_cli_bytes(there, (double)have));
}

static enum crl_status open_synthetic(struct args *a, uint32_t n_layer, const struct crl_engine_options *eo,
                                      struct crl_engine **engine, struct crl_err *err)
{
    struct crl_team *team = NULL;
    struct crl_recipe recipe;
    struct crl_config *cfg = crl_alloc(1, sizeof *cfg);
    struct crl_pack *pack = NULL;
    enum crl_status st = cfg ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a configuration");

    if (!st) st = crl_synthetic_config(cfg, a->synthetic, n_layer, err);
    if (!st && (a->tiles || a->n_image)) st = crl_synthetic_see(cfg, err);
    if (!st) st = crl_recipe_parse(&recipe, a->recipe, a->tensor, a->n_tensor, err);
    if (!st) st = crl_team_new(&team, a->threads, true, err);
    if (!st) st = check_memory(a, cfg, &recipe, crl_team_size(team), err);
    if (!st) {
        crl_progress_show(&a->progress, 0, 1, "making weights");
        st = crl_synthetic_pack(&pack, cfg, &recipe, team, err);
    }
    crl_team_free(team);
    crl_free(cfg);
    return st ? st : crl_engine_from_pack(engine, pack, eo, err);
}

static enum crl_status measure(struct args *a, uint32_t n_layer, struct crl_bench_result *r, struct crl_err *err)
{
    struct crl_engine_options eo = { .threads = a->threads, .isa = a->isa, .kv = a->kv, .numa = a->numa,
                                     .topology = a->topology };
    struct crl_engine *engine = NULL;
    enum crl_status st = a->synthetic ? open_synthetic(a, n_layer, &eo, &engine, err)
                                      : crl_engine_open(&engine, a->model, &eo, err);

    a->bench.step = on_step;
    a->bench.ctx = a;
    if (!st) st = crl_bench_run(r, engine, &a->bench, err);
    crl_engine_close(engine);
    return st;
}

/* A time measured while others work says little: tell, once. */
static void warn(const struct args *a, double load, const struct crl_bench_result *r)
{
    double spread = crl_bench_spread(r);

    if (a->quiet) return;
    if (load > LOAD_QUIET)
        crl_cli_note(&usage, "the machine was busy before the start (load average %.2f): figures are too low", load);
    if (spread > SPREAD_QUIET)
        crl_cli_note(&usage, "repetitions differ by up to %.0f%%: something else runs on this machine", 100 * spread);
}

static json_t *scaling_json(const struct args *a, const struct crl_bench_result *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < a->n_layers; i++) {
        json_t *row = json_pack("{s:I}", "layers", (json_int_t)r[i].info.n_layer);
        if (r[i].decode.tokens)
            json_object_set_new(row, "decode_ms_per_token", crl_show_real(1e3 / r[i].decode.tokens_per_s.median));
        if (r[i].prefill.tokens)
            json_object_set_new(row, "prefill_ms_per_token", crl_show_real(1e3 / r[i].prefill.tokens_per_s.median));
        json_array_append_new(list, row);
    }
    return list;
}

static void print_scaling(const struct args *a, const struct crl_bench_result *r)
{
    printf("\n%-8s %16s %16s\n", "layers", "decode ms/token", "prefill ms/token");
    for (size_t i = 0; i < a->n_layers; i++) {
        printf("%-8u", r[i].info.n_layer);
        printf(" %16.3f", r[i].decode.tokens ? 1e3 / r[i].decode.tokens_per_s.median : 0);
        printf(" %16.3f\n", r[i].prefill.tokens ? 1e3 / r[i].prefill.tokens_per_s.median : 0);
    }
}

/* The last of --layers is the result proper; the others only stand in the table of growth. */
static int show(const struct args *a, const struct crl_bench_result *r, double load)
{
    const struct crl_bench_result *last = &r[a->n_layers - 1];
    uint32_t full = a->synthetic ? crl_synthetic_layers(a->synthetic) : 0; /* 0: nothing to extrapolate */

    if (a->json) {
        json_t *doc = result_json(a, last, load, full);
        if (doc && a->n_layers > 1) json_object_set_new(doc, "scaling", scaling_json(a, r));
        return crl_cli_json(&usage, doc);
    }
    print_result(a, last, full);
    if (a->n_layers > 1) print_scaling(a, r);
    return CRL_EXIT_DONE;
}

static int run_model(struct args *a)
{
    struct crl_bench_result *r = crl_alloc(a->n_layers, sizeof *r);
    struct crl_err err = { "" };
    double load = crl_machine_load();
    enum crl_status st = r ? CRL_OK : crl_fail(&err, CRL_ENOMEM, "no memory for results");
    int code;

    crl_progress_init(&a->progress, "runs", a->quiet);
    for (size_t i = 0; !st && i < a->n_layers; i++) st = measure(a, a->layers[i], &r[i], &err);
    crl_progress_end(&a->progress);
    if (!st) warn(a, load, &r[a->n_layers - 1]);
    code = st ? crl_cli_fail(&usage, st, &err) : show(a, r, load);
    crl_free(r);
    return code;
}

/* --- pictures ---------------------------------------------------------------------------------------------------- */

static int show_tower(const struct args *a, const struct crl_vision_speed *s)
{
    char t[CRL_CLI_TEXT], u[CRL_CLI_TEXT];

    if (a->json)
        return crl_cli_json(&usage, json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "tiles",
                                              (json_int_t)s->tiles, "tile_s", crl_show_real(s->tile_s.median), "linear_s",
                                              crl_show_real(s->linear_s), "attention_s", crl_show_real(s->attention_s),
                                              "other_s", crl_show_real(s->other_s), "int8_ops", crl_show_real(s->int8_ops),
                                              "f32_ops", crl_show_real(s->f32_ops), "spread",
                                              crl_show_real(s->tile_s.spread), "fraction_of_peak",
                                              crl_show_real(s->fraction), "buffer_bytes", (json_int_t)s->buffer_bytes,
                                              "row_bytes", (json_int_t)s->row_bytes));
    printf("vision tower, %zu tile%s, %u runs: %.3f s per tile (spread %.1f%%), %.3f s in all\n", s->tiles,
           s->tiles == 1 ? "" : "s", s->repeat, s->tile_s.median, 100 * s->tile_s.spread,
           s->tile_s.median * (double)s->tiles);
    printf("products     %.3f s, %.1f%% of the peak (int8 %.3f TOPS, float %.3f TFLOPS)\n", s->linear_s,
           100 * s->fraction, 1e-12 * s->int8.median, 1e-12 * s->f32.median);
    printf("attention    %.3f s\nother        %.3f s\n", s->attention_s, s->other_s);
    printf("buffers      %s; %s for the rows of all tiles\n", crl_cli_bytes(t, (double)s->buffer_bytes),
           crl_cli_bytes(u, (double)s->row_bytes));
    return CRL_EXIT_DONE;
}

static int show_pictures(const struct args *a, const struct crl_prompt_speed *s)
{
    if (a->json)
        return crl_cli_json(&usage, json_pack("{s:I, s:I, s:I, s:o, s:o, s:o}", "pictures", (json_int_t)s->pictures,
                                              "tiles", (json_int_t)s->tiles, "tokens", (json_int_t)s->tokens, "decode_s",
                                              crl_show_real(s->decode_s), "look_s", crl_show_real(s->look_s), "feed_s",
                                              crl_show_real(s->feed_s)));
    printf("%zu pictures, %zu tiles, %zu tokens: files %.3f s, tower %.3f s (%.3f s per tile), text model %.3f s "
           "(%.1f tokens/s)\n",
           s->pictures, s->tiles, s->tokens, s->decode_s, s->look_s, s->look_s / (double)s->tiles, s->feed_s,
           (double)s->tokens / s->feed_s);
    return CRL_EXIT_DONE;
}

static int run_vision(struct args *a)
{
    struct crl_engine_options eo = { .threads = a->threads, .isa = a->isa, .numa = a->numa, .topology = a->topology };
    struct crl_vision_speed tower;
    struct crl_prompt_speed prompt;
    struct crl_engine *engine = NULL;
    struct crl_err err = { "" };
    unsigned mask = CRL_LEVEL_ALL;
    enum crl_status st = a->isa ? crl_simd_mask(&mask, a->isa, &err) : CRL_OK;
    int code;

    crl_progress_init(&a->progress, "runs", a->quiet);
    if (!st)
        st = a->synthetic ? open_synthetic(a, a->layers[0], &eo, &engine, &err)
                          : crl_engine_open(&engine, a->model, &eo, &err);
    crl_progress_end(&a->progress);
    if (!st && !crl_engine_eyes(engine)) st = crl_fail(&err, CRL_EUNSUPPORTED, "%s: has no vision tower", a->model);
    if (!st && a->tiles) st = crl_bench_tower(&tower, engine, a->tiles, a->bench.repeat, mask, &err);
    if (!st && a->n_image) st = crl_bench_pictures(&prompt, engine, a->image, a->n_image, &err);
    code = st ? crl_cli_fail(&usage, st, &err) : CRL_EXIT_DONE;
    if (!code && a->tiles) code = show_tower(a, &tower);
    if (!code && a->n_image) code = show_pictures(a, &prompt);
    crl_engine_close(engine);
    return code;
}

static json_t *kernels_json(const struct crl_kernel_speed *k, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *row = json_pack("{s:s, s:s, s:s}", "operation", k[i].row->op, "kernel", k[i].row->name, "isa",
                                crl_level_name(k[i].row->level));
        if (k[i].m) {
            json_object_set_new(row, "rows", json_integer((json_int_t)k[i].m));
            json_object_set_new(row, "gbs", crl_show_real(1e-9 * k[i].bytes_per_s));
        }
        if (k[i].ops_per_s > 0) {
            json_object_set_new(row, "tops", crl_show_real(1e-12 * k[i].ops_per_s));
            json_object_set_new(row, "fraction_of_peak", crl_show_real(k[i].fraction));
        }
        json_array_append_new(list, row);
    }
    return json_pack("{s:o}", "kernels", list);
}

static void print_kernels(const struct crl_kernel_speed *k, size_t n)
{
    printf("%-12s %-12s %5s %10s %10s %9s\n", "operation", "isa", "rows", "GB/s", "TOPS", "of peak");
    for (size_t i = 0; i < n; i++) {
        printf("%-12s %-12s", k[i].row->op, crl_level_name(k[i].row->level));
        if (!k[i].m) printf(" %5s", "-");
        else printf(" %5zu %10.2f", k[i].m, 1e-9 * k[i].bytes_per_s);
        if (k[i].ops_per_s > 0) printf(" %10.4f %8.1f%%", 1e-12 * k[i].ops_per_s, 100 * k[i].fraction);
        putchar('\n');
    }
}

static int run_kernels(const struct args *a)
{
    struct crl_kernel_speed *k = NULL;
    struct crl_err err = { "" };
    unsigned mask = CRL_LEVEL_ALL;
    size_t n = 0;
    enum crl_status st = a->isa ? crl_simd_mask(&mask, a->isa, &err) : CRL_OK;
    int code = CRL_EXIT_DONE;

    if (!st) st = crl_kernels_time(&k, &n, mask, &err);
    if (st) return crl_cli_fail(&usage, st, &err);
    if (a->json) code = crl_cli_json(&usage, kernels_json(k, n));
    else print_kernels(k, n);
    crl_free(k);
    return code;
}

static int run(int argc, char **argv)
{
    struct args a = { .bench = { .prefill = 512, .decode = 32, .repeat = 5 } };
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    crl_cli_catch_interrupt();
    return a.kernels ? run_kernels(&a) : a.tiles || a.n_image ? run_vision(&a) : run_model(&a);
}

const struct crl_command crl_cmd_bench = { "bench", "measure speed against the limits of the machine", run };
