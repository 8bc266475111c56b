/* encode.c - text to ids: added tokens, pieces, merging by rank. */
#include "base/hash.h"
#include "base/mem.h"
#include "text/tok_impl.h"
#include "text/utf8.h"

#define SHORT_PIECE 48   /* bytes; up to here scanning for the lowest rank beats a heap */
#define CACHE_SLOTS_MAX 32768 /* a power of two, 2 MiB */
#define CACHE_BYTES 27   /* of a piece; entry: 64 bytes */
#define CACHE_IDS 8
#define CACHE_FROM 8192 /* bytes of text from which a cache pays for its own memory */

/* Pieces seen in this call and what became of them. */
struct cached {
    unsigned char len, n; /* len 0: free */
    unsigned char piece[CACHE_BYTES];
    int32_t ids[CACHE_IDS];
};

/* A token of the piece being merged; nodes form a list by position. */
struct node {
    uint32_t id;
    uint32_t prev, next; /* positions of the neighbours, TOK_NONE at the ends */
    uint32_t rank, made; /* of merging with the next; rank TOK_NONE: they do not merge */
    uint32_t len;        /* bytes; 0 when the node was merged into its left neighbour */
};

struct job {
    const struct crl_tok *tok;
    struct crl_scan *scan;
    struct crl_ids *out;
    struct cached *cache; /* NULL for short texts */
    size_t cache_mask;    /* slots - 1 */
    struct node *nodes;   /* grown as needed */
    size_t n_nodes;
    uint64_t *heap; /* rank << 32 | position */
    size_t cap_heap, n_heap;
    struct crl_err *err;
};

enum crl_status crl_ids_add(struct crl_ids *ids, int32_t id, struct crl_err *err)
{
    if (ids->n == ids->cap) {
        enum crl_status st =
            crl_grow((void **)&ids->v, &ids->cap, ids->n + 1, sizeof *ids->v, SIZE_MAX / sizeof *ids->v, err);
        if (st) return st;
    }
    ids->v[ids->n++] = id;
    return CRL_OK;
}

void crl_ids_fini(struct crl_ids *ids)
{
    crl_free(ids->v);
    memset(ids, 0, sizeof *ids);
}

/* What the tokens left and right, whose bytes follow one another at `bytes`, merge to. */
static void look_pair(const struct crl_tok *t, const char *bytes, size_t len, uint32_t left, uint32_t right,
                      uint32_t *rank, uint32_t *made)
{
    size_t i;

    if (t->p.flags & TOK_RANKED) {
        *rank = *made = crl_tok_find(t, bytes, len);
        return;
    }
    *rank = TOK_NONE;
    for (i = crl_tok_pair_hash(left, right) >> t->pair_shift; t->pairs[i].left != TOK_NONE;
         i = (i + 1) & t->pair_mask)
        if (t->pairs[i].left == left && t->pairs[i].right == right) {
            *rank = t->pairs[i].rank;
            *made = t->pairs[i].id;
            return;
        }
}

static void set_rank(const struct crl_tok *t, const char *piece, struct node *nodes, uint32_t at)
{
    struct node *a = nodes + at;

    a->rank = TOK_NONE;
    if (a->next != TOK_NONE)
        look_pair(t, piece + at, (size_t)a->len + nodes[a->next].len, a->id, nodes[a->next].id, &a->rank,
                  &a->made);
}

static void start_nodes(const struct crl_tok *t, const char *piece, size_t len, struct node *nodes)
{
    uint32_t i;

    for (i = 0; i < len; i++)
        nodes[i] = (struct node){ .id = t->byte_id[(unsigned char)piece[i]],
                                  .prev = i ? i - 1 : TOK_NONE,
                                  .next = i + 1 < len ? i + 1 : TOK_NONE,
                                  .len = 1 };
    for (i = 0; i < len; i++) set_rank(t, piece, nodes, i);
}

/* Join the node at `at` with its right neighbour and renew the ranks of both pairs that touch the result. */
static void join(const struct crl_tok *t, const char *piece, struct node *nodes, uint32_t at)
{
    struct node *a = nodes + at, *b = nodes + a->next;

    a->id = a->made;
    a->len += b->len;
    a->next = b->next;
    b->len = 0;
    if (a->next != TOK_NONE) nodes[a->next].prev = at;
    set_rank(t, piece, nodes, at);
    if (a->prev != TOK_NONE) set_rank(t, piece, nodes, a->prev);
}

static void merge_short(const struct crl_tok *t, const char *piece, struct node *nodes)
{
    for (;;) {
        uint32_t best = TOK_NONE, best_rank = TOK_NONE, i;

        for (i = 0; i != TOK_NONE; i = nodes[i].next)
            if (nodes[i].rank < best_rank) {
                best_rank = nodes[i].rank;
                best = i;
            }
        if (best == TOK_NONE) return;
        join(t, piece, nodes, best);
    }
}

static void sift_down(uint64_t *h, size_t n, size_t i)
{
    uint64_t v = h[i];

    for (;;) {
        size_t c = 2 * i + 1;

        if (c >= n) break;
        if (c + 1 < n && h[c + 1] < h[c]) c++;
        if (h[c] >= v) break;
        h[i] = h[c];
        i = c;
    }
    h[i] = v;
}

static void heap_push(struct job *j, uint64_t v)
{
    size_t i = j->n_heap++;

    while (i && j->heap[(i - 1) / 2] > v) {
        j->heap[i] = j->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    j->heap[i] = v;
}

static void push_pair(struct job *j, uint32_t at)
{
    if (j->nodes[at].rank != TOK_NONE) heap_push(j, (uint64_t)j->nodes[at].rank << 32 | at);
}

/* Every merge takes one node away and pushes at most two entries, so 3 * len entries are enough. An entry
 * counts only while its node still has that rank: a rank names one merge, so an entry of an earlier pair
 * cannot be mistaken. */
static void merge_long(struct job *j, const char *piece, size_t len)
{
    struct node *nodes = j->nodes;
    size_t i;

    j->n_heap = 0;
    for (i = 0; i < len; i++)
        if (nodes[i].rank != TOK_NONE) j->heap[j->n_heap++] = (uint64_t)nodes[i].rank << 32 | i;
    for (i = j->n_heap / 2; i-- > 0;) sift_down(j->heap, j->n_heap, i);
    while (j->n_heap) {
        uint32_t at = (uint32_t)j->heap[0], rank = (uint32_t)(j->heap[0] >> 32);

        j->heap[0] = j->heap[--j->n_heap];
        if (j->n_heap) sift_down(j->heap, j->n_heap, 0);
        if (nodes[at].len == 0 || nodes[at].rank != rank) continue;
        join(j->tok, piece, nodes, at);
        push_pair(j, at);
        if (nodes[at].prev != TOK_NONE) push_pair(j, nodes[at].prev);
    }
}

static enum crl_status merge_piece(struct job *j, const char *piece, size_t len)
{
    enum crl_status st = CRL_OK;
    uint32_t i;

    if (len > j->n_nodes)
        st = crl_grow((void **)&j->nodes, &j->n_nodes, len, sizeof *j->nodes, CRL_TOK_TEXT_MAX * 3, j->err);
    if (!st && len > SHORT_PIECE)
        st = crl_grow((void **)&j->heap, &j->cap_heap, 3 * len, sizeof *j->heap, CRL_TOK_TEXT_MAX * 9,
                      j->err);
    if (st) return st;
    start_nodes(j->tok, piece, len, j->nodes);
    if (len > SHORT_PIECE) merge_long(j, piece, len);
    else merge_short(j->tok, piece, j->nodes);
    for (i = 0; i != TOK_NONE && !st; i = j->nodes[i].next)
        st = crl_ids_add(j->out, (int32_t)j->nodes[i].id, j->err);
    return st;
}

static enum crl_status encode_piece(struct job *j, const char *piece, size_t len)
{
    struct cached *c = NULL;
    enum crl_status st = CRL_OK;
    size_t before = j->out->n, i;

    if (len == 1) return crl_ids_add(j->out, (int32_t)j->tok->byte_id[(unsigned char)*piece], j->err);
    if (j->tok->p.flags & TOK_WHOLE) {
        uint32_t id = crl_tok_find(j->tok, piece, len);

        if (id != TOK_NONE) return crl_ids_add(j->out, (int32_t)id, j->err);
    }
    if (j->cache && len <= CACHE_BYTES) {
        c = &j->cache[crl_hash(piece, len) & j->cache_mask];
        if (c->len == len && memcmp(c->piece, piece, len) == 0) {
            for (i = 0; i < c->n && !st; i++) st = crl_ids_add(j->out, c->ids[i], j->err);
            return st;
        }
    }
    st = merge_piece(j, piece, len);
    if (!st && c && j->out->n - before <= CACHE_IDS) {
        c->len = (unsigned char)len;
        c->n = (unsigned char)(j->out->n - before);
        memcpy(c->piece, piece, len);
        memcpy(c->ids, j->out->v + before, c->n * sizeof *c->ids);
    }
    return st;
}

static enum crl_status encode_plain(struct job *j, const char *text, size_t len)
{
    enum crl_status st;
    const char *piece;
    size_t n;

    crl_scan_set(j->scan, text, len);
    for (;;) {
        st = crl_scan_next(j->scan, &piece, &n, j->err);
        if (st || !piece) return st;
        st = encode_piece(j, piece, n);
        if (st) return st;
    }
}

/* The longest added token that text starts with, among those of the kind wanted; TOK_NONE if there is none. */
static uint32_t match_added(const struct crl_tok *t, const char *text, size_t len, bool special, bool late)
{
    size_t lo = 0, hi = t->n_added, d;
    uint32_t best = TOK_NONE;

    /* t->added is sorted: [lo, hi) are the names that share text[0..d), the shortest first */
    for (d = 0; d < len && lo < hi; d++) {
        unsigned char c = (unsigned char)text[d];
        size_t a = lo, b = hi, n;

        while (a < b) { /* the first name with byte d at least c */
            size_t mid = a + (b - a) / 2;
            if (tok_bytes(t, t->added[mid], &n)[d] < c) a = mid + 1;
            else b = mid;
        }
        lo = a;
        b = hi;
        while (a < b) { /* the first name with byte d above c */
            size_t mid = a + (b - a) / 2;
            if (tok_bytes(t, t->added[mid], &n)[d] <= c) a = mid + 1;
            else b = mid;
        }
        hi = a;
        if (lo < hi) {
            uint32_t id = t->added[lo];

            tok_bytes(t, id, &n);
            if (n == d + 1) {
                bool is_late = (t->p.kind[id] & TOK_LATE) != 0;

                if (is_late == late && (special || tok_kind(t, id) == TOK_ADDED)) best = id;
                lo++;
            }
        }
    }
    return best;
}

/* Cut added tokens out of the text: first those that are not late, then the late ones in what is left. */
static enum crl_status encode_text(struct job *j, const char *text, size_t len, bool special, bool late)
{
    const struct crl_tok *t = j->tok;
    size_t start = 0, i = 0;

    for (;;) {
        enum crl_status st = CRL_OK;
        uint32_t id = TOK_NONE;

        for (; i < len; i++) {
            if (!t->added_first[(unsigned char)text[i]]) continue;
            id = match_added(t, text + i, len - i, special, late);
            if (id != TOK_NONE) break;
        }
        if (i > start) {
            st = !late && t->any_late ? encode_text(j, text + start, i - start, special, true)
                                      : encode_plain(j, text + start, i - start);
            if (st) return st;
        }
        if (id == TOK_NONE) return CRL_OK;
        st = crl_ids_add(j->out, (int32_t)id, j->err);
        if (st) return st;
        i += t->p.off[id + 1] - t->p.off[id];
        start = i;
    }
}

/* A copy with U+FFFD for every maximal invalid part. */
static enum crl_status repair(struct crl_str *out, const char *text, size_t len, struct crl_err *err)
{
    const unsigned char *p = (const unsigned char *)text, *good = p, *end = p + len;
    enum crl_status st = CRL_OK;
    size_t used;

    for (; p < end && !st; p += used) {
        if (crl_utf8_step(p, (size_t)(end - p), &used) == CRL_UTF8_OK) continue;
        st = crl_str_add(out, good, (size_t)(p - good), err);
        if (!st) st = crl_str_puts(out, CRL_UTF8_BAD, err);
        good = p + used;
    }
    return st ? st : crl_str_add(out, good, (size_t)(end - good), err);
}

/* About as many slots as the text has different words, so that memory stays in proportion to the text. */
static enum crl_status make_cache(struct job *j, size_t len)
{
    size_t slots = 512;

    while (slots < CACHE_SLOTS_MAX && slots < len / 32) slots *= 2;
    j->cache = crl_alloc(slots, sizeof *j->cache);
    j->cache_mask = slots - 1;
    return j->cache ? CRL_OK : crl_fail(j->err, CRL_ENOMEM, "no memory to tokenise %zu bytes", len);
}

static enum crl_status encode_valid(const struct crl_tok *t, const char *text, size_t len, unsigned flags,
                                    struct crl_ids *out, struct crl_err *err)
{
    struct job j = { .tok = t, .out = out, .err = err };
    bool special = (flags & CRL_TOK_SPECIAL) != 0;
    enum crl_status st = crl_scan_new(&j.scan, t->pretok, err);

    if (!st && len >= CACHE_FROM) st = make_cache(&j, len);
    if (!st) {
        if (special || t->any_added) st = encode_text(&j, text, len, special, false);
        else st = encode_plain(&j, text, len);
    }
    crl_scan_free(j.scan);
    crl_free(j.cache);
    crl_free(j.nodes);
    crl_free(j.heap);
    return st;
}

enum crl_status crl_tok_encode(const struct crl_tok *t, const char *text, size_t len, unsigned flags,
                               struct crl_ids *out, struct crl_err *err)
{
    struct crl_str fixed = { NULL, 0, 0 };
    enum crl_status st = CRL_OK;
    size_t before = out->n;

    if (len > CRL_TOK_TEXT_MAX)
        return crl_fail(err, CRL_ERANGE, "a text of %zu bytes, at most %zu can be tokenised at once", len,
                        (size_t)CRL_TOK_TEXT_MAX);
    if (flags & CRL_TOK_BOS) {
        if (t->p.bos == TOK_NONE)
            return crl_fail(err, CRL_ENOENT, "the tokenizer has no begin-of-text token");
        st = crl_ids_add(out, (int32_t)t->p.bos, err);
    }
    if (!st && !crl_utf8_valid(text, len)) {
        st = repair(&fixed, text, len, err);
        text = fixed.s;
        len = fixed.len;
    }
    if (!st && len) st = encode_valid(t, text, len, flags, out, err);
    crl_str_fini(&fixed);
    if (st) out->n = before;
    return st;
}
