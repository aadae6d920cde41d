/* SPDX-License-Identifier: Apache-2.0 */
/* h2_upstream: HTTP/2 towards endpoints: many requests on few connections.
 *
 *   request --> h2u_stream (struct upstream of kind UPSTREAM_H2) --> h2u_conn (socket) --> session
 *
 * The connections of one thread to one endpoint stand in its pool; a new one is opened when the
 * streams of all are taken.  Whatever the session has to say about a stream is kept with it and
 * worked on when h2_client_take is through (h2u_conn.dirty): the rest of the gateway is never
 * called from a hook.  Frames are written once per turn of the loop.
 *
 * Until the endpoint has said how many streams it takes, one request goes out, which costs it
 * nothing; the others wait for that word, one round trip, so that it never gets more than it said.
 *
 *   conn:  CONNECTING --> OPEN --> LEAVING (GOAWAY, numbers used up) --> gone with its last stream
 *
 * Backpressure: what a client has not taken stays with its stream (at most H2U_WINDOW_BYTES) and
 * its window stays closed; a body that the endpoint does not take stays in request.body, and the
 * client is not read. */
#ifndef FB_GATEWAY_H2_UPSTREAM_H
#define FB_GATEWAY_H2_UPSTREAM_H
#include "gateway/gateway_int.h"
#include "proto/h2_client.h"

/* 256 KiB at 1 ms of round trip let 256 MB/s through per stream; a slow reader holds no more. */
#define H2U_WINDOW_BYTES (256 * KIB)
#define H2U_CONNECTION_WINDOW_BYTES (64 * MIB)

enum h2u_phase { H2U_CONNECTING, H2U_OPEN, H2U_LEAVING, H2U_LOST };

struct h2u_stream {
    struct upstream up; /* first; up.in: heads that are not passed on yet */
    struct h2u_conn *conn;
    struct h2u_stream *next, **prev;             /* of conn */
    struct h2u_stream *dirty_next, **dirty_prev; /* NULL: not in the list */
    struct chunk *data;                          /* payload that is not passed on yet */
    int32_t id;                                  /* 0: not begun */
    bool is_ended;                               /* the answer is complete */
    bool is_gone;                                /* the session does not know it any more */
    uint8_t why;                                 /* enum h2_gone */
};

struct h2u_conn {
    struct loop_handle handle;
    struct link link;
    struct worker *worker;
    struct endpoint *ep;
    struct h2u_conn *next, **prev;     /* of the pool */
    struct h2u_conn *w_next, **w_prev; /* of the worker */
    struct h2_client *session;
    struct h2u_stream *streams, *dirty;
    struct chunk *out; /* frames that the socket has not taken */
    struct loop_job job;
    uint64_t client_key;  /* as in struct upstream */
    uint64_t heard_us;    /* the last bytes of the endpoint */
    uint64_t ping_us;     /* when it was asked whether it lives; 0: it has answered */
    uint64_t ping_gap_us; /* of silence until it is asked */
    uint64_t idle_us;     /* since when it has no stream */
    uint16_t blame;       /* why it never spoke HTTP/2, if that is known */
    bool is_blame_sure;   /* by what it said; its silence may be a request that it took */
    uint32_t stream_count;
    uint32_t put_bytes; /* in the worker's scratch memory, while frames are made */
    uint8_t phase;
    bool can_write;
    bool is_introduced; /* the PROXY header is written, if there is one */
    bool is_settled;    /* the endpoint has said how many streams it takes */
    bool is_reused;     /* it has answered */
    bool is_said;       /* GOAWAY was sent */
    bool is_http1;      /* its handshake is over and chose HTTP/1.1 */
};

void h2u_touch(struct h2u_stream *st); /* it runs at the end of the turn */

/* ---- h2_choose.c: endpoints that choose their protocol ---- */
/* The handshake chose HTTP/1.1: the first request goes on with the connection, the others find one
 * as they can.  Afterwards <conn> has neither streams nor a socket. */
void h2u_fall_back(struct h2u_conn *conn);

/* ---- h2_tunnel.c ---- */
bool h2u_tunnel_begin(struct h2u_stream *st, struct http1_head *head); /* false: <st> is gone */
struct h2_client_give h2u_tunnel_give(struct h2u_stream *st, char *to, size_t room);
bool h2u_refuse_tunnel(struct request *req); /* the endpoint takes none there; <req> is told */

#endif
