/* pack.h - the packed file: one self-contained .crl with configuration, tokenizer, generation defaults and
 * weights. docs/format.md specifies it; this header reads and writes it.
 *
 * Reading. crl_pack_open maps the file and checks all of it but the weights' own bytes: directory and section
 * hashes, every count, offset, size and shape against the configuration. Nothing is allocated before the
 * counts it is allocated for have been checked, and never more than the file is long. A pack is immutable and
 * may be used by many threads; what it hands out lives until crl_pack_close. crl_pack_verify reads the
 * weights as well.
 *
 * Writing. The layout is known before any data: it follows from configuration, recipe and sections. Data then
 * comes in any order from any thread. The bytes of the file depend on content and recipe alone. */
#ifndef CRL_STORE_PACK_H
#define CRL_STORE_PACK_H

#include "base/team.h"
#include "store/schema.h"

/* Parts of the file that are not weights. The numbers are those of the file. */
enum crl_section {
    CRL_SECTION_CONFIG = 1,        /* crl_config_to_json; always there */
    CRL_SECTION_TOKENIZER = 2,     /* docs/format-tokenizer.md */
    CRL_SECTION_GENERATION = 3,    /* JSON, generation_config.json as found */
    CRL_SECTION_CHAT_TEMPLATE = 4, /* UTF-8 text */
    CRL_SECTION_PREPROCESSING = 5, /* JSON, of the image processor */
    CRL_SECTION_PROVENANCE = 6     /* JSON, recipe and overrides; always there */
};
#define CRL_SECTION_END 7
#define CRL_SECTION_MAX ((size_t)1 << 30)      /* bytes of one section */
#define CRL_SECTION_OWN_MAX ((size_t)64 << 10) /* bytes of config or provenance, which are parsed at open */

const char *crl_section_name(enum crl_section kind);

/* Where an extent lies. */
struct crl_place {
    uint64_t offset; /* bytes from the start of the file, a multiple of 4096; of 2 MiB when size >= 32 MiB */
    uint64_t size;   /* bytes, a multiple of 4096 */
    uint64_t hash;   /* XXH3-64 of those bytes */
};

/* --- reading ------------------------------------------------------------------------------------------ */

struct crl_pack;

enum crl_status crl_pack_open(struct crl_pack **out, const char *path, struct crl_err *err);

/* The same over memory that the caller keeps until close. data is 64-byte aligned (CRL_ERANGE otherwise);
 * `name` stands for the path in messages. */
enum crl_status crl_pack_open_mem(struct crl_pack **out, const void *data, uint64_t size, const char *name,
                                  struct crl_err *err);
void crl_pack_close(struct crl_pack *p);

const char *crl_pack_name(const struct crl_pack *p); /* path or name given to open */
const struct crl_config *crl_pack_config(const struct crl_pack *p);
const struct crl_schema *crl_pack_schema(const struct crl_pack *p);
const char *crl_pack_recipe(const struct crl_pack *p); /* "q4" */
uint64_t crl_pack_calibration(const struct crl_pack *p); /* hash of the statistics it was packed by; 0: none */
const unsigned char *crl_pack_data(const struct crl_pack *p); /* the whole file */
uint64_t crl_pack_size(const struct crl_pack *p);

/* Descriptor of the file, -1 for a pack in memory; crl_pack_close closes it. */
int crl_pack_fd(const struct crl_pack *p);

/* The weights are needed here no more, for they have been copied: give the memory of extent `extent` back. Does nothing
 * for a file, whose pages are not ours. */
void crl_pack_drop(struct crl_pack *p, size_t extent);

/* Content of a section, borrowed, not zero terminated; NULL and *len 0 when the file has none such. */
const unsigned char *crl_pack_section(const struct crl_pack *p, enum crl_section kind, size_t *len);

/* Extent i of crl_pack_schema(p)->n_extent. */
const struct crl_place *crl_pack_extent(const struct crl_pack *p, size_t extent);

/* Matrix i of crl_pack_schema(p)->n_weight: its format, and its place inside its extent in bytes. */
enum crl_format crl_pack_format(const struct crl_pack *p, size_t weight);
const enum crl_format *crl_pack_formats(const struct crl_pack *p); /* of all matrices */
uint64_t crl_pack_weight_offset(const struct crl_pack *p, size_t weight);
uint64_t crl_pack_weight_bytes(const struct crl_pack *p, size_t weight);

/* Bind matrix i to the mapped file, or to a copy of its whole extent elsewhere (64-byte aligned). */
void crl_pack_mat(const struct crl_pack *p, size_t weight, struct crl_mat *m);
void crl_pack_mat_at(const struct crl_pack *p, size_t weight, const void *extent, struct crl_mat *m);

/* The same by packed name; CRL_ENOENT when there is none. */
enum crl_status crl_pack_mat_named(const struct crl_pack *p, const char *name, struct crl_mat *m,
                                   struct crl_err *err);

/* Totals of this file (crl_schema_totals with its formats). */
enum crl_status crl_pack_totals(const struct crl_pack *p, struct crl_totals *t, struct crl_err *err);

/* Long work reports bytes done of bytes in all, from the calling thread alone; false asks to stop. May be
 * NULL. */
typedef bool crl_progress_fn(void *ctx, uint64_t done, uint64_t total);

/* Read all weights: extent hashes, and zeros in the gaps between extents. CRL_EDIFFER names the first damaged
 * extent (by file order) and its tensors, and counts the others; CRL_EINTR when progress asked to stop. */
enum crl_status crl_pack_verify(const struct crl_pack *p, struct crl_team *team, crl_progress_fn *progress,
                                void *ctx, struct crl_err *err);

/* --- writing ------------------------------------------------------------------------------------------ */

struct crl_packer;

/* Sections by kind; NULL or length 0 leaves one out. CONFIG and PROVENANCE are made by the packer, ignored
 * here. */
struct crl_sections {
    const void *data[CRL_SECTION_END];
    size_t len[CRL_SECTION_END];
};

/* Plan the whole layout and open the target: a file that appears under `path` on commit (base/file.h), or
 * memory when path is NULL. cfg, recipe and sections are copied or written at once. The recipe is checked. */
enum crl_status crl_packer_new(struct crl_packer **out, const char *path, const struct crl_config *cfg,
                               const struct crl_recipe *recipe, const struct crl_sections *sections,
                               struct crl_err *err);
/* The same in two steps, for work that may be taken up again. A planned packer has no target yet; what sections point to
 * must live until the second step, which opens PATH.partial (crl_out_open_partial): keep_old goes on with the bytes that
 * are there, see crl_packer_restore. */
enum crl_status crl_packer_plan(struct crl_packer **out, const char *path, const struct crl_config *cfg,
                                const struct crl_recipe *recipe, const struct crl_sections *sections,
                                struct crl_err *err);
enum crl_status crl_packer_open_partial(struct crl_packer *pk, bool keep_old, struct crl_err *err);
/* Without a commit before it nothing is left behind, unless crl_packer_keep was called. */
void crl_packer_close(struct crl_packer *pk);
void crl_packer_keep(struct crl_packer *pk);
uint64_t crl_packer_allocated(const struct crl_packer *pk); /* bytes of disk that the partial file has */

/* Hash of all that the layout depends on: configuration, formats, sections. */
uint64_t crl_packer_identity(const struct crl_packer *pk);

/* The extent was written by an earlier run and had this hash: true, and it is done, if its bytes are there. */
bool crl_packer_restore(struct crl_packer *pk, size_t extent, uint64_t hash);

/* Hash of an extent that is done. */
uint64_t crl_packer_extent_hash(const struct crl_packer *pk, size_t extent);

/* Everything put so far is on the disk when this returns. */
enum crl_status crl_packer_sync(struct crl_packer *pk, struct crl_err *err);

const struct crl_schema *crl_packer_schema(const struct crl_packer *pk);
uint64_t crl_packer_size(const struct crl_packer *pk); /* bytes of the finished file */
enum crl_format crl_packer_format(const struct crl_packer *pk, size_t weight);
uint64_t crl_packer_weight_bytes(const struct crl_packer *pk, size_t weight);
uint64_t crl_packer_weight_offset(const struct crl_packer *pk, size_t weight); /* inside its extent */
uint64_t crl_packer_extent_bytes(const struct crl_packer *pk, size_t extent);

/* Write `len` bytes of matrix i from byte `offset` of the matrix on (its header included). Any order, any
 * thread, every byte once. Padding between matrices is not written: it is zero already. */
enum crl_status crl_packer_put(struct crl_packer *pk, size_t weight, uint64_t offset, const void *data,
                               size_t len, struct crl_err *err);

/* All matrices of the extent have been put: hash it. The bytes are read back in pieces of 1 MiB, from the
 * page cache when this follows the last put closely, so no extent is ever held in memory for its hash. Once
 * per extent, from any thread. CRL_ERANGE when bytes are missing. */
enum crl_status crl_packer_extent_done(struct crl_packer *pk, size_t extent, struct crl_err *err);

/* Put and done in one call, for a caller that has the whole extent (crl_packer_extent_bytes, padding zero) in
 * one buffer: hashed from there, written once. */
enum crl_status crl_packer_put_extent(struct crl_packer *pk, size_t extent, const void *data,
                                      struct crl_err *err);

/* Write the directory and make the file appear. Every extent must be done. */
enum crl_status crl_packer_commit(struct crl_packer *pk, struct crl_err *err);

/* After commit to memory: an open pack that owns the image; the packer keeps nothing but itself. `name` as
 * for crl_pack_open_mem. */
enum crl_status crl_packer_take(struct crl_packer *pk, struct crl_pack **out, const char *name,
                                struct crl_err *err);

#endif
