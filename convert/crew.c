/* crew.c - handing slabs to a team. */
#define _GNU_SOURCE
#include "convert/crew.h"

#include "base/mem.h"

#include <string.h>
#include <time.h>

double crl_crew_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop_before(struct crl_crew *c, uint64_t slab)
{
    uint64_t at = atomic_load(&c->stop_at);

    while (slab < at && !atomic_compare_exchange_weak(&c->stop_at, &at, slab)) continue;
}

void crl_crew_fail(struct crl_crew *c, enum crl_status st, const struct crl_err *err)
{
    if (!atomic_flag_test_and_set(&c->failed)) {
        c->status = st;
        c->err = *err;
    }
    stop_before(c, 0);
}

void crl_crew_stop_after(struct crl_crew *c, size_t weight)
{
    const struct crl_extent *e = &c->schema->extent[c->schema->weight[weight].extent];

    stop_before(c, c->slabs.first[e->first + e->n]);
}

bool crl_crew_last_of_extent(struct crl_crew *c, const struct crl_slab *b)
{
    return atomic_fetch_sub(&c->left[c->schema->weight[b->weight].extent], 1) == 1;
}

enum crl_status crl_crew_pack(struct crl_crew *c, const struct crl_slab *b, enum crl_format f,
                              struct crl_crew_bench *m, uint64_t *nonfinite, struct crl_err *err)
{
    const struct crl_weight *w = &c->schema->weight[b->weight];
    const struct crl_q4_guide *guide = NULL, own = { .importance = m->cost };
    enum crl_status st = f == CRL_Q4 ? crl_guides_take(c->guides, b->weight, &guide, err) : CRL_OK;

    if (!st && f == CRL_Q4 && !guide && crl_slab_costs(b, w, m->rows, m->cost)) guide = &own;
    if (!st) *nonfinite = crl_slab_pack(&c->slabs.kern, b, w, f, crl_q4_level_default, guide, m->rows, m->bytes);
    if (f == CRL_Q4) crl_guides_leave(c->guides, b->weight);
    return st;
}

static uint64_t weights_of(const struct crl_slab *b, const struct crl_weight *w)
{
    return (uint64_t)b->n_panel * CRL_PANEL_ROWS * w->k;
}

static void work(size_t i, unsigned member, void *ctx)
{
    struct crl_crew *c = ctx;
    struct crl_slab b = crl_slabs_at(&c->slabs, i);
    uint64_t n = weights_of(&b, &c->schema->weight[b.weight]);
    struct crl_err err = { "" };
    enum crl_status st;

    if (i >= atomic_load(&c->stop_at) || (c->skip && c->skip[c->schema->weight[b.weight].extent])) return;
    st = crl_feed_rows(c->feed, i, &b, c->bench[member].rows, &err);
    if (st) {
        crl_crew_fail(c, st, &err);
        return;
    }
    c->fn(c, i, &b, &c->bench[member]);
    n += atomic_fetch_add(&c->done, n);
    if (member || !c->opt->progress || c->opt->progress(c->opt->ctx, n, c->total - c->skipped, b.weight))
        return;
    crl_fail(&err, CRL_EINTR, "stopped before the end");
    crl_crew_fail(c, CRL_EINTR, &err);
}

static size_t longest_row(const struct crl_schema *s)
{
    size_t row = 0;

    for (size_t i = 0; i < s->n_weight; i++)
        if (s->weight[i].k > row) row = s->weight[i].k;
    return row;
}

/* Threads and reading ahead share what is allowed: reading gives way first, as long as it has a slot to fill
 * while another is worked on, then threads go. */
#define MEMORY_DEFAULT ((uint64_t)2 << 30)

enum crl_status crl_crew_plan(struct crl_crew_plan *p, const struct crl_ckpt *ck,
                              const struct crl_slabs *slabs, const struct crl_convert_options *opt,
                              struct crl_err *err)
{
    uint64_t bench = (slabs->most_rows + 2 * crl_k_pad(longest_row(slabs->schema))) * sizeof(float) + slabs->most_bytes;
    uint64_t fixed = slabs->n * sizeof(struct crl_crew_record) + slabs->schema->n_extent * sizeof(uint64_t);
    uint64_t most = opt->max_memory ? opt->max_memory : MEMORY_DEFAULT, spent;

    p->jobs = opt->jobs ? opt->jobs : crl_usable_cores();
    for (;; p->jobs--) {
        spent = fixed + p->jobs * bench + crl_guides_bytes(opt->calib, slabs->schema, p->jobs);
        crl_feed_plan(&p->reading, ck, slabs, most > spent ? most - spent : 0);
        p->bytes = spent + p->reading.bytes;
        if (p->bytes <= most) return CRL_OK;
        if (p->jobs == 1) break;
    }
    return crl_fail(err, CRL_ERANGE, "one thread needs %llu bytes of memory, %llu are allowed",
                    (unsigned long long)p->bytes, (unsigned long long)most);
}

static enum crl_status make_benches(struct crl_crew *c, struct crl_err *err)
{
    unsigned members = crl_team_size(c->team);
    size_t row = longest_row(c->schema);

    c->bench = crl_alloc(members, sizeof *c->bench);
    for (unsigned m = 0; c->bench && m < members; m++) {
        c->bench[m].rows = crl_alloc(c->slabs.most_rows, sizeof(float));
        c->bench[m].bytes = crl_alloc(c->slabs.most_bytes, 1);
        c->bench[m].scratch = crl_alloc(row, sizeof(float));
        c->bench[m].cost = crl_alloc(crl_k_pad(row), sizeof(float));
        if (!c->bench[m].rows || !c->bench[m].bytes || !c->bench[m].scratch || !c->bench[m].cost)
            return crl_fail(err, CRL_ENOMEM, "no memory for %u threads; fewer jobs need less", members);
    }
    return c->bench ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for %u threads", members);
}

enum crl_status crl_crew_init(struct crl_crew *c, const struct crl_ckpt *ck, const struct crl_schema *schema,
                              const struct crl_convert_options *opt, crl_crew_fn *fn, struct crl_err *err)
{
    struct crl_crew_plan plan = { 0 };
    enum crl_status st;

    c->start = crl_crew_now();
    if (crl_ckpt_consumed(ck) && !opt->resume)
        return crl_fail(err, CRL_EUNSUPPORTED,
                        "%s: its weights are being moved into %s; only convert --resume can go on",
                        crl_ckpt_dir(ck), crl_ckpt_consumed(ck));
    c->ck = ck;
    c->schema = schema;
    c->opt = opt;
    c->fn = fn;
    atomic_init(&c->stop_at, UINT64_MAX);
    atomic_flag_clear(&c->failed);
    st = crl_slabs_new(&c->slabs, schema, err);
    if (!st) st = crl_crew_plan(&plan, ck, &c->slabs, opt, err);
    if (!st) st = crl_team_new(&c->team, plan.jobs, false, err);
    c->reading = plan.reading;
    if (!st && c->slabs.n > SIZE_MAX / 64) st = crl_fail(err, CRL_ERANGE, "too many pieces of work");
    if (st) return st;
    st = crl_guides_new(&c->guides, opt->calib, &c->slabs, err);
    if (st) return st;
    c->record = crl_alloc((size_t)c->slabs.n, sizeof *c->record);
    c->left = crl_alloc(schema->n_extent, sizeof *c->left);
    if (!c->record || !c->left) return crl_fail(err, CRL_ENOMEM, "no memory for the list of work");
    for (size_t i = 0; i < schema->n_weight; i++) {
        const struct crl_weight *w = &schema->weight[i];
        c->total += (uint64_t)crl_n_panel(w->n) * CRL_PANEL_ROWS * w->k;
        c->left[w->extent] += c->slabs.first[i + 1] - c->slabs.first[i];
    }
    return make_benches(c, err);
}

void crl_crew_fini(struct crl_crew *c)
{
    for (unsigned m = 0; c->bench && m < crl_team_size(c->team); m++) {
        crl_free(c->bench[m].rows);
        crl_free(c->bench[m].bytes);
        crl_free(c->bench[m].scratch);
        crl_free(c->bench[m].cost);
    }
    crl_free(c->bench);
    crl_free(c->record);
    crl_free(c->left);
    crl_feed_free(c->feed);
    crl_guides_free(c->guides);
    crl_slabs_free(&c->slabs);
    crl_team_free(c->team);
}

enum crl_status crl_crew_run(struct crl_crew *c, struct crl_report *r, struct crl_err *err)
{
    enum crl_status st;

    r->jobs = crl_team_size(c->team);
    r->row = crl_alloc(c->schema->n_weight, sizeof *r->row);
    if (!r->row) return crl_fail(err, CRL_ENOMEM, "no memory for the report");
    st = crl_feed_new(&c->feed, c->ck, &c->slabs, &c->reading, c->skip, err);
    if (st) return st;
    crl_team_each(c->team, (size_t)c->slabs.n, work, c);
    crl_feed_stop(c->feed);
    if (!c->status && crl_ckpt_check(c->ck, &c->err)) c->status = CRL_EIO;
    r->n_weight = c->schema->n_weight;
    r->resumed = c->skipped;
    r->weights = c->skipped + atomic_load(&c->done);
    for (size_t i = 0; i < r->n_weight; i++)
        for (uint64_t s = c->slabs.first[i]; s < c->slabs.first[i + 1]; s++) {
            crl_misfit_add(&r->row[i].misfit, &c->record[s].misfit);
            r->row[i].nonfinite += c->record[s].nonfinite;
        }
    r->seconds = crl_crew_now() - c->start;
    return c->status ? crl_fail(err, c->status, "%s", c->err.text) : CRL_OK;
}
