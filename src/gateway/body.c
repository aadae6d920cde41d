/* SPDX-License-Identifier: Apache-2.0 */
/* body: the payload of a request on its way from the client to the endpoint.
 *
 * It is decoded and written again in canonical form into one chunk of at most 16 KiB.  Until that
 * is full the whole body so far is kept, so that it can be sent a second time; afterwards what was
 * sent is gone and the request cannot be tried again.  Reading stops while the chunk is full:
 * backpressure to the client. */
#include "base/assert.h"
#include "gateway/authz.h"

#include <errno.h>

static bool put(struct request *req, struct span data, bool is_last);
static bool is_too_slow(const struct request *req, uint64_t waited_us);

bool body_is_droppable(const struct request *req)
{
    if (req->expects_continue && !req->is_continued && req->in.payload_bytes == 0)
        return false; /* it may never come */
    return req->in.framing != HTTP1_BODY_LENGTH || req->in.left <= BODY_DROP_MAX_BYTES;
}

bool body_has_room(const struct request *req)
{
    if (req->is_discarding || !req->body)
        return true;
    return chunk_span(req->body).len == 0 || chunk_room(req->body) > CHUNK_SLACK_BYTES;
}

void body_send(struct request *req)
{
    if (!req->up)
        return;
    /* HTTP/2 goes both ways at once: the answer may have begun */
    if (req->phase == REQUEST_AWAITING ||
        (req->phase == REQUEST_ANSWERING && req->up->kind == UPSTREAM_H2))
        upstream_send(req->up);
}

size_t body_take(struct request *req, struct span bytes, uint16_t *reason)
{
    size_t total = bytes.len, payload = 0;
    char *to = NULL;
    enum http1_step step = HTTP1_MORE;
    *reason = REASON_NONE;
    for (;;) {
        struct span data;
        size_t used;
        step = http1_body_next(&req->in, bytes, &data, &used);
        if (used > 0) /* without bytes there may be no place either */
            bytes = (struct span){bytes.at + used, bytes.len - used};
        if (step != HTTP1_DATA)
            break;
        if (!to)
            to = (char *)(uintptr_t)data.at;
        else if (to + payload != data.at)
            memmove(to + payload, data.at, data.len);
        payload += data.len;
    }
    req->received_bytes += total - bytes.len;
    if (step == HTTP1_FAILED)
        *reason = REASON_BAD_CHUNK;
    else
        *reason = body_put(req, (struct span){to, payload}, step == HTTP1_DONE);
    return total - bytes.len;
}

uint16_t body_put(struct request *req, struct span data, bool is_last)
{
    uint64_t most = request_body_most(req);
    uint16_t reason = REASON_NONE;
    if (is_last && req->trailers)
        authz_clean_trailers(req, &req->trailers->t);
    if (most && req->in.payload_bytes > most)
        reason = REASON_BODY_TOO_LARGE;
    else if (!req->is_discarding && !put(req, data, is_last))
        reason = REASON_SHED_OVERLOAD;
    else if (req->is_discarding && req->in.payload_bytes > req->discard_to_bytes)
        req->is_keep_alive = false;
    if (is_last) {
        req->is_in_done = true;
        req->body_since_us = 0;
    }
    return reason;
}

bool body_is_held(const struct request *req)
{
    /* HTTP/2 endpoints answer while they are asked, and a stream costs them less than a worker. */
    return !req->is_in_done && !req->is_body_raw && !req->is_stream && !req->is_upgrade &&
           !req->expects_continue && !req->is_discarding &&
           chunk_span(req->body).len < HOLD_BYTES && !service_is_roomy(req->sv);
}

void body_release(struct request *req)
{
    if (req->phase == REQUEST_HELD && !body_is_held(req))
        forward_arrive(req);
}

void body_pump(struct request *req)
{
    struct client *c = req->client;
    struct worker *w = req->worker;
    uint64_t now_us = loop_now_us(w->loop);
    while (!req->is_in_done && c->can_read && body_has_room(req)) {
        size_t room = body_room(req);
        ssize_t n = link_recv(&c->link, w->in, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            c->can_read = false;
            break;
        }
        if (n <= 0) { /* it left in the middle of its own request */
            c->is_broken = true;
            return;
        }
        if ((size_t)n < room && !c->has_ended)
            c->can_read = false;
        if (!body_came(req, now_us))
            return;
        uint16_t reason;
        struct span bytes = {w->in, (size_t)n};
        size_t taken = body_take(req, bytes, &reason);
        if (reason) {
            body_refuse(req, reason);
            return;
        }
        if (taken < bytes.len) {
            c->is_parsed = false;
            if (!chunk_append(&w->chunks, &c->in,
                              (struct span){bytes.at + taken, bytes.len - taken})) {
                c->is_broken = true;
                return;
            }
        }
        body_release(req);
        body_send(req);
    }
    body_wait(req, now_us);
}

size_t body_room(const struct request *req)
{
    const struct chunk *b = req->body;
    if (req->is_discarding || !b)
        return CHUNK_BODY_BYTES;
    if (chunk_span(b).len || (req->is_replayable && chunk_room(b) > CHUNK_SLACK_BYTES))
        return chunk_room(b) - CHUNK_SLACK_BYTES;
    return CHUNK_BODY_BYTES;
}

bool body_came(struct request *req, uint64_t now_us)
{
    if (!req->body_since_us)
        return true;
    req->body_wait_us += fb_sub_floor_u64(now_us, req->body_since_us);
    req->body_since_us = 0;
    if (!is_too_slow(req, req->body_wait_us))
        return true;
    body_refuse(req, REASON_BODY_TOO_SLOW); /* bytes that drip in push the timer back */
    return false;
}

void body_wait(struct request *req, uint64_t now_us)
{
    if (req->is_in_done || !body_has_room(req))
        req->body_since_us = 0;
    else if (!req->body_since_us)
        req->body_since_us = now_us;
}

/* The client's timer came up while we wait for its bytes. */
void body_judge(struct request *req, uint64_t now_us)
{
    uint64_t still_us = fb_sub_floor_u64(now_us, req->body_since_us);
    if (still_us >= req->gen->conf->p.limits_body_timeout * US_PER_MS)
        body_refuse(req, REASON_BODY_TIMEOUT);
    else if (is_too_slow(req, req->body_wait_us + still_us))
        body_refuse(req, REASON_BODY_TOO_SLOW);
    else if (req->phase == REQUEST_HELD &&
             req->body_wait_us + still_us > req->gen->conf->p.limits_min_rate_grace * US_PER_MS)
        forward_arrive(req); /* slow, and honest */
    else
        body_release(req);
}

/* The mean rate over the time in which we waited for the client. */
static bool is_too_slow(const struct request *req, uint64_t waited_us)
{
    const struct conf_params *p = &req->gen->conf->p;
    return waited_us > p->limits_min_rate_grace * US_PER_MS &&
           req->in.payload_bytes * US_PER_S / waited_us < p->limits_min_rate;
}

/* Appends in canonical form; the last piece ends the body. */
static bool put(struct request *req, struct span data, bool is_last)
{
    struct worker *w = req->worker;
    size_t len = data.len;
    bool is_chunked = req->is_chunked_in && !req->is_body_raw;
    if (len == 0 && !(is_last && is_chunked))
        return true;
    if (!req->body) {
        size_t first = is_last ? len + CHUNK_SLACK_BYTES : CHUNK_BODY_BYTES + CHUNK_SLACK_BYTES;
        if (is_last && req->trailers)
            first += trailers_text_bytes(&req->trailers->t);
        req->body = chunk_take(&w->chunks, first);
        if (!req->body)
            return false;
    }
    struct chunk *b = req->body;
    size_t need = len + 64; /* a chunk head, two line ends and the last chunk */
    if (is_last && req->trailers)
        need += trailers_text_bytes(&req->trailers->t);
    if (chunk_room(b) < need && chunk_span(b).len == 0 && b->to > 0) {
        b->from = b->to = 0; /* all of it was sent: no second time */
        req->is_replayable = false;
    }
    if (chunk_room(b) < need) {
        struct chunk *wider = chunk_take(&w->chunks, b->to + need);
        if (!wider)
            return false;
        memcpy(wider->at, b->at, b->to);
        wider->from = b->from;
        wider->to = b->to;
        chunk_give(&w->chunks, b);
        req->body = b = wider;
    }
    struct http1_out out = http1_out(b->at + b->to, chunk_room(b));
    if (len && is_chunked)
        http1_put_chunk_head(&out, len);
    if (len)
        http1_put(&out, data);
    if (len && is_chunked)
        http1_put(&out, SPAN("\r\n"));
    if (is_last && is_chunked) {
        if (req->trailers)
            http1_put_chunk_last(&out, req->trailers->t.fields, req->trailers->t.field_count);
        else
            http1_put(&out, SPAN(HTTP1_CHUNK_LAST));
    }
    fb_assert(!out.failed);
    b->to += (uint32_t)out.len;
    return true;
}

bool body_frame(struct request *req, bool is_raw)
{
    struct worker *w = req->worker;
    struct chunk *was = req->body;
    bool is_same = req->is_body_raw == is_raw;
    req->is_body_raw = is_raw;
    if (is_same || !req->is_chunked_in || !(was || req->is_in_done))
        return true;
    fb_assert(!was || was->from == 0);
    struct span rest = chunk_span(was), data;
    size_t used;
    if (!is_raw) {
        req->body = NULL;
        bool is_put = put(req, rest, req->is_in_done);
        chunk_give(&w->chunks, was);
        return is_put;
    }
    struct http1_body b;
    uint32_t to = 0;
    http1_body_begin_as(&b, HTTP1_BODY_CHUNKED, 0, NULL);
    while (http1_body_next(&b, rest, &data, &used) == HTTP1_DATA) {
        memmove(was->at + to, data.at, data.len);
        to += (uint32_t)data.len;
        rest.at += used;
        rest.len -= used;
    }
    if (was)
        was->to = to;
    return true;
}

/* The body cannot be forwarded: the endpoint's connection is cut, the client is told and closed. */
void body_refuse(struct request *req, uint16_t reason)
{
    struct upstream *up = req->up;
    req->is_in_done = true; /* nothing more is wanted of it */
    req->is_keep_alive = false;
    req->body_since_us = 0;
    if (up)
        upstream_close(up);
    if (req->is_out_done)
        return; /* it was being dropped after an early answer */
    if (req->is_ticket_live && !service_cancel(req)) {
        req->client->is_broken = true; /* a grant is on its way: it ends there */
        req->reason = reason;
        return;
    }
    req->phase = REQUEST_OVER;
    if (!req->is_answered) {
        answer_local(req, reason);
        return;
    }
    req->reason = reason;
    req->is_out_done = true;
    req->client->is_cut = true;
}
