/* SPDX-License-Identifier: Apache-2.0 */
/* retry: a budget, so that repeated work stays a small share of all work whatever fails.
 *
 * Tokens are earned per first attempt (pct of one) and one per second besides; a retry costs one at
 * the moment it is scheduled, so that a backoff cannot hide it.  Held back at most 10 s of earning,
 * at least 10 tokens. Holds always: charged retries <= 10 + seconds + pct % of first attempts.
 * Pure. Threads: any, one at a time. */
#ifndef FB_REFLEX_RETRY_H
#define FB_REFLEX_RETRY_H
#include "base/rng.h"

struct retry {
    double pct;
    double tokens;
    double recent; /* first attempts, forgotten with a time constant of 10 s */
    uint64_t at_us;
};

void retry_init(struct retry *r, double pct, uint64_t now_us);
void retry_set_pct(struct retry *r, double pct);
/* A first attempt was admitted. */
void retry_earn(struct retry *r, uint64_t now_us);
/* Charges one retry; false: the budget is spent, or pct is 0. */
bool retry_charge(struct retry *r, uint64_t now_us);
/* Full jitter: anything from 0 to 25 ms x 2^n for the n-th retry (0, 1, ...), at most 1 s. */
uint64_t retry_backoff_us(uint32_t nth, struct rng *rng);
#endif
