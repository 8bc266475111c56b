/* bench.h - how fast a model decodes and takes in prompts, against what the machine can do in the same minutes.
 *
 * Runs and measurements of the machine take turns, so that a ratio compares like with like on a machine that changes
 * its mind. Figures are medians of the repetitions. Tokens fed are random but the same in every repetition. */
#ifndef CRL_BENCH_BENCH_H
#define CRL_BENCH_BENCH_H

#include "bench/machine.h"
#include "run/engine.h"

struct crl_bench_options {
    size_t prefill;   /* tokens of a prompt; 0: not measured */
    size_t decode;    /* tokens decoded one by one; 0: not measured */
    size_t decode_at; /* positions in the cache before decoding a second time; 0: not measured */
    unsigned repeat;  /* at least 1 */
    const char *isa;  /* as for the engine: the limits are measured with the same levels */
    bool in_memory;   /* the weights lie in memory of their own and are swept to measure it; else a file is mapped */
    /* Called before each step with what comes next; false stops the benchmark. May be NULL. */
    bool (*step)(void *ctx, const char *what, unsigned done, unsigned total);
    void *ctx;
};

/* What a pass over the weights costs by its shapes, per phase. */
struct crl_bench_work {
    double bytes[CRL_PHASE_END];    /* of weights read for one decoded token */
    double int8_ops[CRL_PHASE_END]; /* of q8 and q4 matrices for one token, a multiply-add is two */
    double f32_ops[CRL_PHASE_END];  /* of bf16 matrices for one token */
};

struct crl_bench_speed {
    size_t tokens;                /* 0: not measured */
    struct crl_stat tokens_per_s;
    double phase_s[CRL_PHASE_END]; /* seconds per run of `tokens`, mean of the repetitions */
    double limit_s;               /* seconds a run takes at the limit: decode reading, prefill multiplying */
    double fraction;              /* limit_s over the median time */
    double cache_bytes;           /* decode: keys and values read per token, mean of a run */
    double attention_ops;         /* prefill: operations of scores and values in a run */
    double layer_s, rest_s;       /* seconds per token in the layers, and outside of them */
};

struct crl_bench_result {
    struct crl_engine_info info; /* recipe points at the copy below */
    char recipe[16];
    struct crl_stat read, int8, f32; /* bytes and operations per second */
    struct crl_stat pull;            /* reading with requests ahead */
    struct crl_stat bf16;            /* 0 where no level multiplies bf16 */
    enum crl_kv_type kv;             /* what attention multiplied */
    const char *read_isa, *int8_isa, *f32_isa, *bf16_isa;
    struct crl_bench_work work;
    struct crl_bench_speed decode, decode_at, prefill;
    size_t decode_at_pos;
    uint64_t huge_bytes; /* of the process on huge pages after the runs */
    double node_bytes[CRL_TEAM_NODES_MAX]; /* weights read per decoded token by the threads of each of info.nodes nodes */
};

/* Run everything. CRL_EINTR when step asked to stop. */
enum crl_status crl_bench_run(struct crl_bench_result *r, struct crl_engine *engine,
                              const struct crl_bench_options *options, struct crl_err *err);

/* Tokens per second of the same model with n_layer layers like those measured. */
double crl_bench_extrapolate(const struct crl_bench_result *r, const struct crl_bench_speed *s, uint32_t n_layer);

/* Largest spread of what was measured. */
double crl_bench_spread(const struct crl_bench_result *r);

/* Bytes an engine and a session need besides the weights, about. */
uint64_t crl_bench_extra_bytes(const struct crl_config *cfg, const struct crl_bench_options *options,
                               unsigned threads);

#endif
