/* checkpoint.h - a checkpoint on disk, in Hugging Face layout or as Meta published it, seen as the matrices
 * that the packed file consists of.
 *
 * Opening reads config.json (params.json), opens the weight files (one, shards with an index, or
 * consolidated.NN.pth), reads their headers, finds for every matrix of the schema the tensor or tensors that
 * hold it, whatever they are called and whichever way round they are stored, and checks types and shapes.
 * What is missing, left over or of another shape is refused with one sentence. A vision tower
 * is taken along when there are both its tensors and a vision_config; without the latter its tensors are passed over, and
 * so they are in original files. Afterwards rows can be read by any number of threads, in float32.
 *
 * Names and layouts that are understood: docs/model.md, "Tensor names". */
#ifndef CRL_CONVERT_CHECKPOINT_H
#define CRL_CONVERT_CHECKPOINT_H

#include "convert/hfconfig.h"
#include "convert/safetensors.h"
#include "store/schema.h"

struct crl_ckpt;

/* path: the folder, or the weight file (or index) with config.json (params.json) beside it. */
enum crl_status crl_ckpt_open(struct crl_ckpt **ck, const char *path, struct crl_err *err);
void crl_ckpt_close(struct crl_ckpt *ck);

const char *crl_ckpt_dir(const struct crl_ckpt *ck);
const struct crl_config *crl_ckpt_config(const struct crl_ckpt *ck);
const struct crl_schema *crl_ckpt_schema(const struct crl_ckpt *ck);
const struct crl_notes *crl_ckpt_notes(const struct crl_ckpt *ck);

/* What the checkpoint is made of, for reports. */
struct crl_ckpt_facts {
    size_t n_file;
    uint64_t bytes;  /* of all weight files */
    size_t n_tensor; /* listed */
    size_t n_vision; /* of the vision tower; passed over unless the configuration is multimodal */
    uint64_t vision_bytes;
    uint64_t type_bytes[CRL_ST_END]; /* by enum crl_st_type, tensors of the text model alone */
};
void crl_ckpt_facts(const struct crl_ckpt *ck, struct crl_ckpt_facts *f);

/* Tensor i of n_tensor by name, and its file. */
const struct crl_st_tensor *crl_ckpt_tensor(const struct crl_ckpt *ck, size_t i, const char **file);

/* The tensor that holds matrix i of the schema, and its file's path (may be NULL). half: 0, or 1 for the up
 * rows of a gate-up matrix; both may be in one tensor. */
const struct crl_st_tensor *crl_ckpt_origin(const struct crl_ckpt *ck, size_t weight, unsigned half,
                                            const char **file);

/* Gate rows and up rows in one matrix, panel by panel. */
bool crl_weight_is_gate_up(const struct crl_weight *w);

/* True when row `row` of the matrix as packed is a weight row and not padding. */
bool crl_weight_has_row(const struct crl_weight *w, size_t row);

/* Panels [panel, panel + n_panel) of matrix `weight` as float32, rows[16 * n_panel][k]; padding rows are
 * zero. Codes come multiplied by their scale. panel and n_panel are even for gate-up matrices. For a few
 * rows; whole tensors go through stages (stage.h). */
enum crl_status crl_ckpt_read(const struct crl_ckpt *ck, size_t weight, size_t panel, size_t n_panel,
                              float *rows, struct crl_err *err);

/* CRL_EIO when a weight file was written to or replaced since the checkpoint was opened. */
enum crl_status crl_ckpt_check(const struct crl_ckpt *ck, struct crl_err *err);

/* Identity of all weight files: their sizes, times and headers. */
uint64_t crl_ckpt_identity(const struct crl_ckpt *ck);

/* Before the first crl_ckpt_consume: leave a mark in the folder that its weights are going into `target`. From then on
 * the checkpoint opens, but crl_ckpt_consumed names the target and nothing but that conversion may read it.
 * CRL_EUNSUPPORTED when two tensors share bytes. */
enum crl_status crl_ckpt_consume_begin(struct crl_ckpt *ck, const char *target, struct crl_err *err);
/* NULL: it is whole. */
const char *crl_ckpt_consumed(const struct crl_ckpt *ck);
/* Give the disk blocks of matrix `weight` back. CRL_EUNSUPPORTED where the file system cannot. */
enum crl_status crl_ckpt_consume(const struct crl_ckpt *ck, size_t weight, struct crl_err *err);
/* Remove all weight files, and the mark. */
enum crl_status crl_ckpt_remove(struct crl_ckpt *ck, struct crl_err *err);

#endif
