/* export.h - a packed file turned back into a checkpoint: weights dequantised to BF16, under Hugging Face
 * names, in safetensors shards with an index, so that other programs can run or measure what the packing made
 * of them.
 *
 * The text model alone: config.json says Llama4ForCausalLM. generation_config.json and the chat template come
 * along; the tokenizer's own files do not, since the packed file keeps it in another form. config.json is
 * written last: a folder without it is not finished. */
#ifndef CRL_CONVERT_EXPORT_H
#define CRL_CONVERT_EXPORT_H

#include "store/pack.h"

struct crl_export_options {
    unsigned jobs;             /* threads; 0: one per usable core */
    uint64_t shard_bytes;      /* a shard ends before it grows past this, unless one tensor does; 0: 5 GB */
    crl_progress_fn *progress; /* bytes done of bytes in all; may be NULL */
    void *ctx;
};

struct crl_export_report {
    size_t n_tensor, n_file;
    uint64_t bytes; /* of the tensors */
    double seconds;
    bool left_out_vision; /* there is a tower in the packed file */
};

/* folder is made if need be and must be empty. */
enum crl_status crl_export(const struct crl_pack *pack, const char *folder,
                           const struct crl_export_options *opt, struct crl_export_report *report,
                           struct crl_err *err);

#endif
