/* SPDX-License-Identifier: Apache-2.0 */
/* window: counts of the last 100 ms, 1 s, 10 s and 60 s, rolled up from 100 ms panes.
 *
 *   fill (open pane) --tick--> ten panes of 100 ms --> ten of 1 s --> six of 10 s
 *
 * A column holds one counter: its closed panes, the sums over them and the parts of the second and
 * of the ten seconds that run.  "1 s" is exactly the last ten panes; "10 s" and "60 s" are ten and
 * six coarse panes plus the parts that run, so they cover up to 11 s and 71 s and always reach to
 * the last tick; window_covered_us says how much it is.  Columns of one sketch lie bucket by
 * bucket: real latencies touch a few hundred neighbouring buckets, and pages without a count are
 * never backed by memory. Pure, pointer-free.  Holds always: a sum equals its panes.  Threads: any,
 * one at a time per struct. */
#ifndef FB_ANALYTICS_WINDOW_H
#define FB_ANALYTICS_WINDOW_H
#include "analytics/sketch.h"

#define WINDOW_PANE_US (100 * US_PER_MS)
#define WINDOW_FINE 10 /* panes of 100 ms */
#define WINDOW_SECS 10 /* panes of 1 s */
#define WINDOW_TENS 6  /* panes of 10 s */
#define WINDOW_ALL_PANES 600

enum window_length { WINDOW_100MS, WINDOW_1S, WINDOW_10S, WINDOW_60S };

/* The clock of all windows of one owner: which pane is open, and when the kept ones began. */
struct window_clock {
    uint64_t start_us, now_us; /* of the first event; of the last close */
    uint64_t closed;           /* panes closed since start */
    uint64_t fine_us[WINDOW_FINE], sec_us[WINDOW_SECS],
        ten_us[WINDOW_TENS];           /* when each kept pane opened */
    uint64_t open_sec_us, open_ten_us; /* of the parts that run */
    uint8_t is_started, reserved[7];
};
void window_start(struct window_clock *c, uint64_t now_us);
/* Closes the open pane at <now_us>.  Call it before the columns are rolled with the same clock. */
void window_close(struct window_clock *c, uint64_t now_us);
/* How long the window really covers at the last close; 0 before the first. */
uint64_t window_covered_us(const struct window_clock *c, enum window_length length);

/* One counter of a few, wide enough for sums of microseconds. */
struct window_count {
    uint64_t fine[WINDOW_FINE], sec[WINDOW_SECS], ten[WINDOW_TENS];
    uint64_t sum_1s, sum_10s, sum_60s, part_sec, part_ten, reserved;
};
/* One bucket of a sketch. */
struct window_bucket {
    uint32_t fine[WINDOW_FINE], sec[WINDOW_SECS], ten[WINDOW_TENS];
    uint32_t sum_1s, sum_10s, sum_60s, part_sec, part_ten, reserved;
};
_Static_assert(sizeof(struct window_count) == 256, "four cache lines");
_Static_assert(sizeof(struct window_bucket) == 128, "two cache lines");

/* Takes what the open pane counted (<add>) in, after window_close. */
void window_roll_count(struct window_count *w, const struct window_clock *c, uint64_t add);
uint64_t window_sum(const struct window_count *w, const struct window_clock *c,
                    enum window_length length);

/* A sketch over all windows.  Buckets outside [low, high) are zero in every pane. */
struct window_sketch {
    uint32_t low, high;
    uint64_t n_fill, n_kept; /* in the open pane; in all panes that are kept */
    uint32_t fill[SKETCH_BUCKETS];
    struct window_bucket bucket[SKETCH_BUCKETS];
};
/* <b> as sketch_bucket says: one time that goes into many sketches is looked up once. */
static inline void window_add_many(struct window_sketch *w, uint32_t b, uint32_t n)
{
    if (FB_UNLIKELY(b < w->low || b >= w->high)) {
        w->low = w->high == 0 ? b : fb_min_u32(w->low, b);
        w->high = fb_max_u32(w->high, b + 1);
    }
    w->fill[b] += n;
    w->n_fill += n;
}
static inline void window_add_bucket(struct window_sketch *w, uint32_t b)
{
    window_add_many(w, b, 1);
}
static inline void window_add(struct window_sketch *w, uint64_t us)
{
    window_add_bucket(w, sketch_bucket(us));
}
void window_roll_sketch(struct window_sketch *w, const struct window_clock *c);
/* Adds the window's counts to <into>. */
void window_collect(const struct window_sketch *w, const struct window_clock *c,
                    enum window_length length, struct sketch *into);
#endif
