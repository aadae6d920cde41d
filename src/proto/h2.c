/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2.h"
#include "base/assert.h"
#include "proto/h2_frames.h"
#include "proto/h2_head.h"
#include "proto/h2_mem.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

/* Bytes of one header block, as a multiple of limits.header_bytes, after which the connection is
 * cut instead of decoding on: a block of 16 KiB can ask for 12 MB of copies. */
#define BLOCK_BOMB_TIMES 8
/* What honest work pays back, in thousandths of a frame: a client that ends every second stream by
 * a reset is still served, one that answers each DATA frame with two WINDOW_UPDATE too. */
#define EARN_RESET_MILLI 1000
#define EARN_CONTROL_MILLI 3000
#define FIELDS_MAX 256 /* of an answer */
/* Fields that are ours to add to a head (h2_head.h). */
#define FIELD_SLACK 4

struct budget {
    uint64_t max_milli, left_milli, at_us;
};

struct h2_shared {
    struct h2_mem mem;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    char *text; /* of the head that is being read, while h2_take runs */
    struct http1_field *fields;
    size_t text_bytes;
    uint32_t field_room;
    uint64_t seed;
    struct h2_counts counts;
};

struct h2 {
    nghttp2_session *session;
    struct h2_shared *shared;
    const struct h2_hooks *hooks;
    void *conn;
    struct h2_conf conf;
    struct h2_head block; /* the header block that is being read */
    void *parked;         /* its text and fields between two calls of h2_take */
    size_t block_bytes;
    int32_t block_id;
    bool is_in_block, is_over, is_in_hook;
    bool is_blocked; /* a DATA frame found no room */
    struct budget resets, control;
    uint64_t now_us;
    struct h2_past past;
    int32_t reset_id; /* the stream that we reset last */
    struct h2_scan scan;
    enum h2_code fault; /* with which the connection ends */
    uint8_t flood;      /* enum h2_flood */
};

static bool add_callbacks(struct h2_shared *shared);
static bool size_scratch(struct h2_shared *shared, const struct http1_limits *limits);
static bool begin(struct h2 *s);
static bool take_frames(struct h2 *s, struct span bytes);
static enum h2_code judge_data(struct h2 *s, int32_t id);
static bool feed(struct h2 *s, struct span bytes, size_t from, size_t to);
static void park(struct h2 *s);
static void unpark(struct h2 *s);
static void put_goaway(struct h2 *s, enum h2_code code);
static bool charge(struct h2 *s, struct budget *b, enum h2_flood flood);
static void earn(struct budget *b, uint64_t milli);
static size_t split_fields(struct span lines, nghttp2_nv *nv, size_t most, bool is_websocket);
static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t most,
                       uint32_t *flags, nghttp2_data_source *source, void *arg);

static void *mem_malloc(size_t size, void *mem)
{
    return h2_mem_take(mem, size);
}
static void mem_free(void *piece, void *mem)
{
    h2_mem_give(mem, piece);
}
static void *mem_calloc(size_t count, size_t size, void *mem)
{
    return h2_mem_take_zeroed(mem, count, size);
}
static void *mem_realloc(void *piece, size_t size, void *mem)
{
    return h2_mem_resize(mem, piece, size);
}

struct h2_shared *h2_shared_new(uint64_t seed)
{
    struct h2_shared *shared = calloc(1, sizeof *shared);
    if (!shared)
        return NULL;
    shared->seed = seed;
    if (nghttp2_option_new(&shared->option) != 0 || !add_callbacks(shared)) {
        h2_shared_free(shared);
        return NULL;
    }
    nghttp2_option *o = shared->option;
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_builtin_recv_extension_type(o, NGHTTP2_PRIORITY_UPDATE);
    nghttp2_option_set_stream_reset_rate_limit(o, 1u << 20, 1u << 20); /* our own budget rules */
    nghttp2_option_set_max_send_header_block_length(o, 512 * KIB);
    return shared;
}

void h2_shared_free(struct h2_shared *shared)
{
    if (!shared)
        return;
    nghttp2_session_callbacks_del(shared->callbacks);
    nghttp2_option_del(shared->option);
    h2_mem_fini(&shared->mem);
    free(shared->text);
    free(shared->fields);
    free(shared);
}

struct h2 *h2_new(struct h2_shared *shared, const struct h2_conf *conf,
                  const struct h2_hooks *hooks, void *conn)
{
    if (!size_scratch(shared, &conf->limits))
        return NULL;
    struct h2 *s = h2_mem_take(&shared->mem, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct h2){.shared = shared, .hooks = hooks, .conn = conn, .conf = *conf};
    h2_scan_begin(&s->scan);
    s->resets.max_milli = s->resets.left_milli = conf->resets_max * UINT64_C(1000);
    s->control.max_milli = s->control.left_milli = conf->control_max * UINT64_C(1000);
    if (!begin(s)) {
        h2_free(s);
        return NULL;
    }
    return s;
}

void h2_free(struct h2 *s)
{
    struct h2_shared *shared = s->shared;
    s->is_over = true;
    s->hooks = NULL;
    nghttp2_session_del(s->session);
    h2_mem_give(&shared->mem, s->parked);
    h2_mem_give(&shared->mem, s);
}

static bool begin(struct h2 *s)
{
    nghttp2_mem mem = {.mem_user_data = &s->shared->mem,
                       .malloc = mem_malloc,
                       .free = mem_free,
                       .calloc = mem_calloc,
                       .realloc = mem_realloc};
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, s->conf.streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, s->conf.stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, s->conf.limits.header_bytes},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, s->conf.table_bytes},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    return nghttp2_session_server_new3(&s->session, s->shared->callbacks, s, s->shared->option,
                                       &mem) == 0 &&
           nghttp2_submit_settings(s->session, NGHTTP2_FLAG_NONE, settings, FB_COUNT(settings)) ==
               0 &&
           nghttp2_session_set_local_window_size(s->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)s->conf.connection_window_bytes) == 0;
}

enum h2_state h2_take(struct h2 *s, struct span bytes, uint64_t now_us)
{
    if (s->is_over)
        return H2_OVER;
    s->now_us = now_us;
    if (s->parked)
        unpark(s);
    if (!take_frames(s, bytes))
        return H2_OVER;
    if (s->is_in_block)
        park(s);
    return h2_is_over(s) ? H2_OVER : H2_OPEN;
}

/* The library drops DATA for streams that are over without a word, so those are looked at when all
 * before them is understood. */
static bool take_frames(struct h2 *s, struct span bytes)
{
    size_t at = 0, fed = 0;
    for (;;) {
        enum h2_scan_step is = h2_scan_next(&s->scan, bytes, &at);
        if (is == H2_SCAN_END)
            return feed(s, bytes, fed, bytes.len);
        bool is_known = is == H2_SCAN_DATA && !s->scan.is_stale &&
                        nghttp2_session_get_stream_remote_close(s->session, s->scan.id) == 0;
        s->scan.is_stale = s->scan.is_stale || (is == H2_SCAN_DATA && s->scan.is_last);
        if (is_known)
            continue;
        if (!feed(s, bytes, fed, at - 1))
            return false;
        fed = at - 1;
        s->scan.is_stale = is == H2_SCAN_DATA && s->scan.is_last;
        s->fault = is == H2_SCAN_PRIORITY ? H2_PROTOCOL_ERROR : judge_data(s, s->scan.id);
        if (s->fault) {
            put_goaway(s, s->fault);
            return false;
        }
    }
}

static enum h2_code judge_data(struct h2 *s, int32_t id)
{
    int is_closed = nghttp2_session_get_stream_remote_close(s->session, id);
    if (is_closed == 1)
        return H2_STREAM_CLOSED;
    if (is_closed == 0 || (id & 1) == 0 || id > s->past.highest)
        return H2_NO_ERROR; /* open, or for the library to refuse */
    if (h2_past_judge(&s->past, id) != H2_FRAME_OK)
        return H2_STREAM_CLOSED;
    s->shared->counts.control++;
    return charge(s, &s->control, H2_FLOOD_CONTROL) ? H2_NO_ERROR : H2_ENHANCE_YOUR_CALM;
}

/* False: the connection is over, and the client was told. */
static bool feed(struct h2 *s, struct span bytes, size_t from, size_t to)
{
    if (from >= to)
        return true;
    s->is_in_hook = true;
    ssize_t n = nghttp2_session_mem_recv(s->session, (const uint8_t *)bytes.at + from, to - from);
    s->is_in_hook = false;
    if (n >= 0 && (size_t)n == to - from)
        return true;
    enum h2_code code = s->fault                            ? s->fault
                        : n == NGHTTP2_ERR_NOMEM            ? H2_INTERNAL_ERROR
                        : n == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? H2_PROTOCOL_ERROR
                                                            : H2_ENHANCE_YOUR_CALM;
    if (code == H2_ENHANCE_YOUR_CALM && !s->flood)
        s->flood = n == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS ? H2_FLOOD_HEADERS : H2_FLOOD_CONTROL;
    put_goaway(s, code);
    return false;
}

bool h2_pump(struct h2 *s, size_t room)
{
    fb_assert(!s->is_in_hook);
    size_t put = 0;
    bool has_more = true;
    s->is_blocked = false;
    s->is_in_hook = true;
    while (!s->is_over && put < room) {
        const uint8_t *at;
        ssize_t n = nghttp2_session_mem_send(s->session, &at);
        if (n < 0) {
            s->is_over = true;
            break;
        }
        if (n == 0) {
            has_more = s->is_blocked;
            break;
        }
        s->hooks->put(s->conn, (struct span){(const char *)at, (size_t)n});
        put += (size_t)n;
    }
    s->is_in_hook = false;
    return has_more && !s->is_over;
}

bool h2_is_over(const struct h2 *s)
{
    return s->is_over || (nghttp2_session_want_read(s->session) == 0 &&
                          nghttp2_session_want_write(s->session) == 0);
}

bool h2_is_in_head(const struct h2 *s)
{
    return s->is_in_block;
}

enum h2_flood h2_flood_of(const struct h2 *s)
{
    return (enum h2_flood)s->flood;
}

const struct h2_counts *h2_counts(const struct h2_shared *shared)
{
    return &shared->counts;
}

bool h2_answer(struct h2 *s, const struct h2_owned *to, struct span head, bool is_last)
{
    int32_t id = to->id;
    nghttp2_nv nv[FIELDS_MAX];
    char status[4];
    /* "HTTP/1.1 200 OK" CR LF */
    const char *line_end = memchr(head.at, '\n', head.len);
    fb_assert(line_end != NULL);
    fb_assert(line_end - head.at >= 13);
    memcpy(status, head.at + 9, 3);
    status[3] = '\0';
    bool is_switch = memcmp(status, "101", 3) == 0;
    bool is_interim = status[0] == '1' && !is_switch;
    if (is_switch) /* RFC 8441: the tunnel begins with 200 */
        memcpy(status, "200", 3);
    nv[0] = (nghttp2_nv){(uint8_t *)(uintptr_t) ":status", (uint8_t *)status, 7, 3,
                         NGHTTP2_NV_FLAG_NO_COPY_NAME};
    struct span lines = {line_end + 1, head.len - (size_t)(line_end + 1 - head.at)};
    size_t count = split_fields(lines, nv + 1, FIELDS_MAX - 1, is_switch);
    if (count == SIZE_MAX)
        return false;
    count++;
    if (is_interim)
        return nghttp2_submit_headers(s->session, NGHTTP2_FLAG_NONE, id, NULL, nv, count, NULL) ==
               0;
    const nghttp2_data_provider body = {.source = {.ptr = to->stream}, .read_callback = on_read};
    return nghttp2_submit_response(s->session, id, nv, count, is_last ? NULL : &body) == 0;
}

void h2_resume(struct h2 *s, int32_t id)
{
    (void)nghttp2_session_resume_data(s->session, id); /* not deferred: it is asked anyway */
}

bool h2_has_window(const struct h2 *s, int32_t id)
{
    return nghttp2_session_get_stream_remote_window_size(s->session, id) > 0;
}

void h2_consume(struct h2 *s, int32_t id, size_t bytes)
{
    /* An error means that the connection or the stream is over, or that memory is: then it stands
     * still and its timer ends it. */
    if (!s->is_over && bytes)
        (void)nghttp2_session_consume(s->session, id, bytes);
}

void h2_consume_gone(struct h2 *s, size_t bytes)
{
    if (!s->is_over && bytes)
        (void)nghttp2_session_consume_connection(s->session, bytes);
}

void h2_reset(struct h2 *s, int32_t id, enum h2_code code)
{
    h2_forget(s, id);
    if (!s->is_over && nghttp2_submit_rst_stream(s->session, NGHTTP2_FLAG_NONE, id, code) != 0)
        s->is_over = true; /* no memory: nothing may be sent for a stream without an owner */
}

void h2_forget(struct h2 *s, int32_t id)
{
    (void)nghttp2_session_set_stream_user_data(s->session, id, NULL);
}

void h2_goaway(struct h2 *s, bool is_final)
{
    if (s->is_over)
        return;
    if (is_final)
        (void)nghttp2_submit_goaway(s->session, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(s->session),
                                    NGHTTP2_NO_ERROR, NULL, 0);
    else
        (void)nghttp2_submit_shutdown_notice(s->session);
}

void h2_terminate(struct h2 *s, enum h2_code code)
{
    if (!s->is_over)
        (void)nghttp2_session_terminate_session(s->session, code);
}

/* ---- memory of a head ---- */

static bool size_scratch(struct h2_shared *shared, const struct http1_limits *limits)
{
    size_t need = h2_head_room(limits);
    if (need > shared->text_bytes) {
        char *text = realloc(shared->text, need);
        if (!text)
            return false;
        shared->text = text;
        shared->text_bytes = need;
    }
    uint32_t room = limits->header_count + FIELD_SLACK;
    if (room > shared->field_room) {
        struct http1_field *fields = realloc(shared->fields, room * sizeof *fields);
        if (!fields)
            return false;
        shared->fields = fields;
        shared->field_room = room;
    }
    return true;
}

/* A head came in part: its text must not stay where the next connection writes. */
static void park(struct h2 *s)
{
    size_t text = s->block.len;
    size_t fields = s->block.p.head.field_count * sizeof(struct http1_field);
    fb_assert(s->parked == NULL);
    s->parked = h2_mem_take(&s->shared->mem, fields + text + 1);
    if (!s->parked) {
        put_goaway(s, H2_INTERNAL_ERROR);
        return;
    }
    if (fields)
        memcpy(s->parked, s->block.p.head.fields, fields);
    memcpy((char *)s->parked + fields, s->block.text, text);
}

static void unpark(struct h2 *s)
{
    size_t text = s->block.len;
    size_t fields = s->block.p.head.field_count * sizeof(struct http1_field);
    if (fields)
        memcpy(s->shared->fields, s->parked, fields);
    memcpy(s->shared->text, (char *)s->parked + fields, text);
    h2_mem_give(&s->shared->mem, s->parked);
    s->parked = NULL;
    h2_head_move(&s->block, s->shared->text, s->shared->fields);
}

/* ---- budgets ---- */

/* False: it is overdrawn and the connection is to be cut. */
static bool charge(struct h2 *s, struct budget *b, enum h2_flood flood)
{
    uint64_t gap_us = fb_sub_floor_u64(s->now_us, b->at_us);
    if (gap_us >= 10 * US_PER_MS) { /* a tenth of the whole per second */
        b->at_us = s->now_us;
        earn(b, b->max_milli * fb_min_u64(gap_us, 10 * US_PER_S) / (10 * US_PER_S));
    }
    if (b->left_milli < 1000) {
        s->flood = (uint8_t)flood;
        return false;
    }
    b->left_milli -= 1000;
    return true;
}

static void earn(struct budget *b, uint64_t milli)
{
    b->left_milli = fb_min_u64(b->left_milli + milli, b->max_milli);
}

/* The library cannot go on; the last word is ours. */
static void put_goaway(struct h2 *s, enum h2_code code)
{
    uint32_t last = (uint32_t)nghttp2_session_get_last_proc_stream_id(s->session);
    unsigned char frame[17] = {0, 0, 8, NGHTTP2_GOAWAY};
    for (int i = 0; i < 4; i++) {
        frame[9 + i] = (unsigned char)(last >> (24 - 8 * i));
        frame[13 + i] = (unsigned char)((uint32_t)code >> (24 - 8 * i));
    }
    s->hooks->put(s->conn, (struct span){(const char *)frame, sizeof frame});
    s->is_over = true;
}

/* ---- callbacks of the library ---- */

/* False: the stream of these HEADERS was ended by the client, or never opened in its turn. */
static bool is_in_order(struct h2 *s, nghttp2_session *session, const nghttp2_frame_hd *hd)
{
    bool is_new = hd->stream_id > s->past.highest; /* no need to look it up */
    if ((hd->stream_id & 1) == 0 ||
        (!is_new && nghttp2_session_get_stream_remote_close(session, hd->stream_id) >= 0))
        return true; /* open, or for the library to refuse */
    switch (h2_past_judge(&s->past, hd->stream_id)) {
    case H2_FRAME_OK:
        return true;
    case H2_FRAME_CLOSED:
        s->fault = H2_STREAM_CLOSED;
        return false;
    case H2_FRAME_NEVER_OPENED:
        s->fault = H2_PROTOCOL_ERROR;
        return false;
    }
    return true;
}

/* Frames that cost the client nothing and us something. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    struct h2 *s = arg;
    switch (hd->type) {
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
        if (!is_in_order(s, session, hd))
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        if (hd->type == NGHTTP2_HEADERS || hd->length > 0 || (hd->flags & NGHTTP2_FLAG_END_STREAM))
            return 0;
        break;
    case NGHTTP2_RST_STREAM:
        h2_past_reset(&s->past, hd->stream_id);
        return 0;
    case NGHTTP2_PRIORITY:
        if (hd->stream_id == 0) {
            s->fault = H2_PROTOCOL_ERROR;
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
        break;
    default:
        break;
    }
    s->shared->counts.control++;
    return charge(s, &s->control, H2_FLOOD_CONTROL) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *s = arg;
    (void)session;
    s->is_in_block = true;
    s->block_bytes = 0;
    s->block_id = frame->hd.stream_id;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        h2_head_begin(&s->block, &s->conf.limits, s->shared->text, s->shared->fields);
        s->shared->counts.streams++;
        earn(&s->control, EARN_CONTROL_MILLI);
    } else {
        h2_trailer_begin(&s->block, &s->conf.limits, s->shared->text, s->shared->fields);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct h2 *s = arg;
    (void)session;
    (void)frame;
    (void)flags;
    s->block_bytes += name_len + value_len + 32;
    if (FB_UNLIKELY(s->block_bytes > BLOCK_BOMB_TIMES * (size_t)s->conf.limits.header_bytes)) {
        s->flood = H2_FLOOD_HEADERS;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    h2_head_take(&s->block, (struct span){(const char *)name, name_len},
                 (struct span){(const char *)value, value_len});
    return 0;
}

/* The library would leave the field out and go on. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_len, const uint8_t *value,
                             size_t value_len, uint8_t flags, void *arg)
{
    (void)session;
    (void)frame;
    (void)name;
    (void)name_len;
    (void)value;
    (void)value_len;
    (void)flags;
    (void)arg;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int take_head(struct h2 *s, const nghttp2_frame *frame)
{
    struct h2_shared *shared = s->shared;
    struct h2_begin b = {.id = frame->hd.stream_id,
                         .head = &s->block.p.head,
                         .is_last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0};
    s->is_in_block = false;
    shared->seed = shared->seed * UINT64_C(6364136223846793005) + 1;
    b.error = h2_head_finish(&s->block, b.is_last, shared->seed);
    if (s->block.is_malformed) {
        s->hooks->on_malformed(s->conn, s->block_bytes);
        h2_reset(s, b.id, H2_PROTOCOL_ERROR);
        return 0;
    }
    if (b.error != HTTP1_E_NONE && !charge(s, &s->resets, H2_FLOOD_HEADERS))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    void *stream = s->hooks->on_head(s->conn, &b);
    if (stream)
        (void)nghttp2_session_set_stream_user_data(s->session, b.id, stream);
    return 0;
}

static void take_trailers(struct h2 *s, const nghttp2_frame *frame)
{
    void *stream = nghttp2_session_get_stream_user_data(s->session, frame->hd.stream_id);
    struct h2_trailers t = {s->block.p.head.fields, s->block.p.head.field_count};
    s->is_in_block = false;
    if (!stream)
        return;
    if (s->block.p.error != HTTP1_E_NONE) {
        h2_forget(s, frame->hd.stream_id);
        (void)nghttp2_submit_rst_stream(s->session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_PROTOCOL_ERROR);
        s->hooks->on_gone(s->conn, stream, H2_PROTOCOL_ERROR);
        return;
    }
    s->hooks->on_end(s->conn, stream, &t);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *s = arg;
    void *stream;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            return take_head(s, frame);
        take_trailers(s, frame);
        return 0;
    case NGHTTP2_DATA:
        if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
            return 0;
        stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (stream)
            s->hooks->on_end(s->conn, stream, NULL);
        return 0;
    case NGHTTP2_RST_STREAM:
        if (nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) < 0) {
            /* it was over: some clients answer each late frame of ours so */
            s->shared->counts.control++;
            return charge(s, &s->control, H2_FLOOD_CONTROL) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
        }
        s->shared->counts.resets_in++;
        return charge(s, &s->resets, H2_FLOOD_RESETS) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    case NGHTTP2_PRIORITY_UPDATE: {
        const nghttp2_ext_priority_update *p = frame->ext.payload;
        stream = nghttp2_session_get_stream_user_data(session, p->stream_id);
        struct span value = {(const char *)p->field_value, p->field_value_len};
        if (stream)
            s->hooks->on_priority(s->conn, stream, h2_priority_of(value));
        return 0;
    }
    default:
        return 0;
    }
}

/* A frame that is wrong for its stream; the library answers with a reset.  Also a block that is
 * refused before its end. */
static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code,
                            void *arg)
{
    struct h2 *s = arg;
    (void)session;
    (void)code;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            s->hooks->on_malformed(s->conn, s->block_bytes);
        s->is_in_block = false;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *arg)
{
    struct h2 *s = arg;
    void *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)flags;
    if (stream)
        s->hooks->on_data(s->conn, stream, (struct span){(const char *)data, len});
    else /* its owner left: both windows must not shrink for ever */
        h2_consume_gone(s, len);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2 *s = arg;
    void *stream = nghttp2_session_get_stream_user_data(session, id);
    if (s->is_in_block && s->block_id == id)
        s->is_in_block = false;
    h2_past_add(&s->past, id, id == s->reset_id);
    if (code == NGHTTP2_NO_ERROR)
        earn(&s->resets, EARN_RESET_MILLI);
    if (!stream || !s->hooks)
        return 0;
    s->hooks->on_gone(s->conn, stream, code);
    return 0;
}

/* Resets that a client provokes count as if it had sent them (CVE-2025-8671). */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *s = arg;
    if (frame->hd.type == NGHTTP2_DATA) {
        earn(&s->control, EARN_CONTROL_MILLI);
        return 0;
    }
    if (frame->hd.type != NGHTTP2_RST_STREAM)
        return 0;
    s->shared->counts.resets_out++;
    s->reset_id = frame->hd.stream_id;
    if (nghttp2_session_get_stream_remote_close(session, s->reset_id) < 0)
        h2_past_add(&s->past, s->reset_id, true); /* it never was one for the library */
    uint32_t code = frame->rst_stream.error_code;
    if (code == NGHTTP2_NO_ERROR || code == NGHTTP2_INTERNAL_ERROR || code == NGHTTP2_CANCEL)
        return 0;
    if (!charge(s, &s->resets, H2_FLOOD_RESETS))
        h2_terminate(s, H2_ENHANCE_YOUR_CALM);
    return 0;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t most,
                       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2 *s = arg;
    (void)buf;
    /* A stream whose owner left is not asked: its reset goes out before any DATA. */
    struct h2_give g = s->hooks->give(s->conn, source->ptr, most);
    if (!g.is_ready)
        return NGHTTP2_ERR_DEFERRED;
    fb_assert(g.bytes <= most);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (g.is_last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (g.trailers.len) {
            nghttp2_nv nv[FIELDS_MAX];
            size_t count = split_fields(g.trailers, nv, FIELDS_MAX, false);
            if (count && count != SIZE_MAX && nghttp2_submit_trailer(session, id, nv, count) == 0)
                *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        }
    }
    return (ssize_t)g.bytes;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t length, nghttp2_data_source *source, void *arg)
{
    struct h2 *s = arg;
    void *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)source;
    if (!stream)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    s->is_blocked = !s->hooks->put_data(
        s->conn, stream, (struct span){(const char *)head, H2_FRAME_HEAD_BYTES}, length);
    return s->is_blocked ? NGHTTP2_ERR_WOULDBLOCK : 0;
}

static bool add_callbacks(struct h2_shared *shared)
{
    nghttp2_session_callbacks *c;
    if (nghttp2_session_callbacks_new(&shared->callbacks) != 0)
        return false;
    c = shared->callbacks;
    nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(c, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(c, on_send_data);
    return true;
}

/* ---- fields of answers ---- */

/* Lines "name: value" CR LF up to an empty one; those of a connection are left out.  SIZE_MAX: too
 * many. */
static size_t split_fields(struct span lines, nghttp2_nv *nv, size_t most, bool is_websocket)
{
    size_t count = 0;
    const char *at = lines.at, *end = lines.at + lines.len;
    while (at < end && *at != '\r') {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        fb_assert(line_end != NULL);
        const char *colon = memchr(at, ':', (size_t)(line_end - at));
        fb_assert(colon != NULL);
        struct span name = {at, (size_t)(colon - at)};
        struct span value = span_trim((struct span){colon + 1, (size_t)(line_end - colon - 2)});
        at = line_end + 1;
        enum http1_header id = http1_header_lookup(name);
        if ((http1_header_flags(id) & HTTP1_FIELD_HOP) != 0 ||
            (is_websocket && id == HTTP1_H_SEC_WEBSOCKET_ACCEPT))
            continue;
        if (count == most)
            return SIZE_MAX;
        /* What differs in each answer is not worth a place in the table of the client. */
        bool is_unique = id == HTTP1_H_X_REQUEST_ID || id == HTTP1_H_SET_COOKIE;
        /* Our own lower-case names need no copy. */
        bool is_known = id != HTTP1_H_OTHER;
        if (is_known)
            name = http1_header_name(id);
        nv[count++] =
            (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.at,
                         .namelen = name.len,
                         .value = (uint8_t *)(uintptr_t)value.at,
                         .valuelen = value.len,
                         .flags = (uint8_t)((is_unique ? NGHTTP2_NV_FLAG_NO_INDEX : 0) |
                                            (is_known ? NGHTTP2_NV_FLAG_NO_COPY_NAME : 0))};
    }
    return count;
}
