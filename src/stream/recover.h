/* SPDX-License-Identifier: Apache-2.0 */
/* recover: what log_open does before the writer starts.
 *
 * From the newest segment backwards until one holds a good block: every header and body is checked.
 * What was acknowledged is known from the blocks themselves, the watermark and the snapshot:
 *
 *   good blocks | bad bytes | good blocks | bad or missing bytes: always cut
 *                 offsets below what was acknowledged: damage, stays, told, readers skip it
 *                 others: never acknowledged (a power cut keeps pages in any order): cut from there
 *
 * The end that nothing proves to be on the disk is written and synced again: a killed writer may
 * have left it in the page cache, and a page that failed once is clean there, so that a sync alone
 * would not write it.
 *
 * Threads: log_open's. */
#ifndef FB_STREAM_RECOVER_H
#define FB_STREAM_RECOVER_H
#include "stream/log.h"
#include "stream/segment.h"

struct recover_from {
    const char *dir;
    uint64_t numbered;       /* offsets below were acknowledged (watermark, snapshot) */
    const struct log_io *io; /* complete */
};

/* Changes *list to what is left. */
FB_MUST_USE
enum fb_code recover_tail(struct segment_list *list, const struct recover_from *from,
                          struct log_recovery *rec, struct fb_err *err);
#endif
