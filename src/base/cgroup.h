/* cgroup.h - what the control groups around this process leave of the machine: cores, processors, memory.
 *
 * Versions 1 and 2 of the kernel's interface, each limit at its tightest from the process's own group up to
 * the root that is visible: in a container that is its own group. Nothing here fails: what cannot be read is
 * no limit. */
#ifndef CRL_BASE_CGROUP_H
#define CRL_BASE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRL_CGROUP_CPUS 16384 /* processors and nodes with higher numbers are beyond this program */
#define CRL_CGROUP_NODES 1024

struct crl_cgroup {
    double cores;          /* processor time per time; 0: no limit */
    uint64_t memory_limit; /* bytes of the tightest limit; UINT64_MAX: none */
    uint64_t
        memory_left; /* of the group with the least left, page cache that can be dropped counted as left */
    bool has_cpus, has_nodes;
    uint8_t cpus[CRL_CGROUP_CPUS / 8]; /* bit per processor, with has_cpus */
    uint8_t nodes[CRL_CGROUP_NODES / 8];
};

/* root: put before /proc and /sys, "" for this system. */
void crl_cgroup_read(struct crl_cgroup *g, const char *root);

static inline bool crl_bit(const uint8_t *bits, size_t i)
{
    return bits[i / 8] >> i % 8 & 1;
}

/* Set bit i for every number in a list such as "0-3,8". False when it reads otherwise or names n or more;
 * bits up to there are then set. An empty list is fine. */
bool crl_list_parse(const char *text, uint8_t *bits, size_t n);

#endif
