/* SPDX-License-Identifier: Apache-2.0 */
/* sticky: sessions that stay at one endpoint by a cookie.
 *
 * The cookie holds a keyed hash of service and address: it tells no address, nobody can make one
 * for an endpoint of his choice, and it means the same after a restart (the key lies in the state
 * folder) and on every node with the same secret_file.  A cookie that fits no endpoint is as none:
 * the answer brings a new one. */
#include "gateway/gateway_int.h"

#include "base/siphash.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

#define SECRET_BYTES_MIN 16
#define VALUE_DIGITS 16

static bool read_secret(const char *path, uint64_t key[2]);

void sticky_sync(struct service *sv)
{
    struct memfile_head *head = sv->gw->mem->head;
    if (!sv->conf || !sv->conf->sticky.cookie)
        return;
    const char *path = sv->conf->sticky.secret_file;
    if (path[0] && read_secret(path, sv->sticky_key))
        return;
    if (path[0])
        fb_log(FB_LOG_ERROR,
               "service %s: sticky.secret_file %s: cannot be read or has fewer than %d bytes; the "
               "secret of this node is used, others do not understand its cookies",
               sv->name, path, SECRET_BYTES_MIN);
    if (!head->secret[0] && !head->secret[1] &&
        getrandom(head->secret, sizeof head->secret, 0) != (ssize_t)sizeof head->secret)
        head->secret[0] = sv->gw->key_seed;
    memcpy(sv->sticky_key, head->secret, sizeof sv->sticky_key);
}

uint64_t sticky_pin(const struct endpoint *ep)
{
    const struct service *sv = ep->sv;
    char text[sizeof sv->name + sizeof ep->text];
    if (!sv->conf || !sv->conf->sticky.cookie)
        return 0;
    int n = snprintf(text, sizeof text, "%s %s", sv->name, ep->text);
    return siphash(sv->sticky_key, (struct span){text, (size_t)n}) | 1;
}

static const struct conf_sticky *sticky_of(const struct request *req)
{
    const struct conf *conf = req->gen->conf;
    if (req->route == ROUTE_NONE)
        return NULL;
    const struct conf_sticky *sticky = &conf->services[conf->routes[req->route].service].sticky;
    return sticky->cookie ? sticky : NULL;
}

void sticky_ticket(struct request *req, const struct http1_head *head)
{
    const struct conf_sticky *sticky = sticky_of(req);
    if (!sticky)
        return;
    struct span value = place_cookie(head, span_of(sticky->cookie));
    uint64_t pin = 0;
    if (value.len != VALUE_DIGITS)
        return;
    for (size_t i = 0; i < VALUE_DIGITS; i++) {
        char c = value.at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return;
        pin = pin << 4 | (uint64_t)digit;
    }
    req->ticket.pin = pin;
    req->has_cookie = pin != 0;
}

void sticky_answer(struct request *req, uint16_t status, struct http1_out *w)
{
    static const char *const sites[] = {
        [CONF_SITE_LAX] = "; SameSite=Lax",
        [CONF_SITE_STRICT] = "; SameSite=Strict",
        [CONF_SITE_NONE] = "; SameSite=None",
        [CONF_SITE_UNSET] = "",
    };
    const struct conf_sticky *sticky = sticky_of(req);
    if (!sticky || !req->ep || status >= 500)
        return;
    uint64_t pin = atomic_load_explicit(&req->ep->pin, memory_order_relaxed);
    if (pin == 0)
        return;
    if (pin == req->ticket.pin) {
        req->traits |= EV_TRAIT_BIT(STICKY_KEPT);
        return;
    }
    req->traits |= req->has_cookie ? EV_TRAIT_BIT(STICKY_MOVED) : EV_TRAIT_BIT(STICKY_NEW);
    bool is_secure =
        sticky->secure == CONF_SECURE_ON || (sticky->secure == CONF_SECURE_AUTO && req->is_https);
    char value[VALUE_DIGITS];
    for (int i = VALUE_DIGITS - 1; i >= 0; i--, pin >>= 4)
        value[i] = "0123456789abcdef"[pin & 15];
    http1_put(w, SPAN("Set-Cookie: "));
    http1_put(w, span_of(sticky->cookie));
    http1_put(w, SPAN("="));
    http1_put(w, (struct span){value, sizeof value});
    http1_put(w, SPAN("; Path="));
    http1_put(w, span_of(sticky->path));
    if (sticky->ttl_ms) {
        http1_put(w, SPAN("; Max-Age="));
        http1_put_u64(w, sticky->ttl_ms / 1000);
    }
    if (is_secure)
        http1_put(w, SPAN("; Secure"));
    if (sticky->is_http_only)
        http1_put(w, SPAN("; HttpOnly"));
    http1_put(w, span_of(sites[sticky->same_site]));
    http1_put(w, SPAN("\r\n"));
}

/* Any bytes will do: they are mixed into 128 bits, all of which count. */
static bool read_secret(const char *path, uint64_t key[2])
{
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--; /* an editor's last line end is no part of it */
    if (n < SECRET_BYTES_MIN)
        return false;
    XXH128_hash_t h = XXH3_128bits(text, (size_t)n);
    key[0] = h.low64;
    key[1] = h.high64;
    return true;
}
