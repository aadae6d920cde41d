/* SPDX-License-Identifier: Apache-2.0 */
/* promtext: what a /metrics page of Prometheus says, as it comes: text format 0.0.4 and
 * OpenMetrics 1.0, with the quoted names of UTF-8 that Prometheus 3 added to both.
 *
 *   bytes in any pieces --promtext_feed--> lines --> each(sample) ... promtext_end: it was whole
 *
 * Strict: the first line that is none ends it, with its number and what is wrong.  What was given
 * before may be half of a page: the caller keeps nothing of it until promtext_end is true.
 * Bounds: a line of PROMTEXT_LINE_BYTES_MAX, PROMTEXT_LABELS_MAX labels; no allocation.
 * Pure.  Threads: a struct promtext belongs to one. */
#ifndef FB_EVENT_PROMTEXT_H
#define FB_EVENT_PROMTEXT_H
#include "base/span.h"

#define PROMTEXT_LINE_BYTES_MAX (16 * KIB)
#define PROMTEXT_LABELS_MAX 256 /* a kube_pod_labels has over a hundred */
#define PROMTEXT_NAME_BYTES_MAX 200

enum prom_type {
    PROM_UNTYPED,
    PROM_COUNTER,
    PROM_GAUGE,
    PROM_HISTOGRAM,
    PROM_SUMMARY,
    PROM_OTHER /* info, stateset, gaugehistogram: each sample as it is */
};
enum prom_part { PROM_VALUE, PROM_SUM, PROM_COUNT, PROM_BUCKET };
struct prom_label {
    struct span name, value; /* without escapes */
};
struct prom_sample {    /* borrowed for the call */
    struct span name;   /* http_request_seconds_count; of a quoted one other bytes are `_` */
    struct span family; /* http_request_seconds; the name when no TYPE tells it */
    enum prom_type type;
    enum prom_part part; /* of a histogram or summary */
    const struct prom_label *label;
    uint32_t label_count;
    double value; /* may be infinite or no number */
};
typedef void promtext_each(void *arg, const struct prom_sample *sample);

struct promtext {
    promtext_each *each;
    void *arg;
    bool is_openmetrics;
    uint64_t lines, samples;
    char why[160]; /* "" good so far; "line 7: ..." */
    /* private */
    bool is_ended;
    enum prom_type type;
    size_t family_len, len;
    char family[PROMTEXT_NAME_BYTES_MAX];
    struct prom_label label[PROMTEXT_LABELS_MAX];
    char line[PROMTEXT_LINE_BYTES_MAX + 1];
};

void promtext_init(struct promtext *p, bool is_openmetrics, promtext_each *each, void *arg);
/* False: bad, see <why>; further calls do nothing. */
FB_MUST_USE
bool promtext_feed(struct promtext *p, struct span bytes);
/* The page is over.  False: bad, or cut. */
FB_MUST_USE
bool promtext_end(struct promtext *p);
#endif
