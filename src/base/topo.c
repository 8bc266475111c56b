/* topo.c - reading the machine with hwloc, binding with libnuma's system calls. */
#define _GNU_SOURCE
#include "base/topo.h"

#include "base/cgroup.h"
#include "base/mem.h"

#include <errno.h>
#include <hwloc.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DISTANCE_LOCAL 10
#define DISTANCE_OTHER 20

/* --- loading -------------------------------------------------------------------------------------------- */

/* What is used while a topology is read. */
struct reader {
    hwloc_topology_t hw;
    hwloc_obj_t node[CRL_NODE_MAX]; /* in hwloc's order */
    unsigned n_node;
    hwloc_bitmap_t usable; /* processors this process may use */
    struct crl_cgroup group;
    struct crl_topo *t;
};

static enum crl_status set_source(struct reader *r, const char *text, struct crl_err *err)
{
    if (!text) return CRL_OK;
    if (access(text, R_OK) == 0) {
        if (hwloc_topology_set_xml(r->hw, text))
            return crl_fail(err, CRL_EFORMAT, "%.200s: not a topology in hwloc's XML", text);
        return CRL_OK;
    }
    if (strlen(text) > 4 && !strcmp(text + strlen(text) - 4, ".xml"))
        return crl_fail(err, CRL_ENOENT, "%.200s: %s", text, strerror(errno));
    if (hwloc_topology_set_synthetic(r->hw, text))
        return crl_fail(err, CRL_EFORMAT,
                        "topology \"%.160s\" is neither a file nor a synthetic description such as "
                        "\"package:2 [numa(memory=256GiB)] core:32 pu:1\"",
                        text);
    return CRL_OK;
}

static enum crl_status load(struct reader *r, const char *text, struct crl_err *err)
{
    enum crl_status st;

    if (hwloc_topology_init(&r->hw)) return crl_fail(err, CRL_ENOMEM, "no memory for a topology");
    st = set_source(r, text, err);
    if (st) return st;
    hwloc_topology_set_io_types_filter(r->hw, HWLOC_TYPE_FILTER_KEEP_NONE);
    if (hwloc_topology_load(r->hw))
        return crl_fail(err, CRL_EFORMAT, "topology \"%.160s\" cannot be read: %s",
                        text ? text : "of this machine", strerror(errno));
    r->n_node = (unsigned)hwloc_get_nbobjs_by_type(r->hw, HWLOC_OBJ_NUMANODE);
    if (r->n_node > CRL_NODE_MAX)
        return crl_fail(err, CRL_EUNSUPPORTED, "the topology has %u memory nodes, at most %d are supported",
                        r->n_node, CRL_NODE_MAX);
    for (unsigned i = 0; i < r->n_node; i++) r->node[i] = hwloc_get_obj_by_type(r->hw, HWLOC_OBJ_NUMANODE, i);
    return CRL_OK;
}

/* hwloc leaves out what control groups forbid where it can read them; the affinity mask and the files are
 * asked too. */
static enum crl_status find_usable(struct reader *r, struct crl_err *err)
{
    hwloc_bitmap_t mask;

    r->usable = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(r->hw));
    mask = hwloc_bitmap_alloc();
    if (!r->usable || !mask) {
        hwloc_bitmap_free(mask);
        return crl_fail(err, CRL_ENOMEM, "no memory for a topology");
    }
    if (r->t->real) {
        if (!hwloc_get_cpubind(r->hw, mask, HWLOC_CPUBIND_THREAD))
            hwloc_bitmap_and(r->usable, r->usable, mask);
        for (int i = hwloc_bitmap_first(r->usable); r->group.has_cpus && i >= 0;
             i = hwloc_bitmap_next(r->usable, i))
            if (i >= CRL_CGROUP_CPUS || !crl_bit(r->group.cpus, (size_t)i))
                hwloc_bitmap_clr(r->usable, (unsigned)i);
    }
    hwloc_bitmap_free(mask);
    return CRL_OK;
}

static unsigned package_of(const struct reader *r, hwloc_obj_t node)
{
    unsigned n = (unsigned)hwloc_get_nbobjs_by_type(r->hw, HWLOC_OBJ_PACKAGE);

    for (unsigned i = 0; i < n; i++) {
        hwloc_obj_t p = hwloc_get_obj_by_type(r->hw, HWLOC_OBJ_PACKAGE, i);
        if (p && hwloc_bitmap_intersects(p->cpuset, node->cpuset)) return i;
    }
    return 0;
}

static double stated_bandwidth(const struct reader *r, hwloc_obj_t node)
{
    struct hwloc_location who;
    hwloc_uint64_t mib = 0;

    who.type = HWLOC_LOCATION_TYPE_CPUSET;
    who.location.cpuset = node->cpuset;
    if (hwloc_bitmap_iszero(node->cpuset) ||
        hwloc_memattr_get_value(r->hw, HWLOC_MEMATTR_ID_BANDWIDTH, node, &who, 0, &mib))
        return 0;
    return (double)mib * 1048576;
}

/* Nodes that share their processors: the first DRAM among them owns the cores. What else it is has to be
 * stated: by a subtype, or by a bandwidth beside that of the first. */
static enum crl_memory_kind kind_of(const struct reader *r, unsigned i)
{
    const char *sub = r->node[i]->subtype;
    double own = stated_bandwidth(r, r->node[i]);

    if (sub && (!strcmp(sub, "HBM") || !strcmp(sub, "MCDRAM"))) return CRL_MEMORY_HBM;
    if (sub && !strncmp(sub, "CXL", 3)) return CRL_MEMORY_FAR;
    for (unsigned j = 0; j < i; j++) {
        if (!hwloc_bitmap_isequal(r->node[j]->cpuset, r->node[i]->cpuset)) continue;
        return own > 0 && own > stated_bandwidth(r, r->node[j]) ? CRL_MEMORY_HBM : CRL_MEMORY_FAR;
    }
    return CRL_MEMORY_DRAM;
}

/* The number after `key` of a node's meminfo, in bytes. */
static uint64_t meminfo(unsigned os, const char *key)
{
    char path[96], line[256];
    uint64_t bytes = 0;
    FILE *f;

    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/meminfo", os);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, key);
        if (at) bytes = strtoull(at + strlen(key), NULL, 10) * 1024;
    }
    if (f) fclose(f);
    return bytes;
}

static uint64_t free_huge(unsigned os, uint64_t page_bytes)
{
    char path[128];
    unsigned long long n = 0;
    FILE *f;

    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/hugepages/hugepages-%llukB/free_hugepages",
             os, (unsigned long long)page_bytes / 1024);
    f = fopen(path, "r");
    if (f && fscanf(f, "%llu", &n) != 1) n = 0;
    if (f) fclose(f);
    return n;
}

static void read_huge(const struct reader *r, hwloc_obj_t obj, struct crl_topo_node *n)
{
    const struct hwloc_numanode_attr_s *a = &obj->attr->numanode;

    for (unsigned i = 0; i < a->page_types_len && n->n_huge < CRL_HUGE_KINDS; i++) {
        uint64_t size = a->page_types[i].size, count = a->page_types[i].count;
        if (size < (uint64_t)1 << 20) continue; /* the ordinary pages */
        n->huge[n->n_huge++] =
            (struct crl_huge_pool){ size, count, r->t->real ? free_huge(n->os, size) : count };
    }
}

static void read_node(const struct reader *r, unsigned i, struct crl_topo_node *n)
{
    memset(n, 0, sizeof *n);
    n->os = r->node[i]->os_index;
    n->package = package_of(r, r->node[i]);
    n->kind = kind_of(r, i);
    n->total_bytes = r->node[i]->attr->numanode.local_memory;
    n->free_bytes = n->total_bytes;
    n->bandwidth = stated_bandwidth(r, r->node[i]);
    read_huge(r, r->node[i], n);
    if (r->t->real) {
        uint64_t free_now = meminfo(n->os, "MemFree:") + meminfo(n->os, "FilePages:") -
                            meminfo(n->os, "Shmem:") + meminfo(n->os, "SReclaimable:");
        if (meminfo(n->os, "MemTotal:"))
            n->free_bytes = free_now < n->total_bytes ? free_now : n->total_bytes;
    }
}

/* Ordered by package, then by system number; order[] maps our index to hwloc's. */
static void order_nodes(const struct reader *r, unsigned order[CRL_NODE_MAX])
{
    for (unsigned i = 0; i < r->n_node; i++) {
        unsigned at = i, package = package_of(r, r->node[i]);
        for (; at; at--) {
            unsigned before = order[at - 1], p = package_of(r, r->node[before]);
            if (p < package || (p == package && r->node[before]->os_index < r->node[i]->os_index)) break;
            order[at] = before;
        }
        order[at] = i;
    }
}

/* The node a processor belongs to: of those it is local to, the narrowest; memory of its own first, then
 * DRAM. */
static unsigned node_of(const struct reader *r, const unsigned *order, unsigned cpu)
{
    unsigned best = 0;
    long best_score = -1;

    for (unsigned i = 0; i < r->n_node; i++) {
        hwloc_obj_t o = r->node[order[i]];
        long score;
        if (!hwloc_bitmap_isset(o->cpuset, cpu)) continue;
        score = (CRL_CORE_MAX * 4 - hwloc_bitmap_weight(o->cpuset)) * 8L +
                (r->t->node[i].kind == CRL_MEMORY_DRAM) * 4 + (r->t->node[i].kind == CRL_MEMORY_HBM) * 2 +
                (r->t->node[i].total_bytes > 0);
        if (score > best_score) {
            best_score = score;
            best = i;
        }
    }
    return best;
}

/* Cores in hwloc's order, or processors where it knows no cores. */
static unsigned n_core_objects(const struct reader *r, hwloc_obj_type_t *type)
{
    int n = hwloc_get_nbobjs_by_type(r->hw, HWLOC_OBJ_CORE);

    *type = n > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    if (n <= 0) n = hwloc_get_nbobjs_by_type(r->hw, HWLOC_OBJ_PU);
    return n > 0 ? (unsigned)n : 0;
}

static void read_cores(struct reader *r, const unsigned *order, hwloc_obj_type_t type, unsigned n)
{
    struct crl_topo *t = r->t;

    for (unsigned node = 0; node < t->n_node; node++) {
        t->node[node].first_core = t->n_core;
        for (unsigned i = 0; i < n; i++) {
            hwloc_obj_t o = hwloc_get_obj_by_type(r->hw, type, i);
            unsigned n_pu = 0, first = 0;
            for (int c = hwloc_bitmap_first(o->cpuset); c >= 0; c = hwloc_bitmap_next(o->cpuset, c)) {
                if (!hwloc_bitmap_isset(r->usable, (unsigned)c)) continue;
                if (!n_pu++) first = (unsigned)c;
            }
            if (!n_pu || node_of(r, order, first) != node) continue;
            t->core[t->n_core++] = (struct crl_topo_core){ first, node, n_pu };
        }
        t->node[node].n_core = t->n_core - t->node[node].first_core;
    }
}

static void read_distances(const struct reader *r, const unsigned *order)
{
    struct hwloc_distances_s *d = NULL;
    unsigned n = 1;

    if (hwloc_distances_get_by_type(r->hw, HWLOC_OBJ_NUMANODE, &n, &d, HWLOC_DISTANCES_KIND_MEANS_LATENCY,
                                    0) ||
        !n)
        return;
    for (unsigned i = 0; i < r->n_node; i++)
        for (unsigned j = 0; j < r->n_node; j++) {
            hwloc_uint64_t there, back;
            if (!hwloc_distances_obj_pair_values(d, r->node[order[i]], r->node[order[j]], &there, &back))
                r->t->distance[i * r->n_node + j] = there < 65536 ? (unsigned)there : 65535;
        }
    hwloc_distances_release(r->hw, d);
}

/* Memory only: the node with cores that is nearest, of the same package when distances do not tell. */
static void find_homes(struct crl_topo *t)
{
    for (unsigned i = 0; i < t->n_node; i++) {
        unsigned best = i, least = 0;
        for (unsigned j = 0; j < t->n_node && !t->node[i].n_core; j++) {
            unsigned d = 2 * crl_topo_distance(t, j, i) + (t->node[j].package != t->node[i].package);
            if (!t->node[j].n_core || (best != i && d >= least)) continue;
            best = j;
            least = d;
        }
        t->node[i].home = best;
    }
}

/* Packages numbered by what is there. */
static void number_packages(struct crl_topo *t)
{
    unsigned last = 0;

    for (unsigned i = 0; i < t->n_node; i++) { /* nodes are ordered by package */
        if (!i || t->node[i].package != last) t->n_package++;
        last = t->node[i].package;
        t->node[i].package = t->n_package - 1;
    }
}

static enum crl_status check(const struct crl_topo *t, struct crl_err *err)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < t->n_node; i++) bytes += t->node[i].total_bytes;
    if (!t->n_core) return crl_fail(err, CRL_EUNSUPPORTED, "%s: no processor is left to use", t->source);
    if (!bytes)
        return crl_fail(err, CRL_EUNSUPPORTED,
                        "%s: no node has memory; in a synthetic description write [numa(memory=256GiB)]",
                        t->source);
    return CRL_OK;
}

static enum crl_status allocate(struct reader *r, const char *text, unsigned n_core, struct crl_err *err)
{
    struct crl_topo *t = crl_alloc(1, sizeof *t);

    if (n_core > CRL_CORE_MAX) {
        crl_free(t);
        return crl_fail(err, CRL_EUNSUPPORTED, "the topology has %u cores, at most %d are supported", n_core,
                        CRL_CORE_MAX);
    }
    r->t = t;
    if (t) {
        t->node = crl_alloc(r->n_node, sizeof *t->node);
        t->core = crl_alloc(n_core, sizeof *t->core);
        t->distance = crl_alloc((size_t)r->n_node * r->n_node, sizeof *t->distance);
    }
    if (!t || !t->node || !t->core || !t->distance)
        return crl_fail(err, CRL_ENOMEM, "no memory for a topology");
    t->real = hwloc_topology_is_thissystem(r->hw);
    t->n_node = r->n_node;
    t->memory_limit = UINT64_MAX;
    snprintf(t->source, sizeof t->source, "%s", text ? text : "this machine");
    t->n_cpu_system = (unsigned)hwloc_bitmap_weight(hwloc_topology_get_complete_cpuset(r->hw));
    return CRL_OK;
}

enum crl_status crl_topo_load(struct crl_topo **out, const char *text, struct crl_err *err)
{
    struct reader *r = crl_alloc(1, sizeof *r);
    unsigned order[CRL_NODE_MAX], n_core = 0;
    hwloc_obj_type_t type = HWLOC_OBJ_CORE;
    enum crl_status st = r ? load(r, text, err) : crl_fail(err, CRL_ENOMEM, "no memory for a topology");

    *out = NULL;
    if (!st) n_core = n_core_objects(r, &type);
    if (!st) st = allocate(r, text, n_core, err);
    if (!st && r->t->real) {
        crl_cgroup_read(&r->group, "");
        r->t->quota_cores = r->group.cores;
        r->t->memory_limit = r->group.memory_left;
    }
    if (!st) st = find_usable(r, err);
    if (!st) {
        order_nodes(r, order);
        for (unsigned i = 0; i < r->n_node; i++) read_node(r, order[i], &r->t->node[i]);
        read_cores(r, order, type, n_core);
        read_distances(r, order);
        number_packages(r->t);
        find_homes(r->t);
        st = check(r->t, err);
    }
    if (!st) *out = r->t;
    else if (r) crl_topo_free(r->t);
    if (r) {
        hwloc_bitmap_free(r->usable);
        if (r->hw) hwloc_topology_destroy(r->hw);
    }
    crl_free(r);
    return st;
}

void crl_topo_free(struct crl_topo *t)
{
    if (!t) return;
    crl_free(t->node);
    crl_free(t->core);
    crl_free(t->distance);
    crl_free(t);
}

unsigned crl_topo_distance(const struct crl_topo *t, unsigned from, unsigned to)
{
    unsigned d = t->distance[(size_t)from * t->n_node + to];

    if (from == to) return DISTANCE_LOCAL;
    return d ? d : DISTANCE_OTHER;
}

unsigned crl_topo_threads(const struct crl_topo *t)
{
    double quota = t->quota_cores;
    unsigned n = t->n_core;

    if (quota > 0 && quota < n) n = (unsigned)(quota + 0.999); /* a part of a core still runs a thread */
    return n ? n : 1;
}

/* --- binding -------------------------------------------------------------------------------------------- */

bool crl_bind_thread(unsigned cpu)
{
    cpu_set_t *set = CPU_ALLOC(CRL_CORE_MAX * 8);
    size_t size = CPU_ALLOC_SIZE(CRL_CORE_MAX * 8);
    bool done;

    if (!set) return false;
    CPU_ZERO_S(size, set);
    CPU_SET_S(cpu, size, set);
    done = cpu < CRL_CORE_MAX * 8 && sched_setaffinity(0, size, set) == 0;
    CPU_FREE(set);
    return done;
}

#define MASK_BITS 1024 /* the kernel's largest number of nodes */
#define LONG_BITS (8 * sizeof(unsigned long))

static enum crl_status bind_range(void *p, size_t bytes, int policy, const unsigned *os, size_t n,
                                  struct crl_err *err)
{
    unsigned long mask[MASK_BITS / LONG_BITS] = { 0 };

    for (size_t i = 0; i < n; i++) {
        if (os[i] >= MASK_BITS) return crl_fail(err, CRL_ERANGE, "there is no memory node %u", os[i]);
        mask[os[i] / LONG_BITS] |= 1ul << os[i] % LONG_BITS;
    }
    if (!bytes || !mbind(p, bytes, policy, mask, MASK_BITS + 1, 0)) return CRL_OK;
    if (errno == EINVAL)
        return crl_fail(err, CRL_ERANGE, "memory node %u cannot be used by this process", os[0]);
    return crl_fail(err, CRL_EUNSUPPORTED,
                    "memory cannot be bound to nodes here (mbind: %s); a container may forbid it",
                    strerror(errno));
}

enum crl_status crl_bind_memory(void *p, size_t bytes, unsigned os, struct crl_err *err)
{
    return bind_range(p, bytes, MPOL_BIND, &os, 1, err);
}

enum crl_status crl_bind_interleave(void *p, size_t bytes, const unsigned *os, size_t n, struct crl_err *err)
{
    return n ? bind_range(p, bytes, MPOL_INTERLEAVE, os, n, err) : CRL_OK;
}

#define WHERE_PAGES 4096 /* asked at once */

enum crl_status crl_memory_where(const void *p, size_t bytes, uint64_t *count, size_t n, uint64_t *elsewhere,
                                 uint64_t *absent, struct crl_err *err)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n_page = (bytes + page - 1) / page;
    void **at = crl_alloc(WHERE_PAGES, sizeof *at);
    int *where = crl_alloc(WHERE_PAGES, sizeof *where);
    enum crl_status st =
        at && where ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory to ask for page locations");

    memset(count, 0, n * sizeof *count);
    *elsewhere = *absent = 0;
    for (size_t done = 0; !st && done < n_page; done += WHERE_PAGES) {
        size_t m = n_page - done < WHERE_PAGES ? n_page - done : WHERE_PAGES;
        for (size_t i = 0; i < m; i++) at[i] = (char *)(uintptr_t)p + (done + i) * page;
        if (move_pages(0, m, at, NULL, where, 0)) {
            st = crl_fail(err, CRL_EUNSUPPORTED, "the system does not tell where pages are (move_pages: %s)",
                          strerror(errno));
            break;
        }
        for (size_t i = 0; i < m; i++) {
            size_t from = (done + i) * page, size = bytes - from < page ? bytes - from : page;
            if (where[i] < 0) *absent += size;
            else if ((size_t)where[i] < n) count[where[i]] += size;
            else *elsewhere += size;
        }
    }
    crl_free(at);
    crl_free(where);
    return st;
}
