/* cmd_doctor.c - corral doctor: what this machine is, what limits it, and which settings to change. */
#define _GNU_SOURCE
#include "cli/commands.h"

#include "base/cgroup.h"
#include "base/team.h"
#include "base/topo.h"
#include "bench/machine.h"
#include "bench/synthetic.h"
#include "cli/show.h"
#include "simd/kernels.h"
#include "simd/probe.h"
#include "store/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AS_JSON = 1, QUICK };

static const struct crl_option options[] = {
    { "quick", NULL, "measure nothing, read settings only", QUICK },
    { "json", NULL, "print one JSON object", AS_JSON },
    { 0 },
};

static const struct crl_usage usage = {
    .command = "doctor",
    .operands = "",
    .about = "Say what this machine is, measure its memory and its threads for some seconds, tell what that "
             "allows for\n"
             "Scout and Maverick in each recipe, and which settings to change, each with the command that "
             "changes it.",
    .option = options,
};

#define SWEEP_BYTES ((size_t)256 << 20)
#define SWEEPS 8
#define JOINS 20000
#define NODES_MOST 16 /* measured; machines with more are measured on the first ones */
#define ADVICE_MOST 16

struct advice {
    char found[160], command[160];
};

struct report {
    struct crl_topo *topo;
    struct crl_cgroup group;
    struct crl_cost cost;
    bool measured;
    double read[NODES_MOST]
               [NODES_MOST]; /* bytes/s: cores of the first, memory of the second; 0: not measured */
    double core_read, join_s;
    size_t n_advice;
    struct advice advice[ADVICE_MOST];
    char thp[64], balancing[16], governor[32], smt[32];
};

/* --- settings ------------------------------------------------------------------------------------------- */

/* First line of a file; "" when there is none. */
static void read_text(char *text, size_t size, const char *path)
{
    FILE *f = fopen(path, "r");

    text[0] = 0;
    if (f && !fgets(text, (int)size, f)) text[0] = 0;
    if (f) fclose(f);
    text[strcspn(text, "\n")] = 0;
}

static void advise(struct report *r, const char *command, const char *fmt, ...) CRL_PRINTF(3, 4);

static void advise(struct report *r, const char *command, const char *fmt, ...)
{
    struct advice *a = &r->advice[r->n_advice];
    va_list ap;

    if (r->n_advice == ADVICE_MOST) return;
    va_start(ap, fmt);
    vsnprintf(a->found, sizeof a->found, fmt, ap);
    va_end(ap);
    snprintf(a->command, sizeof a->command, "%s", command);
    r->n_advice++;
}

static void look_at_settings(struct report *r)
{
    const struct crl_topo *t = r->topo;
    unsigned two = 0;

    read_text(r->thp, sizeof r->thp, "/sys/kernel/mm/transparent_hugepage/enabled");
    read_text(r->balancing, sizeof r->balancing, "/proc/sys/kernel/numa_balancing");
    read_text(r->governor, sizeof r->governor, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    read_text(r->smt, sizeof r->smt, "/sys/devices/system/cpu/smt/control");
    if (strstr(r->thp, "[never]"))
        advise(r, "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
               "transparent huge pages are off: weights lie on small pages, which costs bandwidth");
    if (!r->thp[0]) advise(r, "", "the kernel has no transparent huge pages: weights lie on small pages");
    if (r->balancing[0] && r->balancing[0] != '0' && t->n_node > 1)
        advise(r, "sudo sysctl -w kernel.numa_balancing=0",
               "the kernel migrates pages between nodes by itself, and stops threads to do so");
    if (r->governor[0] && strcmp(r->governor, "performance") != 0)
        advise(r, "sudo cpupower frequency-set -g performance", "the frequency governor is \"%s\"",
               r->governor);
    for (unsigned i = 0; i < t->n_core; i++) two += t->core[i].n_pu > 1;
    if (r->group.cores > 0 && r->group.cores < t->n_core)
        advise(r, "docker run --cpus=0 ..., or remove the CPU limit of the pod",
               "a control group grants %.2f of %u cores: threads would be stopped in the middle of a step",
               r->group.cores, t->n_core);
    if (r->group.has_cpus && t->n_core < t->n_cpu_system / (two ? 2 : 1))
        advise(r, "docker run --cpuset-cpus=..., or taskset -a", "%u of %u processors may be used", t->n_core,
               t->n_cpu_system);
    for (unsigned i = 0; i < t->n_node; i++)
        if (t->node[i].n_core && !t->node[i].total_bytes)
            advise(r, "populate the memory channels of every socket", "node %u has cores but no memory",
                   t->node[i].os);
}

/* --- measuring ------------------------------------------------------------------------------------------ */

struct job {
    const struct crl_probe *probe;
    unsigned char *data;
    size_t bytes;
    bool write;
    uint64_t value;
    double seconds;
};

static void sweep(const struct crl_member *me, void *ctx)
{
    struct job *j = ctx;
    size_t lo, hi;
    double start;
    uint64_t value = 0;

    crl_team_range(me, j->bytes / 4096, &lo, &hi);
    crl_team_barrier(me);
    start = crl_seconds();
    if (j->write) memset(j->data + lo * 4096, 0x5a, (hi - lo) * 4096);
    else value = j->probe->read(j->data + lo * 4096, (hi - lo) * 4096);
    crl_team_barrier(me);
    if (me->id) return;
    j->value = value;
    j->seconds = crl_seconds() - start;
}

static void meet(const struct crl_member *me, void *ctx)
{
    struct job *j = ctx;
    double start;

    crl_team_barrier(me);
    start = crl_seconds();
    for (unsigned i = 0; i < JOINS; i++) crl_team_barrier(me);
    if (!me->id) j->seconds = (crl_seconds() - start) / JOINS;
}

/* A team of at most n threads on the cores of one node, or on all cores. */
static enum crl_status seat(struct crl_team **team, const struct crl_topo *t, int node, unsigned n,
                            struct crl_err *err)
{
    unsigned first = node < 0 ? 0 : t->node[node].first_core,
             have = node < 0 ? t->n_core : t->node[node].n_core;
    struct crl_seat seat[CRL_TEAM_MAX];
    unsigned most = crl_topo_threads(t), group = 0;

    if (n > have) n = have;
    if (n > most) n = most;
    if (n > CRL_TEAM_MAX) n = CRL_TEAM_MAX;
    for (unsigned i = 0; i < n; i++) {
        const struct crl_topo_core *c = &t->core[first + i];
        if (i && node < 0 && c->node != t->core[first + i - 1].node && group + 1 < CRL_TEAM_NODES_MAX)
            group++;
        seat[i] = (struct crl_seat){ (int)c->cpu, group };
    }
    return crl_team_seated(team, seat, n, err);
}

/* Best of some sweeps by threads of node `from` over memory of node `to`; 0 when it cannot be measured. */
static double read_speed(const struct report *r, const struct crl_probe *probe, unsigned from, unsigned to,
                         unsigned threads)
{
    struct job j = { .probe = probe, .write = true };
    struct crl_region region = { 0 };
    struct crl_team *team = NULL;
    double best = 0;
    size_t bytes = 8 * crl_machine_cache();

    if (bytes < SWEEP_BYTES) bytes = SWEEP_BYTES;
    if (bytes > r->topo->node[to].free_bytes / 4) bytes = (size_t)(r->topo->node[to].free_bytes / 4);
    bytes = bytes / 4096 * 4096;
    if (!bytes || crl_region_new(&region, bytes, (int)r->topo->node[to].os, CRL_HUGE_TRY, NULL)) return 0;
    if ((region.node >= 0 || r->topo->n_node == 1) && !seat(&team, r->topo, (int)from, threads, NULL)) {
        j.data = region.base;
        j.bytes = bytes;
        crl_team_run(team, sweep, &j);
        j.write = false;
        for (unsigned i = 0; i < SWEEPS; i++) {
            crl_team_run(team, sweep, &j);
            if (j.seconds > 0 && (double)bytes / j.seconds > best) best = (double)bytes / j.seconds;
        }
    }
    crl_team_free(team);
    crl_region_free(&region);
    return best;
}

static unsigned measured_nodes(const struct report *r)
{
    return r->topo->n_node < NODES_MOST ? r->topo->n_node : NODES_MOST;
}

static void measure(struct report *r)
{
    const struct crl_topo *t = r->topo;
    struct crl_team *team = NULL;
    struct crl_probe probe;
    struct job j = { 0 };
    double sum = 0, link = 0;
    unsigned n = 0;

    crl_probe_select(&probe, crl_simd_have());
    for (unsigned i = 0; i < measured_nodes(r); i++)
        for (unsigned k = 0; k < measured_nodes(r) && t->node[i].n_core; k++) {
            r->read[i][k] = read_speed(r, &probe, i, k, CRL_TEAM_MAX);
            if (i == k && r->read[i][k] > 0) {
                sum += r->read[i][k];
                n++;
            }
            if (t->node[i].package != t->node[k].package && r->read[i][k] > link) link = r->read[i][k];
        }
    r->core_read = read_speed(r, &probe, t->core[0].node, t->core[0].node, 1);
    if (!seat(&team, t, -1, CRL_TEAM_MAX, NULL)) {
        crl_team_run(team, meet, &j);
        r->join_s = j.seconds;
    }
    crl_team_free(team);
    if (!n) return;
    r->measured = true;
    r->cost.node_bandwidth = sum / n;
    if (r->core_read > 0) r->cost.core_bandwidth = r->core_read;
    if (link > 0) r->cost.link_bandwidth = link;
    snprintf(r->cost.memory, sizeof r->cost.memory, "measured");
}

/* --- what that allows ----------------------------------------------------------------------------------- */

static const char *const models[] = { "scout", "maverick" }, *const recipes[] = { "q4", "q8", "bf16" };
#define N(a) (sizeof(a) / sizeof *(a))

struct ceiling {
    double tokens_per_s, predicted; /* bytes over bandwidth; the cost model's */
    enum crl_numa mode;
    uint64_t bytes_read, bytes;
    bool fits;
};

static enum crl_status find_ceiling(struct report *r, const char *model, const char *recipe,
                                    struct ceiling *c, struct crl_err *err)
{
    struct crl_placement_options o = { .mode = CRL_NUMA_AUTO, .cost = &r->cost };
    struct crl_config cfg;
    struct crl_recipe rec;
    struct crl_schema *s = NULL;
    struct crl_placement *p = NULL;
    struct crl_totals totals = { 0 };
    enum crl_format *format = NULL;
    enum crl_status st = crl_synthetic_config(&cfg, model, 0, err);

    if (!st) st = crl_schema_build(&s, &cfg, err);
    if (!st) st = crl_recipe_parse(&rec, recipe, NULL, 0, err);
    if (!st && !(format = crl_alloc(s->n_weight, sizeof *format)))
        st = crl_fail(err, CRL_ENOMEM, "no memory for formats");
    for (size_t i = 0; !st && i < s->n_weight; i++) format[i] = crl_recipe_format(&rec, &s->weight[i]);
    if (!st) st = crl_schema_totals(s, format, &totals, err);
    if (!st) st = crl_placement_new(&p, s, format, r->topo, &o, err);
    if (!st)
        *c = (struct ceiling){ p->speed.aggregate / (double)totals.bytes_read,
                               p->speed.tokens_per_s,
                               p->mode,
                               totals.bytes_read,
                               totals.bytes,
                               p->fits };
    crl_placement_free(p);
    crl_free(format);
    crl_schema_free(s);
    return st;
}

/* --- the report ----------------------------------------------------------------------------------------- */

static void list_levels(char *text, size_t size)
{
    unsigned have = crl_simd_have();
    size_t at = 0;

    text[0] = 0;
    for (int l = 1; l < CRL_LEVEL_END && at < size; l++)
        if (have >> l & 1)
            at += (size_t)snprintf(text + at, size - at, "%s%s", at ? " " : "",
                                   crl_level_name((enum crl_level)l));
}

static unsigned most_pu(const struct crl_topo *t)
{
    unsigned most = 1;

    for (unsigned i = 0; i < t->n_core; i++)
        if (t->core[i].n_pu > most) most = t->core[i].n_pu;
    return most;
}

static void print_machine(const struct report *r)
{
    const struct crl_topo *t = r->topo;
    char levels[128], x[2][CRL_CLI_TEXT];

    list_levels(levels, sizeof levels);
    printf("cores         %u usable of %u processors, %u package%s; %u thread%s by default\n", t->n_core,
           t->n_cpu_system, t->n_package, t->n_package == 1 ? "" : "s", crl_topo_threads(t),
           crl_topo_threads(t) == 1 ? "" : "s");
    printf("instructions  %s\n", levels[0] ? levels : "scalar");
    printf("hyper-threads %s\n", most_pu(t) > 1 ? "yes: one thread per core is used" : "none in use");
    for (unsigned i = 0; i < t->n_node; i++) {
        const struct crl_topo_node *n = &t->node[i];
        printf("node %-8u package %u, %u cores, %s of memory, %s free", n->os, n->package, n->n_core,
               crl_cli_bytes(x[0], (double)n->total_bytes), crl_cli_bytes(x[1], (double)n->free_bytes));
        for (unsigned k = 0; k < n->n_huge; k++)
            if (n->huge[k].total)
                printf("; %llu of %llu huge pages of %llu MiB free", (unsigned long long)n->huge[k].free,
                       (unsigned long long)n->huge[k].total, (unsigned long long)n->huge[k].page_bytes >> 20);
        putchar('\n');
    }
    printf("huge pages    transparent: %s\n", r->thp[0] ? r->thp : "not there");
    printf("balancing     %s\n", r->balancing[0] ? (r->balancing[0] == '0' ? "off" : "on") : "not there");
    printf("governor      %s\n", r->governor[0] ? r->governor : "not stated");
    if (r->group.cores > 0) printf("container     %.2f cores\n", r->group.cores);
    if (r->group.memory_limit != UINT64_MAX)
        printf("container     %s of memory, %s left\n", crl_cli_bytes(x[0], (double)r->group.memory_limit),
               crl_cli_bytes(x[1], (double)r->group.memory_left));
}

static void print_measured(const struct report *r)
{
    const struct crl_topo *t = r->topo;

    if (!r->measured) {
        printf("\nnothing was measured: the figures below rest on assumptions (%s)\n", r->cost.memory);
        return;
    }
    printf("\nread, GB/s    memory of node");
    for (unsigned k = 0; k < measured_nodes(r); k++) printf(" %7u", t->node[k].os);
    putchar('\n');
    for (unsigned i = 0; i < measured_nodes(r); i++) {
        if (!t->node[i].n_core) continue;
        printf("  cores of node %-12u", t->node[i].os);
        for (unsigned k = 0; k < measured_nodes(r); k++) printf(" %7.1f", r->read[i][k] * 1e-9);
        putchar('\n');
    }
    printf("one core      %.1f GB/s\n", r->core_read * 1e-9);
    printf("join          %.2f us, all threads\n", r->join_s * 1e6);
}

static enum crl_status print_text(struct report *r, struct crl_err *err)
{
    print_machine(r);
    print_measured(r);
    printf("\n%-9s %-6s %10s %12s %12s %11s  %s\n", "model", "recipe", "memory", "at most", "predicted",
           "mode", "fits");
    for (size_t i = 0; i < N(models); i++)
        for (size_t k = 0; k < N(recipes); k++) {
            struct ceiling c;
            char x[CRL_CLI_TEXT];
            enum crl_status st = find_ceiling(r, models[i], recipes[k], &c, err);
            if (st) return st;
            printf("%-9s %-6s %10s %8.2f t/s %8.2f t/s %11s  %s\n", models[i], recipes[k],
                   crl_cli_bytes(x, (double)c.bytes), c.tokens_per_s, c.predicted, crl_numa_name(c.mode),
                   c.fits ? "yes" : "no");
        }
    printf("\n%s\n", r->n_advice ? "to change:" : "no setting stands in the way");
    for (size_t i = 0; i < r->n_advice; i++) {
        printf("- %s\n", r->advice[i].found);
        if (r->advice[i].command[0]) printf("    %s\n", r->advice[i].command);
    }
    return CRL_OK;
}

static json_t *machine_json(const struct report *r)
{
    const struct crl_topo *t = r->topo;
    json_t *nodes = json_array(), *o;
    char levels[128];

    for (unsigned i = 0; i < t->n_node; i++) {
        const struct crl_topo_node *n = &t->node[i];
        json_t *read = json_array(), *node, *huge = json_array();
        for (unsigned k = 0; i < measured_nodes(r) && k < measured_nodes(r) && r->measured && n->n_core; k++)
            json_array_append_new(read, crl_show_real(r->read[i][k] * 1e-9));
        for (unsigned k = 0; k < n->n_huge; k++)
            json_array_append_new(
                huge, json_pack("{s:I, s:I, s:I}", "page_bytes", (json_int_t)n->huge[k].page_bytes, "total",
                                (json_int_t)n->huge[k].total, "free", (json_int_t)n->huge[k].free));
        node = json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "node", (json_int_t)n->os, "package",
                         (json_int_t)n->package, "cores", (json_int_t)n->n_core, "total_bytes",
                         (json_int_t)n->total_bytes, "free_bytes", (json_int_t)n->free_bytes, "huge_pages",
                         huge, "read_gbs", read);
        json_array_append_new(nodes, node);
    }
    list_levels(levels, sizeof levels);
    o = json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:o}", "packages",
                  (json_int_t)t->n_package, "cores", (json_int_t)t->n_core, "processors",
                  (json_int_t)t->n_cpu_system, "threads", (json_int_t)crl_topo_threads(t), "threads_per_core",
                  (json_int_t)most_pu(t), "instructions", levels, "transparent_huge_pages", r->thp,
                  "numa_balancing", r->balancing, "governor", r->governor, "smt", r->smt, "nodes", nodes);
    json_object_set_new(o, "container_cores", r->group.cores > 0 ? json_real(r->group.cores) : json_null());
    json_object_set_new(o, "container_memory_bytes",
                        r->group.memory_limit != UINT64_MAX ? json_integer((json_int_t)r->group.memory_limit)
                                                            : json_null());
    return o;
}

static enum crl_status print_json(struct report *r, int *code, struct crl_err *err)
{
    json_t *doc = json_pack("{s:b, s:o}", "measured", r->measured, "machine", machine_json(r)),
           *list = json_array(), *advice = json_array();

    if (r->measured) {
        json_object_set_new(doc, "core_read_gbs", crl_show_real(r->core_read * 1e-9));
        json_object_set_new(doc, "join_us", crl_show_real(r->join_s * 1e6));
    }
    for (size_t i = 0; i < N(models) * N(recipes); i++) {
        const char *model = models[i / N(recipes)], *recipe = recipes[i % N(recipes)];
        struct ceiling c;
        enum crl_status st = find_ceiling(r, model, recipe, &c, err);
        if (st) {
            json_decref(doc);
            json_decref(list);
            json_decref(advice);
            return st;
        }
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:s, s:b}", "model", model, "recipe", recipe,
                            "bytes", (json_int_t)c.bytes, "bytes_per_token", (json_int_t)c.bytes_read,
                            "ceiling_tokens_per_s", crl_show_real(c.tokens_per_s), "predicted_tokens_per_s",
                            crl_show_real(c.predicted), "mode", crl_numa_name(c.mode), "fits", c.fits));
    }
    for (size_t i = 0; i < r->n_advice; i++)
        json_array_append_new(
            advice, json_pack("{s:s, s:s}", "found", r->advice[i].found, "command", r->advice[i].command));
    json_object_set_new(doc, "models", list);
    json_object_set_new(doc, "advice", advice);
    *code = crl_cli_json(&usage, doc);
    return CRL_OK;
}

static int run(int argc, char **argv)
{
    struct report *r;
    struct crl_cli c;
    struct crl_err err = { "" };
    enum crl_status st;
    bool json = false, quick = false;
    int id, code = CRL_EXIT_DONE;

    crl_cli_init(&c, &usage, argc, argv);
    while ((id = crl_cli_next(&c)) > 0) {
        if (id == AS_JSON) json = true;
        if (id == QUICK) quick = true;
    }
    if (id == CRL_CLI_STOP) return c.exit_code;
    if (c.n_operand) return crl_cli_misused(&usage, "no operand is taken, \"%s\" was given", c.operand[0]);
    r = crl_alloc(1, sizeof *r);
    if (!r) return crl_cli_fail(&usage, crl_fail(&err, CRL_ENOMEM, "no memory for a report"), &err);
    crl_cost_default(&r->cost);
    st = crl_topo_load(&r->topo, NULL, &err);
    if (!st) {
        crl_cgroup_read(&r->group, "");
        look_at_settings(r);
        if (!quick) measure(r);
        st = json ? print_json(r, &code, &err) : print_text(r, &err);
    }
    if (st) code = crl_cli_fail(&usage, st, &err);
    crl_topo_free(r->topo);
    crl_free(r);
    return code;
}

const struct crl_command crl_cmd_doctor = { "doctor", "say what limits this machine and what to change",
                                            run };
