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
void metrics_write_traits(struct writer *w); /* metrics_traits.c */
/* "_none" for no number, "_gone" for one that has lost its name. */
const char *metrics_name(const struct writer *w, enum ev_kind kind, uint32_t number);
const char *metrics_route_service(const struct writer *w, uint32_t route);
/* metrics_traits.c: what of a request metrics_feed counts there. */
void metrics_feed_traits(struct metrics *m, const struct ev_request *r);
#endif
