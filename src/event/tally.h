/* SPDX-License-Identifier: Apache-2.0 */
/* tally: many samples of few names become one event per name and interval.
 *
 *   counter  the sum, each sample divided by its rate      gauge  the last value
 *   timer    the mean, with {"n", "min", "max", "sum"} as the text
 *   set      how many different members (within 3 % up to 4,000)
 *
 * A name is a name of one kind: `a` as counter and as gauge are two, the second is refused.
 * Pure.  Memory: TALLY_NAMES_MAX places of about 400 bytes.  Threads: one at a time. */
#ifndef FB_EVENT_TALLY_H
#define FB_EVENT_TALLY_H
#include "event/event.h"
#include "event/ingest.h"

#define TALLY_NAMES_MAX 512u /* in one interval */

enum tally_kind { TALLY_COUNTER, TALLY_GAUGE, TALLY_TIMER, TALLY_SET };
struct tally_sample {
    enum tally_kind kind;
    const char *name;     /* as intake_name makes it */
    double value, weight; /* weight: samples that it stands for */
    struct span member;   /* of a set */
    bool is_relative;     /* gauge */
};
struct tally;
/* <key>: secret, or senders could choose names that stand in each other's way.  NULL without
 * memory.
 */
struct tally *tally_new(const uint64_t key[2]);
/* Most places that one name was looked for at. */
uint32_t tally_longest(const struct tally *t);
void tally_free(struct tally *t);
/* False: no place, or a name of another kind. */
FB_MUST_USE
bool tally_add(struct tally *t, const struct tally_sample *s);
/* Appends what came since tally_reset; changes nothing. */
void tally_write(const struct tally *t, struct buf *out);
/* A new interval: gauges keep their value for relative ones, names that were silent are dropped. */
void tally_reset(struct tally *t);
uint32_t tally_names(const struct tally *t); /* that have something to say */
#endif
