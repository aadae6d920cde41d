/* SPDX-License-Identifier: Apache-2.0 */
/* Who is counted as one (`key`, `by`), and the rate limits of a route. */
#include "conf/conf_int.h"

#include <math.h>
#include <stdio.h>
#include <xxhash.h>

#define RATES_MAX 8
#define SPLIT_MAX 8
/* Requests of one limit in one period; a bucket's gap is then at least 100 ns. */
#define RATE_COUNT_MAX 10000000u
#define QUOTA_COUNT_MAX 1000000000u
/* What a bucket may save up, so that its time stays far from the end of 64 bits. */
#define BURST_US_MAX (366 * 86400 * US_PER_S)

static bool read_per(struct reader *rd, const struct node *n, uint64_t most, struct conf_rate *r);
static void parse_rate(struct reader *rd, const struct node *n, const struct conf_route *rt,
                       struct conf_rate *r);
static void check_rate(struct reader *rd, const struct node *n, struct conf_rate *r);

/* "/24" or "/24/56" behind `address`. */
static bool address_bits(struct span rest, struct conf_who *who)
{
    uint64_t v4, v6 = who->v6_bits;
    struct span text = span_cut(rest, '/', &rest);
    if (!span_to_u64(text, &v4) || v4 < 8 || v4 > 32)
        return false;
    if (rest.len && (!span_to_u64(rest, &v6) || v6 < 16 || v6 > 128))
        return false;
    who->v4_bits = (uint8_t)v4;
    who->v6_bits = (uint8_t)v6;
    return true;
}

void who_default(struct conf_who *who)
{
    *who = (struct conf_who){
        .by = CONF_WHO_ADDRESS, .v4_bits = 32, .v6_bits = 64, .name = "", .text = "address"};
}

bool read_who(struct reader *rd, const struct node *n, bool is_rate, struct conf_who *who)
{
    static const struct {
        const char *word;
        uint8_t by;
    } named[] = {{"header", CONF_WHO_HEADER}, {"cookie", CONF_WHO_COOKIE}};
    char path[NODE_PATH_BYTES];
    struct span s, rest;
    who_default(who);
    if (!read_scalar(rd, n, &s))
        return false;
    who->text = arena_text(rd->keep, s);
    struct span word = span_cut(s, ' ', &rest);
    rest = span_trim(rest);
    if (span_eq(s, SPAN("address")))
        return true;
    if (span_starts(s, SPAN("address/"))) {
        if (address_bits((struct span){s.at + 8, s.len - 8}, who))
            return true;
        problem(rd, n,
                "%s: a prefix of addresses is address/24 (8..32 bits of IPv4) or address/24/56 "
                "(and 16..128 of IPv6), got \"%.*s\"",
                node_path(n, path), SHOWN(s));
        return false;
    }
    if (span_eq(s, SPAN("token")) || (is_rate && span_eq(s, SPAN("route")))) {
        who->by = s.at[0] == 't' ? CONF_WHO_TOKEN : CONF_WHO_ROUTE;
        return true;
    }
    for (size_t i = 0; i < FB_COUNT(named); i++) {
        if (!span_eq(word, span_of(named[i].word)) || !parse_is_token(rest))
            continue;
        who->by = named[i].by;
        who->name = arena_text(rd->keep, rest);
        return true;
    }
    if (!is_rate && parse_is_token(s)) { /* a bare name is a header field */
        who->by = CONF_WHO_HEADER;
        who->name = who->text;
        return true;
    }
    problem(rd, n,
            "%s must be address, address/24, token, header NAME%s or cookie NAME, got \"%.*s\"",
            node_path(n, path), is_rate ? ", route" : "", SHOWN(s));
    return false;
}

void parse_rates(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_LIST, "[{ rate: 100/s, by: address }]"))
        return;
    if (n->count == 0 || n->count > RATES_MAX) {
        problem(rd, n, "%s must have 1..%d limits, got %u", node_path(n, path), RATES_MAX,
                n->count);
        return;
    }
    struct conf_rate *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return;
    rt->rates = at;
    for (const struct node *k = n->first; k; k = k->next)
        parse_rate(rd, k, rt, &at[rt->rate_count++]);
}

static void parse_rate(struct reader *rd, const struct node *n, const struct conf_route *rt,
                       struct conf_rate *r)
{
    const struct node *rate = NULL, *quota = NULL, *burst = NULL;
    uint64_t number;
    int scope = 0;
    who_default(&r->who);
    r->status = 429;
    r->text = "";
    if (!read_is(rd, n, NODE_MAP, "{ rate: 100/s, burst: 200, by: address }"))
        return;
    size_t errors = rd->report->error_count;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_RATE)) {
        case KEY_RATE_rate:
            rate = k;
            read_per(rd, k, RATE_COUNT_MAX, r);
            break;
        case KEY_RATE_quota:
            quota = k;
            r->is_quota = read_per(rd, k, QUOTA_COUNT_MAX, r);
            break;
        case KEY_RATE_burst:
            burst = k;
            read_key_number(rd, k, KEY_RATE_burst, &r->burst);
            break;
        case KEY_RATE_by:
            read_who(rd, k, true, &r->who);
            break;
        case KEY_RATE_scope:
            if (read_word(rd, k, conf_key_row(KEY_RATE_scope)->words, &scope))
                r->is_fleet = scope == 1;
            break;
        case KEY_RATE_except:
            (void)read_prefixes(rd, k, &r->except, &r->except_count);
            break;
        case KEY_RATE_status:
            if (read_key_number(rd, k, KEY_RATE_status, &number))
                r->status = (uint16_t)number;
            break;
        default:
            break;
        }
    }
    if (!rate == !quota && rd->report->error_count == errors)
        problem(rd, n,
                "a limit has either `rate`, for example 100/s, or `quota`, for example "
                "10000/d");
    else if (quota && burst)
        problem(rd, burst,
                "a quota has no burst: all of it may come at once; add a second limit "
                "with `rate` to spread it");
    if (rd->report->error_count == errors)
        check_rate(rd, n, r);
    /* what was counted goes on over a reload while route and limit stay as they are */
    struct buf id;
    buf_init(&id, 4 * KIB);
    buf_printf(&id, "%s\n%s\n%s\n%llu %d", rt->name, r->who.text, r->text,
               (unsigned long long)r->burst, r->is_quota);
    r->id = XXH3_64bits(buf_str(&id), id.len);
    buf_fini(&id);
}

static void check_rate(struct reader *rd, const struct node *n, struct conf_rate *r)
{
    if (r->is_quota)
        return;
    if (r->burst == 0) {
        uint64_t second = (r->count * US_PER_S + r->period_us - 1) / r->period_us;
        r->burst = fb_max_u64(second, fb_max_u64(r->count / 10, 1));
    }
    if (r->burst * (r->period_us / r->count) > BURST_US_MAX)
        problem(rd, n, "burst: %llu at %s would take more than a year to save up",
                (unsigned long long)r->burst, r->text);
}

static bool read_per(struct reader *rd, const struct node *n, uint64_t most, struct conf_rate *r)
{
    char path[NODE_PATH_BYTES];
    struct span s;
    if (!read_scalar(rd, n, &s))
        return false;
    r->text = arena_text(rd->keep, s);
    node_path(n, path);
    switch (value_per(s, &r->count, &r->period_us)) {
    case VALUE_OK:
        if (r->count >= 1 && r->count <= most && r->period_us <= 366 * 86400 * US_PER_S)
            return true;
        problem(rd, n, "%s must be 1..%llu requests per 1s..366d, got \"%.*s\"", path,
                (unsigned long long)most, SHOWN(s));
        break;
    case VALUE_NO_UNIT:
        problem(rd, n, "%s must say per what time, got \"%.*s\"; write for example %.*s/s", path,
                SHOWN(s), SHOWN(s));
        break;
    case VALUE_TOO_FINE:
        problem(rd, n, "%s counts over whole seconds, got \"%.*s\"; 1 per 10ms is 100/s", path,
                SHOWN(s));
        break;
    default:
        problem(rd, n,
                "%s is not understood: \"%.*s\"; write for example 100/s, 5000/h or 100/10s (s, m, "
                "h, d)",
                path, SHOWN(s));
        break;
    }
    r->count = r->period_us = 1;
    return false;
}

/* ---- split ---- */

/* A version that endpoints of the service have. */
static bool is_version(struct reader *rd, const struct node *key, const struct conf_service *sv)
{
    struct near near = {.word = key->text};
    for (size_t i = 0; i < sv->endpoint_count; i++) {
        const char *version = sv->endpoints[i].version;
        version = *version ? version : "stable";
        if (span_eq(key->text, span_of(version)))
            return true;
        near_try(&near, version);
    }
    if (near.best)
        problem(rd, key, "no endpoint of service `%s` has version `%.*s`; did you mean `%s`?",
                sv->name, SHOWN(key->text), near.best);
    else
        problem(rd, key,
                "no endpoint of service `%s` has version `%.*s`: write { address: HOST:PORT, "
                "version: %.*s } there",
                sv->name, SHOWN(key->text), SHOWN(key->text));
    return false;
}

static void split_name(struct reader *rd, const struct node *n, const char **out)
{
    struct span s;
    if (!read_scalar(rd, n, &s))
        return;
    if (parse_is_token(s))
        *out = arena_text(rd->keep, s);
    else
        problem(rd, n, "split.%.*s is the name of a %.*s, got \"%.*s\"", SHOWN(n->key->text),
                SHOWN(n->key->text), SHOWN(s));
}

void parse_split(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    struct conf_split *split = &rt->split;
    const struct conf_service *sv = &rd->services[rt->service];
    double sum = 0;
    if (!read_is(rd, n, NODE_MAP, "{ stable: 95%, canary: 5% }"))
        return;
    struct conf_split_part *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return;
    size_t errors = rd->report->error_count;
    for (const struct node *k = n->first; k; k = k->next) {
        struct span s;
        double pct = 0;
        if (span_eq(k->key->text, SPAN("header"))) {
            split_name(rd, k, &split->header);
            continue;
        }
        if (span_eq(k->key->text, SPAN("cookie"))) {
            split_name(rd, k, &split->cookie);
            continue;
        }
        if (!is_version(rd, k->key, sv) || !read_scalar(rd, k, &s))
            continue;
        if (value_pct(s, &pct) != VALUE_OK || pct > 100)
            problem(rd, k, "split.%.*s must be 0%%..100%%, got \"%.*s\"", SHOWN(k->key->text),
                    SHOWN(s));
        at[split->count++] =
            (struct conf_split_part){.version = arena_text(rd->keep, k->key->text), .pct = pct};
        sum += pct;
    }
    split->parts = at;
    if (rd->report->error_count > errors)
        return;
    if (split->count == 0 || split->count > SPLIT_MAX)
        problem(rd, n,
                "split must have the shares of 1..%d versions, for example { stable: 95%%, "
                "canary: 5%% }",
                SPLIT_MAX);
    else if (fabs(sum - 100) > 1e-6)
        problem(rd, n, "the shares of a split must sum to 100%%, these are %.10g%%", sum);
}

void parse_success_floor(struct reader *rd, const struct node *n, struct conf_service *sv)
{
    char path[NODE_PATH_BYTES];
    const struct conf_key_row *row = conf_key_row(KEY_SERVICE_success_floor);
    struct span s;
    double pct;
    if (!read_scalar(rd, n, &s))
        return;
    if (value_pct(s, &pct) == VALUE_OK && pct <= (double)row->max)
        sv->success_floor_pct = pct;
    else
        problem(rd, n, "%s must be 0%%..%llu%%, got \"%.*s\"; write for example 50%%",
                node_path(n, path), (unsigned long long)row->max, SHOWN(s));
}
