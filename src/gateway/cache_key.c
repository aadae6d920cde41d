/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of the cache: "https://host:port/path?query", the target URI of the request (RFC 9111
 * section 2, RFC 9110 section 7.1) in normal form: the host in lower case, no final dot, no port
 * that the scheme implies.
 *
 * Scheme and port belong to it: an answer that was made for one of them names it (a redirect to
 * https, a link with a port), and must not be what others get.  They are what the endpoint is told:
 * those of a proxy in front where its fields are trusted. */
#include "base/assert.h"
#include "gateway/cache.h"
#include "gateway/gateway_int.h"
#include "gateway/rules.h"

#define PORT_HTTP 80
#define PORT_HTTPS 443

struct origin {
    bool is_https;
    struct span host;
    uint16_t port; /* 0: what the scheme implies */
};

static void put_origin(struct http1_out *w, const struct origin *o)
{
    http1_put(w, o->is_https ? SPAN("https://") : SPAN("http://"));
    size_t from = w->len;
    http1_put(w, o->host);
    for (size_t i = from; i < w->len; i++)
        if (w->at[i] >= 'A' && w->at[i] <= 'Z')
            w->at[i] = (char)(w->at[i] | 0x20);
    if (o->port && o->port != (o->is_https ? PORT_HTTPS : PORT_HTTP)) {
        http1_put(w, SPAN(":"));
        http1_put_u64(w, o->port);
    }
}

static struct origin origin_of(const struct request *req, const struct http1_head *head,
                               struct span host)
{
    struct origin o = {
        .is_https = rules_is_https(req, head), .host = host, .port = head->host_port};
    if (!req->is_forwarded)
        return o;
    if (http1_has(head, HTTP1_H_X_FORWARDED_HOST)) {
        struct span name;
        uint16_t port;
        if (http1_host_split(http1_find(head, HTTP1_H_X_FORWARDED_HOST)->value, &name, &port)) {
            o.host = name;
            o.port = port;
        }
    }
    return o;
}

void cache_key_put(struct http1_out *w, const struct request *req, const struct http1_head *head,
                   const struct cache_where *where)
{
    const struct conf_cache *conf = &req->gen->conf->routes[req->route].cache;
    struct origin o = origin_of(req, head, where->host);
    put_origin(w, &o);
    http1_put(w, conf->key == CONF_CACHE_KEY_PATH ? where->path : where->target);
}

/* Where the scheme of an absolute <url> ends ("://" is behind it); 0: it has none. */
static size_t scheme_len(struct span url)
{
    size_t n = 0;
    while (n < url.len && ((url.at[n] | 0x20) >= 'a' && (url.at[n] | 0x20) <= 'z'))
        n++;
    return url.len - n > 3 && memcmp(url.at + n, "://", 3) == 0 ? n : 0;
}

bool cache_url_has_scheme(struct span url)
{
    return scheme_len(url) > 0;
}

bool cache_key_of_url(struct http1_out *w, struct span url, bool is_https)
{
    struct origin o = {.is_https = is_https};
    size_t n = scheme_len(url);
    if (n) {
        struct span scheme = {url.at, n};
        o.is_https = span_ieq(scheme, SPAN("https"));
        if (!o.is_https && !span_ieq(scheme, SPAN("http")))
            return false;
        url = (struct span){url.at + n + 3, url.len - n - 3};
    }
    const char *slash = memchr(url.at, '/', url.len);
    struct span authority = {url.at, slash ? (size_t)(slash - url.at) : url.len};
    if (!http1_host_split(authority, &o.host, &o.port))
        return false;
    put_origin(w, &o);
    http1_put(w, slash ? (struct span){slash, url.len - authority.len} : SPAN("/"));
    return !w->failed;
}

bool cache_key_of_reference(struct http1_out *w, struct span own, struct span ref)
{
    size_t scheme = scheme_len(own) + 3;
    const char *slash = memchr(own.at + scheme, '/', own.len - scheme);
    struct span origin = {own.at, (size_t)(slash - own.at)};
    fb_assert(scheme > 3 && slash);
    if (ref.len == 0)
        return false;
    if (scheme_len(ref)) {
        size_t from = w->len;
        if (!cache_key_of_url(w, ref, false))
            return false;
        struct span other = {w->at + from, w->len - from};
        return span_starts(other, origin) && other.len > origin.len && other.at[origin.len] == '/';
    }
    if (ref.at[0] == '/') {
        if (ref.len > 1 && ref.at[1] == '/') /* another host */
            return false;
        http1_put(w, origin);
    } else { /* relative to the folder of the request */
        const char *query = memchr(own.at, '?', own.len);
        size_t folder = query ? (size_t)(query - own.at) : own.len;
        while (own.at[folder - 1] != '/')
            folder--;
        http1_put(w, (struct span){own.at, folder});
    }
    http1_put(w, ref);
    return !w->failed;
}
