/* gemm_q8.c - q8 weights with smmla. Contract: simd/kernels.h and quant/q8.h. */
#ifndef __ARM_FEATURE_MATMUL_INT8
#error "compile with the I8MM flags"
#endif
#include "simd/i8mm/tile.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q8_i8mm, crl_gemm_q8_dotprod;

CRL_INLINE const int8_t *fill_zipped(struct slab *s, const unsigned char *panel, size_t kp, size_t b0, size_t nb,
                                     int8x16_t table)
{
    const int8_t *codes = (const int8_t *)panel + crl_q8_scale_bytes(kp) + b0 * 512;

    (void)table;
    fill_scales_q8(s, panel, b0, nb);
    for (size_t v = 0; v < nb * 4; v++) {
        CRL_UNROLL for (int c = 0; c < 4; c++)
            put_zipped(s->w + v * 128 + 32 * c, vld1q_s8(codes + v * 128 + 16 * c), vld1q_s8(codes + v * 128 + 64 + 16 * c));
    }
    return s->w;
}

void crl_gemm_q8_i8mm(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                      size_t hi)
{
    if (m == 1) crl_gemm_q8_dotprod(y, y_stride, x, m, w, lo, hi);
    else panels(y, y_stride, x, m, w, lo, hi, fill_zipped, mm_rows, Q8_SPAN);
}
