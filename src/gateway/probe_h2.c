/* SPDX-License-Identifier: Apache-2.0 */
/* probe_h2: the question and the answer of an active health check in HTTP/2. */
#include "base/assert.h"
#include "gateway/gateway_int.h"
#include "proto/h2_client.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#define NOT_SERVING 503
/* HealthCheckResponse { status: SERVING } behind the five bytes of a message's length. */
static const char serving[] = {0, 0, 0, 0, 2, 0x08, 0x01};

struct probe_h2 {
    struct h2_client *session;
    struct link *link; /* of the probe */
    struct span call;  /* message of a call of grpc.health.v1; {NULL, 0}: a GET */
    uint16_t status;   /* 0: not yet */
    bool is_broken;
    uint32_t got;
    char answer[16]; /* of the call */
};

static const struct h2_client_hooks hooks;

struct probe_h2 *probe_h2_new(struct link *link)
{
    const struct h2_client_conf conf = {
        .limits = {.line_bytes = 2 * KIB, .header_bytes = 16 * KIB, .header_count = 100},
        .stream_window_bytes = 65535,
        .connection_window_bytes = 65535,
        .is_tls = link->tls != NULL};
    struct probe_h2 *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->link = link;
    p->session = h2_client_new(&conf, &hooks, p);
    if (p->session)
        return p;
    free(p);
    return NULL;
}

void probe_h2_free(struct probe_h2 *p)
{
    if (!p)
        return;
    h2_client_free(p->session);
    free(p);
}

bool probe_h2_ask(struct probe_h2 *p, struct span head, struct span call)
{
    p->call = call;
    return h2_client_request(p->session, p, head, call.len > 0) != 0 &&
           h2_client_pump(p->session, SIZE_MAX) && !p->is_broken;
}

bool probe_h2_take(struct probe_h2 *p, uint16_t *status)
{
    char bytes[4096];
    while (p->status == 0 && !p->is_broken) {
        ssize_t n = link_recv(p->link, bytes, sizeof bytes);
        if (n < 0 && errno == EAGAIN)
            break;
        p->is_broken = n <= 0 || !h2_client_take(p->session, (struct span){bytes, (size_t)n}) ||
                       !h2_client_pump(p->session, SIZE_MAX);
    }
    *status = p->status;
    return p->status != 0 || !p->is_broken;
}

/* "HTTP/1.1 200 ": interim answers say nothing. */
static void on_head(void *arg, void *stream, struct span head, bool is_last)
{
    struct probe_h2 *p = arg;
    uint64_t status;
    (void)stream;
    if (p->status != 0 || head.len <= 12 || !span_to_u64((struct span){head.at + 9, 3}, &status) ||
        status < 200)
        return;
    if (p->call.len == 0 || status >= 400)
        p->status = (uint16_t)status;
    else if (status != 200 || is_last) /* of a call: no message, so nobody says that he serves */
        p->status = NOT_SERVING;
}

static void on_data(void *arg, void *stream, struct span payload)
{
    struct probe_h2 *p = arg;
    (void)stream;
    size_t n = fb_min_u64(payload.len, sizeof p->answer - p->got);
    if (n)
        memcpy(p->answer + p->got, payload.at, n);
    p->got += (uint32_t)n;
}

/* The verdict on a call stands in its message, if its status is OK. */
static void on_last(void *arg, void *stream, const struct http1_field *trailers, uint32_t count)
{
    struct probe_h2 *p = arg;
    bool is_ok = false;
    (void)stream;
    if (p->call.len == 0 || p->status != 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        is_ok |= span_ieq(trailers[i].name, SPAN("grpc-status")) &&
                 span_eq(trailers[i].value, SPAN("0"));
    p->status = is_ok && p->got == sizeof serving && memcmp(p->answer, serving, p->got) == 0
                    ? 200
                    : NOT_SERVING;
}

static void on_gone(void *arg, void *stream, enum h2_gone why)
{
    struct probe_h2 *p = arg;
    (void)stream, (void)why;
    p->is_broken = true;
}

static struct h2_client_give give(void *arg, void *stream, char *to, size_t room)
{
    struct probe_h2 *p = arg;
    (void)stream;
    size_t n = fb_min_u64(p->call.len, room);
    if (n)
        memcpy(to, p->call.at, n);
    p->call.at += n; /* the length stays: it says that this is a call */
    return (struct h2_client_give){.bytes = n, .is_last = true};
}

static void put(void *arg, struct span frames)
{
    struct probe_h2 *p = arg;
    struct iovec iov = {(void *)(uintptr_t)frames.at, frames.len};
    /* a few hundred bytes on a fresh connection: they fit, or nobody reads there */
    if (link_write(p->link, &iov, 1) != (ssize_t)frames.len)
        p->is_broken = true;
}

static const struct h2_client_hooks hooks = {.on_head = on_head,
                                             .on_data = on_data,
                                             .on_last = on_last,
                                             .on_gone = on_gone,
                                             .give = give,
                                             .put = put};
