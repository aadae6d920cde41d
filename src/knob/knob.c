/* SPDX-License-Identifier: Apache-2.0 */
#include "knob/knob.h"

#include "base/assert.h"

#include <math.h>
#include <string.h>

static const struct loop_row loops[LOOP_COUNT] = {
#define LOOP(lname, lword, id, period, says)                                                       \
    [id] = {.name = #lword, .what = says, .period_ms = period},
#include "knob/knobs.def"
#undef LOOP
};
static const struct loop_row no_loop;

static const struct knob_row knobs[KNOB_COUNT] = {
#define KNOB(rkind, rname, rword, id, runit, ...)                                                  \
    [id] = {.name = #rword, .unit = runit, .kind = EV_KIND_##rkind, __VA_ARGS__},
#include "knob/knobs.def"
#undef KNOB
};
static const struct knob_row no_knob;

const struct loop_row *loop_row(uint16_t loop)
{
    return loop < LOOP_COUNT ? &loops[loop] : &no_loop;
}

const struct knob_row *knob_row(uint16_t knob)
{
    return knob < KNOB_COUNT ? &knobs[knob] : &no_knob;
}

uint16_t loop_by_name(struct span name)
{
    for (uint16_t i = 0; i < LOOP_COUNT; i++)
        if (span_ieq(name, span_of(loops[i].name)))
            return i;
    return EV_NONE;
}

uint16_t knob_by_name(struct span name)
{
    for (uint16_t i = 0; i < KNOB_COUNT; i++)
        if (span_ieq(name, span_of(knobs[i].name)))
            return i;
    return EV_NONE;
}

double knob_effective(const struct knob_row *row, const struct knob_layer *layer,
                      enum knob_source *source)
{
    double value = row->safe;
    enum knob_source from = KNOB_FROM_SAFE;
    if (layer->is_configured) {
        value = layer->configured;
        from = KNOB_FROM_CONFIG;
    }
    if (layer->is_learned && layer->mode == EV_MODE_ACT) {
        value = layer->learned;
        from = KNOB_FROM_LEARNED;
    }
    if (layer->is_pinned) {
        value = layer->pinned;
        from = KNOB_FROM_PIN;
    }
    if (source)
        *source = from;
    /* A pin may leave the configured bounds, never those of the row. */
    if (from == KNOB_FROM_PIN)
        return fb_clamp(value, row->min, row->max);
    return fb_clamp(value, layer->min, layer->max);
}

static bool same(double a, double b)
{
    return (isnan(a) && isnan(b)) || a == b;
}

bool knob_configure(struct knob_book *book, enum knob_id knob, uint16_t target,
                    const struct knob_setting *set)
{
    fb_assert(knob < KNOB_COUNT);
    fb_assert(target < KNOB_TARGETS_MAX);
    const struct knob_row *row = &knobs[knob];
    struct knob_layer *l = &book->layer[knob][target];
    double min = isnan(set->min) ? row->min : fb_clamp(set->min, row->min, row->max);
    double max = isnan(set->max) ? row->max : fb_clamp(set->max, min, row->max);
    double was = l->is_configured ? l->configured : NAN;
    bool dropped = false;
    if (l->is_used && l->is_learned &&
        (!same(was, set->configured) || l->min != min || l->max != max)) {
        l->is_learned = 0;
        l->decision_id = 0;
        dropped = true;
    }
    l->is_used = 1;
    l->is_configured = (uint8_t)!isnan(set->configured);
    l->configured = l->is_configured ? set->configured : 0;
    l->min = min;
    l->max = max;
    l->mode = (uint8_t)set->mode;
    return dropped;
}

const char *knob_source_name(enum knob_source source)
{
    static const char *const names[] = {"safe", "configured", "learned", "pinned", "gliding"};
    return source < FB_COUNT(names) ? names[source] : "?";
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

bool knob_publish(struct knob_table *table, enum knob_id knob, uint16_t target,
                  const struct knob_layer *layer, uint64_t now_us)
{
    fb_assert(knob < KNOB_COUNT);
    fb_assert(target < KNOB_TARGETS_MAX);
    const struct knob_row *row = &knobs[knob];
    struct knob_cell *c = &table->cell[knob][target];
    enum knob_source source;
    double value = knob_effective(row, layer, &source);
    double safe = layer->is_configured ? layer->configured : row->safe;
    uint64_t bits = bits_of(value);
    if (c->version > 0 && c->value_bits == bits && c->source == source && c->mode == layer->mode &&
        c->is_frozen == layer->is_frozen && c->resets == layer->resets &&
        c->min_bits == bits_of(layer->min) && c->max_bits == bits_of(layer->max) &&
        c->safe_bits == bits_of(safe))
        return false;
    atomic_store_explicit(&c->min_bits, bits_of(layer->min), memory_order_relaxed);
    atomic_store_explicit(&c->max_bits, bits_of(layer->max), memory_order_relaxed);
    atomic_store_explicit(&c->safe_bits, bits_of(safe), memory_order_relaxed);
    atomic_store_explicit(&c->source, (uint8_t)source, memory_order_relaxed);
    atomic_store_explicit(&c->mode, layer->mode, memory_order_relaxed);
    atomic_store_explicit(&c->is_frozen, layer->is_frozen, memory_order_relaxed);
    atomic_store_explicit(&c->resets, layer->resets, memory_order_relaxed);
    atomic_store_explicit(&c->value_bits, bits, memory_order_relaxed);
    atomic_store_explicit(&c->published_us, now_us, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->version, 1, memory_order_release);
    return true;
}

void knob_unpublish(struct knob_table *table, enum knob_id knob, uint16_t target)
{
    atomic_store_explicit(&table->cell[knob][target].version, 0, memory_order_release);
}

double knob_read(const struct knob_table *table, enum knob_id knob, uint16_t target)
{
    fb_assert(knob < KNOB_COUNT);
    fb_assert(target < KNOB_TARGETS_MAX);
    const struct knob_row *row = &knobs[knob];
    const struct knob_cell *c = &table->cell[knob][target];
    if (atomic_load_explicit(&c->version, memory_order_acquire) == 0)
        return row->safe;
    double value = double_of(atomic_load_explicit(&c->value_bits, memory_order_relaxed));
    if (isnan(value)) /* shared memory is not trusted: a NaN would pass every clamp */
        return row->safe;
    double min = double_of(atomic_load_explicit(&c->min_bits, memory_order_relaxed));
    double max = double_of(atomic_load_explicit(&c->max_bits, memory_order_relaxed));
    bool is_pin = atomic_load_explicit(&c->source, memory_order_relaxed) == KNOB_FROM_PIN;
    /* a pin may leave the configured bounds; bounds that make no sense do not count */
    if (!is_pin && min >= row->min && min <= max && max <= row->max)
        return fb_clamp(value, min, max);
    return fb_clamp(value, row->min, row->max);
}

double knob_glide(double value, double safe, uint64_t age_us, uint64_t t1_us, uint64_t t2_us)
{
    fb_assert(t1_us < t2_us);
    if (age_us <= t1_us)
        return value;
    if (age_us >= t2_us)
        return safe;
    double part = (double)(age_us - t1_us) / (double)(t2_us - t1_us);
    return value + (safe - value) * part;
}
