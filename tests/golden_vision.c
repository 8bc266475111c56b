/* golden_vision.c - the whole image path, from files to logits, against what the reference implementation computes
 * (tests/golden/vision).
 *
 * Every case's weights are made by the formula of make_vision.py, staged as a checkpoint, packed with recipe bf16 in
 * memory and run on the case's pictures. What the tower sees, row by row, and the logits must be within 1e-4 of the
 * reference (norm of the difference over norm). Threads, pieces of the prompt, tiles encoded together and pictures found
 * in the cache must not change a bit.
 *
 * golden_vision [--quick] [FOLDER CASE...]: all cases of $srcdir/tests/golden/vision by default; --quick runs each case
 * once, which is what the mutation tests need. Exit code 1 when a case fails. */
#define _GNU_SOURCE
#include "convert/convert.h"
#include "run/picture.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOLERANCE 1e-4
#define PICTURES 4

struct golden {
    char name[32];
    size_t n_picture, n_tok, from, n_row, step, vocab, d_model;
};

static const char *folder;
static int n_failed, n_passed;

static char *path3(const char *a, const char *b, const char *c)
{
    char *p = NULL;

    if (asprintf(&p, "%s/%s/%s", a, b, c) < 0) exit(2);
    return p;
}

static void fail(const struct golden *g, const char *what)
{
    printf("FAIL %s: %s\n", g->name, what);
    n_failed++;
}

static void *read_file(const struct golden *g, const char *name, size_t *len)
{
    char *path = path3(folder, g->name, name), *data;
    struct crl_err err = { "" };

    if (crl_file_read(&data, len, path, (size_t)64 << 20, &err)) {
        fprintf(stderr, "golden_vision: %s\n", err.text);
        exit(2);
    }
    free(path);
    return data;
}

/* --- a checkpoint made of formulas ----------------------------------------------------------------------------- */

struct tensor {
    char name[160];
    float std, mean;
    size_t dim[3], n_dim, n;
};

static size_t parse_tensors(const char *text, struct tensor *t, size_t most)
{
    size_t n = 0;

    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        int got = line[0] == '#' ? 0
                                 : sscanf(line, "%159s %f %f %zu %zu %zu", t[n].name, &t[n].std, &t[n].mean, &t[n].dim[0],
                                          &t[n].dim[1], &t[n].dim[2]);
        const char *end = strchr(line, '\n');
        size_t blanks = 0;
        if (got < 4 || n == most) continue;
        for (const char *c = line; c < end; c++) blanks += *c == ' '; /* sscanf runs on into the next line */
        t[n].n_dim = blanks - 2;
        t[n].n = 1;
        for (size_t i = 0; i < t[n].n_dim; i++) t[n].n *= t[n].dim[i];
        n++;
    }
    return n;
}

static uint16_t draw(uint64_t number, uint64_t i, float std, float mean)
{
    uint64_t z = number * 0xd1342543de82ef95u + i * 0x9e3779b97f4a7c15u;
    float u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    u = (float)(z >> 40) * 0x1p-24f - 0.5f;
    return crl_bf16_from_f32(u * (std * 3.4641016f) + mean);
}

static void write_weights(const struct golden *g, const char *dir)
{
    static struct tensor t[256];
    size_t len, n, at = 0, head_len;
    char *text = read_file(g, "tensors.txt", &len), *path = path3(dir, ".", "model.safetensors"), *head = NULL;
    unsigned char size[8];
    FILE *f = fopen(path, "wb"), *h = open_memstream(&head, &head_len);

    n = parse_tensors(text, t, sizeof t / sizeof *t);
    for (size_t i = 0; i < n; i++) {
        fprintf(h, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", i ? "," : "{", t[i].name);
        for (size_t d = 0; d < t[i].n_dim; d++) fprintf(h, "%s%zu", d ? "," : "", t[i].dim[d]);
        fprintf(h, "],\"data_offsets\":[%zu,%zu]}", at, at + 2 * t[i].n);
        at += 2 * t[i].n;
    }
    fprintf(h, "}");
    fclose(h);
    crl_put_le64(size, head_len);
    if (!f || fwrite(size, 1, 8, f) != 8 || fwrite(head, 1, head_len, f) != head_len) exit(2);
    for (size_t i = 0; i < n; i++) {
        unsigned char *data = malloc(2 * t[i].n);
        for (size_t j = 0; j < t[i].n; j++) crl_put_le16(data + 2 * j, draw(i, j, t[i].std, t[i].mean));
        if (fwrite(data, 2, t[i].n, f) != t[i].n) exit(2);
        free(data);
    }
    if (fclose(f)) exit(2);
    free(head);
    free(path);
    crl_free(text);
}

static const char *const side_files[] = { "config.json", "preprocessor_config.json" };

static void stage(const struct golden *g, char *dir)
{
    if (!mkdtemp(dir)) exit(2);
    for (size_t i = 0; i < 2; i++) {
        size_t len;
        char *data = read_file(g, side_files[i], &len), *to = path3(dir, ".", side_files[i]);
        if (crl_file_write(to, data, len, NULL)) exit(2);
        free(to);
        crl_free(data);
    }
    write_weights(g, dir);
}

static void unstage(const char *dir)
{
    static const char *const name[] = { "config.json", "preprocessor_config.json", "model.safetensors" };

    for (size_t i = 0; i < 3; i++) {
        char *p = path3(dir, ".", name[i]);
        unlink(p);
        free(p);
    }
    rmdir(dir);
}

/* --- running --------------------------------------------------------------------------------------------------- */

/* Machines that a case runs on: threads, and how weights are laid out over the nodes of a pretended one. */
static const struct {
    unsigned threads;
    const char *numa, *topology;
} machines[] = {
    { 1, NULL, NULL },
    { 2, NULL, NULL },
    { 3, NULL, NULL },
    { 4, "rows", "package:2 [numa(memory=64GiB)] core:2 pu:1" },
    { 2, "interleave", "package:2 [numa(memory=64GiB)] core:2 pu:1" },
    { 3, "off", "package:2 [numa(memory=64GiB)] core:2 pu:1" },
    { 3, "experts", "package:2 [numa(memory=64GiB)] core:2 pu:1" },
};

static struct crl_engine *engine_of(const struct golden *g, const char *dir, size_t machine)
{
    struct crl_convert_options convert = { .jobs = 2 };
    struct crl_engine_options options = { .threads = machines[machine].threads,
                                          .batch_max = 64,
                                          .no_pin = true,
                                          .numa = machines[machine].numa,
                                          .topology = machines[machine].topology };
    struct crl_err err = { "" };
    struct crl_recipe recipe;
    struct crl_ckpt *ck = NULL;
    struct crl_pack *pack = NULL;
    struct crl_engine *e = NULL;
    enum crl_status st = crl_recipe_parse(&recipe, "bf16", NULL, 0, &err);

    if (!st) st = crl_ckpt_open(&ck, dir, &err);
    if (!st) st = crl_convert(ck, &recipe, NULL, &pack, &convert, NULL, &err);
    if (!st) st = crl_engine_from_pack(&e, pack, &options, &err);
    if (st) fail(g, err.text);
    crl_ckpt_close(ck);
    return e;
}

/* Norm of the difference over norm of the reference. */
static double distance(const float *got, const float *want, size_t n)
{
    double diff = 0, ref = 0;

    for (size_t i = 0; i < n; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        ref += (double)want[i] * want[i];
    }
    return isnan(diff) ? INFINITY : sqrt(diff / (ref > 0 ? ref : 1));
}

/* Rows [n][width] against the reference; the worst row decides. */
static void compare(const struct golden *g, const char *what, const float *got, size_t stride, const float *want,
                    size_t n, size_t width)
{
    double worst = 0;
    size_t at = 0;
    char text[128];

    for (size_t i = 0; i < n; i++) {
        double d = distance(got + i * stride, want + i * width, width);
        if (d > worst) {
            worst = d;
            at = i;
        }
    }
    snprintf(text, sizeof text, "%s: relative error %.3g at row %zu", what, worst, at);
    if (worst > TOLERANCE) fail(g, text);
    else {
        printf("ok   %s: %s\n", g->name, text);
        n_passed++;
    }
}

static int32_t *read_ids(const struct golden *g)
{
    size_t len;
    char *text = read_file(g, "ids.txt", &len), *at = text;
    int32_t *ids = calloc(g->n_tok, sizeof *ids);

    for (size_t i = 0; i < g->n_tok; i++) ids[i] = (int32_t)strtol(at, &at, 10);
    crl_free(text);
    return ids;
}

static bool open_pictures(const struct golden *g, struct crl_engine *e, struct crl_picture *p[PICTURES])
{
    struct crl_err err = { "" };

    for (size_t i = 0; i < g->n_picture; i++) {
        char name[32], *path;
        snprintf(name, sizeof name, "picture%zu.png", i);
        path = path3(folder, g->name, name);
        if (crl_picture_open(&p[i], e, path, NULL, &err) || crl_picture_look(p[i], NULL, NULL, &err)) fail(g, err.text);
        free(path);
        if (err.text[0]) return false;
    }
    return true;
}

/* What was seen of all pictures, one behind the other; NULL when their number is wrong. */
static float *all_rows(const struct golden *g, struct crl_picture *const p[PICTURES])
{
    float *rows = calloc(g->n_row * g->d_model, sizeof *rows);
    size_t n = 0, per = 0;

    for (size_t i = 0; i < g->n_picture; i++) n += crl_picture_tiles(p[i]);
    if (n && g->n_row % n == 0) per = g->n_row / n * g->d_model;
    n = 0;
    for (size_t i = 0; per && i < g->n_picture; i++) {
        memcpy(rows + n, crl_picture_rows(p[i]), crl_picture_tiles(p[i]) * per * sizeof *rows);
        n += crl_picture_tiles(p[i]) * per;
    }
    if (per) return rows;
    fail(g, "another number of tiles");
    free(rows);
    return NULL;
}

static float *feed(const struct golden *g, struct crl_engine *e, const int32_t *ids, struct crl_picture *const *p,
                   size_t piece)
{
    float *logits = calloc(g->n_tok * g->vocab, sizeof *logits);
    const float *const *rows = NULL;
    struct crl_session *s = NULL;
    struct crl_err err = { "" };
    enum crl_status st = crl_session_new(&s, e, g->n_tok, &err);

    if (!st) st = crl_pictures_place(e, ids, g->n_tok, p, g->n_picture, &rows, &err);
    for (size_t at = 0; !st && at < g->n_tok; at += piece) {
        size_t n = g->n_tok - at < piece ? g->n_tok - at : piece;
        st = crl_session_feed_rows(s, ids + at, rows + at, n, logits + at * g->vocab, true, &err);
    }
    if (st) fail(g, err.text);
    crl_free((void *)(uintptr_t)rows);
    crl_session_free(s);
    return logits;
}

/* The same through the public interface, which gives the last token's logits. */
static void compare_public(const struct golden *g, struct crl_engine *e, const int32_t *ids, struct crl_picture *const *p,
                           const float *whole)
{
    float *logits = calloc(g->vocab, sizeof *logits);
    struct crl_session *s = NULL;
    struct crl_err err = { "" };

    if (crl_session_new(&s, e, g->n_tok, &err) ||
        crl_session_feed_pictures(s, ids, g->n_tok, p, g->n_picture, logits, &err))
        fail(g, err.text);
    else if (memcmp(logits, whole + (g->n_tok - 1) * g->vocab, g->vocab * sizeof *logits))
        fail(g, "crl_session_feed_pictures gives other bits");
    crl_session_free(s);
    free(logits);
}

/* A prompt with one image token too few, too many, and pictures in the wrong number. */
static void count_mistakes(const struct golden *g, struct crl_engine *e, const int32_t *ids, struct crl_picture *const *p)
{
    const float *const *rows = NULL;
    struct crl_err err = { "" };
    int32_t *more = calloc(g->n_tok + 1, sizeof *more);
    struct crl_engine_info info;

    crl_engine_info(e, &info);
    memcpy(more, ids, g->n_tok * sizeof *ids);
    more[g->n_tok] = info.image_token;
    if (crl_pictures_place(e, more, g->n_tok + 1, p, g->n_picture, &rows, &err) != CRL_ERANGE || rows ||
        !strstr(err.text, "image tokens in the prompt"))
        fail(g, "one image token too many is accepted");
    err.text[0] = 0;
    if (crl_pictures_place(e, ids, g->n_tok, p, g->n_picture - 1, &rows, &err) == CRL_OK && g->n_picture > 1)
        fail(g, "one picture too few is accepted");
    crl_free((void *)(uintptr_t)rows);
    free(more);
}

/* The same file opened again is the same view, already encoded, and lives on in the cache when it is freed. */
static void compare_cached(const struct golden *g, struct crl_engine *e, struct crl_picture *const *p)
{
    struct crl_picture *again[PICTURES] = { NULL };
    struct crl_eyes_stats before, after;

    crl_eyes_stats(crl_engine_eyes(e), &before);
    if (open_pictures(g, e, again) && crl_picture_rows(again[0]) != crl_picture_rows(p[0]))
        fail(g, "a picture opened twice is encoded twice");
    for (size_t i = 0; i < g->n_picture; i++) crl_picture_free(again[i]);
    crl_eyes_stats(crl_engine_eyes(e), &after);
    if (after.tiles != before.tiles || after.found != before.found + g->n_picture) fail(g, "the cache was not used");
}

/* Tiles encoded one by one and all together. */
static void compare_groups(const struct golden *g, struct crl_engine *e, const struct crl_picture *p)
{
    const struct crl_pack *pack = crl_engine_pack(e);
    const struct crl_config *cfg = crl_pack_config(pack);
    struct crl_tower *t = NULL;
    struct crl_tiles tiles = { 0 };
    struct crl_image img = { NULL, 0, 0 };
    struct crl_preprocess pre;
    struct crl_err err = { "" };
    size_t len, n = crl_picture_tiles(p) * crl_vision_tokens(cfg) * cfg->d_model;
    const unsigned char *text = crl_pack_section(pack, CRL_SECTION_PREPROCESSING, &len);
    char *path = path3(folder, g->name, "picture0.png");
    float *rows = calloc(n, sizeof *rows);
    enum crl_status st = crl_preprocess_parse(&pre, (const char *)text, len, cfg->vision.image, &err);

    if (!st) st = crl_image_read(&img, path, false, &err);
    if (!st) st = crl_tiles_cut(&tiles, &img, &pre, 0, &err);
    if (!st) st = crl_tower_new(&t, crl_engine_weights(e), crl_engine_kernels(e), crl_engine_team(e), 3, &err);
    if (!st) crl_tower_encode(t, &tiles, &pre, 0, tiles.grid.n_tile, rows, NULL);
    if (st) fail(g, err.text);
    else if (memcmp(rows, crl_picture_rows(p), n * sizeof *rows)) fail(g, "tiles in groups of 3 give other bits");
    crl_tower_free(t);
    crl_tiles_fini(&tiles);
    crl_image_fini(&img);
    free(rows);
    free(path);
}

static void run_engine(const struct golden *g, struct crl_engine *e, const int32_t *ids, const float *want_rows,
                       const float *want, bool quick, float **kept)
{
    struct crl_picture *p[PICTURES] = { NULL };
    float *rows = NULL, *logits = NULL;

    if (open_pictures(g, e, p)) rows = all_rows(g, p);
    if (rows) logits = feed(g, e, ids, p, g->n_tok);
    if (!logits) goto out;
    if (!*kept) {
        compare(g, "seen", rows, g->step * g->d_model, want_rows, (g->n_row + g->step - 1) / g->step, g->d_model);
        compare(g, "logits", logits + g->from * g->vocab, g->vocab, want, g->n_tok - g->from, g->vocab);
    } else if (memcmp(*kept, logits, g->n_tok * g->vocab * sizeof *logits)) {
        fail(g, "other threads or memory nodes give other bits");
    }
    if (!quick && !*kept) {
        for (size_t piece = 1; piece < 8; piece += 4) {
            float *again = feed(g, e, ids, p, piece);
            if (memcmp(again, logits, g->n_tok * g->vocab * sizeof *again)) fail(g, "pieces give other bits");
            free(again);
        }
        compare_public(g, e, ids, p, logits);
        count_mistakes(g, e, ids, p);
        compare_cached(g, e, p);
        compare_groups(g, e, p[0]);
    }
    if (!*kept) {
        *kept = logits;
        logits = NULL;
    }
out:
    for (size_t i = 0; i < g->n_picture; i++) crl_picture_free(p[i]);
    free(rows);
    free(logits);
}

static void run_case(const struct golden *g, bool quick)
{
    char dir[] = "golden_vision_XXXXXX";
    size_t len, row_len;
    float *want_rows = read_file(g, "seen.f32", &row_len), *want = read_file(g, "logits.f32", &len), *kept = NULL;
    int32_t *ids = read_ids(g);

    if (row_len != (g->n_row + g->step - 1) / g->step * g->d_model * sizeof *want ||
        len != (g->n_tok - g->from) * g->vocab * sizeof *want || g->n_picture > PICTURES) {
        fail(g, "golden data of another size");
        goto out;
    }
    stage(g, dir);
    for (size_t i = 0; i < (quick ? 1 : sizeof machines / sizeof *machines); i++) {
        struct crl_engine *e = engine_of(g, dir, i);
        if (!e) break;
        run_engine(g, e, ids, want_rows, want, quick, &kept);
        crl_engine_close(e);
    }
    unstage(dir);
out:
    crl_free(want_rows);
    crl_free(want);
    free(kept);
    free(ids);
}

static bool wanted(const char *name, char **names, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names[i])) return true;
    return n == 0;
}

int main(int argc, char **argv)
{
    const char *srcdir = getenv("srcdir");
    bool quick = argc > 1 && !strcmp(argv[1], "--quick");
    char *path, line[256], *own = path3(srcdir ? srcdir : ".", "tests/golden", "vision");
    FILE *cases;
    int skip = 1 + quick;

    folder = argc > skip ? argv[skip++] : own;
    path = path3(folder, ".", "CASES");
    cases = fopen(path, "r");
    if (!cases) {
        fprintf(stderr, "golden_vision: no %s\n", path);
        return 2;
    }
    while (fgets(line, sizeof line, cases)) {
        struct golden g;
        if (sscanf(line, "%31s %zu %zu %zu %zu %zu %zu %zu", g.name, &g.n_picture, &g.n_tok, &g.from, &g.n_row, &g.step,
                   &g.vocab, &g.d_model) == 8 &&
            g.name[0] != '#' && wanted(g.name, argv + skip, argc - skip))
            run_case(&g, quick);
    }
    fclose(cases);
    free(path);
    free(own);
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed || !n_passed;
}
