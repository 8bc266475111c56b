/* zip.h - the directory of a zip archive whose entries are stored, not compressed: what torch.save writes.
 *
 * Every entry is checked at open: method 0, sizes equal, no encryption, a local header that agrees, data
 * inside the file, and no two entries (or an entry and the directory) that share bytes. So the data of all
 * entries together are no larger than the file, whatever the directory claims. Zip64 is understood; archives
 * over several disks are not. */
#ifndef CRL_CONVERT_ZIP_H
#define CRL_CONVERT_ZIP_H

#include "base/file.h"

#define CRL_ZIP_DIRECTORY_MAX ((uint64_t)256 << 20) /* bytes */

struct crl_zip_entry {
    const char *name;
    uint64_t offset; /* of the data, from the start of the file */
    uint64_t size;   /* bytes */
};

struct crl_zip;

/* Bytes by position: a file, or memory (in NULL) that outlives the archive. */
struct crl_bytes {
    const struct crl_in *in;
    const unsigned char *data;
    uint64_t size;
};
enum crl_status crl_bytes_read(const struct crl_bytes *b, uint64_t offset, void *data, size_t len,
                               struct crl_err *err);

/* `what` names the archive in messages. */
enum crl_status crl_zip_open(struct crl_zip **zip, const struct crl_bytes *from, const char *what,
                             struct crl_err *err);
void crl_zip_close(struct crl_zip *zip);

size_t crl_zip_count(const struct crl_zip *zip);
const struct crl_zip_entry *crl_zip_at(const struct crl_zip *zip, size_t i); /* by name */
const struct crl_zip_entry *crl_zip_find(const struct crl_zip *zip, const char *name);
uint64_t crl_zip_directory_hash(const struct crl_zip *zip);

#endif
