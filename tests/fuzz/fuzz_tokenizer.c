/* fuzz_tokenizer.c - a tokenizer from any bytes is refused, or decodes what it encodes and saves as it loads.
 *
 * The bytes may be a tokenizer.json, a tokenizer.model or the binary form. Encoding may fail only because the
 * split pattern takes too many steps or matches nothing. */
#include "base/mem.h"
#include "text/tok.h"
#include "text/utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok) abort();
}

/* What encoding makes of bytes that are no UTF-8. */
static void repaired(struct crl_str *out, const unsigned char *p, size_t len)
{
    size_t used;

    for (; len; p += used, len -= used)
        must(!(crl_utf8_step(p, len, &used) == CRL_UTF8_OK ? crl_str_add(out, p, used, NULL)
                                                           : crl_str_puts(out, CRL_UTF8_BAD, NULL)));
}

static void round_trip(const struct crl_tok *tok, const unsigned char *text, size_t len, unsigned flags)
{
    struct crl_ids ids = { NULL, 0, 0 };
    struct crl_str want = { NULL, 0, 0 }, got = { NULL, 0, 0 };
    enum crl_status st = crl_tok_encode(tok, (const char *)text, len, flags, &ids, NULL);

    must(st == CRL_OK || st == CRL_ERANGE || st == CRL_EUNSUPPORTED);
    if (st == CRL_OK) {
        size_t i;

        for (i = 0; i < ids.n && !(flags & CRL_TOK_SPECIAL); i++) must(!crl_tok_is_special(tok, ids.v[i]));
        repaired(&want, text, len);
        must(!crl_tok_decode(tok, ids.v, ids.n, CRL_DETOK_NAMES, &got, NULL));
        must(got.len == want.len && (got.len == 0 || memcmp(got.s, want.s, got.len) == 0));
    }
    crl_ids_fini(&ids);
    crl_str_fini(&want);
    crl_str_fini(&got);
}

static void save_and_load(const struct crl_tok *tok)
{
    unsigned char *one, *two;
    struct crl_tok *back;
    size_t n_one, n_two;

    must(!crl_tok_save(tok, &one, &n_one, NULL));
    must(!crl_tok_load(&back, one, n_one, NULL));
    must(!crl_tok_save(back, &two, &n_two, NULL));
    must(n_one == n_two && memcmp(one, two, n_one) == 0);
    crl_free(one);
    crl_free(two);
    crl_tok_close(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char sample[] =
        "Hello  world, it's 12345 <|eot|>\r\n\n  caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f"
        "\x99\x82\xff hello hellohello\t\xe2\x82";
    struct crl_err err = { "" };
    struct crl_tok *tok;
    enum crl_status st = crl_tok_parse(&tok, data, size, "input", &err);

    must((st == CRL_OK) == (tok != NULL) && (st == CRL_OK) == (err.text[0] == '\0'));
    if (!tok) return 0;
    save_and_load(tok);
    round_trip(tok, sample, sizeof sample - 1, CRL_TOK_PLAIN);
    round_trip(tok, sample, sizeof sample - 1, CRL_TOK_SPECIAL);
    round_trip(tok, data + (size > 512 ? size - 512 : 0), size > 512 ? 512 : size, CRL_TOK_SPECIAL);
    crl_tok_close(tok);
    return 0;
}
