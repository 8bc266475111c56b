/* about.h - what every result says of the model and the run, and the hashes that tell models apart. */
#ifndef CRL_EVAL_ABOUT_H
#define CRL_EVAL_ABOUT_H

#include "eval/result.h"
#include "run/engine.h"

/* Hash of the configuration and of the tokenizer: equal for every quantisation of one model. */
enum crl_status crl_about_config_hash(const struct crl_engine *engine, uint64_t *hash, struct crl_err *err);
uint64_t crl_about_tokenizer_hash(const struct crl_engine *engine); /* 0: none */

/* Hash of the packed weights and their formats: another conversion, another hash. */
uint64_t crl_about_weights_hash(const struct crl_engine *engine);

/* Sixteen hexadecimal digits as a JSON string. */
json_t *crl_hash_json(uint64_t hash);

/* Fill r->model {"recipe", "config_hash", "tokenizer_hash", "weights_hash", "bytes", "weights"} and r->run {"isa",
 * "threads"}. */
enum crl_status crl_about_model(struct crl_result *r, const struct crl_engine *engine, struct crl_err *err);

/* Add "seconds" and "tokens_per_s" (positions fed per second) to r->run. */
enum crl_status crl_about_speed(struct crl_result *r, size_t positions, double seconds, struct crl_err *err);

/* Monotonic seconds. */
double crl_eval_clock(void);

#endif
