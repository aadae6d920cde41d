/* SPDX-License-Identifier: Apache-2.0 */
#include "io/wheel.h"

#include "base/assert.h"

#define SLOT_BITS 6
#define SLOT_MASK (WHEEL_SLOTS - 1)
/* Longest distance that the rings hold; later timers wait there and are armed again. */
#define REACH_MS ((UINT64_C(1) << (SLOT_BITS * WHEEL_LEVELS)) - 1)

static void arm(struct wheel *w, struct loop_timer *t);
static struct loop_timer *take_slot(struct wheel *w, unsigned level, uint64_t block);

void wheel_init(struct wheel *w, uint64_t now_us)
{
    *w = (struct wheel){.tick = now_us / US_PER_MS};
}

void wheel_set(struct wheel *w, struct loop_timer *t, uint64_t due_us)
{
    fb_assert(t->on_due != NULL);
    t->due_us = due_us ? due_us : 1;
    uint64_t due_ms = (t->due_us + US_PER_MS - 1) / US_PER_MS;
    if (t->prev && t->armed_ms <= due_ms)
        return; /* lazily: its old slot comes first and moves it on */
    if (t->prev) {
        uint64_t due_us_kept = t->due_us;
        wheel_stop(t);
        t->due_us = due_us_kept;
    }
    arm(w, t);
}

void wheel_stop(struct loop_timer *t)
{
    t->due_us = 0;
    if (!t->prev)
        return;
    *t->prev = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->next = NULL;
    t->prev = NULL;
}

void wheel_advance(struct wheel *w, uint64_t now_us)
{
    uint64_t now_ms = now_us / US_PER_MS;
    while (w->tick <= now_ms) {
        uint64_t tick = w->tick;
        /* a ring that begins a new block hands that block down, the widest first */
        for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--) {
            if (tick & ((UINT64_C(1) << (SLOT_BITS * level)) - 1))
                continue;
            struct loop_timer *list = take_slot(w, level, tick >> (SLOT_BITS * level));
            while (list) {
                struct loop_timer *t = list;
                list = t->next;
                arm(w, t);
            }
        }
        struct loop_timer *list = take_slot(w, 0, tick);
        w->tick = tick + 1; /* what callbacks set now lands behind this slot */
        if (list)
            list->prev = &list; /* a callback may stop others of this list */
        while (list) {
            struct loop_timer *t = list;
            list = t->next;
            if (list)
                list->prev = &list;
            t->next = NULL;
            t->prev = NULL;
            if (t->due_us > now_us) {
                arm(w, t);
                continue;
            }
            t->due_us = 0;
            t->on_due(t);
        }
    }
}

uint32_t wheel_wait_ms(const struct wheel *w, uint64_t now_us, uint32_t most_ms)
{
    uint64_t best = UINT64_MAX;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        if (!w->used[level])
            continue;
        unsigned shift = SLOT_BITS * level;
        uint64_t block = (w->tick + ((UINT64_C(1) << shift) - 1)) >> shift;
        unsigned turn = (unsigned)block & SLOT_MASK;
        uint64_t bits = w->used[level];
        bits = turn ? bits >> turn | bits << (WHEEL_SLOTS - turn) : bits;
        best = fb_min_u64(best, (block + (unsigned)__builtin_ctzll(bits)) << shift);
    }
    if (best == UINT64_MAX)
        return most_ms;
    uint64_t wait_us = fb_sub_floor_u64(best * US_PER_MS, now_us);
    return (uint32_t)fb_min_u64((wait_us + US_PER_MS - 1) / US_PER_MS, most_ms);
}

static void arm(struct wheel *w, struct loop_timer *t)
{
    uint64_t due_ms = (t->due_us + US_PER_MS - 1) / US_PER_MS;
    uint64_t at = fb_max_u64(due_ms, w->tick);
    at = fb_min_u64(at, w->tick + REACH_MS);
    uint64_t delta = at - w->tick;
    unsigned level = 0;
    while (delta >> (SLOT_BITS * (level + 1)))
        level++;
    fb_assert(level < WHEEL_LEVELS);
    unsigned slot = (unsigned)(at >> (SLOT_BITS * level)) & SLOT_MASK;
    struct loop_timer **head = &w->slot[level][slot];
    t->armed_ms = at;
    t->next = *head;
    t->prev = head;
    if (t->next)
        t->next->prev = &t->next;
    *head = t;
    w->used[level] |= UINT64_C(1) << slot;
}

static struct loop_timer *take_slot(struct wheel *w, unsigned level, uint64_t block)
{
    unsigned slot = (unsigned)block & SLOT_MASK;
    struct loop_timer *list = w->slot[level][slot];
    w->slot[level][slot] = NULL;
    w->used[level] &= ~(UINT64_C(1) << slot);
    return list;
}
