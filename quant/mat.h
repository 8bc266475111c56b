/* mat.h - weight matrices in the one packed layout, and the formats that fill it. docs/format.md, "Panels", has the
 * same as tables.
 *
 * A matrix is w[n][k]: n outputs, k inputs, y = x . w^T. Rows are taken 16 at a time into panels; the last panel is
 * padded with zero rows, k is padded to a multiple of 32. A panel over all of k is contiguous and a multiple of 64
 * bytes long, so a range of panels is a range of bytes, whoever computes it.
 *
 * Inside a panel, codes are kept as "N16K4": 64 bytes hold 16 rows x 4 consecutive k, row r in bytes 4r .. 4r+3. That
 * is one vpdpbusd operand, one AMX tile row, four sdot registers.
 *
 *   BF16  per 2 consecutive k: 64 bytes, 16 rows x 2 bf16 (row r in bytes 4r .. 4r+3, lower k first)
 *   Q8    block scales, bf16 [k/32][16], padded to 64 bytes; then per block of 32 k: 8 vectors N16K4 of int8
 *         w = scale * code, code in -127 .. 127
 *   Q4    row scales, float [16]; block scales, int8 [k/32][16], padded to 64 bytes; then per block of 32 k: 4 vectors
 *         of 64 bytes, vector j holding the codes of k-group 2j in its low and of group 2j+1 in its high nibbles
 *         w = row scale * block scale * level[code]; the 16 levels belong to the matrix (header, 64 bytes)
 *   F32   no panels: plain float [n][k], for norms, biases and other vectors */
#ifndef CRL_QUANT_MAT_H
#define CRL_QUANT_MAT_H

#include "base/mem.h"

#include <stdint.h>

#define CRL_PANEL_ROWS 16
#define CRL_BLOCK 32 /* weights along k that share a scale */

/* The numbers are those of the packed file. */
enum crl_format { CRL_F32 = 1, CRL_BF16 = 2, CRL_Q8 = 3, CRL_Q4 = 4 };
#define CRL_FORMAT_END 5

/* A matrix bound to memory that somebody else owns. */
struct crl_mat {
    enum crl_format format;
    size_t n;                   /* outputs */
    size_t k;                   /* inputs */
    const unsigned char *panel; /* first panel (F32: first value), 64-byte aligned */
    size_t panel_bytes;         /* from one panel to the next (F32: bytes of 16 rows) */
    int8_t level[16];           /* Q4 only */
    size_t ahead;               /* what is read next lies so many bytes behind each panel; 0: nothing is known of it */
    const unsigned char *late;  /* Q4: where the levels are still to be read from, by crl_mat_late; else NULL */
};

/* "f32", "bf16", "q8", "q4"; NULL or false for what is none. */
const char *crl_format_name(enum crl_format f);
bool crl_format_parse(const char *name, enum crl_format *f);

static inline size_t crl_k_pad(size_t k)
{
    return crl_round_up(k, CRL_BLOCK);
}

static inline size_t crl_n_panel(size_t n)
{
    return (n + CRL_PANEL_ROWS - 1) / CRL_PANEL_ROWS;
}

/* Bytes of one panel; k is at most 2^31. */
size_t crl_panel_bytes(enum crl_format f, size_t k);

/* Bytes before the first panel: 64 for Q4 (the 16 levels, then zeros), else 0. */
size_t crl_mat_header_bytes(enum crl_format f);

/* Bytes of the whole matrix, header and padding included, a multiple of 64 (F32: of 4). False on overflow. */
bool crl_mat_bytes(enum crl_format f, uint64_t n, uint64_t k, uint64_t *bytes);

/* Bind `m` to the packed bytes at `data` (64-byte aligned, crl_mat_bytes long). */
void crl_mat_bind(struct crl_mat *m, enum crl_format f, size_t n, size_t k, const void *data);

/* The same with header and panels apart: `panel` is where panel 0 is or would be, when only later ones are there.
 * late: leave the header unread for now, it lies in a file that nobody has touched yet. */
void crl_mat_bind_at(struct crl_mat *m, enum crl_format f, size_t n, size_t k, const void *header, const void *panel,
                     bool late);

/* Read the levels if that was put off. Changes `m` alone, so everyone calls it on a copy. */
void crl_mat_late(struct crl_mat *m);

/* Quantise one panel: rows[i] is row i of the panel, k floats, or NULL for a padding row. `panel` receives
 * crl_panel_bytes. level: the 16 levels of the matrix for Q4, else ignored. Non-finite weights are taken as 0 and
 * counted in the result. Not for F32. Deterministic: depends on the values alone. */
size_t crl_panel_pack(enum crl_format f, void *panel, const float *const rows[CRL_PANEL_ROWS], size_t k,
                      const int8_t level[16]);

/* Write the header of a matrix (crl_mat_header_bytes). */
void crl_mat_header_put(enum crl_format f, void *header, const int8_t level[16]);

/* The levels used when nothing better was fitted. */
extern const int8_t crl_q4_level_default[16];

/* The sum over a block in the one order of all packers: j and j + 16 first, then halves. */
float crl_sum32(const float v[CRL_BLOCK]);

/* Dequantise row `row` into out[k]. */
void crl_mat_row(const struct crl_mat *m, size_t row, float *out);

#endif
