/* test_result.c - the one structure that evaluations return. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "eval/result.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct crl_result *fresh(void)
{
    struct crl_result *r;

    assert_int_equal(crl_result_new(&r, "perplexity", NULL), CRL_OK);
    return r;
}

static void metric_of_bad_name_is_refused(void **state)
{
    struct crl_result *r = fresh();
    struct crl_metric *m;
    struct crl_err err = { "" };
    char name[CRL_METRIC_NAME + 1];

    (void)state;
    memset(name, 'x', CRL_METRIC_NAME);
    name[CRL_METRIC_NAME] = 0;
    assert_int_equal(crl_result_metric(r, &m, name, 1, 1, &err), CRL_ERANGE);
    assert_int_equal(crl_result_metric(r, &m, "", 1, 1, NULL), CRL_ERANGE);
    assert_int_equal(crl_result_metric(r, &m, "a", 1, 1, NULL), CRL_OK);
    err.text[0] = 0;
    assert_int_equal(crl_result_metric(r, &m, "a", 1, 1, &err), CRL_ERANGE);
    assert_non_null(strstr(err.text, "\"a\""));
    assert_int_equal(r->n_metric, 1);
    crl_result_free(r);
}

static void check_names_the_metric_that_is_not_finite(void **state)
{
    struct crl_result *r = fresh();
    struct crl_metric *m;
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(crl_result_metric(r, &m, "a", 1, 1, NULL), CRL_OK);
    assert_int_equal(crl_result_check(r, &err), CRL_OK);
    assert_int_equal(crl_result_metric(r, &m, "b", NAN, 1, NULL), CRL_OK);
    assert_int_equal(crl_result_check(r, &err), CRL_ERANGE);
    assert_non_null(strstr(err.text, "\"b\""));
    crl_result_free(r);
}

static void json_holds_what_was_put_in(void **state)
{
    struct crl_result *r = fresh();
    struct crl_metric *m;
    json_t *doc;
    char *text;

    (void)state;
    assert_int_equal(crl_result_metric(r, &m, "nll", 2, 5, NULL), CRL_OK);
    m->se = 0.5;
    m->better = CRL_BETTER_LOW;
    strcpy(m->unit, "nats");
    assert_int_equal(crl_result_metric(r, &m, "lost", NAN, 0, NULL), CRL_OK);
    assert_int_equal(crl_result_fact(r, "window", json_integer(8), NULL), CRL_OK);
    assert_int_equal(crl_result_table(r, "t", json_pack("[s]", "c"), json_pack("[[i]]", 7), NULL), CRL_OK);
    assert_int_equal(crl_result_item(r, "0", 10, 5, json_pack("{s:i}", "x", 1), NULL), CRL_OK);
    doc = crl_result_json(r, true);
    text = json_dumps(doc, JSON_COMPACT);
    assert_string_equal(text, "{\"eval\":\"perplexity\",\"facts\":{\"window\":8},\"model\":{},\"run\":{},"
                              "\"metrics\":{\"nll\":{\"value\":2.0,"
                              "\"n\":5,\"se\":0.5,\"unit\":\"nats\",\"better\":\"low\"},\"lost\":{\"value\":null,"
                              "\"n\":0}},\"tables\":{\"t\":{\"columns\":[\"c\"],\"rows\":[[7]]}},\"items\":[{\"id\":"
                              "\"0\",\"score\":10.0,\"weight\":5.0,\"detail\":{\"x\":1}}]}");
    free(text);
    json_decref(doc);
    doc = crl_result_json(r, false);
    assert_null(json_object_get(doc, "items"));
    json_decref(doc);
    crl_result_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metric_of_bad_name_is_refused),
        cmocka_unit_test(check_names_the_metric_that_is_not_finite),
        cmocka_unit_test(json_holds_what_was_put_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
