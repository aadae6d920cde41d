/* SPDX-License-Identifier: Apache-2.0 */
#include "limit_baselines.h"

#include <math.h>
#include <string.h>

struct baseline {
    const struct limit_model_endpoint *ep;
    double limit, long_us, sum_us, max_us;
    uint32_t in_flight, peak, samples, slow;
    uint64_t since_us;
};

static void start(void *state, const struct limit_model_endpoint *ep, uint64_t now_us)
{
    struct baseline *b = state;
    *b = (struct baseline){.ep = ep, .limit = 20, .since_us = now_us};
}
static void start_static(void *state, const struct limit_model_endpoint *ep, uint64_t now_us)
{
    start(state, ep, now_us);
    ((struct baseline *)state)->limit = 24;
}
static void start_none(void *state, const struct limit_model_endpoint *ep, uint64_t now_us)
{
    start(state, ep, now_us);
    ((struct baseline *)state)->limit = 1e6;
}
static bool has_room(const void *state)
{
    const struct baseline *b = state;
    return b->in_flight < (uint32_t)b->limit;
}
static bool has_room_workers(const void *state)
{
    const struct baseline *b = state;
    return b->in_flight < b->ep->workers;
}
static void on_send(void *state, struct limit_tag *tag, uint64_t now_us)
{
    struct baseline *b = state;
    b->in_flight++;
    b->peak = b->peak > b->in_flight ? b->peak : b->in_flight;
    *tag = (struct limit_tag){.sent_us = now_us, .in_flight = b->in_flight};
}
static void on_done(void *state, const struct limit_tag *tag, bool is_wanted, uint64_t now_us)
{
    (void)is_wanted;
    struct baseline *b = state;
    double us = (double)(now_us - tag->sent_us);
    b->in_flight--;
    b->samples++;
    b->sum_us += us;
    b->slow += us > 250e3;
}
static void no_tick(void *state, bool is_wanted, uint64_t now_us)
{
    (void)state;
    (void)is_wanted;
    (void)now_us;
}
/* 1 % of the answers above half the objective: x 0.9; else + 1, at 200 ms. */
static void tick_aimd(void *state, bool is_wanted, uint64_t now_us)
{
    struct baseline *b = state;
    if (now_us - b->since_us < 200000 || b->samples < 10)
        return;
    if (b->slow * 100 > b->samples)
        b->limit = fmax(1, b->limit * 0.9);
    else if (is_wanted)
        b->limit = fmin(1000, b->limit + 1);
    b->since_us = now_us;
    b->samples = b->slow = 0;
    b->sum_us = 0;
}
/* Tolerance 1.5, additive step max(4, sqrt L), base over 120 windows of 1 s, frozen while it binds.
 */
static void tick_gradient2(void *state, bool is_wanted, uint64_t now_us)
{
    struct baseline *b = state;
    if (now_us - b->since_us < 1000000 && b->samples < 500)
        return;
    if (b->samples < 10 || now_us - b->since_us < 100000)
        return;
    double short_us = b->sum_us / b->samples;
    if (b->long_us == 0)
        b->long_us = short_us;
    else if (!is_wanted)
        b->long_us += (short_us - b->long_us) / 120;
    if (b->long_us > 2 * short_us)
        b->long_us *= 0.95;
    if (b->peak >= b->limit / 2) {
        double gradient = fmin(1, fmax(0.5, 1.5 * b->long_us / short_us));
        double to = b->limit * gradient + fmax(4, sqrt(b->limit));
        b->limit = fmin(1000, fmax(1, 0.8 * b->limit + 0.2 * to));
    }
    b->since_us = now_us;
    b->samples = b->slow = b->peak = 0;
    b->sum_us = 0;
}
static uint32_t limit_of(const void *state)
{
    return (uint32_t)((const struct baseline *)state)->limit;
}
static uint32_t limit_workers(const void *state)
{
    return ((const struct baseline *)state)->ep->workers;
}

static const struct limit_model_policy baselines[] = {
    {"workers", start, has_room_workers, on_send, on_done, no_tick, limit_workers},
    {"none", start_none, has_room, on_send, on_done, no_tick, limit_of},
    {"static", start_static, has_room, on_send, on_done, no_tick, limit_of},
    {"aimd", start, has_room, on_send, on_done, tick_aimd, limit_of},
    {"gradient2", start, has_room, on_send, on_done, tick_gradient2, limit_of},
};

const struct limit_model_policy *limit_baseline(const char *name)
{
    if (strcmp(name, "learner") == 0)
        return &limit_model_learner;
    for (size_t i = 0; i < FB_COUNT(baselines); i++)
        if (strcmp(baselines[i].name, name) == 0)
            return &baselines[i];
    return NULL;
}
