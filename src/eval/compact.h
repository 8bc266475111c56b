/* compact.h - a next-token distribution in a few hundred bytes, and its divergence from another one.
 *
 * Kept are the k most likely tokens, the mass P of all others (the tail), and m tokens drawn from the tail in proportion
 * to their probability. k is the least number for which P is at most what the parameters say, up to k_max. With the
 * distribution q of another model known in full, docs/format-reference.md shows:
 *
 *     coarse <= KL(p || q) <= coarse + P R^2 / 8
 *
 * where coarse is the divergence with the tail taken as one token and R the range of log(q / p) over the tail; and that
 * the m draws give an unbiased estimate of the rest. */
#ifndef CRL_EVAL_COMPACT_H
#define CRL_EVAL_COMPACT_H

#include "simd/kernels.h"

#include <stdint.h>

#define CRL_COMPACT_LOG_STEP 524288 /* steps per nat of a stored log probability: 2^19 */
#define CRL_COMPACT_FIXED 10        /* bytes of a record before routes, entries and draws */
#define CRL_COMPACT_RANGE 2.0       /* R that bounds are stated for, nats */

struct crl_compact_params {
    uint32_t vocab;
    uint32_t k_max;    /* 1 to 65535 */
    uint32_t n_draw;   /* m, 0 to 255 */
    float tail;        /* mass that the tail may have, unless k_max is reached */
    uint32_t n_route;  /* experts noted per position */
    uint32_t n_expert;
};

/* Bytes of an id, and of an expert's number. */
static inline size_t crl_compact_id_bytes(const struct crl_compact_params *p)
{
    return p->vocab <= 65536 ? 2 : 3;
}

static inline size_t crl_compact_route_bytes(const struct crl_compact_params *p)
{
    return p->n_expert <= 256 ? 1 : 2;
}

/* A record as it lies in the file. Pointers go into the file. */
struct crl_compact {
    uint32_t k, n_draw;
    float target; /* log probability of the token that came */
    float tail;   /* mass */
    const unsigned char *route, *entry, *draw;
    size_t bytes;
};

/* Most bytes a record can have. */
size_t crl_compact_most(const struct crl_compact_params *p);

/* Find the record at p[0 .. left); CRL_EFORMAT when it does not lie inside or breaks a rule of the format. stamp:
 * [vocab], below `mark` everywhere; set to `mark` for tokens kept. */
enum crl_status crl_compact_read(struct crl_compact *c, const struct crl_compact_params *p, const unsigned char *at,
                                 uint64_t left, uint32_t *stamp, uint32_t mark, struct crl_err *err);

/* Entry i, most likely first; or draw i from `draw`. *log_p is not above 0. */
static inline uint32_t crl_compact_entry(const struct crl_compact_params *p, const unsigned char *from, size_t i,
                                         double *log_p)
{
    size_t wide = crl_compact_id_bytes(p);
    const unsigned char *b = from + i * (wide + 3);
    uint32_t id = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (wide == 3 ? (uint32_t)b[2] << 16 : 0);

    b += wide;
    *log_p = -(double)((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16) / CRL_COMPACT_LOG_STEP;
    return id;
}

static inline uint32_t crl_compact_route(const struct crl_compact_params *p, const struct crl_compact *c, size_t i)
{
    const unsigned char *b = c->route + i * crl_compact_route_bytes(p);

    return crl_compact_route_bytes(p) == 1 ? b[0] : (uint32_t)b[0] | (uint32_t)b[1] << 8;
}

/* Memory of one thread that makes or compares records. */
struct crl_compact_scratch {
    float *weight;   /* [vocab] */
    uint32_t *order; /* [vocab]; only for making */
};

/* Make the record of a row of logits [vocab] at `to`, which has room for crl_compact_most; bytes written. route:
 * [n_route]. The draws depend on seed alone. Logits that are not numbers give a record that crl_compact_read refuses. */
size_t crl_compact_make(unsigned char *to, const struct crl_compact_params *p, const struct crl_kernels *kern,
                        const float *logits, int32_t target, const uint16_t *route, uint64_t seed,
                        struct crl_compact_scratch *s);

/* What another model's logits say about a record. */
struct crl_divergence {
    double kl;      /* estimate: coarse + what the draws add */
    double coarse;  /* lower bound */
    double range;   /* of log(q / p) over the draws; 0 with fewer than two */
    double nll;     /* of the token that came, under q */
    double p_shift; /* its probability under q less that under p */
    bool same_top;
};

/* logits [vocab] are used up. */
void crl_compact_compare(struct crl_divergence *d, const struct crl_compact_params *p, const struct crl_compact *c,
                         const struct crl_kernels *kern, float *logits, int32_t target, struct crl_compact_scratch *s);

#endif
