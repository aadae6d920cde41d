/* SPDX-License-Identifier: Apache-2.0 */
/* h2_tunnel: a WebSocket to an endpoint of HTTP/2: a stream begun with extended CONNECT (RFC 8441).
 *
 * For the rest of the gateway it is the tunnel of HTTP/1: the client's handshake is that of HTTP/1
 * (or was made from its own extended CONNECT), and the endpoint's 200 becomes the 101 that it asked
 * for.  upstream.out holds the client's bytes until frames take them, h2u_stream.data those of the
 * endpoint until the client does; their windows open as they go. */
#include "base/assert.h"
#include "gateway/h2_upstream.h"
#include "io/digest.h"

#include <sys/uio.h>

static struct span key_of(const struct chunk *head);
static void add(struct http1_head *head, struct span name, struct span value, enum http1_header id);

bool h2u_tunnel_begin(struct h2u_stream *st, struct http1_head *head)
{
    struct upstream *up = &st->up;
    struct request *req = up->req;
    struct worker *w = up->worker;
    char accept[DIGEST_ACCEPT_BYTES];
    req->first_byte_us = loop_now_us(w->loop);
    req->upstream_us = fb_sat_u32(fb_sub_floor_u64(req->first_byte_us, req->sent_us));
    req->outcome = GATE_OK;
    if (!req->client) {
        upstream_close(up);
        forward_finished(req, GATE_ABANDONED);
        return false;
    }
    struct span key = key_of(req->head);
    if (head->field_count + 2 > w->field_room || !digest_websocket_accept(key, accept))
        return relay_bad(up, req, REASON_UPSTREAM_BAD);
    req->status = 101;
    req->reason = REASON_UPGRADED;
    head->status = 101;
    head->framing = HTTP1_BODY_NONE;
    add(head, SPAN("Upgrade"), SPAN("websocket"), HTTP1_H_UPGRADE);
    add(head, SPAN("Sec-WebSocket-Accept"), (struct span){accept, sizeof accept},
        HTTP1_H_SEC_WEBSOCKET_ACCEPT);
    struct http1_out out = http1_out(w->out, w->out_bytes);
    response_head_build(req, head, &out);
    if (out.failed)
        return relay_bad(up, req, REASON_UPSTREAM_HEADERS_TOO_LARGE);
    up->has_head = true;
    client_answer(req, &(struct answer_piece){.head = http1_out_span(&out)});
    tunnel_begin(req);
    return true;
}

bool h2u_refuse_tunnel(struct request *req)
{
    if (!request_waiter(req))
        return false;
    if (request_conf(req)->protocol == CONF_PROTOCOL_AUTO)
        upstream_start_http1(req, NULL);
    else
        forward_failed(req, REASON_NO_WEBSOCKET, GATE_ABANDONED);
    return true;
}

bool h2u_tunnel_read(struct request *req)
{
    struct h2u_stream *st = (struct h2u_stream *)req->up;
    struct client *c = req->client;
    struct worker *w = req->worker;
    if (st->data && !c->out) {
        struct span bytes = chunk_span(st->data);
        struct iovec iov = {(void *)(uintptr_t)bytes.at, bytes.len};
        req->active_us = loop_now_us(w->loop);
        client_send(c, &iov, 1);
        if (!st->is_gone)
            h2_client_consume(st->conn->session, st->id, bytes.len);
        loop_defer(w->loop, &st->conn->job);
        chunk_give(&w->chunks, st->data);
        st->data = NULL;
        if (c->is_broken)
            return false;
    }
    if (st->data || (st->is_ended && c->out && c->kind != CLIENT_H2))
        return true; /* its end goes behind its last bytes */
    if (st->is_ended && !req->is_up_ended) {
        req->is_up_ended = true;
        client_end_send(c);
        return !st->is_gone;
    }
    req->up->is_broken |= st->is_gone && !st->is_ended;
    return !req->up->is_broken && !st->is_gone; /* nothing more can go either way */
}

/* The stream is closed by the end that goes out now, not by a reset: endpoints count those. */
bool h2u_tunnel_end(struct request *req)
{
    const struct h2u_stream *st = (const struct h2u_stream *)req->up;
    h2u_send(req->up);
    return !req->is_up_ended || !st->is_gone;
}

/* Until the endpoint has agreed there is nothing. */
struct h2_client_give h2u_tunnel_give(struct h2u_stream *st, char *to, size_t room)
{
    struct upstream *up = &st->up;
    struct request *req = up->req;
    struct span ready = chunk_span(up->out);
    struct h2_client_give g = {.bytes = ready.len < room ? ready.len : room};
    if (req->phase != REQUEST_TUNNEL)
        return (struct h2_client_give){0};
    if (g.bytes) {
        memcpy(to, ready.at, g.bytes);
        up->out->from += (uint32_t)g.bytes;
        req->active_us = loop_now_us(up->worker->loop);
    }
    if (up->out && g.bytes == ready.len) {
        chunk_give(&up->worker->chunks, up->out);
        up->out = NULL;
        h2u_touch(st); /* the client may go on */
    }
    g.is_last = req->is_in_ended && !up->out;
    return g;
}

/* Of the head that an endpoint of HTTP/1 would have got. */
static struct span key_of(const struct chunk *head)
{
    struct span rest = {head->at, head->to}, value;
    while (rest.len) {
        struct span line = span_cut(rest, '\n', &rest);
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        struct span name = span_cut(line, ':', &value);
        if (span_ieq(name, SPAN("sec-websocket-key")))
            return span_trim(value);
    }
    return SPAN("");
}

static void add(struct http1_head *head, struct span name, struct span value, enum http1_header id)
{
    head->fields[head->field_count++] = (struct http1_field){
        .name = name, .value = value, .id = (uint8_t)id, .flags = http1_header_flags(id)};
    head->seen |= UINT64_C(1) << id;
}
