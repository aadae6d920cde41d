/* SPDX-License-Identifier: Apache-2.0 */
#include "event/intake.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DEPTH_FLAGS (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)
#define EXACT_MAX 9007199254740992.0 /* 2^53: a double holds each integer up to here */

static void bad(struct intake *in, enum intake_fault fault, const char *field, const char *why)
{
    struct intake_bad b = {fault, in->line, in->element, field, why};
    in->bad++;
    snprintf(in->reason, sizeof in->reason, "%s", why);
    if (in->on_bad)
        in->on_bad(in->arg, &b);
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

static char name_char(char c)
{
    bool is_word =
        (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    return is_word ? c : (c >= 'A' && c <= 'Z') ? (char)(c - 'A' + 'a') : '_';
}

bool intake_name(char to[40], struct span text)
{
    size_t len = fb_min_u64(text.len, 39);
    for (size_t i = 0; i < len; i++)
        to[i] = name_char(text.at[i]);
    to[len] = '\0';
    return len > 0;
}

static bool is_name(const char *text)
{
    size_t len = strlen(text);
    bool is_good = len > 0 && len < 40;
    for (size_t i = 0; i < len && is_good; i++)
        is_good = name_char(text[i]) == text[i];
    return is_good;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text && text[0] ? text : NULL;
}

/* The member that holds a number which may have been an integer beyond 2^53; NULL: none. */
static const char *rounded_member(const json_t *v, const char *name)
{
    size_t i;
    const char *key, *found = NULL;
    json_t *one;
    if (json_is_real(v))
        return fabs(json_real_value(v)) >= EXACT_MAX ? name : NULL;
    json_array_foreach(v, i, one)
    {
        if (!found)
            found = rounded_member(one, name);
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, one)
    {
        if (!found)
            found = rounded_member(one, name[0] ? name : key);
    }
    return found;
}

/* What is no name and no value, as JSON. */
static bool put_rest(struct intake *in, struct ev_custom *ev, const json_t *o)
{
    bool is_good = true;
    json_t *rest = json_copy((json_t *)(uintptr_t)o);
    static const char *const known[] = {"name", "event", "value"};
    for (size_t i = 0; i < FB_COUNT(known) && json_is_object(rest); i++)
        json_object_del(rest, known[i]);
    const char *rounded = in->is_rounded && in->is_strict ? rounded_member(rest, "") : NULL;
    if (rounded) {
        bad(in, INTAKE_VALUE, rounded,
            "an integer beyond 64 bits would be rounded: send it as text");
        is_good = false;
    } else if (!json_is_object(rest) || json_object_size(rest) > 0) {
        char *text = json_dumps(rest, JSON_COMPACT | JSON_ENCODE_ANY);
        if (text)
            put_text(ev->text, sizeof ev->text, text);
        free(text);
    }
    json_decref(rest);
    return is_good;
}

/* foldback.<type>.v<n>: what another foldback writes as CloudEvents. */
static bool is_told_type(const char *name)
{
    struct span version, rest = span_of(name + sizeof EV_OWN_PREFIX - 1);
    struct span type = span_cut(rest, '.', &version);
    uint64_t n;
    return ev_type_by_name(type) != 0 && version.len > 1 && version.at[0] == 'v' &&
           span_to_u64((struct span){version.at + 1, version.len - 1}, &n);
}

/* A topic is nobody's claim: its events keep it, readable and told apart. */
static bool settle_own(struct intake *in, struct ev_custom *ev, const char *key, bool is_default)
{
    if (!ev_name_is_own(ev->name) || in->is_own)
        return true;
    if (is_default) {
        ev->name[sizeof EV_OWN_PREFIX - 2] = '_';
        return true;
    }
    if (strcmp(key, "type") == 0 && is_told_type(ev->name))
        return true;
    bad(in, INTAKE_RESERVED, key, "names that begin with foldback. are foldback's own");
    return false;
}

static bool is_version_good(struct intake *in, const json_t *o)
{
    const json_t *version = json_object_get(o, "specversion");
    const char *text = json_string_value(version);
    if (!version && !in->is_cloud)
        return true;
    if (version && (!in->is_strict || (text && strcmp(text, "1.0") == 0)))
        return true;
    bad(in, INTAKE_NOT_AN_EVENT, "specversion",
        version ? "`specversion` must be the text \"1.0\": no other version is taken"
                : "a CloudEvent has `specversion`: \"1.0\"");
    return false;
}

/* The name that the event has or gets; a CloudEvent's type is folded, never refused. */
static bool take_name(struct intake *in, struct ev_custom *ev, const json_t *o)
{
    bool is_cloud = text_of(o, "specversion") != NULL;
    const char *key = is_cloud ? "type" : json_object_get(o, "name") ? "name" : "event";
    const char *name = text_of(o, key);
    if (!name && is_cloud) {
        bad(in, INTAKE_NOT_AN_EVENT, "type", "a CloudEvent without a type");
        return false;
    }
    if (in->is_strict && !is_cloud && (name ? !is_name(name) : json_object_get(o, key) != NULL)) {
        bad(in, INTAKE_NAME, key, "the name must be 1 to 39 of a-z 0-9 . _ -");
        return false;
    }
    name = name ? name : in->name;
    if (!name) {
        bad(in, INTAKE_NAME, "name", "there is no name");
        return false;
    }
    intake_name(ev->name, span_of(name));
    return settle_own(in, ev, key, name == in->name);
}

static bool take_value(struct intake *in, struct ev_custom *ev, const json_t *body)
{
    const json_t *value = json_is_object(body) ? json_object_get(body, "value") : body;
    if (json_is_number(value)) {
        ev->value = json_number_value(value) + 0.0; /* no -0 */
    } else if (value && json_is_object(body)) {
        bad(in, INTAKE_VALUE, "value", "`value` is not a number");
        return false;
    }
    if (!isfinite(ev->value)) {
        bad(in, INTAKE_VALUE, "value", "`value` is not finite");
        return false;
    }
    return true;
}

static bool take_text(struct intake *in, struct ev_custom *ev, const json_t *body)
{
    const char *text =
        json_string_value(json_is_object(body) ? json_object_get(body, "text") : body);
    if (!text && json_is_object(body))
        text = json_string_value(json_object_get(body, "message"));
    if (text && in->is_strict && strlen(text) >= sizeof ev->text) {
        bad(in, INTAKE_TEXT, "text", "`text` is longer than 191 bytes");
        return false;
    }
    if (text)
        put_text(ev->text, sizeof ev->text, text);
    else if (body && !json_is_number(body))
        return put_rest(in, ev, body);
    return true;
}

static bool came_before(const struct intake *in, uint64_t name)
{
    struct span names = buf_span(in->names);
    bool is_known = repeats_knows(in->repeats, name);
    for (size_t at = 0; at < names.len && !is_known; at += sizeof name) /* of this request */
        is_known = memcmp(names.at + at, &name, sizeof name) == 0;
    return is_known;
}

/* True: it is left out. */
static bool is_repeat(struct intake *in, const json_t *o)
{
    const char *source = text_of(o, "source"), *id = text_of(o, "id");
    if (!in->repeats || in->out->failed || !text_of(o, "specversion") || !source || !id)
        return false;
    uint64_t name = repeats_name(in->repeats, in->sender, span_of(source), span_of(id));
    bool is_known = came_before(in, name);
    in->repeated += is_known;
    if (!is_known)
        buf_put(in->names, &name, sizeof name);
    return is_known;
}

static void put_one(struct intake *in, const json_t *o)
{
    struct ev_custom ev = EV_INIT(CUSTOM, custom, in->now_us);
    if (!json_is_object(o)) {
        bad(in, INTAKE_NOT_AN_EVENT, "", "not a JSON object");
        return;
    }
    if (!is_version_good(in, o))
        return;
    bool is_cloud = text_of(o, "specversion") != NULL;
    const json_t *body = is_cloud ? json_object_get(o, "data") : o;
    if (is_cloud && in->is_strict && !body && json_object_get(o, "data_base64")) {
        bad(in, INTAKE_TEXT, "data_base64", "`data_base64` is not taken: send it as `data`");
        return;
    }
    if (!take_name(in, &ev, o) || !take_value(in, &ev, body) || !take_text(in, &ev, body) ||
        is_repeat(in, o))
        return;
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
    json_array_foreach(root, i, one)
    {
        in->element = (uint32_t)i + 1;
        put_one(in, one);
    }
    in->element = 0;
}

static void bad_json(struct intake *in, const char *what, const json_error_t *error)
{
    char why[JSON_ERROR_TEXT_LENGTH + 64];
    uint32_t line = in->line;
    in->line += error->line > 1 ? (uint32_t)error->line - 1 : 0;
    snprintf(why, sizeof why, "%s: %s at column %d", what, error->text, error->column);
    bad(in, INTAKE_NOT_JSON, "", why);
    snprintf(in->reason, sizeof in->reason, "%s", what); /* the same for all such messages */
    in->line = line;
}

/* An integer beyond 64 bits makes all integers of the document real numbers, not the document bad.
 */
static json_t *load(struct intake *in, struct span s, json_error_t *error)
{
    json_t *root = json_loadb(s.at, s.len, DEPTH_FLAGS, error);
    in->is_rounded = !root && json_error_code(error) == json_error_numeric_overflow;
    if (in->is_rounded)
        root = json_loadb(s.at, s.len, DEPTH_FLAGS | JSON_DECODE_INT_AS_REAL, error);
    return root;
}

static void put_lines(struct intake *in, struct span bytes)
{
    json_error_t error;
    for (in->line = 1; bytes.len; in->line++) {
        struct span line = span_trim(span_cut(bytes, '\n', &bytes));
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0)
            continue;
        json_t *root = load(in, line, &error);
        if (root)
            put_document(in, root);
        else
            bad_json(in, "a line is not JSON", &error);
        json_decref(root);
    }
}

/* The whole as one document, else line by line. */
static void put_bytes(struct intake *in, struct span bytes)
{
    json_error_t error;
    in->line = 1;
    json_t *root = in->form == INTAKE_LINES ? NULL : load(in, bytes, &error);
    if (root) {
        put_document(in, root);
        json_decref(root);
        return;
    }
    if (in->form == INTAKE_DOCUMENT ||
        (in->form == INTAKE_ANY && !memchr(bytes.at, '\n', bytes.len)))
        bad_json(in, "not JSON", &error);
    else
        put_lines(in, bytes);
}

/* The JSON of the parts as one document; NULL after bad. */
static json_t *document_of(struct intake *in, const struct intake_parts *p)
{
    json_error_t error;
    json_t *data = NULL, *o = json_object();
    bool is_good = o != NULL;
    if (p->kind == INTAKE_DATA_JSON) {
        data = load(in, p->data, &error);
        if (!data)
            bad_json(in, "the data is not JSON", &error);
        is_good &= data != NULL && json_object_set_new(o, "data", data) == 0;
    } else if (p->kind == INTAKE_DATA_TEXT) {
        data = json_stringn(p->data.at, p->data.len);
        if (!data)
            bad(in, INTAKE_TEXT, "data", "the text is not UTF-8");
        is_good &= data != NULL && json_object_set_new(o, "data", data) == 0;
    }
    if (p->specversion[0])
        (void)json_object_set_new(o, "specversion", json_string(p->specversion));
    if (p->type[0] && json_object_set_new(o, "type", json_string(p->type)) != 0 && is_good) {
        bad(in, INTAKE_NAME, "type", "the type is not UTF-8");
        is_good = false;
    }
    if (p->source[0])
        (void)json_object_set_new(o, "source", json_string(p->source));
    if (p->id[0])
        (void)json_object_set_new(o, "id", json_string(p->id));
    if (is_good)
        return o;
    json_decref(o);
    return NULL;
}

bool intake_read_parts(struct intake *in, const struct intake_parts *parts)
{
    size_t was = in->out->len;
    in->line = 1;
    in->is_rounded = false;
    json_t *o = document_of(in, parts);
    if (o)
        put_one(in, o);
    json_decref(o);
    if (!in->out->failed)
        return true;
    in->out->len = was;
    in->out->failed = false;
    in->events--;
    return false;
}

bool intake_read(struct intake *in, struct span bytes)
{
    size_t was = in->out->len;
    uint32_t events = in->events, refused = in->bad;
    if (span_starts(bytes, SPAN("\xef\xbb\xbf"))) /* a byte order mark is no part of the text */
        bytes = (struct span){bytes.at + 3, bytes.len - 3};
    if (bytes.len == 0)
        bad(in, INTAKE_NOT_JSON, "", "empty");
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
