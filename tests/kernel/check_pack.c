/* check_pack.c - quantised panels: the same bytes as crl_q8_pack and crl_q4_pack, the count of non-finite weights too. */
#include "quant/q4.h"
#include "quant/q8.h"
#include "tests/kernel/checkkern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t pack(void (*fn)(void), enum crl_format format, void *panel, const float *const rows[CRL_PANEL_ROWS],
                   size_t k, const int8_t level[16])
{
    if (format == CRL_Q8) return ((crl_pack_q8_fn *)fn)(panel, rows, k);
    return ((crl_pack_q4_fn *)fn)(panel, rows, k, level);
}

static void (*scalar_of(enum crl_format format))(void)
{
    return format == CRL_Q8 ? (void (*)(void))crl_q8_pack : (void (*)(void))crl_q4_pack;
}

static bool check_panel(const struct crl_kernel_row *row, enum crl_format format, const int8_t level[16])
{
    size_t bytes = crl_panel_bytes(format, at.k), bad, bad_want;
    const float *rows[CRL_PANEL_ROWS] = { NULL };
    float *w = guarded(SLOT_ROWS, at.n * at.k * sizeof *w, sizeof *w);
    unsigned char *got = guarded(SLOT_W, bytes, 64), *want = malloc(bytes);
    uint64_t state = place_seed();
    bool ok = true;

    for (size_t r = 0; r < at.n; r++) { /* the last row ends at the guard page */
        rows[CRL_PANEL_ROWS - 1 - r] = w + r * at.k;
        fill_row(w + r * at.k, at.k, at.fill == FILL_HUGE ? r : r + at.k % 4, at.fill, &state);
    }
    bad_want = pack(scalar_of(format), format, want, rows, at.k, level);
    bad = pack(row->fn, format, got, rows, at.k, level);
    for (size_t i = 0; ok && i < bytes; i++)
        if (got[i] != want[i]) ok = differs("byte of the panel", i, got[i], want[i], 0);
    if (ok && bad != bad_want) ok = differs("non-finite weights, call", 0, (double)bad, (double)bad_want, 0);
    if (ok && !before_is_untouched(got)) ok = differs("byte before the panel", 0, 1, 0, 0);
    free(want);
    return ok;
}

bool check_pack(const struct crl_kernel_row *row, enum crl_format format)
{
    static const int8_t even[16] = { -127, -110, -93, -76, -59, -42, -25, -8, 8, 25, 42, 59, 76, 93, 110, 127 };
    static const int8_t equal[16] = { -60, -60, -20, -20, -7, -3, -1, 0, 0, 1, 2, 3, 3, 3, 40, 40 };
    static const size_t n[] = { 1, 11, 16 };

    at.m = 1;
    for (size_t ik = 0; ik < n_check_k; ik++)
        for (size_t in = 0; in < sizeof n / sizeof *n; in++)
            for (at.fill = 0; at.fill < FILL_CODES; at.fill++) {
                at.k = check_k[ik];
                at.n = n[in];
                if (!check_panel(row, format, in == 0 ? equal : in == 1 ? even : crl_q4_level_default)) return false;
            }
    return true;
}

void bench_pack(const struct crl_kernel_row *row, enum crl_format format)
{
    size_t k = 5120, done = 0;
    float *w = crl_alloc(CRL_PANEL_ROWS * k, sizeof *w);
    void *panel = crl_alloc(crl_panel_bytes(format, k), 1);
    const float *rows[CRL_PANEL_ROWS];
    uint64_t state = at.seed;
    double t0, t;

    for (size_t r = 0; r < CRL_PANEL_ROWS; r++) {
        rows[r] = w + r * k;
        fill_row(w + r * k, k, 0, FILL_RANDOM, &state);
    }
    for (t0 = cpu_s(); (t = cpu_s() - t0) < 0.2; done += CRL_PANEL_ROWS * k)
        pack(row->fn, format, panel, rows, k, crl_q4_level_default);
    printf("%-28s  %.1f M weights/s\n", row->name, (double)done / t * 1e-6);
    crl_free(w);
    crl_free(panel);
}
