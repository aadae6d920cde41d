/* SPDX-License-Identifier: Apache-2.0 */
/* pool: free connections to endpoints, per thread and endpoint, newest first: what was used last is
 * warm in every cache, and what a lull made superfluous grows old and is closed. */
#include "base/assert.h"
#include "gateway/gateway_int.h"

/* With PROXY headers each client has connections of its own: this many are looked at. */
#define SEARCH_MAX 64u

static void unlink_age(struct upstream *up);

struct upstream *pool_take(struct worker *w, struct endpoint *ep, uint64_t client_key)
{
    struct pool *p = &ep->pools[w->index];
    struct upstream *up = p->first;
    for (uint32_t seen = 1; up && up->client_key != client_key; seen++)
        up = seen < SEARCH_MAX ? up->next : NULL;
    if (!up)
        return NULL;
    pool_remove(up);
    up->phase = UPSTREAM_BUSY;
    up->is_reused = true;
    return up;
}

bool pool_give(struct upstream *up)
{
    struct worker *w = up->worker;
    struct endpoint *ep = up->ep;
    struct pool *p = &ep->pools[w->index];
    const struct conf_params *params = &w->gen->conf->p;
    fb_assert(up->req == NULL);
    send_batch_forget_upstream(up);
    if (atomic_load_explicit(&ep->is_gone, memory_order_relaxed) || w->is_draining ||
        params->upstream_keepalive == 0 || p->count >= params->upstream_pool) {
        upstream_close(up);
        return false;
    }
    up->phase = UPSTREAM_IDLE;
    up->idle_us = loop_now_us(w->loop);
    up->has_head = up->has_bytes = false;
    up->next = p->first;
    up->prev = &p->first;
    if (up->next)
        up->next->prev = &up->next;
    p->first = up;
    p->count++;
    up->newer = NULL;
    up->older = w->idle_newest;
    if (up->older)
        up->older->newer = up;
    else
        w->idle_oldest = up;
    w->idle_newest = up;
    return true;
}

void pool_remove(struct upstream *up)
{
    struct pool *p = &up->ep->pools[up->worker->index];
    fb_assert(up->phase == UPSTREAM_IDLE);
    fb_assert(p->count > 0);
    *up->prev = up->next;
    if (up->next)
        up->next->prev = up->prev;
    p->count--;
    unlink_age(up);
}

void pool_expire(struct worker *w)
{
    uint64_t now_us = loop_now_us(w->loop);
    uint64_t keep_us = w->is_draining ? 0 : w->gen->conf->p.upstream_keepalive * US_PER_MS;
    h2u_expire(w);
    while (w->idle_oldest && w->idle_oldest->idle_us + keep_us <= now_us)
        upstream_close(w->idle_oldest);
    uint32_t gone = atomic_load_explicit(&w->gw->gone_count, memory_order_acquire);
    if (gone == w->gone_seen)
        return;
    w->gone_seen = gone;
    for (struct upstream *up = w->idle_oldest, *newer; up; up = newer) {
        newer = up->newer;
        if (atomic_load_explicit(&up->ep->is_gone, memory_order_relaxed))
            upstream_close(up);
    }
}

static void unlink_age(struct upstream *up)
{
    struct worker *w = up->worker;
    if (up->newer)
        up->newer->older = up->older;
    else
        w->idle_newest = up->older;
    if (up->older)
        up->older->newer = up->newer;
    else
        w->idle_oldest = up->newer;
    up->newer = up->older = NULL;
}
