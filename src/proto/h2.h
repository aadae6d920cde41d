/* SPDX-License-Identifier: Apache-2.0 */
/* h2: one HTTP/2 connection of a client, without its socket: bytes in, events out; answers in,
 * frames out (RFC 9113, with the framing of nghttp2).
 *
 *   h2_take(bytes) --> hooks.on_head, on_data, on_end, on_gone (for one stream each)
 *   h2_answer, h2_resume, h2_reset, h2_goaway ... --> h2_pump --> hooks.put, hooks.put_data
 *
 * A stream is known by the pointer that on_head returned.  Its life: on_head; on_data and on_end
 * while the client sends; h2_answer and data that hooks.give promises; the end is h2_forget or
 * h2_reset (the owner leaves) or on_gone (both sides ended it, or it was reset), after which
 * neither side names it again. Flow control is the owner's: what on_data gave counts against both
 * windows until h2_consume. What a client may do for nothing is counted in two budgets; a client
 * that overdraws one gets GOAWAY with ENHANCE_YOUR_CALM: resets (Rapid Reset, MadeYouReset, refused
 * streams, oversized heads) and frames without effect (PING, SETTINGS, PRIORITY, WINDOW_UPDATE,
 * empty DATA, unknown). Honest work pays back into both. Holds always:  hooks are called from
 * h2_take and h2_pump only;  h2_pump is never called inside a hook. Memory: bounded by the limits
 * of struct h2_conf.  Threads: a session belongs to one thread, that of its h2_shared.  Units:
 * bytes, us. */
#ifndef FB_PROTO_H2_H
#define FB_PROTO_H2_H
#include "proto/http1.h"

#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define H2_FRAME_HEAD_BYTES 9

enum h2_code { /* RFC 9113 section 7 */
               H2_NO_ERROR,
               H2_PROTOCOL_ERROR,
               H2_INTERNAL_ERROR,
               H2_FLOW_CONTROL_ERROR,
               H2_SETTINGS_TIMEOUT,
               H2_STREAM_CLOSED,
               H2_FRAME_SIZE_ERROR,
               H2_REFUSED_STREAM,
               H2_CANCEL,
               H2_COMPRESSION_ERROR,
               H2_CONNECT_ERROR,
               H2_ENHANCE_YOUR_CALM,
               H2_INADEQUATE_SECURITY,
               H2_HTTP_1_1_REQUIRED
};

struct h2;
struct h2_shared; /* of one thread: free memory, scratch memory for a head */

struct h2_conf {
    struct http1_limits limits;       /* of heads and trailers */
    uint32_t streams_max;             /* advertised; 1 to 65535 */
    uint32_t stream_window_bytes;     /* 65,535 to 2^31 - 1 */
    uint32_t connection_window_bytes; /* the same range */
    uint32_t table_bytes;             /* HPACK table of either direction */
    uint32_t resets_max;              /* budget of resets; a tenth comes back each second */
    uint32_t control_max;             /* budget of frames without effect; the same */
};

struct h2_trailers {
    const struct http1_field *fields; /* with HTTP1_FIELD_NO_TRAILER where it is none */
    uint32_t count;
};

struct h2_begin {
    int32_t id;
    const struct http1_head *head; /* facts; its spans until the hook returns */
    enum http1_error error;        /* the head is refused; nothing of it is to be used */
    bool is_last;                  /* no body */
};

struct h2_owned { /* a stream, and whom its hooks get */
    int32_t id;
    void *stream;
};

struct h2_give {          /* what a stream can send now */
    size_t bytes;         /* at most what was asked for */
    struct span trailers; /* with is_last: lines "name: value" CR LF, or empty */
    bool is_last;         /* nothing comes behind them */
    bool is_ready;        /* false: nothing now; h2_resume says when */
};

struct h2_priority { /* RFC 9218 section 4 */
    uint8_t urgency; /* 0 is the most urgent */
    bool is_incremental;
};

struct h2_hooks {
    /* A head is complete.  Returns the owner of the stream, or NULL when it wants none (then it has
     * called h2_reset). */
    void *(*on_head)(void *conn, const struct h2_begin *begin);
    void (*on_data)(void *conn, void *stream, struct span payload);
    void (*on_end)(void *conn, void *stream, const struct h2_trailers *trailers); /* may be NULL */
    /* The stream is gone: both sides ended it (H2_NO_ERROR), or the client reset it, or we did for
     * a fault of the client. */
    void (*on_gone)(void *conn, void *stream, uint32_t code);
    /* A PRIORITY_UPDATE frame; the first value comes with the head. */
    void (*on_priority)(void *conn, void *stream, struct h2_priority priority);
    /* A head that breaks RFC 9113 8.1.1 was answered with a reset; it has no stream. */
    void (*on_malformed)(void *conn, size_t head_bytes);
    struct h2_give (*give)(void *conn, void *stream, size_t most);
    /* Copy these bytes to the connection. */
    void (*put)(void *conn, struct span frames);
    /* Copy <head>, then <bytes> from the stream, as give promised them.  False: there is no room;
     * it is asked again at the next h2_pump. */
    bool (*put_data)(void *conn, void *stream, struct span head, size_t bytes);
};

struct h2_counts { /* of all sessions of a thread since the start */
    uint64_t streams, resets_in, resets_out, control;
};
enum h2_flood {
    H2_FLOOD_NONE,
    H2_FLOOD_RESETS,
    H2_FLOOD_CONTROL,
    H2_FLOOD_HEADERS,
    H2_FLOOD_COUNT
};

enum h2_state {
    H2_OPEN,
    H2_OVER /* write what there is, then close */
};

/* NULL without memory.  <seed>: unknown to clients. */
struct h2_shared *h2_shared_new(uint64_t seed);
void h2_shared_free(struct h2_shared *shared); /* after its last session */

/* NULL without memory.  The first bytes to take are those of the preface. */
struct h2 *h2_new(struct h2_shared *shared, const struct h2_conf *conf,
                  const struct h2_hooks *hooks, void *conn);
void h2_free(struct h2 *s); /* without a hook call */

FB_MUST_USE
enum h2_state h2_take(struct h2 *s, struct span bytes, uint64_t now_us);
/* Frames to hooks.put until there is nothing more or <room> bytes were put (a frame more at most).
 * True when there is more. */
bool h2_pump(struct h2 *s, size_t room);
bool h2_is_over(const struct h2 *s);
/* Inside a head, between its first byte and its last. */
bool h2_is_in_head(const struct h2 *s);
enum h2_flood h2_flood_of(const struct h2 *s); /* why it was cut */
const struct h2_counts *h2_counts(const struct h2_shared *shared);

/* <head>: canonical text of an answer, the status line included.  Fields of a connection are left
 * out.  <is_last>: no body follows.  Without, hooks.give is asked.  1xx: call again. */
FB_MUST_USE
bool h2_answer(struct h2 *s, const struct h2_owned *to, struct span head, bool is_last);
void h2_resume(struct h2 *s, int32_t id);           /* hooks.give has something */
bool h2_has_window(const struct h2 *s, int32_t id); /* its client takes more of this stream */
/* The owner took them: both windows open again. */
void h2_consume(struct h2 *s, int32_t id, size_t bytes);
void h2_consume_gone(struct h2 *s, size_t bytes); /* the same after its stream is gone */
/* The owner leaves; on_gone is not called.  <code> H2_NO_ERROR on a stream whose answer is over
 * tells the client to stop sending. */
void h2_reset(struct h2 *s, int32_t id, enum h2_code code);
void h2_forget(struct h2 *s, int32_t id);
/* Told not to begin new streams; what is open goes on.  <is_final>: those that are on their way
 * are refused from now on. */
void h2_goaway(struct h2 *s, bool is_final);
void h2_terminate(struct h2 *s, enum h2_code code);
#endif
