/* SPDX-License-Identifier: Apache-2.0 */
/* result: what the samples of one lane add up to; exact quantiles, no sketch.
 *
 * "In time" = answered with a good status within DEMO_DEADLINE_US of the scheduled time.  Threads:
 * any. */
#ifndef FB_DEMO_RESULT_H
#define FB_DEMO_RESULT_H
#include "base/json.h"
#include "demo/load.h"

struct result_class {
    uint64_t offered, in_time, ok, shed, errors, timeouts;
    double p50_ms, p99_ms, p999_ms; /* of good answers; 0 without any */
};
struct result {
    struct result_class all, class[EV_CLASS_COUNT];
};
/* Samples scheduled in [from_ms, until_ms). */
void result_compute(const struct load_board *board, uint32_t from_ms, uint32_t until_ms,
                    struct result *out);
double result_in_time_pct(const struct result_class *c);
void result_to_json(const struct result *r, struct json *j);
/* Both lanes side by side, for a terminal. */
void result_table(const struct result *ours, const struct result *twin, struct buf *out);
#endif
