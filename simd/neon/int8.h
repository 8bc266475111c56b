/* int8.h - what the products of int8 activations have in common at all ARM levels.
 *
 * Panels are taken a slab at a time, a piece along k: its weights as signed bytes in the order in which the level's
 * instruction wants them, and its block scales as float. A level brings `fill`, which readies a slab, and `rows`,
 * which multiplies all rows of x with it. Weights and x are signed here, as the instructions want them, so the bias
 * of crl_act is not used. All levels add in one order, that of quant/: by increasing k, fused. */
#ifndef CRL_SIMD_NEON_INT8_H
#define CRL_SIMD_NEON_INT8_H

#include "quant/act.h"
#include "quant/q4.h"
#include "quant/q8.h"
#include "simd/arm.h"

#define SLAB_BLOCKS 16 /* 512 of k: 8 KiB of weights stay in L1 beside the rows of x */

struct slab {
    int8_t w[SLAB_BLOCKS * 512];   /* [block][512] */
    float scale[SLAB_BLOCKS * 16]; /* [block][16] */
};

/* Ready blocks b0 .. b0 + nb of a panel: their scales in s->scale; returns their weights, in s->w or in the panel.
 * table: the 16 levels of q4. */
typedef const int8_t *fill_fn(struct slab *s, const unsigned char *panel, size_t kp, size_t b0, size_t nb,
                              int8x16_t table);

/* Add the products of m rows of x and blocks b0 .. b0 + nb of 16 rows of weights to y; for b0 = 0, set it. span: blocks
 * that share a scale of x. */
typedef void rows_fn(float *y, size_t y_stride, const struct crl_act *x, size_t m, const int8_t *w, const float *scale,
                     size_t b0, size_t nb, const size_t span);

#define Q8_SPAN (CRL_Q8_SPAN / CRL_BLOCK)
#define Q4_SPAN (CRL_Q4_SPAN / CRL_BLOCK)
_Static_assert(Q8_SPAN == 1 && SLAB_BLOCKS % Q4_SPAN == 0, "add_block scales q8 block by block; slabs hold whole spans");

CRL_INLINE int8x16_t level_table(const struct crl_mat *w)
{
    return vld1q_s8(w->level);
}

/* Codes to weights: those in the low and in the high nibbles of 16 bytes. */
CRL_INLINE int8x16_t low_codes(uint8x16_t c, int8x16_t table)
{
    return vqtbl1q_s8(table, vandq_u8(c, vdupq_n_u8(15)));
}

CRL_INLINE int8x16_t high_codes(uint8x16_t c, int8x16_t table)
{
    return vqtbl1q_s8(table, vshrq_n_u8(c, 4));
}

/* 16 bf16 block scales as float. */
CRL_INLINE void scales_q8(float32x4_t s[4], const unsigned char *panel, size_t b)
{
    const uint16_t *p = (const uint16_t *)(const void *)(panel + b * 32);

    CRL_UNROLL for (int c = 0; c < 4; c++) s[c] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * c), 16));
}

/* 16 int8 block scales as float. */
CRL_INLINE void scales_q4(float32x4_t s[4], const unsigned char *panel, size_t b)
{
    int8x16_t v = vld1q_s8((const int8_t *)panel + CRL_PANEL_ROWS * sizeof(float) + b * CRL_PANEL_ROWS);
    int16x8_t lo = vmovl_s8(vget_low_s8(v)), hi = vmovl_high_s8(v);

    s[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo)));
    s[1] = vcvtq_f32_s32(vmovl_high_s16(lo));
    s[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi)));
    s[3] = vcvtq_f32_s32(vmovl_high_s16(hi));
}

CRL_INLINE void fill_scales_q8(struct slab *s, const unsigned char *panel, size_t b0, size_t nb)
{
    for (size_t b = 0; b < nb; b++) {
        float32x4_t f[4];
        scales_q8(f, panel, b0 + b);
        CRL_UNROLL for (int c = 0; c < 4; c++) vst1q_f32(s->scale + b * 16 + 4 * c, f[c]);
    }
}

CRL_INLINE void fill_scales_q4(struct slab *s, const unsigned char *panel, size_t b0, size_t nb)
{
    for (size_t b = 0; b < nb; b++) {
        float32x4_t f[4];
        scales_q4(f, panel, b0 + b);
        CRL_UNROLL for (int c = 0; c < 4; c++) vst1q_f32(s->scale + b * 16 + 4 * c, f[c]);
    }
}

/* Slabs in the order of the panel, N16K4: q8 needs no copy. */
CRL_INLINE const int8_t *fill_q8(struct slab *s, const unsigned char *panel, size_t kp, size_t b0, size_t nb,
                                 int8x16_t table)
{
    (void)table;
    fill_scales_q8(s, panel, b0, nb);
    return (const int8_t *)panel + crl_q8_scale_bytes(kp) + b0 * 512;
}

CRL_INLINE const int8_t *fill_q4(struct slab *s, const unsigned char *panel, size_t kp, size_t b0, size_t nb,
                                 int8x16_t table)
{
    const unsigned char *codes = panel + crl_q4_scale_bytes(kp) + b0 * 256;

    fill_scales_q4(s, panel, b0, nb);
    for (size_t v = 0; v < nb * 4; v++) {
        CRL_UNROLL for (int c = 0; c < 4; c++) {
            uint8x16_t two = vld1q_u8(codes + v * 64 + 16 * c);
            vst1q_s8(s->w + v * 128 + 16 * c, low_codes(two, table));
            vst1q_s8(s->w + v * 128 + 64 + 16 * c, high_codes(two, table));
        }
    }
    return s->w;
}

/* Add the integer sums of block b, the last one being `end` - 1, to y of 16 rows. With a scale of x for every block (q8):
 * y += sum * (x scale * scales). With one for several (q4): part += sum * scales, and at the end of the span
 * y += part * x scale. x_scale: of the row, from block 0 on. y is set, not read, in the first span. */
CRL_INLINE void add_block(float *y, float32x4_t part[4], const int32x4_t sum[4], const float *scale,
                          const float *x_scale, size_t b, size_t end, const size_t span)
{
    const float32x4_t zero = vdupq_n_f32(0);
    float xs = x_scale[b / span];

    CRL_UNROLL for (int c = 0; c < 4; c++) {
        float32x4_t s = vcvtq_f32_s32(sum[c]), ws = vld1q_f32(scale + 4 * c);
        if (span == 1) vst1q_f32(y + 4 * c, vfmaq_f32(b ? vld1q_f32(y + 4 * c) : zero, s, vmulq_n_f32(ws, xs)));
        else part[c] = vfmaq_f32(b % span ? part[c] : zero, s, ws);
    }
    if (span == 1 || ((b + 1) % span && b + 1 != end)) return;
    CRL_UNROLL for (int c = 0; c < 4; c++)
        vst1q_f32(y + 4 * c, vfmaq_n_f32(b < span ? zero : vld1q_f32(y + 4 * c), part[c], xs));
}

/* m rows of x against panels [lo, hi). */
CRL_INLINE void panels(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                       size_t hi, fill_fn *fill, rows_fn *rows, const size_t span)
{
    size_t kp = x->k_pad, n_block = kp / CRL_BLOCK;
    int8x16_t table = level_table(w);
    _Alignas(64) struct slab s;

    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        float *out = y + p * CRL_PANEL_ROWS;

        for (size_t b0 = 0; b0 < n_block; b0 += SLAB_BLOCKS) {
            size_t nb = n_block - b0 < SLAB_BLOCKS ? n_block - b0 : SLAB_BLOCKS;
            const int8_t *codes = fill(&s, panel, kp, b0, nb, table);
            rows(out, y_stride, x, m, codes, s.scale, b0, nb, span);
        }
        if (w->format != CRL_Q4) continue;
        for (size_t i = 0; i < m; i++, out += y_stride) { /* the row scales */
            CRL_UNROLL for (int c = 0; c < 4; c++) {
                float32x4_t unit = vld1q_f32((const float *)(const void *)panel + 4 * c);
                vst1q_f32(out + 4 * c, vmulq_f32(vld1q_f32(out + 4 * c), unit));
            }
        }
    }
}

#endif
