/* SPDX-License-Identifier: Apache-2.0 */
/* balance: which endpoint gets the next request.
 *
 * Adaptive: the lowest score = r x (n + 1) / weight, with n requests in flight and r = latency /
 * best latency, where everything below 1.5 counts as 1: a plain mean with a "nearly equal" band
 * beats peak sensitivity under heavy tails.  Every seat is looked at up to 64, beyond that four at
 * random.  The latency in the score
 *   - is a mean over 3 s of times to first byte; it fades when nothing is sent, so that each seat
 * is tried again;
 *   - grows with failures (x (1 + 20 e) + 0.5 s x e): an endpoint that fails fast must not look
 * fast;
 *   - becomes the time since the last completion when that is > 50 ms and > 8 x the mean (a stall);
 *   - is out of the question until the time that Retry-After named.
 * What other gateways tell of a seat, each 100 ms and late (doc/design/fleet.md has the figures):
 *   - their requests in flight count as a mean over 3 s: all who heard the same bare number would
 * run to the same seat;
 *   - their answers count like own ones while there are no own ones (1 s): else each gateway would
 * try every slow seat for itself, again and again.  Not beside own ones: all would leave a seat at
 * once.  When the way from here is longer than theirs, in the ratio that was seen beside own
 * answers;
 *   - while they send there the latency does not fade.
 * A new or recovered seat takes part in a share of the picks only, 10 % growing to 100 %.
 *
 * Pure.  Threads: any, one at a time per struct. */
#ifndef FB_REFLEX_BALANCE_H
#define FB_REFLEX_BALANCE_H
#include "base/rng.h"

enum gate_balance {
    GATE_BALANCE_ADAPTIVE,
    GATE_BALANCE_ROUND_ROBIN,
    GATE_BALANCE_LEAST_REQUEST,
    GATE_BALANCE_WEIGHTED,
    GATE_BALANCE_RANDOM_TWO,
    GATE_BALANCE_HASH /* by the key of the request, hash.h; adaptive for one without */
};

struct balance_answers {
    uint64_t count;
    double sum_us; /* of the times to first byte */
};
struct balance_told { /* by other gateways since the last time */
    double in_flight; /* now */
    struct balance_answers answers;
};

struct balance_seat {
    double latency_us;              /* 0: nothing known */
    double error_ratio;             /* 0..1 */
    double weight;                  /* 1 is even, 0 takes it out gently */
    uint32_t in_flight;             /* kept by on_send and on_done */
    double others;                  /* in flight from other gateways, mean over 3 s */
    uint64_t others_us;             /* last told; 0: never */
    uint64_t others_at_us;          /* they had anything to do with it */
    double far_ratio;               /* own latency over theirs, seen side by side; 1: not known */
    uint64_t own_us;                /* last own latency sample; 0: none */
    struct balance_answers answers; /* own ones that were not told yet */
    uint32_t ramp_samples;          /* answers since the ramp began */
    uint64_t ramp_us;               /* the ramp began; 0: none */
    uint64_t sample_us;             /* last latency sample */
    uint64_t judged_us;             /* last success or failure */
    uint64_t completion_us;         /* last completion, or the send that ended idleness */
    uint64_t sent_us;               /* last send */
    uint64_t stall_end_us;          /* a completion ended a stall; 0: none yet */
    uint64_t hold_us;               /* nothing before this time (Retry-After) */
    double picks;                   /* recent ones, faded with 5 s */
    uint64_t picks_us;
    double credit;  /* smooth weighted round robin */
    uint16_t index; /* the caller's number; orders the round robin */
};

struct balance {
    enum gate_balance policy;
    uint16_t last; /* round robin: index of the last pick */
    double median_us;
    struct rng rng;
};

void balance_init(struct balance *b, enum gate_balance policy, uint64_t seed);
/* <latency_us> 0: unknown, it counts as equal to the best. */
void balance_seat_init(struct balance_seat *s, uint16_t index, double latency_us, uint64_t now_us);
/* New or recovered: begins the slow start, at the median of the others. */
void balance_seat_ramp(const struct balance *b, struct balance_seat *s, uint64_t now_us);
/* Position of the choice in <seats>; <n> >= 1.  All seats given are allowed to be chosen. */
uint32_t balance_pick(struct balance *b, struct balance_seat *const *seats, uint32_t n,
                      uint64_t now_us);

void balance_on_send(struct balance_seat *s, uint64_t now_us);
/* A time to first byte, of a good answer. */
void balance_on_latency(struct balance_seat *s, uint64_t latency_us, uint64_t now_us);
/* No answer after <age_us>: the latency is at least that. */
void balance_on_censored(struct balance_seat *s, uint64_t age_us, uint64_t now_us);
/* One request in flight less. */
void balance_on_done(struct balance_seat *s, uint64_t now_us);
/* What other gateways have in flight there, as last heard, and what was answered to them. */
void balance_on_others(struct balance_seat *s, const struct balance_told *told, uint64_t now_us);
void balance_on_verdict(struct balance_seat *s, bool is_failure, uint64_t now_us);
/* Every 100 ms: the median of <seats>, and the end of slow starts.  <n> at most 256. */
void balance_tick(struct balance *b, struct balance_seat *const *seats, uint32_t n,
                  uint64_t now_us);
/* The latency with which <s> competes, in us; 0: unknown. */
double balance_cost_us(const struct balance_seat *s, uint64_t now_us);
/* The same without failures and Retry-After. */
double balance_latency_us(const struct balance_seat *s, uint64_t now_us);
/* How far the slow start is, by time alone: 0.1 to 1. */
double balance_ramp(const struct balance_seat *s, uint64_t now_us);
bool balance_is_stalled(const struct balance_seat *s, uint64_t now_us);
/* Picks in the last seconds. */
double balance_picks(const struct balance_seat *s, uint64_t now_us);
#endif
