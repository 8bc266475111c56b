/* synthetic.c - made-up models. */
#include "bench/synthetic.h"

#include "quant/q4.h"
#include "quant/q8.h"

#include <stdatomic.h>
#include <string.h>

/* --- configurations ---------------------------------------------------------------------------------------------- */

static void common(struct crl_config *c)
{
    memset(c, 0, sizeof *c);
    c->n_layer = 48;
    c->n_head = 40;
    c->n_kv_head = 8;
    c->d_head = 128;
    c->d_model = 5120;
    c->d_ff = 8192;
    c->d_ff_dense = 16384;
    c->vocab = 202048;
    c->n_expert_used = 1;
    c->chunk = 8192;
    c->floor_scale = 8192;
    c->attn_scale = 0.1f;
    c->norm_eps = 1e-5f;
    c->rope_theta = 500000;
    c->rope_type = CRL_ROPE_PLAIN;
    c->temperature_tuning = true;
    c->bos = 200000;
    c->pad = 200018;
    c->image_token = 200092;
}

static void scout(struct crl_config *c)
{
    c->n_expert = 16;
    c->n_ctx = 10485760;
    c->rope_type = CRL_ROPE_LLAMA3;
    c->rope_factor = 16;
    c->rope_low = 1;
    c->rope_high = 1;
    c->rope_old_ctx = 8192;
    c->qk_norm = true;
}

static void maverick(struct crl_config *c)
{
    c->n_expert = 128;
    c->n_ctx = 1048576;
}

/* Small enough for tests, with panels that end in the middle and a mixture in every second layer. */
static void tiny(struct crl_config *c)
{
    scout(c);
    c->n_layer = 4;
    c->n_head = 4;
    c->n_kv_head = 2;
    c->d_head = 16;
    c->d_model = 64;
    c->d_ff = 96;
    c->d_ff_dense = 128;
    c->vocab = 1000;
    c->n_expert = 4;
    c->n_ctx = 4096;
    c->chunk = 64;
    c->bos = 0;
    c->pad = -1;
    c->image_token = -1;
}

static const struct {
    const char *name;
    void (*fill)(struct crl_config *c);
    uint32_t moe_step; /* every n-th layer is a mixture, the last of each n */
} models[] = { { "scout", scout, 1 }, { "maverick", maverick, 2 }, { "tiny", tiny, 2 } };

enum crl_status crl_synthetic_config(struct crl_config *cfg, const char *name, uint32_t n_layer, struct crl_err *err)
{
    size_t i = 0, n = sizeof models / sizeof *models;

    while (i < n && strcmp(models[i].name, name)) i++;
    if (i == n) return crl_fail(err, CRL_ERANGE, "\"%.64s\" is none of scout, maverick, tiny", name);
    if (n_layer > CRL_MAX_LAYER)
        return crl_fail(err, CRL_ERANGE, "%u layers asked for, at most %d are possible", n_layer, CRL_MAX_LAYER);
    common(cfg);
    models[i].fill(cfg);
    if (n_layer) cfg->n_layer = n_layer;
    for (uint32_t l = 0; l < cfg->n_layer; l++) {
        cfg->uses_rope[l] = l % 4 != 3;
        cfg->is_moe[l] = l % models[i].moe_step == models[i].moe_step - 1;
    }
    return crl_config_check(cfg, err);
}

enum crl_status crl_synthetic_see(struct crl_config *cfg, struct crl_err *err)
{
    cfg->multimodal = true;
    cfg->vision = (struct crl_vision_config){ .n_layer = 34, .n_head = 16, .d_model = 1408, .d_ff = 5632, .d_out = 4096,
                                              .image = 336, .patch = 14, .shuffle = 2, .rope_theta = 10000 };
    if (cfg->d_model < 1024)
        cfg->vision = (struct crl_vision_config){ .n_layer = 2, .n_head = 2, .d_model = 32, .d_ff = 128, .d_out = 48,
                                                  .image = 16, .patch = 2, .shuffle = 2, .rope_theta = 10000 };
    if (cfg->image_token < 0) cfg->image_token = (int32_t)cfg->vocab - 1;
    return crl_config_check(cfg, err);
}

uint32_t crl_synthetic_layers(const char *name)
{
    struct crl_config cfg;

    return crl_synthetic_config(&cfg, name, 0, NULL) ? 0 : cfg.n_layer;
}

enum crl_status crl_synthetic_bytes(const struct crl_config *cfg, const struct crl_recipe *recipe, uint64_t *bytes,
                                    struct crl_err *err)
{
    struct crl_schema *s = NULL;
    struct crl_totals t = { 0 };
    enum crl_status st = crl_schema_build(&s, cfg, err);

    if (!st) st = crl_recipe_totals(recipe, s, &t, err);
    crl_schema_free(s);
    *bytes = t.bytes;
    return st;
}

/* --- weights ----------------------------------------------------------------------------------------------------- */

/* splitmix64: any seed will do, streams of different seeds are unrelated. */
static uint64_t next(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void fill_random(unsigned char *p, size_t n, uint64_t *seed)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = next(seed);
        memcpy(p + i, &v, n - i < 8 ? n - i : 8);
    }
}

/* n bf16 values of either sign, or positive only, between 2^e and 2^(e+1). */
static void fill_bf16(unsigned char *p, size_t n, int e, bool either, uint64_t *seed)
{
    fill_random(p, 2 * n, seed);
    for (size_t i = 0; i < n; i++) {
        unsigned bits = p[2 * i] | (unsigned)p[2 * i + 1] << 8;
        bits = (bits & (either ? 0x807fu : 0x7fu)) | (unsigned)(127 + e) << 7;
        p[2 * i] = (unsigned char)bits;
        p[2 * i + 1] = (unsigned char)(bits >> 8);
    }
}

static void fill_q8(unsigned char *p, size_t k_pad, uint64_t *seed)
{
    size_t n_scale = k_pad / CRL_BLOCK * CRL_PANEL_ROWS, head = crl_q8_scale_bytes(k_pad), n = k_pad * CRL_PANEL_ROWS;

    memset(p, 0, head);
    fill_bf16(p, n_scale, -12, false, seed); /* codes have a root mean square of 73: weights one of 0.027 */
    fill_random(p + head, n, seed);
    for (size_t i = 0; i < n; i++)
        if (p[head + i] == 0x80) p[head + i] = 0x81; /* -128 is no code */
}

static void fill_q4(unsigned char *p, size_t k_pad, uint64_t *seed)
{
    size_t n_scale = k_pad / CRL_BLOCK * CRL_PANEL_ROWS, head = crl_q4_scale_bytes(k_pad);

    memset(p, 0, head);
    for (size_t r = 0; r < CRL_PANEL_ROWS; r++) { /* times a block scale near 96, times a level of about 70 */
        float scale = 3e-6f * (0.75f + (float)(next(seed) % 512) / 1024);
        memcpy(p + r * sizeof scale, &scale, sizeof scale);
    }
    for (size_t i = 0; i < n_scale; i++) {
        uint64_t v = next(seed);
        int scale = 64 + (int)(v % 64);
        p[CRL_PANEL_ROWS * sizeof(float) + i] = (unsigned char)(v >> 32 & 1 ? -scale : scale);
    }
    fill_random(p + head, k_pad * CRL_PANEL_ROWS / 2, seed);
}

void crl_synthetic_panel(enum crl_format f, unsigned char *panel, size_t k, uint64_t *seed)
{
    size_t k_pad = crl_k_pad(k);

    if (f == CRL_BF16) fill_bf16(panel, k_pad * CRL_PANEL_ROWS, -6, true, seed);
    if (f == CRL_Q8) fill_q8(panel, k_pad, seed);
    if (f == CRL_Q4) fill_q4(panel, k_pad, seed);
}

/* --- building ---------------------------------------------------------------------------------------------------- */

#define POOL_BYTES ((size_t)4 << 20)
#define POOLS 64              /* pairs of format and inputs that can occur: 3 formats, 5 widths */
#define OWN_PANELS 64         /* matrices of at most so many panels get their own */
#define UNIT_BYTES ((size_t)4 << 20)

struct pool {
    enum crl_format format;
    uint32_t k;
    size_t n; /* panels, odd */
    unsigned char *panel;
};

/* Panels [lo, hi) of a matrix. */
struct unit {
    size_t weight, lo, hi;
};

struct build {
    struct crl_packer *pk;
    struct pool pool[POOLS];
    size_t n_pool;
    struct unit *unit;
    size_t n_unit;
    atomic_bool failed;
    struct crl_err err; /* of the first failure */
};

static const struct pool *find_pool(const struct build *b, enum crl_format f, uint32_t k)
{
    for (size_t i = 0; i < b->n_pool; i++)
        if (b->pool[i].format == f && b->pool[i].k == k) return &b->pool[i];
    return NULL;
}

static enum crl_status make_pool(struct build *b, enum crl_format f, uint32_t k, struct crl_err *err)
{
    size_t bytes = crl_panel_bytes(f, k);
    struct pool *p;
    uint64_t seed = (uint64_t)f << 32 | k;

    if (f == CRL_F32 || find_pool(b, f, k)) return CRL_OK;
    if (b->n_pool == POOLS) return crl_fail(err, CRL_ERANGE, "more than %d kinds of panels", POOLS);
    p = &b->pool[b->n_pool];
    *p = (struct pool){ f, k, (POOL_BYTES / bytes) | 1, NULL };
    if (p->n < 9) p->n = 9;
    p->panel = crl_alloc(p->n, bytes);
    if (!p->panel) return crl_fail(err, CRL_ENOMEM, "no memory for random panels");
    for (size_t i = 0; i < p->n; i++) crl_synthetic_panel(f, p->panel + i * bytes, k, &seed);
    b->n_pool++;
    return CRL_OK;
}

static size_t n_panel(const struct crl_weight *w, enum crl_format f)
{
    return f == CRL_F32 ? 1 : crl_n_panel(w->n); /* an F32 matrix is one piece */
}

static size_t unit_panels(const struct crl_weight *w, enum crl_format f)
{
    size_t n = UNIT_BYTES / (f == CRL_F32 ? UNIT_BYTES : crl_panel_bytes(f, w->k));

    return n ? n : 1;
}

static enum crl_status list_units(struct build *b, struct crl_err *err)
{
    const struct crl_schema *s = crl_packer_schema(b->pk);
    size_t n = 0;

    for (int pass = 0; pass < 2; pass++) {
        n = 0;
        for (size_t i = 0; i < s->n_weight; i++) {
            enum crl_format f = crl_packer_format(b->pk, i);
            size_t all = n_panel(&s->weight[i], f), step = unit_panels(&s->weight[i], f);
            for (size_t lo = 0; lo < all; lo += step, n++)
                if (pass) b->unit[n] = (struct unit){ i, lo, all - lo < step ? all : lo + step };
        }
        if (!pass && !(b->unit = crl_alloc(n, sizeof *b->unit)))
            return crl_fail(err, CRL_ENOMEM, "no memory for a list of %zu pieces", n);
    }
    b->n_unit = n;
    return CRL_OK;
}

static void keep_error(struct build *b, const struct crl_err *err)
{
    if (!atomic_exchange(&b->failed, true)) b->err = *err;
}

static enum crl_status put_ones(struct build *b, size_t weight, size_t n, struct crl_err *err)
{
    float *one = crl_alloc(n, sizeof *one);
    enum crl_status st = CRL_OK;

    if (!one) return crl_fail(err, CRL_ENOMEM, "no memory for a norm");
    for (size_t i = 0; i < n; i++) one[i] = 1;
    st = crl_packer_put(b->pk, weight, 0, one, n * sizeof *one, err);
    crl_free(one);
    return st;
}

static enum crl_status put_own(struct build *b, const struct unit *u, enum crl_format f, uint32_t k,
                               struct crl_err *err)
{
    size_t bytes = crl_panel_bytes(f, k);
    unsigned char *panel = crl_alloc(1, bytes);
    uint64_t seed = ((uint64_t)u->weight << 32) + u->lo;
    enum crl_status st = panel ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a panel");

    for (size_t i = u->lo; !st && i < u->hi; i++) {
        crl_synthetic_panel(f, panel, k, &seed);
        st = crl_packer_put(b->pk, u->weight, crl_mat_header_bytes(f) + i * bytes, panel, bytes, err);
    }
    crl_free(panel);
    return st;
}

static enum crl_status put_pooled(struct build *b, const struct unit *u, enum crl_format f, uint32_t k,
                                  struct crl_err *err)
{
    const struct pool *p = find_pool(b, f, k);
    size_t bytes = crl_panel_bytes(f, k);
    uint64_t seed = ((uint64_t)u->weight << 32) + u->lo;
    enum crl_status st = CRL_OK;

    for (size_t i = u->lo; !st && i < u->hi; i++)
        st = crl_packer_put(b->pk, u->weight, crl_mat_header_bytes(f) + i * bytes,
                            p->panel + (size_t)(next(&seed) % p->n) * bytes, bytes, err);
    return st;
}

static void fill_unit(size_t i, unsigned member, void *ctx)
{
    struct build *b = ctx;
    const struct unit *u = &b->unit[i];
    const struct crl_weight *w = &crl_packer_schema(b->pk)->weight[u->weight];
    enum crl_format f = crl_packer_format(b->pk, u->weight);
    unsigned char header[CRL_ALIGN] = { 0 };
    struct crl_err err = { "" };
    enum crl_status st = CRL_OK;

    (void)member;
    if (!u->lo && crl_mat_header_bytes(f)) {
        crl_mat_header_put(f, header, crl_q4_level_default);
        st = crl_packer_put(b->pk, u->weight, 0, header, crl_mat_header_bytes(f), &err);
    }
    if (st) keep_error(b, &err);
    else if (f == CRL_F32) st = put_ones(b, u->weight, (size_t)w->n * w->k, &err);
    else if (crl_n_panel(w->n) <= OWN_PANELS) st = put_own(b, u, f, w->k, &err);
    else st = put_pooled(b, u, f, w->k, &err);
    if (st) keep_error(b, &err);
}

static void finish_extent(size_t i, unsigned member, void *ctx)
{
    struct build *b = ctx;
    struct crl_err err = { "" };

    (void)member;
    if (crl_packer_extent_done(b->pk, i, &err)) keep_error(b, &err);
}

static enum crl_status fill_all(struct build *b, struct crl_team *team, struct crl_err *err)
{
    const struct crl_schema *s = crl_packer_schema(b->pk);
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i < s->n_weight; i++)
        st = make_pool(b, crl_packer_format(b->pk, i), s->weight[i].k, err);
    if (!st) st = list_units(b, err);
    if (st) return st;
    crl_team_each(team, b->n_unit, fill_unit, b);
    if (!b->failed) crl_team_each(team, s->n_extent, finish_extent, b);
    return b->failed ? crl_fail(err, CRL_ENOMEM, "%s", b->err.text) : CRL_OK;
}

enum crl_status crl_synthetic_pack(struct crl_pack **out, const struct crl_config *cfg,
                                   const struct crl_recipe *recipe, struct crl_team *team, struct crl_err *err)
{
    struct build b;
    enum crl_status st;

    *out = NULL;
    memset(&b, 0, sizeof b);
    st = crl_packer_new(&b.pk, NULL, cfg, recipe, NULL, err);
    if (!st) st = fill_all(&b, team, err);
    if (!st) st = crl_packer_commit(b.pk, err);
    if (!st) st = crl_packer_take(b.pk, out, "synthetic", err);
    crl_packer_close(b.pk);
    for (size_t i = 0; i < b.n_pool; i++) crl_free(b.pool[i].panel);
    crl_free(b.unit);
    return st;
}
