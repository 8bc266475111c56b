/* stage.h - a run of rows of one matrix, brought from the checkpoint into memory as it is stored.
 *
 * Reading and widening are apart, so that one thread can wait for the disk while others compute. A stage is
 * planned (how many bytes), loaded (the only step that reads, and the only one that can fail), then any
 * number of threads take float32 rows out of it. Experts that are stored input-major have their whole tensor
 * read in one go when the run covers all of their rows, otherwise input by input. */
#ifndef CRL_CONVERT_STAGE_H
#define CRL_CONVERT_STAGE_H

#include "convert/checkpoint.h"

struct crl_stage {
    size_t weight; /* index in the schema */
    size_t panel, n_panel;
    size_t bytes; /* of memory wanted */
    struct crl_stage_part {
        uint32_t lo, hi; /* rows of the part */
        size_t base;     /* of its codes in memory */
        size_t scale;    /* of its scales */
        bool whole;      /* input-major pieces lie there with all their columns */
    } part[2];
    bool shared; /* the second part lies among the columns of the first */
};

/* Panels [panel, panel + n_panel), both even for gate-up matrices. */
void crl_stage_plan(struct crl_stage *s, const struct crl_ckpt *ck, size_t weight, size_t panel,
                    size_t n_panel);

/* Read into `data`, s->bytes long and 64-byte aligned. */
enum crl_status crl_stage_load(const struct crl_stage *s, const struct crl_ckpt *ck, unsigned char *data,
                               struct crl_err *err);

/* Panels [panel, panel + n_panel) within those of the stage as float32, rows[16 * n_panel][k]; padding rows
 * are zero. Codes come multiplied by their scale; under a scale that is not above 0 and finite they are NaN.
 */
void crl_stage_rows(const struct crl_stage *s, const struct crl_ckpt *ck, const unsigned char *data,
                    size_t panel, size_t n_panel, float *rows);

/* The first scale of the stage that is not above 0 and finite: its tensor, index and value. False: there is
 * none. */
bool crl_stage_bad_scale(const struct crl_stage *s, const struct crl_ckpt *ck, const unsigned char *data,
                         const struct crl_st_tensor **t, const char **file, uint64_t *index, float *value);

#endif
