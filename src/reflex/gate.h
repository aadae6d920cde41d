/* SPDX-License-Identifier: Apache-2.0 */
/* gate: one service's per-request decisions as one pure state machine: admit, queue or shed; which
 * endpoint; how many at once; eject and take back; retry or not.
 *
 * It composes balance.h, limit.h, queue.h, eject.h and retry.h.  The gateway drives it with real
 * requests, sim/ with modelled ones: the same object code.  No clock, no I/O; memory is allocated
 * in gate_new and gate_endpoint_add only.
 *
 *   arrive --SEND--> in flight --done--> ended
 *      |  \                ^    \--retry--> (as arrive, other endpoint)
 *      |   WAIT -> queued -/ next
 *      \-- SHED (reason)      \-- shed while waiting (next, tick)
 *
 * Exact accounting: every ticket that gate_arrive or gate_next answered with SEND is in flight
 * until gate_done or gate_cancel is called once; asserted.  <now_us> never goes backwards in one
 * gate (a caller with several threads takes the gate's lock first and reads the clock under it).
 * Threads: any; one at a time per gate (the caller locks). */
#ifndef FB_REFLEX_GATE_H
#define FB_REFLEX_GATE_H
#include "base/rng.h"
#include "event/event.h"
#include "reflex/balance.h"
#include "reflex/eject.h"
#include "reflex/limit.h"
#include "reflex/load.h"

#define GATE_ENDPOINTS_MAX 256
#define GATE_QUEUE_CAPACITY 8192

/* Parameters of one service.  gate_conf_default gives the product's defaults for an objective. */
struct gate_conf {
    enum gate_balance balance;
    bool is_limit_learned;         /* false: limit_fixed holds */
    uint32_t limit_fixed;          /* 0: no limit */
    uint32_t limit_min, limit_max; /* bounds of the learner */
    uint32_t queue_capacity;       /* requests; 0: GATE_QUEUE_CAPACITY; time is the real bound */
    uint64_t queue_wait_max_us;    /* at most half of the latency objective */
    uint64_t objective_us;         /* latency objective of the service; 0: none */
    bool is_long;                  /* work without a usual length: no completion is no stall */
    bool is_codel;                 /* CoDel + adaptive LIFO; false: plain FIFO per class */
    bool is_ejecting;              /* passive ejection */
    double retry_pct;              /* retry budget in % of first attempts; 0: none */
    uint32_t retries_max;          /* per request */
    double success_floor;          /* see reflex/success.h; 0: off */
    double hedge_pct;              /* second copies in % of the requests; 0: none */
    uint32_t ejected_pct_max;      /* of the endpoints, then panic */
};
void gate_conf_default(struct gate_conf *conf, uint64_t objective_us);

/* One request, embedded by the caller in its own request struct; zeroed before gate_arrive.  Fields
 * above the line are the caller's to set, those below are the gate's. */
struct gate_ticket {
    uint64_t arrive_us;   /* first byte of the request */
    uint64_t deadline_us; /* absolute; UINT64_MAX: none */
    uint64_t key_hash;    /* fairness and admission: keyed hash of the user, 0 none */
    uint64_t place_hash;  /* balance by key: the same wherever it is computed, 0 none */
    uint16_t wanted;      /* version that a split chose, its number + 1; 0: any */
    uint64_t pin;         /* sticky session: gate_place.pin of its endpoint, 0 none */
    uint8_t class;        /* enum ev_class */
    bool is_idempotent;
    /* ---- */
    struct gate_ticket *next, *prev;           /* queue: by arrival in its class */
    struct gate_ticket *peer_next, *peer_prev; /* queue: of the same bucket of users */
    uint64_t queued_us, sent_us, first_byte_us;
    uint64_t tried[GATE_ENDPOINTS_MAX / 64]; /* bit per endpoint index */
    uint32_t in_flight_at_send;              /* itself included */
    uint16_t endpoint;   /* index in the gate of the last attempt, EV_NONE none */
    uint16_t reason;     /* why it was shed */
    uint8_t attempts;    /* sends so far */
    uint8_t state;       /* enum gate_state */
    uint8_t queue_class; /* class in the queue: a retry is one lower */
    uint8_t queue_row;   /* where its user waits: fair_row */
    bool is_trial;       /* sent to a half-open endpoint */
    bool is_at_pin;      /* queued for its own endpoint, <endpoint> */
    bool is_hedge;       /* the second copy of another one */
    bool is_for_others;  /* it has a whole answer: a retry only where it was not yet */
    uint8_t traits;      /* of the last attempt: HOME, AWAY, FAR_ZONE of enum ev_trait */
    struct limit_tag tag;
};
enum gate_state { GATE_NEW, GATE_QUEUED, GATE_IN_FLIGHT, GATE_ENDED };

enum gate_answer {
    GATE_SEND, /* to ticket->endpoint; it is counted in flight from now on */
    GATE_WAIT, /* it is in the queue; gate_next or gate_tick gives it back */
    GATE_SHED  /* ticket->reason says why; the ticket is ended */
};
enum gate_outcome {
    GATE_OK,             /* the endpoint answered, status below 500 and not 429 */
    GATE_FAILED,         /* 5xx, 429, reset, bad answer: counts as an error of the endpoint */
    GATE_OVERLOADED,     /* 503 with Retry-After or 429: an error that must not be retried in this
                            service */
    GATE_TIMED_OUT,      /* no first byte in time: censored latency */
    GATE_CONNECT_FAILED, /* never reached the endpoint: safe to retry */
    GATE_ABANDONED,      /* the client left; the work may go on at the endpoint */
    GATE_RELEASED /* answered, but the body takes long, or the client reads slowly: its pace is not
                     the endpoint's, so the slot is free again and its length is no sample */
};

struct gate;
struct gate *gate_new(const struct gate_conf *conf, uint64_t seed); /* NULL without memory */
void gate_free(struct gate *g);
/* New parameters take effect for the next decision; learned state stays. */
void gate_reconfigure(struct gate *g, const struct gate_conf *conf);

/* Endpoints have an index 0..GATE_ENDPOINTS_MAX-1, free to be chosen by the gate, stable until
 * removed. <keep> (may be NULL): what was learned before a restart.  EV_NONE when full. */
struct gate_keep {
    double limit, base_us, cv, latency_us, error_ratio;
};
uint16_t gate_endpoint_add(struct gate *g, const struct gate_keep *keep, uint64_t now_us);
/* No new requests; the index is free again when its last request has ended. */
void gate_endpoint_remove(struct gate *g, uint16_t endpoint, uint64_t now_us);
void gate_endpoint_drain(struct gate *g, uint16_t endpoint, bool is_draining, uint64_t now_us);
/* Retry-After: nothing more to it before <until_us> unless there is nowhere else. */
void gate_endpoint_hold(struct gate *g, uint16_t endpoint, uint64_t until_us);
/* Where it stands among its peers; may change at any time. */
struct gate_place {
    uint64_t identity; /* consistent hashing: of its address, the same in all processes */
    uint64_t pin;      /* sticky sessions: what their tickets say; 0 none */
    uint32_t cap;      /* most in flight, whatever is learned; 0: none */
    uint8_t tier; /* of a tier above 0: used while no endpoint below it is healthy, and for what
                   * finds no room there while one of those is broken */
    bool is_far;  /* in another zone: used when those of our own have no room, or fail */
};
void gate_endpoint_place(struct gate *g, uint16_t endpoint, const struct gate_place *place);
/* The word of the endpoint's own agent; holds until the next one. */
struct gate_word {
    double weight_pct; /* of its configured weight */
    uint32_t cap;      /* most in flight; 0: none */
    bool is_out;       /* no new requests: drain, maint */
    bool is_down;      /* the same, and it says that it is broken */
    bool is_lost;      /* no word any more: everything else is neutral */
};
void gate_endpoint_word(struct gate *g, uint16_t endpoint, const struct gate_word *word,
                        uint64_t now_us);
void gate_endpoint_load(struct gate *g, uint16_t endpoint, const struct load_report *report);
/* Tickets that want a version go to its endpoints; when none of them can take a ticket now
 * (ejected, drained, full, or tried by it before), to any other, rather than wait or fail. */
void gate_endpoint_version(struct gate *g, uint16_t endpoint, uint16_t version);
void gate_endpoint_weight(struct gate *g, uint16_t endpoint, double weight_pct);
/* What other gateways have in flight to it and were answered, each time that it is known. */
void gate_endpoint_others(struct gate *g, uint16_t endpoint, const struct balance_told *told,
                          uint64_t now_us);
/* Answers since the last call, to tell the other gateways. */
struct balance_answers gate_endpoint_answers(struct gate *g, uint16_t endpoint);
/* Knobs of control: bounds and, when the learner must not act (observe, pinned, frozen), the limit
 * to hold. <hold> 0: the learner acts, from what it had before or from what was held, whichever is
 * less. */
void gate_endpoint_limit(struct gate *g, uint16_t endpoint, uint32_t min, uint32_t max,
                         uint32_t hold);
/* An operator dropped what was learned: its limit begins anew. */
void gate_endpoint_relearn(struct gate *g, uint16_t endpoint, uint64_t now_us);
/* An active health check ended.  Probes are the caller's and never wait in the queue. */
void gate_endpoint_probe(struct gate *g, uint16_t endpoint, enum eject_probe said, uint64_t now_us);

/* Knobs of the service. */
void gate_set_shed_threshold(struct gate *g, uint32_t threshold);
void gate_set_retry_pct(struct gate *g, double pct);
void gate_set_hedge_pct(struct gate *g, double pct);

enum gate_answer gate_arrive(struct gate *g, struct gate_ticket *t, uint64_t now_us);
/* First byte of the answer head of the present attempt. */
void gate_first_byte(struct gate *g, struct gate_ticket *t, uint64_t now_us);
/* Nobody wants its answer and its endpoint was told so: how long it is in flight from now on is a
 * guess of the caller's, and no measurement. */
void gate_left(struct gate_ticket *t, uint64_t now_us);
/* How long after its first byte an answer that still goes on is a transfer: its slot may be given
 * back then (gate_done with GATE_RELEASED).  UINT64_MAX: never, somebody set a bound on what the
 * endpoint has in hand. */
uint64_t gate_transfer_us(const struct gate *g, const struct gate_ticket *t);
/* The present attempt ended; the ticket is ended unless gate_retry is called next.  After each
 * gate_done, GATE_WAIT and gate_cancel the caller calls gate_next until it returns NULL. */
void gate_done(struct gate *g, struct gate_ticket *t, enum gate_outcome outcome, uint64_t now_us);
/* After gate_done with a failure and before anything was sent to the client: may it be tried again?
 * <backoff_us> is how long to wait first; the budget is charged now, but for the first two tries
 * that never reached an endpoint.  False: no. */
bool gate_retry(struct gate *g, struct gate_ticket *t, enum gate_outcome outcome,
                uint64_t *backoff_us, uint64_t now_us);
/* The backoff is over: as gate_arrive, on another endpoint when there is one. */
enum gate_answer gate_retry_send(struct gate *g, struct gate_ticket *t, uint64_t now_us);
/* The second copy of <first>, which is in flight: SEND, WAIT as gate_arrive, at an endpoint where
 * <first> was not; SHED: not now, <t> is as new and it may be asked again. */
enum gate_answer gate_hedge(struct gate *g, struct gate_ticket *t, const struct gate_ticket *first,
                            uint64_t now_us);
/* Work that nobody waits for: sent at once into room that nobody else wants, or false and <t> is as
 * new. */
bool gate_send_spare(struct gate *g, struct gate_ticket *t, uint64_t now_us);
/* Gives up a ticket in any state (client gone while queued; before a retry). */
void gate_cancel(struct gate *g, struct gate_ticket *t, uint64_t now_us);
/* The next waiting ticket that can be sent (state GATE_IN_FLIGHT) or must be shed (GATE_ENDED, with
 * its reason); NULL when there is none now. */
struct gate_ticket *gate_next(struct gate *g, uint64_t now_us);
/* Time passes: ejections end, the learner probes, CoDel judges.  Call every 5 ms while anything is
 * queued or in flight, else every 100 ms; then gate_next until NULL. */
void gate_tick(struct gate *g, uint64_t now_us);

/* ---- what it says ---- */
struct gate_endpoint_view {
    uint32_t in_flight, limit;
    enum ev_health_state health;
    double latency_us, error_ratio, base_us, cv,
        share;                     /* share of picks in the last seconds, 0..1 */
    double weight;                 /* in force, 1 is even */
    double utilisation;            /* as it reported, 0..; negative: not now */
    bool is_far, is_out, is_spare; /* <is_spare>: of a tier that is not in use */
    bool is_binding;
    bool has_answered; /* <latency_us> is of answers, not of clients who left before one */
};
struct gate_view {
    uint32_t queued[EV_CLASS_COUNT];
    uint32_t in_flight, limit_sum;
    uint32_t endpoints, available;
    uint32_t shed_threshold;
    double far_share;             /* of the sends of the last seconds, to other zones */
    uint64_t hedges;              /* second copies sent or queued since the start */
    bool is_panic, is_overloaded; /* the limit binds and the queue is not empty */
};
void gate_view(const struct gate *g, struct gate_view *view);
bool gate_endpoint_view(const struct gate *g, uint16_t endpoint,
                        struct gate_endpoint_view *view); /* false: no such */
void gate_endpoint_keep(const struct gate *g, uint16_t endpoint, struct gate_keep *keep);
/* Events since the last call, oldest first: ev_health and ev_proposal with endpoint = index in the
 * gate, service = 0, time set; the caller fills in the numbers.  Returns how many were written, at
 * most <max>. */
size_t gate_take_events(struct gate *g, union ev_any *out, size_t max);
#endif
