/* rope.h - rotary position embedding on adjacent pairs, and the query scale of layers that go without.
 * docs/model.md, "Positions". All of it is float32, as in the reference: the angle is one float product. */
#ifndef CRL_MODEL_ROPE_H
#define CRL_MODEL_ROPE_H

#include "store/config.h"

#include <stddef.h>

/* Inverse frequencies [d_head / 2] with the llama3 scaling applied where the configuration asks for it. */
void crl_rope_freqs(float *inv_freq, const struct crl_config *cfg);

/* cs[2j] = cos, cs[2j + 1] = sin of the angle of pair j < n_pair at position pos: what the kernel `rotate` takes. */
void crl_rope_angles(float *cs, const float *inv_freq, size_t n_pair, size_t pos);

/* What queries of layers without rotary embedding are multiplied by at position pos; 1 when the tuning is off. */
float crl_query_scale(const struct crl_config *cfg, size_t pos);

#endif
