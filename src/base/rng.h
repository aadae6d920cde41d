/* SPDX-License-Identifier: Apache-2.0 */
/* rng: random numbers as a value that the caller owns, so that one seed is one outcome.
 *
 * xoshiro256** seeded by splitmix64 (Blackman, Vigna: Scrambled linear pseudorandom number
 * generators, 2018).  Not for secrets.  Threads: a struct rng belongs to one thread. */
#ifndef FB_BASE_RNG_H
#define FB_BASE_RNG_H
#include "base/base.h"

struct rng {
    uint64_t s[4];
};

void rng_init(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n); /* 0 .. n-1; n > 0 */
double rng_unit(struct rng *r);                /* 0 <= x < 1 */
double rng_exp(struct rng *r, double mean);
double rng_normal(struct rng *r); /* mean 0, deviation 1 */
#endif
