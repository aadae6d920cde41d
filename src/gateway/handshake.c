/* SPDX-License-Identifier: Apache-2.0 */
/* handshake: TLS handshakes of clients, one after the other at the end of a turn.
 *
 *   accepted --> waiting --bytes--> ready --its turn--> waiting | open (client_run) | closed
 *                   \--header_timeout, too many--> closed
 *
 * A full handshake costs a signature, which is up to a thousand times a small request.  So ready
 * ones queue, and a turn of the loop spends at most SLICE_US on them (or one, if it takes longer):
 * open connections are served in between, and a flood of handshakes delays a request by one slice.
 * Too many at once: the oldest is closed, for an honest client is done within a round trip.
 * Threads: each worker has its own. */
#include "base/assert.h"
#include "base/clock.h"
#include "gateway/gateway_int.h"
#include "io/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Two P-256 signatures with their key exchange take about this; half of it would double the turns,
 * twice would show in the p99 of small requests. */
#define SLICE_US 500

static void run_ready(struct loop_job *job);
static void step(struct client *c);
static void count_end(struct client *c, enum tls_fault fault);
static void say_https(const struct client *c);

bool handshake_begin(struct client *c, struct tls_server *server)
{
    struct worker *w = c->worker;
    struct handshakes *all = &w->handshakes;
    struct handshake *h = calloc(1, sizeof *h);
    c->link.tls = h ? tls_accept(server, c->link.fd) : NULL;
    if (!c->link.tls) {
        free(h);
        return false;
    }
    *h = (struct handshake){.client = c, .newer = NULL, .older = all->newest};
    if (all->newest)
        all->newest->newer = h;
    else
        all->oldest = h;
    all->newest = h;
    c->handshake = h;
    if (++all->count > w->gen->conf->p.tls_handshakes) {
        struct client *old = all->oldest->client;
        handshake_fail(old, TLS_FAULT_BUSY);
        client_close(old);
    }
    return true;
}

void handshake_ready(struct client *c)
{
    struct handshakes *all = &c->worker->handshakes;
    struct handshake *h = c->handshake;
    if (h->is_ready)
        return;
    h->is_ready = true;
    h->next = NULL;
    *all->last = h;
    all->last = &h->next;
    all->job.on_run = run_ready;
    loop_defer(c->worker->loop, &all->job);
}

void handshake_fail(struct client *c, enum tls_fault fault)
{
    count_end(c, fault);
    handshake_drop(c);
}

/* Out of the list; what is in the queue of ready ones is freed when its turn comes. */
void handshake_drop(struct client *c)
{
    struct handshakes *all = &c->worker->handshakes;
    struct handshake *h = c->handshake;
    fb_assert(all->count > 0);
    if (h->newer)
        h->newer->older = h->older;
    else
        all->newest = h->older;
    if (h->older)
        h->older->newer = h->newer;
    else
        all->oldest = h->newer;
    all->count--;
    c->handshake = NULL;
    h->client = NULL;
    if (!h->is_ready)
        free(h);
}

void handshakes_init(struct handshakes *all)
{
    *all = (struct handshakes){.last = &all->first};
}

void handshakes_fini(struct handshakes *all)
{
    fb_assert(all->count == 0);
    while (all->first) {
        struct handshake *next = all->first->next;
        free(all->first);
        all->first = next;
    }
}

static void run_ready(struct loop_job *job)
{
    struct handshakes *all = FB_CONTAINER(job, struct handshakes, job);
    struct worker *w = FB_CONTAINER(all, struct worker, handshakes);
    uint64_t begun_us = fb_mono_us();
    while (all->first) {
        struct handshake *h = all->first;
        all->first = h->next;
        if (!all->first)
            all->last = &all->first;
        h->is_ready = false;
        if (h->client)
            step(h->client);
        else
            free(h);
        if (all->first && fb_mono_us() - begun_us >= SLICE_US) {
            loop_defer(w->loop, job);
            return;
        }
    }
}

static void step(struct client *c)
{
    switch (tls_handshake(c->link.tls)) {
    case TLS_WAIT:
        if (!c->is_broken)
            return;
        handshake_fail(c, TLS_FAULT_CLOSED);
        client_close(c);
        return;
    case TLS_FAILED:
        handshake_fail(c, tls_fault_of(c->link.tls));
        if (tls_is_plain_http(c->link.tls))
            say_https(c);
        client_close(c);
        return;
    case TLS_OK:
        break;
    }
    count_end(c, TLS_FAULT_NONE);
    handshake_drop(c);
    c->tls = tls_version(c->link.tls) == 13 ? EV_TLS_13 : EV_TLS_12;
    c->tls_cipher = tls_cipher(c->link.tls) | (tls_is_resumed(c->link.tls) ? EV_TLS_RESUMED : 0u);
    c->can_read = true; /* the request may have come with the end of the handshake */
    if (span_eq(tls_alpn(c->link.tls), SPAN("h2")))
        client_begin_h2(c, (struct span){NULL, 0});
    client_wait(c);
    client_run(c);
}

static void count_end(struct client *c, enum tls_fault fault)
{
    struct memfile_tls *t = &c->worker->gw->mem->head->tls;
    _Atomic uint64_t *at = fault != TLS_FAULT_NONE       ? &t->failed[fault]
                           : tls_is_resumed(c->link.tls) ? &t->resumed
                                                         : &t->full;
    _Static_assert(TLS_FAULT_COUNT <= MEMFILE_TLS_FAULTS, "memfile.h: raise MEMFILE_TLS_FAULTS");
    atomic_fetch_add_explicit(at, 1, memory_order_relaxed);
}

static void say_https(const struct client *c)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                               "Content-Length: 50\r\nConnection: close\r\n\r\n"
                               "This port speaks HTTPS: write https:// in the URL\n";
    if (send(c->link.fd, text, sizeof text - 1, MSG_NOSIGNAL) < 0)
        return; /* it left, which is as well */
}
