/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_int: one exposition in the making, shared by metrics_families.c and metrics_feeds.c.
 *
 * Threads: the one of metrics_write. */
#ifndef FB_OUTPUT_METRICS_INT_H
#define FB_OUTPUT_METRICS_INT_H
#include "output/metrics.h"

struct writer {
    const struct metrics_view *view;
    struct buf *out;
    bool is_om;
};

#define VALUES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* HELP and TYPE, then lines: label values in the order of the row's labels. */
void metrics_family(struct writer *w, enum metric_id id);
void metrics_put_u64(struct writer *w, enum metric_id id, const char *const values[], uint64_t v);
void metrics_put_f64(struct writer *w, enum metric_id id, const char *const values[], double v);
void metrics_write_feeds(struct writer *w);
#endif
