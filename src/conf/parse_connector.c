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
static void check_handler(struct reader *rd, const struct node *n, struct conf_connector *c);

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

static void parse_section(struct reader *rd, const struct node *n, const char *section)
{
    size_t had = rd->conf->connector_count;
    if (had + n->count > CONNECTORS_MAX || n->count == 0) {
        problem(rd, n, "connectors, handlers and scrapes together must have 1..%d entries, got %zu",
                CONNECTORS_MAX, had + n->count);
        return;
    }
    struct conf_connector *at = arena_get(rd->keep, (had + n->count) * sizeof *at);
    if (!at)
        return;
    if (had)
        memcpy(at, rd->conf->connectors, had * sizeof *at);
    size_t count = had;
    for (const struct node *k = n->first; k; k = k->next, count++) {
        if (!is_connector_name(k->key->text))
            problem(rd, k->key,
                    "the name of a %s is 1..%d letters, digits, `-` or `_`, got \"%.*s\"",
                    section[0] == 'h'   ? "handler"
                    : section[0] == 's' ? "scrape"
                                        : "connector",
                    CONF_NAME_BYTES_MAX, SHOWN(k->key->text));
        for (size_t i = 0; i < had; i++)
            if (span_eq(k->key->text, span_of(at[i].name)))
                problem(rd, k->key, "\"%.*s\" is already a name in %s: each has one of its own",
                        SHOWN(k->key->text), at[i].section);
        at[count].name = arena_text(rd->keep, k->key->text);
        at[count].section = section;
        parse_one(rd, k, &at[count]);
    }
    rd->conf->connectors = at;
    rd->conf->connector_count = count;
}

void parse_connectors(struct reader *rd, const struct node *n)
{
    if (read_is(rd, n, NODE_MAP, "`connectors: { archive: { type: file, path: events.jsonl } }`"))
        parse_section(rd, n, "connectors");
}

void parse_handlers(struct reader *rd, const struct node *n)
{
    if (read_is(rd, n, NODE_MAP,
                "`handlers: { pager: { url: https://example.com/hook, events: [alert] } }`"))
        parse_section(rd, n, "handlers");
}

void parse_scrapes(struct reader *rd, const struct node *n)
{
    if (read_is(
            rd, n, NODE_MAP,
            "`scrapes: { api: { url: http://127.0.0.1:9100/metrics, metrics: [queue_depth] } }`"))
        parse_section(rd, n, "scrapes");
}

static bool is_handler(const struct conf_connector *c)
{
    return strcmp(c->section, "handlers") == 0;
}

static const struct node *child(const struct node *n, const char *name)
{
    for (const struct node *k = n->first; k; k = k->next)
        if (span_eq(k->key->text, span_of(name)))
            return k;
    return NULL;
}

/* Both kinds of handlers are known by one key each: what the other one has is told by that. */
static bool is_of_other_handler(struct reader *rd, const struct node *k,
                                const struct conf_connector_row *type)
{
    bool is_http = strcmp(type->name, "http") == 0, is_exec = strcmp(type->name, "exec") == 0;
    if (!is_http && !is_exec)
        return false;
    const struct conf_connector_row *other = conf_connector_row(is_http ? "exec" : "http");
    for (int i = 0; i < KEY_COUNT; i++) {
        const struct conf_key_row *row = conf_key_row((enum conf_key)i);
        if (row->level != other->level || !span_eq(k->key->text, span_of(row->name)))
            continue;
        problem(rd, k->key,
                "`%.*s` is a key of handlers with `%s` (connectors of type %s), and this one has "
                "`%s`: remove it",
                SHOWN(k->key->text), is_http ? "command" : "url", other->name,
                is_http ? "url" : "command");
        return true;
    }
    return false;
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
    if (type && is_of_other_handler(rd, k, type))
        return -1;
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

/* NULL after a message. */
static const struct conf_connector_row *type_of(struct reader *rd, const struct node *n,
                                                struct conf_connector *c)
{
    char path[NODE_PATH_BYTES];
    const struct node *t = child(n, "type");
    int word;
    if (is_handler(c)) {
        bool is_exec = child(n, "command") != NULL;
        bool is_http = child(n, "url") || child(n, "url_file");
        if (t)
            problem(rd, t->key, "%s has no `type`: `url` or `command` tell it", node_path(n, path));
        if (is_exec == is_http)
            problem(rd, n->key, "%s needs either `url` (or `url_file`) or `command`",
                    node_path(n, path));
        c->type = is_exec ? "exec" : "http";
        return is_exec == is_http || t ? NULL : conf_connector_row(c->type);
    }
    if (strcmp(c->section, "scrapes") == 0) {
        if (t)
            problem(rd, t->key, "%s has no `type`: it is always prometheus", node_path(n, path));
        c->type = "prometheus";
        return t ? NULL : conf_connector_row(c->type);
    }
    if (!t) {
        problem(rd, n->key, "%s has no `type`: add for example `type: kafka`", node_path(n, path));
        return NULL;
    }
    if (!read_word(rd, t, conf_key_row(KEY_CONNECTOR_type)->words, &word))
        return NULL;
    c->type = arena_text(rd->keep, t->text);
    return conf_connector_row(c->type);
}

/* What is left out in a handler means something else than in a connector. */
static void handler_defaults(struct conf_connector *c)
{
    static const struct {
        const char *key, *value, *shown;
    } rows[] = {{"type", "", ""},
                {"events", "decision,alert,key", "[decision, alert, key]"},
                {"format", "cloudevents", "cloudevents"},
                {"per", "event", "event"},
                {"delay", "0", "0ms"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        for (size_t v = 0; v < c->value_count; v++)
            if (strcmp(c->values[v].key, rows[i].key) == 0) {
                c->values[v].value = i ? rows[i].value : c->type;
                c->values[v].shown = i ? rows[i].shown : c->type;
            }
    c->events = UINT64_C(1) << EV_DECISION | UINT64_C(1) << EV_ALERT | UINT64_C(1) << EV_KEY;
    c->is_cloudevents = c->is_per_event = true;
    c->delay_ms = 0;
}

static void parse_one(struct reader *rd, const struct node *n, struct conf_connector *c)
{
    *c = (struct conf_connector){.name = c->name,
                                 .section = c->section,
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
    const struct conf_connector_row *type = type_of(rd, n, c);
    if (!type || !make_slots(rd, type, c)) /* which keys it has is not known */
        return;
    if (is_handler(c))
        handler_defaults(c);
    if (is_scrape(c))
        scrape_defaults(c);
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
static const char *list_value(struct reader *rd, const struct node *n, char between)
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
        if (s.len && memchr(s.at, between, s.len)) {
            problem(rd, k, "an entry of a list has no %s, got \"%.*s\"",
                    between == ',' ? "comma" : "end of line", SHOWN(s));
            is_good = false;
        }
        if (k != n->first)
            buf_putc(&text, between);
        buf_put_span(&text, s);
    }
    if (text.failed)
        problem(rd, n, "the list is too long: at most 16 KiB");
    else if (is_good)
        out = arena_text(rd->keep, buf_span(&text));
    buf_fini(&text);
    return out;
}

/* What may hold commas. */
static bool is_by_lines(enum conf_key key)
{
    return key == KEY_EXEC_command || key == KEY_PROMETHEUS_metrics ||
           key == KEY_KAFKA_token_command || key == KEY_EVENTHUBS_token_command;
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
        return list_value(rd, k, is_by_lines(key) ? '\n' : ',');
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
        c->is_chat = strcmp(text, "chat") == 0;
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
            problem(rd, n->key, "%s.%s needs `%s`: %s", c->section, c->name, v->key, row->what);
        if (len > 5 && strcmp(v->key + len - 5, "_file") == 0 && v->line && *v->value &&
            access(v->value, R_OK) != 0)
            problem(rd, child(n, v->key), "%s.%s.%s %.200s: %s", c->section, c->name, v->key,
                    v->value, strerror(errno));
    }
    if (c->is_per_event && c->is_binary)
        problem(rd, child(n, "format") ? child(n, "format") : n->key,
                "%s.%s: `per: event` is JSON; leave out `format: binary`", c->section, c->name);
    if (strcmp(c->type, "http") == 0 || strcmp(c->type, "exec") == 0)
        check_handler(rd, n, c);
    if (is_scrape(c))
        check_scrape(rd, n, c);
    check_broker(rd, n, c);
    const char *command = conf_connector_value(c, "token_command");
    if (command && command[0] && command[0] != '/')
        problem(rd, child(n, "token_command"),
                "%s.%s.token_command must begin with the full path of a program, such as "
                "[/usr/local/bin/kafka-token, --quiet]",
                c->section, c->name);
    if (command && command[0] && (child(n, "token_file") || child(n, "token_url")))
        problem(rd, child(n, "token_command"),
                "%s.%s: one of `token_command`, `token_file` and `token_url`", c->section, c->name);
}

static void check_handler(struct reader *rd, const struct node *n, struct conf_connector *c)
{
    const struct node *url = child(n, "url");
    if (c->is_source || c->is_fleet)
        problem(rd, child(n, "direction"), "%s.%s: %s only sends; leave out `direction`",
                c->section, c->name, c->type);
    if (strcmp(c->type, "exec") == 0) {
        if (!child(n, "command"))
            problem(rd, n->key, "%s.%s needs `command`: [/usr/local/bin/page, --quiet]", c->section,
                    c->name);
        else if (conf_connector_value(c, "command")[0] != '/')
            problem(rd, child(n, "command"),
                    "%s.%s.command must begin with the full path of a program, such as "
                    "[/usr/local/bin/page, --quiet]",
                    c->section, c->name);
        return;
    }
    if ((url != NULL) == (child(n, "url_file") != NULL))
        problem(rd, n->key, "%s.%s needs either `url` or `url_file`", c->section, c->name);
    if (url)
        check_url(rd, url, c);
}

void check_url(struct reader *rd, const struct node *url, const struct conf_connector *c)
{
    const char *text = conf_connector_value(c, "url");
    size_t scheme = strncmp(text, "https://", 8) == 0  ? 8
                    : strncmp(text, "http://", 7) == 0 ? 7
                                                       : 0;
    size_t host = strcspn(text + scheme, "/?#");
    if (!scheme || !host)
        problem(rd, url, "%s.%s.url must be http://HOST/... or https://HOST/..., got \"%.60s\"",
                c->section, c->name, text);
    else if (memchr(text + scheme, '@', host))
        problem(rd, url, "%s.%s.url must not hold a password: use `%s` or `%s`", c->section,
                c->name, is_scrape(c) ? "basic_file" : "url_file", "bearer_file");
}
