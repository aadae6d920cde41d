/* SPDX-License-Identifier: Apache-2.0 */
/* scenario: what the demos do and when, as tables; times are shares of the whole length, so that
 * --seconds only stretches them.
 *
 * Threads: any; constant data. */
#ifndef FB_DEMO_SCENARIO_H
#define FB_DEMO_SCENARIO_H
#include "event/event.h"

#define DEMO_ENDPOINTS 4
#define DEMO_STEPS_MAX 8
#define DEMO_FAULTS_MAX 6
#define DEMO_DEADLINE_US (500 * US_PER_MS) /* an answer later than this is of no use to a user */
#define DEMO_PATIENCE_US (2 * US_PER_S)    /* when users give up */

enum demo_kind {
    DEMO_KIND_REQUEST, /* one request, one answer */
    DEMO_KIND_STREAM, /* event stream: a viewer that stays; in time = each event within the deadline
                       */
    DEMO_KIND_WEBSOCKET, /* upgraded connection with small echoed messages */
};
/* Load is <multiple> x the base rate from <at> on, reached in a straight line from the step before
 * when ramp. */
struct demo_step {
    double at, multiple;
    bool is_ramp;
    const char *says;
};
enum demo_fault_kind { DEMO_FAULT_SLOW, DEMO_FAULT_FAIL, DEMO_FAULT_PAUSE, DEMO_FAULT_DIE };
/* From <at> to <until> endpoint <endpoint> is slower by <factor>, answers 500 at once, pauses
 * <factor> ms of each 2 s, or refuses connections. */
struct demo_fault {
    double at, until;
    uint8_t endpoint;
    enum demo_fault_kind kind;
    double factor;
    const char *says;
};
struct demo_mix { /* one row per class */
    uint8_t class;
    enum demo_kind kind;
    double share;
    const char *path, *method;
};
struct demo_scenario {
    const char *name, *says;
    uint32_t seconds;
    double base_per_s;     /* arrivals at multiple 1 */
    uint32_t workers;      /* per endpoint */
    double mean_ms, sigma; /* log-normal service time */
    struct demo_step steps[DEMO_STEPS_MAX];
    size_t step_count;
    struct demo_fault faults[DEMO_FAULTS_MAX];
    size_t fault_count;
    struct demo_mix mix[EV_CLASS_COUNT];
};
const struct demo_scenario *demo_scenario_find(const char *name); /* NULL when unknown */
/* Name of scenario <i>, NULL behind the last. */
const char *demo_scenario_name(size_t i);
/* Arrivals per second at <at> (0..1). */
double demo_rate(const struct demo_scenario *sc, double at);
/* Sentence of what goes on at <at>. */
const char *demo_says(const struct demo_scenario *sc, double at);
#endif
