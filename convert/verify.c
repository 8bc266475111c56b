/* verify.c - the converter's work done again, compared instead of written. */
#include "convert/verify.h"

#include "base/mem.h"
#include "base/team.h"
#include "convert/crew.h"
#include "convert/sections.h"

#include <stdlib.h>
#include <string.h>

struct check {
    struct crl_crew crew;
    const struct crl_pack *pack;
    unsigned char *differs; /* [slabs] */
};

static void check_slab(struct crl_crew *crew, uint64_t i, const struct crl_slab *b, struct crl_crew_bench *m)
{
    struct check *c = (struct check *)crew;
    const struct crl_weight *w = &crew->schema->weight[b->weight];
    enum crl_format f = crl_pack_format(c->pack, b->weight);
    unsigned char header[CRL_ALIGN];
    struct crl_err err = { "" };
    struct crl_mat mat;
    const unsigned char *packed;
    enum crl_status st;

    crl_pack_mat(c->pack, b->weight, &mat);
    packed = mat.panel - crl_mat_header_bytes(f);
    st = crl_crew_pack(crew, b, f, m, &crew->record[i].nonfinite, &err);
    if (st) {
        crl_crew_fail(crew, st, &err);
        return;
    }
    if (b->panel == 0 && crl_mat_header_bytes(f)) {
        crl_mat_header_put(f, header, crl_q4_level_default);
        c->differs[i] |= memcmp(header, packed, crl_mat_header_bytes(f)) != 0;
    }
    packed += crl_slab_offset(b, w, f);
    c->differs[i] |= memcmp(m->bytes, packed, (size_t)crl_slab_bytes(b, w, f)) != 0;
    crl_slab_misfit(b, w, f, mat.level, m->rows, packed, m->scratch, &crew->record[i].misfit);
}

/* Two configurations are the same when their canonical texts are. */
static enum crl_status compare_config(const struct crl_pack *pack, const struct crl_ckpt *ck,
                                      struct crl_err *err)
{
    char *a = crl_config_to_json(crl_pack_config(pack)), *b = crl_config_to_json(crl_ckpt_config(ck));
    enum crl_status st = CRL_OK;

    if (!a || !b) st = crl_fail(err, CRL_ENOMEM, "no memory for two configurations");
    else if (strcmp(a, b))
        st = crl_fail(err, CRL_EDIFFER, "%s: its configuration is not that of %s", crl_pack_name(pack),
                      crl_ckpt_dir(ck));
    crl_free(a);
    crl_free(b);
    return st;
}

/* A fresh conversion needs the statistics that the file was packed by. */
static enum crl_status check_calibration(const struct crl_pack *pack, const struct crl_calib *calib,
                                         struct crl_err *err)
{
    uint64_t want = crl_pack_calibration(pack), have = calib ? crl_calib_hash(calib) : 0;

    if (want == have) return CRL_OK;
    if (!want)
        return crl_fail(err, CRL_ERANGE, "%s: it was packed without statistics, some were given", crl_pack_name(pack));
    if (!have)
        return crl_fail(err, CRL_ERANGE, "%s: it was packed by activation statistics (hash %016llx), which are needed",
                        crl_pack_name(pack), (unsigned long long)want);
    return crl_fail(err, CRL_ERANGE, "%s: it was packed by statistics of hash %016llx, those given have %016llx",
                    crl_pack_name(pack), (unsigned long long)want, (unsigned long long)have);
}

static enum crl_status compare_sections(const struct crl_pack *pack, const struct crl_ckpt *ck,
                                        struct crl_verify_report *r, struct crl_err *err)
{
    static const enum crl_section kinds[] = { CRL_SECTION_TOKENIZER, CRL_SECTION_GENERATION,
                                              CRL_SECTION_CHAT_TEMPLATE, CRL_SECTION_PREPROCESSING };
    struct crl_side_files side;
    enum crl_status st = crl_side_files_read(&side, crl_ckpt_dir(ck), err);

    if (st) return st;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t len, want = side.sections.len[kinds[i]];
        const unsigned char *have = crl_pack_section(pack, kinds[i], &len);
        r->section_differs[kinds[i]] =
            len != want || (len && memcmp(have, side.sections.data[kinds[i]], len));
    }
    crl_side_files_free(&side);
    return CRL_OK;
}

static enum crl_status conclude(const struct crl_pack *pack, const struct check *c,
                                struct crl_verify_report *r, struct crl_err *err)
{
    size_t first = SIZE_MAX;
    char name[CRL_NAME_MAX];

    for (size_t i = r->report.n_weight; i-- > 0;) {
        for (uint64_t s = c->crew.slabs.first[i]; s < c->crew.slabs.first[i + 1]; s++)
            r->report.row[i].differs |= c->differs[s];
        if (!r->report.row[i].differs) continue;
        r->n_differ++;
        first = i;
    }
    if (r->n_differ) {
        crl_weight_name(&c->crew.schema->weight[first], name);
        return crl_fail(err, CRL_EDIFFER,
                        "%s: %zu of %zu tensors differ from a fresh conversion, the first is %s",
                        crl_pack_name(pack), r->n_differ, r->report.n_weight, name);
    }
    for (size_t i = 0; i < CRL_SECTION_END; i++)
        if (r->section_differs[i])
            return crl_fail(err, CRL_EDIFFER, "%s: section %s differs from the checkpoint's",
                            crl_pack_name(pack), crl_section_name(i));
    return CRL_OK;
}

void crl_verify_report_free(struct crl_verify_report *r)
{
    if (!r) return;
    crl_report_free(&r->report);
    memset(r, 0, sizeof *r);
}

enum crl_status crl_verify_against(const struct crl_pack *pack, const struct crl_ckpt *ck,
                                   const struct crl_convert_options *opt, struct crl_verify_report *report,
                                   struct crl_err *err)
{
    struct check c = { .pack = pack };
    struct crl_verify_report unused = { 0 }, *r = report ? report : &unused;
    enum crl_status st;

    memset(r, 0, sizeof *r);
    st = check_calibration(pack, opt->calib, err);
    if (!st) st = compare_config(pack, ck, err);
    if (!st) st = compare_sections(pack, ck, r, err);
    if (!st) st = crl_crew_init(&c.crew, ck, crl_pack_schema(pack), opt, check_slab, err);
    if (!st && !(c.differs = crl_alloc((size_t)c.crew.slabs.n, 1)))
        st = crl_fail(err, CRL_ENOMEM, "no memory for the list of work");
    if (!st) st = crl_crew_run(&c.crew, &r->report, err);
    if (!st) st = conclude(pack, &c, r, err);
    r->report.bytes = crl_pack_size(pack);
    crl_crew_fini(&c.crew);
    crl_free(c.differs);
    crl_verify_report_free(&unused);
    return st;
}
