/* gemm.c - q8 and q4 weights with AMX int8 tiles. Contracts: simd/kernels.h, quant/q8.h, quant/q4.h.
 *
 * A block of 32 k of a panel, 8 vectors of 16 rows x 4 k, is a B tile as it lies: q8 is multiplied straight from the
 * packed bytes, q4 from a slab of looked-up levels. Up to 32 rows of x (two A tiles of 32 bytes) meet two panels: four
 * sums. Each block has scales of its own, so the sums leave the tiles after every block and are scaled with AVX-512 in
 * the same order as the other levels do: the bits are the same. Few rows are left to the kernels of avx512vnni, which
 * every machine with tiles has. */
#if !defined(CRL_AMX_MODEL) && !defined(__AMX_INT8__) && !defined(__AMXINT8__)
#error "compile with the AMX flags"
#endif
#include "quant/q4.h"
#include "quant/q8.h"
#include "simd/amx/ops.h"
#include "simd/kernels.h"
#include "simd/x86.h"

crl_gemm_q_fn crl_gemm_q8_amx, crl_gemm_q4_amx, crl_gemm_q8_avx512vnni, crl_gemm_q4_avx512vnni;

#define FEW_ROWS 8     /* below this most of an A tile would be empty */
#define SLAB_BLOCKS 16 /* 512 of k */
#define CHUNK 32       /* rows of x: two A tiles */

/* Two panels along a piece of k. */
struct piece {
    const unsigned char *w[2];              /* codes, 512 bytes per block */
    _Alignas(64) float scale[2][SLAB_BLOCKS * 16];
    _Alignas(64) unsigned char level[2][SLAB_BLOCKS * 512]; /* q4: what w points to */
};

struct sums {
    _Alignas(64) int32_t block[2][2][16][16]; /* [A tile][panel][row][column] */
    _Alignas(64) float part[CHUNK][2][16];    /* q4: sums of a span */
    _Alignas(64) float acc[CHUNK][2][16];
};

/* Tiles 0-3: sums of (A tile 0, panel 0), (0, 1), (1, 0), (1, 1); 4, 5: A; 6, 7: B. */
static void configure(size_t m)
{
    struct tile_config c;
    uint8_t first = (uint8_t)(m < 16 ? m : 16), second = (uint8_t)(m > 16 ? m - 16 : 1); /* 0 rows are not allowed */

    memset(&c, 0, sizeof c);
    c.palette = 1;
    for (int t = 0; t < 8; t++) {
        c.rows[t] = t == 2 || t == 3 || t == 5 ? second : t < 6 ? first : 8;
        c.colsb[t] = t == 4 || t == 5 ? 32 : 64;
    }
    TILE_CONFIG(&c);
}

/* Integer sums of block b, m rows of x whose codes of this block begin at q. */
static void multiply(struct sums *s, const struct piece *w, size_t b, const int8_t *q, size_t q_stride, size_t m,
                     size_t n_panel)
{
    TILE_LOAD(4, q, q_stride);
    TILE_LOAD(6, w->w[0] + b * 512, 64);
    TILE_ZERO(0);
    TILE_DPBSSD(0, 4, 6);
    TILE_STORE(0, s->block[0][0], 64);
    if (m > 16) {
        TILE_LOAD(5, q + 16 * q_stride, q_stride);
        TILE_ZERO(2);
        TILE_DPBSSD(2, 5, 6);
        TILE_STORE(2, s->block[1][0], 64);
    }
    if (n_panel == 1) return;
    TILE_LOAD(7, w->w[1] + b * 512, 64);
    TILE_ZERO(1);
    TILE_DPBSSD(1, 4, 7);
    TILE_STORE(1, s->block[0][1], 64);
    if (m <= 16) return;
    TILE_ZERO(3);
    TILE_DPBSSD(3, 5, 7);
    TILE_STORE(3, s->block[1][1], 64);
}

CRL_INLINE __m512 sum_at(const struct sums *s, size_t r, size_t p)
{
    return _mm512_cvtepi32_ps(_mm512_load_si512(s->block[r / 16][p][r % 16]));
}

/* acc = fma(sum, x scale * w scale, acc), block by block (q8). */
static void take_fine(struct sums *s, const struct piece *w, size_t b, const float *xs, size_t xs_stride, size_t m,
                      size_t n_panel)
{
    for (size_t p = 0; p < n_panel; p++) {
        __m512 ws = _mm512_load_ps(w->scale[p] + b * 16);
        for (size_t r = 0; r < m; r++) {
            __m512 scale = _mm512_mul_ps(_mm512_set1_ps(xs[r * xs_stride]), ws);
            _mm512_store_ps(s->acc[r][p], _mm512_fmadd_ps(sum_at(s, r, p), scale, _mm512_load_ps(s->acc[r][p])));
        }
    }
}

/* part = fma(sum, w scale, part); `last` of the span: acc = fma(part, x scale, acc) (q4). */
static void take_coarse(struct sums *s, const struct piece *w, size_t b, bool first, bool last, const float *xs,
                        size_t xs_stride, size_t m, size_t n_panel)
{
    for (size_t p = 0; p < n_panel; p++) {
        __m512 ws = _mm512_load_ps(w->scale[p] + b * 16);
        for (size_t r = 0; r < m; r++) {
            __m512 part = first ? _mm512_setzero_ps() : _mm512_load_ps(s->part[r][p]);
            part = _mm512_fmadd_ps(sum_at(s, r, p), ws, part);
            if (!last) _mm512_store_ps(s->part[r][p], part);
            else _mm512_store_ps(s->acc[r][p], _mm512_fmadd_ps(part, _mm512_set1_ps(xs[r * xs_stride]),
                                                               _mm512_load_ps(s->acc[r][p])));
        }
    }
}

/* Rows i .. i + m (m <= CHUNK) of x against a piece of nb blocks from b0 on; y holds what came before. */
static void chunk(float *y, size_t y_stride, const struct crl_act *x, size_t i, size_t m, const struct piece *w,
                  size_t b0, size_t nb, size_t n_panel)
{
    const size_t per_span = x->span / CRL_BLOCK;
    const float *xs = x->scale + i * x->n_span;
    struct sums s;

    for (size_t r = 0; r < m; r++)
        for (size_t p = 0; p < n_panel; p++)
            _mm512_store_ps(s.acc[r][p], b0 ? _mm512_loadu_ps(y + r * y_stride + 16 * p) : _mm512_setzero_ps());
    for (size_t b = 0; b < nb; b++) {
        size_t at = b0 + b;

        multiply(&s, w, b, x->q + i * x->k_pad + at * CRL_BLOCK, x->k_pad, m, n_panel);
        if (per_span == 1) take_fine(&s, w, b, xs + at, x->n_span, m, n_panel);
        else take_coarse(&s, w, b, at % per_span == 0, at % per_span == per_span - 1 || b + 1 == nb, xs + at / per_span,
                         x->n_span, m, n_panel);
    }
    for (size_t r = 0; r < m; r++)
        for (size_t p = 0; p < n_panel; p++)
            _mm512_storeu_ps(y + r * y_stride + 16 * p, _mm512_load_ps(s.acc[r][p]));
}

/* All rows against one piece; the tiles are shaped anew only for the rest. */
static void all_rows(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct piece *w, size_t b0,
                     size_t nb, size_t n_panel)
{
    size_t i = 0;

    if (m >= CHUNK) configure(CHUNK);
    for (; i + CHUNK <= m; i += CHUNK) chunk(y + i * y_stride, y_stride, x, i, CHUNK, w, b0, nb, n_panel);
    if (i == m) return;
    configure(m - i);
    chunk(y + i * y_stride, y_stride, x, i, m - i, w, b0, nb, n_panel);
}

static void take_q8(struct piece *w, size_t p, const unsigned char *panel, size_t kp, size_t b0, size_t nb)
{
    w->w[p] = panel + crl_q8_scale_bytes(kp) + b0 * 512;
    for (size_t b = 0; b < nb; b++) {
        __m256i h = _mm256_loadu_si256((const __m256i *)(panel + (b0 + b) * 32));
        _mm512_store_ps(w->scale[p] + b * 16, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)));
    }
}

void crl_gemm_q8_amx(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                     size_t hi)
{
    size_t n_block = x->k_pad / CRL_BLOCK;
    struct piece piece;

    if (m < FEW_ROWS) {
        crl_gemm_q8_avx512vnni(y, y_stride, x, m, w, lo, hi);
        return;
    }
    for (size_t p = lo; p < hi; p += 2) {
        size_t n = hi - p < 2 ? 1 : 2;
        for (size_t b0 = 0; b0 < n_block; b0 += SLAB_BLOCKS) {
            size_t nb = n_block - b0 < SLAB_BLOCKS ? n_block - b0 : SLAB_BLOCKS;
            for (size_t j = 0; j < n; j++) take_q8(&piece, j, w->panel + (p + j) * w->panel_bytes, x->k_pad, b0, nb);
            all_rows(y + p * 16, y_stride, x, m, &piece, b0, nb, n);
        }
    }
    TILE_RELEASE();
}

static void take_q4(struct piece *w, size_t p, const unsigned char *panel, size_t kp, size_t b0, size_t nb,
                    __m512i table)
{
    const __m512i low = _mm512_set1_epi8(15);
    const unsigned char *codes = panel + crl_q4_scale_bytes(kp) + b0 * 256;

    w->w[p] = w->level[p];
    for (size_t b = 0; b < nb; b++)
        _mm512_store_ps(w->scale[p] + b * 16, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(
                                                  (const __m128i *)(panel + 64 + (b0 + b) * 16)))));
    for (size_t v = 0; v < nb * 4; v++) {
        __m512i c = _mm512_load_si512(codes + v * 64);
        _mm512_store_si512(w->level[p] + v * 128, _mm512_shuffle_epi8(table, _mm512_and_si512(c, low)));
        _mm512_store_si512(w->level[p] + v * 128 + 64,
                           _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(c, 4), low)));
    }
}

void crl_gemm_q4_amx(float *y, size_t y_stride, const struct crl_act *x, size_t m, const struct crl_mat *w, size_t lo,
                     size_t hi)
{
    size_t n_block = x->k_pad / CRL_BLOCK;
    __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)w->level));
    struct piece piece;

    if (m < FEW_ROWS) {
        crl_gemm_q4_avx512vnni(y, y_stride, x, m, w, lo, hi);
        return;
    }
    for (size_t p = lo; p < hi; p += 2) {
        size_t n = hi - p < 2 ? 1 : 2;
        for (size_t b0 = 0; b0 < n_block; b0 += SLAB_BLOCKS) {
            size_t nb = n_block - b0 < SLAB_BLOCKS ? n_block - b0 : SLAB_BLOCKS;
            for (size_t j = 0; j < n; j++)
                take_q4(&piece, j, w->panel + (p + j) * w->panel_bytes, x->k_pad, b0, nb, table);
            all_rows(y + p * 16, y_stride, x, m, &piece, b0, nb, n);
        }
        for (size_t j = 0; j < n; j++) {
            __m512 unit = _mm512_load_ps(w->panel + (p + j) * w->panel_bytes);
            for (size_t i = 0; i < m; i++) {
                float *to = y + i * y_stride + (p + j) * 16;
                _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_loadu_ps(to), unit));
            }
        }
    }
    TILE_RELEASE();
}
