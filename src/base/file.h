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

/* The same, and the descriptor stays open in *fd: what is read through it later is the file that was mapped, whatever
 * its name stands for by then. The caller closes it. */
enum crl_status crl_map_open_keep(struct crl_map *m, int *fd, const char *path, struct crl_err *err);

/* Read a regular file of at most `most` bytes into fresh memory with a zero byte after it (crl_free). */
enum crl_status crl_file_read(char **data, size_t *len, const char *path, size_t most, struct crl_err *err);

/* A regular file read piece by piece, for what is too large to map: positions are explicit, so any number of threads
 * may read at once, and a file that shrinks or fails gives a status instead of a signal. */
struct crl_in;

enum crl_status crl_in_open(struct crl_in **in, const char *path, struct crl_err *err);
void crl_in_close(struct crl_in *in);
const char *crl_in_path(const struct crl_in *in);
uint64_t crl_in_size(const struct crl_in *in);
/* All of [offset, offset + len), or a failure. */
enum crl_status crl_in_read(const struct crl_in *in, uint64_t offset, void *data, size_t len, struct crl_err *err);
/* CRL_EIO when the file under this name is no longer the one that was opened, or was written to since. */
enum crl_status crl_in_check(const struct crl_in *in, struct crl_err *err);
/* Time of the last write, in nanoseconds since 1970. */
int64_t crl_in_mtime(const struct crl_in *in);
/* Give the disk blocks of a range back and keep size and time of the file; the bytes read as zero from then on.
 * CRL_EUNSUPPORTED where the file system cannot. The file must be writable. */
enum crl_status crl_in_punch(const struct crl_in *in, uint64_t offset, uint64_t len, struct crl_err *err);

/* Tests fail the n-th call that opens, reads, writes, resizes, syncs or renames from now on (1 = the next) and all
 * after it; 0 switches the fault off. Returns the number of calls counted since the last call. */
size_t crl_file_fail_after(size_t n);

/* Bytes left on the disk where a file of this name would lie; 0: unknown. */
uint64_t crl_disk_free(const char *path);

bool crl_file_exists(const char *path);
bool crl_file_is_dir(const char *path);

/* dir + "/" + name in fresh memory (crl_free); NULL on exhaustion. */
char *crl_path_join(const char *dir, const char *name);

/* A file being made: writes go to PATH.partial-PID in the same folder; commit syncs and renames it, so PATH either
 * holds the whole file or what it held before. Closing without commit removes the partial file. Opening removes partial
 * files of the same PATH whose process is gone: it was killed. */
struct crl_out;

enum crl_status crl_out_open(struct crl_out **out, const char *path, struct crl_err *err);
/* The same for work that may be taken up again: the file is made as PATH.partial. keep_old goes on with the one that is
 * there; otherwise it is emptied. CRL_EFULL when another process is writing it. */
enum crl_status crl_out_open_partial(struct crl_out **out, const char *path, bool keep_old, struct crl_err *err);
/* Let close leave the partial file where it is. */
void crl_out_keep(struct crl_out *out);
uint64_t crl_out_size(const struct crl_out *out);
uint64_t crl_out_allocated(const struct crl_out *out); /* bytes of disk it has */
/* Everything written so far is on the disk when this returns. */
enum crl_status crl_out_sync(struct crl_out *out, struct crl_err *err);
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
