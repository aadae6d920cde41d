/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshot: the plain state, then each used slot; of a sketch only the buckets that were touched.
 */
#include "analytics/facts_int.h"
#include "analytics/pack.h"

#include "base/assert.h"

#include <string.h>

/* Changes with the layout of anything that is saved here. */
#define FACTS_LAYOUT UINT64_C(0x0002314643424c46) /* "FLBCF1", 2 */

static void put_sketch(struct buf *out, const struct window_sketch *w)
{
    pack_put_u64(out, (uint64_t)w->low << 32 | w->high);
    pack_put_u64(out, w->n_fill);
    pack_put_u64(out, w->n_kept);
    size_t n = w->high - w->low;
    if (n == 0)
        return;
    pack_put(out, &w->fill[w->low], n * sizeof w->fill[0]);
    pack_put(out, &w->bucket[w->low], n * sizeof w->bucket[0]);
}

static void get_sketch(struct unpack *u, struct window_sketch *w)
{
    memset(w->fill, 0, sizeof w->fill);
    memset(&w->bucket[w->low], 0, (w->high - w->low) * sizeof w->bucket[0]);
    uint64_t range = unpack_get_u64(u);
    w->low = (uint32_t)(range >> 32);
    w->high = (uint32_t)range;
    w->n_fill = unpack_get_u64(u);
    w->n_kept = unpack_get_u64(u);
    if (w->low > w->high || w->high > SKETCH_BUCKETS) {
        u->is_broken = true;
        w->low = w->high = 0;
        return;
    }
    size_t n = w->high - w->low;
    if (n == 0)
        return;
    unpack_get(u, &w->fill[w->low], n * sizeof w->fill[0]);
    unpack_get(u, &w->bucket[w->low], n * sizeof w->bucket[0]);
}

static void put_slot(struct buf *out, const struct slot *slot, uint32_t sketches)
{
    pack_put(out, slot, SLOT_HEAD_BYTES);
    for (uint32_t i = 0; i < sketches; i++)
        put_sketch(out, &slot->sketch[i]);
}

static void get_slot(struct unpack *u, struct slot *slot, uint32_t sketches)
{
    unpack_get(u, slot, SLOT_HEAD_BYTES);
    for (uint32_t i = 0; i < sketches; i++)
        get_sketch(u, &slot->sketch[i]);
}

void facts_save(const struct facts *f, struct buf *out)
{
    facts_run_end(f);
    pack_put_u64(out, FACTS_LAYOUT);
    pack_put_u64(out, sizeof f->s);
    pack_put_u64(out, SLOT_BYTES);
    pack_put(out, &f->s, sizeof f->s);
    for (uint32_t i = 0; i < f->s.slot_count; i++)
        put_slot(out, facts_slot_at(f, i), SKETCH_COUNT);
    for (uint32_t i = 0; i < f->s.class_count; i++)
        put_slot(out, facts_class_at(f, i), 1);
}

static void wipe_slot(struct slot *slot, uint32_t sketches)
{
    memset(slot, 0, SLOT_HEAD_BYTES);
    for (uint32_t i = 0; i < sketches; i++) {
        struct window_sketch *w = &slot->sketch[i];
        memset(w->fill, 0, sizeof w->fill);
        memset(&w->bucket[w->low], 0, (w->high - w->low) * sizeof w->bucket[0]);
        w->low = w->high = 0;
        w->n_fill = w->n_kept = 0;
    }
}

static void wipe(struct facts *f)
{
    for (uint32_t i = 0; i < f->scopes_max && f->slot[i]; i++)
        wipe_slot(f->slot[i], SKETCH_COUNT);
    for (uint32_t i = 0; i < f->classes_max && f->class_slot[i]; i++)
        wipe_slot(f->class_slot[i], 1);
    memset(&f->s, 0, sizeof f->s);
    memset(f->run, 0, sizeof *f->run);
}

static bool is_sane(const struct facts *f)
{
    const struct facts_state *s = &f->s;
    if (s->slot_count > f->scopes_max || s->class_count > f->classes_max)
        return false;
    for (uint32_t k = 0; k < FACTS_KINDS; k++)
        for (uint32_t i = 0; i < FACTS_NUMBERS_MAX; i++)
            if (s->slot_of[k][i] > s->slot_count)
                return false;
    for (uint32_t i = 0; i < FACTS_NUMBERS_MAX; i++)
        if ((s->class_of[i] && s->class_of[i] - 1U + EV_CLASS_COUNT > s->class_count) ||
            s->version_of[i] > FACTS_NUMBERS_MAX)
            return false;
    /* window_covered_us asserts these: a damaged file must not end the process */
    const struct window_clock *c = &s->clock;
    bool is_past = c->start_us <= c->now_us;
    for (uint32_t i = 0; i < WINDOW_FINE; i++)
        is_past = is_past && c->fine_us[i] <= c->now_us && c->sec_us[i] <= c->now_us;
    for (uint32_t i = 0; i < WINDOW_TENS; i++)
        is_past = is_past && c->ten_us[i] <= c->now_us;
    return is_past;
}

enum fb_code facts_load(struct facts *f, struct span bytes, struct fb_err *err)
{
    struct unpack u = {.rest = bytes};
    uint64_t layout = unpack_get_u64(&u);
    uint64_t state_bytes = unpack_get_u64(&u);
    uint64_t slot_bytes = unpack_get_u64(&u);
    if (u.is_broken || layout != FACTS_LAYOUT || state_bytes != sizeof f->s ||
        slot_bytes != SLOT_BYTES)
        return fb_fail(
            err, FB_E_VERSION,
            "facts: the snapshot has another layout than this build; fold the log from its start");
    wipe(f);
    unpack_get(&u, &f->s, sizeof f->s);
    if (u.is_broken || !is_sane(f)) {
        memset(&f->s, 0, sizeof f->s);
        return fb_fail(err, FB_E_DAMAGED, "facts: the snapshot is damaged; use the one before");
    }
    if (!facts_reserve(f, f->s.slot_count, f->s.class_count)) {
        memset(&f->s, 0, sizeof f->s);
        return fb_fail(err, FB_E_NOMEM,
                       "facts: no memory for the scopes of the snapshot; give the brain more");
    }
    for (uint32_t i = 0; i < f->s.slot_count; i++)
        get_slot(&u, facts_slot_at(f, i), SKETCH_COUNT);
    for (uint32_t i = 0; i < f->s.class_count; i++)
        get_slot(&u, facts_class_at(f, i), 1);
    if (!u.is_broken && u.rest.len == 0)
        return FB_OK;
    wipe(f);
    return fb_fail(err, FB_E_DAMAGED, "facts: the snapshot is damaged; use the one before");
}
