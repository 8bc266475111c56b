/* ops.h - the tile instructions that the AMX kernels use, as the processor has them or, with CRL_AMX_MODEL, as plain C
 * of the same meaning, so that the kernel's own source can be tested on machines without tiles.
 *
 * Tile numbers are literals: they are part of the instruction. Meaning: Intel SDM, volume 2, TDPBSSD and neighbours. */
#ifndef CRL_SIMD_AMX_OPS_H
#define CRL_SIMD_AMX_OPS_H

#include <stdint.h>
#include <string.h>

/* Operand of ldtilecfg: rows and bytes per row of each tile. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
};

#ifdef CRL_AMX_MODEL

struct tile_model {
    struct tile_config cfg;
    uint8_t data[8][16][64];
};

static _Thread_local struct tile_model tiles;

static inline void model_config(const struct tile_config *c)
{
    memset(&tiles, 0, sizeof tiles);
    tiles.cfg = *c;
}

static inline void model_load(int t, const void *p, size_t stride)
{
    for (int r = 0; r < tiles.cfg.rows[t]; r++)
        memcpy(tiles.data[t][r], (const char *)p + (size_t)r * stride, tiles.cfg.colsb[t]);
}

static inline void model_store(int t, void *p, size_t stride)
{
    for (int r = 0; r < tiles.cfg.rows[t]; r++)
        memcpy((char *)p + (size_t)r * stride, tiles.data[t][r], tiles.cfg.colsb[t]);
}

/* c += a . b: signed bytes, four of k together, exact in int32. */
static inline void model_dpbssd(int c, int a, int b)
{
    for (int m = 0; m < tiles.cfg.rows[c]; m++)
        for (int n = 0; n < tiles.cfg.colsb[c] / 4; n++) {
            int32_t sum;
            memcpy(&sum, &tiles.data[c][m][4 * n], 4);
            for (int k = 0; k < tiles.cfg.colsb[a]; k++)
                sum += (int8_t)tiles.data[a][m][k] * (int8_t)tiles.data[b][k / 4][4 * n + k % 4];
            memcpy(&tiles.data[c][m][4 * n], &sum, 4);
        }
}

#define TILE_CONFIG(c) model_config(c)
#define TILE_RELEASE() ((void)0)
#define TILE_ZERO(t) memset(tiles.data[t], 0, sizeof tiles.data[t])
#define TILE_LOAD(t, p, stride) model_load(t, p, stride)
#define TILE_STORE(t, p, stride) model_store(t, p, stride)
#define TILE_DPBSSD(c, a, b) model_dpbssd(c, a, b)

#else

#include <immintrin.h>

#define TILE_CONFIG(c) _tile_loadconfig(c)
#define TILE_RELEASE() _tile_release()
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, p, stride) _tile_loadd(t, p, stride)
#define TILE_STORE(t, p, stride) _tile_stored(t, p, stride)
#define TILE_DPBSSD(c, a, b) _tile_dpbssd(c, a, b)

#endif

#endif
