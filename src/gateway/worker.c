/* SPDX-License-Identifier: Apache-2.0 */
/* worker: one thread: its loop, its listening sockets, its clock ticks. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/mix.h"
#include "base/regex.h"
#include "base/sanitize.h"
#include "gateway/cache.h"
#include "gateway/h2_int.h"
#include "gateway/h2_upstream.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

/* Refusals between two looks at what was idle (100 ms): 500 per second. */
#define REFUSED_MANY 50
#define TICK_BUSY_US (5 * US_PER_MS)
#define TICK_IDLE_US (100 * US_PER_MS)
#define TRIM_BYTES (1 * MIB)
#define TRIM_GAP_US (2 * US_PER_S)

static void on_tick(struct loop_timer *t);
static void on_stop(struct loop_message *m);
static void last_call(struct worker *w);
static bool size_scratch(struct worker *w);
static void trim(struct worker *w, uint64_t now_us);

bool worker_init(struct worker *w, struct gw *gw, uint32_t index, struct fb_err *err)
{
    const struct gateway_setup *setup = gw->setup;
    *w = (struct worker){.gw = gw,
                         .index = index,
                         .ring = gw->mem->rings[setup->slot * gw->thread_count + index],
                         .tick = {.on_due = on_tick},
                         .pause = {.on_due = listen_pause_over},
                         .stop = {.on_message = on_stop},
                         .pipe = {-1, -1},
                         .pipe_bytes = 4 * CHUNK_BODY_BYTES,
                         .in_bytes = 4 * CHUNK_BODY_BYTES};
    rng_init(&w->rng, gw->key_seed + 0x9e3779b97f4a7c15u * (index + 1));
    w->next_id = rng_u64(&w->rng);
    w->id_salt = mix_salt(gw->mem->head->node_id);
    chunk_store_init(&w->chunks);
    send_batch_init(&w->sends);
    handshakes_init(&w->handshakes);
    slab_init(&w->clients, sizeof(struct client), 4096);
    slab_init(&w->requests, sizeof(struct request), 1024);
    slab_init(&w->upstreams, sizeof(struct upstream), 1024);
    slab_init(&w->h2u_streams, sizeof(struct h2u_stream), 1024);
    slab_init(&w->trailers, sizeof(struct trailer_room), 64);
    slab_init(&w->cache_works, sizeof(struct cache_work), 256);
    slab_init(&w->h2_conns, sizeof(struct h2_conn), 1024);
    slab_init(&w->h2_streams, sizeof(struct h2_stream), 1024);
    w->in = malloc(w->in_bytes);
    if (!w->in) {
        fb_fail(err, FB_E_NOMEM, "gateway: no memory for thread %u", index);
        return false;
    }
    return loop_new(&w->loop, err) == FB_OK;
}

void *worker_main(void *arg)
{
    struct worker *w = arg;
    thread_haste(THREAD_URGENT);
    listen_accept(w, true);
    loop_timer_set(w->loop, &w->tick, loop_refresh_us(w->loop) + TICK_IDLE_US);
    loop_run(w->loop, NULL, NULL);
    return NULL;
}

/* The end of the drain's patience: we cut, not the client. */
void worker_cut_short(struct client *c)
{
    struct request *req = c->req;
    if (c->h2)
        h2_conn_each(c, worker_cut_short);
    if (!req || req->is_out_done)
        return;
    req->reason = req->phase == REQUEST_TUNNEL ? REASON_TUNNEL_CUT : REASON_DRAIN_CUT;
    c->is_cut = true;
}

void worker_fini(struct worker *w)
{
    while (w->client_list) {
        worker_cut_short(w->client_list);
        client_gone(w->client_list);
    }
    while (w->orphans) {
        struct request *req = w->orphans;
        if (req->up)
            upstream_close(req->up);
        if (req->is_ticket_live && req->ticket.state == GATE_QUEUED)
            service_cancel(req); /* a fetch of our own that still waits */
        forward_finished(req, GATE_ABANDONED);
    }
    while (w->idle_oldest)
        upstream_close(w->idle_oldest);
    h2u_fini(w);
    if (w->access.log)
        access_buf_fini(&w->access);
    handshakes_fini(&w->handshakes);
    loop_free(w->loop);
    chunk_store_fini(&w->chunks);
    slab_fini(&w->clients);
    slab_fini(&w->requests);
    slab_fini(&w->upstreams);
    slab_fini(&w->h2u_streams);
    slab_fini(&w->trailers);
    slab_fini(&w->cache_works);
    slab_fini(&w->h2_conns);
    slab_fini(&w->h2_streams);
    h2_shared_free(w->h2);
    listen_fini(w);
    if (w->pipe[0] >= 0) {
        close(w->pipe[0]);
        close(w->pipe[1]);
    }
    regex_work_free(w->regex);
    free(w->in);
    free(w->out);
    free(w->request_fields);
    free(w->answer_fields);
}

/* False without memory; then the old configuration stays. */
bool worker_switch(struct worker *w, struct generation *gen)
{
    struct generation *was = w->gen;
    w->gen = gen;
    if (gen->conf->has_regex && !w->regex)
        w->regex = regex_work_new();
    if (!size_scratch(w) || (gen->conf->has_regex && !w->regex)) {
        w->gen = was;
        return false;
    }
    listen_switch(w, gen);
    if (was && was->use[w->index].requests == 0)
        generation_leave(was, w);
    return true;
}

void worker_busy(struct worker *w)
{
    uint64_t due_us = loop_now_us(w->loop) + TICK_BUSY_US;
    if (w->request_count == 1 && w->tick.due_us > due_us) {
        w->tick_due_us = due_us;
        loop_timer_set(w->loop, &w->tick, due_us);
    }
}

void worker_drain(struct worker *w)
{
    if (w->is_draining)
        return;
    w->is_draining = true;
    listen_close(w);
    for (struct client *c = w->client_list; c; c = c->next) {
        if (c->h2)
            h2_conn_drain(c);
    }
    leave_drain(w);
}

static void on_stop(struct loop_message *m)
{
    struct worker *w = FB_CONTAINER(m, struct worker, stop);
    if (atomic_load_explicit(&w->gw->is_stopped, memory_order_acquire))
        loop_stop(w->loop);
    else
        worker_drain(w);
}

/* A client that is told can go elsewhere; one that is cut can only guess. */
void worker_refuse_waiting(struct client *c)
{
    struct request *req = c->req;
    if (c->h2) {
        h2_conn_each(c, worker_refuse_waiting);
        return;
    }
    if (!req || (req->phase != REQUEST_HELD && req->phase != REQUEST_QUEUED &&
                 req->phase != REQUEST_GUARDED && req->phase != REQUEST_BACKOFF))
        return;
    forward_refuse(req, REASON_SHED_DRAINING);
    client_run(c);
}

static void last_call(struct worker *w)
{
    w->is_last_call = true;
    for (struct client *c = w->client_list, *next; c; c = next) {
        next = c->next;
        worker_refuse_waiting(c);
    }
}

static void on_tick(struct loop_timer *t)
{
    struct worker *w = FB_CONTAINER(t, struct worker, tick);
    struct gw *gw = w->gw;
    uint64_t now_us = loop_now_us(w->loop);
    for (struct service *sv = atomic_load_explicit(&gw->services, memory_order_acquire); sv;
         sv = sv->next) {
        if (w->index == 0 || atomic_load_explicit(&sv->live, memory_order_relaxed))
            service_tick(sv, w, now_us);
        if (w->index == 0 && !gw->is_retired)
            service_say(sv, w);
    }
    if (!w->is_last_call && atomic_load_explicit(&gw->is_last_call, memory_order_acquire))
        last_call(w);
    if (w->tick_due_us)
        w->tick_late_us = fb_max_u64(w->tick_late_us, fb_sub_floor_u64(now_us, w->tick_due_us));
    if (now_us - w->ticked_us >= TICK_IDLE_US) {
        w->ticked_us = now_us;
        uint64_t beat_us =
            atomic_load_explicit(&gw->mem->head->brain_beat_us, memory_order_relaxed);
        uint64_t age_us = fb_sub_floor_u64(now_us, fb_max_u64(beat_us, gw->start_us));
        w->static_age_us = age_us > w->gen->conf->p.gateway_static_after * US_PER_MS ? age_us : 0;
        /* in overload requests wait for endpoints, not for us: then it would only cost CPU */
        bool is_refusing = w->refused != w->refused_seen;
        send_batch_rest(&w->sends, w->refused - w->refused_seen >= REFUSED_MANY);
        w->refused_seen = w->refused;
        loop_busy_poll(w->loop, is_refusing ? 0 : w->gen->conf->p.gateway_busy_poll_us);
        report_refill(w);
        cache_sample_adapt(w);
        pool_expire(w);
        trim(w, now_us);
        if (w->access.log)
            access_buf_tick(&w->access, now_us);
        atomic_store_explicit(&w->shown_requests, w->request_count, memory_order_relaxed);
        atomic_store_explicit(&w->shown_clients, w->client_count, memory_order_relaxed);
        atomic_store_explicit(&w->shown_requests_total, w->requests_total, memory_order_relaxed);
        h2_show(w);
        if (w->index == 0)
            gateway_tick(gw);
        bool may_accept = own_act(w, now_us);
        if (may_accept == w->is_held && !w->is_draining)
            listen_accept(w, may_accept);
        w->is_held = !may_accept;
        if (w->leaving)
            listen_leave(w, now_us);
    }
    uint64_t gap_us = w->request_count ? TICK_BUSY_US : TICK_IDLE_US;
    w->tick_due_us = now_us + gap_us;
    loop_timer_set(w->loop, &w->tick, w->tick_due_us);
}

/* After a burst the C library holds on to pages between pieces still in use; it is asked to let go,
 * but not often: it walks its whole heap. */
static void trim(struct worker *w, uint64_t now_us)
{
    uint64_t freed = w->requests.freed_bytes + w->clients.freed_bytes + w->upstreams.freed_bytes +
                     w->chunks.small.freed_bytes + w->chunks.body.freed_bytes + w->rested_bytes;
    if (freed - w->trimmed_bytes < TRIM_BYTES || now_us - w->trimmed_us < TRIM_GAP_US)
        return;
    w->trimmed_bytes = freed;
    w->trimmed_us = now_us;
    /* The heap of a sanitizer is another; the library's own is then made by the first call, which
     * two threads must not make at once. */
    if (!FB_IS_SANITIZED)
        malloc_trim(64 * KIB);
}

/* Room for heads as large as the limits of the present configuration allow. */
static bool size_scratch(struct worker *w)
{
    const struct http1_limits *l = &w->gen->limits;
    /* a target can grow to three times its length when bytes are escaped; our own fields need less
     * than 2 KiB */
    size_t need = 4 * (size_t)l->line_bytes + 2 * (size_t)l->header_bytes + 8 * KIB;
    if (need > w->out_bytes) {
        char *out = malloc(need);
        if (!out)
            return false;
        free(w->out);
        w->out = out;
        w->out_bytes = need;
    }
    if (l->header_count > w->field_room) {
        struct http1_field *a = calloc(l->header_count, sizeof *a),
                           *b = calloc(l->header_count, sizeof *b);
        if (!a || !b) {
            free(a);
            free(b);
            return false;
        }
        free(w->request_fields);
        free(w->answer_fields);
        w->request_fields = a;
        w->answer_fields = b;
        w->field_room = l->header_count;
    }
    return true;
}

uint64_t worker_request_id(struct worker *w)
{
    return mix_u64(w->next_id++) ^ w->id_salt;
}
