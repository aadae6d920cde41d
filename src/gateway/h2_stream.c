/* SPDX-License-Identifier: Apache-2.0 */
/* h2_stream: one request and its answer on an HTTP/2 connection. */
#include "base/assert.h"
#include "gateway/cache.h"
#include "gateway/h2_int.h"
#include "proto/h2_head.h"

#include <sys/uio.h>

#define RATE_STEP_US (250 * US_PER_MS)

static bool step(struct h2_stream *st);
static void pump_body(struct h2_stream *st);
static struct span put_body(struct h2_stream *st, struct span data);
static void say(struct h2_stream *st, const struct answer_piece *piece);
static bool keep(struct h2_stream *st, struct span bytes);
static bool keep_tail(struct h2_stream *st, const struct http1_trailers *t);
static void on_timer(struct loop_timer *t);
static void close_stream(struct h2_stream *st);
static void free_stream(struct h2_stream *st);

/* ---- hooks: the session has something for the stream ---- */

void *h2_stream_open(struct h2_conn *conn, const struct h2_begin *begin)
{
    struct worker *w = conn->worker;
    const struct client *socket = conn->c;
    struct h2_stream *st = slab_take(&w->h2_streams);
    if (!st) {
        h2_reset(conn->session, begin->id, H2_REFUSED_STREAM);
        return NULL;
    }
    *st = (struct h2_stream){.conn = conn, .id = begin->id, .is_in_over = begin->is_last};
    struct client *c = &st->c;
    c->handle.fd = c->link.fd = -1;
    c->timer.on_due = on_timer;
    c->worker = w;
    c->kind = CLIENT_H2;
    c->peer = socket->peer;
    c->listener = socket->listener;
    c->since_us = conn->head_since_us ? conn->head_since_us : loop_now_us(w->loop);
    c->tls = socket->tls;
    c->tls_cipher = socket->tls_cipher;
    c->traits = socket->traits;
    c->proxied = socket->proxied; /* borrowed: the connection outlives its streams */
    st->next = conn->streams;
    st->prev = &conn->streams;
    if (st->next)
        st->next->prev = &st->next;
    conn->streams = st;
    conn->stream_count++;
    if (begin->error != HTTP1_E_NONE) {
        uint16_t reason = answer_reason_of(begin->error);
        report_refused(w, reason, ev_reason_row(reason)->status, c->since_us,
                       begin->head->head_bytes);
        answer_raw(c, reason, false);
    } else {
        const struct http1_field *f = http1_find_name(begin->head, SPAN("priority"));
        struct h2_priority priority = h2_priority_of(f ? f->value : SPAN(""));
        st->is_incremental = priority.is_incremental;
        st->urgency = priority.urgency;
        conn->worker->h2_stream_count++;
        conn->used++; /* before it: the request may be over at once */
        size_t taken = request_begin(c, begin->head, SPAN(""));
        (void)taken;
        if (c->req) {
            c->req->h2_slot = conn;
        } else {
            conn->used--;
            conn->worker->h2_stream_count--;
        }
    }
    h2_conn_touch(conn, st);
    return st;
}

struct client *h2_stream_socket(struct client *c)
{
    return FB_CONTAINER(c, struct h2_stream, c)->conn->c;
}

/* Straight to the request as far as it has room; the rest waits, and the window with it. */
void h2_stream_data(void *arg, void *stream, struct span payload)
{
    struct h2_conn *conn = arg;
    struct h2_stream *st = stream;
    struct client *c = &st->c;
    struct request *req = c->req;
    h2_conn_touch(conn, st);
    if (req && !c->in && req->phase != REQUEST_TUNNEL)
        payload = put_body(st, payload);
    if (payload.len && !req) /* it was refused */
        h2_consume(conn->session, st->id, payload.len);
    else if (payload.len && !chunk_append(&c->worker->chunks, &c->in, payload))
        c->is_broken = true;
}

void h2_stream_end(void *arg, void *stream, const struct h2_trailers *trailers)
{
    struct h2_stream *st = stream;
    struct request *req = st->c.req;
    st->is_in_over = true;
    if (trailers && req && req->trailers &&
        !trailers_keep(st->c.worker, req->trailers, trailers->fields, trailers->count))
        st->c.is_broken = true;
    h2_conn_touch(arg, st);
}

void h2_stream_gone(void *arg, void *stream, uint32_t code)
{
    struct h2_stream *st = stream;
    st->is_closed = true;
    st->is_reset = code != H2_NO_ERROR || !st->is_out_over;
    h2_conn_touch(arg, st);
}

struct h2_give h2_stream_give(void *arg, void *stream, size_t most)
{
    struct h2_stream *st = stream;
    struct span ready = st->c.out ? chunk_span(st->c.out) : st->now;
    if (ready.len == 0 && !st->is_all)
        return (struct h2_give){0};
    if (ready.len && h2_share_steps_back(st)) {
        h2_conn_late(arg, st);
        return (struct h2_give){0};
    }
    struct h2_give g = {.bytes = ready.len < most ? ready.len : most, .is_ready = true};
    g.is_last = st->is_all && g.bytes == ready.len;
    if (g.is_last)
        g.trailers = chunk_span(st->tail);
    st->is_end_given = g.is_last;
    return g;
}

bool h2_stream_put(void *arg, void *stream, struct span head, size_t bytes)
{
    struct h2_conn *conn = arg;
    struct h2_stream *st = stream;
    struct client *c = &st->c;
    struct span ready = c->out ? chunk_span(c->out) : st->now;
    fb_assert(bytes <= ready.len);
    if (!h2_conn_put_payload(conn, head, (struct span){ready.at, bytes}))
        return false;
    h2_share_sent(st, bytes);
    c->written_bytes += bytes;
    if (!c->out) {
        st->now = (struct span){bytes < ready.len ? ready.at + bytes : NULL, ready.len - bytes};
    } else {
        uint64_t now_us = loop_now_us(c->worker->loop);
        c->blocked_us += fb_sub_floor_u64(now_us, c->since_us);
        c->since_us = now_us;
        c->out->from += (uint32_t)bytes;
        if (c->out->from == c->out->to) {
            chunk_give(&c->worker->chunks, c->out);
            c->out = NULL;
            if (c->req)
                c->req->active_us = now_us; /* the endpoint was held back meanwhile */
        }
        h2_conn_touch(conn, st);
    }
    if (st->is_end_given) {
        st->is_out_over = true;
        h2_conn_touch(conn, st);
    }
    return true;
}

/* ---- what the gateway says to the client ---- */

void h2_stream_answer(struct request *req, const struct answer_piece *piece)
{
    struct h2_stream *st = h2_stream_of(req->client);
    if (!piece->is_interim)
        req->is_answered = true;
    req->sent_bytes += piece->head.len + piece->payload.len;
    say(st, piece);
}

void h2_stream_say(struct client *c, struct span head, struct span payload)
{
    say(h2_stream_of(c), &(struct answer_piece){.head = head, .payload = payload, .is_last = true});
}

void h2_stream_send(struct client *c, const struct iovec *iov, int count)
{
    for (int i = 0; i < count; i++) {
        struct span bytes = {iov[i].iov_base, iov[i].iov_len};
        if (c->req)
            c->req->sent_bytes += bytes.len;
        say(h2_stream_of(c), &(struct answer_piece){.payload = bytes});
    }
}

void h2_stream_finish(struct client *c)
{
    say(h2_stream_of(c), &(struct answer_piece){.is_last = true});
}

static void say(struct h2_stream *st, const struct answer_piece *piece)
{
    struct h2_conn *conn = st->conn;
    struct client *c = &st->c;
    bool has_trailers = piece->is_last && piece->trailers && piece->trailers->field_count;
    if (c->is_broken || st->is_closed || st->is_all)
        return;
    if (piece->head.len) {
        bool is_end = piece->is_last && piece->payload.len == 0 && !has_trailers;
        if (!h2_answer(conn->session, &(struct h2_owned){st->id, st}, piece->head, is_end)) {
            c->is_broken = true;
            return;
        }
        st->is_out_over = is_end;
    }
    if (has_trailers && !keep_tail(st, piece->trailers))
        c->is_broken = true;
    st->is_all = piece->is_last;
    bool is_shared = st->is_incremental && conn->stream_count > 1 && !piece->head.len;
    bool is_now = !c->out && !conn->is_busy && !is_shared;
    if (!c->out && piece->payload.len)
        h2_share_ready(st);
    if (is_now)
        st->now = piece->payload;
    else if (!keep(st, piece->payload))
        return;
    if (is_shared) {
        h2_conn_late(conn, st);
        c->blocked_us += c->blocked_us == 0; /* small reads, like the others' */
    } else if (!piece->head.len)
        h2_resume(conn->session, st->id);
    h2_conn_touch(conn, st);
    if (!is_now)
        return;
    h2_conn_pump(conn);
    struct span rest = st->now;
    st->now = (struct span){NULL, 0};
    keep(st, rest);
}

/* What no frame has taken yet. */
static bool keep(struct h2_stream *st, struct span bytes)
{
    struct client *c = &st->c;
    if (bytes.len == 0)
        return true;
    if (!c->out) {
        c->since_us = loop_now_us(c->worker->loop);
        if (c->blocked_us == 0)
            c->read_from_bytes = c->written_bytes;
    }
    if (!chunk_append(&c->worker->chunks, &c->out, bytes)) {
        c->is_broken = true;
        return false;
    }
    client_wait(c);
    return true;
}

static bool keep_tail(struct h2_stream *st, const struct http1_trailers *t)
{
    st->tail = chunk_take(&st->c.worker->chunks, trailers_text_bytes(t));
    if (!st->tail)
        return false;
    struct http1_out w = http1_out(st->tail->at, st->tail->cap);
    for (uint32_t i = 0; i < t->field_count; i++)
        http1_put_field(&w, t->fields[i].name, t->fields[i].value);
    st->tail->to = (uint32_t)w.len;
    return !w.failed;
}

/* ---- running ---- */

void h2_stream_run(struct client *c)
{
    c->is_running = true;
    while (step(h2_stream_of(c)))
        ;
}

/* False: it waits, or it is gone. */
static bool step(struct h2_stream *st)
{
    struct client *c = &st->c;
    struct request *req = c->req;
    /* A tunnel outlives the last frame to the client, until that one ends or resets its side. */
    bool is_cut_off = st->is_closed && !st->is_in_over && req && req->phase == REQUEST_TUNNEL;
    if (c->is_broken || (st->is_closed && !st->is_out_over) || is_cut_off ||
        (c->is_cut && !c->out)) {
        close_stream(st);
        return false;
    }
    if (!req) {
        if (st->is_out_over) {
            close_stream(st);
            return false;
        }
        goto waits;
    }
    if (req->phase == REQUEST_TUNNEL) {
        tunnel_run(req);
        if (c->is_broken || c->is_cut)
            return true;
        goto waits;
    }
    if (!req->is_in_done) {
        uint16_t was_phase = req->phase;
        pump_body(st);
        if (c->is_broken || req->phase != was_phase)
            return true;
        if (req->up && req->up->is_broken && !req->is_out_done) {
            c->is_running = false;
            upstream_run(req->up);
            return false;
        }
    }
    if (req->cw && req->phase == REQUEST_OVER && !req->is_out_done && !c->out) {
        if (cache_more(req))
            return true;
        goto waits;
    }
    if (req->is_out_done && st->is_out_over) {
        close_stream(st);
        return false;
    }
    if (req->up && req->up->can_read && req->up->phase == UPSTREAM_BUSY && !req->is_out_done &&
        !c->out) {
        c->is_running = false;
        upstream_run(req->up); /* it was held back while <out> was there */
        return false;
    }
waits:
    client_wait(c);
    c->is_running = false;
    return false;
}

static void pump_body(struct h2_stream *st)
{
    struct client *c = &st->c;
    struct request *req = c->req;
    uint64_t now_us = loop_now_us(c->worker->loop);
    if (req->is_out_done && !req->is_discarding) {
        req->is_discarding = true;
        req->discard_to_bytes = UINT64_MAX;
    }
    while (c->in && !req->is_in_done) {
        struct span was = chunk_span(c->in);
        struct span rest = put_body(st, was);
        c->in->from += (uint32_t)(was.len - rest.len);
        if (rest.len < was.len) /* the window that this opens goes out, whoever runs us */
            loop_defer(c->worker->loop, &st->conn->flush);
        if (rest.len == 0) {
            chunk_give(&c->worker->chunks, c->in);
            c->in = NULL;
        } else if (rest.len == was.len) {
            break;
        }
        body_release(req);
        body_send(req);
    }
    if (!c->in && st->is_in_over && !req->is_in_done) {
        uint16_t reason = body_put(req, (struct span){NULL, 0}, true);
        if (reason)
            body_refuse(req, reason);
    }
    body_release(req);
    body_send(req);
    body_wait(req, now_us);
}

/* Returns what the request has no room for. */
static struct span put_body(struct h2_stream *st, struct span data)
{
    struct request *req = st->c.req;
    uint64_t now_us = loop_now_us(st->c.worker->loop);
    while (data.len && !req->is_in_done && body_has_room(req)) {
        size_t n = fb_min_u64(data.len, body_room(req));
        if (!body_came(req, now_us))
            break;
        req->in.payload_bytes += n;
        req->received_bytes += n;
        uint16_t reason = body_put(req, (struct span){data.at, n}, false);
        h2_consume(st->conn->session, st->id, n);
        data.at += n;
        data.len -= n;
        if (reason) {
            body_refuse(req, reason);
            break;
        }
    }
    if (req->is_in_done && data.len) { /* nobody wants it */
        h2_consume(st->conn->session, st->id, data.len);
        data.len = 0;
    }
    return data;
}

/* A tunnel takes what the client sent; NULL: nothing is there. */
struct chunk *h2_stream_take(struct client *c)
{
    struct h2_stream *st = h2_stream_of(c);
    struct chunk *in = c->in;
    c->in = NULL;
    if (in)
        h2_consume(st->conn->session, st->id, chunk_span(in).len);
    return in;
}

bool h2_stream_has_ended(const struct client *c)
{
    return ((const struct h2_stream *)c)->is_in_over && !c->in;
}

bool h2_stream_was_reset(const struct client *c)
{
    return c->kind == CLIENT_H2 && ((const struct h2_stream *)c)->is_reset;
}

/* ---- waits and the end ---- */

void h2_stream_wait(struct client *c)
{
    const struct request *req = c->req;
    const struct conf_params *p = &(req ? req->gen : c->worker->gen)->conf->p;
    uint64_t now_us = loop_now_us(c->worker->loop), due_us;
    if (c->out || !req)
        due_us =
            fb_min_u64(c->since_us + p->limits_write_timeout * US_PER_MS, now_us + RATE_STEP_US);
    else if (req->body_since_us)
        due_us = fb_min_u64(req->body_since_us + p->limits_body_timeout * US_PER_MS,
                            now_us + RATE_STEP_US);
    else
        return; /* the endpoint's turn: the request's own timer runs */
    loop_timer_set(c->worker->loop, &c->timer, due_us);
}

static void on_timer(struct loop_timer *t)
{
    struct client *c = FB_CONTAINER(t, struct client, timer);
    struct h2_stream *st = h2_stream_of(c);
    struct request *req = c->req;
    const struct conf_params *p = &(req ? req->gen : c->worker->gen)->conf->p;
    uint64_t now_us = loop_now_us(c->worker->loop);
    if (c->out || !req) {
        uint64_t wait_us = fb_sub_floor_u64(now_us, c->since_us);
        uint64_t blocked_us = c->blocked_us + wait_us;
        uint64_t read_bytes = c->written_bytes - c->read_from_bytes;
        bool is_slow = blocked_us > 2 * p->limits_min_rate_grace * US_PER_MS &&
                       read_bytes * US_PER_S / blocked_us < p->limits_min_rate;
        client_release_slot(c, blocked_us);
        if (st->conn->c->out) {
            c->since_us = now_us; /* the socket is the bottleneck; its own timer judges */
        } else if (is_slow || wait_us >= p->limits_write_timeout * US_PER_MS) {
            if (req)
                req->reason = REASON_READER_TOO_SLOW;
            c->is_broken = true;
        }
    } else if (req->body_since_us) {
        body_judge(req, now_us);
    } else {
        return;
    }
    client_run(c);
}

/* All was said, or it must be cut. */
static void close_stream(struct h2_stream *st)
{
    struct client *c = &st->c;
    struct request *req = c->req;
    struct h2 *session = st->conn->session;
    if (!st->is_closed && st->is_out_over && !st->is_in_over)
        h2_conn_pump(st->conn); /* a reset would take back an answer that waits in the session */
    if (!st->is_closed && !st->is_out_over)
        h2_reset(session, st->id,
                 req && req->reason == REASON_READER_TOO_SLOW ? H2_CANCEL : H2_INTERNAL_ERROR);
    else if (!st->is_closed && !st->is_in_over)
        h2_reset(session, st->id, H2_NO_ERROR);
    else if (!st->is_closed)
        h2_forget(session, st->id);
    if (c->in)
        h2_consume_gone(session, chunk_span(c->in).len);
    c->req = NULL;
    if (req && req->phase == REQUEST_OVER && req->is_out_done && st->is_out_over) {
        req->end_us = loop_now_us(c->worker->loop);
        request_free(req);
    } else if (req) {
        request_detach(req);
    }
    loop_defer(c->worker->loop, &st->conn->flush);
    free_stream(st);
}

void h2_stream_drop(struct h2_stream *st)
{
    struct request *req = st->c.req;
    st->c.req = NULL;
    if (req)
        request_detach(req);
    free_stream(st);
}

static void free_stream(struct h2_stream *st)
{
    struct client *c = &st->c;
    struct worker *w = c->worker;
    struct h2_conn *conn = st->conn;
    if (st->is_dirty) {
        struct h2_stream **at = &conn->dirty;
        while (*at && *at != st)
            at = &(*at)->dirty_next;
        if (*at)
            *at = st->dirty_next;
    }
    conn->late_count -= st->is_late;
    loop_timer_stop(w->loop, &c->timer);
    chunk_give(&w->chunks, c->in);
    chunk_give(&w->chunks, c->out);
    chunk_give(&w->chunks, st->tail);
    *st->prev = st->next;
    if (st->next)
        st->next->prev = st->prev;
    if (--conn->stream_count == 0)
        conn->idle_us = loop_now_us(w->loop);
    slab_give(&w->h2_streams, st);
}
