/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/cache_rules.h"

/* Heuristic freshness: a tenth of the age (RFC 9111 4.2.2), never more than a day. */
#define HEURISTIC_SHARE 10
#define HEURISTIC_MAX_S (24 * 3600)

static bool is_heuristic_status(uint16_t status);
static bool is_negative_status(uint16_t status);
static bool is_understood(uint16_t status);
static int64_t lifetime_of(const struct conf_cache *conf, const struct http1_head *answer,
                           const struct cache_directives *d, struct cache_judgement *j,
                           int64_t wall_s);

void cache_asked_read(const struct http1_head *request, struct cache_asked *out)
{
    cache_directives_read(request, &out->directives);
    out->has_authorization = http1_has(request, HTTP1_H_AUTHORIZATION);
    out->is_no_cache = (out->directives.flags & (CACHE_NO_CACHE | CACHE_NO_CACHE_FIELDS)) != 0;
    if (!http1_has(request, HTTP1_H_CACHE_CONTROL)) {
        const struct http1_field *f = http1_find_name(request, SPAN("pragma"));
        out->is_no_cache = f && span_ieq(f->value, SPAN("no-cache"));
    }
}

static int64_t date_of(const struct http1_head *answer, enum http1_header id, int64_t wall_s)
{
    const struct http1_field *f = http1_has(answer, id) ? http1_find(answer, id) : NULL;
    return f ? cache_date_parse(f->value, wall_s) : CACHE_NO_DATE;
}

static int64_t largest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Set-Cookie names one person: only an answer that says it is for all may carry it to others. */
static bool is_personal(const struct http1_head *answer, const struct cache_directives *d,
                        bool is_targeted)
{
    return http1_has(answer, HTTP1_H_SET_COOKIE) && !is_targeted && !(d->flags & CACHE_PUBLIC) &&
           d->s_maxage == CACHE_NO_SECONDS;
}

void cache_judge(const struct conf_cache *conf, const struct cache_asked *asked,
                 const struct http1_head *answer, const struct cache_moment *at,
                 struct cache_judgement *out)
{
    struct cache_directives d;
    bool is_targeted = cache_targeted_read(answer, SPAN("cdn-cache-control"), &d);
    *out = (struct cache_judgement){0};
    if (!is_targeted)
        cache_directives_read(answer, &d);
    out->date_s = date_of(answer, HTTP1_H_DATE, at->wall_s);
    out->last_modified_s = date_of(answer, HTTP1_H_LAST_MODIFIED, at->wall_s);
    int64_t date_s = out->date_s == CACHE_NO_DATE ? at->wall_s : out->date_s;
    int64_t apparent_s = largest(0, at->wall_s - date_s);
    out->age_s = largest(apparent_s, cache_age_read(answer) + at->delay_s);
    out->lifetime_s = lifetime_of(conf, answer, &d, out, at->wall_s);
    bool must = (d.flags & (CACHE_MUST_REVALIDATE | CACHE_PROXY_REVALIDATE)) != 0 ||
                d.s_maxage != CACHE_NO_SECONDS;
    if (must)
        out->flags |= CACHE_ENTRY_MUST_REVALIDATE;
    if (d.flags & CACHE_NO_CACHE)
        out->flags |= CACHE_ENTRY_NO_CACHE | CACHE_ENTRY_MUST_REVALIDATE;
    out->stale_while_revalidate_s = d.stale_while_revalidate != CACHE_NO_SECONDS
                                        ? d.stale_while_revalidate
                                        : (int64_t)(conf->stale_while_revalidate_ms / 1000);
    out->stale_if_error_s = d.stale_if_error != CACHE_NO_SECONDS
                                ? d.stale_if_error
                                : (int64_t)(conf->stale_if_error_ms / 1000);
    bool is_refused = (asked->directives.flags | d.flags) & CACHE_NO_STORE;
    if (d.flags & CACHE_MUST_UNDERSTAND) /* RFC 9111 5.2.2.3: it overrides no-store for those */
        is_refused = !is_understood(answer->status);
    is_refused |= (d.flags & CACHE_PRIVATE) != 0 || is_personal(answer, &d, is_targeted) ||
                  cache_vary_has_star(answer) || answer->status < 200 || answer->status == 206 ||
                  answer->status == 304;
    bool is_for_all = must || (d.flags & CACHE_PUBLIC) || is_targeted;
    if (asked->has_authorization && !is_for_all)
        is_refused = true;
    bool has_validator = http1_has(answer, HTTP1_H_ETAG) || out->last_modified_s != CACHE_NO_DATE;
    bool is_usable = out->lifetime_s > out->age_s ||
                     out->lifetime_s + out->stale_while_revalidate_s > out->age_s;
    bool is_worth = is_usable && !(out->flags & CACHE_ENTRY_NO_CACHE);
    if (has_validator && (is_heuristic_status(answer->status) || out->lifetime_s > 0))
        is_worth = true; /* it saves the body */
    if (out->stale_if_error_s > 0 && out->lifetime_s > 0)
        is_worth = true;
    out->is_storable = !is_refused && is_worth;
}

static int64_t lifetime_of(const struct conf_cache *conf, const struct http1_head *answer,
                           const struct cache_directives *d, struct cache_judgement *j,
                           int64_t wall_s)
{
    if (d->s_maxage != CACHE_NO_SECONDS)
        return d->s_maxage;
    if (d->max_age != CACHE_NO_SECONDS)
        return d->max_age;
    int64_t date_s = j->date_s == CACHE_NO_DATE ? wall_s : j->date_s;
    uint32_t expires = 0;
    for (uint32_t i = 0; i < answer->field_count; i++)
        expires += answer->fields[i].id == HTTP1_H_EXPIRES;
    if (expires) {
        int64_t at_s = expires == 1 ? date_of(answer, HTTP1_H_EXPIRES, wall_s) : CACHE_NO_DATE;
        return at_s == CACHE_NO_DATE ? 0 : largest(0, at_s - date_s);
    }
    bool is_open = is_heuristic_status(answer->status) || (d->flags & CACHE_PUBLIC);
    if (conf->is_heuristic && is_open && j->last_modified_s != CACHE_NO_DATE) {
        int64_t share_s = largest(0, date_s - j->last_modified_s) / HEURISTIC_SHARE;
        return share_s < HEURISTIC_MAX_S ? share_s : HEURISTIC_MAX_S;
    }
    if (is_negative_status(answer->status))
        return (int64_t)(conf->negative_ms / 1000);
    return is_heuristic_status(answer->status) ? (int64_t)(conf->ttl_ms / 1000) : 0;
}

int64_t cache_age_s(const struct cache_entry *e, uint64_t now_us)
{
    return e->age_s + (int64_t)(fb_sub_floor_u64(now_us, e->stored_us) / US_PER_S);
}

enum cache_use cache_judge_use(const struct conf_cache *conf, const struct cache_asked *asked,
                               const struct cache_entry *e, int64_t age_s)
{
    const struct cache_directives *d = &asked->directives;
    if (e->flags & CACHE_ENTRY_NO_CACHE)
        return CACHE_USE_REVALIDATE;
    int64_t fresh_s = e->lifetime_s - age_s; /* left */
    if (conf->heeds_clients) {
        if (asked->is_no_cache || (d->max_age != CACHE_NO_SECONDS && age_s > d->max_age))
            return CACHE_USE_REVALIDATE;
        if (d->max_age == 0)
            return CACHE_USE_REVALIDATE;
        if (d->min_fresh != CACHE_NO_SECONDS && fresh_s < d->min_fresh)
            return CACHE_USE_REVALIDATE;
    }
    if (fresh_s > 0)
        return CACHE_USE_FRESH;
    if (e->flags & CACHE_ENTRY_MUST_REVALIDATE)
        return CACHE_USE_REVALIDATE;
    if (conf->heeds_clients && d->max_stale != CACHE_NO_SECONDS && -fresh_s <= d->max_stale)
        return CACHE_USE_FRESH;
    return -fresh_s < e->stale_while_revalidate_s ? CACHE_USE_STALE : CACHE_USE_REVALIDATE;
}

bool cache_may_rescue(const struct conf_cache *conf, const struct cache_entry *e, int64_t age_s)
{
    (void)conf;
    return !(e->flags & (CACHE_ENTRY_MUST_REVALIDATE | CACHE_ENTRY_NO_CACHE)) &&
           age_s - e->lifetime_s <= e->stale_if_error_s;
}

bool cache_may_guard(const struct conf_cache *conf, const struct cache_entry *e, int64_t age_s)
{
    int64_t most_s = (int64_t)(conf->guard_ms / 1000), over_s = age_s - e->lifetime_s;
    return !(e->flags & (CACHE_ENTRY_MUST_REVALIDATE | CACHE_ENTRY_NO_CACHE)) &&
           over_s <= (most_s < e->lifetime_s ? most_s : e->lifetime_s);
}

/* RFC 9110 15.1. */
static bool is_heuristic_status(uint16_t status)
{
    switch (status) {
    case 200:
    case 203:
    case 204:
    case 300:
    case 301:
    case 308:
        return true;
    default:
        return is_negative_status(status);
    }
}

static bool is_negative_status(uint16_t status)
{
    return status == 404 || status == 405 || status == 410 || status == 414 || status == 501;
}

/* Codes whose rules about keeping are followed here. */
static bool is_understood(uint16_t status)
{
    return http1_status_text(status)[0] != '\0' && status != 206 && status != 304;
}

bool cache_is_dropped_field(const struct http1_field *f, const struct cache_directives *d)
{
    static const char *const names[] = {"proxy-authentication-info", "cdn-loop"};
    switch ((enum http1_header)f->id) {
    case HTTP1_H_AGE:
    case HTTP1_H_CONTENT_LENGTH:
    case HTTP1_H_TRANSFER_ENCODING:
    case HTTP1_H_X_REQUEST_ID: /* of the request that fetched it */
        return true;
    default:
        break;
    }
    if (f->flags & HTTP1_FIELD_HOP)
        return true;
    for (size_t i = 0; i < FB_COUNT(names); i++)
        if (span_ieq(f->name, span_of(names[i])))
            return true;
    const uint32_t kinds[] = {CACHE_PRIVATE_FIELDS, CACHE_NO_CACHE_FIELDS};
    const struct span lists[] = {d->private_fields, d->no_cache_fields};
    for (size_t i = 0; i < 2; i++) {
        struct span rest = lists[i], one;
        while ((d->flags & kinds[i]) && http1_list_next(&rest, &one))
            if (span_ieq(one, f->name))
                return true;
    }
    return false;
}
