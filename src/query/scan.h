/* SPDX-License-Identifier: Apache-2.0 */
/* scan: the events of a log within bounds, with the names that hold where each stands.
 *
 * Blocks outside the time bounds are passed over by their headers.  A time bound means the wall
 * clock of each event; where the clock was set back, later events may fall inside again, and they
 * are found.  Holes are counted, never silently passed.
 * Threads: one at a time per struct scan. */
#ifndef FB_QUERY_SCAN_H
#define FB_QUERY_SCAN_H
#include "query/names.h"
#include "stream/reader.h"

#include <signal.h>
#include <stdatomic.h>

/* What all scans of one command share. */
struct scan_source {
    const char *dir; /* of the log */
    /* Names in force before the event <offset>; may be NULL.  False without memory. */
    bool (*names_at)(void *arg, uint64_t offset, struct names *names);
    void *arg;
    const volatile sig_atomic_t *is_stopped; /* set by a signal handler; may be NULL */
    const atomic_bool *is_left;              /* set by another thread; may be NULL */
    uint64_t stop_us;                        /* fb_mono_us at which it ends; 0: never */
    void (*on_progress)(void *arg, uint64_t scanned, uint64_t left); /* each 2^18; may be NULL */
    /* Sums over all scans. */
    uint64_t scanned, holes, missing;
};

struct scan_bounds {
    uint64_t from_offset, until_offset; /* [from, until); 0 and UINT64_MAX: none */
    uint64_t since_us, until_us;        /* [since, until) wall clock; 0 and UINT64_MAX: none */
    uint64_t types;                     /* bit per event type that is wanted; 0: all */
};

struct scan_event {
    const struct ev_head *ev; /* borrowed until the next call */
    uint64_t offset, wall_us, node;
};

struct scan {
    struct scan_source *source;
    struct scan_bounds bounds;
    struct log_reader *reader;
    struct names base, names;
    uint64_t base_at; /* offset for which <base> holds; UINT64_MAX: not asked yet */
    bool is_at_end;
};

/* By the signal, the other thread or the clock. */
bool scan_source_is_stopped(const struct scan_source *source);
FB_MUST_USE
enum fb_code scan_open(struct scan *s, struct scan_source *source, struct fb_err *err);
void scan_close(struct scan *s);
/* Begins again with other bounds. */
FB_MUST_USE
enum fb_code scan_begin(struct scan *s, const struct scan_bounds *bounds, struct fb_err *err);
/* After FB_E_END: looks for what came since. */
void scan_go_on(struct scan *s);
/* FB_E_END: no more now.  FB_E_AGAIN: stopped.  Else see err. */
FB_MUST_USE
enum fb_code scan_next(struct scan *s, struct scan_event *event, struct fb_err *err);
/* Feeds the name events of [from, until) to <names>: for names_at. */
FB_MUST_USE
enum fb_code scan_learn(const char *dir, uint64_t from, uint64_t until, struct names *names);
#endif
