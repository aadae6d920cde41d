/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/writer.h"

#include "base/assert.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A brain that dies in a loop leaves a segment per start; 20,000 small files still list in 30 ms.
 */
#define SEGMENTS_MAX 20000
/* Time alone does not finish a segment that is smaller: a node without traffic would make files of
 * nothing. */
#define ROLL_BYTES_MIN (64 * KIB)
/* A segment is finished early, after 60 s of 300, when it is a sixteenth of the log: such segments
 * are a few hundred until the log is so large that it is none. */
#define ROLL_EARLY 5
#define ROLL_PART 16
/* Operational fields are cleared by whole segments: one holds no more than this part of their age.
 */
#define CLEAR_PARTS 4
/* A segment that cannot be cleared is looked at again, after twice as long each time. */
#define CLEAR_WAIT_US_MAX (3600 * US_PER_S)
#define CLEAR_DOUBLINGS_MAX 12u
/* What clocks are corrected by in normal life; more is a jump, and jumps do not age segments. */
#define CLOCK_SLACK_US (3600 * US_PER_S)

static bool is_to_roll(const struct writer *w);
static bool write_chunk(struct writer *w, const struct chunk *chunk);
static bool segment_create(struct writer *w, uint64_t first_offset);
static bool segment_sync(struct writer *w);
static uint64_t steady_wall_us(const struct writer *w);
static void segment_close(struct writer *w);
static void segment_give_up(struct writer *w, const char *what);

static ssize_t plain_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    return pwrite(fd, bytes, len, at);
}

static int plain_sync(int fd)
{
    return fdatasync(fd);
}

/* A new file whose name is as durable as its bytes will be: without the second sync a power cut may
 * take the whole file. */
static int plain_create(const char *dir, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0)
        return -1;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = dir_fd >= 0 && fsync(dir_fd) == 0;
    int why = errno;
    if (dir_fd >= 0)
        close(dir_fd);
    if (is_synced)
        return fd;
    unlink(path);
    close(fd);
    errno = why;
    return -1;
}

/* Without the sync of the folder a power cut brings the old file back, which is as good. */
static int plain_replace(const char *dir, const char *from, const char *to)
{
    if (rename(from, to) != 0)
        return -1;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd >= 0) {
        fsync(dir_fd);
        close(dir_fd);
    }
    return 0;
}

static int plain_stat(int dir_fd, const char *name, struct stat *st)
{
    return fstatat(dir_fd, name, st, 0);
}

static int plain_open_read(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC);
}

void log_io_complete(struct log_io *io)
{
    if (!io->pwrite)
        io->pwrite = plain_pwrite;
    if (!io->sync)
        io->sync = plain_sync;
    if (!io->create)
        io->create = plain_create;
    if (!io->truncate)
        io->truncate = ftruncate;
    if (!io->replace)
        io->replace = plain_replace;
    if (!io->stat_at)
        io->stat_at = plain_stat;
    if (!io->open_read)
        io->open_read = plain_open_read;
    if (!io->pread)
        io->pread = pread;
    if (!io->wall_us)
        io->wall_us = fb_wall_us;
}

enum fb_code writer_init(struct writer *w, const char *dir, const struct log_conf *conf,
                         struct segment_list *list, struct fb_err *err)
{
    w->conf = *conf;
    w->dir = dir;
    w->fd = -1;
    w->list = *list;
    w->list_cap = list->count;
    *list = (struct segment_list){0};
    log_io_complete(&w->conf.io);
    w->begin_wall_us = w->conf.io.wall_us();
    w->begin_mono_us = fb_mono_us();
    w->next_number = w->list.count ? w->list.at[w->list.count - 1].number + 1 : 1;
    for (size_t i = 0; i < w->list.count; i++)
        w->log_bytes += w->list.at[i].bytes;
    w->codec = block_codec_new();
    if (!w->codec)
        return fb_fail(err, FB_E_NOMEM, "no memory for the block encoder");
    block_codec_keys(w->codec, w->conf.keys);
    return watermark_open(&w->map, dir, true, err);
}

void writer_fini(struct writer *w)
{
    if (w->codec && w->fd >= 0)
        segment_close(w);
    block_codec_free(w->codec);
    watermark_close(w->map);
    segment_list_fini(&w->list);
}

uint32_t writer_commit(struct writer *w, const struct chunk *first, uint32_t count)
{
    uint32_t durable = 0, written = 0;
    const struct chunk *chunk = first;
    while (written < count) {
        fb_assert(chunk);
        /* A full segment is synced before the next one exists: no hole between two segments. */
        if (w->fd >= 0 && is_to_roll(w)) {
            if (!segment_sync(w))
                return durable;
            durable = written;
            segment_close(w);
        }
        if (w->fd < 0 && !segment_create(w, chunk->first_offset))
            return durable;
        if (!write_chunk(w, chunk))
            return durable;
        written++;
        chunk = chunk->next;
    }
    if (!segment_sync(w))
        return durable;
    w->groups++;
    return written;
}

/* Full; or of small blocks, so that they can be joined, and old enough, or a large part of a log
 * that is still small: at 300 requests/s a log of an hour would else be 9 % small blocks at times,
 * which take three times the bytes. */
static bool is_to_roll(const struct writer *w)
{
    if (w->position >= w->conf.segment_bytes)
        return true;
    if (w->position < ROLL_BYTES_MIN)
        return false;
    uint64_t age_us = fb_mono_us() - w->open_since_us;
    uint64_t clear_us = w->conf.operational_s * US_PER_S / CLEAR_PARTS;
    if (clear_us &&
        age_us >= fb_max_u64(clear_us, w->conf.retain_s * (US_PER_S / COMPACT_SEGMENTS_MAX)))
        return true;
    if (!w->conf.compact_us || !compact_is_worth(w->open_blocks, w->open_raw_bytes))
        return false;
    uint64_t age_us_max =
        fb_max_u64(w->conf.compact_us, w->conf.retain_s * (US_PER_S / COMPACT_SEGMENTS_MAX));
    return age_us >= age_us_max ||
           (age_us >= w->conf.compact_us / ROLL_EARLY && w->position >= w->log_bytes / ROLL_PART);
}

/* One block behind the others.  A half-written one is cut off again by segment_give_up. */
static bool write_chunk(struct writer *w, const struct chunk *chunk)
{
    fb_assert(w->fd >= 0);
    fb_assert(w->list.count > 0);
    fb_assert(w->position >= w->durable);
    fb_assert(chunk->len > 0);
    fb_assert(chunk->first_offset >= w->next_offset);
    struct block_head head = {.node = w->conf.node,
                              .epoch = w->conf.epoch,
                              .first_offset = chunk->first_offset,
                              .has_acknowledged = true,
                              .acknowledged = w->next_offset,
                              .wall_minus_mono_us = (int64_t)(w->conf.io.wall_us() - fb_mono_us())};
    struct span block, records = {(const char *)chunk->bytes, chunk->len};
    enum fb_code code = block_encode(w->codec, &head, records, &block);
    fb_assert(code == FB_OK); /* log_append took whole, valid records only */
    fb_assert(head.count == chunk->count);
    if (block_seal(w->codec, &head, w->list.at[w->list.count - 1].number, (uint32_t)w->position) !=
        FB_OK) {
        errno = ENOKEY;
        segment_give_up(w, "encrypt a block");
        return false;
    }
    for (size_t done = 0; done < block.len;) {
        ssize_t n = w->conf.io.pwrite(w->fd, block.at + done, block.len - done,
                                      (off_t)(w->position + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            segment_give_up(w, "write");
            return false;
        }
        done += (size_t)n;
    }
    w->position += block.len;
    w->log_bytes += block.len;
    w->stored_bytes += block.len;
    w->raw_bytes += chunk->len;
    w->blocks++;
    w->open_blocks++;
    w->open_raw_bytes += chunk->len;
    w->list.at[w->list.count - 1].bytes = w->position;
    return true;
}

/* The wall clock for ages: a clock that is set ahead must not make the whole log look old, one that
 * was set back not what is written then. */
static uint64_t steady_wall_us(const struct writer *w)
{
    uint64_t steady_us = w->begin_wall_us + (fb_mono_us() - w->begin_mono_us);
    uint64_t low_us = fb_sub_floor_u64(steady_us, CLOCK_SLACK_US);
    return fb_max_u64(low_us, fb_min_u64(w->conf.io.wall_us(), steady_us + CLOCK_SLACK_US));
}

static bool segment_create(struct writer *w, uint64_t first_offset)
{
    fb_assert(w->fd < 0);
    fb_assert(w->next_number > 0);
    char name[SEGMENT_NAME_BYTES], path[4200];
    if (w->list.count == w->list_cap) {
        size_t more = w->list_cap ? w->list_cap * 2 : 64;
        struct segment *at = realloc(w->list.at, more * sizeof *at);
        if (!at) {
            errno = ENOMEM;
            segment_give_up(w, "create a segment");
            return false;
        }
        w->list.at = at;
        w->list_cap = more;
    }
    segment_name(name, w->next_number, first_offset);
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    uint32_t number = w->next_number++; /* used up, even when the creation fails half-way */
    w->fd = w->conf.io.create(w->dir, path);
    if (w->fd < 0) {
        segment_give_up(w, "create a segment");
        return false;
    }
    w->list.at[w->list.count++] = (struct segment){.number = number, .first_offset = first_offset};
    w->position = 0;
    w->durable = 0;
    w->open_blocks = w->open_raw_bytes = 0;
    w->open_since_us = fb_mono_us();
    return true;
}

static bool segment_sync(struct writer *w)
{
    fb_assert(w->fd >= 0);
    if (w->position == w->durable)
        return true;
    uint64_t begin_us = fb_mono_us();
    if (w->conf.io.sync(w->fd) != 0) {
        segment_give_up(w, "fdatasync");
        return false;
    }
    w->sync_us_max = fb_max_u32(w->sync_us_max, fb_sat_u32(fb_mono_us() - begin_us));
    w->durable = w->position;
    return true;
}

static void segment_close(struct writer *w)
{
    fb_assert(w->fd >= 0);
    close(w->fd);
    w->fd = -1;
    w->list.at[w->list.count - 1].modified_wall_us = steady_wall_us(w);
}

/* After a failed write or sync nobody knows what the disk holds behind <durable>: cut it off, so
 * that a restart cannot mistake page cache for disk, and leave the file for ever. */
static void segment_give_up(struct writer *w, const char *what)
{
    w->failures++;
    snprintf(w->reason, sizeof w->reason, "cannot %s in %.80s: %s", what, w->dir, strerror(errno));
    if (w->fd < 0)
        return;
    fb_assert(w->list.count > 0);
    fb_assert(w->durable <= w->position);
    struct segment *seg = &w->list.at[w->list.count - 1];
    char name[SEGMENT_NAME_BYTES], path[4200];
    segment_name(name, seg->number, seg->first_offset);
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    w->log_bytes -= w->position - w->durable;
    /* A failure here is harmless: readers go by offset, and the next segment repeats the blocks. */
    if (w->durable == 0)
        w->list.count -= unlink(path) == 0;
    else if (w->conf.io.truncate(w->fd, (off_t)w->durable) != 0)
        w->failures++;
    seg->bytes = w->durable;
    seg->modified_wall_us = steady_wall_us(w);
    close(w->fd);
    w->fd = -1;
}

void writer_publish(struct writer *w, uint64_t lost, bool is_degraded)
{
    struct watermark mark = {.next_offset = w->next_offset,
                             .node = w->conf.node,
                             .epoch = w->conf.epoch,
                             .lost = lost,
                             .is_degraded = is_degraded};
    if (w->list.count) {
        const struct segment *last = &w->list.at[w->list.count - 1];
        mark.segment = last->number;
        mark.position = w->fd >= 0 ? w->durable : last->bytes;
    }
    watermark_publish(w->map, &mark);
}

const struct segment *writer_to_compact(struct writer *w)
{
    fb_assert(w->busy_number == 0);
    if (!w->conf.compact_us || fb_mono_us() < w->next_compact_us)
        return NULL;
    /* Never the last one: it is open, or readers take its end from the watermark.  The newest
     * first: they are still in memory. */
    for (size_t i = w->list.count; i-- > 1;) {
        struct segment *seg = &w->list.at[i - 1];
        if (seg->is_settled)
            continue;
        w->busy_number = seg->number;
        return seg;
    }
    return NULL;
}

const struct segment *writer_to_clear(struct writer *w)
{
    return writer_to_clear_at(w, steady_wall_us(w));
}

/* The oldest first, as retention. */
const struct segment *writer_to_clear_at(struct writer *w, uint64_t wall_us)
{
    uint64_t age_us = w->conf.operational_s * US_PER_S, left = 0, stuck = 0;
    fb_assert(w->busy_number == 0);
    if ((!age_us && !w->conf.operational_bytes) || fb_mono_us() < w->next_compact_us)
        return NULL;
    for (size_t i = 0; i < w->list.count; i++) {
        const struct segment *seg = &w->list.at[i];
        left += seg->is_cleared ? 0 : seg->bytes;
        stuck += seg->is_cleared || seg->clear_tries == 0 ? 0 : seg->bytes;
    }
    for (size_t i = 0; i + 1 < w->list.count; i++) {
        struct segment *seg = &w->list.at[i];
        if (seg->is_cleared || seg->clear_again_us > fb_mono_us())
            continue;
        bool is_old = age_us && fb_sub_floor_u64(wall_us, seg->modified_wall_us) > age_us;
        /* No younger one goes early for one that cannot be cleared. */
        uint64_t counted = seg->clear_tries ? left : left - stuck;
        bool is_over = w->conf.operational_bytes && counted > w->conf.operational_bytes;
        if (!is_old && !is_over)
            return NULL;
        seg->wants_clear = true;
        w->busy_number = seg->number;
        return seg;
    }
    return NULL;
}

/* Its fields are still there: again later, and meanwhile the next ones. */
static void not_cleared(struct writer *w, struct segment *seg, const struct compact_result *result)
{
    struct log_compacted *c = &w->compacted;
    uint32_t tries = fb_min_u32(seg->clear_tries, CLEAR_DOUBLINGS_MAX);
    uint64_t wait_us = ((uint64_t)w->conf.compact_retry_ms * US_PER_MS) << tries;
    seg->clear_tries = (uint8_t)fb_min_u32(seg->clear_tries + 1u, CLEAR_DOUBLINGS_MAX);
    seg->clear_again_us = fb_mono_us() + fb_min_u64(wait_us, CLEAR_WAIT_US_MAX);
    c->clear_failures++;
    if (result->has_failed)
        memcpy(c->clear_reason, result->reason, sizeof c->clear_reason);
    else
        snprintf(c->clear_reason, sizeof c->clear_reason,
                 "segment %u is damaged, or its key is not the one that seals now; see `foldback "
                 "log check`",
                 seg->number);
}

static void count_uncleared(struct writer *w)
{
    w->compacted.uncleared = 0;
    for (size_t i = 0; i < w->list.count; i++)
        w->compacted.uncleared += !w->list.at[i].is_cleared && w->list.at[i].clear_tries > 0;
}

void writer_compacted(struct writer *w, const struct compact_result *result)
{
    struct log_compacted *c = &w->compacted;
    fb_assert(w->busy_number == result->number);
    bool was_clearing = false;
    w->busy_number = 0;
    c->worked_us += result->worked_us;
    for (size_t i = 0; i < w->list.count; i++) {
        struct segment *seg = &w->list.at[i];
        if (seg->number != result->number)
            continue;
        fb_assert(w->log_bytes >= seg->bytes);
        w->log_bytes = w->log_bytes - seg->bytes + result->bytes;
        seg->bytes = result->bytes;
        was_clearing = seg->wants_clear;
        seg->is_cleared |= result->is_cleared;
        if (seg->wants_clear && !seg->is_cleared && (result->is_settled || result->has_failed))
            not_cleared(w, seg, result);
        seg->is_settled = result->is_settled;
        seg->wants_clear = false;
    }
    count_uncleared(w);
    if (result->is_done) {
        c->segments++;
        c->before_bytes += result->before_bytes;
        c->after_bytes += result->bytes;
    }
    c->is_failing &= result->has_failed;
    if (!result->is_settled)
        w->next_compact_us = fb_mono_us() + (uint64_t)w->conf.compact_retry_ms * US_PER_MS;
    if (result->has_failed && !(was_clearing && result->is_settled)) {
        c->failures++;
        c->is_failing = true;
        memcpy(c->reason, result->reason, sizeof c->reason);
    }
}

void writer_expire(struct writer *w)
{
    writer_expire_at(w, steady_wall_us(w));
}

void writer_expire_at(struct writer *w, uint64_t wall_us)
{
    uint64_t age_us = w->conf.retain_s * US_PER_S;
    size_t gone = 0;
    for (; gone + 1 < w->list.count; gone++) {
        const struct segment *old = &w->list.at[gone];
        bool is_over = w->conf.retain_bytes && w->log_bytes > w->conf.retain_bytes;
        bool is_old = age_us && fb_sub_floor_u64(wall_us, old->modified_wall_us) > age_us;
        if ((!is_over && !is_old && w->list.count - gone <= SEGMENTS_MAX) ||
            old->number == w->busy_number)
            break;
        char name[SEGMENT_NAME_BYTES], path[4200];
        segment_name(name, old->number, old->first_offset);
        snprintf(path, sizeof path, "%s/%s", w->dir, name);
        if (unlink(path) != 0 && errno != ENOENT)
            break;
        fb_assert(w->log_bytes >= old->bytes);
        w->log_bytes -= old->bytes;
        w->expired++;
    }
    if (gone) {
        w->list.count -= gone;
        memmove(w->list.at, w->list.at + gone, w->list.count * sizeof *w->list.at);
        count_uncleared(w);
    }
}
