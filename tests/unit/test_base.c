/* test_base.c - statuses, checked sizes, arenas, files that are never half written, small floats, the thread team. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/team.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void first_error_stands_and_takes_prefixes(void **state)
{
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(crl_fail(&err, CRL_EIO, "first %d", 1), CRL_EIO);
    assert_int_equal(crl_fail(&err, CRL_ENOMEM, "second"), CRL_ENOMEM);
    crl_err_prefix(&err, "file.crl");
    assert_string_equal(err.text, "file.crl: first 1");
    assert_int_equal(crl_fail(NULL, CRL_EFULL, "nobody listens"), CRL_EFULL);
}

static void sizes_that_wrap_are_refused(void **state)
{
    size_t out = 7;

    (void)state;
    assert_false(crl_mul_size(SIZE_MAX / 2 + 1, 2, &out));
    assert_false(crl_add_size(SIZE_MAX, 1, &out));
    assert_int_equal(out, 7);
    assert_true(crl_mul_size(SIZE_MAX / 2, 2, &out));
    assert_null(crl_alloc(SIZE_MAX / 2, 3));
}

static void arena_plans_and_places_the_same(void **state)
{
    struct crl_arena plan = { NULL, 0, 0, false }, real;

    (void)state;
    crl_arena_take(&plan, 3, 5);
    crl_arena_take(&plan, 1, 64);
    crl_arena_take(&plan, 10, 7);
    assert_int_equal(plan.used, 64 + 64 + 128);
    real = (struct crl_arena){ crl_alloc(plan.used, 1), 0, plan.used, false };
    assert_ptr_equal(crl_arena_take(&real, 3, 5), real.base);
    assert_ptr_equal(crl_arena_take(&real, 1, 64), real.base + 64);
    assert_ptr_equal(crl_arena_take(&real, 10, 7), real.base + 128);
    assert_null(crl_arena_take(&real, 1, 1));
    crl_free(real.base);
    crl_arena_take(&plan, SIZE_MAX / 2, 3);
    assert_true(plan.overflow);
}

static void growing_stops_at_its_ceiling(void **state)
{
    void *p = NULL;
    size_t cap = 0;
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(crl_grow(&p, &cap, 17, 4, 40, &err), CRL_OK);
    memset(p, 1, cap * 4);
    assert_int_equal(crl_grow(&p, &cap, 40, 4, 40, &err), CRL_OK);
    assert_int_equal(((unsigned char *)p)[16 * 4], 1);
    assert_int_equal(crl_grow(&p, &cap, 41, 4, 40, &err), CRL_EFULL);
    crl_free(p);
}

static void uncommitted_output_leaves_the_old_file(void **state)
{
    char path[] = "test_base_XXXXXX", *text;
    struct crl_out *out;
    size_t len;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(crl_file_write(path, "old", 3, NULL), CRL_OK);
    assert_int_equal(crl_out_open(&out, path, NULL), CRL_OK);
    assert_int_equal(crl_out_write(out, 0, "new and longer", 14, NULL), CRL_OK);
    crl_out_close(out);
    assert_int_equal(crl_file_read(&text, &len, path, 100, NULL), CRL_OK);
    assert_int_equal(len, 3);
    assert_string_equal(text, "old");
    crl_free(text);
    assert_int_equal(crl_file_read(&text, &len, path, 2, NULL), CRL_ERANGE);
    unlink(path);
    assert_int_equal(crl_file_read(&text, &len, path, 2, NULL), CRL_ENOENT);
}

static void leftovers_of_dead_processes_are_removed(void **state)
{
    static const char *const name[] = { "base_left.txt.partial-2147483646", "base_left.txt.partial-x",
                                        "base_left.txt2.partial-2147483646" };
    char self[80];
    struct crl_out *out;

    (void)state;
    for (size_t i = 0; i < 3; i++) assert_int_equal(crl_file_write(name[i], "x", 1, NULL), CRL_OK);
    snprintf(self, sizeof self, "base_left.txt.partial-%ld", (long)getppid());
    assert_int_equal(crl_file_write(self, "x", 1, NULL), CRL_OK);
    assert_int_equal(crl_out_open(&out, "base_left.txt", NULL), CRL_OK);
    crl_out_close(out);
    assert_false(crl_file_exists(name[0])); /* no such process */
    assert_true(crl_file_exists(name[1]));  /* not one of ours */
    assert_true(crl_file_exists(name[2]));  /* of another file */
    assert_true(crl_file_exists(self));     /* its process lives */
    unlink(name[1]);
    unlink(name[2]);
    unlink(self);
}

static void small_floats_convert_exactly(void **state)
{
    (void)state;
    assert_true(crl_bf16_to_f32(crl_bf16_from_f32(1.5f)) == 1.5f);
    assert_int_equal(crl_bf16_from_f32(crl_f32_from_bits(0x3f808000)), 0x3f80); /* tie to even */
    assert_int_equal(crl_bf16_from_f32(crl_f32_from_bits(0x3f818000)), 0x3f82);
    assert_true(isnan(crl_bf16_to_f32(crl_bf16_from_f32(crl_f32_from_bits(0x7f800001)))));
    assert_true(isinf(crl_bf16_to_f32(crl_bf16_from_f32(INFINITY))));
    assert_true(crl_f16_to_f32(0x3c00) == 1.0f && crl_f16_to_f32(0xc000) == -2.0f);
    assert_true(crl_f16_to_f32(0x0001) == 0x1p-24f && crl_f16_to_f32(0x7bff) == 65504.0f);
    assert_true(isinf(crl_f16_to_f32(0x7c00)) && isnan(crl_f16_to_f32(0x7c01)));
    assert_true(crl_e4m3_to_f32(0x7e) == 448.0f && crl_e4m3_to_f32(0x01) == 0x1p-9f);
    assert_true(crl_e4m3_to_f32(0xb8) == -1.0f && isnan(crl_e4m3_to_f32(0x7f)) && isnan(crl_e4m3_to_f32(0xff)));
}

static void json_getters_name_the_key(void **state)
{
    struct crl_err err = { "" };
    json_t *doc;
    uint32_t v = 5;

    (void)state;
    assert_int_equal(crl_json_parse(&doc, "{\"a\":1,\"a\":2}", 13, "text", &err), CRL_EFORMAT);
    err.text[0] = 0;
    assert_int_equal(crl_json_parse(&doc, "{\"a\":70000,\"n\":null}", 20, "text", &err), CRL_OK);
    assert_int_equal(crl_json_get_u32(doc, "n", 0, 9, &v, &err), CRL_OK);
    assert_int_equal(crl_json_get_u32(doc, "missing", 0, 9, &v, &err), CRL_OK);
    assert_int_equal(v, 5);
    assert_int_equal(crl_json_get_u32(doc, "a", 0, 9, &v, &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "a is 70000"));
    json_decref(doc);
}

#define N_STEPS 200

struct steps {
    atomic_uint at[N_STEPS];
    atomic_uint wrong;
    unsigned char hit[1000];
};

static void count_steps(const struct crl_member *me, void *ctx)
{
    struct steps *s = ctx;

    for (unsigned i = 0; i < N_STEPS; i++) {
        atomic_fetch_add(&s->at[i], 1);
        crl_team_barrier(me);
        if (atomic_load(&s->at[i]) != me->n) atomic_fetch_add(&s->wrong, 1);
    }
}

static void hit_one(size_t i, unsigned member, void *ctx)
{
    (void)member;
    ((struct steps *)ctx)->hit[i]++;
}

static void nobody_passes_the_barrier_early(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 5; n += 2) {
        struct crl_team *team;
        struct steps *s = crl_alloc(1, sizeof *s);

        assert_int_equal(crl_team_new(&team, n, true, NULL), CRL_OK);
        crl_team_run(team, count_steps, s);
        assert_int_equal(atomic_load(&s->wrong), 0);
        crl_team_each(team, sizeof s->hit, hit_one, s);
        for (size_t i = 0; i < sizeof s->hit; i++) assert_int_equal(s->hit[i], 1);
        crl_team_free(team);
        crl_free(s);
    }
}

static void ranges_cover_everything_once(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 9; n++) {
        size_t next = 0, lo, hi;
        for (unsigned id = 0; id < n; id++) {
            struct crl_member me = { .id = id, .n = n };
            crl_team_range(&me, 13, &lo, &hi);
            assert_int_equal(lo, next);
            next = hi;
        }
        assert_int_equal(next, 13);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_error_stands_and_takes_prefixes),
        cmocka_unit_test(sizes_that_wrap_are_refused),
        cmocka_unit_test(arena_plans_and_places_the_same),
        cmocka_unit_test(growing_stops_at_its_ceiling),
        cmocka_unit_test(uncommitted_output_leaves_the_old_file),
        cmocka_unit_test(leftovers_of_dead_processes_are_removed),
        cmocka_unit_test(small_floats_convert_exactly),
        cmocka_unit_test(json_getters_name_the_key),
        cmocka_unit_test(nobody_passes_the_barrier_early),
        cmocka_unit_test(ranges_cover_everything_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
