/* SPDX-License-Identifier: Apache-2.0 */
/* feature: what each feature of the gateway did so far, for `why`, the API and the dashboard.
 *
 * Numbers only, by label; a feature that was not met yet has none.  A label that ends in _bytes or
 * _pct says its unit, _days and _s too; others are counts since the brain began, or since the
 * supervisor did for what lies in the memory file.
 * Threads: the brain's loop. */
#ifndef FB_OUTPUT_FEATURE_H
#define FB_OUTPUT_FEATURE_H
#include "output/admin_int.h"

enum feature_id {
#define FEATURE(id, ...) FEATURE_##id,
#include "output/features.def"
#undef FEATURE
    FEATURE_COUNT
};
struct feature_row {
    const char *name, *title, *keys, *metrics, *reasons, *page, *what; /* lists: with commas */
    enum ev_kind kind;
};
const struct feature_row *feature_row(unsigned id);
unsigned feature_by_name(struct span name); /* FEATURE_COUNT: none */

#define FEATURE_FIGURES_MAX 16
struct feature_figure {
    const char *label;
    double value;
};
/* Of the route, service or endpoint <number>, or of the node; 0: there is nothing to say. */
size_t feature_figures(const struct admin *a, unsigned id, uint16_t number,
                       struct feature_figure out[FEATURE_FIGURES_MAX]);
/* "12 kept, 3 moved, 0 new" */
void feature_text(const struct feature_figure *figures, size_t count, struct buf *out);
#endif
