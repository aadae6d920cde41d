/* SPDX-License-Identifier: Apache-2.0 */
/* Live streams: facts and decisions (live), requests (tap), history of the log (events).
 *
 * Messages go into the connection's <out>; what does not fit behind a slow reader is dropped and
 * counted, and the reader is told once it has room again.  The history stream is different: it
 * reads on only when everything was sent, so nothing is lost. */
#include "output/admin_int.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void api_run_live(struct api_call *c);
void api_run_tap(struct api_call *c);
void api_run_events(struct api_call *c);

static void send_message(struct conn *c, const char *name, const struct buf *data, uint64_t id);
static void send_facts(struct admin *a);
static void send_decision(struct admin *a, uint64_t decision_id, const char *name);
static void tap_new(struct conn *c);
static void put_lost(struct conn *c);

struct stream *stream_open(struct api_call *c, enum stream_kind kind)
{
    if (c->admin->stream_count >= STREAMS_MAX) {
        api_fail(c, FB_E_NOMEM, "%d live streams are open; close one", STREAMS_MAX);
        return NULL;
    }
    if (c->head->method == HTTP1_HEAD) {
        api_fail_status(c, 405, FB_E_USAGE, "a stream has no HEAD");
        return NULL;
    }
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        api_fail(c, FB_E_NOMEM, "no memory for a stream");
        return NULL;
    }
    char text[FILTER_TEXT_MAX_BYTES] = "";
    struct fb_err err = {0};
    s->kind = kind;
    (void)api_query(c, "filter", text, sizeof text);
    s->is_redacted = true;
    if (!api_query_bool(c, "redact", &s->is_redacted)) {
        free(s);
        return NULL;
    }
    if (filter_parse(&s->filter, span_of(text), &err) != FB_OK) {
        api_fail_err(c, &err);
        free(s);
        return NULL;
    }
    return s;
}

static void stream_begin(struct api_call *c, struct stream *s)
{
    c->stream = s;
    c->admin->stream_count++;
    c->type = s->kind == STREAM_EVENTS ? "application/jsonl" : "text/event-stream";
}

/* ---- calls ---- */
void api_run_live(struct api_call *c)
{
    uint64_t interval_ms = 1000, range[2] = {250, 5000};
    if (!api_query_u64(c, "interval_ms", range, &interval_ms))
        return;
    struct stream *s = stream_open(c, STREAM_LIVE);
    if (!s)
        return;
    s->interval_ms = (uint32_t)interval_ms;
    s->next_us = c->admin->now_us; /* the first summary with the next tick */
    stream_begin(c, s);
}

void api_run_tap(struct api_call *c)
{
    uint64_t rate = 50, range[2] = {1, 1000};
    if (!api_query_u64(c, "rate", range, &rate))
        return;
    struct stream *s = stream_open(c, STREAM_TAP);
    if (!s)
        return;
    s->rate_max = (uint32_t)rate;
    s->from = c->admin->recent->request_count;
    stream_begin(c, s);
}

void api_run_events(struct api_call *c)
{
    uint64_t limit = 100, from = UINT64_MAX, limits[2] = {1, 1000000}, any[2] = {0, UINT64_MAX};
    char type[32];
    uint8_t wanted = 0;
    bool is_following = false;
    if (!c->admin->source.read_events) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process keeps no log");
        return;
    }
    if (!api_query_u64(c, "limit", limits, &limit) || !api_query_u64(c, "from", any, &from))
        return;
    if (api_query(c, "type", type, sizeof type) && (wanted = ev_type_by_name(span_of(type))) == 0) {
        api_fail(c, FB_E_NOT_FOUND, "there is no event type \"%s\"; GET /v1/reference lists them",
                 type);
        return;
    }
    struct stream *s =
        api_query_bool(c, "follow", &is_following) ? stream_open(c, STREAM_EVENTS) : NULL;
    if (!s)
        return;
    s->type = wanted;
    s->left = limit;
    s->is_following = is_following;
    if (s->is_following)
        s->left = UINT64_MAX;
    struct admin_stream now = {0};
    if (c->admin->source.stream)
        c->admin->source.stream(c->admin->source.ctx, &now);
    /* A choice among events is made among the last 100,000: half a second of reading. */
    uint64_t back = wanted || !s->filter.is_all ? 100000 : limit;
    s->from = from != UINT64_MAX ? from : fb_sub_floor_u64(now.durable_offset, back);
    stream_begin(c, s);
}

/* ---- events ---- */
void stream_on_event(struct admin *a, const struct ev_head *ev, uint64_t offset)
{
    (void)offset;
    switch (ev->type) {
    case EV_DECISION:
        send_decision(a, ((const struct ev_decision *)ev)->decision_id, "decision");
        break;
    case EV_OUTCOME:
        send_decision(a, ((const struct ev_outcome *)ev)->decision_id, "outcome");
        break;
    case EV_ALERT:
        /* The list of what stands comes with each summary; here only that it changed. */
        buf_clear(&a->scratch2);
        buf_puts(&a->scratch2, "{}");
        for (size_t i = 0; i < ADMIN_CONNS_MAX; i++)
            if (a->conn[i] && a->conn[i]->stream && a->conn[i]->stream->kind == STREAM_LIVE)
                send_message(a->conn[i], "alert", &a->scratch2, 0);
        break;
    default:
        break;
    }
}

static void send_decision(struct admin *a, uint64_t decision_id, const char *name)
{
    const struct timeline_entry *e = timeline_find(&a->timeline, decision_id);
    if (!e)
        return;
    struct json j;
    buf_clear(&a->scratch2);
    json_init(&j, &a->scratch2);
    put_decision(&j, a, e, true);
    for (size_t i = 0; i < ADMIN_CONNS_MAX; i++) {
        struct conn *c = a->conn[i];
        if (c && c->stream && c->stream->kind == STREAM_LIVE)
            send_message(c, name, &a->scratch2, decision_id);
    }
}

static void tap_one(struct conn *c, const struct ev_request *r)
{
    struct admin *a = c->admin;
    struct stream *s = c->stream;
    const struct ev_sample *sample = recent_sample(a->recent, r->request_id);
    struct filter_names names = admin_names(a);
    if (!filter_matches(&s->filter, &r->head, sample ? &sample->head : NULL, &names))
        return;
    if (a->now_us - s->rate_us >= US_PER_S) {
        s->rate_us = a->now_us;
        s->sent_now = 0;
        if (s->skipped > 0)
            put_lost(c);
    }
    if (s->sent_now >= s->rate_max) {
        s->skipped++;
        return;
    }
    s->sent_now++;
    struct json j;
    buf_clear(&a->scratch2);
    json_init(&j, &a->scratch2);
    put_request(&j, a, r, sample, s->is_redacted);
    send_message(c, "request", &a->scratch2, 0);
}

/* Requests up to the edge, which is one tick old: the sample of a request follows it in the stream,
 * and both are to be one message.  More than the ring holds is over the rate anyway. */
static void tap_new(struct conn *c)
{
    struct stream *s = c->stream;
    const struct recent *recent = c->admin->recent;
    uint64_t kept = fb_sub_floor_u64(recent->request_count, RECENT_REQUESTS_MAX);
    if (s->from < kept) {
        s->skipped += kept - s->from;
        s->from = kept;
    }
    for (; s->from < c->admin->tap_edge; s->from++)
        tap_one(c, &recent->request[s->from % RECENT_REQUESTS_MAX]);
}

/* ---- writing ---- */
static void put_lost(struct conn *c)
{
    struct stream *s = c->stream;
    buf_printf(&c->out, "event: lost\ndata: {\"lost\":%" PRIu64 ",\"over_rate\":%" PRIu64 "}\n\n",
               s->lost, s->skipped);
    s->lost = s->skipped = 0;
}

static void send_message(struct conn *c, const char *name, const struct buf *data, uint64_t id)
{
    struct stream *s = c->stream;
    if (data->failed || c->out.len - c->out_sent + data->len > CONN_STREAM_MAX_BYTES) {
        s->lost++;
        c->admin->metrics->dropped++;
        return;
    }
    if (s->lost > 0)
        put_lost(c);
    if (id)
        buf_printf(&c->out, "id: %" PRIu64 "\n", id);
    buf_printf(&c->out, "event: %s\ndata: ", name);
    buf_put_span(&c->out, buf_span(data)); /* JSON of ours holds no line end */
    buf_puts(&c->out, "\n\n");
}

static void put_alerts(struct json *j, const struct admin *a)
{
    const struct timeline_alert *x;
    json_key(j, "alerts");
    json_array_begin(j);
    for (uint64_t i = 0; (x = timeline_alert_at(&a->timeline, i)) != NULL; i++)
        if (x->over_us == 0)
            put_alert(j, a, x);
    json_array_end(j);
}

/* One summary, made once per tick and sent to all whose interval is over. */
static void send_facts(struct admin *a)
{
    bool is_made = false;
    for (size_t i = 0; i < ADMIN_CONNS_MAX; i++) {
        struct conn *c = a->conn[i];
        if (!c || !c->stream || c->stream->kind != STREAM_LIVE || a->now_us < c->stream->next_us)
            continue;
        /* Ticks are 100 ms apart: aim from now, not from the plan, so that a pause is not made up.
         */
        c->stream->next_us = a->now_us + c->stream->interval_ms * US_PER_MS - 50 * US_PER_MS;
        if (!is_made) {
            struct json j;
            uint64_t wall_us = timeline_wall_us(&a->timeline, a->now_us);
            buf_clear(&a->scratch2);
            json_init(&j, &a->scratch2);
            json_object_begin(&j);
            json_key_u64(&j, "time_ms", wall_us / 1000);
            json_key_bool(&j, "is_ready", admin_is_ready(a));
            json_key(&j, "all");
            put_totals(&j, a, FACT_1S);
            json_key(&j, "services");
            put_services(&j, a, FACT_1S);
            json_key(&j, "routes");
            put_routes(&j, a, FACT_1S);
            json_key(&j, "endpoints");
            put_endpoints(&j, a, FACT_1S);
            put_alerts(&j, a);
            json_key_u64(&j, "decisions", a->timeline.count);
            json_key(&j, "stream");
            put_stream(&j, a);
            json_key(&j, "cost");
            put_cost(&j, a);
            json_key(&j, "signals");
            put_signals(&j, a, false);
            json_object_end(&j);
            is_made = true;
        }
        send_message(c, "facts", &a->scratch2, 0);
    }
}

void stream_tick(struct admin *a)
{
    uint64_t edge = a->recent->request_count;
    if (a->stream_count == 0) {
        a->tap_edge = edge;
        return;
    }
    send_facts(a);
    for (size_t i = 0; i < ADMIN_CONNS_MAX; i++) {
        struct conn *c = a->conn[i];
        if (!c || c->phase != CONN_STREAM)
            continue;
        if (c->stream->kind == STREAM_TAP)
            tap_new(c);
        if (c->stream->kind == STREAM_TAP && c->stream->skipped > 0 && c->out.len < 4096 &&
            a->now_us - c->stream->rate_us >= US_PER_S)
            put_lost(c);
        /* A comment line keeps middle boxes and half-open peers honest. */
        if (c->stream->kind != STREAM_EVENTS && c->out.len == 0 &&
            a->now_us - c->last_us > 15 * US_PER_S)
            buf_puts(&c->out, ": alive\n\n");
        if (c->out.len > 0)
            conn_flush(c);
        else if (c->stream->kind == STREAM_EVENTS)
            stream_pump(c);
    }
    a->tap_edge = edge;
}

/* ---- history ---- */
struct pump {
    struct conn *c;
    struct filter_names names;
};

static bool pump_event(void *ctx, const struct ev_head *ev, uint64_t offset)
{
    struct pump *p = ctx;
    struct stream *s = p->c->stream;
    struct json j;
    s->from = offset + 1;
    if ((s->type && ev->type != s->type) || !filter_matches(&s->filter, ev, NULL, &p->names))
        return true;
    json_init(&j, &p->c->out);
    ev_to_json(&j, ev, offset, s->is_redacted);
    buf_putc(&p->c->out, '\n');
    s->left--;
    return s->left > 0 && p->c->out.len < CONN_STREAM_MAX_BYTES / 2;
}

/* About 512 events per call; goes on when they were sent, at the latest with the next tick, so that
 * a long read never holds the loop for more than a millisecond or two. */
void stream_pump(struct conn *c)
{
    struct stream *s = c->stream;
    struct admin *a = c->admin;
    fb_assert(s != NULL);
    if (s->kind != STREAM_EVENTS || s->is_over || c->out.len > 0)
        return;
    struct pump p = {c, admin_names(a)};
    struct admin_read read = {
        .from = s->from, .next = s->from, .max = 512, .visit = pump_event, .visit_ctx = &p};
    enum fb_code code = a->source.read_events(a->source.ctx, &read);
    if (s->left > 0 && read.next > s->from)
        s->from = read.next;
    bool is_end = code == FB_E_END && !s->is_following;
    s->is_over =
        s->left == 0 || is_end || (code != FB_OK && code != FB_E_END && code != FB_E_NOT_FOUND);
    s->is_waiting = code == FB_E_END;
    if (c->out.len > 0 || s->is_over)
        conn_flush(c);
    else
        conn_want(c, !s->is_waiting);
}
