/* SPDX-License-Identifier: Apache-2.0 */
/* writer: chunks of records into segment files, durable; threads and queues are in log.c.
 *
 *            writer_commit           a call failed
 *   CLOSED ----------------> OPEN -------------------> CLOSED, cut back to what is durable;
 *     ^    new segment        |  roll: synced, full            never synced again
 *     +-----------------------+
 *
 * Threads: the log's writer thread (and log_open before it starts). */
#ifndef FB_STREAM_WRITER_H
#define FB_STREAM_WRITER_H
#include "stream/compact.h"
#include "stream/log.h"
#include "stream/segment.h"
#include "stream/watermark.h"

/* Records that wait for the disk. */
struct chunk {
    struct chunk *next;
    unsigned char *bytes; /* BLOCK_RAW_BYTES_MAX */
    size_t len;
    uint64_t first_offset;
    uint32_t count;
    uint64_t born_us;
};

struct writer {
    struct log_conf conf;
    const char *dir;
    struct block_codec *codec;
    struct watermark_map *map;
    struct segment_list list; /* the open segment is the last one */
    size_t list_cap;
    int fd;            /* -1: CLOSED */
    uint64_t position; /* bytes written to the open segment */
    uint64_t durable;  /* of these, synced */
    /* Of the open segment. */
    uint64_t open_blocks, open_raw_bytes, open_since_us;
    uint32_t busy_number; /* of the segment that is being compacted; 0: none */
    uint64_t next_compact_us;
    struct log_compacted compacted;
    uint32_t next_number; /* of the next segment */
    uint64_t next_offset; /* acknowledged */
    uint64_t log_bytes;
    uint64_t begin_wall_us, begin_mono_us; /* when the log was opened */
    uint64_t blocks, groups, stored_bytes, raw_bytes, failures, expired;
    uint32_t sync_us_max;
    char reason[160]; /* of the last failure */
};

/* Puts the real system calls where a test gave none. */
void log_io_complete(struct log_io *io);
/* <list> is taken over.  <w> is zeroed. */
FB_MUST_USE
enum fb_code writer_init(struct writer *w, const char *dir, const struct log_conf *conf,
                         struct segment_list *list, struct fb_err *err);
void writer_fini(struct writer *w);
/* Writes the chunks from <first> on, at most <count>, and syncs once (twice around a roll). Returns
 * how many are durable now; fewer than <count>: w->reason says why, the segment is closed, try
 * again later. */
uint32_t writer_commit(struct writer *w, const struct chunk *first, uint32_t count);
/* Tells readers in other processes. */
void writer_publish(struct writer *w, uint64_t lost, bool is_degraded);
/* The segment to compact next, or NULL: finished, told to readers, not looked at yet.  The caller
 * hands it on: retention keeps it until writer_compacted. */
const struct segment *writer_to_compact(struct writer *w);
/* The same for a segment whose operational fields are too old, or too many. */
const struct segment *writer_to_clear(struct writer *w);
const struct segment *writer_to_clear_at(struct writer *w, uint64_t wall_us);
void writer_compacted(struct writer *w, const struct compact_result *result);
/* Removes the oldest segments beyond retain_bytes and retain_s. */
void writer_expire(struct writer *w);
/* The same at a wall clock of the caller's. */
void writer_expire_at(struct writer *w, uint64_t wall_us);
#endif
