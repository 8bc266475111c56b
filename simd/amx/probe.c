/* probe.c - the limit of AMX tiles of int8: tdpbssd with whole tiles, 16 x 16 sums of 64 products. */
#if !defined(CRL_AMX_MODEL) && !defined(__AMX_INT8__) && !defined(__AMXINT8__)
#error "this file is built with the flags of its level"
#endif

#include "simd/amx/ops.h"
#include "simd/probe.h"

crl_probe_int8_fn crl_probe_int8_amx;

uint64_t crl_probe_int8_amx(size_t rounds, uint64_t *value)
{
    struct tile_config c;
    int8_t operand[16][64];
    int32_t sum[16][16];

    memset(&c, 0, sizeof c);
    memset(operand, 3, sizeof operand);
    c.palette = 1;
    for (int t = 0; t < 8; t++) {
        c.rows[t] = 16;
        c.colsb[t] = 64;
    }
    TILE_CONFIG(&c);
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    TILE_LOAD(4, operand, 64);
    TILE_LOAD(5, operand, 64);
    TILE_LOAD(6, operand, 64);
    TILE_LOAD(7, operand, 64);
    for (size_t r = 0; r < rounds; r++) { /* the four sums a product has room for */
        TILE_DPBSSD(0, 4, 6);
        TILE_DPBSSD(1, 4, 7);
        TILE_DPBSSD(2, 5, 6);
        TILE_DPBSSD(3, 5, 7);
    }
    TILE_STORE(0, sum, 64);
    TILE_RELEASE();
    *value = (uint64_t)sum[15][15];
    return (uint64_t)rounds * 4 * 16 * 16 * 64 * 2;
}
