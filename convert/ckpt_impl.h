/* ckpt_impl.h - what a checkpoint looks like from inside: shared by the files that find tensors
 * (checkpoint.c, bind.c, meta.c) and the one that reads them (stage.c). Internal to convert/. */
#ifndef CRL_CONVERT_CKPT_IMPL_H
#define CRL_CONVERT_CKPT_IMPL_H

#include "convert/checkpoint.h"
#include "convert/pth.h"

/* A tensor of the checkpoint and the file it is in. */
struct crl_entry {
    const struct crl_st_tensor *t;
    const struct crl_in *in;
    unsigned shard; /* of the same name, in model-parallel files; else 0 */
    bool used;
};

/* The numbers that stored codes are multiplied by: one per `rows` x `inputs` weights. The scale of row r,
 * input i is element at + (r / rows) * stride + i / inputs of the tensor, or at + (i / inputs) * stride + r /
 * rows when input_major. */
struct crl_scale {
    const struct crl_entry *e; /* NULL: none */
    uint64_t at, stride;
    uint32_t rows, inputs;
    bool input_major;
};

/* How weights are written down. */
enum crl_code {
    CRL_CODE_PLAIN, /* one value of the tensor's type each */
    CRL_CODE_INT4, /* 8 in a word of 32 bits, lowest bits first, 8 added to each; rows begin with a fresh word
                    */
    CRL_CODE_INT8  /* 4 in a word, 128 added */
};

/* Where part of a matrix comes from: all of it, or its gate or up rows. Row r, input i is element at + r *
 * stride + i of the tensor, or at + i * stride + r when it is stored input-major.
 *
 * Model-parallel files hold a tensor in n_piece pieces of equal shape, entries e[0 .. n_piece): rows (or,
 * by_input, inputs) of the part are cut into as many equal runs, and at and stride count inside each piece.
 */
struct crl_part {
    const struct crl_entry *e;
    uint32_t n_piece;
    bool by_input;
    enum crl_code code;
    struct crl_scale scale;
    uint64_t at, stride; /* of words for the packed codes */
    uint32_t n, k;       /* rows, inputs */
    bool input_major;
};

struct crl_origin {
    struct crl_part part[2]; /* the second only for gate-up matrices */
};

struct crl_ckpt {
    char *dir;
    char *consumed; /* file that the weights went into, or NULL */
    struct crl_config cfg;
    struct crl_notes notes;
    char quant[32]; /* quantisation method that config.json declares */
    bool meta;      /* the original files: consolidated.NN.pth */
    size_t n_file;
    struct crl_ckpt_file {
        struct crl_st *st; /* one of the two */
        struct crl_pth *pth;
    } * file;
    size_t n_entry;
    struct crl_entry *entry; /* by name, then by shard */
    struct crl_schema *schema;
    struct crl_origin *origin; /* [schema->n_weight] */
    char prefix[48];           /* what stands before "layers.0." in this checkpoint's names */
    float e4m3[256];           /* the values of F8_E4M3 */
};

/* The first entry of this name, or NULL. */
struct crl_entry *crl_ckpt_find(const struct crl_ckpt *ck, const char *name);

/* bind.c: fill in schema and origin of a checkpoint in Hugging Face layout, whose files are open. */
enum crl_status crl_ckpt_bind(struct crl_ckpt *ck, struct crl_err *err);
bool crl_ckpt_is_vision(const char *name);

/* meta.c: the same for the original files; and their configuration, from params.json. */
enum crl_status crl_meta_bind(struct crl_ckpt *ck, struct crl_err *err);
enum crl_status crl_meta_params(struct crl_config *cfg, const char *text, size_t len, const char *what,
                                struct crl_notes *notes, struct crl_err *err);

#endif
