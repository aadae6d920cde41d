/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that steer: each becomes one command (or custom) event in the stream.  The answer says what
 * was sent; whether it is in force already shows the knob itself. */
#include "output/admin_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <xxhash.h>

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

/* "deadbeef" over the layer and its publication: changes with every move of the knob. */
static uint64_t knob_tag(const struct admin *a, uint16_t knob, uint16_t target)
{
    uint32_t version = knob_version(a->source.table, (enum knob_id)knob, target);
    return XXH3_64bits_withSeed(&a->source.book->layer[knob][target], sizeof(struct knob_layer),
                                version);
}

static bool asked_knob(struct api_call *c, uint16_t *knob, uint16_t *target)
{
    *knob = knob_by_name(span_of(c->param[0]));
    if (*knob == EV_NONE) {
        api_fail(c, FB_E_NOT_FOUND, "there is no knob \"%s\"; GET /v1/knobs lists them",
                 c->param[0]);
        return false;
    }
    enum ev_kind kind = knob_row(*knob)->kind;
    *target = api_target(c->admin, kind, c->param[1]);
    if (*target == EV_NONE || !c->admin->source.book->layer[*knob][*target].is_used) {
        api_fail_unknown(
            c, "knob %s has no target \"%s\"; each %s has one: `foldback get %s` lists them",
            c->param[0], c->param[1], ev_kind_name((uint8_t)kind), c->param[0]);
        return false;
    }
    return true;
}

static void answer_knob(struct api_call *c, uint16_t knob, uint16_t target)
{
    snprintf(c->header, sizeof c->header, "ETag: \"%016" PRIx64 "\"\r\n",
             knob_tag(c->admin, knob, target));
    put_knob(&c->j, c->admin, knob, target);
}

RUN(knob)
{
    uint16_t knob, target;
    if (asked_knob(c, &knob, &target))
        answer_knob(c, knob, target);
}

/* Does the target belong to <service> (EV_NONE: any)? */
static bool is_of_service(const struct admin *a, enum ev_kind kind, uint16_t target,
                          uint16_t service)
{
    const struct memfile *m = a->source.memfile;
    if (service == EV_NONE)
        return true;
    if (kind == EV_KIND_SERVICE)
        return target == service;
    return (kind == EV_KIND_ROUTE ? m->routes : m->endpoints)[target].parent == service;
}

/* What left the configuration has nothing to turn; a pin would be in force when it comes back. */
static bool is_shown(const struct admin *a, uint16_t knob, uint16_t target)
{
    const struct knob_layer *l = &a->source.book->layer[knob][target];
    return l->is_used && (l->is_pinned || !admin_has_left(a, knob_row(knob)->kind, target));
}

RUN(knobs)
{
    char name[120];
    uint16_t service = EV_NONE;
    if (api_query(c, "service", name, sizeof name)) {
        service = api_target(c->admin, EV_KIND_SERVICE, name);
        if (service == EV_NONE) {
            api_fail_unknown(c, "there is no service \"%s\"", name);
            return;
        }
    }
    json_object_begin(&c->j);
    json_key(&c->j, "knobs");
    json_array_begin(&c->j);
    for (uint16_t k = 0; k < KNOB_COUNT; k++)
        for (uint16_t t = 0; t < KNOB_TARGETS_MAX; t++)
            if (is_shown(c->admin, k, t) && is_of_service(c->admin, knob_row(k)->kind, t, service))
                put_knob(&c->j, c->admin, k, t);
    json_array_end(&c->j);
    json_object_end(&c->j);
}

/* ---- commands ---- */
struct asked {
    struct jsonin in;
    struct ev_command cmd;
};

static void copy_text(char *to, size_t cap, const char *from)
{
    size_t len = strnlen(from, cap - 1);
    memcpy(to, from, len); /* the record is zeroed */
}

/* Who, why, until when; false after api_fail. */
static bool begin_command(struct api_call *c, struct asked *q, enum ev_verb verb)
{
    if (!api_body(c, &q->in))
        return false;
    q->cmd = EV_INIT(COMMAND, command, c->admin->now_us);
    q->cmd.verb = (uint8_t)verb;
    q->cmd.target = q->cmd.knob = q->cmd.loop = EV_NONE;
    const char *actor = jsonin_text(&q->in, "actor", "admin");
    const char *why = jsonin_text(&q->in, "why", "");
    const struct jsonin_field *expires = jsonin_find(&q->in, "expires_s");
    if (!actor || !why) {
        api_fail(c, FB_E_USAGE, "actor and why must be text");
        return false;
    }
    copy_text(q->cmd.actor, sizeof q->cmd.actor, actor);
    copy_text(q->cmd.why, sizeof q->cmd.why, why);
    if (!expires)
        return true;
    if (expires->kind != JSONIN_NUMBER || !(expires->number >= 1) || expires->number > 31536000) {
        api_fail(c, FB_E_RANGE, "expires_s must be 1 to 31536000 seconds");
        return false;
    }
    q->cmd.expires_us = c->admin->now_us + (uint64_t)(expires->number * 1e6);
    return true;
}

/* loop, knob, service, route, endpoint of the body; absent ones mean all. */
static bool read_scope(struct api_call *c, struct asked *q)
{
    static const struct {
        const char *key;
        enum ev_kind kind;
    } kinds[] = {
        {"service", EV_KIND_SERVICE}, {"route", EV_KIND_ROUTE}, {"endpoint", EV_KIND_ENDPOINT}};
    const char *loop = jsonin_text(&q->in, "loop", ""), *knob = jsonin_text(&q->in, "knob", "");
    if (!loop || !knob) {
        api_fail(c, FB_E_USAGE, "loop and knob must be names");
        return false;
    }
    if (loop[0] && (q->cmd.loop = loop_by_name(span_of(loop))) == EV_NONE) {
        api_fail(c, FB_E_NOT_FOUND, "there is no loop \"%s\"; GET /v1/reference lists them", loop);
        return false;
    }
    if (knob[0] && (q->cmd.knob = knob_by_name(span_of(knob))) == EV_NONE) {
        api_fail(c, FB_E_NOT_FOUND, "there is no knob \"%s\"; GET /v1/knobs lists them", knob);
        return false;
    }
    for (size_t i = 0; i < FB_COUNT(kinds); i++) {
        const char *name = jsonin_text(&q->in, kinds[i].key, "");
        if (name && name[0] == '\0')
            continue;
        uint16_t number = name ? api_target(c->admin, kinds[i].kind, name) : EV_NONE;
        if (q->cmd.target != EV_NONE) {
            api_fail(c, FB_E_USAGE, "%s is a second target; name one", kinds[i].key);
            return false;
        }
        if (number == EV_NONE) {
            api_fail_unknown(c, "there is no %s \"%s\"", kinds[i].key, name ? name : "?");
            return false;
        }
        q->cmd.target = number;
        q->cmd.target_kind = (uint8_t)kinds[i].kind;
    }
    return true;
}

static bool submit(struct api_call *c, const struct ev_head *ev)
{
    struct fb_err err = {0};
    struct admin_source *s = &c->admin->source;
    if (!s->submit) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process takes no commands");
        return false;
    }
    if (s->submit(s->ctx, ev, &err) == FB_OK)
        return true;
    api_fail_err(c, &err);
    return false;
}

static void answer_accepted(struct api_call *c, const struct asked *q)
{
    c->status = 202;
    json_object_begin(&c->j);
    json_key_str(&c->j, "verb", ev_verb_name(q->cmd.verb));
    json_key(&c->j, "target");
    put_target(&c->j, c->admin, q->cmd.target_kind, q->cmd.target);
    json_key_str(&c->j, "loop", q->cmd.loop == EV_NONE ? "all" : loop_row(q->cmd.loop)->name);
    json_key_str(&c->j, "knob", q->cmd.knob == EV_NONE ? "all" : knob_row(q->cmd.knob)->name);
    json_object_end(&c->j);
}

static void run_scoped(struct api_call *c, enum ev_verb verb)
{
    struct asked q;
    if (begin_command(c, &q, verb) && read_scope(c, &q) && submit(c, &q.cmd.head))
        answer_accepted(c, &q);
}

RUN(freeze)
{
    run_scoped(c, EV_VERB_FREEZE);
}
RUN(unfreeze)
{
    run_scoped(c, EV_VERB_UNFREEZE);
}
RUN(reset)
{
    run_scoped(c, EV_VERB_RESET);
}

RUN(mode)
{
    struct asked q;
    if (!begin_command(c, &q, EV_VERB_MODE))
        return;
    const char *name = jsonin_text(&q.in, "mode", "");
    int mode = name ? ev_mode_by_name(span_of(name)) : -1;
    if (mode < 0) {
        api_fail(c, FB_E_RANGE, "mode must be observe, recommend or act");
        return;
    }
    q.cmd.value = mode;
    if (read_scope(c, &q) && submit(c, &q.cmd.head))
        answer_accepted(c, &q);
}

static void run_endpoint(struct api_call *c, enum ev_verb verb)
{
    struct asked q;
    if (!begin_command(c, &q, verb) || !read_scope(c, &q))
        return;
    if (q.cmd.target_kind != EV_KIND_ENDPOINT)
        api_fail(c, FB_E_USAGE, "the body must name an endpoint: {\"endpoint\": \"10.0.0.1:80\"}");
    else if (submit(c, &q.cmd.head))
        answer_accepted(c, &q);
}

RUN(drain)
{
    run_endpoint(c, EV_VERB_DRAIN);
}
RUN(undrain)
{
    run_endpoint(c, EV_VERB_UNDRAIN);
}

/* If-Match: somebody turned it since the caller looked. */
static bool is_unchanged(struct api_call *c, uint16_t knob, uint16_t target)
{
    char tag[24];
    const struct http1_field *match = http1_find_name(c->head, SPAN("if-match"));
    snprintf(tag, sizeof tag, "\"%016" PRIx64 "\"", knob_tag(c->admin, knob, target));
    if (!match || span_eq(match->value, SPAN("*")) || span_eq(match->value, span_of(tag)))
        return true;
    api_fail_status(c, 412, FB_E_CONFLICT, "the knob moved since you read it");
    return false;
}

static void finish_pin(struct api_call *c, struct asked *q, uint16_t knob, uint16_t target)
{
    q->cmd.knob = knob;
    q->cmd.target = target;
    q->cmd.target_kind = (uint8_t)knob_row(knob)->kind;
    if (!submit(c, &q->cmd.head))
        return;
    const struct knob_layer *layer = &c->admin->source.book->layer[knob][target];
    bool is_wanted = q->cmd.verb == EV_VERB_PIN;
    bool is_there =
        (layer->is_pinned != 0) == is_wanted && (!is_wanted || layer->pinned == q->cmd.value);
    c->status = is_there ? 200 : 202; /* 202: in force with the next tick */
    answer_knob(c, knob, target);
}

RUN(pin)
{
    struct asked q;
    uint16_t knob, target;
    if (!asked_knob(c, &knob, &target) || !is_unchanged(c, knob, target) ||
        !begin_command(c, &q, EV_VERB_PIN))
        return;
    const struct knob_row *row = knob_row(knob);
    const struct jsonin_field *value = jsonin_find(&q.in, "value");
    if (!value || value->kind != JSONIN_NUMBER || value->number < row->min ||
        value->number > row->max) {
        api_fail(c, FB_E_RANGE, "value must be a number from %g to %g %s", row->min, row->max,
                 row->unit);
        return;
    }
    q.cmd.value = value->number;
    finish_pin(c, &q, knob, target);
}

RUN(unpin)
{
    struct asked q;
    uint16_t knob, target;
    if (asked_knob(c, &knob, &target) && is_unchanged(c, knob, target) &&
        begin_command(c, &q, EV_VERB_UNPIN))
        finish_pin(c, &q, knob, target);
}

static bool is_event_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > 39)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
              name[i] == '.' || name[i] == '_' || name[i] == '-'))
            return false;
    return true;
}

RUN(custom)
{
    struct jsonin in;
    if (!api_body(c, &in))
        return;
    const char *name = jsonin_text(&in, "name", ""), *text = jsonin_text(&in, "text", "");
    const struct jsonin_field *value = jsonin_find(&in, "value");
    if (!name || !is_event_name(name)) {
        api_fail(c, FB_E_RANGE, "name must be 1 to 39 of a-z 0-9 . _ -");
        return;
    }
    if (ev_name_is_own(name)) {
        api_fail(c, FB_E_RANGE, "names that begin with foldback. are foldback's own");
        return;
    }
    if (!text || strlen(text) >= sizeof(((struct ev_custom *)0)->text) ||
        (value && value->kind != JSONIN_NUMBER)) {
        api_fail(c, FB_E_RANGE, "text must be at most 191 bytes, value a number");
        return;
    }
    struct ev_custom ev = EV_INIT(CUSTOM, custom, c->admin->now_us);
    ev.value = value ? value->number : 0;
    copy_text(ev.name, sizeof ev.name, name);
    copy_text(ev.text, sizeof ev.text, text);
    if (!submit(c, &ev.head))
        return;
    c->status = 202;
    json_object_begin(&c->j);
    json_key_str(&c->j, "verb", "event");
    json_object_end(&c->j);
}
