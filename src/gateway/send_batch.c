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
static bool has_room(struct send_batch *b, uint32_t count, struct worker *w);

void send_batch_init(struct send_batch *b)
{
    b->job = (struct loop_job){.on_run = on_turn_end};
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
        !has_room(b, b->client_count, w))
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
    b->clients[b->client_count++] = c;
    return true;
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
    for (uint32_t i = 0; c->is_send_due && i < b->client_count; i++)
        if (b->clients[i] == c)
            b->clients[i] = NULL;
    c->is_send_due = false;
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
    for (uint32_t i = 0; i < client_count; i++) {
        struct client *c = b->clients[i];
        if (!c)
            continue;
        b->clients[i] = NULL;
        c->is_send_due = false;
        client_run(c);
    }
    b->upstream_count -= upstream_count;
    b->client_count -= client_count;
    memmove(b->upstreams, b->upstreams + upstream_count,
            b->upstream_count * sizeof(struct upstream *));
    memmove(b->clients, b->clients + client_count, b->client_count * sizeof(struct client *));
}
