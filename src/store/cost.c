/* cost.c - how fast a plan will be. docs/numa.md, "The cost model", has the equations and where each number
 * comes from.
 *
 * A token goes through steps that end at joins: per layer QKV, attention, output, gate-up, down; then the
 * head. A step lasts as long as its slowest node takes to read its part of the weights, plus what every
 * thread does for itself: fetch the activations that others wrote, norm and quantise them, route. */
#include "store/plan_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SUSTAINED 0.82 /* of a data sheet's bandwidth, when nothing was measured */
#define JOINS_PER_LAYER 5
#define PIECE 512 /* tokens of a prompt that pass together */

void crl_cost_default(struct crl_cost *c)
{
    memset(c, 0, sizeof *c);
    crl_cost_memory(c, "ddr5-4800x8", NULL);
    c->hbm_bandwidth = 800e9;
    c->far_bandwidth = 25e9;
    c->core_bandwidth = 12e9;
    c->link_bandwidth = 100e9;
    c->kernel_fraction = 0.93;
    c->exchange_near = 10e9;
    c->exchange_far = 4e9;
    c->join_core = 40e-9;
    c->join_node = 300e-9;
    c->core_act = 4e9;
    c->head_s = 5e-6;
    c->core_ops = 0.6e12;
    c->ops_fraction = 0.62;
    c->core_flops = 0.15e12;
    c->flops_fraction = 0.37;
}

enum crl_status crl_cost_memory(struct crl_cost *c, const char *name, struct crl_err *err)
{
    unsigned generation = 0, rate = 0, channels = 0;
    int end = 0;

    if (sscanf(name, "ddr%1u-%5ux%2u%n", &generation, &rate, &channels, &end) != 3 || name[end] ||
        generation < 3 || generation > 6 || rate < 800 || rate > 20000 || channels < 1 || channels > 32)
        return crl_fail(
            err, CRL_ERANGE,
            "memory \"%.40s\" does not read like ddr5-4800x8: transfers per microsecond and channels of a "
            "package",
            name);
    snprintf(c->memory, sizeof c->memory, "%s", name);
    c->package_peak = 8.0 * rate * 1e6 * channels; /* a channel is 64 bits wide */
    c->package_bandwidth = SUSTAINED * c->package_peak;
    return CRL_OK;
}

/* --- reading weights ------------------------------------------------------------------------------------ */

enum step { STEP_QKV, STEP_O, STEP_GATE_UP, STEP_DOWN, STEP_HEAD, STEP_END };

/* Seconds per node and step of the layer at hand. */
struct work {
    const struct crl_placement *p;
    const struct crl_layout *l;
    const struct crl_cost *c;
    unsigned n_package;
    double batch;
    double part[2];              /* tokens go to experts of side i this often */
    double *fixed[STEP_END];     /* [n_node] s for what every token reads */
    double *routed[2][STEP_END]; /* [n_node] s for the mean expert of home i, by its own readers */
    double *shared[2][STEP_END]; /* [n_node] s for copy i of the shared expert */
    double bytes[STEP_END];      /* of all nodes: for memory that is not placed */
    double *memory;
};

static int step_of(enum crl_kind kind, bool tied)
{
    switch (kind) {
    case CRL_KIND_Q:
    case CRL_KIND_K:
    case CRL_KIND_V:
        return STEP_QKV;
    case CRL_KIND_O:
        return STEP_O;
    case CRL_KIND_SHARED_GATE_UP:
    case CRL_KIND_EXPERT_GATE_UP:
    case CRL_KIND_DENSE_GATE_UP:
        return STEP_GATE_UP;
    case CRL_KIND_SHARED_DOWN:
    case CRL_KIND_EXPERT_DOWN:
    case CRL_KIND_DENSE_DOWN:
        return STEP_DOWN;
    case CRL_KIND_HEAD:
        return STEP_HEAD;
    case CRL_KIND_EMBED:
        return tied ? STEP_HEAD : STEP_END;
    default:
        return STEP_END;
    }
}

static bool placed(const struct crl_placement *p)
{
    return p->region[0].topo_node >= 0;
}

/* How often an expert is read in a step of decoding. */
static double expert_weight(const struct work *w, const struct crl_weight *m, const double *routed)
{
    const struct crl_config *cfg = &w->l->schema->cfg;
    double share = 1.0 / cfg->n_expert, sum = 0;

    if (routed) {
        const double *count = routed + (size_t)m->layer * cfg->n_expert;
        for (uint32_t e = 0; e < cfg->n_expert; e++) sum += count[e];
        if (sum > 0) share = count[m->expert] / sum;
    }
    share *= cfg->n_expert_used;
    if (share > 1) share = 1;
    return w->batch > 1 ? 1 - pow(1 - share, w->batch) : share;
}

static void add_slice(struct work *w, const struct crl_slice *s, enum step step, double times)
{
    const struct crl_weight_place *wp = &w->p->weight[s->weight];
    double t = (double)s->bytes * times / (w->p->region[s->region].bandwidth * w->c->kernel_fraction);

    if (wp->share == CRL_SHARE_HOME) w->routed[wp->home][step][s->node] += t;
    else if (wp->share == CRL_SHARE_EACH_SIDE) w->shared[s->copy][step][s->node] += t;
    else w->fixed[step][s->node] += t;
    w->bytes[step] += (double)s->bytes * times;
}

static double slowest(const struct work *w, const double *a, double fa, const double *b, double fb,
                      const double *c, double fc)
{
    double most = 0;

    for (unsigned i = 0; i < w->p->n_node; i++) {
        double t = a[i] * fa + b[i] * fb + c[i] * fc;
        if (t > most) most = t;
    }
    return most;
}

/* Memory that is not placed: all nodes wait for the same memory and the same links. */
static double unplaced_time(const struct work *w, double bytes)
{
    const struct crl_placement *p = w->p;
    double remote = (double)(w->n_package - 1) / w->n_package, memory, link;

    if (p->mode == CRL_NUMA_INTERLEAVE) {
        memory = bytes / p->region[0].bandwidth;
        link = bytes * remote / w->n_package / w->c->link_bandwidth;
    } else { /* everything lies on the package of the thread that put it there */
        double one = 0;
        for (unsigned i = 0; i < p->n_node; i++)
            if (p->node[i].package == p->node[0].package) one += p->node[i].bandwidth;
        memory = bytes / one;
        link = bytes * remote / w->c->link_bandwidth;
    }
    return (memory > link ? memory : link) / w->c->kernel_fraction;
}

static double step_time(const struct work *w, enum step s)
{
    double pair[2], sum = w->part[0] + w->part[1];

    if (!placed(w->p)) return unplaced_time(w, w->bytes[s]);
    if (w->p->n_side == 1 || s < STEP_GATE_UP || s > STEP_DOWN)
        return slowest(w, w->fixed[s], 1, w->shared[0][s], 1, w->routed[0][s], 1);
    if (w->batch <= 1 &&
        w->l->schema->cfg.n_expert_used == 1) { /* the other side computes the shared expert */
        for (unsigned side = 0; side < 2; side++)
            pair[side] = slowest(w, w->fixed[s], 1, w->shared[!side][s], 1, w->routed[side][s],
                                 w->part[side] > 0 ? sum / w->part[side] : 0);
        return sum > 0 ? (pair[0] * w->part[0] + pair[1] * w->part[1]) / sum
                       : slowest(w, w->fixed[s], 1, w->shared[0][s], 1, w->routed[0][s], 1);
    }
    { /* several: the shared expert evens the sides as far as it reaches */
        double cost[2] = { slowest(w, w->routed[0][s], 1, w->fixed[s], 0, w->fixed[s], 0),
                           slowest(w, w->routed[1][s], 1, w->fixed[s], 0, w->fixed[s], 0) };
        double all = slowest(w, w->shared[0][s], 1, w->fixed[s], 0, w->fixed[s], 0);
        double even = (cost[0] + cost[1] + all) / 2, most = cost[0] > cost[1] ? cost[0] : cost[1];
        return slowest(w, w->fixed[s], 1, w->fixed[s], 0, w->fixed[s], 0) + (even > most ? even : most);
    }
}

static void clear_layer(struct work *w)
{
    size_t n = (size_t)5 * STEP_END * w->p->n_node;

    memset(w->memory, 0, n * sizeof *w->memory);
    memset(w->bytes, 0, sizeof w->bytes);
    w->part[0] = w->part[1] = 0;
}

static bool begin(struct work *w, const struct crl_placement *p)
{
    double *at = crl_alloc((size_t)5 * STEP_END * p->n_node, sizeof *at);

    w->memory = at;
    for (int s = 0; at && s < STEP_END; s++) {
        w->fixed[s] = at;
        w->routed[0][s] = at + p->n_node;
        w->routed[1][s] = at + 2 * p->n_node;
        w->shared[0][s] = at + 3 * p->n_node;
        w->shared[1][s] = at + 4 * p->n_node;
        at += (size_t)5 * p->n_node;
    }
    for (unsigned i = 0; i < p->n_node; i++)
        w->n_package += !i || p->node[i].package != p->node[i - 1].package;
    return w->memory != NULL;
}

/* Seconds of reading weights of a step of decoding; *bytes of them. The schema lists weights layer by layer.
 */
static double weights_time(struct work *w, const double *routed, double *bytes)
{
    const struct crl_schema *s = w->l->schema;
    double sum = 0;
    int32_t layer = -1;

    *bytes = 0;
    clear_layer(w);
    for (size_t i = 0; i <= s->n_weight; i++) {
        const struct crl_weight *m = &s->weight[i];
        const struct crl_weight_place *wp = &w->p->weight[i];
        double times = 1;
        int step;

        if (i == s->n_weight || m->layer != layer) {
            for (int k = 0; k < STEP_END; k++) sum += step_time(w, (enum step)k);
            clear_layer(w);
        }
        if (i == s->n_weight) break;
        layer = m->layer;
        step = step_of(m->kind, s->cfg.tied);
        if (step == STEP_END) continue;
        if (m->expert >= 0) times = expert_weight(w, m, routed);
        if (m->expert >= 0 && m->kind == CRL_KIND_EXPERT_GATE_UP) w->part[wp->home] += times;
        for (uint32_t j = 0; j < wp->n_slice; j++)
            add_slice(w, &w->p->slice[wp->first_slice + j], (enum step)step, times);
        *bytes += (double)w->l->bytes[i] * times;
    }
    return sum;
}

/* What each node reads for one token, the mean over experts: half of a side's copy of the shared expert,
 * because the expert's home is the other side every second time. */
static void count_token_bytes(struct crl_placement *p, const struct work *w, const double *routed)
{
    const struct crl_schema *s = w->l->schema;

    for (size_t i = 0; i < p->n_slice; i++) {
        const struct crl_slice *c = &p->slice[i];
        const struct crl_weight *m = &s->weight[c->weight];
        double times = m->expert >= 0 ? expert_weight(w, m, routed) : 1;

        if ((m->kind == CRL_KIND_EMBED && !s->cfg.tied) || crl_kind_is_vision(m->kind)) continue;
        if (p->weight[c->weight].share == CRL_SHARE_EACH_SIDE) times = 0.5;
        p->node[c->node].token_bytes += (uint64_t)((double)c->bytes * times);
    }
}

/* --- everything else ------------------------------------------------------------------------------------ */

/* A thread reads a vector of `bytes` that all threads (of its side, when `sided`) wrote: its own part is in
 * its cache, the rest comes from cores of its package and of others. */
static double fetch(const struct work *w, double bytes, bool sided)
{
    const struct crl_placement *p = w->p;
    double worst = 0, n = 0, near = 0;

    for (unsigned i = 0; i < p->n_node; i++) {
        n = near = 0;
        for (unsigned j = 0; j < p->n_node; j++) {
            double there = p->node[j].n_thread;
            if (sided &&
                !(p->node[i].share[0] * p->node[j].share[0] + p->node[i].share[1] * p->node[j].share[1] > 0))
                continue;
            n += there;
            if (p->node[i].package == p->node[j].package) near += there;
        }
        {
            double t = bytes * ((near - 1) / n / w->c->exchange_near + (n - near) / n / w->c->exchange_far);
            if (t > worst) worst = t;
        }
    }
    return worst;
}

/* One side computes the chosen expert, the other the shared one, and neither looks at the other before the
 * end. */
static bool paired(const struct work *w, uint32_t layer)
{
    return w->p->n_side == 2 && w->l->schema->cfg.is_moe[layer] && w->l->schema->cfg.n_expert_used == 1 &&
           w->batch <= 1;
}

/* Vectors that cross between cores in a layer, and what every thread computes on them for itself. */
static void layer_overhead(const struct work *w, uint32_t layer, struct crl_speed *out)
{
    const struct crl_config *cfg = &w->l->schema->cfg;
    const struct crl_placement *p = w->p;
    bool moe = cfg->is_moe[layer], pair = paired(w, layer);
    double d = cfg->d_model, d_q = (double)cfg->n_head * cfg->d_head;
    double mid = moe ? (double)cfg->d_ff * (pair ? 1 : 1 + cfg->n_expert_used) : cfg->d_ff_dense;
    double values = 2 * d + d_q + mid, shared_out = w->batch > 1 ? w->batch / p->n_thread : 1;
    double small = 8 * d + (moe ? 2 * d * cfg->n_expert : 0);

    if (shared_out < 1 && w->batch > 1) shared_out = 1; /* the busiest thread has a whole row */
    out->exchange_s += shared_out * (fetch(w, 4 * (2 * d + d_q), false) + fetch(w, 4 * mid, pair));
    out->small_s += shared_out * values / w->c->core_act + small / w->c->core_bandwidth;
}

/* One join of all threads, or of those of a node alone. */
static double join_time(const struct work *w, bool alone)
{
    const struct crl_placement *p = w->p;
    unsigned most = 0;

    for (unsigned i = 0; i < p->n_node; i++)
        if (p->node[i].n_thread > most) most = p->node[i].n_thread;
    if (p->n_thread == 1) return 0;
    return most * w->c->join_core + (p->n_node > 1 && !alone ? p->n_node * w->c->join_node : 0);
}

/* QKV, attention, output, gate-up, down. With a node per side nobody waits for the other one between gate-up
 * and down; outputs of two sides are added after one join more. */
static double layer_joins(const struct work *w, uint32_t layer)
{
    bool apart = w->p->n_side == 2 && w->l->schema->cfg.is_moe[layer];

    return (JOINS_PER_LAYER - 1 + apart) * join_time(w, false) +
           join_time(w, paired(w, layer) && w->p->n_node == 2);
}

/* Keys and values of a layer at position n_ctx: the threads of a node share those of its heads. */
static double cache_time(const struct work *w, uint32_t layer, const struct crl_placement_options *o)
{
    const struct crl_config *cfg = &w->l->schema->cfg;
    size_t seen = cfg->uses_rope[layer] && cfg->chunk ? o->n_ctx % cfg->chunk : o->n_ctx;
    double head = 2.0 * (double)seen * cfg->d_head * (o->kv_value_bytes ? o->kv_value_bytes : 2), worst = 0;

    for (unsigned i = 0; i < w->p->n_node; i++) {
        const struct crl_node_plan *n = &w->p->node[i];
        unsigned heads = n->n_kv_head, turns = (heads + n->n_thread - 1) / n->n_thread;
        double t = turns * w->c->head_s + heads * head / n->bandwidth;
        if (t > worst) worst = t;
    }
    return worst * w->batch;
}

/* Seconds for n tokens at once, bound by multiplying: all matrices but the head, and attention. */
static double compute_time(const struct work *w, const struct crl_topo *topo, double n, double visible)
{
    const struct crl_schema *s = w->l->schema;
    const struct crl_config *cfg = &s->cfg;
    double ops = 0, flops = 0, cores = 0;

    for (size_t i = 0; i < s->n_weight; i++) {
        const struct crl_weight *m = &s->weight[i];
        int step = step_of(m->kind, cfg->tied);
        double times = m->expert >= 0 ? (double)cfg->n_expert_used / cfg->n_expert : 1;
        if (step < STEP_HEAD) ops += 2.0 * m->n_real * m->k * times * n;
    }
    flops = 4.0 * visible * cfg->n_head * cfg->d_head * cfg->n_layer * n;
    for (unsigned i = 0; i < w->p->n_node; i++) {
        unsigned n_core = topo->node[w->p->node[i].topo_node].n_core, n_thread = w->p->node[i].n_thread;
        cores += n_thread < n_core ? n_thread : n_core;
    }
    return ops / (cores * w->c->core_ops * w->c->ops_fraction) +
           flops / (cores * w->c->core_flops * w->c->flops_fraction);
}

static double prefill_speed(struct work *w, const struct crl_topo *topo,
                            const struct crl_placement_options *o)
{
    double n = o->n_prompt ? (double)o->n_prompt : PIECE, piece = n < PIECE ? n : PIECE, bytes, read,
           multiply;

    w->batch = piece;
    read = weights_time(w, o->routed, &bytes) * ceil(n / piece);
    multiply = compute_time(w, topo, n, n / 2);
    return n / (read > multiply ? read : multiply);
}

void crl_placement_predict(struct crl_placement *p, const struct crl_layout *l, const struct crl_topo *topo,
                           const struct crl_placement_options *o, const struct crl_cost *c)
{
    struct work w = { .p = p, .l = l, .c = c, .batch = 1 };
    struct crl_speed *s = &p->speed;
    double bytes, multiply, total;

    if (!begin(&w, p)) return; /* the speed stays 0: nothing was predicted */
    count_token_bytes(p, &w, o->routed);
    w.batch = o->batch > 1 ? o->batch : 1;
    s->weights_s = weights_time(&w, o->routed, &bytes);
    multiply = w.batch > 1 ? compute_time(&w, topo, w.batch, 0) : 0;
    if (multiply > s->weights_s) s->weights_s = multiply;
    for (uint32_t i = 0; i < l->schema->cfg.n_layer; i++) {
        s->cache_s += cache_time(&w, i, o);
        s->join_s += layer_joins(&w, i);
        layer_overhead(&w, i, s);
    }
    s->join_s += join_time(&w, false);
    total = s->weights_s + s->cache_s + s->exchange_s + s->small_s + s->join_s;
    s->tokens_per_s = w.batch / total;
    s->bandwidth = bytes / total;
    for (unsigned i = 0; i < p->n_node; i++) s->aggregate += p->node[i].bandwidth;
    s->prefill_per_s = prefill_speed(&w, topo, o);
    crl_free(w.memory);
}
