/* topo.h - the machine as the planner sees it: packages, memory nodes, cores, and what this process may use
 * of them. The door to hwloc and libnuma.
 *
 * A topology is either this system or a pretended one (hwloc's XML or a synthetic description). Both plan
 * alike; with a pretended one nothing is ever bound (`real` is false), so code paths of large machines run on
 * small ones.
 *
 * Nodes are listed by package and system number, cores by node, one entry per physical core: its first
 * processor that may be used. What an affinity mask or a control group takes away is not listed. A node
 * without cores is memory only (HBM, CXL); `home` says which node's cores are nearest. A topology is plain
 * data behind one allocation, immutable, freed by crl_topo_free. */
#ifndef CRL_BASE_TOPO_H
#define CRL_BASE_TOPO_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define CRL_NODE_MAX 256   /* memory nodes */
#define CRL_CORE_MAX 16384 /* cores */
#define CRL_HUGE_KINDS 4   /* sizes of huge pages */

enum crl_memory_kind {
    CRL_MEMORY_DRAM = 0,
    CRL_MEMORY_HBM = 1, /* on the package, faster */
    CRL_MEMORY_FAR = 2  /* behind a link, slower than DRAM: CXL and the like */
};

/* A pool of huge pages of one size on one node. */
struct crl_huge_pool {
    uint64_t page_bytes;
    uint64_t total, free; /* pages */
};

struct crl_topo_node {
    unsigned os;                 /* the system's number of the node, what mbind takes */
    unsigned package;            /* index, 0 .. n_package - 1 */
    unsigned home;               /* node whose cores are nearest: itself when it has cores */
    unsigned first_core, n_core; /* its cores in core[]; none: memory only */
    enum crl_memory_kind kind;
    uint64_t total_bytes; /* 0: a node without memory */
    uint64_t free_bytes;  /* free or reclaimable now; total_bytes of a pretended machine */
    double bandwidth;     /* bytes/s for its own cores as the firmware states it; 0: not stated */
    unsigned n_huge;
    struct crl_huge_pool huge[CRL_HUGE_KINDS];
};

struct crl_topo_core {
    unsigned cpu;  /* the system's number of the processor a thread is bound to */
    unsigned node; /* index of its node */
    unsigned n_pu; /* processors of the core that may be used: 2 with hyper-threading */
};

struct crl_topo {
    bool real;        /* this system: threads and memory can be bound */
    char source[128]; /* "this machine", or what was given */
    unsigned n_package, n_node, n_core;
    struct crl_topo_node *node;
    struct crl_topo_core *core;
    unsigned *distance;    /* [n_node][n_node], 10 is local; all 0: unknown */
    unsigned n_cpu_system; /* processors of the machine, used or not */
    double quota_cores;    /* limit of the control groups in cores, 0: none */
    uint64_t memory_limit; /* bytes the control groups leave, UINT64_MAX: none */
};

/* text NULL: this system. A name of a readable file: hwloc's XML. Anything else: a synthetic description as
 * hwloc takes it, e.g. "package:2 [numa(memory=256GiB)] core:32 pu:1". CRL_EFORMAT when neither can be read,
 * CRL_EUNSUPPORTED when no core or no memory is left. */
enum crl_status crl_topo_load(struct crl_topo **out, const char *text, struct crl_err *err);
void crl_topo_free(struct crl_topo *t);

/* Distance of two nodes by index; 10 for the same, 20 for others when unknown. */
unsigned crl_topo_distance(const struct crl_topo *t, unsigned from, unsigned to);

/* Threads to run by default: one per core, less when the control groups' quota is less; at least 1. */
unsigned crl_topo_threads(const struct crl_topo *t);

/* --- binding: only with a real topology ----------------------------------------------------------------- */

/* Keep the calling thread on one processor. False when the system refuses: the thread floats on. */
bool crl_bind_thread(unsigned cpu);

/* Pages of [p, p + bytes) that are not touched yet come from node `os` and from nowhere else; p is page
 * aligned. CRL_EUNSUPPORTED when this system has no such call or a container forbids it, CRL_ERANGE when
 * there is no such node or this process may not use it; one sentence. */
enum crl_status crl_bind_memory(void *p, size_t bytes, unsigned os, struct crl_err *err);

/* The same, page by page in turn over n nodes. */
enum crl_status crl_bind_interleave(void *p, size_t bytes, const unsigned *os, size_t n, struct crl_err *err);

/* Where pages are: count[i] bytes of [p, p + bytes) on the node with system number i < n; *elsewhere: on
 * other nodes; *absent: not in memory. p is page aligned. CRL_EUNSUPPORTED when the system does not tell. */
enum crl_status crl_memory_where(const void *p, size_t bytes, uint64_t *count, size_t n, uint64_t *elsewhere,
                                 uint64_t *absent, struct crl_err *err);

#endif
