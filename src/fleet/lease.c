/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/lease.h"

#include <string.h>

#define CHANGE_PER 50 /* a share that moved by less than 2 % of an even one is not news */

static struct holding *holding_find(struct fleet_limit *l, uint64_t node)
{
    for (uint32_t i = 0; i < l->holding_count; i++)
        if (l->holdings[i].node == node)
            return &l->holdings[i];
    return NULL;
}

static struct holding *holding_get(struct fleet_limit *l, uint64_t node,
                                   const struct holding *fresh)
{
    struct holding *h = holding_find(l, node);
    if (h || l->holding_count == FLEET_NODES_MAX)
        return h;
    h = &l->holdings[l->holding_count++];
    *h = *fresh;
    h->node = node;
    return h;
}

/* What it may use now at most. */
static uint32_t held_ppm(const struct holding *h, const struct fleet_lease *own, uint64_t now_us)
{
    uint64_t silent_us = fb_sub_floor_u64(now_us, h->heard_us);
    if (h->has_left || silent_us >= fb_max_u64(own->forget_us, h->lease_us + own->grace_us))
        return 0;
    if (silent_us >= h->lease_us + own->grace_us)
        return fb_min_u32(h->ppm, h->safe_ppm);
    return h->ppm;
}

void fleet_limit_hear(struct fleet_limit *l, const struct fleet_report *r,
                      const struct fleet_demand *dm, const struct fleet_lease *own, uint64_t now_us)
{
    struct holding fresh = {.heard_us = now_us};
    struct holding *h = holding_get(l, r->node, &fresh);
    if (!h)
        return;
    h->ppm = held_ppm(h, own, now_us); /* a lease that was over stays so */
    /* until it has taken in all that was decided, it may hold any of it */
    bool has_all =
        l->in_force.sequence && dm->heeded >= fb_max_u64(l->in_force.sequence, l->published);
    /* up to its safe part also by one that is not known here any more */
    uint32_t may_ppm = fb_max_u32(dm->share_ppm, r->safe_ppm);
    h->ppm = has_all ? dm->share_ppm : fb_max_u32(h->ppm, may_ppm);
    if (r->is_leaving)
        h->ppm = 0;
    h->said_ppm = dm->share_ppm;
    h->heard_us = now_us;
    h->heeded = dm->heeded;
    h->lease_us = r->lease_ms * US_PER_MS;
    h->safe_ppm = r->safe_ppm;
    h->has_left = r->is_leaving;
}

/* One that does not hold here may hold at nodes that have just started, or were cut off. */
static void note_grants(struct fleet_limit *l, const struct fleet_decision *d,
                        const struct fleet_lease *own, uint64_t now_us)
{
    struct holding fresh = {
        .heard_us = now_us, .lease_us = own->lease_us, .safe_ppm = own->safe_ppm};
    for (uint32_t i = 0; i < d->count; i++) {
        /* it said nothing yet: that somebody gave it a part that never held is not its word */
        fresh.said_ppm = fb_min_u32(d->shares[i].share_ppm, own->safe_ppm);
        struct holding *h = holding_get(l, d->shares[i].node, &fresh);
        if (h)
            h->ppm = fb_max_u32(h->ppm, d->shares[i].share_ppm);
    }
}

/* One decision may be said twice, with other shares, when the broker is slow: its author knows of
 * both, and both count as given. */
static uint64_t id_of(const struct fleet_decision *d)
{
    uint64_t id = (d->controller ^ (uint64_t)d->epoch << 32) * UINT64_C(0xff51afd7ed558ccd) ^
                  d->sequence * UINT64_C(0x9e3779b97f4a7c15);
    return id ? id : 1;
}

bool fleet_limit_heed(struct fleet_limit *l, const struct fleet_decision *d,
                      const struct fleet_lease *own, bool is_leased, uint64_t now_us)
{
    note_grants(l, d, own, now_us);
    /* who has just started cannot tell a decision that waited for long on its author's way from a
     * new one; the author of the one after it has heard it in the log's order */
    bool is_sure = is_leased && l->last_id;
    /* its author knew nothing of what the one before it has just given */
    bool is_blind = l->last_id && d->after != l->last_id;
    l->last_id = id_of(d);
    if (is_blind || d->sequence <= l->in_force.sequence)
        return false;
    if (l->in_force.sequence == 0) {
        l->first_sequence = d->sequence;
        l->first_us = now_us;
    }
    l->in_force = *d;
    l->heeded_us = now_us;
    if (d->sequence >= l->published)
        l->published = 0;
    uint32_t had_ppm = l->is_given ? l->own_ppm : own->safe_ppm;
    uint32_t own_ppm = fb_min_u32(had_ppm, own->safe_ppm); /* of one that is not listed */
    for (uint32_t i = 0; i < d->count; i++)
        if (d->shares[i].node == own->node)
            own_ppm = is_sure ? d->shares[i].share_ppm
                              : fb_min_u32(d->shares[i].share_ppm, own->safe_ppm);
    l->own_ppm = own_ppm;
    l->is_given = true;
    return true;
}

void fleet_limit_tick(struct fleet_limit *l, const struct fleet_lease *own, bool is_leased,
                      uint64_t now_us)
{
    if (!is_leased)
        l->own_ppm = fb_min_u32(l->own_ppm, own->safe_ppm);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->holding_count; i++) {
        const struct holding *h = &l->holdings[i];
        bool is_fresh = now_us < h->heard_us + own->grace_us; /* it may list the limit again */
        if (is_fresh || held_ppm(h, own, now_us) > 0)
            l->holdings[kept++] = *h;
    }
    l->holding_count = kept;
}

/* ---- deciding ---- */

bool fleet_limit_is_ready(const struct fleet_limit *l, const struct fleet_lease *own,
                          uint64_t now_us)
{
    if (l->in_force.sequence == 0)
        return false;
    if (now_us >= l->first_us + own->lease_us + own->grace_us)
        return true;
    for (uint32_t i = 0; i < l->holding_count; i++) {
        const struct holding *h = &l->holdings[i];
        /* before the first of all there is none that it could have heard instead */
        if (l->first_sequence > 1 && h->heeded < l->first_sequence && held_ppm(h, own, now_us) > 0)
            return false;
    }
    return true;
}

/* A node that was not there when the last decision was made knows nothing of those who are silent.
 * Where no live node holds a part, and none is missing, a fleet starts; else what silent ones hold
 * is over once their leases are. */
static bool knows_enough(const struct fleet_limit *l, const struct fleet_asked *in,
                         const struct fleet_lease *own, uint64_t now_us)
{
    bool is_first = l->in_force.sequence == 0;
    if (!is_first && now_us < l->heeded_us + in->decide_us)
        return false;
    if (now_us >= in->joined_us + own->lease_us + own->grace_us)
        return true;
    if (!is_first && !fleet_limit_is_ready(l, own, now_us))
        return false;
    for (uint32_t i = 0; i < in->count; i++)
        if (in->askers[i].heeded > l->in_force.sequence ||
            (is_first && in->askers[i].share_ppm > own->safe_ppm))
            return false;
    return !is_first || (in->is_all_there && now_us >= in->joined_us + in->decide_us / 2);
}

static bool is_asker(const struct fleet_asked *in, uint64_t node)
{
    for (uint32_t i = 0; i < in->count; i++)
        if (in->askers[i].node == node)
            return true;
    return false;
}

static uint32_t share_in(const struct fleet_decision *d, uint64_t node)
{
    for (uint32_t i = 0; i < d->count; i++)
        if (d->shares[i].node == node)
            return d->shares[i].share_ppm;
    return 0;
}

/* Somebody did not hear the last decision, or had no lease when it came. */
static bool was_missed(const struct fleet_limit *l, const struct fleet_asked *in)
{
    for (uint32_t i = 0; i < in->count; i++) {
        const struct asker *a = &in->askers[i];
        if (a->heeded < l->in_force.sequence || a->share_ppm < share_in(&l->in_force, a->node) / 2)
            return true;
    }
    return false;
}

static bool is_news(const struct fleet_limit *l, const struct fleet_decision *d)
{
    if (l->last_count != d->count)
        return true;
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t was = l->last[i].share_ppm, is = d->shares[i].share_ppm;
        if (l->last[i].node != d->shares[i].node ||
            (uint64_t)(was > is ? was - is : is - was) * d->count * CHANGE_PER >= FLEET_SHARE_ALL)
            return true;
    }
    return false;
}

/* What one that has not taken in the last decision may be given while too much may be held: what it
 * said may be old, its lease over, and what it had given to another; nor more than it has then. */
static uint32_t unheard_ppm(const struct fleet_limit *l, uint64_t node, uint32_t said_ppm,
                            const struct fleet_lease *own)
{
    uint32_t ppm = fb_min_u32(said_ppm, own->safe_ppm), given_ppm = share_in(&l->in_force, node);
    return given_ppm ? fb_min_u32(ppm, given_ppm) : ppm;
}

/* Those who ask divide what the silent ones may hold.  More may be held than there is, when what
 * two halves of a fleet decided apart meets: then nobody gets more than he said that he has,
 * neither those who ask nor those who are silent and may hear it, until all have heard.  A silent
 * one, and one that has not taken in the last decision, gets its safe part at most then. */
static void divide(struct fleet_limit *l, const struct fleet_asked *in,
                   const struct fleet_lease *own, struct fleet_decision *d, uint64_t now_us)
{
    uint32_t in_force_ppm[FLEET_NODES_MAX], whole_ppm = FLEET_SHARE_ALL;
    uint64_t held_sum_ppm = 0;
    for (uint32_t i = 0; i < l->holding_count; i++) {
        uint32_t ppm = held_ppm(&l->holdings[i], own, now_us);
        held_sum_ppm += ppm;
        if (!is_asker(in, l->holdings[i].node))
            whole_ppm -= fb_min_u32(ppm, whole_ppm);
    }
    bool is_too_much = held_sum_ppm > FLEET_SHARE_ALL;
    for (d->count = 0; d->count < in->count; d->count++) {
        const struct asker *a = &in->askers[d->count];
        const struct holding *h = holding_find(l, a->node);
        in_force_ppm[d->count] = h ? h->ppm : a->share_ppm;
        d->shares[d->count] = (struct fleet_share){a->node, 0, a->asked_milli};
    }
    fleet_divide(d->shares, d->count, in->whole_milli, whole_ppm);
    fleet_step(d->shares, in_force_ppm, d->count, whole_ppm);
    for (uint32_t i = 0; i < in->count && is_too_much; i++) {
        const struct asker *a = &in->askers[i];
        bool is_current = a->heeded >= l->in_force.sequence;
        uint32_t most_ppm = is_current ? a->share_ppm : unheard_ppm(l, a->node, a->share_ppm, own);
        d->shares[i].share_ppm = fb_min_u32(d->shares[i].share_ppm, most_ppm);
    }
    uint32_t left_ppm = FLEET_SHARE_ALL - whole_ppm;
    for (uint32_t i = 0; i < l->holding_count && d->count < FLEET_NODES_MAX; i++) {
        const struct holding *h = &l->holdings[i];
        uint32_t ppm = fb_min_u32(held_ppm(h, own, now_us), left_ppm);
        if (is_asker(in, h->node) || ppm == 0)
            continue;
        left_ppm -= ppm;
        if (is_too_much)
            ppm = fb_min_u32(ppm, unheard_ppm(l, h->node, h->said_ppm, own));
        d->shares[d->count++] = (struct fleet_share){h->node, ppm, 0};
    }
}

bool fleet_limit_decide(struct fleet_limit *l, const struct fleet_asked *in,
                        const struct fleet_lease *own, struct fleet_decision *d, uint64_t now_us)
{
    bool has_decided = l->decided_us != 0;
    uint64_t rest_us = l->published ? 3 * in->decide_us : in->decide_us; /* it may come yet */
    if (in->count == 0 || (has_decided && now_us < l->decided_us + rest_us) ||
        !knows_enough(l, in, own, now_us))
        return false;
    divide(l, in, own, d, now_us);
    bool is_due = !has_decided || now_us >= l->decided_us + in->refresh_us ||
                  l->in_force.controller != d->controller || was_missed(l, in);
    if (!is_due && !is_news(l, d))
        return false;
    /* that after the last one, even when an own one was lost: whoever decided meanwhile has it */
    uint64_t highest = l->in_force.sequence;
    for (uint32_t i = 0; i < in->count; i++)
        highest = fb_max_u64(highest, in->askers[i].heeded);
    l->decided_us = now_us;
    l->published = d->sequence = highest + 1;
    d->after = l->last_id;
    for (uint32_t i = 0; i < d->count; i++) {
        struct holding *h = holding_find(l, d->shares[i].node);
        if (h)
            h->ppm = fb_max_u32(h->ppm, d->shares[i].share_ppm);
    }
    memcpy(l->last, d->shares, d->count * sizeof *l->last);
    l->last_count = d->count;
    return true;
}
