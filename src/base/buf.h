/* SPDX-License-Identifier: Apache-2.0 */
/* buf: bytes that grow up to a maximum set at birth.
 *
 * A put beyond the maximum, or without memory, writes nothing and sets <failed>; check it once at
 * the end. Threads: a buf belongs to one thread. */
#ifndef FB_BASE_BUF_H
#define FB_BASE_BUF_H
#include "base/span.h"

struct buf {
    char *at;
    size_t len, cap, max; /* bytes */
    bool failed;
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_fini(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory, forgets bytes and failure */
bool buf_reserve(struct buf *b, size_t more_bytes);
void buf_put(struct buf *b, const void *bytes, size_t len);
void buf_puts(struct buf *b, const char *text);
void buf_put_span(struct buf *b, struct span s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) FB_PRINTF(2, 3);
void buf_drop_front(struct buf *b, size_t len);         /* moves the rest down */
static inline struct span buf_span(const struct buf *b) /* borrowed until the next change */
{
    return (struct span){b->at, b->len};
}
/* The bytes as a terminated string, borrowed; "" when empty or failed. */
const char *buf_str(struct buf *b);
#endif
