/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions and knobs as JSON. */
#include "output/admin_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const actors[] = {"loop", "operator", "verifier"};
static const char *const effects[] = {"none", "lower", "higher", "keep"};

static struct span text_of(const char *at, size_t max)
{
    return (struct span){at, strnlen(at, max)};
}

struct evidence {
    uint16_t fact;
    uint32_t window_ms, n;
    double value, threshold;
};

/* Is the threshold beside this fact in its unit?  Some loops keep another number of theirs there,
 * for their sentence: a quantile, a factor, a dead band, the error of a ratio. */
static bool is_compared(uint16_t fact, bool is_first)
{
    if (is_first)
        return fact != FACT_CACHE_HIT_RATIO && fact != FACT_UPSTREAM_P95 &&
               fact != FACT_UPSTREAM_P999;
    return fact == FACT_TIMEOUT_RATIO || fact == FACT_HEDGE_GAIN || fact == FACT_OFFERED_RATE;
}

static void put_evidence(struct json *j, const struct ev_decision *d)
{
    double first = is_compared(d->fact1, true) ? d->threshold1 : NAN;
    double second = is_compared(d->fact2, false) ? d->threshold2 : NAN;
    const struct evidence all[] = {{d->fact1, d->window1_ms, d->n1, d->value1, first},
                                   {d->fact2, d->window2_ms, d->n2, d->value2, second},
                                   {d->fact3, d->window3_ms, d->n3, d->value3, NAN},
                                   {d->fact4, d->window4_ms, d->n4, d->value4, NAN}};
    json_key(j, "evidence");
    json_array_begin(j);
    for (size_t i = 0; i < FB_COUNT(all); i++) {
        const struct fact_row *row = fact_row(all[i].fact);
        if (!row->name)
            continue;
        json_object_begin(j);
        json_key_str(j, "fact", row->name);
        json_key_str(j, "unit", row->unit);
        json_key_str(j, "what", row->what);
        json_key_u64(j, "window_ms", all[i].window_ms);
        json_key_u64(j, "n", all[i].n);
        json_key_f64(j, "value", all[i].value);
        /* A threshold of 0 is "compared with nothing": no fact of the loops is judged against 0. */
        json_key_f64(j, "threshold", all[i].threshold != 0 ? all[i].threshold : NAN);
        json_object_end(j);
    }
    json_array_end(j);
    json_key_u64(j, "n_needed", d->n_needed);
}

static void put_outcome(struct json *j, const struct timeline_entry *e)
{
    json_key(j, "outcome");
    if (!e->has_outcome) {
        json_str(j, NULL);
        return;
    }
    const struct ev_outcome *o = &e->outcome;
    json_object_begin(j);
    json_key_str(j, "verdict", ev_outcome_name(o->outcome));
    json_key_str(j, "fact", fact_row(o->fact)->name);
    json_key_str(j, "unit", fact_row(o->fact)->unit);
    json_key_f64(j, "before", o->before);
    json_key_f64(j, "after", o->after);
    json_key_u64(j, "n_before", o->n_before);
    json_key_u64(j, "n_after", o->n_after);
    json_key_bool(j, "is_reverted", o->is_reverted != 0);
    json_key_bool(j, "is_frozen", o->is_frozen != 0);
    json_key_f64(j, "knob_value", o->knob_value);
    json_key_str(j, "reason", ev_reason_row(o->reason)->name);
    json_object_end(j);
}

/* The number of its endpoint is somebody else's by now. */
static bool is_of_another(const struct admin *a, const struct ev_decision *d)
{
    return strcmp(admin_name_at(a, (enum ev_kind)d->target_kind, d->target, d->head.time_us),
                  admin_name(a, (enum ev_kind)d->target_kind, d->target)) != 0;
}

static void put_sentence(struct json *j, const struct admin *a, const struct ev_decision *d)
{
    struct buf text;
    buf_init(&text, 2048);
    if (a->source.explain && !is_of_another(a, d))
        a->source.explain(a->source.ctx, d, &text);
    else
        buf_printf(&text, "%s of %s: %g -> %g", knob_row(d->knob)->name,
                   admin_name_at(a, (enum ev_kind)d->target_kind, d->target, d->head.time_us),
                   d->from, d->to);
    json_key_str(j, "sentence", buf_str(&text));
    buf_fini(&text);
}

static void put_decision_more(struct json *j, const struct admin *a, const struct timeline_entry *e)
{
    const struct ev_decision *d = &e->decision;
    const struct timeline *t = &a->timeline;
    json_key_f64(j, "min", d->min);
    json_key_f64(j, "max", d->max);
    json_key_u64(j, "supersedes", d->supersedes);
    put_time(j, "cooldown_until",
             d->cooldown_until_us ? timeline_wall_us(t, d->cooldown_until_us) : 0);
    put_time(j, "verify_at", d->verify_at_us ? timeline_wall_us(t, d->verify_at_us) : 0);
    json_key_f64(j, "delay_ms",
                 d->cause_us ? (double)fb_sub_floor_u64(d->head.time_us, d->cause_us) / 1e3 : NAN);
    put_hex(j, "config_hash", d->config_hash);
    json_key_str(j, "reason_sentence", ev_reason_row(d->reason)->sentence);
    if (d->verdict != REASON_NONE)
        json_key_str(j, "verdict", ev_reason_row((uint16_t)d->verdict)->name);
    json_key(j, "note");
    json_span(j, text_of(d->note, sizeof d->note));
    json_key(j, "expected");
    json_object_begin(j);
    json_key_str(j, "effect", effects[d->expected & 3]);
    json_key_str(j, "fact", fact_row(d->expected_fact)->name);
    json_key_str(j, "unit", fact_row(d->expected_fact)->unit);
    json_key_f64(j, "before", d->before);
    json_object_end(j);
    put_evidence(j, d);
}

void put_decision(struct json *j, const struct admin *a, const struct timeline_entry *e,
                  bool with_evidence)
{
    const struct ev_decision *d = &e->decision;
    char cli[64];
    snprintf(cli, sizeof cli, "foldback decisions show %llu", (unsigned long long)d->decision_id);
    json_object_begin(j);
    json_key_u64(j, "id", d->decision_id);
    put_time(j, "time", e->wall_us);
    json_key_u64(j, "time_ms", e->wall_us / 1000);
    json_key_u64(j, "offset", e->offset);
    json_key_str(j, "loop", loop_row(d->loop)->name);
    json_key_str(j, "knob", knob_row(d->knob)->name);
    json_key_str(j, "unit", knob_row(d->knob)->unit);
    json_key(j, "target");
    put_target_at(j, a, d->target_kind, d->target, d->head.time_us);
    json_key_f64(j, "from", d->from);
    json_key_f64(j, "to", d->to);
    json_key_str(j, "mode", ev_mode_name(d->mode));
    json_key_bool(j, "is_applied", d->is_applied != 0);
    json_key_str(j, "actor", actors[d->actor <= 2 ? d->actor : 0]);
    json_key_str(j, "reason", ev_reason_row(d->reason)->name);
    put_sentence(j, a, d);
    put_outcome(j, e);
    json_key_str(j, "cli", cli);
    if (with_evidence)
        put_decision_more(j, a, e);
    json_object_end(j);
}

/* A layer that holds nothing is null. */
static void put_layer(struct json *j, const char *key, uint8_t is_set, double value)
{
    json_key_f64(j, key, is_set ? value : NAN);
}

void put_knob(struct json *j, const struct admin *a, uint16_t knob, uint16_t target)
{
    const struct knob_row *row = knob_row(knob);
    const struct knob_layer *layer = &a->source.book->layer[knob][target];
    enum knob_source source = KNOB_FROM_SAFE;
    double value = knob_effective(row, layer, &source);
    json_object_begin(j);
    json_key_str(j, "knob", row->name);
    json_key(j, "target");
    put_target(j, a, (uint8_t)row->kind, target);
    json_key_str(j, "unit", row->unit);
    json_key_f64(j, "value", value);
    json_key_str(j, "source", knob_source_name(source));
    put_layer(j, "configured", layer->is_configured, layer->configured);
    put_layer(j, "learned", layer->is_learned, layer->learned);
    put_layer(j, "pinned", layer->is_pinned, layer->pinned);
    json_key_f64(j, "min", layer->min);
    json_key_f64(j, "max", layer->max);
    json_key_f64(j, "hard_min", row->min);
    json_key_f64(j, "hard_max", row->max);
    json_key_f64(j, "safe", row->safe);
    json_key_str(j, "loop", loop_row((uint16_t)row->loop)->name);
    json_key_str(j, "mode", ev_mode_name(layer->mode));
    json_key_bool(j, "is_frozen", layer->is_frozen != 0);
    json_key_u64(j, "decision_id", layer->decision_id);
    put_time(j, "learned_at",
             layer->is_learned ? timeline_wall_us(&a->timeline, layer->learned_us) : 0);
    json_key_u64(j, "version", knob_version(a->source.table, (enum knob_id)knob, target));
    json_key_str(j, "what", row->what);
    json_object_end(j);
}
