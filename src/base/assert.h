/* SPDX-License-Identifier: Apache-2.0 */
/* assert: a broken promise of our own code ends the process; the supervisor starts it again.
 *
 * Always on, also in release builds.  One fact each: split a && b into two.  Threads: any. */
#ifndef FB_BASE_ASSERT_H
#define FB_BASE_ASSERT_H
#include "base/base.h"

/* Prints what was promised and where, lets the installed hook print the last events, aborts. */
_Noreturn void fb_assert_failed(const char *what, const char *file, int line);

/* <hook> runs once before abort, with no lock held; async-signal-safe code only.  NULL: none. */
void fb_assert_on_fail(void (*hook)(void));

#define fb_assert(fact)                                                                            \
    do {                                                                                           \
        if (FB_UNLIKELY(!(fact)))                                                                  \
            fb_assert_failed(#fact, __FILE__, __LINE__);                                           \
    } while (0)
#endif
