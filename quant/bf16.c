/* bf16.c - bfloat16 panels. */
#include "quant/bf16.h"

#include "base/bytes.h"

#include <math.h>
#include <string.h>

/* Byte of (row, k) in a panel: 2 consecutive k of 16 rows make 64 bytes. */
static size_t at(size_t row, size_t k)
{
    return k / 2 * 64 + row * 4 + k % 2 * 2;
}

/* The last half step of float would round to infinity and stays at the largest bf16. */
static uint16_t to_bf16(float w)
{
    uint16_t h = crl_bf16_from_f32(w);

    return (h & 0x7fff) < 0x7f80 ? h : (uint16_t)((h & 0x8000) | 0x7f7f);
}

size_t crl_bf16_pack(void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k)
{
    size_t bad = 0;

    memset(panel, 0, crl_panel_bytes(CRL_BF16, k));
    for (size_t r = 0; r < CRL_PANEL_ROWS; r++) {
        if (!rows[r]) continue;
        for (size_t j = 0; j < k; j++) {
            bool finite = isfinite(rows[r][j]);
            bad += !finite;
            crl_put_le16((unsigned char *)panel + at(r, j), to_bf16(finite ? rows[r][j] : 0));
        }
    }
    return bad;
}

void crl_bf16_row(const unsigned char *panel, size_t row, size_t k, float *out)
{
    for (size_t j = 0; j < k; j++) out[j] = crl_bf16_to_f32(crl_le16(panel + at(row, j)));
}

void crl_gemm_bf16_scalar(float *y, size_t y_stride, const float *x, size_t x_stride, size_t m,
                          const struct crl_mat *w, size_t lo, size_t hi)
{
    size_t kp = crl_k_pad(w->k);

    for (size_t p = lo; p < hi; p++) {
        const unsigned char *panel = w->panel + p * w->panel_bytes;
        for (size_t i = 0; i < m; i++)
            for (size_t r = 0; r < CRL_PANEL_ROWS; r++) {
                float s[4] = { 0, 0, 0, 0 };
                for (size_t j = 0; j < kp; j++)
                    s[j % 4] += x[i * x_stride + j] * crl_bf16_to_f32(crl_le16(panel + at(r, j)));
                y[i * y_stride + p * CRL_PANEL_ROWS + r] = (s[0] + s[2]) + (s[1] + s[3]);
            }
    }
}
