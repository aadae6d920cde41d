/* SPDX-License-Identifier: Apache-2.0 */
/* routes[].cache: off, on, or a map. */
#include "conf/conf_int.h"

#include <ctype.h>

static void cache_vary(struct reader *rd, const struct node *n, struct conf_cache *c);

void cache_default(struct conf_cache *c)
{
    *c = (struct conf_cache){
        .is_heuristic = true, .heeds_clients = true, .collapse_ms = 5000, .guard_ms = 60000};
}

static void cache_key(struct reader *rd, const struct node *k, struct conf_cache *c)
{
    int key = read_key(rd, k, LEVEL_CACHE), word;
    switch (key) {
    case KEY_CACHE_ttl:
        read_key_number(rd, k, KEY_CACHE_ttl, &c->ttl_ms);
        break;
    case KEY_CACHE_negative:
        read_key_number(rd, k, KEY_CACHE_negative, &c->negative_ms);
        break;
    case KEY_CACHE_heuristic:
        read_bool(rd, k, &c->is_heuristic);
        break;
    case KEY_CACHE_stale_while_revalidate:
        read_key_number(rd, k, KEY_CACHE_stale_while_revalidate, &c->stale_while_revalidate_ms);
        break;
    case KEY_CACHE_stale_if_error:
        read_key_number(rd, k, KEY_CACHE_stale_if_error, &c->stale_if_error_ms);
        break;
    case KEY_CACHE_key:
        if (read_word(rd, k, conf_key_row(KEY_CACHE_key)->words, &word))
            c->key = (uint8_t)word;
        break;
    case KEY_CACHE_vary:
        cache_vary(rd, k, c);
        break;
    case KEY_CACHE_max_object:
        read_key_number(rd, k, KEY_CACHE_max_object, &c->max_object_bytes);
        break;
    case KEY_CACHE_budget:
        read_key_number(rd, k, KEY_CACHE_budget, &c->budget_bytes);
        break;
    case KEY_CACHE_collapse:
        read_key_number(rd, k, KEY_CACHE_collapse, &c->collapse_ms);
        break;
    case KEY_CACHE_guard:
        read_key_number(rd, k, KEY_CACHE_guard, &c->guard_ms);
        break;
    case KEY_CACHE_client_control:
        read_bool(rd, k, &c->heeds_clients);
        break;
    default:
        break;
    }
}

void parse_cache(struct reader *rd, const struct node *n, struct conf_cache *c)
{
    if (n->kind == NODE_SCALAR) {
        read_switch(rd, n, "{ ttl: 10m }", &c->is_on);
        return;
    }
    if (!read_is(rd, n, NODE_MAP, "on, or { ttl: 10s, stale_if_error: 1h }"))
        return;
    c->is_on = true;
    for (const struct node *k = n->first; k; k = k->next)
        cache_key(rd, k, c);
}

static bool is_field_name(struct span s)
{
    if (s.len == 0 || s.len > 64)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.at[i]) && s.at[i] != '-' && s.at[i] != '_')
            return false;
    return true;
}

static void cache_vary(struct reader *rd, const struct node *n, struct conf_cache *c)
{
    if (!read_is(rd, n, NODE_LIST, "[X-Country]"))
        return;
    if (n->count > CONF_CACHE_VARY_MAX) {
        problem(rd, n, "vary must have 0..%d fields, got %u", CONF_CACHE_VARY_MAX, n->count);
        return;
    }
    const char **at = arena_get(rd->keep, (n->count + 1) * sizeof *at);
    if (!at)
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        struct span s;
        if (!read_scalar(rd, k, &s))
            continue;
        if (!is_field_name(s)) {
            problem(rd, k, "\"%.*s\" is not the name of a header field", SHOWN(s));
            continue;
        }
        char *name = arena_get(rd->keep, s.len + 1);
        if (!name)
            return;
        for (size_t i = 0; i < s.len; i++)
            name[i] = (char)tolower((unsigned char)s.at[i]);
        at[c->vary_count++] = name;
    }
    c->vary = at;
}
