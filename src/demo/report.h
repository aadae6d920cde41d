/* SPDX-License-Identifier: Apache-2.0 */
/* report: the demo as one self-contained HTML file: both lanes over time, the table, the decisions.
 *
 * No script, no external file; light and dark by prefers-color-scheme.  Threads: any. */
#ifndef FB_DEMO_REPORT_H
#define FB_DEMO_REPORT_H
#include "demo/result.h"

struct report {
    const struct demo_scenario *scenario;
    uint32_t seconds;
    const struct load_board *ours, *twin;
    const struct result *ours_result, *twin_result;
    struct span decisions; /* JSON of the admin API, may be empty */
};
void report_html(const struct report *r, struct buf *out);
#endif
