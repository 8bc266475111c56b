/* check_pack.c - quantised panels: the same bytes as crl_q8_pack and crl_q4_pack, the count of non-finite weights too. */
#include "quant/q4.h"
#include "quant/q8.h"
#include "tests/kernel/checkkern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t pack(void (*fn)(void), enum crl_format format, void *panel, const float *const rows[CRL_PANEL_ROWS],
                   size_t k, const int8_t level[16], const struct crl_q4_guide *guide)
{
    if (format == CRL_Q8) return ((crl_pack_q8_fn *)fn)(panel, rows, k);
    return ((crl_pack_q4_fn *)fn)(panel, rows, k, level, guide);
}

static void (*scalar_of(enum crl_format format))(void)
{
    return format == CRL_Q8 ? (void (*)(void))crl_q8_pack : (void (*)(void))crl_q4_pack;
}

/* Guides of all kinds: none, costs alone, shares alone, both; spans that k does not fill. */
enum { GUIDES = 5 };
static const char *const guide_name[GUIDES] = { "", ", costs", ", shares over 32", ", costs, shares over 96",
                                                ", costs, shares over 256" };

static const struct crl_q4_guide *make_guide(struct crl_q4_guide *g, unsigned which, uint64_t *state)
{
    size_t kp = crl_k_pad(at.k);
    float *cost, *feed;

    memset(g, 0, sizeof *g);
    if (!which) return NULL;
    g->span = which == 2 ? 32 : which == 3 ? 96 : CRL_Q4_FEED_MAX;
    if (which != 2) {
        g->importance = cost = crl_alloc(kp, sizeof *cost);
        fill_row(cost, at.k, 0, FILL_RANDOM, state);
        for (size_t j = 0; j < at.k; j++) cost[j] = j % 7 == 3 ? 0 : cost[j] * cost[j];
    }
    if (which > 1) {
        g->feed = feed = crl_alloc(kp * g->span, sizeof *feed);
        for (size_t j = 0; j < at.k; j++) fill_row(feed + j * g->span, g->span, 0, FILL_RANDOM, state);
        for (size_t i = 0; i < kp * g->span; i++) feed[i] *= 0.1f;
    }
    return g;
}

static void free_guide(struct crl_q4_guide *g)
{
    crl_free((void *)(uintptr_t)g->importance);
    crl_free((void *)(uintptr_t)g->feed);
}

static bool check_panel(const struct crl_kernel_row *row, enum crl_format format, const int8_t level[16], unsigned which)
{
    struct crl_q4_guide room;
    const struct crl_q4_guide *guide;
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
    guide = make_guide(&room, which, &state);
    bad_want = pack(scalar_of(format), format, want, rows, at.k, level, guide);
    bad = pack(row->fn, format, got, rows, at.k, level, guide);
    for (size_t i = 0; ok && i < bytes; i++)
        if (got[i] != want[i]) ok = differs("byte of the panel", i, got[i], want[i], 0);
    if (ok && bad != bad_want) ok = differs("non-finite weights, call", 0, (double)bad, (double)bad_want, 0);
    if (ok && !before_is_untouched(got)) ok = differs("byte before the panel", 0, 1, 0, 0);
    free(want);
    free_guide(&room);
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
                for (unsigned g = 0; g < (format == CRL_Q4 ? GUIDES : 1); g++)
                    if (!check_panel(row, format, in == 0 ? equal : in == 1 ? even : crl_q4_level_default, g)) return false;
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
    at.k = k;
    for (unsigned g = 0; g < (format == CRL_Q4 ? GUIDES : 1); g++) {
        struct crl_q4_guide room;
        const struct crl_q4_guide *guide = make_guide(&room, g, &state);

        done = 0;
        for (t0 = cpu_s(); (t = cpu_s() - t0) < 0.2; done += CRL_PANEL_ROWS * k)
            pack(row->fn, format, panel, rows, k, crl_q4_level_default, guide);
        printf("%-28s  %.1f M weights/s%s\n", row->name, (double)done / t * 1e-6, guide_name[g]);
        free_guide(&room);
    }
    crl_free(w);
    crl_free(panel);
}
