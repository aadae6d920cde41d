/* SPDX-License-Identifier: Apache-2.0 */
/* probe: active health checks, on connections of their own, so that they never wait behind traffic.
 *
 *   resting --interval--> connecting --> sent --status line | timeout | end--> judged --> resting
 *
 * The rest of an HTTP/1 answer is read away (leave): a connection that is closed before its bytes
 * are read is reset, and many servers log each reset as an error.
 *
 * Threads: thread 0. */
#include "base/assert.h"
#include "gateway/blame.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* Room for a PROXY header. */
#define PROXY_TEXT_BYTES 256
/* Of an answer whose status is known; what is longer is cut off. */
#define LEAVE_US US_PER_S
#define LEAVE_BYTES (256 * KIB)
/* A request for the longest path at the longest host. */
#define ASK_BYTES (CONF_HEALTH_PATH_MAX + 512)

struct probe {
    struct loop_handle handle;
    struct loop_timer timer;
    struct worker *worker;
    struct endpoint *ep;
    struct conf_health conf;
    uint8_t proxy_version;     /* of the header that the endpoint expects first; 0: none */
    uint32_t passes, failures; /* in a row */
    uint64_t begun_us;
    bool is_open, is_sent, is_judged, owes_proxy, can_write;
    struct link link;
    struct probe_h2 *h2;                 /* NULL: HTTP/1 */
    char call[CONF_HEALTH_GRPC_MAX + 7]; /* HealthCheckRequest of grpc.health.v1 */
    size_t call_bytes;                   /* 0: a GET */
    char ask[ASK_BYTES]; /* the whole request; "": that it takes a connection is enough */
    uint32_t got;
    char answer[64]; /* the status line is all that counts */
};

static void on_timer(struct loop_timer *t);
static void on_ready(struct loop_handle *h, uint32_t events);
static void write_ask(struct probe *p, const struct conf_service *conf);
static void begin(struct probe *p);
static enum tls_step secure(struct probe *p);
static bool ask(struct probe *p);
static void end(struct probe *p, bool is_ok, uint16_t status);
static void judge(struct probe *p, bool is_ok, uint16_t status);
static void leave(struct probe *p);
static void hang_up(struct probe *p);
static void rest(struct probe *p, bool is_first);

void probe_sync(struct service *sv, struct worker *w)
{
    for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
        struct endpoint *ep = sv->endpoints[i];
        if (!ep || atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
            continue;
        if (!sv->conf || !sv->conf->health.is_on) {
            if (ep->probe)
                service_probe(ep, EJECT_PROBE_GOOD); /* nobody asks it any more: its word ends */
            probe_stop(ep);
            continue;
        }
        struct probe *p = ep->probe;
        bool is_new = p == NULL;
        if (is_new)
            p = calloc(1, sizeof *p);
        if (!p)
            continue; /* without memory there is no probe; passive ejection stays */
        p->conf = sv->conf->health;
        p->proxy_version = sv->conf->proxy_version;
        p->ep = ep;
        write_ask(p, sv->conf);
        if (!is_new)
            continue;
        p->worker = w;
        p->handle = (struct loop_handle){.on_ready = on_ready, .fd = -1};
        p->timer.on_due = on_timer;
        ep->probe = p;
        rest(p, true);
    }
}

void probe_stop(struct endpoint *ep)
{
    struct probe *p = ep->probe;
    if (!p)
        return;
    if (p->is_open) {
        link_fini(&p->link, false);
        close(p->handle.fd);
        loop_forget(p->worker->loop, &p->handle);
    }
    loop_timer_stop(p->worker->loop, &p->timer);
    probe_h2_free(p->h2);
    free(p);
    ep->probe = NULL;
}

/* HealthCheckRequest { service = 1: <name> } behind its length. */
static void write_call(struct probe *p, const char *name, const char *host)
{
    size_t name_bytes = strlen(name), bytes = name_bytes ? name_bytes + 2 : 0;
    const char head[] = {0, 0, 0, 0, (char)bytes, 0x0a, (char)name_bytes};
    fb_assert(name_bytes <= CONF_HEALTH_GRPC_MAX);
    memcpy(p->call, head, sizeof head);
    memcpy(p->call + sizeof head, name, name_bytes);
    p->call_bytes = 5 + bytes;
    int n = snprintf(p->ask, sizeof p->ask,
                     "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: %s\r\nUser-Agent: "
                     "foldback-health\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\r\n",
                     host);
    fb_assert(n > 0 && (size_t)n < sizeof p->ask);
}

/* The Host is that of the requests where the file names one: an endpoint with several sites, or one
 * that refuses names that it does not know, answers a check as it answers them. */
static void write_ask(struct probe *p, const struct conf_service *conf)
{
    const char *host = conf->health.host[0] ? conf->health.host : conf->host_header;
    char named[sizeof p->ep->host + 8];
    struct sock_addr number;
    if (!host[0] && sock_is_unix(&p->ep->addr)) {
        host = "localhost";
    } else if (!host[0] && p->ep->host[0] && !sock_parse_host(span_of(p->ep->host), 0, &number)) {
        uint16_t port = sock_port(&p->ep->addr);
        snprintf(named, sizeof named, "%s:%u", p->ep->host, port);
        host = port == (conf->tls.is_on ? 443 : 80) ? p->ep->host : named;
    } else if (!host[0]) {
        host = p->ep->text;
    }
    p->ask[0] = '\0';
    if (conf->is_tcp && !conf->health.path[0] && !conf->health.grpc)
        return;
    p->call_bytes = 0;
    if (conf->health.grpc) {
        write_call(p, conf->health.grpc, host);
        return;
    }
    int n = snprintf(p->ask, sizeof p->ask,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: "
                     "foldback-health\r\nConnection: close\r\n\r\n",
                     conf->health.path[0] ? conf->health.path : "/", host);
    fb_assert(n > 0 && (size_t)n < sizeof p->ask);
}

/* Spread over the interval, so that not all endpoints, nor all gateways, are asked in one instant.
 */
static void rest(struct probe *p, bool is_first)
{
    uint64_t interval_us = (p->conf.interval_ms ? p->conf.interval_ms : 1000) * US_PER_MS;
    double jitter = is_first ? rng_unit(&p->worker->rng) : 0.9 + 0.2 * rng_unit(&p->worker->rng);
    loop_timer_set(p->worker->loop, &p->timer,
                   loop_now_us(p->worker->loop) + (uint64_t)((double)interval_us * jitter) +
                       US_PER_MS);
}

static void on_timer(struct loop_timer *t)
{
    struct probe *p = FB_CONTAINER(t, struct probe, timer);
    if (p->is_open && p->is_judged) {
        hang_up(p);
        rest(p, false);
    } else if (p->is_open) {
        end(p, false, 0); /* it did not answer in time */
    } else {
        begin(p);
    }
}

static void begin(struct probe *p)
{
    struct worker *w = p->worker;
    int fd;
    p->begun_us = loop_now_us(w->loop);
    p->got = 0;
    p->is_sent = p->is_judged = p->can_write = false;
    struct sock_addr to = p->ep->addr;
    if (p->conf.port && to.any.sa_family == AF_INET6)
        to.v6.sin6_port = htons(p->conf.port);
    else if (p->conf.port && to.any.sa_family == AF_INET)
        to.v4.sin_port = htons(p->conf.port);
    int why = sock_connect(&to, &fd);
    if (fd < 0) {
        blame_connect(w, p->ep, why);
        end(p, false, 0);
        return;
    }
    if (loop_add(w->loop, &p->handle, fd, LOOP_READ | LOOP_WRITE | LOOP_EDGE) != FB_OK) {
        close(fd);
        rest(p, false); /* our own lack of descriptors says nothing about the endpoint */
        return;
    }
    p->is_open = true;
    p->link = (struct link){.fd = fd};
    p->owes_proxy = p->proxy_version != 0;
    loop_timer_set(w->loop, &p->timer,
                   p->begun_us + (p->conf.timeout_ms ? p->conf.timeout_ms : 1000) * US_PER_MS);
}

static void on_ready(struct loop_handle *h, uint32_t events)
{
    struct probe *p = FB_CONTAINER(h, struct probe, handle);
    if (p->is_judged) {
        leave(p);
        return;
    }
    if ((events & LOOP_ERROR) && !p->is_sent) {
        end(p, false, 0);
        return;
    }
    p->can_write |= (events & LOOP_WRITE) != 0;
    if (!p->is_sent && p->can_write) {
        enum tls_step step = secure(p);
        if (step == TLS_WAIT)
            return;
        if (step == TLS_FAILED && p->link.tls && tls_fault_of(p->link.tls) != TLS_FAULT_NONE)
            blame_say(p->worker, p->ep, &p->link, REASON_UPSTREAM_TLS);
        if (step == TLS_FAILED || !p->ask[0] || !ask(p)) {
            end(p, step == TLS_OK && !p->ask[0], 0);
            return;
        }
        events |= p->link.tls ? LOOP_READ : 0; /* it may have come with the handshake */
    }
    if (!(events & LOOP_READ) || !p->is_sent)
        return;
    if (p->h2) {
        uint16_t code;
        bool goes_on = probe_h2_take(p->h2, &code);
        if (code || !goes_on)
            end(p, code >= 200 && code < 400, code);
        return;
    }
    ssize_t n = link_recv(&p->link, p->answer + p->got, sizeof p->answer - p->got);
    if (n < 0 && errno == EAGAIN && !(events & LOOP_ERROR))
        return;
    if (n <= 0) {
        uint16_t blame = blame_end(&p->link, (struct span){p->answer, p->got}, false);
        if (blame)
            blame_say(p->worker, p->ep, &p->link, blame);
        end(p, false, 0);
        return;
    }
    p->got += (uint32_t)n;
    if (p->got < 12)
        return;
    bool is_http = memcmp(p->answer, "HTTP/1.", 7) == 0 && p->answer[8] == ' ';
    unsigned status = 0;
    for (int i = 9; is_http && i < 12; i++)
        status = status * 10 + (unsigned)(p->answer[i] - '0');
    judge(p, is_http && status >= 200 && status < 400,
          (uint16_t)(is_http && status < 1000 ? status : 0));
    p->got = 0;
    loop_timer_set(p->worker->loop, &p->timer,
                   loop_now_us(p->worker->loop) +
                       fb_min_u64(LEAVE_US, p->conf.timeout_ms * US_PER_MS));
    leave(p);
}

/* Reads away what is left, up to its end. */
static void leave(struct probe *p)
{
    char bytes[4096];
    ssize_t n;
    while ((n = link_recv(&p->link, bytes, sizeof bytes)) > 0 && p->got < LEAVE_BYTES)
        p->got += (uint32_t)n;
    if (n < 0 && errno == EAGAIN)
        return;
    hang_up(p);
    rest(p, false);
}

/* PROXY header and TLS handshake, where the service has them. */
static enum tls_step secure(struct probe *p)
{
    const struct generation *gen = p->worker->gw->gen;
    const struct conf_service *conf = p->ep->sv->conf;
    if (p->owes_proxy) {
        char text[PROXY_TEXT_BYTES];
        size_t len = proxied_local(p->proxy_version, text, sizeof text);
        p->owes_proxy = false;
        if (send(p->link.fd, text, len, MSG_NOSIGNAL | MSG_MORE) != (ssize_t)len)
            return TLS_FAILED;
    }
    struct tls_client *t = conf ? gen->tls_out[conf - gen->conf->services] : NULL;
    if (!t && !p->link.tls)
        return TLS_OK;
    if (!p->link.tls)
        p->link.tls = tls_connect(t, p->link.fd, p->ep->host);
    return p->link.tls ? tls_handshake(p->link.tls) : TLS_FAILED;
}

static bool ask(struct probe *p)
{
    struct iovec iov = {p->ask, strlen(p->ask)};
    p->is_sent = true;
    const struct conf_service *conf = p->ep->sv->conf;
    bool is_h2 =
        conf && (conf->protocol == CONF_PROTOCOL_H2 || conf->protocol == CONF_PROTOCOL_H2C);
    if (conf && conf->protocol == CONF_PROTOCOL_AUTO && p->link.tls)
        is_h2 = span_eq(tls_alpn(p->link.tls), SPAN("h2"));
    if (is_h2) {
        p->h2 = probe_h2_new(&p->link);
        return p->h2 && probe_h2_ask(p->h2, span_of(p->ask), (struct span){p->call, p->call_bytes});
    }
    return link_write(&p->link, &iov, 1) == (ssize_t)iov.iov_len;
}

static void end(struct probe *p, bool is_ok, uint16_t status)
{
    hang_up(p);
    judge(p, is_ok, status);
    rest(p, false);
}

static void hang_up(struct probe *p)
{
    probe_h2_free(p->h2);
    p->h2 = NULL;
    if (!p->is_open)
        return;
    link_fini(&p->link, false);
    close(p->handle.fd);
    loop_forget(p->worker->loop, &p->handle);
    p->is_open = false;
}

static void judge(struct probe *p, bool is_ok, uint16_t status)
{
    struct worker *w = p->worker;
    p->is_judged = true;
    p->passes = is_ok ? p->passes + 1 : 0;
    p->failures = is_ok ? 0 : p->failures + 1;
    /* one lucky or unlucky probe changes nothing; the gate judges what we pass on */
    if (is_ok ? p->passes >= p->conf.rise : p->failures >= p->conf.fall)
        service_probe(p->ep, is_ok    ? EJECT_PROBE_GOOD
                             : status ? EJECT_PROBE_REFUSED
                                      : EJECT_PROBE_SILENT);
    struct ev_health ev = EV_INIT(HEALTH, health, loop_now_us(w->loop));
    ev.head.origin = (uint8_t)w->index;
    ev.service = p->ep->sv->number;
    ev.endpoint = p->ep->number;
    ev.from = ev.to =
        p->ep->gauge ? (uint8_t)atomic_load_explicit(&p->ep->gauge->health, memory_order_relaxed)
                     : 0;
    ev.reason = is_ok ? REASON_HEALTH_PROBE_PASSED : REASON_HEALTH_PROBE_FAILED;
    ev.status = status;
    ev.probe_us = fb_sat_u32(fb_sub_floor_u64(loop_now_us(w->loop), p->begun_us));
    ring_put(w->ring, &ev.head);
}
