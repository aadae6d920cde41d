/* SPDX-License-Identifier: Apache-2.0 */
/* proxied: who the client is when a load balancer stands before us, and telling it to endpoints
 * (PROXY protocol).
 *
 * The header is read with a look that leaves the bytes in the socket until it is whole: what stands
 * behind it belongs to TLS, to HTTP or to nobody we know.  A connection that breaks the rule is
 * closed without an answer: nobody who speaks HTTP is there to read one. */
#include "base/assert.h"
#include "gateway/authz.h"
#include "gateway/rules.h"
#include "proto/proxy_protocol.h"

#include <errno.h>
#include <unistd.h>
#include <xxhash.h>

static bool is_v4(const struct sock_addr *a);
static struct sock_addr from_bytes(unsigned family, const unsigned char *at, uint16_t port);
static bool cut(struct client *c, size_t received_bytes);
static size_t introduction(const struct request *req, uint8_t version,
                           char out[PROXY_WRITE_MAX_BYTES]);
static size_t build(struct client *c, uint8_t version, char out[PROXY_WRITE_MAX_BYTES]);

static const unsigned char v4_in_v6[12] = {[10] = 0xff, [11] = 0xff};

bool proxied_is_trusted(const struct conf_listen *conf, const struct sock_addr *peer)
{
    unsigned char address[16];
    if (!conf->is_proxied || conf->trusted_count == 0)
        return true;
    proxied_address(peer, address);
    return conf_prefix_has(conf->trusted, conf->trusted_count, address);
}

bool proxied_is_proxy(const struct client *c)
{
    const struct conf_listen *conf = c->listener ? c->listener->conf : NULL;
    unsigned char address[16];
    if (!conf || conf->proxy_count == 0)
        return false;
    proxied_address(&c->peer, address);
    return conf_prefix_has(conf->proxies, conf->proxy_count, address);
}

bool proxied_read(struct client *c)
{
    char bytes[PROXY_HEAD_MAX_BYTES];
    struct proxy_head head;
    ssize_t n;
    do
        n = recv(c->handle.fd, bytes, sizeof bytes, MSG_PEEK);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        c->can_read = false;
        client_wait(c);
        c->is_running = false;
        return false;
    }
    if (n <= 0) { /* a check whether the port is open */
        client_close(c);
        return false;
    }
    enum proxy_step step = proxy_read((struct span){bytes, (size_t)n}, &head);
    if (step == PROXY_FAILED || (step == PROXY_MORE && c->has_ended))
        return cut(c, (size_t)n);
    if (step == PROXY_MORE) {
        c->can_read = false; /* the next byte is an event of its own */
        client_wait(c);
        c->is_running = false;
        return false;
    }
    if (recv(c->handle.fd, bytes, head.head_bytes, 0) != (ssize_t)head.head_bytes)
        return cut(c, (size_t)n);
    c->awaits_proxy = false;
    if (head.family != PROXY_NONE) {
        c->peer = from_bytes(head.family, head.source, head.source_port);
        c->proxied = chunk_take(&c->worker->chunks, sizeof(struct sock_addr));
        if (!c->proxied)
            return cut(c, (size_t)n);
        struct sock_addr target = from_bytes(head.family, head.target, head.target_port);
        memcpy(c->proxied->at, &target, sizeof target);
        c->traits = EV_TRAIT_BIT(PROXIED);
    }
    return true;
}

void proxied_late(struct client *c)
{
    cut(c, 0);
}

uint64_t proxied_key(const struct request *req, const struct conf_service *conf)
{
    char text[PROXY_WRITE_MAX_BYTES];
    if (!conf->proxy_version)
        return 0;
    size_t len = introduction(req, conf->proxy_version, text);
    return XXH3_64bits_withSeed(text, len, req->worker->gw->key_seed) | 1;
}

bool proxied_write(int fd, struct request *req, uint8_t version)
{
    char text[PROXY_WRITE_MAX_BYTES];
    size_t len = req ? introduction(req, version, text) : 0;
    if (len == 0)
        return false;
    req->traits |= EV_TRAIT_BIT(INTRODUCED);
    /* the first bytes of a fresh connection always fit; more follow at once */
    return send(fd, text, len, MSG_NOSIGNAL | MSG_MORE) == (ssize_t)len;
}

/* A second copy and a question are for a client, who may be gone: then nothing is begun for him
 * (0). What foldback asks for itself (an answer anew, a mirror's copy) is nobody's. */
static size_t introduction(const struct request *req, uint8_t version,
                           char out[PROXY_WRITE_MAX_BYTES])
{
    struct client *c = req->guard ? authz_asker(req) : request_waiter(req);
    if (c)
        return build(c, version, out);
    return req->is_own && !req->guard ? proxied_local(version, out, PROXY_WRITE_MAX_BYTES) : 0;
}

size_t proxied_local(uint8_t version, char *out, size_t room)
{
    const struct proxy_head head = {.version = version, .is_local = true};
    fb_assert(room >= PROXY_WRITE_MAX_BYTES);
    return proxy_write(&head, out);
}

/* Both addresses in one family; without them the endpoint learns only that somebody is there. */
static size_t build(struct client *c, uint8_t version, char out[PROXY_WRITE_MAX_BYTES])
{
    struct proxy_head head = {.version = version};
    struct sock_addr target = {.bytes = 0};
    const struct client *socket = c->kind == CLIENT_H2 ? h2_stream_socket(c) : c;
    if (c->proxied)
        memcpy(&target, c->proxied->at, sizeof target);
    else if (!socket || !sock_local(socket->link.fd, &target))
        return proxy_write(&head, out);
    if (sock_is_unix(&c->peer) || sock_is_unix(&target)) /* a client on this machine */
        return proxy_write(&head, out);
    unsigned char source_v6[16], target_v6[16];
    proxied_address(&c->peer, source_v6);
    proxied_address(&target, target_v6);
    bool is_short = is_v4(&c->peer) && is_v4(&target);
    size_t skip = is_short ? sizeof v4_in_v6 : 0;
    head.family = is_short ? PROXY_IPV4 : PROXY_IPV6;
    memcpy(head.source, source_v6 + skip, 16 - skip);
    memcpy(head.target, target_v6 + skip, 16 - skip);
    head.source_port = sock_port(&c->peer);
    head.target_port = sock_port(&target);
    return proxy_write(&head, out);
}

static bool cut(struct client *c, size_t received_bytes)
{
    report_refused(c->worker, REASON_PROXY_HEADER_BAD, 0, c->since_us, received_bytes);
    client_close(c);
    return false;
}

static bool is_v4(const struct sock_addr *a)
{
    return a->any.sa_family == AF_INET ||
           (a->any.sa_family == AF_INET6 &&
            memcmp(&a->v6.sin6_addr, v4_in_v6, sizeof v4_in_v6) == 0);
}

void proxied_address(const struct sock_addr *a, unsigned char out[16])
{
    memset(out, 0, 16);
    if (a->any.sa_family == AF_INET6) {
        memcpy(out, &a->v6.sin6_addr, 16);
    } else if (a->any.sa_family == AF_INET) {
        memcpy(out, v4_in_v6, sizeof v4_in_v6);
        memcpy(out + sizeof v4_in_v6, &a->v4.sin_addr, 4);
    }
}

static struct sock_addr from_bytes(unsigned family, const unsigned char *at, uint16_t port)
{
    struct sock_addr a = {.bytes = 0};
    if (family == PROXY_IPV4) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(port);
        memcpy(&a.v4.sin_addr, at, 4);
        a.bytes = sizeof a.v4;
    } else {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(port);
        memcpy(&a.v6.sin6_addr, at, 16);
        a.bytes = sizeof a.v6;
    }
    return a;
}
