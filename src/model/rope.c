/* rope.c - rotary position embedding and temperature tuning. */
#include "model/rope.h"

#include <math.h>

/* Stretch long wavelengths by `factor`, leave short ones, blend between (docs/model.md, "Positions"). low == high is
 * legal and has no middle. */
static float scale_llama3(float f, const struct crl_config *cfg)
{
    float wavelen = (float)(2 * 3.14159265358979323846) / f, old = (float)cfg->rope_old_ctx, smooth;

    if (wavelen < old / cfg->rope_high) return f;
    if (wavelen > old / cfg->rope_low || cfg->rope_high == cfg->rope_low) return f / cfg->rope_factor;
    smooth = (old / wavelen - cfg->rope_low) / (cfg->rope_high - cfg->rope_low);
    return (1 - smooth) * f / cfg->rope_factor + smooth * f;
}

void crl_rope_freqs(float *inv_freq, const struct crl_config *cfg)
{
    for (uint32_t j = 0; j < cfg->d_head / 2; j++) {
        float f = 1.0f / powf(cfg->rope_theta, (float)(2 * j) / (float)cfg->d_head);
        inv_freq[j] = cfg->rope_type == CRL_ROPE_LLAMA3 ? scale_llama3(f, cfg) : f;
    }
}

void crl_rope_angles(float *cs, const float *inv_freq, size_t n_pair, size_t pos)
{
    for (size_t j = 0; j < n_pair; j++) {
        float angle = inv_freq[j] * (float)pos; /* rounded to float first: at a million tokens that is the rotation */
        cs[2 * j] = (float)cos((double)angle);
        cs[2 * j + 1] = (float)sin((double)angle);
    }
}

float crl_query_scale(const struct crl_config *cfg, size_t pos)
{
    if (!cfg->temperature_tuning) return 1;
    return logf(1 + floorf((float)(pos + 1) / (float)cfg->floor_scale)) * cfg->attn_scale + 1;
}
