/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled routes.  Per exact host a list of the rules that can match there, in the order of the
 * file; all other hosts share one list.  A rule begins with eight bytes of its path: most rules
 * that do not match are passed over by one compare of a word. */
#include "gateway/route.h"

#include "base/assert.h"
#include "base/regex.h"

#include <stdlib.h>

/* A method or header value, ready to compare. */
struct pattern {
    struct span text;
    bool any_before, any_after; /* a * stood there */
};
struct field_rule {
    struct span name;
    struct pattern value;
};
struct rule {
    uint64_t head, head_mask; /* first bytes of the path, as many as are fixed */
    struct span path;         /* the whole pattern */
    struct span hosts;        /* "a.example|*.b.example", "" any */
    bool has_suffix;          /* ... one of them with *. */
    struct span methods[CONF_METHODS_MAX];
    const struct field_rule *fields;
    const struct regex *regex;
    uint8_t path_kind, method_count, field_count;
};

struct host_list {
    struct span host;
    uint64_t hash;
    uint16_t *rules; /* indices, rising */
    uint16_t count;
};
struct route_table {
    struct conf *conf;
    struct rule *rules;
    size_t rule_count;
    struct field_rule *fields;
    struct host_list *slots; /* open addressing, a power of two, at most half full */
    size_t slot_mask;
    struct host_list others; /* for hosts that no rule names */
    bool has_hosts;
};

static bool has_host(struct span hosts, struct span host);
static enum regex_result rule_matches(const struct rule *r, const struct route_query *q);
static bool glob_matches(struct span pattern, struct span text);
static bool fields_match(const struct rule *r, const struct route_query *q);

static uint64_t hash_of(struct span s)
{
    uint64_t h =
        UINT64_C(0xcbf29ce484222325); /* FNV-1a: hosts are short, and nobody chooses ours */
    for (size_t i = 0; i < s.len; i++)
        h = (h ^ (unsigned char)s.at[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

/* The first eight bytes, zeros behind a shorter text. */
static uint64_t head_of(struct span s)
{
    uint64_t head = 0;
    if (FB_LIKELY(s.len >= sizeof head))
        memcpy(&head, s.at, sizeof head);
    else
        for (size_t i = 0; i < s.len; i++)
            head |= (uint64_t)(unsigned char)s.at[i]
                    << 8 * i; /* little endian, as memcpy on our machines */
    return head;
}

uint16_t route_match(const struct route_table *t, const struct route_query *q)
{
    const struct host_list *list = &t->others;
    if (t->has_hosts) {
        uint64_t hash = hash_of(q->host);
        for (size_t at = hash & t->slot_mask; t->slots[at].rules; at = (at + 1) & t->slot_mask) {
            if (t->slots[at].hash == hash && span_eq(t->slots[at].host, q->host)) {
                list = &t->slots[at];
                break;
            }
        }
    }
    uint64_t head = head_of(q->path);
    for (uint16_t i = 0; i < list->count; i++) {
        const struct rule *r = &t->rules[list->rules[i]];
        if ((head & r->head_mask) != r->head)
            continue;
        if (r->hosts.len && list == &t->others && !has_host(r->hosts, q->host))
            continue; /* lists of a host hold only what matches it */
        enum regex_result result = rule_matches(r, q);
        if (result != REGEX_NO)
            return FB_LIKELY(result == REGEX_YES) ? list->rules[i] : ROUTE_COSTLY;
    }
    return ROUTE_NONE;
}

static bool host_suffix_matches(struct span suffix, struct span host)
{
    return host.len > suffix.len &&
           memcmp(host.at + host.len - suffix.len, suffix.at, suffix.len) == 0;
}

static bool has_host(struct span hosts, struct span host)
{
    while (hosts.len) {
        struct span one = span_cut(hosts, '|', &hosts);
        bool is_wild = one.at[0] == '*';
        if (is_wild ? host_suffix_matches((struct span){one.at + 1, one.len - 1}, host)
                    : span_eq(one, host))
            return true;
    }
    return false;
}

static enum regex_result rule_matches(const struct rule *r, const struct route_query *q)
{
    switch ((enum conf_path_kind)r->path_kind) {
    case CONF_PATH_ANY:
    case CONF_PATH_REGEX: /* below, for it costs most */
        break;
    case CONF_PATH_EXACT:
        if (!span_eq(r->path, q->path))
            return REGEX_NO;
        break;
    case CONF_PATH_PREFIX:
        if (!span_starts(q->path, r->path))
            return REGEX_NO;
        break;
    case CONF_PATH_GLOB:
        if (!glob_matches(r->path, q->path))
            return REGEX_NO;
        break;
    }
    if (r->method_count) {
        bool is_one = false;
        for (uint8_t i = 0; i < r->method_count && !is_one; i++)
            is_one = span_eq(r->methods[i], q->method);
        if (!is_one)
            return REGEX_NO;
    }
    if (r->field_count && !fields_match(r, q))
        return REGEX_NO;
    if (FB_LIKELY(!r->regex))
        return REGEX_YES;
    if (q->path.len == 0 || q->path.at[0] != '/') /* the asterisk of OPTIONS */
        return REGEX_NO;
    return regex_match(r->regex, q->work, q->path);
}

/* Linear: each part between two stars is taken where it occurs first; only the last part is bound
 * to the end. */
static bool glob_matches(struct span pattern, struct span text)
{
    struct span rest, part = span_cut(pattern, '*', &rest);
    if (!span_starts(text, part))
        return false;
    if (part.len == pattern.len)
        return text.len == part.len;
    text = (struct span){text.at + part.len, text.len - part.len};
    for (;;) {
        const char *star = rest.len ? memchr(rest.at, '*', rest.len) : NULL;
        if (!star)
            return text.len >= rest.len &&
                   (rest.len == 0 || memcmp(text.at + text.len - rest.len, rest.at, rest.len) == 0);
        part = span_cut(rest, '*', &rest);
        if (part.len == 0)
            continue;
        const char *hit = text.len ? memmem(text.at, text.len, part.at, part.len) : NULL;
        if (!hit)
            return false;
        size_t used = (size_t)(hit - text.at) + part.len;
        text = (struct span){text.at + used, text.len - used};
    }
}

static bool pattern_matches(const struct pattern *p, struct span value)
{
    if (p->any_before && p->any_after)
        return p->text.len == 0 ||
               (value.len && memmem(value.at, value.len, p->text.at, p->text.len) != NULL);
    if (p->any_before)
        return value.len >= p->text.len &&
               memcmp(value.at + value.len - p->text.len, p->text.at, p->text.len) == 0;
    return p->any_after ? span_starts(value, p->text) : span_eq(value, p->text);
}

/* Each wanted field must be there; of several with the same name one that matches is enough. */
static bool fields_match(const struct rule *r, const struct route_query *q)
{
    for (uint8_t i = 0; i < r->field_count; i++) {
        const struct field_rule *want = &r->fields[i];
        bool is_found = false;
        for (uint32_t k = 0; k < q->field_count && !is_found; k++)
            is_found = span_ieq(q->fields[k].name, want->name) &&
                       pattern_matches(&want->value, q->fields[k].value);
        if (!is_found)
            return false;
    }
    return true;
}

/* ---- compile ---- */

static void compile_field(struct field_rule *f, const struct conf_header_match *m)
{
    f->name = span_of(m->name);
    f->value.text = span_of(m->value);
    if (f->value.text.len == 0) { /* only present */
        f->value.any_before = f->value.any_after = true;
        return;
    }
    if (f->value.text.at[0] == '*') {
        f->value.any_before = true;
        f->value.text.at++;
        f->value.text.len--;
    }
    if (f->value.text.len && f->value.text.at[f->value.text.len - 1] == '*') {
        f->value.any_after = true;
        f->value.text.len--;
    }
}

static void compile_head(struct rule *r)
{
    size_t fixed = r->path_kind == CONF_PATH_ANY ? 0 : r->path.len;
    if (r->path_kind == CONF_PATH_GLOB) {
        const char *star = memchr(r->path.at, '*', r->path.len);
        fixed = star ? (size_t)(star - r->path.at) : r->path.len;
    }
    struct span text = r->path;
    if (r->path_kind == CONF_PATH_REGEX) {
        text = regex_prefix(r->regex);
        fixed = text.len;
    }
    if (fixed > 8)
        fixed = 8;
    r->head_mask = fixed == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * fixed) - 1;
    r->head = head_of(text) & r->head_mask;
}

static void compile_rule(struct rule *r, const struct conf_route *rt, struct field_rule *fields)
{
    r->hosts = span_of(rt->host);
    r->has_suffix = strchr(rt->host, '*') != NULL;
    r->path_kind = (uint8_t)rt->path_kind;
    r->path = span_of(rt->path);
    r->regex = rt->regex;
    for (struct span rest = span_of(rt->method); rest.len;) {
        fb_assert(r->method_count < CONF_METHODS_MAX);
        r->methods[r->method_count++] = span_cut(rest, '|', &rest);
    }
    r->fields = fields;
    r->field_count = (uint8_t)rt->header_count;
    for (size_t i = 0; i < rt->header_count; i++)
        compile_field(&fields[i], &rt->headers[i]);
    compile_head(r);
}

/* The rules that can match at <host>; an empty host stands for all that no rule names. */
static bool list_rules(const struct route_table *t, struct host_list *list, struct span host,
                       bool is_others)
{
    list->rules = calloc(t->rule_count + 1, sizeof *list->rules); /* never NULL when it is in use */
    if (!list->rules)
        return false;
    for (size_t i = 0; i < t->rule_count; i++) {
        const struct rule *r = &t->rules[i];
        if (r->hosts.len == 0 || (is_others ? r->has_suffix : has_host(r->hosts, host)))
            list->rules[list->count++] = (uint16_t)i;
    }
    return true;
}

/* The list of an exact host, made when it is named for the first time. */
static bool compile_host(struct route_table *t, struct span host)
{
    uint64_t hash = hash_of(host);
    size_t at = hash & t->slot_mask;
    while (t->slots[at].rules && !span_eq(t->slots[at].host, host))
        at = (at + 1) & t->slot_mask;
    if (t->slots[at].rules)
        return true;
    t->slots[at].host = host;
    t->slots[at].hash = hash;
    return list_rules(t, &t->slots[at], host, false);
}

static bool compile_hosts(struct route_table *t)
{
    size_t named = 0, slots = 2;
    for (size_t i = 0; i < t->rule_count; i++)
        for (struct span one, rest = t->rules[i].hosts; rest.len;) {
            one = span_cut(rest, '|', &rest);
            named += one.at[0] != '*';
        }
    while (slots < named * 2)
        slots *= 2;
    t->has_hosts = named > 0;
    t->slot_mask = slots - 1;
    t->slots = calloc(slots, sizeof *t->slots);
    if (!t->slots || !list_rules(t, &t->others, SPAN(""), true))
        return false;
    for (size_t i = 0; i < t->rule_count; i++)
        for (struct span one, rest = t->rules[i].hosts; rest.len;) {
            one = span_cut(rest, '|', &rest);
            if (one.at[0] != '*' && !compile_host(t, one))
                return false;
        }
    return true;
}

struct route_table *route_table_new(struct conf *conf)
{
    size_t field_total = 0, field_at = 0;
    fb_assert(conf->route_count < ROUTE_COSTLY);
    struct route_table *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    for (size_t i = 0; i < conf->route_count; i++)
        field_total += conf->routes[i].header_count;
    t->conf = conf_ref(conf);
    t->rule_count = conf->route_count;
    t->rules = calloc(t->rule_count + 1, sizeof *t->rules);
    t->fields = calloc(field_total + 1, sizeof *t->fields);
    bool is_good = t->rules && t->fields;
    for (size_t i = 0; i < t->rule_count && is_good; i++) {
        compile_rule(&t->rules[i], &conf->routes[i], &t->fields[field_at]);
        field_at += conf->routes[i].header_count;
    }
    if (is_good && compile_hosts(t))
        return t;
    route_table_free(t);
    return NULL;
}

void route_table_free(struct route_table *t)
{
    if (!t)
        return;
    for (size_t i = 0; t->slots && i <= t->slot_mask; i++)
        free(t->slots[i].rules);
    free(t->slots);
    free(t->others.rules);
    free(t->fields);
    free(t->rules);
    conf_unref(t->conf);
    free(t);
}
