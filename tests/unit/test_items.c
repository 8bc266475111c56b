/* test_items.c - the published forms of data sets are read, and what breaks them is named with line and
 * field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "eval/items.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static int set_up(void **unused)
{
    (void)unused;
    strcpy(folder, "test_items.XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **unused)
{
    (void)unused;
    return rmdir(folder);
}

static enum crl_status read_as(struct crl_questions **q, const char *name, enum crl_data_format f,
                               const char *text, struct crl_err *err)
{
    char path[128];
    enum crl_status st;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(crl_file_write(path, text, strlen(text), NULL), CRL_OK);
    st = crl_questions_read(q, path, f, err);
    unlink(path);
    return st;
}

static struct crl_questions *good(const char *name, enum crl_data_format want, const char *text)
{
    struct crl_questions *q;
    struct crl_err err = { "" };

    if (read_as(&q, name, CRL_DATA_AUTO, text, &err)) fail_msg("%s: %s", name, err.text);
    if (q->format != want) fail_msg("%s was taken for %s", name, crl_data_name(q->format));
    return q;
}

/* The sentence must contain all parts, separated by "|". */
static void bad(const char *name, enum crl_data_format f, const char *text, const char *parts)
{
    struct crl_questions *q;
    struct crl_err err = { "" };
    char copy[256], *part, *rest = copy;

    assert_int_equal(read_as(&q, name, f, text, &err), CRL_EFORMAT);
    assert_null(q);
    snprintf(copy, sizeof copy, "%s", parts);
    while ((part = strsep(&rest, "|")))
        if (!strstr(err.text, part)) fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void mmlu_is_read_from_csv_and_json(void **unused)
{
    struct crl_questions *q =
        good("abstract_algebra_test.csv", CRL_DATA_MMLU,
             "\"Find the degree, please\",0,4,2,6,B\n\"Say \"\"x\"\"\nagain\",1,2,3,4,D\r\n");

    (void)unused;
    assert_int_equal(q->n, 2);
    assert_string_equal(q->v[0].text, "Find the degree, please");
    assert_int_equal(q->v[0].n_choice, 4);
    assert_string_equal(q->v[0].choice[1], "4");
    assert_int_equal(q->v[0].right, 1);
    assert_string_equal(q->v[0].gold[0], "B");
    assert_string_equal(q->v[1].text, "Say \"x\"\nagain");
    assert_int_equal(q->v[1].right, 3);
    assert_int_equal(q->v[1].line, 2);
    crl_questions_free(q);
    q = good("m.jsonl", CRL_DATA_MMLU,
             "{\"question\": \"Q\", \"subject\": \"anatomy\", \"choices\": [\"a\", \"b\", \"c\", \"d\"], "
             "\"answer\": 2}\n");
    assert_int_equal(q->v[0].right, 2);
    assert_string_equal(q->v[0].group, "anatomy");
    crl_questions_free(q);
    q = good("pro.jsonl", CRL_DATA_MMLU_PRO,
             "{\"question_id\": 70, \"question\": \"Q\", \"options\": "
             "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\"], "
             "\"answer\": \"I\", \"answer_index\": 8, \"cot_content\": \"\", \"category\": \"business\", "
             "\"src\": \"x\"}");
    assert_int_equal(q->v[0].n_choice, 10);
    assert_string_equal(q->v[0].gold[0], "I");
    assert_string_equal(q->v[0].id, "70");
    crl_questions_free(q);
}

static void gpqa_options_are_shuffled_alike_in_every_run(void **unused)
{
    static const char text[] =
        "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3,"
        "High-level domain\nrec1,\"What\nis "
        "it?\",right,w1,w2,w3,Physics\nrec2,Another,right,w1,w2,w3,Physics\n";
    struct crl_questions *q = good("gpqa.csv", CRL_DATA_GPQA, text),
                         *again = good("gpqa.csv", CRL_DATA_GPQA, text);

    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(q->v[i].choice[q->v[i].right], "right");
        assert_int_equal(q->v[i].right, again->v[i].right);
        assert_int_equal(q->v[i].gold[0][0], 'A' + q->v[i].right);
    }
    assert_string_equal(q->v[0].id, "rec1");
    assert_int_equal(q->v[1].line, 4);
    assert_true(q->hash == again->hash);
    crl_questions_free(q);
    crl_questions_free(again);
}

static void number_sets_are_read(void **unused)
{
    struct crl_questions *q = good("g.jsonl", CRL_DATA_GSM8K,
                                   "{\"question\": \"Q\", \"answer\": \"2+2 = <<2+2=4>>4\\n#### 1,004\"}\n");

    (void)unused;
    assert_string_equal(q->v[0].gold[0], "1004");
    assert_string_equal(q->v[0].solution, "2+2 = <<2+2=4>>4\n#### 1,004");
    crl_questions_free(q);
    q = good("mgsm_de.tsv", CRL_DATA_MGSM, "Wie \"viel\", bitte?\t18\nUnd jetzt?\t3\r\n");
    assert_int_equal(q->n, 2);
    assert_string_equal(q->v[0].text, "Wie \"viel\", bitte?");
    assert_string_equal(q->v[1].gold[0], "3");
    crl_questions_free(q);
    q = good("math.jsonl", CRL_DATA_MATH,
             "{\"problem\": \"P\", \"level\": \"Level 1\", \"type\": \"Algebra\", "
             "\"solution\": \"Not \\\\boxed{0} but $\\\\boxed{\\\\frac{1}{2}}$\"}\n");
    assert_string_equal(q->v[0].gold[0], "\\frac{1}{2}");
    assert_string_equal(q->v[0].group, "Algebra");
    crl_questions_free(q);
}

static void code_and_reading_sets_are_read(void **unused)
{
    struct crl_questions *q = good(
        "mbpp.jsonl", CRL_DATA_MBPP,
        "{\"text\": \"Write f.\", \"code\": \"def f(): pass\", \"task_id\": 11, \"test_setup_code\": \"\", "
        "\"test_list\": [\"assert f() is None\", \"assert 1\"], \"challenge_test_list\": []}\n");

    (void)unused;
    assert_string_equal(q->v[0].tests, "assert f() is None\nassert 1");
    assert_string_equal(q->v[0].id, "11");
    assert_int_equal(q->v[0].n_gold, 0);
    crl_questions_free(q);
    q = good("tydiqa.json", CRL_DATA_TYDIQA,
             "{\"version\": \"1\", \"data\": [{\"paragraphs\": [{\"context\": \"C1\", \"qas\": [{\"id\": "
             "\"finnish-1-0\", "
             "\"question\": \"Q1\", \"answers\": [{\"text\": \"a\", \"answer_start\": 0}]}]}]}]}");
    assert_string_equal(q->v[0].context, "C1");
    assert_string_equal(q->v[0].group, "finnish");
    crl_questions_free(q);
    q = good("tydiqa.jsonl", CRL_DATA_TYDIQA,
             "{\"id\": \"x\", \"question\": \"Q\", \"context\": \"C\", \"answers\": {\"text\": [\"a\", "
             "\"b\"], \"answer_start\": [0, 1]}}");
    assert_int_equal(q->v[0].n_gold, 2);
    crl_questions_free(q);
}

static void picture_sets_carry_their_paths(void **unused)
{
    struct crl_questions *q = good("chart.json", CRL_DATA_CHARTQA,
                                   "[{\"imgname\": \"1.png\", \"query\": \"How many?\", \"label\": \"14\"}]");

    (void)unused;
    assert_string_equal(q->v[0].image[0], "1.png");
    assert_string_equal(q->v[0].gold[0], "14");
    crl_questions_free(q);
    q = good("val_v1.0.json", CRL_DATA_DOCVQA,
             "{\"dataset_name\": \"docvqa\", \"data\": [{\"questionId\": 337, \"question\": \"Q\", "
             "\"image\": \"documents/x.png\", "
             "\"answers\": [\"0.28\", \".28\"]}]}");
    assert_int_equal(q->v[0].n_gold, 2);
    assert_string_equal(q->v[0].id, "337");
    crl_questions_free(q);
    q = good("mmmu.jsonl", CRL_DATA_MMMU,
             "{\"id\": \"v_1\", \"question\": \"<image 1> what?\", \"options\": \"['$6', \\\"it's\\\", "
             "'a\\\\n']\", "
             "\"image_1\": \"1.png\", \"image_2\": null, \"question_type\": \"multiple-choice\", \"answer\": "
             "\"B\"}\n"
             "{\"id\": \"v_2\", \"question\": \"Q\", \"options\": \"[]\", \"question_type\": \"open\", "
             "\"answer\": \"['8', 'eight']\"}\n");
    assert_int_equal(q->v[0].n_choice, 3);
    assert_string_equal(q->v[0].choice[1], "it's");
    assert_int_equal(q->v[0].n_image, 1);
    assert_int_equal(q->v[1].n_gold, 2);
    assert_string_equal(q->v[1].gold[1], "eight");
    crl_questions_free(q);
    q = good("testmini.json", CRL_DATA_MATHVISTA,
             "{\"1\": {\"pid\": \"1\", \"question\": \"Q\", \"image\": \"images/1.jpg\", \"choices\": null, "
             "\"answer\": \"1.2\", "
             "\"question_type\": \"free_form\", \"answer_type\": \"float\"}, \"2\": {\"pid\": \"2\", "
             "\"question\": \"Q\", \"image\": "
             "\"images/2.jpg\", \"choices\": [\"yes\", \"no\"], \"answer\": \"no\", \"question_type\": "
             "\"multi_choice\"}}");
    assert_int_equal(q->n, 2);
    assert_string_equal(q->v[0].gold[0], "1.2");
    assert_int_equal(q->v[1].right, 1);
    crl_questions_free(q);
}

static void several_images_keep_their_order(void **unused)
{
    struct crl_questions *q =
        good("mmmu.jsonl", CRL_DATA_MMMU,
             "{\"id\": \"v\", \"question\": \"<image 2> or <image 1>?\", \"options\": \"['<image 1>', 'b']\", "
             "\"image_1\": \"1.png\", \"image_2\": {\"bytes\": null, \"path\": \"2.png\"}, "
             "\"question_type\": \"multiple-choice\", \"answer\": \"A\"}\n");

    (void)unused;
    assert_int_equal(q->v[0].n_image, 2);
    assert_string_equal(q->v[0].image[0], "1.png");
    assert_string_equal(q->v[0].image[1], "2.png");
    crl_questions_free(q);
    bad("gap.jsonl", CRL_DATA_MMMU,
        "{\"id\": \"v\", \"question\": \"Q\", \"options\": \"['a', 'b']\", \"answer\": \"A\", "
        "\"image_2\": \"2.png\"}\n",
        "line 1|image_2|before");
    bad("bytes.jsonl", CRL_DATA_DOCVQA,
        "{\"questionId\": 1, \"question\": \"Q\", \"answers\": [\"a\"], \"image\": {\"bytes\": \"x\"}}\n",
        "line 1|image|names no file");
    bad("none.jsonl", CRL_DATA_CHARTQA, "{\"query\": \"Q\", \"label\": \"1\", \"imgname\": \"\"}\n",
        "line 1|imgname|names no file");
}

static void images_lie_beside_their_data(void **unused)
{
    static const struct {
        const char *data, *folder, *want;
    } row[] = { { "a/b.json", NULL, "a/p.png" }, { "b.json", NULL, "p.png" },        { "/b.json", NULL, "/p.png" },
                { "a/b.json", "c", "c/p.png" },  { "b.json", "c/png", "c/png/p.png" } };

    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct crl_questions *q = good("g.jsonl", CRL_DATA_GENERIC,
                                       "{\"question\": \"Q\", \"answer\": \"a\", \"images\": [\"p.png\", "
                                       "\"/abs.png\"]}\n");
        assert_int_equal(crl_questions_find_images(q, row[i].data, row[i].folder, NULL), CRL_OK);
        assert_string_equal(q->v[0].image[0], row[i].want);
        assert_string_equal(q->v[0].image[1], "/abs.png");
        crl_questions_free(q);
    }
}

static void generic_form_is_read_from_lines_and_tables(void **unused)
{
    struct crl_questions *q =
        good("tasks.jsonl", CRL_DATA_GENERIC,
             "\xef\xbb\xbf{\"task\": \"add\", \"question\": \"1+1?\", \"answer\": 2}\n\n"
             "{\"id\": \"x\", \"prompt\": \"P\", \"answers\": [\"a\", \"b\"], \"images\": [\"p.png\"]}\n");

    (void)unused;
    assert_int_equal(q->n, 2);
    assert_string_equal(q->v[0].gold[0], "2");
    assert_string_equal(q->v[0].id, "1");
    assert_int_equal(q->v[1].line, 3);
    assert_int_equal(q->v[1].n_gold, 2);
    crl_questions_free(q);
    q = good("t.csv", CRL_DATA_GENERIC, "id,question,A,B,C,answer\nq1,Which?,x,y,,B\n");
    assert_int_equal(q->v[0].n_choice, 2);
    assert_int_equal(q->v[0].right, 1);
    crl_questions_free(q);
}

static void lettered_lines_become_options(void **unused)
{
    struct crl_questions *q =
        good("tasks.jsonl", CRL_DATA_GENERIC,
             "{\"question\": \"Which line says Liam?\\nA. Nathan\\nB. Liam\\nAnswer:\", \"answer\": \"B\"}\n"
             "{\"question\": \"Spell it.\\nB. no\\nC. no\", \"answer\": \"B\"}\n"
             "{\"question\": \"Plain\", \"answer\": \"plain\"}\n");

    (void)unused;
    assert_int_equal(crl_questions_split_choices(q, NULL), CRL_OK);
    assert_string_equal(q->v[0].text, "Which line says Liam?");
    assert_int_equal(q->v[0].n_choice, 2);
    assert_string_equal(q->v[0].choice[1], "Liam");
    assert_int_equal(q->v[0].right, 1);
    assert_int_equal(q->v[1].n_choice, 0);
    assert_int_equal(q->v[2].n_choice, 0);
    crl_questions_free(q);
}

static void selection_keeps_groups_and_spreads(void **unused)
{
    char text[4096] = "";
    struct crl_questions *q;
    struct crl_err err = { "" };

    (void)unused;
    for (int i = 0; i < 20; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "{\"task\": \"%s\", \"question\": \"q\", \"answer\": \"%d\"}\n", i % 2 ? "odd" : "even", i);
    q = good("t.jsonl", CRL_DATA_GENERIC, text);
    assert_int_equal(crl_questions_select(q, "e*", 5, &err), CRL_OK);
    assert_int_equal(q->n, 5);
    for (size_t i = 0; i < 5; i++) assert_string_equal(q->v[i].group, "even");
    assert_string_equal(q->v[0].gold[0], "2");
    assert_string_equal(q->v[4].gold[0], "18");
    assert_int_equal(crl_questions_select(q, "none", 0, &err), CRL_ENOENT);
    crl_questions_free(q);
}

static void faults_are_named_with_line_and_field(void **unused)
{
    (void)unused;
    bad("e.jsonl", CRL_DATA_AUTO, "", "holds no items");
    bad("e.jsonl", CRL_DATA_AUTO, "\n \n", "holds no items");
    bad("e.csv", CRL_DATA_AUTO, "id,question,answer\n", "holds no items");
    bad("e.jsonl", CRL_DATA_AUTO, "{\"question\": \"q\", \"answer\": \"a\"}\n{\"question\": \"q\"}\n",
        "line 2|\"answer\" is missing");
    bad("e.jsonl", CRL_DATA_AUTO,
        "{\"question\": \"q\", \"answer\": \"a\"}\n{\"question\": [], \"answer\": \"a\"}\n",
        "line 2|\"question\"");
    bad("e.jsonl", CRL_DATA_AUTO, "{\"question\": \"q\", \"answer\": \"a\"}\n{oops\n", "line 2");
    bad("e.jsonl", CRL_DATA_AUTO, "[1]\n", "line 1|not a JSON object");
    bad("e.jsonl", CRL_DATA_MMLU, "{\"question\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": 2}\n",
        "line 1|\"answer\" names none");
    bad("e.jsonl", CRL_DATA_MATH, "{\"problem\": \"q\", \"solution\": \"none\"}\n", "line 1|\"solution\"");
    bad("e.csv", CRL_DATA_AUTO, "question,answer\na,b\nc,d,e\n", "line 3 has 3 fields where 2 are expected");
    bad("e.csv", CRL_DATA_AUTO, "question,answer\na,b\n\"c,d\n", "line 3|never closed");
    bad("e.csv", CRL_DATA_AUTO, "question,answer\n\"a\"b,c\n", "line 2|closing quote");
    bad("e.json", CRL_DATA_AUTO, "{\"data\": [3]}", "item 1");
    bad("e.jsonl", CRL_DATA_AUTO, "{\"question\": \"q\", \"answer\": \"a\"}\n\xff\n", "line 2 is not UTF-8");
    bad("e.jsonl", CRL_DATA_AUTO, "{\"question\": \"q\\u0000\", \"answer\": \"a\"}\n", "line 1|zero byte");
    bad("m.jsonl", CRL_DATA_MMMU,
        "{\"id\": \"1\", \"question\": \"q\", \"options\": \"['a\", \"answer\": \"A\"}",
        "options|never ends");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mmlu_is_read_from_csv_and_json),
        cmocka_unit_test(gpqa_options_are_shuffled_alike_in_every_run),
        cmocka_unit_test(number_sets_are_read),
        cmocka_unit_test(code_and_reading_sets_are_read),
        cmocka_unit_test(picture_sets_carry_their_paths),
        cmocka_unit_test(several_images_keep_their_order),
        cmocka_unit_test(images_lie_beside_their_data),
        cmocka_unit_test(generic_form_is_read_from_lines_and_tables),
        cmocka_unit_test(lettered_lines_become_options),
        cmocka_unit_test(selection_keeps_groups_and_spreads),
        cmocka_unit_test(faults_are_named_with_line_and_field),
    };

    return cmocka_run_group_tests_name("items", tests, set_up, tear_down);
}
