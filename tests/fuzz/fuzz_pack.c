/* Property: whatever the bytes are, opening a packed file returns a status and a sentence; when it accepts
 * them, every section and extent lies inside, every matrix inside its extent, and all rows can be read.
 *
 * So that inputs get behind the hashes and can be short, they are repaired first: extended by zeros to the
 * size the header states (at most 1 MiB), and all hashes of directory and sections recomputed. */
#include "base/bytes.h"
#include "base/hash.h"
#include "store/layout.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MOST ((uint64_t)1 << 20)
#define WORK_MOST ((uint64_t)1 << 22) /* weights read per input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair_sections(unsigned char *file, uint64_t size)
{
    uint32_t n = crl_le32(file + 40);

    for (uint64_t at = CRL_HEADER_BYTES; n-- > 0 && at <= size - CRL_SECTION_RECORD;
         at += CRL_SECTION_RECORD) {
        uint64_t offset = crl_le64(file + at + 8), bytes = crl_le64(file + at + 16);
        if (offset <= size && bytes <= size - offset)
            crl_put_le64(file + at + 24, crl_hash(file + offset, (size_t)bytes));
    }
}

static void repair(unsigned char *file, uint64_t size)
{
    uint64_t bytes, hash;

    if (size < CRL_HEADER_BYTES) return;
    bytes = crl_le64(file + 24);
    repair_sections(file, size);
    if (bytes >= CRL_HEADER_BYTES && bytes <= size && crl_dir_hash(file, bytes, &hash))
        crl_put_le64(file + 32, hash);
}

static void read_rows(const struct crl_mat *m, uint64_t *work)
{
    float *row = malloc(m->k * sizeof *row);

    for (size_t r = 0; row && r < m->n && *work + m->k < WORK_MOST; r++) {
        crl_mat_row(m, r, row);
        *work += m->k;
    }
    free(row);
}

static void walk(const struct crl_pack *p, uint64_t size)
{
    const struct crl_schema *s = crl_pack_schema(p);
    struct crl_totals t;
    uint64_t work = 0, end = 0;
    size_t len;

    for (int kind = 1; kind < CRL_SECTION_END; kind++) {
        const unsigned char *d = crl_pack_section(p, kind, &len);
        if (d && (d < crl_pack_data(p) || len > size - (uint64_t)(d - crl_pack_data(p)))) abort();
    }
    for (size_t e = 0; e < s->n_extent; e++) {
        const struct crl_place *x = crl_pack_extent(p, e);
        if (x->offset < end || x->offset % 4096 || x->size > size - x->offset) abort();
        end = x->offset + x->size;
    }
    for (size_t i = 0; i < s->n_weight; i++) {
        struct crl_mat m;
        uint64_t room = crl_pack_extent(p, s->weight[i].extent)->size;
        if (crl_pack_weight_offset(p, i) > room ||
            crl_pack_weight_bytes(p, i) > room - crl_pack_weight_offset(p, i))
            abort();
        crl_pack_mat(p, i, &m);
        read_rows(&m, &work);
    }
    if (crl_pack_totals(p, &t, NULL) || t.bytes > size || t.params > 8 * size) abort();
    (void)crl_pack_verify(p, NULL, NULL, NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t want = size >= CRL_HEADER_BYTES ? crl_le64(data + 16) : 0, all = size;
    struct crl_err err = { "" };
    struct crl_pack *p;
    void *file;

    if (want > all && want <= FILE_MOST) all = want;
    if (posix_memalign(&file, CRL_ALIGN, all ? (size_t)all : 1))
        return 0; /* exactly `all` bytes: reads past them show */
    memset(file, 0, (size_t)all);
    if (size) memcpy(file, data, size);
    repair(file, all);
    if (crl_pack_open_mem(&p, file, all, "fuzz", &err)) {
        if (p || strncmp(err.text, "fuzz: ", 6)) abort();
    } else {
        walk(p, all);
        crl_pack_close(p);
    }
    free(file);
    return 0;
}
