/* SPDX-License-Identifier: Apache-2.0 */
/* place: which endpoint a request belongs to, as far as it says so itself.
 *
 * Hashes here are without a secret: every thread, process and node must find the same home.  A
 * client that aims many keys at one endpoint meets the bounded load of reflex/hash.h. */
#include "gateway/gateway_int.h"

#include <xxhash.h>

static struct span key_of(const struct request *req, const struct http1_head *head,
                          struct span target, struct span path);

void place_ticket(struct request *req, const struct http1_head *head, struct span target,
                  struct span path)
{
    const struct conf_route *r = &req->gen->conf->routes[req->route];
    sticky_ticket(req, head);
    if (req->gen->conf->services[r->service].balance != CONF_BALANCE_HASH)
        return;
    struct span key = key_of(req, head, target, path);
    if (key.len)
        req->ticket.place_hash = XXH3_64bits(key.at, key.len) | 1;
}

uint64_t place_identity(const struct endpoint *ep)
{
    return XXH3_64bits(ep->text, strlen(ep->text));
}

static struct span key_of(const struct request *req, const struct http1_head *head,
                          struct span target, struct span path)
{
    const struct conf_hash *h = &req->gen->conf->routes[req->route].hash;
    const struct http1_field *f;
    switch (h->kind) {
    case CONF_HASH_ADDRESS:
        break;
    case CONF_HASH_PATH:
        return path;
    case CONF_HASH_HEADER:
        f = http1_find_name(head, span_of(h->name));
        return f ? f->value : (struct span){NULL, 0};
    case CONF_HASH_COOKIE:
        return place_cookie(head, span_of(h->name));
    case CONF_HASH_QUERY:
        return place_query(target, span_of(h->name));
    }
    return (struct span){req->peer_text, req->peer_text_bytes};
}

/* RFC 6265 section 5.4: pairs with "; " between them; clients over HTTP/2 may send one field each.
 */
struct span place_cookie(const struct http1_head *head, struct span name)
{
    for (uint32_t i = 0; http1_has(head, HTTP1_H_COOKIE) && i < head->field_count; i++) {
        if (head->fields[i].id != HTTP1_H_COOKIE)
            continue;
        for (struct span rest = head->fields[i].value; rest.len;) {
            struct span value;
            struct span pair = span_trim(span_cut(rest, ';', &rest));
            struct span own = span_cut(pair, '=', &value);
            if (span_eq(own, name) && own.len < pair.len)
                return value;
        }
    }
    return (struct span){NULL, 0};
}

struct span place_query(struct span target, struct span name)
{
    struct span rest;
    span_cut(target, '?', &rest);
    while (rest.len) {
        struct span value;
        struct span pair = span_cut(rest, '&', &rest);
        struct span own = span_cut(pair, '=', &value);
        if (span_eq(own, name) && own.len < pair.len)
            return value;
    }
    return (struct span){NULL, 0};
}
