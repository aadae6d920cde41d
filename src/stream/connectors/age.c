/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/age.h"

#include "base/assert.h"

#include <string.h>

/* A second of lag is told to a quarter. */
#define APART_US (250 * US_PER_MS)

/* The looks whose messages have all come go. */
static void drop(struct age *a, uint64_t came)
{
    uint32_t gone = 0;
    while (gone < a->count && a->end[gone] <= came)
        gone++;
    a->count -= gone;
    memmove(a->end, a->end + gone, a->count * sizeof *a->end);
    memmove(a->at_us, a->at_us + gone, a->count * sizeof *a->at_us);
}

static void join(struct age *a)
{
    for (uint32_t i = 0; i < AGE_LOOKS / 2; i++) {
        a->end[i] = a->end[2 * i + 1];
        a->at_us[i] = a->at_us[2 * i];
    }
    a->count = AGE_LOOKS / 2;
    a->apart_us *= 2;
}

void age_look(struct age *a, uint64_t came, uint64_t behind, uint64_t now_us)
{
    uint64_t end = came + behind;
    if (a->count && (end < a->end[a->count - 1] || came < a->came))
        a->count = 0;
    a->came = came;
    drop(a, came);
    if (a->count == 0)
        a->apart_us = APART_US;
    uint32_t last = a->count - 1;
    if (behind == 0 || (a->count && end == a->end[last]))
        return;
    if (a->count && now_us - a->at_us[last] < a->apart_us) {
        a->end[last] = end;
        return;
    }
    if (a->count == AGE_LOOKS)
        join(a);
    fb_assert(a->count < AGE_LOOKS);
    a->end[a->count] = end;
    a->at_us[a->count++] = now_us;
}

void age_anew(struct age *a)
{
    a->count = 0;
}

uint64_t age_us(const struct age *a, uint64_t now_us)
{
    return a->count ? fb_sub_floor_u64(now_us, a->at_us[0]) : 0;
}
