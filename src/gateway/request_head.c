/* SPDX-License-Identifier: Apache-2.0 */
/* request_head: the head that an endpoint gets: canonical, without what was meant for us, with what
 * it should know about the client. */
#include "gateway/request_head.h"
#include "base/assert.h"

#define TRACEPARENT_BYTES 55 /* 00-<32>-<16>-<2> */

static void put_host(const struct request *req, const struct http1_head *head, struct http1_out *w);
static void put_forwarded(const struct request *req, const struct http1_head *head,
                          struct http1_out *w, bool is_always_x);
static void put_joined(struct http1_out *w, const struct http1_head *head, enum http1_header id,
                       struct span name, struct span value);
static void put_subject(const struct request *req, struct http1_out *w);
static void put_request_id(struct request *req, const struct http1_head *head, struct http1_out *w);
static void put_traceparent(struct request *req, const struct http1_head *head,
                            struct http1_out *w);
static void put_hex16(struct http1_out *w, uint64_t value);

void request_head_build(struct request *req, const struct http1_head *head, struct http1_out *w,
                        struct span target)
{
    uint64_t skip = HTTP1_SKIP_FRAMING | REQUEST_HEAD_OWN;
    if (req->is_in_done && !head->expect_continue)
        skip |= HTTP1_SKIP(EXPECT);
    uint64_t hops = 0;
    bool counts_hops = head->method == HTTP1_OPTIONS && http1_has(head, HTTP1_H_MAX_FORWARDS) &&
                       span_to_u64(http1_find(head, HTTP1_H_MAX_FORWARDS)->value, &hops) && hops;
    if (counts_hops)
        skip |= HTTP1_SKIP(MAX_FORWARDS);
    http1_put_request_line(w, head->method_text, target);
    put_host(req, head, w);
    http1_put_fields(w, head, skip);
    if (counts_hops)
        http1_put_field_u64(w, SPAN("Max-Forwards"), hops - 1);
    http1_put_framing(w, (enum http1_framing)head->framing, head->body_bytes);
    request_head_put_client(req, head, w, false);
    if (req->is_upgrade) {
        http1_put(w, SPAN("Connection: upgrade\r\n"));
        http1_put_field(w, SPAN("Upgrade"), http1_find(head, HTTP1_H_UPGRADE)->value);
    } else if (head->te_trailers) {
        http1_put(w, SPAN("Connection: te\r\nTE: trailers\r\n"));
    }
}

void request_head_put_client(struct request *req, const struct http1_head *head,
                             struct http1_out *w, bool is_always_x)
{
    http1_put(w, req->gen->via);
    put_forwarded(req, head, w, is_always_x);
    put_subject(req, w);
    put_request_id(req, head, w);
    put_traceparent(req, head, w);
}

void request_head_finish(struct request *req, uint64_t now_us)
{
    struct chunk *h = req->head;
    h->to = req->head_base;
    struct http1_out w = http1_out(h->at + h->to, chunk_room(h));
    if (req->deadline_us != UINT64_MAX)
        http1_put_field_u64(&w, SPAN("X-Deadline-Ms"),
                            fb_sub_floor_u64(req->deadline_us, now_us) / US_PER_MS);
    uint32_t attempt = req->attempt_in + req->ticket.attempts;
    if (attempt > 1)
        http1_put_field_u64(&w, SPAN("X-Attempt"), attempt);
    http1_put_end(&w);
    fb_assert(!w.failed);
    h->to += (uint32_t)w.len;
}

static void put_host(const struct request *req, const struct http1_head *head, struct http1_out *w)
{
    const struct conf_service *sv = request_conf(req);
    if (sv->host_header && sv->host_header[0])
        http1_put_field(w, SPAN("Host"), span_of(sv->host_header));
    else if (head->host.len)
        http1_put_field(w, SPAN("Host"), head->host);
    else /* HTTP/1.0 may leave it out; an endpoint of 1.1 must not be asked without */
        http1_put_field(w, SPAN("Host"), span_of(sv->name));
}

static void put_forwarded(const struct request *req, const struct http1_head *head,
                          struct http1_out *w, bool is_always_x)
{
    const struct conf_params *p = &req->gen->conf->p;
    bool is_trusted = req->is_forwarded;
    char own[SOCK_HOST_BYTES]; /* who spoke to us, where that is not the client */
    struct span peer = {req->peer_text, req->peer_text_bytes};
    if (FB_UNLIKELY(is_trusted))
        peer = (struct span){own, sock_host_text(&req->client->peer, own)};
    if (is_always_x || p->gateway_forwarded == CONF_FORWARDED_X ||
        p->gateway_forwarded == CONF_FORWARDED_BOTH) {
        put_joined(w, is_trusted ? head : NULL, HTTP1_H_X_FORWARDED_FOR, SPAN("X-Forwarded-For"),
                   peer);
        if (is_trusted && http1_has(head, HTTP1_H_X_FORWARDED_PROTO))
            http1_put_field(w, SPAN("X-Forwarded-Proto"),
                            http1_find(head, HTTP1_H_X_FORWARDED_PROTO)->value);
        else
            http1_put(w, req->tls ? SPAN("X-Forwarded-Proto: https\r\n")
                                  : SPAN("X-Forwarded-Proto: http\r\n"));
        if (is_trusted && http1_has(head, HTTP1_H_X_FORWARDED_HOST))
            http1_put_field(w, SPAN("X-Forwarded-Host"),
                            http1_find(head, HTTP1_H_X_FORWARDED_HOST)->value);
        else if (head->host.len)
            http1_put_field(w, SPAN("X-Forwarded-Host"), head->host);
        if (is_trusted && http1_has(head, HTTP1_H_X_FORWARDED_PORT))
            http1_put_field(w, SPAN("X-Forwarded-Port"),
                            http1_find(head, HTTP1_H_X_FORWARDED_PORT)->value);
    }
    if (p->gateway_forwarded == CONF_FORWARDED_RFC7239 ||
        p->gateway_forwarded == CONF_FORWARDED_BOTH) {
        char text[SOCK_TEXT_BYTES + 64];
        struct http1_out f = http1_out(text, sizeof text);
        bool is_v6 = memchr(peer.at, ':', peer.len) != NULL;
        if (span_eq(peer, SPAN("unix"))) /* RFC 7239 section 6 has no other word for it */
            peer = SPAN("unknown");
        http1_put(&f, is_v6 ? SPAN("for=\"[") : SPAN("for="));
        http1_put(&f, peer);
        http1_put(&f, is_v6 ? SPAN("]\";proto=http") : SPAN(";proto=http"));
        if (req->tls)
            http1_put(&f, SPAN("s"));
        put_joined(w, is_trusted ? head : NULL, HTTP1_H_FORWARDED, SPAN("Forwarded"),
                   http1_out_span(&f));
    }
}

/* Who showed a certificate; what the client itself said there is never passed on. */
static void put_subject(const struct request *req, struct http1_out *w)
{
    struct client *c = req->client;
    if (c->kind == CLIENT_H2)
        c = h2_stream_socket(c);
    struct tls_conn *tls = c ? c->link.tls : NULL;
    const char *subject = tls && tls_is_open(tls) ? tls_peer_subject(tls) : "";
    if (subject[0])
        http1_put_field(w, SPAN("X-Client-Cert-Subject"), span_of(subject));
}

/* "name: what the client sent, value"; <head> NULL: only the value. */
static void put_joined(struct http1_out *w, const struct http1_head *head, enum http1_header id,
                       struct span name, struct span value)
{
    http1_put(w, name);
    http1_put(w, SPAN(": "));
    for (uint32_t i = 0; head && i < head->field_count; i++) {
        if (head->fields[i].id != id || head->fields[i].value.len == 0)
            continue;
        http1_put(w, head->fields[i].value);
        http1_put(w, SPAN(", "));
    }
    http1_put(w, value);
    http1_put_end(w);
}

static void put_request_id(struct request *req, const struct http1_head *head, struct http1_out *w)
{
    if (req->is_forwarded && http1_has(head, HTTP1_H_X_REQUEST_ID)) {
        const struct http1_field *f = http1_find(head, HTTP1_H_X_REQUEST_ID);
        uint64_t id = UINT64_C(0xcbf29ce484222325); /* FNV-1a: only a number for the event */
        for (size_t i = 0; i < f->value.len; i++)
            id = (id ^ (unsigned char)f->value.at[i]) * UINT64_C(0x100000001b3);
        req->request_id = id;
        http1_put_field(w, SPAN("X-Request-Id"), f->value);
        return;
    }
    http1_put(w, SPAN("X-Request-Id: "));
    put_hex16(w, req->request_id);
    http1_put_end(w);
}

static bool is_traceparent(struct span s)
{
    if (s.len < TRACEPARENT_BYTES || s.at[2] != '-' || s.at[35] != '-' || s.at[52] != '-')
        return false;
    bool trace_is_zero = true, parent_is_zero = true;
    for (size_t i = 0; i < TRACEPARENT_BYTES; i++) {
        char ch = s.at[i];
        if (i == 2 || i == 35 || i == 52)
            continue;
        if (!((ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'f')))
            return false;
        if (i >= 3 && i < 35 && ch != '0')
            trace_is_zero = false;
        if (i >= 36 && i < 52 && ch != '0')
            parent_is_zero = false;
    }
    if (s.at[0] == 'f' && s.at[1] == 'f')
        return false;
    bool is_v0 = s.at[0] == '0' && s.at[1] == '0';
    if (is_v0 ? s.len != TRACEPARENT_BYTES
              : s.len > TRACEPARENT_BYTES && s.at[TRACEPARENT_BYTES] != '-')
        return false;
    return !trace_is_zero && !parent_is_zero;
}

/* W3C Trace Context: the trace goes on with us as the parent, or begins here, not sampled. */
static void put_traceparent(struct request *req, const struct http1_head *head, struct http1_out *w)
{
    struct rng *rng = &req->worker->rng;
    const struct http1_field *f =
        http1_has(head, HTTP1_H_TRACEPARENT) ? http1_find(head, HTTP1_H_TRACEPARENT) : NULL;
    http1_put(w, SPAN("traceparent: 00-"));
    if (f && is_traceparent(f->value)) {
        http1_put(w, (struct span){f->value.at + 3, 33});
        put_hex16(w, rng_u64(rng) | 1);
        http1_put(w, (struct span){f->value.at + 52, 3});
    } else {
        put_hex16(w, rng_u64(rng) | 1);
        put_hex16(w, rng_u64(rng));
        http1_put(w, SPAN("-"));
        put_hex16(w, rng_u64(rng) | 1);
        http1_put(w, SPAN("-00"));
    }
    http1_put_end(w);
}

static void put_hex16(struct http1_out *w, uint64_t value)
{
    char *at = http1_reserve(w, 16);
    if (at)
        http1_hex16(at, value);
}
