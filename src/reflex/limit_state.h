/* SPDX-License-Identifier: Apache-2.0 */
/* limit_state: the fields of struct limit; only limit*.c look inside.
 *
 * Pointer-free, so that it may live in shared memory and be copied. */
#ifndef FB_REFLEX_LIMIT_STATE_H
#define FB_REFLEX_LIMIT_STATE_H
#include "event/event.h"

/* 1 to 8, then four levels per doubling up to 4096. */
#define LIMIT_LEVELS 44

/* What requests sent at one in-flight level took; decayed sums. */
struct limit_level {
    double count, sum_us, sum_square, sum_capped_us, sum_capped_square;
};

/* Requests sent since the last change of the limit, while it was more than half full. */
struct limit_meter {
    uint64_t since_us;
    double done; /* completed */
    double sum_us, sum_capped_us;
    double open;                          /* not yet completed */
    double open_sent_us;                  /* sum of their send times, relative to since_us */
    double sum_in_flight, open_in_flight; /* sums of the counts at send */
    bool is_fresh; /* counts from a change of the limit: ages of open requests belong to it */
};

/* A latency estimate and what it rests on. */
struct limit_mean {
    double us, capped_us, samples;
    double in_flight; /* mean at send */
};

struct limit {
    struct {
        uint32_t min, max, start, tolerance_us;
    } conf;
    uint32_t limit, in_flight;
    uint32_t headed;     /* of them, whose answer has begun */
    uint32_t cold_moves; /* since the start, or since something is known */
    uint64_t generation; /* of the limit value; a tag with another one is no sample of the meter */
    uint64_t void_us;    /* requests sent before are no samples at all */

    struct limit_level level[LIMIT_LEVELS];
    uint64_t decay_us;   /* next decay of the levels */
    uint64_t knee_at_us; /* next look for the knee */
    double knee;         /* in-flight count above which the levels show a queue; huge: none seen */
    double cv_full;      /* of the uncapped latency, inside the levels */
    double clear; /* workers, as last judged: in-flight count up to which there is no queue */

    struct limit_mean base_old; /* before it moved; samples 0 once the move is confirmed */
    struct limit_mean base;     /* of requests that met no queue */
    double cv; /* of their capped latency: decides how many samples a verdict needs */

    uint8_t mode; /* enum limit_mode in limit_int.h */
    bool is_paused, is_trial_due, is_proven;
    bool has_completed;  /* anything, ever */
    bool is_alarmed;     /* HOLD: a queue was seen; the meter began anew to confirm it */
    bool is_falling;     /* steps down follow each other; clear_before is from before the first */
    bool has_failed;     /* a probe, against a base of few samples */
    bool is_provisional; /* the base is a latency at the limit, measured in a queue perhaps */
    double margin;       /* CHECK: half the distance of the two stories, log */
    double expected;     /* CHECK: log of the ratio that raised the alarm */
    struct limit_meter meter;
    struct limit_meter kept;  /* of the limit below a probe, to go on with after it */
    struct limit_mean before; /* at limit_before */
    double follow; /* CHECK: log of the latency over the base that parts a queue from a new base */
    uint32_t limit_before;
    double recent;       /* latency of the last few, over what the known workers explain */
    double clear_before; /* workers before a step down */

    uint64_t probe_us;     /* earliest next probe */
    uint64_t probe_gap_us; /* doubles with each failure */
    uint64_t bound_us;     /* when it last was full and wanted */
    uint64_t alive_us;     /* last completion, or when the first of those in flight was sent */
    uint64_t trial_us;     /* during a pause: when one more may be sent */
    uint64_t trial_gap_us;

    struct {
        uint32_t moves, from, to, samples, base_samples;
        uint16_t reason;
        bool is_binding;
        double latency_us, base_us, ratio, error;
        uint64_t when_us;
    } proposal;
};
#endif
