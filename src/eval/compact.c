/* compact.c - making, reading and comparing compact distributions. */
#include "eval/compact.h"

#include "base/bytes.h"
#include "eval/logsum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MOST 0xffffffu /* a stored log probability */
#define SUM_BLOCK 1024
#define BINS 512
#define BINS_PER_NAT 16
#define GONE (-1e30f) /* a logit that weighs nothing */

size_t crl_compact_most(const struct crl_compact_params *p)
{
    size_t k = p->k_max < p->vocab ? p->k_max : p->vocab;

    return CRL_COMPACT_FIXED + p->n_route * crl_compact_route_bytes(p) +
           (k + p->n_draw) * (crl_compact_id_bytes(p) + 3);
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static enum crl_status check_entries(const struct crl_compact *c, const struct crl_compact_params *p, uint32_t *stamp,
                                     uint32_t mark, struct crl_err *err)
{
    double before = 0, log_p, sum = (double)c->tail;

    for (size_t i = 0; i < c->k; i++) {
        uint32_t id = crl_compact_entry(p, c->entry, i, &log_p);
        if (id >= p->vocab || stamp[id] == mark)
            return crl_fail(err, CRL_EFORMAT, "entry %zu: id %u is outside the vocabulary or there twice", i, id);
        if (log_p > before) return crl_fail(err, CRL_EFORMAT, "entry %zu is more likely than the one before", i);
        stamp[id] = mark;
        before = log_p;
        sum += exp(log_p);
    }
    if (fabs(sum - 1) > 1e-3) return crl_fail(err, CRL_EFORMAT, "probabilities add up to %g", sum);
    for (size_t i = 0; i < c->n_draw; i++) {
        uint32_t id = crl_compact_entry(p, c->draw, i, &log_p);
        if (id >= p->vocab || stamp[id] == mark)
            return crl_fail(err, CRL_EFORMAT, "draw %zu: id %u is not in the tail", i, id);
    }
    for (size_t i = 0; i < p->n_route; i++)
        if (crl_compact_route(p, c, i) >= p->n_expert)
            return crl_fail(err, CRL_EFORMAT, "route %zu names expert %u of %u", i, crl_compact_route(p, c, i),
                            p->n_expert);
    return CRL_OK;
}

enum crl_status crl_compact_read(struct crl_compact *c, const struct crl_compact_params *p, const unsigned char *at,
                                 uint64_t left, uint32_t *stamp, uint32_t mark, struct crl_err *err)
{
    size_t wide = crl_compact_id_bytes(p) + 3, n_route = p->n_route * crl_compact_route_bytes(p);

    if (left < CRL_COMPACT_FIXED + n_route) return crl_fail(err, CRL_EFORMAT, "ends early");
    c->k = crl_le16(at);
    c->target = crl_f32_from_bits(crl_le32(at + 2));
    c->tail = crl_f32_from_bits(crl_le32(at + 6));
    if (!c->k || c->k > p->k_max || c->k > p->vocab)
        return crl_fail(err, CRL_EFORMAT, "keeps %u tokens, at most %u of %u are allowed", c->k, p->k_max, p->vocab);
    if (!(c->target <= 0) || !isfinite(c->target) || !(c->tail >= 0 && c->tail <= 1) ||
        (c->k == p->vocab && c->tail > 0))
        return crl_fail(err, CRL_EFORMAT, "log probability %g or tail %g out of range", (double)c->target,
                        (double)c->tail);
    c->n_draw = c->tail > 0 ? p->n_draw : 0;
    c->bytes = CRL_COMPACT_FIXED + n_route + (c->k + c->n_draw) * wide;
    if (left < c->bytes) return crl_fail(err, CRL_EFORMAT, "ends early");
    c->route = at + CRL_COMPACT_FIXED;
    c->entry = c->route + n_route;
    c->draw = c->entry + c->k * wide;
    return check_entries(c, p, stamp, mark, err);
}

/* --- making ------------------------------------------------------------------------------------------------------ */

static float largest(const float *x, size_t n)
{
    float max = x[0];

    for (size_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

/* weight[i] = exp(x[i] - max); their sum. */
static double weigh(const struct crl_kernels *kern, float *weight, const float *x, size_t n, float max)
{
    double sum = 0;

    memcpy(weight, x, n * sizeof *x);
    for (size_t at = 0; at < n; at += SUM_BLOCK) {
        float part = 0, same = max;
        kern->softmax(weight + at, n - at < SUM_BLOCK ? n - at : SUM_BLOCK, 1, false, &same, &part);
        sum += (double)part;
    }
    return sum;
}

static size_t bin_of(float x, float max)
{
    float d = (max - x) * BINS_PER_NAT;

    return d < BINS - 1 ? (size_t)d : BINS - 1;
}

/* Ids of tokens that are likely enough to be kept, among them all that will be. */
static size_t candidates(uint32_t *order, const float *x, const float *weight, size_t n, float max, double enough,
                         size_t k_max)
{
    double mass[BINS] = { 0 }, sum = 0;
    size_t count[BINS] = { 0 }, total = 0, last = 0, m = 0;

    for (size_t i = 0; i < n; i++) {
        size_t b = bin_of(x[i], max);
        mass[b] += (double)weight[i];
        count[b]++;
    }
    for (; last < BINS; last++) {
        sum += mass[last];
        total += count[last];
        if (sum >= enough || total >= k_max) break;
    }
    for (size_t i = 0; i < n; i++)
        if (bin_of(x[i], max) <= last) order[m++] = (uint32_t)i;
    return m;
}

/* Heap sort of ids by falling logit, rising id: qsort has no argument for the logits. */
static bool before(const float *x, uint32_t a, uint32_t b)
{
    return x[a] != x[b] ? x[a] > x[b] : a < b;
}

static void sink(uint32_t *id, const float *x, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        uint32_t t;
        if (child + 1 < n && before(x, id[child], id[child + 1])) child++;
        if (!before(x, id[i], id[child])) return;
        t = id[i];
        id[i] = id[child];
        id[child] = t;
    }
}

static void sort_ids(uint32_t *id, const float *x, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) sink(id, x, i, n);
    for (size_t end = n; end-- > 1;) {
        uint32_t t = id[0];
        id[0] = id[end];
        id[end] = t;
        sink(id, x, 0, end);
    }
}

static unsigned char *put_entry(unsigned char *to, const struct crl_compact_params *p, uint32_t id, double log_p)
{
    double steps = -log_p * CRL_COMPACT_LOG_STEP + 0.5;
    uint32_t v = steps < 0 ? 0 : steps < LOG_MOST ? (uint32_t)steps : LOG_MOST;

    *to++ = (unsigned char)id;
    *to++ = (unsigned char)(id >> 8);
    if (crl_compact_id_bytes(p) == 3) *to++ = (unsigned char)(id >> 16);
    *to++ = (unsigned char)v;
    *to++ = (unsigned char)(v >> 8);
    *to++ = (unsigned char)(v >> 16);
    return to;
}

static uint64_t next_random(uint64_t *state) /* SplitMix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* m tokens in proportion to their weights, one from each m-th part of the mass: each part's draw is uniform in it, so
 * the mean over all m is unbiased. */
static unsigned char *put_draws(unsigned char *to, const struct crl_compact_params *p, const float *x,
                                const float *weight, double mass, double log_sum, uint64_t seed)
{
    double sum = 0, want;
    uint32_t drawn = 0, last = 0;

    want = (double)(next_random(&seed) >> 11) * 0x1p-53 * mass / p->n_draw;
    for (uint32_t i = 0; i < p->vocab && drawn < p->n_draw; i++) {
        if (weight[i] <= 0) continue;
        last = i;
        sum += (double)weight[i];
        while (drawn < p->n_draw && sum > want) {
            to = put_entry(to, p, i, (double)x[i] - log_sum);
            drawn++;
            want = (drawn + (double)(next_random(&seed) >> 11) * 0x1p-53) * mass / p->n_draw;
        }
    }
    for (; drawn < p->n_draw; drawn++) to = put_entry(to, p, last, (double)x[last] - log_sum); /* rounding of sums */
    return to;
}

size_t crl_compact_make(unsigned char *to, const struct crl_compact_params *p, const struct crl_kernels *kern,
                        const float *logits, int32_t target, const uint16_t *route, uint64_t seed,
                        struct crl_compact_scratch *s)
{
    float max = largest(logits, p->vocab);
    double sum = weigh(kern, s->weight, logits, p->vocab, max), kept = 0, tail = 0, log_sum = (double)max + log(sum);
    double enough = sum * (1 - (double)p->tail);
    size_t n = candidates(s->order, logits, s->weight, p->vocab, max, enough, p->k_max), k = 0;
    unsigned char *at = to + CRL_COMPACT_FIXED;

    sort_ids(s->order, logits, n);
    while (k < n && k < p->k_max && (k == 0 || kept < enough)) kept += (double)s->weight[s->order[k++]];
    for (size_t i = 0; i < k; i++) s->weight[s->order[i]] = 0;
    for (size_t i = 0; i < p->vocab && k < p->vocab; i++) tail += (double)s->weight[i];
    crl_put_le16(to, (uint16_t)k);
    crl_put_le32(to + 2, crl_f32_bits((float)fmin(0, (double)logits[target] - log_sum)));
    crl_put_le32(to + 6, crl_f32_bits((float)(tail / sum)));
    for (size_t i = 0; i < p->n_route; i++) {
        *at++ = (unsigned char)route[i];
        if (crl_compact_route_bytes(p) == 2) *at++ = (unsigned char)(route[i] >> 8);
    }
    for (size_t i = 0; i < k; i++) at = put_entry(at, p, s->order[i], (double)logits[s->order[i]] - log_sum);
    if ((float)(tail / sum) > 0) at = put_draws(at, p, logits, s->weight, tail, log_sum, seed);
    return (size_t)(at - to);
}

/* --- comparing --------------------------------------------------------------------------------------------------- */

/* exp(x) - 1 - x: not negative, and exact near 0. */
static double bend(double x)
{
    return expm1(x) - x;
}

/* Is the reference's best token also q's? Ties go to the lowest id. kept: q's logits of the entries; in `logits` these
 * are gone. */
static bool top_is(const struct crl_compact_params *p, const struct crl_compact *c, const float *logits,
                   const float *kept)
{
    double unused;
    uint32_t top = crl_compact_entry(p, c->entry, 0, &unused);

    for (size_t i = 1; i < c->k; i++)
        if (kept[i] > kept[0] || (kept[i] == kept[0] && crl_compact_entry(p, c->entry, i, &unused) < top)) return false;
    for (uint32_t i = 0; i < top; i++)
        if (logits[i] >= kept[0]) return false;
    for (uint32_t i = top + 1; i < p->vocab; i++)
        if (logits[i] > kept[0]) return false;
    return !isnan(kept[0]);
}

/* What the tail adds to the coarse divergence, from the draws: the mean of bend(log(q / p) - log(Q / P)). */
static double draw_tail(struct crl_divergence *d, const struct crl_compact_params *p, const struct crl_compact *c,
                        const float *drawn, double log_sum, double log_tail)
{
    double shift = log_tail - log_sum - log((double)c->tail), lo = INFINITY, hi = -INFINITY, sum = 0, log_p;

    for (size_t i = 0; i < c->n_draw; i++) {
        double x;
        crl_compact_entry(p, c->draw, i, &log_p);
        x = (double)drawn[i] - log_sum - log_p;
        sum += bend(x - shift);
        lo = fmin(lo, x);
        hi = fmax(hi, x);
    }
    d->range = c->n_draw > 1 ? hi - lo : 0;
    return c->n_draw ? (double)c->tail * sum / c->n_draw : 0;
}

/* log(e^log_tail + sum of e^kept) */
static double add_kept(double log_tail, const float *kept, size_t k)
{
    double max = log_tail, sum = 0;

    for (size_t i = 0; i < k; i++) max = fmax(max, (double)kept[i]);
    for (size_t i = 0; i < k; i++) sum += exp((double)kept[i] - max);
    return max + log(sum + exp(log_tail - max));
}

void crl_compact_compare(struct crl_divergence *d, const struct crl_compact_params *p, const struct crl_compact *c,
                         const struct crl_kernels *kern, float *logits, int32_t target, struct crl_compact_scratch *s)
{
    double hit = (double)logits[target], log_sum, log_tail = -INFINITY, log_p, q_tail;
    float *kept = s->weight, drawn[256];

    for (size_t i = 0; i < c->n_draw; i++) drawn[i] = logits[crl_compact_entry(p, c->draw, i, &log_p)];
    for (size_t i = 0; i < c->k; i++) {
        uint32_t id = crl_compact_entry(p, c->entry, i, &log_p);
        kept[i] = logits[id];
        logits[id] = GONE;
    }
    d->same_top = top_is(p, c, logits, kept);
    if (c->k < p->vocab) log_tail = crl_log_sum_exp(kern, logits, p->vocab, NULL);
    log_sum = add_kept(log_tail, kept, c->k);
    q_tail = exp(log_tail - log_sum);
    d->coarse = c->tail > 0 ? (double)c->tail * bend(log_tail - log_sum - log((double)c->tail)) : q_tail;
    for (size_t i = 0; i < c->k; i++) {
        crl_compact_entry(p, c->entry, i, &log_p);
        d->coarse += exp(log_p) * bend((double)kept[i] - log_sum - log_p);
    }
    d->range = 0;
    d->kl = d->coarse + (c->tail > 0 ? draw_tail(d, p, c, drawn, log_sum, log_tail) : 0);
    d->nll = log_sum - hit;
    d->p_shift = exp(hit - log_sum) - exp((double)c->target);
}
