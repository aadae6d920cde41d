/* SPDX-License-Identifier: Apache-2.0 */
/* h2_client: one HTTP/2 connection to an endpoint, without its socket: requests in, frames out;
 * bytes in, answers out (RFC 9113, with the framing of nghttp2).
 *
 *   h2_client_request, _resume, _reset, _consume ... --> h2_client_pump --> hooks.give, hooks.put
 *   h2_client_take(bytes) --> hooks.on_head (1xx, then one other), on_data, on_last, on_gone
 *
 * A stream is known by the pointer that h2_client_request was given.  Its end is h2_client_reset
 * (the owner leaves) or on_gone (both sides ended it, or it failed), after which neither side names
 * it again.  Heads are handed over as canonical text of HTTP/1, which the caller parses as strictly
 * as that of any other endpoint.
 * Flow control of a stream is the owner's: what on_data gave counts against its window until
 * h2_client_consume.  The connection's window opens at once, so that a stream whose client rests
 * does not stop the others: an owner holds at most stream_window_bytes per stream.
 * Holds always:  hooks are called from h2_client_take and h2_client_pump only, and neither of the
 * two inside a hook. Threads: a session belongs to one thread.  Units: bytes. */
#ifndef FB_PROTO_H2_CLIENT_H
#define FB_PROTO_H2_CLIENT_H
#include "proto/http1.h"
#include "proto/http1_body.h"

struct h2_client;

struct h2_client_conf {
    struct http1_limits limits;       /* of heads and trailers of answers */
    uint32_t stream_window_bytes;     /* 65,535 to 2^31 - 1 */
    uint32_t connection_window_bytes; /* the same range */
    bool is_tls;                      /* :scheme */
};

enum h2_gone {
    H2_GONE_DONE,      /* both sides ended it */
    H2_GONE_UNSENT,    /* the endpoint says, or we know, that it was not worked on */
    H2_GONE_RESET,     /* cut by the endpoint */
    H2_GONE_BAD,       /* the answer broke the protocol */
    H2_GONE_TOO_LARGE, /* a head beyond the limits */
    H2_GONE_NO_TUNNEL, /* never said here: for owners that want one and cannot have it */
};

struct h2_client_give {
    size_t bytes; /* copied; 0 without is_last: nothing now, h2_client_resume says when */
    bool is_last;
    const struct http1_trailers *trailers; /* with is_last; may be NULL */
};

struct h2_client_hooks {
    /* "HTTP/1.1 200 " CR LF, "name: value" CR LF ..., CR LF; borrowed for the call. */
    void (*on_head)(void *conn, void *stream, struct span head, bool is_last);
    void (*on_data)(void *conn, void *stream, struct span payload);
    /* The answer is complete.  Trailers that may be forwarded; borrowed for the call. */
    void (*on_last)(void *conn, void *stream, const struct http1_field *trailers, uint32_t count);
    void (*on_gone)(void *conn, void *stream, enum h2_gone why);
    /* The next bytes of the request's body. */
    struct h2_client_give (*give)(void *conn, void *stream, char *to, size_t room);
    void (*put)(void *conn, struct span frames); /* bytes for the endpoint: copy them */
};

/* NULL without memory. */
struct h2_client *h2_client_new(const struct h2_client_conf *conf,
                                const struct h2_client_hooks *hooks, void *conn);
void h2_client_free(struct h2_client *s); /* without a hook call */

/* False: the connection is of no use any more; streams without on_gone are cut with it. */
FB_MUST_USE
bool h2_client_take(struct h2_client *s, struct span bytes);
/* Frames to hooks.put until there is nothing more or <room> bytes were put (a frame more at most).
 * False: as above. */
FB_MUST_USE
bool h2_client_pump(struct h2_client *s, size_t room);

/* <head>: canonical text of a request.  Returns the id of the stream, 0 when this connection takes
 * no more. */
int32_t h2_client_request(struct h2_client *s, void *stream, struct span head, bool has_body);
/* The same for the head of a WebSocket handshake of HTTP/1: it becomes an extended CONNECT
 * (RFC 8441), the body is what goes through the tunnel, and the answer to it is 200. */
int32_t h2_client_connect(struct h2_client *s, void *stream, struct span head);
bool h2_client_has_connect(const struct h2_client *s);  /* the endpoint allows that */
void h2_client_resume(struct h2_client *s, int32_t id); /* hooks.give has something */
void h2_client_consume(struct h2_client *s, int32_t id, size_t bytes);
/* The owner leaves; on_gone is not called. */
void h2_client_reset(struct h2_client *s, int32_t id);
void h2_client_ping(struct h2_client *s);
void h2_client_leave(struct h2_client *s); /* says goodbye */

/* Streams that the endpoint takes at once. */
uint32_t h2_client_streams_max(const struct h2_client *s);
/* It takes no new ones: GOAWAY came, or the numbers are used up. */
bool h2_client_is_leaving(const struct h2_client *s);
bool h2_client_is_settled(const struct h2_client *s); /* it has spoken HTTP/2 */
#endif
