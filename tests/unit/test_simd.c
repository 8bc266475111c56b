/* test_simd.c - levels by name, and the table made of a mask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "simd/kernels.h"

#include <string.h>

static void level_is_accepted_when_the_machine_has_it(void **state)
{
    (void)state;
    for (unsigned l = 0; l < CRL_LEVEL_END; l++) {
        struct crl_err err = { "" };
        unsigned mask = 0;
        enum crl_status st = crl_simd_mask(&mask, crl_level_name(l), &err);

        if (crl_simd_have() & 1u << l) {
            assert_int_equal(st, CRL_OK);
            assert_true(mask & 1u << l && mask & 1u << CRL_SCALAR);
            assert_false(mask >> (l + 1));
        } else { /* those of other architectures among them */
            assert_int_equal(st, CRL_EUNSUPPORTED);
            assert_non_null(strstr(err.text, crl_level_name(l)));
            assert_non_null(strstr(err.text, "it has scalar"));
        }
    }
}

static void level_of_another_architecture_is_not_had(void **state)
{
    unsigned x86 = 1u << CRL_AVX2, arm = 1u << CRL_NEON, have = crl_simd_have();

    (void)state;
    assert_true(have & 1u << CRL_SCALAR);
    assert_false(have & x86 && have & arm);
}

static void level_without_meaning_is_erange(void **state)
{
    struct crl_err err = { "" };
    unsigned mask = 7;

    (void)state;
    assert_int_equal(crl_simd_mask(&mask, "avx3", &err), CRL_ERANGE);
    assert_int_equal(mask, 7);
    for (unsigned l = 0; l < CRL_LEVEL_END; l++) assert_non_null(strstr(err.text, crl_level_name(l)));
}

static void table_is_complete_and_keeps_to_its_mask(void **state)
{
    (void)state;
    for (unsigned l = 0; l < CRL_LEVEL_END; l++) {
        unsigned mask = (2u << l) - 1;
        struct crl_kernels k;

        crl_simd_select(&k, mask);
#define OP(op, type)        \
    assert_non_null(k.op); \
    assert_true(mask & crl_simd_have() & 1u << k.op##_level);
        CRL_SIMD_OPS(OP)
#undef OP
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(level_is_accepted_when_the_machine_has_it),
        cmocka_unit_test(level_of_another_architecture_is_not_had),
        cmocka_unit_test(level_without_meaning_is_erange),
        cmocka_unit_test(table_is_complete_and_keeps_to_its_mask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
