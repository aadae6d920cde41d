/* SPDX-License-Identifier: Apache-2.0 */
/* repair: acts on what check.h found.
 *
 *   damage between good blocks   its bytes are copied to <dir>/cut/, its first 32 are replaced by a
 *                                mark, so that it is known and no check asks again
 *   damage at a segment's end    copied to <dir>/cut/, then cut off
 *   no good block in a segment   the whole file goes to <dir>/cut/
 *
 * A good block is never touched, and nothing is removed that does not stand in <dir>/cut/, synced,
 * first.  Where another process writes the log, only the segments that it has finished are touched:
 * their good blocks never change, so its readers see the same events as before.
 *
 * Threads: any; two repairs of one log exclude each other by <dir>/repair.lock. */
#ifndef FB_STREAM_REPAIR_H
#define FB_STREAM_REPAIR_H
#include "stream/check.h"

enum repair_step { REPAIR_MARK, REPAIR_CUT, REPAIR_MOVE, REPAIR_LATER, REPAIR_NONE };

struct log_repair {
    bool is_live;    /* a writer holds the log: its newest segment has to wait */
    uint32_t newest; /* number of the segment that has to wait */
    int lock_fd, repair_fd;
};

/* Takes the locks; FB_E_CONFLICT: another repair runs.  With is_live the caller may go on. */
FB_MUST_USE
enum fb_code log_repair_begin(struct log_repair *r, const char *dir, struct fb_err *err);
void log_repair_end(struct log_repair *r);
/* What would be done with <place>. */
enum repair_step log_repair_plan(const struct log_repair *r, const struct check_place *place);
/* Does it.  FB_E_IO, FB_E_DISK_FULL: this place is as it was. */
FB_MUST_USE
enum fb_code log_repair_do(const struct log_repair *r, const char *dir,
                           const struct check_place *place, struct fb_err *err);
#endif
