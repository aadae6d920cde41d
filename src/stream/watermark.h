/* SPDX-License-Identifier: Apache-2.0 */
/* watermark: how far the log is durable, for readers in other processes.
 *
 * A mapped page (<dir>/watermark) under a sequence lock: the writer makes <turn> odd, writes, makes
 * it even; a reader tries again when <turn> was odd or moved.  Everything before <next_offset> is
 * on disk, up to <position> of <segment>.  The file is a hint that every log_open writes anew; no
 * data is in it.
 *
 * Threads: publish by the log's writer thread; read by any thread of any process. */
#ifndef FB_STREAM_WATERMARK_H
#define FB_STREAM_WATERMARK_H
#include "base/error.h"

struct watermark {
    uint64_t next_offset; /* offset that the next durable event will have */
    uint64_t node;
    uint32_t epoch;
    uint32_t segment;  /* newest segment with durable blocks, 0 none */
    uint64_t position; /* durable bytes in it */
    uint64_t lost;     /* events that the log dropped in this epoch */
    uint32_t is_degraded;
    uint32_t reserved;
};

struct watermark_map; /* the mapped page */
FB_MUST_USE
enum fb_code watermark_open(struct watermark_map **map, const char *dir, bool for_writing,
                            struct fb_err *err);
void watermark_close(struct watermark_map *map);
void watermark_publish(struct watermark_map *map, const struct watermark *mark);
/* False when the page holds nothing yet, or a writer died inside a publish. */
bool watermark_read(const struct watermark_map *map, struct watermark *mark);
#endif
