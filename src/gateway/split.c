/* SPDX-License-Identifier: Apache-2.0 */
/* split: the version that a request of a route with `split` is meant for.
 *
 * Names become version numbers once per configuration; a request takes the version that its header
 * or cookie names, else the one of its user.  The gate prefers that version's endpoints and takes
 * another when none of them can (reflex/gate.h). */
#include "gateway/gateway_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

struct split_route {
    uint32_t count;
    uint16_t versions[SPLIT_VERSIONS_MAX];
    const char *names[SPLIT_VERSIONS_MAX];
    struct split_part parts[SPLIT_VERSIONS_MAX];
};

static const struct split_part *shares_now(const struct request *req, const struct split_route *s,
                                           struct split_part parts[SPLIT_VERSIONS_MAX]);
static uint32_t part_of_name(const struct split_route *s, struct span name);

bool split_compile(struct generation *gen, struct gw *gw)
{
    const struct conf *conf = gen->conf;
    gen->splits = calloc(conf->route_count + 1, sizeof(struct split_route *));
    if (!gen->splits)
        return false;
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_route *r = &conf->routes[i];
        if (!r->split.count)
            continue;
        struct split_route *s = calloc(1, sizeof *s);
        if (!s)
            return false;
        gen->splits[i] = s;
        for (; s->count < r->split.count; s->count++) {
            const struct conf_split_part *p = &r->split.parts[s->count];
            char name[104];
            snprintf(name, sizeof name, "%.60s %.32s", conf->services[r->service].name, p->version);
            s->names[s->count] = p->version;
            s->versions[s->count] =
                memfile_number(gw->mem, EV_KIND_VERSION, name, gen->services[r->service]->number);
            s->parts[s->count] =
                (struct split_part){XXH3_64bits(p->version, strlen(p->version)), p->pct};
        }
    }
    return true;
}

void split_free(struct generation *gen)
{
    for (size_t i = 0; gen->splits && i < gen->conf->route_count; i++)
        free(gen->splits[i]);
    free(gen->splits);
}

void split_ticket(struct request *req, const struct http1_head *head)
{
    const struct split_route *s = req->gen->splits[req->route];
    const struct conf_route *r = &req->gen->conf->routes[req->route];
    if (!s)
        return;
    uint32_t part = s->count;
    if (r->split.header[0]) {
        const struct http1_field *f = http1_find_name(head, span_of(r->split.header));
        part = f ? part_of_name(s, f->value) : s->count;
    }
    if (part == s->count && r->split.cookie[0])
        part = part_of_name(s, place_cookie(head, span_of(r->split.cookie)));
    if (part < s->count)
        req->traits |= EV_TRAIT_BIT(SPLIT_NAMED);
    struct split_part parts[SPLIT_VERSIONS_MAX];
    const struct split_part *of = shares_now(req, s, parts);
    if (part == s->count) /* no secret seed: a user keeps his version over restarts and nodes */
        part = split_pick(of, s->count, who_hash(req, head, &r->key, 0));
    if (part < s->count && s->versions[part] != EV_NONE)
        req->ticket.wanted = (uint16_t)(s->versions[part] + 1);
}

void split_note(struct endpoint *ep)
{
    struct service *sv = ep->sv;
    uint16_t version = atomic_load_explicit(&ep->version, memory_order_relaxed);
    spin_lock(&sv->lock);
    gate_endpoint_version(sv->gate, ep->index, version);
    spin_unlock(&sv->lock);
}

/* As configured, or as the knob says: a pin of an operator, later a loop. */
static const struct split_part *shares_now(const struct request *req, const struct split_route *s,
                                           struct split_part parts[SPLIT_VERSIONS_MAX])
{
    const struct knob_table *knobs = req->worker->gw->mem->knobs;
    uint16_t number = req->gen->route_numbers[req->route];
    if (number >= KNOB_TARGETS_MAX || knob_version(knobs, KNOB_SPLIT_PCT, number) == 0)
        return s->parts;
    uint8_t from =
        atomic_load_explicit(&knobs->cell[KNOB_SPLIT_PCT][number].source, memory_order_relaxed);
    if (from != KNOB_FROM_PIN && from != KNOB_FROM_LEARNED)
        return s->parts; /* a reload is in force here before the brain has read it */
    double pct = knob_read(knobs, KNOB_SPLIT_PCT, number);
    memcpy(parts, s->parts, sizeof s->parts);
    split_move(parts, s->count, pct);
    return parts;
}

static uint32_t part_of_name(const struct split_route *s, struct span name)
{
    uint32_t i = 0;
    while (i < s->count && !span_eq(name, span_of(s->names[i])))
        i++;
    return i;
}
