/* write.c - options and reports of text generation. */
#define _GNU_SOURCE
#include "cli/write.h"

#include "cli/place.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static unsigned bit(enum crl_write_id id)
{
    return 1u << (id - CRL_WRITE_OPTION);
}

static bool add_stop(struct crl_write_args *a, const struct crl_cli *c)
{
    size_t len = strlen(c->value);

    if (!len || len > CRL_STOP_LEN_MAX || crl_text_check(c->value, len, "", NULL)) {
        crl_cli_misused(c->usage, "option --stop: a string of 1 to %d bytes of UTF-8 is needed",
                        CRL_STOP_LEN_MAX);
        return false;
    }
    if (a->n_stop == CRL_STOP_MAX) {
        crl_cli_misused(c->usage, "more than %d options --stop", CRL_STOP_MAX);
        return false;
    }
    a->stop[a->n_stop++] = c->value;
    return true;
}

bool crl_write_option(struct crl_write_args *a, const struct crl_cli *c, int id)
{
    struct crl_sampler_options *o = &a->given;
    unsigned long long n = 0;
    bool good = true;

    a->set |= bit((enum crl_write_id)id);
    switch ((enum crl_write_id)id) {
    case CRL_WRITE_MAX_TOKENS:
        good = crl_cli_number(c, "max-tokens", 1, UINT32_MAX, &n);
        a->max_tokens = (size_t)n;
        break;
    case CRL_WRITE_TEMPERATURE:
        good = crl_cli_real(c, "temperature", 0, 1000, &o->temperature);
        break;
    case CRL_WRITE_TOP_K:
        good = crl_cli_number(c, "top-k", 0, UINT32_MAX, &n);
        o->top_k = (uint32_t)n;
        break;
    case CRL_WRITE_TOP_P:
        good = crl_cli_real(c, "top-p", 0, 1, &o->top_p);
        break;
    case CRL_WRITE_MIN_P:
        good = crl_cli_real(c, "min-p", 0, 1, &o->min_p);
        break;
    case CRL_WRITE_REPETITION:
        good = crl_cli_real(c, "repetition-penalty", 0.01, 100, &o->repetition_penalty);
        break;
    case CRL_WRITE_PRESENCE:
        good = crl_cli_real(c, "presence-penalty", -100, 100, &o->presence_penalty);
        break;
    case CRL_WRITE_FREQUENCY:
        good = crl_cli_real(c, "frequency-penalty", -100, 100, &o->frequency_penalty);
        break;
    case CRL_WRITE_WINDOW:
        good = crl_cli_number(c, "penalty-window", 0, 1 << 24, &n);
        o->penalty_window = (size_t)n;
        break;
    case CRL_WRITE_SEED:
        good = crl_cli_number(c, "seed", 0, INT64_MAX, &n);
        o->seed = n;
        break;
    case CRL_WRITE_STOP:
        return add_stop(a, c);
    case CRL_WRITE_STATS:
        a->stats = true;
        break;
    }
    return good;
}

/* Short enough to be typed again. */
static uint64_t new_seed(void)
{
    uint32_t seed;
    struct timespec t;

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed) return seed;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint32_t)t.tv_nsec;
}

void crl_write_sampling(const struct crl_write_args *a, const struct crl_engine *engine,
                        struct crl_sampler_options *out)
{
    const struct crl_sampler_options *o = &a->given;

    crl_engine_sampling(engine, out);
    if (a->set & bit(CRL_WRITE_TEMPERATURE)) out->temperature = o->temperature;
    if (a->set & bit(CRL_WRITE_TOP_K)) out->top_k = o->top_k;
    if (a->set & bit(CRL_WRITE_TOP_P)) out->top_p = o->top_p;
    if (a->set & bit(CRL_WRITE_MIN_P)) out->min_p = o->min_p;
    if (a->set & bit(CRL_WRITE_REPETITION)) out->repetition_penalty = o->repetition_penalty;
    if (a->set & bit(CRL_WRITE_PRESENCE)) out->presence_penalty = o->presence_penalty;
    if (a->set & bit(CRL_WRITE_FREQUENCY)) out->frequency_penalty = o->frequency_penalty;
    if (a->set & bit(CRL_WRITE_WINDOW)) out->penalty_window = o->penalty_window;
    out->seed = a->set & bit(CRL_WRITE_SEED) ? o->seed : new_seed();
}

/* --- reports -------------------------------------------------------------------------------------------- */

void crl_write_stats(const struct crl_engine *engine, const struct crl_generated *g,
                     const struct crl_routes *routes, const struct crl_sampler_options *sampling)
{
    struct crl_engine_info info;
    char t[CRL_CLI_TEXT];

    crl_engine_info(engine, &info);
    fflush(stdout);
    if (g->n_tile)
        fprintf(stderr, "pictures  %zu tiles in %.3f s, %.3f s each\n", g->n_tile, g->look_s,
                g->look_s / (double)g->n_tile);
    fprintf(stderr, "prefill   %zu tokens in %.3f s, %.2f tokens/s\n", g->n_prompt, g->prefill_s,
            crl_generated_prefill_rate(g));
    fprintf(stderr, "decode    %zu tokens in %.3f s, %.2f tokens/s; %zu chosen, end: %s\n", g->n_decoded,
            g->decode_s, crl_generated_decode_rate(g), g->ids.n, crl_end_name(g->end));
    fprintf(stderr, "weights   %s read per token (%llu bytes); recipe %s, kernels %s, %u threads\n",
            crl_cli_bytes(t, (double)info.bytes_per_token), (unsigned long long)info.bytes_per_token,
            info.recipe, info.isa, info.threads);
    crl_place_stats(engine);
    if (routes && routes->n_expert) {
        fprintf(stderr, "experts   touched per layer, of %u:", routes->n_expert);
        for (uint32_t i = 0; i < routes->n_layer; i++) {
            if (routes->moe[i]) fprintf(stderr, " %u", crl_routes_touched(routes, i));
            else fputs(" -", stderr);
        }
        fputc('\n', stderr);
    }
    if (sampling->temperature > 0)
        fprintf(stderr, "sampler   temperature %g, top-k %u, top-p %g, min-p %g, seed %llu\n",
                (double)sampling->temperature, sampling->top_k, (double)sampling->top_p,
                (double)sampling->min_p, (unsigned long long)sampling->seed);
    else fputs("sampler   greedy\n", stderr);
}

static json_t *experts_json(const struct crl_routes *r)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < r->n_layer; i++)
        json_array_append_new(list, r->moe[i] ? json_integer(crl_routes_touched(r, i)) : json_null());
    return list;
}

static json_t *ids_json(const struct crl_ids *ids)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->n; i++) json_array_append_new(list, json_integer(ids->v[i]));
    return list;
}

/* A float as the user wrote it: 0.6, not 0.60000002. */
static json_t *short_real(float v)
{
    char text[32];

    for (int digits = 1; digits < 10; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    return json_real(strtod(text, NULL));
}

json_t *crl_write_json(const struct crl_engine *engine, const struct crl_generated *g,
                       const struct crl_routes *routes, const struct crl_sampler_options *sampling,
                       const char *stop)
{
    struct crl_engine_info info;

    crl_engine_info(engine, &info);
    return json_pack("{s:s%, s:s, s:o, s:i, s:o, s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:o, s:s, s:s, s:i, s:o, "
                     "s:o, s:o, s:o, s:i, s:f, s:o}",
                     "text", g->text.s ? g->text.s : "", g->text.len, "end", crl_end_name(g->end), "stop",
                     stop ? json_string(stop) : json_null(), "prompt_tokens", (int)g->n_prompt, "ids",
                     ids_json(&g->ids), "tokens", (int)g->ids.n, "decoded_tokens", (int)g->n_decoded,
                     "prefill_s", g->prefill_s, "decode_s", g->decode_s, "prefill_tokens_per_s",
                     crl_generated_prefill_rate(g), "decode_tokens_per_s", crl_generated_decode_rate(g),
                     "weight_bytes_per_token", (json_int_t)info.bytes_per_token, "experts_touched",
                     routes ? experts_json(routes) : json_null(), "recipe", info.recipe, "isa", info.isa,
                     "threads", (int)info.threads, "temperature", short_real(sampling->temperature), "top_p",
                     short_real(sampling->top_p), "top_k", json_integer(sampling->top_k), "seed",
                     json_integer((json_int_t)sampling->seed), "tiles", (int)g->n_tile, "look_s", g->look_s,
                     "placement", crl_place_json(engine));
}
