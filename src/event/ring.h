/* SPDX-License-Identifier: Apache-2.0 */
/* ring: events from one gateway thread to the brain, through shared memory.
 *
 * Single producer, single consumer, cells of 64 bytes.  A full ring drops the record and counts it;
 * the producer never waits.  Positions count cells and never wrap in practice (2^64).  The consumer
 * publishes its position once per batch.  A record never straddles the end: the producer fills up
 * with a filler cell.
 *
 * Threads: ring_put by the owning gateway thread, ring_peek/ring_release by the brain's loop.
 * Crash: a producer that dies between writing and publishing leaves nothing half seen; the next
 * producer goes on at <head>.  A consumer that dies sees the unreleased records again (at most once
 * to the log is kept by the sequence number in the event head). */
#ifndef FB_EVENT_RING_H
#define FB_EVENT_RING_H
#include "event/event.h"

#include <stdatomic.h>

struct ring {
    _Alignas(FB_CACHE_LINE_BYTES) _Atomic uint64_t head; /* next cell to write; producer's */
    _Atomic uint64_t lost;                               /* records dropped; producer's */
    uint32_t sequence;                                   /* of the next record; producer's */
    uint64_t tail_seen; /* producer's copy of tail: saves a cache miss */
    _Alignas(FB_CACHE_LINE_BYTES) _Atomic uint64_t tail; /* next cell to read; consumer's */
    uint32_t cells;                                      /* a power of two; constant */
    uint32_t origin; /* stamped on its records; EV_ORIGIN_REPLAY: as the producer says */
    _Alignas(FB_CACHE_LINE_BYTES) unsigned char cell[]; /* cells x 64 bytes */
};

/* Bytes of a ring with <cells> cells (a power of two, 64 .. 2^24). */
size_t ring_bytes(uint32_t cells);
/* In zeroed memory, aligned to 64.  Records keep the origin that their producer gives them. */
void ring_init(struct ring *r, uint32_t cells);
/* All its records are of <origin>: sequence numbers are the ring's, so the origin is too. */
void ring_origin_set(struct ring *r, uint8_t origin);
/* Copies <ev>, gives it its sequence number; false (and counted) when full. */
bool ring_put(struct ring *r, const struct ev_head *ev);
/* The next record, or NULL; a damaged ring (its producer is another process) loses what it holds.
 * Otherwise the record is valid until ring_release.  *cursor begins at ring_cursor(). */
const struct ev_head *ring_peek(struct ring *r, uint64_t *cursor);
uint64_t ring_cursor(struct ring *r);
/* Gives everything before <cursor> back to the producer. */
void ring_release(struct ring *r, uint64_t cursor);
#endif
