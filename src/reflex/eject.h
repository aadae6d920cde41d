/* SPDX-License-Identifier: Apache-2.0 */
/* eject: when an endpoint is taken out because of what its answers say, and how it comes back.
 *
 *   OK --failures--> EJECTED --time--> HALF_OPEN --3 good trials--> RAMPING --(balance)--> OK
 *                      ^                   |failed trial: twice as long
 *                      \-------------------/
 * Two kinds of evidence.  Failing: of at least 20 requests in 10 s or in the last 2-3 s too many
 * failed, or ten in a row with nothing good for 200 ms, and clearly more than at the other
 * endpoints (when all fail, the fault is elsewhere).  Dead: connections failed in a row, or active
 * probes got no answer, and nothing succeeded meanwhile; what requests say beats the silence of
 * probes, which may be that of load. At most ejected_pct_max of the endpoints (but one, when there
 * are two or more) may be out for failing; when more would have to go this is panic and health is
 * ignored for the failing.  Dead ones are out beyond that share: a request sent there cannot
 * succeed.  The last endpoint always stays in.
 *
 * Refusing is no evidence but a word: an endpoint that answers its probe and says no wants no
 * requests, because it stops soon or another one leads, and good answers do not contradict it.  It
 * is out until a probe says yes, beyond any share, also where ejection is off, and does not count
 * for panic; when no other is left to ask, the refusing are asked all the same.
 *
 * Counts are exact, in ten buckets of 1 s: a mean weighted by arrivals hides an outage behind a
 * burst before it. Pure.  Threads: any, one at a time per struct. */
#ifndef FB_REFLEX_EJECT_H
#define FB_REFLEX_EJECT_H
#include "base/rng.h"
#include "event/event.h"

#define EJECT_BUCKETS 10

struct eject_seat {
    enum ev_health_state state; /* OK, EJECTED or HALF_OPEN */
    bool is_dead;               /* the kind of evidence */
    bool is_refusing;           /* the last word of its active probes */
    uint8_t probes_failed;      /* without an answer, in a row */
    uint8_t times;              /* ejected without a long good time between */
    uint32_t failed_row;        /* of any kind, in a row */
    uint32_t connects_failed;   /* in a row */
    uint32_t trials, trials_ok; /* half-open: in flight, succeeded */
    uint64_t until_us;          /* EJECTED: end; OK: when it came back */
    uint64_t good_us;           /* last success */
    uint64_t first_bad_us;      /* first failure of the row */
    uint64_t bucket_s;          /* second of the newest bucket */
    uint32_t ok[EJECT_BUCKETS], failed[EJECT_BUCKETS];
};

struct eject {
    bool is_on;
    bool is_panic;
    bool is_refused_by_all; /* ... because nobody is left who does not refuse */
    uint32_t ejected_pct_max;
    struct rng rng;
};

/* What changed; reason REASON_NONE: nothing. */
struct eject_change {
    enum ev_health_state from, to;
    enum ev_reason reason;
    uint32_t failures, samples;
    uint64_t until_us;
};

enum eject_sign { EJECT_GOOD, EJECT_BAD, EJECT_NO_CONNECT, EJECT_UNKNOWN };

void eject_init(struct eject *e, uint64_t seed);
void eject_seat_init(struct eject_seat *s, uint64_t now_us);
/* How one request ended.  Cheap: counts only; eject_judge decides. */
void eject_on_end(struct eject_seat *s, enum eject_sign sign, bool was_trial, uint64_t now_us);
/* What active probes say, after as many in a row as the configuration wants. */
enum eject_probe { EJECT_PROBE_GOOD, EJECT_PROBE_SILENT, EJECT_PROBE_REFUSED };
void eject_on_probe(struct eject_seat *s, enum eject_probe said, uint64_t now_us);
/* What <seats>[at] has to become, given all <n> of the service; called after a failure, a trial and
 * on each tick. */
struct eject_change eject_judge(struct eject *e, struct eject_seat *const *seats, uint32_t n,
                                uint32_t at, uint64_t now_us);
/* May a request be sent there?  Half-open: only one trial at a time. */
bool eject_allows(const struct eject *e, const struct eject_seat *s);
/* True when panic began or ended; look at <is_panic>. */
bool eject_panic_changed(struct eject *e, struct eject_seat *const *seats, uint32_t n,
                         uint64_t now_us);
/* Share of failures in the last 10 s, and the number of samples. */
double eject_failure_ratio(const struct eject_seat *s, uint64_t now_us, uint32_t *samples);
#endif
