/* SPDX-License-Identifier: Apache-2.0 */
/* statsd: one line of StatsD or DogStatsD.
 *
 *   name:1|c|@0.1|#tag:x   counter      name:-3|g    gauge, relative with a sign
 *   name:12:15|ms h d      timer, histogram, distribution: one or more values
 *   name:user7|s           set          _e{5,4}:title|text|...   event     _sc|name|1|m:text check
 *
 * Pure; no allocation; spans point into the line.  Threads: any. */
#ifndef FB_PROTO_STATSD_H
#define FB_PROTO_STATSD_H
#include "base/span.h"

enum statsd_kind {
    STATSD_COUNTER,
    STATSD_GAUGE,
    STATSD_TIMER, /* and histogram, distribution */
    STATSD_SET,
    STATSD_EVENT,
    STATSD_CHECK
};
struct statsd_line {
    enum statsd_kind kind;
    struct span name;   /* of an event its title */
    struct span values; /* separated by colons; of a set its member; of event and check the text */
    double rate;        /* of samples, in (0, 1] */
    double status;      /* of a check, 0 to 3 */
    struct span tags;   /* separated by commas, empty: none */
    bool is_relative;   /* gauge: +3 or -3 */
};
enum statsd_fault {
    STATSD_OK,
    STATSD_BAD_SYNTAX,
    STATSD_BAD_NAME,
    STATSD_BAD_VALUE,
    STATSD_BAD_TYPE
};

/* A line without its end; every value is a number (but a set's). */
FB_MUST_USE
enum statsd_fault statsd_parse(struct span line, struct statsd_line *out);
/* The next of <values>; false at the end. */
bool statsd_next(struct span *values, double *value);
#endif
