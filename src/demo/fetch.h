/* SPDX-License-Identifier: Apache-2.0 */
/* fetch: one GET to the admin API of the demo's own foldback; blocking, bounded by 3 s.
 *
 * Threads: any. */
#ifndef FB_DEMO_FETCH_H
#define FB_DEMO_FETCH_H
#include "base/buf.h"
#include "base/error.h"

/* Body of GET http://<address><path> with the token in <state_dir>.  Errors: UNREACHABLE, FORMAT,
 * DENIED. */
FB_MUST_USE
enum fb_code fetch_get(const char *address, const char *state_dir, const char *path,
                       struct buf *body, struct fb_err *err);
#endif
