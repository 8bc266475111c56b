/* place.h - what is told about where weights lie: for --stats, --json and the benchmark. */
#ifndef CRL_CLI_PLACE_H
#define CRL_CLI_PLACE_H

#include "base/json.h"
#include "run/engine.h"

/* Lines on stderr: loading, nodes with the bytes they read per token, pages on the right and the wrong node. */
void crl_place_stats(const struct crl_engine *engine);

/* The same as an object: mode, pretended, load {...}, nodes [{...}]. NULL when memory ran out. */
json_t *crl_place_json(const struct crl_engine *engine);

#endif
