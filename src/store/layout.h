/* layout.h - where everything lies in a packed file: docs/format.md, section 1, as code. Shared by the
 * reader, which compares a file with it, the writer, which writes by it, and the planner, which places by it.
 *
 * A layout borrows its schema. Fill format[] (crl_layout_new leaves it zero) and the section sizes, then
 * compute. */
#ifndef CRL_STORE_LAYOUT_H
#define CRL_STORE_LAYOUT_H

#include "store/pack.h"

#define CRL_HEADER_BYTES 64
#define CRL_SECTION_RECORD 32
#define CRL_EXTENT_RECORD 32
#define CRL_MATRIX_RECORD 48
#define CRL_PACK_VERSION 2 /* the newest; files without a vision tower are still version 1 */
#define CRL_PACK_MAGIC "\x89" "CRL\r\n\x1a\n"
#define CRL_NONE_U32 0xffffffffu /* layer or expert of a matrix that has none */

struct crl_layout {
    const struct crl_schema *schema;
    struct crl_place section[CRL_SECTION_END]; /* by kind; size 0: absent */
    struct crl_place *extent;                  /* [n_extent] */
    enum crl_format *format;                   /* [n_weight] */
    uint64_t *offset;                          /* [n_weight] inside the extent */
    uint64_t *bytes;                           /* [n_weight] */
    uint64_t dir_bytes;
    uint64_t file_bytes;
};

enum crl_status crl_layout_new(struct crl_layout **out, const struct crl_schema *schema, struct crl_err *err);
void crl_layout_free(struct crl_layout *l);

/* The version of a file of this configuration. */
static inline uint32_t crl_pack_version(const struct crl_config *cfg)
{
    return cfg->multimodal ? 2 : 1;
}

/* Bytes of header and tables; cannot wrap, the counts are 32 bits wide. */
uint64_t crl_dir_bytes(uint64_t n_section, uint64_t n_extent, uint64_t n_matrix);

/* Offsets of the sections after a directory of dir_bytes; returns where the last one ends. Sizes are at most
 * CRL_SECTION_MAX and dir_bytes below 2^62. */
uint64_t crl_layout_sections(struct crl_place section[CRL_SECTION_END], uint64_t dir_bytes);

/* Everything else. CRL_ERANGE when the file would exceed 2^62 bytes. */
enum crl_status crl_layout_compute(struct crl_layout *l, struct crl_err *err);

/* Write header and tables, hash included, into dir[dir_bytes]. */
void crl_layout_write(const struct crl_layout *l, unsigned char *dir);

/* The pack was opened over this region (crl_packer_take) and frees it on close from now on; *region is
 * emptied. */
void crl_pack_own(struct crl_pack *p, struct crl_region *region);

/* Hash of a directory as its header states it, the field itself taken as zero. False on exhaustion. */
bool crl_dir_hash(const unsigned char *dir, uint64_t dir_bytes, uint64_t *hash);

#endif
