// A library that is loaded before the system's: it writes down what a process does to the files of a folder, in order, and
// makes one of these operations fail.
//
// POWER_ROOT is the folder. POWER_RECORD is the file that it is written down in. POWER_FAIL is the number of the operation that
// fails, from 1, and POWER_HOW how: `eio`, `enospc`, `eintr`, `short`, or `thread` for the creation of a thread. POWER_COUNT is a
// file that gets the number of operations at the end.
//
// A record is a line, and after a line that begins with W as many bytes as it says:
//   C file path | O file path | W file at bytes | T file bytes | S file | D path | R from to | U path | M path | X path
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define MAX_FDS 4096
#define MAX_FILES 65536

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_len;
static int record_fd = -1;
static long fail_at, count;
static const char *how = "";
static int file_of_fd[MAX_FDS];
static struct { ino_t inode; int file; } files[MAX_FILES];
static int known, next_file = 1;
static int ready;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_rmdir)(const char *);
static int (*real_close)(int);
static int (*real_thread)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static void begin(void) {
    if (ready) return;
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_unlinkat = dlsym(RTLD_NEXT, "unlinkat");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    real_rmdir = dlsym(RTLD_NEXT, "rmdir");
    real_close = dlsym(RTLD_NEXT, "close");
    real_thread = dlsym(RTLD_NEXT, "pthread_create");
    const char *at = getenv("POWER_ROOT");
    if (at) {
        snprintf(root, sizeof root, "%s", at);
        root_len = strlen(root);
    }
    const char *to = getenv("POWER_RECORD");
    if (to && *to) record_fd = real_open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *when = getenv("POWER_FAIL");
    if (when) fail_at = atol(when);
    if (getenv("POWER_HOW")) how = getenv("POWER_HOW");
    ready = 1;
}

__attribute__((constructor)) static void load(void) { begin(); }

__attribute__((destructor)) static void end(void) {
    const char *to = getenv("POWER_COUNT");
    if (!to || !*to) return;
    int fd = real_open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char text[32];
    int bytes = snprintf(text, sizeof text, "%ld\n", count);
    if (fd >= 0 && real_write(fd, text, bytes) == bytes) real_close(fd);
}

// The path from the folder on; nothing when it is not within it.
static const char *within(const char *path, char *space) {
    if (!root_len) return NULL;
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return NULL;
        if (snprintf(space, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) return NULL;
        path = space;
    }
    if (strncmp(path, root, root_len) != 0) return NULL;
    if (path[root_len] == 0) return ".";
    return path[root_len] == '/' ? path + root_len + 1 : NULL;
}

static const char *within_at(int folder, const char *path, char *space) {
    if (path[0] == '/' || folder == AT_FDCWD) return within(path, space);
    char link[64], at[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t bytes = readlink(link, at, sizeof at - 1);
    if (bytes < 0) return NULL;
    at[bytes] = 0;
    if (snprintf(space, PATH_MAX, "%s/%s", at, path) >= PATH_MAX) return NULL;
    char again[PATH_MAX];
    return within(space, again) ? space + root_len + 1 : NULL;
}

static void note(const char *format, ...) {
    if (record_fd < 0) return;
    char line[2 * PATH_MAX + 64];
    va_list args;
    va_start(args, format);
    int bytes = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (real_write(record_fd, line, bytes) != bytes) abort();
}

static int file_of(int fd, int is_new) {
    struct stat data;
    if (fstat(fd, &data) != 0) return 0;
    for (int at = 0; at < known; at++) {
        if (files[at].inode == data.st_ino) {
            if (is_new) files[at].file = next_file++;
            return files[at].file;
        }
    }
    if (known == MAX_FILES) abort();
    files[known].inode = data.st_ino;
    files[known].file = next_file++;
    return files[known++].file;
}

// Counts an operation; true when it is to fail, with the reason set.
static int fails(void) {
    if (!strcmp(how, "thread") || ++count != fail_at) return 0;
    if (!strcmp(how, "enospc")) errno = ENOSPC;
    else if (!strcmp(how, "eintr")) errno = EINTR;
    else errno = EIO;
    return strcmp(how, "short") != 0;
}

static int opened(int fd, const char *path, int flags, int was_there) {
    if (fd < 0 || fd >= MAX_FDS || !path) return fd;
    struct stat data;
    if (fstat(fd, &data) != 0) return fd;
    if (S_ISDIR(data.st_mode)) {
        file_of_fd[fd] = -1;
        return fd;
    }
    if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT)) {
        // It may be synced.
        file_of_fd[fd] = file_of(fd, 0);
        note("O %d %s\n", file_of_fd[fd], path);
        return fd;
    }
    file_of_fd[fd] = file_of(fd, !was_there);
    note("%c %d %s\n", was_there ? 'O' : 'C', file_of_fd[fd], path);
    if (was_there && (flags & O_TRUNC)) note("T %d 0\n", file_of_fd[fd]);
    return fd;
}

static int open_in(int folder, const char *name, int flags, mode_t mode) {
    begin();
    char space[PATH_MAX];
    const char *path = within_at(folder, name, space);
    if (!path) return real_openat(folder, name, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = -1;
    if (!((flags & O_CREAT) && !was_there && fails())) fd = opened(real_openat(folder, name, flags, mode), path, flags, was_there);
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list args; va_start(args, flags); mode = va_arg(args, mode_t); va_end(args); }

int open64(const char *path, int flags, ...) { MODE(flags) return open_in(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE(flags) return open_in(AT_FDCWD, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_in(folder, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_in(folder, path, flags, mode); }

static int is_ours(int fd) { return fd >= 0 && fd < MAX_FDS && file_of_fd[fd] > 0; }

static ssize_t written(int fd, const void *data, size_t bytes, off_t at, int moves) {
    pthread_mutex_lock(&lock);
    ssize_t result = -1;
    if (!fails()) {
        if (count == fail_at && !strcmp(how, "short") && bytes > 1) bytes /= 2;
        if (moves) at = lseek(fd, 0, SEEK_CUR);
        result = moves ? real_write(fd, data, bytes) : real_pwrite(fd, data, bytes, at);
        if (result > 0 && record_fd >= 0) {
            note("W %d %ld %ld\n", file_of_fd[fd], (long)at, (long)result);
            if (real_write(record_fd, data, result) != result) abort();
        }
    }
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    begin();
    return is_ours(fd) ? written(fd, data, bytes, 0, 1) : real_write(fd, data, bytes);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at) {
    begin();
    return is_ours(fd) ? written(fd, data, bytes, at, 0) : real_pwrite(fd, data, bytes, at);
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) { return pwrite64(fd, data, bytes, at); }

static int synced(int fd, int (*real)(int)) {
    if (fd < 0 || fd >= MAX_FDS || file_of_fd[fd] == 0) return real(fd);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (!fails()) {
        result = real(fd);
        if (result == 0 && file_of_fd[fd] > 0) note("S %d\n", file_of_fd[fd]);
        else if (result == 0) {
            char space[PATH_MAX];
            const char *path = within_at(fd, ".", space);
            if (path) note("D %s\n", path);
        }
    }
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}

int fsync(int fd) { begin(); return synced(fd, real_fsync); }
int fdatasync(int fd) { begin(); return synced(fd, real_fdatasync); }

int ftruncate64(int fd, off_t bytes) {
    begin();
    if (!is_ours(fd)) return real_ftruncate(fd, bytes);
    pthread_mutex_lock(&lock);
    int result = fails() ? -1 : real_ftruncate(fd, bytes);
    int kept = errno;
    if (result == 0) note("T %d %ld\n", file_of_fd[fd], (long)bytes);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}
int ftruncate(int fd, off_t bytes) { return ftruncate64(fd, bytes); }

// An operation on a name.
#define NAMED(path_of, call, ...) \
    begin(); \
    char space[PATH_MAX]; \
    const char *path = path_of; \
    if (!path) return call; \
    pthread_mutex_lock(&lock); \
    int result = fails() ? -1 : call; \
    int kept = errno; \
    if (result == 0) note(__VA_ARGS__); \
    pthread_mutex_unlock(&lock); \
    errno = kept; \
    return result;

int unlink(const char *name) { NAMED(within(name, space), real_unlink(name), "U %s\n", path) }
int unlinkat(int folder, const char *name, int flags) {
    NAMED(within_at(folder, name, space), real_unlinkat(folder, name, flags), "%c %s\n", flags & AT_REMOVEDIR ? 'X' : 'U', path)
}
int mkdir(const char *name, mode_t mode) { NAMED(within(name, space), real_mkdir(name, mode), "M %s\n", path) }
int rmdir(const char *name) { NAMED(within(name, space), real_rmdir(name), "X %s\n", path) }
int rename(const char *from, const char *to) {
    char other[PATH_MAX];
    const char *target = within(to, other);
    NAMED(within(from, space), real_rename(from, to), "R %s %s\n", path, target ? target : "?")
}

int close(int fd) {
    begin();
    if (fd >= 0 && fd < MAX_FDS) file_of_fd[fd] = 0;
    return real_close(fd);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    begin();
    if (!strcmp(how, "thread") && __sync_add_and_fetch(&count, 1) == fail_at) return EAGAIN;
    return real_thread(thread, attributes, run, argument);
}
