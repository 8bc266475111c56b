/* gemm_q4.c - q4 weights with smmla. Contract: simd/kernels.h and quant/q4.h. */
#ifndef __ARM_FEATURE_MATMUL_INT8
#error "compile with the I8MM flags"
#endif
#include "simd/i8mm/tile.h"
#include "simd/kernels.h"

crl_gemm_q_fn crl_gemm_q4_i8mm, crl_gemm_q4_dotprod;

CRL_INLINE const int8_t *fill_zipped(struct slab *s, const unsigned char *panel, size_t kp, size_t b0, size_t nb,
                                     int8x16_t table)
{
    const unsigned char *codes = panel + crl_q4_scale_bytes(kp) + b0 * 256;

    fill_scales_q4(s, panel, b0, nb);
    for (size_t v = 0; v < nb * 4; v++) { /* the two nibbles of a byte are the two words to zip */
        CRL_UNROLL for (int c = 0; c < 4; c++) {
            uint8x16_t two = vld1q_u8(codes + v * 64 + 16 * c);
            put_zipped(s->w + v * 128 + 32 * c, low_codes(two, table), high_codes(two, table));
        }
    }
    return s->w;
}

void crl_gemm_q4_i8mm(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                      size_t hi)
{
    if (m == 1) crl_gemm_q4_dotprod(y, y_stride, x, m, w, lo, hi);
    else panels(y, y_stride, x, m, w, lo, hi, fill_zipped, mm_rows, Q4_SPAN);
}
