/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>

static const struct fb_error_row rows[] = {
#define FB_ERROR(rname, rcode, ...) {.name = #rname, .exit_code = rcode, __VA_ARGS__},
#include "base/errors.def"
#undef FB_ERROR
};

const struct fb_error_row *fb_error_row(enum fb_code code)
{
    fb_assert(code < FB_E_COUNT);
    return &rows[code];
}

enum fb_code fb_fail(struct fb_err *err, enum fb_code code, const char *fmt, ...)
{
    fb_assert(code != FB_OK);
    if (!err)
        return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return code;
}
