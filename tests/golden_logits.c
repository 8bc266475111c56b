/* golden_logits.c - the whole text path against logits computed by the reference implementation (tests/golden).
 *
 * Every case is staged as a checkpoint, packed with recipe bf16 in memory and run. At every position the logits must be
 * within 1e-4 of the reference (norm of the difference over norm) and name the same best token where the reference's
 * margin exceeds the error. Where the case has them, the stream after each layer and the experts chosen are compared
 * too. Feeding in pieces of 1, 3 and 8, 1 to 3 threads, and decoding beside other sessions must give the same
 * bits, as must passes of several sessions that hand their logits out, and weights placed in every mode on pretended
 * machines of one to four nodes. Decoding must not allocate.
 *
 * golden_logits [--quick] [FOLDER CASE...]: all cases of $srcdir/tests/golden/model by default; --quick runs each case
 * once, which is what the mutation tests need. Exit code 1 when a case fails. */
#define _GNU_SOURCE
#include "convert/convert.h"
#include "run/engine.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOLERANCE 1e-4

struct golden {
    char name[32], weights[32], suffix[32];
    size_t n_tok, n_prompt, vocab, n_layer, d_model;
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
    printf("FAIL %s%s: %s\n", g->name, strcmp(g->suffix, "-") ? g->suffix : "", what);
    n_failed++;
}

/* A folder of links: the weight files of one case with the config.json of another. */
static void stage(const struct golden *g, char *dir)
{
    char *from = path3(folder, g->weights, ""), *config = path3(folder, g->name, "config.json"), *to;
    char *abs = realpath(from, NULL), *abs_config = realpath(config, NULL);
    DIR *d = abs ? opendir(abs) : NULL;

    if (!d || !abs_config || !mkdtemp(dir)) {
        fprintf(stderr, "golden_logits: cannot stage %s\n", g->name);
        exit(2);
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!strstr(e->d_name, "safetensors")) continue;
        char *source = path3(abs, "", e->d_name);
        to = path3(dir, "", e->d_name);
        if (symlink(source, to)) exit(2);
        free(source);
        free(to);
    }
    to = path3(dir, "", "config.json");
    if (symlink(abs_config, to)) exit(2);
    free(to);
    closedir(d);
    free(from);
    free(abs);
    free(config);
    free(abs_config);
}

static void unstage(const char *dir)
{
    DIR *d = opendir(dir);

    for (struct dirent *e; d && (e = readdir(d));) {
        char *p = path3(dir, "", e->d_name);
        if (e->d_name[0] != '.') unlink(p);
        free(p);
    }
    if (d) closedir(d);
    rmdir(dir);
}

static void *read_golden(const struct golden *g, const char *stem, const char *ending, size_t *len)
{
    char name[96], *path, *data;
    struct crl_err err = { "" };

    snprintf(name, sizeof name, "%s%s.%s", stem, strcmp(g->suffix, "-") ? g->suffix : "", ending);
    path = path3(folder, g->name, name);
    if (!crl_file_exists(path)) data = NULL;
    else if (crl_file_read(&data, len, path, (size_t)64 << 20, &err)) {
        fprintf(stderr, "golden_logits: %s\n", err.text);
        exit(2);
    }
    free(path);
    return data;
}

static int32_t *read_ids(const struct golden *g)
{
    size_t len = 0, n = 0;
    char *text = read_golden(g, "ids", "txt", &len), *at = text;
    int32_t *ids = calloc(g->n_tok, sizeof *ids);

    while (text && n < g->n_tok) ids[n++] = (int32_t)strtol(at, &at, 10);
    crl_free(text);
    return ids;
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

static size_t best_of(const float *x, size_t n)
{
    size_t b = 0;

    for (size_t i = 1; i < n; i++)
        if (x[i] > x[b]) b = i;
    return b;
}

static double second_margin(const float *x, size_t n, size_t best)
{
    double second = -INFINITY;

    for (size_t i = 0; i < n; i++)
        if (i != best && x[i] > second) second = x[i];
    return x[best] - second;
}

static void compare_logits(const struct golden *g, const float *got, const float *want)
{
    double worst = 0;
    char text[128];

    for (size_t t = 0; t < g->n_tok; t++) {
        const float *a = got + t * g->vocab, *b = want + t * g->vocab;
        double d = distance(a, b, g->vocab), off = 0;
        size_t best = best_of(b, g->vocab);

        for (size_t i = 0; i < g->vocab; i++) off = fmax(off, fabs((double)a[i] - b[i]));
        if (best_of(a, g->vocab) != best && second_margin(b, g->vocab, best) > 2 * off) {
            snprintf(text, sizeof text, "position %zu: another best token", t);
            fail(g, text);
            return;
        }
        if (d > worst) worst = d;
        if (!(d <= TOLERANCE)) {
            snprintf(text, sizeof text, "position %zu: relative error %.3g of the logits", t, d);
            fail(g, text);
            return;
        }
    }
    printf("ok   %s%s: %zu positions, largest relative error %.2g\n", g->name,
           strcmp(g->suffix, "-") ? g->suffix : "", g->n_tok, worst);
    n_passed++;
}

/* Streams and routes seen by the tap of one pass over the whole text. */
struct seen {
    size_t n_tok, d_model, used, at; /* at: tokens of earlier passes */
    float *hidden;                   /* [n_layer + 1][n_tok][d_model] */
    FILE *routes;                    /* lines as in routes.txt, one pass after the other */
};

static void see_hidden(void *ctx, uint32_t layer, const float *h, size_t n_tok)
{
    struct seen *s = ctx;

    memcpy(s->hidden + ((size_t)layer * s->n_tok + s->at) * s->d_model, h, n_tok * s->d_model * sizeof *h);
}

static void see_routes(void *ctx, uint32_t layer, const uint32_t *expert, size_t n_tok)
{
    struct seen *s = ctx;

    for (size_t t = 0; t < n_tok; t++) {
        fprintf(s->routes, "%u %zu", layer, s->at + t);
        for (size_t c = 0; c < s->used; c++) fprintf(s->routes, " %u", expert[t * s->used + c]);
        fprintf(s->routes, "\n");
    }
}

static int by_line(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* True when both texts hold the same lines, in any order. */
static bool same_lines(char *a, char *b)
{
    char *line[2][4096], *save;
    size_t n[2] = { 0, 0 };

    for (char *l = strtok_r(a, "\n", &save); l && n[0] < 4096; l = strtok_r(NULL, "\n", &save)) line[0][n[0]++] = l;
    for (char *l = strtok_r(b, "\n", &save); l && n[1] < 4096; l = strtok_r(NULL, "\n", &save)) line[1][n[1]++] = l;
    if (n[0] != n[1]) return false;
    for (int i = 0; i < 2; i++) qsort(line[i], n[i], sizeof *line[i], by_line);
    for (size_t i = 0; i < n[0]; i++)
        if (strcmp(line[0][i], line[1][i])) return false;
    return true;
}

static float *feed_in_pieces(const struct golden *g, struct crl_engine *e, const int32_t *ids, size_t piece)
{
    float *logits = calloc(g->n_tok * g->vocab, sizeof *logits);
    struct crl_session *s;
    struct crl_err err = { "" };
    enum crl_status st = crl_session_new(&s, e, g->n_tok, &err);

    for (size_t at = 0; !st && at < g->n_tok; at += piece) {
        size_t n = g->n_tok - at < piece ? g->n_tok - at : piece;
        if (n > 0) st = crl_session_feed_all(s, ids + at, n, logits + at * g->vocab, &err);
    }
    if (st) fail(g, err.text);
    crl_session_free(s);
    return logits;
}

/* The stream after each layer and the routes, fed token by token so that the tap sees one position a pass. */
static void compare_layers(const struct golden *g, struct crl_engine *e, const int32_t *ids)
{
    size_t len, routes_len = 0;
    float *want = read_golden(g, "hidden", "f32", &len), *logits = calloc(g->vocab, sizeof *logits);
    char *routes = read_golden(g, "routes", "txt", &len), *got = NULL, text[128];
    struct crl_engine_info info;
    struct crl_session *s = NULL;
    struct crl_err err = { "" };
    struct seen seen = { g->n_tok, g->d_model, 0, 0, NULL, NULL };

    if (!want) goto out;
    crl_engine_info(e, &info);
    seen.used = info.n_expert_used;
    seen.hidden = calloc((g->n_layer + 1) * g->n_tok * g->d_model, sizeof *seen.hidden);
    seen.routes = open_memstream(&got, &routes_len);
    crl_engine_tap(e, see_hidden, see_routes, &seen);
    if (crl_session_new(&s, e, g->n_tok, &err)) fail(g, err.text);
    for (; s && seen.at < g->n_tok; seen.at++)
        if (crl_session_feed(s, ids + seen.at, 1, logits, &err)) fail(g, err.text);
    crl_engine_tap(e, NULL, NULL, NULL);
    fclose(seen.routes);
    for (size_t l = 0; l <= g->n_layer; l++) {
        double d = distance(seen.hidden + l * g->n_tok * g->d_model, want + l * g->n_tok * g->d_model,
                            g->n_tok * g->d_model);
        if (d <= TOLERANCE) continue;
        snprintf(text, sizeof text, "stream after layer %zu: relative error %.3g", l, d);
        fail(g, text);
        break;
    }
    if (routes && !same_lines(routes, got)) fail(g, "other experts were chosen");
    crl_session_free(s);
out:
    free(seen.hidden);
    free(got);
    free(logits);
    crl_free(want);
    crl_free(routes);
}

/* The same text in three sessions that step together, each one token behind the other. */
static void compare_batched(const struct golden *g, struct crl_engine *e, const int32_t *ids, const float *alone)
{
    struct crl_session *s[3] = { NULL, NULL, NULL }, *now[3];
    float *logits = calloc(3 * g->vocab, sizeof *logits);
    struct crl_err err = { "" };
    size_t pos[3] = { 0, 0, 0 }, which[3];
    bool same = true;

    for (int i = 0; i < 3; i++)
        if (crl_session_new(&s[i], e, g->n_tok, &err)) fail(g, err.text);
    for (size_t step = 0; same && step < g->n_tok + 2; step++) {
        int32_t id[3];
        size_t n = 0;
        for (size_t i = 0; i < 3; i++) {
            if (step < i || pos[i] >= g->n_tok) continue;
            which[n] = i;
            now[n] = s[i];
            id[n++] = ids[pos[i]];
        }
        if (n && crl_engine_step(e, now, id, n, logits, &err)) fail(g, err.text);
        for (size_t j = 0; j < n; j++)
            same &= !memcmp(logits + j * g->vocab, alone + pos[which[j]]++ * g->vocab, g->vocab * sizeof *logits);
    }
    if (!same) fail(g, "sessions that step together give other bits than one alone");
    for (int i = 0; i < 3; i++) crl_session_free(s[i]);
    free(logits);
}

/* What a pass with several sessions hands out: rows numbered as they come. */
struct handed {
    size_t vocab, rows;
    float *logits; /* [rows][vocab] */
    unsigned *seen; /* [rows] members that wrote the row */
    size_t base;
};

static void keep_rows(void *ctx, const struct crl_member *me, size_t first, float *logits, size_t stride, size_t n)
{
    struct handed *h = ctx;
    size_t lo, hi;

    crl_team_range(me, n, &lo, &hi);
    for (size_t i = lo; i < hi; i++) {
        size_t row = h->base + first + i;
        if (row >= h->rows) continue;
        memcpy(h->logits + row * h->vocab, logits + i * stride, h->vocab * sizeof *logits);
        h->seen[row]++;
    }
}

/* The text in two sessions, one of them ahead by a token, both without the first logits of each piece. */
static void compare_passes(const struct golden *g, struct crl_engine *e, const int32_t *ids, const float *alone)
{
    struct crl_session *s[2] = { NULL, NULL };
    struct handed h = { g->vocab, 2 * g->n_tok, NULL, NULL, 0 };
    struct crl_err err = { "" };
    size_t *want = calloc(h.rows, sizeof *want), n_want = 0, at[2] = { 0, 0 };
    bool same = true;

    h.logits = calloc(h.rows * h.vocab, sizeof *h.logits);
    h.seen = calloc(h.rows, sizeof *h.seen);
    for (int i = 0; i < 2; i++)
        if (crl_session_new(&s[i], e, g->n_tok, &err)) fail(g, err.text);
    for (size_t turn = 0; at[0] < g->n_tok || at[1] < g->n_tok; turn++) {
        struct crl_piece piece[2];
        size_t n = 0, left = crl_engine_batch_max(e);
        for (size_t i = 0; i < 2; i++) {
            size_t len = g->n_tok - at[i], room = crl_session_room(s[i]);
            if (len > room) len = room;
            if (len > left / (2 - i)) len = left / (2 - i);
            if (!turn && !i && len > 1) len = 1;
            if (!len) continue;
            piece[n++] = (struct crl_piece){ s[i], ids + at[i], len, len > 1, NULL };
            for (size_t t = len > 1; t < len; t++) want[n_want++] = at[i] + t;
            left -= len;
            at[i] += len;
        }
        if (crl_engine_pass(e, piece, n, keep_rows, &h, &err)) fail(g, err.text);
        h.base = n_want;
    }
    for (size_t r = 0; r < n_want; r++)
        same &= h.seen[r] == 1 && !memcmp(h.logits + r * h.vocab, alone + want[r] * h.vocab, h.vocab * sizeof *alone);
    if (!same) fail(g, "a pass that hands its logits out gives other bits");
    for (int i = 0; i < 2; i++) crl_session_free(s[i]);
    free(want);
    free(h.logits);
    free(h.seen);
}

/* Decoding takes no memory: whatever a pass needs was carved when the engine and the session were made. */
static void count_allocations(const struct golden *g, struct crl_engine *e, const int32_t *ids)
{
    float *logits = calloc(g->vocab, sizeof *logits);
    struct crl_session *s = NULL;
    struct crl_err err = { "" };

    if (crl_session_new(&s, e, g->n_tok, &err)) fail(g, err.text);
    crl_alloc_fail_after(0);
    for (size_t t = 0; s && t < g->n_tok; t++)
        if (crl_session_feed(s, ids + t, 1, logits, &err)) fail(g, err.text);
    if (crl_alloc_fail_after(0)) fail(g, "decoding allocates memory");
    crl_session_free(s);
    free(logits);
}

static struct crl_engine *placed_engine(const struct golden *g, const char *dir, unsigned threads, size_t batch,
                                        const char *numa, const char *topology, enum crl_kv_choice kv)
{
    struct crl_convert_options convert = { .jobs = 1 };
    struct crl_engine_options options = { .threads = threads, .batch_max = batch, .no_pin = true, .numa = numa,
                                          .topology = topology, .kv = kv };
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

static struct crl_engine *engine_of(const struct golden *g, const char *dir, unsigned threads, size_t batch)
{
    return placed_engine(g, dir, threads, batch, NULL, NULL, CRL_KV_AUTO);
}

/* Machines that are not there, a third of them in each case; sides of one, two, and one and a half nodes; fewer kv heads
 * than nodes. */
static const struct machine {
    const char *topology, *numa;
    unsigned threads, nodes;
} machines[] = {
    { "package:2 [numa(memory=64GiB)] core:2 pu:1", "experts", 4, 2 },
    { "package:2 [numa(memory=64GiB)] core:2 pu:1", "experts", 3, 2 },
    { "package:2 [numa(memory=64GiB)] core:2 pu:1", "rows", 4, 2 },
    { "package:2 [numa(memory=64GiB)] core:2 pu:1", "interleave", 2, 2 },
    { "package:2 [numa(memory=64GiB)] core:2 pu:1", "off", 3, 2 },
    { "package:3 [numa(memory=64GiB)] core:1 pu:1", "experts", 3, 3 },
    { "package:3 [numa(memory=64GiB)] core:1 pu:1", "rows", 3, 3 },
    { "package:2 die:2 [numa(memory=64GiB)] core:1 pu:1", "experts", 4, 4 },
    { "package:4 [numa(memory=64GiB)] core:1 pu:1", "rows", 4, 4 },
    { "package:1 [numa(memory=64GiB)] core:2 pu:1", "experts", 2, 1 },
};

static void compare_machines(const struct golden *g, const char *dir, const int32_t *ids, const float *whole)
{
    for (size_t i = (unsigned char)g->name[0] % 3; i < sizeof machines / sizeof *machines; i += 3) {
        const struct machine *m = &machines[i];
        struct crl_engine *e = placed_engine(g, dir, m->threads, 64, m->numa, m->topology, CRL_KV_AUTO);
        struct crl_engine_info info;
        char text[160];

        if (!e) return;
        crl_engine_info(e, &info);
        snprintf(text, sizeof text, "mode %s, %u threads on %u nodes: other bits", m->numa, m->threads, m->nodes);
        if (info.nodes != m->nodes || strcmp(info.numa, m->numa)) fail(g, "another mode or machine than asked for");
        for (size_t piece = 1; piece <= g->n_tok; piece += g->n_tok - 1) {
            float *again = feed_in_pieces(g, e, ids, piece);
            if (memcmp(again, whole, g->n_tok * g->vocab * sizeof *again)) fail(g, text);
            free(again);
        }
        compare_batched(g, e, ids, whole);
        crl_engine_close(e);
    }
}

/* The smaller caches: the same bits however they are filled, and near the golden logits, but not as near as float32.
 * (Nearness only where there is no router, whose choice a small error may turn.) */
static void compare_caches(const struct golden *g, const char *dir, const int32_t *ids, const float *want)
{
    static const struct {
        const char *name;
        enum crl_kv_choice kv;
        double bound;
    } cache[] = { { "bf16", CRL_KV_CHOOSE_BF16, 3e-2 }, { "int8", CRL_KV_CHOOSE_INT8, 5e-2 } };
    bool dense = !strcmp(g->name, "E2") || !strcmp(g->name, "S");

    for (size_t i = 0; i < sizeof cache / sizeof *cache; i++) {
        float *whole = NULL;

        for (unsigned threads = 1; threads <= 3; threads += 2) {
            struct crl_engine *e = placed_engine(g, dir, threads, 64, NULL, NULL, cache[i].kv);
            char text[96];

            if (!e) break;
            for (size_t piece = 1; piece <= g->n_tok; piece += g->n_tok - 1) {
                float *again = feed_in_pieces(g, e, ids, piece);
                snprintf(text, sizeof text, "%s cache, %u threads, pieces of %zu: other bits", cache[i].name, threads, piece);
                if (whole && memcmp(again, whole, g->n_tok * g->vocab * sizeof *again)) fail(g, text);
                if (whole) free(again);
                else whole = again;
            }
            crl_engine_close(e);
        }
        if (whole) {
            double off = distance(whole, want, g->n_tok * g->vocab);
            char text[96];
            snprintf(text, sizeof text, "%s cache: relative error %.2g", cache[i].name, off);
            if (dense && !(off < cache[i].bound && off > 1e-5)) fail(g, text);
        }
        free(whole);
    }
}

static void run_case(const struct golden *g, bool quick)
{
    char dir[] = "golden_XXXXXX";
    size_t len = 0;
    float *want = read_golden(g, "logits", "f32", &len), *whole;
    int32_t *ids = read_ids(g);

    if (!want || len != g->n_tok * g->vocab * sizeof *want) {
        fail(g, "golden logits are missing or of another size");
        goto out;
    }
    stage(g, dir);
    for (unsigned threads = 1; threads <= (quick ? 1 : 3); threads++) {
        static const size_t pieces[] = { 1, 3, 8 };
        struct crl_engine *e = engine_of(g, dir, threads, threads == 3 ? 5 : 64);

        if (!e) break;
        whole = feed_in_pieces(g, e, ids, g->n_tok);
        if (threads == 1) compare_logits(g, whole, want);
        for (size_t p = 0; !quick && p < sizeof pieces / sizeof *pieces; p++) {
            float *again = feed_in_pieces(g, e, ids, pieces[p]);
            char text[96];
            snprintf(text, sizeof text, "%u threads, pieces of %zu give other bits", threads, pieces[p]);
            if (memcmp(again, whole, g->n_tok * g->vocab * sizeof *again)) fail(g, text);
            free(again);
        }
        if (!quick && threads > 1) compare_logits(g, whole, want);
        if (!quick && threads == 2) compare_layers(g, e, ids);
        if (!quick) compare_batched(g, e, ids, whole);
        if (!quick) compare_passes(g, e, ids, whole);
        if (!quick && threads == 1) count_allocations(g, e, ids);
        if (!quick && threads == 2) compare_machines(g, dir, ids, whole);
        if (!quick && threads == 2) compare_caches(g, dir, ids, want);
        free(whole);
        crl_engine_close(e);
    }
    unstage(dir);
out:
    crl_free(want);
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
    char *path, line[256], *own = path3(srcdir ? srcdir : ".", "tests/golden", "model");
    FILE *cases;
    int skip = 1 + quick;

    folder = argc > skip ? argv[skip++] : own;
    path = path3(folder, "", "CASES");
    cases = fopen(path, "r");
    if (!cases) {
        fprintf(stderr, "golden_logits: no %s\n", path);
        return 2;
    }
    while (fgets(line, sizeof line, cases)) {
        struct golden g;
        if (sscanf(line, "%31s %31s %31s %zu %zu %zu %zu %zu", g.name, g.weights, g.suffix, &g.n_tok, &g.n_prompt,
                   &g.vocab, &g.n_layer, &g.d_model) == 8 &&
            g.name[0] != '#' && wanted(g.name, argv + skip, argc - skip))
            run_case(&g, quick);
    }
    fclose(cases);
    free(path);
    free(own);
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed || !n_passed;
}
