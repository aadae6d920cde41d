/* SPDX-License-Identifier: Apache-2.0 */
/* sequencer: many rings into one numbered order.
 *
 *   sequencer_begin -> sequencer_drain, sequencer_put -> sequencer_batch
 *                   -> engine, log_append -> sequencer_release
 *
 * Takes from the rings in the order of time_us (of what is there now), gives each event its offset,
 * and puts a gap event before a record whose sequence number shows a loss.  Pure apart from the
 * rings.
 *
 * The rings get their cells back in sequencer_release, by offset.  Releasing what log_acknowledged
 * says loses nothing when the brain dies; the next brain, told by sequencer_load and
 * sequencer_resume what the log already holds, leaves those records out.  Resume only with the very
 * rings of before: not after a reboot, not with a new memory file.  A slow disk must not blind
 * analytics: a ring that is half full of batches already taken is released in sequencer_begin,
 * acknowledged or not.
 *
 * Threads: one. */
#ifndef FB_STREAM_SEQUENCER_H
#define FB_STREAM_SEQUENCER_H
#include "event/ring.h"

#define SEQUENCER_RINGS_MAX 192

/* Whole records one after another. */
struct batch {
    unsigned char *bytes;
    size_t len, cap;
    uint64_t first_offset;
    uint32_t count;
};
static inline struct span batch_span(const struct batch *b)
{
    return (struct span){(const char *)b->bytes, b->len};
}
/* Walks a batch: for (size_t at = 0; (ev = batch_next(b, &at));) */
static inline const struct ev_head *batch_next(const struct batch *b, size_t *at)
{
    if (*at >= b->len)
        return NULL;
    const struct ev_head *ev = (const void *)(b->bytes + *at);
    *at += (size_t)ev->cells * EV_CELL_BYTES;
    return ev;
}

struct sequencer_conf {
    uint64_t next_offset; /* from log_next_offset */
    uint32_t batch_bytes; /* 4 KiB .. 16 MiB; 256 KiB: the work of one call is bounded by it */
};

struct sequencer;
struct sequencer *sequencer_new(const struct sequencer_conf *conf); /* NULL without memory */
void sequencer_free(struct sequencer *s);
/* <ring> is borrowed.  Position 0 .. SEQUENCER_RINGS_MAX - 1; an old ring at that place is
 * forgotten. */
void sequencer_ring_set(struct sequencer *s, uint32_t place, struct ring *ring);
/* What the numbering rests on, for a snapshot at the present offset. */
struct sequencer_saved {
    struct {
        uint64_t last_us;
        uint32_t last_sequence;
        uint32_t is_known;
    } origin[256];
};
void sequencer_save(const struct sequencer *s, struct sequencer_saved *saved);
void sequencer_load(struct sequencer *s, const struct sequencer_saved *saved);
/* A record that the log holds: its origin continues behind it.  For each record of the replay,
 * after sequencer_load and before the first drain. */
void sequencer_resume(struct sequencer *s, const struct ev_head *ev);

/* Empties the batch: what was in it is with the engine and the log now. */
void sequencer_begin(struct sequencer *s);
/* Appends an event of the brain itself (tick, decision, gap ...): gets origin and sequence here.
 * False when the batch is full: hand it on, begin anew, put again. */
FB_MUST_USE
bool sequencer_put(struct sequencer *s, const struct ev_head *ev);
/* Takes at most <events_max> records; fewer when the rings are empty or the batch is full.  Leaves
 * the last 8 KiB of the batch to sequencer_put.  Returns how many events came into the batch, gaps
 * included. */
uint32_t sequencer_drain(struct sequencer *s, uint32_t events_max);
const struct batch *sequencer_batch(const struct sequencer *s);
/* Gives the cells of all records below <offset> back to the rings. */
void sequencer_release(struct sequencer *s, uint64_t offset);

struct sequencer_stats {
    uint64_t next_offset;
    uint64_t events, gaps, lost; /* lost: from holes in the sequence numbers */
    uint64_t repeated;           /* left out: the log had them */
    uint64_t invalid;            /* left out: not a record */
};
void sequencer_stats_read(const struct sequencer *s, struct sequencer_stats *stats);
#endif
