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

struct scan {
    const char *dir;
    struct log_recovery *rec;
    struct fb_err *err;
    char *block; /* BLOCK_BYTES_MAX */
    uint64_t blocks, expected, end_offset;
};

static enum fb_code scan_segment(struct scan *s, struct segment *seg);
static void say(struct log_recovery *rec, uint64_t numbered);

enum fb_code recover_tail(struct segment_list *list, const char *dir, uint64_t numbered,
                          struct log_recovery *rec, struct fb_err *err)
{
    uint64_t begin_us = fb_mono_us();
    *rec = (struct log_recovery){.segments = (uint32_t)list->count};
    struct scan s = {.dir = dir, .rec = rec, .err = err, .block = malloc(BLOCK_BYTES_MAX)};
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
    rec->first_offset = list->count ? list->at[0].first_offset : numbered;
    rec->next_offset = fb_max_u64(s.end_offset, numbered);
    if (s.blocks > 0 && numbered > s.end_offset)
        rec->lost_events += numbered - s.end_offset;
    rec->took_us = fb_mono_us() - begin_us;
    say(rec, numbered);
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
    s->blocks++;
    s->expected = fb_max_u64(s->expected, head->first_offset + head->count);
    s->end_offset = fb_max_u64(s->end_offset, s->expected);
}

/* An empty file goes altogether: the next segment gets a new number. */
static enum fb_code cut_tail(struct scan *s, int fd, struct segment *seg, uint64_t position)
{
    char name[SEGMENT_NAME_BYTES], path[4200];
    segment_name(name, seg->number, seg->first_offset);
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    fb_assert(position <= seg->bytes);
    s->rec->torn_bytes += seg->bytes - position;
    if (position == 0) {
        if (unlink(path) != 0)
            return fb_fail(s->err, FB_E_IO, "%s: cannot remove the empty segment: %s", path,
                           strerror(errno));
    } else if (seg->bytes > position && ftruncate(fd, (off_t)position) != 0) {
        return fb_fail(s->err, FB_E_IO, "%s: cannot cut the torn tail at %" PRIu64 ": %s", path,
                       position, strerror(errno));
    }
    seg->bytes = position;
    return FB_OK;
}

static enum fb_code scan_segment(struct scan *s, struct segment *seg)
{
    char name[SEGMENT_NAME_BYTES], path[4200];
    segment_name(name, seg->number, seg->first_offset);
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fb_fail(s->err, FB_E_IO, "%s: %s; the log must be readable and writable", path,
                       strerror(errno));
    uint64_t position = 0;
    enum fb_code code = FB_OK;
    while (position < seg->bytes) {
        struct block_head head;
        enum fb_code found = check_block(s, fd, seg, position, &head);
        if (found == FB_E_DAMAGED || found == FB_E_END) {
            uint64_t bad_from = position;
            found = find_block(s, fd, seg, position + BLOCK_ALIGN_BYTES, &head);
            if (found == FB_E_END)
                break;
            if (found == FB_OK) {
                s->rec->damaged_places++;
                s->rec->damaged_bytes += head.position - bad_from;
                position = head.position;
            }
        }
        if (found == FB_E_VERSION || found == FB_E_IO) {
            code = fb_fail(s->err, found, "%s: at byte %" PRIu64 ": %s", path, position,
                           found == FB_E_IO ? strerror(errno)
                                            : "written by a newer version; run that version, or "
                                              "move the log directory away");
            break;
        }
        fb_assert(head.position == position);
        count_block(s, &head);
        position += block_bytes(&head);
    }
    if (code == FB_OK)
        code = cut_tail(s, fd, seg, position);
    if (code == FB_OK && position > 0 && fdatasync(fd) != 0)
        code = fb_fail(s->err, FB_E_IO, "%s: fdatasync: %s", path, strerror(errno));
    close(fd);
    return code;
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
