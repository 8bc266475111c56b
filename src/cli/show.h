/* show.h - tables and JSON about models that several commands print alike. */
#ifndef CRL_CLI_SHOW_H
#define CRL_CLI_SHOW_H

#include "cli/cli.h"
#include "convert/info.h"

/* Table on stdout: a line per kind of matrix with count, weights, formats, bytes, and relative error if
 * measured. */
void crl_show_classes(const struct crl_info *info, bool measured);

/* Array of the same facts. NULL on exhaustion. */
json_t *crl_show_classes_json(const struct crl_info *info, bool measured);

/* {"weights", "weights_active", "weights_read", "weights_routed", "bytes", "bytes_read"} */
json_t *crl_show_totals_json(const struct crl_totals *t);

/* {"layers", "heads", ...}: the architecture. */
json_t *crl_show_config_json(const struct crl_config *cfg);

/* The same in a few lines on stdout. */
void crl_show_config(const struct crl_config *cfg);

/* The worst n matrices of a report, by relative error. */
void crl_show_worst(const struct crl_schema *s, const struct crl_report *r, size_t n);
json_t *crl_show_worst_json(const struct crl_schema *s, const struct crl_report *r, size_t n);
#define CRL_SHOW_WORST_MAX 32

/* Number that JSON can hold; infinities and NaN become null. */
json_t *crl_show_real(double x);

#endif
