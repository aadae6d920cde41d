/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/service.h"

#include "base/clock.h"
#include "base/rng.h"
#include "demo/websocket.h"
#include "io/loop.h"
#include "io/socket.h"
#include "proto/http1.h"
#include "proto/http1_body.h"
#include "proto/http1_write.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_BYTES 8192
#define FIELDS_MAX 64

struct conn;
struct job { /* one request or one WebSocket message */
    struct job *next;
    struct conn *conn; /* NULL: the client left, the work goes on */
    struct loop_timer timer;
    uint32_t bytes; /* of a message to echo */
    char message[WS_MESSAGE_MAX];
};
struct conn {
    struct loop_handle handle; /* first: a handle is its connection */
    struct loop_timer stream;  /* next event of a stream */
    struct job *job; /* the one that answers next; requests on one connection are in order */
    uint32_t len;
    bool is_websocket, is_stream, is_gone;
    char in[IN_BYTES];
};

static struct {
    const struct service_setup *setup;
    struct loop *loop;
    struct loop_handle listener;
    struct rng rng;
    struct job *head, *tail; /* waiting */
    uint32_t busy;
    uint32_t events; /* sent on streams: their number */
    bool is_dead;
    struct loop_timer fault_timer;
} sv;

static void on_accept(struct loop_handle *h, uint32_t events);
static void on_conn(struct loop_handle *h, uint32_t events);
static void on_fault_check(struct loop_timer *t);
static void on_job_done(struct loop_timer *t);
static void on_stream(struct loop_timer *t);
static void read_requests(struct conn *c);
static bool take_request(struct conn *c);
static void take_messages(struct conn *c);
static void queue_job(struct conn *c, uint32_t bytes);
static void start_jobs(void);
static void close_conn(struct conn *c);

static const struct demo_fault *fault_now(enum demo_fault_kind kind)
{
    const struct demo_scenario *sc = sv.setup->scenario;
    double at =
        (double)fb_sub_floor_u64(fb_mono_us(), sv.setup->start_us) / (double)sv.setup->length_us;
    for (size_t i = 0; i < sc->fault_count; i++) {
        const struct demo_fault *f = &sc->faults[i];
        if (f->kind == kind && f->endpoint == sv.setup->endpoint && f->at <= at && at < f->until)
            return f;
    }
    return NULL;
}

int service_run(const struct service_setup *setup)
{
    struct fb_err err;
    sv.setup = setup;
    rng_init(&sv.rng, setup->seed);
    if (loop_new(&sv.loop, &err) != FB_OK)
        return 1;
    sv.listener.on_ready = on_accept;
    sv.fault_timer.on_due = on_fault_check;
    if (loop_add(sv.loop, &sv.listener, setup->listen_fd, LOOP_READ) != FB_OK)
        return 1;
    loop_timer_set(sv.loop, &sv.fault_timer, loop_now_us(sv.loop) + 20 * US_PER_MS);
    loop_run(sv.loop, NULL, NULL);
    return 0;
}

/* A dead server: connections that come are reset.  The socket stays bound, so that the port is its
 * own again. */
static void on_fault_check(struct loop_timer *t)
{
    sv.is_dead = fault_now(DEMO_FAULT_DIE) != NULL;
    loop_timer_set(sv.loop, t, loop_now_us(sv.loop) + 20 * US_PER_MS);
}

static void on_accept(struct loop_handle *h, uint32_t events)
{
    (void)events;
    for (;;) {
        struct sock_addr peer;
        int fd = sock_accept(h->fd, &peer);
        if (fd < 0)
            return;
        struct conn *c = sv.is_dead ? NULL : calloc(1, sizeof *c);
        if (!c) {
            close(fd);
            continue;
        }
        c->handle.on_ready = on_conn;
        c->stream.on_due = on_stream;
        if (loop_add(sv.loop, &c->handle, fd, LOOP_READ) != FB_OK) {
            close(fd);
            free(c);
        }
    }
}

static void on_conn(struct loop_handle *h, uint32_t events)
{
    struct conn *c = (struct conn *)h;
    if (sv.is_dead || (events & LOOP_ERROR)) {
        close_conn(c);
        return;
    }
    ssize_t n = read(h->fd, c->in + c->len, sizeof c->in - c->len);
    if (n > 0) {
        c->len += (uint32_t)n;
        read_requests(c);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_conn(c);
    }
}

static void read_requests(struct conn *c)
{
    if (c->is_websocket)
        take_messages(c);
    /* one at a time: the next one is read when this one is answered */
    while (!c->is_websocket && !c->job && !c->is_stream && c->len && take_request(c) && !c->is_gone)
        ;
    if (c->is_gone)
        close_conn(c);
}

static void send_text(struct conn *c, struct span text)
{
    /* answers are a few hundred bytes: a socket that takes less has lost its reader */
    if (write(c->handle.fd, text.at, text.len) != (ssize_t)text.len)
        c->is_gone = true;
}

static void answer(struct conn *c, uint16_t status)
{
    char text[512];
    static const char body[] = "{\"ok\":true,\"items\":[1,2,3,4,5,6,7,8,9,10]}\n";
    struct http1_out w = http1_out(text, sizeof text);
    http1_put_status_line(&w, status);
    http1_put_field(&w, SPAN("content-type"), SPAN("application/json"));
    http1_put_field_u64(&w, SPAN("content-length"), sizeof body - 1);
    http1_put_end(&w);
    http1_put(&w, SPAN(body));
    send_text(c, http1_out_span(&w));
}

static void begin_stream(struct conn *c)
{
    c->is_stream = true;
    send_text(
        c, SPAN("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
                "transfer-encoding: chunked\r\n\r\n"));
    loop_timer_set(sv.loop, &c->stream, loop_now_us(sv.loop) + 100 * US_PER_MS);
}

static void on_stream(struct loop_timer *t)
{
    struct conn *c = FB_CONTAINER(t, struct conn, stream);
    char event[128], text[200];
    /* the time lets the viewer measure how old an event is when it arrives */
    int n = snprintf(event, sizeof event, "id: %u\ndata: %llu\n\n", ++sv.events,
                     (unsigned long long)fb_mono_us());
    int len = snprintf(text, sizeof text, "%x\r\n%s\r\n", n, event);
    send_text(c, (struct span){text, (size_t)len});
    if (c->is_gone || sv.is_dead)
        close_conn(c);
    else
        loop_timer_set(sv.loop, t, loop_now_us(sv.loop) + US_PER_S);
}

/* True when one request was taken from c->in. */
static bool take_request(struct conn *c)
{
    static const struct http1_limits limits = {
        .line_bytes = 4096, .header_bytes = IN_BYTES, .header_count = FIELDS_MAX};
    struct http1_field fields[FIELDS_MAX];
    struct http1_parser p;
    http1_request_begin(&p, &limits, fields);
    enum http1_step step = http1_parse(&p, (struct span){c->in, c->len});
    if (step == HTTP1_MORE)
        return false;
    if (step == HTTP1_FAILED) {
        c->is_gone = true;
        return false;
    }
    size_t used = p.head.head_bytes;
    struct http1_body body;
    http1_body_begin(&body, &p.head, NULL);
    for (struct span data; step != HTTP1_MORE && !body.is_done;) {
        size_t took = 0;
        step = http1_body_next(&body, (struct span){c->in + used, c->len - used}, &data, &took);
        used += took;
        if (step == HTTP1_DONE)
            break;
        if (step == HTTP1_FAILED || (step == HTTP1_MORE && c->len == sizeof c->in)) {
            c->is_gone = true;
            return false;
        }
    }
    if (step == HTTP1_MORE && !body.is_done)
        return false;
    bool is_websocket = p.head.is_websocket, is_scores = span_eq(p.head.path, SPAN("/scores"));
    char accept[WS_ACCEPT_BYTES];
    const struct http1_field *key = http1_find_name(&p.head, SPAN("sec-websocket-key"));
    if (is_websocket && key)
        ws_accept_key(key->value, accept);
    memmove(c->in, c->in + used, c->len - used);
    c->len -= (uint32_t)used;
    if (fault_now(DEMO_FAULT_FAIL)) {
        answer(c, 500);
    } else if (is_websocket && key) {
        char text[256];
        int n = snprintf(
            text, sizeof text,
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            "sec-websocket-accept: %s\r\n\r\n",
            accept);
        c->is_websocket = true;
        send_text(c, (struct span){text, (size_t)n});
        take_messages(c);
        return false;
    } else if (is_scores) {
        begin_stream(c);
    } else {
        queue_job(c, 0);
    }
    return true;
}

static void take_messages(struct conn *c)
{
    while (!c->job) {
        char message[WS_MESSAGE_MAX];
        uint32_t bytes;
        int used = ws_read((struct span){c->in, c->len}, message, &bytes);
        if (used < 0) {
            c->is_gone = true;
            return;
        }
        if (used == 0)
            return;
        memmove(c->in, c->in + used, c->len - (uint32_t)used);
        c->len -= (uint32_t)used;
        queue_job(c, bytes);
        if (c->job)
            memcpy(c->job->message, message, bytes);
    }
}

static void queue_job(struct conn *c, uint32_t bytes)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return;
    j->conn = c;
    j->bytes = bytes;
    j->timer.on_due = on_job_done;
    c->job = j;
    if (sv.tail)
        sv.tail->next = j;
    else
        sv.head = j;
    sv.tail = j;
    start_jobs();
}

static uint64_t service_us(void)
{
    const struct demo_scenario *sc = sv.setup->scenario;
    double ms = sc->mean_ms * exp(sc->sigma * rng_normal(&sv.rng));
    const struct demo_fault *slow = fault_now(DEMO_FAULT_SLOW),
                            *pause = fault_now(DEMO_FAULT_PAUSE);
    if (slow)
        ms *= slow->factor;
    uint64_t us = (uint64_t)(ms * 1000.0);
    if (pause) {
        /* the pause stops everything that would end inside it; each 2 s of stream time begins with
         * one */
        uint64_t cycle_us = 2 * US_PER_S, pause_us = (uint64_t)(pause->factor * 1000.0);
        uint64_t end_in_cycle_us = (fb_mono_us() + us) % cycle_us;
        if (end_in_cycle_us < pause_us)
            us += pause_us - end_in_cycle_us;
    }
    return us;
}

static void start_jobs(void)
{
    while (sv.head && sv.busy < sv.setup->scenario->workers) {
        struct job *j = sv.head;
        sv.head = j->next;
        if (!sv.head)
            sv.tail = NULL;
        j->next = NULL;
        sv.busy++;
        loop_timer_set(sv.loop, &j->timer, loop_refresh_us(sv.loop) + service_us());
    }
}

static void on_job_done(struct loop_timer *t)
{
    struct job *j = FB_CONTAINER(t, struct job, timer);
    struct conn *c = j->conn;
    sv.busy--;
    if (c) {
        c->job = NULL;
        if (c->is_websocket) {
            char frame[WS_MESSAGE_MAX + WS_HEAD_MAX];
            send_text(
                c, (struct span){frame, ws_write(frame, (struct span){j->message, j->bytes}, 0)});
        } else {
            answer(c, 200);
        }
        if (c->is_gone || sv.is_dead)
            close_conn(c);
        else
            read_requests(c);
    }
    free(j);
    start_jobs();
}

static void close_conn(struct conn *c)
{
    if (c->job)
        c->job->conn = NULL; /* the worker goes on */
    loop_timer_stop(sv.loop, &c->stream);
    int fd = c->handle.fd;
    loop_remove(sv.loop, &c->handle);
    close(fd);
    free(c);
}
