/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Schema 2020-12 of the whole file, for editors; from params.def and keys.def. */
#include "base/json.h"
#include "conf/conf_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define DUR_PATTERN "^(0|([0-9]+(\\.[0-9]{1,6})?(us|ms|s|m|h|d))+)$"
#define BYTES_PATTERN "^(0|[0-9]+(\\.[0-9]{1,6})?(B|KiB|MiB|GiB|TiB))$"
#define RATE_PATTERN "^(0|[0-9]+(\\.[0-9]{1,6})?(B|KiB|MiB|GiB|TiB)/s)$"
#define PER_PATTERN "^[0-9]+ */ *([0-9]+(s|m|h|d))*(s|m|h|d)?$"
#define PCT_PATTERN "^[0-9]+(\\.[0-9]+)?%$"

static void text_type(struct json *j, const char *pattern)
{
    json_key_str(j, "type", "string");
    if (pattern)
        json_key_str(j, "pattern", pattern);
}

/* One text or a list of them. */
static void text_or_texts(struct json *j)
{
    json_key(j, "type");
    json_raw(j, SPAN("[\"string\",\"number\",\"array\"]"));
    json_key(j, "items");
    json_raw(j, SPAN("{\"type\":[\"string\",\"number\"]}"));
}

/* A quantity is a string with its unit; the number 0 needs none. */
static void quantity(struct json *j, const char *pattern)
{
    json_key(j, "anyOf");
    json_array_begin(j);
    json_object_begin(j);
    text_type(j, pattern);
    json_object_end(j);
    json_object_begin(j);
    json_key(j, "const");
    json_u64(j, 0);
    json_object_end(j);
    json_array_end(j);
}

static void words(struct json *j, const char *list)
{
    uint64_t number;
    json_key(j, "enum");
    json_array_begin(j);
    for (struct span rest = span_of(list); rest.len;) {
        struct span one = span_cut(rest, '|', &rest);
        json_span(j, one);
        if (span_eq(one, SPAN("off"))) /* an editor reads a bare off as false */
            json_bool(j, false);
        if (span_to_u64(one, &number)) /* and a bare 502 as a number */
            json_u64(j, number);
    }
    json_array_end(j);
}

/* One of <list>, or several as a list. */
static void list_of_words(struct json *j, const char *list)
{
    json_key(j, "anyOf");
    json_array_begin(j);
    json_object_begin(j);
    words(j, list);
    json_object_end(j);
    json_object_begin(j);
    json_key_str(j, "type", "array");
    json_key(j, "items");
    json_object_begin(j);
    words(j, list);
    json_object_end(j);
    json_object_end(j);
    json_array_end(j);
}

static void flag(struct json *j)
{
    json_key(j, "enum");
    json_array_begin(j);
    json_bool(j, true);
    json_bool(j, false);
    for (struct span rest = SPAN("true|false|yes|no|on|off"); rest.len;)
        json_span(j, span_cut(rest, '|', &rest));
    json_array_end(j);
}

static void integer(struct json *j, uint64_t min, uint64_t max)
{
    json_key_str(j, "type", "integer");
    json_key_u64(j, "minimum", min);
    json_key_u64(j, "maximum", max);
}

static void ref(struct json *j, const char *level)
{
    char text[64];
    snprintf(text, sizeof text, "#/$defs/%s", level);
    json_key_str(j, "$ref", text);
}

static void list_of(struct json *j, const char *level, size_t min, size_t max)
{
    json_key_str(j, "type", "array");
    if (min)
        json_key_u64(j, "minItems", min);
    json_key_u64(j, "maxItems", max);
    json_key(j, "items");
    json_object_begin(j);
    json_key(j, "anyOf");
    json_array_begin(j);
    json_object_begin(j);
    json_key_str(j, "type", "string");
    json_object_end(j);
    json_object_begin(j);
    ref(j, level);
    json_object_end(j);
    json_array_end(j);
    json_object_end(j);
}

static void maps_of(struct json *j, const char *level, size_t max)
{
    json_key_str(j, "type", "array");
    json_key_u64(j, "minItems", 1);
    json_key_u64(j, "maxItems", max);
    json_key(j, "items");
    json_object_begin(j);
    ref(j, level);
    json_object_end(j);
}

/* A number, the map of one client, or a list of both. */
static void caps_schema(struct json *j, const struct conf_key_row *row)
{
    for (int depth = 0; depth < 2; depth++) {
        json_key(j, "anyOf");
        json_array_begin(j);
        json_object_begin(j);
        integer(j, row->min, row->max);
        json_object_end(j);
        json_object_begin(j);
        ref(j, "cap");
        json_object_end(j);
        if (depth == 1)
            break;
        json_object_begin(j);
        json_key_str(j, "type", "array");
        json_key_u64(j, "minItems", 1);
        json_key_u64(j, "maxItems", 1 + CONF_CAPS_MAX);
        json_key(j, "items");
        json_object_begin(j);
    }
    json_array_end(j);
    json_object_end(j);
    json_object_end(j);
    json_array_end(j);
}

/* anyOf: the words of <list>, or (pattern) a string, or the map <level>. */
static void words_or_map(struct json *j, const char *list, const char *pattern, const char *level)
{
    json_key(j, "anyOf");
    json_array_begin(j);
    json_object_begin(j);
    words(j, list);
    json_object_end(j);
    if (pattern) {
        json_object_begin(j);
        text_type(j, pattern);
        json_object_end(j);
    }
    json_object_begin(j);
    ref(j, level);
    json_object_end(j);
    json_array_end(j);
}

static void param_schema(struct json *j, const struct conf_param_row *row)
{
    char text[600];
    json_key(j, row->name);
    json_object_begin(j);
    snprintf(text, sizeof text, "%s %s", row->what, row->why);
    json_key_str(j, "description", text);
    json_key_str(j, "default", row->def);
    switch (row->type) {
    case CONF_TYPE_u32:
        if (strcmp(row->def, "auto") != 0) {
            integer(j, row->min, row->max);
            break;
        }
        json_key(j, "anyOf");
        json_array_begin(j);
        json_object_begin(j);
        integer(j, row->min, row->max);
        json_object_end(j);
        json_object_begin(j);
        json_key_str(j, "const", "auto");
        json_object_end(j);
        json_array_end(j);
        break;
    case CONF_TYPE_dur:
        quantity(j, DUR_PATTERN);
        break;
    case CONF_TYPE_bytes:
        quantity(j, BYTES_PATTERN);
        break;
    case CONF_TYPE_rate:
        quantity(j, RATE_PATTERN);
        break;
    case CONF_TYPE_pct:
        text_type(j, "^[0-9]+%$");
        break;
    case CONF_TYPE_bool:
        flag(j);
        break;
    case CONF_TYPE_word:
        words(j, row->words);
        break;
    case CONF_TYPE_words:
        list_of_words(j, row->words);
        break;
    case CONF_TYPE_str: /* YAML reads 1.10 and no as other types: any single value is right here */
        json_key(j, "type");
        json_raw(j, SPAN("[\"string\",\"number\",\"boolean\"]"));
        break;
    }
    json_object_end(j);
}

static void tune_map(struct json *j, bool is_route)
{
    json_key_str(j, "type", "object");
    json_key_bool(j, "additionalProperties", false);
    json_key(j, "properties");
    json_object_begin(j);
    for (uint16_t k = 0; k < KNOB_COUNT; k++) {
        const struct knob_row *row = knob_row(k);
        char name[32];
        if (row->loop == LOOP_NONE ||
            (is_route && k != KNOB_TIMEOUT_MS && k != KNOB_HEDGE_DELAY_MS))
            continue;
        snprintf(name, sizeof name, "%s", loop_row((uint16_t)row->loop)->name);
        for (char *c = name; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        json_key(j, name);
        json_object_begin(j);
        json_key_str(j, "description", row->what);
        words_or_map(j, conf_key_row(KEY_TUNE_mode)->words, NULL, "tune");
        json_object_end(j);
    }
    json_object_end(j);
}

static void texts_of(struct json *j, uint64_t min, uint64_t max)
{
    json_key_str(j, "type", "array");
    if (min)
        json_key_u64(j, "minItems", min);
    json_key_u64(j, "maxItems", max);
    json_key(j, "items");
    json_raw(j, SPAN("{\"type\":\"string\"}"));
}

/* Single values or a list of them; a schema's words for lists bind lists only. */
static bool several_schema(struct json *j, enum conf_key key)
{
    bool is_status = key == KEY_PAGE_status, is_host = key == KEY_MATCH_host;
    if (!is_status && !is_host && key != KEY_MATCH_method)
        return false;
    json_key(j, "type");
    json_raw(j, is_status ? SPAN("[\"integer\",\"array\"]")
                          : SPAN("[\"string\",\"number\",\"array\"]"));
    json_key_u64(j, "minItems", 1);
    json_key_u64(j, "maxItems",
                 is_status ? CONF_PAGE_STATUSES_MAX
                 : is_host ? CONF_HOSTS_MAX
                           : CONF_METHODS_MAX);
    json_key(j, "items");
    json_raw(j, is_status ? SPAN("{\"type\":\"integer\",\"minimum\":400,\"maximum\":599}")
                          : SPAN("{\"type\":[\"string\",\"number\"]}"));
    return true;
}

/* Of routes. */
static bool route_schema(struct json *j, enum conf_key key)
{
    static const struct {
        enum conf_key key;
        const char *name;
    } parts[] = {{KEY_ROUTE_request_headers, "fields"},
                 {KEY_ROUTE_response_headers, "fields"},
                 {KEY_ROUTE_rewrite, "rewrite"},
                 {KEY_ROUTE_respond, "respond"},
                 {KEY_ROUTE_auth, "auth"},
                 {KEY_AUTH_basic, "basic"},
                 {KEY_AUTH_request, "auth_request"},
                 {KEY_ROUTE_mirror, "mirror"}};
    for (size_t i = 0; i < FB_COUNT(parts); i++)
        if (parts[i].key == key) {
            ref(j, parts[i].name);
            return true;
        }
    switch ((int)key) {
    case KEY_ROUTE_allow:
    case KEY_ROUTE_deny:
    case KEY_AUTH_except:
    case KEY_RATE_except:
        texts_of(j, 1, CONF_PREFIXES_MAX);
        return true;
    case KEY_ROUTE_error_pages:
        maps_of(j, "error_page", CONF_PAGES_MAX);
        return true;
    case KEY_FIELDS_set:
    case KEY_FIELDS_add:
        json_key_str(j, "type", "object");
        json_key_u64(j, "maxProperties", CONF_FIELDS_MAX);
        json_key(j, "additionalProperties");
        json_raw(j, SPAN("{\"type\":[\"string\",\"number\",\"boolean\"]}"));
        return true;
    case KEY_FIELDS_remove:
        texts_of(j, 1, CONF_FIELDS_MAX);
        return true;
    case KEY_ROUTE_redirect:
        words_or_map(j, "https", NULL, "redirect");
        return true;
    case KEY_ASK_response_headers:
        texts_of(j, 1, CONF_COPIED_MAX);
        return true;
    case KEY_ROUTE_map_back:
        words_or_map(j, "on|off", NULL, "map_back");
        return true;
    case KEY_BACK_location:
    case KEY_BACK_cookie_path:
    case KEY_BACK_cookie_domain:
        json_key_str(j, "type", "object");
        json_key_u64(j, "minProperties", 1);
        json_key_u64(j, "maxProperties", 32);
        json_key(j, "additionalProperties");
        json_raw(j, SPAN("{\"type\":\"string\"}"));
        return true;
    case KEY_MIRROR_percent:
        text_type(j, "^[0-9.]+ *%$");
        return true;
    case KEY_ROUTE_hedge:
        text_type(j, "^(on|off|[0-9.]+ *(ms|s|m)?)$");
        return true;
    case KEY_ROUTE_hash:
        text_type(j, "^(address|path|(header|cookie|query) +[^ ]+)$");
        return true;
    default:
        return false;
    }
}

static void other_schema(struct json *j, enum conf_key key)
{
    if (several_schema(j, key) || route_schema(j, key))
        return;
    switch (key) {
    case KEY_SERVICE_endpoints:
        list_of(j, "endpoint", 0, KNOB_TARGETS_MAX);
        return;
    case KEY_SERVICE_objective:
        ref(j, "objective");
        return;
    case KEY_SERVICE_tune:
    case KEY_ROUTE_tune:
        tune_map(j, key == KEY_ROUTE_tune);
        return;
    case KEY_SERVICE_queue:
        words_or_map(j, "on|off", NULL, "queue");
        return;
    case KEY_SERVICE_health:
        words_or_map(j, "on|off", "^/", "health");
        return;
    case KEY_SERVICE_sticky:
        ref(j, "sticky");
        return;
    case KEY_SERVICE_agent_check:
        ref(j, "agent_check");
        return;
    case KEY_ROUTE_split:
        json_key_str(j, "type", "object");
        json_key_u64(j, "minProperties", 1);
        json_key_u64(j, "maxProperties", 10);
        json_key(j, "additionalProperties");
        json_raw(j, SPAN("{\"type\":\"string\"}"));
        return;
    case KEY_SERVICE_concurrency:
    case KEY_ROUTE_concurrency:
        caps_schema(j, conf_key_row(key));
        return;
    case KEY_ROUTE_rate_limits:
        maps_of(j, "rate_limit", 8);
        return;
    case KEY_ROUTE_cache:
        words_or_map(j, "on|off", NULL, "cache");
        return;
    case KEY_ROUTE_compress:
        words_or_map(j, "on|off", NULL, "compress");
        return;
    case KEY_COMPRESS_types:
        texts_of(j, 1, CONF_COMPRESS_TYPES_MAX);
        return;
    case KEY_CACHE_vary:
        texts_of(j, 0, CONF_CACHE_VARY_MAX);
        return;
    case KEY_ROUTE_match:
        words_or_map(j, "/", "^[/~]", "match");
        return;
    case KEY_MATCH_header:
        json_key_str(j, "type", "object");
        json_key_u64(j, "maxProperties", 16);
        json_key(j, "additionalProperties");
        json_raw(j, SPAN("{\"type\":[\"string\",\"number\",\"boolean\"]}"));
        return;
    case KEY_LISTEN_trusted:
    case KEY_LISTEN_forwarded_from:
        json_key_str(j, "type", "array");
        json_key_u64(j, "minItems", 1);
        json_key_u64(j, "maxItems", CONF_PREFIXES_MAX);
        json_key(j, "items");
        json_raw(j, SPAN("{\"type\":\"string\"}"));
        return;
    case KEY_LISTEN_tls:
        words_or_map(j, "internal|off", NULL, "tls");
        return;
    case KEY_TLS_certs:
        json_key_str(j, "type", "array");
        json_key_u64(j, "maxItems", CONF_CERTS_MAX);
        json_key(j, "items");
        json_object_begin(j);
        ref(j, "cert");
        json_object_end(j);
        return;
    case KEY_SERVICE_tls:
        words_or_map(j, "on|off", NULL, "tls_out");
        return;
    case KEY_LISTEN_protocols:
        json_key_str(j, "type", "array");
        json_key(j, "items");
        json_raw(j, SPAN("{\"enum\":[\"http1\",\"h2\",\"h2c\"]}"));
        return;
    default: /* lists of a connector */
        if (conf_key_row(key)->level >= LEVEL_CONNECTOR)
            text_or_texts(j);
        return;
    }
}

static void key_schema(struct json *j, enum conf_key key)
{
    const struct conf_key_row *row = conf_key_row(key);
    json_key(j, row->name);
    json_object_begin(j);
    json_key_str(j, "description", row->what);
    if (row->def && row->shape != SHAPE_OTHER)
        json_key_str(j, "default", row->def);
    switch (row->shape) {
    case SHAPE_STR:
        json_key(j, "type");
        json_raw(j, SPAN("[\"string\",\"number\",\"boolean\"]"));
        break;
    case SHAPE_BOOL:
        flag(j);
        break;
    case SHAPE_WORD:
        words(j, row->words);
        break;
    case SHAPE_DUR:
        text_type(j, DUR_PATTERN);
        break;
    case SHAPE_COUNT:
        integer(j, row->min, row->max);
        break;
    case SHAPE_BYTES:
        quantity(j, BYTES_PATTERN);
        break;
    case SHAPE_PCT:
        text_type(j, PCT_PATTERN);
        break;
    case SHAPE_PER:
        text_type(j, PER_PATTERN);
        break;
    case SHAPE_RATIO:
        text_type(j, "^< *[0-9]+(\\.[0-9]+)?%$");
        break;
    case SHAPE_LATENCY:
        text_type(j, "^[0-9]+(\\.[0-9]+)?% *< *[0-9.]+(us|ms|s|m)$");
        break;
    case SHAPE_KNOB:
        json_key(j, "type");
        json_raw(j, SPAN("[\"string\",\"number\"]"));
        break;
    case SHAPE_OTHER:
        other_schema(j, key);
        break;
    }
    json_object_end(j);
}

static void level_properties(struct json *j, enum conf_level level)
{
    for (int k = 0; k < KEY_COUNT; k++) {
        const struct conf_key_row *row = conf_key_row((enum conf_key)k);
        if (row->level == level && !row->is_planned && level != LEVEL_TOP)
            key_schema(j, (enum conf_key)k);
    }
}

static void level_schema(struct json *j, enum conf_level level, const char *name,
                         const char *required)
{
    json_key(j, name);
    json_object_begin(j);
    json_key_str(j, "description", conf_level_row(level)->what);
    json_key_str(j, "type", "object");
    json_key_bool(j, "additionalProperties", false);
    if (required) {
        json_key(j, "required");
        json_array_begin(j);
        for (struct span rest = span_of(required); rest.len;)
            json_span(j, span_cut(rest, '|', &rest));
        json_array_end(j);
    }
    if (level == LEVEL_ROUTE) {
        json_key(j, "anyOf");
        json_raw(j, SPAN("[{\"required\":[\"service\"]},{\"required\":[\"redirect\"]},"
                         "{\"required\":[\"respond\"]}]"));
    }
    json_key(j, "properties");
    json_object_begin(j);
    level_properties(j, level);
    json_object_end(j);
    json_object_end(j);
}

static void section_schemas(struct json *j)
{
    size_t count;
    const struct conf_param_row *rows = conf_param_rows(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].section, "top") == 0) {
            param_schema(j, &rows[i]);
            continue;
        }
        if (i > 0 && strcmp(rows[i].section, rows[i - 1].section) == 0)
            continue;
        json_key(j, rows[i].section);
        json_object_begin(j);
        json_key_str(j, "type", "object");
        json_key_bool(j, "additionalProperties", false);
        json_key(j, "properties");
        json_object_begin(j);
        for (size_t k = i; k < count && strcmp(rows[k].section, rows[i].section) == 0; k++)
            param_schema(j, &rows[k]);
        json_object_end(j);
        json_object_end(j);
    }
}

/* One definition per type: an editor then offers the keys of the type that stands there. */
static void connector_schemas(struct json *j)
{
    size_t count;
    char name[40];
    const struct conf_connector_row *types = conf_connector_rows(&count);
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "connector_%s", types[i].name);
        json_key(j, name);
        json_object_begin(j);
        json_key_str(j, "description", types[i].what);
        json_key_str(j, "type", "object");
        json_key_bool(j, "additionalProperties", false);
        json_key(j, "required");
        json_array_begin(j);
        json_str(j, "type");
        for (int k = 0; k < KEY_COUNT; k++) {
            const struct conf_key_row *row = conf_key_row((enum conf_key)k);
            if (row->level == types[i].level && !row->def)
                json_str(j, row->name);
        }
        json_array_end(j);
        json_key(j, "properties");
        json_object_begin(j);
        json_key(j, "type");
        json_object_begin(j);
        json_key_str(j, "const", types[i].name);
        json_object_end(j);
        for (int k = 0; k < KEY_COUNT; k++) {
            const struct conf_key_row *row = conf_key_row((enum conf_key)k);
            if (k != KEY_CONNECTOR_type &&
                (row->level == LEVEL_CONNECTOR || row->level == types[i].level))
                key_schema(j, (enum conf_key)k);
        }
        json_object_end(j);
        json_object_end(j);
    }
}

/* A handler: the keys of both types; `url` or `command` tells which it is. */
static void handler_schema(struct json *j)
{
    json_key(j, "handler");
    json_object_begin(j);
    json_key_str(j, "description", conf_key_row(KEY_TOP_handlers)->what);
    json_key_str(j, "type", "object");
    json_key_bool(j, "additionalProperties", false);
    json_key(j, "oneOf");
    json_raw(j, SPAN("[{\"required\":[\"url\"]},{\"required\":[\"url_file\"]},"
                     "{\"required\":[\"command\"]}]"));
    json_key(j, "properties");
    json_object_begin(j);
    for (int k = 0; k < KEY_COUNT; k++) {
        enum conf_level level = conf_key_row((enum conf_key)k)->level;
        if (k != KEY_CONNECTOR_type &&
            (level == LEVEL_CONNECTOR || level == LEVEL_HTTP || level == LEVEL_EXEC))
            key_schema(j, (enum conf_key)k);
    }
    json_object_end(j);
    json_object_end(j);
}

static void scrape_schema(struct json *j)
{
    json_key(j, "scrape");
    json_object_begin(j);
    json_key_str(j, "description", conf_key_row(KEY_TOP_scrapes)->what);
    json_key_str(j, "type", "object");
    json_key_bool(j, "additionalProperties", false);
    json_key(j, "required");
    json_raw(j, SPAN("[\"url\"]"));
    json_key(j, "properties");
    json_object_begin(j);
    for (int k = 0; k < KEY_COUNT; k++) {
        enum conf_level level = conf_key_row((enum conf_key)k)->level;
        if (k != KEY_CONNECTOR_type && (level == LEVEL_CONNECTOR || level == LEVEL_PROMETHEUS))
            key_schema(j, (enum conf_key)k);
    }
    json_object_end(j);
    json_object_end(j);
}

static void named_refs(struct json *j, enum conf_key key, const char *definition)
{
    json_key(j, conf_key_row(key)->name);
    json_object_begin(j);
    json_key_str(j, "description", conf_key_row(key)->what);
    json_key_str(j, "type", "object");
    json_key(j, "propertyNames");
    json_raw(j, SPAN("{\"pattern\":\"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$\"}"));
    json_key(j, "additionalProperties");
    json_object_begin(j);
    ref(j, definition);
    json_object_end(j);
    json_object_end(j);
}

static void connector_refs(struct json *j)
{
    size_t count;
    char name[40];
    const struct conf_connector_row *types = conf_connector_rows(&count);
    json_key(j, "connectors");
    json_object_begin(j);
    json_key_str(j, "description", conf_key_row(KEY_TOP_connectors)->what);
    json_key_str(j, "type", "object");
    json_key(j, "propertyNames");
    json_raw(j, SPAN("{\"pattern\":\"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$\"}"));
    json_key(j, "additionalProperties");
    json_object_begin(j);
    json_key(j, "oneOf");
    json_array_begin(j);
    for (size_t i = 0; i < count; i++) {
        json_object_begin(j);
        snprintf(name, sizeof name, "connector_%s", types[i].name);
        ref(j, name);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
    json_object_end(j);
}

static void signal_refs(struct json *j)
{
    json_key(j, conf_key_row(KEY_TOP_signals)->name);
    json_object_begin(j);
    json_key_str(j, "description", conf_key_row(KEY_TOP_signals)->what);
    json_key_str(j, "type", "object");
    json_key_u64(j, "maxProperties", CONF_SIGNALS_MAX);
    json_key(j, "propertyNames");
    json_raw(j, SPAN("{\"pattern\":\"^[a-z0-9][a-z0-9_.-]{0,38}$\"}"));
    json_key(j, "additionalProperties");
    json_object_begin(j);
    ref(j, "signal");
    json_object_end(j);
    json_object_end(j);
}

void conf_schema(struct buf *out)
{
    struct json j;
    json_init(&j, out);
    json_object_begin(&j);
    json_key_str(&j, "$schema", "https://json-schema.org/draft/2020-12/schema");
    json_key_str(&j, "title", "foldback configuration");
    json_key_str(&j, "type", "object");
    json_key_bool(&j, "additionalProperties", false);
    json_key(&j, "required");
    json_raw(&j, SPAN("[\"listen\",\"services\"]"));
    json_key(&j, "properties");
    json_object_begin(&j);
    json_key(&j, "listen");
    json_object_begin(&j);
    json_key_str(&j, "description", conf_key_row(KEY_TOP_listen)->what);
    list_of(&j, "listen", 1, CONF_LISTENS_MAX);
    json_object_end(&j);
    json_key(&j, "services");
    json_object_begin(&j);
    json_key_str(&j, "description", conf_key_row(KEY_TOP_services)->what);
    json_key_str(&j, "type", "object");
    json_key_u64(&j, "minProperties", 1);
    json_key(&j, "propertyNames");
    json_raw(&j, SPAN("{\"pattern\":\"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$\"}"));
    json_key(&j, "additionalProperties");
    json_object_begin(&j);
    ref(&j, "service");
    json_object_end(&j);
    json_object_end(&j);
    connector_refs(&j);
    named_refs(&j, KEY_TOP_handlers, "handler");
    named_refs(&j, KEY_TOP_scrapes, "scrape");
    signal_refs(&j);
    json_key(&j, "error_pages");
    json_object_begin(&j);
    maps_of(&j, "error_page", CONF_PAGES_MAX);
    json_object_end(&j);
    json_key(&j, "routes");
    json_object_begin(&j);
    json_key_str(&j, "description", conf_key_row(KEY_TOP_routes)->what);
    json_key_str(&j, "type", "array");
    json_key_u64(&j, "minItems", 1);
    json_key(&j, "items");
    json_object_begin(&j);
    ref(&j, "route");
    json_object_end(&j);
    json_object_end(&j);
    section_schemas(&j);
    json_object_end(&j);
    json_key(&j, "$defs");
    json_object_begin(&j);
    level_schema(&j, LEVEL_LISTEN, "listen", "address");
    level_schema(&j, LEVEL_TLS, "tls", NULL);
    level_schema(&j, LEVEL_CERT, "cert", "cert|key");
    level_schema(&j, LEVEL_OUT, "tls_out", NULL);
    level_schema(&j, LEVEL_SERVICE, "service", "endpoints");
    level_schema(&j, LEVEL_ENDPOINT, "endpoint", "address");
    level_schema(&j, LEVEL_STICKY, "sticky", "cookie");
    level_schema(&j, LEVEL_MIRROR, "mirror", "service");
    level_schema(&j, LEVEL_AGENT, "agent_check", "port");
    level_schema(&j, LEVEL_OBJECTIVE, "objective", NULL);
    level_schema(&j, LEVEL_QUEUE, "queue", NULL);
    level_schema(&j, LEVEL_HEALTH, "health", NULL);
    level_schema(&j, LEVEL_TUNE, "tune", NULL);
    level_schema(&j, LEVEL_ROUTE, "route", "match");
    level_schema(&j, LEVEL_FIELDS, "fields", NULL);
    level_schema(&j, LEVEL_REWRITE, "rewrite", NULL);
    level_schema(&j, LEVEL_REDIRECT, "redirect", "to");
    level_schema(&j, LEVEL_RESPOND, "respond", NULL);
    level_schema(&j, LEVEL_AUTH, "auth", NULL);
    level_schema(&j, LEVEL_BASIC, "basic", "file");
    level_schema(&j, LEVEL_BACK, "map_back", NULL);
    level_schema(&j, LEVEL_ASK, "auth_request", "service");
    level_schema(&j, LEVEL_RATE, "rate_limit", NULL);
    level_schema(&j, LEVEL_CAP, "cap", "max");
    level_schema(&j, LEVEL_PAGE, "error_page", "status|body");
    level_schema(&j, LEVEL_CACHE, "cache", NULL);
    level_schema(&j, LEVEL_COMPRESS, "compress", NULL);
    level_schema(&j, LEVEL_MATCH, "match", NULL);
    level_schema(&j, LEVEL_SIGNAL, "signal", NULL);
    connector_schemas(&j);
    handler_schema(&j);
    scrape_schema(&j);
    json_object_end(&j);
    json_object_end(&j);
    buf_putc(out, '\n');
}
