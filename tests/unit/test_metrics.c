/* test_metrics.c - answers taken out of replies and scored: by hand, and as published examples and programs
 * have it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "eval/metrics.h"
#include "text/regex.h"

#include <math.h>
#include <string.h>

static struct crl_scorer *scorer;

static int set_up(void **unused)
{
    struct crl_err err = { "" };

    (void)unused;
    return crl_scorer_new(&scorer, "<a>(.*?)</a>", &err);
}

static int tear_down(void **unused)
{
    (void)unused;
    crl_scorer_free(scorer);
    return 0;
}

/* --- extraction ----------------------------------------------------------------------------------------- */

static void want(enum crl_extract how, const char *reply, const char *answer)
{
    struct crl_str out = { NULL, 0, 0 };
    struct crl_err err = { "" };
    bool found;

    if (crl_answer_extract(scorer, how, reply, strlen(reply), 4, &out, &found, &err))
        fail_msg("\"%s\": %s", reply, err.text);
    if (found != (answer != NULL) || strcmp(out.s ? out.s : "", answer ? answer : ""))
        fail_msg("%s of \"%s\": \"%s\", not \"%s\"", crl_extract_name(how), reply, found ? out.s : "(none)",
                 answer ? answer : "(none)");
    crl_str_fini(&out);
}

static void whole_reply_loses_space_around_it(void **unused)
{
    (void)unused;
    want(CRL_EXTRACT_ALL, " 42 \n", "42");
    want(CRL_EXTRACT_ALL, " \n", NULL);
    want(CRL_EXTRACT_ALL, "", NULL);
    want(CRL_EXTRACT_LINE, "\n  first \nsecond", "first");
}

static void hashes_take_the_number_behind_them(void **unused)
{
    (void)unused;
    want(CRL_EXTRACT_HASHES, "She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18", "18");
    want(CRL_EXTRACT_HASHES, "#### 70,000", "70000");
    want(CRL_EXTRACT_HASHES, "#### -3", "-3");
    want(CRL_EXTRACT_HASHES, "#### $1,234.50.", "1234.50");
    want(CRL_EXTRACT_HASHES, "#### 1\n#### 2", "2");
    want(CRL_EXTRACT_HASHES, "The answer is 18", NULL);
    want(CRL_EXTRACT_HASHES, "#### none", NULL);
}

static void last_number_is_taken_in_any_script(void **unused)
{
    (void)unused;
    want(CRL_EXTRACT_NUMBER, "First 3, then 4, so 7.", "7");
    want(CRL_EXTRACT_NUMBER, "The answer is 18. He had 20 before that 1 day.", "1");
    want(CRL_EXTRACT_NUMBER, "7 apples and 5 pears. The answer is 12.", "12");
    want(CRL_EXTRACT_NUMBER, "Die Antwort lautet 70,000 Dollar.", "70000");
    want(CRL_EXTRACT_NUMBER, "La respuesta es -3.5", "-3.5");
    want(CRL_EXTRACT_NUMBER,
         "\xe0\xa6\x89\xe0\xa6\xa4\xe0\xa7\x8d\xe0\xa6\xa4\xe0\xa6\xb0 \xe0\xa7\xa7\xe0\xa7\xae", "18");
    want(CRL_EXTRACT_NUMBER,
         "x = \xe2\x88\x92"
         "5",
         "-5");
    want(CRL_EXTRACT_NUMBER, "none", NULL);
}

static void boxed_takes_balanced_braces(void **unused)
{
    (void)unused;
    want(CRL_EXTRACT_BOXED, "so $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}");
    want(CRL_EXTRACT_BOXED, "\\boxed{1} or rather \\boxed{2}", "2");
    want(CRL_EXTRACT_BOXED, "\\fbox{x^{2}}", "x^{2}");
    want(CRL_EXTRACT_BOXED, "$\\boxed 5$", "5");
    want(CRL_EXTRACT_BOXED, "Final Answer: The final answer is $3\\pi$. I hope it is correct.", "3\\pi");
    want(CRL_EXTRACT_BOXED, "\\boxed{never closed", NULL);
    want(CRL_EXTRACT_BOXED, "no box", NULL);
}

static void letter_is_found_where_replies_put_it(void **unused)
{
    (void)unused;
    want(CRL_EXTRACT_LETTER, "C", "C");
    want(CRL_EXTRACT_LETTER, " (B) because", "B");
    want(CRL_EXTRACT_LETTER, "D. a teapot", "D");
    want(CRL_EXTRACT_LETTER, "A hammer is a tool. The answer is (C).", "C");
    want(CRL_EXTRACT_LETTER, "the answer is b", "B");
    want(CRL_EXTRACT_LETTER, "Thinking...\nAnswer: D", "D");
    want(CRL_EXTRACT_LETTER, "I would say B", "B");
    want(CRL_EXTRACT_LETTER, "F", NULL);
    want(CRL_EXTRACT_LETTER, "none of them", NULL);
}

static void code_is_taken_from_its_fence(void **unused)
{
    (void)unused;
    want(CRL_EXTRACT_CODE, "Here:\n```python\ndef f():\n    return 1\n```\nDone", "def f():\n    return 1");
    want(CRL_EXTRACT_CODE, "[BEGIN]\nx = 1\n[DONE]", "x = 1");
    want(CRL_EXTRACT_CODE, "\n    return 1\n", "    return 1");
    want(CRL_EXTRACT_CODE, "```\na = 1", "a = 1");
}

static void own_pattern_takes_its_group(void **unused)
{
    (void)unused;
    want(CRL_EXTRACT_PATTERN, "<a>1</a> <a> 2 </a>", "2");
    want(CRL_EXTRACT_PATTERN, "1", NULL);
}

/* --- scores --------------------------------------------------------------------------------------------- */

static double score(enum crl_score how, const char *got, const char *gold)
{
    struct crl_err err = { "" };
    double s = -1;

    if (crl_score_answer(scorer, how, got, &gold, 1, &s, &err)) fail_msg("\"%s\": %s", got, err.text);
    return s;
}

static void near(double got, double wanted)
{
    if (!(fabs(got - wanted) < 1e-9)) fail_msg("%.12g, not %.12g", got, wanted);
}

static void numbers_are_equal_as_numbers(void **unused)
{
    (void)unused;
    near(score(CRL_SCORE_NUMBER, "70,000", "70000"), 1);
    near(score(CRL_SCORE_NUMBER, "$18.00", "18"), 1);
    near(score(CRL_SCORE_NUMBER, "18.", "18"), 1);
    near(score(CRL_SCORE_NUMBER, "-3", "3"), 0);
    near(score(CRL_SCORE_NUMBER, "18 eggs", "18"), 0);
    near(score(CRL_SCORE_EXACT, " It is brown ", "It is brown"), 1);
    near(score(CRL_SCORE_EXACT, "it is brown", "It is brown"), 0);
}

static void squad_scores_words_without_articles(void **unused)
{
    (void)unused;
    near(score(CRL_SCORE_EM, "The Eiffel Tower!", "eiffel tower"), 1);
    near(score(CRL_SCORE_EM, "towers", "tower"), 0);
    /* got: cat sat on mat; gold: cat is on the mat -> cat is on mat: 3 shared of 4 and 4 */
    near(score(CRL_SCORE_F1, "a cat sat on the mat", "The cat is on the mat."), 0.75);
    near(score(CRL_SCORE_F1, "Denver Broncos", "the Denver Broncos"), 1);
    near(score(CRL_SCORE_F1, "b b b", "b c"),
         2 * (1.0 / 3) * 0.5 / (1.0 / 3 + 0.5)); /* a word counts as often as it occurs */
    near(score(CRL_SCORE_F1, "x", "y"), 0);
    near(score(CRL_SCORE_F1, "the", "a"), 1); /* both empty */
    near(score(CRL_SCORE_F1, "", "y"), 0);
    near(score(CRL_SCORE_EM, "\xc3\x84pfel", "\xc3\xa4pfel"), 1);
}

/* The values are those of sacreBLEU 2.x, CHRF() (nc 6, nw 0, effective order). */
static void chrf_agrees_with_sacrebleu(void **unused)
{
    static const struct {
        const char *hyp, *ref;
        double score;
    } c[] = {
        { "The cat sat on the mat", "The cat is on the mat", 0.645779420625287 },
        { "Guten Morgen, Welt", "Guten Abend, Welt", 0.3973801592731129 },
        { "ab", "abc", 0.6363636363636363 },
        { "\xe0\xa6\x8f\xe0\xa6\x9f\xe0\xa6\xbf \xe0\xa6\x8f\xe0\xa6\x95\xe0\xa6\x9f\xe0\xa6\xbf "
          "\xe0\xa6\xac\xe0\xa6\xbf\xe0\xa6\xa1\xe0\xa6\xbc\xe0\xa6\xbe\xe0\xa6\xb2",
          "\xe0\xa6\x8f\xe0\xa6\x9f\xe0\xa6\xbf \xe0\xa6\x8f\xe0\xa6\x95\xe0\xa6\x9f\xe0\xa6\xbf "
          "\xe0\xa6\x95\xe0\xa7\x81\xe0\xa6\x95\xe0\xa7\x81\xe0\xa6\xb0",
          0.446370843225516 },
        { "", "x", 0 },
        { "hello", "hello", 1 },
        { "a b c", "abc", 1 },
    };
    struct crl_chrf all = { { 0 }, { 0 }, { 0 } };

    (void)unused;
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        near(score(CRL_SCORE_CHRF, c[i].hyp, c[i].ref), c[i].score);
        assert_int_equal(crl_chrf_add(&all, c[i].hyp, c[i].ref, NULL), CRL_OK);
    }
    near(crl_chrf_score(&all), 0.5265499814834775);
}

/* The cases of the normalisation published with the MATH data set, and answers that must stay different. */
static void math_answers_are_normalised(void **unused)
{
    static const char *const same[][2] = {
        { "\\dfrac{1}{2}", "\\frac12" },
        { "\\tfrac{3}{4}", "3/4" },
        { "0.5", "\\frac{1}{2}" },
        { ".5", "\\frac{1}{2}" },
        { "x=5", "5" },
        { "\\sqrt3", "\\sqrt{3}" },
        { "90^\\circ", "90" },
        { "90^{\\circ}", "90" },
        { "\\$18", "18" },
        { "50\\%", "50" },
        { "\\left( 1, 2 \\right)", "(1,2)" },
        { "10\\text{ cm}", "10" },
        { "1\\!000", "1000" },
        { "\\frac1{72}", "\\frac{1}{72}" },
        { "2 \\cdot 3", "2\\cdot3" },
    };

    (void)unused;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (score(CRL_SCORE_MATH, same[i][0], same[i][1]) != 1)
            fail_msg("%s is not %s", same[i][0], same[i][1]);
    near(score(CRL_SCORE_MATH, "\\frac{1}{2}", "\\frac{2}{1}"), 0);
    near(score(CRL_SCORE_MATH, "x+y=5", "5"), 0); /* only short left sides are dropped */
    near(score(CRL_SCORE_MATH, "12/5.5", "\\frac{12}{5.5}"), 0);
}

static void anls_is_zero_from_half_the_length_on(void **unused)
{
    static const char *const two[] = { "university of california", "ucla" };
    struct crl_err err = { "" };
    double s;

    (void)unused;
    near(score(CRL_SCORE_ANLS, "Hello  World", "hello world"), 1);
    near(score(CRL_SCORE_ANLS, "helo", "hello"), 0.8);
    near(score(CRL_SCORE_ANLS, "abxx", "abyy"), 0); /* exactly half */
    near(score(CRL_SCORE_ANLS, "abcxx", "abcyy"), 0.6);
    near(score(CRL_SCORE_ANLS, "", "x"), 0);
    near(score(CRL_SCORE_ANLS, "", ""), 1);
    near(score(CRL_SCORE_ANLS,
               "Stra\xc3\x9f"
               "e",
               "Strasse"),
         1 - 2.0 / 7); /* characters, not bytes */
    assert_int_equal(crl_score_answer(scorer, CRL_SCORE_ANLS, "UCLA", two, 2, &s, &err), CRL_OK);
    near(s, 1);
}

static void relaxed_accuracy_allows_five_percent(void **unused)
{
    (void)unused;
    near(score(CRL_SCORE_RELAXED, "105", "100"), 1);
    near(score(CRL_SCORE_RELAXED, "105.1", "100"), 0);
    near(score(CRL_SCORE_RELAXED, "95", "100"), 1);
    near(score(CRL_SCORE_RELAXED, "10%", "0.1"), 1);
    near(score(CRL_SCORE_RELAXED, "0", "0"), 1);
    near(score(CRL_SCORE_RELAXED, "0.01", "0"), 0);
    near(score(CRL_SCORE_RELAXED, "blue", "Blue"), 1);
    near(score(CRL_SCORE_RELAXED, "Blue", "red"), 0);
    near(score(CRL_SCORE_RELAXED, "-100", "100"), 0);
}

/* Chen et al. 2021: 1 - C(n-c, k) / C(n, k). */
static void pass_at_k_counts_subsets(void **unused)
{
    (void)unused;
    near(crl_pass_at_k(1, 1, 1), 1);
    near(crl_pass_at_k(1, 0, 1), 0);
    near(crl_pass_at_k(5, 2, 1), 0.4);
    near(crl_pass_at_k(5, 2, 2), 1 - 3.0 / 10);
    near(crl_pass_at_k(10, 3, 5), 1 - 21.0 / 252);
    near(crl_pass_at_k(5, 4, 2), 1);
    near(crl_pass_at_k(200, 1, 100), 0.5);
}

/* --- patterns ------------------------------------------------------------------------------------------- */

static void patterns_that_are_wrong_are_refused(void **unused)
{
    struct crl_regex *r;
    struct crl_err err = { "" };

    (void)unused;
    assert_int_equal(crl_regex_new(&r, "(", 0, &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "byte"));
    assert_int_equal(crl_regex_new(&r, "()()()()()()()()", 0, NULL), CRL_ERANGE);
    assert_int_equal(crl_regex_new(&r, "\\C", 0, NULL), CRL_EFORMAT);
}

static void texts_that_are_no_utf8_are_refused(void **unused)
{
    const char *gold = "x";
    double s;
    struct crl_err err = { "" };

    (void)unused;
    assert_int_equal(crl_score_answer(scorer, CRL_SCORE_F1, "\xff\xfe", &gold, 1, &s, &err), CRL_EFORMAT);
    assert_non_null(strstr(err.text, "UTF-8"));
}

static void endless_patterns_are_stopped(void **unused)
{
    struct crl_span g[CRL_REGEX_GROUPS];
    struct crl_regex *r;
    char text[64];
    bool found;

    (void)unused;
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '!';
    assert_int_equal(crl_regex_new(&r, "^(a+)+$", 0, NULL), CRL_OK);
    assert_int_equal(crl_regex_find(r, text, sizeof text, 0, g, &found, NULL), CRL_ERANGE);
    crl_regex_free(r);
}

/* Every allocation of making a scorer may fail, and nothing leaks. */
static void scorer_without_memory_is_enomem(void **unused)
{
    (void)unused;
    for (size_t n = 1;; n++) {
        struct crl_scorer *s;
        enum crl_status st;
        crl_alloc_fail_after(n);
        st = crl_scorer_new(&s, NULL, NULL);
        crl_alloc_fail_after(0);
        if (!st) {
            crl_scorer_free(s);
            assert_true(n > 10);
            return;
        }
        assert_int_equal(st, CRL_ENOMEM);
        assert_null(s);
    }
}

static void replacement_may_be_longer_than_the_text(void **unused)
{
    struct crl_str out = { NULL, 0, 0 };
    struct crl_regex *r;

    (void)unused;
    assert_int_equal(crl_regex_new(&r, "(x)", 0, NULL), CRL_OK);
    assert_int_equal(
        crl_regex_replace(r, "xxxxxxxxxx", 10, "$1-0123456789012345678901234567890$$", &out, NULL), CRL_OK);
    assert_int_equal(out.len, 10 * (1 + 32 + 1));
    crl_str_fini(&out);
    crl_regex_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_reply_loses_space_around_it),
        cmocka_unit_test(hashes_take_the_number_behind_them),
        cmocka_unit_test(last_number_is_taken_in_any_script),
        cmocka_unit_test(boxed_takes_balanced_braces),
        cmocka_unit_test(letter_is_found_where_replies_put_it),
        cmocka_unit_test(code_is_taken_from_its_fence),
        cmocka_unit_test(own_pattern_takes_its_group),
        cmocka_unit_test(numbers_are_equal_as_numbers),
        cmocka_unit_test(squad_scores_words_without_articles),
        cmocka_unit_test(chrf_agrees_with_sacrebleu),
        cmocka_unit_test(math_answers_are_normalised),
        cmocka_unit_test(anls_is_zero_from_half_the_length_on),
        cmocka_unit_test(relaxed_accuracy_allows_five_percent),
        cmocka_unit_test(pass_at_k_counts_subsets),
        cmocka_unit_test(patterns_that_are_wrong_are_refused),
        cmocka_unit_test(texts_that_are_no_utf8_are_refused),
        cmocka_unit_test(endless_patterns_are_stopped),
        cmocka_unit_test(scorer_without_memory_is_enomem),
        cmocka_unit_test(replacement_may_be_longer_than_the_text),
    };

    return cmocka_run_group_tests_name("metrics", tests, set_up, tear_down);
}
