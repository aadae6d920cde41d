/* SPDX-License-Identifier: Apache-2.0 */
/* answer: what foldback says itself: refusals and failures, short, with the reason for machines
 * (Proxy-Status, RFC 9209) and for people. */
#include "gateway/authz.h"
#include "gateway/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

#define REQUEST_ID "{request_id}"

struct said {
    char body[512];
    char *page; /* of the file, with the request's id in it; NULL: none, or without */
    const char *type;
    struct span text; /* the whole body */
    struct span head, payload;
};
static void build(struct worker *w, struct request *req, uint16_t reason, bool wants_json,
                  struct said *said);
static void write_body(struct worker *w, const struct request *req, const struct ev_reason_row *row,
                       bool wants_json, struct said *said);
static bool take_page(const struct worker *w, const struct request *req, uint16_t status,
                      struct said *said);

uint16_t answer_reason_of(enum http1_error error)
{
    switch (error) {
    case HTTP1_E_BAD_HOST:
        return REASON_BAD_HOST;
    case HTTP1_E_BAD_FRAMING:
        return REASON_BAD_FRAMING;
    case HTTP1_E_BAD_CODING:
        return REASON_BAD_CODING;
    case HTTP1_E_BAD_VERSION:
        return REASON_BAD_VERSION;
    case HTTP1_E_BAD_EXPECT:
        return REASON_BAD_EXPECT;
    case HTTP1_E_LINE_TOO_LONG:
        return REASON_LINE_TOO_LONG;
    case HTTP1_E_HEADERS_TOO_LARGE:
        return REASON_HEADERS_TOO_LARGE;
    case HTTP1_E_TOO_MANY_HEADERS:
        return REASON_TOO_MANY_HEADERS;
    case HTTP1_E_BAD_CHUNK:
    case HTTP1_E_CHUNK_OVERHEAD:
    case HTTP1_E_BAD_TRAILER:
    case HTTP1_E_TRAILERS_TOO_LARGE:
        return REASON_BAD_CHUNK;
    default:
        return REASON_BAD_REQUEST;
    }
}

void answer_local(struct request *req, uint16_t reason)
{
    const struct ev_reason_row *row = ev_reason_row(reason);
    if (req->protocol == EV_PROTOCOL_TCP) {
        tcp_refuse(req, reason);
        return;
    }
    req->reason = reason;
    req->worker->refused += row->status == 503;
    bool is_limited = reason == REASON_RATE_LIMITED || reason == REASON_QUOTA_EXCEEDED;
    req->status = is_limited                       ? req->worker->refusal.rate->status
                  : reason == REASON_CLIENT_CAPPED ? req->worker->cap_status
                                                   : row->status;
    req->is_out_done = true;
    if (row->status == 400 || row->status == 501 || row->status == 505 || request_is_leaving(req))
        req->is_keep_alive = false; /* what follows on such a connection is not to be trusted */
    if (!req->is_in_done && !body_is_droppable(req))
        req->is_keep_alive = false;
    if (reason == REASON_REDIRECTED || reason == REASON_RESPONDED) {
        rules_say(req);
        return;
    }
    if (grpc_refuse(req, reason))
        return;
    if (reason == REASON_AUTH_DENIED) {
        authz_say(req);
        return;
    }
    req->framing_out = HTTP1_BODY_LENGTH;
    struct said said;
    build(req->worker, req, reason, req->wants_json, &said);
    client_answer(
        req, &(struct answer_piece){.head = said.head, .payload = said.payload, .is_last = true});
    free(said.page);
}

void answer_raw(struct client *c, uint16_t reason, bool wants_json)
{
    struct said said;
    build(c->worker, NULL, reason, wants_json, &said);
    if (c->kind == CLIENT_H2) {
        h2_stream_say(c, said.head, said.payload);
        free(said.page);
        return;
    }
    struct iovec iov[2] = {{(void *)(uintptr_t)said.head.at, said.head.len},
                           {(void *)(uintptr_t)said.payload.at, said.payload.len}};
    c->is_closing = true;
    client_send(c, iov, 2);
    free(said.page);
}

void answer_put_proxy_status(const struct worker *w, const struct ev_reason_row *row,
                             struct http1_out *out)
{
    if (!row->proxy_status[0])
        return;
    http1_put(out, SPAN("Proxy-Status: "));
    http1_put(out, span_of(w->gen->node));
    http1_put(out, SPAN("; error="));
    http1_put(out, span_of(row->proxy_status));
    http1_put(out, SPAN("; details=\""));
    http1_put(out, span_of(row->name));
    http1_put(out, SPAN("\"\r\n"));
}

/* The head goes into the worker's scratch memory.  Without a request the connection closes. */
static void build(struct worker *w, struct request *req, uint16_t reason, bool wants_json,
                  struct said *said)
{
    bool is_closing = !req || !req->is_keep_alive;
    const struct ev_reason_row *row = ev_reason_row(reason);
    bool is_limited = reason == REASON_RATE_LIMITED || reason == REASON_QUOTA_EXCEEDED;
    uint16_t status = req ? req->status : row->status;
    write_body(w, req, row, wants_json, said);
    struct http1_out out = http1_out(w->out, w->out_bytes);
    http1_put_status_line(&out, status);
    http1_put(&out, worker_date(w));
    http1_put_field(&out, SPAN("Content-Type"), span_of(said->type));
    http1_put_field_u64(&out, SPAN("Content-Length"), said->text.len);
    http1_put(&out, SPAN("Cache-Control: no-store\r\n"));
    answer_put_proxy_status(w, row, &out);
    if (reason == REASON_AUTH_REQUIRED || reason == REASON_AUTH_REFUSED)
        authz_put_challenge(req, &out);
    if (is_limited)
        rate_put_fields(&w->refusal, &out);
    else if (status == 503 || reason == REASON_CLIENT_CAPPED)
        /* 1 to 3 s: those who were refused together do not come back together */
        http1_put_field_u64(&out, SPAN("Retry-After"), 1 + rng_below(&w->rng, 3));
    if (req) {
        http1_put(&out, SPAN("X-Request-Id: "));
        char text[17];
        snprintf(text, sizeof text, "%016llx", (unsigned long long)req->request_id);
        http1_put(&out, (struct span){text, 16});
        http1_put(&out, SPAN("\r\n"));
        if (rules_of(req))
            rules_put_set(req, true, &out);
    }
    if (is_closing)
        http1_put(&out, SPAN("Connection: close\r\n"));
    else if (req && req->version_minor == 0)
        http1_put(&out, SPAN("Connection: keep-alive\r\n"));
    http1_put_end(&out);
    if (out.failed) { /* with the fields of its route; the bare answer always fits */
        out = http1_out(w->out, w->out_bytes);
        http1_put_status_line(&out, status);
        http1_put(&out, SPAN("Content-Length: 0\r\nConnection: close\r\n\r\n"));
        said->text.len = 0;
        if (req)
            req->is_keep_alive = false;
    }
    said->head = http1_out_span(&out);
    said->payload = said->text;
    if (req && req->method == HTTP1_HEAD)
        said->payload.len = 0;
}

static void write_body(struct worker *w, const struct request *req, const struct ev_reason_row *row,
                       bool wants_json, struct said *said)
{
    uint16_t status = req ? req->status : row->status;
    const char *phrase = http1_status_text(status);
    bool is_challenge = row->id == REASON_ACME_CHALLENGE;
    int n;
    said->page = NULL;
    said->type = "text/plain; charset=utf-8";
    if (is_challenge) {
        n = snprintf(said->body, sizeof said->body, "%.*s", (int)w->challenge_bytes, w->challenge);
    } else if (wants_json) {
        said->type = "application/problem+json";
        n = snprintf(said->body, sizeof said->body,
                     "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%u,\"detail\":\"%s\","
                     "\"reason\":\"%s\"}\n",
                     phrase, status, row->sentence, row->name);
    } else if (take_page(w, req, status, said)) {
        return;
    } else {
        n = snprintf(said->body, sizeof said->body, "%u %s\n%s\n", status, phrase, row->sentence);
    }
    said->text = (struct span){said->body, n > 0 && (size_t)n < sizeof said->body ? (size_t)n : 0};
}

/* The page that the file has for <status>: of the route, else of all. */
static bool take_page(const struct worker *w, const struct request *req, uint16_t status,
                      struct said *said)
{
    const struct conf *conf = req ? req->gen->conf : w->gen->conf;
    const struct conf_page *page =
        req && req->route != ROUTE_NONE ? conf_page(&conf->routes[req->route].pages, status) : NULL;
    if (!page)
        page = conf_page(&conf->pages, status);
    if (!page)
        return false;
    said->type = page->type;
    said->text = span_of(page->body);
    char id[17] = "-";
    if (req)
        snprintf(id, sizeof id, "%016llx", (unsigned long long)req->request_id);
    size_t count = 0;
    for (const char *at = page->body; (at = strstr(at, REQUEST_ID)) != NULL; at++)
        count++;
    if (count == 0 || !(said->page = malloc(said->text.len + count * sizeof id)))
        return true; /* without memory the page is as it stands in the file */
    char *to = said->page;
    for (const char *at = page->body, *next; at; at = next ? next + strlen(REQUEST_ID) : NULL) {
        next = strstr(at, REQUEST_ID);
        to = stpncpy(to, at, next ? (size_t)(next - at) : strlen(at));
        to = next ? stpcpy(to, id) : to;
    }
    said->text = (struct span){said->page, (size_t)(to - said->page)};
    return true;
}
