/* cmd_plan.c - corral plan: where a model would lie on a machine, what it would take, and how fast it would
 * be. */
#include "cli/commands.h"

#include "bench/synthetic.h"
#include "cli/model.h"
#include "cli/show.h"
#include "convert/checkpoint.h"
#include "model/kv.h"
#include "store/pack.h"
#include "store/plan.h"

#include <stdlib.h>
#include <string.h>

enum {
    SYNTHETIC = 1,
    LAYERS,
    RECIPE,
    TENSOR,
    TOPOLOGY,
    NUMA,
    THREADS,
    CONTEXT,
    POSITION,
    SESSIONS,
    BATCH,
    ROUTING,
    MEMORY,
    NODE_BANDWIDTH,
    CORE_BANDWIDTH,
    LINK_BANDWIDTH,
    KERNEL_FRACTION,
    JOIN_CORE,
    JOIN_NODE,
    CORE_OPS,
    AS_JSON
};

static const struct crl_option options[] = {
    { "synthetic", "NAME", "plan for the shapes of scout, maverick or tiny; no file is needed", SYNTHETIC },
    { "layers", "N", "layers of a synthetic model (default: all of the real one)", LAYERS },
    { "recipe", "R", "formats of a synthetic model or checkpoint: q4 (default), balanced, q8 or bf16", RECIPE },
    { "tensor", "GLOB=FORMAT", "another format for the tensors that match (repeatable, last wins)", TENSOR },
    { "topology", "T",
      "a machine to pretend: a file in hwloc's XML, or a synthetic description such as\n"
      "'package:2 [numa(memory=256GiB)] core:32 pu:1' (default: this machine)",
      TOPOLOGY },
    { "numa", "MODE", "experts, rows, interleave, off, or auto (default), which takes the fastest that fits",
      NUMA },
    { "threads", "N", "threads (default: one per usable core)", THREADS },
    { "context", "N", "positions of the cache to make room for (default: the model's own, at most 32768)",
      CONTEXT },
    { "position", "P", "position at which decoding is predicted (default 0)", POSITION },
    { "sessions", "N", "conversations with a cache each (default 1)", SESSIONS },
    { "batch", "N", "tokens decoded at once in the prediction (default 1)", BATCH },
    { "routing", "FILE", "JSON of how often each layer chose each expert, to even the sides", ROUTING },
    { "memory", "TYPE", "memory of a package: ddr5-4800x8 (default) is DDR5 at 4800 MT/s on 8 channels",
      MEMORY },
    { "node-bandwidth", "GBS", "GB/s that one node's memory delivers to its cores", NODE_BANDWIDTH },
    { "core-bandwidth", "GBS", "GB/s that one core can draw", CORE_BANDWIDTH },
    { "link-bandwidth", "GBS", "GB/s from one package to another", LINK_BANDWIDTH },
    { "kernel-fraction", "F", "part of the bandwidth that the kernels reach", KERNEL_FRACTION },
    { "join-core", "NS", "nanoseconds per thread of a node that arrives at a join", JOIN_CORE },
    { "join-node", "NS", "nanoseconds per node that arrives at a join", JOIN_NODE },
    { "core-ops", "TOPS", "int8 operations (10^12 per second) of one core", CORE_OPS },
    { "json", NULL, "print one JSON object", AS_JSON },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "plan",
    .operands = "[MODEL.crl | CHECKPOINT | --synthetic NAME]",
    .about = "Say where each part of a model would lie on a machine with several memory nodes, which node "
             "computes it,\n"
             "how much memory that takes, and predict the speed of every mode. Nothing is loaded.",
    .option = options,
};

#define CTX_DEFAULT 32768

struct args {
    const char *model, *synthetic, *recipe, *topology, *routing;
    const char *tensor[CRL_RECIPE_OVERRIDES];
    size_t n_tensor, context, sessions;
    uint32_t layers;
    enum crl_numa numa;
    bool json;
    struct crl_placement_options plan;
    struct crl_cost cost;
    double *routed;
};

/* What is planned: one of the three sources, and the formats. */
struct subject {
    struct crl_pack *pack;
    struct crl_ckpt *ckpt;
    struct crl_schema *own;
    const struct crl_schema *schema;
    enum crl_format *format;
    char recipe[16];
};

/* --- arguments ------------------------------------------------------------------------------------------ */

static bool number(const struct crl_cli *c, const char *name, unsigned long long lo, unsigned long long hi,
                   size_t *out)
{
    unsigned long long n;

    if (!crl_cli_number(c, name, lo, hi, &n)) return false;
    *out = (size_t)n;
    return true;
}

static bool real(const struct crl_cli *c, const char *name, double lo, double hi, double unit, double *out)
{
    float v;

    if (!crl_cli_real(c, name, lo, hi, &v)) return false;
    *out = (double)v * unit;
    return true;
}

static bool misused(const struct crl_err *err)
{
    crl_cli_misused(&usage, "%s", err->text);
    return false;
}

static bool parse_option(struct args *a, const struct crl_cli *c, int id)
{
    struct crl_err err = { "" };
    size_t n = 0;

    switch (id) {
    case SYNTHETIC:
        a->synthetic = c->value;
        return true;
    case RECIPE:
        a->recipe = c->value;
        return true;
    case TOPOLOGY:
        a->topology = c->value;
        return true;
    case ROUTING:
        a->routing = c->value;
        return true;
    case LAYERS:
        if (!number(c, "layers", 1, CRL_MAX_LAYER, &n)) return false;
        a->layers = (uint32_t)n;
        return true;
    case TENSOR:
        if (a->n_tensor < CRL_RECIPE_OVERRIDES) a->tensor[a->n_tensor++] = c->value;
        else crl_cli_misused(&usage, "more than %d options --tensor", CRL_RECIPE_OVERRIDES);
        return a->n_tensor < CRL_RECIPE_OVERRIDES;
    case NUMA:
        if (crl_numa_parse(c->value, &a->numa)) return true;
        crl_cli_misused(&usage, "option --numa: \"%s\" is none of experts, rows, interleave, off, auto",
                        c->value);
        return false;
    case THREADS:
        if (!number(c, "threads", 1, CRL_TEAM_MAX, &n)) return false;
        a->plan.n_thread = (unsigned)n;
        return true;
    case CONTEXT:
        return number(c, "context", 1, UINT32_MAX, &a->context);
    case POSITION:
        return number(c, "position", 0, UINT32_MAX, &a->plan.n_ctx);
    case SESSIONS:
        return number(c, "sessions", 1, 65536, &a->sessions);
    case BATCH:
        if (!number(c, "batch", 1, 65536, &n)) return false;
        a->plan.batch = (unsigned)n;
        return true;
    case MEMORY:
        return !crl_cost_memory(&a->cost, c->value, &err) || misused(&err);
    case NODE_BANDWIDTH:
        return real(c, "node-bandwidth", 0.1, 1e5, 1e9, &a->cost.node_bandwidth);
    case CORE_BANDWIDTH:
        return real(c, "core-bandwidth", 0.1, 1e4, 1e9, &a->cost.core_bandwidth);
    case LINK_BANDWIDTH:
        return real(c, "link-bandwidth", 0.1, 1e5, 1e9, &a->cost.link_bandwidth);
    case KERNEL_FRACTION:
        return real(c, "kernel-fraction", 0.01, 1, 1, &a->cost.kernel_fraction);
    case JOIN_CORE:
        return real(c, "join-core", 0, 1e6, 1e-9, &a->cost.join_core);
    case JOIN_NODE:
        return real(c, "join-node", 0, 1e6, 1e-9, &a->cost.join_node);
    case CORE_OPS:
        return real(c, "core-ops", 0.001, 1e3, 1e12, &a->cost.core_ops);
    default:
        a->json = true;
        return true;
    }
}

static bool parse(struct args *a, int argc, char **argv, int *code)
{
    struct crl_cli c;
    int id;

    crl_cost_default(&a->cost);
    a->plan.cost = &a->cost;
    a->sessions = 1;
    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        *code = CRL_EXIT_MISUSED;
        if (!parse_option(a, &c, id)) return false;
    }
    *code = c.exit_code;
    if (id == CRL_CLI_STOP) return false;
    *code = CRL_EXIT_MISUSED;
    if (c.n_operand + !!a->synthetic != 1)
        crl_cli_misused(&usage, "one packed file, checkpoint or --synthetic NAME is needed");
    else if (a->layers && !a->synthetic) crl_cli_misused(&usage, "--layers belongs to --synthetic");
    else if (a->synthetic && !crl_synthetic_layers(a->synthetic))
        crl_cli_misused(&usage, "option --synthetic: \"%s\" is none of scout, maverick, tiny", a->synthetic);
    else {
        if (c.n_operand) a->model = c.operand[0];
        if (!a->model || crl_model_is_checkpoint(a->model) || !(a->recipe || a->n_tensor)) return true;
        crl_cli_misused(&usage,
                        "%s is packed already: --recipe and --tensor belong to checkpoints and --synthetic",
                        a->model);
    }
    return false;
}

/* --- the model ------------------------------------------------------------------------------------------ */

static enum crl_status choose_formats(struct subject *s, const struct args *a, struct crl_err *err)
{
    struct crl_recipe recipe;
    enum crl_status st = CRL_OK;

    s->format = calloc(s->schema->n_weight, sizeof *s->format);
    if (!s->format) return crl_fail(err, CRL_ENOMEM, "no memory for %zu formats", s->schema->n_weight);
    if (s->pack) {
        snprintf(s->recipe, sizeof s->recipe, "%s", crl_pack_recipe(s->pack));
        for (size_t i = 0; i < s->schema->n_weight; i++) s->format[i] = crl_pack_format(s->pack, i);
        return CRL_OK;
    }
    st = crl_recipe_parse(&recipe, a->recipe ? a->recipe : "q4", a->tensor, a->n_tensor, err);
    if (!st) st = crl_recipe_check(&recipe, s->schema, err);
    for (size_t i = 0; !st && i < s->schema->n_weight; i++)
        s->format[i] = crl_recipe_format(&recipe, &s->schema->weight[i]);
    if (!st) snprintf(s->recipe, sizeof s->recipe, "%s", recipe.name);
    return st;
}

static enum crl_status open_subject(struct subject *s, const struct args *a, struct crl_err *err)
{
    enum crl_status st;

    if (a->synthetic) {
        struct crl_config cfg;
        st = crl_synthetic_config(&cfg, a->synthetic, a->layers, err);
        if (!st) st = crl_schema_build(&s->own, &cfg, err);
        s->schema = s->own;
    } else if (crl_model_is_checkpoint(a->model)) {
        st = crl_ckpt_open(&s->ckpt, a->model, err);
        if (!st) s->schema = crl_ckpt_schema(s->ckpt);
    } else {
        st = crl_pack_open(&s->pack, a->model, err);
        if (!st) s->schema = crl_pack_schema(s->pack);
    }
    return st ? st : choose_formats(s, a, err);
}

static void close_subject(struct subject *s)
{
    free(s->format);
    crl_schema_free(s->own);
    crl_ckpt_close(s->ckpt);
    crl_pack_close(s->pack);
}

static enum crl_status size_cache(struct args *a, const struct subject *s, struct crl_err *err)
{
    const struct crl_config *cfg = &s->schema->cfg;
    enum crl_kv_type type = !strcmp(s->recipe, "bf16") ? CRL_KV_F32 : CRL_KV_BF16; /* as an engine chooses */
    size_t bytes;

    if (!a->context) a->context = cfg->n_ctx < CTX_DEFAULT ? cfg->n_ctx : CTX_DEFAULT;
    if (a->context > cfg->n_ctx || a->plan.n_ctx > cfg->n_ctx)
        return crl_fail(err, CRL_ERANGE, "a context of %zu positions was asked for, the model has %u",
                        a->context > cfg->n_ctx ? a->context : a->plan.n_ctx, cfg->n_ctx);
    if (!crl_kv_bytes(cfg, a->context, type, &bytes) || !crl_mul_u64(bytes, a->sessions, &a->plan.kv_bytes))
        return crl_fail(err, CRL_ERANGE, "a cache of %zu positions is larger than any memory", a->context);
    a->plan.kv_value_bytes = crl_kv_number_bytes(type, cfg->d_head);
    return CRL_OK;
}

/* --- results -------------------------------------------------------------------------------------------- */

#define N_MODE 4

static const enum crl_numa modes[N_MODE] = { CRL_NUMA_EXPERTS, CRL_NUMA_ROWS, CRL_NUMA_INTERLEAVE,
                                             CRL_NUMA_OFF };

struct result {
    struct crl_placement *mode[N_MODE];
    size_t chosen; /* index in mode[] */
    uint64_t bytes_read;
    char advice[128];
};

static double per_second(double t)
{
    return t > 0 ? t : 0;
}

static json_t *nodes_json(const struct crl_placement *p, const struct crl_topo *t)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < p->n_node; i++) {
        const struct crl_node_plan *n = &p->node[i];
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:[f, f]}", "node",
                                              (json_int_t)t->node[n->topo_node].os, "package",
                                              (json_int_t)n->package, "threads", (json_int_t)n->n_thread,
                                              "first_kv_head", (json_int_t)n->first_kv_head, "kv_heads",
                                              (json_int_t)n->n_kv_head, "weight_bytes",
                                              (json_int_t)n->weight_bytes, "bytes_per_token",
                                              (json_int_t)n->token_bytes, "sides", n->share[0], n->share[1]));
    }
    return list;
}

static json_t *regions_json(const struct crl_placement *p, const struct crl_topo *t)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < p->n_region; i++) {
        const struct crl_region_plan *g = &p->region[i];
        json_t *o = json_pack("{s:b, s:I, s:I, s:I, s:f}", "interleave", g->interleave, "bytes",
                              (json_int_t)g->bytes, "cache_bytes", (json_int_t)g->kv_bytes, "room_bytes",
                              (json_int_t)g->room_bytes, "bandwidth_gbs", g->bandwidth * 1e-9);
        json_object_set_new(
            o, "node", g->topo_node < 0 ? json_null() : json_integer((json_int_t)t->node[g->topo_node].os));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *mode_json(const struct crl_placement *p, const struct crl_topo *t)
{
    const struct crl_speed *s = &p->speed;
    json_t *bytes = json_array(), *notes = json_array();

    for (unsigned i = 0; i < p->n_node; i++)
        json_array_append_new(bytes, json_integer((json_int_t)p->node[i].weight_bytes));
    for (unsigned i = 0; i < p->n_note; i++) json_array_append_new(notes, json_string(p->note[i]));
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:{s:f, s:f, s:f, s:f, s:f}, s:o, s:I, s:I, s:I, s:b, s:s, s:o, "
        "s:o, s:o}",
        "tokens_per_s", crl_show_real(per_second(s->tokens_per_s)), "speedup_vs_one_socket",
        crl_show_real(s->speedup_vs_one_socket), "prefill_tokens_per_s", crl_show_real(s->prefill_per_s),
        "bandwidth_gbs", crl_show_real(s->bandwidth * 1e-9), "aggregate_bandwidth_gbs",
        crl_show_real(s->aggregate * 1e-9), "fraction_of_bandwidth",
        crl_show_real(s->bandwidth / s->aggregate), "seconds", "weights", s->weights_s, "cache", s->cache_s,
        "exchange", s->exchange_s, "small", s->small_s, "joins", s->join_s, "bytes_per_node", bytes,
        "model_bytes", (json_int_t)p->model_bytes, "replica_bytes", (json_int_t)p->replica_bytes, "sides",
        (json_int_t)p->n_side, "fits", p->fits, "why", p->why, "nodes", nodes_json(p, t), "regions",
        regions_json(p, t), "notes", notes);
}

static json_t *topology_json(const struct crl_topo *t)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < t->n_node; i++) {
        static const char *const kind[] = { "dram", "hbm", "far" };
        const struct crl_topo_node *n = &t->node[i];
        json_array_append_new(list,
                              json_pack("{s:I, s:I, s:I, s:s, s:I, s:I}", "node", (json_int_t)n->os,
                                        "package", (json_int_t)n->package, "cores", (json_int_t)n->n_core,
                                        "memory", kind[n->kind], "total_bytes", (json_int_t)n->total_bytes,
                                        "free_bytes", (json_int_t)n->free_bytes));
    }
    return json_pack("{s:s, s:b, s:I, s:I, s:o}", "source", t->source, "this_machine", t->real, "packages",
                     (json_int_t)t->n_package, "cores", (json_int_t)t->n_core, "nodes", list);
}

static json_t *inputs_json(const struct crl_cost *c)
{
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}",
                     "memory", c->memory, "package_peak_gbs", c->package_peak * 1e-9, "package_bandwidth_gbs",
                     c->package_bandwidth * 1e-9, "node_bandwidth_gbs", c->node_bandwidth * 1e-9,
                     "hbm_bandwidth_gbs", c->hbm_bandwidth * 1e-9, "far_bandwidth_gbs",
                     c->far_bandwidth * 1e-9, "core_bandwidth_gbs", c->core_bandwidth * 1e-9,
                     "link_bandwidth_gbs", c->link_bandwidth * 1e-9, "kernel_fraction", c->kernel_fraction,
                     "exchange_near_gbs", c->exchange_near * 1e-9, "exchange_far_gbs", c->exchange_far * 1e-9,
                     "join_core_ns", c->join_core * 1e9, "join_node_ns", c->join_node * 1e9,
                     "core_activations_gs", c->core_act * 1e-9, "core_tops", c->core_ops * 1e-12,
                     "ops_fraction", c->ops_fraction, "core_tflops", c->core_flops * 1e-12);
}

static int print_json(const struct args *a, const struct subject *s, const struct crl_topo *t,
                      const struct result *r)
{
    json_t *all = json_object(), *doc;

    for (size_t i = 0; i < N_MODE; i++)
        if (r->mode[i]) json_object_set_new(all, crl_numa_name(modes[i]), mode_json(r->mode[i], t));
    doc = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:s, s:o, s:o, s:o}", "model",
                    a->synthetic ? a->synthetic : a->model, "recipe", s->recipe, "bytes_per_token",
                    (json_int_t)r->bytes_read, "threads", (json_int_t)r->mode[r->chosen]->n_thread, "context",
                    (json_int_t)a->context, "position", (json_int_t)a->plan.n_ctx, "cache_bytes",
                    (json_int_t)a->plan.kv_bytes, "chosen", crl_numa_name(modes[r->chosen]), "fits",
                    r->mode[r->chosen]->fits, "advice", r->advice, "topology", topology_json(t), "cost",
                    inputs_json(&a->cost), "modes", all);
    return crl_cli_json(&usage, doc);
}

static void print_modes(const struct result *r)
{
    printf("%-11s %9s %9s %8s %9s %6s %9s  %s\n", "mode", "tokens/s", "x socket", "prefill", "GB/s", "of all",
           "replicas", "fits");
    for (size_t i = 0; i < N_MODE; i++) {
        const struct crl_placement *p = r->mode[i];
        char t[CRL_CLI_TEXT];
        if (!p) continue;
        printf("%-11s %9.1f %9.2f %8.0f %9.0f %5.0f%% %9s  %s\n", crl_numa_name(modes[i]),
               p->speed.tokens_per_s, p->speed.speedup_vs_one_socket, p->speed.prefill_per_s,
               p->speed.bandwidth * 1e-9, 100 * p->speed.bandwidth / p->speed.aggregate,
               crl_cli_bytes(t, (double)p->replica_bytes),
               p->fits ? (i == r->chosen ? "yes, chosen" : "yes") : "no");
    }
}

static void print_chosen(const struct crl_placement *p, const struct crl_topo *t)
{
    char x[3][CRL_CLI_TEXT];
    const struct crl_speed *s = &p->speed;

    printf("\n%-6s %8s %8s %9s %12s %12s %14s\n", "node", "package", "threads", "kv heads", "weights",
           "per token", p->n_side == 2 ? "of sides" : "share");
    for (unsigned i = 0; i < p->n_node; i++) {
        const struct crl_node_plan *n = &p->node[i];
        char share[32];
        if (p->n_side == 1) snprintf(share, sizeof share, "%.0f%%", 100 * n->share[0]);
        else snprintf(share, sizeof share, "%.0f%%, %.0f%%", 100 * n->share[0], 100 * n->share[1]);
        printf("%-6u %8u %8u %9u %12s %12s %14s\n", t->node[n->topo_node].os, n->package, n->n_thread, n->n_kv_head,
               crl_cli_bytes(x[0], (double)n->weight_bytes), crl_cli_bytes(x[1], (double)n->token_bytes), share);
    }
    printf("\n%-14s %12s %12s %12s\n", "memory of", "weights", "cache", "room");
    for (unsigned i = 0; i < p->n_region; i++) {
        const struct crl_region_plan *g = &p->region[i];
        char name[32] = "all nodes";
        if (g->topo_node >= 0) snprintf(name, sizeof name, "node %u", t->node[g->topo_node].os);
        printf("%-14s %12s %12s %12s\n", name, crl_cli_bytes(x[0], (double)g->bytes),
               crl_cli_bytes(x[1], (double)g->kv_bytes), crl_cli_bytes(x[2], (double)g->room_bytes));
    }
    printf("\na token takes %.2f ms: weights %.2f, cache %.2f, exchange %.2f, small work %.2f, joins %.2f\n",
           1e3 / s->tokens_per_s, 1e3 * s->weights_s, 1e3 * s->cache_s, 1e3 * s->exchange_s, 1e3 * s->small_s,
           1e3 * s->join_s);
}

static void print_inputs(const struct crl_cost *c, const struct crl_placement *p)
{
    printf("predicted from %s: node %.0f GB/s, core %.1f, link %.0f, of which kernels reach %.0f%%;\n", c->memory,
           p->node[0].bandwidth * 1e-9, c->core_bandwidth * 1e-9, c->link_bandwidth * 1e-9,
           100 * c->kernel_fraction);
    printf("joins of %.0f ns per thread and %.0f per node; %.2f int8 TOPS per core, %.0f%% on prompts (docs/numa.md)\n",
           c->join_core * 1e9, c->join_node * 1e9, c->core_ops * 1e-12, 100 * c->ops_fraction);
}

static int print_text(const struct args *a, const struct subject *s, const struct crl_topo *t,
                      const struct result *r)
{
    const struct crl_placement *p = r->mode[r->chosen];
    char x[2][CRL_CLI_TEXT];

    printf("%s, recipe %s: %s, %s read per token\n", a->synthetic ? a->synthetic : a->model, s->recipe,
           crl_cli_bytes(x[0], (double)p->model_bytes), crl_cli_bytes(x[1], (double)r->bytes_read));
    printf("%s%s: %u package%s, %u node%s, %u core%s; %u thread%s\n\n", t->source,
           t->real ? "" : " (pretended)", t->n_package, t->n_package == 1 ? "" : "s", t->n_node,
           t->n_node == 1 ? "" : "s", t->n_core, t->n_core == 1 ? "" : "s", p->n_thread,
           p->n_thread == 1 ? "" : "s");
    print_modes(r);
    print_chosen(p, t);
    print_inputs(&a->cost, p);
    for (unsigned i = 0; i < p->n_note; i++) printf("note: %s\n", p->note[i]);
    return CRL_EXIT_DONE;
}

/* --- the command ---------------------------------------------------------------------------------------- */

static enum crl_status plan_all(struct args *a, const struct subject *s, const struct crl_topo *t,
                                struct result *r, struct crl_err *err)
{
    struct crl_placement *chosen = NULL;
    struct crl_totals totals;
    enum crl_status st = crl_schema_totals(s->schema, s->format, &totals, err);

    if (st) return st;
    r->bytes_read = totals.bytes_read;
    for (size_t i = 0; !st && i < N_MODE; i++) {
        a->plan.mode = modes[i];
        st = crl_placement_new(&r->mode[i], s->schema, s->format, t, &a->plan, err);
    }
    a->plan.mode = a->numa;
    if (!st) st = crl_placement_new(&chosen, s->schema, s->format, t, &a->plan, err);
    for (size_t i = 0; !st && i < N_MODE; i++)
        if (modes[i] == chosen->mode) r->chosen = i;
    if (!st && !chosen->fits)
        crl_placement_advise(s->schema, s->format, t, &a->plan, r->advice, sizeof r->advice);
    crl_placement_free(chosen);
    return st;
}

static int show(const struct args *a, const struct subject *s, const struct crl_topo *t,
                const struct result *r)
{
    const struct crl_placement *p = r->mode[r->chosen];
    struct crl_err err = { "" };
    int code = a->json ? print_json(a, s, t, r) : print_text(a, s, t, r);

    if (code != CRL_EXIT_DONE || p->fits) return code;
    crl_fail(&err, CRL_EFULL, "the model does not fit: %s; %s", p->why,
             r->advice[0] ? r->advice : "no mode and no recipe would fit");
    return crl_cli_fail(&usage, CRL_EFULL, &err);
}

static int run(int argc, char **argv)
{
    struct args a = { 0 };
    struct subject s = { 0 };
    struct result r = { 0 };
    struct crl_topo *topo = NULL;
    struct crl_err err = { "" };
    enum crl_status st;
    int code;

    if (!parse(&a, argc, argv, &code)) return code;
    st = crl_topo_load(&topo, a.topology, &err);
    if (!st) st = open_subject(&s, &a, &err);
    if (!st) st = size_cache(&a, &s, &err);
    if (!st && a.routing) st = crl_routing_read(&a.routed, a.routing, &s.schema->cfg, &err);
    a.plan.routed = a.routed;
    if (!st) st = plan_all(&a, &s, topo, &r, &err);
    code = st ? crl_cli_fail(&usage, st, &err) : show(&a, &s, topo, &r);
    for (size_t i = 0; i < N_MODE; i++) crl_placement_free(r.mode[i]);
    close_subject(&s);
    crl_free(a.routed);
    crl_topo_free(topo);
    return code;
}

const struct crl_command crl_cmd_plan = { "plan", "say where a model would lie and how fast it would be",
                                          run };
