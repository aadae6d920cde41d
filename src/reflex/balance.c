/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/balance.h"

#include <math.h>
#include <stdlib.h>

#include "base/assert.h"

/* loops.md 2.1.  The share of the newest sample is at least 1 %: without the floor a fast endpoint
 * with 10,000 samples a second would average over 30,000 of them, and a slow-down would need
 * seconds to show. */
static const double mean_us = 3e6;
static const double keep_max = 0.99;
/* Idle for more than a second: fades by e in 10 s, so that an endpoint 10 x slower is tried again
 * after ~20 s. */
static const uint64_t fade_after_us = US_PER_S;
static const double fade_us = 10e6;
/* A newcomer's first answers are those of cold caches: forgotten five times sooner. */
static const double fade_new_us = 2e6;
static const double band = 1.5;
static const double error_factor = 20.0;
static const double error_add_us = 500e3;
static const uint64_t stall_min_us = 50 * US_PER_MS;
static const double stall_factor = 8.0;
/* A sample after a stall weighs as after this rest, 1.7 %, not as after the stall, 49 % after 2 s.
 */
static const uint64_t stall_weight_us = 50 * US_PER_MS;
static const uint32_t scan_max = 64;
static const uint32_t draws = 4;
/* Slow start: 10 % to 100 % in 5 s and 50 answers; longer while slow, at most 30 s: one that is
 * slow for good is the score's business. */
static const double ramp_first = 0.1;
static const uint64_t ramp_us = 5 * US_PER_S;
static const uint32_t ramp_samples_min = 50;
static const uint64_t ramp_max_us = 30 * US_PER_S;
static const double share_fade_us = 5e6;
/* What others told: the mean of their load; own answers within this time speak for themselves; how
 * fast the ratio to own ones is learned beside these, and forgotten without; its bounds. */
static const double others_mean_us = 3e6;
static const uint64_t own_fresh_us = US_PER_S;
static const double far_learn_us = 10e6;
static const double far_forget_us = 60e6;
static const double far_max = 8;
#define SEATS_MAX 256

static uint32_t pick_adaptive(struct balance *b, struct balance_seat *const *seats, uint32_t n,
                              uint64_t now_us);
static uint32_t pick_round_robin(struct balance *b, struct balance_seat *const *seats, uint32_t n);
static uint32_t pick_least(struct balance *b, struct balance_seat *const *seats, uint32_t n);
static uint32_t pick_weighted(struct balance_seat *const *seats, uint32_t n);
static uint32_t pick_two(struct balance *b, struct balance_seat *const *seats, uint32_t n);
static double ramp_share(const struct balance_seat *s, uint64_t now_us);

void balance_init(struct balance *b, enum gate_balance policy, uint64_t seed)
{
    *b = (struct balance){.policy = policy, .last = UINT16_MAX};
    rng_init(&b->rng, seed);
}

void balance_seat_init(struct balance_seat *s, uint16_t index, double latency_us, uint64_t now_us)
{
    *s = (struct balance_seat){.index = index,
                               .latency_us = latency_us,
                               .weight = 1,
                               .far_ratio = 1,
                               .sample_us = now_us,
                               .judged_us = now_us,
                               .sent_us = now_us,
                               .picks_us = now_us};
}

void balance_seat_ramp(const struct balance *b, struct balance_seat *s, uint64_t now_us)
{
    s->ramp_us = now_us > 0 ? now_us : 1;
    s->ramp_samples = 0;
    s->error_ratio = 0;
    s->hold_us = 0;
    s->latency_us = b->median_us;
    s->sample_us = s->judged_us = s->sent_us = now_us;
}

uint32_t balance_pick(struct balance *b, struct balance_seat *const *seats, uint32_t n,
                      uint64_t now_us)
{
    fb_assert(n >= 1);
    fb_assert(n <= SEATS_MAX);
    uint32_t at = 0;
    if (n > 1) {
        switch (b->policy) {
        case GATE_BALANCE_ADAPTIVE:
        case GATE_BALANCE_HASH:
            at = pick_adaptive(b, seats, n, now_us);
            break;
        case GATE_BALANCE_ROUND_ROBIN:
            at = pick_round_robin(b, seats, n);
            break;
        case GATE_BALANCE_LEAST_REQUEST:
            at = pick_least(b, seats, n);
            break;
        case GATE_BALANCE_WEIGHTED:
            at = pick_weighted(seats, n);
            break;
        case GATE_BALANCE_RANDOM_TWO:
            at = pick_two(b, seats, n);
            break;
        }
    }
    b->last = seats[at]->index;
    return at;
}

/* ---- what is learned ---- */

void balance_on_send(struct balance_seat *s, uint64_t now_us)
{
    if (s->in_flight == 0)
        s->completion_us = now_us;
    s->in_flight++;
    s->sent_us = now_us;
    s->picks = balance_picks(s, now_us) + 1;
    s->picks_us = now_us;
}

void balance_on_latency(struct balance_seat *s, uint64_t latency_us, uint64_t now_us)
{
    double sample = fmax(1, (double)latency_us);
    uint64_t since_us = fb_sub_floor_u64(now_us, s->sample_us);
    /* Requests that sat out a stall tell of the stall, which is over: they count as little as is
     * needed to notice a slow-down for good, which looks alike when requests come one by one. */
    if (balance_is_stalled(s, now_us))
        s->stall_end_us = now_us;
    if (s->latency_us > 0 && s->stall_end_us > fb_sub_floor_u64(now_us, latency_us)) {
        sample = fmin(sample, stall_factor * s->latency_us);
        since_us = fb_min_u64(since_us, stall_weight_us);
    }
    if (s->latency_us <= 0) {
        s->latency_us = sample;
    } else {
        double keep = fmin(keep_max, exp(-(double)since_us / mean_us));
        s->latency_us = keep * s->latency_us + (1 - keep) * sample;
    }
    s->sample_us = s->own_us = now_us;
    s->ramp_samples++;
    s->answers.count++;
    s->answers.sum_us += sample;
}

void balance_on_censored(struct balance_seat *s, uint64_t age_us, uint64_t now_us)
{
    /* A lower bound below the mean says nothing. */
    if ((double)age_us > s->latency_us)
        balance_on_latency(s, age_us, now_us);
}

void balance_on_done(struct balance_seat *s, uint64_t now_us)
{
    fb_assert(s->in_flight > 0);
    s->in_flight--;
    s->completion_us = now_us;
}

void balance_on_verdict(struct balance_seat *s, bool is_failure, uint64_t now_us)
{
    double keep = fmin(keep_max, exp(-(double)fb_sub_floor_u64(now_us, s->judged_us) / mean_us));
    s->error_ratio = keep * s->error_ratio + (is_failure ? 1 - keep : 0);
    s->judged_us = now_us;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void hear_answers(struct balance_seat *s, const struct balance_answers *a, double past_us,
                         uint64_t now_us)
{
    bool is_known = s->latency_us > 0 && s->own_us && now_us < s->own_us + own_fresh_us;
    if (!is_known)
        s->far_ratio += (1 - exp(-past_us / far_forget_us)) * (1 - s->far_ratio);
    if (a->count == 0)
        return;
    double theirs_us = fmax(1, a->sum_us / (double)a->count);
    if (is_known) {
        double ratio = fb_clamp(s->latency_us / theirs_us, 1, far_max);
        s->far_ratio += (1 - exp(-past_us / far_learn_us)) * (ratio - s->far_ratio);
        return;
    }
    double sample = theirs_us * s->far_ratio;
    double since_us = (double)fb_sub_floor_u64(now_us, s->sample_us);
    double keep = fmin(pow(keep_max, (double)a->count), exp(-since_us / mean_us));
    s->latency_us = s->latency_us > 0 ? keep * s->latency_us + (1 - keep) * sample : sample;
    s->sample_us = now_us;
}

void balance_on_others(struct balance_seat *s, const struct balance_told *told, uint64_t now_us)
{
    double past_us = s->others_us ? (double)fb_sub_floor_u64(now_us, s->others_us) : 1e5;
    s->others += (1 - exp(-past_us / others_mean_us)) * (told->in_flight - s->others);
    if (s->others < 0.01) /* nobody else: nothing rounds to almost zero for ever */
        s->others = 0;
    if (told->in_flight > 0 || told->answers.count > 0)
        s->others_at_us = now_us;
    s->others_us = now_us;
    hear_answers(s, &told->answers, past_us, now_us);
}

void balance_tick(struct balance *b, struct balance_seat *const *seats, uint32_t n, uint64_t now_us)
{
    fb_assert(n <= SEATS_MAX);
    double known[SEATS_MAX];
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++)
        if (seats[i]->latency_us > 0 && seats[i]->ramp_us == 0)
            known[k++] = seats[i]->latency_us;
    if (k > 0) {
        qsort(known, k, sizeof(known[0]), compare_double);
        b->median_us = known[(k - 1) / 2];
    }
    for (uint32_t i = 0; i < n; i++) {
        struct balance_seat *s = seats[i];
        if (s->ramp_us == 0)
            continue;
        uint64_t passed_us = fb_sub_floor_u64(now_us, s->ramp_us);
        bool is_slow = k > 0 && s->latency_us > band * b->median_us;
        bool is_over = passed_us >= ramp_us && s->ramp_samples >= ramp_samples_min && !is_slow;
        if (is_over || passed_us >= ramp_max_us)
            s->ramp_us = 0;
    }
}

static double fade_since(const struct balance_seat *s, uint64_t used_us, uint64_t now_us)
{
    uint64_t idle_us = s->in_flight > 0 ? 0 : fb_sub_floor_u64(now_us, used_us);
    if (idle_us <= fade_after_us)
        return 1;
    return exp(-(double)(idle_us - fade_after_us) / (s->ramp_us ? fade_new_us : fade_us));
}

double balance_latency_us(const struct balance_seat *s, uint64_t now_us)
{
    double latency = s->latency_us * fade_since(s, fb_max_u64(s->sent_us, s->others_at_us), now_us);
    if (s->in_flight > 0 && balance_is_stalled(s, now_us))
        latency = fmax(latency, (double)fb_sub_floor_u64(now_us, s->completion_us));
    return latency;
}

double balance_cost_us(const struct balance_seat *s, uint64_t now_us)
{
    double cost = s->latency_us;
    double e = s->error_ratio;
    uint64_t idle_us = s->in_flight > 0 ? 0 : fb_sub_floor_u64(now_us, s->sent_us);
    if (idle_us > fade_after_us) {
        cost *= fade_since(s, fb_max_u64(s->sent_us, s->others_at_us), now_us);
        e *= fade_since(s, s->sent_us, now_us); /* failures are of the way from here */
    }
    cost = cost * (1 + error_factor * e) + error_add_us * e;
    if (s->in_flight > 0 && balance_is_stalled(s, now_us))
        cost = fmax(cost, (double)fb_sub_floor_u64(now_us, s->completion_us));
    if (s->hold_us > now_us)
        cost = fmax(cost, 1e6 * (double)(s->hold_us - now_us));
    return cost;
}

bool balance_is_stalled(const struct balance_seat *s, uint64_t now_us)
{
    uint64_t gap_us = fb_sub_floor_u64(now_us, s->completion_us);
    return s->in_flight > 0 && gap_us > stall_min_us &&
           (double)gap_us > stall_factor * s->latency_us;
}

double balance_picks(const struct balance_seat *s, uint64_t now_us)
{
    uint64_t passed_us = fb_sub_floor_u64(now_us, s->picks_us);
    /* A linear start of the exponential saves its cost for close picks; 0.1 % off at 5 % of the
     * constant. */
    if ((double)passed_us < 0.05 * share_fade_us)
        return s->picks * (1 - (double)passed_us / share_fade_us);
    return s->picks * exp(-(double)passed_us / share_fade_us);
}

/* ---- policies ---- */

/* Of the seats looked at, the lowest score; equal ones by lot, else a quiet service would use its
 * first endpoint only. */
static uint32_t best_of(struct balance *b, struct balance_seat *const *seats, const uint32_t *of,
                        uint32_t n, uint64_t now_us)
{
    double cost[SEATS_MAX];
    double best_us = INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        cost[i] = balance_cost_us(seats[of[i]], now_us);
        if (cost[i] > 0 && cost[i] < best_us)
            best_us = cost[i];
    }
    uint32_t chosen = of[0];
    double lowest = INFINITY;
    uint32_t equals = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct balance_seat *s = seats[of[i]];
        double r = cost[i] > 0 ? cost[i] / best_us : 1;
        double score =
            (r < band ? 1 : r) * ((double)(s->in_flight + 1) + s->others) / fmax(s->weight, 1e-9);
        if (score < lowest) {
            lowest = score;
            chosen = of[i];
            equals = 1;
        } else if (score <= lowest && rng_below(&b->rng, ++equals) == 0) {
            chosen = of[i];
        }
    }
    return chosen;
}

static uint32_t pick_adaptive(struct balance *b, struct balance_seat *const *seats, uint32_t n,
                              uint64_t now_us)
{
    uint32_t of[SEATS_MAX];
    uint32_t k = 0;
    /* Slow start is relative: when all are new nobody has to wait for the others. */
    double furthest = 0;
    bool has_ramp = false;
    for (uint32_t i = 0; i < n; i++) {
        double share = ramp_share(seats[i], now_us);
        furthest = fmax(furthest, share);
        has_ramp = has_ramp || share < 1;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!has_ramp || rng_unit(&b->rng) * furthest < ramp_share(seats[i], now_us))
            of[k++] = i;
    if (k > scan_max)
        for (uint32_t i = 0; i < draws;
             i++) { /* the first steps of a shuffle: without replacement */
            uint32_t j = i + rng_below(&b->rng, k - i);
            uint32_t swap = of[i];
            of[i] = of[j];
            of[j] = swap;
        }
    fb_assert(k >= 1); /* the furthest takes part always */
    return best_of(b, seats, of, k > scan_max ? draws : k, now_us);
}

static double ramp_share(const struct balance_seat *s, uint64_t now_us)
{
    if (s->ramp_us == 0)
        return 1;
    double by_time = (double)fb_sub_floor_u64(now_us, s->ramp_us) / (double)ramp_us;
    double by_samples = (double)s->ramp_samples / (double)ramp_samples_min;
    return ramp_first + (1 - ramp_first) * fmin(1, fmin(by_time, by_samples));
}

double balance_ramp(const struct balance_seat *s, uint64_t now_us)
{
    if (s->ramp_us == 0)
        return 1;
    double by_time = (double)fb_sub_floor_u64(now_us, s->ramp_us) / (double)ramp_us;
    return ramp_first + (1 - ramp_first) * fmin(1, by_time);
}

static uint32_t pick_round_robin(struct balance *b, struct balance_seat *const *seats, uint32_t n)
{
    uint32_t lowest = 0;
    uint32_t next = n;
    for (uint32_t i = 0; i < n; i++) {
        if (seats[i]->index < seats[lowest]->index)
            lowest = i;
        bool is_later = b->last != UINT16_MAX && seats[i]->index > b->last;
        if (is_later && (next == n || seats[i]->index < seats[next]->index))
            next = i;
    }
    return next < n ? next : lowest;
}

static double load_of(const struct balance_seat *s)
{
    return ((double)(s->in_flight + 1) + s->others) / fmax(s->weight, 1e-9);
}

static uint32_t pick_least(struct balance *b, struct balance_seat *const *seats, uint32_t n)
{
    uint32_t chosen = 0;
    uint32_t equals = 1;
    for (uint32_t i = 1; i < n; i++) {
        double load = load_of(seats[i]);
        double least = load_of(seats[chosen]);
        if (load < least) {
            chosen = i;
            equals = 1;
        } else if (load <= least && rng_below(&b->rng, ++equals) == 0) {
            chosen = i;
        }
    }
    return chosen;
}

/* Smooth weighted round robin: each gains its weight, the richest is chosen and pays the sum. */
static uint32_t pick_weighted(struct balance_seat *const *seats, uint32_t n)
{
    uint32_t chosen = 0;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += seats[i]->weight;
        seats[i]->credit += seats[i]->weight;
        if (seats[i]->credit > seats[chosen]->credit)
            chosen = i;
    }
    seats[chosen]->credit -= sum;
    return chosen;
}

/* Two different ones: with replacement the slowest of three would win one pick of nine unopposed.
 */
static uint32_t pick_two(struct balance *b, struct balance_seat *const *seats, uint32_t n)
{
    uint32_t x = rng_below(&b->rng, n);
    uint32_t y = rng_below(&b->rng, n - 1);
    if (y >= x)
        y++;
    return load_of(seats[y]) < load_of(seats[x]) ? y : x;
}
