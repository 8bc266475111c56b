/* test_load.c - loading: every panel lands where the plan says, damage and failures give one sentence, nodes read the same
 * number of bytes, and a mapped model touches no expert that nobody asked for. */
#define _GNU_SOURCE
#include "bench/synthetic.h"
#include "run/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cmocka.h>

/* Scout's proportions at an eighth of its widths: an expert has some 740 kB in q4. */
static void small_scout(struct crl_config *c, uint32_t n_layer)
{
    struct crl_err err = { "" };

    if (crl_synthetic_config(c, "scout", n_layer, &err)) fail_msg("%s", err.text);
    c->d_model /= 8;
    c->d_ff /= 8;
    c->d_ff_dense /= 8;
    c->d_head /= 8;
    c->vocab = 25256;
    c->n_ctx = 512;
    c->bos = 0;
    c->pad = c->image_token = -1;
}

static struct crl_pack *small_pack(uint32_t n_layer, const char *recipe)
{
    static struct crl_config cfg;
    struct crl_recipe r;
    struct crl_team *team;
    struct crl_pack *pack;
    struct crl_err err = { "" };

    small_scout(&cfg, n_layer);
    assert_int_equal(crl_recipe_parse(&r, recipe, NULL, 0, &err), CRL_OK);
    assert_int_equal(crl_team_new(&team, 2, false, &err), CRL_OK);
    if (crl_synthetic_pack(&pack, &cfg, &r, team, &err)) fail_msg("%s", err.text);
    crl_team_free(team);
    return pack;
}

/* The file that all tests read, made once. */
static char path[] = "load_XXXXXX";
static unsigned char *content; /* the same bytes */
static uint64_t content_size;

static int make_file(void **state)
{
    struct crl_pack *pack = small_pack(2, "q4");
    int fd = mkstemp(path);
    bool good;

    (void)state;
    content_size = crl_pack_size(pack);
    content = malloc((size_t)content_size);
    good = fd >= 0 && content && write(fd, crl_pack_data(pack), (size_t)content_size) == (ssize_t)content_size;
    if (good) memcpy(content, crl_pack_data(pack), (size_t)content_size);
    if (fd >= 0) close(fd);
    crl_pack_close(pack);
    return good ? 0 : -1;
}

static int remove_file(void **state)
{
    (void)state;
    unlink(path);
    free(content);
    return 0;
}

/* --- one load ---------------------------------------------------------------------------------------------------- */

struct loaded {
    struct crl_pack *pack;
    struct crl_topo *topo;
    struct crl_placement *plan;
    struct crl_team *team;
    struct crl_weights *w;
};

static void prepare(struct loaded *l, struct crl_pack *pack, const char *topology, enum crl_numa mode, unsigned threads)
{
    struct crl_placement_options o = { .mode = mode, .n_thread = threads };
    struct crl_seat seat[16];
    struct crl_err err = { "" };

    memset(l, 0, sizeof *l);
    l->pack = pack;
    if (!pack && crl_pack_open(&l->pack, path, &err)) fail_msg("%s", err.text);
    if (crl_topo_load(&l->topo, topology, &err)) fail_msg("%s", err.text);
    if (crl_placement_new(&l->plan, crl_pack_schema(l->pack), crl_pack_formats(l->pack), l->topo, &o, &err))
        fail_msg("%s", err.text);
    assert_true(l->plan->n_thread <= 16);
    for (unsigned i = 0; i < l->plan->n_thread; i++) seat[i] = (struct crl_seat){ -1, l->plan->thread[i].node };
    if (crl_team_seated(&l->team, seat, l->plan->n_thread, &err)) fail_msg("%s", err.text);
}

static void finish(struct loaded *l)
{
    crl_weights_free(l->w);
    crl_placement_free(l->plan);
    crl_topo_free(l->topo);
    crl_team_free(l->team);
    crl_pack_close(l->pack);
}

/* Every slice holds the bytes of the file, whoever asks for it. */
static void check_slices(const struct loaded *l)
{
    for (size_t i = 0; i < l->plan->n_slice; i++) {
        const struct crl_slice *s = &l->plan->slice[i];
        const struct crl_weight *x = &crl_pack_schema(l->pack)->weight[s->weight];
        const unsigned char *file = content + crl_pack_extent(l->pack, x->extent)->offset;
        struct crl_mat got, want;
        size_t lo, hi, bytes;

        assert_true(crl_weights_mat(l->w, s->weight, s->copy, s->node, &got, &lo, &hi));
        crl_mat_bind(&want, crl_pack_format(l->pack, s->weight), x->n, x->k,
                     file + crl_pack_weight_offset(l->pack, s->weight));
        assert_int_equal(lo, s->panel_lo);
        assert_int_equal(hi, s->panel_hi);
        assert_memory_equal(got.level, want.level, sizeof got.level);
        bytes = want.format == CRL_F32 ? (size_t)crl_pack_weight_bytes(l->pack, s->weight) : (hi - lo) * want.panel_bytes;
        if (memcmp(got.panel + lo * got.panel_bytes, want.panel + lo * want.panel_bytes, bytes))
            fail_msg("mode %s, slice %zu holds other bytes", crl_numa_name(l->plan->mode), i);
    }
}

static const char *const machine[] = {
    "package:1 [numa(memory=64GiB)] core:2 pu:1",
    "package:2 [numa(memory=64GiB)] core:2 pu:1",
    "package:3 [numa(memory=64GiB)] core:1 pu:1",
    "package:2 die:2 [numa(memory=64GiB)] core:1 pu:1",
};

static void every_slice_holds_the_bytes_of_the_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof machine / sizeof *machine; i++)
        for (int mode = CRL_NUMA_EXPERTS; mode < CRL_NUMA_END; mode++)
            for (int buffered = 0; buffered < 2; buffered++) {
                struct crl_load_options o = { .buffered = buffered };
                struct crl_err err = { "" };
                struct loaded l;

                prepare(&l, NULL, machine[i], (enum crl_numa)mode, 0);
                if (crl_weights_load(&l.w, l.pack, l.plan, l.topo, l.team, &o, &err)) fail_msg("%s", err.text);
                check_slices(&l);
                assert_true(crl_weights_stats(l.w)->verified);
                finish(&l);
            }
}

static void weights_in_memory_are_placed_and_given_back(void **state)
{
    struct crl_err err = { "" };
    struct loaded l;

    (void)state;
    prepare(&l, small_pack(2, "q4"), machine[1], CRL_NUMA_EXPERTS, 4);
    if (crl_weights_load(&l.w, l.pack, l.plan, l.topo, l.team, NULL, &err)) fail_msg("%s", err.text);
    check_slices(&l);
    finish(&l);

    prepare(&l, small_pack(2, "q4"), machine[0], CRL_NUMA_OFF, 2); /* nothing to do: they stay where they are */
    if (crl_weights_load(&l.w, l.pack, l.plan, l.topo, l.team, NULL, &err)) fail_msg("%s", err.text);
    check_slices(&l);
    assert_int_equal(crl_weights_stats(l.w)->region_bytes, 0);
    finish(&l);
}

static void the_model_is_in_memory_once(void **state)
{
    (void)state;
    for (int mode = CRL_NUMA_EXPERTS; mode < CRL_NUMA_END; mode++) {
        struct crl_err err = { "" };
        struct loaded l;
        uint64_t most;

        prepare(&l, NULL, machine[1], (enum crl_numa)mode, 2);
        if (crl_weights_load(&l.w, l.pack, l.plan, l.topo, l.team, NULL, &err)) fail_msg("%s", err.text);
        most = l.plan->model_bytes + (mode == CRL_NUMA_EXPERTS ? l.plan->replica_bytes : 0);
        most += most / 20 + l.plan->n_region * ((uint64_t)2 << 20); /* a region ends with a whole huge page */
        if (crl_weights_stats(l.w)->region_bytes > most) fail_msg("mode %s takes more", crl_numa_name(l.plan->mode));
        finish(&l);
    }
}

/* --- failures ---------------------------------------------------------------------------------------------------- */

static enum crl_status load_with(struct loaded *l, const struct crl_load_options *o, struct crl_err *err)
{
    enum crl_status st = crl_weights_load(&l->w, l->pack, l->plan, l->topo, l->team, o, err);

    if (st) assert_null(l->w);
    return st;
}

static void write_byte(uint64_t offset, unsigned char byte)
{
    int fd = open(path, O_WRONLY);

    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static void damaged_extent_is_named_unless_told_not_to_look(void **state)
{
    struct crl_load_options o = { .no_verify = true };
    struct crl_err err = { "" };
    uint64_t at = content_size / 2;
    struct loaded l;

    (void)state;
    prepare(&l, NULL, machine[1], CRL_NUMA_ROWS, 2);
    write_byte(at, content[at] ^ 1);
    assert_int_equal(load_with(&l, NULL, &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "is damaged (wrong hash"));
    assert_int_equal(load_with(&l, &o, &err), CRL_OK);
    assert_false(crl_weights_stats(l.w)->verified);
    write_byte(at, content[at]);
    finish(&l);
}

static void file_cut_off_after_opening_gives_a_sentence(void **state)
{
    struct crl_err err = { "" };
    struct loaded l;
    int fd;

    (void)state;
    prepare(&l, NULL, machine[1], CRL_NUMA_ROWS, 2);
    assert_int_equal(truncate(path, (off_t)(content_size / 4096 / 2 * 4096 + 100)), 0);
    assert_int_equal(load_with(&l, NULL, &err), CRL_EIO);
    assert_non_null(strstr(err.text, "was cut off at byte"));
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, content, (size_t)content_size, 0), content_size);
    close(fd);
    finish(&l);
}

struct reader {
    size_t fail_at; /* call that fails with EIO; 0: none */
    size_t most;    /* bytes a call gives at most; 0: all */
    size_t n;
};

static int64_t hooked_read(void *ctx, int fd, void *to, size_t len, uint64_t offset)
{
    struct reader *r = ctx;
    size_t n = __atomic_add_fetch(&r->n, 1, __ATOMIC_RELAXED);

    if (r->fail_at && n >= r->fail_at) {
        errno = EIO;
        return -1;
    }
    if (fd < 0) fail_msg("a read without a file");
    return pread(fd, to, r->most && r->most < len ? r->most : len, (off_t)offset);
}

static void read_error_names_the_byte(void **state)
{
    struct loaded l;

    (void)state;
    prepare(&l, NULL, machine[1], CRL_NUMA_EXPERTS, 2);
    for (size_t at = 1; at < 40; at += 13) {
        struct reader r = { .fail_at = at };
        struct crl_load_options o = { .read = hooked_read, .ctx = &r };
        struct crl_err err = { "" };

        assert_int_equal(load_with(&l, &o, &err), CRL_EIO);
        assert_non_null(strstr(err.text, "cannot read byte"));
        assert_non_null(strstr(err.text, strerror(EIO)));
    }
    finish(&l);
}

static void short_reads_are_put_together(void **state)
{
    static const size_t most[] = { 4096, 12288, 5000 };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct reader r = { .most = most[i] };
        struct crl_load_options o = { .read = hooked_read, .ctx = &r, .buffered = most[i] % 4096 };
        struct crl_err err = { "" };
        struct loaded l;

        prepare(&l, NULL, machine[1], CRL_NUMA_EXPERTS, 2);
        if (load_with(&l, &o, &err)) fail_msg("%s", err.text);
        check_slices(&l);
        finish(&l);
    }
}

static bool stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    assert_true(done <= total);
    return false;
}

static void progress_can_stop_it(void **state)
{
    struct crl_load_options o = { .progress = stop_at_once };
    struct crl_err err = { "" };
    struct loaded l;

    (void)state;
    prepare(&l, NULL, machine[0], CRL_NUMA_OFF, 1);
    assert_int_equal(load_with(&l, &o, &err), CRL_EINTR);
    finish(&l);
}

static void exhausted_memory_gives_a_status(void **state)
{
    enum crl_status st = CRL_ENOMEM;
    struct loaded l;

    (void)state;
    prepare(&l, NULL, machine[1], CRL_NUMA_ROWS, 1);
    for (size_t n = 1; st && n < 500; n++) {
        struct crl_err err = { "" };

        crl_alloc_fail_after(n);
        st = load_with(&l, NULL, &err);
        crl_alloc_fail_after(0);
        if (st) assert_int_equal(st, CRL_ENOMEM);
        if (st) assert_true(err.text[0] != 0);
    }
    assert_int_equal(st, CRL_OK);
    finish(&l);
}

/* A container's filter: mbind and set_mempolicy are not permitted. */
static bool forbid_binding(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mbind, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };

    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* 0: loaded, and a note says why nothing is bound. */
static int load_without_permission(void)
{
    struct crl_placement_options o = { .mode = CRL_NUMA_ROWS, .n_thread = 1 };
    struct crl_pack *pack;
    struct crl_topo *topo;
    struct crl_placement *plan;
    struct crl_team *team;
    struct crl_weights *w;
    const struct crl_load_stats *s;

    if (crl_pack_open(&pack, path, NULL) || crl_topo_load(&topo, NULL, NULL) ||
        crl_placement_new(&plan, crl_pack_schema(pack), crl_pack_formats(pack), topo, &o, NULL) ||
        crl_team_new(&team, 1, false, NULL))
        return 2;
    if (!forbid_binding()) return 77;
    if (crl_weights_load(&w, pack, plan, topo, team, NULL, NULL)) return 3;
    s = crl_weights_stats(w);
    return s->n_note == 1 && strstr(s->note[0], "not bound to nodes") ? 0 : 4;
}

static void forbidden_binding_is_told_and_survived(void **state)
{
    pid_t child = fork();
    int how = 0;

    (void)state;
    assert_true(child >= 0);
    if (!child) _exit(load_without_permission());
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    if (WEXITSTATUS(how) == 77) skip(); /* filters are not to be had here */
    assert_int_equal(WEXITSTATUS(how), 0);
}

static void bound_pages_are_all_local(void **state)
{
    struct crl_where where[CRL_TEAM_NODES_MAX];
    struct crl_err err = { "" };
    struct loaded l;

    (void)state;
    prepare(&l, NULL, NULL, CRL_NUMA_ROWS, 0);
    if (load_with(&l, NULL, &err)) fail_msg("%s", err.text);
    if (crl_weights_stats(l.w)->n_note || crl_weights_where(l.w, where, &err)) { /* no such calls here */
        finish(&l);
        skip();
    }
    for (unsigned i = 0; i < l.plan->n_node; i++) {
        assert_int_equal(where[i].local, l.plan->node[i].weight_bytes);
        assert_int_equal(where[i].remote, 0);
        assert_int_equal(where[i].absent, 0);
    }
    finish(&l);
}

/* --- engines ----------------------------------------------------------------------------------------------------- */

/* Within 2% on two nodes. A third or fourth of a matrix of 40 panels is not a whole number of them, which at these widths
 * is worth some percent more; at the real ones it is not (docs/numa.md). */
static void nodes_read_the_same_for_one_token(void **state)
{
    static const struct {
        const char *machine, *numa;
        unsigned nodes;
    } run[] = {
        { "package:2 [numa(memory=64GiB)] core:2 pu:1", "experts", 2 },
        { "package:2 die:2 [numa(memory=64GiB)] core:1 pu:1", "experts", 4 },
        { "package:3 [numa(memory=64GiB)] core:1 pu:1", "experts", 3 },
        { "package:2 [numa(memory=64GiB)] core:2 pu:1", "rows", 2 },
        { "package:3 [numa(memory=64GiB)] core:1 pu:1", "rows", 3 },
        { "package:4 [numa(memory=64GiB)] core:1 pu:1", "rows", 4 },
    };
    double all = 0;

    (void)state;
    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        struct crl_engine_options o = { .numa = run[i].numa, .topology = run[i].machine, .batch_max = 1 };
        double bytes[CRL_TEAM_NODES_MAX], sum = 0;
        struct crl_engine *e;
        struct crl_session *s;
        struct crl_engine_info info;
        struct crl_err err = { "" };

        if (crl_engine_open(&e, path, &o, &err)) fail_msg("%s", err.text);
        crl_engine_info(e, &info);
        assert_int_equal(info.nodes, run[i].nodes);
        assert_true(info.pretended);
        assert_int_equal(crl_session_new(&s, e, 0, &err), CRL_OK);
        for (int32_t id = 0; id < 8; id++) assert_int_equal(crl_session_feed(s, &id, 1, NULL, &err), CRL_OK);
        crl_engine_token_bytes(e, bytes);
        for (unsigned n = 0; n < info.nodes; n++) sum += bytes[n];
        for (unsigned n = 0; n < info.nodes; n++)
            if (fabs(bytes[n] - sum / info.nodes) > (info.nodes == 2 ? 0.02 : 0.04) * sum / info.nodes)
                fail_msg("%s on %u nodes: node %u reads %.0f bytes, the mean is %.0f", run[i].numa, info.nodes, n,
                         bytes[n], sum / info.nodes);
        if (i) assert_true(fabs(sum - all) < 1); /* the same work in all */
        all = sum;
        crl_session_free(s);
        crl_engine_close(e);
    }
}

struct chosen {
    bool expert[2][16];
};

static void see_routes(void *ctx, uint32_t layer, const uint32_t *expert, size_t n_tok)
{
    struct chosen *c = ctx;

    for (size_t i = 0; i < n_tok; i++) c->expert[layer][expert[i]] = true;
}

/* Pages of an extent that are in the page cache. */
static size_t resident(const struct crl_pack *p, size_t extent)
{
    const struct crl_place *x = crl_pack_extent(p, extent);
    static unsigned char page[1 << 16];
    size_t n = (size_t)(x->size / 4096), sum = 0;

    assert_true(n <= sizeof page);
    assert_int_equal(mincore((void *)(uintptr_t)(crl_pack_data(p) + x->offset), (size_t)x->size, page), 0);
    for (size_t i = 0; i < n; i++) sum += page[i] & 1;
    return sum;
}

static void drop_cache(const struct crl_pack *p)
{
    int fd = crl_pack_fd(p);

    fsync(fd);
    madvise((void *)(uintptr_t)crl_pack_data(p), (size_t)crl_pack_size(p), MADV_DONTNEED);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void mapped_model_reads_only_the_experts_it_uses(void **state)
{
    struct crl_engine_options o = { .mapped = true, .batch_max = 1, .threads = 2 };
    struct chosen c = { { { false } } };
    struct crl_engine *e;
    struct crl_session *s;
    const struct crl_pack *p;
    const struct crl_schema *schema;
    struct crl_err err = { "" };
    size_t before = 0;
    int32_t id = 7;

    (void)state;
    if (crl_engine_open(&e, path, &o, &err)) fail_msg("%s", err.text);
    p = crl_engine_pack(e);
    schema = crl_pack_schema(p);
    for (int i = 0; i < 3; i++) drop_cache(p); /* reading ahead that was asked for at opening may still be under way */
    for (size_t i = 0; i < schema->n_extent; i++) before += resident(p, i);
    if (before) { /* a file system that lives in memory */
        crl_engine_close(e);
        skip();
    }
    assert_int_equal(crl_session_new(&s, e, 0, &err), CRL_OK);
    crl_engine_tap(e, NULL, see_routes, &c);
    assert_int_equal(crl_session_feed(s, &id, 1, NULL, &err), CRL_OK);
    for (size_t i = 0; i < schema->n_extent; i++) {
        const struct crl_weight *w = &schema->weight[schema->extent[i].first];
        size_t pages = resident(p, i);

        if (w->expert < 0) continue;
        if (c.expert[w->layer][w->expert]) assert_int_equal(pages, crl_pack_extent(p, i)->size / 4096);
        else if (pages) fail_msg("%zu pages of expert %d of layer %d, which no token used", pages, w->expert, w->layer);
    }
    crl_session_free(s);
    crl_engine_close(e);
}

/* The same logits from the file as from memory. */
static void mapped_model_computes_the_same(void **state)
{
    static float logits[2][25256];

    (void)state;
    for (int mapped = 0; mapped < 2; mapped++) {
        struct crl_engine_options o = { .mapped = mapped, .threads = 2 };
        int32_t ids[5] = { 1, 2, 3, 4, 5 };
        struct crl_engine *e;
        struct crl_session *s;
        struct crl_err err = { "" };

        if (crl_engine_open(&e, path, &o, &err)) fail_msg("%s", err.text);
        assert_int_equal(crl_session_new(&s, e, 0, &err), CRL_OK);
        assert_int_equal(crl_session_feed(s, ids, 5, logits[mapped], &err), CRL_OK);
        crl_session_free(s);
        crl_engine_close(e);
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
}

static void mapped_weights_refuse_a_mode_that_places(void **state)
{
    struct crl_engine_options o = { .mapped = true, .numa = "rows" };
    struct crl_err err = { "" };
    struct crl_engine *e;

    (void)state;
    assert_int_equal(crl_engine_open(&e, path, &o, &err), CRL_ERANGE);
    assert_null(e);
    o = (struct crl_engine_options){ .numa = "sideways" };
    err.text[0] = 0;
    assert_int_equal(crl_engine_open(&e, path, &o, &err), CRL_ERANGE);
    assert_non_null(strstr(err.text, "sideways"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forbidden_binding_is_told_and_survived), /* first: it forks, before there are threads */
        cmocka_unit_test(every_slice_holds_the_bytes_of_the_file),
        cmocka_unit_test(weights_in_memory_are_placed_and_given_back),
        cmocka_unit_test(the_model_is_in_memory_once),
        cmocka_unit_test(damaged_extent_is_named_unless_told_not_to_look),
        cmocka_unit_test(file_cut_off_after_opening_gives_a_sentence),
        cmocka_unit_test(read_error_names_the_byte),
        cmocka_unit_test(short_reads_are_put_together),
        cmocka_unit_test(progress_can_stop_it),
        cmocka_unit_test(exhausted_memory_gives_a_status),
        cmocka_unit_test(bound_pages_are_all_local),
        cmocka_unit_test(nodes_read_the_same_for_one_token),
        cmocka_unit_test(mapped_model_reads_only_the_experts_it_uses),
        cmocka_unit_test(mapped_model_computes_the_same),
        cmocka_unit_test(mapped_weights_refuse_a_mode_that_places),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
