/* rows.h - 8 rows of weights turned so that a register holds one k of every row, for the packers of this level: sums
 * over a block need no shuffles and four registers of codes joined byte by byte are half a vector N16K4. */
#ifndef CRL_SIMD_AVX2_ROWS_H
#define CRL_SIMD_AVX2_ROWS_H

#include "quant/mat.h"
#include "simd/x86.h"

#define LANES 8

/* 8 x 8 floats, t[i] lane j <-> t[j] lane i. */
CRL_INLINE void transpose(__m256 t[8])
{
    __m256 a[8];

    CRL_UNROLL for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(t[i], t[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(t[i], t[i + 1]);
    }
    CRL_UNROLL for (int i = 0; i < 8; i += 4) { /* t[i + c]: rows i .. i + 3 of columns c and 4 + c */
        t[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        t[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        t[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        t[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    CRL_UNROLL for (int c = 0; c < 4; c++) {
        a[c] = _mm256_permute2f128_ps(t[c], t[4 + c], 0x20);
        a[4 + c] = _mm256_permute2f128_ps(t[c], t[4 + c], 0x31);
    }
    CRL_UNROLL for (int i = 0; i < 8; i++) t[i] = a[i];
}

/* Block b of 8 rows: w[j] holds weight 32 b + j of row i in lane i. Rows that are NULL and what lies beyond k are 0,
 * non-finite weights become 0; returns how many there were. */
CRL_INLINE size_t load_block(__m256 w[CRL_BLOCK], const float *const rows[LANES], size_t b, size_t k)
{
    const __m256i step = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), most = _mm256_set1_epi32(0x7f7fffff);
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    size_t bad = 0;

    for (size_t h = 0; h < 4; h++) {
        size_t k0 = b * CRL_BLOCK + h * LANES, n = k > k0 ? k - k0 : 0;
        __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), step);
        __m256 *t = w + h * LANES;

        for (size_t r = 0; r < LANES; r++) {
            __m256i off;
            t[r] = rows[r] && n ? _mm256_maskload_ps(rows[r] + k0, there) : _mm256_setzero_ps();
            off = _mm256_cmpgt_epi32(_mm256_and_si256(_mm256_castps_si256(t[r]), magnitude), most);
            t[r] = _mm256_andnot_ps(_mm256_castsi256_ps(off), t[r]);
            bad += (unsigned)__builtin_popcount((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(off)));
        }
        transpose(t);
    }
    return bad;
}

CRL_INLINE __m256 abs8(__m256 v)
{
    return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
}

CRL_INLINE __m256 above(__m256 a, __m256 b)
{
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}

CRL_INLINE __m256i clamp127(__m256i c)
{
    return _mm256_max_epi32(_mm256_min_epi32(c, _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
}

/* Codes of 4 consecutive k, each 8 rows in 0 .. 255 or two's complement, as half a vector N16K4. */
CRL_INLINE __m256i join4(const __m256i c[4])
{
    const __m256i byte = _mm256_set1_epi32(255);
    __m256i lo = _mm256_or_si256(_mm256_and_si256(c[0], byte), _mm256_slli_epi32(_mm256_and_si256(c[1], byte), 8));
    __m256i hi = _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(c[2], byte), 16), _mm256_slli_epi32(c[3], 24));

    return _mm256_or_si256(lo, hi);
}

#endif
