/* cgroup.c - reading the limits of control groups. Kernel documentation: admin-guide/cgroup-v2,
 * cgroup-v1/cpusets, scheduler/sched-bwc. */
#define _GNU_SOURCE
#include "base/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 8192

static bool read_line(char *line, size_t size, const char *dir, const char *name)
{
    char path[PATH_BYTES];
    FILE *f;
    bool got;

    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path) return false;
    f = fopen(path, "r");
    got = f && fgets(line, (int)size, f);
    if (f) fclose(f);
    if (got) line[strcspn(line, "\n")] = 0;
    return got;
}

static bool read_u64(uint64_t *v, const char *dir, const char *name)
{
    char line[64];

    if (!read_line(line, sizeof line, dir, name) || line[0] < '0' || line[0] > '9')
        return false; /* "max", "-1" */
    *v = strtoull(line, NULL, 10);
    return true;
}

/* The number after `key` in the group's memory.stat. */
static uint64_t read_stat(const char *dir, const char *key)
{
    char path[PATH_BYTES], line[256];
    uint64_t v = 0;
    size_t len = strlen(key);
    FILE *f;

    if ((size_t)snprintf(path, sizeof path, "%s/memory.stat", dir) >= sizeof path) return 0;
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, len) && line[len] == ' ') v = strtoull(line + len, NULL, 10);
    if (f) fclose(f);
    return v;
}

bool crl_list_parse(const char *text, uint8_t *bits, size_t n)
{
    while (*text >= '0' && *text <= '9') {
        char *end;
        unsigned long long a = strtoull(text, &end, 10), b = a;

        if (*end == '-') {
            const char *second = end + 1;
            if (*second < '0' || *second > '9') return false;
            b = strtoull(second, &end, 10);
        }
        if (b < a) return false;
        for (unsigned long long i = a; i <= b && i < n; i++) bits[i / 8] |= (uint8_t)(1u << i % 8);
        if (b >= n) return false;
        if (*end != ',') return !*end;
        text = end + 1;
    }
    return !*text;
}

static void add_cpu(struct crl_cgroup *g, const char *dir, bool v2)
{
    char line[64];
    long long quota = 0, period = 0;

    if (v2) {
        if (!read_line(line, sizeof line, dir, "cpu.max") || sscanf(line, "%lld %lld", &quota, &period) != 2)
            return;
    } else {
        uint64_t q, p;
        if (!read_u64(&q, dir, "cpu.cfs_quota_us") || !read_u64(&p, dir, "cpu.cfs_period_us")) return;
        quota = q < INT64_MAX ? (long long)q : 0;
        period = p < INT64_MAX ? (long long)p : 0;
    }
    if (quota <= 0 || period <= 0) return;
    if (!(g->cores > 0) || (double)quota / (double)period < g->cores)
        g->cores = (double)quota / (double)period;
}

static void add_memory(struct crl_cgroup *g, const char *dir, bool v2)
{
    uint64_t limit, used, left;

    if (!read_u64(&limit, dir, v2 ? "memory.max" : "memory.limit_in_bytes")) return;
    if (limit >= (uint64_t)1 << 62) return; /* version 1 writes a huge number for none */
    if (limit < g->memory_limit) g->memory_limit = limit;
    if (!read_u64(&used, dir, v2 ? "memory.current" : "memory.usage_in_bytes")) used = 0;
    left = read_stat(dir, v2 ? "inactive_file" : "total_inactive_file");
    used = used > left ? used - left : 0;
    left = limit > used ? limit - used : 0;
    if (left < g->memory_left) g->memory_left = left;
}

/* The first group from the process's own on that has a list: the kernel already intersected it with its
 * parents'. */
static void add_cpuset(struct crl_cgroup *g, const char *dir, bool v2)
{
    char line[PATH_BYTES];

    if (!g->has_cpus &&
        read_line(line, sizeof line, dir, v2 ? "cpuset.cpus.effective" : "cpuset.effective_cpus") && line[0])
        g->has_cpus = crl_list_parse(line, g->cpus, CRL_CGROUP_CPUS);
    if (!g->has_nodes &&
        read_line(line, sizeof line, dir, v2 ? "cpuset.mems.effective" : "cpuset.effective_mems") && line[0])
        g->has_nodes = crl_list_parse(line, g->nodes, CRL_CGROUP_NODES);
}

/* Is `name` among the controllers "a,b,c"? */
static bool controls(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (!strncmp(p, name, len) && (!p[len] || p[len] == ',')) return true;
    return false;
}

typedef void add_fn(struct crl_cgroup *g, const char *dir, bool v2);

/* From the group up to the root of the mount. A path that is not visible (a container without a name space of
 * its own sees its group as the root) has no files, and its parents are asked. */
static void walk(struct crl_cgroup *g, const char *mount, const char *group, bool v2, add_fn *add)
{
    char dir[PATH_BYTES];
    size_t root = strlen(mount);

    if ((size_t)snprintf(dir, sizeof dir, "%s%s", mount, group) >= sizeof dir) return;
    for (;;) {
        char *slash;
        add(g, dir, v2);
        slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < root) break;
        *slash = 0;
    }
}

void crl_cgroup_read(struct crl_cgroup *g, const char *root)
{
    static const struct {
        const char *controller;
        add_fn *add;
    } part[] = { { "cpu", add_cpu }, { "memory", add_memory }, { "cpuset", add_cpuset } };
    char path[PATH_BYTES], mount[PATH_BYTES / 2], line[PATH_BYTES];
    FILE *f;

    memset(g, 0, sizeof *g);
    g->memory_limit = g->memory_left = UINT64_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) { /* "4:cpu,cpuacct:/group", "0::/group" */
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        bool v2;

        line[strcspn(line, "\n")] = 0;
        if (!group) continue;
        *group++ = 0;
        v2 = !*++list;
        if (!strcmp(group, "/")) group = (char *)"";
        for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
            if (!v2 && !controls(list, part[i].controller)) continue;
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s%s", root, v2 ? "" : "/",
                     v2 ? "" : part[i].controller);
            walk(g, mount, group, v2, part[i].add);
        }
    }
    if (f) fclose(f);
}
