/* SPDX-License-Identifier: Apache-2.0 */
/* Connectors: how they are, and pause, resume, reset. */
#include "output/admin_int.h"

#include <math.h>
#include <stdio.h>

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

static void put_connector(struct json *j, const struct admin_connector *s)
{
    json_object_begin(j);
    json_key_str(j, "name", s->name);
    json_key_str(j, "type", s->type);
    json_key_str(j, "direction", s->is_source ? "source" : "sink");
    json_key_str(j, "state", s->state);
    if (!s->is_source)
        json_key_u64(j, "offset", s->offset);
    json_key_f64(j, "lag_events", s->lag_events == UINT64_MAX ? NAN : (double)s->lag_events);
    json_key_f64(j, "lag_s", (double)s->lag_us / 1e6);
    json_key_u64(j, "events", s->events);
    json_key_u64(j, "records", s->records);
    json_key_u64(j, "bytes", s->bytes);
    json_key_u64(j, "in_flight", s->in_flight);
    json_key_u64(j, "errors", s->errors);
    json_key_u64(j, "retries", s->retries);
    json_key_u64(j, "split", s->split);
    json_key_u64(j, "dead", s->dead);
    json_key_bool(j, "has_letters", s->has_letters);
    json_key_u64(j, "bad", s->bad);
    json_key_u64(j, "lost", s->lost);
    json_key_u64(j, "repeated", s->repeated);
    json_key_str(j, "last_error", s->last_error);
    if (s->last_error_wall_us)
        put_time(j, "last_error_at", s->last_error_wall_us);
    if (s->resend.number) {
        json_key(j, "letters_send");
        json_object_begin(j);
        json_key_u64(j, "number", s->resend.number);
        json_key_str(j, "state", s->resend.state);
        json_key_u64(j, "sent", s->resend.sent);
        json_key_u64(j, "kept", s->resend.kept);
        json_key_str(j, "text", s->resend.text);
        json_object_end(j);
    }
    json_object_end(j);
}

RUN(connectors)
{
    static struct admin_connector at[ADMIN_CONNECTORS_MAX];
    const struct admin_source *s = &c->admin->source;
    uint32_t n = s->connectors ? s->connectors(s->ctx, at, ADMIN_CONNECTORS_MAX) : 0;
    json_object_begin(&c->j);
    json_key(&c->j, "connectors");
    json_array_begin(&c->j);
    for (uint32_t i = 0; i < n; i++)
        put_connector(&c->j, &at[i]);
    json_array_end(&c->j);
    json_object_end(&c->j);
}

/* In the log: who did it, and why. */
static void note_order(struct api_call *c, const struct jsonin *in, const char *name,
                       const char *what)
{
    struct admin_source *s = &c->admin->source;
    const char *actor = jsonin_text(in, "actor", "admin"), *why = jsonin_text(in, "why", "");
    struct ev_custom ev = EV_INIT(CUSTOM, custom, c->admin->now_us);
    struct fb_err err;
    char text[sizeof ev.text + 1];
    snprintf(ev.name, sizeof ev.name, "foldback.%s", name);
    int n = snprintf(text, sizeof text, "%s%s by %s%s%s", c->param[0], what,
                     actor ? actor : "admin", why && why[0] ? ": " : "", why ? why : "");
    memcpy(ev.text, text, fb_min_u64(n > 0 ? (uint64_t)n : 0, sizeof ev.text));
    if (s->submit)
        (void)!(s->submit(s->ctx, &ev.head, &err) == FB_OK);
}

static void give_order(struct api_call *c, uint8_t verb, const char *word)
{
    struct jsonin in;
    struct fb_err err = {0};
    struct admin_source *s = &c->admin->source;
    struct admin_connector_order order = {.verb = verb, .name = c->param[0]};
    if (!api_body(c, &in))
        return;
    const char *to = jsonin_text(&in, "to", "start");
    const struct jsonin_field *offset = jsonin_find(&in, "offset");
    order.has_place = offset || jsonin_find(&in, "to");
    if (offset && offset->kind == JSONIN_NUMBER && offset->number >= 0 && offset->number < 9e15) {
        order.offset = (uint64_t)offset->number;
    } else if (to && strcmp(to, "end") == 0) {
        order.offset = UINT64_MAX;
    } else if (offset || !to || strcmp(to, "start") != 0) {
        api_fail(c, FB_E_RANGE, "say to: start, to: end, or offset: a number");
        return;
    }
    if (!s->connector_order) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process has no connectors");
        return;
    }
    if (s->connector_order(s->ctx, &order, &err) != FB_OK) {
        api_fail_err(c, &err);
        return;
    }
    char name[40];
    snprintf(name, sizeof name, "connector.%s", word);
    note_order(c, &in, name, "");
    c->status = 202;
    json_object_begin(&c->j);
    json_key_str(&c->j, "verb", word);
    json_object_end(&c->j);
}

RUN(connector_pause)
{
    give_order(c, ADMIN_CONNECTOR_PAUSE, "pause");
}

RUN(connector_resume)
{
    give_order(c, ADMIN_CONNECTOR_RESUME, "resume");
}

RUN(connector_reset)
{
    give_order(c, ADMIN_CONNECTOR_RESET, "reset");
}

/* The answer comes before the letters have gone: the number tells them apart in /v1/connectors. */
RUN(letters_send)
{
    struct jsonin in;
    struct fb_err err = {0};
    struct admin_source *s = &c->admin->source;
    uint32_t number = 0;
    if (!api_body(c, &in))
        return;
    const char *id = jsonin_text(&in, "id", "");
    const struct jsonin_field *all = jsonin_find(&in, "all");
    bool is_all = all && all->kind == JSONIN_BOOL && all->number != 0;
    if (!id || strlen(id) > 16 || (id[0] != '\0') == is_all) {
        api_fail(c, FB_E_RANGE, "say id: the one that `foldback letters show` tells, or all: true");
        return;
    }
    if (!s->letters_send) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process has no connectors");
        return;
    }
    if (s->letters_send(s->ctx, c->param[0], id, &number, &err) != FB_OK) {
        api_fail_err(c, &err);
        return;
    }
    char what[40];
    snprintf(what, sizeof what, " %s", is_all ? "all" : id);
    note_order(c, &in, "letters.send", what);
    c->status = 202;
    json_object_begin(&c->j);
    json_key_u64(&c->j, "number", number);
    json_object_end(&c->j);
}
