/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/split.h"

#include "base/assert.h"
#include "reflex/hash.h"

#include <math.h>

uint32_t split_pick(const struct split_part *parts, uint32_t n, uint64_t key)
{
    uint32_t chosen = n;
    double best = 0;
    fb_assert(n <= SPLIT_VERSIONS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        if (parts[i].share <= 0)
            continue;
        /* (0, 1): 53 bits and a half, so that the logarithm is neither 0 nor infinite */
        double draw = ((double)(hash_mix(key, parts[i].identity) >> 11) + 0.5) * 0x1p-53;
        double score = parts[i].share / -log(draw);
        if (chosen == n || score > best) {
            best = score;
            chosen = i;
        }
    }
    return chosen;
}

void split_move(struct split_part *parts, uint32_t n, double pct)
{
    double others = 0;
    fb_assert(n <= SPLIT_VERSIONS_MAX);
    if (n < 2)
        return;
    pct = fb_clamp(pct, 0, 100);
    for (uint32_t i = 1; i < n; i++)
        others += parts[i].share;
    for (uint32_t i = 1; i < n; i++)
        parts[i].share = others > 0 ? parts[i].share * pct / others : pct / (n - 1);
    parts[0].share = 100 - pct;
}
