/* SPDX-License-Identifier: Apache-2.0 */
/* rate: how often somebody may ask: token buckets and quotas in one table of fixed size.
 *
 * A bucket is GCRA (the leaky bucket of ATM): one number per key, the time at which it would be
 * full again; a request moves it by the gap between two requests and passes while it lies at most
 * <burst> gaps ahead.  A quota counts in windows that begin at multiples of its period, so that
 * `10000/d` is a day of UTC.
 *
 *   table: sets of four entries of 16 bytes = one cache line; key -> one set, by its seeded hash.
 *
 * An entry whose bucket is full again (or whose window is over) says the same as no entry, so it is
 * free for others: nothing is swept.  In a set of four live entries a new key takes the place of
 * the one that is nearest to being full, the least that can be forgotten: a flood of keys that are
 * used once pushes out itself, and not the one that is far over its limit.
 *
 * Holds always: memory is what rate_table_new took; one look-up touches one cache line; of one key
 * that nobody pushes out at most burst + time / gap pass, over all threads.  A thread that writes
 * while its entry changes hands can cost the new key at most one full bucket, once.
 * Pure.  Threads: any, without locks.  <key>: a hash with a secret seed, or clients could choose
 * the set of others.  Time: microseconds since 1970 that never go back (base/clock.h). */
#ifndef FB_REFLEX_RATE_H
#define FB_REFLEX_RATE_H
#include "base/base.h"

#include <stdatomic.h>

struct rate_table;

struct rate_limit {
    uint64_t count, period_us; /* requests per period; count <= 1000 x period_us */
    uint64_t burst;            /* most at once, 1 or more; a quota has none */
    bool is_quota;
};
struct rate_verdict {
    bool is_passed;
    bool has_pushed;   /* another key that was not full was forgotten for this one */
    uint64_t left;     /* requests that may come at once after this one */
    uint64_t wait_us;  /* until one more would pass; 0 when one would now */
    uint64_t reset_us; /* until the bucket is full, or the window is over */
};

/* Room for at least <entries> keys, a power of two; NULL without memory. */
struct rate_table *rate_table_new(uint32_t entries);
void rate_table_free(struct rate_table *t); /* NULL is fine */

/* One request of <key>. */
struct rate_verdict rate_take(struct rate_table *t, const struct rate_limit *l, uint64_t key,
                              uint64_t now_us);
/* Gives back what the last rate_take of this key took: another limit refused the request. */
void rate_give(struct rate_table *t, const struct rate_limit *l, uint64_t key, uint64_t now_us);
/* Keys that are not full now; walks the whole table. */
uint32_t rate_table_live(const struct rate_table *t, uint64_t now_us);
#endif
