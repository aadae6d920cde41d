/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for the answer to another request, asking whether a kept answer is still good, and
 * fetching it anew in the background. */
#include "base/assert.h"
#include "gateway/cache.h"

/* A request that was woken this often without an answer that it may use goes by itself. */
#define WAITS_MAX 3

static bool wait_or_own(struct cache_work *cw);
static void ask(struct cache_work *cw);
static void on_told(struct loop_message *m);

static struct cache_store *store_of(const struct request *req)
{
    return req->worker->gw->cache;
}

bool cache_go(struct request *req)
{
    struct cache_work *cw = req->cw;
    if (cw->served) {
        if (cw->wants_refresh)
            cache_refresh(req);
        cache_serve(req, cw->served, (enum ev_cache)req->cache);
        return true;
    }
    if (cw->is_unsafe || cw->forward == CACHE_FORWARD_BYPASS || req->method != HTTP1_GET)
        return false;
    if (wait_or_own(cw))
        return true;
    if (cw->stale)
        ask(cw);
    return false;
}

/* True: it waits. */
static bool wait_or_own(struct cache_work *cw)
{
    struct request *req = cw->req;
    struct worker *w = req->worker;
    bool may_wait = cw->forward != CACHE_FORWARD_REQUEST && cw->waits < WAITS_MAX;
    if (cw->conf->collapse_ms == 0 || !may_wait || (!cw->is_plain && !cw->stale))
        return false;
    cw->waiter.loop = w->loop;
    cw->waiter.message.on_message = on_told;
    if (cache_join(store_of(req), &cw->key, &cw->waiter, &cw->pending) != CACHE_JOIN_WAITS)
        return false;
    if (cw->waits++ == 0)
        cw->wait_until_us = loop_now_us(w->loop) + cw->conf->collapse_ms * US_PER_MS;
    req->phase = REQUEST_COLLAPSED;
    request_arm(req);
    return true;
}

bool cache_wait_over(struct request *req)
{
    struct cache_work *cw = req->cw;
    if (!cache_leave(store_of(req), &cw->key, &cw->waiter))
        return false;
    if (req->client && cw->stale)
        ask(cw);
    return true;
}

/* Looks again, as another request has ended: serves, waits once more, or goes to the endpoint. */
static void look_again(struct request *req)
{
    struct cache_work *cw = req->cw;
    struct cache_store *s = store_of(req);
    const struct http1_head *head = cache_head_again(req);
    bool has_others = false;
    struct cache_entry *e = head ? cache_find(s, &cw->key, head, &has_others) : NULL;
    cache_entry_unref(s, cw->stale);
    cw->stale = NULL;
    cw->is_collapsed = true;
    cache_judge_found(cw, e, has_others);
    if (cw->served) {
        bool is_fresh = req->cache == EV_CACHE_HIT;
        cache_serve(req, cw->served, is_fresh ? EV_CACHE_COLLAPSED : EV_CACHE_STALE);
        return;
    }
    if (wait_or_own(cw))
        return;
    if (cw->stale)
        ask(cw);
    forward_arrive(req);
}

static void on_told(struct loop_message *m)
{
    struct cache_waiter *waiter = FB_CONTAINER(m, struct cache_waiter, message);
    struct cache_work *cw = FB_CONTAINER(waiter, struct cache_work, waiter);
    struct request *req = cw->req;
    struct client *c = req->client;
    fb_assert(req->phase == REQUEST_COLLAPSED);
    loop_timer_stop(req->worker->loop, &req->timer);
    if (!c) {
        req->phase = REQUEST_OVER;
        request_free(req);
        return;
    }
    look_again(req);
    client_run(c);
}

const struct http1_head *cache_head_again(struct request *req)
{
    struct worker *w = req->worker;
    struct http1_limits limits = req->gen->limits;
    limits.header_bytes += 4 * KIB; /* our own fields are in it */
    limits.line_bytes *= 3;         /* and escapes */
    limits.header_count = w->field_room;
    http1_request_begin(&w->request_parser, &limits, w->request_fields);
    /* the fields of an attempt may stand behind head_base and be on their way: they come back */
    char *end = req->head->at + req->head_base, behind[2];
    memcpy(behind, end, sizeof behind);
    memcpy(end, "\r\n", 2);
    enum http1_step step =
        http1_parse(&w->request_parser, (struct span){req->head->at, (size_t)req->head_base + 2});
    memcpy(end, behind, sizeof behind);
    return step == HTTP1_DONE ? &w->request_parser.head : NULL;
}

/* The head becomes a question about <stale>; without a validator, or when it cannot be rewritten,
 * it stays what the client sent, but for its own conditions. */
static void ask(struct cache_work *cw)
{
    struct request *req = cw->req;
    struct worker *w = req->worker;
    const struct cache_entry *e = cw->stale;
    const struct http1_head *head = cache_head_again(req);
    if (!head)
        return;
    struct http1_out out = http1_out(w->out, w->out_bytes);
    struct http1_field *if_range =
        (struct http1_field *)(uintptr_t)http1_find_name(head, SPAN("if-range"));
    if (if_range)
        if_range->flags |= HTTP1_FIELD_HOP;
    http1_put_request_line(&out, head->method_text, head->target);
    http1_put_fields(&out, head,
                     HTTP1_SKIP_FRAMING | HTTP1_SKIP(IF_NONE_MATCH) |
                         HTTP1_SKIP(IF_MODIFIED_SINCE) | HTTP1_SKIP(RANGE));
    struct span etag = e->etag;
    if (etag.len && (e->flags & CACHE_ENTRY_ETAG_WEAKENED))
        etag = (struct span){etag.at + 2, etag.len - 2};
    if (etag.len)
        http1_put_field(&out, SPAN("If-None-Match"), etag);
    if (e->last_modified.len)
        http1_put_field(&out, SPAN("If-Modified-Since"), e->last_modified);
    struct chunk *fresh = chunk_take(&w->chunks, out.len + CHUNK_SLACK_BYTES);
    if (out.failed || !fresh) {
        chunk_give(&w->chunks, fresh);
        return;
    }
    memcpy(fresh->at, out.at, out.len);
    fresh->to = (uint32_t)out.len;
    chunk_give(&w->chunks, req->head);
    req->head = fresh;
    req->head_base = (uint32_t)out.len;
    cw->is_revalidating = etag.len || e->last_modified.len;
}

static void begin_own(struct request *own, struct request *req)
{
    struct worker *w = req->worker;
    uint64_t now_us = loop_now_us(w->loop);
    *own = (struct request){.worker = w,
                            .gen = req->gen,
                            .sv = req->sv,
                            .timer = {.on_due = forward_timer},
                            .head = req->head,
                            .head_base = req->head_base,
                            .start_us = now_us,
                            .end_us = now_us,
                            .deadline_us = UINT64_MAX,
                            .request_id = worker_request_id(w),
                            .route = req->route,
                            .grpc_status = EV_NONE,
                            .method = HTTP1_GET,
                            .version_minor = 1,
                            .is_own = true,
                            .is_in_done = true,
                            .is_replayable = true};
    req->head = NULL;
    own->ticket =
        (struct gate_ticket){.arrive_us = now_us,
                             .deadline_us = UINT64_MAX,
                             .key_hash = req->ticket.key_hash,
                             .class = (uint8_t)fb_max_u32(req->ticket.class, EV_CLASS_DEGRADED),
                             .is_idempotent = true};
}

/* A request of our own for what <req> is served from old memory; its head goes to the new one. */
bool cache_refresh(struct request *req)
{
    struct cache_work *from = req->cw;
    struct worker *w = req->worker;
    struct cache_pending *pending;
    if (cache_join(w->gw->cache, &from->key, NULL, &pending) != CACHE_JOIN_OWNER)
        return false; /* somebody is at it */
    struct request *own = slab_take(&w->requests);
    struct cache_work *cw = own ? slab_take(&w->cache_works) : NULL;
    if (!cw) {
        if (own)
            slab_give(&w->requests, own);
        cache_pending_end(w->gw->cache, pending, false, loop_now_us(w->loop));
        return false;
    }
    begin_own(own, req);
    *cw = (struct cache_work){.req = own,
                              .conf = from->conf,
                              .key = from->key,
                              .keep = NULL,
                              .asked = {.directives = {.max_age = CACHE_NO_SECONDS},
                                        .has_authorization = from->asked.has_authorization},
                              .stale = from->served,
                              .pending = pending,
                              .forward = CACHE_FORWARD_STALE,
                              .is_plain = true};
    own->cw = cw;
    cache_entry_ref(cw->stale);
    own->gen->use[w->index].requests++;
    w->request_count++;
    worker_busy(w);
    request_adopt(own);
    if (!cache_keep(cw)) {
        own->phase = REQUEST_OVER;
        request_free(own);
        return false;
    }
    ask(cw);
    forward_arrive(own);
    return true;
}

bool cache_is_full(struct service *sv)
{
    struct gate_view view;
    spin_lock(&sv->lock);
    gate_view(sv->gate, &view);
    spin_unlock(&sv->lock);
    return view.in_flight >= view.limit_sum;
}
