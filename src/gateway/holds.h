/* SPDX-License-Identifier: Apache-2.0 */
/* holds: how many requests each client has in hand, in one table of fixed size.
 *
 *   table: sets of seven words and a lock = one cache line; key -> one set, by its seeded hash.
 *   word:  44 bits of the key | 20 bits of count; 0: free.
 *
 * A word lives while its count is above 0, so nothing is swept and nobody is pushed out: a set that
 * is full of others counts no more clients until one of them has nothing in hand.  Such a client
 * passes uncounted: the alternative is to refuse somebody who did nothing.
 *
 * Holds always: memory is what holds_new took; a client's count is exact over all threads; what was
 * taken is given back by its place, whatever the configuration says by then.
 * Threads: any.  <key>: a hash with a secret seed, or clients could choose the set of others. */
#ifndef FB_GATEWAY_HOLDS_H
#define FB_GATEWAY_HOLDS_H
#include "base/base.h"

#define HOLDS_COUNT_MAX 1000000

struct holds;
enum holds_answer { HOLDS_TAKEN, HOLDS_REFUSED, HOLDS_UNCOUNTED };

/* Room for at least <clients>, in a table whose size is a power of two; NULL without memory. */
struct holds *holds_new(uint32_t clients);
void holds_free(struct holds *h); /* NULL is fine */

/* One more of <key>, unless it has <most> (1..HOLDS_COUNT_MAX).  TAKEN sets *<place>, never 0. */
enum holds_answer holds_take(struct holds *h, uint64_t key, uint32_t most, uint32_t *place);
void holds_give(struct holds *h, uint32_t place);
/* Of all clients; walks the whole table. */
uint64_t holds_sum(struct holds *h);
#endif
