/* tok_ranks.c - Meta's tokenizer.model: a line "BASE64 RANK" per token; the special tokens are not in it. */
#include "base/mem.h"
#include "text/tok_impl.h"

#include <stdio.h>

const char crl_tok_llama4_pattern[] = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}"
                                      "\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                                      "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}"
                                      "\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                                      "|\\p{N}{1,3}"
                                      "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
                                      "|\\s*[\\r\\n]+"
                                      "|\\s+(?!\\S)"
                                      "|\\s+";

/* The special tokens after the last rank, in order. A row with count 0 is one name; otherwise "<|name_K|>"
 * for K from `first` on. Numbers 6 and 7 of the post-training row do not exist. */
static const struct {
    const char *name;
    unsigned first, count;
} specials[] = {
    { "begin_of_text", 0, 0 },
    { "end_of_text", 0, 0 },
    { "fim_prefix", 0, 0 },
    { "fim_middle", 0, 0 },
    { "fim_suffix", 0, 0 },
    { "header_start", 0, 0 },
    { "header_end", 0, 0 },
    { "eom", 0, 0 },
    { "eot", 0, 0 },
    { "step", 0, 0 },
    { "text_post_train_reserved_special_token", 0, 6 },
    { "python_start", 0, 0 },
    { "python_end", 0, 0 },
    { "finetune_right_pad", 0, 0 },
    { "text_post_train_reserved_special_token", 8, 61 },
    { "image_start", 0, 0 },
    { "image_end", 0, 0 },
    { "vision_reserved_special_token", 0, 2 },
    { "tile_x_separator", 0, 0 },
    { "tile_y_separator", 0, 0 },
    { "vision_reserved_special_token", 2, 4 },
    { "image", 0, 0 },
    { "vision_reserved_special_token", 6, 1 },
    { "patch", 0, 0 },
    { "vision_reserved_special_token", 7, 1041 },
    { "reasoning_reserved_special_token", 0, 8 },
    { "reasoning_thinking_start", 0, 0 },
    { "reasoning_thinking_end", 0, 0 },
    { "reserved_special_token", 0, 904 },
};
#define N_SPECIAL 2048
#define SPECIAL_BYTES 64 /* the longest name and its zero byte fit */

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decode n characters, padded to a multiple of four; returns the bytes written, 0 when this is no base64. */
static size_t from_base64(unsigned char *out, const char *s, size_t n)
{
    size_t i, w = 0, pad = n && s[n - 1] == '=' ? (n > 1 && s[n - 2] == '=' ? 2 : 1) : 0;

    if (n == 0 || n % 4) return 0;
    for (i = 0; i < n; i += 4) {
        size_t last = i + 4 == n ? pad : 0;
        int a = digit(s[i]), b = digit(s[i + 1]), c = last > 1 ? 0 : digit(s[i + 2]),
            d = last > 0 ? 0 : digit(s[i + 3]);
        uint32_t v;

        if (a < 0 || b < 0 || c < 0 || d < 0) return 0;
        v = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | (uint32_t)d;
        if ((last == 1 && (v & 0xff)) || (last == 2 && (v & 0xffff))) return 0;
        out[w++] = (unsigned char)(v >> 16);
        if (last < 2) out[w++] = (unsigned char)(v >> 8);
        if (last < 1) out[w++] = (unsigned char)v;
    }
    return w;
}

/* One line, without its end. Appends the token's bytes at *n_blob, which always has room (see below). */
static enum crl_status read_line(struct crl_tok_parts *p, size_t *n_blob, const char *line, size_t n,
                                 uint32_t row, struct crl_err *err)
{
    const char *sp = memchr(line, ' ', n);
    size_t len, i;
    uint64_t rank = 0;

    if (!sp || sp + 1 == line + n)
        return crl_fail(err, CRL_EFORMAT, "line %u is not of the form \"BASE64 RANK\"", row + 1);
    len = from_base64(p->blob + *n_blob, line, (size_t)(sp - line));
    if (len == 0) return crl_fail(err, CRL_EFORMAT, "line %u: the token is not in base64", row + 1);
    for (i = (size_t)(sp - line) + 1; i < n; i++) {
        if (line[i] < '0' || line[i] > '9' || rank > UINT32_MAX)
            return crl_fail(err, CRL_EFORMAT, "line %u: the rank is no number", row + 1);
        rank = rank * 10 + (unsigned)(line[i] - '0');
    }
    if (rank != row)
        return crl_fail(err, CRL_EFORMAT, "line %u has rank %llu; ranks must ascend from 0 without gaps",
                        row + 1, (unsigned long long)rank);
    if (len > TOK_BYTES_MAX) return crl_fail(err, CRL_EFORMAT, "line %u: a token of %zu bytes", row + 1, len);
    *n_blob += len;
    p->kind[row] = TOK_ORDINARY;
    p->off[row + 1] = (uint32_t)*n_blob;
    return CRL_OK;
}

static void add_specials(struct crl_tok_parts *p, uint32_t id, size_t *n_blob)
{
    size_t row;
    unsigned k;

    for (row = 0; row < sizeof specials / sizeof *specials; row++)
        for (k = 0; k < (specials[row].count ? specials[row].count : 1); k++, id++) {
            char *at = (char *)p->blob + *n_blob;
            int n = specials[row].count ? snprintf(at, SPECIAL_BYTES, "<|%s_%u|>", specials[row].name,
                                                   specials[row].first + k)
                                        : snprintf(at, SPECIAL_BYTES, "<|%s|>", specials[row].name);

            *n_blob += (size_t)n;
            p->kind[id] = TOK_SPECIAL;
            p->off[id + 1] = (uint32_t)*n_blob;
        }
}

enum crl_status crl_tok_parse_ranks(struct crl_tok **tok, const char *text, size_t len, struct crl_err *err)
{
    struct crl_tok_parts p = { 0 };
    const char *end = text + len, *line, *stop;
    enum crl_status st = CRL_OK;
    size_t n_blob = 0;
    uint32_t rows = 0, row;

    *tok = NULL;
    for (line = text; line < end; line = stop + 1) {
        stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        rows++;
        if (rows > TOK_VOCAB_MAX - N_SPECIAL)
            return crl_fail(err, CRL_EFORMAT, "more than %u lines", rows - 1);
        if (stop == end) break;
    }
    p.n_vocab = rows + N_SPECIAL;
    p.flags = TOK_WHOLE | TOK_RANKED;
    p.bos = rows;
    p.kind = crl_alloc(p.n_vocab, 1);
    p.off = crl_alloc((size_t)p.n_vocab + 1, sizeof *p.off);
    /* four characters of base64 give three bytes, so the file's own length is room enough for all lines */
    p.blob = crl_alloc(len + (size_t)N_SPECIAL * SPECIAL_BYTES, 1);
    p.len_pattern = strlen(crl_tok_llama4_pattern);
    p.pattern = crl_strdup(crl_tok_llama4_pattern);
    if (!p.kind || !p.off || !p.blob || !p.pattern)
        st = crl_fail(err, CRL_ENOMEM, "no memory for %u tokens", rows);
    for (line = text, row = 0; row < rows && !st; row++, line = stop + 1) {
        size_t n;

        stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        n = (size_t)(stop - line);
        if (n && line[n - 1] == '\r') n--;
        st = read_line(&p, &n_blob, line, n, row, err);
    }
    if (st) {
        crl_tok_parts_fini(&p);
        return st;
    }
    add_specials(&p, rows, &n_blob);
    return crl_tok_build(tok, &p, err);
}
