/* SPDX-License-Identifier: Apache-2.0 */
#include "event/ring.h"

#include "base/assert.h"

#include <string.h>

size_t ring_bytes(uint32_t cells)
{
    fb_assert(cells >= 64);
    fb_assert((cells & (cells - 1)) == 0);
    return sizeof(struct ring) + (size_t)cells * EV_CELL_BYTES;
}

void ring_init(struct ring *r, uint32_t cells)
{
    fb_assert(((uintptr_t)r & (FB_CACHE_LINE_BYTES - 1)) == 0);
    fb_assert((cells & (cells - 1)) == 0);
    r->cells = cells;
    r->origin = EV_ORIGIN_REPLAY;
}

void ring_origin_set(struct ring *r, uint8_t origin)
{
    fb_assert(origin < EV_ORIGIN_BRAIN);
    r->origin = origin;
}

bool ring_put(struct ring *r, const struct ev_head *ev)
{
    uint32_t n = ev->cells;
    fb_assert(n >= 1);
    fb_assert(n <= EV_CELLS_MAX);
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    uint32_t at = (uint32_t)head & (r->cells - 1);
    uint32_t fill = at + n > r->cells ? r->cells - at : 0;
    if (head + fill + n - r->tail_seen > r->cells) {
        r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
        if (head + fill + n - r->tail_seen > r->cells) {
            atomic_fetch_add_explicit(&r->lost, 1, memory_order_relaxed);
            r->sequence++; /* the hole in the numbers shows the loss */
            return false;
        }
    }
    if (fill) {
        memset(r->cell + (size_t)at * EV_CELL_BYTES, 0,
               EV_CELL_BYTES); /* type 0: filler to the end */
        head += fill;
        at = 0;
    }
    unsigned char *to = r->cell + (size_t)at * EV_CELL_BYTES;
    memcpy(to, ev, (size_t)n * EV_CELL_BYTES);
    struct ev_head *stamped = (void *)to;
    stamped->sequence = r->sequence++;
    if (r->origin != EV_ORIGIN_REPLAY)
        stamped->origin = (uint8_t)r->origin;
    atomic_store_explicit(&r->head, head + n, memory_order_release);
    return true;
}

uint64_t ring_cursor(struct ring *r)
{
    return atomic_load_explicit(&r->tail, memory_order_relaxed);
}

const struct ev_head *ring_peek(struct ring *r, uint64_t *cursor)
{
    uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    while (*cursor < head) {
        uint32_t at = (uint32_t)*cursor & (r->cells - 1);
        const struct ev_head *ev = (const void *)(r->cell + (size_t)at * EV_CELL_BYTES);
        uint32_t n = *(const volatile uint8_t *)&ev->cells;
        uint64_t next = ev->type == 0 ? *cursor + (r->cells - at) : *cursor + n;
        bool is_damaged = ev->type != 0 && (n < 1 || n > EV_CELLS_MAX || at + n > r->cells);
        if (is_damaged || next > head) {
            /* the other process wrote nonsense: where the next record begins is unknown */
            *cursor = head;
            return NULL;
        }
        *cursor = next;
        if (ev->type == 0)
            continue;
        return ev;
    }
    return NULL;
}

void ring_release(struct ring *r, uint64_t cursor)
{
    fb_assert(cursor >= atomic_load_explicit(&r->tail, memory_order_relaxed));
    atomic_store_explicit(&r->tail, cursor, memory_order_release);
}
