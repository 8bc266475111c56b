/* team.c - the thread team on OpenMP. */
#define _GNU_SOURCE
#include "base/team.h"

#include "base/mem.h"

#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Spins before a waiting member offers its core to others: with a core each the wait is short, without one the member
 * waited for may need this very core. */
#define SPINS_OWN_CORE 4096
#define SPINS_SHARED_CORE 16

struct crl_team {
    unsigned n;
    bool pin;
    unsigned spins; /* before a waiting member yields */
    int cpu[CRL_TEAM_MAX]; /* the core of member i */
    _Alignas(CRL_ALIGN) atomic_uint arrived;
    _Alignas(CRL_ALIGN) atomic_uint epoch;
    _Alignas(CRL_ALIGN) atomic_size_t next; /* crl_team_each hands out units here */
};

/* Quota of the control group in cores, rounded up; 0 when there is none. */
static unsigned cgroup_cores(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    long long quota = 0, period = 0;
    int got;

    if (!f) return 0;
    got = fscanf(f, "%lld %lld", &quota, &period); /* "max 100000" scans no number */
    fclose(f);
    if (got != 2 || quota <= 0 || period <= 0) return 0;
    return (unsigned)((quota + period - 1) / period);
}

static unsigned usable(int *cpu, unsigned most)
{
    cpu_set_t set;
    unsigned n = 0, quota = cgroup_cores();

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    for (int c = 0; c < CPU_SETSIZE && n < most; c++) {
        if (!CPU_ISSET(c, &set)) continue;
        if (cpu) cpu[n] = c;
        n++;
    }
    if (quota && quota < n) n = quota;
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

static void pin_self(const struct crl_team *t, unsigned id)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(t->cpu[id], &set);
    sched_setaffinity(0, sizeof set, &set); /* refused in some containers: then the member floats */
}

static void unpin_self(const struct crl_team *t)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    for (unsigned i = 0; i < t->n; i++) CPU_SET(t->cpu[i], &set);
    sched_setaffinity(0, sizeof set, &set);
}

void crl_team_run(struct crl_team *team, crl_team_fn *fn, void *ctx)
{
    cpu_set_t before;
    bool restore = team->pin && sched_getaffinity(0, sizeof before, &before) == 0;

    omp_set_dynamic(0);
#pragma omp parallel num_threads(team->n)
    {
        struct crl_member me = { team, (unsigned)omp_get_thread_num(), (unsigned)omp_get_num_threads() };

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

void crl_team_barrier(const struct crl_member *me)
{
    struct crl_team *t = me->team;
    unsigned epoch, spins = 0;

    if (me->n == 1) return;
    epoch = atomic_load_explicit(&t->epoch, memory_order_acquire);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == me->n) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->epoch, epoch + 1, memory_order_release);
        return;
    }
    while (atomic_load_explicit(&t->epoch, memory_order_acquire) == epoch) {
        relax();
        if (++spins % t->spins == 0) sched_yield();
    }
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
