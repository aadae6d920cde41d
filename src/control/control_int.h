/* SPDX-License-Identifier: Apache-2.0 */
/* control_int: the state of the engine and what its parts say to each other.
 *
 * Everything that decides lives in struct engine_state: flat, pointer-free, without padding bytes
 * that an assignment could leave undefined, so that a snapshot is a copy and two folds compare byte
 * by byte. Order at a tick: facts, expiries, loops by id, verifier; inside each by knob, then by
 * target number. */
#ifndef FB_CONTROL_CONTROL_INT_H
#define FB_CONTROL_CONTROL_INT_H
#include "analytics/curve.h"
#include "analytics/signal.h"
#include "control/engine.h"

#define CONTROL_KINDS 5
#define CONTROL_NAME_BYTES 104
#define CONTROL_REVERSALS 8
#define CONTROL_CHANGES_MAX                                                                        \
    64 /* configuration changes told per tick; more are applied but not told */

enum expected { EXPECT_NONE, EXPECT_LOWER, EXPECT_HIGHER, EXPECT_KEEP };
enum actor { ACTOR_LOOP, ACTOR_OPERATOR, ACTOR_VERIFIER };
enum direction { DIRECTION_NONE, DIRECTION_UP, DIRECTION_DOWN };

struct name_cell {
    char name[CONTROL_NAME_BYTES];
    uint16_t parent, version;
    uint8_t is_used, reserved[3];
};

/* A decision that waits for its verdict. */
struct pending {
    uint64_t decision_id;    /* 0: none waits */
    uint64_t from_us, at_us; /* the move; when to look */
    double from, to;         /* of the whole chain of moves in one direction */
    double before, offered_before;
    uint64_t n_before;
    uint16_t fact, number;
    uint8_t expected, window, kind, loop;
};
_Static_assert(sizeof(struct pending) == 72, "no padding");

/* What arbiter and verifier remember of one knob of one target. */
struct cell {
    uint64_t cooldown_until_us;
    uint64_t frozen_until_us, pin_until_us, mode_until_us; /* 0: until an operator ends it */
    uint64_t reversal_us[CONTROL_REVERSALS];               /* newest last; 0: none */
    uint64_t gain_us;                                      /* when the gain last changed */
    double recommended;                                    /* last value told in mode recommend */
    struct pending pending;
    uint8_t direction, halvings; /* of the last move; gain = 1 / 2^halvings */
    uint8_t has_recommended;
    uint8_t mode_before, mode_configured; /* to go back to; as configuration said */
    uint8_t is_frozen_by_verifier, reserved[2];
};
_Static_assert(sizeof(struct cell) == 192, "no padding");

/* The newest proposal of an endpoint's learner since the last tick. */
struct limit_loop {
    double latency_us, base_us, ratio, error;
    uint64_t at_us;
    uint32_t limit_from, limit_to, samples, base_samples;
    uint32_t moves; /* 0: nothing proposed */
    uint16_t reason, reserved;
};
/* Half a second of one service, and the PI controller's memory. */
struct shed_loop {
    uint32_t arrived[EV_CLASS_COUNT];
    uint32_t at_door, in_queue,
        sent; /* shed by the threshold; shed while queued; sent to an endpoint */
    uint32_t queued_before;
    uint32_t free_ticks, reserved;    /* ticks in a row with free slots and no queue */
    double histogram[EV_CLASS_COUNT]; /* arrivals by class, halved each second */
    double integral, share;           /* share of arrivals to refuse */
    double error;                     /* smoothed */
    uint64_t cause_us;
};
/* Two halves of the last 5 to 10 s of one route. */
struct timeout_loop {
    uint32_t sent[2], timeouts[2];
    uint32_t upper[2];                  /* answers that took more than half of the timeout */
    uint32_t run_answers, run_timeouts; /* since the last run */
    uint32_t run_upper, reserved2;
    uint64_t half_from_us, first_us, cause_us;
    uint64_t probed_us;                          /* last widening without evidence */
    double probe_back_ms;                        /* 0: no probe runs */
    uint16_t service, unclear_runs, reserved[2]; /* runs whose time-outs had no clear cause */
};
struct retry_loop {
    uint64_t cause_us, full_us; /* newest request; when the limit last bound */
};
/* A configuration change that dropped a learned value, to be told at the next tick. */
/* One route: requests that may be sent twice [0] and held-out ones [1]. */
struct hedge_loop {
    double slow_us; /* q99 of the route: slower ones are counted */
    uint64_t first_us, cause_us, half_us, off_until_us;
    uint32_t all[2], slow[2];
    uint16_t service, reserved[3];
};
_Static_assert(sizeof(struct hedge_loop) == 64, "no padding");

/* What one signal is compared with: a release that is looked at, and what is usual. */
enum watch_state { WATCH_OFF, WATCH_LOOKING, WATCH_HARMED };
struct signal_watch {
    struct signal_base base;  /* before the release */
    struct signal_sum sum;    /* since */
    double from, to;          /* share of the new versions, in per cent; 0, 100: a deploy marker */
    uint64_t since_s, next_s; /* the release; first second that is not in <sum> yet */
    uint64_t over_s;          /* harm: when the alert ends at the latest */
    uint16_t route;           /* EV_NONE: a deploy marker */
    uint8_t state, by_version, reserved[4]; /* by_version: the sides are what was compared */
};
struct signal_normal {
    struct signal_base base; /* while abnormal: what was usual before */
    uint64_t since_s;        /* abnormal since; 0: it is not */
    uint32_t odd_s, calm_s;  /* seconds in a row out of and within the bounds */
};
struct signal_guard {
    struct signal_watch watch;
    struct signal_normal normal;
};
_Static_assert(sizeof(struct signal_guard) == 160, "no padding");

struct change {
    double from;
    uint16_t knob, target, reserved[2];
};

struct engine_state {
    uint64_t now_us, ticks;
    uint64_t decision_id; /* of the last decision: they are dense */
    uint64_t config_hash;
    uint32_t mode, change_count;
    uint16_t top[CONTROL_KINDS], reserved[3]; /* highest used number + 1 */
    struct name_cell name[CONTROL_KINDS][KNOB_TARGETS_MAX];
    struct cell cell[KNOB_COUNT][KNOB_TARGETS_MAX];
    struct limit_loop limit[KNOB_TARGETS_MAX];
    struct shed_loop shed[KNOB_TARGETS_MAX];
    struct timeout_loop timeout[KNOB_TARGETS_MAX];
    struct retry_loop retry[KNOB_TARGETS_MAX];
    struct hedge_loop hedge[KNOB_TARGETS_MAX];
    uint64_t drain_until_us[KNOB_TARGETS_MAX];
    uint8_t is_drained[KNOB_TARGETS_MAX];
    double objective[KNOB_TARGETS_MAX]; /* share of requests that must be in time; 0: none */
    uint8_t is_missed[KNOB_TARGETS_MAX];
    struct change change[CONTROL_CHANGES_MAX];
    struct signal_guard guard[SIGNALS_MAX];
    float split_seen[KNOB_TARGETS_MAX]; /* share of new versions + 1; 0: not looked at yet */
};

struct engine {
    struct engine_state s;
    struct knob_book book;
    struct facts *facts;
    struct curves *curves;
    struct customs *customs;
    struct signals *signals;
    struct engine_target *targets; /* a copy of the configuration; not part of a snapshot */
    size_t target_count;
    struct engine_out *out; /* during engine_feed only; may be NULL */
};

static inline struct knob_layer *control_layer(struct engine *e, uint16_t knob, uint16_t target)
{
    return &e->book.layer[knob][target];
}
static inline double control_value(const struct engine *e, uint16_t knob, uint16_t target)
{
    return knob_effective(knob_row(knob), &e->book.layer[knob][target], NULL);
}
static inline struct fact_scope control_scope(enum ev_kind kind, uint16_t number)
{
    return (struct fact_scope){.kind = kind, .number = number};
}
/* Puts one record out; counts it as dropped when there is no room. */
void control_emit(struct engine *e, const struct ev_head *ev);
/* Applies the configuration to a target that has just got its name, and to what belongs to it. */
void control_apply_config(struct engine *e, enum ev_kind kind, uint16_t number);

/* command.c */
void command_feed(struct engine *e, const struct ev_command *c);
void command_expire(struct engine *e); /* pins, modes, freezes and drains whose time has come */

/* loop_*.c: <feed> sees every event of its type, <run> is called at the loop's period. */
void loop_limit_feed(struct engine *e, const struct ev_proposal *p);
void loop_limit_gauge(struct engine *e, const struct ev_gauge *g);
void loop_limit_run(struct engine *e);
void loop_shed_feed(struct engine *e, const struct ev_request *r);
/* Each tick; <is_due>: every 500 ms. */
void loop_shed_run(struct engine *e, bool is_due);
void loop_timeout_feed(struct engine *e, const struct ev_request *r);
void loop_timeout_run(struct engine *e);
void loop_retry_feed(struct engine *e, const struct ev_request *r);
void loop_retry_run(struct engine *e);
void loop_hedge_feed(struct engine *e, const struct ev_request *r);
void loop_hedge_run(struct engine *e);
void loop_cache_feed(struct engine *e, const struct ev_cache_sample *s);
void loop_cache_run(struct engine *e);
void loop_fleet_feed(struct engine *e, const struct ev_fleet_share *s);
/* release.c: does a release harm a signal?  <marker>: an event of a deploy. */
void release_marker(struct engine *e, const struct ev_custom *marker);
void release_run(struct engine *e);
/* A signal of <service> that a move at <from_us> harmed, NULL: none; <base>, <sum>: what was
 * compared. */
const struct signal *release_harmed(const struct engine *e, uint16_t service, uint64_t from_us,
                                    struct signal_base *base, struct signal_sum *sum);
/* The place <i> has another signal now. */
void release_forget(struct engine *e, uint32_t i);
/* anomaly.c: each second. */
void anomaly_run(struct engine *e);
/* objective.c: each second. */
void objective_run(struct engine *e);
#endif
