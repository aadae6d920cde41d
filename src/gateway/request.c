/* SPDX-License-Identifier: Apache-2.0 */
/* request: from a complete head to a place at the gate, and the end of it all. */
#include "base/assert.h"
#include "gateway/authz.h"
#include "gateway/cache.h"
#include "gateway/compress.h"
#include "gateway/rules.h"

/* More tries than this end to end mean that somebody before us retries retries. */
#define ATTEMPTS_MAX 3

static uint16_t check(struct request *req, struct http1_head *head);
static uint16_t route(struct request *req, struct http1_head *head, struct http1_out *w);
static uint16_t prepare(struct request *req, struct http1_head *head, struct http1_out *w,
                        struct rules_where *where);
static void go(struct request *req, uint16_t reason, bool is_call);
static void read_own_fields(struct request *req, struct http1_head *head);
static bool is_looping(const struct request *req, const struct http1_head *head);
static bool is_last_hop(struct http1_head *head);
static void set_ticket(struct request *req, const struct http1_head *head);
static void keep_texts(struct request *req, const struct http1_head *head, struct span target,
                       struct span path);

/* Calls go both ways at once: an endpoint may have to answer the first message to get the next. */
static bool is_grpc(const struct http1_head *head)
{
    const struct http1_field *f = http1_find_name(head, SPAN("content-type"));
    const struct span grpc = SPAN("application/grpc");
    return f && f->value.len >= grpc.len && memcmp(f->value.at, grpc.at, grpc.len) == 0;
}

size_t request_begin(struct client *c, const struct http1_head *parsed, struct span rest)
{
    struct worker *w = c->worker;
    struct http1_head head = *parsed; /* fields get marks */
    struct request *req = request_open(c, &head);
    if (!req) {
        report_refused(w, REASON_SHED_OVERLOAD, 503, c->since_us, head.head_bytes);
        answer_raw(c, REASON_SHED_OVERLOAD, false);
        return rest.len;
    }
    struct http1_out out = http1_out(w->out, w->out_bytes);
    uint16_t reason = check(req, &head);
    if (!reason)
        reason = route(req, &head, &out);
    if (!reason)
        compress_ask(req, &head);
    req->is_discarding = reason != REASON_NONE;
    req->discard_to_bytes = UINT64_MAX;
    uint16_t body_reason = REASON_NONE;
    size_t taken = req->is_in_done ? 0 : body_take(req, rest, &body_reason);
    if (!reason && body_reason) {
        reason = body_reason;
        req->is_keep_alive = false;
    }
    go(req, reason, is_grpc(&head));
    return taken;
}

static void go(struct request *req, uint16_t reason, bool is_call)
{
    if (reason) {
        req->phase = REQUEST_OVER;
        answer_local(req, reason);
    } else if (req->phase == REQUEST_GUARDED) {
        request_arm(req);
    } else if (req->cw && cache_go(req)) {
        return;
    } else if (body_is_held(req) && !is_call) {
        req->phase = REQUEST_HELD;
        request_arm(req);
    } else {
        forward_arrive(req);
    }
}

void request_let_in(struct request *req)
{
    struct worker *w = req->worker;
    struct http1_head *head = authz_head(req);
    struct http1_out out = http1_out(w->out, w->out_bytes);
    struct rules_where where = {.head = head};
    uint16_t reason = REASON_BAD_REQUEST; /* it was good before */
    fb_assert(req->phase == REQUEST_GUARDED);
    req->phase = REQUEST_HELD;
    if (http1_target_normalise(head, &out, &where.target, &where.path) == HTTP1_E_NONE) {
        where.host = http1_host_normalise(head, &out);
        reason = prepare(req, head, &out, &where);
    }
    go(req, reason, is_grpc(head));
}

const struct conf_service *request_conf(const struct request *req)
{
    const struct conf *conf = req->gen->conf;
    if (req->protocol == EV_PROTOCOL_TCP || req->route == ROUTE_NONE) { /* or a question */
        size_t i = 0;
        while (req->gen->services[i] != req->sv)
            i++;
        fb_assert(i < conf->service_count);
        return &conf->services[i];
    }
    fb_assert(req->route < conf->route_count);
    const struct conf_route *r = &conf->routes[req->route];
    return &conf->services[req->is_mirror ? r->mirror.service : r->service];
}

uint64_t request_body_most(const struct request *req)
{
    const struct conf *conf = req->gen->conf;
    uint64_t own = req->route == ROUTE_NONE ? UINT64_MAX : conf->routes[req->route].body_bytes;
    return own == UINT64_MAX ? conf->p.limits_body_bytes : own;
}

void request_free(struct request *req)
{
    struct worker *w = req->worker;
    struct generation *gen = req->gen;
    fb_assert(!req->is_ticket_live);
    fb_assert(req->up == NULL);
    if (!req->end_us)
        req->end_us = loop_now_us(w->loop);
    cache_work_end(req);
    if (req->guard)
        authz_end(req);
    if (req->held) /* what is not handed over */
        cap_give(req, HELD_ALL);
    compress_end(req);
    hedge_leave(req);
    mirror_request(req);
    if ((!req->is_own || req->is_mirror) && !req->is_silent)
        report_request(req);
    if (req->prev) {
        *req->prev = req->next;
        if (req->next)
            req->next->prev = req->prev;
    }
    loop_timer_stop(w->loop, &req->timer);
    chunk_give(&w->chunks, req->head);
    chunk_give(&w->chunks, req->body);
    trailers_give(w, req->trailers);
    if (req->texts)
        chunk_give(&w->chunks, req->texts);
    if (FB_UNLIKELY(req->back != NULL))
        chunk_give(&w->chunks, req->back);
    if (req->h2_slot)
        h2_slot_give(req->h2_slot);
    slab_give(&w->requests, req);
    w->request_count--;
    if (--gen->use[w->index].requests == 0 && gen != w->gen)
        generation_leave(gen, w);
}

/* It goes on without a client. */
void request_adopt(struct request *req)
{
    struct worker *w = req->worker;
    req->next = w->orphans;
    req->prev = &w->orphans;
    if (req->next)
        req->next->prev = &req->next;
    w->orphans = req;
}

/* Whose request it is, as text.  Most come from where the last one came from: another proxy, or a
 * client that asks for many things. */
static void put_peer(struct request *req, const struct client *c)
{
    struct worker *w = req->worker;
    bool is_v4 = c->peer.any.sa_family == AF_INET && c->peer.v4.sin_addr.s_addr != 0;
    if (!is_v4) {
        req->peer_text_bytes = (uint8_t)sock_host_text(&c->peer, req->peer_text);
        return;
    }
    if (w->peer_v4 != c->peer.v4.sin_addr.s_addr) {
        w->peer_v4 = c->peer.v4.sin_addr.s_addr;
        w->peer_text_bytes = (uint32_t)sock_host_text(&c->peer, w->peer_text);
    }
    memcpy(req->peer_text, w->peer_text, 16); /* no IPv4 address is longer */
    req->peer_text_bytes = (uint8_t)w->peer_text_bytes;
}

/* What a proxy of ours before us says of the client. */
static void take_forwarded(struct request *req, const struct http1_head *head)
{
    struct sock_addr who;
    if (who_forwarded(req, head, &who))
        req->peer_text_bytes = (uint8_t)sock_host_text(&who, req->peer_text);
    req->is_https = rules_is_https(req, head);
}

struct request *request_open(struct client *c, const struct http1_head *head)
{
    struct worker *w = c->worker;
    struct request *req = slab_take(&w->requests);
    if (!req)
        return NULL;
    *req = (struct request){.worker = w,
                            .tls = c->tls,
                            .tls_cipher = c->tls_cipher,
                            .traits = c->traits,
                            .client = c,
                            .gen = w->gen,
                            .timer = {.on_due = forward_timer},
                            .start_us = c->since_us,
                            .deadline_us = UINT64_MAX,
                            .route = ROUTE_NONE,
                            .grpc_status = EV_NONE,
                            .ticket = {.class = EV_CLASS_DEFAULT},
                            .method = head->method,
                            .version_minor = head->version_minor,
                            .received_bytes = head->head_bytes,
                            .is_keep_alive = head->keep_alive && !client_is_leaving(c) &&
                                             !own_ends_connections(w),
                            .is_replayable = true,
                            .expects_continue = head->expect_continue,
                            .is_chunked_in = head->framing == HTTP1_BODY_CHUNKED};
    put_peer(req, c);
    req->is_https = req->tls;
    req->is_forwarded = w->gen->conf->p.gateway_trust_forwarded || proxied_is_proxy(c);
    if (FB_UNLIKELY(req->is_forwarded))
        take_forwarded(req, head);
    if (c->kind == CLIENT_H2)
        req->protocol = EV_PROTOCOL_HTTP2;
    req->request_id = worker_request_id(w);
    req->is_in_done = head->framing == HTTP1_BODY_NONE ||
                      (head->framing == HTTP1_BODY_LENGTH && head->body_bytes == 0);
    if (req->is_chunked_in)
        req->trailers = trailers_take(w); /* without memory they are dropped */
    http1_body_begin(&req->in, head, req->trailers ? &req->trailers->t : NULL);
    c->req = req;
    w->gen->use[w->index].requests++;
    w->request_count++;
    w->requests_total++;
    worker_busy(w);
    return req;
}

/* What can be said without knowing the route. */
static uint16_t check(struct request *req, struct http1_head *head)
{
    if (http1_has(head, HTTP1_H_ACCEPT)) {
        const struct http1_field *f = http1_find(head, HTTP1_H_ACCEPT);
        req->wants_json = memmem(f->value.at, f->value.len, "json", 4) != NULL;
    }
    read_own_fields(req, head);
    grpc_begin(req, head);
    if (head->method == HTTP1_CONNECT || head->method == HTTP1_TRACE) {
        req->is_keep_alive = false;
        return REASON_BAD_METHOD;
    }
    if (req->worker->is_last_call)
        return REASON_SHED_DRAINING;
    if (http1_has(head, HTTP1_H_VIA) && is_looping(req, head))
        return REASON_LOOP_DETECTED;
    if (is_last_hop(head))
        return REASON_ANSWERED_LOCALLY;
    if (req->attempt_in > ATTEMPTS_MAX)
        return REASON_SHED_ATTEMPTS;
    /* A client that upgrades to h2c in the clear would speak past us to the endpoint. */
    req->is_upgrade = head->is_upgrade && req->is_in_done && head->is_websocket;
    if (head->is_upgrade && req->is_in_done && !head->is_websocket) {
        const struct http1_field *f = http1_find(head, HTTP1_H_UPGRADE);
        req->is_upgrade = f && !memmem(f->value.at, f->value.len, "h2", 2) &&
                          !memmem(f->value.at, f->value.len, "HTTP", 4) &&
                          !memchr(f->value.at, ',', f->value.len);
    }
    return REASON_NONE;
}

static uint16_t route(struct request *req, struct http1_head *head, struct http1_out *w)
{
    struct span target, path;
    struct generation *gen = req->gen;
    if (http1_target_normalise(head, w, &target, &path) != HTTP1_E_NONE || w->failed)
        return REASON_BAD_REQUEST;
    if (acme_find(req, path))
        return REASON_ACME_CHALLENGE;
    struct span host = http1_host_normalise(head, w);
    struct route_query q = {.host = host,
                            .path = path,
                            .method = head->method_text,
                            .fields = head->fields,
                            .field_count = head->field_count,
                            .work = req->worker->regex};
    req->route = route_match(gen->routes, &q);
    bool is_costly = req->route == ROUTE_COSTLY;
    if (FB_UNLIKELY(is_costly))
        req->route = ROUTE_NONE;
    keep_texts(req, head, target, path);
    if (req->route == ROUTE_NONE)
        return is_costly ? REASON_PATTERN_LIMIT : REASON_NO_ROUTE;
    const struct conf_route *r = &gen->conf->routes[req->route];
    struct rules_where where = {head, host, target, path};
    if (!conf_route_is_own(r))
        req->sv = gen->services[r->service];
    req->ticket.class = r->class; /* also of what is refused or answered before it has a ticket */
    uint64_t most = request_body_most(req);
    if (most && head->framing == HTTP1_BODY_LENGTH && head->body_bytes > most) {
        req->is_keep_alive = false;
        return REASON_BODY_TOO_LARGE;
    }
    uint16_t ruled = r->rules ? rules_answer(req, &where) : REASON_NONE;
    if (ruled)
        return ruled;
    req->is_stream = r->is_stream;
    if (r->deadline_ms)
        req->deadline_us = fb_min_u64(req->deadline_us, req->start_us + r->deadline_ms * US_PER_MS);
    enum conf_protocol protocol = request_conf(req)->protocol;
    req->is_websocket = req->is_upgrade && head->is_websocket;
    req->is_body_raw = protocol != CONF_PROTOCOL_HTTP1;
    if (protocol == CONF_PROTOCOL_H2 || protocol == CONF_PROTOCOL_H2C)
        req->is_upgrade = req->is_websocket; /* else it gets a request without, and answers that */
    set_ticket(req, head);
    place_ticket(req, head, target, path);
    split_ticket(req, head);
    if (own_refuses(req))
        return REASON_SHED_OWN_LOAD;
    uint16_t refused = r->rate_count ? rate_check(req, head) : REASON_NONE;
    if (refused)
        return refused;
    refused = cap_take(req, head);
    if (refused)
        return refused;
    if (r->auth) {
        uint16_t refusal = authz_ask(req, &head, target);
        if (refusal || req->phase == REQUEST_GUARDED)
            return refusal;
        where.head = head;
    }
    return prepare(req, head, w, &where);
}

/* The head for the endpoint, unless memory answers. */
static uint16_t prepare(struct request *req, struct http1_head *head, struct http1_out *w,
                        struct rules_where *where)
{
    const struct conf_route *r = &req->gen->conf->routes[req->route];
    struct span fields = {NULL, 0}, target = where->target;
    if (r->cache.is_on) {
        uint16_t reason = cache_look(
            req, head,
            &(struct cache_where){.host = where->host, .target = target, .path = where->path});
        if (reason || (req->cw && req->cw->served && !req->cw->wants_refresh))
            return reason;
    }
    uint16_t failed = r->rules ? rules_request(req, where, w, &target, &fields) : REASON_NONE;
    if (failed)
        return failed;
    struct http1_out out = http1_out(w->at + w->len, w->cap - w->len);
    request_head_build(req, head, &out, target);
    http1_put(&out, fields);
    if (out.failed || w->failed)
        return REASON_HEADERS_TOO_LARGE;
    req->head = chunk_take(&req->worker->chunks, out.len + CHUNK_SLACK_BYTES);
    if (!req->head)
        return REASON_SHED_OVERLOAD;
    memcpy(req->head->at, out.at, out.len);
    req->head->to = req->head_base = (uint32_t)out.len;
    return REASON_NONE;
}

/* Fields that are meant for us; they are written anew for the endpoint. */
static void read_own_fields(struct request *req, struct http1_head *head)
{
    bool is_trusted = req->is_forwarded;
    for (uint32_t i = 0; i < head->field_count; i++) {
        struct http1_field *f = &head->fields[i];
        uint64_t value;
        if (f->id != HTTP1_H_OTHER || (f->name.at[0] | 0x20) != 'x')
            continue;
        if (span_ieq(f->name, SPAN("x-deadline-ms"))) {
            f->flags |= HTTP1_FIELD_HOP;
            if (is_trusted && span_to_u64(f->value, &value) && value < UINT32_MAX)
                req->deadline_us = req->start_us + value * US_PER_MS;
        } else if (span_ieq(f->name, SPAN("x-attempt"))) {
            f->flags |= HTTP1_FIELD_HOP;
            if (span_to_u64(f->value, &value))
                req->attempt_in = (uint8_t)fb_min_u64(value, 255);
        }
    }
}

/* OPTIONS counts the proxies that it may pass (RFC 9110 section 7.6.2): at 0 we answer ourselves,
 * else the endpoint gets one less, see request_head.c. */
static bool is_last_hop(struct http1_head *head)
{
    uint64_t hops;
    return head->method == HTTP1_OPTIONS && http1_has(head, HTTP1_H_MAX_FORWARDS) &&
           span_to_u64(http1_find(head, HTTP1_H_MAX_FORWARDS)->value, &hops) && hops == 0;
}

/* Our own name in Via: the request has been here.  The name that all have without `node` may be
 * that of another one before us, at the edge or in front of a team: such a request is refused only
 * when it passed more of them than tiers are built of. */
#define UNNAMED_MAX 4
static bool is_looping(const struct request *req, const struct http1_head *head)
{
    struct span node = span_of(req->gen->node);
    uint32_t left = req->gen->conf->p.top_node[0] ? 1 : UNNAMED_MAX;
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct http1_field *f = &head->fields[i];
        struct span rest = f->value, element;
        if (f->id != HTTP1_H_VIA)
            continue;
        while (http1_list_next(&rest, &element)) {
            struct span by;
            span_cut(element, ' ', &by);
            by = span_trim(by);
            struct span name = span_cut(by, ' ', &by);
            if (span_ieq(name, node) && --left == 0)
                return true;
        }
    }
    return false;
}

static void set_ticket(struct request *req, const struct http1_head *head)
{
    const struct conf_route *r = &req->gen->conf->routes[req->route];
    struct gate_ticket *t = &req->ticket;
    t->arrive_us = req->start_us;
    t->deadline_us = req->deadline_us;
    t->key_hash = who_hash(req, head, &r->key, req->worker->gw->key_seed) | 1;
    t->class = r->class;
    t->is_idempotent = head->method == HTTP1_GET || head->method == HTTP1_HEAD ||
                       head->method == HTTP1_OPTIONS || head->method == HTTP1_PUT ||
                       head->method == HTTP1_DELETE || http1_has(head, HTTP1_H_IDEMPOTENCY_KEY);
}

static struct span keep(struct chunk *c, struct span s)
{
    s.len = s.len < chunk_room(c) ? s.len : chunk_room(c);
    char *at = c->at + c->to;
    if (s.len)
        memcpy(at, s.at, s.len);
    c->to += (uint32_t)s.len;
    return (struct span){at, s.len};
}

static struct span keep_field(struct chunk *c, const struct http1_head *head, enum http1_header id)
{
    const struct http1_field *f = http1_has(head, id) ? http1_find(head, id) : NULL;
    return f ? keep(c, f->value) : (struct span){NULL, 0};
}

/* For the access log and samples, while somebody wants them. */
static void keep_texts(struct request *req, const struct http1_head *head, struct span target,
                       struct span path)
{
    struct worker *w = req->worker;
    bool is_sampled = false;
    if (!report_wants_texts(w, &is_sampled))
        return;
    struct chunk *c = chunk_take(&w->chunks, CHUNK_SMALL_BYTES);
    if (!c)
        return;
    struct request_texts *t = (void *)c->at;
    c->to = sizeof *t;
    *t = (struct request_texts){.is_sampled = is_sampled};
    t->method = keep(c, head->method_text);
    t->target = keep(c, target);
    t->path = (struct span){t->target.at, path.len < t->target.len ? path.len : t->target.len};
    t->host = keep(c, head->host);
    t->user_agent = keep_field(c, head, HTTP1_H_USER_AGENT);
    t->referer = keep_field(c, head, HTTP1_H_REFERER);
    req->texts = c;
}
