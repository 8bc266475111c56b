/* sandbox.c - running the user's own command on a generated program. Nothing here protects the machine: that
 * is what the command is for. */
#define _GNU_SOURCE
#include "eval/replies.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define LOOK_MS 5 /* between two looks whether it ended */

/* A group of its own, so that all of it can be ended; no input, no output. */
static int start(pid_t *pid, char *const argv[])
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int rc = posix_spawn_file_actions_init(&files);

    if (rc) return rc;
    rc = posix_spawnattr_init(&attr);
    if (!rc) {
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
        posix_spawnattr_setpgroup(&attr, 0);
        rc = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        for (int fd = 1; fd <= 2 && !rc; fd++)
            rc = posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_WRONLY, 0);
        if (!rc) rc = posix_spawn(pid, "/bin/sh", &files, &attr, argv, environ);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

enum crl_status crl_sandbox_run(const char *command, const char *path, unsigned seconds, bool *passed,
                                struct crl_err *err)
{
    struct crl_str line = { NULL, 0, 0 };
    enum crl_status st = crl_str_puts(&line, command, err);
    int rc, status = 0;
    pid_t pid, got;

    *passed = false;
    if (!st) st = crl_str_puts(&line, " \"$1\"", err);
    if (!st) {
        char *const argv[] = { (char *)"sh", (char *)"-c", line.s, (char *)"sh", (char *)path, NULL };
        rc = start(&pid, argv);
        if (rc) st = crl_fail(err, CRL_EIO, "cannot start the sandbox \"%.100s\": %s", command, strerror(rc));
    }
    crl_str_fini(&line);
    if (st) return st;
    for (unsigned long ms = 0; (got = waitpid(pid, &status, WNOHANG)) == 0; ms += LOOK_MS) {
        const struct timespec wait = { 0, LOOK_MS * 1000000L };
        if (ms >= seconds * 1000ul) {
            kill(-pid, SIGKILL);
            while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
            return CRL_OK;
        }
        nanosleep(&wait, NULL);
    }
    kill(-pid, SIGKILL); /* what it left running */
    if (got < 0) return crl_fail(err, CRL_EIO, "waiting for the sandbox: %s", strerror(errno));
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127))
        return crl_fail(err, CRL_ENOENT, "the sandbox \"%.100s\" cannot be run: its shell says %d", command,
                        WEXITSTATUS(status));
    *passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return CRL_OK;
}
