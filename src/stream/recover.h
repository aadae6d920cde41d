/* SPDX-License-Identifier: Apache-2.0 */
/* recover: what log_open does before the writer starts.
 *
 * From the newest segment backwards until one holds a good block: every header and body is checked,
 * bytes behind the last good block are cut, bad bytes between good blocks stay and are reported
 * (readers skip them).  The rest is synced again, because a killed writer may have left it in the
 * page cache only.
 *
 * Threads: log_open's. */
#ifndef FB_STREAM_RECOVER_H
#define FB_STREAM_RECOVER_H
#include "stream/log.h"
#include "stream/segment.h"

/* Changes *list to what is left.  <numbered>: offsets below were given out (watermark, snapshot).
 */
FB_MUST_USE
enum fb_code recover_tail(struct segment_list *list, const char *dir, uint64_t numbered,
                          struct log_recovery *rec, struct fb_err *err);
#endif
