/* SPDX-License-Identifier: Apache-2.0 */
/* h2_client_fuzz: whatever an endpoint sends into an HTTP/2 session of ours.
 *
 * Input: one byte that cuts, then what the endpoint says; its preface (SETTINGS) is put in front
 * when the second byte says so.  Asserted: nothing is said about a stream after its end; heads are
 * within the limits and end as a head ends; what is not consumed stays within the window. */
#include "base/assert.h"
#include "proto/h2_client.h"

#include <stdlib.h>

#define STREAMS 3u
#define WINDOW_BYTES 65535u

struct seen {
    int32_t id;
    bool is_gone, is_ended, has_head;
    size_t body_left, held;
};
static struct seen streams[STREAMS];
static const struct http1_limits limits = {256, 2048, 16};

static struct seen *alive(void *stream)
{
    struct seen *st = stream;
    fb_assert(st >= streams && st < streams + STREAMS);
    fb_assert(!st->is_gone);
    return st;
}

static void on_head(void *conn, void *stream, struct span head, bool is_last)
{
    struct seen *st = alive(stream);
    (void)conn, (void)is_last;
    fb_assert(!st->is_ended);
    fb_assert(head.len <= limits.header_bytes + 32);
    fb_assert(memcmp(head.at, "HTTP/1.1 ", 9) == 0);
    fb_assert(memcmp(head.at + head.len - 4, "\r\n\r\n", 4) == 0);
    struct http1_parser p;
    struct http1_field fields[16];
    http1_response_begin(&p, &limits, fields, HTTP1_GET);
    if (http1_parse(&p, head) == HTTP1_DONE)
        fb_assert(p.head.head_bytes == head.len);
    st->has_head = true;
}

static void on_data(void *conn, void *stream, struct span payload)
{
    struct seen *st = alive(stream);
    (void)conn;
    fb_assert(st->has_head);
    fb_assert(!st->is_ended);
    st->held += payload.len;
    fb_assert(st->held <= WINDOW_BYTES);
}

static void on_last(void *conn, void *stream, const struct http1_field *trailers, uint32_t count)
{
    struct seen *st = alive(stream);
    (void)conn;
    fb_assert(!st->is_ended);
    fb_assert(count <= limits.header_count);
    for (uint32_t i = 0; i < count; i++)
        fb_assert(!(trailers[i].flags & (HTTP1_FIELD_HOP | HTTP1_FIELD_NO_TRAILER)));
    st->is_ended = true;
}

static void on_gone(void *conn, void *stream, enum h2_gone why)
{
    struct seen *st = alive(stream);
    (void)conn;
    fb_assert(why <= H2_GONE_TOO_LARGE);
    st->is_gone = true;
}

static struct h2_client_give give(void *conn, void *stream, char *to, size_t room)
{
    struct seen *st = alive(stream);
    (void)conn;
    struct h2_client_give g = {.bytes = st->body_left < room ? st->body_left : room};
    memset(to, 'x', g.bytes);
    st->body_left -= g.bytes;
    g.is_last = st->body_left == 0;
    return g;
}

static void put(void *conn, struct span frames)
{
    (void)conn;
    fb_assert(frames.len > 0);
}

static const struct h2_client_hooks hooks = {on_head, on_data, on_last, on_gone, give, put};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct h2_client_conf conf = {limits, WINDOW_BYTES, 1 << 20, false};
    if (size < 2)
        return 0;
    size_t step = data[0] ? data[0] : size;
    bool has_preface = data[1] & 1;
    data += 2;
    size -= 2;
    struct h2_client *s = h2_client_new(&conf, &hooks, streams);
    if (!s)
        return 0;
    memset(streams, 0, sizeof streams);
    for (uint32_t i = 0; i < STREAMS; i++) {
        streams[i].body_left = i * 40000;
        streams[i].id = h2_client_request(
            s, &streams[i], SPAN("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"), i > 0);
    }
    bool is_good = h2_client_pump(s, SIZE_MAX);
    if (has_preface)
        is_good = h2_client_take(s, (struct span){"\0\0\0\4\0\0\0\0\0", 9});
    for (size_t at = 0; at < size && is_good; at += step) {
        char *part = malloc(step); /* of its own: the sanitizers see a read beyond */
        size_t n = size - at < step ? size - at : step;
        if (!part)
            break;
        memcpy(part, data + at, n);
        is_good = h2_client_take(s, (struct span){part, n});
        free(part);
        for (uint32_t i = 0; i < STREAMS; i++) {
            if (streams[i].held > WINDOW_BYTES / 2 && !streams[i].is_gone) {
                h2_client_consume(s, streams[i].id, streams[i].held);
                streams[i].held = 0;
            }
        }
        is_good = is_good && h2_client_pump(s, SIZE_MAX);
    }
    if (!streams[0].is_gone && streams[0].id) {
        h2_client_reset(s, streams[0].id);
        streams[0].is_gone = true;
        (void)h2_client_pump(s, SIZE_MAX);
    }
    h2_client_free(s);
    return 0;
}
