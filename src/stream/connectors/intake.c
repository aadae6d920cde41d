/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/intake.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DEPTH_FLAGS (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)

static void bad(struct intake *in, const char *why)
{
    in->bad++;
    snprintf(in->reason, sizeof in->reason, "%s", why);
}

/* Cut where a character of UTF-8 ends. */
static void put_text(char *to, size_t size, const char *text)
{
    size_t len = strnlen(text, size);
    if (len == size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(to, text, len);
}

static void put_name(char *to, size_t size, const char *text)
{
    for (size_t i = 0; i + 1 < size && text[i]; i++) {
        char c = text[i];
        bool is_word =
            (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        to[i] = is_word ? c : (c >= 'A' && c <= 'Z') ? (char)(c - 'A' + 'a') : '_';
    }
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text && text[0] ? text : NULL;
}

/* What is no name and no value, as JSON. */
static void put_rest(struct ev_custom *ev, const json_t *o)
{
    json_t *rest = json_copy((json_t *)(uintptr_t)o);
    static const char *const known[] = {"name", "event", "value"};
    for (size_t i = 0; i < FB_COUNT(known) && json_is_object(rest); i++)
        json_object_del(rest, known[i]);
    if (!json_is_object(rest) || json_object_size(rest) > 0) {
        char *text = json_dumps(rest, JSON_COMPACT | JSON_ENCODE_ANY);
        if (text)
            put_text(ev->text, sizeof ev->text, text);
        free(text);
    }
    json_decref(rest);
}

static void put_one(struct intake *in, const json_t *o)
{
    struct ev_custom ev = EV_INIT(CUSTOM, custom, in->now_us);
    if (!json_is_object(o)) {
        bad(in, "not a JSON object");
        return;
    }
    const json_t *body = o, *value;
    const char *name = text_of(o, "name"), *text;
    if (text_of(o, "specversion")) {
        name = text_of(o, "type");
        body = json_object_get(o, "data");
        if (!name) {
            bad(in, "a CloudEvent without a type");
            return;
        }
    }
    if (!name)
        name = text_of(o, "event");
    put_name(ev.name, sizeof ev.name, name ? name : in->name);
    value = json_is_object(body) ? json_object_get(body, "value") : body;
    if (json_is_number(value)) {
        ev.value = json_number_value(value);
    } else if (value && json_is_object(body)) {
        bad(in, "`value` is not a number");
        return;
    }
    text = json_is_object(body) ? text_of(body, "text") : json_string_value(body);
    if (!text && json_is_object(body))
        text = text_of(body, "message");
    if (text)
        put_text(ev.text, sizeof ev.text, text);
    else if (body && !json_is_number(body))
        put_rest(&ev, body);
    if (!isfinite(ev.value)) {
        bad(in, "`value` is not finite");
        return;
    }
    buf_put(in->out, &ev, sizeof ev);
    in->events++;
}

static void put_document(struct intake *in, const json_t *root)
{
    size_t i;
    json_t *one;
    if (!json_is_array(root)) {
        put_one(in, root);
        return;
    }
    json_array_foreach(root, i, one) put_one(in, one);
}

/* The whole as one document, else line by line. */
static void put_bytes(struct intake *in, struct span bytes)
{
    json_error_t error;
    json_t *root = json_loadb(bytes.at, bytes.len, DEPTH_FLAGS, &error);
    if (root) {
        put_document(in, root);
        json_decref(root);
        return;
    }
    if (!memchr(bytes.at, '\n', bytes.len)) {
        bad(in, "not JSON");
        return;
    }
    while (bytes.len) {
        struct span line = span_trim(span_cut(bytes, '\n', &bytes));
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0)
            continue;
        root = json_loadb(line.at, line.len, DEPTH_FLAGS, &error);
        if (root)
            put_document(in, root);
        else
            bad(in, "a line is not JSON");
        json_decref(root);
    }
}

bool intake_read(struct intake *in, struct span bytes)
{
    size_t was = in->out->len;
    uint32_t events = in->events, refused = in->bad;
    if (bytes.len == 0)
        bad(in, "empty");
    else
        put_bytes(in, bytes);
    if (!in->out->failed)
        return true;
    in->out->len = was;
    in->out->failed = false;
    in->events = events;
    in->bad = refused;
    return false;
}
