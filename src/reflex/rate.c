/* SPDX-License-Identifier: Apache-2.0 */
#include "reflex/rate.h"

#include "base/assert.h"

#include <stdlib.h>

#define WAYS 4

/* tag 0: nobody.  Its lowest bit is the kind: 1 a quota.
 * value of a bucket: when it is full again, ns since 1970.
 * value of a quota: end of its window in s since 1970 << 32 | requests counted in it. */
struct entry {
    _Atomic uint64_t tag, value;
};
struct set {
    _Alignas(FB_CACHE_LINE_BYTES) struct entry way[WAYS];
};
struct rate_table {
    uint64_t mask;
    struct set *sets;
};

static struct entry *find(struct rate_table *t, uint64_t tag, uint64_t now_us, bool *has_pushed);
static uint64_t full_us(uint64_t tag, uint64_t value);
static bool step_bucket(const struct rate_limit *l, uint64_t now_us, uint64_t *value,
                        struct rate_verdict *v);
static bool step_quota(const struct rate_limit *l, uint64_t now_us, uint64_t *value,
                       struct rate_verdict *v);

struct rate_table *rate_table_new(uint32_t entries)
{
    uint64_t sets = 1;
    while (sets * WAYS < entries)
        sets *= 2;
    struct rate_table *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->mask = sets - 1;
    t->sets = aligned_alloc(FB_CACHE_LINE_BYTES, sets * sizeof(struct set));
    if (!t->sets) {
        free(t);
        return NULL;
    }
    for (uint64_t i = 0; i < sets; i++)
        for (uint32_t w = 0; w < WAYS; w++) {
            atomic_init(&t->sets[i].way[w].tag, 0);
            atomic_init(&t->sets[i].way[w].value, 0);
        }
    return t;
}

void rate_table_free(struct rate_table *t)
{
    if (!t)
        return;
    free(t->sets);
    free(t);
}

static uint64_t tag_of(const struct rate_limit *l, uint64_t key)
{
    return (key & ~UINT64_C(3)) | (l->is_quota ? 3 : 2); /* never 0 */
}

struct rate_verdict rate_take(struct rate_table *t, const struct rate_limit *l, uint64_t key,
                              uint64_t now_us)
{
    struct rate_verdict v = {.is_passed = true};
    fb_assert(l->count >= 1);
    fb_assert(l->period_us >= 1);
    bool has_pushed = false;
    struct entry *e = find(t, tag_of(l, key), now_us, &has_pushed);
    /* A round fails only because another thread's request was counted in it: some thread always
     * gets on, but one thread may need many rounds. */
    while (e) {
        uint64_t was = atomic_load_explicit(&e->value, memory_order_relaxed), value = was;
        v = (struct rate_verdict){.has_pushed = has_pushed};
        bool is_changed =
            l->is_quota ? step_quota(l, now_us, &value, &v) : step_bucket(l, now_us, &value, &v);
        if (!is_changed || atomic_compare_exchange_weak_explicit(
                               &e->value, &was, value, memory_order_relaxed, memory_order_relaxed))
            return v;
    }
    return v;
}

void rate_give(struct rate_table *t, const struct rate_limit *l, uint64_t key, uint64_t now_us)
{
    bool has_pushed = false;
    struct entry *e = find(t, tag_of(l, key), now_us, &has_pushed);
    if (!e)
        return;
    uint64_t gap_ns = l->period_us * 1000 / l->count;
    uint64_t value = atomic_load_explicit(&e->value, memory_order_relaxed);
    if (l->is_quota ? (uint32_t)value > 0 : value > gap_ns)
        atomic_fetch_sub_explicit(&e->value, l->is_quota ? 1 : gap_ns, memory_order_relaxed);
}

uint32_t rate_table_live(const struct rate_table *t, uint64_t now_us)
{
    uint32_t live = 0;
    for (uint64_t i = 0; i <= t->mask; i++)
        for (uint32_t w = 0; w < WAYS; w++) {
            const struct entry *e = &t->sets[i].way[w];
            uint64_t tag = atomic_load_explicit(&e->tag, memory_order_relaxed);
            live +=
                tag && full_us(tag, atomic_load_explicit(&e->value, memory_order_relaxed)) > now_us;
        }
    return live;
}

/* The entry of <tag>, a new one when it has none; NULL when others take each place before us. */
static struct entry *find(struct rate_table *t, uint64_t tag, uint64_t now_us, bool *has_pushed)
{
    struct set *s = &t->sets[tag >> 2 & t->mask];
    for (uint32_t round = 0; round < WAYS; round++) {
        struct entry *victim = NULL;
        uint64_t victim_tag = 0, victim_full_us = UINT64_MAX, victim_value = 0;
        for (uint32_t w = 0; w < WAYS; w++) {
            struct entry *e = &s->way[w];
            uint64_t is = atomic_load_explicit(&e->tag, memory_order_acquire);
            if (is == tag)
                return e;
            uint64_t value = atomic_load_explicit(&e->value, memory_order_relaxed);
            uint64_t us = is ? full_us(is, value) : 0;
            if (us < victim_full_us) {
                victim = e;
                victim_tag = is;
                victim_full_us = us;
                victim_value = value;
            }
        }
        fb_assert(victim != NULL);
        if (!atomic_compare_exchange_strong_explicit(&victim->tag, &victim_tag, tag,
                                                     memory_order_acq_rel, memory_order_relaxed))
            continue;
        /* fails only when another thread counts there already: then its word holds */
        atomic_compare_exchange_strong_explicit(&victim->value, &victim_value, 0,
                                                memory_order_relaxed, memory_order_relaxed);
        *has_pushed = victim_full_us > now_us;
        return victim;
    }
    return NULL;
}

static uint64_t full_us(uint64_t tag, uint64_t value)
{
    return tag & 1 ? (value >> 32) * US_PER_S : value / 1000;
}

/* True when *value has to be stored. */
static bool step_bucket(const struct rate_limit *l, uint64_t now_us, uint64_t *value,
                        struct rate_verdict *v)
{
    uint64_t gap_ns = l->period_us * 1000 / l->count, now_ns = now_us * 1000;
    fb_assert(gap_ns >= 1);
    uint64_t room_ns = gap_ns * l->burst;
    uint64_t at_ns = *value;
    /* full, or of a key that was here before; a limit that was just made smaller owes its room and
     * a little more */
    if (at_ns < now_ns || at_ns - now_ns > 2 * room_ns + gap_ns)
        at_ns = now_ns;
    uint64_t owed_ns = at_ns - now_ns;
    v->is_passed = owed_ns + gap_ns <= room_ns;
    if (v->is_passed) {
        owed_ns += gap_ns;
        *value = now_ns + owed_ns;
    }
    v->left = fb_sub_floor_u64(room_ns, owed_ns) / gap_ns;
    v->wait_us = v->left ? 0 : (owed_ns + gap_ns - room_ns + 999) / 1000;
    v->reset_us = (owed_ns + 999) / 1000;
    return v->is_passed;
}

static bool step_quota(const struct rate_limit *l, uint64_t now_us, uint64_t *value,
                       struct rate_verdict *v)
{
    uint64_t period_s = fb_max_u64(l->period_us / US_PER_S, 1), now_s = now_us / US_PER_S;
    uint64_t end_s = (now_s / period_s + 1) * period_s, was_s = *value >> 32;
    uint64_t used = (uint32_t)*value;
    if (was_s < end_s || was_s > end_s + period_s)
        used = 0; /* another window, or another key's word; a thread may be one window ahead */
    else
        end_s = was_s;
    v->is_passed = used < l->count;
    used += v->is_passed;
    *value = end_s << 32 | used;
    v->left = fb_sub_floor_u64(l->count, used); /* a part of a limit may have shrunk */
    v->reset_us = end_s * US_PER_S - now_us;
    v->wait_us = v->left ? 0 : v->reset_us;
    return v->is_passed;
}
