/* test_vision.c - pictures, tiles and their tokens against the reference's (tests/golden/vision). */
#include "base/file.h"
#include "base/mem.h"
#include "run/picture.h"
#include "vision/tiles.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static FILE *open_golden(const char *name)
{
    const char *srcdir = getenv("srcdir");
    char path[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/tests/golden/vision/%s", srcdir ? srcdir : ".", name);
    f = fopen(path, "r");
    if (!f) fail_msg("no %s", path);
    return f;
}

static void grid_is_the_references_for_2000_sizes(void **state)
{
    FILE *f = open_golden("sizes.txt");
    char line[256];
    size_t n = 0;

    (void)state;
    while (fgets(line, sizeof line, f)) {
        unsigned h, w, tile, tiles, to_max, rows, cols, rh, rw;
        struct crl_preprocess p;
        struct crl_grid g;

        if (sscanf(line, "%u %u %u %u %u %u %u %u %u", &h, &w, &tile, &tiles, &to_max, &rows, &cols, &rh, &rw) != 9)
            continue;
        crl_preprocess_init(&p, tile);
        p.max_tiles = tiles;
        p.max_canvas = to_max;
        crl_grid_choose(&g, &p, 0, h, w);
        if (g.rows != rows || g.cols != cols || g.height != rh || g.width != rw)
            fail_msg("%u x %u: %u x %u tiles, %u x %u, expected %s", h, w, g.rows, g.cols, g.height, g.width, line);
        assert_int_equal(g.n_tile, rows * cols + (rows * cols > 1));
        n++;
    }
    fclose(f);
    assert_true(n >= 2000);
}

static void fewer_tiles_are_a_smaller_canvas(void **state)
{
    struct crl_preprocess p;
    struct crl_grid g;

    (void)state;
    crl_preprocess_init(&p, 336);
    for (uint32_t most = 1; most <= 16; most++) {
        crl_grid_choose(&g, &p, most, 3000, 4000);
        assert_true(g.rows * g.cols <= most);
    }
    crl_grid_choose(&g, &p, 1000, 3000, 4000); /* never more than the model's own limit */
    assert_int_equal(g.n_tile, 13);
}

/* The pattern of make_vision.py. */
static uint8_t *pattern(uint32_t height, uint32_t width, uint32_t seed)
{
    uint8_t *out = crl_alloc((size_t)height * width, 3);

    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            for (uint32_t c = 0; c < 3; c++) {
                uint32_t v = (y * width + x) * 3 + c + seed * 2654435761u;
                v = (v ^ v >> 15) * 2246822519u;
                v = (v ^ v >> 13) * 3266489917u;
                out[((size_t)y * width + x) * 3 + c] = (uint8_t)(y * 3 + x * 2 * (c + 1) + ((v ^ v >> 16) & 63));
            }
    return out;
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t c = 0xffffffff;

    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
    }
    return ~c;
}

static void resized_pixels_are_the_references(void **state)
{
    FILE *f = open_golden("pixels.txt");
    char line[512];
    uint32_t seed = 0;

    (void)state;
    while (fgets(line, sizeof line, f)) {
        unsigned h, w, nh, nw, crc, v;
        uint8_t *in, *out;
        size_t n;
        int at;

        if (sscanf(line, "%u %u %u %u %u%n", &h, &w, &nh, &nw, &crc, &at) != 5) continue;
        in = pattern(h, w, seed++);
        out = crl_alloc((size_t)nh * nw, 3);
        n = (size_t)nh * nw * 3;
        assert_int_equal(crl_image_resize(out, nh, nw, in, h, w, NULL), CRL_OK);
        for (size_t i = 0, shift; i < 24 && n >= 24; i++, at += (int)shift) {
            int used;
            uint8_t got = i < 12 ? out[i] : out[n - 24 + i];
            assert_int_equal(sscanf(line + at, "%u%n", &v, &used), 1);
            shift = (size_t)used;
            if (abs((int)got - (int)v) > 1) fail_msg("%u x %u to %u x %u: value %zu is %u, not %u", h, w, nh, nw, i, got, v);
        }
        if (crc32_of(out, n) != crc) fail_msg("%u x %u to %u x %u: other pixels", h, w, nh, nw);
        crl_free(in);
        crl_free(out);
    }
    fclose(f);
    assert_int_equal(seed, 13);
}

static void values_are_the_references(void **state)
{
    FILE *f = open_golden("values.txt");
    struct crl_preprocess p;
    float want;
    int n = 0;

    (void)state;
    crl_preprocess_init(&p, 336);
    for (; fscanf(f, "%f", &want) == 1; n++)
        for (int c = 0; c < 3; c++) assert_true(p.value[c][n] == want);
    fclose(f);
    assert_int_equal(n, 256);
}

static void tokens_are_the_references(void **state)
{
    static const struct crl_image_ids names = { 'S', 'E', 'I', 'p', 'X', 'Y' };
    static int32_t ids[4096];
    FILE *f = open_golden("layout.txt");
    char line[4096];
    int n_line = 0;

    (void)state;
    while (fgets(line, sizeof line, f)) {
        unsigned h, w, n;
        struct crl_preprocess p;
        struct crl_grid g;
        size_t at = 0;
        char *c = line;
        int used;

        if (sscanf(line, "%u %u %u%n", &h, &w, &n, &used) != 3) continue;
        crl_preprocess_init(&p, 336);
        crl_grid_choose(&g, &p, 0, h, w);
        assert_int_equal(crl_grid_ids(&g, 144, &names, NULL), n);
        crl_grid_ids(&g, 144, &names, ids);
        for (c = strtok(line + used, " \n"); c; c = strtok(NULL, " \n")) {
            size_t times = c[0] == 'p' ? strtoul(c + 1, NULL, 10) : 1;
            while (times--) assert_int_equal(ids[at++], c[0]);
        }
        assert_int_equal(at, n);
        n_line++;
    }
    fclose(f);
    assert_true(n_line > 20);
}

/* Where the picture lies on its canvas, and what the global tile is. */
static void tiles_hold_the_canvas_row_by_row(void **state)
{
    struct crl_image img = { pattern(20, 14, 1), 14, 20 };
    struct crl_preprocess p;
    struct crl_tiles t;
    uint8_t whole[8 * 8 * 3];

    (void)state;
    crl_preprocess_init(&p, 8);
    assert_int_equal(crl_tiles_cut(&t, &img, &p, 0, NULL), CRL_OK);
    assert_int_equal(t.grid.rows, 3);
    assert_int_equal(t.grid.cols, 2);
    assert_int_equal(t.grid.n_tile, 7);
    for (size_t y = 0; y < 24; y++)
        for (size_t x = 0; x < 16; x++) {
            const uint8_t *got = t.rgb + (y / 8 * 2 + x / 8) * crl_tile_bytes(&t) + (y % 8 * 8 + x % 8) * 3;
            static const uint8_t black[3];
            assert_memory_equal(got, y < 20 && x < 14 ? img.rgb + (y * 14 + x) * 3 : black, 3);
        }
    assert_int_equal(crl_image_resize(whole, 8, 8, img.rgb, 20, 14, NULL), CRL_OK);
    assert_memory_equal(t.rgb + 6 * crl_tile_bytes(&t), whole, sizeof whole);
    crl_tiles_fini(&t);
    crl_image_fini(&img);
}

static void settings_that_mean_something_else_are_refused(void **state)
{
    static const struct {
        const char *text, *says;
        enum crl_status st;
    } row[] = {
        { "{\"size\":{\"height\":336,\"width\":336}}", NULL, CRL_OK },
        { "{\"size\":336,\"max_patches\":4,\"resample\":2,\"image_mean\":[0.5,0.5,0.5]}", NULL, CRL_OK },
        { "{\"image_processor\":{\"max_patches\":5},\"processor_class\":\"x\"}", NULL, CRL_OK },
        { "{\"size\":{\"height\":448,\"width\":448}}", "size is 448 x 448", CRL_EFORMAT },
        { "{\"resample\":3}", "resample is 3", CRL_EUNSUPPORTED },
        { "{\"do_resize\":false}", "do_resize", CRL_EUNSUPPORTED },
        { "{\"do_normalize\":false}", "do_normalize", CRL_EUNSUPPORTED },
        { "{\"max_patches\":0}", "max_patches", CRL_EFORMAT },
        { "{\"max_patches\":100000}", "max_patches", CRL_EFORMAT },
        { "{\"image_std\":[0.5,0,0.5]}", "image_std", CRL_EFORMAT },
        { "{\"image_mean\":[0.5]}", "image_mean", CRL_EFORMAT },
        { "[]", "not an object", CRL_EFORMAT },
        { "{", "line 1", CRL_EFORMAT },
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct crl_err err = { "" };
        struct crl_preprocess p;
        enum crl_status st = crl_preprocess_parse(&p, row[i].text, strlen(row[i].text), 336, &err);
        if (st != row[i].st || (row[i].says && !strstr(err.text, row[i].says)))
            fail_msg("%s: %s: %s", row[i].text, crl_status_name(st), err.text);
    }
}

/* --- files --------------------------------------------------------------------------------------------------- */

static char *corpus(const char *name)
{
    static char path[512];
    const char *srcdir = getenv("srcdir");

    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/image/%s", srcdir ? srcdir : ".", name);
    return path;
}

static void bad_pictures_are_refused_by_name(void **state)
{
    static const struct {
        const char *name, *says;
        enum crl_status st;
    } row[] = {
        { "small.gif", "a GIF file", CRL_EUNSUPPORTED },
        { "web.png", "a WebP file", CRL_EUNSUPPORTED },
        { "empty.png", "the file is empty", CRL_EFORMAT },
        { "cut.png", "truncated", CRL_EFORMAT },
        { "crc.png", "wrong checksum of chunk IDAT", CRL_EFORMAT },
        { "short.png", "damaged", CRL_EFORMAT },
        { "huge.png", "40000 x 40000 pixels, at most 32767 on a side", CRL_ERANGE },
        { "claims.png", "cannot hold the 9000 x 9000 pixels", CRL_EFORMAT },
        { "bomb.png", "damaged", CRL_EFORMAT },
        { "zero.png", "0 x 5 pixels", CRL_EFORMAT },
        { "type9.png", "no image header", CRL_EFORMAT },
        { "nopalette.png", "damaged", CRL_EFORMAT },
        { "cut.jpg", "end mark of a JPEG file is missing", CRL_EFORMAT },
        { "huge.jpg", "65535 x 65535 pixels", CRL_ERANGE },
        { "claims.jpg", "cannot hold", CRL_EFORMAT },
        { "zero.jpg", "33 x 0 pixels", CRL_EFORMAT },
        { "cut.bmp", "truncated", CRL_EFORMAT },
        { "huge.bmp", "100000 x 100000 pixels", CRL_ERANGE },
        { "least.bmp", "pixels", CRL_ERANGE },
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct crl_image img = { NULL, 0, 0 };
        struct crl_err err = { "" };
        enum crl_status st = crl_image_read(&img, corpus(row[i].name), false, &err);
        if (st != row[i].st || !strstr(err.text, row[i].says) || img.rgb)
            fail_msg("%s: %s: %s", row[i].name, crl_status_name(st), err.text);
    }
}

static void expect_size(const char *name, bool as_stored, size_t width, size_t height)
{
    struct crl_image img = { NULL, 0, 0 };
    struct crl_err err = { "" };

    if (crl_image_read(&img, corpus(name), as_stored, &err)) fail_msg("%s", err.text);
    if (img.width != width || img.height != height) fail_msg("%s: %zu x %zu", name, img.width, img.height);
    crl_image_fini(&img);
}

static void pictures_are_turned_as_they_were_held(void **state)
{
    (void)state;
    expect_size("turned.jpg", false, 10, 20);
    expect_size("turned.jpg", true, 20, 10);
    expect_size("turned.png", false, 10, 20);
    expect_size("exif.jpg", false, 20, 10); /* its directory lies beyond its end: taken as none */
    expect_size("rgb.jpg", false, 33, 24);
    expect_size("flipped.bmp", false, 7, 5);
}

/* Every orientation of a 3 x 2 picture written by hand: what comes first and last. */
static void every_orientation_is_the_one_of_exif(void **state)
{
    /* stored: 0 1 2 / 3 4 5; the picture as meant, row by row */
    static const uint8_t want[9][6] = { { 0 },
                                        { 0, 1, 2, 3, 4, 5 },
                                        { 2, 1, 0, 5, 4, 3 },
                                        { 5, 4, 3, 2, 1, 0 },
                                        { 3, 4, 5, 0, 1, 2 },
                                        { 0, 3, 1, 4, 2, 5 },
                                        { 3, 0, 4, 1, 5, 2 },
                                        { 5, 2, 4, 1, 3, 0 },
                                        { 2, 5, 1, 4, 0, 3 } };
    /* grey, 8 bits, 3 x 2, one stored block of deflate: rows 0 1 2 and 3 4 5 times 40 */
    static const uint8_t raw[8] = { 0, 0, 40, 80, 0, 120, 160, 200 };

    (void)state;
    for (unsigned o = 1; o <= 8; o++) {
        uint8_t png[256], exif[26] = { 'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, (uint8_t)o };
        uint8_t ihdr[13] = { 0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, 0 }, idat[19] = { 0x78, 1, 1, 8, 0, 0xf7, 0xff };
        const struct {
            const char *type;
            const uint8_t *body;
            uint32_t n;
        } chunk[] = { { "IHDR", ihdr, 13 }, { "eXIf", exif, 26 }, { "IDAT", idat, 19 }, { "IEND", NULL, 0 } };
        uint32_t a = 1, b = 0;
        size_t at = 8;
        struct crl_image img = { NULL, 0, 0 };
        struct crl_err err = { "" };

        memcpy(idat + 7, raw, 8);
        for (int i = 0; i < 8; i++) b += a += raw[i];
        for (int i = 0; i < 4; i++) idat[15 + i] = (uint8_t)((b % 65521 << 16 | a % 65521) >> (24 - 8 * i));
        memcpy(png, "\x89PNG\r\n\x1a\n", 8);
        for (int i = 0; i < 4; i++) {
            uint32_t crc;
            for (int j = 0; j < 4; j++) png[at + (size_t)j] = (uint8_t)(chunk[i].n >> (24 - 8 * j));
            memcpy(png + at + 4, chunk[i].type, 4);
            if (chunk[i].n) memcpy(png + at + 8, chunk[i].body, chunk[i].n);
            crc = crc32_of(png + at + 4, chunk[i].n + 4);
            for (int j = 0; j < 4; j++) png[at + 8 + chunk[i].n + (size_t)j] = (uint8_t)(crc >> (24 - 8 * j));
            at += 12 + chunk[i].n;
        }
        assert_int_equal(crl_image_orientation(png, at), o);
        if (crl_image_decode(&img, png, at, false, "made", &err)) fail_msg("%s", err.text);
        assert_int_equal(img.width, o >= 5 ? 2 : 3);
        assert_int_equal(img.height, o >= 5 ? 3 : 2);
        for (int i = 0; i < 6; i++)
            if (img.rgb[3 * i] != 40 * want[o][i]) fail_msg("orientation %u: pixel %d", o, i);
        crl_image_fini(&img);
    }
}

/* Alpha is dropped, grey and palettes expanded, 16 bits cut to 8: first pixels of files whose content is known. */
static void colours_become_rgb(void **state)
{
    static const char *const names[] = { "rgb.png",     "rgba.png", "grey.png", "grey16.png", "grey_alpha.png",
                                         "palette.png", "bits1.png", "one.png", "rgb.jpg",    "progressive.jpg",
                                         "grey.jpg",    "cmyk.jpg", "rgb.bmp",  "palette.bmp", "sub444.jpg" };
    struct crl_image img = { NULL, 0, 0 };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct crl_err err = { "" };
        if (crl_image_read(&img, corpus(names[i]), false, &err)) fail_msg("%s", err.text);
        crl_image_fini(&img);
    }
    assert_int_equal(crl_image_read(&img, corpus("rgba.png"), false, NULL), CRL_OK);
    for (size_t y = 0; y < 9; y++) /* the colour stored, whatever the alpha beside it */
        for (size_t x = 0; x < 13; x++) {
            const uint8_t want[3] = { (uint8_t)(x * 17 + y * 5), (uint8_t)(y * 29), (uint8_t)(x * y) };
            assert_memory_equal(img.rgb + (y * 13 + x) * 3, want, 3);
        }
    crl_image_fini(&img);
    assert_int_equal(crl_image_read(&img, corpus("grey16.png"), false, NULL), CRL_OK);
    for (size_t i = 0; i < 35; i++) assert_int_equal(img.rgb[3 * i], i * 1800 >> 8);
    crl_image_fini(&img);
}

/* Allocation i fails, for every i until none does. */
static void memory_that_is_refused_is_an_error(void **state)
{
    struct crl_preprocess p;
    char *data;
    size_t len;

    (void)state;
    crl_preprocess_init(&p, 8);
    assert_int_equal(crl_file_read(&data, &len, corpus("turned.png"), 1 << 20, NULL), CRL_OK);
    for (size_t i = 1;; i++) {
        struct crl_image img = { NULL, 0, 0 };
        struct crl_tiles t = { .rgb = NULL };
        struct crl_err err = { "" };
        enum crl_status st;

        crl_alloc_fail_after(i);
        st = crl_image_decode(&img, data, len, false, "x", &err);
        if (!st) st = crl_tiles_cut(&t, &img, &p, 0, &err);
        crl_alloc_fail_after(0);
        crl_tiles_fini(&t);
        crl_image_fini(&img);
        if (!st) break;
        assert_int_equal(st, CRL_ENOMEM);
        assert_true(err.text[0] && i < 100);
    }
    crl_free(data);
}

/* --- prompts ------------------------------------------------------------------------------------------------- */

static void marks_and_pictures_must_be_as_many(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        const char *want; /* T text, I image; NULL: refused */
    } row[] = {
        { "a", 0, "T" },         { "<image>", 0, "T" },          { "a", 1, "IT" },        { "a", 2, "IIT" },
        { "<image>a", 1, "IT" }, { "a<image>b<image>", 2, "TITI" }, { "<image><image>", 2, "II" }, { "a<image>", 2, NULL },
        { "<image>a<image>", 1, NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct crl_chat chat = { .n_msg = 0 };
        struct crl_err err = { "" };
        enum crl_status st = crl_chat_add(&chat, "user", &err);

        if (!st) st = crl_chat_add_marked(&chat, row[i].text, strlen(row[i].text), row[i].n, &err);
        assert_int_equal(st, row[i].want ? CRL_OK : CRL_ERANGE);
        for (size_t j = 0; row[i].want && j <= strlen(row[i].want); j++) {
            const struct crl_msg *m = &chat.msgs[0];
            if (j == strlen(row[i].want)) assert_int_equal(m->n_part, j);
            else assert_int_equal(m->parts[j].kind, row[i].want[j] == 'T' ? CRL_PART_TEXT : CRL_PART_IMAGE);
        }
        crl_chat_fini(&chat);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grid_is_the_references_for_2000_sizes),
        cmocka_unit_test(fewer_tiles_are_a_smaller_canvas),
        cmocka_unit_test(resized_pixels_are_the_references),
        cmocka_unit_test(values_are_the_references),
        cmocka_unit_test(tokens_are_the_references),
        cmocka_unit_test(tiles_hold_the_canvas_row_by_row),
        cmocka_unit_test(settings_that_mean_something_else_are_refused),
        cmocka_unit_test(bad_pictures_are_refused_by_name),
        cmocka_unit_test(pictures_are_turned_as_they_were_held),
        cmocka_unit_test(every_orientation_is_the_one_of_exif),
        cmocka_unit_test(colours_become_rgb),
        cmocka_unit_test(memory_that_is_refused_is_an_error),
        cmocka_unit_test(marks_and_pictures_must_be_as_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
