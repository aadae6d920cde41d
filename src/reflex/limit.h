/* SPDX-License-Identifier: Apache-2.0 */
/* limit: how many requests one endpoint may work on at once, learned from latency at known
 * in-flight counts.
 *
 * "Paired Little" (doc/design/limit.md): n in flight take S x max(1, n / c), S the service time and
 * c the workers, so the latency of a full limit tells c.  Up is tried only while the limit binds;
 * down only on evidence, confirmed by new samples; a stale base is found by a step down whose
 * latency does not follow.
 *
 * Holds always: min <= limit <= max; in flight = sends - completions.  <now_us> never goes
 * backwards. Pure: no clock, no memory, pointer-free (a copy goes on the same).  Never fails.
 * Threads: any, one at a time per struct. */
#ifndef FB_REFLEX_LIMIT_H
#define FB_REFLEX_LIMIT_H
#include "event/event.h"

struct limit_conf {
    uint32_t min, max; /* 1 .. 4096 requests */
    uint32_t start;    /* first value, before anything is known */
    /* Wait in the endpoint's own queue that nobody minds: what a service time far below it may add
     * before the limit acts (a service time far above it: next to nothing).  0: LIMIT_TOLERANCE_US.
     */
    uint32_t tolerance_us;
};
#define LIMIT_MAX 4096
#define LIMIT_TOLERANCE_US 2000

/* Private to limit.c, visible because callers embed it; pointer-free. */
#include "reflex/limit_state.h"

/* A request in flight, as the learner sees it; embedded in the caller's request. */
struct limit_tag {
    uint64_t sent_us;
    uint64_t generation; /* of the limit value at send */
    uint64_t left_us;    /* nothing was heard of it since; 0: its end will be */
    uint32_t in_flight;  /* at send, itself included */
    bool is_tagged;
    bool has_head; /* its answer has begun */
};

enum limit_result {
    LIMIT_OK,        /* complete answer: a sample */
    LIMIT_FAST_FAIL, /* an error too fast to say anything of the service time */
    LIMIT_TIMED_OUT, /* its age is a lower bound */
    LIMIT_TRANSFER,  /* answered, and the rest of its length is that of the transfer: no sample */
    LIMIT_GONE       /* never reached the endpoint, or the caller forgets it */
};

void limit_init(struct limit *l, const struct limit_conf *conf, uint64_t now_us);
/* What was learned before a restart. */
void limit_restore(struct limit *l, double limit, double base_us, double cv, uint64_t now_us);
/* Drops what was learned, as limit_init; what is in flight stays counted, and is no sample. */
void limit_forget(struct limit *l, uint64_t now_us);
void limit_set_bounds(struct limit *l, uint32_t min, uint32_t max);
/* Present limit. */
uint32_t limit_now(const struct limit *l);
/* Learned service time without a queue; 0: nothing known yet. */
double limit_base_us(const struct limit *l);
/* Learned coefficient of variation of the service time. */
double limit_cv(const struct limit *l);
/* May one more be sent?  False while in flight >= limit or during a pause of the endpoint, but for
 * one trial now and then in a long pause. */
bool limit_has_room(const struct limit *l);
void limit_on_send(struct limit *l, struct limit_tag *tag, uint64_t now_us);
/* The head of its answer is there, the body is not: from now on its age says nothing of a queue. */
void limit_on_head(struct limit *l, struct limit_tag *tag);
/* So long after its head an answer is a transfer, which needs no slot: several service times. */
uint64_t limit_transfer_us(const struct limit *l);
/* <is_wanted>: more requests wait or were refused for lack of room: the limit binds. */
void limit_on_done(struct limit *l, const struct limit_tag *tag, enum limit_result result,
                   bool is_wanted, uint64_t now_us);
/* Every 5 ms while something is in flight or waits, else every 100 ms. */
void limit_tick(struct limit *l, bool is_wanted, uint64_t now_us);
/* The last verdict not yet taken, as a proposal event (endpoint and service are the caller's);
 * false: none. */
bool limit_take_proposal(struct limit *l, struct ev_proposal *out);
#endif
