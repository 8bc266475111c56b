/* machine.h - what the machine can do at most, measured with the very threads the model runs on: reading memory,
 * multiplying bytes, floats and pairs of bf16. And how much memory there is.
 *
 * A meter borrows its team and, when given, the memory it sweeps. Every call of a measuring function adds one value to
 * its series; callers alternate them with the runs they are compared with, so that both see the same machine. */
#ifndef CRL_BENCH_MACHINE_H
#define CRL_BENCH_MACHINE_H

#include "base/mem.h"
#include "base/team.h"
#include "bench/series.h"
#include "simd/probe.h"

struct crl_meter {
    struct crl_team *team;
    struct crl_probe probe;
    const unsigned char *data; /* what is swept */
    size_t bytes;
    struct crl_region own;      /* empty when the caller's memory is swept */
    size_t int8_rounds;         /* of one measurement, found once */
    size_t f32_rounds;
    size_t bf16_rounds;
    struct crl_series read;     /* bytes per second, all threads together */
    struct crl_series pull;     /* the same with requests ahead */
    struct crl_series int8;     /* operations per second */
    struct crl_series f32;
    struct crl_series bf16;     /* empty when no level multiplies bf16 */
};

/* data[bytes], 64-byte aligned, is swept when it is at least eight times as large as the last level caches; at most
 * 2 GiB of it. Otherwise, or when NULL, memory of that size is allocated on huge pages where possible. */
enum crl_status crl_meter_new(struct crl_meter **out, struct crl_team *team, unsigned mask, const void *data,
                              size_t bytes, struct crl_err *err);
void crl_meter_free(struct crl_meter *m);

/* Two sweeps: every thread reads its own part once straight on, once with requests ahead. */
void crl_meter_read(struct crl_meter *m);
/* One run of some 20 ms on every thread. */
void crl_meter_int8(struct crl_meter *m);
void crl_meter_f32(struct crl_meter *m);
void crl_meter_bf16(struct crl_meter *m);

/* Bytes of all last level caches; 0 when the system does not say. */
size_t crl_machine_cache(void);

/* Bytes this process may still allocate: the system's available memory, or what the tightest control group around the
 * process leaves. UINT64_MAX when the system does not say. */
uint64_t crl_machine_memory(void);

/* Load average over the last minute, 0 when unknown. */
double crl_machine_load(void);

/* Bytes of this process on huge pages now. */
uint64_t crl_machine_huge(void);

#endif
