/* SPDX-License-Identifier: Apache-2.0 */
/* rate: whom a request is counted for, and whether the limits of its route let it in.
 *
 * The table belongs to the process: all threads count in it, and it outlives configurations. */
#include "gateway/rules.h"

#include <math.h>
#include <stdio.h>
#include <xxhash.h>

/* Told apart in the hash, so that a header cannot pose as somebody's address. */
#define KIND_SEED UINT64_C(0x9e3779b97f4a7c15)
/* Less than the grace of fleet/lease.h. */
#define RATE_BRAIN_GONE_US (5 * US_PER_S)

static struct span address_bytes(const struct sock_addr *a, const struct conf_who *who,
                                 unsigned char out[17]);
static double share_of(const struct request *req);
static struct rate_limit limit_of(const struct conf_rate *r, double share);
static uint8_t used_pct(const struct rate_limit *l, const struct rate_verdict *v, uint8_t most);

bool rate_prepare(struct gw *gw, const struct conf *conf)
{
    for (size_t i = 0; i < conf->route_count && !gw->rates; i++)
        if (conf->routes[i].rate_count) {
            gw->rates = rate_table_new(conf->p.limits_rate_keys);
            return gw->rates != NULL;
        }
    return true;
}

uint64_t who_hash(const struct request *req, const struct http1_head *head,
                  const struct conf_who *who, uint64_t seed)
{
    struct span value = {NULL, 0};
    const struct http1_field *f = NULL;
    uint8_t by = who->by;
    if (by == CONF_WHO_ROUTE)
        return XXH3_64bits_withSeed("", 0, seed);
    if (by == CONF_WHO_HEADER)
        f = http1_find_name(head, span_of(who->name));
    else if (by == CONF_WHO_TOKEN && http1_has(head, HTTP1_H_AUTHORIZATION))
        f = http1_find(head, HTTP1_H_AUTHORIZATION);
    else if (by == CONF_WHO_COOKIE)
        value = place_cookie(head, span_of(who->name));
    if (f)
        value = f->value;
    unsigned char bytes[17];
    if (value.len == 0) { /* who does not say who he is counts by where he comes from */
        struct sock_addr forwarded;
        bool is_forwarded = who_forwarded(req, head, &forwarded);
        by = CONF_WHO_ADDRESS;
        value = address_bytes(is_forwarded ? &forwarded : &req->client->peer, who, bytes);
    }
    return XXH3_64bits_withSeed(value.at, value.len, seed + by * KIND_SEED);
}

static bool is_excepted(const struct request *req, const struct http1_head *head,
                        const struct conf_rate *rate)
{
    unsigned char address[16];
    if (FB_LIKELY(rate->except_count == 0))
        return false;
    rules_address(req, head, address);
    return conf_prefix_has(rate->except, rate->except_count, address);
}

uint16_t rate_check(struct request *req, const struct http1_head *head)
{
    const struct conf_route *r = &req->gen->conf->routes[req->route];
    struct worker *w = req->worker;
    struct gw *gw = w->gw;
    uint64_t now_us = loop_now_us(w->loop), keys[8];
    double share = r->rate_count ? share_of(req) : 1;
    uint32_t counted = 0; /* bit per limit */
    for (size_t i = 0; i < r->rate_count && gw->rates; i++) {
        const struct conf_rate *rate = &r->rates[i];
        if (is_excepted(req, head, rate))
            continue;
        struct rate_limit limit = limit_of(rate, share);
        keys[i] = who_hash(req, head, &rate->who, gw->key_seed ^ rate->id);
        struct rate_verdict v = rate_take(gw->rates, &limit, keys[i], now_us);
        if (v.has_pushed)
            atomic_fetch_add_explicit(&w->rates_pushed, 1, memory_order_relaxed);
        req->limit_used_pct = used_pct(&limit, &v, req->limit_used_pct);
        counted |= v.is_passed ? 1u << i : 0;
        if (v.is_passed)
            continue;
        /* what another limit refuses is not counted in this one */
        while (i-- > 0) {
            limit = limit_of(&r->rates[i], share);
            if (counted >> i & 1)
                rate_give(gw->rates, &limit, keys[i], now_us);
        }
        w->refusal = (struct rate_refusal){
            .rate = rate, .wait_us = v.wait_us, .reset_us = v.reset_us, .left = v.left};
        return rate->is_quota ? REASON_QUOTA_EXCEEDED : REASON_RATE_LIMITED;
    }
    return REASON_NONE;
}

/* Retry-After (RFC 9110) and draft-ietf-httpapi-ratelimit-headers-10. */
void rate_put_fields(const struct rate_refusal *refusal, struct http1_out *out)
{
    const struct conf_rate *r = refusal->rate;
    char text[160];
    uint64_t wait_s = (refusal->wait_us + US_PER_S - 1) / US_PER_S;
    http1_put_field_u64(out, SPAN("Retry-After"), fb_max_u64(wait_s, 1));
    int n = snprintf(text, sizeof text, "RateLimit-Policy: \"%.40s\";q=%llu;w=%llu\r\n", r->text,
                     (unsigned long long)r->count, (unsigned long long)(r->period_us / US_PER_S));
    http1_put(out, (struct span){text, (size_t)n});
    n = snprintf(text, sizeof text, "RateLimit: \"%.40s\";r=%llu;t=%llu\r\n", r->text,
                 (unsigned long long)refusal->left,
                 (unsigned long long)((refusal->reset_us + US_PER_S - 1) / US_PER_S));
    http1_put(out, (struct span){text, (size_t)n});
}

/* The part of the limits of its route that count over the fleet which is this node's.  Without a
 * brain it holds until its lease is over: so long nobody else uses it. */
static double share_of(const struct request *req)
{
    const struct gw *gw = req->worker->gw;
    const struct knob_table *knobs = gw->mem->knobs;
    const struct conf *conf = req->gen->conf;
    uint16_t number = req->gen->route_numbers[req->route];
    if (conf->p.fleet_connector[0] == '\0') /* alone, whatever was learned in a fleet */
        return 1;
    double safe = conf->p.fleet_safe_permille / 1000.0, share = safe;
    if (number < KNOB_TARGETS_MAX && knob_version(knobs, KNOB_FLEET_SHARE_PCT, number) != 0)
        share = knob_read(knobs, KNOB_FLEET_SHARE_PCT, number) / 100;
    uint64_t beat_us = atomic_load_explicit(&gw->mem->head->brain_beat_us, memory_order_relaxed);
    uint64_t lease_end_us =
        atomic_load_explicit(&gw->mem->head->fleet_lease_end_us, memory_order_relaxed);
    bool is_gone =
        loop_now_us(req->worker->loop) > fb_max_u64(beat_us + RATE_BRAIN_GONE_US, lease_end_us);
    return is_gone ? fmin(share, safe) : share;
}

/* A part of a bucket fills more slowly and holds less, so that what it owes is worth the same time
 * whatever the part is; a part of a quota is a smaller quota. */
static struct rate_limit limit_of(const struct conf_rate *r, double share)
{
    struct rate_limit l = {
        .count = r->count, .period_us = r->period_us, .burst = r->burst, .is_quota = r->is_quota};
    if (!r->is_fleet || share >= 1)
        return l;
    if (r->is_quota) {
        l.count = fb_max_u64((uint64_t)((double)r->count * share), 1);
    } else {
        /* far from the end of 64 bits: a gap is counted in ns, and a bucket in gaps */
        double most_us = (double)UINT64_MAX / 4000 / (double)fb_max_u64(r->burst, 1);
        l.period_us = (uint64_t)fmin((double)r->period_us / share, most_us);
        l.burst = fb_max_u64((uint64_t)((double)r->burst * share), 1);
    }
    return l;
}

/* What this request and those before it took of the limit; <most> when another was fuller. */
static uint8_t used_pct(const struct rate_limit *l, const struct rate_verdict *v, uint8_t most)
{
    uint64_t all = fb_max_u64(l->is_quota ? l->count : l->burst, 1);
    double left = v->is_passed ? (double)fb_min_u64(v->left, all) / (double)all : 0;
    return (uint8_t)fmax(most, 100 - 100 * left);
}

/* One element of X-Forwarded-For, with the port and the brackets that some proxies write. */
static bool forwarded_address(struct span one, struct sock_addr *out)
{
    struct fb_err err;
    if (sock_parse_host(one, 0, out))
        return true;
    if (one.len > 2 && one.at[0] == '[' && one.at[one.len - 1] == ']')
        return sock_parse_host((struct span){one.at + 1, one.len - 2}, 0, out);
    return one.len && one.at[0] != ':' && one.at[0] != '*' && sock_parse(one, out, &err) == FB_OK;
}

/* Behind proxies of ours the client is whom the first of them saw: each adds the address that spoke
 * to it at the end.  From there what is one of ours is passed over; what is no address ends the
 * search, for whoever stands before it could have said anything. */
bool who_forwarded(const struct request *req, const struct http1_head *head, struct sock_addr *out)
{
    const struct conf_listen *l = req->client ? req->client->listener->conf : NULL;
    bool is_found = false;
    struct span one = {NULL, 0};
    if (!req->is_forwarded || !http1_has(head, HTTP1_H_X_FORWARDED_FOR))
        return false;
    for (uint32_t i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != HTTP1_H_X_FORWARDED_FOR)
            continue;
        for (struct span rest = head->fields[i].value; http1_list_next(&rest, &one);) {
            struct sock_addr at;
            unsigned char bytes[16];
            if (!forwarded_address(one, &at)) {
                is_found = false;
                continue;
            }
            proxied_address(&at, bytes);
            if (is_found && l && conf_prefix_has(l->proxies, l->proxy_count, bytes))
                continue;
            *out = at;
            is_found = true;
        }
    }
    return is_found;
}

static struct span address_bytes(const struct sock_addr *a, const struct conf_who *who,
                                 unsigned char out[17])
{
    if (sock_is_unix(a)) { /* they have none: all together are one client */
        memset(out, 0, 17);
        return (struct span){(const char *)out, 17};
    }
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const unsigned char *at = a->v6.sin6_addr.s6_addr;
    uint32_t bits = who->v6_bits, bytes = 16;
    if (a->any.sa_family == AF_INET || memcmp(at, mapped, sizeof mapped) == 0) {
        at = a->any.sa_family == AF_INET ? (const unsigned char *)&a->v4.sin_addr : at + 12;
        bits = who->v4_bits;
        bytes = 4;
    }
    memset(out, 0, 17);
    out[16] = (unsigned char)bytes;
    memcpy(out, at, (bits + 7) / 8);
    if (bits % 8)
        out[bits / 8] &= (unsigned char)(0xff00u >> bits % 8);
    return (struct span){(const char *)out, 17};
}
