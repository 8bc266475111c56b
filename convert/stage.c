/* stage.c - reading the bytes of rows, and widening them. */
#include "convert/stage.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "convert/ckpt_impl.h"

#include <math.h>
#include <string.h>

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t up_div(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

/* --- where things lie -------------------------------------------------------------------------------- */

/* The share of one piece in rows [lo, hi) of a part. In memory the blocks of the pieces follow each other. */
struct block {
    uint32_t r0, n_row;   /* rows of the part */
    uint32_t i0, n_input; /* inputs */
    uint64_t pitch;       /* bytes in memory from one row (input-major: input) to the next */
    uint64_t bytes;       /* in memory */
    uint64_t offset;      /* in the file, of the first byte */
    uint64_t step;        /* bytes in the file from one row (input) to the next */
    uint64_t run;         /* bytes to read at each step */
    const struct crl_in *in;
};

static size_t code_bytes(const struct crl_part *p)
{
    return p->code == CRL_CODE_PLAIN ? crl_st_type_bytes(p->e->t->type) : 4;
}

static uint64_t row_bytes(const struct crl_part *p, uint32_t n_input)
{
    if (p->code == CRL_CODE_INT4) return 4 * (uint64_t)up_div(n_input, 8);
    if (p->code == CRL_CODE_INT8) return 4 * (uint64_t)up_div(n_input, 4);
    return (uint64_t)n_input * crl_st_type_bytes(p->e->t->type);
}

/* The bytes of a part and a run of rows. False when piece q has no share. */
static bool block_at(struct block *b, const struct crl_part *p, const struct crl_stage_part *s, uint32_t q)
{
    uint32_t rows = p->by_input ? p->n : p->n / p->n_piece, inputs = p->by_input ? p->k / p->n_piece : p->k;
    uint32_t first = p->by_input ? 0 : q * rows, hi;
    size_t size = code_bytes(p);

    memset(b, 0, sizeof *b);
    b->r0 = s->lo > first ? s->lo : first;
    hi = least(s->hi, first + rows);
    if (b->r0 >= hi) return false;
    b->n_row = hi - b->r0;
    b->i0 = p->by_input ? q * inputs : 0;
    b->n_input = inputs;
    b->in = p->e[q].in;
    b->step = p->stride * size;
    b->offset = p->e[q].t->offset + p->at * size + (b->r0 - first) * (p->input_major ? size : b->step);
    if (!p->input_major) {
        b->run = b->pitch = row_bytes(p, inputs);
        b->bytes = b->n_row * b->pitch;
    } else {
        b->run = b->n_row * (uint64_t)size;
        b->pitch = s->whole ? b->step : b->run;
        b->bytes = (inputs - 1) * b->pitch + b->run;
    }
    return true;
}

static uint64_t scale_bytes(const struct crl_part *p, const struct crl_stage_part *s, uint64_t *offset)
{
    const struct crl_scale *c = &p->scale;
    uint64_t size, lo, n_row, n_input, first, count;

    if (!c->e || s->lo >= s->hi) return 0;
    size = crl_st_type_bytes(c->e->t->type);
    n_input = up_div(p->k, c->inputs);
    lo = s->lo / c->rows;
    n_row = (s->hi - 1) / c->rows + 1 - lo;
    first = c->at + (c->input_major ? lo : lo * c->stride);
    count = c->input_major ? (n_input - 1) * c->stride + n_row : (n_row - 1) * c->stride + n_input;
    *offset = c->e->t->offset + first * size;
    return count * size;
}

static void plan_part(struct crl_stage *s, const struct crl_part *p, struct crl_stage_part *t)
{
    struct block b;
    uint64_t unused;

    t->base = s->bytes;
    for (uint32_t q = 0; q < p->n_piece; q++)
        if (block_at(&b, p, t, q)) s->bytes += (size_t)b.bytes;
    s->bytes = crl_round_up(s->bytes, CRL_ALIGN);
    t->scale = s->bytes;
    s->bytes = crl_round_up(s->bytes + (size_t)scale_bytes(p, t, &unused), CRL_ALIGN);
}

void crl_stage_plan(struct crl_stage *s, const struct crl_ckpt *ck, size_t weight, size_t panel,
                    size_t n_panel)
{
    const struct crl_weight *w = &ck->schema->weight[weight];
    const struct crl_part *p = ck->origin[weight].part;
    unsigned spread = crl_weight_is_gate_up(w) ? 2 : 1;

    memset(s, 0, sizeof *s);
    s->weight = weight;
    s->panel = panel;
    s->n_panel = n_panel;
    for (unsigned i = 0; i < spread; i++) {
        struct crl_stage_part *t = &s->part[i];
        t->lo = least((uint32_t)(panel / spread * CRL_PANEL_ROWS), p[i].n);
        t->hi = least((uint32_t)((panel + n_panel) / spread * CRL_PANEL_ROWS), p[i].n);
        t->whole = p[i].input_major && 2 * (uint64_t)(t->hi - t->lo) > p[i].stride;
    }
    if (spread == 2 && p[0].input_major && p[1].input_major && p[0].e == p[1].e && p[0].n_piece == 1 &&
        s->part[0].lo == 0 && s->part[0].hi == p[0].n && p[0].at < p[1].at &&
        p[1].at + p[1].n <= p[0].at + p[0].stride) {
        s->shared = true;
        s->part[0].whole = s->part[1].whole = true;
    }
    plan_part(s, &p[0], &s->part[0]);
    if (s->shared) { /* the block reaches to the end of the last up row */
        size_t more = (size_t)(p[1].at - p[0].at) * code_bytes(&p[0]), end = s->bytes;
        struct block b;
        uint64_t unused;
        block_at(&b, &p[0], &s->part[0], 0);
        s->part[0].scale = crl_round_up(s->part[0].base + (size_t)b.bytes + more, CRL_ALIGN);
        end = crl_round_up(s->part[0].scale + (size_t)scale_bytes(&p[0], &s->part[0], &unused), CRL_ALIGN);
        s->part[1].base = s->part[0].base + more;
        s->part[1].scale = end;
        s->bytes = crl_round_up(end + (size_t)scale_bytes(&p[1], &s->part[1], &unused), CRL_ALIGN);
    } else if (spread == 2) {
        plan_part(s, &p[1], &s->part[1]);
    }
}

/* --- reading ----------------------------------------------------------------------------------------- */

#define READ_MOST ((size_t)8 << 20) /* bytes asked for at once */

static enum crl_status read_run(const struct crl_in *in, uint64_t offset, unsigned char *to, uint64_t len,
                                struct crl_err *err)
{
    enum crl_status st = CRL_OK;

    for (uint64_t at = 0; !st && at < len; at += READ_MOST)
        st =
            crl_in_read(in, offset + at, to + at, len - at < READ_MOST ? (size_t)(len - at) : READ_MOST, err);
    return st;
}

static enum crl_status load_block(const struct block *b, unsigned char *to, bool input_major, uint64_t more,
                                  struct crl_err *err)
{
    uint32_t n = input_major ? b->n_input : b->n_row;
    enum crl_status st = CRL_OK;

    if (b->pitch == b->step) return read_run(b->in, b->offset, to, b->bytes + more, err);
    for (uint32_t i = 0; !st && i < n; i++)
        st = crl_in_read(b->in, b->offset + i * b->step, to + i * b->pitch, (size_t)b->run, err);
    return st;
}

static enum crl_status load_part(const struct crl_part *p, const struct crl_stage_part *t,
                                 unsigned char *data, bool codes, uint64_t more, struct crl_err *err)
{
    unsigned char *to = data + t->base;
    enum crl_status st = CRL_OK;
    uint64_t offset, len;
    struct block b;

    for (uint32_t q = 0; codes && !st && q < p->n_piece; q++) {
        if (!block_at(&b, p, t, q)) continue;
        st = load_block(&b, to, p->input_major, more, err);
        to += b.bytes;
    }
    len = scale_bytes(p, t, &offset);
    if (!st && len) st = read_run(p->scale.e->in, offset, data + t->scale, len, err);
    return st;
}

enum crl_status crl_stage_load(const struct crl_stage *s, const struct crl_ckpt *ck, unsigned char *data,
                               struct crl_err *err)
{
    const struct crl_part *p = ck->origin[s->weight].part;
    bool two = crl_weight_is_gate_up(&ck->schema->weight[s->weight]);
    uint64_t more = s->shared ? s->part[1].base - s->part[0].base : 0;
    enum crl_status st = load_part(&p[0], &s->part[0], data, true, more, err);

    if (!st && two) st = load_part(&p[1], &s->part[1], data, !s->shared, 0, err);
    return st;
}

enum crl_status crl_ckpt_consume(const struct crl_ckpt *ck, size_t weight, struct crl_err *err)
{
    const struct crl_weight *w = &ck->schema->weight[weight];
    const struct crl_part *p = ck->origin[weight].part;
    enum crl_status st = CRL_OK;
    struct crl_stage s;
    struct block b;

    crl_stage_plan(&s, ck, weight, 0, crl_n_panel(w->n));
    for (unsigned i = 0; i < (crl_weight_is_gate_up(w) ? 2u : 1u); i++)
        for (uint32_t q = 0; q < p[i].n_piece && !st; q++) {
            uint64_t n;
            if (!block_at(&b, &p[i], &s.part[i], q)) continue;
            n = p[i].input_major ? b.n_input : b.n_row;
            /* the columns between belong to the other half of the same matrix */
            st = crl_in_punch(b.in, b.offset, (n - 1) * b.step + b.run, err);
        }
    return st;
}

/* --- widening ---------------------------------------------------------------------------------------- */

/* Four at a time, as vectors of the compiler: the widening of BF16 is most of what reading costs. */
typedef uint16_t u16x4 __attribute__((vector_size(8)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));

static void widen_bf16(float *out, const unsigned char *p, size_t n)
{
    size_t i = 0;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; i + 4 <= n; i += 4) {
        u16x4 h;
        u32x4 w;
        memcpy(&h, p + 2 * i, sizeof h);
        w = __builtin_convertvector(h, u32x4) << 16;
        memcpy(out + i, &w, sizeof w);
    }
#endif
    for (; i < n; i++) out[i] = crl_bf16_to_f32(crl_le16(p + 2 * i));
}

static void widen(const struct crl_ckpt *ck, float *out, const unsigned char *p, size_t n, enum crl_st_type type)
{
    switch (type) {
    case CRL_ST_BF16:
        widen_bf16(out, p, n);
        break;
    case CRL_ST_F16:
        for (size_t i = 0; i < n; i++) out[i] = crl_f16_to_f32(crl_le16(p + 2 * i));
        break;
    case CRL_ST_F32:
        for (size_t i = 0; i < n; i++) out[i] = crl_f32_from_bits(crl_le32(p + 4 * i));
        break;
    case CRL_ST_F8_E4M3:
        for (size_t i = 0; i < n; i++) out[i] = ck->e4m3[p[i]];
        break;
    case CRL_ST_I8:
        for (size_t i = 0; i < n; i++) out[i] = (float)(p[i] < 128 ? p[i] : p[i] - 256);
        break;
    default:
        break; /* refused at open */
    }
}

static void unpack(float *out, const unsigned char *p, size_t n, enum crl_code code)
{
    if (code == CRL_CODE_INT4)
        for (size_t i = 0; i < n; i++) out[i] = (float)((p[i / 2] >> (i % 2 * 4) & 15) - 8);
    else
        for (size_t i = 0; i < n; i++) out[i] = (float)(p[i] - 128);
}

static float scale_value(const struct crl_ckpt *ck, const struct crl_scale *c, const unsigned char *data,
                         uint64_t i)
{
    enum crl_st_type type = c->e->t->type;
    float s = 0;

    widen(ck, &s, data + i * crl_st_type_bytes(type), 1, type);
    return s > 0 && isfinite(s) ? s : NAN;
}

/* row: of the part */
static void apply_scale(const struct crl_ckpt *ck, const struct crl_part *p, const struct crl_stage_part *t,
                        const unsigned char *data, uint32_t row, float *x)
{
    const struct crl_scale *c = &p->scale;
    uint64_t r = row / c->rows - t->lo / c->rows;

    for (uint32_t i = 0; i < p->k; i += c->inputs) {
        uint64_t g = i / c->inputs;
        float s = scale_value(ck, c, data + t->scale, c->input_major ? g * c->stride + r : r * c->stride + g);
        uint32_t end = least(p->k - i, c->inputs);
        for (uint32_t j = 0; j < end; j++) x[i + j] *= s;
    }
}

/* Row r of a part goes to out + place(r) * k, where panels of the part are `spread` panels apart. */
static size_t place(uint32_t r, uint32_t lo, size_t spread)
{
    size_t panel = r / CRL_PANEL_ROWS - lo / CRL_PANEL_ROWS;

    return panel * spread * CRL_PANEL_ROWS + r % CRL_PANEL_ROWS;
}

struct target {
    float *out;
    size_t k, spread;
    uint32_t lo, hi; /* rows of the part that are wanted */
};

static void take_rows(const struct crl_ckpt *ck, const struct crl_part *p, const struct block *b,
                      const unsigned char *from, const struct target *to)
{
    uint32_t lo = b->r0 > to->lo ? b->r0 : to->lo, hi = least(b->r0 + b->n_row, to->hi);

    for (uint32_t r = lo; r < hi; r++) {
        float *out = to->out + place(r, to->lo, to->spread) * to->k + b->i0;
        const unsigned char *row = from + (r - b->r0) * b->pitch;
        if (p->code == CRL_CODE_PLAIN) widen(ck, out, row, b->n_input, p->e->t->type);
        else unpack(out, row, b->n_input, p->code);
    }
}

/* Input-major: the rows wanted are columns there. Tiles of 16 inputs by 64 rows are widened into a small
 * buffer and leave it row by row, so that both sides are touched in whole cache lines. */
#define TILE_INPUTS 16
#define TILE_ROWS 64

static void take_columns(const struct crl_ckpt *ck, const struct crl_part *p, const struct block *b,
                         const unsigned char *from, const struct target *to)
{
    uint32_t lo = b->r0 > to->lo ? b->r0 : to->lo, hi = least(b->r0 + b->n_row, to->hi);
    size_t size = code_bytes(p);
    float tile[TILE_INPUTS][TILE_ROWS];

    for (uint32_t r = lo; r < hi; r += TILE_ROWS) {
        uint32_t n = least(hi - r, TILE_ROWS);
        for (uint32_t i = 0; i < b->n_input; i += TILE_INPUTS) {
            uint32_t m = least(b->n_input - i, TILE_INPUTS);
            for (uint32_t a = 0; a < m; a++)
                widen(ck, tile[a], from + (i + a) * b->pitch + (r - b->r0) * size, n, p->e->t->type);
            for (uint32_t c = 0; c < n; c++) {
                float *out = to->out + place(r + c, to->lo, to->spread) * to->k + b->i0 + i;
                for (uint32_t a = 0; a < m; a++) out[a] = tile[a][c];
            }
        }
    }
}

static void take_part(const struct crl_ckpt *ck, const struct crl_part *p, const struct crl_stage_part *t,
                      const unsigned char *data, const struct target *to)
{
    const unsigned char *from = data + t->base;
    struct block b;

    for (uint32_t q = 0; q < p->n_piece; q++) {
        if (!block_at(&b, p, t, q)) continue;
        if (p->input_major) take_columns(ck, p, &b, from, to);
        else take_rows(ck, p, &b, from, to);
        from += b.bytes;
    }
    for (uint32_t r = to->lo; p->scale.e && r < to->hi; r++)
        apply_scale(ck, p, t, data, r, to->out + place(r, to->lo, to->spread) * to->k);
}

void crl_stage_rows(const struct crl_stage *s, const struct crl_ckpt *ck, const unsigned char *data,
                    size_t panel, size_t n_panel, float *rows)
{
    const struct crl_weight *w = &ck->schema->weight[s->weight];
    const struct crl_part *p = ck->origin[s->weight].part;
    size_t spread = crl_weight_is_gate_up(w) ? 2 : 1, k = w->k;

    for (size_t r = 0; r < n_panel * CRL_PANEL_ROWS; r++)
        if (!crl_weight_has_row(w, panel * CRL_PANEL_ROWS + r)) memset(rows + r * k, 0, k * sizeof *rows);
    for (size_t i = 0; i < spread; i++) {
        struct target to = { rows + i * CRL_PANEL_ROWS * k, k, spread,
                             least((uint32_t)(panel / spread * CRL_PANEL_ROWS), p[i].n),
                             least((uint32_t)((panel + n_panel) / spread * CRL_PANEL_ROWS), p[i].n) };
        take_part(ck, &p[i], &s->part[i], data, &to);
    }
}

bool crl_stage_bad_scale(const struct crl_stage *s, const struct crl_ckpt *ck, const unsigned char *data,
                         const struct crl_st_tensor **t, const char **file, uint64_t *index, float *value)
{
    const struct crl_part *p = ck->origin[s->weight].part;
    unsigned spread = crl_weight_is_gate_up(&ck->schema->weight[s->weight]) ? 2 : 1;

    for (unsigned i = 0; i < spread; i++) {
        const struct crl_scale *c = &p[i].scale;
        uint64_t offset = 0, len = scale_bytes(&p[i], &s->part[i], &offset);
        size_t size = c->e ? crl_st_type_bytes(c->e->t->type) : 1;
        for (uint64_t j = 0; j < len / size; j++) {
            const unsigned char *at = data + s->part[i].scale + j * size;
            float v = 0;
            widen(ck, &v, at, 1, c->e->t->type);
            if (v > 0 && isfinite(v)) continue;
            *t = c->e->t;
            *file = crl_in_path(c->e->in);
            *index = (offset - c->e->t->offset) / size + j;
            *value = v;
            return true;
        }
    }
    return false;
}

/* --- in one go --------------------------------------------------------------------------------------- */

bool crl_weight_is_gate_up(const struct crl_weight *w)
{
    return w->kind == CRL_KIND_EXPERT_GATE_UP || w->kind == CRL_KIND_SHARED_GATE_UP ||
           w->kind == CRL_KIND_DENSE_GATE_UP;
}

bool crl_weight_has_row(const struct crl_weight *w, size_t row)
{
    size_t panel = row / CRL_PANEL_ROWS;

    if (!crl_weight_is_gate_up(w)) return row < w->n_real;
    return panel / 2 * CRL_PANEL_ROWS + row % CRL_PANEL_ROWS < w->n_real / 2;
}

enum crl_status crl_ckpt_read(const struct crl_ckpt *ck, size_t weight, size_t panel, size_t n_panel,
                              float *rows, struct crl_err *err)
{
    struct crl_stage s;
    unsigned char *data;
    enum crl_status st;

    crl_stage_plan(&s, ck, weight, panel, n_panel);
    data = crl_alloc(s.bytes, 1);
    if (!data) return crl_fail(err, CRL_ENOMEM, "no memory for %zu bytes of a tensor", s.bytes);
    st = crl_stage_load(&s, ck, data, err);
    if (!st) crl_stage_rows(&s, ck, data, panel, n_panel, rows);
    crl_free(data);
    return st;
}
