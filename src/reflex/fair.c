/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/fair.h"

#include "base/assert.h"
#include "reflex/admit.h"

/* Counts fade with a time constant of about 4 s: users of one request per second are seen. */
static const uint64_t decay_period_us = 100 * US_PER_MS;
static const double decay = 0.975;
/* Less than this is nobody. */
static const float asked_min = 0.25F;
/* Ordinary: up to twice the median, and chance makes a few requests more or less. */
static const double ordinary_times = 2, ordinary_more = 4;
/* So many users are refused by number; fewer share by requests. */
static const uint32_t crowd_min = 32;

static struct fair_cut plan(const struct fair_class *c, double share);
static double level_of(const struct fair_class *c, double sum);
static double sum_below(const struct fair_class *c, double level);
static double median_of(const struct fair_class *c, uint32_t users);

static double asked_of(const struct fair_class *c, uint64_t key_hash)
{
    float a = c->asked[0][fair_place(key_hash, 0)];
    float b = c->asked[1][fair_place(key_hash, 1)];
    return (double)(a < b ? a : b);
}

void fair_ask(struct fair *f, uint8_t class, uint64_t key_hash)
{
    fb_assert(class < EV_CLASS_COUNT);
    struct fair_class *c = &f->classes[class];
    if (key_hash == 0)
        return;
    for (uint8_t row = 0; row < FAIR_ROWS; row++)
        c->asked[row][fair_place(key_hash, row)]++;
    c->total++;
}

uint8_t fair_row(const struct fair *f, uint8_t class, uint64_t key_hash)
{
    const struct fair_class *c = &f->classes[class];
    /* A clear difference only: who is greedy himself has one place and not two. */
    float first = c->asked[0][fair_place(key_hash, 0)];
    float second = c->asked[1][fair_place(key_hash, 1)];
    return first > 2 * second + (float)ordinary_more;
}

void fair_tick(struct fair *f, uint32_t threshold, uint64_t now_us)
{
    if (fb_sub_floor_u64(now_us, f->decay_us) < decay_period_us)
        return;
    /* Once, however late the caller is: a count that is too old for a second is no harm. */
    f->decay_us = now_us;
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++) {
        struct fair_class *c = &f->classes[i];
        if (c->total <= 0)
            continue;
        c->total = 0;
        for (uint32_t u = 0; u < FAIR_ROWS * FAIR_USERS; u++) {
            float *asked = &c->asked[u / FAIR_USERS][u % FAIR_USERS];
            *asked = *asked * (float)decay < asked_min ? 0 : *asked * (float)decay;
            c->total += u < FAIR_USERS ? (double)*asked : 0;
        }
    }
    fair_plan(f, threshold);
}

void fair_plan(struct fair *f, uint32_t threshold)
{
    for (uint32_t i = 0; i < EV_CLASS_COUNT; i++) {
        uint32_t from = i * ADMIT_LEVELS_PER_CLASS;
        f->classes[i].cut = (struct fair_cut){0};
        if (threshold > from && threshold < from + ADMIT_LEVELS_PER_CLASS)
            f->classes[i].cut =
                plan(&f->classes[i], (double)(threshold - from) / ADMIT_LEVELS_PER_CLASS);
    }
}

struct fair_cut fair_plan_share(const struct fair *f, uint8_t class, double share)
{
    fb_assert(class < EV_CLASS_COUNT);
    fb_assert(share >= 0);
    fb_assert(share <= 1);
    return plan(&f->classes[class], share);
}

bool fair_passes(const struct fair *f, uint64_t key_hash, uint32_t level, uint32_t threshold,
                 struct rng *lot)
{
    uint32_t class = level / ADMIT_LEVELS_PER_CLASS;
    fb_assert(class < EV_CLASS_COUNT);
    const struct fair_cut *cut = &f->classes[class].cut;
    if (cut->level <= 0 || key_hash == 0 || threshold <= class * ADMIT_LEVELS_PER_CLASS)
        return level < threshold;
    return fair_passes_share(f, cut, key_hash, level, lot);
}

bool fair_passes_share(const struct fair *f, const struct fair_cut *cut, uint64_t key_hash,
                       uint32_t level, struct rng *lot)
{
    fb_assert(cut->level > 0);
    double asked = asked_of(&f->classes[level / ADMIT_LEVELS_PER_CLASS], key_hash);
    if (asked > cut->level && rng_unit(lot) * asked >= cut->level)
        return false;
    return level % ADMIT_LEVELS_PER_CLASS < cut->number * ADMIT_LEVELS_PER_CLASS;
}

/* <share> of what is asked passes. */
static struct fair_cut plan(const struct fair_class *c, double share)
{
    uint32_t users = 0;
    double total = 0;
    for (uint32_t u = 0; u < FAIR_USERS; u++) {
        users += c->asked[0][u] >= asked_min;
        total += (double)c->asked[0][u];
    }
    if (users == 0)
        return (struct fair_cut){0};
    double ordinary = ordinary_times * median_of(c, users) + ordinary_more;
    double passes = share * total;
    struct fair_cut cut = {.level = level_of(c, passes), .number = 1};
    if (users >= crowd_min && cut.level < ordinary)
        cut = (struct fair_cut){ordinary, fb_clamp(passes / sum_below(c, ordinary), 0, 1)};
    return cut;
}

static double largest_of(const struct fair_class *c)
{
    float most = 0;
    for (uint32_t u = 0; u < FAIR_USERS; u++)
        most = c->asked[0][u] > most ? c->asked[0][u] : most;
    return (double)most;
}

/* The level at which <sum> passes. */
static double level_of(const struct fair_class *c, double sum)
{
    double low = 0, high = largest_of(c);
    for (uint32_t i = 0; i < 24; i++) {
        double middle = (low + high) / 2;
        if (sum_below(c, middle) < sum)
            low = middle;
        else
            high = middle;
    }
    return high;
}

static double sum_below(const struct fair_class *c, double level)
{
    double sum = 0;
    for (uint32_t u = 0; u < FAIR_USERS; u++)
        sum += (double)c->asked[0][u] < level ? (double)c->asked[0][u] : level;
    return sum;
}

/* Of those who ask at all, within a thousandth of the largest. */
static double median_of(const struct fair_class *c, uint32_t users)
{
    double low = 0, high = largest_of(c);
    for (uint32_t i = 0; i < 16; i++) {
        double middle = (low + high) / 2;
        uint32_t below = 0;
        for (uint32_t u = 0; u < FAIR_USERS; u++)
            below += c->asked[0][u] >= asked_min && (double)c->asked[0][u] <= middle;
        if (below * 2 < users)
            low = middle;
        else
            high = middle;
    }
    return high;
}
