/* kernels.c - a timing loop over the kernel table. */
#include "bench/kernels.h"

#include "bench/series.h"
#include "bench/synthetic.h"
#include "simd/probe.h"

#include <math.h>
#include <string.h>

#define K 2048    /* inputs */
#define PANELS 8  /* 128 outputs: 140 KiB of q4, 270 KiB of q8 */
#define MANY 32   /* rows of a prefill */
#define RUN_S 0.01
#define REPEAT 5

struct bed {
    struct crl_act fine, coarse; /* [MANY] beside q8 and beside q4 */
    float *x;           /* [MANY][K] */
    float *y;           /* [MANY][PANELS * 16] */
    float *out;         /* [K] */
    const float *row[CRL_PANEL_ROWS]; /* the first rows of x */
    unsigned char *packed;            /* one panel of any format */
    unsigned char *memory;
    struct crl_mat mat[CRL_FORMAT_END]; /* by format */
    unsigned char *weights[CRL_FORMAT_END];
};

static void bed_fini(struct bed *b)
{
    crl_free(b->memory);
    for (int f = 0; f < CRL_FORMAT_END; f++) crl_free(b->weights[f]);
}

static void place(struct bed *b, struct crl_arena *a)
{
    crl_act_place(&b->fine, a, CRL_Q8_SPAN, MANY, K);
    crl_act_place(&b->coarse, a, CRL_Q4_SPAN, MANY, K);
    b->x = crl_arena_take(a, MANY * K, sizeof *b->x);
    b->y = crl_arena_take(a, MANY * PANELS * CRL_PANEL_ROWS, sizeof *b->y);
    b->out = crl_arena_take(a, K, sizeof *b->out);
    b->packed = crl_arena_take(a, CRL_PANEL_ROWS * K, sizeof(float));
}

/* Panels of floats as the float32 cache has them: [k][16]. */
static enum crl_status make_float_panels(struct bed *b, struct crl_err *err)
{
    struct crl_mat *m = &b->mat[CRL_F32];
    size_t n = PANELS * CRL_PANEL_ROWS * K;
    float *w = crl_alloc(n, sizeof *w);

    b->weights[CRL_F32] = (unsigned char *)w;
    if (!w) return crl_fail(err, CRL_ENOMEM, "no memory for a matrix");
    for (size_t i = 0; i < n; i++) w[i] = b->x[i % (MANY * K)];
    m->format = CRL_F32;
    m->n = PANELS * CRL_PANEL_ROWS;
    m->k = K;
    m->panel = b->weights[CRL_F32];
    m->panel_bytes = CRL_PANEL_ROWS * K * sizeof(float);
    return CRL_OK;
}

static enum crl_status make_matrix(struct bed *b, enum crl_format f, struct crl_err *err)
{
    size_t head = crl_mat_header_bytes(f), panel = crl_panel_bytes(f, K);
    uint64_t seed = f;
    unsigned char *p = crl_alloc(1, head + PANELS * panel);

    b->weights[f] = p;
    if (!p) return crl_fail(err, CRL_ENOMEM, "no memory for a matrix");
    if (head) crl_mat_header_put(f, p, crl_q4_level_default);
    for (size_t i = 0; i < PANELS; i++) crl_synthetic_panel(f, p + head + i * panel, K, &seed);
    crl_mat_bind(&b->mat[f], f, PANELS * CRL_PANEL_ROWS, K, p);
    return CRL_OK;
}

static enum crl_status bed_init(struct bed *b, struct crl_err *err)
{
    struct crl_arena a = { NULL, 0, 0, false };
    enum crl_status st = CRL_OK;
    uint32_t seed = 1;

    memset(b, 0, sizeof *b);
    place(b, &a);
    b->memory = crl_alloc(1, a.used);
    if (!b->memory) return crl_fail(err, CRL_ENOMEM, "no memory to time kernels in");
    a = (struct crl_arena){ b->memory, 0, a.used, false };
    place(b, &a);
    for (size_t i = 0; i < (size_t)MANY * K; i++) {
        seed = seed * 1664525u + 1013904223u;
        b->x[i] = (float)(seed >> 8) * 0x1p-23f - 1;
    }
    for (size_t i = 0; i < MANY; i++) {
        crl_act_row_scalar(&b->fine, i, b->x + i * K, K);
        crl_act_row_scalar(&b->coarse, i, b->x + i * K, K);
    }
    memcpy(b->out, b->x, K * sizeof *b->out);
    for (size_t i = 0; i < CRL_PANEL_ROWS; i++) b->row[i] = b->x + i * K;
    st = make_float_panels(b, err);
    for (int f = CRL_BF16; !st && f < CRL_FORMAT_END; f++) st = make_matrix(b, (enum crl_format)f, err);
    return st;
}

/* One call of a kernel on m rows. */
typedef void call_fn(const struct bed *b, const struct crl_kernel_row *row, size_t m);

static void call_act(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    for (size_t i = 0; i < m; i++) ((crl_act_row_fn *)row->fn)(&b->coarse, i, b->x + i * K, K);
}

static void call_q8(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    ((crl_gemm_q_fn *)row->fn)(b->y, PANELS * CRL_PANEL_ROWS, &b->fine, m, &b->mat[CRL_Q8], 0, PANELS);
}

static void call_q4(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    ((crl_gemm_q_fn *)row->fn)(b->y, PANELS * CRL_PANEL_ROWS, &b->coarse, m, &b->mat[CRL_Q4], 0, PANELS);
}

static void call_bf16(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    ((crl_gemm_f_fn *)row->fn)(b->y, PANELS * CRL_PANEL_ROWS, b->x, K, m, &b->mat[CRL_BF16], 0, PANELS);
}

static void call_f32(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    ((crl_gemm_f_fn *)row->fn)(b->y, PANELS * CRL_PANEL_ROWS, b->x, K, m, &b->mat[CRL_F32], 0, PANELS);
}

static void call_norm(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    for (size_t i = 0; i < m; i++) ((crl_rms_norm_fn *)row->fn)(b->out, b->x + i * K, NULL, K, 1e-5f);
}

static void call_swiglu(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < K; j += 64) ((crl_swiglu_fn *)row->fn)(b->out + j / 2, b->x + i * K + j);
}

/* The same scores again and again: what one call leaves, between 0 and 1, is as good as what it found. */
static void call_softmax(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    for (size_t i = 0; i < m; i++) {
        float max = -INFINITY, all = 0;
        ((crl_softmax_fn *)row->fn)(b->out, K, 1, true, &max, &all);
    }
}

static void call_rotate(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    for (size_t i = 0; i < m; i++) ((crl_rotate_fn *)row->fn)(b->out, b->x, K / 2);
}

static void call_blend(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    static const float keep[MANY];

    ((crl_blend_fn *)row->fn)(b->y, b->x, keep, NULL, m, PANELS * CRL_PANEL_ROWS);
}

static void call_layer_norm(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    for (size_t i = 0; i < m; i++) ((crl_layer_norm_fn *)row->fn)(b->out, b->x + i * K, b->x, b->x, K, 1e-5f);
}

/* Again and again the same values: they end near 0, which takes as long as any other. */
static void call_gelu(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    for (size_t i = 0; i < m; i++) ((crl_gelu_fn *)row->fn)(b->out, NULL, K);
}

static void call_pack_q8(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    (void)m;
    ((crl_pack_q8_fn *)row->fn)(b->packed, b->row, K);
}

static void call_pack_q4(const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    (void)m;
    ((crl_pack_q4_fn *)row->fn)(b->packed, b->row, K, crl_q4_level_default, NULL);
}

/* What is known about an operation: how to call it, what it reads, what it is held against. */
static const struct timed_op {
    const char *op;
    call_fn *call;
    enum crl_format format; /* of its weights; 0: it has none and reads floats */
    bool int8;
    bool panel;             /* works on 16 rows whatever m is: timed once */
} timed_op[] = {
    { "act_row", call_act, 0, false, false },
    { "gemm_q8", call_q8, CRL_Q8, true, false },
    { "gemm_q4", call_q4, CRL_Q4, true, false },
    { "gemm_bf16", call_bf16, CRL_BF16, false, false },
    { "gemm_f32", call_f32, CRL_F32, false, false },
    { "cache_bf16", call_bf16, CRL_BF16, false, false },
    { "rms_norm", call_norm, 0, false, false },
    { "swiglu", call_swiglu, 0, false, false },
    { "rotate", call_rotate, 0, false, false },
    { "softmax", call_softmax, 0, false, false },
    { "blend", call_blend, 0, false, false },
    { "layer_norm", call_layer_norm, 0, false, false },
    { "gelu", call_gelu, 0, false, false },
    { "pack_q8", call_pack_q8, 0, false, true },
    { "pack_q4", call_pack_q4, 0, false, true },
};

static const struct timed_op *find_op(const char *name)
{
    for (size_t i = 0; i < sizeof timed_op / sizeof *timed_op; i++)
        if (!strcmp(timed_op[i].op, name)) return &timed_op[i];
    return NULL;
}

/* Seconds per call, median. */
static double time_call(const struct bed *b, const struct timed_op *op, const struct crl_kernel_row *row, size_t m)
{
    struct crl_series s = { 0 };
    size_t calls = 1;
    double seconds = 0;

    for (;;) { /* how many calls fill the time */
        double start = crl_seconds();
        for (size_t i = 0; i < calls; i++) op->call(b, row, m);
        seconds = crl_seconds() - start;
        if (seconds > RUN_S / 4) break;
        calls *= 4;
    }
    calls = (size_t)((double)calls * RUN_S / seconds) + 1;
    for (int r = 0; r < REPEAT; r++) {
        double start = crl_seconds();
        for (size_t i = 0; i < calls; i++) op->call(b, row, m);
        crl_series_add(&s, (crl_seconds() - start) / (double)calls);
    }
    return crl_series_stat(&s).median;
}

/* Operations per second of the limit of one level, 0 when that level has no probe of its own. */
static double limit(enum crl_level level, bool int8)
{
    struct crl_probe p;
    struct crl_series s = { 0 };
    uint64_t value;
    size_t rounds = 20000;

    crl_probe_select(&p, (2u << level) - 1);
    for (int r = 0; r < REPEAT; r++) {
        double start = crl_seconds();
        uint64_t ops = int8 ? p.int8(rounds, &value) : p.f32(rounds, &value);
        crl_series_add(&s, (double)ops / (crl_seconds() - start));
    }
    return crl_series_stat(&s).median;
}

static void time_row(struct crl_kernel_speed *to, const struct bed *b, const struct crl_kernel_row *row, size_t m)
{
    const struct timed_op *op = find_op(row->op);
    double seconds;

    *to = (struct crl_kernel_speed){ .row = row };
    if (!op) return;
    if (op->panel) m = CRL_PANEL_ROWS;
    to->m = m;
    seconds = time_call(b, op, row, m);
    if (!op->format) {
        to->bytes_per_s = (double)m * K * sizeof(float) / seconds;
        return;
    }
    to->bytes_per_s = (double)PANELS * (double)b->mat[op->format].panel_bytes / seconds;
    to->ops_per_s = 2.0 * (double)m * K * PANELS * CRL_PANEL_ROWS / seconds;
    to->fraction = to->ops_per_s / limit(row->level, op->int8);
}

enum crl_status crl_kernels_time(struct crl_kernel_speed **list, size_t *n, unsigned mask, struct crl_err *err)
{
    size_t n_row;
    const struct crl_kernel_row *row = crl_simd_rows(&n_row);
    struct crl_kernel_speed *speed = crl_alloc(2 * n_row, sizeof *speed);
    struct bed b;
    enum crl_status st = speed ? bed_init(&b, err) : crl_fail(err, CRL_ENOMEM, "no memory for a list of kernels");

    *list = NULL;
    *n = 0;
    for (size_t i = 0; !st && i < n_row; i++) {
        if (!(mask & crl_simd_have() & 1u << row[i].level)) continue;
        time_row(&speed[(*n)++], &b, &row[i], 1);
        if (speed[*n - 1].m == 1) time_row(&speed[(*n)++], &b, &row[i], MANY);
    }
    if (speed) bed_fini(&b);
    if (st) crl_free(speed);
    else *list = speed;
    return st;
}
