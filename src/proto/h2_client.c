/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_client.h"

#include "base/assert.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

/* Until its SETTINGS came; the number that RFC 9113 section 6.5.2 calls the least sensible. */
#define STREAMS_UNTIL_SETTINGS 100u
/* Fields of one request: limits.header_count is at most 200, we add about ten. */
#define NV_MAX 256u
#define STATUS_LINE_BYTES 16u /* "HTTP/1.1 200 \r\n" and the end */

struct block { /* the field section that is being read; one at a time on a connection */
    char *text;
    size_t cap, len;
    struct http1_field *fields;
    uint32_t count;
    bool has_status, is_too_large;
};

struct h2_client {
    nghttp2_session *session;
    const struct h2_client_hooks *hooks;
    void *conn;
    struct h2_client_conf conf;
    struct block block;
    bool is_leaving, is_settled;
};

static bool begin(struct h2_client *s);
static nghttp2_session_callbacks *callbacks_new(void);
static size_t split(const struct h2_client *s, struct span head, nghttp2_nv *nv, bool is_connect);
static int32_t submit(struct h2_client *s, void *stream, const nghttp2_nv *nv, size_t count,
                      bool has_body);
static void end_block(struct h2_client *s, int32_t id, bool is_last);

struct h2_client *h2_client_new(const struct h2_client_conf *conf,
                                const struct h2_client_hooks *hooks, void *conn)
{
    struct h2_client *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->conf = *conf;
    s->hooks = hooks;
    s->conn = conn;
    s->block.cap = conf->limits.header_bytes + STATUS_LINE_BYTES;
    s->block.text = malloc(s->block.cap);
    s->block.fields = calloc(conf->limits.header_count, sizeof *s->block.fields);
    if (s->block.text && s->block.fields && begin(s))
        return s;
    h2_client_free(s);
    return NULL;
}

void h2_client_free(struct h2_client *s)
{
    if (!s)
        return;
    s->hooks = NULL;
    nghttp2_session_del(s->session);
    free(s->block.text);
    free(s->block.fields);
    free(s);
}

bool h2_client_take(struct h2_client *s, struct span bytes)
{
    return nghttp2_session_mem_recv(s->session, (const uint8_t *)bytes.at, bytes.len) ==
           (ssize_t)bytes.len;
}

bool h2_client_pump(struct h2_client *s, size_t room)
{
    for (size_t put = 0; put < room;) {
        const uint8_t *at;
        ssize_t n = nghttp2_session_mem_send(s->session, &at);
        if (n < 0)
            return false;
        if (n == 0)
            break;
        s->hooks->put(s->conn, (struct span){(const char *)at, (size_t)n});
        put += (size_t)n;
    }
    return nghttp2_session_want_read(s->session) || nghttp2_session_want_write(s->session);
}

static ssize_t on_give(nghttp2_session *session, int32_t id, uint8_t *to, size_t room,
                       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2_client *s = arg;
    nghttp2_nv nv[NV_MAX];
    size_t count = 0;
    (void)source;
    void *stream = nghttp2_session_get_stream_user_data(session, id);
    if (!stream) /* its owner left: the reset is on its way */
        return NGHTTP2_ERR_DEFERRED;
    struct h2_client_give g = s->hooks->give(s->conn, stream, (char *)to, room);
    if (g.bytes == 0 && !g.is_last)
        return NGHTTP2_ERR_DEFERRED;
    if (g.is_last)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    for (uint32_t i = 0; g.is_last && g.trailers && i < g.trailers->field_count; i++) {
        const struct http1_field *f = &g.trailers->fields[i];
        if (count < FB_COUNT(nv))
            nv[count++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)f->name.at,
                                       .namelen = f->name.len,
                                       .value = (uint8_t *)(uintptr_t)f->value.at,
                                       .valuelen = f->value.len};
    }
    if (count && nghttp2_submit_trailer(session, id, nv, count) == 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return (ssize_t)g.bytes;
}

int32_t h2_client_request(struct h2_client *s, void *stream, struct span head, bool has_body)
{
    nghttp2_nv nv[NV_MAX];
    return submit(s, stream, nv, split(s, head, nv, false), has_body);
}

int32_t h2_client_connect(struct h2_client *s, void *stream, struct span head)
{
    nghttp2_nv nv[NV_MAX];
    return submit(s, stream, nv, split(s, head, nv, true), true);
}

bool h2_client_has_connect(const struct h2_client *s)
{
    return s->is_settled && nghttp2_session_get_remote_settings(
                                s->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

static int32_t submit(struct h2_client *s, void *stream, const nghttp2_nv *nv, size_t count,
                      bool has_body)
{
    const nghttp2_data_provider body = {.read_callback = on_give};
    fb_assert(stream != NULL);
    if (count == 0 || s->is_leaving)
        return 0;
    int32_t id =
        nghttp2_submit_request(s->session, NULL, nv, count, has_body ? &body : NULL, stream);
    if (id > 0)
        return id;
    s->is_leaving = true; /* no number is left, or no memory */
    return 0;
}

void h2_client_resume(struct h2_client *s, int32_t id)
{
    (void)nghttp2_session_resume_data(s->session, id); /* fails when it does not wait: fine */
}

void h2_client_consume(struct h2_client *s, int32_t id, size_t bytes)
{
    (void)nghttp2_session_consume_stream(s->session, id, bytes);
}

void h2_client_reset(struct h2_client *s, int32_t id)
{
    nghttp2_session_set_stream_user_data(s->session, id, NULL);
    (void)nghttp2_submit_rst_stream(s->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
}

void h2_client_ping(struct h2_client *s)
{
    (void)nghttp2_submit_ping(s->session, NGHTTP2_FLAG_NONE, NULL);
}

void h2_client_leave(struct h2_client *s)
{
    s->is_leaving = true;
    (void)nghttp2_submit_goaway(s->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
}

uint32_t h2_client_streams_max(const struct h2_client *s)
{
    if (!s->is_settled)
        return STREAMS_UNTIL_SETTINGS;
    return nghttp2_session_get_remote_settings(s->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool h2_client_is_leaving(const struct h2_client *s)
{
    return s->is_leaving;
}

bool h2_client_is_settled(const struct h2_client *s)
{
    return s->is_settled;
}

/* ---- a request's text to fields ---- */

static nghttp2_nv pair(struct span name, struct span value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.at,
                        .namelen = name.len,
                        .value = (uint8_t *)(uintptr_t)value.at,
                        .valuelen = value.len};
}

/* "name: value" CR LF at the front of <rest>; false at the empty line. */
static bool next_line(struct span *rest, struct span *name, struct span *value)
{
    struct span line = span_cut(*rest, '\n', rest);
    if (line.len && line.at[line.len - 1] == '\r')
        line.len--;
    if (line.len == 0)
        return false;
    *name = span_cut(line, ':', value);
    *value = span_trim(*value);
    return true;
}

/* Returns how many; 0 when it is no head of ours or has too many.  nghttp2 writes names small. */
static size_t split(const struct h2_client *s, struct span head, nghttp2_nv *nv, bool is_connect)
{
    struct span rest = head, name, value;
    struct span line = span_cut(rest, '\n', &rest);
    struct span method = span_cut(line, ' ', &line), target = span_cut(line, ' ', &line);
    size_t count = 4;
    struct span scheme = s->conf.is_tls ? SPAN("https") : SPAN("http");
    if (method.len == 0 || target.len == 0)
        return 0;
    nv[0] = pair(SPAN(":method"), method);
    nv[1] = pair(SPAN(":scheme"), scheme);
    nv[2] = pair(SPAN(":authority"), SPAN(""));
    nv[3] = pair(SPAN(":path"), target);
    if (is_connect) {
        nv[0] = pair(SPAN(":method"), SPAN("CONNECT"));
        nv[count++] = pair(SPAN(":protocol"), SPAN("websocket"));
    }
    while (next_line(&rest, &name, &value)) {
        enum http1_header id = http1_header_lookup(name);
        if (id == HTTP1_H_HOST) {
            nv[2] = pair(SPAN(":authority"), value);
            continue;
        }
        bool is_te = id == HTTP1_H_TE && span_ieq(value, SPAN("trailers"));
        bool is_hop = id == HTTP1_H_TRANSFER_ENCODING || (http1_header_flags(id) & HTTP1_FIELD_HOP);
        if ((is_hop && !is_te) || (is_connect && id == HTTP1_H_SEC_WEBSOCKET_KEY))
            continue;
        if (count == NV_MAX)
            return 0;
        nv[count++] = pair(name, value);
    }
    return count;
}

/* ---- what comes back ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_client *s = arg;
    (void)session, (void)frame;
    s->block.len = STATUS_LINE_BYTES - 1; /* the status line is written in front */
    s->block.count = 0;
    s->block.has_status = s->block.is_too_large = false;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_bytes, const uint8_t *value, size_t value_bytes, uint8_t flags,
                     void *arg)
{
    struct h2_client *s = arg;
    struct block *b = &s->block;
    (void)session, (void)frame, (void)flags;
    if (name_bytes && name[0] == ':') {
        if (name_bytes != 7 || memcmp(name, ":status", 7) != 0 || value_bytes != 3)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        memcpy(b->text, "HTTP/1.1 ", 9);
        memcpy(b->text + 9, value, 3);
        memcpy(b->text + 12, " \r\n", 3);
        b->has_status = true;
        return 0;
    }
    size_t need = name_bytes + value_bytes + 4;
    if (b->count == s->conf.limits.header_count || b->len + need + 2 > b->cap)
        b->is_too_large = true;
    if (b->is_too_large)
        return 0;
    struct http1_field *f = &b->fields[b->count++];
    char *at = b->text + b->len;
    memcpy(at, name, name_bytes);
    memcpy(at + name_bytes, ": ", 2);
    if (value_bytes)
        memcpy(at + name_bytes + 2, value, value_bytes);
    memcpy(at + name_bytes + 2 + value_bytes, "\r\n", 2);
    b->len += need;
    *f =
        (struct http1_field){.name = {at, name_bytes}, .value = {at + name_bytes + 2, value_bytes}};
    f->id = (uint8_t)http1_header_lookup(f->name);
    f->flags = http1_header_flags((enum http1_header)f->id);
    return 0;
}

static void end_block(struct h2_client *s, int32_t id, bool is_last)
{
    struct block *b = &s->block;
    void *stream = nghttp2_session_get_stream_user_data(s->session, id);
    if (!stream)
        return;
    if (b->is_too_large) {
        h2_client_reset(s, id);
        s->hooks->on_gone(s->conn, stream, H2_GONE_TOO_LARGE);
        return;
    }
    if (b->has_status) {
        memcpy(b->text + b->len, "\r\n", 2);
        s->hooks->on_head(s->conn, stream, (struct span){b->text, b->len + 2}, is_last);
        if (is_last)
            s->hooks->on_last(s->conn, stream, NULL, 0);
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->count; i++)
        if (!(b->fields[i].flags & (HTTP1_FIELD_HOP | HTTP1_FIELD_NO_TRAILER)))
            b->fields[kept++] = b->fields[i];
    s->hooks->on_last(s->conn, stream, b->fields, kept);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *at,
                   size_t bytes, void *arg)
{
    struct h2_client *s = arg;
    void *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)flags;
    (void)nghttp2_session_consume_connection(session, bytes);
    if (stream)
        s->hooks->on_data(s->conn, stream, (struct span){(const char *)at, bytes});
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_client *s = arg;
    bool is_last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        end_block(s, frame->hd.stream_id, is_last);
        break;
    case NGHTTP2_DATA: {
        void *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (is_last && stream)
            s->hooks->on_last(s->conn, stream, NULL, 0);
        break;
    }
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            s->is_settled = true;
        break;
    case NGHTTP2_GOAWAY:
        s->is_leaving = true;
        break;
    default:
        break;
    }
    return 0;
}

/* A request that was still waiting in the session when GOAWAY came. */
static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int why, void *arg)
{
    struct h2_client *s = arg;
    (void)why;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    void *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!stream || !s->hooks)
        return 0;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, NULL);
    s->hooks->on_gone(s->conn, stream, H2_GONE_UNSENT);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_client *s = arg;
    void *stream = nghttp2_session_get_stream_user_data(session, id);
    if (!stream || !s->hooks)
        return 0;
    enum h2_gone why = H2_GONE_RESET;
    if (code == NGHTTP2_NO_ERROR)
        why = H2_GONE_DONE;
    else if (code == NGHTTP2_REFUSED_STREAM)
        why = H2_GONE_UNSENT;
    else if (code == NGHTTP2_PROTOCOL_ERROR)
        why = H2_GONE_BAD;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    s->hooks->on_gone(s->conn, stream, why);
    return 0;
}

static nghttp2_session_callbacks *callbacks_new(void)
{
    nghttp2_session_callbacks *c;
    if (nghttp2_session_callbacks_new(&c) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(c, on_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_close);
    return c;
}

static bool begin(struct h2_client *s)
{
    nghttp2_session_callbacks *callbacks = callbacks_new();
    nghttp2_option *option = NULL;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, s->conf.stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
         s->conf.limits.header_bytes + 32 * s->conf.limits.header_count},
    };
    bool is_good = callbacks && nghttp2_option_new(&option) == 0;
    if (is_good) {
        nghttp2_option_set_no_auto_window_update(option, 1);
        is_good = nghttp2_session_client_new2(&s->session, callbacks, s, option) == 0;
    }
    is_good =
        is_good &&
        nghttp2_submit_settings(s->session, NGHTTP2_FLAG_NONE, settings, FB_COUNT(settings)) == 0 &&
        nghttp2_session_set_local_window_size(s->session, NGHTTP2_FLAG_NONE, 0,
                                              (int32_t)s->conf.connection_window_bytes) == 0;
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return is_good;
}
