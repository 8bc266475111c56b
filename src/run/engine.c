/* engine.c - opening a model and running its sessions. */
#include "run/engine.h"

#include "base/json.h"
#include "model/kv.h"
#include "run/picture.h"

#include <string.h>

#define BATCH_DEFAULT 512
#define BATCH_MOST 65536
#define CTX_DEFAULT 32768
#define BLOCK_BYTES ((size_t)64 << 20) /* of logits at once, unless that is fewer than BLOCK_ROWS_LEAST rows */
#define BLOCK_ROWS_LEAST 16
#define BLOCK_ROWS_MOST 128

struct crl_engine {
    struct crl_pack *pack;
    struct crl_model *model;
    struct crl_topo *topo;
    struct crl_placement *plan;
    struct crl_weights *weights;
    struct crl_tok *tok; /* NULL: the file has none */
    struct crl_team *team;
    struct crl_forward *forward;
    struct crl_eyes *eyes; /* NULL: no vision tower */
    struct crl_kernels kern;
    enum crl_kv_type kv_type;
    struct crl_segment *segment;  /* [batch_max] */
    struct crl_sampler_options sampling;
    struct crl_totals totals;
    uint32_t n_eos;
    int32_t eos[8];
    void (*tap)(void *, uint32_t, const float *, size_t);
    void (*tap_routes)(void *, uint32_t, const uint32_t *, size_t);
    void *tap_ctx;
    crl_inputs_fn *tap_inputs;
    void *inputs_ctx;
    struct crl_profile *profile;
    float *block;      /* [block_rows][vocab rounded up to 16], made by the first crl_engine_pass */
    size_t block_rows;
    uint64_t n_single;                    /* passes of one token */
    uint64_t *single_bytes, *total_bytes; /* [nodes] of weights read in those, and in all passes */
};

struct crl_session {
    struct crl_engine *engine;
    struct crl_kv *kv;
};

static enum crl_status read_eos(struct crl_engine *e, const json_t *v, struct crl_err *err)
{
    uint32_t vocab = e->model->cfg.vocab, n = 0;
    size_t len = json_is_array(v) ? json_array_size(v) : 1;

    if (!v || json_is_null(v)) return CRL_OK;
    if (len > sizeof e->eos / sizeof *e->eos)
        return crl_fail(err, CRL_EFORMAT, "generation defaults: %zu end tokens, at most 8 are supported", len);
    for (size_t i = 0; i < len; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(one) || json_integer_value(one) < 0 || json_integer_value(one) >= vocab)
            return crl_fail(err, CRL_EFORMAT, "generation defaults: an end token is no id below %u", vocab);
        e->eos[n++] = (int32_t)json_integer_value(one);
    }
    e->n_eos = n;
    return CRL_OK;
}

/* Sampling defaults and end tokens of generation_config.json. Without do_sample the model's own choice is greedy. */
static enum crl_status read_generation(struct crl_engine *e, struct crl_err *err)
{
    size_t len;
    const unsigned char *text = crl_pack_section(e->pack, CRL_SECTION_GENERATION, &len);
    double temperature = 1, top_p = 1, penalty = 1;
    bool sample = false;
    uint32_t top_k = 0;
    json_t *doc = NULL;
    enum crl_status st;

    e->n_eos = e->model->cfg.n_eos;
    memcpy(e->eos, e->model->cfg.eos, sizeof e->eos);
    if (!text) return CRL_OK;
    st = crl_json_parse(&doc, (const char *)text, len, "generation defaults", err);
    if (!st) st = crl_json_get_bool(doc, "do_sample", &sample, err);
    if (!st) st = crl_json_get_f64(doc, "temperature", 0, 100, &temperature, err);
    if (!st) st = crl_json_get_f64(doc, "top_p", 0, 1, &top_p, err);
    if (!st) st = crl_json_get_f64(doc, "repetition_penalty", 0.01, 100, &penalty, err);
    if (!st) st = crl_json_get_u32(doc, "top_k", 0, UINT32_MAX, &top_k, err);
    if (!st) st = read_eos(e, json_object_get(doc, "eos_token_id"), err);
    json_decref(doc);
    if (st) {
        crl_err_prefix(err, "%s", crl_pack_name(e->pack));
        return st;
    }
    e->sampling.repetition_penalty = (float)penalty;
    if (!sample) return CRL_OK;
    e->sampling.temperature = (float)temperature;
    e->sampling.top_p = (float)top_p;
    e->sampling.top_k = top_k;
    return CRL_OK;
}

static enum crl_status load_tokenizer(struct crl_engine *e, struct crl_err *err)
{
    size_t len;
    const unsigned char *bytes = crl_pack_section(e->pack, CRL_SECTION_TOKENIZER, &len);
    enum crl_status st;

    if (!bytes) return CRL_OK;
    st = crl_tok_load(&e->tok, bytes, len, err);
    if (st) crl_err_prefix(err, "%s", crl_pack_name(e->pack));
    return st;
}

/* --- weights and threads ---------------------------------------------------------------------------------------- */

static enum crl_status choose_mode(const struct crl_engine *e, const struct crl_engine_options *o, enum crl_numa *mode,
                                   struct crl_err *err)
{
    *mode = CRL_NUMA_AUTO;
    if (o->numa && !crl_numa_parse(o->numa, mode))
        return crl_fail(err, CRL_ERANGE, "\"%s\" is none of auto, experts, rows, interleave, off", o->numa);
    if (!o->mapped || crl_pack_fd(e->pack) < 0) return CRL_OK;
    if (*mode != CRL_NUMA_AUTO && *mode != CRL_NUMA_OFF)
        return crl_fail(err, CRL_ERANGE, "weights that stay in the file cannot be placed (numa mode %s)", o->numa);
    *mode = CRL_NUMA_OFF;
    return CRL_OK;
}

static enum crl_status make_plan(struct crl_engine *e, const struct crl_engine_options *o, struct crl_err *err)
{
    struct crl_placement_options p = { .n_thread = o->threads,
                                       .kv_value_bytes = crl_kv_number_bytes(e->kv_type, crl_pack_config(e->pack)->d_head) };
    bool read = crl_pack_fd(e->pack) >= 0 && !o->mapped;
    char advice[256] = "";
    enum crl_status st = choose_mode(e, o, &p.mode, err);

    if (!st) st = crl_topo_load(&e->topo, o->topology, err);
    if (!st)
        st = crl_placement_new(&e->plan, crl_pack_schema(e->pack), crl_pack_formats(e->pack), e->topo, &p, err);
    if (st || e->plan->fits || (!read && e->plan->mode == CRL_NUMA_OFF) || !e->topo->real) return st;
    crl_placement_advise(crl_pack_schema(e->pack), crl_pack_formats(e->pack), e->topo, &p, advice, sizeof advice);
    return crl_fail(err, CRL_ENOMEM, "%s: %s%s%s", crl_pack_name(e->pack), e->plan->why, advice[0] ? "; " : "", advice);
}

/* A thread per seat of the plan, bound when the machine is real and has a core for each. */
static enum crl_status seat_team(struct crl_engine *e, bool pin, struct crl_err *err)
{
    struct crl_seat *seat = crl_alloc(e->plan->n_thread, sizeof *seat);
    enum crl_status st;

    if (!seat) return crl_fail(err, CRL_ENOMEM, "no memory for %u threads", e->plan->n_thread);
    pin = pin && e->topo->real && e->plan->n_thread <= crl_topo_threads(e->topo);
    for (unsigned i = 0; i < e->plan->n_thread; i++)
        seat[i] = (struct crl_seat){ pin ? (int)e->plan->thread[i].cpu : -1, e->plan->thread[i].node };
    st = crl_team_seated(&e->team, seat, e->plan->n_thread, err);
    crl_free(seat);
    return st;
}

static enum crl_status load_weights(struct crl_engine *e, const struct crl_engine_options *o, struct crl_err *err)
{
    struct crl_load_options l = { .mapped = o->mapped, .no_verify = o->no_verify, .progress = o->progress,
                                  .ctx = o->progress_ctx };

    return crl_weights_load(&e->weights, e->pack, e->plan, e->topo, e->team, &l, err);
}

static enum crl_status set_up(struct crl_engine *e, const struct crl_engine_options *o, struct crl_err *err)
{
    unsigned mask = CRL_LEVEL_ALL;
    size_t batch = o->batch_max ? o->batch_max : BATCH_DEFAULT;
    enum crl_status st = CRL_OK;

    if (batch > BATCH_MOST)
        return crl_fail(err, CRL_ERANGE, "%zu tokens at once, at most %d are supported", batch, BATCH_MOST);
    if (o->isa) st = crl_simd_mask(&mask, o->isa, err);
    if (st) return st;
    crl_simd_select(&e->kern, mask);
    e->kv_type = !strcmp(crl_pack_recipe(e->pack), "bf16") ? CRL_KV_F32 : CRL_KV_BF16;
    if (o->kv == CRL_KV_CHOOSE_F32) e->kv_type = CRL_KV_F32;
    if (o->kv == CRL_KV_CHOOSE_BF16) e->kv_type = CRL_KV_BF16;
    if (o->kv == CRL_KV_CHOOSE_INT8) e->kv_type = CRL_KV_INT8;
    st = make_plan(e, o, err);
    if (!st) st = seat_team(e, !o->no_pin, err);
    if (!st) st = load_weights(e, o, err);
    if (!st) st = crl_model_new(&e->model, e->weights, err);
    if (!st) st = load_tokenizer(e, err);
    if (!st) st = read_generation(e, err);
    if (!st) st = crl_pack_totals(e->pack, &e->totals, err);
    if (!st) st = crl_forward_new(&e->forward, e->model, &e->kern, e->team, batch, err);
    if (!st && e->model->cfg.multimodal)
        st = crl_eyes_new(&e->eyes, e->weights, e->tok, &e->kern, e->team, o->picture_cache, err);
    if (st) return st;
    e->segment = crl_alloc(batch, sizeof *e->segment);
    e->single_bytes = crl_alloc(e->plan->n_node, sizeof *e->single_bytes);
    e->total_bytes = crl_alloc(e->plan->n_node, sizeof *e->total_bytes);
    if (!e->segment || !e->single_bytes || !e->total_bytes) st = crl_fail(err, CRL_ENOMEM, "no memory for an engine");
    return st;
}

enum crl_status crl_engine_from_pack(struct crl_engine **engine, struct crl_pack *pack,
                                     const struct crl_engine_options *options, struct crl_err *err)
{
    static const struct crl_engine_options defaults;
    struct crl_engine *e = crl_alloc(1, sizeof *e);
    enum crl_status st;

    *engine = NULL;
    if (!e) {
        crl_pack_close(pack);
        return crl_fail(err, CRL_ENOMEM, "no memory for an engine");
    }
    e->pack = pack;
    st = set_up(e, options ? options : &defaults, err);
    if (st) {
        crl_engine_close(e);
        return st;
    }
    *engine = e;
    return CRL_OK;
}

enum crl_status crl_engine_open(struct crl_engine **engine, const char *path, const struct crl_engine_options *options,
                                struct crl_err *err)
{
    struct crl_pack *pack;
    enum crl_status st = crl_pack_open(&pack, path, err);

    *engine = NULL;
    return st ? st : crl_engine_from_pack(engine, pack, options, err);
}

void crl_engine_close(struct crl_engine *e)
{
    if (!e) return;
    crl_eyes_free(e->eyes);
    crl_forward_free(e->forward);
    crl_model_free(e->model);
    crl_weights_free(e->weights);
    crl_placement_free(e->plan);
    crl_topo_free(e->topo);
    crl_team_free(e->team);
    crl_tok_close(e->tok);
    crl_pack_close(e->pack);
    crl_free(e->segment);
    crl_free(e->single_bytes);
    crl_free(e->total_bytes);
    crl_free(e->block);
    crl_free(e);
}

void crl_engine_info(const struct crl_engine *e, struct crl_engine_info *info)
{
    const struct crl_config *cfg = &e->model->cfg;
    enum crl_level level = CRL_SCALAR;

    memset(info, 0, sizeof *info);
    if (e->kern.gemm_q4_level > level) level = e->kern.gemm_q4_level;
    if (e->kern.gemm_bf16_level > level) level = e->kern.gemm_bf16_level;
    info->vocab = cfg->vocab;
    info->n_layer = cfg->n_layer;
    info->n_expert = cfg->n_expert;
    info->n_expert_used = cfg->n_expert_used;
    info->d_model = cfg->d_model;
    info->n_ctx = cfg->n_ctx;
    info->recipe = crl_pack_recipe(e->pack);
    info->isa = crl_level_name(level);
    info->threads = crl_team_size(e->team);
    info->params = e->totals.params;
    info->params_active = e->totals.params_active;
    info->bytes = e->totals.bytes;
    info->bytes_per_token = e->totals.bytes_read;
    info->sees = e->eyes != NULL;
    info->image_token = cfg->image_token;
    info->bos = cfg->bos;
    info->n_eos = e->n_eos;
    memcpy(info->eos, e->eos, sizeof info->eos);
    info->numa = crl_numa_name(e->plan->mode);
    info->nodes = e->plan->n_node;
    info->pretended = !e->topo->real;
}

const struct crl_weights *crl_engine_weights(const struct crl_engine *e)
{
    return e->weights;
}

void crl_engine_token_bytes(const struct crl_engine *e, double *bytes)
{
    for (unsigned i = 0; i < e->plan->n_node; i++)
        bytes[i] = e->n_single ? (double)e->single_bytes[i] / (double)e->n_single : 0;
}

const struct crl_pack *crl_engine_pack(const struct crl_engine *e)
{
    return e->pack;
}

const struct crl_tok *crl_engine_tok(const struct crl_engine *e)
{
    return e->tok;
}

bool crl_engine_is_stop(const struct crl_engine *e, int32_t id)
{
    for (uint32_t i = 0; i < e->n_eos; i++)
        if (e->eos[i] == id) return true;
    return false;
}

void crl_engine_tap(struct crl_engine *e, void (*tap)(void *, uint32_t, const float *, size_t),
                    void (*tap_routes)(void *, uint32_t, const uint32_t *, size_t), void *ctx)
{
    e->tap = tap;
    e->tap_routes = tap_routes;
    e->tap_ctx = ctx;
}

void crl_engine_tap_inputs(struct crl_engine *e, crl_inputs_fn *tap, void *ctx)
{
    e->tap_inputs = tap;
    e->inputs_ctx = ctx;
}

void crl_engine_profile(struct crl_engine *e, struct crl_profile *profile)
{
    e->profile = profile;
}

struct crl_team *crl_engine_team(const struct crl_engine *e)
{
    return e->team;
}

struct crl_eyes *crl_engine_eyes(const struct crl_engine *e)
{
    return e->eyes;
}

struct crl_engine *crl_session_engine(const struct crl_session *s)
{
    return s->engine;
}

struct crl_kv *crl_session_kv(const struct crl_session *s)
{
    return s->kv;
}

void crl_engine_sampling(const struct crl_engine *e, struct crl_sampler_options *options)
{
    *options = e->sampling;
}

enum crl_status crl_engine_tokenize(const struct crl_engine *e, const char *text, size_t len, bool bos, bool special,
                                    int32_t **ids, size_t *n, struct crl_err *err)
{
    unsigned flags = (bos ? CRL_TOK_BOS : 0) | (special ? CRL_TOK_SPECIAL : 0);
    struct crl_ids out = { NULL, 0, 0 };
    enum crl_status st;

    *ids = NULL;
    *n = 0;
    if (!e->tok) return crl_fail(err, CRL_ENOENT, "%s: has no tokenizer", crl_pack_name(e->pack));
    st = crl_tok_encode(e->tok, text, len, flags, &out, err);
    if (!st && !out.v && !(out.v = crl_alloc(1, sizeof *out.v))) st = crl_fail(err, CRL_ENOMEM, "no memory for ids");
    if (st) {
        crl_ids_fini(&out);
        return st;
    }
    *ids = out.v;
    *n = out.n;
    return CRL_OK;
}

enum crl_status crl_engine_detokenize(const struct crl_engine *e, const int32_t *ids, size_t n, char **text,
                                      struct crl_err *err)
{
    struct crl_str out = { NULL, 0, 0 };
    enum crl_status st;

    *text = NULL;
    if (!e->tok) return crl_fail(err, CRL_ENOENT, "%s: has no tokenizer", crl_pack_name(e->pack));
    st = crl_tok_decode(e->tok, ids, n, CRL_DETOK_SKIP, &out, err);
    if (!st && !out.s) st = crl_str_puts(&out, "", err);
    if (st) {
        crl_str_fini(&out);
        return st;
    }
    *text = out.s;
    return CRL_OK;
}

void crl_release(void *p)
{
    crl_free(p);
}

/* In the modes that place, the cache of a head lies where the threads are that attend over it. */
static enum crl_status new_cache(struct crl_session *s, size_t n_ctx, struct crl_err *err)
{
    const struct crl_engine *e = s->engine;
    bool placed = e->plan->mode == CRL_NUMA_EXPERTS || e->plan->mode == CRL_NUMA_ROWS;
    struct crl_kv_home *home = crl_alloc(e->plan->n_node, sizeof *home);
    enum crl_status st;

    if (!home) return crl_fail(err, CRL_ENOMEM, "no memory for a session");
    for (unsigned i = 0; i < e->plan->n_node; i++) {
        const struct crl_node_plan *n = &e->plan->node[i];
        home[i] = (struct crl_kv_home){ n->n_kv_head, e->topo->real ? (int)e->topo->node[n->topo_node].os : CRL_NODE_ANY };
    }
    st = crl_kv_new(&s->kv, &e->model->cfg, n_ctx, e->kv_type, home, placed ? e->plan->n_node : 0, err);
    crl_free(home);
    return st;
}

enum crl_status crl_session_new(struct crl_session **session, struct crl_engine *e, size_t n_ctx, struct crl_err *err)
{
    struct crl_session *s;
    enum crl_status st;

    *session = NULL;
    if (!n_ctx) n_ctx = e->model->cfg.n_ctx < CTX_DEFAULT ? e->model->cfg.n_ctx : CTX_DEFAULT;
    if (n_ctx > e->model->cfg.n_ctx)
        return crl_fail(err, CRL_ERANGE, "a context of %zu positions was asked for, the model has %u", n_ctx,
                        e->model->cfg.n_ctx);
    s = crl_alloc(1, sizeof *s);
    if (!s) return crl_fail(err, CRL_ENOMEM, "no memory for a session");
    s->engine = e;
    st = new_cache(s, n_ctx, err);
    if (st) {
        crl_free(s);
        return st;
    }
    *session = s;
    return CRL_OK;
}

void crl_session_free(struct crl_session *s)
{
    if (!s) return;
    crl_kv_free(s->kv);
    crl_free(s);
}

size_t crl_session_pos(const struct crl_session *s)
{
    return s->kv->n_pos;
}

size_t crl_session_left(const struct crl_session *s)
{
    return s->kv->n_ctx - s->kv->n_pos;
}

static enum crl_status check_tokens(const struct crl_session *s, const int32_t *ids, size_t n, struct crl_err *err)
{
    if (n > crl_session_left(s))
        return crl_fail(err, CRL_EFULL, "%zu tokens do not fit: %zu of %zu positions are taken", n, s->kv->n_pos,
                        s->kv->n_ctx);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->engine->model->cfg.vocab)
            return crl_fail(err, CRL_ERANGE, "token %zu is %d, the vocabulary has %u", i, ids[i],
                            s->engine->model->cfg.vocab);
    return CRL_OK;
}

static void count_bytes(struct crl_engine *e, bool single)
{
    for (unsigned i = 0; i < e->plan->n_node; i++) {
        uint64_t bytes = crl_forward_bytes(e->forward, i);
        if (single) e->single_bytes[i] += bytes - e->total_bytes[i];
        e->total_bytes[i] = bytes;
    }
    e->n_single += single;
}

/* take and ctx may be NULL: logits are then kept. */
static void run(struct crl_engine *e, size_t n_segment, float *logits, crl_logits_fn *take, void *ctx)
{
    struct crl_batch batch = { e->segment,  n_segment,  logits,   e->tap, e->tap_routes, e->tap_ctx,
                               e->profile, take, ctx, e->block, e->block_rows, e->tap_inputs, e->inputs_ctx };

    crl_forward_run(e->forward, &batch);
    crl_weights_tick(e->weights);
    count_bytes(e, n_segment == 1 && e->segment[0].n_tok == 1);
}

/* Cut the text into passes: no longer than the buffers, none across the edge of an attention chunk. */
enum crl_status crl_session_feed_rows(struct crl_session *s, const int32_t *ids, const float *const *rows, size_t n,
                                      float *logits, bool all, struct crl_err *err)
{
    struct crl_engine *e = s->engine;
    enum crl_status st = check_tokens(s, ids, n, err);

    for (size_t at = 0, piece; !st && at < n; at += piece) {
        size_t most = crl_forward_batch_max(e->forward), room = crl_kv_room(s->kv);

        piece = n - at;
        if (piece > most) piece = most;
        if (piece > room) piece = room;
        e->segment[0] = (struct crl_segment){ s->kv, ids + at, piece, rows ? rows + at : NULL, all,
                                              !all && (!logits || at + piece < n), 0 };
        run(e, 1, all ? logits + at * e->model->cfg.vocab : logits, NULL, NULL);
    }
    return st;
}

enum crl_status crl_session_feed(struct crl_session *s, const int32_t *ids, size_t n, float *logits,
                                 struct crl_err *err)
{
    return crl_session_feed_rows(s, ids, NULL, n, logits, false, err);
}

enum crl_status crl_session_feed_all(struct crl_session *s, const int32_t *ids, size_t n, float *logits,
                                     struct crl_err *err)
{
    return crl_session_feed_rows(s, ids, NULL, n, logits, true, err);
}

enum crl_status crl_engine_step(struct crl_engine *e, struct crl_session *const *sessions, const int32_t *ids,
                                size_t n, float *logits, struct crl_err *err)
{
    size_t most = crl_forward_batch_max(e->forward);
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i < n; i++) {
        if (sessions[i]->engine != e) st = crl_fail(err, CRL_ERANGE, "session %zu belongs to another engine", i);
        else st = check_tokens(sessions[i], ids + i, 1, err);
        for (size_t j = 0; !st && j < i; j++)
            if (sessions[j] == sessions[i]) st = crl_fail(err, CRL_ERANGE, "sessions %zu and %zu are the same", j, i);
    }
    for (size_t at = 0, piece; !st && at < n; at += piece) {
        piece = n - at < most ? n - at : most;
        for (size_t i = 0; i < piece; i++)
            e->segment[i] = (struct crl_segment){ sessions[at + i]->kv, ids + at + i, 1, NULL, true, false, 0 };
        run(e, piece, logits + at * e->model->cfg.vocab, NULL, NULL);
    }
    return st;
}

/* Rows of logits that are held at once: enough that the head's weights are read seldom, little beside the model. */
static enum crl_status make_block(struct crl_engine *e, struct crl_err *err)
{
    size_t stride = crl_round_up(e->model->cfg.vocab, CRL_PANEL_ROWS), rows = BLOCK_BYTES / (stride * sizeof(float));

    if (e->block) return CRL_OK;
    if (rows > BLOCK_ROWS_MOST) rows = BLOCK_ROWS_MOST;
    if (rows < BLOCK_ROWS_LEAST) rows = BLOCK_ROWS_LEAST;
    e->block = crl_alloc(rows * stride, sizeof *e->block);
    e->block_rows = rows;
    return e->block ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a block of logits");
}

static enum crl_status check_pieces(const struct crl_engine *e, const struct crl_piece *piece, size_t n,
                                    struct crl_err *err)
{
    size_t total = 0, most = crl_forward_batch_max(e->forward);
    enum crl_status st = CRL_OK;

    for (size_t i = 0; !st && i < n; i++) {
        const struct crl_session *s = piece[i].session;

        if (s->engine != e) st = crl_fail(err, CRL_ERANGE, "session %zu belongs to another engine", i);
        for (size_t j = 0; !st && j < i; j++)
            if (piece[j].session == s) st = crl_fail(err, CRL_ERANGE, "sessions %zu and %zu are the same", j, i);
        if (!st) st = check_tokens(s, piece[i].ids, piece[i].n, err);
        if (!st && (!piece[i].n || piece[i].n > crl_kv_room(s->kv) || piece[i].n > most - total))
            st = crl_fail(err, CRL_ERANGE, "piece %zu of %zu tokens does not fit into a pass", i, piece[i].n);
        if (!st) total += piece[i].n;
    }
    return st;
}

enum crl_status crl_engine_pass(struct crl_engine *e, const struct crl_piece *piece, size_t n, crl_logits_fn *take,
                                void *ctx, struct crl_err *err)
{
    enum crl_status st = check_pieces(e, piece, n, err);

    if (!st) st = make_block(e, err);
    if (st || !n) return st;
    for (size_t i = 0; i < n; i++)
        e->segment[i] = (struct crl_segment){ piece[i].session->kv, piece[i].ids, piece[i].n, piece[i].rows, true, false,
                                              piece[i].from };
    run(e, n, NULL, take, ctx);
    return CRL_OK;
}

size_t crl_engine_batch_max(const struct crl_engine *e)
{
    return crl_forward_batch_max(e->forward);
}

const struct crl_kernels *crl_engine_kernels(const struct crl_engine *e)
{
    return &e->kern;
}

size_t crl_session_room(const struct crl_session *s)
{
    return crl_kv_room(s->kv);
}

enum crl_status crl_session_truncate(struct crl_session *s, size_t n, struct crl_err *err)
{
    return crl_kv_truncate(s->kv, n, err);
}
