/* SPDX-License-Identifier: Apache-2.0 */
#include "query/column.h"

#include "analytics/facts.h"
#include "base/assert.h"
#include "knob/knob.h"

#include <stdio.h>
#include <string.h>

static struct column_table tables[EV_TYPE_END];

static void make_table(struct column_table *t, uint8_t type);
static uint8_t meaning_of(const struct ev_field_row *f);

const struct column_table *column_table(uint8_t type)
{
    static const struct column_table none;
    static bool is_made;
    if (!is_made) {
        for (uint8_t i = 0; i < EV_TYPE_END; i++)
            if (i == COLUMN_TABLE_ALL || ev_type_row(i)->name)
                make_table(&tables[i], i);
        is_made = true;
    }
    return type < EV_TYPE_END ? &tables[type] : &none;
}

/* Words that SQL keeps for itself: as a column they would have to be quoted. */
static bool is_word_of_sql(const char *name)
{
    static const char *const words[] = {"from",  "to",    "limit", "references", "group",
                                        "order", "index", "table", "values",     "check"};
    for (size_t i = 0; i < FB_COUNT(words); i++)
        if (strcmp(name, words[i]) == 0)
            return true;
    return false;
}

static struct column *add(struct column_table *t, uint8_t kind, const char *name, const char *what)
{
    fb_assert(t->count < COLUMNS_MAX);
    struct column *c = &t->at[t->count++];
    snprintf(c->name, sizeof c->name, "%s%s", name, is_word_of_sql(name) ? "_value" : "");
    c->kind = kind;
    c->what = what;
    c->unit = "";
    return c;
}

static void add_field(struct column_table *t, const struct ev_type_row *row, uint8_t i)
{
    const struct ev_field_row *f = &row->fields[i];
    uint8_t meaning = meaning_of(f);
    char name[48];
    struct column *c;
    if (meaning > MEANS_HEX) {
        c = add(t, COLUMN_WORD, f->name, f->what);
        c->is_text = true;
        c->meaning = meaning;
        c->field = f;
        c->field_index = i;
        for (uint8_t k = 0; meaning == MEANS_TARGET && k < row->field_count; k++)
            if (strcmp(row->fields[k].name, "target_kind") == 0 ||
                strcmp(row->fields[k].name, "kind") == 0)
                c->kind_offset = row->fields[k].offset;
        snprintf(name, sizeof name, "%s_id", f->name);
        c = add(t, COLUMN_FIELD, name, "Its number.");
    } else {
        c = add(t, COLUMN_FIELD, f->name, f->what);
        c->meaning = meaning;
    }
    c->unit = f->unit;
    c->field = f;
    c->field_index = i;
    c->is_text = f->type == EV_FT_text || meaning == MEANS_HEX;
    c->is_real = f->type == EV_FT_f64;
}

static void make_table(struct column_table *t, uint8_t type)
{
    const struct ev_type_row *row = ev_type_row(type);
    t->type = type;
    t->name = type == COLUMN_TABLE_ALL ? "events" : row->name;
    t->what = type == COLUMN_TABLE_ALL ? "Every event, whatever its type." : row->what;
    add(t, COLUMN_OFFSET, "offset", "Number of the event in the log.");
    struct column *time = add(t, COLUMN_TIME, "time", "When, UTC, as text; compares as a time.");
    time->is_text = true;
    add(t, COLUMN_TIME_US, "time_us", "The same, since 1970.")->unit = "us";
    if (type == COLUMN_TABLE_ALL) {
        add(t, COLUMN_TYPE, "type", "Name of the event type.")->is_text = true;
        add(t, COLUMN_JSON, "json", "All of it, as `foldback events tail` prints it.")->is_text =
            true;
    }
    for (uint8_t i = 0; i < row->field_count; i++)
        if (!ev_field_is_reserved(&row->fields[i]))
            add_field(t, row, i);
    add(t, COLUMN_STREAM_US, "stream_us",
        "Stream time, which never jumps; until_us, cause_us and the like are in it.")
        ->unit = "us";
    add(t, COLUMN_ORIGIN, "origin", "Gateway thread 0..191, 254 brain, 255 replay.");
    add(t, COLUMN_SEQUENCE, "sequence", "Per origin, wraps; shows losses.");
    add(t, COLUMN_NODE, "node", "The foldback that wrote it, hexadecimal.")->is_text = true;
}

/* By name, as in output/filter; f64 fields never stand for something. */
static uint8_t meaning_of(const struct ev_field_row *f)
{
    static const struct {
        const char *name;
        uint8_t meaning;
    } rows[] = {{"request_id", MEANS_HEX},
                {"config_hash", MEANS_HEX},
                {"key", MEANS_HEX},
                {"route", MEANS_ROUTE},
                {"service", MEANS_SERVICE},
                {"parent", MEANS_SERVICE},
                {"endpoint", MEANS_ENDPOINT},
                {"hedge_endpoint", MEANS_HEDGED},
                {"version", MEANS_VERSION},
                {"wanted", MEANS_WANTED},
                {"target", MEANS_TARGET},
                {"number", MEANS_TARGET},
                {"class", MEANS_CLASS},
                {"reason", MEANS_REASON},
                {"verdict", MEANS_REASON},
                {"mode", MEANS_MODE},
                {"health", MEANS_HEALTH},
                {"from", MEANS_HEALTH},
                {"to", MEANS_HEALTH},
                {"outcome", MEANS_OUTCOME},
                {"kind", MEANS_KIND},
                {"target_kind", MEANS_KIND},
                {"verb", MEANS_VERB},
                {"loop", MEANS_LOOP},
                {"knob", MEANS_KNOB},
                {"fact", MEANS_FACT},
                {"expected_fact", MEANS_FACT},
                {"fact1", MEANS_FACT},
                {"fact2", MEANS_FACT},
                {"fact3", MEANS_FACT},
                {"fact4", MEANS_FACT},
                {"cache", MEANS_CACHE},
                {"protocol", MEANS_PROTOCOL},
                {"tls", MEANS_TLS},
                {"hedge", MEANS_HEDGE},
                {"severity", MEANS_SEVERITY},
                {"actor", MEANS_ACTOR},
                {"op", MEANS_KEY_OP},
                {"erasure", MEANS_HEX},
                {"controller", MEANS_HEX},
                {"limit", MEANS_HEX}};
    if (f->type == EV_FT_f64 || f->type == EV_FT_text)
        return MEANS_NOTHING;
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (strcmp(rows[i].name, f->name) == 0)
            return rows[i].meaning == MEANS_HEX && f->type != EV_FT_u64 ? MEANS_NOTHING
                                                                        : rows[i].meaning;
    return MEANS_NOTHING;
}

/* ---- values ---- */

uint64_t column_u64(const struct ev_head *ev, const struct ev_field_row *f)
{
    uint64_t v = 0;
    fb_assert(f->bytes <= sizeof v);
    memcpy(&v, (const unsigned char *)ev + f->offset, f->bytes); /* little endian */
    return v;
}

double column_f64(const struct ev_head *ev, const struct ev_field_row *f)
{
    double v;
    fb_assert(f->type == EV_FT_f64);
    memcpy(&v, (const unsigned char *)ev + f->offset, sizeof v);
    return v;
}

struct span column_text(const struct ev_head *ev, const struct ev_field_row *f)
{
    const char *at = (const char *)ev + f->offset;
    return (struct span){at, strnlen(at, f->bytes)};
}

static const char *name_or_null(const char *name)
{
    return name && name[0] ? name : NULL;
}

static const char *word_at(const char *const *words, size_t count, uint64_t i)
{
    return i < count ? words[i] : NULL;
}

static bool was_hedged(const struct ev_head *ev)
{
    const struct ev_request *r = (const struct ev_request *)ev;
    return ev->type == EV_REQUEST && (r->hedge == EV_HEDGE_LOST || r->hedge == EV_HEDGE_WON);
}

const char *column_word(const struct column *c, const struct ev_head *ev, const struct names *n)
{
    static const char *const protocols[] = {"http/1.1", "http/2", "tcp"};
    static const char *const tls[] = {"none", "1.2", "1.3"};
    static const char *const hedges[] = {"none", "lost", "won", "armed", "control"};
    static const char *const severities[] = {"info", "warning", "critical"};
    static const char *const actors[] = {"loop", "operator", "verifier"};
    uint64_t v = column_u64(ev, c->field);
    uint16_t number = (uint16_t)v;
    switch ((enum column_meaning)c->meaning) {
    case MEANS_ROUTE:
        return name_or_null(names_get(n, EV_KIND_ROUTE, number));
    case MEANS_SERVICE:
        return name_or_null(names_get(n, EV_KIND_SERVICE, number));
    case MEANS_ENDPOINT:
        return name_or_null(names_get(n, EV_KIND_ENDPOINT, number));
    case MEANS_HEDGED:
        return was_hedged(ev) ? name_or_null(names_get(n, EV_KIND_ENDPOINT, number)) : NULL;
    case MEANS_VERSION:
        return name_or_null(names_get(n, EV_KIND_VERSION, number));
    case MEANS_WANTED:
        return v ? name_or_null(names_get(n, EV_KIND_VERSION, (uint16_t)(v - 1))) : NULL;
    case MEANS_TARGET:
        return name_or_null(
            names_get(n, c->kind_offset ? ((const uint8_t *)ev)[c->kind_offset] : 0, number));
    case MEANS_CLASS:
        return ev_class_name((uint8_t)v);
    case MEANS_REASON:
        return ev_reason_row(number)->name;
    case MEANS_MODE:
        return ev_mode_name((uint8_t)v);
    case MEANS_HEALTH:
        return ev_health_name((uint8_t)v);
    case MEANS_OUTCOME:
        return ev_outcome_name((uint8_t)v);
    case MEANS_KIND:
        return ev_kind_name((uint8_t)v);
    case MEANS_VERB:
        return ev_verb_name((uint8_t)v);
    case MEANS_LOOP:
        return loop_row(number)->name;
    case MEANS_KNOB:
        return knob_row(number)->name;
    case MEANS_FACT:
        return v ? fact_row(number)->name : NULL;
    case MEANS_CACHE:
        return ev_cache_name((uint8_t)v);
    case MEANS_PROTOCOL:
        return word_at(protocols, FB_COUNT(protocols), v);
    case MEANS_TLS:
        return word_at(tls, FB_COUNT(tls), v);
    case MEANS_HEDGE:
        return word_at(hedges, FB_COUNT(hedges), v);
    case MEANS_SEVERITY:
        return word_at(severities, FB_COUNT(severities), v);
    case MEANS_ACTOR:
        return word_at(actors, FB_COUNT(actors), v);
    case MEANS_KEY_OP:
        return ev_key_op_name((uint8_t)v);
    case MEANS_NOTHING:
    case MEANS_HEX:
        break;
    }
    return NULL;
}

const char *column_subject(const struct ev_head *ev, const struct names *n)
{
    const struct column_table *t = column_table(ev->type);
    const char *name = NULL;
    for (uint32_t i = 0; i < t->count && !name; i++)
        if (t->at[i].kind == COLUMN_WORD &&
            (t->at[i].meaning == MEANS_SERVICE || t->at[i].meaning == MEANS_TARGET))
            name = column_word(&t->at[i], ev, n);
    return name ? name : "";
}
