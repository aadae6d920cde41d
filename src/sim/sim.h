/* SPDX-License-Identifier: Apache-2.0 */
/* sim: a service, its endpoints and its clients in virtual time, driven through the real gate.
 *
 * Discrete events; one seed is one outcome, on every machine.  A scenario is a row of scenario.c;
 * overrides change single parameters of it.  What is modelled: Poisson arrivals (phases or a trace)
 * or clients in a closed loop, classes, patience, clients that try again; endpoints with workers
 * and one FIFO queue, service times exponential, lognormal or constant, slow-downs, stalls,
 * failures, death, cold start; several gateways, each with its own gate.  Not modelled: network and
 * CPU of the gateway.
 *
 * Errors: out of memory, unknown names, values out of range.  Threads: any; a run shares nothing.
 */
#ifndef FB_SIM_SIM_H
#define FB_SIM_SIM_H
#include "base/error.h"
#include "base/json.h"
#include "knob/knob.h"
#include "reflex/gate.h"
#include "sim/scenario.h"

#define SIM_SECONDS_MAX 600
#define SIM_TRACE_MAX 4096

/* What the caller wants otherwise than the scenario says; sim_overrides_init sets "as the
 * scenario". */
struct sim_overrides {
    int balance;       /* enum gate_balance; -1 */
    int is_learned;    /* limit learned; -1 */
    int limit_fixed;   /* 0 none; -1 */
    int is_ejecting;   /* -1 */
    int is_codel;      /* -1 */
    int queue_wait_ms; /* -1 */
    int queue_capacity;
    int gateways;        /* -1 */
    int exchange_ms;     /* gateways tell each other their load so often; -1, 0: never */
    int timeout_ms;      /* -1 */
    int is_looping;      /* the control engine turns knobs; -1 */
    int clients;         /* of a closed loop; -1 */
    double retry_pct;    /* -1 */
    double load_factor;  /* times the scenario's load; 1 */
    double time_factor;  /* times the scenario's length; 1 */
    double stretch;      /* times the service times, and the rate as much lower; 1 */
    uint32_t trace_rows; /* > 0: arrivals from the trace, not from phases */
    struct sim_trace_row {
        double seconds;  /* how long this row lasts */
        double requests; /* in that time */
    } trace[SIM_TRACE_MAX];
};
void sim_overrides_init(struct sim_overrides *o);
/* "balance" "limit" (learned, none or a number) "eject" "codel" "loops" (on, off) "queue_wait_ms"
 * "queue_capacity" "gateways" "exchange_ms" "timeout_ms" "clients" "retry_pct" "load" "time"
 * "stretch". */
FB_MUST_USE
enum fb_code sim_override(struct sim_overrides *o, const char *key, const char *value,
                          struct fb_err *err);
/* Lines "seconds,requests"; a first line that is no number is a heading. */
FB_MUST_USE
enum fb_code sim_override_trace(struct sim_overrides *o, struct span csv, struct fb_err *err);

/* One group of requests: all, one class, one phase. */
struct sim_count {
    uint64_t offered;   /* requests of clients, each counted once however often it was tried */
    uint64_t good;      /* answered without error and in time */
    uint64_t late;      /* answered without error, too late */
    uint64_t failed;    /* 5xx of an endpoint, reset, timeout */
    uint64_t shed;      /* refused by the gate */
    uint64_t abandoned; /* the client left first */
};
struct sim_result {
    struct sim_count all, class[EV_CLASS_COUNT];
    struct sim_count heavy, light; /* the one heavy user and the others */
    double light_worst_pct;        /* good of the other user who had least of what he asked */
    double light_p99_ms, heavy_p99_ms;
    struct sim_count phase[SIM_PHASES_MAX], phase_class[SIM_PHASES_MAX][EV_CLASS_COUNT];
    double capacity_good_pct[SIM_PHASES_MAX]; /* good per second of the phase / nominal capacity */
    double p50_ms, p99_ms, p999_ms;           /* of good and late ones, measured from arrival */
    double phase_p99_ms[SIM_PHASES_MAX];
    uint64_t attempts;       /* sends to endpoints */
    uint64_t retries;        /* of them, after the first */
    uint64_t worst_attempts; /* largest attempts / arrivals at the gates in one second, x 1000 */
    double amplification;    /* attempts / requests that reached an endpoint at all */
    double share0;           /* of the sends to the first endpoint of the measured time */
    double share_last;       /* to the last one */
    double far_share;        /* to other zones */
    double same_endpoint;    /* of first sends of users seen before: where the last one went */
    double work_wasted_pct;  /* endpoint work on answers that nobody waited for */
    uint32_t ejections, panics;
    /* with loops on: */
    uint32_t decisions, loop_freezes;
    uint32_t loop_moves[KNOB_COUNT], loop_reversals[KNOB_COUNT]; /* not of the limit */
    double timeout_ms;                                           /* at the end */
    uint32_t seconds;
    struct {
        uint32_t offered, good;
        uint16_t limit[4],
            in_flight[4];         /* of the first endpoints at the first gateway, at its end */
    } by_second[SIM_SECONDS_MAX]; /* by time of arrival */
    uint64_t events;
    uint64_t hash; /* of all outcomes in order: equal for equal runs */
};
FB_MUST_USE
enum fb_code sim_run(const struct sim_scenario *scenario, uint64_t seed,
                     const struct sim_overrides *o, struct sim_result *result, struct fb_err *err);
double sim_good_pct(const struct sim_count *c); /* of offered; 100 when nothing was offered */
void sim_print_text(struct buf *out, const struct sim_scenario *scenario, uint64_t seed,
                    const struct sim_result *result);
/* One object. */
void sim_print_json(struct json *j, const struct sim_scenario *scenario, uint64_t seed,
                    const struct sim_result *result);
#endif
