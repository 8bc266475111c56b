/* machine.c - measuring the limits, and asking the system about memory. */
#define _GNU_SOURCE
#include "bench/machine.h"

#include "base/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_MOST ((size_t)2 << 30)
#define SWEEP_LEAST ((size_t)256 << 20)
#define STEP ((size_t)4096) /* parts of the sweep are multiples of this */
#define RUN_S 0.02

/* --- measuring --------------------------------------------------------------------------------------------------- */

struct job {
    const struct crl_meter *meter;
    void (*part)(struct job *j, const struct crl_member *me); /* what every member does */
    size_t rounds;
    double seconds;               /* from the first member's start to the last one's end */
    uint64_t ops[CRL_TEAM_MAX];   /* by member */
    uint64_t value[CRL_TEAM_MAX]; /* kept so that no result is unused */
};

static void part_read(struct job *j, const struct crl_member *me)
{
    const struct crl_meter *m = j->meter;
    size_t lo, hi;

    crl_team_range(me, m->bytes / STEP, &lo, &hi);
    j->value[me->id] = m->probe.read(m->data + lo * STEP, (hi - lo) * STEP);
}

static void part_pull(struct job *j, const struct crl_member *me)
{
    const struct crl_meter *m = j->meter;
    size_t lo, hi;

    crl_team_range(me, m->bytes / STEP, &lo, &hi);
    j->value[me->id] = m->probe.pull(m->data + lo * STEP, (hi - lo) * STEP);
}

static void part_int8(struct job *j, const struct crl_member *me)
{
    j->ops[me->id] = j->meter->probe.int8(j->rounds, &j->value[me->id]);
}

static void part_f32(struct job *j, const struct crl_member *me)
{
    j->ops[me->id] = j->meter->probe.f32(j->rounds, &j->value[me->id]);
}

static void part_bf16(struct job *j, const struct crl_member *me)
{
    j->ops[me->id] = j->meter->probe.bf16(j->rounds, &j->value[me->id]);
}

static void timed(const struct crl_member *me, void *ctx)
{
    struct job *j = ctx;
    double start;

    crl_team_barrier(me);
    start = crl_seconds();
    j->part(j, me);
    crl_team_barrier(me);
    if (me->id == 0) j->seconds = crl_seconds() - start;
}

/* Operations (0 for reading); *seconds is how long it took. */
static uint64_t run_job(struct crl_meter *m, void (*part)(struct job *, const struct crl_member *), size_t rounds,
                        double *seconds)
{
    struct job j;
    uint64_t ops = 0;

    memset(&j, 0, sizeof j);
    j.meter = m;
    j.part = part;
    j.rounds = rounds;
    crl_team_run(m->team, timed, &j);
    for (unsigned i = 0; i < crl_team_size(m->team); i++) ops += j.ops[i];
    *seconds = j.seconds > 1e-9 ? j.seconds : 1e-9;
    return ops;
}

/* Rounds that take about RUN_S. */
static size_t calibrate(struct crl_meter *m, void (*part)(struct job *, const struct crl_member *))
{
    size_t rounds = 64;
    double seconds;

    for (;;) {
        run_job(m, part, rounds, &seconds);
        if (seconds > RUN_S / 4 || rounds > SIZE_MAX / 8) break;
        rounds *= 4;
    }
    rounds = (size_t)((double)rounds * RUN_S / seconds);
    return rounds ? rounds : 1;
}

static void touch(const struct crl_member *me, void *ctx)
{
    struct crl_meter *m = ctx;
    size_t lo, hi;

    crl_team_range(me, m->bytes / STEP, &lo, &hi);
    memset(m->own.base + lo * STEP, 0x5a, (hi - lo) * STEP); /* by the thread that will read it */
}

static enum crl_status own_memory(struct crl_meter *m, size_t bytes, struct crl_err *err)
{
    enum crl_status st;

    if (bytes > crl_machine_memory())
        return crl_fail(err, CRL_ENOMEM, "measuring the memory takes %zu MiB, %llu MiB are available", bytes >> 20,
                        (unsigned long long)(crl_machine_memory() >> 20));
    st = crl_region_new(&m->own, bytes, CRL_NODE_ANY, CRL_HUGE_TRY, err);
    if (st) return st;
    m->data = m->own.base;
    m->bytes = bytes;
    crl_team_run(m->team, touch, m);
    return CRL_OK;
}

enum crl_status crl_meter_new(struct crl_meter **out, struct crl_team *team, unsigned mask, const void *data,
                              size_t bytes, struct crl_err *err)
{
    struct crl_meter *m = crl_alloc(1, sizeof *m);
    size_t need = 8 * crl_machine_cache();
    enum crl_status st = CRL_OK;

    *out = NULL;
    if (!m) return crl_fail(err, CRL_ENOMEM, "no memory for a meter");
    m->team = team;
    crl_probe_select(&m->probe, mask);
    if (need < SWEEP_LEAST) need = SWEEP_LEAST;
    m->data = data;
    m->bytes = bytes / STEP * STEP;
    if (m->bytes > SWEEP_MOST && need < SWEEP_MOST) m->bytes = SWEEP_MOST;
    if (!data || m->bytes < need) st = own_memory(m, crl_round_up(need, STEP), err);
    if (st) {
        crl_meter_free(m);
        return st;
    }
    m->int8_rounds = calibrate(m, part_int8);
    m->f32_rounds = calibrate(m, part_f32);
    if (m->probe.bf16) m->bf16_rounds = calibrate(m, part_bf16);
    *out = m;
    return CRL_OK;
}

void crl_meter_free(struct crl_meter *m)
{
    if (!m) return;
    crl_region_free(&m->own);
    crl_free(m);
}

void crl_meter_read(struct crl_meter *m)
{
    double seconds;

    run_job(m, part_read, 0, &seconds);
    crl_series_add(&m->read, (double)m->bytes / seconds);
    run_job(m, part_pull, 0, &seconds);
    crl_series_add(&m->pull, (double)m->bytes / seconds);
}

void crl_meter_int8(struct crl_meter *m)
{
    double seconds, ops = (double)run_job(m, part_int8, m->int8_rounds, &seconds);

    crl_series_add(&m->int8, ops / seconds);
}

void crl_meter_f32(struct crl_meter *m)
{
    double seconds, ops = (double)run_job(m, part_f32, m->f32_rounds, &seconds);

    crl_series_add(&m->f32, ops / seconds);
}

void crl_meter_bf16(struct crl_meter *m)
{
    double seconds, ops;

    if (!m->probe.bf16) return;
    ops = (double)run_job(m, part_bf16, m->bf16_rounds, &seconds);
    crl_series_add(&m->bf16, ops / seconds);
}

/* --- the system -------------------------------------------------------------------------------------------------- */

/* First line of a file; false when there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "r");
    bool got = f && fgets(line, (int)size, f);

    if (f) fclose(f);
    return got;
}

/* The number after `key` in a file of lines "key number", times `unit`; false when it is not there. */
static bool read_key(const char *path, const char *key, uint64_t unit, uint64_t *out)
{
    FILE *f = fopen(path, "r");
    char line[256];
    size_t len = strlen(key);
    bool found = false;

    while (f && !found && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, len)) continue;
        *out = strtoull(line + len, NULL, 10) * unit;
        found = true;
    }
    if (f) fclose(f);
    return found;
}

/* Processors in a list such as "0-3,8-11". */
static size_t count_list(const char *s)
{
    size_t n = 0;

    while (*s >= '0' && *s <= '9') {
        char *end;
        unsigned long a = strtoul(s, &end, 10), b = a;
        if (*end == '-') b = strtoul(end + 1, &end, 10);
        n += b >= a ? b - a + 1 : 1;
        s = *end == ',' ? end + 1 : end;
    }
    return n;
}

size_t crl_machine_cache(void)
{
    char path[96], line[4096];
    size_t bytes = 0, sharing = 1, online = 1;

    for (int i = 0; i < 8; i++) { /* the last index is the largest level */
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (!read_line(path, line, sizeof line)) break;
        bytes = (size_t)strtoull(line, NULL, 10) << (strchr(line, 'M') ? 20 : 10);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/shared_cpu_list", i);
        if (read_line(path, line, sizeof line)) sharing = count_list(line);
    }
    if (read_line("/sys/devices/system/cpu/online", line, sizeof line)) online = count_list(line);
    if (!sharing || online < sharing) return bytes;
    return bytes * ((online + sharing - 1) / sharing);
}

uint64_t crl_machine_memory(void)
{
    uint64_t system = UINT64_MAX;
    struct crl_cgroup group;

    read_key("/proc/meminfo", "MemAvailable:", 1024, &system);
    crl_cgroup_read(&group, "");
    return system < group.memory_left ? system : group.memory_left;
}

double crl_machine_load(void)
{
    double load[1];

    return getloadavg(load, 1) == 1 ? load[0] : 0;
}

uint64_t crl_machine_huge(void)
{
    uint64_t bytes = 0;

    read_key("/proc/self/smaps_rollup", "AnonHugePages:", 1024, &bytes);
    return bytes;
}
