/* SPDX-License-Identifier: Apache-2.0 */
/* error: expected failures as a code and one sentence; no allocation on the error path.
 *
 * The sentence names the key or file, the legal range and the next step.  Threads: any. */
#ifndef FB_BASE_ERROR_H
#define FB_BASE_ERROR_H
#include "base/base.h"

enum fb_code {
#define FB_ERROR(name, exit_code, ...) FB_E_##name,
#include "base/errors.def"
#undef FB_ERROR
    FB_E_COUNT,
    FB_OK = FB_E_OK
};

struct fb_err {
    enum fb_code code;
    char text[480]; /* one sentence, always terminated */
};

struct fb_error_row {
    const char *name;
    int exit_code;
    const char *what;
    const char *remedy;
};

const struct fb_error_row *fb_error_row(enum fb_code code);

/* Fills <err> (may be NULL) and returns <code>, so that a caller can `return fb_fail(...)`. */
enum fb_code fb_fail(struct fb_err *err, enum fb_code code, const char *fmt, ...) FB_PRINTF(3, 4);
#endif
