/* SPDX-License-Identifier: Apache-2.0 */
/* runner: the connectors of a configuration, each on a thread of its own.
 *
 *   connectors_apply (reload) -> threads: sink.c  log -> records -> broker -> offset in state.db
 *                                         source.c broker -> events -> ingress -> durable -> commit
 *
 * Promises.  Sink: each event that the filter takes is delivered at least once; the offset moves
 * only over what was delivered or written to the dead-letter file, so that after a crash at most a
 * batch (in_flight blocks) and the deliveries of the last 100 ms are sent again; (node, offset)
 * tells repeats.  The order of a key is the order of the log.  Source: a message is acknowledged
 * when its events are synced in the log; its position is kept in state.db, and a message at or
 * before that position is dropped.  A dead, slow or refusing broker stops its own thread only.
 *
 * Threads: every function here belongs to the brain's loop and never waits, except connectors_free
 * (at most 3.5 s). */
#ifndef FB_STREAM_CONNECTORS_RUNNER_H
#define FB_STREAM_CONNECTORS_RUNNER_H
#include "conf/conf.h"
#include "event/filter.h"
#include "event/ingress.h"
#include "guard/keyring.h"

#define CONNECTORS_MAX 32

struct connectors_setup {
    const char *state_dir; /* state.db, connectors/NAME.dead.jsonl; log in <state_dir>/log */
    const char *node;      /* name, for client ids */
    uint32_t epoch;
    /* Where the log ended when foldback started: what an earlier process left behind that is of
     * another log. */
    uint64_t log_end;
    struct ingress *ingress;   /* where sources put events */
    struct keyring *keys;      /* dead letters are sealed with it; NULL: none */
    struct filter_names names; /* called from the threads */
    /* An event for people, with the names' ctx; from the threads. */
    void (*sentence)(void *ctx, const struct ev_head *ev, struct buf *out);
};

enum connector_state {
    CONNECTOR_STARTING,
    CONNECTOR_RUNNING,
    CONNECTOR_FAILING,       /* tries again, with backoff */
    CONNECTOR_MISCONFIGURED, /* needs a hand; looks again each minute */
    CONNECTOR_PAUSED,
    CONNECTOR_ENDED
};

/* What became of the last order to send dead letters again. */
enum resend_state { RESEND_NONE, RESEND_WAITS, RESEND_RUNS, RESEND_DONE, RESEND_ENDED };
struct connector_resend {
    uint32_t number; /* of the order, of all connectors; 0: none yet */
    enum resend_state state;
    uint64_t sent, kept; /* taken by the receiver and removed; tried, and still there */
    char text[200];      /* ENDED: why before its time; DONE: why one stays; "" none does */
};

struct connector_status {
    char name[48], type[16];
    bool is_source;
    enum connector_state state;
    uint64_t offset;                 /* sink: next event to deliver */
    uint64_t oldest_wall_us;         /* of the oldest event (source: message) that waits, 0: none */
    uint64_t level_wall_us;          /* sink: when nothing waited last, or it began */
    uint64_t lag_events, lag_us;     /* UINT64_MAX events: unknown */
    uint64_t events, records, bytes; /* delivered, or taken in */
    uint64_t errors, retries;        /* failed sends or receives; records sent again */
    uint64_t split;                  /* too large */
    uint64_t dead, bad;              /* in the dead-letter file; of them not readable */
    uint64_t lost;                   /* retention took them before they were sent */
    uint64_t repeated;               /* source: dropped as known */
    uint32_t in_flight;              /* records with the broker now */
    uint64_t failing_since_us;       /* by the clock of the machine, 0 when it does not fail */
    uint64_t failing_us;             /* how long it fails */
    char last_error[320];            /* "" none yet */
    uint64_t last_error_wall_us;
    uint64_t lag_alert_us; /* of the configuration */
    uint64_t displaced;    /* sink: positions that are of another log (anchor.h) */
    char displaced_text[320];
    struct connector_resend resend;
};

struct connectors;
struct connectors *connectors_new(const struct connectors_setup *setup); /* NULL without memory */
/* Calls <settle> each 5 ms while it waits: takes the ingress and flushes, so that sources see what
 * they handed over become durable. */
void connectors_free(struct connectors *cs, void (*settle)(void *arg), void *arg);
/* Starts, ends and restarts what differs; what stays the same goes on.  <conf> is kept (ref). */
void connectors_apply(struct connectors *cs, struct conf *conf);
/* Each 100 ms or so: restarts what had to end first. */
void connectors_tick(struct connectors *cs);
/* In the order of names; returns how many. */
uint32_t connectors_status(struct connectors *cs, struct connector_status *out, uint32_t max);

enum connector_verb { CONNECTOR_PAUSE, CONNECTOR_RESUME, CONNECTOR_RESET };
struct connector_order {
    enum connector_verb verb;
    const char *name;
    bool has_place;  /* of a reset: a sink needs one, a source takes none */
    uint64_t offset; /* LOG_FROM_START, LOG_FROM_END, or where to go on */
};
/* Pausing survives a restart.  Reset of a source forgets its positions.  FB_E_NOT_FOUND;
 * FB_E_RANGE: a sink that is told no place would send again all that the log has, a source has no
 * other one. */
FB_MUST_USE
enum fb_code connectors_order(struct connectors *cs, const struct connector_order *order,
                              struct fb_err *err);

/* Sends the dead letter with this id, or all ("") that there are now, again; see resend.h.
 * *number: of the order, in connectors_status.  FB_E_NOT_FOUND, FB_E_CONFLICT: not now. */
FB_MUST_USE
enum fb_code connectors_resend(struct connectors *cs, const char *name, const char *id,
                               uint32_t *number, struct fb_err *err);

/* Opens connector <c> of a configuration outside of a running foldback and checks it; for the
 * command line.  Blocks for <timeout_ms> at most; 0: it is opened only, no broker is asked. */
struct connector_type;
typedef void connectors_step(void *arg, bool is_good, const char *text);
FB_MUST_USE
enum fb_code connectors_check(const struct conf_connector *c, uint32_t timeout_ms,
                              connectors_step *step, void *arg, struct fb_err *err);
#endif
