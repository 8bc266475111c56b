/* test_generate.c - stop strings in text that arrives in any pieces. The loop itself is tested through the
 * program (tests/cli). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "run/generate.h"

#include <stdio.h>
#include <string.h>

/* Push text in pieces of `piece` bytes; what came out, and the stop string found or -1. */
static int push_all(const char *const *stop, size_t n_stop, const char *text, size_t piece,
                    struct crl_str *sure)
{
    struct crl_stopper s = { .stop = stop, .n_stop = n_stop };
    size_t len = strlen(text), found = n_stop;
    struct crl_err err = { "" };

    for (size_t at = 0; at < len && found == n_stop; at += piece) {
        size_t n = len - at < piece ? len - at : piece, before = sure->len;
        if (crl_stopper_push(&s, text + at, n, sure, &found, &err)) fail_msg("%s", err.text);
        assert_true(sure->len >= before);
    }
    if (found == n_stop) assert_int_equal(crl_stopper_end(&s, sure, &err), CRL_OK);
    crl_stopper_fini(&s);
    return found == n_stop ? -1 : (int)found;
}

static void check(const char *const *stop, size_t n_stop, const char *text, const char *want, int want_found)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        struct crl_str sure = { NULL, 0, 0 };
        int found = push_all(stop, n_stop, text, piece, &sure);
        if (found != want_found || strcmp(sure.s ? sure.s : "", want))
            fail_msg("\"%s\" in pieces of %zu: \"%s\" and %d, not \"%s\" and %d", text, piece,
                     sure.s ? sure.s : "", found, want, want_found);
        crl_str_fini(&sure);
    }
}

static void stop_string_cuts_the_text_before_it(void **unused)
{
    static const char *const one[] = { "END" }, *const dots[] = { "aab" },
                             *const umlaut[] = { "\xc3\xa4\xc3\xb6" };

    (void)unused;
    check(one, 1, "some text END and more", "some text ", 0);
    check(one, 1, "END", "", 0);
    check(one, 1, "EN", "EN", -1);
    check(one, 1, "ENEND", "EN", 0);
    check(one, 1, "nothing of the kind", "nothing of the kind", -1);
    check(dots, 1, "aaaaab", "aaa", 0);
    check(dots, 1, "aaaaaa", "aaaaaa", -1);
    check(umlaut, 1, "\xc3\xa4\xc3\xa4\xc3\xb6", "\xc3\xa4", 0);
    check(NULL, 0, "no stop strings", "no stop strings", -1);
}

/* When text comes in large pieces a later, shorter one must not win; this holds only where all pieces agree
 * on what is complete first, so the strings are chosen that way. */
static void earliest_of_several_stop_strings_wins(void **unused)
{
    static const char *const two[] = { "world", "lo" }, *const same[] = { "ab", "abc" };
    struct crl_str sure = { NULL, 0, 0 };

    (void)unused;
    check(two, 2, "hello world", "hel", 1);
    check(two, 2, "wor, world, lo", "wor, ", 0);
    assert_int_equal(push_all(same, 2, "xabc", 100, &sure), 1);
    assert_string_equal(sure.s, "x");
    crl_str_fini(&sure);
}

static void text_waits_no_longer_than_a_stop_string_may_form(void **unused)
{
    static const char *const stop[] = { "<end>" };
    struct crl_stopper s = { .stop = stop, .n_stop = 1 };
    struct crl_str sure = { NULL, 0, 0 };
    size_t found;

    (void)unused;
    assert_int_equal(crl_stopper_push(&s, "abc", 3, &sure, &found, NULL), CRL_OK);
    assert_string_equal(sure.s, "abc");
    assert_int_equal(crl_stopper_push(&s, "d<en", 4, &sure, &found, NULL), CRL_OK);
    assert_string_equal(sure.s, "abcd");
    assert_int_equal(crl_stopper_push(&s, "e", 1, &sure, &found, NULL), CRL_OK);
    assert_string_equal(sure.s, "abcd<ene");
    assert_int_equal(found, 1);
    crl_stopper_fini(&s);
    crl_str_fini(&sure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_string_cuts_the_text_before_it),
        cmocka_unit_test(earliest_of_several_stop_strings_wins),
        cmocka_unit_test(text_waits_no_longer_than_a_stop_string_may_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
