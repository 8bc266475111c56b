/* write.h - what the commands that generate text share: the options of the sampler and of the end, and the
 * report about a generation. */
#ifndef CRL_CLI_WRITE_H
#define CRL_CLI_WRITE_H

#include "cli/model.h"
#include "run/generate.h"
#include "run/routes.h"

#define CRL_WRITE_OPTION 0x2000

enum crl_write_id {
    CRL_WRITE_MAX_TOKENS = CRL_WRITE_OPTION,
    CRL_WRITE_TEMPERATURE,
    CRL_WRITE_TOP_K,
    CRL_WRITE_TOP_P,
    CRL_WRITE_MIN_P,
    CRL_WRITE_REPETITION,
    CRL_WRITE_PRESENCE,
    CRL_WRITE_FREQUENCY,
    CRL_WRITE_WINDOW,
    CRL_WRITE_SEED,
    CRL_WRITE_STOP,
    CRL_WRITE_STATS
};

/* Rows for a table of options. */
/* clang-format off */
#define CRL_WRITE_OPTIONS \
    { "max-tokens", "N", "most tokens to generate (default: as many as the context has room for)", \
      CRL_WRITE_MAX_TOKENS }, \
    { "temperature", "T", "0 takes the most likely token; defaults come from the model", \
      CRL_WRITE_TEMPERATURE }, \
    { "top-k", "K", "choose among the K most likely tokens; 0 is off", CRL_WRITE_TOP_K }, \
    { "top-p", "P", "choose among the most likely tokens that make up probability P; 1 is off", \
      CRL_WRITE_TOP_P }, \
    { "min-p", "P", "drop tokens less than P times as likely as the best; 0 is off", CRL_WRITE_MIN_P }, \
    { "repetition-penalty", "R", "divide (if negative, multiply) logits of tokens seen by R; 1 is off", \
      CRL_WRITE_REPETITION }, \
    { "presence-penalty", "A", "subtract A from logits of tokens seen; 0 is off", CRL_WRITE_PRESENCE }, \
    { "frequency-penalty", "A", "subtract A for each time a token was seen; 0 is off", \
      CRL_WRITE_FREQUENCY }, \
    { "penalty-window", "N", "only the last N tokens count as seen; 0 is all", CRL_WRITE_WINDOW }, \
    { "seed", "S", "the same seed gives the same choices (default: a new one)", CRL_WRITE_SEED }, \
    { "stop", "STRING", "end before this string; may be repeated", CRL_WRITE_STOP }, \
    { "stats", NULL, "report speed, weight bytes read and experts used on stderr", CRL_WRITE_STATS }
/* clang-format on */

struct crl_write_args {
    struct crl_sampler_options given; /* values of the options that were given */
    unsigned set;                     /* bit per enum crl_write_id */
    size_t max_tokens;
    const char *stop[CRL_STOP_MAX];
    size_t n_stop;
    bool stats;
};

/* Take an option of the rows. False after a message on misuse. */
bool crl_write_option(struct crl_write_args *a, const struct crl_cli *c, int id);

/* The model's own settings with what was given in their place. A seed is made up when none was given. */
void crl_write_sampling(const struct crl_write_args *a, const struct crl_engine *engine,
                        struct crl_sampler_options *out);

/* The facts about one generation, as text on stderr and as a JSON object (NULL when memory ran out). routes
 * may be NULL. */
void crl_write_stats(const struct crl_engine *engine, const struct crl_generated *g,
                     const struct crl_routes *routes, const struct crl_sampler_options *sampling);
json_t *crl_write_json(const struct crl_engine *engine, const struct crl_generated *g,
                       const struct crl_routes *routes, const struct crl_sampler_options *sampling,
                       const char *stop);

#endif
