/* tok_json.c - Hugging Face's tokenizer.json: byte-level BPE with a split pattern; the rest is refused by name.
 *
 * Token strings of the model are written in an alphabet of 256 characters, one for each byte; added tokens
 * are plain text. An added token may also be listed in the vocabulary; it then counts as added only. */
#include "base/json.h"
#include "base/mem.h"
#include "text/tok_impl.h"
#include "text/utf8.h"

#define ALPHABET_END 0x144 /* one past the last character that stands for a byte */

/* What ByteLevel uses when it splits by itself. */
static const char gpt2_pattern[] =
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct reader {
    const json_t *root, *vocab, *merges, *added;
    struct crl_tok_parts p;
    int16_t byte_of[ALPHABET_END]; /* -1: stands for no byte */
    const json_t **added_at;       /* [n_vocab] the added token with this id */
    const char **key_at;           /* [n_vocab] its string in the model's vocabulary */
    struct crl_str key;            /* scratch */
    struct crl_err *err;
};

static void fill_alphabet(int16_t *byte_of)
{
    int b, next = 0x100;

    for (b = 0; b < ALPHABET_END; b++) byte_of[b] = -1;
    for (b = 0; b < 256; b++) {
        bool same = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;

        byte_of[same ? b : next++] = (int16_t)b;
    }
}

static const char *type_of(const json_t *node)
{
    const char *type = json_string_value(json_object_get(node, "type"));

    return type ? type : "(no type)";
}

static bool is_type(const json_t *node, const char *type)
{
    return strcmp(type_of(node), type) == 0;
}

/* The only member of a Sequence stands for the Sequence. */
static const json_t *unwrap(const json_t *node, const char *list)
{
    const json_t *in = json_object_get(node, list);

    return is_type(node, "Sequence") && json_array_size(in) == 1 ? json_array_get(in, 0) : node;
}

static enum crl_status check_normalizer(const struct reader *r)
{
    const json_t *n = json_object_get(r->root, "normalizer");

    if (!n || json_is_null(n)) return CRL_OK;
    if (is_type(n, "Sequence") && json_array_size(json_object_get(n, "normalizers")) == 0) return CRL_OK;
    return crl_fail(r->err, CRL_EUNSUPPORTED, "the normalizer %s is not supported", type_of(n));
}

static enum crl_status check_decoder(const struct reader *r)
{
    const json_t *d = json_object_get(r->root, "decoder");

    if (!d || json_is_null(d) || is_type(unwrap(d, "decoders"), "ByteLevel")) return CRL_OK;
    return crl_fail(r->err, CRL_EUNSUPPORTED, "the decoder %s is not supported", type_of(d));
}

static enum crl_status take_pattern(struct reader *r, const char *pattern, size_t len)
{
    if (len > CRL_PRETOK_PATTERN_MAX)
        return crl_fail(r->err, CRL_ERANGE, "a split pattern of %zu bytes", len);
    r->p.pattern = crl_memdup0(pattern, len);
    r->p.len_pattern = len;
    return r->p.pattern ? CRL_OK : crl_fail(r->err, CRL_ENOMEM, "no memory for the split pattern");
}

/* Fills *use_regex of a ByteLevel node. */
static enum crl_status read_byte_level(const struct reader *r, const json_t *node, bool *use_regex)
{
    bool prefix = true;
    enum crl_status st = crl_json_get_bool(node, "add_prefix_space", &prefix, r->err);

    *use_regex = true;
    if (!st) st = crl_json_get_bool(node, "use_regex", use_regex, r->err);
    if (!st && prefix)
        st = crl_fail(r->err, CRL_EUNSUPPORTED,
                      "pre_tokenizer: ByteLevel with add_prefix_space is not supported");
    return st;
}

static enum crl_status read_split(struct reader *r, const json_t *node)
{
    const json_t *regex = json_object_get(json_object_get(node, "pattern"), "Regex");
    const char *behavior = "";
    bool invert = false;
    enum crl_status st = crl_json_get_str(node, "behavior", &behavior, r->err);

    if (!st) st = crl_json_get_bool(node, "invert", &invert, r->err);
    if (st) return st;
    if (strcmp(behavior, "Isolated") != 0 || invert)
        return crl_fail(r->err, CRL_EUNSUPPORTED,
                        "pre_tokenizer: Split with behavior \"%.40s\"%s is not supported", behavior,
                        invert ? ", inverted," : "");
    if (!json_is_string(regex))
        return crl_fail(r->err, CRL_EUNSUPPORTED, "pre_tokenizer: Split without a Regex is not supported");
    return take_pattern(r, json_string_value(regex), json_string_length(regex));
}

static enum crl_status read_pre_tokenizer(struct reader *r)
{
    const json_t *node = unwrap(json_object_get(r->root, "pre_tokenizer"), "pretokenizers");
    const json_t *list = json_object_get(node, "pretokenizers");
    bool use_regex;
    enum crl_status st;

    if (is_type(node, "ByteLevel")) {
        st = read_byte_level(r, node, &use_regex);
        if (st) return st;
        if (use_regex) return take_pattern(r, gpt2_pattern, strlen(gpt2_pattern));
    }
    if (is_type(node, "Sequence") && json_array_size(list) == 2 &&
        is_type(json_array_get(list, 0), "Split") && is_type(json_array_get(list, 1), "ByteLevel")) {
        st = read_byte_level(r, json_array_get(list, 1), &use_regex);
        if (!st && !use_regex) return read_split(r, json_array_get(list, 0));
        if (st) return st;
    }
    return crl_fail(r->err, CRL_EUNSUPPORTED,
                    "the pre_tokenizer %s is not supported; a Split by Regex followed by ByteLevel is",
                    type_of(node));
}

static enum crl_status check_model(struct reader *r)
{
    static const char *const texts[] = { "unk_token", "continuing_subword_prefix", "end_of_word_suffix" };
    const json_t *m = json_object_get(r->root, "model"), *v;
    bool byte_fallback = false, whole = false;
    enum crl_status st;
    size_t i;

    if (!json_is_object(m)) return crl_fail(r->err, CRL_EFORMAT, "there is no object named model");
    v = json_object_get(m, "type");
    if (v && !is_type(m, "BPE"))
        return crl_fail(r->err, CRL_EUNSUPPORTED, "a model of type %s is not supported, BPE is",
                        type_of(m));
    for (i = 0; i < 3; i++) {
        const char *s = "";

        st = crl_json_get_str(m, texts[i], &s, r->err);
        if (st) return st;
        if (*s)
            return crl_fail(r->err, CRL_EUNSUPPORTED, "model: %s \"%.40s\" is not supported", texts[i], s);
    }
    v = json_object_get(m, "dropout");
    if (v && !json_is_null(v) && json_number_value(v) != 0)
        return crl_fail(r->err, CRL_EUNSUPPORTED, "model: dropout is not supported");
    st = crl_json_get_bool(m, "byte_fallback", &byte_fallback, r->err);
    if (!st) st = crl_json_get_bool(m, "ignore_merges", &whole, r->err);
    if (st) return st;
    if (byte_fallback) return crl_fail(r->err, CRL_EUNSUPPORTED, "model: byte_fallback is not supported");
    r->p.flags = whole ? TOK_WHOLE : 0;
    r->vocab = json_object_get(m, "vocab");
    r->merges = json_object_get(m, "merges");
    if (!json_is_object(r->vocab) || !json_is_array(r->merges))
        return crl_fail(r->err, CRL_EFORMAT, "the model has no vocab or no merges");
    return CRL_OK;
}

/* An id of the file. Files number their tokens densely; the bound keeps memory in proportion to the file. */
static enum crl_status read_id(const struct reader *r, const json_t *v, const char *name, uint32_t *id)
{
    size_t most = 2 * (json_object_size(r->vocab) + json_array_size(r->added)) + 65536;

    if (most > TOK_VOCAB_MAX) most = TOK_VOCAB_MAX;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) >= most)
        return crl_fail(r->err, CRL_EFORMAT, "the id of token \"%.80s\" is not an integer from 0 to %zu",
                        name, most - 1);
    *id = (uint32_t)json_integer_value(v);
    return CRL_OK;
}

static enum crl_status size_vocab(struct reader *r, size_t *n_bytes)
{
    json_t *vocab = (json_t *)(uintptr_t)r->vocab, *v; /* jansson iterates non-const objects only */
    enum crl_status st;
    const char *key;
    size_t i;
    uint32_t id;

    r->added = json_object_get(r->root, "added_tokens");
    if (r->added && !json_is_array(r->added))
        return crl_fail(r->err, CRL_EFORMAT, "added_tokens is not a list");
    *n_bytes = 1;
    json_object_foreach(vocab, key, v)
    {
        st = read_id(r, v, key, &id);
        if (st) return st;
        if (id >= r->p.n_vocab) r->p.n_vocab = id + 1;
        *n_bytes += strlen(key);
    }
    for (i = 0; i < json_array_size(r->added); i++) {
        const json_t *a = json_array_get(r->added, i), *name = json_object_get(a, "content");

        if (!json_is_string(name)) return crl_fail(r->err, CRL_EFORMAT, "added token %zu has no content", i);
        st = read_id(r, json_object_get(a, "id"), json_string_value(name), &id);
        if (st) return st;
        if (id >= r->p.n_vocab) r->p.n_vocab = id + 1;
        *n_bytes += json_string_length(name);
    }
    return CRL_OK;
}

/* Put every token at its id. */
static enum crl_status place_tokens(struct reader *r)
{
    json_t *vocab = (json_t *)(uintptr_t)r->vocab, *v;
    enum crl_status st;
    const char *key;
    size_t i;
    uint32_t id = 0;

    for (i = 0; i < json_array_size(r->added); i++) {
        const json_t *a = json_array_get(r->added, i);
        const char *name = json_string_value(json_object_get(a, "content"));
        const json_t *known = json_object_get(r->vocab, name);

        st = read_id(r, json_object_get(a, "id"), name, &id);
        if (st) return st;
        if (r->added_at[id]) return crl_fail(r->err, CRL_EFORMAT, "two added tokens have the id %u", id);
        if (known && json_integer_value(known) != (json_int_t)id)
            return crl_fail(r->err, CRL_EFORMAT,
                            "added token \"%.80s\" has the id %u here and %lld in the vocabulary", name, id,
                            (long long)json_integer_value(known));
        r->added_at[id] = a;
    }
    json_object_foreach(vocab, key, v)
    {
        st = read_id(r, v, key, &id);
        if (st) return st;
        if (r->key_at[id])
            return crl_fail(r->err, CRL_EFORMAT, "tokens \"%.80s\" and \"%.80s\" have the same id %u",
                            r->key_at[id], key, id);
        if (r->added_at[id] &&
            strcmp(json_string_value(json_object_get(r->added_at[id], "content")), key) != 0)
            return crl_fail(r->err, CRL_EFORMAT, "the id %u is that of an added token and of \"%.80s\"", id,
                            key);
        r->key_at[id] = key;
    }
    return CRL_OK;
}

/* From the alphabet to bytes; *n grows. */
static enum crl_status write_ordinary(struct reader *r, const char *key, size_t *n)
{
    const unsigned char *p = (const unsigned char *)key;
    size_t left = strlen(key), used;

    for (; left; p += used, left -= used) {
        uint32_t code;

        crl_utf8_step(p, left, &used); /* jansson hands out valid UTF-8 only */
        code = crl_utf8_code(p, used);
        if (code >= ALPHABET_END || r->byte_of[code] < 0)
            return crl_fail(
                r->err, CRL_EUNSUPPORTED,
                "token \"%.80s\" holds U+%04X, which stands for no byte in the byte-level alphabet", key,
                code);
        r->p.blob[(*n)++] = (unsigned char)r->byte_of[code];
    }
    return CRL_OK;
}

static enum crl_status write_added(struct reader *r, uint32_t id, size_t *n)
{
    static const char *const strips[] = { "single_word", "lstrip", "rstrip" };
    const json_t *a = r->added_at[id], *name = json_object_get(a, "content");
    bool special = false, late = false;
    enum crl_status st = crl_json_get_bool(a, "special", &special, r->err);
    size_t i;

    if (!st) st = crl_json_get_bool(a, "normalized", &late, r->err);
    for (i = 0; i < 3 && !st; i++) {
        bool on = false;

        st = crl_json_get_bool(a, strips[i], &on, r->err);
        if (!st && on)
            st = crl_fail(r->err, CRL_EUNSUPPORTED, "added token \"%.80s\": %s is not supported",
                          json_string_value(name), strips[i]);
    }
    if (st) return st;
    memcpy(r->p.blob + *n, json_string_value(name), json_string_length(name));
    *n += json_string_length(name);
    r->p.kind[id] = (unsigned char)((special ? TOK_SPECIAL : TOK_ADDED) | (late ? TOK_LATE : 0));
    return CRL_OK;
}

static enum crl_status read_vocab(struct reader *r)
{
    enum crl_status st;
    size_t n_bytes = 0, n = 0;
    uint32_t id;

    st = size_vocab(r, &n_bytes);
    if (st) return st;
    r->added_at = crl_alloc(r->p.n_vocab, sizeof *r->added_at);
    r->key_at = crl_alloc(r->p.n_vocab, sizeof *r->key_at);
    r->p.kind = crl_alloc(r->p.n_vocab, 1);
    r->p.off = crl_alloc((size_t)r->p.n_vocab + 1, sizeof *r->p.off);
    r->p.blob = crl_alloc(n_bytes, 1);
    if (!r->added_at || !r->key_at || !r->p.kind || !r->p.off || !r->p.blob)
        return crl_fail(r->err, CRL_ENOMEM, "no memory for %u tokens", r->p.n_vocab);
    st = place_tokens(r);
    for (id = 0; id < r->p.n_vocab && !st; id++) {
        if (r->added_at[id]) {
            st = write_added(r, id, &n);
        } else if (r->key_at[id]) {
            st = write_ordinary(r, r->key_at[id], &n);
            r->p.kind[id] = TOK_ORDINARY;
        }
        r->p.off[id + 1] = (uint32_t)n;
    }
    return st;
}

static enum crl_status look_up(struct reader *r, const char *s, size_t len, size_t at, uint32_t *id)
{
    const json_t *v = NULL;
    enum crl_status st;

    r->key.len = 0;
    st = crl_str_add(&r->key, s, len, r->err);
    if (st) return st;
    if (!memchr(s, 0, len)) v = json_object_get(r->vocab, r->key.s);
    if (!v)
        return crl_fail(r->err, CRL_EFORMAT, "merge %zu: \"%.*s\" is no token", at, len < 80 ? (int)len : 80,
                        s);
    *id = (uint32_t)json_integer_value(v);
    return CRL_OK;
}

/* Both spellings: "left right" and ["left", "right"]. */
static enum crl_status read_merge(struct reader *r, size_t at, struct tok_merge *m)
{
    const json_t *v = json_array_get(r->merges, at), *a = json_array_get(v, 0), *b = json_array_get(v, 1);
    enum crl_status st;

    if (json_is_string(v)) {
        const char *s = json_string_value(v), *sp = memchr(s, ' ', json_string_length(v));
        size_t len = json_string_length(v), left = sp ? (size_t)(sp - s) : 0;

        if (!sp || memchr(sp + 1, ' ', len - left - 1))
            return crl_fail(r->err, CRL_EFORMAT, "merge %zu is not of the form \"LEFT RIGHT\"", at);
        st = look_up(r, s, left, at, &m->left);
        return st ? st : look_up(r, sp + 1, len - left - 1, at, &m->right);
    }
    if (json_array_size(v) != 2 || !json_is_string(a) || !json_is_string(b))
        return crl_fail(r->err, CRL_EFORMAT, "merge %zu is no pair of strings", at);
    st = look_up(r, json_string_value(a), json_string_length(a), at, &m->left);
    return st ? st : look_up(r, json_string_value(b), json_string_length(b), at, &m->right);
}

/* Of merges written twice the last one counts, as in the reference; the earlier ones are dropped, which
 * leaves the order of the others as it was. */
static enum crl_status drop_repeated(struct reader *r)
{
    struct tok_merge *m = r->p.merges;
    size_t slots = 512, n = r->p.n_merge, i, k, kept = 0;
    uint32_t *last; /* index + 1 of the last merge of a pair */
    bool repeated = false;

    while (slots < 2 * n) slots *= 2;
    last = crl_alloc(slots, sizeof *last);
    if (!last) return crl_fail(r->err, CRL_ENOMEM, "no memory for %zu merges", n);
    for (i = 0; i < n; i++) {
        k = (size_t)(crl_tok_pair_hash(m[i].left, m[i].right) >> 20) & (slots - 1);
        while (last[k] && (m[last[k] - 1].left != m[i].left || m[last[k] - 1].right != m[i].right))
            k = (k + 1) & (slots - 1);
        if (last[k]) {
            repeated = true;
            m[last[k] - 1].left = TOK_NONE;
        }
        last[k] = (uint32_t)i + 1;
    }
    for (i = 0; i < n && repeated; i++)
        if (m[i].left != TOK_NONE) m[kept++] = m[i];
    if (repeated) r->p.n_merge = (uint32_t)kept;
    crl_free(last);
    return CRL_OK;
}

static enum crl_status read_merges(struct reader *r)
{
    size_t n = json_array_size(r->merges), i;
    enum crl_status st = CRL_OK;

    if (n > TOK_VOCAB_MAX)
        return crl_fail(r->err, CRL_ERANGE, "%zu merges, at most %u are accepted", n, TOK_VOCAB_MAX);
    r->p.merges = crl_alloc(n, sizeof *r->p.merges);
    if (!r->p.merges) return crl_fail(r->err, CRL_ENOMEM, "no memory for %zu merges", n);
    r->p.n_merge = (uint32_t)n;
    for (i = 0; i < n && !st; i++) st = read_merge(r, i, &r->p.merges[i]);
    return st ? st : drop_repeated(r);
}

/* The id of the added token with this name, TOK_NONE if there is none. */
static uint32_t added_named(const struct reader *r, const char *name)
{
    uint32_t id;

    for (id = 0; name && id < r->p.n_vocab; id++)
        if (r->added_at[id] &&
            strcmp(json_string_value(json_object_get(r->added_at[id], "content")), name) == 0)
            return id;
    return TOK_NONE;
}

/* A template puts at most one token, the begin of text, before the text and nothing after it. */
static enum crl_status read_template(struct reader *r, const json_t *node)
{
    const json_t *single = json_object_get(node, "single");
    size_t n = json_array_size(single);
    const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    const json_t *last = json_object_get(json_array_get(single, n ? n - 1 : 0), "Sequence");

    if (!last || n > 2 || (n == 2 && !first))
        return crl_fail(r->err, CRL_EUNSUPPORTED,
                        "post_processor: only a template of one token followed by the text is implemented");
    if (n == 1) return CRL_OK;
    r->p.bos = added_named(r, json_string_value(json_object_get(first, "id")));
    if (r->p.bos == TOK_NONE)
        return crl_fail(r->err, CRL_EFORMAT, "post_processor: the token before the text is no added token");
    return CRL_OK;
}

static enum crl_status read_post_processor(struct reader *r)
{
    const json_t *post = json_object_get(r->root, "post_processor"),
                 *list = json_object_get(post, "processors");
    bool sequence = is_type(post, "Sequence");
    size_t n = sequence ? json_array_size(list) : 1, i;
    enum crl_status st = CRL_OK;

    r->p.bos = TOK_NONE;
    if (!post || json_is_null(post)) {
        r->p.bos = added_named(r, "<|begin_of_text|>");
        return CRL_OK;
    }
    for (i = 0; i < n && !st; i++) {
        const json_t *node = sequence ? json_array_get(list, i) : post;

        if (is_type(node, "TemplateProcessing")) st = read_template(r, node);
        else if (!is_type(node, "ByteLevel"))
            st = crl_fail(r->err, CRL_EUNSUPPORTED, "the post_processor %s is not supported",
                          type_of(node));
    }
    if (!st && r->p.bos == TOK_NONE) r->p.bos = added_named(r, "<|begin_of_text|>");
    return st;
}

enum crl_status crl_tok_parse_json(struct crl_tok **tok, const char *text, size_t len, const char *what,
                                   struct crl_err *err)
{
    struct reader r = { .err = err };
    json_t *root;
    enum crl_status st;

    *tok = NULL;
    st = crl_json_parse(&root, text, len, what, err);
    if (st) return st; /* the sentence names the file already */
    r.root = root;
    fill_alphabet(r.byte_of);
    st = check_model(&r);
    if (!st) st = check_normalizer(&r);
    if (!st) st = check_decoder(&r);
    if (!st) st = read_pre_tokenizer(&r);
    if (!st) st = read_vocab(&r);
    if (!st) st = read_merges(&r);
    if (!st) st = read_post_processor(&r);
    if (!st) st = crl_tok_build(tok, &r.p, err);
    crl_tok_parts_fini(&r.p);
    crl_free(r.added_at);
    crl_free(r.key_at);
    crl_str_fini(&r.key);
    json_decref(root);
    if (st) crl_err_prefix(err, "%s", what);
    return st;
}
