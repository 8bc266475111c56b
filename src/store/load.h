/* load.h - the weights of a packed file in memory, each slice in the region where the plan wants it.
 *
 * Loading reads the file rather than mapping it: regions are anonymous memory, bound before first touch, on huge pages
 * where there are any, and every slice is read by the threads of the node that will compute with it, straight to its
 * place. Blocks that the page cache does not hold are read past it (O_DIRECT), so a model is in memory once; what it
 * holds is copied from there, which is faster. Each extent's hash is computed from the bytes just read.
 *
 * Two kinds of weights are not read: those of a pack that lies in memory already, when nothing is to be placed, and those
 * of a file that is to stay mapped (`mapped`, the low-memory mode), whose pages come when they are touched.
 *
 * Weights borrow pack and plan, are immutable, and are freed by crl_weights_free. docs/numa.md, "Loading". */
#ifndef CRL_STORE_LOAD_H
#define CRL_STORE_LOAD_H

#include "store/pack.h"
#include "store/plan.h"

struct crl_weights;

/* Zeroed (or NULL): read, verify, say nothing. */
struct crl_load_options {
    bool mapped;    /* leave the weights in the file; the plan's mode is off */
    bool no_verify; /* do not compute hashes */
    bool buffered;  /* never read past the page cache */
    crl_progress_fn *progress; /* from the calling thread; false stops with CRL_EINTR */
    void *ctx;
    /* Stands in for pread in tests: fd -1 of a direct read is not passed through. NULL: the system's. */
    int64_t (*read)(void *ctx, int fd, void *to, size_t len, uint64_t offset);
};

struct crl_load_stats {
    uint64_t bytes;        /* read from the file, or copied from memory */
    uint64_t direct_bytes; /* of them past the page cache */
    uint64_t region_bytes; /* of memory mapped for weights; 0 when they were left where they are */
    double seconds;
    bool verified;
    char note[3][384]; /* what the user should know: binding forbidden, no direct reads */
    unsigned n_note;
};

/* The team has one group per node of the plan, or one in all. The topology is the one the plan was made for; regions are
 * bound only when it is real. Where binding is not permitted the weights are loaded unbound and a note says so.
 * CRL_EIO: a read failed or the file has changed; CRL_EFORMAT: a damaged extent; CRL_ENOMEM; CRL_EINTR. */
enum crl_status crl_weights_load(struct crl_weights **out, struct crl_pack *pack, const struct crl_placement *plan,
                                 const struct crl_topo *topo, struct crl_team *team,
                                 const struct crl_load_options *options, struct crl_err *err);
void crl_weights_free(struct crl_weights *w);

const struct crl_load_stats *crl_weights_stats(const struct crl_weights *w);
const struct crl_placement *crl_weights_plan(const struct crl_weights *w);
const struct crl_pack *crl_weights_pack(const struct crl_weights *w);
bool crl_weights_mapped(const struct crl_weights *w);

/* Bind `m` to the panels [*lo, *hi) of a matrix that `node` computes from copy `copy`: m->panel is where panel 0 would
 * lie. In mapped weights the levels of a routed expert's Q4 matrix are left in the file (crl_mat_late). False, *lo = *hi
 * and no memory, when the node has no part of it. */
bool crl_weights_mat(const struct crl_weights *w, size_t weight, unsigned copy, unsigned node, struct crl_mat *m,
                     size_t *lo, size_t *hi);

/* Of a matrix that every node reads as a whole (norms, router): the nearest copy. Of one that is cut: the memory of the
 * slice that holds `panel`. */
void crl_weights_panel(const struct crl_weights *w, size_t weight, unsigned node, size_t panel, struct crl_mat *m);

/* Where the pages of the weights are, per node of the plan: bytes of its slices on the node and elsewhere, which with
 * those not in memory are all its weight_bytes. Regions that the plan does not bind to one node count as local everywhere
 * on the nodes they are spread over. CRL_EUNSUPPORTED when the machine is pretended, nothing was placed, or the system
 * does not tell. */
struct crl_where {
    uint64_t local, remote, absent;
};
enum crl_status crl_weights_where(const struct crl_weights *w, struct crl_where *where, struct crl_err *err);

/* A routed expert is about to be read: part `part` of `of` of its bytes is asked from the disk, if the weights are
 * mapped and it was not asked before. Any thread. */
void crl_weights_want(const struct crl_weights *w, size_t weight, unsigned part, unsigned of);

/* Between passes: forget what was asked for when pages had to be read one by one since, because the system took them
 * back. */
void crl_weights_tick(struct crl_weights *w);

#endif
