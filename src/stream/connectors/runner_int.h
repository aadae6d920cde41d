/* SPDX-License-Identifier: Apache-2.0 */
/* runner_int: one running connector, shared by runner.c, sink.c, source.c and positions.c.
 *
 * Fields belong to the thread unless they are under the lock or atomic. */
#ifndef FB_STREAM_CONNECTORS_RUNNER_INT_H
#define FB_STREAM_CONNECTORS_RUNNER_INT_H
#include "base/rng.h"
#include "stream/connectors/backoff.h"
#include "stream/connectors/connector.h"
#include "stream/connectors/cut.h"
#include "stream/connectors/dead.h"
#include "stream/connectors/positions.h"
#include "stream/connectors/runner.h"
#include "stream/reader.h"
#include "stream/state.h"

#include <pthread.h>
#include <stdatomic.h>

#define RUNNER_POLL_MS 20
#define RUNNER_COMMIT_US (100 * US_PER_MS)
#define RUNNER_HAND_MS 60000 /* between two looks at something that needs a hand */

struct source; /* source.c */
/* exact.c: of a source that takes each message once, whatever is killed. */
#define EXACT_HALVES_MAX 64
/* A message of which a crash left some events in the log. */
struct exact_half {
    uint32_t partition, had; /* events that the log has */
    char position[CONNECTOR_POSITION_BYTES], topic[1200];
};
struct exact {
    bool is_on;
    struct exact_half half[EXACT_HALVES_MAX];
    uint32_t half_count;
    uint64_t number;        /* of the put that is being filled */
    struct buf rows;        /* its messages */
    struct log_reader *end; /* knows how far the log is durable */
};
struct runner {
    const struct connectors_setup *setup;
    struct conf *conf; /* a reference */
    const struct conf_connector *c;
    pthread_t thread;
    bool is_started, has_regions;
    uint64_t regions; /* all regions of the configuration, to see a change */
    _Atomic bool is_stopping, is_over, is_paused, is_reset, is_woken;
    _Atomic bool is_last; /* foldback ends: nobody waits long for the thread */
    _Atomic uint64_t reset_offset;
    _Atomic bool is_resending;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct connector_status status; /* under the lock */
    char resend_id[20];             /* under the lock, as <resend_until_ms> */
    uint64_t resend_until_ms;
    /* the thread's */
    struct state *state;
    struct filter filter;
    const struct connector_type *type;
    struct connector *connector;
    struct positions positions; /* of a source: what came in */
    struct positions durable;   /* what is in the log */
    struct source *source;
    struct exact exact;
    struct rng rng;
    uint32_t attempt;
    /* sink */
    struct log_reader *reader;
    struct cut cut;
    uint64_t next, committed; /* offsets */
    uint64_t committed_us;
    uint64_t seen_offset; /* of the event read last */
    uint32_t seen_epoch;  /* ... and the start of foldback that wrote it; 0: none yet */
    uint64_t anchored, anchored_us;
    uint64_t check_us;     /* not before it: the next look at what there was nothing for to send */
    struct resend *resend; /* resend.c; NULL: none runs */
    bool is_marked;        /* the broker's account was read since the last failure */
    bool keeps_mark;       /* it has one */
    bool was_fenced;
    struct connector_mark mark;
};

/* ---- runner.c, for the thread ---- */
/* Library and connector are there; else it has waited.  False: stop or pause came. */
bool runner_is_open(struct runner *r);
/* Notes the failure; returns how long to wait in ms: backoff, or for a hand. */
uint32_t runner_note_failure(struct runner *r, const struct fb_err *err);
/* Notes the failure and waits. */
void runner_failed(struct runner *r, const struct fb_err *err);
void runner_works(struct runner *r); /* a call succeeded */
/* Waits <ms>, less when something changes; false when the thread should look around. */
bool runner_wait(struct runner *r, uint32_t ms);
bool runner_may_go_on(const struct runner *r); /* no stop, pause or reset waits */
/* To the dead-letter file.  False: it could not be written; nothing is given up for it. */
FB_MUST_USE
bool runner_bury(struct runner *r, const struct dead_letter *letter);
#define RUNNER_STATUS(r, statement)                                                                \
    do {                                                                                           \
        pthread_mutex_lock(&(r)->lock);                                                            \
        statement;                                                                                 \
        pthread_mutex_unlock(&(r)->lock);                                                          \
    } while (0)

/* ---- sink.c, source.c: until runner_may_go_on says no ---- */
FB_MUST_USE
enum fb_code sink_begin(struct runner *r, struct fb_err *err);
void sink_run(struct runner *r);
void sink_end(struct runner *r);
FB_MUST_USE
enum fb_code source_begin(struct runner *r, struct fb_err *err);
void source_run(struct runner *r);
void source_end(struct runner *r);
void source_give_back(struct runner *r); /* for struct connector_setup */
/* Writes the durable positions to state.db. */
FB_MUST_USE
enum fb_code source_keep(struct runner *r, struct fb_err *err);

/* After the positions were read: those of messages that a crash left in the log are added. */
FB_MUST_USE
enum fb_code exact_begin(struct runner *r, bool is_reset, struct fb_err *err);
void exact_end(struct runner *r);
/* Begins a put when <records> is empty; returns the bytes of its mark, 0 when there is none. */
size_t exact_mark(struct runner *r, struct buf *records);
/* So many events of <m> are in the log: they are left out of what is put. */
uint32_t exact_had(struct runner *r, const struct connector_message *m);
/* <m> became <records>, maybe none.  False without memory. */
FB_MUST_USE
bool exact_note(struct runner *r, const struct connector_message *m, struct span records);
/* ... and they stay in the put. */
void exact_noted(struct runner *r, const struct connector_message *m);
/* Before the put. */
FB_MUST_USE
enum fb_code exact_intend(struct runner *r, struct fb_err *err);

/* The place where regions are held apart: true when <ev> may leave to connector <r>. */
bool runner_region_may_pass(const struct runner *r, const struct ev_head *ev);
#endif
