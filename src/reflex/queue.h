/* SPDX-License-Identifier: Apache-2.0 */
/* queue: requests that wait for room at the endpoints of one service.
 *
 * Four classes in strict priority; inside a class one ring of hashed users (256 buckets), each
 * served one request per turn, so that one user with a thousand requests delays another user by one
 * request; while all that waits can be served in time, every second one is the oldest of all. While
 * a class drops requests for having waited too long it is overloaded: then the newest goes first
 * (the oldest are about to be useless anyway), and it goes back to oldest first as soon as
 * everything that waits could be served in time.
 *
 * There is no guard for low classes: nothing waits longer than the bound, then it is answered with
 * 503, and a share kept for them would be taken from critical requests just when those exceed the
 * capacity.
 *
 * Holds always: length <= capacity; a ticket is in at most one queue.  No memory of its own besides
 * the struct. Pure.  Threads: any, one at a time per struct. */
#ifndef FB_REFLEX_QUEUE_H
#define FB_REFLEX_QUEUE_H
#include "event/event.h"

#define QUEUE_BUCKETS 256

struct gate_ticket;

struct queue_bucket {
    struct gate_ticket *oldest, *newest;
    uint16_t next, prev; /* ring of buckets that wait, EV_NONE none */
    uint32_t length;
};

struct queue_class {
    struct gate_ticket *oldest, *newest; /* all of the class, in order of arrival */
    uint32_t length;
    uint16_t turn;    /* bucket that is served next */
    uint16_t longest; /* bucket with the most that wait, as of the last tick or put */
    bool is_newest_first;
    uint32_t taken;      /* in the present period */
    double taken_per_us; /* smoothed */
    struct queue_bucket buckets[QUEUE_BUCKETS];
};

struct queue {
    uint32_t capacity, length;
    uint64_t wait_max_us;
    bool is_adaptive; /* false: always oldest first */
    uint64_t period_us;
    uint64_t now_us;           /* of the last tick */
    struct gate_ticket *sweep; /* next one whose deadline is looked at */
    struct queue_class classes[EV_CLASS_COUNT];
};

void queue_init(struct queue *q, uint64_t now_us);
/* A new bound holds for those that wait already; more than <capacity> stay until served. */
void queue_set(struct queue *q, uint32_t capacity, uint64_t wait_max_us, bool is_adaptive);
/* Puts <t> at its place in <class>.  NULL: it was put.  Otherwise the one that has to leave because
 * the queue is full, already taken out: of the lowest class the newest of the user with the most
 * that wait, possibly <t> itself. */
struct gate_ticket *queue_put(struct queue *q, struct gate_ticket *t, uint8_t class,
                              uint64_t now_us);
void queue_remove(struct queue *q, struct gate_ticket *t);
/* The one to serve next, taken out; NULL: empty.  The caller looks at queue_verdict first. */
struct gate_ticket *queue_take(struct queue *q);
/* One that waited too long or whose deadline passed, taken out; NULL: none among those looked at.
 */
struct gate_ticket *queue_take_expired(struct queue *q, uint64_t now_us);
/* REASON_NONE, or why <t> must not be served any more. */
enum ev_reason queue_verdict(const struct queue *q, const struct gate_ticket *t, uint64_t now_us);
/* A class serves newest first, or somebody has waited a quarter of the bound: more comes than can
 * be served. */
bool queue_is_overloaded(const struct queue *q, uint64_t now_us);
/* Every 5 to 100 ms. */
void queue_tick(struct queue *q, uint64_t now_us);
#endif
