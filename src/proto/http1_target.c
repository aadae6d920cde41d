/* SPDX-License-Identifier: Apache-2.0 */
/* Splitting of targets and hosts, and their normal forms. */
#include "proto/http1_target.h"
#include "base/assert.h"
#include "proto/http1_chars.h"
#include "proto/http1_int.h"

#include <arpa/inet.h>

/* Longest DNS name with its final dot (RFC 1035 2.3.4), and longest IPv6 text with brackets. */
#define HOST_MAX_BYTES 254
#define IP6_MAX_BYTES 47

static enum http1_error take_absolute(struct http1_head *head);
static bool is_ip6_literal(struct span s);
static bool is_plain_path(struct span path);
static enum http1_error rewrite_path(struct span raw, struct http1_out *w);

enum http1_error http1_target_take(struct http1_head *head)
{
    struct span target = head->target;
    fb_assert(target.len > 0);

    if (head->method == HTTP1_CONNECT) {
        head->form = HTTP1_AUTHORITY;
        head->host = target;
        bool is_ok = http1_host_split(target, &head->host_name, &head->host_port);
        return is_ok && head->host_port != 0 ? HTTP1_E_NONE : HTTP1_E_BAD_TARGET;
    }
    head->path = target;
    if (target.at[0] == '*' && target.len == 1) {
        head->form = HTTP1_ASTERISK;
        return head->method == HTTP1_OPTIONS ? HTTP1_E_NONE : HTTP1_E_BAD_TARGET;
    }
    if (target.at[0] == '/') {
        head->form = HTTP1_ORIGIN;
    } else {
        enum http1_error error = take_absolute(head);
        if (error != HTTP1_E_NONE)
            return error;
    }
    const char *mark = head->path.len ? memchr(head->path.at, '?', head->path.len) : NULL;
    if (mark) {
        const char *end = head->path.at + head->path.len;
        head->has_query = true;
        head->query = (struct span){mark + 1, (size_t)(end - mark - 1)};
        head->path.len = (size_t)(mark - head->path.at);
    }
    /* Some readers take a backslash for a slash, which would hide dot segments from the rest. */
    if (head->path.len && memchr(head->path.at, '\\', head->path.len))
        return HTTP1_E_BAD_TARGET;
    return HTTP1_E_NONE;
}

/* http://authority[/path][?query]; sets host and leaves path and query in head->path. */
static enum http1_error take_absolute(struct http1_head *head)
{
    static const struct span schemes[] = {{"http://", 7}, {"https://", 8}};
    struct span target = head->target;

    for (size_t i = 0; i < FB_COUNT(schemes); i++) {
        struct span head_part = {target.at, schemes[i].len};
        if (target.len <= schemes[i].len || !span_ieq(head_part, schemes[i]))
            continue;
        const char *from = target.at + schemes[i].len;
        const char *end = target.at + target.len;
        const char *to = from;
        while (to < end && *to != '/' && *to != '?')
            to++;
        head->form = HTTP1_ABSOLUTE;
        head->host = (struct span){from, (size_t)(to - from)};
        head->path = (struct span){to, (size_t)(end - to)};
        if (!http1_host_split(head->host, &head->host_name, &head->host_port))
            return HTTP1_E_BAD_HOST;
        return HTTP1_E_NONE;
    }
    return HTTP1_E_BAD_TARGET;
}

bool http1_host_split(struct span text, struct span *name, uint16_t *port)
{
    const char *at = text.at;
    const char *end = text.at + text.len;

    *port = 0;
    if (text.len == 0)
        return false;
    if (*at == '[') {
        const char *stop = memchr(at, ']', text.len);
        if (!stop || !is_ip6_literal((struct span){at + 1, (size_t)(stop - at - 1)}))
            return false;
        at = stop + 1;
        *name = (struct span){text.at, (size_t)(at - text.at)};
    } else {
        char last = '.'; /* no empty label: not "", ".a", "a..b" */
        for (; at < end && char_is(*at, CHAR_REG_NAME); at++) {
            if (*at == '.' && last == '.')
                return false;
            last = *at;
        }
        *name = (struct span){text.at, (size_t)(at - text.at)};
        if (name->len == 0 || name->len > HOST_MAX_BYTES)
            return false;
        name->len -= last == '.';
    }
    if (at == end)
        return true;
    struct span digits = {at + 1, (size_t)(end - at - 1)};
    if (*at != ':' || digits.len > 5)
        return false;
    if (digits.len == 0) /* "a:" is allowed by RFC 3986 3.2.3 */
        return true;
    uint64_t value;
    if (!span_to_u64(digits, &value) || value == 0 || value > UINT16_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

static bool is_ip6_literal(struct span s)
{
    char text[IP6_MAX_BYTES + 1];
    struct in6_addr addr;
    if (s.len == 0 || s.len > IP6_MAX_BYTES)
        return false;
    memcpy(text, s.at, s.len);
    text[s.len] = '\0';
    if (strlen(text) != s.len)
        return false;
    return inet_pton(AF_INET6, text, &addr) == 1;
}

struct span http1_host_normalise(const struct http1_head *head, struct http1_out *w)
{
    size_t from = w->len;
    http1_put(w, head->host_name);
    if (w->failed)
        return (struct span){w->at, 0};
    for (size_t i = from; i < w->len; i++)
        w->at[i] = char_lower(w->at[i]);
    return (struct span){w->at + from, w->len - from};
}

enum http1_error http1_path_normalise_text(struct span raw, struct http1_out *w)
{
    if (raw.len == 0 || raw.at[0] != '/')
        return HTTP1_E_BAD_TARGET;
    if (is_plain_path(raw)) {
        http1_put(w, raw);
        return HTTP1_E_NONE;
    }
    return rewrite_path(raw, w);
}

enum http1_error http1_path_normalise(const struct http1_head *head, struct http1_out *w,
                                      struct span *path)
{
    enum http1_error error = HTTP1_E_NONE;
    size_t from = w->len;

    if (head->form == HTTP1_AUTHORITY)
        return HTTP1_E_BAD_TARGET;
    bool is_server = head->form == HTTP1_ASTERISK ||
                     (head->method == HTTP1_OPTIONS && head->path.len == 0 && !head->has_query);
    if (is_server) /* RFC 9112 3.2.4 */
        http1_put(w, SPAN("*"));
    else if (head->path.len == 0)
        http1_put(w, SPAN("/"));
    else
        error = http1_path_normalise_text(head->path, w);
    *path = (struct span){w->at + from, w->failed ? 0 : w->len - from};
    return error;
}

enum http1_error http1_target_normalise(const struct http1_head *head, struct http1_out *w,
                                        struct span *target, struct span *path)
{
    size_t from = w->len;
    enum http1_error error = http1_path_normalise(head, w, path);
    if (error != HTTP1_E_NONE)
        return error;
    if (head->has_query) {
        http1_put(w, SPAN("?"));
        http1_put(w, head->query);
    }
    *target = (struct span){w->at + from, w->failed ? 0 : w->len - from};
    return HTTP1_E_NONE;
}

/* Nothing to decode, to escape or to remove: nearly all paths. */
static bool is_plain_path(struct span path)
{
    char last = '/';
    for (size_t i = 0; i < path.len; i++) {
        char c = path.at[i];
        if (!char_is(c, CHAR_PATH) || (c == '.' && last == '/'))
            return false;
        last = c;
    }
    return true;
}

/* Ends the segment that begins at out[*segment] behind a slash; <len> is the length so far.
 * Returns the length without a dot segment; what stays always ends where the next segment begins.
 */
static size_t end_segment(const char *out, size_t segment, size_t len, bool *is_dots)
{
    size_t n = len - segment;
    *is_dots = (n == 1 && out[segment] == '.') ||
               (n == 2 && out[segment] == '.' && out[segment + 1] == '.');
    if (!*is_dots)
        return len;
    if (n == 1 || segment == 1)
        return segment;
    segment--; /* the slash in front; then back over the segment before it */
    while (out[segment - 1] != '/')
        segment--;
    return segment;
}

/* One byte or escape of <raw> at <*i>, written to <out>; its length, or 0 for an error. */
static size_t put_path_char(struct span raw, size_t *i, char *out)
{
    static const char digits[] = "0123456789ABCDEF";
    unsigned char c = (unsigned char)raw.at[*i];

    if (c == '%') {
        if (raw.len - *i < 3)
            return 0;
        unsigned high = char_hex(raw.at[*i + 1]);
        unsigned low = char_hex(raw.at[*i + 2]);
        if (high > 15 || low > 15 || high + low == 0)
            return 0;
        *i += 3;
        c = (unsigned char)(high << 4 | low);
        if (char_is((char)c, CHAR_UNRESERVED)) {
            out[0] = (char)c;
            return 1;
        }
    } else if (char_is((char)c, CHAR_PATH)) {
        *i += 1;
        out[0] = (char)c;
        return 1;
    } else {
        if (!char_is((char)c, CHAR_TARGET) || c == '\\' || c == '?')
            return 0;
        *i += 1;
    }
    out[0] = '%';
    out[1] = digits[c >> 4];
    out[2] = digits[c & 15];
    return 3;
}

static enum http1_error rewrite_path(struct span raw, struct http1_out *w)
{
    size_t room = 3 * raw.len;
    if (w->failed || w->cap - w->len < room) {
        w->failed = true;
        w->needed += room;
        return HTTP1_E_NONE;
    }
    char *out = w->at + w->len;
    size_t len = 0;
    size_t segment = 1;
    bool is_dots;
    out[len++] = '/';
    for (size_t i = 1; i < raw.len;) {
        if (raw.at[i] == '/') {
            i++;
            len = end_segment(out, segment, len, &is_dots);
            if (!is_dots)
                out[len++] = '/';
            segment = len;
            continue;
        }
        size_t put = put_path_char(raw, &i, out + len);
        if (put == 0)
            return HTTP1_E_BAD_TARGET;
        len += put;
    }
    len = end_segment(out, segment, len, &is_dots);
    fb_assert(len > 0);
    fb_assert(len <= room);
    w->len += len;
    w->needed += len;
    return HTTP1_E_NONE;
}
