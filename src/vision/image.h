/* image.h - pictures as 8-bit RGB pixels: PNG, JPEG and BMP files decoded, turned the way their camera was held. The
 * door to stb_image.
 *
 * The content decides what a file is, never its name. Other formats (GIF, WebP, TIFF ...) are recognised and refused by
 * name. Before any pixel is allocated the header's size is held against the limits below and against what a file of
 * that length can hold at all, and the decoder's own memory is bounded by the size of the picture; a PNG's checksums
 * are verified. What comes out is as the reference's convert("RGB"): alpha is dropped (transparent pixels show the
 * colour stored), grey and palettes are expanded, of 16 bits the upper 8 stay.
 *
 * A decoded image is plain memory of its owner; zeroed storage is empty. */
#ifndef CRL_VISION_IMAGE_H
#define CRL_VISION_IMAGE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define CRL_IMAGE_FILE_MAX ((size_t)256 << 20)       /* bytes of a file */
#define CRL_IMAGE_SIDE_MAX 32767                     /* pixels of a side */
#define CRL_IMAGE_PIXELS_MAX ((size_t)128 * 1000000) /* pixels of a picture: 384 MB of RGB */

struct crl_image {
    uint8_t *rgb; /* [height][width][3] */
    size_t width, height;
};

/* Decode the file in data[len]; `name` stands for it in messages. as_stored: leave the orientation that the camera
 * noted (EXIF) unapplied. CRL_EUNSUPPORTED for a known format that is not read, CRL_EFORMAT for data that is damaged,
 * truncated or no picture, CRL_ERANGE for a picture beyond the limits. */
enum crl_status crl_image_decode(struct crl_image *img, const void *data, size_t len, bool as_stored, const char *name,
                                 struct crl_err *err);

/* The same from a file. */
enum crl_status crl_image_read(struct crl_image *img, const char *path, bool as_stored, struct crl_err *err);

void crl_image_fini(struct crl_image *img);

/* The orientation 1 to 8 that the EXIF data of a JPEG or PNG file notes; 1 when there is none or it makes no sense. */
unsigned crl_image_orientation(const void *data, size_t len);

#endif
