/* SPDX-License-Identifier: Apache-2.0 */
/* routes: which requests go where, in the order of the file. */
#include "conf/conf_int.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <xxhash.h>

static void parse_route(struct reader *rd, const struct node *n, size_t index);
static void parse_match(struct reader *rd, const struct node *n, struct conf_route *rt);
static void route_name(struct reader *rd, struct conf_route *rt);
static void check_reach(struct reader *rd, const struct node *n, size_t index);

static bool routes_room(struct reader *rd, size_t count)
{
    rd->routes = arena_get(rd->keep, count * sizeof *rd->routes);
    rd->private->route_line = arena_get(rd->keep, count * sizeof *rd->private->route_line);
    rd->conf->routes = rd->routes;
    return rd->routes && rd->private->route_line;
}

static void route_default(struct conf_route *rt)
{
    *rt = (struct conf_route){.host = "",
                              .path = "/",
                              .method = "",
                              .hash = {CONF_HASH_ADDRESS, ""},
                              .name = "",
                              .split = {.header = "", .cookie = ""},
                              .class = EV_CLASS_DEFAULT,
                              .body_bytes = UINT64_MAX,
                              .path_kind = CONF_PATH_ANY};
    who_default(&rt->key);
    cache_default(&rt->cache);
    compress_default(&rt->compress);
    rt->timeout_tune = (struct conf_tune){.mode = -1, .value = NAN, .min = NAN, .max = NAN};
    rt->hedge_tune = rt->timeout_tune;
}

void parse_default_route(struct reader *rd)
{
    size_t open = 0; /* services that requests could go to */
    uint16_t last = 0;
    for (size_t i = 0; i < rd->conf->service_count; i++)
        if (!rd->services[i].is_tcp) {
            open++;
            last = (uint16_t)i;
        }
    if (rd->conf->service_count && open == 0)
        return; /* connections only */
    if (open > 1) {
        problem(
            rd, rd->services_node->key,
            "`routes` is missing: with several services say which requests go where, for example "
            "`routes: [{ match: /, service: %s }]`",
            rd->services[last].name);
        return;
    }
    if (rd->conf->service_count == 0 || !routes_room(rd, 1))
        return;
    route_default(&rd->routes[0]);
    rd->routes[0].service = last;
    route_name(rd, &rd->routes[0]);
    rd->conf->route_count = 1;
}

void parse_routes(struct reader *rd, const struct node *n)
{
    if (!read_is(rd, n, NODE_LIST, "`routes: [{ match: /, service: app }]`"))
        return;
    if (n->count == 0 || n->count > KNOB_TARGETS_MAX) {
        problem(rd, n, "routes must have 1..%d entries, got %u", KNOB_TARGETS_MAX, n->count);
        return;
    }
    if (!routes_room(rd, n->count))
        return;
    size_t count = 0;
    for (const struct node *k = n->first; k; k = k->next)
        parse_route(rd, k, count++);
    rd->conf->route_count = count;
    if (rd->report->error_count)
        return; /* what is not reached is only clear when all is */
    const struct node *sv = rd->services_node ? rd->services_node->first : NULL;
    for (size_t i = 0; i < rd->conf->service_count && sv; i++, sv = sv->next)
        if (!rd->is_routed[i])
            problem_warn(rd, sv->key, "no route leads to service `%s`", rd->services[i].name);
    count = 0;
    for (const struct node *k = n->first; k; k = k->next)
        check_reach(rd, k, count++);
}

static void route_service(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    if (!read_service_name(rd, n, &rt->service))
        return;
    rd->is_routed[rt->service] = true;
    if (rd->services[rt->service].is_tcp)
        problem(rd, n,
                "service `%s` gets connections from a listener with `protocol: tcp`: give requests "
                "a service of their own",
                rd->services[rt->service].name);
}

bool read_service_name(struct reader *rd, const struct node *n, uint16_t *index)
{
    struct span s;
    if (!read_scalar(rd, n, &s))
        return false;
    struct near near = {.word = s};
    for (size_t i = 0; i < rd->conf->service_count; i++) {
        if (span_eq(s, span_of(rd->services[i].name))) {
            *index = (uint16_t)i;
            return true;
        }
        near_try(&near, rd->services[i].name);
    }
    if (near.best)
        problem(rd, n, "there is no service `%.*s`; did you mean `%s`?", SHOWN(s), near.best);
    else
        problem(rd, n, "there is no service `%.*s` under `services`", SHOWN(s));
    return false;
}

static void route_mirror(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    struct conf_mirror m = {.service = UINT16_MAX, .pct = 1};
    struct span s;
    if (!read_is(rd, n, NODE_MAP, "{ service: NAME, percent: 1% }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_MIRROR)) {
        case KEY_MIRROR_service:
            if (!read_service_name(rd, k, &m.service))
                return; /* said */
            rd->is_routed[m.service] = true;
            if (rd->services[m.service].is_tcp)
                problem(rd, k, "service `%s` gets connections, not requests",
                        rd->services[m.service].name);
            break;
        case KEY_MIRROR_percent:
            if (read_scalar(rd, k, &s) && (value_pct(s, &m.pct) != VALUE_OK || m.pct > 100))
                problem(rd, k, "percent must be 0%%..100%%, got \"%.*s\"", SHOWN(s));
            break;
        default:
            break;
        }
    }
    if (m.service == UINT16_MAX)
        problem(rd, n, "mirror needs a service, for example { service: shadow, percent: 1%% }");
    else
        rt->mirror = m;
}

/* on, off, or a time after which the second copy goes out. */
static void route_hedge(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    struct span s;
    if (!read_scalar(rd, n, &s))
        return;
    if (span_eq(s, SPAN("on")) || span_eq(s, SPAN("off")))
        rt->hedge = s.len == 2 ? CONF_HEDGE_ON : CONF_HEDGE_OFF;
    else
        read_number(rd, n, CONF_TYPE_dur, (struct conf_range){1, 60000}, &rt->hedge_delay_ms);
}

static void route_tune(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    if (!read_is(rd, n, NODE_MAP, "{ timeout: recommend }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        enum knob_id knob = parse_knob_of_key(k->key->text);
        if (knob == KNOB_TIMEOUT_MS)
            parse_tune_item(rd, k, knob, &rt->timeout_tune);
        else if (knob == KNOB_HEDGE_DELAY_MS)
            parse_tune_item(rd, k, knob, &rt->hedge_tune);
        else if (knob != KNOB_COUNT)
            problem(rd, k->key, "`%.*s` is tuned per service: it belongs under services.NAME.tune",
                    SHOWN(k->key->text));
        else
            problem(rd, k->key, "tune of a route has only `timeout` and `hedge`, got `%.*s`",
                    SHOWN(k->key->text));
    }
}

bool parse_is_token(struct span s)
{
    if (s.len == 0 || s.len > 200)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c >= 0x7f || (!isalnum(c) && !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return true;
}

/* Keys that are read after the others. */
struct route_rest {
    const struct node *split, *rates, *auth;
    struct rules_nodes rules;
    bool is_good; /* no error so far */
};

static void route_finish(struct reader *rd, const struct node *n, size_t index,
                         const struct route_rest *rest);

static void rules_node(struct rules_nodes *at, int key, const struct node *n)
{
    switch (key) {
    case KEY_ROUTE_allow:
        at->allow = n;
        break;
    case KEY_ROUTE_deny:
        at->deny = n;
        break;
    case KEY_ROUTE_request_headers:
        at->request = n;
        break;
    case KEY_ROUTE_response_headers:
        at->response = n;
        break;
    case KEY_ROUTE_rewrite:
        at->rewrite = n;
        break;
    case KEY_ROUTE_redirect:
        at->redirect = n;
        break;
    case KEY_ROUTE_respond:
        at->respond = n;
        break;
    case KEY_ROUTE_map_back:
        at->back = n;
        break;
    default:
        break;
    }
}

static void parse_route(struct reader *rd, const struct node *n, size_t index)
{
    struct conf_route *rt = &rd->routes[index];
    uint32_t *lines = rd->private->route_line[index];
    struct route_rest rest = {0};
    int word;
    route_default(rt);
    if (!read_is(rd, n, NODE_MAP, "{ match: /, service: app }"))
        return;
    size_t errors = rd->report->error_count;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_ROUTE);
        if (key < 0)
            continue;
        lines[key] = k->line;
        switch (key) {
        case KEY_ROUTE_match:
            parse_match(rd, k, rt);
            break;
        case KEY_ROUTE_service:
            route_service(rd, k, rt);
            break;
        case KEY_ROUTE_priority:
            if (read_word(rd, k, conf_key_row(KEY_ROUTE_priority)->words, &word))
                rt->class = (uint8_t)word;
            break;
        case KEY_ROUTE_timeout:
            read_key_number(rd, k, KEY_ROUTE_timeout, &rt->timeout_ms);
            break;
        case KEY_ROUTE_body_bytes:
            read_key_number(rd, k, KEY_ROUTE_body_bytes, &rt->body_bytes);
            break;
        case KEY_ROUTE_deadline:
            read_key_number(rd, k, KEY_ROUTE_deadline, &rt->deadline_ms);
            break;
        case KEY_ROUTE_key:
            read_who(rd, k, false, &rt->key);
            break;
        case KEY_ROUTE_hash:
            parse_hash(rd, k, &rt->hash);
            break;
        case KEY_ROUTE_region:
            parse_region(rd, k, &rt->region);
            break;
        case KEY_ROUTE_stream:
            read_bool(rd, k, &rt->is_stream);
            break;
        case KEY_ROUTE_split:
            rest.split = k;
            break;
        case KEY_ROUTE_concurrency:
            parse_caps(rd, k, KEY_ROUTE_concurrency, &rt->concurrency, &rt->caps);
            break;
        case KEY_ROUTE_mirror:
            route_mirror(rd, k, rt);
            break;
        case KEY_ROUTE_hedge:
            route_hedge(rd, k, rt);
            break;
        case KEY_ROUTE_rate_limits:
            rest.rates = k;
            break;
        case KEY_ROUTE_auth:
            rest.auth = k;
            break;
        case KEY_ROUTE_cache:
            parse_cache(rd, k, &rt->cache);
            break;
        case KEY_ROUTE_compress:
            parse_compress(rd, k, &rt->compress);
            break;
        case KEY_ROUTE_tune:
            route_tune(rd, k, rt);
            break;
        case KEY_ROUTE_error_pages:
            parse_pages(rd, k, &rt->pages);
            break;
        default:
            rules_node(&rest.rules, key, k);
            break;
        }
    }
    rest.is_good = rd->report->error_count == errors;
    route_finish(rd, n, index, &rest);
}

/* What needs the whole of the route. */
static void route_finish(struct reader *rd, const struct node *n, size_t index,
                         const struct route_rest *rest)
{
    struct conf_route *rt = &rd->routes[index];
    const uint32_t *lines = rd->private->route_line[index];
    if (!lines[KEY_ROUTE_match])
        problem(rd, n, "a route needs `match`; `match: /` matches everything");
    struct rules_route route = {.has_service = lines[KEY_ROUTE_service] != 0, .regex = rt->regex};
    route.has_host = route.has_service && rt->service < rd->conf->service_count &&
                     rd->services[rt->service].host_header[0];
    rt->rules = parse_rules(rd, &rest->rules, &route);
    bool is_own = conf_route_is_own(rt);
    if (!lines[KEY_ROUTE_service] && !is_own && !rest->rules.redirect && !rest->rules.respond)
        problem(rd, n,
                "a route needs `service`, a name under `services`, or `redirect` or `respond`");
    bool is_good = rest->is_good && lines[KEY_ROUTE_match] && (lines[KEY_ROUTE_service] || is_own);
    if (is_good && rd->conf->service_count)
        route_name(rd, rt);
    if (rest->split && is_good)
        parse_split(rd, rest->split, rt);
    if (rest->rates)
        parse_rates(rd, rest->rates, rt);
    parse_caps_name(&rt->caps, "route", rt->name);
    if (rest->auth)
        rt->auth = parse_auth(rd, rest->auth, rt);
}

/* ---- match ---- */

static int hex_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Requests are matched in normal form (http1_target.h): a path in another form would never match.
 */
const char *path_fault(struct span s)
{
    if (s.len == 0 || s.at[0] != '/')
        return "must begin with /";
    if (s.len > 1024)
        return "must have at most 1024 bytes";
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];
        if (c <= ' ' || c >= 0x7f || c == '?' || c == '#' || strchr("\"<>\\^`{|}", c))
            return "must hold no blanks, queries or characters that need an escape (write %C3%A9 "
                   "for \xc3\xa9)";
        if (c != '%')
            continue;
        int high = i + 2 < s.len ? hex_of(s.at[i + 1]) : -1,
            low = i + 2 < s.len ? hex_of(s.at[i + 2]) : -1;
        if (high < 0 || low < 0)
            return "has a broken escape: two upper-case hex digits must follow %";
        int byte = high * 16 + low;
        if (byte < 0x7f && (isalnum(byte) || strchr("-._~", byte ? byte : ' ')))
            return "escapes a character that needs no escape: write the character";
    }
    if (!s.at || s.len == 0)
        return NULL;
    if (memmem(s.at, s.len, "/./", 3) || memmem(s.at, s.len, "/../", 4) ||
        (s.len >= 2 && memcmp(s.at + s.len - 2, "/.", 2) == 0) ||
        (s.len >= 3 && memcmp(s.at + s.len - 3, "/..", 3) == 0))
        return "must hold no . or .. segments: requests have none when they are matched";
    return NULL;
}

bool parse_path(struct reader *rd, const struct node *n, struct span *s)
{
    char path[NODE_PATH_BYTES];
    if (!read_scalar(rd, n, s))
        return false;
    const char *fault = path_fault(*s);
    if (fault)
        problem(rd, n, "%s %s, got \"%.*s\"", node_path(n, path), fault, SHOWN(*s));
    return !fault;
}

static void match_path(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    struct span s;
    if (n->kind == NODE_SCALAR && n->text.len && n->text.at[0] == '~') {
        parse_regex_path(rd, n, n->text, rt);
        return;
    }
    if (n->kind == NODE_SCALAR &&
        (span_starts(n->text, SPAN("=")) || span_starts(n->text, SPAN("^~")))) {
        struct span bare = n->text;
        while (bare.len && strchr("=^~ ", bare.at[0]))
            bare = (struct span){bare.at + 1, bare.len - 1};
        problem(rd, n,
                "a match must begin with /, got \"%.*s\"; write %.*s: the first route in the file "
                "wins, /x is exact and /x/ a prefix",
                SHOWN(n->text), SHOWN(bare));
        return;
    }
    if (!parse_path(rd, n, &s))
        return;
    rt->path = arena_text(rd->keep, s);
    rt->path_kind = s.len == 1                 ? CONF_PATH_ANY
                    : memchr(s.at, '*', s.len) ? CONF_PATH_GLOB
                    : s.at[s.len - 1] == '/'   ? CONF_PATH_PREFIX
                                               : CONF_PATH_EXACT;
}

/* One host in the form that requests have; behind a | where others stand already. */
static void host_one(struct reader *rd, const struct node *n, struct span s, struct buf *out)
{
    bool is_wild = span_starts(s, SPAN("*."));
    struct span name = is_wild ? (struct span){s.at + 2, s.len - 2} : s;
    if (name.len > 1 && name.at[name.len - 1] == '.')
        name.len--;
    bool is_v6 = name.len > 2 && name.at[0] == '[' && name.at[name.len - 1] == ']';
    struct span inner = is_v6 ? (struct span){name.at + 1, name.len - 2} : name;
    bool is_number =
        !is_wild && value_is_number_host(inner) && (!is_v6 || memchr(inner.at, ':', inner.len));
    if (!is_number && (is_v6 || !value_is_name(name))) {
        problem(rd, n,
                "host must be a name without port, or *.NAME for all subdomains, got \"%.*s\"",
                SHOWN(s));
        return;
    }
    is_v6 = is_number && memchr(inner.at, ':', inner.len); /* as requests have it: in brackets */
    buf_printf(out, "%s%s%.*s%s", out->len ? "|" : "",
               is_wild ? "*."
               : is_v6 ? "["
                       : "",
               SPAN_ARG(inner), is_v6 ? "]" : "");
}

/* [a, b] of a match, or one of them. */
static const struct node *first_of(struct reader *rd, const struct node *n, uint32_t most)
{
    char path[NODE_PATH_BYTES];
    if (n->kind != NODE_LIST)
        return n;
    if (n->count > 0 && n->count <= most)
        return n->first;
    problem(rd, n, "%s must have 1..%u values, got %u", node_path(n, path), most, n->count);
    return NULL;
}

static void match_host(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    const struct node *k = first_of(rd, n, CONF_HOSTS_MAX);
    struct span s;
    struct buf all;
    buf_init(&all, CONF_HOSTS_MAX * 256);
    for (; k; k = k == n ? NULL : k->next)
        if (read_scalar(rd, k, &s))
            host_one(rd, k, s, &all);
    struct span found = buf_span(&all);
    char *copy = arena_get(rd->keep, found.len + 1);
    for (size_t i = 0; copy && i < found.len; i++)
        copy[i] = (char)tolower((unsigned char)found.at[i]);
    if (copy)
        copy[found.len] = '\0';
    rt->host = copy ? copy : "";
    if (all.failed)
        rd->keep->failed = true;
    buf_fini(&all);
}

/* GET|HEAD, or [GET, HEAD]. */
static void match_method(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    const struct node *k = first_of(rd, n, CONF_METHODS_MAX);
    struct span s = {0}, rest;
    struct buf all;
    buf_init(&all, 4 * KIB);
    bool is_read = k != NULL;
    for (const struct node *one = k; one; one = one == n ? NULL : one->next)
        if (read_scalar(rd, one, &s))
            buf_printf(&all, "%s%.*s", one == k ? "" : "|", SPAN_ARG(s));
        else
            is_read = false;
    s = buf_span(&all);
    size_t count = 0;
    bool is_good = s.len > 0 && s.at[s.len - 1] != '|';
    for (rest = s; rest.len && is_good;) {
        struct span one = span_cut(rest, '|', &rest);
        is_good = parse_is_token(one) && ++count <= CONF_METHODS_MAX;
        for (size_t i = 0; i < one.len; i++)
            is_good &= !islower((unsigned char)one.at[i]);
    }
    if (is_good)
        rt->method = arena_text(rd->keep, s);
    else if (is_read)
        problem(rd, n,
                "method must be upper case, up to 8 with | between them: GET|HEAD, got \"%.*s\"",
                SHOWN(s));
    buf_fini(&all);
}

static void match_headers(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_MAP, "{ X-Priority: high }"))
        return;
    if (n->count == 0 || n->count > 16) {
        problem(rd, n, "%s must have 1..16 fields, got %u", node_path(n, path), n->count);
        return;
    }
    struct conf_header_match *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        struct span s;
        if (!parse_is_token(k->key->text))
            problem(rd, k->key, "\"%.*s\" is not the name of a header field", SHOWN(k->key->text));
        if (!read_scalar(rd, k, &s))
            continue;
        struct span inner = span_trim(s);
        if (inner.len && inner.at[0] == '*')
            inner = (struct span){inner.at + 1, inner.len - 1};
        if (inner.len && inner.at[inner.len - 1] == '*')
            inner.len--;
        if (inner.len && memchr(inner.at, '*', inner.len))
            problem(rd, k, "%s: * is only allowed at the beginning or end, got \"%.*s\"",
                    node_path(k, path), SHOWN(s));
        at[rt->header_count++] = (struct conf_header_match){
            .name = arena_text(rd->keep, k->key->text),
            .value = arena_text(rd->keep, inner.len ? span_trim(s)
                                                    : (struct span){"", 0}), /* "*": only present */
        };
    }
    rt->headers = at;
}

static void parse_match(struct reader *rd, const struct node *n, struct conf_route *rt)
{
    if (n->kind == NODE_SCALAR) {
        match_path(rd, n, rt);
        return;
    }
    if (!read_is(rd, n, NODE_MAP, "/, or { host: example.org, path: /x/ }"))
        return;
    if (n->count == 0)
        problem(rd, n, "match is empty; `match: /` matches everything");
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_MATCH)) {
        case KEY_MATCH_host:
            match_host(rd, k, rt);
            break;
        case KEY_MATCH_path:
            match_path(rd, k, rt);
            break;
        case KEY_MATCH_method:
            match_method(rd, k, rt);
            break;
        case KEY_MATCH_header:
            match_headers(rd, k, rt);
            break;
        default:
            break;
        }
    }
}

/* "SERVICE MATCH", unique as far as the match is; a long match is cut and gets a hash, so that the
 * name fits the registry and stays the same over reloads. */
static void route_name(struct reader *rd, struct conf_route *rt)
{
    struct buf name;
    char cut[CONF_TARGET_NAME_BYTES];
    buf_init(&name, CONF_HOSTS_MAX * 256 + 16 * KIB); /* all hosts, and the rest of the match */
    const char *first = !conf_route_is_own(rt)                ? rd->services[rt->service].name
                        : rt->rules->own == CONF_OWN_REDIRECT ? "redirect"
                                                              : "respond";
    buf_printf(&name, "%s %s%s%s%s", first, rt->method, *rt->method ? " " : "", rt->host, rt->path);
    for (size_t i = 0; i < rt->header_count; i++)
        buf_printf(&name, "[%s=%s]", rt->headers[i].name, rt->headers[i].value);
    const char *full = buf_str(&name);
    size_t most = sizeof cut - 1;
    if (name.len > most)
        snprintf(cut, sizeof cut, "%.*s~%08x", (int)(most - 9), full,
                 (unsigned)XXH32(full, name.len, 0));
    rt->name = arena_text(rd->keep, span_of(name.len > most ? cut : full));
    if (name.failed)
        rd->keep->failed = true;
    buf_fini(&name);
}

static bool same_match(const struct conf_route *a, const struct conf_route *b)
{
    if (strcmp(a->host, b->host) != 0 || strcmp(a->path, b->path) != 0 ||
        strcmp(a->method, b->method) != 0)
        return false;
    if (a->header_count != b->header_count)
        return false;
    for (size_t i = 0; i < a->header_count; i++)
        if (strcasecmp(a->headers[i].name, b->headers[i].name) != 0 ||
            strcmp(a->headers[i].value, b->headers[i].value) != 0)
            return false;
    return true;
}

/* A route that an earlier one hides: an error when both are the same match, else a warning. */
static void check_reach(struct reader *rd, const struct node *n, size_t index)
{
    const struct conf_route *rt = &rd->routes[index];
    for (size_t i = 0; i < index; i++) {
        const struct conf_route *above = &rd->routes[i];
        uint32_t line = rd->private->route_line[i][KEY_ROUTE_match];
        bool is_all = above->path_kind == CONF_PATH_ANY && !*above->host && !*above->method &&
                      above->header_count == 0;
        if (same_match(above, rt)) {
            problem(rd, n, "the same match stands in line %u: this route is never used, remove one",
                    line);
            return;
        }
        if (is_all) {
            problem_warn(rd, n,
                         "never used: the route in line %u matches everything; move it to the end",
                         line);
            return;
        }
    }
}
