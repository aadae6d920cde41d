/* SPDX-License-Identifier: Apache-2.0 */
/* OTLP/HTTP: metrics, logs and traces of OpenTelemetry exporters, on the paths that they use.
 *
 * A request is summed up before it becomes events: one per name.  A body that is no such message is
 * refused as a whole; names that find no place are told as partial success. */
#include "output/admin_int.h"

#include "event/intake.h"
#include "event/otlp.h"
#include "event/tally.h"

#include <math.h>
#include <stdio.h>
#include <sys/random.h>

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

#define PLAIN_MAX_BYTES (4 * MIB) /* of a body that came compressed */

struct summing {
    enum otlp_signal signal;
    struct tally *tally;
    struct series *series;
    uint64_t samples, rejected;
    uint64_t reserved; /* of them: under a name of foldback's own */
};

/* What a total grew by, as a sample like any other; false: there is nothing to add. */
static bool grow(struct summing *s, const struct otlp_sample *o, struct tally_sample *t)
{
    bool is_mean = o->kind == OTLP_MEAN;
    struct series_point p = {.id = o->series,
                             .start_ns = o->start_ns,
                             .time_ns = o->time_ns,
                             .value = o->value,
                             .count = is_mean ? o->weight : 0};
    enum series_result r = s->series ? series_grow(s->series, &p) : SERIES_FULL;
    s->rejected += r == SERIES_FULL;
    if (r != SERIES_GREW || (is_mean && p.count <= 0))
        return false;
    t->value = is_mean ? p.value / p.count : p.value;
    t->weight = is_mean ? p.count : 1;
    return true;
}

static void take(void *arg, const struct otlp_sample *o)
{
    static const enum tally_kind kinds[] = {TALLY_TIMER, TALLY_COUNTER, TALLY_TIMER};
    struct summing *s = arg;
    char text[160], name[40];
    bool has_service = s->signal == OTLP_TRACES && o->service.len > 0;
    snprintf(text, sizeof text, "%.*s%s%.*s", has_service ? (int)fb_min_u64(o->service.len, 19) : 0,
             o->service.at, has_service ? "." : "", (int)fb_min_u64(o->name.len, 39), o->name.at);
    struct tally_sample t = {
        .kind = kinds[o->kind], .name = name, .value = o->value, .weight = o->weight};
    s->samples++;
    bool is_named = o->name.len > 0 && intake_name(name, span_of(text));
    bool is_own = is_named && ev_name_is_own(name);
    s->reserved += is_own;
    if (!is_named || is_own || !isfinite(o->value))
        s->rejected++;
    else if ((!o->is_total || grow(s, o, &t)) && !tally_add(s->tally, &t))
        s->rejected++;
}

static void put_varint(struct buf *out, uint64_t n)
{
    for (; n >= 0x80; n >>= 7)
        buf_putc(out, (char)(n | 0x80));
    buf_putc(out, (char)n);
}

/* 1 code (google.rpc.Code), 2 message. */
static void put_status(struct api_call *c, uint64_t code, struct span text)
{
    c->type = "application/x-protobuf";
    buf_putc(c->out, 1 << 3);
    put_varint(c->out, code);
    buf_putc(c->out, 2 << 3 | 2);
    put_varint(c->out, text.len);
    buf_put_span(c->out, text);
}

static void put_status_json(struct api_call *c, uint64_t code, struct span text)
{
    c->type = "application/json";
    json_init(&c->j, c->out);
    json_object_begin(&c->j);
    json_key_u64(&c->j, "code", code);
    json_key(&c->j, "message");
    json_span(&c->j, text);
    json_object_end(&c->j);
}

void api_otlp_status(struct api_call *c)
{
    struct span type = api_media_type(c->head);
    struct jsonin in = {.count = 0};
    struct fb_err err;
    char text[480];
    if (jsonin_parse(&in, buf_span(c->out), &err) != FB_OK)
        return;
    const char *detail = jsonin_text(&in, "detail", "");
    snprintf(text, sizeof text, "%s", detail ? detail : "");
    uint64_t code = c->status == 429   ? 8  /* RESOURCE_EXHAUSTED */
                    : c->status >= 500 ? 14 /* UNAVAILABLE */
                    : c->status == 401 ? 16 /* UNAUTHENTICATED */
                    : c->status == 403 ? 7  /* PERMISSION_DENIED */
                                       : 3 /* INVALID_ARGUMENT */;
    buf_clear(c->out);
    if (span_ieq(type, SPAN("application/x-protobuf")))
        put_status(c, code, span_of(text));
    else
        put_status_json(c, code, span_of(text));
}

/* {"partialSuccess": {"rejectedDataPoints": "3", "errorMessage": "..."}}, or its wire form: field 1
 * with 1 varint and 2 text.  Of a full success the field must not be there. */
static void answer(struct api_call *c, const struct summing *s, bool is_json)
{
    static const char *const keys[] = {"rejectedDataPoints", "rejectedLogRecords", "rejectedSpans"};
    static const char why[] = "no name, no finite value, a name that begins with foldback. (its "
                              "own), more than 512 names in one request, or more than 8192 "
                              "cumulative series";
    uint64_t n = s->rejected;
    if (is_json) {
        char number[24];
        snprintf(number, sizeof number, "%llu", (unsigned long long)n);
        json_object_begin(&c->j);
        if (n) {
            json_key(&c->j, "partialSuccess");
            json_object_begin(&c->j);
            json_key_str(&c->j, keys[s->signal], number);
            json_key_str(&c->j, "errorMessage", why);
            json_object_end(&c->j);
        }
        json_object_end(&c->j);
        return;
    }
    c->type = "application/x-protobuf";
    if (n == 0)
        return;
    struct buf inner;
    buf_init(&inner, KIB);
    buf_putc(&inner, 1 << 3);
    put_varint(&inner, n);
    buf_putc(&inner, 2 << 3 | 2);
    put_varint(&inner, sizeof why - 1);
    buf_puts(&inner, why);
    buf_putc(c->out, 1 << 3 | 2);
    put_varint(c->out, inner.len);
    buf_put_span(c->out, buf_span(&inner));
    buf_fini(&inner);
}

static bool read_message(struct api_call *c, struct summing *s, struct span body, bool is_json)
{
    char why[160] = "not an export request of this signal";
    bool is_good = is_json ? otlp_read_json(s->signal, body, take, s, why)
                           : otlp_read(s->signal, body, take, s);
    if (!is_good) {
        if (s->series)
            series_undo(s->series);
        ingest_refuse(c->admin->source.ingest, INGEST_OTLP, INGEST_REFUSED_SYNTAX, 1);
        api_fail(c, FB_E_FORMAT, "%s; nothing was taken", why);
    }
    return is_good;
}

static void take_all(struct api_call *c, struct summing *s, bool is_json)
{
    struct ingest_stats *stats = c->admin->source.ingest;
    struct buf records;
    buf_init(&records, INGRESS_PUT_BYTES_MAX);
    tally_write(s->tally, &records);
    if (records.len == 0 || api_ingest_put(c, INGEST_OTLP, buf_span(&records))) {
        uint64_t events = records.len / sizeof(struct ev_custom);
        ingest_count(stats, INGEST_OTLP, 0, fb_sub_floor_u64(s->samples, events));
        if (s->rejected > s->reserved)
            ingest_refuse(stats, INGEST_OTLP, INGEST_REFUSED_NAMES_FULL, s->rejected - s->reserved);
        if (s->reserved)
            ingest_refuse(stats, INGEST_OTLP, INGEST_REFUSED_RESERVED, s->reserved);
        answer(c, s, is_json);
    } else if (s->series) {
        series_undo(s->series); /* it comes again */
    }
    buf_fini(&records);
}

/* Made with the first metrics that come; without memory totals are rejected. */
static struct series *series_of(struct admin *a, const uint64_t key[2])
{
    if (!a->series)
        a->series = series_new(key, a->born_wall_us * 1000);
    if (a->series)
        series_begin(a->series, a->now_us / US_PER_S);
    return a->series;
}

static void take_body(struct api_call *c, enum otlp_signal signal, bool is_json)
{
    struct summing s = {.signal = signal};
    struct span body;
    struct buf plain;
    buf_init(&plain, PLAIN_MAX_BYTES);
    uint64_t key[2];
    if (getrandom(key, sizeof key, 0) == (ssize_t)sizeof key)
        s.tally = tally_new(key);
    s.series = signal == OTLP_METRICS && s.tally ? series_of(c->admin, key) : NULL;
    if (!s.tally)
        api_fail(c, FB_E_NOMEM, "no memory to sum it up");
    else if (api_unpack(c, INGEST_OTLP, &plain, &body) && read_message(c, &s, body, is_json))
        take_all(c, &s, is_json);
    tally_free(s.tally);
    buf_fini(&plain);
}

static void run_signal(struct api_call *c, enum otlp_signal signal)
{
    struct span type = api_media_type(c->head);
    bool is_json = span_ieq(type, SPAN("application/json"));
    if (!c->admin->source.ingress) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process takes no events");
    } else if (!is_json && !span_ieq(type, SPAN("application/x-protobuf"))) {
        ingest_refuse(c->admin->source.ingest, INGEST_OTLP, INGEST_REFUSED_TYPE, 1);
        api_fail_status(c, 415, FB_E_USAGE,
                        "the body must be application/x-protobuf or application/json");
    } else if (!is_json || api_charset_ok(c, INGEST_OTLP)) {
        take_body(c, signal, is_json);
    }
}

RUN(otlp_metrics)
{
    run_signal(c, OTLP_METRICS);
}
RUN(otlp_logs)
{
    run_signal(c, OTLP_LOGS);
}
RUN(otlp_traces)
{
    run_signal(c, OTLP_TRACES);
}
