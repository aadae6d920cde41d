/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/window.h"

#include "base/assert.h"

/* One text for both widths of column; <add> is what the open pane counted, <c> has just closed it.
 */
#define ROLL(w, c, add)                                                                            \
    do {                                                                                           \
        uint64_t pane_ = (c)->closed - 1;                                                          \
        uint64_t fine_ = pane_ % WINDOW_FINE;                                                      \
        (w)->sum_1s += (add) - (w)->fine[fine_];                                                   \
        (w)->fine[fine_] = (add);                                                                  \
        (w)->part_sec += (add);                                                                    \
        if ((c)->closed % WINDOW_FINE == 0) {                                                      \
            uint64_t sec_ = ((c)->closed / WINDOW_FINE - 1) % WINDOW_SECS;                         \
            (w)->sum_10s += (w)->part_sec - (w)->sec[sec_];                                        \
            (w)->sec[sec_] = (w)->part_sec;                                                        \
            (w)->part_ten += (w)->part_sec;                                                        \
            (w)->part_sec = 0;                                                                     \
            if ((c)->closed % (WINDOW_FINE * WINDOW_SECS) == 0) {                                  \
                uint64_t ten_ = ((c)->closed / (WINDOW_FINE * WINDOW_SECS) - 1) % WINDOW_TENS;     \
                (w)->sum_60s += (w)->part_ten - (w)->ten[ten_];                                    \
                (w)->ten[ten_] = (w)->part_ten;                                                    \
                (w)->part_ten = 0;                                                                 \
            }                                                                                      \
        }                                                                                          \
    } while (0)

#define SUM(w, c, length)                                                                          \
    ((length) == WINDOW_100MS ? (w)->fine[((c)->closed + WINDOW_FINE - 1) % WINDOW_FINE]           \
     : (length) == WINDOW_1S  ? (w)->sum_1s                                                        \
     : (length) == WINDOW_10S ? (w)->sum_10s + (w)->part_sec                                       \
                              : (w)->sum_60s + (w)->part_ten + (w)->part_sec)

void window_start(struct window_clock *c, uint64_t now_us)
{
    *c = (struct window_clock){.start_us = now_us,
                               .now_us = now_us,
                               .open_sec_us = now_us,
                               .open_ten_us = now_us,
                               .is_started = 1};
}

void window_close(struct window_clock *c, uint64_t now_us)
{
    fb_assert(c->is_started);
    fb_assert(now_us >= c->now_us);
    c->fine_us[c->closed % WINDOW_FINE] = c->now_us;
    c->closed++;
    if (c->closed % WINDOW_FINE == 0) {
        uint64_t secs = c->closed / WINDOW_FINE;
        c->sec_us[(secs - 1) % WINDOW_SECS] = c->open_sec_us;
        c->open_sec_us = now_us;
        if (secs % WINDOW_SECS == 0) {
            c->ten_us[(secs / WINDOW_SECS - 1) % WINDOW_TENS] = c->open_ten_us;
            c->open_ten_us = now_us;
        }
    }
    c->now_us = now_us;
}

uint64_t window_covered_us(const struct window_clock *c, enum window_length length)
{
    if (c->closed == 0)
        return 0;
    uint64_t secs = c->closed / WINDOW_FINE;
    uint64_t tens = secs / WINDOW_SECS;
    uint64_t from = c->start_us;
    if (length == WINDOW_100MS)
        from = c->fine_us[(c->closed - 1) % WINDOW_FINE];
    else if (length == WINDOW_1S && c->closed >= WINDOW_FINE)
        from = c->fine_us[c->closed % WINDOW_FINE];
    else if (length == WINDOW_10S && secs >= WINDOW_SECS)
        from = c->sec_us[secs % WINDOW_SECS];
    else if (length == WINDOW_60S && tens >= WINDOW_TENS)
        from = c->ten_us[tens % WINDOW_TENS];
    fb_assert(from <= c->now_us);
    return c->now_us - from;
}

void window_roll_count(struct window_count *w, const struct window_clock *c, uint64_t add)
{
    fb_assert(c->closed > 0);
    ROLL(w, c, add);
}

uint64_t window_sum(const struct window_count *w, const struct window_clock *c,
                    enum window_length length)
{
    return SUM(w, c, length);
}

void window_roll_sketch(struct window_sketch *w, const struct window_clock *c)
{
    fb_assert(c->closed > 0);
    if (w->high == 0)
        return;
    fb_assert(w->high <= SKETCH_BUCKETS);
    uint64_t kept = 0;
    for (uint32_t b = w->low; b < w->high; b++) {
        struct window_bucket *col = &w->bucket[b];
        uint32_t add = w->fill[b];
        ROLL(col, c, add);
        w->fill[b] = 0;
        /* after 60 s without a sample the last pane that is not zero falls out of sum_60s */
        kept += (uint64_t)col->sum_1s + col->sum_10s + col->sum_60s + col->part_sec + col->part_ten;
    }
    w->n_fill = 0;
    w->n_kept = kept;
    if (kept == 0)
        w->low = w->high = 0;
}

void window_collect(const struct window_sketch *w, const struct window_clock *c,
                    enum window_length length, struct sketch *into)
{
    for (uint32_t b = w->low; b < w->high; b++) {
        uint32_t n = SUM(&w->bucket[b], c, length);
        into->count[b] += n;
        into->n += n;
    }
}
