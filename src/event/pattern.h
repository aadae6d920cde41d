/* SPDX-License-Identifier: Apache-2.0 */
/* pattern: regular expressions that cannot be slow.
 *
 * Compiled to a small automaton that follows all alternatives at once (Thompson 1968): time is
 * bytes x steps, whatever the pattern.  libc's regcomp can use exponential memory on a few hostile
 * bytes, and a filter comes over the network.
 * Knows: literals . [a-z] [^a-z] \d \w \s \<punctuation> * + ? | ( ) ^ $.  Matches anywhere unless
 * anchored. Pure, no allocation.  Threads: a compiled pattern is read-only. */
#ifndef FB_EVENT_PATTERN_H
#define FB_EVENT_PATTERN_H
#include "base/error.h"
#include "base/span.h"

#define PATTERN_STEPS_MAX 128
#define PATTERN_DEPTH_MAX 16 /* nested groups */

struct pattern_step {
    uint8_t kind;
    uint8_t is_negated;   /* classes */
    uint16_t next, other; /* where to go on */
    uint32_t set[8];      /* bytes that match */
};
struct pattern {
    struct pattern_step step[PATTERN_STEPS_MAX];
    uint16_t count, start;
};

/* Errors: FORMAT (what is wrong and where), NOMEM (more than PATTERN_STEPS_MAX steps). */
FB_MUST_USE
enum fb_code pattern_compile(struct pattern *p, struct span text, struct fb_err *err);
bool pattern_matches(const struct pattern *p, struct span subject);
#endif
