/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_head.h"
#include "base/assert.h"
#include "proto/http1_chars.h"
#include "proto/http1_int.h"
#include "proto/http1_target.h"

/* Lines that we add ourselves: upgrade, sec-websocket-key, and cookies written again. */
#define OWN_BYTES 128
#define KEY_BYTES 24
#define URGENCY_DEFAULT 3 /* RFC 9218 section 4.1 */

static void take_pseudo(struct h2_head *h, struct span name, struct span value);
static void take_field(struct h2_head *h, struct span name, struct span value);
static bool is_of_connection(struct span name, enum http1_header id, struct span value);
static void take_host(struct h2_head *h, struct span value);
static enum http1_error finish_target(struct h2_head *h);
static void join_cookies(struct h2_head *h);
static void add_websocket(struct h2_head *h, uint64_t seed);
static struct span put(struct h2_head *h, struct span bytes);
static struct http1_field *put_line(struct h2_head *h, struct span name, struct span value);
static void malformed(struct h2_head *h);
static void fail(struct h2_head *h, enum http1_error error);

size_t h2_head_room(const struct http1_limits *limits)
{
    /* Cookies are written twice at most; "name: value" CR LF has 4 bytes more than the list counts
     * 32 for. */
    return (size_t)limits->line_bytes + 2 * (size_t)limits->header_bytes + OWN_BYTES;
}

void h2_head_begin(struct h2_head *h, const struct http1_limits *limits, char *text,
                   struct http1_field *fields)
{
    *h = (struct h2_head){.text = text, .cap = (uint32_t)h2_head_room(limits)};
    http1_request_begin(&h->p, limits, fields);
    h->p.head.version_minor = 1;
    h->p.head.method = HTTP1_METHOD_COUNT; /* none yet */
}

void h2_trailer_begin(struct h2_head *h, const struct http1_limits *limits, char *text,
                      struct http1_field *fields)
{
    h2_head_begin(h, limits, text, fields);
    h->is_trailer = true;
}

void h2_head_take(struct h2_head *h, struct span name, struct span value)
{
    if (FB_UNLIKELY(h->p.error != HTTP1_E_NONE))
        return;
    h->list_bytes += (uint32_t)(name.len + value.len + 32);
    if (FB_UNLIKELY(name.len == 0)) {
        malformed(h);
    } else if (name.at[0] == ':') {
        take_pseudo(h, name, value);
    } else {
        h->has_fields = true;
        take_field(h, name, value);
    }
}

enum http1_error h2_head_finish(struct h2_head *h, bool is_last, uint64_t seed)
{
    struct http1_head *head = &h->p.head;
    if (h->p.error != HTTP1_E_NONE || h->is_trailer)
        return h->p.error;
    enum http1_error error = finish_target(h);
    if (error != HTTP1_E_NONE) {
        if (h->p.error == HTTP1_E_NONE)
            fail(h, error);
        return h->p.error;
    }
    if (h->cookies > 1)
        join_cookies(h);
    if ((h->p.facts & FACT_TE_TRAILERS) != 0)
        h->p.facts |= FACT_TE;                 /* here it needs no nomination */
    head->seen |= UINT64_C(1) << HTTP1_H_HOST; /* :authority is as good */
    error = http1_fields_finish(&h->p);
    if (error != HTTP1_E_NONE) {
        fail(h, error);
        return error;
    }
    if (h->is_websocket) {
        if (head->has_length || is_last)
            malformed(h);
        else
            add_websocket(h, seed);
        return h->p.error;
    }
    if (is_last && head->has_length && head->body_bytes > 0)
        malformed(h);
    else if (!is_last && !head->has_length)
        head->framing = HTTP1_BODY_CHUNKED;
    bool has_body = head->framing == HTTP1_BODY_CHUNKED || head->body_bytes > 0;
    head->expect_continue = (h->p.facts & FACT_EXPECT) != 0 && has_body;
    head->head_bytes = h->list_bytes;
    return h->p.error;
}

void h2_head_move(struct h2_head *h, char *text, struct http1_field *fields)
{
    ptrdiff_t by = text - h->text;
    struct http1_head *head = &h->p.head;
    struct span *spans[] = {&head->method_text, &head->target,    &head->path,  &head->query,
                            &head->host,        &head->host_name, &h->authority};
    for (size_t i = 0; i < FB_COUNT(spans); i++) {
        if (spans[i]->at)
            spans[i]->at += by;
    }
    for (uint32_t i = 0; i < head->field_count; i++) {
        fields[i].name.at += by;
        fields[i].value.at += by;
    }
    head->fields = fields;
    h->text = text;
}

static void take_pseudo(struct h2_head *h, struct span name, struct span value)
{
    struct http1_head *head = &h->p.head;
    if (h->is_trailer || h->has_fields) { /* RFC 9113 8.1, 8.3 */
        malformed(h);
        return;
    }
    if (value.len > h->p.limits.line_bytes) {
        fail(h, HTTP1_E_LINE_TOO_LONG);
        return;
    }
    if (span_eq(name, SPAN(":method"))) {
        if (head->method_text.len || !http1_is_token(value)) {
            malformed(h);
            return;
        }
        head->method_text = put(h, value);
        head->method = (uint8_t)http1_method_lookup(value);
    } else if (span_eq(name, SPAN(":path"))) {
        const char *end = value.at + value.len;
        if (h->has_path || value.len == 0 || scan_target(value.at, end) != end) {
            malformed(h);
            return;
        }
        h->has_path = true;
        head->target = put(h, value);
    } else if (span_eq(name, SPAN(":scheme"))) {
        if (h->has_scheme || !(span_ieq(value, SPAN("http")) || span_ieq(value, SPAN("https"))))
            malformed(h);
        h->has_scheme = true;
    } else if (span_eq(name, SPAN(":authority"))) {
        if (h->has_authority || value.len == 0) {
            malformed(h);
            return;
        }
        h->has_authority = true;
        h->authority = put(h, value);
        if (!http1_host_split(h->authority, &head->host_name, &head->host_port))
            fail(h, HTTP1_E_BAD_HOST);
    } else if (span_eq(name, SPAN(":protocol"))) {
        if (h->is_websocket)
            malformed(h);
        else if (!span_ieq(value, SPAN("websocket")))
            fail(h, HTTP1_E_BAD_CODING); /* 501: a protocol that we do not carry */
        h->is_websocket = true;
    } else {
        malformed(h);
    }
}

static bool is_name(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];
        if (!char_is(c, CHAR_TOKEN) || (c >= 'A' && c <= 'Z'))
            return false;
    }
    return true;
}

static void take_field(struct h2_head *h, struct span name, struct span value)
{
    struct http1_head *head = &h->p.head;
    if (FB_UNLIKELY(!is_name(name) || !http1_is_value(value))) {
        malformed(h);
        return;
    }
    enum http1_header id = http1_header_lookup(name);
    if (FB_UNLIKELY(is_of_connection(name, id, value))) {
        malformed(h);
        return;
    }
    if (head->field_count == h->p.limits.header_count) {
        fail(h, HTTP1_E_TOO_MANY_HEADERS);
        return;
    }
    if (id == HTTP1_H_COOKIE && ++h->cookies == 2) { /* joined at the end; RFC 9113 8.2.3 */
        for (uint32_t i = 0; i < head->field_count; i++) {
            if (head->fields[i].id == HTTP1_H_COOKIE)
                head->fields[i].flags |= HTTP1_FIELD_HOP;
        }
    }
    struct http1_field *f = put_line(h, name, value);
    if (!f)
        return;
    if (id == HTTP1_H_HOST && !h->is_trailer) {
        f->id = HTTP1_H_HOST;
        take_host(h, f->value);
        return;
    }
    if (h->is_trailer) {
        if (id == HTTP1_H_OTHER && http1_name_is_near_framing(name)) {
            malformed(h);
            return;
        }
        f->id = (uint8_t)id;
        f->flags |= http1_header_flags(id);
        return;
    }
    enum http1_error error = http1_field_take(&h->p, f);
    if (h->cookies > 1 && id == HTTP1_H_COOKIE)
        f->flags |= HTTP1_FIELD_HOP;
    if (error == HTTP1_E_BAD_FRAMING)
        malformed(h);
    else if (error != HTTP1_E_NONE)
        fail(h, error);
}

/* RFC 9113 8.2.2. */
static bool is_of_connection(struct span name, enum http1_header id, struct span value)
{
    switch (id) {
    case HTTP1_H_CONNECTION:
    case HTTP1_H_KEEP_ALIVE:
    case HTTP1_H_PROXY_CONNECTION:
    case HTTP1_H_TRANSFER_ENCODING:
    case HTTP1_H_UPGRADE:
    case HTTP1_H_HTTP2_SETTINGS:
        return true;
    case HTTP1_H_TE:
        return !span_ieq(value, SPAN("trailers"));
    default:
        return span_eq(name, SPAN("proxy-connection"));
    }
}

/* RFC 9113 8.3.1: Host may be there too, and must then say the same. */
static void take_host(struct h2_head *h, struct span value)
{
    struct http1_head *head = &h->p.head;
    struct span name;
    uint16_t port;
    bool again = http1_has(head, HTTP1_H_HOST);
    head->seen |= UINT64_C(1) << HTTP1_H_HOST;
    if (again || !http1_host_split(value, &name, &port)) {
        fail(h, HTTP1_E_BAD_HOST);
        return;
    }
    if (h->has_authority) {
        if (!span_ieq(name, head->host_name) || port != head->host_port)
            fail(h, HTTP1_E_BAD_HOST);
        return;
    }
    h->authority = value;
    head->host_name = name;
    head->host_port = port;
}

static enum http1_error finish_target(struct h2_head *h)
{
    struct http1_head *head = &h->p.head;
    bool is_connect = head->method == HTTP1_CONNECT && !h->is_websocket;
    if (head->method_text.len == 0 || h->has_path == is_connect || h->has_scheme == is_connect) {
        malformed(h);
        return h->p.error;
    }
    if (h->is_websocket && (head->method != HTTP1_CONNECT || !h->has_authority)) {
        malformed(h);
        return h->p.error;
    }
    if (is_connect) { /* the authority is the target; nobody is asked to forward it */
        if (!h->has_authority) {
            malformed(h);
            return h->p.error;
        }
        head->target = h->authority;
        return http1_target_take(head);
    }
    if (h->authority.len == 0)
        return HTTP1_E_BAD_HOST;
    if (h->is_websocket) {
        head->method = HTTP1_GET;
        head->method_text = SPAN("GET");
    }
    /* Absolute form has no place in :path. */
    if (head->target.at[0] != '/' && !(head->target.len == 1 && head->target.at[0] == '*')) {
        malformed(h);
        return h->p.error;
    }
    struct span name = head->host_name;
    uint16_t port = head->host_port;
    enum http1_error error = http1_target_take(head);
    head->host = h->authority;
    head->host_name = name;
    head->host_port = port;
    return error;
}

static void join_cookies(struct h2_head *h)
{
    struct http1_head *head = &h->p.head;
    uint32_t from = h->len;
    put(h, SPAN("cookie: "));
    uint32_t value_from = h->len;
    for (uint32_t i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != HTTP1_H_COOKIE)
            continue;
        if (h->len > value_from)
            put(h, SPAN("; "));
        put(h, head->fields[i].value);
    }
    uint32_t value_to = h->len;
    put(h, SPAN("\r\n"));
    head->fields[head->field_count++] =
        (struct http1_field){.name = {h->text + from, 6},
                             .value = {h->text + value_from, value_to - value_from},
                             .id = HTTP1_H_COOKIE,
                             .flags = http1_header_flags(HTTP1_H_COOKIE)};
}

/* RFC 8441 5: the handshake of HTTP/1 has a key; over HTTP/2 nobody asks for its answer. */
static void add_websocket(struct h2_head *h, uint64_t seed)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct http1_head *head = &h->p.head;
    char key[KEY_BYTES];
    uint64_t x = seed;
    for (size_t i = 0; i < KEY_BYTES - 2; i++) { /* 16 bytes are 22 digits, the last with 4 zeros */
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        key[i] = digits[i == KEY_BYTES - 3 ? (x >> 58) & 48 : x >> 58];
    }
    key[KEY_BYTES - 2] = key[KEY_BYTES - 1] = '=';
    for (uint32_t i = 0; i < head->field_count; i++) { /* the client's own would be a lie */
        if (head->fields[i].id == HTTP1_H_SEC_WEBSOCKET_KEY)
            head->fields[i].flags |= HTTP1_FIELD_HOP;
    }
    struct http1_field *f = put_line(h, SPAN("upgrade"), SPAN("websocket"));
    if (f) {
        f->id = HTTP1_H_UPGRADE;
        f->flags = HTTP1_FIELD_HOP; /* written with Connection */
        f = put_line(h, SPAN("sec-websocket-key"), (struct span){key, KEY_BYTES});
    }
    if (f)
        f->id = HTTP1_H_SEC_WEBSOCKET_KEY;
    head->seen |= UINT64_C(1) << HTTP1_H_UPGRADE | UINT64_C(1) << HTTP1_H_SEC_WEBSOCKET_KEY;
    head->framing = HTTP1_BODY_NONE;
    head->is_upgrade = head->is_websocket = true;
    head->head_bytes = h->list_bytes;
}

/* Empty when it does not fit; the error says so. */
static struct span put(struct h2_head *h, struct span bytes)
{
    if (bytes.len > h->cap - h->len) {
        fail(h, HTTP1_E_HEADERS_TOO_LARGE);
        return (struct span){h->text, 0};
    }
    char *at = h->text + h->len;
    if (bytes.len)
        memcpy(at, bytes.at, bytes.len);
    h->len += (uint32_t)bytes.len;
    return (struct span){at, bytes.len};
}

static struct http1_field *put_line(struct h2_head *h, struct span name, struct span value)
{
    struct http1_head *head = &h->p.head;
    size_t len = name.len + value.len + 4;
    h->field_bytes += (uint32_t)len;
    if (h->field_bytes > h->p.limits.header_bytes || len > h->cap - h->len) {
        fail(h, HTTP1_E_HEADERS_TOO_LARGE);
        return NULL;
    }
    char *at = h->text + h->len;
    struct http1_field *f = &head->fields[head->field_count++];
    memcpy(at, name.at, name.len);
    f->name = (struct span){at, name.len};
    at += name.len;
    *at++ = ':';
    *at++ = ' ';
    if (value.len)
        memcpy(at, value.at, value.len);
    f->value = (struct span){at, value.len};
    at += value.len;
    *at++ = '\r';
    *at++ = '\n';
    h->len += (uint32_t)len;
    f->flags = HTTP1_FIELD_PLAIN_LINE;
    f->id = HTTP1_H_OTHER;
    return f;
}

static void malformed(struct h2_head *h)
{
    h->is_malformed = true;
    fail(h, HTTP1_E_BAD_LINE);
}

static void fail(struct h2_head *h, enum http1_error error)
{
    fb_assert(error != HTTP1_E_NONE);
    if (h->p.error == HTTP1_E_NONE)
        h->p.error = error;
}

/* A dictionary of RFC 8941: the last member of a name counts. */
struct h2_priority h2_priority_of(struct span field)
{
    struct h2_priority p = {.urgency = URGENCY_DEFAULT};
    while (field.len) {
        struct span rest, parameters;
        struct span member = span_cut(field, ',', &rest);
        member = span_trim(span_cut(member, ';', &parameters));
        if (span_eq(member, SPAN("i")) || span_eq(member, SPAN("i=?1")))
            p.is_incremental = true;
        else if (span_eq(member, SPAN("i=?0")))
            p.is_incremental = false;
        else if (member.len == 3 && span_starts(member, SPAN("u=")) && member.at[2] >= '0' &&
                 member.at[2] <= '7')
            p.urgency = (uint8_t)(member.at[2] - '0');
        field = rest;
    }
    return p;
}
