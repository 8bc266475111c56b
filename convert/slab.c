/* slab.c - cutting, packing and comparing. */
#include "convert/slab.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

/* A slab of float32 rows and its packed bytes stay in the second-level cache of the core that works on them.
 * Two panels at least: gate-up matrices go by pairs. */
#define SLAB_BYTES ((size_t)1 << 20)

static size_t panels_per_slab(const struct crl_weight *w)
{
    size_t panel_bytes = (size_t)w->k * CRL_PANEL_ROWS * sizeof(float), n = 16;

    while (n > 2 && n * panel_bytes > SLAB_BYTES) n /= 2;
    return n;
}

static size_t rows_of(const struct crl_slab *b, const struct crl_weight *w)
{
    size_t first = b->panel * CRL_PANEL_ROWS, rows = b->n_panel * CRL_PANEL_ROWS;

    return first + rows > w->n ? w->n - first : rows;
}

enum crl_status crl_slabs_new(struct crl_slabs *s, const struct crl_schema *schema, struct crl_err *err)
{
    memset(s, 0, sizeof *s);
    s->schema = schema;
    crl_simd_select(&s->kern, CRL_LEVEL_ALL);
    s->first = crl_alloc(schema->n_weight + 1, sizeof *s->first);
    if (!s->first) return crl_fail(err, CRL_ENOMEM, "no memory for the list of work");
    for (size_t i = 0; i < schema->n_weight; i++) {
        const struct crl_weight *w = &schema->weight[i];
        size_t each = panels_per_slab(w), all = crl_n_panel(w->n);
        size_t panels = each < all ? each : all, rows = panels * CRL_PANEL_ROWS * crl_k_pad(w->k);
        size_t bytes = crl_kind_takes(w->kind, CRL_F32) ? (size_t)w->n * w->k * sizeof(float)
                                                        : panels * crl_panel_bytes(CRL_BF16, w->k);
        s->first[i] = s->n;
        s->n += (all + each - 1) / each;
        if (rows > s->most_rows) s->most_rows = rows;
        if (bytes > s->most_bytes) s->most_bytes = bytes; /* no other format is wider */
    }
    s->first[schema->n_weight] = s->n;
    return CRL_OK;
}

void crl_slabs_free(struct crl_slabs *s)
{
    crl_free(s->first);
    s->first = NULL;
}

struct crl_slab crl_slabs_at(const struct crl_slabs *s, uint64_t i)
{
    size_t lo = 0, hi = s->schema->n_weight; /* first[lo] <= i < first[hi] */
    struct crl_slab b;
    size_t each, all;

    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->first[mid] <= i) lo = mid;
        else hi = mid;
    }
    each = panels_per_slab(&s->schema->weight[lo]);
    all = crl_n_panel(s->schema->weight[lo].n);
    b.weight = lo;
    b.panel = (size_t)(i - s->first[lo]) * each;
    b.n_panel = all - b.panel < each ? all - b.panel : each;
    return b;
}

uint64_t crl_slab_offset(const struct crl_slab *b, const struct crl_weight *w, enum crl_format f)
{
    if (f == CRL_F32) return (uint64_t)b->panel * CRL_PANEL_ROWS * w->k * sizeof(float);
    return crl_mat_header_bytes(f) + (uint64_t)b->panel * crl_panel_bytes(f, w->k);
}

uint64_t crl_slab_bytes(const struct crl_slab *b, const struct crl_weight *w, enum crl_format f)
{
    if (f == CRL_F32) return (uint64_t)rows_of(b, w) * w->k * sizeof(float);
    return (uint64_t)b->n_panel * crl_panel_bytes(f, w->k);
}

/* Vectors of the compiler, as wide as every machine has them. */
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));

/* Are all n values (a multiple of 4) finite? Their exponents are not all ones. */
static bool all_finite(const float *x, size_t n)
{
    i32x4 bad = { 0 };

    for (size_t i = 0; i < n; i += 4) {
        i32x4 bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !(bad[0] | bad[1] | bad[2] | bad[3]);
}

static uint64_t drop_nonfinite(float *x, size_t n)
{
    uint64_t bad = 0;

    for (size_t at = 0; at < n; at += 1024) {
        size_t end = n - at < 1024 ? n : at + 1024;
        if ((end - at) % 4 == 0 && all_finite(x + at, end - at)) continue;
        for (size_t i = at; i < end; i++) {
            if (isfinite(x[i])) continue;
            x[i] = 0;
            bad++;
        }
    }
    return bad;
}

uint64_t crl_slab_pack(const struct crl_kernels *kern, const struct crl_slab *b, const struct crl_weight *w,
                       enum crl_format f, const int8_t level[16], const struct crl_q4_guide *guide, float *rows,
                       unsigned char *bytes)
{
    size_t n = rows_of(b, w), k = w->k;
    uint64_t bad = drop_nonfinite(rows, n * k);

    if (f == CRL_F32) {
        for (size_t i = 0; i < n * k; i++) crl_put_le32(bytes + 4 * i, crl_f32_bits(rows[i]));
        return bad;
    }
    for (size_t p = 0; p < b->n_panel; p++) {
        const float *row[CRL_PANEL_ROWS];
        for (size_t r = 0; r < CRL_PANEL_ROWS; r++) {
            size_t at = p * CRL_PANEL_ROWS + r;
            row[r] = crl_weight_has_row(w, b->panel * CRL_PANEL_ROWS + at) ? rows + at * k : NULL;
        }
        crl_simd_panel_pack(kern, f, bytes + p * crl_panel_bytes(f, k), row, k, level, guide);
    }
    return bad;
}

/* Added to every input's, in units of the mean: one whose weights here are 0 is not free. */
#define COST_FLOOR 0.01f

bool crl_slab_costs(const struct crl_slab *b, const struct crl_weight *w, const float *rows, float *cost)
{
    size_t n = rows_of(b, w), k = w->k;
    double total = 0;
    float mean;

    memset(cost, 0, crl_k_pad(k) * sizeof *cost);
    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < k; j++) {
            float v = rows[r * k + j] * 0x1p-20f; /* so that squares of finite weights stay finite where weights are sane */
            cost[j] += isfinite(v) ? v * v : 0;
        }
    for (size_t j = 0; j < k; j++) total += cost[j] = sqrtf(cost[j]);
    mean = (float)(total / (double)k);
    if (!(mean > 0) || !isfinite(mean)) return false;
    for (size_t j = 0; j < k; j++) cost[j] = cost[j] / mean + COST_FLOOR;
    return true;
}

static double sum4(f32x4 v)
{
    return ((double)v[0] + (double)v[2]) + ((double)v[1] + (double)v[3]);
}

/* Runs of 64 are added in float, eight sums side by side, and the runs in double: as exact as a report needs. */
#define RUN 64

static void compare(const float *a, const float *b, size_t n, struct crl_misfit *m)
{
    double err2 = 0, ref2 = 0;
    i32x4 most = { 0 }; /* magnitudes: their bits are ordered as they are */
    size_t at = 0;

    for (; at + RUN <= n; at += RUN) {
        f32x4 e[2] = { { 0 } }, r[2] = { { 0 } };
        for (size_t i = at; i < at + RUN; i += 4) {
            f32x4 x, y, d;
            i32x4 size, above;
            memcpy(&x, a + i, sizeof x);
            memcpy(&y, b + i, sizeof y);
            d = x - y;
            e[i / 4 % 2] += d * d;
            r[i / 4 % 2] += y * y;
            size = (i32x4)d & 0x7fffffff;
            above = size > most;
            most = (size & above) | (most & ~above);
        }
        err2 += sum4(e[0] + e[1]);
        ref2 += sum4(r[0] + r[1]);
    }
    for (; at < n; at++) {
        float d = a[at] - b[at];
        err2 += (double)d * d;
        ref2 += (double)b[at] * b[at];
        if (fabsf(d) > m->most) m->most = fabsf(d);
    }
    for (size_t i = 0; i < 4; i++) {
        float size = crl_f32_from_bits((uint32_t)most[i]);
        if (size > m->most) m->most = size;
    }
    m->err2 += err2;
    m->ref2 += ref2;
}

void crl_slab_misfit(const struct crl_slab *b, const struct crl_weight *w, enum crl_format f,
                     const int8_t level[16], const float *rows, const unsigned char *bytes, float *scratch,
                     struct crl_misfit *m)
{
    size_t n = rows_of(b, w), k = w->k;
    struct crl_mat mat = { .format = f, .n = b->n_panel * CRL_PANEL_ROWS, .k = k, .panel = bytes };

    mat.panel_bytes = f == CRL_F32 ? CRL_PANEL_ROWS * k * sizeof(float) : crl_panel_bytes(f, k);
    if (level) memcpy(mat.level, level, sizeof mat.level);
    for (size_t r = 0; r < n; r++) {
        if (!crl_weight_has_row(w, b->panel * CRL_PANEL_ROWS + r)) continue;
        crl_mat_row(&mat, r, scratch);
        compare(scratch, rows + r * k, k, m);
    }
}

double crl_misfit_rms(const struct crl_misfit *m)
{
    if (m->err2 == 0) return 0;
    return m->ref2 > 0 ? sqrt(m->err2 / m->ref2) : INFINITY;
}

void crl_misfit_add(struct crl_misfit *sum, const struct crl_misfit *m)
{
    sum->err2 += m->err2;
    sum->ref2 += m->ref2;
    if (m->most > sum->most) sum->most = m->most;
}
