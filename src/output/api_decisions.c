/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/decisions and /v1/decisions/{id}. */
#include "output/admin_int.h"

void api_run_decisions(struct api_call *c);
void api_run_decision(struct api_call *c);

static uint16_t service_of(const struct admin *a, const struct ev_decision *d)
{
    const struct memfile *m = a->source.memfile;
    if (d->target >= KNOB_TARGETS_MAX)
        return EV_NONE;
    if (d->target_kind == EV_KIND_SERVICE)
        return d->target;
    if (d->target_kind == EV_KIND_ROUTE)
        return m->routes[d->target].parent;
    return d->target_kind == EV_KIND_ENDPOINT ? m->endpoints[d->target].parent : EV_NONE;
}

void api_run_decisions(struct api_call *c)
{
    struct admin *a = c->admin;
    char name[120];
    uint64_t limit = 100, since_s = 0, limits[2] = {1, ADMIN_DECISIONS_MAX}, ages[2] = {1, 86400};
    uint16_t service = EV_NONE, loop = EV_NONE;
    if (!api_query_u64(c, "limit", limits, &limit) || !api_query_u64(c, "since", ages, &since_s))
        return;
    if (api_query(c, "service", name, sizeof name) &&
        (service = api_target(a, EV_KIND_SERVICE, name)) == EV_NONE) {
        api_fail_unknown(c, "there is no service \"%s\"", name);
        return;
    }
    if (api_query(c, "loop", name, sizeof name) &&
        (loop = loop_by_name(span_of(name))) == EV_NONE) {
        api_fail(c, FB_E_NOT_FOUND, "there is no loop \"%s\"", name);
        return;
    }
    uint64_t oldest_us =
        since_s ? fb_sub_floor_u64(timeline_wall_us(&a->timeline, a->now_us), since_s * US_PER_S)
                : 0;
    uint64_t count = 0;
    const struct timeline_entry *e;
    json_object_begin(&c->j);
    json_key_u64(&c->j, "total", a->timeline.count);
    json_key(&c->j, "decisions");
    json_array_begin(&c->j);
    for (uint64_t i = 0; count < limit && (e = timeline_at(&a->timeline, i)) != NULL; i++) {
        if ((service != EV_NONE && service_of(a, &e->decision) != service) ||
            (loop != EV_NONE && e->decision.loop != loop) || e->wall_us < oldest_us)
            continue;
        put_decision(&c->j, a, e, true);
        count++;
    }
    json_array_end(&c->j);
    json_object_end(&c->j);
}

void api_run_decision(struct api_call *c)
{
    uint64_t id = 0;
    const struct timeline_entry *e =
        span_to_u64(span_of(c->param[0]), &id) ? timeline_find(&c->admin->timeline, id) : NULL;
    if (!e)
        api_fail(c, FB_E_NOT_FOUND,
                 "decision \"%s\" is not among the last %d; older ones are in the log: "
                 "`foldback events tail --type decision --from-offset 0`",
                 c->param[0], ADMIN_DECISIONS_MAX);
    else
        put_decision(&c->j, c->admin, e, true);
}
