/* SPDX-License-Identifier: Apache-2.0 */
/* when: times and lengths of time as people write them.
 *
 *   2026-11-22  2026-11-22T17  2026-11-22T17:00  2026-11-22 17:00:05.25Z     all of them UTC
 *   90  90s  500ms  20us  15m  2h  3d                                        a bare number: seconds
 *
 * Pure.  Threads: any. */
#ifndef FB_QUERY_WHEN_H
#define FB_QUERY_WHEN_H
#include "base/span.h"

#include <stdbool.h>

/* Smallest microsecond since 1970 that <text> names; false when it is no time. */
bool when_parse(struct span text, uint64_t *wall_us);
/* A length of 1 us to 36500 days. */
bool when_parse_length(struct span text, uint64_t *us);
/* Either: a time, or a length before <now_us>. */
bool when_parse_either(struct span text, uint64_t now_us, uint64_t *wall_us);
/* Order of two texts as times; what is no time comes behind, in the order of its bytes. */
int when_compare(struct span a, struct span b);
#endif
