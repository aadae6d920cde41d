/* SPDX-License-Identifier: Apache-2.0 */
/* fair: how much each user asks while there is too much, and how much of it the door lets in.
 *
 * A threshold (reflex/admit.h), or a share itself (reflex/success.h), says how much of a class
 * passes.  By the user's number alone that
 * share falls on users and not on requests: beside one who asks ten times as much as each of the
 * others, most of those are refused in his place.  So who asks more than others pays first:
 *
 *   asked[u]  requests of user u in the last seconds, decayed
 *   level     sum of min(asked[u], level) = share x sum of asked[u]
 *
 * Of a user above the level level / asked[u] of the requests pass, drawn by lot; the others are not
 * touched.  Where the level would cut ordinary users too (below twice the median) and there are
 * many of them, it stays there, and the rest is refused by number, as a whole: no page with half of
 * its parts.  Few users share by requests, or a single one would be all or nothing.
 *
 * Users are counted in two rows of 256 by two hashes, and the smaller count is taken: who shares a
 * place with a greedy one in one row hardly does in the other.  It counts while somebody waits or
 * is refused, so that the steady path pays nothing.  Pure.  Threads: any, one at a time per struct.
 */
#ifndef FB_REFLEX_FAIR_H
#define FB_REFLEX_FAIR_H
#include "base/rng.h"
#include "event/event.h"

#define FAIR_USERS 256
#define FAIR_ROWS 2

struct fair_cut {
    double level;  /* what one user may ask; 0: nothing is known */
    double number; /* share of the numbers that pass behind the level */
};
struct fair_class {
    float asked[FAIR_ROWS][FAIR_USERS];
    double total;        /* of one row */
    struct fair_cut cut; /* of the threshold */
};

struct fair {
    uint64_t decay_us;
    struct fair_class classes[EV_CLASS_COUNT];
};

void fair_ask(struct fair *f, uint8_t class, uint64_t key_hash);
/* Each 100 ms at most: counts fade, levels follow them and <threshold>. */
void fair_tick(struct fair *f, uint32_t threshold, uint64_t now_us);
/* The threshold changed. */
void fair_plan(struct fair *f, uint32_t threshold);
/* <level>: of its class and user, from admit_level. */
bool fair_passes(const struct fair *f, uint64_t key_hash, uint32_t level, uint32_t threshold,
                 struct rng *lot);
/* The same for a share of what a class asks, 0..1: the caller keeps the cut. */
struct fair_cut fair_plan_share(const struct fair *f, uint8_t class, double share);
bool fair_passes_share(const struct fair *f, const struct fair_cut *cut, uint64_t key_hash,
                       uint32_t level, struct rng *lot);
/* The row in which the place of <key_hash> is not crowded by somebody else. */
uint8_t fair_row(const struct fair *f, uint8_t class, uint64_t key_hash);
static inline uint16_t fair_place(uint64_t key_hash, uint8_t row)
{
    uint64_t z = key_hash ^ key_hash >> 32;
    return (uint16_t)((row ? z >> 8 : z) % FAIR_USERS);
}
#endif
