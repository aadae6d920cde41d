/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/reader.h"

#include "base/assert.h"
#include "stream/segment.h"
#include "stream/watermark.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Where bisection ends and walking from header to header begins: about 100 of the smallest blocks.
 * At 512 KiB the walk over small blocks took 9 ms. */
#define WALK_BYTES (32 * KIB)

struct log_reader {
    char dir[4096];
    struct watermark_map *map; /* NULL until a writer has been here */
    struct segment_list list;
    struct block_codec *codec;
    struct keyring *keys; /* NULL: the folder has none */
    char why[200];
    uint32_t lost_key; /* data key of the block that cannot be opened for ever */
    int fd;            /* -1: no segment open */
    uint32_t number;
    uint64_t position; /* of the next header */
    uint64_t next;     /* offset of the next record */
    bool saw_damage;   /* bad bytes since the last good block */
    bool has_no_list;  /* the folder could not be read just now: an end is none, nor is a hole */
    struct log_skip skip;
    struct log_wants wants;
    uint64_t want_wall_us; /* after seek_wall: earlier records are passed over; 0: none */
    /* The decoded block. */
    struct block_head head;
    const struct block_part *part; /* of the next record */
    uint32_t part_left;            /* records of it still to come */
    size_t at;                     /* next record in <records> */
    uint64_t at_offset;            /* its offset */
    /* Of the record given last. */
    uint64_t given_wall_us;
    uint32_t given_period;
    unsigned char *body, *records;
};

static void forget_block(struct log_reader *r);
static enum fb_code keys_open(struct log_reader *r, struct fb_err *err);
static enum fb_code list_read(struct log_reader *r, struct fb_err *err);
static bool list_again(struct log_reader *r);
static struct watermark mark_read(struct log_reader *r);
static enum fb_code load_block(struct log_reader *r);
static bool open_segment(struct log_reader *r, const struct segment *s);
static bool open_next_segment(struct log_reader *r, uint32_t last);
static bool has_newer(struct log_reader *r, uint32_t last);
static uint64_t segment_limit(const struct log_reader *r, const struct watermark *mark);
static uint64_t end_offset(struct log_reader *r);

enum fb_code log_reader_open(struct log_reader **out, const char *dir, uint64_t from,
                             struct fb_err *err)
{
    struct log_reader *r = calloc(1, sizeof *r);
    enum fb_code code = FB_E_NOMEM;
    if (!r)
        return fb_fail(err, FB_E_NOMEM, "no memory for a log reader");
    r->fd = -1;
    r->wants.until_us = UINT64_MAX;
    r->codec = block_codec_new();
    r->body = malloc(BLOCK_BYTES_MAX);
    r->records = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    if (!r->codec || !r->body || !r->records) {
        fb_fail(err, FB_E_NOMEM, "no memory for a log reader");
        goto fail;
    }
    if (snprintf(r->dir, sizeof r->dir, "%s", dir) >= (int)sizeof r->dir) {
        code = fb_fail(err, FB_E_RANGE, "log directory: longer than %zu bytes", sizeof r->dir - 1);
        goto fail;
    }
    code = keys_open(r, err);
    if (code == FB_OK)
        code = list_read(r, err);
    if (code == FB_OK)
        code = log_reader_seek(r, from);
    if (code)
        goto fail;
    *out = r;
    return FB_OK;
fail:
    log_reader_close(r);
    return code;
}

void log_reader_close(struct log_reader *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    watermark_close(r->map);
    segment_list_fini(&r->list);
    block_codec_free(r->codec);
    keyring_unref(r->keys);
    free(r->body);
    free(r->records);
    free(r);
}

enum fb_code log_reader_next(struct log_reader *r, const struct ev_head **ev, uint64_t *offset)
{
    for (;;) {
        while (r->at < r->head.raw_bytes) {
            const struct ev_head *e = (const void *)(r->records + r->at);
            r->at += (size_t)e->cells * EV_CELL_BYTES;
            uint64_t number = r->at_offset++;
            if (r->part_left == 0)
                r->part_left = (++r->part)->count;
            r->part_left--;
            if (number < r->next)
                continue; /* a block begins before what was asked for, or repeats */
            fb_assert(number == r->next);
            r->next++;
            r->given_wall_us = e->time_us + (uint64_t)r->part->wall_minus_mono_us;
            r->given_period = r->part->period;
            if (r->given_wall_us < r->want_wall_us)
                continue;
            r->want_wall_us = 0;
            *ev = e;
            *offset = number;
            return FB_OK;
        }
        enum fb_code code = load_block(r);
        if (code) {
            *offset = r->next;
            return code;
        }
    }
}

static enum fb_code skip_to(struct log_reader *r, uint64_t to)
{
    fb_assert(to > r->next);
    bool is_expired = r->list.count > 0 && r->next < r->list.at[0].first_offset && !r->saw_damage;
    r->skip = (struct log_skip){.from = r->next, .to = to};
    r->skip.reason = is_expired      ? REASON_NONE
                     : r->lost_key   ? REASON_NONE
                     : r->saw_damage ? REASON_LOSS_DAMAGED
                                     : REASON_LOSS_DISK;
    snprintf(r->skip.sentence, sizeof r->skip.sentence,
             "Offsets %" PRIu64 " to %" PRIu64 " (%" PRIu64 " events) are missing: %s.", r->next,
             to - 1, to - r->next,
             is_expired      ? "retention removed them"
             : r->lost_key   ? "the key that they are sealed with was destroyed"
             : r->saw_damage ? "a stored block is damaged"
                             : "the log could not be written then");
    r->saw_damage = false;
    r->lost_key = 0;
    r->next = to;
    return FB_E_DAMAGED;
}

static enum fb_code keys_open(struct log_reader *r, struct fb_err *err)
{
    char state_dir[4096];
    snprintf(state_dir, sizeof state_dir, "%s", r->dir);
    char *slash = strrchr(state_dir, '/');
    if (slash == state_dir)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';
    else
        snprintf(state_dir, sizeof state_dir, ".");
    if (!keyring_exists(state_dir))
        return FB_OK;
    enum fb_code code = keyring_open(&r->keys, state_dir, err);
    if (code == FB_OK)
        block_codec_keys(r->codec, r->keys);
    return code;
}

/* A destroyed key makes a hole; one that should be there stops the reader, and nothing is passed
 * over. */
static enum fb_code key_missing(struct log_reader *r, const struct block_head *head,
                                enum fb_code code)
{
    if (code == FB_E_NOT_FOUND) {
        r->lost_key = head->key_id;
        return FB_E_DAMAGED;
    }
    snprintf(r->why, sizeof r->why,
             "the log is encrypted from offset %" PRIu64
             " on with key %u, which %s; put the newest "
             "key file back as `keys` in the state folder",
             head->first_offset, head->key_id,
             r->keys ? "the key file does not hold" : "no key file is there for");
    return FB_E_KEY;
}

/* Body of the block at r->position into r->records; false when it is damaged. */
static enum fb_code read_body(struct log_reader *r, const struct block_head *head)
{
    size_t body = block_bytes(head) - BLOCK_HEADER_BYTES;
    fb_assert(body <= BLOCK_BYTES_MAX);
    ssize_t n = pread(r->fd, r->body, body, (off_t)(r->position + BLOCK_HEADER_BYTES));
    if (n < 0)
        return FB_E_IO;
    struct span bytes = {(const char *)r->body, (size_t)n};
    if (!block_body_is_good(head, bytes))
        return FB_E_DAMAGED;
    enum fb_code code = block_decode(r->codec, head, bytes, r->records);
    if (code == FB_E_KEY && !r->keys &&
        keys_open(r, NULL) == FB_OK) /* made after this was opened */
        code = block_decode(r->codec, head, bytes, r->records);
    if (code == FB_E_KEY || code == FB_E_NOT_FOUND)
        return key_missing(r, head, code);
    if (code)
        return FB_E_DAMAGED;
    r->lost_key = 0;
    uint32_t parts;
    r->part = block_codec_parts(r->codec, &parts);
    r->part_left = r->part->count;
    r->head = *head;
    r->at = 0;
    r->at_offset = head->first_offset;
    return FB_OK;
}

/* No event of the block is wanted. */
static bool is_outside(const struct log_reader *r, const struct block_head *head)
{
    uint64_t first_us = head->first_us + (uint64_t)head->wall_minus_mono_us;
    uint64_t last_us = head->last_us + (uint64_t)head->wall_minus_mono_us;
    return (r->want_wall_us && head->first_offset >= r->next && last_us < r->want_wall_us) ||
           last_us < r->wants.since_us || first_us >= r->wants.until_us;
}

/* Walks on by one block.  Damage is not told here but where an offset is missing: bytes that were
 * never acknowledged, or come again in the next segment, are nobody's loss.
 * FB_OK: something changed, look again; else the answer of log_reader_next. */
static enum fb_code load_block(struct log_reader *r)
{
    struct watermark mark = mark_read(r);
    struct block_head head;
    r->has_no_list = false;
    if (r->fd < 0 && !open_next_segment(r, mark.segment))
        return r->has_no_list ? FB_E_IO : FB_E_END;
    uint64_t limit = segment_limit(r, &mark);
    if (r->position + BLOCK_HEADER_BYTES > limit) {
        if (open_next_segment(r, mark.segment))
            return FB_OK;
        if (r->has_no_list)
            return FB_E_IO;
        /* The durable end, but more was acknowledged: its blocks are gone. */
        if (r->number == mark.segment && mark.next_offset > r->next) {
            r->saw_damage = true;
            return skip_to(r, mark.next_offset);
        }
        return FB_E_END;
    }
    enum fb_code code = segment_head_at(r->fd, r->number, r->position, &head);
    if (code == FB_E_DAMAGED || code == FB_E_END) {
        r->saw_damage = true;
        code = segment_head_after(r->fd, r->number, r->position + BLOCK_ALIGN_BYTES, limit, &head);
        r->position = code == FB_OK ? head.position : limit;
        return code == FB_E_END ? FB_OK : code;
    }
    if (code)
        return code;
    if (head.first_offset > r->next && has_newer(r, mark.segment))
        return open_next_segment(r, mark.segment) ? FB_OK : FB_E_IO;
    if (r->has_no_list)
        return FB_E_IO;
    if (head.first_offset > r->next)
        return skip_to(r, head.first_offset);
    bool is_unwanted = head.first_offset + head.count > r->next && is_outside(r, &head);
    if (is_unwanted) {
        r->next = head.first_offset + head.count; /* passed over without decoding */
    } else if (head.first_offset + head.count > r->next) {
        code = read_body(r, &head);
        if (code == FB_E_IO || code == FB_E_KEY)
            return code;
        r->saw_damage = code == FB_E_DAMAGED;
    }
    r->position += block_bytes(&head);
    return FB_OK;
}

const char *log_reader_why(const struct log_reader *r)
{
    return r->why[0] ? r->why : "the system refused to read a segment; look at the disk";
}

bool log_reader_is_sealed(const struct log_reader *r)
{
    struct keyring_key key;
    return r->keys && keyring_list(r->keys, &key, 1) > 0;
}

uint32_t log_reader_period(const struct log_reader *r)
{
    return r->given_period;
}

const struct log_skip *log_reader_skip(const struct log_reader *r)
{
    return &r->skip;
}

uint64_t log_reader_wall_us(const struct log_reader *r)
{
    return r->given_wall_us;
}

uint64_t log_reader_node(const struct log_reader *r)
{
    return r->head.node;
}

uint32_t log_reader_epoch(const struct log_reader *r)
{
    return r->head.epoch;
}

void log_reader_want(struct log_reader *r, const struct log_wants *wants)
{
    r->wants = *wants;
    block_codec_want(r->codec, wants->types);
}

uint64_t log_reader_first(const struct log_reader *r)
{
    return r->list.count ? r->list.at[0].first_offset : r->next;
}

uint64_t log_reader_offset(const struct log_reader *r)
{
    return r->next;
}

uint64_t log_reader_lag(const struct log_reader *r)
{
    struct watermark mark;
    if (!r->map || !watermark_read(r->map, &mark))
        return 0;
    return fb_sub_floor_u64(mark.next_offset, r->next);
}

/* ---- segments ---- */

static void forget_block(struct log_reader *r)
{
    r->head = (struct block_head){0};
    r->at = 0;
    r->saw_damage = false;
    r->want_wall_us = 0;
}

static enum fb_code list_read(struct log_reader *r, struct fb_err *err)
{
    struct segment_list list;
    enum fb_code code = segment_list_read(&list, r->dir, err);
    if (code)
        return code;
    segment_list_prune(&list, r->dir, NULL);
    segment_list_fini(&r->list);
    r->list = list;
    return FB_OK;
}

static bool list_again(struct log_reader *r)
{
    struct fb_err err = {.text = ""};
    if (list_read(r, &err) == FB_OK)
        return true;
    r->has_no_list = true;
    snprintf(r->why, sizeof r->why, "%.*s", (int)sizeof r->why - 1, err.text);
    return false;
}

/* Without a watermark (a copied directory) all that is there counts as durable. */
static struct watermark mark_read(struct log_reader *r)
{
    struct watermark mark;
    if (!r->map && watermark_open(&r->map, r->dir, false, NULL) != FB_OK)
        r->map = NULL;
    if (r->map && watermark_read(r->map, &mark))
        return mark;
    return (struct watermark){.segment = UINT32_MAX};
}

/* Bytes of the open segment that may be read.  An older segment is durable to its end: it was
 * synced before the next one was made, or cut. */
static uint64_t segment_limit(const struct log_reader *r, const struct watermark *mark)
{
    off_t size = lseek(r->fd, 0, SEEK_END);
    uint64_t bytes = size < 0 ? 0 : (uint64_t)size;
    if (r->number > mark->segment)
        return 0;
    return r->number == mark->segment ? fb_min_u64(bytes, mark->position) : bytes;
}

static bool open_segment(struct log_reader *r, const struct segment *s)
{
    char name[SEGMENT_NAME_BYTES], path[4200];
    segment_name(name, s->number, s->first_offset);
    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT) { /* it is there: no reason to go on behind it */
        r->has_no_list = true;
        snprintf(r->why, sizeof r->why, "cannot open %.60s: %.80s", name, strerror(errno));
    }
    if (fd < 0)
        return false;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = fd;
    r->number = s->number;
    r->position = 0;
    return true;
}

/* The segment after the present one, at most <last>. */
static bool open_next_segment(struct log_reader *r, uint32_t last)
{
    uint32_t after = r->fd >= 0 ? r->number : 0;
    if (r->fd >= 0 && r->number >= last)
        return false;
    if (!list_again(r))
        return false;
    for (size_t i = 0; i < r->list.count; i++)
        if (r->list.at[i].number > after && r->list.at[i].number <= last) {
            if (open_segment(r, &r->list.at[i]))
                return true;
            if (r->has_no_list)
                return false;
        }
    return false;
}

/* Does a later segment, at most <last>, hold the wanted event?  Then the end of this one does not
 * count: its sync failed, the group went there, and a power cut brought some of the cut end back.
 */
static bool has_newer(struct log_reader *r, uint32_t last)
{
    if (r->number >= last || !list_again(r))
        return false;
    for (size_t i = 0; i < r->list.count; i++)
        if (r->list.at[i].number > r->number)
            return r->list.at[i].number <= last && r->list.at[i].first_offset <= r->next;
    return false;
}

/* ---- seeking ---- */

/* Is the block <h> not behind the target? */
static bool is_before(const struct block_head *h, uint64_t offset, uint64_t wall_us)
{
    if (wall_us)
        return h->first_us + (uint64_t)h->wall_minus_mono_us <= wall_us;
    return h->first_offset <= offset;
}

/* Where a search stands: the block at <low> is not behind the target, none at or after <high> is
 * wanted.  <low_offset> and <high_offset> are what stands there; no <high_offset>: not known. */
struct search {
    uint64_t low, high;
    uint64_t low_offset, high_offset;
    uint32_t steps;
};

/* Where to look next.  Blocks are of about the same size: the place follows from the offset, and
 * two or three looks (each a disk's time, when the file is cold) do what eleven halvings did. Every
 * third look halves, whatever the offsets say. */
static uint64_t look_at(struct search *s, uint64_t offset)
{
    uint64_t middle = s->low + (s->high - s->low) / 2;
    if (++s->steps % 3 == 0 || s->high_offset <= s->low_offset || offset >= s->high_offset)
        return middle;
    if (offset <= s->low_offset)
        return s->low + WALK_BYTES;
    double part = (double)(offset - s->low_offset) / (double)(s->high_offset - s->low_offset);
    uint64_t ahead = (uint64_t)(part * (double)(s->high - s->low));
    /* Near: close the upper end.  Else a little before it, so that the lower end comes near. */
    ahead = ahead < 3 * WALK_BYTES ? WALK_BYTES : ahead - 2 * WALK_BYTES;
    return s->low + fb_min_u64(ahead, s->high - s->low - 1);
}

/* Puts r->position on a block of the open segment that is not behind the target, at most WALK_BYTES
 * before the best one.  <end> is the offset behind the segment, 0 when it is not known. */
static void bisect(struct log_reader *r, uint64_t offset, uint64_t wall_us, uint64_t end)
{
    struct watermark mark = mark_read(r);
    struct search s = {.high = segment_limit(r, &mark), .high_offset = wall_us ? 0 : end};
    struct block_head h;
    /* Read ahead is for who reads on: here it only fetches what nobody wants. */
    posix_fadvise(r->fd, 0, 0, POSIX_FADV_RANDOM);
    if (s.high_offset && segment_head_at(r->fd, r->number, 0, &h) == FB_OK)
        s.low_offset = h.first_offset;
    else
        s.high_offset = 0;
    while (s.high - s.low > WALK_BYTES) {
        uint64_t middle = look_at(&s, offset);
        fb_assert(middle > s.low);
        fb_assert(middle < s.high);
        bool is_found = segment_head_after(r->fd, r->number, middle, s.high, &h) == FB_OK;
        if (is_found && is_before(&h, offset, wall_us)) {
            s.low = h.position;
            s.low_offset = h.first_offset;
        } else {
            s.high = middle;
            if (is_found && s.high_offset)
                s.high_offset = h.first_offset;
        }
    }
    fb_assert(s.low <= s.high);
    posix_fadvise(r->fd, 0, 0, POSIX_FADV_NORMAL);
    r->position = s.low;
}

static uint64_t end_offset(struct log_reader *r)
{
    struct watermark mark = mark_read(r);
    if (mark.segment != UINT32_MAX)
        return mark.next_offset;
    /* A copied directory: the end of the last block that can be found. */
    uint64_t end = 0;
    if (r->list.count && open_segment(r, &r->list.at[r->list.count - 1])) {
        struct block_head h;
        end = r->list.at[r->list.count - 1].first_offset;
        while (segment_head_after(r->fd, r->number, r->position, UINT64_MAX / 2, &h) == FB_OK) {
            end = h.first_offset + h.count;
            r->position = h.position + block_bytes(&h);
        }
    }
    return end;
}

enum fb_code log_reader_seek(struct log_reader *r, uint64_t offset)
{
    enum fb_code code = list_read(r, NULL);
    if (code)
        return code;
    forget_block(r);
    if (offset == LOG_FROM_END)
        offset = end_offset(r);
    if (offset == LOG_FROM_START && r->list.count)
        offset = r->list.at[0].first_offset; /* what retention took is not asked for */
    r->next = offset;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    for (size_t i = r->list.count; i-- > 0;) {
        if (i > 0 && r->list.at[i].first_offset > offset)
            continue;
        if (open_segment(r, &r->list.at[i])) {
            struct watermark mark = mark_read(r);
            uint64_t end = i + 1 < r->list.count        ? r->list.at[i + 1].first_offset
                           : mark.segment == UINT32_MAX ? 0
                                                        : mark.next_offset;
            bisect(r, offset, 0, end);
            break;
        }
    }
    return FB_OK;
}

/* Wall clock of the first block of segment <i>; UINT64_MAX when it cannot be read. */
static uint64_t segment_wall_us(struct log_reader *r, size_t i)
{
    struct block_head h;
    if (!open_segment(r, &r->list.at[i]))
        return UINT64_MAX;
    if (segment_head_after(r->fd, r->number, 0, UINT64_MAX / 2, &h) != FB_OK)
        return UINT64_MAX;
    return h.first_us + (uint64_t)h.wall_minus_mono_us;
}

enum fb_code log_reader_seek_wall(struct log_reader *r, uint64_t wall_us)
{
    enum fb_code code = list_read(r, NULL);
    if (code)
        return code;
    forget_block(r);
    size_t low = 0, high = r->list.count;
    if (high == 0)
        return log_reader_seek(r, LOG_FROM_START);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (segment_wall_us(r, middle) <= wall_us)
            low = middle;
        else
            high = middle;
    }
    if (!open_segment(r, &r->list.at[low]))
        return log_reader_seek(r, LOG_FROM_START); /* removed in this moment */
    bisect(r, 0, wall_us, 0);
    struct block_head h;
    r->next = r->list.at[low].first_offset;
    if (segment_head_after(r->fd, r->number, r->position, UINT64_MAX / 2, &h) == FB_OK)
        r->next = h.first_offset;
    r->want_wall_us = wall_us;
    return FB_OK;
}
