/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/view.h"

#include "base/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PANE_US (10 * US_PER_S)

struct node {
    uint64_t id, heard_us;
    uint32_t epoch;
    uint8_t role;
    bool is_live, has_left;
    char region[FLEET_REGION_BYTES], name[FLEET_NODE_BYTES];
};

/* What one node last said of one service. */
struct load {
    uint64_t name; /* hash of the endpoint's */
    uint32_t in_flight;
};
struct voice {
    uint64_t node, sequence, heard_us;
    uint32_t epoch, span_us;
    uint32_t requests, late, failed, shed, queued;
    uint64_t in_flight;
    uint32_t load_count, load_cap, demand_count;
    bool has_members, is_ready;
    struct load *loads;
    struct fleet_demand demands[FLEET_DEMANDS_MAX];
    bool is_counted; /* its loads are in the sums */
};

/* Sum over the other nodes, by endpoint: open addressing, <name> 0 is free. */
struct seat {
    uint64_t name, in_flight, answers, answers_us; /* <answers> not asked for yet */
    uint32_t voices, reserved;
};

struct service {
    char name[FLEET_NAME_BYTES];
    uint64_t hash;
    struct voice *voices; /* by node id, ascending */
    uint32_t voice_count, voice_cap;
    struct seat *seats;
    uint32_t seat_cap, seat_used; /* powers of two; used: with a name */
    struct sketch pane[2];        /* latency: the present 10 s and those before */
    uint64_t pane_end_us;
    uint64_t own_sent_us, lease_end_us; /* of the last own report that came back */
};

struct fleet_view {
    struct fleet_conf conf;
    struct node nodes[FLEET_NODES_MAX]; /* by id, ascending */
    uint32_t node_count;
    struct service *services[FLEET_SERVICES_MAX];
    uint32_t service_count;
    struct fleet_limit *limits[FLEET_LIMITS_MAX];
    uint32_t limit_count;
    uint32_t decide_service, decide_demand; /* where fleet_decide goes on */
    uint64_t start_us, returned_us, joined_us, cut_since_us;
    uint64_t reports_heard, reports_refused, decisions_heard, decisions_late, decisions_made;
    uint32_t epoch;
    uint64_t remembered[FLEET_NODES_MAX]; /* of the last run */
    uint32_t remembered_count;
};

static struct fleet_limit *limit_get(struct fleet_view *v, const char *service, uint64_t id);
static void forget_loads(struct service *sv, struct voice *vo);

/* The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
 * 2014). */
static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a ^ (b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t hash_text(const char *text)
{
    uint64_t h = 0;
    for (; *text; text++)
        h = mix(h, (unsigned char)*text);
    return h ? h : 1;
}

void fleet_conf_init(struct fleet_conf *conf)
{
    *conf = (struct fleet_conf){.silent_us = 1500 * US_PER_MS,
                                .old_us = 30 * US_PER_S,
                                .cut_us = 3 * US_PER_S,
                                .decide_us = US_PER_S,
                                .refresh_us = 10 * US_PER_S,
                                .lease = {.lease_us = 300 * US_PER_S,
                                          .grace_us = 10 * US_PER_S,
                                          .forget_us = 600 * US_PER_S,
                                          .safe_ppm = FLEET_SHARE_ALL / 200}};
}

void fleet_view_lease(struct fleet_view *v, uint64_t lease_us, uint32_t safe_ppm)
{
    v->conf.lease.lease_us = lease_us;
    v->conf.lease.forget_us = fb_max_u64(v->conf.lease.forget_us, 2 * lease_us);
    v->conf.lease.safe_ppm = safe_ppm;
}

void fleet_view_region(struct fleet_view *v, const char *region)
{
    memset(v->conf.region, 0, sizeof v->conf.region);
    memcpy(v->conf.region, region, strnlen(region, sizeof v->conf.region - 1));
}

struct fleet_view *fleet_view_new(const struct fleet_conf *conf)
{
    fb_assert(conf->node != 0);
    struct fleet_view *v = calloc(1, sizeof *v);
    if (v) {
        v->conf = *conf;
        v->conf.lease.node = conf->node;
    }
    return v;
}

void fleet_view_free(struct fleet_view *v)
{
    if (!v)
        return;
    for (uint32_t i = 0; i < v->service_count; i++) {
        struct service *sv = v->services[i];
        for (uint32_t k = 0; k < sv->voice_count; k++)
            free(sv->voices[k].loads);
        free(sv->voices);
        free(sv->seats);
        free(sv);
    }
    for (uint32_t i = 0; i < v->limit_count; i++)
        free(v->limits[i]);
    free(v);
}

void fleet_remember(struct fleet_view *v, const uint64_t *ids, uint32_t count)
{
    v->remembered_count = fb_min_u32(count, FLEET_NODES_MAX);
    memcpy(v->remembered, ids, v->remembered_count * sizeof *ids);
}

uint32_t fleet_members(const struct fleet_view *v, uint64_t ids[FLEET_NODES_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->limit_count; i++) {
        const struct fleet_decision *d = &v->limits[i]->in_force;
        for (uint32_t k = 0; k < d->count; k++) {
            uint32_t at = 0;
            while (at < count && ids[at] != d->shares[k].node)
                at++;
            if (at == count && count < FLEET_NODES_MAX)
                ids[count++] = d->shares[k].node;
        }
    }
    return count;
}

/* ---- nodes ---- */

static struct node *node_find(struct fleet_view *v, uint64_t id, bool is_new)
{
    uint32_t at = 0;
    while (at < v->node_count && v->nodes[at].id < id)
        at++;
    if (at < v->node_count && v->nodes[at].id == id)
        return &v->nodes[at];
    if (!is_new || v->node_count == FLEET_NODES_MAX)
        return NULL;
    memmove(&v->nodes[at + 1], &v->nodes[at], (v->node_count - at) * sizeof *v->nodes);
    v->node_count++;
    v->nodes[at] = (struct node){.id = id};
    return &v->nodes[at];
}

static bool is_live(const struct fleet_view *v, uint64_t id)
{
    if (id == v->conf.node)
        return true;
    for (uint32_t i = 0; i < v->node_count; i++)
        if (v->nodes[i].id == id)
            return v->nodes[i].is_live;
    return false;
}

/* ---- services ---- */

static struct service *service_find(const struct fleet_view *v, const char *name)
{
    uint64_t hash = hash_text(name);
    for (uint32_t i = 0; i < v->service_count; i++)
        if (v->services[i]->hash == hash && strcmp(v->services[i]->name, name) == 0)
            return v->services[i];
    return NULL;
}

static struct service *service_get(struct fleet_view *v, const char *name, uint64_t now_us)
{
    struct service *sv = service_find(v, name);
    if (sv || v->service_count == FLEET_SERVICES_MAX)
        return sv;
    sv = calloc(1, sizeof *sv);
    if (!sv)
        return NULL;
    memcpy(sv->name, name, strlen(name) + 1);
    sv->hash = hash_text(name);
    sv->pane_end_us = now_us + PANE_US;
    v->services[v->service_count++] = sv;
    return sv;
}

static struct voice *voice_get(struct service *sv, uint64_t node)
{
    uint32_t at = 0;
    while (at < sv->voice_count && sv->voices[at].node < node)
        at++;
    if (at < sv->voice_count && sv->voices[at].node == node)
        return &sv->voices[at];
    if (sv->voice_count == sv->voice_cap) {
        uint32_t cap = sv->voice_cap ? sv->voice_cap * 2 : 4;
        struct voice *wider = realloc(sv->voices, cap * sizeof *wider);
        if (!wider)
            return NULL;
        sv->voices = wider;
        sv->voice_cap = cap;
    }
    memmove(&sv->voices[at + 1], &sv->voices[at], (sv->voice_count - at) * sizeof *sv->voices);
    sv->voice_count++;
    sv->voices[at] = (struct voice){.node = node};
    return &sv->voices[at];
}

/* ---- load per endpoint ---- */

static struct seat *seat_probe(struct seat *seats, uint32_t cap, uint64_t name)
{
    uint32_t at = (uint32_t)name & (cap - 1);
    while (seats[at].name && seats[at].name != name)
        at = (at + 1) & (cap - 1);
    return &seats[at];
}

/* Twice the room of the seats that somebody still speaks of. */
static bool seats_widen(struct service *sv)
{
    uint32_t used = 0, cap = 16;
    for (uint32_t i = 0; i < sv->seat_cap; i++)
        used += sv->seats[i].voices > 0;
    while (cap < 4 * (used + 1))
        cap *= 2;
    struct seat *wider = calloc(cap, sizeof *wider);
    if (!wider)
        return false;
    for (uint32_t i = 0; i < sv->seat_cap; i++)
        if (sv->seats[i].voices)
            *seat_probe(wider, cap, sv->seats[i].name) = sv->seats[i];
    free(sv->seats);
    sv->seats = wider;
    sv->seat_cap = cap;
    sv->seat_used = used;
    return true;
}

static bool seat_add(struct service *sv, const struct load *l)
{
    if (2 * sv->seat_used >= sv->seat_cap && !seats_widen(sv))
        return false;
    struct seat *s = seat_probe(sv->seats, sv->seat_cap, l->name);
    sv->seat_used += s->name == 0;
    s->name = l->name;
    s->in_flight += l->in_flight;
    s->voices++;
    return true;
}

static void seat_answers(struct service *sv, const struct load *l, const struct fleet_endpoint *e)
{
    struct seat *s = seat_probe(sv->seats, sv->seat_cap, l->name);
    s->answers += e->answers;
    s->answers_us += (uint64_t)e->answers * e->latency_us;
}

static void forget_loads(struct service *sv, struct voice *vo)
{
    for (uint32_t i = 0; vo->is_counted && i < vo->load_count; i++) {
        struct seat *s = seat_probe(sv->seats, sv->seat_cap, vo->loads[i].name);
        fb_assert(s->voices > 0 && s->in_flight >= vo->loads[i].in_flight);
        s->in_flight -= vo->loads[i].in_flight;
        s->voices--;
    }
    vo->load_count = 0;
    vo->in_flight = 0;
    vo->is_counted = false;
}

static bool take_loads(struct service *sv, struct voice *vo, const struct fleet_report *r,
                       bool is_counted, bool is_near)
{
    forget_loads(sv, vo);
    if (r->endpoint_count > vo->load_cap) {
        struct load *wider = realloc(vo->loads, r->endpoint_count * sizeof *wider);
        if (!wider)
            return false;
        vo->loads = wider;
        vo->load_cap = r->endpoint_count;
    }
    vo->is_counted = is_counted;
    for (uint32_t i = 0; i < r->endpoint_count; i++) {
        struct load l = {hash_text(r->endpoints[i].name), r->endpoints[i].in_flight};
        if (is_counted && !seat_add(sv, &l))
            return false;
        if (is_counted && is_near)
            seat_answers(sv, &l, &r->endpoints[i]);
        vo->loads[vo->load_count++] = l;
        vo->in_flight += l.in_flight;
    }
    return true;
}

/* ---- reports ---- */

bool fleet_hear(struct fleet_view *v, const struct fleet_report *r, uint64_t now_us)
{
    bool is_self = r->node == v->conf.node;
    struct node *n = node_find(v, r->node, true);
    struct service *sv = n ? service_get(v, r->service, now_us) : NULL;
    struct voice *vo = sv ? voice_get(sv, r->node) : NULL;
    bool is_old = vo && (r->epoch < vo->epoch ||
                         (r->epoch == vo->epoch && vo->heard_us && r->sequence <= vo->sequence));
    /* own ones only: the clock of another node says nothing here, and what it holds is known the
     * better the more of its reports are heard, late ones included (lease.h) */
    is_old |= is_self && fb_sub_floor_u64(now_us, r->sent_us) >= v->conf.old_us;
    if (!vo || is_old) {
        v->reports_refused++;
        return false;
    }
    n->heard_us = now_us;
    n->epoch = r->epoch;
    n->role = r->role;
    n->is_live = !r->is_leaving;
    n->has_left = r->is_leaving;
    memcpy(n->region, r->region, sizeof n->region);
    memcpy(n->name, r->name, sizeof n->name);
    if (is_self) {
        if (v->cut_since_us || !v->returned_us)
            v->joined_us = now_us;
        v->returned_us = now_us;
        v->cut_since_us = 0;
        v->epoch = r->epoch;
        sv->own_sent_us = r->sent_us;
        sv->lease_end_us = r->sent_us + r->lease_ms * US_PER_MS;
    }
    vo->epoch = r->epoch;
    vo->sequence = r->sequence;
    vo->heard_us = now_us;
    vo->span_us = r->span_us;
    vo->requests = r->requests;
    vo->late = r->late;
    vo->failed = r->failed;
    vo->shed = r->shed;
    vo->queued = r->queued;
    vo->has_members = r->has_members;
    vo->is_ready = r->is_ready;
    vo->demand_count = r->demand_count;
    memcpy(vo->demands, r->demands, r->demand_count * sizeof *vo->demands);
    for (uint32_t i = 0; i < r->demand_count; i++) {
        struct fleet_limit *l = limit_get(v, r->service, r->demands[i].limit);
        if (l)
            fleet_limit_hear(l, r, &r->demands[i], &v->conf.lease, now_us);
    }
    sketch_merge(&sv->pane[0], &r->latency);
    v->reports_heard++;
    return take_loads(sv, vo, r, !is_self, strcmp(r->region, v->conf.region) == 0);
}

static void age(struct fleet_view *v, struct service *sv, uint64_t now_us)
{
    if (now_us >= sv->pane_end_us) {
        bool is_long_ago = now_us >= sv->pane_end_us + PANE_US;
        sv->pane[1] = is_long_ago ? (struct sketch){0} : sv->pane[0];
        sv->pane[0] = (struct sketch){0};
        sv->pane_end_us = now_us + PANE_US;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sv->voice_count; i++) {
        struct voice *vo = &sv->voices[i];
        uint64_t silent_us = fb_sub_floor_u64(now_us, vo->heard_us);
        if (silent_us >= v->conf.silent_us)
            forget_loads(sv, vo);
        if (silent_us >= 3600 * US_PER_S) { /* it will not come back under this name */
            free(vo->loads);
            continue;
        }
        sv->voices[kept++] = *vo;
    }
    sv->voice_count = kept;
}

static bool is_leased(const struct fleet_view *v, const char *service, uint64_t now_us)
{
    const struct service *sv = service_find(v, service);
    return sv && now_us < sv->lease_end_us;
}

void fleet_tick(struct fleet_view *v, uint64_t now_us)
{
    if (!v->start_us)
        v->start_us = now_us;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < v->node_count; i++) {
        struct node *n = &v->nodes[i];
        uint64_t silent_us = fb_sub_floor_u64(now_us, n->heard_us);
        if (silent_us >= v->conf.silent_us)
            n->is_live = false;
        if (silent_us < 3600 * US_PER_S)
            v->nodes[kept++] = *n;
    }
    v->node_count = kept;
    for (uint32_t i = 0; i < v->service_count; i++)
        age(v, v->services[i], now_us);
    uint64_t since_us = fb_max_u64(v->returned_us, v->start_us);
    if (!v->cut_since_us && fb_sub_floor_u64(now_us, since_us) >= v->conf.cut_us)
        v->cut_since_us = since_us;
    for (uint32_t i = 0; i < v->limit_count; i++) {
        struct fleet_limit *l = v->limits[i];
        fleet_limit_tick(l, &v->conf.lease, is_leased(v, l->in_force.service, now_us), now_us);
    }
    v->decide_service = v->decide_demand = 0;
}

/* ---- who decides, and what ---- */

static const struct fleet_demand *demand_of(const struct voice *vo, uint64_t limit)
{
    for (uint32_t i = 0; i < vo->demand_count; i++)
        if (vo->demands[i].limit == limit)
            return &vo->demands[i];
    return NULL;
}

static bool may_decide(const struct fleet_view *v, uint64_t id)
{
    for (uint32_t i = 0; i < v->node_count; i++)
        if (v->nodes[i].id == id)
            return v->nodes[i].role == FLEET_ROLE_GATEWAY &&
                   (v->nodes[i].is_live || id == v->conf.node);
    return false;
}

/* The last decision that a gateway has taken in, per limit that anybody lists. */
struct heeded {
    uint64_t limit[FLEET_DEMANDS_MAX], most[FLEET_DEMANDS_MAX];
    uint32_t count;
    bool is_ready, has_members; /* of any */
};
static void heeded_most(const struct fleet_view *v, const struct service *sv, struct heeded *out)
{
    *out = (struct heeded){.count = 0};
    for (uint32_t i = 0; i < sv->voice_count; i++) {
        const struct voice *vo = &sv->voices[i];
        out->has_members |= vo->has_members && may_decide(v, vo->node);
        out->is_ready |= vo->is_ready && may_decide(v, vo->node);
        for (uint32_t k = 0; k < vo->demand_count && may_decide(v, vo->node); k++) {
            uint32_t at = 0;
            while (at < out->count && out->limit[at] != vo->demands[k].limit)
                at++;
            if (at == FLEET_DEMANDS_MAX)
                continue;
            if (at == out->count) {
                out->limit[out->count] = vo->demands[k].limit;
                out->most[out->count++] = 0;
            }
            out->most[at] = fb_max_u64(out->most[at], vo->demands[k].heeded);
        }
    }
}

/* One decision may be on its way to it; who missed more has just come, and waits. */
static bool is_behind(const struct voice *vo, const struct heeded *h)
{
    if (h->is_ready ? !vo->is_ready : h->has_members && !vo->has_members)
        return true;
    for (uint32_t i = 0; i < h->count; i++) {
        const struct fleet_demand *dm = demand_of(vo, h->limit[i]);
        uint64_t has = dm ? dm->heeded : 0;
        if (dm && has + 1 < h->most[i])
            return true;
    }
    return false;
}

static uint64_t controller_of(const struct fleet_view *v, const struct service *sv)
{
    uint64_t best = 0, best_draw = 0;
    struct heeded h;
    heeded_most(v, sv, &h);
    for (uint32_t i = 0; i < sv->voice_count; i++) {
        uint64_t id = sv->voices[i].node, draw = mix(sv->hash, id);
        if (!may_decide(v, id) || is_behind(&sv->voices[i], &h))
            continue;
        if (draw > best_draw || !best) {
            best = id;
            best_draw = draw;
        }
    }
    return best;
}

static struct fleet_limit *limit_find(const struct fleet_view *v, const char *service, uint64_t id)
{
    for (uint32_t i = 0; i < v->limit_count; i++) {
        struct fleet_limit *l = v->limits[i];
        if (l->in_force.limit == id && strcmp(l->in_force.service, service) == 0)
            return l;
    }
    return NULL;
}

static struct fleet_limit *limit_get(struct fleet_view *v, const char *service, uint64_t id)
{
    struct fleet_limit *l = limit_find(v, service, id);
    if (l || v->limit_count == FLEET_LIMITS_MAX)
        return l;
    l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->in_force.limit = id;
    memcpy(l->in_force.service, service, strlen(service) + 1);
    v->limits[v->limit_count++] = l;
    return l;
}

bool fleet_heed(struct fleet_view *v, const struct fleet_decision *d, uint64_t now_us)
{
    struct fleet_limit *l = limit_get(v, d->service, d->limit);
    v->decisions_heard++;
    if (l && fleet_limit_heed(l, d, &v->conf.lease, is_leased(v, d->service, now_us), now_us))
        return true;
    v->decisions_late++;
    return false;
}

/* The live nodes that list a limit; returns the whole of it. */
static uint64_t gather(const struct fleet_view *v, const struct service *sv, uint64_t limit,
                       struct asker *askers, uint32_t *count)
{
    uint64_t whole_milli = 0;
    *count = 0;
    for (uint32_t i = 0; i < sv->voice_count && *count < FLEET_NODES_MAX; i++) {
        const struct voice *vo = &sv->voices[i];
        const struct fleet_demand *dm = is_live(v, vo->node) ? demand_of(vo, limit) : NULL;
        if (!dm)
            continue;
        whole_milli = fb_max_u64(whole_milli, dm->limit_milli);
        askers[(*count)++] = (struct asker){vo->node, dm->heeded, dm->asked_milli, dm->share_ppm};
    }
    return whole_milli;
}

static bool is_all_there(const struct fleet_view *v)
{
    for (uint32_t i = 0; i < v->remembered_count; i++)
        if (!is_live(v, v->remembered[i]))
            return false;
    return true;
}

static bool decide_one(struct fleet_view *v, const struct service *sv, uint64_t limit,
                       struct fleet_decision *d, uint64_t now_us)
{
    struct asker askers[FLEET_NODES_MAX];
    struct fleet_limit *l = limit_get(v, sv->name, limit);
    struct fleet_asked in = {.askers = askers,
                             .joined_us = v->joined_us,
                             .decide_us = v->conf.decide_us,
                             .refresh_us = v->conf.refresh_us,
                             .is_all_there = is_all_there(v)};
    /* what comes back late may have been overtaken by what others decided */
    if (!l || now_us >= sv->own_sent_us + v->conf.silent_us)
        return false;
    *d = (struct fleet_decision){.controller = v->conf.node, .epoch = v->epoch, .limit = limit};
    memcpy(d->service, sv->name, sizeof d->service);
    in.whole_milli = gather(v, sv, limit, askers, &in.count);
    if (!fleet_limit_decide(l, &in, &v->conf.lease, d, now_us))
        return false;
    v->decisions_made++;
    return true;
}

bool fleet_decide(struct fleet_view *v, uint64_t now_us, struct fleet_decision *d)
{
    if (v->conf.role != FLEET_ROLE_GATEWAY || v->cut_since_us)
        return false;
    for (; v->decide_service < v->service_count; v->decide_service++, v->decide_demand = 0) {
        const struct service *sv = v->services[v->decide_service];
        if (controller_of(v, sv) != v->conf.node)
            continue;
        /* every limit is asked for by the node that lists it; a limit of two nodes is decided once,
         * because decide_us has not passed again */
        uint32_t at = 0;
        for (uint32_t i = 0; i < sv->voice_count; i++)
            for (uint32_t k = 0; k < sv->voices[i].demand_count; k++, at++) {
                if (at < v->decide_demand)
                    continue;
                v->decide_demand = at + 1;
                if (decide_one(v, sv, sv->voices[i].demands[k].limit, d, now_us))
                    return true;
            }
    }
    return false;
}

/* ---- what it says ---- */

uint32_t fleet_others_in_flight(const struct fleet_view *v, const char *service,
                                const char *endpoint)
{
    const struct service *sv = service_find(v, service);
    if (!sv || !sv->seat_cap)
        return 0;
    return fb_sat_u32(seat_probe(sv->seats, sv->seat_cap, hash_text(endpoint))->in_flight);
}

uint64_t fleet_others_answers(struct fleet_view *v, const char *service, const char *endpoint,
                              uint64_t *sum_us)
{
    struct service *sv = service_find(v, service);
    *sum_us = 0;
    if (!sv || !sv->seat_cap)
        return 0;
    struct seat *s = seat_probe(sv->seats, sv->seat_cap, hash_text(endpoint));
    uint64_t count = s->answers;
    *sum_us = s->answers_us;
    s->answers = s->answers_us = 0;
    return count;
}

uint32_t fleet_share_of(const struct fleet_view *v, const char *service, uint64_t limit)
{
    const struct fleet_limit *l = limit_find(v, service, limit);
    return l && l->is_given ? l->own_ppm : v->conf.lease.safe_ppm;
}

bool fleet_is_ready(const struct fleet_view *v, const char *service, uint64_t now_us)
{
    bool has_any = false;
    for (uint32_t i = 0; i < v->limit_count; i++) {
        const struct fleet_limit *l = v->limits[i];
        if (strcmp(l->in_force.service, service) != 0)
            continue;
        has_any = true;
        if (!fleet_limit_is_ready(l, &v->conf.lease, now_us))
            return false;
    }
    return has_any;
}

uint64_t fleet_heeded(const struct fleet_view *v, const char *service, uint64_t limit)
{
    const struct fleet_limit *l = limit_find(v, service, limit);
    return l ? l->in_force.sequence : 0;
}

uint64_t fleet_lease_end_us(const struct fleet_view *v, const char *service)
{
    const struct service *sv = service_find(v, service);
    return sv ? sv->lease_end_us : 0;
}

void fleet_state_read(const struct fleet_view *v, struct fleet_state *state)
{
    *state = (struct fleet_state){.nodes_live = 1,
                                  .nodes_known = 1,
                                  .is_autonomous = v->cut_since_us != 0,
                                  .has_returned = v->returned_us != 0,
                                  .cut_since_us = v->cut_since_us,
                                  .reports_heard = v->reports_heard,
                                  .reports_refused = v->reports_refused,
                                  .decisions_heard = v->decisions_heard,
                                  .decisions_late = v->decisions_late,
                                  .decisions_made = v->decisions_made};
    for (uint32_t i = 0; i < v->node_count; i++)
        if (v->nodes[i].id != v->conf.node && !v->nodes[i].has_left) {
            state->nodes_known++;
            state->nodes_live += v->nodes[i].is_live;
        }
}

bool fleet_node_at(const struct fleet_view *v, uint32_t index, struct fleet_node_view *out)
{
    if (index >= v->node_count)
        return false;
    const struct node *n = &v->nodes[index];
    *out = (struct fleet_node_view){.node = n->id,
                                    .epoch = n->epoch,
                                    .role = n->role,
                                    .heard_us = n->heard_us,
                                    .is_live = n->is_live,
                                    .has_left = n->has_left,
                                    .is_self = n->id == v->conf.node};
    memcpy(out->region, n->region, sizeof out->region);
    memcpy(out->name, n->name, sizeof out->name);
    return true;
}

bool fleet_service_at(const struct fleet_view *v, uint32_t index, struct fleet_service_view *out)
{
    if (index >= v->service_count)
        return false;
    const struct service *sv = v->services[index];
    *out = (struct fleet_service_view){.controller = controller_of(v, sv)};
    memcpy(out->service, sv->name, sizeof out->service);
    for (uint32_t i = 0; i < sv->voice_count; i++) {
        const struct voice *vo = &sv->voices[i];
        if (!is_live(v, vo->node) || !vo->span_us)
            continue;
        double per = 1e6 / vo->span_us;
        out->nodes++;
        out->per_s += vo->requests * per;
        out->late_per_s += vo->late * per;
        out->failed_per_s += vo->failed * per;
        out->shed_per_s += vo->shed * per;
        out->in_flight = fb_sat_u32((uint64_t)out->in_flight + vo->in_flight);
        out->queued += vo->queued;
    }
    struct sketch sum = sv->pane[0];
    sketch_merge(&sum, &sv->pane[1]);
    out->samples = sum.n;
    out->p50_us = sketch_quantile_us(&sum, 0.5);
    out->p99_us = sketch_quantile_us(&sum, 0.99);
    return true;
}

bool fleet_decision_of(const struct fleet_view *v, const char *service, uint64_t limit,
                       struct fleet_decision *out)
{
    const struct fleet_limit *l = limit_find(v, service, limit);
    if (!l || !l->in_force.count)
        return false;
    *out = l->in_force;
    return true;
}

bool fleet_limit_at(const struct fleet_view *v, uint32_t index, struct fleet_decision *out)
{
    for (uint32_t i = 0; i < v->limit_count; i++)
        if (v->limits[i]->in_force.count && index-- == 0) {
            *out = v->limits[i]->in_force;
            return true;
        }
    return false;
}
