/* SPDX-License-Identifier: Apache-2.0 */
/* h2_fuzz: frames of a client through the session, cut anywhere, with an owner that answers,
 * resets and holds back as the bytes say.
 *
 * Input: one byte that cuts, one that says how the owner behaves, then what comes behind the
 * preface. Asserted: hooks name only streams that were opened and are not gone; an accepted head
 * is one that HTTP/1 takes again from its canonical lines; data stays within the windows; what is
 * given out is taken once. */
#include "base/assert.h"
#include "proto/h2.h"
#include "proto/http1_write.h"

#include <stdlib.h>

#define STREAMS 64
#define WINDOW_BYTES 65535u

struct stream {
    int32_t id;
    bool is_open, has_answer;
    size_t held, left;
};
struct owner {
    struct h2 *session;
    struct stream streams[STREAMS];
    uint8_t mood;
    size_t held;
};

static const struct h2_conf conf = {.limits = {512, 2048, 16},
                                    .streams_max = 16,
                                    .stream_window_bytes = WINDOW_BYTES,
                                    .connection_window_bytes = 2 * WINDOW_BYTES,
                                    .table_bytes = 4096,
                                    .resets_max = 1000,
                                    .control_max = 5000};

static struct stream *open_stream(void *arg, void *stream)
{
    struct owner *o = arg;
    struct stream *st = stream;
    fb_assert(st >= o->streams);
    fb_assert(st < o->streams + STREAMS);
    fb_assert(st->is_open);
    return st;
}

static void check_head(const struct http1_head *head)
{
    static char text[65536];
    static struct http1_field fields[32];
    static const struct http1_limits wide = {4096, 32768, 32};
    struct http1_out w = http1_out(text, sizeof text);
    struct http1_parser p;
    if (head->method == HTTP1_CONNECT)
        return;
    http1_put_request_line(&w, head->method_text, head->target);
    http1_put_field(&w, SPAN("Host"), head->host);
    http1_put_fields(&w, head, HTTP1_SKIP_FRAMING | HTTP1_SKIP(HOST) | HTTP1_SKIP(EXPECT));
    http1_put_framing(&w, (enum http1_framing)head->framing, head->body_bytes);
    http1_put_end(&w);
    fb_assert(!w.failed);
    http1_request_begin(&p, &wide, fields);
    fb_assert(http1_parse(&p, http1_out_span(&w)) == HTTP1_DONE);
    fb_assert(p.head.head_bytes == w.len);
    fb_assert(p.head.framing == head->framing);
    fb_assert(p.head.method == head->method);
    fb_assert(span_eq(p.head.host, head->host));
}

static void *on_head(void *arg, const struct h2_begin *b)
{
    struct owner *o = arg;
    struct stream *st = NULL;
    for (size_t i = 0; i < STREAMS && !st; i++)
        st = o->streams[i].is_open ? NULL : &o->streams[i];
    if (!st || (o->mood & 1 && b->id % 3 == 0)) {
        h2_reset(o->session, b->id, H2_REFUSED_STREAM);
        return NULL;
    }
    *st = (struct stream){.id = b->id, .is_open = true, .left = (size_t)b->id * 997 % 40000};
    if (b->error == HTTP1_E_NONE)
        check_head(b->head);
    return st;
}

static void on_data(void *arg, void *stream, struct span payload)
{
    struct owner *o = arg;
    struct stream *st = open_stream(arg, stream);
    st->held += payload.len;
    o->held += payload.len;
    fb_assert(o->held <= 2 * WINDOW_BYTES);
    fb_assert(st->held <= WINDOW_BYTES);
}

static void on_end(void *arg, void *stream, const struct h2_trailers *t)
{
    open_stream(arg, stream);
    for (uint32_t i = 0; t && i < t->count; i++)
        fb_assert(http1_is_token(t->fields[i].name));
}

static void on_gone(void *arg, void *stream, uint32_t code)
{
    struct owner *o = arg;
    struct stream *st = open_stream(arg, stream);
    (void)code;
    st->is_open = false;
    h2_consume_gone(o->session, st->held);
    o->held -= st->held;
}

static void on_malformed(void *arg, size_t bytes)
{
    (void)arg;
    (void)bytes;
}

static struct h2_give give(void *arg, void *stream, size_t most)
{
    struct stream *st = open_stream(arg, stream);
    struct h2_give g = {.bytes = st->left < most ? st->left : most, .is_ready = true};
    g.is_last = g.bytes == st->left;
    if (g.is_last && st->id % 5 == 0)
        g.trailers = SPAN("x-sum: 1\r\n");
    return g;
}

static void put(void *arg, struct span frames)
{
    (void)arg;
    fb_assert(frames.len > 0);
}

static bool put_data(void *arg, void *stream, struct span head, size_t bytes)
{
    struct owner *o = arg;
    struct stream *st = open_stream(arg, stream);
    fb_assert(head.len == H2_FRAME_HEAD_BYTES);
    fb_assert(bytes <= st->left);
    if (o->mood & 2 && rand() % 4 == 0)
        return false;
    st->left -= bytes;
    return true;
}

static void on_priority(void *conn, void *stream, struct h2_priority priority)
{
    (void)conn;
    (void)stream;
    (void)priority;
}

static const struct h2_hooks hooks = {.on_head = on_head,
                                      .on_priority = on_priority,
                                      .on_data = on_data,
                                      .on_end = on_end,
                                      .on_gone = on_gone,
                                      .on_malformed = on_malformed,
                                      .give = give,
                                      .put = put,
                                      .put_data = put_data};

/* What the gateway would do between two reads. */
static void act(struct owner *o)
{
    const struct span head =
        SPAN("HTTP/1.1 200 OK\r\nServer: x\r\nX-A: b\r\nConnection: close\r\n\r\n");
    for (size_t i = 0; i < STREAMS; i++) {
        struct stream *st = &o->streams[i];
        if (!st->is_open)
            continue;
        if (st->held && !(o->mood & 4)) {
            h2_consume(o->session, st->id, st->held);
            o->held -= st->held;
            st->held = 0;
        }
        if (!st->has_answer) {
            st->has_answer = true;
            if (!h2_answer(o->session, &(struct h2_owned){st->id, st}, head, st->left == 0))
                st->has_answer = true;
        } else if (o->mood & 8 && st->id % 7 == 0) {
            st->is_open = false;
            h2_consume_gone(o->session, st->held);
            o->held -= st->held;
            h2_reset(o->session, st->id, H2_CANCEL);
        }
    }
    while (h2_pump(o->session, 4096) && rand() % 8)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct h2_shared *shared;
    if (size < 2)
        return 0;
    if (!shared)
        shared = h2_shared_new(1);
    struct owner *o = calloc(1, sizeof *o);
    fb_assert(o != NULL);
    srand(data[0]);
    o->mood = data[1];
    o->session = h2_new(shared, &conf, &hooks, o);
    size_t step = data[0] % 4 == 0 ? size : data[0] * 3u + 1;
    enum h2_state is = h2_take(o->session, SPAN(H2_PREFACE), 1000);
    for (size_t at = 2; at < size && is == H2_OPEN; at += step) {
        char *copy = malloc(step); /* its own memory: reading beyond it is seen */
        size_t n = size - at < step ? size - at : step;
        fb_assert(copy != NULL);
        memcpy(copy, data + at, n);
        is = h2_take(o->session, (struct span){copy, n}, 1000 + at * 100);
        free(copy);
        act(o);
    }
    h2_free(o->session);
    free(o);
    return 0;
}
