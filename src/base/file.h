/* file.h - whole-file mapping for reading, and writing that never leaves a half file under its final name. */
#ifndef CRL_BASE_FILE_H
#define CRL_BASE_FILE_H

#include "base/status.h"

#include <stdint.h>

struct crl_map {
    const unsigned char *data; /* NULL when size is 0 */
    uint64_t size;             /* bytes */
};

/* Map a regular file read-only. The map is private; the descriptor is closed at once. */
enum crl_status crl_map_open(struct crl_map *m, const char *path, struct crl_err *err);
void crl_map_close(struct crl_map *m);

/* Read a regular file of at most `most` bytes into fresh memory with a zero byte after it (crl_free). */
enum crl_status crl_file_read(char **data, size_t *len, const char *path, size_t most, struct crl_err *err);

bool crl_file_exists(const char *path);
bool crl_file_is_dir(const char *path);

/* dir + "/" + name in fresh memory (crl_free); NULL on exhaustion. */
char *crl_path_join(const char *dir, const char *name);

/* A file being made: writes go to PATH.partial-PID in the same folder; commit syncs and renames it, so PATH either
 * holds the whole file or what it held before. Closing without commit removes the partial file. Opening removes partial
 * files of the same PATH whose process is gone: it was killed. */
struct crl_out;

enum crl_status crl_out_open(struct crl_out **out, const char *path, struct crl_err *err);
/* Positioned write, safe from several threads at once for disjoint ranges. */
enum crl_status crl_out_write(struct crl_out *out, uint64_t offset, const void *data, size_t len, struct crl_err *err);
/* Read back what was written, from the page cache if it is recent; ranges never written but inside the size are zero. */
enum crl_status crl_out_read(struct crl_out *out, uint64_t offset, void *data, size_t len, struct crl_err *err);
/* Set the size; what was not written reads as zero and takes no disk where the file system knows sparse files. */
enum crl_status crl_out_resize(struct crl_out *out, uint64_t size, struct crl_err *err);
enum crl_status crl_out_commit(struct crl_out *out, struct crl_err *err);
void crl_out_close(struct crl_out *out);

/* The same for a small file in one call. */
enum crl_status crl_file_write(const char *path, const void *data, size_t len, struct crl_err *err);

#endif
