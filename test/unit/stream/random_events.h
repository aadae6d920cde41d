/* SPDX-License-Identifier: Apache-2.0 */
/* random_events: records of all types whose bytes cover what the column coder may meet.  Threads:
 * one. */
#ifndef FB_TEST_RANDOM_EVENTS_H
#define FB_TEST_RANDOM_EVENTS_H
#include "base/rng.h"
#include "event/event.h"

enum random_style { RANDOM_BYTES, RANDOM_ZERO, RANDOM_SMALL, RANDOM_GROWING, RANDOM_STYLES };

static inline void random_field(struct rng *rng, const struct ev_field_row *f,
                                unsigned char *record, enum random_style style, uint64_t turn)
{
    unsigned char *at = record + f->offset;
    uint64_t v = style == RANDOM_ZERO      ? 0
                 : style == RANDOM_SMALL   ? rng_below(rng, 40)
                 : style == RANDOM_GROWING ? turn * 1000 + rng_below(rng, 50)
                                           : rng_u64(rng);
    if (f->type != EV_FT_text) {
        memcpy(at, &v, f->bytes);
        return;
    }
    uint32_t len = style == RANDOM_ZERO ? 0 : rng_below(rng, f->bytes + 1u);
    for (uint32_t i = 0; i < len; i++)
        at[i] = (unsigned char)(style == RANDOM_BYTES ? rng_u64(rng) : 'a' + rng_below(rng, 26));
}

/* One record of <type>; returns its bytes. */
static inline size_t random_event(struct rng *rng, union ev_any *any, uint8_t type, uint64_t turn)
{
    const struct ev_type_row *t = ev_type_row(type);
    memset(any, 0, sizeof *any);
    for (int i = 0; i < t->field_count; i++)
        random_field(rng, &t->fields[i], any->bytes,
                     (enum random_style)rng_below(rng, RANDOM_STYLES), turn);
    any->head.type = type;
    any->head.cells = t->cells;
    any->head.version = 1;
    any->head.origin = (uint8_t)(rng_below(rng, 8) ? rng_below(rng, 3) : EV_ORIGIN_BRAIN);
    any->head.sequence = rng_below(rng, 50) ? (uint32_t)turn : (uint32_t)rng_u64(rng);
    any->head.time_us = rng_below(rng, 50) ? turn * 100 + rng_below(rng, 300) : rng_u64(rng);
    return (size_t)t->cells * EV_CELL_BYTES;
}

static inline uint8_t random_type(struct rng *rng)
{
    for (;;) {
        uint8_t type = (uint8_t)(1 + rng_below(rng, EV_TYPE_END - 1));
        if (ev_type_row(type)->name) /* numbers may have holes */
            return type;
    }
}

/* <count> records at <to>, at most <room> bytes; returns the bytes.  <types>: how many types to
 * mix. */
static inline size_t random_events(struct rng *rng, unsigned char *to, size_t room, uint32_t count)
{
    uint8_t type[3];
    size_t len = 0;
    for (int i = 0; i < 3; i++)
        type[i] = random_type(rng);
    bool is_mixed = rng_below(rng, 3) == 0;
    for (uint32_t i = 0; i < count; i++) {
        union ev_any any;
        uint8_t t = is_mixed ? random_type(rng) : type[rng_below(rng, 3)];
        size_t bytes = random_event(rng, &any, t, i);
        if (len + bytes > room)
            break;
        memcpy(to + len, any.bytes, bytes);
        len += bytes;
    }
    return len;
}
#endif
