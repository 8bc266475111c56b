/* vision.c - timing the tower, and prompts with pictures. */
#include "bench/vision.h"

#include "base/mem.h"
#include "text/tok.h"

#include <string.h>

#define WORDS 32 /* tokens of text around a picture */

static double tower_s(struct crl_tower *t, const struct crl_tiles *tiles, const struct crl_preprocess *p, float *rows,
                      struct crl_tower_profile *profile)
{
    double start = crl_seconds();

    crl_tower_encode(t, tiles, p, 0, tiles->grid.n_tile, rows, profile);
    return crl_seconds() - start;
}

static void fill_random(uint8_t *p, size_t n)
{
    uint32_t v = 1;

    for (size_t i = 0; i < n; i++) {
        v = v * 1664525u + 1013904223u;
        p[i] = (uint8_t)(v >> 24);
    }
}

enum crl_status crl_bench_tower(struct crl_vision_speed *s, struct crl_engine *engine, size_t tiles, unsigned repeat,
                                unsigned mask, struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    struct crl_tower *t = crl_eyes_tower(crl_engine_eyes(engine));
    struct crl_preprocess pre;
    struct crl_tiles cut = { .grid = { .n_tile = (uint32_t)tiles }, .side = cfg->vision.image };
    struct crl_series each = { 0 }, part[3] = { { 0 } };
    struct crl_meter *meter = NULL;
    float *rows;
    enum crl_status st = crl_meter_new(&meter, crl_engine_team(engine), mask, NULL, 0, err);

    memset(s, 0, sizeof *s);
    s->tiles = tiles;
    s->repeat = repeat;
    s->row_bytes = tiles * crl_vision_tokens(cfg) * cfg->d_model * sizeof(float);
    s->buffer_bytes = crl_tower_bytes(t);
    crl_preprocess_init(&pre, cfg->vision.image);
    cut.rgb = crl_alloc(tiles, crl_tile_bytes(&cut));
    rows = crl_alloc(s->row_bytes, 1);
    if (!st && (!cut.rgb || !rows)) st = crl_fail(err, CRL_ENOMEM, "no memory for %zu tiles", tiles);
    if (!st) fill_random(cut.rgb, tiles * crl_tile_bytes(&cut));
    if (!st) tower_s(t, &cut, &pre, rows, NULL); /* the weights' pages come in */
    for (unsigned i = 0; !st && i < repeat; i++) {
        crl_meter_int8(meter);
        crl_meter_f32(meter);
        struct crl_tower_profile p = { 0, 0, 0 };
        crl_series_add(&each, tower_s(t, &cut, &pre, rows, &p) / (double)tiles);
        crl_series_add(&part[0], 1e-9 * (double)p.linear_ns / (double)tiles);
        crl_series_add(&part[1], 1e-9 * (double)p.attention_ns / (double)tiles);
        crl_series_add(&part[2], 1e-9 * (double)p.other_ns / (double)tiles);
    }
    if (!st) {
        crl_tower_work(t, &s->int8_ops, &s->f32_ops);
        s->tile_s = crl_series_stat(&each);
        s->int8 = crl_series_stat(&meter->int8);
        s->f32 = crl_series_stat(&meter->f32);
        s->linear_s = crl_series_stat(&part[0]).median;
        s->attention_s = crl_series_stat(&part[1]).median;
        s->other_s = crl_series_stat(&part[2]).median;
        s->fraction = (s->int8_ops / s->int8.median + s->f32_ops / s->f32.median) / s->linear_s;
    }
    crl_meter_free(meter);
    crl_tiles_fini(&cut);
    crl_free(rows);
    return st;
}

/* Tokens without meaning, then the pictures in frames of made-up ids: made-up models have no names for tokens. */
static enum crl_status make_prompt(struct crl_ids *ids, const struct crl_config *cfg, struct crl_picture *const *p,
                                   size_t n, struct crl_err *err)
{
    const struct crl_image_ids names = { 1, 2, 3, cfg->image_token, 4, 5 };
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i <= n; i++) {
        for (int32_t w = 0; !st && w < WORDS; w++) st = crl_ids_add(ids, 6 + w, err);
        if (!st && i < n) {
            size_t count = crl_grid_ids(crl_picture_grid(p[i]), crl_vision_tokens(cfg), &names, NULL);
            int32_t *block = crl_alloc(count, sizeof *block);
            if (!block) return crl_fail(err, CRL_ENOMEM, "no memory for a prompt");
            crl_grid_ids(crl_picture_grid(p[i]), crl_vision_tokens(cfg), &names, block);
            for (size_t j = 0; !st && j < count; j++) st = crl_ids_add(ids, block[j], err);
            crl_free(block);
        }
    }
    return st;
}

enum crl_status crl_bench_pictures(struct crl_prompt_speed *s, struct crl_engine *engine, const char *const *path,
                                   size_t n, struct crl_err *err)
{
    const struct crl_config *cfg = crl_pack_config(crl_engine_pack(engine));
    struct crl_picture **p = crl_alloc(n, sizeof *p);
    float *logits = crl_alloc(cfg->vocab, sizeof *logits);
    struct crl_session *session = NULL;
    struct crl_ids ids = { NULL, 0, 0 };
    double start = crl_seconds();
    enum crl_status st = p && logits ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for pictures");

    memset(s, 0, sizeof *s);
    s->pictures = n;
    for (size_t i = 0; !st && i < n; i++) {
        st = crl_picture_open(&p[i], engine, path[i], NULL, err);
        if (!st) s->tiles += crl_picture_tiles(p[i]);
    }
    s->decode_s = crl_seconds() - start;
    start = crl_seconds();
    for (size_t i = 0; !st && i < n; i++) st = crl_picture_look(p[i], NULL, NULL, err);
    s->look_s = crl_seconds() - start;
    if (!st) st = make_prompt(&ids, cfg, p, n, err);
    if (!st) st = crl_session_new(&session, engine, ids.n, err);
    s->tokens = ids.n;
    start = crl_seconds();
    if (!st) st = crl_session_feed_pictures(session, ids.v, ids.n, p, n, logits, err);
    s->feed_s = crl_seconds() - start;
    crl_session_free(session);
    crl_ids_fini(&ids);
    for (size_t i = 0; p && i < n; i++) crl_picture_free(p[i]);
    crl_free(p);
    crl_free(logits);
    return st;
}
