/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch: who may, which row, then its handler; and how an answer becomes bytes. */
#include "output/admin_int.h"

#include "base/assert.h"
#include "output/assets.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define API(method, path, run, ...) void api_run_##run(struct api_call *c);
#include "output/api.def"
#undef API

static bool is_allowed(struct api_call *c);
static struct auth_request auth_request_of(const struct api_call *c, bool is_write);
static void run_row(struct api_call *c, struct span params[2]);
static void serve_page(struct api_call *c);
static void finish(struct api_call *c);
static void write_answer(struct api_call *c);
static enum fb_code code_of(uint16_t status);

static struct span field(const struct http1_head *h, const char *name)
{
    const struct http1_field *f = http1_find_name(h, span_of(name));
    return f ? f->value : (struct span){"", 0};
}

size_t api_body_max(const struct admin *a, const struct http1_head *h)
{
    struct span params[2];
    bool is_path_known;
    const struct api_row *row = api_find(h->method_text, h->path, params, &is_path_known);
    if (!row || row->access != API_INGEST)
        return CONN_BODY_MAX_BYTES;
    return auth_may_ingest(&a->auth, field(h, "authorization")) ? CONN_INGEST_MAX_BYTES
                                                                : CONN_BODY_MAX_BYTES;
}

/* -1: brings no events in. */
static int via_of(const struct api_row *row)
{
    if (!row || (row->access != API_INGEST && row->run != api_run_beacon))
        return -1;
    return row->run == api_run_beacon   ? INGEST_BEACON
           : row->run == api_run_ingest ? INGEST_PUSH
                                        : INGEST_OTLP;
}

static void count_refusal(struct admin *a, const struct api_row *row, enum ingest_refused why)
{
    int via = via_of(row);
    if (via >= 0 && a->source.ingress)
        ingest_refuse(a->source.ingest, (enum ingest_via)via, why, 1);
}

bool api_may_send(const struct admin *a, const struct http1_head *h)
{
    struct span params[2];
    bool is_path_known;
    const struct api_row *row = api_find(h->method_text, h->path, params, &is_path_known);
    return !row || row->access != API_INGEST || field(h, "cookie").len > 0 ||
           auth_may_ingest(&a->auth, field(h, "authorization"));
}

void api_count_cut(struct conn *conn)
{
    const struct http1_head *h = &conn->parser.head;
    struct span params[2];
    bool is_path_known;
    conn_settle_head(conn);
    count_refusal(conn->admin, api_find(h->method_text, h->path, params, &is_path_known),
                  INGEST_REFUSED_CUT_OFF);
}

void api_serve(struct conn *conn, const struct api_refusal *refusal)
{
    struct admin *a = conn->admin;
    const struct http1_head *h = &conn->parser.head;
    struct api_call c = {.admin = a, .conn = conn, .head = h, .out = &a->scratch, .status = 200};
    buf_clear(c.out);
    json_init(&c.j, c.out);
    c.refusal = refusal;
    conn->is_closing = !h->keep_alive || refusal;

    struct span params[2] = {{"", 0}, {"", 0}};
    struct span method = h->method == HTTP1_HEAD ? SPAN("GET") : h->method_text;
    bool is_path_known = false;
    c.row = api_find(method, h->path, params, &is_path_known);
    if (!auth_host_ok(&a->auth, h->host_name))
        api_fail_status(&c, 421, FB_E_DENIED,
                        "Host is no loopback name; open the dashboard by its address");
    else if (c.row)
        run_row(&c, params);
    else if (is_path_known)
        api_fail_status(&c, 405, FB_E_USAGE, "this path exists, but not for this method");
    else
        serve_page(&c);
    if (!conn->waits_for)
        finish(&c);
}

static void finish(struct api_call *c)
{
    if (!c->stream && c->out->failed && !c->asset.at) {
        buf_clear(c->out);
        api_fail(c, FB_E_NOMEM, "the answer is larger than %zu bytes; ask for less", c->out->max);
    }
    if (c->status >= 400 && via_of(c->row) == INGEST_OTLP)
        api_otlp_status(c);
    write_answer(c);
}

bool api_resume(struct conn *conn)
{
    struct admin *a = conn->admin;
    struct api_call c = {
        .admin = a, .conn = conn, .head = &conn->parser.head, .out = &a->scratch, .status = 200};
    buf_clear(c.out);
    json_init(&c.j, c.out);
    static bool (*const answers[])(struct api_call *) = {[CONN_WAIT_QUERY] = api_query_answer,
                                                         [CONN_WAIT_RELOAD] = api_reload_answer,
                                                         [CONN_WAIT_TOLD] = api_told_answer,
                                                         [CONN_WAIT_EVENT] = api_event_answer};
    if (!answers[conn->waits_for](&c))
        return false;
    finish(&c);
    return true;
}

static void run_row(struct api_call *c, struct span params[2])
{
    for (size_t i = 0; i < 2; i++)
        if (!api_decode(params[i], false, c->param[i], sizeof c->param[i])) {
            api_fail(c, FB_E_USAGE, "the path is not well percent-encoded");
            return;
        }
    if (c->row->access != API_OPEN && !is_allowed(c))
        return;
    if (c->refusal) {
        count_refusal(c->admin, c->row, c->refusal->why);
        api_fail_status(c, c->refusal->status, code_of(c->refusal->status), c->refusal->text);
        return;
    }
    bool is_ours = c->row->access == API_READ || c->row->access == API_WRITE;
    if (!is_ours || api_query_known(c))
        c->row->run(c);
}

static struct auth_request auth_request_of(const struct api_call *c, bool is_write)
{
    const struct http1_head *h = c->head;
    return (struct auth_request){.source = c->conn->source,
                                 .authorization = field(h, "authorization"),
                                 .cookie = field(h, "cookie"),
                                 .origin = field(h, "origin"),
                                 .host = h->host,
                                 .fetch_site = field(h, "sec-fetch-site"),
                                 .is_write = is_write};
}

static void fail_auth(struct api_call *c, enum auth_result result)
{
    if (result == AUTH_TOO_MANY) {
        snprintf(c->header, sizeof c->header, "Retry-After: 60\r\n");
        api_fail_status(c, 429, FB_E_DENIED,
                        "more than 10 wrong tokens in a minute from this address; a right one is "
                        "taken at any time");
        return;
    }
    if (result == AUTH_INGEST) {
        api_fail_status(c, 403, FB_E_DENIED, "this token may bring events in and nothing else");
        return;
    }
    snprintf(c->header, sizeof c->header, "WWW-Authenticate: Bearer realm=\"foldback\"\r\n");
    api_fail(c, FB_E_DENIED, "%s",
             result == AUTH_WRONG ? "the token is wrong" : "a token or a session is needed");
}

static bool is_allowed(struct api_call *c)
{
    struct auth_request r = auth_request_of(c, c->row->access >= API_WRITE);
    if (!auth_origin_ok(&r)) {
        api_fail_status(c, 403, FB_E_DENIED, "a page of another origin may not change anything");
        return false;
    }
    enum auth_result result = auth_check(&c->admin->auth, &r, c->admin->now_us);
    if (result == AUTH_INGEST && c->row->access == API_INGEST)
        result = AUTH_OK;
    if (result != AUTH_OK) {
        count_refusal(c->admin, c->row, INGEST_REFUSED_UNAUTHORIZED);
        fail_auth(c, result);
    }
    return result == AUTH_OK;
}

/* ---- the dashboard ---- */
static void login_by_url(struct api_call *c, struct span token)
{
    enum auth_result result = auth_login(&c->admin->auth, c->conn->source, token, c->admin->now_us);
    if (result != AUTH_OK) {
        fail_auth(c, result);
        return;
    }
    struct buf cookie;
    buf_init(&cookie, 256);
    auth_put_cookie(&c->admin->auth, &cookie, c->admin->now_us, false);
    snprintf(c->header, sizeof c->header, "Location: /\r\nSet-Cookie: %s\r\n", buf_str(&cookie));
    buf_fini(&cookie);
    c->status = 303;
    c->type = "text/plain; charset=utf-8";
}

static void serve_page(struct api_call *c)
{
    bool is_get = c->head->method == HTTP1_GET || c->head->method == HTTP1_HEAD;
    const struct asset *asset = is_get ? asset_find(c->head->path) : NULL;
    if (!asset) {
        api_fail(c, FB_E_NOT_FOUND, "no such path; GET /v1/openapi.json lists them all");
        return;
    }
    char token[ADMIN_TOKEN_MAX_BYTES + 2];
    if (span_eq(c->head->path, SPAN("/")) && api_query(c, "token", token, sizeof token)) {
        login_by_url(c, span_of(token));
        return;
    }
    bool is_gzip = asset->gzip_bytes > 0;
    if (is_gzip) {
        bool is_accepted = false;
        for (struct span rest = field(c->head, "accept-encoding"), item;
             http1_list_next(&rest, &item);)
            is_accepted |= span_ieq(item, SPAN("gzip")) || span_starts(item, SPAN("gzip;q=1"));
        is_gzip = is_accepted;
    }
    c->type = asset->type;
    snprintf(c->header, sizeof c->header,
             "ETag: %s\r\nVary: Accept-Encoding\r\nCache-Control: %s\r\n%s", asset->etag,
             asset->is_immutable ? "public, max-age=31536000, immutable" : "no-cache",
             is_gzip ? "Content-Encoding: gzip\r\n" : "");
    if (span_eq(field(c->head, "if-none-match"), span_of(asset->etag))) {
        c->status = 304;
        return;
    }
    c->asset = is_gzip ? (struct span){(const char *)asset->gzip, asset->gzip_bytes}
                       : (struct span){(const char *)asset->bytes, asset->length_bytes};
}

/* ---- the answer ---- */
static void write_answer(struct api_call *c)
{
    struct conn *conn = c->conn;
    struct buf *out = &conn->out;
    bool is_stream = c->stream != NULL;
    size_t length = c->asset.at ? c->asset.len : c->out->len;
    bool has_body = c->status != 204 && c->status != 304;
    buf_printf(out, "HTTP/1.1 %u %s\r\n", c->status, http1_status_text(c->status));
    if (has_body)
        buf_printf(out, "Content-Type: %s\r\n", c->type ? c->type : "application/json");
    if (is_stream)
        conn->is_closing = true; /* ends with the connection: no length is known */
    else if (has_body)
        buf_printf(out, "Content-Length: %zu\r\n", length);
    if (conn->is_closing)
        buf_puts(out, "Connection: close\r\n");
    if (!strstr(c->header, "Cache-Control:"))
        buf_puts(out, "Cache-Control: no-store\r\n");
    buf_puts(out, c->header);
    buf_puts(out, "Content-Security-Policy: default-src 'none'; script-src 'self'; "
                  "style-src 'self'; connect-src 'self'; img-src 'self' data:; "
                  "frame-ancestors 'none'; require-trusted-types-for 'script'\r\n"
                  "X-Content-Type-Options: nosniff\r\n"
                  "X-Frame-Options: DENY\r\n"
                  "Referrer-Policy: no-referrer\r\n"
                  "Cross-Origin-Resource-Policy: same-origin\r\n"
                  "Cross-Origin-Opener-Policy: same-origin\r\n"
                  "Permissions-Policy: geolocation=(), camera=(), microphone=()\r\n\r\n");
    bool is_head = c->head->method == HTTP1_HEAD;
    if (has_body && !is_head && !is_stream && c->asset.at)
        conn->tail = c->asset;
    else if (has_body && !is_head && !is_stream)
        buf_put_span(out, buf_span(c->out));
    if (is_stream)
        conn->stream = c->stream;
    if (out->failed) /* both bounds together hold every answer */
        conn->is_closing = true;
}

/* ---- problems ---- */
static enum fb_code code_of(uint16_t status)
{
    return status == 413   ? FB_E_RANGE
           : status == 401 ? FB_E_DENIED
           : status == 408 ? FB_E_TIMEOUT
                           : FB_E_FORMAT;
}

static uint16_t status_of(enum fb_code code)
{
    switch (code) {
    case FB_E_DENIED:
        return 401;
    case FB_E_NOT_FOUND:
        return 404;
    case FB_E_CONFLICT:
        return 409;
    case FB_E_RANGE:
    case FB_E_CONFIG:
        return 422;
    case FB_E_USAGE:
    case FB_E_FILTER:
    case FB_E_FORMAT:
        return 400;
    case FB_E_AGAIN:
    case FB_E_DISK_FULL:
    case FB_E_NOMEM:
        return 503;
    case FB_E_TIMEOUT:
        return 504;
    default:
        return 500;
    }
}

void api_fail_status(struct api_call *c, uint16_t status, enum fb_code code, const char *text)
{
    struct fb_err err = {.code = code};
    snprintf(err.text, sizeof err.text, "%s", text);
    api_fail_at(c, status, &err, 0);
}

/* A row that speaks of the command line says nothing to who speaks HTTP. */
static const char *remedy_of(enum fb_code code)
{
    switch (code) {
    case FB_E_USAGE:
        return "GET /v1/openapi.json says what this call takes.";
    case FB_E_FORMAT: /* what was sent, not what is stored */
        return "Correct the body and send it again; GET /v1/openapi.json says what this call "
               "takes.";
    case FB_E_TIMEOUT:
        return "Look at GET /v1/status, then try again.";
    case FB_E_UNREACHABLE:
        return "Look at GET /v1/status; the log of foldback says more.";
    default:
        return fb_error_row(code)->remedy;
    }
}

void api_fail_at(struct api_call *c, uint16_t status, const struct fb_err *err, uint32_t position)
{
    const struct fb_error_row *row = fb_error_row(err->code);
    buf_clear(c->out);
    json_init(&c->j, c->out);
    c->status = status;
    c->type = "application/problem+json";
    json_object_begin(&c->j);
    json_key_str(&c->j, "type", "about:blank");
    json_key_str(&c->j, "title", http1_status_text(status));
    json_key_u64(&c->j, "status", status);
    json_key_str(&c->j, "detail", err->text);
    if (position)
        json_key_u64(&c->j, "position", position);
    json_key_str(&c->j, "code", row->name);
    json_key_str(&c->j, "remedy", remedy_of(err->code));
    json_object_end(&c->j);
}

void api_fail(struct api_call *c, enum fb_code code, const char *fmt, ...)
{
    char text[480];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    api_fail_status(c, status_of(code), code, text);
}

/* The engine hears of services, routes and endpoints with its first ticks; a new brain first reads
 * the log. A wrong name is told two seconds later then, which is better than a right one refused.
 */
#define LEARNING_NAMES_US (2 * US_PER_S)

void api_fail_unknown(struct api_call *c, const char *fmt, ...)
{
    char text[480];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    bool is_learning = fb_sub_floor_u64(c->admin->now_us, c->admin->start_us) < LEARNING_NAMES_US;
    if (!is_learning) {
        api_fail(c, FB_E_NOT_FOUND, "%s", text);
        return;
    }
    snprintf(c->header, sizeof c->header, "Retry-After: 1\r\n");
    api_fail(c, FB_E_AGAIN, "%s; foldback has just started and may not know all names yet", text);
}

void api_fail_err(struct api_call *c, const struct fb_err *err)
{
    api_fail_status(c, status_of(err->code), err->code, err->text);
}
