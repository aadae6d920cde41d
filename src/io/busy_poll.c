/* SPDX-License-Identifier: Apache-2.0 */
#include "io/busy_poll.h"

#include "base/base.h"

/* A sleep that was cut short by an event is seen late by about this much: the wake-up itself. */
#define WAKE_UP_US 40
/* Spinning begins at the first share of hits and ends below the second: at 0.15 seven spins save
 * one wake-up (doc/design/gateway.md has latency and CPU of both). */
#define HITS_BEGIN 0.25f
#define HITS_STAY 0.15f
#define HITS_WEIGHT (1.0f / 64)
/* More than this per second: the core is wanted.  The brain on the same core causes 50 to 100. */
#define SWITCHES_MAX_PER_S 400
#define REST_US 1000000
/* Above this share of work polling burns what the next request needs.  2,300 resumed handshakes per
 * second are half a core and took 0.68 of one with polling; 10,000 small requests are a quarter. */
#define WORK_MAX_PCT 40

uint32_t busy_poll_budget_us(const struct busy_poll *s, uint64_t now_us)
{
    return s->is_on && now_us >= s->rest_until_us ? s->most_us : 0;
}

void busy_poll_waited(struct busy_poll *s, uint64_t waited_us, bool had_events)
{
    s->waited_us += waited_us;
    bool is_hit = had_events && waited_us <= s->most_us + (s->is_on ? 0 : WAKE_UP_US);
    s->hits += ((is_hit ? 1.0f : 0.0f) - s->hits) * HITS_WEIGHT;
    s->is_on = s->hits >= (s->is_on ? HITS_STAY : HITS_BEGIN);
}

void busy_poll_judge(struct busy_poll *s, uint64_t switches, uint64_t now_us)
{
    uint64_t gap_us = now_us - s->judged_us;
    if (s->judged_us && gap_us && (switches - s->switches) * 1000000 / gap_us > SWITCHES_MAX_PER_S)
        s->rest_until_us = now_us + REST_US;
    if (s->judged_us && gap_us > s->waited_us &&
        (gap_us - s->waited_us) * 100 / gap_us > WORK_MAX_PCT)
        s->rest_until_us = fb_max_u64(s->rest_until_us, now_us + 2 * BUSY_POLL_JUDGE_US);
    s->waited_us = 0;
    s->switches = switches;
    s->judged_us = now_us;
}
