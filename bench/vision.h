/* vision.h - how long the vision tower takes per tile, against the multiplication peak of the machine in the same minutes,
 * and what a prompt with pictures costs. */
#ifndef CRL_BENCH_VISION_H
#define CRL_BENCH_VISION_H

#include "bench/machine.h"
#include "run/picture.h"

struct crl_vision_speed {
    size_t tiles;                /* of one run */
    unsigned repeat;
    struct crl_stat tile_s;      /* seconds per tile */
    double linear_s, attention_s, other_s; /* of them, medians */
    double int8_ops, f32_ops;    /* of the matrix products of a tile */
    struct crl_stat int8, f32;   /* operations per second of the machine */
    double fraction;             /* time of the products at the peak over linear_s */
    size_t buffer_bytes;         /* of the tower, whatever the number of tiles */
    size_t row_bytes;            /* that the run gives to the text model */
};

/* Encode `tiles` random tiles `repeat` times. The engine must see. */
enum crl_status crl_bench_tower(struct crl_vision_speed *s, struct crl_engine *engine, size_t tiles, unsigned repeat,
                                unsigned mask, struct crl_err *err);

struct crl_prompt_speed {
    size_t pictures, tiles, tokens;
    double decode_s; /* reading the files, cutting tiles */
    double look_s;   /* the tower */
    double feed_s;   /* the prompt through the text model */
};

/* Some text, every picture in its frame with text behind it, in one prompt. */
enum crl_status crl_bench_pictures(struct crl_prompt_speed *s, struct crl_engine *engine, const char *const *path,
                                   size_t n, struct crl_err *err);

#endif
