/* calibrate.c - observing the inputs of all matrices. */
#include "eval/calibrate.h"

#include "base/mem.h"
#include "eval/sweep.h"

#include <stdlib.h>
#include <string.h>

struct collector {
    const struct crl_calib_layout *layout;
    unsigned char *image;
    float **partial; /* [members][span * span] */
};

#define LANES 16

/* part[i][j] = sum of x[r][i] x[r][j] over n rows, j <= i < width; part has rows of `width` floats. Four rows at a
 * time; j runs over whole lanes, what lies past the diagonal is not used. */
static void multiply(float *part, uint32_t width, const float *x, size_t stride, size_t n)
{
    memset(part, 0, (size_t)width * width * sizeof *part);
    for (size_t r = 0; r < n; r += 4) {
        const float *x0 = x + r * stride, *x1 = r + 1 < n ? x0 + stride : NULL, *x2 = r + 2 < n ? x1 + stride : NULL,
                    *x3 = r + 3 < n ? x2 + stride : NULL;
        for (uint32_t i = 0; i < width; i++) {
            float a0 = x0[i], a1 = x1 ? x1[i] : 0, a2 = x2 ? x2[i] : 0, a3 = x3 ? x3[i] : 0;
            float *to = part + (size_t)i * width;
            const float *b1 = x1 ? x1 : x0, *b2 = x2 ? x2 : x0, *b3 = x3 ? x3 : x0;
            uint32_t j = 0;

            for (; j + LANES <= width && j <= i; j += LANES)
                for (uint32_t c = j; c < j + LANES; c++)
                    to[c] += a0 * x0[c] + a1 * b1[c] + a2 * b2[c] + a3 * b3[c];
            for (; j <= i; j++) to[j] += a0 * x0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j];
        }
    }
}

static float *floats_at(const struct collector *c, uint64_t offset)
{
    return (float *)(void *)(c->image + offset);
}

static float *sums_of(const struct collector *c, const struct crl_calib_record *r)
{
    return floats_at(c, r->offset + CRL_CALIB_COUNT_BYTES);
}

static float *products_of(const struct collector *c, const struct crl_calib_record *r)
{
    return r->sums ? sums_of(c, r) + r->k : floats_at(c, r->offset);
}

/* Inputs [first, first + width) of a record: squares, and products where it has them or its layer's experts do. */
static void add_span(const struct collector *c, const struct crl_calib_record *sums,
                     const struct crl_calib_record *products, float *part, uint32_t first, uint32_t width,
                     const float *x, size_t stride, size_t n)
{
    float *to = sums_of(c, sums) + first;

    if (!products) {
        for (uint32_t i = 0; i < width; i++) part[i] = 0;
        for (size_t r = 0; r < n; r++)
            for (uint32_t i = 0; i < width; i++) part[i] += x[r * stride + first + i] * x[r * stride + first + i];
        for (uint32_t i = 0; i < width; i++) to[i] += part[i];
        return;
    }
    multiply(part, width, x + first, stride, n);
    for (uint32_t i = 0; i < width; i++) to[i] += part[(size_t)i * width + i];
    to = products_of(c, products) + crl_calib_n_product(first, c->layout->span);
    for (uint32_t i = 1; i < width; i++)
        for (uint32_t j = 0; j < i; j++) *to++ += part[(size_t)i * width + j];
}

/* Every member takes every so manieth span of the inputs. */
static void see(void *ctx, const struct crl_member *me, enum crl_kind kind, uint32_t layer, int32_t expert,
                const float *x, size_t stride, size_t n)
{
    const struct collector *c = ctx;
    const struct crl_calib_layout *l = c->layout;
    int32_t of = kind == CRL_KIND_HEAD ? -1 : (int32_t)layer;
    const struct crl_calib_record *r = &l->record[crl_calib_find(l, kind, of, expert)], *products = r;
    uint32_t span = l->span ? l->span : CRL_CALIB_SPAN_MAX;

    if (expert >= 0 && l->span) products = &l->record[crl_calib_find(l, kind, of, -1)];
    if (!l->span) products = NULL;
    if (me->id == 0) {
        uint64_t count;
        memcpy(&count, c->image + r->offset, sizeof count);
        count += n;
        memcpy(c->image + r->offset, &count, sizeof count);
    }
    for (uint32_t first = me->id * span; first < r->k; first += me->n * span)
        add_span(c, r, products, c->partial[me->id], first, r->k - first < span ? r->k - first : span, x, stride, n);
}

/* --- which model ---------------------------------------------------------------------------------------------- */

static enum crl_status norm_of(void *ctx, size_t weight, float *out, struct crl_err *err)
{
    struct crl_mat m;

    (void)err;
    crl_pack_mat(ctx, weight, &m);
    crl_mat_row(&m, 0, out);
    return CRL_OK;
}

enum crl_status crl_calibrate_model_id(uint64_t *id, const struct crl_engine *e, struct crl_err *err)
{
    const struct crl_pack *p = crl_engine_pack(e);

    return crl_calib_model_id(id, crl_pack_schema(p), norm_of, (void *)(uintptr_t)p, err);
}

/* --- the whole ------------------------------------------------------------------------------------------------ */

static int by_rows(const void *a, const void *b)
{
    const struct crl_calibrate_expert *x = a, *y = b;

    if (x->rows != y->rows) return x->rows < y->rows ? -1 : 1;
    if (x->layer != y->layer) return x->layer < y->layer ? -1 : 1;
    return x->expert < y->expert ? -1 : x->expert > y->expert;
}

static enum crl_status tell(const struct collector *c, struct crl_calibrate_report *r, struct crl_err *err)
{
    r->poor = crl_alloc(c->layout->n, sizeof *r->poor);
    if (!r->poor) return crl_fail(err, CRL_ENOMEM, "no memory for the list of experts");
    for (size_t i = 0; i < c->layout->n; i++) {
        const struct crl_calib_record *rec = &c->layout->record[i];
        uint64_t rows;
        if (rec->kind != CRL_KIND_EXPERT_GATE_UP || rec->expert < 0) continue;
        memcpy(&rows, c->image + rec->offset, sizeof rows);
        r->n_expert++;
        if (rows < CRL_CALIBRATE_POOR)
            r->poor[r->n_poor++] =
                (struct crl_calibrate_expert){ (uint32_t)rec->layer, (uint32_t)rec->expert, rows };
    }
    if (r->n_poor) qsort(r->poor, r->n_poor, sizeof *r->poor, by_rows);
    return CRL_OK;
}

void crl_calibrate_report_free(struct crl_calibrate_report *r)
{
    if (!r) return;
    crl_free(r->poor);
    memset(r, 0, sizeof *r);
}

static void ignore_row(void *ctx, unsigned member, const struct crl_scored *row)
{
    (void)ctx;
    (void)member;
    (void)row;
}

static enum crl_status take_memory(struct collector *c, unsigned members, struct crl_err *err)
{
    c->image = c->layout->bytes <= SIZE_MAX ? crl_alloc((size_t)c->layout->bytes, 1) : NULL;
    c->partial = crl_alloc(members, sizeof *c->partial);
    for (unsigned i = 0; c->partial && i < members; i++) {
        c->partial[i] = crl_alloc((size_t)CRL_CALIB_SPAN_MAX * CRL_CALIB_SPAN_MAX, sizeof(float));
        if (!c->partial[i]) return crl_fail(err, CRL_ENOMEM, "no memory for partial sums");
    }
    if (c->image && c->partial) return CRL_OK;
    return crl_fail(err, CRL_ENOMEM, "no memory for %llu bytes of statistics; a smaller span needs less",
                    (unsigned long long)c->layout->bytes);
}

enum crl_status crl_calibrate(struct crl_engine *engine, const struct crl_corpus *corpus,
                              const struct crl_windows *windows, const struct crl_calibrate_options *o,
                              const char *path, struct crl_calibrate_report *report, struct crl_err *err)
{
    unsigned members = crl_team_size(crl_engine_team(engine));
    struct crl_calib_layout *layout;
    struct collector c = { 0 };
    struct crl_sweep sweep = { .engine = engine, .corpus = corpus, .windows = windows, .row = ignore_row,
                               .progress = o->progress, .progress_ctx = o->ctx };
    uint64_t id = 0;
    enum crl_status st = crl_calib_layout_new(&layout, crl_pack_config(crl_engine_pack(engine)), o->span, err);

    memset(report, 0, sizeof *report);
    c.layout = layout;
    if (!st) st = crl_calibrate_model_id(&id, engine, err);
    if (!st) st = take_memory(&c, members, err);
    if (!st) {
        crl_engine_tap_inputs(engine, see, &c);
        st = crl_sweep_run(&sweep, err);
        crl_engine_tap_inputs(engine, NULL, NULL);
    }
    if (!st) st = tell(&c, report, err);
    report->tokens = windows->n_fed;
    report->bytes = layout ? layout->bytes : 0;
    if (!st) st = crl_calib_write(path, layout, c.image, report->tokens, id, err);
    for (unsigned i = 0; c.partial && i < members; i++) crl_free(c.partial[i]);
    crl_free(c.partial);
    crl_free(c.image);
    crl_calib_layout_free(layout);
    return st;
}
