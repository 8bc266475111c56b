/* bytes.h - little-endian loads and stores at any alignment, and small float formats.
 *
 * Conversions to float are exact. Conversions from float round to nearest, ties to even; NaN stays NaN. */
#ifndef CRL_BASE_BYTES_H
#define CRL_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t crl_le16(const void *p)
{
    const unsigned char *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t crl_le32(const void *p)
{
    const unsigned char *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t crl_le64(const void *p)
{
    return crl_le32(p) | (uint64_t)crl_le32((const unsigned char *)p + 4) << 32;
}

static inline void crl_put_le16(void *p, uint16_t v)
{
    unsigned char *b = p;
    b[0] = (unsigned char)v;
    b[1] = (unsigned char)(v >> 8);
}

static inline void crl_put_le32(void *p, uint32_t v)
{
    crl_put_le16(p, (uint16_t)v);
    crl_put_le16((unsigned char *)p + 2, (uint16_t)(v >> 16));
}

static inline void crl_put_le64(void *p, uint64_t v)
{
    crl_put_le32(p, (uint32_t)v);
    crl_put_le32((unsigned char *)p + 4, (uint32_t)(v >> 32));
}

static inline float crl_f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t crl_f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float crl_bf16_to_f32(uint16_t h)
{
    return crl_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t crl_bf16_from_f32(float f)
{
    uint32_t u = crl_f32_bits(f);

    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40); /* keep a NaN a NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* The nearest bf16 number, ties to even. */
static inline float crl_bf16_round(float f)
{
    return crl_f32_from_bits((uint32_t)crl_bf16_from_f32(f) << 16);
}

static inline float crl_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 1023;

    if (exp == 31) return crl_f32_from_bits(sign | 0x7f800000 | man << 13);
    if (exp) return crl_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    {
        float f = (float)man * 0x1p-24f; /* subnormal: exact in float */
        return sign ? -f : f;
    }
}

/* E4M3 "fn": bias 7, no infinities, 0x7f and 0xff are NaN, largest 448. */
static inline float crl_e4m3_to_f32(uint8_t h)
{
    uint32_t sign = (uint32_t)(h & 0x80) << 24, exp = h >> 3 & 15, man = h & 7;

    if ((h & 0x7f) == 0x7f) return crl_f32_from_bits(sign | 0x7fc00000);
    if (exp) return crl_f32_from_bits(sign | (exp + 120) << 23 | man << 20);
    {
        float f = (float)man * 0x1p-9f;
        return sign ? -f : f;
    }
}

#endif
