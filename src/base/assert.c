/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void (*fail_hook)(void);

void fb_assert_on_fail(void (*hook)(void))
{
    fail_hook = hook;
}

void fb_assert_failed(const char *what, const char *file, int line)
{
    char text[512];
    int n = snprintf(
        text, sizeof text,
        "foldback: broken promise: %s (%s:%d); this is a bug in foldback, please report it\n", what,
        file, line);
    if (n > 0 &&
        write(STDERR_FILENO, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1) < 0)
        _exit(134);
    if (fail_hook) {
        void (*hook)(void) = fail_hook;
        fail_hook = NULL; /* a hook that fails itself must not come back here */
        hook();
    }
    abort();
}
