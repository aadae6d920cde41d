/* SPDX-License-Identifier: Apache-2.0 */
/* Events of applications: a body becomes records, which go into the brain's queue all at once.
 *
 * A document (JSON, CloudEvents) is taken as a whole or not at all; of lines (NDJSON) each good one
 * is taken and each bad one is named.  A full queue takes nothing: 429. */
#include "output/admin_int.h"

#include "event/intake.h"

#include <stdio.h>
#include <sys/random.h>

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

#define TOLD_MAX 20 /* bad ones that an answer names; the others are only counted */

struct told {
    struct intake_bad bad;
    char why[160], field[40];
};
struct reading {
    struct ingest_stats *stats;
    struct told told[TOLD_MAX];
    uint32_t count;
};

static void on_bad(void *arg, const struct intake_bad *bad)
{
    static const enum ingest_refused reasons[INTAKE_FAULTS] = {
        [INTAKE_NOT_JSON] = INGEST_REFUSED_SYNTAX, [INTAKE_NOT_AN_EVENT] = INGEST_REFUSED_NO_EVENT,
        [INTAKE_NAME] = INGEST_REFUSED_NAME,       [INTAKE_VALUE] = INGEST_REFUSED_VALUE,
        [INTAKE_TEXT] = INGEST_REFUSED_TEXT,       [INTAKE_RESERVED] = INGEST_REFUSED_RESERVED};
    struct reading *r = arg;
    ingest_refuse(r->stats, INGEST_PUSH, reasons[bad->fault], 1);
    if (r->count == TOLD_MAX)
        return;
    struct told *t = &r->told[r->count++];
    t->bad = *bad;
    snprintf(t->why, sizeof t->why, "%s", bad->why);
    snprintf(t->field, sizeof t->field, "%.39s", bad->field);
}

/* How a body is to be read. */
struct shape {
    enum intake_form form;
    bool is_cloud; /* CloudEvents and nothing else */
    bool is_parts; /* one CloudEvent: attributes in ce- headers, data in the body */
    enum intake_data data;
};

static bool ends_with(struct span s, struct span end)
{
    return s.len >= end.len && span_ieq((struct span){s.at + s.len - end.len, end.len}, end);
}

/* Binary mode: the type is one of the data. */
static bool shape_of_parts(struct api_call *c, struct span type, struct shape *shape)
{
    *shape = (struct shape){.is_cloud = true, .is_parts = true};
    if (c->conn->body.len == 0)
        shape->data = INTAKE_NO_DATA;
    else if (type.len == 0 || span_ieq(type, SPAN("application/json")) ||
             span_ieq(type, SPAN("text/json")) || ends_with(type, SPAN("+json")))
        shape->data = INTAKE_DATA_JSON;
    else if (type.len > 5 && span_ieq((struct span){type.at, 5}, SPAN("text/")))
        shape->data = INTAKE_DATA_TEXT;
    else
        return false;
    return true;
}

/* False: a type that is none of ours. */
static bool shape_of(struct api_call *c, struct shape *shape)
{
    static const struct {
        const char *type;
        struct shape shape;
    } rows[] = {{"application/json", {.form = INTAKE_DOCUMENT}},
                {"text/json", {.form = INTAKE_DOCUMENT}},
                {"application/cloudevents+json", {.form = INTAKE_DOCUMENT, .is_cloud = true}},
                {"application/cloudevents-batch+json", {.form = INTAKE_DOCUMENT, .is_cloud = true}},
                {"application/x-ndjson", {.form = INTAKE_LINES}},
                {"application/ndjson", {.form = INTAKE_LINES}},
                {"application/jsonl", {.form = INTAKE_LINES}},
                {"application/json-lines", {.form = INTAKE_LINES}},
                {"application/x-jsonlines", {.form = INTAKE_LINES}}};
    struct span type = api_media_type(c->head);
    bool is_cloud_type =
        type.len > 23 && span_ieq((struct span){type.at, 23}, SPAN("application/cloudevents"));
    if (!is_cloud_type && http1_find_name(c->head, SPAN("ce-specversion")))
        return shape_of_parts(c, type, shape);
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (span_ieq(type, span_of(rows[i].type))) {
            *shape = rows[i].shape;
            return true;
        }
    return false;
}

static void put_told(struct json *j, const struct reading *r)
{
    json_key(j, "errors");
    json_array_begin(j);
    for (uint32_t i = 0; i < r->count; i++) {
        const struct told *t = &r->told[i];
        json_object_begin(j);
        json_key_u64(j, "line", t->bad.line);
        if (t->bad.element)
            json_key_u64(j, "element", t->bad.element);
        if (t->field[0])
            json_key_str(j, "field", t->field);
        json_key_str(j, "why", t->why);
        json_object_end(j);
    }
    json_array_end(j);
}

/* Nothing was taken: the first fault in the sentence, the others behind it. */
static void fail_bad(struct api_call *c, const struct reading *r, uint32_t bad)
{
    const struct told *t = &r->told[0];
    char where[64];
    snprintf(where, sizeof where, t->bad.element ? "line %u, element %u" : "line %u", t->bad.line,
             t->bad.element);
    api_fail(c, t->bad.fault == INTAKE_NOT_JSON ? FB_E_FORMAT : FB_E_RANGE,
             "%s: %s; nothing was taken", where, t->why);
    if (c->out->len == 0 || c->out->at[c->out->len - 1] != '}')
        return;
    c->out->len--; /* goes on behind the last member */
    c->j = (struct json){.out = c->out, .depth = 1, .needs_comma = {true, true}};
    json_key_u64(&c->j, "rejected", bad);
    put_told(&c->j, r);
    json_object_end(&c->j);
}

static void answer(struct api_call *c, const struct reading *r, const struct intake *in)
{
    c->status = 202;
    json_object_begin(&c->j);
    json_key_u64(&c->j, "accepted", in->events);
    json_key_u64(&c->j, "rejected", in->bad);
    if (in->repeated)
        json_key_u64(&c->j, "repeated", in->repeated);
    put_told(&c->j, r);
    json_object_end(&c->j);
}

bool api_ingest_put(struct api_call *c, enum ingest_via via, struct span records)
{
    struct admin_source *s = &c->admin->source;
    enum fb_code code = ingress_put(s->ingress, records, NULL);
    if (code == FB_OK) {
        uint64_t count = records.len / sizeof(struct ev_custom);
        ingest_count(s->ingest, via, count, count);
        return true;
    }
    ingest_refuse(s->ingest, via, INGEST_REFUSED_QUEUE_FULL,
                  records.len / sizeof(struct ev_custom));
    size_t len = strlen(c->header);
    snprintf(c->header + len, sizeof c->header - len, "Retry-After: 1\r\n");
    api_fail_status(c, 429, FB_E_AGAIN,
                    "the queue of incoming events is full; nothing was taken, send it again");
    return false;
}

/* The value of a ce- header, percent-decoded as the binding has it; "" when absent or malformed. */
static void attribute(const struct api_call *c, const char *name, char out[200])
{
    const struct http1_field *f = http1_find_name(c->head, span_of(name));
    if (!f || !api_decode(f->value, false, out, 200))
        out[0] = '\0';
}

static bool read_events(struct api_call *c, const struct shape *shape, struct span body,
                        struct intake *in)
{
    char version[200], type[200], source[200], id[200];
    if (!shape->is_parts)
        return intake_read(in, body);
    attribute(c, "ce-specversion", version);
    attribute(c, "ce-type", type);
    attribute(c, "ce-source", source);
    attribute(c, "ce-id", id);
    const struct intake_parts parts = {version, type, source, id, shape->data, body};
    return intake_read_parts(in, &parts);
}

/* Made with the first request; without memory no repeat is known. */
static struct repeats *known_of(struct admin *a)
{
    uint64_t key[2];
    if (!a->repeats && getrandom(key, sizeof key, 0) == (ssize_t)sizeof key)
        a->repeats = repeats_new(key);
    return a->repeats;
}

/* Only now: what was refused comes again and must be taken then. */
static void remember(struct ingest_stats *stats, struct repeats *known, const struct intake *in)
{
    struct span names = buf_span(in->names);
    ingest_repeat(stats, INGEST_PUSH, in->repeated);
    for (size_t at = 0; at < names.len; at += sizeof(uint64_t)) {
        uint64_t name;
        memcpy(&name, names.at + at, sizeof name);
        repeats_add(known, name);
    }
}

static void take_events(struct api_call *c, const struct shape *shape, struct span body,
                        struct buf *records)
{
    struct admin_source *s = &c->admin->source;
    struct reading r = {.stats = s->ingest};
    struct repeats *known = known_of(c->admin);
    const struct http1_field *f = http1_find_name(c->head, SPAN("authorization"));
    struct span authorization = f ? f->value : (struct span){"", 0};
    struct buf names;
    buf_init(&names, INGRESS_PUT_BYTES_MAX);
    struct intake in = {.now_us = c->admin->now_us,
                        .out = records,
                        .is_strict = true,
                        .is_cloud = shape->is_cloud,
                        .form = shape->form,
                        .repeats = known,
                        .sender = auth_bearer(authorization),
                        .names = &names,
                        .on_bad = on_bad,
                        .arg = &r};
    if (!read_events(c, shape, body, &in)) {
        ingest_refuse(s->ingest, INGEST_PUSH, INGEST_REFUSED_TOO_MANY, 1);
        api_fail_status(c, 413, FB_E_RANGE,
                        "more than 1024 events in one request; nothing was taken, send fewer");
    } else if (in.bad > 0 && (shape->form == INTAKE_DOCUMENT || in.events + in.repeated == 0)) {
        fail_bad(c, &r, in.bad);
    } else if (in.events == 0 || api_ingest_put(c, INGEST_PUSH, buf_span(records))) {
        remember(s->ingest, known, &in);
        answer(c, &r, &in);
    }
    buf_fini(&names);
}

RUN(ingest)
{
    struct admin_source *s = &c->admin->source;
    struct shape shape;
    struct buf records, plain;
    struct span body;
    if (!s->ingress) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process takes no events");
        return;
    }
    if (!shape_of(c, &shape)) {
        ingest_refuse(s->ingest, INGEST_PUSH, INGEST_REFUSED_TYPE, 1);
        api_fail_status(c, 415, FB_E_USAGE,
                        "the body must be application/json, application/x-ndjson, "
                        "application/cloudevents+json or application/cloudevents-batch+json");
        return;
    }
    buf_init(&records, INGRESS_PUT_BYTES_MAX);
    buf_init(&plain, CONN_INGEST_MAX_BYTES);
    if (api_charset_ok(c, INGEST_PUSH) && api_unpack(c, INGEST_PUSH, &plain, &body))
        take_events(c, &shape, body, &records);
    buf_fini(&plain);
    buf_fini(&records);
}

static void put_source(struct json *j, const struct ingest_stats *s, enum ingest_via via)
{
    uint64_t refused = 0;
    json_object_begin(j);
    json_key_str(j, "via", ingest_via_name(via));
    json_key_str(j, "state", ingest_state_name(s->state[via]));
    json_key_str(j, "error", s->state[via] == INGEST_FAILING ? s->error : "");
    json_key_u64(j, "events", atomic_load(&s->events[via]));
    json_key_u64(j, "samples", atomic_load(&s->samples[via]));
    json_key(j, "reasons");
    json_object_begin(j);
    for (unsigned i = 0; i < INGEST_REFUSED_COUNT; i++) {
        uint64_t n = atomic_load(&s->refused[via][i]);
        refused += i == INGEST_REFUSED_TAGS ? 0 : n; /* their samples were taken */
        if (n)
            json_key_u64(j, ingest_refused_name(i), n);
    }
    json_object_end(j);
    json_key_u64(j, "refused", refused);
    json_key_u64(j, "put_off", atomic_load(&s->put_off[via]));
    json_key_u64(j, "repeated", atomic_load(&s->repeated[via]));
    json_object_end(j);
}

RUN(ingest_sources)
{
    const struct admin_source *s = &c->admin->source;
    struct ingress_stats queue = {.events = 0};
    if (s->ingress)
        ingress_stats_read(s->ingress, &queue);
    json_object_begin(&c->j);
    json_key(&c->j, "sources");
    json_array_begin(&c->j);
    for (unsigned via = 0; s->ingress && via < INGEST_VIAS; via++)
        put_source(&c->j, s->ingest, via);
    json_array_end(&c->j);
    json_key_u64(&c->j, "queued_bytes", queue.queued_bytes);
    json_key_u64(&c->j, "queue_bytes_max", queue.room_bytes);
    json_object_end(&c->j);
}
