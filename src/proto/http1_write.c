/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of http1: each call reserves its whole length first, so that a line is written or not,
 * never in part.  Numbers are written on machines that are little endian, as everything here. */
#include "proto/http1_write.h"
#include "base/assert.h"

static inline char *copy(char *to, struct span bytes)
{
    if (bytes.len > 0)
        memcpy(to, bytes.at, bytes.len);
    return to + bytes.len;
}

/* Digits from the right; <text> has room for 64 bits in <base>. */
static struct span number(char *text, size_t size, uint64_t value, unsigned base)
{
    static const char digits[] = "0123456789abcdef";
    char *at = text + size;
    do {
        *--at = digits[value % base];
        value /= base;
    } while (value != 0);
    return (struct span){at, (size_t)(text + size - at)};
}

void http1_put_u64(struct http1_out *w, uint64_t value)
{
    char text[20];
    http1_put(w, number(text, sizeof(text), value, 10));
}

void http1_put_hex(struct http1_out *w, uint64_t value)
{
    char text[16];
    http1_put(w, number(text, sizeof(text), value, 16));
}

/* Eight digits at a time: each half byte becomes a byte, and those above 9 are moved to the
 * letters.
 */
static void hex8(char *text, uint32_t value)
{
    uint64_t x = value;
    x = (x << 16 | x) & UINT64_C(0x0000ffff0000ffff);
    x = (x << 8 | x) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x << 4 | x) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    uint64_t is_letter = (x + UINT64_C(0x0606060606060606)) >> 4 & UINT64_C(0x0101010101010101);
    x += UINT64_C(0x3030303030303030) + is_letter * ('a' - '9' - 1);
    x = __builtin_bswap64(x);
    memcpy(text, &x, sizeof x);
}

void http1_hex16(char text[16], uint64_t value)
{
    hex8(text, (uint32_t)(value >> 32));
    hex8(text + 8, (uint32_t)value);
}

void http1_put_request_line(struct http1_out *w, struct span method, struct span target)
{
    const struct span version = SPAN(" HTTP/1.1\r\n");
    char *at = http1_reserve(w, method.len + 1 + target.len + version.len);
    if (!at)
        return;
    at = copy(at, method);
    *at++ = ' ';
    at = copy(at, target);
    copy(at, version);
}

void http1_put_status_line(struct http1_out *w, uint16_t status)
{
    fb_assert(status >= 100);
    fb_assert(status <= 999);
    if (FB_LIKELY(status == 200)) {
        http1_put(w, SPAN("HTTP/1.1 200 OK\r\n"));
        return;
    }
    http1_put(w, SPAN("HTTP/1.1 "));
    http1_put_u64(w, status);
    http1_put(w, SPAN(" "));
    http1_put(w, span_of(http1_status_text(status)));
    http1_put_end(w);
}

void http1_put_field(struct http1_out *w, struct span name, struct span value)
{
    char *at = http1_reserve(w, name.len + value.len + 4);
    if (!at)
        return;
    at = copy(at, name);
    at = copy(at, SPAN(": "));
    at = copy(at, value);
    copy(at, SPAN("\r\n"));
}

void http1_put_field_u64(struct http1_out *w, struct span name, uint64_t value)
{
    char text[20];
    http1_put_field(w, name, number(text, sizeof(text), value, 10));
}

/* Lines that were received in canonical form and lie side by side are copied in one piece. */
void http1_put_fields(struct http1_out *w, const struct http1_head *head, uint64_t skip)
{
    struct span run = {NULL, 0};
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct http1_field *f = &head->fields[i];
        bool is_skipped = (f->flags & HTTP1_FIELD_HOP) != 0 || (skip >> f->id & 1) != 0;
        if (!is_skipped && (f->flags & HTTP1_FIELD_PLAIN_LINE) != 0) {
            if (run.len == 0)
                run.at = f->name.at;
            run.len = (size_t)(f->value.at + f->value.len + 2 - run.at);
            continue;
        }
        http1_put(w, run);
        run.len = 0;
        if (!is_skipped)
            http1_put_field(w, f->name, f->value);
    }
    http1_put(w, run);
}

void http1_put_framing(struct http1_out *w, enum http1_framing framing, uint64_t body_bytes)
{
    if (framing == HTTP1_BODY_LENGTH)
        http1_put_field_u64(w, SPAN("Content-Length"), body_bytes);
    else if (framing == HTTP1_BODY_CHUNKED)
        http1_put(w, SPAN("Transfer-Encoding: chunked\r\n"));
}

void http1_put_chunk_head(struct http1_out *w, uint64_t bytes)
{
    fb_assert(bytes > 0);
    http1_put_hex(w, bytes);
    http1_put_end(w);
}

void http1_put_chunk_last(struct http1_out *w, const struct http1_field *trailers, uint32_t count)
{
    http1_put(w, SPAN("0\r\n"));
    for (uint32_t i = 0; i < count; i++)
        http1_put_field(w, trailers[i].name, trailers[i].value);
    http1_put_end(w);
}

/* The registry of IANA, as far as RFC 9110, 6585, 7725, 8297, 8470 and 2518 fill it. */
static const struct status_row {
    uint16_t status;
    const char *text;
} status_rows[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {511, "Network Authentication Required"},
};

const char *http1_status_text(uint16_t status)
{
    if (status == 200)
        return "OK";
    size_t low = 0;
    size_t high = FB_COUNT(status_rows);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (status_rows[middle].status == status)
            return status_rows[middle].text;
        if (status_rows[middle].status < status)
            low = middle + 1;
        else
            high = middle;
    }
    return "";
}
