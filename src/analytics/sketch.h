/* SPDX-License-Identifier: Apache-2.0 */
/* sketch: quantiles of times with a relative error of at most 1 %, in a dense array that merges
 * exactly.
 *
 * A DDSketch: bucket b holds the times in [lower(b), lower(b + 1)) with lower(b + 1) / lower(b)
 * <= 1.01 / 0.99.  The logarithm is replaced by a cubic on the bits of the double, which costs 1 %
 * more buckets and no call. Range 1 us .. 1000 s; what lies outside is counted in the first or last
 * bucket.  A merge is an addition of counts, so any order of merges gives the same bits.  Censored
 * times (the request was given up at t, so its time is "more than t") are counted in a companion
 * array and enter by the Kaplan-Meier estimate. Pure.  Threads: any, one at a time per sketch. */
#ifndef FB_ANALYTICS_SKETCH_H
#define FB_ANALYTICS_SKETCH_H
#include "base/base.h"

#include <string.h>

/* log2(10^9 us) x 34.9988 buckets an octave = 1046.4, rounded up to whole cache lines. */
#define SKETCH_BUCKETS 1056
#define SKETCH_MAX_US UINT64_C(1000000000)
#define SKETCH_ERROR 0.01

struct sketch {
    uint64_t n;
    uint32_t count[SKETCH_BUCKETS];
};

/* Bucket of a time; about 2 ns.  7 / (10 ln(1.01 / 0.99)) keeps the steepest place of the cubic
 * within 1 %. */
static inline uint32_t sketch_bucket(uint64_t us)
{
    double v = (double)(us < 1 ? 1 : us > SKETCH_MAX_US ? SKETCH_MAX_US : us);
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    double octave = (double)((int64_t)(bits >> 52) - 1023);
    bits = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &bits, sizeof m);
    m -= 1.0;
    double part = ((6.0 / 35.0 * m - 3.0 / 5.0) * m + 10.0 / 7.0) * m;
    return (uint32_t)((octave + part) * 34.99883330222075);
}
static inline void sketch_add(struct sketch *s, uint64_t us)
{
    s->count[sketch_bucket(us)]++;
    s->n++;
}
void sketch_merge(struct sketch *into, const struct sketch *from);
/* Smallest time of a bucket, and the time that stands for all of it (within 1 %). */
double sketch_lower_us(uint32_t bucket);
double sketch_value_us(uint32_t bucket);
/* The time that at least <q> of the samples do not pass, 0 < q <= 1; NAN when empty. */
double sketch_quantile_us(const struct sketch *s, double q);

/* The same with censored companions.  When so many were given up that the quantile lies beyond all
 * that was seen, is_reached is false and value_us is the longest time known: a lower bound. */
struct sketch_censored {
    double value_us; /* NAN when both are empty */
    bool is_reached;
};
struct sketch_censored sketch_quantile_censored(const struct sketch *seen,
                                                const struct sketch *given_up, double q);
#endif
