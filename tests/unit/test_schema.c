/* test_schema.c - configurations and their JSON, the list of matrices, recipes, and what they add up to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/schema.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

/* --- configurations ----------------------------------------------------------------------------------- */

/* The released Scout; Maverick differs in experts, interleaving, norm and rope scaling. */
static struct crl_config scout(void)
{
    struct crl_config c;

    memset(&c, 0, sizeof c);
    c.n_layer = 48;
    c.n_head = 40;
    c.n_kv_head = 8;
    c.d_head = 128;
    c.d_model = 5120;
    c.d_ff = 8192;
    c.d_ff_dense = 16384;
    c.vocab = 202048;
    c.n_expert = 16;
    c.n_expert_used = 1;
    c.n_ctx = 10485760;
    c.chunk = 8192;
    c.floor_scale = 8192;
    c.attn_scale = 0.1f;
    c.norm_eps = 1e-5f;
    c.rope_theta = 500000;
    c.rope_type = CRL_ROPE_LLAMA3;
    c.rope_factor = 16;
    c.rope_low = 1;
    c.rope_high = 1;
    c.rope_old_ctx = 8192;
    c.qk_norm = c.temperature_tuning = true;
    c.bos = 200000;
    c.pad = 200018;
    c.image_token = 200092;
    c.n_eos = 3;
    c.eos[0] = 200001;
    c.eos[1] = 200007;
    c.eos[2] = 200008;
    for (unsigned l = 0; l < c.n_layer; l++) {
        c.uses_rope[l] = (l + 1) % 4 != 0;
        c.is_moe[l] = 1;
    }
    return c;
}

/* The released tower; the same in all models. */
static struct crl_config seeing(struct crl_config c)
{
    c.multimodal = true;
    c.vision = (struct crl_vision_config){ .n_layer = 34, .n_head = 16, .d_model = 1408, .d_ff = 5632, .d_out = 4096,
                                           .image = 336, .patch = 14, .shuffle = 2, .rope_theta = 10000 };
    return c;
}

static struct crl_config maverick(void)
{
    struct crl_config c = scout();

    c.n_expert = 128;
    c.qk_norm = false;
    c.n_ctx = 1048576;
    c.rope_type = CRL_ROPE_PLAIN;
    c.rope_factor = c.rope_low = c.rope_high = 0;
    c.rope_old_ctx = 0;
    for (unsigned l = 0; l < c.n_layer; l++) c.is_moe[l] = l % 2;
    return c;
}

static uint64_t seed = 1;

static uint32_t rnd(uint32_t lo, uint32_t hi)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return lo + (uint32_t)((seed >> 33) % (hi - lo + 1));
}

static void add_vision(struct crl_config *c)
{
    struct crl_vision_config *v = &c->vision;

    c->multimodal = true;
    v->n_layer = rnd(1, 6);
    v->n_head = rnd(1, 6);
    v->d_model = 4 * v->n_head * rnd(1, 6);
    v->shuffle = rnd(1, 3);
    v->d_ff = v->d_model * v->shuffle * v->shuffle;
    v->d_out = rnd(1, 200);
    v->patch = rnd(1, 9);
    v->image = v->patch * v->shuffle * rnd(1, 7);
    v->rope_theta = (float)rnd(1, 1000000) / 3.0f;
}

static struct crl_config random_config(void)
{
    struct crl_config c;
    uint32_t period = rnd(0, 5), step = rnd(0, 3);

    memset(&c, 0, sizeof c);
    c.n_layer = rnd(1, 12);
    c.n_kv_head = rnd(1, 8);
    c.n_head = c.n_kv_head * rnd(1, 5);
    c.d_head = 2 * rnd(1, 40);
    c.d_model = rnd(1, 300);
    c.d_ff = rnd(1, 300);
    c.d_ff_dense = rnd(1, 300);
    c.vocab = rnd(1, 5000);
    c.n_expert = rnd(1, 20);
    c.n_expert_used = rnd(1, c.n_expert);
    c.n_ctx = rnd(1, 0x7fffffff);
    c.chunk = rnd(0, 1) ? 0 : rnd(1, 9000);
    c.floor_scale = rnd(1, 9000);
    c.attn_scale = (float)rnd(0, 1000000) / 3e6f;
    c.norm_eps = (float)rnd(1, 1000000) / 1e11f;
    c.rope_theta = (float)rnd(1, 0x7fffffff) / 7.0f;
    if (rnd(0, 1)) {
        c.rope_type = CRL_ROPE_LLAMA3;
        c.rope_factor = (float)rnd(1, 1000) / 9.0f;
        c.rope_low = (float)rnd(1, 1000) / 11.0f;
        c.rope_high = c.rope_low + (float)rnd(0, 1000) / 13.0f;
        c.rope_old_ctx = rnd(1, 100000);
    }
    c.qk_norm = rnd(0, 1);
    c.temperature_tuning = rnd(0, 1);
    c.attention_bias = rnd(0, 1);
    c.tied = rnd(0, 1);
    if (rnd(0, 1)) add_vision(&c);
    c.bos = (int32_t)rnd(0, 5000) - 1;
    c.pad = (int32_t)rnd(0, 5000) - 1;
    c.image_token = (int32_t)rnd(0, c.vocab - 1);
    c.n_eos = rnd(0, 8);
    for (unsigned i = 0; i < c.n_eos; i++) c.eos[i] = (int32_t)rnd(0, 0x7fffffff);
    for (unsigned l = 0; l < c.n_layer; l++) {
        c.uses_rope[l] = !period || (l + 1) % period != 0;
        c.is_moe[l] = step && (l + 1) % step == 0;
    }
    return c;
}

static void must(enum crl_status st, const struct crl_err *err)
{
    if (st) fail_msg("%s: %s", crl_status_name(st), err->text);
}

static struct crl_schema *build(const struct crl_config *c)
{
    struct crl_schema *s;
    struct crl_err err = { "" };

    must(crl_schema_build(&s, c, &err), &err);
    return s;
}

static void config_survives_its_json(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct crl_config c = i == 0 ? seeing(scout()) : i == 1 ? maverick() : random_config(), back;
        struct crl_err err = { "" };
        char *text = crl_config_to_json(&c), *again;

        must(crl_config_check(&c, &err), &err);
        memset(&back, 0x5a, sizeof back);
        must(crl_config_from_json(&back, text, strlen(text), &err), &err);
        again = crl_config_to_json(&back);
        assert_string_equal(text, again);
        assert_int_equal(back.n_layer, c.n_layer);
        assert_true(back.rope_theta == c.rope_theta && back.norm_eps == c.norm_eps &&
                    back.attn_scale == c.attn_scale);
        assert_true(back.rope_factor == c.rope_factor && back.rope_low == c.rope_low &&
                    back.rope_high == c.rope_high);
        assert_memory_equal(back.uses_rope, c.uses_rope, sizeof c.uses_rope);
        assert_memory_equal(back.is_moe, c.is_moe, sizeof c.is_moe);
        assert_memory_equal(back.eos, c.eos, sizeof c.eos);
        assert_int_equal(back.multimodal, c.multimodal);
        assert_memory_equal(&back.vision, &c.vision, sizeof c.vision);
        crl_free(text);
        crl_free(again);
    }
}

static void config_of_the_most_layers_fits_its_text(void **state)
{
    struct crl_config c = scout(), back;
    struct crl_err err = { "" };
    char *text;

    (void)state;
    c.n_layer = CRL_MAX_LAYER;
    c.n_eos = 8;
    for (unsigned i = 0; i < 8; i++) c.eos[i] = 0x7fffffff;
    memset(c.uses_rope, 1, sizeof c.uses_rope);
    memset(c.is_moe, 1, sizeof c.is_moe);
    text = crl_config_to_json(&c);
    must(crl_config_from_json(&back, text, strlen(text), &err), &err);
    assert_memory_equal(back.is_moe, c.is_moe, sizeof c.is_moe);
    crl_free(text);
}

static void config_text_has_points_in_every_locale(void **state)
{
    static const char *const comma[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8" };
    struct crl_config c = scout();
    char *plain = crl_config_to_json(&c), *text;
    bool found = false;

    (void)state;
    assert_non_null(strstr(plain, "\"attn_scale\":0.1,\"norm_eps\":1e-05,\"rope_theta\":500000,"));
    for (size_t i = 0; i < sizeof comma / sizeof *comma; i++)
        found |= setlocale(LC_NUMERIC, comma[i]) != NULL;
    text = crl_config_to_json(&c);
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(plain, text);
    crl_free(text);
    crl_free(plain);
    if (!found) skip(); /* no locale with a decimal comma on this machine */
}

/* Each row changes one thing in the text of a good configuration; the sentence must name it. */
static void config_text_that_is_wrong_is_refused_by_name(void **state)
{
    static const struct {
        const char *from, *to, *says;
    } row[] = {
        { "\"n_layer\":48", "\"n_layer\":0", "n_layer is 0" },
        { "\"n_layer\":48", "\"n_layer\":1025", "n_layer is 1025" },
        { "\"n_layer\":48", "\"n_layer\":47", "uses_rope has 48 entries" },
        { "\"n_layer\":48", "\"n_layer\":\"48\"", "n_layer is not an integer" },
        { "\"n_layer\":48", "\"n_layer\":48.0", "n_layer is not an integer" },
        { "\"n_layer\":48,", "", "n_layer is missing" },
        { "\"n_layer\":48", "\"n_layer\":48,\"n_layer\":48", "duplicate" },
        { "\"n_layer\":48", "\"n_layer\":48,\"colour\":1", "unknown key \"colour\"" },
        { "\"n_kv_head\":8", "\"n_kv_head\":7", "does not divide" },
        { "\"n_kv_head\":8", "\"n_kv_head\":-8", "n_kv_head is -8" },
        { "\"d_head\":128", "\"d_head\":127", "odd" },
        { "\"d_head\":128", "\"d_head\":1048576", "n_head 40 times d_head" },
        { "\"d_ff\":8192", "\"d_ff\":0", "d_ff is 0" },
        { "\"vocab\":202048", "\"vocab\":16777217", "vocab is" },
        { "\"n_expert\":16", "\"n_expert\":0", "n_expert is 0" },
        { "\"n_expert\":16", "\"n_expert\":99999999999999999999", "integer" },
        { "\"n_expert_used\":1", "\"n_expert_used\":0", "n_expert_used is 0" },
        { "\"n_expert_used\":1", "\"n_expert_used\":17", "n_expert_used is 17" },
        { "\"floor_scale\":8192", "\"floor_scale\":0", "floor_scale" },
        { "\"attn_scale\":0.1", "\"attn_scale\":1e10", "attn_scale" },
        { "\"attn_scale\":0.1", "\"attn_scale\":1e999", "real number overflow" },
        { "\"attn_scale\":0.1", "\"attn_scale\":true", "attn_scale is not a number" },
        { "\"rope_theta\":500000", "\"rope_theta\":0", "rope_theta" },
        { "\"llama3\"", "\"yarn\"", "rope_type" },
        { "\"rope_factor\":16", "\"rope_factor\":0", "rope_factor" },
        { "\"rope_low\":1", "\"rope_low\":2", "rope_high is 1, below" },
        { "\"rope_old_ctx\":8192", "\"rope_old_ctx\":0", "rope_old_ctx" },
        { "\"qk_norm\":true", "\"qk_norm\":1", "qk_norm is neither" },
        { "\"bos\":200000", "\"bos\":-2", "bos is -2" },
        { "[200001,", "[-1,", "eos[0]" },
        { "[200001,", "[1,2,3,4,5,6,7,", "eos has 9 entries" },
        { "\"uses_rope\":[1,", "\"uses_rope\":[2,", "uses_rope[0]" },
        { "\"is_moe\":[1,", "\"is_moe\":[true,", "is_moe[0]" },
        { "\"is_moe\":[1,", "\"is_moe\":7,\"x\":[1,", "unknown key" },
        { "{\"n_layer\"", "[{\"n_layer\"", "config: line 1" },
    };
    struct crl_config c = scout(), back;
    char *good = crl_config_to_json(&c), text[8192];

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct crl_err err = { "" };
        const char *at = strstr(good, row[i].from);

        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, row[i].to, at + strlen(row[i].from));
        assert_int_equal(crl_config_from_json(&back, text, strlen(text), &err), CRL_EFORMAT);
        if (!strstr(err.text, row[i].says)) fail_msg("\"%s\" does not say \"%s\"", err.text, row[i].says);
    }
    for (size_t n = 0; n < strlen(good); n++) {
        struct crl_err err = { "" };
        assert_int_equal(crl_config_from_json(&back, good, n, &err), CRL_EFORMAT);
        assert_true(err.text[0]);
    }
    crl_free(good);
}

static void config_of_a_tower_that_is_wrong_is_refused_by_name(void **state)
{
    static const struct {
        const char *from, *to, *says;
    } row[] = {
        { "\"vision.n_layer\":34", "\"vision.n_layer\":0", "vision.n_layer is 0" },
        { "\"vision.n_head\":16", "\"vision.n_head\":17", "not a multiple of 4 times vision.n_head 17" },
        { "\"vision.d_ff\":5632", "\"vision.d_ff\":5633", "vision.d_ff is 5633" },
        { "\"vision.image\":336", "\"vision.image\":335", "vision.image is 335" },
        { "\"vision.patch\":14", "\"vision.patch\":1", "more than 65536 patches" },
        { "\"vision.shuffle\":2", "\"vision.shuffle\":5", "vision.shuffle 5" },
        { "\"vision.d_out\":4096,", "", "vision.d_out is missing" },
        { "\"multimodal\":true", "\"multimodal\":false", "unknown key \"vision.n_layer\"" },
        { "\"image_token\":200092", "\"image_token\":-1", "image_token is -1" },
        { "\"image_token\":200092", "\"image_token\":202048", "image_token is 202048" },
    };
    struct crl_config c = seeing(scout()), back;
    char *good = crl_config_to_json(&c), text[8192];

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct crl_err err = { "" };
        const char *at = strstr(good, row[i].from);

        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, row[i].to, at + strlen(row[i].from));
        assert_int_equal(crl_config_from_json(&back, text, strlen(text), &err), CRL_EFORMAT);
        if (!strstr(err.text, row[i].says)) fail_msg("\"%s\" does not say \"%s\"", err.text, row[i].says);
    }
    crl_free(good);
}

/* Packers before the tower was packed wrote so. */
static void config_that_claims_a_tower_without_one_is_text_only(void **state)
{
    struct crl_config c = scout(), back;
    char *good = crl_config_to_json(&c), text[8192];
    const char *at = strstr(good, "\"multimodal\":false");
    struct crl_err err = { "" };

    (void)state;
    snprintf(text, sizeof text, "%.*s\"multimodal\":true%s", (int)(at - good), good, at + strlen("\"multimodal\":false"));
    must(crl_config_from_json(&back, text, strlen(text), &err), &err);
    assert_false(back.multimodal);
    crl_free(good);
}

/* --- the list ----------------------------------------------------------------------------------------- */

static void names_follow_the_checkpoints(void **state)
{
    static const struct {
        enum crl_kind kind;
        uint32_t layer, expert, n, k;
        const char *name;
    } row[] = {
        { CRL_KIND_EMBED, 0, 0, 202048, 5120, "model.embed_tokens.weight" },
        { CRL_KIND_HEAD, 0, 0, 202048, 5120, "lm_head.weight" },
        { CRL_KIND_FINAL_NORM, 0, 0, 1, 5120, "model.norm.weight" },
        { CRL_KIND_ATTN_NORM, 47, 0, 1, 5120, "model.layers.47.input_layernorm.weight" },
        { CRL_KIND_FFN_NORM, 3, 0, 1, 5120, "model.layers.3.post_attention_layernorm.weight" },
        { CRL_KIND_Q, 1, 0, 5120, 5120, "model.layers.1.self_attn.q_proj.weight" },
        { CRL_KIND_K, 1, 0, 1024, 5120, "model.layers.1.self_attn.k_proj.weight" },
        { CRL_KIND_O, 0, 0, 5120, 5120, "model.layers.0.self_attn.o_proj.weight" },
        { CRL_KIND_Q_BIAS, 0, 0, 1, 5120, "model.layers.0.self_attn.q_proj.bias" },
        { CRL_KIND_V_BIAS, 1, 0, 1, 1024, "model.layers.1.self_attn.v_proj.bias" },
        { CRL_KIND_O_BIAS, 1, 0, 1, 5120, "model.layers.1.self_attn.o_proj.bias" },
        { CRL_KIND_ROUTER, 1, 0, 128, 5120, "model.layers.1.feed_forward.router.weight" },
        { CRL_KIND_EXPERT_GATE_UP, 47, 127, 16384, 5120,
          "model.layers.47.feed_forward.experts.127.gate_up_proj.weight" },
        { CRL_KIND_EXPERT_DOWN, 1, 0, 5120, 8192, "model.layers.1.feed_forward.experts.0.down_proj.weight" },
        { CRL_KIND_SHARED_GATE_UP, 1, 0, 16384, 5120,
          "model.layers.1.feed_forward.shared_expert.gate_up_proj.weight" },
        { CRL_KIND_SHARED_DOWN, 1, 0, 5120, 8192,
          "model.layers.1.feed_forward.shared_expert.down_proj.weight" },
        { CRL_KIND_DENSE_GATE_UP, 0, 0, 32768, 5120, "model.layers.0.feed_forward.gate_up_proj.weight" },
        { CRL_KIND_DENSE_DOWN, 46, 0, 5120, 16384, "model.layers.46.feed_forward.down_proj.weight" },
    };
    struct crl_config c = maverick();
    struct crl_schema *s;

    (void)state;
    c.attention_bias = true;
    s = build(&c);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        size_t at = crl_schema_find(s, row[i].kind, row[i].layer, row[i].expert);
        char name[CRL_NAME_MAX];

        assert_true(at < s->n_weight);
        crl_weight_name(&s->weight[at], name);
        assert_string_equal(name, row[i].name);
        assert_int_equal(s->weight[at].n, row[i].n);
        assert_int_equal(s->weight[at].k, row[i].k);
    }
    assert_int_equal(crl_schema_find(s, CRL_KIND_ROUTER, 0, 0), CRL_NO_WEIGHT);
    assert_int_equal(crl_schema_find(s, CRL_KIND_DENSE_DOWN, 1, 0), CRL_NO_WEIGHT);
    assert_int_equal(crl_schema_find(s, CRL_KIND_EXPERT_DOWN, 1, 128), CRL_NO_WEIGHT);
    assert_int_equal(crl_schema_find(s, CRL_KIND_Q, 48, 0), CRL_NO_WEIGHT);
    assert_int_equal(crl_schema_find_name(s, "model.layers.48.self_attn.q_proj.weight"), CRL_NO_WEIGHT);
    crl_schema_free(s);
}

static void find_agrees_with_the_list(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct crl_config c = random_config();
        struct crl_schema *s = build(&c);
        size_t n_weight, n_extent, in_extents = 0;

        assert_int_equal(crl_schema_count(&c, &n_weight, &n_extent, NULL), CRL_OK);
        assert_int_equal(n_weight, s->n_weight);
        assert_int_equal(n_extent, s->n_extent);
        for (size_t w = 0; w < s->n_weight; w++) {
            const struct crl_weight *x = &s->weight[w];
            assert_int_equal(crl_schema_find(s, x->kind, (uint32_t)x->layer, (uint32_t)x->expert), w);
            assert_true(w >= s->extent[x->extent].first &&
                        w < s->extent[x->extent].first + s->extent[x->extent].n);
        }
        for (size_t e = 0; e < s->n_extent; e++) {
            assert_int_equal(s->extent[e].first, in_extents);
            in_extents += s->extent[e].n;
        }
        assert_int_equal(in_extents, s->n_weight);
        crl_schema_free(s);
    }
}

static void experts_have_an_extent_of_their_own(void **state)
{
    struct crl_config c = scout();
    struct crl_schema *s = build(&c);

    (void)state;
    for (uint32_t e = 0; e < c.n_expert; e++) {
        size_t gu = crl_schema_find(s, CRL_KIND_EXPERT_GATE_UP, 5, e),
               d = crl_schema_find(s, CRL_KIND_EXPERT_DOWN, 5, e);
        assert_int_equal(s->weight[gu].extent, s->weight[d].extent);
        assert_int_equal(s->extent[s->weight[gu].extent].n, 2);
    }
    assert_int_equal(s->weight[crl_schema_find(s, CRL_KIND_Q, 5, 0)].extent,
                     s->weight[crl_schema_find(s, CRL_KIND_O, 5, 0)].extent);
    assert_int_equal(s->weight[crl_schema_find(s, CRL_KIND_ROUTER, 5, 0)].extent,
                     s->weight[crl_schema_find(s, CRL_KIND_ATTN_NORM, 5, 0)].extent);
    crl_schema_free(s);
}

static void tower_is_listed_after_the_text_model(void **state)
{
    static const struct {
        enum crl_kind kind;
        uint32_t layer, n, k;
        const char *name;
    } row[] = {
        { CRL_KIND_V_CLASS, 0, 1, 1408, "vision_model.class_embedding" },
        { CRL_KIND_V_POSITION, 0, 577, 1408, "vision_model.positional_embedding_vlm" },
        { CRL_KIND_V_POST_BIAS, 0, 1, 1408, "vision_model.layernorm_post.bias" },
        { CRL_KIND_V_PATCH, 0, 1408, 588, "vision_model.patch_embedding.linear.weight" },
        { CRL_KIND_V_ATTN_NORM, 0, 1, 1408, "vision_model.model.layers.0.input_layernorm.weight" },
        { CRL_KIND_V_O_BIAS, 33, 1, 1408, "vision_model.model.layers.33.self_attn.o_proj.bias" },
        { CRL_KIND_V_FC1_BIAS, 3, 1, 5632, "vision_model.model.layers.3.mlp.fc1.bias" },
        { CRL_KIND_V_V, 3, 1408, 1408, "vision_model.model.layers.3.self_attn.v_proj.weight" },
        { CRL_KIND_V_FC2, 33, 1408, 5632, "vision_model.model.layers.33.mlp.fc2.weight" },
        { CRL_KIND_V_ADAPTER_1, 0, 4096, 5632, "vision_model.vision_adapter.mlp.fc1.weight" },
        { CRL_KIND_V_PROJECTOR, 0, 5120, 4096, "multi_modal_projector.linear_1.weight" },
    };
    struct crl_config c = seeing(scout());
    struct crl_schema *s = build(&c);
    struct crl_totals t;
    struct crl_recipe r;
    struct crl_err err = { "" };
    size_t n_weight, n_extent;

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        size_t at = crl_schema_find(s, row[i].kind, row[i].layer, 0);
        const struct crl_weight *w = &s->weight[at];
        assert_int_equal(at, crl_schema_find_name(s, row[i].name));
        assert_int_equal(w->kind, row[i].kind);
        assert_int_equal(w->n, row[i].n);
        assert_int_equal(w->k, row[i].k);
        assert_true(at >= s->n_text);
    }
    assert_int_equal(crl_schema_find(s, CRL_KIND_V_FC2, 34, 0), CRL_NO_WEIGHT);
    must(crl_schema_count(&c, &n_weight, &n_extent, &err), &err);
    assert_int_equal(s->n_weight, n_weight);
    assert_int_equal(s->n_extent, n_extent);
    must(crl_recipe_parse(&r, "q4", NULL, 0, &err), &err);
    must(crl_recipe_totals(&r, s, &t, &err), &err);
    assert_int_equal(t.params_vision, 871932416); /* published */
    assert_int_equal(t.params, 108641793536);
    assert_int_equal(crl_recipe_format(&r, &s->weight[crl_schema_find(s, CRL_KIND_V_Q, 0, 0)]), CRL_Q8);
    assert_int_equal(crl_recipe_format(&r, &s->weight[crl_schema_find(s, CRL_KIND_V_PATCH, 0, 0)]), CRL_BF16);
    crl_schema_free(s);
}

static void gate_and_up_rows_alternate_by_panels(void **state)
{
    (void)state;
    assert_int_equal(crl_gate_row(0), 0);
    assert_int_equal(crl_gate_row(15), 15);
    assert_int_equal(crl_gate_row(16), 32);
    assert_int_equal(crl_up_row(0), 16);
    assert_int_equal(crl_up_row(17), 49);
}

/* --- totals ------------------------------------------------------------------------------------------- */

static void totals_of_the_releases_are_the_published_ones(void **state)
{
    static const struct {
        uint64_t params, active, read, routed;
    } want[] = {
        { 107769861120, 17172894720, 16138408960, 96636764160 },
        { 400711848960, 17184691200, 16150205440, 386547056640 },
    };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct crl_config c = i ? maverick() : scout();
        struct crl_schema *s = build(&c);
        struct crl_totals t;
        struct crl_err err = { "" };

        must(crl_schema_totals(s, NULL, &t, &err), &err);
        assert_int_equal(t.params, want[i].params);
        assert_int_equal(t.params_active, want[i].active);
        assert_int_equal(t.params_read, want[i].read);
        assert_int_equal(t.params_routed, want[i].routed);
        crl_schema_free(s);
    }
}

/* bf16: two bytes a weight, norms four (496,640 of them in both models); nothing is padded at these shapes.
 */
static void bytes_of_the_releases_follow_the_formats(void **state)
{
    struct crl_config c = scout();
    struct crl_schema *s = build(&c);
    struct crl_recipe r;
    struct crl_totals t;
    struct crl_err err = { "" };
    uint64_t scales;

    (void)state;
    must(crl_recipe_parse(&r, "bf16", NULL, 0, &err), &err);
    must(crl_recipe_totals(&r, s, &t, &err), &err);
    assert_int_equal(t.bytes, 2 * t.params + 2 * 496640);
    assert_int_equal(t.bytes_read, 2 * t.params_read + 2 * 496640 + 2 * 5120);

    must(crl_recipe_parse(&r, "q8", NULL, 0, &err), &err);
    must(crl_recipe_totals(&r, s, &t, &err), &err);
    assert_int_equal(t.bytes - 4 * 496640 - 2 * 3932160, (t.params - 496640 - 3932160) / 32 * 34);

    /* q4: 4.25 bits, 4 bytes per row and 64 per matrix; the embedding table at 8.5 bits. */
    must(crl_recipe_parse(&r, "q4", NULL, 0, &err), &err);
    must(crl_recipe_totals(&r, s, &t, &err), &err);
    scales = 0;
    for (size_t i = 0; i < s->n_weight; i++)
        if (crl_recipe_format(&r, &s->weight[i]) == CRL_Q4) scales += 4 * (uint64_t)s->weight[i].n + 64;
    assert_int_equal(t.bytes, 4 * 496640 + 2 * 3932160 + 1034485760 / 32 * 34 + scales +
                                  (t.params - 496640 - 3932160 - 1034485760) / 32 * 17);
    assert_true(t.bytes_read > 8500000000 && t.bytes_read < 8650000000); /* reference: 8.57 GB at 4.25 bits */
    crl_schema_free(s);
}

/* The tower's weights by its formulas: patches, class, positions, two norms, layers, adapter, projector. */
static uint64_t tower_params(const struct crl_config *c)
{
    const struct crl_vision_config *v = &c->vision;
    uint64_t d = v->d_model, ff = v->d_ff, patches;

    if (!c->multimodal) return 0;
    patches = (uint64_t)(v->image / v->patch) * (v->image / v->patch);
    return d * 3 * v->patch * v->patch + d + (patches + 1) * d + 4 * d +
           v->n_layer * (4 * (d * d + d) + 2 * d * ff + ff + d + 4 * d) + ff * v->d_out + (uint64_t)v->d_out * v->d_out +
           (uint64_t)v->d_out * c->d_model;
}

/* The counts of reference section 1.5, written as formulas rather than as a walk over the list. */
static void totals_agree_with_the_formulas_on_random_models(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct crl_config c = random_config();
        struct crl_schema *s = build(&c);
        struct crl_recipe r;
        struct crl_totals t;
        struct crl_err err = { "" };
        uint64_t D = c.d_model, L = c.n_layer, q = (uint64_t)c.n_head * c.d_head,
                 kv = (uint64_t)c.n_kv_head * c.d_head;
        uint64_t moe = 0, table = (uint64_t)c.vocab * D, always, expert = 3 * D * c.d_ff;

        for (unsigned l = 0; l < c.n_layer; l++) moe += c.is_moe[l];
        always = L * (2 * D * q + 2 * D * kv) + (2 * L + 1) * D + moe * (c.n_expert * D + expert) +
                 (L - moe) * 3 * D * c.d_ff_dense + table + (c.tied ? 0 : table);
        if (c.attention_bias) always += L * (q + 2 * kv + D);
        must(crl_recipe_parse(&r, i % 3 ? i % 3 == 1 ? "q8" : "q4" : "bf16", NULL, 0, &err), &err);
        must(crl_recipe_totals(&r, s, &t, &err), &err);
        assert_int_equal(t.params_vision, tower_params(&c));
        assert_int_equal(t.params, always + moe * c.n_expert * expert + t.params_vision);
        assert_int_equal(t.params_active, always + moe * c.n_expert_used * expert);
        assert_int_equal(t.params_read, t.params_active - (c.tied ? 0 : table));
        assert_int_equal(t.params_routed, moe * c.n_expert * expert);
        assert_true(t.bytes_read <= t.bytes + crl_panel_bytes(CRL_BF16, D));
        assert_true(t.bytes >= t.params * 17 / 32 && t.bytes_read >= t.params_read * 17 / 32);
        if (c.n_expert_used == c.n_expert && c.tied)
            assert_int_equal(t.bytes_read + t.bytes_vision - t.bytes,
                             crl_panel_bytes(r.format[CRL_KIND_EMBED], D) / CRL_PANEL_ROWS);
        crl_schema_free(s);
    }
}

static void largest_configuration_is_counted_or_refused(void **state)
{
    struct crl_config c = scout();
    size_t n_weight, n_extent;
    struct crl_err err = { "" };

    (void)state;
    c.n_layer = CRL_MAX_LAYER;
    c.n_expert = 65536;
    memset(c.is_moe, 1, sizeof c.is_moe);
    assert_int_equal(crl_schema_count(&c, &n_weight, &n_extent, &err), CRL_OK);
    assert_int_equal(n_weight, 3 + 1024 * (2 + 1 + 4 + 2 + 2 * 65536));
    assert_int_equal(n_extent, 3 + 1024 * (3 + 65536));
}

/* --- recipes ------------------------------------------------------------------------------------------ */

static enum crl_format format_of(const struct crl_recipe *r, const struct crl_schema *s, const char *name)
{
    size_t i = crl_schema_find_name(s, name);

    if (i == CRL_NO_WEIGHT) fail_msg("no %s", name);
    return crl_recipe_format(r, &s->weight[i]);
}

static void recipes_keep_router_and_norms(void **state)
{
    static const char *const all[] = { "*=q4" };
    struct crl_config c = scout();
    struct crl_schema *s;
    struct crl_err err = { "" };

    (void)state;
    c.attention_bias = true;
    s = build(&c);
    for (int i = 0; i < 4; i++) {
        struct crl_recipe r;
        must(crl_recipe_parse(&r, i == 1 ? "bf16" : i == 2 ? "q8" : "q4", all, i == 3, &err), &err);
        must(crl_recipe_check(&r, s, &err), &err);
        assert_int_equal(format_of(&r, s, "model.norm.weight"), CRL_F32);
        assert_int_equal(format_of(&r, s, "model.layers.0.input_layernorm.weight"), CRL_F32);
        assert_int_equal(format_of(&r, s, "model.layers.0.self_attn.k_proj.bias"), CRL_F32);
        assert_int_equal(format_of(&r, s, "model.layers.0.feed_forward.router.weight"), CRL_BF16);
        assert_int_equal(format_of(&r, s, "model.embed_tokens.weight"), i == 1   ? CRL_BF16
                                                                        : i == 3 ? CRL_Q4
                                                                                 : CRL_Q8);
        assert_int_equal(format_of(&r, s, "lm_head.weight"), i == 1 ? CRL_BF16 : i == 2 ? CRL_Q8 : CRL_Q4);
        for (size_t w = 0; w < s->n_weight; w++)
            assert_true(crl_kind_takes(s->weight[w].kind, crl_recipe_format(&r, &s->weight[w])));
    }
    crl_schema_free(s);
}

static void overrides_match_packed_and_checkpoint_names(void **state)
{
    static const struct {
        const char *glob, *name;
        bool match;
    } row[] = {
        { "lm_head.weight", "lm_head.weight", true },
        { "lm_head", "lm_head.weight", false },
        { "*.shared_expert.*", "model.layers.1.feed_forward.shared_expert.gate_up_proj.weight", true },
        { "*.shared_expert.*", "model.layers.1.feed_forward.experts.3.gate_up_proj.weight", false },
        { "*.gate_proj.weight", "model.layers.1.feed_forward.shared_expert.gate_up_proj.weight", true },
        { "*.up_proj.weight", "model.layers.0.feed_forward.gate_up_proj.weight", true },
        { "*.gate_proj.weight", "model.layers.1.feed_forward.shared_expert.down_proj.weight", false },
        { "*.experts.7.up_proj.weight", "model.layers.1.feed_forward.experts.7.gate_up_proj.weight", true },
        { "*.experts.7.up_proj.weight", "model.layers.1.feed_forward.experts.8.gate_up_proj.weight", false },
        { "*experts.gate_up_proj", "model.layers.1.feed_forward.experts.8.gate_up_proj.weight", true },
        { "*experts.gate_up_proj", "model.layers.1.feed_forward.shared_expert.gate_up_proj.weight", false },
        { "*experts.down_proj", "model.layers.1.feed_forward.experts.8.down_proj.weight", true },
        { "language_model.model.layers.1.*", "model.layers.1.self_attn.q_proj.weight", true },
        { "language_model.model.layers.1.*", "model.layers.2.self_attn.q_proj.weight", false },
        { "*self_attn.[kv]_proj*", "model.layers.1.self_attn.v_proj.weight", true },
        { "*self_attn.[kv]_proj*", "model.layers.1.self_attn.q_proj.weight", false },
    };
    struct crl_config c = maverick();
    struct crl_schema *s = build(&c);

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[256];
        const char *const list[] = { text };
        struct crl_recipe r;
        struct crl_err err = { "" };

        snprintf(text, sizeof text, "%s=bf16", row[i].glob);
        must(crl_recipe_parse(&r, "q4", list, 1, &err), &err);
        if ((format_of(&r, s, row[i].name) == CRL_BF16) != row[i].match)
            fail_msg("%s and %s", row[i].glob, row[i].name);
    }
    crl_schema_free(s);
}

static void last_override_decides(void **state)
{
    static const char *const list[] = { "*layers.1.*=q8", "*=bf16", "*.layers.1.*q_proj*=q4" };
    struct crl_config c = maverick();
    struct crl_schema *s = build(&c);
    struct crl_recipe r;
    struct crl_err err = { "" };

    (void)state;
    must(crl_recipe_parse(&r, "q4", list, 3, &err), &err);
    assert_int_equal(format_of(&r, s, "model.layers.1.self_attn.q_proj.weight"), CRL_Q4);
    assert_int_equal(format_of(&r, s, "model.layers.1.self_attn.k_proj.weight"), CRL_BF16);
    crl_schema_free(s);
}

static void overrides_that_cannot_be_are_refused(void **state)
{
    static const struct {
        const char *recipe, *text, *says;
    } row[] = {
        { "q5", NULL, "none of bf16, q8, q4" },
        { "", NULL, "none of bf16, q8, q4" },
        { "q4", "lm_head.weight", "GLOB=FORMAT" },
        { "q4", "=q4", "GLOB=FORMAT" },
        { "q4", "lm_head.weight=q3", "the format is none of" },
        { "q4", "lm_head.weight=", "the format is none of" },
        { "q4", "lm_head.weight=f32", "the format is none of" },
        { "q4", "*router*=q8", "model.layers.0.feed_forward.router.weight, which is always kept in bf16" },
        { "q4", "*norm*=bf16", "which is always kept in f32" },
        { "q4", "*.q_proj.bias=q8", "which is always kept in f32" },
        { "q4", "*.wq.weight=q8", "matches no tensor" },
    };
    struct crl_config c = scout();
    struct crl_schema *s;
    char long_glob[400];

    (void)state;
    c.attention_bias = true;
    s = build(&c);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *const list[] = { row[i].text };
        struct crl_recipe r;
        struct crl_err err = { "" };
        enum crl_status st = crl_recipe_parse(&r, row[i].recipe, list, row[i].text != NULL, &err);

        if (!st) st = crl_recipe_check(&r, s, &err);
        assert_int_equal(st, CRL_ERANGE);
        if (!strstr(err.text, row[i].says)) fail_msg("\"%s\" does not say \"%s\"", err.text, row[i].says);
    }
    memset(long_glob, 'a', sizeof long_glob);
    memcpy(long_glob + sizeof long_glob - 4, "=q8", 4);
    {
        const char *list[CRL_RECIPE_OVERRIDES + 1] = { long_glob };
        struct crl_recipe r;
        struct crl_err err = { "" };

        assert_int_equal(crl_recipe_parse(&r, "q4", list, 1, &err), CRL_ERANGE);
        for (size_t i = 0; i < sizeof list / sizeof *list; i++) list[i] = "*=q8";
        assert_int_equal(crl_recipe_parse(&r, "q4", list, CRL_RECIPE_OVERRIDES, &err), CRL_OK);
        assert_int_equal(crl_recipe_parse(&r, "q4", list, CRL_RECIPE_OVERRIDES + 1, &err), CRL_ERANGE);
    }
    crl_schema_free(s);
}

static void schema_survives_exhausted_memory(void **state)
{
    struct crl_config c = scout();
    struct crl_err err = { "" };

    (void)state;
    for (size_t n = 1;; n++) {
        struct crl_schema *s = (void *)&c;
        enum crl_status st;

        crl_alloc_fail_after(n);
        st = crl_schema_build(&s, &c, &err);
        crl_alloc_fail_after(0);
        if (!st) {
            assert_true(n > 3);
            crl_schema_free(s);
            return;
        }
        assert_int_equal(st, CRL_ENOMEM);
        assert_null(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_survives_its_json),
        cmocka_unit_test(config_of_the_most_layers_fits_its_text),
        cmocka_unit_test(config_text_has_points_in_every_locale),
        cmocka_unit_test(config_text_that_is_wrong_is_refused_by_name),
        cmocka_unit_test(config_of_a_tower_that_is_wrong_is_refused_by_name),
        cmocka_unit_test(config_that_claims_a_tower_without_one_is_text_only),
        cmocka_unit_test(names_follow_the_checkpoints),
        cmocka_unit_test(find_agrees_with_the_list),
        cmocka_unit_test(experts_have_an_extent_of_their_own),
        cmocka_unit_test(tower_is_listed_after_the_text_model),
        cmocka_unit_test(gate_and_up_rows_alternate_by_panels),
        cmocka_unit_test(totals_of_the_releases_are_the_published_ones),
        cmocka_unit_test(bytes_of_the_releases_follow_the_formats),
        cmocka_unit_test(totals_agree_with_the_formulas_on_random_models),
        cmocka_unit_test(largest_configuration_is_counted_or_refused),
        cmocka_unit_test(recipes_keep_router_and_norms),
        cmocka_unit_test(overrides_match_packed_and_checkpoint_names),
        cmocka_unit_test(last_override_decides),
        cmocka_unit_test(overrides_that_cannot_be_are_refused),
        cmocka_unit_test(schema_survives_exhausted_memory),
    };

    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
