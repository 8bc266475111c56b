/* generate.c - the loop that writes, and its search for stop strings. */
#define _GNU_SOURCE
#include "run/generate.h"

#include "base/mem.h"
#include "run/picture.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#define PIECE 512 /* tokens of a prompt between two questions whether to stop */

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *crl_end_name(enum crl_end end)
{
    static const char *const name[] = { "stop_token", "stop_string", "length", "context", "interrupted" };

    return name[end];
}

void crl_generated_fini(struct crl_generated *g)
{
    crl_ids_fini(&g->ids);
    crl_str_fini(&g->text);
    memset(g, 0, sizeof *g);
}

double crl_generated_prefill_rate(const struct crl_generated *g)
{
    return g->prefill_s > 0 ? (double)g->n_prompt / g->prefill_s : 0;
}

double crl_generated_decode_rate(const struct crl_generated *g)
{
    return g->decode_s > 0 ? (double)g->n_decoded / g->decode_s : 0;
}

/* --- stop strings --------------------------------------------------------------------------------------- */

/* The earliest occurrence of any stop string, the longest of those that begin there; false when there is
 * none. */
static bool find_stop(const struct crl_stopper *s, size_t *at, size_t *which)
{
    bool found = false;

    for (size_t i = 0; i < s->n_stop && s->held.len; i++) {
        size_t len = strlen(s->stop[i]);
        const char *p = memmem(s->held.s, s->held.len, s->stop[i], len);
        if (!p) continue;
        if (found && ((size_t)(p - s->held.s) > *at ||
                      ((size_t)(p - s->held.s) == *at && len <= strlen(s->stop[*which]))))
            continue;
        *at = (size_t)(p - s->held.s);
        *which = i;
        found = true;
    }
    return found;
}

/* Length of the longest end of the text that begins a stop string. */
static size_t open_end(const struct crl_stopper *s)
{
    size_t most = 0;

    for (size_t i = 0; i < s->n_stop; i++) {
        size_t len = strlen(s->stop[i]), n = len - 1 < s->held.len ? len - 1 : s->held.len;
        for (; n > most; n--) {
            if (memcmp(s->held.s + s->held.len - n, s->stop[i], n)) continue;
            most = n;
            break;
        }
    }
    return most;
}

enum crl_status crl_stopper_push(struct crl_stopper *s, const char *text, size_t len, struct crl_str *sure,
                                 size_t *found, struct crl_err *err)
{
    enum crl_status st = crl_str_add(&s->held, text, len, err);
    size_t at, keep;

    *found = s->n_stop;
    if (st) return st;
    if (find_stop(s, &at, found)) {
        st = crl_str_add(sure, s->held.s, at, err);
        s->held.len = 0;
        return st;
    }
    *found = s->n_stop;
    keep = open_end(s);
    at = s->held.len - keep;
    if (!at) return CRL_OK;
    st = crl_str_add(sure, s->held.s, at, err);
    if (st) return st;
    memmove(s->held.s, s->held.s + at, keep);
    s->held.len = keep;
    return CRL_OK;
}

enum crl_status crl_stopper_end(struct crl_stopper *s, struct crl_str *sure, struct crl_err *err)
{
    enum crl_status st = s->held.len ? crl_str_add(sure, s->held.s, s->held.len, err) : CRL_OK;

    s->held.len = 0;
    return st;
}

void crl_stopper_fini(struct crl_stopper *s)
{
    crl_str_fini(&s->held);
}

/* --- the loop ------------------------------------------------------------------------------------------- */

/* One generation at work. */
struct job {
    struct crl_engine *engine;
    struct crl_session *session;
    struct crl_sampler *sampler;
    const struct crl_generate_options *opt;
    struct crl_generated *out;
    struct crl_err *err;
    float *logits; /* [vocab] */
    const float *const *rows; /* [prompt] of pictures; NULL: there are none */
    struct crl_detok detok;
    struct crl_stopper stopper;
    struct crl_str piece; /* text of one token */
};

static enum crl_status check_options(const struct crl_generate_options *o, struct crl_err *err)
{
    if (o->n_stop > CRL_STOP_MAX)
        return crl_fail(err, CRL_ERANGE, "%zu stop strings, at most %d are supported", o->n_stop,
                        CRL_STOP_MAX);
    for (size_t i = 0; i < o->n_stop; i++) {
        size_t len = strlen(o->stop[i]);
        if (!len || len > CRL_STOP_LEN_MAX)
            return crl_fail(err, CRL_ERANGE, "a stop string of %zu bytes, 1 to %d are supported", len,
                            CRL_STOP_LEN_MAX);
    }
    return CRL_OK;
}

static enum crl_status check_prompt(const struct job *j, const int32_t *ids, size_t n, uint32_t vocab)
{
    size_t pos = crl_session_pos(j->session), left = crl_session_left(j->session);

    if (!n) return crl_fail(j->err, CRL_ERANGE, "the prompt is empty");
    if (n > left && pos)
        return crl_fail(j->err, CRL_EFULL,
                        "the prompt has %zu tokens but only %zu of the context's %zu are free", n, left,
                        pos + left);
    if (n > left)
        return crl_fail(j->err, CRL_EFULL, "the prompt has %zu tokens but the context has room for %zu", n,
                        left);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
            return crl_fail(j->err, CRL_ERANGE,
                            "token %zu of the prompt is %d, outside the model's vocabulary of %u", i, ids[i],
                            vocab);
    return CRL_OK;
}

static bool is_stop(const struct job *j, int32_t id)
{
    for (size_t i = 0; i < j->opt->n_stop_id; i++)
        if (j->opt->stop_ids[i] == id) return true;
    return crl_engine_is_stop(j->engine, id);
}

static bool interrupted(const struct job *j)
{
    return j->opt->interrupted && j->opt->interrupted(j->opt->ctx);
}

/* Hand out what was appended to the text from `from` on. */
static void hand_out(const struct job *j, size_t from)
{
    const struct crl_str *t = &j->out->text;

    if (j->opt->text && t->len > from) j->opt->text(j->opt->ctx, t->s + from, t->len - from);
}

/* Pass j->piece on; *found as of crl_stopper_push. */
static enum crl_status emit_piece(struct job *j, size_t *found)
{
    size_t from = j->out->text.len;
    enum crl_status st = CRL_OK;

    *found = j->opt->n_stop;
    if (j->piece.len)
        st = crl_stopper_push(&j->stopper, j->piece.s, j->piece.len, &j->out->text, found, j->err);
    j->piece.len = 0;
    if (!st) hand_out(j, from);
    return st;
}

/* The output is over, for whatever reason but a stop string: give up what was held back. */
static enum crl_status emit_rest(struct job *j)
{
    size_t from, found;
    enum crl_status st = crl_detok_end(&j->detok, &j->piece, j->err);

    if (!st) st = emit_piece(j, &found);
    from = j->out->text.len;
    if (!st) st = crl_stopper_end(&j->stopper, &j->out->text, j->err);
    if (!st) hand_out(j, from);
    return st;
}

static bool goes_on(void *ctx)
{
    return !interrupted(ctx);
}

/* Encode the pictures that were not seen yet, and find the row of every token. */
static enum crl_status look(struct job *j, const int32_t *ids, size_t n, bool *stopped)
{
    double start = seconds();
    struct crl_err why = { "" };
    enum crl_status st = CRL_OK;

    if (!j->opt->n_picture) return CRL_OK;
    for (size_t i = 0; !st && i < j->opt->n_picture; i++) {
        struct crl_picture *p = j->opt->picture[i];
        if (!crl_picture_rows(p)) j->out->n_tile += crl_picture_tiles(p);
        st = crl_picture_look(p, goes_on, j, &why);
        *stopped = st == CRL_EINTR;
        if (*stopped) return CRL_OK;
    }
    j->out->look_s = seconds() - start;
    if (st) return crl_fail(j->err, st, "%s", why.text);
    return crl_pictures_place(j->engine, ids, n, j->opt->picture, j->opt->n_picture, &j->rows, j->err);
}

static enum crl_status prefill(struct job *j, const int32_t *ids, size_t n, bool *stopped)
{
    enum crl_status st = look(j, ids, n, stopped);
    double start = seconds();

    if (st || *stopped) return st;
    for (size_t i = 0; i < n && !st; i++) st = crl_sampler_accept(j->sampler, ids[i], j->err);
    for (size_t at = 0; at < n && !st; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;
        if ((*stopped = interrupted(j))) break;
        st = crl_session_feed_rows(j->session, ids + at, j->rows ? j->rows + at : NULL, piece,
                                   at + piece == n ? j->logits : NULL, false, j->err);
        if (!st) j->out->n_prompt += piece;
    }
    j->out->prefill_s = seconds() - start;
    return st;
}

/* Choose a token and take it in. *more: it is to be fed. */
static enum crl_status choose(struct job *j, bool *more)
{
    struct crl_generated *g = j->out;
    int32_t id = crl_sampler_pick(j->sampler, j->logits);
    enum crl_status st;
    size_t found;

    *more = false;
    if (id < 0) return crl_fail(j->err, CRL_EFORMAT, "the model gives no numbers: all logits are NaN");
    st = crl_ids_add(&g->ids, id, j->err);
    if (st) return st;
    if (is_stop(j, id)) {
        g->end = CRL_END_TOKEN;
        return emit_rest(j);
    }
    st = crl_detok_push(&j->detok, id, &j->piece, j->err);
    if (!st) st = emit_piece(j, &found);
    if (st) return st;
    if (found < j->opt->n_stop) {
        g->end = CRL_END_STRING;
        g->stop_string = found;
        return CRL_OK;
    }
    *more = true;
    if (j->opt->max_tokens && g->ids.n >= j->opt->max_tokens) g->end = CRL_END_LENGTH;
    else if (!crl_session_left(j->session)) g->end = CRL_END_CONTEXT;
    else if (interrupted(j)) g->end = CRL_END_INTERRUPTED;
    else return CRL_OK;
    *more = false;
    return emit_rest(j);
}

static enum crl_status decode(struct job *j)
{
    double start = seconds();
    bool more = true;
    enum crl_status st = choose(j, &more);

    while (!st && more) {
        int32_t id = j->out->ids.v[j->out->ids.n - 1];
        st = crl_session_feed(j->session, &id, 1, j->logits, j->err);
        if (st) break;
        j->out->n_decoded++;
        st = choose(j, &more);
    }
    j->out->decode_s = seconds() - start;
    return st;
}

enum crl_status crl_generate(struct crl_engine *engine, struct crl_session *session,
                             struct crl_sampler *sampler, const int32_t *ids, size_t n,
                             const struct crl_generate_options *options, struct crl_generated *out,
                             struct crl_err *err)
{
    static const struct crl_generate_options defaults;
    struct job j = { .engine = engine,
                     .session = session,
                     .sampler = sampler,
                     .opt = options ? options : &defaults,
                     .out = out,
                     .err = err };
    const struct crl_tok *tok = crl_engine_tok(engine);
    struct crl_engine_info info;
    bool stopped = false;
    enum crl_status st = check_options(j.opt, err);

    assert(!out->ids.n && !out->text.len);
    crl_engine_info(engine, &info);
    if (!st && !tok)
        st = crl_fail(err, CRL_ENOENT, "%s: has no tokenizer", crl_pack_name(crl_engine_pack(engine)));
    if (!st) st = check_prompt(&j, ids, n, info.vocab);
    if (st) return st;
    j.logits = crl_alloc(info.vocab, sizeof *j.logits);
    if (!j.logits) return crl_fail(err, CRL_ENOMEM, "no memory for the logits of %u tokens", info.vocab);
    j.stopper.stop = j.opt->stop;
    j.stopper.n_stop = j.opt->n_stop;
    crl_detok_init(&j.detok, tok, CRL_DETOK_SKIP);
    st = prefill(&j, ids, n, &stopped);
    if (stopped) out->end = CRL_END_INTERRUPTED;
    else if (!st) st = decode(&j);
    crl_stopper_fini(&j.stopper);
    crl_str_fini(&j.piece);
    crl_free(j.logits);
    crl_free((void *)(uintptr_t)j.rows);
    return st;
}
