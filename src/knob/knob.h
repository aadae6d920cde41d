/* SPDX-License-Identifier: Apache-2.0 */
/* knob: everything that the system can turn; the second of the two narrow waists.
 *
 * A knob is a row of knobs.def for one target (route, service or endpoint number).  Three layers
 * lie over each other: configured < learned < pinned.  The brain owns the layers (struct knob_book)
 * and publishes what is in force to the table in shared memory (struct knob_table); gateway threads
 * read without locks and clamp to the bounds again, so that no writer can push a reflex out of its
 * range.
 *
 * Threads: knob_book and knob_publish: brain's loop.  knob_read: any thread of the gateway. */
#ifndef FB_KNOB_KNOB_H
#define FB_KNOB_KNOB_H
#include "event/event.h"

#include <stdatomic.h>

enum loop_id {
#define LOOP(name, word, id, period_ms, what) LOOP_##name = id,
#include "knob/knobs.def"
#undef LOOP
    LOOP_COUNT
};
enum knob_id {
#define KNOB(kind, name, word, id, unit, ...) KNOB_##name = id,
#include "knob/knobs.def"
#undef KNOB
    KNOB_COUNT
};

#define KNOB_TARGETS_MAX 1024 /* routes, services and endpoints each */

struct loop_row {
    const char *name; /* "limit" */
    const char *what;
    uint32_t period_ms;
};
struct knob_row {
    const char *name; /* "limit", "shed_threshold" */
    const char *unit, *fact, *what, *why;
    enum ev_kind kind;
    double min, max, safe;
    double step_max_ratio;
    uint32_t dwell_ms;
    enum loop_id loop;
};
const struct loop_row *loop_row(uint16_t loop); /* never NULL; .name NULL when unknown */
const struct knob_row *
knob_row(uint16_t knob); /* never NULL; .name NULL when unknown, also below KNOB_COUNT */
uint16_t loop_by_name(struct span name); /* EV_NONE when unknown */
uint16_t knob_by_name(struct span name); /* EV_NONE when unknown */

/* ---- layers: pure data, pointer-free, part of a snapshot ---- */
enum knob_source {
    KNOB_FROM_SAFE,
    KNOB_FROM_CONFIG,
    KNOB_FROM_LEARNED,
    KNOB_FROM_PIN,
    KNOB_FROM_GLIDE
};

struct knob_layer {
    double configured, learned, pinned; /* in the knob's unit */
    double min, max;                    /* bounds in force: the row's, narrowed by configuration */
    uint64_t config_hash;               /* of the setting that the learned value came from */
    uint64_t learned_us;                /* when it was last moved */
    uint64_t decision_id;               /* that moved it; 0: none */
    uint8_t is_configured, is_learned, is_pinned;
    uint8_t mode;      /* enum ev_mode of its loop on this target */
    uint8_t is_frozen; /* the loop rests here: by the verifier or by an operator */
    uint8_t is_used;   /* the target exists */
    uint8_t misses;    /* decisions in a row that made it worse */
    uint8_t resets;    /* how often an operator dropped what was learned; it wraps */
};
struct knob_book {
    struct knob_layer layer[KNOB_COUNT][KNOB_TARGETS_MAX];
};

/* The value in force and where it comes from.  Learned counts only in mode act. */
double knob_effective(const struct knob_row *row, const struct knob_layer *layer,
                      enum knob_source *source);
/* A target appears or its configuration changes.  A changed configured value or bound drops its
 * learned value; returns true when it did.  <configured> NAN: nothing is configured. */
struct knob_setting {
    double configured; /* NAN: none */
    double min, max;   /* NAN: the row's */
    enum ev_mode mode;
};
bool knob_configure(struct knob_book *book, enum knob_id knob, uint16_t target,
                    const struct knob_setting *set);
const char *knob_source_name(enum knob_source source);

/* ---- the published table, in shared memory ---- */
struct knob_cell {
    _Alignas(FB_CACHE_LINE_BYTES) _Atomic uint64_t
        value_bits;           /* of a double; valid when version > 0 */
    _Atomic uint32_t version; /* counts publications; 0: never */
    _Atomic uint8_t source;   /* enum knob_source */
    _Atomic uint8_t mode;     /* enum ev_mode */
    _Atomic uint8_t is_frozen;
    _Atomic uint8_t resets; /* of the layer: a reflex that learns by itself begins anew */
    _Atomic uint64_t min_bits, max_bits, safe_bits; /* bounds in force and the fail-static aim */
    _Atomic uint64_t published_us;
};
struct knob_table {
    struct knob_cell cell[KNOB_COUNT][KNOB_TARGETS_MAX];
};

/* Publishes when something changed; returns true when it did. */
bool knob_publish(struct knob_table *table, enum knob_id knob, uint16_t target,
                  const struct knob_layer *layer, uint64_t now_us);
/* As if it had never been published: its target is nobody's. */
void knob_unpublish(struct knob_table *table, enum knob_id knob, uint16_t target);
/* The value in force, clamped to the bounds of the row and of the cell; the row's safe value when
 * never published.  Lock-free, about 2 ns. */
double knob_read(const struct knob_table *table, enum knob_id knob, uint16_t target);
static inline uint32_t knob_version(const struct knob_table *table, enum knob_id knob,
                                    uint16_t target)
{
    return atomic_load_explicit(&table->cell[knob][target].version, memory_order_acquire);
}
/* Fail-static (design.md section 3): what the gateway uses when the last sign of the brain is
 * <age_us> old. Up to t1: <value>.  From t1 on it moves evenly, to reach <safe> at t2.  Never
 * leaves [value, safe]. */
double knob_glide(double value, double safe, uint64_t age_us, uint64_t t1_us, uint64_t t2_us);
#endif
