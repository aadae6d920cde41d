/* SPDX-License-Identifier: Apache-2.0 */
/* h2_head: a request head of HTTP/2, from decoded fields to the facts of struct http1_head.
 *
 *   begin --take (pseudo fields)--> take (fields) ... --> finish --> head | error
 *
 * The fields are laid down as canonical lines ("name: value" CR LF) side by side, so that the
 * writer of HTTP/1 copies them in one piece.  Nothing is accepted that HTTP/1 could not say or that
 * an endpoint behind us could read differently (RFC 9113 sections 8.2, 8.3 and 10.3): names in
 * lower case, no control bytes, no fields of a connection, pseudo fields once, in front and
 * complete, one authority, one length.  Cookie crumbs are put together again (section 8.2.3).  An
 * extended CONNECT for WebSocket (RFC 8441) becomes the GET with Upgrade that HTTP/1 knows.
 * Holds always:  every span of the head lies in <text>;  len <= cap;  after the first error nothing
 * changes. Memory: the caller's; nothing is allocated.  Threads: any.  Units: bytes. */
#ifndef FB_PROTO_H2_HEAD_H
#define FB_PROTO_H2_HEAD_H
#include "proto/h2.h"
#include "proto/http1.h"

struct h2_head {
    struct http1_parser p; /* p.head: the result; p.error: why not */
    char *text;            /* room of h2_head_room() bytes */
    uint32_t cap, len;
    bool has_fields;       /* no pseudo field may come any more */
    uint32_t field_bytes;  /* of the lines */
    uint32_t list_bytes;   /* RFC 9113 10.5.1: names, values and 32 for each field */
    uint32_t cookies;      /* fields of that name */
    struct span authority; /* empty: none */
    bool has_path, has_scheme, has_authority;
    bool is_websocket; /* :protocol said so */
    bool is_trailer;
    bool is_malformed; /* the error makes the stream one of type PROTOCOL_ERROR */
};

/* Room that <text> needs under these limits. */
size_t h2_head_room(const struct http1_limits *limits);
/* <fields> has room for limits->header_count + 4. */
void h2_head_begin(struct h2_head *h, const struct http1_limits *limits, char *text,
                   struct http1_field *fields);
/* The same for the fields behind a body: no pseudo fields; those that may not be trailers are
 * checked and dropped by their flags. */
void h2_trailer_begin(struct h2_head *h, const struct http1_limits *limits, char *text,
                      struct http1_field *fields);
/* One field in the order of arrival; borrowed for the call. */
void h2_head_take(struct h2_head *h, struct span name, struct span value);
/* All fields are there.  <is_last>: the stream has no body.  <seed>: any number that the client
 * does not know; it makes the key of a WebSocket handshake. */
FB_MUST_USE
enum http1_error h2_head_finish(struct h2_head *h, bool is_last, uint64_t seed);
/* The texts lie at <text> now, or the fields at <fields>: the head waits for more in another place.
 */
void h2_head_move(struct h2_head *h, char *text, struct http1_field *fields);
/* What a Priority field says, or a PRIORITY_UPDATE; an empty one: as if there were none. */
struct h2_priority h2_priority_of(struct span field);
#endif
