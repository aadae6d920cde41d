/* SPDX-License-Identifier: Apache-2.0 */
/* What single fields and all of them together mean for the message (RFC 9110 7, 9112 3.2, 6, 9).
 *
 * Each field line is judged as it ends; what needs all lines (framing, nominated fields) is judged
 * at the end of the head from the facts collected on the way. */
#include "base/assert.h"
#include "proto/http1_chars.h"
#include "proto/http1_int.h"
#include "proto/http1_target.h"

/* 2^63 - 1: every reader's signed 64-bit counter holds it. */
#define LENGTH_MAX UINT64_C(0x7fffffffffffffff)
/* Each nominated name is compared with all fields: 64 KiB of "a,a,..." would cost milliseconds. */
#define NOMINATED_MAX 32

static enum http1_error take_host(struct http1_head *head, struct span value, bool again);
static enum http1_error take_length(struct http1_parser *p, struct span value, bool again);
static void take_coding(struct http1_parser *p, struct span value);
static enum http1_error take_connection(struct http1_parser *p, struct span value);
static void mark_nominated(struct http1_head *head);
static void finish_lifetime(struct http1_parser *p);
static enum http1_error finish_framing(struct http1_parser *p);

enum http1_error http1_field_take(struct http1_parser *p, struct http1_field *field)
{
    struct http1_head *head = &p->head;
    enum http1_header id = http1_header_lookup(field->name);
    uint64_t bit = UINT64_C(1) << id;
    bool again = (head->seen & bit) != 0;

    field->id = (uint8_t)id;
    if (id == HTTP1_H_OTHER) {
        if (FB_UNLIKELY(http1_name_is_near_framing(field->name)))
            return HTTP1_E_BAD_FRAMING;
        return HTTP1_E_NONE;
    }
    field->flags |= http1_header_flags(id);
    head->seen |= bit;
    switch (id) {
    case HTTP1_H_HOST:
        return p->is_response ? HTTP1_E_NONE : take_host(head, field->value, again);
    case HTTP1_H_CONTENT_LENGTH:
        return take_length(p, field->value, again);
    case HTTP1_H_TRANSFER_ENCODING:
        take_coding(p, field->value);
        return HTTP1_E_NONE;
    case HTTP1_H_CONNECTION:
        return take_connection(p, field->value);
    case HTTP1_H_UPGRADE:
        head->is_websocket = !again && span_ieq(field->value, SPAN("websocket"));
        return HTTP1_E_NONE;
    case HTTP1_H_TE:
        if (span_ieq(field->value, SPAN("trailers")))
            p->facts |= FACT_TE_TRAILERS;
        return HTTP1_E_NONE;
    case HTTP1_H_EXPECT:
        if (p->is_response)
            return HTTP1_E_NONE;
        /* RFC 9110 10.1.1: ignored in 1.0, which knows no 100; nor may it go on in a 1.1 message.
         */
        if (head->version_minor == 0) {
            field->flags |= HTTP1_FIELD_HOP;
            return HTTP1_E_NONE;
        }
        if (!span_ieq(field->value, SPAN("100-continue")))
            return HTTP1_E_BAD_EXPECT;
        p->facts |= FACT_EXPECT;
        return HTTP1_E_NONE;
    default:
        return HTTP1_E_NONE;
    }
}

/* RFC 9112 3.2: exactly one; in absolute form it must name the same authority as the target, for an
 * endpoint behind us might look at either. */
static enum http1_error take_host(struct http1_head *head, struct span value, bool again)
{
    struct span name;
    uint16_t port;
    if (again || !http1_host_split(value, &name, &port))
        return HTTP1_E_BAD_HOST;
    if (head->form == HTTP1_ABSOLUTE) {
        bool is_https = (head->target.at[4] | CHAR_LOWER_BIT) == 's';
        uint16_t usual = is_https ? 443 : 80;
        uint16_t said = port ? port : usual;
        uint16_t meant = head->host_port ? head->host_port : usual;
        bool is_same = span_ieq(name, head->host_name) && said == meant;
        return is_same ? HTTP1_E_NONE : HTTP1_E_BAD_HOST;
    }
    if (head->form == HTTP1_AUTHORITY)
        return HTTP1_E_NONE;
    head->host = value;
    head->host_name = name;
    head->host_port = port;
    return HTTP1_E_NONE;
}

/* Doubled lengths are refused even when equal: a reader that sums or takes the first differs.
 * Leading zeros of a request are refused too, for some readers take them for octal; those of a
 * response harm nobody, for we write the number again. */
static enum http1_error take_length(struct http1_parser *p, struct span value, bool again)
{
    uint64_t bytes;
    if (again || !span_to_u64(value, &bytes) || bytes > LENGTH_MAX)
        return HTTP1_E_BAD_FRAMING;
    if (!p->is_response && value.at[0] == '0' && value.len > 1)
        return HTTP1_E_BAD_FRAMING;
    p->head.has_length = true;
    p->head.body_bytes = bytes;
    return HTTP1_E_NONE;
}

/* A list of codings is read only to name the fault: nothing but a single `chunked` is taken. */
static void take_one_coding(struct http1_parser *p, struct span coding)
{
    struct span params;
    struct span name = span_trim(span_cut(coding, ';', &params));
    bool is_chunked = span_ieq(name, SPAN("chunked"));

    if ((p->facts & FACT_CHUNKED) != 0 || !http1_is_token(name))
        p->facts |= FACT_TE_BAD; /* behind chunked, empty or malformed */
    else if (is_chunked && name.len != coding.len)
        p->facts |= FACT_TE_BAD; /* chunked has no parameters */
    else
        p->facts |= is_chunked ? FACT_CHUNKED : FACT_CODING;
}

static void take_coding(struct http1_parser *p, struct span value)
{
    const char *end = value.at + value.len;
    const char *at = value.at;
    const char *comma;
    do {
        comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        take_one_coding(p, span_trim((struct span){at, (size_t)(stop - at)}));
        at = stop + 1;
    } while (comma);
}

/* RFC 9110 7.6.1: a nominated field is dropped here.  Nominating what the endpoint relies on is an
 * attack (a request whose X-Forwarded-For or Authorization vanishes on the way), so it is refused.
 */
static enum http1_error take_connection(struct http1_parser *p, struct span value)
{
    struct span option;
    while (http1_list_next(&value, &option)) {
        if (span_ieq(option, SPAN("keep-alive"))) {
            p->facts |= FACT_KEEP_ALIVE;
        } else if (span_ieq(option, SPAN("close"))) {
            p->facts |= FACT_CLOSE;
        } else if (span_ieq(option, SPAN("upgrade"))) {
            p->facts |= FACT_UPGRADE;
        } else if (span_ieq(option, SPAN("te"))) {
            p->facts |= FACT_TE;
        } else if (http1_is_token(option)) {
            enum http1_header id = http1_header_lookup(option);
            if ((http1_header_flags(id) & HTTP1_FIELD_KEEP) != 0)
                return HTTP1_E_BAD_CONNECTION;
            if (++p->nominated > NOMINATED_MAX)
                return HTTP1_E_BAD_CONNECTION;
        }
        /* Anything else can nominate no field; Connection itself is never forwarded. */
    }
    return HTTP1_E_NONE;
}

enum http1_error http1_fields_finish(struct http1_parser *p)
{
    struct http1_head *head = &p->head;
    if (!p->is_response && head->version_minor >= 1 && !http1_has(head, HTTP1_H_HOST))
        return HTTP1_E_BAD_HOST;
    enum http1_error error = finish_framing(p);
    if (error != HTTP1_E_NONE)
        return error;
    finish_lifetime(p);
    if (p->nominated > 0)
        mark_nominated(head);
    return HTTP1_E_NONE;
}

/* RFC 9112 6.3, without its repairs: both fields, or a doubtful one, end the message. */
static enum http1_error finish_framing(struct http1_parser *p)
{
    struct http1_head *head = &p->head;
    bool has_te = http1_has(head, HTTP1_H_TRANSFER_ENCODING);
    bool is_chunked = (p->facts & FACT_CHUNKED) != 0;

    if (has_te) {
        if (head->has_length || head->version_minor == 0 || (p->facts & FACT_TE_BAD) != 0)
            return HTTP1_E_BAD_FRAMING;
        if ((p->facts & FACT_CODING) != 0)
            return HTTP1_E_BAD_CODING;
        fb_assert(is_chunked);
    }
    head->framing = is_chunked         ? HTTP1_BODY_CHUNKED
                    : head->has_length ? HTTP1_BODY_LENGTH
                                       : HTTP1_BODY_NONE;
    if (!p->is_response)
        return HTTP1_E_NONE;
    bool is_bodiless = head->status < 200 || head->status == 204 || head->status == 304 ||
                       p->answered == HTTP1_HEAD ||
                       (p->answered == HTTP1_CONNECT && head->status < 300);
    if (is_bodiless)
        head->framing = HTTP1_BODY_NONE;
    else if (head->framing == HTTP1_BODY_NONE)
        head->framing = HTTP1_BODY_CLOSE;
    return HTTP1_E_NONE;
}

/* RFC 9112 9.3; an upgrade needs both fields and 1.1 (RFC 9110 7.8), TE its nomination (10.1.4). */
static void finish_lifetime(struct http1_parser *p)
{
    struct http1_head *head = &p->head;
    bool is_11 = head->version_minor >= 1;

    head->keep_alive = (p->facts & FACT_CLOSE) == 0 && head->framing != HTTP1_BODY_CLOSE &&
                       (is_11 || (p->facts & FACT_KEEP_ALIVE) != 0);
    head->is_upgrade = is_11 && (p->facts & FACT_UPGRADE) != 0 && http1_has(head, HTTP1_H_UPGRADE);
    if (p->is_response && head->status != 101)
        head->is_upgrade = false;
    head->is_websocket = head->is_websocket && head->is_upgrade;
    head->te_trailers = (p->facts & FACT_TE_TRAILERS) != 0 && (p->facts & FACT_TE) != 0;
    bool has_body = head->framing == HTTP1_BODY_CHUNKED ||
                    (head->framing == HTTP1_BODY_LENGTH && head->body_bytes > 0);
    head->expect_continue = (p->facts & FACT_EXPECT) != 0 && has_body;
}

/* Reached only when a client nominates; at most NOMINATED_MAX and close, ... times header_count
 * names. */
static void mark_nominated(struct http1_head *head)
{
    for (uint32_t c = 0; c < head->field_count; c++) {
        struct span rest = head->fields[c].value;
        struct span option;
        if (head->fields[c].id != HTTP1_H_CONNECTION)
            continue;
        while (http1_list_next(&rest, &option)) {
            for (uint32_t i = 0; i < head->field_count; i++) {
                if (span_ieq(head->fields[i].name, option))
                    head->fields[i].flags |= HTTP1_FIELD_HOP | HTTP1_FIELD_NOMINATED;
            }
        }
    }
}

static bool is_alnum(char c)
{
    char l = (char)(c | CHAR_LOWER_BIT);
    return (l >= 'a' && l <= 'z') || char_is(c, CHAR_DIGIT);
}

/* "content", any byte, "length" between any bytes that are not alphanumeric; and the other one. */
bool http1_name_is_near_framing(struct span name)
{
    const size_t length_len = sizeof("content-length") - 1;
    const size_t coding_len = sizeof("transfer-encoding") - 1;
    if (name.len < length_len)
        return false;
    while (name.len > 0 && !is_alnum(name.at[0])) {
        name.at++;
        name.len--;
    }
    while (name.len > 0 && !is_alnum(name.at[name.len - 1]))
        name.len--;
    if (name.len == length_len)
        return strncasecmp(name.at, "content", 7) == 0 &&
               strncasecmp(name.at + 8, "length", 6) == 0;
    if (name.len == coding_len)
        return strncasecmp(name.at, "transfer", 8) == 0 &&
               strncasecmp(name.at + 9, "encoding", 8) == 0;
    return false;
}
