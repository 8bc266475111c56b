/* convert.c - slabs packed and written. */
#define _GNU_SOURCE
#include "convert/convert.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "convert/crew.h"
#include "convert/keeper.h"
#include "convert/sections.h"
#include "convert/stage.h"

#include <math.h>
#include <string.h>

struct job {
    struct crl_crew crew;
    struct crl_packer *packer;
    struct crl_keeper *keeper;   /* NULL when the target is memory */
    atomic_size_t lost;          /* extents of those whose bytes are not what they were */
    bool *done;                  /* [n_extent] by an earlier run */
    uint64_t *hash;              /* [n_extent] of those */
    struct crl_crew_record *sum; /* [n_weight] of those; then of every extent that is complete */
};

/* Records of a matrix added up in the order of its slabs. */
static void add_up(const struct job *j, size_t weight)
{
    struct crl_crew_record *sum = &j->sum[weight];

    memset(sum, 0, sizeof *sum);
    for (uint64_t s = j->crew.slabs.first[weight]; s < j->crew.slabs.first[weight + 1]; s++) {
        crl_misfit_add(&sum->misfit, &j->crew.record[s].misfit);
        sum->nonfinite += j->crew.record[s].nonfinite;
    }
}

/* All bytes of the extent are there: its hash, and a record that it is done. */
static enum crl_status finish_extent(struct job *j, uint32_t extent, struct crl_err *err)
{
    const struct crl_extent *e = &j->crew.schema->extent[extent];
    enum crl_status st = crl_packer_extent_done(j->packer, extent, err);

    if (st || !j->keeper) return st;
    for (uint32_t i = 0; i < e->n; i++) add_up(j, e->first + i);
    crl_keeper_add(j->keeper, extent, j->sum + e->first);
    return CRL_OK;
}

static enum crl_status write_slab(struct job *j, const struct crl_slab *b, enum crl_format f,
                                  const unsigned char *bytes, struct crl_err *err)
{
    const struct crl_weight *w = &j->crew.schema->weight[b->weight];
    unsigned char header[CRL_ALIGN];
    size_t n_header = crl_mat_header_bytes(f);
    enum crl_status st = CRL_OK;

    if (b->panel == 0 && n_header) {
        crl_mat_header_put(f, header, crl_q4_level_default);
        st = crl_packer_put(j->packer, b->weight, 0, header, n_header, err);
    }
    if (!st)
        st = crl_packer_put(j->packer, b->weight, crl_slab_offset(b, w, f), bytes,
                            (size_t)crl_slab_bytes(b, w, f), err);
    if (!st && crl_crew_last_of_extent(&j->crew, b)) st = finish_extent(j, w->extent, err);
    return st;
}

static void convert_slab(struct crl_crew *crew, uint64_t i, const struct crl_slab *b,
                         struct crl_crew_bench *m)
{
    struct job *j = (struct job *)crew;
    const struct crl_weight *w = &crew->schema->weight[b->weight];
    enum crl_format f = crl_packer_format(j->packer, b->weight);
    struct crl_crew_record *r = &crew->record[i];
    struct crl_err err = { "" };
    enum crl_status st;

    st = crl_crew_pack(crew, b, f, m, &r->nonfinite, &err);
    if (st) {
        crl_crew_fail(crew, st, &err);
        return;
    }
    if (r->nonfinite && !crew->opt->allow_nonfinite) crl_crew_stop_after(crew, b->weight);
    if (crew->opt->measure)
        crl_slab_misfit(b, w, f, crl_q4_level_default, m->rows, m->bytes, m->scratch, &r->misfit);
    st = write_slab(j, b, f, m->bytes, &err);
    if (st) crl_crew_fail(crew, st, &err);
}

void crl_report_free(struct crl_report *r)
{
    if (!r) return;
    crl_free(r->row);
    memset(r, 0, sizeof *r);
}

/* Weights of matrix `weight` that are not finite, in its gate (or only) half and in its up half. */
static void count_nonfinite(struct job *j, size_t weight, uint64_t n[2])
{
    const struct crl_weight *w = &j->crew.schema->weight[weight];
    float *rows = j->crew.bench[0].rows;

    n[0] = n[1] = 0;
    for (uint64_t i = j->crew.slabs.first[weight]; i < j->crew.slabs.first[weight + 1]; i++) {
        struct crl_slab b = crl_slabs_at(&j->crew.slabs, i);
        if (crl_ckpt_read(j->crew.ck, weight, b.panel, b.n_panel, rows, NULL)) return;
        for (size_t r = 0; r < b.n_panel * CRL_PANEL_ROWS && b.panel * CRL_PANEL_ROWS + r < w->n; r++)
            for (size_t c = 0; c < w->k; c++)
                n[crl_weight_is_gate_up(w) && r / CRL_PANEL_ROWS % 2] += !isfinite(rows[r * w->k + c]);
    }
}

/* True, with a sentence, when it is a scale of this matrix that makes its weights not finite. */
static bool bad_scale(const struct job *j, size_t weight, struct crl_err *err)
{
    const struct crl_weight *w = &j->crew.schema->weight[weight];
    const struct crl_st_tensor *t;
    struct crl_stage s;
    unsigned char *data;
    const char *file;
    uint64_t index;
    float value;
    bool bad = false;

    for (size_t p = 0; !bad && p < crl_n_panel(w->n); p += 2) {
        size_t n = crl_n_panel(w->n) - p < 2 ? 1 : 2;
        crl_stage_plan(&s, j->crew.ck, weight, p, n);
        data = crl_alloc(s.bytes, 1);
        if (!data) return false;
        bad = !crl_stage_load(&s, j->crew.ck, data, NULL) &&
              crl_stage_bad_scale(&s, j->crew.ck, data, &t, &file, &index, &value);
        crl_free(data);
    }
    if (bad)
        crl_fail(err, CRL_EFORMAT, "%s: tensor %s: scale %llu is %g; it must be above 0 and finite", file,
                 t->name, (unsigned long long)index, (double)value);
    return bad;
}

/* The sentence about weights that are not finite: the first matrix that has some is read again, to say in
 * which tensor they are. */
static enum crl_status check_finite(struct job *j, const struct crl_report *r, struct crl_err *err)
{
    size_t n = 0, first = 0;
    const struct crl_st_tensor *t;
    const char *file;
    uint64_t count[2];
    unsigned half;

    for (size_t i = r->n_weight; i-- > 0;) {
        if (!r->row[i].nonfinite) continue;
        first = i;
        n++;
    }
    if (!n) return CRL_OK;
    if (bad_scale(j, first, err)) return CRL_EFORMAT;
    count_nonfinite(j, first, count);
    half = count[0] == 0;
    t = crl_ckpt_origin(j->crew.ck, first, half, &file);
    return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: %llu weights are NaN or infinite%s", file, t->name,
                    (unsigned long long)count[half],
                    n > 1 || (count[0] && count[1]) ? ", and there are more elsewhere" : "");
}

/* Better to say so now than after an hour. Blocks that the partial file has already are not needed again;
 * those of the checkpoint come back as it is consumed. */
static enum crl_status check_room(const char *path, uint64_t need, uint64_t allocated, struct crl_err *err)
{
    uint64_t have = crl_disk_free(path);

    if (have == 0 || need <= have + allocated) return CRL_OK;
    return crl_fail(err, CRL_EFULL, "%s: %llu bytes are needed, the disk has %llu left", path,
                    (unsigned long long)need, (unsigned long long)(have + allocated));
}

/* --- going on ---------------------------------------------------------------------------------------- */

/* What this program makes of one panel, whatever it is: another version that packs otherwise must not go on.
 */
static uint64_t packing_hash(const struct crl_kernels *kern)
{
    enum { K = 96 };
    float rows[CRL_PANEL_ROWS][K];
    const float *row[CRL_PANEL_ROWS];
    unsigned char *bytes = crl_alloc(1, crl_panel_bytes(CRL_BF16, K));
    uint32_t x = 1;
    uint64_t sum = 0;

    for (size_t r = 0; r < CRL_PANEL_ROWS; r++) {
        for (size_t i = 0; i < K; i++) {
            x = x * 1664525u + 1013904223u;
            rows[r][i] = (float)(int32_t)x * 0x1p-31f * (float)(1 + i % 7);
        }
        row[r] = rows[r];
    }
    for (enum crl_format f = CRL_BF16; bytes && f < CRL_FORMAT_END; f++) {
        crl_simd_panel_pack(kern, f, bytes, row, K, crl_q4_level_default, NULL);
        sum ^= crl_hash(bytes, crl_panel_bytes(f, K)) * (2 * (uint64_t)f + 1);
    }
    crl_free(bytes);
    return sum;
}

static uint64_t identity(const struct job *j)
{
    unsigned char b[32];

    crl_put_le64(b, crl_packer_identity(j->packer));
    crl_put_le64(b + 8, crl_ckpt_identity(j->crew.ck));
    crl_put_le64(b + 16, packing_hash(&j->crew.slabs.kern));
    crl_put_le64(b + 24, (uint64_t)j->crew.opt->allow_nonfinite | (uint64_t)j->crew.opt->measure << 1);
    return crl_hash(b, sizeof b);
}

/* An extent that the journal calls done is done if its bytes have the hash. */
static void check_extent(size_t extent, unsigned member, void *ctx)
{
    struct job *j = ctx;

    (void)member;
    if (!j->done[extent]) return;
    j->done[extent] = crl_packer_restore(j->packer, extent, j->hash[extent]);
    if (!j->done[extent]) atomic_fetch_add(&j->lost, 1);
}

static void take_over(struct job *j)
{
    const struct crl_schema *s = j->crew.schema;

    crl_team_each(j->crew.team, s->n_extent, check_extent, j);
    for (size_t i = 0; i < s->n_weight; i++) {
        struct crl_crew_record *first = &j->crew.record[j->crew.slabs.first[i]];
        if (!j->done[s->weight[i].extent]) continue;
        *first = j->sum[i];
        j->crew.skipped += (uint64_t)crl_n_panel(s->weight[i].n) * CRL_PANEL_ROWS * s->weight[i].k;
    }
    j->crew.skip = j->done;
}

static enum crl_status open_journal(struct job *j, struct crl_ckpt *ck, const char *path,
                                    const struct crl_convert_options *opt, struct crl_err *err)
{
    const struct crl_schema *s = j->crew.schema;
    bool found = false, keep_old, consume = opt->delete_source || crl_ckpt_consumed(ck);
    enum crl_status st;

    j->done = crl_alloc(s->n_extent, sizeof *j->done);
    j->hash = crl_alloc(s->n_extent, sizeof *j->hash);
    j->sum = crl_alloc(s->n_weight, sizeof *j->sum);
    if (!j->done || !j->hash || !j->sum)
        return crl_fail(err, CRL_ENOMEM, "%s: no memory for a journal", path);
    st =
        crl_keeper_open(&j->keeper, path, identity(j), opt->resume, s, j->done, j->hash, j->sum, &found, err);
    if (!st && crl_ckpt_consumed(ck) && !found)
        st = crl_fail(err, CRL_EUNSUPPORTED,
                      "%s: its weights are being moved into %s, and %s.partial is not of the same "
                      "conversion",
                      crl_ckpt_dir(ck), crl_ckpt_consumed(ck), path);
    keep_old = opt->resume && found;
    if (!st) st = crl_packer_open_partial(j->packer, keep_old, err);
    if (!st && !consume)
        st = check_room(path, crl_packer_size(j->packer), crl_packer_allocated(j->packer), err);
    if (!st && keep_old) take_over(j);
    if (!st && crl_ckpt_consumed(ck) && atomic_load(&j->lost))
        st =
            crl_fail(err, CRL_EFORMAT, "%s.partial: %zu extents are damaged, and their weights were given up",
                     path, atomic_load(&j->lost));
    if (!st) st = crl_keeper_start(j->keeper, &j->crew, j->packer, consume, err);
    /* the mark comes last: a source that has it and no journal beside the target could never be gone on with */
    if (!st && consume) st = crl_ckpt_consume_begin(ck, path, err);
    return st;
}

/* --- all together ------------------------------------------------------------------------------------ */

static enum crl_status run(struct job *j, struct crl_report *r, const struct crl_convert_options *opt,
                           struct crl_err *err)
{
    enum crl_status st = crl_crew_run(&j->crew, r, err);

    crl_keeper_stop(j->keeper);
    if (!st && j->crew.status)
        st = crl_fail(err, j->crew.status, "%s", j->crew.err.text); /* the journal's last words */
    if (!st && !opt->allow_nonfinite) st = check_finite(j, r, err);
    return st ? st : crl_packer_commit(j->packer, err);
}

enum crl_status crl_convert(struct crl_ckpt *ck, const struct crl_recipe *recipe, const char *path,
                            struct crl_pack **out, const struct crl_convert_options *opt,
                            struct crl_report *report, struct crl_err *err)
{
    struct job j = { .packer = NULL };
    struct crl_side_files side;
    struct crl_report unused = { 0 }, *r = report ? report : &unused;
    enum crl_status st;

    if (out) *out = NULL;
    memset(r, 0, sizeof *r);
    st = crl_side_files_read(&side, crl_ckpt_dir(ck), err);
    if (!st && path) st = crl_packer_plan(&j.packer, path, crl_ckpt_config(ck), recipe, &side.sections, err);
    if (!st && !path) st = crl_packer_new(&j.packer, NULL, crl_ckpt_config(ck), recipe, &side.sections, err);
    if (!st) r->bytes = crl_packer_size(j.packer);
    if (!st) st = crl_crew_init(&j.crew, ck, crl_packer_schema(j.packer), opt, convert_slab, err);
    if (!st && path) st = open_journal(&j, ck, path, opt, err);
    if (!st) st = run(&j, r, opt, err);
    r->kept = st && j.keeper && (opt->resume || opt->delete_source);
    if (r->kept) crl_packer_keep(j.packer);
    if (!st && path && (opt->delete_source || crl_ckpt_consumed(ck))) st = crl_ckpt_remove(ck, err);
    if (!st && !path) st = crl_packer_take(j.packer, out, crl_ckpt_dir(ck), err);
    r->seconds = j.crew.start ? crl_crew_now() - j.crew.start : 0; /* the last sync included */
    crl_keeper_close(j.keeper, r->kept);
    crl_crew_fini(&j.crew);
    crl_packer_close(j.packer);
    crl_side_files_free(&side);
    crl_free(j.done);
    crl_free(j.hash);
    crl_free(j.sum);
    crl_report_free(&unused);
    return st;
}

/* --- estimate
 * --------------------------------------------------------------------------------------------------- */

/* Seconds per weight of one thread: packs pieces of the largest matrix for a quarter of a second. */
static enum crl_status trial(const struct crl_ckpt *ck, const struct crl_recipe *recipe,
                             const struct crl_slabs *slabs, double *per_weight, struct crl_err *err)
{
    const struct crl_schema *s = crl_ckpt_schema(ck);
    float *rows = crl_alloc(slabs->most_rows, sizeof *rows);
    unsigned char *bytes = crl_alloc(slabs->most_bytes, 1);
    size_t big = 0;
    uint64_t weights = 0;
    double start, spent = 0;

    for (size_t i = 1; i < s->n_weight; i++)
        if ((uint64_t)s->weight[i].n * s->weight[i].k > (uint64_t)s->weight[big].n * s->weight[big].k)
            big = i;
    start = crl_crew_now();
    for (uint64_t i = slabs->first[big]; rows && bytes && i < slabs->first[big + 1] && spent < 0.25; i++) {
        struct crl_slab b = crl_slabs_at(slabs, i);
        const struct crl_weight *w = &s->weight[big];
        if (crl_ckpt_read(ck, big, b.panel, b.n_panel, rows, NULL)) break;
        crl_slab_pack(&slabs->kern, &b, w, crl_recipe_format(recipe, w), crl_q4_level_default, NULL, rows, bytes);
        weights += (uint64_t)b.n_panel * CRL_PANEL_ROWS * w->k;
        spent = crl_crew_now() - start;
    }
    *per_weight = weights ? spent / (double)weights : 0;
    crl_free(rows);
    crl_free(bytes);
    return weights ? CRL_OK : crl_fail(err, CRL_ENOMEM, "no memory for a trial");
}

/* Bytes of the file: extents at the alignment that the format gives them, after one page of header. */
static uint64_t file_bytes(const struct crl_schema *s, const struct crl_recipe *recipe)
{
    uint64_t at = 4096, bytes;

    for (size_t e = 0; e < s->n_extent; e++) {
        uint64_t size = 0, align;
        for (uint32_t i = 0; i < s->extent[e].n; i++) {
            const struct crl_weight *w = &s->weight[s->extent[e].first + i];
            if (crl_mat_bytes(crl_recipe_format(recipe, w), w->n, w->k, &bytes))
                size += (bytes + CRL_ALIGN - 1) / CRL_ALIGN * CRL_ALIGN;
        }
        size = (size + 4095) / 4096 * 4096;
        align = size >= (uint64_t)32 << 20 ? (uint64_t)2 << 20 : 4096;
        at = (at + align - 1) / align * align + size;
    }
    return at;
}

enum crl_status crl_convert_estimate(const struct crl_ckpt *ck, const struct crl_recipe *recipe,
                                     const char *path, const struct crl_convert_options *opt,
                                     struct crl_convert_plan *plan, struct crl_err *err)
{
    const struct crl_schema *s = crl_ckpt_schema(ck);
    struct crl_crew_plan crew = { 0 };
    struct crl_slabs slabs;
    double per_weight = 0;
    enum crl_status st = crl_recipe_check(recipe, s, err);

    memset(plan, 0, sizeof *plan);
    if (!st) st = crl_slabs_new(&slabs, s, err);
    if (st) return st;
    for (size_t i = 0; i < s->n_weight; i++) plan->weights += (uint64_t)s->weight[i].n_real * s->weight[i].k;
    plan->file_bytes = file_bytes(s, recipe);
    plan->disk_free = path ? crl_disk_free(path) : 0;
    st = crl_crew_plan(&crew, ck, &slabs, opt, err);
    plan->jobs = crew.jobs;
    plan->memory_bytes = crew.bytes;
    if (!st) st = trial(ck, recipe, &slabs, &per_weight, err);
    if (!st) plan->seconds = per_weight * (double)plan->weights / plan->jobs;
    crl_slabs_free(&slabs);
    return st;
}
