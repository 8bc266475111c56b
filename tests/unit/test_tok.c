/* test_tok.c - reading tokenizers, encoding, decoding, the binary form. Vectors for the real vocabulary run
 * when CRL_LLAMA4_TOKENIZER names Meta's tokenizer.model. */
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
#include "text/tok.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SPLIT                                                                                                \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "                                                \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+"
#define PRE                                                                                                  \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" SPLIT          \
    "\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"    \
    "\"trim_offsets\":true,\"use_regex\":false}]}"
#define ADDED                                                                                                \
    "[{\"id\":300,\"content\":\"<|begin_of_text|>\",\"special\":true},{\"id\":301,\"content\":\"<|eot|>\","  \
    "\"special\":true},{\"id\":302,\"content\":\"<|eot|>x\",\"special\":true},{\"id\":303,\"content\":"      \
    "\"zq\","                                                                                                \
    "\"special\":false},{\"id\":304,\"content\":\"qe\",\"special\":false,\"normalized\":true}]"
#define MERGES_A "[\"h e\",\"l l\",\"he ll\",\"hell o\",\"\xc4\xa0 h\"]"
#define MERGES_B "[[\"h\",\"e\"],[\"l\",\"l\"],[\"he\",\"ll\"],[\"hell\",\"o\"],[\"\xc4\xa0\",\"h\"]]"
#define EXTRA                                                                                                \
    ",\"he\":256,\"ll\":257,\"hell\":258,\"hello\":259,\"\xc4\xa0h\":260,\"lo\":261,\"hel\":262,"            \
    "\"\xc4\xa0hello\":263"

/* A tokenizer.json with ids 0 to 255 for the bytes in the order of the alphabet's characters. */
static char *json_text(const char *extra, const char *merges, const char *added, const char *pre,
                       const char *more, const char *top)
{
    static char out[1 << 16];
    size_t n = 0;
    int b, next = 0x100;

    n += (size_t)snprintf(out, sizeof out,
                          "{%s\"added_tokens\":%s,\"pre_tokenizer\":%s,\"model\":{%s\"vocab\":{", top, added,
                          pre, more);
    for (b = 0; b < 256; b++) {
        int code = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae ? b : next++;

        n += (size_t)snprintf(out + n, sizeof out - n, "%s\"\\u%04x\":%d", b ? "," : "", code, b);
    }
    snprintf(out + n, sizeof out - n, "%s},\"merges\":%s}}", extra, merges);
    return out;
}

static struct crl_tok *parse_ok(const char *text)
{
    struct crl_err err = { "" };
    struct crl_tok *tok;
    enum crl_status st = crl_tok_parse(&tok, text, strlen(text), "t", &err);

    if (st) fail_msg("%s", err.text);
    return tok;
}

static struct crl_tok *small(void)
{
    return parse_ok(json_text(EXTRA, MERGES_A, ADDED, PRE, "\"type\":\"BPE\",\"ignore_merges\":false,", ""));
}

static void expect_ids(const struct crl_tok *tok, const char *text, size_t len, unsigned flags,
                       const int32_t *want, size_t n)
{
    struct crl_ids ids = { NULL, 0, 0 };
    size_t i;

    assert_int_equal(crl_tok_encode(tok, text, len, flags, &ids, NULL), CRL_OK);
    if (ids.n != n) fail_msg("\"%.*s\": %zu ids, expected %zu", (int)len, text, ids.n, n);
    for (i = 0; i < n; i++)
        if (ids.v[i] != want[i])
            fail_msg("\"%.*s\": id %zu is %d, expected %d", (int)len, text, i, ids.v[i], want[i]);
    crl_ids_fini(&ids);
}

#define EXPECT(tok, text, flags, ...)                                                                        \
    expect_ids(tok, text, strlen(text), flags, (const int32_t[]){ __VA_ARGS__ },                             \
               sizeof(const int32_t[]){ __VA_ARGS__ } / sizeof(int32_t))

static void merges_go_by_rank_in_both_spellings(void **state)
{
    const char *const spelt[] = { MERGES_A, MERGES_B };
    int i;

    (void)state;
    for (i = 0; i < 2; i++) {
        struct crl_tok *tok =
            parse_ok(json_text(EXTRA, spelt[i], ADDED, PRE, "\"type\":\"BPE\",\"ignore_merges\":false,", ""));

        EXPECT(tok, "hello", 0, 259);
        EXPECT(tok, "lo", 0, 'l', 'o');     /* a token, but no merge makes it */
        EXPECT(tok, " hello", 0, ' ', 259); /* h merges with e before it could merge with the space */
        EXPECT(tok, " hi", 0, 260, 'i');
        crl_tok_close(tok);
    }
}

static void whole_piece_wins_with_ignore_merges(void **state)
{
    struct crl_tok *tok = parse_ok(json_text(EXTRA, MERGES_A, ADDED, PRE, "\"ignore_merges\":true,", ""));

    (void)state;
    EXPECT(tok, "lo", 0, 261);
    EXPECT(tok, " hello", 0, 263);
    EXPECT(tok, "lol", 0, 'l', 'o', 'l');
    crl_tok_close(tok);
}

static void specials_come_from_text_only_on_request(void **state)
{
    struct crl_tok *tok = small();

    (void)state;
    EXPECT(tok, "<|eot|>", 0, '<', '|', 'e', 'o', 't', '|', '>');
    EXPECT(tok, "<|eot|>", CRL_TOK_SPECIAL, 301);
    EXPECT(tok, "a<|eot|>xb<|eot|>", CRL_TOK_SPECIAL, 'a', 302, 'b', 301);
    EXPECT(tok, "<|eot|<|eot|>", CRL_TOK_SPECIAL, '<', '|', 'e', 'o', 't', '|', 301);
    EXPECT(tok, "he", CRL_TOK_BOS, 300, 256);
    assert_int_equal(crl_tok_bos(tok), 300);
    assert_int_equal(crl_tok_special_id(tok, "<|eot|>"), 301);
    assert_int_equal(crl_tok_special_id(tok, "<|eot|"), -1);
    assert_int_equal(crl_tok_special_id(tok, "hello"), -1);
    assert_true(crl_tok_is_special(tok, 301));
    assert_false(crl_tok_is_special(tok, 303));
    assert_false(crl_tok_is_special(tok, -1));
    assert_false(crl_tok_is_special(tok, 305));
    crl_tok_close(tok);
}

static void added_tokens_that_are_not_special_always_match(void **state)
{
    struct crl_tok *tok = small();

    (void)state;
    EXPECT(tok, "azqb", 0, 'a', 303, 'b');
    EXPECT(tok, "aqeb", 0, 'a', 304, 'b');
    EXPECT(tok, "zqe", 0, 303, 'e'); /* the one that is not late goes first although both could match */
    crl_tok_close(tok);
}

static void invalid_utf8_becomes_u_fffd_per_maximal_part(void **state)
{
    struct crl_tok *tok = small();

    (void)state;
    EXPECT(tok, "a\xe2\x82z", 0, 'a', 0xef, 0xbf, 0xbd, 'z');
    EXPECT(tok, "\xc0\x80", 0, 0xef, 0xbf, 0xbd, 0xef, 0xbf, 0xbd);
    EXPECT(tok, "\xed\xa0\x80", 0, 0xef, 0xbf, 0xbd, 0xef, 0xbf, 0xbd, 0xef, 0xbf, 0xbd);
    EXPECT(tok, "\xf0\x9f\x99", 0, 0xef, 0xbf, 0xbd);
    crl_tok_close(tok);
}

static void empty_text_has_no_ids_and_failure_leaves_the_list(void **state)
{
    struct crl_tok *tok =
        parse_ok(json_text(EXTRA, MERGES_A, "[]", PRE, "\"type\":\"BPE\",", "\"post_processor\":null,"));
    struct crl_ids ids = { NULL, 0, 0 };

    (void)state;
    assert_int_equal(crl_tok_encode(tok, "", 0, 0, &ids, NULL), CRL_OK);
    assert_int_equal(ids.n, 0);
    assert_int_equal(crl_tok_encode(tok, "hello", 5, 0, &ids, NULL), CRL_OK);
    assert_int_equal(crl_tok_encode(tok, "hello", 5, CRL_TOK_BOS, &ids, NULL), CRL_ENOENT);
    assert_int_equal(ids.n, 1);
    assert_int_equal(crl_tok_bos(tok), -1);
    crl_ids_fini(&ids);
    crl_tok_close(tok);
}

static void long_pieces_merge_as_short_ones(void **state)
{
    /* "hello" repeated is one piece of letters; however long it is, every copy becomes one token */
    enum { N = 40000 };
    struct crl_tok *tok = small();
    struct crl_ids ids = { NULL, 0, 0 };
    char *text = malloc(5 * N);
    size_t i;

    (void)state;
    assert_non_null(text);
    for (i = 0; i < N; i++) memcpy(text + 5 * i, "hello", 5);
    assert_int_equal(crl_tok_encode(tok, text, 5 * N, 0, &ids, NULL), CRL_OK);
    assert_int_equal(ids.n, N);
    for (i = 0; i < N; i++) assert_int_equal(ids.v[i], 259);
    free(text);
    crl_ids_fini(&ids);
    crl_tok_close(tok);
}

static void stretches_between_matches_are_pieces(void **state)
{
    /* a pattern that matches digits only: what lies between is one piece each */
    struct crl_tok *tok =
        parse_ok(json_text(EXTRA, MERGES_A, "[]",
                           "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                           "\"pattern\":{\"Regex\":\"[0-9]\"},\"behavior\":\"Isolated\"},"
                           "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}",
                           "\"ignore_merges\":true,", ""));

    (void)state;
    EXPECT(tok, "lo1 hello2lo", 0, 261, '1', 263, '2', 261);
    crl_tok_close(tok);
}

static void expect_refusal(const char *text, size_t len, enum crl_status want, const char *part)
{
    struct crl_err err = { "" };
    struct crl_tok *tok = (struct crl_tok *)1;
    enum crl_status st = crl_tok_parse(&tok, text, len, "file", &err);

    if (st != want || tok || strncmp(err.text, "file: ", 6) != 0 || !strstr(err.text, part))
        fail_msg("status %d, expected %d with \"%s\"; said \"%s\"", st, want, part, err.text);
}

static void refuse(const char *text, enum crl_status want, const char *part)
{
    expect_refusal(text, strlen(text), want, part);
}

static void what_is_not_implemented_is_named(void **state)
{
    (void)state;
    refuse(json_text(EXTRA, MERGES_A, ADDED, PRE, "\"type\":\"Unigram\",", ""), CRL_EUNSUPPORTED, "Unigram");
    refuse(json_text(EXTRA, MERGES_A, ADDED, PRE, "\"byte_fallback\":true,", ""), CRL_EUNSUPPORTED,
           "byte_fallback");
    refuse(json_text(EXTRA, MERGES_A, ADDED, PRE, "\"unk_token\":\"<unk>\",", ""), CRL_EUNSUPPORTED,
           "unk_token");
    refuse(json_text(EXTRA, MERGES_A, ADDED, PRE, "\"dropout\":0.1,", ""), CRL_EUNSUPPORTED, "dropout");
    refuse(json_text(EXTRA, MERGES_A, ADDED, PRE, "", "\"normalizer\":{\"type\":\"NFC\"},"), CRL_EUNSUPPORTED,
           "NFC");
    refuse(json_text(EXTRA, MERGES_A, ADDED, PRE, "", "\"decoder\":{\"type\":\"WordPiece\"},"),
           CRL_EUNSUPPORTED, "WordPiece");
    refuse(json_text(EXTRA, MERGES_A, ADDED, PRE, "", "\"post_processor\":{\"type\":\"BertProcessing\"},"),
           CRL_EUNSUPPORTED, "BertProcessing");
    refuse(json_text(EXTRA, MERGES_A, ADDED, "{\"type\":\"Metaspace\"}", "", ""), CRL_EUNSUPPORTED,
           "Metaspace");
    refuse(json_text(EXTRA, MERGES_A, ADDED, "null", "", ""), CRL_EUNSUPPORTED, "pre_tokenizer");
    refuse(json_text(EXTRA, MERGES_A, "[{\"id\":300,\"content\":\"xq\",\"lstrip\":true}]", PRE, "", ""),
           CRL_EUNSUPPORTED, "lstrip");
}

static void broken_json_tokenizers_are_refused(void **state)
{
    (void)state;
    refuse("{", CRL_EFORMAT, "line 1");
    refuse("{}", CRL_EFORMAT, "model");
    refuse(json_text(EXTRA, "[\"h e l\"]", ADDED, PRE, "", ""), CRL_EFORMAT, "merge 0");
    refuse(json_text(EXTRA, "[\"h x\"]", ADDED, PRE, "", ""), CRL_EFORMAT, "no token");
    refuse(json_text(EXTRA, "[\"h nosuch\"]", ADDED, PRE, "", ""), CRL_EFORMAT, "nosuch");
    refuse(json_text(EXTRA, "[17]", ADDED, PRE, "", ""), CRL_EFORMAT, "pair");
    refuse(json_text(",\"he\":255", "[]", "[]", PRE, "", ""), CRL_EFORMAT, "same id 255");
    refuse(json_text(",\"he\":-1", "[]", "[]", PRE, "", ""), CRL_EFORMAT, "\"he\"");
    refuse(json_text(",\"he\":4000000000", "[]", "[]", PRE, "", ""), CRL_EFORMAT, "\"he\"");
    refuse(json_text(",\"\xe4\xb8\xad\":256", "[]", "[]", PRE, "", ""), CRL_EUNSUPPORTED, "U+4E2D");
    refuse(json_text("", "[]", "[{\"id\":256,\"content\":\"x\\u0000y\"}]", PRE, "", ""), CRL_EFORMAT, "256");
    refuse(json_text("", "[]", "[{\"id\":255,\"content\":\"x\"}]", PRE, "", ""), CRL_EFORMAT, "\"x\"");
    refuse(
        json_text("", "[]", "[{\"id\":256,\"content\":\"xy\"},{\"id\":257,\"content\":\"xy\"}]", PRE, "", ""),
        CRL_EFORMAT, "same name");
    refuse("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":" PRE "}", CRL_EFORMAT,
           "vocabulary of 1");
}

static void split_patterns_are_checked(void **state)
{
    static const struct {
        const char *regex;
        enum crl_status want;
        const char *part;
    } rows[] = {
        { "a|(", CRL_EFORMAT, "split pattern" },    { "a*", CRL_EUNSUPPORTED, "empty" },
        { "[a&&b]", CRL_EUNSUPPORTED, "brackets" }, { "[a[b]]", CRL_EUNSUPPORTED, "brackets" },
        { "\\\\Qa\\\\E", CRL_EUNSUPPORTED, "\\Q" },
    };
    char pre[512];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(
            pre, sizeof pre,
            "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
            "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":"
            "false}]}",
            rows[i].regex);
        refuse(json_text("", "[]", "[]", pre, "", ""), rows[i].want, rows[i].part);
    }
}

static void hostile_split_pattern_stops(void **state)
{
    struct crl_tok *tok =
        parse_ok(json_text("", "[]", "[]",
                           "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                           "\"pattern\":{\"Regex\":\"(a+)+[bd]\"},\"behavior\":\"Isolated\"},"
                           "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}",
                           "", ""));
    struct crl_ids ids = { NULL, 0, 0 };
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(crl_tok_encode(tok, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", 44, 0, &ids, &err),
                     CRL_ERANGE);
    assert_int_equal(ids.n, 0);
    assert_non_null(strstr(err.text, "splitting"));
    crl_ids_fini(&ids);
    crl_tok_close(tok);
}

static const char digits64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* tokenizer.model with the bytes in reverse order and a few longer tokens after them. */
static char *ranks_text(const char *tail)
{
    static char out[8192];
    size_t n = 0;
    int rank;

    for (rank = 0; rank < 256; rank++) {
        int b = 255 - rank;

        n += (size_t)snprintf(out + n, sizeof out - n, "%c%c== %d\n", digits64[b >> 2],
                              digits64[(b & 3) << 4], rank);
    }
    snprintf(out + n, sizeof out - n, "%s", tail);
    return out;
}

static void rank_lines_give_ids_and_the_specials_follow(void **state)
{
    /* "ab" 256, "bc" 257, "abc" 258, "abcd" 259 */
    struct crl_tok *tok = parse_ok(ranks_text("YWI= 256\nYmM= 257\nYWJj 258\nYWJjZA== 259\n"));
    size_t len;

    (void)state;
    EXPECT(tok, "a", 0, 255 - 'a');
    EXPECT(tok, "bcd", 0, 257, 255 - 'd');
    EXPECT(tok, "abc", 0, 258);
    EXPECT(tok, "xabcd", 0, 255 - 'x', 259);
    assert_int_equal(crl_tok_vocab(tok), 260 + 2048);
    assert_int_equal(crl_tok_bos(tok), 260);
    assert_int_equal(crl_tok_special_id(tok, "<|begin_of_text|>"), 260);
    assert_int_equal(crl_tok_special_id(tok, "<|eot|>"), 260 + 8);
    assert_int_equal(crl_tok_special_id(tok, "<|text_post_train_reserved_special_token_5|>"), 260 + 15);
    assert_int_equal(crl_tok_special_id(tok, "<|text_post_train_reserved_special_token_6|>"), -1);
    assert_int_equal(crl_tok_special_id(tok, "<|text_post_train_reserved_special_token_8|>"), 260 + 19);
    assert_int_equal(crl_tok_special_id(tok, "<|text_post_train_reserved_special_token_68|>"), 260 + 79);
    assert_int_equal(crl_tok_special_id(tok, "<|image_start|>"), 260 + 80);
    assert_int_equal(crl_tok_special_id(tok, "<|vision_reserved_special_token_5|>"), 260 + 89);
    assert_int_equal(crl_tok_special_id(tok, "<|image|>"), 260 + 90);
    assert_int_equal(crl_tok_special_id(tok, "<|patch|>"), 260 + 92);
    assert_int_equal(crl_tok_special_id(tok, "<|vision_reserved_special_token_1047|>"), 260 + 1133);
    assert_int_equal(crl_tok_special_id(tok, "<|reasoning_thinking_end|>"), 260 + 1143);
    assert_int_equal(crl_tok_special_id(tok, "<|reserved_special_token_903|>"), 260 + 2047);
    assert_memory_equal(crl_tok_bytes(tok, 259, &len), "abcd", 4);
    assert_int_equal(len, 4);
    assert_null(crl_tok_bytes(tok, 260 + 2048, &len));
    assert_null(crl_tok_bytes(tok, -1, &len));
    crl_tok_close(tok);
}

static void broken_rank_lines_are_refused(void **state)
{
    (void)state;
    refuse("", CRL_EFORMAT, "0x00");
    refuse("YWI= 0\n", CRL_EFORMAT, "0x00");
    refuse(ranks_text("YWI=\n"), CRL_EFORMAT, "line 257");
    refuse(ranks_text("YWI= \n"), CRL_EFORMAT, "line 257");
    refuse(ranks_text("YW!= 256\n"), CRL_EFORMAT, "base64");
    refuse(ranks_text("YWJ= 256\n"), CRL_EFORMAT, "base64"); /* bits behind the last byte */
    refuse(ranks_text("YWI 256\n"), CRL_EFORMAT, "base64");
    refuse(ranks_text("YWI= 257\n"), CRL_EFORMAT, "ranks must ascend");
    refuse(ranks_text("YWI= 99999999999999999999999\n"), CRL_EFORMAT, "rank");
    refuse(ranks_text("YWI= 256\nYWI= 257\n"), CRL_EFORMAT, "same bytes");
    refuse(ranks_text("YWI= 256\n\n"), CRL_EFORMAT, "line 258");
}

static void binary_form_round_trips(void **state)
{
    struct crl_tok *from[2] = { NULL, NULL };
    int i;

    (void)state;
    from[0] = small();
    from[1] = parse_ok(ranks_text("YWI= 256\nYmM= 257\nYWJj 258"));
    for (i = 0; i < 2; i++) {
        static const char text[] = "hello hel zq abc <|eot|>";
        struct crl_tok *back, *parsed;
        unsigned char *one, *two;
        struct crl_ids a = { NULL, 0, 0 }, b = { NULL, 0, 0 };
        size_t n_one, n_two, cut;

        assert_int_equal(crl_tok_save(from[i], &one, &n_one, NULL), CRL_OK);
        assert_int_equal(crl_tok_load(&back, one, n_one, NULL), CRL_OK);
        assert_int_equal(crl_tok_parse(&parsed, one, n_one, "section", NULL), CRL_OK);
        assert_int_equal(crl_tok_save(back, &two, &n_two, NULL), CRL_OK);
        assert_int_equal(n_one, n_two);
        assert_memory_equal(one, two, n_one);
        assert_int_equal(crl_tok_encode(from[i], text, sizeof text - 1, 3, &a, NULL), CRL_OK);
        assert_int_equal(crl_tok_encode(back, text, sizeof text - 1, 3, &b, NULL), CRL_OK);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.v, b.v, a.n * sizeof *a.v);
        for (cut = 0; cut < n_one; cut += cut < 64 ? 1 : 97) { /* every truncation is noticed */
            struct crl_tok *none;

            assert_int_equal(crl_tok_load(&none, one, cut, NULL), CRL_EFORMAT);
            assert_null(none);
        }
        crl_free(one);
        crl_free(two);
        crl_ids_fini(&a);
        crl_ids_fini(&b);
        crl_tok_close(back);
        crl_tok_close(parsed);
        crl_tok_close(from[i]);
    }
}

/* Change one field of a good section; it must be refused with the sentence. */
static void spoil(size_t at, uint32_t value, size_t width, enum crl_status want, const char *part)
{
    struct crl_tok *tok = small();
    unsigned char *b;
    size_t n;

    assert_int_equal(crl_tok_save(tok, &b, &n, NULL), CRL_OK);
    if (width == 1) b[at] = (unsigned char)value;
    else if (width == 2) crl_put_le16(b + at, (uint16_t)value);
    else crl_put_le32(b + at, value);
    expect_refusal((char *)b, n, want, part);
    crl_free(b);
    crl_tok_close(tok);
}

static void broken_sections_are_refused(void **state)
{
    struct crl_tok *tok = small();
    size_t pattern, n_vocab = crl_tok_vocab(tok), kinds, lengths, merges, n;
    unsigned char *b;

    (void)state;
    assert_int_equal(crl_tok_save(tok, &b, &n, NULL), CRL_OK);
    pattern = 40;
    kinds = pattern + crl_le32(b + 24);
    lengths = kinds + n_vocab;
    merges = lengths + 2 * n_vocab;
    crl_free(b);
    crl_tok_close(tok);
    spoil(8, 2, 4, CRL_EUNSUPPORTED, "version 2");
    spoil(12, 4, 4, CRL_EFORMAT, "flags");
    spoil(12, 2, 4, CRL_EFORMAT, "ranked");
    spoil(16, 0xffffffff, 4, CRL_EFORMAT, "header says");
    spoil(20, 4, 4, CRL_EFORMAT, "header says");
    spoil(28, 5000, 4, CRL_EFORMAT, "begin-of-text");
    spoil(28, 299, 4, CRL_EFORMAT, "begin-of-text"); /* a hole */
    spoil(36, 1, 4, CRL_EFORMAT, "out of range");
    spoil(pattern, '*', 1, CRL_EFORMAT, "split pattern");
    spoil(pattern, 0, 1, CRL_EFORMAT, "zero byte");
    spoil(kinds, 0, 1, CRL_EFORMAT, "token 0");
    spoil(kinds, 9, 1, CRL_EFORMAT, "kind");
    spoil(kinds, 0x81, 1, CRL_EFORMAT, "kind");
    spoil(kinds + 'A', 2, 1, CRL_EFORMAT, "0x41");
    spoil(kinds + 255, 2, 1, CRL_EFORMAT, "no text");
    spoil(lengths, 2, 2, CRL_EFORMAT, "tokens of");
    spoil(merges, 100000, 4, CRL_EFORMAT, "merge 0");
    spoil(merges, 301, 4, CRL_EFORMAT, "merge 0");
    spoil(merges, 'x', 4, CRL_EFORMAT, "no token");
}

static void every_failed_allocation_is_reported(void **state)
{
    char *text = json_text(EXTRA, MERGES_A, ADDED, PRE, "\"ignore_merges\":true,", "");
    size_t k;

    (void)state;
    for (k = 1;; k++) {
        struct crl_tok *tok;
        struct crl_ids ids = { NULL, 0, 0 };
        enum crl_status st;

        crl_alloc_fail_after(k);
        st = crl_tok_parse(&tok, text, strlen(text), "t", NULL);
        if (!st) st = crl_tok_encode(tok, "hello \xff there, hello", 20, CRL_TOK_SPECIAL, &ids, NULL);
        crl_alloc_fail_after(0);
        crl_ids_fini(&ids);
        crl_tok_close(tok);
        if (!st) break;
        assert_int_equal(st, CRL_ENOMEM);
        assert_true(k < 1000);
    }
    assert_true(k > 10);
}

/* What is printed after each id, joined by "." */
static void expect_stream(const struct crl_tok *tok, unsigned flags, const int32_t *ids, size_t n,
                          const char *want)
{
    struct crl_detok d;
    struct crl_str out = { NULL, 0, 0 };
    size_t i;

    crl_detok_init(&d, tok, flags);
    for (i = 0; i < n; i++) {
        assert_int_equal(crl_detok_push(&d, ids[i], &out, NULL), CRL_OK);
        assert_int_equal(crl_str_puts(&out, ".", NULL), CRL_OK);
    }
    assert_int_equal(crl_detok_end(&d, &out, NULL), CRL_OK);
    assert_string_equal(out.s, want);
    crl_str_fini(&out);
}

#define STREAM(tok, flags, want, ...)                                                                        \
    expect_stream(tok, flags, (const int32_t[]){ __VA_ARGS__ },                                              \
                  sizeof(const int32_t[]){ __VA_ARGS__ } / sizeof(int32_t), want)

static void decoder_holds_back_incomplete_characters(void **state)
{
    struct crl_tok *tok = small();

    (void)state;
    STREAM(tok, 0, "a....\xf0\x9f\x99\x82.b.", 'a', 0xf0, 0x9f, 0x99, 0x82, 'b');
    STREAM(tok, 0,
           "..\xef\xbf\xbd"
           "a.",
           0xe2, 0x82, 'a');                      /* given up by what follows */
    STREAM(tok, 0, "..\xef\xbf\xbd", 0xe2, 0x82); /* given up at the end */
    STREAM(tok, 0, ".\xef\xbf\xbd.\xef\xbf\xbd.\xc3\xa9.", 0xe2, 0xc3, 0xc3, 0xa9);
    STREAM(tok, 0, ".\xef\xbf\xbd\xef\xbf\xbd.", 0xf0, 0x80); /* 0x80 cannot follow 0xf0 */
    STREAM(tok, 0, "hello..x.", 259, 301, 'x');
    STREAM(tok, CRL_DETOK_NAMES, "hello.<|eot|>.x.", 259, 301, 'x');
    STREAM(tok, 0, ".\xef\xbf\xbd.x.", 0xc3, 301, 'x'); /* a special token ends the character */
    crl_tok_close(tok);
}

/* Call fn for every line of a golden file of JSON objects; returns the lines. */
static size_t each_line(const char *name, void (*fn)(const struct crl_tok *, const json_t *),
                        const struct crl_tok *tok)
{
    const char *top = getenv("srcdir");
    char path[4096], *text, *line, *stop;
    struct crl_err err = { "" };
    size_t len, n = 0;

    snprintf(path, sizeof path, "%s/tests/golden/tokenizer/%s", top ? top : ".", name);
    if (crl_file_read(&text, &len, path, (size_t)64 << 20, &err)) fail_msg("%s", err.text);
    for (line = text; line < text + len; line = stop + 1, n++) {
        json_t *row;

        stop = memchr(line, '\n', (size_t)(text + len - line));
        if (!stop) stop = text + len;
        if (crl_json_parse(&row, line, (size_t)(stop - line), path, &err)) fail_msg("%s", err.text);
        fn(tok, row);
        json_decref(row);
    }
    crl_free(text);
    return n;
}

static void expect_json_ids(const struct crl_tok *tok, const json_t *text, const json_t *want, unsigned flags)
{
    struct crl_ids ids = { NULL, 0, 0 };
    size_t i;

    assert_int_equal(
        crl_tok_encode(tok, json_string_value(text), json_string_length(text), flags, &ids, NULL), CRL_OK);
    for (i = 0; i < ids.n && i < json_array_size(want); i++)
        if (ids.v[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("\"%s\": id %zu is %d, expected %d", json_string_value(text), i, ids.v[i],
                     (int)json_integer_value(json_array_get(want, i)));
    if (ids.n != json_array_size(want))
        fail_msg("\"%s\": %zu ids, expected %zu", json_string_value(text), ids.n, json_array_size(want));
    crl_ids_fini(&ids);
}

/* A string of the golden files, and back: the texts are valid UTF-8. */
static void check_string(const struct crl_tok *tok, const json_t *row)
{
    const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, "ids");
    struct crl_str out = { NULL, 0, 0 };
    int32_t *ids = calloc(json_array_size(want) + 1, sizeof *ids);
    size_t i;

    assert_non_null(ids);
    expect_json_ids(tok, text, want, 0);
    for (i = 0; i < json_array_size(want); i++) ids[i] = (int32_t)json_integer_value(json_array_get(want, i));
    assert_int_equal(crl_tok_decode(tok, ids, i, 0, &out, NULL), CRL_OK);
    assert_int_equal(out.len, json_string_length(text));
    if (out.len) assert_memory_equal(out.s, json_string_value(text), out.len);
    crl_str_fini(&out);
    free(ids);
}

static void check_special(const struct crl_tok *tok, const json_t *row)
{
    const json_t *text = json_object_get(row, "text");

    expect_json_ids(tok, text, json_object_get(row, "plain"), 0);
    expect_json_ids(tok, text, json_object_get(row, "parsed"), CRL_TOK_SPECIAL);
    expect_json_ids(tok, text, json_object_get(row, "bos"), CRL_TOK_SPECIAL | CRL_TOK_BOS);
}

static void check_decoded(const struct crl_tok *tok, const json_t *row)
{
    const json_t *list = json_object_get(row, "ids");
    size_t n = json_array_size(list), i;
    int32_t *ids = calloc(n + 1, sizeof *ids);
    unsigned flags;

    assert_non_null(ids);
    for (i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    for (flags = CRL_DETOK_SKIP; flags <= CRL_DETOK_NAMES; flags++) {
        const json_t *want = json_object_get(row, flags ? "text_specials" : "text");
        struct crl_str out = { NULL, 0, 0 };

        assert_int_equal(crl_tok_decode(tok, ids, n, flags, &out, NULL), CRL_OK);
        assert_int_equal(out.len, json_string_length(want));
        if (out.len) assert_memory_equal(out.s, json_string_value(want), out.len);
        crl_str_fini(&out);
    }
    free(ids);
}

static void golden_strings_of_the_small_tokenizer(void **state)
{
    static const char *const files[] = { "tokenizer.json", "tokenizer-old.json", "tokenizer.model" };
    const char *top = getenv("srcdir");
    size_t i;

    (void)state;
    for (i = 0; i < 3; i++) {
        struct crl_err err = { "" };
        struct crl_tok *tok;
        char path[4096];

        snprintf(path, sizeof path, "%s/tests/golden/tokenizer/small/%s", top ? top : ".", files[i]);
        if (crl_tok_open(&tok, path, &err)) fail_msg("%s", err.text);
        assert_int_equal(each_line("small/strings.jsonl", check_string, tok), 2000);
        assert_true(each_line("small/specials.jsonl", check_special, tok) > 10);
        assert_int_equal(each_line("small/decode.jsonl", check_decoded, tok), 300);
        crl_tok_close(tok);
    }
}

static void folder_without_tokenizer_is_enoent(void **state)
{
    struct crl_tok *tok;
    struct crl_err err = { "" };
    const char *top = getenv("srcdir");
    char path[4096];

    (void)state;
    snprintf(path, sizeof path, "%s/tests/golden/tokenizer", top ? top : ".");
    assert_int_equal(crl_tok_open(&tok, path, &err), CRL_ENOENT);
    assert_non_null(strstr(err.text, "tokenizer.json"));
    snprintf(path, sizeof path, "%s/tests/golden/tokenizer/small", top ? top : ".");
    assert_int_equal(crl_tok_open(&tok, path, NULL), CRL_OK);
    crl_tok_close(tok);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One run of n times the same character; the time must grow nearly as n does. A pattern engine that gives up,
 * or work that grows with the square, shows here. */
static void a_million_of_one_character_takes_linear_time(void **state)
{
    static const char *const units[] = { "a", "A", " ", "\n", "-", "7", "\xe4\xb8\xad", "\xcc\x81" };
    const char *path = getenv("CRL_LLAMA4_TOKENIZER"), *top = getenv("srcdir");
    char small_path[4096];
    struct crl_err err = { "" };
    struct crl_tok *tok;
    size_t i;

    (void)state;
    snprintf(small_path, sizeof small_path, "%s/tests/golden/tokenizer/small/tokenizer.json",
             top ? top : ".");
    if (crl_tok_open(&tok, path ? path : small_path, &err)) fail_msg("%s", err.text);
    for (i = 0; i < sizeof units / sizeof *units; i++) {
        size_t w = strlen(units[i]), n = 1000000 / w, k;
        char *text = malloc(n * w + 1);
        struct crl_ids ids = { NULL, 0, 0 };
        struct crl_str back = { NULL, 0, 0 };
        double t;

        assert_non_null(text);
        for (k = 0; k < n; k++) memcpy(text + k * w, units[i], w);
        text[n * w] = 'x'; /* what follows a run decides how its last character is cut */
        t = seconds();
        if (crl_tok_encode(tok, text, n * w + 1, 0, &ids, &err)) fail_msg("%s", err.text);
        t = seconds() - t;
        assert_int_equal(crl_tok_decode(tok, ids.v, ids.n, 0, &back, NULL), CRL_OK);
        assert_int_equal(back.len, n * w + 1);
        assert_memory_equal(back.s, text, back.len);
        /* half a second is usual, ten times that under the sanitizers; quadratic work takes many minutes */
        if (t > 30) fail_msg("a run of %zu times \"%s\" took %.1f s", n, units[i], t);
        crl_ids_fini(&ids);
        crl_str_fini(&back);
        free(text);
    }
    crl_tok_close(tok);
}

static void golden_strings_of_llama4(void **state)
{
    const char *path = getenv("CRL_LLAMA4_TOKENIZER");
    struct crl_err err = { "" };
    struct crl_tok *tok;

    (void)state;
    if (!path) skip();
    if (crl_tok_open(&tok, path, &err)) fail_msg("%s", err.text);
    assert_int_equal(crl_tok_vocab(tok), 202048);
    assert_int_equal(crl_tok_special_id(tok, "<|eot|>"), 200008);
    assert_int_equal(crl_tok_special_id(tok, "<|patch|>"), 200092);
    assert_int_equal(crl_tok_special_id(tok, "<|reserved_special_token_903|>"), 202047);
    assert_int_equal(each_line("strings.jsonl", check_string, tok), 3000);
    assert_true(each_line("specials.jsonl", check_special, tok) > 10);
    assert_true(each_line("vectors.jsonl", check_string, tok) >= 30);
    crl_tok_close(tok);
}

static void llama4_section_loads_fast(void **state)
{
    const char *path = getenv("CRL_LLAMA4_TOKENIZER");
    struct crl_tok *tok, *back;
    unsigned char *bytes;
    size_t len;
    double t, best = 1e9;
    int i;

    (void)state;
    if (!path) skip();
    assert_int_equal(crl_tok_open(&tok, path, NULL), CRL_OK);
    assert_int_equal(crl_tok_save(tok, &bytes, &len, NULL), CRL_OK);
    for (i = 0; i < 5; i++) {
        t = seconds();
        assert_int_equal(crl_tok_load(&back, bytes, len, NULL), CRL_OK);
        t = seconds() - t;
        if (t < best) best = t;
        crl_tok_close(back);
    }
    print_message("load: %.1f ms for %zu bytes\n", best * 1e3, len);
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(best < 0.1);
#endif
    crl_free(bytes);
    crl_tok_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_go_by_rank_in_both_spellings),
        cmocka_unit_test(whole_piece_wins_with_ignore_merges),
        cmocka_unit_test(specials_come_from_text_only_on_request),
        cmocka_unit_test(added_tokens_that_are_not_special_always_match),
        cmocka_unit_test(invalid_utf8_becomes_u_fffd_per_maximal_part),
        cmocka_unit_test(empty_text_has_no_ids_and_failure_leaves_the_list),
        cmocka_unit_test(long_pieces_merge_as_short_ones),
        cmocka_unit_test(stretches_between_matches_are_pieces),
        cmocka_unit_test(what_is_not_implemented_is_named),
        cmocka_unit_test(broken_json_tokenizers_are_refused),
        cmocka_unit_test(split_patterns_are_checked),
        cmocka_unit_test(hostile_split_pattern_stops),
        cmocka_unit_test(rank_lines_give_ids_and_the_specials_follow),
        cmocka_unit_test(broken_rank_lines_are_refused),
        cmocka_unit_test(binary_form_round_trips),
        cmocka_unit_test(broken_sections_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(decoder_holds_back_incomplete_characters),
        cmocka_unit_test(golden_strings_of_the_small_tokenizer),
        cmocka_unit_test(folder_without_tokenizer_is_enoent),
        cmocka_unit_test(a_million_of_one_character_takes_linear_time),
        cmocka_unit_test(golden_strings_of_llama4),
        cmocka_unit_test(llama4_section_loads_fast),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
