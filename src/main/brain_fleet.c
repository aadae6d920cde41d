/* SPDX-License-Identifier: Apache-2.0 */
/* brain_fleet: this node among the others: its reports out each tick, theirs in, its part of the
 * limits that count over all nodes, and the word when it is cut off.
 *
 * What comes from other nodes enters the stream as an event (fleet_share) before it moves anything,
 * so that a replay needs nobody else.  The others' load goes to the balance past the stream: it is
 * a reading, like the gauges, and gone with the next one. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "fleet/view.h"
#include "main/brain_int.h"
#include "main/fleet_link.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* A brain that died and was started again goes on with the parts of the last one until it hears a
 * decision, for so long or until the lease is over; less than the grace of fleet/lease.h. */
#define RESUME_US (5 * US_PER_S)
#define SAID_NOTHING UINT32_MAX
#define SAY_AGAIN_US US_PER_S
#define GOODBYE_MS 3000 /* at the stop of the process, for the last words and the threads */

struct part {
    uint16_t route, service; /* numbers */
    uint64_t limit;          /* id */
    uint64_t limit_milli;    /* 0: of each user */
    uint32_t said_ppm;       /* or SAID_NOTHING */
    uint64_t said_us;
};

struct brain_fleet {
    struct conf *conf; /* of the parts and the connector */
    struct fleet_view *view;
    struct fleet_link *link;
    uint64_t link_hash;
    uint8_t role;
    uint64_t sequence, joined_us, resume_until_us;
    bool is_cut;
    uint32_t nodes_silent;
    struct part *parts;
    size_t part_count;
    struct fleet_report report;
    struct fleet_decision decision;
    struct buf message;
    uint64_t round_trip_us;            /* of an own report through the broker */
    uint64_t members[FLEET_NODES_MAX]; /* of the last decision, this or an earlier run heard */
    uint32_t member_count;
    uint64_t told[KNOB_TARGETS_MAX]; /* of the answers of each endpoint */
};

static void stop_link(struct brain *b);
static void tell_alert(struct brain *b, uint16_t reason, bool is_over, const char *text);
static void leave(struct brain *b);
static void find_parts(struct brain *b);
static void say_goodbye(struct brain *b);

/* ---- configuration ---- */

static const struct conf_connector *connector_of(const struct conf *conf)
{
    for (size_t i = 0; i < conf->connector_count && conf->p.fleet_connector[0]; i++)
        if (strcmp(conf->connectors[i].name, conf->p.fleet_connector) == 0)
            return &conf->connectors[i];
    return NULL;
}

/* After a start of all nodes at once nobody would know who is missing. */
static void load_members(struct brain *b)
{
    struct brain_fleet *f = b->fleet;
    struct fb_err err;
    char *text = NULL;
    f->member_count = 0;
    if (state_meta_get(b->state, "fleet_members", &text, &err) != FB_OK || !text)
        return;
    char *next = NULL;
    for (char *at = strtok_r(text, " ", &next); at && f->member_count < FLEET_NODES_MAX;
         at = strtok_r(NULL, " ", &next))
        f->members[f->member_count++] = strtoull(at, NULL, 16);
    free(text);
}

static bool is_member(const struct brain_fleet *f, uint64_t id)
{
    for (uint32_t i = 0; i < f->member_count; i++)
        if (f->members[i] == id)
            return true;
    return false;
}

static void save_members(struct brain *b)
{
    struct brain_fleet *f = b->fleet;
    uint64_t ids[FLEET_NODES_MAX];
    char text[FLEET_NODES_MAX * 17 + 1] = "";
    uint32_t count = fleet_members(f->view, ids);
    bool is_same = count == f->member_count;
    for (uint32_t i = 0; i < count && is_same; i++)
        is_same = is_member(f, ids[i]);
    if (count == 0 || is_same)
        return;
    size_t len = 0;
    for (uint32_t i = 0; i < count; i++)
        len +=
            (size_t)snprintf(text + len, sizeof text - len, "%016llx ", (unsigned long long)ids[i]);
    memcpy(f->members, ids, count * sizeof *ids);
    f->member_count = count;
    struct fb_err err;
    if (state_meta_set(b->state, "fleet_members", (struct span){text, len}, &err) != FB_OK)
        fb_log(FB_LOG_WARN, "fleet: the nodes cannot be kept for the next start: %s", err.text);
}

static uint64_t lease_us(const struct brain_fleet *f)
{
    return f->conf->p.fleet_lease * US_PER_MS;
}

static uint32_t safe_ppm(const struct brain_fleet *f)
{
    return f->conf->p.fleet_safe_permille * (FLEET_SHARE_ALL / 1000);
}

static bool start_link(struct brain *b, const struct conf_connector *c)
{
    struct brain_fleet *f = b->fleet;
    struct fleet_conf fc;
    struct fb_err err;
    fleet_conf_init(&fc);
    fc.node = b->mem.head->node_id;
    fc.role = f->role = f->conf->p.fleet_role;
    fc.lease.lease_us = lease_us(f);
    fc.lease.forget_us = fb_max_u64(fc.lease.forget_us, 2 * fc.lease.lease_us);
    fc.lease.safe_ppm = safe_ppm(f);
    f->view = fleet_view_new(&fc);
    struct fleet_link_setup setup = {.connector = c,
                                     .conf = f->conf,
                                     .node =
                                         f->conf->p.top_node[0] ? f->conf->p.top_node : "foldback",
                                     .state_dir = b->setup->state_dir,
                                     .node_id = fc.node};
    load_members(b);
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)
        f->told[i] = atomic_load_explicit(&b->mem.gauges[i].answers, memory_order_relaxed);
    if (f->view)
        fleet_remember(f->view, f->members, f->member_count);
    if (f->view && fleet_link_open(&f->link, &setup, &err) == FB_OK)
        return true;
    fb_log(FB_LOG_ERROR, "fleet: %s", f->view ? err.text : "no memory");
    return false;
}

void brain_fleet_apply(struct brain *b, struct conf *conf)
{
    const struct conf_connector *c = connector_of(conf);
    if (!b->fleet && !c)
        return;
    if (!b->fleet) {
        b->fleet = calloc(1, sizeof *b->fleet);
        if (!b->fleet)
            return;
        buf_init(&b->fleet->message, FLEET_MESSAGE_BYTES_MAX);
        uint64_t beat_us = atomic_load(&b->mem.head->brain_beat_us);
        uint64_t lease_end_us = atomic_load(&b->mem.head->fleet_lease_end_us);
        b->fleet->resume_until_us = beat_us ? fb_max_u64(beat_us + RESUME_US, lease_end_us) : 0;
    }
    struct brain_fleet *f = b->fleet;
    if (!c) {
        leave(b);
        if (f->nodes_silent)
            tell_alert(b, REASON_ALERT_FLEET_NODE, true, "this node left the fleet");
        f->nodes_silent = 0;
    }
    bool is_same = f->link && c && c->hash == f->link_hash && conf->p.fleet_role == f->role;
    if (f->link && c && !is_same) /* the parts hold until the next link tells more */
        f->resume_until_us =
            fb_max_u64(fb_mono_us() + RESUME_US, atomic_load(&b->mem.head->fleet_lease_end_us));
    if (!is_same)
        stop_link(b);
    if (f->conf)
        conf_unref(f->conf);
    f->conf = conf_ref(conf);
    f->link_hash = c ? c->hash : 0;
    if (c && !is_same && !start_link(b, c))
        stop_link(b);
    if (f->view) {
        fleet_view_lease(f->view, lease_us(f), safe_ppm(f));
        fleet_view_region(f->view, conf->p.fleet_region);
    }
    find_parts(b);
}

static void stop_link(struct brain *b)
{
    struct brain_fleet *f = b->fleet;
    if (f->is_cut) /* of this broker; of the next one it will be said anew */
        tell_alert(b, REASON_ALERT_FLEET_CUT, true, "the connector of the fleet was changed");
    fleet_link_leave(f->link);
    fleet_view_free(f->view);
    f->link = NULL;
    f->view = NULL;
    f->joined_us = 0;
    f->is_cut = false;
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)
        atomic_store_explicit(&b->mem.gauges[i].others, 0, memory_order_relaxed);
}

/* Alone, a node has the whole of each limit. */
static void leave(struct brain *b)
{
    struct brain_fleet *f = b->fleet;
    for (size_t i = 0; f->link && i < f->part_count; i++) {
        struct ev_fleet_share ev = EV_INIT(FLEET_SHARE, fleet_share, fb_mono_us());
        ev.route = f->parts[i].route;
        ev.nodes = 1;
        ev.share_ppm = FLEET_SHARE_ALL;
        ev.controller = b->mem.head->node_id;
        ev.limit = f->parts[i].limit;
        brain_say(b, &ev.head);
    }
}

void brain_fleet_stop(struct brain *b)
{
    struct brain_fleet *f = b->fleet;
    if (!f)
        return;
    say_goodbye(b);
    stop_link(b);
    fleet_link_wait(GOODBYE_MS);
    conf_unref(f->conf);
    buf_fini(&f->message);
    free(f->parts);
    free(f);
    b->fleet = NULL;
}

static uint16_t number_of(const struct memfile_name *rows, const char *name)
{
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (atomic_load_explicit(&rows[i].is_used, memory_order_acquire) &&
            strcmp(rows[i].name, name) == 0)
            return i;
    return EV_NONE;
}

/* Routes with limits that count over all nodes; their numbers come with the gateway's names. */
static void find_parts(struct brain *b)
{
    struct brain_fleet *f = b->fleet;
    free(f->parts);
    f->part_count = 0;
    f->parts = calloc(f->conf->route_count + 1, sizeof *f->parts);
    for (size_t i = 0; f->parts && i < f->conf->route_count; i++) {
        const struct conf_route *r = &f->conf->routes[i];
        struct part p = {.said_ppm = SAID_NOTHING, .limit_milli = UINT64_MAX};
        bool has_limit = false;
        for (size_t k = 0; k < r->rate_count; k++) {
            const struct conf_rate *rate = &r->rates[k];
            if (!rate->is_fleet)
                continue;
            has_limit = true;
            double milli = (double)rate->count * 1e9 / (double)rate->period_us;
            if (rate->who.by == CONF_WHO_ROUTE)
                p.limit_milli = fb_min_u64(p.limit_milli, (uint64_t)fmax(milli, 1));
        }
        p.route = number_of(b->mem.routes, r->name);
        p.service = number_of(b->mem.services, f->conf->services[r->service].name);
        if (p.limit_milli == UINT64_MAX)
            p.limit_milli = 0;
        p.limit = XXH3_64bits(r->name, strlen(r->name));
        if (has_limit && p.route != EV_NONE && p.service != EV_NONE)
            f->parts[f->part_count++] = p;
    }
}

/* ---- out ---- */

static uint32_t share_in_force_ppm(const struct brain *b, const struct part *p)
{
    if (knob_version(b->mem.knobs, KNOB_FLEET_SHARE_PCT, p->route) == 0)
        return safe_ppm(b->fleet); /* as the gateway does */
    /* what was said may not be in the table yet; a pin or a mode may keep the table above it */
    double pct = knob_read(b->mem.knobs, KNOB_FLEET_SHARE_PCT, p->route);
    double said_ppm = p->said_ppm == SAID_NOTHING ? 0 : p->said_ppm;
    return (uint32_t)fb_clamp(fmax(pct * 1e4, said_ppm), 0, FLEET_SHARE_ALL);
}

static double asked_per_s(const struct brain *b, uint16_t route)
{
    struct fact f =
        facts_get(engine_facts(b->fold.engine), (struct fact_scope){EV_KIND_ROUTE, route},
                  FACT_OFFERED_RATE, FACT_1S);
    return f.state == FACT_OK ? f.value : 0;
}

static void add_endpoints(struct brain *b, uint16_t service, struct fleet_report *r)
{
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX && r->endpoint_count < FLEET_ENDPOINTS_MAX; i++) {
        const struct memfile_name *n = &b->mem.endpoints[i];
        const struct memfile_gauge *g = &b->mem.gauges[i];
        uint64_t sum_us;
        if (!atomic_load_explicit(&n->is_used, memory_order_acquire) || n->parent != service)
            continue;
        if (atomic_load_explicit(&n->version, memory_order_relaxed) == EV_NONE) {
            uint32_t past; /* of one that left: not the next owner's */
            memfile_answers_since(&g->answers, &b->fleet->told[i], &past, &sum_us);
            continue;
        }
        struct fleet_endpoint *e = &r->endpoints[r->endpoint_count++];
        memcpy(e->name, n->name, sizeof e->name);
        e->in_flight = (uint32_t)fb_clamp(memfile_in_flight(g), 0, UINT32_MAX);
        e->limit = atomic_load_explicit(&g->limit, memory_order_relaxed);
        memfile_answers_since(&g->answers, &b->fleet->told[i], &e->answers, &sum_us);
        e->latency_us = e->answers ? fb_sat_u32(sum_us / e->answers) : 0;
    }
}

static void send_message(struct brain_fleet *f, const char *key)
{
    if (!f->message.failed)
        fleet_link_send(f->link, span_of(key), buf_span(&f->message));
}

static void add_demands(const struct brain *b, uint16_t service, struct fleet_report *r)
{
    const struct brain_fleet *f = b->fleet;
    for (size_t i = 0; i < f->part_count && r->demand_count < FLEET_DEMANDS_MAX; i++) {
        const struct part *p = &f->parts[i];
        if (p->service != service)
            continue;
        double asked_milli = asked_per_s(b, p->route) * 1e3;
        r->demands[r->demand_count++] =
            (struct fleet_demand){.limit = p->limit,
                                  .limit_milli = p->limit_milli,
                                  .asked_milli = (uint32_t)fb_clamp(asked_milli, 0, UINT32_MAX),
                                  .share_ppm = share_in_force_ppm(b, p),
                                  .heeded = fleet_heeded(f->view, r->service, p->limit)};
    }
}

static void report(struct brain *b, uint16_t service, bool is_leaving)
{
    struct brain_fleet *f = b->fleet;
    struct fleet_report *r = &f->report;
    const struct facts *facts = engine_facts(b->fold.engine);
    struct fact_scope scope = {EV_KIND_SERVICE, service};
    memset(r, 0, sizeof *r);
    r->node = b->mem.head->node_id;
    r->epoch = b->epoch;
    r->sequence = ++f->sequence;
    r->wall_us = fb_wall_us();
    r->sent_us = fb_mono_us();
    r->span_us = BRAIN_TICK_US;
    r->role = f->role;
    r->is_leaving = is_leaving;
    r->has_members = f->member_count > 0;
    r->lease_ms = (uint32_t)(lease_us(f) / US_PER_MS);
    r->safe_ppm = safe_ppm(f);
    snprintf(r->region, sizeof r->region, "%.31s", f->conf->p.fleet_region);
    snprintf(r->name, sizeof r->name, "%.63s", f->conf->p.top_node);
    snprintf(r->service, sizeof r->service, "%.103s", b->mem.services[service].name);
    struct facts_pane pane;
    if (facts_pane(facts, scope, &pane, &r->latency)) {
        r->requests = pane.ended;
        r->failed = pane.failed;
        r->shed = pane.shed;
        r->late = pane.late;
    }
    struct fact queued = facts_get(facts, scope, FACT_QUEUED, FACT_1S);
    r->queued = queued.state == FACT_OK ? (uint32_t)fb_clamp(queued.value, 0, UINT32_MAX) : 0;
    add_endpoints(b, service, r);
    add_demands(b, service, r);
    r->is_ready = fleet_is_ready(f->view, r->service, r->sent_us);
    buf_clear(&f->message);
    fleet_report_write(r, &f->message);
    send_message(f, r->service);
}

static void report_all(struct brain *b, bool is_leaving)
{
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (atomic_load_explicit(&b->mem.services[i].is_used, memory_order_acquire))
            report(b, i, is_leaving);
}

/* When the gateway has ended what this node had is free at once.  At an upgrade it goes on. */
static void say_goodbye(struct brain *b)
{
    if (b->fleet->link && b->is_node_stopping)
        report_all(b, true);
}

/* ---- in ---- */

struct taking {
    struct brain *b;
    uint64_t now_us, wall_us;
};

static void take_one(void *arg, struct span value)
{
    struct taking *t = arg;
    struct brain_fleet *f = t->b->fleet;
    enum fleet_kind kind = fleet_kind_of(value);
    if (kind == FLEET_REPORT && fleet_report_read(value, &f->report)) {
        bool is_own = f->report.node == t->b->mem.head->node_id;
        if (is_own && f->report.epoch != t->b->epoch)
            return;
        if (fleet_hear(f->view, &f->report, t->now_us) && is_own)
            f->round_trip_us = fb_sub_floor_u64(t->now_us, f->report.sent_us);
    } else if (kind == FLEET_DECISION && fleet_decision_read(value, &f->decision)) {
        (void)fleet_heed(f->view, &f->decision, t->now_us);
    }
}

static void tell_alert(struct brain *b, uint16_t reason, bool is_over, const char *text)
{
    struct ev_alert ev = ev_alert_init(reason, EV_NONE, 1, is_over, fb_mono_us());
    snprintf(ev.text, sizeof ev.text, "%.*s", (int)sizeof ev.text - 1, text);
    brain_say(b, &ev.head);
    fb_log(is_over ? FB_LOG_INFO : FB_LOG_WARN, "%s", text);
}

/* "1 of 3 nodes of the fleet are silent: edge-2", by its id when it has no name. */
static void say_silent(const struct brain_fleet *f, uint32_t silent, uint32_t known, char text[200])
{
    struct fleet_node_view n;
    int at = snprintf(text, 200, "%u of %u nodes of the fleet are silent", silent, known);
    const char *before = ": ";
    for (uint32_t i = 0; fleet_node_at(f->view, i, &n); i++) {
        if (n.is_live || n.has_left)
            continue;
        if (at > 200 - FLEET_NODE_BYTES - 8) {
            snprintf(text + at, 200 - (size_t)at, " ...");
            return;
        }
        if (n.name[0])
            at += snprintf(text + at, 200 - (size_t)at, "%s%s", before, n.name);
        else
            at += snprintf(text + at, 200 - (size_t)at, "%s%016" PRIx64, before, n.node);
        before = ", ";
    }
}

static void watch(struct brain *b, const struct fleet_state *state, uint64_t now_us)
{
    struct brain_fleet *f = b->fleet;
    char text[200];
    if (state->is_autonomous != f->is_cut) {
        f->is_cut = state->is_autonomous;
        f->joined_us = 0;
        struct fleet_link_state link;
        fleet_link_state_read(f->link, &link);
        if (f->is_cut)
            snprintf(text, sizeof text, "cut off from the fleet, goes on alone: %.140s",
                     link.last_error[0] ? link.last_error : "own reports do not come back");
        else
            snprintf(text, sizeof text, "back in the fleet of %u nodes", state->nodes_live);
        tell_alert(b, REASON_ALERT_FLEET_CUT, !f->is_cut, text);
    }
    if (!f->is_cut && f->joined_us == 0 && state->has_returned)
        f->joined_us = now_us;
    uint32_t silent = f->is_cut ? f->nodes_silent : state->nodes_known - state->nodes_live;
    if (silent == f->nodes_silent)
        return;
    say_silent(f, silent, state->nodes_known, text);
    tell_alert(b, REASON_ALERT_FLEET_NODE, silent == 0, text);
    f->nodes_silent = silent;
}

/* What was said while somebody held the knob was refused; it holds again when that one let go. */
static bool is_refused(const struct brain *b, const struct part *p)
{
    const struct knob_cell *c = &b->mem.knobs->cell[KNOB_FLEET_SHARE_PCT][p->route];
    if (p->said_ppm == SAID_NOTHING ||
        knob_version(b->mem.knobs, KNOB_FLEET_SHARE_PCT, p->route) == 0)
        return false;
    bool is_held = atomic_load_explicit(&c->source, memory_order_relaxed) == KNOB_FROM_PIN ||
                   atomic_load_explicit(&c->mode, memory_order_relaxed) != EV_MODE_ACT ||
                   atomic_load_explicit(&c->is_frozen, memory_order_relaxed);
    double ppm = knob_read(b->mem.knobs, KNOB_FLEET_SHARE_PCT, p->route) * 1e4;
    return !is_held && fabs(ppm - p->said_ppm) > 1.5;
}

static void take_part(struct brain *b, struct part *p, uint64_t now_us)
{
    struct brain_fleet *f = b->fleet;
    const char *service = b->mem.services[p->service].name;
    uint32_t ppm = fleet_share_of(f->view, service, p->limit);
    /* own reports that come back renew the lease of the brain before this one */
    if (f->resume_until_us && now_us < f->resume_until_us)
        f->resume_until_us = fb_max_u64(f->resume_until_us, fleet_lease_end_us(f->view, service));
    bool is_resuming = now_us < f->resume_until_us && !fleet_heeded(f->view, service, p->limit);
    bool is_lost = now_us >= p->said_us + SAY_AGAIN_US && is_refused(b, p);
    if ((ppm == p->said_ppm && !is_lost) || is_resuming)
        return;
    struct ev_fleet_share ev = EV_INIT(FLEET_SHARE, fleet_share, now_us);
    ev.route = p->route;
    ev.nodes = 1;
    ev.share_ppm = ppm;
    ev.limit = p->limit;
    ev.own_per_s = ev.all_per_s = asked_per_s(b, p->route);
    ev.limit_per_s = (double)p->limit_milli / 1e3;
    if (fleet_decision_of(f->view, service, p->limit, &f->decision)) {
        ev.nodes = (uint16_t)f->decision.count;
        ev.controller = f->decision.controller;
        ev.all_per_s = 0;
        for (uint32_t i = 0; i < f->decision.count; i++)
            ev.all_per_s += f->decision.shares[i].asked_milli / 1e3;
    }
    p->said_ppm = ppm;
    p->said_us = now_us;
    brain_say(b, &ev.head);
}

/* So that the gateway, and the next brain, know how long the parts hold if this one dies. */
static void tell_lease(struct brain *b, uint64_t now_us)
{
    struct brain_fleet *f = b->fleet;
    uint64_t end_us = f->part_count ? UINT64_MAX : 0;
    for (size_t i = 0; i < f->part_count; i++)
        end_us = fb_min_u64(end_us,
                            fleet_lease_end_us(f->view, b->mem.services[f->parts[i].service].name));
    if (end_us == 0 && now_us < f->resume_until_us)
        return; /* what the last brain said */
    atomic_store_explicit(&b->mem.head->fleet_lease_end_us, end_us, memory_order_relaxed);
}

/* A Unix socket of the same path is another endpoint on each node: what those have there is no load
 * of ours. */
static bool is_of_all(const struct memfile_name *n)
{
    return strstr(n->name, " unix:") == NULL;
}

static void spread_load(struct brain *b)
{
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++) {
        const struct memfile_name *n = &b->mem.endpoints[i];
        uint32_t others = 0;
        if (atomic_load_explicit(&n->is_used, memory_order_acquire) &&
            n->parent < KNOB_TARGETS_MAX && is_of_all(n)) {
            const char *service = b->mem.services[n->parent].name;
            uint64_t sum_us,
                count = fleet_others_answers(b->fleet->view, service, n->name, &sum_us);
            others = fleet_others_in_flight(b->fleet->view, service, n->name);
            memfile_answers_add(&b->mem.gauges[i].others_answers, count, sum_us);
        }
        atomic_store_explicit(&b->mem.gauges[i].others, others, memory_order_relaxed);
    }
}

void brain_fleet_tick(struct brain *b, uint64_t now_us)
{
    struct brain_fleet *f = b->fleet;
    if (!f || !f->link)
        return;
    struct taking t = {b, now_us, fb_wall_us()};
    fleet_link_take(f->link, take_one, &t);
    fleet_tick(f->view, now_us);
    if (f->part_count == 0)
        find_parts(b); /* the gateway may not have named its routes yet */
    /* before the reports say that it was heeded */
    for (size_t i = 0; i < f->part_count; i++)
        take_part(b, &f->parts[i], now_us);
    report_all(b, false);
    while (fleet_decide(f->view, now_us, &f->decision)) {
        f->decision.epoch = b->epoch;
        f->decision.wall_us = t.wall_us;
        buf_clear(&f->message);
        fleet_decision_write(&f->decision, &f->message);
        send_message(f, f->decision.service);
    }
    tell_lease(b, now_us);
    spread_load(b);
    if (b->tick % 10 == 0)
        save_members(b);
    struct fleet_state state;
    fleet_state_read(f->view, &state);
    watch(b, &state, now_us);
}

/* ---- what it says ---- */

static void put_id(struct json *j, const char *key, uint64_t id)
{
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)id);
    json_key_str(j, key, text);
}

static void put_node(const struct fleet_node_view *n, uint64_t now_us, struct json *j)
{
    json_object_begin(j);
    put_id(j, "node", n->node);
    json_key_str(j, "name", n->name);
    json_key_str(j, "role", n->role == FLEET_ROLE_EDGE ? "edge" : "gateway");
    json_key_str(j, "region", n->region);
    json_key_u64(j, "epoch", n->epoch);
    json_key_bool(j, "is_self", n->is_self);
    json_key_bool(j, "is_live", n->is_live);
    json_key_bool(j, "has_left", n->has_left);
    json_key_f64(j, "silent_s", (double)fb_sub_floor_u64(now_us, n->heard_us) / 1e6);
    json_object_end(j);
}

static void put_service(const struct fleet_service_view *s, struct json *j)
{
    json_object_begin(j);
    json_key_str(j, "service", s->service);
    put_id(j, "controller", s->controller);
    json_key_u64(j, "nodes", s->nodes);
    json_key_f64(j, "rate", s->per_s);
    json_key_f64(j, "late_rate", s->late_per_s);
    json_key_f64(j, "failed_rate", s->failed_per_s);
    json_key_f64(j, "shed_rate", s->shed_per_s);
    json_key_u64(j, "in_flight", s->in_flight);
    json_key_u64(j, "queued", s->queued);
    json_key_f64(j, "latency_p50_ms", s->p50_us / 1e3);
    json_key_f64(j, "latency_p99_ms", s->p99_us / 1e3);
    json_key_u64(j, "samples", s->samples);
    json_object_end(j);
}

static void put_limit(const struct brain *b, const struct fleet_decision *d, struct json *j)
{
    const struct brain_fleet *f = b->fleet;
    const char *route = "";
    for (size_t i = 0; i < f->part_count; i++)
        if (f->parts[i].limit == d->limit)
            route = b->mem.routes[f->parts[i].route].name;
    json_object_begin(j);
    json_key_str(j, "service", d->service);
    json_key_str(j, "route", route);
    put_id(j, "controller", d->controller);
    json_key_u64(j, "sequence", d->sequence);
    json_key(j, "shares");
    json_array_begin(j);
    for (uint32_t i = 0; i < d->count; i++) {
        json_object_begin(j);
        put_id(j, "node", d->shares[i].node);
        json_key_f64(j, "share_pct", d->shares[i].share_ppm / 1e4);
        json_key_f64(j, "asked_rate", d->shares[i].asked_milli / 1e3);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

void brain_on_fleet(void *ctx, struct json *j)
{
    struct brain *b = ctx;
    struct brain_fleet *f = b->fleet;
    uint64_t now_us = fb_mono_us();
    bool is_on = f && f->link;
    json_object_begin(j);
    json_key_bool(j, "is_on", is_on);
    put_id(j, "node", b->mem.head->node_id);
    struct fleet_state s = {0};
    struct fleet_link_state link = {0};
    if (is_on) {
        fleet_state_read(f->view, &s);
        fleet_link_state_read(f->link, &link);
    }
    json_key_str(j, "state",
                 !is_on              ? "off"
                 : s.is_autonomous   ? "autonomous"
                 : f->joined_us == 0 ? "joining"
                                     : "joined");
    json_key_str(j, "connector", is_on ? f->conf->p.fleet_connector : "");
    json_key_u64(j, "nodes_live", s.nodes_live);
    json_key_u64(j, "nodes_known", s.nodes_known);
    json_key_f64(j, "cut_s", s.cut_since_us ? (double)(now_us - s.cut_since_us) / 1e6 : 0);
    json_key_f64(j, "round_trip_ms", is_on ? (double)f->round_trip_us / 1e3 : NAN);
    json_key_u64(j, "reports_heard", s.reports_heard);
    json_key_u64(j, "decisions_heard", s.decisions_heard);
    json_key_u64(j, "decisions_late", s.decisions_late);
    json_key_u64(j, "decisions_made", s.decisions_made);
    json_key_f64(j, "lease_s", is_on ? (double)lease_us(f) / 1e6 : 0);
    json_key_f64(j, "safe_pct", is_on ? safe_ppm(f) / 1e4 : 100);
    json_key_u64(j, "sent", link.sent);
    json_key_u64(j, "sent_bytes", link.sent_bytes);
    json_key_u64(j, "heard_bytes", link.heard_bytes);
    json_key_u64(j, "dropped", link.dropped);
    json_key_str(j, "last_error", link.last_error);
    json_key(j, "nodes");
    json_array_begin(j);
    struct fleet_node_view node;
    for (uint32_t i = 0; is_on && fleet_node_at(f->view, i, &node); i++)
        put_node(&node, now_us, j);
    json_array_end(j);
    json_key(j, "services");
    json_array_begin(j);
    struct fleet_service_view sv;
    for (uint32_t i = 0; is_on && fleet_service_at(f->view, i, &sv); i++)
        put_service(&sv, j);
    json_array_end(j);
    json_key(j, "limits");
    json_array_begin(j);
    for (uint32_t i = 0; is_on && fleet_limit_at(f->view, i, &f->decision); i++)
        put_limit(b, &f->decision, j);
    json_array_end(j);
    json_object_end(j);
}
