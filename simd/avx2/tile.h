/* tile.h - the int8 product of AVX2 shared by the q8 and q4 kernels of this level.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and adds pairs in int16 with saturation: |w| * (x with the sign of w)
 * is at most 2 * 127 * 127 = 32258 and never saturates. */
#ifndef CRL_SIMD_AVX2_TILE_H
#define CRL_SIMD_AVX2_TILE_H

#include "simd/x86.h"

/* sum += 8 rows x 4 k of w (signed, -127 .. 127) times the four bytes of x, per row. */
CRL_INLINE __m256i dot4(__m256i sum, __m256i w, __m256i x)
{
    __m256i pair = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));

    return _mm256_add_epi32(sum, _mm256_madd_epi16(pair, _mm256_set1_epi16(1)));
}

CRL_INLINE __m256i four_at(const int8_t *q)
{
    int32_t four;

    __builtin_memcpy(&four, q, 4);
    return _mm256_set1_epi32(four);
}

#endif
