/* SPDX-License-Identifier: Apache-2.0 */
/* mix: a count that looks like chance, and the count again.
 *
 * The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
 * 2014): each of its steps can be undone, so that who knows the salt has the count back.  Numbers
 * of requests are made this way: outside they tell neither order nor how many there are, in the log
 * they take one byte instead of eight (stream/column.h).  Not a secret: a hash, no cipher.
 *
 * Threads: any; pure. */
#ifndef FB_BASE_MIX_H
#define FB_BASE_MIX_H
#include "base/base.h"

static inline uint64_t mix_u64(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline uint64_t unmix_u64(uint64_t x)
{
    x = (x ^ x >> 31 ^ x >> 62) * UINT64_C(0x319642b2d24d8ec3);
    x = (x ^ x >> 27 ^ x >> 54) * UINT64_C(0x96de1b173f119089);
    return x ^ x >> 30 ^ x >> 60;
}

/* What stands between the counts of a node and its numbers. */
static inline uint64_t mix_salt(uint64_t node)
{
    return mix_u64(node + UINT64_C(0x9e3779b97f4a7c15));
}
#endif
