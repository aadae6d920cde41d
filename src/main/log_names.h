/* SPDX-License-Identifier: Apache-2.0 */
/* log_names: what the numbers in events mean at some offset, for query and export.
 *
 * The newest snapshot at or before the offset and the name events behind it; when there is none
 * near, the log from its start; when that is too far, the oldest snapshot behind the offset, which
 * knows what is named then.  A copied log without a state file is read from its start.
 * Threads: one at a time. */
#ifndef FB_MAIN_LOG_NAMES_H
#define FB_MAIN_LOG_NAMES_H
#include "main/fold.h"
#include "query/names.h"

/* Where a command looks for the log: <dir> (a state folder or a log folder) or the state folder. */
struct log_place {
    char log[600], state[600]; /* state "" when there is no state file */
};
FB_MUST_USE
enum fb_code log_place_find(struct log_place *place, const char *dir, const char *state,
                            struct fb_err *err);
/* The newest snapshot into <fold>, which is initialised, and the offset it stands for; without one
 * *offset is 0 and nothing changes. */
FB_MUST_USE
enum fb_code log_fold_newest(const struct log_place *place, struct fold *fold, uint64_t *offset,
                             struct fb_err *err);
/* As scan_source.names_at; <arg> is a struct log_place. */
FB_MUST_USE
bool log_names_at(void *arg, uint64_t offset, struct names *names);
#endif
