/* verify.h - is a packed file what its checkpoint, converted afresh, would give? */
#ifndef CRL_CONVERT_VERIFY_H
#define CRL_CONVERT_VERIFY_H

#include "convert/convert.h"

struct crl_verify_report {
    struct crl_report report;              /* misfit always measured; differs says which matrices do */
    size_t n_differ;                       /* matrices whose bytes are not those of a fresh conversion */
    bool section_differs[CRL_SECTION_END]; /* of the sections that come from files beside the weights */
};
void crl_verify_report_free(struct crl_verify_report *r);

/* Derive every matrix again from `ck`, in the formats of the pack, and compare. CRL_EDIFFER when
 * configurations, sections or any bytes differ (the report is complete unless the configurations differ);
 * opt->measure is ignored. Weights that are not finite count as 0 here, as in a conversion that allows them.
 */
enum crl_status crl_verify_against(const struct crl_pack *pack, const struct crl_ckpt *ck,
                                   const struct crl_convert_options *opt, struct crl_verify_report *report,
                                   struct crl_err *err);

#endif
