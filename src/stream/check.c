/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/check.h"

#include "base/assert.h"
#include "stream/crc32c.h"
#include "stream/watermark.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Bytes read at once; a block fits with room. */
#define WINDOW_BYTES (2 * MIB)
#define PROGRESS_BYTES (32 * MIB)
_Static_assert(WINDOW_BYTES > 2 * BLOCK_BYTES_MAX, "window: a block fits");

struct mark {
    char magic[8];
    uint64_t bytes; /* of the run, this mark included */
    uint32_t segment, position;
    uint32_t reserved, crc;
};
_Static_assert(sizeof(struct mark) == CHECK_MARK_BYTES, "mark: size");
#define MARK_MAGIC "fbkgone1"

struct run {
    struct log_check *found;
    const struct log_check_how *how;
    struct fb_err *err;
    struct block_codec *codec;
    struct watermark_map *map; /* NULL: no writer was here */
    char path[4200];
    int fd;
    /* Part of the present segment. */
    char *window;
    uint64_t window_from;
    size_t window_len;
    unsigned char *records;
    uint64_t limit; /* bytes of the segment that count */
    uint64_t expected;
    uint64_t done_bytes, all_bytes, told_bytes;
    bool has_begun; /* a block was seen: from here on a missing offset is a hole */
    size_t open_place;
    bool has_open_place; /* damage since the last good block: what is missing belongs to it */
};

static void add_strays(struct run *r, struct segment_list *list);
static enum fb_code check_segment(struct run *r, const struct segment *seg,
                                  const struct segment *next);
static enum fb_code take_block(struct run *r, const struct segment *seg, const char *body,
                               const struct block_head *head);
static struct check_place *add_place(struct run *r, const struct check_place *place);
static struct watermark mark_read(const struct run *r);
static enum fb_code limit_of(struct run *r, const struct segment *seg);
static void settle_hole(struct run *r, const struct segment *seg, uint64_t first_offset);

enum fb_code log_check_run(struct log_check *found, const struct log_check_how *how,
                           struct fb_err *err)
{
    struct segment_list list = {0};
    struct run r = {.found = found, .how = how, .err = err, .fd = -1};
    *found = (struct log_check){0};
    if (watermark_open(&r.map, how->dir, false, NULL) != FB_OK)
        r.map = NULL;
    /* Before the list: what is durable by then is in it. */
    struct watermark mark = mark_read(&r);
    enum fb_code code = segment_list_read(&list, how->dir, err);
    if (code) {
        watermark_close(r.map);
        return code;
    }
    r.codec = how->codec ? how->codec : block_codec_new();
    r.window = malloc(WINDOW_BYTES);
    r.records = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    found->place = calloc(CHECK_PLACES_MAX, sizeof *found->place);
    if (!r.codec || !r.window || !r.records || !found->place)
        code = fb_fail(err, FB_E_NOMEM, "no memory to check the log");
    else
        add_strays(&r, &list);
    for (size_t i = 0; i < list.count; i++)
        r.all_bytes += list.at[i].bytes;
    found->bytes = r.all_bytes;
    found->segments = list.count;
    for (size_t i = 0; i < list.count && code == FB_OK; i++) {
        const struct segment *seg = &list.at[i];
        if (seg->number > mark.segment)
            break; /* begun after the watermark was read */
        code = check_segment(&r, seg, i + 1 < list.count ? seg + 1 : NULL);
    }
    if (code == FB_OK && list.count && mark.segment != UINT32_MAX && r.has_begun)
        settle_hole(&r, &list.at[list.count - 1], mark.next_offset);
    found->next_offset = r.expected;
    segment_list_fini(&list);
    watermark_close(r.map);
    if (!how->codec)
        block_codec_free(r.codec);
    free(r.window);
    free(r.records);
    return code;
}

static struct watermark mark_read(const struct run *r)
{
    struct watermark mark;
    if (r->map && watermark_read(r->map, &mark))
        return mark;
    return (struct watermark){.segment = UINT32_MAX};
}

/* Bytes of the open file that count.  Asked after it was opened: it may have been compacted since
 * the list was read, but only behind a watermark that had left it. */
static enum fb_code limit_of(struct run *r, const struct segment *seg)
{
    struct stat st;
    if (fstat(r->fd, &st) != 0)
        return FB_E_IO;
    struct watermark mark = mark_read(r);
    r->limit = (uint64_t)st.st_size;
    if (seg->number == mark.segment)
        r->limit = fb_min_u64(r->limit, mark.position);
    return FB_OK;
}

void log_check_fini(struct log_check *found)
{
    free(found->place);
    *found = (struct log_check){0};
}

/* ---- bytes of the segment ---- */

/* <want> bytes at <position>, or fewer at the end; NULL: errno. */
static const char *bytes_at(struct run *r, uint64_t position, size_t want, size_t *got)
{
    fb_assert(want <= WINDOW_BYTES);
    uint64_t end = r->window_from + r->window_len;
    if (position < r->window_from || position + want > end) {
        size_t room = (size_t)fb_min_u64(WINDOW_BYTES, fb_sub_floor_u64(r->limit, position));
        ssize_t n = room ? pread(r->fd, r->window, room, (off_t)position) : 0;
        if (n < 0)
            return NULL;
        r->window_from = position;
        r->window_len = (size_t)n;
        end = position + (size_t)n;
    }
    *got = (size_t)fb_min_u64(want, fb_sub_floor_u64(end, position));
    return r->window + (position - r->window_from);
}

/* A good block at <position>?  *body is borrowed until the next call. */
static enum fb_code block_at(struct run *r, const struct segment *seg, uint64_t position,
                             struct block_head *head, const char **body)
{
    size_t got;
    const char *at = bytes_at(r, position, BLOCK_HEADER_BYTES, &got);
    if (!at)
        return FB_E_IO;
    if (got < BLOCK_HEADER_BYTES)
        return FB_E_DAMAGED;
    enum fb_code code = block_head_read((struct span){at, got}, head);
    if (code)
        return code;
    if (head->segment != seg->number || head->position != position)
        return FB_E_DAMAGED;
    at = bytes_at(r, position, block_bytes(head), &got);
    if (!at)
        return FB_E_IO;
    if (got < block_bytes(head))
        return FB_E_DAMAGED;
    *body = at + BLOCK_HEADER_BYTES;
    struct span bytes = {*body, got - BLOCK_HEADER_BYTES};
    return block_body_is_good(head, bytes) ? FB_OK : FB_E_DAMAGED;
}

/* Bytes of the run that a repair marked at <position>, 0: none. */
static uint64_t marked_bytes(struct run *r, const struct segment *seg, uint64_t position)
{
    struct mark m;
    size_t got;
    const char *at = bytes_at(r, position, sizeof m, &got);
    if (!at || got < sizeof m)
        return 0;
    memcpy(&m, at, sizeof m);
    bool is_mark = memcmp(m.magic, MARK_MAGIC, sizeof m.magic) == 0 &&
                   m.crc == crc32c(0, &m, offsetof(struct mark, crc)) && m.segment == seg->number &&
                   m.position == position;
    return is_mark && m.bytes <= r->limit - position ? m.bytes : 0;
}

void check_mark_write(char mark[CHECK_MARK_BYTES], const struct check_place *place)
{
    struct mark m = {.magic = {0},
                     .bytes = place->bytes,
                     .segment = place->segment,
                     .position = (uint32_t)place->position};
    memcpy(m.magic, MARK_MAGIC, sizeof m.magic);
    m.crc = crc32c(0, &m, offsetof(struct mark, crc));
    memcpy(mark, &m, sizeof m);
}

/* ---- segments ---- */

static void tell(struct run *r, uint64_t position)
{
    uint64_t done = r->done_bytes + position;
    if (!r->how->progress || done < r->told_bytes + PROGRESS_BYTES)
        return;
    r->told_bytes = done;
    r->how->progress(r->how->arg, done, r->all_bytes);
}

/* The end of the bad bytes at <from>: where the next good block or mark begins, or the limit. */
static enum fb_code bad_end(struct run *r, const struct segment *seg, uint64_t from, uint64_t *end)
{
    struct block_head head;
    const char *body;
    uint64_t at = from + BLOCK_ALIGN_BYTES;
    for (; at < r->limit; at += BLOCK_ALIGN_BYTES) {
        size_t got;
        const char *bytes = bytes_at(r, at, 4, &got);
        if (!bytes)
            return FB_E_IO;
        if (got < 4 || memcmp(bytes, "fbk", 3) != 0)
            continue;
        enum fb_code code = block_at(r, seg, at, &head, &body);
        if (code == FB_OK || code == FB_E_VERSION || marked_bytes(r, seg, at))
            break;
        if (code == FB_E_IO)
            return code;
    }
    *end = fb_min_u64(at, r->limit);
    return FB_OK;
}

static enum fb_code check_segment(struct run *r, const struct segment *seg,
                                  const struct segment *next)
{
    char name[SEGMENT_NAME_BYTES];
    enum fb_code code = FB_OK;
    uint64_t position = 0, good = 0;
    segment_name(name, seg->number, seg->first_offset);
    snprintf(r->path, sizeof r->path, "%s/%s", r->how->dir, name);
    r->fd = open(r->path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0)
        return errno == ENOENT ? FB_OK /* retention, just now */
                               : fb_fail(r->err, FB_E_IO,
                                         "%s: %s; run this as the user of foldback, or as root",
                                         r->path, strerror(errno));
    r->window_len = 0;
    code = limit_of(r, seg);
    while (position < r->limit && code == FB_OK) {
        struct block_head head;
        const char *body;
        struct check_place place = {
            .segment = seg->number, .segment_first = seg->first_offset, .position = position};
        code = block_at(r, seg, position, &head, &body);
        bool is_newer = next && next->first_offset <= r->expected && r->has_begun;
        if (code == FB_OK && head.first_offset > r->expected && is_newer)
            break; /* a cut end that came back: the next segment holds these events */
        if (code == FB_OK) {
            code = take_block(r, seg, body, &head);
            position += block_bytes(&head);
            good += code == FB_OK;
        }
        if (code == FB_E_DAMAGED) {
            uint64_t end = 0, marked = marked_bytes(r, seg, position);
            code = FB_OK;
            if (is_newer && good > 0)
                break;
            if (marked)
                end = position + marked;
            else
                code = bad_end(r, seg, place.position, &end);
            place.bytes = end - place.position;
            position = end;
            place.kind = marked               ? CHECK_REPAIRED
                         : end < r->limit     ? CHECK_DAMAGE
                         : place.position > 0 ? CHECK_TAIL
                                              : CHECK_EMPTY;
            if (code == FB_OK)
                add_place(r, &place);
        }
        tell(r, position);
    }
    close(r->fd);
    r->done_bytes += seg->bytes;
    if (code == FB_E_VERSION)
        return fb_fail(r->err, code,
                       "%s: at byte %" PRIu64 ": written by a newer version; use that version",
                       r->path, position);
    if (code == FB_E_IO)
        return fb_fail(r->err, code, "%s: at byte %" PRIu64 ": %s; look at the disk", r->path,
                       position, strerror(errno));
    return code;
}

/* Files that hold nothing and hide nothing, as readers pass over them; they do not belong there. */
static void add_strays(struct run *r, struct segment_list *list)
{
    struct segment *strays = calloc(list->count + 1, sizeof *strays);
    size_t count = segment_list_prune(list, r->how->dir, strays);
    for (size_t i = 0; strays && i < count; i++)
        add_place(r, &(struct check_place){.kind = CHECK_EMPTY,
                                           .segment = strays[i].number,
                                           .segment_first = strays[i].first_offset});
    r->has_open_place = false; /* no event is missing for them */
    free(strays);
}

static struct check_place *add_place(struct run *r, const struct check_place *place)
{
    struct log_check *f = r->found;
    if (place->kind == CHECK_REPAIRED) {
        f->repaired++;
    } else if (place->kind != CHECK_HOLE) {
        f->damaged++;
        f->damaged_bytes += place->bytes;
    }
    r->has_open_place = false;
    if (f->place_count == CHECK_PLACES_MAX)
        return NULL;
    r->open_place = f->place_count;
    r->has_open_place = true;
    f->place[f->place_count] = *place;
    return &f->place[f->place_count++];
}

/* The next event there is has <first_offset>: all before it and from r->expected is missing. */
static void settle_hole(struct run *r, const struct segment *seg, uint64_t first_offset)
{
    if (r->has_begun && first_offset > r->expected) {
        r->found->holes++;
        r->found->missing += first_offset - r->expected;
        if (!r->has_open_place)
            add_place(r, &(struct check_place){.kind = CHECK_HOLE,
                                               .segment = seg->number,
                                               .segment_first = seg->first_offset});
        if (r->has_open_place) {
            r->found->place[r->open_place].from = r->expected;
            r->found->place[r->open_place].to = first_offset;
        }
    }
    r->expected = fb_max_u64(r->expected, first_offset);
    r->has_open_place = false;
}

/* FB_E_DAMAGED: the checksum is right and the content is not. */
static enum fb_code take_block(struct run *r, const struct segment *seg, const char *body,
                               const struct block_head *head)
{
    struct log_check *f = r->found;
    uint32_t bytes = block_bytes(head);
    struct span span = {body, bytes - BLOCK_HEADER_BYTES};
    enum fb_code code = block_decode(r->codec, head, span, r->records);
    if (code == FB_E_DAMAGED)
        return FB_E_DAMAGED;
    bool is_sealed = code != FB_OK; /* its key is not there */
    if (!r->has_begun) {
        /* Damage before the first block: what the name of the oldest segment promised. */
        r->expected =
            r->has_open_place ? f->place[r->open_place].segment_first : head->first_offset;
        f->first_offset = r->expected;
        f->first_wall_us = head->first_us + (uint64_t)head->wall_minus_mono_us;
    }
    r->has_begun = true;
    settle_hole(r, seg, head->first_offset);
    f->blocks++;
    f->stored_bytes += bytes;
    f->before_bytes += is_sealed ? bytes : block_codec_before_bytes(r->codec);
    f->raw_bytes += head->raw_bytes;
    f->last_wall_us =
        fb_max_u64(f->last_wall_us, head->last_us + (uint64_t)head->wall_minus_mono_us);
    uint64_t offset = head->first_offset;
    if (is_sealed) {
        uint64_t count = fb_sub_floor_u64(offset + head->count, r->expected);
        f->sealed_events += count;
        f->events += count;
    }
    for (size_t at = 0; !is_sealed && at < head->raw_bytes; offset++) {
        const struct ev_head *ev = (const void *)(r->records + at);
        at += (size_t)ev->cells * EV_CELL_BYTES;
        if (offset < r->expected)
            continue; /* a repeated block */
        f->types[ev->type < EV_TYPE_END ? ev->type : 0]++;
        f->events++;
    }
    r->expected = fb_max_u64(r->expected, head->first_offset + head->count);
    return FB_OK;
}
