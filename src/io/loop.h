/* SPDX-License-Identifier: Apache-2.0 */
/* loop: one thread's event loop: descriptors, timers, deferred calls, messages from other threads.
 *
 *   turn:  epoll_wait -> now_us is read once -> ready handles -> messages -> due timers -> deferred
 * jobs
 *
 * Handles are usually edge-triggered (LOOP_EDGE): registered once, then no epoll_ctl; the owner
 * reads until a short read and writes until EAGAIN, and remembers what it did not do.  Without
 * LOOP_EDGE they are level-triggered, for owners with little traffic (loop_change costs one
 * epoll_ctl). Timers lie in a wheel of 1 ms; moving one to a later time only writes a number (it is
 * put in its new place when the old one comes up), so that a timer per connection costs nothing per
 * request. Handles, timers, jobs and messages are embedded in their owner's struct; the loop
 * allocates nothing after loop_new.  A handle may be removed and freed inside any callback, also
 * its own. Threads: a loop belongs to the thread that runs it; only loop_post and loop_stop may be
 * called by others. Errors: IO.  Units: us, CLOCK_MONOTONIC. */
#ifndef FB_IO_LOOP_H
#define FB_IO_LOOP_H
#include "base/error.h"

enum loop_events {
    LOOP_READ = 1,  /* bytes, a connection, or the end */
    LOOP_WRITE = 2, /* room, or the connection is established */
    LOOP_END = 4,   /* the peer will send nothing more; reported always */
    LOOP_ERROR = 8, /* broken; reported always */
    LOOP_EDGE = 16  /* in loop_add: edge-triggered */
};

struct loop;
struct loop_handle {
    void (*on_ready)(struct loop_handle *h, uint32_t events); /* set by the owner before loop_add */
    int fd;                                                   /* -1: not in the loop */
};
struct loop_timer {
    struct loop_timer *next, **prev;          /* private */
    uint64_t due_us;                          /* private; 0: stopped */
    void (*on_due)(struct loop_timer *timer); /* set by the owner; the timer is stopped by then */
    uint64_t armed_ms;                        /* private: place in the wheel */
};
/* A call at the end of this turn, once however often it is asked for. */
struct loop_job {
    struct loop_job *next;
    void (*on_run)(struct loop_job *job);
    bool is_queued;
};
/* A call on the loop's thread, sent by another one.  The loop forgets it before it calls
 * on_message. */
struct loop_message {
    struct loop_message *next;
    void (*on_message)(struct loop_message *message);
};

FB_MUST_USE
enum fb_code loop_new(struct loop **out, struct fb_err *err);
void loop_free(struct loop *l); /* handles are their owners' to close */
/* Until loop_stop.  <on_turn> (may be NULL) runs at the end of each turn. */
void loop_run(struct loop *l, void (*on_turn)(void *arg), void *arg);
/* One turn that waits at most <wait_ms>; for tests and for callers with a loop of their own. */
void loop_turn(struct loop *l, uint32_t wait_ms);
void loop_stop(struct loop *l); /* any thread */

/* Before it sleeps the loop looks for events this long, as long as that pays: when a fair share of
 * its sleeps would have ended within that time, and nobody else waits for the core (involuntary
 * context switches of the thread).  Waking up costs 25 to 50 us of latency, spinning costs CPU.
 * 0, the default: never. */
void loop_busy_poll(struct loop *l, uint32_t most_us);

/* Time of this turn. */
uint64_t loop_now_us(const struct loop *l);
/* Reads the clock again, after a long callback. */
uint64_t loop_refresh_us(struct loop *l);

/* <events>: LOOP_READ | LOOP_WRITE | LOOP_EDGE.  Errors: IO (no room in epoll). */
FB_MUST_USE
enum fb_code loop_add(struct loop *l, struct loop_handle *h, int fd, uint32_t events);
void loop_change(struct loop *l, struct loop_handle *h, uint32_t events);
/* Forgets the handle, also its events of this turn; h->fd becomes -1, the descriptor stays open. */
void loop_remove(struct loop *l, struct loop_handle *h);
/* As loop_remove for a descriptor that is closed right now by the caller: close(2) itself
 * unregisters it. */
void loop_forget(struct loop *l, struct loop_handle *h);

/* (Re)starts.  <due_us> in the past: next turn.  Precision 1 ms, never early. */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t due_us);
void loop_timer_stop(struct loop *l, struct loop_timer *t); /* also before its struct is freed */
static inline bool loop_timer_is_set(const struct loop_timer *t)
{
    return t->due_us != 0;
}

void loop_defer(struct loop *l, struct loop_job *job);
void loop_job_cancel(struct loop *l, struct loop_job *job);   /* before its struct is freed */
void loop_post(struct loop *l, struct loop_message *message); /* any thread */
#endif
