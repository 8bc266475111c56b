/* plan.c - placing a model on a machine: nodes and threads, sides, cuts, homes, addresses. docs/numa.md. */
#include "store/plan.h"

#include "base/team.h"
#include "store/layout.h"
#include "store/plan_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PAGE 4096u
#define ROOM 0.97 /* of a node's free memory; the rest is for buffers and the system */
#define UNIT_GATE_UP 4

static const char *const mode_name[CRL_NUMA_END] = { "auto", "experts", "rows", "interleave", "off" };

const char *crl_numa_name(enum crl_numa mode)
{
    return (unsigned)mode < CRL_NUMA_END ? mode_name[mode] : "?";
}

bool crl_numa_parse(const char *name, enum crl_numa *mode)
{
    for (unsigned i = 0; i < CRL_NUMA_END; i++)
        if (!strcmp(name, mode_name[i])) {
            *mode = (enum crl_numa)i;
            return true;
        }
    return false;
}

static void note(struct crl_placement *p, const char *fmt, ...) CRL_PRINTF(2, 3);

static void note(struct crl_placement *p, const char *fmt, ...)
{
    va_list ap;

    if (p->n_note == sizeof p->note / sizeof *p->note) return;
    va_start(ap, fmt);
    vsnprintf(p->note[p->n_note++], sizeof p->note[0], fmt, ap);
    va_end(ap);
}

/* --- nodes and threads ---------------------------------------------------------------------------------- */

/* Memory that is near to node i's cores: its own and that of memory-only nodes beside it. */
static bool has_memory(const struct crl_topo *t, unsigned i)
{
    for (unsigned j = 0; j < t->n_node; j++)
        if (t->node[j].home == i && t->node[j].total_bytes) return true;
    return false;
}

static unsigned rank_in_package(const struct crl_topo *t, const bool *use, unsigned i)
{
    unsigned rank = 0;

    for (unsigned j = 0; j < i; j++) rank += use[j] && t->node[j].package == t->node[i].package;
    return rank;
}

/* Fewer threads than nodes: one node of each package first, then the second ones. */
static void drop_nodes(const struct crl_topo *t, bool *use, unsigned n_use, unsigned n_thread)
{
    unsigned rank[CRL_NODE_MAX];

    for (unsigned i = 0; i < t->n_node; i++) rank[i] = use[i] ? rank_in_package(t, use, i) : 0;
    for (; n_use > n_thread; n_use--) {
        unsigned worst = 0;
        for (unsigned i = 0; i < t->n_node; i++)
            if (use[i] && (!use[worst] || rank[i] >= rank[worst])) worst = i;
        use[worst] = false;
    }
}

/* A node, then one thread after the other to the node that has the fewest per core. */
static void share_threads(struct crl_placement *p, const struct crl_topo *t)
{
    unsigned left = p->n_thread - p->n_node, first = 0;

    for (unsigned i = 0; i < p->n_node; i++) p->node[i].n_thread = 1;
    for (; left; left--) {
        unsigned best = 0;
        double least = INFINITY;
        for (unsigned i = 0; i < p->n_node; i++) {
            double load = (double)p->node[i].n_thread / t->node[p->node[i].topo_node].n_core;
            if (load < least) {
                least = load;
                best = i;
            }
        }
        p->node[best].n_thread++;
    }
    for (unsigned i = 0; i < p->n_node; i++) {
        const struct crl_topo_node *n = &t->node[p->node[i].topo_node];
        p->node[i].first_thread = first;
        for (unsigned j = 0; j < p->node[i].n_thread; j++) {
            unsigned core = n->first_core + j % n->n_core;
            p->thread[first + j] = (struct crl_thread_plan){ t->core[core].cpu, core, i };
        }
        first += p->node[i].n_thread;
    }
}

static unsigned count_cores(const struct crl_topo *t, const bool *use)
{
    unsigned n = 0;

    for (unsigned i = 0; i < t->n_node; i++) n += use[i] ? t->node[i].n_core : 0;
    return n;
}

/* package: only that one; ALL_PACKAGES: all. */
static enum crl_status choose_nodes(struct crl_placement *p, const struct crl_topo *t,
                                    const struct crl_placement_options *o, unsigned package,
                                    struct crl_err *err)
{
    bool use[CRL_NODE_MAX] = { false };
    unsigned n_use = 0, n_core;

    for (unsigned i = 0; i < t->n_node; i++) {
        if (!t->node[i].n_core || (package != ALL_PACKAGES && t->node[i].package != package)) continue;
        use[i] = has_memory(t, i);
        n_use += use[i];
        if (!use[i])
            note(p, "node %u has no memory: its %u cores are not used", t->node[i].os, t->node[i].n_core);
    }
    if (!n_use) return crl_fail(err, CRL_EUNSUPPORTED, "%s: no node has both cores and memory", t->source);
    n_core = count_cores(t, use);
    p->n_thread = o->n_thread ? o->n_thread : crl_topo_threads(t);
    if (!o->n_thread && p->n_thread > n_core) p->n_thread = n_core;
    if (package != ALL_PACKAGES && p->n_thread > n_core) p->n_thread = n_core;
    if (p->n_thread > CRL_TEAM_MAX && !o->n_thread) {
        note(p, "%u cores, but a team has at most %d threads", p->n_thread, CRL_TEAM_MAX);
        p->n_thread = CRL_TEAM_MAX;
    }
    if (p->n_thread > CRL_TEAM_MAX)
        return crl_fail(err, CRL_ERANGE, "%u threads asked for, at most %d are supported", p->n_thread,
                        CRL_TEAM_MAX);
    if (p->n_thread < n_use) {
        note(p, "%u thread%s for %u nodes: %u node%s left out", p->n_thread, p->n_thread == 1 ? "" : "s",
             n_use, n_use - p->n_thread, n_use - p->n_thread == 1 ? " is" : "s are");
        drop_nodes(t, use, n_use, p->n_thread);
        n_use = p->n_thread;
        n_core = count_cores(t, use);
    }
    if (p->n_thread > n_core) note(p, "%u threads share %u cores", p->n_thread, n_core);
    if (n_use > CRL_TEAM_NODES_MAX)
        return crl_fail(err, CRL_EUNSUPPORTED, "%u nodes with cores, at most %d are supported", n_use,
                        CRL_TEAM_NODES_MAX);
    p->node = crl_alloc(n_use, sizeof *p->node);
    p->thread = crl_alloc(p->n_thread, sizeof *p->thread);
    if (!p->node || !p->thread) return crl_fail(err, CRL_ENOMEM, "no memory for a plan");
    for (unsigned i = 0; i < t->n_node; i++)
        if (use[i])
            p->node[p->n_node++] = (struct crl_node_plan){ .topo_node = i, .package = t->node[i].package };
    share_threads(p, t);
    return CRL_OK;
}

/* --- regions
 * ---------------------------------------------------------------------------------------------------------
 */

/* What the memory of topology node i delivers to its own cores. */
static double memory_bandwidth(const struct crl_topo *t, unsigned i, const struct crl_cost *c)
{
    const struct crl_topo_node *n = &t->node[i];
    unsigned same = 0;

    if (n->kind == CRL_MEMORY_DRAM && c->node_bandwidth > 0) return c->node_bandwidth;
    if (n->bandwidth > 0) return n->bandwidth;
    if (n->kind == CRL_MEMORY_FAR) return c->far_bandwidth;
    for (unsigned j = 0; j < t->n_node; j++)
        same += t->node[j].package == n->package && t->node[j].kind == n->kind && t->node[j].total_bytes;
    return (n->kind == CRL_MEMORY_HBM ? c->hbm_bandwidth : c->package_bandwidth) / (same ? same : 1);
}

static uint64_t room(uint64_t bytes)
{
    return (uint64_t)((double)bytes * ROOM);
}

/* One region per memory node that is near to a plan node, fastest kind first; or a single one. */
static enum crl_status make_regions(struct crl_placement *p, const struct crl_topo *t,
                                    const struct crl_cost *c, struct crl_err *err)
{
    static const enum crl_memory_kind order[] = { CRL_MEMORY_HBM, CRL_MEMORY_DRAM, CRL_MEMORY_FAR };
    bool placed = p->mode == CRL_NUMA_EXPERTS || p->mode == CRL_NUMA_ROWS;

    p->region = crl_alloc(t->n_node, sizeof *p->region);
    if (!p->region) return crl_fail(err, CRL_ENOMEM, "no memory for a plan");
    if (!placed) {
        p->n_region = 1;
        p->region[0] =
            (struct crl_region_plan){ .topo_node = -1, .interleave = p->mode == CRL_NUMA_INTERLEAVE };
    }
    for (unsigned i = 0; i < p->n_node; i++) {
        double best = 0, cores = p->node[i].n_thread;
        unsigned n_core = t->node[p->node[i].topo_node].n_core;
        if (cores > n_core) cores = n_core;
        for (unsigned k = 0; k < 3; k++)
            for (unsigned j = 0; j < t->n_node; j++) {
                double speed = memory_bandwidth(t, j, c);
                if (t->node[j].home != p->node[i].topo_node || t->node[j].kind != order[k] ||
                    !t->node[j].total_bytes)
                    continue;
                if (speed > cores * c->core_bandwidth) speed = cores * c->core_bandwidth;
                if (!(best > 0)) best = speed;
                if (placed)
                    p->region[p->n_region++] =
                        (struct crl_region_plan){ .topo_node = (int)j,
                                                  .node = i,
                                                  .room_bytes = room(t->node[j].free_bytes),
                                                  .bandwidth = speed };
                else if (k < 2 || p->mode == CRL_NUMA_OFF)
                    p->region[0].room_bytes += room(t->node[j].free_bytes);
            }
        p->node[i].bandwidth = best;
    }
    for (unsigned i = 0; !placed && i < p->n_node; i++) p->region[0].bandwidth += p->node[i].bandwidth;
    return CRL_OK;
}

/* --- sides
 * -----------------------------------------------------------------------------------------------------------
 */

static double total_bandwidth(const struct crl_placement *p)
{
    double sum = 0;

    for (unsigned i = 0; i < p->n_node; i++) sum += p->node[i].bandwidth;
    return sum;
}

/* Two sides of equal bandwidth in the order of the nodes; the node in the middle may belong to both. */
static void make_sides(struct crl_placement *p, const struct crl_config *cfg)
{
    double total = total_bandwidth(p), at = 0;
    bool moe = false;

    for (uint32_t l = 0; l < cfg->n_layer; l++) moe = moe || cfg->is_moe[l];
    p->n_side =
        p->mode == CRL_NUMA_EXPERTS && moe && p->node[0].package != p->node[p->n_node - 1].package ? 2 : 1;
    for (unsigned i = 0; i < p->n_node; i++) {
        double lo = at / total, hi = (at + p->node[i].bandwidth) / total;
        at += p->node[i].bandwidth;
        if (p->n_side == 1) {
            p->node[i].share[0] = hi - lo;
            continue;
        }
        if (fabs(lo - 0.5) < 1e-6) lo = 0.5; /* sums of equal numbers that were rounded */
        if (fabs(hi - 0.5) < 1e-6) hi = 0.5;
        p->node[i].share[0] = lo < 0.5 ? 2 * ((hi < 0.5 ? hi : 0.5) - lo) : 0;
        p->node[i].share[1] = hi > 0.5 ? 2 * (hi - (lo > 0.5 ? lo : 0.5)) : 0;
    }
    if (p->n_side == 1 && p->mode == CRL_NUMA_EXPERTS)
        note(p, moe ? "one package: experts are cut by rows, there is no second socket to pin them to"
                    : "the model has no experts: everything is cut by rows");
}

/* Node i's part of everything. */
static double whole_share(const struct crl_placement *p, unsigned i)
{
    return (p->node[i].share[0] + p->node[i].share[1]) / p->n_side;
}

/* Node i's units of n when side `side` (ANY_SIDE: all nodes) shares them out: [*lo, *hi). Cuts are rounded
 * sums, so that parts differ from their share by less than one unit and meet exactly. */
static void cut_units(const struct crl_placement *p, unsigned side, size_t n, unsigned node, size_t *lo,
                      size_t *hi)
{
    double from = 0, width = 0;
    bool later = false;

    for (unsigned i = 0; i <= node; i++) {
        from += width;
        width = side == ANY_SIDE ? whole_share(p, i) : p->node[i].share[side];
    }
    for (unsigned i = node + 1; i < p->n_node;
         i++) /* the last node of the side ends at n, whatever was rounded */
        later = later || (side == ANY_SIDE ? whole_share(p, i) : p->node[i].share[side]) > 0;
    *lo = (size_t)floor(from * (double)n + 0.5 - 1e-9);
    *hi = later ? (size_t)floor((from + width) * (double)n + 0.5 - 1e-9) : n;
    if (!(width > 0)) *hi = *lo;
    if (*hi > n) *hi = n;
    if (*lo > *hi) *lo = *hi;
}

static void cut_heads(struct crl_placement *p, uint64_t kv_bytes)
{
    uint64_t rest = kv_bytes;

    for (unsigned i = 0; i < p->n_node; i++) {
        size_t lo, hi;
        uint64_t bytes;
        cut_units(p, ANY_SIDE, p->n_kv_head, i, &lo, &hi);
        p->node[i].first_kv_head = (unsigned)lo;
        p->node[i].n_kv_head = (unsigned)(hi - lo);
        bytes = hi == p->n_kv_head ? rest : kv_bytes / p->n_kv_head * (hi - lo);
        if (hi == lo) bytes = 0;
        rest -= bytes;
        if (p->region[0].topo_node < 0) {
            p->region[0].kv_bytes += bytes;
            continue;
        }
        for (unsigned r = 0, last = 0; r < p->n_region;
             r++) { /* the fastest memory of the node that has room */
            bool final = r + 1 == p->n_region || p->region[r + 1].node != i;
            if (p->region[r].node != i || last) continue;
            if (bytes > p->region[r].room_bytes && !final) continue;
            p->region[r].kv_bytes = bytes;
            last = 1;
        }
    }
}

/* --- homes
 * -----------------------------------------------------------------------------------------------------------
 */

/* Which side each expert of a layer lives on: as many on either (the odd one in turn by layer); with counts,
 * the side that has less work takes the next busiest. */
static void make_homes(const struct crl_config *cfg, const double *routed, uint32_t layer, uint8_t *home,
                       uint32_t *order)
{
    uint32_t n = cfg->n_expert, most[2] = { n / 2, n / 2 }, have[2] = { 0, 0 };
    const double *count = routed ? routed + (size_t)layer * n : NULL;
    double load[2] = { 0, 0 };

    most[layer % 2] += n % 2;
    for (uint32_t e = 0; !count && e < n; e++) home[e] = (uint8_t)((e + layer) % 2);
    if (!count) return;
    for (uint32_t e = 0; e < n; e++) { /* by falling count, a stable insertion */
        uint32_t at = e;
        for (; at && count[order[at - 1]] < count[e]; at--) order[at] = order[at - 1];
        order[at] = e;
    }
    for (uint32_t i = 0; i < n; i++) {
        unsigned side = load[1] < load[0];
        if (have[side] == most[side]) side = !side;
        home[order[i]] = (uint8_t)side;
        have[side]++;
        load[side] += count[order[i]];
    }
}

/* --- slices
 * ----------------------------------------------------------------------------------------------------------
 */

static bool is_small(enum crl_kind kind)
{
    return (kind >= CRL_KIND_FINAL_NORM && kind <= CRL_KIND_ROUTER) ||
           (crl_kind_is_vision(kind) && !crl_kind_takes(kind, CRL_BF16));
}

static bool is_expert(enum crl_kind kind)
{
    return kind == CRL_KIND_EXPERT_GATE_UP || kind == CRL_KIND_EXPERT_DOWN;
}

static bool is_shared(enum crl_kind kind)
{
    return kind == CRL_KIND_SHARED_GATE_UP || kind == CRL_KIND_SHARED_DOWN;
}

static size_t n_panel_of(const struct crl_weight *w, enum crl_format f)
{
    return f == CRL_F32 ? 1 : crl_n_panel(w->n);
}

static size_t unit_of(enum crl_kind kind)
{
    return kind == CRL_KIND_SHARED_GATE_UP || kind == CRL_KIND_EXPERT_GATE_UP ||
                   kind == CRL_KIND_DENSE_GATE_UP
               ? UNIT_GATE_UP
               : 1;
}

static void choose_share(const struct crl_placement *p, enum crl_kind kind, unsigned home,
                         struct crl_weight_place *w)
{
    bool placed = p->region[0].topo_node >= 0;

    *w = (struct crl_weight_place){ .share = CRL_SHARE_SPLIT, .n_copy = 1 };
    if (placed && is_small(kind)) {
        w->share = CRL_SHARE_EACH_NODE;
        w->n_copy = (uint16_t)p->n_node;
    } else if (p->n_side == 2 && is_expert(kind)) {
        w->share = CRL_SHARE_HOME;
        w->home = (uint16_t)home;
    } else if (p->n_side == 2 && is_shared(kind)) {
        w->share = CRL_SHARE_EACH_SIDE;
        w->n_copy = 2;
    }
}

/* The panels of a copy that belong to a node. */
static void node_panels(const struct crl_placement *p, const struct crl_weight_place *w, enum crl_kind kind,
                        size_t n_panel, unsigned copy, unsigned node, size_t *lo, size_t *hi)
{
    size_t unit = unit_of(kind), n_unit = (n_panel + unit - 1) / unit;
    unsigned side = w->share == CRL_SHARE_HOME ? w->home : w->share == CRL_SHARE_EACH_SIDE ? copy : ANY_SIDE;

    if (w->share == CRL_SHARE_EACH_NODE) {
        *lo = 0;
        *hi = node == copy ? n_panel : 0;
        return;
    }
    cut_units(p, side, n_unit, node, lo, hi);
    *lo *= unit;
    *hi *= unit;
    if (*hi > n_panel) *hi = n_panel;
    if (*lo > *hi) *lo = *hi;
}

/* Where panel `panel` of a matrix begins in its extent; panel 0 begins with the header. */
static uint64_t panel_offset(const struct crl_layout *l, size_t weight, size_t panel, size_t n_panel)
{
    const struct crl_weight *w = &l->schema->weight[weight];

    if (!panel) return l->offset[weight];
    if (panel == n_panel) return l->offset[weight] + l->bytes[weight];
    return l->offset[weight] + crl_mat_header_bytes(l->format[weight]) +
           panel * crl_panel_bytes(l->format[weight], w->k);
}

/* Slices of all matrices; with p->slice NULL they are counted. */
static void list_slices(struct crl_placement *p, const struct crl_layout *l, const uint8_t *home)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n_weight; i++) {
        const struct crl_weight *w = &l->schema->weight[i];
        struct crl_weight_place *wp = &p->weight[i];
        size_t n_panel = n_panel_of(w, l->format[i]);
        unsigned at =
            w->expert < 0 ? 0 : home[(size_t)w->layer * l->schema->cfg.n_expert + (size_t)w->expert];

        choose_share(p, w->kind, at, wp);
        wp->first_slice = (uint32_t)n;
        for (unsigned copy = 0; copy < wp->n_copy; copy++)
            for (unsigned node = 0; node < p->n_node; node++) {
                size_t lo, hi;
                node_panels(p, wp, w->kind, n_panel, copy, node, &lo, &hi);
                if (lo == hi) continue;
                if (p->slice)
                    p->slice[n] = (struct crl_slice){ .weight = (uint32_t)i,
                                                      .copy = (uint16_t)copy,
                                                      .node = (uint16_t)node,
                                                      .panel_lo = (uint32_t)lo,
                                                      .panel_hi = (uint32_t)hi,
                                                      .offset = panel_offset(l, i, lo, n_panel),
                                                      .bytes = panel_offset(l, i, hi, n_panel) -
                                                               panel_offset(l, i, lo, n_panel) };
                n++;
            }
        wp->n_slice = (uint32_t)n - wp->first_slice;
    }
    p->n_slice = n;
}

/* End of what was put into a region last. */
struct cursor {
    uint64_t at;     /* bytes in the region */
    uint64_t offset; /* in the extent */
    uint32_t extent;
};

/* The fastest memory of the slice's node that still has room, else the last. */
static unsigned choose_region(const struct crl_placement *p, const struct crl_slice *s,
                              const struct cursor *cursor)
{
    unsigned best = 0;

    if (p->region[0].topo_node < 0) return 0;
    for (unsigned r = 0; r < p->n_region; r++) {
        const struct crl_region_plan *region = &p->region[r];
        uint64_t used = cursor[r].at + region->kv_bytes + 2 * PAGE;
        if (region->node != s->node) continue;
        best = r;
        if (used <= region->room_bytes && s->bytes <= region->room_bytes - used) break;
    }
    return best;
}

/* Give every slice its region and address. What every token reads goes first, so that it gets the faster
 * memory. */
static void put_slices(struct crl_placement *p, const struct crl_layout *l, struct cursor *cursor)
{
    bool placed = p->region[0].topo_node >= 0;

    for (unsigned r = 0; r < p->n_region; r++) cursor[r] = (struct cursor){ 0, 0, UINT32_MAX };
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < p->n_slice; i++) {
            struct crl_slice *s = &p->slice[i];
            const struct crl_weight *w = &l->schema->weight[s->weight];
            bool cold = is_expert(w->kind) || crl_kind_is_vision(w->kind) ||
                        (w->kind == CRL_KIND_EMBED && !l->schema->cfg.tied);
            struct cursor *c;

            if (placed ? cold != pass : pass) continue;
            s->region = (uint16_t)choose_region(p, s, cursor);
            c = &cursor[s->region];
            if (c->extent == w->extent && s->offset >= c->offset && s->offset - c->offset < CRL_ALIGN)
                s->at = c->at + (s->offset - c->offset);
            else s->at = (c->at + PAGE - 1) / PAGE * PAGE + s->offset % PAGE;
            *c = (struct cursor){ s->at + s->bytes, s->offset + s->bytes, w->extent };
            p->node[s->node].weight_bytes += s->bytes;
            if (s->copy) p->replica_bytes += s->bytes;
            else p->model_bytes += s->bytes;
        }
    for (unsigned r = 0; r < p->n_region; r++) p->region[r].bytes = (cursor[r].at + PAGE - 1) / PAGE * PAGE;
}

static enum crl_status make_slices(struct crl_placement *p, const struct crl_layout *l, const double *routed,
                                   struct crl_err *err)
{
    const struct crl_config *cfg = &l->schema->cfg;
    uint8_t *home = crl_alloc((size_t)cfg->n_layer * cfg->n_expert, sizeof *home);
    uint32_t *order = crl_alloc(cfg->n_expert, sizeof *order);
    struct cursor *cursor = crl_alloc(p->n_region, sizeof *cursor);
    bool made = home && order && cursor;

    p->weight = crl_alloc(p->n_weight, sizeof *p->weight);
    made = made && p->weight;
    for (uint32_t layer = 0; made && layer < cfg->n_layer; layer++)
        if (cfg->is_moe[layer]) make_homes(cfg, routed, layer, home + (size_t)layer * cfg->n_expert, order);
    if (made) list_slices(p, l, home);
    if (made) p->slice = crl_alloc(p->n_slice, sizeof *p->slice);
    made = made && p->slice;
    if (made) {
        list_slices(p, l, home);
        put_slices(p, l, cursor);
    }
    crl_free(home);
    crl_free(order);
    crl_free(cursor);
    return made ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a plan");
}

/* --- does it fit ---------------------------------------------------------------------------------------- */

static void check_room(struct crl_placement *p, const struct crl_topo *t)
{
    uint64_t all = 0;

    p->fits = true;
    for (unsigned r = 0; r < p->n_region; r++) {
        const struct crl_region_plan *g = &p->region[r];
        uint64_t need = g->bytes + g->kv_bytes;
        char where[32] = "the nodes";

        all += need;
        if (need <= g->room_bytes || !p->fits) continue;
        p->fits = false;
        if (g->topo_node >= 0) snprintf(where, sizeof where, "node %u", t->node[g->topo_node].os);
        snprintf(p->why, sizeof p->why, "mode %s needs %.1f GB on %s, %.1f GB are there",
                 crl_numa_name(p->mode), (double)need / 1e9, where, (double)g->room_bytes / 1e9);
    }
    if (!p->fits || all <= t->memory_limit) return;
    p->fits = false;
    snprintf(p->why, sizeof p->why, "mode %s needs %.1f GB, the control group leaves %.1f GB",
             crl_numa_name(p->mode), (double)all / 1e9, (double)t->memory_limit / 1e9);
}

/* --- the whole ------------------------------------------------------------------------------------------ */

static enum crl_status make_layout(struct crl_layout **l, const struct crl_schema *schema,
                                   const enum crl_format *format, struct crl_err *err)
{
    enum crl_status st = crl_layout_new(l, schema, err);

    if (st) return st;
    memcpy((*l)->format, format, schema->n_weight * sizeof *format);
    return crl_layout_compute(*l, err);
}

static enum crl_status plan_one(struct crl_placement **out, const struct crl_layout *l,
                                const struct crl_topo *topo, const struct crl_placement_options *o,
                                enum crl_numa mode, unsigned package, struct crl_err *err)
{
    struct crl_placement *p = crl_alloc(1, sizeof *p);
    struct crl_cost cost;
    enum crl_status st;

    *out = NULL;
    if (!p) return crl_fail(err, CRL_ENOMEM, "no memory for a plan");
    if (o->cost) cost = *o->cost;
    else crl_cost_default(&cost);
    p->mode = mode;
    p->n_weight = l->schema->n_weight;
    p->n_kv_head = l->schema->cfg.n_kv_head;
    st = choose_nodes(p, topo, o, package, err);
    if (!st) st = make_regions(p, topo, &cost, err);
    if (!st && !(total_bandwidth(p) > 0))
        st = crl_fail(err, CRL_ERANGE, "the cost model's bandwidths must be above 0");
    if (!st) {
        make_sides(p, &l->schema->cfg);
        cut_heads(p, o->kv_bytes);
        st = make_slices(p, l, o->routed, err);
    }
    if (st) {
        crl_placement_free(p);
        return st;
    }
    check_room(p, topo);
    crl_placement_predict(p, l, topo, o, &cost);
    *out = p;
    return CRL_OK;
}

/* Speed of one package alone, for comparison; 0 when it cannot be planned. */
static double one_socket(const struct crl_layout *l, const struct crl_topo *topo,
                         const struct crl_placement *p, const struct crl_placement_options *o)
{
    struct crl_placement *one;
    double speed;

    if (plan_one(&one, l, topo, o, CRL_NUMA_ROWS, p->node[0].package, NULL)) return 0;
    speed = one->speed.tokens_per_s;
    crl_placement_free(one);
    return speed;
}

/* The fastest that fits, a more elaborate one only if it gains 1%; if none fits, the one that needs least. */
static enum crl_status plan_best(struct crl_placement **out, const struct crl_layout *l,
                                 const struct crl_topo *topo, const struct crl_placement_options *o,
                                 struct crl_err *err)
{
    static const enum crl_numa mode[] = { CRL_NUMA_OFF, CRL_NUMA_INTERLEAVE, CRL_NUMA_ROWS,
                                          CRL_NUMA_EXPERTS };
    struct crl_placement *best = NULL, *p;

    for (size_t i = 0; i < sizeof mode / sizeof *mode; i++) {
        enum crl_status st = plan_one(&p, l, topo, o, mode[i], ALL_PACKAGES, err);
        if (st) {
            crl_placement_free(best);
            return st;
        }
        if (!best || (p->fits && (!best->fits || p->speed.tokens_per_s > 1.01 * best->speed.tokens_per_s))) {
            crl_placement_free(best);
            best = p;
        } else crl_placement_free(p);
    }
    *out = best;
    return CRL_OK;
}

enum crl_status crl_placement_new(struct crl_placement **out, const struct crl_schema *schema,
                                  const enum crl_format *format, const struct crl_topo *topo,
                                  const struct crl_placement_options *options, struct crl_err *err)
{
    struct crl_layout *l = NULL;
    enum crl_status st = make_layout(&l, schema, format, err);

    *out = NULL;
    if (!st && options->mode == CRL_NUMA_AUTO) st = plan_best(out, l, topo, options, err);
    else if (!st) st = plan_one(out, l, topo, options, options->mode, ALL_PACKAGES, err);
    if (!st) {
        double one = one_socket(l, topo, *out, options);
        if (one > 0) (*out)->speed.speedup_vs_one_socket = (*out)->speed.tokens_per_s / one;
    }
    crl_layout_free(l);
    return st;
}

void crl_placement_free(struct crl_placement *p)
{
    if (!p) return;
    crl_free(p->node);
    crl_free(p->region);
    crl_free(p->thread);
    crl_free(p->weight);
    crl_free(p->slice);
    crl_free(p);
}

const struct crl_slice *crl_placement_slice(const struct crl_placement *p, size_t weight, unsigned copy,
                                            unsigned node)
{
    const struct crl_weight_place *w = &p->weight[weight];

    for (uint32_t i = w->first_slice; i < w->first_slice + w->n_slice; i++)
        if (p->slice[i].copy == copy && p->slice[i].node == node) return &p->slice[i];
    return NULL;
}

void crl_placement_panels(const struct crl_placement *p, const struct crl_schema *s, size_t weight,
                          unsigned copy, unsigned t, size_t *lo, size_t *hi)
{
    const struct crl_node_plan *node = &p->node[p->thread[t].node];
    const struct crl_slice *slice = crl_placement_slice(p, weight, copy, p->thread[t].node);
    size_t unit = unit_of(s->weight[weight].kind), n_unit, me = t - node->first_thread, each, rest;

    *lo = *hi = 0;
    if (!slice) return;
    n_unit = (slice->panel_hi - slice->panel_lo + unit - 1) / unit;
    each = n_unit / node->n_thread;
    rest = n_unit % node->n_thread;
    *lo = slice->panel_lo + unit * (me * each + (me < rest ? me : rest));
    *hi = *lo + unit * (each + (me < rest));
    if (*hi > slice->panel_hi) *hi = slice->panel_hi;
    if (*lo > *hi) *lo = *hi;
}

size_t crl_placement_shared_cut(const double cost[2], double shared, size_t n_unit)
{
    double part = shared > 0 ? (cost[1] - cost[0] + shared) / 2 / shared : 0;

    if (!(part > 0)) return 0;
    return part >= 1 ? n_unit : (size_t)(part * (double)n_unit + 0.5);
}

/* --- advice
 * ----------------------------------------------------------------------------------------------------------
 */

static bool would_fit(const struct crl_schema *s, const enum crl_format *format, const struct crl_topo *t,
                      const struct crl_placement_options *o)
{
    struct crl_placement *p = NULL;
    bool fits = !crl_placement_new(&p, s, format, t, o, NULL) && p->fits;

    crl_placement_free(p);
    return fits;
}

static bool recipe_fits(const struct crl_schema *s, const char *name, const struct crl_topo *t,
                        const struct crl_placement_options *o)
{
    struct crl_recipe r;
    enum crl_format *format = crl_alloc(s->n_weight, sizeof *format);
    bool fits = format && !crl_recipe_parse(&r, name, NULL, 0, NULL);

    for (size_t i = 0; fits && i < s->n_weight; i++) format[i] = crl_recipe_format(&r, &s->weight[i]);
    fits = fits && would_fit(s, format, t, o);
    crl_free(format);
    return fits;
}

void crl_placement_advise(const struct crl_schema *schema, const enum crl_format *format,
                          const struct crl_topo *topo, const struct crl_placement_options *options,
                          char *text, size_t size)
{
    static const char *const recipe[] = { "q8", "q4" };
    struct crl_placement_options o = *options;

    text[0] = 0;
    for (int m = CRL_NUMA_EXPERTS; options->mode != CRL_NUMA_AUTO && m < CRL_NUMA_END; m++) {
        o.mode = (enum crl_numa)m;
        if (o.mode == options->mode || !would_fit(schema, format, topo, &o)) continue;
        snprintf(text, size, "mode %s would fit", crl_numa_name(o.mode));
        return;
    }
    o = *options;
    for (size_t i = 0; i < sizeof recipe / sizeof *recipe; i++)
        for (int any = options->mode == CRL_NUMA_AUTO; any < 2; any++) { /* the same mode, then any */
            if (any) o.mode = CRL_NUMA_AUTO;
            else o.mode = options->mode;
            if (!recipe_fits(schema, recipe[i], topo, &o)) continue;
            snprintf(text, size, "recipe %s would fit%s%s", recipe[i], any ? "" : " in mode ",
                     any ? "" : crl_numa_name(o.mode));
            return;
        }
    o = *options;
    o.kv_bytes = 0;
    o.mode = CRL_NUMA_AUTO;
    if (options->kv_bytes && would_fit(schema, format, topo, &o))
        snprintf(text, size, "a shorter context would fit");
}
