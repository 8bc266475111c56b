/* bench.c - timing of decode and prefill. */
#include "bench/bench.h"

#include "model/kv.h"

#include <stdio.h>
#include <string.h>

#define SWEEPS 3 /* measurements of the machine per repetition */
#define BATCH 512 /* of an engine with default options */

struct bench {
    struct crl_bench_result *r;
    const struct crl_bench_options *o;
    struct crl_engine *engine;
    struct crl_session *session;
    struct crl_meter *meter;
    int32_t *id;     /* [n_id] */
    size_t n_id;
    float *logits;   /* [vocab] */
    float *noise;    /* [NOISE] keys and values for a cache filled by hand */
    struct crl_profile profile;
    struct crl_series decode, decode_at, prefill; /* tokens per second */
    unsigned done, total;
};

#define NOISE 65536

/* --- work by shapes ---------------------------------------------------------------------------------------------- */

static const enum crl_phase phase_of[CRL_KIND_END] = {
    [CRL_KIND_EMBED] = CRL_PHASE_EMBED,
    [CRL_KIND_HEAD] = CRL_PHASE_HEAD,
    [CRL_KIND_FINAL_NORM] = CRL_PHASE_HEAD,
    [CRL_KIND_ATTN_NORM] = CRL_PHASE_QKV,
    [CRL_KIND_FFN_NORM] = CRL_PHASE_ROUTER,
    [CRL_KIND_Q_BIAS] = CRL_PHASE_QKV,
    [CRL_KIND_K_BIAS] = CRL_PHASE_QKV,
    [CRL_KIND_V_BIAS] = CRL_PHASE_QKV,
    [CRL_KIND_O_BIAS] = CRL_PHASE_OUTPUT,
    [CRL_KIND_ROUTER] = CRL_PHASE_ROUTER,
    [CRL_KIND_Q] = CRL_PHASE_QKV,
    [CRL_KIND_K] = CRL_PHASE_QKV,
    [CRL_KIND_V] = CRL_PHASE_QKV,
    [CRL_KIND_O] = CRL_PHASE_OUTPUT,
    [CRL_KIND_SHARED_GATE_UP] = CRL_PHASE_GATE_UP,
    [CRL_KIND_SHARED_DOWN] = CRL_PHASE_DOWN,
    [CRL_KIND_EXPERT_GATE_UP] = CRL_PHASE_GATE_UP,
    [CRL_KIND_EXPERT_DOWN] = CRL_PHASE_DOWN,
    [CRL_KIND_DENSE_GATE_UP] = CRL_PHASE_GATE_UP,
    [CRL_KIND_DENSE_DOWN] = CRL_PHASE_DOWN,
};

static void add_work(struct crl_bench_work *work, enum crl_phase phase, enum crl_format f, double bytes, double ops)
{
    work->bytes[phase] += bytes;
    if (f == CRL_Q8 || f == CRL_Q4) work->int8_ops[phase] += ops;
    if (f == CRL_BF16) work->f32_ops[phase] += ops;
}

/* As crl_schema_totals counts: one row of the embedding, the chosen share of the experts, all the rest once. */
static void count_work(struct crl_bench_work *work, const struct crl_pack *pack)
{
    const struct crl_schema *s = crl_pack_schema(pack);

    memset(work, 0, sizeof *work);
    for (size_t i = 0; i < s->n_text; i++) { /* the vision tower is measured apart */
        const struct crl_weight *w = &s->weight[i];
        enum crl_format f = crl_pack_format(pack, i);
        double bytes = (double)crl_pack_weight_bytes(pack, i), ops = 2.0 * w->n_real * w->k, share = 1;

        if (w->expert >= 0) share = (double)s->cfg.n_expert_used / s->cfg.n_expert;
        if (w->kind == CRL_KIND_EMBED) {
            add_work(work, CRL_PHASE_EMBED, CRL_F32, (double)(crl_panel_bytes(f, w->k) / CRL_PANEL_ROWS), 0);
            if (!s->cfg.tied) continue;
        }
        add_work(work, w->kind == CRL_KIND_EMBED ? CRL_PHASE_HEAD : phase_of[w->kind], f, share * bytes, share * ops);
    }
}

static double sum(const double v[CRL_PHASE_END])
{
    double all = 0;

    for (int p = 0; p < CRL_PHASE_END; p++) all += v[p];
    return all;
}

/* Keys and values that tokens at positions [from, from + n) attend to, summed over tokens and layers. */
static double keys_seen(const struct crl_kv *kv, size_t from, size_t n)
{
    double all = 0;

    for (uint32_t l = 0; l < kv->n_layer; l++)
        for (size_t pos = from; pos < from + n; pos++) all += (double)(crl_kv_slot(kv, l, pos) + 1);
    return all;
}

/* --- runs -------------------------------------------------------------------------------------------------------- */

static enum crl_status announce(struct bench *b, const char *what, struct crl_err *err)
{
    if (b->o->step && !b->o->step(b->o->ctx, what, b->done, b->total))
        return crl_fail(err, CRL_EINTR, "stopped");
    b->done++;
    return CRL_OK;
}

static enum crl_status decode(struct bench *b, size_t n, double *seconds, struct crl_err *err)
{
    double start = crl_seconds();
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i < n; i++) st = crl_session_feed(b->session, &b->id[i], 1, b->logits, err);
    *seconds = crl_seconds() - start;
    return st;
}

static void read_machine(struct bench *b)
{
    for (int i = 0; i < SWEEPS; i++) crl_meter_read(b->meter);
}

static void multiply_machine(struct bench *b)
{
    for (int i = 0; i < SWEEPS; i++) {
        crl_meter_int8(b->meter);
        crl_meter_f32(b->meter);
        crl_meter_bf16(b->meter);
    }
}

/* Add a run of s->tokens to its series and its phases to the speed. */
static void take(struct bench *b, struct crl_bench_speed *s, struct crl_series *series, double seconds)
{
    crl_series_add(series, (double)s->tokens / seconds);
    for (int p = 0; p < CRL_PHASE_END; p++) s->phase_s[p] += 1e-9 * (double)b->profile.t_ns[p] / b->o->repeat;
}

static void reset_profile(struct bench *b)
{
    memset(&b->profile, 0, sizeof b->profile);
}

static enum crl_status run_decode(struct bench *b, struct crl_err *err)
{
    double seconds;
    enum crl_status st = announce(b, "decode", err);

    if (!st) st = crl_session_truncate(b->session, 0, err);
    if (st) return st;
    read_machine(b);
    reset_profile(b);
    st = decode(b, b->o->decode, &seconds, err);
    if (!st) take(b, &b->r->decode, &b->decode, seconds);
    return st;
}

struct fill {
    struct crl_kv *kv;
    const float *noise;
    size_t n;
};

/* Keys and values of one head of one layer up to position n, as far as they are kept. */
static void fill_head(size_t i, unsigned member, void *ctx)
{
    const struct fill *f = ctx;
    uint32_t layer = (uint32_t)(i / f->kv->n_kv_head), head = (uint32_t)(i % f->kv->n_kv_head);
    size_t d = f->kv->d_head, most = NOISE / d - 1, last = f->n - 1;

    (void)member;
    for (size_t pos = last - crl_kv_slot(f->kv, layer, last); pos <= last; pos++)
        crl_kv_put(f->kv, layer, head, pos, f->noise + (pos * 7 + i) % most * d,
                   f->noise + (pos * 11 + i * 3) % most * d);
}

static enum crl_status run_decode_at(struct bench *b, struct crl_err *err)
{
    struct fill f = { crl_session_kv(b->session), b->noise, b->o->decode_at };
    double seconds;
    enum crl_status st = announce(b, "decode with a filled cache", err);

    if (!st) st = crl_session_truncate(b->session, 0, err);
    if (st) return st;
    crl_team_each(crl_engine_team(b->engine), (size_t)f.kv->n_layer * f.kv->n_kv_head, fill_head, &f);
    f.kv->n_pos = f.n;
    read_machine(b);
    reset_profile(b);
    st = decode(b, b->r->decode_at.tokens, &seconds, err);
    if (!st) take(b, &b->r->decode_at, &b->decode_at, seconds);
    return st;
}

static enum crl_status run_prefill(struct bench *b, struct crl_err *err)
{
    double start;
    enum crl_status st = announce(b, "prefill", err);

    if (!st) st = crl_session_truncate(b->session, 0, err);
    if (st) return st;
    multiply_machine(b);
    reset_profile(b);
    start = crl_seconds();
    st = crl_session_feed(b->session, b->id, b->o->prefill, b->logits, err);
    if (!st) take(b, &b->r->prefill, &b->prefill, crl_seconds() - start);
    return st;
}

/* Pages touched, clocks up, caches in the state of a long run. */
static enum crl_status warm_up(struct bench *b, struct crl_err *err)
{
    size_t n = b->o->prefill > BATCH ? BATCH : b->o->prefill;
    double seconds;
    enum crl_status st = announce(b, "warming up", err);

    if (!st && n) st = crl_session_feed(b->session, b->id, n, b->logits, err);
    if (!st) st = crl_session_truncate(b->session, 0, err);
    if (!st) st = decode(b, b->o->decode && b->o->decode < 4 ? b->o->decode : b->n_id < 4 ? b->n_id : 4, &seconds, err);
    if (!st) read_machine(b);
    b->meter->read.n = 0;
    return st;
}

/* --- figures ----------------------------------------------------------------------------------------------------- */

static void split(struct crl_bench_speed *s)
{
    double outside = s->phase_s[CRL_PHASE_EMBED] + s->phase_s[CRL_PHASE_HEAD], all = sum(s->phase_s);
    double token_s = 1 / s->tokens_per_s.median;

    if (!(all > 0)) return;
    s->rest_s = token_s * outside / all;
    s->layer_s = token_s - s->rest_s;
}

static void finish_decode(struct crl_bench_speed *s, const struct crl_series *series, const struct crl_bench_result *r)
{
    if (!series->n) return;
    s->tokens_per_s = crl_series_stat(series);
    s->limit_s = (double)s->tokens * (double)r->info.bytes_per_token / r->read.median;
    s->fraction = s->limit_s * s->tokens_per_s.median / (double)s->tokens;
    split(s);
}

static void finish_prefill(struct crl_bench_result *r, const struct crl_series *series)
{
    struct crl_bench_speed *s = &r->prefill;
    double int8 = 0, f32 = 0;

    if (!series->n) return;
    for (int p = 0; p < CRL_PHASE_END; p++) { /* the head works for the last token alone */
        double n = p == CRL_PHASE_HEAD ? 1 : (double)s->tokens;
        int8 += n * r->work.int8_ops[p];
        f32 += n * r->work.f32_ops[p];
    }
    s->tokens_per_s = crl_series_stat(series);
    s->limit_s = int8 / r->int8.median + f32 / r->f32.median;
    s->fraction = s->limit_s * s->tokens_per_s.median / (double)s->tokens;
    split(s);
}

static void finish(struct bench *b)
{
    struct crl_bench_result *r = b->r;
    const struct crl_kv *kv = crl_session_kv(b->session);
    double pair = 2.0 * kv->n_kv_head * kv->d_head * crl_kv_number_bytes(kv->type, kv->d_head);

    r->read = crl_series_stat(&b->meter->read);
    r->pull = crl_series_stat(&b->meter->pull);
    r->int8 = crl_series_stat(&b->meter->int8);
    r->f32 = crl_series_stat(&b->meter->f32);
    r->bf16 = crl_series_stat(&b->meter->bf16);
    r->kv = kv->type;
    r->read_isa = crl_level_name(b->meter->probe.read_level);
    r->int8_isa = crl_level_name(b->meter->probe.int8_level);
    r->f32_isa = crl_level_name(b->meter->probe.f32_level);
    r->bf16_isa = crl_level_name(b->meter->probe.bf16_level);
    finish_decode(&r->decode, &b->decode, r);
    finish_decode(&r->decode_at, &b->decode_at, r);
    finish_prefill(r, &b->prefill);
    if (r->decode.tokens)
        r->decode.cache_bytes = keys_seen(kv, 0, r->decode.tokens) * pair / (double)r->decode.tokens;
    if (r->decode_at.tokens)
        r->decode_at.cache_bytes =
            keys_seen(kv, r->decode_at_pos, r->decode_at.tokens) * pair / (double)r->decode_at.tokens;
    if (r->prefill.tokens) {
        const struct crl_config *cfg = crl_pack_config(crl_engine_pack(b->engine));
        r->prefill.attention_ops = keys_seen(kv, 0, r->prefill.tokens) * 4.0 * cfg->n_head * cfg->d_head;
    }
    r->huge_bytes = crl_machine_huge();
    crl_engine_token_bytes(b->engine, r->node_bytes);
}

/* --- all of it --------------------------------------------------------------------------------------------------- */

static enum crl_status set_up(struct bench *b, struct crl_err *err)
{
    const struct crl_pack *pack = crl_engine_pack(b->engine);
    const struct crl_bench_options *o = b->o;
    size_t vocab = crl_pack_config(pack)->vocab, at_tokens = o->decode_at ? b->r->decode_at.tokens : 0, n_ctx;
    unsigned mask = CRL_LEVEL_ALL;
    uint64_t seed = 1;
    bool in_place = o->in_memory && !crl_weights_stats(crl_engine_weights(b->engine))->region_bytes;
    enum crl_status st = o->isa ? crl_simd_mask(&mask, o->isa, err) : CRL_OK;

    b->n_id = o->prefill > o->decode ? o->prefill : o->decode;
    if (b->n_id < at_tokens) b->n_id = at_tokens;
    if (!b->n_id) b->n_id = 1;
    n_ctx = b->n_id > o->decode_at + at_tokens ? b->n_id : o->decode_at + at_tokens;
    b->id = crl_alloc(b->n_id, sizeof *b->id);
    b->logits = crl_alloc(vocab, sizeof *b->logits);
    b->noise = crl_alloc(NOISE, sizeof *b->noise);
    if (!b->id || !b->logits || !b->noise) return crl_fail(err, CRL_ENOMEM, "no memory for a benchmark");
    for (size_t i = 0; i < b->n_id; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        b->id[i] = (int32_t)((seed >> 33) % vocab);
    }
    for (size_t i = 0; i < NOISE; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        b->noise[i] = (float)((double)(seed >> 11) * 0x1p-52 - 1); /* even between -1 and 1 */
    }
    if (!st) st = crl_session_new(&b->session, b->engine, n_ctx, err);
    if (!st)
        st = crl_meter_new(&b->meter, crl_engine_team(b->engine), mask, in_place ? crl_pack_data(pack) : NULL,
                           (size_t)crl_pack_size(pack), err);
    return st;
}

enum crl_status crl_bench_run(struct crl_bench_result *r, struct crl_engine *engine,
                              const struct crl_bench_options *o, struct crl_err *err)
{
    struct bench *b = crl_alloc(1, sizeof *b);
    enum crl_status st;

    if (!b) return crl_fail(err, CRL_ENOMEM, "no memory for a benchmark");
    memset(r, 0, sizeof *r);
    b->r = r;
    b->o = o;
    b->engine = engine;
    b->total = 1 + o->repeat * (!!o->decode + !!o->decode_at + !!o->prefill);
    crl_engine_info(engine, &r->info);
    snprintf(r->recipe, sizeof r->recipe, "%s", r->info.recipe);
    r->info.recipe = r->recipe; /* the engine may be gone when the result is read */
    count_work(&r->work, crl_engine_pack(engine));
    r->decode.tokens = o->decode;
    r->decode_at.tokens = !o->decode_at ? 0 : o->decode ? o->decode : 16;
    r->decode_at_pos = o->decode_at;
    r->prefill.tokens = o->prefill;
    st = set_up(b, err);
    crl_engine_profile(engine, &b->profile);
    if (!st) st = warm_up(b, err);
    for (unsigned i = 0; !st && i < o->repeat; i++) {
        if (o->decode) st = run_decode(b, err);
        if (!st && o->decode_at) st = run_decode_at(b, err);
        if (!st && o->prefill) st = run_prefill(b, err);
    }
    if (!st && !b->meter->read.n) read_machine(b);
    if (!st && !b->meter->int8.n) multiply_machine(b);
    if (!st) finish(b);
    crl_engine_profile(engine, NULL);
    crl_session_free(b->session);
    crl_meter_free(b->meter);
    crl_free(b->id);
    crl_free(b->logits);
    crl_free(b->noise);
    crl_free(b);
    return st;
}

double crl_bench_extrapolate(const struct crl_bench_result *r, const struct crl_bench_speed *s, uint32_t n_layer)
{
    double seconds = s->rest_s + s->layer_s * n_layer / r->info.n_layer;

    return seconds > 0 ? 1 / seconds : 0;
}

static void widen(double *most, const struct crl_stat *s)
{
    if (s->spread > *most) *most = s->spread;
}

double crl_bench_spread(const struct crl_bench_result *r)
{
    double most = 0;

    widen(&most, &r->read);
    widen(&most, &r->int8);
    widen(&most, &r->decode.tokens_per_s);
    widen(&most, &r->decode_at.tokens_per_s);
    widen(&most, &r->prefill.tokens_per_s);
    return most;
}

uint64_t crl_bench_extra_bytes(const struct crl_config *cfg, const struct crl_bench_options *o, unsigned threads)
{
    uint64_t used = cfg->n_expert_used, ff = cfg->d_ff > cfg->d_ff_dense ? cfg->d_ff : cfg->d_ff_dense;
    uint64_t d_q = (uint64_t)cfg->n_head * cfg->d_head, d_kv = (uint64_t)cfg->n_kv_head * cfg->d_head;
    /* rows of a pass: stream, normed, gathered, out; q, attention; k, v; intermediate; int8 codes and scales beside them */
    uint64_t row = 4 * (4 * (uint64_t)cfg->d_model + 2 * d_q + 2 * d_kv + (1 + used) * ff) * 3 / 2;
    uint64_t tiles = (uint64_t)threads * BATCH * (1 + used) * 64 * 4;
    size_t n_ctx = o->prefill > o->decode + o->decode_at ? o->prefill : o->decode + o->decode_at + 16, kv = 0;

    crl_kv_bytes(cfg, n_ctx, CRL_KV_F32, &kv);
    return row * BATCH + tiles + kv + ((uint64_t)cfg->vocab << 2) + ((uint64_t)64 << 20);
}
