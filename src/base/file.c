/* file.c - mapped reading and atomic writing. */
#define _GNU_SOURCE
#include "base/file.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* --- faults for tests -------------------------------------------------------------------------------- */

static atomic_size_t n_calls, fail_at;

size_t crl_file_fail_after(size_t n)
{
    size_t seen = atomic_exchange(&n_calls, 0);

    atomic_store(&fail_at, n);
    return seen;
}

/* True, with errno set, when this call is to fail. */
static bool fault(int number)
{
    size_t k = atomic_fetch_add(&n_calls, 1) + 1, at = atomic_load(&fail_at);

    if (!at || k < at) return false;
    errno = number;
    return true;
}

/* --- reading ----------------------------------------------------------------------------------------- */

static enum crl_status open_regular(const char *path, int *fd, uint64_t *size, struct crl_err *err)
{
    struct stat st;

    *fd = fault(EIO) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return crl_fail(err, errno == ENOENT ? CRL_ENOENT : CRL_EIO, "%s: %s", path, strerror(errno));
    if (fstat(*fd, &st) || !S_ISREG(st.st_mode)) {
        close(*fd);
        return crl_fail(err, CRL_EIO, "%s: not a regular file", path);
    }
    *size = (uint64_t)st.st_size;
    return CRL_OK;
}

enum crl_status crl_map_open_keep(struct crl_map *m, int *fd, const char *path, struct crl_err *err)
{
    enum crl_status st;
    uint64_t size;
    void *p = NULL;
    int f;

    m->data = NULL;
    m->size = 0;
    *fd = -1;
    st = open_regular(path, &f, &size, err);
    if (st) return st;
    if (size > SIZE_MAX) st = crl_fail(err, CRL_ERANGE, "%s: too large to map", path);
    if (!st && size) {
        p = fault(ENOMEM) ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, f, 0);
        if (p == MAP_FAILED) st = crl_fail(err, CRL_EIO, "%s: cannot map: %s", path, strerror(errno));
    }
    if (st) {
        close(f);
        return st;
    }
    m->data = p;
    m->size = size;
    *fd = f;
    return CRL_OK;
}

enum crl_status crl_map_open(struct crl_map *m, const char *path, struct crl_err *err)
{
    int fd;
    enum crl_status st = crl_map_open_keep(m, &fd, path, err);

    if (!st) close(fd);
    return st;
}

void crl_map_close(struct crl_map *m)
{
    if (m->data) munmap((void *)(uintptr_t)m->data, (size_t)m->size);
    m->data = NULL;
    m->size = 0;
}

enum crl_status crl_file_read(char **data, size_t *len, const char *path, size_t most, struct crl_err *err)
{
    enum crl_status st;
    uint64_t size;
    size_t done = 0;
    char *buf = NULL;
    int fd;

    *data = NULL;
    *len = 0;
    st = open_regular(path, &fd, &size, err);
    if (st) return st;
    if (size > most) st = crl_fail(err, CRL_ERANGE, "%s: %llu bytes, at most %zu are accepted", path,
                                   (unsigned long long)size, most);
    if (!st && !(buf = crl_alloc((size_t)size + 1, 1)))
        st = crl_fail(err, CRL_ENOMEM, "%s: no memory for %llu bytes", path, (unsigned long long)size);
    while (!st && done < size) {
        ssize_t n = fault(EIO) ? -1 : read(fd, buf + done, (size_t)size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = crl_fail(err, CRL_EIO, "%s: %s", path, strerror(errno));
        else if (n == 0) st = crl_fail(err, CRL_EIO, "%s: shrank while being read", path);
        else done += (size_t)n;
    }
    close(fd);
    if (st) {
        crl_free(buf);
        return st;
    }
    *data = buf;
    *len = (size_t)size;
    return CRL_OK;
}

struct crl_in {
    int fd;
    char *path;
    struct stat was; /* at open */
};

enum crl_status crl_in_open(struct crl_in **out, const char *path, struct crl_err *err)
{
    struct crl_in *in = crl_alloc(1, sizeof *in);
    enum crl_status st = CRL_OK;
    uint64_t size;

    *out = NULL;
    if (!in) return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    in->fd = -1;
    in->path = crl_strdup(path);
    if (!in->path) st = crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    if (!st) st = open_regular(path, &in->fd, &size, err);
    if (st) in->fd = -1;
    if (!st && fstat(in->fd, &in->was)) st = crl_fail(err, CRL_EIO, "%s: %s", path, strerror(errno));
    if (st) {
        crl_in_close(in);
        return st;
    }
    *out = in;
    return CRL_OK;
}

void crl_in_close(struct crl_in *in)
{
    if (!in) return;
    if (in->fd >= 0) close(in->fd);
    crl_free(in->path);
    crl_free(in);
}

const char *crl_in_path(const struct crl_in *in)
{
    return in->path;
}

uint64_t crl_in_size(const struct crl_in *in)
{
    return (uint64_t)in->was.st_size;
}

int64_t crl_in_mtime(const struct crl_in *in)
{
    return (int64_t)in->was.st_mtim.tv_sec * 1000000000 + in->was.st_mtim.tv_nsec;
}

enum crl_status crl_in_read(const struct crl_in *in, uint64_t offset, void *data, size_t len, struct crl_err *err)
{
    char *p = data;

    while (len) {
        ssize_t n = fault(EIO) ? -1 : pread(in->fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return crl_fail(err, CRL_EIO, "%s: %s", in->path, strerror(errno));
        if (n == 0) return crl_fail(err, CRL_EIO, "%s: shrank while being read", in->path);
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return CRL_OK;
}

enum crl_status crl_in_check(const struct crl_in *in, struct crl_err *err)
{
    const struct stat *a = &in->was;
    struct stat b;

    if (fault(EIO) || stat(in->path, &b)) return crl_fail(err, CRL_EIO, "%s: %s", in->path, strerror(errno));
    if (a->st_dev == b.st_dev && a->st_ino == b.st_ino && a->st_size == b.st_size &&
        a->st_mtim.tv_sec == b.st_mtim.tv_sec && a->st_mtim.tv_nsec == b.st_mtim.tv_nsec)
        return CRL_OK;
    return crl_fail(err, CRL_EIO, "%s: changed while it was being read", in->path);
}

enum crl_status crl_in_punch(const struct crl_in *in, uint64_t offset, uint64_t len, struct crl_err *err)
{
    struct timespec when[2] = { { .tv_nsec = UTIME_OMIT }, in->was.st_mtim };
    enum crl_status st = CRL_OK;
    int fd = fault(EIO) ? -1 : open(in->path, O_RDWR | O_CLOEXEC);

    if (fd < 0) return crl_fail(err, CRL_EIO, "%s: cannot be written: %s", in->path, strerror(errno));
    if (fault(EIO) || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len))
        st = crl_fail(err, errno == EOPNOTSUPP || errno == ENOSYS ? CRL_EUNSUPPORTED : CRL_EIO,
                      "%s: its blocks cannot be freed: %s", in->path, strerror(errno));
    futimens(fd, when); /* the check for changes goes by it */
    close(fd);
    return st;
}

uint64_t crl_disk_free(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? crl_memdup0(path, slash == path ? 1 : (size_t)(slash - path)) : crl_strdup(".");
    struct statvfs v;
    uint64_t n = 0;

    if (dir && statvfs(dir, &v) == 0) n = (uint64_t)v.f_bavail * v.f_frsize;
    crl_free(dir);
    return n;
}

bool crl_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool crl_file_is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *crl_path_join(const char *dir, const char *name)
{
    size_t a = strlen(dir), b = strlen(name);
    char *p = crl_alloc(a + b + 2, 1);

    if (!p) return NULL;
    memcpy(p, dir, a);
    if (a && dir[a - 1] != '/') p[a++] = '/';
    memcpy(p + a, name, b + 1);
    return p;
}

struct crl_out {
    int fd;
    char *path;    /* final name */
    char *partial; /* name while being written; NULL once committed */
    bool keep;     /* close leaves the partial file */
};

#define PARTIAL ".partial-"

/* Process number at the end of the partial file's name, 0 when `name` is not one of BASE's. */
static long partial_owner(const char *name, const char *base)
{
    size_t n = strlen(base);
    char *end;
    long pid;

    if (strncmp(name, base, n) || strncmp(name + n, PARTIAL, strlen(PARTIAL))) return 0;
    name += n + strlen(PARTIAL);
    if (*name < '1' || *name > '9') return 0;
    errno = 0;
    pid = strtol(name, &end, 10);
    return *end || errno ? 0 : pid;
}

/* Nobody writes it any more: no such process here, and no lock from another machine that shares the folder. */
static bool is_orphan(int dir, const char *name, long pid)
{
    bool orphan;
    int fd;

    if (kill((pid_t)pid, 0) == 0 || errno != ESRCH) return false;
    fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return false;
    orphan = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return orphan;
}

/* What killed processes left behind under this name. Failing to remove it is no reason not to go on. */
static void remove_orphans(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *folder = slash ? crl_memdup0(path, (size_t)(slash - path) + 1) : crl_strdup(".");
    DIR *d = folder ? opendir(folder) : NULL;
    struct dirent *e;

    crl_free(folder);
    while (d && (e = readdir(d))) {
        long pid = partial_owner(e->d_name, base);
        if (pid && is_orphan(dirfd(d), e->d_name, pid)) unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d) closedir(d);
}

static enum crl_status out_new(struct crl_out **out, const char *path, struct crl_err *err)
{
    struct crl_out *o = crl_alloc(1, sizeof *o);
    size_t len = strlen(path) + 40;

    *out = NULL;
    if (!o) return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    o->fd = -1;
    o->path = crl_strdup(path);
    o->partial = crl_alloc(len, 1);
    if (!o->path || !o->partial) {
        crl_free(o->partial);
        o->partial = NULL;
        crl_out_close(o);
        return crl_fail(err, CRL_ENOMEM, "%s: no memory", path);
    }
    snprintf(o->partial, len, "%s.partial", path);
    *out = o;
    return CRL_OK;
}

/* Nothing under the partial name is ours. */
static enum crl_status out_give_up(struct crl_out *o, enum crl_status st)
{
    crl_free(o->partial);
    o->partial = NULL;
    crl_out_close(o);
    return st;
}

enum crl_status crl_out_open(struct crl_out **out, const char *path, struct crl_err *err)
{
    struct crl_out *o;
    enum crl_status st = out_new(&o, path, err);

    *out = NULL;
    if (st) return st;
    remove_orphans(path);
    snprintf(o->partial, strlen(path) + 40, "%s" PARTIAL "%ld", path, (long)getpid());
    o->fd = fault(EACCES) ? -1 : open(o->partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (o->fd < 0)
        return out_give_up(o, crl_fail(err, CRL_EIO, "%s: cannot create: %s", o->partial, strerror(errno)));
    flock(o->fd, LOCK_EX | LOCK_NB); /* for is_orphan; file systems without locks do without */
    *out = o;
    return CRL_OK;
}

enum crl_status crl_out_open_partial(struct crl_out **out, const char *path, bool keep_old, struct crl_err *err)
{
    struct crl_out *o;
    enum crl_status st = out_new(&o, path, err);

    *out = NULL;
    if (st) return st;
    remove_orphans(path);
    o->fd = fault(EACCES) ? -1 : open(o->partial, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (o->fd < 0)
        return out_give_up(o, crl_fail(err, CRL_EIO, "%s: cannot create: %s", o->partial, strerror(errno)));
    if (flock(o->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return out_give_up(o, crl_fail(err, CRL_EFULL, "%s: another process is writing it", o->partial));
    if (!keep_old && (fault(EIO) || ftruncate(o->fd, 0))) {
        st = crl_fail(err, CRL_EIO, "%s: %s", o->partial, strerror(errno));
        crl_out_close(o);
        return st;
    }
    *out = o;
    return CRL_OK;
}

void crl_out_keep(struct crl_out *out)
{
    out->keep = true;
}

uint64_t crl_out_size(const struct crl_out *out)
{
    struct stat st;

    return fstat(out->fd, &st) ? 0 : (uint64_t)st.st_size;
}

uint64_t crl_out_allocated(const struct crl_out *out)
{
    struct stat st;

    return fstat(out->fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

enum crl_status crl_out_sync(struct crl_out *out, struct crl_err *err)
{
    if (fault(EIO) || fdatasync(out->fd)) return crl_fail(err, CRL_EIO, "%s: %s", out->path, strerror(errno));
    return CRL_OK;
}

enum crl_status crl_out_write(struct crl_out *out, uint64_t offset, const void *data, size_t len, struct crl_err *err)
{
    const char *p = data;

    while (len) {
        ssize_t n = fault(ENOSPC) ? -1 : pwrite(out->fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return crl_fail(err, errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? CRL_EFULL : CRL_EIO,
                            "%s: %s", out->path, strerror(errno));
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return CRL_OK;
}

enum crl_status crl_out_read(struct crl_out *out, uint64_t offset, void *data, size_t len, struct crl_err *err)
{
    char *p = data;

    while (len) {
        ssize_t n = fault(EIO) ? -1 : pread(out->fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return crl_fail(err, CRL_EIO, "%s: %s", out->path, strerror(errno));
        if (n == 0) return crl_fail(err, CRL_EIO, "%s: shrank while being written", out->path);
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return CRL_OK;
}

enum crl_status crl_out_resize(struct crl_out *out, uint64_t size, struct crl_err *err)
{
    if (size > INT64_MAX || fault(ENOSPC) || ftruncate(out->fd, (off_t)size))
        return crl_fail(err, size > INT64_MAX || errno == EFBIG || errno == ENOSPC ? CRL_EFULL : CRL_EIO,
                        "%s: cannot make a file of %llu bytes: %s", out->path, (unsigned long long)size,
                        size > INT64_MAX ? strerror(EFBIG) : strerror(errno));
    return CRL_OK;
}

/* The new name survives a power cut. The file is whole whether or not this works. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? crl_memdup0(path, (size_t)(slash - path) + 1) : crl_strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    crl_free(folder);
}

enum crl_status crl_out_commit(struct crl_out *out, struct crl_err *err)
{
    if (fault(EIO) || fsync(out->fd)) return crl_fail(err, CRL_EIO, "%s: %s", out->path, strerror(errno));
    if (close(out->fd)) {
        out->fd = -1;
        return crl_fail(err, CRL_EIO, "%s: %s", out->path, strerror(errno));
    }
    out->fd = -1;
    if (fault(EIO) || rename(out->partial, out->path))
        return crl_fail(err, CRL_EIO, "%s: %s", out->path, strerror(errno));
    crl_free(out->partial);
    out->partial = NULL;
    sync_folder(out->path);
    return CRL_OK;
}

void crl_out_close(struct crl_out *out)
{
    if (!out) return;
    if (out->fd >= 0) close(out->fd);
    if (out->partial && !out->keep) unlink(out->partial);
    crl_free(out->partial);
    crl_free(out->path);
    crl_free(out);
}

enum crl_status crl_file_write(const char *path, const void *data, size_t len, struct crl_err *err)
{
    struct crl_out *out;
    enum crl_status st = crl_out_open(&out, path, err);

    if (st) return st;
    st = crl_out_write(out, 0, data, len, err);
    if (!st) st = crl_out_commit(out, err);
    crl_out_close(out);
    return st;
}
