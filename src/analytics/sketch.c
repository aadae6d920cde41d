/* SPDX-License-Identifier: Apache-2.0 */
/* Mapping after Masson, Rim, Lee: DDSketch (VLDB 2019), with the cubic interpolation of the same
 * authors. The inverse is found by bisection: 52 steps are 100 ns, and only queries need it. */
#include "analytics/sketch.h"

#include "base/assert.h"

#include <math.h>

void sketch_merge(struct sketch *into, const struct sketch *from)
{
    fb_assert(into != from);
    for (uint32_t i = 0; i < SKETCH_BUCKETS; i++)
        into->count[i] += from->count[i];
    into->n += from->n;
}

double sketch_lower_us(uint32_t bucket)
{
    fb_assert(bucket <= SKETCH_BUCKETS);
    double at = (double)bucket / 34.99883330222075;
    double octave = floor(at);
    double part = at - octave;
    double low = 0;
    double high = 1;
    for (int i = 0; i < 52; i++) {
        double m = (low + high) / 2;
        if (((6.0 / 35.0 * m - 3.0 / 5.0) * m + 10.0 / 7.0) * m < part)
            low = m;
        else
            high = m;
    }
    return ldexp(1.0 + high, (int)octave);
}

double sketch_value_us(uint32_t bucket)
{
    return sketch_lower_us(bucket) * (1.0 + SKETCH_ERROR);
}

double sketch_quantile_us(const struct sketch *s, double q)
{
    fb_assert(q > 0);
    fb_assert(q <= 1);
    if (s->n == 0)
        return NAN;
    uint64_t rank = (uint64_t)ceil(q * (double)s->n);
    if (rank < 1)
        rank = 1;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < SKETCH_BUCKETS; i++) {
        seen += s->count[i];
        if (seen >= rank)
            return sketch_value_us(i);
    }
    fb_assert(seen == s->n); /* counts and n agree, so a rank is always reached */
    return NAN;
}

struct sketch_censored sketch_quantile_censored(const struct sketch *seen,
                                                const struct sketch *given_up, double q)
{
    fb_assert(q > 0);
    fb_assert(q < 1);
    uint64_t at_risk = seen->n + given_up->n;
    if (at_risk == 0)
        return (struct sketch_censored){.value_us = NAN, .is_reached = false};
    double survivors = 1.0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < SKETCH_BUCKETS; i++) {
        uint32_t done = seen->count[i];
        uint32_t cut = given_up->count[i];
        if (done) {
            /* in one bucket answers come before those given up: a time-out has waited longer */
            survivors *= 1.0 - (double)done / (double)at_risk;
            /* 1e-12: the product of many factors must not miss a quantile by its rounding */
            if (1.0 - survivors >= q - 1e-12)
                return (struct sketch_censored){.value_us = sketch_value_us(i), .is_reached = true};
        }
        if (done || cut)
            last = i;
        at_risk -= (uint64_t)done + cut;
    }
    return (struct sketch_censored){.value_us = sketch_value_us(last), .is_reached = false};
}
