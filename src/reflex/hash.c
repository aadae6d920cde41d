/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/hash.h"

#include <math.h>

#include "base/assert.h"

/* 1.25 of Mirrokni et al.; with 2 the fullest seat waits twice as long as the others, with 1.05
 * most keys of a busy service are away from home. */
static const double bound_factor = 1.25;
/* simulate hash_users: with a quarter 58 % of the sends of a user meet the endpoint of the time
 * before, with three quarters 86 %, at the same p99 of 62 ms; test/sim/balance_scenarios.c holds
 * it. */
static const double own_part = 0.75;

uint64_t hash_mix(uint64_t a, uint64_t b)
{
    /* The finaliser of splitmix64: every bit of both reaches every bit. */
    uint64_t x = a ^ (b * UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The logarithm is the dear part.  weight / (1 - draw) is never below the score and close to it for
 * the draws that win, and the best within its bound is the lowest of the three that are looked for:
 * one multiplication settles all but a handful of 256 seats. */
struct hash_choice hash_pick(const struct hash_seat *seats, uint32_t n, const struct hash_ask *ask)
{
    fb_assert(n >= 1);
    enum { HOME, ROOM, BOUND, RANKS }; /* of all; with room; with room and within its bound */
    uint32_t best[RANKS] = {n, n, n};
    double score[RANKS] = {-1, -1, -1};
    /* of a seat of weight 1 */
    double fair = ask->weight > 0 ? bound_factor * ((double)ask->in_flight + 1) / ask->weight : 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct hash_seat *s = &seats[i];
        double draw = ((double)(hash_mix(ask->key, s->identity) >> 11) + 0.5) * 0x1p-53;
        if (s->weight <= score[BOUND] * (1 - draw))
            continue;
        double own = s->weight / -log(draw);
        if (own > score[HOME]) {
            score[HOME] = own;
            best[HOME] = i;
        }
        if (!s->has_room)
            continue;
        if (own > score[ROOM]) {
            score[ROOM] = own;
            best[ROOM] = i;
        }
        bool is_within = s->in_flight < fair * s->weight || s->in_flight < own_part * s->limit;
        if (own > score[BOUND] && is_within) {
            score[BOUND] = own;
            best[BOUND] = i;
        }
    }
    /* A seat of weight 0 is taken only when no other has room. */
    bool is_bound = best[BOUND] < n && (score[BOUND] > 0 || score[ROOM] <= 0);
    return (struct hash_choice){.home = best[HOME], .at = is_bound ? best[BOUND] : best[ROOM]};
}
