/* SPDX-License-Identifier: Apache-2.0 */
/* relay: an answer on its way from the endpoint to the client: heads, interim answers, body. */
#include "base/assert.h"
#include "gateway/authz.h"
#include "gateway/blame.h"
#include "gateway/cache.h"

#include <errno.h>
#include <sys/uio.h>

/* One segment of loopback, the largest there are. */
static const uint64_t nagle_body_bytes = 64 * KIB;

static bool final_head(struct upstream *up, struct request *req, const struct http1_head *head,
                       struct span rest);
static bool switch_protocols(struct upstream *up, struct request *req,
                             const struct http1_head *head, struct span rest);
static bool tries_again(struct upstream *up, struct request *req, const struct http1_head *head);
static enum gate_outcome outcome_of(const struct http1_head *head);
static bool is_nobodys(const struct request *req);
static bool copy_goes_on(struct upstream *up, struct request *req, enum gate_outcome outcome);
static void judge_keep_alive(struct request *req);
static bool is_drained(struct upstream *up);

bool relay_head(struct upstream *up, struct request *req, struct span bytes)
{
    struct worker *w = up->worker;
    if (up->in) { /* the head came in parts */
        if (!chunk_append(&w->chunks, &up->in, bytes))
            return relay_bad(up, req, REASON_SHED_OVERLOAD);
        bytes = chunk_span(up->in);
    }
    for (;;) {
        http1_response_begin(&w->answer_parser, &req->gen->limits, w->answer_fields, req->method);
        enum http1_step step = http1_parse(&w->answer_parser, bytes);
        const struct http1_head *head = &w->answer_parser.head;
        if (step == HTTP1_MORE) {
            if (up->in)
                up->in->from = up->in->to - (uint32_t)bytes.len;
            else if (bytes.len && !chunk_append(&w->chunks, &up->in, bytes))
                return relay_bad(up, req, REASON_SHED_OVERLOAD);
            return true;
        }
        if (step == HTTP1_FAILED) {
            enum http1_error e = w->answer_parser.error;
            bool is_large = e == HTTP1_E_HEADERS_TOO_LARGE || e == HTTP1_E_TOO_MANY_HEADERS ||
                            e == HTTP1_E_LINE_TOO_LONG;
            uint16_t blame = blame_end(&up->link, bytes, false);
            if (blame)
                blame_say(w, up->ep, &up->link, blame);
            return relay_bad(up, req,
                             blame      ? blame
                             : is_large ? REASON_UPSTREAM_HEADERS_TOO_LARGE
                                        : REASON_UPSTREAM_BAD);
        }
        struct span rest = {bytes.at + head->head_bytes, bytes.len - head->head_bytes};
        if (head->status == 101)
            return switch_protocols(up, req, head, rest);
        if (head->status >= 200)
            return final_head(up, req, head, rest);
        if (!relay_interim(up, req, head))
            return false;
        bytes = rest;
        if (rest.len == 0) {
            chunk_give(&w->chunks, up->in);
            up->in = NULL;
            return true;
        }
    }
}

/* <head_out> (may be empty) goes out before what of <bytes> is body. */
bool relay_body(struct upstream *up, struct request *req, struct span head_out, struct span bytes)
{
    /* Payload is moved together inside the scratch memory, so that many small chunks become one. */
    char *to = NULL;
    size_t payload = 0;
    enum http1_step step;
    for (;;) {
        struct span data;
        size_t used;
        step = http1_body_next(&up->body, bytes, &data, &used);
        bytes.at += used;
        bytes.len -= used;
        if (step != HTTP1_DATA)
            break;
        if (!to)
            to = (char *)(uintptr_t)data.at;
        else if (to + payload != data.at)
            memmove(to + payload, data.at, data.len);
        payload += data.len;
    }
    if (step == HTTP1_DONE && bytes.len) /* more than it announced: who knows what it is */
        up->is_keep_alive = false;
    if (!relay_payload(up, req,
                       &(struct answer_piece){
                           .head = head_out,
                           .payload = {to, payload},
                           .trailers = up->trailers ? &up->trailers->t : NULL,
                           .is_last = step == HTTP1_DONE,
                       }))
        return false;
    return step != HTTP1_FAILED || relay_bad(up, req, REASON_UPSTREAM_CUT);
}

bool relay_payload(struct upstream *up, struct request *req, const struct answer_piece *piece)
{
    struct answer_piece last = *piece;
    struct http1_trailers trailers;
    if (piece->trailers) {
        trailers = *piece->trailers;
        orca_trailers(req, &trailers);
        last.trailers = &trailers;
        piece = &last;
    }
    if (req->cw)
        cache_feed(req, piece->payload);
    if (is_nobodys(req)) {
        if (!piece->is_last)
            return leave_reads_on(req, piece->payload.len);
        relay_finish(up, req); /* the end of it is the end of the work */
        return false;
    }
    if (req->cw && piece->is_last) /* before its client has all of it and asks again */
        cache_filled(req);
    if (piece->is_last)
        grpc_end(req, piece->trailers);
    if (req->client)
        client_answer(req, piece);
    else if (req->guard)
        authz_feed(req, piece->payload);
    if (piece->is_last) {
        relay_finish(up, req);
        return false;
    }
    if (req->first_byte_us && !req->is_first_byte_told && req->is_ticket_live)
        service_first_byte(req);
    return true;
}

/* The connection's end was the end of the body. */
void relay_end(struct upstream *up, struct request *req)
{
    if (req->cw)
        cache_filled(req);
    if (req->client)
        client_answer(req, &(struct answer_piece){.is_last = true});
    relay_finish(up, req);
}

/* The whole answer was read: the connection is free, the endpoint too. */
void relay_finish(struct upstream *up, struct request *req)
{
    bool is_sent =
        req->head_sent == req->head->to && chunk_span(req->body).len == 0 && req->is_in_done;
    req->service_us = fb_sat_u32(fb_sub_floor_u64(loop_now_us(up->worker->loop), req->sent_us));
    leave_learn(up, req);
    up->req = NULL;
    req->up = NULL;
    req->is_out_done = true;
    chunk_give(&up->worker->chunks, up->in);
    up->in = NULL;
    trailers_give(up->worker, up->trailers);
    up->trailers = NULL;
    if (up->is_keep_alive && is_sent && !up->has_ended && !up->is_broken && is_drained(up))
        pool_give(up);
    else
        upstream_close(up);
    forward_finished(req,
                     req->client || req->is_own ? req->outcome : relay_outcome_for_nobody(req));
}

/* Nothing lies behind the answer that was read.  Asked of the socket only when the last read was
 * full: what came there unasked would be taken for the answer to the next request. */
static bool is_drained(struct upstream *up)
{
    char byte;
    if (up->kind != UPSTREAM_H1 || up->link.tls || !up->can_read)
        return true;
    if (link_peek(&up->link, &byte, 1) >= 0 || errno != EAGAIN)
        return false;
    up->can_read = false;
    return true;
}

/* A client that left says nothing of the endpoint; a copy that was not needed is an answer as any
 * other. */
enum gate_outcome relay_outcome_for_nobody(const struct request *req)
{
    return req->is_silent && req->first_byte_us ? req->outcome : GATE_ABANDONED;
}

bool relay_interim(struct upstream *up, struct request *req, const struct http1_head *head)
{
    struct worker *w = up->worker;
    if (head->status == 100)
        req->is_continued = true;
    if (!req->client || req->version_minor == 0)
        return true;
    struct http1_out out = http1_out(w->out, w->out_bytes);
    http1_put_status_line(&out, head->status);
    http1_put_fields(&out, head, HTTP1_SKIP_FRAMING);
    http1_put_end(&out);
    fb_assert(!out.failed);
    client_answer(req, &(struct answer_piece){.head = http1_out_span(&out), .is_interim = true});
    return true;
}

/* Neither its client nor the cache wants the answer. */
static bool is_nobodys(const struct request *req)
{
    return !req->client && !req->is_own && !(req->goes_on && cache_goes_on(req));
}

/* Whoever ends such an answer must say so: it has no end of its own. */
static bool is_event_stream(const struct http1_head *head)
{
    const struct span type = SPAN("text/event-stream");
    const struct http1_field *f =
        http1_has(head, HTTP1_H_CONTENT_TYPE) ? http1_find(head, HTTP1_H_CONTENT_TYPE) : NULL;
    return f && f->value.len >= type.len && span_ieq((struct span){f->value.at, type.len}, type);
}

/* A head without a byte of its body: the server writes the two one after the other, and without
 * TCP_NODELAY it keeps a small second one until the first is acknowledged (Nagle).  On a kept
 * connection that is 40 ms later: 41 ms instead of 1 in front of Python's http.server.  A body that
 * fills segments does not wait. */
static void spare_nagle(struct upstream *up, const struct http1_head *head, size_t body_bytes)
{
    bool is_small = head->body_bytes > 0 && head->body_bytes < nagle_body_bytes;
    bool has_length = head->framing == HTTP1_BODY_LENGTH;
    if (body_bytes == 0 && head->framing != HTTP1_BODY_NONE && (is_small || !has_length))
        sock_ack_now(up->link.fd);
}

static bool final_head(struct upstream *up, struct request *req, const struct http1_head *head,
                       struct span rest)
{
    struct worker *w = up->worker;
    struct span head_out;
    /* the cache answers for a 304, and then nobody else looks at what came behind it */
    bool has_more = head->framing == HTTP1_BODY_NONE && rest.len > 0;
    up->is_keep_alive = head->keep_alive && head->framing != HTTP1_BODY_CLOSE && !has_more;
    splice_learn(up, head);
    spare_nagle(up, head, rest.len);
    if (!relay_final(up, req, head, &head_out))
        return false;
    req = up->req; /* a copy may have changed places with its first */
    if (head->framing == HTTP1_BODY_CHUNKED)
        up->trailers = trailers_take(w); /* without memory they are dropped */
    http1_body_begin(&up->body, head, up->trailers ? &up->trailers->t : NULL);
    struct chunk *in = up->in; /* <rest> lies in it */
    up->in = NULL;
    bool goes_on = relay_body(up, req, head_out, rest);
    chunk_give(&w->chunks, in);
    return goes_on;
}

bool relay_final(struct upstream *up, struct request *req, const struct http1_head *head,
                 struct span *head_out)
{
    struct worker *w = up->worker;
    enum gate_outcome outcome = outcome_of(head);
    if (req->twin) {
        if (outcome == GATE_OK)
            hedge_settle(req);
        else if (copy_goes_on(up, req, outcome))
            return false;
        req = up->req;
    }
    req->first_byte_us = loop_now_us(w->loop);
    req->upstream_us = fb_sat_u32(fb_sub_floor_u64(req->first_byte_us, req->sent_us));
    orca_head(req, head);
    req->outcome = (uint8_t)grpc_head(req, head, outcome);
    req->is_failed = req->outcome != GATE_OK;
    if (req->outcome == GATE_FAILED && tries_again(up, req, head))
        return false;
    if (req->is_mirror)
        req->status = head->status;
    if (req->client) { /* else it is known already how the request ended */
        req->status = head->status;
        req->reason = head->status >= 500 ? REASON_UPSTREAM_ERROR : REASON_ANSWERED;
    } else if (req->guard) {
        authz_hear(req, head);
    }
    req->phase = REQUEST_ANSWERING;
    if (req->cw && !cache_head(up, req, head))
        return false;
    up->has_head = true;
    struct http1_out out = http1_out(w->out, w->out_bytes);
    if (req->client) {
        judge_keep_alive(req);
        response_head_build(req, head, &out);
        if (out.failed)
            return relay_bad(up, req, REASON_UPSTREAM_HEADERS_TOO_LARGE);
        req->is_stream = req->gen->conf->routes[req->route].is_stream || req->is_stream;
        /* an event stream holds no worker for its length: as with a tunnel, its slot is free */
        if (req->is_stream && req->is_ticket_live)
            service_done(req, (enum gate_outcome)req->outcome);
    }
    req->is_endless = is_event_stream(head);
    /* what a copy that lost has in this read may be all of it */
    if (is_nobodys(req) && !req->is_silent && !leave_reads_on(req, 0))
        return false;
    request_arm(req);
    *head_out = http1_out_span(&out);
    return true;
}

static bool switch_protocols(struct upstream *up, struct request *req,
                             const struct http1_head *head, struct span rest)
{
    struct worker *w = up->worker;
    if (!req->is_upgrade || !head->is_upgrade)
        return relay_bad(up, req, REASON_UPSTREAM_BAD);
    req->first_byte_us = loop_now_us(w->loop);
    req->upstream_us = fb_sat_u32(fb_sub_floor_u64(req->first_byte_us, req->sent_us));
    req->outcome = GATE_OK;
    if (!req->client) {
        upstream_close(up);
        forward_finished(req, GATE_ABANDONED);
        return false;
    }
    req->status = 101;
    req->reason = REASON_UPGRADED;
    struct http1_out out = http1_out(w->out, w->out_bytes);
    response_head_build(req, head, &out);
    if (out.failed)
        return relay_bad(up, req, REASON_UPSTREAM_HEADERS_TOO_LARGE);
    client_answer(req, &(struct answer_piece){.head = http1_out_span(&out), .payload = rest});
    chunk_give(&w->chunks, up->in);
    up->in = NULL;
    tunnel_begin(req);
    return true;
}

bool relay_bad(struct upstream *up, struct request *req, uint16_t reason)
{
    upstream_close(up);
    forward_failed(req, reason, GATE_FAILED);
    return false;
}

/* What upstream.retry_on calls an answer with <status>; 0: it is never tried again. */
static uint32_t retry_word(uint16_t status)
{
    switch (status) {
    case 500:
        return CONF_RETRY_500;
    case 502:
        return CONF_RETRY_502;
    case 503:
        return CONF_RETRY_503;
    case 504:
        return CONF_RETRY_504;
    default:
        return 0;
    }
}

/* A 5xx that another endpoint might answer better: true when that is under way and <up> is gone. */
static bool tries_again(struct upstream *up, struct request *req, const struct http1_head *head)
{
    if (!(req->gen->conf->p.upstream_retry_on & retry_word(head->status)) || !req->client ||
        req->is_answered || !req->is_replayable || !req->is_ticket_live ||
        !req->ticket.is_idempotent || req->gen->conf->p.upstream_retries == 0)
        return false;
    uint64_t backoff_us = 0;
    service_done(req, GATE_FAILED);
    req->ticket.is_for_others = true;
    bool may = service_retry(req, GATE_FAILED, &backoff_us);
    req->ticket.is_for_others = false; /* this answer is given up with it */
    if (!may)
        return false;
    upstream_close(up); /* its body may be long: a new connection costs less than reading it */
    forward_again(req, backoff_us);
    return true;
}

/* One of two answers is a failure: the other may still be good.  True: <up> is gone. */
static bool copy_goes_on(struct upstream *up, struct request *req, enum gate_outcome outcome)
{
    if (!req->client) { /* the copy failed: it ends as nobody's */
        hedge_leave(req);
        return false;
    }
    if (req->twin->phase == REQUEST_QUEUED)
        return false;
    service_done(req, outcome);
    upstream_close(up);
    return hedge_takes_over(req);
}

static enum gate_outcome outcome_of(const struct http1_head *head)
{
    if (head->status == 429 || (head->status == 503 && http1_has(head, HTTP1_H_RETRY_AFTER)))
        return GATE_OVERLOADED;
    return head->status >= 500 ? GATE_FAILED : GATE_OK;
}

/* May the client's connection serve another request?  Known before the head is written. */
static void judge_keep_alive(struct request *req)
{
    if (request_is_leaving(req))
        req->is_keep_alive = false;
    if (!req->is_in_done && !body_is_droppable(req))
        req->is_keep_alive = false;
}
