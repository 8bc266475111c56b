/* mat.c - sizes of packed matrices, and the formats' common front. */
#include "quant/mat.h"

#include "base/bytes.h"
#include "quant/bf16.h"
#include "quant/q4.h"
#include "quant/q8.h"

#include <math.h>
#include <string.h>

static const char *const name[CRL_FORMAT_END] = {
    [CRL_F32] = "f32", [CRL_BF16] = "bf16", [CRL_Q8] = "q8", [CRL_Q4] = "q4"
};

const char *crl_format_name(enum crl_format f)
{
    return (unsigned)f < CRL_FORMAT_END ? name[f] : NULL;
}

bool crl_format_parse(const char *text, enum crl_format *f)
{
    for (unsigned i = 1; i < CRL_FORMAT_END; i++)
        if (!strcmp(text, name[i])) {
            *f = (enum crl_format)i;
            return true;
        }
    return false;
}

size_t crl_panel_bytes(enum crl_format f, size_t k)
{
    size_t kp = crl_k_pad(k);

    switch (f) {
    case CRL_BF16: return kp * CRL_PANEL_ROWS * 2;
    case CRL_Q8: return crl_q8_scale_bytes(kp) + kp * CRL_PANEL_ROWS;
    case CRL_Q4: return crl_q4_scale_bytes(kp) + kp * CRL_PANEL_ROWS / 2;
    case CRL_F32: return k * CRL_PANEL_ROWS * sizeof(float);
    }
    return 0;
}

size_t crl_mat_header_bytes(enum crl_format f)
{
    return f == CRL_Q4 ? CRL_ALIGN : 0;
}

bool crl_mat_bytes(enum crl_format f, uint64_t n, uint64_t k, uint64_t *bytes)
{
    uint64_t body;

    if (!crl_format_name(f) || k > (uint64_t)1 << 31 || n > (uint64_t)1 << 40) return false;
    if (f == CRL_F32) return crl_mul_u64(n * sizeof(float), k, bytes);
    if (!crl_mul_u64((n + CRL_PANEL_ROWS - 1) / CRL_PANEL_ROWS, crl_panel_bytes(f, (size_t)k), &body)) return false;
    return crl_add_u64(body, crl_mat_header_bytes(f), bytes);
}

void crl_mat_bind_at(struct crl_mat *m, enum crl_format f, size_t n, size_t k, const void *header, const void *panel,
                     bool late)
{
    memset(m, 0, sizeof *m);
    m->format = f;
    m->n = n;
    m->k = k;
    m->panel = panel;
    m->panel_bytes = crl_panel_bytes(f, k);
    if (f != CRL_Q4) return;
    m->late = header;
    if (!late) crl_mat_late(m);
}

void crl_mat_late(struct crl_mat *m)
{
    if (m->late) memcpy(m->level, m->late, sizeof m->level);
    m->late = NULL;
}

void crl_mat_bind(struct crl_mat *m, enum crl_format f, size_t n, size_t k, const void *data)
{
    crl_mat_bind_at(m, f, n, k, data, (const unsigned char *)data + crl_mat_header_bytes(f), false);
}

void crl_mat_header_put(enum crl_format f, void *header, const int8_t level[16])
{
    memset(header, 0, crl_mat_header_bytes(f));
    if (f == CRL_Q4) memcpy(header, level, 16);
}

size_t crl_panel_pack(enum crl_format f, void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k,
                      const int8_t level[16])
{
    switch (f) {
    case CRL_BF16: return crl_bf16_pack(panel, rows, k);
    case CRL_Q8: return crl_q8_pack(panel, rows, k);
    case CRL_Q4: return crl_q4_pack(panel, rows, k, level, NULL);
    case CRL_F32: break; /* has no panels */
    }
    return 0;
}

float crl_sum32(const float v[CRL_BLOCK])
{
    float s[16];

    for (int j = 0; j < 16; j++) s[j] = v[j] + v[j + 16];
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) s[j] += s[j + half];
    return s[0];
}

void crl_mat_row(const struct crl_mat *m, size_t row, float *out)
{
    const unsigned char *panel = m->panel + row / CRL_PANEL_ROWS * m->panel_bytes;

    switch (m->format) {
    case CRL_BF16: crl_bf16_row(panel, row % CRL_PANEL_ROWS, m->k, out); break;
    case CRL_Q8: crl_q8_row(panel, row % CRL_PANEL_ROWS, m->k, out); break;
    case CRL_Q4: crl_q4_row(panel, row % CRL_PANEL_ROWS, m->k, m->level, out); break;
    case CRL_F32: memcpy(out, m->panel + row * m->k * sizeof(float), m->k * sizeof(float)); break;
    }
}
