/* calibrate.h - activation statistics of a model over a corpus (store/calib.h).
 *
 * The corpus is read once, window by window, with every matrix's inputs observed. Sums are float32, of partial sums per
 * pass, each made by one thread in the order of tokens: for one build and machine they depend on model, corpus, window
 * and span, not on the number of threads. */
#ifndef CRL_EVAL_CALIBRATE_H
#define CRL_EVAL_CALIBRATE_H

#include "eval/corpus.h"
#include "store/calib.h"

struct crl_calibrate_options {
    uint32_t span; /* of the products; 0: none are kept */
    bool (*progress)(void *ctx, size_t done, size_t total); /* positions; false asks to stop. May be NULL */
    void *ctx;
};

/* What was seen of the routed experts. */
struct crl_calibrate_expert {
    uint32_t layer, expert;
    uint64_t rows;
};

struct crl_calibrate_report {
    uint64_t tokens; /* positions fed */
    uint64_t bytes;  /* of the file */
    size_t n_expert; /* routed experts of all layers */
    struct crl_calibrate_expert *poor; /* those with fewer than CRL_CALIBRATE_POOR rows, fewest first */
    size_t n_poor;
};
#define CRL_CALIBRATE_POOR 256

/* Run the windows and write the statistics to `path`. report is freed by crl_calibrate_report_free. */
enum crl_status crl_calibrate(struct crl_engine *engine, const struct crl_corpus *corpus,
                              const struct crl_windows *windows, const struct crl_calibrate_options *options,
                              const char *path, struct crl_calibrate_report *report, struct crl_err *err);
void crl_calibrate_report_free(struct crl_calibrate_report *r);

/* Id of an engine's model (crl_calib_model_id). */
enum crl_status crl_calibrate_model_id(uint64_t *id, const struct crl_engine *engine, struct crl_err *err);

#endif
