/* SPDX-License-Identifier: Apache-2.0 */
#include "knob/sources.h"

#include "base/assert.h"

#include <stdio.h>
#include <string.h>

/* Odd: it is being written.  A writer that died in the middle is cleared by its successor. */
static void write_row(struct memfile_source *r, const struct source *s)
{
    uint32_t version = atomic_load_explicit(&r->version, memory_order_relaxed) | 1;
    atomic_store_explicit(&r->version, version, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    if (s)
        memcpy(r->bytes, s, sizeof *s);
    r->is_said = s != NULL;
    atomic_store_explicit(&r->version, version + 1, memory_order_release);
}

void sources_begin(struct memfile *m, uint32_t slot)
{
    for (uint16_t i = 0; i < sources_top(m); i++)
        if (atomic_load_explicit(&m->sources[i].owner, memory_order_relaxed) == slot + 1)
            sources_drop(m, i);
}

uint16_t sources_take(struct memfile *m, uint32_t slot)
{
    _Static_assert(sizeof(struct source) <= sizeof m->sources[0].bytes, "a row holds a source");
    for (uint16_t i = 0; i < MEMFILE_SOURCES; i++) {
        uint32_t nobody = 0;
        if (!atomic_compare_exchange_strong(&m->sources[i].owner, &nobody, slot + 1))
            continue;
        uint32_t top = sources_top(m);
        while (top <= i && !atomic_compare_exchange_weak(&m->head->source_top, &top, i + 1u))
            ;
        return i;
    }
    atomic_fetch_add_explicit(&m->head->source_lack, 1, memory_order_relaxed);
    return EV_NONE;
}

void sources_say_lack(struct memfile *m, uint32_t names)
{
    atomic_store_explicit(&m->head->source_lack, names, memory_order_relaxed);
}

uint32_t sources_lack(const struct memfile *m)
{
    return atomic_load_explicit(&m->head->source_lack, memory_order_relaxed);
}

void sources_say(struct memfile *m, uint16_t row, const struct source *s)
{
    fb_assert(row < MEMFILE_SOURCES);
    struct memfile_source *r = &m->sources[row];
    if (!r->is_said || memcmp(r->bytes, s, sizeof *s) != 0)
        write_row(r, s);
}

void sources_drop(struct memfile *m, uint16_t row)
{
    fb_assert(row < MEMFILE_SOURCES);
    write_row(&m->sources[row], NULL);
    atomic_store_explicit(&m->sources[row].owner, 0, memory_order_release);
}

bool sources_read(const struct memfile *m, uint16_t row, struct source *out)
{
    if (row >= sources_top(m))
        return false;
    const struct memfile_source *r = &m->sources[row];
    uint32_t slot = atomic_load_explicit(&m->head->gateway_slot, memory_order_acquire);
    for (int tries = 0; tries < 100; tries++) {
        uint32_t before = atomic_load_explicit(&r->version, memory_order_acquire);
        uint32_t owner = atomic_load_explicit(&r->owner, memory_order_relaxed);
        bool is_said = r->is_said;
        memcpy(out, r->bytes, sizeof *out);
        atomic_thread_fence(memory_order_acquire);
        if ((before & 1) || before != atomic_load_explicit(&r->version, memory_order_relaxed))
            continue;
        return is_said && owner == slot + 1;
    }
    return false; /* its writer died in the middle: the next one says it anew */
}

uint32_t sources_top(const struct memfile *m)
{
    return atomic_load_explicit(&m->head->source_top, memory_order_acquire);
}

void sources_text(const struct source *s, char text[SOURCE_TEXT_BYTES])
{
    if (s->port)
        snprintf(text, SOURCE_TEXT_BYTES, "dns://%.255s:%u", s->host, s->port);
    else
        snprintf(text, SOURCE_TEXT_BYTES, "dns+srv://%.255s", s->host);
}

const char *sources_state_name(uint8_t state)
{
    static const char *const names[SOURCE_STATES] = {[SOURCE_ASKED] = "pending",
                                                     [SOURCE_KNOWN] = "resolved",
                                                     [SOURCE_KEPT] = "stale",
                                                     [SOURCE_NONE] = "unresolved"};
    return state < SOURCE_STATES ? names[state] : "";
}
