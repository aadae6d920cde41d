/* SPDX-License-Identifier: Apache-2.0 */
/* log: what a process says to its operator on stderr, one logfmt line each.
 *
 * Not the access log and not the event stream.  Control bytes in values are escaped, so that a peer
 * cannot forge a line.  Threads: any; one write per line. */
#ifndef FB_BASE_LOG_H
#define FB_BASE_LOG_H
#include "base/base.h"

enum fb_log_level { FB_LOG_ERROR, FB_LOG_WARN, FB_LOG_INFO, FB_LOG_DEBUG };

void fb_log_init(const char *role,
                 enum fb_log_level most_verbose); /* <role> is borrowed for ever */
void fb_log(enum fb_log_level level, const char *fmt, ...) FB_PRINTF(2, 3);
#endif
