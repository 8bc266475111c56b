/* picture.h - pictures of an engine: what the public interface (run/corral.h) hands out, and the engine's eyes behind it:
 * tower, preprocessing settings, and the cache of what was seen.
 *
 * A view is a cut picture and, once somebody needed them, its rows of the tower. Views are found again by the hash of
 * their pixels (and the pixels themselves), so a picture that is opened twice, or asked about again, is encoded once.
 * Views without a picture are kept, the least recently used given up first, as long as all views together take no more
 * than the cache's size.
 *
 * Opening and freeing pictures is safe from any thread; encoding runs the engine's team and belongs to whoever may run
 * the engine. */
#ifndef CRL_RUN_PICTURE_H
#define CRL_RUN_PICTURE_H

#include "run/engine.h"
#include "text/chat.h"
#include "vision/tower.h"

#define CRL_VIEWS_DEFAULT ((size_t)512 << 20) /* bytes of the cache */

struct crl_eyes;

/* For weights of a multimodal pack. tok may be NULL: pictures then have no ids. cache: bytes, 0 for the default. */
enum crl_status crl_eyes_new(struct crl_eyes **out, const struct crl_weights *weights, const struct crl_tok *tok,
                             const struct crl_kernels *kern, struct crl_team *team, size_t cache, struct crl_err *err);
void crl_eyes_free(struct crl_eyes *e); /* every picture must be freed before */

struct crl_tower *crl_eyes_tower(const struct crl_eyes *e);

/* What the eyes did so far. */
struct crl_eyes_stats {
    size_t opened, found; /* pictures, and those that were in the cache */
    size_t tiles;         /* encoded */
    double encode_s;      /* spent on that */
    size_t bytes;         /* of all views */
};
void crl_eyes_stats(struct crl_eyes *e, struct crl_eyes_stats *s);

/* A picture from pixels that are there already; img is borrowed. */
enum crl_status crl_picture_cut(struct crl_picture **out, struct crl_engine *engine, const struct crl_image *img,
                                uint32_t max_tiles, struct crl_err *err);

const struct crl_grid *crl_picture_grid(const struct crl_picture *p);

/* Encode, unless that is done. go, which may be NULL, is asked before every group of tiles; CRL_EINTR when it says no. */
enum crl_status crl_picture_look(struct crl_picture *p, bool (*go)(void *ctx), void *ctx, struct crl_err *err);

size_t crl_picture_rows_n(const struct crl_picture *p); /* tiles * tokens per tile */

/* Its rows [crl_picture_rows_n][d_model]; NULL before crl_picture_look. They live as long as the picture. */
const float *crl_picture_rows(const struct crl_picture *p);

/* For every id the row that stands in its place, NULL for text; fresh memory (crl_free). Pictures take the image tokens
 * in order; CRL_ERANGE when there are not exactly as many as they need. All pictures must have been looked at. */
enum crl_status crl_pictures_place(const struct crl_engine *engine, const int32_t *ids, size_t n,
                                   struct crl_picture *const *picture, size_t n_picture, const float *const **rows,
                                   struct crl_err *err);

/* Append the tokens of a picture. */
enum crl_status crl_picture_append(const struct crl_picture *p, struct crl_ids *ids, struct crl_err *err);

/* Append the prompt's ids with the tokens of picture i in the place of its image i. CRL_ERANGE when the numbers
 * differ. */
enum crl_status crl_pictures_expand(const struct crl_prompt *prompt, struct crl_picture *const *picture,
                                    size_t n_picture, struct crl_ids *ids, struct crl_err *err);

#endif
