/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/back.h"

#include "base/assert.h"

#include <stdio.h>

static bool put_address(const struct back_note *b, struct span value, struct http1_out *w);
static void put_refresh(const struct back_note *b, struct span value, struct http1_out *w);
static void put_cookie(const struct back_note *b, struct span value, struct http1_out *w);

bool back_note(struct request *req, const struct rules_where *at)
{
    const struct conf_rules *rules = rules_of(req);
    struct span host = at->head->host;
    fb_assert(req->back == NULL);
    req->back = chunk_take(&req->worker->chunks, sizeof(struct back_note) + host.len);
    if (!req->back)
        return false;
    struct back_note *b = (void *)req->back->at;
    char *text = req->back->at + sizeof *b;
    if (host.len)
        memcpy(text, host.at, host.len);
    *b = (struct back_note){.rules = rules,
                            .sv = request_conf(req),
                            .host = {text, host.len},
                            .is_stripped = rules_strips(rules, at->path),
                            .is_https = rules_is_https(req, at->head)};
    return true;
}

bool back_put(const struct request *req, struct span name, struct span value, struct http1_out *w)
{
    return req->back && back_write((const void *)req->back->at, name, value, w);
}

bool back_write(const struct back_note *b, struct span name, struct span value, struct http1_out *w)
{
    bool is_cookie = name.len == 10 && span_ieq(name, SPAN("set-cookie"));
    bool is_refresh = name.len == 7 && span_ieq(name, SPAN("refresh"));
    bool is_address = (name.len == 8 && span_ieq(name, SPAN("location"))) ||
                      (name.len == 16 && span_ieq(name, SPAN("content-location")));
    if (!is_cookie && !is_refresh && !is_address)
        return false;
    http1_put(w, name);
    http1_put(w, SPAN(": "));
    if (is_cookie)
        put_cookie(b, value, w);
    else if (is_refresh)
        put_refresh(b, value, w);
    else if (!put_address(b, value, w))
        http1_put(w, value);
    http1_put_end(w);
    return true;
}

/* ---- paths ---- */

/* By whole segments; behind them a query may stand. */
static bool is_under(struct span path, struct span prefix)
{
    return span_starts(path, prefix) &&
           (path.len == prefix.len || strchr("/?#", path.at[prefix.len]) != NULL);
}

/* Behind a slash each of these may begin the name of a host: clients take \ for /, and leave
 * control characters out before they look (URL standard, section 4.4). */
static bool begins_host(char ch)
{
    return ch == '/' || ch == '\\' || (unsigned char)ch <= ' ';
}

/* The path that the client must ask for so that the endpoint is asked for <path>.  An endpoint that
 * heeds X-Forwarded-Prefix has put the prefix there itself. */
static void put_path(const struct back_note *b, struct span path, struct http1_out *w)
{
    struct span strip = b->is_stripped ? span_of(b->rules->strip_prefix) : SPAN("");
    struct span add = span_of(b->rules->add_prefix);
    bool is_outside = add.len && !is_under(path, add);
    if ((strip.len && is_under(path, strip)) || is_outside) {
        http1_put(w, path);
        return;
    }
    path = (struct span){path.at + add.len, path.len - add.len};
    http1_put(w, strip);
    if (strip.len == 0) { /* one slash, and nothing behind it that makes a host of a path */
        http1_put(w, SPAN("/"));
        if (path.len && path.at[0] == '/')
            while (path.len && begins_host(path.at[0]))
                path = (struct span){path.at + 1, path.len - 1};
    }
    http1_put(w, path);
}

/* ---- addresses ---- */

static struct span without_port(struct span host)
{
    for (size_t i = host.len; i > 0 && host.at[i - 1] != ']'; i--)
        if (host.at[i - 1] == ':')
            return (struct span){host.at, i - 1};
    return host;
}

static bool is_same_host(struct span a, struct span b, bool is_https)
{
    struct span port = is_https ? SPAN(":443") : SPAN(":80");
    struct span *both[] = {&a, &b};
    for (size_t i = 0; i < FB_COUNT(both); i++) {
        struct span *s = both[i];
        if (s->len > port.len && memcmp(s->at + s->len - port.len, port.at, port.len) == 0)
            s->len -= port.len;
    }
    return a.len && span_ieq(a, b);
}

/* The name that the endpoint was asked by in place of the client's, or its own address. */
static bool is_endpoints_own(const struct back_note *b, struct span host, bool is_https)
{
    const struct conf_service *sv = b->sv;
    char text[300];
    if (sv->host_header && is_same_host(host, span_of(sv->host_header), is_https))
        return true;
    for (size_t i = 0; i < sv->endpoint_count; i++) {
        const struct conf_endpoint *ep = &sv->endpoints[i];
        if (ep->port == 0)
            continue;
        bool is_v6 = strchr(ep->host, ':') && ep->host[0] != '[';
        int n = snprintf(text, sizeof text, is_v6 ? "[%s]:%u" : "%s:%u", ep->host, ep->port);
        if (is_same_host(host, (struct span){text, (size_t)n}, is_https))
            return true;
    }
    return false;
}

static void put_own_host(const struct back_note *b, bool is_https, struct http1_out *w)
{
    struct span host = b->host;
    /* asked by TLS it speaks of itself so; asked in the clear it wants TLS */
    bool wants_tls = b->is_https || (is_https && !b->sv->tls.is_on);
    if (host.len == 0)
        return; /* HTTP/1.0: the path alone */
    http1_put(w, wants_tls ? SPAN("https://") : SPAN("http://"));
    http1_put(w, wants_tls && !b->is_https ? without_port(host) : host);
}

static bool put_absolute(const struct back_note *b, struct span value, struct http1_out *w)
{
    bool is_https = value.len > 8 && strncasecmp(value.at, "https://", 8) == 0;
    size_t from = is_https ? 8 : 7, to;
    if (!is_https && (value.len <= 7 || strncasecmp(value.at, "http://", 7) != 0))
        return false;
    for (to = from; to < value.len && !strchr("/?#", value.at[to]); to++)
        if (value.at[to] == '@' || value.at[to] == '\\')
            return false;
    struct span host = {value.at + from, to - from}, path = {value.at + to, value.len - to};
    if (is_same_host(host, b->host, is_https))
        http1_put(w, (struct span){value.at, to});
    else if (is_endpoints_own(b, host, is_https))
        put_own_host(b, is_https, w);
    else
        return false;
    if (path.len == 0 || path.at[0] != '/') {
        put_path(b, SPAN("/"), w);
        http1_put(w, path);
    } else {
        put_path(b, path, w);
    }
    return true;
}

static void put_text(const struct back_note *b, const char *text, struct http1_out *w)
{
    struct span rest = span_of(text), piece;
    enum conf_var var;
    while (conf_var_next(&rest, &piece, &var)) {
        if (var == CONF_VAR_SCHEME)
            piece = b->is_https ? SPAN("https") : SPAN("http");
        else if (var == CONF_VAR_HOST)
            piece = without_port(b->host);
        http1_put(w, piece);
    }
}

/* The first entry that <value> begins with, or NULL. */
static const struct conf_pair *pair_for(const struct conf_pairs *pairs, struct span value)
{
    for (size_t i = 0; i < pairs->count; i++)
        if (span_starts(value, span_of(pairs->at[i].from)))
            return &pairs->at[i];
    return NULL;
}

static void put_pair(const struct back_note *b, const struct conf_pair *pair, struct span value,
                     struct http1_out *w)
{
    size_t used = strlen(pair->from), len = strlen(pair->to);
    struct span rest = {value.at + used, value.len - used};
    if (len && pair->to[len - 1] == '/')
        while (rest.len && begins_host(rest.at[0]))
            rest = (struct span){rest.at + 1, rest.len - 1};
    put_text(b, pair->to, w);
    http1_put(w, rest);
}

static bool put_address(const struct back_note *b, struct span value, struct http1_out *w)
{
    const struct conf_pair *pair = pair_for(&b->rules->back->location, value);
    if (pair) {
        put_pair(b, pair, value, w);
        return true;
    }
    if (value.len == 0 || value.at[0] != '/')
        return put_absolute(b, value, w);
    if (value.len > 1 && (value.at[1] == '/' || value.at[1] == '\\'))
        return false; /* another host, by the scheme of the page */
    put_path(b, value, w);
    return true;
}

/* "5; url=/login", also in quotes. */
static void put_refresh(const struct back_note *b, struct span value, struct http1_out *w)
{
    size_t at = 0;
    while (at + 4 <= value.len && strncasecmp(value.at + at, "url=", 4) != 0)
        at++;
    at += 4;
    if (at < value.len && (value.at[at] == '\'' || value.at[at] == '"'))
        at++;
    if (at >= value.len) {
        http1_put(w, value);
        return;
    }
    struct span address = {value.at + at, value.len - at};
    size_t end = address.len;
    if (strchr("'\"", value.at[at - 1]))
        for (end = 0; end < address.len && address.at[end] != value.at[at - 1]; end++)
            ;
    struct span rest = {address.at + end, address.len - end};
    address.len = end;
    http1_put(w, (struct span){value.at, at});
    if (!put_address(b, address, w))
        http1_put(w, address);
    http1_put(w, rest);
}

/* ---- cookies ---- */

/* Path=/ stays unless an entry says otherwise: it works as it is, and other services may read it.
 */
static bool put_cookie_path(const struct back_note *b, struct span path, struct http1_out *w)
{
    const struct conf_pair *pair = pair_for(&b->rules->back->cookie_path, path);
    if (!pair && (path.len < 2 || path.at[0] != '/'))
        return false;
    http1_put(w, SPAN("; Path="));
    if (pair)
        put_pair(b, pair, path, w);
    else
        put_path(b, path, w);
    return true;
}

static bool put_cookie_domain(const struct back_note *b, struct span domain, struct http1_out *w)
{
    const struct conf_pairs *pairs = &b->rules->back->cookie_domain;
    if (domain.len && domain.at[0] == '.')
        domain = (struct span){domain.at + 1, domain.len - 1};
    for (size_t i = 0; i < pairs->count; i++) {
        struct span from = span_of(pairs->at[i].from);
        if (from.len && from.at[0] == '.')
            from = (struct span){from.at + 1, from.len - 1};
        if (!span_ieq(domain, from))
            continue;
        if (pairs->at[i].to[0]) {
            http1_put(w, SPAN("; Domain="));
            http1_put(w, span_of(pairs->at[i].to));
        }
        return true;
    }
    /* A client takes no cookie for a name that it did not ask: without one it is for its own. */
    struct span host = without_port(b->host);
    return b->sv->host_header && !span_ieq(domain, host) &&
           span_ieq(domain, without_port(span_of(b->sv->host_header)));
}

static void put_cookie(const struct back_note *b, struct span value, struct http1_out *w)
{
    struct span rest, part = span_cut(value, ';', &rest);
    bool is_host_bound = value.len > 7 && strncasecmp(value.at, "__Host-", 7) == 0;
    http1_put(w, part);
    for (const char *end = value.at + value.len; part.at + part.len < end;) {
        part = span_cut(rest, ';', &rest);
        struct span text, name = span_trim(span_cut(part, '=', &text));
        text = span_trim(text);
        if (!is_host_bound && span_ieq(name, SPAN("path")) && put_cookie_path(b, text, w))
            continue;
        if (span_ieq(name, SPAN("domain")) && put_cookie_domain(b, text, w))
            continue;
        http1_put(w, SPAN(";"));
        http1_put(w, part);
    }
}
