/* test_checkpoint.c - configurations in all their spellings, tensors under all their names, rows whichever
 * way they are stored, and one clear sentence for everything that does not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "convert/checkpoint.h"
#include "tests/unit/stage.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum crl_status parse(struct crl_config *c, const char *text, struct crl_notes *notes,
                             struct crl_err *err)
{
    memset(err, 0, sizeof *err);
    return crl_hfconfig_parse(c, text, strlen(text), "config.json", NULL, notes, err);
}

static void corpus_is_sorted_into_good_and_bad(void **state)
{
    char name[200], verdict[8];
    unsigned n = 0;
    FILE *list = fopen(stage_path(stage_golden(), "malformed/config/LIST"), "r");

    (void)state;
    assert_non_null(list);
    while (fscanf(list, "%199s %7s%*[^\n]", name, verdict) == 2) {
        char folder[5000];
        struct crl_config c;
        struct crl_err err = { "" };
        char *text;
        size_t len;
        enum crl_status st;
        snprintf(folder, sizeof folder, "%s/malformed/config", stage_golden());
        assert_int_equal(crl_file_read(&text, &len, stage_path(folder, name), 1 << 20, NULL), CRL_OK);
        st = crl_hfconfig_parse(&c, text, len, name, NULL, NULL, &err);
        if ((st == CRL_OK) != (strcmp(verdict, "ok") == 0))
            fail_msg("%s is %s, said: %s", name, verdict, err.text);
        if (st && strncmp(err.text, name, strlen(name))) fail_msg("%s: not named first: %s", name, err.text);
        crl_free(text);
        n++;
    }
    fclose(list);
    assert_true(n > 50);
}

static void absent_keys_have_the_library_defaults(void **state)
{
    struct crl_config c;
    struct crl_err err;

    (void)state;
    assert_int_equal(parse(&c, "{\"model_type\":\"llama4_text\"}", NULL, &err), CRL_OK);
    assert_int_equal(c.n_layer, 48);
    assert_int_equal(c.n_head, 40);
    assert_int_equal(c.n_kv_head, 8);
    assert_int_equal(c.d_head, 128);
    assert_int_equal(c.d_model, 5120);
    assert_int_equal(c.vocab, 202048);
    assert_int_equal(c.n_ctx, 131072);
    assert_int_equal(c.chunk, 8192);
    assert_int_equal(c.floor_scale, 8192);
    assert_true(c.qk_norm && c.temperature_tuning && !c.tied && !c.attention_bias);
    assert_true(c.rope_type == CRL_ROPE_PLAIN && c.rope_theta == 500000.0f);
    assert_true(c.uses_rope[2] == 1 && c.uses_rope[3] == 0 && c.is_moe[0] == 1);
    assert_int_equal(c.bos, 1);
    assert_int_equal(c.pad, -1);
    assert_true(c.n_eos == 1 && c.eos[0] == 2);
}

static void every_spelling_of_rope_scaling_is_read(void **state)
{
    static const char *const text[] = {
        "\"rope_theta\": 1e4, \"rope_scaling\": {\"rope_type\": \"llama3\", %s}",
        "\"rope_theta\": 1e4, \"rope_scaling\": {\"type\": \"llama3\", %s}",
        "\"rope_parameters\": {\"rope_theta\": 1e4, \"rope_type\": \"llama3\", %s}",
        "\"rope_scaling\": null, \"rope_parameters\": {\"rope_theta\": 1e4, \"rope_type\": \"llama3\", %s}",
    };
    static const char numbers[] = "\"factor\": 16.0, \"low_freq_factor\": 1, \"high_freq_factor\": 1.0, "
                                  "\"original_max_position_embeddings\": 8192";

    (void)state;
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        char inner[512], doc[600];
        struct crl_config c;
        struct crl_err err;
        snprintf(inner, sizeof inner, text[i], numbers);
        snprintf(doc, sizeof doc, "{\"model_type\": \"llama4_text\", %s}", inner);
        assert_int_equal(parse(&c, doc, NULL, &err), CRL_OK);
        assert_true(c.rope_theta == 1e4f);
        assert_int_equal(c.rope_type, CRL_ROPE_LLAMA3);
        assert_true(c.rope_factor == 16 && c.rope_low == 1 && c.rope_high == 1);
        assert_int_equal(c.rope_old_ctx, 8192);
    }
}

static void early_uploads_are_remarked_upon(void **state)
{
    struct crl_notes notes = { 0 };
    struct crl_config c;
    struct crl_err err;

    (void)state;
    assert_int_equal(
        parse(&c,
              "{\"model_type\": \"llama4_text\", \"rms_norm_eps\": 1e-6, \"rope_scaling\": {\"rope_type\": "
              "\"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
              "\"original_max_position_embeddings\": 8192}}",
              &notes, &err),
        CRL_OK);
    assert_int_equal(notes.n, 2);
    assert_non_null(strstr(notes.text[0], "8/4"));
    assert_non_null(strstr(notes.text[1], "1e-6"));
}

static void layer_types_must_agree_with_rotary_layers(void **state)
{
    static const char head[] =
        "{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 4, \"layer_types\": ";
    struct crl_config c;
    struct crl_err err;
    char doc[400];

    (void)state;
    snprintf(doc, sizeof doc,
             "%s[\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\"]}", head);
    assert_int_equal(parse(&c, doc, NULL, &err), CRL_OK);
    assert_int_equal(c.chunk, 0); /* no layer is chunked */
    snprintf(
        doc, sizeof doc,
        "%s[\"chunked_attention\", \"chunked_attention\", \"chunked_attention\", \"chunked_attention\"]}",
        head);
    assert_int_equal(parse(&c, doc, NULL, &err), CRL_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "layer_types[3]"));
}

static void generation_ids_replace_those_of_the_config(void **state)
{
    static const char gen[] = "{\"eos_token_id\": [7, 8, 9], \"bos_token_id\": 6, \"temperature\": 0.6}";
    struct crl_config c;
    struct crl_err err;

    (void)state;
    assert_int_equal(
        parse(&c, "{\"model_type\": \"llama4_text\", \"eos_token_id\": 5, \"pad_token_id\": 3}", NULL, &err),
        CRL_OK);
    assert_true(c.n_eos == 1 && c.eos[0] == 5 && c.pad == 3);
    assert_int_equal(crl_hfgeneration_parse(&c, gen, sizeof gen - 1, "generation_config.json", &err), CRL_OK);
    assert_true(c.n_eos == 3 && c.eos[2] == 9 && c.bos == 6 && c.pad == 3);
}

/* --- checkpoints
 * ------------------------------------------------------------------------------------------------ */

static struct crl_ckpt *open_ok(const char *path)
{
    struct crl_ckpt *ck;
    struct crl_err err = { "" };

    if (crl_ckpt_open(&ck, path, &err)) fail_msg("%s: %s", path, err.text);
    return ck;
}

static void expect_refusal(const char *path, const char *said)
{
    struct crl_ckpt *ck;
    struct crl_err err = { "" };

    assert_int_not_equal(crl_ckpt_open(&ck, path, &err), CRL_OK);
    assert_null(ck);
    if (!strstr(err.text, said)) fail_msg("expected \"%s\", said \"%s\"", said, err.text);
}

static void every_golden_case_opens(void **state)
{
    static const char *const names[] = { "A", "B", "C",  "D",  "E1", "E2", "F",  "G", "H",
                                         "I", "J", "K1", "K2", "L1", "L2", "L3", "M", "N",
                                         "O", "P", "Q",  "R",  "U1", "U2", "U3", "U4" };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *folder = stage_case(names[i]);
        struct crl_ckpt *ck = open_ok(folder);
        const struct crl_config *c = crl_ckpt_config(ck);
        assert_int_equal(c->multimodal, strchr("ABFGHP", names[i][0]) != NULL || strcmp(names[i], "E1") == 0);
        assert_int_equal(c->tied, names[i][0] == 'I');
        crl_ckpt_close(ck);
        stage_remove(folder);
    }
}

static void files_and_folders_are_told_apart(void **state)
{
    char *folder = stage_case("M");
    struct crl_ckpt *ck = open_ok(stage_path(folder, "model.safetensors.index.json"));
    struct crl_ckpt_facts f;

    (void)state;
    crl_ckpt_facts(ck, &f);
    assert_int_equal(f.n_file, 4);
    crl_ckpt_close(ck);
    expect_refusal(stage_path(folder, "config.json"), "neither a checkpoint folder nor");
    expect_refusal("no-such-folder", "no-such-folder: no such file or folder");
    unlink(stage_path(folder, "model.safetensors.index.json"));
    expect_refusal(folder, "neither model.safetensors nor model.safetensors.index.json");
    stage_write(folder, "consolidated.00.pth", "PK", 2);
    expect_refusal(folder, "neither model.safetensors"); /* config.json says which layout is meant */
    unlink(stage_path(folder, "config.json"));
    expect_refusal(folder, "params.json: No such file");
    unlink(stage_path(folder, "consolidated.00.pth"));
    expect_refusal(folder, "config.json: No such file");
    stage_remove(folder);
}

static void index_corpus_is_sorted_into_good_and_bad(void **state)
{
    char name[200], verdict[8], from[5000];
    FILE *list = fopen(stage_path(stage_golden(), "malformed/index/LIST"), "r");
    char *folder = stage_case("M");

    (void)state;
    assert_non_null(list);
    snprintf(from, sizeof from, "%s/malformed/index", stage_golden());
    while (fscanf(list, "%199s %7s%*[^\n]", name, verdict) == 2) {
        struct crl_ckpt *ck;
        struct crl_err err = { "" };
        enum crl_status st;
        char *text;
        size_t len;
        assert_int_equal(crl_file_read(&text, &len, stage_path(from, name), 1 << 20, NULL), CRL_OK);
        stage_write(folder, "model.safetensors.index.json", text, len);
        crl_free(text);
        st = crl_ckpt_open(&ck, folder, &err);
        if ((st == CRL_OK) != (strcmp(verdict, "ok") == 0))
            fail_msg("%s is %s, said: %s", name, verdict, err.text);
        if (st && !strstr(err.text, folder)) fail_msg("%s: no file is named: %s", name, err.text);
        crl_ckpt_close(ck);
    }
    fclose(list);
    stage_remove(folder);
}

static void shard_that_is_a_pointer_is_called_so(void **state)
{
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n";
    char *folder = stage_case("M");

    (void)state;
    stage_write(folder, "model-00002-of-00004.safetensors", lfs, sizeof lfs - 1);
    expect_refusal(folder, "model-00002-of-00004.safetensors: this is a Git LFS pointer");
    stage_remove(folder);
}

#define LAYER "language_model.model.layers.1."

static void what_does_not_fit_is_named(void **state)
{
    char *folder;

    (void)state;
    folder = stage_case("A");
    stage_drop(folder, LAYER "self_attn.k_proj.weight");
    expect_refusal(folder, "tensor " LAYER "self_attn.k_proj.weight is missing");
    stage_remove(folder);

    folder = stage_case("A");
    stage_add(folder, LAYER "self_attn.q_proj.bias", "BF16", "[64]", 128);
    expect_refusal(folder, "tensor " LAYER "self_attn.q_proj.bias has no place in this configuration");
    stage_remove(folder);

    folder = stage_case("A");
    stage_reshape(folder, LAYER "feed_forward.experts.down_proj", "[4, 64, 48]");
    expect_refusal(folder, "model.safetensors: tensor " LAYER
                           "feed_forward.experts.down_proj: shape [4, 64, 48], but "
                           "the configuration asks for [4, 48, 64]");
    stage_remove(folder);

    folder = stage_case("A");
    stage_retype(folder, LAYER "input_layernorm.weight", "I16");
    expect_refusal(folder, "tensor " LAYER "input_layernorm.weight: type I16 is not read");
    stage_remove(folder);

    folder = stage_case("A");
    stage_drop(folder, "language_model.lm_head.weight");
    expect_refusal(folder,
                   "tensor language_model.lm_head.weight is missing, and tie_word_embeddings is not true");
    stage_config(folder, "/tie_word_embeddings", "true");
    crl_ckpt_close(open_ok(folder));
    stage_remove(folder);

    folder = stage_case("A");
    stage_config(folder, "num_hidden_layers", "6");
    expect_refusal(folder, "language_model.model.layers.5.");
    stage_config(folder, "num_hidden_layers", "4");
    expect_refusal(folder, "has no place in this configuration");
    stage_remove(folder);
}

static void claims_beyond_the_files_cost_nothing(void **state)
{
    char *folder = stage_case("A");

    (void)state;
    stage_config(folder, "num_local_experts", "65536");
    expect_refusal(folder,
                   "feed_forward.router.weight: shape [4, 64], but the configuration asks for [65536, 64]");
    stage_config(folder, "num_local_experts", "4");
    stage_config(folder, "num_hidden_layers", "1024");
    expect_refusal(folder, "layers.5.feed_forward.router.weight is missing");
    stage_remove(folder);
}

static void scales_of_fp8_are_checked(void **state)
{
    static const char w[] = "language_model.model.layers.0.feed_forward.experts.0.down_proj.weight";
    char *folder = stage_case("N"), name[200];

    (void)state;
    snprintf(name, sizeof name, "%s_scale", w);
    stage_reshape(folder, name, "[1, 32]");
    expect_refusal(folder, "there is one scale, one per row ([32, 1])");
    stage_reshape(folder, name, "[32]");
    crl_ckpt_close(open_ok(folder));
    stage_drop(folder, name);
    expect_refusal(
        folder, "down_proj.weight_scale is missing (config.json says it is quantised by compressed-tensors)");
    stage_remove(folder);
}

/* --- rows
 * ------------------------------------------------------------------------------------------------------- */

static float *read_all(const struct crl_ckpt *ck, size_t i, size_t step)
{
    const struct crl_weight *w = &crl_ckpt_schema(ck)->weight[i];
    size_t n = crl_n_panel(w->n);
    float *rows = crl_alloc(n * CRL_PANEL_ROWS * w->k, sizeof *rows);

    for (size_t p = 0; p < n; p += step)
        crl_ckpt_read(ck, i, p, n - p < step ? n - p : step, rows + p * CRL_PANEL_ROWS * w->k, NULL);
    return rows;
}

static float bf16_at(const struct crl_st *st, const char *name, size_t i)
{
    const struct crl_st_tensor *t = crl_st_find(st, name);

    unsigned char raw[2];

    assert_non_null(t);
    assert_int_equal(crl_in_read(crl_st_in(st), t->offset + 2 * i, raw, 2, NULL), CRL_OK);
    return crl_bf16_to_f32(crl_le16(raw));
}

static void fused_experts_come_out_by_rows(void **state)
{
    enum { D = 64, F = 48 };
    char *folder = stage_case("A");
    struct crl_ckpt *ck = open_ok(folder);
    const struct crl_schema *s = crl_ckpt_schema(ck);
    struct crl_st *st;

    (void)state;
    assert_int_equal(crl_st_open(&st, stage_path(folder, "model.safetensors"), NULL), CRL_OK);
    for (uint32_t e = 0; e < 4; e++) {
        float *gu = read_all(ck, crl_schema_find(s, CRL_KIND_EXPERT_GATE_UP, 1, e), 2);
        float *down = read_all(ck, crl_schema_find(s, CRL_KIND_EXPERT_DOWN, 1, e), 3);
        for (size_t f = 0; f < F; f++)
            for (size_t d = 0; d < D; d++) {
                size_t at = ((size_t)e * D + d) * 2 * F + f;
                const char *name = LAYER "feed_forward.experts.gate_up_proj";
                assert_true(gu[crl_gate_row(f) * D + d] == bf16_at(st, name, at));
                assert_true(gu[crl_up_row(f) * D + d] == bf16_at(st, name, at + F));
                assert_true(down[d * F + f] ==
                            bf16_at(st, LAYER "feed_forward.experts.down_proj", ((size_t)e * F + f) * D + d));
            }
        crl_free(gu);
        crl_free(down);
    }
    crl_st_close(st);
    crl_ckpt_close(ck);
    stage_remove(folder);
}

static void fp8_rows_carry_their_scale(void **state)
{
    static const char w[] = "language_model.model.layers.1.feed_forward.experts.2.up_proj.weight";
    static const char s[] = "language_model.model.layers.1.feed_forward.experts.2.up_proj.weight_scale";
    char *folder = stage_case("N");
    struct crl_ckpt *ck = open_ok(folder);
    float *gu = read_all(ck, crl_schema_find(crl_ckpt_schema(ck), CRL_KIND_EXPERT_GATE_UP, 1, 2), 4);
    struct crl_st *st;
    const struct crl_st_tensor *t, *scale;
    unsigned char codes[24 * 32], scales[4 * 24];

    (void)state;
    assert_int_equal(crl_st_open(&st, stage_path(folder, "model.safetensors"), NULL), CRL_OK);
    t = crl_st_find(st, w);
    scale = crl_st_find(st, s);
    assert_int_equal(scale->type, CRL_ST_F32);
    assert_int_equal(crl_in_read(crl_st_in(st), t->offset, codes, sizeof codes, NULL), CRL_OK);
    assert_int_equal(crl_in_read(crl_st_in(st), scale->offset, scales, sizeof scales, NULL), CRL_OK);
    for (size_t f = 0; f < 24; f++)
        for (size_t d = 0; d < 32; d++)
            assert_true(gu[crl_up_row(f) * 32 + d] == crl_e4m3_to_f32(codes[f * 32 + d]) *
                                                          crl_f32_from_bits(crl_le32(scales + 4 * f)));
    for (size_t f = 24; f < 32; f++) /* padding of the last panels */
        for (size_t d = 0; d < 32; d++)
            assert_true(gu[crl_up_row(f) * 32 + d] == 0 && gu[crl_gate_row(f) * 32 + d] == 0);
    crl_free(gu);
    crl_st_close(st);
    crl_ckpt_close(ck);
    stage_remove(folder);
}

static void rows_do_not_depend_on_how_they_are_asked_for(void **state)
{
    static const char *const names[] = { "A", "C", "N", "Q", "R", "U1", "U2", "U3" };

    (void)state;
    for (size_t c = 0; c < sizeof names / sizeof names[0]; c++) {
        char *folder = stage_case(names[c]);
        struct crl_ckpt *ck = open_ok(folder);
        const struct crl_schema *s = crl_ckpt_schema(ck);
        for (size_t i = 0; i < s->n_weight; i++) {
            size_t bytes = crl_n_panel(s->weight[i].n) * CRL_PANEL_ROWS * s->weight[i].k * sizeof(float);
            float *a = read_all(ck, i, 2), *b = read_all(ck, i, 1000);
            assert_memory_equal(a, b, bytes);
            crl_free(a);
            crl_free(b);
        }
        crl_ckpt_close(ck);
        stage_remove(folder);
    }
}

static void allocation_failures_are_reported(void **state)
{
    char *folder = stage_case("M");
    struct crl_ckpt *ck;
    size_t n;

    (void)state;
    crl_alloc_fail_after(0);
    crl_ckpt_close(open_ok(folder));
    n = crl_alloc_fail_after(0);
    for (size_t i = 1; i <= n; i++) {
        struct crl_err err = { "" };
        crl_alloc_fail_after(i);
        assert_int_equal(crl_ckpt_open(&ck, folder, &err), CRL_ENOMEM);
        assert_null(ck);
        assert_true(err.text[0]);
    }
    crl_alloc_fail_after(0);
    stage_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corpus_is_sorted_into_good_and_bad),
        cmocka_unit_test(absent_keys_have_the_library_defaults),
        cmocka_unit_test(every_spelling_of_rope_scaling_is_read),
        cmocka_unit_test(early_uploads_are_remarked_upon),
        cmocka_unit_test(layer_types_must_agree_with_rotary_layers),
        cmocka_unit_test(generation_ids_replace_those_of_the_config),
        cmocka_unit_test(every_golden_case_opens),
        cmocka_unit_test(files_and_folders_are_told_apart),
        cmocka_unit_test(index_corpus_is_sorted_into_good_and_bad),
        cmocka_unit_test(shard_that_is_a_pointer_is_called_so),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(claims_beyond_the_files_cost_nothing),
        cmocka_unit_test(scales_of_fp8_are_checked),
        cmocka_unit_test(fused_experts_come_out_by_rows),
        cmocka_unit_test(fp8_rows_carry_their_scale),
        cmocka_unit_test(rows_do_not_depend_on_how_they_are_asked_for),
        cmocka_unit_test(allocation_failures_are_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
