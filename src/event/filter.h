/* SPDX-License-Identifier: Apache-2.0 */
/* filter: which events a person wants to see.
 *
 *   status>=500 and route=~"/checkout" and total_ms>100
 *   type=decision or (class=critical and not reason=answered)
 *
 *   expression = term { "or" term };  term = factor { "and" factor };
 *   factor = "not" factor | "(" expression ")" | field op value
 *   op     = = == != < <= > >= =~ !~         value = number[us|ms|s|KiB|MiB] | word | "text"
 *
 * Fields are the fields of events.def, `type`, and X_ms / X_s for every X_us.  Numbers that stand
 * for something (route, endpoint, class, reason, ...) compare by its name when the value is no
 * number.  An event that lacks the field does not match, whatever the operator, as SQL's NULL.
 * Pure; no allocation.  Threads: a parsed filter is read-only. */
#ifndef FB_EVENT_FILTER_H
#define FB_EVENT_FILTER_H
#include "event/event.h"
#include "event/pattern.h"

#define FILTER_TEXT_MAX_BYTES 512
#define FILTER_NODES_MAX 32
#define FILTER_PATTERNS_MAX 4
#define FILTER_DEPTH_MAX 16

enum filter_op {
    FILTER_AND,
    FILTER_OR,
    FILTER_NOT,
    FILTER_EQ,
    FILTER_NE,
    FILTER_LT,
    FILTER_LE,
    FILTER_GT,
    FILTER_GE,
    FILTER_LIKE,
    FILTER_UNLIKE
};
struct filter_node {
    uint8_t op;
    bool is_number;
    uint8_t left, right; /* of AND, OR, NOT; pattern of LIKE, UNLIKE in right */
    uint8_t meaning;     /* what a number stands for */
    double number;
    double scale;               /* field value x scale is in the unit that was asked for */
    struct span text;           /* into filter.text */
    uint8_t field[EV_TYPE_END]; /* row + 1 of the field per event type; 0: none */
};
struct filter {
    struct filter_node node[FILTER_NODES_MAX];
    struct pattern pattern[FILTER_PATTERNS_MAX];
    char text[FILTER_TEXT_MAX_BYTES]; /* values point into it: do not copy the struct */
    uint8_t node_count, pattern_count, root;
    bool is_all; /* an empty expression */
};

/* Name that the number of a route, service, endpoint or version had at <time_us>, that of the
 * event;
 * "" when unknown.  NULL: none are known. */
struct filter_names {
    const char *(*name)(void *ctx, enum ev_kind kind, uint16_t number, uint64_t time_us);
    void *ctx;
};

/* Errors: FORMAT, NOMEM; the sentence says what was expected and at which character. */
FB_MUST_USE
enum fb_code filter_parse(struct filter *f, struct span text, struct fb_err *err);
/* <more> (may be NULL) lends the fields that <ev> lacks: the sample of a request. */
bool filter_matches(const struct filter *f, const struct ev_head *ev, const struct ev_head *more,
                    const struct filter_names *names);
#endif
