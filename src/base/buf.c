/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *b, size_t max_bytes)
{
    fb_assert(max_bytes > 0);
    *b = (struct buf){.max = max_bytes};
}

void buf_fini(struct buf *b)
{
    free(b->at);
    *b = (struct buf){.max = 1};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

bool buf_reserve(struct buf *b, size_t more_bytes)
{
    fb_assert(b->max > 0);
    if (b->failed)
        return false;
    if (more_bytes > b->max - b->len) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + more_bytes;
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 256;
    while (cap < need)
        cap *= 2;
    if (cap > b->max)
        cap = b->max;
    char *at = realloc(b->at, cap);
    if (!at) {
        b->failed = true;
        return false;
    }
    b->at = at;
    b->cap = cap;
    return true;
}

void buf_put(struct buf *b, const void *bytes, size_t len)
{
    if (len == 0 || !buf_reserve(b, len))
        return;
    memcpy(b->at + b->len, bytes, len);
    b->len += len;
}

void buf_puts(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_put_span(struct buf *b, struct span s)
{
    buf_put(b, s.at, s.len);
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    fb_assert(n >= 0);
    /* one more byte for the terminator, which is not counted */
    if (buf_reserve(b, (size_t)n + 1)) {
        vsnprintf(b->at + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_drop_front(struct buf *b, size_t len)
{
    fb_assert(len <= b->len);
    if (len < b->len)
        memmove(b->at, b->at + len, b->len - len);
    b->len -= len;
}

const char *buf_str(struct buf *b)
{
    if (!buf_reserve(b, 1))
        return "";
    b->at[b->len] = '\0';
    return b->at;
}
