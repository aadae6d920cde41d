/* SPDX-License-Identifier: Apache-2.0 */
/* A chunk goes round:
 *
 *   free --chunk_for--> waiting --group_take--> group --group_done--> free
 *
 * The lock is held for queue moves and for the copy of a batch (256 KiB: about 20 us), never for a
 * system call on a file. */
#include "stream/log.h"

#include "base/assert.h"
#include "base/clock.h"
#include "stream/compactor.h"
#include "stream/recover.h"
#include "stream/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Chunks in one group at most: 4 MiB of records, about 5 ms of encoding, then the sync. */
#define GROUP_CHUNKS_MAX 16
/* A chunk with that much has no room for every record any more (EV_CELLS_MAX cells). */
#define FULL_BYTES (BLOCK_RAW_BYTES_MAX - EV_CELLS_MAX * EV_CELL_BYTES)

struct queue {
    struct chunk *first, *last;
    uint32_t count;
};

struct log {
    char dir[4096];
    int lock_fd;
    struct log_conf conf; /* its live members under the lock */
    _Atomic uint64_t acknowledged;
    pthread_t thread;
    struct writer writer; /* the writer thread's */
    struct compactor *compactor;

    pthread_mutex_t lock; /* protects all below; never held during I/O */
    pthread_cond_t wake, committed;
    struct chunk *chunks;       /* the array */
    struct queue free, waiting; /* the last waiting one may still be filled */
    struct queue group;         /* at the writer */
    uint64_t next_append;       /* offset that the next append may begin with, or later */
    uint64_t last_append_us;    /* time_us of the last event that was taken */
    uint64_t appended, lost;    /* events */
    uint64_t gap_lost;          /* of <lost>, not yet told by a gap event */
    uint64_t gap_from_us, gap_to_us;
    bool stop, flush, thread_ended;
    struct log_stats stats; /* copy of the writer's figures */
};

static enum fb_code open_dir(struct log *log, const char *dir, struct fb_err *err);
static enum fb_code open_files(struct log *log, struct log_recovery *rec, struct fb_err *err);
static enum fb_code start(struct log *log, struct fb_err *err);
static enum fb_code check_conf(const struct log_conf *c, struct fb_err *err);
static void *writer_main(void *arg);
static void free_all(struct log *log);
static void copy_stats(struct log *log, bool is_degraded);

void log_conf_init(struct log_conf *conf)
{
    *conf = (struct log_conf){.segment_bytes = 64 * MIB,
                              .queue_bytes = 8 * MIB,
                              .group_us = 20000,
                              .group_bytes = BLOCK_RAW_BYTES_MAX,
                              .retry_ms = 1000,
                              .compact_us = 300 * US_PER_S,
                              .compact_retry_ms = 60000,
                              .close_timeout_ms = 2000};
}

enum fb_code log_open(struct log **out, const char *dir, const struct log_conf *conf,
                      struct log_recovery *recovery, struct fb_err *err)
{
    struct log_recovery unread;
    enum fb_code code = check_conf(conf, err);
    if (code)
        return code;
    struct log *log = calloc(1, sizeof *log);
    if (!log)
        return fb_fail(err, FB_E_NOMEM, "no memory for the log %s", dir);
    log->conf = *conf;
    log_io_complete(&log->conf.io);
    log->lock_fd = -1;
    log->writer.fd = -1;
    code = open_dir(log, dir, err);
    if (code == FB_OK)
        code = open_files(log, recovery ? recovery : &unread, err);
    if (code == FB_OK)
        code = start(log, err);
    if (code) {
        free_all(log);
        return code;
    }
    *out = log;
    return FB_OK;
}

static enum fb_code check_conf(const struct log_conf *c, struct fb_err *err)
{
    if (c->segment_bytes < 64 * KIB || c->segment_bytes > GIB)
        return fb_fail(err, FB_E_RANGE,
                       "log: segment_bytes must be 65536..1073741824, got %" PRIu64,
                       c->segment_bytes);
    if (c->queue_bytes < 512 * KIB || c->queue_bytes > GIB)
        return fb_fail(err, FB_E_RANGE, "log: queue_bytes must be 524288..1073741824, got %" PRIu64,
                       c->queue_bytes);
    if (c->group_bytes < 4 * KIB || c->group_bytes > GROUP_CHUNKS_MAX * BLOCK_RAW_BYTES_MAX)
        return fb_fail(err, FB_E_RANGE, "log: group_bytes must be 4096..%u, got %" PRIu32,
                       GROUP_CHUNKS_MAX * (unsigned)BLOCK_RAW_BYTES_MAX, c->group_bytes);
    return FB_OK;
}

static enum fb_code open_dir(struct log *log, const char *dir, struct fb_err *err)
{
    char path[4200];
    if (snprintf(log->dir, sizeof log->dir, "%s", dir) >= (int)sizeof log->dir)
        return fb_fail(err, FB_E_RANGE, "log directory: longer than %zu bytes",
                       sizeof log->dir - 1);
    if (mkdir(dir, 0750) != 0 && errno != EEXIST)
        return fb_fail(err, FB_E_IO, "log directory %s: %s; create its parent", dir,
                       strerror(errno));
    snprintf(path, sizeof path, "%s/lock", dir);
    log->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (log->lock_fd < 0)
        return fb_fail(err, FB_E_IO, "%s: %s", path, strerror(errno));
    if (flock(log->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return fb_fail(err, FB_E_CONFLICT,
                       "log %s: another foldback writes it; stop that one, or choose another state "
                       "directory",
                       dir);
    return FB_OK;
}

static enum fb_code open_files(struct log *log, struct log_recovery *rec, struct fb_err *err)
{
    /* What the last writer gave out, to be read before writer_init makes the page ours. */
    struct segment_list list;
    struct watermark_map *old;
    struct watermark mark = {0};
    if (watermark_open(&old, log->dir, false, NULL) == FB_OK) {
        if (!watermark_read(old, &mark))
            mark = (struct watermark){0};
        watermark_close(old);
    }
    uint64_t numbered = fb_max_u64(log->conf.next_offset_min, mark.next_offset);
    compact_clean(log->dir);
    enum fb_code code = segment_list_read_by(&list, log->dir, log->conf.io.stat_at, err);
    if (code == FB_OK)
        code = recover_tail(
            &list,
            &(struct recover_from){.dir = log->dir, .numbered = numbered, .io = &log->conf.io}, rec,
            err);
    if (code == FB_OK) {
        code = writer_init(&log->writer, log->dir, &log->conf, &list, err);
        /* A number is never used twice, even when recovery removed the newest segment. */
        if (log->writer.next_number <= mark.segment)
            log->writer.next_number = mark.segment + 1;
    }
    segment_list_fini(&list);
    if (code)
        return code;
    code = compactor_new(&log->compactor, log->dir, &log->conf.io, log->conf.keys, err);
    if (code)
        return code;
    log->writer.next_offset = log->next_append = rec->next_offset;
    atomic_store(&log->acknowledged, rec->next_offset);
    writer_expire(&log->writer);
    writer_publish(&log->writer, 0, false);
    copy_stats(log, false);
    return FB_OK;
}

static void queue_put(struct queue *q, struct chunk *c)
{
    fb_assert(c);
    c->next = NULL;
    if (q->last)
        q->last->next = c;
    else
        q->first = c;
    q->last = c;
    q->count++;
}

/* What was used last is still in the cache. */
static void queue_put_first(struct queue *q, struct chunk *c)
{
    c->next = q->first;
    q->first = c;
    if (!q->last)
        q->last = c;
    q->count++;
}

static struct chunk *queue_take(struct queue *q)
{
    struct chunk *c = q->first;
    if (!c)
        return NULL;
    q->first = c->next;
    if (!q->first)
        q->last = NULL;
    fb_assert(q->count > 0);
    q->count--;
    c->next = NULL;
    return c;
}

static enum fb_code start(struct log *log, struct fb_err *err)
{
    uint32_t count = (uint32_t)(log->conf.queue_bytes / BLOCK_RAW_BYTES_MAX);
    log->chunks = calloc(count, sizeof *log->chunks);
    for (uint32_t i = 0; log->chunks && i < count; i++) {
        log->chunks[i].bytes = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
        if (log->chunks[i].bytes)
            queue_put(&log->free, &log->chunks[i]);
    }
    if (log->free.count < count)
        return fb_fail(err, FB_E_NOMEM, "no memory for %" PRIu64 " bytes of log queue",
                       log->conf.queue_bytes);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->wake, &attr);
    pthread_cond_init(&log->committed, &attr);
    pthread_condattr_destroy(&attr);
    /* The thread takes no signal: SIGXFSZ would end the process where EFBIG is an answer. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&log->thread, NULL, writer_main, log);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return fb_fail(err, FB_E_NOMEM, "log: no thread: %s", strerror(failed));
    return FB_OK;
}

static struct timespec timespec_of(uint64_t mono_us)
{
    mono_us -= fb_mono_offset(); /* stream time -> the clock of the condition variable */
    return (struct timespec){.tv_sec = (time_t)(mono_us / US_PER_S),
                             .tv_nsec = (long)(mono_us % US_PER_S * 1000)};
}

void log_close(struct log *log)
{
    if (!log)
        return;
    uint64_t until_us = fb_mono_us() + (uint64_t)log->conf.close_timeout_ms * US_PER_MS;
    struct timespec until = timespec_of(until_us);
    pthread_mutex_lock(&log->lock);
    log->stop = true;
    pthread_cond_signal(&log->wake);
    while (!log->thread_ended)
        if (pthread_cond_timedwait(&log->committed, &log->lock, &until) == ETIMEDOUT)
            break;
    bool has_ended = log->thread_ended;
    pthread_mutex_unlock(&log->lock);
    if (!has_ended) {
        /* The disk hangs inside a system call: the memory must outlive the thread. */
        pthread_detach(log->thread);
        return;
    }
    pthread_join(log->thread, NULL);
    /* At least a moment: it stops at the next block. */
    if (!compactor_close(log->compactor, fb_max_u64(until_us, fb_mono_us() + 500 * US_PER_MS)))
        log->lock_fd = -1; /* never given back: it would rename under the next writer */
    log->compactor = NULL;
    pthread_mutex_destroy(&log->lock);
    pthread_cond_destroy(&log->wake);
    pthread_cond_destroy(&log->committed);
    free_all(log);
}

static void free_all(struct log *log)
{
    if (!compactor_close(log->compactor, 0)) /* only when log_open fails: it has no thread then */
        log->lock_fd = -1;
    writer_fini(&log->writer);
    uint64_t count = log->chunks ? log->conf.queue_bytes / BLOCK_RAW_BYTES_MAX : 0;
    for (uint64_t i = 0; i < count; i++)
        free(log->chunks[i].bytes);
    free(log->chunks);
    if (log->lock_fd >= 0)
        close(log->lock_fd); /* gives the flock back */
    free(log);
}

/* ---- the caller's side ---- */

enum fb_code log_reconfigure(struct log *log, const struct log_conf *conf, struct fb_err *err)
{
    struct log_conf checked = *conf;
    checked.queue_bytes = log->conf.queue_bytes;
    enum fb_code code = check_conf(&checked, err);
    if (code)
        return code;
    pthread_mutex_lock(&log->lock);
    log->conf.segment_bytes = conf->segment_bytes;
    log->conf.retain_bytes = conf->retain_bytes;
    log->conf.retain_s = conf->retain_s;
    log->conf.operational_s = conf->operational_s;
    log->conf.operational_bytes = conf->operational_bytes;
    log->conf.group_us = conf->group_us;
    log->conf.group_bytes = conf->group_bytes;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
    return FB_OK;
}

uint64_t log_next_offset(const struct log *log)
{
    return log->next_append;
}

uint64_t log_acknowledged(const struct log *log)
{
    return atomic_load_explicit(&log->acknowledged, memory_order_acquire);
}

/* The chunk that takes <bytes> more at <offset>, or NULL when all are full. */
static struct chunk *chunk_for(struct log *log, size_t bytes, uint64_t offset)
{
    struct chunk *c = log->waiting.last;
    if (c && c->len + bytes <= BLOCK_RAW_BYTES_MAX && c->first_offset + c->count == offset)
        return c;
    c = queue_take(&log->free);
    if (!c)
        return NULL;
    c->len = 0;
    c->count = 0;
    c->first_offset = offset;
    c->born_us = fb_mono_us();
    queue_put(&log->waiting, c);
    return c;
}

/* Enough records for a commit before its time?  A second chunk is begun only when the first one
 * cannot take the next record: it is full, or the offsets have a hole.  Locked. */
static bool is_group_full(const struct log *log)
{
    const struct queue *q = &log->waiting;
    if (q->count == 0)
        return false;
    uint64_t bytes = (uint64_t)(q->count - 1) * BLOCK_RAW_BYTES_MAX + q->last->len;
    /* Half of the chunks: a queue that is smaller than a group must not fill up waiting for it. */
    return bytes >= log->conf.group_bytes || q->count > log->free.count ||
           (q->count > 1 && log->conf.group_bytes <= BLOCK_RAW_BYTES_MAX);
}

uint32_t log_append(struct log *log, struct span records, uint64_t first_offset)
{
    uint64_t offset = first_offset, last_us = 0, lost_us = 0;
    uint32_t taken = 0, lost = 0;
    pthread_mutex_lock(&log->lock);
    fb_assert(first_offset >= log->next_append);
    bool was_empty = log->waiting.count == 0;
    for (size_t at = 0; at < records.len; offset++) {
        const struct ev_head *ev = (const void *)(records.at + at);
        fb_assert(ev_is_valid(ev));
        size_t bytes = (size_t)ev->cells * EV_CELL_BYTES;
        fb_assert(bytes <= records.len - at);
        at += bytes;
        /* After a first loss the rest goes too: one hole, not a sieve. */
        struct chunk *c = lost ? NULL : chunk_for(log, bytes, offset);
        if (!c) {
            lost_us = ev->time_us;
            lost++;
            continue;
        }
        fb_assert(c->len + bytes <= BLOCK_RAW_BYTES_MAX);
        memcpy(c->bytes + c->len, ev, bytes);
        c->len += bytes;
        c->count++;
        last_us = ev->time_us;
        taken++;
    }
    if (taken)
        log->last_append_us = last_us;
    if (lost) {
        if (log->gap_lost == 0)
            log->gap_from_us = log->last_append_us;
        log->gap_to_us = lost_us;
        log->gap_lost += lost;
        log->lost += lost;
    }
    fb_assert(offset == first_offset + taken + lost);
    log->appended += taken;
    log->next_append = offset;
    /* The writer sleeps until the first record is group_us old or the group is large enough. */
    if (taken && (was_empty || is_group_full(log)))
        pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
    return taken;
}

bool log_has_room(struct log *log, uint32_t chunks)
{
    uint32_t half = (uint32_t)(log->conf.queue_bytes / BLOCK_RAW_BYTES_MAX / 2);
    pthread_mutex_lock(&log->lock);
    bool has_room = log->free.count >= fb_min_u32(chunks, half);
    pthread_mutex_unlock(&log->lock);
    return has_room;
}

bool log_gap_take(struct log *log, struct ev_gap *gap)
{
    pthread_mutex_lock(&log->lock);
    bool is_told = log->gap_lost > 0 && log->stats.state == LOG_OK && log->free.count > 0;
    if (is_told) {
        *gap = EV_INIT(GAP, gap, log->gap_to_us);
        gap->lost = log->gap_lost;
        gap->from_us = log->gap_from_us;
        gap->to_us = log->gap_to_us;
        gap->reason = REASON_LOSS_DISK;
        gap->source = EV_NONE;
        log->gap_lost = 0;
    }
    pthread_mutex_unlock(&log->lock);
    return is_told;
}

enum fb_code log_flush(struct log *log, uint32_t timeout_ms)
{
    struct timespec until = timespec_of(fb_mono_us() + (uint64_t)timeout_ms * US_PER_MS);
    enum fb_code code = FB_OK;
    pthread_mutex_lock(&log->lock);
    while (log->waiting.count + log->group.count > 0) {
        log->flush = true;
        pthread_cond_signal(&log->wake);
        if (pthread_cond_timedwait(&log->committed, &log->lock, &until) == ETIMEDOUT) {
            code = FB_E_TIMEOUT;
            break;
        }
    }
    pthread_mutex_unlock(&log->lock);
    return code;
}

void log_stats_read(struct log *log, struct log_stats *stats)
{
    pthread_mutex_lock(&log->lock);
    *stats = log->stats;
    stats->next_offset = log_acknowledged(log);
    stats->appended = log->appended;
    stats->lost = log->lost;
    for (const struct chunk *c = log->waiting.first; c; c = c->next)
        stats->queued_bytes += c->len;
    for (const struct chunk *c = log->group.first; c; c = c->next)
        stats->queued_bytes += c->len;
    pthread_mutex_unlock(&log->lock);
}

/* ---- the writer's side ---- */

/* So that others never look at the writer itself.  Locked, or before the thread. */
static void copy_stats(struct log *log, bool is_degraded)
{
    const struct writer *w = &log->writer;
    struct log_stats *s = &log->stats;
    s->state = is_degraded ? LOG_DEGRADED : LOG_OK;
    s->reason[0] = '\0';
    if (is_degraded)
        memcpy(s->reason, w->reason, sizeof s->reason);
    s->blocks = w->blocks;
    s->groups = w->groups;
    s->stored_bytes = w->stored_bytes;
    s->raw_bytes = w->raw_bytes;
    s->log_bytes = w->log_bytes;
    s->first_offset = w->list.count ? w->list.at[0].first_offset : w->next_offset;
    s->newest_offset = w->list.count ? w->list.at[w->list.count - 1].first_offset : w->next_offset;
    s->segments = w->list.count;
    s->failures = w->failures;
    s->expired_segments = w->expired;
    s->sync_us_max = w->sync_us_max;
    s->compacted = w->compacted;
}

/* Waits for a group; false when there is nothing left and the log closes.  Locked. */
static bool group_wait(struct log *log)
{
    for (;;) {
        const struct chunk *oldest = log->waiting.first;
        if (!oldest && log->stop)
            return false;
        if (!oldest) {
            pthread_cond_wait(&log->wake, &log->lock);
            continue;
        }
        if (log->stop || log->flush || is_group_full(log))
            return true;
        uint64_t due_us = oldest->born_us + log->conf.group_us;
        if (fb_mono_us() >= due_us)
            return true;
        struct timespec until = timespec_of(due_us);
        pthread_cond_timedwait(&log->wake, &log->lock, &until);
    }
}

/* Moves what is to be written to the group: whole chunks, and the one still being filled only when
 * its time has come, so that a busy log writes full blocks.  Locked. */
static void group_take(struct log *log)
{
    uint64_t now_us = fb_mono_us();
    while (log->waiting.count > 0 && log->group.count < GROUP_CHUNKS_MAX) {
        const struct chunk *c = log->waiting.first;
        bool is_due = log->stop || log->flush || now_us >= c->born_us + log->conf.group_us ||
                      c->len >= FULL_BYTES ||
                      (log->group.count == 0 && c->len >= log->conf.group_bytes);
        if (log->waiting.count == 1 && !is_due)
            break;
        queue_put(&log->group, queue_take(&log->waiting));
    }
    fb_assert(log->group.count > 0); /* else group_wait was wrong and we would spin */
}

/* Rests after a failure; false when the log closes meanwhile.  Locked. */
static bool retry_wait(struct log *log)
{
    struct timespec until = timespec_of(fb_mono_us() + (uint64_t)log->conf.retry_ms * US_PER_MS);
    while (!log->stop)
        if (pthread_cond_timedwait(&log->wake, &log->lock, &until) == ETIMEDOUT)
            return true;
    return false;
}

/* Tells readers in other processes.  Not locked: a store to the mapped page may wait for the file
 * system of a stuck disk, and log_append must not wait with it.  <group> is the writer's alone. */
static void group_publish(struct log *log, uint32_t durable, uint64_t lost)
{
    struct writer *w = &log->writer;
    const struct chunk *c = log->group.first;
    for (uint32_t i = 0; i < durable; i++, c = c->next) {
        fb_assert(c->first_offset >= w->next_offset);
        w->next_offset = c->first_offset + c->count;
    }
    writer_publish(w, lost, durable < log->group.count);
}

/* Gives <durable> chunks of the group back and tells this process.  Locked. */
static void group_done(struct log *log, uint32_t durable)
{
    fb_assert(durable <= log->group.count);
    fb_assert(log->writer.next_offset >= log_acknowledged(log)); /* never taken back */
    bool is_degraded = durable < log->group.count;
    for (uint32_t i = 0; i < durable; i++)
        queue_put_first(&log->free, queue_take(&log->group));
    copy_stats(log, is_degraded);
    atomic_store_explicit(&log->acknowledged, log->writer.next_offset, memory_order_release);
    if (log->waiting.count == 0)
        log->flush = false;
    pthread_cond_broadcast(&log->committed);
}

/* Not locked: the compactor has a lock of its own. */
static void compact_step(struct log *log)
{
    struct writer *w = &log->writer;
    struct compact_result result;
    if (compactor_take(log->compactor, &result))
        writer_compacted(w, &result);
    if (w->busy_number)
        return;
    const struct segment *seg = writer_to_clear(w);
    seg = seg ? seg : writer_to_compact(w);
    if (seg)
        compactor_offer(log->compactor, seg);
}

static void *writer_main(void *arg)
{
    struct log *log = arg;
    pthread_mutex_lock(&log->lock);
    while (group_wait(log)) {
        group_take(log);
        while (log->group.count > 0) {
            uint32_t count = log->group.count;
            uint64_t lost = log->lost;
            log->writer.conf.segment_bytes = log->conf.segment_bytes;
            log->writer.conf.retain_bytes = log->conf.retain_bytes;
            log->writer.conf.retain_s = log->conf.retain_s;
            log->writer.conf.operational_s = log->conf.operational_s;
            log->writer.conf.operational_bytes = log->conf.operational_bytes;
            pthread_mutex_unlock(&log->lock);
            uint32_t durable = writer_commit(&log->writer, log->group.first, count);
            writer_expire(&log->writer);
            group_publish(log, durable, lost);
            compact_step(log);
            pthread_mutex_lock(&log->lock);
            group_done(log, durable);
            if (durable < count && !retry_wait(log))
                goto done; /* closing on a failing disk: the rest is lost */
        }
    }
done:
    log->thread_ended = true;
    pthread_cond_broadcast(&log->committed);
    pthread_mutex_unlock(&log->lock);
    return NULL;
}
