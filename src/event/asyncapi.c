/* SPDX-License-Identifier: Apache-2.0 */
#include "event/asyncapi.h"

#include "event/cloudevent.h"

#include <stdio.h>

static void put_ref(struct json *j, const char *where, const char *name, const char *suffix)
{
    char ref[160];
    snprintf(ref, sizeof ref, "#/%s/%s%s", where, name, suffix);
    json_object_begin(j);
    json_key_str(j, "$ref", ref);
    json_object_end(j);
}

/* A channel or the list of an operation: one message per type. */
static void put_messages(struct json *j, const char *where, const char *suffix, bool is_list)
{
    for (uint8_t t = 1; t < EV_TYPE_END; t++) {
        const char *name = ev_type_row(t)->name;
        char key[64];
        if (!name)
            continue;
        snprintf(key, sizeof key, "%s%s", name, suffix);
        if (!is_list)
            json_key(j, key);
        put_ref(j, where, name, suffix);
    }
}

static void put_channel(struct json *j, const char *name, const char *suffix, const char *what)
{
    json_key(j, name);
    json_object_begin(j);
    json_key(j, "address");
    json_str(j, suffix[0] ? NULL : "/v1/events"); /* null: known when it is set up */
    json_key_str(j, "description", what);
    json_key(j, "messages");
    json_object_begin(j);
    put_messages(j, "components/messages", suffix, false);
    json_object_end(j);
    json_object_end(j);
}

static void put_operation(struct json *j, const char *name, const char *channel, const char *suffix)
{
    char where[64];
    snprintf(where, sizeof where, "channels/%s/messages", channel);
    json_key(j, name);
    json_object_begin(j);
    json_key_str(j, "action", "send");
    json_key(j, "channel");
    put_ref(j, "channels", channel, "");
    json_key(j, "messages");
    json_array_begin(j);
    put_messages(j, where, suffix, true);
    json_array_end(j);
    json_object_end(j);
}

static void put_message(struct json *j, uint8_t type, const char *suffix)
{
    const struct ev_type_row *row = ev_type_row(type);
    char key[64];
    snprintf(key, sizeof key, "%s%s", row->name, suffix);
    json_key(j, key);
    json_object_begin(j);
    json_key_str(j, "name", key);
    json_key_str(j, "summary", row->what);
    json_key_str(j, "contentType", suffix[0] ? "application/cloudevents+json" : "application/json");
    json_key(j, "payload");
    put_ref(j, "components/schemas", row->name, suffix);
    json_object_end(j);
}

static void put_text_member(struct json *j, const char *name, const char *key, const char *value)
{
    json_key(j, name);
    json_object_begin(j);
    json_key_str(j, "type", "string");
    json_key_str(j, key, value);
    json_object_end(j);
}

/* The envelope that cloudevent_put writes. */
static void put_envelope(struct json *j, uint8_t type)
{
    static const char *const required[] = {"specversion", "type",     "source",
                                           "id",          "time",     "datacontenttype",
                                           "dataschema",  "sequence", "data"};
    const struct ev_head ev = {.type = type, .version = 1};
    char key[64], text[CLOUDEVENT_SCHEMA_BYTES];
    snprintf(key, sizeof key, "%sCloudEvent", ev_type_row(type)->name);
    json_key(j, key);
    json_object_begin(j);
    json_key_str(j, "type", "object");
    json_key(j, "required");
    json_array_begin(j);
    for (size_t i = 0; i < FB_COUNT(required); i++)
        json_str(j, required[i]);
    json_array_end(j);
    json_key(j, "properties");
    json_object_begin(j);
    put_text_member(j, "specversion", "const", "1.0");
    cloudevent_type(text, &ev);
    put_text_member(j, "type", "const", text);
    put_text_member(j, "source", "pattern", "^/foldback/nodes/[0-9a-f]{16}$");
    put_text_member(j, "id", "pattern", "^[0-9a-f]{16}/[0-9]+$");
    put_text_member(j, "time", "format", "date-time");
    put_text_member(j, "datacontenttype", "const", "application/json");
    cloudevent_schema(text, &ev);
    put_text_member(j, "dataschema", "const", text);
    put_text_member(j, "subject", "description", "Service or target that it is about.");
    put_text_member(j, "sequence", "pattern", "^[0-9]{20}$");
    json_key(j, "data");
    put_ref(j, "components/schemas", ev_type_row(type)->name, "");
    json_object_end(j);
    json_object_end(j);
}

static void put_info(struct json *j)
{
    json_key(j, "info");
    json_object_begin(j);
    json_key_str(j, "title", "foldback");
    json_key_str(j, "version", FB_VERSION);
    json_key_str(j, "description",
                 "Everything that foldback says: requests, facts, decisions and their outcomes.");
    json_key(j, "license");
    json_object_begin(j);
    json_key_str(j, "name", "Apache-2.0");
    json_object_end(j);
    json_object_end(j);
}

static void put_components(struct json *j)
{
    json_key(j, "components");
    json_object_begin(j);
    json_key(j, "messages");
    json_object_begin(j);
    for (uint8_t t = 1; t < EV_TYPE_END; t++)
        if (ev_type_row(t)->name) {
            put_message(j, t, "");
            put_message(j, t, "CloudEvent");
        }
    json_object_end(j);
    json_key(j, "schemas");
    json_object_begin(j);
    for (uint8_t t = 1; t < EV_TYPE_END; t++)
        if (ev_type_row(t)->name) {
            json_key(j, ev_type_row(t)->name);
            ev_schema(j, t);
            put_envelope(j, t);
        }
    json_object_end(j);
    json_object_end(j);
}

/* Two blanks a level, so that the page can be read and compared line by line. */
static void indent(struct span text, struct buf *out)
{
    uint32_t depth = 0;
    bool is_text = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '"' && (i == 0 || text.at[i - 1] != '\\'))
            is_text = !is_text;
        bool opens = !is_text && (c == '{' || c == '['),
             closes = !is_text && (c == '}' || c == ']');
        depth -= closes;
        if (closes)
            buf_printf(out, "\n%*s", (int)depth * 2, "");
        buf_putc(out, c);
        depth += opens;
        if (opens || (!is_text && c == ','))
            buf_printf(out, "\n%*s", (int)depth * 2, "");
        else if (!is_text && c == ':')
            buf_putc(out, ' ');
    }
    buf_putc(out, '\n');
}

void asyncapi_put(struct buf *out)
{
    struct buf text;
    struct json j;
    buf_init(&text, 4 * MIB);
    json_init(&j, &text);
    json_object_begin(&j);
    json_key_str(&j, "asyncapi", "3.0.0");
    put_info(&j);
    json_key_str(&j, "defaultContentType", "application/json");
    json_key(&j, "channels");
    json_object_begin(&j);
    put_channel(&j, "log", "", "Lines of GET /v1/events and of `foldback events tail`.");
    put_channel(&j, "cloudevents", "CloudEvent",
                "CloudEvents 1.0 of `foldback events export --format cloudevents`, of handlers and "
                "of connectors; (source, id) names an event for ever.");
    json_object_end(&j);
    json_key(&j, "operations");
    json_object_begin(&j);
    put_operation(&j, "sendLog", "log", "");
    put_operation(&j, "sendCloudevents", "cloudevents", "CloudEvent");
    json_object_end(&j);
    put_components(&j);
    json_object_end(&j);
    indent(buf_span(&text), out);
    out->failed |= text.failed;
    buf_fini(&text);
}
