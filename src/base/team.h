/* team.h - a fixed team of pinned threads that runs the same function side by side. The door to OpenMP.
 *
 * crl_team_run starts one parallel region; inside it every member calls the same code (single program, multiple
 * data) and meets the others at crl_team_barrier, which spins: members are one per core and steps last microseconds.
 * On a machine of several memory nodes the members of one node form a group: they are numbered one after the other,
 * meet each other first and then, one for all, the other groups.
 *
 * A team is used by one caller at a time. Results never depend on the number of members: work is cut into ranges of
 * independent outputs, no sum is ever split between members. */
#ifndef CRL_BASE_TEAM_H
#define CRL_BASE_TEAM_H

#include "base/status.h"

struct crl_team;

/* What one member sees. */
struct crl_member {
    struct crl_team *team;
    unsigned id; /* 0 .. n-1 */
    unsigned n;  /* members in this run */
    unsigned node, n_node;    /* its group, and how many there are; 0 and 1 in a team without seats */
    unsigned node_id, node_n; /* its place among the members of its group, and how many those are */
};

typedef void crl_team_fn(const struct crl_member *me, void *ctx);

#define CRL_TEAM_MAX 1024
#define CRL_TEAM_NODES_MAX 64

/* n_threads 0 means one per usable core (affinity mask and container limits respected). pin: keep member i on the
 * i-th usable core while it runs. */
enum crl_status crl_team_new(struct crl_team **team, unsigned n_threads, bool pin, struct crl_err *err);
/* Where a member sits. */
struct crl_seat {
    int cpu;       /* the core it is bound to while it runs; -1: it floats */
    unsigned node; /* its group */
};

/* A team of n members grouped by node: seat[i].node rises from 0 in steps of at most one. CRL_EUNSUPPORTED when the
 * system allows fewer threads than seats: no group may be left without members. */
enum crl_status crl_team_seated(struct crl_team **team, const struct crl_seat *seat, unsigned n, struct crl_err *err);

void crl_team_free(struct crl_team *team);
unsigned crl_team_size(const struct crl_team *team);
unsigned crl_team_nodes(const struct crl_team *team);                    /* groups, at least 1 */
unsigned crl_team_node_size(const struct crl_team *team, unsigned node); /* members of one */

/* Run fn once on every member and wait for all. */
void crl_team_run(struct crl_team *team, crl_team_fn *fn, void *ctx);

/* Inside a run: nobody passes before all have arrived, or all of the member's own group. */
void crl_team_barrier(const struct crl_member *me);
void crl_team_barrier_node(const struct crl_member *me);

/* Part `id` of `of` equal parts of n units, [*lo, *hi); parts differ by at most one unit. */
static inline void crl_part(size_t n, unsigned id, unsigned of, size_t *lo, size_t *hi)
{
    size_t each = n / of, rest = n % of;

    *lo = id * each + (id < rest ? id : rest);
    *hi = *lo + each + (id < rest);
}

/* The part of n units that belongs to this member. */
static inline void crl_team_range(const struct crl_member *me, size_t n, size_t *lo, size_t *hi)
{
    crl_part(n, me->id, me->n, lo, hi);
}

/* Run fn(i, ctx) for every i < n, handed out one at a time to whoever is free: for work of uneven cost outside the
 * forward pass (conversion, hashing, loading). */
typedef void crl_each_fn(size_t i, unsigned member, void *ctx);
void crl_team_each(struct crl_team *team, size_t n, crl_each_fn *fn, void *ctx);

/* Cores this process may use: affinity mask and cgroup quota, at least 1. */
unsigned crl_usable_cores(void);

#endif
