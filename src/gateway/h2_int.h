/* SPDX-License-Identifier: Apache-2.0 */
/* h2_int: HTTP/2 towards clients: one connection, many streams, each a client of its own for the
 * rest of the gateway.
 *
 *   struct client (socket; client.h2) --> h2_conn --> session (proto/h2.h)
 *                                            \--> h2_stream (struct client of kind CLIENT_H2) -->
 * request
 *
 * A stream's struct client has no socket: <in> holds body bytes that the request has not taken yet
 * (at most its window), <out> holds answer bytes that no frame has taken yet; while <out> is there
 * the endpoint is not read.  Frames go into the connection's <out>, which is written once per turn
 * of the loop, or when it is full.
 * Nothing of a stream runs inside h2_take or h2_pump: their hooks only mark it, and it runs when
 * they are through (h2_conn.dirty). */
#ifndef FB_GATEWAY_H2_INT_H
#define FB_GATEWAY_H2_INT_H
#include "gateway/gateway_int.h"
#include "proto/h2.h"

struct h2_stream {
    struct client c; /* first */
    struct h2_conn *conn;
    struct h2_stream *next, **prev, *dirty_next;
    struct span now;    /* answer bytes in the memory of client_answer's caller */
    struct chunk *tail; /* trailer lines behind <out> */
    int32_t id;
    bool is_dirty;
    bool has_head;       /* of its answer */
    bool is_end_given;   /* the frame that is being made is the last */
    bool is_all;         /* nothing comes behind <out> and <tail> */
    bool is_out_over;    /* the last frame of its answer was made */
    bool is_in_over;     /* END_STREAM came */
    bool is_closed;      /* the session does not know it any more */
    bool is_reset;       /* by the client */
    bool is_stop_said;   /* it was told to send no more */
    bool is_incremental; /* RFC 9218 4.2: it shares with others of its urgency */
    bool is_late;        /* has bytes again, and waits until the others had their turn */
    uint8_t urgency;     /* RFC 9218 4.1 */
    uint64_t share_bytes, stepped_back; /* h2_share.c */
};

struct h2_conn {
    struct client *c; /* NULL: closed, but requests of it still work */
    struct h2 *session;
    struct worker *worker;
    struct h2_stream *streams, *dirty;
    struct loop_job flush;
    uint32_t stream_count;
    uint32_t used; /* requests, with those whose stream was reset: never above streams_max */
    uint32_t streams_max;
    uint64_t idle_us;       /* since when it has no stream */
    uint64_t head_since_us; /* of a header block that is not complete */
    uint64_t goaway_us;     /* when new streams are refused; 0: not draining */
    uint32_t late_count;    /* streams with is_late */
    size_t pumped_bytes;    /* of payload, in this call of h2_pump */
    uint64_t share_bytes;   /* h2_share.c: what the last one served had before */
    uint64_t share_turn;    /* counts what incremental streams sent, from 1 */
    bool is_closing;        /* h2_conn_close was called; requests of it may still work */
    bool is_busy;           /* inside h2_take or h2_pump */
    bool has_more;          /* frames wait in the session for room */
    bool had_its_turn;      /* they go out in the next turn of the loop */
    bool is_goaway_final;
    bool has_streamed; /* a stream was seen */
};

extern const struct h2_hooks h2_conn_hooks;

/* ---- h2_conn.c ---- */
void h2_conn_pump(struct h2_conn *conn);
void h2_conn_late(struct h2_conn *conn, struct h2_stream *st);  /* instead of h2_resume */
void h2_conn_touch(struct h2_conn *conn, struct h2_stream *st); /* it runs soon */
/* Frame bytes for the socket, at the end of this turn. */
void h2_conn_put(struct h2_conn *conn, struct span bytes);
/* False: there is no room now. */
bool h2_conn_put_payload(struct h2_conn *conn, struct span head, struct span payload);

/* ---- h2_share.c ---- */
void h2_share_ready(struct h2_stream *st);      /* it had nothing to send, and has now */
bool h2_share_steps_back(struct h2_stream *st); /* another one is to go first; asked per frame */
void h2_share_sent(struct h2_stream *st, size_t bytes);

/* ---- h2_stream.c ---- */
void *h2_stream_open(struct h2_conn *conn, const struct h2_begin *begin);
/* hooks */
void h2_stream_data(void *conn, void *stream, struct span payload);
void h2_stream_end(void *conn, void *stream, const struct h2_trailers *trailers);
void h2_stream_gone(void *conn, void *stream, uint32_t code);
struct h2_give h2_stream_give(void *conn, void *stream, size_t most);
bool h2_stream_put(void *conn, void *stream, struct span head, size_t bytes);
void h2_stream_drop(struct h2_stream *st); /* the connection is gone */
static inline struct h2_stream *h2_stream_of(struct client *c)
{
    fb_assert(c->kind == CLIENT_H2);
    return (struct h2_stream *)c;
}
#endif
