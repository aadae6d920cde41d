/* SPDX-License-Identifier: Apache-2.0 */
/* signals: figures of applications that loops listen to. */
#include "conf/conf_int.h"

#include <stdio.h>
#include <string.h>

static bool is_signal_name(struct span s)
{
    bool is_good = s.len > 0 && s.len < sizeof((struct ev_custom *)0)->name;
    for (size_t i = 0; i < s.len; i++)
        is_good &= (s.at[i] >= 'a' && s.at[i] <= 'z') || (s.at[i] >= '0' && s.at[i] <= '9') ||
                   (i > 0 && (s.at[i] == '-' || s.at[i] == '_' || s.at[i] == '.'));
    return is_good;
}

static void read_event(struct reader *rd, const struct node *n, struct conf_signal *sig)
{
    char path[NODE_PATH_BYTES];
    if (!read_str(rd, n, &sig->event))
        return;
    if (!is_signal_name(n->text))
        problem(rd, n,
                "%s must be 1..39 of a-z, 0-9, `.`, `_` and `-`, as names of events are, got "
                "\"%.*s\"",
                node_path(n, path), SHOWN(n->text));
    else if (ev_name_is_own(sig->event))
        problem(rd, n, "%s: names that begin with %s are foldback's own", node_path(n, path),
                EV_OWN_PREFIX);
}

static void read_harm(struct reader *rd, const struct node *n, struct conf_signal *sig)
{
    char path[NODE_PATH_BYTES];
    const struct conf_key_row *row = conf_key_row(KEY_SIGNAL_harm);
    struct span s;
    double pct;
    if (!read_scalar(rd, n, &s))
        return;
    if (value_pct(s, &pct) == VALUE_OK && pct >= (double)row->min && pct <= (double)row->max)
        sig->harm_pct = pct;
    else
        problem(rd, n, "%s must be %llu%%..%llu%%, got \"%.*s\"; write for example 5%%",
                node_path(n, path), (unsigned long long)row->min, (unsigned long long)row->max,
                SHOWN(s));
}

static void read_one(struct reader *rd, const struct node *n, struct conf_signal *sig)
{
    int word = 0;
    uint16_t service;
    if (!read_is(rd, n, NODE_MAP, "{ event: orders.placed, service: shop, better: higher }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        int key = read_key(rd, k, LEVEL_SIGNAL);
        if (key >= KEY_SIGNAL_event && key <= KEY_SIGNAL_compare)
            sig->line[key - KEY_SIGNAL_event] = k->line;
        switch (key) {
        case KEY_SIGNAL_event:
            read_event(rd, k, sig);
            break;
        case KEY_SIGNAL_value:
            if (read_word(rd, k, conf_key_row(KEY_SIGNAL_value)->words, &word))
                sig->value = (uint8_t)word;
            break;
        case KEY_SIGNAL_service:
            if (read_service_name(rd, k, &service))
                sig->service = rd->conf->services[service].name;
            break;
        case KEY_SIGNAL_better:
            if (read_word(rd, k, conf_key_row(KEY_SIGNAL_better)->words, &word))
                sig->better = (uint8_t)word;
            break;
        case KEY_SIGNAL_harm:
            read_harm(rd, k, sig);
            break;
        case KEY_SIGNAL_compare:
            if (read_word(rd, k, conf_key_row(KEY_SIGNAL_compare)->words, &word))
                sig->has_sides = word == 1;
            break;
        default:
            break;
        }
    }
}

void parse_signals(struct reader *rd, const struct node *n)
{
    if (!read_is(rd, n, NODE_MAP,
                 "`signals: { orders: { event: orders.placed, service: shop, better: higher } }`"))
        return;
    if (n->count > CONF_SIGNALS_MAX) {
        problem(rd, n, "signals must have at most %d entries, got %u", CONF_SIGNALS_MAX, n->count);
        return;
    }
    struct conf_signal *at = arena_get(rd->keep, n->count * sizeof *at);
    size_t count = 0;
    if (!at)
        return;
    for (const struct node *k = n->first; k; k = k->next, count++) {
        struct conf_signal *sig = &at[count];
        if (!is_signal_name(k->key->text))
            problem(rd, k->key,
                    "the name of a signal is 1..39 of a-z, 0-9, `.`, `_` and `-`, got \"%.*s\"",
                    SHOWN(k->key->text));
        sig->name = arena_text(rd->keep, k->key->text);
        sig->event = sig->name;
        sig->service = "";
        sig->harm_pct = 5;
        read_one(rd, k, sig);
    }
    rd->conf->signals = at;
    rd->conf->signal_count = count;
}

/* ---- which split ---- */

static bool is_same_split(const struct conf_split *a, const struct conf_split *b)
{
    bool is_same = a->count == b->count;
    for (size_t i = 0; i < a->count && is_same; i++)
        is_same = strcmp(a->parts[i].version, b->parts[i].version) == 0 &&
                  a->parts[i].pct == b->parts[i].pct;
    return is_same;
}

const struct conf_split *conf_signal_split(const struct conf *c, const struct conf_signal *sig,
                                           const char **why)
{
    const struct conf_split *one = NULL;
    bool is_same = true;
    for (size_t i = 0; i < c->route_count; i++) {
        const struct conf_route *rt = &c->routes[i];
        if (conf_route_is_own(rt) || strcmp(c->services[rt->service].name, sig->service) != 0)
            continue;
        is_same = is_same && (!one || is_same_split(one, &rt->split));
        one = one && one->count ? one : &rt->split; /* the first that has some parts */
    }
    bool has_some = one && one->count > 0;
    if (why)
        *why = !sig->has_sides    ? NULL
               : !sig->service[0] ? "say `service`"
               : !sig->better     ? "say `better`"
               : !has_some        ? "no route of its service has a `split`"
               : !is_same         ? "the routes of its service have different splits"
                                  : NULL;
    return sig->has_sides && sig->better && has_some && is_same ? one : NULL;
}
