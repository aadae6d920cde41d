/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/recover.h"

#include "base/assert.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Blocks whose events may not be acknowledged yet: two groups of the log at most. */
#define RECENT_BLOCKS 32

struct recent {
    uint64_t position, end_offset;
};

struct scan {
    const struct recover_from *from;
    struct log_recovery *rec;
    struct fb_err *err;
    char path[4200];
    char *block;           /* BLOCK_BYTES_MAX */
    uint64_t acknowledged; /* all offsets below were, as far as anything tells */
    uint64_t end_offset;
    /* Of the present segment. */
    uint64_t blocks, expected;
    bool is_told; /* every block tells what was acknowledged */
    struct recent recent[RECENT_BLOCKS];
};

static enum fb_code scan_segment(struct scan *s, struct segment *seg);
static enum fb_code pass(struct scan *s, int fd, const struct segment *seg, bool is_final,
                         uint64_t *end);
static enum fb_code make_durable(struct scan *s, int fd, uint64_t end);
static void say(struct log_recovery *rec, uint64_t numbered);

enum fb_code recover_tail(struct segment_list *list, const struct recover_from *from,
                          struct log_recovery *rec, struct fb_err *err)
{
    uint64_t begin_us = fb_mono_us();
    *rec = (struct log_recovery){.segments = (uint32_t)list->count};
    struct scan s = {.from = from, .rec = rec, .err = err, .acknowledged = from->numbered};
    s.block = malloc(BLOCK_BYTES_MAX);
    enum fb_code code = FB_OK;
    if (!s.block)
        return fb_fail(err, FB_E_NOMEM, "no memory to scan the log");
    while (list->count > 0 && s.blocks == 0) {
        struct segment *seg = &list->at[list->count - 1];
        code = scan_segment(&s, seg);
        if (code)
            break;
        rec->segments_scanned++;
        if (s.blocks == 0)
            list->count--; /* nothing good in it: removed by scan_segment */
    }
    free(s.block);
    rec->segments = (uint32_t)list->count;
    rec->first_offset = list->count ? list->at[0].first_offset : from->numbered;
    rec->next_offset = fb_max_u64(s.end_offset, from->numbered);
    if (s.blocks > 0 && from->numbered > s.end_offset)
        rec->lost_events += from->numbered - s.end_offset;
    rec->took_us = fb_mono_us() - begin_us;
    say(rec, from->numbered);
    return code;
}

/* A good block at <position> into s->block?  FB_E_END at the end of the file or when it is cut. */
static enum fb_code check_block(struct scan *s, int fd, const struct segment *seg,
                                uint64_t position, struct block_head *head)
{
    enum fb_code code = segment_head_at(fd, seg->number, position, head);
    if (code)
        return code;
    size_t body = block_bytes(head) - BLOCK_HEADER_BYTES;
    ssize_t n = pread(fd, s->block, body, (off_t)(position + BLOCK_HEADER_BYTES));
    if (n < 0)
        return FB_E_IO;
    if ((size_t)n < body || !block_body_is_good(head, (struct span){s->block, (size_t)n}))
        return FB_E_DAMAGED;
    return FB_OK;
}

/* The next good block behind bad bytes at <from>. */
static enum fb_code find_block(struct scan *s, int fd, const struct segment *seg, uint64_t from,
                               struct block_head *head)
{
    for (;;) {
        enum fb_code code = segment_head_after(fd, seg->number, from, seg->bytes, head);
        if (code)
            return code;
        if (check_block(s, fd, seg, head->position, head) == FB_OK)
            return FB_OK;
        from = (uint64_t)head->position + BLOCK_ALIGN_BYTES;
    }
}

static void count_block(struct scan *s, const struct block_head *head)
{
    fb_assert(head->count > 0);
    if (s->blocks > 0 && head->first_offset > s->expected)
        s->rec->lost_events += head->first_offset - s->expected;
    if (head->has_acknowledged)
        s->acknowledged = fb_max_u64(s->acknowledged, head->acknowledged);
    else
        s->is_told = false;
    s->expected = fb_max_u64(s->expected, head->first_offset + head->count);
    s->recent[s->blocks++ % RECENT_BLOCKS] = (struct recent){head->position, s->expected};
}

/* An empty file goes altogether: the next segment gets a new number. */
static enum fb_code cut_tail(struct scan *s, int fd, struct segment *seg, uint64_t position)
{
    fb_assert(position <= seg->bytes);
    s->rec->torn_bytes += seg->bytes - position;
    if (position == 0) {
        if (unlink(s->path) != 0)
            return fb_fail(s->err, FB_E_IO, "%s: cannot remove the empty segment: %s", s->path,
                           strerror(errno));
    } else if (seg->bytes > position && s->from->io->truncate(fd, (off_t)position) != 0) {
        return fb_fail(s->err, FB_E_IO, "%s: cannot cut the torn tail at %" PRIu64 ": %s", s->path,
                       position, strerror(errno));
    }
    seg->bytes = position;
    return FB_OK;
}

static enum fb_code scan_segment(struct scan *s, struct segment *seg)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, seg->number, seg->first_offset);
    snprintf(s->path, sizeof s->path, "%s/%s", s->from->dir, name);
    int fd = open(s->path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fb_fail(s->err, FB_E_IO,
                       "%s: %s; foldback must be able to write its log: look at the owner of the "
                       "file and whether the disk is mounted read-only",
                       s->path, strerror(errno));
    uint64_t end = 0;
    enum fb_code code = pass(s, fd, seg, false, &end);
    /* Only now is it known how far events were acknowledged. */
    if (code == FB_OK && s->rec->damaged_places > 0 && s->is_told)
        code = pass(s, fd, seg, true, &end);
    if (s->blocks > 0)
        s->end_offset = fb_max_u64(s->end_offset, s->expected);
    if (code == FB_OK)
        code = cut_tail(s, fd, seg, end);
    if (code == FB_OK && end > 0)
        code = make_durable(s, fd, end);
    close(fd);
    return code;
}

/* Walks the segment; *end is behind the last block that counts.  The final pass ends at bad bytes
 * in the place of events that were never acknowledged. */
static enum fb_code pass(struct scan *s, int fd, const struct segment *seg, bool is_final,
                         uint64_t *end)
{
    struct block_head head;
    s->blocks = 0;
    s->is_told = true;
    s->expected = seg->first_offset;
    s->rec->damaged_places = 0;
    s->rec->damaged_bytes = s->rec->lost_events = 0;
    for (*end = 0; *end < seg->bytes; *end += block_bytes(&head)) {
        enum fb_code code = check_block(s, fd, seg, *end, &head);
        if (code == FB_E_DAMAGED || code == FB_E_END) {
            uint64_t bad_from = *end;
            if (is_final && s->expected >= s->acknowledged)
                break;
            code = find_block(s, fd, seg, bad_from + BLOCK_ALIGN_BYTES, &head);
            if (code == FB_E_END)
                break;
            if (code == FB_OK) {
                s->rec->damaged_places++;
                s->rec->damaged_bytes += head.position - bad_from;
                *end = head.position;
            }
        }
        if (code == FB_E_VERSION)
            return fb_fail(s->err, code,
                           "%s: at byte %" PRIu64 ": written by a newer version; run that version, "
                           "or move the log directory away",
                           s->path, *end);
        if (code)
            return fb_fail(s->err, FB_E_IO, "%s: at byte %" PRIu64 ": %s; look at the disk",
                           s->path, *end, strerror(errno));
        fb_assert(head.position == *end);
        count_block(s, &head);
    }
    return FB_OK;
}

/* Writes the blocks again that nothing proves to be on the disk, then syncs. */
static enum fb_code make_durable(struct scan *s, int fd, uint64_t end)
{
    uint64_t from = end;
    for (uint64_t i = s->blocks; i > 0 && i + RECENT_BLOCKS > s->blocks; i--) {
        const struct recent *r = &s->recent[(i - 1) % RECENT_BLOCKS];
        if (r->end_offset <= s->acknowledged)
            break;
        from = r->position;
    }
    for (uint64_t at = from; at < end;) {
        size_t want = (size_t)fb_min_u64(end - at, BLOCK_BYTES_MAX);
        ssize_t n = pread(fd, s->block, want, (off_t)at);
        if (n > 0)
            n = s->from->io->pwrite(fd, s->block, (size_t)n, (off_t)at);
        if (n <= 0)
            return fb_fail(s->err, FB_E_IO, "%s: cannot write its end again: %s", s->path,
                           strerror(errno));
        at += (uint64_t)n;
    }
    if (s->from->io->sync(fd) != 0)
        return fb_fail(s->err, FB_E_IO, "%s: fdatasync: %s; look at the disk", s->path,
                       strerror(errno));
    return FB_OK;
}

static void say(struct log_recovery *rec, uint64_t numbered)
{
    char *at = rec->sentence;
    size_t room = sizeof rec->sentence;
    if (rec->segments == 0) {
        snprintf(at, room, "The log is empty; it begins at offset %" PRIu64 ".", numbered);
        return;
    }
    int n = snprintf(at, room, "The log holds offsets %" PRIu64 " to %" PRIu64 " in %u segments",
                     rec->first_offset, rec->next_offset, rec->segments);
    at += n;
    room -= (size_t)n;
    if (rec->torn_bytes) {
        n = snprintf(at, room, "; a torn tail of %" PRIu64 " bytes was cut", rec->torn_bytes);
        at += n;
        room -= (size_t)n;
    }
    if (rec->damaged_places) {
        n = snprintf(at, room, "; %u damaged places (%" PRIu64 " bytes) are skipped",
                     rec->damaged_places, rec->damaged_bytes);
        at += n;
        room -= (size_t)n;
    }
    if (rec->lost_events) {
        n = snprintf(at, room, "; %" PRIu64 " events are missing", rec->lost_events);
        at += n;
        room -= (size_t)n;
    }
    fb_assert(room > 1);
    snprintf(at, room, ".");
}
