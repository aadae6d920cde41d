/* SPDX-License-Identifier: Apache-2.0 */
#include "knob/numbers.h"

#include "base/assert.h"

#include <stdio.h>
#include <string.h>

static bool is_used(const struct memfile *m, uint16_t number)
{
    return atomic_load_explicit(&m->endpoints[number].is_used, memory_order_acquire) != 0;
}

static uint64_t closed_us(const struct memfile *m, uint16_t number)
{
    return atomic_load_explicit(&m->lives[number].closed_us, memory_order_relaxed);
}

static bool is_held(const struct memfile *m, uint16_t number)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < MEMFILE_SLOTS; i++)
        sum += atomic_load_explicit(&m->lives[number].holders[i], memory_order_acquire);
    return sum > 0 || memfile_in_flight(&m->gauges[number]) > 0;
}

void numbers_begin(struct memfile *m, uint32_t slot, uint64_t now_us)
{
    fb_assert(slot < MEMFILE_SLOTS);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        atomic_store_explicit(&m->lives[i].holders[slot], 0, memory_order_relaxed);
        if (!atomic_load_explicit(&m->endpoints[i].has_left, memory_order_relaxed))
            numbers_leave(m, i, now_us);
    }
}

void numbers_stay(struct memfile *m, uint16_t number)
{
    atomic_store_explicit(&m->lives[number].left_us, 0, memory_order_relaxed);
    atomic_store_explicit(&m->lives[number].closed_us, 0, memory_order_relaxed);
    atomic_store_explicit(&m->endpoints[number].has_left, 0, memory_order_relaxed);
}

void numbers_leave(struct memfile *m, uint16_t number, uint64_t now_us)
{
    atomic_store_explicit(&m->lives[number].left_us, now_us, memory_order_relaxed);
    atomic_store_explicit(&m->endpoints[number].has_left, 1, memory_order_relaxed);
}

void numbers_tick(struct memfile *m, uint64_t now_us)
{
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        struct memfile_life *life = &m->lives[i];
        uint64_t left_us = atomic_load_explicit(&life->left_us, memory_order_relaxed);
        if (!is_used(m, i) || closed_us(m, i) ||
            !atomic_load_explicit(&m->endpoints[i].has_left, memory_order_relaxed) ||
            now_us < left_us + NUMBERS_CLOSE_US || is_held(m, i))
            continue;
        atomic_fetch_add_explicit(&life->generation, 1, memory_order_acq_rel);
        atomic_store_explicit(&life->closed_us, now_us, memory_order_relaxed);
    }
}

void numbers_hold(struct memfile *m, uint16_t number, uint32_t slot)
{
    atomic_fetch_add_explicit(&m->lives[number].holders[slot], 1, memory_order_relaxed);
}

void numbers_let_go(struct memfile *m, uint16_t number, uint32_t slot)
{
    uint32_t was =
        atomic_fetch_sub_explicit(&m->lives[number].holders[slot], 1, memory_order_release);
    fb_assert(was > 0);
}

static bool is_free(const struct memfile *m, uint16_t number, uint64_t now_us)
{
    uint64_t us = closed_us(m, number);
    return us && now_us >= us + NUMBERS_REST_MIN_US && !is_held(m, number);
}

/* A rested one first, then one that never had an owner, then the one that is closed for longest. */
static uint16_t find_room(const struct memfile *m, uint64_t now_us)
{
    uint16_t unused = EV_NONE, oldest = EV_NONE;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        if (!is_used(m, i))
            unused = unused == EV_NONE ? i : unused;
        else if (is_free(m, i, now_us) &&
                 (oldest == EV_NONE || closed_us(m, i) < closed_us(m, oldest)))
            oldest = i;
    }
    bool is_rested = oldest != EV_NONE && now_us >= closed_us(m, oldest) + NUMBERS_REST_US;
    return is_rested || unused == EV_NONE ? oldest : unused;
}

uint32_t numbers_room(const struct memfile *m, uint64_t now_us)
{
    uint32_t room = 0;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        room += !is_used(m, i) || is_free(m, i, now_us);
    return room;
}

/* What the last owner left in the memory file goes; counters that readers take differences of
 * stay. */
static void clear(struct memfile *m, uint16_t number)
{
    struct memfile_name *row = &m->endpoints[number];
    struct memfile_gauge *g = &m->gauges[number];
    memset(&m->keeps[number], 0, sizeof m->keeps[number]);
    memset(row->zone, 0, sizeof row->zone);
    atomic_store_explicit(&row->is_drained, 0, memory_order_relaxed);
    atomic_store_explicit(&row->source, 0, memory_order_relaxed);
    atomic_store_explicit(&g->limit, 0, memory_order_relaxed);
    atomic_store_explicit(&g->queued, 0, memory_order_relaxed);
    atomic_store_explicit(&g->health, 0, memory_order_relaxed);
    atomic_store_explicit(&g->weight_permille, 0, memory_order_relaxed);
    atomic_store_explicit(&g->utilisation_permille, UINT32_MAX, memory_order_relaxed);
    atomic_store_explicit(&g->place, 0, memory_order_relaxed);
    atomic_store_explicit(&g->others, 0, memory_order_relaxed);
}

static void remember(struct memfile *m, uint16_t number, uint64_t now_us)
{
    uint32_t count = atomic_load_explicit(&m->head->past_count, memory_order_relaxed);
    struct memfile_past *p = &m->pasts[count % MEMFILE_PASTS];
    atomic_store_explicit(&p->until_us, 0, memory_order_release); /* nobody reads it now */
    snprintf(p->name, sizeof p->name, "%s", m->endpoints[number].name);
    p->number = number;
    atomic_store_explicit(&p->since_us,
                          atomic_load_explicit(&m->lives[number].since_us, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&p->until_us, now_us, memory_order_release);
    atomic_store_explicit(&m->head->past_count, count + 1, memory_order_release);
}

uint16_t numbers_take(struct memfile *m, const char *name, uint16_t parent, uint64_t now_us)
{
    struct memfile_name *rows = m->endpoints;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (is_used(m, i) && strncmp(rows[i].name, name, sizeof rows[i].name - 1) == 0) {
            rows[i].parent = parent;
            return i;
        }
    uint16_t number = find_room(m, now_us);
    if (number == EV_NONE)
        return EV_NONE;
    struct memfile_name *row = &rows[number];
    struct memfile_life *life = &m->lives[number];
    if (is_used(m, number)) {
        remember(m, number, now_us);
        atomic_store_explicit(&row->is_used, 0, memory_order_release);
        atomic_store_explicit(&life->since_us, now_us, memory_order_relaxed);
    }
    clear(m, number);
    snprintf(row->name, sizeof row->name, "%s", name);
    row->parent = parent;
    row->version = EV_NONE;
    atomic_store_explicit(&life->closed_us, 0, memory_order_relaxed);
    numbers_leave(m, number, now_us);
    atomic_store_explicit(&row->is_used, 1, memory_order_release);
    atomic_fetch_add_explicit(&m->head->names_version, 1, memory_order_release);
    return number;
}

const char *numbers_name_at(const struct memfile *m, enum ev_kind kind, uint16_t number,
                            uint64_t time_us)
{
    if (kind != EV_KIND_ENDPOINT || number >= KNOB_TARGETS_MAX ||
        time_us >= atomic_load_explicit(&m->lives[number].since_us, memory_order_relaxed))
        return memfile_name(m, kind, number);
    uint32_t count = atomic_load_explicit(&m->head->past_count, memory_order_acquire);
    for (uint32_t i = 0; i < MEMFILE_PASTS && i < count; i++) { /* newest first */
        const struct memfile_past *p = &m->pasts[(count - 1 - i) % MEMFILE_PASTS];
        uint64_t until_us = atomic_load_explicit(&p->until_us, memory_order_acquire);
        if (p->number == number && time_us < until_us &&
            time_us >= atomic_load_explicit(&p->since_us, memory_order_relaxed))
            return p->name;
    }
    return "";
}
