/* SPDX-License-Identifier: Apache-2.0 */
/* hash: the endpoint that a key belongs to, with bounded load.
 *
 * Weighted rendezvous hashing: each seat draws a number from (key, its identity) and the best draw
 * wins, weight / -ln(draw).  A seat that joins or leaves moves only the keys that it wins or had; a
 * weight that changes moves only what the change is worth.  No table: nothing to build, nothing
 * that two threads, two processes or two nodes could hold differently.
 *
 * Bounded load (Mirrokni, Thorup, Zadimoghaddam: Consistent hashing with bounded loads, 2016): a
 * seat takes no more than 1.25 of its fair share of what is in flight; the key then goes to its
 * next best seat.  Up to three quarters of its measured limit a seat carries its keys without
 * anybody waiting, whatever the mean is: there the share would only cost keys their home.
 *
 * Pure.  Threads: any. */
#ifndef FB_REFLEX_HASH_H
#define FB_REFLEX_HASH_H
#include "base/base.h"

struct hash_seat {
    uint64_t identity; /* of the endpoint: the same everywhere and for ever */
    double weight;     /* 1 is even; 0: only when nobody else is there */
    uint32_t in_flight;
    uint32_t limit; /* measured; 0: unknown */
    bool has_room;
};
struct hash_ask {
    uint64_t key;
    uint64_t in_flight; /* at all seats */
    double weight;      /* of all seats */
};
struct hash_choice {
    uint32_t home; /* where the key belongs, room or not */
    uint32_t at;   /* where it goes now; <n>: nowhere is room */
};
/* <n> >= 1. */
struct hash_choice hash_pick(const struct hash_seat *seats, uint32_t n, const struct hash_ask *ask);
/* A number without structure from two others. */
uint64_t hash_mix(uint64_t a, uint64_t b);
#endif
