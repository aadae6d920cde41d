/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints of one service: which it has and where they come from; adding, changing and removing of
 * those that the API brings. */
#include "knob/sources.h"
#include "output/admin_int.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

static const char *const verbs[] = {
    [ADMIN_ENDPOINT_ADD] = "add",
    [ADMIN_ENDPOINT_CHANGE] = "change",
    [ADMIN_ENDPOINT_REMOVE] = "remove",
};

const struct admin_endpoint *api_own_endpoint(const struct admin *a, uint16_t number)
{
    char name[sizeof(struct memfile_name)];
    const char *of = admin_name(a, EV_KIND_ENDPOINT, number);
    const struct admin_endpoint *e;
    for (uint32_t i = 0; a->source.endpoint_at && (e = a->source.endpoint_at(a->source.ctx, i));
         i++) {
        memfile_endpoint_name(e->service, e->address, name);
        if (strcmp(name, of) == 0)
            return e;
    }
    return NULL;
}

void api_put_own_endpoints(struct api_call *c)
{
    const struct admin_source *s = &c->admin->source;
    const struct admin_endpoint *e;
    json_key(&c->j, "api_endpoints");
    json_array_begin(&c->j);
    for (uint32_t i = 0; s->endpoint_at && (e = s->endpoint_at(s->ctx, i)) != NULL; i++) {
        json_object_begin(&c->j);
        json_key_str(&c->j, "service", e->service);
        json_key_str(&c->j, "address", e->address);
        json_key_f64(&c->j, "weight_pct", e->weight_pct);
        json_object_end(&c->j);
    }
    json_array_end(&c->j);
}

/* Those that are in the service now. */
static bool is_member(const struct admin *a, uint16_t number, uint16_t service)
{
    const struct memfile_name *row = &a->source.memfile->endpoints[number];
    return admin_name(a, EV_KIND_ENDPOINT, number)[0] && row->parent == service &&
           !admin_has_left(a, EV_KIND_ENDPOINT, number);
}

static uint32_t count_members(const struct admin *a, const char *service)
{
    uint16_t number = api_target(a, EV_KIND_SERVICE, service);
    uint32_t count = 0;
    for (uint16_t i = 0; number != EV_NONE && i < KNOB_TARGETS_MAX; i++)
        count += is_member(a, i, number);
    return count;
}

/* ---- GET ---- */

static void put_member(struct json *j, const struct admin *a, uint16_t i)
{
    const struct ev_gauge *g = &a->metrics->endpoint[i].gauge;
    const struct admin_endpoint *own = api_own_endpoint(a, i);
    const struct admin_source *s = &a->source;
    const struct memfile_gauge *now = &s->memfile->gauges[i];
    const char *address = strchr(admin_name(a, EV_KIND_ENDPOINT, i), ' ');
    uint32_t place = atomic_load_explicit(&now->place, memory_order_relaxed);
    uint32_t weight = atomic_load_explicit(&now->weight_permille, memory_order_relaxed);
    int32_t in_flight = memfile_in_flight(now);
    struct source name;
    char from[SOURCE_TEXT_BYTES] = "";
    uint32_t origin = atomic_load_explicit(&s->memfile->endpoints[i].origin, memory_order_relaxed);
    if (!own && api_source_of(a, i, &name))
        sources_text(&name, from);
    json_object_begin(j);
    json_key_str(j, "address", address ? address + 1 : "");
    json_key_str(j, "source", own || origin == MEMFILE_ORIGIN_API ? "api" : "configuration");
    json_key_str(j, "name", from);
    json_key_f64(j, "weight_pct", own ? own->weight_pct : place ? weight / 10.0 : NAN);
    json_key_str(j, "health", g->head.type ? ev_health_name(g->health) : "unknown");
    json_key_bool(j, "is_drained", s->is_drained && s->is_drained(s->ctx, i));
    json_key_u64(j, "in_flight", in_flight > 0 ? (uint64_t)in_flight : 0);
    json_key_bool(j, "is_in_force", true);
    json_object_end(j);
}

/* One that the gateway has not taken (yet). */
static void put_waiting(struct json *j, const struct admin_endpoint *e)
{
    json_object_begin(j);
    json_key_str(j, "address", e->address);
    json_key_str(j, "source", "api");
    json_key_str(j, "name", "");
    json_key_f64(j, "weight_pct", e->weight_pct);
    json_key_str(j, "health", "unknown");
    json_key_bool(j, "is_drained", false);
    json_key_u64(j, "in_flight", 0);
    json_key_bool(j, "is_in_force", false);
    json_object_end(j);
}

RUN(service_endpoints)
{
    const struct admin *a = c->admin;
    const struct admin_endpoint *e;
    char name[sizeof(struct memfile_name)];
    uint16_t service = api_target(a, EV_KIND_SERVICE, c->param[0]);
    if (service == EV_NONE) {
        api_fail_unknown(c, "there is no service \"%s\"", c->param[0]);
        return;
    }
    json_object_begin(&c->j);
    json_key_str(&c->j, "service", admin_name(a, EV_KIND_SERVICE, service));
    json_key(&c->j, "endpoints");
    json_array_begin(&c->j);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (is_member(a, i, service))
            put_member(&c->j, a, i);
    for (uint32_t i = 0; a->source.endpoint_at && (e = a->source.endpoint_at(a->source.ctx, i));
         i++) {
        if (e->is_name)
            continue;
        memfile_endpoint_name(e->service, e->address, name);
        uint16_t number = api_target(a, EV_KIND_ENDPOINT, name);
        if (strcmp(e->service, admin_name(a, EV_KIND_SERVICE, service)) == 0 &&
            (number == EV_NONE || !is_member(a, number, service)))
            put_waiting(&c->j, e);
    }
    json_array_end(&c->j);
    api_put_names(c, service);
    json_object_end(&c->j);
}

/* ---- POST, DELETE ---- */

/* In the log as an event of its own: who did what, and why. */
static void note_order(struct api_call *c, const struct admin_endpoint_order *o)
{
    struct admin_source *s = &c->admin->source;
    struct jsonin in;
    if (!s->submit || !api_body(c, &in))
        return;
    const char *actor = jsonin_text(&in, "actor", "admin"), *why = jsonin_text(&in, "why", "");
    struct ev_custom ev = EV_INIT(CUSTOM, custom, c->admin->now_us);
    struct fb_err err;
    char text[sizeof ev.text + 1], weight[32] = "";
    snprintf(ev.name, sizeof ev.name, "foldback.endpoint.%s", verbs[o->verb]);
    if (o->verb != ADMIN_ENDPOINT_REMOVE)
        snprintf(weight, sizeof weight, " weight %.6g %%", o->of.weight_pct);
    int n = snprintf(text, sizeof text, "%s %s%s by %s%s%s", o->of.service, o->of.address, weight,
                     actor, why[0] ? ": " : "", why);
    ev.value = isnan(o->of.weight_pct) ? 0 : o->of.weight_pct;
    memcpy(ev.text, text, fb_min_u64(n > 0 ? (uint64_t)n : 0, sizeof ev.text));
    (void)!(s->submit(s->ctx, &ev.head, &err) == FB_OK);
}

static bool is_listed(const struct admin *a, const struct admin_endpoint *of)
{
    const struct admin_endpoint *e;
    for (uint32_t i = 0; a->source.endpoint_at && (e = a->source.endpoint_at(a->source.ctx, i));
         i++)
        if (strcmp(e->service, of->service) == 0 && strcmp(e->address, of->address) == 0)
            return true;
    return false;
}

/* How a name is that was just added. */
static void name_hint(const struct admin *a, const struct admin_endpoint *e, char text[400])
{
    struct source s;
    if (!api_find_name(a, e->service, e->address, &s)) {
        if (is_listed(a, e) && sources_lack(a->source.memfile)) {
            char too_many[API_TOO_MANY_BYTES];
            api_too_many_names(a, too_many);
            snprintf(text, 400, "It is written down; how it is is not known: %s.", too_many);
            return;
        }
        snprintf(text, 400,
                 is_listed(a, e) ? "It is written down, but the gateway does not follow it yet; "
                                   "`foldback endpoint list %s` shows when it does."
                                 : "It was removed again meanwhile: `foldback endpoint list %s`.",
                 e->service);
        return;
    }
    text[0] = '\0';
    if (s.state == SOURCE_ASKED)
        snprintf(text, 400,
                 "It is still being looked up, and takes requests as soon as it has an address: "
                 "`foldback endpoint list %s`.",
                 e->service);
    else if (s.state == SOURCE_NONE)
        snprintf(text, 400,
                 "It has no address yet%s%s; it is asked again every few seconds, and takes "
                 "requests as soon as it has one: `foldback endpoint list %s`.",
                 s.why[0] ? ": " : "", s.why, e->service);
    else if (s.state == SOURCE_KEPT)
        snprintf(text, 400, "A look-up of it failed: %s; `foldback endpoint list %s`.", s.why,
                 e->service);
}

static void put_hint(struct api_call *c, const struct admin_endpoint_order *o, bool is_in_force)
{
    const struct admin *a = c->admin;
    char name[sizeof(struct memfile_name)], text[400];
    memfile_endpoint_name(o->of.service, o->of.address, name);
    uint16_t number = api_target(a, EV_KIND_ENDPOINT, name);
    const struct knob_layer *pin =
        number == EV_NONE ? NULL : &a->source.book->layer[KNOB_WEIGHT_PCT][number];
    int32_t in_flight =
        number == EV_NONE ? 0 : memfile_in_flight(&a->source.memfile->gauges[number]);
    text[0] = '\0';
    if (o->of.is_name && o->verb != ADMIN_ENDPOINT_REMOVE)
        name_hint(a, &o->of, text);
    else if (!is_in_force)
        snprintf(text, sizeof text,
                 "It is written down, but the gateway has not answered within 4 s; `foldback "
                 "endpoint list %s` shows whether it is in force.",
                 o->of.service);
    else if (o->verb == ADMIN_ENDPOINT_REMOVE && count_members(a, o->of.service) == 0)
        snprintf(text, sizeof text,
                 "%s has no endpoint now: its requests get 503 until one is added.", o->of.service);
    else if (o->verb == ADMIN_ENDPOINT_REMOVE && in_flight > 0)
        snprintf(text, sizeof text, "%d requests in flight there end by themselves.", in_flight);
    else if (o->verb != ADMIN_ENDPOINT_REMOVE && pin && pin->is_used && pin->is_pinned)
        snprintf(text, sizeof text,
                 "Its weight is pinned at %.6g %%, which holds; `foldback unpin weight_pct '%s'` "
                 "lets go of it.",
                 pin->pinned, name);
    if (text[0])
        json_key_str(&c->j, "warning", text);
}

/* The gateway has no room for it: what was asked for is taken back. */
static void refuse_full(struct api_call *c)
{
    struct admin_endpoint_order back = c->conn->order;
    if (back.of.is_name)
        api_fail(c, FB_E_CONFLICT,
                 "the gateway cannot look up %s: `foldback doctor` and its log say why",
                 back.of.address);
    else
        api_fail(c, FB_E_CONFLICT,
                 "%s takes no more endpoints: the most is 256, counting those that still end their "
                 "last requests; remove one (`foldback endpoint remove`), or use another service",
                 back.of.service);
    back.verb = ADMIN_ENDPOINT_REMOVE; /* the order stands in the log, and so does its end */
    note_order(c, &back);
}

static void on_told(struct api_call *c, const uint32_t *told)
{
    const struct admin_endpoint_order *o = &c->conn->order;
    bool is_removal = o->verb == ADMIN_ENDPOINT_REMOVE;
    bool is_known = told != NULL, is_in = told && *told;
    struct source name;
    if (told && !is_in && o->verb == ADMIN_ENDPOINT_ADD) {
        refuse_full(c);
        return;
    }
    /* The gateway tells of a name when it was answered, which may take longer. */
    if (!told && o->of.is_name && !is_removal)
        is_known = is_in = api_find_name(c->admin, o->of.service, o->of.address, &name);
    c->status = is_known ? (o->verb == ADMIN_ENDPOINT_ADD ? 201 : 200) : 202;
    json_object_begin(&c->j);
    json_key_str(&c->j, "verb", verbs[o->verb]);
    json_key_str(&c->j, "service", o->of.service);
    json_key_str(&c->j, "address", o->of.address);
    if (!is_removal)
        json_key_f64(&c->j, "weight_pct", o->of.weight_pct);
    json_key_bool(&c->j, "is_in_force", is_known && is_in != is_removal);
    put_hint(c, o, is_known);
    json_object_end(&c->j);
}

/* It stands in quotes in the list that the gateway reads. */
static bool is_word(const char *s)
{
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '-' && *s != '_')
            return false;
    return true;
}

static bool copy_name(char *to, size_t cap, const char *from)
{
    size_t len = from ? strlen(from) : cap;
    if (len >= cap)
        return false;
    memcpy(to, from, len + 1);
    return true;
}

static bool read_order(struct api_call *c, struct admin_endpoint_order *o)
{
    struct jsonin in;
    if (!api_body(c, &in))
        return false;
    const struct jsonin_field *weight = jsonin_find(&in, "weight_pct");
    const char *actor = jsonin_text(&in, "actor", ""), *why = jsonin_text(&in, "why", "");
    const char *address =
        o->verb == ADMIN_ENDPOINT_REMOVE ? c->param[1] : jsonin_text(&in, "address", "");
    if (!address || !address[0]) {
        api_fail(c, FB_E_USAGE, "the body must name an address: {\"address\": \"10.0.0.5:80\"}");
        return false;
    }
    if (!actor || !why) {
        api_fail(c, FB_E_USAGE, "actor and why must be text");
        return false;
    }
    if (!copy_name(o->of.service, sizeof o->of.service, c->param[0])) {
        api_fail(c, FB_E_NOT_FOUND, "there is no service \"%.80s\"", c->param[0]);
        return false;
    }
    if (!copy_name(o->of.address, sizeof o->of.address, address)) {
        api_fail(c, FB_E_RANGE,
                 "\"%.80s\" is no endpoint: write IP:PORT, such as 10.0.0.5:8080 or [::1]:8080, "
                 "unix:/PATH or dns://NAME:PORT",
                 address);
        return false;
    }
    o->of.weight_pct = NAN;
    if (weight &&
        (weight->kind != JSONIN_NUMBER || !(weight->number >= 0) || weight->number > 1000)) {
        api_fail(c, FB_E_RANGE, "weight_pct must be a number from 0 to 1000; 100 is even");
        return false;
    }
    if (weight)
        o->of.weight_pct = weight->number;
    if (!copy_name(o->of.version, sizeof o->of.version, jsonin_text(&in, "version", "")) ||
        !copy_name(o->of.zone, sizeof o->of.zone, jsonin_text(&in, "zone", "")) ||
        !is_word(o->of.version) || !is_word(o->of.zone)) {
        api_fail(c, FB_E_RANGE, "zone and version must be text of 1 to 31 letters, digits, - or _");
        return false;
    }
    return true;
}

static void run_order(struct api_call *c, uint8_t verb)
{
    struct fb_err err = {0};
    struct admin_source *s = &c->admin->source;
    struct admin_endpoint_order *o = &c->conn->order;
    *o = (struct admin_endpoint_order){.verb = verb};
    if (!read_order(c, o))
        return;
    if (!s->endpoint_order)
        api_fail_status(c, 501, FB_E_AGAIN, "this process has no endpoints to change");
    else if (s->endpoint_order(s->ctx, o, &err) != FB_OK)
        api_fail_err(c, &err);
    else {
        note_order(c, o); /* now: the caller may hang up before it is told */
        api_wait_told(c, o->ticket, on_told);
    }
}

RUN(service_endpoint_add)
{
    run_order(c, ADMIN_ENDPOINT_ADD);
}

RUN(service_endpoint_remove)
{
    run_order(c, ADMIN_ENDPOINT_REMOVE);
}
