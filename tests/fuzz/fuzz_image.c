/* Property: whatever bytes a picture file has, decoding says yes or no with a sentence; what is decoded is within the
 * limits and is cut into tiles of a grid that fills its canvas, with as many tokens as the grid says. */
#include "base/mem.h"
#include "vision/tiles.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
    if (!ok) abort();
}

static void check_tiles(const struct crl_image *img, uint32_t side, uint32_t max_tiles)
{
    static const struct crl_image_ids names = { 1, 2, 3, 4, 5, 6 };
    struct crl_preprocess p;
    struct crl_tiles t;
    const struct crl_grid *g = &t.grid;
    int32_t *ids;
    size_t n, patches = 0;

    crl_preprocess_init(&p, side);
    must(!crl_tiles_cut(&t, img, &p, max_tiles, NULL));
    must(g->rows && g->cols && g->rows * g->cols <= max_tiles);
    must(g->height && g->width && g->height <= g->rows * side && g->width <= g->cols * side);
    must(g->n_tile == g->rows * g->cols + (g->rows * g->cols > 1));
    n = crl_grid_ids(g, 4, &names, NULL);
    ids = crl_alloc(n, sizeof *ids);
    must(ids && crl_grid_ids(g, 4, &names, ids) == n);
    for (size_t i = 0; i < n; i++) patches += ids[i] == names.patch;
    must(patches == (size_t)g->n_tile * 4 && ids[0] == names.start && ids[n - 1] == names.end);
    crl_free(ids);
    crl_tiles_fini(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crl_image img = { NULL, 0, 0 };
    struct crl_err err = { "" };
    unsigned orientation = crl_image_orientation(data, size);

    must(orientation >= 1 && orientation <= 8);
    if (crl_image_decode(&img, data, size, size % 2, "fuzz", &err)) {
        must(err.text[0] && !img.rgb);
        return 0;
    }
    must(img.width && img.height && img.width <= CRL_IMAGE_SIDE_MAX && img.height <= CRL_IMAGE_SIDE_MAX);
    must(img.width * img.height <= CRL_IMAGE_PIXELS_MAX);
    if (img.width * img.height < 1 << 20) check_tiles(&img, 8, 1 + size % 20);
    crl_image_fini(&img);
    return 0;
}
