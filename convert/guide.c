/* guide.c - from sums and products of inputs to costs and shares of errors. docs/quality.md, "Calibration". */
#include "convert/guide.h"

#include "convert/convert.h"

#include "base/mem.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

/* Chosen by hand. Of the damping 0.1 was tried as well: divergence of the demo 0.00371, with 0.02 0.00366. */
#define PRIOR 64.0  /* rows that an expert's statistics are blended with, of its layer's experts together */
#define FLOOR 0.01  /* of the mean square of all inputs, added to each: an input not seen is not free */
#define DAMP 0.02   /* added to the correlation of an input with itself */
#define RETRIES 4   /* with ten times the damping each */
#define FACTORS 4   /* spans' shares kept, for other experts of the layer */

struct slot {
    struct crl_q4_guide guide;
    bool made, known;
    uint64_t done; /* slabs */
};

/* Shares of a record's inputs if all were of equal size, [k_pad][span]. */
struct factor {
    size_t record;
    float *share; /* NULL: free */
};

struct crl_guides {
    const struct crl_calib *calib;
    const struct crl_calib_layout *layout;
    const struct crl_slabs *slabs;
    struct slot *slot; /* [n_weight] */
    struct factor factor[FACTORS];
    unsigned next; /* factor to be replaced */
    pthread_mutex_t lock;
};

enum crl_status crl_guides_new(struct crl_guides **out, const struct crl_calib *calib, const struct crl_slabs *slabs,
                               struct crl_err *err)
{
    struct crl_guides *g = crl_alloc(1, sizeof *g);

    *out = NULL;
    if (g) {
        pthread_mutex_init(&g->lock, NULL);
        g->calib = calib;
        g->layout = calib ? crl_calib_layout_of(calib) : NULL;
        g->slabs = slabs;
        g->slot = crl_alloc(slabs->schema->n_weight, sizeof *g->slot);
        if (g->slot) {
            *out = g;
            return CRL_OK;
        }
    }
    crl_guides_free(g);
    return crl_fail(err, CRL_ENOMEM, "no memory for guides");
}

static void drop(struct slot *s)
{
    crl_free((void *)(uintptr_t)s->guide.importance);
    crl_free((void *)(uintptr_t)s->guide.feed);
    memset(s, 0, sizeof *s);
}

void crl_guides_free(struct crl_guides *g)
{
    if (!g) return;
    for (size_t i = 0; g->slot && i < g->slabs->schema->n_weight; i++) drop(&g->slot[i]);
    for (size_t i = 0; i < FACTORS; i++) crl_free(g->factor[i].share);
    crl_free(g->slot);
    pthread_mutex_destroy(&g->lock);
    crl_free(g);
}

uint64_t crl_guides_bytes(const struct crl_calib *calib, const struct crl_schema *schema, unsigned n)
{
    uint64_t k = 0;

    if (!calib) return 0;
    for (size_t i = 0; i < schema->n_weight; i++)
        if (schema->weight[i].k > k) k = schema->weight[i].k;
    return (n + 1 + FACTORS) * crl_k_pad(k) * (crl_calib_layout_of(calib)->span + 2) * sizeof(float);
}

/* --- shares ----------------------------------------------------------------------------------------------------- */

/* a = g g^T with g upper triangular, in place of a's upper half, from the last row to the first. */
static bool factorise(double *g, size_t n)
{
    for (size_t j = n; j-- > 0;) {
        const double *row = g + j * n;
        double d = row[j];

        for (size_t m = j + 1; m < n; m++) d -= row[m] * row[m];
        if (!(d > 1e-9)) return false;
        d = sqrt(d);
        g[j * n + j] = d;
        for (size_t i = 0; i < j; i++) {
            double s = g[i * n + j];
            for (size_t m = j + 1; m < n; m++) s -= g[i * n + m] * row[m];
            g[i * n + j] = s / d;
        }
    }
    return true;
}

/* With H = g g^T the best way to make up for an error of weight j by the weights after it, all before it being fixed, is
 * row j of g^-1 over its diagonal (GPTQ, arXiv 2210.17323, eq. 5, whose Cholesky factor of H^-1 is g^-1). */
bool crl_guide_shares(float *share, size_t stride, const double *r, size_t n, double damp, double *work)
{
    double *g = work, *u = work + n * n;

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) g[j * n + i] = r[i * n + j];
        g[i * n + i] = 1 + damp;
    }
    if (!factorise(g, n)) return false;
    for (size_t j = 0; j < n; j++) {
        memset(u, 0, n * sizeof *u);
        u[j] = 1; /* row j of g^-1, times its diagonal's inverse */
        for (size_t m = j; m < n; m++) {
            if (m > j) u[m] = -u[m] / g[m * n + m];
            for (size_t i = m + 1; i < n; i++) u[i] += (m == j ? 1 / g[j * n + j] : u[m]) * g[m * n + i];
        }
        for (size_t i = j + 1; i < n; i++) share[j * stride + i] = (float)(u[i] * g[j * n + j]);
    }
    return true;
}

/* --- guides ----------------------------------------------------------------------------------------------------- */

/* Sums of squares of all of a layer's experts together into sum[k]; returns their rows. */
static double pool(const struct crl_guides *g, const struct crl_calib_record *of, float *row, double *sum)
{
    double rows = 0;

    memset(sum, 0, of->k * sizeof *sum);
    for (int32_t e = 0;; e++) {
        size_t i = crl_calib_find(g->layout, of->kind, of->layer, e);
        if (i == CRL_NO_WEIGHT) return rows;
        crl_calib_sums(g->calib, i, row);
        rows += (double)crl_calib_count(g->calib, i);
        for (uint32_t j = 0; j < of->k; j++) sum[j] += row[j];
    }
}

/* Mean squares of a matrix's inputs in units of their mean, and into `sum` the sums that go with its products. False
 * when no row was seen or all were zero. */
static bool mean_squares(const struct crl_guides *g, size_t record, float *d, double *sum)
{
    const struct crl_calib_record *r = &g->layout->record[record];
    double count = (double)crl_calib_count(g->calib, record), rows = 0, total = 0;

    if (r->expert >= 0) rows = pool(g, r, d, sum);
    crl_calib_sums(g->calib, record, d);
    if (r->expert < 0)
        for (uint32_t j = 0; j < r->k; j++) sum[j] = d[j];
    if (count + rows == 0) return false;
    for (uint32_t j = 0; j < r->k; j++) {
        double v = r->expert < 0 ? d[j] / count : (d[j] + PRIOR * (sum[j] / rows)) / (count + PRIOR);
        d[j] = (float)v;
        total += v;
    }
    total /= r->k;
    if (!(total > 0) || !isfinite(total)) return false;
    for (uint32_t j = 0; j < r->k; j++) d[j] = (float)(d[j] / total + FLOOR);
    return true;
}

/* Correlations of the span at `first` from its products. */
static void correlate(const struct crl_guides *g, size_t record, const double *sum, uint32_t first, uint32_t n,
                      float *product, double *r)
{
    crl_calib_products(g->calib, record, first, product);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++) {
            double size = sqrt(sum[first + i]) * sqrt(sum[first + j]), v = size > 0 ? *product / size : 0;
            product++;
            r[i * n + j] = v > 1 ? 1 : v < -1 ? -1 : v;
        }
}

static enum crl_status make_factor(const struct crl_guides *g, size_t record, const double *sum, float *share,
                                   struct crl_err *err)
{
    const struct crl_calib_record *r = &g->layout->record[record];
    uint32_t span = g->layout->span;
    size_t square = (size_t)span * span;
    float *product = crl_alloc(square, sizeof *product);
    double *work = crl_alloc(3 * square, sizeof *work);

    for (uint32_t first = 0; product && work && first < r->k; first += span) {
        uint32_t n = r->k - first < span ? r->k - first : span;
        double damp = DAMP;
        bool done = false;

        correlate(g, record, sum, first, n, product, work);
        for (int t = 0; !done && t < RETRIES; t++, damp *= 10)
            done = crl_guide_shares(share + (size_t)first * span, span, work, n, damp, work + square);
        if (!done) memset(share + (size_t)first * span, 0, (size_t)n * span * sizeof *share);
    }
    crl_free(work);
    crl_free(product);
    return product && work ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a guide");
}

/* The shares of a record, made now or kept from before. */
static enum crl_status factor_of(struct crl_guides *g, size_t record, const double *sum, const float **share,
                                 struct crl_err *err)
{
    struct factor *f = &g->factor[g->next];
    enum crl_status st;

    for (size_t i = 0; i < FACTORS; i++)
        if (g->factor[i].share && g->factor[i].record == record) {
            *share = g->factor[i].share;
            return CRL_OK;
        }
    crl_free(f->share);
    f->record = record;
    f->share = crl_alloc(crl_k_pad(g->layout->record[record].k) * g->layout->span, sizeof *f->share);
    st = f->share ? make_factor(g, record, sum, f->share, err) : crl_fail(err, CRL_ENOMEM, "no memory for a guide");
    if (st) {
        crl_free(f->share);
        f->share = NULL;
        return st;
    }
    g->next = (g->next + 1) % FACTORS;
    *share = f->share;
    return CRL_OK;
}

/* Shares for inputs of their real sizes. */
static enum crl_status make_feed(struct crl_guides *g, struct crl_q4_guide *out, const struct crl_calib_record *r,
                                 const double *sum, struct crl_err *err)
{
    uint32_t span = g->layout->span;
    const float *share = NULL, *d = out->importance;
    float *feed;
    enum crl_status st = factor_of(g, crl_calib_find(g->layout, r->kind, r->layer, -1), sum, &share, err);

    if (st) return st;
    out->span = span;
    out->feed = feed = crl_alloc(crl_k_pad(r->k) * span, sizeof *feed);
    if (!feed) return crl_fail(err, CRL_ENOMEM, "no memory for a guide");
    for (size_t j = 0; j < r->k; j++) {
        size_t first = j / span * span;
        for (size_t i = j + 1; i < first + span && i < r->k; i++)
            feed[j * span + i - first] = share[j * span + i - first] * sqrtf(d[j] / d[i]);
    }
    return CRL_OK;
}

static enum crl_status make(struct crl_guides *g, struct slot *s, size_t record, struct crl_err *err)
{
    const struct crl_calib_record *r = &g->layout->record[record];
    float *d = crl_alloc(crl_k_pad(r->k), sizeof *d);
    double *sum = crl_alloc(r->k, sizeof *sum);
    enum crl_status st = d && sum ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a guide");

    s->guide.importance = d;
    if (!st) s->known = mean_squares(g, record, d, sum);
    if (!st && s->known && g->layout->span) st = make_feed(g, &s->guide, r, sum, err);
    crl_free(sum);
    if (st) drop(s);
    else s->made = true;
    return st;
}

/* --- the statistics of a checkpoint --------------------------------------------------------------------------- */

static enum crl_status norm_of(void *ctx, size_t weight, float *out, struct crl_err *err)
{
    const struct crl_ckpt *ck = ctx;
    size_t k = crl_ckpt_schema(ck)->weight[weight].k;
    float *rows = crl_alloc(CRL_PANEL_ROWS * k, sizeof *rows);
    enum crl_status st = rows ? crl_ckpt_read(ck, weight, 0, 1, rows, err) : crl_fail(err, CRL_ENOMEM, "no memory");

    if (!st) memcpy(out, rows, k * sizeof *out);
    crl_free(rows);
    return st;
}

enum crl_status crl_convert_calibration(struct crl_calib **calib, const struct crl_ckpt *ck, const char *path,
                                        struct crl_err *err)
{
    uint64_t id = 0;
    enum crl_status st = crl_calib_model_id(&id, crl_ckpt_schema(ck), norm_of, (void *)(uintptr_t)ck, err);

    *calib = NULL;
    return st ? st : crl_calib_open(calib, path, crl_ckpt_config(ck), id, err);
}

/* --- taking ------------------------------------------------------------------------------------------------------ */

/* The head of a tied model is its embedding table. */
static size_t record_of(const struct crl_guides *g, const struct crl_weight *w)
{
    bool head = w->kind == CRL_KIND_EMBED && g->slabs->schema->cfg.tied;

    return crl_calib_find(g->layout, head ? CRL_KIND_HEAD : w->kind, w->layer, w->expert);
}

enum crl_status crl_guides_take(struct crl_guides *g, size_t weight, const struct crl_q4_guide **guide,
                                struct crl_err *err)
{
    enum crl_status st = CRL_OK;
    size_t record = g->calib ? record_of(g, &g->slabs->schema->weight[weight]) : CRL_NO_WEIGHT;
    struct slot *s = &g->slot[weight];

    *guide = NULL;
    if (record == CRL_NO_WEIGHT) return CRL_OK;
    pthread_mutex_lock(&g->lock);
    if (!s->made) st = make(g, s, record, err);
    if (!st && s->known) *guide = &s->guide;
    pthread_mutex_unlock(&g->lock);
    return st;
}

void crl_guides_leave(struct crl_guides *g, size_t weight)
{
    struct slot *s = &g->slot[weight];

    pthread_mutex_lock(&g->lock);
    if (++s->done == g->slabs->first[weight + 1] - g->slabs->first[weight]) drop(s);
    pthread_mutex_unlock(&g->lock);
}
