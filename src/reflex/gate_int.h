/* SPDX-License-Identifier: Apache-2.0 */
/* gate_int: what gate.c, gate_endpoint.c and gate_view.c share.
 *
 * gate.c is the life of a ticket, gate_endpoint.c the life of an endpoint, gate_place.c where
 * tickets with a key belong, gate_view.c what others may see. Threads: as gate.h. */
#ifndef FB_REFLEX_GATE_INT_H
#define FB_REFLEX_GATE_INT_H
#include "reflex/balance.h"
#include "reflex/eject.h"
#include "reflex/fair.h"
#include "reflex/gate.h"
#include "reflex/hedge.h"
#include "reflex/limit.h"
#include "reflex/queue.h"
#include "reflex/retry.h"
#include "reflex/success.h"

#define GATE_EVENTS 64

struct endpoint {
    struct balance_seat seat;
    struct eject_seat eject;
    struct gate_place place;
    struct gate_word word;
    struct load load;
    double weight; /* configured, or of control; seat.weight is what is in force */
    struct gate_ticket *pin_first, *pin_last; /* that wait for this one, by class and arrival */
    uint32_t pin_count;
    uint64_t spill_us; /* a request of its own went elsewhere for lack of room; 0: never */
    uint16_t index;
    uint16_t version; /* number + 1; 0: not told yet */
    bool is_draining, is_leaving, is_stalled;
    bool has_answered; /* else its latency is that of clients who left, a lower bound at most */
    uint8_t health;    /* as last said in an event */
    uint32_t in_flight;
    uint32_t hold;   /* limit held by control; 0: none */
    uint32_t unheld; /* while held: what the learner had before */
    uint32_t limit_min, limit_max;
    struct limit limit;
};

struct gate {
    struct gate_conf conf;
    struct rng rng;
    uint32_t shed_threshold;
    uint32_t count;  /* endpoints, leaving ones included */
    uint32_t in_use; /* neither leaving nor draining */
    uint32_t in_flight;
    uint64_t balance_us; /* last balance_tick */
    uint32_t pin_count;  /* tickets that wait for their endpoint */
    uint32_t pin_queued[EV_CLASS_COUNT];
    uint8_t tier_best; /* the lowest with a healthy endpoint */
    uint8_t tier; /* endpoints above it are spare; more than tier_best while that one is hurt */
    bool is_spilling;
    double sends, far_sends;                        /* of the last seconds */
    struct endpoint *endpoints[GATE_ENDPOINTS_MAX]; /* dense, <count> */
    struct endpoint *by_index[GATE_ENDPOINTS_MAX];
    struct balance balance;
    struct eject eject;
    struct retry retry;
    struct hedge hedge;
    struct queue queue;
    struct fair fair;
    struct success success;
    struct fair_cut worth[EV_CLASS_COUNT]; /* while the success floor refuses: who goes first */
    struct gate_ticket *ended_oldest, *ended_newest; /* shed while waiting, not yet handed back */
    uint32_t events_first, events_count;
    union ev_any events[GATE_EVENTS];
};

/* The endpoint for <t>, NULL: none has room.  Sets HOME or AWAY of t->traits. */
struct endpoint *gate_choose(struct gate *g, struct gate_ticket *t, uint64_t now_us);
/* gate_place.c: the same for a ticket with a key. */
struct endpoint *gate_choose_home(struct gate *g, struct gate_ticket *t, uint64_t now_us);
/* The version that <t> must go to now: the one that it wants while an endpoint of it can take it;
 * 0: any. */
uint16_t gate_version_for(const struct gate *g, const struct gate_ticket *t);
/* In use: neither leaving nor draining nor ejected. */
bool gate_is_chosen_from(const struct gate *g, const struct endpoint *ep);
bool gate_endpoint_has_room(const struct gate *g, const struct endpoint *ep);
/* Its limit binds: requests wait, or went to another endpoint than their own. */
bool gate_is_wanted(const struct gate *g, const struct endpoint *ep, uint64_t now_us);
/* Adds those of <far> that compete with the <n> of <near>; returns how many there are then. */
struct gate_seats {
    struct balance_seat *at[GATE_ENDPOINTS_MAX];
    uint32_t count;
};
void gate_zone_join(struct gate *g, struct gate_seats *near, const struct gate_seats *far,
                    uint64_t now_us);
void gate_weigh(struct endpoint *ep);                  /* seat.weight from its parts */
void gate_tier_update(struct gate *g);                 /* after any change of health */
void gate_place_tick(struct gate *g, uint64_t now_us); /* every 100 ms */
void gate_say(struct gate *g, struct endpoint *ep, enum ev_health_state to, enum ev_reason why,
              uint64_t now_us);
struct endpoint *gate_endpoint_at(const struct gate *g, uint16_t index);
void gate_endpoint_forget(struct gate *g, struct endpoint *ep); /* it left and nobody is there */
/* gate_pin.c */
enum gate_pin_answer { GATE_PIN_NONE, GATE_PIN_SENT, GATE_PIN_WAITS };
enum gate_pin_answer gate_pin_place(struct gate *g, struct gate_ticket *t, uint64_t now_us);
/* One that its endpoint took, that was refused, or that goes the common way now (state GATE_NEW);
 * NULL: none. */
struct gate_ticket *gate_pin_next(struct gate *g, uint64_t now_us);
void gate_pin_remove(struct gate *g, struct gate_ticket *t);
bool gate_has_room(const struct gate *g);
/* Room at an endpoint that is worth being used now rather than waiting for a faster one. */
bool gate_has_worthy_room(const struct gate *g, uint64_t now_us);
/* Another endpoint in use that <t> was not sent to. */
bool gate_has_untried(const struct gate *g, const struct gate_ticket *t);
void gate_start(struct gate *g, struct gate_ticket *t, struct endpoint *ep, uint64_t now_us);
void gate_account(struct gate *g, struct gate_ticket *t, enum gate_outcome outcome,
                  uint64_t now_us);
void gate_apply_bounds(const struct gate *g, struct endpoint *ep);
uint32_t gate_limit_of(const struct gate *g, const struct endpoint *ep);
uint32_t gate_limit_sum(const struct gate *g); /* of the endpoints that are available */
void gate_end_waiting(struct gate *g, struct gate_ticket *t, enum ev_reason why);
void gate_forget_ended(struct gate *g, struct gate_ticket *t);
/* Room for one more event, zeroed; NULL: full, the event is lost. */
union ev_any *gate_event_new(struct gate *g);
/* Its agent says: no new requests. */
static inline bool gate_is_out(const struct endpoint *ep)
{
    return ep->word.is_out || ep->word.is_down;
}
/* Most in flight that configuration and agent allow. */
static inline uint32_t gate_cap(const struct endpoint *ep)
{
    uint32_t cap = ep->place.cap > 0 ? fb_min_u32(ep->place.cap, LIMIT_MAX) : LIMIT_MAX;
    return ep->word.cap > 0 ? fb_min_u32(ep->word.cap, cap) : cap;
}
static inline bool gate_was_tried(const struct gate_ticket *t, uint16_t index)
{
    return t->tried[index / 64] >> (index % 64) & 1;
}
#endif
