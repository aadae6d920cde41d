/* SPDX-License-Identifier: Apache-2.0 */
/* connectors: brokers and files that events go to and come from.
 *
 * The keys of a type are rows of keys.def like all others, so that a configuration is checked,
 * shown and described without the library of the type. */
#include "conf/conf_int.h"
#include "event/filter.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#define CONNECTORS_MAX 32

static const struct conf_connector_row types[] = {
#define CONNECTOR(nam, lev, pack, says)                                                            \
    {.name = #nam, .level = LEVEL_##lev, .package = pack, .what = says},
#include "conf/connectors.def"
#undef CONNECTOR
};

static void parse_one(struct reader *rd, const struct node *n, struct conf_connector *c);
static void read_common(struct reader *rd, const struct node *k, int key, struct conf_connector *c);
static const char *normal_value(struct reader *rd, const struct node *k, enum conf_key key);
static const char *normal_default(struct reader *rd, enum conf_key key);
static void check_one(struct reader *rd, const struct node *n, struct conf_connector *c);

const struct conf_connector_row *conf_connector_rows(size_t *count)
{
    *count = FB_COUNT(types);
    return types;
}

const struct conf_connector_row *conf_connector_row(const char *type)
{
    for (size_t i = 0; i < FB_COUNT(types); i++)
        if (strcmp(types[i].name, type) == 0)
            return &types[i];
    return NULL;
}

const char *conf_connector_value(const struct conf_connector *c, const char *key)
{
    for (size_t i = 0; i < c->value_count; i++)
        if (strcmp(c->values[i].key, key) == 0)
            return c->values[i].value;
    return NULL;
}

static bool is_connector_name(struct span s)
{
    if (s.len == 0 || s.len > CONF_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c >= 0x80 || (!isalnum(c) && !(i > 0 && (c == '-' || c == '_'))))
            return false;
    }
    return true;
}

void parse_connectors(struct reader *rd, const struct node *n)
{
    if (!read_is(rd, n, NODE_MAP, "`connectors: { archive: { type: file, path: events.jsonl } }`"))
        return;
    if (n->count > CONNECTORS_MAX) {
        problem(rd, n, "connectors must have 1..%d entries, got %u", CONNECTORS_MAX, n->count);
        return;
    }
    struct conf_connector *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return;
    size_t count = 0;
    for (const struct node *k = n->first; k; k = k->next, count++) {
        if (!is_connector_name(k->key->text))
            problem(rd, k->key,
                    "the name of a connector is 1..%d letters, digits, `-` or `_`, got \"%.*s\"",
                    CONF_NAME_BYTES_MAX, SHOWN(k->key->text));
        at[count].name = arena_text(rd->keep, k->key->text);
        parse_one(rd, k, &at[count]);
    }
    rd->conf->connectors = at;
    rd->conf->connector_count = count;
}

static const struct node *child(const struct node *n, const char *name)
{
    for (const struct node *k = n->first; k; k = k->next)
        if (span_eq(k->key->text, span_of(name)))
            return k;
    return NULL;
}

/* Which row the key is: of the type, or common; -1 after a message. */
static int key_of(struct reader *rd, const struct node *k, const struct conf_connector_row *type)
{
    for (int i = 0; type && i < KEY_COUNT; i++) {
        const struct conf_key_row *row = conf_key_row((enum conf_key)i);
        if (row->level == type->level && span_eq(k->key->text, span_of(row->name)))
            return i;
    }
    for (int i = 0; i < KEY_COUNT; i++) {
        const struct conf_key_row *row = conf_key_row((enum conf_key)i);
        if (row->level == LEVEL_CONNECTOR && span_eq(k->key->text, span_of(row->name)))
            return i;
    }
    if (type) {
        struct near near = {.word = k->key->text};
        for (int i = 0; i < KEY_COUNT; i++) {
            const struct conf_key_row *row = conf_key_row((enum conf_key)i);
            if (row->level == LEVEL_CONNECTOR || row->level == type->level)
                near_try(&near, row->name);
        }
        if (near.best) {
            problem(rd, k->key, "unknown key `%.*s` of a %s connector; did you mean `%s`?",
                    SHOWN(k->key->text), type->name, near.best);
            return -1;
        }
    }
    return read_key(rd, k, LEVEL_CONNECTOR);
}

/* A slot per row of both levels, in the order of the table. */
static size_t slot_of(const struct conf_connector *c, enum conf_key key)
{
    for (size_t i = 0; i < c->value_count; i++)
        if (c->values[i].row == (uint16_t)key)
            return i;
    return c->value_count;
}

static bool make_slots(struct reader *rd, const struct conf_connector_row *type,
                       struct conf_connector *c)
{
    size_t count = 0;
    for (int i = 0; i < KEY_COUNT; i++) {
        enum conf_level level = conf_key_row((enum conf_key)i)->level;
        count += level == LEVEL_CONNECTOR || level == type->level;
    }
    c->values = arena_get(rd->keep, count * sizeof *c->values);
    if (!c->values)
        return false;
    for (int i = 0; i < KEY_COUNT; i++) {
        const struct conf_key_row *row = conf_key_row((enum conf_key)i);
        if (row->level != LEVEL_CONNECTOR && row->level != type->level)
            continue;
        c->values[c->value_count++] =
            (struct conf_connector_value){.key = row->name,
                                          .value = normal_default(rd, (enum conf_key)i),
                                          .shown = row->def ? row->def : "",
                                          .row = (uint16_t)i};
    }
    return true;
}

static void parse_one(struct reader *rd, const struct node *n, struct conf_connector *c)
{
    char path[NODE_PATH_BYTES];
    const struct conf_connector_row *type = NULL;
    *c = (struct conf_connector){.name = c->name,
                                 .type = "",
                                 .filter = "",
                                 .region = "",
                                 .events = UINT64_MAX,
                                 .is_redacted = true,
                                 .delay_ms = 200,
                                 .block_bytes = 256 * KIB,
                                 .in_flight = 16,
                                 .timeout_ms = 30000,
                                 .backoff_max_ms = 10000,
                                 .lag_alert_ms = 300000};
    if (!read_is(rd, n, NODE_MAP, "{ type: file, path: events.jsonl }"))
        return;
    const struct node *t = child(n, "type");
    int word;
    if (!t)
        problem(rd, n->key, "%s has no `type`: add for example `type: kafka`", node_path(n, path));
    else if (read_word(rd, t, conf_key_row(KEY_CONNECTOR_type)->words, &word)) {
        c->type = arena_text(rd->keep, t->text);
        type = conf_connector_row(c->type);
    }
    if (!type || !make_slots(rd, type, c)) /* which keys it has is not known */
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = key_of(rd, k, type);
        if (key < 0)
            continue;
        struct conf_connector_value *v = &c->values[slot_of(c, (enum conf_key)key)];
        const char *value = normal_value(rd, k, (enum conf_key)key);
        if (!value)
            continue;
        v->value = value;
        v->shown = k->kind == NODE_SCALAR ? arena_text(rd->keep, k->text) : value;
        v->line = k->line;
        if (conf_key_row((enum conf_key)key)->level == LEVEL_CONNECTOR)
            read_common(rd, k, key, c);
    }
    check_one(rd, n, c);
    c->hash = XXH64(c->type, strlen(c->type), 0);
    for (size_t i = 0; i < c->value_count; i++)
        c->hash = XXH64(c->values[i].value, strlen(c->values[i].value), c->hash + i);
}

/* The value in the form that a connector gets; NULL after a message. */
static const char *list_value(struct reader *rd, const struct node *n)
{
    struct buf text;
    const char *out = NULL;
    struct span s;
    bool is_good = true;
    if (n->kind == NODE_SCALAR)
        return read_scalar(rd, n, &s) ? arena_text(rd->keep, s) : NULL;
    if (!read_is(rd, n, NODE_LIST, "[a, b]"))
        return NULL;
    buf_init(&text, 16 * KIB);
    for (const struct node *k = n->first; k; k = k->next) {
        if (!read_scalar(rd, k, &s)) {
            is_good = false;
            continue;
        }
        if (memchr(s.at, ',', s.len)) {
            problem(rd, k, "an entry of a list has no comma, got \"%.*s\"", SHOWN(s));
            is_good = false;
        }
        buf_printf(&text, "%s%.*s", text.len ? "," : "", SPAN_ARG(s));
    }
    if (text.failed)
        problem(rd, n, "the list is too long: at most 16 KiB");
    else if (is_good)
        out = arena_text(rd->keep, buf_span(&text));
    buf_fini(&text);
    return out;
}

static const char *normal_value(struct reader *rd, const struct node *k, enum conf_key key)
{
    const struct conf_key_row *row = conf_key_row(key);
    struct span s;
    char number[24];
    uint64_t value;
    int word;
    bool flag;
    switch (row->shape) {
    case SHAPE_BOOL:
        return read_bool(rd, k, &flag) ? (flag ? "true" : "false") : NULL;
    case SHAPE_WORD:
        return read_word(rd, k, row->words, &word) ? arena_text(rd->keep, k->text) : NULL;
    case SHAPE_DUR:
    case SHAPE_COUNT:
    case SHAPE_BYTES:
        if (!read_key_number(rd, k, key, &value))
            return NULL;
        snprintf(number, sizeof number, "%llu", (unsigned long long)value);
        return arena_text(rd->keep, span_of(number));
    case SHAPE_OTHER:
        return list_value(rd, k);
    default:
        return read_scalar(rd, k, &s) ? arena_text(rd->keep, s) : NULL;
    }
}

static const char *normal_default(struct reader *rd, enum conf_key key)
{
    const struct conf_key_row *row = conf_key_row(key);
    char number[24];
    uint64_t value = 0;
    if (!row->def || !*row->def)
        return "";
    enum conf_type type = row->shape == SHAPE_DUR     ? CONF_TYPE_dur
                          : row->shape == SHAPE_BYTES ? CONF_TYPE_bytes
                                                      : CONF_TYPE_u32;
    if (row->shape != SHAPE_DUR && row->shape != SHAPE_BYTES && row->shape != SHAPE_COUNT)
        return row->def;
    if (value_of_type(type, span_of(row->def), &value) != VALUE_OK)
        return row->def;
    snprintf(number, sizeof number, "%llu", (unsigned long long)value);
    return arena_text(rd->keep, span_of(number));
}

static void read_events(struct reader *rd, const struct node *n, struct conf_connector *c)
{
    struct span s;
    c->events = 0;
    if (n->kind == NODE_SCALAR && span_eq(n->text, SPAN("all"))) {
        c->events = UINT64_MAX;
        return;
    }
    if (!read_is(rd, n, NODE_LIST, "[decision, outcome, alert], or all"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        if (!read_scalar(rd, k, &s))
            continue;
        uint8_t type = ev_type_by_name(s);
        struct near near = {.word = s};
        for (uint8_t i = 1; i < EV_TYPE_END; i++)
            if (ev_type_row(i)->name)
                near_try(&near, ev_type_row(i)->name);
        if (type)
            c->events |= UINT64_C(1) << type;
        else
            problem(rd, k, "no event is called \"%.*s\"%s%s; `foldback reference events` lists all",
                    SHOWN(s), near.best ? "; did you mean " : "", near.best ? near.best : "");
    }
    if (n->count == 0)
        problem(rd, n, "events must have at least one event, or be left out for all");
}

static void read_filter(struct reader *rd, const struct node *n, struct conf_connector *c)
{
    static _Thread_local struct filter filter; /* 9 KiB */
    struct fb_err err;
    struct span s;
    if (!read_scalar(rd, n, &s))
        return;
    if (filter_parse(&filter, s, &err) != FB_OK)
        problem(rd, n, "%s", err.text);
    c->filter = arena_text(rd->keep, s);
}

static void read_common(struct reader *rd, const struct node *k, int key, struct conf_connector *c)
{
    const char *text = conf_connector_value(c, conf_key_row((enum conf_key)key)->name);
    uint64_t number = strtoull(text, NULL, 10);
    switch (key) {
    case KEY_CONNECTOR_direction:
        c->is_source = strcmp(text, "source") == 0;
        c->is_fleet = strcmp(text, "fleet") == 0;
        break;
    case KEY_CONNECTOR_events:
        read_events(rd, k, c);
        break;
    case KEY_CONNECTOR_filter:
        read_filter(rd, k, c);
        break;
    case KEY_CONNECTOR_format:
        c->is_binary = strcmp(text, "binary") == 0;
        c->is_cloudevents = strcmp(text, "cloudevents") == 0;
        break;
    case KEY_CONNECTOR_per:
        c->is_per_event = strcmp(text, "event") == 0;
        break;
    case KEY_CONNECTOR_from:
        c->is_from_start = strcmp(text, "start") == 0;
        break;
    case KEY_CONNECTOR_region:
        c->region = text;
        break;
    case KEY_CONNECTOR_redact:
        c->is_redacted = strcmp(text, "true") == 0;
        break;
    case KEY_CONNECTOR_delay:
        c->delay_ms = (uint32_t)number;
        break;
    case KEY_CONNECTOR_block:
        c->block_bytes = (uint32_t)number;
        break;
    case KEY_CONNECTOR_in_flight:
        c->in_flight = (uint32_t)number;
        break;
    case KEY_CONNECTOR_timeout:
        c->timeout_ms = (uint32_t)number;
        break;
    case KEY_CONNECTOR_backoff_max:
        c->backoff_max_ms = (uint32_t)number;
        break;
    case KEY_CONNECTOR_lag_alert:
        c->lag_alert_ms = number;
        break;
    default:
        break;
    }
}

static void check_one(struct reader *rd, const struct node *n, struct conf_connector *c)
{
    for (size_t i = 0; i < c->value_count; i++) {
        const struct conf_connector_value *v = &c->values[i];
        const struct conf_key_row *row = conf_key_row((enum conf_key)v->row);
        size_t len = strlen(v->key);
        if (row->level != LEVEL_CONNECTOR && !row->def && !v->line)
            problem(rd, n->key, "connectors.%s needs `%s`: %s", c->name, v->key, row->what);
        if (len > 5 && strcmp(v->key + len - 5, "_file") == 0 && v->line && *v->value &&
            access(v->value, R_OK) != 0)
            problem(rd, child(n, v->key), "connectors.%s.%s %.200s: %s", c->name, v->key, v->value,
                    strerror(errno));
    }
    if (c->is_per_event && c->is_binary)
        problem(rd, child(n, "per"),
                "connectors.%s: `per: event` is JSON; leave out `format: binary`", c->name);
}
