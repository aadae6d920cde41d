/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/success.h"

/* Ten a second: below it a few failures in a row are bad luck, and little is saved. */
static const uint32_t tried_min = 100;
static const double refuse_max = 0.8;

static void pass(struct success *s, uint64_t now_us)
{
    uint64_t second = now_us / US_PER_S;
    if (second >= s->second + SUCCESS_SECONDS) {
        *s = (struct success){.second = second};
        return;
    }
    while (s->second < second) {
        uint64_t i = ++s->second % SUCCESS_SECONDS;
        s->tried_sum -= s->tried[i];
        s->good_sum -= s->good[i];
        s->tried[i] = s->good[i] = 0;
    }
}

void success_note(struct success *s, bool is_good, uint64_t now_us)
{
    pass(s, now_us);
    uint64_t i = s->second % SUCCESS_SECONDS;
    s->tried[i]++;
    s->tried_sum++;
    s->good[i] += is_good;
    s->good_sum += is_good;
}

double success_refuse_share(struct success *s, double floor, uint64_t now_us)
{
    if (floor <= 0)
        return 0;
    pass(s, now_us);
    if (s->tried_sum < tried_min)
        return 0;
    double share = (s->tried_sum - s->good_sum / floor) / (s->tried_sum + 1.0);
    return fb_clamp(share, 0, refuse_max);
}
