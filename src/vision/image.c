/* image.c - what a file is, how large it says it is, and its pixels. */
#include "vision/image.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* --- the decoder's memory ------------------------------------------------------------------------------------ */

/* What stb_image may hold at once. Its buffers grow with the data (a few bytes of deflate can ask for gigabytes), so
 * every allocation is counted against what the picture at hand can need. Each block keeps its size in front. */
#define BLOCK_HEAD 16

static _Thread_local size_t budget; /* bytes left */

static void *bounded_alloc(size_t n)
{
    unsigned char *p;

    if (n > budget || n > SIZE_MAX - BLOCK_HEAD) return NULL;
    p = malloc(n + BLOCK_HEAD);
    if (!p) return NULL;
    budget -= n;
    memcpy(p, &n, sizeof n);
    return p + BLOCK_HEAD;
}

static void bounded_free(void *block)
{
    unsigned char *p = block;
    size_t n;

    if (!p) return;
    memcpy(&n, p - BLOCK_HEAD, sizeof n);
    budget += n;
    free(p - BLOCK_HEAD);
}

static void *bounded_realloc(void *block, size_t n)
{
    unsigned char *p = block, *q;
    size_t old;

    if (!p) return bounded_alloc(n);
    memcpy(&old, p - BLOCK_HEAD, sizeof old);
    if (n > SIZE_MAX - BLOCK_HEAD || (n > old && n - old > budget)) return NULL;
    q = realloc(p - BLOCK_HEAD, n + BLOCK_HEAD);
    if (!q) return NULL;
    budget = budget + old - n;
    memcpy(q, &n, sizeof n);
    return q + BLOCK_HEAD;
}

#define STBI_MALLOC(n) bounded_alloc(n)
#define STBI_REALLOC(p, n) bounded_realloc(p, n)
#define STBI_FREE(p) bounded_free(p)
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_MAX_DIMENSIONS CRL_IMAGE_SIDE_MAX
#define STBI_ASSERT(x) ((void)0) /* its assertions check its own tables; input is answered by error returns */
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
/* Its header declares functions that it does not define without GIF, which is reported at the end of the file. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>

/* --- what a file is ------------------------------------------------------------------------------------------ */

enum format { PNG, JPEG, BMP, REFUSED };

/* Files begin so. A mask of what is compared: `skip` bytes are passed over before `mark`. */
static const struct {
    const char *name;
    size_t skip;
    const char *mark;
    size_t len;
    enum format format;
} known[] = {
    { "PNG", 0, "\x89PNG\r\n\x1a\n", 8, PNG },
    { "JPEG", 0, "\xff\xd8\xff", 3, JPEG },
    { "GIF", 0, "GIF8", 4, REFUSED },
    { "WebP", 8, "WEBP", 4, REFUSED },
    { "TIFF", 0, "II*\0", 4, REFUSED },
    { "TIFF", 0, "MM\0*", 4, REFUSED },
    { "AVIF", 4, "ftypavi", 7, REFUSED },
    { "HEIF", 4, "ftyphei", 7, REFUSED },
    { "HEIF", 4, "ftyphev", 7, REFUSED },
    { "HEIF", 4, "ftypmif1", 8, REFUSED },
    { "JPEG XL", 0, "\xff\x0a", 2, REFUSED },
    { "JPEG XL", 4, "JXL \r\n\x87\n", 8, REFUSED },
    { "JPEG 2000", 4, "jP  \r\n\x87\n", 8, REFUSED },
    { "JPEG 2000", 0, "\xff\x4f\xff\x51", 4, REFUSED },
    { "Photoshop", 0, "8BPS", 4, REFUSED },
    { "PDF", 0, "%PDF", 4, REFUSED },
    { "SVG", 0, "<svg", 4, REFUSED },
    { "SVG or other XML", 0, "<?xml", 5, REFUSED },
    { "Radiance HDR", 0, "#?RADIANCE", 10, REFUSED },
    { "OpenEXR", 0, "\x76\x2f\x31\x01", 4, REFUSED },
    { "QOI", 0, "qoif", 4, REFUSED },
    { "icon", 0, "\0\0\1\0", 4, REFUSED },
    { "PNM", 0, "P1", 2, REFUSED },
    { "PNM", 0, "P2", 2, REFUSED },
    { "PNM", 0, "P3", 2, REFUSED },
    { "PNM", 0, "P4", 2, REFUSED },
    { "PNM", 0, "P5", 2, REFUSED },
    { "PNM", 0, "P6", 2, REFUSED },
    { "PNM", 0, "P7", 2, REFUSED },
    { "BMP", 0, "BM", 2, BMP },
};

#define N(a) (sizeof(a) / sizeof *(a))

static enum crl_status find_format(const unsigned char *data, size_t len, enum format *format, const char *name,
                                   struct crl_err *err)
{
    for (size_t i = 0; i < N(known); i++) {
        if (len < known[i].skip + known[i].len || memcmp(data + known[i].skip, known[i].mark, known[i].len)) continue;
        *format = known[i].format;
        if (*format != REFUSED) return CRL_OK;
        return crl_fail(err, CRL_EUNSUPPORTED, "%s: a %s file; pictures are read as PNG, JPEG or BMP", name,
                        known[i].name);
    }
    return crl_fail(err, CRL_EFORMAT, "%s: no picture: it begins neither as PNG nor as JPEG nor as BMP", name);
}

/* What the header says, and the bytes that so many pixels need at least in this format. */
struct shape {
    uint64_t width, height;
    uint64_t least; /* bytes */
};

/* --- PNG ----------------------------------------------------------------------------------------------------- */

static uint32_t be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t be16(const unsigned char *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

/* The CRC-32 of ISO 3309 as PNG uses it, four bits at a time. */
static uint32_t crc_of(const unsigned char *p, size_t n)
{
    uint32_t table[16], c = 0xffffffff;

    for (uint32_t i = 0; i < 16; i++) {
        uint32_t r = i;
        for (int bit = 0; bit < 4; bit++) r = r & 1 ? 0xedb88320 ^ r >> 1 : r >> 1;
        table[i] = r;
    }
    for (size_t i = 0; i < n; i++) {
        c = table[(c ^ p[i]) & 15] ^ c >> 4;
        c = table[(c ^ p[i] >> 4) & 15] ^ c >> 4;
    }
    return ~c;
}

/* The next chunk at *at: its type, data and length. False at the end of the data or when it breaks off. */
static bool png_chunk(const unsigned char *data, size_t len, size_t *at, const unsigned char **type,
                      const unsigned char **body, size_t *n)
{
    if (*at > len || len - *at < 12) return false;
    *n = be32(data + *at);
    *type = data + *at + 4;
    *body = data + *at + 8;
    if (*n > len - *at - 12) return false;
    *at += *n + 12;
    return true;
}

/* A fuzzing engine would never get past the checksums. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define CHECK_CRC 0
#else
#define CHECK_CRC 1
#endif

static enum crl_status check_png(const unsigned char *data, size_t len, struct shape *s, const char *name,
                                 struct crl_err *err)
{
    const unsigned char *type, *body;
    static const unsigned samples[7] = { 1, 0, 3, 1, 2, 0, 4 }; /* by colour type */
    uint64_t row = 0;
    size_t at = 8, n;
    bool ends = false;

    while (!ends && png_chunk(data, len, &at, &type, &body, &n)) {
        if (CHECK_CRC && crc_of(type, n + 4) != be32(body + n))
            return crl_fail(err, CRL_EFORMAT, "%s: damaged: wrong checksum of chunk %.4s at byte %zu", name,
                            (type[0] | type[1] | type[2] | type[3]) < 127 ? (const char *)type : "?",
                            (size_t)(type - data) - 4);
        if (!row && (memcmp(type, "IHDR", 4) || n != 13 || body[9] > 6 || !samples[body[9]] || body[8] > 16))
            return crl_fail(err, CRL_EFORMAT, "%s: damaged: the first chunk is no image header", name);
        if (!row) {
            s->width = be32(body);
            s->height = be32(body + 4);
            row = (s->width * samples[body[9]] * body[8] + 7) / 8 + 1;
            s->least = row * s->height / 1032; /* deflate shrinks by no more */
        }
        ends = !memcmp(type, "IEND", 4);
    }
    return ends ? CRL_OK : crl_fail(err, CRL_EFORMAT, "%s: truncated: it breaks off at byte %zu", name, len);
}

/* --- JPEG ---------------------------------------------------------------------------------------------------- */

/* The next marker segment before the image data; *n counts its content without the length field. False, with *at on the
 * marker, when there is none: image data begins, the picture ends, or the data does. */
static bool jpeg_segment(const unsigned char *data, size_t len, size_t *at, unsigned *marker,
                         const unsigned char **body, size_t *n)
{
    while (*at < len && data[*at] != 0xff) (*at)++; /* decoders skip stray bytes between segments */
    while (*at < len && data[*at] == 0xff) (*at)++; /* a marker may be preceded by fill bytes */
    if (*at >= len) return false;
    *marker = data[*at];
    if (*marker == 0xda || *marker == 0xd9) return false;
    *n = len - *at >= 3 ? be16(data + *at + 1) : 0;
    if (*n < 2 || *n > len - *at - 1) {
        *at = len;
        return false;
    }
    *body = data + *at + 3;
    *at += 1 + *n;
    *n -= 2;
    return true;
}

static bool is_frame(unsigned marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

static unsigned byte_at(const unsigned char *data, size_t len, size_t at)
{
    return at < len ? data[at] : 0;
}

/* A list of Huffman tables with at most 256 codes each; the decoder counts on that and reads as this does, also beyond
 * the segment's end. */
static bool check_tables(const unsigned char *data, size_t len, size_t at, size_t n)
{
    for (size_t end = at + n; at < end;) {
        unsigned codes = 0;
        for (size_t i = 1; i <= 16; i++) codes += byte_at(data, len, at + i);
        if (codes > 256) return false;
        at += 17 + codes;
    }
    return true;
}

/* Past the compressed data of a scan, to its next marker that is no restart mark. */
static void skip_scan(const unsigned char *data, size_t len, size_t *at)
{
    while (*at + 1 < len &&
           (data[*at] != 0xff || data[*at + 1] == 0 || (data[*at + 1] >= 0xd0 && data[*at + 1] <= 0xd7)))
        (*at)++;
}

/* All segments, scans passed over; *ends: an end mark was found. What is wrong with a table or frame is said. */
static enum crl_status walk_jpeg(const unsigned char *data, size_t len, struct shape *s, bool *ends, const char *name,
                                 struct crl_err *err)
{
    const unsigned char *body;
    bool framed = false;
    unsigned marker;
    size_t at = 2, n;

    for (;;) {
        while (jpeg_segment(data, len, &at, &marker, &body, &n)) {
            if (marker == 0xc4 && !check_tables(data, len, (size_t)(body - data), n))
                return crl_fail(err, CRL_EFORMAT, "%s: damaged: a Huffman table of more than 256 codes", name);
            if (!is_frame(marker) || framed) continue;
            if (n < 6 || body[0] != 8 || marker > 0xc2)
                return crl_fail(err, CRL_EUNSUPPORTED,
                                "%s: a JPEG file of a rare kind (lossless, arithmetic or not 8 bits deep), which is not read",
                                name);
            framed = true;
            s->height = be16(body + 1);
            s->width = be16(body + 3);
            s->least = s->width * s->height / 1024; /* a bit for each block of 64, components and scans apart */
        }
        *ends = at < len && data[at] == 0xd9;
        if (at >= len || data[at] != 0xda || len - at < 3) break;
        if (!framed) return crl_fail(err, CRL_EFORMAT, "%s: damaged: a JPEG file without a size before its image data", name);
        at += 1 + be16(data + at + 1);
        if (at > len) at = len;
        skip_scan(data, len, &at);
    }
    return CRL_OK;
}

static enum crl_status check_jpeg(const unsigned char *data, size_t len, struct shape *s, const char *name,
                                  struct crl_err *err)
{
    bool ends = false;
    enum crl_status st = walk_jpeg(data, len, s, &ends, name, err);

    /* The decoder fills what is missing with grey; only the end mark tells that nothing is. */
    if (!st && !ends)
        st = crl_fail(err, CRL_EFORMAT, "%s: truncated or damaged: the end mark of a JPEG file is missing", name);
    return st;
}

/* --- BMP ----------------------------------------------------------------------------------------------------- */

static enum crl_status check_bmp(const unsigned char *data, size_t len, struct shape *s, const char *name,
                                 struct crl_err *err)
{
    uint64_t bits, row;
    uint32_t head;
    int32_t height;

    if (len < 26) return crl_fail(err, CRL_EFORMAT, "%s: truncated: %zu bytes are no BMP file", name, len);
    head = crl_le32(data + 14);
    if (head == 12) {
        s->width = crl_le16(data + 18);
        s->height = crl_le16(data + 20);
        bits = crl_le16(data + 24);
    } else {
        if (len < 34) return crl_fail(err, CRL_EFORMAT, "%s: truncated: %zu bytes are no BMP file", name, len);
        height = (int32_t)crl_le32(data + 22);
        s->width = crl_le32(data + 18);
        s->height = height < 0 ? (uint64_t)0 - (uint64_t)(int64_t)height : (uint64_t)height;
        bits = crl_le16(data + 28);
        if (crl_le32(data + 30) == 1 || crl_le32(data + 30) == 2)
            return crl_fail(err, CRL_EUNSUPPORTED, "%s: a run-length encoded BMP file, which is not read", name);
    }
    row = (s->width * (bits ? bits : 1) + 31) / 32 * 4;
    if (s->width <= CRL_IMAGE_SIDE_MAX && s->height <= CRL_IMAGE_SIDE_MAX && row * s->height > len)
        return crl_fail(err, CRL_EFORMAT, "%s: truncated: %llu rows of %llu bytes do not fit its %zu bytes", name,
                        (unsigned long long)s->height, (unsigned long long)row, len);
    return CRL_OK;
}

/* --- orientation --------------------------------------------------------------------------------------------- */

struct tiff {
    const unsigned char *p;
    size_t len;
    bool big;
};

static uint32_t tiff16(const struct tiff *t, size_t at)
{
    return t->big ? be16(t->p + at) : crl_le16(t->p + at);
}

static uint32_t tiff32(const struct tiff *t, size_t at)
{
    return t->big ? be32(t->p + at) : crl_le32(t->p + at);
}

/* Entry 0x0112 of the first directory: one short from 1 to 8. */
static unsigned tiff_orientation(const unsigned char *p, size_t len)
{
    struct tiff t = { p, len, len > 0 && p[0] == 'M' };
    size_t at, n;

    if (len < 14 || (memcmp(p, "II*\0", 4) && memcmp(p, "MM\0*", 4))) return 1;
    at = tiff32(&t, 4);
    if (at > len - 2) return 1;
    n = tiff16(&t, at);
    at += 2;
    for (size_t i = 0; i < n && len - at >= 12; i++, at += 12) {
        uint32_t value = tiff16(&t, at + 8);
        if (tiff16(&t, at) != 0x0112) continue;
        return tiff16(&t, at + 2) == 3 && tiff32(&t, at + 4) == 1 && value >= 1 && value <= 8 ? (unsigned)value : 1;
    }
    return 1;
}

unsigned crl_image_orientation(const void *bytes, size_t len)
{
    const unsigned char *data = bytes, *body, *type;
    enum format format;
    unsigned marker;
    size_t at, n;

    if (find_format(data, len, &format, "", NULL)) return 1;
    if (format == JPEG)
        for (at = 2; jpeg_segment(data, len, &at, &marker, &body, &n);)
            if (marker == 0xe1 && n > 6 && !memcmp(body, "Exif\0\0", 6)) return tiff_orientation(body + 6, n - 6);
    if (format == PNG)
        for (at = 8; png_chunk(data, len, &at, &type, &body, &n);)
            if (!memcmp(type, "eXIf", 4)) return tiff_orientation(body, n);
    return 1;
}

/* Orientations from 5 on exchange the axes; then 2 and 3 mirror left to right, 3 and 4 top to bottom. */
static enum crl_status turn(struct crl_image *img, unsigned orientation, const char *name, struct crl_err *err)
{
    bool swap = orientation >= 5;
    /* Which way the stored columns and rows run in the picture as meant. */
    bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    size_t w = swap ? img->height : img->width, h = swap ? img->width : img->height;
    uint8_t *out;

    if (orientation == 1) return CRL_OK;
    out = crl_alloc(w * h, 3);
    if (!out) return crl_fail(err, CRL_ENOMEM, "%s: no memory for %zu x %zu pixels", name, w, h);
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            size_t sx = swap ? y : x, sy = swap ? x : y;
            if (flip_x) sx = img->width - 1 - sx;
            if (flip_y) sy = img->height - 1 - sy;
            memcpy(out + (y * w + x) * 3, img->rgb + (sy * img->width + sx) * 3, 3);
        }
    crl_free(img->rgb);
    img->rgb = out;
    img->width = w;
    img->height = h;
    return CRL_OK;
}

/* --- decoding ------------------------------------------------------------------------------------------------ */

static enum crl_status check_shape(const struct shape *s, size_t len, const char *name, struct crl_err *err)
{
    unsigned long long w = s->width, h = s->height;

    if (!w || !h) return crl_fail(err, CRL_EFORMAT, "%s: a picture of %llu x %llu pixels", name, w, h);
    if (w > CRL_IMAGE_SIDE_MAX || h > CRL_IMAGE_SIDE_MAX)
        return crl_fail(err, CRL_ERANGE, "%s: a picture of %llu x %llu pixels, at most %d on a side are read", name, w, h,
                        CRL_IMAGE_SIDE_MAX);
    if (w * h > CRL_IMAGE_PIXELS_MAX)
        return crl_fail(err, CRL_ERANGE, "%s: a picture of %llu x %llu pixels, at most %zu million are read", name, w, h,
                        CRL_IMAGE_PIXELS_MAX / 1000000);
    if (s->least > len)
        return crl_fail(err, CRL_EFORMAT, "%s: damaged: its %zu bytes cannot hold the %llu x %llu pixels it claims", name,
                        len, w, h);
    return CRL_OK;
}

static enum crl_status check(const unsigned char *data, size_t len, struct shape *s, const char *name,
                             struct crl_err *err)
{
    enum format format = REFUSED;
    enum crl_status st = CRL_OK;

    if (!len) return crl_fail(err, CRL_EFORMAT, "%s: the file is empty", name);
    if (len > CRL_IMAGE_FILE_MAX)
        return crl_fail(err, CRL_ERANGE, "%s: %zu bytes, at most %zu are read", name, len, CRL_IMAGE_FILE_MAX);
    st = find_format(data, len, &format, name, err);
    if (!st && format == PNG) st = check_png(data, len, s, name, err);
    if (!st && format == JPEG) st = check_jpeg(data, len, s, name, err);
    if (!st && format == BMP) st = check_bmp(data, len, s, name, err);
    return st ? st : check_shape(s, len, name, err);
}

enum crl_status crl_image_decode(struct crl_image *img, const void *data, size_t len, bool as_stored, const char *name,
                                 struct crl_err *err)
{
    struct shape s = { 0, 0, 0 };
    struct crl_image made = { NULL, 0, 0 };
    enum crl_status st = check(data, len, &s, name, err);
    int w = 0, h = 0, channels = 0;
    stbi_uc *rgb;

    if (st) return st;
    /* At its widest a PNG of 16 bits holds its data, the rows unpacked and a copy reduced to 8 bits, 24 bytes for each
     * pixel; a progressive JPEG its coefficients and planes, 18. The rest is tables and compressed data. */
    budget = (size_t)(s.width * s.height) * 32 + (s.width + s.height) * 1024 + 2 * len + ((size_t)1 << 20);
    rgb = stbi_load_from_memory(data, (int)len, &w, &h, &channels, 3);
    if (!rgb) return crl_fail(err, CRL_EFORMAT, "%s: damaged: %s", name, stbi_failure_reason());
    made.rgb = crl_alloc((size_t)w * (size_t)h, 3);
    made.width = (size_t)w;
    made.height = (size_t)h;
    if (!made.rgb) st = crl_fail(err, CRL_ENOMEM, "%s: no memory for %d x %d pixels", name, w, h);
    else memcpy(made.rgb, rgb, (size_t)w * (size_t)h * 3);
    stbi_image_free(rgb);
    if (!st && !as_stored) st = turn(&made, crl_image_orientation(data, len), name, err);
    if (st) crl_image_fini(&made);
    else *img = made;
    return st;
}

enum crl_status crl_image_read(struct crl_image *img, const char *path, bool as_stored, struct crl_err *err)
{
    char *data;
    size_t len;
    enum crl_status st = crl_file_read(&data, &len, path, CRL_IMAGE_FILE_MAX, err);

    if (st) return st;
    st = crl_image_decode(img, data, len, as_stored, path, err);
    crl_free(data);
    return st;
}

void crl_image_fini(struct crl_image *img)
{
    crl_free(img->rgb);
    memset(img, 0, sizeof *img);
}
