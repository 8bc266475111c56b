/* The strict reader: what it finds in good files, and that every bad one is refused with a sentence. */
#include "base/bytes.h"
#include "base/mem.h"
#include "convert/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *golden(void)
{
    static char path[4096];
    const char *src = getenv("srcdir");

    snprintf(path, sizeof path, "%s/tests/golden", src ? src : ".");
    return path;
}

/* A file image in memory: header text, then n bytes of data 0, 1, 2 ... */
static enum crl_status parse(struct crl_st **st, const char *header, size_t n, struct crl_err *err)
{
    static unsigned char image[65536];
    size_t len = strlen(header);

    assert_true(8 + len + n <= sizeof image);
    crl_put_le64(image, len);
    memcpy(image + 8, header, len);
    for (size_t i = 0; i < n; i++) image[8 + len + i] = (unsigned char)i;
    err->text[0] = 0;
    return crl_st_parse(st, image, 8 + len + n, "image", err);
}

#define T(name, dtype, shape, lo, hi)                                                                        \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #lo "," #hi "]}"

static void tensors_are_found_by_name_and_offset(void **state)
{
    struct crl_st *st;
    struct crl_err err = { "" };
    const struct crl_st_tensor *t;

    (void)state;
    assert_int_equal(parse(&st,
                           "{\"__metadata__\":{\"format\":\"pt\"}," T("b", "F32", "[2,1]", 3, 11) "," T(
                               "a", "F8_E4M3", "[3]", 0, 3) "," T("s", "BF16", "[]", 11, 13) "}   ",
                           13, &err),
                     CRL_OK);
    assert_int_equal(crl_st_count(st), 3);
    assert_string_equal(crl_st_at(st, 0)->name, "a");
    assert_string_equal(crl_st_at(st, 2)->name, "s");
    t = crl_st_find(st, "b");
    assert_non_null(t);
    assert_int_equal(t->type, CRL_ST_F32);
    assert_int_equal(t->n_dim, 2);
    assert_int_equal(t->dim[0], 2);
    assert_int_equal(t->bytes, 8);
    assert_int_equal(t->data[0], 3); /* unaligned: nothing asks for alignment */
    assert_int_equal(crl_st_find(st, "s")->n_dim, 0);
    assert_null(crl_st_find(st, "__metadata__"));
    assert_null(crl_st_find(st, "c"));
    crl_st_close(st);
}

static void type_not_read_is_kept_by_name(void **state)
{
    struct crl_st *st;
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(
        parse(&st, "{" T("a", "U64", "[1]", 0, 8) "," T("f", "F4", "[3,2]", 8, 11) "}", 11, &err), CRL_OK);
    assert_int_equal(crl_st_find(st, "a")->type, CRL_ST_OTHER);
    assert_string_equal(crl_st_find(st, "f")->type_name, "F4");
    crl_st_close(st);
}

static void refusal_names_the_tensor_and_the_reason(void **state)
{
    static const struct {
        const char *header;
        size_t n;
        const char *said;
    } bad[] = {
        { "{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 4, 12) "}", 12, "tensors a and b overlap" },
        { "{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[1]", 9, 13) "}", 13, "1 bytes before tensor b" },
        { "{" T("a", "F32", "[2]", 0, 8) "}", 9, "the last 1 bytes belong to no tensor" },
        { "{" T("a", "F32", "[2]", 0, 8) "}", 7, "tensor a ends at byte 8 of the data, the file has only 7" },
        { "{" T("a", "F32", "[3]", 0, 8) "}", 8, "tensor a: 8 bytes, but F32 [3]" },
        { "{" T("a", "F4", "[3]", 0, 2) "}", 2, "tensor a: 2 bytes, but F4 [3]" },
        { "{" T("a", "XX", "[3]", 0, 2) "}", 2, "tensor a: unknown type XX" },
        { "{" T("a", "F32", "[4294967296,4294967296]", 0, 0) "}", 0, "tensor a: shape has more than 2^64" },
        { "{" T("a", "F32", "[-1]", 0, 4) "}", 4, "tensor a: dimension 0 is not a count" },
        { "{" T("a", "F32", "[1]", 4, 0) "}", 4, "tensor a: data_offsets is not a rising pair" },
        { "{" T("a", "F32", "[1]", 0, 4) "," T("a", "F32", "[1]", 0, 4) "}", 4, "duplicate" },
        { " {}", 0, "does not begin with {" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct crl_st *st;
        struct crl_err err;
        assert_int_equal(parse(&st, bad[i].header, bad[i].n, &err), CRL_EFORMAT);
        assert_null(st);
        if (!strstr(err.text, bad[i].said)) fail_msg("%s: said %s", bad[i].said, err.text);
    }
}

static void header_above_the_cap_is_refused(void **state)
{
    unsigned char image[16] = { 0 };
    struct crl_st *st;
    struct crl_err err = { "" };

    (void)state;
    crl_put_le64(image, CRL_ST_HEADER_MAX + 1);
    assert_int_equal(crl_st_parse(&st, image, sizeof image, "x", &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "at most 100000000"));
    crl_put_le64(image, CRL_ST_HEADER_MAX);
    err.text[0] = 0;
    assert_int_equal(crl_st_parse(&st, image, sizeof image, "x", &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "truncated"));
}

static void pointer_file_is_called_so(void **state)
{
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    struct crl_st *st;
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(crl_st_parse(&st, lfs, sizeof lfs - 1, "m.safetensors", &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "m.safetensors: this is a Git LFS pointer"));
}

static void corpus_is_sorted_into_good_and_bad(void **state)
{
    char path[8192], name[200], verdict[8];
    unsigned n = 0;
    FILE *list;

    (void)state;
    snprintf(path, sizeof path, "%s/malformed/safetensors/LIST", golden());
    list = fopen(path, "r");
    assert_non_null(list);
    while (fscanf(list, "%199s %7s%*[^\n]", name, verdict) == 2) {
        struct crl_st *st;
        struct crl_err err = { "" };
        enum crl_status rc;
        snprintf(path, sizeof path, "%s/malformed/safetensors/%s", golden(), name);
        rc = crl_st_open(&st, path, &err);
        if ((rc == CRL_OK) != (strcmp(verdict, "ok") == 0))
            fail_msg("%s is %s, said: %s", name, verdict, err.text);
        if (rc && !strstr(err.text, name)) fail_msg("%s: the sentence does not name it: %s", name, err.text);
        crl_st_close(st);
        n++;
    }
    fclose(list);
    assert_true(n > 50);
}

static void allocation_failures_are_reported(void **state)
{
    static const char header[] = "{" T("a", "F32", "[2]", 0, 8) "}";
    struct crl_st *st;
    struct crl_err err = { "" };
    size_t n;

    (void)state;
    crl_alloc_fail_after(0);
    assert_int_equal(parse(&st, header, 8, &err), CRL_OK);
    crl_st_close(st);
    n = crl_alloc_fail_after(0);
    assert_true(n > 3);
    for (size_t i = 1; i <= n; i++) {
        crl_alloc_fail_after(i);
        assert_int_equal(parse(&st, header, 8, &err), CRL_ENOMEM);
        assert_null(st);
    }
    crl_alloc_fail_after(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name_and_offset),
        cmocka_unit_test(type_not_read_is_kept_by_name),
        cmocka_unit_test(refusal_names_the_tensor_and_the_reason),
        cmocka_unit_test(header_above_the_cap_is_refused),
        cmocka_unit_test(pointer_file_is_called_so),
        cmocka_unit_test(corpus_is_sorted_into_good_and_bad),
        cmocka_unit_test(allocation_failures_are_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
