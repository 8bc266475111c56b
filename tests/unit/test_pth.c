/* test_pth.c - torch archives: good ones give their tensors, bad ones a sentence, and nothing in them is executed. The
 * files are those of the fuzzers; tests/convert/make_bad.py makes them and says in LIST what each is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "convert/pickle.h"
#include "convert/pth.h"

#include <stdio.h>
#include <string.h>

static void path_of(char path[4096], const char *folder, const char *name)
{
    const char *src = getenv("srcdir");

    snprintf(path, 4096, "%s/tests/fuzz/corpus/%s/%s", src ? src : ".", folder, name);
}

typedef enum crl_status try_fn(const char *path, const char *name, struct crl_err *err);

/* Every file of a LIST ends as it says, and a refusal has the words it says. */
static void check_list(const char *folder, try_fn *attempt)
{
    char path[4096], line[400];
    unsigned n = 0;
    FILE *list;

    path_of(path, folder, "LIST");
    list = fopen(path, "r");
    assert_non_null(list);
    while (fgets(line, sizeof line, list)) {
        char name[100], verdict[10], words[200] = "";
        struct crl_err err = { "" };
        enum crl_status st;
        assert_true(sscanf(line, "%99s %9s %199[^\n]", name, verdict, words) >= 2);
        path_of(path, folder, name);
        st = attempt(path, name, &err);
        if ((st == CRL_OK) != (strcmp(verdict, "ok") == 0)) fail_msg("%s is %s, said: %s", name, verdict, err.text);
        if (st && !strstr(err.text, words)) fail_msg("%s: not \"%s\": %s", name, words, err.text);
        if (st && !strstr(err.text, name)) fail_msg("%s: not named: %s", name, err.text);
        n++;
    }
    fclose(list);
    assert_true(n > 15);
}

static enum crl_status try_pth(const char *path, const char *name, struct crl_err *err)
{
    struct crl_pth *p;
    enum crl_status st = crl_pth_open(&p, path, err);

    (void)name;
    assert_int_equal(st != CRL_OK, p == NULL);
    crl_pth_close(p);
    return st;
}

static void archives_are_sorted_into_good_and_bad(void **state)
{
    (void)state;
    check_list("pth", try_pth);
}

static enum crl_status try_pickle(const char *path, const char *name, struct crl_err *err)
{
    struct crl_pickle *p;
    char *data;
    size_t len;
    enum crl_status st = crl_file_read(&data, &len, path, 1 << 20, err);

    assert_int_equal(st, CRL_OK);
    st = crl_pickle_parse(&p, data, len, name, err);
    assert_int_equal(st != CRL_OK, p == NULL);
    crl_pickle_free(p);
    crl_free(data);
    return st;
}

static void pickles_are_sorted_into_good_and_bad(void **state)
{
    (void)state;
    check_list("pickle", try_pickle);
}

static void tensors_come_out_with_shape_and_place(void **state)
{
    struct crl_pth *p;
    const struct crl_st_tensor *t;
    unsigned char raw[12];
    char path[4096];

    (void)state;
    path_of(path, "pth", "good.pth");
    assert_int_equal(crl_pth_open(&p, path, NULL), CRL_OK);
    assert_int_equal(crl_pth_count(p), 2); /* the extra state is left out */
    t = crl_pth_at(p, 0);
    assert_string_equal(t->name, "a.weight");
    assert_int_equal(t->type, CRL_ST_BF16);
    assert_int_equal(t->n_dim, 2);
    assert_true(t->dim[0] == 2 && t->dim[1] == 3 && t->bytes == 12);
    assert_int_equal(crl_in_read(crl_pth_in(p), t->offset, raw, 12, NULL), CRL_OK);
    assert_true(raw[0] == 0x80 && raw[1] == 0x3f && raw[10] == 0xc0 && raw[11] == 0x40); /* 1.0 ... 6.0 */
    crl_pth_close(p);
}

static void failed_allocations_and_reads_are_reported(void **state)
{
    char path[4096];
    struct crl_pth *p;
    size_t n;

    (void)state;
    path_of(path, "pth", "good.pth");
    crl_alloc_fail_after(0);
    crl_file_fail_after(0);
    assert_int_equal(crl_pth_open(&p, path, NULL), CRL_OK);
    crl_pth_close(p);
    n = crl_alloc_fail_after(0);
    assert_true(n > 5);
    for (size_t i = 1; i <= n; i++) {
        struct crl_err err = { "" };
        crl_alloc_fail_after(i);
        assert_int_equal(crl_pth_open(&p, path, &err), CRL_ENOMEM);
        assert_true(!p && err.text[0]);
    }
    crl_alloc_fail_after(0);
    crl_file_fail_after(0);
    assert_int_equal(crl_pth_open(&p, path, NULL), CRL_OK);
    crl_pth_close(p);
    n = crl_file_fail_after(0);
    assert_true(n > 5);
    for (size_t i = 1; i <= n; i++) {
        struct crl_err err = { "" };
        crl_file_fail_after(i);
        assert_int_equal(crl_pth_open(&p, path, &err), CRL_EIO);
        assert_true(!p && err.text[0]);
    }
    crl_file_fail_after(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(archives_are_sorted_into_good_and_bad),
        cmocka_unit_test(pickles_are_sorted_into_good_and_bad),
        cmocka_unit_test(tensors_come_out_with_shape_and_place),
        cmocka_unit_test(failed_allocations_and_reads_are_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
