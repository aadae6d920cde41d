/* SPDX-License-Identifier: Apache-2.0 */
/* response_head: the head that a client gets for an endpoint's answer. */
#include "gateway/cache.h"
#include "gateway/rules.h"

#include <time.h>

static void put_own_framing(struct request *req, const struct http1_head *head,
                            struct http1_out *w);
static void put_server_timing(const struct request *req, struct http1_out *w);

void response_head_build(struct request *req, const struct http1_head *head, struct http1_out *w)
{
    http1_put_status_line(w, head->status);
    const struct conf_rules *rules = rules_of(req);
    if (FB_UNLIKELY(rules != NULL)) {
        rules_put_kept(req, head, HTTP1_SKIP_FRAMING, w);
        rules_put_set(req, false, w);
    } else {
        http1_put_fields(w, head, HTTP1_SKIP_FRAMING);
    }
    if (!http1_has(head, HTTP1_H_DATE))
        http1_put(w, worker_date(req->worker));
    put_own_framing(req, head, w);
    if (!http1_has(head, HTTP1_H_X_REQUEST_ID)) {
        char line[] = "X-Request-Id: 0123456789abcdef\r\n";
        http1_hex16(line + 14, req->request_id);
        http1_put(w, (struct span){line, sizeof line - 1});
    }
    if (req->cw)
        cache_put_status(req, w);
    if (req->gen->conf->p.gateway_server_timing)
        put_server_timing(req, w);
    sticky_answer(req, head->status, w);
    if (head->status == 101) {
        http1_put(w, SPAN("Connection: upgrade\r\n"));
        http1_put_field(w, SPAN("Upgrade"), http1_find(head, HTTP1_H_UPGRADE)->value);
    } else if (!req->is_keep_alive) {
        http1_put(w, SPAN("Connection: close\r\n"));
    } else if (req->version_minor == 0) {
        http1_put(w, SPAN("Connection: keep-alive\r\n"));
    }
    http1_put_end(w);
}

struct span worker_date(struct worker *w)
{
    /* The wall clock is read once per second of the loop's clock. */
    uint64_t now_s = loop_now_us(w->loop) / US_PER_S;
    if (now_s != w->date_s) {
        struct tm tm;
        time_t wall = time(NULL);
        gmtime_r(&wall, &tm);
        w->date_bytes =
            (uint32_t)strftime(w->date, sizeof w->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        w->date_s = now_s;
    }
    return (struct span){w->date, w->date_bytes};
}

static void put_own_framing(struct request *req, const struct http1_head *head, struct http1_out *w)
{
    req->framing_out = head->framing;
    switch ((enum http1_framing)head->framing) {
    case HTTP1_BODY_NONE: /* HEAD and 304 may announce what a GET would get */
        if (head->has_length && head->status >= 200 && head->status != 204)
            http1_put_field_u64(w, SPAN("Content-Length"), head->body_bytes);
        return;
    case HTTP1_BODY_LENGTH:
        http1_put_framing(w, HTTP1_BODY_LENGTH, head->body_bytes);
        return;
    case HTTP1_BODY_CHUNKED:
    case HTTP1_BODY_CLOSE:
        if (req->version_minor ==
            0) { /* it knows no chunks: the end of the connection ends the body */
            req->framing_out = HTTP1_BODY_CLOSE;
            req->is_keep_alive = false;
            return;
        }
        req->framing_out = HTTP1_BODY_CHUNKED;
        http1_put_framing(w, HTTP1_BODY_CHUNKED, 0);
        return;
    }
}

static void put_server_timing(const struct request *req, struct http1_out *w)
{
    http1_put(w, SPAN("Server-Timing: queue;dur="));
    http1_put_u64(w, req->queue_us / 1000);
    http1_put(w, SPAN(", upstream;dur="));
    http1_put_u64(w, req->upstream_us / 1000);
    http1_put_end(w);
}
