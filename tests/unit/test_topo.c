/* test_topo.c - machines read from descriptions and recorded files, control groups, binding on this machine. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cgroup.h"
#include "base/mem.h"
#include "base/team.h"
#include "base/topo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* --- descriptions ----------------------------------------------------------------------------------------- */

/* cores lists the cores of each node in order, a byte each. */
static const struct {
    const char *text;
    unsigned n_package, n_node, n_core;
    unsigned char cores[8], kind[8];
} machines[] = {
    { "core:4 pu:1", 1, 1, 4, { 4 }, { 0 } },
    { "package:2 [numa(memory=256GiB)] core:32 pu:1", 2, 2, 64, { 32, 32 }, { 0 } },
    { "package:2 [numa(memory=256GiB)] core:8 pu:2", 2, 2, 16, { 8, 8 }, { 0 } },
    { "package:2 numa:2(memory=96GiB) core:4 pu:2", 2, 4, 16, { 4, 4, 4, 4 }, { 0 } },
    { "package:2 group:2 [numa(memory=96GiB)] core:3 pu:2", 2, 4, 12, { 3, 3, 3, 3 }, { 0 } },
    { "package:1 numa:4(memory=96GiB) core:2 pu:1", 1, 4, 8, { 2, 2, 2, 2 }, { 0 } },
    { "package:8 [numa(memory=64GiB)] core:2 pu:1", 8, 8, 16, { 2, 2, 2, 2, 2, 2, 2, 2 }, { 0 } },
    { "package:3 [numa(memory=64GiB)] core:5 pu:1", 3, 3, 15, { 5, 5, 5 }, { 0 } },
    { "package:2 [numa(memory=64GiB)] [numa(memory=16GiB)] core:4 pu:1", 2, 4, 8, { 4, 0, 4, 0 }, { 0, 2, 0, 2 } },
    { "package:2 core:4 pu:1", 1, 1, 8, { 8 }, { 0 } }, /* one node over both packages */
    { "numa:2(memory=8GiB) pu:3", 1, 2, 6, { 3, 3 }, { 0 } },
    { "snc2.xml", 2, 4, 16, { 4, 4, 4, 4 }, { 0 } },
    { "nps4.xml", 2, 8, 16, { 2, 2, 2, 2, 2, 2, 2, 2 }, { 0 } },
    { "hbm.xml", 2, 4, 8, { 4, 0, 4, 0 }, { 0, 1, 0, 1 } },
    { "far.xml", 2, 4, 8, { 4, 0, 4, 0 }, { 0, 2, 0, 2 } },
    { "offline.xml", 2, 2, 9, { 6, 3 }, { 0 } },
    { "disallowed.xml", 2, 2, 7, { 4, 3 }, { 0 } },
    { "uneven.xml", 2, 2, 8, { 4, 4 }, { 0 } },
    { "memoryless.xml", 2, 2, 8, { 4, 4 }, { 0 } },
};

static void description_gives_packages_nodes_and_cores(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(machines); i++) {
        struct crl_topo *t = load(machines[i].text);
        unsigned core = 0;

        print_message("%s\n", machines[i].text);
        assert_false(t->real);
        assert_int_equal(t->n_package, machines[i].n_package);
        assert_int_equal(t->n_node, machines[i].n_node);
        assert_int_equal(t->n_core, machines[i].n_core);
        for (unsigned j = 0; j < t->n_node; j++) {
            const struct crl_topo_node *n = &t->node[j];
            assert_int_equal(n->n_core, machines[i].cores[j]);
            assert_int_equal(n->kind, machines[i].kind[j]);
            assert_int_equal(n->first_core, core);
            assert_int_equal(n->free_bytes, n->total_bytes);
            assert_true(t->node[n->home].n_core > 0);
            assert_int_equal(t->node[n->home].package, n->package);
            if (n->n_core) assert_int_equal(n->home, j);
            for (unsigned c = 0; c < n->n_core; c++) assert_int_equal(t->core[core++].node, j);
        }
        for (unsigned c = 1; c < t->n_core; c++)
            for (unsigned d = 0; d < c; d++) assert_int_not_equal(t->core[c].cpu, t->core[d].cpu);
        assert_int_equal(crl_topo_threads(t), t->n_core);
        crl_topo_free(t);
    }
}

static void core_with_two_processors_is_listed_once(void **state)
{
    struct crl_topo *t = load("package:2 [numa(memory=1GiB)] core:2 pu:2"), *d = load("disallowed.xml");

    (void)state;
    for (unsigned i = 0; i < t->n_core; i++) {
        assert_int_equal(t->core[i].cpu, 2 * i);
        assert_int_equal(t->core[i].n_pu, 2);
    }
    assert_int_equal(d->core[4].cpu, 9); /* processor 8 is taken away: the core runs on its other one */
    assert_int_equal(d->core[4].n_pu, 1);
    crl_topo_free(t);
    crl_topo_free(d);
}

static void recorded_distances_and_bandwidths_are_read(void **state)
{
    struct crl_topo *t = load("snc2.xml"), *h = load("hbm.xml"), *none = load("package:2 [numa(memory=1GiB)] core:1 pu:1");

    (void)state;
    assert_int_equal(crl_topo_distance(t, 0, 0), 10);
    assert_int_equal(crl_topo_distance(t, 0, 1), 12);
    assert_int_equal(crl_topo_distance(t, 0, 3), 21);
    assert_int_equal(crl_topo_distance(none, 0, 0), 10);
    assert_int_equal(crl_topo_distance(none, 0, 1), 20);
    assert_true(h->node[1].bandwidth > 3 * h->node[0].bandwidth && h->node[0].bandwidth > 200e9);
    crl_topo_free(t);
    crl_topo_free(h);
    crl_topo_free(none);
}

static void bad_description_is_named(void **state)
{
    static const struct {
        const char *text, *says;
        enum crl_status st;
    } bad[] = {
        { "bogus:3", "neither a file nor a synthetic description", CRL_EFORMAT },
        { "", "neither a file nor a synthetic description", CRL_EFORMAT },
        { "package:0 core:1", "neither a file nor a synthetic description", CRL_EFORMAT },
        { "package:2 [numa] core:2 pu:1", "no node has memory", CRL_EUNSUPPORTED },
        { "absent.xml", "No such file", CRL_ENOENT },
        { "/dev/null", "cannot be read", CRL_EFORMAT },
        { "package:300 [numa(memory=1GiB)] pu:1", "at most 256", CRL_EUNSUPPORTED },
    };

    (void)state;
    for (size_t i = 0; i < N(bad); i++) {
        struct crl_topo *t = NULL;
        struct crl_err err = { "" };
        enum crl_status st = crl_topo_load(&t, bad[i].text, &err);
        if (st != bad[i].st || !strstr(err.text, bad[i].says)) fail_msg("%s: %d %s", bad[i].text, st, err.text);
        assert_null(t);
    }
    crl_topo_free(NULL);
}

static void allocation_failing_leaves_nothing(void **state)
{
    struct crl_topo *t = NULL;

    (void)state;
    for (size_t n = 1; n <= 5; n++) {
        crl_alloc_fail_after(n);
        assert_int_equal(crl_topo_load(&t, "package:2 [numa(memory=1GiB)] core:2 pu:1", NULL), CRL_ENOMEM);
        assert_null(t);
    }
    crl_alloc_fail_after(6);
    assert_int_equal(crl_topo_load(&t, "package:2 [numa(memory=1GiB)] core:2 pu:1", NULL), CRL_OK);
    crl_alloc_fail_after(0);
    crl_topo_free(t);
}

/* --- control groups --------------------------------------------------------------------------------------- */

static char root[] = "/tmp/corral-cgroup.XXXXXX";

static int make_root(void **state)
{
    (void)state;
    strcpy(root + sizeof root - 7, "XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

/* root/path with the text; folders are made. */
static void put(const char *path, const char *text)
{
    char full[1024];
    FILE *f;

    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        if (mkdir(full, 0777)) assert_int_equal(errno, EEXIST);
        *p = '/';
    }
    f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void group_without_files_is_no_limit(void **state)
{
    struct crl_cgroup g;

    (void)state;
    crl_cgroup_read(&g, root);
    assert_true(g.cores == 0 && !g.has_cpus && !g.has_nodes);
    assert_true(g.memory_limit == UINT64_MAX && g.memory_left == UINT64_MAX);
}

static void nested_groups_give_their_tightest_limits(void **state)
{
    struct crl_cgroup g;

    (void)state;
    put("proc/self/cgroup", "0::/pod/box\n");
    put("sys/fs/cgroup/pod/cpu.max", "250000 100000\n");
    put("sys/fs/cgroup/pod/box/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/pod/memory.max", "1000000\n");
    put("sys/fs/cgroup/pod/memory.current", "700000\n");
    put("sys/fs/cgroup/pod/memory.stat", "anon 5\ninactive_file 200000\nslab 1\n");
    put("sys/fs/cgroup/pod/box/memory.max", "900000\n");
    put("sys/fs/cgroup/pod/box/memory.current", "100000\n");
    put("sys/fs/cgroup/pod/cpuset.cpus.effective", "0-9\n");
    put("sys/fs/cgroup/pod/box/cpuset.cpus.effective", "2-3,8\n");
    put("sys/fs/cgroup/pod/box/cpuset.mems.effective", "1\n");
    crl_cgroup_read(&g, root);
    assert_true(g.cores == 2.5);
    assert_int_equal(g.memory_limit, 900000);
    assert_int_equal(g.memory_left, 500000); /* the outer group's: 1000000 - (700000 - 200000) */
    assert_true(g.has_cpus && g.has_nodes);
    for (size_t i = 0; i < 16; i++) assert_int_equal(crl_bit(g.cpus, i), i == 2 || i == 3 || i == 8);
    assert_true(crl_bit(g.nodes, 1) && !crl_bit(g.nodes, 0));
}

static void version_1_controllers_are_walked_apart(void **state)
{
    struct crl_cgroup g;

    (void)state;
    put("proc/self/cgroup", "12:cpu,cpuacct:/a/b\n5:memory:/m\n4:cpuset:/s\n3:cpuacct:/wrong\n0::/\n");
    put("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000\n");
    put("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu/wrong/cpu.cfs_quota_us", "100\n");
    put("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "9223372036854771712\n"); /* what none is called */
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n");
    put("sys/fs/cgroup/cpuset/s/cpuset.effective_cpus", "1\n");
    crl_cgroup_read(&g, root);
    assert_true(g.cores == 3);
    assert_int_equal(g.memory_limit, 5000);
    assert_int_equal(g.memory_left, 0);
    assert_true(g.has_cpus && crl_bit(g.cpus, 1) && !crl_bit(g.cpus, 0));
}

static void group_that_is_not_visible_falls_back_to_the_root(void **state)
{
    struct crl_cgroup g;

    (void)state;
    put("proc/self/cgroup", "0::/docker/0123/nested\n");
    put("sys/fs/cgroup/cpu.max", "50000 100000\n");
    put("sys/fs/cgroup/memory.max", "77\n");
    crl_cgroup_read(&g, root);
    assert_true(g.cores == 0.5);
    assert_int_equal(g.memory_limit, 77);
}

static void damaged_files_are_no_limit(void **state)
{
    struct crl_cgroup g;

    (void)state;
    put("proc/self/cgroup", "nonsense\n1:cpu\n0::/x\n");
    put("sys/fs/cgroup/x/cpu.max", "-5 0\n");
    put("sys/fs/cgroup/x/memory.max", "many\n");
    put("sys/fs/cgroup/x/cpuset.cpus.effective", "3-1\n");
    crl_cgroup_read(&g, root);
    assert_true(g.cores == 0 && g.memory_limit == UINT64_MAX && !g.has_cpus);
}

static void list_is_read_or_refused(void **state)
{
    static const struct {
        const char *text;
        bool good;
        unsigned bits;
    } list[] = {
        { "", true, 0 },          { "0", true, 1 },          { "0-3,8", true, 0x10f }, { "7-7", true, 0x80 },
        { "3-1", false, 0 },      { "1-", false, 0 },        { "a", false, 0 },        { "1,x", false, 2 },
        { "14-17", false, 0xc000 }, { "99999999999999999999", false, 0 }, { "1 2", false, 2 },
    };

    (void)state;
    for (size_t i = 0; i < N(list); i++) {
        uint8_t bits[2] = { 0 };
        assert_int_equal(crl_list_parse(list[i].text, bits, 16), list[i].good);
        assert_int_equal(bits[0] | bits[1] << 8, list[i].bits);
    }
}

/* --- this machine ----------------------------------------------------------------------------------------- */

static void this_machine_has_what_the_team_uses(void **state)
{
    struct crl_topo *t = NULL;
    struct crl_err err = { "" };

    (void)state;
    if (crl_topo_load(&t, NULL, &err)) fail_msg("%s", err.text);
    if (t->real) {
        assert_in_range(t->n_core, 1, sysconf(_SC_NPROCESSORS_CONF));
        assert_in_range(crl_topo_threads(t), 1, crl_usable_cores());
        assert_true(t->node[t->core[0].node].free_bytes <= t->node[t->core[0].node].total_bytes);
    }
    crl_topo_free(t);
}

static void bound_memory_is_where_it_was_asked_for(void **state)
{
    size_t bytes = 4 << 20;
    uint64_t count[CRL_NODE_MAX], elsewhere, absent;
    struct crl_topo *t = NULL;
    struct crl_region r;
    struct crl_err err = { "" };
    enum crl_status st;
    unsigned os;

    (void)state;
    assert_int_equal(crl_topo_load(&t, NULL, &err), CRL_OK);
    os = t->node[t->core[0].node].os;
    assert_int_equal(crl_region_new(&r, bytes, CRL_NODE_ANY, CRL_REGION_PLAIN, &err), CRL_OK);
    st = t->real ? crl_bind_memory(r.base, r.size, os, &err) : CRL_EUNSUPPORTED;
    if (st) {
        assert_int_equal(st, CRL_EUNSUPPORTED); /* a container or an emulator: told in a sentence */
        if (t->real) assert_non_null(strstr(err.text, "cannot be bound"));
    } else {
        assert_int_equal(crl_memory_where(r.base, r.size, count, CRL_NODE_MAX, &elsewhere, &absent, &err), CRL_OK);
        assert_int_equal(absent, r.size); /* nothing was touched */
        memset(r.base, 1, r.size / 2);
        assert_int_equal(crl_memory_where(r.base, r.size, count, CRL_NODE_MAX, &elsewhere, &absent, &err), CRL_OK);
        assert_int_equal(count[os], r.size / 2);
        assert_int_equal(absent, r.size / 2);
        assert_int_equal(elsewhere, 0);
        assert_int_equal(crl_bind_memory(r.base, r.size, 1000, &err), CRL_ERANGE);
        assert_int_equal(crl_bind_memory(r.base, r.size, 100000, &err), CRL_ERANGE);
        assert_int_equal(crl_bind_interleave(r.base, r.size, &os, 1, &err), CRL_OK);
    }
    crl_region_free(&r);
    crl_topo_free(t);
}

static void thread_is_bound_to_a_processor_that_exists(void **state)
{
    struct crl_topo *t = NULL;

    (void)state;
    assert_int_equal(crl_topo_load(&t, NULL, NULL), CRL_OK);
    if (t->real) assert_true(crl_bind_thread(t->core[t->n_core - 1].cpu));
    assert_false(crl_bind_thread(1000000));
    assert_false(crl_bind_thread(CRL_CORE_MAX * 8 - 1));
    crl_topo_free(t);
}

#define IN_ROOT(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(description_gives_packages_nodes_and_cores),
        cmocka_unit_test(core_with_two_processors_is_listed_once),
        cmocka_unit_test(recorded_distances_and_bandwidths_are_read),
        cmocka_unit_test(bad_description_is_named),
        cmocka_unit_test(allocation_failing_leaves_nothing),
        IN_ROOT(group_without_files_is_no_limit),
        IN_ROOT(nested_groups_give_their_tightest_limits),
        IN_ROOT(version_1_controllers_are_walked_apart),
        IN_ROOT(group_that_is_not_visible_falls_back_to_the_root),
        IN_ROOT(damaged_files_are_no_limit),
        cmocka_unit_test(list_is_read_or_refused),
        cmocka_unit_test(this_machine_has_what_the_team_uses),
        cmocka_unit_test(bound_memory_is_where_it_was_asked_for),
        cmocka_unit_test(thread_is_bound_to_a_processor_that_exists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
