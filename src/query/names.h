/* SPDX-License-Identifier: Apache-2.0 */
/* names: what the numbers in events mean at one point of the log, learned from its name events.
 *
 * Numbers are given anew when a configuration changes, so a name holds from its event on; whoever
 * scans feeds every name event that passes.  Memory: 104 bytes for each number below the largest.
 * Threads: one at a time per struct names. */
#ifndef FB_QUERY_NAMES_H
#define FB_QUERY_NAMES_H
#include "event/event.h"

#define NAME_BYTES 105
#define NAME_KINDS 5

struct names {
    char (*at[NAME_KINDS])[NAME_BYTES]; /* by enum ev_kind */
    uint32_t count[NAME_KINDS];
};
void names_init(struct names *n);
void names_fini(struct names *n);
/* False without memory. */
FB_MUST_USE
bool names_set(struct names *n, uint8_t kind, uint16_t number, const char *name);
FB_MUST_USE
bool names_feed(struct names *n, const struct ev_name *ev);
FB_MUST_USE
bool names_copy(struct names *to, const struct names *from);
/* "" when unknown. */
const char *names_get(const struct names *n, uint8_t kind, uint16_t number);
#endif
