/* SPDX-License-Identifier: Apache-2.0 */
/* http1_body: the body of an HTTP/1 message, payload in place, any framing.
 *
 *   http1_body_begin(&b, &head, &trailers);
 *   while ((step = http1_body_next(&b, bytes, &data, &used)) == HTTP1_DATA) { use data; bytes +=
 * used; } MORE: read more bytes.  DONE: the rest of <bytes> is the next message.  FAILED: b.error.
 *   Connection ended: http1_body_end(&b) says whether the body was complete.
 *
 * Holds always:  data lies inside the bytes given;  used <= their length;  the sum of data is the
 * payload; the outcome does not depend on how the bytes were cut.  Chunk extensions are checked and
 * dropped. Trailers are copied into the caller's memory, because their bytes may arrive in pieces;
 * those that mean something only in a head (framing, routing, authentication, ...) are checked and
 * dropped. Memory: the caller's.  Threads: any; a body belongs to one thread. Units: bytes. */
#ifndef FB_PROTO_HTTP1_BODY_H
#define FB_PROTO_HTTP1_BODY_H
#include "proto/http1.h"

/* Room for trailers; all of it is the caller's and stays until the body is finished with. */
struct http1_trailers {
    char *at;                   /* bytes of names and values */
    uint32_t cap;               /* larger trailer sections fail with TRAILERS_TOO_LARGE */
    struct http1_field *fields; /* those that may be forwarded */
    uint32_t field_max;         /* more kept fields fail with TRAILERS_TOO_LARGE */
    uint32_t field_count;       /* out: valid after DONE */
};

/* Without <trailers>, trailer sections up to this size are checked and dropped. */
#define HTTP1_TRAILER_DROP_MAX_BYTES 8192
/* Chunk extensions in excess of the payload: AWS signs each 64 KiB with 85 bytes and stays at 0. */
#define HTTP1_CHUNK_EXCESS_MAX_BYTES 16384

struct http1_body {
    enum http1_error error;
    uint8_t framing; /* enum http1_framing */
    uint8_t phase;
    bool is_done;
    uint8_t digits;         /* of the current chunk size */
    uint64_t left;          /* payload bytes until the end of the body or chunk */
    uint64_t payload_bytes; /* given out so far */
    uint64_t excess_bytes;
    uint32_t trailer_bytes;           /* of the section so far, kept or not */
    uint32_t used, line_at, value_at; /* in trailers->at */
    struct http1_trailers *trailers;
};

/* <trailers> may be NULL.  The framing comes from a head that is DONE. */
void http1_body_begin(struct http1_body *b, const struct http1_head *head,
                      struct http1_trailers *trailers);
/* The same with a framing known otherwise; <length_bytes> counts for HTTP1_BODY_LENGTH. */
void http1_body_begin_as(struct http1_body *b, enum http1_framing framing, uint64_t length_bytes,
                         struct http1_trailers *trailers);
/* Takes <*used> bytes from the front of <in>.  DATA: *data is not empty. */
FB_MUST_USE
enum http1_step http1_body_next(struct http1_body *b, struct span in, struct span *data,
                                size_t *used);
/* HTTP1_BODY_LENGTH only: <bytes> (at most .left) of the payload went another way.  DATA or DONE.
 */
enum http1_step http1_body_skip(struct http1_body *b, uint64_t bytes);
/* The connection has ended: DONE when that ends the body (or it was complete), else FAILED with
 * CUT. */
FB_MUST_USE
enum http1_step http1_body_end(struct http1_body *b);
#endif
