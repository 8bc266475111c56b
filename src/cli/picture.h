/* picture.h - what commands that show pictures to a model share: the options, and the pictures opened. */
#ifndef CRL_CLI_PICTURE_H
#define CRL_CLI_PICTURE_H

#include "cli/cli.h"
#include "run/picture.h"

#define CRL_PICTURE_OPTION 0x4000
#define CRL_PICTURES_MAX 256

enum crl_picture_id { CRL_PICTURE_IMAGE = CRL_PICTURE_OPTION, CRL_PICTURE_TILES, CRL_PICTURE_STORED };

/* Rows for a table of options. */
/* clang-format off */
#define CRL_PICTURE_IMAGE_OPTION \
    { "image", "FILE", "a picture (PNG, JPEG or BMP); may be repeated", CRL_PICTURE_IMAGE }
#define CRL_PICTURE_OPTIONS \
    { "max-tiles", "N", "cut a picture into at most N tiles: less detail, less time (default: the model's limit)", \
      CRL_PICTURE_TILES }, \
    { "as-stored", NULL, "do not turn pictures as their EXIF orientation says", CRL_PICTURE_STORED }
/* clang-format on */

struct crl_picture_args {
    const char *path[CRL_PICTURES_MAX];
    size_t n;
    struct crl_picture_options options;
};

/* Take an option of the rows. False after a message on misuse. */
bool crl_picture_option(struct crl_picture_args *a, const struct crl_cli *c, int id);

/* Pictures in the order of a prompt. Zeroed storage is empty; fini frees them. */
struct crl_pictures {
    struct crl_picture **v; /* [n] */
    size_t n, cap;
};
enum crl_status crl_pictures_add(struct crl_pictures *p, struct crl_engine *e, const char *path,
                                 const struct crl_picture_options *options, struct crl_err *err);
enum crl_status crl_pictures_open(struct crl_pictures *p, struct crl_engine *e, const struct crl_picture_args *a,
                                  struct crl_err *err);
void crl_pictures_fini(struct crl_pictures *p);

#endif
