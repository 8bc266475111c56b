/* test_store.c - the packed file: what is written is read back, the bytes depend on the content alone, and
 * every damage is refused with a sentence. tests/golden/packed/tiny.crl, made by another program, pins
 * version 1.
 *
 * With CORRAL_TEST_WRITE=FOLDER the seeds of tests/fuzz/corpus/pack are written there instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "store/layout.h"
#include "store/pack.h"

#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* --- a tiny model ------------------------------------------------------------------------------------- */

/* Every kind of matrix, no dimension a multiple of a panel or block. */
static struct crl_config tiny(void)
{
    struct crl_config c;

    memset(&c, 0, sizeof c);
    c.n_layer = 2;
    c.n_head = 4;
    c.n_kv_head = 2;
    c.d_head = 6;
    c.d_model = 40;
    c.d_ff = 20;
    c.d_ff_dense = 36;
    c.vocab = 70;
    c.n_expert = 3;
    c.n_expert_used = 2;
    c.n_ctx = 128;
    c.chunk = 16;
    c.floor_scale = 4;
    c.attn_scale = 0.1f;
    c.norm_eps = 1e-5f;
    c.rope_theta = 10000;
    c.temperature_tuning = c.attention_bias = true;
    c.bos = 1;
    c.pad = -1;
    c.image_token = -1;
    c.n_eos = 1;
    c.eos[0] = 2;
    c.uses_rope[0] = 1;
    c.is_moe[1] = 1;
    return c;
}

static const struct crl_sections some_sections = {
    { [CRL_SECTION_TOKENIZER] = "tokens",
      [CRL_SECTION_GENERATION] = "{}",
      [CRL_SECTION_CHAT_TEMPLATE] = "{{ x }}" },
    { [CRL_SECTION_TOKENIZER] = 6, [CRL_SECTION_GENERATION] = 2, [CRL_SECTION_CHAT_TEMPLATE] = 7 }
};

static struct crl_recipe recipe(const char *name)
{
    static const char *const list[] = { "*.layers.1.self_attn.k_proj.weight=bf16",
                                        "*shared_expert.down_proj*=q8" };
    struct crl_recipe r;

    assert_int_equal(crl_recipe_parse(&r, name, list, 2, NULL), CRL_OK);
    return r;
}

static uint32_t noise(uint64_t i)
{
    i = (i + 1) * 0x9e3779b97f4a7c15u;
    i = (i ^ i >> 31) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)(i >> 32);
}

/* Code, level or number (r, c) of matrix w: what it is supposed to be, whatever the layout. */
static int code_of(size_t w, size_t r, size_t c)
{
    return (int)(noise(w << 40 | r << 20 | c) % 255) - 127;
}

static float scale_of(size_t w, size_t r, size_t b)
{
    return crl_bf16_to_f32(crl_bf16_from_f32((float)(1 + noise(w << 41 | r << 21 | b) % 1000) / 4096.0f));
}

static int8_t level_of(size_t w, int code)
{
    return (int8_t)(code * 16 - 120 + (int)(w % 7));
}

/* Weight (r, c) as docs/format.md, section 8, would have it. */
static float value_of(enum crl_format f, size_t w, size_t r, size_t c)
{
    switch (f) {
    case CRL_F32: return (float)code_of(w, r, c) / 3.0f;
    case CRL_BF16: return crl_bf16_to_f32(crl_bf16_from_f32((float)code_of(w, r, c) / 3.0f));
    case CRL_Q8: return scale_of(w, r, c / 32) * (float)code_of(w, r, c);
    default:
        return scale_of(w, r, 999) *
               (float)(code_of(w, r, 1000 + c / 32) * level_of(w, code_of(w, r, c) & 15));
    }
}

/* The bytes of panel-formatted matrix w, by the formulas of docs/format.md, section 8. */
static void fill_panel(enum crl_format f, size_t w, size_t p, size_t n, size_t k, unsigned char *panel)
{
    size_t kp = (k + 31) / 32 * 32, nb = kp / 32;

    for (size_t r = 0; r < 16 && p * 16 + r < n; r++) {
        size_t row = p * 16 + r, s8 = (32 * nb + 63) / 64 * 64, s4 = 64 + (16 * nb + 63) / 64 * 64;
        if (f == CRL_Q4) crl_put_le32(panel + 4 * r, crl_f32_bits(scale_of(w, row, 999)));
        for (size_t b = 0; b < nb; b++) {
            if (f == CRL_Q8) crl_put_le16(panel + 32 * b + 2 * r, crl_bf16_from_f32(scale_of(w, row, b)));
            if (f == CRL_Q4) panel[64 + 16 * b + r] = (unsigned char)(int8_t)code_of(w, row, 1000 + b);
        }
        for (size_t c = 0; c < k; c++) {
            int code = code_of(w, row, c);
            size_t g = c % 32 / 4;
            if (f == CRL_BF16)
                crl_put_le16(panel + 64 * (c / 2) + 4 * r + 2 * (c % 2),
                             crl_bf16_from_f32((float)code / 3.0f));
            if (f == CRL_Q8) panel[s8 + 64 * (c / 4) + 4 * r + c % 4] = (unsigned char)(int8_t)code;
            if (f == CRL_Q4)
                panel[s4 + 256 * (c / 32) + 64 * (g / 2) + 4 * r + c % 4] |=
                    (unsigned char)((code & 15) << (g % 2 * 4));
        }
    }
}

static unsigned char *matrix_bytes(const struct crl_packer *pk, size_t w)
{
    const struct crl_weight *x = &crl_packer_schema(pk)->weight[w];
    enum crl_format f = crl_packer_format(pk, w);
    unsigned char *data = crl_alloc((size_t)crl_packer_weight_bytes(pk, w), 1), *at = data;

    if (f == CRL_F32) {
        for (size_t c = 0; c < x->k; c++) crl_put_le32(data + 4 * c, crl_f32_bits(value_of(f, w, 0, c)));
        return data;
    }
    if (f == CRL_Q4) {
        for (int i = 0; i < 16; i++) at[i] = (unsigned char)level_of(w, i);
        at += 64;
    }
    for (size_t p = 0; p * 16 < x->n; p++, at += crl_panel_bytes(f, x->k))
        fill_panel(f, w, p, x->n, x->k, at);
    assert_int_equal(at - data, crl_packer_weight_bytes(pk, w));
    return data;
}

static void must(enum crl_status st, const struct crl_err *err)
{
    if (st) fail_msg("%s: %s", crl_status_name(st), err->text);
}

static struct crl_packer *new_packer(const char *path, const char *recipe_name)
{
    struct crl_config c = tiny();
    struct crl_recipe r = recipe(recipe_name);
    struct crl_packer *pk;
    struct crl_err err = { "" };

    must(crl_packer_new(&pk, path, &c, &r, &some_sections, &err), &err);
    return pk;
}

static void put_all(struct crl_packer *pk)
{
    struct crl_err err = { "" };

    for (size_t w = 0; w < crl_packer_schema(pk)->n_weight; w++) {
        unsigned char *data = matrix_bytes(pk, w);
        must(crl_packer_put(pk, w, 0, data, (size_t)crl_packer_weight_bytes(pk, w), &err), &err);
        crl_free(data);
    }
    for (size_t e = 0; e < crl_packer_schema(pk)->n_extent; e++)
        must(crl_packer_extent_done(pk, e, &err), &err);
    must(crl_packer_commit(pk, &err), &err);
}

static struct crl_pack *tiny_pack(const char *recipe_name)
{
    struct crl_packer *pk = new_packer(NULL, recipe_name);
    struct crl_pack *p;
    struct crl_err err = { "" };

    put_all(pk);
    must(crl_packer_take(pk, &p, "tiny", &err), &err);
    crl_packer_close(pk);
    return p;
}

static void assert_same_image(const struct crl_pack *p, const void *data, uint64_t size)
{
    assert_int_equal(crl_pack_size(p), size);
    assert_memory_equal(crl_pack_data(p), data, (size_t)size);
}

/* --- reading what was written ------------------------------------------------------------------------- */

static void weights_come_back_as_the_document_says(void **state)
{
    static const char *const name[] = { "bf16", "q8", "q4" };

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct crl_pack *p = tiny_pack(name[i]);
        const struct crl_schema *s = crl_pack_schema(p);
        struct crl_err err = { "" };

        must(crl_pack_verify(p, NULL, NULL, NULL, &err), &err);
        assert_string_equal(crl_pack_recipe(p), name[i]);
        for (size_t w = 0; w < s->n_weight; w++) {
            struct crl_mat m;
            float row[64];
            crl_pack_mat(p, w, &m);
            assert_int_equal((uintptr_t)m.panel % 64, 0);
            assert_int_equal(m.n, s->weight[w].n);
            for (size_t r = 0; r < m.n; r++) {
                crl_mat_row(&m, r, row);
                for (size_t c = 0; c < m.k; c++) {
                    float want = value_of(m.format, w, r, c);
                    if (!(row[c] >= want - 1e-6f &&
                          row[c] <= want + 1e-6f)) /* order of the two products is free */
                        fail_msg("weight %zu (%zu, %zu): %.9g, expected %.9g", w, r, c, row[c], want);
                }
            }
        }
        crl_pack_close(p);
    }
}

static void config_sections_and_names_come_back(void **state)
{
    struct crl_pack *p = tiny_pack("q4");
    struct crl_config c = tiny();
    char *want = crl_config_to_json(&c), *got = crl_config_to_json(crl_pack_config(p));
    struct crl_err err = { "" };
    const unsigned char *data;
    struct crl_mat m;
    size_t len;

    (void)state;
    assert_string_equal(want, got);
    data = crl_pack_section(p, CRL_SECTION_TOKENIZER, &len);
    assert_int_equal(len, 6);
    assert_memory_equal(data, "tokens", 6);
    data = crl_pack_section(p, CRL_SECTION_PROVENANCE, &len);
    assert_memory_equal(data, "{\"recipe\":\"q4\",\"overrides\":[\"*.layers.1.self_attn.k_proj.weight=bf16\","
                              "\"*shared_expert.down_proj*=q8\"]}", len);
    assert_null(crl_pack_section(p, CRL_SECTION_PREPROCESSING, &len));
    assert_int_equal(len, 0);
    must(crl_pack_mat_named(p, "model.layers.1.self_attn.k_proj.weight", &m, &err), &err);
    assert_int_equal(m.format, CRL_BF16);
    must(crl_pack_mat_named(p, "model.embed_tokens.weight", &m, &err), &err);
    assert_int_equal(m.format, CRL_Q8);
    assert_int_equal(crl_pack_mat_named(p, "model.layers.9.x", &m, &err), CRL_ENOENT);
    assert_string_equal(err.text, "tiny: no tensor model.layers.9.x");
    crl_free(want);
    crl_free(got);
    crl_pack_close(p);
}

static void totals_of_a_pack_are_those_of_its_recipe(void **state)
{
    struct crl_pack *p = tiny_pack("q4");
    struct crl_recipe r = recipe("q4");
    struct crl_totals a, b;

    (void)state;
    assert_int_equal(crl_pack_totals(p, &a, NULL), CRL_OK);
    assert_int_equal(crl_recipe_totals(&r, crl_pack_schema(p), &b, NULL), CRL_OK);
    assert_memory_equal(&a, &b, sizeof a);
    crl_pack_close(p);
}

/* --- layout ------------------------------------------------------------------------------------------- */

static void layout_of_scout_is_aligned_and_tight(void **state)
{
    struct crl_config c = tiny();
    struct crl_recipe r;
    struct crl_schema *s;
    struct crl_layout *l;
    struct crl_totals t;
    uint64_t end = 0;

    (void)state;
    c.n_layer = 48;
    c.n_head = 40;
    c.n_kv_head = 8;
    c.d_head = 128;
    c.d_model = 5120;
    c.d_ff = 8192;
    c.vocab = 202048;
    c.n_expert = 16;
    c.attention_bias = false;
    memset(c.is_moe, 1, 48);
    assert_int_equal(crl_recipe_parse(&r, "q4", NULL, 0, NULL), CRL_OK);
    assert_int_equal(crl_schema_build(&s, &c, NULL), CRL_OK);
    assert_int_equal(crl_layout_new(&l, s, NULL), CRL_OK);
    for (size_t i = 0; i < s->n_weight; i++) l->format[i] = crl_recipe_format(&r, &s->weight[i]);
    l->section[CRL_SECTION_CONFIG].size = 1000;
    l->section[CRL_SECTION_PROVENANCE].size = 20;
    assert_int_equal(crl_layout_compute(l, NULL), CRL_OK);
    for (size_t e = 0; e < s->n_extent; e++) {
        assert_int_equal(l->extent[e].offset % (l->extent[e].size >= 32 << 20 ? 2 << 20 : 4096), 0);
        assert_int_equal(l->extent[e].size % 4096, 0);
        assert_true(l->extent[e].offset >= end);
        end = l->extent[e].offset + l->extent[e].size;
    }
    assert_int_equal(end, l->file_bytes);
    assert_int_equal(crl_recipe_totals(&r, s, &t, NULL), CRL_OK);
    assert_true(l->file_bytes < t.bytes + t.bytes / 200); /* half a percent of alignment */
    crl_layout_free(l);
    crl_schema_free(s);
}

/* --- writing ------------------------------------------------------------------------------------------ */

struct slices {
    struct crl_packer *pk;
    atomic_int bad;
};

/* One matrix in slices of odd sizes, the last slice first. */
static void put_backwards(size_t w, unsigned member, void *arg)
{
    struct slices *s = arg;
    unsigned char *data = matrix_bytes(s->pk, w);
    size_t at = (size_t)crl_packer_weight_bytes(s->pk, w), step = 37;

    (void)member;
    while (at) {
        size_t n = at < step ? at : step;
        at -= n;
        if (crl_packer_put(s->pk, w, at, data + at, n, NULL)) atomic_fetch_add(&s->bad, 1);
        step = step * 2 + 1;
    }
    crl_free(data);
}

static void finish(size_t e, unsigned member, void *arg)
{
    struct slices *s = arg;

    (void)member;
    if (crl_packer_extent_done(s->pk, e, NULL)) atomic_fetch_add(&s->bad, 1);
}

static void bytes_do_not_depend_on_order_threads_or_target(void **state)
{
    const char *path = "test_store_order.crl";
    struct crl_pack *want = tiny_pack("q4");

    (void)state;
    for (unsigned threads = 1; threads <= 3; threads++)
        for (int on_disk = 0; on_disk < 2; on_disk++) {
            struct slices s = { new_packer(on_disk ? path : NULL, "q4"), 0 };
            struct crl_team *team;
            struct crl_pack *p;
            struct crl_err err = { "" };

            must(crl_team_new(&team, threads, false, &err), &err);
            crl_team_each(team, crl_packer_schema(s.pk)->n_weight, put_backwards, &s);
            crl_team_each(team, crl_packer_schema(s.pk)->n_extent, finish, &s);
            assert_int_equal(s.bad, 0);
            must(crl_packer_commit(s.pk, &err), &err);
            if (on_disk) must(crl_pack_open(&p, path, &err), &err);
            else must(crl_packer_take(s.pk, &p, "memory", &err), &err);
            must(crl_pack_verify(p, team, NULL, NULL, &err), &err);
            assert_same_image(want, crl_pack_data(p), crl_pack_size(p));
            crl_pack_close(p);
            crl_packer_close(s.pk);
            crl_team_free(team);
        }
    unlink(path);
    crl_pack_close(want);
}

static void whole_extents_give_the_same_bytes(void **state)
{
    struct crl_pack *want = tiny_pack("q4"), *p;
    struct crl_packer *pk = new_packer(NULL, "q4");
    struct crl_err err = { "" };

    (void)state;
    for (size_t e = 0; e < crl_packer_schema(pk)->n_extent; e++) {
        assert_int_equal(crl_packer_extent_bytes(pk, e), crl_pack_extent(want, e)->size);
        must(crl_packer_put_extent(pk, e, crl_pack_data(want) + crl_pack_extent(want, e)->offset, &err),
             &err);
    }
    must(crl_packer_commit(pk, &err), &err);
    must(crl_packer_take(pk, &p, "memory", &err), &err);
    assert_same_image(want, crl_pack_data(p), crl_pack_size(p));
    crl_pack_close(p);
    crl_packer_close(pk);
    crl_pack_close(want);
}

static unsigned files_named(const char *prefix)
{
    DIR *d = opendir(".");
    unsigned n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += !strncmp(e->d_name, prefix, strlen(prefix));
    closedir(d);
    return n;
}

static void unfinished_files_are_not_left_behind(void **state)
{
    struct crl_packer *pk = new_packer("test_store_partial.crl", "q8");
    unsigned char *data = matrix_bytes(pk, 0);
    size_t bytes = (size_t)crl_packer_weight_bytes(pk, 0);
    struct crl_err err = { "" };
    struct crl_pack *p;

    (void)state;
    assert_int_equal(crl_packer_put(pk, 0, 1, data, bytes, &err), CRL_ERANGE);
    err.text[0] = 0;
    must(crl_packer_put(pk, 0, 0, data, bytes - 1, &err), &err);
    assert_int_equal(crl_packer_extent_done(pk, 0, &err), CRL_ERANGE);
    assert_non_null(strstr(err.text, "model.embed_tokens.weight"));
    err.text[0] = 0;
    must(crl_packer_put(pk, 0, bytes - 1, data + bytes - 1, 1, &err), &err);
    must(crl_packer_extent_done(pk, 0, &err), &err);
    assert_int_equal(crl_packer_commit(pk, &err), CRL_ERANGE);
    assert_non_null(
        strstr(err.text, "extent 1 (from model.layers.0.input_layernorm.weight) was never finished"));
    assert_int_equal(crl_packer_take(pk, &p, "x", NULL), CRL_ERANGE);
    assert_int_equal(files_named("test_store_partial.crl"), 1);
    crl_packer_close(pk);
    assert_int_equal(files_named("test_store_partial.crl"), 0);
    crl_free(data);
}

/* A limit on file sizes stands for a full disk. */
static void full_disks_leave_nothing_behind(void **state)
{
    struct rlimit old, small;
    struct crl_config c = tiny();
    struct crl_recipe r = recipe("q4");
    struct crl_packer *pk;
    struct crl_err err = { "" };
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    enum crl_status st;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 16384;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    st = crl_packer_new(&pk, "test_store_full.crl", &c, &r, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, CRL_EFULL);
    assert_null(pk);
    assert_non_null(strstr(err.text, "test_store_full.crl: cannot make a file of"));
    assert_int_equal(files_named("test_store_full.crl"), 0);
}

static void packer_refuses_what_makes_no_file(void **state)
{
    struct crl_config c = tiny();
    struct crl_recipe r = recipe("q4");
    struct crl_sections s = some_sections;
    struct crl_packer *pk = (void *)&c;
    struct crl_err err = { "" };

    (void)state;
    s.len[CRL_SECTION_TOKENIZER] = CRL_SECTION_MAX + 1;
    assert_int_equal(crl_packer_new(&pk, NULL, &c, &r, &s, &err), CRL_ERANGE);
    assert_null(pk);
    assert_non_null(strstr(err.text, "section tokenizer has 1073741825 bytes"));
    c.n_kv_head = 3;
    assert_int_equal(crl_packer_new(&pk, NULL, &c, &r, NULL, NULL), CRL_EFORMAT);
    c = tiny();
    assert_int_equal(crl_packer_new(&pk, "no/such/folder/x.crl", &c, &r, NULL, NULL), CRL_EIO);
    strcpy(r.override[0].glob, "\xff*");
    assert_int_not_equal(crl_packer_new(&pk, NULL, &c, &r, NULL, NULL), CRL_OK);
}

/* --- damage ------------------------------------------------------------------------------------------- */

/* A copy of a good image that may be damaged. */
struct image {
    unsigned char *data;
    uint64_t size;
};

static struct image copy_of(const struct crl_pack *p)
{
    struct image m = { crl_alloc((size_t)crl_pack_size(p), 1), crl_pack_size(p) };

    memcpy(m.data, crl_pack_data(p), (size_t)m.size);
    return m;
}

/* Make the directory hash right again, so that the check behind it is reached. */
static void repair(struct image *m)
{
    uint64_t bytes = crl_le64(m->data + 24), hash;

    if (bytes < 64 || bytes > m->size) return;
    assert_true(crl_dir_hash(m->data, bytes, &hash));
    crl_put_le64(m->data + 32, hash);
}

/* The image must be refused with one sentence that has `says` in it. */
static void assert_refused(const struct image *m, const char *says)
{
    struct crl_pack *p = (void *)m;
    struct crl_err err = { "" };
    enum crl_status st = crl_pack_open_mem(&p, m->data, m->size, "damaged.crl", &err);

    if (!st) {
        crl_pack_close(p);
        fail_msg("accepted, but expected \"%s\"", says);
    }
    assert_null(p);
    assert_true(st == CRL_EFORMAT || st == CRL_EUNSUPPORTED);
    assert_int_equal(strncmp(err.text, "damaged.crl: ", 13), 0);
    if (!strstr(err.text, says)) fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void fields_that_are_wrong_are_named(void **state)
{
    enum { SEC = 64, EXT = 64 + 5 * 32, MAT = EXT + 12 * 32 }; /* five sections, twelve extents */
    static const struct {
        unsigned at, width;
        uint64_t value;
        const char *says;
    } row[] = {
        { 0, 1, 0x88, "wrong magic" },
        { 4, 1, 0x0a, "wrong magic" },
        { 8, 4, 0, "version 0 of the packed file, this program reads versions 1 to 2" },
        { 8, 4, 2, "version 2 of the packed file, its configuration belongs to version 1" },
        { 8, 4, 3, "version 3 of" },
        { 12, 4, 1, "reserved field of the header" },
        { 52, 4, 1, "reserved field of the header" },
        { 60, 4, 1, "reserved field of the header" },
        { 16, 8, 64, "its header says 64" },
        { 16, 8, UINT64_MAX, "its header says 18446744073709551615" },
        { 24, 8, 0, "the directory has 0 bytes" },
        { 24, 8, UINT64_MAX, "the directory has 18446744073709551615 bytes" },
        { 40, 4, 0, "0 sections, outside 2 to 6" },
        { 40, 4, 7, "7 sections, outside 2 to 6" },
        { 40, 4, UINT32_MAX, "outside 2 to 6" },
        { 40, 4, 4, "4 sections" },
        { 44, 4, 11, "11 extents" },
        { 44, 4, UINT32_MAX, "4294967295 extents" },
        { 48, 4, 0, "0 matrices" },
        { 48, 4, UINT32_MAX, "4294967295 matrices" },
        { SEC, 4, 0, "section 0 has kind 0, expected 1 to 6" },
        { SEC, 4, 3, "section 1 has kind 2, expected 4 to 6" },
        { SEC + 32, 4, 1, "section 1 has kind 1" },
        { SEC + 4 * 32, 4, 7, "section 4 has kind 7" },
        { SEC + 4 * 32, 4, 5, "section provenance is missing" },
        { SEC + 4, 4, 1, "its reserved field" },
        { SEC + 8, 8, 0, "section config is at 0" },
        { SEC + 8, 8, UINT64_MAX, "section config is at" },
        { SEC + 16, 8, 0, "section config has 0 bytes" },
        { SEC + 16, 8, 65537, "section config has 65537 bytes" },
        { SEC + 32 + 16, 8, (1 << 30) + 1, "section tokenizer has 1073741825 bytes" },
        { SEC + 16, 8, UINT64_MAX, "section config has" },
        { SEC + 32 + 16, 8, 1 << 30, "section tokenizer ends beyond the file" },
        { SEC + 24, 8, 1, "section config is damaged: hash" },
        { SEC + 32 + 8, 8, 64, "section tokenizer is at 64" },
        { SEC + 32 + 16, 8, 5, "section tokenizer is damaged" },
        { SEC + 4 * 32 + 24, 8, 0, "section provenance is damaged" },
        { EXT, 8, 0, "extent 0 (from model.embed_tokens.weight): offset is 0" },
        { EXT + 32, 8, 4096,
          "extent 1 (from model.layers.0.input_layernorm.weight): offset is 4096, expected 12288" },
        { EXT + 8, 8, 0, "size is 0, expected" },
        { EXT + 8, 8, UINT64_MAX - 4095, "extent 0" },
        { EXT + 24, 4, 1, "first matrix is 1, expected 0" },
        { EXT + 28, 4, 2, "number of matrices is 2, expected 1" },
        { MAT, 2, 2, "matrix 0 (model.embed_tokens.weight): kind is 2, expected 1" },
        { MAT, 2, 300, "kind is 300" },
        { MAT + 2, 1, 0, "format 0 is none" },
        { MAT + 2, 1, 1, "format 1 is none" },
        { MAT + 2, 1, 5, "format 5 is none" },
        { MAT + 2, 1, 255, "format 255 is none" },
        { MAT + 2, 1, 2, "matrix 0 (model.embed_tokens.weight): size is" },
        { MAT + 3, 1, 1, "a reserved field is 1" },
        { MAT + 4, 4, 0, "layer is 0, expected 4294967295" },
        { MAT + 8, 4, 0, "expert is 0, expected" },
        { MAT + 12, 4, 1, "a reserved field is 1" },
        { MAT + 16, 8, 71, "number of rows is 71, expected 70" },
        { MAT + 16, 8, 1ull << 63, "number of rows" },
        { MAT + 24, 8, 0, "number of inputs is 0, expected 40" },
        { MAT + 32, 8, 64, "matrix 0 (model.embed_tokens.weight): offset is 64, expected 0" },
        { MAT + 40, 8, 1, "size is 1, expected" },
        { MAT + 48 + 2, 1, 2, "matrix 1 (model.layers.0.input_layernorm.weight): format 2 is none" },
        { MAT + 48 * 2 + 32, 8, 0,
          "matrix 2 (model.layers.0.post_attention_layernorm.weight): offset is 0, expected" },
        { MAT + 48 * 2 + 32, 8, UINT64_MAX - 63, "offset is" },
    };
    struct crl_pack *p = tiny_pack("q4");

    (void)state;
    assert_int_equal(crl_le32(crl_pack_data(p) + 40), 5);
    assert_int_equal(crl_le32(crl_pack_data(p) + 44), 12);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct image m = copy_of(p);
        for (unsigned b = 0; b < row[i].width; b++)
            m.data[row[i].at + b] = (unsigned char)(row[i].value >> 8 * b);
        repair(&m);
        assert_refused(&m, row[i].says);
        crl_free(m.data);
    }
    crl_pack_close(p);
}

/* Which bytes of the directory only verify can judge: the hashes of extents. */
static bool is_extent_hash(const struct crl_pack *p, size_t at)
{
    size_t first = 64 + 32 * (size_t)crl_le32(crl_pack_data(p) + 40);
    size_t end = first + 32 * crl_pack_schema(p)->n_extent;

    return at >= first && at < end && (at - first) % 32 >= 16 && (at - first) % 32 < 24;
}

static void every_byte_of_the_directory_counts(void **state)
{
    struct crl_pack *p = tiny_pack("q4");
    struct image m = copy_of(p);
    size_t bytes = (size_t)crl_le64(m.data + 24);

    (void)state;
    for (size_t at = 0; at < bytes; at++)
        for (int bit = 0; bit < 8; bit++) {
            uint64_t hash = crl_le64(m.data + 32);

            if (at == 64 + 3 * 32 && bit == 0)
                continue; /* the chat template becomes preprocessing: a good file */
            m.data[at] ^= (unsigned char)(1 << bit);
            if (at >= 64 || (at >= 32 && at < 40)) assert_refused(&m, "the directory is damaged");
            if (at < 32 || at >= 40) {
                struct crl_pack *q;
                struct crl_err err = { "" };
                repair(&m);
                if (!is_extent_hash(p, at)) assert_refused(&m, "");
                else {
                    must(crl_pack_open_mem(&q, m.data, m.size, "x", &err), &err);
                    assert_int_equal(crl_pack_verify(q, NULL, NULL, NULL, &err), CRL_EDIFFER);
                    crl_pack_close(q);
                }
                crl_put_le64(m.data + 32, hash);
            }
            m.data[at] ^= (unsigned char)(1 << bit);
        }
    crl_free(m.data);
    crl_pack_close(p);
}

static void truncated_files_are_refused_at_every_length(void **state)
{
    struct crl_pack *p = tiny_pack("q4");
    struct image m = copy_of(p), part;

    (void)state;
    for (part.size = 0; part.size < m.size; part.size += part.size < 4096 ? 1 : 64) {
        part.data = crl_alloc((size_t)part.size, 1); /* its own memory: a read past the end is seen */
        memcpy(part.data, m.data, (size_t)part.size);
        assert_refused(&part, part.size < 64 ? "too short" : "truncated");
        if (part.size >= 64) { /* a header that admits it */
            crl_put_le64(part.data + 16, part.size);
            repair(&part);
            assert_refused(&part, "");
        }
        crl_free(part.data);
    }
    part.size = m.size + 64;
    part.data = crl_alloc((size_t)part.size, 1);
    memcpy(part.data, m.data, (size_t)m.size);
    assert_refused(&part, "its header says");
    crl_put_le64(part.data + 16, part.size);
    repair(&part);
    assert_refused(&part, "its last extent ends at");
    crl_free(part.data);
    crl_free(m.data);
    crl_pack_close(p);
}

/* Section record of a kind inside an image. */
static unsigned char *record_of(const struct image *m, enum crl_section kind)
{
    unsigned char *r = m->data + 64;

    while (crl_le32(r) != (uint32_t)kind) r += 32;
    return r;
}

/* Replace the end of a section, keeping its length, and make its hash right. */
static void rewrite_section(struct image *m, enum crl_section kind, const char *from, const char *to)
{
    unsigned char *r = record_of(m, kind);
    char *text = crl_memdup0(m->data + crl_le64(r + 8), (size_t)crl_le64(r + 16)), *at = strstr(text, from);

    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    memcpy(m->data + crl_le64(r + 8), text, (size_t)crl_le64(r + 16));
    crl_put_le64(r + 24, crl_hash(text, (size_t)crl_le64(r + 16)));
    repair(m);
    crl_free(text);
}

static void sections_that_contradict_the_rest_are_refused(void **state)
{
    static const struct {
        enum crl_section kind;
        const char *from, *to, *says;
    } row[] = {
        { CRL_SECTION_CONFIG, "\"n_expert\":3", "\"n_expert\":4", "34 matrices, the configuration has 36" },
        { CRL_SECTION_CONFIG, "\"n_expert\":3", "\"n_expert\":2", "34 matrices, the configuration has 32" },
        { CRL_SECTION_CONFIG, "\"vocab\":70", "\"vocab\":71", "number of rows is 70, expected 71" },
        { CRL_SECTION_CONFIG, "\"d_model\":40", "\"d_model\":41", "number of inputs is 40, expected 41" },
        { CRL_SECTION_CONFIG, "\"n_kv_head\":2", "\"n_kv_head\":4", "number of inputs is 12, expected 24" },
        { CRL_SECTION_CONFIG, "\"is_moe\":[0,1]", "\"is_moe\":[1,0]",
          "router.weight): kind is 11, expected 10" },
        { CRL_SECTION_CONFIG, "\"tied\":false", "\"tied\":true ", "the configuration has 33" },
        { CRL_SECTION_CONFIG, "\"n_head\":4", "\"n_head\":0", "config: n_head is 0" },
        { CRL_SECTION_CONFIG, "{", " ", "config: line 1" },
        { CRL_SECTION_PROVENANCE, "{", " ", "provenance: line 1" },
        { CRL_SECTION_PROVENANCE, "\"recipe\"", "\"recipy\"", "provenance: unknown key \"recipy\"" },
        { CRL_SECTION_PROVENANCE, "\"q4\"", "  44", "provenance: recipe is not a name" },
        { CRL_SECTION_PROVENANCE, "\"q4\"", "\"\"  ", "provenance: recipe is not a name" },
        { CRL_SECTION_PROVENANCE, "[\"*.layers", "[7,\"*.laye", "provenance: overrides[0] is not a string" },
    };
    struct crl_pack *p = tiny_pack("q4");

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct image m = copy_of(p);
        rewrite_section(&m, row[i].kind, row[i].from, row[i].to);
        assert_refused(&m, row[i].says);
        crl_free(m.data);
    }
    crl_pack_close(p);
}

/* A file of 64 + 2 * 32 bytes and two sections that promises 134 million matrices. */
static void counts_are_checked_before_memory_is_taken(void **state)
{
    struct crl_config c = tiny();
    struct image m = { NULL, 0 };
    static const char made_by[] = "{\"recipe\":\"q4\"}";
    unsigned char *r;
    char *text;

    (void)state;
    c.n_layer = CRL_MAX_LAYER;
    c.n_expert = 65536;
    memset(c.is_moe, 1, sizeof c.is_moe);
    text = crl_config_to_json(&c);
    m.size = 128 + strlen(text) + 64 + sizeof made_by;
    m.data = crl_alloc((size_t)m.size, 1);
    memcpy(m.data, CRL_PACK_MAGIC, 8);
    crl_put_le32(m.data + 8, CRL_PACK_VERSION);
    crl_put_le64(m.data + 24, 128);
    crl_put_le32(m.data + 40, 2);
    for (int i = 0; i < 2; i++) {
        uint64_t at = i ? (128 + strlen(text) + 63) / 64 * 64 : 128, len = strlen(i ? made_by : text);
        r = m.data + 64 + 32 * i;
        crl_put_le32(r, i ? CRL_SECTION_PROVENANCE : CRL_SECTION_CONFIG);
        crl_put_le64(r + 8, at);
        crl_put_le64(r + 16, len);
        crl_put_le64(r + 24, crl_hash(i ? made_by : text, (size_t)len));
        memcpy(m.data + at, i ? made_by : text, (size_t)len);
        m.size = at + len;
    }
    crl_put_le64(m.data + 16, m.size);
    repair(&m);
    assert_refused(&m, "0 matrices, the configuration has 134231043");
    crl_put_le32(m.data + 44, 67111939); /* the directory cannot be that large either */
    crl_put_le32(m.data + 48, 134231043);
    crl_put_le64(m.data + 24, 128 + 32ull * 67111939 + 48ull * 134231043);
    assert_refused(&m, "the file only");
    crl_free(text);
    crl_free(m.data);
}

/* Where the hash is right whatever stands there: gaps are no part of a section or extent. */
static void bytes_in_gaps_are_refused(void **state)
{
    struct crl_pack *p = tiny_pack("q4"), *q;
    struct image m = copy_of(p);
    const unsigned char *r = record_of(&m, CRL_SECTION_TOKENIZER);
    uint64_t after = crl_le64(r + 8) + 6;
    struct crl_err err = { "" };

    (void)state;
    m.data[after] = 1;
    assert_refused(&m, "the padding before section generation is not zero");
    m.data[after] = 0;
    m.data[crl_pack_extent(p, 0)->offset - 1] = 1;
    must(crl_pack_open_mem(&q, m.data, m.size, "gap.crl", &err), &err);
    assert_int_equal(crl_pack_verify(q, NULL, NULL, NULL, &err), CRL_EDIFFER);
    assert_non_null(strstr(err.text, "gap.crl: extent 0 is damaged (the padding before it is not zero"));
    crl_pack_close(q);
    crl_free(m.data);
    crl_pack_close(p);
}

static bool stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    *(uint64_t *)ctx = done;
    return false;
}

static bool count_up(void *ctx, uint64_t done, uint64_t total)
{
    assert_true(done <= total && done > *(uint64_t *)ctx);
    *(uint64_t *)ctx = done;
    return true;
}

static void verify_names_extent_and_tensors(void **state)
{
    struct crl_pack *p = tiny_pack("q4"), *q;
    const struct crl_schema *s = crl_pack_schema(p);
    struct image m = copy_of(p);
    struct crl_team *team;
    size_t bad = s->weight[crl_schema_find(s, CRL_KIND_EXPERT_DOWN, 1, 1)].extent;
    uint64_t seen = 0;
    struct crl_err err = { "" };
    char says[300];

    (void)state;
    must(crl_team_new(&team, 2, false, &err), &err);
    for (size_t e = 0; e < s->n_extent; e++) {
        m.data[crl_pack_extent(p, e)->offset + crl_pack_extent(p, e)->size - 1] ^=
            1; /* its padding counts too */
        must(crl_pack_open_mem(&q, m.data, m.size, "bad.crl", &err), &err);
        assert_int_equal(crl_pack_verify(q, team, NULL, NULL, &err), CRL_EDIFFER);
        snprintf(says, sizeof says, "bad.crl: extent %zu is damaged (wrong hash, ", e);
        assert_int_equal(strncmp(err.text, says, strlen(says)), 0);
        if (e == bad)
            assert_non_null(strstr(err.text, "model.layers.1.feed_forward.experts.1.gate_up_proj.weight to "
                                             "model.layers.1.feed_forward.experts.1.down_proj.weight)"));
        crl_pack_close(q);
        err.text[0] = 0;
        m.data[crl_pack_extent(p, e)->offset + crl_pack_extent(p, e)->size - 1] ^= 1;
    }
    m.data[crl_pack_extent(p, 3)->offset] ^= 1;
    m.data[crl_pack_extent(p, 7)->offset] ^= 1;
    must(crl_pack_open_mem(&q, m.data, m.size, "bad.crl", &err), &err);
    assert_int_equal(crl_pack_verify(q, team, NULL, NULL, &err), CRL_EDIFFER);
    assert_non_null(strstr(err.text, "extent 3 is damaged"));
    assert_non_null(strstr(err.text, "; 2 extents are damaged in all"));
    crl_pack_close(q);
    assert_int_equal(crl_pack_verify(p, NULL, count_up, &seen, NULL), CRL_OK);
    assert_true(seen > 0);
    err.text[0] = 0;
    assert_int_equal(crl_pack_verify(p, NULL, stop_at_once, &seen, &err), CRL_EINTR);
    assert_int_equal(seen, crl_pack_extent(p, 0)->size);
    crl_team_free(team);
    crl_free(m.data);
    crl_pack_close(p);
}

static void odd_addresses_and_missing_files_are_refused(void **state)
{
    struct crl_pack *p = tiny_pack("q4"), *q = p;
    struct crl_err err = { "" };

    (void)state;
    assert_int_equal(crl_pack_open_mem(&q, crl_pack_data(p) + 32, 64, "x", &err), CRL_ERANGE);
    assert_null(q);
    assert_int_equal(crl_pack_open(&q, "no-such-file.crl", NULL), CRL_ENOENT);
    assert_int_equal(crl_file_write("test_store_empty.crl", "", 0, NULL), CRL_OK);
    err.text[0] = 0;
    assert_int_equal(crl_pack_open(&q, "test_store_empty.crl", &err), CRL_EFORMAT);
    assert_string_equal(err.text, "test_store_empty.crl: 0 bytes long, too short for a packed file");
    unlink("test_store_empty.crl");
    crl_pack_close(NULL);
    crl_packer_close(NULL);
    crl_pack_close(p);
}

/* --- memory ------------------------------------------------------------------------------------------- */

static void opening_survives_exhausted_memory(void **state)
{
    struct crl_pack *p = tiny_pack("q4");

    (void)state;
    for (size_t n = 1;; n++) {
        struct crl_pack *q = p;
        struct crl_err err = { "" };
        enum crl_status st;

        crl_alloc_fail_after(n);
        st = crl_pack_open_mem(&q, crl_pack_data(p), crl_pack_size(p), "x", &err);
        crl_alloc_fail_after(0);
        if (!st) {
            assert_true(n > 8);
            crl_pack_close(q);
            break;
        }
        assert_int_equal(st, CRL_ENOMEM);
        assert_null(q);
        assert_true(err.text[0]);
    }
    crl_pack_close(p);
}

static enum crl_status write_one(const char *path, struct crl_err *err)
{
    struct crl_config c = tiny();
    struct crl_recipe r = recipe("q8");
    struct crl_packer *pk;
    static unsigned char zeros[1 << 20];
    enum crl_status st = crl_packer_new(&pk, path, &c, &r, &some_sections, err);

    if (st) return st;
    for (size_t w = 0; !st && w < crl_packer_schema(pk)->n_weight; w++)
        st = crl_packer_put(pk, w, 0, zeros, (size_t)crl_packer_weight_bytes(pk, w), err);
    for (size_t e = 0; !st && e < crl_packer_schema(pk)->n_extent; e++)
        st = crl_packer_extent_done(pk, e, err);
    if (!st) st = crl_packer_commit(pk, err);
    crl_packer_close(pk);
    return st;
}

static void writing_survives_exhausted_memory(void **state)
{
    const char *path[] = { NULL, "test_store_alloc.crl" };

    (void)state;
    for (int i = 0; i < 2; i++)
        for (size_t n = 1;; n++) {
            struct crl_err err = { "" };
            enum crl_status st;

            crl_alloc_fail_after(n);
            st = write_one(path[i], &err);
            crl_alloc_fail_after(0);
            if (!st) break;
            assert_int_equal(st, CRL_ENOMEM);
            assert_true(err.text[0]);
            assert_int_equal(files_named("test_store_alloc.crl"), 0);
        }
    assert_int_equal(files_named("test_store_alloc.crl"), 1);
    unlink("test_store_alloc.crl");
}

/* --- golden ------------------------------------------------------------------------------------------- */

static char *golden_path(void)
{
    const char *src = getenv("srcdir");
    char *dir = crl_path_join(src ? src : ".", "tests/golden/packed"), *path = crl_path_join(dir, "tiny.crl");

    crl_free(dir);
    return path;
}

/* The file comes from tests/golden/make_packed.py, which follows docs/format.md without this library. */
static void golden_file_of_version_1_loads_and_is_what_is_written_today(void **state)
{
    char *path = golden_path();
    struct crl_pack *p = tiny_pack("q4"), *golden;
    struct crl_err err = { "" };

    (void)state;
    must(crl_pack_open(&golden, path, &err), &err);
    must(crl_pack_verify(golden, NULL, NULL, NULL, &err), &err);
    assert_same_image(golden, crl_pack_data(p), crl_pack_size(p));
    crl_pack_close(golden);
    crl_pack_close(p);
    crl_free(path);
}

/* Directory and sections alone: the harness adds the zeros that the header promises. */
static void write_seed(const char *dir, const char *name, const struct image *m)
{
    unsigned char *r = record_of(m, CRL_SECTION_PROVENANCE);
    char *path = crl_path_join(dir, name);

    assert_int_equal(crl_file_write(path, m->data, (size_t)(crl_le64(r + 8) + crl_le64(r + 16)), NULL),
                     CRL_OK);
    crl_free(path);
}

static int write_files(const char *dir)
{
    static const char *const name[] = { "bf16", "q8", "q4" };
    struct crl_pack *p = tiny_pack("q4");
    struct image m = copy_of(p);

    crl_put_le64(m.data + 64 + 32 * 5 + 32, 4096); /* offset of extent 1 */
    write_seed(dir, "overlap", &m);
    crl_free(m.data);
    m = copy_of(p);
    rewrite_section(&m, CRL_SECTION_CONFIG, "\"n_expert\":3", "\"n_expert\":9");
    write_seed(dir, "experts", &m);
    crl_free(m.data);
    crl_pack_close(p);
    for (int i = 0; i < 3; i++) {
        p = tiny_pack(name[i]);
        m = copy_of(p);
        write_seed(dir, name[i], &m);
        crl_free(m.data);
        crl_pack_close(p);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_come_back_as_the_document_says),
        cmocka_unit_test(config_sections_and_names_come_back),
        cmocka_unit_test(totals_of_a_pack_are_those_of_its_recipe),
        cmocka_unit_test(layout_of_scout_is_aligned_and_tight),
        cmocka_unit_test(bytes_do_not_depend_on_order_threads_or_target),
        cmocka_unit_test(whole_extents_give_the_same_bytes),
        cmocka_unit_test(unfinished_files_are_not_left_behind),
        cmocka_unit_test(full_disks_leave_nothing_behind),
        cmocka_unit_test(packer_refuses_what_makes_no_file),
        cmocka_unit_test(fields_that_are_wrong_are_named),
        cmocka_unit_test(every_byte_of_the_directory_counts),
        cmocka_unit_test(truncated_files_are_refused_at_every_length),
        cmocka_unit_test(sections_that_contradict_the_rest_are_refused),
        cmocka_unit_test(counts_are_checked_before_memory_is_taken),
        cmocka_unit_test(bytes_in_gaps_are_refused),
        cmocka_unit_test(verify_names_extent_and_tensors),
        cmocka_unit_test(odd_addresses_and_missing_files_are_refused),
        cmocka_unit_test(opening_survives_exhausted_memory),
        cmocka_unit_test(writing_survives_exhausted_memory),
        cmocka_unit_test(golden_file_of_version_1_loads_and_is_what_is_written_today),
    };
    const char *write_to = getenv("CORRAL_TEST_WRITE");

    return write_to ? write_files(write_to) : cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
