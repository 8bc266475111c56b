/* tiles.c - canvas, size, resampling, cutting. docs/vision.md, "Preprocessing". */
#include "vision/tiles.h"

#include "base/bytes.h"
#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

/* --- settings ------------------------------------------------------------------------------------------------ */

static float bf16(float x)
{
    return crl_bf16_to_f32(crl_bf16_from_f32(x));
}

/* The reference scales and normalises in bfloat16, one rounding after each step. */
static void fill_values(float value[256], float factor, float mean, float std)
{
    for (int v = 0; v < 256; v++) value[v] = bf16(bf16(bf16((float)v * factor) - bf16(mean)) / bf16(std));
}

void crl_preprocess_init(struct crl_preprocess *p, uint32_t tile)
{
    memset(p, 0, sizeof *p);
    p->tile = tile;
    p->max_tiles = 16;
    for (int c = 0; c < 3; c++) fill_values(p->value[c], (float)(1.0 / 255), 0.5f, 0.5f);
}

/* {"height": n, "width": n}; older writers give one number. */
static enum crl_status read_size(const json_t *doc, uint32_t tile, struct crl_err *err)
{
    const json_t *size = json_object_get(doc, "size");
    uint32_t h = tile, w = tile;
    enum crl_status st;

    if (json_is_integer(size)) {
        st = crl_json_get_u32(doc, "size", 1, 65536, &h, err);
        w = h;
    } else {
        st = crl_json_get_u32(size, "height", 1, 65536, &h, err);
        if (!st) st = crl_json_get_u32(size, "width", 1, 65536, &w, err);
    }
    if (st || (h == tile && w == tile)) return st;
    return crl_fail(err, CRL_EFORMAT, "size is %u x %u, but the vision tower takes tiles of %u x %u", h, w, tile, tile);
}

static enum crl_status read_triple(const json_t *doc, const char *key, float out[3], struct crl_err *err)
{
    const json_t *list = json_object_get(doc, key);

    if (!list || json_is_null(list)) return CRL_OK;
    for (size_t c = 0; c < 3; c++) {
        const json_t *v = json_is_array(list) ? json_array_get(list, c) : list;
        if (!json_is_number(v) || !(fabs(json_number_value(v)) < 1e6))
            return crl_fail(err, CRL_EFORMAT, "%s is not a list of three numbers", key);
        out[c] = (float)json_number_value(v);
    }
    return CRL_OK;
}

/* Steps that may not be switched off, and the one way of resampling. */
static enum crl_status check_steps(const json_t *doc, bool *rescale, bool *normalise, struct crl_err *err)
{
    bool resize = true;
    uint32_t resample = 2; /* bilinear, as Pillow numbers it */
    enum crl_status st = crl_json_get_bool(doc, "do_resize", &resize, err);

    if (!st) st = crl_json_get_bool(doc, "do_rescale", rescale, err);
    if (!st) st = crl_json_get_bool(doc, "do_normalize", normalise, err);
    if (!st && json_is_integer(json_object_get(doc, "resample")))
        st = crl_json_get_u32(doc, "resample", 0, 16, &resample, err);
    if (st) return st;
    if (!resize) return crl_fail(err, CRL_EUNSUPPORTED, "do_resize is false; pictures are always fitted to tiles");
    if (!*rescale || !*normalise)
        return crl_fail(err, CRL_EUNSUPPORTED, "do_rescale or do_normalize is false, which is not supported");
    if (resample != 2)
        return crl_fail(err, CRL_EUNSUPPORTED, "resample is %u, only 2 (bilinear) is supported", resample);
    return CRL_OK;
}

static enum crl_status read_settings(struct crl_preprocess *p, const json_t *doc, uint32_t tile, struct crl_err *err)
{
    float mean[3] = { 0.5f, 0.5f, 0.5f }, std[3] = { 0.5f, 0.5f, 0.5f };
    double factor = 1.0 / 255;
    bool rescale = true, normalise = true;
    const json_t *inner = json_object_get(doc, "image_processor");
    enum crl_status st;

    if (!json_is_object(doc)) return crl_fail(err, CRL_EFORMAT, "not an object");
    if (json_is_object(inner)) doc = inner;
    st = read_size(doc, tile, err);
    if (!st) st = check_steps(doc, &rescale, &normalise, err);
    if (!st) st = crl_json_get_u32(doc, "max_patches", 1, CRL_TILES_MAX, &p->max_tiles, err);
    if (!st) st = crl_json_get_bool(doc, "resize_to_max_canvas", &p->max_canvas, err);
    if (!st) st = crl_json_get_f64(doc, "rescale_factor", 1e-9, 1e9, &factor, err);
    if (!st) st = read_triple(doc, "image_mean", mean, err);
    if (!st) st = read_triple(doc, "image_std", std, err);
    for (int c = 0; !st && c < 3; c++) {
        if (bf16(std[c]) == 0) return crl_fail(err, CRL_EFORMAT, "image_std holds a zero");
        fill_values(p->value[c], (float)factor, mean[c], std[c]);
    }
    return st;
}

enum crl_status crl_preprocess_parse(struct crl_preprocess *p, const char *text, size_t len, uint32_t tile,
                                     struct crl_err *err)
{
    struct crl_preprocess made;
    json_t *doc;
    enum crl_status st = crl_json_parse(&doc, text, len, "image processor settings", err);

    if (st) return st;
    crl_preprocess_init(&made, tile);
    st = read_settings(&made, doc, tile, err);
    json_decref(doc);
    if (st) crl_err_prefix(err, "image processor settings");
    else *p = made;
    return st;
}

/* --- the canvas ---------------------------------------------------------------------------------------------- */

/* How far the picture can be scaled and still fit h x w tiles, in single precision as the reference computes it: equal
 * scales of different canvases must come out equal. */
static float fit(const struct crl_preprocess *p, uint32_t h, uint32_t w, size_t height, size_t width)
{
    float sw = (float)(w * p->tile) / (float)width, sh = (float)(h * p->tile) / (float)height;

    return sh > sw ? sw : sh;
}

/* Scale a is a better choice than b: enlarging as little as possible comes first, then shrinking as little as possible. */
static bool better(float a, float b, bool max_canvas)
{
    if (a >= 1 && b >= 1) return max_canvas ? a > b : a < b;
    return a > b;
}

/* All h x w tiles with h * w up to n; of canvases with equal scale the smallest. That one is unique: two canvases of
 * one scale share it with the canvas of their smaller sides. */
static void choose_canvas(struct crl_grid *g, const struct crl_preprocess *p, uint32_t n, size_t height, size_t width)
{
    float best = -1;

    for (uint32_t area = n; area > 0; area--)
        for (uint32_t h = 1; h <= area; h++) {
            float s;
            if (area % h) continue;
            s = fit(p, h, area / h, height, width);
            if (best >= 0 && !better(s, best, p->max_canvas) && !(s == best && area < g->rows * g->cols)) continue;
            best = s;
            g->rows = h;
            g->cols = area / h;
        }
}

/* A side of the box that the picture is resized into. The reference keeps a plain integer there, and goes on in double
 * precision, unless the canvas clips it: then it is an integer tensor, and what follows is single precision. */
struct side {
    uint32_t len;
    bool clipped;
    double scale;
};

static struct side box_side(const struct crl_preprocess *p, uint32_t n_tile, size_t len)
{
    uint32_t canvas = n_tile * p->tile, want = len > p->tile ? (uint32_t)len : p->tile;
    struct side s = { canvas < want ? canvas : want, canvas < want, 0 };

    if (p->max_canvas) s = (struct side){ canvas, true, 0 };
    s.scale = s.clipped ? (float)s.len / (float)len : (double)s.len / (double)len;
    return s;
}

/* floor(len * scale) in the precision that the scale has, at least 1 and at most `most`. */
static uint32_t scaled(size_t len, const struct side *by, uint32_t most)
{
    double x = by->clipped ? floorf((float)len * (float)by->scale) : floor((double)len * by->scale);

    return x < 1 ? 1 : x < most ? (uint32_t)x : most;
}

void crl_grid_choose(struct crl_grid *g, const struct crl_preprocess *p, uint32_t max_tiles, size_t height, size_t width)
{
    uint32_t n = max_tiles && max_tiles < p->max_tiles ? max_tiles : p->max_tiles;
    struct side h, w;
    bool wide;

    memset(g, 0, sizeof *g);
    choose_canvas(g, p, n, height, width);
    h = box_side(p, g->rows, height);
    w = box_side(p, g->cols, width);
    wide = h.clipped || w.clipped ? (float)w.scale < (float)h.scale : w.scale < h.scale;
    if (wide) {
        g->width = w.len;
        g->height = scaled(height, &w, h.len);
    } else {
        g->height = h.len;
        g->width = scaled(width, &h, w.len);
    }
    g->n_tile = g->rows * g->cols + (g->rows * g->cols > 1);
}

/* --- tokens -------------------------------------------------------------------------------------------------- */

static void put(int32_t *ids, size_t *n, int32_t id, uint32_t times)
{
    for (uint32_t i = 0; ids && i < times; i++) ids[*n + i] = id;
    *n += times;
}

size_t crl_grid_ids(const struct crl_grid *g, uint32_t n_patch, const struct crl_image_ids *names, int32_t *ids)
{
    size_t n = 0;

    put(ids, &n, names->start, 1);
    for (uint32_t r = 0; g->n_tile > 1 && r < g->rows; r++) {
        for (uint32_t c = 0; c < g->cols; c++) {
            if (c) put(ids, &n, names->next_col, 1);
            put(ids, &n, names->patch, n_patch);
        }
        put(ids, &n, names->next_row, 1);
    }
    put(ids, &n, names->image, 1);
    put(ids, &n, names->patch, n_patch);
    put(ids, &n, names->end, 1);
    return n;
}

/* --- resampling ---------------------------------------------------------------------------------------------- */

/* One axis: output i is the sum of n[i] inputs from first[i] on, weighted by weight[i * most ..] and divided by 2^bits. */
struct axis {
    size_t out, most;
    size_t *first, *n; /* [out] */
    int16_t *weight;   /* [out][most] */
    unsigned bits;
};

static void axis_fini(struct axis *a)
{
    crl_free(a->first);
    crl_free(a->n);
    crl_free(a->weight);
}

/* Triangle filter, widened when shrinking, half-pixel centres. tap[n] normalised; returns the largest weight. */
static double taps(double *tap, size_t i, size_t in, double scale, size_t most, size_t *first, size_t *n)
{
    double support = scale > 1 ? scale : 1, centre = scale * ((double)i + 0.5), sum = 0, top = 0;
    double lo = trunc(centre - support + 0.5), hi = trunc(centre + support + 0.5);

    *first = lo > 0 ? (size_t)lo : 0;
    *n = (hi < (double)in ? (size_t)hi : in) - *first;
    if (*n > most) *n = most;
    for (size_t j = 0; j < *n; j++) {
        double x = fabs(((double)(j + *first) - centre + 0.5) * (1.0 / support));
        tap[j] = x < 1 ? 1 - x : 0;
        sum += tap[j];
    }
    for (size_t j = 0; j < *n; j++) {
        if (sum != 0) tap[j] /= sum;
        if (tap[j] > top) top = tap[j];
    }
    return top;
}

/* As many bits as keep the largest weight of the axis below 2^15. */
static unsigned precision(double top)
{
    unsigned bits = 0;

    while (bits < 22 && (int64_t)(0.5 + top * (double)((int64_t)1 << (bits + 1))) < 1 << 15) bits++;
    return bits;
}

static enum crl_status axis_init(struct axis *a, size_t in, size_t out, struct crl_err *err)
{
    double scale = (double)in / (double)out, top = 0, *tap;

    memset(a, 0, sizeof *a);
    a->out = out;
    a->most = 2 * (size_t)ceil(scale > 1 ? scale : 1) + 1;
    a->first = crl_alloc(out, sizeof *a->first);
    a->n = crl_alloc(out, sizeof *a->n);
    a->weight = crl_alloc(out, a->most * sizeof *a->weight);
    tap = crl_alloc(a->most, sizeof *tap);
    if (!a->first || !a->n || !a->weight || !tap) {
        crl_free(tap);
        axis_fini(a);
        return crl_fail(err, CRL_ENOMEM, "no memory to resize a picture");
    }
    for (size_t i = 0; i < out; i++) top = fmax(top, taps(tap, i, in, scale, a->most, &a->first[i], &a->n[i]));
    a->bits = precision(top);
    for (size_t i = 0; i < out; i++) {
        taps(tap, i, in, scale, a->most, &a->first[i], &a->n[i]);
        for (size_t j = 0; j < a->n[i]; j++)
            a->weight[i * a->most + j] = (int16_t)(tap[j] * (double)(1 << a->bits) + 0.5);
    }
    crl_free(tap);
    return CRL_OK;
}

static uint8_t settle(int32_t sum, unsigned bits)
{
    int32_t v = sum >> bits;

    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

static void resize_rows(uint8_t *out, const uint8_t *in, size_t height, size_t width, const struct axis *a)
{
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < a->out; x++) {
            const uint8_t *from = in + (y * width + a->first[x]) * 3;
            const int16_t *w = a->weight + x * a->most;
            int32_t s[3];

            s[0] = s[1] = s[2] = a->bits ? 1 << (a->bits - 1) : 0;
            for (size_t j = 0; j < a->n[x]; j++, from += 3)
                for (int c = 0; c < 3; c++) s[c] += from[c] * w[j];
            for (int c = 0; c < 3; c++) out[(y * a->out + x) * 3 + (size_t)c] = settle(s[c], a->bits);
        }
}

/* `sum` holds one row. */
static void resize_columns(uint8_t *out, const uint8_t *in, size_t width, const struct axis *a, int32_t *sum)
{
    size_t n = width * 3;

    for (size_t y = 0; y < a->out; y++) {
        for (size_t i = 0; i < n; i++) sum[i] = a->bits ? 1 << (a->bits - 1) : 0;
        for (size_t j = 0; j < a->n[y]; j++) {
            const uint8_t *from = in + (a->first[y] + j) * n;
            int32_t w = a->weight[y * a->most + j];
            for (size_t i = 0; i < n; i++) sum[i] += from[i] * w;
        }
        for (size_t i = 0; i < n; i++) out[y * n + i] = settle(sum[i], a->bits);
    }
}

/* The second pass, from rows of the new width. */
static enum crl_status finish(uint8_t *out, size_t out_height, const uint8_t *in, size_t height, size_t width,
                              struct crl_err *err)
{
    struct axis a;
    int32_t *sum;
    enum crl_status st;

    if (out_height == height) {
        memcpy(out, in, height * width * 3);
        return CRL_OK;
    }
    st = axis_init(&a, height, out_height, err);
    if (st) return st;
    sum = crl_alloc(width, 3 * sizeof *sum);
    if (sum) resize_columns(out, in, width, &a, sum);
    else st = crl_fail(err, CRL_ENOMEM, "no memory to resize a picture");
    crl_free(sum);
    axis_fini(&a);
    return st;
}

enum crl_status crl_image_resize(uint8_t *out, size_t out_height, size_t out_width, const uint8_t *in, size_t height,
                                 size_t width, struct crl_err *err)
{
    struct axis a;
    uint8_t *middle;
    enum crl_status st;

    if (out_width == width) return finish(out, out_height, in, height, width, err);
    st = axis_init(&a, width, out_width, err);
    if (st) return st;
    middle = crl_alloc(height, out_width * 3);
    if (middle) resize_rows(middle, in, height, width, &a);
    else st = crl_fail(err, CRL_ENOMEM, "no memory to resize a picture");
    axis_fini(&a);
    if (!st) st = finish(out, out_height, middle, height, out_width, err);
    crl_free(middle);
    return st;
}

/* --- tiles --------------------------------------------------------------------------------------------------- */

size_t crl_tile_bytes(const struct crl_tiles *t)
{
    return (size_t)t->side * t->side * 3;
}

/* The resized picture into the canvas tiles; what lies right of it and below stays black. */
static void cut(struct crl_tiles *t, const uint8_t *rgb)
{
    const struct crl_grid *g = &t->grid;
    size_t side = t->side;

    for (size_t y = 0; y < g->height; y++)
        for (size_t c = 0; c * side < g->width; c++) {
            size_t tile = y / side * g->cols + c, n = g->width - c * side < side ? g->width - c * side : side;
            memcpy(t->rgb + tile * crl_tile_bytes(t) + y % side * side * 3, rgb + (y * g->width + c * side) * 3, n * 3);
        }
}

enum crl_status crl_tiles_cut(struct crl_tiles *t, const struct crl_image *img, const struct crl_preprocess *p,
                              uint32_t max_tiles, struct crl_err *err)
{
    struct crl_tiles made = { .side = p->tile };
    size_t bytes = crl_tile_bytes(&made);
    uint8_t *resized;
    enum crl_status st;

    crl_grid_choose(&made.grid, p, max_tiles, img->height, img->width);
    resized = crl_alloc((size_t)made.grid.height * made.grid.width, 3);
    made.rgb = crl_alloc(made.grid.n_tile, bytes);
    if (!resized || !made.rgb) st = crl_fail(err, CRL_ENOMEM, "no memory for %u tiles of a picture", made.grid.n_tile);
    else st = crl_image_resize(resized, made.grid.height, made.grid.width, img->rgb, img->height, img->width, err);
    if (!st) cut(&made, resized);
    crl_free(resized);
    if (!st && made.grid.n_tile > 1)
        st = crl_image_resize(made.rgb + (made.grid.n_tile - 1) * bytes, p->tile, p->tile, img->rgb, img->height,
                              img->width, err);
    if (st) crl_tiles_fini(&made);
    else *t = made;
    return st;
}

void crl_tiles_fini(struct crl_tiles *t)
{
    crl_free(t->rgb);
    memset(t, 0, sizeof *t);
}
