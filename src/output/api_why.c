/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/why?q=: prose and numbers about one thing, and the next command.
 *
 * The subject is found in this order: request id, "decision 17" or a bare decision number,
 * endpoint, service, route, followed name, knob.  Names are unique within a kind; a bare word that
 * fits two kinds takes the first. */
#include "io/socket_path.h"
#include "knob/sources.h"
#include "output/why_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void api_run_why(struct api_call *c);

#define say why_say
static bool parse_request_id(const char *q, uint64_t *id);
static bool why_request(struct api_call *c, const char *q);
static bool why_decision(struct api_call *c, const char *q);
static bool why_target(struct api_call *c, const char *q);
static bool why_knob(struct api_call *c, const char *q);
static bool why_signal(struct api_call *c, const char *q);

void why_say(struct api_call *c, const char *fmt, ...)
{
    char text[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_str(&c->j, text);
}

void why_begin(struct api_call *c, const char *kind, const char *subject)
{
    json_object_begin(&c->j);
    json_key_str(&c->j, "kind", kind);
    json_key_str(&c->j, "subject", subject);
    json_key(&c->j, "sentences");
    json_array_begin(&c->j);
}

void api_run_why(struct api_call *c)
{
    (void)api_why(c);
}

bool api_why(struct api_call *c)
{
    char q[ADMIN_SERVICE_BYTES + ADMIN_ADDRESS_BYTES + 1];
    uint64_t id;
    if (!api_query(c, "q", q, sizeof q) || q[0] == '\0') {
        api_fail(c, FB_E_USAGE, "say what to explain: ?q=REQUEST_ID, a decision number, or a name");
        return true;
    }
    bool is_found = why_request(c, q) || why_decision(c, q) || why_target(c, q) || why_name(c, q) ||
                    why_knob(c, q) || why_feature(c, q) || why_signal(c, q);
    /* Whoever has just got the answer is faster than the event of it. */
    if (!is_found && parse_request_id(q, &id) && api_wait_event(c))
        return false;
    if (!is_found)
        api_fail_unknown(
            c,
            "\"%s\" is no recent request, decision, endpoint, service, route, knob, feature or "
            "signal; requests "
            "older than the last %d are in the log: `foldback events tail --from-offset 0`",
            q, RECENT_REQUESTS_MAX);
    return true;
}

/* ---- a request ---- */
static bool parse_request_id(const char *q, uint64_t *id)
{
    size_t len = strlen(q);
    if (len < 12 || len > 32)
        return false;
    *id = 0;
    for (size_t i = 0; i < len; i++) {
        char c = q[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return false;
        *id = *id << 4 | (uint64_t)digit; /* of a longer id the low 64 bits count */
    }
    return true;
}

static void say_request_time(struct api_call *c, const struct ev_request *r)
{
    say(c, "It took %.1f ms: %.1f ms in the queue, %.1f ms until the first byte of the endpoint.",
        r->total_us / 1e3, r->queue_us / 1e3, r->upstream_us / 1e3);
    if (r->queue_us > r->upstream_us && r->queue_us > 1000)
        say(c, "Most of it was waiting for a free slot: the limit of the endpoints was reached.");
    unsigned attempts = 1 + (r->flags & EV_REQUEST_ATTEMPTS_MASK);
    if (attempts > 1)
        say(c, "It needed %u attempts; the figures are of the last one.", attempts);
    if (r->flags & EV_REQUEST_HEDGED)
        say(c,
            "After %.1f ms without an answer it was sent a second time (hedge); the %s send was "
            "faster, %s was not waited for.",
            (double)r->hedge_us / 1e3, r->hedge == EV_HEDGE_WON ? "second" : "first",
            admin_name_at(c->admin, EV_KIND_ENDPOINT, r->hedge_endpoint, r->head.time_us));
    if (r->flags & EV_REQUEST_CENSORED)
        say(c, "No first byte came: the endpoint would have taken longer than it was given.");
}

static void say_client(struct api_call *c, const struct ev_request *r)
{
    if (r->tls == EV_TLS_NONE)
        say(c, "Its client spoke %s without TLS.", ev_protocol_name(r->protocol));
    else
        say(c, "Its client spoke %s over TLS %s (%s), in a session that was %s.",
            ev_protocol_name(r->protocol), ev_tls_name(r->tls), ev_cipher_name(r->tls_cipher),
            r->tls_cipher & EV_TLS_RESUMED ? "resumed" : "new");
    if (r->grpc_status != EV_NONE)
        say(c, "The gRPC call ended with status %u (%s).", r->grpc_status,
            ev_grpc_name(r->grpc_status));
}

static bool why_request(struct api_call *c, const char *q)
{
    uint64_t id = 0, offset = 0;
    const struct admin *a = c->admin;
    if (!parse_request_id(q, &id))
        return false;
    const struct ev_request *r = recent_request(a->recent, id, &offset);
    if (!r)
        return false;
    const struct ev_reason_row *reason = ev_reason_row(r->reason);
    why_begin(c, "request", q);
    say(c, "%s (%s)", reason->sentence ? reason->sentence : "It ended.",
        reason->name ? reason->name : "unknown");
    if (r->status)
        say(c, "The client got status %u.", r->status);
    say_client(c, r);
    if (r->route == EV_NONE)
        say(c, "It was matched by no route.");
    else
        say(c, "It was %s, of class %s.", admin_name(a, EV_KIND_ROUTE, r->route),
            ev_class_name(r->class));
    say_request_time(c, r);
    if (r->endpoint == EV_NONE)
        say(c, "No endpoint was touched.");
    else
        say(c, "The endpoint was %s, with %u requests in flight, this one included.",
            admin_name_at(a, EV_KIND_ENDPOINT, r->endpoint, r->head.time_us), r->in_flight);
    if (ev_reason_is_shed(r->reason) && r->service < KNOB_TARGETS_MAX) {
        const struct knob_layer *l = &a->source.book->layer[KNOB_SHED_THRESHOLD][r->service];
        if (l->is_used)
            say(c, "The admission threshold of the service is %.0f now (512 admits all classes).",
                knob_effective(knob_row(KNOB_SHED_THRESHOLD), l, NULL));
    }
    if (r->wanted)
        say(c, "The split of its route chose %s%s.",
            admin_name(a, EV_KIND_VERSION, (uint16_t)(r->wanted - 1)),
            r->endpoint == EV_NONE || r->version == r->wanted - 1
                ? ""
                : ", which had no endpoint that could take it, so another version served it");
    why_say_traits(c, r);
    if (r->reason == REASON_CLIENT_CAPPED)
        say(c,
            "It counts against `concurrency` of one client in the configuration of its route or "
            "service; the client has the pseudonym %u in the events.",
            r->subject);
    else if (ev_reason_is_rule(r->reason))
        say(c,
            "It counts against `rate_limits` of its route in the configuration; its user has the "
            "pseudonym %u in the events.",
            r->subject);
    json_array_end(&c->j);
    json_key(&c->j, "request");
    put_request(&c->j, a, r, recent_sample(a->recent, id), true);
    json_key_u64(&c->j, "offset", offset);
    json_key(&c->j, "next");
    json_array_begin(&c->j);
    if (r->service < KNOB_TARGETS_MAX)
        say(c, "foldback why '%s'", admin_name(a, EV_KIND_SERVICE, r->service));
    say(c, "foldback decisions");
    json_array_end(&c->j);
    json_object_end(&c->j);
    return true;
}

/* ---- a decision ---- */
static void say_outcome(struct api_call *c, const struct timeline_entry *e)
{
    if (!e->has_outcome) {
        say(c, "The verifier has not looked at its effect yet.");
        return;
    }
    const struct ev_outcome *o = &e->outcome;
    const struct fact_row *fact = fact_row(o->fact);
    say(c, "Outcome: %s; %s went from %.4g to %.4g %s.%s%s", ev_outcome_name(o->outcome),
        fact->name ? fact->name : "the fact", o->before, o->after, fact->unit ? fact->unit : "",
        o->is_reverted ? " The knob went back." : "",
        o->is_frozen ? " The loop rests on this target now." : "");
}

static bool why_decision(struct api_call *c, const char *q)
{
    uint64_t id = 0;
    const char *digits = strncmp(q, "decision ", 9) == 0 ? q + 9 : q;
    if (!span_to_u64(span_of(digits), &id))
        return false;
    const struct timeline_entry *e = timeline_find(&c->admin->timeline, id);
    if (!e)
        return false;
    struct buf text;
    buf_init(&text, 2048);
    why_begin(c, "decision", q);
    if (c->admin->source.explain)
        c->admin->source.explain(c->admin->source.ctx, &e->decision, &text);
    if (text.len > 0)
        json_str(&c->j, buf_str(&text));
    buf_fini(&text);
    const char *sentence = ev_reason_row(e->decision.reason)->sentence;
    say(c, "%s", sentence ? sentence : "No reason is known.");
    if (!e->decision.is_applied)
        say(c, "It was written down, not applied: the mode is %s.", ev_mode_name(e->decision.mode));
    if (e->has_outcome || e->decision.verify_at_us > 0) /* what an operator did is not judged */
        say_outcome(c, e);
    json_array_end(&c->j);
    json_key(&c->j, "decision");
    put_decision(&c->j, c->admin, e, true);
    json_key(&c->j, "next");
    json_array_begin(&c->j);
    if (e->decision.knob < KNOB_COUNT)
        say(c, "foldback why %s", knob_row(e->decision.knob)->name);
    else if (e->decision.target != EV_NONE) /* a drain turns no knob */
        say(c, "foldback why '%s'",
            admin_name_at(c->admin, (enum ev_kind)e->decision.target_kind, e->decision.target,
                          e->decision.head.time_us));
    json_array_end(&c->j);
    json_object_end(&c->j);
    return true;
}

/* ---- endpoint, service, route ---- */
static struct fact minute(const struct api_call *c, struct fact_scope scope, enum fact_id id)
{
    return facts_get(c->admin->source.facts, scope, id, FACT_60S);
}

static bool is_above_zero(struct fact f)
{
    return f.state == FACT_OK && f.value > 0;
}

/* What became of the last minute's requests, in words for who sees them for the first time. */
static void say_traffic(struct api_call *c, struct fact_scope scope)
{
    struct fact rate = minute(c, scope, FACT_RATE), p99 = minute(c, scope, FACT_LATENCY_P99);
    struct fact errors = minute(c, scope, FACT_ERROR_RATIO);
    struct fact shed = minute(c, scope, FACT_SHED_RATIO);
    struct fact wait = minute(c, scope, FACT_QUEUE_WAIT_P99);
    if (!is_above_zero(rate) && !is_above_zero(shed)) {
        say(c, "It had no requests in the last minute.");
        return;
    }
    say(c, "In the last minute it had %" PRIu64 " requests, %.4g per second.", rate.n, rate.value);
    if (p99.state == FACT_OK)
        say(c, "99 %% of them took less than %.4g ms, from arrival to the end of the answer.",
            p99.value);
    if (is_above_zero(errors))
        say(c, "%.3g %% of them failed (5xx, 429, reset, timeout).", errors.value * 100);
    else if (errors.state == FACT_OK)
        say(c, "None of them failed.");
    if (is_above_zero(shed))
        say(c, "foldback refused %.3g %% of what came, because more came than could be served.",
            shed.value * 100);
    if (wait.state == FACT_OK && wait.value >= 1)
        say(c, "Up to %.4g ms of that (99 %%) was waiting in the queue for a free endpoint.",
            wait.value);
}

/* How many of its endpoints take requests, and what ails the others. */
static void say_members(struct api_call *c, uint16_t service)
{
    const struct admin *a = c->admin;
    uint32_t count = 0, good = 0;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        const struct memfile_name *row = &a->source.memfile->endpoints[i];
        if (!admin_name(a, EV_KIND_ENDPOINT, i)[0] || row->parent != service ||
            admin_has_left(a, EV_KIND_ENDPOINT, i))
            continue;
        const struct ev_gauge *g = &a->metrics->endpoint[i].gauge;
        count++;
        good += g->head.type && (g->health == EV_HEALTH_OK || g->health == EV_HEALTH_RAMPING) &&
                !(a->source.is_drained && a->source.is_drained(a->source.ctx, i));
    }
    if (count == 0)
        say(c, "It has no endpoint: requests get 503 until it has one.");
    else if (good == count)
        say(c, "All of its endpoints (%u) take requests.", count);
    else
        say(c,
            "%u of its %u endpoints take requests; `foldback status` shows what is with the "
            "others.",
            good, count);
}

/* Where it stands among its peers, as far as that is not plain. */
static void say_place(struct api_call *c, uint16_t number, const struct memfile_gauge *g)
{
    uint32_t place = atomic_load_explicit(&g->place, memory_order_relaxed);
    uint32_t load = atomic_load_explicit(&g->utilisation_permille, memory_order_relaxed);
    uint32_t weight = atomic_load_explicit(&g->weight_permille, memory_order_relaxed);
    const struct memfile_name *name = &c->admin->source.memfile->endpoints[number];
    if (!place)
        return;
    if (name->zone[0])
        say(c, "It stands in zone %.32s%s.", name->zone,
            place & MEMFILE_PLACE_FAR
                ? ", not in that of this node: it gets requests when the own zone is full or fails"
                : "");
    if (place & MEMFILE_PLACE_SPARE)
        say(c, "It is a spare one: used when none of the first is healthy.");
    if (place & MEMFILE_PLACE_OUT)
        say(c, "Its agent wants no requests.");
    if (load != UINT32_MAX)
        say(c, "It reports a utilisation of %.1f %%.", load / 10.0);
    if (weight != 1000)
        say(c, "Its weight in force is %.1f %% of an even one.", weight / 10.0);
}

/* Where it comes from, when that is not the configuration; and whether it is still there. */
static void say_origin(struct api_call *c, uint16_t number)
{
    const struct admin_endpoint *own = api_own_endpoint(c->admin, number);
    if (own)
        say(c,
            "It was added through the admin API with weight %.6g %% and stays until `foldback "
            "endpoint remove %s %s`.",
            own->weight_pct, own->service, own->address);
    struct source name;
    char text[SOURCE_TEXT_BYTES];
    if (!own && api_source_of(c->admin, number, &name)) {
        sources_text(&name, text);
        say(c, "The name %s brought it%s.", text,
            name.origin == MEMFILE_ORIGIN_API ? ", which was added through the admin API" : "");
    }
    if (admin_has_left(c->admin, EV_KIND_ENDPOINT, number))
        say(c, "It is not in its service any more; what follows is what was seen last.");
}

/* The last active check; how many there were stands among the features. */
static void say_check(struct api_call *c, const struct metric_endpoint *e)
{
    bool is_used = e->gauge.health == EV_HEALTH_OK;
    if (e->checks[0] + e->checks[1] == 0)
        return;
    if (!e->checks_row)
        say(c, "Its last health check passed after %.1f ms.", e->check_us / 1e3);
    else if (e->check_status)
        say(c, "Its last health check failed after %.1f ms: the answer was %u%s.",
            e->check_us / 1e3, e->check_status,
            is_used ? "; it gets requests until `fall` of them failed in a row, and for as long as "
                      "no other endpoint is left"
                    : "");
    else
        say(c, "Its last health check failed after %.1f ms: there was no answer%s.",
            e->check_us / 1e3, is_used ? "; it gets requests as long as it answers those" : "");
}

/* Of a Unix socket the file is asked now: whether it is there, and ours to use. */
static void say_socket(struct api_call *c, uint16_t number)
{
    int why = api_look_at_socket(c->admin, number);
    if (why)
        say(c, "%s cannot be reached now: %s.",
            strchr(admin_name(c->admin, EV_KIND_ENDPOINT, number), ' ') + 1, socket_path_why(why));
}

static void say_endpoint(struct api_call *c, uint16_t number)
{
    say_origin(c, number);
    say_socket(c, number);
    const struct ev_gauge *g = &c->admin->metrics->endpoint[number].gauge;
    if (g->head.type == 0) {
        say(c, "Nothing is known of it yet: it is new, or the gateway is just starting.");
        return;
    }
    say(c,
        "It is %s. %u requests are in flight there now; its limit is %u at once. Its first byte "
        "comes after %.1f ms on average; of late %.2f %% failed.",
        ev_health_name(g->health), g->in_flight, g->limit, g->latency_us / 1e3, g->error_ppm / 1e4);
    uint16_t reason = c->admin->metrics->endpoint[number].health_reason;
    if (g->health != EV_HEALTH_OK && reason)
        say(c, "%s (%s)", ev_reason_row(reason)->sentence, ev_reason_row(reason)->name);
    say_check(c, &c->admin->metrics->endpoint[number]);
    const struct memfile_gauge *now = &c->admin->source.memfile->gauges[number];
    if (memfile_in_flight(now) >= 0 && g->in_flight >= g->limit)
        say(c, "It is full: what comes now goes to another endpoint or waits in the queue of the "
               "service.");
    say_place(c, number, now);
}

/* The cold-cache guard's forecast. */
static void say_cold(struct api_call *c, uint16_t route)
{
    struct cold_view v;
    if (!api_cold(c->admin, route, &v))
        return;
    say(c, "Its cache spares the endpoints %.4g of %.4g requests per second.",
        v.cold_per_s - v.now_per_s, v.cold_per_s);
    if (isnan(v.load_ratio))
        return;
    say(c, "If it were empty they would get %.0f %% of what their limits let through%s.",
        v.load_ratio * 100, v.load_ratio > 1 ? ": too much, so purges are paced" : "");
    if (isfinite(v.refill_s))
        say(c, "Nine tenths of its hits would be back after about %.3g s.", v.refill_s);
    else
        say(c, "There is no room to fill it again: more endpoints are needed first.");
}

static void put_target_decisions(struct api_call *c, enum ev_kind kind, uint16_t number)
{
    const struct timeline_entry *e;
    size_t count = 0;
    json_key(&c->j, "decisions");
    json_array_begin(&c->j);
    for (uint64_t i = 0; count < 5 && (e = timeline_at(&c->admin->timeline, i)) != NULL; i++)
        if (e->decision.target_kind == kind && e->decision.target == number) {
            put_decision(&c->j, c->admin, e, false);
            count++;
        }
    json_array_end(&c->j);
}

static void put_target_knobs(struct api_call *c, enum ev_kind kind, uint16_t number)
{
    /* A route that redirects or responds has nothing that could be turned. */
    bool is_own =
        kind == EV_KIND_ROUTE && c->admin->source.memfile->routes[number].parent == EV_NONE;
    json_key(&c->j, "knobs");
    json_array_begin(&c->j);
    for (uint16_t k = 0; k < KNOB_COUNT; k++)
        if (!is_own && knob_row(k)->kind == kind && c->admin->source.book->layer[k][number].is_used)
            put_knob(&c->j, c->admin, k, number);
    json_array_end(&c->j);
}

/* The service that it belongs to, or is: what was decided there, and what may be turned. */
static void say_next(struct api_call *c, enum ev_kind kind, uint16_t number)
{
    const struct memfile *m = c->admin->source.memfile;
    uint16_t service = kind == EV_KIND_SERVICE ? number
                       : kind == EV_KIND_ROUTE ? m->routes[number].parent
                                               : m->endpoints[number].parent;
    const char *name = admin_name(c->admin, EV_KIND_SERVICE, service);
    if (!name[0]) { /* a route that answers by itself */
        say(c, "foldback status");
        return;
    }
    if (kind != EV_KIND_SERVICE)
        say(c, "foldback why '%s'", name);
    say(c, "foldback decisions --service '%s'", name);
    say(c, "foldback get --service '%s'", name);
}

static bool why_target(struct api_call *c, const char *q)
{
    static const enum ev_kind kinds[] = {EV_KIND_ENDPOINT, EV_KIND_SERVICE, EV_KIND_ROUTE};
    uint16_t number = EV_NONE;
    enum ev_kind kind = EV_KIND_NONE;
    for (size_t i = 0; i < FB_COUNT(kinds) && number == EV_NONE; i++) {
        kind = kinds[i];
        number = api_target(c->admin, kind, q);
    }
    if (number == EV_NONE)
        return false;
    why_begin(c, ev_kind_name((uint8_t)kind), admin_name(c->admin, kind, number));
    if (kind == EV_KIND_ENDPOINT)
        say_endpoint(c, number);
    else if (admin_has_left(c->admin, kind, number))
        say(c, "It is not in the configuration any more; what follows is what was seen last.");
    else if (kind == EV_KIND_SERVICE) {
        say_members(c, number);
        why_say_names(c, number);
    }
    say_traffic(c, (struct fact_scope){kind, number});
    if (kind == EV_KIND_ROUTE)
        say_cold(c, number);
    why_say_features(c, kind, number);
    json_array_end(&c->j);
    put_target_knobs(c, kind, number);
    put_target_decisions(c, kind, number);
    json_key(&c->j, "next");
    json_array_begin(&c->j);
    say_next(c, kind, number);
    json_array_end(&c->j);
    json_object_end(&c->j);
    return true;
}

/* ---- a knob: "limit", or "limit shop 10.0.0.1:80" ---- */
static bool why_knob(struct api_call *c, const char *q)
{
    struct span rest, name = span_cut(span_of(q), ' ', &rest);
    uint16_t knob = knob_by_name(name);
    if (knob == EV_NONE)
        return false;
    const struct knob_row *row = knob_row(knob);
    uint16_t only = rest.len > 0 ? api_target(c->admin, row->kind, rest.at) : EV_NONE;
    if (rest.len > 0 && only == EV_NONE)
        return false;
    why_begin(c, "knob", q);
    say(c, "%s %s", row->what, row->why);
    say(c, "Its loop is %s: %s", loop_row((uint16_t)row->loop)->name,
        loop_row((uint16_t)row->loop)->what);
    for (uint16_t t = 0; t < KNOB_TARGETS_MAX; t++) {
        const struct knob_layer *l = &c->admin->source.book->layer[knob][t];
        if (!l->is_used || (only != EV_NONE && only != t) ||
            (only == EV_NONE && admin_has_left(c->admin, row->kind, t)))
            continue;
        enum knob_source source = KNOB_FROM_SAFE;
        double value = knob_effective(row, l, &source);
        say(c, "%s: %.6g %s, %s; bounds %.6g to %.6g, mode %s%s.",
            admin_name(c->admin, row->kind, t), value, row->unit, knob_source_name(source), l->min,
            l->max, ev_mode_name(l->mode), l->is_frozen ? ", frozen" : "");
    }
    json_array_end(&c->j);
    json_key(&c->j, "next");
    json_array_begin(&c->j);
    say(c, "foldback get %s", row->name);
    say(c, "foldback decisions --loop %s", loop_row((uint16_t)row->loop)->name);
    json_array_end(&c->j);
    json_object_end(&c->j);
    return true;
}

/* ---- a signal: "orders" ---- */
static void say_signal(struct api_call *c, const struct signal_view *v)
{
    const struct signal *g = v->signal;
    const char *unit = signal_unit(g);
    say(c, "%s of the events %s%s%s; better is %s.", signal_value_name(g->conf.value),
        g->conf.event, g->conf.service[0] ? ", of service " : "", g->conf.service,
        signal_better_name(g->conf.better));
    if (isnan(v->minute))
        say(c, "Nothing is known of it: %" PRIu64 " events came since the brain began.", g->total);
    else if (isnan(v->usual))
        say(c, "In the last minute it was %.4g%s; what is usual is known after two minutes.",
            v->minute, unit);
    else
        say(c, "In the last minute it was %.4g%s; usual at this load is %.4g%s (%+.1f %%).",
            v->minute, unit, v->usual, unit, v->change * 100);
    switch (v->state) {
    case SIGNAL_STATE_WATCHED:
        say(c, "A release is being looked at: its share goes back if this gets worse.");
        if (g->conf.old_version[0] && signal_sides_lack(g))
            say(c, "It is compared with before: %s.", signal_sides_lack(g));
        else if (g->conf.old_version[0])
            say(c, "Its new versions are compared with %s.", g->conf.old_version);
        break;
    case SIGNAL_STATE_HARMED:
        say(c, "It got worse since a release.");
        break;
    case SIGNAL_STATE_UNUSUAL:
        say(c, "That is not as usual.");
        break;
    default:
        break;
    }
}

static bool why_signal(struct api_call *c, const char *q)
{
    const struct admin_source *source = &c->admin->source;
    struct signal_view v;
    uint32_t i = 0;
    while (source->signal && i < SIGNALS_MAX &&
           !(source->signal(source->ctx, i, &v) && strcmp(v.signal->conf.name, q) == 0))
        i++;
    if (!source->signal || i == SIGNALS_MAX)
        return false;
    why_begin(c, "signal", q);
    say_signal(c, &v);
    const struct timeline_alert *a;
    for (uint64_t k = 0; (a = timeline_alert_at(&c->admin->timeline, k)) != NULL; k++)
        if (a->over_us == 0 && a->alert.target == i &&
            (a->alert.reason == REASON_ALERT_SIGNAL_HARMED ||
             a->alert.reason == REASON_ALERT_SIGNAL_UNUSUAL))
            say(c, "%.*s", (int)strnlen(a->alert.text, sizeof a->alert.text), a->alert.text);
    json_array_end(&c->j);
    json_key(&c->j, "next");
    json_array_begin(&c->j);
    say(c, "foldback decisions --loop release");
    say(c, "foldback status");
    json_array_end(&c->j);
    json_object_end(&c->j);
    return true;
}
