/* team.c - the thread team on OpenMP. */
#define _GNU_SOURCE
#include "base/team.h"

#include "base/cgroup.h"
#include "base/mem.h"

#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Spins before a waiting member offers its core to others: with a core each the wait is short, without one the member
 * waited for may need this very core. */
#define SPINS_OWN_CORE 4096
#define SPINS_SHARED_CORE 16

/* Where some wait for each other: the last one to arrive starts a new epoch. */
struct meeting {
    _Alignas(CRL_ALIGN) atomic_uint arrived;
    _Alignas(CRL_ALIGN) atomic_uint epoch;
};

struct crl_team {
    unsigned n;
    unsigned n_node;
    bool pin;
    unsigned spins; /* before a waiting member yields */
    int cpu[CRL_TEAM_MAX]; /* the core of member i, -1 for none */
    uint8_t node[CRL_TEAM_MAX];                  /* the group of member i */
    unsigned first[CRL_TEAM_NODES_MAX + 1];      /* first member of each group */
    struct meeting meeting[CRL_TEAM_NODES_MAX];  /* of the members of a group */
    struct meeting machine;                      /* of the groups, one member for each */
    _Alignas(CRL_ALIGN) atomic_size_t next;      /* crl_team_each hands out units here */
};

static unsigned usable(int *cpu, unsigned most)
{
    cpu_set_t set;
    struct crl_cgroup group;
    unsigned n = 0;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    for (int c = 0; c < CPU_SETSIZE && n < most; c++) {
        if (!CPU_ISSET(c, &set)) continue;
        if (cpu) cpu[n] = c;
        n++;
    }
    crl_cgroup_read(&group, "");
    if (group.cores > 0 && group.cores < n) n = (unsigned)(group.cores + 0.999); /* part of a core runs a thread too */
    return n ? n : 1;
}

unsigned crl_usable_cores(void)
{
    return usable(NULL, CRL_TEAM_MAX);
}

enum crl_status crl_team_new(struct crl_team **team, unsigned n_threads, bool pin, struct crl_err *err)
{
    struct crl_team *t;
    unsigned have;

    *team = NULL;
    if (n_threads > CRL_TEAM_MAX)
        return crl_fail(err, CRL_ERANGE, "%u threads asked for, at most %d are supported", n_threads, CRL_TEAM_MAX);
    t = crl_alloc(1, sizeof *t);
    if (!t) return crl_fail(err, CRL_ENOMEM, "no memory for a thread team");
    have = usable(t->cpu, CRL_TEAM_MAX);
    t->n = n_threads ? n_threads : have;
    t->spins = t->n <= have ? SPINS_OWN_CORE : SPINS_SHARED_CORE;
    t->pin = pin && t->n <= have; /* more members than cores: the system shares them out better than we would */
    t->n_node = 1;
    t->first[1] = t->n;
    *team = t;
    return CRL_OK;
}

/* Threads the system really starts when n are asked for (thread limits of the environment). */
static unsigned threads_granted(unsigned n)
{
    unsigned got = 1;

    omp_set_dynamic(0);
#pragma omp parallel num_threads(n)
    {
#pragma omp master
        got = (unsigned)omp_get_num_threads();
    }
    return got;
}

static bool seats_in_order(const struct crl_seat *seat, unsigned n)
{
    bool good = n && n <= CRL_TEAM_MAX && seat[0].node == 0 && seat[n - 1].node < CRL_TEAM_NODES_MAX;

    for (unsigned i = 1; good && i < n; i++)
        good = seat[i].node == seat[i - 1].node || seat[i].node == seat[i - 1].node + 1;
    return good;
}

enum crl_status crl_team_seated(struct crl_team **team, const struct crl_seat *seat, unsigned n, struct crl_err *err)
{
    struct crl_team *t;
    unsigned have = usable(NULL, CRL_TEAM_MAX), granted;

    *team = NULL;
    if (!seats_in_order(seat, n))
        return crl_fail(err, CRL_ERANGE, "%u threads cannot be grouped by node: 1 to %d threads on at most %d nodes", n,
                        CRL_TEAM_MAX, CRL_TEAM_NODES_MAX);
    granted = threads_granted(n);
    if (granted < n)
        return crl_fail(err, CRL_EUNSUPPORTED, "%u threads are needed, the system allows %u", n, granted);
    t = crl_alloc(1, sizeof *t);
    if (!t) return crl_fail(err, CRL_ENOMEM, "no memory for a thread team");
    t->n = n;
    t->spins = n <= have ? SPINS_OWN_CORE : SPINS_SHARED_CORE;
    for (unsigned i = 0; i < n; i++) {
        t->cpu[i] = seat[i].cpu;
        t->pin |= seat[i].cpu >= 0;
        t->node[i] = (uint8_t)seat[i].node;
        t->n_node = seat[i].node + 1;
        t->first[seat[i].node + 1] = i + 1;
    }
    *team = t;
    return CRL_OK;
}

void crl_team_free(struct crl_team *team)
{
    crl_free(team);
}

unsigned crl_team_size(const struct crl_team *team)
{
    return team->n;
}

unsigned crl_team_nodes(const struct crl_team *team)
{
    return team->n_node;
}

unsigned crl_team_node_size(const struct crl_team *team, unsigned node)
{
    return team->first[node + 1] - team->first[node];
}

static void pin_self(const struct crl_team *t, unsigned id)
{
    cpu_set_t set;

    if (t->cpu[id] < 0) return;
    CPU_ZERO(&set);
    CPU_SET(t->cpu[id], &set);
    sched_setaffinity(0, sizeof set, &set); /* refused in some containers: then the member floats */
}

static void unpin_self(const struct crl_team *t)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    for (unsigned i = 0; i < t->n; i++)
        if (t->cpu[i] >= 0) CPU_SET(t->cpu[i], &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* A team without seats may run with fewer members than it has; one with seats never does. */
static struct crl_member member_of(struct crl_team *t, unsigned id, unsigned n)
{
    struct crl_member me = { t, id, n, 0, 1, id, n };

    if (t->n_node == 1) return me;
    me.node = t->node[id];
    me.n_node = t->n_node;
    me.node_id = id - t->first[me.node];
    me.node_n = crl_team_node_size(t, me.node);
    return me;
}

void crl_team_run(struct crl_team *team, crl_team_fn *fn, void *ctx)
{
    cpu_set_t before;
    bool restore = team->pin && sched_getaffinity(0, sizeof before, &before) == 0;

    omp_set_dynamic(0);
#pragma omp parallel num_threads(team->n)
    {
        struct crl_member me = member_of(team, (unsigned)omp_get_thread_num(), (unsigned)omp_get_num_threads());

        if (team->pin) pin_self(team, me.id);
        fn(&me, ctx);
        if (team->pin && me.id) unpin_self(team);
    }
    if (restore) sched_setaffinity(0, sizeof before, &before); /* the caller's thread gets its own mask back */
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_for(const struct crl_team *t, const struct meeting *m, unsigned epoch)
{
    unsigned spins = 0;

    while (atomic_load_explicit(&m->epoch, memory_order_acquire) == epoch) {
        relax();
        if (++spins % t->spins == 0) sched_yield();
    }
}

/* True for the last of n to arrive, who then lets the others go; *epoch is the one that ends here. */
static bool last_of(struct meeting *m, unsigned n, unsigned *epoch)
{
    *epoch = atomic_load_explicit(&m->epoch, memory_order_acquire);
    if (atomic_fetch_add_explicit(&m->arrived, 1, memory_order_acq_rel) + 1 < n) return false;
    atomic_store_explicit(&m->arrived, 0, memory_order_relaxed);
    return true;
}

static void let_go(struct meeting *m, unsigned epoch)
{
    atomic_store_explicit(&m->epoch, epoch + 1, memory_order_release);
}

void crl_team_barrier_node(const struct crl_member *me)
{
    struct crl_team *t = me->team;
    struct meeting *m = &t->meeting[me->node];
    unsigned epoch;

    if (me->node_n == 1) return;
    if (last_of(m, me->node_n, &epoch)) let_go(m, epoch);
    else wait_for(t, m, epoch);
}

/* The last of a group meets the last ones of the other groups while its own group waits: two short lines of cache
 * traffic in place of one that all sockets fight for. */
void crl_team_barrier(const struct crl_member *me)
{
    struct crl_team *t = me->team;
    struct meeting *m = &t->meeting[me->node];
    unsigned epoch, machine;

    if (me->n_node == 1) {
        crl_team_barrier_node(me);
        return;
    }
    if (!last_of(m, me->node_n, &epoch)) {
        wait_for(t, m, epoch);
        return;
    }
    if (last_of(&t->machine, me->n_node, &machine)) let_go(&t->machine, machine);
    else wait_for(t, &t->machine, machine);
    let_go(m, epoch);
}

struct each {
    size_t n;
    crl_each_fn *fn;
    void *ctx;
};

static void each_member(const struct crl_member *me, void *ctx)
{
    struct each *e = ctx;
    size_t i;

    while ((i = atomic_fetch_add(&me->team->next, 1)) < e->n) e->fn(i, me->id, e->ctx);
}

void crl_team_each(struct crl_team *team, size_t n, crl_each_fn *fn, void *ctx)
{
    struct each e = { n, fn, ctx };

    atomic_store(&team->next, 0);
    crl_team_run(team, each_member, &e);
}
