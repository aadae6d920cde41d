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
    /* Two rounds of the finaliser of splitmix64: every bit of both reaches every bit. */
    uint64_t x = a + UINT64_C(0x9e3779b97f4a7c15) * (b | 1);
    x ^= b;
    for (int i = 0; i < 2; i++) {
        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        x ^= x >> 31;
    }
    return x;
}

uint32_t hash_bound(const struct hash_seat *seat, const struct hash_ask *ask)
{
    double share = ask->weight > 0 ? seat->weight / ask->weight : 1;
    double fair = bound_factor * share * ((double)ask->in_flight + 1);
    return (uint32_t)ceil(fmax(fmin(fair, 1e9), own_part * seat->limit));
}

/* The logarithm is the dear part: weight / (1 - draw) is never below the score, and close to it for
 * the draws that win, so it is computed for a handful of 256 seats only. */
struct hash_choice hash_pick(const struct hash_seat *seats, uint32_t n, const struct hash_ask *ask)
{
    fb_assert(n >= 1);
    enum { HOME, ROOM, BOUND, RANKS }; /* of all; with room; with room and within its bound */
    uint32_t best[RANKS] = {n, n, n};
    double score[RANKS] = {-1, -1, -1};
    for (uint32_t i = 0; i < n; i++) {
        const struct hash_seat *s = &seats[i];
        int ranks = !s->has_room ? ROOM : s->in_flight < hash_bound(s, ask) ? RANKS : BOUND;
        double draw = ((double)(hash_mix(ask->key, s->identity) >> 11) + 0.5) * 0x1p-53;
        double most = s->weight / (1 - draw);
        if (most <= fmin(score[HOME], fmin(ranks > ROOM ? score[ROOM] : score[HOME],
                                           ranks > BOUND ? score[BOUND] : score[HOME])))
            continue;
        double own = s->weight / -log(draw);
        for (int k = 0; k < ranks; k++)
            if (own > score[k]) {
                score[k] = own;
                best[k] = i;
            }
    }
    /* A seat of weight 0 is taken only when no other has room. */
    bool is_bound = best[BOUND] < n && (score[BOUND] > 0 || score[ROOM] <= 0);
    return (struct hash_choice){.home = best[HOME], .at = is_bound ? best[BOUND] : best[ROOM]};
}
