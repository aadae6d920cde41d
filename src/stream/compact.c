/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/compact.h"

#include "base/assert.h"
#include "base/clock.h"
#include "guard/operational.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define TMP_NAME "compact.tmp"
/* Blocks on average less full than this are worth joining: at a quarter (512 requests) an event
 * takes about 15 bytes, in full blocks 12.5-13.3. */
#define WORTH_BYTES (BLOCK_RAW_BYTES_MAX / 4)
/* Written before each sync, so that the writer's own sync never waits for 64 MiB of ours. */
#define SYNC_BYTES (4 * MIB)
/* Clock differences further apart stay in blocks of their own: a joined block across a jump of the
 * wall clock would cover both times. */
#define WALL_STEP_US_MAX (1 * US_PER_S)
/* Of personal fields: a joined block stays about as large as others. */
#define PERSONAL_BYTES_SOFT (BLOCK_RAW_BYTES_MAX / 2)
#define LOCK_TRIES 20
#define LOCK_WAIT_US 50000

/* What ends the work without an error of the system. */
enum step { STEP_ON, STEP_LEAVE, STEP_STOP, STEP_FAIL_READ, STEP_FAIL_WRITE };

/* Blocks that become one. */
struct batch {
    struct block_head head; /* of the first; count and lengths: not yet */
    unsigned char *raw;
    size_t raw_len;
    unsigned char *personal; /* BLOCK_STORED_BYTES_MAX */
    size_t personal_len;
    struct block_part *parts; /* COLUMN_ROWS_MAX events at most, so as many parts */
    uint32_t part_count, count;
    uint64_t before_bytes;
};

struct job {
    const struct compact_from *from;
    const struct segment *seg;
    struct compact_result *result;
    char path[4200], tmp[4200];
    int in, out;
    uint32_t key_id;
    uint64_t out_at, synced_at, begin_us;
    struct block_codec *reader, *writer;
    char *body;
    unsigned char *records;
    struct batch batch;
};

static enum step survey(struct job *j);
static enum step copy_blocks(struct job *j);
static enum step take_block(struct job *j, uint64_t position, struct block_head *head);
static enum step flush(struct job *j);
static enum step publish(struct job *j);
static enum step allocate(struct job *j);
static void release(struct job *j);

void compact_segment(const struct compact_from *from, const struct segment *seg,
                     struct compact_result *result)
{
    char name[SEGMENT_NAME_BYTES];
    struct job j = {.from = from, .seg = seg, .result = result, .in = -1, .out = -1};
    *result = (struct compact_result){
        .number = seg->number, .bytes = seg->bytes, .before_bytes = seg->bytes};
    j.begin_us = fb_mono_us();
    segment_name(name, seg->number, seg->first_offset);
    snprintf(j.path, sizeof j.path, "%s/%s", from->dir, name);
    snprintf(j.tmp, sizeof j.tmp, "%s/" TMP_NAME, from->dir);
    errno = 0;
    enum step step = survey(&j);
    if (step == STEP_ON)
        step = allocate(&j);
    if (step == STEP_ON)
        step = copy_blocks(&j);
    if (step == STEP_ON)
        step = publish(&j);
    if (step == STEP_FAIL_READ || step == STEP_FAIL_WRITE)
        snprintf(result->reason, sizeof result->reason, "cannot %s %s: %s",
                 step == STEP_FAIL_READ ? "read" : "write",
                 step == STEP_FAIL_READ ? name : TMP_NAME, strerror(errno));
    result->is_done = step == STEP_ON;
    result->is_cleared |= result->is_done && seg->wants_clear;
    result->has_failed = step == STEP_FAIL_READ || step == STEP_FAIL_WRITE;
    result->is_settled = step != STEP_STOP && step != STEP_FAIL_WRITE;
    result->bytes = result->is_done ? j.out_at : seg->bytes;
    if (j.out >= 0 && !result->is_done)
        unlink(j.tmp);
    release(&j);
    result->worked_us += fb_mono_us() - j.begin_us;
}

void compact_clean(const char *dir)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/" TMP_NAME, dir);
    unlink(path);
}

bool compact_is_worth(uint64_t blocks, uint64_t raw_bytes)
{
    return blocks > 1 && raw_bytes / blocks < WORTH_BYTES;
}

/* False: stop. */
static bool rest(struct job *j)
{
    uint64_t worked_us = fb_mono_us() - j->begin_us;
    j->result->worked_us += worked_us;
    bool goes_on = !j->from->rest || j->from->rest(j->from->arg, worked_us);
    j->begin_us = fb_mono_us();
    return goes_on;
}

/* Do all blocks stay under the key that they have? */
static bool is_key_same(const struct job *j)
{
    struct keyring_view view;
    bool is_sealing = j->from->keys && keyring_is_sealing(j->from->keys);
    if (!is_sealing)
        return j->key_id == 0;
    keyring_view(j->from->keys, &view);
    return view.active_id == j->key_id;
}

/* Headers only: is every byte part of a good block, and are the blocks small? */
static enum step survey(struct job *j)
{
    struct stat st;
    struct block_head head = {.count = 0};
    uint64_t blocks = 0, cleared = 0, raw_bytes = 0, expected = j->seg->first_offset;
    j->in = j->from->io->open_read(j->path);
    j->result->is_cleared = j->in < 0 && errno == ENOENT; /* with the file */
    if (j->in < 0 || fstat(j->in, &st) != 0)
        return errno == ENOENT ? STEP_LEAVE : STEP_FAIL_READ;
    /* Longer: an end that was given up, and could not be cut off. */
    if ((uint64_t)st.st_size != j->seg->bytes || j->seg->bytes == 0)
        return STEP_LEAVE;
    for (uint64_t at = 0; at < j->seg->bytes; at += block_bytes(&head), blocks++) {
        enum fb_code code = segment_head_at(j->in, j->seg->number, at, &head);
        if (code != FB_OK)
            return code == FB_E_IO ? STEP_FAIL_READ : STEP_LEAVE;
        if (blocks == 0)
            j->key_id = head.key_id;
        j->key_id = j->seg->wants_clear && head.key_id ? head.key_id : j->key_id;
        cleared += head.is_cleared;
        if (head.first_offset < expected || (head.key_id != j->key_id && !j->seg->wants_clear))
            return STEP_LEAVE;
        if (blocks % 1024 == 1023 && !rest(j))
            return STEP_STOP;
        expected = head.first_offset + head.count;
        raw_bytes += head.raw_bytes;
    }
    if (j->seg->wants_clear) {
        bool is_sealing = j->from->keys && keyring_is_sealing(j->from->keys);
        j->result->is_cleared = cleared == blocks;
        return cleared < blocks && (is_sealing || j->key_id == 0) ? STEP_ON : STEP_LEAVE;
    }
    return compact_is_worth(blocks, raw_bytes) && is_key_same(j) ? STEP_ON : STEP_LEAVE;
}

static enum step allocate(struct job *j)
{
    struct statvfs fs;
    j->reader = block_codec_new();
    j->writer = block_codec_new();
    j->body = malloc(BLOCK_BYTES_MAX);
    j->records = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    j->batch.raw = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    j->batch.personal = malloc(BLOCK_STORED_BYTES_MAX);
    j->batch.parts = malloc(BLOCK_RAW_BYTES_MAX / EV_CELL_BYTES * sizeof *j->batch.parts);
    if (!j->reader || !j->writer || !j->body || !j->records || !j->batch.raw ||
        !j->batch.personal || !j->batch.parts) {
        errno = ENOMEM;
        return STEP_FAIL_WRITE;
    }
    block_codec_keys(j->reader, j->from->keys);
    block_codec_keys(j->writer, j->from->keys);
    /* The writer needs what is left of a nearly full disk more than we do. */
    if (fstatvfs(j->in, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < 2 * j->seg->bytes) {
        errno = ENOSPC;
        return STEP_FAIL_WRITE;
    }
    unlink(j->tmp);
    j->out = j->from->io->create(j->from->dir, j->tmp);
    if (j->out >= 0)
        return STEP_ON;
    int why = errno;
    unlink(j->tmp);
    errno = why;
    return STEP_FAIL_WRITE;
}

static void release(struct job *j)
{
    if (j->in >= 0)
        close(j->in);
    if (j->out >= 0)
        close(j->out);
    block_codec_free(j->reader);
    block_codec_free(j->writer);
    free(j->body);
    free(j->records);
    free(j->batch.raw);
    free(j->batch.personal);
    free(j->batch.parts);
}

static enum step copy_blocks(struct job *j)
{
    struct block_head head;
    enum step step = STEP_ON;
    for (uint64_t at = 0; at < j->seg->bytes && step == STEP_ON; at += block_bytes(&head))
        step = take_block(j, at, &head);
    if (step == STEP_ON)
        step = flush(j);
    if (step == STEP_ON && j->out_at >= j->seg->bytes && !j->seg->wants_clear)
        return STEP_LEAVE; /* nothing won */
    return step;
}

/* May the block be joined to what is in the batch? */
static bool fits(const struct batch *b, const struct block_head *head, uint32_t parts)
{
    int64_t step_us =
        (int64_t)((uint64_t)head->wall_minus_mono_us - (uint64_t)b->head.wall_minus_mono_us);
    return head->node == b->head.node && head->epoch == b->head.epoch &&
           head->is_cleared == b->head.is_cleared &&
           head->first_offset == b->head.first_offset + b->count &&
           b->raw_len + head->raw_bytes <= BLOCK_RAW_BYTES_MAX &&
           b->personal_len + head->personal_bytes <= PERSONAL_BYTES_SOFT &&
           b->part_count + parts <= BLOCK_RAW_BYTES_MAX / EV_CELL_BYTES &&
           step_us <= (int64_t)WALL_STEP_US_MAX && step_us >= -(int64_t)WALL_STEP_US_MAX;
}

static void add_part(struct batch *b, const struct block_part *part)
{
    struct block_part *last = b->part_count ? &b->parts[b->part_count - 1] : NULL;
    /* Parts that nothing tells apart are one. */
    if (last && last->wall_minus_mono_us == part->wall_minus_mono_us && !last->personal_bytes &&
        !part->personal_bytes)
        last->count += part->count;
    else
        b->parts[b->part_count++] = *part;
}

static enum step take_block(struct job *j, uint64_t position, struct block_head *head)
{
    struct batch *b = &j->batch;
    struct span personal;
    enum fb_code code = segment_head_at(j->in, j->seg->number, position, head);
    if (code != FB_OK)
        return code == FB_E_IO ? STEP_FAIL_READ : STEP_LEAVE;
    size_t len = block_bytes(head) - BLOCK_HEADER_BYTES;
    ssize_t n = j->from->io->pread(j->in, j->body, len, (off_t)(position + BLOCK_HEADER_BYTES));
    if (n < 0)
        return STEP_FAIL_READ;
    struct span body = {j->body, (size_t)n};
    if (!block_body_is_good(head, body) ||
        block_decode_sealed(j->reader, head, body, j->records, &personal) != FB_OK)
        return STEP_LEAVE; /* damaged, or its key is gone */
    uint32_t parts;
    const struct block_part *part = block_codec_parts(j->reader, &parts);
    uint64_t before_bytes = block_codec_before_bytes(j->reader);
    if (b->raw_len && !fits(b, head, parts)) {
        enum step step = flush(j);
        if (step != STEP_ON)
            return step;
        /* The codec has looked at what was written: decode once more. */
        code = block_decode_sealed(j->reader, head, body, j->records, &personal);
        part = block_codec_parts(j->reader, &parts);
        if (code != FB_OK)
            return STEP_LEAVE;
    }
    if (j->seg->wants_clear)
        operational_clear(j->records, head->raw_bytes);
    if (b->raw_len == 0)
        b->head = *head;
    memcpy(b->raw + b->raw_len, j->records, head->raw_bytes);
    if (personal.len)
        memcpy(b->personal + b->personal_len, personal.at, personal.len);
    b->raw_len += head->raw_bytes;
    b->personal_len += personal.len;
    b->count += head->count;
    b->before_bytes += before_bytes;
    for (uint32_t i = 0; i < parts; i++)
        add_part(b, &part[i]);
    j->result->events += head->count;
    return STEP_ON;
}

/* Does the block on its way to the disk say what the batch says? */
static bool reads_back(struct job *j, struct span block)
{
    const struct batch *b = &j->batch;
    struct block_head head;
    struct span personal, body = {block.at + BLOCK_HEADER_BYTES, block.len - BLOCK_HEADER_BYTES};
    if (block_head_read(block, &head) != FB_OK || !block_body_is_good(&head, body) ||
        block_decode_sealed(j->reader, &head, body, j->records, &personal) != FB_OK)
        return false;
    uint32_t parts;
    const struct block_part *part = block_codec_parts(j->reader, &parts);
    bool is_same = parts == b->part_count && head.count == b->count &&
                   head.first_offset == b->head.first_offset && head.raw_bytes == b->raw_len &&
                   memcmp(j->records, b->raw, b->raw_len) == 0 && personal.len == b->personal_len &&
                   (!personal.len || memcmp(personal.at, b->personal, personal.len) == 0);
    for (uint32_t i = 0; is_same && i < parts; i++)
        is_same = part[i].count == b->parts[i].count &&
                  part[i].personal_bytes == b->parts[i].personal_bytes &&
                  part[i].wall_minus_mono_us == b->parts[i].wall_minus_mono_us;
    return is_same;
}

static enum step write_block(struct job *j, struct span block)
{
    for (size_t done = 0; done < block.len;) {
        ssize_t n = j->from->io->pwrite(j->out, block.at + done, block.len - done,
                                        (off_t)(j->out_at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENOSPC;
        if (n <= 0)
            return STEP_FAIL_WRITE;
        done += (size_t)n;
    }
    j->out_at += block.len;
    if (j->out_at - j->synced_at < SYNC_BYTES)
        return STEP_ON;
    j->synced_at = j->out_at;
    return j->from->io->sync(j->out) == 0 ? STEP_ON : STEP_FAIL_WRITE;
}

/* The batch becomes a block of the new file. */
static enum step flush(struct job *j)
{
    struct batch *b = &j->batch;
    fb_assert(b->raw_len > 0);
    fb_assert(b->count > 0);
    struct block_head head = {.node = b->head.node,
                              .epoch = b->head.epoch,
                              .first_offset = b->head.first_offset,
                              .wall_minus_mono_us = b->parts[0].wall_minus_mono_us,
                              .is_cleared = b->head.is_cleared || j->seg->wants_clear,
                              .has_acknowledged = true, /* all of it: the segment is finished */
                              .acknowledged = b->head.first_offset + b->count};
    struct block_joined joined = {.records = {(const char *)b->raw, b->raw_len},
                                  .personal = {(const char *)b->personal, b->personal_len},
                                  .parts = b->parts,
                                  .part_count = b->part_count,
                                  .before_bytes = b->before_bytes};
    struct span block;
    fb_assert(j->out_at <= UINT32_MAX);
    if (block_join(j->writer, &head, &joined, &block) != FB_OK ||
        block_seal(j->writer, &head, j->seg->number, (uint32_t)j->out_at) != FB_OK ||
        (head.key_id != j->key_id && !j->seg->wants_clear) || !reads_back(j, block))
        return STEP_LEAVE;
    enum step step = write_block(j, block);
    b->raw_len = b->personal_len = 0;
    b->part_count = b->count = 0;
    b->before_bytes = 0;
    return step != STEP_ON || rest(j) ? step : STEP_STOP;
}

/* A repair acts on places that it has found in the file as it was: it holds its lock meanwhile.
 * -1: it still does; -2: there can be none. */
static int repair_lock(const char *dir)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/repair.lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return fd;
        usleep(LOCK_WAIT_US);
    }
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? -1 : -2;
}

static enum step publish(struct job *j)
{
    struct stat st, now;
    if (fstat(j->in, &st) != 0)
        return STEP_FAIL_READ;
    /* Retention goes by the age of what is in the file. */
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    if (futimens(j->out, times) != 0 || j->from->io->sync(j->out) != 0)
        return STEP_FAIL_WRITE;
    int lock = repair_lock(j->from->dir);
    if (lock == -1)
        return STEP_STOP;
    enum step step = STEP_ON;
    if (stat(j->path, &now) != 0 || now.st_ino != st.st_ino || now.st_size != st.st_size)
        step = STEP_LEAVE; /* somebody has moved or cut it */
    else if (j->from->io->replace(j->from->dir, j->tmp, j->path) != 0)
        step = STEP_FAIL_WRITE;
    if (lock >= 0)
        close(lock);
    return step;
}
