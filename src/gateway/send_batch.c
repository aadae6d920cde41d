/* SPDX-License-Identifier: Apache-2.0 */
/* send_batch: what the events of one turn of the loop have to write is written at the end of the
 * turn, requests first and answers behind them.
 *
 * A send wakes whoever waits for the bytes, and on a loopback or a busy host that wake-up was a
 * seventh of the CPU of a small request.  Sent one behind the other, the first send wakes the
 * neighbour and the others find it awake (doc/design/gateway.md has the figures). */
#include "base/assert.h"
#include "gateway/gateway_int.h"

#include <sys/uio.h>

static void on_turn_end(struct loop_job *job);
static void on_rested(struct loop_timer *t);
static bool has_room(struct send_batch *b, uint32_t count, struct worker *w);
static void put(struct client *c);
static void forget(struct client **list, uint32_t count, const struct client *c);
static void run_all(struct client **list, uint32_t count);

void send_batch_init(struct send_batch *b)
{
    b->job = (struct loop_job){.on_run = on_turn_end};
    b->timer = (struct loop_timer){.on_due = on_rested};
}

void send_batch_rest(struct send_batch *b, bool may_rest)
{
    b->may_rest = may_rest;
}

bool upstream_send_later(struct upstream *up)
{
    struct worker *w = up->worker;
    struct send_batch *b = &w->sends;
    if (up->is_send_due)
        return true;
    if (!has_room(b, b->upstream_count, w))
        return false;
    up->is_send_due = true;
    b->upstreams[b->upstream_count++] = up;
    return true;
}

bool client_send_later(struct client *c, const struct iovec *iov, int count)
{
    struct worker *w = c->worker;
    struct send_batch *b = &w->sends;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (c->out || !c->can_write || c->is_broken || total > CHUNK_SMALL_BYTES ||
        b->client_count == SEND_BATCH_MAX)
        return false;
    for (int i = 0; i < count; i++) {
        struct span part = {iov[i].iov_base, iov[i].iov_len};
        if (!chunk_append(&w->chunks, &c->out, part)) {
            c->is_broken = true;
            return true;
        }
    }
    if (c->req)
        c->req->sent_bytes += total;
    c->since_us = loop_now_us(w->loop);
    c->is_send_due = true;
    put(c);
    return true;
}

/* There is room in b->clients. */
static void put(struct client *c)
{
    struct worker *w = c->worker;
    struct send_batch *b = &w->sends;
    bool is_refusal = c->req && ev_reason_is_shed(c->req->reason);
    if (!b->may_rest || !is_refusal || b->resting_count == SEND_BATCH_MAX) {
        b->clients[b->client_count++] = c;
        loop_defer(w->loop, &b->job);
        return;
    }
    if (b->resting_count == 0)
        loop_timer_set(w->loop, &b->timer, loop_now_us(w->loop) + SEND_BATCH_REST_US);
    b->resting[b->resting_count++] = c;
}

void send_batch_forget_upstream(struct upstream *up)
{
    struct send_batch *b = &up->worker->sends;
    for (uint32_t i = 0; up->is_send_due && i < b->upstream_count; i++)
        if (b->upstreams[i] == up)
            b->upstreams[i] = NULL;
    up->is_send_due = false;
}

void send_batch_forget_client(struct client *c)
{
    struct send_batch *b = &c->worker->sends;
    if (c->is_send_due) {
        forget(b->clients, b->client_count, c);
        forget(b->resting, b->resting_count, c);
    }
    c->is_send_due = false;
}

static void forget(struct client **list, uint32_t count, const struct client *c)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == c)
            list[i] = NULL;
}

static bool has_room(struct send_batch *b, uint32_t count, struct worker *w)
{
    if (count == SEND_BATCH_MAX)
        return false;
    loop_defer(w->loop, &b->job);
    return true;
}

/* What the writing itself sets going (the next request of a pipeline) waits for the next turn. */
static void on_turn_end(struct loop_job *job)
{
    struct send_batch *b = FB_CONTAINER(job, struct send_batch, job);
    uint32_t upstream_count = b->upstream_count, client_count = b->client_count;
    for (uint32_t i = 0; i < upstream_count; i++) {
        struct upstream *up = b->upstreams[i];
        if (!up)
            continue;
        b->upstreams[i] = NULL;
        up->is_send_due = false;
        upstream_send_now(up);
    }
    run_all(b->clients, client_count);
    b->upstream_count -= upstream_count;
    b->client_count -= client_count;
    memmove(b->upstreams, b->upstreams + upstream_count,
            b->upstream_count * sizeof(struct upstream *));
    memmove(b->clients, b->clients + client_count, b->client_count * sizeof(struct client *));
}

static void run_all(struct client **list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct client *c = list[i];
        if (!c)
            continue;
        list[i] = NULL;
        c->is_send_due = false;
        client_run(c);
    }
}

/* A connection that is run here may be refused again (its pipeline): that one rests anew. */
static void on_rested(struct loop_timer *t)
{
    struct send_batch *b = FB_CONTAINER(t, struct send_batch, timer);
    uint32_t count = b->resting_count;
    run_all(b->resting, count);
    b->resting_count -= count;
    memmove(b->resting, b->resting + count, b->resting_count * sizeof(struct client *));
    if (b->resting_count) {
        struct worker *w = FB_CONTAINER(b, struct worker, sends);
        loop_timer_set(w->loop, &b->timer, loop_now_us(w->loop) + SEND_BATCH_REST_US);
    }
}
