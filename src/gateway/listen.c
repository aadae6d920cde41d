/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "gateway/control_msg.h"
#include "gateway/gateway_int.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Accepted in one go; more would let open connections wait behind new ones. */
#define ACCEPT_BATCH 64
/* Without descriptors it is tried again after this. */
#define ACCEPT_PAUSE_US (100 * US_PER_MS)
/* Goes of a listener that leaves: what waits at it is served, a flood does not hold the thread. */
#define LAST_BATCHES 64

struct listen_offers { /* [place in the new `listen`][thread]; -1: none */
    int fds[MEMFILE_LISTENS_MAX][MEMFILE_THREADS_MAX];
};

static int16_t place_before(const struct gw *gw, const struct conf *conf, size_t index);
static bool fresh_listeners(struct gw *gw, struct listen_plan *plan, size_t index);
static void follow(struct listener *l, struct generation *gen, size_t index);
static void forget_service(struct listener *l, const struct generation *gen);
static void leave(struct listener *l);
static void turn_on(struct listener *l);
static void on_accept(struct loop_handle *h, uint32_t events);
static bool accept_some(struct listener *l);
static void end_some(struct listener *l, uint64_t now_us);
static bool is_quiet(const struct client *c, uint64_t now_us);
static void cut(struct client *c);
static void listener_free(struct listener *l);

/* ---- thread 0: what a reload brings ---- */

void listen_offer(struct gw *gw, uint16_t index, const struct control_fds *fds)
{
    bool is_right = index < MEMFILE_LISTENS_MAX && fds->count == gw->thread_count;
    if (!gw->offers && is_right) {
        gw->offers = malloc(sizeof *gw->offers);
        for (size_t i = 0; gw->offers && i < MEMFILE_LISTENS_MAX; i++)
            for (size_t t = 0; t < MEMFILE_THREADS_MAX; t++)
                gw->offers->fds[i][t] = -1;
    }
    for (size_t t = 0; t < fds->count; t++)
        if (gw->offers && is_right && gw->offers->fds[index][t] < 0)
            gw->offers->fds[index][t] = fds->at[t];
        else
            close(fds->at[t]);
}

void listen_offers_drop(struct gw *gw)
{
    for (size_t i = 0; gw->offers && i < MEMFILE_LISTENS_MAX; i++)
        for (size_t t = 0; t < MEMFILE_THREADS_MAX; t++)
            if (gw->offers->fds[i][t] >= 0)
                close(gw->offers->fds[i][t]);
    free(gw->offers);
    gw->offers = NULL;
}

enum fb_code listen_plan_new(struct gw *gw, struct generation *gen, struct fb_err *err)
{
    const struct conf *conf = gen->conf;
    size_t count = conf->listen_count;
    fb_assert(count <= MEMFILE_LISTENS_MAX);
    struct listen_plan *plan =
        calloc(1, sizeof *plan + gw->thread_count * count * sizeof(struct listener *));
    gen->listen = plan;
    if (!plan)
        return fb_fail(err, FB_E_NOMEM, "listen: no memory for %zu addresses", count);
    plan->count = count;
    for (size_t i = 0; i < count; i++) {
        plan->from[i] = place_before(gw, conf, i);
        if (plan->from[i] >= 0)
            continue;
        bool is_there =
            gw->gen ? gw->offers && gw->offers->fds[i][0] >= 0 : gw->setup->listen_count == count;
        if (!is_there)
            return fb_fail(err, FB_E_CONFIG,
                           "listen[%zu]: %s came without its sockets; `foldback upgrade` or a "
                           "restart opens them",
                           i, conf->listens[i].address);
        if (!fresh_listeners(gw, plan, i))
            return fb_fail(err, FB_E_NOMEM, "listen: no memory for %zu addresses", count);
    }
    return FB_OK;
}

/* The same address is the same listener; port 0 may stand there more than once: the n-th is the
 * n-th. */
static int16_t place_before(const struct gw *gw, const struct conf *conf, size_t index)
{
    const char *address = conf->listens[index].address;
    size_t nth = 0;
    if (!gw->gen)
        return -1;
    for (size_t i = 0; i < index; i++)
        nth += strcmp(conf->listens[i].address, address) == 0;
    const struct conf *was = gw->gen->conf;
    for (size_t i = 0; i < was->listen_count; i++)
        if (strcmp(was->listens[i].address, address) == 0 && nth-- == 0)
            return (int16_t)i;
    return -1;
}

static bool fresh_listeners(struct gw *gw, struct listen_plan *plan, size_t index)
{
    size_t bytes = (sizeof(struct listener) + FB_CACHE_LINE_BYTES - 1) &
                   ~(size_t)(FB_CACHE_LINE_BYTES - 1); /* each thread counts its own clients */
    for (uint32_t t = 0; t < gw->thread_count; t++) {
        size_t at = t * plan->count + index;
        struct listener *l = aligned_alloc(FB_CACHE_LINE_BYTES, bytes);
        if (!l)
            return false;
        int *offer = gw->gen ? &gw->offers->fds[index][t] : NULL;
        *l = (struct listener){.handle = {.on_ready = on_accept, .fd = -1},
                               .worker = &gw->workers[t],
                               .fd = offer ? *offer : gw->setup->listen_fds[at]};
        if (offer)
            *offer = -1;
        plan->fresh[at] = l;
    }
    return true;
}

void listen_plan_free(struct generation *gen, uint32_t threads)
{
    struct listen_plan *plan = gen->listen;
    for (size_t i = 0; plan && i < threads * plan->count; i++)
        if (plan->fresh[i]) {
            close(plan->fresh[i]->fd);
            listener_free(plan->fresh[i]);
        }
    free(plan);
}

/* ---- a worker ---- */

void listen_switch(struct worker *w, struct generation *gen)
{
    struct listen_plan *plan = gen->listen;
    struct listener *was[MEMFILE_LISTENS_MAX];
    size_t was_count = w->listener_count;
    memcpy(was, w->listeners, sizeof was);
    for (size_t i = 0; i < plan->count; i++) {
        struct listener **from =
            plan->from[i] >= 0 ? &was[plan->from[i]] : &plan->fresh[w->index * plan->count + i];
        struct listener *l = *from;
        fb_assert(l != NULL);
        *from = NULL;
        w->listeners[i] = l;
        follow(l, gen, i);
    }
    w->listener_count = plan->count;
    for (struct listener *l = w->leaving; l; l = l->next)
        forget_service(l, gen);
    for (size_t i = 0; i < was_count; i++)
        if (was[i]) {
            forget_service(was[i], gen);
            leave(was[i]);
        }
    if (w->is_draining)
        listen_close(w);
    else if (w->is_accepting)
        listen_accept(w, true);
}

static void follow(struct listener *l, struct generation *gen, size_t index)
{
    struct conf *file = conf_ref(gen->conf);
    conf_unref(l->file);
    tls_server_unref(l->tls);
    l->file = file;
    l->conf = &file->listens[index];
    l->tls = gen->tls[index] ? tls_server_ref(gen->tls[index]) : NULL;
    l->service = l->conf->is_tcp ? gen->services[l->conf->service] : NULL;
}

/* A service that the new file does not have takes nothing more. */
static void forget_service(struct listener *l, const struct generation *gen)
{
    bool is_there = false;
    for (size_t i = 0; i < gen->conf->service_count; i++)
        is_there |= gen->services[i] == l->service;
    if (!is_there)
        l->service = NULL;
}

/* Who has connected already is served; who comes now is refused.  A socket that all threads
 * share is shut by the supervisor, when all threads are through with it: they share one. */
static void leave(struct listener *l)
{
    struct worker *w = l->worker;
    l->is_gone = true;
    l->gone_us = loop_now_us(w->loop);
    l->clients++; /* for the time of this call */
    for (int i = 0; i < LAST_BATCHES && l->handle.fd >= 0 && accept_some(l); i++)
        ;
    if (l->handle.fd >= 0)
        loop_remove(w->loop, &l->handle);
    if (l->fd >= 0) {
        if (!sock_is_shared(l->conf->address))
            shutdown(l->fd, SHUT_RDWR);
        close(l->fd);
        l->fd = -1;
    }
    for (struct client *c = w->client_list; c; c = c->next)
        if (c->listener == l && c->h2)
            h2_conn_drain(c);
    if (--l->clients == 0) {
        listener_free(l);
        return;
    }
    l->next = w->leaving;
    w->leaving = l;
}

void listen_accept(struct worker *w, bool is_on)
{
    w->is_accepting = is_on;
    for (size_t i = 0; i < w->listener_count; i++) {
        struct listener *l = w->listeners[i];
        if (is_on)
            turn_on(l);
        else if (l->handle.fd >= 0)
            loop_remove(w->loop, &l->handle);
    }
}

static void turn_on(struct listener *l)
{
    struct worker *w = l->worker;
    if (l->handle.fd < 0 && l->fd >= 0 && loop_add(w->loop, &l->handle, l->fd, LOOP_READ) != FB_OK)
        loop_timer_set(w->loop, &w->pause, loop_now_us(w->loop) + ACCEPT_PAUSE_US);
}

void listen_pause_over(struct loop_timer *t)
{
    struct worker *w = FB_CONTAINER(t, struct worker, pause);
    if (!w->is_draining && !w->is_held)
        listen_accept(w, true);
}

void listen_close(struct worker *w)
{
    listen_accept(w, false);
    for (size_t i = 0; i < w->listener_count; i++)
        if (w->listeners[i]->fd >= 0) {
            close(w->listeners[i]->fd);
            w->listeners[i]->fd = -1;
        }
}

static void on_accept(struct loop_handle *h, uint32_t events)
{
    (void)events;
    (void)accept_some(FB_CONTAINER(h, struct listener, handle));
}

/* True: more may wait. */
static bool accept_some(struct listener *l)
{
    struct worker *w = l->worker;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sock_addr peer;
        int fd = sock_accept(l->fd, &peer);
        if (fd >= 0) {
            client_accept(l, fd, &peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            fb_log(FB_LOG_WARN,
                   "out of descriptors or memory with %u connections: accepting pauses; raise "
                   "`ulimit -n` or set limits.connections",
                   w->client_count);
            listen_accept(w, false);
            loop_timer_set(w->loop, &w->pause, loop_now_us(w->loop) + ACCEPT_PAUSE_US);
            return false;
        }
        if (errno == EAGAIN)
            return false;
        /* ECONNABORTED and other ends of one connection: go on with the next */
    }
    return true;
}

void listener_joined(struct client *c)
{
    c->listener->clients++;
}

void listener_left(struct client *c)
{
    struct listener *l = c->listener;
    fb_assert(l->clients > 0);
    if (--l->clients > 0 || !l->is_gone)
        return;
    struct listener **at = &l->worker->leaving;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    listener_free(l);
}

bool client_is_leaving(const struct client *c)
{
    return c->worker->is_draining || c->listener->is_gone;
}

bool request_is_leaving(const struct request *req)
{
    return req->worker->is_draining || (req->client && req->client->listener->is_gone);
}

/* ---- the end of those that are gone ---- */

void listen_leave(struct worker *w, uint64_t now_us)
{
    for (struct listener *l = w->leaving, *next; l; l = next) {
        uint64_t most_us = w->gen->conf->p.gateway_drain_timeout * US_PER_MS;
        next = l->next;
        if (l->last_call_us) {
            end_some(l, now_us);
            continue;
        }
        if (now_us - l->gone_us >= most_us)
            l->last_call_us = now_us;
        end_some(l, now_us);
    }
}

/* Quiet connections are closed; at the last call what waits is told, and after it the rest is cut.
 * What a connection's end sets free may end others: only what ends by itself ends in this walk. */
static void end_some(struct listener *l, uint64_t now_us)
{
    struct worker *w = l->worker;
    bool is_last_call = l->last_call_us == now_us;
    bool is_over = l->last_call_us && now_us - l->last_call_us >= LAST_CALL_US;
    for (struct client *c = w->client_list, *next; c; c = next) {
        next = c->next;
        if (c->listener != l)
            continue;
        bool is_last = l->clients == 1;
        if (is_over)
            cut(c);
        else if (is_last_call)
            worker_refuse_waiting(c);
        else if (is_quiet(c, now_us))
            client_close(c);
        if (is_last) /* <l> may be gone */
            return;
    }
}

static bool is_quiet(const struct client *c, uint64_t now_us)
{
    char byte;
    uint64_t since_us = fb_max_u64(c->since_us, c->listener->gone_us);
    return !c->req && !c->in && !c->out && !c->h2 && !c->handshake && !c->awaits_proxy &&
           !c->is_lingering && !c->is_send_due && c->kind == CLIENT_H1 &&
           fb_sub_floor_u64(now_us, since_us) >= DRAIN_QUIET_US &&
           recv(c->handle.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

/* Its socket tells the loop, which ends it in a turn of its own. */
static void cut(struct client *c)
{
    worker_cut_short(c);
    c->is_broken = true;
    shutdown(c->handle.fd, SHUT_RDWR);
}

void listen_fini(struct worker *w)
{
    for (size_t i = 0; i < w->listener_count; i++)
        listener_free(w->listeners[i]);
    fb_assert(w->leaving == NULL);
    w->listener_count = 0;
}

static void listener_free(struct listener *l)
{
    conf_unref(l->file);
    tls_server_unref(l->tls);
    free(l);
}
