/* test_plan.c - placing models on many machines: what must hold on all of them, and what on some. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/team.h"
#include "bench/synthetic.h"
#include "store/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(a) (sizeof(a) / sizeof *(a))

static struct crl_topo *load(const char *text)
{
    struct crl_topo *t = NULL;
    struct crl_err err = { "" };
    char path[1024];
    const char *src = getenv("srcdir");

    snprintf(path, sizeof path, "%s/tests/unit/topo/%s", src ? src : ".", text);
    if (strstr(text, ".xml")) text = path;
    if (crl_topo_load(&t, text, &err)) fail_msg("%s: %s", text, err.text);
    return t;
}

/* A model without weights. */
struct model {
    struct crl_schema *s;
    enum crl_format *format;
};

static struct model make(const char *name, uint32_t n_layer, const char *recipe)
{
    struct model m = { NULL, NULL };
    struct crl_config cfg;
    struct crl_recipe r;

    assert_int_equal(crl_synthetic_config(&cfg, name, n_layer, NULL), CRL_OK);
    assert_int_equal(crl_schema_build(&m.s, &cfg, NULL), CRL_OK);
    assert_int_equal(crl_recipe_parse(&r, recipe, NULL, 0, NULL), CRL_OK);
    m.format = crl_alloc(m.s->n_weight, sizeof *m.format);
    for (size_t i = 0; i < m.s->n_weight; i++) m.format[i] = crl_recipe_format(&r, &m.s->weight[i]);
    return m;
}

static void unmake(struct model *m)
{
    crl_schema_free(m->s);
    crl_free(m->format);
}

static struct crl_placement *plan(const struct model *m, const struct crl_topo *t, enum crl_numa mode, unsigned threads)
{
    struct crl_placement_options o = { .mode = mode, .n_thread = threads, .kv_bytes = 123456789 };
    struct crl_placement *p = NULL;
    struct crl_err err = { "" };

    if (crl_placement_new(&p, m->s, m->format, t, &o, &err)) fail_msg("%s: %s", t->source, err.text);
    return p;
}

/* --- what must hold everywhere ---------------------------------------------------------------------------- */

static bool is_expert(enum crl_kind k)
{
    return k == CRL_KIND_EXPERT_GATE_UP || k == CRL_KIND_EXPERT_DOWN;
}

static bool is_shared(enum crl_kind k)
{
    return k == CRL_KIND_SHARED_GATE_UP || k == CRL_KIND_SHARED_DOWN;
}

/* Norms, biases, routers. */
static bool is_small(enum crl_kind k)
{
    return k >= CRL_KIND_FINAL_NORM && k <= CRL_KIND_ROUTER;
}

static size_t n_panel(const struct model *m, size_t i)
{
    return m->format[i] == CRL_F32 ? 1 : crl_n_panel(m->s->weight[i].n);
}

/* Every copy of every matrix: its slices are all of its panels and all of its bytes, once, in order. */
static void check_slices(const struct model *m, const struct crl_placement *p)
{
    uint64_t once = 0, again = 0;
    size_t seen = 0;

    assert_int_equal(p->n_weight, m->s->n_weight);
    for (size_t i = 0; i < p->n_weight; i++) {
        const struct crl_weight_place *w = &p->weight[i];
        uint64_t bytes, at = 0, first = 0;
        uint32_t next = 0;

        assert_true(crl_mat_bytes(m->format[i], m->s->weight[i].n, m->s->weight[i].k, &bytes));
        assert_int_equal(w->first_slice, seen);
        for (unsigned copy = 0; copy < w->n_copy; copy++) {
            size_t panel = 0;
            uint64_t sum = 0;
            for (; next < w->n_slice && p->slice[w->first_slice + next].copy == copy; next++) {
                const struct crl_slice *c = &p->slice[w->first_slice + next];
                assert_int_equal(c->weight, i);
                assert_int_equal(c->panel_lo, panel);
                assert_true(c->panel_hi > c->panel_lo && c->node < p->n_node && c->region < p->n_region);
                if (!panel && !copy) first = c->offset;
                assert_int_equal(c->offset, panel ? at : first);
                assert_int_equal(c->at % 4096, c->offset % 4096);
                assert_true(c->at + c->bytes <= p->region[c->region].bytes);
                assert_ptr_equal(crl_placement_slice(p, i, copy, c->node), c);
                at = c->offset + c->bytes;
                panel = c->panel_hi;
                sum += c->bytes;
            }
            assert_int_equal(panel, n_panel(m, i));
            assert_int_equal(sum, bytes);
            *(copy ? &again : &once) += sum;
        }
        assert_int_equal(next, w->n_slice);
        seen += next;
    }
    assert_int_equal(seen, p->n_slice);
    assert_int_equal(once, p->model_bytes);
    assert_int_equal(again, p->replica_bytes);
}

/* Copies exist where the mode says and nowhere else, each on the nodes it is for. */
static void check_copies(const struct model *m, const struct crl_placement *p)
{
    bool placed = p->mode == CRL_NUMA_EXPERTS || p->mode == CRL_NUMA_ROWS;

    for (size_t i = 0; i < p->n_weight; i++) {
        const struct crl_weight_place *w = &p->weight[i];
        enum crl_kind k = m->s->weight[i].kind;
        enum crl_share want = CRL_SHARE_SPLIT;

        if (placed && is_small(k)) want = CRL_SHARE_EACH_NODE;
        else if (p->n_side == 2 && is_expert(k)) want = CRL_SHARE_HOME;
        else if (p->n_side == 2 && is_shared(k)) want = CRL_SHARE_EACH_SIDE;
        assert_int_equal(w->share, want);
        assert_int_equal(w->n_copy, want == CRL_SHARE_EACH_NODE ? p->n_node : want == CRL_SHARE_EACH_SIDE ? 2 : 1);
        for (uint32_t j = 0; j < w->n_slice; j++) {
            const struct crl_slice *c = &p->slice[w->first_slice + j];
            if (want == CRL_SHARE_EACH_NODE) assert_int_equal(c->node, c->copy);
            if (want == CRL_SHARE_HOME) assert_true(p->node[c->node].share[w->home] > 0);
            if (want == CRL_SHARE_EACH_SIDE) assert_true(p->node[c->node].share[c->copy] > 0);
            if (placed) assert_int_equal(p->region[c->region].node, c->node);
        }
    }
}

static int by_address(const void *a, const void *b)
{
    const struct crl_slice *x = a, *y = b;

    if (x->region != y->region) return x->region < y->region ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* No two slices overlap in memory, and little is lost between them. */
static void check_addresses(const struct crl_placement *p)
{
    struct crl_slice *s = crl_alloc(p->n_slice, sizeof *s);
    uint64_t bytes = 0;

    memcpy(s, p->slice, p->n_slice * sizeof *s);
    qsort(s, p->n_slice, sizeof *s, by_address);
    for (size_t i = 1; i < p->n_slice; i++)
        if (s[i].region == s[i - 1].region) assert_true(s[i].at >= s[i - 1].at + s[i - 1].bytes);
    for (unsigned r = 0; r < p->n_region; r++) bytes += p->region[r].bytes;
    assert_true(bytes >= p->model_bytes + p->replica_bytes);
    assert_true(bytes <= p->model_bytes + p->replica_bytes + p->n_slice * 8192);
    crl_free(s);
}

static int by_number(const void *a, const void *b)
{
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : *(const uint32_t *)a > *(const uint32_t *)b;
}

/* Every panel of a copy is computed by exactly one thread, on the node where its slice is. */
static void check_work(const struct model *m, const struct crl_placement *p, size_t i)
{
    const struct crl_weight_place *w = &p->weight[i];
    size_t n = n_panel(m, i), unit = 1;
    uint8_t *done = crl_alloc(n, 1);

    if (m->s->weight[i].kind >= CRL_KIND_SHARED_GATE_UP && m->s->weight[i].kind % 2) unit = 4;
    for (unsigned copy = 0; copy < w->n_copy; copy++) {
        memset(done, 0, n);
        for (unsigned t = 0; t < p->n_thread; t++) {
            size_t lo, hi;
            crl_placement_panels(p, m->s, i, copy, t, &lo, &hi);
            assert_true(lo <= hi && hi <= n);
            if (lo < hi) assert_int_equal(lo % unit, 0);
            if (lo < hi && hi < n) assert_int_equal(hi % unit, 0);
            for (size_t j = lo; j < hi; j++) assert_int_equal(done[j]++, 0);
        }
        for (size_t j = 0; j < n; j++) assert_int_equal(done[j], 1);
    }
    crl_free(done);
}

static void check_threads(const struct crl_topo *t, const struct crl_placement *p)
{
    unsigned next = 0, head = 0;
    double side[2] = { 0, 0 };
    uint32_t *cpu = crl_alloc(p->n_thread, sizeof *cpu);

    for (unsigned i = 0; i < p->n_node; i++) {
        const struct crl_node_plan *n = &p->node[i];
        assert_int_equal(n->first_thread, next);
        assert_true(n->n_thread > 0);
        next += n->n_thread;
        if (n->n_kv_head) assert_int_equal(n->first_kv_head, head);
        head += n->n_kv_head;
        side[0] += n->share[0];
        side[1] += n->share[1];
        for (unsigned j = n->first_thread; j < next; j++) {
            assert_int_equal(p->thread[j].node, i);
            assert_int_equal(t->core[p->thread[j].core].node, n->topo_node);
            assert_int_equal(t->core[p->thread[j].core].cpu, p->thread[j].cpu);
            cpu[j] = p->thread[j].core;
        }
    }
    assert_int_equal(next, p->n_thread);
    assert_int_equal(head, p->n_kv_head);
    assert_true(fabs(side[0] - 1) < 1e-9 && fabs(side[1] - (p->n_side == 2)) < 1e-9);
    qsort(cpu, p->n_thread, sizeof *cpu, by_number);
    for (unsigned i = 1; i < p->n_thread && p->n_thread <= t->n_core; i++) assert_true(cpu[i] != cpu[i - 1]);
    crl_free(cpu);
}

static void check_cache(const struct crl_placement *p, uint64_t bytes)
{
    for (unsigned r = 0; r < p->n_region; r++) bytes -= p->region[r].kv_bytes;
    assert_int_equal(bytes, 0);
}

static void check_speed(const struct crl_placement *p)
{
    const struct crl_speed *s = &p->speed;

    assert_true(s->tokens_per_s > 0 && s->prefill_per_s > 0 && s->speedup_vs_one_socket > 0);
    assert_true(s->bandwidth > 0 && s->bandwidth <= s->aggregate);
    assert_true(fabs(1 / s->tokens_per_s - (s->weights_s + s->cache_s + s->exchange_s + s->small_s + s->join_s)) < 1e-9);
}

static const char *const machines[] = {
    "core:4 pu:1",
    "package:1 numa:2(memory=64GiB) core:3 pu:1",
    "package:2 [numa(memory=256GiB)] core:32 pu:1",
    "package:2 numa:2(memory=96GiB) core:4 pu:2",
    "package:2 numa:3(memory=96GiB) core:4 pu:2",
    "package:2 numa:4(memory=96GiB) core:8 pu:2",
    "package:3 [numa(memory=64GiB)] core:5 pu:1",
    "package:4 [numa(memory=64GiB)] core:6 pu:1",
    "package:5 [numa(memory=64GiB)] core:2 pu:1",
    "package:8 [numa(memory=64GiB)] core:2 pu:1",
    "package:2 [numa(memory=64GiB)] [numa(memory=16GiB)] core:4 pu:1",
    "package:16 [numa(memory=64GiB)] core:1 pu:1",
    "snc2.xml",
    "nps4.xml",
    "hbm.xml",
    "far.xml",
    "offline.xml",
    "disallowed.xml",
    "uneven.xml",
    "memoryless.xml",
};

static const enum crl_numa modes[] = { CRL_NUMA_EXPERTS, CRL_NUMA_ROWS, CRL_NUMA_INTERLEAVE, CRL_NUMA_OFF };

static void check_all(const struct model *m, const char *machine, unsigned threads)
{
    struct crl_topo *t = load(machine);

    for (size_t k = 0; k < N(modes); k++) {
        struct crl_placement *p = plan(m, t, modes[k], threads);
        assert_int_equal(p->mode, modes[k]);
        check_slices(m, p);
        check_copies(m, p);
        check_addresses(p);
        check_threads(t, p);
        check_cache(p, 123456789);
        check_speed(p);
        for (size_t i = 0; i < p->n_weight; i += 1 + p->n_weight / 400) check_work(m, p, i);
        crl_placement_free(p);
    }
    crl_topo_free(t);
}

static void every_byte_is_placed_once_and_every_row_computed_once(void **state)
{
    struct model tiny = make("tiny", 0, "q4"), scout = make("scout", 6, "q4"), maverick = make("maverick", 4, "q8");

    (void)state;
    for (size_t i = 0; i < N(machines); i++) {
        print_message("%s\n", machines[i]);
        check_all(&tiny, machines[i], 0);
        check_all(&scout, machines[i], 0);
        check_all(&maverick, machines[i], 0);
    }
    unmake(&tiny);
    unmake(&scout);
    unmake(&maverick);
}

static void any_number_of_threads_computes_every_row_once(void **state)
{
    static const unsigned threads[] = { 1, 2, 3, 5, 7, 16, 33, 64, 100, CRL_TEAM_MAX };
    struct model tiny = make("tiny", 0, "q8"), scout = make("scout", 2, "bf16");

    (void)state;
    for (size_t i = 0; i < N(threads); i++) {
        check_all(&tiny, "package:3 numa:2(memory=8GiB) core:4 pu:1", threads[i]);
        check_all(&scout, "package:2 [numa(memory=256GiB)] core:32 pu:1", threads[i]);
    }
    unmake(&tiny);
    unmake(&scout);
}

/* --- balance ---------------------------------------------------------------------------------------------- */

/* Bytes each node reads for one token whose experts all live on side home[layer % 2]. */
static void token_bytes(const struct model *m, const struct crl_placement *p, const unsigned home[2], double *bytes)
{
    memset(bytes, 0, p->n_node * sizeof *bytes);
    for (size_t i = 0; i < p->n_weight; i++) {
        const struct crl_weight *w = &m->s->weight[i];
        const struct crl_weight_place *wp = &p->weight[i];
        uint32_t chosen = UINT32_MAX;

        if (w->kind == CRL_KIND_EMBED || is_small(w->kind)) continue;
        if (is_expert(w->kind)) { /* the first expert of the layer that lives on that side */
            for (uint32_t e = 0; e < m->s->cfg.n_expert && chosen == UINT32_MAX; e++) {
                size_t at = crl_schema_find(m->s, w->kind, (uint32_t)w->layer, e);
                if (p->n_side == 1 || p->weight[at].home == home[w->layer % 2]) chosen = e;
            }
            assert_true(chosen != UINT32_MAX);
            if ((uint32_t)w->expert != chosen) continue;
        }
        for (uint32_t j = 0; j < wp->n_slice; j++) {
            const struct crl_slice *c = &p->slice[wp->first_slice + j];
            if (wp->share == CRL_SHARE_EACH_SIDE && c->copy == home[w->layer % 2]) continue; /* the other side's turn */
            bytes[c->node] += (double)c->bytes;
        }
    }
}

static void one_token_reads_the_same_on_every_node(void **state)
{
    static const char *const equal[] = {
        "package:2 [numa(memory=256GiB)] core:32 pu:1", "package:2 numa:2(memory=96GiB) core:4 pu:2",
        "package:2 numa:4(memory=96GiB) core:8 pu:2",   "package:3 [numa(memory=64GiB)] core:5 pu:1",
        "package:4 [numa(memory=64GiB)] core:6 pu:1",   "package:8 [numa(memory=64GiB)] core:2 pu:1",
        "package:5 [numa(memory=64GiB)] core:2 pu:1",   "package:1 numa:3(memory=64GiB) core:2 pu:1",
    };
    static const unsigned home[4][2] = { { 0, 0 }, { 1, 1 }, { 0, 1 }, { 1, 0 } };
    static const char *const names[] = { "scout", "maverick" };

    (void)state;
    for (size_t n = 0; n < N(names); n++) {
        struct model m = make(names[n], 8, "q4");
        for (size_t i = 0; i < N(equal); i++) {
            struct crl_topo *t = load(equal[i]);
            for (int mode = CRL_NUMA_EXPERTS; mode <= CRL_NUMA_ROWS; mode++) {
                struct crl_placement *p = plan(&m, t, (enum crl_numa)mode, 0);
                for (size_t h = 0; h < N(home); h++) {
                    double bytes[CRL_NODE_MAX], mean = 0;
                    token_bytes(&m, p, home[h], bytes);
                    for (unsigned j = 0; j < p->n_node; j++) mean += bytes[j] / p->n_node;
                    for (unsigned j = 0; j < p->n_node; j++)
                        if (fabs(bytes[j] / mean - 1) > 0.02)
                            fail_msg("%s, %s, %s: node %u reads %.3f of the mean", names[n], equal[i],
                                     crl_numa_name(p->mode), j, bytes[j] / mean);
                }
                crl_placement_free(p);
            }
            crl_topo_free(t);
        }
        unmake(&m);
    }
}

static void memory_is_even_and_the_model_is_there_once(void **state)
{
    struct model m = make("scout", 0, "q4");
    struct crl_topo *t = load("package:2 [numa(memory=256GiB)] core:32 pu:1");
    struct crl_placement *rows = plan(&m, t, CRL_NUMA_ROWS, 0), *experts = plan(&m, t, CRL_NUMA_EXPERTS, 0);

    (void)state;
    assert_true(rows->fits && experts->fits && experts->n_side == 2 && rows->n_side == 1);
    assert_true(rows->replica_bytes < rows->model_bytes / 1000); /* norms and routers */
    assert_in_range(experts->replica_bytes - rows->replica_bytes, 3200000000u, 3250000000u); /* shared experts */
    for (unsigned r = 0; r < 2; r++) {
        assert_true(fabs((double)experts->region[0].bytes / (double)experts->region[1].bytes - 1) < 0.005);
        assert_true((double)rows->region[r].bytes < 1.05 * (double)rows->model_bytes / 2);
    }
    crl_placement_free(rows);
    crl_placement_free(experts);
    crl_topo_free(t);
    unmake(&m);
}

static void whole_experts_live_on_one_socket(void **state)
{
    struct model m = make("scout", 4, "q4");
    struct crl_topo *t = load("snc2.xml"), *odd = load("package:3 [numa(memory=64GiB)] core:5 pu:1");
    struct crl_placement *p = plan(&m, t, CRL_NUMA_EXPERTS, 0), *q = plan(&m, odd, CRL_NUMA_EXPERTS, 0);
    unsigned count[2] = { 0, 0 };

    (void)state;
    for (size_t i = 0; i < p->n_weight; i++) {
        const struct crl_weight_place *w = &p->weight[i];
        if (!is_expert(m.s->weight[i].kind)) continue;
        assert_int_equal(w->n_slice, 2); /* the two nodes of its package */
        for (uint32_t j = 0; j < w->n_slice; j++)
            assert_int_equal(p->node[p->slice[w->first_slice + j].node].package, w->home);
        count[w->home]++;
    }
    assert_int_equal(count[0], count[1]);
    assert_true(fabs(q->node[1].share[0] - 1.0 / 3) < 1e-6 && fabs(q->node[1].share[1] - 1.0 / 3) < 1e-6);
    assert_true(fabs(q->node[0].share[0] - 2.0 / 3) < 1e-6 && !(q->node[0].share[1] > 0));
    crl_placement_free(p);
    crl_placement_free(q);
    crl_topo_free(t);
    crl_topo_free(odd);
    unmake(&m);
}

/* The busiest experts would all live on one side if their numbers decided. */
static void routing_counts_even_the_sides(void **state)
{
    struct model m = make("scout", 4, "q4");
    struct crl_topo *t = load("package:2 [numa(memory=256GiB)] core:4 pu:1");
    double *count = crl_alloc((size_t)4 * 16, sizeof *count);
    struct crl_placement_options o = { .mode = CRL_NUMA_EXPERTS, .routed = count };
    struct crl_placement *p = NULL;

    (void)state;
    for (size_t i = 0; i < 64; i++) count[i] = i % 2 ? 1 : 100 + (double)(i % 16);
    assert_int_equal(crl_placement_new(&p, m.s, m.format, t, &o, NULL), CRL_OK);
    for (uint32_t l = 0; l < 4; l++) {
        double load_of[2] = { 0, 0 };
        unsigned n[2] = { 0, 0 };
        for (uint32_t e = 0; e < 16; e++) {
            unsigned side = p->weight[crl_schema_find(m.s, CRL_KIND_EXPERT_GATE_UP, l, e)].home;
            assert_int_equal(side, p->weight[crl_schema_find(m.s, CRL_KIND_EXPERT_DOWN, l, e)].home);
            load_of[side] += count[l * 16 + e];
            n[side]++;
        }
        assert_int_equal(n[0], 8);
        assert_true(fabs(load_of[0] / load_of[1] - 1) < 0.05);
    }
    crl_placement_free(p);
    crl_free(count);
    crl_topo_free(t);
    unmake(&m);
}

static void shared_work_evens_the_sides(void **state)
{
    (void)state;
    assert_int_equal(crl_placement_shared_cut((double[]){ 1, 0 }, 1, 256), 0);   /* one token at home 0 */
    assert_int_equal(crl_placement_shared_cut((double[]){ 0, 1 }, 1, 256), 256); /* at home 1 */
    assert_int_equal(crl_placement_shared_cut((double[]){ 1, 1 }, 1, 256), 128);
    assert_int_equal(crl_placement_shared_cut((double[]){ 1, 2 }, 2, 256), 192);
    assert_int_equal(crl_placement_shared_cut((double[]){ 9, 0 }, 2, 256), 0);
    assert_int_equal(crl_placement_shared_cut((double[]){ 0, 0 }, 0, 256), 0);
}

/* --- memory of several kinds, memory that is missing ------------------------------------------------------ */

static void fast_memory_is_filled_first(void **state)
{
    struct model m = make("scout", 0, "q4"), big = make("scout", 0, "q8");
    struct crl_topo *t = load("hbm.xml");
    struct crl_placement *p = plan(&m, t, CRL_NUMA_ROWS, 0), *q = plan(&big, t, CRL_NUMA_ROWS, 0);
    bool dram = false;

    (void)state;
    assert_int_equal(p->n_region, 4);
    for (unsigned r = 0; r < 4; r++) { /* q4 fits into the 64 GiB beside each socket's cores */
        bool fast = t->node[p->region[r].topo_node].kind == CRL_MEMORY_HBM;
        assert_int_equal(p->region[r].bytes > 0, fast);
        assert_int_equal(p->region[r].kv_bytes > 0, fast);
    }
    for (size_t i = 0; i < q->n_slice; i++) /* 115 GB do not: what every token reads is in the fast part */
        if (t->node[q->region[q->slice[i].region].topo_node].kind == CRL_MEMORY_DRAM) {
            enum crl_kind k = m.s->weight[q->slice[i].weight].kind;
            assert_true(is_expert(k) || k == CRL_KIND_EMBED);
            dram = true;
        }
    assert_false(dram); /* 57 GB per socket still fit */
    assert_true(q->fits && p->fits);
    crl_placement_free(q);
    unmake(&big);
    big = make("scout", 0, "bf16");
    q = plan(&big, t, CRL_NUMA_ROWS, 0);
    for (size_t i = 0; i < q->n_slice; i++)
        if (t->node[q->region[q->slice[i].region].topo_node].kind == CRL_MEMORY_DRAM) {
            enum crl_kind k = m.s->weight[q->slice[i].weight].kind;
            assert_true(is_expert(k) || k == CRL_KIND_EMBED);
            dram = true;
        }
    assert_true(dram && q->fits);
    assert_true(p->speed.tokens_per_s > q->speed.tokens_per_s);
    crl_placement_free(p);
    crl_placement_free(q);
    crl_topo_free(t);
    unmake(&m);
    unmake(&big);
}

static void far_memory_is_the_last_resort(void **state)
{
    struct model m = make("scout", 0, "q4"), big = make("scout", 0, "q8");
    struct crl_topo *t = load("far.xml");
    struct crl_placement *p = plan(&m, t, CRL_NUMA_ROWS, 0), *q = plan(&big, t, CRL_NUMA_ROWS, 0);

    (void)state;
    assert_true(p->fits && q->fits);
    for (unsigned r = 0; r < 4; r++) {
        bool far = t->node[p->region[r].topo_node].kind == CRL_MEMORY_FAR;
        assert_int_equal(p->region[r].bytes > 0, !far);
        assert_true(q->region[r].bytes > 0);
    }
    crl_placement_free(p);
    crl_placement_free(q);
    crl_topo_free(t);
    unmake(&m);
    unmake(&big);
}

static void cores_without_memory_are_left_out_and_said(void **state)
{
    struct model m = make("scout", 2, "q4");
    struct crl_topo *t = load("memoryless.xml");
    struct crl_placement *p = plan(&m, t, CRL_NUMA_ROWS, 0);

    (void)state;
    assert_int_equal(p->n_node, 1);
    assert_int_equal(p->n_thread, 4);
    assert_int_equal(p->n_note, 1);
    assert_string_equal(p->note[0], "node 1 has no memory: its 4 cores are not used");
    crl_placement_free(p);
    crl_topo_free(t);
    unmake(&m);
}

static void fewer_threads_than_nodes_use_one_node_of_each_package(void **state)
{
    struct model m = make("scout", 2, "q4");
    struct crl_topo *t = load("snc2.xml");
    struct crl_placement *p = plan(&m, t, CRL_NUMA_EXPERTS, 2);

    (void)state;
    assert_int_equal(p->n_node, 2);
    assert_int_equal(p->node[0].topo_node, 0);
    assert_int_equal(p->node[1].topo_node, 2);
    assert_int_equal(p->n_side, 2);
    assert_non_null(strstr(p->note[0], "2 threads for 4 nodes"));
    crl_placement_free(p);
    p = plan(&m, t, CRL_NUMA_EXPERTS, 1);
    assert_int_equal(p->n_node, 1);
    assert_int_equal(p->n_side, 1);
    crl_placement_free(p);
    crl_topo_free(t);
    unmake(&m);
}

/* An offline half: the smaller node gets as much as its cores can draw. */
static void uneven_cores_get_uneven_shares(void **state)
{
    struct model m = make("scout", 2, "q4");
    struct crl_topo *t = load("offline.xml");
    struct crl_placement *p = plan(&m, t, CRL_NUMA_ROWS, 0);

    (void)state;
    assert_int_equal(p->node[0].n_thread, 6);
    assert_int_equal(p->node[1].n_thread, 3);
    assert_true(fabs(p->node[0].share[0] - 2.0 / 3) < 1e-9);
    crl_placement_free(p);
    p = plan(&m, t, CRL_NUMA_EXPERTS, 0); /* the sides stay equal: node 0 works for both */
    assert_true(p->node[0].share[1] > 0.3 && p->node[1].share[0] < 1e-9);
    crl_placement_free(p);
    crl_topo_free(t);
    unmake(&m);
}

static void too_little_memory_names_what_would_fit(void **state)
{
    static const struct {
        const char *machine, *recipe;
        enum crl_numa mode;
        const char *why, *advice;
    } cases[] = {
        { "package:2 [numa(memory=48GiB)] core:4 pu:1", "q8", CRL_NUMA_ROWS, "mode rows needs ",
          "recipe q4 would fit in mode rows" },
        { "uneven.xml", "q4", CRL_NUMA_EXPERTS, "on node 1, 25.0 GB are there", "mode interleave would fit" },
        { "package:2 [numa(memory=29GiB)] core:4 pu:1", "q4", CRL_NUMA_EXPERTS, "mode experts needs ", "mode rows would fit" },
        { "package:2 [numa(memory=48GiB)] core:4 pu:1", "bf16", CRL_NUMA_AUTO, "on the nodes", "recipe q4 would fit" },
        { "package:2 [numa(memory=4GiB)] core:4 pu:1", "q4", CRL_NUMA_ROWS, "node 0", "" },
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct model m = make("scout", 0, cases[i].recipe);
        struct crl_topo *t = load(cases[i].machine);
        struct crl_placement_options o = { .mode = cases[i].mode };
        struct crl_placement *p = NULL;
        char text[128];

        assert_int_equal(crl_placement_new(&p, m.s, m.format, t, &o, NULL), CRL_OK);
        assert_false(p->fits);
        crl_placement_advise(m.s, m.format, t, &o, text, sizeof text);
        if (!strstr(p->why, cases[i].why) || strcmp(text, cases[i].advice))
            fail_msg("case %zu: \"%s\", \"%s\"", i, p->why, text);
        crl_placement_free(p);
        crl_topo_free(t);
        unmake(&m);
    }
}

static void limit_of_the_group_counts(void **state)
{
    struct model m = make("scout", 4, "q4");
    struct crl_topo *t = load("package:2 [numa(memory=48GiB)] core:4 pu:1");
    struct crl_placement *p;

    (void)state;
    t->memory_limit = 1000000000;
    p = plan(&m, t, CRL_NUMA_ROWS, 0);
    assert_false(p->fits);
    assert_non_null(strstr(p->why, "the control group leaves 1.0 GB"));
    crl_placement_free(p);
    crl_topo_free(t);
    unmake(&m);
}

static void quota_of_the_group_limits_the_threads(void **state)
{
    struct crl_topo *t = load("package:2 [numa(memory=48GiB)] core:4 pu:1");
    struct model m = make("scout", 2, "q4");
    struct crl_placement *p;

    (void)state;
    t->quota_cores = 2.5;
    p = plan(&m, t, CRL_NUMA_ROWS, 0);
    assert_int_equal(p->n_thread, 3);
    assert_int_equal(p->n_node, 2);
    crl_placement_free(p);
    crl_topo_free(t);
    unmake(&m);
}

static void wrong_options_are_refused(void **state)
{
    struct model m = make("tiny", 0, "q4");
    struct crl_topo *t = load("core:4 pu:1");
    struct crl_placement *p = NULL;
    struct crl_placement_options o = { .mode = CRL_NUMA_ROWS, .n_thread = CRL_TEAM_MAX + 1 };
    struct crl_cost cost;
    struct crl_err err = { "" };
    enum crl_numa mode;

    (void)state;
    assert_int_equal(crl_placement_new(&p, m.s, m.format, t, &o, &err), CRL_ERANGE);
    assert_null(p);
    crl_cost_default(&cost);
    assert_int_equal(crl_cost_memory(&cost, "ddr5-5600x12", NULL), CRL_OK);
    assert_true(fabs(cost.package_peak - 537.6e9) < 1e6);
    assert_int_equal(crl_cost_memory(&cost, "ddr5-5600x12 ", NULL), CRL_ERANGE);
    assert_int_equal(crl_cost_memory(&cost, "ddr5-5600", NULL), CRL_ERANGE);
    assert_int_equal(crl_cost_memory(&cost, "ddr9-5600x8", NULL), CRL_ERANGE);
    assert_int_equal(crl_cost_memory(&cost, "", NULL), CRL_ERANGE);
    assert_true(crl_numa_parse("interleave", &mode) && mode == CRL_NUMA_INTERLEAVE);
    assert_false(crl_numa_parse("Rows", &mode));
    crl_placement_free(NULL);
    crl_topo_free(t);
    unmake(&m);
}

static void allocation_failing_leaves_nothing(void **state)
{
    struct model m = make("tiny", 0, "q4");
    struct crl_topo *t = load("package:2 [numa(memory=8GiB)] core:2 pu:1");
    struct crl_placement_options o = { .mode = CRL_NUMA_EXPERTS };
    size_t failures = 0;

    (void)state;
    for (size_t n = 1; n < 100; n++) {
        struct crl_placement *p = NULL;
        enum crl_status st;
        crl_alloc_fail_after(n);
        st = crl_placement_new(&p, m.s, m.format, t, &o, NULL);
        crl_alloc_fail_after(0);
        failures += st != CRL_OK;
        if (st) assert_null(p);
        crl_placement_free(p);
    }
    assert_in_range(failures, 10, 40);
    crl_topo_free(t);
    unmake(&m);
}

/* --- the cost model --------------------------------------------------------------------------------------- */

/* The figures of docs/numa.md, from the documented inputs alone. */
static void two_sockets_nearly_double_the_speed(void **state)
{
    struct model m = make("scout", 0, "q4");
    struct crl_topo *t = load("package:2 [numa(memory=256GiB)] core:32 pu:1");

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        struct crl_placement *p = plan(&m, t, modes[k], 0);
        assert_true(p->speed.speedup_vs_one_socket >= 1.8 && p->speed.speedup_vs_one_socket <= 2);
        assert_true(p->speed.bandwidth >= 0.65 * 2 * 8 * 8 * 4800e6); /* of the data sheet's */
        crl_placement_free(p);
    }
    crl_topo_free(t);
    unmake(&m);
}

static double speed(const struct model *m, const char *machine, enum crl_numa mode, const struct crl_cost *cost)
{
    struct crl_topo *t = load(machine);
    struct crl_placement_options o = { .mode = mode, .cost = cost };
    struct crl_placement *p = NULL;
    double s;

    assert_int_equal(crl_placement_new(&p, m->s, m->format, t, &o, NULL), CRL_OK);
    s = p->speed.tokens_per_s;
    crl_placement_free(p);
    crl_topo_free(t);
    return s;
}

static void prediction_follows_its_inputs(void **state)
{
    static const char two[] = "package:2 [numa(memory=256GiB)] core:32 pu:1";
    struct model m = make("scout", 0, "q4"), q8 = make("scout", 0, "q8");
    struct crl_cost c;
    double base;

    (void)state;
    crl_cost_default(&c);
    base = speed(&m, two, CRL_NUMA_ROWS, &c);
    assert_true(speed(&q8, two, CRL_NUMA_ROWS, &c) < 0.6 * base);
    c.node_bandwidth = 2 * c.package_bandwidth;
    assert_true(speed(&m, two, CRL_NUMA_ROWS, &c) < 1.6 * base); /* cores cannot draw it */
    assert_true(speed(&m, two, CRL_NUMA_ROWS, &c) > 1.3 * base);
    c.node_bandwidth = c.package_bandwidth / 2;
    assert_true(speed(&m, two, CRL_NUMA_ROWS, &c) < 0.6 * base);
    crl_cost_default(&c);
    c.join_core = 1e-6;
    assert_true(speed(&m, two, CRL_NUMA_ROWS, &c) < 0.8 * base);
    crl_cost_default(&c);
    c.link_bandwidth = 10e9; /* does not touch placed weights */
    assert_true(fabs(speed(&m, two, CRL_NUMA_ROWS, &c) / base - 1) < 1e-9);
    assert_true(speed(&m, two, CRL_NUMA_INTERLEAVE, &c) < 0.2 * base);
    assert_true(speed(&m, two, CRL_NUMA_OFF, NULL) < 0.6 * base);
    crl_cost_default(&c);
    c.exchange_far = 1e9; /* experts keep the wide intermediate on one socket */
    assert_true(speed(&m, two, CRL_NUMA_EXPERTS, &c) > 1.05 * speed(&m, two, CRL_NUMA_ROWS, &c));
    unmake(&m);
    unmake(&q8);
}

static void auto_takes_the_simplest_of_equals_and_the_fastest_otherwise(void **state)
{
    struct model m = make("scout", 0, "q4");
    struct crl_topo *one = load("[numa(memory=128GiB)] core:4 pu:1");
    struct crl_topo *two = load("package:2 [numa(memory=64GiB)] core:32 pu:1");
    struct crl_placement_options o = { .mode = CRL_NUMA_AUTO };
    struct crl_placement *p = NULL;
    struct crl_cost c;

    (void)state;
    assert_int_equal(crl_placement_new(&p, m.s, m.format, one, &o, NULL), CRL_OK);
    assert_int_equal(p->mode, CRL_NUMA_OFF);
    crl_placement_free(p);
    assert_int_equal(crl_placement_new(&p, m.s, m.format, two, &o, NULL), CRL_OK);
    assert_int_equal(p->mode, CRL_NUMA_EXPERTS);
    crl_placement_free(p);
    crl_cost_default(&c);
    c.exchange_far = c.exchange_near; /* sockets that are as near as cores: not worth the replicas */
    o.cost = &c;
    assert_int_equal(crl_placement_new(&p, m.s, m.format, two, &o, NULL), CRL_OK);
    assert_int_equal(p->mode, CRL_NUMA_ROWS);
    crl_placement_free(p);
    o.cost = NULL;
    two->memory_limit = 60000000000u; /* room for the model, not for the replicas */
    assert_int_equal(crl_placement_new(&p, m.s, m.format, two, &o, NULL), CRL_OK);
    assert_int_equal(p->mode, CRL_NUMA_ROWS);
    assert_true(p->fits);
    crl_placement_free(p);
    crl_topo_free(one);
    crl_topo_free(two);
    unmake(&m);
}

/* --- statistics of routing -------------------------------------------------------------------------------- */

static enum crl_status read_counts(double **counts, const char *text, const struct crl_config *cfg, struct crl_err *err)
{
    char path[] = "/tmp/corral-routing.XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    enum crl_status st;

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    st = crl_routing_read(counts, path, cfg, err);
    remove(path);
    return st;
}

static void routing_file_is_read_or_refused(void **state)
{
    static const char *const bad[] = { "[]", "{\"counts\":[[1,2,3,4]]}", "{\"counts\":[[],[1,2,3],[],[1,2,3,4]]}",
                                       "{\"counts\":[[],[1,2,3,-4],[],[]]}", "{\"counts\":[[],[1,2,3,\"4\"],[],[]]}" };
    struct model m = make("tiny", 0, "q4"); /* layers 1 and 3 are mixtures of 4 */
    double *counts = NULL;
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(read_counts(&counts, "{\"counts\":[null,[1,2,3,4],[],[]]}", &m.s->cfg, &err), CRL_OK);
    assert_true(counts[4] == 1 && counts[7] == 4 && counts[12] == 0);
    crl_free(counts);
    for (size_t i = 0; i < N(bad); i++) {
        counts = NULL;
        err.text[0] = 0;
        assert_int_equal(read_counts(&counts, bad[i], &m.s->cfg, &err), CRL_EFORMAT);
        assert_null(counts);
        assert_non_null(strstr(err.text, "count"));
    }
    unmake(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_placed_once_and_every_row_computed_once),
        cmocka_unit_test(any_number_of_threads_computes_every_row_once),
        cmocka_unit_test(one_token_reads_the_same_on_every_node),
        cmocka_unit_test(memory_is_even_and_the_model_is_there_once),
        cmocka_unit_test(whole_experts_live_on_one_socket),
        cmocka_unit_test(routing_counts_even_the_sides),
        cmocka_unit_test(shared_work_evens_the_sides),
        cmocka_unit_test(fast_memory_is_filled_first),
        cmocka_unit_test(far_memory_is_the_last_resort),
        cmocka_unit_test(cores_without_memory_are_left_out_and_said),
        cmocka_unit_test(fewer_threads_than_nodes_use_one_node_of_each_package),
        cmocka_unit_test(uneven_cores_get_uneven_shares),
        cmocka_unit_test(too_little_memory_names_what_would_fit),
        cmocka_unit_test(limit_of_the_group_counts),
        cmocka_unit_test(quota_of_the_group_limits_the_threads),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(allocation_failing_leaves_nothing),
        cmocka_unit_test(two_sockets_nearly_double_the_speed),
        cmocka_unit_test(prediction_follows_its_inputs),
        cmocka_unit_test(auto_takes_the_simplest_of_equals_and_the_fastest_otherwise),
        cmocka_unit_test(routing_file_is_read_or_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
