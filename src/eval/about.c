/* about.c - facts of model and run. */
#define _GNU_SOURCE
#include "eval/about.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum crl_status crl_about_config_hash(const struct crl_engine *engine, uint64_t *hash, struct crl_err *err)
{
    char *text = crl_config_to_json(crl_pack_config(crl_engine_pack(engine)));

    if (!text) return crl_fail(err, CRL_ENOMEM, "no memory for the configuration's text");
    *hash = crl_hash(text, strlen(text));
    crl_free(text);
    return CRL_OK;
}

uint64_t crl_about_tokenizer_hash(const struct crl_engine *engine)
{
    size_t len;
    const unsigned char *p = crl_pack_section(crl_engine_pack(engine), CRL_SECTION_TOKENIZER, &len);

    return p ? crl_hash(p, len) : 0;
}

uint64_t crl_about_weights_hash(const struct crl_engine *engine)
{
    const struct crl_pack *p = crl_engine_pack(engine);
    const struct crl_schema *s = crl_pack_schema(p);
    struct crl_hasher *h = crl_hasher_new();
    unsigned char b[8];
    uint64_t hash = 0;

    if (!h) return 0;
    for (size_t i = 0; i < s->n_weight; i++) {
        crl_put_le32(b, crl_pack_format(p, i));
        crl_hasher_add(h, b, 4);
    }
    for (size_t i = 0; i < s->n_extent; i++) {
        crl_put_le64(b, crl_pack_extent(p, i)->hash);
        crl_hasher_add(h, b, 8);
    }
    hash = crl_hasher_value(h);
    crl_hasher_free(h);
    return hash;
}

json_t *crl_hash_json(uint64_t hash)
{
    char text[17];

    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return json_string(text);
}

enum crl_status crl_about_model(struct crl_result *r, const struct crl_engine *engine, struct crl_err *err)
{
    struct crl_engine_info info;
    uint64_t config = 0;
    enum crl_status st = crl_about_config_hash(engine, &config, err);
    int bad = 0;

    if (st) return st;
    crl_engine_info(engine, &info);
    bad |= json_object_set_new(r->model, "recipe", json_string(info.recipe));
    bad |= json_object_set_new(r->model, "config_hash", crl_hash_json(config));
    bad |= json_object_set_new(r->model, "tokenizer_hash", crl_hash_json(crl_about_tokenizer_hash(engine)));
    bad |= json_object_set_new(r->model, "weights_hash", crl_hash_json(crl_about_weights_hash(engine)));
    bad |= json_object_set_new(r->model, "weights", json_integer((json_int_t)info.params));
    bad |= json_object_set_new(r->model, "bytes", json_integer((json_int_t)info.bytes));
    bad |= json_object_set_new(r->run, "isa", json_string(info.isa));
    bad |= json_object_set_new(r->run, "threads", json_integer((json_int_t)info.threads));
    return bad ? crl_fail(err, CRL_ENOMEM, "no memory for the facts of the model") : CRL_OK;
}

enum crl_status crl_about_speed(struct crl_result *r, size_t positions, double seconds, struct crl_err *err)
{
    int bad = json_object_set_new(r->run, "seconds", crl_real_json(seconds));

    bad |= json_object_set_new(r->run, "tokens_per_s", crl_real_json((double)positions / seconds));
    return bad ? crl_fail(err, CRL_ENOMEM, "no memory for the speed") : CRL_OK;
}

double crl_eval_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
