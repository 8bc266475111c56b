/* test_toolcall.c - the forms of a tool call, and replies that only look like one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/toolcall.h"

#include <string.h>

static void expect_n(const char *text, size_t len, const char *want)
{
    struct crl_err err = { "" };
    json_t *calls;
    char *got = NULL;

    if (crl_toolcall_parse(&calls, text, len, &err)) fail_msg("%s", err.text);
    if (calls) got = crl_json_text(calls);
    if (!got != !want || (want && strcmp(got, want) != 0))
        fail_msg("%s\ngave     %s\nexpected %s", text, got ? got : "plain text", want ? want : "plain text");
    crl_free(got);
    json_decref(calls);
}

static void expect(const char *text, const char *want)
{
    expect_n(text, strlen(text), want);
}

#define F1 "[{\"name\":\"f\",\"arguments\":{\"a\":1}}]"
#define F0 "[{\"name\":\"f\",\"arguments\":{}}]"

static void json_calls_are_read(void **state)
{
    (void)state;
    expect("{\"name\": \"f\", \"parameters\": {\"a\": 1}}", F1);
    expect(" \n{\"name\": \"f\", \"arguments\": {\"a\": 1}} \n", F1);
    expect("{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}}", F1);
    expect("{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}}",
           F1);
    expect("{\"type\": \"function\", \"name\": \"f\"}", F0);
    expect("{\"function\": \"f\", \"parameters\": {\"a\": 1}}", F1);
    expect("{\"name\": \"f\", \"parameters\": null}", F0);
    expect("[{\"name\": \"f\", \"parameters\": {\"a\": 1}}]", F1);
    expect("{\"name\": \"f\", \"parameters\": {\"s\": \"}{;[\\\"\"}}",
           "[{\"name\":\"f\",\"arguments\":{\"s\":\"}{;[\\\"\"}}]");
    expect("{\"name\": \"f\", \"parameters\": {\"s\": \"\\ud83d\\ude42 \xc3\xa9\"}}",
           "[{\"name\":\"f\",\"arguments\":{\"s\":\"\xf0\x9f\x99\x82 \xc3\xa9\"}}]");
    expect("{'name': 'f', 'parameters': {'a': 1, 'b': True, 'c': None}}",
           "[{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":true,\"c\":null}}]");
}

static void several_json_calls_are_read_in_order(void **state)
{
    static const char *const seps[] = { "", ";", "; ", "\n", ", " };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof seps / sizeof *seps; i++) {
        char text[256];

        strcpy(text, "{\"name\": \"f\", \"parameters\": {}}");
        strcat(text, seps[i]);
        strcat(text, "{\"name\": \"g\", \"parameters\": {\"x\": [1, {}]}}");
        expect(text, "[{\"name\":\"f\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{\"x\":[1,{}]}}]");
    }
}

static void python_calls_are_read(void **state)
{
    (void)state;
    expect("[f(a=1)]", F1);
    expect("[ f ( a = 1 , ) , ]", F1);
    expect("[f()]", F0);
    expect("[f({\"a\": 1})]", F1);
    expect("[f(a=1), my.g(s='x', t=\"y\")]", "[{\"name\":\"f\",\"arguments\":{\"a\":1}},{\"name\":\"my.g\","
                                             "\"arguments\":{\"s\":\"x\",\"t\":\"y\"}}]");
    expect("[f(a=-1, b=+2.5, c=1e3, d=.5, e=1_000, f=0xff, g=0b101, h=0o17, i=5.)]",
           "[{\"name\":\"f\",\"arguments\":{\"a\":-1,\"b\":2.5,\"c\":1000.0,\"d\":0.5,\"e\":1000,\"f\":255,"
           "\"g\":5,"
           "\"h\":15,\"i\":5.0}}]");
    expect("[f(a=True, b=False, c=None, d=true, e=null)]",
           "[{\"name\":\"f\",\"arguments\":{\"a\":true,\"b\":false,\"c\":null,\"d\":true,\"e\":null}}]");
    expect("[f(a=[1, [2, 'x'], {}], b={'k': {'z': (1, 2)}, \"l\": []}, c=(1,), d=(3), e=())]",
           "[{\"name\":\"f\",\"arguments\":{\"a\":[1,[2,\"x\"],{}],\"b\":{\"k\":{\"z\":[1,2]},\"l\":[]},"
           "\"c\":[1],\"d\":3,"
           "\"e\":[]}}]");
    expect("[f(a=9223372036854775807, b=-9223372036854775807)]",
           "[{\"name\":\"f\",\"arguments\":{\"a\":9223372036854775807,\"b\":-9223372036854775807}}]");
}

static void python_strings_are_read(void **state)
{
    (void)state;
    expect("[f(s='it\\'s \"q\" \\\\ \\n\\t\\x41\\u00e9\\U0001F642\\101\\q')]",
           "[{\"name\":\"f\",\"arguments\":{\"s\":\"it's \\\"q\\\" \\\\ \\n\\tA\xc3\xa9\xf0\x9f\x99\x82"
           "A\\\\q\"}}]");
    expect("[f(s=\"a\" 'b'\n\"c\")]", "[{\"name\":\"f\",\"arguments\":{\"s\":\"abc\"}}]");
    expect("[f(s=r'\\n', t=u\"x\")]", "[{\"name\":\"f\",\"arguments\":{\"s\":\"\\\\n\",\"t\":\"x\"}}]");
    expect("[f(s='''a\n'b' ''c''', t=\"\"\"\"x\"\"\")]",
           "[{\"name\":\"f\",\"arguments\":{\"s\":\"a\\n'b' ''c\",\"t\":\"\\\"x\"}}]");
    expect("[f(s='', t=\"\")]", "[{\"name\":\"f\",\"arguments\":{\"s\":\"\",\"t\":\"\"}}]");
    expect("[f(s='a)], b=[(')]", "[{\"name\":\"f\",\"arguments\":{\"s\":\"a)], b=[(\"}}]");
    expect("[f(s='two\nlines')]", "[{\"name\":\"f\",\"arguments\":{\"s\":\"two\\nlines\"}}]");
    expect("[f(s='\\ud800')]", NULL);
    expect("[f(s='\\xff\\N{DOT}')]", NULL);
    expect("[f(s='open)]", NULL);
    expect("[f(s='\xff')]", NULL);
}

static void tags_and_builtin_calls_are_read(void **state)
{
    (void)state;
    expect("<function=f>{\"a\": 1}</function>", F1);
    expect("<function=f>{\"a\": 1}", F1);
    expect("<function=f></function>", F0);
    expect("<function=f>{\"a\": 1}</function>\n<function=g>{}</function>",
           "[{\"name\":\"f\",\"arguments\":{\"a\":1}},{\"name\":\"g\",\"arguments\":{}}]");
    expect("brave_search.call(query=\"what, now?\")",
           "[{\"name\":\"brave_search\",\"arguments\":{\"query\":\"what, now?\"}}]");
    expect("<function=>{}</function>", NULL);
    expect("<function=f>[1]</function>", NULL);
    expect("<function=f>{\"a\": 1}</function> and then", NULL);
}

static void markers_are_tolerated(void **state)
{
    (void)state;
    expect("<|python_start|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}<|python_end|>", F1);
    expect("<|python_start|><|python_end|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}<|eot|>", F1);
    expect("<|python_start|>[f(a=1)]<|python_end|><|eom|>", F1);
    expect("[f(a=1)]<|python_end|>", F1);
    expect("<|python_start|>brave_search.call(query='x')",
           "[{\"name\":\"brave_search\",\"arguments\":{\"query\":\"x\"}}]");
    expect("<|python_start|>Let me look.<|python_end|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}", F1);
    expect("<|python_start|>", NULL);
    expect("<|python_start|>print(1)<|python_end|>", NULL);
}

static void everything_else_is_plain_text(void **state)
{
    static const char *const rows[] = {
        "",
        " ",
        "Hello.",
        "f(a=1)",
        "print('x')",
        "[]",
        "{}",
        "[1, 2]",
        "null",
        "7",
        "\"x\"",
        "{\"name\": \"Bob\", \"age\": 3}",
        "{\"name\": \"Bob\"}",
        "{\"name\": \"\", \"parameters\": {}}",
        "{\"name\": 7, \"parameters\": {}}",
        "{\"name\": \"f\", \"parameters\": [1]}",
        "{\"name\": \"f\", \"parameters\": \"x\"}",
        "{\"name\": \"f\", \"parameters\": {}} is the call",
        "Call {\"name\": \"f\", \"parameters\": {}}",
        "[{\"name\": \"f\", \"parameters\": {}}, 7]",
        "{\"name\": \"f\", \"parameters\": {",
        "[f(a=1)",
        "[f(a=1)] done",
        "[f(1)]",
        "[f(a=1, 2)]",
        "[f(a=1 b=2)]",
        "[f(a=x)]",
        "[f(a=g())]",
        "[f(a=1+1)]",
        "[f(a=1, a=2)]",
        "[f(a=007)]",
        "[f(a=1.2.3)]",
        "[f(a=1e999)]",
        "[f(a=--)]",
        "[f(a=0x)]",
        "[f(a=0b2)]",
        "[f(a=)]",
        "[f(=1)]",
        "[f a=1]",
        "[f(a={1: 2})]",
        "[f(a={'x' 1})]",
        "[f(a=[1 2])]",
        "[f(a=1)(b=2)]",
        "[,f()]",
        "[f(),,g()]",
        "[f() g()]",
        "[a, b](c)",
        "[1](x=2)",
        "[link](http://x)",
        "import os; os.call(x=1)",
        ".call(x=1)",
        "brave_search.call(query='x').y",
        "[f(**{'a': 1})]",
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) expect(rows[i], NULL);
    expect_n("[f(a='\0')]\0", 11, NULL);
    expect_n("{\"name\": \"f\0\", \"parameters\": {}}", 32, NULL);
}

static void deep_nesting_is_plain_text(void **state)
{
    enum { N = 200000 };
    static char text[N + 16];

    (void)state;
    memcpy(text, "[f(a=", 5);
    memset(text + 5, '[', N);
    expect_n(text, N + 5, NULL);
    memset(text + 5, '(', N);
    expect_n(text, N + 5, NULL);
    memset(text + 5, '-', N);
    expect_n(text, N + 5, NULL);
    memset(text, '[', N);
    expect_n(text, N, NULL);
    memset(text, '{', N);
    expect_n(text, N, NULL);
}

/* Every prefix of a good reply is read or refused within its bounds; the sanitizers watch. */
static void every_prefix_is_safe(void **state)
{
    static const char reply[] =
        "<|python_start|>[f(a=[1, 'x\\u00e9', {\"k\": (True, None)}], b=r\"\\d\", c=-0x1f), g.call()]"
        "<|python_end|>";
    size_t n;

    (void)state;
    for (n = 0; n < sizeof reply; n++) {
        char *copy = malloc(n + 1);
        json_t *calls;

        assert_non_null(copy);
        memcpy(copy, reply, n);
        copy = realloc(copy, n ? n : 1);
        assert_int_equal(crl_toolcall_parse(&calls, copy, n, NULL), CRL_OK);
        if (n < 85) assert_null(calls);
        json_decref(calls);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_calls_are_read),
        cmocka_unit_test(several_json_calls_are_read_in_order),
        cmocka_unit_test(python_calls_are_read),
        cmocka_unit_test(python_strings_are_read),
        cmocka_unit_test(tags_and_builtin_calls_are_read),
        cmocka_unit_test(markers_are_tolerated),
        cmocka_unit_test(everything_else_is_plain_text),
        cmocka_unit_test(deep_nesting_is_plain_text),
        cmocka_unit_test(every_prefix_is_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
