/* picture.c - views and their cache, and the way from pictures to rows of a prompt. */
#include "run/picture.h"

#include "base/hash.h"
#include "base/mem.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

struct view {
    struct view *next; /* of the cache, the most recently used first */
    uint64_t hash;
    size_t refs;       /* pictures */
    struct crl_tiles tiles;
    float *rows;       /* NULL: not encoded yet */
    size_t bytes;      /* of pixels and rows */
};

struct crl_eyes {
    struct crl_tower *tower;
    struct crl_preprocess pre;
    struct crl_image_ids ids;
    uint32_t n_patch; /* tokens of a tile */
    size_t d_model;
    const char *name; /* of the pack */
    size_t limit;
    pthread_mutex_t lock; /* of what follows */
    struct view *first;
    struct crl_eyes_stats stats;
};

struct crl_picture {
    struct crl_eyes *eyes;
    struct view *view;
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- the engine's eyes --------------------------------------------------------------------------------------- */

static void read_ids(struct crl_eyes *e, const struct crl_tok *tok, const struct crl_config *cfg)
{
    const struct {
        int32_t *id;
        const char *name;
    } row[] = {
        { &e->ids.start, "<|image_start|>" },         { &e->ids.end, "<|image_end|>" },
        { &e->ids.image, "<|image|>" },               { &e->ids.next_col, "<|tile_x_separator|>" },
        { &e->ids.next_row, "<|tile_y_separator|>" },
    };

    for (size_t i = 0; i < sizeof row / sizeof *row; i++) *row[i].id = tok ? crl_tok_special_id(tok, row[i].name) : -1;
    e->ids.patch = cfg->image_token;
}

enum crl_status crl_eyes_new(struct crl_eyes **out, const struct crl_weights *weights, const struct crl_tok *tok,
                             const struct crl_kernels *kern, struct crl_team *team, size_t cache, struct crl_err *err)
{
    const struct crl_pack *pack = crl_weights_pack(weights);
    const struct crl_config *cfg = crl_pack_config(pack);
    struct crl_eyes *e = crl_alloc(1, sizeof *e);
    const unsigned char *text;
    size_t len;
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!e || pthread_mutex_init(&e->lock, NULL)) {
        crl_free(e);
        return crl_fail(err, CRL_ENOMEM, "no memory for pictures");
    }
    e->name = crl_pack_name(pack);
    e->limit = cache ? cache : CRL_VIEWS_DEFAULT;
    e->n_patch = crl_vision_tokens(cfg);
    e->d_model = cfg->d_model;
    read_ids(e, tok, cfg);
    crl_preprocess_init(&e->pre, cfg->vision.image);
    text = crl_pack_section(pack, CRL_SECTION_PREPROCESSING, &len);
    if (text) st = crl_preprocess_parse(&e->pre, (const char *)text, len, cfg->vision.image, err);
    if (st) crl_err_prefix(err, "%s", e->name);
    if (!st) st = crl_tower_new(&e->tower, weights, kern, team, 0, err);
    if (st) {
        crl_eyes_free(e);
        return st;
    }
    *out = e;
    return CRL_OK;
}

static void view_free(struct view *v)
{
    if (!v) return;
    crl_tiles_fini(&v->tiles);
    crl_free(v->rows);
    crl_free(v);
}

void crl_eyes_free(struct crl_eyes *e)
{
    if (!e) return;
    while (e->first) {
        struct view *v = e->first;
        e->first = v->next;
        view_free(v);
    }
    crl_tower_free(e->tower);
    pthread_mutex_destroy(&e->lock);
    crl_free(e);
}

struct crl_tower *crl_eyes_tower(const struct crl_eyes *e)
{
    return e->tower;
}

void crl_eyes_stats(struct crl_eyes *e, struct crl_eyes_stats *s)
{
    pthread_mutex_lock(&e->lock);
    *s = e->stats;
    pthread_mutex_unlock(&e->lock);
}

/* --- the cache; the lock is held ----------------------------------------------------------------------------- */

static size_t pixel_bytes(const struct view *v)
{
    return v->tiles.grid.n_tile * crl_tile_bytes(&v->tiles);
}

static bool same_view(const struct view *a, const struct view *b)
{
    return a->hash == b->hash && !memcmp(&a->tiles.grid, &b->tiles.grid, sizeof a->tiles.grid) &&
           !memcmp(a->tiles.rgb, b->tiles.rgb, pixel_bytes(a));
}

/* The view like this one, moved to the front; NULL when there is none. */
static struct view *find_view(struct crl_eyes *e, const struct view *like)
{
    for (struct view **at = &e->first; *at; at = &(*at)->next) {
        struct view *v = *at;
        if (!same_view(v, like)) continue;
        *at = v->next;
        v->next = e->first;
        e->first = v;
        return v;
    }
    return NULL;
}

/* Give up views that no picture uses, from the end, until the rest is within the limit. */
static void trim(struct crl_eyes *e)
{
    while (e->stats.bytes > e->limit) {
        struct view **last = NULL, *v;
        for (struct view **at = &e->first; *at; at = &(*at)->next)
            if (!(*at)->refs) last = at;
        if (!last) return;
        v = *last;
        *last = v->next;
        e->stats.bytes -= v->bytes;
        view_free(v);
    }
}

/* --- pictures ------------------------------------------------------------------------------------------------ */

static uint64_t hash_tiles(const struct crl_tiles *t)
{
    return crl_hash(t->rgb, t->grid.n_tile * crl_tile_bytes(t));
}

/* Take the new view in, or find it in the cache and drop it. */
static struct view *keep_view(struct crl_eyes *e, struct view *made)
{
    struct view *v;

    pthread_mutex_lock(&e->lock);
    e->stats.opened++;
    v = find_view(e, made);
    if (v) {
        e->stats.found++;
    } else {
        v = made;
        v->next = e->first;
        e->first = v;
        e->stats.bytes += v->bytes;
    }
    v->refs++;
    trim(e);
    pthread_mutex_unlock(&e->lock);
    if (v != made) view_free(made);
    return v;
}

enum crl_status crl_picture_cut(struct crl_picture **out, struct crl_engine *engine, const struct crl_image *img,
                                uint32_t max_tiles, struct crl_err *err)
{
    struct crl_eyes *e = crl_engine_eyes(engine);
    struct crl_picture *p;
    struct view *v;
    enum crl_status st;

    *out = NULL;
    if (!e)
        return crl_fail(err, CRL_EUNSUPPORTED, "%s: a text-only model, which sees no pictures",
                        crl_pack_name(crl_engine_pack(engine)));
    p = crl_alloc(1, sizeof *p);
    v = crl_alloc(1, sizeof *v);
    st = p && v ? crl_tiles_cut(&v->tiles, img, &e->pre, max_tiles, err)
                : crl_fail(err, CRL_ENOMEM, "no memory for a picture");
    if (st) {
        crl_free(p);
        view_free(v);
        return st;
    }
    v->hash = hash_tiles(&v->tiles);
    v->bytes = pixel_bytes(v);
    p->eyes = e;
    p->view = keep_view(e, v);
    *out = p;
    return CRL_OK;
}

static enum crl_status open_image(struct crl_picture **out, struct crl_engine *engine, const char *path,
                                  const void *data, size_t len, const struct crl_picture_options *o,
                                  struct crl_err *err)
{
    static const struct crl_picture_options defaults;
    struct crl_image img = { NULL, 0, 0 };
    enum crl_status st;

    *out = NULL;
    if (!o) o = &defaults;
    if (!crl_engine_eyes(engine)) return crl_picture_cut(out, engine, &img, 0, err); /* says so before any work */
    st = data ? crl_image_decode(&img, data, len, o->as_stored, path, err)
              : crl_image_read(&img, path, o->as_stored, err);
    if (!st) st = crl_picture_cut(out, engine, &img, o->max_tiles, err);
    crl_image_fini(&img);
    return st;
}

enum crl_status crl_picture_open(struct crl_picture **picture, struct crl_engine *engine, const char *path,
                                 const struct crl_picture_options *options, struct crl_err *err)
{
    return open_image(picture, engine, path, NULL, 0, options, err);
}

enum crl_status crl_picture_read(struct crl_picture **picture, struct crl_engine *engine, const void *data, size_t len,
                                 const char *name, const struct crl_picture_options *options, struct crl_err *err)
{
    return open_image(picture, engine, name ? name : "picture", data ? data : "", data ? len : 0, options, err);
}

void crl_picture_free(struct crl_picture *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->eyes->lock);
    p->view->refs--;
    trim(p->eyes);
    pthread_mutex_unlock(&p->eyes->lock);
    crl_free(p);
}

const struct crl_grid *crl_picture_grid(const struct crl_picture *p)
{
    return &p->view->tiles.grid;
}

size_t crl_picture_tiles(const struct crl_picture *p)
{
    return p->view->tiles.grid.n_tile;
}

size_t crl_picture_tokens(const struct crl_picture *p)
{
    return crl_grid_ids(&p->view->tiles.grid, p->eyes->n_patch, &p->eyes->ids, NULL);
}

uint64_t crl_picture_hash(const struct crl_picture *p)
{
    return p->view->hash;
}

enum crl_status crl_picture_ids(const struct crl_picture *p, int32_t *ids, struct crl_err *err)
{
    const struct crl_image_ids *i = &p->eyes->ids;

    if (i->start < 0 || i->end < 0 || i->image < 0 || i->next_col < 0 || i->next_row < 0)
        return crl_fail(err, CRL_ENOENT, "%s: the tokenizer lacks tokens that frame a picture (<|image_start|> ...)",
                        p->eyes->name);
    crl_grid_ids(&p->view->tiles.grid, p->eyes->n_patch, i, ids);
    return CRL_OK;
}

size_t crl_picture_rows_n(const struct crl_picture *p)
{
    return p->view->tiles.grid.n_tile * p->eyes->n_patch;
}

const float *crl_picture_rows(const struct crl_picture *p)
{
    return p->view->rows;
}

enum crl_status crl_picture_look(struct crl_picture *p, bool (*go)(void *ctx), void *ctx, struct crl_err *err)
{
    struct crl_eyes *e = p->eyes;
    struct view *v = p->view;
    size_t n = v->tiles.grid.n_tile, each = e->n_patch * e->d_model, group = crl_tower_group(e->tower);
    double start = seconds();
    float *rows;

    if (v->rows) return CRL_OK;
    rows = crl_alloc(n * each, sizeof *rows);
    if (!rows) return crl_fail(err, CRL_ENOMEM, "no memory for what a picture of %zu tiles shows", n);
    for (size_t at = 0; at < n; at += group) {
        if (go && !go(ctx)) {
            crl_free(rows);
            return crl_fail(err, CRL_EINTR, "interrupted");
        }
        crl_tower_encode(e->tower, &v->tiles, &e->pre, at, n - at < group ? n - at : group, rows + at * each, NULL);
    }
    pthread_mutex_lock(&e->lock);
    v->rows = rows;
    v->bytes += n * each * sizeof *rows;
    e->stats.bytes += n * each * sizeof *rows;
    e->stats.tiles += n;
    e->stats.encode_s += seconds() - start;
    trim(e);
    pthread_mutex_unlock(&e->lock);
    return CRL_OK;
}

/* --- prompts ------------------------------------------------------------------------------------------------- */

/* Image tokens that the pictures need in all. */
static size_t rows_needed(struct crl_picture *const *picture, size_t n)
{
    size_t sum = 0;

    for (size_t i = 0; i < n; i++) sum += picture[i]->view->tiles.grid.n_tile * picture[i]->eyes->n_patch;
    return sum;
}

enum crl_status crl_pictures_place(const struct crl_engine *engine, const int32_t *ids, size_t n,
                                   struct crl_picture *const *picture, size_t n_picture, const float *const **rows,
                                   struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    const struct crl_eyes *e = crl_engine_eyes(engine);
    size_t have = 0, need = rows_needed(picture, n_picture), at = 0, row = 0;
    const float **out;

    *rows = NULL;
    for (size_t i = 0; i < n_picture; i++)
        if (picture[i]->eyes != e) return crl_fail(err, CRL_ERANGE, "picture %zu belongs to another engine", i);
    for (size_t i = 0; i < n; i++) have += n_picture && ids[i] == cfg->image_token;
    if (have != need)
        return crl_fail(err, CRL_ERANGE, "%zu image tokens in the prompt, but its %zu picture%s need%s %zu", have,
                        n_picture, n_picture == 1 ? "" : "s", n_picture == 1 ? "s" : "", need);
    out = crl_alloc(n, sizeof *out);
    if (!out) return crl_fail(err, CRL_ENOMEM, "no memory for a prompt of %zu tokens", n);
    for (size_t i = 0; i < n && n_picture; i++) {
        if (ids[i] != cfg->image_token) continue;
        while (row == picture[at]->view->tiles.grid.n_tile * (size_t)e->n_patch) { /* every picture has rows */
            at++;
            row = 0;
        }
        out[i] = picture[at]->view->rows + row++ * e->d_model;
    }
    *rows = out;
    return CRL_OK;
}

enum crl_status crl_picture_append(const struct crl_picture *p, struct crl_ids *ids, struct crl_err *err)
{
    size_t n = crl_picture_tokens(p);
    int32_t *block = crl_alloc(n, sizeof *block);
    enum crl_status st = block ? crl_picture_ids(p, block, err) : crl_fail(err, CRL_ENOMEM, "no memory for %zu ids", n);

    for (size_t i = 0; !st && i < n; i++) st = crl_ids_add(ids, block[i], err);
    crl_free(block);
    return st;
}

enum crl_status crl_pictures_expand(const struct crl_prompt *prompt, struct crl_picture *const *picture,
                                    size_t n_picture, struct crl_ids *ids, struct crl_err *err)
{
    size_t next = 0;
    enum crl_status st = CRL_OK;

    if (prompt->n_image != n_picture)
        return crl_fail(err, CRL_ERANGE, "the prompt has places for %zu picture%s, %zu %s given", prompt->n_image,
                        prompt->n_image == 1 ? "" : "s", n_picture, n_picture == 1 ? "is" : "are");
    for (size_t i = 0; !st && i < prompt->ids.n; i++) {
        bool here = next < n_picture && prompt->images[next].pos == i;
        st = here ? crl_picture_append(picture[next++], ids, err) : crl_ids_add(ids, prompt->ids.v[i], err);
    }
    return st;
}

enum crl_status crl_session_feed_pictures(struct crl_session *session, const int32_t *ids, size_t n,
                                          struct crl_picture *const *pictures, size_t n_picture, float *logits,
                                          struct crl_err *err)
{
    const float *const *rows = NULL;
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i < n_picture; i++) st = crl_picture_look(pictures[i], NULL, NULL, err);
    if (!st) st = crl_pictures_place(crl_session_engine(session), ids, n, pictures, n_picture, &rows, err);
    if (!st) st = crl_session_feed_rows(session, ids, rows, n, logits, false, err);
    crl_free((void *)(uintptr_t)rows);
    return st;
}
