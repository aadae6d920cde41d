/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/admit.h"

#include "base/assert.h"

static const uint64_t hour_us = 3600 * US_PER_S;

uint32_t admit_level(uint8_t class, uint64_t key_hash, uint64_t now_us, struct rng *lot)
{
    fb_assert(class < EV_CLASS_COUNT);
    uint32_t number;
    if (key_hash == 0) {
        number = rng_below(lot, ADMIT_LEVELS_PER_CLASS);
    } else {
        /* The finalizer of splitmix64: neighbours in the hash and in the hour end up far apart. */
        uint64_t z = key_hash + (now_us / hour_us + 1) * UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        number = (uint32_t)((z ^ (z >> 31)) % ADMIT_LEVELS_PER_CLASS);
    }
    return class * (uint32_t)ADMIT_LEVELS_PER_CLASS + number;
}
