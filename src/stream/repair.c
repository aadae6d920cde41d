/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/repair.h"

#include "base/assert.h"
#include "stream/watermark.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static enum fb_code keep_aside(const char *dir, const char *name, int fd,
                               const struct check_place *place, struct fb_err *err);
static bool sync_dir(const char *path);

/* How long the compactor may hold repair.lock: for a rename and the sync of a folder. */
#define LOCK_TRIES 40
#define LOCK_WAIT_US 50000

/* -1: it cannot be opened; -2: somebody else holds it. */
static int lock_take(const char *dir, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return why == EWOULDBLOCK ? -2 : -1;
}

enum fb_code log_repair_begin(struct log_repair *r, const char *dir, struct fb_err *err)
{
    struct watermark_map *map;
    struct watermark mark = {.segment = 0};
    *r = (struct log_repair){.newest = UINT32_MAX, .lock_fd = -1, .repair_fd = -1};
    for (int i = 0; i < LOCK_TRIES && (r->repair_fd = lock_take(dir, "repair.lock")) == -2; i++)
        usleep(LOCK_WAIT_US);
    if (r->repair_fd == -2)
        return fb_fail(err, FB_E_CONFLICT, "log %s: another repair runs; wait for its end", dir);
    if (r->repair_fd >= 0)
        r->lock_fd = lock_take(dir, "lock");
    if (r->repair_fd < 0 || r->lock_fd == -1) {
        fb_fail(err, FB_E_IO,
                "log %s: %s; run the repair as the user of foldback, or as root, and on a file "
                "system that is not read-only",
                dir, strerror(errno));
        log_repair_end(r);
        return FB_E_IO;
    }
    r->is_live = r->lock_fd == -2;
    if (!r->is_live)
        return FB_OK;
    r->newest = 0; /* without a watermark nothing is known to be finished */
    if (watermark_open(&map, dir, false, NULL) == FB_OK) {
        if (watermark_read(map, &mark))
            r->newest = mark.segment;
        watermark_close(map);
    }
    return FB_OK;
}

void log_repair_end(struct log_repair *r)
{
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    if (r->repair_fd >= 0)
        close(r->repair_fd);
    r->lock_fd = r->repair_fd = -1;
}

enum repair_step log_repair_plan(const struct log_repair *r, const struct check_place *place)
{
    if (place->kind == CHECK_REPAIRED || place->kind == CHECK_HOLE)
        return REPAIR_NONE;
    if (r->is_live && place->segment >= r->newest)
        return REPAIR_LATER;
    if (place->kind == CHECK_EMPTY)
        return REPAIR_MOVE;
    /* A run too short for a mark cannot stand between good blocks: a header alone is longer. */
    return place->kind == CHECK_TAIL ? REPAIR_CUT : REPAIR_MARK;
}

/* FB_E_IO with what failed and the system's word for it. */
static enum fb_code fail_io(struct fb_err *err, const char *path, const char *what)
{
    enum fb_code code = errno == ENOSPC ? FB_E_DISK_FULL : FB_E_IO;
    return fb_fail(err, code, "%s: cannot %s: %s; nothing was changed there", path, what,
                   strerror(errno));
}

/* A check stops at the watermark; after a crash good blocks may stand behind it. */
static enum fb_code check_is_end(int fd, const char *path, const struct check_place *place,
                                 struct fb_err *err)
{
    struct stat st;
    struct block_head head;
    uint64_t end = place->position + place->bytes;
    if (fstat(fd, &st) != 0)
        return fail_io(err, path, "see its size");
    if (segment_head_after(fd, place->segment, end, (uint64_t)st.st_size, &head) == FB_E_END)
        return FB_OK;
    return fb_fail(
        err, FB_E_CONFLICT,
        "%s: more follows behind the watermark; start foldback once; nothing was changed "
        "there",
        path);
}

enum fb_code log_repair_do(const struct log_repair *r, const char *dir,
                           const struct check_place *place, struct fb_err *err)
{
    enum repair_step step = log_repair_plan(r, place);
    char name[SEGMENT_NAME_BYTES], path[4200], aside[4200];
    if (step == REPAIR_NONE || step == REPAIR_LATER)
        return FB_OK;
    segment_name(name, place->segment, place->segment_first);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(aside, sizeof aside, "%s/cut", dir);
    if (mkdir(aside, 0750) != 0 && errno != EEXIST)
        return fail_io(err, aside, "create the folder for damaged bytes");
    if (step == REPAIR_MOVE) {
        snprintf(aside, sizeof aside, "%s/cut/%s.0", dir, name);
        return rename(path, aside) == 0 && sync_dir(dir) ? FB_OK : fail_io(err, path, "move it");
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fail_io(err, path, "open it for writing");
    enum fb_code code = step == REPAIR_CUT ? check_is_end(fd, path, place, err) : FB_OK;
    if (code == FB_OK)
        code = keep_aside(dir, name, fd, place, err);
    char mark[CHECK_MARK_BYTES];
    fb_assert(step == REPAIR_CUT || place->bytes >= sizeof mark);
    check_mark_write(mark, place);
    if (code == FB_OK && step == REPAIR_CUT && ftruncate(fd, (off_t)place->position) != 0)
        code = fail_io(err, path, "cut its end");
    if (code == FB_OK && step == REPAIR_MARK &&
        pwrite(fd, mark, sizeof mark, (off_t)place->position) != sizeof mark)
        code = fail_io(err, path, "mark the damage");
    if (code == FB_OK && fdatasync(fd) != 0)
        code = fail_io(err, path, "sync it");
    close(fd);
    return code;
}

/* The bytes of <place> to <dir>/cut/NAME.POSITION, durable. */
static enum fb_code keep_aside(const char *dir, const char *name, int fd,
                               const struct check_place *place, struct fb_err *err)
{
    char path[4300], folder[4200], part[64 * KIB];
    snprintf(folder, sizeof folder, "%s/cut", dir);
    snprintf(path, sizeof path, "%s/%s.%" PRIu64, folder, name, place->position);
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (to < 0)
        return fail_io(err, path, "create it");
    bool is_good = true;
    for (uint64_t at = 0; at < place->bytes && is_good;) {
        size_t want = (size_t)fb_min_u64(sizeof part, place->bytes - at);
        ssize_t n = pread(fd, part, want, (off_t)(place->position + at));
        if (n == 0)
            errno = ENODATA; /* it has become shorter since the check */
        is_good = n > 0 && pwrite(to, part, (size_t)n, (off_t)at) == n;
        at += n > 0 ? (uint64_t)n : 0;
    }
    is_good = is_good && fsync(to) == 0 && sync_dir(folder) && sync_dir(dir);
    int why = errno;
    close(to);
    errno = why;
    if (is_good)
        return FB_OK;
    unlink(path);
    errno = why;
    return fail_io(err, path, "keep the damaged bytes");
}

static bool sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = fd >= 0 && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return is_synced;
}
