/* sampler.c - the choice of the next token.
 *
 * Every filter keeps a beginning of the list sorted by falling logit (lowest id first on ties), so together
 * they keep the shortest of these beginnings, and only as much of the list is sorted as is kept: top-k by a
 * heap of k entries, top-p by taking entries from a heap of all until the sum is reached, min-p by a
 * threshold before either.
 *
 * Probabilities are those of the softmax over what the filters before kept: top-p sums to 1 over the k
 * entries that top-k left. Weights and sums are double. A choice takes one random number whatever the
 * filters, so that a seed stays comparable between settings; greedy choices take none.
 *
 * The generator is xoshiro256** (Blackman and Vigna) with its state filled by splitmix64 from the seed, both
 * written from their published recurrences; a number in [0, 1) is its upper 53 bits. */
#include "base/mem.h"
#include "run/corral.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define WINDOW_MAX ((size_t)1 << 24) /* tokens; more than any context */

/* Beyond this many units below the best, all weights of a vocabulary together are less than the last bit of
 * the best one's: exp(-60) * 2^27 < 2^-53. */
#define REACH 60.0

struct entry {
    float logit;
    int32_t id;
};

struct crl_sampler {
    struct crl_sampler_options opt;
    uint32_t vocab;
    uint64_t state[4];   /* of the generator */
    struct entry *entry; /* [vocab] */
    double *weight;      /* [vocab] */
    uint32_t *count;     /* [vocab] times seen; NULL without penalties */
    int32_t *window;     /* [opt.penalty_window] the last tokens, a ring; NULL when all count */
    size_t n_window, at; /* filled; where the next goes */
};

/* --- random numbers ------------------------------------------------------------------------------------- */

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static uint64_t xoshiro(uint64_t s[4])
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static double uniform(struct crl_sampler *s)
{
    return (double)(xoshiro(s->state) >> 11) * 0x1p-53;
}

/* --- life ----------------------------------------------------------------------------------------------- */

static bool has_penalties(const struct crl_sampler_options *o)
{
    return (o->repetition_penalty != 0 && o->repetition_penalty != 1) || o->presence_penalty != 0 ||
           o->frequency_penalty != 0;
}

/* Written so that NaN fails. */
static enum crl_status within(const char *name, double v, double lo, double hi, struct crl_err *err)
{
    if (v >= lo && v <= hi) return CRL_OK;
    return crl_fail(err, CRL_ERANGE, "sampler: %s is %g, outside %g to %g", name, v, lo, hi);
}

static enum crl_status check(const struct crl_sampler_options *o, uint32_t vocab, struct crl_err *err)
{
    enum crl_status st = within("vocabulary", vocab, 1, 1 << 27, err);

    if (!st) st = within("repetition penalty", o->repetition_penalty, 0, 1000, err);
    if (!st && o->repetition_penalty != 0)
        st = within("repetition penalty", o->repetition_penalty, 1e-3, 1000, err);
    if (!st) st = within("presence penalty", o->presence_penalty, -1000, 1000, err);
    if (!st) st = within("frequency penalty", o->frequency_penalty, -1000, 1000, err);
    if (!st) st = within("penalty window", (double)o->penalty_window, 0, (double)WINDOW_MAX, err);
    if (!st) st = within("temperature", o->temperature, 0, 1000, err);
    if (!st) st = within("top-p", o->top_p, 0, 1, err);
    if (!st) st = within("min-p", o->min_p, 0, 1, err);
    return st;
}

enum crl_status crl_sampler_new(struct crl_sampler **sampler, const struct crl_sampler_options *options,
                                uint32_t vocab, struct crl_err *err)
{
    static const struct crl_sampler_options greedy;
    const struct crl_sampler_options *o = options ? options : &greedy;
    struct crl_sampler *s;
    enum crl_status st = check(o, vocab, err);
    uint64_t seed = o->seed;

    if (st) return st;
    s = crl_alloc(1, sizeof *s);
    if (!s) return crl_fail(err, CRL_ENOMEM, "no memory for a sampler");
    s->opt = *o;
    s->vocab = vocab;
    for (int i = 0; i < 4; i++) s->state[i] = splitmix64(&seed);
    s->entry = crl_alloc(vocab, sizeof *s->entry);
    s->weight = crl_alloc(vocab, sizeof *s->weight);
    if (has_penalties(o)) s->count = crl_alloc(vocab, sizeof *s->count);
    if (s->count && o->penalty_window) s->window = crl_alloc(o->penalty_window, sizeof *s->window);
    if (!s->entry || !s->weight || (has_penalties(o) && !s->count) ||
        (s->count && o->penalty_window && !s->window)) {
        crl_sampler_free(s);
        return crl_fail(err, CRL_ENOMEM, "no memory for a sampler of %u tokens", vocab);
    }
    *sampler = s;
    return CRL_OK;
}

void crl_sampler_free(struct crl_sampler *s)
{
    if (!s) return;
    crl_free(s->entry);
    crl_free(s->weight);
    crl_free(s->count);
    crl_free(s->window);
    crl_free(s);
}

/* --- penalties ------------------------------------------------------------------------------------------ */

static void see(struct crl_sampler *s, int32_t id)
{
    if (!s->count) return;
    if (s->window) {
        if (s->n_window == s->opt.penalty_window) s->count[s->window[s->at]]--;
        else s->n_window++;
        s->window[s->at] = id;
        s->at = s->at + 1 == s->opt.penalty_window ? 0 : s->at + 1;
    }
    if (s->count[id] < UINT32_MAX) s->count[id]++;
}

enum crl_status crl_sampler_accept(struct crl_sampler *s, int32_t id, struct crl_err *err)
{
    if (id < 0 || (uint32_t)id >= s->vocab)
        return crl_fail(err, CRL_ERANGE, "token %d is outside the vocabulary of %u", id, s->vocab);
    see(s, id);
    return CRL_OK;
}

static void punish(const struct crl_sampler *s, float *logits)
{
    float rep = s->opt.repetition_penalty != 0 ? s->opt.repetition_penalty : 1;

    for (uint32_t i = 0; i < s->vocab; i++) {
        if (!s->count[i]) continue;
        logits[i] = logits[i] > 0 ? logits[i] / rep : logits[i] * rep;
        logits[i] -= s->opt.presence_penalty;
        logits[i] -= s->opt.frequency_penalty * (float)s->count[i];
    }
}

/* --- order ---------------------------------------------------------------------------------------------- */

static bool before(struct entry a, struct entry b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Heaps of n entries: the one at 0 is before all others (`last` false), or after all others (`last` true). */
static void sink(struct entry *e, size_t n, size_t i, bool last)
{
    struct entry x = e[i];

    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n) break;
        if (c + 1 < n && (last ? before(e[c], e[c + 1]) : before(e[c + 1], e[c]))) c++;
        if (last ? before(e[c], x) : before(x, e[c])) break;
        e[i] = e[c];
        i = c;
    }
    e[i] = x;
}

static void make_heap(struct entry *e, size_t n, bool last)
{
    for (size_t i = n / 2; i-- > 0;) sink(e, n, i, last);
}

/* Bring the first k of n entries, in order, to the front. */
static void select_first(struct entry *e, size_t n, size_t k)
{
    if (k < n) {
        make_heap(e, k, true);
        for (size_t i = k; i < n; i++) {
            if (!before(e[i], e[0])) continue;
            e[0] = e[i];
            sink(e, k, 0, true);
        }
        n = k;
    } else {
        make_heap(e, n, true);
    }
    for (; n > 1; n--) { /* the last of those left goes behind them */
        struct entry x = e[0];
        e[0] = e[n - 1];
        e[n - 1] = x;
        sink(e, n - 1, 0, true);
    }
}

/* --- the choice ----------------------------------------------------------------------------------------- */

static int32_t find_best(const float *logits, uint32_t vocab)
{
    int32_t best = -1;

    for (uint32_t i = 0; i < vocab; i++)
        if (!isnan(logits[i]) && (best < 0 || logits[i] > logits[best])) best = (int32_t)i;
    return best;
}

/* Entries at most `low` temperatures below the best, by id; NaN and -inf are never among them. */
static size_t gather(struct crl_sampler *s, const float *logits, float best, double low)
{
    double t = s->opt.temperature;
    size_t n = 0;

    for (uint32_t i = 0; i < s->vocab; i++)
        if (((double)best - logits[i]) / t <= low) s->entry[n++] = (struct entry){ logits[i], (int32_t)i };
    return n;
}

static double weight_of(const struct crl_sampler *s, float logit, float best)
{
    return exp(((double)logit - best) / s->opt.temperature);
}

/* The weight of the first n entries, relative to the best, and their sum. */
static double weigh(struct crl_sampler *s, size_t n, float best)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) sum += s->weight[i] = weight_of(s, s->entry[i].logit, best);
    return sum;
}

/* How far below the best, in temperatures, min-p still keeps an entry. */
static double depth(const struct crl_sampler *s)
{
    double low = s->opt.min_p > 0 ? -log(s->opt.min_p) : REACH;

    return low < REACH ? low : REACH;
}

static bool has_top_p(const struct crl_sampler *s)
{
    return s->opt.top_p > 0 && s->opt.top_p < 1;
}

/* n entries in falling order: the first are kept as long as the sum of those before is at most top_p of
 * `total`. */
static size_t cut_top_p(const struct crl_sampler *s, size_t n, double total)
{
    double most = s->opt.top_p * total, sum = 0;
    size_t kept = 0;

    while (kept < n && sum <= most) sum += s->weight[kept++];
    return kept;
}

static size_t cut_min_p(const struct crl_sampler *s, size_t n, float best)
{
    double low = depth(s);

    while (n > 1 && ((double)best - s->entry[n - 1].logit) / s->opt.temperature > low) n--;
    return n;
}

/* The same as cut_top_p for entries in no order, which are sorted as far as they are kept. */
static size_t take_top_p(struct crl_sampler *s, size_t n, float best, double total)
{
    struct entry *e = s->entry;
    double most = s->opt.top_p * total, sum = 0;
    size_t kept = 0;

    make_heap(e, n, false);
    while (kept < n &&
           sum <= most) { /* what is taken fills the array from its end, the heap before it shrinks */
        size_t left = n - kept - 1;
        struct entry x = e[0];
        e[0] = e[left];
        e[left] = x;
        if (left) sink(e, left, 0, false);
        sum += weight_of(s, x.logit, best);
        kept++;
    }
    for (size_t i = 0; i < kept && i < n - 1 - i; i++) { /* to the front, the first one first */
        struct entry x = e[i];
        e[i] = e[n - 1 - i];
        e[n - 1 - i] = x;
    }
    return kept;
}

static int32_t draw(struct crl_sampler *s, size_t n, double sum)
{
    double r = uniform(s) * sum, passed = 0;

    assert(n > 0);
    for (size_t i = 0; i + 1 < n; i++) {
        passed += s->weight[i];
        if (r < passed) return s->entry[i].id;
    }
    return s->entry[n - 1].id;
}

/* The entries that all filters leave, at the front of s->entry; at least the best one. */
static size_t filter(struct crl_sampler *s, const float *logits, float best)
{
    size_t n;
    double total;

    if (s->opt.top_k > 0 && s->opt.top_k < s->vocab) {
        n = gather(s, logits, best, REACH);
        select_first(s->entry, n, s->opt.top_k);
        if (n > s->opt.top_k) n = s->opt.top_k;
        total = weigh(s, n, best);
        if (has_top_p(s)) n = cut_top_p(s, n, total);
        return cut_min_p(s, n, best);
    }
    if (!has_top_p(s)) return gather(s, logits, best, depth(s));
    n = gather(s, logits, best, REACH);
    total = weigh(s, n, best);
    if (s->opt.min_p > 0) n = gather(s, logits, best, depth(s));
    return take_top_p(s, n, best, total);
}

int32_t crl_sampler_pick(struct crl_sampler *s, float *logits)
{
    int32_t id;
    size_t n;

    if (s->count) punish(s, logits);
    id = find_best(logits, s->vocab);
    if (id < 0) return -1;
    if (s->opt.temperature > 0 && isfinite(logits[id])) { /* an infinite best leaves no choice */
        float best = logits[id];
        n = filter(s, logits, best);
        id = draw(s, n, weigh(s, n, best));
    }
    see(s, id);
    return id;
}
