/* SPDX-License-Identifier: Apache-2.0 */
/* log_dir: a directory in memory per test, and what the tests of the log do to it.  Threads: one.
 */
#ifndef FB_TEST_LOG_DIR_H
#define FB_TEST_LOG_DIR_H
#include "base/buf.h"
#include "stream/log.h"
#include "stream/reader.h"
#include "stream/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct log_dir {
    char path[64];
};

static inline void log_dir_make(struct log_dir *d)
{
    snprintf(d->path, sizeof d->path, "%s/fb-log-test-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(d->path))
        abort();
}

static inline void log_dir_empty(const struct log_dir *d)
{
    DIR *dir = opendir(d->path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
}

static inline void log_dir_remove(const struct log_dir *d)
{
    log_dir_empty(d);
    rmdir(d->path);
}

/* Path of the <i>-th segment, in the order of numbers. */
static inline size_t log_dir_segment(const struct log_dir *d, size_t i, char path[256])
{
    struct segment_list list;
    char name[SEGMENT_NAME_BYTES];
    if (segment_list_read(&list, d->path, NULL) != FB_OK)
        abort();
    size_t count = list.count;
    if (i < count) {
        segment_name(name, list.at[i].number, list.at[i].first_offset);
        snprintf(path, 256, "%s/%s", d->path, name);
    }
    segment_list_fini(&list);
    return count;
}

static inline void file_read(const char *path, struct buf *b)
{
    char part[4096];
    ssize_t n;
    int fd = open(path, O_RDONLY);
    buf_clear(b);
    while (fd >= 0 && (n = read(fd, part, sizeof part)) > 0)
        buf_put(b, part, (size_t)n);
    close(fd);
}

static inline void file_write(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
        abort();
    close(fd);
}

static inline struct log_conf log_dir_conf(void)
{
    struct log_conf conf;
    log_conf_init(&conf);
    conf.node = 5;
    conf.epoch = 1;
    conf.queue_bytes = MIB;
    conf.retry_ms = 1;
    conf.compact_us = 0; /* places in a segment stay what they are; who wants it says so */
    return conf;
}

/* Event number <offset> of every test: all that it holds follows from the number. */
static inline struct ev_request numbered_event(uint64_t offset)
{
    struct ev_request r = EV_INIT(REQUEST, request, 1000000 + offset * 10);
    r.head.sequence = (uint32_t)offset;
    uint64_t mixed =
        (offset + 1) * UINT64_C(0x9e3779b97f4a7c15); /* so that it does not pack away */
    r.request_id = (mixed ^ (mixed >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    r.total_us = (uint32_t)(offset * 7919);
    r.sent_bytes = (uint32_t)r.request_id;
    return r;
}

/* Appends events <from> .. <to>-1; returns how many the log took. */
static inline uint32_t append_numbered(struct log *log, uint64_t from, uint64_t to)
{
    uint32_t taken = 0;
    while (from < to) {
        struct ev_request batch[256];
        uint64_t n = fb_min_u64(to - from, FB_COUNT(batch));
        for (uint64_t i = 0; i < n; i++)
            batch[i] = numbered_event(from + i);
        taken += log_append(log, (struct span){(char *)batch, (size_t)n * sizeof batch[0]}, from);
        from += n;
    }
    return taken;
}
#endif
