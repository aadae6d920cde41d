/* SPDX-License-Identifier: Apache-2.0 */
/* ingress: events from other threads into the brain's loop; one bounded queue.
 *
 *   connector, push API, scrape --ingress_put--> queue --ingress_take--> brain: stream and log
 *          \--- ingress_durable(ticket) <--- ingress_settle(log_acknowledged) ---/
 *
 * Promises: what ingress_put took comes out in the order of the tickets, and the events of one put
 * lie together in the stream.  Nothing is ever dropped: a full queue says so, and whoever fills it
 * waits, stops polling or answers 429.
 * Threads: put and durable from any; take, settle and fd from the one that owns the stream. */
#ifndef FB_EVENT_INGRESS_H
#define FB_EVENT_INGRESS_H
#include "event/event.h"

/* Most bytes of records in one put. */
#define INGRESS_PUT_BYTES_MAX (256 * KIB)

struct ingress;
/* <bytes> of room, at least 512 KiB; NULL without memory or descriptors. */
struct ingress *ingress_new(size_t bytes);
void ingress_free(struct ingress *q);

/* Copies whole records (ev_is_valid each; time and origin are set when they are taken), all or
 * none.  *ticket (may be NULL) is for ingress_durable.  FB_E_AGAIN: full, come again in some ms;
 * FB_E_RANGE: empty, more than INGRESS_PUT_BYTES_MAX, or not records. */
FB_MUST_USE
enum fb_code ingress_put(struct ingress *q, struct span records, uint64_t *ticket);
/* Is everything up to <ticket> in the log and synced (or counted as lost by a failing disk)? */
bool ingress_durable(const struct ingress *q, uint64_t ticket);

/* Of the newest put, 0 none. */
uint64_t ingress_newest(struct ingress *q);
/* Readable while something waits. */
int ingress_fd(const struct ingress *q);
/* Calls <each> per record, oldest first, for whole puts of at most <bytes_max> together (at least
 * one). The records are writable and valid until the next take.  Returns how many records. */
typedef void ingress_each(void *arg, struct ev_head *ev);
uint32_t ingress_take(struct ingress *q, size_t bytes_max, ingress_each *each, void *arg);
/* What was taken since the last call went into the stream below <next_offset>. */
void ingress_taken(struct ingress *q, uint64_t next_offset);
/* The log has everything below <offset>. */
void ingress_settle(struct ingress *q, uint64_t offset);

struct ingress_stats {
    uint64_t events, bytes; /* taken in so far */
    uint64_t refused;       /* puts that found no room */
    uint64_t queued_bytes, room_bytes;
};
void ingress_stats_read(struct ingress *q, struct ingress_stats *stats);
#endif
