/* SPDX-License-Identifier: Apache-2.0 */
/* engine: analytics and control as one fold over the event log: state = fold(snapshot, events).
 *
 * The brain feeds it live, `foldback replay` feeds it a recorded log, sim/ feeds it modelled
 * events: the same object code, the same decisions, bit for bit.  Pure: time comes in tick events,
 * operators come in command events, configuration comes as a struct (and is in the log as config
 * events).
 *
 *   feed(event) -> facts;  feed(tick) -> loops due at this tick -> arbiter -> knob book, decision
 * events verifier -> outcome events, reverts, freezes
 *
 * Decisions come out as events (ev_decision, ev_outcome, ev_alert) that the caller puts into the
 * log directly after the tick that caused them; when fed back (replay, restart) they are skipped
 * for state, so feeding a log that holds them changes nothing. Threads: one at a time per engine.
 */
#ifndef FB_CONTROL_ENGINE_H
#define FB_CONTROL_ENGINE_H
#include "analytics/custom.h"
#include "analytics/facts.h"
#include "analytics/signal.h"
#include "knob/knob.h"

/* What configuration says of one target, by name, because numbers come later in ev_name events. */
struct engine_target {
    enum ev_kind
        kind; /* route or service; EV_KIND_ENDPOINT applies to all endpoints of service <name> */
    char name[104]; /* as in ev_name: "shop", "shop /checkout/" */
    struct knob_setting
        knob[KNOB_COUNT];    /* only the knobs of this kind matter; NAN = not configured */
    double latency_quantile; /* objective: share that must be below latency_us, 0.99; 0 none */
    uint64_t latency_us;
    double error_ratio_max; /* objective; 0 none */
};
struct engine_conf {
    uint64_t config_hash;
    const struct engine_target *targets; /* borrowed during the call */
    size_t target_count;
    const struct signal_conf *signals; /* borrowed during the call; at most SIGNALS_MAX */
    size_t signal_count;
    enum ev_mode mode; /* for targets that say nothing */
};

struct engine;
struct engine *engine_new(void); /* NULL without memory */
void engine_free(struct engine *e);
/* Before the first event and at each reload, at the place of the config event in the log. */
void engine_configure(struct engine *e, const struct engine_conf *conf);
/* Any event in log order; outputs are appended to <out> as whole records (may be NULL while
 * replaying what is only to be folded). */
struct engine_out {
    union ev_any *at;
    size_t count,
        max; /* max >= 256; what does not fit is counted in <dropped> and asserted in tests */
    size_t dropped;
};
void engine_feed(struct engine *e, const struct ev_head *ev, struct engine_out *out);

const struct facts *engine_facts(const struct engine *e);
const struct knob_book *engine_book(const struct engine *e);
const struct curves *engine_curves(const struct engine *e);
const struct customs *engine_customs(const struct engine *e);
const struct signals *engine_signals(const struct engine *e);
/* What control thinks of the signal in place <i>; false: it is free. */
bool engine_signal(const struct engine *e, uint32_t i, struct signal_view *out);
uint64_t engine_decision_count(const struct engine *e);
/* Drain and undrain commands are the gateway's to carry out: state per endpoint number. */
bool engine_is_drained(const struct engine *e, uint16_t endpoint);
/* The sentence of a decision, for people: "limit of shop 10.0.0.1:80: 40 -> 24 requests, because
 * ...". */
void engine_explain(const struct engine *e, const struct ev_decision *d, struct buf *out);
/* The same without an engine: <target> is its name, "" when unknown.  Pure.  Threads: any. */
void explain_decision(const struct ev_decision *d, const char *target, struct buf *out);
/* Name of a target as learned from ev_name, "" when unknown. */
const char *engine_name(const struct engine *e, enum ev_kind kind, uint16_t number);

void engine_save(const struct engine *e,
                 struct buf *out); /* snapshot: facts, book, loops, verifier, names */
FB_MUST_USE
enum fb_code engine_load(struct engine *e, struct span bytes, struct fb_err *err);
/* xxh64-like hash of the whole state, to compare two folds. */
uint64_t engine_hash(const struct engine *e);
#endif
