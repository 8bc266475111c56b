/* rows.h - 16 rows of weights turned so that a register holds one k of every row, for the packers of this level.
 *
 * With lane = row, sums over a block need no shuffles, every row keeps its own scale, and four registers of codes
 * joined byte by byte are a vector of the packed layout. */
#ifndef CRL_SIMD_AVX512_ROWS_H
#define CRL_SIMD_AVX512_ROWS_H

#include "quant/mat.h"
#include "simd/x86.h"

/* 16 x 16 floats, t[i] lane j <-> t[j] lane i. */
CRL_INLINE void transpose(__m512 t[16])
{
    __m512 a[16];

    CRL_UNROLL for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(t[i], t[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(t[i], t[i + 1]);
    }
    CRL_UNROLL for (int i = 0; i < 16; i += 4) { /* t[i + c]: rows i .. i + 3 of columns c, 4 + c, 8 + c, 12 + c */
        __m512d p0 = _mm512_castps_pd(a[i]), p1 = _mm512_castps_pd(a[i + 1]);
        __m512d p2 = _mm512_castps_pd(a[i + 2]), p3 = _mm512_castps_pd(a[i + 3]);
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(p0, p2));
        t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(p0, p2));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(p1, p3));
        t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(p1, p3));
    }
    CRL_UNROLL for (int c = 0; c < 4; c++) {
        a[c] = _mm512_shuffle_f32x4(t[c], t[4 + c], 0x44);
        a[4 + c] = _mm512_shuffle_f32x4(t[c], t[4 + c], 0xee);
        a[8 + c] = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0x44);
        a[12 + c] = _mm512_shuffle_f32x4(t[8 + c], t[12 + c], 0xee);
    }
    CRL_UNROLL for (int c = 0; c < 4; c++) {
        t[c] = _mm512_shuffle_f32x4(a[c], a[8 + c], 0x88);
        t[4 + c] = _mm512_shuffle_f32x4(a[c], a[8 + c], 0xdd);
        t[8 + c] = _mm512_shuffle_f32x4(a[4 + c], a[12 + c], 0x88);
        t[12 + c] = _mm512_shuffle_f32x4(a[4 + c], a[12 + c], 0xdd);
    }
}

/* Block b of all rows: w[j] holds weight 32 b + j of row i in lane i. Rows that are NULL and what lies beyond k are 0,
 * non-finite weights become 0; returns how many there were. */
CRL_INLINE size_t load_block(__m512 w[CRL_BLOCK], const float *const rows[CRL_PANEL_ROWS], size_t b, size_t k)
{
    size_t bad = 0;

    for (size_t h = 0; h < 2; h++) {
        size_t k0 = b * CRL_BLOCK + h * 16, n = k > k0 ? k - k0 : 0;
        __mmask16 there = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
        __m512 *t = w + h * 16;

        for (size_t r = 0; r < CRL_PANEL_ROWS; r++) {
            __mmask16 off;
            t[r] = rows[r] && n ? _mm512_maskz_loadu_ps(there, rows[r] + k0) : _mm512_setzero_ps();
            off = _mm512_fpclass_ps_mask(t[r], 0x01 | 0x08 | 0x10 | 0x80); /* NaN, infinities */
            t[r] = _mm512_maskz_mov_ps((__mmask16)~off, t[r]);
            bad += (unsigned)__builtin_popcount(off);
        }
        transpose(t);
    }
    return bad;
}

/* Codes of 4 consecutive k, each 16 rows in 0 .. 255 or two's complement, as one vector N16K4. */
CRL_INLINE __m512i join4(const __m512i c[4])
{
    const __m512i byte = _mm512_set1_epi32(255);
    __m512i lo = _mm512_or_si512(_mm512_and_si512(c[0], byte), _mm512_slli_epi32(_mm512_and_si512(c[1], byte), 8));
    __m512i hi = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(c[2], byte), 16), _mm512_slli_epi32(c[3], 24));

    return _mm512_or_si512(lo, hi);
}

#endif
