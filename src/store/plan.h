/* plan.h - which part of a model lies where, who computes it, and how fast that will be: a pure function of
 * schema, formats, topology and mode. docs/numa.md explains the scheme; nothing here touches weights or binds
 * anything.
 *
 * The plan's nodes are the memory nodes of the topology whose cores run threads. Matrices are cut by panels
 * of 16 rows into slices; a slice lies in one region (memory of one node) and is computed by the threads of
 * one node, which is where it lies except in the modes that do not place. What is read per token is cut
 * evenly, so that all nodes finish together:
 *
 *   CRL_NUMA_ROWS        every matrix over all nodes.
 *   CRL_NUMA_EXPERTS     the nodes form two sides of equal bandwidth (two sockets: a side each; of an odd
 *                        number of nodes the middle one works for both). A routed expert belongs to its home
 *                        side and is cut over that side's nodes; the shared expert is there once per side.
 *                        For one token the home side computes the routed expert while the other side computes
 *                        the shared one. The rest is as with rows. On one package there is one side, and the
 *                        plan is that of rows.
 *   CRL_NUMA_INTERLEAVE  work is cut as with rows, memory is one region with pages in turn on all nodes.
 *   CRL_NUMA_OFF         work is cut as with rows, memory is one region that nobody binds.
 *
 * Small tensors (norms, biases, routers) are copied to every node in the placed modes.
 *
 * A placement is immutable, borrows nothing, and is freed by crl_placement_free. */
#ifndef CRL_STORE_PLAN_H
#define CRL_STORE_PLAN_H

#include "base/topo.h"
#include "store/schema.h"

enum crl_numa { CRL_NUMA_AUTO = 0, CRL_NUMA_EXPERTS, CRL_NUMA_ROWS, CRL_NUMA_INTERLEAVE, CRL_NUMA_OFF };
#define CRL_NUMA_END 5

/* "auto", "experts" ...; false for what is none. */
const char *crl_numa_name(enum crl_numa mode);
bool crl_numa_parse(const char *name, enum crl_numa *mode);

/* --- the cost model's inputs ---------------------------------------------------------------------------- */

/* Everything the prediction rests on. docs/numa.md, "The cost model", has equations and sources. */
struct crl_cost {
    double node_bandwidth; /* bytes/s one node's memory delivers to its own cores; 0: stated by the firmware,
                              or package_bandwidth / nodes of the package */
    double package_bandwidth; /* bytes/s all memory of a package delivers: sustained, not the data sheet's */
    double package_peak;      /* bytes/s of the data sheet, 0: unknown */
    double hbm_bandwidth;     /* bytes/s of a package's on-package memory */
    double far_bandwidth;     /* bytes/s of a memory-only node behind a link */
    double core_bandwidth;    /* bytes/s one core can draw */
    double link_bandwidth;    /* bytes/s from one package to another, one direction */
    double kernel_fraction;   /* of bandwidth that the kernels reach */
    double exchange_near;     /* bytes/s at which a core reads what another core of its package just wrote */
    double exchange_far;      /* the same from another package */
    double join_core;         /* s per thread of a node that arrives at a join */
    double join_node;         /* s per node that arrives, and to let it go */
    double core_act;          /* activations/s a core norms and quantises */
    double head_s;            /* s per kv head for positions and the first block of keys */
    double core_ops;          /* int8 operations/s of one core (a multiply-add is two) */
    double ops_fraction;      /* of them that the kernels reach on a long prompt */
    double core_flops;        /* float32 operations/s of one core */
    double flops_fraction;    /* of them that attention reaches on a long prompt */
    char memory[32];          /* name of the memory the bandwidths come from: "ddr5-4800x8", "measured" */
};

/* The documented defaults, with the memory "ddr5-4800x8". */
void crl_cost_default(struct crl_cost *c);

/* Set the bandwidths of a package from a memory's name: "ddr4-3200x8", "ddr5-5600x12": transfers/s and
 * channels of a package. CRL_ERANGE when it reads otherwise. */
enum crl_status crl_cost_memory(struct crl_cost *c, const char *name, struct crl_err *err);

/* --- the plan ------------------------------------------------------------------------------------------- */

struct crl_placement_options {
    enum crl_numa mode;
    unsigned n_thread;       /* 0: crl_topo_threads */
    unsigned batch;          /* tokens in flight for the prediction; 0: 1 */
    size_t n_prompt;         /* tokens of the prompt predicted; 0: 512 */
    size_t n_ctx;            /* position at which decoding is predicted; 0: an empty cache */
    uint64_t kv_bytes;       /* memory of all caches, split by kv head */
    double kv_value_bytes; /* bytes per cached value, padding and scales included; 0: 2 */
    /* How often each expert was chosen, [n_layer][n_expert], NULL: evenly. Homes then even the sides in every
     * layer. */
    const double *routed;
    const struct crl_cost *cost; /* NULL: crl_cost_default */
};

/* How a matrix is kept. */
enum crl_share {
    CRL_SHARE_SPLIT,     /* once, cut over all nodes */
    CRL_SHARE_HOME,      /* once, cut over the nodes of one side: a routed expert */
    CRL_SHARE_EACH_SIDE, /* a copy per side, each cut over that side's nodes: the shared expert */
    CRL_SHARE_EACH_NODE  /* a copy per node: small tensors */
};

/* Panels [panel_lo, panel_hi) of one copy of a matrix. A F32 matrix counts as one panel. A matrix's header
 * lies before panel 0 and belongs to the slice that has it. */
struct crl_slice {
    uint32_t weight;
    uint16_t copy;   /* 0 for a split or home matrix, else the side or node it is for */
    uint16_t node;   /* index of the node whose threads compute it */
    uint16_t region; /* index of the region it lies in */
    uint32_t panel_lo, panel_hi;
    uint64_t offset; /* bytes from the start of its extent */
    uint64_t bytes;
    /* Bytes from the region's start, equal to offset modulo 4096, so that whole blocks can be read to it
     * directly. Slices that follow each other in an extent and lie in one region follow each other there too. */
    uint64_t at;
};

struct crl_weight_place {
    enum crl_share share;
    uint16_t n_copy;
    uint16_t home;        /* side of a CRL_SHARE_HOME matrix, else 0 */
    uint32_t first_slice; /* its slices, by copy and panel */
    uint32_t n_slice;
};

/* Memory to be mapped. */
struct crl_region_plan {
    int topo_node;   /* index in the topology; -1: not bound to one node */
    bool interleave; /* over the nodes of the plan */
    unsigned node;   /* index in node[] of those who use it; 0 when all do */
    uint64_t bytes;  /* of weights, gaps included; a multiple of 4096 */
    uint64_t kv_bytes;
    uint64_t room_bytes; /* what the node can give */
    double bandwidth;    /* bytes/s */
};

struct crl_node_plan {
    unsigned topo_node; /* index in the topology */
    unsigned package;
    unsigned first_thread, n_thread;
    unsigned first_kv_head, n_kv_head; /* heads whose cache lies here and whose attention runs here */
    double share[2];                   /* part of each side's rows; share[1] is 0 when there is one side */
    double bandwidth;      /* bytes/s its threads get from its nearest memory, before kernel_fraction */
    uint64_t weight_bytes; /* of all its slices */
    uint64_t token_bytes;  /* of them, read for one token of a batch of one: the mean over experts */
};

struct crl_thread_plan {
    unsigned cpu;  /* the system's number of the processor */
    unsigned core; /* index in the topology */
    unsigned node; /* index in node[] */
};

/* Seconds of one token, and what follows from them. */
struct crl_speed {
    double tokens_per_s;  /* decoding, all tokens of the batch */
    double prefill_per_s; /* tokens/s of a prompt */
    double weights_s;     /* of a step of decoding: reading weights */
    double cache_s;       /* reading keys and values */
    double exchange_s;    /* activations between cores */
    double small_s;       /* norms, quantising and routing, which every thread does for itself */
    double join_s;
    double bandwidth; /* bytes/s of weights */
    double aggregate; /* bytes/s that the memory of all nodes delivers */
    /* over the plan of rows for one package alone, whether that would fit or not */
    double speedup_vs_one_socket;
};

struct crl_placement {
    enum crl_numa mode; /* never auto */
    unsigned n_side;    /* 2 in experts mode on several packages, else 1 */
    unsigned n_node, n_region, n_thread;
    unsigned n_kv_head;
    struct crl_node_plan *node;
    struct crl_region_plan *region;
    struct crl_thread_plan *thread; /* by node */
    size_t n_weight, n_slice;
    struct crl_weight_place *weight; /* [n_weight] as in the schema */
    struct crl_slice *slice;
    uint64_t model_bytes;   /* all matrices once */
    uint64_t replica_bytes; /* further copies */
    bool fits;              /* every region has room */
    char why[256];          /* one sentence when it does not fit */
    char note[4][192];      /* what the user should know: cores left out and the like */
    unsigned n_note;
    struct crl_speed speed;
};

/* format[i] is that of weight i. CRL_ERANGE for threads or shapes that cannot be planned; a plan that does
 * not fit is made nevertheless and says so. With CRL_NUMA_AUTO the fastest mode that fits; of equals the
 * simplest. */
enum crl_status crl_placement_new(struct crl_placement **out, const struct crl_schema *schema,
                                  const enum crl_format *format, const struct crl_topo *topo,
                                  const struct crl_placement_options *options, struct crl_err *err);
void crl_placement_free(struct crl_placement *p);

/* The slice of a copy that a node computes, NULL when it has none. */
const struct crl_slice *crl_placement_slice(const struct crl_placement *p, size_t weight, unsigned copy,
                                            unsigned node);

/* Panels [*lo, *hi) of such a slice that fall to thread `t` of the plan: its node's panels cut evenly in
 * units that may not be torn (4 panels of gate-up, else 1). Empty when the thread's node has no slice. */
void crl_placement_panels(const struct crl_placement *p, const struct crl_schema *s, size_t weight,
                          unsigned copy, unsigned t, size_t *lo, size_t *hi);

/* Two sides, several tokens: which part of the shared expert's units each side takes so that both have the
 * same work. cost[i] is the routed work of side i, `shared` that of the whole shared expert, both in one
 * unit. Side 0 computes units [0, result), side 1 the rest; one token gives 0 or n_unit. */
size_t crl_placement_shared_cut(const double cost[2], double shared, size_t n_unit);

/* Counts for crl_placement_options.routed, [n_layer][n_expert] in fresh memory (crl_free): a JSON object whose key
 * "counts" is a list with a list of n_expert numbers per layer; dense layers may have none. */
enum crl_status crl_routing_read(double **counts, const char *path, const struct crl_config *cfg,
                                 struct crl_err *err);

/* Which recipe or mode would fit where a plan does not; one sentence, empty when nothing does. */
void crl_placement_advise(const struct crl_schema *schema, const enum crl_format *format,
                          const struct crl_topo *topo, const struct crl_placement_options *options,
                          char *text, size_t size);

#endif
