/* report.h - a history as one HTML page that needs nothing else: no scripts, no files, no network. Everything
 * that comes from the history is escaped. */
#ifndef CRL_EVAL_REPORT_H
#define CRL_EVAL_REPORT_H

#include "eval/history.h"
#include "text/str.h"

struct crl_report_options {
    const char *suite; /* NULL: that of the last run */
    size_t runs;       /* most runs shown, the last ones; 0: 60 */
    size_t worst;      /* items listed per evaluation; 0: 10 */
};

/* Append the page. CRL_ENOENT: the history has no finished run (of the suite). */
enum crl_status crl_report_html(struct crl_history *h, const struct crl_report_options *o,
                                struct crl_str *out, struct crl_err *err);

#endif
