/* convert.c - slabs packed and written. */
#define _GNU_SOURCE
#include "convert/convert.h"

#include "base/mem.h"
#include "convert/crew.h"
#include "convert/sections.h"

#include <math.h>
#include <string.h>
#include <sys/statvfs.h>

struct job {
    struct crl_crew crew;
    struct crl_packer *packer;
};

/* All bytes of the extent are there: its hash, and the checkpoint's pages are needed no more. */
static enum crl_status finish_extent(struct job *j, uint32_t extent, struct crl_err *err)
{
    return crl_packer_extent_done(j->packer, extent, err);
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

    r->nonfinite = crl_slab_pack(&crew->slabs.kern, b, w, f, crl_q4_level_default, m->rows, m->bytes);
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
    count_nonfinite(j, first, count);
    half = count[0] == 0;
    t = crl_ckpt_origin(j->crew.ck, first, half, &file);
    return crl_fail(err, CRL_EFORMAT, "%s: tensor %s: %llu weights are NaN or infinite%s", file, t->name,
                    (unsigned long long)count[half],
                    n > 1 || (count[0] && count[1]) ? ", and there are more elsewhere" : "");
}

static uint64_t disk_free(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? crl_memdup0(path, slash == path ? 1 : (size_t)(slash - path)) : crl_strdup(".");
    struct statvfs v;
    uint64_t n = 0;

    if (dir && statvfs(dir, &v) == 0) n = (uint64_t)v.f_bavail * v.f_frsize;
    crl_free(dir);
    return n;
}

/* Better to say so now than after an hour. */
static enum crl_status check_room(const char *path, uint64_t need, struct crl_err *err)
{
    uint64_t have = path ? disk_free(path) : 0;

    if (!path || have == 0 || need <= have) return CRL_OK;
    return crl_fail(err, CRL_EFULL, "%s: %llu bytes are needed, the disk has %llu left", path,
                    (unsigned long long)need, (unsigned long long)have);
}

enum crl_status crl_convert(const struct crl_ckpt *ck, const struct crl_recipe *recipe, const char *path,
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
    if (!st) st = crl_packer_new(&j.packer, path, crl_ckpt_config(ck), recipe, &side.sections, err);
    if (!st) st = check_room(path, r->bytes = crl_packer_size(j.packer), err);
    if (!st) st = crl_crew_init(&j.crew, ck, crl_packer_schema(j.packer), opt, convert_slab, err);
    if (!st) st = crl_crew_run(&j.crew, r, err);
    if (!st && !opt->allow_nonfinite) st = check_finite(&j, r, err);
    if (!st) st = crl_packer_commit(j.packer, err);
    if (!st && !path) st = crl_packer_take(j.packer, out, crl_ckpt_dir(ck), err);
    r->seconds = j.crew.start ? crl_crew_now() - j.crew.start : 0; /* the last sync included */
    crl_crew_fini(&j.crew);
    crl_packer_close(j.packer);
    crl_side_files_free(&side);
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
        crl_slab_pack(&slabs->kern, &b, w, crl_recipe_format(recipe, w), crl_q4_level_default, rows, bytes);
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
    plan->disk_free = path ? disk_free(path) : 0;
    st = crl_crew_plan(&crew, ck, &slabs, opt, err);
    plan->jobs = crew.jobs;
    plan->memory_bytes = crew.bytes;
    if (!st) st = trial(ck, recipe, &slabs, &per_weight, err);
    if (!st) plan->seconds = per_weight * (double)plan->weights / plan->jobs;
    crl_slabs_free(&slabs);
    return st;
}
