/* SPDX-License-Identifier: Apache-2.0 */
/* disk: a disk that loses power, tears pages, fails and fills up, under the log's system calls.
 *
 *   live files (what the process sees: the page cache)      synced[] (what the disk surely holds)
 *       write: live only, page marked dirty       sync: dirty pages -> synced, marked clean
 *       failed sync: each dirty page is on the disk or not, and is clean either way
 *   cut: synced, and of each dirty page the old, the new, or some of its 512-byte sectors; a size
 *       between the old and the new; a cut or removed end may come back
 *
 * Every call takes one from ops_left; at zero the power is gone: this call and all later ones fail.
 * A rename that the power takes is on the disk or not.
 * Threads: the calls come from the log's writer, its compactor or log_open, one at a time. */
#ifndef FB_TEST_DISK_H
#define FB_TEST_DISK_H
#include "base/rng.h"
#include "log_dir.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define DISK_FILES_MAX 256
#define DISK_PAGE 4096u
#define DISK_SECTOR 512u
#define DISK_PAGES_MAX 4096u

struct disk_file {
    char name[64];
    ino_t inode; /* 0: free */
    unsigned char *synced;
    uint64_t synced_bytes;
    bool dirty[DISK_PAGES_MAX];
};

static struct {
    const char *dir;
    struct rng rng;
    int64_t ops_left;
    uint32_t fail_pct, short_pct, calls;
    _Atomic uint32_t replaced;
    _Atomic bool is_cut;
    struct disk_file file[DISK_FILES_MAX];
} disk;

static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;

static inline bool disk_chance(uint32_t pct)
{
    return rng_below(&disk.rng, 100) < pct;
}

/* True when the call must fail; errno says how. */
static inline bool disk_fails(int error)
{
    disk.calls++;
    if (disk.is_cut || disk.ops_left-- <= 0) {
        disk.is_cut = true;
        errno = EIO;
        return true;
    }
    errno = error;
    return disk_chance(disk.fail_pct);
}

/* Path of the live file. */
static inline const char *disk_path(const struct disk_file *f, char path[200])
{
    snprintf(path, 200, "%s/%s", disk.dir, f->name);
    return path;
}

static inline struct disk_file *disk_file_of(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        abort();
    for (size_t i = 0; i < DISK_FILES_MAX; i++)
        if (disk.file[i].inode == st.st_ino)
            return &disk.file[i];
    abort();
}

static inline uint64_t disk_size(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        abort();
    return (uint64_t)st.st_size;
}

/* The page of the live file to the disk: whole, or only some of its sectors. */
static inline void disk_write_page(struct disk_file *f, int fd, uint64_t page, bool is_torn)
{
    unsigned char bytes[DISK_PAGE] = {0};
    if (pread(fd, bytes, sizeof bytes, (off_t)(page * DISK_PAGE)) < 0)
        abort();
    for (uint64_t s = 0; s < DISK_PAGE; s += DISK_SECTOR)
        if (!is_torn || disk_chance(50))
            memcpy(f->synced + page * DISK_PAGE + s, bytes + s, DISK_SECTOR);
}

static inline ssize_t disk_do_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (disk_fails(disk_chance(50) ? ENOSPC : EIO))
        return -1;
    if (len > 1 && disk_chance(disk.short_pct))
        len = 1 + rng_below(&disk.rng, (uint32_t)len - 1);
    struct disk_file *f = disk_file_of(fd);
    ssize_t n = pwrite(fd, bytes, len, at);
    for (uint64_t p = (uint64_t)at / DISK_PAGE; n > 0 && p <= ((uint64_t)at + len - 1) / DISK_PAGE;
         p++) {
        if (p >= DISK_PAGES_MAX)
            abort();
        f->dirty[p] = true;
    }
    return n;
}

static inline int disk_do_sync(int fd)
{
    struct disk_file *f = disk_file_of(fd);
    bool has_failed = disk_fails(EIO);
    if (disk.is_cut) {
        errno = EIO;
        return -1;
    }
    for (uint64_t p = 0; p < DISK_PAGES_MAX; p++) {
        if (f->dirty[p] && (!has_failed || disk_chance(50)))
            disk_write_page(f, fd, p, false);
        f->dirty[p] = false; /* also when it failed: nobody writes it any more */
    }
    f->synced_bytes = disk_size(fd);
    errno = EIO;
    return has_failed ? -1 : 0;
}

static inline void disk_forget(struct disk_file *f)
{
    free(f->synced);
    *f = (struct disk_file){.inode = 0};
}

/* Files that retention or recovery removed. */
static inline void disk_sweep(void)
{
    char path[200];
    for (size_t i = 0; i < DISK_FILES_MAX; i++)
        if (disk.file[i].inode && access(disk_path(&disk.file[i], path), F_OK) != 0)
            disk_forget(&disk.file[i]);
}

static inline struct disk_file *disk_adopt(const char *name, ino_t inode)
{
    disk_sweep();
    for (size_t i = 0; i < DISK_FILES_MAX; i++)
        if (disk.file[i].inode && strcmp(disk.file[i].name, name) == 0)
            disk_forget(&disk.file[i]); /* removed, and the name is used again */
    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        struct disk_file *f = &disk.file[i];
        if (f->inode)
            continue;
        snprintf(f->name, sizeof f->name, "%s", name);
        f->inode = inode;
        f->synced = calloc(DISK_PAGES_MAX, DISK_PAGE);
        if (!f->synced)
            abort();
        return f;
    }
    abort();
}

static inline int disk_do_create(const char *dir, const char *path)
{
    (void)dir;
    struct stat st;
    if (disk_fails(ENOSPC)) {
        if (!disk.is_cut && disk_chance(50)) /* its name came to the disk, nothing else did */
            close(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
        errno = disk.is_cut ? EIO : ENOSPC;
        return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0 || fstat(fd, &st) != 0)
        abort();
    disk_adopt(strrchr(path, '/') + 1, st.st_ino);
    return fd;
}

static inline int disk_do_truncate(int fd, off_t bytes)
{
    if (disk_fails(EIO))
        return -1;
    struct disk_file *f = disk_file_of(fd);
    /* Pages that went out before they were cut may come back: the new size is not synced. */
    for (uint64_t p = ((uint64_t)bytes + DISK_PAGE - 1) / DISK_PAGE; p < DISK_PAGES_MAX; p++) {
        if (f->dirty[p] && disk_chance(50)) {
            disk_write_page(f, fd, p, false);
            f->synced_bytes = fb_max_u64(f->synced_bytes, disk_size(fd));
        }
        f->dirty[p] = false;
    }
    if (ftruncate(fd, bytes) != 0)
        abort();
    if (disk_chance(50))
        f->synced_bytes = fb_min_u64(f->synced_bytes, (uint64_t)bytes);
    return 0;
}

static inline int disk_do_replace(const char *from, const char *to)
{
    bool was_cut = disk.is_cut, has_failed = disk_fails(EIO);
    if (has_failed && (was_cut || !disk.is_cut || disk_chance(50)))
        return -1;
    struct disk_file *moved = NULL;
    disk_sweep();
    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        struct disk_file *f = &disk.file[i];
        if (f->inode && strcmp(f->name, strrchr(from, '/') + 1) == 0)
            moved = f;
        else if (f->inode && strcmp(f->name, strrchr(to, '/') + 1) == 0)
            disk_forget(f);
    }
    if (!moved || rename(from, to) != 0)
        abort();
    snprintf(moved->name, sizeof moved->name, "%s", strrchr(to, '/') + 1);
    disk.replaced++;
    return has_failed ? -1 : 0;
}

/* Runs <call> as <type>, alone. */
#define DISK_ALONE(type, call)                                                                     \
    pthread_mutex_lock(&disk_lock);                                                                \
    type done = call;                                                                              \
    int why = errno;                                                                               \
    pthread_mutex_unlock(&disk_lock);                                                              \
    errno = why;                                                                                   \
    return done

static ssize_t disk_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    DISK_ALONE(ssize_t, disk_do_pwrite(fd, bytes, len, at));
}

static int disk_sync(int fd)
{
    DISK_ALONE(int, disk_do_sync(fd));
}

static int disk_create(const char *dir, const char *path)
{
    DISK_ALONE(int, disk_do_create(dir, path));
}

static int disk_truncate(int fd, off_t bytes)
{
    DISK_ALONE(int, disk_do_truncate(fd, bytes));
}

static int disk_replace(const char *dir, const char *from, const char *to)
{
    (void)dir;
    DISK_ALONE(int, disk_do_replace(from, to));
}

static const struct log_io disk_io = {.pwrite = disk_pwrite,
                                      .sync = disk_sync,
                                      .create = disk_create,
                                      .truncate = disk_truncate,
                                      .replace = disk_replace};

/* The power comes back: the live files are what the disk held. */
static inline void disk_cut(void)
{
    char path[200];
    disk_sweep();
    for (size_t i = 0; i < DISK_FILES_MAX; i++) {
        struct disk_file *f = &disk.file[i];
        if (!f->inode)
            continue;
        int fd = open(disk_path(f, path), O_RDWR);
        if (fd < 0)
            abort();
        uint64_t live = disk_size(fd), size = f->synced_bytes;
        if (live > size && disk_chance(70))
            size = disk_chance(50) ? live : size + rng_below(&disk.rng, (uint32_t)(live - size));
        for (uint64_t p = 0; p < DISK_PAGES_MAX; p++)
            if (f->dirty[p] && disk_chance(66))
                disk_write_page(f, fd, p, disk_chance(50));
        memset(f->dirty, 0, sizeof f->dirty);
        f->synced_bytes = size;
        if (ftruncate(fd, 0) != 0 || pwrite(fd, f->synced, size, 0) != (ssize_t)size)
            abort();
        close(fd);
    }
    snprintf(path, sizeof path, "%s/watermark", disk.dir);
    if (disk_chance(50))
        unlink(path);
}

static inline void disk_fini(void)
{
    for (size_t i = 0; i < DISK_FILES_MAX; i++)
        disk_forget(&disk.file[i]);
}
#endif
