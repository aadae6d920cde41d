/* SPDX-License-Identifier: Apache-2.0 */
/* series: what totals have grown by since they were told last (cumulative points of OTLP).
 *
 *   first point            nothing, but all of it when it began to count after this table was made
 *   later                  what it grew by
 *   began anew, or smaller all of it: the counter was reset
 *   not newer              nothing: it came twice
 *
 * What a request changed is undone by series_undo, so that one that is refused may come again.
 * Holds always: at most SERIES_MAX series; one that was silent for SERIES_SILENT_S gives its place
 * to a new one.  Pure: time is an argument.  Memory: about 600 KiB.  Threads: one at a time. */
#ifndef FB_EVENT_SERIES_H
#define FB_EVENT_SERIES_H
#include "base/base.h"

#define SERIES_MAX 8192u
#define SERIES_SILENT_S 900

struct series_point {
    uint64_t id;                /* hash of all that tells it from others */
    uint64_t start_ns, time_ns; /* since 1970; 0 unknown */
    double value, count;        /* totals; what they grew by after series_grow */
};
enum series_result {
    SERIES_GREW,
    SERIES_NOTHING, /* nothing new, or nothing known of before */
    SERIES_FULL
};

struct series;
/* <key>: secret, or senders could choose places.  NULL without memory. */
struct series *series_new(const uint64_t key[2], uint64_t now_ns);
void series_free(struct series *s);
void series_begin(struct series *s, uint64_t now_s); /* a request; what was before stays */
FB_MUST_USE
enum series_result series_grow(struct series *s, struct series_point *p);
void series_undo(struct series *s); /* as it was at series_begin */
#endif
