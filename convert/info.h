/* info.h - what a model is made of, as numbers for tables: of a packed file, or of a checkpoint under a
 * recipe. */
#ifndef CRL_CONVERT_INFO_H
#define CRL_CONVERT_INFO_H

#include "convert/convert.h"

/* All matrices of one kind together. */
struct crl_class {
    uint64_t n;                        /* matrices */
    uint64_t params;                   /* padding not counted */
    uint64_t bytes;                    /* packed */
    uint64_t n_format[CRL_FORMAT_END]; /* matrices by format */
    struct crl_misfit misfit;          /* when a report was given */
};

struct crl_info {
    struct crl_totals totals;
    struct crl_class kind[CRL_KIND_END]; /* n is 0 for kinds the model does not have */
};

/* report, of the same schema, may be NULL. */
enum crl_status crl_info_pack(struct crl_info *info, const struct crl_pack *pack,
                              const struct crl_report *report, struct crl_err *err);
enum crl_status crl_info_recipe(struct crl_info *info, const struct crl_schema *schema,
                                const struct crl_recipe *recipe, const struct crl_report *report,
                                struct crl_err *err);

/* The formats of a class, commonest first: "q4", "q4 bf16". Returns `text`. */
#define CRL_CLASS_TEXT 32
const char *crl_class_formats(const struct crl_class *c, char text[CRL_CLASS_TEXT]);

/* Indices of the n matrices with the largest relative misfit, worst first, into worst[n]; those without any
 * misfit are left out. Returns how many there are. */
size_t crl_report_worst(const struct crl_report *r, size_t *worst, size_t n);

#endif
