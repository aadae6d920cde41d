/* SPDX-License-Identifier: Apache-2.0 */
/* split: which version of a service a user belongs to.
 *
 * Weighted rendezvous, as reflex/hash.h: each version draws a number from (user, its identity) and
 * the best draw wins.  A share that grows takes users from the others and moves nobody else; a
 * version that leaves gives its own users away and moves nobody else.  So a user sees one version
 * as long as the shares allow it, on every thread and node, and after a restart.
 * Pure.  Threads: any. */
#ifndef FB_REFLEX_SPLIT_H
#define FB_REFLEX_SPLIT_H
#include "base/base.h"

#define SPLIT_VERSIONS_MAX 8

struct split_part {
    uint64_t identity; /* of the version's name: the same everywhere */
    double share;      /* 0 or more, in any unit */
};

/* The part of user <key>; <n> when all shares are 0. */
uint32_t split_pick(const struct split_part *parts, uint32_t n, uint64_t key);
/* All but the first get <pct> together, 0..100, in the proportions that they have; evenly when they
 * have none. */
void split_move(struct split_part *parts, uint32_t n, double pct);
#endif
