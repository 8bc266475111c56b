/* tiles.h - a picture cut into the square tiles that the vision tower looks at, exactly as the reference's image
 * processor does it: canvas, size, pixels, order. docs/vision.md, "Preprocessing".
 *
 * A grid says where everything lies and how many tokens it makes; it depends on the picture's size alone. Tiles hold the
 * pixels, 8 bits each: a fixed number of bytes per tile, at most max_tiles + 1 of them whatever the picture's size. */
#ifndef CRL_VISION_TILES_H
#define CRL_VISION_TILES_H

#include "vision/image.h"

#define CRL_TILES_MAX 256 /* most that max_tiles may be */

/* The checkpoint's settings of its image processor. */
struct crl_preprocess {
    uint32_t tile;      /* pixels of a tile's side, a multiple of the patch size */
    uint32_t max_tiles; /* tiles of the canvas, the global one not counted */
    bool max_canvas;    /* enlarge to the largest canvas */
    float value[3][256]; /* by channel: what an 8-bit value becomes for the tower */
};

/* Released settings with tiles of `tile` pixels: 16 tiles, (v / 255 - 0.5) / 0.5 with the reference's roundings. */
void crl_preprocess_init(struct crl_preprocess *p, uint32_t tile);

/* The text of preprocessor_config.json over those defaults, or the object image_processor inside it. `tile` is what the
 * tower takes; another size in the text is CRL_EFORMAT, settings that mean something else than this file does are
 * CRL_EUNSUPPORTED. */
enum crl_status crl_preprocess_parse(struct crl_preprocess *p, const char *text, size_t len, uint32_t tile,
                                     struct crl_err *err);

struct crl_grid {
    uint32_t rows, cols;    /* tiles of the canvas */
    uint32_t height, width; /* pixels of the resized picture in its top left corner */
    uint32_t n_tile;        /* rows * cols, and the global tile when that is more than one */
};

/* For a picture of height x width pixels, each from 1 to CRL_IMAGE_SIDE_MAX. max_tiles 0 means that of p; a smaller one
 * than p's is a knob of speed. */
void crl_grid_choose(struct crl_grid *g, const struct crl_preprocess *p, uint32_t max_tiles, size_t height, size_t width);

/* Ids that frame a picture's tokens in a prompt. */
struct crl_image_ids {
    int32_t start, end; /* <|image_start|>, <|image_end|> */
    int32_t image;      /* <|image|>, before the global or only tile */
    int32_t patch;      /* stands for a vector of the tower; image_token of the configuration */
    int32_t next_col;   /* <|tile_x_separator|> between the tiles of a row */
    int32_t next_row;   /* <|tile_y_separator|> after every row */
};

/* The tokens of one picture, n_patch of them for a tile. Returns their number; ids NULL: only that. */
size_t crl_grid_ids(const struct crl_grid *g, uint32_t n_patch, const struct crl_image_ids *names, int32_t *ids);

/* The pixels of all tiles, the canvas row by row and the global tile last. */
struct crl_tiles {
    struct crl_grid grid;
    uint32_t side;
    uint8_t *rgb; /* [grid.n_tile][side][side][3] */
};

enum crl_status crl_tiles_cut(struct crl_tiles *t, const struct crl_image *img, const struct crl_preprocess *p,
                              uint32_t max_tiles, struct crl_err *err);
void crl_tiles_fini(struct crl_tiles *t);

/* Bytes of one tile. */
size_t crl_tile_bytes(const struct crl_tiles *t);

/* Resize in[height][width][3] to out[out_height][out_width][3]: antialiased bilinear in 8-bit fixed point, horizontally
 * first. Sides are at least 1. */
enum crl_status crl_image_resize(uint8_t *out, size_t out_height, size_t out_width, const uint8_t *in, size_t height,
                                 size_t width, struct crl_err *err);

#endif
